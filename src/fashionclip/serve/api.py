"""The API's routes: read a request, ask the shop, write the answer.

Answers are written as they are, without being validated against their own description: that costs
as much as the search.
"""

import asyncio
import base64
import binascii
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any, NoReturn

import numpy as np
from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.responses import JSONResponse, Response

from fashionclip.errors import FashionCLIPError, ImageError, ProductNotFoundError
from fashionclip.product import Hit, hit_fields
from fashionclip.serve import schemas
from fashionclip.serve.fetching import fetch_image
from fashionclip.serve.metrics import CONTENT_TYPE, Metrics
from fashionclip.serve.schemas import problem_responses
from fashionclip.serve.settings import Settings
from fashionclip.serve.shop import Query, Shop
from fashionclip.serve.updates import NewProduct

IMAGE_SECONDS = 300  # a browser keeps a thumbnail before it asks whether it has changed
DEFAULT_WIDTH_PX = 400
_MISTAKES = (400, 401, 408, 413, 415, 421, 422, 429, 503)

Where = Annotated[schemas.Where | None, QueryParameter()]


def create_router(shop: Shop, settings: Settings, metrics: Metrics) -> APIRouter:
    """The routes of the API.

    Args:
        shop: what is searched.
        settings: the service's limits.
        metrics: what ``/metrics`` shows.
    """
    api = _Api(shop, settings, metrics)
    router = APIRouter(responses=problem_responses(*_MISTAKES))
    add = router.add_api_route
    add("/search", api.search, methods=["POST"], response_model=schemas.Hits, tags=["search"])
    add("/classify", api.classify, methods=["POST"], response_model=schemas.Labels, tags=["model"])
    add(
        "/v1/embeddings",
        api.embeddings,
        methods=["POST"],
        response_model=schemas.Embeddings,
        tags=["model"],
        responses=problem_responses(404),
    )
    not_found = problem_responses(404)
    add(
        "/products/{product_id:path}/similar",
        api.similar,
        methods=["GET"],
        response_model=schemas.Hits,
        tags=["search"],
        responses=not_found,
    )
    add(
        "/products/{product_id:path}",
        api.product,
        methods=["GET"],
        response_model=schemas.ProductOut,
        tags=["products"],
        responses=not_found,
    )
    add(
        "/products",
        api.put,
        methods=["PUT"],
        response_model=schemas.PutResult,
        tags=["products"],
        responses=problem_responses(403),
    )
    add(
        "/products",
        api.remove,
        methods=["DELETE"],
        response_model=schemas.Removed,
        tags=["products"],
        responses=problem_responses(403),
    )
    add(
        "/images/{product_id:path}",
        api.image,
        methods=["GET"],
        response_class=Response,
        tags=["products"],
        responses={
            200: {"content": {"image/jpeg": {}}, "description": "A JPEG."},
            304: {"description": "The browser has it already."},
            **not_found,
        },
    )
    add("/health", api.health, methods=["GET"], response_model=schemas.Health, tags=["service"])
    add("/ready", api.ready, methods=["GET"], response_model=schemas.Health, tags=["service"])
    add(
        "/metrics",
        api.figures,
        methods=["GET"],
        response_class=Response,
        tags=["service"],
        responses={200: {"content": {"text/plain": {}}, "description": "For Prometheus."}},
    )
    return router


class _Api:
    """Answers the API's requests."""

    def __init__(self, shop: Shop, settings: Settings, metrics: Metrics) -> None:
        self._shop, self._settings, self._metrics = shop, settings, metrics

    async def search(self, asked: schemas.SearchRequest, request: Request) -> JSONResponse:
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

    async def classify(self, asked: schemas.ClassifyRequest, request: Request) -> JSONResponse:
        """Say which of some labels fits a picture."""
        request.state.n = 1
        self._at_most("the number of labels", len(asked.labels), self._settings.batch)
        self._check_texts(asked.labels)
        templates = asked.templates
        self._check_texts([templates] if isinstance(templates, str) else templates or [])
        self._at_most("the number of templates", len(templates or ()), self._settings.text_chars)
        picture = await self._picture(asked.image, asked.image_url)
        ranked = await self._shop.classify(picture or b"", asked.labels, templates)
        ranked = sorted(ranked, key=lambda pair: -pair[1])
        labels = [{"label": label, "probability": round(p, 6)} for label, p in ranked]
        return JSONResponse({"labels": labels})

    async def embeddings(self, asked: schemas.EmbeddingsRequest, request: Request) -> JSONResponse:
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
        inputs = [await self._input(one, i, asked.modality) for i, one in enumerate(wanted)]
        vectors = await self._shop.embed(inputs)
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
        return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})

    async def product(self, product_id: str) -> JSONResponse:
        """One product's columns."""
        hit = await self._shop.product(product_id)
        if hit is None:
            _not_found(f"there is no product {product_id!r} here")
        fields = {name: value for name, value in hit_fields(hit).items() if name != "score"}
        return JSONResponse(fields)

    async def similar(
        self,
        product_id: str,
        where: Where = None,
        k: Annotated[int, QueryParameter(ge=1)] = 10,
        offset: Annotated[int, QueryParameter(ge=0)] = 0,
    ) -> JSONResponse:
        """The products that look most like one."""
        query = Query(
            like=(product_id,),
            where=where,
            k=self._at_most("k", k, self._settings.k),
            offset=self._at_most("offset", offset, self._settings.offset),
        )
        page = await self._shop.search(query)
        return _hits(page.hits, has_more=page.has_more)

    async def put(self, asked: schemas.PutRequest, request: Request) -> JSONResponse:
        """Store products, replacing those of the same ids; answered when they are on disk."""
        request.state.n = self._at_most(
            "the number of products", len(asked.products), self._settings.batch
        )
        new: list[NewProduct] = []
        rejected: list[dict[str, str]] = []
        for product in asked.products:
            try:
                self._check_texts([product.caption])
                picture = await self._picture(product.image, product.image_url)
            except (FashionCLIPError, ValueError) as exc:
                rejected.append({"id": product.id, "reason": str(exc)})
            else:
                new.append(NewProduct(product.id, picture or b"", product.columns, product.caption))
        refusals = await self._shop.put(new) if new else []
        stored = len(new) - len(refusals)
        rejected += [{"id": one.product_id, "reason": one.reason} for one in refusals]
        status = HTTPStatus.OK if stored else HTTPStatus.BAD_REQUEST
        return JSONResponse({"stored": stored, "rejected": rejected}, status)

    async def remove(
        self, request: Request, ids: Annotated[list[str], QueryParameter(alias="id", min_length=1)]
    ) -> JSONResponse:
        """Take products out: ``?id=A-17&id=A-18``."""
        request.state.n = self._at_most("the number of ids", len(ids), self._settings.k)
        return JSONResponse({"removed": await self._shop.remove(ids)})

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

    async def health(self) -> JSONResponse:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self) -> JSONResponse:
        """Whether searches are answered from what is on disk."""
        fault = self._shop.fault
        return JSONResponse(
            {
                "status": "the index on disk cannot be followed" if fault else "ready",
                "products": self._shop.count,
                "model": self._shop.manifest.model,
            },
            HTTPStatus.SERVICE_UNAVAILABLE if fault else HTTPStatus.OK,
        )

    async def figures(self) -> Response:
        """What the service counts, for Prometheus."""
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    async def _input(self, one: str | schemas.EmbeddingInput, i: int, modality: str) -> str | bytes:
        """One input as the model takes it.

        Raises:
            ValueError: it says nothing, or too much.
            PictureError, ImageError: its picture cannot be had.
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

    async def _picture(
        self, image: str | None, image_url: str | None, *, is_needed: bool = True
    ) -> bytes | None:
        """The encoded picture of a request.

        Raises:
            ImageError: both or none are given, or it is not base64.
            PictureError: it cannot be fetched.
        """
        if image is not None and image_url is not None:
            message = "image and image_url are both given; give one"
            raise ImageError(message)
        if image is not None:
            if image[:11].lower() == "data:image/":
                image = image.partition(",")[2]
            try:
                return base64.b64decode(image, validate=True)
            except (binascii.Error, ValueError) as exc:
                message = "image is not base64; send the encoded picture (JPEG, PNG, …) in base64"
                raise ImageError(message) from exc
        if image_url is not None:
            return await asyncio.to_thread(fetch_image, image_url, self._settings)
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


def _hits(hits: Iterable[Hit], *, has_more: bool) -> JSONResponse:
    found: list[dict[str, Any]] = [hit_fields(hit) for hit in hits]
    return JSONResponse({"hits": found, "has_more": has_more})


def _packed(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
