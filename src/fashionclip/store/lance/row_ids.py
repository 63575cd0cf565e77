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
        if not self._fragments.keys() >= set(named):
            self._read(table, named)
        if len(named) == 1:
            return self._fragments[named[0]].take(pa.array(places))
        order = [np.flatnonzero(numbers == number) for number in named]
        parts = [
            self._fragments[number].take(pa.array(places[rows]))
            for number, rows in zip(named, order, strict=True)
        ]
        found = pa.concat_arrays(parts) if parts else pa.array([], pa.string())
        return found.take(pa.array(np.argsort(np.concatenate(order)))) if parts else found

    def _read(self, table: Dataset, named: list[int]) -> None:
        """Read the ids of the fragments that are not known yet."""
        fragments = {one.fragment_id: one for one in table.get_fragments()}
        known = {number: ids for number, ids in self._fragments.items() if number in fragments}
        for number in named:
            if number not in known:
                known[number] = _ids_of(fragments[number])
        self._fragments = known  # whole, since other threads read it


def _ids_of(fragment: Any) -> pa.Array:  # noqa: ANN401  # Lance's own type lacks annotations
    """The ids of a fragment, at their places; null where a row is deleted."""
    rows = fragment.scanner(columns=[schema.ID], with_row_address=True).to_table()
    places = (rows[ADDRESS].to_numpy() & _PLACE_MASK).astype(np.int64)
    at = np.full(int(places.max(initial=-1)) + 1, -1, np.int64)
    at[places] = np.arange(len(places))
    ids = rows[schema.ID].combine_chunks()
    return pc.take(ids, pa.array(at, mask=at < 0))
