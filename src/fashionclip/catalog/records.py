"""Records of separated values out of lines, with a way back after a row that breaks the rules.

Python's own parser does the reading. A quote that is opened and never closed would swallow the
rows below it, so the lines of a record that went wrong are looked at again, and reading goes on
with the first of them that is a whole row by itself.
"""

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fashionclip.catalog.lines import BadLine
from fashionclip.catalog.rows import MAX_ROW_CHARS

MAX_ROW_LINES = 5_000
"""A quoted field that runs over more lines is taken to be a quote that was left open."""
WIDE = 4
"""Fields from which a line with the right number of them is hardly a line of prose."""

_UNCLOSED = "a quotation mark is opened and never closed; close it or double it"
_OVERSIZED = f"longer than {MAX_ROW_CHARS:,} characters or {MAX_ROW_LINES:,} lines; shorten it"
_PROBE = "\x01"  # a line that cannot be in a table: NUL and its like are bad lines before


class _Oversized(Exception):
    """A record has more lines or characters than any row should."""


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """A record that is no row of its table."""

    reason: str
    fields: Sequence[str]
    """What could be made out, mostly to name the product."""


class RecordReader:
    """Reads records one by one."""

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        """Start at the first of some lines.

        Args:
            lines: with their ends; lines that cannot be used are ``BadLine``.
            delimiter: one character.
        """
        self._lines = lines
        self._delimiter = delimiter
        self._again: deque[str] = deque()  # given back, to be read before the others
        self._taken: list[str] = []  # lines of the record in hand
        self._n_chars = 0
        self._parser = csv.reader(_Feed(self._next_line), delimiter=delimiter, strict=True)

    def read(
        self, width: int | None, *, joins_last: bool = False
    ) -> list[str] | BrokenRecord | None:
        """Read the next record that is not blank; None at the end.

        Args:
            width: fields that it must have; None for as many as it has.
            joins_last: let a record of one line have more fields.
        """
        while True:
            self._taken, self._n_chars = [], 0
            try:
                fields = next(self._parser)
            except StopIteration:
                return None
            except csv.Error:
                return self._mended(width)
            except _Oversized:
                return self._skipped(width)
            if len(fields) == width and len(self._taken) == 1 and type(self._taken[0]) is str:
                return fields
            if len(fields) > 1 or (fields and fields[0].strip()):
                return self._checked(fields, width, joins_last=joins_last)
            if isinstance(self._taken[0], BadLine):
                return BrokenRecord(self._taken[0].reason, fields)

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
    ) -> list[str] | BrokenRecord:
        """A record that the parser was content with, if its number of fields is right."""
        bad = self._bad_line()
        if bad is not None:
            return BrokenRecord(bad.reason, fields)
        if width is None or len(fields) == width:
            return fields
        if len(self._taken) > 1:
            start = self._whole_line(width) if width >= WIDE else 0
            if start:
                return self._give_back(start)
        elif joins_last and len(fields) > width:
            return fields
        if not any(field.strip() for field in fields[width:]) and len(fields) > width:
            return fields[:width]
        counted = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        mend = "quote the fields that hold the delimiter" if len(fields) > width else "fill it up"
        return BrokenRecord(f"has {counted} where the header has {width}; {mend}", fields)

    def _mended(self, width: int | None) -> list[str] | BrokenRecord:
        """The best of a record that breaks the rules of quoting."""
        bad = self._bad_line()
        fields, is_open = self._parse_leniently(self._taken)
        if len(self._taken) > 1 and width is not None:
            start = self._restart(width, is_open=is_open)
            if start:
                return self._give_back(start)
        if bad is None and not is_open and len(fields) == (width or len(fields)):
            return fields
        if bad is not None:
            return BrokenRecord(bad.reason, fields)
        return BrokenRecord(_UNCLOSED + self._spread(len(self._taken)), fields)

    def _skipped(self, width: int | None) -> BrokenRecord:
        """Leave a record that is too long: to its closing quote, or to the next whole row."""
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
        return BrokenRecord(bad.reason if bad else _OVERSIZED, fields)

    def _restart(self, width: int, *, is_open: bool) -> int:
        """The line of the record in hand with which reading should go on; 0 if there is none."""
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
        except csv.Error:  # it has the same fault: quotes that are opened only
            return line.count('"') % 2 == 1 and line.count(self._delimiter) == width - 1
        return len(fields) == width

    def _give_back(self, start: int) -> BrokenRecord:
        """Take the lines before ``start`` for one broken row, and read the others again."""
        fields, _ = self._parse_leniently(self._taken[:1])
        self._again.extendleft(reversed(self._taken[start:]))
        bad = next((line for line in self._taken[:start] if isinstance(line, BadLine)), None)
        return BrokenRecord(bad.reason if bad else _UNCLOSED + self._spread(start), fields)

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

    @staticmethod
    def _spread(n_lines: int) -> str:
        return f" (the row runs over {n_lines:,} lines)" if n_lines > 1 else ""


class _Feed:
    """What the parser reads lines from; unlike a generator it can be asked again after its end."""

    def __init__(self, next_line: Callable[[], str]) -> None:
        self._next_line = next_line

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        return self._next_line()


def _count_quotes(line: str) -> int:
    return line.n_quotes if isinstance(line, BadLine) else line.count('"')
