"""What an index holds already, in 40 bytes a product.

A run over a million products asks for each "have I stored you, from this picture, with these
columns?". A dictionary of strings would take a third of a gigabyte to answer; sorted digests
take 40 MB. Two ids share a 64-bit digest with a chance of 3 in a million at ten million
products, and are then only mistaken for each other if picture and columns agree as well.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16

_ROW = np.dtype([("id", "<u8"), ("key", f"V{KEY_BYTES}"), ("row", f"V{KEY_BYTES}")])


def id_digest(product_id: str) -> int:
    """An identifier in 64 bits."""
    text = product_id.encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


class Known:
    """Content keys and row digests by product, with a mark on those that a run has met."""

    def __init__(self, entries: Iterable[tuple[str, bytes | None, bytes | None]]) -> None:
        """Gather (product id, content key, row digest); None stands for a digest not to trust."""
        empty = bytes(KEY_BYTES)
        rows = ((id_digest(name), key or empty, row or empty) for name, key, row in entries)
        table: NDArray[np.void] = np.fromiter(rows, dtype=_ROW)
        self._table = table[np.argsort(table["id"], kind="stable")]
        self._met = np.zeros(len(table), dtype=bool)

    def __len__(self) -> int:
        """The number of products that were stored when this was read."""
        return len(self._table)

    def _place(self, product_id: str) -> int | None:
        digest = np.uint64(id_digest(product_id))
        place = int(np.searchsorted(self._table["id"], digest))
        found = place < len(self._table) and self._table["id"][place] == digest
        return place if found else None

    def find(self, product_id: str) -> tuple[bytes, bytes] | None:
        """Content key and row digest as they were stored; None for a product not stored."""
        place = self._place(product_id)
        if place is None:
            return None
        row = self._table[place]
        return row["key"].tobytes(), row["row"].tobytes()

    def meet(self, product_id: str) -> None:
        """Note that the catalogue still has this product."""
        place = self._place(product_id)
        if place is not None:
            self._met[place] = True

    def is_unmet(self, product_id: str) -> bool:
        """Whether a product was stored and no one has met it since."""
        place = self._place(product_id)
        return place is not None and not self._met[place]
