"""Files of vectors: NumPy's .npz, or Parquet, which takes any number of them.

Both carry the name and fingerprint of the model, so that vectors of two models are not
mistaken for each other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from fashionclip.model import FashionCLIP

ROWS_A_GROUP = 1024  # rows of a Parquet row group: bounds memory


@runtime_checkable
class VectorWriter(Protocol):
    """Takes vectors with their ids."""

    count: int

    def write(self, ids: Sequence[str], vectors: "np.ndarray") -> None:
        """Add vectors, (n, dim), with n ids."""

    def close(self) -> None:
        """Write what is left."""


def open_vectors(path: Path, model: "FashionCLIP", *, suffix: str) -> VectorWriter:
    """Begin a file of vectors of one model.

    Args:
        path: where the bytes go.
        model: its name and fingerprint are written beside the vectors.
        suffix: ``.npz`` or ``.parquet``.
    """
    return _ParquetFile(path, model) if suffix == ".parquet" else _NumpyFile(path, model)


class _NumpyFile:
    """``ids``, ``vectors``, ``model`` and ``fingerprint`` in an .npz; in memory until then."""

    def __init__(self, path: Path, model: "FashionCLIP") -> None:
        self.path, self.model = path, model
        self.ids: list[str] = []
        self.parts: list[np.ndarray] = []
        self.count = 0

    def write(self, ids: Sequence[str], vectors: "np.ndarray") -> None:
        self.ids.extend(ids)
        self.parts.append(vectors)
        self.count += len(ids)

    def close(self) -> None:
        import numpy as np

        vectors = np.concatenate([np.empty((0, self.model.dim), np.float32), *self.parts])
        with self.path.open("wb") as file:
            np.savez(
                file,
                ids=np.array(self.ids, dtype=np.str_),
                vectors=vectors.astype(np.float32, copy=False),
                model=np.array(self.model.name),
                fingerprint=np.array(self.model.fingerprint),
            )


class _ParquetFile:
    """A row a vector, written as they come; the model's name stands in the file's metadata."""

    def __init__(self, path: Path, model: "FashionCLIP") -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        told = {"model": model.name, "fingerprint": model.fingerprint}
        vector = pa.list_(pa.float32(), model.dim)
        self.schema = pa.schema([("id", pa.string()), ("vector", vector)], metadata=told)
        self.file = pq.ParquetWriter(path, self.schema)
        self.waiting: list[tuple[str, np.ndarray]] = []
        self.count = 0

    def write(self, ids: Sequence[str], vectors: "np.ndarray") -> None:
        self.waiting.extend(zip(ids, vectors, strict=True))
        self.count += len(ids)
        if len(self.waiting) >= ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.file.close()

    def _flush(self) -> None:
        import numpy as np
        import pyarrow as pa

        if not self.waiting:
            return
        ids, vectors = zip(*self.waiting, strict=True)
        flat = pa.array(np.concatenate(vectors), type=pa.float32())
        width = self.schema.field("vector").type.list_size
        columns = [pa.array(ids, pa.string()), pa.FixedSizeListArray.from_arrays(flat, width)]
        self.file.write_table(pa.table(columns, schema=self.schema))
        self.waiting.clear()
