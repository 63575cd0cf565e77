"""Ranking of hits: things to avoid, fusion of vectors and words, the column of groups."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.searching.query import NEUTRAL
from fashionclip.store import StoreMeta

VECTOR_SPAN = 8.0
"""Standard deviations of cosines that count as much as words that cover a query completely: about
the distance between the best and the worst product of a catalogue."""

MIN_COVERAGE = 0.6
"""Share of a query that the words of the best product cover, if words make products fit."""


def group_column(meta: StoreMeta) -> str:
    """The column of the role ``group``.

    Raises:
        ValueError: there is none.
    """
    if meta.roles.group in meta.columns:
        return str(meta.roles.group)
    message = "this index has no column of groups; index with --column group=NAME"
    raise ValueError(message)


def word_shares(word_scores: Float[np.ndarray, " n"], coverage: float) -> Float[np.ndarray, " n"]:
    """How much of a query the words of some products cover, in 0…1.

    An engine's scores can be compared only within one query, so that the best product's share is
    measured (``Scale.coverage``) and the others are in proportion to it.

    Args:
        word_scores: of ``Store.text_search``; 0 where no word matches.
        coverage: the share of the query that the best of them cover.
    """
    best = max(float(word_scores.max(initial=0.0)), 1e-9)
    return np.asarray(word_scores * (coverage / best))


def match_words(shares: Float[np.ndarray, " n"], coverage: float) -> Bool[np.ndarray, " n"]:
    """Which products fit a query by their words, whatever their vectors say.

    None if even the best leaves out much of the query: a colour alone is no match.

    Args:
        shares: see ``word_shares``.
        coverage: the share of the query that the best product covers.
    """
    return (shares >= coverage / 2) & (coverage >= MIN_COVERAGE)


def fuse(
    cosines: Float[np.ndarray, " n"],
    shares: Float[np.ndarray, " n"],
    *,
    mean: float,
    std: float,
) -> Float[np.ndarray, " n"]:
    """Scores of products by their vectors and their words together.

        score = (cosine - mean) / (VECTOR_SPAN * std) + share of the query that the words cover

    It depends on the query, the product and what is usual in the catalogue, not on the other
    candidates but the best by words, so that scores of two pages can be compared.

    Args:
        cosines: of query and products.
        shares: see ``word_shares``.
        mean: of the query's cosines over the catalogue; see ``Scale.moments``.
        std: their standard deviation.

    Source: a convex combination as in Bruch, Gai and Ingber, "An Analysis of Fusion Functions for
        Hybrid Retrieval", ACM TOIS 42(1), 2023, with other normalisations.
        ``benchmarks/relevance.py`` compares it with either side alone, with reciprocal rank fusion
        and with their combination; docs/search.md has the figures.
    """
    return np.asarray((cosines - mean) / (VECTOR_SPAN * std) + shares)


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


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors at unit length; zeros stay."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))
