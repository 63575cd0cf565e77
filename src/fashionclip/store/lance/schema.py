"""Products as rows of the Lance table: column names, record batches, checksums.

The store's own columns start with an underscore, which ``stored_name`` lets no catalogue column
do. ``_crc`` guards id and vector, ``_row`` everything else but ``_words``, which are derived.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Float64

from fashionclip.errors import StoreCorruptError
from fashionclip.product import Kind, Product, Roles, Value, VectorForm
from fashionclip.store.base import Rows
from fashionclip.store.digests import checksum, row_digest
from fashionclip.store.fulltext import product_text, text_columns, words_of
from fashionclip.store.rows import (
    ARROW_TYPES,
    KEY_BYTES,
    clean_text,
    column_values,
    image_location,
    last_of_each_id,
    table_of,
)

ID, CAPTION, IMAGE, VECTOR = "_id", "_caption", "_image", "_vector"
KEY, ROW, CRC, WORDS = "_key", "_row", "_crc", "_words"
IDS_PER_QUERY = 500
RESERVED = {"id": ID, "caption": CAPTION, "image": IMAGE}
"""Under these names a filter reaches the store's own columns, unless a catalogue column has one."""

_UNSAFE = re.compile(r"[.`\"~\x00-\x1f\ud800-\udfff]|^_|^$")
_ESCAPE = re.compile(r"~([0-9a-f]*);")
_KINDS = {arrow: kind for kind, arrow in ARROW_TYPES.items()}


def stored_name(name: str) -> str:
    """A column's name in the table: its own, with what Lance cannot take written as ~hex;."""
    return _UNSAFE.sub(lambda match: f"~{match[0].encode('utf-8', 'surrogatepass').hex()};", name)


def shown_name(name: str) -> str:
    """The catalogue's name of a stored column; undoes ``stored_name``."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1]).decode("utf-8", "surrogatepass"), name)


def table_schema(dim: int, columns: Mapping[str, Kind], form: VectorForm) -> pa.Schema:
    """The table for vectors of a length and form, and a catalogue's columns."""
    number = pa.float32() if form == "float" else pa.float16()
    own = [
        pa.field(ID, pa.string(), nullable=False),
        pa.field(CAPTION, pa.string()),
        pa.field(IMAGE, pa.string()),
        pa.field(VECTOR, pa.list_(number, dim)),
        pa.field(KEY, pa.binary(KEY_BYTES)),
        pa.field(ROW, pa.binary(KEY_BYTES)),
        pa.field(CRC, pa.int64()),
        pa.field(WORDS, pa.string()),
    ]
    theirs = [pa.field(stored_name(name), ARROW_TYPES[kind]) for name, kind in columns.items()]
    return pa.schema(own + theirs)


def kinds_in(schema: pa.Schema) -> dict[str, Kind]:
    """The catalogue's columns in a table."""
    return {
        shown_name(field.name): _KINDS[field.type]
        for field in schema
        if not field.name.startswith("_")
    }


def check_schema(schema: pa.Schema, *, dim: int, form: VectorForm, uri: str) -> None:
    """Refuse a table that is not the one its manifest describes.

    Raises:
        StoreCorruptError: a column is missing, or vectors have another length or form.
    """
    present = {field.name: field.type for field in schema}
    if all(present.get(field.name) == field.type for field in table_schema(dim, {}, form)):
        return
    message = (
        f"the table in {uri} is not the one that its index.json describes: restore both "
        "from one copy, or delete the folder and index the catalogue again"
    )
    raise StoreCorruptError(message)


def to_table(
    products: Sequence[Product],
    vectors: Float32[np.ndarray, "n dim"],
    content_keys: Sequence[bytes],
    schema: pa.Schema,
    roles: Roles,
) -> pa.Table:
    """Products as rows of a table, the last of those that share an id."""
    last = last_of_each_id(products)
    rows = list(last.values())
    chosen = [products[row] for row in rows]
    number = schema.field(VECTOR).type.value_type.to_pandas_dtype()
    kept = vectors[rows].astype(number)
    kinds = kinds_in(schema)
    sums = [
        checksum(name, vector) for name, vector in zip(last, kept.astype(np.float32), strict=True)
    ]
    values: dict[str, Sequence[object]] = {
        ID: list(last),
        CAPTION: [clean_text(product.caption) for product in chosen],
        IMAGE: [image_location(product) for product in chosen],
        KEY: [content_keys[row] for row in rows],
        ROW: [row_digest(product, kinds) for product in chosen],
        CRC: sums,
    }
    for name, kind in kinds.items():
        values[stored_name(name)] = column_values(chosen, name, kind)
    sources = word_sources(kinds, roles)
    cells = zip(*(values[name] for name in sources), strict=True)
    values[WORDS] = [words_in(dict(zip(sources, row, strict=True)), roles) for row in cells]
    arrays = {
        field.name: pa.array(values[field.name], type=field.type)
        for field in schema
        if field.name != VECTOR
    }
    arrays[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(kept.ravel()), kept.shape[1])
    return pa.table({name: arrays[name] for name in schema.names}, schema=schema)


def word_sources(kinds: Mapping[str, Kind], roles: Roles) -> list[str]:
    """The table's columns that ``words_in`` needs."""
    return [ID, CAPTION, *(stored_name(name) for name in text_columns(roles) if name in kinds)]


def words_in(row: Mapping[str, Any], roles: Roles) -> str:
    """The words that the product of a row is found by, with blanks between them."""
    columns = {name: row.get(stored_name(name)) for name in text_columns(roles)}
    product = Product(row[ID], row[CAPTION] or "", None, 0, columns)
    return " ".join(words_of(product_text(product, roles)))


def names_of(kinds: Mapping[str, Kind], *, vectors: bool, columns: bool) -> list[str]:
    """The table's columns that ``to_rows`` needs."""
    own = [ID, IMAGE, KEY]
    own += [VECTOR, CRC] if vectors else []
    own += [CAPTION] if columns else []
    return [*own, *(stored_name(name) for name in kinds if columns)]


def to_rows(batch: pa.RecordBatch, kinds: Mapping[str, Kind]) -> Rows:
    """A batch as rows of the contract with some columns, less those whose vector is damaged."""
    vectors = None
    if VECTOR in batch.schema.names:
        vectors = vectors_in(batch)
        is_whole = has_whole_vectors(batch, vectors)
        if not is_whole.all():
            batch, vectors = batch.filter(pa.array(is_whole)), vectors[is_whole]
    arrays = [batch.column(stored_name(name)) for name in kinds]
    has_captions = CAPTION in batch.schema.names
    return Rows(
        ids=batch.column(ID).to_pylist(),
        captions=batch.column(CAPTION).to_pylist() if has_captions else [""] * len(batch),
        images=batch.column(IMAGE).to_pylist(),
        content_keys=batch.column(KEY).to_pylist(),
        vectors=vectors,
        columns=table_of(arrays, kinds, len(batch)),
    )


def vectors_in(batch: pa.RecordBatch) -> Float32[np.ndarray, "n dim"]:
    """The vectors of some rows; zeros where a row holds none."""
    column = batch.column(VECTOR)
    dim = column.type.list_size
    found = np.zeros((len(column), dim), dtype=np.float32)
    is_there = column.is_valid().to_numpy(zero_copy_only=False)
    found[is_there] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return found


def cosines(found: pa.Table, queries: Float32[np.ndarray, "n dim"]) -> Float64[np.ndarray, " n"]:
    """The cosine of the vector in each row with a unit query of its own."""
    vectors = np.zeros(queries.shape, np.float64)
    if len(found):
        (batch,) = found.select([VECTOR]).combine_chunks().to_batches()
        vectors[:] = vectors_in(batch)
    # rounded, so that equal vectors have equal scores
    rounded = np.einsum("nd,nd->n", vectors, queries).astype(np.float32)
    return np.asarray(rounded, np.float64)


def has_whole_vectors(batch: pa.RecordBatch, vectors: np.ndarray) -> Bool[np.ndarray, " n"]:
    """True for the rows whose id and vector match their checksum."""
    ids, sums = (batch.column(name).to_pylist() for name in (ID, CRC))
    matches = (
        checksum(name, vector) == stored
        for name, vector, stored in zip(ids, vectors, sums, strict=True)
    )
    return np.fromiter(matches, dtype=bool, count=len(ids))


def damaged_ids(batch: pa.RecordBatch, kinds: Mapping[str, Kind]) -> list[str]:
    """The ids of the rows that are not what was written."""
    is_whole = has_whole_vectors(batch, vectors_in(batch))
    damaged = []
    for fields, has_vector in zip(batch.drop_columns([VECTOR]).to_pylist(), is_whole, strict=True):
        columns = {name: fields[stored_name(name)] for name in kinds}
        product = Product(fields[ID], fields[CAPTION] or "", fields[IMAGE], 0, columns)
        expected = {None, row_digest(product, kinds)}  # None: a column was widened since
        if not (has_vector and fields[ROW] in expected):
            damaged.append(product.product_id)
    return damaged


def batched(items: Iterable[str]) -> Iterator[list[str]]:
    """Lists of as many ids as fit into one filter."""
    rest = iter(items)
    while batch := list(islice(rest, IDS_PER_QUERY)):
        yield batch


def ids_filter(product_ids: Sequence[str]) -> str:
    """SQL that holds for these products."""
    return f"{ID} IN ({', '.join(literal(name) for name in product_ids)})"


def prefix_filter(start: str) -> str:
    """SQL that holds for ids that start so."""
    return f"starts_with({ID}, {literal(start)})"


def literal(value: Value) -> str:
    """A value as SQL."""
    if isinstance(value, str):
        return "'" + clean_text(value).replace("'", "''") + "'"
    return "NULL" if value is None else str(value)
