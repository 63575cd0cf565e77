"""Rate limits per client: token buckets, and whom an address or a Host header stands for."""

import ipaddress
import time
from urllib.parse import urlsplit

from fashionclip.serve.cache import LRUCache

MAX_CLIENTS = 10_000  # whose buckets are kept; a dropped client starts with a full one


class TokenBucket:
    """Tokens that refill at a constant rate up to a maximum."""

    def __init__(self, per_second: float, burst: float) -> None:
        """Start full.

        Args:
            per_second: refill rate, above 0.
            burst: capacity.
        """
        self._per_second, self._burst = per_second, burst
        self._tokens, self._updated = burst, time.monotonic()

    def take(self, cost: float) -> float:
        """Take tokens if there are enough.

        Returns:
            0 if they were taken, otherwise the seconds until there are enough.
        """
        now = time.monotonic()
        refilled = self._tokens + (now - self._updated) * self._per_second
        self._tokens, self._updated = min(self._burst, refilled), now
        if self._tokens < cost:
            return (cost - self._tokens) / self._per_second
        self._tokens -= cost
        return 0.0


class RateLimiter:
    """A token bucket per client."""

    def __init__(self, per_second: float, burst: int) -> None:
        """Start with full buckets.

        Args:
            per_second: refill rate of a bucket; 0 for no limit.
            burst: capacity of a bucket.
        """
        self._per_second, self._burst = per_second, max(1.0, float(burst))
        self._buckets: LRUCache[str, TokenBucket] = LRUCache(MAX_CLIENTS)

    def take(self, client: str, cost: float) -> float:
        """Take a request's cost from a client's bucket; see ``TokenBucket.take``."""
        if self._per_second <= 0:
            return 0.0
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = TokenBucket(self._per_second, self._burst)
            self._buckets.put(client, bucket)
        return bucket.take(cost)


def client_of(address: str) -> str:
    """The client of an address: an IPv6 customer has a whole /64 network."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def hostname(host: str) -> str:
    """The name in a Host header, without its port, in lower case; "" if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host's name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
