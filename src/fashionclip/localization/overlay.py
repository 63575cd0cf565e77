"""Maps drawn on their images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from fashionclip.localization.boxes import Box

STRENGTH = 0.65
"""Opacity of the colour where a map is 1."""
HEAT = (255, 60, 0)
FRAME = (255, 255, 255)
MAX_PX = 1600
"""Longest side of a drawing; larger images are drawn smaller."""


def draw(
    image: Image.Image,
    cells: Float[np.ndarray, "row column"],
    boxes: Sequence[Box],
    size: tuple[int, int],
) -> Image.Image:
    """The image in grey, coloured where the map is bright, with its boxes.

    Args:
        image: RGB.
        cells: a map in 0…1 on a raster over the image.
        boxes: in pixels of ``size``.
        size: width and height of the image that was localised.
    """
    scale = min(1.0, MAX_PX / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    grey = image.resize((width, height)).convert("L").convert("RGB")
    small = Image.fromarray((cells * 255 * STRENGTH).round().astype(np.uint8))
    opacity = small.resize((width, height), Image.Resampling.BILINEAR)
    drawn = Image.composite(Image.new("RGB", grey.size, HEAT), grey, opacity)
    pen, line = ImageDraw.Draw(drawn), max(1, round(max(width, height) / 250))
    for box in boxes:
        corners = [box.left, box.top, box.right - 1, box.bottom - 1]
        pen.rectangle([corner * scale for corner in corners], outline=FRAME, width=line)
    return drawn
