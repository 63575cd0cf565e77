"""JSON Lines: one object per line."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from fashionclip.catalog.tables.table import MAX_COLUMNS, BrokenRow, Row, clean_text
from fashionclip.catalog.tables.text import BadLine, TextFile, open_text
from fashionclip.errors import CatalogError


class JsonLinesTable:
    """A table of one JSON object per line; any other line is a broken row."""

    kinds = None
    is_typed = True

    def __init__(self, path: Path) -> None:
        """Decide the encoding and gather the columns; reads the file through.

        Raises:
            CatalogError: the file cannot be read, or is one JSON array.
        """
        self._path = path
        self._file: TextFile = open_text(path)
        self.names = self._find_columns()
        self.notes = self._file.notes

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top; every line is read whole.

        Raises:
            CatalogError: it cannot be read on.
        """
        number = 0
        for line in self._file.lines():
            if not line.strip():
                continue
            number += 1
            if isinstance(line, BadLine):
                yield BrokenRow(number, line.reason)
                continue
            try:
                found = json.loads(line)
            except RecursionError:
                yield BrokenRow(number, "nested too deep; flatten it")
            except ValueError as exc:
                yield BrokenRow(number, f"not valid JSON ({exc}); write one object per line")
            else:
                yield _row_of(number, found)

    def _find_columns(self) -> tuple[str, ...]:
        first = next((line for line in self._file.lines() if line.strip()), "")
        if first.lstrip().startswith("["):
            message = (
                f"{self._path}: is one JSON array; write one object per line "
                f"(jq -c '.[]' {self._path.name} > {self._path.stem}.jsonl) and read that"
            )
            raise CatalogError(message)
        rows = (row for row in self.rows() if isinstance(row, Row))
        names = dict.fromkeys(name for row in rows for name in row.cells)  # by first occurrence
        if len(names) > MAX_COLUMNS:
            n_columns = f"{len(names):,}"
            message = f"{self._path}: {n_columns} columns; a catalogue has at most {MAX_COLUMNS:,}"
            raise CatalogError(message)
        return tuple(names)


def _row_of(number: int, found: object) -> Row | BrokenRow:
    if not isinstance(found, dict):
        return BrokenRow(
            number, f"not a JSON object but {str(found)[:40]!r}; write one {{…}} per line"
        )
    if all(name.isascii() for name in found):
        return Row(number, found)
    return Row(number, {clean_text(name): value for name, value in found.items()})
