"""Inside images: the garments of a photograph, and where words are on a product's picture.

Both take more time than a search, so they run in a small pool of threads of their own, and what
was found is kept: a visitor who chooses one garment after another has the photograph looked
through once.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from fashionclip.garments import Garment, WordDetector, check_words, crop_garments, garment_words
from fashionclip.images.decode import open_image
from fashionclip.localization import Localization
from fashionclip.model import FashionCLIP
from fashionclip.searching import GarmentResults, Query, search_crops
from fashionclip.serve.batching import BoundedExecutor
from fashionclip.serve.cache import LRUCache
from fashionclip.serve.images import ImageDecoder
from fashionclip.serve.metrics import Metrics
from fashionclip.store import Store

THREADS = 2
MAX_PENDING = 32
"""Photographs and pictures that may wait; more are answered with 429."""
PHOTO_BYTES = 64 << 20
"""Of the crops of photographs that were looked through."""
MAX_DETECTORS = 16
MAP_BYTES = 32 << 20
OVERLAY_BYTES = 32 << 20
CROP_PX = 800
"""Longest side of a crop as it is kept."""
MAP_WIDTH_PX = 640
"""Width of the product's picture that words are looked for on."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph that was looked through."""

    width: int
    """In pixels, upright."""
    height: int
    garments: tuple[Garment, ...]
    """Strongest first; their crops are at most ``CROP_PX`` long."""


class Localizer:
    """Finds garments in photographs and words on pictures; safe from any thread."""

    def __init__(
        self, store: Store, model: FashionCLIP, decoder: ImageDecoder, metrics: Metrics
    ) -> None:
        """Start with empty caches.

        Args:
            store: what is searched.
            model: the model that made it.
            decoder: decodes photographs within the service's limits.
            metrics: counts what is pending.
        """
        self._store, self._model, self._decoder = store, model, decoder
        self._detectors: LRUCache[tuple[str, ...], WordDetector] = LRUCache(MAX_DETECTORS)
        self._photos: LRUCache[bytes, Photo] = LRUCache(PHOTO_BYTES, size_of=_photo_bytes)
        self._maps: LRUCache[bytes, Localization] = LRUCache(
            MAP_BYTES, size_of=lambda found: found.cells.nbytes
        )
        self._overlays: LRUCache[bytes, bytes] = LRUCache(OVERLAY_BYTES, size_of=len)
        self._calls = BoundedExecutor(
            "localizing", metrics, n_threads=THREADS, max_pending=MAX_PENDING
        )

    async def garments(self, image: bytes, words: Sequence[str] | None = None) -> Photo:
        """The garments of a photograph.

        Args:
            image: encoded.
            words: what to look for; None for the usual garments.

        Raises:
            BusyError: too many photographs are pending.
            ImageError: it is not an image, or too large.
            ValueError: the words make no sense.
        """
        names = garment_words() if words is None else check_words(words)
        key = _key(image, *(name.encode() for name in names))
        found = self._photos.get(key)
        if found is None:
            found = await self._calls.run(self._find, key, image, names)
        return found

    async def search(self, garments: Sequence[Garment], query: Query) -> list[GarmentResults]:
        """For each garment the products that look like it.

        Raises:
            BusyError: too many calls are pending.
            FilterError, ValueError, StoreError: as ``search_crops``.
        """
        return await self._calls.run(
            search_crops, self._store, self._model, garments, replace(query, image=None)
        )

    async def words(self, image: bytes, words: Sequence[str]) -> Localization:
        """Where words are on a picture.

        Args:
            image: the product's picture as a JPEG.
            words: at least one.

        Raises:
            BusyError: too many pictures are pending.
            ImageError: it is not an image, or has one colour.
            ValueError: the words make no sense.
        """
        key = _key(image, *(word.encode("utf-8", "replace") for word in words))
        found = self._maps.get(key)
        if found is None:
            found = await self._calls.run(self._localize, key, image, words)
        return found

    async def overlay(self, image: bytes, word: str) -> bytes:
        """A picture with a word's map as colour on it, as a PNG of the picture's size.

        Raises:
            BusyError, ImageError, ValueError: as ``words``.
        """
        key = _key(image, word.encode("utf-8", "replace"))
        found = self._overlays.get(key)
        if found is None:
            located = await self.words(image, [word])
            found = await self._calls.run(self._draw, key, image, located)
        return found

    def close(self) -> None:
        """Finish what is pending."""
        self._calls.close()

    def _find(self, key: bytes, image: bytes, words: tuple[str, ...]) -> Photo:
        detector = self._detectors.get(words)
        if detector is None:
            detector = WordDetector(self._model, words)
            self._detectors.put(words, detector)
        with self._decoder.opened(image, is_whole=True) as photo:
            garments = crop_garments(photo, detector.detect(photo))
            for one in garments:
                one.crop.thumbnail((CROP_PX, CROP_PX))
            found = Photo(photo.width, photo.height, tuple(garments))
        self._photos.put(key, found)
        return found

    def _localize(self, key: bytes, image: bytes, words: Sequence[str]) -> Localization:
        found = self._model.localize(image, words)
        self._maps.put(key, found)
        return found

    def _draw(self, key: bytes, image: bytes, located: Localization) -> bytes:
        drawn = located.overlay(0, open_image(image))
        encoded = io.BytesIO()
        drawn.save(encoded, "PNG", compress_level=3)
        found = encoded.getvalue()
        self._overlays.put(key, found)
        return found


def _photo_bytes(photo: Photo) -> int:
    """Bytes that a photograph takes in memory: three a pixel of its crops, and one for itself."""
    return 1 + sum(3 * one.crop.width * one.crop.height for one in photo.garments)


def _key(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
