"""A store copied into another one of any kind, through the store contract and without a model.

Every batch is written whole. A product that the other store has already, with the same image and
the same values, is not written again, so that a copy that was killed goes on when it is run again
and ends as an uninterrupted one does. At the end both sides are compared.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Float32

from fashionclip.errors import ImageFetchError, StoreError
from fashionclip.product import Product
from fashionclip.store.base import LOCK_TIMEOUT_S, BlobStore, Rows, Store, Writer, require_model
from fashionclip.store.blobs import is_blob
from fashionclip.store.digests import row_digest

ROWS_PER_OPTIMIZE = 50_000  # written before the search indexes take them in: bounds the memory
IMAGE_THREADS = 8  # they wait for disks and networks
SUM_BYTES = 16


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
    damaged: int
    """Products of the source that were left out, since their vectors are damaged."""
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
        prune: delete products that the source does not have.
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
    if meta.uri == target.meta.uri:
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
        removed = copy.prune() if prune else 0
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
        damaged=max(0, total - copy.copied - copy.unchanged),
        seconds=time.monotonic() - began,
    )


class _Copy:
    """One pass over a source."""

    def __init__(self, source: Store, target: Store, writer: Writer) -> None:
        self._source, self._target, self._writer = source, target, writer
        self._kinds = source.meta.columns
        self._is_exact = source.meta.vectors == target.meta.vectors == "float"
        self._before = target.digests()
        self._sum = 0
        self._n_unoptimized = 0
        self.copied = self.unchanged = self.images = 0
        self.lost_images: list[str] = []

    def take(self, rows: Rows) -> None:
        """Write those of some products that the target lacks.

        Raises:
            StoreError: the target cannot be written, or the source has other columns by now.
        """
        if not self._kinds.keys() >= set(rows.columns.column_names):
            message = f"the index {self._source.meta.uri} got new columns meanwhile: copy it again"
            raise StoreError(message)
        products, vectors = _products_of(rows)
        digests = [row_digest(product, self._kinds) for product in products]
        self._sum += self._sum_of(products, vectors, rows.content_keys, digests)
        changed = []
        for i, product in enumerate(products):
            self._before.mark_seen(product.product_id)
            if self._before.find(product.product_id) != (rows.content_keys[i], digests[i]):
                changed.append(i)
        self.unchanged += len(products) - len(changed)
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
            own = [i for i, name in enumerate(rows.ids) if not self._before.is_unseen(name)]
            products, keys = [products[i] for i in own], [rows.content_keys[i] for i in own]
            digests = [row_digest(product, self._kinds) for product in products]
            found += self._sum_of(products, vectors[own], keys, digests)
        if found != self._sum:
            message = (
                f"the index {self._target.meta.uri} differs from {self._source.meta.uri} after it "
                "was copied: check both with fashionclip index --verify, then copy again"
            )
            raise StoreError(message)

    def _sum_of(
        self,
        products: Sequence[Product],
        vectors: Float32[np.ndarray, "n dim"],
        keys: Sequence[bytes],
        digests: Sequence[bytes],
    ) -> int:
        """The sum of the products' digests, which does not depend on their order."""
        stored = vectors if self._is_exact else vectors.astype(np.float16)
        return sum(
            int.from_bytes(
                blake2b(
                    b"\0".join((product.product_id.encode(), key, digest, vector.tobytes())),
                    digest_size=SUM_BYTES,
                ).digest()
            )
            for product, key, digest, vector in zip(products, keys, digests, stored, strict=True)
        )

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
