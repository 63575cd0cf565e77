"""Metrics of exposure: do the first places of a ranking go to groups of products by their shares?

``ranked`` is ``(..., place)``, best place first: the group of the product there, an integer in
``0…g-1``. ``shares`` are the groups' shares of all products that could stand there; they are above
0 and sum to 1. Every metric broadcasts over the leading axes, so that hundreds of shuffled labels
are one call.

A group that is not among the first places would have an infinite skew. So shares of the first i
places are smoothed towards the reference: ``(count + PRIOR * share) / (i + PRIOR)``. Where a
ranking has the shares of the reference, smoothing changes nothing, and skew and divergence are 0.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Num

PRIOR = 1.0
"""Weight of the reference in smoothed shares, in places."""


def skew_at(
    ranked: Int[np.ndarray, "*some places"], shares: Float[np.ndarray, " g"], k: int
) -> Float[np.ndarray, "*some g"]:
    """``ln(share among the first k / share of all)`` of each group; above 0: more than its share.

    Source: Geyik, Ambler & Kenthapadi 2019, "Fairness-aware ranking in search & recommendation
    systems", definition 3, here with smoothed shares. MaxSkew is the maximum over groups.

    Raises:
        ValueError: ``k`` is below 1, or a share is not above 0.
    """
    _check(shares, k)
    first = ranked[..., :k]
    counts = np.stack([(first == group).sum(axis=-1) for group in range(len(shares))], axis=-1)
    return np.asarray(np.log(_smoothed(counts, first.shape[-1], shares) / shares))


def ndkl(
    ranked: Int[np.ndarray, "*some places"], shares: Float[np.ndarray, " g"]
) -> Float[np.ndarray, "*some"]:
    """Divergence of the shares of every prefix of the ranking from the reference, discounted.

    ``(1/Z) Σ KL(first i ‖ reference) / log2(i + 1)`` with ``Z = Σ 1 / log2(i + 1)``, over all
    places i of ``ranked``, in nats. The divergence is that of the ranking from the reference, not
    the other way round. It is 0 or more, and by chance never 0: compare it with shuffled labels.

    Source: Geyik, Ambler & Kenthapadi 2019, definition 5, here with smoothed shares.

    Raises:
        ValueError: a share is not above 0, or there is no place.
    """
    _check(shares, ranked.shape[-1])
    i = np.arange(1, ranked.shape[-1] + 1)
    weights = 1 / np.log2(i + 1)
    divergence = np.zeros(ranked.shape)
    for group, share in enumerate(shares.tolist()):
        counts = np.cumsum(ranked == group, axis=-1)
        smoothed = (counts + PRIOR * share) / (i + PRIOR)
        divergence += smoothed * np.log(smoothed / share)
    return np.asarray((divergence * weights).sum(axis=-1) / weights.sum())


def bias_at(
    ranked: Int[np.ndarray, "*some places"], first: int, second: int, k: int
) -> Float[np.ndarray, "*some"]:
    """``(m - w) / (m + w)`` of the counts of two groups among the first k, in -1…1.

    0 where neither group is there.

    Source: Wang, Liu & Wang 2021, "Are gender-neutral queries really gender-neutral?", equation 1.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        message = f"k is {k}; a ranking has at least one place"
        raise ValueError(message)
    m, w = ((ranked[..., :k] == group).sum(axis=-1) for group in (first, second))
    return np.asarray((m - w) / np.maximum(1, m + w))


def swapped_labels(
    labels: Int[np.ndarray, " n"], swaps: int, rng: np.random.Generator
) -> Int[np.ndarray, "swaps n"]:
    """The labels dealt out at random again and again: a null of labels that mean nothing."""
    return rng.permuted(np.tile(labels, (swaps, 1)), axis=1)


def mean_gap(
    values: Num[np.ndarray, " n"], is_first: Bool[np.ndarray, "*some n"]
) -> Float[np.ndarray, "*some"]:
    """Mean of the values that are marked less the mean of the others, for each set of marks.

    With cosines of a text to products, and men's products marked, it is the association of the
    text with men's products: ``mean cos(text, men's) - mean cos(text, women's)`` (Caliskan et al.
    2017, equation of s, for one attribute). The label-swap null has the marks dealt out again.

    NaN where all are marked, or none is.
    """
    n_first = is_first.sum(axis=-1)
    n_others = is_first.shape[-1] - n_first
    of_first = is_first @ values.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(of_first / n_first - (values.sum(dtype=np.float64) - of_first) / n_others)


def p_of_swaps(value: float, swapped: Float[np.ndarray, " swaps"]) -> float:
    """Two-sided p of a value under shuffled labels: how often these lie as far from their mean.

    One is added to both counts, so that p is never 0 (Phipson & Smyth 2010).
    """
    centre = swapped.mean()
    n_far = int((np.abs(swapped - centre) >= abs(value - centre) - 1e-12).sum())
    return (n_far + 1) / (len(swapped) + 1)


def stratified_gap(
    values: Float[np.ndarray, " n"],
    is_first: Bool[np.ndarray, " n"],
    strata: Int[np.ndarray, " n"],
    *,
    resamples: int,
    seed: int = 0,
) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """Mean of the marked less mean of the others within strata, and its bootstrap samples.

    Strata are weighted by ``a b / (a + b)`` of their two counts, as a least-squares fit with a
    level for each stratum would; those without both kinds have no weight. Items are resampled
    within each stratum and kind.

    Raises:
        ValueError: no stratum has both kinds.
    """
    rng = np.random.default_rng(seed)
    total, weight, sampled = 0.0, 0.0, np.zeros(resamples)
    for marked, others in _pairs(values, is_first, strata):
        w = len(marked) * len(others) / (len(marked) + len(others))
        total += w * float(marked.mean() - others.mean())
        draws = [v[rng.integers(len(v), size=(resamples, len(v)))] for v in (marked, others)]
        sampled += w * (draws[0].mean(axis=1) - draws[1].mean(axis=1))
        weight += w
    if not weight:
        message = "no stratum has values of both kinds"
        raise ValueError(message)
    return total / weight, sampled / weight


def _pairs(
    values: np.ndarray, is_first: np.ndarray, strata: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for stratum in np.unique(strata).tolist():
        inside = strata == stratum
        marked, others = values[inside & is_first], values[inside & ~is_first]
        if len(marked) and len(others):
            yield marked, others


def _smoothed(counts: np.ndarray, places: int, shares: np.ndarray) -> np.ndarray:
    return np.asarray((counts + PRIOR * shares) / (places + PRIOR))


def _check(shares: np.ndarray, k: int) -> None:
    if k < 1:
        message = f"k is {k}; a ranking has at least one place"
        raise ValueError(message)
    if not len(shares) or shares.min() <= 0:
        message = f"shares are {shares.tolist()}; leave out groups without a product"
        raise ValueError(message)
