"""Regions of a photograph: windows of a few sizes, how far they overlap, and what suppresses what.

A region is ``(left, top, right, bottom)`` in pixels; right and bottom are exclusive.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fashionclip.localization import starts

HEIGHTS: Sequence[float] = (0.6, 0.4)
"""Heights of windows, as shares of the photograph's height. Smaller ones hold mostly a piece of a
garment, and were right less often on development photographs."""
WIDTHS = (1.0, 0.6)
"""Widths of windows, as shares of their height."""
STEP = 0.4
"""From one window to the next, as a share of its side."""
MAX_OVERLAP = 0.3
"""A region that overlaps a stronger one more than this (IoU) is the same garment."""
MAX_INSIDE = 0.6
"""So is one of which this share lies in a stronger one, or the reverse."""


def windows_of(width: int, height: int) -> Int[np.ndarray, "n 4"]:
    """The whole photograph, and windows that cover it at each size.

    Args:
        width: of the photograph in pixels.
        height: of the photograph in pixels.
    """
    regions = [(0, 0, width, height)]
    for share in HEIGHTS:
        high = share * height
        for ratio in WIDTHS:
            wide = min(float(width), high * ratio)
            for top in starts(height, high, STEP):
                for left in starts(width, wide, STEP):
                    regions.append((int(left), int(top), round(left + wide), round(top + high)))
    found = np.unique(np.asarray(regions), axis=0)
    return found[(found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])]


def overlaps(
    a: Int[np.ndarray, "n 4"], b: Int[np.ndarray, "m 4"]
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    """How far regions overlap, both in 0…1.

    Returns:
        Intersection over union; and intersection over the smaller of both.
    """
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    shared = np.clip(high - low, 0, None).prod(axis=2).astype(np.float64)
    area_a, area_b = ((one[:, 2:] - one[:, :2]).prod(axis=1) for one in (a, b))
    smaller = np.minimum(area_a[:, None], area_b[None])
    return shared / (area_a[:, None] + area_b[None] - shared), shared / smaller


def suppressed(
    regions: Int[np.ndarray, "n 4"], words: Sequence[int], scores: Float[np.ndarray, " n"]
) -> list[int]:
    """Non-maximum suppression over all words: the rows that stay, strongest first.

    A region goes where a stronger one is nearly the same, holds it or is held by it, and where a
    stronger one has the same word: a photograph shows one person's outfit.
    """
    iou, inside = overlaps(regions, regions)
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if not any(
            words[row] == words[other]
            or iou[row, other] > MAX_OVERLAP
            or inside[row, other] > MAX_INSIDE
            for other in kept
        ):
            kept.append(row)
    return kept
