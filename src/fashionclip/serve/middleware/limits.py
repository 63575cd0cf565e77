"""The ASGI middleware before every route: limits, keys, error answers, security headers (CSP).

It gives each request an id, checks the limits (rate, requests in progress, size and speed of the
body, content types) and the key, reads the body, and answers every error with one line of JSON.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from hashlib import blake2b
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from fastapi.responses import Response

from fashionclip.images import IMAGE_MEDIA_TYPES
from fashionclip.serve.http_errors import INTERNAL, error_body
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs
from fashionclip.serve.middleware.keys import Keys, key_of, scope_of
from fashionclip.serve.middleware.rates import RateLimiter, client_of, hostname, is_loopback
from fashionclip.serve.settings import Settings

LOGIN = "/login"
PROBES = frozenset({"/health", "/ready", "/v1/health", "/v1/ready"})
"""Answered whatever the load and without a key, so that monitoring works."""
PUBLIC_PATHS = PROBES | {LOGIN}
BODY_TYPES = IMAGE_MEDIA_TYPES | {"application/json"}
FORM = "application/x-www-form-urlencoded"
NDJSON = "application/x-ndjson"
BULK_PATHS = frozenset({"/products/bulk", "/v1/products/bulk"})
"""Their bodies are read by their route, a part at a time, and have no limit."""
STATIC_COST = 0.05  # of a thumbnail or a style sheet, in requests: a page loads dozens of them
GARMENT_PATHS = frozenset({"/garments", "/v1/garments"})
GARMENT_COST = 4.0  # of a photograph that is looked through: some fifty regions of it are encoded
CLIENT_DISCONNECTED = 499  # the status in logs and metrics if the client disconnects

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(), microphone=()"),
)
"""Added to every answer that does not set them itself."""

_REQUEST_ID = re.compile(r"[\w.\-]{1,64}", re.ASCII)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
RenderError = Callable[..., Response]
"""``render(status, message, retry_after_s=…)`` makes the page that a browser gets on an error."""


class _Rejected(Exception):
    """The request is answered with an error and reaches no route."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


class _Disconnected(Exception):
    """The client disconnected before its request was complete."""


@dataclass(slots=True)
class _Answer:
    """The state of an answer."""

    request_id: str
    status: int = 0
    is_complete: bool = False
    """Whether its last byte has been sent."""
    started: float = field(default_factory=time.perf_counter)


class LimitsMiddleware:
    """Enforces the limits of ``settings`` and the keys, and adds headers to every answer."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        metrics: Metrics,
        keys: Keys | None = None,
        *,
        render_error: RenderError | None = None,
        rates: RateLimiter | None = None,
    ) -> None:
        """Wrap an app.

        Args:
            app: answers the requests that pass.
            settings: the limits.
            metrics: counts requests.
            keys: the keys; None reads ``settings.key_file``, and without that requires no key.
            render_error: makes the page that a browser gets on an error; None sends JSON.
            rates: counts the requests of each client; None counts those of this worker alone.
        """
        if keys is None and settings.key_file is not None:
            keys = Keys.read(settings.key_file)
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keys, self._render_error = keys, render_error
        self._rates = rates or RateLimiter(settings.rate_per_minute / 60.0, settings.burst)
        self._n_in_progress = 0
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it to the app."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        answer = _Answer(given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        sending = _with_headers(send, answer)
        is_probe = scope["path"] in PROBES
        self._n_in_progress += not is_probe
        self._metrics.in_progress(self._n_in_progress)
        try:
            await self._check_and_pass(scope, headers, receive, sending)
        except _Rejected as exc:
            self._metrics.rejected(exc.code)
            await self._reject(sending, exc, answer.request_id, scope, headers)
        except _Disconnected:
            answer.status = CLIENT_DISCONNECTED
        except Exception as exc:
            logs.failure(answer.request_id, exc)
            if answer.is_complete:  # an exception handler of the app has answered
                return
            if answer.status:  # the answer has begun: the server closes the connection
                raise
            error = _Rejected(INTERNAL.status, INTERNAL.code, INTERNAL.message)
            await self._reject(sending, error, answer.request_id, scope, headers)
        finally:
            self._n_in_progress -= not is_probe
            self._metrics.in_progress(self._n_in_progress)
            self._record(scope, answer)

    async def _check_and_pass(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        settings = self._settings
        if scope["path"] not in PROBES:
            if self._n_in_progress > settings.connections:
                message = f"more than {settings.connections} requests at once; try again shortly"
                raise _Rejected(503, "busy", message, retry_after_s=1)
            self._check_client(scope, headers)
        self._check_content(scope, headers)
        if not _has_body(headers) or scope["path"] in PROBES:  # a probe's body is not read
            await self._app(scope, receive, send)
            return
        if _is_bulk(scope):
            await self._pass_bulk(scope, receive, send)
            return
        body = bytearray()
        try:
            await self._read(receive, headers, body)
            await self._app(scope, _replaying(body, receive), send)
        finally:
            self._held_bytes -= len(body)

    async def _pass_bulk(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a body on unread, with room for the part of it that is held at a time.

        Raises:
            _Rejected: there is no such room.
        """
        held = self._settings.body_bytes
        if self._held_bytes + held > self._settings.held_bytes:
            why = "there is no room for another body just now; try again shortly"
            raise _Rejected(503, "busy", why, retry_after_s=1)
        self._held_bytes += held
        try:
            await self._app(scope, receive, send)
        finally:
            self._held_bytes -= held

    def _check_client(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        client = client_of(_address(scope))
        if self._keys is None:
            self._check_host(headers)
            self._check_rate(scope, client)
            if scope_of(scope["method"], scope["path"]) == "admin":
                message = "this needs a key for admin; start the service with --key-file"
                raise _Rejected(403, "forbidden", message)
            self._check_read_only(scope)
            return
        secret, is_cookie = key_of(headers)
        scopes = self._keys.scopes(secret) if secret else frozenset[str]()
        is_known = bool(scopes)
        digest = blake2b(secret.encode("utf-8", "replace"), digest_size=16).hexdigest()
        self._check_rate(scope, digest if is_known else client)
        path = scope["path"]
        if path in PUBLIC_PATHS or path.startswith("/static/"):
            return
        if not is_known:
            message = "this key is not known here" if secret else "a key is needed"
            message += "; send it as Authorization: Bearer KEY"
            raise _Rejected(401, "unauthorized", message)
        needed = scope_of(scope["method"], path)
        if needed not in (scopes & {"read"} if is_cookie else scopes):
            may = "switch stores" if needed == "admin" else needed
            message = f"this key may not {may}; use one made with --new-key {needed}"
            raise _Rejected(403, "forbidden", message)
        self._check_read_only(scope)

    def _check_read_only(self, scope: Scope) -> None:
        if self._settings.read_only and scope_of(scope["method"], scope["path"]) != "read":
            message = "this service only reads; send changes to the service that owns the index"
            raise _Rejected(403, "read_only", message)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """Without keys, on loopback: reject web sites whose name resolves to this machine.

        Otherwise a page of ``evil.example`` in a browser on this machine could read this service's
        answers once that name resolves to 127.0.0.1 (DNS rebinding). The Host header reveals it.

        Raises:
            _Rejected: the Host header is not a name of this machine.
        """
        own = self._settings.host
        if not is_loopback(own):
            return
        host = hostname(headers.get(b"host", b"").decode("latin-1"))
        if host != own.lower() and not is_loopback(host):
            message = "without keys this service answers to localhost only; start it with keys"
            raise _Rejected(421, "misdirected", message)

    def _check_rate(self, scope: Scope, client: str) -> None:
        is_static = scope["path"].startswith(("/static/", "/images/", "/v1/images/", "/views/"))
        cost = GARMENT_COST if scope["path"] in GARMENT_PATHS else 1.0
        wait_s = self._rates.take(client, STATIC_COST if is_static else cost)
        if wait_s > 0:
            message = f"more than {self._settings.rate_per_minute} requests a minute; slow down"
            raise _Rejected(429, "too_many", message, retry_after_s=max(1, round(wait_s + 0.5)))

    def _check_content(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        limit = self._settings.body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > limit and not _is_bulk(scope):
            raise _too_large(limit)
        if not _has_body(headers):
            return
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        accepted: frozenset[str] = BODY_TYPES
        if scope["path"] == LOGIN:
            accepted = BODY_TYPES | {FORM}
        elif _is_bulk(scope):
            accepted = frozenset({NDJSON})
        if kind not in accepted:
            message = f"the content type is not one of {', '.join(sorted(accepted))}"
            raise _Rejected(415, "content_type", message)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            message = "send the body as it is, without Content-Encoding"
            raise _Rejected(415, "content_type", message)

    async def _read(self, receive: Receive, headers: dict[bytes, bytes], body: bytearray) -> None:
        """Append the request's body to ``body``, also if an error ends it, and count its bytes.

        Raises:
            _Rejected: it is too slow, or all bodies together are too large.
            _too_large: it is too large.
            _Disconnected: the client disconnected.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Disconnected
                    part = message.get("body", b"")
                    body += part
                    self._held_bytes += len(part)
                    if len(body) > settings.body_bytes:
                        raise _too_large(settings.body_bytes)
                    if self._held_bytes > settings.held_bytes:
                        why = "there is no room for another body just now; try again shortly"
                        raise _Rejected(503, "busy", why, retry_after_s=1)
                    if not message.get("more_body", False):
                        return
        except TimeoutError as exc:
            why = f"the body did not arrive within {settings.body_seconds:g} s; send it faster"
            raise _Rejected(408, "too_slow", why) from exc

    def _record(self, scope: Scope, answer: _Answer) -> None:
        seconds = time.perf_counter() - answer.started
        route = str(getattr(scope.get("route"), "path", "") or "other")
        status = answer.status or CLIENT_DISCONNECTED
        self._metrics.answered(route, scope["method"], status, seconds)
        logs.record(
            request_id=answer.request_id,
            method=scope["method"],
            route=route,
            status=status,
            ms=1000 * seconds,
            client=_address(scope),
            n=scope["state"].get("n"),
        )

    async def _reject(
        self,
        send: Send,
        rejected: _Rejected,
        request_id: str,
        scope: Scope,
        headers: dict[bytes, bytes],
    ) -> None:
        wants_page = b"text/html" in headers.get(b"accept", b"") and scope["method"] == "GET"
        if rejected.status == HTTPStatus.UNAUTHORIZED and wants_page:
            start = {"status": 303, "headers": [(b"location", _login(scope).encode())]}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body"})
            return
        if wants_page and self._render_error is not None:
            page = self._render_error(
                rejected.status, str(rejected), retry_after_s=rejected.retry_after_s
            )
            start = {"status": rejected.status, "headers": page.raw_headers}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": page.body})
            return
        body = error_body(rejected.code, str(rejected), request_id)
        fields = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if _has_body(headers):  # its rest is not read
            fields.append((b"connection", b"close"))
        if rejected.retry_after_s:
            fields.append((b"retry-after", str(rejected.retry_after_s).encode()))
        if rejected.status == HTTPStatus.UNAUTHORIZED:
            fields.append((b"www-authenticate", b'Bearer realm="fashionclip"'))
        await send({"type": "http.response.start", "status": rejected.status, "headers": fields})
        is_head = scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else body})


def _login(scope: Scope) -> str:
    """The sign-in page, which leads back to the requested one."""
    target = scope.get("raw_path") or quote(scope["path"]).encode()
    if scope.get("query_string"):
        target += b"?" + scope["query_string"]
    return LOGIN if target == b"/" else f"{LOGIN}?{urlencode({'next': target.decode('latin-1')})}"


def _with_headers(send: Send, answer: _Answer) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            fields = list(message.get("headers", ()))
            present = {name.lower() for name, _ in fields}
            fields += [(name, value) for name, value in HEADERS if name not in present]
            fields.append((b"x-request-id", answer.request_id.encode()))
            message = {**message, "headers": fields}
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answer.is_complete = True

    return sending


def _replaying(body: bytearray, receive: Receive) -> Receive:
    """Replay the body, then pass on what the client sends."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


def _too_large(limit: int) -> _Rejected:
    message = f"the body is larger than {limit:,} bytes; send less at once"
    return _Rejected(413, "too_large", message)


def _is_bulk(scope: Scope) -> bool:
    return scope["path"] in BULK_PATHS and scope["method"] == "POST"


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
