"""CSV and other delimited text: the columns and the rows."""

import csv
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from fashionclip.catalog.tables.dialects import find_layout, looks_like_values
from fashionclip.catalog.tables.records import BrokenRecord, RecordReader
from fashionclip.catalog.tables.table import (
    MAX_ROW_CHARS,
    BrokenRow,
    Row,
    UsualRole,
    distinct_names,
)
from fashionclip.catalog.tables.text import TextFile, open_text
from fashionclip.errors import CatalogError


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
        header = self._records().read(None)
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
        self.notes = (*self._file.notes, *self._layout.notes)
        self._joins_last = usual_role(self.names[-1]) == "title"

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top; every line is read whole.

        Raises:
            CatalogError: it cannot be read on.
        """
        names, width = self.names, len(self.names)
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
                sign = self._layout.dialect.delimiter
                record = [*record[: width - 1], sign.join(record[width - 1 :])]
            yield Row(number, dict(zip(names, record, strict=True)), is_mended)

    def _records(self) -> RecordReader:
        lines = islice(self._file.lines(), self._layout.n_above, None)
        return RecordReader(lines, self._layout.dialect)
