"""Blocks of products in memory, column by column, without their vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from fashionclip.store.base import Rows, StoreMeta
from fashionclip.store.filters import Filter, fit_filter, mask
from fashionclip.store.rows import KEY_BYTES, stack_tables, take_rows, widened

MAX_MASKS = 256  # filters whose masks are cached, a byte per product each


@dataclass(frozen=True, eq=False)
class Block:
    """Some products without their vectors, shared by snapshots."""

    ids: Sequence[str]
    captions: pa.ChunkedArray
    images: pa.ChunkedArray
    """Locations; null where there is none."""
    content_keys: pa.ChunkedArray
    columns: pa.Table
    """The catalogue's columns by their own names, each in one piece."""
    masks: dict[Filter, Bool[np.ndarray, " n"]] = field(default_factory=dict)
    """Masks of the filters used so far."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.ids)

    @cached_property
    def own(self) -> pa.Table:
        """Captions, images and content keys: rows of one table are taken sooner than of three."""
        columns = [self.captions, self.images, self.content_keys]
        return pa.Table.from_arrays(columns, ["caption", "image", "content_key"])

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The last row of each product."""
        return {product_id: row for row, product_id in enumerate(self.ids)}

    @cached_property
    def id_order(self) -> Int[np.ndarray, " n"]:
        """All rows in the order of their ids."""
        return np.asarray(pc.sort_indices(pa.array(self.ids, pa.string())), np.int64)

    def mask(self, where: Filter, meta: StoreMeta) -> Bool[np.ndarray, " n"]:
        """True for the rows that pass a filter; not to be written to."""
        found = self.masks.get(where)
        if found is None:
            fitted = fit_filter(where, meta.columns, meta.roles)
            found = mask(fitted, lambda name: self.column(name, meta))
            if len(self.masks) >= MAX_MASKS:
                self.masks.clear()
            self.masks[where] = found
        return found

    def column(self, name: str, meta: StoreMeta) -> pa.ChunkedArray:
        """The values of a catalogue column, or of what a filter reaches besides."""
        if name in meta.columns:
            return self.columns.column(name)
        if name == "id":
            return pa.chunked_array([pa.array(self.ids, pa.string())])
        return self.captions if name == "caption" else self.images

    def widened(self, meta: StoreMeta) -> "Block":
        """With the columns of ``meta``, perhaps wider, and perhaps more."""
        columns = widened(self.columns, meta.columns)
        if columns is self.columns:
            return self
        return Block(self.ids, self.captions, self.images, self.content_keys, columns)

    def kept(self, is_kept: Bool[np.ndarray, " n"]) -> "Block":
        """Some rows."""
        if is_kept.all():
            return self
        rows = pa.array(np.flatnonzero(is_kept), pa.int64())
        return Block(
            list(compress(self.ids, is_kept.tolist())),
            self.captions.take(rows),
            self.images.take(rows),
            self.content_keys.take(rows),
            take_rows(self.columns, rows),
        )


def block_of(rows: Rows) -> Block:
    """Rows as a block."""
    return Block(
        rows.ids,
        pa.chunked_array([pa.array(rows.captions, pa.string())]),
        pa.chunked_array([pa.array(rows.images, pa.string())]),
        pa.chunked_array([pa.array(rows.content_keys, pa.binary(KEY_BYTES))]),
        rows.columns,
    )


def joined(blocks: Sequence[Block], meta: StoreMeta) -> Block:
    """Blocks one after the other, with the columns of ``meta``, each in one piece."""
    filled = [block for block in blocks if len(block)]
    if len(filled) == 1:
        return filled[0].widened(meta)
    return Block(
        [product_id for block in filled for product_id in block.ids],
        _in_one_piece([block.captions for block in filled], pa.string()),
        _in_one_piece([block.images for block in filled], pa.string()),
        _in_one_piece([block.content_keys for block in filled], pa.binary(KEY_BYTES)),
        stack_tables([widened(block.columns, meta.columns) for block in filled], meta.columns),
    )


def _in_one_piece(columns: Sequence[pa.ChunkedArray], kind: pa.DataType) -> pa.ChunkedArray:
    """Columns one after the other; rows of one piece are taken much faster than of several."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pa.chunked_array([pa.concat_arrays([pa.array([], kind), *chunks])], kind)
