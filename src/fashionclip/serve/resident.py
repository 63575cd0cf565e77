"""An index held in memory while it is served: searched in batches, kept up to date.

Questions that arrive together become one matrix product. The files are looked at twice a second;
when another program has written to them they are read anew beside the answering, and what this
service writes itself is in memory before its writer hears of it. If the files are damaged, taken
away or come to hold another model's vectors, what is in memory goes on answering.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32

from fashionclip.errors import FashionCLIPError
from fashionclip.index import Index, Manifest, Snapshot, snapshot
from fashionclip.kinds import Kind
from fashionclip.product import Hit
from fashionclip.serve import logs
from fashionclip.serve.batching import Batcher

LOOK_S = 0.5  # between looks at the files
REST = 3  # times as long as reading took it waits before it reads anew
MOST_MASKS = 256  # filters of which the passing rows are remembered, a byte a product each


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """One search for neighbours, as it waits for its batch."""

    vector: np.ndarray
    k: int
    mask: np.ndarray | None
    seen: Snapshot


class Resident:
    """An index in memory; see :class:`fashionclip.index.Searchable`."""

    def __init__(self, path: str | Path, *, most: int) -> None:
        """Open an index and read it into memory.

        Args:
            path: the index folder.
            most: questions that are answered at once.

        Raises:
            StoreError: there is no index there, or it is damaged.
        """
        self.index = Index.open(path)
        self.fault = ""
        """Why the files cannot be followed just now; empty where they can."""
        self._snapshot = snapshot.read(self.index.queries)
        self._masks: dict[str, tuple[Snapshot, np.ndarray]] = {}
        self._renewing = threading.Lock()
        self._is_closed = threading.Event()
        self._batcher: Batcher[_Question, list[Hit]] = Batcher(
            _answer, most=most, name="fashionclip-nearest"
        )
        self._follower = threading.Thread(
            target=self._follow, name="fashionclip-follow", daemon=True
        )
        self._follower.start()

    @property
    def now(self) -> Snapshot:
        """What is in memory; never changes itself, so whoever holds one may go on reading it."""
        return self._snapshot

    @property
    def manifest(self) -> Manifest:
        """Which model the index belongs to."""
        return self.index.manifest

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The catalogue's columns and what they hold."""
        return self._snapshot.columns

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

        Raises:
            FilterError: the filter does not fit the columns.
        """
        seen = self._snapshot
        mask = None if where is None else self.mask(where)
        if mask is not None and len(mask) != seen.count:  # the index has changed in between
            seen, mask = self._snapshot, self.mask(where or "")
        question = _Question(vector.astype(np.float32), k, mask, seen)
        return self._batcher.hand_in([question])[0]

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
            ProductNotFoundError: no product has this id; the message names those with similar ones.
        """
        seen = self._snapshot
        found = seen.get(product_id)
        if found is None:
            return self.index.get(product_id)  # which knows ids that are spelled alike
        return seen.vectors[seen.places[product_id]], found

    def vectors(self, product_ids: Sequence[str]) -> dict[str, Float32[np.ndarray, " dim"]]:
        """The vectors of those of the products that are stored."""
        seen = self._snapshot
        places = {name: seen.places.get(name) for name in product_ids}
        return {name: seen.vectors[i] for name, i in places.items() if i is not None}

    def mask(self, where: str) -> Bool[np.ndarray, " n"]:
        """True for the rows of ``now`` that pass a filter.

        Raises:
            FilterError: the filter does not fit the columns.
            StoreCorruptError: the files are damaged.
        """
        seen = self._snapshot
        known = self._masks.get(where)
        if known is not None and known[0] is seen:
            return known[1]
        found = seen.mask(self.index.queries.passing(where))
        if len(self._masks) >= MOST_MASKS:
            with suppress(KeyError, StopIteration):  # another thread was quicker
                del self._masks[next(iter(self._masks))]
        self._masks[where] = (seen, found)
        return found

    def wrote(self, product_ids: Sequence[str], *, before: int) -> None:
        """Take in what this service has just written or removed.

        Args:
            product_ids: the products of that write.
            before: the version of the files before it.

        Raises:
            StoreCorruptError: the files cannot be read.
        """
        with self._renewing:
            old = self._snapshot
            if old.version != before:  # another program wrote too
                self._snapshot = snapshot.read(self.index.queries)
            else:
                self._snapshot = snapshot.renewed(old, self.index.queries, product_ids)

    def close(self) -> None:
        """Answer what was asked, and ask the files no more."""
        self._is_closed.set()
        self._batcher.close()
        self._follower.join()

    def _follow(self) -> None:
        wait_s = LOOK_S
        while not self._is_closed.wait(wait_s):
            began = time.monotonic()
            try:
                self._look()
            except FashionCLIPError as exc:
                self._tell(str(exc))
            else:
                self._tell("")
            wait_s = max(LOOK_S, REST * (time.monotonic() - began))

    def _look(self) -> None:
        try:
            if self.index.queries.version == self._snapshot.version:
                return
            with self._renewing:
                if self.index.queries.version != self._snapshot.version:
                    self._snapshot = snapshot.read(self.index.queries)
        except FashionCLIPError:
            fresh = Index.open(self.index.path)  # the folder may be another one by now
            fresh.require_model(self.manifest.model, self.manifest.fingerprint)
            with self._renewing:
                self._snapshot = snapshot.read(fresh.queries)
                self.index = fresh

    def _tell(self, fault: str) -> None:
        if fault != self.fault:
            logs.note(f"the index cannot be followed: {fault}" if fault else "the index is back")
        self.fault = fault


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
