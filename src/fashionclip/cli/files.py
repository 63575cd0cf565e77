"""Files that commands write: tables by their suffix, vectors, whole or not at all.

A file is written beside its place and moved there at the end, so that a run that fails or is
killed leaves what was there before.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import click

from fashionclip.cli.terminal import plain

Kind = Literal["text", "number", "texts"]
"""What a column of a written table holds; ``texts`` is a list."""
Row = Mapping[str, object]
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
ROWS_A_GROUP = 1024  # rows of a Parquet row group: bounds memory


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to that becomes ``path`` only if all goes well.

    Raises:
        OSError: the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def suffix_checked(suffixes: Sequence[str]) -> "click.ParamType[Path]":
    """A parameter type: a file in a folder that exists, with one of some suffixes."""
    return _FileWithSuffix(suffixes)


class _FileWithSuffix(click.ParamType):  # type: ignore[type-arg]
    name = "file"

    def __init__(self, suffixes: Sequence[str]) -> None:
        self.suffixes = tuple(suffixes)

    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        path = Path(value)
        if path.suffix.lower() not in self.suffixes:
            self.fail(f"'{value}' should end in {' or '.join(self.suffixes)}", param, ctx)
        if not path.absolute().parent.is_dir():
            self.fail(f"there is no folder '{path.parent}' for it", param, ctx)
        return path


class TableWriter(Protocol):
    """Takes rows, a batch at a time."""

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows; each has every column."""


def open_table(
    path: Path, columns: Mapping[str, Kind], *, suffix: str
) -> AbstractContextManager[TableWriter]:
    """Open a table for writing.

    Args:
        path: where the bytes go.
        columns: name and kind of each column, in order.
        suffix: ``.csv``, ``.jsonl`` or ``.parquet``.
    """
    if suffix == ".parquet":
        return _ParquetTable(path, columns)
    return _TextTable(path, columns, is_csv=suffix == ".csv")


class _TextTable:
    """CSV (lists joined with a bar) or JSON Lines."""

    def __init__(self, path: Path, columns: Mapping[str, Kind], *, is_csv: bool) -> None:
        self.file = path.open("w", encoding="utf-8", newline="")
        self.rows = csv.writer(self.file) if is_csv else None
        self.columns = columns
        if self.rows is not None:
            self.rows.writerow(columns)

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if self.rows is not None:
                self.rows.writerow([_csv_cell(row[name]) for name in self.columns])
            else:
                self.file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()


def _csv_cell(value: object) -> object:
    if isinstance(value, list | tuple):
        return "|".join(str(_csv_cell(inner)) for inner in value)
    return round(value, 6) if isinstance(value, float) else value


class _ParquetTable:
    """Parquet, a row group at a time."""

    def __init__(self, path: Path, columns: Mapping[str, Kind]) -> None:
        import pyarrow as pa  # not needed for text tables
        import pyarrow.parquet as pq

        types = {"text": pa.string(), "number": pa.float64(), "texts": pa.list_(pa.string())}
        self.schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self.table_of = pa.Table.from_pylist
        self.writer = pq.ParquetWriter(path, self.schema)
        self.waiting: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        self.waiting.extend(rows)
        if len(self.waiting) >= ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(self.table_of(self.waiting, schema=self.schema))
            self.waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._flush()
        finally:
            self.writer.close()
