"""Products stored and deleted through the service: checks, new columns, batches of changes.

Writes that arrive together become one revision of the store. A write that was answered is on disk,
and searches find it. Images that came over HTTP are kept with the store.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Literal

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
class Patch:
    """New values for some columns of a stored product; its image and vector stay."""

    product_id: str
    columns: Mapping[str, Value]
    """As in ``NewProduct``; None removes a value."""
    caption: str | None = None
    """None keeps a caption that was given, and builds one anew that was built from columns."""
    add_columns: bool = False


@dataclass(frozen=True, slots=True)
class Deletion:
    """A product to delete."""

    product_id: str


Change = NewProduct | Patch | Deletion


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change."""

    product_id: str
    status: Literal["stored", "patched", "deleted", "missing", "rejected"]
    """``missing``: there was no such product to patch or delete."""
    reason: str = ""
    """Why it was rejected, in one line."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """A change on its way to the store."""

    change: Change
    deadline: float
    """Until when its client waits for another writer (``time.monotonic``)."""
    vector: np.ndarray | None = None
    """Of a new product."""


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
        self._batcher: MicroBatcher[_Pending, Outcome] = MicroBatcher(
            self._write, name="changes", metrics=metrics, max_batch=MAX_BATCH
        )

    @property
    def n_waiting(self) -> int:
        """Changes that no write has taken yet."""
        return self._batcher.n_waiting

    def write(self, changes: Sequence[Change], deadline: float) -> list[Outcome]:
        """Store, patch and delete products; searches find what was written from then on.

        Args:
            changes: of several to one product each counts, in their order.
            deadline: until when to wait for another writer (``time.monotonic``).

        Returns:
            What became of each change, in their order; one that is rejected costs only itself.

        Raises:
            StoreError: the store cannot be written to; then nothing is changed.
        """
        vectors, faults = self._vectors(changes)
        pending = [
            _Pending(change, deadline, vectors.get(i))
            for i, change in enumerate(changes)
            if i not in faults
        ]
        written = iter(self._batcher.submit_all(pending) if pending else ())
        return [
            Outcome(change.product_id, "rejected", faults[i]) if i in faults else next(written)
            for i, change in enumerate(changes)
        ]

    def _vectors(self, changes: Sequence[Change]) -> tuple[dict[int, np.ndarray], dict[int, str]]:
        """The vectors of the new products among some changes, and what is wrong with others."""
        meta = self._index.meta
        columns = dict(meta.columns)
        pixels: dict[int, np.ndarray] = {}
        faults: dict[int, str] = {}
        for i, change in enumerate(changes):
            try:
                if not isinstance(change, Deletion):
                    _own_columns(change, columns, meta.roles)
                if isinstance(change, NewProduct):
                    pixels[i] = self._decoder.preprocess(change.image)
            except (FashionCLIPError, ValueError) as exc:
                faults[i] = str(exc)
        if not pixels:
            return {}, faults
        vectors = self._engine.encode_pixels(np.stack(list(pixels.values())))
        return dict(zip(pixels, vectors, strict=True)), faults

    def close(self) -> None:
        """Finish the pending writes."""
        self._batcher.close()

    def _write(self, pending: Sequence[_Pending]) -> Sequence[Outcome]:
        """Write a batch as one revision of the store.

        A change whose deadline passed while it was waiting still tries once to get the lock.
        """
        wait_s = max(0.0, min(one.deadline for one in pending) - time.monotonic())
        with self._index.writing(timeout_s=wait_s) as writer:
            last, outcomes = self._last_states(pending)
            stored = [one for one in last.values() if one is not None]
            deleted = [name for name, one in last.items() if one is None]
            if stored:
                self._upsert(writer, stored)
            if deleted:
                writer.delete(deleted)
            if last:
                self._index.take_in(list(last))
            for one in stored:
                if one.image is not None:
                    location = str(one.product.image)
                    self._index.blobs.delete(one.product.product_id, except_location=location)
            for name in deleted:
                self._index.blobs.delete(name)
            self._optimize(writer, len(last))
        return outcomes

    def _last_states(
        self, pending: Sequence[_Pending]
    ) -> tuple[dict[str, "_Stored | None"], list[Outcome]]:
        """What each product is after all changes (None: deleted), and what became of each change.

        Columns are checked again, since an earlier change may have added one.
        """
        now = self._index.snapshot
        columns = dict(now.meta.columns)
        before = self._stored(one.change for one in pending)
        last: dict[str, _Stored | None] = {}
        outcomes = []
        for one in pending:
            change, name = one.change, one.change.product_id
            is_there = last[name] is not None if name in last else now.hit(name) is not None
            if not isinstance(change, NewProduct) and not is_there:
                outcomes.append(Outcome(name, "missing"))
                continue
            if isinstance(change, Deletion):
                last[name] = None
                outcomes.append(Outcome(name, "deleted"))
                continue
            try:
                values = _own_columns(change, columns, now.meta.roles)
            except ValueError as exc:
                outcomes.append(Outcome(name, "rejected", str(exc)))
                continue
            if isinstance(change, NewProduct):
                product = Product(name, change.caption, None, 0, values)
                assert one.vector is not None
                last[name] = _Stored(product, change.image, one.vector, content_key(change.image))
                outcomes.append(Outcome(name, "stored"))
            else:
                stored = last.get(name) or before[name]
                last[name] = _patched(stored, change, values, now.meta.roles)
                outcomes.append(Outcome(name, "patched"))
        return last, outcomes

    def _stored(self, changes: Iterable[Change]) -> dict[str, "_Stored"]:
        """The products that are to be patched, as they are stored."""
        names = [change.product_id for change in changes if isinstance(change, Patch)]
        if not names:
            return {}
        rows = self._index.fetch(names)
        assert rows.vectors is not None
        found = zip(
            *(rows.ids, rows.captions, rows.images, rows.content_keys, rows.vectors),
            rows.columns.to_pylist() or [{}] * len(rows.ids),
            strict=True,
        )
        return {
            name: _Stored(Product(name, caption, image, 0, columns), None, vector, key)
            for name, caption, image, key, vector, columns in found
        }

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
            caption = product.caption or _caption(product.columns, roles)
            image = product.image
            if one.image is not None:
                image = self._index.blobs.put(product.product_id, one.image)
            one.product = replace(product, caption=caption, image=image)
        writer.upsert(
            [one.product for one in stored],
            np.stack([one.vector for one in stored]),
            [one.content_key for one in stored],
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
    image: bytes | None
    """Encoded; None of one that is patched, whose image stays where it is."""
    vector: np.ndarray
    content_key: bytes


def _patched(stored: _Stored, patch: Patch, values: Mapping[str, Value], roles: Roles) -> _Stored:
    """A product with the values of a patch.

    A caption that is what the old columns give was built from them, so that it is built anew.
    """
    old = stored.product
    caption = patch.caption
    if caption is None:
        caption = "" if old.caption == _caption(old.columns, roles) else old.caption
    return replace(
        stored,
        product=replace(old, caption=caption, columns={**old.columns, **values}),
    )


def _own_columns(
    product: NewProduct | Patch, columns: dict[str, Kind], roles: Roles
) -> dict[str, Value]:
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
            if kind is None and not isinstance(product, Patch):
                continue
            _check_new_column(name, columns, roles, product)
            if kind is None:
                continue
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


def _own_id(product: NewProduct | Patch, given: Value, column: str, kind: Kind) -> Value:
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
    name: str, columns: Mapping[str, Kind], roles: Roles, product: NewProduct | Patch
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
