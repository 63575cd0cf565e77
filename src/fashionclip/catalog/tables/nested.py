"""Nested objects as flat rows: ``{"image": {"url": …}}`` is the cell ``image.url``."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from fashionclip.catalog.tables.table import (
    MAX_COLUMNS,
    BrokenRow,
    Cell,
    Row,
    UsualRole,
    clean_text,
)
from fashionclip.errors import CatalogError

MAX_DEPTH = 8
"""Objects that lie deeper stay cells, as lists do."""
WRAPPERS = ("node", "_source", "item")
"""Objects whose fields count as the row's own: of GraphQL, of Elasticsearch, of schema.org."""

_EMPTY: tuple[Cell, ...] = (None, "", [])


class Flattening:
    """How the objects of one table become rows with the same columns."""

    def __init__(
        self,
        objects: Callable[[], Iterator[Mapping[str, Cell] | BrokenRow]],
        *,
        usual_role: UsualRole,
        where: str,
    ) -> None:
        """Find the columns; goes through all objects.

        An object stays one cell in three cases: its column has the role of highlights and it holds
        no title or image; other rows have a value there that is no object; the table would be too
        wide.

        Args:
            objects: reads them from the top.
            usual_role: the role that a column of a name usually has.
            where: the table, as messages name it.

        Raises:
            CatalogError: there are too many columns.
        """
        self._depth = MAX_DEPTH
        self._kept: set[str] = set()
        self._opened: set[str] = set()
        """Columns that are objects, so that their fields are the columns."""
        self._known: frozenset[str] = frozenset()
        names: dict[str, None] = {}
        valued: set[str] = set()
        opened: set[str] = set()
        for cells in objects():
            if not isinstance(cells, BrokenRow):
                flat = self._flat(_unwrapped(cells), opened)
                names |= dict.fromkeys(flat)
                valued.update(name for name, cell in flat.items() if cell not in _EMPTY)
        products = {  # objects that hold a title or an image, as in Google's APIs
            outer
            for outer, _, name in (name.partition(".") for name in names)
            if usual_role(name) in {"title", "image"}
        }
        self._kept = {
            name
            for name in opened
            if name in valued or (usual_role(name) == "highlights" and name not in products)
        }
        self._opened = opened - self._kept
        names |= dict.fromkeys(sorted(self._kept))
        names = {name: None for name in names if not self._is_within(name)}
        if len(names) > MAX_COLUMNS:  # objects that are used as maps
            self._depth, self._opened = 0, set()
            names = dict.fromkeys(name.partition(".")[0] for name in names)
        if len(names) > MAX_COLUMNS:
            message = f"{where}: {len(names):,} columns; a catalogue has at most {MAX_COLUMNS:,}"
            raise CatalogError(message)
        self.names = tuple(name for name in names if name not in self._opened)
        self._known = frozenset(self.names)

    def rows(self, objects: Iterable[Mapping[str, Cell] | BrokenRow]) -> Iterator[Row | BrokenRow]:
        """Objects as rows, numbered from 1."""
        for number, cells in enumerate(objects, start=1):
            if isinstance(cells, BrokenRow):
                yield cells
            else:
                yield Row(number, self._flat(_unwrapped(cells)))

    def _is_within(self, name: str) -> bool:
        """Whether a column is a field of an object that stays a cell."""
        return any(name.startswith(f"{kept}.") for kept in self._kept)

    def _flat(
        self, cells: Mapping[str, Cell], opened: set[str] | None = None
    ) -> Mapping[str, Cell]:
        if cells.keys() <= self._known and dict not in map(type, cells.values()):
            return cells
        flat: dict[str, Cell] = {}

        def add(fields: Mapping[str, Cell], prefix: str, depth: int) -> None:
            for key, cell in fields.items():
                name = prefix + (clean_text(key.replace("\0", "").strip()) or "column")
                if isinstance(cell, dict) and depth < self._depth and name not in self._kept:
                    if opened is not None:
                        opened.add(name)
                    add(cell, f"{name}.", depth + 1)
                    continue
                if name in self._opened:  # nothing in place of an object
                    continue
                distinct, n = name, 1
                while distinct in flat:
                    n += 1
                    distinct = f"{name}_{n}"
                flat[distinct] = cell

        add(cells, "", 0)
        return flat


def _unwrapped(cells: Mapping[str, Cell]) -> Mapping[str, Cell]:
    """An object with the fields of its wrapped one first."""
    for key in WRAPPERS:
        if isinstance(inner := cells.get(key), dict):
            return {**inner, **{k: v for k, v in cells.items() if k != key and k not in inner}}
    return cells
