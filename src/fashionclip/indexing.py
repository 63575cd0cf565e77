"""A catalogue into an index: read, compare, encode what changed, store, tidy up.

A product is represented by its picture's vector, as FashionCLIP does it; the caption is kept
for full-text search. A run compares each picture's bytes and each row's values with what the
index holds: a new or changed picture is encoded, a changed caption or column is written beside
the vector that is there, everything else is passed over. Since every batch is stored at once
and whole, a run that is killed at any moment has only lost the batch in hand, and the next one
ends where an uninterrupted run would have ended.

Products that the catalogue no longer has are removed at the end, after a pass that read the
whole catalogue; a product whose row or picture could not be read this time keeps what is stored.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from fashionclip.catalog import Catalog
from fashionclip.errors import FashionCLIPError, StoreError
from fashionclip.index import Index, Known, pictures, row_digest
from fashionclip.index.folder import REJECTS_NAME
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Reject
from fashionclip.rejects import RejectsFile

ROWS_A_WRITE = 512
"""Products stored at once: what a kill can cost, and what shares the 10 ms of a write."""
SECONDS_A_WRITE = 30.0  # a slow machine or network stores earlier
ROWS_A_TIDYING = 20_000  # stored before the search indexes take them in: bounds memory and time
TIDYING_SHARE = 5  # ... or a fifth of the index, so that tidying stays a fixed share of the work
READERS = 8  # threads that fetch pictures; they wait for disks and networks, not for cores
READ_AHEAD = 64  # pictures held as bytes before the model asks for them
WAIT_S = 24 * 3600.0  # how long a run waits for another one that writes the same index


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run did."""

    stored: int
    """Products that are new in the index."""
    updated: int
    """Products whose picture, caption or columns changed."""
    unchanged: int
    """Products passed over."""
    removed: int
    """Products that the catalogue no longer has."""
    rejected: int
    """Rows and pictures that could not be used; each is a line of the rejects file."""
    embedded: int
    """Pictures that the model encoded: the new ones and those that changed."""
    count: int
    """Products in the index now."""
    seconds: float
    """Wall-clock time, waiting for another run included."""
    rejects_path: Path
    """The rejects file (JSON Lines); empty if nothing was rejected."""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far a run has come."""

    rows: int
    """Rows of the catalogue dealt with."""
    total: int | None
    """Rows it has, if that is known; an estimate for some formats."""
    embedded: int
    """Pictures encoded so far."""
    rejected: int
    """Rows and pictures rejected so far."""


def index_catalog(
    catalog: Catalog,
    model: FashionCLIP,
    store: str | Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    prune: bool = True,
    wait_s: float = WAIT_S,
    progress: Callable[[IndexProgress], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> IndexReport:
    """Bring an index to the state of a catalogue, encoding only what changed.

    Args:
        catalog: the products.
        model: encodes their pictures; the index belongs to this model from then on.
        store: the index folder; made if it is not there.
        batch_size: pictures the model takes at once.
        workers: threads that decode pictures; None for one a core.
        prune: remove products that the catalogue no longer has.
        wait_s: how long to wait for another run that writes the same index.
        progress: called after each row.
        on_wait: called once, with who is writing, if there is a wait.

    Returns:
        What was done, in numbers.

    Raises:
        CatalogError: the catalogue cannot be read (on); what was stored before stays.
        ModelMismatchError: the index holds another model's vectors.
        StoreLockedError: another run was still writing after the wait.
        StoreError: the index cannot be written (full disk, permissions) or is damaged.
        ValueError: ``batch_size`` is below 1.
    """
    began = time.monotonic()
    index = Index.open_or_create(
        store,
        model=model.name,
        fingerprint=model.fingerprint,
        dim=model.dim,
        columns=catalog.columns,
    )
    with (
        index.writing(timeout_s=wait_s, on_wait=on_wait),
        RejectsFile(index.path / REJECTS_NAME) as rejects,
    ):
        index.ensure_columns(catalog.columns)
        run = _Run(catalog, model, index, rejects, progress)
        run.embed(batch_size=batch_size, workers=workers)
        removed = run.prune() if prune else 0
        pictures.forget_others(index.path, index.iter_ids())
        index.optimize()
        count = index.count
    return IndexReport(
        stored=run.stored,
        updated=run.updated,
        unchanged=run.unchanged,
        removed=removed,
        rejected=rejects.count,
        embedded=run.embedded,
        count=count,
        seconds=time.monotonic() - began,
        rejects_path=rejects.path,
    )


@dataclass(frozen=True, slots=True)
class _Picked:
    """A product whose picture has been read and must be encoded."""

    product: Product
    key: bytes
    is_new: bool


class _Run:
    """One pass over a catalogue."""

    def __init__(
        self,
        catalog: Catalog,
        model: FashionCLIP,
        index: Index,
        rejects: RejectsFile,
        progress: Callable[[IndexProgress], None] | None,
    ) -> None:
        self._catalog, self._model, self._index, self._rejects = catalog, model, index, rejects
        self._progress = progress
        self._total = catalog.len_hint
        self._kinds = index.columns
        self._known: Known = index.known()
        self._encoding: deque[_Picked] = deque()  # handed to the model, in its order
        self._encoded: list[tuple[_Picked, np.ndarray]] = []
        self._rewritten: list[tuple[Product, bytes]] = []
        self._wrote = time.monotonic()
        self._untidy = 0
        self.rows = self.stored = self.updated = self.unchanged = self.embedded = 0

    # the pass

    def embed(self, *, batch_size: int, workers: int | None) -> None:
        """Go through the catalogue once; what was encoded is stored even if the pass breaks off.

        Raises:
            StoreError: the index cannot be written.
            CatalogError: the catalogue cannot be read on.
        """
        try:
            vectors = self._model.iter_images(
                self._changed_pictures(), batch_size=batch_size, workers=workers
            )
            for vector in vectors:
                picked = self._encoding.popleft()
                if isinstance(vector, FashionCLIPError):
                    self._reject(picked.product, str(vector))
                else:
                    self.embedded += 1
                    self._encoded.append((picked, vector))
                self._write_when_due()
                self._tell()
        except StoreError:  # the disk is full or worse: writing more is no way out
            raise
        except BaseException:
            self._write()
            raise
        self._write()

    def _changed_pictures(self) -> Iterator[bytes]:
        """The pictures to encode, each noted in ``_encoding`` as it is handed out."""
        for product, picture in self._read_pictures():
            self.rows += 1
            if isinstance(picture, StoreError):  # the disk is full or worse
                raise picture
            if isinstance(picture, FashionCLIPError):
                self._reject(product, str(picture))
                self._tell()
                continue
            key = blake2b(picture, digest_size=16).digest()
            found = self._known.find(product.product_id)
            if found is None or found[0] != key:
                self._encoding.append(_Picked(product, key, is_new=found is None))
                yield picture
                continue
            if found[1] == row_digest(product, self._kinds):
                self.unchanged += 1
            else:
                self._rewritten.append((product, key))
                self._write_when_due()
            self._tell()

    def _read_pictures(self) -> Iterator[tuple[Product, bytes | FashionCLIPError]]:
        """Products in the catalogue's order with their pictures' bytes, read a little ahead."""
        reading: deque[tuple[Product, Future[bytes | FashionCLIPError]]] = deque()
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="fashionclip-read")
        try:
            for product in self._good_products():
                kept = self._kept(product)
                reading.append((kept, pool.submit(self._read, product, kept)))
                if len(reading) >= READ_AHEAD:
                    ready, picture = reading.popleft()
                    yield ready, picture.result()
            while reading:
                ready, picture = reading.popleft()
                yield ready, picture.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _kept(self, product: Product) -> Product:
        """The product with a place for its picture, where that lies in the table itself."""
        if not isinstance(product.image, bytes):
            return product
        place = pictures.place_of(self._index.path, product.product_id, product.image)
        return replace(product, image=str(place))

    def _read(self, product: Product, kept: Product) -> bytes | FashionCLIPError:
        try:
            picture = self._catalog.read_image(product)
            if kept is not product:
                pictures.keep(Path(str(kept.image)), picture)
        except FashionCLIPError as error:
            return error
        return picture

    def _good_products(self) -> Iterator[Product]:
        """The catalogue's products that have a picture; the rest goes to the rejects."""
        for item in self._catalog:
            if isinstance(item, Product) and item.image is not None:
                self._known.meet(item.product_id)
                yield item
                continue
            self.rows += 1
            if isinstance(item, Product):
                self._reject(item, "the row names no picture")
            else:
                if item.product_id is not None:
                    self._known.meet(item.product_id)
                self._add_reject(item)
            self._tell()

    def _reject(self, product: Product, reason: str) -> None:
        self._known.meet(product.product_id)
        location = product.image if isinstance(product.image, str) else None
        if location is not None and pictures.is_kept(self._index.path, location):
            location = None  # it lies in the table, and is not kept for a product that is not
        self._add_reject(Reject(product.row, product.product_id, location, reason))

    def _add_reject(self, reject: Reject) -> None:
        try:
            self._rejects.add(reject)
        except OSError as exc:
            message = f"{self._rejects.path} cannot be written: {exc.strerror or exc}"
            raise StoreError(message) from exc

    def _tell(self) -> None:
        if self._progress is not None:
            rows = max(self.rows - len(self._encoding), 0)
            self._progress(IndexProgress(rows, self._total, self.embedded, self._rejects.count))

    # writing

    def _write_when_due(self) -> None:
        is_full = len(self._encoded) >= ROWS_A_WRITE or len(self._rewritten) >= ROWS_A_WRITE
        if is_full or time.monotonic() - self._wrote > SECONDS_A_WRITE:
            self._write()

    def _write(self) -> None:
        self._write_rewritten()
        if self._encoded:
            picked, vectors = zip(*self._encoded, strict=True)
            self._encoded = []
            self._index.upsert(
                [entry.product for entry in picked],
                np.stack(vectors).astype(np.float32),
                [entry.key for entry in picked],
            )
            for product in (entry.product for entry in picked if not entry.is_new):
                place = Path(str(product.image))
                pictures.forget(self._index.path, product.product_id, but=place)
            n_new = sum(entry.is_new for entry in picked)
            self.stored += n_new
            self.updated += len(picked) - n_new
            self._untidy += len(picked)
        if self._untidy >= max(ROWS_A_TIDYING, self._index.count // TIDYING_SHARE):
            self._index.optimize(finished=False)
            self._untidy = 0
        self._wrote = time.monotonic()

    def _write_rewritten(self) -> None:
        """Store changed captions and columns beside the vectors that are there."""
        if not self._rewritten:
            return
        changed, self._rewritten = self._rewritten, []
        vectors = self._index.vectors([product.product_id for product, _ in changed])
        whole = [entry for entry in changed if entry[0].product_id in vectors]
        if whole:
            self._index.upsert(
                [product for product, _ in whole],
                np.stack([vectors[product.product_id] for product, _ in whole]),
                [key for _, key in whole],
            )
        self.updated += len(whole)
        broken = [product for product, _ in changed if product.product_id not in vectors]
        self._index.remove(product.product_id for product in broken)
        for product in broken:
            self._reject(product, "its stored vector was damaged and is removed: index again")

    # afterwards

    def prune(self) -> int:
        """Remove the products that the pass did not meet; none if it met no product at all."""
        if not self.rows or self.rows == self._rejects.count:
            return 0
        gone = [name for name in self._index.iter_ids() if self._known.is_unmet(name)]
        self._index.remove(gone)
        return len(gone)
