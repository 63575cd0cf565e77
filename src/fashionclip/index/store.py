"""What every store of vectors and products offers: a protocol of a dozen functions.

Search, tagging and the command line are written against this, not against LanceDB.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from fashionclip.index.folder import Manifest
from fashionclip.index.known import Known
from fashionclip.product import Hit, Kind, Product


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index in figures."""

    path: Path
    """The index folder."""
    manifest: Manifest
    """Its model and format."""
    count: int
    """Products stored."""
    columns: Mapping[str, Kind]
    """The catalogue's columns and what they hold."""
    size_bytes: int
    """All files of the folder together, old versions included."""
    is_approximate: bool
    """Whether ``nearest`` uses an approximate index (large stores) or compares every vector."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a comparison of every stored row with its checksum found."""

    checked: int
    """Rows read."""
    bad: tuple[str, ...]
    """Products whose vector or columns are not what was written."""
    removed: int
    """Bad rows taken out, to be embedded again by the next indexing run."""


@runtime_checkable  # the test run checks every argument against it
class Searchable(Protocol):
    """What can be searched: an index, or one that is held in memory."""

    @property
    def manifest(self) -> Manifest:
        """Which model made it."""

    def require_model(self, model: str, fingerprint: str) -> None:
        """Refuse to go on with another model than the one that made this index."""

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The catalogue's columns and what they hold."""

    def nearest(
        self,
        vector: Float[np.ndarray, " dim"],
        *,
        k: int = 10,
        where: str | None = None,
        exact: bool | None = None,
    ) -> list[Hit]:
        """The k products closest to a vector, closest first."""

    def text_search(self, words: str, *, k: int = 10, where: str | None = None) -> list[Hit]:
        """The k products whose captions match some words best (BM25), best first."""

    def get(self, product_id: str) -> tuple[Float32[np.ndarray, " dim"], Hit]:
        """One product's vector, and the product with a score of 1."""

    def vectors(self, product_ids: Sequence[str]) -> dict[str, Float32[np.ndarray, " dim"]]:
        """The vectors of those of the products that are stored whole."""


@runtime_checkable
class Store(Searchable, Protocol):
    """An index, wherever it is kept."""

    @property
    def count(self) -> int:
        """Products stored."""

    def locations(self, product_ids: Sequence[str]) -> dict[str, str | None]:
        """Where the products' pictures are; None where that was not said."""

    def writing(
        self, *, timeout_s: float, on_wait: Callable[[str], None] | None
    ) -> AbstractContextManager[None]:
        """Be the only writer while the block runs."""

    def ensure_columns(self, wanted: Mapping[str, Kind]) -> None:
        """Add columns that are new and widen those that are too narrow."""

    def upsert(
        self,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        keys: Sequence[bytes],
    ) -> None:
        """Store products with their vectors and content keys, replacing what has their ids."""

    def remove(self, product_ids: Iterable[str]) -> None:
        """Take products out."""

    def optimize(self, *, finished: bool = True) -> None:
        """Compact, and bring the search indexes up to date; thoroughly if a run has finished."""

    def known(self) -> Known:
        """What is stored already, compactly."""

    def iter_ids(self) -> Iterator[str]:
        """Every product id."""

    def verify(self, *, mend: bool = False) -> VerifyReport:
        """Compare every row with its checksums."""

    def info(self) -> IndexInfo:
        """The index in figures."""
