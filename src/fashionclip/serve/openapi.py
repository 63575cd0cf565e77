"""The OpenAPI description: FastAPI's, with security schemes, topics and this service's limits."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi

from fashionclip.serve.middleware.keys import scope_of
from fashionclip.serve.settings import MB, Settings

DESCRIPTION = """Search a fashion catalogue by text and images.

If the service has API keys, send one with each request as `Authorization: Bearer KEY`. An answer
that is not a 2xx has the body `{"error": {"code", "message", "request_id"}}`; with 429 and 503,
`Retry-After` is the number of seconds to wait. A key may send %(rate)s. A body has at most
%(body)s, a text %(text)s characters.
"""
TOPICS: Mapping[str, str] = MappingProxyType(
    {
        "search": "Find products by text, images and other products; list, sort and count them.",
        "model": "The model itself: vectors of texts and images, labels for an image.",
        "products": "Read, store and delete products; get their images.",
        "service": "Probes, metrics, and the switch to another store.",
    }
)
"""Tags and what is below them, in the order of the documentation."""
_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key that `fashionclip serve --new-key` made, with one of the scopes "
        "read, write and admin. A service without a key file needs none.",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key in another header.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "fashionclip_key",
        "description": "The same key as the page keeps it; it allows reading only.",
    },
}
_OPEN = frozenset({"getHealth", "getReadiness"})  # answered without a key

Schema = dict[str, Any]


def describe(router: APIRouter, settings: Settings) -> Schema:
    """The description of the API's routes.

    Args:
        router: the API's.
        settings: the limits, and whether there are keys.
    """
    rate = settings.rate_per_minute
    words = {
        "rate": f"{rate:,} requests a minute" if rate else "any number of requests",
        "body": f"{settings.body_bytes / MB:g} MB",
        "text": f"{settings.text_chars:,}",
    }
    openapi = get_openapi(
        title="FashionCLIP",
        version=version("fashionclip"),
        description=DESCRIPTION % words,
        routes=router.routes,
        tags=[{"name": name, "description": text} for name, text in TOPICS.items()],
        servers=[{"url": "/", "description": "This service"}],
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    openapi["components"]["securitySchemes"] = _SCHEMES
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            operation["security"] = _security(method, path, operation, settings)
            for parameter in operation.get("parameters", ()):
                _limit(parameter["schema"], parameter["name"], settings)
    for schema in openapi["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            _limit(field, name, settings)
    return openapi


def _security(method: str, path: str, operation: Schema, settings: Settings) -> list[Schema]:
    """Which keys an operation needs: by OpenAPI 3.1, with the scope that they must have."""
    if operation["operationId"] in _OPEN:
        return []
    scope = scope_of(method.upper(), path)
    schemes = ("bearer", "header") if scope != "read" else tuple(_SCHEMES)
    needed: list[Schema] = [{name: [scope]} for name in schemes]
    is_open = settings.key_file is None and scope != "admin"
    return [*needed, {}] if is_open else needed


def _limit(schema: Schema, name: str, settings: Settings) -> None:
    """Add this service's limit to the schema of a field of this name."""
    batch, text = settings.batch, settings.text_chars
    limits: Mapping[str, tuple[str, int]] = {
        "k": ("maximum", settings.k),
        "offset": ("maximum", settings.offset),
        "text": ("maxLength", text),
        "q": ("maxLength", text),
        "caption": ("maxLength", text),
        "labels": ("maxItems", batch),
        "products": ("maxItems", batch),
        "input": ("maxItems", batch),
        "id": ("maxItems", settings.k),
    }
    if name not in limits:
        return
    keyword, value = limits[name]
    kinds = {"maximum": "integer", "maxLength": "string", "maxItems": "array"}
    for one in (schema, *schema.get("anyOf", ())):
        if one.get("type") == kinds[keyword]:
            one[keyword] = value


def cached(router: APIRouter, settings: Settings) -> Callable[[], Schema]:
    """``describe``, called once."""
    made: list[Schema] = []

    def openapi() -> Schema:
        if not made:
            made.append(describe(router, settings))
        return made[0]

    return openapi
