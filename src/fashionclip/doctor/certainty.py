"""How certain a score is: the shop's own scores, against those of faults that were put in.

One rule for pictures, captions and labels, so that a confidence means the same in each.
"""

import numpy as np
from jaxtyping import Float

PRIOR = 0.01
"""The share of products that is taken to have a fault."""
MIN_PRODUCTS = 50
"""Fewer scores say too little of what is usual."""
_NEAR, _FAR = 0.90, 0.97
_GRID = 1_024
_MIN_BANDWIDTH = 1e-3


def confidences(
    scores: Float[np.ndarray, " n"], faulty: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """The probability of a fault at each score, if a share of ``PRIOR`` of the products has one.

    ``π·f₁ / (π·f₁ + (1 - π)·f₀)`` with ``π = PRIOR``: one minus the local false discovery rate
    (Efron 2004, "Large-scale simultaneous hypothesis testing"). ``f₁`` is the density of the faulty
    scores, by Gaussian kernels (Silverman 1986, section 3.4.1). ``f₀`` is that of sound products:
    an exponential through the 90th and 97th percentile of the shop's scores, because those above
    may be real faults.

    Args:
        scores: of the shop's products; high where a fault is likely.
        faulty: scores of products into which the fault was put.

    Returns:
        0…1 for each score, and for each faulty score; never falling as the score rises; zeros
        where there are fewer than ``MIN_PRODUCTS`` of either.
    """
    if min(len(scores), len(faulty)) < MIN_PRODUCTS:
        return np.zeros(len(scores)), np.zeros(len(faulty))
    near, far = np.quantile(scores, (_NEAR, _FAR))
    rate = np.log((1 - _NEAR) / (1 - _FAR)) / max(far - near, 1e-6)
    low, high = np.quantile(faulty, (0.25, 0.75))
    spread = min(faulty.std(), (high - low) / 1.34) if high > low else faulty.std()
    width = max(0.9 * spread * len(faulty) ** -0.2, _MIN_BANDWIDTH)
    grid = np.linspace(
        min(scores.min(), faulty.min()), max(scores.max(), faulty.max()) + width, _GRID
    )
    gaps = (grid[:, None] - faulty[None, :]) / width
    found = np.exp(-0.5 * gaps**2).mean(axis=1) / (width * np.sqrt(2 * np.pi))
    exponent = np.clip(-rate * (grid - far), -300, 300)
    sound = rate * (1 - _FAR) * np.exp(exponent)
    local = PRIOR * found / (PRIOR * found + (1 - PRIOR) * sound + 1e-300)
    rising = np.maximum.accumulate(local)
    return np.interp(scores, grid, rising), np.interp(faulty, grid, rising)
