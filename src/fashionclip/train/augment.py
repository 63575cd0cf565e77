"""Random augmentation of captions and images, one draw per epoch.

Images are decoded once and kept slightly larger than the model's input; each epoch then costs a
crop and a resize. Only grayscale changes the colors of a garment, because captions name them.
"""

import re
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fashionclip.images.decode import Preprocess, background_color, preprocess
from fashionclip.text.captions import build_caption
from fashionclip.train.data import Pair
from fashionclip.train.recipe import AugmentConfig

MAX_SHORT_WORDS = 8
MAX_PASSAGE_WORDS = 60
STORED_RATIO = 8 / 7
"""Side of a stored image over that of the model's input, as 256 to 224."""
MAX_PADDING = 0.4
"""Maximum ratio of the padded image's side."""
MAX_DOWNSCALE = 4
PLAIN_LEVELS = 12
"""A background is plain if the border's colors lie within this many levels of their median."""
MIN_BACKGROUND_LEVEL = 190
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def sample_caption(pair: Pair, augment: AugmentConfig, rng: np.random.Generator) -> str:
    """Sample a caption of a pair.

    Args:
        pair: its texts.
        augment: probabilities of short and long captions, and of changes to the highlights.
        rng: source of randomness.

    Returns:
        The caption, never empty; without augmentation that of ``build_caption``.
    """
    kind = rng.random()
    if kind < augment.short_captions:
        return _short_caption(pair, rng)
    if kind < augment.short_captions + augment.long_captions and pair.description:
        return _passage(pair, rng)
    highlights = list(pair.highlights)
    if augment.highlight_order:
        highlights = [highlights[i] for i in rng.permutation(len(highlights))]
    if augment.highlight_dropout:
        is_kept = rng.random(len(highlights)) >= augment.highlight_dropout
        highlights = [one for one, keep in zip(highlights, is_kept, strict=True) if keep]
    return build_caption(highlights, pair.title) or pair.caption


def _short_caption(pair: Pair, rng: np.random.Generator) -> str:
    words = (pair.title or pair.caption).split()[:MAX_SHORT_WORDS]
    if pair.highlights and len(words) < MAX_SHORT_WORDS and rng.random() < 0.5:
        return build_caption([pair.highlights[rng.integers(len(pair.highlights))]], " ".join(words))
    return " ".join(words)


def _passage(pair: Pair, rng: np.random.Generator) -> str:
    sentences = _sentences(pair.description)
    first = int(rng.integers(len(sentences)))
    last = first + 1 + int(rng.integers(3))
    words = " ".join(sentences[first:last]).split()[:MAX_PASSAGE_WORDS]
    return build_caption([" ".join(words)], pair.title if rng.random() < 0.5 else "")


@lru_cache(maxsize=65536)
def _sentences(description: str) -> tuple[str, ...]:
    return tuple(filter(None, _SENTENCE_END.split(description))) or (description,)


def stored_px(pre: Preprocess, augment: AugmentConfig) -> int:
    """Side of the square that is stored of each image."""
    is_cut = augment.crop > 0 or augment.padding > 0
    return round(pre.size_px * STORED_RATIO) if is_cut else pre.size_px


def decode(data: bytes, pre: Preprocess, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Decode an image with the model's own preprocessing, onto a square of another side.

    Raises:
        ImageError: the bytes are not an image.
    """
    edge = pre.shortest_edge_px
    larger = Preprocess(
        size_px=side,
        fit=pre.fit,
        resample=pre.resample,
        shortest_edge_px=round(edge * side / pre.size_px) if edge else None,
    )
    return preprocess(data, larger)


def augment_image(
    stored: UInt8[np.ndarray, "side side 3"],
    size: int,
    augment: AugmentConfig,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "size size 3"]:
    """Augment a stored image, and bring it to the model's size.

    Args:
        stored: as ``decode`` returns it.
        size: side of the model's input.
        augment: probability and strength of each change.
        rng: source of randomness.
    """
    chance = rng.random(5)
    image = Image.fromarray(stored)
    if chance[0] < augment.background:
        image = _recolor_background(image, rng)
    if chance[1] < augment.padding:
        image = _pad(image, rng)
    image = _crop(image, size, augment.crop, rng)
    if chance[2] < augment.low_resolution:
        side = max(1, round(size / rng.uniform(1.5, MAX_DOWNSCALE)))
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        image = small.resize((size, size), Image.Resampling.BILINEAR)
    if chance[3] < augment.grayscale:
        image = image.convert("L").convert("RGB")
    pixels = np.asarray(image)
    return pixels[:, ::-1] if chance[4] < augment.flip else pixels


def _crop(image: Image.Image, size: int, max_ratio: float, rng: np.random.Generator) -> Image.Image:
    side = image.width
    cut = side * (1 - max_ratio * rng.random()) if max_ratio else float(side)
    left, top = rng.random(2) * (side - cut)
    if (cut, side) == (size, size):
        return image
    box = (left, top, left + cut, top + cut)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _pad(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = round(image.width / (1 - MAX_PADDING * rng.random()))
    canvas = Image.new("RGB", (side, side), background_color(image))
    left, top = (int(n) for n in rng.integers(side - image.width + 1, size=2))
    canvas.paste(image, (left, top))
    return canvas


def _recolor_background(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Give a plain background another pale color; pixels enclosed by the garment stay."""
    pixels = np.asarray(image)
    color = np.array(background_color(image))
    is_plain = (np.abs(pixels.astype(np.int16) - color) <= PLAIN_LEVELS).all(axis=2)
    border = (is_plain[0], is_plain[-1], is_plain[:, 0], is_plain[:, -1])
    if np.concatenate(border).mean() < 0.9:
        return image  # a scene, or a tightly cropped product
    from_edges = [
        np.logical_and.accumulate(is_plain, axis=0),
        np.logical_and.accumulate(is_plain[::-1], axis=0)[::-1],
        np.logical_and.accumulate(is_plain, axis=1),
        np.logical_and.accumulate(is_plain[:, ::-1], axis=1)[:, ::-1],
    ]
    changed = pixels.copy()
    changed[np.logical_or.reduce(from_edges)] = rng.integers(MIN_BACKGROUND_LEVEL, 256, size=3)
    return Image.fromarray(changed)
