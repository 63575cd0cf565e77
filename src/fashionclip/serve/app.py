"""The service as a whole: page and API behind one layer of limits, run by uvicorn.

A parent process holds the socket and looks after the one that serves: if that dies, another takes
its place and answers what waits at the socket. ``SIGTERM`` lets it answer what it has accepted;
``SIGHUP`` starts a fresh one before the old one goes.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from fashionclip.errors import FashionCLIPError, ServiceError
from fashionclip.serve import api, logs, page
from fashionclip.serve.connections import GuardedProtocol, connections_here
from fashionclip.serve.faults import INTERNAL, MISTAKE, Fault, fault_of, one_line
from fashionclip.serve.limits import Limits, problem
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.settings import Settings
from fashionclip.serve.shop import Shop

ABOUT = """Search a fashion catalogue by words and pictures.

Keys, where the service has them, go with each request as `Authorization: Bearer KEY`. An answer
that is not a 2xx has the body `{"error": {"code", "message", "request_id"}}`.
"""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
STARTUP_FAILURE = 3  # uvicorn's own: the parent does not try again
STARTUP_SECONDS = 60  # to import everything, read the index and open the model
SWITCH_SECONDS = 0.0001  # a thread back from a matrix product waits so long for Python's lock
BACKLOG = 4_096  # connections that wait at the socket while nobody takes them


def create_app(shop: Shop, settings: Settings, metrics: Metrics) -> Limits:
    """The ASGI app: routes of page and API, behind the limits.

    Args:
        shop: an open index; closed when the app shuts down.
        settings: the limits.
        metrics: the counters that the shop tells too.

    Raises:
        ServiceError: the key file cannot be used.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(shop.close)

    app = FastAPI(
        title="FashionCLIP",
        version=version("fashionclip"),
        description=ABOUT,
        docs_url=None,  # FastAPI's own load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    for kind in (FashionCLIPError, ValueError):
        app.add_exception_handler(kind, _tell_of_mistake)
    app.add_exception_handler(RequestValidationError, _tell_of_invalid)
    app.add_exception_handler(HTTPException, _tell_of_http)
    app.add_exception_handler(Exception, _tell_of_fault)
    app.include_router(api.create_router(shop, settings, metrics))
    drawing = page.Drawing(settings)
    app.state.drawing = drawing
    app.include_router(page.create_router(shop, settings, drawing))
    return Limits(app, settings, metrics, draw=drawing.fault)


def serve(
    store: Path, settings: Settings, *, on_address: Callable[[str], None] | None = None
) -> None:
    """Serve an index until the process is told to stop.

    Args:
        store: the index folder.
        settings: where to listen, and within which limits.
        on_address: told the address as soon as customers may come.

    Raises:
        ServiceError: the address cannot be listened on, or the process that serves cannot start.
    """
    config = Config(
        partial(build, store, settings),
        factory=True,
        http=GuardedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_worker_healthcheck=STARTUP_SECONDS,
        backlog=BACKLOG,
        timeout_graceful_shutdown=round(settings.shutdown_seconds),
    )
    listening = listen(settings.host, settings.port)
    logs.configure(sys.stderr)
    with listening:
        if on_address is not None:
            host, port = listening.getsockname()[:2]
            on_address(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        parent = _Parent(config, sockets=[listening])
        for number in (signal.SIGINT, signal.SIGTERM):  # also while a fresh process is awaited
            signal.signal(number, lambda *_: parent.should_exit.set())
        parent.run()
    if any(process.exitcode == STARTUP_FAILURE for process in parent.processes):
        message = "the service could not start; its log says why"
        raise ServiceError(message)


class _Parent(Multiprocess):
    """Looks after the process that serves."""

    def keep_subprocess_alive(self) -> None:
        """Replace it if it has died, or hangs.

        The child's end of the pipe is its own from now on: so that it closes when the child dies,
        and the answer to a question that was on its way just then is not waited for.
        """
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


def build(store: Path, settings: Settings) -> Limits:
    """Open everything, in the process that serves.

    Raises:
        SystemExit: the index, its model or the keys cannot be used; the log says why.
    """
    logs.configure(sys.stderr)
    sys.setswitchinterval(SWITCH_SECONDS)
    GuardedProtocol.head_seconds = settings.head_seconds
    GuardedProtocol.most = connections_here()
    metrics = Metrics()
    try:
        return create_app(Shop(store, settings, metrics), settings, metrics)
    except FashionCLIPError as exc:
        logs.note(str(exc))
        raise SystemExit(STARTUP_FAILURE) from exc


def listen(host: str, port: int) -> socket.socket:
    """Open the socket that customers come to.

    Raises:
        ServiceError: the address is taken, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sends what it has at once only on sockets that say they are TCP; on others an
        # answer's body waits 40 ms for the client to acknowledge its head
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)  # whoever comes before the first process is up waits
    except OSError as exc:
        message = f"{host}:{port} cannot be listened on ({exc.strerror}); choose another --port"
        raise ServiceError(message) from exc
    return listening


async def _tell_of_mistake(request: Request, exc: Exception) -> Response:
    fault = fault_of(exc)
    if fault is INTERNAL:
        logs.failure(request.state.request_id, exc)
    return _answer(request, fault, one_line(exc))


async def _tell_of_fault(request: Request, exc: Exception) -> Response:
    return _answer(request, INTERNAL, INTERNAL.message)  # ``Limits`` sees it too, and logs it


async def _tell_of_invalid(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    if first["type"] == "json_invalid":
        message = f"the body is not JSON (at character {first['loc'][-1]})"
        return _answer(request, MISTAKE, message)
    place = ".".join(str(part) for part in first["loc"] if part not in {"body", "query"})
    message = f"{place}: {first['msg']}" if place else str(first["msg"])
    return _answer(request, Fault(HTTPStatus.UNPROCESSABLE_ENTITY, MISTAKE.code), message)


async def _tell_of_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    status = HTTPStatus(exc.status_code)
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        page_of: page.Drawing = request.app.state.drawing
        return page_of.fault(status, f"there is no page {request.url.path[:200]}")
    fault = Fault(status, status.phrase.lower().replace(" ", "_"))
    message = f"{request.method} {request.url.path}: {exc.detail}"[:300]
    return _answer(request, fault, message, exc.headers or {})


def _answer(
    request: Request, fault: Fault, message: str, headers: Mapping[str, str] = NO_HEADERS
) -> Response:
    headers = {"Cache-Control": "no-store", **headers}
    if fault.retry_after_s:
        headers["Retry-After"] = str(fault.retry_after_s)
    body = problem(fault.code, message, request.state.request_id)
    return Response(body, fault.status, headers, media_type="application/json")
