"""The catalogue check: what is wrong with pictures and words, before time is spent on them.

Every picture is fetched and decoded once, as indexing would. Memory: about 1 KB a product.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionclip.catalog.catalog import Catalog
from fashionclip.errors import ImageError, ImageFetchError
from fashionclip.images.decode import decode_image
from fashionclip.product import Product, Reject

AHEAD_PER_WORKER = 8
LOOK_PX = 16
"""Pictures are compared as squares of this side."""
MEAN_GAP, MAX_GAP = 4.0, 20.0
"""Levels (of 255) by which copies of one picture may differ where it is not white. Copies of 300
product photographs, encoded at quality 40 to 85 and resized to a half up to double, stay within
2.5 and 17 in 95 of 100 cases; different garments of the same cut are beyond 5 or 35."""
COMPARED = 64  # pictures of a look-alike bucket that another one is compared with
_WHITE = 247  # levels above it are a product picture's ground
_EDGES = ((1, 6), (0, 9))  # axis of the difference hash, levels that make an edge


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
    look: NDArray[np.uint8] | None = None
    """``(LOOK_PX, LOOK_PX, 3)``; None if it could not be decoded."""
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
        products=sum(picture.look is not None for picture in pictures),
        missing=tuple(_reject(p.product, p.missing) for p in pictures if p.missing),
        broken=tuple(_reject(p.product, p.broken) for p in pictures if p.broken),
        unreadable=tuple(unreadable),
        duplicate_pictures=same_files,
        similar_pictures=_look_alikes(
            (picture.product.product_id, picture.look)
            for picture in pictures
            if picture.look is not None and picture.product.product_id not in copies
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
        return _Picture(bare, digest, look_of(decode_image(data, target_px=4 * LOOK_PX)))
    except ImageError as error:
        return _Picture(bare, digest, broken=str(error))


def look_of(image: Image.Image) -> NDArray[np.uint8]:
    """A picture as a small square of colours, ``(LOOK_PX, LOOK_PX, 3)``, in which copies agree."""
    return np.asarray(image.resize((LOOK_PX, LOOK_PX), Image.Resampling.BOX))


def _edge_keys(look: NDArray[np.uint8]) -> list[bytes]:
    """Difference hashes in two directions, equal for most copies; flat ground counts as flat.

    Source: N. Krawetz, "Kind of Like That" (2013): signs of differences between neighbours. The
    threshold is ours: without it, the noise of white backgrounds decides most bits.
    """
    grey = look.mean(axis=2)
    half = grey.reshape(LOOK_PX // 2, 2, LOOK_PX // 2, 2).mean(axis=(1, 3))
    return [
        bytes([axis]) + np.packbits(np.diff(half, axis=axis) > levels).tobytes()
        for axis, levels in _EDGES
    ]


def _look_alikes(looks: Iterable[tuple[str, NDArray[np.uint8]]]) -> tuple[tuple[str, ...], ...]:
    """Groups of names whose pictures look the same as the group's first."""
    buckets: dict[bytes, list[int]] = defaultdict(list)  # key to groups that may be alike
    firsts: list[NDArray[np.int16]] = []
    groups: list[list[str]] = []
    for name, look in looks:
        keys = _edge_keys(look)
        levels = look.astype(np.int16)
        candidates = dict.fromkeys(i for key in keys for i in buckets[key][:COMPARED])
        found = next((i for i in candidates if _is_copy(firsts[i], levels)), None)
        if found is not None:
            groups[found].append(name)
            continue
        for key in keys:
            buckets[key].append(len(groups))
        groups.append([name])
        firsts.append(levels)
    return tuple(tuple(group) for group in groups if len(group) > 1)


def _is_copy(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    gap = np.abs(one - other).mean(axis=2)
    shown = gap[(one.min(axis=2) < _WHITE) | (other.min(axis=2) < _WHITE)]
    return not shown.size or bool(shown.mean() <= MEAN_GAP and shown.max() <= MAX_GAP)


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
