"""Pages of a Lance table in an order: what comes first, and what comes after a place in it."""

from lance.dataset import ColumnOrdering

from fashionclip.product import Value
from fashionclip.store.base import Sort
from fashionclip.store.lance import schema
from fashionclip.store.lance.schema import literal, stored_name


def ordering(sort: Sort | None) -> list[ColumnOrdering]:
    """Lance's order of products: by a column, those without a value last, then by id."""
    by_id = ColumnOrdering(schema.ID)
    if sort is None:
        return [by_id]
    return [ColumnOrdering(stored_name(sort.column), ascending=not sort.descending), by_id]


def after_place(sort: Sort | None, value: Value, product_id: str) -> str:
    """SQL that holds for the products after a value of the sorted column and an id."""
    is_later = f"{schema.ID} > {literal(product_id)}"
    if sort is None:
        return is_later
    column = f"`{stored_name(sort.column)}`"
    if value is None or value != value:  # NaN
        return f"({column} IS NULL AND {is_later})"
    sign, shown = "<" if sort.descending else ">", literal(value)
    return f"({column} {sign} {shown} OR ({column} = {shown} AND {is_later}) OR {column} IS NULL)"
