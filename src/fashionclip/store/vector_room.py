"""Vectors of a store in memory: one array with room for more, in a file where it is large."""

import mmap
import os
import tempfile

import numpy as np
from jaxtyping import Float

from fashionclip.product import VectorForm
from fashionclip.store.rows import kept_type

SPARE_ROWS = 0.1  # room for more vectors, as a share
MIN_SPARE_ROWS = 1_000
MAPPED_BYTES = 500_000_000
"""From this size on, vectors are in a file that is mapped into memory: the system may write it out
and read it again, so that only the vectors that searches look at need memory."""


class VectorRoom:
    """An array of vectors with room for more; rows that are there are not written to again."""

    def __init__(self, dim: int, n_rows: int = 0, *, form: VectorForm = "float") -> None:
        """Make room.

        Args:
            dim: length of a vector.
            n_rows: how many are to come; there is room for some more.
            form: whether floats are kept or halves.
        """
        self.used = 0
        number = np.dtype(kept_type(form))
        n_rows = rows_with_spare(n_rows)
        n_bytes = n_rows * dim * number.itemsize
        self._file = _mapped(n_bytes) if n_bytes >= MAPPED_BYTES else None
        if self._file is None:
            self._array = np.empty((n_rows, dim), number)
        else:
            self._array = np.frombuffer(self._file, number).reshape(-1, dim)

    @classmethod
    def over(cls, array: Float[np.ndarray, "capacity dim"], n_rows: int) -> "VectorRoom":
        """The room of an array that exists; its first rows are vectors already."""
        room = cls.__new__(cls)
        room.used, room._file, room._array = n_rows, None, array
        return room

    def append(self, vectors: Float[np.ndarray, "n dim"]) -> bool:
        """Add vectors; False if there is no room."""
        end = self.used + len(vectors)
        if end > len(self._array):
            return False
        self._array[self.used : end] = vectors
        self.used = end
        return True

    def first(self, n_rows: int) -> Float[np.ndarray, "n dim"]:
        """The first vectors, not to be written to."""
        return self._array[:n_rows]

    def release(self) -> None:
        """Take mapped vectors out of this process's memory until they are read."""
        if self._file is not None:
            self._file.madvise(mmap.MADV_DONTNEED)


def rows_with_spare(n_rows: int) -> int:
    """How many rows there should be room for, if there are so many now."""
    return n_rows + max(MIN_SPARE_ROWS, int(SPARE_ROWS * n_rows))


def _mapped(n_bytes: int) -> mmap.mmap | None:
    """A file without a name, mapped into memory; None if there is no place for it."""
    try:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)  # a full disk is found here
            return mmap.mmap(file.fileno(), n_bytes)
    except (OSError, AttributeError):  # no space, or no such call on this system
        return None
