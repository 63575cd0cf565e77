"""A Python client of the service: ``Client("http://127.0.0.1:8000").search("red dress")``.

It has a method per endpoint, keeps connections open, repeats a request that the service was too
busy for, and raises errors with the service's own messages.
"""

import base64
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import numpy as np
from jaxtyping import Float32

from fashionclip.errors import ImageError, RefusedError, ServiceError
from fashionclip.product import Hit, Value

MAX_ITEMS_PER_REQUEST = 64
"""Inputs, products or ids; longer lists are sent in several requests."""
MAX_IMAGE_BYTES_PER_REQUEST = 12_000_000  # in base64; the service's own limit is 20 MB a body
KEEPALIVE_S = 4.0  # the service closes an idle connection after 5 s
MAX_CONNECTIONS = 64

_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_CONNECTION_BROKE = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)

ImageInput = str | Path | bytes
"""A path; an http(s) or ``data:`` URL, which the service fetches if it may; or encoded bytes."""


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of search results, best first."""

    hits: tuple[Hit, ...]
    has_more: bool
    """Whether the next page has hits."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its probability."""

    label: str
    probability: float
    """In 0…1; the labels of one call sum to 1."""


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to store."""

    product_id: str
    image: ImageInput
    columns: Mapping[str, Value] = field(default_factory=dict)
    """By the catalogue's own column names, or by role: ``title``, ``price``, ``brand``, …"""
    caption: str = ""
    """If empty, the service builds it from the columns."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A product that was not stored."""

    product_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """The result of storing products."""

    stored: int
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Whether the service is ready, and what it serves."""

    is_ready: bool
    """Whether it answers searches."""
    status: str
    """``ready``, or ``stale`` while it cannot read the store that it serves."""
    n_products: int
    model: str


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
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = f"{url!r} is no address of a service; write it like http://127.0.0.1:8000"
            raise ValueError(message)
        self._url = url.rstrip("/")
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._http = httpx2.Client(
            headers={"User-Agent": "fashionclip"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=timeout_s,
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
            ),
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

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
        k: int = 10,
        offset: int = 0,
        hybrid: bool = False,
        group: bool = False,
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
            k: number of hits, at least 1.
            offset: number of hits to skip, for pages.
            hybrid: also match the text against captions.
            group: only the best hit of each group of variants.

        Raises:
            RefusedError: the service rejects the request; the message says why.
            ServiceError: the service cannot be reached.
            ImageError: the image file cannot be read.
        """
        body: dict[str, Any] = {
            "similar_to": [*similar_to],
            "unlike": [*unlike],
            "avoid": [*avoid],
            "weight": weight,
            "k": k,
            "offset": offset,
            "hybrid": hybrid,
            "group": group,
        }
        if text is not None:
            body["text"] = text
        if where is not None:
            body["where"] = where
        if image is not None:
            body |= _image_field(image)
        return _hits(self._json("POST", "/search", body))

    def similar(
        self, product_id: str, *, where: str | None = None, k: int = 10, offset: int = 0
    ) -> Hits:
        """The products that resemble one most; see ``search``.

        Raises:
            RefusedError: there is no such product (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        query = {"k": k, "offset": offset} | ({} if where is None else {"where": where})
        path = f"/products/{_in_path(product_id)}/similar?{urlencode(query)}"
        return _hits(self._json("GET", path))

    def product(self, product_id: str) -> Hit:
        """One product, with a score of 1.

        Raises:
            RefusedError: there is no such product (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        return _hit(self._json("GET", f"/products/{_in_path(product_id)}"))

    def image(self, product_id: str, *, width_px: int = 400) -> bytes:
        """A product's image as a JPEG of about this width.

        Raises:
            RefusedError: there is none (``code`` is ``not_found``).
            ServiceError: the service cannot be reached.
        """
        path = f"/images/{_in_path(product_id)}?{urlencode({'width': width_px})}"
        return self._answer("GET", path).content

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
        ranked = self._json("POST", "/classify", body)["labels"]
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
            for one in self._json("POST", "/v1/embeddings", body)["data"]:
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
        path = "/products" + ("?add_columns=true" if add_columns else "")
        stored, rejected = 0, list[Rejection]()
        for chunk in _chunks(items):
            reply = self._send_patiently("PUT", path, {"products": chunk})
            result = _json_object(reply)
            if "stored" not in result:
                _refuse(reply)
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
        return sum(self._json("DELETE", f"/products?{query}")["removed"] for query in queries)

    def health(self) -> bool:
        """Whether the process answers.

        Raises:
            ServiceError: it cannot be reached.
        """
        return self._send("GET", "/health").status_code == HTTPStatus.OK

    def ready(self) -> ServiceStatus:
        """The service's status, also when it is not ready.

        Raises:
            RefusedError: something else than the service answers.
            ServiceError: it cannot be reached.
        """
        reply = self._send("GET", "/ready")
        fields = _json_object(reply)
        if "products" not in fields:
            _refuse(reply)
        is_ready = reply.status_code == HTTPStatus.OK
        return ServiceStatus(is_ready, fields["status"], fields["products"], fields["model"])

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """The JSON that answers a request.

        Raises:
            RefusedError: the status is not 2xx.
            ServiceError: the service cannot be reached, or something else answers.
        """
        reply = self._answer(method, path, body)
        try:
            return json.loads(reply.content)
        except ValueError as exc:
            message = f"{self._url} does not answer as this service does; check the address"
            raise ServiceError(message) from exc

    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx2.Response:
        reply = self._send_patiently(method, path, body)
        if not reply.is_success:
            _refuse(reply)
        return reply

    def _send_patiently(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx2.Response:
        """Send a request, and repeat it while the service is busy and ``patience_s`` lasts."""
        left_s = self._patience_s
        while True:
            reply = self._send(method, path, body)
            wait_s = _retry_after_s(reply)
            if reply.status_code not in _BUSY or wait_s > left_s:
                return reply
            left_s -= wait_s
            time.sleep(wait_s)

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx2.Response:
        """Send a request, and a second time if a kept connection breaks.

        A ``DELETE`` is not repeated: its second answer would count too few products.

        Raises:
            ServiceError: the service cannot be reached, or is too slow.
        """
        try:
            try:
                return self._http.request(method, self._url + path, json=body)
            except _CONNECTION_BROKE:
                if method == "DELETE":
                    raise
                return self._http.request(method, self._url + path, json=body)
        except httpx2.TimeoutException as exc:
            message = (
                f"{self._url} did not answer within {self._timeout_s:g} s; "
                "try later, or give it more time (timeout_s)"
            )
            raise ServiceError(message) from exc
        except (httpx2.TransportError, httpx2.DecodingError) as exc:
            why = " ".join(str(exc).split()) or "the connection broke"
            message = f"{self._url} cannot be reached ({why}); is the service running?"
            raise ServiceError(message) from exc


def _refuse(reply: httpx2.Response) -> NoReturn:
    """Raise the error that an answer describes.

    Raises:
        RefusedError: always.
    """
    try:
        error = json.loads(reply.content)["error"]
        code, message, request_id = error["code"], error["message"], error["request_id"]
    except (ValueError, KeyError, TypeError):  # a proxy's error page
        code, request_id = "unknown", ""
        message = f"the answer is {reply.status_code} {reply.reason_phrase}".rstrip()
    raise RefusedError(
        message,
        status=reply.status_code,
        code=code,
        request_id=request_id,
        retry_after_s=_retry_after_s(reply),
    )


def _retry_after_s(reply: httpx2.Response) -> float:
    """Seconds until the request may be repeated; 0 if the answer names none."""
    value = reply.headers.get("retry-after", "")
    if value.isdigit():
        return max(1.0, float(value))
    return 1.0 if reply.status_code in _BUSY else 0.0


def _json_object(reply: httpx2.Response) -> Mapping[str, Any]:
    """The JSON object of an answer; empty if it is something else."""
    try:
        fields = json.loads(reply.content)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _hits(fields: Mapping[str, Any]) -> Hits:
    return Hits(tuple(_hit(one) for one in fields["hits"]), fields["has_more"])


def _hit(fields: Mapping[str, Any]) -> Hit:
    columns = {name: value for name, value in fields.items() if name not in {"id", "score"}}
    return Hit(fields["id"], fields.get("score", 1.0), columns)


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
