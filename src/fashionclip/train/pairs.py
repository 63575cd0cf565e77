"""Pictures with their texts, from catalogues and tars; and which of them are held out.

Texts stay in memory, pictures where they are. Rows without a picture or a word are rejects.
"""

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import Lock
from typing import IO, Any

import numpy as np
from jaxtyping import Int64

from fashionclip.catalog import Catalog
from fashionclip.catalog.cells import as_text, parse_highlights
from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.errors import ImageFetchError, TrainingError
from fashionclip.images.fetch import FetchPolicy, is_url
from fashionclip.metrics import percentile
from fashionclip.product import Product, Reject
from fashionclip.text.captions import build_caption, one_line
from fashionclip.train.recipe import Data
from fashionclip.train.tars import Slice, is_tar, read_slice, read_tars

FEWEST_BRANDS = 10
"""With fewer, titles are held out instead of brands."""
LONGEST_TEXT = 10_000
"""Characters of a text that are kept: no model reads so far."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and what is said of it."""

    pair_id: str
    title: str
    highlights: tuple[str, ...]
    description: str
    picture: str | Slice
    brand: str
    product: str
    attributes: tuple[str, ...]
    """Values of the recipe's attribute columns; empty where unknown."""
    row: int

    @property
    def caption(self) -> str:
        """What evaluation takes for the picture's caption."""
        return build_caption(self.highlights, self.title)


class Pairs(Sequence[Pair]):
    """All pairs of a recipe's data, in their order."""

    def __init__(
        self, pairs: Sequence[Pair], read: Callable[[Pair], bytes], rejects: Sequence[Reject]
    ) -> None:
        """Hold what ``read_pairs`` has found."""
        self.rejects = tuple(rejects)
        self._pairs, self._read = pairs, read

    def __len__(self) -> int:
        """How many there are."""
        return len(self._pairs)

    def __getitem__(self, i: Any) -> Any:  # noqa: ANN401 - as Sequence has it
        """One pair, or several."""
        return self._pairs[i]

    def read_image_bytes(self, i: int) -> bytes:
        """Fetch a picture, encoded as it is; safe to call from several threads.

        Raises:
            ImageFetchError: it cannot be fetched.
        """
        return self._read(self._pairs[i])

    def digests(self) -> list[bytes]:
        """16 bytes a pair over texts and picture: its bytes, or a remote one's place."""

        def digest(pair: Pair) -> bytes:
            texts = replace(pair, picture="", row=0)
            return blake2b(repr(texts).encode() + self._content(pair), digest_size=16).digest()

        with ThreadPoolExecutor() as pool:
            return list(pool.map(digest, self._pairs))

    def picture_digests(self) -> list[bytes]:
        """16 bytes a picture: over its content, or a remote one's place."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self._content, self._pairs))

    def _content(self, pair: Pair) -> bytes:
        place = pair.picture if isinstance(pair.picture, str) else pair.picture.place
        if is_url(place):
            return blake2b(repr(pair.picture).encode(), digest_size=16).digest()
        try:
            return blake2b(self._read(pair), digest_size=16).digest()
        except ImageFetchError:  # each is broken in its own way
            return blake2b(f"broken {pair.pair_id}".encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of the pairs of each part; no two parts share a brand, a picture or a description."""

    train: Int64[np.ndarray, " train"]
    development: Int64[np.ndarray, " development"]
    """To choose a checkpoint by."""
    test: Int64[np.ndarray, " test"]
    """To judge the choice; looked at once."""
    held_out_by: str
    """``brand`` or ``title``."""
    n_left_out: int
    """Pairs that are in no part, because they show or say what a held-out one does."""


def read_pairs(data: Data) -> Pairs:
    """Read the pairs of a recipe's data.

    Raises:
        TrainingError: no data are named, or a tar or a column is missing.
        CatalogError: the table cannot be read.
    """
    if not data.catalog:
        message = "the recipe names no data; set data.catalog to a table, a folder or tars"
        raise TrainingError(message)
    catalog = None if is_tar(data.catalog) else _open_catalog(data)
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the pairs
    try:
        found = _gather(data, catalog, spool)
    except BaseException:
        spool.close()
        raise
    weakref.finalize(found, spool.close)
    return found


def _gather(data: Data, catalog: Catalog | None, spool: IO[bytes]) -> Pairs:
    if catalog is None:
        items: Iterator[Pair | Reject] = _pairs_of_tars(data)
    else:
        items = _pairs_of_catalog(data, catalog, spool)
    pairs: list[Pair] = []
    rejects: list[Reject] = []
    for item in items:
        if isinstance(item, Reject):
            rejects.append(item)
        else:
            pairs.append(item)
            if len(pairs) == data.rows:
                break
    return Pairs(pairs, _reader(spool, catalog), rejects)


def split(pairs: Pairs, data: Data) -> Split:
    """Hold out brands, whole, and whatever else shows or says the same as they do.

    Each brand's place is decided by a hash of its name, so that it stays when others come. Where
    fewer than ``FEWEST_BRANDS`` are named, titles take the place of brands.
    """
    brands = [pair.brand.casefold() for pair in pairs]
    by_brand = len(set(filter(None, brands))) >= FEWEST_BRANDS
    titles = [_words(pair.title) or pair.pair_id for pair in pairs]
    groups = [b or t for b, t in zip(brands, titles, strict=True)] if by_brand else titles
    place = {group: _place(group, data.seed) for group in groups}
    ranked = sorted(place, key=lambda group: place[group])
    bounds = (data.development, data.development + data.test)
    parts = {group: int(np.searchsorted(bounds, place[group], side="right")) for group in ranked}
    for part, share in ((0, data.development), (1, data.test)):
        if share > 0 and part not in parts.values() and len(ranked) > 2:
            parts[ranked[part]] = part  # a small shop has a part of each kind too
    numbers = np.array([parts[group] for group in groups], dtype=np.int64)
    said = [_words(f"{p.title} {p.description}") if p.description else p.pair_id for p in pairs]
    left_out = _leave_out(numbers, list(zip(said, pairs.picture_digests(), strict=True)))
    return Split(
        train=np.flatnonzero(numbers == 2),
        development=np.flatnonzero(numbers == 0),
        test=np.flatnonzero(numbers == 1),
        held_out_by="brand" if by_brand else "title",
        n_left_out=left_out,
    )


def _leave_out(part: np.ndarray, keys: Sequence[tuple[str, bytes]]) -> int:
    """Mark with -1 the pairs that share a key with a part that is held out more strictly."""
    strictest: dict[str | bytes, int] = {}
    order = {1: 0, 0: 1, 2: 2}  # test before development before training
    for number, both in zip(part.tolist(), keys, strict=True):
        for key in both:
            strictest[key] = min(strictest.get(key, 2), order[number])
    left_out = 0
    for i, both in enumerate(keys):
        if min(strictest[key] for key in both) < order[int(part[i])]:
            part[i] = -1
            left_out += 1
    return left_out


def _place(group: str, seed: int) -> float:
    """A number from 0 to 1 that is a brand's for ever."""
    if seed == 0:  # the built-in model's rule: what it has not seen lies below 0.08
        return percentile(group) / 100
    digest = blake2b(f"{seed} {group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def _open_catalog(data: Data) -> Catalog:
    mapping: dict[str, str] = {}
    for entry in data.columns:
        role, equals, name = entry.partition("=")
        if not (role and equals and name):
            message = f"data.columns holds '{entry}'; write ROLE=NAME, such as id=SKU"
            raise TrainingError(message)
        mapping[role] = name
    if data.brand:
        mapping["brand"] = data.brand
    policy = FetchPolicy(allow_private=data.allow_private)
    catalog = Catalog.open(
        data.catalog, images=data.images or None, columns=mapping or None, policy=policy
    )
    for key, names in (("product", [data.product]), ("attributes", data.attributes)):
        for name in filter(None, names):
            if name not in catalog.columns:
                there = ", ".join(catalog.columns)
                message = f"data.{key}: {data.catalog} has no column '{name}' (there are: {there})"
                raise TrainingError(message)
    return catalog


def _pairs_of_catalog(data: Data, catalog: Catalog, spool: IO[bytes]) -> Iterator[Pair | Reject]:
    roles = catalog.roles
    for product in catalog:
        if isinstance(product, Reject):
            yield product
            continue
        cells = product.columns

        def text(name: str | None, cells: Mapping[str, Any] = cells) -> str:
            return as_text(cells.get(name)) if name else ""

        picture = product.image
        yield _checked(
            Pair(
                pair_id=product.product_id,
                title=_kept(text(roles.title) or text(roles.description)),
                highlights=tuple(map(_kept, parse_highlights(text(roles.highlights)))),
                description=_kept(text(roles.description)),
                picture=_spooled(picture, spool) if isinstance(picture, bytes) else picture or "",
                brand=_kept(text(roles.brand)),
                product=text(data.product) or product.product_id,
                attributes=tuple(text(name) for name in data.attributes),
                row=product.row,
            )
        )


def _pairs_of_tars(data: Data) -> Iterator[Pair | Reject]:
    for sample in read_tars(data.catalog):
        if isinstance(sample, Reject):
            yield sample
            continue
        names = {bare_name(name): value for name, value in sample.fields.items()}
        yield _checked(
            Pair(
                pair_id=sample.name,
                title=_kept(_role(names, "title") or _role(names, "description")),
                highlights=tuple(map(_kept, parse_highlights(_role(names, "highlights")))),
                description=_kept(_role(names, "description")),
                picture=sample.picture,
                brand=as_text(sample.fields.get(data.brand)) or _role(names, "brand"),
                product=as_text(sample.fields.get(data.product)) or sample.name,
                attributes=tuple(as_text(sample.fields.get(name)) for name in data.attributes),
                row=sample.row,
            )
        )


def _role(names: Mapping[str, Any], role: str) -> str:
    return next((as_text(names[usual]) for usual in USUAL_NAMES[role] if names.get(usual)), "")


def _checked(pair: Pair) -> Pair | Reject:
    place = pair.picture if isinstance(pair.picture, str) else pair.picture.place
    if not pair.picture:
        return Reject(pair.row, pair.pair_id, None, "the row names no picture; nothing to learn")
    if not pair.caption:
        return Reject(pair.row, pair.pair_id, place or None, "the row has no words to learn from")
    return pair


def _kept(text: str) -> str:
    return one_line(text[:LONGEST_TEXT])


def _spooled(picture: bytes, spool: IO[bytes]) -> Slice:
    """Move a picture out of memory: into a file that the system removes with the process."""
    offset = spool.seek(0, 2)
    spool.write(picture)
    return Slice("", offset, len(picture))


def _reader(spool: IO[bytes], catalog: Catalog | None) -> Callable[[Pair], bytes]:
    lock = Lock()

    def read(pair: Pair) -> bytes:
        piece = pair.picture
        if isinstance(piece, str):
            assert catalog is not None  # only its pairs have locations
            return catalog.read_image(Product(pair.pair_id, "", piece, pair.row, {}))
        if piece.place:
            return read_slice(piece)
        with lock:
            spool.seek(piece.offset)
            return spool.read(piece.size)

    return read


__all__ = ["Pair", "Pairs", "Split", "read_pairs", "split"]
