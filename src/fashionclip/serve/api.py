"""The API's routes, OpenAI's embeddings API too: parse a request, call the service, answer.

Answers are not validated against their schemas: that would take as long as the search.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from pydantic_core import to_json

from fashionclip.errors import BusyError, FashionCLIPError, ImageError, ProductNotFoundError
from fashionclip.product import Hit, hit_fields
from fashionclip.searching import Query
from fashionclip.serve import schemas
from fashionclip.serve.http_errors import client_message
from fashionclip.serve.metrics import CONTENT_TYPE, Metrics
from fashionclip.serve.schemas import error_responses
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from fashionclip.serve.writes import NewProduct

THUMBNAIL_MAX_AGE_S = 300  # then a browser asks whether it has changed
DEFAULT_WIDTH_PX = 400
MAX_FETCHING = 8  # images of one request at a time
MAX_INLINE_BASE64 = 100_000  # characters; more are decoded in a thread
MAX_TEMPLATES = 16  # prompts per label; its vector is their mean
_CLIENT_ERRORS = (400, 401, 403, 405, 408, 413, 415, 421, 422, 429, 500, 503)
_FULL = 507
NO_RESPONSES: Mapping[int | str, dict[str, Any]] = MappingProxyType({})
PUT: dict[int | str, dict[str, Any]] = {
    422: {
        "model": schemas.PutRefused | schemas.ProblemOut,
        "description": "No product could be stored, or the request is not valid.",
    }
}

T = TypeVar("T")

Where = Annotated[schemas.Where | None, QueryParameter()]


class _Json(JSONResponse):
    """JSON, ten times as fast as the standard library's; NaN and infinity become null."""

    def render(self, content: object) -> bytes:
        """Encode the body."""
        return to_json(content, inf_nan_mode="null")


def create_router(service: SearchService, settings: Settings, metrics: Metrics) -> APIRouter:
    """The routes of the API.

    Args:
        service: answers the requests.
        settings: the service's limits.
        metrics: shown at ``/metrics``.
    """
    api = _Api(service, settings, metrics)
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

    not_found, full = error_responses(404), error_responses(_FULL)
    one, many = "/products/{product_id:path}", "/products"
    add("/search", api.search, "search", method="POST", model=schemas.Hits, responses=not_found)
    add(f"{one}/similar", api.similar, "search", model=schemas.Hits, responses=not_found)
    add("/classify", api.classify, "model", method="POST", model=schemas.Labels)
    add(
        "/v1/embeddings",
        api.embeddings,
        "model",
        method="POST",
        model=schemas.Embeddings,
        responses=not_found,
    )
    add(one, api.product, "products", model=schemas.ProductOut, responses=not_found)
    add(many, api.put, "products", method="PUT", model=schemas.PutResult, responses=PUT | full)
    add(many, api.remove, "products", method="DELETE", model=schemas.Removed, responses=full)
    image: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/jpeg": {}}, "description": "A JPEG."},
        304: {"description": "Not changed."},
    }
    add("/images/{product_id:path}", api.image, "products", responses=image | not_found)
    add("/health", api.health, "service", model=schemas.Health)
    add("/ready", api.ready, "service", model=schemas.Ready)
    metrics_response: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {}}, "description": "Prometheus text format."}
    }
    add("/metrics", api.metrics, "service", responses=metrics_response)
    return router


class _Api:
    """Answers the API's requests."""

    def __init__(self, service: SearchService, settings: Settings, metrics: Metrics) -> None:
        self._service, self._settings, self._metrics = service, settings, metrics

    async def search(self, body: schemas.SearchRequest, request: Request) -> _Json:
        """Search by text, an image, or both; without a query, list products."""
        request.state.n = 1
        self._check_texts([body.text or "", *body.avoid])
        query = Query(
            text=(body.text or "").strip(),
            image=await self._image(body.image, body.image_url, is_required=False),
            avoid=body.avoid,
            similar_to=body.similar_to,
            unlike=body.unlike,
            where=body.where,
            weight=body.weight,
            k=self._limited("k", body.k, self._settings.k),
            offset=self._limited("offset", body.offset, self._settings.offset),
            mode="hybrid" if body.hybrid else "vectors",
            group=body.group,
        )
        page = await self._service.search(query)
        return _hits(page.hits, has_more=page.has_more)

    async def classify(self, body: schemas.ClassifyRequest, request: Request) -> _Json:
        """Score labels against an image, most probable first."""
        request.state.n = 1
        self._limited("the number of labels", len(body.labels), self._settings.batch)
        self._check_texts(body.labels)
        templates = body.templates
        prompts = [templates] if isinstance(templates, str) else templates or []
        self._check_texts(prompts)
        self._limited("the number of templates", len(prompts), MAX_TEMPLATES)
        image = await self._image(body.image, body.image_url)
        ranked = await self._service.classify(image or b"", body.labels, templates)
        ranked = sorted(ranked, key=lambda pair: -pair[1])
        labels = [{"label": label, "probability": round(p, 6)} for label, p in ranked]
        return _Json({"labels": labels})

    async def embeddings(self, body: schemas.EmbeddingsRequest, request: Request) -> _Json:
        """Encode texts and images to unit vectors; compatible with OpenAI's clients."""
        name, dim = self._service.meta.model, self._service.meta.dim
        if body.model not in {None, name}:
            _not_found(f"the model here is {name!r}, not {body.model!r}")
        if body.dimensions not in {None, dim}:
            _reject(f"this model's vectors have {dim} numbers; leave dimensions out")
        items = [body.input] if isinstance(body.input, str) else body.input
        request.state.n = self._limited("the number of inputs", len(items), self._settings.batch)
        if not items:
            _reject("input holds nothing to encode")
        inputs = await _gather(self._input(one, i, body.modality) for i, one in enumerate(items))
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
        return _Json({"object": "list", "data": data, "model": name, "usage": usage})

    async def product(self, product_id: str) -> _Json:
        """One product's columns."""
        hit = await self._service.product(product_id)
        if hit is None:
            _not_found(f"there is no product {product_id!r} here")
        fields = {name: value for name, value in hit_fields(hit).items() if name != "score"}
        return _Json(fields)

    async def similar(
        self,
        product_id: str,
        where: Where = None,
        k: Annotated[int, QueryParameter(ge=1)] = 10,
        offset: Annotated[int, QueryParameter(ge=0)] = 0,
    ) -> _Json:
        """The products that resemble one most."""
        query = Query(
            similar_to=(product_id,),
            where=where,
            k=self._limited("k", k, self._settings.k),
            offset=self._limited("offset", offset, self._settings.offset),
        )
        page = await self._service.search(query)
        return _hits(page.hits, has_more=page.has_more)

    async def put(
        self, body: schemas.PutRequest, request: Request, add_columns: schemas.AddColumns = False
    ) -> _Json:
        """Store products, replacing those of the same ids; answered when they are on disk."""
        request.state.n = self._limited(
            "the number of products", len(body.products), self._settings.batch
        )
        new: list[NewProduct] = []
        rejected: list[dict[str, str]] = []
        images = await _gather(self._product_image(product) for product in body.products)
        for product, image in zip(body.products, images, strict=True):
            if isinstance(image, BusyError):
                raise image  # the same request may succeed in a moment
            if isinstance(image, Exception):
                rejected.append({"id": product.id, "reason": client_message(image)})
            else:
                new.append(
                    NewProduct(product.id, image, product.columns, product.caption, add_columns)
                )
        rejections = await self._service.put(new) if new else []
        stored = len(new) - len(rejections)
        rejected += [{"id": one.product_id, "reason": one.reason} for one in rejections]
        result: dict[str, Any] = {"stored": stored, "rejected": rejected}
        if stored:
            return _Json(result)
        message = "no product could be stored; rejected says why"
        request_id = request.state.request_id
        result["error"] = {"code": "invalid", "message": message, "request_id": request_id}
        return _Json(result, HTTPStatus.UNPROCESSABLE_ENTITY)

    async def remove(
        self, request: Request, ids: Annotated[list[str], QueryParameter(alias="id", min_length=1)]
    ) -> _Json:
        """Delete products: ``?id=A-17&id=A-18``."""
        request.state.n = self._limited("the number of ids", len(ids), self._settings.k)
        return _Json({"removed": await self._service.remove(ids)})

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
            _not_found(f"product {product_id!r} has no image here")
        return Response(found, media_type="image/jpeg", headers=headers)

    async def health(self) -> _Json:
        """Whether the process answers."""
        return _Json({"status": "ok"})

    async def ready(self) -> _Json:
        """Whether searches are answered; ``stale`` while the store cannot be read.

        A stale service answers from memory, so it is fit for use.
        """
        return _Json(
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
                return await self._image(*((None, one) if is_url else (one, None))) or b""
            self._check_texts([one])
            return one
        given = [name for name in ("text", "image", "image_url") if getattr(one, name) is not None]
        if len(given) != 1:
            _reject(f"input {i} holds {' and '.join(given) or 'nothing'}; give one thing")
        if one.text is not None:
            self._check_texts([one.text])
            return one.text
        url = one.image_url
        url = url.url if isinstance(url, schemas.ImageReference) else url
        return await self._image(one.image, url) or b""

    async def _product_image(self, product: schemas.ProductIn) -> bytes:
        """The encoded image of a product to store.

        Raises:
            ValueError: a text of the product is too long.
            ImageFetchError, ImageError: its image cannot be read.
        """
        self._check_texts([product.caption, *map(str, product.columns.values())])
        return await self._image(product.image, product.image_url) or b""

    async def _image(
        self, image: str | None, image_url: str | None, *, is_required: bool = True
    ) -> bytes | None:
        """The encoded image of a request.

        Raises:
            ImageError: both or none are given, or the base64 is not valid.
            ImageFetchError: it cannot be fetched.
        """
        if image is not None and image_url is not None:
            message = "image and image_url are both given; give one"
            raise ImageError(message)
        if image is not None:
            if len(image) < MAX_INLINE_BASE64:
                return _decoded(image)
            return await asyncio.to_thread(_decoded, image)
        if image_url is not None:
            return await self._service.fetch(image_url)
        if is_required:
            message = "there is no image; give image (base64) or image_url"
            raise ImageError(message)
        return None

    def _check_texts(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._limited("the length of a text", len(text), self._settings.text_chars)

    @staticmethod
    def _limited(what: str, number: int, limit: int) -> int:
        if number > limit:
            _reject(f"{what} is {number:,}; the maximum is {limit:,}")
        return number


async def _gather(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T | Exception]:
    """Await several calls, a few at a time; an error takes the place of its result."""
    semaphore = asyncio.Semaphore(MAX_FETCHING)

    async def one(call: Coroutine[Any, Any, T]) -> T | Exception:
        async with semaphore:
            try:
                return await call
            except (FashionCLIPError, ValueError) as exc:
                return exc

    return await asyncio.gather(*map(one, calls))


def _decoded(image: str) -> bytes:
    """The bytes of an image in base64.

    Raises:
        ImageError: it is not base64, or empty.
    """
    if image[:11].lower() == "data:image/":
        image = image.partition(",")[2]
    try:
        decoded = base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as exc:
        message = "image is not base64; send the encoded image (JPEG, PNG, …) in base64"
        raise ImageError(message) from exc
    if not decoded:
        message = "image is empty; send the encoded image (JPEG, PNG, …) in base64"
        raise ImageError(message)
    return decoded


def _reject(message: str) -> NoReturn:
    """Reject a request.

    Raises:
        ValueError: always.
    """
    raise ValueError(message)


def _not_found(message: str) -> NoReturn:
    """Answer with 404.

    Raises:
        ProductNotFoundError: always.
    """
    raise ProductNotFoundError(message)


def _hits(hits: Iterable[Hit], *, has_more: bool) -> _Json:
    found: list[dict[str, Any]] = [hit_fields(hit) for hit in hits]
    return _Json({"hits": found, "has_more": has_more})


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
