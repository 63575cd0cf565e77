"""The store in PostgreSQL with pgvector: a schema of tables per store, many stores per database.

``postgresql://USER:PASSWORD@HOST/DATABASE?store=NAME`` is a URI of libpq with one more parameter:
the schema, ``fashionclip`` by default. psycopg is an extra, imported when a store is opened.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from fashionclip.errors import MissingExtraError
from fashionclip.store.base import StoreMeta

if TYPE_CHECKING:
    from fashionclip.store.postgres.store import PostgresStore


def open_store(uri: str, *, read_only: bool = False) -> "PostgresStore":
    """Open a store; one of an older version is migrated to the newest, unless it is only read.

    Raises:
        MissingExtraError: psycopg is not installed.
        StoreError: there is none, or the server cannot be reached.
        StoreFormatError: a newer version of this package wrote it, or an older one and it is only
            read.
    """
    _require_client()
    from fashionclip.store.postgres.store import PostgresStore

    return PostgresStore.open(uri, read_only=read_only)


def create_store(uri: str, meta: StoreMeta) -> "PostgresStore":
    """Make an empty store, and its schema.

    Raises:
        MissingExtraError: psycopg is not installed.
        StoreError: there is one already, other tables are in its place, pgvector is not installed
            on the server, or the user may not make tables.
    """
    _require_client()
    from fashionclip.store.postgres.store import PostgresStore

    return PostgresStore.create(uri, meta)


def read_meta(uri: str) -> StoreMeta:
    """Model, roles and columns of a store.

    Raises:
        MissingExtraError: psycopg is not installed.
        StoreError: there is none, or the server cannot be reached.
    """
    store = open_store(uri)
    try:
        return store.meta
    finally:
        store.close()


def holds_store(uri: str) -> bool:
    """Whether there is a store of this name in the database.

    Raises:
        MissingExtraError: psycopg is not installed.
        StoreError: the server cannot be reached.
    """
    _require_client()
    from fashionclip.store.postgres.store import holds_store

    return holds_store(uri)


def upgrade_store(uri: str) -> "PostgresStore":
    """Open a store, which migrates it.

    Raises:
        StoreError: as ``open_store``.
    """
    return open_store(uri)


def _require_client() -> None:
    if find_spec("psycopg") is None:
        message = "a store in PostgreSQL needs its client: run pip install 'fashionclip[postgres]'"
        raise MissingExtraError(message)
