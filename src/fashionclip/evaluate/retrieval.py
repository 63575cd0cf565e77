"""Scoring of retrieval: images found by text, and by an image.

Documents are ordered by the cosine of their vector with the query's, of equal ones the first
document first. Figures are means over queries, which all count the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.engines.io import to_unit
from fashionclip.evaluate.results import TaskResult
from fashionclip.evaluate.scoring import (
    Readable,
    check_seen,
    empty_result,
    examples_of,
    mean_figures,
    readable_images,
    seen_among,
    task_result,
)
from fashionclip.evaluate.tasks import Encoder, Garment, ImageToImage, Retrieval
from fashionclip.metrics.ranking import first_rank, hit_at, ndcg_at, rank
from fashionclip.metrics.registry import find_metric

N_EXAMPLES = 6
"""How many of the best and of the worst queries a result describes."""
_N_TOP, _N_RELEVANT = 5, 4  # images of an example
FINE, COARSE, GAIN = "fine_recall@1", "coarse_recall@1", "ndcg@5"
_K_GAIN = 5
_MAX_PAIRS = 4_000_000  # queries times documents compared at a time: 32 MB for each array


def score_retrieval(
    task: Retrieval,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " query"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Rank a task's images for each query.

    An image that cannot be read is no document; a query is left out that has no other answer.

    Args:
        task: queries and documents.
        encoder: of the model.
        seen: marks the queries that the model was trained on, by their words or by an answer;
            ``unseen`` holds the figures without them.
        seed: of the bootstrap.

    Returns:
        The task's figures. ``details`` holds ``n_documents``, ``several_relevant`` (the share of
        queries with more than one relevant document), ``random`` (what a random ranking comes to)
        and the ``best`` and ``worst`` queries, by the rank of the first relevant document.

    Raises:
        ValueError: a metric that is none of rankings, a document that does not exist, or a task
            whose parts differ in length.
    """
    metrics = {name: _ranking_metric(name) for name in task.figures}
    headline = task.figures[0]
    n_all = len(task.queries)
    _check(task, seen)
    documents = readable_images(task.documents, encoder)
    place = np.where(documents.kept, np.cumsum(documents.kept) - 1, -1)
    relevant = [np.unique(rows[rows >= 0]) for rows in (place[rows] for rows in task.relevant)]
    kept = np.array([len(rows) > 0 for rows in relevant], dtype=bool)
    warnings = list(documents.warnings)
    if lost := [query for query, ok in zip(task.queries, kept, strict=True) if not ok]:
        warnings.append(
            f"{len(lost):,} of {n_all:,} queries have no relevant picture and are left out: "
            f"{examples_of([repr(query) for query in lost])}."
        )
    if not kept.any():
        why = "no query has a relevant picture" if n_all else "it has no queries"
        return empty_result(task, "retrieval", headline, len(lost), why, warnings)
    queries = [query for query, ok in zip(task.queries, kept, strict=True) if ok]
    relevant = [rows for rows, ok in zip(relevant, kept, strict=True) if ok]
    n_relevant = np.array([len(rows) for rows in relevant])
    texts = encoder.encode_text(queries)
    vectors = _documents(documents, encoder, task.image_weight)
    rows = rank(texts, vectors, max(_N_TOP, *(k for *_, k in metrics.values())))
    ranked = np.array([np.isin(row, right) for row, right in zip(rows, relevant, strict=True)])
    columns, random = {}, {}
    for name, (compute, expected, k) in metrics.items():
        columns[name] = compute(ranked, n_relevant, k)
        random[name] = float(expected(n_relevant, len(vectors), k).mean())
    ranks = first_ranks(ranked, texts, vectors, relevant)
    examples = _Examples(queries, [d.image_id for d in documents.images], ranks, rows, relevant)
    best, worst = examples.best_and_worst(seed)
    return task_result(
        task,
        "retrieval",
        headline,
        unit="queries",
        seen=seen_among(seen, kept),
        left_out=len(lost),
        figures_of=lambda kept: mean_figures(columns, kept, seed),
        details={
            "n_documents": len(vectors),
            "several_relevant": float((n_relevant > 1).mean()),
            "random": random,
            "best": best,
            "worst": worst,
        },
        warnings=warnings,
        shown=[id_ for example in (*best, *worst) for id_ in _ids_of(example)],
        items={
            "item": unique_names(queries),
            **{name: column.tolist() for name, column in columns.items()},
        },
    )


def score_image_to_image(
    task: ImageToImage,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " query"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Rank a task's documents by each query image, and compare the garments.

    LookBench (arXiv 2601.14706) reports recall@1 by category (coarse) and by category and
    attributes (fine), and nDCG@5. Its published code does not say how it grades attributes. Here a
    document's gain is the share of attributes that it has in common with the query, of all that
    either has (Jaccard), and 0 in another category.

    A query is left out if it cannot be read or no other document is of its category. Where it has
    no attributes, or no document has them all, it counts for the coarse figure alone, and without
    any attribute in common with a document of its category for no nDCG; each figure states its n.

    Args:
        task: queries and documents.
        encoder: of the model.
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
    check_seen(task, len(task.queries), seen)
    asked = readable_images([garment.image for garment in task.queries], encoder, "queries")
    found = readable_images([garment.image for garment in task.documents], encoder, "documents")
    garments = [g for g, ok in zip(task.queries, asked.kept, strict=True) if ok]
    documents = [g for g, ok in zip(task.documents, found.kept, strict=True) if ok]
    match = _match(garments, documents)
    kept = np.array([len(rows) > 0 for rows in match.coarse], dtype=bool)
    warnings = [*asked.warnings, *found.warnings]
    if lost := [g.image.image_id for g, ok in zip(garments, kept, strict=True) if not ok]:
        warnings.append(
            f"{len(lost):,} of {len(garments):,} queries have no other picture of their category "
            f"and are left out: {examples_of(lost)}."
        )
    left_out = len(task.queries) - int(kept.sum())
    if not kept.any():
        why = "no query has a document of its category" if task.queries else "it has no queries"
        return empty_result(task, "picture-to-picture", FINE, left_out, why, warnings)
    queries, own, n = asked.vectors[kept], match.own[kept], int(kept.sum())
    coarse = [rows for rows, ok in zip(match.coarse, kept, strict=True) if ok]
    fine = [rows for rows, ok in zip(match.fine, kept, strict=True) if ok]
    ideal = match.ideal[kept]
    rows = rank(queries, found.vectors, _K_GAIN, own=own)
    gains = match.gains(np.flatnonzero(kept), rows)
    columns = {
        FINE: _first_hits(rows, fine),
        COARSE: _first_hits(rows, coarse),
        GAIN: np.where(ideal[:, 0] > 0, ndcg_at(gains, ideal, _K_GAIN), np.nan),
    }
    answers = [exact if len(exact) else alike for exact, alike in zip(fine, coarse, strict=True)]
    ranked = np.array([np.isin(row, right) for row, right in zip(rows, answers, strict=True)])
    ranks = first_ranks(ranked, queries, found.vectors, answers, own)
    ids = [g.image.image_id for g, ok in zip(garments, kept, strict=True) if ok]
    examples = _Examples(ids, [image.image_id for image in found.images], ranks, rows, answers)
    best, worst = examples.best_and_worst(seed)
    seen_queries = None if seen is None else seen[asked.kept]
    return task_result(
        task,
        "picture-to-picture",
        FINE,
        unit="queries",
        seen=seen_among(seen_queries, kept),
        left_out=left_out,
        figures_of=lambda kept: mean_figures(columns, kept, seed),
        details={
            "n_documents": len(documents),
            "several_relevant": float(np.mean([len(right) > 1 for right in answers])),
            "random": _random_hits({FINE: fine, COARSE: coarse}, len(documents) - (own >= 0)),
            "best": best,
            "worst": worst,
        },
        warnings=[*warnings, *_partly_scored(columns, n)],
        shown=[id_ for row in (*best, *worst) for id_ in (row["query"], *_ids_of(row))],
        items={
            "item": unique_names(ids),
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


@dataclass(frozen=True, slots=True, eq=False)
class _Examples:
    """Queries with their rankings, of which a result describes some."""

    queries: Sequence[str]
    document_ids: Sequence[str]
    ranks: Int[np.ndarray, " q"]
    rows: Int[np.ndarray, "q places"]
    """Documents, best first; -1 for none."""
    relevant: Sequence[Int[np.ndarray, " _"]]

    def best_and_worst(self, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The best and the worst queries, none in both; equal ones in random order."""
        shuffled = np.random.default_rng(seed).permutation(len(self.ranks))
        order = shuffled[np.argsort(self.ranks[shuffled], kind="stable")].tolist()
        n_worst = min(N_EXAMPLES, len(order) // 2)
        best = order[: min(N_EXAMPLES, len(order) - n_worst)]
        worst = order[::-1][:n_worst]
        return [self._example(q) for q in best], [self._example(q) for q in worst]

    def _example(self, query: int) -> dict[str, Any]:
        """A query's words, the rank of its first answer, some answers, and the first results."""
        top = [int(row) for row in self.rows[query, :_N_TOP] if row >= 0]
        right = self.relevant[query].tolist()
        first = [row for row in top if row in right]
        some = [*first, *(row for row in right if row not in first)][:_N_TOP]
        relevant = some[: max(_N_RELEVANT, len(first))]
        return {
            "query": self.queries[query],
            "rank": int(self.ranks[query]),
            "relevant": [self.document_ids[row] for row in relevant],
            "top": [self.document_ids[row] for row in top],
        }


def _ids_of(example: Mapping[str, Any]) -> list[str]:
    return [*example["top"], *example["relevant"]]


def _ranking_metric(name: str) -> tuple[Any, Any, int]:
    # function, expected value by chance, number of places
    metric, k = find_metric(name)
    if metric.of_ranking is None or not callable(metric.chance) or k is None:
        message = f"there is no metric '{name}' of rankings; write recall@10, hit@5 and the like"
        raise ValueError(message)
    return metric.of_ranking, metric.chance, k


def _check(task: Retrieval, seen: np.ndarray | None) -> None:
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
    check_seen(task, len(task.queries), seen)


def _documents(
    documents: Readable, encoder: Encoder, image_weight: float
) -> Float[np.ndarray, "m d"]:
    """Vectors of images, joined with those of their captions where the task says so."""
    if image_weight >= 1:
        return documents.vectors
    joined = documents.vectors.copy()
    captioned = [row for row, image in enumerate(documents.images) if image.caption]
    texts = encoder.encode_text([documents.images[row].caption for row in captioned])
    joined[captioned] = image_weight * joined[captioned] + (1 - image_weight) * texts
    return to_unit(joined)


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """What each query garment has in common with the documents."""

    own: Int[np.ndarray, " q"]
    """The document that is the query itself, or -1."""
    coarse: list[Int[np.ndarray, " _"]]
    """Documents of the query's category, without itself."""
    fine: list[Int[np.ndarray, " _"]]
    """Those of them that have all its attributes; none for a query without attributes."""
    ideal: Float[np.ndarray, "q k"]
    """The largest possible gains."""
    garments: Sequence[Garment]
    documents: Sequence[Garment]

    def gains(
        self, queries: Int[np.ndarray, " n"], rows: Int[np.ndarray, "n places"]
    ) -> Float[np.ndarray, "n places"]:
        """Gain of each ranked document; 0 for row -1."""
        gains = np.zeros(rows.shape)
        for (i, place), row in np.ndenumerate(rows):
            if row >= 0:
                gains[i, place] = _gain(self.garments[int(queries[i])], self.documents[row])
        return gains


def _gain(query: Garment, document: Garment) -> float:
    if query.category != document.category:
        return 0.0
    either = query.attributes | document.attributes
    return len(query.attributes & document.attributes) / max(1, len(either))


def _match(garments: Sequence[Garment], documents: Sequence[Garment]) -> _Match:
    places = {garment.image.image_id: row for row, garment in enumerate(documents)}
    own = np.array([places.get(g.image.image_id, -1) for g in garments], dtype=np.int64)
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
    some = max(1, _MAX_PAIRS // max(1, len(documents)))
    for start in range(0, len(garments), some):
        ours, want = table(garments[start : start + some])
        shared = want @ have.T
        for row, category in enumerate(ours):
            yield category == theirs, shared[row], want[row].sum() + n_theirs - shared[row]


def _first_hits(
    rows: Int[np.ndarray, "q places"], relevant: Sequence[Int[np.ndarray, " _"]]
) -> Float[np.ndarray, " q"]:
    """Whether the first document is relevant; NaN for a query that has none."""
    first = np.array([np.isin(row[:1], right) for row, right in zip(rows, relevant, strict=True)])
    return np.where([len(right) > 0 for right in relevant], hit_at(first, 1), np.nan)


def _random_hits(
    relevant: Mapping[str, Sequence[np.ndarray]], n_others: Int[np.ndarray, " q"]
) -> dict[str, float]:
    """Hit rates at 1 of a random document."""
    shares = {}
    for name, rows_of in relevant.items():
        n_relevant = np.array([len(rows) for rows in rows_of])
        if (asked := n_relevant > 0).any():
            shares[name] = float((n_relevant / n_others)[asked].mean())
    return shares


def _partly_scored(columns: dict[str, np.ndarray], n: int) -> list[str]:
    why = {
        FINE: "have no attributes, or no document with all of them",
        GAIN: "have no attribute in common with a document of their category",
    }
    counts = {name: int(np.isnan(columns[name]).sum()) for name in why}
    return [
        f"{count:,} of {n:,} queries {why[name]}; {name} is over the other {n - count:,}."
        for name, count in counts.items()
        if count
    ]
