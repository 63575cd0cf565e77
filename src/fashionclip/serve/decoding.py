"""Pictures out of requests, decoded within bounds: of each one's size, and of all together.

A few hundred bytes can say that they are fifty million pixels, and a request may hold dozens of
those. So whoever decodes waits until there is room for the pixels, and lets go of them as soon as
they have become the small square that the model takes.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fashionclip.images.decode import Preprocess, decode_image, fit_image

ROOM = 4  # pictures of the largest size that may be in memory at once; more of smaller ones


class Decoder:
    """Decodes pictures for one model; safe from any thread."""

    def __init__(self, preprocess: Preprocess, *, max_pixels: int) -> None:
        """Start with all room free.

        Args:
            preprocess: how the model wants its pictures.
            max_pixels: of one picture; larger ones are refused before they are decoded.
        """
        self._preprocess, self._max_pixels = preprocess, max_pixels
        self._free = ROOM * max_pixels
        self._has_room = threading.Condition()

    @contextmanager
    def opened(self, picture: bytes) -> Iterator[Image.Image]:
        """A picture, upright and RGB, for as long as the block runs.

        Raises:
            ImageError: it is no picture, or too large.
        """
        pixels = _pixels(picture)
        pixels = 0 if pixels > self._max_pixels else pixels  # those are refused, not decoded
        with self._has_room:
            self._has_room.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            size = self._preprocess.shortest_edge_px or self._preprocess.size_px
            yield decode_image(picture, target_px=size, max_pixels=self._max_pixels)
        finally:
            with self._has_room:
                self._free += pixels
                self._has_room.notify_all()

    def fitted(self, picture: bytes) -> UInt8[np.ndarray, "size size 3"]:
        """A picture as the model takes it.

        Raises:
            ImageError: it is no picture, or too large.
        """
        with self.opened(picture) as image:
            return fit_image(image, self._preprocess)


def _pixels(picture: bytes) -> int:
    """How many pixels a picture's head speaks of; 0 where it cannot be read."""
    try:
        width, height = Image.open(io.BytesIO(picture)).size
    except Exception:  # whoever decodes it says why
        return 0
    return int(width) * int(height)
