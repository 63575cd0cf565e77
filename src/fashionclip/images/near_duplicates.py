"""Near duplicates: images that were resized or encoded again keep their perceptual hash.

The leakage check compares test images with training images by it, and the catalogue check the
images of one catalogue with each other.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from fashionclip.images.strips import resized_to_square

HASH_BYTES = 44
"""32 bytes of bits, then the RGB levels of four quarters."""
DECODE_PX = 64
"""Images need not be decoded any larger for their hash."""
MAX_BITS, MAX_LEVELS = 20, 6
"""Hashes that differ in at most this many of 255 bits and this many of 255 levels of colour belong
to one image. This held for 999 in 1,000 of 1,500 copies of product photographs (quality 40 to 85,
half to double size), and for 7 of the 3 million pairs among 2,500 photographs, most of them
copies."""
_GREY_PX, _COEFFICIENTS, _COLOUR_PX = 32, 16, 2
_MIN_COEFFICIENT = 150.0  # smaller ones are noise on a flat background
_QUERIES_PER_BLOCK = 128
_ROUNDING = 0.01  # of a mean in float32


def perceptual_hash(image: Image.Image) -> UInt8[np.ndarray, " 44"]:
    """Which of the image's 255 lowest-frequency DCT coefficients are high, and four mean colours.

    Source: the DCT hash of C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions" (2010), with 16 x 16 instead of 8 x 8 coefficients. A fixed threshold replaces the
    median, and the colours are added because a shop's products come in several colours.
    """
    small = resized_to_square(image, _GREY_PX, Image.Resampling.BOX)
    grey = np.asarray(small, np.float64).mean(2)
    at = np.arange(_GREY_PX) + 0.5
    cosines = np.cos(np.pi * np.outer(np.arange(_COEFFICIENTS), at) / _GREY_PX)
    coefficients = (cosines @ grey @ cosines.T).reshape(-1)[1:]
    bits = np.packbits(coefficients > _MIN_COEFFICIENT)
    colours = np.asarray(resized_to_square(image, _COLOUR_PX, Image.Resampling.BOX))
    return np.concatenate([bits, colours.reshape(-1)])


class HashIndex:
    """Perceptual hashes, ordered by lightness, which near duplicates share."""

    def __init__(self, hashes: UInt8[np.ndarray, "n 44"]) -> None:
        """Index the rows of an array of hashes."""
        bits, colours = _split(hashes)
        self._order = np.argsort(colours.mean(axis=1), kind="stable")
        self._bits, self._colours = bits[self._order], colours[self._order]
        self._lightness = self._colours.mean(axis=1)

    def __len__(self) -> int:
        """How many hashes it holds."""
        return len(self._order)

    def contains(self, hashes: UInt8[np.ndarray, "m 44"]) -> Bool[np.ndarray, " m"]:
        """Whether each hash has a near duplicate in the index."""
        found = np.zeros(len(hashes), dtype=bool)
        for row, _ in self.matches(hashes):
            found[row] = True
        return found

    def matches(
        self, hashes: UInt8[np.ndarray, "m 44"]
    ) -> Iterator[tuple[int, Int[np.ndarray, " _"]]]:
        """The rows of hashes that have near duplicates here, each with those; in no order."""
        bits, colours = _split(hashes)
        min_product = bits.shape[1] - 2 * MAX_BITS  # of ±1 vectors that differ in MAX_BITS places
        lightness = colours.mean(axis=1)
        order = np.argsort(lightness, kind="stable")
        reach = MAX_LEVELS + _ROUNDING  # colours within the levels have means within them, too
        for start in range(0, len(order), _QUERIES_PER_BLOCK):
            rows = order[start : start + _QUERIES_PER_BLOCK]
            ends = (lightness[rows[0]] - reach, lightness[rows[-1]] + reach)
            near = slice(*np.searchsorted(self._lightness, ends).tolist())
            is_close = bits[rows] @ self._bits[near].T >= min_product
            for i in np.flatnonzero(is_close.any(axis=1)):
                gaps = np.abs(self._colours[near][is_close[i]] - colours[rows[i]]).max(axis=1)
                if (gaps <= MAX_LEVELS).any():
                    yield int(rows[i]), self._order[near][is_close[i]][gaps <= MAX_LEVELS]


def near_duplicate_groups(hashes: UInt8[np.ndarray, "n 44"]) -> list[list[int]]:
    """Groups of two or more rows whose images are near duplicates of the group's first row."""
    matches = dict(HashIndex(hashes).matches(hashes))
    groups: dict[int, list[int]] = {}
    for row in range(len(hashes)):
        firsts = [int(match) for match in matches[row] if match in groups]
        groups.setdefault(min(firsts, default=row), []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _split(hashes: UInt8[np.ndarray, "n 44"]) -> tuple[np.ndarray, np.ndarray]:
    """Bits as -1 and 1, so that a product counts those that differ; colours as levels."""
    n_bytes = HASH_BYTES - 3 * _COLOUR_PX**2
    bits = np.unpackbits(hashes[:, :n_bytes], axis=1)[:, : 8 * n_bytes - 1]
    return bits.astype(np.float32) * 2 - 1, hashes[:, n_bytes:].astype(np.float32)
