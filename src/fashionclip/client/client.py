"""``Client``: a method per endpoint of the service."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from jaxtyping import Float32

from fashionclip.client.answers import (
    Hits,
    ImageInput,
    Label,
    Mode,
    NewProduct,
    PutResult,
    Rejection,
    ServedModel,
    ServiceStatus,
    read_hit,
    read_hits,
)
from fashionclip.client.connection import Connection, json_object, refuse
from fashionclip.errors import ImageError
from fashionclip.product import Hit

MAX_ITEMS_PER_REQUEST = 64
"""Inputs, products or ids; longer lists are sent in several requests."""
MAX_IMAGE_BYTES_PER_REQUEST = 12_000_000  # in base64; the service's own limit is 20 MB a body
PAGE_SIZE = 100
"""Hits of a request of ``Client.search_all``."""


class Client:
    """A client of one service; safe to use from several threads."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 15.0,
    ) -> None:
        """Store the address; nothing is sent yet.

        Args:
            url: the service's address.
            key: an API key, if the service requires one.
            timeout_s: limit for connecting, sending, and each wait for an answer.
            patience_s: total time that one call may wait to repeat a request that the service was
                too busy for (429 or 503); each wait is as long as ``Retry-After`` says. With 0 a
                request is never repeated.

        Raises:
            ValueError: the URL is not an http(s) URL.
        """
        self._connection = Connection(url, key=key, timeout_s=timeout_s, patience_s=patience_s)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> "Client":
        """Return the client; the ``with`` block closes its connections."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageInput | None = None,
        similar_to: Sequence[str] = (),
        unlike: Sequence[str] = (),
        avoid: Sequence[str] = (),
        where: str | None = None,
        weight: float = 0.5,
        mode: Mode | None = None,
        sort: str | None = None,
        group: bool = False,
        diversity: float = 0.0,
        k: int = 10,
        offset: int = 0,
        cursor: str | None = None,
        fields: str | Sequence[str] | None = None,
        facets: str | Sequence[str] | None = None,
        total: bool = False,
        explain: bool = False,
        hybrid: bool | None = None,
    ) -> Hits:
        """Search for products; without a query, list those that pass the filter.

        Args:
            text: words.
            image: a query image.
            similar_to: ids of products that hits should resemble; they are not hits themselves.
            unlike: ids of products that hits should not resemble; not hits themselves either.
            avoid: phrases that describe what hits should not show.
            where: a filter over the catalogue's columns, such as ``price < 50``.
            weight: weight of the text in 0…1 when there are a text and an image.
            mode: what the text is compared with; None is the service's default.
            sort: a column or role to sort what fits by, descending with ``-`` before it.
            group: only the best hit of each group of variants.
            diversity: how much hits that look like earlier ones are put back, in 0…1.
            k: number of hits, at least 1.
            offset: number of hits to skip; ``cursor`` is better for many pages.
            cursor: ``Hits.cursor`` of the page before, with the same query.
            fields: columns or roles that hits have; None for all.
            facets: columns or roles to count the values of, ``"*"`` for all of them.
            total: whether to count the products that fit.
            explain: whether hits say why they are there.
            hybrid: the older name of ``mode``: True for ``hybrid``, False for ``vectors``.

        Raises:
            RefusedError: the service rejects the request; the message says why.
            ServiceError: the service cannot be reached.
            ImageError: the image file cannot be read.
        """
        given = {
            "text": text,
            "where": where,
            "mode": mode,
            "hybrid": hybrid,
            "sort": sort,
            "cursor": cursor,
            "fields": [fields] if isinstance(fields, str) else fields,
            "facets": [facets] if isinstance(facets, str) else facets,
        }
        body: dict[str, Any] = {
            **{name: value for name, value in given.items() if value is not None},
            "similar_to": [*similar_to],
            "unlike": [*unlike],
            "avoid": [*avoid],
            "weight": weight,
            "diversity": diversity,
            "k": k,
            "offset": offset,
            "group": group,
            "total": total,
            "explain": explain,
        }
        if image is not None:
            body |= _image_field(image)
        found = self._connection.json("POST", "/v1/search", body)
        return read_hits(found, has_variants=group, is_explained=explain)

    def search_all(
        self,
        text: str | None = None,
        *,
        k: int = PAGE_SIZE,
        **options: Any,  # noqa: ANN401 - those of search
    ) -> Iterator[Hit]:
        """All hits that fit, page by page; products that change meanwhile cost no other its place.

        Args:
            text: words.
            k: hits of one request.
            **options: those of ``search``, but ``offset`` and ``cursor``.

        Raises:
            RefusedError, ServiceError, ImageError: as ``search``.
        """
        cursor = None
        while True:
            page = self.search(text, k=k, cursor=cursor, **options)
            yield from page.hits[: page.n_relevant]
            cursor = page.cursor
            if cursor is None or page.n_relevant < len(page.hits):
                return

    def similar(self, product_id: str, **options: Any) -> Hits:  # noqa: ANN401 - those of search
        """The products that resemble one most.

        Args:
            product_id: the product; it is no hit itself.
            **options: those of ``search``.

        Raises:
            RefusedError: there is no such product (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        return self.search(similar_to=[product_id], **options)

    def models(self) -> list[ServedModel]:
        """The models that the service encodes with: the one that made its index.

        Raises:
            RefusedError: the key does not allow it.
            ServiceError: the service cannot be reached.
        """
        listed = self._connection.json("GET", "/v1/models")["data"]
        return [ServedModel(one["id"], one["dimensions"]) for one in listed]

    def product(self, product_id: str) -> Hit:
        """One product, with a score of 1.

        Raises:
            RefusedError: there is no such product (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        return read_hit(self._connection.json("GET", f"/v1/products/{_in_path(product_id)}"))

    def image(self, product_id: str, *, width_px: int = 400) -> bytes:
        """A product's image as a JPEG of about this width.

        Raises:
            RefusedError: there is none (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        path = f"/v1/images/{_in_path(product_id)}?{urlencode({'width': width_px})}"
        return self._connection.answer("GET", path).content

    def classify(
        self,
        image: ImageInput,
        labels: Sequence[str],
        *,
        templates: str | Sequence[str] | None = "product",
    ) -> list[Label]:
        """Score labels against an image, most probable first.

        Args:
            image: an image.
            labels: the candidates.
            templates: a named set (``bare``, ``product``, ``ensemble``, ``sentences``), or
                prompts with ``{}``.

        Raises:
            RefusedError: the service rejects the image or the labels.
            ServiceError: the service cannot be reached.
            ImageError: the image file cannot be read.
        """
        body = {"labels": [*labels], "templates": templates, **_image_field(image)}
        if not isinstance(templates, str | None):
            body["templates"] = [*templates]
        ranked = self._connection.json("POST", "/v1/classify", body)["labels"]
        return [Label(one["label"], one["probability"]) for one in ranked]

    def embed(self, inputs: Iterable[str | Path | bytes]) -> Float32[np.ndarray, "n dim"]:
        """Encode texts and images to unit vectors.

        Args:
            inputs: a ``str`` is a text; a ``Path`` or encoded ``bytes`` are an image.

        Returns:
            ``(n, dim)`` float32; row *i* belongs to input *i*. ``(0, 0)`` for no inputs.

        Raises:
            RefusedError: the service rejects an input; the message says which.
            ServiceError: the service cannot be reached.
            ImageError: an image file cannot be read.
        """
        items = ({"text": one} if isinstance(one, str) else _image_field(one) for one in inputs)
        rows: list[np.ndarray] = []
        for chunk in _chunks(items):
            body = {"input": chunk, "encoding_format": "base64"}
            for one in self._connection.json("POST", "/v1/embeddings", body)["data"]:
                rows.append(np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4"))
        return np.stack(rows).astype(np.float32) if rows else np.empty((0, 0), dtype=np.float32)

    def put(self, products: Iterable[NewProduct], *, add_columns: bool = False) -> PutResult:
        """Store products, replacing those of the same ids; searches find them when this returns.

        A long list is sent in several requests. If one of them fails, the earlier ones are stored,
        and it is safe to put all products again.

        Args:
            products: the products.
            add_columns: add columns that the catalogue does not have; otherwise a product with
                an unknown column is rejected.

        Raises:
            RefusedError: the service rejects the request.
            ServiceError: the service cannot be reached.
            ImageError: an image file cannot be read.
        """
        items = (
            {
                "id": product.product_id,
                "caption": product.caption,
                "columns": dict(product.columns),
                **_image_field(product.image),
            }
            for product in products
        )
        path = "/v1/products" + ("?add_columns=true" if add_columns else "")
        stored, rejected = 0, list[Rejection]()
        for chunk in _chunks(items):
            reply = self._connection.send_patiently("PUT", path, {"products": chunk})
            result = json_object(reply)
            if "stored" not in result:
                refuse(reply)
            stored += result["stored"]
            rejected += [Rejection(one["id"], one["reason"]) for one in result["rejected"]]
        return PutResult(stored, tuple(rejected))

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

    def health(self) -> bool:
        """Whether the process answers.

        Raises:
            ServiceError: it cannot be reached.
        """
        return self._connection.send("GET", "/v1/health").status_code == HTTPStatus.OK

    def ready(self) -> ServiceStatus:
        """The service's status, also when it is not ready.

        Raises:
            RefusedError: something else than the service answers.
            ServiceError: it cannot be reached.
        """
        reply = self._connection.send("GET", "/v1/ready")
        fields = json_object(reply)
        if "products" not in fields:
            refuse(reply)
        is_ready = reply.status_code == HTTPStatus.OK
        return ServiceStatus(is_ready, fields["status"], fields["products"], fields["model"])


def _image_field(image: ImageInput) -> dict[str, str]:
    """An image as a field of a request.

    Raises:
        ImageError: its file cannot be read.
    """
    if isinstance(image, str) and image[:8].lower().startswith(("http://", "https://", "data:")):
        return {"image_url": image}
    if isinstance(image, str | Path):
        path = Path(image)
        try:
            image = path.read_bytes()
        except OSError as exc:
            message = f"{path}: cannot be read ({exc.strerror}); check the path"
            raise ImageError(message) from exc
    return {"image": base64.b64encode(image).decode()}


def _chunks(items: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split items into lists that are small enough for one request each."""
    chunk: list[dict[str, Any]] = []
    n_bytes = 0
    for item in items:
        size = len(item.get("image", ""))
        is_full = len(chunk) == MAX_ITEMS_PER_REQUEST
        if chunk and (is_full or n_bytes + size > MAX_IMAGE_BYTES_PER_REQUEST):
            yield chunk
            chunk, n_bytes = [], 0
        chunk.append(item)
        n_bytes += size
    if chunk:
        yield chunk


def _in_path(product_id: str) -> str:
    """An id as one segment of a path; dots too, since ``..`` would name another path."""
    return quote(product_id, safe="").replace(".", "%2E")
