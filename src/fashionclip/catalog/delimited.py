"""CSV and its kin: the delimiter, the columns, the rows.

Every record becomes a ``Row`` or a ``BrokenRow``; blank lines are no rows.
"""

import csv
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from fashionclip.catalog.cells import clean_text, kind_of_text
from fashionclip.catalog.lines import TextFile, open_text
from fashionclip.catalog.records import BrokenRecord, RecordReader
from fashionclip.catalog.rows import MAX_COLUMNS, MAX_ROW_CHARS, BrokenRow, Row, Survey, take_survey
from fashionclip.errors import CatalogError

DELIMITERS = ",;\t|"
SAMPLE_LINES = 60
SAMPLE_CHARS = 200_000
STEADY = 0.9  # share of a sample's rows that must be as wide as the header

_EXCEL_HINT = re.compile(r"\ufeff?sep=(.)[\r\n]*")  # a first line that Excel writes and reads


class DelimitedTable:
    """A table of separated values with a header line."""

    def __init__(self, path: Path, *, is_free_text: Callable[[str], bool]) -> None:
        """Decide encoding, delimiter and columns.

        Args:
            path: the file, perhaps compressed with gzip.
            is_free_text: whether a column of this name holds prose. Where the last column does,
                surplus fields of a row are joined to it: Kaggle's ``styles.csv`` has
                commas in its product names and no quotes around them.

        Raises:
            CatalogError: the file cannot be read or has no header.
        """
        csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_ROW_CHARS))
        self._file: TextFile = open_text(path)
        self._delimiter, self._has_hint = _sniff(self._file)
        header = self._records().read(None)
        if header is None or isinstance(header, BrokenRecord):
            why = "it is empty" if header is None else f"its first line: {header.reason}"
            message = f"{path}: has no header with the columns' names ({why})"
            raise CatalogError(message)
        if len(header) > MAX_COLUMNS:
            message = f"{path}: {len(header):,} columns; a catalogue has at most {MAX_COLUMNS:,}"
            raise CatalogError(message)
        self._names = _distinct(header)
        self._joins_last = is_free_text(self._names[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns; a second one of the same name ends in ``_2``."""
        return self._names

    @property
    def notes(self) -> tuple[str, ...]:
        """How its encoding was decided, if it is not plain UTF-8."""
        return (self._file.note,) if self._file.note else ()

    def survey(self) -> Survey:
        """Read it through once for the columns' kinds.

        Raises:
            CatalogError: it cannot be read to its end.
        """
        return take_survey(self.rows(), kind_of_text, self._names)

    def rows(self) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Raises:
            CatalogError: it cannot be read on.
        """
        width = len(self._names)
        records = self._records()
        records.read(None)  # the header
        number = 0
        while (record := records.read(width, joins_last=self._joins_last)) is not None:
            number += 1
            if isinstance(record, BrokenRecord):
                first = record.fields[0].strip() if record.fields else ""
                yield BrokenRow(number, record.reason, first or None)
                continue
            is_mended = len(record) > width
            if is_mended:
                record = [*record[: width - 1], self._delimiter.join(record[width - 1 :])]
            yield Row(number, dict(zip(self._names, record, strict=True)), is_mended)

    def _records(self) -> RecordReader:
        lines = self._file.lines()
        return RecordReader(islice(lines, 1, None) if self._has_hint else lines, self._delimiter)


def _sniff(file: TextFile) -> tuple[str, bool]:
    """The delimiter, and whether the first line is only Excel's hint at it."""
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
    """How well a delimiter cuts a sample: into steady rows, and into many fields."""
    rows = [row for row in csv.reader(sample, delimiter=delimiter) if row]
    if not rows or len(rows[0]) < 2:
        return False, 0.0
    share = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    return share >= STEADY, share * len(rows[0])


def _distinct(header: list[str]) -> tuple[str, ...]:
    """The columns' names, trimmed; the nameless and the second of a name get one of their own."""
    names: dict[str, None] = {}
    for i, field in enumerate(header, start=1):
        name = first = clean_text(field.replace("\0", "").strip()) or f"column_{i}"
        n = 1
        while name in names:
            n += 1
            name = f"{first}_{n}"
        names[name] = None
    return tuple(names)
