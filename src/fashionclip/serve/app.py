"""The whole service as an ASGI app: page and API behind the middleware, and how errors answer."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from fashionclip.errors import FashionCLIPError
from fashionclip.serve import api, api_admin, openapi, page
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
from fashionclip.serve.middleware.connections import Connections
from fashionclip.serve.middleware.cors import allow_origins
from fashionclip.serve.middleware.limits import App, LimitsMiddleware
from fashionclip.serve.middleware.rates import RateLimiter
from fashionclip.serve.routing import allowed_methods
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.switch import Switch
from fashionclip.serve.validation import validation_message

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def create_app(
    service: SearchService | Services,
    settings: Settings,
    metrics: Metrics,
    *,
    connections: Connections | None = None,
    switch: Switch | None = None,
    rates: RateLimiter | None = None,
) -> App:
    """The ASGI app: the routes of page and API, behind the limits.

    Args:
        service: what answers, or the holder of what answers; closed when the app shuts down.
        settings: the limits.
        metrics: shared with the service.
        connections: drained when the app shuts down.
        switch: takes the service from one store to another; None if it serves no alias.
        rates: counts the requests of each client; None counts those of this worker alone.

    Raises:
        ServiceError: the key file cannot be used.
    """
    services = service if isinstance(service, Services) else Services(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if connections is not None:
            await connections.drain(timeout_s=settings.shutdown_seconds)
        if switch is not None:
            await asyncio.to_thread(switch.close)
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
    api_admin.add_routes(routers[0], services, switch)
    for router in routers:
        app.include_router(router)
    app.state.renderer = renderer
    app.state.routes = [route for router in routers for route in router.routes]
    app.openapi = openapi.cached(routers[0], settings)  # type: ignore[method-assign]
    limited = LimitsMiddleware(
        services.of_requests(app), settings, metrics, render_error=renderer.error, rates=rates
    )
    return allow_origins(limited, settings.cors_origins)


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
