"""Excel and OpenDocument workbooks (.xlsx, .xlsb, .xls, .ods): one sheet, with a header.

A workbook's sheet is in memory while it is read.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fashionclip.catalog.tables.dialects import MAX_HEADER_RECORDS, find_header
from fashionclip.catalog.tables.table import (
    HEADER_AGAIN,
    BrokenRow,
    Cell,
    Row,
    UsualRole,
    distinct_names,
)
from fashionclip.catalog.tables.text import reading
from fashionclip.errors import CatalogError

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook, SheetMetadata


class WorkbookTable:
    """A sheet of a workbook."""

    kinds = None
    is_typed = True

    def __init__(self, path: Path, *, usual_role: UsualRole, sheet: str = "") -> None:
        """Choose the sheet and find its header.

        Args:
            path: the workbook.
            usual_role: the role that a column of a name usually has, by which the header is found.
            sheet: its name; empty for the first visible one that has at least half as many usual
                names as the best.

        Raises:
            CatalogError: it is no workbook, is protected, or has no such sheet.
        """
        self._path = path
        with _open(path) as book:
            names = [found.name for found in book.sheets_metadata if _is_visible(found)]
            if sheet and sheet not in book.sheet_names:
                message = f"{path}: no sheet '{sheet}'; there are: {', '.join(book.sheet_names)}"
                raise CatalogError(message)
            samples = {name: _sample(book, name) for name in ([sheet] if sheet else names)}
        filled = {name: sample for name, sample in samples.items() if sample}
        headers = {name: _header_of(sample, usual_role) for name, sample in filled.items()}
        most = max((n_usual for _, _, n_usual in headers.values()), default=0)
        self._sheet = next((name for name in headers if headers[name][2] * 2 >= most), "")
        if not self._sheet:
            message = f"{path}: has no header with the columns' names (it is empty)"
            raise CatalogError(message)
        self._n_above, header, _ = headers[self._sheet]
        self._header = next(row for n_above, row in filled[self._sheet] if n_above == self._n_above)
        self.names = distinct_names(header, where=str(path))
        notes: list[str] = []
        if len(names) > 1 and not sheet:
            others = ", ".join(name for name in names if name != self._sheet)
            mend = f"name another one as {path.name}#SHEET"
            notes.append(f"read the sheet '{self._sheet}', not {others}; {mend}")
        if self._n_above:
            notes.append(f"the header is row {self._n_above + 1}; stepped over what is above it")
        self.notes = tuple(notes)

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Raises:
            CatalogError: it cannot be read on.
        """
        with _open(self._path) as book:
            number = 0
            for cells in islice(
                _rows(book.get_sheet_by_name(self._sheet)), self._n_above + 1, None
            ):
                if not any(cell != "" for cell in cells):
                    continue
                number += 1
                if cells == self._header:
                    yield BrokenRow(number, HEADER_AGAIN)
                else:
                    yield Row(number, dict(zip(self.names, map(_cell, cells), strict=False)))


@contextmanager
def _open(path: Path) -> "Iterator[CalamineWorkbook]":
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        with reading(path), CalamineWorkbook.from_path(path) as book:
            yield book
    except PasswordError as exc:
        message = f"{path}: is protected by a password; save it without one"
        raise CatalogError(message) from exc
    except CalamineError as exc:
        message = f"{path}: not a workbook, or damaged ({exc}); save it as .xlsx or CSV"
        raise CatalogError(message) from exc


def _is_visible(found: "SheetMetadata") -> bool:
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    visible, worksheet = SheetVisibleEnum.Visible, SheetTypeEnum.WorkSheet
    return found.visible == visible and found.typ == worksheet


def _rows(sheet: "CalamineSheet") -> Iterator[list[Cell]]:
    """Rows from the sheet's first, blank ones too."""
    return iter(sheet.iter_rows())


def _sample(book: "CalamineWorkbook", name: str) -> list[tuple[int, list[Cell]]]:
    """The first rows of a sheet that are not blank, with how many rows are above each."""
    rows = enumerate(_rows(book.get_sheet_by_name(name)))
    filled = ((n_above, row) for n_above, row in rows if any(cell != "" for cell in row))
    return list(islice(filled, MAX_HEADER_RECORDS))


def _header_of(
    sample: Sequence[tuple[int, list[Cell]]], usual_role: UsualRole
) -> tuple[int, list[str], int]:
    """Rows above a sheet's header, its names, and how many of them are usual."""
    records = [[str(_cell(cell) or "") for cell in row] for _, row in sample]
    i_header = find_header(records, usual_role)
    return (
        sample[i_header][0],
        records[i_header],
        sum(map(bool, map(usual_role, records[i_header]))),
    )


def _cell(cell: Cell) -> Cell:
    """A cell as other formats have it: whole numbers are integers, a day is a date."""
    if type(cell) is float and cell.is_integer():
        return int(cell)
    if type(cell) is datetime and not (cell.hour or cell.minute or cell.second):
        return cell.date()
    return None if cell == "" else cell
