"""Products put in and taken out while the shop is open.

Writes that arrive together become one version of the index, and one that was answered is on
disk. Pictures that came over HTTP are kept in the index folder, under ``pictures/``.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from fashionclip.catalog.columns import ROLES, bare_name, highlights_of
from fashionclip.errors import FashionCLIPError, StoreError
from fashionclip.images import decode_image
from fashionclip.kinds import Kind, kind_of, widen
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Value
from fashionclip.serve.batching import Batcher
from fashionclip.serve.resident import Resident
from fashionclip.serve.settings import Settings
from fashionclip.texts import build_caption

PICTURES = "pictures"  # in the index folder
MOST_CHANGES = 512  # in one version of the index
CHANGES_A_TIDYING = 2_000  # small writes that the files are put in order after
MOST_COLUMNS = 200
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
    new: NewProduct | None = None
    vector: np.ndarray | None = None


class Updates:
    """Writes to the index of a shop; safe from any thread."""

    def __init__(self, resident: Resident, model: FashionCLIP, settings: Settings) -> None:
        """Hold what is written to.

        Args:
            resident: the index; it knows of a write before the writer does.
            model: encodes the pictures.
            settings: how many pixels a picture may have, and how long a write may wait.
        """
        self._resident, self._model, self._settings = resident, model, settings
        self._untidy = 0
        self._batcher: Batcher[_Change, bool] = Batcher(
            self._write, most=MOST_CHANGES, name="fashionclip-write"
        )

    def put(self, products: Sequence[NewProduct]) -> list[Refusal]:
        """Store products, replacing those of the same ids.

        Returns:
            Those that could not be stored, and why; the others are.

        Raises:
            StoreError: the index cannot be written to; then none is stored.
        """
        refusals: list[Refusal] = []
        sound: list[NewProduct] = []
        pictures = []
        for product in products:
            try:
                self._check(product)
                size = self._model.checkpoint.preprocess.size_px
                pictures.append(
                    decode_image(product.picture, target_px=size, max_pixels=self._settings.pixels)
                )
            except (FashionCLIPError, ValueError) as exc:
                refusals.append(Refusal(product.product_id, str(exc)))
            else:
                sound.append(product)
        if sound:
            vectors = self._model.encode_images(pictures, workers=1)
            changes = [
                _Change(new.product_id, new, vector)
                for new, vector in zip(sound, vectors, strict=True)
            ]
            self._batcher.hand_in(changes)
        return refusals

    def remove(self, product_ids: Sequence[str]) -> int:
        """Take products out.

        Returns:
            How many of them there were.

        Raises:
            StoreError: the index cannot be written to.
        """
        return sum(self._batcher.hand_in([_Change(name) for name in dict.fromkeys(product_ids)]))

    def close(self) -> None:
        """Finish what was handed in."""
        self._batcher.close()

    def _check(self, product: NewProduct) -> None:
        """Refuse what would change a column for all products.

        Raises:
            ValueError: a value does not fit its column, or there are too many columns.
        """
        columns: Mapping[str, Kind] = self._resident.columns
        for name, value in product.columns.items():
            kind, own = columns.get(name), kind_of(value)
            if kind is not None and widen(kind, own) != kind:
                message = f"the column {name} holds {_KINDS[kind]}, not {value!r:.60}"
                raise ValueError(message)
        if len(columns.keys() | product.columns.keys()) > MOST_COLUMNS:
            message = f"an index has at most {MOST_COLUMNS} columns; leave some out"
            raise ValueError(message)

    def _write(self, changes: Sequence[_Change]) -> Sequence[bool]:
        """Write a batch; of several changes to one product the last counts."""
        last = {change.product_id: change for change in changes}
        there = self._resident.now.places
        was_there = [change.product_id in there for change in changes]
        gone = [name for name, change in last.items() if change.new is None and name in there]
        index = self._resident.index
        with index.writing(timeout_s=self._settings.write_seconds):
            before = index.queries.version
            self._upsert([change for change in last.values() if change.new is not None])
            if gone:
                index.remove(gone)
            self._resident.wrote(list(last), before=before)
            for name in gone:
                _forget(index.path / PICTURES / _short(name.encode()))
            self._tidy(len(last))
        return was_there

    def _upsert(self, changes: Sequence[_Change]) -> None:
        if not changes:
            return
        index = self._resident.index
        products, vectors, keys = [], [], []
        for change in changes:
            if change.new is None or change.vector is None:
                continue
            new, name = change.new, change.product_id
            place = _keep(index.path / PICTURES / _short(name.encode()), new.picture)
            caption = new.caption or _caption(new.columns)
            products.append(Product(name, caption, str(place), 0, new.columns))
            vectors.append(change.vector)
            keys.append(blake2b(new.picture, digest_size=16).digest())
        index.upsert(products, np.stack(vectors), keys)
        for product in products:
            place = Path(str(product.image))
            _forget(place.parent, but=place.name)

    def _tidy(self, n_changes: int) -> None:
        self._untidy += n_changes
        if self._untidy >= CHANGES_A_TIDYING:
            index = self._resident.index
            before = index.queries.version
            index.optimize(finished=False)
            self._resident.wrote((), before=before)
            self._untidy = 0


def _caption(columns: Mapping[str, Value]) -> str:
    by_bare = {bare_name(name): value for name, value in reversed(list(columns.items()))}

    def of_role(role: str) -> Value:
        return next((by_bare[usual] for usual in ROLES[role] if usual in by_bare), None)

    title = of_role("title") or of_role("description") or ""
    return build_caption(highlights_of(of_role("highlights")), str(title))


def _short(data: bytes) -> str:
    """A name for a file or folder that any bytes may be called."""
    return blake2b(data, digest_size=12).hexdigest()


def _keep(folder: Path, picture: bytes) -> Path:
    """Write a picture to a product's folder, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    place = folder.absolute() / _short(picture)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(picture)
            Path(beside).replace(place)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as exc:
        message = f"the picture cannot be kept in {folder}: {exc.strerror}; make room, then retry"
        raise StoreError(message) from exc
    return place


def _forget(folder: Path, *, but: str | None = None) -> None:
    """Delete a product's pictures that nothing refers to any more."""
    for file in folder.glob("*"):
        if file.name != but:
            file.unlink(missing_ok=True)
    if but is None and folder.exists():
        folder.rmdir()
