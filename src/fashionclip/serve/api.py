"""The API's routes that read, and OpenAI's embeddings API: parse, call the service, answer.

Answers are not validated against their schemas: that would take as long as the search.
"""

import base64
from functools import partial
from http import HTTPStatus
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import Response

from fashionclip.serve import api_localizing, api_products, api_search
from fashionclip.serve.inputs import Inputs, Json, gather, limited, not_found, product_json, reject
from fashionclip.serve.metrics import CONTENT_TYPE, Metrics
from fashionclip.serve.readiness import ready_answer
from fashionclip.serve.routing import ApiRoute, Responses, add_route
from fashionclip.serve.schemas import answers, requests
from fashionclip.serve.schemas.answers import (
    Embeddings,
    Health,
    Labels,
    ModelOut,
    Models,
    ProductOut,
    Ready,
)
from fashionclip.serve.schemas.requests import EmbeddingInput
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings

THUMBNAIL_MAX_AGE_S = 300  # then a browser asks whether it has changed
DEFAULT_WIDTH_PX = 400
MAX_TEMPLATES = 16  # prompts per label; its vector is their mean
_CLIENT_ERRORS = (400, 401, 403, 405, 408, 413, 415, 421, 422, 429, 500, 503)
_BINARY = {"type": "string", "format": "binary"}
_METRICS = "fashionclip_products 100000.0"


def create_router(services: Services, settings: Settings, metrics: Metrics) -> APIRouter:
    """The routes of the API.

    Args:
        services: answer the requests.
        settings: the service's limits.
        metrics: shown at ``/metrics``.
    """
    api = _Api(services, settings, metrics)
    errors = answers.error_responses(*_CLIENT_ERRORS)
    router = APIRouter(responses=errors, route_class=ApiRoute)
    missing = answers.error_responses(404)
    image: Responses = {
        200: {"content": {"image/jpeg": {"schema": _BINARY}}, "description": "A JPEG."},
        304: {"description": "Not changed."},
        **missing,
    }
    text: Responses = {
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _METRICS}},
            "description": "Prometheus' text format.",
        }
    }
    api_search.add_routes(router, services, settings)
    api_localizing.add_routes(router, services, settings)
    add = partial(add_route, router)
    one = "/products/{product_id:path}"
    add("GET", one, api.product, "getProduct", "products", model=ProductOut, responses=missing)
    api_products.add_routes(router, services, settings)
    add("GET", "/images/{product_id:path}", api.image, "getImage", "products", responses=image)
    add("POST", "/classify", api.classify, "classify", "model", model=Labels)
    add(
        "POST",
        "/embeddings",
        api.embeddings,
        "createEmbeddings",
        "model",
        model=Embeddings,
        responses=missing,
        has_old_path=False,
    )
    add("GET", "/models", api.models, "listModels", "model", model=Models, has_old_path=False)
    add(
        "GET",
        "/models/{model:path}",
        api.model,
        "getModel",
        "model",
        model=ModelOut,
        responses=missing,
        has_old_path=False,
    )
    add("GET", "/health", api.health, "getHealth", "service", model=Health)
    add("GET", "/ready", api.ready, "getReadiness", "service", model=Ready)
    add("GET", "/metrics", api.metrics, "getMetrics", "service", responses=text)
    return router


class _Api:
    """Answers the API's requests."""

    def __init__(self, services: Services, settings: Settings, metrics: Metrics) -> None:
        self._services, self._settings, self._metrics = services, settings, metrics
        self._inputs = Inputs(services, settings)

    @property
    def _service(self) -> SearchService:
        return self._services.current

    async def classify(self, body: requests.ClassifyRequest, request: Request) -> Json:
        """Score labels against an image, most probable first."""
        request.state.n = 1
        limited("the number of labels", len(body.labels), self._settings.batch)
        self._inputs.check_texts(body.labels)
        templates = body.templates
        prompts = [templates] if isinstance(templates, str) else templates or []
        self._inputs.check_texts(prompts)
        limited("the number of templates", len(prompts), MAX_TEMPLATES)
        image = await self._inputs.image(body.image, body.image_url)
        ranked = await self._service.classify(image or b"", body.labels, templates)
        ranked = sorted(ranked, key=lambda pair: -pair[1])
        labels = [{"label": label, "probability": round(p, 6)} for label, p in ranked]
        return Json({"labels": labels})

    async def embeddings(self, body: requests.EmbeddingsRequest, request: Request) -> Json:
        """Encode texts and images to unit vectors; compatible with OpenAI's clients."""
        name, dim = self._service.meta.model, self._service.meta.dim
        self._check_model(body.model or name)
        if body.dimensions not in {None, dim}:
            reject(f"this model's vectors have {dim} numbers; leave dimensions out")
        items = [body.input] if isinstance(body.input, str) else body.input
        request.state.n = limited("the number of inputs", len(items), self._settings.batch)
        if not items:
            reject("input holds nothing to encode")
        inputs = await gather(self._input(one, i, body.modality) for i, one in enumerate(items))
        for one in inputs:
            if isinstance(one, Exception):
                raise one
        vectors = await self._service.embed([one for one in inputs if isinstance(one, str | bytes)])
        is_base64 = body.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": _base64(vector) if is_base64 else vector.tolist(),
            }
            for i, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}  # required by OpenAI's clients
        return Json({"object": "list", "data": data, "model": name, "usage": usage})

    async def models(self) -> Json:
        """The model of this index, as OpenAI's API lists models."""
        return Json({"object": "list", "data": [self._model()]})

    async def model(self, model: str) -> Json:
        """The model of this index by its name."""
        self._check_model(model)
        return Json(self._model())

    async def product(self, product_id: str) -> Json:
        """One product's columns."""
        hit = await self._service.product(product_id)
        if hit is None:
            not_found(self._service.no_product(product_id))
        return product_json(hit)

    async def image(
        self,
        request: Request,
        product_id: str,
        width: Annotated[int, QueryParameter(ge=1, le=10_000)] = DEFAULT_WIDTH_PX,
    ) -> Response:
        """A product's image as a JPEG of about this width in pixels."""
        tag = self._service.thumbnail_tag(product_id, width)
        headers = {"Cache-Control": f"private, max-age={THUMBNAIL_MAX_AGE_S}", "ETag": f'"{tag}"'}
        cached = request.headers.get("if-none-match", "")
        if tag is not None and (cached == "*" or f'"{tag}"' in cached):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        found = await self._service.thumbnail(product_id, width)
        if found is None:
            not_found(f"product {product_id!r} has no image here")
        return Response(found, media_type="image/jpeg", headers=headers)

    async def health(self) -> Json:
        """Whether the process answers."""
        return Json({"status": "ok"})

    async def ready(self, request: Request) -> Json:
        """Whether a load balancer should send requests here; 503 if not.

        A service that cannot read its store answers from memory, and is ``stale``: for a time it is
        fit for use.
        """
        state = "stopping" if self._services.is_stopping() else self._service.state
        facts = {
            "products": self._service.count,
            "model": self._service.meta.model,
            "read_only": self._settings.read_only,
            "switch_failed": bool(self._services.fault),
        }
        status, body = ready_answer(state, facts, request_id=request.state.request_id)
        return Json(body, status)

    async def metrics(self) -> Response:
        """The service's metrics, for Prometheus."""
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    def _check_model(self, name: str) -> None:
        """Check that a model is the one of the index.

        Raises:
            ProductNotFoundError: it is another.
        """
        own = self._service.meta.model
        if name != own:
            not_found(f"the model here is {own!r}, not {name!r:.200}")

    def _model(self) -> dict[str, str | int]:
        meta = self._service.meta
        fields: dict[str, str | int] = {"id": meta.model, "object": "model", "created": 0}
        return {**fields, "owned_by": "fashionclip", "dimensions": meta.dim}

    async def _input(self, one: str | EmbeddingInput, i: int, modality: str) -> str | bytes:
        """One input: a text, or an encoded image.

        Raises:
            ValueError: it is empty or ambiguous, or too long.
            ImageFetchError, ImageError: its image cannot be read.
        """
        if isinstance(one, str):
            if modality == "image" or one[:11].lower() == "data:image/":
                is_url = "://" in one[:16] or one[:5].lower() == "data:"
                return await self._inputs.image(*((None, one) if is_url else (one, None))) or b""
            self._inputs.check_texts([one])
            return one
        given = [name for name in ("text", "image", "image_url") if getattr(one, name) is not None]
        if len(given) != 1:
            reject(f"input {i} holds {' and '.join(given) or 'nothing'}; give one thing")
        if one.text is not None:
            self._inputs.check_texts([one.text])
            return one.text
        url = one.image_url
        url = url.url if isinstance(url, requests.ImageReference) else url
        return await self._inputs.image(one.image, url) or b""


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
