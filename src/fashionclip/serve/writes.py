"""Products stored and deleted through the service.

Writes that arrive together become one version of the store. A write that was answered is on disk,
and searches find it. Images that came over HTTP are kept with the store.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from fashionclip.catalog.cells import parse_highlights
from fashionclip.catalog.roles import guess_roles
from fashionclip.engines import Engine
from fashionclip.errors import FashionCLIPError, StoreError
from fashionclip.index import Index, pictures
from fashionclip.product import Kind, Product, Roles, Value, kind_of, widen
from fashionclip.serve.batching import MicroBatcher
from fashionclip.serve.images import ImageDecoder
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs
from fashionclip.text.captions import build_caption

MAX_BATCH = 512  # changes in one version of the store
CHANGES_PER_OPTIMIZE = 2_000
MAX_COLUMNS = 200
MAX_NAME_CHARS = 100  # of a column
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_KIND_NAMES = {
    "string": "text",
    "integer": "whole numbers",
    "number": "numbers",
    "boolean": "true or false",
}


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product from a request."""

    product_id: str
    image: bytes
    """Encoded."""
    columns: Mapping[str, Value]
    caption: str = ""
    """If empty, it is built from the columns as a catalogue's captions are."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A product that was not stored."""

    product_id: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """A product to store with its vector, or (without them) the id of one to delete."""

    product_id: str
    deadline: float
    """Until when its client waits for another writer (``time.monotonic``)."""
    new: NewProduct | None = None
    vector: np.ndarray | None = None


class StoreWriter:
    """Writes to the store of a service; safe from any thread."""

    def __init__(
        self, index: InMemoryIndex, engine: Engine, decoder: ImageDecoder, metrics: Metrics
    ) -> None:
        """Start with nothing to write.

        Args:
            index: the index, which takes in each write before its client gets the answer.
            engine: encodes the images.
            decoder: decodes them.
            metrics: counts batch sizes.
        """
        self._index, self._engine, self._decoder = index, engine, decoder
        self._n_since_optimize = 0
        self._batcher: MicroBatcher[_Change, bool | Rejection] = MicroBatcher(
            self._write, name="changes", metrics=metrics, max_batch=MAX_BATCH
        )

    @property
    def n_waiting(self) -> int:
        """Changes that no write has taken yet."""
        return self._batcher.n_waiting

    def put(self, products: Sequence[NewProduct], deadline: float) -> list[Rejection]:
        """Store products, replacing those of the same ids.

        Args:
            products: of several with one id the last counts.
            deadline: until when to wait for another writer (``time.monotonic``).

        Returns:
            Those that could not be stored, and why; the others are stored.

        Raises:
            StoreError: the store cannot be written to; then none is stored.
        """
        rejections: list[Rejection] = []
        valid: list[NewProduct] = []
        pixels = []
        columns = dict(self._index.columns)
        for product in products:
            try:
                _check(product, columns)
                pixels.append(self._decoder.preprocess(product.image))
            except (FashionCLIPError, ValueError) as exc:
                rejections.append(Rejection(product.product_id, str(exc)))
            else:
                valid.append(product)
        if valid:
            vectors = self._engine.encode_pixels(np.stack(pixels))
            changes = [
                _Change(new.product_id, deadline, new, vector)
                for new, vector in zip(valid, vectors, strict=True)
            ]
            results = self._batcher.submit_all(changes)
            rejections += [result for result in results if isinstance(result, Rejection)]
        return rejections

    def remove(self, product_ids: Sequence[str], deadline: float) -> int:
        """Delete products; ids that are not stored are ignored.

        Args:
            product_ids: the products.
            deadline: as in ``put``.

        Returns:
            How many of them were stored.

        Raises:
            StoreError: the store cannot be written to.
        """
        changes = [_Change(name, deadline) for name in dict.fromkeys(product_ids)]
        return sum(result is True for result in self._batcher.submit_all(changes))

    def close(self) -> None:
        """Finish the pending writes."""
        self._batcher.close()

    def _write(self, changes: Sequence[_Change]) -> Sequence[bool | Rejection]:
        """Write a batch; of several changes to one product the last counts.

        A change whose deadline passed while it was waiting still tries once to get the lock.
        """
        wait_s = max(0.0, min(change.deadline for change in changes) - time.monotonic())
        with self._index.writing(timeout_s=wait_s) as index:
            last, results = self._last_changes(changes)
            self._upsert(index, [change for change in last.values() if change.new is not None])
            stored = self._index.now.places
            gone = [name for name, change in last.items() if change.new is None and name in stored]
            if gone:
                index.remove(gone)
            self._index.wrote(list(last))
            for name in gone:
                pictures.forget(index.path, name)
            self._optimize(index, len(last))
        return results

    def _last_changes(
        self, changes: Sequence[_Change]
    ) -> tuple[Mapping[str, _Change], Sequence[bool | Rejection]]:
        """The last change of each product, and the result of every change.

        Columns are checked again, since an earlier change may have added one.
        """
        columns = dict(self._index.columns)
        stored = self._index.now.places
        last: dict[str, _Change] = {}
        results: list[bool | Rejection] = []
        for change in changes:
            name = change.product_id
            was_stored = last[name].new is not None if name in last else name in stored
            if change.new is not None:
                try:
                    _check(change.new, columns)
                except ValueError as exc:
                    results.append(Rejection(name, str(exc)))
                    continue
            last[name] = change
            results.append(was_stored)
        return last, results

    def _upsert(self, index: Index, changes: Sequence[_Change]) -> None:
        if not changes:
            return
        products, vectors, keys, places = [], [], [], []
        for change in changes:
            if change.new is None or change.vector is None:
                continue
            new, name = change.new, change.product_id
            place = pictures.place_of(index.path, name, new.image)
            pictures.keep(place, new.image)
            places.append(place)
            caption = new.caption or _caption(
                new.columns, guess_roles([*{**self._index.columns, **new.columns}])
            )
            products.append(Product(name, caption, str(place), 0, new.columns))
            vectors.append(change.vector)
            keys.append(blake2b(new.image, digest_size=16).digest())
        index.upsert(products, np.stack(vectors), keys)
        for product, place in zip(products, places, strict=True):
            pictures.forget(index.path, product.product_id, but=place)

    def _optimize(self, index: Index, n_changes: int) -> None:
        """Compact the store after many small writes; if that fails, what was written stays."""
        self._n_since_optimize += n_changes
        if self._n_since_optimize >= CHANGES_PER_OPTIMIZE:
            self._n_since_optimize = 0
            try:
                index.optimize(finished=False)
                self._index.wrote(())
            except StoreError as exc:
                logs.warn(str(exc))


def _check(product: NewProduct, columns: dict[str, Kind]) -> None:
    """Reject a product that would change a column for all products, or could not be found.

    Args:
        product: the product.
        columns: the columns' kinds; the product's new columns are added.

    Raises:
        ValueError: the product cannot be stored; the message says why.
    """
    if _UNPRINTABLE.search(product.product_id):
        message = "an id must not contain control characters or lone surrogates"
        raise ValueError(message)
    fresh: dict[str, Kind] = {}
    for name, value in product.columns.items():
        kind, own = columns.get(name), kind_of(value)
        if kind is not None and widen(kind, own) != kind:
            message = f"the column {name} holds {_KIND_NAMES[kind]}, not {value!r:.60}"
            raise ValueError(message)
        if kind is None and own is not None:
            if not name.strip() or len(name) > MAX_NAME_CHARS or _UNPRINTABLE.search(name):
                message = f"{name[:20]!r} is not a name for a column; use letters"
                raise ValueError(message)
            fresh[name] = own
    if len(columns) + len(fresh) > MAX_COLUMNS and fresh:
        message = f"an index has at most {MAX_COLUMNS} columns; leave some out"
        raise ValueError(message)
    columns.update(fresh)


def _caption(columns: Mapping[str, Value], roles: Roles) -> str:
    """The caption that a catalogue would give the product."""
    title, description, highlights = (
        None if name is None else columns.get(name)
        for name in (roles.title, roles.description, roles.highlights)
    )
    return build_caption(parse_highlights(highlights), str(title or description or ""))
