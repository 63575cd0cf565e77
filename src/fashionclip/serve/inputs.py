"""What requests give: texts and images within the limits, and the JSON of answers."""

import asyncio
import base64
import binascii
from collections.abc import Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

from fastapi.responses import JSONResponse
from pydantic_core import to_json

from fashionclip.errors import FashionCLIPError, ImageError, ProductNotFoundError
from fashionclip.product import Hit, hit_fields
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings

MAX_FETCHING = 8  # images of one request at a time
MAX_INLINE_BASE64 = 100_000  # characters; more are decoded in a thread

T = TypeVar("T")


class Json(JSONResponse):
    """JSON, ten times as fast as the standard library's; NaN and infinity become null."""

    def render(self, content: object) -> bytes:
        """Encode the body."""
        return to_json(content, inf_nan_mode="null")


def product_json(product: Hit) -> Json:
    """A product's id and columns."""
    fields = {name: value for name, value in hit_fields(product).items() if name != "score"}
    return Json(fields)


class Inputs:
    """Reads the texts and images of requests."""

    def __init__(self, services: Services, settings: Settings) -> None:
        """Store both.

        Args:
            services: fetch images.
            settings: the limits.
        """
        self._services, self._settings = services, settings

    async def image(
        self, image: str | None, image_url: str | None, *, is_required: bool = True
    ) -> bytes | None:
        """The encoded image of a request.

        Raises:
            ImageError: both or none are given, or the base64 is not valid.
            ImageFetchError: it cannot be fetched.
        """
        if image is not None and image_url is not None:
            message = "image and image_url are both given; give one"
            raise ImageError(message)
        if image is not None:
            if len(image) < MAX_INLINE_BASE64:
                return _decoded(image)
            return await asyncio.to_thread(_decoded, image)
        if image_url is not None:
            return await self._services.current.fetch(image_url)
        if is_required:
            message = "there is no image; give image (base64) or image_url"
            raise ImageError(message)
        return None

    def check_texts(self, texts: Iterable[str]) -> None:
        """Check the lengths of texts.

        Raises:
            ValueError: one is too long.
        """
        for text in texts:
            limited("the length of a text", len(text), self._settings.text_chars)


def limited(what: str, number: int, limit: int) -> int:
    """Return a number that is within its limit.

    Raises:
        ValueError: it is not.
    """
    if number > limit:
        reject(f"{what} is {number:,}; the maximum is {limit:,}")
    return number


async def gather(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T | Exception]:
    """Await several calls, a few at a time; an error takes the place of its result."""
    semaphore = asyncio.Semaphore(MAX_FETCHING)

    async def one(call: Coroutine[Any, Any, T]) -> T | Exception:
        async with semaphore:
            try:
                return await call
            except (FashionCLIPError, ValueError) as exc:
                return exc

    return await asyncio.gather(*map(one, calls))


def _decoded(image: str) -> bytes:
    """The bytes of an image in base64.

    Raises:
        ImageError: it is not base64, or empty.
    """
    if image[:11].lower() == "data:image/":
        image = image.partition(",")[2]
    try:
        decoded = base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as exc:
        message = "image is not base64; send the encoded image (JPEG, PNG, …) in base64"
        raise ImageError(message) from exc
    if not decoded:
        message = "image is empty; send the encoded image (JPEG, PNG, …) in base64"
        raise ImageError(message)
    return decoded


def reject(message: str) -> NoReturn:
    """Reject a request.

    Raises:
        ValueError: always.
    """
    raise ValueError(message)


def not_found(message: str) -> NoReturn:
    """Answer with 404.

    Raises:
        ProductNotFoundError: always.
    """
    raise ProductNotFoundError(message)
