"""Pages of products in PostgreSQL: in the order of their ids, or of a column, on from any place.

A sorted list has two parts: the products with a value, and those without. Each is a query of its
own, which an index of the column can answer: with ``NULLS LAST`` over both, none could, descending.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fashionclip.product import Value
from fashionclip.store.base import Sort
from fashionclip.store.postgres.schema import Header, quoted
from fashionclip.store.rows import as_kind


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an ordered list, as SQL with ``%s`` for each value."""

    condition: str
    """Which products it holds; empty for all."""
    values: Sequence[Value]
    order: str


def parts_of(header: Header, sort: Sort | None, after: tuple[Value, str] | None) -> list[Part]:
    """The parts of a list, in their order.

    Args:
        header: the columns; that of ``sort`` is one of them.
        sort: the order; None for that of the ids.
        after: only what comes after this value and id.

    Raises:
        ValueError: the value to go on after is none of the column's kind.
    """
    value, product_id = (None, None) if after is None else after
    is_later, later = ("", []) if product_id is None else ("_id > %s", [product_id])
    if sort is None:
        return [Part(is_later, later, "_id")]
    column = quoted(header.stored_names[sort.column])
    direction, beyond = ("DESC", "<") if sort.descending else ("ASC", ">")
    order = f"{column} {direction}, _id"
    without = Part(f"{column} IS NULL", [], "_id")
    if after is None:
        return [Part(f"{column} IS NOT NULL", [], order), without]
    last = as_kind(value, header.meta.columns[sort.column])
    if last is None:
        return [Part(f"{column} IS NULL AND {is_later}", later, "_id")]
    rest = f"{column} {beyond}= %s AND ({column} {beyond} %s OR {is_later})"
    return [Part(rest, [last, last, *later], order), without]
