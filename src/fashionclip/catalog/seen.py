"""The identifiers met so far: 16 bytes each at two thirds full, whatever their length."""

from array import array
from hashlib import blake2b

_EMPTY = 0  # rows start at 1


class SeenIds:
    """Remembers at which row an identifier was met first, by a digest of 64 bits.

    Two different identifiers among a million share a digest with a probability of 3e-8.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._keys = array("Q", bytes(8 * 1024))
        self._rows = array("Q", bytes(8 * 1024))
        self._count = 0

    def first_row(self, product_id: str, row: int) -> int:
        """The row where an identifier was met first; ``row`` itself if that is now."""
        digest = blake2b(product_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        slot = self._slot(key)
        if self._rows[slot] != _EMPTY:
            return self._rows[slot]
        self._keys[slot], self._rows[slot] = key, row
        self._count += 1
        if self._count * 3 > len(self._rows) * 2:
            self._grow()
        return row

    def _slot(self, key: int) -> int:
        mask = len(self._rows) - 1
        slot = key & mask
        while self._rows[slot] != _EMPTY and self._keys[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, rows = self._keys, self._rows
        self._keys = array("Q", bytes(16 * len(keys)))
        self._rows = array("Q", bytes(16 * len(rows)))
        for key, row in zip(keys, rows, strict=True):
            if row != _EMPTY:
                slot = self._slot(key)
                self._keys[slot], self._rows[slot] = key, row
