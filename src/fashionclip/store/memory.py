"""The store in memory: quick, exact but for binary vectors, and gone with its process.

The service answers from a copy of another store (``MemoryStore.copy_of``) that follows it
(``MemoryStore.refresh_from``), and tests take this store as the reference for all others. Its
content is a ``Snapshot`` that never changes: a write puts a newer one in its place, so that a
reader needs no lock.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from fashionclip.errors import StoreError
from fashionclip.product import Hit, Kind, Product, Roles, Value
from fashionclip.store.base import (
    LOCK_TIMEOUT_S,
    BlobStore,
    Changes,
    Rows,
    Sort,
    Store,
    StoreInfo,
    StoreMeta,
    ThreadLock,
    VerifyReport,
    Writer,
)
from fashionclip.store.blobs import MemoryBlobs
from fashionclip.store.blocks import Block, block_of, joined
from fashionclip.store.digests import StoredDigests, row_digest
from fashionclip.store.filters import Filter
from fashionclip.store.rows import (
    as_kept,
    check_batch,
    check_columns,
    check_dim,
    check_k,
    clean_text,
    columns_table,
    count_distinct,
    image_location,
    kinds_of,
    last_of_each_id,
    most_frequent,
    narrowed,
    narrowed_by,
    table_of,
    unit_queries,
    widened,
    widened_by,
)
from fashionclip.store.sign_pruning import SignPruning
from fashionclip.store.snapshot import Snapshot, empty_snapshot, snapshot_of, vectors_of
from fashionclip.store.vector_room import VectorRoom

MAX_MASKS = 256  # filters per snapshot whose masks are cached, a byte per product each
MAX_CHANGES = 1_000  # writes that ``changes_since`` remembers
SCAN_ROWS = 2_048
PARTS_PER_COPY = 16
"""Parts of a scan that are copied together, so that the store's own buffers are soon free again."""

_STORES: dict[str, "MemoryStore"] = {}


def open_store(uri: str, *, read_only: bool = False) -> "MemoryStore":
    """The store of this process that has this name.

    Raises:
        StoreError: there is none.
    """
    if uri not in _STORES:
        message = f"there is no index at {uri}: a store in memory belongs to one process"
        raise StoreError(message)
    return _STORES[uri]


def create_store(uri: str, meta: StoreMeta) -> "MemoryStore":
    """Make an empty store under a name.

    Raises:
        StoreError: there is one of this name already.
    """
    if uri in _STORES:
        message = f"there is an index at {uri} already: open it, or close it first"
        raise StoreError(message)
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    _STORES[uri] = MemoryStore(replace(meta, uri=uri, created=created))
    return _STORES[uri]


def read_meta(uri: str) -> StoreMeta:
    """Model, roles and columns of a store.

    Raises:
        StoreError: there is none.
    """
    return open_store(uri).meta


def holds_store(uri: str) -> bool:
    """Whether there is a store of this name."""
    return uri in _STORES


def upgrade_store(uri: str) -> "MemoryStore":
    """The store itself: in memory there are no older formats.

    Raises:
        StoreError: there is none.
    """
    return open_store(uri)


class MemoryStore:
    """Vectors and products of one model in memory; see ``Store``."""

    def __init__(self, meta: StoreMeta, *, blobs: BlobStore | None = None) -> None:
        """Begin empty.

        Args:
            meta: the model, and the roles and columns to begin with.
            blobs: where images are kept; by default in memory too.
        """
        self._blobs = MemoryBlobs() if blobs is None else blobs
        self._lock = threading.RLock()  # held while a snapshot takes another one's place
        self._writers = ThreadLock(meta.uri)
        self._changes: deque[Changes] = deque(maxlen=MAX_CHANGES)
        self._snapshot = empty_snapshot(meta)

    def __repr__(self) -> str:
        """Kind and address."""
        return f"<{type(self).__name__} {self.meta.uri}>"

    @classmethod
    def copy_of(cls, store: Store) -> "MemoryStore":
        """Read a whole store into memory; its damaged rows are left out."""
        copy = cls(store.meta, blobs=store.blobs)
        copy._read(store)
        return copy

    def refresh_from(self, store: Store, *, changed: Iterable[str] | None = None) -> bool:
        """Take in what changed in another store since this copy of it was read.

        Args:
            store: what this is a copy of, or what has come into its place.
            changed: the products that were written since, where they are known, and no others.

        Returns:
            Whether there was anything to take in.
        """
        with self._lock:
            now, meta, revision = self._snapshot, store.meta, store.revision
            if revision == now.revision:
                return False
            if changed is None:
                changes = store.changes_since(now.revision)
            else:
                changes = Changes(revision, frozenset(changed), frozenset())
            is_same_table = dict(meta.columns) == dict(now.meta.columns)
            if changes is None or not is_same_table or meta.created != now.meta.created:
                self._read(store)
                return True
            fetched = store.fetch(sorted(changes.upserted))
            gone = now.rows_of([*changes.upserted, *changes.deleted])
            fetched = replace(fetched, columns=widened(fetched.columns, meta.columns))
            self._snapshot = now.updated(gone, fetched, meta, changes.revision)
            self._changes.append(changes)
            return True

    def _read(self, store: Store) -> None:
        """Read a whole store in the place of what is here."""
        revision, meta = store.revision, store.meta  # a write meanwhile is taken in later
        room = VectorRoom(meta.dim, len(store), form=meta.vectors)
        blocks, pending = list[Block](), list[Block]()
        for part in store.scan():
            vectors = vectors_of(part, meta)
            if not room.append(vectors):  # a write came between the count and the scan
                n_rows = 2 * (room.used + len(vectors))
                grown = VectorRoom(meta.dim, n_rows, form=meta.vectors)
                grown.append(room.first(room.used))
                grown.append(vectors)
                room = grown
            pending.append(block_of(part))
            if len(pending) >= PARTS_PER_COPY:
                blocks.append(joined(pending, meta))
                pending.clear()
                room.release()
        block = joined([*blocks, *pending], meta)
        blocks.clear()
        pending.clear()
        pa.default_memory_pool().release_unused()
        snapshot = snapshot_of(block, room, meta, revision)
        with self._lock:
            self._snapshot = snapshot
            self._changes.clear()

    @property
    def snapshot(self) -> Snapshot:
        """What is stored now; a snapshot never changes, so it can be read for as long as needed."""
        return self._snapshot

    @property
    def meta(self) -> StoreMeta:
        """Model, roles and columns."""
        return self._snapshot.meta

    @property
    def revision(self) -> int:
        """A number that grows with every write; of a copy, that of the store it was read from."""
        return self._snapshot.revision

    @property
    def blobs(self) -> BlobStore:
        """Images kept with the store."""
        return self._blobs

    def __len__(self) -> int:
        """Products stored."""
        return len(self._snapshot)

    def nearest(
        self,
        vectors: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        where: Filter | Sequence[Filter | None] | None = None,
        exact: bool | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The k products closest to each vector; see ``Store``."""
        return self._compared(vectors, k=k, where=where, exact=exact or None, columns=columns)

    def _compared(
        self,
        vectors: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        where: Filter | Sequence[Filter | None] | None,
        exact: bool | None,
        columns: Sequence[str] | None,
    ) -> list[list[Hit]]:
        """The k products closest to each vector; ``exact`` is that of ``Snapshot.nearest``."""
        check_k(k)
        now = self._snapshot
        check_dim(vectors, dim=now.meta.dim, model=now.meta.model, uri=now.meta.uri)
        filters = where if isinstance(where, Sequence) else [where] * len(vectors)
        masks = [now.mask(one) for one in filters]
        return now.nearest(
            unit_queries(vectors),
            ks=[k] * len(vectors),
            masks=masks,
            columns=columns,
            exact=exact,
        )

    def text_search(
        self,
        text: str,
        *,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """The k products whose words match those of a text best; see ``Store``."""
        check_k(k)
        now = self._snapshot
        passing = now.mask(where)
        scores = now.word_index.scores(text).items()
        found = [(row, score) for row, score in scores if passing is None or passing[row]]
        found.sort(key=lambda pair: (-pair[1], now.id(pair[0])))
        return now.hits(found[:k], columns)

    def count(self, where: Filter | None = None, *, distinct: str | None = None) -> int:
        """How many products pass a filter; those that share a value of a column count once."""
        now = self._snapshot
        passing = now.mask(where)
        if distinct is not None:
            values = now.column(distinct)
            return count_distinct(values if passing is None else values.filter(pa.array(passing)))
        return len(now) if passing is None else int(np.count_nonzero(passing))

    def values(self, column: str, *, k: int) -> list[Value]:
        """Up to k values of a column, each once, the most frequent first."""
        now = self._snapshot
        check_columns([column], now.meta.columns, now.meta.uri)
        return most_frequent(now.columns.column(column), k)

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
        """Products that pass a filter, in the order of their ids or as sorted: a page."""
        now = self._snapshot
        passing = now.mask(where)
        return now.list_hits(passing, k=k, offset=offset, sort=sort, after=after, columns=columns)

    def sample(self, n: int) -> Rows:
        """Up to n products, spread evenly over the store, with their vectors."""
        now = self._snapshot
        places = np.unique(np.linspace(0, len(now) - 1, min(n, len(now)), dtype=np.int64))
        return now.take(now.live_rows()[places], vectors=True, columns=False)

    def fetch(
        self, product_ids: Sequence[str], *, vectors: bool = True, columns: bool = True
    ) -> Rows:
        """Those of some products that are stored."""
        now = self._snapshot
        return now.take(now.rows_of(product_ids), vectors=vectors, columns=columns)

    def scan(self, *, vectors: bool = True, columns: bool = True) -> Iterator[Rows]:
        """Every product, in batches, as of one revision."""
        now = self._snapshot
        rows = now.live_rows()
        for start in range(0, len(rows), SCAN_ROWS):
            yield now.take(rows[start : start + SCAN_ROWS], vectors=vectors, columns=columns)

    def digests(self) -> StoredDigests:
        """Content keys and row digests of what is stored."""
        kinds = self.meta.columns
        return StoredDigests(
            (name, key, row_digest(Product(name, caption, image, 0, values), kinds))
            for rows in self.scan(vectors=False)
            for name, caption, image, key, values in zip(
                rows.ids,
                rows.captions,
                rows.images,
                rows.content_keys,
                rows.columns.to_pylist() if kinds else [{}] * len(rows.ids),
                strict=True,
            )
        )

    def changes_since(self, revision: int) -> Changes | None:
        """What changed since a revision; None if that was too many writes ago."""
        with self._lock:
            now, log = self.revision, list(self._changes)
        if revision == now:
            return Changes(now, frozenset(), frozenset())
        later = [changes for changes in log if changes.revision > revision]
        is_known = len(log) > len(later) or (bool(later) and later[0].revision == revision + 1)
        if not is_known or revision > now:
            return None
        upserted: frozenset[str] = frozenset()
        deleted: frozenset[str] = frozenset()
        for changes in later:
            upserted = (upserted - changes.deleted) | changes.upserted
            deleted = (deleted - changes.upserted) | changes.deleted
        return Changes(now, upserted, deleted)

    def similar_ids(self, product_id: str) -> list[str]:
        """Up to three stored ids that are spelled like one that is not stored."""
        return get_close_matches(product_id, self._snapshot.ids, n=3, cutoff=0.5)

    @contextmanager
    def writer(
        self, *, timeout_s: float = LOCK_TIMEOUT_S, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[Writer]:
        """Be the only writer while the block runs; re-entrant within a thread.

        Raises:
            StoreLockedError: another thread was still writing after the wait.
        """
        with self._writers.held(timeout_s=timeout_s, on_wait=on_wait):
            yield _MemoryWriter(self)

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Memory is not damaged: a report without findings."""
        return VerifyReport(checked=len(self), damaged=(), removed=0)

    def info(self) -> StoreInfo:
        """The store in figures."""
        now = self._snapshot
        size = now.vectors.nbytes + now.columns.nbytes + now.base.captions.nbytes
        size += 0 if now.pruning is None else now.pruning.nbytes
        is_approximate = isinstance(now.pruning, SignPruning)
        return StoreInfo(now.meta, len(now), size, is_approximate=is_approximate)

    def close(self) -> None:
        """Forget the store's name; what holds it can go on using it."""
        if _STORES.get(self.meta.uri) is self:
            del _STORES[self.meta.uri]

    def apply(
        self,
        *,
        added: Rows | None = None,
        deleted: Iterable[str] = (),
        meta: StoreMeta | None = None,
        columns: pa.Table | None = None,
    ) -> int:
        """Put the next revision in the place of this one; for writers.

        Args:
            added: rows that come after the others, or replace those of their ids.
            deleted: products that go.
            meta: the metadata, if it changes.
            columns: the columns of the rows that are there, if there are fewer, or narrower ones.

        Returns:
            How many of the deleted products were stored.
        """
        with self._lock:
            now = self._snapshot
            if columns is not None:
                now = now.with_columns(columns, now.meta if meta is None else meta)
            meta = now.meta if meta is None else meta
            new = _empty_rows(meta) if added is None else added
            gone = now.rows_of(deleted)
            changes = Changes(
                now.revision + 1,
                frozenset(new.ids),
                frozenset(now.id(row) for row in gone.tolist()),
            )
            replaced = np.concatenate([gone, now.rows_of(new.ids)])
            self._snapshot = now.updated(replaced, new, meta, changes.revision)
            self._changes.append(changes)
            return len(gone)


class _MemoryWriter:
    """Writes to a store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def upsert(
        self,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        content_keys: Sequence[bytes],
    ) -> None:
        """Store products, replacing those of the same ids."""
        meta = self._store.meta
        check_batch(products, vectors, content_keys, dim=meta.dim, model=meta.model, uri=meta.uri)
        if not products:
            return
        meta = _with_columns(meta, kinds_of(products))
        last = last_of_each_id(products)
        rows = list(last.values())
        chosen = [products[row] for row in rows]
        added = Rows(
            ids=list(last),
            captions=[clean_text(product.caption) for product in chosen],
            images=[image_location(product) for product in chosen],
            content_keys=[content_keys[row] for row in rows],
            vectors=as_kept(vectors[rows], meta.vectors),
            columns=columns_table(chosen, meta.columns),
        )
        self._store.apply(added=added, meta=meta)

    def delete(self, product_ids: Iterable[str]) -> int:
        """Delete products; ids that are not stored are ignored. Returns how many were stored."""
        return self._store.apply(deleted=product_ids)

    def set_columns(self, columns: Mapping[str, Kind], *, narrow: bool = False) -> None:
        """Add columns that are new, widen those that are too narrow, and narrow them if asked."""
        meta = _with_columns(self._store.meta, columns)
        if meta is not self._store.meta:
            self._store.apply(meta=meta)
        table = self._store.snapshot.columns
        for name, kind in narrowed_by(meta.columns, columns).items() if narrow else ():
            values = narrowed(table.column(name), kind)
            if values is not None:
                table = table.set_column(table.column_names.index(name), name, values)
                meta = replace(meta, columns={**meta.columns, name: kind})
        if table is not self._store.snapshot.columns:
            self._store.apply(meta=meta, columns=table)

    def drop_blank(self, names: Iterable[str]) -> None:
        """Remove those of some columns in which no product has a value."""
        table, meta = self._store.snapshot.columns, self._store.meta
        known = [name for name in names if name in meta.columns]
        blank = {name for name in known if table.column(name).null_count == len(table)}
        if blank:
            kept = {name: kind for name, kind in meta.columns.items() if name not in blank}
            arrays = [table.column(name).combine_chunks() for name in kept]
            table = table_of(arrays, kept, len(table))
            self._store.apply(meta=replace(meta, columns=kept), columns=table)

    def set_roles(self, roles: Roles) -> None:
        """Replace the roles."""
        if roles != self._store.meta.roles:
            self._store.apply(meta=replace(self._store.meta, roles=roles))

    def set_relevance_threshold(self, threshold: float | None) -> None:
        """Replace the relevance threshold."""
        meta = self._store.meta
        if threshold != meta.relevance_threshold:
            self._store.apply(meta=replace(meta, relevance_threshold=threshold))

    def optimize(self, *, is_finished: bool = True) -> None:
        """Nothing to do in memory."""


def _with_columns(meta: StoreMeta, wanted: Mapping[str, Kind]) -> StoreMeta:
    wider = widened_by(meta.columns, wanted)
    return replace(meta, columns={**meta.columns, **wider}) if wider else meta


def _empty_rows(meta: StoreMeta) -> Rows:
    vectors = np.empty((0, meta.dim), np.float32)
    return Rows([], [], [], [], vectors, columns_table([], meta.columns))
