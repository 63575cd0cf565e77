"""Connections that say nothing: closed after a while, and sooner where room is short.

uvicorn waits for ever for the head of a request. Here a connection that owes one is closed when
its time is up, and when there are as many connections as this process may have files open, the
one that has been silent longest makes room for the newest. So idle ones, however many, keep
nobody out. One that does not read its answer, or goes on sending a body after it, is closed too.
"""

import asyncio
from collections import OrderedDict
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LINGER_S = 1.0  # that a connection is kept when the service stops: its request may be on its way
KEPT_FILES = 256  # of those a process may have open: the index's own, the log, the model
FEWEST = 64  # connections, however few files there may be
MOST = 16_384


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with an eye on connections that owe a request.

    uvicorn is given the class itself, so what it goes by is the class's own: one service a process.
    """

    head_seconds: ClassVar[float] = 15.0
    """How long a client may take over a request's head, be silent before it, or not read on."""
    most: ClassVar[int] = FEWEST
    """Connections at once; ``connections_here`` says how many there is room for."""
    silent: ClassVar[OrderedDict[H11Protocol, None]] = OrderedDict()
    """Those that owe a request, the longest silent first."""

    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _is_leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, and let go of another where there are too many."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > self.most:
            oldest = next(iter(self.silent))
            self.silent.pop(oldest)
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; a byte now and then buys no time, for the timer runs on."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._forget_head()
        if self._is_leaving and self.cycle is not None:
            self.cycle.keep_alive = False  # it begins to answer when this returns

    def on_response_complete(self) -> None:
        """Expect the next request, unless this one never ended."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()  # of what is on its way
        elif self._is_leaving or self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        elif self.conn.their_state is h11.IDLE:
            self._expect_head()

    def shutdown(self) -> None:
        """Answer what is on its way already; what says nothing for a moment is closed."""
        self._is_leaving = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER_S, self._leave)
        else:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        """A client that does not read its answer has so much time to go on."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._forget_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        self._forget_head()
        self._forget_reading()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._timer is None:
            self.silent[self] = None
            self._timer = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _forget_head(self) -> None:
        self.silent.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect_reading(self) -> None:
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _forget_reading(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _leave(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def connections_here() -> int:
    """How many connections this process has room for; its soft limit of files is raised first."""
    try:
        import resource
    except ImportError:  # Windows
        return FEWEST * 8
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + KEPT_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return MOST if soft == resource.RLIM_INFINITY else max(FEWEST, min(MOST, soft - KEPT_FILES))
