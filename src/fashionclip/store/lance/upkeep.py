"""Upkeep of a Lance table: compaction, wider columns, IVF and column indexes.

From ``APPROXIMATE_FROM`` products on, vectors are also in IVF partitions, in the smaller form that
``StoreMeta.vectors`` asks for. A query is compared with those of the partitions next to it that
pass its filter; the best are compared again by exact cosine. The fewer products pass a filter, and
the more hits are wanted, the more partitions are searched, so that neither costs recall. Figures
are in benchmarks/stores.py and benchmarks/small_vectors.py.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

import pyarrow as pa

from fashionclip.product import Kind, VectorForm
from fashionclip.store.base import StoreMeta
from fashionclip.store.filters import Filter
from fashionclip.store.lance import schema
from fashionclip.store.lance.schema import kinds_in, stored_name
from fashionclip.store.lance.words import drop_unfinished, write_words
from fashionclip.store.rows import ARROW_TYPES, MAX_EXACT, WRITTEN

Dataset = Any  # Lance's own types would have to be imported
VectorIndex = Any
Work = Literal["tidy", "build"]
"""Compaction with what is new in the indexes, or that and the vector index built anew."""

APPROXIMATE_FROM = 20_000
"""Products from which an approximate index pays: comparing all takes 20 ms, see benchmarks/."""
MIN_UNINDEXED = 1_000  # rows that came since; fewer are compared one by one in 1 ms
MAX_FRAGMENTS = 50
ROWS_PER_FRAGMENT = 1 << 17
"""Files with so many rows are not written again: a growing table would be, at every compaction."""
ROWS_SAMPLED = 2_000  # to see how many values a text column has
MAX_BITMAP_VALUES = 200  # with so many values at most, a text column gets a bitmap per value
SQL_TYPES: Mapping[Kind, str] = {
    "string": "string",
    "integer": "bigint",
    "number": "double",
    "boolean": "boolean",
}

ROWS_PER_PARTITION = 500
MIN_PARTITIONS = 16
MAX_PARTITIONS = 1_024  # learning more takes minutes
INDEX_TYPES: Mapping[VectorForm, str] = {
    "float": "IVF_SQ",
    "half": "IVF_SQ",
    "int8": "IVF_SQ",
    "binary": "IVF_RQ",
}
"""What the partitions hold: scaled bytes, or signs (RaBitQ)."""
REFINED: Mapping[VectorForm, tuple[int, int]] = {
    "float": (1, 2),
    "half": (1, 2),
    "int8": (1, 2),
    "binary": (2, 20),
}
"""Candidates per hit that are compared by the vectors that are kept: where many hits are wanted,
and where few are. Figures are in benchmarks/small_vectors.py."""
MAX_REFINED = 400  # candidates in all, before there are fewer per hit
INDEX_NAMES: Mapping[str, str] = {"cosine": "cosine", "partitions": "dot"}
"""How the index's name begins, and its metric; those of ``dot`` are of an older version."""
VECTORS_SAMPLED = 51_200  # that the partitions are learned from: 105 MB of 512 numbers
MIN_SAMPLED_PER_PARTITION, MAX_SAMPLED_PER_PARTITION = 32, 256
MAX_SEGMENTS = 3
"""New products are put into the old partitions so many times; then the index is built anew."""
MAX_GROWTH = 2  # and also when there are so many times the products that it was built for

MIN_COMPARED = 4_000
"""Vectors that a query is compared with, of those that pass its filter."""
MIN_COMPARED_PER_HIT = 20  # and at least so many for each hit that is wanted
MIN_PROBES = 4
PROBED_SHARE, PROBED_EXPONENT = 0.05, 0.2
"""Share of the partitions that ten hits of all products need, and how it grows with the hits.

A text lies far from all images, so that its best ones are spread over more partitions than an
image's: of 300,000 products, 3 % of the partitions hold .98 of a text's ten best, and 12 % hold
.98 of its 1,000 best.
"""
MAX_COUNTED_FILTERS = 256  # of which the number of passing products is cached
COUNT_TTL_S = 5.0  # it only decides how many partitions are searched


def narrow(table: Dataset, narrower: Mapping[str, Kind]) -> None:
    """Make columns narrower, those of which every value allows it."""
    kinds = kinds_in(table.schema)
    allowed = {
        name: kind
        for name, kind in narrower.items()
        if not table.count_rows(_forbids(stored_name(name), kinds[name], kind))
    }
    if allowed:
        evolve(table, allowed)


def _forbids(stored: str, old: Kind, new: Kind) -> str:
    """SQL that is true for the values that a narrower kind cannot hold."""
    if old == "string":
        return f"`{stored}` IS NOT NULL AND NOT regexp_like(`{stored}`, '{WRITTEN[new]}')"
    return f"`{stored}` <> trunc(`{stored}`) OR abs(`{stored}`) >= {MAX_EXACT}"


def evolve(table: Dataset, changed: Mapping[str, Kind]) -> None:
    """Add columns, and change the kind of those that are there already.

    Lance cannot change kinds in place: the values are copied to a new column, and the two change
    names in one commit, so that a reader never misses the column and a kill leaves one of both.
    """
    drop_unfinished(table)
    present = set(table.schema.names)
    fresh = [
        pa.field(stored_name(name), ARROW_TYPES[kind])
        for name, kind in changed.items()
        if stored_name(name) not in present
    ]
    if fresh:
        table.add_columns(pa.schema(fresh))
    for name, kind in changed.items():
        stored = stored_name(name)
        if stored not in present:
            continue
        table.update({schema.ROW: "NULL"})  # rows are digested otherwise from now on
        table.add_columns({f"_new_{stored}": f"cast(`{stored}` as {SQL_TYPES[kind]})"})
        table.alter_columns(
            {"path": stored, "name": f"_old_{stored}"},
            {"path": f"_new_{stored}", "name": stored},
        )
        table.drop_columns([f"_old_{stored}"])


def drop_blank(table: Dataset, names: Iterable[str]) -> None:
    """Remove those of some columns that are NULL in every row."""
    stored = map(stored_name, names)
    blank = [name for name in stored if not table.count_rows(f"`{name}` IS NOT NULL")]
    if blank:
        table.drop_columns(blank)


def index_ids(table: Dataset) -> None:
    """Index the ids, by which products are fetched, replaced and deleted."""
    table.create_scalar_index(schema.ID, "BTREE")


def index_columns(table: Dataset) -> None:
    """Index the columns that filters are quick on with an index: numbers, and few-valued text."""
    indexed = {name for index in table.describe_indices() for name in index.field_names}
    for name, kind in kinds_in(table.schema).items():
        stored = stored_name(name)
        if stored in indexed:
            continue
        if kind in {"integer", "number"}:
            table.create_scalar_index(stored, "BTREE")
        elif kind == "boolean" or _has_few_values(table, stored):
            table.create_scalar_index(stored, "BITMAP")


def _has_few_values(table: Dataset, stored: str) -> bool:
    some = table.to_table(columns=[stored], limit=ROWS_SAMPLED)[stored]
    return len(some.unique()) <= MAX_BITMAP_VALUES


def due(table: Dataset, *, is_finished: bool) -> Work | None:
    """What is worth doing to a table; None if nothing.

    Args:
        table: the products.
        is_finished: no more writes are to come, so that the vector index may be built anew.
    """
    index = vector_index(table)
    n = table.count_rows()
    if index is None:
        return "build" if n >= APPROXIMATE_FROM else "tidy"
    if is_finished and _is_outgrown(table, index):
        return "build"
    has_many = len(table.get_fragments()) > MAX_FRAGMENTS
    return "tidy" if has_many or n - index.num_rows_indexed >= MIN_UNINDEXED else None


def optimize(table: Dataset, form: VectorForm, work: Work) -> None:
    """Compact, bring the indexes up to date, and build the vector index where it is due.

    Args:
        table: the products; it is at the newest version afterwards.
        form: that of their vectors.
        work: what ``due`` says.
    """
    index = vector_index(table)
    if work == "tidy":
        if index is not None:
            index_columns(table)
        _tidy(table)
        return
    if index is not None:
        table.drop_index(index.name)  # compacting would fill the old partitions first
    _tidy(table)
    build_vector_index(table, form)
    index_columns(table)


def _tidy(table: Dataset) -> None:
    table.optimize.compact_files(target_rows_per_fragment=ROWS_PER_FRAGMENT)
    table.optimize.optimize_indices()


def remove_versions(table: Dataset, *, age: timedelta) -> None:
    """Remove the versions that are older, and the files that only they have."""
    table.cleanup_old_versions(age, error_if_tagged_old_versions=False)


def rebuild(table: Dataset, meta: StoreMeta) -> None:
    """Build the search indexes and the words anew, trusting nothing of them."""
    write_words(table, meta.roles)
    for index in table.describe_indices():
        if index.field_names not in ([schema.WORDS], [schema.VECTOR]):
            table.drop_index(index.name)
    index_ids(table)
    if vector_index(table) is not None:
        build_vector_index(table, meta.vectors)
        index_columns(table)


def vector_index(table: Dataset) -> VectorIndex:
    """Lance's description of the approximate index; None if there is none."""
    found = (index for index in table.describe_indices() if index.field_names == [schema.VECTOR])
    return next(found, None)


def build_vector_index(table: Dataset, form: VectorForm) -> None:
    """Build the approximate index, in the place of an older one."""
    if (old := vector_index(table)) is not None:
        table.drop_index(old.name)
    n = min(MAX_PARTITIONS, max(MIN_PARTITIONS, table.count_rows() // ROWS_PER_PARTITION))
    sampled = max(MIN_SAMPLED_PER_PARTITION, VECTORS_SAMPLED // n)
    table.create_index(
        schema.VECTOR,
        INDEX_TYPES[form],
        name=f"cosine-{n}",
        metric="cosine",
        num_partitions=n,
        sample_rate=min(MAX_SAMPLED_PER_PARTITION, sampled),
        **({"num_bits": 1} if form == "binary" else {}),
    )


def _is_outgrown(table: Dataset, index: VectorIndex) -> bool:
    """Whether the index should be built anew: too many products came since, or it is an old one."""
    if metric_of(index) != "cosine":
        return True
    n = n_partitions(index)
    has_few = n < MAX_PARTITIONS and table.count_rows() >= MAX_GROWTH * ROWS_PER_PARTITION * n
    return bool(len(index.segments) >= MAX_SEGMENTS or has_few)


def n_partitions(index: VectorIndex) -> int:
    """How many partitions an approximate index has, which its name ends with; 1 for none."""
    number = "" if index is None else index.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 1


def metric_of(index: VectorIndex) -> str:
    """The metric of an approximate index, which its name begins with; ``dot`` for none."""
    return "dot" if index is None else INDEX_NAMES.get(index.name.partition("-")[0], "dot")


def refine_factor(form: VectorForm, k: int) -> int:
    """How many candidates per hit are compared by the vectors that are kept."""
    least, most = REFINED[form]
    return min(most, max(least, MAX_REFINED // k))


class SearchPlanner:
    """Says how to search a table: its metric, and how many partitions, by hits and filter."""

    def __init__(self) -> None:
        """Begin without counts."""
        self._index: tuple[int, int, str] = (0, 1, "dot")  # version, partitions, metric
        self._counts: dict[Filter | None, tuple[float, int]] = {}

    def plan(
        self, table: Dataset, *, k: int, where: Filter | None, count: Callable[[], int]
    ) -> dict[str, object]:
        """Lance's options for a search that compares a query with enough vectors.

        Args:
            table: the products.
            k: hits wanted.
            where: the filter.
            count: counts the products that pass it.
        """
        version = int(table.version)
        known = self._index  # another thread may put another version's in its place meanwhile
        if known[0] != version:
            index = vector_index(table)
            known = self._index = version, n_partitions(index), metric_of(index)
        _, n, metric = known
        if n == 1:
            return {"metric": metric}
        now = time.monotonic()
        until, n_passing = self._counts.get(where, (0.0, 0))
        if now > until:
            n_passing = max(1, count())
            if len(self._counts) >= MAX_COUNTED_FILTERS:
                self._counts.clear()
            self._counts[where] = now + COUNT_TTL_S, n_passing
        compared = max(MIN_COMPARED, MIN_COMPARED_PER_HIT * k) / n_passing
        depth = k * table.count_rows() / n_passing  # the k-th hit's place among all products
        share = max(compared, PROBED_SHARE * max(1.0, depth / 10) ** PROBED_EXPONENT)
        probes = min(n, max(MIN_PROBES, math.ceil(share * n)))
        return {"metric": metric, "nprobes": probes}
