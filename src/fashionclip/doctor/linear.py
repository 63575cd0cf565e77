"""Small linear models in NumPy, each scored on products that it was not fitted on."""

import numpy as np
from jaxtyping import Float, Int

FOLDS = 5
_RIDGE = 1.0
_STEPS = 12
_MAX_PER_SIDE = 4_000
SHRINKAGE = 0.1
"""Share of the pooled covariance that is replaced by its mean variance."""
_SCALES = np.geomspace(0.02, 2.0, 25)


def fit_logistic(
    rows: Float[np.ndarray, "n d"], is_positive: np.ndarray
) -> Float[np.ndarray, " d1"]:
    """Weights of a ridge logistic regression, intercept last; both classes weigh the same.

    Newton's method (iteratively reweighted least squares; Hastie, Tibshirani and Friedman 2009,
    section 4.4.1).
    """
    x = np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], axis=1).astype(np.float32)
    y = is_positive.astype(np.float64)
    n_positive = max(1.0, y.sum())
    weight = np.where(y > 0, 1.0, n_positive / max(1.0, len(y) - y.sum()))
    penalty = np.full(x.shape[1], _RIDGE)
    penalty[-1] = 1e-6
    w = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        curvature = np.maximum(weight * p * (1 - p), 1e-6)
        gradient = x.T @ (weight * (p - y)) + penalty * w
        hessian = ((x * curvature[:, None].astype(np.float32)).T @ x).astype(np.float64)
        hessian[np.diag_indices_from(hessian)] += penalty
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-2:
            break
    return np.asarray(w)


def score_logistic(rows: Float[np.ndarray, "n d"], w: Float[np.ndarray, " d1"]) -> np.ndarray:
    """Log odds of rows."""
    return np.asarray(rows @ w[:-1] + w[-1])


def class_log_probabilities(
    rows: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    fold: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n c"]:
    """Out-of-fold log probabilities of classes by linear discriminant analysis.

    Nearest centroids under the pooled, shrunk covariance (Hastie, Tibshirani and Friedman 2009,
    section 4.3), with the scale of the distances fitted by their out-of-fold log loss.

    Args:
        rows: vectors.
        labels: class of each row; -1 for none, which is scored but not fitted on.
        n_classes: number of classes.
        fold: a row is scored by the model of all other folds.
    """
    found = np.zeros((len(rows), n_classes))
    dim = rows.shape[1]
    for k in range(FOLDS):
        fit = (fold != k) & (labels >= 0)
        held = np.flatnonzero(fold == k)
        if not len(held):
            continue
        x, y = rows[fit].astype(np.float64), labels[fit]
        counts = np.bincount(y, minlength=n_classes)
        sums = np.zeros((n_classes, dim))
        np.add.at(sums, y, x)
        means = sums / np.maximum(counts, 1)[:, None]
        within = (x.T @ x - (means * counts[:, None]).T @ means) / max(1, len(x) - n_classes)
        mean_variance = np.trace(within) / dim
        within = (1 - SHRINKAGE) * within + SHRINKAGE * mean_variance * np.eye(dim)
        directions = np.linalg.solve(within, means.T)
        offset = -0.5 * (means.T * directions).sum(axis=0) + np.log(counts + 0.5)
        found[held] = rows[held] @ directions + offset
        found[np.ix_(held, np.flatnonzero(counts == 0))] = -1e6
    return _scaled(found, labels)


def _scaled(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log probabilities at the scale whose log loss is the lowest."""
    known = np.flatnonzero(labels >= 0)[: 5 * _MAX_PER_SIDE]

    def loss(scale: float) -> float:
        log_p = _log_softmax(logits[known] * scale)
        return -float(np.maximum(log_p[np.arange(len(known)), labels[known]], -20).mean())

    return _log_softmax(logits * min(_SCALES, key=loss))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
