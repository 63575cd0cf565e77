"""Routes of the API: under ``/v1`` and without it, with HEAD, and with known parameters only."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from hashlib import blake2b
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from fashionclip.serve.http_errors import error_body
from fashionclip.serve.idempotency import MAX_KEY_CHARS, IdempotencyKeys, KeptAnswer, refusal
from fashionclip.serve.middleware.keys import key_of
from fashionclip.serve.validation import OWN_MESSAGE, unknown

VERSION = "/v1"
"""Paths of the described API begin with it. The older ones without it are answered too."""
UNVERSIONED_ONLY = frozenset({"/health", "/ready", "/metrics"})
"""Described without the version, as monitoring expects them."""

Responses = Mapping[int | str, dict[str, Any]]
NO_RESPONSES: Responses = MappingProxyType({})


class ApiRoute(APIRoute):
    """Refuses query parameters that it does not have, and names the nearest one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the check."""
        answer = super().get_route_handler()
        known: list[str] = []
        for parameter in self.dependant.query_params:
            kind: Any = parameter.field_info.annotation
            is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
            known += kind.model_fields if is_model else [parameter.alias]

        async def checked(request: Request) -> Response:
            for name in request.query_params:
                if name not in known and request.url.path not in UNVERSIONED_ONLY:
                    message = unknown("parameter", name, known)
                    fault = {"type": OWN_MESSAGE, "loc": ("query",), "msg": message}
                    raise RequestValidationError([fault])
            return await answer(request)

        return checked


def add_route(
    router: APIRouter,
    method: str,
    path: str,
    answer: Callable[..., Awaitable[Response]],
    operation_id: str,
    tag: str,
    *,
    model: Any = None,  # noqa: ANN401 - a model or a union of several
    responses: Responses = NO_RESPONSES,
    has_old_path: bool = True,
    openapi_extra: dict[str, Any] | None = None,
    route_class: type[ApiRoute] | None = None,
) -> None:
    """Add a route to the API, and HEAD beside GET.

    Args:
        router: the API's; its ``route_class`` is ``ApiRoute``.
        method: such as ``GET``.
        path: without the version.
        answer: answers the request; its docstring is the description.
        operation_id: the operation's name in OpenAPI, by which generated clients call it.
        tag: the topic of the OpenAPI description.
        model: of the JSON that is answered; None for other answers.
        responses: further answers of the OpenAPI description.
        has_old_path: whether the path is answered without the version too.
        openapi_extra: added to the OpenAPI description, such as a body that is not JSON.
        route_class: in place of the router's own.
    """
    described = path if path in UNVERSIONED_ONLY else VERSION + path
    for address in dict.fromkeys((described, VERSION + path, *([path] if has_old_path else ()))):
        methods = {method: address == described} | ({"HEAD": False} if method == "GET" else {})
        for one, is_described in methods.items():
            router.add_api_route(
                address,
                answer,
                methods=[one],
                operation_id=operation_id,
                include_in_schema=is_described,
                response_model=model,
                response_class=JSONResponse if model else Response,
                tags=[tag],
                responses=dict(responses),
                openapi_extra=openapi_extra,
                route_class_override=route_class,
            )


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """The methods of a request's path, for ``Allow``; empty if nothing is there."""
    found = {"OPTIONS"}
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found) if len(found) > 1 else []


def answering_once(keys: IdempotencyKeys, store_of: Callable[[], str]) -> type[ApiRoute]:
    """A class of routes that answer requests with the same ``Idempotency-Key`` once.

    Answers that say that nothing can be changed now (5xx, 429), and errors, are not kept.

    Args:
        keys: the keys in use.
        store_of: names the store that a request changes; another store has other keys.
    """

    class Once(ApiRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """The handler, behind the look at the key."""
            answer = super().get_route_handler()

            async def once(request: Request) -> Response:
                given = request.headers.get("idempotency-key")
                if given is None:
                    return await answer(request)
                if not 0 < len(given) <= MAX_KEY_CHARS:
                    message = f"Idempotency-Key must have 1 to {MAX_KEY_CHARS} characters"
                    fault = {"type": OWN_MESSAGE, "loc": ("header",), "msg": message}
                    raise RequestValidationError([fault])
                owner, _ = key_of({name.lower(): value for name, value in request.headers.raw})
                key = _digest(store_of(), owner, given)
                path = request.url.path.removeprefix(VERSION)
                content = _digest(request.method, path, request.url.query, await request.body())
                found = await asyncio.to_thread(keys.begin, key, content)
                if isinstance(found, KeptAnswer):
                    headers = {"Idempotency-Replayed": "true"}
                    return Response(found.body, found.status, headers, found.media_type)
                if found is not None:
                    status, code, message = refusal(found)
                    body = error_body(code, message, request.state.request_id)
                    return Response(body, status, media_type="application/json")
                kept = None
                try:
                    response = await answer(request)
                    if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                        kind = response.headers.get("content-type", "")
                        kept = KeptAnswer(response.status_code, kind, bytes(response.body))
                    return response
                finally:
                    await asyncio.to_thread(keys.end, key, kept)

            return once

    return Once


def _digest(*parts: str | bytes) -> bytes:
    found = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "replace") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "big") + data)
    return found.digest()
