"""Products stored and deleted through the service: checks, new columns, batches of changes.

Writes that arrive together become one revision of the store. A write that was answered is on disk,
and searches find it. Images that came over HTTP are kept with the store.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

import numpy as np

from fashionclip.catalog.values import parse_highlights
from fashionclip.engines import Engine
from fashionclip.errors import FashionCLIPError, StoreError
from fashionclip.product import Kind, Product, Roles, Value, kind_of, widen
from fashionclip.serve.batching import MicroBatcher
from fashionclip.serve.images import ImageDecoder
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs
from fashionclip.store import Writer, content_key
from fashionclip.text.captions import build_caption

MAX_BATCH = 512  # changes in one revision of the store
CHANGES_PER_OPTIMIZE = 2_000
MAX_COLUMNS = 200
MAX_NAME_CHARS = 100  # of a column
ROLE_NAMES = tuple(field.name for field in fields(Roles) if field.name != "further_images")
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
    """Keys are names of columns, or of roles: ``title``, ``price``, ``brand``, …"""
    caption: str = ""
    """If empty, it is built from the columns as a catalogue's captions are."""
    add_columns: bool = False
    """Whether unknown columns are added; otherwise they are an error."""


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
        meta = self._index.meta
        columns = dict(meta.columns)
        for product in products:
            try:
                _own_columns(product, columns, meta.roles)
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
        with self._index.writing(timeout_s=wait_s) as writer:
            last, results = self._last_changes(changes)
            blobs = self._index.blobs
            products = [one for one in last.values() if isinstance(one, _Stored)]
            deleted = [name for name, one in last.items() if one is None]
            if products:
                self._upsert(writer, products)
            if deleted:
                writer.delete(deleted)
            self._index.take_in(list(last))
            for one in products:
                blobs.delete(one.product.product_id, except_location=str(one.product.image))
            for name in deleted:
                blobs.delete(name)
            self._optimize(writer, len(last))
        return results

    def _last_changes(
        self, changes: Sequence[_Change]
    ) -> tuple[Mapping[str, "_Stored | None"], Sequence[bool | Rejection]]:
        """The last change of each product (None deletes it), and the result of every change.

        Columns are checked again, since an earlier change may have added one.
        """
        now = self._index.snapshot
        columns = dict(now.meta.columns)
        last: dict[str, _Stored | None] = {}
        results: list[bool | Rejection] = []
        for change in changes:
            name, new = change.product_id, change.new
            was_stored = last[name] is not None if name in last else now.hit(name) is not None
            stored = None
            if new is not None and change.vector is not None:
                try:
                    values = _own_columns(new, columns, now.meta.roles)
                except ValueError as exc:
                    results.append(Rejection(name, str(exc)))
                    continue
                product = Product(name, new.caption, None, 0, values)
                stored = _Stored(product, new.image, change.vector)
            last[name] = stored
            results.append(was_stored)
        return last, results

    def _upsert(self, writer: Writer, stored: Sequence["_Stored"]) -> None:
        meta = self._index.meta
        new_names = {name for one in stored for name in one.product.columns} - set(meta.columns)
        new_roles = {
            name: name
            for name in new_names
            if name in ROLE_NAMES and getattr(meta.roles, name) is None
        }
        roles = replace(meta.roles, **new_roles)  # type: ignore[arg-type]  # none is a tuple
        for one in stored:
            product = one.product
            one.product = replace(
                product,
                caption=product.caption or _caption(product.columns, roles),
                image=self._index.blobs.put(product.product_id, one.image),
            )
        writer.upsert(
            [one.product for one in stored],
            np.stack([one.vector for one in stored]),
            [content_key(one.image) for one in stored],
        )
        if new_roles:
            writer.set_roles(roles)

    def _optimize(self, writer: Writer, n_changes: int) -> None:
        """Compact the store after many small writes; if that fails, what was written stays."""
        self._n_since_optimize += n_changes
        if self._n_since_optimize >= CHANGES_PER_OPTIMIZE:
            self._n_since_optimize = 0
            try:
                writer.optimize(is_finished=False)
                self._index.take_in(())
            except StoreError as exc:
                logs.warn(str(exc))


@dataclass(slots=True, eq=False)
class _Stored:
    """A product on its way to the store."""

    product: Product
    image: bytes
    """Encoded."""
    vector: np.ndarray


def _own_columns(product: NewProduct, columns: dict[str, Kind], roles: Roles) -> dict[str, Value]:
    """A product's values by the catalogue's own column names.

    Args:
        product: its keys are names of columns or roles.
        columns: the catalogue's columns; the product's new ones are added.
        roles: which column plays which part.

    Raises:
        ValueError: the product cannot be stored; the message says why.
    """
    if _UNPRINTABLE.search(product.product_id):
        message = "an id must not contain control characters or lone surrogates"
        raise ValueError(message)
    found: dict[str, Value] = {}
    new: dict[str, Kind] = {}
    for name, value in product.columns.items():
        column = name if name in columns else _column_of_role(name, roles)
        kind = kind_of(value)
        if column is None or column not in columns:
            if kind is None:
                continue
            _check_new_column(name, columns, roles, product)
            column, new[name] = name, kind
        elif widen(columns[column], kind) != columns[column]:
            message = f"the column {column} holds {_KIND_NAMES[columns[column]]}, not {value!r:.60}"
            raise ValueError(message)
        if column in found:
            message = f"the column {column} is given twice: once by its name, once by its role"
            raise ValueError(message)
        found[column] = value
    if new and len(columns) + len(new) > MAX_COLUMNS:
        message = f"an index has at most {MAX_COLUMNS} columns; leave some out"
        raise ValueError(message)
    if roles.id in columns:
        found[roles.id] = _own_id(product, found.get(roles.id), roles.id, columns[roles.id])
    columns.update(new)
    return found


def _own_id(product: NewProduct, given: Value, column: str, kind: Kind) -> Value:
    """What the column of the id holds for a product.

    Raises:
        ValueError: the product's columns say another id.
    """
    own = _as_kind(product.product_id, kind)
    if given is not None and own is not None and str(given) != product.product_id:
        message = f"the column {column} says {given!r:.60}: leave it out, or give the same id"
        raise ValueError(message)
    return own if given is None else given


def _column_of_role(name: str, roles: Roles) -> str | None:
    """The column of a role; None if there is none, or no such role."""
    column: str | None = getattr(roles, name) if name in ROLE_NAMES else None
    return column


def _check_new_column(
    name: str, columns: Mapping[str, Kind], roles: Roles, product: NewProduct
) -> None:
    """Reject a column that the catalogue does not have, unless it may be added.

    Raises:
        ValueError: it may not be added, or its name cannot be one.
    """
    if not name.strip() or len(name) > MAX_NAME_CHARS or _UNPRINTABLE.search(name):
        message = f"{name[:20]!r} is not a name for a column; use letters"
        raise ValueError(message)
    if not product.add_columns:
        usable = [*columns, *(role for role in ROLE_NAMES if _column_of_role(role, roles))]
        known = {one.lower(): one for one in reversed(usable)}
        nearest = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        hint = f"; did you mean {known[nearest[0]]!r}?" if nearest else ""
        message = f"this catalogue has no column {name!r}{hint} (add_columns=true adds it)"
        raise ValueError(message)


def _as_kind(product_id: str, kind: Kind) -> Value:
    """An id as a column of this kind holds it; None if it cannot."""
    if kind == "string":
        return product_id
    is_integer = product_id.isdecimal() and str(int(product_id)) == product_id
    return int(product_id) if kind == "integer" and is_integer else None


def _caption(columns: Mapping[str, Value], roles: Roles) -> str:
    """The caption that a catalogue would give the product."""
    title, description, highlights = (
        None if name is None else columns.get(name)
        for name in (roles.title, roles.description, roles.highlights)
    )
    return build_caption(parse_highlights(highlights), str(title or description or ""))
