"""The API's routes that change products: parse a request, call the service, answer."""

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Query as QueryParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response

from fashionclip.errors import BusyError
from fashionclip.serve.bulk import Bulk
from fashionclip.serve.http_errors import client_message
from fashionclip.serve.idempotency import MAX_KEY_CHARS, IdempotencyKeys
from fashionclip.serve.inputs import (
    Inputs,
    Json,
    gather,
    limited,
    not_found,
    product_json,
    reject,
)
from fashionclip.serve.middleware.limits import NDJSON
from fashionclip.serve.routing import add_route, answering_once
from fashionclip.serve.schemas import answers, requests
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.validation import OWN_MESSAGE
from fashionclip.serve.writes import Deletion, NewProduct, Outcome, Patch

Ids = Annotated[
    list[str] | None, QueryParameter(alias="id", description="Products to delete; give id or where")
]
WhereToDelete = Annotated[
    str | None,
    QueryParameter(
        description="Delete the products that pass this filter, if expect is their number."
    ),
]
Expect = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        description="How many products pass the filter. Without it, or with another number, "
        "nothing is deleted, and the answer has the number (409).",
    ),
]


_STRING = {"type": "string"}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Any text, new for each change. A request that is sent again with its key "
    "within 24 hours changes nothing more and gets the first answer again, with the header "
    "Idempotency-Replayed: true.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
}
_LINES = {
    "schema": _STRING,
    "example": '{"id": "A-17", "columns": {"price": 29.9}}\n{"id": "A-18", "delete": true}\n',
}
_REPORT = {
    "schema": _STRING,
    "example": '{"line": 1, "id": "A-17", "status": "patched"}\n'
    '{"line": 2, "id": "A-18", "status": "deleted"}\n'
    '{"lines": 2, "stored": 0, "patched": 1, "deleted": 1, "missing": 0, "rejected": 0}\n',
}


def add_routes(router: APIRouter, services: Services, settings: Settings) -> None:
    """Add the routes that change products.

    Args:
        router: the API's.
        services: store, change and delete.
        settings: the service's limits.
    """
    products = _Products(services, settings)
    path, full = "/products", answers.error_responses(409, 507)
    folder = None if settings.uploads is None else settings.uploads / "idempotency"
    add = partial(
        add_route,
        router,
        route_class=answering_once(IdempotencyKeys(folder), lambda: _store_of(services)),
        openapi_extra={"parameters": [_IDEMPOTENCY_KEY]},
    )
    add(
        "PUT",
        path,
        products.put,
        "putProducts",
        "products",
        model=answers.PutResult,
        responses=_refused(answers.PutRefused, "stored") | full,
    )
    add_route(
        router,
        "POST",
        "/products/bulk",
        products.bulk,
        "changeProductsInBulk",
        "products",
        responses={
            status: {"description": text, "content": {NDJSON: _REPORT}}
            for status, text in ((200, "A line for each line, and a last one with the numbers."),)
        },
        has_old_path=False,
        openapi_extra={"requestBody": {"required": True, "content": {NDJSON: _LINES}}},
    )
    add(
        "PATCH",
        path,
        products.patch_many,
        "patchProducts",
        "products",
        model=answers.PatchResult,
        responses=_refused(answers.PatchRefused, "changed") | full,
        has_old_path=False,
    )
    add(
        "PATCH",
        "/products/{product_id:path}",
        products.patch,
        "patchProduct",
        "products",
        model=answers.ProductOut,
        responses=answers.error_responses(404) | full,
        has_old_path=False,
    )
    add(
        "DELETE",
        path,
        products.delete,
        "deleteProducts",
        "products",
        model=answers.Removed,
        responses=full
        | {
            409: {
                "model": answers.NotExpected,
                "description": "Another number of products passes the filter.",
            }
        },
    )


def _refused(model: type[answers.ProblemOut], done: str) -> dict[int | str, dict[str, Any]]:
    description = f"No product could be {done}, or the request is not valid."
    return {422: {"model": model | answers.ProblemOut, "description": description}}


class _Products:
    """Answers the requests that change products."""

    def __init__(self, services: Services, settings: Settings) -> None:
        self._services, self._settings = services, settings
        self._inputs, self._bulk = Inputs(services, settings), Bulk(services, settings)

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
        outcomes = await self._service.write(new) if new else []
        return self._report(request, "stored", outcomes, rejected)

    async def patch_many(
        self,
        body: requests.PatchesRequest,
        request: Request,
        add_columns: requests.AddColumns = False,
    ) -> Json:
        """Change columns of products, without their images; searches see it at once."""
        request.state.n = limited(
            "the number of products", len(body.products), self._settings.batch
        )
        patches: list[Patch] = []
        rejected: list[dict[str, str]] = []
        for one in body.products:
            try:
                patches.append(self._patch(one.id, one, add_columns=add_columns))
            except ValueError as exc:
                rejected.append({"id": one.id, "reason": str(exc)})
        outcomes = await self._service.write(patches) if patches else []
        return self._report(request, "patched", outcomes, rejected)

    async def patch(
        self,
        product_id: str,
        body: requests.PatchRequest,
        request: Request,
        add_columns: requests.AddColumns = False,
    ) -> Json:
        """Change columns of a product, without its image, and return the product.

        The next run of `fashionclip index` writes what the catalogue says: change it there too.
        """
        request.state.n = 1
        patch = self._patch(product_id, body, add_columns=add_columns)
        (outcome,) = await self._service.write([patch])
        if outcome.status == "rejected":
            reject(outcome.reason)
        product = await self._service.product(product_id)
        if outcome.status == "missing" or product is None:
            not_found(self._service.no_product(product_id))
        return product_json(product)

    async def bulk(self, request: Request, add_columns: requests.AddColumns = False) -> Response:
        """Store, change and delete any number of products: a JSON object on each line.

        A line with `image` or `image_url` stores a product, one with `delete` deletes it, and any
        other changes its `columns`. A wrong line costs only itself. The answer comes when the body
        has ended: a line for each, in their order, with its `status` (stored, patched, deleted,
        missing, rejected) and `reason`, and a last line with the numbers.
        """
        if "idempotency-key" in request.headers:
            reject("a bulk takes no Idempotency-Key: sent again, it changes the same ids again")
        return await self._bulk.answer(request, add_columns=add_columns)

    async def delete(
        self,
        request: Request,
        ids: Ids = None,
        where: WhereToDelete = None,
        expect: Expect = None,
    ) -> Json:
        """Delete products by their ids, `?id=A-17&id=A-18`, or by a filter.

        With a filter, ask once without `expect`: the answer (409) says how many products pass it.
        Send the same with `expect` to delete them.
        """
        _check_one_is_given(ids, where, expect)
        if ids:
            limited("the number of ids", len(ids), self._settings.k)
        else:
            ids = list(await self._service.ids(where or ""))
            if len(ids) != expect:
                return _not_expected(request, len(ids))
        request.state.n = len(ids)
        outcomes = await self._service.write([Deletion(name) for name in ids]) if ids else []
        return Json({"removed": sum(one.status == "deleted" for one in outcomes)})

    def _report(
        self,
        request: Request,
        done: str,
        outcomes: Sequence[Outcome],
        rejected: list[dict[str, str]],
    ) -> Json:
        """How many changes were made, and the others with their reasons; 422 if none was."""
        n_done = sum(one.status == done for one in outcomes)
        for one in outcomes:
            if one.status != done:
                reason = one.reason or self._service.no_product(one.product_id)
                rejected.append({"id": one.product_id, "reason": reason})
        result: dict[str, Any] = {done: n_done, "rejected": rejected}
        if n_done:
            return Json(result)
        message = f"no product could be {done}; rejected says why"
        result["error"] = _error(request, "invalid", message)
        return Json(result, HTTPStatus.UNPROCESSABLE_ENTITY)

    def _patch(self, product_id: str, body: requests.PatchRequest, *, add_columns: bool) -> Patch:
        """A change from a request.

        Raises:
            ValueError: a text is too long.
        """
        self._inputs.check_texts([body.caption or "", *map(str, body.columns.values())])
        return Patch(product_id, body.columns, body.caption, add_columns)

    async def _image(self, product: requests.ProductIn) -> bytes:
        """The encoded image of a product to store.

        Raises:
            ValueError: a text of the product is too long.
            ImageFetchError, ImageError: its image cannot be read.
        """
        self._inputs.check_texts([product.caption, *map(str, product.columns.values())])
        return await self._inputs.image(product.image, product.image_url) or b""


def _check_one_is_given(ids: list[str] | None, where: str | None, expect: int | None) -> None:
    """Check that a deletion has either ids or a filter.

    Raises:
        RequestValidationError: it has both or none, or a number without a filter.
    """
    if (where is None) == (not ids) or (expect is not None and where is None):
        message = "give ids of products (id), or a filter (where) and how many pass it (expect)"
        fault = {"type": OWN_MESSAGE, "loc": ("query",), "msg": message}
        raise RequestValidationError([fault])


def _store_of(services: Services) -> str:
    """The store that this request changes: one that is made anew is another."""
    meta = services.current.meta
    return f"{meta.uri} {meta.created}"


def _not_expected(request: Request, count: int) -> Json:
    are = "1 product passes" if count == 1 else f"{count:,} products pass"
    message = f"{are} this filter; send expect={count} to delete {'it' if count == 1 else 'them'}"
    error = _error(request, "not_expected", message)
    return Json({"error": error, "count": count}, HTTPStatus.CONFLICT)


def _error(request: Request, code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message, "request_id": request.state.request_id}
