"""The store in memory: exact, quick, and gone with its process.

The service answers from a copy of another store (``MemoryStore.copy_of``) that follows it
(``MemoryStore.refresh_from``), and tests take this store as the reference for all others. Its
content is a ``Snapshot`` that never changes: a write puts a newer one in its place, so that a
reader needs no lock.
"""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from itertools import compress, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int

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
from fashionclip.store.digests import StoredDigests, row_digest
from fashionclip.store.filters import Filter, fit_filter, mask
from fashionclip.store.fulltext import WordIndex, product_text, text_columns
from fashionclip.store.pca_pruning import (
    MIN_ROWS,
    PCAPruning,
    apply_masks,
    fit_pruning,
    kth_largest,
    scores_of_rows,
    top_rows,
)
from fashionclip.store.rows import (
    ARROW_TYPES,
    KEY_BYTES,
    check_batch,
    check_columns,
    check_dim,
    check_k,
    clean_text,
    columns_table,
    count_distinct,
    fit,
    image_location,
    kinds_of,
    last_of_each_id,
    narrowed,
    narrowed_by,
    stack_tables,
    table_of,
    take_rows,
    unit_queries,
    widened_by,
)

MAX_MASKS = 256  # filters per snapshot whose masks are cached, a byte per product each
MAX_CHANGES = 1_000  # writes that ``changes_since`` remembers
SCAN_ROWS = 2_048

_STORES: dict[str, "MemoryStore"] = {}


def open_store(uri: str) -> "MemoryStore":
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


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One revision of a store: products in a fixed order, their vectors and columns."""

    revision: int
    meta: StoreMeta
    ids: Sequence[str]
    captions: pa.ChunkedArray
    images: pa.ChunkedArray
    """Locations; null where there is none."""
    content_keys: pa.ChunkedArray
    vectors: Float32[np.ndarray, "n dim"]
    columns: pa.Table
    """The catalogue's columns, by their own names."""
    pruning: PCAPruning | None = None
    """Excludes most rows before they are scored; None where it would not pay."""
    masks: dict[Filter, Bool[np.ndarray, " n"]] = field(default_factory=dict)
    """Masks of the filters used so far."""
    orders: dict[Sort, Int[np.ndarray, " n"]] = field(default_factory=dict)
    """Orders used so far."""

    def __len__(self) -> int:
        """The number of products."""
        return len(self.ids)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each product."""
        return {product_id: row for row, product_id in enumerate(self.ids)}

    @cached_property
    def id_order(self) -> Int[np.ndarray, " n"]:
        """All rows in the order of their ids."""
        return np.array(sorted(range(len(self.ids)), key=self.ids.__getitem__), np.int64)

    @cached_property
    def word_index(self) -> WordIndex:
        """The words that products are found by; built when it is first used."""
        names = [name for name in text_columns(self.meta.roles) if name in self.meta.columns]
        rows = self.columns.select(names).to_pylist() if names else [{}] * len(self)
        texts = [
            product_text(Product(product_id, caption, None, 0, row), self.meta.roles)
            for product_id, caption, row in zip(
                self.ids, self.captions.to_pylist(), rows, strict=True
            )
        ]
        return WordIndex(texts)

    def rows_of(self, product_ids: Iterable[str]) -> Int[np.ndarray, " _"]:
        """The rows of those products that are here, in the order of their ids' first mention."""
        found = (self.rows.get(clean_text(name)) for name in dict.fromkeys(product_ids))
        return np.array([row for row in found if row is not None], np.int64)

    def mask(self, where: Filter) -> Bool[np.ndarray, " n"]:
        """True for the rows that pass a filter; not to be written to."""
        found = self.masks.get(where)
        if found is None:
            found = mask(fit_filter(where, self.meta.columns, self.meta.roles), self._column)
            if len(self.masks) >= MAX_MASKS:
                self.masks.clear()
            self.masks[where] = found
        return found

    def nearest(
        self,
        queries: Float32[np.ndarray, "query dim"],
        *,
        ks: Sequence[int],
        masks: Sequence[Bool[np.ndarray, " n"] | None],
        columns: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The products closest to each of several unit vectors, closest first, equal ones by id.

        Args:
            queries: unit vectors.
            ks: hits wanted by each.
            masks: for each, the rows that pass its filter; None for all.
            columns: those that the hits carry; None for all.
        """
        if not len(queries):
            return []
        if self.pruning is None:
            all_scores = queries @ self.vectors.T
            apply_masks(all_scores, masks)
            rows = top_rows(all_scores, max(ks))
            scores = [row[some] for row, some in zip(all_scores, rows, strict=True)]
        else:
            rows = self.pruning.candidates(queries, self.vectors, ks=ks, masks=masks)
            scores = scores_of_rows(rows, self.vectors, queries)
        rankings = [self._ranked(*query) for query in zip(rows, scores, ks, strict=True)]
        return self._hits_of(rankings, columns)

    def nearest_among(
        self,
        rows: Sequence[Int[np.ndarray, " _"]],
        queries: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        columns: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The k products closest to each of several unit vectors, among some rows for each."""
        scores = scores_of_rows(rows, self.vectors, queries)
        rankings = [self._ranked(*query, k) for query in zip(rows, scores, strict=True)]
        return self._hits_of(rankings, columns)

    def _hits_of(
        self, rankings: Sequence[Sequence[tuple[int, float]]], columns: Sequence[str] | None
    ) -> list[list[Hit]]:
        hits = iter(self.hits([pair for ranking in rankings for pair in ranking], columns))
        return [list(islice(hits, len(ranking))) for ranking in rankings]

    def order(self, sort: Sort | None) -> Int[np.ndarray, " n"]:
        """All rows in an order: by a column, rows without a value last, then by id."""
        if sort is None:
            return self.id_order
        if sort not in self.orders:
            check_columns([sort.column], self.meta.columns, self.meta.uri)
            values = self.columns.column(sort.column).take(pa.array(self.id_order))
            values = values.combine_chunks()
            if pa.types.is_floating(values.type):
                values = pc.if_else(pc.is_nan(values), None, values)
            direction = "descending" if sort.descending else "ascending"
            places = pc.array_sort_indices(values, order=direction)  # stable
            self.orders[sort] = self.id_order[places.to_numpy()]
        return self.orders[sort]

    def list_hits(
        self,
        passing: Bool[np.ndarray, " n"] | None,
        *,
        k: int,
        offset: int = 0,
        sort: Sort | None = None,
        after: tuple[Value, str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """A page of the products that a mask lets pass, in the order of their ids or as sorted."""
        rows = self.order(sort)
        rows = rows if passing is None else rows[passing[rows]]
        if after is not None:
            offset += self._n_until(rows, sort, *after)
        return self.hits([(row, 1.0) for row in rows[offset : offset + k].tolist()], columns)

    def _n_until(
        self, rows: Int[np.ndarray, " _"], sort: Sort | None, value: Value, product_id: str
    ) -> int:
        """How many of some ordered rows come before a place in the order, or are at it."""
        column = None if sort is None else self.columns.column(sort.column)
        value = None if value != value else value  # NaN

        def is_after(row: int) -> bool:
            own: Value = None if column is None else column[row].as_py()
            if own == value:
                return self.ids[row] > product_id
            if own is None or value is None:
                return own is None
            is_less: bool = own < value  # type: ignore[operator]  # of one kind
            return is_less if sort is not None and sort.descending else not is_less

        return bisect_left(rows.tolist(), True, key=is_after)

    def firsts(self, passing: Bool[np.ndarray, " n"] | None, column: str) -> Bool[np.ndarray, " n"]:
        """True for the first product, by its id, of each value of a column; for all without one.

        Args:
            passing: the rows that count; None for all.
            column: whose values are groups.
        """
        rows = self.id_order if passing is None else self.id_order[passing[self.id_order]]
        codes = self.columns.column(column).combine_chunks().dictionary_encode().indices
        groups = codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)[rows]
        groups = np.where(groups < 0, -1 - np.arange(len(groups)), groups)
        found = np.zeros(len(self), dtype=bool)
        found[rows[np.unique(groups, return_index=True)[1]]] = True
        return found

    def hit(self, product_id: str) -> Hit | None:
        """One product, with a score of 1; None if it is not here."""
        row = self.rows.get(clean_text(product_id))
        return None if row is None else self.hits([(row, 1.0)])[0]

    def image(self, product_id: str) -> str | None:
        """The location of a product's image; None if there is none."""
        row = self.rows.get(clean_text(product_id))
        location = None if row is None else self.images[row].as_py()
        return location if isinstance(location, str) else None

    def hits(
        self, ranking: Sequence[tuple[int, float]], columns: Sequence[str] | None = None
    ) -> list[Hit]:
        """Rows, each with its score, as hits with some columns, or all of them."""
        check_columns(columns or (), self.meta.columns, self.meta.uri)
        rows = [row for row, _ in ranking]
        table = self.columns if columns is None else self.columns.select(list(columns))
        taken = take_rows(table, pa.array(rows, pa.int64()))
        names = table.column_names
        values = [column.to_pylist() for column in taken.columns]
        by_row = zip(*values, strict=True) if values else ((),) * len(rows)
        return [
            Hit(self.ids[row], score, dict(zip(names, row_values, strict=True)))
            for (row, score), row_values in zip(ranking, by_row, strict=True)
        ]

    def take(self, rows: Int[np.ndarray, " _"], *, vectors: bool, columns: bool) -> Rows:
        """Some rows, with their vectors and columns or without."""
        chosen = pa.array(rows, pa.int64())
        return Rows(
            ids=[self.ids[row] for row in rows.tolist()],
            captions=self.captions.take(chosen).to_pylist(),
            images=self.images.take(chosen).to_pylist(),
            content_keys=self.content_keys.take(chosen).to_pylist(),
            vectors=self.vectors[rows] if vectors else None,
            columns=take_rows(self.columns if columns else self.columns.select([]), chosen),
        )

    def updated(
        self, gone: Int[np.ndarray, " _"], added: Rows, meta: StoreMeta, revision: int
    ) -> "Snapshot":
        """The next revision.

        Args:
            gone: rows that are deleted or replaced.
            added: rows that come after the others; their columns have the kinds of ``meta``.
            meta: whose columns are those of this snapshot, perhaps wider, and perhaps more.
            revision: its number.
        """
        is_kept = np.ones(len(self), dtype=bool)
        is_kept[gone] = False
        kept = np.flatnonzero(is_kept)
        new = added.vectors if added.vectors is not None else self.vectors[:0]
        vectors = self.vectors
        if len(gone) or len(new):
            vectors = np.empty((len(kept) + len(new), meta.dim), np.float32)
            np.take(self.vectors, kept, axis=0, out=vectors[: len(kept)], mode="clip")
            vectors[len(kept) :] = new
        pruning = self.pruning and self.pruning.updated(is_kept, new)
        if pruning is None and len(vectors) >= MIN_ROWS and len(self) < MIN_ROWS:
            pruning = fit_pruning(vectors)
        rows = pa.array(kept, pa.int64())
        columns = take_rows(self.columns, rows)
        return Snapshot(
            revision=revision,
            meta=meta,
            ids=[*compress(self.ids, is_kept.tolist()), *added.ids],
            captions=_joined(self.captions.take(rows), added.captions),
            images=_joined(self.images.take(rows), added.images),
            content_keys=_joined(self.content_keys.take(rows), added.content_keys),
            vectors=vectors,
            columns=stack_tables([_widened(columns, meta.columns), added.columns], meta.columns),
            pruning=pruning,
        )

    def _column(self, name: str) -> pa.ChunkedArray:
        """The values of a catalogue column, or of what a filter reaches besides."""
        if name in self.meta.columns:
            return self.columns.column(name)
        if name == "id":
            return pa.chunked_array([pa.array(self.ids, pa.string())])
        return self.captions if name == "caption" else self.images

    def _ranked(
        self, rows: Int[np.ndarray, " _"], scores: Float32[np.ndarray, " _"], k: int
    ) -> list[tuple[int, float]]:
        """The k best of some rows, each with its score; equal scores in the order of their ids."""
        is_best = scores >= kth_largest(scores, k)
        rows, scores = rows[is_best], np.clip(scores[is_best], -1.0, 1.0)
        ids = [self.ids[row] for row in rows.tolist()]
        ranked = sorted(zip((-scores).tolist(), ids, rows.tolist(), strict=True))
        return [(row, -negative) for negative, _, row in ranked[:k]]


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
        self._snapshot = _empty_snapshot(meta)

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
            fetched = replace(fetched, columns=_widened(fetched.columns, meta.columns))
            self._snapshot = now.updated(gone, fetched, meta, changes.revision)
            self._changes.append(changes)
            return True

    def _read(self, store: Store) -> None:
        """Read a whole store in the place of what is here."""
        revision, meta = store.revision, store.meta  # a write meanwhile is taken in later
        parts = list(store.scan())
        empty = _empty_snapshot(meta)
        vectors = [part.vectors for part in parts if part.vectors is not None]
        rows = Rows(
            ids=[name for part in parts for name in part.ids],
            captions=[caption for part in parts for caption in part.captions],
            images=[image for part in parts for image in part.images],
            content_keys=[key for part in parts for key in part.content_keys],
            vectors=np.concatenate([empty.vectors, *vectors]),
            columns=stack_tables(
                [_widened(part.columns, meta.columns) for part in parts], meta.columns
            ),
        )
        with self._lock:
            self._snapshot = empty.updated(np.empty(0, np.int64), rows, meta, revision)
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
        """The k products closest to each vector; ``exact`` makes no difference."""
        check_k(k)
        now = self._snapshot
        check_dim(vectors, dim=now.meta.dim, model=now.meta.model, uri=now.meta.uri)
        filters = where if isinstance(where, Sequence) else [where] * len(vectors)
        masks = [None if one is None else now.mask(one) for one in filters]
        return now.nearest(
            unit_queries(vectors), ks=[k] * len(vectors), masks=masks, columns=columns
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
        passing = None if where is None else now.mask(where)
        scores = now.word_index.scores(text).items()
        found = [(row, score) for row, score in scores if passing is None or passing[row]]
        found.sort(key=lambda pair: (-pair[1], now.ids[pair[0]]))
        return now.hits(found[:k], columns)

    def count(self, where: Filter | None = None, *, distinct: str | None = None) -> int:
        """How many products pass a filter; those that share a value of a column count once."""
        now = self._snapshot
        if distinct is not None:
            values = now.columns.column(distinct)
            return count_distinct(values if where is None else values.filter(now.mask(where)))
        return len(now) if where is None else int(now.mask(where).sum())

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
        passing = None if where is None else now.mask(where)
        return now.list_hits(passing, k=k, offset=offset, sort=sort, after=after, columns=columns)

    def sample(self, n: int) -> Rows:
        """Up to n products, spread evenly over the store, with their vectors."""
        now = self._snapshot
        rows = np.unique(np.linspace(0, len(now) - 1, min(n, len(now)), dtype=np.int64))
        return now.take(rows, vectors=True, columns=False)

    def fetch(
        self, product_ids: Sequence[str], *, vectors: bool = True, columns: bool = True
    ) -> Rows:
        """Those of some products that are stored."""
        now = self._snapshot
        return now.take(now.rows_of(product_ids), vectors=vectors, columns=columns)

    def scan(self, *, vectors: bool = True, columns: bool = True) -> Iterator[Rows]:
        """Every product, in batches, as of one revision."""
        now = self._snapshot
        for start in range(0, len(now), SCAN_ROWS):
            rows = np.arange(start, min(start + SCAN_ROWS, len(now)))
            yield now.take(rows, vectors=vectors, columns=columns)

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
        size = now.vectors.nbytes + now.columns.nbytes + now.captions.nbytes
        return StoreInfo(now.meta, len(now), size, is_approximate=False)

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
                now = replace(now, columns=columns, masks={}, orders={})
            meta = now.meta if meta is None else meta
            new = _empty_rows(meta) if added is None else added
            gone = now.rows_of(deleted)
            changes = Changes(
                now.revision + 1, frozenset(new.ids), frozenset(now.ids[row] for row in gone)
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
            vectors=np.ascontiguousarray(vectors[rows], dtype=np.float32),
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


def _widened(table: pa.Table, kinds: Mapping[str, Kind]) -> pa.Table:
    """A table with the columns of some kinds: cast where they are wider, null where new."""
    names = table.column_names
    if names == list(kinds) and all(
        table.schema.field(name).type == ARROW_TYPES[kind] for name, kind in kinds.items()
    ):
        return table
    arrays = []
    for name, kind in kinds.items():
        kind_type = ARROW_TYPES[kind]
        if name not in names:
            arrays.append(pa.nulls(len(table), kind_type))
            continue
        column = table.column(name).combine_chunks()
        if column.type != kind_type:
            values: list[Value] = column.to_pylist()
            column = pa.array([fit(value, kind) for value in values], kind_type)
        arrays.append(column)
    return table_of(arrays, kinds, len(table))


def _joined(column: pa.ChunkedArray, added: Sequence[object]) -> pa.ChunkedArray:
    """A column with more values after its own, in one piece: rows are taken twice as fast."""
    if not len(added):
        return column
    joined = pa.concat_arrays([*column.chunks, pa.array(added, column.type)])
    return pa.chunked_array([joined], column.type)


def _empty_rows(meta: StoreMeta) -> Rows:
    vectors = np.empty((0, meta.dim), np.float32)
    return Rows([], [], [], [], vectors, columns_table([], meta.columns))


def _empty_snapshot(meta: StoreMeta) -> Snapshot:
    return Snapshot(
        revision=0,
        meta=meta,
        ids=[],
        captions=pa.chunked_array([], pa.string()),
        images=pa.chunked_array([], pa.string()),
        content_keys=pa.chunked_array([], pa.binary(KEY_BYTES)),
        vectors=np.empty((0, meta.dim), np.float32),
        columns=columns_table([], meta.columns),
    )
