"""The API's routes that read, and OpenAI's embeddings API: parse, call the service, answer.

Answers are not validated against their schemas: that would take as long as the search.
"""

import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from fashionclip.product import Hit, hit_fields
from fashionclip.searching import Query
from fashionclip.serve import api_products, schemas
from fashionclip.serve.inputs import Inputs, Json, gather, limited, not_found, reject
from fashionclip.serve.metrics import CONTENT_TYPE, Metrics
from fashionclip.serve.schemas import error_responses
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings

THUMBNAIL_MAX_AGE_S = 300  # then a browser asks whether it has changed
DEFAULT_WIDTH_PX = 400
MAX_TEMPLATES = 16  # prompts per label; its vector is their mean
_CLIENT_ERRORS = (400, 401, 403, 405, 408, 413, 415, 421, 422, 429, 500, 503)
NO_RESPONSES: Mapping[int | str, dict[str, Any]] = MappingProxyType({})
Where = Annotated[schemas.Where | None, QueryParameter()]


def create_router(services: Services, settings: Settings, metrics: Metrics) -> APIRouter:
    """The routes of the API.

    Args:
        services: answer the requests.
        settings: the service's limits.
        metrics: shown at ``/metrics``.
    """
    api = _Api(services, settings, metrics)
    router = APIRouter(responses=error_responses(*_CLIENT_ERRORS))

    def add(
        path: str,
        answer: Callable[..., Awaitable[Response]],
        tag: str,
        *,
        method: str = "GET",
        model: type[BaseModel] | None = None,
        responses: Mapping[int | str, dict[str, Any]] = NO_RESPONSES,
    ) -> None:
        router.add_api_route(
            path,
            answer,
            methods=[method],
            response_model=model,
            response_class=JSONResponse if model else Response,
            tags=[tag],
            responses=dict(responses),
        )
        if method == "GET":
            router.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)

    missing = error_responses(404)
    one = "/products/{product_id:path}"
    add("/search", api.search, "search", method="POST", model=schemas.Hits, responses=missing)
    add(f"{one}/similar", api.similar, "search", model=schemas.Hits, responses=missing)
    add("/classify", api.classify, "model", method="POST", model=schemas.Labels)
    add(
        "/v1/embeddings",
        api.embeddings,
        "model",
        method="POST",
        model=schemas.Embeddings,
        responses=missing,
    )
    add(one, api.product, "products", model=schemas.ProductOut, responses=missing)
    api_products.add_routes(router, services, settings)
    image: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/jpeg": {}}, "description": "A JPEG."},
        304: {"description": "Not changed."},
    }
    add("/images/{product_id:path}", api.image, "products", responses=image | missing)
    add("/health", api.health, "service", model=schemas.Health)
    add("/ready", api.ready, "service", model=schemas.Ready)
    metrics_response: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {}}, "description": "Prometheus text format."}
    }
    add("/metrics", api.metrics, "service", responses=metrics_response)
    return router


class _Api:
    """Answers the API's requests."""

    def __init__(self, services: Services, settings: Settings, metrics: Metrics) -> None:
        self._services, self._settings, self._metrics = services, settings, metrics
        self._inputs = Inputs(services, settings)

    @property
    def _service(self) -> SearchService:
        return self._services.current

    async def search(self, body: schemas.SearchRequest, request: Request) -> Json:
        """Search by text, an image, or both; without a query, list products."""
        request.state.n = 1
        self._inputs.check_texts([body.text or "", *body.avoid])
        query = Query(
            text=(body.text or "").strip(),
            image=await self._inputs.image(body.image, body.image_url, is_required=False),
            avoid=body.avoid,
            similar_to=body.similar_to,
            unlike=body.unlike,
            where=body.where,
            weight=body.weight,
            k=limited("k", body.k, self._settings.k),
            offset=limited("offset", body.offset, self._settings.offset),
            mode="hybrid" if body.hybrid else "vectors",
            group=body.group,
        )
        page = await self._service.search(query)
        return _hits(page.hits, has_more=page.has_more)

    async def classify(self, body: schemas.ClassifyRequest, request: Request) -> Json:
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

    async def embeddings(self, body: schemas.EmbeddingsRequest, request: Request) -> Json:
        """Encode texts and images to unit vectors; compatible with OpenAI's clients."""
        name, dim = self._service.meta.model, self._service.meta.dim
        if body.model not in {None, name}:
            not_found(f"the model here is {name!r}, not {body.model!r}")
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

    async def product(self, product_id: str) -> Json:
        """One product's columns."""
        hit = await self._service.product(product_id)
        if hit is None:
            not_found(f"there is no product {product_id!r} here")
        fields = {name: value for name, value in hit_fields(hit).items() if name != "score"}
        return Json(fields)

    async def similar(
        self,
        product_id: str,
        where: Where = None,
        k: Annotated[int, QueryParameter(ge=1)] = 10,
        offset: Annotated[int, QueryParameter(ge=0)] = 0,
    ) -> Json:
        """The products that resemble one most."""
        query = Query(
            similar_to=(product_id,),
            where=where,
            k=limited("k", k, self._settings.k),
            offset=limited("offset", offset, self._settings.offset),
        )
        page = await self._service.search(query)
        return _hits(page.hits, has_more=page.has_more)

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

    async def ready(self) -> Json:
        """Whether searches are answered; ``stale`` while the store cannot be read.

        A stale service answers from memory, so it is fit for use.
        """
        return Json(
            {
                "status": "stale" if self._service.fault else "ready",
                "products": self._service.count,
                "model": self._service.meta.model,
            }
        )

    async def metrics(self) -> Response:
        """The service's metrics, for Prometheus."""
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    async def _input(self, one: str | schemas.EmbeddingInput, i: int, modality: str) -> str | bytes:
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
        url = url.url if isinstance(url, schemas.ImageReference) else url
        return await self._inputs.image(one.image, url) or b""


def _hits(hits: Iterable[Hit], *, has_more: bool) -> Json:
    found: list[dict[str, Any]] = [hit_fields(hit) for hit in hits]
    return Json({"hits": found, "has_more": has_more})


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
