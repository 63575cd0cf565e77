"""A product's picture → the pixels that a step sees.

Pictures are decoded once and kept a little larger than the model takes them; each epoch then
costs a crop and a resize. Nothing here changes a garment's colours but greyscale, which has a
key of its own: captions name colours.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fashionclip.images.decode import Preprocess, background_color, preprocess
from fashionclip.train.recipe import Augment

STORED_SHARE = 8 / 7
"""Side of a kept picture over that of the model's, as 256 to 224."""
MOST_PADDING = 0.4
"""Of the padded picture's side."""
COARSEST = 4
PLAIN_LEVELS = 12
"""A border whose colours all lie within this many levels of their median is plain."""
PALEST, DARKEST = 255, 190


def stored_px(pre: Preprocess, augment: Augment) -> int:
    """Side of the square that is kept of each picture."""
    is_cut = augment.crop > 0 or augment.padding > 0
    return round(pre.size_px * STORED_SHARE) if is_cut else pre.size_px


def decode(data: bytes, pre: Preprocess, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Decode a picture as the model's own preprocessing does, onto a square of another side.

    Raises:
        ImageError: the bytes are no picture.
    """
    edge = pre.shortest_edge_px
    larger = Preprocess(
        size_px=side,
        fit=pre.fit,
        resample=pre.resample,
        shortest_edge_px=round(edge * side / pre.size_px) if edge else None,
    )
    return preprocess(data, larger)


def draw_pixels(
    stored: UInt8[np.ndarray, "side side 3"], size: int, augment: Augment, rng: np.random.Generator
) -> UInt8[np.ndarray, "size size 3"]:
    """Change a kept picture at random, and bring it to the model's size.

    Args:
        stored: as ``decode`` gives it.
        size: the model's.
        augment: how often, and how far.
        rng: decides.
    """
    chance = rng.random(5)
    image = Image.fromarray(stored)
    if chance[0] < augment.background:
        image = _on_other_background(image, rng)
    if chance[1] < augment.padding:
        image = _padded(image, rng)
    image = _cropped(image, size, augment.crop, rng)
    if chance[2] < augment.low_resolution:
        side = max(1, round(size / rng.uniform(1.5, COARSEST)))
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        image = small.resize((size, size), Image.Resampling.BILINEAR)
    if chance[3] < augment.grey:
        image = image.convert("L").convert("RGB")
    pixels = np.asarray(image)
    return pixels[:, ::-1] if chance[4] < augment.flip else pixels


def _cropped(image: Image.Image, size: int, most: float, rng: np.random.Generator) -> Image.Image:
    side = image.width
    cut = side * (1 - most * rng.random()) if most else float(side)
    left, top = rng.random(2) * (side - cut)
    if (cut, side) == (size, size):
        return image
    box = (left, top, left + cut, top + cut)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _padded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = round(image.width / (1 - MOST_PADDING * rng.random()))
    canvas = Image.new("RGB", (side, side), background_color(image))
    left, top = (int(n) for n in rng.integers(side - image.width + 1, size=2))
    canvas.paste(image, (left, top))
    return canvas


def _on_other_background(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Give a plain background another pale colour; what it does not reach from an edge stays."""
    pixels = np.asarray(image)
    ground = np.array(background_color(image))
    is_ground = (np.abs(pixels.astype(np.int16) - ground) <= PLAIN_LEVELS).all(axis=2)
    border = (is_ground[0], is_ground[-1], is_ground[:, 0], is_ground[:, -1])
    if np.concatenate(border).mean() < 0.9:
        return image  # a scene, or a picture cut close
    seen = [
        np.logical_and.accumulate(is_ground, axis=0),
        np.logical_and.accumulate(is_ground[::-1], axis=0)[::-1],
        np.logical_and.accumulate(is_ground, axis=1),
        np.logical_and.accumulate(is_ground[:, ::-1], axis=1)[:, ::-1],
    ]
    changed = pixels.copy()
    changed[np.logical_or.reduce(seen)] = rng.integers(DARKEST, PALEST + 1, size=3)
    return Image.fromarray(changed)
