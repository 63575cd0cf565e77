"""Metrics of labels: accuracy, precision, recall, F1, from confusion matrices.

Every metric broadcasts over leading axes, so that a bootstrap of thousands of matrices is one call.
Matrices hold counts; rows are the truth, columns the predictions. A metric needs only the margins
of a matrix and takes them in its place: with a hundred classes they are fifty times smaller.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """Three counts per class of confusion matrices, over leading axes."""

    right: Num[np.ndarray, "... c"]
    """The diagonal: images of the class with its label."""
    truth: Num[np.ndarray, "... c"]
    """Images of the class."""
    predicted: Num[np.ndarray, "... c"]
    """Images with its label."""


Counts = Num[np.ndarray, "... c c"] | Margins
"""Confusion matrices, or their margins."""
LabelMetric = Callable[[np.ndarray | Margins], np.ndarray]
"""Confusion matrices or margins to values; leading axes stay."""


def confusion_matrix(
    truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], n_classes: int
) -> Int[np.ndarray, "c c"]:
    """Count images by class: rows are the truth, columns the predictions.

    Raises:
        ValueError: a label outside ``0…n_classes - 1``.
    """
    rows, columns = (checked_labels(labels, n_classes) for labels in (truth, predicted))
    cells = np.bincount(rows * n_classes + columns, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def checked_labels(labels: Int[np.ndarray, " n"], n_classes: int) -> Int[np.ndarray, " n"]:
    """Labels as int64, in which cells of a confusion matrix can be counted without overflow.

    Raises:
        ValueError: a label outside ``0…n_classes - 1``.
    """
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        message = f"labels lie in 0…{n_classes - 1}; there are {labels.min()} to {labels.max()}"
        raise ValueError(message)
    return labels.astype(np.int64)


def majority_baseline(labels: Int[np.ndarray, " n"], n_classes: int) -> Int[np.ndarray, "c c"]:
    """The confusion matrix of a classifier that always predicts the commonest label.

    Raises:
        ValueError: a label outside ``0…n_classes - 1``, or no labels.
    """
    commonest = np.full(len(labels), np.bincount(labels).argmax())
    return confusion_matrix(labels, commonest, n_classes)


def margins(counts: Counts) -> Margins:
    """The margins of confusion matrices; margins stay what they are."""
    if isinstance(counts, Margins):
        return counts
    right = np.asarray(np.diagonal(counts, axis1=-2, axis2=-1))
    return Margins(right, counts.sum(axis=-1), counts.sum(axis=-2))


def precision_per_class(counts: Counts) -> Float[np.ndarray, "... c"]:
    """Share of each class's predictions that are right; 0 where nothing was predicted."""
    of = margins(counts)
    return _share(of.right, of.predicted)


def recall_per_class(counts: Counts) -> Float[np.ndarray, "... c"]:
    """Share of each class's images that were found; 0 for a class without images."""
    of = margins(counts)
    return _share(of.right, of.truth)


def f1_per_class(counts: Counts) -> Float[np.ndarray, "... c"]:
    """F1 of each class, ``2 tp / (truth + predicted)``; 0 for a class that occurs in neither."""
    of = margins(counts)
    return _share(2 * of.right, of.truth + of.predicted)


def weighted_f1(counts: Counts) -> Float[np.ndarray, "..."]:
    """F1 of each class, weighted by its share of the images, in 0…1; NaN without images.

    Source: scikit-learn, ``f1_score(average="weighted")``, which is most likely what FashionCLIP's
    card calls weighted macro F1.
    """
    of = margins(counts)
    return _share((f1_per_class(of) * of.truth).sum(axis=-1), of.truth.sum(axis=-1), np.nan)


def macro_f1(counts: Counts) -> Float[np.ndarray, "..."]:
    """Mean F1 of the classes that occur in truth or prediction, in 0…1; NaN without images.

    Source: scikit-learn, ``f1_score(average="macro")`` with its default set of labels.
    """
    of = margins(counts)
    occurs = (of.truth + of.predicted) > 0
    return _share((f1_per_class(of) * occurs).sum(axis=-1), occurs.sum(axis=-1), np.nan)


def accuracy(counts: Counts) -> Float[np.ndarray, "..."]:
    """Share of images with the right label, in 0…1; NaN without images."""
    of = margins(counts)
    return _share(of.right.sum(axis=-1), of.truth.sum(axis=-1), np.nan)


def top_k_hits(
    scores: Float[np.ndarray, "n c"], truth: Int[np.ndarray, " n"], k: int
) -> Bool[np.ndarray, " n"]:
    """Whether each image's class is among the k best; of equal scores the lower row is better."""
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    rows = np.arange(scores.shape[1])
    better = (scores > own) | ((scores == own) & (rows < truth[:, None]))
    return np.asarray(better.sum(axis=1) < k)


def _share(part: ArrayLike, whole: ArrayLike, empty: float = 0.0) -> np.ndarray:
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole)
    found: np.ndarray = np.divide(parts, wholes, out=np.full_like(parts, empty), where=wholes != 0)
    return found
