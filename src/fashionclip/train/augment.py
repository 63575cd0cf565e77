"""Random augmentation of captions and images, one draw per epoch.

Images are decoded once and kept slightly larger than the model's input; each epoch then costs a
crop and a resize. Only grayscale changes the colors of a garment; its captions then name none.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image, ImageOps

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
COLOR_NAMES = (
    *("aqua", "beige", "black", "blue", "bronze", "brown", "burgundy", "camel", "charcoal"),
    *("copper", "coral", "cream", "cyan", "fuchsia", "gold", "golden", "gray", "green", "grey"),
    *("indigo", "ivory", "khaki", "lavender", "lilac", "lime", "magenta", "maroon", "mauve"),
    *("mint", "multicolor", "multicolored", "multicolour", "multicoloured", "mustard", "navy"),
    *("olive", "orange", "peach", "pink", "plum", "purple", "red", "rose", "rust", "salmon"),
    *("silver", "tan", "taupe", "teal", "turquoise", "violet", "white", "wine", "yellow"),
)
"""Colors that captions name, beside the values of the data's own column of colors."""
NO_WORDS = "a product"
"""The caption of a pair whose texts are colors alone, where the color is gone."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_LOOSE_SIGNS = re.compile(r"(?<!\S)[^\w\s]+(?!\S)")
"""Signs that stand alone when the words around them are gone."""


def sample_caption(pair: Pair, augment: AugmentConfig, rng: np.random.Generator) -> str:
    """Sample a caption of a pair.

    Args:
        pair: its texts.
        augment: probabilities of the kinds of captions, and of changes to the highlights.
        rng: source of randomness.

    Returns:
        The caption, never empty; without augmentation that of ``build_caption``.
    """
    kind = rng.random()
    if kind < augment.short_captions:
        return _short_caption(pair, rng)
    kind -= augment.short_captions
    if kind < augment.long_captions and pair.description:
        return _passage(pair, rng)
    kind -= augment.long_captions
    if 0 <= kind < augment.further_captions and pair.captions:
        return pair.captions[int(rng.integers(len(pair.captions)))]
    highlights = list(pair.highlights)
    if augment.highlight_order:
        highlights = [highlights[i] for i in rng.permutation(len(highlights))]
    if augment.highlight_dropout:
        is_kept = rng.random(len(highlights)) >= augment.highlight_dropout
        highlights = [one for one, keep in zip(highlights, is_kept, strict=True) if keep]
    return build_caption(highlights, pair.title) or pair.caption


def change_value(
    caption: str, values: Sequence[tuple[str, Sequence[str]]], rng: np.random.Generator
) -> str:
    """A caption with one attribute's value changed to another one: a hard negative.

    Args:
        caption: of a pair.
        values: of each attribute that may change, the pair's value, empty where unknown, and all.
        rng: source of randomness.

    Returns:
        The changed caption; empty if the caption names none of the values in whole words.

    Source: Yuksekgonul et al. 2023, arXiv 2210.01936 (NegCLIP), with the values of attributes
        instead of words that are swapped.
    """
    named = [
        (pattern, value, choices)
        for value, choices in values
        if value and len(choices) > 1 and (pattern := name_pattern((value,))).search(caption)
    ]
    if not named:
        return ""
    pattern, value, choices = named[int(rng.integers(len(named)))]
    other = choices[int(rng.integers(len(choices) - 1))]
    return pattern.sub(lambda _: choices[-1] if other == value else other, caption)


def color_pattern(values: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds names of colors in a text, whole words in any case.

    Args:
        values: names beside ``COLOR_NAMES``, such as the values of a column of colors.
    """
    return name_pattern((*COLOR_NAMES, *sorted(values)))


@lru_cache(maxsize=4096)
def name_pattern(values: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern that finds names in a text, whole words in any case."""
    names = {" ".join(name.casefold().split()) for name in values} - {""}
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    words = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in longest_first)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)


def without_colors(pair: Pair, pattern: re.Pattern[str], columns: Sequence[int]) -> Pair:
    """A pair as it is known where the color cannot be seen: its texts and attributes name none.

    Args:
        pair: what is known of the image.
        pattern: finds the names, as ``color_pattern`` makes it.
        columns: indices of the attributes that are colors.
    """

    def clean(text: str) -> str:
        if not pattern.search(text):
            return text
        return " ".join(_LOOSE_SIGNS.sub(" ", pattern.sub(" ", text)).split())

    changed = replace(
        pair,
        title=clean(pair.title),
        highlights=tuple(filter(None, map(clean, pair.highlights))),
        description=clean(pair.description),
        captions=tuple(filter(None, map(clean, pair.captions))),
        attributes=tuple("" if i in columns else one for i, one in enumerate(pair.attributes)),
    )
    return changed if changed.caption else replace(changed, title=NO_WORDS)


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
    larger_edge = round(edge * side / pre.size_px) if edge else None
    return preprocess(data, replace(pre, size_px=side, shortest_edge_px=larger_edge))


@dataclass(frozen=True, slots=True)
class View:
    """What an augmented image shows: a square of the stored image, in units of its side."""

    left: float
    top: float
    side: float
    is_flipped: bool
    is_gray: bool = False
    """Whether its colors are gone."""


def augment_image(
    stored: UInt8[np.ndarray, "side side 3"],
    size: int,
    augment: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "size size 3"], View]:
    """Augment a stored image, and bring it to the model's size.

    Args:
        stored: as ``decode`` returns it.
        size: side of the model's input.
        augment: probability and strength of each change.
        rng: source of randomness.
    """
    chance = rng.random(6)
    image, side = Image.fromarray(stored), len(stored)
    offset = (0, 0)
    if chance[0] < augment.background:
        image = _recolor_background(image, rng)
    if chance[1] < augment.padding:
        image, offset = _pad(image, rng)
    image, (left, top, cut) = _crop(image, size, augment.crop, rng)
    if chance[2] < augment.low_resolution:
        small_side = max(1, round(size / rng.uniform(1.5, MAX_DOWNSCALE)))
        small = image.resize((small_side, small_side), Image.Resampling.BILINEAR)
        image = small.resize((size, size), Image.Resampling.BILINEAR)
    is_gray, is_flipped = bool(chance[3] < augment.grayscale), bool(chance[4] < augment.flip)
    if is_gray:
        gray = image.convert("L")
        image = (ImageOps.invert(gray) if chance[5] < augment.negative else gray).convert("RGB")
    pixels = np.asarray(image)
    view = View(
        left=(left - offset[0]) / side,
        top=(top - offset[1]) / side,
        side=cut / side,
        is_flipped=is_flipped,
        is_gray=is_gray,
    )
    return pixels[:, ::-1] if is_flipped else pixels, view


def view_patches(
    targets: Float32[np.ndarray, "patch channel"], view: View
) -> Float32[np.ndarray, "patch channel"]:
    """Targets of a whole image's patches as those of the patches of a view: bilinear samples.

    Args:
        targets: row by row, of a square grid.
        view: what the augmented image shows.
    """
    side = math.isqrt(len(targets))
    grid = targets.reshape(side, side, -1)
    centers = (np.arange(side) + 0.5) / side
    down = np.clip((view.top + centers * view.side) * side - 0.5, 0, side - 1)
    across = np.clip((view.left + centers * view.side) * side - 0.5, 0, side - 1)
    if view.is_flipped:
        across = across[::-1]
    for axis, places in ((0, down), (1, across)):
        low = np.floor(places).astype(np.int64)
        high = np.minimum(low + 1, side - 1)
        share = (places - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        grid = grid.take(low, axis) * (1 - share) + grid.take(high, axis) * share
    return grid.reshape(targets.shape).astype(np.float32)


def mix_images(
    pixels: UInt8[np.ndarray, "n size size 3"],
    patch_targets: Float32[np.ndarray, "n patch channel"] | None,
    n_patches: int,
    probability: float,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Paste a rectangle of patches of another image into some images of a batch, in place.

    Args:
        pixels: the images.
        patch_targets: targets of all patches, which move with them.
        n_patches: patches of an image.
        probability: that an image is changed.
        rng: source of randomness.

    Returns:
        For each image the index of the other one, or its own, and the ratio that is its own.

    Source: Yun et al. 2019, arXiv 1905.04899 (CutMix).
    """
    n, side = len(pixels), math.isqrt(n_patches)
    other, ratio = np.arange(n), np.ones(n, np.float32)
    if not probability:
        return other, ratio
    px = pixels.shape[1] // side
    chosen = np.flatnonzero(rng.random(n) < probability)
    other[chosen] = rng.permutation(n)[: len(chosen)]
    before = pixels.copy()
    moved = None if patch_targets is None else patch_targets.reshape(n, side, side, -1)
    before_moved = None if moved is None else moved.copy()
    for i in chosen.tolist():
        height, width = rng.integers(side // 4 + 1, max(side // 4 + 2, 3 * side // 4), size=2)
        top, left = (int(rng.integers(0, side - edge + 1)) for edge in (height, width))
        rows, columns = slice(top, top + height), slice(left, left + width)
        pixel_rows = slice(top * px, (top + height) * px)
        pixel_columns = slice(left * px, (left + width) * px)
        pixels[i, pixel_rows, pixel_columns] = before[other[i], pixel_rows, pixel_columns]
        if moved is not None and before_moved is not None:
            moved[i, rows, columns] = before_moved[other[i], rows, columns]
        ratio[i] = 1 - height * width / n_patches
    return other, ratio


def _crop(
    image: Image.Image, size: int, max_ratio: float, rng: np.random.Generator
) -> tuple[Image.Image, tuple[float, float, float]]:
    """A random square at the model's size; its left and top edge and its side."""
    side = image.width
    cut = side * (1 - max_ratio * rng.random()) if max_ratio else float(side)
    left, top = (rng.random(2) * (side - cut)).tolist()
    if (cut, side) == (size, size):
        return image, (left, top, cut)
    box = (left, top, left + cut, top + cut)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box), (left, top, cut)


def _pad(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int]]:
    """The image on a larger background, and where its corner lies."""
    side = round(image.width / (1 - MAX_PADDING * rng.random()))
    canvas = Image.new("RGB", (side, side), background_color(image))
    left, top = (int(n) for n in rng.integers(side - image.width + 1, size=2))
    canvas.paste(image, (left, top))
    return canvas, (left, top)


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
