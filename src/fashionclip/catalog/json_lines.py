"""JSON Lines: one object per line, whose keys are the columns."""

import json
from collections.abc import Iterator
from pathlib import Path

from fashionclip.catalog.cells import clean_text, kind_of_value
from fashionclip.catalog.lines import BadLine, TextFile, open_text
from fashionclip.catalog.rows import MAX_COLUMNS, BrokenRow, Row, Survey, take_survey
from fashionclip.errors import CatalogError


class JsonLinesTable:
    """A table of one JSON object per line; any other line is a broken row."""

    def __init__(self, path: Path) -> None:
        """Decide the encoding and gather the columns; reads the file through.

        Raises:
            CatalogError: the file cannot be read, or is one JSON array.
        """
        self._path = path
        self._file: TextFile = open_text(path)
        self._survey = self._find_columns()
        self.names = tuple(self._survey.kinds)  # in order of first occurrence
        self.notes = self._file.notes

    def survey(self) -> Survey:
        """What the first pass found."""
        return self._survey

    def rows(self) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

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

    def _find_columns(self) -> Survey:
        first = next((line for line in self._file.lines() if line.strip()), "")
        if first.lstrip().startswith("["):
            message = (
                f"{self._path}: is one JSON array; write one object per line "
                f"(jq -c '.[]' {self._path.name} > {self._path.stem}.jsonl) and read that"
            )
            raise CatalogError(message)
        survey = take_survey(self.rows(), kind_of_value, ())
        if len(survey.kinds) > MAX_COLUMNS:
            n_columns = f"{len(survey.kinds):,}"
            message = f"{self._path}: {n_columns} columns; a catalogue has at most {MAX_COLUMNS:,}"
            raise CatalogError(message)
        return survey


def _row_of(number: int, found: object) -> Row | BrokenRow:
    if not isinstance(found, dict):
        return BrokenRow(
            number, f"not a JSON object but {str(found)[:40]!r}; write one {{…}} per line"
        )
    if all(name.isascii() for name in found):
        return Row(number, found)
    return Row(number, {clean_text(name): value for name, value in found.items()})
