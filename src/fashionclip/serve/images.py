"""Images in requests and answers: data URLs, fetches, limits of pixels, thumbnails."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fashionclip.errors import FashionCLIPError, ImageFetchError
from fashionclip.images.decode import (
    Preprocess,
    declared_pixels,
    decode_image,
    fit_image,
    thumbnail,
)
from fashionclip.images.fetch import FetchPolicy, copy_bytes, shown
from fashionclip.images.web import InternalAddress, fetch
from fashionclip.serve.cache import LRUCache
from fashionclip.serve.settings import Settings

MAX_DECODING = 4
"""Images of the largest size that are in memory at once; more if they are smaller."""
THUMBNAIL_WIDTHS_PX = (160, 320, 400, 640, 1200)
"""A requested width is rounded up to one of these."""
MAX_ASPECT = 2  # height of a thumbnail in widths
CACHE_BYTES = 64 << 20  # of thumbnails

_DATA = re.compile(r"data:image/[\w.+-]{1,40}(;[\w=.-]{1,60})*;base64,", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)


def fetch_image(url: str, settings: Settings) -> bytes:
    """The encoded image behind a URL; blocks, so call it in a thread.

    Only http, https and ``data:`` URLs are read, never files or cloud storage that this machine
    can reach and the client cannot. ``images/web.py`` connects to the very address that was
    checked, also after redirects.

    Args:
        url: ``http://…``, ``https://…``, or ``data:image/…;base64,…``, which is always allowed.
        settings: whether URLs are fetched, and the limits.

    Raises:
        ImageFetchError: refused, unreachable, too slow or too large.
    """
    sink = io.BytesIO()
    policy = FetchPolicy(
        allow_private=settings.allow_private,
        timeout_s=settings.body_seconds,
        max_bytes=settings.body_bytes,
    )
    if _DATA.match(url):
        copy_bytes(url, sink, policy=policy)
        return sink.getvalue()
    if not _WEB.match(url) or len(url) > settings.text_chars:
        message = f"{shown(url)}: an image URL starts with http:// or https:// and is short"
        raise ImageFetchError(message)
    if not settings.allow_image_urls:
        message = (
            "image URLs are not fetched here: send the image itself in base64, or start the "
            "service with --allow-image-urls"
        )
        raise ImageFetchError(message)
    try:
        fetch(url, sink, policy=policy)
    except ImageFetchError as exc:
        if isinstance(exc.__cause__, InternalAddress):  # clients do not learn which address
            message = f"{shown(url)}: its address is an internal one; such are not fetched"
            raise ImageFetchError(message) from exc.__cause__
        raise
    return sink.getvalue()


class ImageDecoder:
    """Decodes images for one model within a bound on memory; safe from any thread.

    A few hundred bytes can declare fifty million pixels, and a request may hold dozens of such
    images. So decoding waits until the pixels of all images in memory are below a limit.
    """

    def __init__(self, preprocess: Preprocess, *, max_pixels: int) -> None:
        """Start with nothing in memory.

        Args:
            preprocess: the model's preprocessing.
            max_pixels: of one image; larger ones are rejected before they are decoded.
        """
        self._preprocess, self._max_pixels = preprocess, max_pixels
        self._free_pixels = MAX_DECODING * max_pixels
        self._has_room = threading.Condition()

    @contextmanager
    def opened(self, image: bytes, *, is_whole: bool = False) -> Iterator[Image.Image]:
        """Decode an image to upright RGB, which exists while the block runs.

        Args:
            image: encoded.
            is_whole: with all of its pixels; otherwise a large JPEG may have fewer, as the model
                needs no more.

        Raises:
            ImageError: it is not an image, or too large.
        """
        pixels = declared_pixels(image)
        pixels = 0 if pixels > self._max_pixels else pixels  # rejected below, not decoded
        with self._has_room:
            self._has_room.wait_for(lambda: self._free_pixels >= pixels)
            self._free_pixels -= pixels
        try:
            size = self._preprocess.shortest_edge_px or self._preprocess.size_px
            target = None if is_whole else size
            yield decode_image(image, target_px=target, max_pixels=self._max_pixels)
        finally:
            with self._has_room:
                self._free_pixels += pixels
                self._has_room.notify_all()

    def preprocess(self, image: bytes) -> UInt8[np.ndarray, "size size 3"]:
        """Decode an image to the square of pixels that the model takes.

        Raises:
            ImageError: it is not an image, or too large.
        """
        with self.opened(image) as decoded:
            return fit_image(decoded, self._preprocess)


class Thumbnails:
    """Makes and caches thumbnails of products; safe from any thread."""

    def __init__(self, read: Callable[[str], bytes], *, max_bytes: int = CACHE_BYTES) -> None:
        """Start with an empty cache.

        Args:
            read: the encoded image at a location.
            max_bytes: of all cached thumbnails.
        """
        self._read = read
        self._cache: LRUCache[str, bytes] = LRUCache(max_bytes, size_of=len)

    def get(self, location: str, content_key: bytes, width_px: int) -> bytes | None:
        """A JPEG of about this width; None if the image cannot be read any more.

        Args:
            location: of the image.
            content_key: digest of the image.
            width_px: a smaller image keeps its own width.
        """
        tag = thumbnail_tag(content_key, width_px)
        jpeg = self._cache.get(tag)
        if jpeg is None:
            width = _rounded_width(width_px)
            try:
                jpeg = thumbnail(
                    self._read(location), max_px=MAX_ASPECT * width, max_width_px=width
                )
            except FashionCLIPError:  # it has moved or broken since it was indexed
                return None
            self._cache.put(tag, jpeg)
        return jpeg


def thumbnail_tag(content_key: bytes, width_px: int) -> str:
    """The entity tag of a thumbnail: it differs for another image and for another width."""
    return f"{content_key.hex()}-{_rounded_width(width_px)}"


def _rounded_width(width_px: int) -> int:
    widths = THUMBNAIL_WIDTHS_PX
    return next((width for width in widths if width >= width_px), widths[-1])
