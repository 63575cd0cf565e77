"""Pictures of one product alone on a plain ground, told from outfits by their pixels."""

import numpy as np
from PIL import Image

from fashionclip.localization import Box, boxes_of

LOOKED_AT_PX = 128
BORDER_PX = 2
MAX_NOISE = 12
"""Of a channel's 256 levels: what a ground differs by within itself, with its soft shadows."""
MIN_PLAIN = 0.95
"""Share of the border that has the colour of the ground."""
END = 0.4
"""What counts as the upper and the lower end of a product, as a share of its height."""
MAX_GAP = 40
"""Levels by which the ends of a product may differ in colour. Nine in ten drawn products differ
less. Figures are in ``benchmarks/lone_products.py``."""


def lone_product(image: Image.Image) -> Box | None:
    """The box of a product that is alone on a plain ground; None for any other picture.

    Alone is what is one piece, and has one colouring above and below: an outfit, worn or laid out,
    is one piece too, but of several colours. One of a single colour passes for a product.

    Args:
        image: upright RGB.

    Returns:
        The box in pixels of the image.
    """
    shrink = LOOKED_AT_PX / max(image.size)
    size = max(1, round(image.width * shrink)), max(1, round(image.height * shrink))
    pixels = np.asarray(image.resize(size, Image.Resampling.BOX), np.int16)
    is_border = np.ones(pixels.shape[:2], bool)
    is_border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    ground = np.median(pixels[is_border], axis=0)
    is_ground = np.abs(pixels - ground).max(axis=2) <= MAX_NOISE
    if is_ground[is_border].mean() < MIN_PLAIN:
        return None
    parts = boxes_of((~is_ground).astype(np.float64), image.size, 0.5)
    if len(parts) != 1:
        return None
    rows = np.flatnonzero((~is_ground).any(axis=1))
    top, bottom = rows[0], rows[-1] + 1
    high = max(1, round(END * (bottom - top)))
    ends = (slice(top, top + high), slice(bottom - high, bottom))
    above, below = (pixels[end][~is_ground[end]].mean(axis=0) for end in ends)
    return parts[0] if np.abs(above - below).max() < MAX_GAP else None
