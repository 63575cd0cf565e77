"""Lists: the products that pass a filter, in the order of their ids or sorted, page by page."""

from dataclasses import replace

from fashionclip.product import Hit, Value
from fashionclip.searching.columns import sort_value
from fashionclip.searching.cursors import Place, write_cursor
from fashionclip.searching.pending import Pending
from fashionclip.searching.results import Results
from fashionclip.searching.variants import variants_of, with_variants
from fashionclip.store import Store
from fashionclip.store.base import Sort
from fashionclip.store.filters import Filter

CHUNK_GROWTH = 4
"""How many times more products are read where those before were too few groups."""


def list_page(store: Store, one: Pending) -> Results:
    """A page of the products that pass a filter: by id or sorted, one of each group if asked.

    Args:
        store: what is listed.
        one: a query that has nothing to rank by.
    """
    query, layout = one.query, one.layout
    group, sort, last = layout.group, layout.sort, query.offset + query.k
    after = layout.place.sorted_at
    if group is None:
        columns = one.fields
        if columns is not None and sort is not None:
            columns = tuple(dict.fromkeys([*columns, sort.column]))
        hits = store.list_hits(
            k=query.k + 1,
            offset=query.offset,
            where=one.where,
            sort=sort,
            after=after,
            columns=columns,
        )
    else:
        hits = _list_groups(store, last + 1, group, where=one.where, sort=sort, after=after)[
            query.offset :
        ]
    shown, cursor = hits[: query.k], None
    has_more = len(hits) > query.k
    if has_more:
        value = shown[-1].columns[sort.column] if sort else None
        place = Place(0, sorted_at=(sort_value(value), shown[-1].product_id))
        cursor = write_cursor(place, one.digest, None)
    if group is not None:
        shown = with_variants(store, shown, group, one.where)
    elif one.fields is not None:
        shown = [replace(hit, columns=one.chosen(hit.columns)) for hit in shown]
    total = store.count(one.where, distinct=group) if query.total else None
    return Results(shown, len(shown), has_more, cursor, total)


def _list_groups(
    store: Store,
    n: int,
    column: str,
    *,
    where: Filter | None,
    sort: Sort | None,
    after: tuple[Value, str] | None,
) -> list[Hit]:
    """The first product of each group, in the order of their ids or as sorted."""
    found: list[Hit] = []
    columns = tuple(dict.fromkeys([column, *([sort.column] if sort else [])]))
    step = n
    while len(found) < n:
        hits = store.list_hits(k=step, where=where, sort=sort, after=after, columns=columns)
        groups = {hit.columns[column] for hit in hits} - {None}
        firsts: dict[Value, str] = {}
        for variant in variants_of(store, groups, column, where=where, sort=sort):
            firsts.setdefault(variant.columns[column], variant.product_id)
        for hit in hits:
            group = hit.columns[column]
            if group is None or firsts.get(group) == hit.product_id:
                found.append(hit)
        if len(hits) < step:
            break
        last = hits[-1]
        after = (last.columns[sort.column] if sort else None, last.product_id)
        step *= CHUNK_GROWTH
    return found[:n]
