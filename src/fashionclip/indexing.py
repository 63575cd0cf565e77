"""A catalogue into a store: read, compare, encode in batches what changed, write, optimize.

A product is represented by its image's vector, as in FashionCLIP; the caption is kept for full-text
search. A run compares each image's bytes and each row's values with what is stored: a new or
changed image is encoded, a changed caption or column is written beside the vector that is there,
and everything else is left alone. Each batch is written at once and whole, so a run that is killed
loses only the batch in hand, and the next run ends where an uninterrupted one would have ended.

Products that the catalogue no longer has are deleted at the end of a pass that read all of it, and
columns that no product fills any more. A product whose row or image could not be read this time
keeps what is stored.
"""

import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fashionclip.catalog import Catalog, CatalogSummary
from fashionclip.catalog.summary import SummaryBuilder
from fashionclip.encoding import (
    READ_AHEAD,
    READ_THREADS,
    Encoder,
    ImageJob,
    ImagePlaces,
    Result,
    local_encoder,
    map_ahead,
)
from fashionclip.errors import (
    FashionCLIPError,
    ImageFetchError,
    StoreError,
    StoreFormatError,
)
from fashionclip.model import FashionCLIP
from fashionclip.product import Kind, Product, Reject, VectorForm, widen
from fashionclip.rejects import RejectsFile
from fashionclip.relevance import calibrate
from fashionclip.store import (
    Store,
    StoreMeta,
    Writer,
    check_form,
    local_folder,
    open_or_create,
    require_form,
    require_model,
    row_digest,
    upgrade_store,
)
from fashionclip.store.blobs import is_blob
from fashionclip.store.renames import drop_former_columns

ROWS_PER_WRITE = 512
"""Products written at once: what a kill can cost, and what shares the 10 ms of a write."""
MAX_SECONDS_PER_WRITE = 30.0  # a slow machine or network writes earlier
ROWS_PER_OPTIMIZE = 20_000  # written before the search indexes take them in: bounds memory and time
OPTIMIZE_RATIO = 5  # ... or a fifth of the store, so that it stays a fixed share of the work
WAIT_S = 24 * 3600.0  # how long a run waits for another one that writes to the same store
DEFAULT_FORM: VectorForm = "half"
"""How a new store keeps vectors: as 32-bit floats are found, in half the room. Figures are in
benchmarks/small_vectors.py."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What a run did."""

    stored: int
    """Products that are new in the store."""
    updated: int
    """Products whose picture, caption or columns changed."""
    unchanged: int
    """Products left alone."""
    removed: int
    """Products that the catalogue no longer has."""
    rejected: int
    """Rows and pictures that could not be used; each is a line of the rejects file."""
    embedded: int
    """Pictures that the model encoded: the new ones and those that changed."""
    summary: CatalogSummary
    """What was understood of the catalogue."""
    count: int
    """Products in the index now."""
    seconds: float
    """Wall-clock time, waiting for another run included."""
    rejects_path: Path | None
    """The rejects file (JSON Lines); None if none was wanted.

    Without rejects, the file in a store's folder is empty, and a file elsewhere is removed.
    """
    was_upgraded: bool
    """Whether the store had the format of an older version of this package."""
    kind_changes: tuple[str, ...] = ()
    """A sentence for each column that has another kind than before, or could not become narrower,
    with the row and value that caused it; and for each that is removed."""


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
    store: Store | str | Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    encoder: Encoder | None = None,
    prune: bool = True,
    vectors: VectorForm | None = None,
    rejects: Path | None = None,
    wait_s: float = WAIT_S,
    progress: Callable[[IndexProgress], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> IndexReport:
    """Bring a store to the state of a catalogue, encoding only what changed.

    At the end, the store's relevance threshold is measured again if a product changed.

    Args:
        catalog: the products; the store takes over its roles.
        model: encodes their images; the store belongs to this model from then on.
        store: an open one, or its address (a folder, ``s3://…``, ``postgresql://…``); made if it
            is not there, and upgraded if its format is an older one.
        batch_size: images per batch of the model.
        workers: threads that decode images; None for one per core.
        encoder: who reads and encodes the images, such as ``ray_encoding.open_ray_encoder`` gives;
            None for this process. Another than None ignores ``batch_size`` and ``workers``.
        prune: delete products that the catalogue no longer has.
        vectors: the form in which a new store keeps its vectors, see ``VectorForm``; None for
            ``DEFAULT_FORM``, and for whatever a store that is there has.
        rejects: a file for the rows and images that cannot be used; by default ``rejects.jsonl``
            in the store's folder, and none where the store is not a folder.
        wait_s: how long to wait for another run that writes to the same store.
        progress: called after each row.
        on_wait: called once, with who is writing, if there is a wait.
        storage_options: credentials, endpoint and region of the store, if its address is one of
            object storage; see ``open_store``.

    Returns:
        What was done, in numbers.

    Raises:
        CatalogError: the catalogue cannot be read (on); what was written before stays.
        CredentialsError: object storage refuses the credentials for the images; as above.
        MissingSourceError: a bucket or folder that images were read from is gone; as above.
        ModelMismatchError: the store holds another model's vectors.
        StoreLockedError: another run was still writing after the wait.
        StoreError: the store cannot be written (full disk, permissions), is damaged, or keeps
            its vectors in another form.
        ValueError: ``batch_size`` is below 1, or ``vectors`` is no form.
    """
    began = time.monotonic()
    if vectors is not None:
        check_form(vectors)
    encoder = encoder or local_encoder(model, batch_size=batch_size, workers=workers)
    opened, was_upgraded = _open(store, catalog, model, vectors, storage_options)
    require_model(opened, model=model.name, fingerprint=model.fingerprint)
    require_form(opened, vectors)
    folder = local_folder(opened.meta.uri)
    path = rejects if rejects is not None else folder and folder / "rejects.jsonl"
    with ExitStack() as stack:
        writer = stack.enter_context(opened.writer(timeout_s=wait_s, on_wait=on_wait))
        file = (
            None
            if path is None
            else stack.enter_context(RejectsFile(path, keep_empty=folder is not None))
        )
        before = opened.meta
        writer.set_roles(catalog.roles)
        writer.set_columns(catalog.columns)
        run = _Run(catalog, model, opened, writer, file, progress)
        run.embed(encoder)
        deleted = run.prune() if prune else 0
        writer.set_columns(catalog.columns, narrow=True)
        if run.has_products:
            blank = catalog.types.keys() - catalog.columns.keys()
            drop_former_columns(opened, writer, catalog.columns, blank, roles_before=before.roles)
        opened.blobs.delete_others(_ids(opened))
        _return_freed_memory()  # the last optimization takes the most
        writer.optimize()
        is_changed = run.stored or run.updated or deleted
        if is_changed or opened.meta.relevance_threshold is None:
            writer.set_relevance_threshold(calibrate(opened, model))
        count = len(opened)
        kind_changes = tuple(_kind_changes(catalog, before.columns, opened.meta.columns))
    return IndexReport(
        stored=run.stored,
        updated=run.updated,
        unchanged=run.unchanged,
        removed=deleted,
        rejected=run.rejected,
        embedded=run.embedded,
        summary=run.summary.build(),
        count=count,
        seconds=time.monotonic() - began,
        rejects_path=path,
        was_upgraded=was_upgraded,
        kind_changes=kind_changes,
    )


def _kind_changes(
    catalog: Catalog, before: Mapping[str, Kind], after: Mapping[str, Kind]
) -> Iterator[str]:
    """Sentences on the columns whose kind is not what it was, or not what the catalogue's is."""
    for name, kind in catalog.columns.items():
        old, new = before.get(name, kind), after[name]
        if old != new:
            found = catalog.types.get(name)
            because = found.because if found and widen(old, new) == new else None
            row = f", because row {because[0]} has '{because[1]}'" if because else ""
            yield f"column '{name}': {old} → {new}{row}"
        elif new != kind:
            yield (
                f"column '{name}' stays {new}: all of its values in this catalogue fit {kind}, "
                "but those of products that it does not have do not"
            )
    for name in before:
        if name not in after:
            yield f"column '{name}' is removed: no product of the catalogue has a value in it"


def _open(
    store: Store | str | Path,
    catalog: Catalog,
    model: FashionCLIP,
    vectors: VectorForm | None,
    storage_options: Mapping[str, str] | None,
) -> tuple[Store, bool]:
    """The store to write to, made or upgraded where needed, and whether it was upgraded.

    Raises:
        StoreError: it cannot be opened, made or upgraded.
    """
    if not isinstance(store, str | Path):
        return store, False
    meta = StoreMeta(
        str(store),
        model.name,
        model.fingerprint,
        model.dim,
        roles=catalog.roles,
        columns=catalog.columns,
        vectors=vectors or DEFAULT_FORM,
    )
    try:
        return open_or_create(store, meta, storage_options=storage_options), False
    except StoreFormatError:
        return upgrade_store(store, storage_options=storage_options), True


def _return_freed_memory() -> None:
    """Give the system back what the threads that optimized have freed, which glibc would keep."""
    with suppress(AttributeError, OSError, TypeError):  # other systems have no such call
        ctypes.CDLL(None).malloc_trim(0)


def _ids(store: Store) -> Iterator[str]:
    return (name for rows in store.scan(vectors=False, columns=False) for name in rows.ids)


@dataclass(frozen=True, slots=True)
class _Changed:
    """A product whose image has been read and must be encoded."""

    product: Product
    key: bytes
    is_new: bool


class _Run:
    """One pass over a catalogue."""

    def __init__(
        self,
        catalog: Catalog,
        model: FashionCLIP,
        store: Store,
        writer: Writer,
        rejects: RejectsFile | None,
        progress: Callable[[IndexProgress], None] | None,
    ) -> None:
        self._catalog, self._model, self._store, self._writer = catalog, model, store, writer
        self._rejects, self._progress = rejects, progress
        self._total = catalog.len_hint
        self.summary = SummaryBuilder(catalog)
        self._kinds = store.meta.columns
        self._digests = store.digests()
        self._places = ImagePlaces()
        self._waiting: deque[tuple[Product, tuple[bytes, bytes] | None]] = deque()
        """Products whose images are being encoded, with what is stored of them, in their order."""
        self._encoded: list[tuple[_Changed, np.ndarray]] = []
        self._rewritten: list[tuple[Product, bytes]] = []
        self._wrote_at = time.monotonic()
        self._n_unoptimized = 0
        self.rows = self.stored = self.updated = self.unchanged = self.embedded = 0
        self.rejected = 0

    # the pass

    def embed(self, encode: Encoder) -> None:
        """Go through the catalogue once; what was encoded is written even if the pass breaks off.

        Raises:
            StoreError: the store cannot be written.
            CatalogError: the catalogue cannot be read on.
        """
        try:
            for result in encode(self._jobs(), self._catalog.policy):
                self.rows += 1
                self._take(*self._waiting.popleft(), result)
                self._write_if_due()
                self._report()
        except StoreError:  # the disk is full or worse: writing more is no way out
            raise
        except BaseException:
            self._write()
            raise
        self._write()

    def _take(self, product: Product, stored: tuple[bytes, bytes] | None, result: Result) -> None:
        """Sort in what became of a product's image."""
        self._places.take(product.image, result)
        if isinstance(result, FashionCLIPError):
            self._reject(product, str(result))
        elif result.vector is not None:
            self.embedded += 1
            changed = _Changed(product, result.key, is_new=stored is None)
            self._encoded.append((changed, result.vector))
        elif stored is not None and stored[1] == row_digest(product, self._kinds):
            self.unchanged += 1
        else:
            self._rewritten.append((product, result.key))

    def _jobs(self) -> Iterator[ImageJob]:
        """The images to compare and encode; each one's product is added to ``_waiting`` first."""
        pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="fashionclip-keep")
        try:
            for product, location in map_ahead(pool, self._keep, self._products(), READ_AHEAD):
                try:
                    sources = self._catalog.image_sources(product)
                except ImageFetchError as error:
                    self.rows += 1
                    self._reject(product, str(error))
                    self._report()
                    continue
                stored = self._digests.find(product.product_id)
                located = product if location is None else replace(product, image=location)
                self._waiting.append((located, stored))
                yield ImageJob(sources, stored and stored[0])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, product: Product) -> tuple[Product, str | None]:
        """Let the store keep an image that lies in the table; the location that it has there."""
        if not isinstance(product.image, bytes):
            return product, None
        return product, self._store.blobs.put(product.product_id, product.image)

    def _products(self) -> Iterator[Product]:
        """The catalogue's products; its rejects are added to the rejects file."""
        for item in self._catalog:
            self.summary.add(item)
            if isinstance(item, Product):
                self._digests.mark_seen(item.product_id)
                yield item
                continue
            self.rows += 1
            if item.product_id is not None:
                self._digests.mark_seen(item.product_id)
            self._add_reject(item)
            self._report()

    def _reject(self, product: Product, reason: str) -> None:
        self._digests.mark_seen(product.product_id)
        location = product.image if isinstance(product.image, str) else None
        if is_blob(location):
            location = None  # the image is in the table, and is not kept without its product
        self._add_reject(Reject(product.row, product.product_id, location, reason))

    def _add_reject(self, reject: Reject) -> None:
        self.rejected += 1
        if self._rejects is not None:
            try:
                self._rejects.add(reject)
            except OSError as exc:
                message = f"{self._rejects.path} cannot be written: {exc.strerror or exc}"
                raise StoreError(message) from exc

    def _report(self) -> None:
        if self._progress is not None:
            done = IndexProgress(self.rows, self._total, self.embedded, self.rejected)
            self._progress(done)

    # writing

    def _write_if_due(self) -> None:
        is_full = len(self._encoded) >= ROWS_PER_WRITE or len(self._rewritten) >= ROWS_PER_WRITE
        if is_full or time.monotonic() - self._wrote_at > MAX_SECONDS_PER_WRITE:
            self._write()

    def _write(self) -> None:
        self._write_rewritten()
        if self._encoded:
            changed, vectors = zip(*self._encoded, strict=True)
            self._encoded = []
            self._writer.upsert(
                [entry.product for entry in changed],
                np.stack(vectors).astype(np.float32),
                [entry.key for entry in changed],
            )
            for entry in changed:
                if not entry.is_new:
                    location = str(entry.product.image)
                    self._store.blobs.delete(entry.product.product_id, except_location=location)
            n_new = sum(entry.is_new for entry in changed)
            self.stored += n_new
            self.updated += len(changed) - n_new
            self._n_unoptimized += len(changed)
        if self._n_unoptimized >= max(ROWS_PER_OPTIMIZE, len(self._store) // OPTIMIZE_RATIO):
            self._writer.optimize(is_finished=False)
            _return_freed_memory()
            self._n_unoptimized = 0
        self._wrote_at = time.monotonic()

    def _write_rewritten(self) -> None:
        """Write changed captions and columns beside the vectors that are there."""
        if not self._rewritten:
            return
        changed, self._rewritten = self._rewritten, []
        ids = [product.product_id for product, _ in changed]
        rows = self._store.fetch(ids, columns=False)
        vectors = dict(zip(rows.ids, rows.vectors if rows.vectors is not None else (), strict=True))
        whole = [entry for entry in changed if entry[0].product_id in vectors]
        if whole:
            self._writer.upsert(
                [product for product, _ in whole],
                np.stack([vectors[product.product_id] for product, _ in whole]),
                [key for _, key in whole],
            )
        self.updated += len(whole)
        damaged = [product for product, _ in changed if product.product_id not in vectors]
        self._writer.delete(product.product_id for product in damaged)
        for product in damaged:
            self._reject(product, "its stored vector was damaged and is removed: index again")

    # afterwards

    @property
    def has_products(self) -> bool:
        """Whether the pass read any product that could be used."""
        return self.rows > self.rejected

    def prune(self) -> int:
        """Delete the products that the pass did not see; none if it read no product at all."""
        if not self.has_products:
            return 0
        gone = [name for name in _ids(self._store) if self._digests.is_unseen(name)]
        return self._writer.delete(gone)
