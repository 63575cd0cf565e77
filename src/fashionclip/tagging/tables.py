"""Tags as a table: CSV, JSON Lines or Parquet, with the rejects beside it.

The table is written beside its place and moved there at the end, so that a run that fails or
is killed leaves what was there before.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from fashionclip.atomic import whole_file
from fashionclip.product import Reject
from fashionclip.rejects import RejectsFile, rejects_beside
from fashionclip.tagging.labels import SEVERAL_SIGN, LabelSet
from fashionclip.tagging.products import TaggedProduct

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
"""Formats of a table of tags."""
ROWS_A_GROUP = 4096  # of a Parquet file; bounds memory
DIGITS = 6  # of a probability; more would only be noise

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TagReport:
    """What :func:`write_tags` wrote."""

    tagged: int
    """Rows of the table."""
    rejected: int
    """Lines of the rejects file."""
    path: Path
    """The table."""
    rejects_path: Path
    """The rejects (JSON Lines); the file is only there if there are any."""


def write_tags(
    items: Iterable[TaggedProduct | Reject],
    path: str | Path,
    *,
    label_sets: Sequence[LabelSet],
) -> TagReport:
    """Write a stream of tags as a table, and its rejects as ``NAME.rejects.jsonl`` beside it.

    Columns are ``id`` and, for each set, ``NAME``, ``NAME_probability`` and ``NAME_margin``; see
    ``TaggedProduct.as_row``. Lists are lists in JSON and Parquet, and joined with ``|`` in CSV.

    Args:
        items: from ``tag_catalog`` or ``tag_index``.
        path: the table; its suffix (``.csv``, ``.jsonl`` or ``.parquet``) says the format.
        label_sets: those that the tags are of.

    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written.
        FashionCLIPError: what the stream raises; nothing is left behind then.
    """
    path = Path(path)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        message = f"'{path}' should end in {', '.join(TABLE_SUFFIXES)}: that says the format"
        raise ValueError(message)
    tagged = 0
    with (
        whole_file(path) as part,
        RejectsFile(rejects_beside(path), keep_empty=False) as rejects,
        _open_table(part, path.suffix.lower(), label_sets) as table,
    ):
        for item in items:
            if isinstance(item, Reject):
                rejects.add(item)
            else:
                table.write(item.as_row())
                tagged += 1
    return TagReport(tagged, rejects.count, path, rejects.path)


class _Table(Protocol):
    def write(self, row: Row) -> None:
        """Add a row."""


@contextmanager
def _open_table(path: Path, suffix: str, label_sets: Sequence[LabelSet]) -> Iterator[_Table]:
    if suffix == ".parquet":
        parquet = _ParquetTable(path, label_sets)
        try:
            yield parquet
            parquet.flush()
        finally:
            parquet.writer.close()
        return
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        yield _CsvTable(file, label_sets) if suffix == ".csv" else _JsonTable(file)


class _JsonTable:
    """JSON Lines."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def write(self, row: Row) -> None:
        fields = {name: _rounded(value) for name, value in row.items()}
        self.file.write(json.dumps(fields, ensure_ascii=False) + "\n")


class _CsvTable:
    """CSV with a header."""

    def __init__(self, file: IO[str], label_sets: Sequence[LabelSet]) -> None:
        self.rows = csv.writer(file)
        self.rows.writerow(_column_names(label_sets))

    def write(self, row: Row) -> None:
        self.rows.writerow([_cell(_rounded(value)) for value in row.values()])


class _ParquetTable:
    """Parquet, a row group at a time."""

    def __init__(self, path: Path, label_sets: Sequence[LabelSet]) -> None:
        import pyarrow as pa  # not needed for text
        import pyarrow.parquet as pq

        fields = [("id", pa.string())]
        for labels in label_sets:
            text, number = pa.string(), pa.float64()
            if labels.mode == "several":
                text, number = pa.list_(text), pa.list_(number)
            names = _set_columns(labels.name)
            fields += zip(names, (text, number, pa.float64()), strict=True)
        self.schema = pa.schema(fields)
        self.table_of = pa.Table.from_pylist
        self.writer = pq.ParquetWriter(path, self.schema)
        self.waiting: list[Row] = []

    def write(self, row: Row) -> None:
        self.waiting.append(row)
        if len(self.waiting) >= ROWS_A_GROUP:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.writer.write_table(self.table_of(self.waiting, schema=self.schema))
            self.waiting.clear()


def _set_columns(name: str) -> tuple[str, str, str]:
    return name, f"{name}_probability", f"{name}_margin"


def _column_names(label_sets: Sequence[LabelSet]) -> list[str]:
    return ["id", *(name for labels in label_sets for name in _set_columns(labels.name))]


def _rounded(value: object) -> object:
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def _cell(value: object) -> object:
    return SEVERAL_SIGN.join(map(str, value)) if isinstance(value, list) else value
