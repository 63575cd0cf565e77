"""One revision of a store in memory: products in a fixed order, which never change.

A million products are a gigabyte, and a change of one must not copy them. So most rows are in a
block that snapshots share. Those that came later are in a small block after it, and rows that were
replaced stay and are dead, until there are many of both; then one block is made of all.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int

from fashionclip.product import Hit, Product, Value
from fashionclip.store.base import Rows, Sort, StoreMeta
from fashionclip.store.blocks import Block, block_of, joined
from fashionclip.store.filters import Filter
from fashionclip.store.fulltext import WordIndex, product_text, text_columns
from fashionclip.store.pca_pruning import (
    MAX_ROWS,
    MIN_ROWS,
    PCAPruning,
    apply_masks,
    fit_pruning,
    kth_largest,
    scores_of_all,
    scores_of_rows,
    top_rows,
)
from fashionclip.store.rows import (
    check_columns,
    clean_text,
    columns_table,
    stack_tables,
    take_rows,
)
from fashionclip.store.sign_pruning import SignPruning, sign_words
from fashionclip.store.vector_room import VectorRoom

MIN_RECENT = 1_000  # rows after the large block, and dead ones, before a new block is made
MAX_RECENT_SHARE = 0.05  # of the large block; more make a new block too
ROWS_PER_COPY = 1 << 16


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One revision of a store. A row is a number below ``n_rows``; some rows may be dead."""

    revision: int
    meta: StoreMeta
    base: Block
    recent: Block
    """The rows after those of ``base``."""
    room: VectorRoom
    is_live: Bool[np.ndarray, " n"] | None = None
    """False for rows that were deleted or replaced; None if there are none."""
    pruning: PCAPruning | SignPruning | None = None
    """Excludes most rows before they are scored; None where it would not pay."""
    orders: dict[Sort | None, Int[np.ndarray, " n"]] = field(default_factory=dict)
    """Orders used so far."""

    @property
    def n_rows(self) -> int:
        """The number of rows, live or dead."""
        return len(self.base) + len(self.recent)

    @cached_property
    def _n_live(self) -> int:
        return self.n_rows if self.is_live is None else int(np.count_nonzero(self.is_live))

    def __len__(self) -> int:
        """The number of products."""
        return self._n_live

    @property
    def vectors(self) -> Float[np.ndarray, "n dim"]:
        """The vectors of all rows, as floats or halves."""
        return self.room.first(self.n_rows)

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all products."""
        if self.is_live is None and not self.recent.ids:
            return self.base.ids
        return [self.id(row) for row in self.live_rows().tolist()]

    @property
    def columns(self) -> pa.Table:
        """The columns of all products, in the order of ``ids``."""
        table = stack_tables([self.base.columns, self.recent.columns], self.meta.columns)
        return table if self.is_live is None else take_rows(table, pa.array(self.live_rows()))

    def live_rows(self) -> Int[np.ndarray, " _"]:
        """The rows of all products."""
        return np.arange(self.n_rows) if self.is_live is None else np.flatnonzero(self.is_live)

    def column(self, name: str) -> pa.ChunkedArray:
        """A catalogue column of all rows."""
        parts = (self.base.columns.column(name), self.recent.columns.column(name))
        chunks = [chunk for part in parts for chunk in part.chunks]
        return pa.chunked_array(chunks, parts[0].type)

    @cached_property
    def word_index(self) -> WordIndex:
        """The words that products are found by, row by row; built when it is first used."""
        names = [name for name in text_columns(self.meta.roles) if name in self.meta.columns]
        texts: list[str] = []
        for block in (self.base, self.recent):
            values = block.columns.select(names).to_pylist() if names else [{}] * len(block)
            rows = zip(block.ids, block.captions.to_pylist(), values, strict=True)
            texts += [
                product_text(Product(*row[:2], None, 0, row[2]), self.meta.roles) for row in rows
            ]
        if self.is_live is not None:
            texts = [text if alive else "" for text, alive in zip(texts, self.is_live, strict=True)]
        return WordIndex(texts)

    def row_of(self, product_id: str) -> int | None:
        """The row of a product; None if it is not here."""
        row = self.recent.rows.get(product_id)
        row = self.base.rows.get(product_id) if row is None else row + len(self.base)
        return None if row is None or (self.is_live is not None and not self.is_live[row]) else row

    def rows_of(self, product_ids: Iterable[str]) -> Int[np.ndarray, " _"]:
        """The rows of those products that are here, in the order of their ids' first mention."""
        found = (self.row_of(clean_text(name)) for name in dict.fromkeys(product_ids))
        return np.array([row for row in found if row is not None], np.int64)

    def mask(self, where: Filter | None) -> Bool[np.ndarray, " n"] | None:
        """True for the rows of products that pass a filter; not to be written to. None for all."""
        if where is None:
            return self.is_live
        found = self.base.mask(where, self.meta)
        if self.recent.ids:
            found = np.concatenate([found, self.recent.mask(where, self.meta)])
        return found if self.is_live is None else found & self.is_live

    def mask_of(self, product_ids: Iterable[str]) -> Bool[np.ndarray, " n"]:
        """True for the rows of some products."""
        found = np.zeros(self.n_rows, dtype=bool)
        found[self.rows_of(product_ids)] = True
        return found

    def nearest(
        self,
        queries: Float32[np.ndarray, "query dim"],
        *,
        ks: Sequence[int],
        masks: Sequence[Bool[np.ndarray, " n"] | None],
        columns: Sequence[str] | None = None,
        exact: bool | None = None,
    ) -> list[list[Hit]]:
        """The products closest to each of several unit vectors, closest first, equal ones by id.

        Args:
            queries: unit vectors.
            ks: hits wanted by each.
            masks: for each, the rows that pass its filter; None for all.
            columns: those that the hits carry; None for all.
            exact: False may miss a few of them, two of a thousand, and takes less time. None is
                exact but where the store is of binary vectors, of which it misses a few more.
        """
        if not len(queries):
            return []
        masks = [self.is_live if one is None else one for one in masks]
        exact = self.meta.vectors != "binary" if exact is None else exact
        if self.pruning is None or (exact and isinstance(self.pruning, SignPruning)):
            all_scores = scores_of_all(self.vectors, queries)
            apply_masks(all_scores, masks)
            rows = top_rows(all_scores, max(ks))
            scores = [row[some] for row, some in zip(all_scores, rows, strict=True)]
        else:
            if exact and isinstance(self.pruning, PCAPruning):
                rows = self.pruning.candidates(queries, self.vectors, ks=ks, masks=masks)
            else:
                rows = self.pruning.likely(queries, k=max(ks), masks=masks)
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
        """The rows of all products in an order: by a column, those without a value last; by id."""
        if sort not in self.orders:
            self.orders[sort] = self._id_order() if sort is None else self._sorted(sort)
        return self.orders[sort]

    def _id_order(self) -> Int[np.ndarray, " _"]:
        rows = self.base.id_order
        if self.is_live is not None:
            rows = rows[self.is_live[rows]]
        recent = self.recent.id_order + len(self.base)
        if self.is_live is not None:
            recent = recent[self.is_live[recent]]
        names = (self.id(row) for row in recent.tolist())
        places = [bisect_left(rows, name, key=lambda row: self.id(int(row))) for name in names]
        return np.insert(rows, places, recent) if places else rows

    def _sorted(self, sort: Sort) -> Int[np.ndarray, " _"]:
        check_columns([sort.column], self.meta.columns, self.meta.uri)
        rows = self.order(None)
        values = self.column(sort.column).combine_chunks()
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        direction = "descending" if sort.descending else "ascending"
        places = pc.array_sort_indices(values.take(pa.array(rows)), order=direction)  # stable
        return np.asarray(rows[places.to_numpy()])

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
        column = None if sort is None else self.column(sort.column)
        value = None if value != value else value  # NaN

        def is_after(row: int) -> bool:
            own: Value = None if column is None else column[row].as_py()
            if own == value:
                return self.id(row) > product_id
            if own is None or value is None:
                return own is None
            is_less: bool = own < value  # type: ignore[operator]  # of one kind
            return is_less if sort is not None and sort.descending else not is_less

        return bisect_left(rows, True, key=lambda row: is_after(int(row)))

    def firsts(self, passing: Bool[np.ndarray, " n"] | None, column: str) -> Bool[np.ndarray, " n"]:
        """True for the first product, by its id, of each value of a column; for all without one.

        Args:
            passing: the rows that count; None for all products.
            column: whose values are groups.
        """
        rows = self.order(None) if passing is None else self.order(None)[passing[self.order(None)]]
        encoded = self.column(column).combine_chunks().dictionary_encode()
        codes = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        indices = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        groups = indices.astype(np.int64)[rows]
        groups = np.where(groups < 0, -1 - np.arange(len(groups)), groups)
        found = np.zeros(self.n_rows, dtype=bool)
        found[rows[np.unique(groups, return_index=True)[1]]] = True
        return found

    def hit(self, product_id: str) -> Hit | None:
        """One product, with a score of 1; None if it is not here."""
        row = self.row_of(clean_text(product_id))
        return None if row is None else self.hits([(row, 1.0)])[0]

    def image(self, product_id: str) -> str | None:
        """The location of a product's image; None if there is none."""
        rows = self.rows_of([product_id])
        location = self.take(rows, vectors=False, columns=False).images[0] if len(rows) else None
        return location if isinstance(location, str) else None

    def hits(
        self, ranking: Sequence[tuple[int, float]], columns: Sequence[str] | None = None
    ) -> list[Hit]:
        """Rows, each with its score, as hits with some columns, or all of them."""
        check_columns(columns or (), self.meta.columns, self.meta.uri)
        rows = np.array([row for row, _ in ranking], np.int64)
        names = list(self.meta.columns if columns is None else columns)
        ids = self._ids_of(rows)
        if not names:
            return [Hit(name, score, {}) for name, (_, score) in zip(ids, ranking, strict=True)]
        table = self._taken(rows, lambda block: block.columns.select(names))
        by_row = zip(*(column.to_pylist() for column in table.columns), strict=True)
        return [
            Hit(name, score, dict(zip(names, values, strict=True)))
            for name, (_, score), values in zip(ids, ranking, by_row, strict=True)
        ]

    def take(self, rows: Int[np.ndarray, " _"], *, vectors: bool, columns: bool) -> Rows:
        """Some rows, with their vectors and columns or without."""
        names = [*(["caption"] if columns else []), "image", "content_key"]
        own = self._taken(rows, lambda block: block.own.select(names))
        kinds = self.meta.columns if columns else {}
        return Rows(
            ids=self._ids_of(rows),
            captions=own["caption"].to_pylist() if columns else [""] * len(rows),
            images=own["image"].to_pylist(),
            content_keys=own["content_key"].to_pylist(),
            vectors=self.vectors[rows].astype(np.float32, copy=False) if vectors else None,
            columns=self._taken(rows, lambda block: block.columns.select(list(kinds))),
        )

    def id(self, row: int) -> str:
        """The id of a row."""
        n = len(self.base)
        return self.base.ids[row] if row < n else self.recent.ids[row - n]

    def _ids_of(self, rows: Int[np.ndarray, " _"]) -> list[str]:
        if self.recent.ids:
            return [self.id(row) for row in rows.tolist()]
        ids = self.base.ids
        return [ids[row] for row in rows.tolist()]

    def _taken(
        self, rows: Int[np.ndarray, " _"], table_of_block: Callable[[Block], pa.Table]
    ) -> pa.Table:
        """Some rows; each block is asked apart, since Arrow would join the two."""
        n = len(self.base)
        is_recent = rows >= n
        if not is_recent.any():
            return take_rows(table_of_block(self.base), pa.array(rows, pa.int64()))
        parts = [
            take_rows(table_of_block(block), pa.array(some, pa.int64()))
            for block, some in ((self.base, rows[~is_recent]), (self.recent, rows[is_recent] - n))
        ]
        places = np.concatenate([np.flatnonzero(~is_recent), np.flatnonzero(is_recent)])
        if not parts[0].num_columns:
            return take_rows(parts[0], pa.array(rows, pa.int64()))
        whole = pa.concat_tables(parts).combine_chunks()
        return whole.take(pa.array(np.argsort(places, kind="stable"), pa.int64()))

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
        vectors = vectors_of(added, meta)
        n_dead = self.n_rows - len(self) + len(gone)
        most = max(MIN_RECENT, MAX_RECENT_SHARE * len(self.base))
        is_small = bool(self.base.ids) and n_dead + len(self.recent) + len(added.ids) <= most
        is_last = self.room.used == self.n_rows  # else another snapshot has used the room
        if not (is_small and is_last and self.room.append(vectors)):
            return self._compacted(gone, added, meta, revision)
        is_live = self.is_live
        if is_live is not None or len(gone):
            is_live = np.ones(self.n_rows + len(vectors), dtype=bool)
            is_live[: self.n_rows] = True if self.is_live is None else self.is_live
            is_live[gone] = False
        return Snapshot(
            revision,
            meta,
            self.base.widened(meta),
            joined([self.recent, block_of(added)], meta),
            self.room,
            is_live,
            self.pruning and self.pruning.updated(np.ones(self.n_rows, dtype=bool), vectors),
        )

    def with_columns(self, columns: pa.Table, meta: StoreMeta) -> "Snapshot":
        """The same products, in the order of ``ids``, with other columns."""
        none = Rows([], [], [], [], None, columns_table([], self.meta.columns))
        whole = self._compacted(np.empty(0, np.int64), none, self.meta, self.revision)
        return replace(whole, meta=meta, base=replace(whole.base, columns=columns, masks={}))

    def _compacted(
        self, gone: Int[np.ndarray, " _"], added: Rows, meta: StoreMeta, revision: int
    ) -> "Snapshot":
        """The next revision, in one block without dead rows."""
        is_kept = np.ones(self.n_rows, dtype=bool) if self.is_live is None else self.is_live.copy()
        is_kept[gone] = False
        n = len(self.base)
        blocks = [self.base.kept(is_kept[:n]), self.recent.kept(is_kept[n:]), block_of(added)]
        base = joined(blocks, meta)
        room = VectorRoom(meta.dim, len(base), form=meta.vectors)
        for start in range(0, self.n_rows, ROWS_PER_COPY):
            part = slice(start, start + ROWS_PER_COPY)
            room.append(self.vectors[part][is_kept[part]])
        if added.vectors is not None:
            room.append(added.vectors)
        pruning = self.pruning and self.pruning.updated(is_kept, vectors_of(added, meta))
        return snapshot_of(base, room, meta, revision, pruning)

    def _ranked(
        self, rows: Int[np.ndarray, " _"], scores: Float32[np.ndarray, " _"], k: int
    ) -> list[tuple[int, float]]:
        """The k best of some rows, each with its score; equal scores in the order of their ids."""
        is_best = scores >= kth_largest(scores, k)
        rows, scores = rows[is_best], np.clip(scores[is_best], -1.0, 1.0)
        ids = self._ids_of(rows)
        ranked = sorted(zip((-scores).tolist(), ids, rows.tolist(), strict=True))
        return [(row, -negative) for negative, _, row in ranked[:k]]


def snapshot_of(
    block: Block,
    room: VectorRoom,
    meta: StoreMeta,
    revision: int,
    pruning: PCAPruning | SignPruning | None = None,
) -> Snapshot:
    """A snapshot of one block and its vectors."""
    vectors = room.first(len(block))
    if pruning is None and len(block) >= MIN_ROWS and meta.vectors == "binary":
        pruning = SignPruning(sign_words(vectors))
    elif pruning is None and MIN_ROWS <= len(block) < MAX_ROWS:
        pruning = fit_pruning(vectors)
    room.release()
    return Snapshot(revision, meta, block, joined([], meta), room, pruning=pruning)


def empty_snapshot(meta: StoreMeta) -> Snapshot:
    """A snapshot without products."""
    return snapshot_of(joined([], meta), VectorRoom(meta.dim, form=meta.vectors), meta, 0)


def vectors_of(rows: Rows, meta: StoreMeta) -> Float32[np.ndarray, "n dim"]:
    """The vectors of some rows; none where the rows have none."""
    return np.empty((0, meta.dim), np.float32) if rows.vectors is None else rows.vectors
