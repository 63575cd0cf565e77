"""Guards against connections that send or read nothing, in front of uvicorn's HTTP protocol.

uvicorn waits for ever for the head of a request. Here a connection without one is closed after
``head_seconds``, and when the process has no room for another connection, the one that has been
silent longest is closed; so idle connections, however many, keep no client out. A client that does
not read its answer, or sends a body after it, is disconnected too. A stopping service announces
``Connection: close`` before it closes anything, so that no request is lost.

Nothing here depends on how uvicorn works inside: asyncio tells a protocol of bytes, full buffers
and the end of a connection, and the ASGI app sees where requests begin and end.
"""

import asyncio
import signal
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from fashionclip.serve.middleware.limits import App, Message, Receive, Scope, Send

LINGER_S = 1.0  # how long a stopping service waits for requests that are on their way
RESERVED_FILES = 256  # of those that a process may open: the store's, the log, the model
MIN_CONNECTIONS, MAX_CONNECTIONS = 64, 16_384
POLL_S = 0.05

_CONNECTION: ContextVar["_Connection | None"] = ContextVar("connection", default=None)


class Connections:
    """The open connections of one service: uvicorn's ``http`` option and an ASGI middleware."""

    def __init__(self, *, head_seconds: float, drain_seconds: float = LINGER_S) -> None:
        """Start with none.

        Args:
            head_seconds: limit for receiving a request's head, also from the end of the request
                before, and for a client that stops reading.
            drain_seconds: how long a service that is told to stop goes on as before.
        """
        self.head_seconds, self._drain_seconds = head_seconds, drain_seconds
        self.max_open = MIN_CONNECTIONS
        """Connections at once; see ``raise_file_limit``."""
        self.n_open = 0
        self.n_requests = 0
        """Requests in progress."""
        self.silent: OrderedDict[_Connection, None] = OrderedDict()
        """Connections without a request in progress, the longest silent first."""
        self._is_stopping = False

    def __call__(self, **options: Any) -> asyncio.Protocol:  # noqa: ANN401 - uvicorn's own
        """The protocol of a new connection, as uvicorn asks for it."""
        return _Connection(self, lambda: H11Protocol(**options))

    def track(self, app: App) -> App:
        """Wrap an app so that the connections know when their requests begin and end."""

        async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                if self._is_stopping and message["type"] == "http.response.start":
                    fields = [*message.get("headers", ()), (b"connection", b"close")]
                    message = {**message, "headers": fields}
                await send(message)

            connection = _CONNECTION.get()
            if scope["type"] != "http" or connection is None:
                await app(scope, receive, send)
                return
            connection.begin_request()
            try:
                await app(scope, receive, sending)
            finally:
                connection.end_request()

        return tracked

    def linger_on_stop(self) -> None:
        """On a signal to stop, announce it in answers for a time before uvicorn sees it.

        Call it in the main thread, from the event loop, after uvicorn has set its own handlers.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, partial(self._stop, loop, handler))

    async def drain(self, *, timeout_s: float) -> None:
        """Answer requests that arrive on accepted connections, when no more are accepted."""
        self._is_stopping = True
        now = asyncio.get_running_loop().time
        started = now()
        while self.n_open and now() < started + LINGER_S:
            await asyncio.sleep(POLL_S)
        for connection in list(self.silent):
            connection.abort()
        while self.n_requests and now() < started + timeout_s:
            await asyncio.sleep(POLL_S)

    def _stop(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: Callable[[int, FrameType | None], object],
        number: int,
        _: FrameType | None,
    ) -> None:
        delay_s = 0.0 if self._is_stopping else self._drain_seconds
        self._is_stopping = True
        loop.call_soon_threadsafe(loop.call_later, delay_s, stop, number, None)


class _Connection(asyncio.Protocol):
    """One connection; uvicorn learns of it when its first bytes arrive."""

    def __init__(self, connections: Connections, make_http: Callable[[], asyncio.Protocol]) -> None:
        self._connections, self._make_http = connections, make_http
        self._http: asyncio.Protocol | None = None
        self._n_requests = 0
        self._is_lost = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, and close the longest silent connection if there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.n_open += 1
        self._expect_head()
        if self._connections.n_open > self._connections.max_open:
            next(iter(self._connections.silent)).abort()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; the task of a request inherits the context, and so this connection."""
        if self._http is None:
            self._http = self._make_http()
            self._http.connection_made(self._transport)
        token = _CONNECTION.set(self)
        try:
            self._http.data_received(data)
        finally:
            _CONNECTION.reset(token)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._http.eof_received() if self._http is not None else None

    def pause_writing(self) -> None:
        """Give a client that does not read its answer ``head_seconds`` to go on."""
        if self._http is not None:
            self._http.pause_writing()
        if self._write_timer is None:
            self._write_timer = self._abort_later()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._http is not None:
            self._http.resume_writing()
        self._forget_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._is_lost = True
        self._connections.n_open -= 1
        self._forget_head()
        self._forget_writing()
        if self._http is not None:
            self._http.connection_lost(exc)

    def begin_request(self) -> None:
        """A request's head has arrived."""
        self._n_requests += 1
        self._connections.n_requests += 1
        self._forget_head()

    def end_request(self) -> None:
        """A request has been answered: expect the next one, or the end of the connection."""
        self._n_requests -= 1
        self._connections.n_requests -= 1
        if not self._n_requests and not self._is_lost:
            self._expect_head()

    def abort(self) -> None:
        """Close the connection at once."""
        self._forget_head()
        self._transport.abort()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._connections.silent[self] = None
            self._head_timer = self._abort_later()

    def _forget_head(self) -> None:
        self._connections.silent.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _forget_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _abort_later(self) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self._connections.head_seconds, self.abort)


def raise_file_limit() -> int:
    """Raise the limit of open files, and return how many connections that leaves room for."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft_wanted = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft_wanted, hard))
        soft = soft_wanted
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, soft - RESERVED_FILES))
