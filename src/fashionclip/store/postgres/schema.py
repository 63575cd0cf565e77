"""The tables of a store in PostgreSQL: layout, version, migrations, and what is read of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from fashionclip.errors import StoreError, StoreFormatError
from fashionclip.product import Kind, Roles
from fashionclip.store.base import StoreMeta
from fashionclip.store.postgres.connections import Address, Connection

SQL_TYPES: Mapping[Kind, str] = {
    "string": 'text COLLATE "C"',
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
}
GRAPH = "products_graph"
"""The approximate index of the vectors (HNSW)."""
INLINE_BYTES = 768  # of a row, besides its half vector
MAX_INLINE_BYTES = 8160  # a page
MAX_IDENTIFIER_BYTES = 63
SYSTEM_COLUMNS = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")

_LAYOUT = """
CREATE TABLE {schema}.store (
    version integer NOT NULL,
    model text NOT NULL,
    fingerprint text NOT NULL,
    dim integer NOT NULL,
    created text NOT NULL,
    roles text NOT NULL,
    columns text NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    changes_from bigint NOT NULL DEFAULT 0
);
CREATE TABLE {schema}.products (
    _id text COLLATE "C" PRIMARY KEY,
    _caption text COLLATE "C" NOT NULL,
    _image text COLLATE "C",
    _key bytea NOT NULL,
    _row bytea,
    _crc bigint NOT NULL,
    _words tsvector NOT NULL,
    _vector vector({dim}) NOT NULL,
    _half halfvec({dim}) GENERATED ALWAYS AS (_vector::halfvec({dim})) STORED
) WITH (toast_tuple_target = {inline_bytes});
ALTER TABLE {schema}.products ALTER COLUMN _vector SET STORAGE EXTERNAL;
ALTER TABLE {schema}.products ALTER COLUMN _half SET STORAGE {half_storage};
CREATE INDEX ON {schema}.products USING gin (_words);
CREATE TABLE {schema}.changes (
    revision bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    is_deleted boolean NOT NULL,
    written timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON {schema}.changes (revision);
CREATE TABLE {schema}.images (
    product text NOT NULL,
    image text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (product, image)
);
ALTER TABLE {schema}.images ALTER COLUMN data SET STORAGE EXTERNAL;
"""
_WORDS = """
ALTER TABLE {schema}.store ADD COLUMN relevance_threshold double precision;
ALTER TABLE {schema}.products DROP COLUMN _words;
CREATE TABLE {schema}.texts (_id text COLLATE "C" PRIMARY KEY, _words tsvector NOT NULL);
CREATE INDEX ON {schema}.texts USING gin (_words);
CREATE TABLE {schema}.words (
    word text COLLATE "C" PRIMARY KEY,
    n_products bigint NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX ON {schema}.words (length(word)) WHERE word !~ '[0-9]';
DO $$ DECLARE held record; BEGIN
    FOR held IN SELECT privilege_type AS privilege,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS holder
        FROM pg_class, aclexplode(relacl) WHERE oid = '{schema}.products'::regclass
    LOOP EXECUTE format('GRANT %s ON {schema}.texts, {schema}.words TO %s',
        held.privilege, held.holder);
    END LOOP;
END $$;
"""
_FORMS = "ALTER TABLE {schema}.store ADD COLUMN vectors text NOT NULL DEFAULT 'float';"
MIGRATIONS: list[str] = [_WORDS, _FORMS]
"""SQL that takes a store from version i + 1 to version i + 2; ``{schema}`` is its schema."""


_SMALL = """
ALTER TABLE {schema}.products
    DROP COLUMN _half,
    ALTER COLUMN _vector TYPE halfvec({dim}),
    ALTER COLUMN _vector SET STORAGE {half_storage};
"""
"""What makes an empty table one of a smaller form than ``float``: only halves are kept."""


def newest_version() -> int:
    """The version of a store that is made now."""
    return 1 + len(MIGRATIONS)


@dataclass(frozen=True, slots=True)
class Header:
    """The row that describes a store, as it is at one revision."""

    meta: StoreMeta
    stored_names: Mapping[str, str]
    """The column of the table, by the catalogue's name."""
    revision: int
    changes_from: int
    """The oldest revision from which ``changes`` is complete."""
    is_approximate: bool
    """Whether the vectors have a graph."""


def quoted(name: str) -> str:
    """An identifier, for a query that has parameters."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def stored_name(name: str, position: int) -> str:
    """The column of the table for a catalogue's column: of the same name where that can be."""
    try:
        n_bytes = len(name.encode())
    except UnicodeEncodeError:
        n_bytes = 0
    is_good = 0 < n_bytes <= MAX_IDENTIFIER_BYTES and "\0" not in name
    if is_good and not name.startswith("_") and name not in SYSTEM_COLUMNS:
        return name
    return f"_column_{position}"


def columns_json(kinds: Mapping[str, Kind], stored_names: Mapping[str, str]) -> str:
    """Columns as the header keeps them; JSON in ASCII holds any name."""
    return json.dumps([[name, kind, stored_names[name]] for name, kind in kinds.items()])


def read_header(connection: Connection, address: Address) -> Header:
    """Read what describes a store."""
    row = connection.execute(
        "SELECT model, fingerprint, dim, created, roles, columns, revision, changes_from,"
        " relevance_threshold, vectors,"
        f" to_regclass(%s) IS NOT NULL FROM {quoted(address.store)}.store",
        [f"{quoted(address.store)}.{GRAPH}"],
    ).fetchone()
    assert row is not None
    model, fingerprint, dim, created, roles, columns, revision, changes_from, *others = row
    relevance_threshold, form, has_graph = others
    entries = json.loads(columns)
    meta = StoreMeta(
        uri=address.shown,
        model=model,
        fingerprint=fingerprint,
        dim=dim,
        roles=Roles.from_dict(json.loads(roles)),
        columns={name: kind for name, kind, _ in entries},
        created=created,
        relevance_threshold=relevance_threshold,
        vectors=form,
    )
    names = {name: stored for name, _, stored in entries}
    return Header(meta, names, revision, changes_from, has_graph)


def holds_store(connection: Connection, address: Address) -> bool:
    """Whether there is a store of this name."""
    row = connection.execute(
        "SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON"
        " n.oid = relnamespace WHERE nspname = %s AND relname = 'store' AND relkind = 'r' AND"
        " attname = 'changes_from'",  # information_schema leaves out what the user may not read
        [address.store],
    ).fetchone()
    return row is not None


def check_version(connection: Connection, address: Address) -> int:
    """The version of a store.

    Raises:
        StoreError: there is no store.
        StoreFormatError: a newer version of this package wrote it.
    """
    if not holds_store(connection, address):
        message = (
            f"there is no index at {address.shown}: make one with fashionclip index CATALOG --into "
            f"{address.shown}"
        )
        raise StoreError(message)
    row = connection.execute(f"SELECT version FROM {quoted(address.store)}.store", []).fetchone()
    version = 0 if row is None else int(row[0])
    if version > newest_version():
        message = (
            f"the index {address.shown} has format {version} and this fashionclip reads up to "
            f"{newest_version()}: upgrade fashionclip"
        )
        raise StoreFormatError(message)
    return version


def create_tables(connection: Connection, address: Address, meta: StoreMeta) -> None:
    """Make the tables of an empty store, all or none.

    Raises:
        StoreError: there is a store already, or other tables are in its place.
    """
    schema = quoted(address.store)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [address.store])
        if holds_store(connection, address):
            message = f"there is an index at {address.shown} already: open it, or choose another"
            raise StoreError(message)
        row = connection.execute(
            "SELECT array_agg(relname) FROM pg_class c JOIN pg_namespace n ON n.oid ="
            " relnamespace WHERE nspname = %s AND relname IN ('store', 'products', 'changes',"
            " 'images')",
            [address.store],
        ).fetchone()
        if row is not None and row[0]:
            message = (
                f"the schema {address.store} of {address.shown} has tables that are no index "
                f"({', '.join(row[0])}): choose another one with ?store=NAME"
            )
            raise StoreError(message)
        if not _schema_exists(connection, address.store):
            connection.execute(f"CREATE SCHEMA {schema}")
        layout = [_LAYOUT, *MIGRATIONS, *([] if meta.vectors == "float" else [_SMALL])]
        for statements in layout:
            connection.execute(
                statements.format(
                    schema=schema,
                    dim=meta.dim,
                    # beside the half vector, short columns; all else that is long goes elsewhere
                    inline_bytes=min(2 * meta.dim + INLINE_BYTES, MAX_INLINE_BYTES),
                    half_storage="PLAIN" if 2 * meta.dim < MAX_INLINE_BYTES // 2 else "MAIN",
                )
            )
        names = {name: stored_name(name, i) for i, name in enumerate(meta.columns)}
        connection.execute(
            f"INSERT INTO {schema}.store (version, model, fingerprint, dim, created, roles,"
            " columns, relevance_threshold, vectors) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                newest_version(),
                meta.model,
                meta.fingerprint,
                meta.dim,
                datetime.now(UTC).isoformat(timespec="milliseconds"),
                json.dumps(meta.roles.as_dict()),
                columns_json(meta.columns, names),
                meta.relevance_threshold,
                meta.vectors,
            ],
        )
        for name, kind in meta.columns.items():
            add_column(connection, schema, names[name], kind)


def graph_key(meta: StoreMeta) -> tuple[str, str]:
    """What the graph is built over, and pgvector's class of its distances."""
    if meta.vectors == "binary":
        return f"(binary_quantize(_vector)::bit({meta.dim}))", "bit_hamming_ops"
    return "_half" if meta.vectors == "float" else "_vector", "halfvec_ip_ops"


def add_column(connection: Connection, schema: str, stored: str, kind: Kind) -> None:
    """Add a catalogue's column to the table."""
    column = f"{quoted(stored)} {SQL_TYPES[kind]}"
    connection.execute(f"ALTER TABLE {schema}.products ADD COLUMN {column}", [])


def install_pgvector(connection: Connection) -> None:
    """Install pgvector in the database, where it is not yet."""
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.UniqueViolation:  # another client did it at the same time
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


def _schema_exists(connection: Connection, name: str) -> bool:
    row = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name]).fetchone()
    return row is not None
