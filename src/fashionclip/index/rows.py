"""Products as rows of the store: schema, record batches, checksums.

The store's own columns start with an underscore; ``columns.stored_name`` sees to it that no
catalogue column does. ``_crc`` guards id and vector, ``_row`` everything else.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32

from fashionclip.errors import StoreCorruptError
from fashionclip.index.columns import (
    ARROW_TYPES,
    clean_text,
    fit,
    row_digest,
    shown_name,
    stored_name,
)
from fashionclip.index.known import KEY_BYTES
from fashionclip.product import Kind, Product

ID, CAPTION, IMAGE, VECTOR, KEY, ROW, CRC = (
    "_id",
    "_caption",
    "_image",
    "_vector",
    "_key",
    "_row",
    "_crc",
)
UNIT_TOLERANCE = 1e-2  # a half-precision engine's unit vectors are off by up to 1e-3


def schema(dim: int, columns: Mapping[str, Kind]) -> pa.Schema:
    """The table of an index for vectors of a length and a catalogue's columns."""
    own = [
        pa.field(ID, pa.string(), nullable=False),
        pa.field(CAPTION, pa.string()),
        pa.field(IMAGE, pa.string()),
        pa.field(VECTOR, pa.list_(pa.float32(), dim)),
        pa.field(KEY, pa.binary(KEY_BYTES)),
        pa.field(ROW, pa.binary(KEY_BYTES)),
        pa.field(CRC, pa.int64()),
    ]
    theirs = [pa.field(stored_name(name), ARROW_TYPES[kind]) for name, kind in columns.items()]
    return pa.schema(own + theirs)


def kinds(table_schema: pa.Schema) -> dict[str, Kind]:
    """The catalogue's columns in a table."""
    known = {arrow: kind for kind, arrow in ARROW_TYPES.items()}
    return {
        shown_name(field.name): known[field.type]
        for field in table_schema
        if not field.name.startswith("_")
    }


def check_schema(table_schema: pa.Schema, dim: int, folder: Path) -> None:
    """Refuse a table that is not the one its manifest speaks of.

    Raises:
        StoreCorruptError: a column is missing or vectors have another length.
    """
    expected = {field.name: field.type for field in schema(dim, {})}
    present = {field.name: field.type for field in table_schema}
    if all(present.get(name) == kind for name, kind in expected.items()):
        return
    message = (
        f"the table in {folder} is not the one that its index.json describes: restore both "
        "from one copy, or delete the folder and index the catalogue again"
    )
    raise StoreCorruptError(message)


def check_vectors(vectors: Float32[np.ndarray, "n dim"]) -> None:
    """Refuse vectors that no search could find again.

    Raises:
        ValueError: one is not finite or not of unit length.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < UNIT_TOLERANCE))
    if len(wrong):
        row = int(wrong[0])
        message = f"vector {row} has length {lengths[row]:.4g}: only unit vectors can be stored"
        raise ValueError(message)


def unit(vector: Float[np.ndarray, " dim"]) -> Float32[np.ndarray, " dim"]:
    """A query vector at unit length.

    Raises:
        ValueError: it is zero or not finite.
    """
    wide = vector.astype(np.float64)
    length = float(np.linalg.norm(wide))
    if not np.isfinite(length) or length == 0:
        message = "the query vector is zero or not finite"
        raise ValueError(message)
    return (wide / length).astype(np.float32)


def checksum(product_id: str, vector: Float32[np.ndarray, " dim"]) -> int:
    """CRC-32 over an id and its vector's bytes: a flipped bit in either never goes unnoticed."""
    return zlib.crc32(vector.astype("<f4").tobytes(), zlib.crc32(product_id.encode()))


def batch(
    products: Sequence[Product],
    vectors: Float32[np.ndarray, "n dim"],
    keys: Sequence[bytes],
    table_schema: pa.Schema,
) -> pa.Table:
    """Products as rows, the last of those that share an id.

    Raises:
        ValueError: a key is not 16 bytes long.
    """
    if any(len(key) != KEY_BYTES for key in keys):
        message = f"a content key must have {KEY_BYTES} bytes"
        raise ValueError(message)
    columns = kinds(table_schema)
    last = {clean_text(product.product_id): i for i, product in enumerate(products)}
    places = list(last.values())
    kept = [products[i] for i in places]
    chosen = np.ascontiguousarray(vectors[places], dtype=np.float32)
    values: dict[str, list[object]] = {
        ID: list(last),
        CAPTION: [clean_text(product.caption) for product in kept],
        IMAGE: [_location(product) for product in kept],
        KEY: [keys[i] for i in places],
        ROW: [row_digest(product, columns) for product in kept],
        CRC: [checksum(name, vector) for name, vector in zip(last, chosen, strict=True)],
    }
    for name, kind in columns.items():
        values[stored_name(name)] = [fit(product.columns.get(name), kind) for product in kept]
    arrays = {
        field.name: pa.array(values[field.name], type=field.type)
        for field in table_schema
        if field.name != VECTOR
    }
    arrays[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(chosen.ravel()), chosen.shape[1])
    return pa.table({name: arrays[name] for name in table_schema.names}, schema=table_schema)


def _location(product: Product) -> str | None:
    return clean_text(product.image) if isinstance(product.image, str) else None


def vectors(records: pa.RecordBatch) -> Float32[np.ndarray, "n dim"]:
    """The vectors of some rows; zeros where a row holds none."""
    column = records.column(VECTOR)
    width = column.type.list_size
    found = np.zeros((len(column), width), dtype=np.float32)
    is_there = column.is_valid().to_numpy(zero_copy_only=False)
    found[is_there] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return found


def damaged(records: pa.RecordBatch, columns: Mapping[str, Kind]) -> list[str]:
    """The ids of those rows that are not what was written."""
    bad = []
    for fields, vector in zip(
        records.drop_columns([VECTOR]).to_pylist(), vectors(records), strict=True
    ):
        product = Product(
            product_id=fields[ID],
            caption=fields[CAPTION] or "",
            image=fields[IMAGE],
            row=0,
            columns={name: fields[stored_name(name)] for name in columns},
        )
        is_whole = checksum(product.product_id, vector) == fields[CRC] and fields[ROW] in {
            None,  # a column was widened after the row was written
            row_digest(product, columns),
        }
        if not is_whole:
            bad.append(product.product_id)
    return bad


def ids_filter(product_ids: Sequence[str]) -> str:
    """SQL that holds for these products."""
    return f"{ID} IN ({', '.join(_literal(name) for name in product_ids)})"


def prefix_filter(start: str) -> str:
    """SQL that holds for ids that start so."""
    return f"starts_with({ID}, {_literal(start)})"


def _literal(text: str) -> str:
    return "'" + clean_text(text).replace("'", "''") + "'"
