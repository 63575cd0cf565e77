"""What every format gives: rows, broken rows, and a survey of the columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fashionclip.product import Kind, widen

Cell = Any
"""A value as its format has it: text, number, bool, bytes, list, dict or None."""

MAX_ROW_CHARS = 4_000_000
"""Longer rows are rejected, which bounds the memory that one row takes."""
MAX_COLUMNS = 2_000
"""Wider tables are refused."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table, as its format has it."""

    number: int
    """The first row below the header is 1."""
    cells: Mapping[str, Cell]
    is_mended: bool = False
    """Whether surplus fields were joined to its last column."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read."""

    number: int
    reason: str
    first_cell: str | None = None
    """The text of its first column, if that much could be read."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over a table found."""

    kinds: Mapping[str, Kind]
    """Columns that can be passed on, in their order; columns of binary data are left out."""
    n_rows: int
    """Rows, broken ones included."""
    n_mended: int = 0


@runtime_checkable
class Table(Protocol):
    """A catalogue table of one format; reading streams and can be repeated."""

    names: tuple[str, ...]
    """Its columns, each name once."""
    notes: tuple[str, ...]
    """Remarks on how it was read, such as its encoding."""

    def survey(self) -> Survey:
        """Read it through once, or read its own description, for the columns' kinds.

        Raises:
            CatalogError: it cannot be read to its end.
        """

    def rows(self) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Raises:
            CatalogError: it cannot be read on.
        """


def take_survey(
    rows: Iterable[Row | BrokenRow], kind_of: Callable[[Cell], Kind | None], names: Iterable[str]
) -> Survey:
    """Find the kinds of all columns in one pass.

    Mended rows do not count: if the mend was wrong, their values are in the wrong columns.

    Args:
        rows: the whole table.
        kind_of: the kind of one value, None if it is missing.
        names: the columns known beforehand; others follow in the order in which they turn up.
    """
    kinds: dict[str, Kind | None] = dict.fromkeys(names)
    n_rows = n_mended = 0
    for row in rows:
        n_rows += 1
        if isinstance(row, BrokenRow):
            continue
        if row.is_mended:
            n_mended += 1
            continue
        for name, cell in row.cells.items():
            known = kinds.setdefault(name, None)
            if known != "string":
                kinds[name] = widen(known, kind_of(cell))
    return Survey({name: kind or "string" for name, kind in kinds.items()}, n_rows, n_mended)
