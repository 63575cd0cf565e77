"""The approximate index: vectors sorted into cells, and how many of them a query looks into.

A query is compared with the vectors of the cells next to it (LanceDB's IVF_FLAT), by exact cosine
and after the filter: the fewer products pass, the more cells it looks into for the same work, so
that a filter costs neither time nor recall, as it does in a graph. Cells are learned from a sample
and quick to build; figures are in benchmarks/index.py.
"""

import math
import time
from collections.abc import Callable

from fashionclip.index import rows
from fashionclip.index.queries import LanceIndex, LanceTable

ROWS_A_CELL = 1_000
LEAST_CELLS = 16
MOST_CELLS = 512  # each is an open file while vectors are sorted, see engine.py
SAMPLED = 25_600  # vectors that the cells are learned from: 52 MB of 512 numbers
SAMPLED_A_CELL = (32, 256)  # at least, at most
MOST_SEGMENTS = 3
"""So many times new products are put into the cells as these are; then all are sorted anew."""
OUTGROWN = 2  # and so are they when there are so many times the products that the cells are for

COMPARED = 2_000
"""Vectors that a query is compared with, of those that pass its filter."""
COMPARED_A_HIT = 20  # and at least so many for each hit that is wanted
LEAST_LOOKED_INTO = 4
MOST_FILTERS = 256  # of which it is remembered how many products pass: a shop asks the same ones
TRUSTED_S = 5.0  # how long: the number of cells to look into is a matter of pace
_NAME = "cells-"  # of the index; the number of its cells follows


def vector_index(table: LanceTable) -> LanceIndex:
    """LanceDB's facts about the approximate index; None if there is none."""
    own = (index for index in table.list_indices() if index.columns == [rows.VECTOR])
    return next(own, None)


def sort_vectors(table: LanceTable) -> None:
    """Build the approximate index, in the place of an older one."""
    from lancedb.index import IvfFlat

    if (old := vector_index(table)) is not None:
        table.drop_index(old.name)
    cells = min(MOST_CELLS, max(LEAST_CELLS, table.count_rows() // ROWS_A_CELL))
    least, most = SAMPLED_A_CELL
    sampled = min(most, max(least, SAMPLED // cells))
    config = IvfFlat(distance_type="dot", num_partitions=cells, sample_rate=sampled)
    table.create_index(rows.VECTOR, config=config, name=f"{_NAME}{cells}")


def is_outgrown(table: LanceTable, index: LanceIndex) -> bool:
    """Whether the vectors should be sorted anew: too many products came since."""
    n_cells = _n_cells(index)
    has_few = n_cells < MOST_CELLS and table.count_rows() >= OUTGROWN * ROWS_A_CELL * n_cells
    return bool(index.num_segments >= MOST_SEGMENTS or has_few)


class Crowds:
    """How many products pass the filters that were asked, and in how many cells they lie."""

    def __init__(self, table: LanceTable) -> None:
        """Hold the table."""
        self._table = table
        self._known: dict[str | None, tuple[float, int, int]] = {}

    def to_look_into(self, k: int, where: str | None, passing: Callable[[], int]) -> int:
        """Cells a query looks into, so that there are enough vectors to compare it with.

        Args:
            k: hits wanted.
            where: the filter.
            passing: counts the products that pass it.
        """
        now = time.monotonic()
        until, n_passing, n_cells = self._known.get(where, (0.0, 0, 0))
        if now > until:
            n_cells = _n_cells(vector_index(self._table))
            if n_cells == 1:  # every vector is compared
                return 1
            if len(self._known) >= MOST_FILTERS:
                self._known.clear()
            n_passing = passing()
            self._known[where] = (now + TRUSTED_S, n_passing, n_cells)
        enough = max(COMPARED, COMPARED_A_HIT * k)
        wanted = max(LEAST_LOOKED_INTO, math.ceil(enough * n_cells / max(1, n_passing)))
        return min(wanted, n_cells)


def _n_cells(index: LanceIndex) -> int:
    """How many cells an approximate index has; 1 for none, or one of another kind."""
    if index is None or not index.name.startswith(_NAME):
        return 1
    return int(index.name.removeprefix(_NAME))
