"""Scoring a model that finds pictures of the same kind of garment by a picture.

LookBench (arXiv 2601.14706) reports recall@1 by category (coarse) and by category and attributes
(fine), and nDCG@5. How it grades attributes is not in its published code; here a document's gain
is the share of attributes that it has in common with the query, of all that either has (Jaccard),
and 0 in another category.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.evaluate.results import TaskResult
from fashionclip.evaluate.retrieval import (
    Examples,
    best_and_worst,
    first_ranks,
    shown_ids,
    unique_names,
)
from fashionclip.evaluate.scoring import (
    check_length,
    mean_figures,
    nothing_measured,
    readable_pictures,
    seen_entirely,
    some_of,
)
from fashionclip.evaluate.tasks import Garment, PictureToPicture, Vectors
from fashionclip.metrics.ranking import hit_at, ndcg_at, rank

HEADLINE = "fine_recall@1"
_K_GAIN = 5
_PAIRS_AT_ONCE = 4_000_000  # queries times documents compared at a time: 32 MB for each array


def score_similar(
    task: PictureToPicture,
    vectors: Vectors,
    *,
    seen: Bool[np.ndarray, " query"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Rank a task's documents by each query picture, and say how alike the first ones are.

    A query is left out if it cannot be read or no other document is of its category. Where it has
    no attributes, or no document has them all, it counts for the coarse figure alone, and without
    any attribute in common with a document of its category for no nDCG; each figure states its n.

    Args:
        task: what to find.
        vectors: of the model.
        seen: marks the queries that the model was trained on; ``unseen`` holds the figures
            without them.
        seed: of the bootstrap.

    Returns:
        ``fine_recall@1`` (the headline), ``coarse_recall@1`` and ``ndcg@5``; ``details`` as
        ``score_retrieval`` has them, an example's relevant documents being the fine ones, or the
        coarse ones where there is none.

    Raises:
        ValueError: ``seen`` has another length than the queries.
    """
    check_length(task, "queries", len(task.queries), seen)
    asked = readable_pictures([garment.picture for garment in task.queries], vectors, "queries")
    found = readable_pictures([garment.picture for garment in task.documents], vectors, "documents")
    garments = [g for g, ok in zip(task.queries, asked.kept, strict=True) if ok]
    documents = [g for g, ok in zip(task.documents, found.kept, strict=True) if ok]
    match = _match(garments, documents)
    kept = np.array([len(rows) > 0 for rows in match.coarse], dtype=bool)
    warnings = [*asked.warnings, *found.warnings]
    if lost := [g.picture.picture_id for g, ok in zip(garments, kept, strict=True) if not ok]:
        warnings.append(
            f"{len(lost):,} of {len(garments):,} queries have no other picture of their category "
            f"and are left out: {some_of(lost)}."
        )
    left_out = len(task.queries) - int(kept.sum())
    if not kept.any():
        why = "no query has a document of its category" if task.queries else "it has no queries"
        return nothing_measured(task, "picture-to-picture", HEADLINE, left_out, why, warnings)
    queries, own, n = asked.vectors[kept], match.own[kept], int(kept.sum())
    coarse = [rows for rows, ok in zip(match.coarse, kept, strict=True) if ok]
    fine = [rows for rows, ok in zip(match.fine, kept, strict=True) if ok]
    ideal = match.ideal[kept]
    rows = rank(queries, found.vectors, _K_GAIN, own=own)
    gains = match.gains(np.flatnonzero(kept), rows)
    columns = {
        HEADLINE: _hits(rows, fine),
        "coarse_recall@1": _hits(rows, coarse),
        f"ndcg@{_K_GAIN}": np.where(ideal[:, 0] > 0, ndcg_at(gains, ideal, _K_GAIN), np.nan),
    }
    warnings += _partly(columns, n)
    were_seen = np.zeros(n, bool) if seen is None else seen[asked.kept][kept]
    if were_seen.all():
        warnings.append(seen_entirely(n, "queries"))
    answers = [exact if len(exact) else alike for exact, alike in zip(fine, coarse, strict=True)]
    ranked = np.array([np.isin(row, right) for row, right in zip(rows, answers, strict=True)])
    ranks = first_ranks(ranked, queries, found.vectors, answers, own)
    ids = [g.picture.picture_id for g, ok in zip(garments, kept, strict=True) if ok]
    tell = Examples(ids, [p.picture_id for p in found.pictures], ranks, rows, answers)
    best, worst = (tell.of(some) for some in best_and_worst(ranks, seed))
    details = {
        "n_documents": len(documents),
        "several_relevant": float(np.mean([len(right) > 1 for right in answers])),
        "random": _by_chance(fine, coarse, own, len(documents)),
        "best": best,
        "worst": worst,
    }
    return TaskResult(
        task=task.name,
        kind="picture-to-picture",
        headline=HEADLINE,
        n=n,
        left_out=left_out,
        figures=mean_figures(columns, np.ones(n, bool), seed),
        n_seen=int(were_seen.sum()),
        unseen=mean_figures(columns, ~were_seen, seed) if were_seen.any() else {},
        details=details,
        notes=task.notes,
        warnings=tuple(warnings),
        shown=shown_ids([*best, *worst], queries=True),
        items={
            "item": unique_names(ids),
            "seen": were_seen.tolist(),
            **{name: column.tolist() for name, column in columns.items()},
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """What each query has in common with the documents."""

    own: Int[np.ndarray, " q"]
    """The document that is the query itself, or -1."""
    coarse: list[Int[np.ndarray, " _"]]
    """Documents of the query's category, without itself."""
    fine: list[Int[np.ndarray, " _"]]
    """Those of them that have all its attributes; none for a query without attributes."""
    ideal: Float[np.ndarray, "q k"]
    """The largest gains that can be had."""
    garments: Sequence[Garment]
    documents: Sequence[Garment]

    def gains(
        self, queries: Int[np.ndarray, " n"], rows: Int[np.ndarray, "n places"]
    ) -> Float[np.ndarray, "n places"]:
        """Gain of each ranked document; 0 for row -1."""
        return np.array(
            [
                [
                    _gain(self.garments[query], self.documents[row]) if row >= 0 else 0.0
                    for row in places
                ]
                for query, places in zip(queries, rows.tolist(), strict=True)
            ],
            dtype=np.float64,
        ).reshape(rows.shape)


def _gain(query: Garment, document: Garment) -> float:
    if query.category != document.category:
        return 0.0
    return len(query.attributes & document.attributes) / max(
        1, len(query.attributes | document.attributes)
    )


def _match(garments: Sequence[Garment], documents: Sequence[Garment]) -> _Match:
    places = {garment.picture.picture_id: row for row, garment in enumerate(documents)}
    own = np.array([places.get(g.picture.picture_id, -1) for g in garments], dtype=np.int64)
    coarse, fine, ideal = [], [], np.zeros((len(garments), _K_GAIN))
    for query, (alike, shared, either) in enumerate(_overlaps(garments, documents)):
        if own[query] >= 0:
            alike[own[query]] = False
        rows = np.flatnonzero(alike)
        n_asked = len(garments[query].attributes)
        coarse.append(rows)
        fine.append(rows[shared[rows] == n_asked] if n_asked else rows[:0])
        best = np.sort(shared[rows] / np.maximum(1, either[rows]))[::-1][:_K_GAIN]
        ideal[query, : len(best)] = best
    return _Match(own, coarse, fine, ideal, garments, documents)


def _overlaps(
    garments: Sequence[Garment], documents: Sequence[Garment]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each query: the same category, attributes in common, attributes of either."""
    categories = {g.category: row for row, g in enumerate((*garments, *documents))}
    names = sorted({name for g in (*garments, *documents) for name in g.attributes})
    column = {name: i for i, name in enumerate(names)}

    def table(some: Sequence[Garment]) -> tuple[np.ndarray, np.ndarray]:
        has = np.zeros((len(some), len(names)), np.float32)
        for row, garment in enumerate(some):
            has[row, [column[name] for name in garment.attributes]] = 1
        return np.array([categories[g.category] for g in some], np.int64), has

    theirs, have = table(documents)
    n_theirs = have.sum(axis=1)
    some = max(1, _PAIRS_AT_ONCE // max(1, len(documents)))
    for start in range(0, len(garments), some):
        ours, want = table(garments[start : start + some])
        shared = want @ have.T
        for row, category in enumerate(ours):
            yield category == theirs, shared[row], want[row].sum() + n_theirs - shared[row]


def _hits(
    rows: Int[np.ndarray, "q places"], relevant: Sequence[Int[np.ndarray, " _"]]
) -> Float[np.ndarray, " q"]:
    """Whether the first document is relevant; NaN for a query that has none."""
    first = np.array([np.isin(row[:1], right) for row, right in zip(rows, relevant, strict=True)])
    return np.where([len(right) > 0 for right in relevant], hit_at(first, 1), np.nan)


def _by_chance(
    fine: Sequence[np.ndarray], coarse: Sequence[np.ndarray], own: np.ndarray, n_documents: int
) -> dict[str, float]:
    """Hit rates at 1 of a random document."""
    others = n_documents - (own >= 0)
    shares = {}
    for name, relevant in ((HEADLINE, fine), ("coarse_recall@1", coarse)):
        n_relevant = np.array([len(rows) for rows in relevant])
        if (asked := n_relevant > 0).any():
            shares[name] = float((n_relevant / others)[asked].mean())
    return shares


def _partly(columns: dict[str, np.ndarray], n: int) -> list[str]:
    why = {
        HEADLINE: "have no attributes, or no document with all of them",
        f"ndcg@{_K_GAIN}": "have no attribute in common with a document of their category",
    }
    counts = {name: int(np.isnan(columns[name]).sum()) for name in why}
    return [
        f"{count:,} of {n:,} queries {why[name]}; {name} is over the other {n - count:,}."
        for name, count in counts.items()
        if count
    ]
