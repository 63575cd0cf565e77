"""Products and columns as every store keeps them: kinds, values, checks of what is written.

A write only ever widens kinds (integer → number → string, boolean → string), so that no catalogue
loses a value when it comes in a second time with other types. A kind becomes narrower where that is
asked for, and only if every stored value allows it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32

from fashionclip.errors import ModelMismatchError, StoreError
from fashionclip.product import Kind, Product, Value, VectorForm, kind_of, widen

ARROW_TYPES: Mapping[Kind, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}
WRITTEN: Mapping[Kind, str] = {
    "integer": "^-?(0|[1-9][0-9]{0,17})$",
    "number": r"^-?(0|[1-9][0-9]{0,99})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$",
    "boolean": "^(true|false)$",
}
"""Text that can become a value of a narrower kind, as PostgreSQL, Rust and RE2 take patterns."""
MAX_EXACT = 2**53
"""Floats below hold every whole number."""
KEY_BYTES = 16
"""Length of a content key and of a row digest."""
UNIT_TOLERANCE = 1e-2  # the unit vectors of a half-precision engine are off by up to 1e-3


def kinds_of(products: Iterable[Product]) -> dict[str, Kind]:
    """The kinds that some products need; a column without a single value is left out."""
    kinds: dict[str, Kind] = {}
    for product in products:
        for name, value in product.columns.items():
            kind = widen(kinds.get(name), kind_of(value))
            if kind is not None:
                kinds[name] = kind
    return kinds


def widened_by(kinds: Mapping[str, Kind], wanted: Mapping[str, Kind]) -> dict[str, Kind]:
    """The wanted columns that are new or too narrow, with the kind they need."""
    wider = {name: widen(kinds.get(name), kind) for name, kind in wanted.items()}
    return {name: kind for name, kind in wider.items() if kind and kind != kinds.get(name)}


def narrowed_by(kinds: Mapping[str, Kind], wanted: Mapping[str, Kind]) -> dict[str, Kind]:
    """The wanted columns that are stored with a wider kind, with the narrower one."""
    return {
        name: kind
        for name, kind in wanted.items()
        if kind != kinds.get(name, kind) and widen(kinds[name], kind) == kinds[name]
    }


def narrowed(values: pa.ChunkedArray, kind: Kind) -> pa.ChunkedArray | None:
    """The values of a column as a narrower kind; None if one of them does not allow it."""
    if pa.types.is_string(values.type):
        allows = pc.match_substring_regex(values, WRITTEN[kind])
    else:
        is_whole = pc.equal(values, pc.trunc(values))
        allows = pc.and_(is_whole, pc.less(pc.abs(values), MAX_EXACT))
    return values.cast(ARROW_TYPES[kind]) if pc.all(allows).as_py() in {True, None} else None


def fit(value: Value, kind: Kind) -> Value:
    """A value as a column of this kind stores it; NaN and infinities become None, as in JSON."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "number":
        return float(value) + 0.0  # -0.0 becomes 0.0: DataFusion tells them apart
    if kind == "string":
        if isinstance(value, bool):
            return str(value).lower()
        return clean_text(str(value))
    return value


def as_kind(value: Value, kind: Kind) -> Value:
    """A value that a column had when it was of another kind, as it has it now.

    Raises:
        ValueError: it has no such value.
    """
    held = kind_of(value)
    if kind == "string" or held in {None, kind} or {held, kind} == {"integer", "number"}:
        return fit(value, kind)
    with suppress(ValueError):
        if kind == "integer":
            return int(str(value))
        if kind == "number":
            return float(str(value))
        if value in {"true", "false"}:
            return value == "true"
    message = f"{value!r:.60} is no value of a column of this kind ({kind})"
    raise ValueError(message)


def clean_text(text: str) -> str:
    """Text without what a store cannot hold: lone surrogates (UTF-8) and NUL (PostgreSQL)."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def image_location(product: Product) -> str | None:
    """The location of a product's image, as a store keeps it; None where it is given as bytes."""
    return clean_text(product.image) if isinstance(product.image, str) else None


def column_values(products: Sequence[Product], name: str, kind: Kind) -> list[Value]:
    """The values of one column, as it stores them."""
    return [fit(product.columns.get(name), kind) for product in products]


def columns_table(products: Sequence[Product], kinds: Mapping[str, Kind]) -> pa.Table:
    """The catalogue columns of some products, by their own names."""
    arrays = [
        pa.array(column_values(products, name, kind), type=ARROW_TYPES[kind])
        for name, kind in kinds.items()
    ]
    return table_of(arrays, kinds, len(products))


def table_of(arrays: Sequence[pa.Array], kinds: Mapping[str, Kind], n_rows: int) -> pa.Table:
    """A table of catalogue columns; one without columns still has its number of rows."""
    fields = [pa.field(name, ARROW_TYPES[kind]) for name, kind in kinds.items()]
    if not fields:
        return pa.table({"": pa.nulls(n_rows)}).select([])
    return pa.Table.from_arrays(list(arrays), schema=pa.schema(fields))


def take_rows(table: pa.Table, rows: pa.Array) -> pa.Table:
    """Some rows of a table; one without columns still has their number."""
    return table.take(rows) if table.num_columns else table_of([], {}, len(rows))


def stack_tables(tables: Sequence[pa.Table], kinds: Mapping[str, Kind]) -> pa.Table:
    """Tables of the same columns, one after the other, in one piece."""
    if not kinds:
        return table_of([], {}, sum(table.num_rows for table in tables))
    return pa.concat_tables([columns_table([], kinds), *tables]).combine_chunks()


def widened(table: pa.Table, kinds: Mapping[str, Kind]) -> pa.Table:
    """A table with the columns of some kinds: cast where they are wider, null where new."""
    names = table.column_names
    if names == list(kinds) and all(
        table.schema.field(name).type == ARROW_TYPES[kind] for name, kind in kinds.items()
    ):
        return table
    arrays = []
    for name, kind in kinds.items():
        kind_type = ARROW_TYPES[kind]
        if name not in names:
            arrays.append(pa.nulls(len(table), kind_type))
            continue
        column = table.column(name).combine_chunks()
        if column.type != kind_type:
            values: list[Value] = column.to_pylist()
            column = pa.array([fit(value, kind) for value in values], kind_type)
        arrays.append(column)
    return table_of(arrays, kinds, len(table))


def last_of_each_id(products: Sequence[Product]) -> dict[str, int]:
    """Product ids in the form in which they are stored, each with the last place that has it."""
    return {clean_text(product.product_id): i for i, product in enumerate(products)}


def check_batch(
    products: Sequence[Product],
    vectors: Float32[np.ndarray, "n dim"],
    content_keys: Sequence[bytes],
    *,
    dim: int,
    model: str,
    uri: str,
) -> None:
    """Refuse a batch that a store cannot keep.

    Raises:
        ValueError: lengths differ, a vector is not finite or not of unit length, or a key has not
            16 bytes.
        ModelMismatchError: the vectors have not the store's dimension.
    """
    if not len(products) == len(vectors) == len(content_keys):
        message = f"{len(products)} products, {len(vectors)} vectors, {len(content_keys)} keys"
        raise ValueError(message)
    if any(len(key) != KEY_BYTES for key in content_keys):
        message = f"a content key must have {KEY_BYTES} bytes"
        raise ValueError(message)
    if not products:
        return
    check_dim(vectors, dim=dim, model=model, uri=uri)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    is_unit = np.abs(lengths - 1) <= UNIT_TOLERANCE
    if not is_unit.all():
        worst = int(np.argmin(is_unit))
        message = (
            f"vector {worst} has length {lengths[worst]:.3g}; a store takes finite unit vectors"
        )
        raise ValueError(message)


def check_dim(vectors: Float32[np.ndarray, "n dim"], *, dim: int, model: str, uri: str) -> None:
    """Refuse vectors of another model's dimension.

    Raises:
        ModelMismatchError: theirs is not ``dim``.
    """
    if vectors.shape[1] != dim:
        message = (
            f"the index {uri} holds vectors of {dim} numbers, made by {model!r}; these have "
            f"{vectors.shape[1]}: use that model"
        )
        raise ModelMismatchError(message)


def check_columns(names: Iterable[str], columns: Iterable[str], uri: str) -> None:
    """Refuse names that are no columns of a store.

    Raises:
        StoreError: there is no such column; names the one that is spelled most like it.
    """
    known = list(columns)
    for name in names:
        if name not in known:
            folded = {one.lower(): one for one in known}
            near = get_close_matches(name.lower(), folded, n=1)
            hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
            message = f"the index {uri} has no column {name!r}{hint}"
            raise StoreError(message)


def check_k(k: int) -> None:
    """Refuse a search for nothing.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        message = f"k is {k}: ask for at least 1 hit"
        raise ValueError(message)


def unit_queries(vectors: Float32[np.ndarray, "query dim"]) -> Float32[np.ndarray, "query dim"]:
    """Query vectors, scaled to unit length.

    Raises:
        ValueError: one is zero or not finite.
    """
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        message = "a query vector is zero or not finite"
        raise ValueError(message)
    return np.asarray(wide / lengths, dtype=np.float32)


def kept_type(form: VectorForm) -> type[np.float32 | np.float16]:
    """The type of the numbers that a store of a form keeps."""
    return np.float32 if form == "float" else np.float16


def as_kept(
    vectors: Float32[np.ndarray, "n dim"], form: VectorForm
) -> Float32[np.ndarray, "n dim"]:
    """Vectors as a store of a form gives them back.

    Rounding to half moves a cosine by about 1e-5, and does not change what was kept before.
    """
    return np.ascontiguousarray(vectors.astype(kept_type(form), copy=False), dtype=np.float32)


def most_frequent(values: pa.ChunkedArray, k: int) -> list[Value]:
    """Up to k values of a column, each once, the most frequent first, equal ones in their order."""
    counted = pa.Table.from_struct_array(pc.value_counts(values.drop_null()))
    ordered = counted.sort_by([("counts", "descending"), ("values", "ascending")])
    found: list[Value] = ordered.column("values")[:k].to_pylist()
    return found


def count_distinct(values: pa.ChunkedArray) -> int:
    """How many values a column has, those that are missing one by one."""
    n_different: int = pc.count_distinct(values, mode="only_valid").as_py()
    return n_different + int(values.null_count)
