"""The store contract: ``Store`` and ``Writer``, the types they use, how long a writer waits.

A store never encodes and never parses filters: it takes unit vectors and parsed ``Filter``s. It
belongs to one model, whose fingerprint is in its metadata. ``tests/test_store_contract.py`` runs
over every store, with the memory store as the reference.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from fashionclip.errors import ModelMismatchError, StoreError, StoreLockedError
from fashionclip.product import VECTOR_FORMS, Hit, Kind, Product, Roles, Value, VectorForm
from fashionclip.store.digests import StoredDigests
from fashionclip.store.filters import Filter

LOCK_TIMEOUT_S = 60.0
"""How long a writer waits for another one by default."""


@dataclass(frozen=True, slots=True)
class StoreMeta:
    """What a store holds, and which model made its vectors."""

    uri: str
    """Where the store is: a folder, ``s3://…``, ``postgresql://…`` or ``memory://NAME``, without
    a password."""
    model: str
    """The model's name, as its user wrote it."""
    fingerprint: str
    """Digest of the model's weights and settings; two models of one name differ in it."""
    dim: int
    """Length of a vector."""
    roles: Roles = field(default_factory=Roles)
    """Which catalogue column plays which part, as the catalogue decided."""
    columns: Mapping[str, Kind] = field(default_factory=dict)
    """The catalogue's columns, by their own names, and what they hold."""
    created: str = ""
    """UTC time at which the store was made (ISO 8601)."""
    relevance_threshold: float | None = None
    """What unrelated queries score here at most, as ``relevance.calibrate`` measured it; None
    before that."""
    vectors: VectorForm = "float"
    """The form of the vectors, which a store keeps for as long as it is there."""


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of products: by a column, products without a value last, then by id."""

    column: str
    """The catalogue's own name."""
    descending: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some stored products, column by column; row i of each field is one product."""

    ids: Sequence[str]
    """Product ids."""
    captions: Sequence[str]
    """Empty strings where they were not asked for."""
    images: Sequence[str | None]
    """Image locations; None where there is none, or they were not asked for."""
    content_keys: Sequence[bytes]
    """16 bytes each: digest of the image that the vector was made from."""
    vectors: Float32[np.ndarray, "n dim"] | None
    """Unit vectors; None where they were not asked for."""
    columns: pa.Table
    """The catalogue's columns by their own names, typed as ``StoreMeta.columns`` says."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to a store between two revisions."""

    revision: int
    """The newer revision."""
    upserted: frozenset[str]
    """Products that are new or different."""
    deleted: frozenset[str]
    """Products that are gone."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of comparing every stored row with its checksum."""

    checked: int
    """Rows read."""
    damaged: tuple[str, ...]
    """Products whose vector or columns are not what was written."""
    removed: int
    """Damaged rows that were deleted; the next indexing run embeds them again."""


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store in figures."""

    meta: StoreMeta
    n_products: int
    size_bytes: int
    """Bytes on disk (or in memory), old versions included."""
    is_approximate: bool
    """Whether ``nearest`` uses an approximate index by default."""


@runtime_checkable
class BlobStore(Protocol):
    """Images that came as bytes (over HTTP, or inside a table) and are kept with the store.

    A location starts with ``blob:``; ``Store.blobs.read`` is the only way to its bytes.
    """

    def put(self, product_id: str, data: bytes) -> str:
        """Keep an image and return its location; the same bytes have the same location.

        Raises:
            StoreFullError: no space left; StoreError: it cannot be written.
        """

    def read(self, location: str) -> bytes:
        """The bytes of a location.

        Raises:
            ImageFetchError: nothing is kept under this location.
        """

    def delete(self, product_id: str, *, except_location: str | None = None) -> None:
        """Delete the images of a product, all or all but one.

        Args:
            product_id: whose images.
            except_location: where its image is now, which may be outside the store.
        """

    def delete_others(self, product_ids: Iterable[str]) -> None:
        """Delete the images of every product that is not named."""


@runtime_checkable
class Writer(Protocol):
    """The one writer of a store; from ``Store.writer``. Every call is atomic and durable."""

    def upsert(
        self,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        content_keys: Sequence[bytes],
    ) -> None:
        """Store products, replacing those of the same ids; columns are added or widened as needed.

        Args:
            products: of several with one id the last counts.
            vectors: their unit vectors.
            content_keys: 16 bytes each, the digest of the image that the vector was made from.

        Raises:
            ValueError: lengths differ, a vector is not finite or not of unit length, a key has
                not 16 bytes.
            ModelMismatchError: the vectors have not the store's dimension.
            StoreError: the store is full or cannot be written.
        """

    def delete(self, product_ids: Iterable[str]) -> int:
        """Delete products; ids that are not stored are ignored. Returns how many were stored."""

    def set_columns(self, columns: Mapping[str, Kind], *, narrow: bool = False) -> None:
        """Add columns that are new and widen those that are too narrow.

        Args:
            columns: the kinds that are wanted.
            narrow: also make columns narrower, those of which every stored value allows it.
        """

    def drop_blank(self, names: Iterable[str]) -> None:
        """Remove those of some columns in which no product has a value."""

    def set_roles(self, roles: Roles) -> None:
        """Replace the roles; the words that products are found by follow them."""

    def set_relevance_threshold(self, threshold: float | None) -> None:
        """Replace what ``StoreMeta.relevance_threshold`` says."""

    def optimize(self, *, is_finished: bool = True) -> None:
        """Compact, and bring search indexes up to date; fully if no more writes are to come."""


@runtime_checkable
class Store(Protocol):
    """Vectors and products of one model."""

    @property
    def meta(self) -> StoreMeta:
        """Model, roles and columns, as of now."""

    @property
    def revision(self) -> int:
        """A number that grows with every write, of this process or another."""

    @property
    def blobs(self) -> BlobStore:
        """Images kept with the store."""

    def __len__(self) -> int:
        """Products stored."""

    def nearest(
        self,
        vectors: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        where: Filter | Sequence[Filter | None] | None = None,
        exact: bool | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The k products closest to each vector, closest first, equal scores by id.

        Args:
            vectors: queries, of any length but zero.
            k: hits per query, at least 1.
            where: one filter for all queries, or one (or None) per query; applied before the
                vectors are compared.
            exact: True compares every vector; None lets the store decide; with False, scores may
                be a few thousandths off too, which is quickest where there is an index.
            columns: those that the hits carry; None for all.

        Returns:
            A list per query; scores are cosines in -1…1.

        Raises:
            ValueError: k is below 1; a vector is zero or not finite.
            ModelMismatchError: the vectors have not the store's dimension.
            FilterError: a filter names a column that is gone; StoreCorruptError.
        """

    def text_search(
        self,
        text: str,
        *,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """The k products whose words match those of a text best, best first.

        A product's words are those of ``fulltext.product_text``: id, SKU, barcode, brand, title,
        category, colour, highlights, caption. Plurals match singulars; a word that no product has
        matches those that differ in a letter or two. Scores are the engine's own (0 or more); only
        their order can be compared across stores.
        """

    def count(self, where: Filter | None = None, *, distinct: str | None = None) -> int:
        """How many products pass a filter.

        Args:
            where: the filter.
            distinct: a column; products that share a value of it count once.
        """

    def values(self, column: str, *, k: int) -> list[Value]:
        """Up to k values of a column, each once, the most frequent first; missing ones left out.

        Raises:
            StoreError: there is no such column.
        """

    def list_hits(
        self,
        *,
        k: int,
        offset: int = 0,
        where: Filter | None = None,
        sort: Sort | None = None,
        after: tuple[Value, str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Products that pass a filter, in the order of their ids, with a score of 1: a page.

        Args:
            k: products wanted.
            offset: products to leave out at the start.
            where: the filter.
            sort: another order.
            after: only products after this value of the sorted column and this id.
            columns: those that the hits carry; None for all.
        """

    def sample(self, n: int) -> Rows:
        """Up to n products, spread evenly over the store, with their vectors, without columns."""

    def fetch(
        self, product_ids: Sequence[str], *, vectors: bool = True, columns: bool = True
    ) -> Rows:
        """Those of some products that are stored, in no particular order.

        Rows whose vector fails its checksum are left out when vectors are asked for.
        """

    def scan(self, *, vectors: bool = True, columns: bool = True) -> Iterator[Rows]:
        """Every product, in batches, as of one revision; damaged vectors are left out."""

    def digests(self) -> StoredDigests:
        """Content keys and row digests of what is stored: tells an indexing run what changed."""

    def changes_since(self, revision: int) -> Changes | None:
        """What changed since a revision; None if that is not known: then scan again."""

    def similar_ids(self, product_id: str) -> list[str]:
        """Up to three stored ids that are spelled like one that is not stored."""

    def writer(
        self,
        *,
        timeout_s: float = LOCK_TIMEOUT_S,
        on_wait: Callable[[str], None] | None = None,
    ) -> AbstractContextManager[Writer]:
        """Be the only writer while the block runs; re-entrant within a thread.

        Args:
            timeout_s: how long to wait for another writer; negative waits without end.
            on_wait: called once, with who is writing, if there is a wait.

        Raises:
            StoreLockedError: another writer was still at work after the wait.
            StoreError: the store cannot be written to.
        """

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Compare every row with its checksums; ``repair`` deletes bad rows, rebuilds indexes."""

    def info(self) -> StoreInfo:
        """The store in figures."""

    def close(self) -> None:
        """Let go of files and connections."""


SECRET_PARAMETERS = "(?i:password|sslpassword|scram_client_key|oauth_client_secret)"
"""Parameters of libpq that nobody should read, as a pattern."""


def shown_uri(uri: str | Path) -> str:
    """An address as messages and programs may see it: without a password."""
    # up to the last @ before the path, else (of a slash that should be written %2F) in it
    shown = re.sub(r"(://[^/@:]*):(?:[^/]*|[^?]*)@", r"\1@", str(uri))
    return re.sub(rf"(?<=[?&]){SECRET_PARAMETERS}=[^&]*&?", "", shown).rstrip("?&")


def require_model(store: Store, *, model: str, fingerprint: str) -> None:
    """Refuse to go on with another model than the one that made a store.

    Args:
        store: what is to be read or written.
        model: the other model's name, for the message.
        fingerprint: its digest.

    Raises:
        ModelMismatchError: the fingerprints differ; names both models.
    """
    meta = store.meta
    if fingerprint != meta.fingerprint:
        message = (
            f"the index {meta.uri} holds vectors of the model {meta.model!r} "
            f"({meta.fingerprint[:8]}), not of {model!r} ({fingerprint[:8]}): "
            "use that model, or index the catalogue into another place"
        )
        raise ModelMismatchError(message)


def check_form(vectors: str) -> None:
    """Refuse a form of vectors that no store has.

    Raises:
        ValueError: it is none of ``VECTOR_FORMS``.
    """
    if vectors not in VECTOR_FORMS:
        message = f"vectors is {vectors!r:.60}; a store keeps them as {', '.join(VECTOR_FORMS)}"
        raise ValueError(message)


def require_form(store: Store, vectors: VectorForm | None) -> None:
    """Refuse to go on with a store that keeps vectors in another form than the wanted one.

    Raises:
        StoreError: it does.
    """
    meta = store.meta
    if vectors is not None and vectors != meta.vectors:
        message = (
            f"the index {meta.uri} keeps its vectors as {meta.vectors}, not {vectors}: index the "
            "catalogue into another place, or copy the index there (fashionclip index --copy)"
        )
        raise StoreError(message)


class ThreadLock:
    """One writer at a time among the threads of this process."""

    def __init__(self, uri: str) -> None:
        """Prepare the lock of a store; it is not held yet."""
        self._uri = uri
        self._lock = threading.RLock()

    @contextmanager
    def held(
        self, *, timeout_s: float = LOCK_TIMEOUT_S, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Be the only writer while the block runs.

        Raises:
            StoreLockedError: another thread was still writing after the wait.
        """
        if not self._lock.acquire(blocking=False):
            if on_wait is not None:
                on_wait("another thread of this process")
            if not self._lock.acquire(timeout=timeout_s if timeout_s >= 0 else -1):
                message = f"the index {self._uri} is being written to by another thread: wait"
                raise StoreLockedError(message)
        try:
            yield
        finally:
            self._lock.release()
