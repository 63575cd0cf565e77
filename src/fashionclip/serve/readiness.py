"""What ``/ready`` answers: whether a load balancer should send requests here.

The first worker of a service answers probes while it still reads its index. Other requests wait
for it, as they would at the socket.
"""

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from multiprocessing import Pipe
from typing import Any

from fashionclip.serve.middleware import logs
from fashionclip.serve.middleware.limits import PROBES, App, Message, Receive, Scope, Send

NOT_READY = {
    "loading": "the index is being read; ask again shortly",
    "stopping": "the service is stopping; use another one",
    "outdated": "the index could not be read for too long; the log says why",
    "other_model": "another model has made the index anew; start the service again",
}
"""The states in which a service is not ready, each with what it says."""
HEALTHY = b'{"status": "ok"}'


class Flag:
    """A yes or no that processes share: a byte in a pipe, since a lock may die with its holder."""

    def __init__(self) -> None:
        """Begin with no."""
        self._reader, self._writer = Pipe(duplex=False)

    def __bool__(self) -> bool:
        """Whether it is set."""
        return self._reader.poll()

    def set(self) -> None:
        """Say yes."""
        if not self:
            self._writer.send_bytes(b"1")

    def clear(self) -> None:
        """Say no; for one process alone."""
        while self:
            self._reader.recv_bytes()


def ready_answer(
    state: str, facts: dict[str, Any], *, request_id: str
) -> tuple[HTTPStatus, dict[str, Any]]:
    """Status and body of an answer of ``/ready``.

    Args:
        state: a key of ``NOT_READY``, or one in which the service is ready.
        facts: what else the body says.
        request_id: of the request.
    """
    body = {"status": state, **facts}
    if state not in NOT_READY:
        return HTTPStatus.OK, body
    error = {"code": "not_ready", "message": NOT_READY[state], "request_id": request_id}
    return HTTPStatus.SERVICE_UNAVAILABLE, {"error": error, **body}


class LoadingApp:
    """An app that is still being opened: probes are answered, and other requests wait for it."""

    def __init__(self, open_app: Callable[[], App], *, read_only: bool) -> None:
        """Begin to open it when the server starts.

        Args:
            open_app: opens the app; it may raise ``SystemExit``, which ends the worker.
            read_only: what ``/ready`` says of the service.
        """
        self._open_app, self._read_only = open_app, read_only
        self._app: App | None = None
        self._is_open = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a probe, or pass a request on as soon as that is possible."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._app is None and scope["type"] == "http" and scope["path"] in PROBES:
            await self._answer_probe(scope, send)
            return
        await self._is_open.wait()
        assert self._app is not None
        await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open the app beside the server, and close it when the server stops."""
        await receive()
        opening = asyncio.create_task(self._open())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await opening
        assert self._app is not None
        messages: Iterator[Message] = iter(
            [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        )

        async def replay() -> Message:
            return next(messages)

        async def drop(_: Message) -> None:
            pass

        await self._app({"type": "lifespan"}, replay, drop)
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        try:
            self._app = await asyncio.to_thread(self._open_app)
        except SystemExit as exc:  # asyncio and uvicorn would each write a traceback of it
            os._exit(int(exc.code or 0))
        except Exception as exc:  # requests that wait for it must not wait for ever
            logs.failure("", exc)
            os._exit(1)
        self._is_open.set()

    async def _answer_probe(self, scope: Scope, send: Send) -> None:
        status, body = HTTPStatus.OK, HEALTHY
        if scope["path"].endswith("/ready"):
            facts = {"products": 0, "model": "", "read_only": self._read_only}
            facts["switch_failed"] = False
            status, answer = ready_answer("loading", facts, request_id=uuid.uuid4().hex)
            body = json.dumps(answer).encode()
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": int(status), "headers": head})
        is_head = scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else body})
