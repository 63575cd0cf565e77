"""Sale prices of 0, by which shop systems say that there is none."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from fashionclip.catalog.tables.table import BrokenRow, Cell, Row, Table
from fashionclip.product import Kind

_ZERO = re.compile(r"[^1-9]*0[^1-9]*")


@dataclass
class SaleTable:
    """A table whose cells of a column of sale prices are empty where they are 0."""

    table: Table
    column: str
    n_zeros: int = 0
    """Cells of 0 in the rows that were read last."""

    def __post_init__(self) -> None:
        """Take over what the table says of itself."""
        self.names, self.notes = self.table.names, self.table.notes

    @property
    def kinds(self) -> Mapping[str, Kind | None] | None:
        """The kinds that the format declares."""
        return self.table.kinds

    @property
    def is_typed(self) -> bool:
        """Whether numbers in it are numbers, and not text."""
        return self.table.is_typed

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Raises:
            CatalogError: it cannot be read on.
        """
        self.n_zeros = 0
        for row in self.table.rows(columns):
            if isinstance(row, Row) and _is_zero(row.cells.get(self.column)):
                self.n_zeros += 1
                yield Row(row.number, {**row.cells, self.column: None}, row.is_mended)
            else:
                yield row

    def note(self) -> str:
        """A sentence on the cells of 0 in the rows that were read last."""
        values = "1 value of 0 says" if self.n_zeros == 1 else f"{self.n_zeros:,} values of 0 say"
        return f"column '{self.column}': {values} that there is no sale price"


def _is_zero(cell: Cell) -> bool:
    if isinstance(cell, str):
        return _ZERO.fullmatch(cell) is not None
    return cell == 0 and not isinstance(cell, bool)
