"""Columns that queries name: by their own names or by roles; orders by their values."""

import math
from collections.abc import Sequence
from difflib import get_close_matches

from fashionclip.product import ROLE_SPELLINGS, Value
from fashionclip.store import StoreMeta
from fashionclip.store.base import Sort


def named_column(name: str, meta: StoreMeta) -> str:
    """The catalogue's own name of a column: of this name, else in other case, else of this role.

    Raises:
        ValueError: there is none; the message has the nearest name.
    """
    if name in meta.columns:
        return name
    same = [column for column in meta.columns if column.lower() == name.lower()]
    if len(same) == 1:
        return same[0]
    roles = {
        role: column
        for role, column in meta.roles.as_dict().items()
        if isinstance(column, str) and column in meta.columns
    }
    role = name.lower()
    if found := roles.get(ROLE_SPELLINGS.get(role, role)):
        return str(found)
    known = {option.lower(): option for option in (*roles, *meta.columns)}
    near = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {known[near[0]]!r}?" if near else f"columns: {', '.join(meta.columns)}"
    message = f"there is no column {name!r}; {hint}"
    raise ValueError(message)


def parse_sort(text: str | None, meta: StoreMeta) -> Sort | None:
    """An order as queries write it: a column or role, descending with ``-`` before it.

    Raises:
        ValueError: there is no such column.
    """
    if text is None:
        return None
    name = text.strip()
    if name in meta.columns:  # a column's own name may begin with a dash
        return Sort(name)
    return Sort(named_column(name.removeprefix("-"), meta), descending=name.startswith("-"))


def sort_value(value: Value) -> Value:
    """A value as orders see it: NaN is missing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def sorted_rows(values: Sequence[Value], ids: Sequence[str], sort: Sort) -> list[int]:
    """Rows in an order: by value, rows without one last, equal ones by id."""
    rows = sorted(range(len(ids)), key=ids.__getitem__)
    filled = [row for row in rows if values[row] is not None]
    filled.sort(key=values.__getitem__, reverse=sort.descending)  # type: ignore[arg-type]
    return [*filled, *(row for row in rows if values[row] is None)]


def is_after(place: tuple[Value, str], value: Value, product_id: str, sort: Sort) -> bool:
    """Whether a product comes after a place in an order."""
    last, last_id = place
    if value == last:
        return product_id > last_id
    if value is None or last is None:
        return value is None
    is_less: bool = value < last  # type: ignore[operator]  # of one kind
    return is_less if sort.descending else not is_less
