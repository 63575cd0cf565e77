"""The embedded store: one Lance table in a folder or an object store.

Below ``upkeep.APPROXIMATE_FROM`` products every vector is compared; above, those of the partitions
next to a query, see ``upkeep``. Lance does not notice flipped bytes, so each row carries checksums
that ``verify`` recomputes. Every write is one version of the table: a reader goes on with the
version that it began with, and older versions tell what changed since.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from functools import wraps
from itertools import repeat
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from fashionclip.errors import StoreError
from fashionclip.product import Hit, Value
from fashionclip.store.base import (
    LOCK_TIMEOUT_S,
    BlobStore,
    Changes,
    Rows,
    Sort,
    StoreInfo,
    StoreMeta,
    VerifyReport,
    Writer,
)
from fashionclip.store.digests import StoredDigests
from fashionclip.store.filters import Filter, fit_filter
from fashionclip.store.lance import pages, schema, upkeep, words
from fashionclip.store.lance.changes import changed_rows
from fashionclip.store.lance.faults import reported, tried_again
from fashionclip.store.lance.manifest import Identity, Manifest
from fashionclip.store.lance.pages import condition_of, hits_of, ranked
from fashionclip.store.lance.place import Place
from fashionclip.store.lance.row_ids import ADDRESS, RowIds
from fashionclip.store.lance.schema import batched, kinds_in, stored_name
from fashionclip.store.lance.table import open_table, roles_of, threshold_of
from fashionclip.store.lance.writer import LanceWriter
from fashionclip.store.rows import (
    check_columns,
    check_dim,
    check_k,
    clean_text,
    count_distinct,
    most_frequent,
    stack_tables,
    unit_queries,
)

VERSION_BITS = 20  # of a revision; the bits above are the time of creation in ms
TIE_MARGIN = 2  # rows read beyond k, to see whether it cuts through equal scores
MAX_TIED_WORDS = 300  # products of the same words are many, and cost a millisecond each thousand
MAX_TIES = 5_000  # a thousand copies of one image need no order
MAX_UNCOUNTED_K = 1_000  # up to here k costs nothing, however few products there are
SCAN_ROWS = 2_048

P = ParamSpec("P")
Result = TypeVar("Result")
Dataset = Any  # what Lance's own type lacks annotations for


def _on_newest(
    method: Callable[Concatenate["LanceStore", P], Result],
) -> Callable[Concatenate["LanceStore", P], Result]:
    """A reading method, called again if a writer removed the version that it was reading."""

    @wraps(method)
    def call(store: "LanceStore", /, *args: P.args, **kwargs: P.kwargs) -> Result:
        version = store.table_version
        try:
            return method(store, *args, **kwargs)
        except StoreError:
            if store.latest().version == version:
                raise
            return method(store, *args, **kwargs)

    return call


class LanceStore:
    """Vectors and products of one model in a Lance table; see ``Store``."""

    def __init__(self, place: Place) -> None:
        """Open what is at a place."""
        self._place = place
        self._planner = upkeep.SearchPlanner()
        self._vocabulary: words.Vocabulary | None = None
        self._meta: tuple[int, StoreMeta] | None = None
        self._lock = threading.Lock()
        self._open()

    def __repr__(self) -> str:
        """Kind and address."""
        return f"<LanceStore {self._place.uri}>"

    def _open(self) -> None:
        """Read manifest and table, as they are now."""
        identity = self._place.identity()
        self._manifest = manifest = Manifest.read(self._place)
        manifest.require_format(self._place.uri)
        table = open_table(self._place)
        with reported(self._place.uri):
            table_schema = table.schema
        schema.check_schema(
            table_schema, dim=manifest.dim, form=manifest.vectors, uri=self._place.uri
        )
        # ids belong to their table: another one in its place numbers its fragments anew
        self._opened: tuple[Dataset, RowIds] = table, RowIds()
        self._identity: Identity = identity

    @tried_again
    def latest(self) -> Dataset:
        """The table at its newest version, for reading; another write makes another object."""
        if self._place.identity() != self._identity:
            self._open()
        opened = table, row_ids = self._opened
        with reported(self._place.uri):
            version = table.latest_version
            if version != table.version:
                table = table.checkout_version(version)
        with self._lock:
            if self._opened is opened:  # no other thread has opened another one meanwhile
                self._opened = table, row_ids
        return table

    @property
    def table_version(self) -> int:
        """The version of the table that was read last."""
        return int(self._opened[0].version)

    def for_writing(self) -> Dataset:
        """The table at its newest version, as an object that its writer may change.

        Raises:
            StoreLockedError: another program has taken over the lock.
        """
        self._place.lock.check()
        table = self.latest()
        with reported(self._place.uri):
            return table.checkout_version(table.version)

    @property
    def meta(self) -> StoreMeta:
        """Model, roles and columns, as of now."""
        return self._meta_of(self.latest())

    def _meta_of(self, table: Dataset) -> StoreMeta:
        revision = self._revision_of(table)
        known = self._meta
        if known is None or known[0] != revision:
            with reported(self._place.uri):
                roles = roles_of(table)
                kinds = kinds_in(table.schema)
                threshold = threshold_of(table)
            meta = replace(
                self._manifest.meta(self._place.uri),
                roles=roles,
                columns=kinds,
                relevance_threshold=threshold,
            )
            known = self._meta = revision, meta
        return known[1]

    @property
    def revision(self) -> int:
        """A number that grows with every write, also where the store is deleted and made anew."""
        return self._revision_of(self.latest())

    def _revision_of(self, table: Dataset) -> int:
        return (self._manifest.created_ms << VERSION_BITS) + int(table.version)

    @property
    def blobs(self) -> BlobStore:
        """Images kept with the store."""
        return self._place.blobs

    def __len__(self) -> int:
        """Products stored."""
        return self.count()

    # searching

    @_on_newest
    def nearest(
        self,
        vectors: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        where: Filter | Sequence[Filter | None] | None = None,
        exact: bool | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The k products closest to each vector; see ``Store``."""
        check_k(k)
        table = self.latest()
        meta = self._meta_of(table)
        check_dim(vectors, dim=meta.dim, model=meta.model, uri=meta.uri)
        queries = unit_queries(vectors)
        filters = where if isinstance(where, Sequence) else [where] * len(queries)
        found: list[list[Hit]] = [[] for _ in queries]
        for one in dict.fromkeys(filters):
            rows = [i for i, other in enumerate(filters) if other == one]
            fitted = None if one is None else fit_filter(one, meta.columns, meta.roles)
            hits = self._nearest(table, queries[rows], k, fitted, columns, exact)
            for i, some in zip(rows, hits, strict=True):
                found[i] = some
        return found

    def _nearest(
        self,
        table: Dataset,
        queries: np.ndarray,
        k: int,
        where: Filter | None,
        columns: Sequence[str] | None,
        exact: bool | None,
    ) -> list[list[Hit]]:
        """The k products closest to each of several unit vectors that share a filter."""
        k = self._at_most_all(table, k)
        limit = k + TIE_MARGIN
        form = self._manifest.vectors
        is_rescored = form != "float" and exact is not False
        if exact:
            search: dict[str, object] = {"metric": "dot", "use_index": False}
        else:
            search = self._planner.plan(
                table, k=k, where=where, count=lambda: self._count(table, where)
            )
            if "nprobes" in search and (exact is None or form == "binary"):
                search["refine_factor"] = upkeep.refine_factor(form, k)
        search["column"] = schema.VECTOR
        pending, found = list(range(len(queries))), dict[int, list[Hit]]()
        while pending:
            is_batch = len(pending) > 1
            asked = queries[pending] if is_batch else queries[pending[0]]
            rows = self._best_rows(
                table,
                where,
                columns,
                measure="_distance",
                own=[schema.VECTOR] if is_rescored else [],
                nearest={**search, "q": asked, "k": limit},
            )
            numbers = rows["query_index"].to_numpy() if is_batch else np.zeros(len(rows), int)
            if is_rescored:  # of halves, Lance's own distances are rounded as halves are
                scores = schema.cosines(rows, queries[np.array(pending)[numbers]])
                rows = rows.drop_columns([schema.VECTOR])
            else:
                scores = 1.0 - _float64(rows["_distance"])
            scores = np.clip(scores, -1.0, 1.0)
            rows = rows.drop_columns(["query_index"]) if is_batch else rows
            for number, i in enumerate(pending):
                own = np.flatnonzero(numbers == number)
                if not _is_cut(scores[own], k, limit):
                    found[i] = ranked(rows.take(pa.array(own)), scores[own], k)
            pending = [i for i in pending if i not in found]
            limit *= 4
        return [found[i] for i in range(len(queries))]

    @_on_newest
    def text_search(
        self,
        text: str,
        *,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """The k products whose words match those of a text best; see ``Store``."""
        check_k(k)
        table = self.latest()
        fitted = self._fitted(table, where)
        k = self._at_most_all(table, k)
        with reported(self._place.uri):
            query = self._vocabulary_of(table).plan(clean_text(text))
        if not query.required:
            return []
        with_all, with_any = words.queries(query)
        limit = max(k, MAX_TIED_WORDS) + TIE_MARGIN
        found = self._best_rows(
            table, fitted, columns, measure="_score", full_text_query=with_all, limit=limit
        )
        scores = _float64(found["_score"])
        if with_any is not with_all and len(found) < k:
            rest = self._best_rows(
                table, fitted, columns, measure="_score", full_text_query=with_any, limit=limit
            )
            is_new = ~np.isin(rest[ADDRESS].to_numpy(), found[ADDRESS].to_numpy())
            rest = rest.filter(pa.array(is_new))
            others = _float64(rest["_score"])
            scores = np.concatenate([scores + others.max(initial=0.0), others])
            found = pa.concat_tables([found, rest])
        return ranked(found, scores, k)

    def _vocabulary_of(self, table: Dataset) -> words.Vocabulary:
        known = self._vocabulary
        if known is None or known.table is not table:
            known = self._vocabulary = words.Vocabulary(table)
        return known

    def _best_rows(
        self,
        table: Dataset,
        where: Filter | None,
        columns: Sequence[str] | None,
        *,
        measure: str,
        own: Sequence[str] = (),
        **search: Any,  # noqa: ANN401  # Lance's own options
    ) -> pa.Table:
        """The rows that a search finds, with their ids, columns and Lance's measure.

        ``own`` are further columns of the store itself.
        """
        names = [*self._names(table, columns)[1:], *own, measure]
        with reported(self._place.uri):
            scanner = table.scanner(
                columns=names,
                filter=condition_of(table, where),
                prefilter=True,
                with_row_address=True,
                **search,
            )
            rows = scanner.to_table()
            newest, row_ids = self._opened
            ids = (row_ids if table is newest else RowIds()).of(table, rows[ADDRESS].to_numpy())
        return rows.append_column(schema.ID, ids)

    @_on_newest
    def count(self, where: Filter | None = None, *, distinct: str | None = None) -> int:
        """How many products pass a filter; those that share a value of a column count once."""
        table = self.latest()
        fitted = self._fitted(table, where)
        if distinct is None:
            return self._count(table, fitted)
        name = stored_name(distinct)
        with reported(self._place.uri):
            condition = condition_of(table, fitted)
            return count_distinct(table.to_table(columns=[name], filter=condition).column(0))

    def _count(self, table: Dataset, where: Filter | None) -> int:
        with reported(self._place.uri):
            return int(table.count_rows(condition_of(table, where)))

    def _fitted(self, table: Dataset, where: Filter | None) -> Filter | None:
        meta = self._meta_of(table)
        return None if where is None else fit_filter(where, meta.columns, meta.roles)

    def _at_most_all(self, table: Dataset, k: int) -> int:
        return k if k <= MAX_UNCOUNTED_K else max(1, min(k, self._count(table, None)))

    @_on_newest
    def values(self, column: str, *, k: int) -> list[Value]:
        """Up to k values of a column, each once, the most frequent first."""
        table = self.latest()
        check_columns([column], kinds_in(table.schema), self._place.uri)
        name = stored_name(column)
        with reported(self._place.uri):
            return most_frequent(table.to_table(columns=[name]).column(0), k)

    @_on_newest
    def list_hits(
        self,
        *,
        k: int,
        offset: int = 0,
        where: Filter | None = None,
        sort: Sort | None = None,
        after: tuple[Value, str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Products that pass a filter, in the order of their ids or as sorted: a page."""
        table = self.latest()
        condition = condition_of(table, self._fitted(table, where))
        check_columns([sort.column] if sort else (), self._meta_of(table).columns, self.uri)
        if after is not None:
            later = pages.after_place(sort, *after)
            condition = later if condition is None else f"({condition}) AND {later}"
        names = self._names(table, columns)
        with reported(self._place.uri):
            found = table.scanner(
                columns=names,
                filter=condition,
                order_by=pages.ordering(sort),
                limit=k,
                offset=offset,
            ).to_table()
        return hits_of(found, repeat(1.0))

    def _names(self, table: Dataset, columns: Sequence[str] | None) -> list[str]:
        """The table's columns that hits need: the id and some of the catalogue's, or all."""
        known = self._meta_of(table).columns
        check_columns(columns or (), known, self.uri)
        return list(
            dict.fromkeys([schema.ID, *map(stored_name, known if columns is None else columns)])
        )

    # reading

    @_on_newest
    def sample(self, n: int) -> Rows:
        """Up to n products, spread evenly over the store, with their vectors."""
        table = self.latest()
        with reported(self._place.uri):
            count = table.count_rows()
            rows = np.unique(np.linspace(0, count - 1, min(n, count), dtype=np.int64))
            names = schema.names_of({}, vectors=True, columns=False)
            taken = table.take(rows.tolist(), columns=names).combine_chunks()
        batches = taken.to_batches() or [pa.RecordBatch.from_pylist([], taken.schema)]
        return schema.to_rows(batches[0], {})

    @_on_newest
    def fetch(
        self, product_ids: Sequence[str], *, vectors: bool = True, columns: bool = True
    ) -> Rows:
        """Those of some products that are stored; see ``Store``."""
        table = self.latest()
        meta = self._meta_of(table)
        kinds = meta.columns if columns else {}
        names = schema.names_of(kinds, vectors=vectors, columns=columns)
        parts = [
            schema.to_rows(batch, kinds)
            for ids in batched(dict.fromkeys(product_ids))
            for batch in self._batches(table, names, where=schema.ids_filter(ids))
        ]
        stacks = [part.vectors for part in parts if part.vectors is not None]
        none = np.empty((0, meta.dim), np.float32)
        return Rows(
            ids=[name for part in parts for name in part.ids],
            captions=[caption for part in parts for caption in part.captions],
            images=[image for part in parts for image in part.images],
            content_keys=[key for part in parts for key in part.content_keys],
            vectors=np.concatenate([none, *stacks]) if vectors else None,
            columns=stack_tables([part.columns for part in parts], kinds),
        )

    def scan(self, *, vectors: bool = True, columns: bool = True) -> Iterator[Rows]:
        """Every product, in batches, as of one revision."""
        with self._place.leases.reading():
            table = self.latest()
            kinds = self._meta_of(table).columns if columns else {}
            names = schema.names_of(kinds, vectors=vectors, columns=columns)
            for batch in self._batches(table, names):
                yield schema.to_rows(batch, kinds)

    def _batches(
        self, table: Dataset, names: list[str], *, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        with reported(self._place.uri):
            yield from table.to_batches(columns=names, filter=where, batch_size=SCAN_ROWS)

    def digests(self) -> StoredDigests:
        """Content keys and row digests of what is stored."""
        names = [schema.ID, schema.KEY, schema.ROW]
        with self._place.leases.reading():
            return StoredDigests(
                entry
                for batch in self._batches(self.latest(), names)
                for entry in zip(*(batch.column(name).to_pylist() for name in names), strict=True)
            )

    def changes_since(self, revision: int) -> Changes | None:
        """What changed since a revision; None if its version is gone or was another store's.

        The files that both versions share are not read: a write leaves most of them as they are.
        """
        self._place.leases.follow()
        with self._place.leases.reading():
            table = self.latest()
            version = revision - (self._manifest.created_ms << VERSION_BITS)
            if not 0 < version <= table.version:
                return None
            try:
                before = table.checkout_version(version)
            except (OSError, ValueError):  # it was removed
                return None
            with reported(self._place.uri):
                old, new = changed_rows(before, table)
        return Changes(
            self._revision_of(table),
            upserted=frozenset(name for name, digest in new.items() if old.get(name) != digest),
            deleted=frozenset(old.keys() - new.keys()),
        )

    def similar_ids(self, product_id: str) -> list[str]:
        """Up to three stored ids that are spelled like one that is not stored."""
        table = self.latest()
        start = schema.prefix_filter(clean_text(product_id[: max(1, len(product_id) // 2)]))
        ids: list[str] = []
        with reported(self._place.uri):
            for where in (start, None):
                some = table.to_table(columns=[schema.ID], filter=where, limit=schema.IDS_PER_QUERY)
                ids += some[schema.ID].to_pylist()
        return get_close_matches(product_id, dict.fromkeys(ids), n=3, cutoff=0.5)

    # care

    @contextmanager
    def writer(
        self, *, timeout_s: float = LOCK_TIMEOUT_S, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[Writer]:
        """Be the only writer while the block runs; re-entrant within a thread."""
        with self._place.lock.held(timeout_s=timeout_s, on_wait=on_wait):
            yield LanceWriter(self)

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Compare every row with the checksums written beside it."""
        checked, damaged = 0, list[str]()
        with self._place.leases.reading():
            table = self.latest()
            kinds = self._meta_of(table).columns
            for batch in self._batches(table, table.schema.names):
                checked += batch.num_rows
                damaged += schema.damaged_ids(batch, kinds)
        removed = 0
        if repair:
            with self.writer() as writer:
                removed = writer.delete(damaged) if damaged else 0
                with reported(self._place.uri):
                    upkeep.rebuild(self.for_writing(), self._meta_of(table))
        return VerifyReport(checked, tuple(damaged), removed)

    def info(self) -> StoreInfo:
        """The store in figures."""
        table = self.latest()
        with reported(self._place.uri):
            is_approximate = upkeep.vector_index(table) is not None
        size = self._place.size_bytes()
        return StoreInfo(
            self._meta_of(table), self._count(table, None), size, is_approximate=is_approximate
        )

    def close(self) -> None:
        """Stop following changes; Lance closes its files by itself."""
        self._place.leases.close()

    @property
    def place(self) -> Place:
        """Where its table, its lock and its leases are."""
        return self._place

    @property
    def uri(self) -> str:
        """Where the store is."""
        return self._place.uri


def _float64(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(), np.float64)


def _is_cut(scores: np.ndarray, k: int, limit: int) -> bool:
    """Whether a limit of rows, best first, has cut through scores that equal the k-th."""
    if not k <= len(scores) >= limit or limit > MAX_TIES:
        return False
    best = np.sort(scores)[::-1]
    return bool(best[k - 1] == best[-1])
