"""The original's heat maps: which strips of a picture fit a text better than all of it.

Strips begin and end at every step of the grid, the picture's edges included (the original
never showed 29 of 224 rows), and a picture without any better strip gives zeros, not NaN.
A map takes about 240 passes of the model at the usual step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

SIZE_PX = 224
GREY = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class Band:
    """Rows, or columns, ``start`` to ``stop`` of the picture."""

    axis: int
    """0 for rows, 1 for columns."""
    start: int
    stop: int


def views_of(image: Image.Image, step_px: int) -> tuple[list[Band], Iterator[Image.Image]]:
    """The whole picture on grey, then each band of it alone.

    Args:
        image: RGB, any size; its longer side becomes ``SIZE_PX``.
        step_px: where bands begin and end, 8 to ``SIZE_PX``.

    Returns:
        The bands, the whole picture first, and their pictures, made as they are asked for.

    Raises:
        ValueError: ``step_px`` is out of range.
    """
    if not 8 <= step_px <= SIZE_PX:
        message = f"pixel_size is {step_px}; choose 8 to {SIZE_PX} (less takes hours)"
        raise ValueError(message)
    edges = [*range(0, SIZE_PX, step_px), SIZE_PX]
    whole = Band(0, 0, SIZE_PX)
    parts = [
        Band(axis, start, stop)
        for axis in (0, 1)
        for i, start in enumerate(edges)
        for stop in edges[i + 1 :]
        if stop - start < SIZE_PX
    ]
    bands = [whole, *parts]
    canvas = _on_grey(image)
    return bands, (_only(canvas, band) for band in bands)


def heat_map(
    bands: list[Band], cosines: Float[np.ndarray, " band"], *, iterations: int
) -> Float[np.ndarray, "h w"]:
    """Heat in 0…1 from the similarity of a text with each band.

    The heat of a pixel is the mean over bands of how much more similar the band is than the
    whole picture; ``iterations`` times the mean is taken away and what is below zero cut off.

    Args:
        bands: the whole picture first.
        cosines: similarity of each with the text.
        iterations: 0 or more; more leave smaller spots.
    """
    heat = np.zeros((SIZE_PX, SIZE_PX))
    for band, gain in zip(bands, np.maximum(cosines - cosines[0], 0.0), strict=True):
        rows = slice(band.start, band.stop)
        heat[rows if band.axis == 0 else slice(None), rows if band.axis == 1 else slice(None)] += (
            float(gain)
        )
    heat /= len(bands)
    for _ in range(iterations):
        heat = np.maximum(heat - heat.mean(), 0.0)
    highest = heat.max()
    if highest < 1e-9:  # nothing stands out
        return np.zeros_like(heat)
    return np.asarray((heat - heat.min()) / (highest - heat.min()))


def paint(image: Image.Image, heat: Float[np.ndarray, "h w"]) -> Image.Image:
    """The picture, its heat, and the picture where it is hot, side by side."""
    pixels = np.asarray(image, dtype=np.float64)
    shown = (pixels, np.repeat(heat[..., None] * 255.0, 3, axis=2), pixels * heat[..., None])
    return Image.fromarray(np.concatenate(shown, axis=1).round().astype(np.uint8))


def _on_grey(image: Image.Image) -> np.ndarray:
    scale = SIZE_PX / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (SIZE_PX, SIZE_PX), GREY)
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas.paste(small, ((SIZE_PX - width) // 2, (SIZE_PX - height) // 2))
    return np.asarray(canvas)


def _only(canvas: np.ndarray, band: Band) -> Image.Image:
    view = np.full_like(canvas, GREY[0])
    rows = slice(band.start, band.stop)
    if band.axis == 0:
        view[rows] = canvas[rows]
    else:
        view[:, rows] = canvas[:, rows]
    return Image.fromarray(view)
