"""``read_feed``: a table and the system it is an export of, to a table of products."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fashionclip.catalog.feeds.feed import Feed, Names
from fashionclip.catalog.feeds.loading import load_rows, read_groups
from fashionclip.catalog.feeds.notes import notes_of
from fashionclip.catalog.feeds.rules import bind
from fashionclip.catalog.feeds.spool import Spool
from fashionclip.catalog.feeds.variants import Findings, products_of
from fashionclip.catalog.tables.table import BrokenRow, Cell, Row, Table
from fashionclip.catalog.values import as_text
from fashionclip.product import Kind

_LINE_END = re.compile(r"(?<!\\)\\n")


@dataclass
class FeedTable:
    """The products of a feed as a table."""

    names: Names
    notes: Names
    kinds: Mapping[str, Kind | None] | None
    is_typed: bool
    _spool: Spool

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read the products, each with all its cells."""
        for item in self._spool.products():
            yield item if isinstance(item, BrokenRow) else Row(*item)


@dataclass
class _RenamedTable:
    """A table whose columns have lost what a system drops, with its cells as they are meant."""

    names: Names
    notes: Names
    kinds: Mapping[str, Kind | None] | None
    is_typed: bool
    _table: Table
    _renamed: Mapping[str, str]
    _micros: Names
    _escaped: Names

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Raises:
            CatalogError: it cannot be read on.
        """
        wanted = [old for old, new in self._renamed.items() if columns is None or new in columns]
        for row in self._table.rows(wanted):
            if isinstance(row, BrokenRow):
                yield row
                continue
            cells = {self._renamed[name]: cell for name, cell in row.cells.items()}
            for name in self._micros:
                cells[name] = _of_millionths(cells.get(name))
            for name in self._escaped:
                cells[name] = _unescaped(cells.get(name))
            yield Row(row.number, cells, row.is_mended)


@dataclass(frozen=True)
class Reading:
    """A table as its system's rules read it."""

    table: Table
    roles: Mapping[str, Names]
    """The columns of each role that the system names, best first."""
    mapping: Mapping[str, Sequence[str]]
    """The roles that the user mapped, by the columns' present names."""
    notes: Names
    """What was done with the export, in sentences."""
    n_rows: int | None = None
    """Rows of the export, where they were grouped into those of ``table``; None where ``table`` has
    the export's own rows."""


def read_feed(
    table: Table, feed: Feed, mapping: Mapping[str, str | Sequence[str]], *, view: str | None
) -> Reading:
    """Apply the rules of a system. A table with variants is read through once.

    Args:
        table: the system's export.
        feed: the system.
        mapping: roles that the user mapped.
        view: the view of the shop, or its language, whose translations replace the words.

    Raises:
        CatalogError: the table cannot be read on, or there is no room for temporary files.
    """
    renamed = feed.column_names(table.names)
    names = tuple(renamed.values())
    mapping = {
        role: [renamed.get(name, name) for name in ([given] if isinstance(given, str) else given)]
        for role, given in mapping.items()
    }
    rules = bind(feed, names, mapping)
    if names != table.names or rules.micros or rules.escaped:
        kinds = table.kinds and {renamed[name]: kind for name, kind in table.kinds.items()}
        table = _RenamedTable(
            names,
            table.notes,
            kinds,
            table.is_typed,
            table,
            renamed,
            rules.micros,
            rules.escaped,
        )
    findings = Findings()
    if not rules.changes_rows:
        return Reading(table, rules.roles, mapping, notes_of(rules, findings))
    spool = Spool()
    load_rows(table, rules, spool, findings)
    filled: set[str] = set()
    kept = {name: None for name in names if name not in rules.replaced}
    for found in read_groups(spool, rules, findings, view):
        if isinstance(found, BrokenRow):
            spool.add_product(found)
            continue
        for row in products_of(found, rules, findings):
            if feed.media_url and "/" not in as_text(row.cells.get(rules.image) or "/"):
                findings.add("bare names", row.number)
            filled |= row.cells.keys()
            if not row.cells.keys() <= kept.keys():
                kept |= dict.fromkeys(row.cells)
            spool.add_product((row.number, row.cells, row.is_mended))
    findings.counts["split"] = spool.n_split
    spool.drop_rows()
    binary: dict[str, Kind | None] = {
        n: None for n, kind in (table.kinds or {}).items() if not kind
    }
    products = FeedTable(tuple(kept), table.notes, binary or None, table.is_typed, spool)
    roles = {  # a column that is blank in all rows comes after those that are not
        role: tuple(sorted(columns, key=lambda name: name not in filled))
        for role, columns in rules.roles.items()
    }
    places = {"id": (rules.id_column,), "image": (rules.image,), "group": (rules.group,)}
    notes = notes_of(rules, findings)
    return Reading(products, {**roles, **places}, mapping, notes, findings.counts["rows"])


def _unescaped(cell: Cell) -> Cell:
    if not isinstance(cell, str) or "\\" not in cell:
        return cell
    return _LINE_END.sub("\n", cell).replace("\\\\n", "\\n").replace("\\,", ",")


def _of_millionths(cell: Cell) -> Cell:
    text = as_text(cell).strip()
    if not re.fullmatch(r"-?\d{1,18}", text):
        return cell
    amount = int(text) / 1_000_000
    places = 2 if int(text) % 10_000 == 0 else 6  # dinars have three decimals
    return f"{amount:.{places}f}" if isinstance(cell, str) else amount
