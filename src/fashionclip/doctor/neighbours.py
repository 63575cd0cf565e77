"""Nearest neighbours of every product by its vector, and products that are far from all others."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Int

from fashionclip.doctor.certainty import MIN_PRODUCTS
from fashionclip.doctor.findings import Finding
from fashionclip.doctor.shop import Shop, picture_finding

NEIGHBOURS = 10
FENCE = 1.7
"""Interquartile ranges above the third quartile from where a distance stands out at all."""
CERTAIN = 10.0
"""Interquartile ranges above the third quartile at which the confidence is 1."""
_ROWS = 256


def nearest(
    vectors: Float32[np.ndarray, "n dim"],
    *,
    k: int = NEIGHBOURS,
    progress: Callable[[int], None] | None = None,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The k nearest other rows of each row, nearest first, with their cosines.

    Exact: every pair is compared, a block of rows at a time, so memory is bounded by the block.

    Args:
        vectors: of unit length.
        k: how many; fewer if there are fewer other rows.
        progress: called with the number of rows done.
    """
    n = len(vectors)
    k = min(k, max(0, n - 1))
    rows, cosines = np.zeros((n, k), np.int64), np.zeros((n, k), np.float32)
    if not k:
        return rows, cosines
    for start in range(0, n, _ROWS):
        block = vectors[start : start + _ROWS] @ vectors.T
        own = np.arange(len(block))
        block[own, start + own] = -2.0
        if k < n - 1:
            best = np.argpartition(block, n - k, axis=1)[:, n - k :]
        else:
            best = np.tile(np.arange(n), (len(block), 1))
        of_best = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-of_best, axis=1, kind="stable")[:, :k]
        rows[start : start + len(block)] = np.take_along_axis(best, order, axis=1)
        cosines[start : start + len(block)] = np.take_along_axis(of_best, order, axis=1)
        if progress is not None:
            progress(min(n, start + _ROWS))
    return rows, cosines


def outliers(shop: Shop, cosines: Float[np.ndarray, "n k"], least: float) -> list[Finding]:
    """Products whose mean distance to their nearest neighbours is beyond Q3 + 1.7 IQR.

    Tukey's fence, with the factor that cleanlab takes. The confidence rises from 0 at the fence to
    1 at ``CERTAIN`` interquartile ranges; it is not a probability, because nothing says what else
    a shop may sell.
    """
    if len(shop.ids) < MIN_PRODUCTS or not cosines.shape[1]:
        return []
    distance = 1 - cosines.mean(axis=1)
    low, high = np.quantile(distance, (0.25, 0.75))
    beyond = (distance - high) / max(high - low, 1e-6)
    confidence = np.clip((beyond - FENCE) / (CERTAIN - FENCE), 0, 0.99)
    usual = float(np.quantile(cosines.mean(axis=1), 0.05))
    return [
        picture_finding(
            shop,
            "outlier",
            row,
            f"its {cosines.shape[1]} nearest products have a mean cosine of "
            f"{cosines[row].mean():.2f}; for 95 % of this shop's products it is {usual:.2f} or "
            "more",
            float(confidence[row]),
        )
        for row in np.flatnonzero((beyond > FENCE) & (confidence >= least)).tolist()
    ]
