"""Metrics of rankings: recall@k, MRR, NDCG and others, with what chance would give.

``ranked`` is ``(query, place)``, best place first, True where the document there is relevant. Where
there are fewer documents than places, the missing places count as not relevant, as in trec_eval.
Metrics are one value per query, so that models can be compared query by query.

``expected_*`` is the mean of a metric over all orders of ``m`` documents of which ``r`` are
relevant, by counting: a random order puts the relevant ones on any ``r`` of ``m`` places alike.
"""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_SCORES = 8_000_000
"""Cosines held at a time: 32 MB of float32."""


def rank(
    queries: Float[np.ndarray, "q d"],
    documents: Float[np.ndarray, "m d"],
    k: int,
    *,
    own: Int[np.ndarray, " q"] | None = None,
) -> Int[np.ndarray, "q places"]:
    """Rows of the ``min(k, m)`` nearest documents, best first; of equal ones the first row first.

    Args:
        queries: unit vectors.
        documents: unit vectors.
        k: places to fill.
        own: for each query the row of a document that is the query itself, or -1. It is no
            answer; where it makes the documents too few, it comes last and as row -1.

    Raises:
        ValueError: ``k`` is below 1.
    """
    _check(k)
    places = min(k, len(documents))
    found = np.empty((len(queries), places), np.int64)
    for query, cosines in _cosines(queries, documents, own):
        if places:
            least = np.partition(cosines, -places)[-places]
            rows = np.flatnonzero(cosines >= least)
            found[query] = rows[np.argsort(-cosines[rows], kind="stable")[:places]]
            if own is not None and own[query] >= 0:
                found[query][found[query] == own[query]] = -1
    return found


def first_rank(
    queries: Float[np.ndarray, "q d"],
    documents: Float[np.ndarray, "m d"],
    relevant: Sequence[Int[np.ndarray, " _"]],
    *,
    own: Int[np.ndarray, " q"] | None = None,
) -> Int[np.ndarray, " q"]:
    """Place of the best relevant document among all documents, from 1.

    Args:
        queries: unit vectors.
        documents: unit vectors.
        relevant: for each query the rows that answer it, at least one, without its own.
        own: as for ``rank``.
    """
    found = np.empty(len(queries), np.int64)
    for query, cosines in _cosines(queries, documents, own):
        rows = relevant[query]
        best = cosines[rows].max()
        row = rows[cosines[rows] == best].min()
        found[query] = 1 + (cosines > best).sum() + (cosines[:row] == best).sum()
    return found


def hit_at(ranked: Bool[np.ndarray, "q places"], k: int) -> Float[np.ndarray, " q"]:
    """1 where a relevant document stands in the first k, else 0 (trec_eval's ``success``)."""
    _check(k)
    return np.asarray(ranked[:, :k].any(axis=1), np.float64)


def precision_at(ranked: Bool[np.ndarray, "q places"], k: int) -> Float[np.ndarray, " q"]:
    """Share of the first k places that hold a relevant document (trec_eval's ``P``)."""
    _check(k)
    return np.asarray(ranked[:, :k].sum(axis=1) / k)


def recall_at(
    ranked: Bool[np.ndarray, "q places"], n_relevant: Int[np.ndarray, " q"], k: int
) -> Float[np.ndarray, " q"]:
    """Share of the relevant documents that stand in the first k (trec_eval's ``recall``)."""
    _check(k)
    return np.asarray(ranked[:, :k].sum(axis=1) / n_relevant)


def reciprocal_rank_at(ranked: Bool[np.ndarray, "q places"], k: int) -> Float[np.ndarray, " q"]:
    """One over the place of the first relevant document, 0 if it is not in the first k.

    Source: trec_eval's ``recip_rank`` of a run that is cut at k.
    """
    _check(k)
    cut = ranked[:, :k]
    if not cut.shape[1]:
        return np.zeros(len(cut))
    return np.where(cut.any(axis=1), 1 / (1.0 + cut.argmax(axis=1)), 0.0)


def average_precision_at(
    ranked: Bool[np.ndarray, "q places"], n_relevant: Int[np.ndarray, " q"], k: int
) -> Float[np.ndarray, " q"]:
    """Precision at the place of each relevant document in the first k, over all relevant ones.

    Source: trec_eval's ``map_cut``.
    """
    _check(k)
    cut = ranked[:, :k]
    precisions = np.cumsum(cut, axis=1) / np.arange(1, cut.shape[1] + 1)
    return np.asarray(np.where(cut, precisions, 0.0).sum(axis=1) / n_relevant)


def ndcg_at(
    gains: Float[np.ndarray, "q places"], ideal: Float[np.ndarray, "q best"], k: int
) -> Float[np.ndarray, " q"]:
    """Discounted gain of the first k places, as a share of the best that can be had.

    Source: Järvelin & Kekäläinen 2002 with the discount ``log2(place + 1)`` and the plain gain,
    which is trec_eval's ``ndcg_cut``.

    Args:
        gains: of the documents at each place, 0 or more.
        ideal: gains of the relevant documents, largest first, at least the k largest of them.
        k: places that count.

    Returns:
        A value in 0…1 for each query; 0 where nothing can be gained.
    """
    _check(k)
    return _share(_discounted(gains[:, :k]), _discounted(ideal[:, :k]))


def rank_biased_overlap(
    first: Sequence[Hashable], second: Sequence[Hashable], *, p: float = 0.9
) -> float:
    """How much two rankings agree, the more the higher the place, in 0…1; 1 for equal lists.

    Unlike a rank correlation it is defined for lists of different items, which top lists are, and
    a move at the top weighs more than one at the end. The lists are taken to go on as they agree
    so far; two empty lists agree.

    Args:
        first: items, best first, each once.
        second: the same of another ranking.
        p: how far a reader goes: after each place, the next is looked at with this probability.
            With 0.9, the first ten places have 86 % of the weight.

    Source: Webber, Moffat & Zobel 2010, "A similarity measure for indefinite rankings", equation 32
    (RBO_ext for lists of different lengths).
    """
    short, long = sorted((first, second), key=len)
    n_short, n_long = len(short), len(long)
    if not n_short:
        return float(n_long == 0)
    shared, seen_short, seen_long = 0, set[Hashable](), set[Hashable]()
    total, shared_at_short = 0.0, 0
    for depth in range(1, n_long + 1):
        item = long[depth - 1]
        seen_long.add(item)
        shared += item in seen_short
        if depth <= n_short:
            seen_short.add(short[depth - 1])
            shared += short[depth - 1] in seen_long
            shared_at_short = shared
        agreement = shared / depth
        if depth > n_short:
            agreement += shared_at_short * (depth - n_short) / (n_short * depth)
        total += agreement * p**depth
    rest = (shared - shared_at_short) / n_long + shared_at_short / n_short
    return (1 - p) / p * total + rest * p**n_long


def expected_hit(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """``hit_at`` by chance: one less the chance that the first k places hold nothing relevant."""
    return 1 - _none_before(r, m, k)[:, -1]


def expected_precision(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """``precision_at`` by chance: each of the places that exist is relevant with ``r / m``."""
    return np.asarray(r / m * min(k, m) / k)


def expected_recall(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """``recall_at`` by chance: every relevant document is in the first k with ``k / m``."""
    return np.full(len(r), min(k, m) / m)


def expected_reciprocal_rank(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """``reciprocal_rank_at`` by chance: the chance that a place is the first relevant one."""
    none = _none_before(r, m, k)
    firsts = none[:, :-1] - none[:, 1:]
    return np.asarray((firsts / np.arange(1, none.shape[1])).sum(axis=1))


def expected_average_precision(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """``average_precision_at`` by chance: a place, and another one before it, are relevant."""
    places = np.arange(1, min(k, m) + 1)
    other = (r[:, None] - 1) / max(1, m - 1)
    return np.asarray(((1 + (places - 1) * other) / places).sum(axis=1) / m)


def expected_ndcg(r: Int[np.ndarray, " q"], m: int, k: int) -> Float[np.ndarray, " q"]:
    """``ndcg_at`` by chance where every relevant document gains 1."""
    discounts = 1 / np.log2(np.arange(2, min(k, m) + 2))
    best = np.cumsum(discounts)[np.minimum(r, len(discounts)) - 1]
    return np.asarray(r / m * discounts.sum() / best)


def _none_before(r: np.ndarray, m: int, k: int) -> np.ndarray:
    """Chance that the first 0, 1, …, k places hold nothing relevant."""
    i = np.arange(min(k, m))
    each = np.maximum(0, m - r[:, None] - i) / (m - i)
    return np.concatenate([np.ones((len(r), 1)), np.cumprod(each, axis=1)], axis=1)


def _check(k: int) -> None:
    if k < 1:
        message = f"k is {k}; a ranking has at least one place"
        raise ValueError(message)


def _cosines(
    queries: np.ndarray, documents: np.ndarray, own: np.ndarray | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Each query with its cosines to all documents; -inf for its own."""
    some = max(1, MAX_SCORES // max(1, len(documents)))
    for start in range(0, len(queries), some):
        for query, cosines in enumerate(queries[start : start + some] @ documents.T, start=start):
            if own is not None and own[query] >= 0:
                cosines[own[query]] = -np.inf
            yield query, cosines


def _discounted(gains: np.ndarray) -> np.ndarray:
    return np.asarray((gains / np.log2(np.arange(2, gains.shape[1] + 2))).sum(axis=1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0))
