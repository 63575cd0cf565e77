"""Questions to a LanceDB table: all rows, some rows, the best rows.

What comes back is put in a fixed order (score, then id), and what goes wrong is told apart:
a filter that does not fit, or files that are damaged.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from fashionclip.errors import FilterError, StoreError
from fashionclip.index import rows
from fashionclip.index.columns import clean_text, shown_name, stored_name
from fashionclip.index.faults import filter_fault, reported
from fashionclip.index.filters import filter_message, stored_filter
from fashionclip.product import Hit, Kind

LanceTable = Any  # lancedb's own types would have to be imported, which costs half a second
LanceQuery = Any
LanceIndex = Any

TIE_ROOM = 2  # rows read beyond k, to see whether it cuts through equal scores
MOST_TIES = 5_000  # a thousand copies of one picture need no order
IDS_A_QUERY = 500
SCAN_ROWS = 2_048


class Queries:
    """Reads one table."""

    def __init__(self, folder: Path, table: LanceTable) -> None:
        """Hold the table of an index folder."""
        self._folder = folder
        self._table = table

    @property
    def version(self) -> int:
        """A number that grows with every write, of this process or another."""
        with reported(self._folder):
            return int(self._table.version)

    def catch_up(self) -> None:
        """Read the newest version from here on, however fresh a query's view has to be."""
        with reported(self._folder):
            self._table.checkout_latest()

    @property
    def schema(self) -> pa.Schema:
        """The table's columns as they are stored."""
        with reported(self._folder):
            return self._table.schema

    def scan(self, names: list[str] | None) -> Iterator[pa.RecordBatch]:
        """Every row, in batches, with the named columns (all of them for None)."""
        with reported(self._folder):
            query = self._table.search().limit(None)
            query = query.select(names) if names else query
            yield from query.to_batches(SCAN_ROWS)

    def rows_of(self, product_ids: Sequence[str], names: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows of some products, in batches."""
        with reported(self._folder):
            for ids in batched(product_ids):
                query = self._table.search().where(rows.ids_filter(ids)).select(names).limit(None)
                yield from query.to_batches()

    def count(self, where: str) -> int:
        """How many rows pass a filter.

        Raises:
            FilterError: the filter does not fit the columns.
            StoreCorruptError: the files are damaged.
        """
        columns = rows.kinds(self.schema)
        with self._blaming(where, columns):
            return int(self._table.count_rows(stored_filter(where, columns)))

    def passing(self, where: str) -> list[str]:
        """The ids of all rows that pass a filter.

        Raises:
            FilterError: the filter does not fit the columns.
            StoreCorruptError: the files are damaged.
        """
        columns = rows.kinds(self.schema)
        condition = stored_filter(where, columns)
        with self._blaming(where, columns):
            query = self._table.search().where(condition).select([rows.ID]).limit(None)
            return list(query.to_arrow()[rows.ID].to_pylist())

    def best(
        self,
        candidates: Callable[[int], LanceQuery],
        k: int,
        where: str | None,
        *,
        measure: str,
        score: Callable[[float], float],
        read: Callable[[LanceQuery], pa.Table],
    ) -> list[Hit]:
        """The k best rows of a query, equal scores in the order of their ids.

        Args:
            candidates: a query for so many rows.
            k: hits wanted.
            where: the user's filter.
            measure: the column with LanceDB's distance or score.
            score: makes our score of it; higher is closer.
            read: runs a query.

        Raises:
            FilterError: the filter does not fit the columns.
            StoreCorruptError: the files are damaged.
        """
        columns = rows.kinds(self.schema)
        names = [rows.ID, *map(stored_name, columns), measure]
        condition = None if where is None else stored_filter(where, columns)
        limit = k + TIE_ROOM
        while True:
            with reported(self._folder):
                query = candidates(limit).select(names)
                if condition is not None:
                    query = query.where(condition, prefilter=True)
            with self._blaming(where, columns):
                found = list(read(query).to_pylist())
            for row in found:
                row[measure] = score(row[measure])
            found.sort(key=lambda row: (-row[measure], row[rows.ID]))
            is_cut_in_a_tie = len(found) == limit and found[k - 1][measure] == found[-1][measure]
            if not is_cut_in_a_tie or limit > MOST_TIES:
                return [hit(row, row.pop(measure)) for row in found[:k]]
            limit *= 4

    @contextmanager
    def _blaming(self, where: str | None, columns: Mapping[str, Kind]) -> Iterator[None]:
        """Tell what goes wrong with the filter from what goes wrong with the table.

        Raises:
            FilterError: the table is well, so it is the filter that does not fit.
            StoreError: the table cannot be read.
        """
        try:
            with reported(self._folder):
                yield
        except StoreError as exc:
            if where is None or not isinstance(exc.__cause__, Exception):
                raise
            with reported(self._folder):  # is the table well? then it is the filter that is not
                self._table.search().select([rows.ID]).limit(1).to_arrow()
            message = filter_message(where, filter_fault(exc.__cause__), columns)
            raise FilterError(message) from exc.__cause__

    def similar_ids(self, product_id: str) -> list[str]:
        """Up to three ids that are spelled much like one that is not there."""
        start = clean_text(product_id[: max(1, len(product_id) // 2)])
        ids: list[str] = []
        with reported(self._folder):
            near = self._table.search().where(rows.prefix_filter(start))
            for query in (near, self._table.search()):
                query = query.select([rows.ID]).limit(IDS_A_QUERY)
                ids += query.to_arrow()[rows.ID].to_pylist()
        return get_close_matches(product_id, dict.fromkeys(ids), n=3, cutoff=0.5)


def hit(fields: dict[str, Any], score: float) -> Hit:
    """A stored row as what a search hands out."""
    columns = {shown_name(name): value for name, value in fields.items() if name[0] != "_"}
    return Hit(product_id=fields[rows.ID], score=score, columns=columns)


def check_k(k: int) -> None:
    """Refuse to look for nothing.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        message = f"k is {k}: ask for at least 1 hit"
        raise ValueError(message)


def batched(items: Iterable[str]) -> Iterator[list[str]]:
    """Lists of as many ids as fit in one filter."""
    rest = iter(items)
    while batch := list(islice(rest, IDS_A_QUERY)):
        yield batch
