"""Queries on their way to their hits: checked, with their filter, order and place understood."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from fashionclip.product import Hit, Value
from fashionclip.searching.columns import named_column, parse_sort
from fashionclip.searching.comparatives import Change
from fashionclip.searching.cursors import START, query_digest, read_cursor
from fashionclip.searching.directions import AppliedChange, KeptCategory, change_texts
from fashionclip.searching.pages import FUSED_POOL, POOL, Layout
from fashionclip.searching.query import NEUTRAL, Query, several
from fashionclip.searching.ranking import group_column
from fashionclip.searching.results import Results
from fashionclip.store import StoreMeta
from fashionclip.store.filters import Filter, parse_filter


@dataclass(slots=True, eq=False)
class Pending:
    """A query on its way to its hits."""

    query: Query
    where: Filter | None
    """Its filter, parsed."""
    layout: Layout
    fields: tuple[str, ...] | None
    """The columns that hits carry."""
    columns: tuple[str, ...]
    """The columns that candidates carry."""
    depth: int
    """Candidates wanted; more if those are too few."""
    digest: str
    """Of the query, for cursors."""
    image_print: list[int] | None
    """That of the cursor, for images."""
    images: list[np.ndarray]
    """Vectors of its images."""
    changes: list[Change]
    texts: dict[str, np.ndarray] = field(default_factory=dict)
    """Vectors of its words and phrases, once they are encoded."""
    unlike: list[np.ndarray] = field(default_factory=list)
    categories: list[Value] = field(default_factory=list)
    """Of the stored products that it starts from."""
    start: np.ndarray | None = None
    """Its vector before the changes."""
    vector: np.ndarray | None = None
    applied: tuple[AppliedChange, ...] = ()
    kept: KeptCategory | None = None
    by_words: Future[list[Hit]] | None = None
    results: Results | None = None
    cosines: Mapping[str, float] = field(default_factory=dict)
    """Of query and hits, for explanations."""

    @property
    def needed_texts(self) -> list[str]:
        """The texts whose vectors it needs."""
        words, phrases = self.query.words, self.query.phrases
        if not self.query.compares_vectors:
            return []
        avoided = [*phrases, NEUTRAL] if phrases else []
        return [*([words] if words else []), *avoided, *change_texts(self.changes)]

    @property
    def excluded(self) -> frozenset[str]:
        """Ids of the products that it names, which are no hits."""
        return frozenset((*several(self.query.similar_to), *several(self.query.unlike)))

    @property
    def n_candidates(self) -> int:
        """Candidates to ask a store for."""
        return self.depth + len(self.excluded)

    def chosen(self, columns: Mapping[str, Value]) -> Mapping[str, Value]:
        """Those of a product's columns that hits carry; one may have gone meanwhile."""
        if self.fields is None:
            return columns
        return {name: columns[name] for name in self.fields if name in columns}


def prepared(query: Query, meta: StoreMeta, *, has_model: bool) -> Pending:
    """A query whose parts are understood.

    Args:
        query: one search.
        meta: of the store that is searched.
        has_model: whether texts and images can be encoded.

    Raises:
        FilterError: its filter is not understood.
        TypeError, ValueError: another part is not.
    """
    query.check(has_model=has_model)
    where = query.where
    if isinstance(where, str):
        where = parse_filter(where, meta.columns, meta.roles)
    group = group_column(meta) if query.group else None
    sort = parse_sort(query.sort, meta)
    fields = query.fields
    if fields is not None:
        fields = tuple(dict.fromkeys(named_column(name, meta) for name in several(fields)))
    digest = query_digest(query, where)
    place, image_print = START, None
    if query.cursor is not None:
        place, image_print = read_cursor(query.cursor, digest)
    codes = (meta.roles.sku, meta.roles.barcode, meta.roles.group)
    needed = [group, sort and sort.column, *(codes if query.matches_words else ())]
    columns = tuple(name for name in dict.fromkeys(needed) if name in meta.columns)
    depth = query.offset + place.n_before + query.k + 1
    step = 1
    if query.total or sort or group or query.has_penalty or query.diversity:
        step = POOL
    elif query.matches_words:
        step = FUSED_POOL
    return Pending(
        query=query,
        where=where,
        layout=Layout(query, group, sort, place),
        fields=fields,
        columns=columns,
        depth=-(-depth // step) * step,
        digest=digest,
        image_print=image_print,
        images=[] if query.image_vector is None else [query.image_vector],
        changes=query.changes,
    )
