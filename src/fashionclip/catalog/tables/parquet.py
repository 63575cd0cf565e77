"""Parquet and Arrow: one file or the shards of one table, with images in a column or not.

Files are read in small batches. A damaged part becomes one broken row for each of its rows.
Binary columns that hold UTF-8 are text, as some writers leave it.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fashionclip.catalog.tables.table import MAX_COLUMNS, BrokenRow, Cell, Row
from fashionclip.catalog.tables.text import reading
from fashionclip.errors import CatalogError
from fashionclip.lines import reason_of
from fashionclip.product import INT64, Kind

CellsOf = Callable[[pa.RecordBatch], list[dict[str, Cell]]]

ROWS_PER_BATCH = 1_024
IMAGES_PER_BATCH = 16  # where a column holds binary data
SAMPLE_VALUES = 256
"""Values by which it is decided whether a binary column holds text."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
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
        self.names: tuple[str, ...] = tuple(schema.names)
        self._texts = [
            field.name for field in schema if _is_binary(field.type) and self._is_text(field.name)
        ]
        """Binary columns that hold text."""
        self._labels = _labels_of(schema)
        kinds = {field.name: _kind_of(field.type) for field in schema}
        kinds |= dict.fromkeys((*self._texts, *self._labels), "string")
        kinds |= {
            field.name: "string"
            for field in schema
            if pa.types.is_uint64(field.type) and not self._fits_int64(field.name)
        }
        self.kinds: Mapping[str, Kind | None] = kinds
        notes: list[str] = []
        if (n_files := len(self._paths)) > 1:
            notes.append(f"{n_files} files read as one")
        if self._texts:
            notes.append(f"binary columns that hold UTF-8 are text: {', '.join(self._texts)}")
        if self._labels:
            notes.append(f"numbers of classes are read as their names: {', '.join(self._labels)}")
        self.notes = tuple(notes)

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
            with reading(path):
                for batches, n_rows in _parts(path, wanted, batch_size):
                    yield from _rows_of(batches, self._cells_of, n_rows, before)
                    before += n_rows

    def _cells_of(self, batch: pa.RecordBatch) -> list[dict[str, Cell]]:
        """The cells of each row of a batch; see ``_texts`` and ``_labels``."""
        rows: list[dict[str, Cell]] = _as_text(batch, self._texts).to_pylist()
        for name in self._labels:
            if name in batch.schema.names:
                for cells in rows:
                    cells[name] = _label(cells[name], self._labels[name])
        return rows

    def _is_text(self, name: str) -> bool:
        """Whether the first values of a binary column are UTF-8 without control characters."""
        values = islice(self._values(name), SAMPLE_VALUES)
        found = [value for value in values if value]
        return bool(found) and all(map(_is_utf8, found))

    def _fits_int64(self, name: str) -> bool:
        return all(value is None or value in INT64 for value in self._values(name))

    def _values(self, name: str) -> Iterator[Any]:
        """The values of one column that can be read."""
        for path in self._paths:
            with reading(path):
                for batches, _ in _parts(path, [name], SAMPLE_VALUES):
                    with suppress(pa.ArrowException, OSError):
                        for batch in batches:
                            yield from batch.column(0).to_pylist()


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)


def _open_arrow(path: Path) -> pa.RecordBatchReader | pa.ipc.RecordBatchFileReader | None:
    """An Arrow file or stream; None for Parquet."""
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"PAR1"):
        return None
    if head == b"ARROW1":
        return pa.ipc.open_file(pa.memory_map(str(path)))
    return pa.ipc.open_stream(pa.memory_map(str(path)))


def _parts(
    path: Path, columns: list[str], batch_size: int
) -> Iterator[tuple[Iterator[pa.RecordBatch], int]]:
    """The parts of a file: their batches, and the number of their rows."""
    arrow = _open_arrow(path)
    if arrow is None:
        with _open(path) as file:
            for i in range(file.num_row_groups):
                n_rows = file.metadata.row_group(i).num_rows
                yield (
                    file.iter_batches(
                        batch_size, row_groups=[i], columns=columns, use_threads=False
                    ),
                    n_rows,
                )
        return
    is_file = isinstance(arrow, pa.ipc.RecordBatchFileReader)
    n_parts = arrow.num_record_batches if is_file else None
    i = 0
    while n_parts is None or i < n_parts:
        try:
            batch = arrow.get_batch(i) if is_file else arrow.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as exc:
            yield _failing(exc), 1
            return
        chosen = batch.select(columns)
        starts = range(0, batch.num_rows, batch_size)
        yield (chosen.slice(start, batch_size) for start in starts), batch.num_rows
        i += 1


def _failing(exc: Exception) -> Iterator[pa.RecordBatch]:
    """No batches, but an error in their place."""
    raise exc
    yield


def _read_schema(path: Path) -> pa.Schema:
    try:
        with reading(path):
            arrow = _open_arrow(path)
            schema = _open(path).schema_arrow if arrow is None else arrow.schema
    except (pa.ArrowException, ValueError) as exc:
        message = f"{path}: not a Parquet file, or damaged ({_first_line(exc)}); write it anew"
        raise CatalogError(message) from exc
    if len(set(schema.names)) < len(schema.names) or len(schema.names) > MAX_COLUMNS:
        message = f"{path}: columns of the same name, or more than {MAX_COLUMNS:,}; write it anew"
        raise CatalogError(message)
    return schema


def _rows_of(
    batches: Iterator[pa.RecordBatch], cells_of: CellsOf, n_rows: int, before: int
) -> Iterator[Row | BrokenRow]:
    """The rows of one part of a file; those that cannot be read are broken rows."""
    number = before
    why = "fewer rows than it says"
    try:
        for batch in batches:
            for row in _rows_of_batch(batch, cells_of, number):
                yield row
                number += 1
    except (pa.ArrowException, OSError, ValueError) as exc:
        why = _first_line(exc)
    for rest in range(number + 1, before + n_rows + 1):
        yield BrokenRow(rest, f"in a damaged part of the Parquet file ({why}); fetch it again")


def _rows_of_batch(
    batch: pa.RecordBatch, cells_of: CellsOf, before: int
) -> Iterator[Row | BrokenRow]:
    try:
        rows = cells_of(batch)
    except (pa.ArrowException, ValueError, OverflowError):  # text that is not UTF-8, odd dates
        for i in range(batch.num_rows):
            yield _row_of_slice(batch.slice(i, 1), cells_of, before + i + 1)
        return
    for number, cells in enumerate(rows, start=before + 1):
        yield Row(number, cells)


def _labels_of(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """The names of classes that ``datasets`` writes beside a column of their numbers."""
    with suppress(KeyError, TypeError, AttributeError, ValueError, RecursionError):
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        found = {name: _class_names(features.get(name)) for name in schema.names}
        return {name: names for name, names in found.items() if names}
    return {}


def _class_names(feature: object) -> Sequence[str]:
    """Of a column of classes, or of lists of them; empty for another."""
    if isinstance(feature, list):
        feature = {"feature": feature[0]} if feature else {}
    if not isinstance(feature, Mapping):
        return ()
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return (
        tuple(map(str, names)) if isinstance(names, list) else _class_names(feature.get("feature"))
    )


def _label(cell: Cell, names: Sequence[str]) -> Cell:
    """The name of a class; None for -1, which stands for none."""
    if isinstance(cell, list):
        return [_label(one, names) for one in cell]
    if not isinstance(cell, int) or cell >= len(names):
        return cell
    return names[cell] if cell >= 0 else None


def _as_text(batch: pa.RecordBatch, texts: Collection[str]) -> pa.RecordBatch:
    """A batch whose binary columns of text are text."""
    for i, name in enumerate(batch.schema.names):
        if name in texts:
            batch = batch.set_column(i, name, batch.column(i).cast(pa.large_string()))
    return batch


def _row_of_slice(batch: pa.RecordBatch, cells_of: CellsOf, number: int) -> Row | BrokenRow:
    try:
        return Row(number, cells_of(batch)[0])
    except (pa.ArrowException, ValueError, OverflowError) as exc:
        return BrokenRow(number, f"a value cannot be read ({_first_line(exc)}); mend or empty it")


def _kind_of(kind: pa.DataType) -> Kind | None:
    """The kind of a column; None for binary data, also within lists and structs."""
    if pa.types.is_dictionary(kind):
        return _kind_of(kind.value_type)
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return None if _holds_binary(kind) else "string"


def _holds_binary(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_binary(kind.field(i).type) for i in range(kind.num_fields))
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_utf8(value: bytes) -> bool:
    try:
        return not _CONTROL.search(value.decode())
    except UnicodeDecodeError:
        return False


def _first_line(exc: BaseException) -> str:
    return reason_of(exc, width=160)
