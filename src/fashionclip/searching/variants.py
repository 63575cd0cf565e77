"""Groups of variants: the products of each, and how many they are."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from fashionclip.product import Hit, Value
from fashionclip.store import Store
from fashionclip.store.base import Sort
from fashionclip.store.filters import AllOf, Column, Filter, OneOf


def variants_of(
    store: Store,
    groups: Collection[Value],
    column: str,
    *,
    where: Filter | None,
    sort: Sort | None = None,
) -> list[Hit]:
    """All products of some groups that pass a filter, in the order of their ids or as sorted.

    Args:
        store: where they are.
        groups: values of the column.
        column: the column of groups.
        where: the filter.
        sort: another order.
    """
    if not groups:
        return []
    both = with_values(where, Column(column, store.meta.columns[column]), tuple(groups))
    return store.list_hits(k=max(1, len(store)), where=both, sort=sort, columns=(column,))


def with_values(where: Filter | None, column: Column, values: Sequence[Value]) -> Filter:
    """A filter and, besides, that a column has one of some values."""
    one_of = OneOf(column, tuple(values), is_negated=False)  # type: ignore[arg-type]
    condition = one_of if where is None else AllOf((where.condition, one_of))
    both = Filter("", condition)
    return Filter(both.sql, condition)


def with_variants(
    store: Store, hits: Iterable[Hit], column: str, where: Filter | None
) -> list[Hit]:
    """Hits with the numbers of their groups' products that pass a filter."""
    shown = list(hits)
    groups = {hit.columns.get(column) for hit in shown} - {None}
    counts = Counter(hit.columns[column] for hit in variants_of(store, groups, column, where=where))
    # a group that a write has just emptied still has the hit itself
    return [replace(hit, n_variants=max(1, counts[hit.columns.get(column)])) for hit in shown]
