"""Products as small grey pictures: cut out of their pages, centred on black or white.

Small grey thumbnails are how some benchmarks and many old listings show a product. The colour is
gone, so that nothing may name it.
"""

import numpy as np
from PIL import Image, ImageOps
from scenes import solid_mask

SIDES_PX = (28, 56)
"""Range of a thumbnail's side."""
IMAGE_PX = 112
WIDTHS = (0.7, 1.0)
"""Range of a narrowed product's width over its own: sleeves may hang down."""
MAX_MARGIN = 0.08
"""Of the longer side, on each side."""
NARROW_RATIO, NEGATIVE_RATIO = 0.3, 0.5
"""Of all thumbnails, those that are narrowed, and those that are light on black."""


def thumbnail(product: Image.Image, seed: int) -> Image.Image:
    """A product of a white page as a small grey picture, enlarged again; the same for a seed."""
    rng = np.random.default_rng(seed)
    solid = solid_mask(product)
    box = Image.fromarray(solid).getbbox() or (0, 0, *product.size)
    grey = ImageOps.grayscale(product.crop(box))
    if rng.random() < NARROW_RATIO:
        width = max(1, round(grey.width * rng.uniform(*WIDTHS)))
        grey = grey.resize((width, grey.height), Image.Resampling.BILINEAR)
    side = round(max(grey.size) * (1 + 2 * rng.uniform(0, MAX_MARGIN)))
    square = Image.new("L", (side, side), 255)
    square.paste(grey, ((side - grey.width) // 2, (side - grey.height) // 2))
    if rng.random() < 0.5:
        square = ImageOps.mirror(square)
    if rng.random() < NEGATIVE_RATIO:
        square = ImageOps.autocontrast(ImageOps.invert(square), cutoff=1)
    px = int(rng.integers(SIDES_PX[0], SIDES_PX[1] + 1))
    small = square.resize((px, px), Image.Resampling.BOX)
    how = Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.BILINEAR
    return small.resize((IMAGE_PX, IMAGE_PX), how).convert("RGB")
