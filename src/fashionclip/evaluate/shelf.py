"""Rows of numbers by digest, in files that appear whole: what evaluation never computes twice.

Several processes may use one folder at once: each writes files of its own, and reads those that
were there when it began. A damaged file costs its rows, which are computed again.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fashionclip.atomic import write_whole
from fashionclip.errors import EvaluationError

DIGEST_BYTES = 16
FLUSH_SECONDS = 20.0
"""A killed run loses at most the rows of this time."""


class Shelf:
    """Rows of one length and type, in memory and, if there is a folder, on disk."""

    def __init__(self, folder: Path | None, name: str, width: int, dtype: DTypeLike) -> None:
        """Read what lies in the folder.

        Args:
            folder: None keeps the rows in memory only.
            name: what the rows are: the first part of the files' names.
            width: numbers a row.
            dtype: type of the numbers.

        Raises:
            EvaluationError: the folder holds rows of another width under this name.
        """
        self.rows: dict[bytes, np.ndarray] = {}
        """By digest; add with ``put``."""
        self._folder, self._name, self._width = folder, name, width
        self._dtype = np.dtype(dtype)
        self._fresh: dict[bytes, np.ndarray] = {}
        self._flushed = time.monotonic()
        for path in sorted(folder.glob(f"{name}-*.safetensors")) if folder else ():
            self.rows.update(self._read(path))

    def put(self, digest: bytes, row: np.ndarray) -> None:
        """Keep one row; write the fresh ones out from time to time.

        Raises:
            EvaluationError: the folder cannot be written.
        """
        self.rows[digest] = self._fresh[digest] = row
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet, as one more file that appears whole.

        Raises:
            EvaluationError: the folder cannot be written.
        """
        self._flushed = time.monotonic()
        if self._folder is None or not self._fresh:
            return
        keys = np.frombuffer(b"".join(self._fresh), np.uint8).reshape(-1, DIGEST_BYTES)
        rows = np.stack(list(self._fresh.values())).astype(self._dtype, copy=False)
        place = self._folder / f"{self._name}-{uuid4().hex}.safetensors"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(place, save({"keys": keys, "rows": rows}))
        except (OSError, SafetensorError) as exc:
            message = f"the cache {self._folder} cannot be written ({exc}); name another folder"
            raise EvaluationError(message) from exc
        self._fresh = {}

    def _read(self, path: Path) -> Iterator[tuple[bytes, np.ndarray]]:
        try:
            tensors = load_file(path)
            keys, rows = tensors["keys"], tensors["rows"]
        except (OSError, KeyError, SafetensorError):
            return
        if rows.ndim != 2 or rows.shape[1] != self._width or rows.dtype != self._dtype:
            message = (
                f"{path} holds rows of {rows.shape[-1]} {rows.dtype}, not {self._width} "
                f"{self._dtype}; delete {path.parent}"
            )
            raise EvaluationError(message)
        for key, row in zip(keys, rows, strict=True):
            yield key.tobytes(), row
