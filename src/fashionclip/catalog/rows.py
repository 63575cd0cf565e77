"""What a table gives, whatever its format: rows, broken rows, and a survey of its columns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fashionclip.product import Kind

Cell = Any
"""A value as its format has it: text, number, bool, bytes, list, dict or None."""

MAX_ROW_CHARS = 4_000_000
"""Longer rows are rejected; bounds what one row can cost in memory."""
MAX_COLUMNS = 2_000
"""Wider tables are refused: they are no catalogues."""


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
    """What stands in its first column, if that much could be made out."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over a table found out."""

    kinds: Mapping[str, Kind]
    """Columns that can be passed on, in their order; columns of binary data are left out."""
    n_rows: int
    """Rows, broken ones included."""
    n_mended: int = 0


@runtime_checkable
class Table(Protocol):
    """A catalogue table of one format; reading streams and can be repeated."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be decided to read it, such as its encoding."""

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
