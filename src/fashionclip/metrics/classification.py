"""How right labels are: figures from a confusion matrix.

Every figure broadcasts over leading axes, so that a bootstrap of thousands of matrices is one call.
Matrices hold counts, rows being the truth and columns what was predicted.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy.typing import ArrayLike


def confusion_matrix(
    truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], n_classes: int
) -> Int[np.ndarray, "c c"]:
    """Count pictures by class: rows are the truth, columns what was predicted.

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


def precision_per_class(confusion: Num[np.ndarray, "... c c"]) -> Float[np.ndarray, "... c"]:
    """Share of each class's predictions that are right; 0 where nothing was predicted."""
    return _share(_right(confusion), confusion.sum(axis=-2))


def recall_per_class(confusion: Num[np.ndarray, "... c c"]) -> Float[np.ndarray, "... c"]:
    """Share of each class's pictures that were found; 0 for a class without pictures."""
    return _share(_right(confusion), confusion.sum(axis=-1))


def f1_per_class(confusion: Num[np.ndarray, "... c c"]) -> Float[np.ndarray, "... c"]:
    """F1 of each class, ``2 tp / (truth + predicted)``; 0 for a class that occurs in neither."""
    return _share(2 * _right(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def weighted_f1(confusion: Num[np.ndarray, "... c c"]) -> Float[np.ndarray, "..."]:
    """F1 of each class, weighted by its share of the pictures, in 0…1; NaN without pictures.

    Source: scikit-learn, ``f1_score(average="weighted")``, which is most likely what FashionCLIP's
    card calls weighted macro F1.
    """
    support = confusion.sum(axis=-1)
    return _share((f1_per_class(confusion) * support).sum(axis=-1), support.sum(axis=-1), np.nan)


def macro_f1(confusion: Num[np.ndarray, "... c c"]) -> Float[np.ndarray, "..."]:
    """Mean F1 of the classes that occur in truth or prediction, in 0…1; NaN without pictures.

    Source: scikit-learn, ``f1_score(average="macro")`` with its default set of labels.
    """
    occurs = (confusion.sum(axis=-1) + confusion.sum(axis=-2)) > 0
    return _share((f1_per_class(confusion) * occurs).sum(axis=-1), occurs.sum(axis=-1), np.nan)


def accuracy(confusion: Num[np.ndarray, "... c c"]) -> Float[np.ndarray, "..."]:
    """Share of pictures with the right label, in 0…1; NaN without pictures."""
    return _share(_right(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)), np.nan)


def top_k_hits(
    scores: Float[np.ndarray, "n c"], truth: Int[np.ndarray, " n"], k: int
) -> Bool[np.ndarray, " n"]:
    """Whether each picture's class is among the k best; of equal scores the lower row is better."""
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    rows = np.arange(scores.shape[1])
    better = (scores > own) | ((scores == own) & (rows < truth[:, None]))
    return np.asarray(better.sum(axis=1) < k)


def _right(confusion: np.ndarray) -> np.ndarray:
    return np.asarray(np.diagonal(confusion, axis1=-2, axis2=-1))


def _share(part: ArrayLike, whole: ArrayLike, empty: float = 0.0) -> np.ndarray:
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole)
    found: np.ndarray = np.divide(parts, wholes, out=np.full_like(parts, empty), where=wholes != 0)
    return found
