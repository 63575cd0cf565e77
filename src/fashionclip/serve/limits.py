"""What stands before every route: who is let in, how much of it, and what goes with each answer.

One ASGI layer. It numbers a request, holds it against the limits (rate, requests in flight, size
and speed of the body, kinds of content) and against the keys, hands it on with its body whole,
and sees to it that whatever happens inside, the client gets one line of JSON.
"""

import asyncio
import json
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

from fashionclip.images.formats import IMAGE_MEDIA_TYPES
from fashionclip.serve import logs
from fashionclip.serve.callers import Rates, hostname, is_loopback, owner_of, secret_of
from fashionclip.serve.faults import INTERNAL
from fashionclip.serve.keys import Keys
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.settings import Settings

LOGIN = "/login"
ALIVE = frozenset({"/health", "/ready"})
"""Answered whatever the load, so that whoever watches over the service learns its state."""
OPEN_TO_ALL = ALIVE | {LOGIN}
BODY_TYPES = IMAGE_MEDIA_TYPES | {"application/json"}
FORM = "application/x-www-form-urlencoded"
LIGHT = 0.05  # what a thumbnail or a style sheet counts against the rate: a page asks for dozens
GONE = 499  # the status in logs and figures of a request whose client went away

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
"""Sent with every answer that does not say otherwise."""

_REQUEST_ID = re.compile(r"[\w.\-]{1,64}", re.ASCII)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Draw = Callable[..., Response]
"""``draw(status, message, wait_s=…)`` draws the page that tells a person of a refusal."""


def problem(code: str, message: str, request_id: str) -> bytes:
    """The body of every answer that tells of a mistake."""
    error = {"code": code, "message": message, "request_id": request_id}
    return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "replace")


class _Refused(Exception):
    """The request goes no further."""

    def __init__(self, status: int, code: str, message: str, *, wait_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.code, self.wait_s = status, code, wait_s


class _Left(Exception):
    """The client went away before its request was whole."""


@dataclass(slots=True)
class _Answer:
    """What is known of the answer so far."""

    request_id: str
    status: int = 0
    is_whole: bool = False
    """Its last byte has been sent."""
    began: float = field(default_factory=time.perf_counter)


class Limits:
    """ASGI middleware: the limits of ``settings``, the keys, and the headers of every answer."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        metrics: Metrics,
        keys: Keys | None = None,
        *,
        draw: Draw | None = None,
    ) -> None:
        """Stand before an app.

        Args:
            app: what answers the requests that come through.
            settings: the limits.
            metrics: what counts them.
            keys: who is let in; None reads ``settings.key_file`` if there is one, and otherwise
                everybody is.
            draw: makes the page that a browser is shown when it is refused; None sends JSON.
        """
        if keys is None and settings.key_file is not None:
            keys = Keys.read(settings.key_file)
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keys, self._draw = keys, draw
        self._rates = Rates(settings.rate_per_minute / 60.0, settings.burst)
        self._in_flight = 0
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
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
        is_watched = scope["path"] in ALIVE
        self._in_flight += not is_watched
        self._metrics.in_flight(self._in_flight)
        try:
            await self._let_in(scope, headers, receive, sending)
        except _Refused as exc:
            self._metrics.rejected(exc.code)
            await self._refuse(sending, exc, answer.request_id, scope, headers)
        except _Left:
            answer.status = GONE
        except Exception as exc:
            logs.failure(answer.request_id, exc)
            if answer.is_whole:  # whoever it passed on its way up here has told the client
                return
            if answer.status:  # too late for another answer: the connection breaks off
                raise
            fault = _Refused(INTERNAL.status, INTERNAL.code, INTERNAL.message)
            await self._refuse(sending, fault, answer.request_id, scope, headers)
        finally:
            self._in_flight -= not is_watched
            self._metrics.in_flight(self._in_flight)
            self._note(scope, answer)

    async def _let_in(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        settings = self._settings
        if scope["path"] not in ALIVE:
            if self._in_flight > settings.connections:
                message = f"more than {settings.connections} requests at once; try again shortly"
                raise _Refused(503, "busy", message, wait_s=1)
            self._check_caller(scope, headers)
        self._check_content(scope, headers)
        if not _has_body(headers) or scope["path"] in ALIVE:  # whose bodies nobody reads
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            await self._read(receive, headers, body)
            await self._app(scope, _replaying(body, receive), send)
        finally:
            self._held_bytes -= len(body)

    def _check_caller(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        address = owner_of(_address(scope))
        if self._keys is None:
            self._check_host(headers)
            self._check_rate(scope, address)
            return
        secret, is_cookie = secret_of(headers)
        scopes = self._keys.scopes(secret) if secret else frozenset[str]()
        is_known = bool(scopes)
        digest = blake2b(secret.encode("utf-8", "replace"), digest_size=16).hexdigest()
        self._check_rate(scope, digest if is_known else address)
        path = scope["path"]
        if path in OPEN_TO_ALL or path.startswith("/static/"):
            return
        if not is_known:
            message = "this key is not known here" if secret else "a key is needed"
            message += "; send it as Authorization: Bearer KEY"
            raise _Refused(401, "unauthorized", message)
        needed = "write" if scope["method"] in {"PUT", "DELETE", "PATCH"} else "read"
        if needed not in (scopes & {"read"} if is_cookie else scopes):
            message = f"this key does not open {needed}ing; use one made for it"
            raise _Refused(403, "forbidden", message)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """Without keys, on loopback: let no web site in that calls itself by our address.

        A browser on this machine would show a page of ``evil.example`` this service's answers
        once that name resolves to 127.0.0.1; the Host header still gives it away.

        Raises:
            _Refused: it calls itself so.
        """
        own = self._settings.host
        if not is_loopback(own):
            return
        host = hostname(headers.get(b"host", b"").decode("latin-1"))
        if host != own.lower() and not is_loopback(host):
            message = "without keys this service answers to localhost only; start it with keys"
            raise _Refused(421, "misdirected", message)

    def _check_rate(self, scope: Scope, caller: str) -> None:
        is_light = scope["path"].startswith(("/static/", "/images/"))
        wait_s = self._rates.take(caller, LIGHT if is_light else 1.0)
        if wait_s > 0:
            message = f"more than {self._settings.rate_per_minute} requests a minute; slow down"
            raise _Refused(429, "too_many", message, wait_s=max(1, round(wait_s + 0.5)))

    def _check_content(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        limit = self._settings.body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > limit:
            raise _too_large(limit)
        if not _has_body(headers):
            return
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        taken = BODY_TYPES | {FORM} if scope["path"] == LOGIN else BODY_TYPES
        if kind not in taken:
            message = f"the content type is not one of {', '.join(sorted(taken))}"
            raise _Refused(415, "content_type", message)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            message = "a body is sent as it is, without Content-Encoding"
            raise _Refused(415, "content_type", message)

    async def _read(self, receive: Receive, headers: dict[bytes, bytes], body: bytearray) -> None:
        """Read a body, counting its bytes as held; they stay in ``body`` if it is broken off.

        Raises:
            _Refused: it is too slow, or there is no room for it just now.
            _too_large: it is too large.
            _Left: the client went away.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Left
                    part = message.get("body", b"")
                    body += part
                    self._held_bytes += len(part)
                    if len(body) > settings.body_bytes:
                        raise _too_large(settings.body_bytes)
                    if self._held_bytes > settings.held_bytes:
                        why = "there is no room for another body just now; try again shortly"
                        raise _Refused(503, "busy", why, wait_s=1)
                    if not message.get("more_body", False):
                        return
        except TimeoutError as exc:
            why = f"the body did not arrive within {settings.body_seconds:g} s; send it faster"
            raise _Refused(408, "too_slow", why) from exc

    def _note(self, scope: Scope, answer: _Answer) -> None:
        seconds = time.perf_counter() - answer.began
        route = str(getattr(scope.get("route"), "path", "") or "other")
        status = answer.status or GONE
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

    async def _refuse(
        self,
        send: Send,
        refused: _Refused,
        request_id: str,
        scope: Scope,
        headers: dict[bytes, bytes],
    ) -> None:
        wants_page = b"text/html" in headers.get(b"accept", b"") and scope["method"] == "GET"
        if refused.status == HTTPStatus.UNAUTHORIZED and wants_page:
            start = {"status": 303, "headers": [(b"location", _login(scope).encode())]}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body"})
            return
        if wants_page and self._draw is not None:
            page = self._draw(refused.status, str(refused), wait_s=refused.wait_s)
            start = {"status": refused.status, "headers": page.raw_headers}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": page.body})
            return
        body = problem(refused.code, str(refused), request_id)
        fields = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if _has_body(headers):  # what is left of it is not read
            fields.append((b"connection", b"close"))
        if refused.wait_s:
            fields.append((b"retry-after", str(refused.wait_s).encode()))
        if refused.status == HTTPStatus.UNAUTHORIZED:
            fields.append((b"www-authenticate", b'Bearer realm="fashionclip"'))
        await send({"type": "http.response.start", "status": refused.status, "headers": fields})
        is_head = scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else body})


def _login(scope: Scope) -> str:
    """Where to sign in, and where to go from there."""
    asked = scope.get("raw_path") or quote(scope["path"]).encode()
    if scope.get("query_string"):
        asked += b"?" + scope["query_string"]
    return LOGIN if asked == b"/" else f"{LOGIN}?{urlencode({'next': asked.decode('latin-1')})}"


def _with_headers(send: Send, answer: _Answer) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            fields = list(message.get("headers", ()))
            said = {name.lower() for name, _ in fields}
            fields += [(name, value) for name, value in HEADERS if name not in said]
            fields.append((b"x-request-id", answer.request_id.encode()))
            message = {**message, "headers": fields}
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answer.is_whole = True

    return sending


def _replaying(body: bytearray, receive: Receive) -> Receive:
    """The body once more, then whatever else the client says."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay


def _too_large(limit: int) -> _Refused:
    message = f"the body is larger than {limit:,} bytes; send less at once"
    return _Refused(413, "too_large", message)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
