"""Bytes from http(s): retries, redirects, a deadline, a size limit, a guard against SSRF.

The address is checked at connect, and for every redirect, which prevents DNS rebinding; no HTTP
library offers this. The deadline covers the whole transfer, so a slow server cannot stall a run.
Connections are reused and shared between threads. Proxies in the environment are ignored, because
addresses behind a proxy could not be checked.
"""

import atexit
import functools
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from fashionclip.errors import ImageFetchError
from fashionclip.images.fetch import CHUNK_BYTES, FetchPolicy, shown, why_too_large

MAX_REDIRECTS = 5
MAX_CONNECTIONS = 64
KEEPALIVE_S = 15.0
BACKOFF_S = 0.5
MAX_BACKOFF_S = 3.0  # longer Retry-After headers are cut to this

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 503})
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_HEADERS = (
    (b"User-Agent", b"fashionclip"),
    (b"Accept", b"image/*, */*;q=0.5"),
    (b"Accept-Encoding", b"identity"),
)
_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # RFC 6598, shared by carriers and clouds
        "168.63.129.16/32",  # Azure's host, reachable from every machine there
        "192.0.0.0/24",  # RFC 6890, protocol assignments
        "192.88.99.0/24",  # RFC 7526, retired 6to4 relays
        "::/96",  # RFC 4291, IPv4-compatible, retired
        "64:ff9b:1::/48",  # RFC 8215, local-use NAT64
        "fec0::/10",  # RFC 3879, site-local, retired
    )
)
"""Not public, in every version of Python."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class InternalAddress(Exception):
    """A host has no public address."""


def fetch(url: str, sink: BufferedIOBase, *, policy: FetchPolicy) -> None:
    """Fetch a URL into a seekable file, with one retry if the connection breaks or is busy.

    Raises:
        ImageFetchError: refused, unreachable, too slow, too large, or a status other than 200.
    """
    _deadlines.current = time.monotonic() + policy.timeout_s
    try:
        if (pause_s := _try_fetch(url, sink, policy)) is not None:
            time.sleep(max(0.0, min(pause_s, _deadlines.current - time.monotonic())))
            sink.seek(0)
            sink.truncate()
            _follow(url, sink, policy, is_last=True)
    except InternalAddress as exc:
        message = (
            f"{shown(url)}: {exc} is an internal address; pass --allow-private "
            "(allow_private=True) if that is intended"
        )
        raise ImageFetchError(message) from exc
    except httpcore.TimeoutException as exc:
        message = (
            f"{shown(url)}: no complete answer within {policy.timeout_s:g} s; "
            "try later, or give it more time"
        )
        raise ImageFetchError(message) from exc
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
        why = " ".join(str(exc).split()) or "the connection broke"
        message = f"{shown(url)}: cannot be reached ({why}); check the address and the network"
        raise ImageFetchError(message) from exc


def _try_fetch(url: str, sink: BufferedIOBase, policy: FetchPolicy) -> float | None:
    """Fetch; if that may succeed a second time, return the pause before it, in seconds."""
    try:
        return _follow(url, sink, policy, is_last=False)
    except (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError):
        return 0.0


def _follow(url: str, sink: BufferedIOBase, policy: FetchPolicy, *, is_last: bool) -> float | None:
    # writes the body; returns a pause if the server is busy
    here = url
    for _ in range(MAX_REDIRECTS + 1):
        remaining = max(_deadlines.current - time.monotonic(), 0.001)
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), remaining)
        target = _parse(here, asked=url)
        headers = [(b"Host", _host_header(target)), *_HEADERS]
        pool = _pool(policy.allow_private)
        with pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as reply:
            if reply.status in _BUSY and not is_last:
                return _pause(reply)
            if reply.status not in _REDIRECTS:
                _write_body(reply, url, sink, policy)
                return None
            here = urljoin(here, _location(reply))
    message = f"{shown(url)}: redirected more than {MAX_REDIRECTS} times; name the last address"
    raise ImageFetchError(message)


def _write_body(
    reply: httpcore.Response, url: str, sink: BufferedIOBase, policy: FetchPolicy
) -> None:
    if reply.status != 200:
        is_busy = reply.status in _BUSY or reply.status >= 500
        mend = "run it again later" if is_busy else "check the address in a browser"
        answer = f"{reply.status}{_phrase(reply.status)}"
        message = f"{shown(url)}: the server answered {answer}; {mend}"
        raise ImageFetchError(message)
    length = _header(reply, b"content-length")
    if length.isdigit() and int(length) > policy.max_bytes:
        raise why_too_large(url, policy)
    encoding = _header(reply, b"content-encoding").strip().lower()
    if encoding not in {"", "identity", *_ENCODINGS}:
        message = f"{shown(url)}: the server encodes it as '{encoding}', which was not asked for"
        raise ImageFetchError(message)
    left = policy.max_bytes
    chunks = reply.iter_stream()
    try:
        for chunk in _inflate(chunks, encoding) if encoding in _ENCODINGS else chunks:
            left -= len(chunk)
            if left < 0:
                raise why_too_large(url, policy)
            sink.write(chunk)
    except zlib.error as exc:
        message = f"{shown(url)}: the server's {encoding} encoding is damaged ({exc}); fetch again"
        raise ImageFetchError(message) from exc


def _inflate(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Decode what some servers compress although it was not asked for, in small pieces.

    Raises:
        zlib.error: it is damaged, or breaks off.
    """
    stream = None
    for chunk in chunks:
        while chunk:
            if stream is None:  # servers send deflate with and without zlib's header
                is_raw = encoding == "deflate" and chunk[0] & 0x0F != 8
                stream = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS | 32)
            yield stream.decompress(chunk, CHUNK_BYTES)
            chunk = stream.unconsumed_tail or stream.unused_data
            if stream.eof:  # gzip files may follow one another
                stream = None
    if stream is not None:
        message = "it breaks off"
        raise zlib.error(message)


def _parse(url: str, *, asked: str) -> httpcore.URL:
    # it may have spaces, umlauts or an international host name
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        name = host if ":" in host else host.encode("idna").decode()
        port = parts.port
    except (ValueError, UnicodeError) as exc:
        message = f"{shown(asked)}: not a valid URL ({exc}); write https://host/path"
        raise ImageFetchError(message) from exc
    if parts.scheme.lower() not in {"http", "https"} or not name:
        led = "" if url == asked else f", redirected to {shown(url)}"
        message = f"{shown(asked)}{led}: not an http(s) URL; write https://host/path"
        raise ImageFetchError(message)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return httpcore.URL(scheme=parts.scheme.lower(), host=name, port=port, target=target)


def _host_header(url: httpcore.URL) -> bytes:
    host = b"[" + url.host + b"]" if b":" in url.host else url.host
    return host if url.port is None else host + b":" + str(url.port).encode()


def _header(reply: httpcore.Response, name: bytes) -> str:
    found = (value for key, value in reply.headers if key.lower() == name)
    return next(found, b"").decode("latin-1")


def _location(reply: httpcore.Response) -> str:
    """Where a redirect leads; servers write letters beyond ASCII as UTF-8 or as Latin-1."""
    raw = _header(reply, b"location").encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _pause(reply: httpcore.Response) -> float:
    asked = _header(reply, b"retry-after")
    return min(float(asked), MAX_BACKOFF_S) if asked.isdigit() else BACKOFF_S


def _phrase(status: int) -> str:
    return f" {http.client.responses[status]}" if status in http.client.responses else ""


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet.

    Addresses that embed another one (IPv4-mapped, 6to4, NAT64) count as the embedded one.
    """
    try:
        ip: Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if embedded is None and ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
    if ip.is_multicast or ip.is_reserved or not (ip.is_global or ip in _NAT64):
        return False
    return not any(ip in network for network in _NETWORKS if network.version == ip.version)


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects only to addresses that it has resolved and checked itself."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            message = f"no address is known for {host}"
            raise httpcore.ConnectError(message) from exc
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private:
            public = [address for address in addresses if is_public(address)]
            if not public:
                raise InternalAddress(addresses[0])
            addresses = public
        return _DeadlineStream(self._connect_any(addresses, port, timeout, socket_options))

    def _connect_any(
        self,
        addresses: list[str],
        port: int,
        timeout: float | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore.NetworkStream:
        for i, address in enumerate(addresses):
            share = _remaining(timeout) / (len(addresses) - i)
            try:
                return self._sockets.connect_tcp(
                    address, port, timeout=share, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if i == len(addresses) - 1:
                    raise
        message = "no address to connect to"
        raise httpcore.ConnectError(message)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose timeouts end at the deadline of the current request."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, _remaining(timeout))
        return _DeadlineStream(inner)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's own signature
        return self._stream.get_extra_info(info)


class _Deadlines(threading.local):
    """The deadline of this thread's request."""

    current: float = float("inf")


_deadlines = _Deadlines()


def _remaining(timeout: float | None) -> float:
    left = _deadlines.current - time.monotonic()
    if left <= 0:
        message = "the deadline has passed"
        raise httpcore.ReadTimeout(message)
    return left if timeout is None else min(left, timeout)


def close_connections() -> None:
    """Close all connections of this process that are kept open for further images."""
    for allow_private in (False, True):
        _pool(allow_private).close()


@functools.lru_cache
def _pool(allow_private: bool) -> httpcore.ConnectionPool:
    """The process's connections; unguarded ones are never shared with guarded requests."""
    pool = httpcore.ConnectionPool(
        network_backend=_GuardedBackend(allow_private=allow_private),
        max_connections=MAX_CONNECTIONS,
        keepalive_expiry=KEEPALIVE_S,
    )
    atexit.register(pool.close)
    return pool
