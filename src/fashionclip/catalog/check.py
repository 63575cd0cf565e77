"""The catalogue check: what is wrong with pictures and words, before time is spent on them.

Every picture is fetched and decoded once, as indexing would. Memory: about 500 bytes per product.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from fashionclip.catalog.catalog import Catalog
from fashionclip.errors import ImageError, ImageFetchError
from fashionclip.images.decode import decode_image
from fashionclip.images.near_duplicates import (
    DECODE_PX,
    near_duplicate_groups,
    perceptual_hash,
)
from fashionclip.product import Product, Reject

AHEAD_PER_WORKER = 8


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. Lists name products by id, in the catalogue's order."""

    rows: int
    """Rows in the table."""
    products: int
    """Rows that are products with a picture that can be decoded."""
    missing: tuple[Reject, ...]
    """Pictures that are not there, cannot be fetched, or are not named."""
    broken: tuple[Reject, ...]
    """Pictures that cannot be decoded."""
    unreadable: tuple[Reject, ...]
    """Rows that cannot be used: too many fields, no id, an id that came before, …"""
    duplicate_pictures: tuple[tuple[str, ...], ...]
    """Groups of products whose picture files are the same, byte for byte."""
    similar_pictures: tuple[tuple[str, ...], ...]
    """Groups whose pictures look the same though their files differ: resized or encoded again.
    Of products with the same file, only the first is in a group."""
    empty_captions: tuple[str, ...]
    """Products without any words."""
    repeated_captions: Mapping[str, tuple[str, ...]]
    """Captions that several products share, and the products."""

    @property
    def rejects(self) -> tuple[Reject, ...]:
        """Everything that indexing would reject, in the table's order."""
        found = (*self.missing, *self.broken, *self.unreadable)
        return tuple(sorted(found, key=lambda reject: reject.row or 0))

    def as_dict(self) -> dict[str, object]:
        """The report as plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Picture:
    """What one product's picture showed."""

    product: Product
    digest: bytes = b""
    image_hash: NDArray[np.uint8] | None = None
    """Its perceptual hash; None if it could not be decoded."""
    missing: str = ""
    broken: str = ""


def check_catalog(
    catalog: Catalog,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Read every row and decode every picture of a catalogue.

    Args:
        catalog: what to check.
        workers: threads that fetch and decode; None for two a core.
        progress: called with the number of rows done so far.

    Raises:
        CatalogError: the table cannot be read on.
    """
    rows = 0
    unreadable: list[Reject] = []
    pictures: list[_Picture] = []
    captions: dict[str, list[str]] = defaultdict(list)
    for item in _look_at_all(catalog, workers or 2 * (os.cpu_count() or 1)):
        rows += 1
        if isinstance(item, Reject):
            unreadable.append(item)
        else:
            pictures.append(item)
            captions[item.product.caption].append(item.product.product_id)
        if progress is not None:
            progress(rows)
    empty = captions.pop("", [])
    same_files = _groups((picture.digest, picture.product.product_id) for picture in pictures)
    copies = {name for group in same_files for name in group[1:]}
    return CheckReport(
        rows=rows,
        products=sum(picture.image_hash is not None for picture in pictures),
        missing=tuple(_reject(p.product, p.missing) for p in pictures if p.missing),
        broken=tuple(_reject(p.product, p.broken) for p in pictures if p.broken),
        unreadable=tuple(unreadable),
        duplicate_pictures=same_files,
        similar_pictures=_near_duplicates(
            [p for p in pictures if p.product.product_id not in copies]
        ),
        empty_captions=tuple(empty),
        repeated_captions={words: tuple(n) for words, n in captions.items() if len(n) > 1},
    )


def _look_at_all(catalog: Catalog, workers: int) -> Iterator[_Picture | Reject]:
    """Pictures are fetched and decoded in threads; results come in the catalogue's order."""
    waiting: deque[Reject | Future[_Picture]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fashionclip-check")
    try:
        for item in catalog:
            if isinstance(item, Reject):
                waiting.append(item)
            else:
                waiting.append(pool.submit(_look_at, catalog, item))
            if len(waiting) > workers * AHEAD_PER_WORKER:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(item: "Reject | Future[_Picture]") -> _Picture | Reject:
    return item if isinstance(item, Reject) else item.result()


def _look_at(catalog: Catalog, product: Product) -> _Picture:
    bare = Product(product.product_id, product.caption, _location(product), product.row, {})
    try:
        data = catalog.read_image(product)
    except ImageFetchError as error:
        return _Picture(bare, missing=str(error))
    digest = blake2b(data, digest_size=16).digest()
    try:
        return _Picture(bare, digest, perceptual_hash(decode_image(data, target_px=DECODE_PX)))
    except ImageError as error:
        return _Picture(bare, digest, broken=str(error))


def _near_duplicates(pictures: Sequence[_Picture]) -> tuple[tuple[str, ...], ...]:
    """Groups of product ids whose images are near duplicates of the group's first."""
    hashed = [(p.product.product_id, p.image_hash) for p in pictures if p.image_hash is not None]
    if not hashed:
        return ()
    groups = near_duplicate_groups(np.stack([image_hash for _, image_hash in hashed]))
    return tuple(tuple(hashed[row][0] for row in rows) for rows in groups)


def _groups(pairs: Iterable[tuple[bytes, str]]) -> tuple[tuple[str, ...], ...]:
    found: dict[bytes, list[str]] = defaultdict(list)
    for key, name in pairs:
        if key:
            found[key].append(name)
    return tuple(tuple(names) for names in found.values() if len(names) > 1)


def _reject(product: Product, reason: str) -> Reject:
    return Reject(product.row, product.product_id, _location(product), reason)


def _location(product: Product) -> str | None:
    return product.image if isinstance(product.image, str) else None
