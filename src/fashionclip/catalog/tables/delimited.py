"""CSV and other delimited text: the columns and the rows."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from fashionclip.catalog.tables.dialects import find_layout, looks_like_values
from fashionclip.catalog.tables.records import BrokenRecord, RecordReader
from fashionclip.catalog.tables.table import (
    HEADER_AGAIN,
    MAX_ROW_CHARS,
    BrokenRow,
    Row,
    UsualRole,
    distinct_names,
)
from fashionclip.catalog.tables.text import TextFile, open_text
from fashionclip.errors import CatalogError

_RULE = re.compile(r"\s*:?-+:?\s*|")  # below a header of sqlcmd or Markdown
_BLANK = "\ufeff \t\r\n"  # around a name, with the mark of a second file


class DelimitedTable:
    """A table of separated values with a header line."""

    kinds = None
    is_typed = False

    def __init__(
        self,
        path: Path,
        *,
        usual_role: UsualRole,
        encoding: str | None = None,
    ) -> None:
        """Decide encoding, delimiter, quoting and columns.

        Args:
            path: the file, perhaps compressed.
            usual_role: the role that a column of a name usually has, if any. If the last column
                is the title, surplus fields of a row are joined to it, because Kaggle's
                ``styles.csv`` has unquoted commas in its product names.
            encoding: its encoding; None to decide.

        Raises:
            CatalogError: the file cannot be read or has no header.
        """
        csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_ROW_CHARS))
        self._file: TextFile = open_text(path, encoding)
        self._layout = find_layout(self._file, usual_role=usual_role)
        records = self._records()
        header, below = records.read(None), records.read(None)
        if header is None or isinstance(header, BrokenRecord):
            why = "it is empty" if header is None else f"its first line: {header.reason}"
            message = f"{path}: has no header with the columns' names ({why})"
            raise CatalogError(message)
        self.names = distinct_names(header, where=str(path))
        if looks_like_values(header, usual_role=usual_role):
            shown = ", ".join(" ".join(field.split())[:40] for field in header[:6])
            message = (
                f"{path}: has no header: its first line holds values ({shown}); "
                "write the columns' names above it"
            )
            raise CatalogError(message)
        self._header = [field.strip() for field in header]
        fields = below if isinstance(below, list) else [""]
        self._is_ruled = any(map(str.strip, fields)) and all(map(_RULE.fullmatch, fields))
        ruled = ("the row of dashes below the header is left out",) * self._is_ruled
        self.notes = (*self._file.notes, *self._layout.notes, *ruled)
        self._joins_last = usual_role(self.names[-1]) == "title"

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top; every line is read whole.

        Raises:
            CatalogError: it cannot be read on.
        """
        names, width = self.names, len(self.names)
        records = self._records()
        for _ in range(1 + self._is_ruled):
            records.read(None)
        number, first_name = 0, self._header[0]
        while (record := records.read(width, joins_last=self._joins_last)) is not None:
            number += 1
            if isinstance(record, BrokenRecord):
                first = record.fields[0].strip() if record.fields else ""
                yield BrokenRow(number, record.reason, first or None)
                continue
            if record[0].endswith(first_name) and self._repeats(record):
                yield BrokenRow(number, HEADER_AGAIN)
                continue
            is_mended = len(record) > width
            if is_mended:
                sign = self._layout.dialect.delimiter
                record = [*record[: width - 1], sign.join(record[width - 1 :])]
            pairs = zip(names, record, strict=True)
            yield Row(number, {name: cell for name, cell in pairs if cell}, is_mended)

    def _repeats(self, record: Sequence[str]) -> bool:
        return len(record) > 1 and [field.strip(_BLANK) for field in record] == self._header

    def _records(self) -> RecordReader:
        lines = islice(self._file.lines(), self._layout.n_above, None)
        return RecordReader(lines, self._layout.dialect)
