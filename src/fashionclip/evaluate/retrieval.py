"""Scoring a model that finds pictures by words.

Documents are ordered by the cosine of their vector with the query's, of equal ones the first
document first. Figures are means over queries, every query counting alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.evaluate.results import TaskResult
from fashionclip.evaluate.scoring import (
    Readable,
    check_length,
    mean_figures,
    nothing_measured,
    readable_pictures,
    seen_entirely,
    some_of,
)
from fashionclip.evaluate.tasks import Picture, Retrieval, Vectors
from fashionclip.metrics import chance
from fashionclip.metrics.ranking import (
    average_precision_at,
    first_rank,
    hit_at,
    ndcg_at,
    precision_at,
    rank,
    recall_at,
    reciprocal_rank_at,
)

N_EXAMPLES = 6
"""How many of the best and of the worst queries a result tells of."""
_N_TOP, _N_RELEVANT = 5, 4  # pictures of an example

_Places = Bool[np.ndarray, "q places"]
_Counts = Int[np.ndarray, " q"]


def _ndcg_at(ranked: _Places, n_relevant: _Counts, k: int) -> Float[np.ndarray, " q"]:
    ideal = np.arange(k) < n_relevant[:, None]
    return ndcg_at(ranked.astype(np.float64), ideal.astype(np.float64), k)


_Measure = Callable[[_Places, _Counts, int], Float[np.ndarray, " q"]]
_METRICS: Mapping[str, tuple[_Measure, Callable[[_Counts, int, int], np.ndarray]]] = (
    MappingProxyType(
        {
            "hit": (lambda ranked, n, k: hit_at(ranked, k), chance.expected_hit),
            "precision": (lambda ranked, n, k: precision_at(ranked, k), chance.expected_precision),
            "recall": (recall_at, chance.expected_recall),
            "mrr": (
                lambda ranked, n, k: reciprocal_rank_at(ranked, k),
                chance.expected_reciprocal_rank,
            ),
            "map": (average_precision_at, chance.expected_average_precision),
            "ndcg": (_ndcg_at, chance.expected_ndcg),
        }
    )
)
"""Metric to what it is of a ranking, and what it comes to by chance."""


def score_retrieval(
    task: Retrieval,
    vectors: Vectors,
    *,
    seen: Bool[np.ndarray, " query"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Rank a task's pictures for each query, and say how good the rankings are.

    A picture that cannot be read is no document; a query is left out that has no other answer.

    Args:
        task: what to find.
        vectors: of the model.
        seen: marks the queries that the model was trained on, by their words or by an answer;
            ``unseen`` holds the figures without them.
        seed: of the bootstrap.

    Returns:
        The task's figures. ``details`` holds ``n_documents``, ``several_relevant`` (the share of
        queries with more than one relevant document), ``random`` (what a random ranking comes to)
        and the ``best`` and ``worst`` queries, by the rank of the first relevant document.

    Raises:
        ValueError: a metric that does not exist, a document that does not exist, or a task whose
            parts differ in length.
    """
    metrics = {name: _metric(name) for name in task.figures}
    headline = task.figures[0]
    n_all = len(task.queries)
    _check(task, seen)
    documents = readable_pictures(task.documents, vectors)
    place = np.where(documents.kept, np.cumsum(documents.kept) - 1, -1)
    relevant = [np.unique(rows) for rows in (place[rows] for rows in task.relevant)]
    relevant = [rows[rows >= 0] for rows in relevant]
    kept = np.array([len(rows) > 0 for rows in relevant], dtype=bool)
    warnings = list(documents.warnings)
    if lost := [query for query, ok in zip(task.queries, kept, strict=True) if not ok]:
        warnings.append(
            f"{len(lost):,} of {n_all:,} queries have no relevant picture and are left out: "
            f"{some_of([repr(query) for query in lost])}."
        )
    if not kept.any():
        why = "no query has a relevant picture" if n_all else "it has no queries"
        return nothing_measured(task, "retrieval", headline, len(lost), why, warnings)
    queries = [query for query, ok in zip(task.queries, kept, strict=True) if ok]
    relevant = [rows for rows, ok in zip(relevant, kept, strict=True) if ok]
    n_relevant = np.array([len(rows) for rows in relevant])
    words = vectors.texts(queries)
    embedded = _documents(documents, vectors, task.image_weight)
    k = max(_N_TOP, *(k for _, k in metrics.values()))
    rows = rank(words, embedded, k)
    ranked = np.array([np.isin(row, right) for row, right in zip(rows, relevant, strict=True)])
    columns = {
        name: _METRICS[metric][0](ranked, n_relevant, k) for name, (metric, k) in metrics.items()
    }
    were_seen = np.zeros(len(queries), bool) if seen is None else seen[kept]
    if were_seen.all():
        warnings.append(seen_entirely(len(queries), "queries"))
    ranks = first_ranks(ranked, words, embedded, relevant)
    tell = Examples(queries, [p.picture_id for p in documents.pictures], ranks, rows, relevant)
    best, worst = (tell.of(some) for some in best_and_worst(ranks, seed))
    details = {
        "n_documents": len(embedded),
        "several_relevant": float((n_relevant > 1).mean()),
        "random": {
            name: float(_METRICS[metric][1](n_relevant, len(embedded), k).mean())
            for name, (metric, k) in metrics.items()
        },
        "best": best,
        "worst": worst,
    }
    return TaskResult(
        task=task.name,
        kind="retrieval",
        headline=headline,
        n=len(queries),
        left_out=len(lost),
        figures=mean_figures(columns, np.ones(len(queries), bool), seed),
        n_seen=int(were_seen.sum()),
        unseen=mean_figures(columns, ~were_seen, seed) if were_seen.any() else {},
        details=details,
        notes=task.notes,
        warnings=tuple(warnings),
        shown=shown_ids([*best, *worst]),
        items={
            "item": unique_names(queries),
            "seen": were_seen.tolist(),
            **{name: column.tolist() for name, column in columns.items()},
        },
    )


def first_ranks(
    ranked: Bool[np.ndarray, "q places"],
    queries: Float[np.ndarray, "q d"],
    documents: Float[np.ndarray, "m d"],
    relevant: Sequence[Int[np.ndarray, " _"]],
    own: Int[np.ndarray, " q"] | None = None,
) -> Int[np.ndarray, " q"]:
    """Rank of each query's first relevant document; all cosines only where it is not ``ranked``."""
    ranks = 1 + ranked.argmax(axis=1) if ranked.shape[1] else np.zeros(len(ranked), np.int64)
    far = np.flatnonzero(~ranked.any(axis=1))
    theirs = [relevant[row] for row in far.tolist()]
    own = None if own is None else own[far]
    ranks[far] = first_rank(queries[far], documents, theirs, own=own)
    return ranks


def best_and_worst(ranks: Int[np.ndarray, " q"], seed: int) -> tuple[list[int], list[int]]:
    """Rows of the best and of the worst queries, none in both; equal ones in a drawn order."""
    drawn = np.random.default_rng(seed).permutation(len(ranks))
    order = drawn[np.argsort(ranks[drawn], kind="stable")].tolist()
    n_worst = min(N_EXAMPLES, len(order) // 2)
    return order[: min(N_EXAMPLES, len(order) - n_worst)], order[::-1][:n_worst]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Queries with their rankings, of which a result tells some."""

    queries: Sequence[str]
    document_ids: Sequence[str]
    ranks: Int[np.ndarray, " q"]
    rows: Int[np.ndarray, "q places"]
    """Documents, best first; -1 for none."""
    relevant: Sequence[Int[np.ndarray, " _"]]

    def of(self, queries: Sequence[int]) -> list[dict[str, Any]]:
        """Each query's words, the rank of its first answer, some answers, and what came first."""
        return [
            {
                "query": self.queries[q],
                "rank": int(self.ranks[q]),
                "relevant": self._relevant(q),
                "top": [self.document_ids[row] for row in self._top(q)],
            }
            for q in queries
        ]

    def _top(self, query: int) -> list[int]:
        return [int(row) for row in self.rows[query, :_N_TOP] if row >= 0]

    def _relevant(self, query: int) -> list[str]:
        """Those that are shown among the first, then others."""
        right = self.relevant[query].tolist()
        first = [row for row in self._top(query) if row in right]
        some = [*first, *(row for row in right if row not in first)][:_N_TOP]
        return [self.document_ids[row] for row in some[: max(_N_RELEVANT, len(first))]]


def shown_ids(examples: Sequence[Mapping[str, Any]], *, queries: bool = False) -> tuple[str, ...]:
    """The pictures that examples name, their queries too where those are pictures."""
    ids: dict[str, None] = {}
    for example in examples:
        asked = [example["query"]] if queries else []
        ids |= dict.fromkeys([*asked, *example["top"], *example["relevant"]])
    return tuple(ids)


def unique_names(names: Sequence[str]) -> list[str]:
    """The same names; the second of equal ones is followed by ``(2)``, and so on."""
    counts: dict[str, int] = {}
    taken = set(names)
    found = []
    for name in names:
        n = counts.get(name, 0) + 1
        numbered = name if n == 1 else f"{name} ({n})"
        while n > 1 and numbered in taken:
            n += 1
            numbered = f"{name} ({n})"
        counts[name] = n
        taken.add(numbered)
        found.append(numbered)
    return found


def _metric(name: str) -> tuple[str, int]:
    metric, _, k = name.partition("@")
    if metric not in _METRICS or not k.isdecimal() or not int(k):
        known = ", ".join(f"{metric}@K" for metric in _METRICS)
        message = f"there is no metric '{name}'; there are {known}, with K from 1"
        raise ValueError(message)
    return metric, int(k)


def _check(task: Retrieval, seen: np.ndarray | None) -> None:
    """Refuse a task that contradicts itself.

    Raises:
        ValueError: it does.
    """
    if len(task.relevant) != len(task.queries):
        message = (
            f"{task.name}: {len(task.queries)} queries have {len(task.relevant)} lists of documents"
        )
        raise ValueError(message)
    rows = np.concatenate([np.empty(0, np.int64), *task.relevant])
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(task.documents):
        message = (
            f"{task.name}: relevant rows go from {rows.min()} to {rows.max()}, and there are "
            f"{len(task.documents)} documents"
        )
        raise ValueError(message)
    check_length(task, "queries", len(task.queries), seen)


def _documents(
    documents: Readable, vectors: Vectors, image_weight: float
) -> Float[np.ndarray, "m d"]:
    """Vectors of pictures, joined with those of their captions where the task says so."""
    if image_weight >= 1:
        return documents.vectors
    joined = documents.vectors.copy()
    captioned = [row for row, picture in enumerate(documents.pictures) if picture.caption]
    captions: list[Picture] = [documents.pictures[row] for row in captioned]
    words = vectors.texts([picture.caption for picture in captions])
    joined[captioned] = image_weight * joined[captioned] + (1 - image_weight) * words
    lengths = np.linalg.norm(joined, axis=1, keepdims=True)
    return np.asarray(joined / np.maximum(lengths, np.finfo(np.float32).tiny))
