"""What is measured of a picture's pixels: size, lightness, ground, product area, edges, strokes.

Every measure is of the picture scaled to ``SIDE_PX``, so that pictures of all sizes compare. None
is a fault by itself: ``pictures`` judges each by what is usual in the same shop.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image

from fashionclip.images.connected import connected_parts
from fashionclip.images.near_duplicates import HASH_BYTES, perceptual_hash
from fashionclip.images.strips import MAX_ASPECT, resized_to_square

SIDE_PX = 192
"""Longest side of the picture that is measured."""
MAX_GAP = 20.0
"""Pixels within this many of 255 levels of the ground's colour belong to the ground."""
MEASURES = (
    *("short_side", "long_side", "aspect"),
    *("dark_end", "lightness", "light_end", "brightest", "contrast", "entropy"),
    *("ground_red", "ground_green", "ground_blue", "ground_spread", "plain_border"),
    *("product_share", "left", "top", "right", "bottom"),
    *("left_edge", "top_edge", "right_edge", "bottom_edge"),
    *("parts", "second_part", "specks", "specks_outside", "specks_in_rows"),
    *("product_lightness", "product_colour"),
    *("edges", "strong_edges", "sharpness", "fine_share", "product_sharpness"),
    *("faint_ground", "ground_edges", "strokes", "strokes_above", "strokes_below"),
    *("gap_across", "gap_down"),
)
"""The names of the measures, in their order. Lengths are shares of the picture's sides, levels of
colour 0…1; ``short_side`` and ``long_side`` are base-2 logarithms of pixels."""
GRID = 16
SIGNATURE_BYTES = HASH_BYTES + 3 * GRID**2
"""A perceptual hash, then the picture as 16 by 16 pixels."""
VERSION = 1
"""Of the measures and signatures, for caches; raise it when one changes."""
_BORDER, _BAND = 3, 12  # pixels
_MIN_PART, _MAX_SPECK = 0.04, 0.01  # of the product's area; of the picture's area
_MIN_SPECK_PX = 3


def measure(image: Image.Image, size: tuple[int, int]) -> Float32[np.ndarray, " measure"]:
    """Measure a picture.

    Args:
        image: upright RGB, at any size.
        size: width and height of the file's picture, before it was decoded smaller.

    Returns:
        One number for each of ``MEASURES``.
    """
    scaled = _scaled(image)
    pixels = np.asarray(scaled)
    levels = np.asarray(scaled.convert("L"))
    ring = _ring(pixels)
    ground = np.median(ring, axis=0).astype(np.int16)
    gaps = np.abs(ring - ground).max(axis=1)
    channels = [np.abs(pixels[:, :, i] - ground[i]) for i in range(3)]
    gap = np.maximum(np.maximum(channels[0], channels[1]), channels[2])
    is_product = gap > MAX_GAP
    grey = levels.astype(np.float32)
    across, down = _gradients(grey)
    edges = np.maximum(np.abs(across), np.abs(down))
    steepness = np.cumsum(np.bincount(edges.astype(np.uint8).reshape(-1), minlength=256))
    steep = np.searchsorted(steepness, 0.99 * edges.size)
    laplacian = np.abs(_laplacian(grey))
    coarse = np.abs(_laplacian(_halved(grey)))
    share = float(is_product.mean())
    on_product = is_product if share > 0.002 else np.ones_like(is_product)
    colours, inner = pixels[on_product], on_product[1:-1, 1:-1]
    off_product = ~_grown(is_product, 2)
    faint = gap[off_product]
    strokes = _strokes(across)
    third = max(1, len(strokes) // 3)
    found = (
        *(float(np.log2(min(size))), float(np.log2(max(size))), float(np.log(size[0] / size[1]))),
        *_tones(levels),
        *(float(level) / 255 for level in ground),
        float(np.minimum(gaps, 64).mean() / 64),
        float((gaps <= MAX_GAP).mean()),
        share,
        *_box(is_product),
        *_touching(is_product),
        *_parts(is_product),
        float(colours.mean() / 255),
        float(_saturation(colours).mean() / 255),
        float(edges.mean() / 32),
        float(steep / 255),
        float(np.log1p(laplacian.mean())),
        float(laplacian.mean() / (coarse.mean() + 1.0)),
        float(np.log1p(laplacian[inner].mean() if inner.any() else laplacian.mean())),
        float(((faint > 3) & (faint <= MAX_GAP)).mean()) if faint.size else 0.0,
        float(np.log1p(edges[off_product].mean())) if faint.size else 0.0,
        float(strokes.max()),
        float(strokes[:third].max()),
        float(strokes[-third:].max()),
        _longest_gap(is_product.any(axis=0)),
        _longest_gap(is_product.any(axis=1)),
    )
    return np.asarray(found, np.float32)


def signature(image: Image.Image) -> UInt8[np.ndarray, " signature"]:
    """The perceptual hash of a picture, and the picture at 16 by 16 pixels."""
    small = np.asarray(resized_to_square(image, GRID, Image.Resampling.BOX))
    return np.concatenate([perceptual_hash(image), small.reshape(-1)])


def _scaled(image: Image.Image) -> Image.Image:
    scale = SIDE_PX / max(image.size)
    if max(image.size) > MAX_ASPECT * min(image.size):
        image = resized_to_square(image, SIDE_PX, Image.Resampling.BILINEAR)
        scale = 1.0
    width, height = (max(8, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _tones(levels: UInt8[np.ndarray, "h w"]) -> tuple[float, ...]:
    """Four percentiles of the levels, how far they spread, and the entropy of 32 bins of them."""
    counts = np.bincount(levels.reshape(-1), minlength=256)
    upto = np.cumsum(counts) / levels.size
    rough = counts.reshape(32, 8).sum(axis=1) / levels.size
    return (
        *(float(np.searchsorted(upto, share) / 255) for share in (0.05, 0.5, 0.95, 0.99)),
        float(levels.astype(np.float32).std() / 128),
        -float((rough[rough > 0] * np.log2(rough[rough > 0])).sum()) / 5,
    )


def _ring(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "n 3"]:
    n = _BORDER
    sides = (pixels[:n], pixels[-n:], pixels[n:-n, :n], pixels[n:-n, -n:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def _gradients(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    down[1:-1] = grey[2:] - grey[:-2]
    return across, down


def _laplacian(grey: np.ndarray) -> np.ndarray:
    middle = grey[1:-1, 1:-1]
    return np.asarray(
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    )


def _halved(grey: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in grey.shape)
    return np.asarray(
        grey[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    )


def _saturation(colours: UInt8[np.ndarray, "n 3"]) -> np.ndarray:
    red, green, blue = colours.T
    high = np.maximum(np.maximum(red, green), blue)
    return np.asarray(high - np.minimum(np.minimum(red, green), blue))


def _grown(mask: np.ndarray, n_px: int) -> np.ndarray:
    grown = mask.copy()
    for _ in range(n_px):
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        grown = wider
    return grown


def _box(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    """Margins left, above, right and below of the product, as shares of the sides."""
    columns, rows = (np.flatnonzero(mask.sum(axis=axis) > 1) for axis in (0, 1))
    if not len(columns) or not len(rows):
        return 0.5, 0.5, 0.5, 0.5
    height, width = mask.shape
    return (
        float(columns[0] / width),
        float(rows[0] / height),
        float(1 - (columns[-1] + 1) / width),
        float(1 - (rows[-1] + 1) / height),
    )


def _touching(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    """How much of the left, upper, right and lower edge is product."""
    return (
        float(mask[:, :2].mean()),
        float(mask[:2].mean()),
        float(mask[:, -2:].mean()),
        float(mask[-2:].mean()),
    )


def _parts(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float, float, float, float]:
    """Parts of the product's area: large ones, the second's share; specks, where they are."""
    areas, boxes = _components(mask)
    if not len(areas):
        return 0.0, 0.0, 0.0, 0.0, 0.0
    order = np.argsort(-areas, kind="stable")
    areas, boxes = areas[order], boxes[order]
    large = areas >= _MIN_PART * areas.sum()
    second = float(areas[1] / areas[0]) if len(areas) > 1 else 0.0
    is_speck = (areas >= _MIN_SPECK_PX) & (areas <= _MAX_SPECK * mask.size) & ~large
    specks = boxes[is_speck]
    left, top, right, bottom = boxes[0]
    centres = np.stack([specks[:, [0, 2]].mean(axis=1), specks[:, [1, 3]].mean(axis=1)], axis=1)
    outside = ((centres[:, 0] < left) | (centres[:, 0] > right) | (centres[:, 1] < top)) | (
        centres[:, 1] > bottom
    )
    rows = np.bincount((centres[:, 1] // _BAND).astype(int), minlength=1)
    in_rows = float(rows.max()) if len(centres) else 0.0
    return (
        float(np.log1p(large.sum())),
        second,
        float(np.log1p(len(specks))),
        float(np.log1p(outside.sum())),
        float(np.log1p(in_rows)),
    )


def _components(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, " part"], Int[np.ndarray, "part 4"]]:
    """Areas and boxes (left, top, right, bottom) of connected parts, in pixels."""
    labels = connected_parts(mask)
    rows, columns = np.nonzero(mask)
    part = labels[mask] - 1
    areas = np.bincount(part)
    low, high = np.full((2, len(areas)), max(mask.shape)), np.zeros((2, len(areas)), np.int64)
    for axis, places in enumerate((columns, rows)):
        np.minimum.at(low[axis], part, places)
        np.maximum.at(high[axis], part, places + 1)
    return areas, np.concatenate([low, high]).T


def _strokes(across: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " band"]:
    """How often light and dark alternate along the rows of each band, per pixel: high in text."""
    steep = np.where(np.abs(across) > 24, np.sign(across), 0)
    turns = steep[:, 1:] * steep[:, :-1] < 0
    turns[:, :-1] |= steep[:, 2:] * steep[:, :-2] < 0
    n = max(1, len(turns) // _BAND)
    bands = turns[: n * _BAND] if len(turns) >= _BAND else turns
    return np.asarray(bands.reshape(n, -1, turns.shape[1]).mean(axis=(1, 2)))


def _longest_gap(is_filled: Bool[np.ndarray, " n"]) -> float:
    """The longest empty stretch between filled places, as a share of the length."""
    places = np.flatnonzero(is_filled)
    return float((np.diff(places) - 1).max() / len(is_filled)) if len(places) > 1 else 0.0
