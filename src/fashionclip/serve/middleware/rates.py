"""Rate limits per client: token buckets, and whom an address or a Host header stands for."""

import ipaddress
import mmap
import struct
import time
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

MAX_CLIENTS = 16_384  # whose buckets are kept; a dropped client starts with a full one
WAYS = 16  # places that a client's bucket may have; the one unused for longest is taken
SLOT = struct.Struct("=Qdd")  # client, tokens, and when they were counted (``time.monotonic``)
TABLE_BYTES = MAX_CLIENTS * SLOT.size


class RateLimiter:
    """A token bucket per client, refilled at a constant rate up to a maximum.

    The buckets are a table of bytes, which several worker processes can share. It has no lock: two
    workers that count the same client in the same microsecond may count one request for two.
    """

    def __init__(self, per_second: float, burst: int, *, table: Path | None = None) -> None:
        """Start with full buckets.

        Args:
            per_second: refill rate of a bucket; 0 for no limit.
            burst: capacity of a bucket.
            table: a file of ``TABLE_BYTES`` zeros that the workers share; None for one worker.

        Raises:
            OSError: the file cannot be opened.
        """
        self._per_second, self._burst = per_second, max(1.0, float(burst))
        if table is None:
            self._table = mmap.mmap(-1, TABLE_BYTES)
        else:
            with table.open("r+b") as file:
                self._table = mmap.mmap(file.fileno(), TABLE_BYTES)

    def take(self, client: str, cost: float) -> float:
        """Take a request's cost from a client's bucket if it holds that many tokens.

        Returns:
            0 if they were taken, otherwise the seconds until there are enough.
        """
        if self._per_second <= 0:
            return 0.0
        digest = blake2b(client.encode("utf-8", "replace"), digest_size=8).digest()
        key = int.from_bytes(digest, "little") or 1  # 0 is a free place
        now = time.monotonic()
        place, tokens, updated = self._find(key, now)
        tokens = min(self._burst, tokens + (now - updated) * self._per_second)
        if tokens < cost:
            SLOT.pack_into(self._table, place, key, tokens, now)
            return (cost - tokens) / self._per_second
        SLOT.pack_into(self._table, place, key, tokens - cost, now)
        return 0.0

    def _find(self, key: int, now: float) -> tuple[int, float, float]:
        """Where a client's bucket is, or will be; its tokens, and when they were counted."""
        first = SLOT.size * WAYS * (key % (MAX_CLIENTS // WAYS))
        oldest, oldest_at = first, float("inf")
        for place in range(first, first + SLOT.size * WAYS, SLOT.size):
            owner, tokens, updated = SLOT.unpack_from(self._table, place)
            if owner == key:
                return place, tokens, updated
            last_at = updated if owner else -1.0
            if last_at < oldest_at:
                oldest, oldest_at = place, last_at
        return oldest, self._burst, now


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
