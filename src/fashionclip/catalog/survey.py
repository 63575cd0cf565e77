"""The first pass over a table: the kind of each column, and the number of rows."""

from collections.abc import Mapping
from dataclasses import dataclass

from fashionclip.catalog.tables.table import BrokenRow, Table
from fashionclip.catalog.values import kind_of_text, kind_of_value
from fashionclip.product import Kind, widen


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over a table found."""

    kinds: Mapping[str, Kind]
    """Columns that can be passed on, in their order; columns of binary data are left out."""
    n_rows: int
    """Rows, broken ones included."""
    n_mended: int = 0


def take_survey(table: Table) -> Survey:
    """Find the kinds of all columns in one pass.

    Mended rows do not count: if the mend was wrong, their values are in the wrong columns.

    Raises:
        CatalogError: the table cannot be read to its end.
    """
    declared = table.kinds or {}
    kind_of = kind_of_value if table.is_typed else kind_of_text
    kinds: dict[str, Kind | None] = {name: declared.get(name) for name in table.names}
    binary = {name for name, kind in declared.items() if kind is None}
    n_rows = n_mended = 0
    for row in table.rows([name for name in table.names if name not in binary]):
        n_rows += 1
        if isinstance(row, BrokenRow):
            continue
        if row.is_mended:
            n_mended += 1
            continue
        for name, cell in row.cells.items():
            known = kinds.setdefault(name, None)
            if name not in declared and known != "string":
                kinds[name] = widen(known, kind_of(cell))
    passed_on = {name: kind or "string" for name, kind in kinds.items() if name not in binary}
    return Survey(passed_on, n_rows, n_mended)
