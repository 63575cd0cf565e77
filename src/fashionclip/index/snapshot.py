"""One version of an index, whole in memory: what a service answers from.

A query that LanceDB answers in 10 ms of overhead, a matrix product answers for many queries at
once, exactly, and one with a sketch of the vectors as exactly and sooner; rows are taken from Arrow
columns. It costs some five bytes a number and the text of the catalogue. A snapshot never changes:
a newer one takes its place, so whoever reads one needs no lock, and goes on answering while the
files are being rewritten.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int

from fashionclip.index import rows
from fashionclip.index.columns import stored_name
from fashionclip.index.queries import Queries
from fashionclip.index.sketch import FEWEST_ROWS, Sketch, hide, least, likeliest, scores_of, sketch
from fashionclip.product import Hit, Kind


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Products in a fixed order, their vectors and their columns."""

    version: int
    """The table's version that it was read from."""
    columns: Mapping[str, Kind]
    """The catalogue's columns and what they hold."""
    vectors: Float32[np.ndarray, "n dim"]
    table: pa.Table
    """Row i belongs to vector i; everything stored but the vector."""
    places: Mapping[str, int]
    """The row of each product."""
    n_damaged: int
    """Rows left out because their vector is not what was written."""
    sketch: Sketch | None = None
    """What rules most rows out; None where there are few, or it would rule out too few."""

    @property
    def count(self) -> int:
        """Products in it."""
        return len(self.vectors)

    def mask(self, product_ids: Iterable[str]) -> Bool[np.ndarray, " n"]:
        """True for the rows of some products; ids that are not in it are passed over."""
        found = np.zeros(self.count, dtype=bool)
        places = (self.places.get(name) for name in product_ids)
        found[np.fromiter((i for i in places if i is not None), dtype=np.int64)] = True
        return found

    def best(
        self,
        queries: Float32[np.ndarray, "query dim"],
        ks: Sequence[int],
        masks: Sequence[Bool[np.ndarray, " n"] | None],
    ) -> list[list[Hit]]:
        """The products closest to each of several unit vectors, closest first.

        Args:
            queries: unit vectors.
            ks: hits wanted of each.
            masks: for each, the rows that pass its filter; None for all of them.

        Returns:
            Hits whose score is the cosine; equal scores in the order of their ids.
        """
        if self.sketch is None:
            all_scores = queries @ self.vectors.T
            hide(all_scores, masks)
            places = likeliest(all_scores, max(ks))
            scores = [row[some] for row, some in zip(all_scores, places, strict=True)]
        else:
            places = self.sketch.contenders(queries, ks, self.vectors, masks)
            scores = scores_of(places, self.vectors, queries)
        placed = [self._in_order(*one) for one in zip(places, scores, ks, strict=True)]
        hits = iter(self._hits([place for ranking in placed for place in ranking]))
        return [list(islice(hits, len(ranking))) for ranking in placed]

    def listed(self, mask: Bool[np.ndarray, " n"] | None, *, k: int, offset: int) -> list[Hit]:
        """Products in their own order, with a score of 0: what there is, without a question."""
        places = self._passing(mask)
        return self._hits([(int(place), 0.0) for place in places[offset : offset + k]])

    def get(self, product_id: str) -> Hit | None:
        """One product, with a score of 1; None if it is not there."""
        place = self.places.get(product_id)
        return None if place is None else self._hits([(place, 1.0)])[0]

    def _passing(self, mask: Bool[np.ndarray, " n"] | None) -> Int[np.ndarray, " some"]:
        return np.arange(self.count) if mask is None else np.flatnonzero(mask)

    def _in_order(
        self, places: Int[np.ndarray, " some"], scores: Float32[np.ndarray, " some"], k: int
    ) -> list[tuple[int, float]]:
        """The k best of some rows, each with its score; equal scores in the order of their ids."""
        is_best = scores >= least(scores, k)
        places, scores = places[is_best], np.clip(scores[is_best], -1.0, 1.0)
        ids = self.table.column(rows.ID).take(pa.array(places)).to_pylist()
        ranked = sorted(zip((-scores).tolist(), ids, places.tolist(), strict=True))
        return [(place, -negative) for negative, _, place in ranked[:k]]

    def _hits(self, placed: Sequence[tuple[int, float]]) -> list[Hit]:
        taken = self.table.take(pa.array([place for place, _ in placed], pa.int64()))
        ids = taken.column(rows.ID).to_pylist()
        columns = [taken.column(stored_name(name)).to_pylist() for name in self.columns]
        values = zip(*columns, strict=True) if columns else ((),) * len(ids)
        names = tuple(self.columns)
        return [
            Hit(product_id, score, dict(zip(names, row, strict=True)))
            for product_id, (_, score), row in zip(ids, placed, values, strict=True)
        ]


def read(queries: Queries) -> Snapshot:
    """Read a whole table into memory, less the rows whose vector is damaged.

    Raises:
        StoreCorruptError: the files cannot be read.
    """
    version, schema = queries.version, queries.schema  # a write meanwhile is met again later
    names = [name for name in schema.names if name != rows.VECTOR]
    tables, stacks, n_damaged = (
        [pa.schema([schema.field(name) for name in names]).empty_table()],
        [],
        0,
    )
    for batch in queries.scan(None):
        vectors = rows.vectors(batch)
        is_whole = _whole(batch, vectors)
        n_damaged += len(vectors) - int(is_whole.sum())
        stacks.append(vectors[is_whole])
        tables.append(pa.Table.from_batches([batch.select(names).filter(pa.array(is_whole))]))
    dim = schema.field(rows.VECTOR).type.list_size
    stacked = np.concatenate(stacks) if stacks else np.empty((0, dim), dtype=np.float32)
    sketched = sketch(stacked) if len(stacked) >= FEWEST_ROWS else None
    return _snapshot(version, stacked, pa.concat_tables(tables), n_damaged, sketched)


def renewed(old: Snapshot, queries: Queries, product_ids: Sequence[str]) -> Snapshot:
    """Read only those products anew that were just written or taken out.

    Args:
        old: what it was before that write, and only that write.
        queries: the table.
        product_ids: the products of the write.

    Raises:
        StoreCorruptError: the files cannot be read.
    """
    version, schema = queries.version, queries.schema
    if schema.remove(schema.get_field_index(rows.VECTOR)) != old.table.schema:
        return read(queries)  # a column came, or became wider
    if not product_ids:
        return replace(old, version=version)
    names = old.table.schema.names
    fresh = list(queries.rows_of(product_ids, [*names, rows.VECTOR]))
    stays = ~old.mask(product_ids)
    tables = [old.table.filter(pa.array(stays))]
    tables += [pa.Table.from_batches([batch.select(names)], old.table.schema) for batch in fresh]
    new = np.concatenate([old.vectors[:0], *(rows.vectors(batch) for batch in fresh)])
    vectors = np.concatenate([old.vectors[stays], new])
    sketched = None if old.sketch is None else old.sketch.kept(stays, new)
    return _snapshot(version, vectors, pa.concat_tables(tables), old.n_damaged, sketched)


def _snapshot(
    version: int,
    vectors: np.ndarray,
    table: pa.Table,
    n_damaged: int,
    sketched: Sketch | None,
) -> Snapshot:
    table = table.combine_chunks()  # rows are taken from one piece twice as fast
    ids = table.column(rows.ID).to_pylist()
    places = {name: i for i, name in enumerate(ids)}
    kinds = rows.kinds(table.schema)
    return Snapshot(version, kinds, vectors, table, places, n_damaged, sketched)


def _whole(batch: pa.RecordBatch, vectors: np.ndarray) -> Bool[np.ndarray, " n"]:
    ids, sums = (batch.column(name).to_pylist() for name in (rows.ID, rows.CRC))
    sound = (
        rows.checksum(name, vector) == stored
        for name, vector, stored in zip(ids, vectors, sums, strict=True)
    )
    return np.fromiter(sound, dtype=bool, count=len(ids))
