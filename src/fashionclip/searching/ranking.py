"""Ranking of hits: things to avoid, fusion with words, groups of variants."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from fashionclip.product import Hit, Value
from fashionclip.searching.query import NEUTRAL
from fashionclip.store import StoreMeta

FUSION_RANK = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)."""


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


def fuse(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Reciprocal rank fusion of rankings, best first; see ``Query``."""
    scores: dict[str, float] = {}
    products: dict[str, Hit] = {}
    for hits in rankings:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.product_id] = scores.get(hit.product_id, 0.0) + 1.0 / (FUSION_RANK + rank)
            products.setdefault(hit.product_id, hit)
    return best_first(replace(products[name], score=score) for name, score in scores.items())


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
