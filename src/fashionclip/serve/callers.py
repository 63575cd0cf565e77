"""Who is calling, and how often: keys out of headers, addresses, the rate of each caller."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

COOKIE = "fashionclip_key"
"""Where the page keeps its key; it opens reading only, whatever the key may do."""
MOST_CALLERS = 10_000  # whose rate is remembered


class Rates:
    """A bucket of tokens for every caller; the callers who came longest ago are forgotten."""

    def __init__(self, per_second: float, burst: int) -> None:
        """Start with full buckets.

        Args:
            per_second: how fast a bucket fills; 0 for no limit at all.
            burst: how much it holds.
        """
        self._per_second, self._burst = per_second, max(1.0, float(burst))
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, cost: float) -> float:
        """Take a request's cost out.

        Args:
            caller: whose bucket.
            cost: how many tokens.

        Returns:
            0 if there was enough, otherwise the seconds until there is.
        """
        if self._per_second <= 0:  # no limit
            return 0.0
        now = time.monotonic()
        left, then = self._buckets.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_second)
        is_enough = left >= cost
        self._buckets[caller] = (left - cost if is_enough else left, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if is_enough else (cost - left) / self._per_second


def secret_of(headers: Mapping[bytes, bytes]) -> tuple[str, bool]:
    """The key that came with a request, "" for none, and whether the page's cookie held it."""
    kind, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and given:
        return given.strip(), False
    if b"x-api-key" in headers:
        return headers[b"x-api-key"].decode("latin-1").strip(), False
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return "", False
    return (cookies[COOKIE].value, True) if COOKIE in cookies else ("", False)


def owner_of(address: str) -> str:
    """Whom an address belongs to: an IPv6 customer has a whole /64."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def hostname(host: str) -> str:
    """The name in a Host header, without its port, in lower case; "" where there is none."""
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
