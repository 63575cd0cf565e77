"""Parquet: one file or the shards of one table, with images in a column or not.

Files are read in small batches. A damaged part becomes one broken row for each of its rows.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fashionclip.catalog.tables.table import MAX_COLUMNS, BrokenRow, Row
from fashionclip.catalog.tables.text import reading
from fashionclip.errors import CatalogError
from fashionclip.product import Kind

ROWS_PER_BATCH = 1_024
IMAGES_PER_BATCH = 16  # where a column holds binary data
BUFFER_BYTES = 1 << 20  # columns are read in pieces of this size


class ParquetTable:
    """A table in one or several Parquet files of the same columns."""

    is_typed = True

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the schema.

        Args:
            paths: the shards, in their order.

        Raises:
            CatalogError: a file is not Parquet, is damaged, or has other columns than the first.
        """
        self._paths = tuple(paths)
        schema = _read_schema(self._paths[0])
        for path in self._paths[1:]:
            if _read_schema(path).names != schema.names:
                message = f"{path}: has other columns than {self._paths[0].name}; name one of them"
                raise CatalogError(message)
        self.kinds = {field.name: _kind_of(field.type) for field in schema}
        self.names: tuple[str, ...] = tuple(schema.names)
        n_files = len(self._paths)
        self.notes: tuple[str, ...] = (
            (f"{n_files} Parquet files read as one",) if n_files > 1 else ()
        )

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Args:
            columns: those to read; None for all.

        Raises:
            CatalogError: it cannot be read on.
        """
        wanted = list(self.names if columns is None else columns)
        has_binary = any(self.kinds[name] is None for name in wanted)
        batch_size = IMAGES_PER_BATCH if has_binary else ROWS_PER_BATCH
        before = 0
        for path in self._paths:
            with reading(path), _open(path) as file:
                for i in range(file.num_row_groups):
                    n_rows = file.metadata.row_group(i).num_rows
                    yield from _rows_of(file, i, wanted, n_rows, before, batch_size)
                    before += n_rows


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)


def _read_schema(path: Path) -> pa.Schema:
    try:
        with reading(path), _open(path) as file:
            schema = file.schema_arrow
    except (pa.ArrowException, ValueError) as exc:
        message = f"{path}: not a Parquet file, or damaged ({_first_line(exc)})"
        raise CatalogError(message) from exc
    if len(set(schema.names)) < len(schema.names) or len(schema.names) > MAX_COLUMNS:
        message = f"{path}: columns of the same name, or more than {MAX_COLUMNS:,}; write it anew"
        raise CatalogError(message)
    return schema


def _rows_of(
    file: pq.ParquetFile,
    i_group: int,
    columns: list[str],
    n_rows: int,
    before: int,
    batch_size: int,
) -> Iterator[Row | BrokenRow]:
    """The rows of one row group; those that cannot be read are broken rows."""
    number = before
    why = "fewer rows than it says"
    try:
        for batch in file.iter_batches(
            batch_size, row_groups=[i_group], columns=columns, use_threads=False
        ):
            for row in _rows_of_batch(batch, number):
                yield row
                number += 1
    except (pa.ArrowException, OSError, ValueError) as exc:
        why = _first_line(exc)
    for rest in range(number + 1, before + n_rows + 1):
        yield BrokenRow(rest, f"in a damaged part of the Parquet file ({why}); fetch it again")


def _rows_of_batch(batch: pa.RecordBatch, before: int) -> Iterator[Row | BrokenRow]:
    try:
        rows = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):  # text that is not UTF-8, odd dates
        for i in range(batch.num_rows):
            yield _row_of_slice(batch.slice(i, 1), before + i + 1)
        return
    for number, cells in enumerate(rows, start=before + 1):
        yield Row(number, cells)


def _row_of_slice(batch: pa.RecordBatch, number: int) -> Row | BrokenRow:
    try:
        return Row(number, batch.to_pylist()[0])
    except (pa.ArrowException, ValueError, OverflowError) as exc:
        return BrokenRow(number, f"a value cannot be read ({_first_line(exc)}); mend or empty it")


def _kind_of(kind: pa.DataType) -> Kind | None:
    """The kind of a column; None for binary data, also within lists and structs."""
    if pa.types.is_dictionary(kind):
        return _kind_of(kind.value_type)
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_uint64(kind):
        return "string"  # stores keep signed 64 bits
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "number"
    return None if _holds_binary(kind) else "string"


def _holds_binary(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_binary(kind.field(i).type) for i in range(kind.num_fields))
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _first_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:160]
