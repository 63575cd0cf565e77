"""The ids of a Lance table's rows by their addresses, kept in memory, 10 to 20 bytes each.

Lance finds the best rows in a millisecond, and takes another one or two to read their ids. A row's
address is the number of its fragment and its place there. The id at an address never changes:
a product that changes gets a row in a new fragment.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt64

from fashionclip.store.lance import schema

ADDRESS = "_rowaddr"
_PLACE_BITS = 32
_PLACE_MASK = (1 << _PLACE_BITS) - 1

Dataset = Any


class RowIds:
    """The ids of the fragments that were asked for so far, of one table."""

    def __init__(self) -> None:
        """Begin without knowledge."""
        self._fragments: dict[int, pa.Array] = {}

    def of(self, table: Dataset, addresses: UInt64[np.ndarray, " n"]) -> pa.Array:
        """The ids at some addresses, in their order.

        Args:
            table: a version of the table; the fragments that it no longer has are forgotten.
            addresses: of rows that this version has.
        """
        numbers = (addresses >> _PLACE_BITS).astype(np.int64)
        places = (addresses & _PLACE_MASK).astype(np.int64)
        named = np.unique(numbers).tolist()
        fragments = self._fragments  # another thread may put others in their place meanwhile
        if not fragments.keys() >= set(named):
            fragments = self._fragments = _with_fragments(fragments, table, named)
        if len(named) == 1:
            return fragments[named[0]].take(pa.array(places))
        order = [np.flatnonzero(numbers == number) for number in named]
        parts = [
            fragments[number].take(pa.array(places[rows]))
            for number, rows in zip(named, order, strict=True)
        ]
        found = pa.concat_arrays(parts) if parts else pa.array([], pa.string())
        return found.take(pa.array(np.argsort(np.concatenate(order)))) if parts else found


def _with_fragments(
    known: dict[int, pa.Array], table: Dataset, named: list[int]
) -> dict[int, pa.Array]:
    """The ids by fragment that are known and that the table still has, with those of more."""
    fragments = {one.fragment_id: one for one in table.get_fragments()}
    kept = {number: ids for number, ids in known.items() if number in fragments}
    return kept | {number: _ids_of(fragments[number]) for number in named if number not in kept}


def _ids_of(fragment: Any) -> pa.Array:  # noqa: ANN401  # Lance's own type lacks annotations
    """The ids of a fragment, at their places; null where a row is deleted."""
    rows = fragment.scanner(columns=[schema.ID], with_row_address=True).to_table()
    places = (rows[ADDRESS].to_numpy() & _PLACE_MASK).astype(np.int64)
    at = np.full(int(places.max(initial=-1)) + 1, -1, np.int64)
    at[places] = np.arange(len(places))
    ids = rows[schema.ID].combine_chunks()
    return pc.take(ids, pa.array(at, mask=at < 0))
