"""Images that a store in PostgreSQL keeps itself, as rows of a table."""

from collections.abc import Iterable

from fashionclip.errors import ImageFetchError
from fashionclip.store.blobs import PREFIX, blob_location, missing_blob
from fashionclip.store.postgres.connections import Connection, Connections
from fashionclip.store.postgres.schema import quoted


class PostgresImages:
    """Blobs in a table; see ``BlobStore``."""

    def __init__(self, connections: Connections) -> None:
        """Keep them in the database of some connections."""
        self._connections = connections
        self._table = f"{quoted(connections.address.store)}.images"

    def put(self, product_id: str, data: bytes) -> str:
        """Keep an image and return its location.

        Raises:
            StoreFullError: no space left.
            StoreError: it cannot be written.
        """
        location = blob_location(product_id, data)
        self._write(
            f"INSERT INTO {self._table} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [*_parts(location), data],
        )
        return location

    def read(self, location: str) -> bytes:
        """The bytes of an image.

        Raises:
            ImageFetchError: there is none of this location.
        """
        query = f"SELECT data FROM {self._table} WHERE product = %s AND image = %s"
        parts = _parts(location) if location.startswith(PREFIX) else ["", ""]

        def work(connection: Connection) -> bytes | None:
            row = connection.execute(query, parts, binary=True).fetchone()
            return None if row is None else bytes(row[0])

        data = self._connections.read(work)
        if data is None:
            raise ImageFetchError(missing_blob(location))
        return data

    def delete(self, product_id: str, *, except_location: str | None = None) -> None:
        """Delete the images of a product, all or all but one."""
        product, _ = _parts(blob_location(product_id, b""))
        kept = "" if except_location is None else _parts(except_location)[1]
        query = f"DELETE FROM {self._table} WHERE product = %s AND image <> %s"
        self._write(query, [product, kept])

    def delete_others(self, product_ids: Iterable[str]) -> None:
        """Delete the images of every product that is not named."""

        def stored(connection: Connection) -> set[str]:
            rows = connection.execute(f"SELECT DISTINCT product FROM {self._table}", [])
            return {product for (product,) in rows}

        others = self._connections.read(stored)
        if others:
            others -= {_parts(blob_location(name, b""))[0] for name in product_ids}
            self._write(f"DELETE FROM {self._table} WHERE product = ANY(%s)", [list(others)])

    def _write(self, query: str, values: list[object]) -> None:
        """Change the table; doing it twice changes nothing more, so a lost connection is met."""
        self._connections.read(lambda connection: connection.execute(query, values))


def _parts(location: str) -> list[str]:
    """The names of product and image in a location."""
    product, _, image = location.removeprefix(PREFIX).partition("/")
    return [product, image]
