"""The migration report: how the top lists of queries move from one index or model to another.

Each index answers with its own model. Nobody has said which products are right, so the report
measures how much changes, not whether it is better; the people who look at it decide that.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fashionclip.errors import FashionCLIPError
from fashionclip.index import Index
from fashionclip.metrics.intervals import mean_interval
from fashionclip.metrics.ranking import rank_biased_overlap
from fashionclip.product import Hit
from fashionclip.searching import Mode, Query, search_many

QUERIES_AT_ONCE = 64
SAMPLED = 5_000  # products whose categories and colours make the default queries
N_QUERIES = 100


@dataclass(frozen=True, slots=True)
class Moved:
    """One query, and its hits before and after."""

    query: str
    old: Sequence[Hit]
    new: Sequence[Hit]
    overlap: float
    """Share of the longer list's products that are in both lists, in 0…1; 1 if both are empty."""
    rbo: float
    """Rank-biased overlap of the lists, in 0…1."""

    @property
    def came(self) -> list[str]:
        """Products that only the new list has, best first."""
        return _missing_in(self.old, self.new)

    @property
    def went(self) -> list[str]:
        """Products that only the old list has, best first."""
        return _missing_in(self.new, self.old)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over the queries with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Migration:
    """How the answers to some queries move from an old index to a new one."""

    moved: Sequence[Moved]
    """The queries that both indexes answered, those that moved most first."""
    failed: Mapping[str, str]
    """The others, and why."""
    overlap: Mean
    rbo: Mean


def compare_indexes(
    old: Index, new: Index, queries: Sequence[str], *, k: int = 10, mode: Mode = "vectors"
) -> Migration:
    """Ask two indexes the same queries.

    Args:
        old: the index that answers now.
        new: the one that is to take its place; its model may be another.
        queries: texts; equal ones count once.
        k: length of the lists.
        mode: what the texts are compared with.

    Raises:
        StoreError, CheckpointError: an index or its model cannot be read.
        ValueError: no query was answered by both indexes.
    """
    moved, failed = [], {}
    texts = list(dict.fromkeys(queries))
    for first in range(0, len(texts), QUERIES_AT_ONCE):
        some = texts[first : first + QUERIES_AT_ONCE]
        asked = [Query(text=text, k=k, mode=mode) for text in some]
        before, after = (search_many(one.store, one.model, asked) for one in (old, new))
        for text, one, other in zip(some, before, after, strict=True):
            fault = next((each for each in (one, other) if isinstance(each, Exception)), None)
            if fault is not None:
                failed[text] = str(fault)
            elif not isinstance(one, Exception) and not isinstance(other, Exception):
                moved.append(_moved(text, one.hits, other.hits))
    if not moved:
        reason = next(iter(failed.values()), "there are no queries")
        message = f"nothing can be compared: {reason}"
        raise ValueError(message)
    moved.sort(key=lambda one: (one.overlap, one.rbo))
    return Migration(
        moved,
        failed,
        overlap=_mean([one.overlap for one in moved]),
        rbo=_mean([one.rbo for one in moved]),
    )


def catalogue_queries(index: Index, *, n: int = N_QUERIES) -> list[str]:
    """Queries that an index should answer: its categories, alone and with their colours.

    The most frequent come first. A catalogue without categories gives titles of products.

    Raises:
        FashionCLIPError: it has neither categories nor titles.
    """
    roles = index.meta.roles
    ids = index.store.sample(SAMPLED).ids
    columns = index.store.fetch(ids, vectors=False).columns
    names = columns.column_names

    def values(name: str | None) -> list[str]:
        if name not in names:
            return []
        return [str(value or "").strip().lower() for value in columns[name].to_pylist()]

    categories, colours = values(roles.category), values(roles.colour)
    counts: Counter[str] = Counter(name for name in categories if name)
    counts.update(
        f"{colour} {category}"
        for colour, category in zip(colours, categories, strict=False)
        if colour and category
    )
    # equal counts by name, so that two runs ask the same
    found = sorted(counts, key=lambda query: (-counts[query], query)) or [
        title for title in dict.fromkeys(values(roles.title)) if title
    ]
    if not found:
        message = "the old index has neither categories nor titles: name queries with --queries"
        raise FashionCLIPError(message)
    return found[:n]


def _moved(query: str, old: Sequence[Hit], new: Sequence[Hit]) -> Moved:
    before, after = ([hit.product_id for hit in hits] for hits in (old, new))
    longest = max(len(before), len(after))
    overlap = len(set(before) & set(after)) / longest if longest else 1.0
    return Moved(query, old, new, overlap, rank_biased_overlap(before, after))


def _missing_in(some: Sequence[Hit], others: Sequence[Hit]) -> list[str]:
    known = {hit.product_id for hit in some}
    return [hit.product_id for hit in others if hit.product_id not in known]


def _mean(values: Sequence[float]) -> Mean:
    found = np.array(values)
    return Mean(float(found.mean()), *mean_interval(found))
