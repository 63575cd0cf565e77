"""CSV and other delimited text: the delimiter, the columns, the rows.

Python's own parser does the reading. A quote that is opened and never closed would swallow the
rows below it. So the lines of a record that breaks the rules are parsed again, and reading
resumes at the first of them that is a whole row by itself. Blank lines are not rows.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fashionclip.catalog.tables.table import (
    MAX_COLUMNS,
    MAX_ROW_CHARS,
    BrokenRow,
    Row,
    clean_text,
)
from fashionclip.catalog.tables.text import BadLine, TextFile, open_text
from fashionclip.errors import CatalogError

DELIMITERS = ",;\t|"
SAMPLE_LINES = 60
SAMPLE_CHARS = 200_000
MIN_REGULAR_SHARE = 0.9
"""Share of a sample's rows that must be as wide as the header."""
MAX_ROW_LINES = 5_000
"""A quoted field that runs over more lines is taken for a quote that was left open."""
MIN_TELLING_WIDTH = 4
"""From this many fields on, a line with the right number is taken for a row and not for prose."""

_EXCEL_HINT = re.compile(r"\ufeff?sep=(.)[\r\n]*")  # a first line that Excel writes and reads
_UNCLOSED = "a quotation mark is opened and never closed; close it or double it"
_OVERSIZED = f"longer than {MAX_ROW_CHARS:,} characters or {MAX_ROW_LINES:,} lines; shorten it"
_PROBE = "\x01"  # a line that cannot be in a table


class DelimitedTable:
    """A table of separated values with a header line."""

    kinds = None
    is_typed = False

    def __init__(self, path: Path, *, is_free_text: Callable[[str], bool]) -> None:
        """Decide encoding, delimiter and columns.

        Args:
            path: the file, perhaps compressed.
            is_free_text: whether a column of this name holds prose. If the last column does,
                surplus fields of a row are joined to it, because Kaggle's ``styles.csv`` has
                unquoted commas in its product names.

        Raises:
            CatalogError: the file cannot be read or has no header.
        """
        csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_ROW_CHARS))
        self._file: TextFile = open_text(path)
        self._delimiter, self._has_hint = _sniff(self._file)
        header = self._records().read(None)
        if header is None or isinstance(header, _BrokenRecord):
            why = "it is empty" if header is None else f"its first line: {header.reason}"
            message = f"{path}: has no header with the columns' names ({why})"
            raise CatalogError(message)
        if len(header) > MAX_COLUMNS:
            message = f"{path}: {len(header):,} columns; a catalogue has at most {MAX_COLUMNS:,}"
            raise CatalogError(message)
        self.names = _distinct(header)
        self.notes = self._file.notes
        self._joins_last = is_free_text(self.names[-1])

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top; every line is read whole.

        Raises:
            CatalogError: it cannot be read on.
        """
        width = len(self.names)
        records = self._records()
        records.read(None)  # the header
        number = 0
        while (record := records.read(width, joins_last=self._joins_last)) is not None:
            number += 1
            if isinstance(record, _BrokenRecord):
                first = record.fields[0].strip() if record.fields else ""
                yield BrokenRow(number, record.reason, first or None)
                continue
            is_mended = len(record) > width
            if is_mended:
                record = [*record[: width - 1], self._delimiter.join(record[width - 1 :])]
            yield Row(number, dict(zip(self.names, record, strict=True)), is_mended)

    def _records(self) -> "_RecordReader":
        lines = self._file.lines()
        return _RecordReader(islice(lines, 1, None) if self._has_hint else lines, self._delimiter)


def _sniff(file: TextFile) -> tuple[str, bool]:
    """The delimiter, and whether the first line is Excel's ``sep=`` hint."""
    sample: list[str] = []
    n_chars = 0
    for line in islice(file.lines(), SAMPLE_LINES):
        sample.append(line)
        n_chars += len(line)
        if n_chars > SAMPLE_CHARS:
            break
    hint = _EXCEL_HINT.fullmatch(sample[0]) if sample else None
    if hint:
        return hint[1], True
    best = max(DELIMITERS, key=lambda delimiter: _fit(sample, delimiter))
    return (best if _fit(sample, best)[1] else ","), False


def _fit(sample: list[str], delimiter: str) -> tuple[bool, float]:
    """How well a delimiter splits a sample: into rows of the header's width, of many fields."""
    rows = [row for row in csv.reader(sample, delimiter=delimiter) if row]
    if not rows or len(rows[0]) < 2:
        return False, 0.0
    share = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    return share >= MIN_REGULAR_SHARE, share * len(rows[0])


def _distinct(header: list[str]) -> tuple[str, ...]:
    """The columns' names, trimmed; nameless and repeated columns get names of their own."""
    names: dict[str, None] = {}
    for i, field in enumerate(header, start=1):
        name = first = clean_text(field.replace("\0", "").strip()) or f"column_{i}"
        n = 1
        while name in names:
            n += 1
            name = f"{first}_{n}"
        names[name] = None
    return tuple(names)


class _Oversized(Exception):
    """A record has more lines or characters than any row should."""


@dataclass(frozen=True, slots=True)
class _BrokenRecord:
    """A record that is not a row of its table."""

    reason: str
    fields: Sequence[str]
    """The fields that could be read, mostly to name the product."""


class _RecordReader:
    """Reads records one by one."""

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        """Start at the first line; lines have their ends, or are ``BadLine``."""
        self._lines = lines
        self._delimiter = delimiter
        self._again: deque[str] = deque()  # lines to be read before the others
        self._taken: list[str] = []  # lines of the current record
        self._n_chars = 0
        self._parser = csv.reader(_Feed(self._next_line), delimiter=delimiter, strict=True)

    def read(
        self, width: int | None, *, joins_last: bool = False
    ) -> list[str] | _BrokenRecord | None:
        """Read the next record that is not blank; None at the end.

        Args:
            width: fields that it must have; None for as many as it has.
            joins_last: whether a record of one line may have more fields.
        """
        while True:
            self._taken, self._n_chars = [], 0
            try:
                fields = next(self._parser)
            except StopIteration:
                return None
            except csv.Error:
                return self._recovered(width)
            except _Oversized:
                return self._skipped(width)
            if len(fields) == width and len(self._taken) == 1 and type(self._taken[0]) is str:
                return fields
            if len(fields) > 1 or (fields and fields[0].strip()):
                return self._checked(fields, width, joins_last=joins_last)
            if isinstance(self._taken[0], BadLine):
                return _BrokenRecord(self._taken[0].reason, fields)

    def _next_line(self) -> str:
        """The next line for the parser, which asks for another while a quote is open.

        Raises:
            StopIteration: there is none.
            _Oversized: the record is too long already.
        """
        if len(self._taken) >= MAX_ROW_LINES or self._n_chars > MAX_ROW_CHARS:
            raise _Oversized
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        self._n_chars += len(line)
        if isinstance(line, BadLine) and line.is_cut:
            raise _Oversized
        return line

    def _checked(
        self, fields: list[str], width: int | None, *, joins_last: bool
    ) -> list[str] | _BrokenRecord:
        """A record that the parser accepted, if its number of fields is right."""
        bad = self._bad_line()
        if bad is not None:
            return _BrokenRecord(bad.reason, fields)
        if width is None or len(fields) == width:
            return fields
        if len(self._taken) > 1:
            start = self._whole_line(width) if width >= MIN_TELLING_WIDTH else 0
            if start:
                return self._give_back(start)
        elif joins_last and len(fields) > width:
            return fields
        if not any(field.strip() for field in fields[width:]) and len(fields) > width:
            return fields[:width]
        counted = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        mend = "quote the fields that hold the delimiter" if len(fields) > width else "fill it up"
        return _BrokenRecord(f"has {counted} where the header has {width}; {mend}", fields)

    def _recovered(self, width: int | None) -> list[str] | _BrokenRecord:
        """Recover from a record that breaks the rules of quoting."""
        bad = self._bad_line()
        fields, is_open = self._parse_leniently(self._taken)
        if len(self._taken) > 1 and width is not None:
            start = self._restart(width, is_open=is_open)
            if start:
                return self._give_back(start)
        if bad is None and not is_open and len(fields) == (width or len(fields)):
            return fields
        if bad is not None:
            return _BrokenRecord(bad.reason, fields)
        return _BrokenRecord(_UNCLOSED + _extent(len(self._taken)), fields)

    def _skipped(self, width: int | None) -> _BrokenRecord:
        """Skip a record that is too long, up to its closing quote or to the next whole row."""
        start = self._whole_line(width) if width is not None else 0
        if start:
            return self._give_back(start)
        bad = self._bad_line()
        fields = self._taken[0][:1000].split(self._delimiter)
        n_quotes = sum(map(_count_quotes, self._taken))
        while n_quotes % 2:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                break
            if width is not None and self._is_whole(line, width):
                self._again.appendleft(line)
                break
            n_quotes += _count_quotes(line)
        return _BrokenRecord(bad.reason if bad else _OVERSIZED, fields)

    def _restart(self, width: int, *, is_open: bool) -> int:
        """The line of the current record at which reading should resume; 0 if there is none."""
        start = self._whole_line(width)
        if start or width == 1:
            return start or 1
        opens_again = not is_open and self._parse_leniently(self._taken[-1:])[1]
        return len(self._taken) - 1 if opens_again else 0

    def _whole_line(self, width: int) -> int:
        """The first line after the record's own that is a whole row by itself; 0 if none is."""
        lines = enumerate(self._taken[1:], start=1)
        return next((i for i, line in lines if self._is_whole(line, width)), 0)

    def _is_whole(self, line: str, width: int) -> bool:
        if width < 2 or (isinstance(line, BadLine) and line.is_cut):
            return False
        if line.count(self._delimiter) < width - 1:
            return False
        try:
            fields = next(csv.reader([line], delimiter=self._delimiter, strict=True))
        except csv.Error:  # the same fault: a quote that is only opened
            return line.count('"') % 2 == 1 and line.count(self._delimiter) == width - 1
        return len(fields) == width

    def _give_back(self, start: int) -> _BrokenRecord:
        """Make one broken row of the lines before ``start``, and read the others again."""
        fields, _ = self._parse_leniently(self._taken[:1])
        self._again.extendleft(reversed(self._taken[start:]))
        bad = next((line for line in self._taken[:start] if isinstance(line, BadLine)), None)
        return _BrokenRecord(bad.reason if bad else _UNCLOSED + _extent(start), fields)

    def _parse_leniently(self, lines: Sequence[str]) -> tuple[list[str], bool]:
        """Fields of the first record in some lines, and whether a quote is still open after it."""
        parser = csv.reader([*lines, _PROBE], delimiter=self._delimiter)
        fields = next(parser)
        is_open = next(parser, None) is None
        if is_open:
            fields = next(csv.reader(lines, delimiter=self._delimiter))
        return fields, is_open

    def _bad_line(self) -> BadLine | None:
        return next((line for line in self._taken if isinstance(line, BadLine)), None)


class _Feed:
    """An iterator of lines for the parser; unlike a generator it can continue after its end."""

    def __init__(self, next_line: Callable[[], str]) -> None:
        self._next_line = next_line

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        return self._next_line()


def _count_quotes(line: str) -> int:
    return line.n_quotes if isinstance(line, BadLine) else line.count('"')


def _extent(n_lines: int) -> str:
    return f" (the row runs over {n_lines:,} lines)" if n_lines > 1 else ""
