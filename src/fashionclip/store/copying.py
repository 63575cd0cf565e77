"""A store copied into another one of any kind, through the store contract and without a model.

Every batch is written whole. A product that the other store has already, with the same image,
values and vector, is not written again, so that a copy that was killed goes on when it is run
again and ends as an uninterrupted one does. At the end both sides are compared.

A damaged product of the source is left out, and then nothing is deleted from the other store: it
may be the only good copy, and the source may not even know the right id any more.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np
from jaxtyping import Float32

from fashionclip.errors import ImageFetchError, StoreError
from fashionclip.product import Product
from fashionclip.store import local_folder
from fashionclip.store.base import LOCK_TIMEOUT_S, BlobStore, Rows, Store, Writer, require_model
from fashionclip.store.blobs import is_blob
from fashionclip.store.digests import StoredDigests, row_digest
from fashionclip.store.rows import KEY_BYTES

ROWS_PER_OPTIMIZE = 50_000  # written before the search indexes take them in: bounds the memory
IMAGE_THREADS = 8  # they wait for disks and networks


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did."""

    count: int
    """Products in the store now."""
    copied: int
    """Products that were written."""
    unchanged: int
    """Products that were there already."""
    removed: int
    """Products that were in the store and not in its source."""
    images: int
    """Images written that the source keeps itself."""
    lost_images: tuple[str, ...]
    """Products whose image the source should keep, and does not."""
    damaged: tuple[str, ...]
    """Products of the source that were left out, since they are damaged."""
    seconds: float
    """Wall-clock time."""


def copy_store(
    source: Store,
    target: Store,
    *,
    prune: bool = True,
    wait_s: float = LOCK_TIMEOUT_S,
    progress: Callable[[int, int], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> CopyReport:
    """Bring a store to the state of another one: products, columns, roles, threshold and images.

    Images that the source names, such as files and URLs, keep their locations. Vectors take the
    form of the target (see ``VectorForm``).

    Args:
        source: is read, as of one revision.
        target: is written; another store of the same model.
        prune: delete products that the source does not have, unless the source is damaged.
        wait_s: how long to wait for another run that writes to the target; negative without end.
        progress: called after each batch with the products dealt with, and how many there are.
        on_wait: called once, with who is writing, if there is a wait.

    Returns:
        What was done, in numbers.

    Raises:
        ModelMismatchError: the target holds another model's vectors.
        StoreLockedError: another run was still writing after the wait.
        StoreError: one of them is the other, cannot be read or written, or the two differ in the
            end; what was written stays, and a further copy goes on from there.
    """
    began = time.monotonic()
    meta = source.meta
    if _place_of(meta.uri) == _place_of(target.meta.uri):
        message = f"the index {meta.uri} cannot be copied into itself: name another place"
        raise StoreError(message)
    require_model(target, model=meta.model, fingerprint=meta.fingerprint)
    total = len(source)
    if prune and not total and len(target):
        message = (
            f"the index {meta.uri} holds no product, so that a copy would empty {target.meta.uri}: "
            "check its address"
        )
        raise StoreError(message)
    with target.writer(timeout_s=wait_s, on_wait=on_wait) as writer:
        writer.set_columns(meta.columns)
        writer.set_roles(meta.roles)
        copy = _Copy(source, target, writer)
        for rows in source.scan():
            copy.take(rows)
            if progress is not None:
                progress(copy.unchanged + copy.copied, total)
        damaged = copy.left_out()
        removed = copy.prune() if prune and not damaged else 0
        writer.set_columns(meta.columns, narrow=True)
        writer.drop_blank(target.meta.columns.keys() - meta.columns.keys())
        target.blobs.delete_others(_ids(target.scan(vectors=False, columns=False)))
        writer.set_relevance_threshold(meta.relevance_threshold)
        writer.optimize()
        copy.verify()
        count = len(target)
    return CopyReport(
        count=count,
        copied=copy.copied,
        unchanged=copy.unchanged,
        removed=removed,
        images=copy.images,
        lost_images=tuple(copy.lost_images),
        damaged=damaged,
        seconds=time.monotonic() - began,
    )


def _place_of(uri: str) -> str:
    """An address in the one form that all that name the same folder have in common."""
    folder = local_folder(uri)
    return uri.rstrip("/") if folder is None else str(folder.resolve())


class _Copy:
    """One pass over a source."""

    def __init__(self, source: Store, target: Store, writer: Writer) -> None:
        self._source, self._target, self._writer = source, target, writer
        self._source_kinds, self._kinds = source.meta.columns, target.meta.columns
        self._is_exact = source.meta.vectors == target.meta.vectors == "float"
        self._expected = source.digests()
        self._before = target.digests()
        self._held = StoredDigests(
            entry for rows in target.scan() for entry in self._entries(*_products_of(rows), rows)
        )
        self._sum = 0
        self._n_known = self._n_unoptimized = 0
        self.copied = self.unchanged = self.images = 0
        self.lost_images: list[str] = []

    def take(self, rows: Rows) -> None:
        """Write those of some products that the target lacks.

        Raises:
            StoreError: the target cannot be written, or the source has other columns by now.
        """
        if not self._source_kinds.keys() >= set(rows.columns.column_names):
            message = f"the index {self._source.meta.uri} got new columns meanwhile: copy it again"
            raise StoreError(message)
        products, vectors = _products_of(rows)
        changed, n_whole = [], 0
        for i, (name, key, digest) in enumerate(self._entries(products, vectors, rows)):
            if not self._is_whole(products[i], key):
                continue
            n_whole += 1
            self._sum += int.from_bytes(digest)
            self._before.mark_seen(name)
            if self._held.find(name) != (key, digest):
                changed.append(i)
        self.unchanged += n_whole - len(changed)
        if not changed:
            return
        self._copy_images([products[i] for i in changed])
        self._writer.upsert(
            [products[i] for i in changed],
            vectors[changed],
            [rows.content_keys[i] for i in changed],
        )
        self.copied += len(changed)
        self._n_unoptimized += len(changed)
        if self._n_unoptimized >= ROWS_PER_OPTIMIZE:
            self._writer.optimize(is_finished=False)
            self._n_unoptimized = 0

    def _is_whole(self, product: Product, key: bytes) -> bool:
        """Whether a product of the source is what was written, as far as its digest tells."""
        stored = self._expected.find(product.product_id)
        if stored is None:  # written a moment ago
            return True
        # zeros stand for no digest; another run may have written the product a moment ago
        wanted = {(key, row_digest(product, self._source_kinds)), (key, bytes(KEY_BYTES))}
        is_whole = stored in wanted or product.product_id not in self._damaged
        self._n_known += is_whole
        return is_whole

    @cached_property
    def _damaged(self) -> frozenset[str]:
        """The damaged products of the source; reads all of it, and so only if it must be."""
        return frozenset(self._source.verify().damaged)

    def left_out(self) -> tuple[str, ...]:
        """The products of the source that were not taken, since they are damaged."""
        is_all = self._n_known == len(self._expected)
        return () if is_all else tuple(sorted(self._damaged))

    def prune(self) -> int:
        """Delete the products that the source does not have."""
        stored = _ids(self._target.scan(vectors=False, columns=False))
        return self._writer.delete([name for name in stored if self._before.is_unseen(name)])

    def verify(self) -> None:
        """Compare what the target has now with what was read of the source.

        Raises:
            StoreError: they differ.
        """
        found = 0
        for rows in self._target.scan():
            products, vectors = _products_of(rows)
            found += sum(
                int.from_bytes(digest)
                for name, _, digest in self._entries(products, vectors, rows)
                if not self._before.is_unseen(name)
            )
        if found != self._sum:
            message = (
                f"the index {self._target.meta.uri} differs from {self._source.meta.uri} after it "
                "was copied: check both with fashionclip index --verify, then copy again"
            )
            raise StoreError(message)

    def _entries(
        self, products: Sequence[Product], vectors: Float32[np.ndarray, "n dim"], rows: Rows
    ) -> Iterator[tuple[str, bytes, bytes]]:
        """Id, content key, and a digest of all that both stores keep of each product."""
        stored = vectors if self._is_exact else vectors.astype(np.float16)
        for product, key, vector in zip(products, rows.content_keys, stored, strict=True):
            name, digest = product.product_id, row_digest(product, self._kinds)
            parts = (name.encode(), key, digest, vector.tobytes())
            yield name, key, blake2b(b"\0".join(parts), digest_size=KEY_BYTES).digest()

    def _copy_images(self, products: Sequence[Product]) -> None:
        kept = [product for product in products if is_blob(_location_of(product))]
        if not kept:
            return
        with ThreadPoolExecutor(IMAGE_THREADS, thread_name_prefix="fashionclip-copy") as pool:
            blobs = self._source.blobs, self._target.blobs
            outcomes = list(pool.map(lambda product: _copy_image(product, *blobs), kept))
        lost = [
            product.product_id
            for product, is_there in zip(kept, outcomes, strict=True)
            if not is_there
        ]
        self.images += len(kept) - len(lost)
        self.lost_images += lost


def _copy_image(product: Product, source: BlobStore, target: BlobStore) -> bool:
    """Copy the image that a store keeps of a product; False if it does not."""
    try:
        data = source.read(_location_of(product))
    except ImageFetchError:
        return False
    target.put(product.product_id, data)
    return True


def _location_of(product: Product) -> str:
    return str(product.image or "")


def _products_of(rows: Rows) -> tuple[list[Product], Float32[np.ndarray, "n dim"]]:
    """Stored products as they are written."""
    assert rows.vectors is not None  # they were asked for
    columns = rows.columns.to_pylist() or [{}] * len(rows.ids)
    found = zip(rows.ids, rows.captions, rows.images, columns, strict=True)
    products = [Product(name, caption, image, 0, values) for name, caption, image, values in found]
    return products, rows.vectors


def _ids(batches: Iterable[Rows]) -> Iterator[str]:
    return (name for rows in batches for name in rows.ids)
