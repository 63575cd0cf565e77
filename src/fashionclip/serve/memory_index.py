"""An index in memory that answers searches while it follows a store.

The store is checked twice a second; what another program has written is read in the background.
What this service writes is in memory before its client gets the answer. If the store is damaged,
deleted or made by another model, the copy in memory goes on answering, and ``fault`` says why.

Comparing every vector takes 100 ms at a million products. Where there are so many, the store's own
approximate index proposes candidates, which are compared by the vectors in memory. The products
that pass a filter are known here; where they are few, they are all compared.
"""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fashionclip.errors import FashionCLIPError, FilterError, ModelMismatchError, StoreError
from fashionclip.product import Hit
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs
from fashionclip.serve.saved_copy import keep_saved, read_saved
from fashionclip.store import Store, StoreMeta, Writer, open_store, require_model
from fashionclip.store.filters import Filter
from fashionclip.store.memory import MemoryStore
from fashionclip.store.rows import check_dim, check_k, unit_queries
from fashionclip.store.snapshot import Snapshot

POLL_S = 0.5  # between checks of the store
MIN_REST = 3  # pause after reading a change, in times of its duration
APPROXIMATE_FROM = 200_000
"""Products from which the store's approximate index is quicker than comparing all."""
MAX_EXACT_K = 50
"""Up to so many hits are exactly the closest; of a longer list, one in 500 may be missing."""
ROWS_PER_CANDIDATE = 30
"""Vectors that are compared in memory in the time in which the store proposes one candidate."""
MIN_COMPARED = 20_000  # vectors that are all compared, which takes 4 ms
CANDIDATES_PER_HIT = 1.5  # that pass a filter, if it has nothing to do with the query
MIN_CANDIDATES = 30  # of which the best are right, though the store's own scores are rounded


class InMemoryIndex(MemoryStore):
    """A copy of a store in memory, which a thread keeps up to date."""

    default_threshold: float | None = None
    """The relevance threshold where the store has none."""

    def __init__(
        self, store: str | Path | Store, *, metrics: Metrics, saved_in: Path | None = None
    ) -> None:
        """Open a store, read it into memory and follow it.

        Args:
            store: its URI, or the store itself.
            metrics: counts products, and shows whether the copy is up to date.
            saved_in: the folder in which the copy is saved for the next start; None saves nothing.

        Raises:
            StoreError: there is no such store, or it is damaged.
        """
        self._source = open_store(store) if isinstance(store, str | Path) else store
        super().__init__(self._source.meta, blobs=self._source.blobs)
        saved = None if saved_in is None else read_saved(saved_in, self.meta)
        if saved is not None:
            self._snapshot = saved
        self.refresh_from(self._source)
        self._up_to_date_at = time.monotonic()
        self._model, self._fingerprint = self.meta.model, self.meta.fingerprint
        self._metrics = metrics
        self.fault = ""
        """Why the store cannot be followed at present; empty if it can."""
        self.is_of_other_model = False
        """Whether that is because another model has made it anew."""
        self._is_closed = threading.Event()
        self._follower = threading.Thread(
            target=self._follow, name="fashionclip-follow", daemon=True
        )
        self._follower.start()
        self._saver = threading.Thread(
            target=keep_saved,
            args=[saved_in, lambda: self.snapshot, self._is_closed],
            name="fashionclip-save",
            daemon=True,
        )
        if saved_in is not None:
            self._saver.start()

    @property
    def stale_s(self) -> float:
        """How long ago this copy was last known to have all that its store had."""
        return time.monotonic() - self._up_to_date_at

    @property
    def meta(self) -> StoreMeta:
        """Model, roles and columns; a threshold also where the store has none."""
        meta = super().meta
        if meta.relevance_threshold is None and self.default_threshold is not None:
            return replace(meta, relevance_threshold=self.default_threshold)
        return meta

    def nearest(
        self,
        vectors: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        where: Filter | Sequence[Filter | None] | None = None,
        exact: bool | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[list[Hit]]:
        """The k products closest to each vector; see ``Store``.

        Raises:
            FilterError: a filter names a column that is gone.
        """
        now = self.snapshot
        if exact or self.fault or len(now) < APPROXIMATE_FROM:
            exact = exact or (None if k <= MAX_EXACT_K else False)
            return self._compared(vectors, k=k, where=where, exact=exact, columns=columns)
        check_k(k)
        check_dim(vectors, dim=now.meta.dim, model=now.meta.model, uri=now.meta.uri)
        filters = where if isinstance(where, Sequence) else [where] * len(vectors)
        queries = unit_queries(vectors)
        try:
            rows = self._candidates(now, queries, k, filters)
        except FilterError:
            raise
        except StoreError:  # the copy goes on without its store
            return super().nearest(vectors, k=k, where=where, columns=columns)
        return now.nearest_among(rows, queries, k=k, columns=columns)

    def _candidates(
        self, now: Snapshot, queries: np.ndarray, k: int, filters: Sequence[Filter | None]
    ) -> list[np.ndarray]:
        """For each query the rows that its k best are looked for in; all of them pass its filter.

        Raises:
            StoreError: the store cannot be read.
        """
        found: list[np.ndarray] = [np.empty(0, np.int64)] * len(queries)
        for where in dict.fromkeys(filters):
            asked = [i for i, other in enumerate(filters) if other == where]
            mask = now.mask(where)
            n_passing = len(now) if mask is None else int(np.count_nonzero(mask))
            depth = max(MIN_CANDIDATES, k)
            if where is not None:
                depth = math.ceil(CANDIDATES_PER_HIT * depth * len(now) / max(1, n_passing))
            if n_passing <= max(MIN_COMPARED, ROWS_PER_CANDIDATE * depth):
                every = now.live_rows() if mask is None else np.flatnonzero(mask)
                for i in asked:
                    found[i] = every
                continue
            proposed = self._proposed(now, queries[asked], depth, None)
            for i, rows in zip(asked, proposed, strict=True):
                found[i] = rows if mask is None else rows[mask[rows]]
            short = [i for i in asked if len(found[i]) < k]
            if (
                where is not None and short and mask is not None
            ):  # the filter excludes what the query is about
                depth = max(MIN_CANDIDATES, k)
                for i, rows in zip(
                    short, self._proposed(now, queries[short], depth, where), strict=True
                ):
                    found[i] = rows[mask[rows]]  # another program may have changed them since
        return found

    def _proposed(
        self, now: Snapshot, queries: np.ndarray, k: int, where: Filter | None
    ) -> list[np.ndarray]:
        """The rows of the products that the store's own index finds.

        A product that this copy does not know yet is left to the next refresh.
        """
        found = self._source.nearest(queries, k=k, where=where, exact=False, columns=())
        return [now.rows_of([hit.product_id for hit in hits]) for hits in found]

    def text_search(
        self,
        text: str,
        *,
        k: int,
        where: Filter | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[Hit]:
        """The k products whose words match those of a text best.

        The store's own full-text index answers, since one in memory would have to be built again
        after every write; that is done only if the store cannot be read.

        Raises:
            FilterError: the filter names a column that is gone.
        """
        if self.fault:  # a server that is gone may take seconds to say so
            return super().text_search(text, k=k, where=where, columns=columns)
        try:
            return self._source.text_search(text, k=k, where=where, columns=columns)
        except FilterError:
            raise
        except StoreError:
            return super().text_search(text, k=k, where=where, columns=columns)

    @contextmanager
    def writing(self, *, timeout_s: float) -> Iterator[Writer]:
        """Be the only writer of the store while the block runs.

        Args:
            timeout_s: how long to wait for another writer.

        Yields:
            The store's writer; this copy is up to date with the store.

        Raises:
            StoreLockedError: another program was still writing after the wait.
            StoreError: the store is gone, cannot be written to, or belongs to another model.
        """
        self._require_model()  # before taking the lock would make the folder of a deleted store
        with self._source.writer(timeout_s=timeout_s) as writer:
            self._require_model()  # another store may have come into its place during the wait
            self.refresh_from(self._source)
            yield writer

    def take_in(self, product_ids: Sequence[str]) -> None:
        """Copy what was just written in a block of ``writing``.

        Args:
            product_ids: the products that were written or deleted.

        Raises:
            StoreError: the store cannot be read.
        """
        self.refresh_from(self._source, changed=product_ids)

    def stop_following(self) -> None:
        """Look no more for what others write to the store, and save no more."""
        self._is_closed.set()

    def close(self) -> None:
        """Stop following, and close the store."""
        self.stop_following()
        self._follower.join()
        if self._saver.is_alive():
            self._saver.join()
        self._source.close()

    def _follow(self) -> None:
        wait_s = 0.0
        while not self._is_closed.wait(wait_s):
            started = time.monotonic()
            try:
                self._check_source()
            except FashionCLIPError as exc:
                self.is_of_other_model = isinstance(exc, ModelMismatchError)
                self._set_fault(str(exc))
            except Exception as exc:  # an unexpected error must not end the thread
                logs.failure("", exc)
                self._set_fault(type(exc).__name__)
            else:
                self._up_to_date_at = started
                self.is_of_other_model = False
                self._set_fault("")
            wait_s = max(POLL_S, MIN_REST * (time.monotonic() - started))

    def _check_source(self) -> None:
        """Take in what has changed.

        Raises:
            StoreError: the store cannot be read, belongs to another model, or is being made anew.
        """
        is_new = self._source.meta.created != self.meta.created
        self._require_model()
        if is_new and len(self) and not len(self._source):
            message = f"the index {self.meta.uri} has been made anew, and is still empty"
            raise StoreError(message)
        self.refresh_from(self._source)

    def _require_model(self) -> None:
        """Check that the store can be read and belongs to the model.

        Raises:
            StoreError: it cannot be read, or belongs to another model.
        """
        if self._source.meta.fingerprint != self._fingerprint:
            require_model(self._source, model=self._model, fingerprint=self._fingerprint)

    def _set_fault(self, fault: str) -> None:
        if fault != self.fault:
            logs.warn(f"the index cannot be followed: {fault}" if fault else "the index is back")
        self.fault = fault
        self._metrics.index(len(self), is_stale=bool(fault))
