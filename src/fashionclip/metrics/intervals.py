"""How sure figures are: bootstrap intervals, and paired tests between two models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.metrics.classification import Margins, checked_labels

RESAMPLES = 2000
LEVELS = (2.5, 97.5)  # percent: the ends of a 95 % interval
_CELLS_AT_ONCE = 4_000_000  # counts held at a time: 32 MB
_ITEMS_A_KIND = 10  # items a distinct value from which drawing counts is the faster way

Metric = Callable[[np.ndarray | Margins], np.ndarray]
"""A figure of confusion matrices or of their margins, over leading axes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a second model has over a first one on the same items."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided bootstrap p: twice the smaller of the shares at or below 0 and at or above 0, with
    one added to each count (Efron & Tibshirani 1993, chapter 16; Davison & Hinkley 1997, section
    4.2 for the one). 1 for a single item, which proves nothing; NaN for none."""
    n: int


def mean_interval(
    values: Float[np.ndarray, " n"], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean; NaN of no values.

    Raises:
        ValueError: a value is NaN.
    """
    return _ends(_resampled_means(values, resamples, seed))


def confusion_interval(
    confusion: Int[np.ndarray, "c c"], metric: Metric, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a figure of a confusion matrix; NaN of no pictures.

    Drawing n pictures with replacement is drawing the matrix's cells from the multinomial of their
    shares, which is exact and costs nothing a picture.
    """
    return confusion_intervals(confusion, [metric], resamples=resamples, seed=seed)[0]


def confusion_intervals(
    confusion: Int[np.ndarray, "c c"],
    metrics: Sequence[Metric],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """``confusion_interval`` of several figures, for which matrices are drawn once."""
    found: list[list[np.ndarray]] = [[np.empty(0)] for _ in metrics]
    for drawn in _resampled(confusion, resamples, seed):
        for values, metric in zip(found, metrics, strict=True):
            values.append(metric(drawn))
    return [_ends(np.concatenate(values)) for values in found]


def class_intervals(
    confusion: Int[np.ndarray, "c c"],
    metrics: Sequence[Metric],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Float[np.ndarray, "2 c"]]:
    """95 % percentile bootstrap intervals of figures of each class; NaN of no pictures."""
    found: list[list[np.ndarray]] = [[] for _ in metrics]
    for drawn in _resampled(confusion, resamples, seed):
        for values, metric in zip(found, metrics, strict=True):
            values.append(metric(drawn))
    nothing = np.full((2, len(confusion)), np.nan)
    return [
        np.percentile(np.concatenate(values), LEVELS, axis=0) if values else nothing
        for values in found
    ]


def draws_intervals(
    truth: Int[np.ndarray, " n"],
    predicted: Sequence[Int[np.ndarray, "_ n"]],
    n_classes: int,
    metric: Metric,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """95 % intervals of figures that are means over several draws of what was learned from.

    Items and draws are both drawn with replacement, so that an interval holds what another test
    set and another choice of training pictures would change; NaN of no items or no draws.

    Args:
        truth: labels of the items.
        predicted: of each figure, the labels that each of its draws gives them.
        n_classes: how many classes there are.
        metric: of a confusion matrix.
        resamples: how often to draw.
        seed: of the draws; items are drawn once for all figures.

    Raises:
        ValueError: a label outside ``0…n_classes - 1``.
    """
    rng = np.random.default_rng([seed, 1])  # another stream than that of the items
    found: list[list[np.ndarray]] = [[np.empty(0)] for _ in predicted]
    every = [labels for draws in predicted for labels in draws]
    for drawn in _item_draws(truth, every, n_classes, resamples, seed):
        values = iter([metric(of_labels) for of_labels in drawn])
        for means, draws in zip(found, predicted, strict=True):
            if len(draws):
                of_draw = np.stack([next(values) for _ in draws])
                chosen = rng.integers(len(draws), size=of_draw.shape)
                means.append(np.take_along_axis(of_draw, chosen, axis=0).mean(axis=0))
    return [_ends(np.concatenate(means)) for means in found]


def mcnemar(correct_a: Bool[np.ndarray, " n"], correct_b: Bool[np.ndarray, " n"]) -> float:
    """Two-sided p of two models being right equally often, from the items on which they differ.

    Source: McNemar 1947, in its exact form: the binomial test of a fair coin.
    """
    b, c = int((correct_a & ~correct_b).sum()), int((~correct_a & correct_b).sum())
    n, rare = b + c, min(b, c)
    if not n:
        return 1.0
    logs = np.cumsum(np.log(np.arange(1, n + 1)))
    factorial = np.concatenate([[0.0], logs])  # log k!
    k = np.arange(rare + 1)
    terms = factorial[n] - factorial[k] - factorial[n - k] - n * np.log(2.0)
    return float(min(1.0, 2 * np.exp(terms).sum()))


def paired_means(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Mean of ``b - a`` over the same items, by the paired bootstrap.

    Raises:
        ValueError: a value is NaN.
    """
    gaps = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    value = float(gaps.mean()) if len(gaps) else np.nan
    return _difference(value, _resampled_means(gaps, resamples, seed), len(gaps))


def paired_labels(
    truth: Int[np.ndarray, " n"],
    a: Int[np.ndarray, " n"],
    b: Int[np.ndarray, " n"],
    n_classes: int,
    metric: Metric,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """``metric(b) - metric(a)`` of labels for the same items, by the paired bootstrap.

    Resampling items is drawing the distinct triples (truth, a, b) from their multinomial.

    Raises:
        ValueError: a label outside ``0…n_classes - 1``.
    """
    truth, a, b = (checked_labels(labels, n_classes) for labels in (truth, a, b))
    triples = (truth * n_classes + a) * n_classes + b
    kinds, counts = np.unique(triples, return_counts=True)
    ours = kinds // n_classes  # truth and a
    theirs = ours // n_classes * n_classes + kinds % n_classes  # truth and b

    def gap(drawn: np.ndarray) -> np.ndarray:
        return np.asarray(
            metric(_margins(drawn, theirs, n_classes)) - metric(_margins(drawn, ours, n_classes))
        )

    found = [gap(drawn) for drawn in _draws(counts, n_classes, resamples, seed)]
    value = float(gap(counts[None])[0]) if len(truth) else np.nan
    return _difference(value, np.concatenate(found) if found else np.empty(0), len(truth))


def _draws(counts: np.ndarray, width: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    total = int(counts.sum())
    if not total:
        return
    rng = np.random.default_rng(seed)
    for size in _batches(max(width, len(counts)), resamples):
        yield rng.multinomial(total, counts / total, size=size)


def _resampled(confusion: np.ndarray, resamples: int, seed: int) -> Iterator[Margins]:
    cells = np.flatnonzero(confusion)
    for counts in _draws(confusion.reshape(-1)[cells], len(confusion), resamples, seed):
        yield _margins(counts, cells, len(confusion))


def _margins(counts: np.ndarray, cells: np.ndarray, n_classes: int) -> Margins:
    """Margins of confusion matrices from the counts of some of their cells; one may occur twice."""
    truth, predicted = np.divmod(cells, n_classes)
    is_right = truth == predicted
    return Margins(
        right=_by_class(counts[:, is_right], truth[is_right], n_classes),
        truth=_by_class(counts, truth, n_classes),
        predicted=_by_class(counts, predicted, n_classes),
    )


def _item_draws(
    truth: np.ndarray, predicted: Sequence[np.ndarray], n_classes: int, resamples: int, seed: int
) -> Iterator[list[Margins]]:
    """Margins of each set of labels under the same draws of items, some draws at a time.

    A product with the one-hot labels counts a class in every draw; sums below 2^24 are exact in
    float32.
    """
    n = len(truth)
    truth = checked_labels(truth, n_classes)
    predicted = [checked_labels(labels, n_classes) for labels in predicted]
    one_hot = np.eye(n_classes, dtype=np.float32)
    rng = np.random.default_rng(seed)
    for size in _batches(max(n, n_classes), resamples) if n else ():
        rows = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(rows.reshape(-1), minlength=size * n).reshape(size, n)
        drawn = counts.astype(np.float32)
        of_truth = drawn @ one_hot[truth]
        yield [
            Margins(
                right=drawn @ (one_hot[labels] * (labels == truth)[:, None]),
                truth=of_truth,
                predicted=drawn @ one_hot[labels],
            )
            for labels in predicted
        ]


def _by_class(counts: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Sums of the columns of each class."""
    sums = np.zeros((len(counts), n_classes), counts.dtype)
    if len(classes):
        order = np.argsort(classes, kind="stable")
        distinct, starts = np.unique(classes[order], return_index=True)
        sums[:, distinct] = np.add.reduceat(counts[:, order], starts, axis=1)
    return sums


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of resamples; few distinct values (hits and misses) are drawn by their counts.

    Raises:
        ValueError: a value is NaN.
    """
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        message = "values hold NaN; leave out what could not be scored, and say so"
        raise ValueError(message)
    n = len(values)
    if not n:
        return np.empty(0)
    kinds, counts = np.unique(values, return_counts=True)
    if len(kinds) <= n // _ITEMS_A_KIND:
        found = [drawn @ kinds / n for drawn in _draws(counts, len(kinds), resamples, seed)]
    else:
        rng = np.random.default_rng(seed)
        found = [
            values[rng.integers(n, size=(size, n))].mean(axis=1) for size in _batches(n, resamples)
        ]
    return np.concatenate(found)


def _batches(width: int, resamples: int) -> list[int]:
    """How many resamples of a width to hold at a time."""
    some = max(1, _CELLS_AT_ONCE // max(1, width))
    return [min(some, resamples - start) for start in range(0, resamples, some)]


def _ends(found: np.ndarray) -> tuple[float, float]:
    if not len(found):
        return np.nan, np.nan
    low, high = np.percentile(found, LEVELS)
    return float(low), float(high)


def _difference(value: float, found: np.ndarray, n: int) -> Difference:
    low, high = _ends(found)
    if n < 2:
        return Difference(value, low, high, 1.0 if n else np.nan, n)
    below, above = int((found <= 0).sum()), int((found >= 0).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (len(found) + 1))
    return Difference(value, low, high, p, n)
