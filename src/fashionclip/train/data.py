"""Training pairs and their split: an image with its texts, from catalogues and tars.

Texts stay in memory, images where they are. Rows without an image or without words are rejects.
A training run reads its data once: ``open_data`` reads the texts, ``image_digests`` reads every
image, and ``split_pairs`` and the check for changed data work on these digests.
"""

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import Lock
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from fashionclip.catalog import Catalog
from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.catalog.tables.tars import (
    BrokenSample,
    Slice,
    expand_shards,
    is_tar,
    read_samples,
    read_slice,
)
from fashionclip.catalog.values import as_text, parse_highlights
from fashionclip.errors import CatalogError, ImageFetchError, TrainingError
from fashionclip.images.fetch import FetchPolicy, is_url
from fashionclip.lines import one_line
from fashionclip.metrics import percentile
from fashionclip.product import Product, Reject
from fashionclip.text.captions import build_caption
from fashionclip.train.recipe import DataConfig

MIN_BRANDS = 10
"""With fewer brands, titles are held out instead."""
MAX_TEXT_CHARS = 10_000
"""Characters that are kept of a text; no model reads as many."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its texts."""

    pair_id: str
    title: str
    highlights: tuple[str, ...]
    description: str
    image: str | Slice
    brand: str
    product: str
    """Pairs of the same product are not negatives of each other."""
    attributes: tuple[str, ...]
    """Values of the recipe's attribute columns; empty where unknown."""
    captions: tuple[str, ...]
    """Further captions."""
    row: int

    @property
    def caption(self) -> str:
        """The caption that evaluation uses."""
        return build_caption(self.highlights, self.title)

    @property
    def location(self) -> str:
        """Where the image lies; empty if it is spooled or generated."""
        return self.image if isinstance(self.image, str) else self.image.place


@runtime_checkable
class DataSource(Protocol):
    """Training pairs by index.

    ``CatalogPairs`` is one. A generator of images is another: ``read_image`` makes the image of a
    pair, the same one each time. Methods are called from several threads.
    """

    @property
    def rejects(self) -> Sequence[Reject]:
        """Rows that cannot be used."""

    def __len__(self) -> int:
        """Number of pairs."""

    def __getitem__(self, index: int, /) -> Pair:
        """One pair."""

    def read_image(self, index: int, /) -> bytes:
        """Read the encoded image of a pair.

        Raises:
            ImageFetchError: it cannot be read.
        """


class CatalogPairs:
    """The pairs of a catalogue or of tars, in their order."""

    def __init__(
        self, pairs: Sequence[Pair], read: Callable[[Pair], bytes], rejects: Sequence[Reject]
    ) -> None:
        """Hold what ``open_data`` has read."""
        self.rejects: Sequence[Reject] = tuple(rejects)
        self._pairs, self._read = pairs, read

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def __getitem__(self, index: int, /) -> Pair:
        """One pair."""
        return self._pairs[index]

    def read_image(self, index: int, /) -> bytes:
        """Read the encoded image of a pair.

        Raises:
            ImageFetchError: it cannot be fetched.
        """
        return self._read(self._pairs[index])


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the pairs of each part; no two parts share a brand, an image or a description."""

    train: Int64[np.ndarray, " train"]
    development: Int64[np.ndarray, " development"]
    """To select a checkpoint."""
    test: Int64[np.ndarray, " test"]
    """To measure the selected checkpoint, once."""
    held_out_by: str
    """``brand`` or ``title``."""
    n_left_out: int
    """Pairs in no part, because they share an image or a description with a held-out pair."""


def open_data(config: DataConfig) -> CatalogPairs:
    """Read the pairs that a recipe names; images are not read.

    Raises:
        TrainingError: no data are named, or a tar or a column is missing.
        CatalogError: the table cannot be read.
    """
    if not config.catalog:
        message = "the recipe names no data; set data.catalog to a table, a folder or tars"
        raise TrainingError(message)
    catalog = None if is_tar(config.catalog) else _open_catalog(config)
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the pairs
    try:
        items = _iter_tars(config) if catalog is None else _iter_catalog(config, catalog, spool)
        pairs: list[Pair] = []
        rejects: list[Reject] = []
        for item in items:
            if isinstance(item, Reject):
                rejects.append(item)
                continue
            pairs.append(item)
            if len(pairs) == config.max_rows:
                break
        found = CatalogPairs(pairs, _image_reader(spool, catalog), rejects)
    except BaseException as exc:
        spool.close()
        if catalog is None and isinstance(exc, CatalogError):
            message = f"data.catalog: {exc}"
            raise TrainingError(message) from exc
        raise
    weakref.finalize(found, spool.close)
    return found


def color_columns(attributes: Sequence[str]) -> tuple[int, ...]:
    """Which of the attribute columns are colors: those whose name ends in color or colour."""
    ends = ("color", "colour")
    return tuple(i for i, name in enumerate(attributes) if bare_name(name).endswith(ends))


def image_digests(source: DataSource) -> list[bytes]:
    """16 bytes per image: a digest of its content, or of a remote image's location."""

    def digest(index: int) -> bytes:
        pair = source[index]
        if is_url(pair.location):
            return blake2b(repr(pair.image).encode(), digest_size=16).digest()
        try:
            return blake2b(source.read_image(index), digest_size=16).digest()
        except ImageFetchError:  # no two broken images are the same
            return blake2b(f"broken {pair.pair_id}".encode(), digest_size=16).digest()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, range(len(source))))


def pair_digests(source: DataSource, images: Sequence[bytes]) -> list[bytes]:
    """16 bytes per pair: a digest of its texts and of its image.

    Args:
        source: the pairs.
        images: their ``image_digests``.
    """
    texts = (replace(source[i], image="", row=0) for i in range(len(images)))
    return [
        blake2b(repr(text).encode() + image, digest_size=16).digest()
        for text, image in zip(texts, images, strict=True)
    ]


def split_pairs(source: DataSource, images: Sequence[bytes], config: DataConfig) -> Split:
    """Hold out whole brands, and leave out pairs that repeat a held-out image or description.

    A hash of a brand's name decides its part, so the part does not change when brands are added.
    With fewer than ``MIN_BRANDS`` brands, titles are held out instead.

    Args:
        source: the pairs.
        images: their ``image_digests``.
        config: the ratios that are held out, and the seed.
    """
    pairs = [source[index] for index in range(len(source))]
    brands = [pair.brand.casefold() for pair in pairs]
    by_brand = len(set(filter(None, brands))) >= MIN_BRANDS
    titles = [_words(pair.title) or pair.pair_id for pair in pairs]
    groups = [b or t for b, t in zip(brands, titles, strict=True)] if by_brand else titles
    position = {group: _position(group, config.seed) for group in groups}
    ranked = sorted(position, key=lambda group: position[group])
    bounds = (config.development, config.development + config.test)
    parts = {group: int(np.searchsorted(bounds, position[group], side="right")) for group in ranked}
    for part, ratio in ((0, config.development), (1, config.test)):
        if ratio > 0 and part not in parts.values() and len(ranked) > 2:
            parts[ranked[part]] = part  # a small catalogue also gets each part
    numbers = np.array([parts[group] for group in groups], dtype=np.int64)
    texts = [_words(f"{p.title} {p.description}") if p.description else p.pair_id for p in pairs]
    n_left_out = _leave_out(numbers, list(zip(texts, images, strict=True)))
    return Split(
        train=np.flatnonzero(numbers == 2),
        development=np.flatnonzero(numbers == 0),
        test=np.flatnonzero(numbers == 1),
        held_out_by="brand" if by_brand else "title",
        n_left_out=n_left_out,
    )


def _leave_out(parts: np.ndarray, keys: Sequence[tuple[str, bytes]]) -> int:
    """Set the part of pairs to -1 that share a key with a part that is held out more strictly."""
    rank = {1: 0, 0: 1, 2: 2}  # test before development before training
    strictest: dict[str | bytes, int] = {}
    for part, both in zip(parts.tolist(), keys, strict=True):
        for key in both:
            strictest[key] = min(strictest.get(key, 2), rank[part])
    n_left_out = 0
    for i, both in enumerate(keys):
        if min(strictest[key] for key in both) < rank[int(parts[i])]:
            parts[i] = -1
            n_left_out += 1
    return n_left_out


def _position(group: str, seed: int) -> float:
    """A number in 0…1 that depends on a brand's name and the seed alone."""
    if seed == 0:  # the built-in model was trained on brands from 0.08 up
        return percentile(group) / 100
    digest = blake2b(f"{seed} {group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _words(text: str) -> str:
    """Letters and digits in lower case: texts that differ in punctuation alone are the same."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def _open_catalog(config: DataConfig) -> Catalog:
    mapping: dict[str, str] = {}
    for entry in config.columns:
        role, equals, name = entry.partition("=")
        if not (role and equals and name):
            message = f"data.columns holds '{entry}'; write ROLE=NAME, such as id=SKU"
            raise TrainingError(message)
        mapping[role] = name
    if config.brand:
        mapping["brand"] = config.brand
    policy = FetchPolicy(allow_private=config.allow_private)
    catalog = Catalog.open(
        config.catalog, images=config.images or None, columns=mapping or None, policy=policy
    )
    known = {**catalog.types, **catalog.columns}  # a column that is blank in every row is known
    named = {"product": [config.product], "captions": [config.captions]}
    for key, names in {**named, "attributes": config.attributes}.items():
        for name in filter(None, names):
            if name not in known:
                message = (
                    f"data.{key}: {config.catalog} has no column '{name}' "
                    f"(there are: {', '.join(known)})"
                )
                raise TrainingError(message)
    return catalog


def _iter_catalog(
    config: DataConfig, catalog: Catalog, spool: IO[bytes]
) -> Iterator[Pair | Reject]:
    for product in catalog:
        if isinstance(product, Reject):
            yield product
            continue

        def text_of(role: str, cells: Mapping[str, Any] = product.columns) -> str:
            return as_text(cells.get(getattr(catalog.roles, role)))

        found = product.image
        image = _spool(found, spool) if isinstance(found, bytes) else found
        yield _make_pair(config, product.product_id, product.row, image, text_of, product.columns)


def _iter_tars(config: DataConfig) -> Iterator[Pair | Reject]:
    for sample in read_samples(expand_shards(config.catalog)):
        if isinstance(sample, BrokenSample):
            yield Reject(sample.row, sample.name, sample.shard, sample.reason)
            continue
        names = {bare_name(name): value for name, value in sample.fields.items()}
        if brand := sample.fields.get(config.brand):
            names[USUAL_NAMES["brand"][0]] = brand

        def text_of(role: str, names: Mapping[str, Any] = names) -> str:
            return next((as_text(names[n]) for n in USUAL_NAMES[role] if names.get(n)), "")

        yield _make_pair(config, sample.name, sample.row, sample.image, text_of, sample.fields)


def _make_pair(
    config: DataConfig,
    pair_id: str,
    row: int,
    image: str | Slice | None,
    text_of: Callable[[str], str],
    cells: Mapping[str, Any],
) -> Pair | Reject:
    """A pair of a row's texts by role; a reject if it has no image or no words."""
    description = _clean(text_of("description"))
    pair = Pair(
        pair_id=pair_id,
        title=_clean(text_of("title")) or description,
        highlights=tuple(map(_clean, parse_highlights(text_of("highlights")))),
        description=description,
        image=image or "",
        brand=_clean(text_of("brand")),
        product=as_text(cells.get(config.product)) or pair_id,
        attributes=tuple(as_text(cells.get(name)) for name in config.attributes),
        captions=tuple(map(_clean, parse_highlights(as_text(cells.get(config.captions))))),
        row=row,
    )
    if not pair.image:
        return Reject(row, pair_id, None, "the row names no image")
    if not pair.caption:
        return Reject(row, pair_id, pair.location or None, "the row has no words")
    return pair


def _clean(text: str) -> str:
    return one_line(text[:MAX_TEXT_CHARS])


def _spool(image: bytes, spool: IO[bytes]) -> Slice:
    """Move an image from memory to a temporary file."""
    offset = spool.seek(0, 2)
    spool.write(image)
    return Slice("", offset, len(image))


def _image_reader(spool: IO[bytes], catalog: Catalog | None) -> Callable[[Pair], bytes]:
    lock = Lock()

    def read(pair: Pair) -> bytes:
        piece = pair.image
        if isinstance(piece, str):
            assert catalog is not None  # pairs of tars have slices
            return catalog.read_image(Product(pair.pair_id, "", piece, pair.row, {}))
        if piece.place:
            return read_slice(piece)
        with lock:
            spool.seek(piece.offset)
            return spool.read(piece.size)

    return read
