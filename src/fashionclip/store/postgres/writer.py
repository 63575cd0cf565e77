"""Writing a store in PostgreSQL, in one transaction a call, and building its HNSW index.

An advisory lock of the server lets one writer in; it goes with the writer's connection, and so with
its process. Each call advances the revision and logs the ids it touched, for ``changes_since``.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import psycopg
from jaxtyping import Float32

from fashionclip.errors import StoreLockedError
from fashionclip.product import Kind, Product, Roles
from fashionclip.store.base import StoreMeta
from fashionclip.store.digests import checksum, row_digest
from fashionclip.store.postgres import schema, words
from fashionclip.store.postgres.connections import Address, Connection, Connections
from fashionclip.store.postgres.schema import GRAPH, SQL_TYPES, Header, quoted
from fashionclip.store.rows import (
    MAX_EXACT,
    WRITTEN,
    as_kept,
    check_batch,
    clean_text,
    fit,
    image_location,
    kinds_of,
    last_of_each_id,
    narrowed_by,
    widened_by,
)

APPROXIMATE_FROM = 5_000
"""Products from which a graph pays: comparing all of them takes 30 ms, see benchmarks/stores.py."""
GRAPH_M = 16  # links of a vector
GRAPH_EF_CONSTRUCTION = 64  # candidates when a vector is linked
CHANGES_KEPT = "1 day"  # a reader that looks less often reads everything again
DDL_TIMEOUT = "60s"  # for readers to let go of the table
LOCK_POLL_S = 0.1
RELOCK_TIMEOUT_S = 10.0  # until the server notices that a connection is gone
MAX_FILTERED_WIDTH = 40  # bytes, on average, of a text column that has an index
MAX_FILTERED_VALUES = 5_000

Result = TypeVar("Result")
_OWN = ("_id", "_caption", "_image", "_key", "_row", "_crc", "_vector")


@contextmanager
def writing(
    connections: Connections, *, timeout_s: float, on_wait: Callable[[str], None] | None
) -> Iterator["PostgresWriter"]:
    """Hold the store's lock.

    Raises:
        StoreLockedError: another writer was still at work after the wait.
    """
    with connections.reported("waiting for it"):
        connection = connections.take()
        try:
            _lock(connection, connections.address, timeout_s=timeout_s, on_wait=on_wait)
        except BaseException:
            connections.give_back(connection)
            raise
    writer = PostgresWriter(connections, connection)
    try:
        yield writer
    finally:
        writer.let_go()


def _lock(
    connection: Connection,
    address: Address,
    *,
    timeout_s: float,
    on_wait: Callable[[str], None] | None,
) -> None:
    key = int.from_bytes(
        blake2b(address.store.encode(), digest_size=8).digest(), "big", signed=True
    )
    give_up = time.monotonic() + timeout_s
    is_waiting = False
    while not _try_lock(connection, key):
        if not is_waiting and on_wait is not None:
            on_wait(_holder(connection, key))
        is_waiting = True
        if timeout_s >= 0 and time.monotonic() >= give_up:
            message = (
                f"the index {address.shown} is being written to by {_holder(connection, key)}: "
                "wait for it to end"
            )
            raise StoreLockedError(message)
        time.sleep(LOCK_POLL_S)


def _try_lock(connection: Connection, key: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
    return row is not None and bool(row[0])


def _holder(connection: Connection, key: int) -> str:
    """Who has the lock, as the server knows it."""
    row = connection.execute(
        "SELECT application_name, usename, to_char(backend_start, 'HH24:MI') FROM pg_locks l"
        " JOIN pg_stat_activity a USING (pid) WHERE locktype = 'advisory' AND granted"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32) | objid::bigint = %s LIMIT 1",
        [key],
    ).fetchone()
    if row is None:
        return "another client"
    name, user, since = row
    return f"{name or 'another client'} (user {user}, connected since {since})"


class PostgresWriter:
    """The one writer of a store; see ``Writer``."""

    def __init__(self, connections: Connections, connection: Connection) -> None:
        """Write by a connection that holds the lock."""
        self._connections = connections
        self._connection = connection
        self._address = connections.address
        self._schema = quoted(self._address.store)

    def let_go(self) -> None:
        """Release the lock."""
        if not self._connection.closed:
            try:
                self._connection.execute("SELECT pg_advisory_unlock_all()")
            except psycopg.Error:
                self._connection.close()
        self._connections.give_back(self._connection)

    def upsert(
        self,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        content_keys: Sequence[bytes],
    ) -> None:
        """Store products, replacing those of the same ids.

        Raises:
            ValueError: lengths differ, a vector is not finite or not of unit length, or a key has
                not 16 bytes.
            ModelMismatchError: the vectors have not the store's dimension.
            StoreFullError: the server's disk is full.
        """

        def work() -> None:
            header = self._header()
            meta = header.meta
            check_batch(
                products, vectors, content_keys, dim=meta.dim, model=meta.model, uri=meta.uri
            )
            if products:
                header = self._with_columns(header, kinds_of(products))
                self._copy(header, products, vectors, content_keys)
                self._merge(header)

        self._run(work, "writing products")

    def delete(self, product_ids: Iterable[str]) -> int:
        """Delete products; ids that are not stored are ignored. Returns how many were stored."""
        ids = list(dict.fromkeys(map(clean_text, product_ids)))

        def work() -> int:
            found = self._execute(
                f"WITH gone AS (DELETE FROM {self._schema}.products WHERE _id = ANY(%s)"
                f" RETURNING _id) INSERT INTO {self._schema}.changes (revision, id, is_deleted)"
                f" SELECT revision + 1, _id, true FROM gone, {self._schema}.store",
                [ids],
            )
            words.remove(self._connection, self._schema, ids)
            if found.rowcount:
                self._advance()
            return found.rowcount

        return self._run(work, "deleting products", is_repeatable=False) if ids else 0

    def set_columns(self, columns: Mapping[str, Kind], *, narrow: bool = False) -> None:
        """Add columns that are new, widen those that are too narrow, and narrow them if asked."""

        def work() -> None:
            header = self._header()
            changed = self._with_columns(header, columns)
            if narrow:
                changed = self._changed(changed, self._narrower(changed, columns))
            if changed is not header:
                self._advance()

        self._run(work, "changing columns")

    def drop_blank(self, names: Iterable[str]) -> None:
        """Remove those of some columns in which no product has a value."""

        def work() -> None:
            header = self._header()
            kinds, stored = dict(header.meta.columns), header.stored_names
            table = f"{self._schema}.products"
            blank = [
                name
                for name in names
                if name in kinds
                and not self._number(
                    f"SELECT count(*) FROM {table} WHERE {quoted(stored[name])} IS NOT NULL", []
                )
            ]
            if not blank:
                return
            self._execute(f"SET LOCAL lock_timeout = '{DDL_TIMEOUT}'", [])
            dropped = ", ".join(f"DROP COLUMN {quoted(stored[name])}" for name in blank)
            self._execute(f"ALTER TABLE {table} {dropped}", [])
            kept = {name: kind for name, kind in kinds.items() if name not in blank}
            written = schema.columns_json(kept, stored)
            self._execute(f"UPDATE {self._schema}.store SET columns = %s", [written])
            self._advance()

        self._run(work, "removing columns")

    def set_roles(self, roles: Roles) -> None:
        """Replace the roles, and the words that products are found by."""

        def work() -> None:
            if self._header().meta.roles != roles:
                written = json.dumps(roles.as_dict())
                self._execute(f"UPDATE {self._schema}.store SET roles = %s", [written])
                words.fill(self._connection, self._schema, self._header())
                self._advance()

        self._run(work, "changing roles")

    def set_relevance_threshold(self, threshold: float | None) -> None:
        """Replace the relevance threshold."""

        def work() -> None:
            if self._header().meta.relevance_threshold != threshold:
                self._execute(
                    f"UPDATE {self._schema}.store SET relevance_threshold = %s", [threshold]
                )
                self._advance()

        self._run(work, "changing the relevance threshold")

    def optimize(self, *, is_finished: bool = True) -> None:
        """Update what the planner knows, and build the indexes that the size asks for."""
        self._run(self._forget_changes, "tidying it")
        self._run(self._analyze, "tidying it")
        self._run(lambda: words.tidy(self._connection, self._schema), "tidying it")
        if is_finished:
            self._run(self._index, "building its indexes")

    def rebuild(self) -> None:
        """Build every index and the words anew, trusting nothing of them."""

        def work() -> None:
            for table in ("products", "texts", "words"):
                self._execute(f"REINDEX TABLE {self._schema}.{table}", [])
            words.fill(self._connection, self._schema, self._header())

        self._run(work, "building its indexes")

    def _copy(
        self,
        header: Header,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        content_keys: Sequence[bytes],
    ) -> None:
        """Send products into a table of this transaction."""
        kinds = header.meta.columns
        columns = [quoted(name) for name in header.stored_names.values()]
        types: list[int | str] = ["text", "text", "text", "bytea", "bytea", "int8"]
        types += [self._vector_oid(), *(_COPY_TYPES[kind] for kind in kinds.values()), "text[]"]
        names = ", ".join([*_OWN[:-1], "_vector::vector AS _vector", *columns])
        self._execute(
            f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {names}, '{{}}'::text[] AS _words"
            f" FROM {self._schema}.products WITH NO DATA",
            [],
        )
        with (
            self._connection.cursor() as cursor,
            cursor.copy("COPY incoming FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(types)
            kept = as_kept(vectors, header.meta.vectors)
            for name, i in last_of_each_id(products).items():
                product, vector = products[i], kept[i]
                stored = {one: fit(product.columns.get(one), kind) for one, kind in kinds.items()}
                caption = clean_text(product.caption)
                cleaned = Product(name, caption, None, product.row, stored)
                copy.write_row(
                    [
                        name,
                        caption,
                        image_location(product),
                        content_keys[i],
                        row_digest(product, kinds),
                        checksum(name, vector),
                        vector,
                        *stored.values(),
                        words.indexed_words(cleaned, header.meta.roles),
                    ]
                )

    def _merge(self, header: Header) -> None:
        """Take what was sent into the table. An unchanged vector stays where it is."""
        columns = [quoted(name) for name in header.stored_names.values()]
        names = [*_OWN, *columns]
        changes = [f"{name} = EXCLUDED.{name}" for name in names if name not in {"_id", "_vector"}]
        changes.append(
            "_vector = CASE WHEN stored._crc = EXCLUDED._crc THEN stored._vector"
            " ELSE EXCLUDED._vector END"
        )
        self._execute(
            f"INSERT INTO {self._schema}.products AS stored ({', '.join(names)})"
            f" SELECT {', '.join(names)} FROM incoming"
            f" ON CONFLICT (_id) DO UPDATE SET {', '.join(changes)}",
            [],
        )
        words.add(self._connection, self._schema, "incoming")
        self._execute(
            f"INSERT INTO {self._schema}.changes (revision, id, is_deleted)"
            f" SELECT revision + 1, _id, false FROM incoming, {self._schema}.store",
            [],
        )
        self._advance()

    def _with_columns(self, header: Header, wanted: Mapping[str, Kind]) -> Header:
        """The header once there is room for some columns; the same one if there is already."""
        return self._changed(header, widened_by(header.meta.columns, wanted))

    def _narrower(self, header: Header, wanted: Mapping[str, Kind]) -> dict[str, Kind]:
        """The wanted columns that can be narrower than they are."""
        kinds, table = header.meta.columns, f"{self._schema}.products"
        return {
            name: kind
            for name, kind in narrowed_by(kinds, wanted).items()
            if not self._number(
                f"SELECT count(*) FROM {table} WHERE "
                + _forbids(quoted(header.stored_names[name]), kinds[name], kind),
                [],
            )
        }

    def _changed(self, header: Header, changed: Mapping[str, Kind]) -> Header:
        """The header once some columns are added, or have other kinds."""
        kinds = header.meta.columns
        if not changed:
            return header
        self._execute(f"SET LOCAL lock_timeout = '{DDL_TIMEOUT}'", [])
        names = dict(header.stored_names)
        for name, kind in changed.items():
            if name not in kinds:
                taken = set(names.values())
                stored = (schema.stored_name(name, i) for i in range(len(names) + 1))
                names[name] = next(one for one in stored if one not in taken)
                schema.add_column(self._connection, self._schema, names[name], kind)
        rewritten = [name for name in changed if name in kinds]
        if rewritten:
            # every row is written anew, so the graph would be built within this transaction
            self._execute(f"DROP INDEX IF EXISTS {self._schema}.{GRAPH}", [])
            changes = [
                f"ALTER COLUMN {quoted(names[name])} TYPE {SQL_TYPES[changed[name]]} USING "
                + _converted(quoted(names[name]), kinds[name], changed[name])
                for name in rewritten
            ]
            changes.append("ALTER COLUMN _row TYPE bytea USING NULL")
            self._execute(f"ALTER TABLE {self._schema}.products {', '.join(changes)}", [])
            self._execute(f"UPDATE {self._schema}.store SET changes_from = revision + 1", [])
        written = schema.columns_json({**kinds, **changed}, names)
        self._execute(f"UPDATE {self._schema}.store SET columns = %s", [written])
        header = self._header()
        if rewritten:  # numbers and text of the same value may have other words
            words.fill(self._connection, self._schema, header)
        return header

    def _forget_changes(self) -> None:
        self._execute(
            f"WITH old AS (DELETE FROM {self._schema}.changes WHERE written < now() -"
            f" interval '{CHANGES_KEPT}' RETURNING revision) UPDATE {self._schema}.store SET"
            " changes_from = greatest(changes_from, (SELECT max(revision) FROM old))",
            [],
        )

    def _analyze(self) -> None:
        self._execute(f"ANALYZE {self._schema}.products", [])

    def _index(self) -> None:
        """Build the indexes that the table is large enough for and lacks."""
        header = self._header()
        n_products = self._number(f"SELECT count(*) FROM {self._schema}.products", [])
        if n_products < APPROXIMATE_FROM:
            return
        for name in self._filtered(header):
            method = "hash" if header.meta.columns[name] == "string" else "btree"
            stored = quoted(header.stored_names[name])
            self._execute(f"CREATE INDEX ON {self._schema}.products USING {method} ({stored})", [])
        if not header.is_approximate:
            self._build_graph(header.meta, n_products)

    def _filtered(self, header: Header) -> list[str]:
        """Columns without an index that filters are quicker with: numbers, and short texts."""
        rows = self._execute(
            "SELECT s.attname, s.n_distinct, s.avg_width FROM pg_stats s WHERE schemaname = %s"
            " AND tablename = 'products' AND NOT EXISTS (SELECT 1 FROM pg_index i JOIN"
            " pg_attribute a ON a.attrelid = i.indexrelid WHERE i.indrelid = %s::regclass"
            " AND a.attname = s.attname)",
            [self._address.store, f"{self._schema}.products"],
        ).fetchall()
        stats = {name: (n_distinct, width) for name, n_distinct, width in rows}
        found = []
        for name, kind in header.meta.columns.items():
            n_distinct, width = stats.get(header.stored_names[name], (0, 0))
            is_short = 2 < n_distinct <= MAX_FILTERED_VALUES and width <= MAX_FILTERED_WIDTH
            if n_distinct and (kind in {"integer", "number"} or (kind == "string" and is_short)):
                found.append(name)
        return found

    def _build_graph(self, meta: StoreMeta, n_products: int) -> None:
        key, distances = schema.graph_key(meta)
        megabytes = 64 + n_products * (2 * meta.dim + 16 * GRAPH_M) * 3 // 2 // 2**20
        memory = f"SET LOCAL maintenance_work_mem = '{min(megabytes, 4096)}MB'"
        create = (
            f"CREATE INDEX {GRAPH} ON {self._schema}.products USING hnsw"
            f" ({key} {distances})"
            f" WITH (m = {GRAPH_M}, ef_construction = {GRAPH_EF_CONSTRUCTION})"
        )
        try:
            with self._connection.transaction():
                self._execute(memory, [])
                self._execute(create, [])
        except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory):
            # workers share memory in /dev/shm, of which a container has little
            with self._connection.transaction():
                self._execute("SET LOCAL max_parallel_maintenance_workers = 0", [])
                self._execute(memory, [])
                self._execute(create, [])

    def _run(self, work: Callable[[], Result], doing: str, *, is_repeatable: bool = True) -> Result:
        """Do something in one transaction.

        Args:
            work: what to do, on this writer's connection.
            doing: the same, for messages.
            is_repeatable: it comes to the same if it is done twice, so that it is done again where
                the connection is lost, and with it the answer whether it was done.

        Raises:
            StoreError: it failed.
        """  # noqa: DOC501
        with self._connections.reported(doing):
            self._require_lock()
            try:
                with self._connection.transaction():
                    return work()
            except psycopg.OperationalError:
                if not (is_repeatable and self._connection.closed):
                    raise
            self._require_lock()
            with self._connection.transaction():
                return work()

    def _require_lock(self) -> None:
        """Take the lock again where it went with a lost connection."""
        if not self._connection.closed:
            return
        connection = self._connections.open()
        try:
            _lock(connection, self._address, timeout_s=RELOCK_TIMEOUT_S, on_wait=None)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _vector_oid(self) -> int:
        return self._number("SELECT 'vector'::regtype::oid", [])

    def _header(self) -> Header:
        return schema.read_header(self._connection, self._address)

    def _advance(self) -> None:
        self._execute(f"UPDATE {self._schema}.store SET revision = revision + 1", [])

    def _execute(self, query: str, values: Sequence[object]) -> psycopg.Cursor[Any]:
        return self._connection.execute(query, values)

    def _number(self, query: str, values: Sequence[object]) -> int:
        row = self._execute(query, values).fetchone()
        return 0 if row is None else int(row[0])


_COPY_TYPES: Mapping[Kind, str] = {
    "string": "text",
    "integer": "int8",
    "number": "float8",
    "boolean": "bool",
}


def _converted(column: str, old: Kind, new: Kind) -> str:
    """The values of a column in another kind; in a wider one as Python writes them."""
    if new != "string":
        return f"{column}::{SQL_TYPES[new]}"
    if old == "number":
        is_whole = f"{column} = trunc({column}) AND abs({column}) < 1e16"
        return f"CASE WHEN {is_whole} THEN {column}::bigint || '.0' ELSE {column}::text END"
    return f"{column}::text"


def _forbids(column: str, old: Kind, new: Kind) -> str:
    """SQL that is true for the values that a narrower kind cannot hold."""
    if old == "string":
        return f"{column} !~ '{WRITTEN[new]}'"
    return f"{column} <> trunc({column}) OR abs({column}) >= {MAX_EXACT}"
