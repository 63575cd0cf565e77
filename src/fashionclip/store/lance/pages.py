"""What is asked of a Lance table, filters and orders, and its rows as hits."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from lance.dataset import ColumnOrdering

from fashionclip.product import Hit, Value
from fashionclip.store.base import Sort
from fashionclip.store.filters import Filter, to_datafusion
from fashionclip.store.lance import schema
from fashionclip.store.lance.schema import literal, shown_name, stored_name

Dataset = Any


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


def condition_of(table: Dataset, where: Filter | None) -> str | None:
    """A filter as SQL over the table's columns."""
    if where is None:
        return None
    names = set(table.schema.names)

    def column(name: str) -> str:
        stored = stored_name(name)
        return stored if stored in names else schema.RESERVED[name]

    return to_datafusion(where, column)


def ranked(found: pa.Table, scores: Float[np.ndarray, " n"], k: int) -> list[Hit]:
    """The k best rows as hits, equal scores by id."""
    keys = pa.table({"score": scores, "id": found[schema.ID]})
    order = pc.sort_indices(keys, sort_keys=[("score", "descending"), ("id", "ascending")])
    best = order[:k]
    return hits_of(found.take(best), scores[best.to_numpy()].tolist())


def hits_of(found: pa.Table, scores: Iterable[float]) -> list[Hit]:
    """Stored rows as what a search hands out."""
    stored = [name for name in found.column_names if name[0] != "_"]
    shown = [shown_name(name) for name in stored]
    ids = found[schema.ID].to_pylist()
    if not shown:
        return [Hit(name, score, {}) for name, score in zip(ids, scores, strict=False)]
    by_row = zip(*(found[name].to_pylist() for name in stored), strict=True)
    return [
        Hit(name, score, dict(zip(shown, values, strict=True)))
        for name, score, values in zip(ids, scores, by_row, strict=False)
    ]
