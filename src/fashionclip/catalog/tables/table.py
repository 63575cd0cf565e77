"""What every table format gives: rows of cells, and the columns' names."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fashionclip.errors import CatalogError
from fashionclip.product import Kind

_SURROGATE = re.compile("[\ud800-\udfff]")

Cell = Any
"""A value as its format has it: text, number, bool, bytes, list, dict or None."""

UsualRole = Callable[[str], str | None]
"""Tells the role that a column of a name usually has; None for no role. Headers are found by it."""

MAX_ROW_CHARS = 4_000_000
"""Longer rows are rejected, which bounds the memory that one row takes."""
MAX_COLUMNS = 2_000
"""Wider tables are refused."""
HEADER_AGAIN = "the header again, as where two tables were joined; remove the line"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table, as its format has it."""

    number: int
    """The first row below the header is 1."""
    cells: Mapping[str, Cell]
    """By column; those that are blank may be left out."""
    is_mended: bool = False
    """Whether surplus fields were joined to its last column."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read."""

    number: int
    reason: str
    first_cell: str | None = None
    """The text of its first column, if that much could be read."""


@runtime_checkable
class Table(Protocol):
    """A catalogue table of one format; reading streams and can be repeated."""

    names: tuple[str, ...]
    """Its columns, each name once."""
    notes: tuple[str, ...]
    """Remarks on how it was read, such as its encoding."""

    @property
    def kinds(self) -> Mapping[str, Kind | None] | None:
        """The kinds that the format declares, as Parquet does; None for a column of binary data.

        None in place of the mapping: the cells must be looked at.
        """

    @property
    def is_typed(self) -> bool:
        """Whether a cell has a type of its own (JSON, Parquet), so that text is never a number."""

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Args:
            columns: those to read, where the format can leave the others out; None for all.

        Raises:
            CatalogError: it cannot be read on.
        """


def clean_text(text: str) -> str:
    """Text without the lone surrogates that UTF-8 cannot hold."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def distinct_names(names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Columns' names, trimmed; nameless and repeated columns get names of their own.

    Raises:
        CatalogError: there are too many.
    """
    found: dict[str, None] = {}
    for i, given in enumerate(names, start=1):
        name = first = clean_text(given.replace("\0", "").strip()) or f"column_{i}"
        n = 1
        while name in found:
            n += 1
            name = f"{first}_{n}"
        found[name] = None
    if len(found) > MAX_COLUMNS:
        message = f"{where}: {len(found):,} columns; a catalogue has at most {MAX_COLUMNS:,}"
        raise CatalogError(message)
    return tuple(found)
