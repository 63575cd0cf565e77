"""Ranking of hits: things to avoid, fusion with words, groups of variants."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from fashionclip.product import Hit, Value
from fashionclip.searching.query import NEUTRAL
from fashionclip.store import StoreMeta

VECTOR_SPAN = 8.0
"""Standard deviations of cosines that count as much as words that cover a query completely: about
the distance between the best and the worst product of a catalogue."""


def group_column(meta: StoreMeta) -> str:
    """The column of the role ``group``.

    Raises:
        ValueError: there is none.
    """
    if meta.roles.group in meta.columns:
        return str(meta.roles.group)
    message = "this index has no column of groups; index with --column group=NAME"
    raise ValueError(message)


def one_per_group(
    hits: Iterable[Hit], column: str, seen: Collection[Value] = frozenset()
) -> list[Hit]:
    """The first hit of each value of a column, and all that have none.

    Args:
        hits: best first.
        column: whose values are the groups.
        seen: groups whose products are left out.
    """
    groups, found = set(seen), []
    for hit in hits:
        group = hit.columns.get(column)
        if group is None or group not in groups:
            groups.add(group)
            found.append(hit)
    return found


def word_shares(by_words: Sequence[Hit], coverage: float) -> dict[str, float]:
    """How much of a query the words of some products cover, in 0…1, by product id.

    An engine's scores can be compared only within one query, so that the best hit's share is
    measured (``Scale.coverage``) and the others are in proportion to it.

    Args:
        by_words: what ``Store.text_search`` found.
        coverage: the share of the query that the best of them cover.
    """
    best = max((hit.score for hit in by_words), default=0.0)
    return {hit.product_id: coverage * hit.score / best for hit in by_words} if best > 0 else {}


def fuse(
    by_vectors: Sequence[Hit],
    by_words: Sequence[Hit],
    *,
    coverage: float,
    mean: float,
    std: float,
) -> list[Hit]:
    """Products ranked by their vectors and their words together, best first.

        score = (cosine - mean) / (VECTOR_SPAN * std) + share of the query that the words cover

    It depends on the query, the product and what is usual in the catalogue, not on the other
    candidates but the best by words, so that scores of two pages can be compared.

    Args:
        by_vectors: candidates with their cosines, those of ``by_words`` too; a product without
            one counts as an average one.
        by_words: those whose words match, with the engine's scores; a candidate that is not among
            them counts as one whose words do not match.
        coverage: of the query by the best of ``by_words``; see ``Scale.coverage``.
        mean: of the query's cosines over the catalogue; see ``Scale.moments``.
        std: their standard deviation.

    Source: a convex combination as in Bruch, Gai and Ingber, "An Analysis of Fusion Functions for
        Hybrid Retrieval", ACM TOIS 42(1), 2023, with other normalisations.
    """
    shares = word_shares(by_words, coverage)
    scores = {hit.product_id: (hit.score - mean) / (VECTOR_SPAN * std) for hit in by_vectors}
    hits = {hit.product_id: hit for hit in (*by_words, *by_vectors)}
    return best_first(
        Hit(name, scores.get(name, 0.0) + shares.get(name, 0.0), hit.columns)
        for name, hit in hits.items()
    )


def avoided_directions(
    vectors: Mapping[str, Float[np.ndarray, " dim"]], text: str | None, phrases: Sequence[str]
) -> Float[np.ndarray, "phrase dim"]:
    """What each phrase adds to the query's text, as unit vectors; see ``Query``.

    Args:
        vectors: unit vectors of the text, the phrases and ``NEUTRAL``.
        text: the query's text, if it has any.
        phrases: what to avoid.
    """
    neutral = vectors[NEUTRAL].astype(np.float64)
    added = np.stack([vectors[phrase] for phrase in phrases]) - neutral
    if text is not None:
        wanted = unit(vectors[text] - neutral)
        # only the shared part goes; a phrase that means the opposite keeps its whole direction
        added -= np.maximum(added @ wanted, 0.0)[:, None] * wanted
    return unit(added)


def demoted(hits: Sequence[Hit], penalties: Mapping[str, float], weight: float) -> list[Hit]:
    """Hits put back by their penalties, in standard deviations of the scores."""
    spread = float(np.std([hit.score for hit in hits])) if hits else 0.0
    return best_first(
        replace(hit, score=hit.score - weight * spread * penalties.get(hit.product_id, 0.0))
        for hit in hits
    )


def best_first(hits: Iterable[Hit]) -> list[Hit]:
    """Hits by score, equal scores by id."""
    return sorted(hits, key=lambda hit: (-hit.score, hit.product_id))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors at unit length; zeros stay."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))
