"""Images of extreme shapes, resized without copies that are larger than they are.

Scaling an image of 60,000 by 1 pixels to a short side of 224 would make 13 million columns, of
which 224 are kept. Here only those are computed, with the arithmetic of Pillow's ``resize`` (22
bits of fraction, rounded after each direction). The result is the same to the pixel, except that
the filter ``nearest`` may take the other of two pixels that are equally near.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from PIL import Image

MAX_ASPECT = 16
"""Longer images are strips. Only they are resized differently, and so as little as possible."""
_FRACTION_BITS = 22  # Pillow, Resample.c: PRECISION_BITS


def resized_to_square(image: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """Resize a whole image to a square, with its aspect ratio changed."""
    if image.height > MAX_ASPECT * image.width:  # Pillow would widen all its rows first
        image = image.resize((image.width, size), resample)
    return image.resize((size, size), resample)


def resized_middle(
    image: Image.Image, full: tuple[int, int], size: int, resample: Image.Resampling
) -> UInt8[np.ndarray, "size size 3"]:
    """Enlarge a strip and cut out the middle square.

    Args:
        image: RGB, and smaller than ``full`` in both directions.
        full: width and height that the whole image would be resized to.
        size: side of the square, not larger than the short side of ``full``.
        resample: nearest, bilinear, bicubic or lanczos.
    """
    lines, weights = _taps(max(image.size), max(full), size, resample)
    low, high = int(lines.min()), int(lines.max()) + 1
    side = (min(full) - size) // 2
    if image.width > image.height:  # Pillow resizes first across, then down
        columns = np.asarray(image.crop((low, 0, high, image.height))).swapaxes(0, 1)
        middle = Image.fromarray(
            np.ascontiguousarray(_blend(columns, lines - low, weights).swapaxes(0, 1))
        )
        return np.asarray(middle.resize((size, full[1]), resample))[side : side + size]
    rows = image.crop((0, low, image.width, high)).resize((full[0], high - low), resample)
    return _blend(np.asarray(rows), lines - low, weights)[:, side : side + size]


def _taps(
    length: int, full_length: int, size: int, resample: Image.Resampling
) -> tuple[Int64[np.ndarray, "size tap"], Int64[np.ndarray, "size tap"]]:
    """The lines of the strip that each line of the middle is made of, and their weights."""
    start = (full_length - size) // 2
    centres = (np.arange(start, start + size) + 0.5) * (length / full_length)
    reach, filter_of = _FILTERS[resample]
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centres + reach + 0.5).astype(np.int64), length)
    lines = first[:, None] + np.arange(2 * reach + 1)
    weights = np.where(lines < end[:, None], filter_of(lines - centres[:, None] + 0.5), 0.0)
    weights *= (1 << _FRACTION_BITS) / weights.sum(axis=1, keepdims=True)
    fixed = np.trunc(weights + np.copysign(0.5, weights)).astype(np.int64)
    return np.minimum(lines, length - 1), fixed


def _blend(
    pixels: UInt8[np.ndarray, "line n 3"],
    lines: Int64[np.ndarray, "size tap"],
    weights: Int64[np.ndarray, "size tap"],
) -> UInt8[np.ndarray, "size n 3"]:
    total = np.einsum("st,stnc->snc", weights, pixels[lines].astype(np.int64))
    rounded = (total + (1 << (_FRACTION_BITS - 1))) >> _FRACTION_BITS
    blended: np.ndarray = np.clip(rounded, 0, 255).astype(np.uint8)
    return blended


def _nearest(x: Float64[np.ndarray, "size tap"]) -> Float64[np.ndarray, "size tap"]:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: Float64[np.ndarray, "size tap"]) -> Float64[np.ndarray, "size tap"]:
    x = np.abs(x)
    return np.where(x < 1.0, 1.0 - x, 0.0)


def _bicubic(x: Float64[np.ndarray, "size tap"]) -> Float64[np.ndarray, "size tap"]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0  # Keys 1981, with a = -0.5 as in Pillow
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: Float64[np.ndarray, "size tap"]) -> Float64[np.ndarray, "size tap"]:
    return np.where((x >= -3.0) & (x < 3.0), np.sinc(x) * np.sinc(x / 3.0), 0.0)


_Filter = Callable[[Float64[np.ndarray, "size tap"]], Float64[np.ndarray, "size tap"]]
_FILTERS: dict[Image.Resampling, tuple[int, _Filter]] = {
    Image.Resampling.NEAREST: (1, _nearest),
    Image.Resampling.BILINEAR: (1, _bilinear),
    Image.Resampling.BICUBIC: (2, _bicubic),
    Image.Resampling.LANCZOS: (3, _lanczos),
}
"""Reach in lines, and weight by distance."""
