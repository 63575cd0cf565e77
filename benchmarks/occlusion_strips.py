"""The heat maps of the older ``fashion-clip`` package, as the reference for localisation.

A text is compared with every horizontal and vertical band of an image, each alone on grey: some 200
passes of the model. Bands begin and end at every step of the grid, the image's edges included.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from PIL import Image

from fashionclip import FashionCLIP

HEAT_PX = 224
STEP_PX = 15
ITERATIONS = 5
GREY = 128

Band = tuple[slice, slice]
"""Rows and columns of an image of ``HEAT_PX``; one of them is all."""


def strips_map(model: FashionCLIP, image: Image.Image, words: np.ndarray) -> np.ndarray:
    """Heat ``(word, h, w)`` of the image alone, at the size that it has on the grey square."""
    scale = HEAT_PX / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("RGB", (HEAT_PX, HEAT_PX), (GREY, GREY, GREY))
    left, top = (HEAT_PX - width) // 2, (HEAT_PX - height) // 2
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC), (left, top))
    bands = bands_of(STEP_PX)
    vectors = model.encode_images(views(np.asarray(canvas), bands))
    heats = [heat_map(bands, vectors @ word, iterations=ITERATIONS) for word in words]
    return np.stack(heats)[:, top : top + height, left : left + width]


def bands_of(step_px: int) -> list[Band]:
    """The whole image, then every band of rows and of columns between two steps."""
    edges, whole = [*range(0, HEAT_PX, step_px), HEAT_PX], slice(0, HEAT_PX)
    parts = [
        slice(start, stop)
        for i, start in enumerate(edges)
        for stop in edges[i + 1 :]
        if stop - start < HEAT_PX
    ]
    return [(whole, whole), *((part, whole) for part in parts), *((whole, part) for part in parts)]


def heat_map(
    bands: list[Band], cosines: Float[np.ndarray, " band"], *, iterations: int
) -> Float[np.ndarray, "h w"]:
    """Heat in 0…1: the mean over bands of how much more similar a band is than the whole image.

    The mean is subtracted ``iterations`` times, and values below zero become zero.
    """
    heat = np.zeros((HEAT_PX, HEAT_PX))
    for band, gain in zip(bands, np.maximum(cosines - cosines[0], 0.0), strict=True):
        heat[band] += float(gain)
    heat /= len(bands)
    for _ in range(iterations):
        heat = np.maximum(heat - heat.mean(), 0.0)
    highest = heat.max()
    if highest < 1e-9:  # no band is better than the whole image
        return np.zeros_like(heat)
    return np.asarray((heat - heat.min()) / (highest - heat.min()))


def views(image: np.ndarray, bands: list[Band]) -> Iterator[np.ndarray]:
    """Each band alone on grey, one at a time."""
    for band in bands:
        view = np.full_like(image, GREY)
        view[band] = image[band]
        yield view
