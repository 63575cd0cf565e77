"""How certain a score is: the shop's own scores, against those of faults that were put in.

One rule for pictures, captions and labels, so that a confidence means the same in each.
"""

import numpy as np
from jaxtyping import Float

PICTURE_PRIOR, LABEL_PRIOR = 0.02, 0.05
"""The share of products that is taken to have a fault of its picture, a wrong caption or label."""
MIN_PRODUCTS = 50
"""Fewer scores say too little of what is usual."""
_MIDDLE = 0.5
PICTURE_TAIL = (0.75, 0.90)
"""Percentiles that the tail is fitted through, where a tenth of the products may have faults."""
LABEL_TAIL = (0.85, 0.95)
"""The same for labels, many of which are confused without being wrong."""
_MIN_SHAPE, _MAX_SHAPE = 0.6, 2.0
_GRID = 1_024
_MIN_BANDWIDTH = 1e-3


def confidences(
    scores: Float[np.ndarray, " n"],
    faulty: Float[np.ndarray, " m"],
    *,
    prior: float = PICTURE_PRIOR,
    tail: tuple[float, float] = PICTURE_TAIL,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """The probability of a fault at each score, if a share ``prior`` of the products has one.

    ``π·f₁ / (π·f₁ + (1 - π)·f₀)``, π the prior: one minus the local false discovery rate
    (Efron 2004, "Large-scale simultaneous hypothesis testing"). ``f₁`` is the density of the faulty
    scores, by Gaussian kernels (Silverman 1986, section 3.4.1). ``f₀`` is that of sound products:
    a Weibull tail above the median, through two percentiles of the shop's scores, because those
    beyond may be real faults. It is taken to fall everywhere, so that faults that score like sound
    products are not found.

    Args:
        scores: of the shop's products; high where a fault is likely.
        faulty: scores of products into which the fault was put.
        prior: the share of products that is taken to have the fault.
        tail: the percentiles, as shares.

    Returns:
        0…1 for each score, and for each faulty score; never falling as the score rises; zeros
        where there are fewer than ``MIN_PRODUCTS`` of either.
    """
    if min(len(scores), len(faulty)) < MIN_PRODUCTS:
        return np.zeros(len(scores)), np.zeros(len(faulty))
    middle, near, far = np.quantile(scores, (_MIDDLE, *tail))
    depths = [float(np.log((1 - _MIDDLE) / (1 - share))) for share in tail]
    near, far = max(near - middle, 1e-6), max(far - middle, 2e-6)
    stretch = max(np.log(far / near), 1e-3)
    shape = float(np.clip(np.log(depths[1] / depths[0]) / stretch, _MIN_SHAPE, _MAX_SHAPE))
    scale = far / depths[1] ** (1 / shape)
    low, high = np.quantile(faulty, (0.25, 0.75))
    spread = min(faulty.std(), (high - low) / 1.34) if high > low else faulty.std()
    width = max(0.9 * spread * len(faulty) ** -0.2, _MIN_BANDWIDTH)
    grid = np.linspace(
        min(scores.min(), faulty.min()), max(scores.max(), faulty.max()) + width, _GRID
    )
    gaps = (grid[:, None] - faulty[None, :]) / width
    found = np.exp(-0.5 * gaps**2).mean(axis=1) / (width * np.sqrt(2 * np.pi))
    beyond = np.maximum(grid - middle, 1e-3 * scale) / scale
    sound = (1 - _MIDDLE) * shape / scale * beyond ** (shape - 1) * np.exp(-(beyond**shape))
    sound = np.maximum.accumulate(sound[::-1])[::-1]  # a shape above 1 has none at the median
    local = prior * found / (prior * found + (1 - prior) * sound + 1e-300)
    rising = np.maximum.accumulate(np.where(grid > middle, local, 0.0))
    return np.interp(scores, grid, rising), np.interp(faulty, grid, rising)
