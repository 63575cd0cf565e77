"""Reading a store in PostgreSQL: nearest vectors, words, pages, changes.

A row holds its vector in half precision, and in full precision out of line. The halves, and a graph
over them (HNSW), propose candidates. These are ranked by the full vectors, so scores are exact. A
store of a smaller form has the halves only; its graph is over them, or over their signs.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from jaxtyping import Float32

from fashionclip.errors import StoreError, StoreFormatError
from fashionclip.product import Hit, Product, Value
from fashionclip.store.base import (
    LOCK_TIMEOUT_S,
    Changes,
    Rows,
    Sort,
    StoreInfo,
    StoreMeta,
    VerifyReport,
)
from fashionclip.store.digests import StoredDigests, checksum, row_digest
from fashionclip.store.filters import RESERVED, Filter, fit_filter, to_postgres
from fashionclip.store.postgres import schema
from fashionclip.store.postgres.connections import (
    EF_SEARCH,
    Address,
    Connection,
    Connections,
    read_address,
    read_vector,
)
from fashionclip.store.postgres.images import PostgresImages
from fashionclip.store.postgres.migrations import migrate
from fashionclip.store.postgres.pages import parts_of
from fashionclip.store.postgres.schema import Header, quoted
from fashionclip.store.postgres.words import ranking
from fashionclip.store.postgres.writer import PostgresWriter, writing
from fashionclip.store.rows import (
    ARROW_TYPES,
    check_columns,
    check_dim,
    check_k,
    clean_text,
    table_of,
    unit_queries,
)

IDS_PER_QUERY = 5_000
SCAN_ROWS = 2_048
RERANKED = 6
"""Candidates beyond k that are ranked by their full vectors: the graph's are rounded."""
RERANKED_PER_HIT, MIN_RERANKED, MAX_RERANKED = 100, 400, 2_000
"""The same where the graph is over signs only: for each hit, and in all."""
MAX_EF_SEARCH = 1_000  # pgvector's own limit
MAX_COMPARED = 2_000
"""Products that pass a filter, up to which all are compared: exact, and sooner than the graph."""
_GRAPH_FIRST = ("enable_sort", "enable_indexscan")
"""What the planner may not use: without sorting it takes the graph; without an ordered index, which
is the second try where the graph found too few that pass a filter, it compares all that pass."""
_DISTANCE = "greatest(-1, least(1, _vector::vector <#> %s)) AS _distance"
SIMILAR_FROM = 500  # ids among which similar ones are looked for
_FOLDING = ("pg_c_utf8", "und-x-icu")
"""Collations that fold the case of any letter; whichever the server has."""


def holds_store(uri: str) -> bool:
    """Whether there is a store under a URI.

    Raises:
        StoreError: the server cannot be reached.
    """
    address = read_address(uri)
    connections = Connections(address)
    try:
        return connections.read(lambda connection: schema.holds_store(connection, address))
    finally:
        connections.close()


class PostgresStore:
    """Vectors and products in PostgreSQL; see ``Store``."""

    def __init__(self, connections: Connections) -> None:
        """Read by some connections; use ``open`` or ``create``."""
        self._connections = connections
        self._address: Address = connections.address
        self._table = f"{quoted(self._address.store)}.products"
        self._images = PostgresImages(connections)
        self._writing = threading.local()
        self._folding: str | None = None

    def __repr__(self) -> str:
        """Kind and address, without the password."""
        return f"<PostgresStore {self._address.shown}>"

    @classmethod
    def open(cls, uri: str, *, read_only: bool = False) -> "PostgresStore":
        """Open a store, and migrate it where an older version made it.

        Raises:
            StoreError: there is none, or the server cannot be reached.
            StoreFormatError: a newer version of this package wrote it, or an older one and it is
                only read.
        """
        address = read_address(uri)
        connections = Connections(address)
        version = connections.read(lambda connection: schema.check_version(connection, address))
        if version < schema.newest_version() and read_only:
            message = (
                f"the index {address.shown} has the format of an older fashionclip: run "
                f"'fashionclip info {address.shown}' once as a user who may change it"
            )
            raise StoreFormatError(message)
        if version < schema.newest_version():
            with connections.lent("migrating it") as connection:
                migrate(connection, address)
        return cls(connections)

    @classmethod
    def create(cls, uri: str, meta: StoreMeta) -> "PostgresStore":
        """Make an empty store.

        Raises:
            StoreError: there is one already, other tables are in its place, it cannot be made, or
                pgvector has no such form of vectors.
        """
        address = read_address(uri)
        if meta.vectors == "int8":
            message = (
                f"{address.shown} cannot keep vectors as int8, which pgvector does not have: "
                "add --vectors half, which keeps the same vectors, or --vectors binary"
            )
            raise StoreError(message)
        connections = Connections(address)
        with connections.lent("making it") as connection:
            schema.install_pgvector(connection)
        connections.close()
        with connections.lent("making it") as connection:
            schema.create_tables(connection, address, meta)
        return cls(connections)

    @property
    def meta(self) -> StoreMeta:
        """Model, roles and columns, as of now."""
        return self._header().meta

    @property
    def revision(self) -> int:
        """A number that grows with every write."""
        return self._header().revision

    @property
    def blobs(self) -> PostgresImages:
        """Images kept with the store."""
        return self._images

    def __len__(self) -> int:
        """Products stored."""
        return self.count()

    def nearest(
        self,
        vectors: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        where: Filter | Sequence[Filter | None] | None = None,
        exact: bool | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The k products closest to each vector; see the contract.

        Raises:
            ValueError: k is below 1; a vector is zero or not finite.
            ModelMismatchError: the vectors have not the store's dimension.
            FilterError: a filter names a column that is gone.
            StoreError: there is no such column.
        """
        check_k(k)
        filters = where if isinstance(where, Sequence) else [where] * len(vectors)

        def work(connection: Connection) -> list[list[Hit]]:
            header = schema.read_header(connection, self._address)
            check_dim(vectors, dim=header.meta.dim, model=header.meta.model, uri=header.meta.uri)
            return [
                self._nearest(connection, header, query, k, one, exact, columns)
                for query, one in zip(unit_queries(vectors), filters, strict=True)
            ]

        return self._connections.read(work)

    def _nearest(
        self,
        connection: Connection,
        header: Header,
        query: Float32[np.ndarray, " dim"],
        k: int,
        where: Filter | None,
        exact: bool | None,
        carried: Sequence[str] | None,
    ) -> list[Hit]:
        condition, values = self._condition(connection, header, where)
        columns = self._columns(header, carried)
        is_compared = (
            header.is_approximate
            and not exact
            and condition
            and self._estimate(connection, condition, values) < MAX_COMPARED
        )
        is_binary = header.meta.vectors == "binary"
        if header.is_approximate and not exact and not (is_compared and is_binary):
            near, n_near = _nearness(header.meta), _n_candidates(header.meta, k)
            query_text = (
                f"WITH near AS MATERIALIZED (SELECT _id, _vector{columns} FROM {self._table}"
                f"{condition} ORDER BY {near} LIMIT %s)"
                f" SELECT _id, {_DISTANCE}{columns} FROM near"
                " ORDER BY _distance, _id LIMIT %s"
            )
            parameters = [*values, query, n_near, query, k]
            ef_search = min(n_near, MAX_EF_SEARCH) if is_binary else EF_SEARCH
            for ruled_out in ("enable_indexscan",) if is_compared else _GRAPH_FIRST:
                with connection.transaction():
                    connection.execute(
                        f"SET LOCAL {ruled_out} = off; SET LOCAL hnsw.ef_search = {ef_search}"
                    )
                    found = connection.execute(query_text, parameters, binary=True).fetchall()
                if len(found) == k:
                    break
            return _hits(header, carried, found)
        found = connection.execute(
            f"SELECT _id, {_DISTANCE}{columns} FROM {self._table}{condition}"
            " ORDER BY _distance, _id LIMIT %s",
            [query, *values, k],
            binary=True,
        ).fetchall()
        return _hits(header, carried, found)

    def _estimate(self, connection: Connection, condition: str, values: Sequence[Any]) -> int:
        """How many products pass a filter, as the planner guesses from its samples."""
        query = f"EXPLAIN (FORMAT JSON) SELECT FROM {self._table}{condition}"
        row = connection.execute(query, values).fetchone()
        return 0 if row is None else int(row[0][0]["Plan"]["Plan Rows"])

    def text_search(
        self,
        text: str,
        *,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """The k products whose words match those of a text best, by BM25.

        Raises:
            ValueError: k is below 1.
            FilterError: the filter names a column that is gone.
            StoreError: there is no such column.
        """
        check_k(k)

        def work(connection: Connection) -> list[Hit]:
            header = schema.read_header(connection, self._address)
            carried = self._columns(header, columns)
            name = quoted(self._address.store)
            self._condition(connection, header, where)  # a filter that does not fit is refused
            rank = ranking(connection, name, clean_text(text), k=k)
            if rank is None:
                return []
            products = f"JOIN {self._table} USING (_id)"
            found: list[Any] = []
            for one in rank.rounds:
                condition, values = self._condition(
                    connection, header, where, "_words @@ %s::tsquery", [one.words]
                )
                found = connection.execute(
                    f"WITH best AS MATERIALIZED (SELECT _id, -({rank.score}) AS _distance"
                    f" FROM {name}.texts {products if where else ''}{condition}"
                    " ORDER BY _distance, _id LIMIT %s)"
                    f" SELECT _id, _distance{carried} FROM best {products if carried else ''}"
                    " ORDER BY _distance, _id",
                    [*rank.values, *values, k],
                    binary=True,
                ).fetchall()
                if len(found) == k and -found[-1][1] >= one.enough:
                    break
            return _hits(header, columns, found)

        return self._connections.read(work)

    def count(self, where: Filter | None = None, *, distinct: str | None = None) -> int:
        """How many products pass a filter; those that share a value of a column count once.

        Raises:
            FilterError: the filter names a column that is gone.
        """

        def work(connection: Connection) -> int:
            header = schema.read_header(connection, self._address)
            condition, values = self._condition(connection, header, where)
            counted = "count(*)"
            if distinct is not None:
                column = self._columns(header, [distinct]).removeprefix(", ")
                counted = f"count(DISTINCT {column}) + count(*) FILTER (WHERE {column} IS NULL)"
            return _number(connection, f"SELECT {counted} FROM {self._table}{condition}", values)

        return self._connections.read(work)

    def values(self, column: str, *, k: int) -> list[Value]:
        """Up to k values of a column, each once, the most frequent first.

        Raises:
            StoreError: there is no such column.
        """

        def work(connection: Connection) -> list[Value]:
            header = schema.read_header(connection, self._address)
            name = self._columns(header, [column]).removeprefix(", ")
            found = connection.execute(
                f"SELECT {name} FROM {self._table} WHERE {name} IS NOT NULL GROUP BY {name}"
                f" ORDER BY count(*) DESC, {name} LIMIT %s",
                [k],
            ).fetchall()
            return [value for (value,) in found]

        return self._connections.read(work)

    def list_hits(
        self,
        *,
        k: int,
        offset: int = 0,
        where: Filter | None = None,
        sort: Sort | None = None,
        after: tuple[Value, str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Products that pass a filter, in the order of their ids or as sorted: a page.

        Raises:
            FilterError: the filter names a column that is gone.
            StoreError: there is no such column.
            ValueError: the value to go on after is none of the sorted column's kind.
        """

        def work(connection: Connection) -> list[Hit]:
            header = schema.read_header(connection, self._address)
            check_columns([sort.column] if sort else [], header.meta.columns, header.meta.uri)
            found: list[Any] = []
            skipped = offset
            for part in parts_of(header, sort, after):
                condition, values = self._condition(
                    connection, header, where, part.condition, part.values
                )
                some = connection.execute(
                    f"SELECT _id, -1.0::float8{self._columns(header, columns)} FROM {self._table}"
                    f"{condition} ORDER BY {part.order} LIMIT %s OFFSET %s",
                    [*values, k - len(found), skipped],
                    binary=True,
                ).fetchall()
                found += some
                if len(found) == k:
                    break
                if skipped and not some:
                    count = f"SELECT count(*) FROM {self._table}{condition}"
                    skipped -= _number(connection, count, values)
                else:
                    skipped = 0
            return _hits(header, columns, found)

        return self._connections.read(work)

    def sample(self, n: int) -> Rows:
        """Up to n products, spread evenly over the ids, with their vectors."""

        def work(connection: Connection) -> Rows:
            header = schema.read_header(connection, self._address)
            found = connection.execute(
                self._select_rows(header, vectors=True, columns=False) + " WHERE _id IN"
                " (SELECT _id FROM (SELECT _id, row_number() OVER (ORDER BY _id) AS place,"
                f" count(*) OVER () AS n FROM {self._table}) AS numbered"
                # true n times: where the rounded product grows
                " WHERE place * %s / n > (place - 1) * %s / n) ORDER BY _id",
                [n, n],
                binary=True,
            ).fetchall()
            return _rows(header, found, vectors=True, columns=False)

        return self._connections.read(work)

    def fetch(
        self, product_ids: Sequence[str], *, vectors: bool = True, columns: bool = True
    ) -> Rows:
        """Those of some products that are stored; without damaged ones if vectors are wanted."""
        wanted = list(dict.fromkeys(map(clean_text, product_ids)))

        def work(connection: Connection) -> Rows:
            header = schema.read_header(connection, self._address)
            found: list[Any] = []
            for start in range(0, len(wanted), IDS_PER_QUERY):
                found += connection.execute(
                    self._select_rows(header, vectors, columns) + " WHERE _id = ANY(%s)",
                    [wanted[start : start + IDS_PER_QUERY]],
                    binary=True,
                ).fetchall()
            return _rows(header, found, vectors=vectors, columns=columns)

        return self._connections.read(work)

    def scan(self, *, vectors: bool = True, columns: bool = True) -> Iterator[Rows]:
        """Every product, in batches, as of one revision; damaged vectors are left out."""
        for header, found in self._scan(lambda head: self._select_rows(head, vectors, columns)):
            yield _rows(header, found, vectors=vectors, columns=columns)

    def digests(self) -> StoredDigests:
        """Content keys and row digests of what is stored."""
        select = f"SELECT _id, _key, _row FROM {self._table}"
        return StoredDigests(row for _, found in self._scan(lambda _: select) for row in found)

    def changes_since(self, revision: int) -> Changes | None:
        """What changed since a revision; None if the log does not reach back so far."""

        def work(connection: Connection) -> Changes | None:
            header = schema.read_header(connection, self._address)
            if not header.changes_from <= revision <= header.revision:
                return None
            found = connection.execute(
                f"SELECT DISTINCT ON (id) id, is_deleted FROM {quoted(self._address.store)}.changes"
                " WHERE revision > %s AND revision <= %s ORDER BY id, revision DESC",
                [revision, header.revision],
            ).fetchall()
            deleted = frozenset(name for name, is_deleted in found if is_deleted)
            upserted = frozenset(name for name, is_deleted in found if not is_deleted)
            return Changes(header.revision, upserted, deleted)

        return self._connections.read(work)

    def similar_ids(self, product_id: str) -> list[str]:
        """Up to three stored ids that are spelled like one that is not stored."""
        start = clean_text(product_id[: max(1, len(product_id) // 2)])

        def work(connection: Connection) -> list[str]:
            near = connection.execute(
                f"(SELECT _id FROM {self._table} WHERE _id >= %s AND starts_with(_id, %s)"
                f" ORDER BY _id LIMIT %s) UNION (SELECT _id FROM {self._table} ORDER BY _id LIMIT"
                " %s)",
                [start, start, SIMILAR_FROM, SIMILAR_FROM],
            ).fetchall()
            return get_close_matches(product_id, [name for (name,) in near], n=3, cutoff=0.5)

        return self._connections.read(work)

    @contextmanager
    def writer(
        self, *, timeout_s: float = LOCK_TIMEOUT_S, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[PostgresWriter]:
        """Be the only writer while the block runs; re-entrant within a thread.

        Raises:
            StoreLockedError: another writer was still at work after the wait.
        """
        outer: PostgresWriter | None = getattr(self._writing, "writer", None)
        if outer is not None:
            yield outer
            return
        with writing(self._connections, timeout_s=timeout_s, on_wait=on_wait) as writer:
            self._writing.writer = writer
            try:
                yield writer
            finally:
                self._writing.writer = None

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Compare every row with its checksums; ``repair`` deletes bad rows, rebuilds indexes.

        Raises:
            StoreCorruptError: the tables cannot even be read.
        """
        n_checked, damaged = 0, []

        def select(header: Header) -> str:
            return (
                f"SELECT _id, _caption, _image, _row, _crc, _vector::vector{self._columns(header)}"
                f" FROM {self._table}"
            )

        for header, found in self._scan(select):
            kinds = header.meta.columns
            for name, caption, image, digest, crc, vector, *values in found:
                product = Product(name, caption, image, 0, dict(zip(kinds, values, strict=True)))
                is_same = checksum(name, read_vector(vector)) == crc
                if not is_same or digest not in {None, row_digest(product, kinds)}:
                    damaged.append(name)
            n_checked += len(found)
        n_removed = 0
        if repair:
            with self.writer() as writer:
                n_removed = writer.delete(damaged)
                writer.rebuild()
        return VerifyReport(n_checked, tuple(damaged), n_removed)

    def info(self) -> StoreInfo:
        """The store in figures."""

        def work(connection: Connection) -> StoreInfo:
            header = schema.read_header(connection, self._address)
            size = _number(
                connection,
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN"
                " pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relkind = 'r'",
                [self._address.store],
            )
            n_products = _number(connection, f"SELECT count(*) FROM {self._table}", [])
            return StoreInfo(header.meta, n_products, size, header.is_approximate)

        return self._connections.read(work)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _header(self) -> Header:
        return self._connections.read(lambda one: schema.read_header(one, self._address))

    def _columns(self, header: Header, wanted: Sequence[str] | None = None) -> str:
        """Columns as a SELECT lists them after others; None for all."""
        names = header.stored_names
        check_columns(wanted or (), names, header.meta.uri)
        return "".join(f", {quoted(names[name])}" for name in (names if wanted is None else wanted))

    def _select_rows(self, header: Header, vectors: bool, columns: bool) -> str:
        wanted = ", _crc, _vector::vector" if vectors else ", NULL, NULL"
        own = self._columns(header) if columns else ""
        return f"SELECT _id, _caption, _image, _key{wanted}{own} FROM {self._table}"

    def _condition(
        self,
        connection: Connection,
        header: Header,
        where: Filter | None,
        first: str = "",
        first_values: Sequence[Any] = (),
    ) -> tuple[str, list[Any]]:
        """A WHERE clause, empty or with a blank before it, and its values."""
        if where is None:
            return (f" WHERE {first}" if first else ""), [*first_values]
        fitting = fit_filter(where, header.meta.columns, header.meta.roles)

        def column(name: str) -> str:
            is_own = name not in header.stored_names and name in RESERVED
            stored = f"_{name}" if is_own else header.stored_names[name]
            return '"' + stored.replace('"', '""') + '"'

        written, values = to_postgres(fitting, column, collation=self._collation(connection))
        return f" WHERE {first and first + ' AND '}{written}", [*first_values, *values]

    def _collation(self, connection: Connection) -> str | None:
        """The quoted collation that folds letter case; None where the server has none."""
        if self._folding is None:
            row = connection.execute(
                "SELECT collname FROM pg_collation WHERE collname = ANY(%s)"
                " ORDER BY array_position(%s, collname::text) LIMIT 1",
                [list(_FOLDING), list(_FOLDING)],
            ).fetchone()
            self._folding = "" if row is None else f'"{row[0]}"'
        return self._folding or None

    def _scan(self, select: Callable[[Header], str]) -> Iterator[tuple[Header, list[Any]]]:
        """The rows of a query over the whole table, in batches, as of one revision."""
        with self._connections.lent("reading it") as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # before the first look: a table that is being rewritten would seem empty
            connection.execute(f"LOCK TABLE {self._table} IN ACCESS SHARE MODE", [])
            header = schema.read_header(connection, self._address)
            with psycopg.ServerCursor(connection, "scan") as cursor:
                cursor.execute(select(header), [], binary=True)
                while found := cursor.fetchmany(SCAN_ROWS):
                    yield header, found


def _nearness(meta: StoreMeta) -> str:
    """The distance that the graph orders by, from a query that is the next parameter."""
    key, _ = schema.graph_key(meta)
    half = f"%s::halfvec({meta.dim})"
    if meta.vectors == "binary":
        return f"{key} <~> binary_quantize({half})::bit({meta.dim})"
    return f"{key} <#> {half}"


def _n_candidates(meta: StoreMeta, k: int) -> int:
    """How many products are ranked by their vectors."""
    if meta.vectors == "binary":
        return max(k + RERANKED, min(MAX_RERANKED, max(MIN_RERANKED, RERANKED_PER_HIT * k)))
    return k + RERANKED


def _hits(header: Header, columns: Sequence[str] | None, found: Iterable[Any]) -> list[Hit]:
    """Rows of id, negative score and columns as hits; None for all columns."""
    names = tuple(header.stored_names if columns is None else columns)
    return [Hit(row[0], -row[1], dict(zip(names, row[2:], strict=True))) for row in found]


def _rows(header: Header, found: Sequence[Any], *, vectors: bool, columns: bool) -> Rows:
    """Rows of ``_select_rows``, less those whose vector fails its checksum."""
    matrix = None
    if vectors:
        stored = [read_vector(row[5]) for row in found]
        is_whole = [
            checksum(row[0], vector) == row[4] for row, vector in zip(found, stored, strict=True)
        ]
        found = [row for row, is_good in zip(found, is_whole, strict=True) if is_good]
        good = [vector for vector, is_good in zip(stored, is_whole, strict=True) if is_good]
        matrix = np.stack(good) if good else np.empty((0, header.meta.dim), np.float32)
    kinds = header.meta.columns if columns else {}
    arrays = [
        pa.array([row[i] for row in found], ARROW_TYPES[kind])
        for i, kind in enumerate(kinds.values(), start=6)
    ]
    return Rows(
        ids=[row[0] for row in found],
        captions=[row[1] for row in found],
        images=[row[2] for row in found],
        content_keys=[row[3] for row in found],
        vectors=matrix,
        columns=table_of(arrays, kinds, len(found)),
    )


def _number(connection: Connection, query: str, values: Sequence[Any]) -> int:
    row = connection.execute(query, values).fetchone()
    return 0 if row is None else int(row[0])
