"""The API's routes: read a request, ask the shop, write the answer.

Answers are written as they are, without being validated against their own description: that costs
as much as the search.
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
from fashionclip.serve import schemas
from fashionclip.serve.faults import one_line
from fashionclip.serve.metrics import CONTENT_TYPE, Metrics
from fashionclip.serve.schemas import problem_responses
from fashionclip.serve.settings import Settings
from fashionclip.serve.shop import Query, Shop
from fashionclip.serve.updates import NewProduct

IMAGE_SECONDS = 300  # a browser keeps a thumbnail before it asks whether it has changed
DEFAULT_WIDTH_PX = 400
FETCHED_AT_ONCE = 8  # pictures of one request
DECODED_HERE = 100_000  # characters of base64; more are decoded in a thread
TEXTS_A_LABEL = 16  # prompts, of which a label's vector is the mean
_MISTAKES = (400, 401, 403, 405, 408, 413, 415, 421, 422, 429, 500, 503)
_FULL = 507
NO_RESPONSES: Mapping[int | str, dict[str, Any]] = MappingProxyType({})
PUT: dict[int | str, dict[str, Any]] = {
    422: {
        "model": schemas.PutRefused | schemas.ProblemOut,
        "description": "None of the products could be stored, or the request is no such.",
    }
}

T = TypeVar("T")

Where = Annotated[schemas.Where | None, QueryParameter()]


class _Json(JSONResponse):
    """JSON in a tenth of the standard library's time; numbers that JSON lacks become null."""

    def render(self, content: object) -> bytes:
        """The body."""
        return to_json(content, inf_nan_mode="null")


def create_router(shop: Shop, settings: Settings, metrics: Metrics) -> APIRouter:
    """The routes of the API.

    Args:
        shop: what is searched.
        settings: the service's limits.
        metrics: what ``/metrics`` shows.
    """
    api = _Api(shop, settings, metrics)
    router = APIRouter(responses=problem_responses(*_MISTAKES))

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

    not_found, full = problem_responses(404), problem_responses(_FULL)
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
        304: {"description": "The browser has it already."},
    }
    add("/images/{product_id:path}", api.image, "products", responses=image | not_found)
    add("/health", api.health, "service", model=schemas.Health)
    add("/ready", api.ready, "service", model=schemas.Ready)
    figures: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {}}, "description": "For Prometheus."}
    }
    add("/metrics", api.figures, "service", responses=figures)
    return router


class _Api:
    """Answers the API's requests."""

    def __init__(self, shop: Shop, settings: Settings, metrics: Metrics) -> None:
        self._shop, self._settings, self._metrics = shop, settings, metrics

    async def search(self, asked: schemas.SearchRequest, request: Request) -> _Json:
        """Find products by words, a picture, or both."""
        request.state.n = 1
        self._check_texts([asked.text or "", *asked.avoid])
        query = Query(
            text=(asked.text or "").strip(),
            image=await self._picture(asked.image, asked.image_url, is_needed=False),
            avoid=asked.avoid,
            like=asked.similar_to,
            unlike=asked.unlike,
            where=asked.where,
            weight=asked.weight,
            k=self._at_most("k", asked.k, self._settings.k),
            offset=self._at_most("offset", asked.offset, self._settings.offset),
            hybrid=asked.hybrid,
        )
        page = await self._shop.search(query)
        return _hits(page.hits, has_more=page.has_more)

    async def classify(self, asked: schemas.ClassifyRequest, request: Request) -> _Json:
        """Say which of some labels fits a picture."""
        request.state.n = 1
        self._at_most("the number of labels", len(asked.labels), self._settings.batch)
        self._check_texts(asked.labels)
        templates = asked.templates
        several = [templates] if isinstance(templates, str) else templates or []
        self._check_texts(several)
        self._at_most("the number of templates", len(several), TEXTS_A_LABEL)
        picture = await self._picture(asked.image, asked.image_url)
        ranked = await self._shop.classify(picture or b"", asked.labels, templates)
        ranked = sorted(ranked, key=lambda pair: -pair[1])
        labels = [{"label": label, "probability": round(p, 6)} for label, p in ranked]
        return _Json({"labels": labels})

    async def embeddings(self, asked: schemas.EmbeddingsRequest, request: Request) -> _Json:
        """Encode texts and pictures to unit vectors, as OpenAI's clients ask for it."""
        name, dim = self._shop.manifest.model, self._shop.manifest.dim
        if asked.model not in {None, name}:
            _not_found(f"the model here is {name!r}, not {asked.model!r}")
        if asked.dimensions not in {None, dim}:
            _refuse(f"this model's vectors have {dim} numbers; leave dimensions out")
        wanted = [asked.input] if isinstance(asked.input, str) else asked.input
        request.state.n = self._at_most("the number of inputs", len(wanted), self._settings.batch)
        if not wanted:
            _refuse("input holds nothing to encode")
        inputs = await _at_once(self._input(one, i, asked.modality) for i, one in enumerate(wanted))
        for wrong in inputs:
            if isinstance(wrong, Exception):
                raise wrong
        vectors = await self._shop.embed([one for one in inputs if isinstance(one, str | bytes)])
        is_packed = asked.encoding_format == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": _packed(vector) if is_packed else vector.tolist(),
            }
            for i, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}  # nobody pays by the token here
        return _Json({"object": "list", "data": data, "model": name, "usage": usage})

    async def product(self, product_id: str) -> _Json:
        """One product's columns."""
        hit = await self._shop.product(product_id)
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
        """The products that look most like one."""
        query = Query(
            like=(product_id,),
            where=where,
            k=self._at_most("k", k, self._settings.k),
            offset=self._at_most("offset", offset, self._settings.offset),
        )
        page = await self._shop.search(query)
        return _hits(page.hits, has_more=page.has_more)

    async def put(self, asked: schemas.PutRequest, request: Request) -> _Json:
        """Store products, replacing those of the same ids; answered when they are on disk."""
        request.state.n = self._at_most(
            "the number of products", len(asked.products), self._settings.batch
        )
        new: list[NewProduct] = []
        rejected: list[dict[str, str]] = []
        pictures = await _at_once(self._picture_of(product) for product in asked.products)
        for product, picture in zip(asked.products, pictures, strict=True):
            if isinstance(picture, BusyError):
                raise picture  # the same request will do in a moment
            if isinstance(picture, Exception):
                rejected.append({"id": product.id, "reason": one_line(picture)})
            else:
                new.append(NewProduct(product.id, picture, product.columns, product.caption))
        refusals = await self._shop.put(new) if new else []
        stored = len(new) - len(refusals)
        rejected += [{"id": one.product_id, "reason": one.reason} for one in refusals]
        outcome: dict[str, Any] = {"stored": stored, "rejected": rejected}
        if stored:
            return _Json(outcome)
        message = "none of the products could be stored; rejected says why"
        outcome["error"] = {"code": "invalid", "message": message}
        outcome["error"]["request_id"] = request.state.request_id
        return _Json(outcome, HTTPStatus.UNPROCESSABLE_ENTITY)

    async def remove(
        self, request: Request, ids: Annotated[list[str], QueryParameter(alias="id", min_length=1)]
    ) -> _Json:
        """Take products out: ``?id=A-17&id=A-18``."""
        request.state.n = self._at_most("the number of ids", len(ids), self._settings.k)
        return _Json({"removed": await self._shop.remove(ids)})

    async def image(
        self,
        request: Request,
        product_id: str,
        width: Annotated[int, QueryParameter(ge=1, le=10_000)] = DEFAULT_WIDTH_PX,
    ) -> Response:
        """A product's picture as a JPEG of about this width in pixels."""
        tag = self._shop.thumbnail_tag(product_id, width)
        headers = {"Cache-Control": f"private, max-age={IMAGE_SECONDS}", "ETag": f'"{tag}"'}
        asked = request.headers.get("if-none-match", "")
        if tag is not None and (asked == "*" or f'"{tag}"' in asked):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        found = await self._shop.thumbnail(product_id, width)
        if found is None:
            _not_found(f"there is no picture of {product_id!r} here")
        return Response(found, media_type="image/jpeg", headers=headers)

    async def health(self) -> _Json:
        """Whether the process answers."""
        return _Json({"status": "ok"})

    async def ready(self) -> _Json:
        """Whether searches are answered, and from what is on disk now (``ready``) or was.

        ``stale`` is no reason to send customers elsewhere: it answers from what it holds.
        """
        return _Json(
            {
                "status": "stale" if self._shop.fault else "ready",
                "products": self._shop.count,
                "model": self._shop.manifest.model,
            }
        )

    async def figures(self) -> Response:
        """What the service counts, for Prometheus."""
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    async def _input(self, one: str | schemas.EmbeddingInput, i: int, modality: str) -> str | bytes:
        """One input as the model takes it.

        Raises:
            ValueError: it says nothing, or too much.
            ImageFetchError, ImageError: its picture cannot be had.
        """
        if isinstance(one, str):
            if modality == "image" or one[:11].lower() == "data:image/":
                is_address = "://" in one[:16] or one[:5].lower() == "data:"
                picture = await self._picture(*((None, one) if is_address else (one, None)))
                return picture or b""
            self._check_texts([one])
            return one
        given = [name for name in ("text", "image", "image_url") if getattr(one, name) is not None]
        if len(given) != 1:
            _refuse(f"input {i} holds {' and '.join(given) or 'nothing'}; give one thing")
        if one.text is not None:
            self._check_texts([one.text])
            return one.text
        address = one.image_url
        url = address.url if isinstance(address, schemas.ImageReference) else address
        return await self._picture(one.image, url) or b""

    async def _picture_of(self, product: schemas.ProductIn) -> bytes:
        """The encoded picture of a product to store.

        Raises:
            ValueError: its caption is too long.
            ImageFetchError, ImageError: its picture cannot be had.
        """
        self._check_texts([product.caption, *map(str, product.columns.values())])
        return await self._picture(product.image, product.image_url) or b""

    async def _picture(
        self, image: str | None, image_url: str | None, *, is_needed: bool = True
    ) -> bytes | None:
        """The encoded picture of a request.

        Raises:
            ImageError: both or none are given, or it is no base64 of anything.
            ImageFetchError: it cannot be fetched.
        """
        if image is not None and image_url is not None:
            message = "image and image_url are both given; give one"
            raise ImageError(message)
        if image is not None:
            if len(image) < DECODED_HERE:
                return _decoded(image)
            return await asyncio.to_thread(_decoded, image)
        if image_url is not None:
            return await self._shop.fetch(image_url)
        if is_needed:
            message = "there is no picture; give image (base64) or image_url"
            raise ImageError(message)
        return None

    def _check_texts(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._at_most("the length of a text", len(text), self._settings.text_chars)

    @staticmethod
    def _at_most(what: str, number: int, limit: int) -> int:
        if number > limit:
            _refuse(f"{what} is {number:,}; {limit:,} is the most here")
        return number


async def _at_once(work: Iterable[Coroutine[Any, Any, T]]) -> list[T | Exception]:
    """Do several things, a few at a time; an error stands in its place and costs nothing else."""
    some = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def one(part: Coroutine[Any, Any, T]) -> T | Exception:
        async with some:
            try:
                return await part
            except (FashionCLIPError, ValueError) as exc:
                return exc

    return await asyncio.gather(*map(one, work))


def _decoded(image: str) -> bytes:
    """The bytes of a picture in base64.

    Raises:
        ImageError: it is not base64, or of nothing.
    """
    if image[:11].lower() == "data:image/":
        image = image.partition(",")[2]
    try:
        picture = base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as exc:
        message = "image is not base64; send the encoded picture (JPEG, PNG, …) in base64"
        raise ImageError(message) from exc
    if not picture:
        message = "image is empty; send the encoded picture (JPEG, PNG, …) in base64"
        raise ImageError(message)
    return picture


def _refuse(message: str) -> NoReturn:
    """Say what is wrong with a request.

    Raises:
        ValueError: always.
    """
    raise ValueError(message)


def _not_found(message: str) -> NoReturn:
    """Say that something is not here.

    Raises:
        ProductNotFoundError: always.
    """
    raise ProductNotFoundError(message)


def _hits(hits: Iterable[Hit], *, has_more: bool) -> _Json:
    found: list[dict[str, Any]] = [hit_fields(hit) for hit in hits]
    return _Json({"hits": found, "has_more": has_more})


def _packed(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
