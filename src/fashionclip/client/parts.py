"""Parts of requests: images as fields, ids in paths, long lists in several requests."""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fashionclip.client.answers import ImageInput
from fashionclip.errors import ImageError

MAX_ITEMS_PER_REQUEST = 64
"""Inputs, products or ids; longer lists are sent in several requests."""
MAX_IMAGE_BYTES_PER_REQUEST = 12_000_000  # in base64; the service's own limit is 20 MB a body


def image_field(image: ImageInput) -> dict[str, str]:
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


def chunks(items: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
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


def in_path(product_id: str) -> str:
    """An id as one segment of a path; dots too, since ``..`` would name another path."""
    return quote(product_id, safe="").replace(".", "%2E")
