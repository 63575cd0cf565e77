"""Directions in a model's space: a search's vector, moved from what one text says to another's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fashionclip.product import Value
from fashionclip.searching.comparatives import Change, product_kinds
from fashionclip.searching.ranking import unit
from fashionclip.searching.variants import with_values
from fashionclip.store import Store
from fashionclip.store.filters import Column, Filter

MIN_DIFFERENCE = 0.1
"""Length of the difference of two unit vectors of texts, from which on a model tells them apart.
To the built-in model "grey" and "gray" are 0.08 apart, "trousers" and "pants" 0.15, "dark" and
"light" 1.5."""
N_VOTERS, MIN_AGREEING = 10, 7
"""Products nearest to an image or to words, and how many of them must have a category to say that
it is the start's own; ``benchmarks/comparative.py categories`` counts how often that is right."""
MAX_CATEGORIES = 1000
MIN_OF_CATEGORY = 10
"""Products that a category must have to be kept; in a smaller one there is little to find."""


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change as a search made it."""

    text: str
    """As it was asked for."""
    before: str
    """The text that it leads away from."""
    after: str
    """The text that it leads to."""
    strength: float
    """By how much the difference of both texts' vectors was multiplied."""


@dataclass(frozen=True, slots=True)
class KeptCategory:
    """The category that the hits of a search with changes were kept to."""

    column: str
    """The catalogue's own name of the column."""
    values: tuple[str | int | float, ...]
    """Its values; several where a search starts from several products."""


def change_texts(changes: Sequence[Change]) -> list[str]:
    """The texts whose vectors some changes need."""
    pairs = [
        pair for change in changes for pair in (*change.pairs, *(own for _, own in change.kinds))
    ]
    kinds = product_kinds() if any(change.kinds for change in changes) else ()
    return list(dict.fromkeys([*(text for pair in pairs for text in pair), *kinds]))


def moved(
    start: Float[np.ndarray, " dim"],
    changes: Sequence[Change],
    texts: Mapping[str, Float[np.ndarray, " dim"]],
    strength: float,
) -> tuple[Float[np.ndarray, " dim"], tuple[AppliedChange, ...]]:
    """A search's vector after some changes.

        moved = unit(start + strength * sum over changes of degree * (T(after) - T(before)))

    A change's pair is that of the start's kind, which is the kind of product whose name is nearest
    to the start. Where it has none, that of the pairs for any kind counts whose middle is nearest.

    Args:
        start: a unit vector, of an image or a text.
        changes: what is to be different.
        texts: unit vectors of ``change_texts``.
        strength: how far to go, above 0.

    Returns:
        A unit vector, and each change as it was made.

    Raises:
        ValueError: the start is of a kind that a change has no pair for, the model does not tell
            the texts of a change apart, or the changes cancel each other out.

    Source: PDV, "Prompt Directional Vector" (WACV 2026), whose query for an image I and a text T is
        ``(1 - b) (I + a D) + b (T + a D)`` with ``D = T(changed) - T(plain)``; here ``start`` is
        the mixture of I and T. ``benchmarks/comparative.py`` compares it with GradREC (ECNLP 2022).
    """
    total = np.zeros(len(start))
    applied = []
    for change in changes:
        before, after = _pair_for(start, change, texts)
        total += change.degree * (texts[after].astype(np.float64) - texts[before])
        applied.append(AppliedChange(change.text, before, after, strength * change.degree))
    if np.linalg.norm(total) < MIN_DIFFERENCE:
        message = f"{' and '.join(c.text for c in changes)!r:.80} cancel each other out: drop one"
        raise ValueError(message)
    return unit(start + strength * total).astype(np.float32), tuple(applied)


def _pair_for(
    start: Float[np.ndarray, " dim"],
    change: Change,
    texts: Mapping[str, Float[np.ndarray, " dim"]],
) -> tuple[str, str]:
    pairs: Sequence[tuple[str, str]] = change.pairs
    if change.kinds:
        kind = max(product_kinds(), key=lambda name: float(texts[name] @ start))
        pairs = [pair for one, pair in change.kinds if one == kind] or pairs
    if not pairs:
        message = (
            f"no change {change.text!r:.60} is known for this product: write from and to, such as "
            "'long skirt / short skirt'"
        )
        raise ValueError(message)
    before, after = (
        np.stack([texts[text] for text in side]).astype(np.float64)
        for side in zip(*pairs, strict=True)
    )
    is_told = np.linalg.norm(after - before, axis=1) >= MIN_DIFFERENCE
    if not is_told.any():
        first, last = pairs[0]
        message = (
            f"the model does not tell {first!r:.60} from {last!r:.60}, so the change "
            f"{change.text!r:.60} leads nowhere: use other words"
        )
        raise ValueError(message)
    near = unit(before + after) @ start
    return pairs[int(np.where(is_told, near, -np.inf).argmax())]


def kept_category(
    store: Store,
    start: Float[np.ndarray, " dim"],
    stored: Sequence[Value],
    where: Filter | None,
) -> KeptCategory | None:
    """The category that hits should keep: that of the products a search starts from.

    For an image or words it is the one that most of the nearest products have. None where there is
    no column of categories, the filter reads it already, the nearest products disagree, or too few
    products have it.

    Args:
        store: what is searched.
        start: the vector before any change.
        stored: categories of the stored products that the search starts from; empty if there are
            none.
        where: the search's filter.
    """
    meta = store.meta
    column = meta.roles.category
    if column is None or column not in meta.columns or (where and column in where.columns):
        return None
    values = tuple(dict.fromkeys(value for value in stored if value is not None))
    if not stored:
        (near,) = store.nearest(start[None], k=N_VOTERS, where=where, columns=(column,))
        votes = Counter(value for hit in near if (value := hit.columns[column]) is not None)
        values = tuple(value for value, n in votes.most_common(1) if n >= MIN_AGREEING)
    if not values:
        return None
    kept = KeptCategory(column, values)
    # an example is no hit itself
    enough = MIN_OF_CATEGORY + len(stored)
    return kept if store.count(with_category(where, kept, store)) >= enough else None


def leaves_category(applied: Sequence[AppliedChange], kept: KeptCategory, store: Store) -> bool:
    """Whether a pair leads from what would be kept to another category: "handbag / backpack".

    The last words of both texts and of the categories are compared.
    """
    own = [str(value) for value in kept.values]
    others = [str(value) for value in store.values(kept.column, k=MAX_CATEGORIES)]
    return any(
        change.text.startswith(change.before)  # a pair that was asked for, none of a comparative
        and _is_named(own, change.before)
        and _is_named(others, change.after)
        and not _is_named(own, change.after)
        for change in applied
    )


def _is_named(categories: Sequence[str], text: str) -> bool:
    return any(not _last_word(text).isdisjoint(_last_word(one)) for one in categories)


def _last_word(text: str) -> set[str]:
    """It, and its plurals."""
    word = text.casefold().replace(">", " ").replace("/", " ").split()[-1:] or [""]
    return {word[0] + end for end in ("", "s", "es")}


def with_category(where: Filter | None, kept: KeptCategory, store: Store) -> Filter:
    """A filter and, besides, that products have the category that is kept."""
    return with_values(where, Column(kept.column, store.meta.columns[kept.column]), kept.values)
