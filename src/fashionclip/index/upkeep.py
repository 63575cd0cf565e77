"""Keeping a table in order: wider columns, compact files, search indexes that cover every row."""

from collections.abc import Mapping
from datetime import timedelta

import pyarrow as pa

from fashionclip.index import cells, rows
from fashionclip.index.columns import ARROW_TYPES, stored_name
from fashionclip.index.queries import LanceTable
from fashionclip.product import Kind

APPROXIMATE_FROM = 20_000
"""Products from which an approximate index pays: comparing all takes 20 ms, see benchmarks/."""
WORTH_SORTING = 1_000  # products that came since; fewer are compared one by one in 1 ms
MOST_FILES = 50
VALUES_SEEN = 2_000  # of so many rows a word column may have
FEW_VALUES = 200  # so many values to be worth an index of one bitmap a value
KEEP_VERSIONS = timedelta(hours=1)  # older ones go: no query holds a version for longer
SQL_TYPES: Mapping[Kind, str] = {
    "string": "string",
    "integer": "bigint",
    "number": "double",
    "boolean": "boolean",
}


def evolve(table: LanceTable, wider: Mapping[str, Kind]) -> None:
    """Add columns, and widen those that are there already.

    LanceDB cannot widen in place: the values are copied to a new column, and the two change
    names in one commit, so that a reader never misses the column and a kill leaves one of both.
    """
    left_over = [name for name in table.schema.names if name.startswith(("_new_", "_old_"))]
    if left_over:
        table.drop_columns(left_over)
    present = set(table.schema.names)
    fresh = [
        pa.field(stored_name(name), ARROW_TYPES[kind])
        for name, kind in wider.items()
        if stored_name(name) not in present
    ]
    if fresh:
        table.add_columns(fresh)
    for name, kind in wider.items():
        stored = stored_name(name)
        if stored not in present:
            continue
        table.update(values_sql={rows.ROW: "NULL"})  # written otherwise from now on
        table.add_columns({f"_new_{stored}": f"cast(`{stored}` as {SQL_TYPES[kind]})"})
        table.alter_columns(
            {"path": stored, "rename": f"_old_{stored}"},
            {"path": f"_new_{stored}", "rename": stored},
        )
        table.drop_columns([f"_old_{stored}"])


def index_captions(table: LanceTable) -> None:
    """Build the full-text index anew."""
    from lancedb.index import FTS

    table.create_index(rows.CAPTION, config=FTS(), replace=True)


def index_columns(table: LanceTable) -> None:
    """Index the columns that filters are quick on with an index: numbers, and few-valued words."""
    from lancedb.index import Bitmap, BTree

    indexed = {column for index in table.list_indices() for column in index.columns}
    for name, kind in rows.kinds(table.schema).items():
        stored = stored_name(name)
        if stored in indexed:
            continue
        if kind in {"integer", "number"}:
            table.create_index(stored, config=BTree())
        elif kind == "boolean" or _has_few_values(table, stored):
            table.create_index(stored, config=Bitmap())


def _has_few_values(table: LanceTable, stored: str) -> bool:
    some = table.search().select([stored]).limit(VALUES_SEEN).to_arrow()[stored]
    return len(some.unique()) <= FEW_VALUES


def optimize(table: LanceTable, *, finished: bool) -> None:
    """Compact, drop old versions, and bring the indexes up to date, where that is worth it.

    Args:
        table: the products.
        finished: no more are about to come, so that vectors may be sorted anew.
    """
    index = cells.vector_index(table)
    if index is None:
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
        if table.count_rows() >= APPROXIMATE_FROM:
            cells.sort_vectors(table)
            index_columns(table)
    elif finished and cells.is_outgrown(table, index):
        table.drop_index(index.name)  # compacting would sort into the old cells first
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
        cells.sort_vectors(table)
        index_columns(table)
    elif index.num_unindexed_rows >= WORTH_SORTING or _n_files(table) > MOST_FILES:
        index_columns(table)
        table.optimize(cleanup_older_than=KEEP_VERSIONS)


def _n_files(table: LanceTable) -> int:
    return int(table.stats()["fragment_stats"]["num_fragments"])


def rebuild(table: LanceTable) -> None:
    """Build the search indexes anew, trusting nothing of them."""
    index_captions(table)
    for index in table.list_indices():
        if index.columns not in ([rows.CAPTION], [rows.VECTOR]):
            table.drop_index(index.name)
    if cells.vector_index(table) is not None:
        cells.sort_vectors(table)
        index_columns(table)
