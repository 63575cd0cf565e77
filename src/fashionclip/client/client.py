"""A service as an object: a method for each of its questions."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from jaxtyping import Float32

from fashionclip.client.answers import (
    Hits,
    Label,
    NewProduct,
    Picture,
    Refusal,
    State,
    Stored,
    hit,
    hits,
)
from fashionclip.client.connection import Connection, refuse
from fashionclip.errors import ImageError
from fashionclip.product import Hit

AT_ONCE = 64
"""Inputs or products of one request; more are sent in turn."""
BYTES_AT_ONCE = 12_000_000  # of pictures in one request, in base64: well under the service's limit


class Client:
    """A service's address, and the connections to it; safe to use from several threads."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 15.0,
    ) -> None:
        """Remember an address; nothing is sent yet.

        Args:
            url: where the service is.
            key: an API key, where the service asks for one.
            timeout_s: how long connecting, sending, and each wait for an answer may take.
            patience_s: how long one call waits, in all, to ask again when the service is busy
                (429 or 503); it waits as long as ``Retry-After`` says. 0 never asks again.

        Raises:
            ValueError: it is no http(s) URL.
        """
        self._way = Connection(url, key, timeout_s=timeout_s, patience_s=patience_s)

    def close(self) -> None:
        """Let go of the connections."""
        self._way.close()

    def __enter__(self) -> "Client":
        """Close the connections at the end of a ``with`` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the connections."""
        self.close()

    def search(
        self,
        text: str | None = None,
        *,
        image: Picture | None = None,
        similar_to: Sequence[str] = (),
        unlike: Sequence[str] = (),
        avoid: Sequence[str] = (),
        where: str | None = None,
        weight: float = 0.5,
        k: int = 10,
        offset: int = 0,
        hybrid: bool = False,
    ) -> Hits:
        """Find products; without a question, list those that pass the filter.

        Args:
            text: words.
            image: a picture.
            similar_to: ids of products that hits should look like; left out themselves.
            unlike: ids of products that hits should not look like; left out too.
            avoid: phrases that hits should not show.
            where: comparisons over the catalogue's columns, as in SQL.
            weight: share of the words where there are words and a picture, in 0…1.
            k: hits wanted, at least 1.
            offset: hits to leave out at the start, for pages.
            hybrid: match the words with the captions too.

        Raises:
            RefusedError: the service does not take the question; its message says why.
            ServiceError: the service cannot be reached.
            ImageError: the picture's file cannot be read.
        """
        asked: dict[str, Any] = {
            "similar_to": [*similar_to],
            "unlike": [*unlike],
            "avoid": [*avoid],
            "weight": weight,
            "k": k,
            "offset": offset,
            "hybrid": hybrid,
        }
        if text is not None:
            asked["text"] = text
        if where is not None:
            asked["where"] = where
        if image is not None:
            asked |= _picture(image)
        return hits(self._way.ask("POST", "/search", asked))

    def similar(
        self, product_id: str, *, where: str | None = None, k: int = 10, offset: int = 0
    ) -> Hits:
        """The products that look most like one; see :meth:`search`.

        Raises:
            RefusedError: there is no such product (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        asked = {"k": k, "offset": offset} | ({} if where is None else {"where": where})
        path = f"/products/{_in_path(product_id)}/similar?{urlencode(asked)}"
        return hits(self._way.ask("GET", path))

    def product(self, product_id: str) -> Hit:
        """One product, with a score of 1.

        Raises:
            RefusedError: there is no such product (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        return hit(self._way.ask("GET", f"/products/{_in_path(product_id)}"))

    def image(self, product_id: str, *, width_px: int = 400) -> bytes:
        """A product's picture as a JPEG of about this width.

        Raises:
            RefusedError: there is none (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        path = f"/images/{_in_path(product_id)}?{urlencode({'width': width_px})}"
        return self._way.answer("GET", path).content

    def classify(
        self,
        image: Picture,
        labels: Sequence[str],
        *,
        templates: str | Sequence[str] | None = "product",
    ) -> list[Label]:
        """How well labels fit a picture, most probable first.

        Args:
            image: a picture.
            labels: what it may show.
            templates: a named set (``bare``, ``product``, ``ensemble``, ``sentences``), or
                prompts with ``{}``.

        Raises:
            RefusedError: the service does not take the picture or the labels.
            ServiceError: the service cannot be reached.
            ImageError: the picture's file cannot be read.
        """
        asked = {"labels": [*labels], "templates": templates, **_picture(image)}
        if not isinstance(templates, str | None):
            asked["templates"] = [*templates]
        ranked = self._way.ask("POST", "/classify", asked)["labels"]
        return [Label(one["label"], one["probability"]) for one in ranked]

    def embed(self, inputs: Iterable[str | Path | bytes]) -> Float32[np.ndarray, "n dim"]:
        """Encode texts and pictures to unit vectors.

        Args:
            inputs: a text is a ``str``; a picture is a ``Path`` or its encoded ``bytes``.

        Returns:
            ``(n, dim)`` float32; row *i* belongs to input *i*. ``(0, 0)`` for no inputs.

        Raises:
            RefusedError: the service does not take an input; the message says which.
            ServiceError: the service cannot be reached.
            ImageError: a picture's file cannot be read.
        """
        wanted = ({"text": one} if isinstance(one, str) else _picture(one) for one in inputs)
        rows: list[np.ndarray] = []
        for some in _in_turn(wanted):
            asked = {"input": some, "encoding_format": "base64"}
            for one in self._way.ask("POST", "/v1/embeddings", asked)["data"]:
                rows.append(np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4"))
        return np.stack(rows).astype(np.float32) if rows else np.empty((0, 0), dtype=np.float32)

    def put(self, products: Iterable[NewProduct]) -> Stored:
        """Store products, replacing those of the same ids; searches find them from then on.

        Many are sent in turn: if the service fails midway, those before are stored, and putting
        all of them again does no harm.

        Raises:
            RefusedError: the service does not take them.
            ServiceError: the service cannot be reached.
            ImageError: a picture's file cannot be read.
        """
        wanted = (
            {
                "id": product.product_id,
                "caption": product.caption,
                "columns": dict(product.columns),
                **_picture(product.image),
            }
            for product in products
        )
        stored, rejected = 0, list[Refusal]()
        for some in _in_turn(wanted):
            reply = self._way.patiently("PUT", "/products", {"products": some})
            outcome = _fields(reply.content)
            if "stored" not in outcome:
                refuse(reply)
            stored += outcome["stored"]
            rejected += [Refusal(one["id"], one["reason"]) for one in outcome["rejected"]]
        return Stored(stored, tuple(rejected))

    def remove(self, product_ids: Iterable[str]) -> int:
        """Take products out.

        Returns:
            How many of them there were.

        Raises:
            RefusedError: the service does not do it.
            ServiceError: the service cannot be reached.
        """
        names = [("id", name) for name in product_ids]
        parts = [names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]
        paths = [f"/products?{urlencode(part)}" for part in parts]
        return sum(self._way.ask("DELETE", path)["removed"] for path in paths)

    def health(self) -> bool:
        """Whether the process answers.

        Raises:
            ServiceError: it cannot be reached.
        """
        return self._way.send("GET", "/health").status == HTTPStatus.OK

    def ready(self) -> State:
        """How the service is: an answer also where it is not ready.

        Raises:
            RefusedError: it is somebody else who answers.
            ServiceError: it cannot be reached.
        """
        reply = self._way.send("GET", "/ready")
        said = _fields(reply.content)
        if "products" not in said:
            refuse(reply)
        is_ready = reply.status == HTTPStatus.OK
        return State(is_ready, said["status"], said["products"], said["model"])


def _fields(content: bytes) -> Mapping[str, Any]:
    """A JSON object; an empty one where it is something else."""
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _picture(image: Picture) -> dict[str, str]:
    """A picture as the API takes it.

    Raises:
        ImageError: its file cannot be read.
    """
    if isinstance(image, str) and image[:8].lower().startswith(("http://", "https://", "data:")):
        return {"image_url": image}
    if isinstance(image, str | Path):
        place = Path(image)
        try:
            image = place.read_bytes()
        except OSError as exc:
            message = f"{place}: cannot be read ({exc.strerror}); check the path"
            raise ImageError(message) from exc
    return {"image": base64.b64encode(image).decode()}


def _in_turn(wanted: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Parts small enough for one request each."""
    some: list[dict[str, Any]] = []
    n_bytes = 0
    for one in wanted:
        size = len(one.get("image", ""))
        if some and (len(some) == AT_ONCE or n_bytes + size > BYTES_AT_ONCE):
            yield some
            some, n_bytes = [], 0
        some.append(one)
        n_bytes += size
    if some:
        yield some


def _in_path(product_id: str) -> str:
    return quote(product_id, safe="")
