"""Routes of the API: under ``/v1`` and without it, with HEAD, and with known parameters only."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

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
            )


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> list[str]:
    """The methods of a request's path, for ``Allow``; empty if nothing is there."""
    found = {"OPTIONS"}
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found) if len(found) > 1 else []
