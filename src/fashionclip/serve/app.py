"""The whole service: page and API behind the middleware, run by uvicorn in a worker process.

A parent process holds the socket and watches the worker. A crash or ``SIGHUP`` restarts the worker
without losing requests; ``SIGTERM`` ends the service after it has answered what it accepted.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from fashionclip.errors import FashionCLIPError, ServiceError
from fashionclip.serve import api, openapi, page
from fashionclip.serve.http_errors import (
    INTERNAL,
    INVALID,
    HttpError,
    client_message,
    error_body,
    http_error_of,
)
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs
from fashionclip.serve.middleware.connections import Connections, raise_file_limit
from fashionclip.serve.middleware.cors import allow_origins
from fashionclip.serve.middleware.limits import App, LimitsMiddleware
from fashionclip.serve.routing import allowed_methods
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.validation import validation_message

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
STARTUP_FAILURE = 3  # uvicorn's own exit code: the parent does not try again
STARTUP_SECONDS = 60  # to import everything, read the store and open the model
SWITCH_SECONDS = 0.0001  # longest wait for Python's lock, e.g. after a matrix product
BACKLOG = 4_096  # connections that wait at the socket while no worker accepts them


def create_app(
    service: SearchService | Services,
    settings: Settings,
    metrics: Metrics,
    *,
    connections: Connections | None = None,
) -> App:
    """The ASGI app: the routes of page and API, behind the limits.

    Args:
        service: what answers, or the holder of what answers; closed when the app shuts down.
        settings: the limits.
        metrics: shared with the service.
        connections: drained when the app shuts down.

    Raises:
        ServiceError: the key file cannot be used.
    """
    services = service if isinstance(service, Services) else Services(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if connections is not None:
            await connections.drain(timeout_s=settings.shutdown_seconds)
        await asyncio.to_thread(services.close)

    app = FastAPI(
        docs_url=None,  # FastAPI's own load scripts from another site
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    for kind in (FashionCLIPError, ValueError):
        app.add_exception_handler(kind, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_internal)
    renderer = page.Renderer(settings)
    routers = (
        api.create_router(services, settings, metrics),
        page.create_router(services, settings, renderer),
    )
    for router in routers:
        app.include_router(router)
    app.state.renderer = renderer
    app.state.routes = [route for router in routers for route in router.routes]
    app.openapi = openapi.cached(routers[0], settings)  # type: ignore[method-assign]
    limited = LimitsMiddleware(
        services.of_requests(app), settings, metrics, render_error=renderer.error
    )
    return allow_origins(limited, settings.cors_origins)


def serve(
    store: str | Path, settings: Settings, *, on_address: Callable[[str], None] | None = None
) -> None:
    """Serve an index until the process is told to stop.

    Args:
        store: the store's URI: a folder, ``s3://…`` or ``postgresql://…``.
        settings: address, keys and limits.
        on_address: called with the service's URL as soon as the socket accepts connections.

    Raises:
        ServiceError: the address cannot be listened on, or the worker cannot start.
    """
    connections = Connections(head_seconds=settings.head_seconds)
    config = Config(
        partial(build, store, settings, connections),
        factory=True,
        http=connections,  # type: ignore[arg-type]  # a factory of protocols, like a class
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
        for number in (signal.SIGINT, signal.SIGTERM):  # also while a new worker starts
            signal.signal(number, lambda *_: parent.should_exit.set())
        parent.run()
    if any(process.exitcode == STARTUP_FAILURE for process in parent.processes):
        message = "the service could not start; its log says why"
        raise ServiceError(message)


class _Parent(Multiprocess):
    """Watches the worker."""

    def keep_subprocess_alive(self) -> None:
        """Replace the worker if it has died or hangs.

        The parent's copy of the child's end of the pipe is closed first, so that a check of a dead
        worker fails at once and does not wait for its timeout.
        """
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


def build(store: str | Path, settings: Settings, connections: Connections) -> App:
    """Open store, model and keys, in the worker.

    Raises:
        SystemExit: one of them cannot be used; the log says why.
    """
    logs.configure(sys.stderr)
    sys.setswitchinterval(SWITCH_SECONDS)
    connections.max_open = raise_file_limit()
    connections.linger_on_stop()
    metrics = Metrics()
    try:
        service = SearchService(store, settings, metrics)
        return connections.track(create_app(service, settings, metrics, connections=connections))
    except FashionCLIPError as exc:
        logs.warn(str(exc))
        raise SystemExit(STARTUP_FAILURE) from exc


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        ServiceError: the address is in use, or not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it an answer's
        # body waits 40 ms for the acknowledgement of its head
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)  # early clients wait until the first worker is up
    except OSError as exc:
        message = f"{host}:{port} cannot be listened on ({exc.strerror}); choose another --port"
        raise ServiceError(message) from exc
    return listening


async def _answer_error(request: Request, exc: Exception) -> Response:
    error = http_error_of(exc)
    if error is INTERNAL:
        logs.failure(request.state.request_id, exc)
    return _answer(request, error, client_message(exc))


async def _answer_internal(request: Request, exc: Exception) -> Response:
    return _answer(request, INTERNAL, INTERNAL.message)  # ``LimitsMiddleware`` logs it


async def _answer_invalid(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = exc.errors()
    if errors[0]["type"] == "json_invalid":
        message = f"the body is not JSON (at character {errors[0]['loc'][-1]})"
        return _answer(request, INVALID, message)
    error = HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, INVALID.code)
    return _answer(request, error, validation_message(errors))


async def _answer_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    status = HTTPStatus(exc.status_code)
    headers = dict(exc.headers or {})
    path = request.url.path[:200]
    message = f"{request.method} {path}: {exc.detail}"[:300]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(allowed_methods(request.app.state.routes, request.scope))
        headers["Allow"] = allowed
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
        message = f"{path} cannot be asked with {request.method[:20]}; use {allowed}"
    elif status == HTTPStatus.NOT_FOUND:
        message = f"there is nothing at {path}; /docs lists the API's paths"
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        renderer: page.Renderer = request.app.state.renderer
        return renderer.error(status, f"there is no page {path}")
    error = HttpError(status, status.phrase.lower().replace(" ", "_"))
    return _answer(request, error, message, headers)


def _answer(
    request: Request, error: HttpError, message: str, headers: Mapping[str, str] = NO_HEADERS
) -> Response:
    headers = {"Cache-Control": "no-store", **headers}
    if error.retry_after_s:
        headers["Retry-After"] = str(error.retry_after_s)
    body = error_body(error.code, message, request.state.request_id)
    return Response(body, error.status, headers, media_type="application/json")
