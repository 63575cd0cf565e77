"""What a random ranking comes to: the expected value of each figure, by counting, not by drawing.

A random order puts ``r`` relevant documents on ``r`` of ``m`` places, every choice alike.
"""

import numpy as np
from jaxtyping import Float, Int


def expected_hit(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """Of ``ranking.hit_at``: one less the chance that the first k places hold nothing relevant."""
    return 1 - _none_before(r, m, k)[:, -1]


def expected_precision(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """Of ``ranking.precision_at``: each of the places that exist is relevant with ``r / m``."""
    return np.asarray(r / m * min(k, m) / k)


def expected_recall(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """Of ``ranking.recall_at``: every relevant document is in the first k with ``k / m``."""
    return np.full(len(r), min(k, m) / m)


def expected_reciprocal_rank(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """Of ``ranking.reciprocal_rank_at``: the chance that a place is the first relevant one."""
    none = _none_before(r, m, k)
    firsts = none[:, :-1] - none[:, 1:]
    return np.asarray((firsts / np.arange(1, none.shape[1])).sum(axis=1))


def expected_average_precision(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """Of ``ranking.average_precision_at``: a place, and another one before it, are relevant."""
    places = np.arange(1, min(k, m) + 1)
    other = (r[:, None] - 1) / max(1, m - 1)
    return np.asarray(((1 + (places - 1) * other) / places).sum(axis=1) / m)


def expected_ndcg(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """Of ``ranking.ndcg_at`` where every relevant document gains 1."""
    discounts = 1 / np.log2(np.arange(2, min(k, m) + 2))
    best = np.cumsum(discounts)[np.minimum(r, len(discounts)) - 1]
    return np.asarray(r / m * discounts.sum() / best)


def _none_before(r: np.ndarray, m: int, k: int) -> np.ndarray:
    """Chance that the first 0, 1, …, k places hold nothing relevant."""
    i = np.arange(min(k, m))
    each = np.maximum(0, m - r[:, None] - i) / (m - i)
    return np.concatenate([np.ones((len(r), 1)), np.cumprod(each, axis=1)], axis=1)
