"""Table files to raw rows: CSV, TSV, JSON Lines and Parquet, streamed, one row at a time.

A row that cannot be read becomes a ``Reject`` with its number and does not disturb its
neighbours. Tables may be compressed (``.gz``, ``.bz2``, ``.xz``) and lie anywhere fsspec
reaches.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol, runtime_checkable

from fashionclip.catalog.columns import Kind
from fashionclip.errors import CatalogError
from fashionclip.product import Reject

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz")
MAX_RECORD_LINES = 1000
"""A quoted field may run over this many lines; beyond it, its quote was never closed."""
MAX_FIELD_CHARS = 100_000
"""Longer values are rejected with their row; the csv module's own limit is 131,072."""
PARQUET_ROWS = 64  # rows decoded at once; they may hold pictures
DELIMITERS = ",;\t|"
_LAST_MAY_OVERFLOW = "productDisplayName"  # Kaggle's styles.csv has unquoted commas in it


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file holds it."""

    row: int
    values: dict[str, Any]


@runtime_checkable
class Table(Protocol):
    """A table file that can be read from the start any number of times."""

    def names(self) -> Sequence[str]:
        """The columns, in the file's order."""

    def schema(self) -> tuple[Mapping[str, Kind], int] | None:
        """What the columns hold and the number of rows, if the format says so; else None."""

    def rows(self) -> Iterator[RawRow | Reject]:
        """Every row, counted from 1."""


def open_table(location: str) -> Table:
    """Choose the reader for a table by its name.

    Raises:
        CatalogError: the format is not known here, or the file is not there.
    """
    suffixes = PurePosixPath(location.partition("?")[0].lower()).suffixes
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    kind = FORMATS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        message = (
            f"{location} is in no table format known here ({', '.join(FORMATS)}, also compressed); "
            "export it as CSV"
        )
        raise CatalogError(message)
    with open_file(location):
        pass
    if kind == "parquet":
        return ParquetTable((location,))
    return JSONLinesTable(location) if kind == "jsonl" else CSVTable(location)


@contextmanager
def open_file(location: str) -> Iterator[BinaryIO]:
    """Open a local or remote file for reading, decompressed.

    Raises:
        CatalogError: it is not there, cannot be read, or is damaged.
    """
    import fsspec  # some file systems cost seconds to import

    try:
        with fsspec.open(location, "rb", compression="infer") as file:
            yield file
    except FileNotFoundError as exc:
        message = f"there is no table {location}; check the path"
        raise CatalogError(message) from exc
    except ImportError as exc:
        message = f"{location} needs a package that is not installed: {exc}"
        raise CatalogError(message) from exc
    except (OSError, EOFError, ValueError) as exc:
        detail = " ".join(str(exc).split())[:200]
        message = f"{location} cannot be read ({detail}); check the file and its permissions"
        raise CatalogError(message) from exc


class CSVTable:
    """Text with one row a line, cells between commas, semicolons, tabs or bars."""

    def __init__(self, location: str) -> None:
        """Find out the encoding (one pass over the bytes) and the delimiter.

        Raises:
            CatalogError: it cannot be read, or its first line names no columns.
        """
        self._location = location
        self.encoding = _encoding_of(location)
        first = next(self._lines(), "")
        counts = {sign: _outside_quotes(first, sign) for sign in DELIMITERS}
        self._delimiter = max(DELIMITERS, key=lambda sign: counts[sign])
        header = next(csv.reader([first], delimiter=self._delimiter), [])
        self._names = _distinct([name.strip() for name in header])
        if not any(header):
            message = f"{location} is empty; its first line must name the columns"
            raise CatalogError(message)

    def names(self) -> Sequence[str]:
        """The columns, in the file's order."""
        return self._names

    def schema(self) -> None:
        """Text says neither."""

    def rows(self) -> Iterator[RawRow | Reject]:
        """Every row, counted from 1; empty lines are no rows."""
        lines = _Lines(self._lines())
        next(lines)  # the header
        row = 0
        while not lines.is_exhausted():
            lines.begin_record()
            try:
                cells = next(csv.reader(lines, delimiter=self._delimiter), [])
            except (_EndlessFieldError, csv.Error) as exc:
                row += 1
                lines.keep_first_only()
                yield Reject(row, None, None, _why_unreadable(exc))
                continue
            if not cells:
                continue
            row += 1
            item = self._row_of(row, cells)
            if isinstance(item, Reject) and lines.record_lines > 1:
                # a stray quote has swallowed its neighbours: give them back
                lines.keep_first_only()
                item = Reject(row, None, None, _why_unreadable(_EndlessFieldError()))
            yield item

    def _row_of(self, row: int, cells: list[str]) -> RawRow | Reject:
        n_columns = len(self._names)
        if len(cells) > n_columns and self._names[-1] == _LAST_MAY_OVERFLOW:
            cells = [*cells[: n_columns - 1], self._delimiter.join(cells[n_columns - 1 :])]
        if len(cells) != n_columns:
            reason = (
                f"the row has {len(cells)} cells, the header {n_columns}; "
                "quote cells that contain the delimiter"
            )
            return Reject(row, None, None, reason)
        return checked(RawRow(row, dict(zip(self._names, cells, strict=True))))

    def _lines(self) -> Iterator[str]:
        with open_file(self._location) as file:
            text = io.TextIOWrapper(file, self.encoding, errors="replace", newline="")
            yield from text


class JSONLinesTable:
    """One JSON object a line."""

    def __init__(self, location: str) -> None:
        """Find the columns: every name that any row uses, in order of appearance.

        Raises:
            CatalogError: it cannot be read, or no line is a JSON object.
        """
        self._location = location
        names: dict[str, None] = {}
        for item in self.rows():
            if isinstance(item, RawRow):
                names.update(dict.fromkeys(item.values))
        if not names:
            message = f"{location} holds no JSON object; JSON Lines has one object a line"
            raise CatalogError(message)
        self._names = list(names)

    def names(self) -> Sequence[str]:
        """The columns, in order of appearance."""
        return self._names

    def schema(self) -> None:
        """Text says neither."""

    def rows(self) -> Iterator[RawRow | Reject]:
        """Every row, counted from 1; empty lines are no rows."""
        row = 0
        with open_file(self._location) as file:
            for line in file:
                text = line.removeprefix(b"\xef\xbb\xbf").strip()
                if not text:
                    continue
                row += 1
                try:
                    values = json.loads(text)
                except (ValueError, RecursionError) as exc:
                    reason = f"the line is not JSON ({' '.join(str(exc).split())[:100]})"
                    yield Reject(row, None, None, reason)
                    continue
                if isinstance(values, dict):
                    yield checked(RawRow(row, values))
                else:
                    yield Reject(row, None, None, "the line holds no JSON object")


class ParquetTable:
    """Parquet, in one file or several of the same columns; pictures may lie in a column."""

    def __init__(self, locations: Sequence[str]) -> None:
        """Read the columns' names."""
        self._locations = locations
        with self._open(locations[0]) as file:
            self._names = list(file.schema_arrow.names)

    def names(self) -> Sequence[str]:
        """The columns, in the file's order."""
        return self._names

    def schema(self) -> tuple[Mapping[str, Kind], int]:
        """Read types and counts from the files' footers; columns of picture bytes left out."""
        n_rows = 0
        for location in self._locations:
            with self._open(location) as file:
                fields, n_rows = file.schema_arrow, n_rows + file.metadata.num_rows
        kinds = {field.name: _kind_of(str(field.type)) for field in fields}
        return {name: kind for name, kind in kinds.items() if kind is not None}, n_rows

    def rows(self) -> Iterator[RawRow | Reject]:
        """Every row, counted from 1."""
        row = 0
        for location in self._locations:
            with self._open(location) as file:
                for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                    for values in batch.to_pylist():
                        row += 1
                        yield checked(RawRow(row, values))

    @contextmanager
    def _open(self, location: str) -> Iterator[Any]:
        import pyarrow as pa  # a quarter of a second, only for Parquet
        import pyarrow.parquet as pq

        with open_file(location) as file:
            try:
                yield pq.ParquetFile(file)
            except pa.ArrowException as exc:
                detail = " ".join(str(exc).split())[:150]
                message = f"{location} is no readable Parquet file ({detail}); write it again"
                raise CatalogError(message) from exc


def _kind_of(arrow_type: str) -> Kind | None:
    """The kind of a Parquet column by its Arrow type's name; None for picture bytes."""
    if "binary" in arrow_type:
        return None
    if re.match(r"u?int\d", arrow_type):
        return "integer"
    if re.match(r"float|double|halffloat|decimal", arrow_type):
        return "number"
    return "boolean" if arrow_type == "bool" else "string"


def checked(item: RawRow) -> RawRow | Reject:
    """Reject a row with a value too long to be meant; nothing is cut silently."""
    for name, value in item.values.items():
        if isinstance(value, str) and len(value) > MAX_FIELD_CHARS:
            reason = (
                f"the column '{name}' holds {len(value):,} characters; "
                f"the limit is {MAX_FIELD_CHARS:,}, shorten it"
            )
            return Reject(item.row, None, None, reason)
    return item


class _EndlessFieldError(Exception):
    """A quote was opened and not closed within reason."""


class _Lines(Iterator[str]):
    """Lines that can be taken back: those of the record being read are remembered."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._source = lines
        self._returned: list[str] = []
        self._record: list[str] = []
        self._chars = 0

    def __next__(self) -> str:
        line = self._returned.pop() if self._returned else next(self._source, None)
        if line is None:
            if self._record:  # a record goes on only inside quotes
                raise _EndlessFieldError
            raise StopIteration
        self._record.append(line)
        self._chars += len(line)
        if len(self._record) > MAX_RECORD_LINES or (
            len(self._record) > 1 and self._chars > 10 * MAX_FIELD_CHARS
        ):
            raise _EndlessFieldError
        return line

    def begin_record(self) -> None:
        self._record, self._chars = [], 0

    @property
    def record_lines(self) -> int:
        return len(self._record)

    def keep_first_only(self) -> None:
        """Give up the record's first line and take the others back."""
        self._returned.extend(reversed(self._record[1:]))

    def is_exhausted(self) -> bool:
        if not self._returned:
            line = next(self._source, None)
            if line is None:
                return True
            self._returned.append(line)
        return False


def _why_unreadable(exc: Exception) -> str:
    if isinstance(exc, _EndlessFieldError):
        return "a quote is opened and never closed; close it or remove it"
    if "field larger" in str(exc):
        return f"a cell is longer than {MAX_FIELD_CHARS:,} characters; shorten it"
    return f"the row cannot be read ({exc})"


def _encoding_of(location: str) -> str:
    """UTF-8 or UTF-16 with their marks, UTF-8 if all of it is that, else Windows-1252."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_file(location) as file:
        chunk = file.read(1 << 20)
        if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if chunk.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(1 << 20)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def _outside_quotes(line: str, sign: str) -> int:
    return sum(part.count(sign) for part in line.split('"')[::2])


def _distinct(names: list[str]) -> list[str]:
    """Name the nameless and number the repeated, so that no column hides another."""
    taken: dict[str, int] = {}
    found = []
    for i, name in enumerate(names, start=1):
        name = name or f"column_{i}"
        taken[name] = taken.get(name, 0) + 1
        found.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return found
