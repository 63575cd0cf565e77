"""Records of delimited text, one by one, with what mends the broken ones.

Python's own parser does the reading. A quote that is opened and never closed would swallow the
rows below it. So the lines of a record that breaks the rules are parsed again, and reading
resumes at the first of them that is a whole row by itself. Blank lines are not records.

The parser knows no backslashes. Where a table has them, each escaped character is exchanged for a
stand-in, a lone surrogate, which no decoded text holds, and back in the fields.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fashionclip.catalog.tables.table import MAX_ROW_CHARS
from fashionclip.catalog.tables.text import BadLine

if TYPE_CHECKING:
    from _csv import Reader

MAX_ROW_LINES = 5_000
"""A quoted field that runs over more lines is taken for a quote that was left open."""
MIN_TELLING_WIDTH = 4
"""From this many fields on, a line with the right number is taken for a row and not for prose."""

_UNCLOSED = "a quotation mark is opened and never closed; close it or double it"
_OVERSIZED = f"longer than {MAX_ROW_CHARS:,} characters or {MAX_ROW_LINES:,} lines; shorten it"
_PROBE = "\x01"  # a line that cannot be in a table
_NULL = "\ud800"  # stands in for \N
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}  # after a backslash
_ESCAPED = re.compile(r"\\(\r\n|.)", re.DOTALL)
_LITERAL = re.compile(r'="((?:[^"]|"")*)"\s*')  # a formula that keeps a number's zeros in Excel
_STAND_INS = re.compile("[\ud800-\ud8ff]")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table's fields are separated and quoted."""

    delimiter: str = ","
    quote: str = '"'
    escapes: Literal["", "quotes", "all"] = ""
    """What a backslash escapes: nothing; quotation marks (PHP); any character (MySQL).
    If it escapes anything, a field of ``\\N`` alone is empty."""
    skips_space: bool = False
    """Whether spaces before a field, and before its quotation mark, are left out."""

    def parse(self, lines: Iterable[str], *, strict: bool = False) -> "Reader":
        """Python's parser of this dialect."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            skipinitialspace=self.skips_space,
            strict=strict,
        )


class _Oversized(Exception):
    """A record has more lines or characters than any row should."""


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """A record that is not a row of its table."""

    reason: str
    fields: Sequence[str]
    """The fields that could be read, mostly to name the product."""


class RecordReader:
    """Reads records one by one."""

    def __init__(self, lines: Iterator[str], dialect: Dialect) -> None:
        """Start at the first line; lines have their ends, or are ``BadLine``."""
        self.n_faults = 0
        """Records so far that break the rules of quoting, whether they were mended or not."""
        self._dialect = dialect
        self._stand_ins = _stand_ins(dialect)
        self._meanings = {ord(stand_in): text for text, stand_in in self._stand_ins.items()}
        self._lines = _exchange(lines, self._stand_ins) if dialect.escapes else lines
        self._again: deque[str] = deque()  # lines to be read before the others
        self._taken: list[str] = []  # lines of the current record
        self._n_chars = 0
        self._parser = dialect.parse(self, strict=True)

    def read(
        self, width: int | None, *, joins_last: bool = False
    ) -> list[str] | BrokenRecord | None:
        """Read the next record that is not blank; None at the end.

        Args:
            width: fields that it must have; None for as many as it has.
            joins_last: whether a record of one line may have more fields.
        """
        record = self._read(width, joins_last=joins_last)
        if self._dialect.escapes and isinstance(record, list):
            record = [self._meant(field) for field in record]
        for line in self._taken:
            if '="' in line and isinstance(record, list) and self._may_be_formula(line):
                return [_shown(field) for field in record]
        return record

    def _may_be_formula(self, line: str) -> bool:
        return '"=""' in line or line.startswith('="') or f'{self._dialect.delimiter}="' in line

    def _meant(self, field: str) -> str:
        """A field with what its stand-ins stand for."""
        if field.isascii() or not _STAND_INS.search(field):
            return field
        return "" if field.strip() == _NULL else field.translate(self._meanings)

    def _read(self, width: int | None, *, joins_last: bool) -> list[str] | BrokenRecord | None:
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
                return BrokenRecord(self._taken[0].reason, fields)

    def __iter__(self) -> "RecordReader":
        """Itself: the lines for the parser. Unlike a generator it can continue after its end."""
        return self

    def __next__(self) -> str:
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
        """A record that the parser accepted, if its number of fields is right."""
        bad = self._bad_line()
        if bad is not None:
            return BrokenRecord(bad.reason, fields)
        if width is None or len(fields) == width:
            return fields
        self.n_faults += 1
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
        return BrokenRecord(f"has {counted} where the header has {width}; {mend}", fields)

    def _recovered(self, width: int | None) -> list[str] | BrokenRecord:
        """Recover from a record that breaks the rules of quoting."""
        self.n_faults += 1
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
        return BrokenRecord(_UNCLOSED + _extent(len(self._taken)), fields)

    def _skipped(self, width: int | None) -> BrokenRecord:
        """Skip a record that is too long, up to its closing quote or to the next whole row."""
        self.n_faults += 1
        start = self._whole_line(width) if width is not None else 0
        if start:
            return self._give_back(start)
        bad = self._bad_line()
        fields = self._taken[0][:1000].split(self._dialect.delimiter)
        quote = self._dialect.quote
        n_quotes = sum(_count_quotes(line, quote) for line in self._taken)
        while n_quotes % 2:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                break
            if width is not None and self._is_whole(line, width):
                self._again.appendleft(line)
                break
            n_quotes += _count_quotes(line, quote)
        return BrokenRecord(bad.reason if bad else _OVERSIZED, fields)

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
        if line.count(self._dialect.delimiter) < width - 1:
            return False
        try:
            fields = next(self._dialect.parse([line], strict=True))
        except csv.Error:  # the same fault: a quote that is only opened
            return (
                _count_quotes(line, self._dialect.quote) % 2 == 1
                and line.count(self._dialect.delimiter) == width - 1
            )
        return len(fields) == width

    def _give_back(self, start: int) -> BrokenRecord:
        """Make one broken row of the lines before ``start``, and read the others again."""
        fields, _ = self._parse_leniently(self._taken[:1])
        self._again.extendleft(reversed(self._taken[start:]))
        bad = next((line for line in self._taken[:start] if isinstance(line, BadLine)), None)
        return BrokenRecord(bad.reason if bad else _UNCLOSED + _extent(start), fields)

    def _parse_leniently(self, lines: Sequence[str]) -> tuple[list[str], bool]:
        """Fields of the first record in some lines, and whether a quote is still open after it."""
        parser = self._dialect.parse([*lines, _PROBE])
        fields = next(parser)
        is_open = next(parser, None) is None
        if is_open:
            fields = next(self._dialect.parse(lines))
        return fields, is_open

    def _bad_line(self) -> BadLine | None:
        return next((line for line in self._taken if isinstance(line, BadLine)), None)


def _shown(field: str) -> str:
    """A field as Excel shows it: ``="00123"`` is 00123."""
    found = _LITERAL.fullmatch(field)
    return found[1].replace('""', '"') if found else field


def _stand_ins(dialect: Dialect) -> dict[str, str]:
    """What may follow a backslash, and the surrogate that stands in for both."""
    if not dialect.escapes:
        return {}
    found = {"\\N" if dialect.escapes == "quotes" else "N": _NULL, dialect.quote: "\ud801"}
    if dialect.escapes == "all":
        others = ("\n", "\r\n", "\r", "\t", dialect.delimiter)
        found |= {text: chr(ord("\ud802") + i) for i, text in enumerate(others)}
    return found


def _exchange(lines: Iterator[str], stand_ins: Mapping[str, str]) -> Iterator[str]:
    """Lines with stand-ins for what a backslash escapes, joined where it escapes their end."""
    ends = tuple(stand_ins[end] for end in ("\n", "\r\n", "\r") if end in stand_ins)

    def stand_in(found: re.Match[str]) -> str:
        escaped = found[1]
        if not ends:  # only quotation marks are escaped
            return stand_ins.get("\\N" if escaped == "N" else escaped, found[0])
        return stand_ins.get(_LETTERS.get(escaped, escaped), escaped)

    for line in lines:
        if "\\" in line and not isinstance(line, BadLine):
            line = _ESCAPED.sub(stand_in, line)
            while line.endswith(ends) and len(line) <= MAX_ROW_CHARS:
                following = next(lines, "")
                if not following or isinstance(following, BadLine):
                    yield line
                    line = following
                    break
                line += _ESCAPED.sub(stand_in, following)
        if line:
            yield line


def _count_quotes(line: str, quote: str) -> int:
    return line.n_quotes if isinstance(line, BadLine) else line.count(quote)


def _extent(n_lines: int) -> str:
    return f" (the row runs over {n_lines:,} lines)" if n_lines > 1 else ""
