"""Rows into groups, in any order, in flat memory: a temporary SQLite database.

A row may have names, and may refer to the name of another row, which perhaps comes later. The
rows that refer to one another are a group. SQLite deletes the database when it is closed, and
keeps it in memory as long as it is small.
"""

import pickle
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from fashionclip.errors import CatalogError

MAX_GROUP_ROWS = 50_000
"""Rows of a larger group are products of their own, which bounds the memory that a group takes."""

ROWS_PER_WRITE = 100

_ADD_ROW = "INSERT INTO rows VALUES (?, ?, ?, ?)"
_ADD_NAME = """
INSERT INTO names VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
    SET seq = excluded.seq, number = excluded.number, rank = excluded.rank
    WHERE excluded.rank < names.rank
"""
_ADD_PRODUCTS = "INSERT INTO products (items) VALUES (?)"
_TABLES = """
PRAGMA page_size = 32768;
PRAGMA cache_size = -8000;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE rows (seq INTEGER PRIMARY KEY, ref TEXT, up INTEGER, item BLOB);
CREATE TABLE links (seq INTEGER PRIMARY KEY, up INTEGER);
CREATE TABLE names (name TEXT PRIMARY KEY, seq INTEGER, number INTEGER, rank TEXT) WITHOUT ROWID;
CREATE TABLE children (name TEXT, parent TEXT);
CREATE TABLE members (root INTEGER, seq INTEGER, PRIMARY KEY (root, seq)) WITHOUT ROWID;
CREATE TABLE products (seq INTEGER PRIMARY KEY, items BLOB);
"""
_RESOLVE = """
INSERT INTO links
    SELECT rows.seq, COALESCE(NULLIF(names.seq, rows.seq), listed.up, rows.up) FROM rows
    LEFT JOIN names ON names.name = rows.ref
    LEFT JOIN (SELECT names.seq, MIN(parents.seq) AS up FROM children JOIN names USING (name)
        JOIN names AS parents ON parents.name = children.parent
        GROUP BY names.seq) AS listed ON listed.seq = rows.seq;
CREATE INDEX ups ON links (up);
INSERT INTO members WITH RECURSIVE tree (root, seq) AS (
    SELECT seq, seq FROM links WHERE up IS NULL
    UNION ALL SELECT root, links.seq FROM tree JOIN links ON links.up = tree.seq
) SELECT root, seq FROM tree;
"""
_SPLIT = """
UPDATE members SET root = seq WHERE root IN
    (SELECT root FROM members GROUP BY root HAVING COUNT(*) > ?)
"""
_GROUPS = """
SELECT root, seq, links.up, ref, item
FROM members CROSS JOIN links USING (seq) CROSS JOIN rows USING (seq) ORDER BY root, seq
"""
_CYCLES = """
SELECT -1, seq, links.up, ref, item FROM links JOIN rows USING (seq)
WHERE seq NOT IN (SELECT seq FROM members) ORDER BY seq
"""


@dataclass(slots=True)
class Member:
    """A row of a group."""

    root: int
    """The place of the row that all of the group lead to; -1 if they lead in a circle."""
    seq: int
    """Its place in the file, from 1; unlike a row's number it is unique."""
    up: int | None
    """The place of the row that it refers to."""
    ref: str | None
    """The name that it refers to, which perhaps no row has."""
    item: Any
    """What was kept of the row."""


class Spool:
    """The rows of a table, and then its products, on disk if they are many."""

    def __init__(self) -> None:
        """Make an empty database."""
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._db.close)
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")
        self._rows: list[tuple[object, ...]] = []
        self._names: dict[str, tuple[str, int, int, str]] = {}
        self._products: list[object] = []
        """What is written at once, as one blob."""
        self._n_rows = 0
        self.n_split = 0
        """Rows of groups that were too large, once ``groups`` has begun."""

    def add(self, item: object, *, ref: str | None = None, up: int | None = None) -> int:
        """Keep a row.

        Args:
            item: what to keep of it.
            ref: the name of the row that it belongs to.
            up: the place of that row, where it is known.

        Returns:
            Its place.

        Raises:
            CatalogError: there is no room for temporary files.
        """
        self._n_rows += 1
        data = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        self._rows.append((self._n_rows, ref, up, data))
        if len(self._rows) == ROWS_PER_WRITE:
            self._write()
        return self._n_rows

    def add_name(self, name: str, seq: int, number: int, *, rank: str = "") -> None:
        """Give a row a name, unless a row of the same or a lower rank has it already."""
        if name not in self._names or rank < self._names[name][3]:
            self._names[name] = (name, seq, number, rank)

    def number_of(self, name: str) -> int | None:
        """The number of the row of a name of the lowest rank."""
        if name in self._names and not self._names[name][3]:
            return self._names[name][2]
        query = "SELECT number FROM names WHERE name = ? AND rank = ''"
        found = self._db.execute(query, (name,)).fetchone()
        return None if found is None else int(found[0])

    def add_children(self, names: Sequence[str], parent: str) -> None:
        """Say that the rows of some names belong to the row of another name.

        Raises:
            CatalogError: there is no room for temporary files.
        """
        rows = [(name, parent) for name in names]
        with _writing():
            self._db.executemany("INSERT INTO children VALUES (?, ?)", rows)

    def groups(self) -> Iterator[list[Member]]:
        """The rows by groups, in the order of the rows that the groups lead to.

        Raises:
            CatalogError: there is no room for temporary files.
        """
        self._write()
        with _writing():
            self._db.executescript("BEGIN;" + _RESOLVE)
            self.n_split = self._db.execute(_SPLIT, (MAX_GROUP_ROWS,)).rowcount
            for query in (_GROUPS, _CYCLES):
                for _, group in groupby(self._db.cursor().execute(query), key=itemgetter(0)):
                    yield [
                        Member(root, seq, up, ref, pickle.loads(data))
                        for root, seq, up, ref, data in group
                    ]

    def add_product(self, item: object) -> None:
        """Keep a product.

        Raises:
            CatalogError: there is no room for temporary files.
        """
        self._products.append(item)
        if len(self._products) == ROWS_PER_WRITE:
            self._write()

    def _write(self) -> None:
        with _writing():
            self._db.executemany(_ADD_ROW, self._rows)
            self._db.executemany(_ADD_NAME, self._names.values())
            if self._products:
                data = pickle.dumps(self._products, pickle.HIGHEST_PROTOCOL)
                self._db.execute(_ADD_PRODUCTS, (data,))
        self._rows.clear()
        self._names.clear()
        self._products.clear()

    def drop_rows(self) -> None:
        """Forget the rows, now that the products are there.

        Raises:
            CatalogError: there is no room for temporary files.
        """
        self._write()
        tables = ("rows", "links", "names", "children", "members")
        with _writing():
            self._db.executescript(";".join(f"DROP TABLE {table}" for table in tables))

    def products(self) -> Iterator[Any]:
        """The products, in the order in which they were added."""
        for (data,) in self._db.execute("SELECT items FROM products ORDER BY seq"):
            yield from pickle.loads(data)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        message = f"no room for temporary files ({exc}); make some, or set TMPDIR to another disk"
        raise CatalogError(message) from exc
