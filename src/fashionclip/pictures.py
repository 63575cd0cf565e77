"""Where a picture is to what its file holds: local paths, http(s), and any fsspec URL.

A catalogue may come from strangers, so an http(s) request only ever connects to a public
address. The address is checked at the moment of connecting, on the connection itself, so
neither a redirect nor a DNS answer that changes can lead inside.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpcore

from fashionclip.errors import PictureError

MAX_REDIRECTS = 5
RETRIED = (429, 500, 502, 503, 504)  # answers that a second try may better
RETRY_PAUSE_S = 0.5
CHUNK_BYTES = 1 << 16
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the IPv4 address is in the last 32 bits
_USER_AGENT = b"fashionclip (catalogue indexing)"


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched, and how long it may take."""

    allow_private: bool = False
    """Connect to loopback, private and link-local addresses too."""
    timeout_s: float = 20.0
    """For a whole picture, redirects and retries included."""
    max_bytes: int = 64 << 20
    """Larger files are refused."""


def locate_picture(name: str, base: str | None) -> str:
    """Make a picture's name in a table a full location: a URL, or an absolute path.

    Args:
        name: a URL, an absolute path, or a name relative to ``base``.
        base: a folder or a URL; None for the current folder.
    """
    name = name.strip()
    if _is_url(name):
        return name
    if base is not None and _is_url(base):
        relative = quote(name, safe="/%") if base.startswith(("http://", "https://")) else name
        return f"{base.rstrip('/')}/{relative.lstrip('/')}"
    return str(Path(base or ".").expanduser().absolute() / name)


def read_picture(location: str, *, policy: FetchPolicy | None = None) -> bytes:
    """Read the file at a location.

    Args:
        location: a path, an http(s) URL, or a URL of a file system that fsspec knows.
        policy: limits; None for the defaults.

    Raises:
        PictureError: not there, not reachable in time, too large, or an internal address.
    """
    policy = policy or FetchPolicy()
    if location.startswith(("http://", "https://")):
        return _fetch(location, policy)
    if location.startswith("file://"):
        location = unquote(urlsplit(location).path)
    if _is_url(location):
        return _read_remote(location, policy)
    return _read_local(location, policy)


def _is_url(location: str) -> bool:
    return "://" in location[:20]


def _shown(location: str) -> str:
    return location if len(location) <= 200 else f"{location[:200]}…"


def _read_local(location: str, policy: FetchPolicy) -> bytes:
    try:
        with Path(location).open("rb") as file:
            data = file.read(policy.max_bytes + 1)
    except FileNotFoundError as exc:
        message = f"there is no picture file {_shown(location)}"
        raise PictureError(message) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        message = f"the picture file {_shown(location)} cannot be read ({reason})"
        raise PictureError(message) from exc
    return _within_limit(data, location, policy)


def _read_remote(location: str, policy: FetchPolicy) -> bytes:
    import fsspec  # some file systems cost seconds to import

    try:
        with fsspec.open(location, "rb") as file:
            data: bytes = file.read(policy.max_bytes + 1)
    except ImportError as exc:
        message = f"{_shown(location)} needs a package that is not installed: {exc}"
        raise PictureError(message) from exc
    except FileNotFoundError as exc:
        message = f"there is no picture at {_shown(location)}"
        raise PictureError(message) from exc
    except Exception as exc:  # each file system raises its own errors
        detail = " ".join(str(exc).split())[:200] or type(exc).__name__
        message = f"the picture at {_shown(location)} cannot be read ({detail})"
        raise PictureError(message) from exc
    return _within_limit(data, location, policy)


def _within_limit(data: bytes, location: str, policy: FetchPolicy) -> bytes:
    if len(data) > policy.max_bytes:
        limit = policy.max_bytes >> 20
        message = f"the picture {_shown(location)} is larger than {limit} MiB; shrink it first"
        raise PictureError(message)
    return data


# http(s)


def _fetch(url: str, policy: FetchPolicy) -> bytes:
    _clock.deadline = time.monotonic() + policy.timeout_s
    try:
        for is_last in (False, True):
            try:
                status, data = _follow(url, policy)
            except httpcore.NetworkError:  # a kept connection may have been closed meanwhile
                if is_last:
                    raise
                continue
            if status not in RETRIED or is_last:
                break
            time.sleep(min(RETRY_PAUSE_S, max(0.0, _seconds_left())))
    except _InternalAddressError as exc:
        message = (
            f"{_shown(url)} leads to the internal address {exc}, which is refused; "
            "pass --allow-private (FetchPolicy(allow_private=True)) if that is intended"
        )
        raise PictureError(message) from exc
    except (httpcore.TimeoutException, TimeoutError) as exc:
        message = f"{_shown(url)} did not arrive within {policy.timeout_s:g} s; try again later"
        raise PictureError(message) from exc
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as exc:
        detail = " ".join(str(exc).split())[:150] or type(exc).__name__
        message = f"{_shown(url)} cannot be fetched ({detail}); check the address and the network"
        raise PictureError(message) from exc
    if status != 200:
        message = f"{_shown(url)} answered with status {status} instead of a picture"
        raise PictureError(message)
    return data


def _follow(url: str, policy: FetchPolicy) -> tuple[int, bytes]:
    """Request a URL and what it redirects to; every connection is checked on its own.

    Raises:
        ValueError: too many redirects, or one to another kind of place.
    """
    for _ in range(MAX_REDIRECTS + 1):
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), max(0.01, _seconds_left()))
        with _pool(policy.allow_private).stream(
            "GET",
            quote(url, safe="%/:=&?~#+!$,;'@()*[]"),
            headers=[(b"User-Agent", _USER_AGENT), (b"Accept", b"image/*,*/*;q=0.5")],
            extensions={"timeout": timeout},
        ) as response:
            target = dict((k.lower(), v) for k, v in response.headers).get(b"location")
            if response.status in {301, 302, 303, 307, 308} and target:
                url = urljoin(url, target.decode("latin-1"))
                if not url.startswith(("http://", "https://")):
                    message = f"it redirects to {_shown(url)}"
                    raise ValueError(message)
                continue
            return response.status, _body(response.iter_stream(), url, policy)
    message = f"more than {MAX_REDIRECTS} redirects"
    raise ValueError(message)


def _body(chunks: Iterable[bytes], url: str, policy: FetchPolicy) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > policy.max_bytes:
            break
    return _within_limit(bytes(data), url, policy)


_clock = threading.local()  # the deadline of the request that this thread is busy with


def _seconds_left() -> float:
    left: float = _clock.deadline - time.monotonic()
    return left


class _InternalAddressError(Exception):
    """A name leads to an address that is not public."""


class _CheckedStream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the whole picture."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _seconds_left()
        if left <= 0:
            message = "the time for the picture is used up"
            raise httpcore.ReadTimeout(message)
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, max(0.01, _seconds_left()))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _CheckedStream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _CheckedBackend(httpcore.NetworkBackend):
    """Resolves a name once and connects to the very address that was checked."""

    def __init__(self, *, allow_private: bool) -> None:
        self._inner = httpcore.SyncBackend()
        self._allow_private = allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            message = f"the name {host} is not known"
            raise httpcore.ConnectError(message) from exc
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private:
            for address in addresses:  # one internal answer among public ones is a trick too
                if not is_public(address):
                    raise _InternalAddressError(address)
        failure: Exception | None = None
        for address in addresses:
            try:
                stream = self._inner.connect_tcp(
                    address, port, max(0.01, _seconds_left()), local_address, socket_options
                )
                return _CheckedStream(stream)
            except httpcore.ConnectError as exc:
                failure = exc
        message = f"no answer from {host}"
        raise httpcore.ConnectError(message) from failure


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also where it wraps another one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            ip = wrapped
    return ip.is_global and not ip.is_multicast


@lru_cache(maxsize=2)
def _pool(allow_private: bool) -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        max_connections=32,
        max_keepalive_connections=16,
        keepalive_expiry=15.0,
        network_backend=_CheckedBackend(allow_private=allow_private),
    )
