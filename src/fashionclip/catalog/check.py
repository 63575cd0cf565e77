"""The catalogue check: what is wrong with images and captions, before a catalogue is indexed.

Every image is fetched and decoded once, as in indexing. Memory: about 500 bytes per product.
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from fashionclip.catalog.catalog import Catalog
from fashionclip.catalog.faults import Fault, group_rejects
from fashionclip.catalog.summary import CatalogSummary, SummaryBuilder
from fashionclip.errors import ImageError, ImageFetchError
from fashionclip.images.decode import decode_image
from fashionclip.images.near_duplicates import (
    DECODE_PX,
    near_duplicate_groups,
    perceptual_hash,
)
from fashionclip.product import Product, Reject, Value, as_reject, image_location

AHEAD_PER_WORKER = 8
MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. Lists name products by id, in the catalogue's order."""

    summary: CatalogSummary
    """What was understood of the table."""
    rows: int
    """Products and unreadable rows."""
    products: int
    """Products whose image can be decoded; if images are not read, those that name one."""
    missing: tuple[Reject, ...]
    """Images that do not exist, cannot be fetched, or are not named."""
    broken: tuple[Reject, ...]
    """Images that cannot be decoded."""
    unreadable: tuple[Reject, ...]
    """Rows that cannot be used: too many fields, no id, a repeated id, …"""
    duplicate_pictures: tuple[tuple[str, ...], ...]
    """Groups of products whose image files are identical."""
    similar_pictures: tuple[tuple[str, ...], ...]
    """Groups of near-duplicate images whose files differ: resized or encoded again.
    Of products with identical files, only the first is in a group."""
    empty_captions: tuple[str, ...]
    """Products without a caption."""
    repeated_captions: Mapping[str, tuple[str, ...]]
    """Captions that several products share, other than variants of one group, and the products."""

    @property
    def rejects(self) -> tuple[Reject, ...]:
        """Everything that indexing would reject, in the table's order."""
        found = (*self.missing, *self.broken, *self.unreadable)
        return tuple(sorted(found, key=lambda reject: reject.row or 0))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong, each kind once: rejects first, then what would be indexed."""
        has_titles = self.summary.roles.title or self.summary.roles.description
        copies, similar = self.duplicate_pictures, self.similar_pictures
        captions = sorted(self.repeated_captions.items(), key=lambda item: -len(item[1]))
        found = (
            Fault(
                "has no words",
                "fill the title" if has_titles else "name the titles' column: --column title=NAME",
                len(self.empty_captions),
                ", ".join(self.empty_captions[:MAX_EXAMPLES]),
            ),
            Fault(
                "has the caption of another product",
                "say in the title how they differ",
                sum(len(ids) for _, ids in captions),
                "; ".join(f"“{words}” of {len(ids):,}" for words, ids in captions[:MAX_EXAMPLES]),
            ),
            Fault(
                "has the image of another product",
                "give each product its own, or leave one out",
                sum(map(len, copies)),
                "; ".join(" = ".join(ids[:MAX_EXAMPLES]) for ids in copies[:MAX_EXAMPLES]),
            ),
            Fault(
                "has an image similar to that of another product",
                "leave it if that is meant",
                sum(map(len, similar)),
                "; ".join(" = ".join(ids[:MAX_EXAMPLES]) for ids in similar[:MAX_EXAMPLES]),
            ),
        )
        others = (replace(fault, is_rejected=False) for fault in found if fault.count)
        return (*group_rejects(self.rejects), *others)

    def as_dict(self) -> dict[str, object]:
        """The report as plain values for JSON."""
        return asdict(self) | {"faults": [asdict(fault) for fault in self.faults]}


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the check found of one product."""

    product: Product
    group: Value
    digest: bytes = b""
    image_hash: NDArray[np.uint8] | None = None
    """Perceptual hash of its image; None if that could not be decoded."""
    missing: str = ""
    broken: str = ""


def check_catalog(
    catalog: Catalog,
    *,
    read_images: bool = True,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Read every row and decode every image of a catalogue.

    Args:
        catalog: what to check.
        read_images: whether to fetch and decode the images. If False, only images that no row names
            are missing, and none is broken.
        workers: threads that fetch and decode; None for two per core.
        progress: called with the number of rows done so far.

    Raises:
        CatalogError: the table cannot be read on.
    """
    rows = 0
    unreadable: list[Reject] = []
    checked: list[_Checked] = []
    captions: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, set[Value]] = defaultdict(set)
    builder = SummaryBuilder(catalog)
    workers = workers or 2 * (os.cpu_count() or 1)
    for item in _check_all(catalog, builder, read_images=read_images, workers=workers):
        rows += 1
        if isinstance(item, Reject):
            unreadable.append(item)
        else:
            checked.append(item)
            caption, group = item.product.caption, item.group
            captions[caption].append(item.product.product_id)
            groups[caption].add(item.product.product_id if group is None else group)
        if progress is not None:
            progress(rows)
    empty = captions.pop("", [])
    same_files = _groups((item.digest, item.product.product_id) for item in checked)
    copies = {name for group in same_files for name in group[1:]}
    return CheckReport(
        summary=builder.build(),
        rows=rows,
        products=sum(not (item.missing or item.broken) for item in checked),
        missing=tuple(as_reject(p.product, p.missing) for p in checked if p.missing),
        broken=tuple(as_reject(p.product, p.broken) for p in checked if p.broken),
        unreadable=tuple(unreadable),
        duplicate_pictures=same_files,
        similar_pictures=_near_duplicates(
            [p for p in checked if p.product.product_id not in copies]
        ),
        empty_captions=tuple(empty),
        repeated_captions={w: tuple(ids) for w, ids in captions.items() if len(groups[w]) > 1},
    )


def _check_all(
    catalog: Catalog, builder: SummaryBuilder, *, read_images: bool, workers: int
) -> Iterator[_Checked | Reject]:
    """Fetch and decode images in threads; results keep the catalogue's order."""
    waiting: deque[Reject | Future[_Checked]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fashionclip-check")
    try:
        for item in catalog:
            builder.add(item)
            if isinstance(item, Reject):
                waiting.append(item)
            else:
                waiting.append(pool.submit(_check, catalog, item, read_images=read_images))
            if len(waiting) > workers * AHEAD_PER_WORKER:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(item: "Reject | Future[_Checked]") -> _Checked | Reject:
    return item if isinstance(item, Reject) else item.result()


def _check(catalog: Catalog, product: Product, *, read_images: bool) -> _Checked:
    location = image_location(product.image)  # without the columns and bytes of the product
    bare = Product(product.product_id, product.caption, location, product.row, {})
    checked = partial(_Checked, bare, product.columns.get(catalog.roles.group or ""))
    if not read_images and product.image is not None:
        return checked()
    try:
        data = catalog.read_image(product)
    except ImageFetchError as error:
        return checked(missing=str(error))
    digest = blake2b(data, digest_size=16).digest()
    try:
        return checked(digest, perceptual_hash(decode_image(data, target_px=DECODE_PX)))
    except ImageError as error:
        return checked(digest, broken=str(error))


def _near_duplicates(checked: Sequence[_Checked]) -> tuple[tuple[str, ...], ...]:
    """Groups of product ids whose images are near duplicates of the group's first."""
    hashed = [(p.product.product_id, p.image_hash) for p in checked if p.image_hash is not None]
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
