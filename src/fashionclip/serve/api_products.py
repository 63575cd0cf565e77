"""The API's routes that change products: parse a request, call the service, answer."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter

from fashionclip.errors import BusyError
from fashionclip.serve.http_errors import client_message
from fashionclip.serve.inputs import Inputs, Json, gather, limited
from fashionclip.serve.routing import add_route
from fashionclip.serve.schemas import answers, requests
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.writes import NewProduct

_PUT: dict[int | str, dict[str, Any]] = {
    422: {
        "model": answers.PutRefused | answers.ProblemOut,
        "description": "No product could be stored, or the request is not valid.",
    }
}


def add_routes(router: APIRouter, services: Services, settings: Settings) -> None:
    """Add the routes that change products.

    Args:
        router: the API's.
        services: store and delete.
        settings: the service's limits.
    """
    products = _Products(services, settings)
    path, full = "/products", answers.error_responses(507)
    add = partial(add_route, router)
    add(
        "PUT",
        path,
        products.put,
        "putProducts",
        "products",
        model=answers.PutResult,
        responses=_PUT | full,
    )
    add(
        "DELETE",
        path,
        products.remove,
        "deleteProducts",
        "products",
        model=answers.Removed,
        responses=full,
    )


class _Products:
    """Answers the requests that change products."""

    def __init__(self, services: Services, settings: Settings) -> None:
        self._services, self._settings = services, settings
        self._inputs = Inputs(services, settings)

    @property
    def _service(self) -> SearchService:
        return self._services.current

    async def put(
        self, body: requests.PutRequest, request: Request, add_columns: requests.AddColumns = False
    ) -> Json:
        """Store products, replacing those of the same ids; answered when they are on disk."""
        request.state.n = limited(
            "the number of products", len(body.products), self._settings.batch
        )
        new: list[NewProduct] = []
        rejected: list[dict[str, str]] = []
        images = await gather(self._image(product) for product in body.products)
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
            return Json(result)
        message = "no product could be stored; rejected says why"
        request_id = request.state.request_id
        result["error"] = {"code": "invalid", "message": message, "request_id": request_id}
        return Json(result, HTTPStatus.UNPROCESSABLE_ENTITY)

    async def remove(
        self, request: Request, ids: Annotated[list[str], QueryParameter(alias="id", min_length=1)]
    ) -> Json:
        """Delete products: ``?id=A-17&id=A-18``."""
        request.state.n = limited("the number of ids", len(ids), self._settings.k)
        return Json({"removed": await self._service.remove(ids)})

    async def _image(self, product: requests.ProductIn) -> bytes:
        """The encoded image of a product to store.

        Raises:
            ValueError: a text of the product is too long.
            ImageFetchError, ImageError: its image cannot be read.
        """
        self._inputs.check_texts([product.caption, *map(str, product.columns.values())])
        return await self._inputs.image(product.image, product.image_url) or b""
