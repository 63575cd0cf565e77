"""``Client``: a method per endpoint of the service."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from jaxtyping import Float32

from fashionclip.client.answers import (
    Hits,
    ImageInput,
    Label,
    Mode,
    ServedModel,
    ServiceStatus,
    read_hit,
    read_hits,
)
from fashionclip.client.changes import Changes
from fashionclip.client.connection import Connection, json_object, refuse
from fashionclip.client.localizing import Localizing
from fashionclip.client.parts import chunks, image_field, in_path
from fashionclip.product import Hit

PAGE_SIZE = 100
"""Hits of a request of ``Client.search_all``."""


class Client(Localizing, Changes):
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
        super().__init__(Connection(url, key=key, timeout_s=timeout_s, patience_s=patience_s))

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
        but: str | Sequence[str] = (),
        but_strength: float | None = None,
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
            but: how hits should differ from what the search starts from: ``darker``, ``shorter
                sleeves``, or from and to, ``long skirt / short skirt``.
            but_strength: how far these changes go, above 0 and up to 5; None is the service's
                default.
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
            "but": ([but] if isinstance(but, str) else [*but]) or None,
            "but_strength": but_strength,
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
            body |= image_field(image)
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
        return read_hit(self._connection.json("GET", f"/v1/products/{in_path(product_id)}"))

    def image(self, product_id: str, *, width_px: int = 400) -> bytes:
        """A product's image as a JPEG of about this width.

        Raises:
            RefusedError: there is none (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        path = f"/v1/images/{in_path(product_id)}?{urlencode({'width': width_px})}"
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
        body = {"labels": [*labels], "templates": templates, **image_field(image)}
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
        items = ({"text": one} if isinstance(one, str) else image_field(one) for one in inputs)
        rows: list[np.ndarray] = []
        for chunk in chunks(items):
            body = {"input": chunk, "encoding_format": "base64"}
            for one in self._connection.json("POST", "/v1/embeddings", body)["data"]:
                rows.append(np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4"))
        return np.stack(rows).astype(np.float32) if rows else np.empty((0, 0), dtype=np.float32)

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
