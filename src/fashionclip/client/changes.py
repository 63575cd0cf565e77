"""``Changes``: the methods of ``Client`` that store, change and delete products."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from fashionclip.client.answers import (
    BulkResult,
    Deletion,
    NewProduct,
    Patch,
    PutResult,
    Rejection,
    read_hit,
)
from fashionclip.client.connection import Connection, json_object, refuse
from fashionclip.client.parts import MAX_ITEMS_PER_REQUEST, chunks, image_field, in_path
from fashionclip.errors import ServiceError
from fashionclip.product import Hit, Value


class Changes:
    """Changes of products through a connection."""

    def __init__(self, connection: Connection) -> None:
        """Store the connection."""
        self._connection = connection

    def put(
        self,
        products: Iterable[NewProduct],
        *,
        add_columns: bool = False,
        idempotency_key: str | None = None,
    ) -> PutResult:
        """Store products, replacing those of the same ids; searches find them when this returns.

        A long list is sent in several requests. If one of them fails, the earlier ones are stored,
        and it is safe to put all products again.

        Args:
            products: the products.
            add_columns: add columns that the catalogue does not have; otherwise a product with
                an unknown column is rejected.
            idempotency_key: a text of your own, new for each change; a call that is repeated with
                it within 24 hours changes nothing more.

        Raises:
            RefusedError: the service rejects the request.
            ServiceError: the service cannot be reached.
            ImageError: an image file cannot be read.
        """
        items = (_product_fields(product) for product in products)
        path = "/v1/products" + _adding(add_columns)
        stored, rejected = 0, list[Rejection]()
        for i, chunk in enumerate(chunks(items)):
            key = None if idempotency_key is None else f"{idempotency_key}-{i}"
            reply = self._connection.send_patiently("PUT", path, {"products": chunk}, key=key)
            result = json_object(reply)
            if "stored" not in result:
                refuse(reply)
            stored += result["stored"]
            rejected += [Rejection(one["id"], one["reason"]) for one in result["rejected"]]
        return PutResult(stored, tuple(rejected))

    def patch(
        self,
        product_id: str,
        columns: Mapping[str, Value],
        *,
        caption: str | None = None,
        add_columns: bool = False,
        idempotency_key: str | None = None,
    ) -> Hit:
        """Change columns of a product, without its image; searches see it when this returns.

        Args:
            product_id: the product.
            columns: new values by column or role; None removes a value, and others stay.
            caption: a new caption; None keeps one that was given, and builds others anew.
            add_columns: add columns that the catalogue does not have.
            idempotency_key: a text of your own, new for each change; a call that is repeated with
                it within 24 hours changes nothing more.

        Returns:
            The product as it is now, with a score of 1.

        Raises:
            RefusedError: there is no such product (``code`` is ``not_found``), or a value does not
                fit its column.
            ServiceError: the service cannot be reached.
        """
        path = f"/v1/products/{in_path(product_id)}" + _adding(add_columns)
        body: dict[str, Any] = {"columns": dict(columns)}
        if caption is not None:
            body["caption"] = caption
        return read_hit(self._connection.json("PATCH", path, body, key=idempotency_key))

    def bulk(
        self, changes: Iterable[NewProduct | Patch | Deletion], *, add_columns: bool = False
    ) -> BulkResult:
        """Make any number of changes in one request, in their order.

        They are sent as they come from the iterable, so that a long list needs no memory. If the
        request fails, some of them may have been made; it is safe to send all again.

        Args:
            changes: products to store, to change and to delete.
            add_columns: add columns that the catalogue does not have.

        Raises:
            RefusedError: the service rejects the request.
            ServiceError: the service cannot be reached, or gave up before the end.
            ImageError: an image file cannot be read.
        """
        lines = (json.dumps(_bulk_line(one)).encode() + b"\n" for one in changes)
        reply = self._connection.send_lines("/v1/products/bulk" + _adding(add_columns), lines)
        *report, summary = map(json.loads, reply.content.splitlines())
        if "error" in summary:
            raise ServiceError(summary["error"])
        rejected = [Rejection(one["id"] or "", one["reason"]) for one in report if "reason" in one]
        stored, patched, deleted = (summary[one] for one in ("stored", "patched", "deleted"))
        return BulkResult(stored, patched, deleted, tuple(rejected))

    def delete(self, where: str, *, expect: int, idempotency_key: str | None = None) -> int:
        """Delete the products that pass a filter, if they are as many as expected.

        Args:
            where: a filter over the catalogue's columns.
            expect: how many pass it: ``search(where=where, total=True).total``.
            idempotency_key: a text of your own, new for each change; a call that is repeated with
                it within 24 hours changes nothing more.

        Returns:
            How many were deleted.

        Raises:
            RefusedError: another number passes it (``code`` is ``not_expected``, and the message
                says how many); then nothing is deleted.
            ServiceError: the service cannot be reached.
        """
        query = urlencode({"where": where, "expect": expect})
        path = f"/v1/products?{query}"
        removed: int = self._connection.json("DELETE", path, key=idempotency_key)["removed"]
        return removed

    def remove(self, product_ids: Iterable[str]) -> int:
        """Delete products and return how many of them were stored.

        Raises:
            RefusedError: the service rejects the request.
            ServiceError: the service cannot be reached.
        """
        pairs = [("id", product_id) for product_id in product_ids]
        starts = range(0, len(pairs), MAX_ITEMS_PER_REQUEST)
        queries = [urlencode(pairs[i : i + MAX_ITEMS_PER_REQUEST]) for i in starts]
        return sum(
            self._connection.json("DELETE", f"/v1/products?{query}")["removed"] for query in queries
        )


def _product_fields(product: NewProduct) -> dict[str, Any]:
    """A product as a request carries it."""
    return {
        "id": product.product_id,
        "caption": product.caption,
        "columns": dict(product.columns),
        **image_field(product.image),
    }


def _bulk_line(change: NewProduct | Patch | Deletion) -> dict[str, Any]:
    """A change as a line of a bulk request."""
    if isinstance(change, NewProduct):
        return _product_fields(change)
    if isinstance(change, Deletion):
        return {"id": change.product_id, "delete": True}
    caption = {} if change.caption is None else {"caption": change.caption}
    return {"id": change.product_id, "columns": dict(change.columns), **caption}


def _adding(add_columns: bool) -> str:
    """The query of a request that may add columns."""
    return "?add_columns=true" if add_columns else ""
