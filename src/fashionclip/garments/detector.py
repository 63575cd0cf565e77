"""Detectors of garments: the protocol, and the built-in one, which needs words and no training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from fashionclip.garments.ground import lone_product
from fashionclip.garments.regions import overlaps, suppressed, windows_of
from fashionclip.garments.words import check_words, garment_words, other_words
from fashionclip.localization import Box, has_one_color
from fashionclip.model import FashionCLIP

WORKING_PX = 512
"""Longest side at which a photograph is searched."""
MIN_SIDE_PX = 32
"""A photograph whose short side is less shows no garment that could be told."""
MAX_ASPECT = 5.0
"""Longer photographs are banners and strips."""
MIN_CONTRAST = 4.0
"""Standard deviation of a channel's pixels, in 0…255: below it a photograph has one colour."""
MIN_MAP_BOX = 0.3
"""Short side of a map's box, as a share of the photograph's, from which it is a region."""
MIN_CORRELATION = 0.3
"""Of the lightness of pixels side by side: 0 in noise, 0.54 at least in 1,015 photographs."""
NEIGHBOURS = 3.0
"""Power of the overlap (IoU) by which a region's neighbours count for it."""
GROUND = 0.25
"""Share of the sides of a lone product's box that is added on every side before it is named."""
SYNONYM_COSINE = 0.95
"""Words whose vectors are this close mean the same."""
THRESHOLD = 0.35
"""Probability from which a garment stands out. ``benchmarks/garments.py development`` has the table
that it, ``NEIGHBOURS`` and ``regions.HEIGHTS`` were chosen from, with the built-in model."""


@dataclass(frozen=True, slots=True)
class DetectedGarment:
    """What a detector found: a word, and where."""

    word: str
    box: Box
    """Pixels of the image that was given to the detector; its score is in 0…1."""


@runtime_checkable
class Detector(Protocol):
    """Finds garments in photographs."""

    def detect(self, image: Image.Image) -> Sequence[DetectedGarment]:
        """Find garments in an upright RGB image, strongest first; none if nothing stands out."""


class WordDetector:
    """Finds garments by their names, with a CLIP model and without training.

    Regions of the photograph are encoded as images of their own: windows of a few sizes, and the
    boxes that stand out of the maps of the words (``FashionCLIP.localize``). The cosines of a
    region with the words are averaged with those of its neighbours, by their overlap, since one
    window alone is easily mistaken. A softmax over the words, other garments and what else there
    may be, at the model's temperature, gives the probability of each word. Non-maximum suppression
    over all words leaves one region of each place and one of each word.

    A product alone on a plain ground (``lone_product``) is one garment or none, by the probability
    of its box with some ground around it.
    """

    def __init__(
        self,
        model: FashionCLIP,
        words: Sequence[str] | None = None,
        *,
        threshold: float = THRESHOLD,
    ) -> None:
        """Encode the words.

        Args:
            model: any CLIP model.
            words: what is looked for, such as a shop's own categories; None for
                ``garment_words()``.
            threshold: probability in 0…1 from which a garment is found.

        Raises:
            ValueError: no words, an empty one, too many, or a threshold outside 0…1.
        """
        if not 0 <= threshold <= 1:
            message = f"threshold is {threshold}; it lies in 0…1"
            raise ValueError(message)
        self.words = garment_words() if words is None else check_words(words)
        self.threshold = threshold
        self._model = model
        named = {word.casefold() for word in self.words}
        garments = model.encode_text(self.words, templates="product")
        # the usual garments compete too, but those that mean the same as one that is looked for
        usual = model.encode_text(garment_words(), templates="product")
        usual = usual[(usual @ garments.T).max(axis=1) < SYNONYM_COSINE]
        others = model.encode_text([text for text in other_words() if text.casefold() not in named])
        self._texts = np.concatenate([garments, usual, others])

    def detect(self, image: Image.Image) -> list[DetectedGarment]:
        """Find garments, strongest first; none if nothing stands out.

        Args:
            image: upright RGB, of any size.
        """
        if not is_photograph(image):
            return []
        shrink = max(1.0, max(image.size) / WORKING_PX)
        size = round(image.width / shrink), round(image.height / shrink)
        small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        if has_one_color(small):  # but for specks: there is no map of it
            return []
        lone = lone_product(small)
        if lone is None:
            regions = self._regions(small)
            probabilities = self._probabilities(small, regions)
        else:
            regions = corners_of(lone)
            probabilities = self._probabilities(small, with_ground(lone, small.size))
        best = probabilities.argmax(axis=1)
        scores = probabilities[np.arange(len(best)), best]
        rows = np.flatnonzero((best < len(self.words)) & (scores >= self.threshold))
        kept = rows[suppressed(regions[rows], best[rows].tolist(), scores[rows])]
        scale = np.tile([image.width / small.width, image.height / small.height], 2)
        found = []
        for row in kept:
            left, top, right, bottom = np.rint(regions[row] * scale).astype(int).tolist()
            box = Box(left, top, right, bottom, score=float(scores[row]))
            found.append(DetectedGarment(self.words[best[row]], box))
        return found

    def _regions(self, image: Image.Image) -> Int[np.ndarray, "n 4"]:
        """Windows, and the strongest box of each word's map."""
        least = MIN_MAP_BOX * min(image.size)
        regions = [windows_of(*image.size)]
        for boxes in self._model.localize(image, self.words).boxes():
            for box in boxes[:1]:
                if min(box.right - box.left, box.bottom - box.top) >= least:
                    regions.append(corners_of(box))
        return np.unique(np.concatenate(regions), axis=0)

    def _probabilities(
        self, image: Image.Image, regions: Int[np.ndarray, "n 4"]
    ) -> Float[np.ndarray, "n text"]:
        crops = [image.crop(region) for region in map(tuple, regions.tolist())]
        cosines = self._model.encode_images(crops) @ self._texts.T
        weights = overlaps(regions, regions)[0] ** NEIGHBOURS
        smooth = (weights @ cosines) / weights.sum(axis=1, keepdims=True)
        powers = np.exp(self._model.logit_scale * (smooth - smooth.max(axis=1, keepdims=True)))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def corners_of(box: Box) -> Int[np.ndarray, "1 4"]:
    """A box as a region."""
    return np.array([[box.left, box.top, box.right, box.bottom]])


def with_ground(box: Box, size: tuple[int, int]) -> Int[np.ndarray, "1 4"]:
    """A box with ``GROUND`` on each side, as the pictures that models are trained on have it."""
    dx, dy = GROUND * (box.right - box.left), GROUND * (box.bottom - box.top)
    left, top = max(0, round(box.left - dx)), max(0, round(box.top - dy))
    right, bottom = min(size[0], round(box.right + dx)), min(size[1], round(box.bottom + dy))
    return np.array([[left, top, right, bottom]])


def is_photograph(image: Image.Image) -> bool:
    """Whether an image can show a garment: large enough, no strip, neither one colour nor noise."""
    short, long = sorted(image.size)
    if short < MIN_SIDE_PX or long > MAX_ASPECT * short:
        return False
    sample = np.asarray(image.resize((MIN_SIDE_PX, MIN_SIDE_PX)), np.float32)
    if sample.std(axis=(0, 1)).max() < MIN_CONTRAST:
        return False
    lightness = np.asarray(image.convert("L"), np.float32)
    change = np.square(np.diff(lightness, axis=1)).mean()  # twice the variance less the covariance
    return bool(change <= 2 * (1 - MIN_CORRELATION) * lightness.var())
