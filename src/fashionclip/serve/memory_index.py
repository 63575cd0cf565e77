"""An index held in memory while it is served: searched in batches, kept up to date.

Questions that arrive together become one matrix product. The files are looked at twice a second;
when another program has written to them they are read anew beside the answering, and what this
service writes itself is in memory before its writer hears of it. If the files are damaged, taken
away or come to hold another model's vectors, what is in memory goes on answering.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32

from fashionclip.catalog.roles import guess_roles
from fashionclip.errors import FashionCLIPError, FilterError, ProductNotFoundError, StoreError
from fashionclip.index import Index, Manifest, Snapshot, snapshot
from fashionclip.index.folder import MANIFEST_NAME
from fashionclip.product import Hit, Kind, Roles
from fashionclip.serve.batching import MicroBatcher
from fashionclip.serve.masks import passing
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs

LOOK_S = 0.5  # between looks at the files
REST = 3  # times as long as reading took it waits before it reads anew
MAX_MASKS = 256  # filters of which the passing rows are remembered, a byte a product each


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """One search for neighbours, as it waits for its batch."""

    vector: np.ndarray
    k: int
    mask: np.ndarray | None
    seen: Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """What is in memory: a snapshot, and which of its rows pass the filters asked so far."""

    snapshot: Snapshot
    masks: dict[str, np.ndarray] = field(default_factory=dict)


class InMemoryIndex:
    """An index in memory; see :class:`fashionclip.index.Searchable`."""

    def __init__(self, path: str | Path, *, max_batch: int, metrics: Metrics) -> None:
        """Open an index and read it into memory.

        Args:
            path: the index folder.
            max_batch: searches that are computed together.
            metrics: told how many products there are, and whether they are those on disk.

        Raises:
            StoreError: there is no index there, or it is damaged.
        """
        self._folder = Path(path)
        self._metrics = metrics
        self._opened = _identity(self._folder)
        self.index = Index.open(path)
        self.fault = ""
        """Why the files cannot be followed just now; empty where they can."""
        self._held = _Held(snapshot.read(self.index.queries))
        self._renewing = threading.Lock()
        self._is_closed = threading.Event()
        self._batcher: MicroBatcher[_Question, list[Hit]] = MicroBatcher(
            _answer, name="nearest", metrics=metrics, max_batch=max_batch
        )
        self._follower = threading.Thread(
            target=self._follow, name="fashionclip-follow", daemon=True
        )
        self._follower.start()

    @property
    def now(self) -> Snapshot:
        """What is in memory; never changes itself, so whoever holds one may go on reading it."""
        return self._held.snapshot

    @property
    def manifest(self) -> Manifest:
        """Which model the index belongs to."""
        return self.index.manifest

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The catalogue's columns and what they hold."""
        return self.now.columns

    @property
    def roles(self) -> Roles:
        """Which column plays which part."""
        return guess_roles(list(self.columns))

    def require_model(self, model: str, fingerprint: str) -> None:
        """Refuse to go on with another model than the one that made this index.

        Raises:
            ModelMismatchError: the fingerprints differ; names both models.
        """
        self.index.require_model(model, fingerprint)

    def nearest(
        self,
        vector: Float[np.ndarray, " dim"],
        *,
        k: int = 10,
        where: str | None = None,
        exact: bool | None = None,  # always is
    ) -> list[Hit]:
        """The k products closest to a unit vector, closest first, together with what others ask.

        Args:
            vector: the query.
            k: hits wanted, at least 1.
            where: as ``filters.parse_filter`` writes it.
            exact: makes no difference.
        """
        seen = self.now
        mask = None if where is None else self.mask(where, seen)
        question = _Question(vector.astype(np.float32), k, mask, seen)
        return self._batcher.submit_all([question])[0]

    def text_search(self, words: str, *, k: int = 10, where: str | None = None) -> list[Hit]:
        """The k products whose captions match some words best, as the files have them.

        Raises:
            FilterError: the filter does not fit the columns.
            StoreCorruptError: the files are damaged.
        """
        return self.index.text_search(words, k=k, where=where)

    def get(self, product_id: str) -> tuple[Float32[np.ndarray, " dim"], Hit]:
        """One product's vector, and the product with a score of 1.

        Raises:
            ProductNotFoundError: no product has this id.
        """
        seen = self.now
        found = seen.get(product_id)
        if found is None:
            message = f"there is no product {product_id!r} here"
            raise ProductNotFoundError(message)
        return seen.vectors[seen.places[product_id]], found

    def vectors(self, product_ids: Sequence[str]) -> dict[str, Float32[np.ndarray, " dim"]]:
        """The vectors of those of the products that are stored."""
        seen = self.now
        places = {name: seen.places.get(name) for name in product_ids}
        return {name: seen.vectors[i] for name, i in places.items() if i is not None}

    def mask(self, where: str, seen: Snapshot) -> Bool[np.ndarray, " n"]:
        """True for the rows of a snapshot that pass a filter; not to be written to.

        Args:
            where: as ``filters.parse_filter`` writes it for these columns.
            seen: was ``now``, a moment ago at most.

        Raises:
            FilterError: it is for other columns.
        """
        held = self._held
        masks = held.masks if held.snapshot is seen else {}
        found = masks.get(where)
        if found is None:
            try:
                found = passing(where, seen)
            except (KeyError, ValueError) as exc:  # it was written for the columns of a moment ago
                message = "the catalogue's columns have just changed; ask again"
                raise FilterError(message) from exc
            if len(masks) >= MAX_MASKS:
                masks.clear()
            masks[where] = found
        return found

    @contextmanager
    def writing(self, *, timeout_s: float) -> Iterator[Index]:
        """Be the only writer while the block runs, on what the folder holds by now.

        Args:
            timeout_s: how long to wait for another program that writes.

        Yields:
            The index; ``now`` is what it holds.

        Raises:
            StoreLockedError: another program is still writing after the wait.
            StoreError: the folder is gone, cannot be written to, or is another model's by now.
        """
        while True:
            if self._is_another():
                self._open_anew()
            opened, index = self._opened, self.index
            with index.writing(timeout_s=timeout_s):
                if _identity(self._folder) != opened:  # while this waited for the lock
                    continue
                self._catch_up()
                yield index
                return

    def wrote(self, product_ids: Sequence[str]) -> None:
        """Take in what was just written or removed, in a block of ``writing``.

        Args:
            product_ids: the products of that write, and of no other.

        Raises:
            StoreCorruptError: the files cannot be read.
        """
        with self._renewing:
            self._hold(snapshot.renewed(self.now, self.index.queries, product_ids))

    def close(self) -> None:
        """Answer what was asked, and ask the files no more."""
        self._is_closed.set()
        self._batcher.close()
        self._follower.join()

    def _follow(self) -> None:
        wait_s = 0.0
        while not self._is_closed.wait(wait_s):
            began = time.monotonic()
            try:
                self._look()
            except FashionCLIPError as exc:
                self._tell(str(exc))
            except Exception as exc:  # or nobody would follow from here on
                logs.failure("", exc)
                self._tell(type(exc).__name__)
            else:
                self._tell("")
            wait_s = max(LOOK_S, REST * (time.monotonic() - began))

    def _look(self) -> None:
        try:
            if self._is_another():
                self._open_anew(but_empty=True)
            else:
                self._catch_up()
        except FashionCLIPError:
            self._open_anew(
                but_empty=True
            )  # says what is wrong, unless what stands there now is well

    def _catch_up(self) -> None:
        self.index.queries.catch_up()
        if self.index.queries.version == self.now.version:
            return
        with self._renewing:
            if self.index.queries.version != self.now.version:
                self._hold(snapshot.read(self.index.queries))

    def _is_another(self) -> bool:
        """Whether the folder is not the one that was opened: deleted, or made anew."""
        return _identity(self._folder) != self._opened

    def _open_anew(self, *, but_empty: bool = False) -> None:
        """Go over to what stands in the folder now.

        Args:
            but_empty: unless there is nothing in it yet: somebody is making it anew.

        Raises:
            StoreError: there is no index, or it is damaged, empty or another model's.
        """
        with self._renewing:
            identity = _identity(self._folder)
            fresh = Index.open(self._folder)
            fresh.require_model(self.manifest.model, self.manifest.fingerprint)
            read = snapshot.read(fresh.queries)
            if but_empty and not read.count and self.now.count:
                message = f"the index {self._folder} has been made anew, and is still empty"
                raise StoreError(message)
            self.index, self._opened = fresh, identity
            self._hold(read)

    def _hold(self, fresh: Snapshot) -> None:
        self._held = _Held(fresh)  # and forget the masks of the one before, with it

    def _tell(self, fault: str) -> None:
        if fault != self.fault:
            logs.warn(f"the index cannot be followed: {fault}" if fault else "the index is back")
        self.fault = fault
        self._metrics.index(self.now.count, is_stale=bool(fault))


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells an index from another one that came into its place; None where there is none."""
    try:
        found = (folder / MANIFEST_NAME).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _answer(questions: Sequence[_Question]) -> list[list[Hit]]:
    """Answer all questions to one snapshot in one product; mostly there is only one."""
    answers: dict[int, list[Hit]] = {}
    by_snapshot: dict[int, list[int]] = {}
    for i, question in enumerate(questions):
        by_snapshot.setdefault(id(question.seen), []).append(i)
    for asked in by_snapshot.values():
        these = [questions[i] for i in asked]
        found = these[0].seen.best(
            np.stack([one.vector for one in these]),
            [one.k for one in these],
            [one.mask for one in these],
        )
        answers.update(zip(asked, found, strict=True))
    return [answers[i] for i in range(len(questions))]
