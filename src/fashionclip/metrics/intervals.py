"""Confidence intervals by bootstrap, and paired tests between two models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.metrics.classification import LabelMetric, Margins, checked_labels

RESAMPLES = 2000
LEVELS = (2.5, 97.5)  # percent: the ends of a 95 % interval
_MAX_COUNTS = 4_000_000  # held at a time: 32 MB
_MIN_ITEMS_PER_VALUE = 10  # from which sampling counts of values is faster than sampling items


@dataclass(frozen=True, slots=True)
class Difference:
    """Second model minus first model, on the same items."""

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


def two_level_interval(
    groups: Sequence[Float[np.ndarray, " _"]], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of the groups' means; NaN of no groups.

    Groups are resampled, then the values of each group that was drawn, both with replacement. The
    interval covers other groups as well as other values of a group: other training runs, and other
    sets that each is measured on.

    Args:
        groups: the values of each group, one at least; groups weigh the same whatever their size.
        resamples: number of bootstrap samples.
        seed: of the samples.

    Raises:
        ValueError: a group is empty, or a value is NaN.

    Source: Davison & Hinkley 1997, section 3.8 (hierarchical data).
    """
    if any(not len(values) or np.isnan(values).any() for values in groups):
        message = "a group has no values or holds NaN; leave it out, and say so"
        raise ValueError(message)
    if not groups:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(groups), size=(resamples, len(groups)))
    means = np.empty(drawn.shape)
    for row, values in enumerate(groups):
        places = drawn == row
        chosen = rng.integers(len(values), size=(int(places.sum()), len(values)))
        means[places] = values[chosen].mean(axis=1)
    return _ends(means.mean(axis=1))


def share_interval(
    values: Float[np.ndarray, " n"],
    *,
    lowest: float = 0.0,
    highest: float = 1.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of a mean of bounded values, also where all of them are equal.

    It is the percentile bootstrap's. Where all n values are equal that has no width, as if 20 items
    proved as much as 2,000; then items of the other kinds may still make up ``1 - 0.025^(1/n)``.

    Args:
        values: in ``lowest…highest``.
        lowest: that a value can be.
        highest: that a value can be.
        resamples: number of bootstrap samples.
        seed: of the samples.

    Raises:
        ValueError: a value is NaN.

    Source: Clopper & Pearson 1934, of 0 of n and of n of n.
    """
    if len(values) and (values == values[0]).all():
        others = 1 - (LEVELS[0] / 100) ** (1 / len(values))
        value = float(values[0])
        return value - others * (value - lowest), value + others * (highest - value)
    return mean_interval(values, resamples=resamples, seed=seed)


def confusion_intervals(
    confusion: Int[np.ndarray, "c c"],
    metrics: Sequence[LabelMetric],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Float[np.ndarray, "2 ..."]]:
    """95 % percentile bootstrap intervals of metrics of a confusion matrix; NaN of no images.

    Resampling n images with replacement is the same as sampling the matrix's cells from the
    multinomial of their shares, which is exact and whose cost does not depend on n.

    Returns:
        For each metric, of all images or of each class, the low and the high end.
    """
    values: list[list[np.ndarray]] = [[] for _ in metrics]
    for resampled in _resampled(confusion, resamples, seed):
        for of_metric, metric in zip(values, metrics, strict=True):
            of_metric.append(metric(resampled))
    return [
        np.percentile(np.concatenate(of_metric), LEVELS, axis=0)
        if of_metric
        else np.full((2, *metric(confusion).shape), np.nan)
        for of_metric, metric in zip(values, metrics, strict=True)
    ]


def repeated_intervals(
    truth: Int[np.ndarray, " n"],
    predicted: Sequence[Int[np.ndarray, "_ n"]],
    n_classes: int,
    metric: LabelMetric,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """95 % intervals of means over several trainings, each on another sample of training images.

    Items and trainings are both resampled, so that an interval covers another test set as well as
    another choice of training images. NaN of no items or no trainings.

    Args:
        truth: labels of the items.
        predicted: for each mean, the labels that each of its trainings predicts.
        n_classes: how many classes there are.
        metric: of a confusion matrix.
        resamples: number of bootstrap samples.
        seed: of the samples; the same items are resampled for every mean.

    Raises:
        ValueError: a label outside ``0…n_classes - 1``.
    """
    rng = np.random.default_rng([seed, 1])  # another stream than that of the items
    found: list[list[np.ndarray]] = [[np.empty(0)] for _ in predicted]
    every = [labels for trainings in predicted for labels in trainings]
    for resampled in _resampled_items(truth, every, n_classes, resamples, seed):
        values = iter([metric(of_labels) for of_labels in resampled])
        for means, trainings in zip(found, predicted, strict=True):
            if len(trainings):
                of_training = np.stack([next(values) for _ in trainings])
                chosen = rng.integers(len(trainings), size=of_training.shape)
                means.append(np.take_along_axis(of_training, chosen, axis=0).mean(axis=0))
    return [_ends(np.concatenate(means)) for means in found]


def mcnemar(correct_a: Bool[np.ndarray, " n"], correct_b: Bool[np.ndarray, " n"]) -> float:
    """Two-sided p of two models being right equally often, from the items on which they differ.

    Source: McNemar 1947, in its exact form: the binomial test of a fair coin. A few lines of
    integers, so that the core needs no SciPy; a test holds them to ``scipy.stats.binomtest``.
    """
    b, c = int((correct_a & ~correct_b).sum()), int((~correct_a & correct_b).sum())
    n = b + c
    ways = total = 1  # to choose k of n items; summed over k up to the smaller count
    for k in range(min(b, c)):
        ways = ways * (n - k) // (k + 1)
        total += ways
    return float(min(1.0, 2 * total / 2**n))


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
    metric: LabelMetric,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """``metric(b) - metric(a)`` of labels for the same items, by the paired bootstrap.

    Resampling items is the same as sampling the distinct triples (truth, a, b) from their
    multinomial.

    Raises:
        ValueError: a label outside ``0…n_classes - 1``.
    """
    truth, a, b = (checked_labels(labels, n_classes) for labels in (truth, a, b))
    triples = (truth * n_classes + a) * n_classes + b
    distinct, counts = np.unique(triples, return_counts=True)
    cells_a = distinct // n_classes  # of the matrix of truth and a
    cells_b = cells_a // n_classes * n_classes + distinct % n_classes

    def difference(counts: np.ndarray) -> np.ndarray:
        of_a, of_b = (metric(_margins(counts, cells, n_classes)) for cells in (cells_a, cells_b))
        return np.asarray(of_b - of_a)

    found = [difference(some) for some in _resampled_counts(counts, n_classes, resamples, seed)]
    value = float(difference(counts[None])[0]) if len(truth) else np.nan
    return _difference(value, np.concatenate(found) if found else np.empty(0), len(truth))


def _resampled_counts(
    counts: np.ndarray, width: int, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    total = int(counts.sum())
    if not total:
        return
    rng = np.random.default_rng(seed)
    for size in _batches(max(width, len(counts)), resamples):
        yield rng.multinomial(total, counts / total, size=size)


def _resampled(confusion: np.ndarray, resamples: int, seed: int) -> Iterator[Margins]:
    cells = np.flatnonzero(confusion)
    for counts in _resampled_counts(confusion.reshape(-1)[cells], len(confusion), resamples, seed):
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


def _resampled_items(
    truth: np.ndarray, predicted: Sequence[np.ndarray], n_classes: int, resamples: int, seed: int
) -> Iterator[list[Margins]]:
    """Margins of each set of labels for the same resampled items, some resamples at a time.

    A product with the one-hot labels counts a class in every resample; sums below 2^24 are exact in
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
        weights = counts.astype(np.float32)
        of_truth = weights @ one_hot[truth]
        yield [
            Margins(
                right=weights @ (one_hot[labels] * (labels == truth)[:, None]),
                truth=of_truth,
                predicted=weights @ one_hot[labels],
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
    # where distinct values are few (hits and misses), their counts are sampled
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        message = "values hold NaN; leave out what could not be scored, and say so"
        raise ValueError(message)
    n = len(values)
    if not n:
        return np.empty(0)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= n // _MIN_ITEMS_PER_VALUE:
        resampled = _resampled_counts(counts, len(distinct), resamples, seed)
        found = [some @ distinct / n for some in resampled]
    else:
        rng = np.random.default_rng(seed)
        found = [
            values[rng.integers(n, size=(size, n))].mean(axis=1) for size in _batches(n, resamples)
        ]
    return np.concatenate(found)


def _batches(width: int, resamples: int) -> list[int]:
    """Numbers of resamples of a width to hold at a time."""
    some = max(1, _MAX_COUNTS // max(1, width))
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
