"""Which products of a snapshot pass a filter: what ``filters.parse_filter`` wrote, in memory.

So a search with a filter needs no file, and its filter holds for the very products it ranks. NULL
is neither true nor false, as in SQL; at the end only what is true passes.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from jaxtyping import Bool
from sqlglot import exp

from fashionclip.index import Snapshot
from fashionclip.index.columns import stored_name
from fashionclip.index.filters import RESERVED

_COMPARED: Mapping[type[exp.Expression], Callable[..., pa.ChunkedArray]] = {
    exp.EQ: pc.equal,
    exp.NEQ: pc.not_equal,
    exp.LT: pc.less,
    exp.LTE: pc.less_equal,
    exp.GT: pc.greater,
    exp.GTE: pc.greater_equal,
}


def passing(where: str, seen: Snapshot) -> Bool[np.ndarray, " n"]:
    """True for the rows of a snapshot that pass a filter.

    Args:
        where: as ``filters.parse_filter`` writes it, for this snapshot's columns.
        seen: the products.

    Raises:
        ValueError: it is something else.
    """
    tree = sqlglot.parse_one(where)
    assert isinstance(tree, exp.Expression)
    found = _condition(tree, seen)
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)


def _condition(node: exp.Expression, seen: Snapshot) -> pa.Array:
    if isinstance(node, exp.Paren):
        return _condition(node.this, seen)
    if isinstance(node, exp.And | exp.Or):
        both = pc.and_kleene if isinstance(node, exp.And) else pc.or_kleene
        return both(_condition(node.this, seen), _condition(node.expression, seen))
    if isinstance(node, exp.Not):
        return pc.invert(_condition(node.this, seen))
    column = _column(node.this, seen)
    if isinstance(node, exp.Is):
        return pc.is_null(column)
    if isinstance(node, exp.In):
        values = pa.array([_value(value, column.type) for value in node.expressions], column.type)
        found = pc.is_in(column, value_set=values)
        return pc.if_else(pc.is_valid(column), found, pa.scalar(None, pa.bool_()))
    if isinstance(node, exp.Between):
        low, high = (_value(node.args[end], column.type) for end in ("low", "high"))
        return pc.and_kleene(pc.greater_equal(column, low), pc.less_equal(column, high))
    if isinstance(node, exp.Like | exp.ILike):
        is_any_case = isinstance(node, exp.ILike)
        found = pc.match_like(column, str(node.expression.this), ignore_case=is_any_case)
        return pc.invert(found) if node.args.get("negate") else found
    if type(node) not in _COMPARED:
        message = f"{type(node).__name__} is in no filter"
        raise ValueError(message)
    right = node.expression
    other = _column(right, seen) if isinstance(right, exp.Column) else _value(right, column.type)
    return _COMPARED[type(node)](column, other)


def _column(node: exp.Expression, seen: Snapshot) -> pa.Array:
    name = str(node.this.this)
    stored = (
        RESERVED.get(name, stored_name(name)) if name not in seen.columns else stored_name(name)
    )
    column = seen.table.column(stored)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _value(node: exp.Expression, kind: pa.DataType) -> pa.Scalar:
    if isinstance(node, exp.Neg):
        return pa.scalar(-_value(node.this, kind).as_py(), kind)
    if isinstance(node, exp.Boolean):
        return pa.scalar(bool(node.this), kind)
    text = str(node.this)
    if node.is_string:
        return pa.scalar(text, kind)
    return pa.scalar(int(text) if pa.types.is_integer(kind) else float(text), kind)
