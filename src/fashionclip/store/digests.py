"""Digests of what is stored: content keys, row digests, checksums, and a compact table of them.

An indexing run over a million products asks for each of them whether it is stored, from this image,
with these columns. A dictionary of strings would take a third of a gigabyte to answer; sorted
digests take 40 MB. Two ids share a 64-bit digest with a chance of 3 in a million at ten million
products, and are then only mistaken for each other if image and columns agree as well.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from fashionclip.product import Kind, Product
from fashionclip.store.rows import KEY_BYTES, clean_text, fit, image_location

_ROW = np.dtype([("id", "<u8"), ("key", f"V{KEY_BYTES}"), ("row", f"V{KEY_BYTES}")])


def content_key(image: bytes) -> bytes:
    """The 16 bytes that stand for an encoded image: what tells whether it changed."""
    return blake2b(image, digest_size=KEY_BYTES).digest()


def row_digest(product: Product, kinds: Mapping[str, Kind]) -> bytes:
    """A digest of all that is stored of a product except its vector: 16 bytes.

    Missing values do not count, so that a new column leaves the digests of old rows as they are.

    Args:
        product: what is to be stored, or was read back.
        kinds: the store's columns; a value counts as its column stores it.
    """
    columns = product.columns.items()
    stored = {name: fit(value, kinds[name]) for name, value in columns if value is not None}
    content = [
        clean_text(product.caption),
        image_location(product),
        sorted((name, value) for name, value in stored.items() if value is not None),
    ]
    text = json.dumps(content, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def checksum(product_id: str, vector: Float32[np.ndarray, " dim"]) -> int:
    """CRC-32 over an id and its vector's bytes: a flipped bit in either never goes unnoticed."""
    return zlib.crc32(np.ascontiguousarray(vector, "<f4").data, zlib.crc32(product_id.encode()))


def id_digest(product_id: str) -> int:
    """An identifier in 64 bits."""
    text = product_id.encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


class StoredDigests:
    """Content keys and row digests by product, and which products a run has seen: 41 bytes each."""

    def __init__(self, entries: Iterable[tuple[str, bytes | None, bytes | None]]) -> None:
        """Gather (product id, content key, row digest); None stands for a digest not to trust."""
        empty = bytes(KEY_BYTES)
        rows = ((id_digest(name), key or empty, row or empty) for name, key, row in entries)
        table: NDArray[np.void] = np.fromiter(rows, dtype=_ROW)
        self._table = table[np.argsort(table["id"], kind="stable")]
        self._is_seen = np.zeros(len(table), dtype=bool)

    def __len__(self) -> int:
        """The number of products that were stored when this was read."""
        return len(self._table)

    def _row(self, product_id: str) -> int | None:
        digest = np.uint64(id_digest(product_id))
        row = int(np.searchsorted(self._table["id"], digest))
        is_found = row < len(self._table) and self._table["id"][row] == digest
        return row if is_found else None

    def find(self, product_id: str) -> tuple[bytes, bytes] | None:
        """Content key and row digest as they were stored; None for a product not stored."""
        row = self._row(product_id)
        if row is None:
            return None
        entry = self._table[row]
        return entry["key"].tobytes(), entry["row"].tobytes()

    def mark_seen(self, product_id: str) -> None:
        """Note that the catalogue still has this product."""
        row = self._row(product_id)
        if row is not None:
            self._is_seen[row] = True

    def is_unseen(self, product_id: str) -> bool:
        """Whether a product was stored and has not been marked as seen."""
        row = self._row(product_id)
        return row is not None and not self._is_seen[row]
