"""Columns that a catalogue no longer has: what took their place takes their values.

A column that no product fills would otherwise answer a filter for the role of its name: ``price``
of last night, where tonight's price stands in ``Price``.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from fashionclip.product import Kind, Product, Roles, Value, kind_of, widen
from fashionclip.store.base import Store, Writer
from fashionclip.store.filters import Column, Filter, Is

ROWS_MOVED = 4_096
"""Products rewritten at once."""


def drop_former_columns(
    store: Store,
    writer: Writer,
    columns: Mapping[str, Kind],
    blank: Collection[str],
    *,
    roles_before: Roles,
) -> None:
    """Drop the columns that a catalogue, all of which was just stored, does not fill any more.

    Products that stay as they were, because they are kept though the catalogue lacks them, or their
    row or image could not be read this time, may still have values there. These go to the column
    that took the place, if it can hold them, and are dropped otherwise; without such a column they
    stay.

    Args:
        store: has the catalogue's roles already.
        writer: its writer.
        columns: those that the catalogue fills.
        blank: its other columns; they stay, unless they hide a role or a column of their name.
        roles_before: which columns played which part until now.
    """
    meta = store.meta
    former = [name for name in meta.columns if name not in columns]
    successors = {name: _successor(name, columns, meta.roles, roles_before) for name in former}
    hiding = [name for name in former if _of_same_name(name, columns, meta.roles)]
    gone = [name for name in former if name not in blank or name in hiding]
    for name in gone:
        if (successor := successors[name]) is not None:
            _move_values(store, writer, name, successor)
    writer.drop_blank(gone)


def _of_same_name(name: str, columns: Mapping[str, Kind], roles: Roles) -> str | None:
    """The column that a filter means by a name, in any letter case, or as a role."""
    alike = [other for other in columns if other.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    column = roles.as_dict().get(name.lower())
    return column if isinstance(column, str) and column in columns else None


def _successor(
    name: str, columns: Mapping[str, Kind], roles: Roles, roles_before: Roles
) -> str | None:
    """The column that has a former column's name, or now plays its part."""
    now = roles.as_dict()
    parts = (now[role] for role, column in roles_before.as_dict().items() if column == name)
    taken = (one for one in parts if isinstance(one, str) and one in columns)
    return _of_same_name(name, columns, roles) or next(taken, None)


def _move_values(store: Store, writer: Writer, old: str, new: str) -> None:
    """Give the values of one column to another, where that has none and can hold them."""
    kinds = store.meta.columns
    filled = Filter("", Is(Column(old, kinds[old]), None, is_negated=True))
    while ids := [hit.product_id for hit in store.list_hits(k=ROWS_MOVED, where=filled)]:
        rows = store.fetch(ids)
        if rows.vectors is None or not len(rows.ids):  # their vectors are damaged
            return
        moved = []
        for i, values in enumerate(rows.columns.to_pylist()):
            value = values[new]
            value = _fitting(values[old], kinds[new]) if value is None else value
            product = Product(rows.ids[i], rows.captions[i], rows.images[i], 0, values)
            moved.append(replace(product, columns={**values, old: None, new: value}))
        writer.upsert(moved, rows.vectors, rows.content_keys)


def _fitting(value: Value, kind: Kind) -> Value:
    """The value, if it does not turn a column of this kind into text; else None."""
    return value if widen(kind_of(value), kind) in {kind, "number"} else None
