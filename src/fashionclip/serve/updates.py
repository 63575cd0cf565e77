"""Products put in and taken out while the shop is open.

Writes that arrive together become one version of the index, and one that was answered is on
disk. Pictures that came over HTTP are kept in the index folder, under ``pictures/``.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from fashionclip.catalog.cells import parse_highlights
from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.engines import Engine
from fashionclip.errors import FashionCLIPError, StoreError
from fashionclip.index import Index, pictures
from fashionclip.product import Kind, Product, Value, kind_of, widen
from fashionclip.serve import logs
from fashionclip.serve.batching import Batcher
from fashionclip.serve.decoding import Decoder
from fashionclip.serve.resident import Resident
from fashionclip.text.captions import build_caption

MOST_CHANGES = 512  # in one version of the index
CHANGES_A_TIDYING = 2_000  # small writes that the files are put in order after
MOST_COLUMNS = 200
LONGEST_NAME = 100  # characters of a column's name
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_KINDS = {
    "string": "words",
    "integer": "whole numbers",
    "number": "numbers",
    "boolean": "true or false",
}


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product as a client sent it."""

    product_id: str
    picture: bytes
    """Encoded."""
    columns: Mapping[str, Value]
    caption: str = ""
    """Empty: made of the columns, as a catalogue's captions are."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A product that was not stored."""

    product_id: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """A product to store with its vector, or (without them) the id of one to take out."""

    product_id: str
    due: float
    """When its client stops waiting for another program to let go of the index (monotonic)."""
    new: NewProduct | None = None
    vector: np.ndarray | None = None


class Updates:
    """Writes to the index of a shop; safe from any thread."""

    def __init__(self, resident: Resident, engine: Engine, decoder: Decoder) -> None:
        """Hold what is written to.

        Args:
            resident: the index; it knows of a write before the writer does.
            engine: encodes the pictures.
            decoder: opens them.
        """
        self._resident, self._engine, self._decoder = resident, engine, decoder
        self._untidy = 0
        self._batcher: Batcher[_Change, bool | Refusal] = Batcher(
            self._write, most=MOST_CHANGES, name="fashionclip-write"
        )

    def put(self, products: Sequence[NewProduct], due: float) -> list[Refusal]:
        """Store products, replacing those of the same ids.

        Args:
            products: of several with one id the last counts.
            due: until when to wait for another program that writes, as ``time.monotonic`` has it.

        Returns:
            Those that could not be stored, and why; the others are.

        Raises:
            StoreError: the index cannot be written to; then none is stored.
        """
        refusals: list[Refusal] = []
        sound: list[NewProduct] = []
        pixels = []
        columns = dict(self._resident.columns)
        for product in products:
            try:
                _check(product, columns)
                pixels.append(self._decoder.fitted(product.picture))
            except (FashionCLIPError, ValueError) as exc:
                refusals.append(Refusal(product.product_id, str(exc)))
            else:
                sound.append(product)
        if sound:
            vectors = self._engine.encode_pixels(np.stack(pixels))
            outcomes = self._batcher.hand_in(
                [
                    _Change(new.product_id, due, new, vector)
                    for new, vector in zip(sound, vectors, strict=True)
                ]
            )
            refusals += [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        return refusals

    def remove(self, product_ids: Sequence[str], due: float) -> int:
        """Take products out.

        Args:
            product_ids: whichever are stored.
            due: as in ``put``.

        Returns:
            How many of them there were.

        Raises:
            StoreError: the index cannot be written to.
        """
        changes = [_Change(name, due) for name in dict.fromkeys(product_ids)]
        return sum(outcome is True for outcome in self._batcher.hand_in(changes))

    def close(self) -> None:
        """Finish what was handed in."""
        self._batcher.close()

    def _write(self, changes: Sequence[_Change]) -> Sequence[bool | Refusal]:
        """Write a batch; of several changes to one product the last counts.

        Who has waited its time for this batch to begin asks for the index once and no longer.
        """
        wait_s = max(0.0, min(change.due for change in changes) - time.monotonic())
        with self._resident.writing(timeout_s=wait_s) as index:
            last, outcomes = self._sorted_out(changes)
            self._upsert(index, [change for change in last.values() if change.new is not None])
            there = self._resident.now.places
            gone = [name for name, change in last.items() if change.new is None and name in there]
            if gone:
                index.remove(gone)
            self._resident.wrote(list(last))
            for name in gone:
                pictures.forget(index.path, name)
            self._tidy(index, len(last))
        return outcomes

    def _sorted_out(
        self, changes: Sequence[_Change]
    ) -> tuple[Mapping[str, _Change], Sequence[bool | Refusal]]:
        """The last change of each product, and for all of them what their client is told.

        Columns are looked at again: another client may have been quicker to make one.
        """
        columns = dict(self._resident.columns)
        there = self._resident.now.places
        last: dict[str, _Change] = {}
        outcomes: list[bool | Refusal] = []
        for change in changes:
            name = change.product_id
            is_there = last[name].new is not None if name in last else name in there
            if change.new is not None:
                try:
                    _check(change.new, columns)
                except ValueError as exc:
                    outcomes.append(Refusal(name, str(exc)))
                    continue
            last[name] = change
            outcomes.append(is_there)
        return last, outcomes

    def _upsert(self, index: Index, changes: Sequence[_Change]) -> None:
        if not changes:
            return
        products, vectors, keys, places = [], [], [], []
        for change in changes:
            if change.new is None or change.vector is None:
                continue
            new, name = change.new, change.product_id
            place = pictures.place_of(index.path, name, new.picture)
            pictures.keep(place, new.picture)
            places.append(place)
            caption = new.caption or _caption(new.columns)
            products.append(Product(name, caption, str(place), 0, new.columns))
            vectors.append(change.vector)
            keys.append(blake2b(new.picture, digest_size=16).digest())
        index.upsert(products, np.stack(vectors), keys)
        for product, place in zip(products, places, strict=True):
            pictures.forget(index.path, product.product_id, but=place)

    def _tidy(self, index: Index, n_changes: int) -> None:
        """Put the files in order after many small writes; what was written stays if that fails."""
        self._untidy += n_changes
        if self._untidy >= CHANGES_A_TIDYING:
            self._untidy = 0
            try:
                index.optimize(finished=False)
                self._resident.wrote(())
            except StoreError as exc:
                logs.note(str(exc))


def _check(product: NewProduct, columns: dict[str, Kind]) -> None:
    """Refuse what would change a column for all products, or could not be found again.

    Args:
        product: what is to be stored.
        columns: what the columns hold; those that are new with this product are added.

    Raises:
        ValueError: the product cannot be stored; says why.
    """
    if _UNSPEAKABLE.search(product.product_id):
        message = "an id holds no control characters, and no half characters (lone surrogates)"
        raise ValueError(message)
    fresh: dict[str, Kind] = {}
    for name, value in product.columns.items():
        kind, own = columns.get(name), kind_of(value)
        if kind is not None and widen(kind, own) != kind:
            message = f"the column {name} holds {_KINDS[kind]}, not {value!r:.60}"
            raise ValueError(message)
        if kind is None and own is not None:
            if not name.strip() or len(name) > LONGEST_NAME or _UNSPEAKABLE.search(name):
                message = f"{name[:20]!r} is no name for a column; take a word of letters"
                raise ValueError(message)
            fresh[name] = own
    if len(columns) + len(fresh) > MOST_COLUMNS and fresh:
        message = f"an index has at most {MOST_COLUMNS} columns; leave some out"
        raise ValueError(message)
    columns.update(fresh)


def _caption(columns: Mapping[str, Value]) -> str:
    by_bare = {bare_name(name): value for name, value in reversed(list(columns.items()))}

    def of_role(role: str) -> Value:
        return next((by_bare[usual] for usual in USUAL_NAMES[role] if usual in by_bare), None)

    title = of_role("title") or of_role("description") or ""
    return build_caption(parse_highlights(of_role("highlights")), str(title))
