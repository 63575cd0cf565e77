"""The catalogue check: what is wrong with the pictures and texts, before time is spent on them.

Every picture is decoded once, as indexing would; equal bytes and equal looks are told apart.
"""

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b

import numpy as np
from PIL import Image

from fashionclip.catalog.catalog import Catalog
from fashionclip.errors import ImageError, PictureError
from fashionclip.images import decode_image
from fashionclip.product import Product, Reject

LOOK_SIDE = 16  # the difference hash compares 16 x 16 neighbours: 256 bits
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
    """Rows that could not be read: wrong number of cells, no id, repeated id, …"""
    duplicate_pictures: tuple[tuple[str, ...], ...]
    """Groups of products whose picture files are the same, byte for byte."""
    similar_pictures: tuple[tuple[str, ...], ...]
    """Groups whose pictures look the same though their files differ."""
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
class _Looked:
    """What one picture showed."""

    product: Product
    digest: bytes | None = None
    look: bytes | None = None
    missing: str | None = None
    broken: str | None = None


def check_catalog(
    catalog: Catalog,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Read every row and decode every picture of a catalogue.

    Args:
        catalog: what to check.
        workers: decoding threads; None for one a core.
        progress: called with the number of rows done so far.

    Raises:
        CatalogError: the table cannot be read at all.
    """
    rows = 0
    unreadable: list[Reject] = []
    seen: list[_Looked] = []
    empty: list[str] = []
    captions: dict[str, list[str]] = defaultdict(list)
    for item in _look_at_all(catalog, workers or os.cpu_count() or 1):
        rows += 1
        if isinstance(item, Reject):
            unreadable.append(item)
        else:
            seen.append(item)
            name, caption = item.product.product_id, item.product.caption
            if caption:
                captions[caption].append(name)
            else:
                empty.append(name)
        if progress is not None:
            progress(rows)
    same_bytes = _groups((s.digest, s.product.product_id) for s in seen)
    first_of_copies = {name for group in same_bytes for name in group[1:]}
    looks = ((s.look, s.product.product_id) for s in seen)
    return CheckReport(
        rows=rows,
        products=sum(s.look is not None for s in seen),
        missing=tuple(_reject(s.product, s.missing) for s in seen if s.missing),
        broken=tuple(_reject(s.product, s.broken) for s in seen if s.broken),
        unreadable=tuple(unreadable),
        duplicate_pictures=same_bytes,
        similar_pictures=_groups((look, n) for look, n in looks if n not in first_of_copies),
        empty_captions=tuple(empty),
        repeated_captions={c: tuple(names) for c, names in captions.items() if len(names) > 1},
    )


def _look_at_all(catalog: Catalog, workers: int) -> Iterator[_Looked | Reject]:
    """Pictures are read and decoded in threads; results come in the catalogue's order."""
    waiting: deque[Reject | Future[_Looked]] = deque()
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


def _result(item: "Reject | Future[_Looked]") -> _Looked | Reject:
    return item if isinstance(item, Reject) else item.result()


def _look_at(catalog: Catalog, product: Product) -> _Looked:
    bare = Product(product.product_id, product.caption, _location(product), product.row, {})
    try:
        data = catalog.read_image(product)
    except PictureError as error:
        return _Looked(bare, missing=str(error))
    digest = blake2b(data, digest_size=16).digest()
    try:
        return _Looked(bare, digest, look_of(decode_image(data, target_px=4 * LOOK_SIDE)))
    except ImageError as error:
        return _Looked(bare, digest, broken=str(error))


def look_of(image: Image.Image) -> bytes:
    """A difference hash: whether each of 16 x 16 cells is darker than the one to its right.

    With the mean colour in coarse steps beside it, so that two plain t-shirts of different
    colours do not pass for one.

    Source: N. Krawetz, "Kind of Like That" (2013), with 16 x 16 instead of 8 x 8 cells.
    """
    grey = image.convert("L").resize((LOOK_SIDE + 1, LOOK_SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1])
    color = np.asarray(image.resize((4, 4), Image.Resampling.BOX)) // 16
    return bits.tobytes() + color.astype(np.uint8).tobytes()


def _groups(pairs: Iterator[tuple[bytes | None, str]]) -> tuple[tuple[str, ...], ...]:
    found: dict[bytes, list[str]] = defaultdict(list)
    for key, name in pairs:
        if key is not None:
            found[key].append(name)
    return tuple(tuple(names) for names in found.values() if len(names) > 1)


def _reject(product: Product, reason: str | None) -> Reject:
    return Reject(product.row, product.product_id, _location(product), reason or "")


def _location(product: Product) -> str | None:
    return product.image if isinstance(product.image, str) else None


def most_repeated(report: CheckReport, *, n: int = 5) -> list[tuple[str, int]]:
    """The captions that most products share, with how many; for showing to a person."""
    counts = Counter({caption: len(names) for caption, names in report.repeated_captions.items()})
    return counts.most_common(n)
