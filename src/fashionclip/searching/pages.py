"""From ranked candidates to one page of hits: groups, order, place, total."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from jaxtyping import Float, Int

from fashionclip.product import Value
from fashionclip.searching.candidates import Candidates
from fashionclip.searching.columns import is_after, sort_value, sorted_rows
from fashionclip.searching.cursors import MAX_SEEN, START, Place, RankKey, mark_of, place_after
from fashionclip.searching.diversity import diverse_order
from fashionclip.searching.query import Query
from fashionclip.store.base import Sort

EXACT, FITTING, WEAKER = range(3)
"""Bands: hits whose id or code is the query, those that fit, and those below the line."""
POOL = 1_000
"""Candidates that are counted, sorted, grouped and ranked again together."""
FUSED_POOL = 100
"""Candidates of each ranking where vectors and words are fused, and nothing is counted."""
SCORED_BY_WORDS = 300
"""Matches whose scores by words are known at least, since vectors may find them too."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """How a query's hits are laid out on pages."""

    query: Query
    group: str | None
    """The column by which hits are grouped."""
    sort: Sort | None
    place: Place = START
    """Where the page before ended."""
    excluded_groups: frozenset[Value] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One page of ranked candidates."""

    rows: Sequence[int]
    """Its hits, as rows of the candidates."""
    n_relevant: int
    has_more: bool
    place: Place
    """Where it ends."""
    counted: Sequence[int]
    """The rows that fit, one of each group where hits are grouped."""


def page_of(
    layout: Layout,
    candidates: Candidates,
    scores: Float[np.ndarray, " n"],
    bands: Int[np.ndarray, " n"],
    vectors_of: Callable[[Sequence[str]], Float[np.ndarray, "n dim"]],
) -> Page:
    """The page of a query that comes after its place.

    Args:
        layout: what the page is like.
        candidates: products from the best one on.
        scores: higher is better.
        bands: ``EXACT``, ``FITTING`` or ``WEAKER``, in whose order they come.
        vectors_of: vectors of some products, for diversity.
    """
    query, place = layout.query, layout.place
    ids = candidates.ids
    # a stable score alone is a place, even where the line between fitting and weaker hits moves
    is_stable = query.has_stable_scores
    is_weak = (bands == WEAKER).tolist()
    keys: list[RankKey] = list(zip(bands.tolist(), (-scores).tolist(), ids, strict=True))
    best_first = sorted(range(len(ids)), key=keys.__getitem__)
    if is_stable:
        keys = [(FITTING, score, name) for _, score, name in keys]
    groups: Sequence[Value] = [None] * len(ids)
    if layout.group is not None:
        groups = candidates.values(layout.group)
        best_first = list(_firsts(best_first, groups, layout.excluded_groups))
    fitting = [row for row in best_first if not is_weak[row]]
    weaker = best_first[len(fitting) :]
    values: Sequence[Value] = ()
    if layout.sort is not None:
        values = [sort_value(value) for value in candidates.values(layout.sort.column)]

    def mark(row: int) -> int:
        return mark_of(ids[row] if groups[row] is None else f"group {groups[row]}")

    def is_seen(row: int) -> bool:
        if not place.n_before:
            return False
        if layout.sort is not None and not is_weak[row]:
            if place.sorted_at is None:
                return True
            return not is_after(place.sorted_at, values[row], ids[row], layout.sort)
        return place.is_seen(keys[row], mark(row))

    last = query.offset + query.k
    fitting_order = _order(layout, fitting, ids, scores, values, vectors_of)
    unseen = (row for row in chain(fitting_order, weaker) if not is_seen(row))
    found = list(islice(unseen, last + 1))
    rows = found[query.offset : last]
    return Page(
        rows=rows,
        n_relevant=sum(not is_weak[row] for row in rows),
        has_more=len(found) > last,
        place=_end(layout, rows, best_first, found[:last], keys, mark, values, is_weak, is_seen),
        counted=fitting,
    )


def _order(
    layout: Layout,
    fitting: Sequence[int],
    ids: Sequence[str],
    scores: Float[np.ndarray, " n"],
    values: Sequence[Value],
    vectors_of: Callable[[Sequence[str]], Float[np.ndarray, "n dim"]],
) -> Iterator[int]:
    """Fitting rows, best first, as they are shown: sorted, diverse, or as they are."""
    own_ids, diversity = [ids[row] for row in fitting], layout.query.diversity
    order: Iterable[int] = range(len(fitting))
    if layout.sort is not None:
        order = sorted_rows([values[row] for row in fitting], own_ids, layout.sort)
    elif diversity and fitting:
        order = diverse_order(scores[fitting], vectors_of(own_ids), diversity=diversity)
    return (fitting[i] for i in order)


def _end(
    layout: Layout,
    rows: Sequence[int],
    best_first: Sequence[int],
    found: Sequence[int],
    keys: Sequence[RankKey],
    mark: Callable[[int], int],
    values: Sequence[Value],
    is_weak: Sequence[bool],
    is_seen: Callable[[int], bool],
) -> Place:
    """Where a page ends."""
    if not rows:
        return layout.place
    n_before = layout.place.n_before + len(found)
    last = rows[-1]
    if layout.sort is not None and not is_weak[last]:
        return Place(n_before, sorted_at=(values[last], keys[last][2]))
    ended = set(found)
    ranking = [
        (keys[row], mark(row))
        for row in best_first
        if (row in ended or is_seen(row)) and (layout.sort is None or is_weak[row])
    ]
    return place_after(
        ranking,
        n_before=n_before,
        is_stable=layout.query.has_stable_scores,
        max_seen=POOL if layout.query.diversity else MAX_SEEN,
    )


def _firsts(
    rows: Sequence[int], groups: Sequence[Value], excluded: frozenset[Value]
) -> Iterator[int]:
    """The first row of each group, and all that have none."""
    taken = set(excluded)
    for row in rows:
        group = groups[row]
        if group is None:
            yield row
        elif group not in taken:
            taken.add(group)
            yield row
