"""``Localization``: what was found of each word in an image."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from fashionclip.localization.boxes import Box, boxes_of
from fashionclip.localization.overlay import draw

THRESHOLD = 0.5
"""A word stands out where it is likelier than all contrast texts together."""
MAX_MAPS_BYTES = 2_000_000_000
"""Of all maps at once; ``map`` makes one."""


@dataclass(frozen=True, eq=False)
class Localization:
    """Where in an image words are. Row i belongs to word i."""

    words: tuple[str, ...]
    size: tuple[int, int]
    """Width and height of the image in pixels, upright."""
    cells: Float[np.ndarray, "word row column"]
    """float32 in 0…1 on a raster over the image, from which the maps are interpolated."""
    scores: tuple[float, ...]
    """Strength of each word in 0…1, comparable between images and words."""

    @property
    def maps(self) -> Float[np.ndarray, "word h w"]:
        """All maps in the image's own pixels: float32 in 0…1.

        The scale is the same for all images, so an absent word stays dark.

        Raises:
            ValueError: together they take more than ``MAX_MAPS_BYTES``.
        """
        width, height = self.size
        n_bytes = 4 * len(self.words) * width * height
        if n_bytes > MAX_MAPS_BYTES:
            message = (
                f"{len(self.words)} maps of {width} x {height} pixels take "
                f"{n_bytes / 1e9:.1f} GB; take one at a time with map(i), or ask for fewer words"
            )
            raise ValueError(message)
        found = np.empty((len(self.words), height, width), np.float32)
        for i in range(len(self.words)):
            found[i] = self.map(i)
        return found

    def map(self, word: int) -> Float[np.ndarray, "h w"]:
        """One word's map in the image's own pixels, as in ``maps``."""
        small = Image.fromarray(np.ascontiguousarray(self.cells[word], np.float32))
        large = small.resize(self.size, Image.Resampling.BILINEAR)
        return np.clip(np.asarray(large, np.float32), 0.0, 1.0)

    def boxes(self, threshold: float = THRESHOLD) -> list[list[Box]]:
        """Boxes of each word, strongest first; none where it does not stand out.

        Args:
            threshold: in 0…1; lower values give more and larger boxes.

        Raises:
            ValueError: ``threshold`` is outside 0…1.
        """
        if not 0 < threshold <= 1:
            message = f"threshold is {threshold}; it lies above 0 and up to 1"
            raise ValueError(message)
        return [boxes_of(cells, self.size, threshold) for cells in self.cells]

    def overlay(self, word: int, image: Image.Image) -> Image.Image:
        """The image with a word's map as colour on it and its boxes.

        It has the size of the image; an image longer than 1,600 pixels is drawn smaller.

        Args:
            word: position in ``words``.
            image: the upright RGB image that was localised, in any size.
        """
        return draw(image, self.cells[word], self.boxes()[word], self.size)


def facts_of(found: Localization) -> dict[str, Any]:
    """A localisation for JSON, on the command line, in files and over HTTP.

    Returns:
        ``width`` and ``height`` of the image in pixels, and ``words``: for each its strength,
        whether it is found, and its boxes. Scores have four digits.
    """
    width, height = found.size
    words = [
        {
            "word": word,
            "score": round(score, 4),
            "is_found": score >= THRESHOLD,
            "boxes": [{**asdict(box), "score": round(box.score, 4)} for box in boxes],
        }
        for word, score, boxes in zip(found.words, found.scores, found.boxes(), strict=True)
    ]
    return {"width": width, "height": height, "words": words}
