"""Stores in PostgreSQL that an older version made, brought to the newest format."""

import logging

from psycopg import errors

from fashionclip.errors import StoreError
from fashionclip.store.postgres import schema, words
from fashionclip.store.postgres.connections import Address, Connection

WORDS_VERSION = 2  # the first that keeps the words of products as they are kept now


def migrate(connection: Connection, address: Address) -> None:
    """Bring a store of an older version to the newest; say so in the log.

    Raises:
        StoreError: this user may only read it.
    """
    name, newest = schema.quoted(address.store), schema.newest_version()
    try:
        with connection.transaction():
            locked = connection.execute(f"SELECT version FROM {name}.store FOR UPDATE", [])
            row = locked.fetchone()
            version = newest if row is None else int(row[0])
            if version >= newest:
                return  # another client has done it meanwhile
            for migration in schema.MIGRATIONS[version - 1 :]:
                connection.execute(migration.format(schema=name))
            if version < WORDS_VERSION:
                words.fill(connection, name, schema.read_header(connection, address))
            connection.execute(f"UPDATE {name}.store SET version = %s", [newest])
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as exc:
        message = (
            f"the index {address.shown} has an older format, and this user may not change it: "
            f"open it once as its owner, with fashionclip info {address.shown}"
        )
        raise StoreError(message) from exc
    logging.getLogger(__name__).warning(
        "the index %s was brought from format %d to %d", address.shown, version, newest
    )
