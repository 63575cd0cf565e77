"""A catalogue into arrays: each picture is read and decoded once, encoded and measured.

Vectors, measures and signatures are cached by the picture's content, so a second run decodes
nothing and a killed one goes on. Beside the pictures, faults are drawn into a sample of them.
Memory: about ``4 * dim + 1,100`` bytes a product.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from fashionclip.catalog import Catalog
from fashionclip.doctor import drawn, measures
from fashionclip.doctor.drawn import DRAWINGS
from fashionclip.doctor.shop import Columns, Pictures, Shop
from fashionclip.encoding import READ_AHEAD, READ_THREADS, map_ahead
from fashionclip.errors import FashionCLIPError, ImageFetchError
from fashionclip.evaluate.cache import DIGEST_BYTES, EmbeddingCache, image_digest, model_folder
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.decode import declared_size, decode_image, fit_image
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Reject, as_reject

SAMPLE = 400
"""Pictures into which faults are drawn, of a catalogue that has more."""
BATCH = 32
DECODE_THREADS = 4
DECODE_AHEAD = 64
N_OTHERS = 3

Progress = Callable[[int, int], None]
"""Called with the numbers of products and of rejects so far."""


@dataclass(slots=True)
class _Caches:
    vectors: EmbeddingCache
    measures: EmbeddingCache
    signatures: EmbeddingCache
    drawn_vectors: EmbeddingCache
    drawn_measures: EmbeddingCache

    def has(self, digest: bytes) -> bool:
        return all(digest in one.rows for one in (self.vectors, self.measures, self.signatures))

    def flush(self) -> None:
        for cache in (
            *(self.vectors, self.measures, self.signatures),
            *(self.drawn_vectors, self.drawn_measures),
        ):
            cache.flush()


def _open_caches(model: FashionCLIP, folder: Path | None) -> _Caches:
    width, length = len(measures.MEASURES), measures.SIGNATURE_BYTES
    of_model = model_folder(model, folder)
    of_pixels = folder / f"pixels-{measures.VERSION}" if folder else None
    return _Caches(
        EmbeddingCache(of_model, "images", model.dim, np.float32),
        EmbeddingCache(of_pixels, "measures", width, np.float32),
        EmbeddingCache(of_pixels, "signatures", length, np.uint8),
        EmbeddingCache(of_model, "drawn", model.dim, np.float32),
        EmbeddingCache(of_pixels, "drawn", width, np.float32),
    )


@dataclass(slots=True)
class _Row:
    """A product on its way through the threads."""

    product: Product
    digest: bytes = b""
    data: bytes = b""
    reason: str = ""
    pixels: np.ndarray | None = None
    measures: np.ndarray | None = None
    signature: np.ndarray | None = None
    small: Image.Image | None = None
    """What faults are drawn into, if the picture is of the sample."""


def read_shop(
    catalog: Catalog,
    model: FashionCLIP,
    *,
    cache: Path | None = None,
    columns: Iterable[str] = (),
    kinds: Collection[str] = tuple(DRAWINGS),
    progress: Progress | None = None,
) -> Shop:
    """Read, decode, encode and measure every picture of a catalogue.

    Args:
        catalog: the products.
        model: encodes the pictures.
        cache: folder of what was computed before; None to keep it in memory only.
        columns: the columns whose values may be labels.
        kinds: the kinds of findings; only their faults are drawn.
        progress: called as products get done.

    Raises:
        CatalogError: the table cannot be read on.
        EvaluationError: the cache cannot be written.
    """
    caches = _open_caches(model, cache)
    kept = Columns(labels={name: [] for name in columns}, distinct={n: {} for n in columns})
    rejects: list[Reject] = []
    sampled: list[tuple[int, bytes]] = []
    others: deque[Image.Image] = deque(maxlen=N_OTHERS)
    wanted = [kind for kind in DRAWINGS if kind in kinds and kind != "as_it_is"]
    to_draw = ("as_it_is", *wanted) if wanted else ()
    share = SAMPLE / max(1, catalog.len_hint) if to_draw else 0.0
    encoder = _Batches(model, caches, to_draw)
    try:
        for item in _rows(catalog, model, caches, share, to_draw):
            if isinstance(item, Reject):
                rejects.append(item)
            else:
                if _is_sampled(item.digest, share):
                    sampled.append((len(kept.ids), item.digest))
                    encoder.draw(item, list(others))
                    if item.small is not None:
                        others.append(item.small)
                kept.add(item.product, item.digest, catalog.roles.group)
                encoder.add(item)
            if progress is not None:
                progress(len(kept.ids), len(rejects))
        encoder.finish()
    finally:
        caches.flush()
    drawn_keys = {kind: [_drawn_key(digest, kind) for _, digest in sampled] for kind in to_draw}
    return Shop(
        ids=kept.ids,
        captions=kept.captions,
        images=kept.images,
        groups=kept.groups,
        labels=kept.labels,
        digests=kept.digests,
        pictures=_pictures(kept.digests, caches.vectors, caches.measures, model.dim),
        signatures=_stacked(kept.digests, caches.signatures, measures.SIGNATURE_BYTES),
        drawn={
            kind: _pictures(keys, caches.drawn_vectors, caches.drawn_measures, model.dim)
            for kind, keys in drawn_keys.items()
        },
        drawn_rows=[row for row, _ in sampled],
        rejects=rejects,
    )


class _Batches:
    """Pixels on their way to the model, and what is cached of them."""

    def __init__(self, model: FashionCLIP, caches: _Caches, to_draw: Sequence[str]) -> None:
        self._model, self._caches, self._to_draw = model, caches, to_draw
        self._waiting: list[tuple[EmbeddingCache, bytes, np.ndarray]] = []

    def add(self, row: _Row) -> None:
        """Keep a picture's measures, and encode it with the next batch."""
        if row.pixels is None or row.measures is None or row.signature is None:
            return
        self._caches.measures.put(row.digest, row.measures)
        self._caches.signatures.put(row.digest, row.signature)
        self._encode(self._caches.vectors, row.digest, row.pixels)

    def draw(self, row: _Row, others: Sequence[Image.Image]) -> None:
        """Draw every fault into a picture of the sample, unless that was done before."""
        if row.small is None:
            return
        pre = self._model.checkpoint.preprocess
        for kind in self._to_draw:
            key = _drawn_key(row.digest, kind)
            image = DRAWINGS[kind](row.small, others, Random(key))
            found = measures.measure(image, _size_after(image, row))
            self._caches.drawn_measures.put(key, found)
            self._encode(self._caches.drawn_vectors, key, fit_image(image, pre))

    def finish(self) -> None:
        """Encode what waits."""
        if self._waiting:
            vectors = self._model.engine.encode_pixels(np.stack([p for *_, p in self._waiting]))
            for (cache, key, _), vector in zip(self._waiting, vectors, strict=True):
                cache.put(key, vector)
            self._waiting = []

    def _encode(self, cache: EmbeddingCache, key: bytes, pixels: np.ndarray) -> None:
        self._waiting.append((cache, key, pixels))
        if len(self._waiting) >= BATCH:
            self.finish()


def _size_after(image: Image.Image, row: _Row) -> tuple[int, int]:
    """The size that the file would have: that of the picture, as far as it was not cut."""
    assert row.small is not None
    assert row.measures is not None
    scale = 2.0 ** float(row.measures[1]) / max(row.small.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _rows(
    catalog: Catalog, model: FashionCLIP, caches: _Caches, share: float, to_draw: Sequence[str]
) -> Iterator[_Row | Reject]:
    """Products with what their pictures hold, in the catalogue's order, decoded in threads."""
    readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="fashionclip-read")
    decoders = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="fashionclip-decode")
    try:
        read = map_ahead(readers, partial(_read, catalog), catalog, READ_AHEAD)
        examine = partial(_examine, model=model, caches=caches, share=share, to_draw=to_draw)
        for row in map_ahead(decoders, examine, read, DECODE_AHEAD):
            if isinstance(row, _Row) and row.reason:
                yield as_reject(row.product, row.reason)
            else:
                yield row
    finally:
        readers.shutdown(wait=False, cancel_futures=True)
        decoders.shutdown(wait=False, cancel_futures=True)


def _read(catalog: Catalog, item: Product | Reject) -> _Row | Reject:
    if isinstance(item, Reject):
        return item
    try:
        data = catalog.read_image(item)
    except ImageFetchError as error:
        return _Row(item, reason=str(error))
    return _Row(item, image_digest(ImageRef(item.product_id, data)), data)


def _examine(
    row: _Row | Reject,
    *,
    model: FashionCLIP,
    caches: _Caches,
    share: float,
    to_draw: Sequence[str],
) -> _Row | Reject:
    if isinstance(row, Reject) or row.reason:
        return row
    data, row.data = row.data, b""
    lacks_drawn = _is_sampled(row.digest, share) and not all(
        _drawn_key(row.digest, kind) in caches.drawn_vectors.rows
        and _drawn_key(row.digest, kind) in caches.drawn_measures.rows
        for kind in to_draw
    )
    if caches.has(row.digest) and not lacks_drawn:
        return row
    pre = model.checkpoint.preprocess
    edge = pre.size_px if pre.fit != "crop" else pre.shortest_edge_px or pre.size_px
    try:
        image = decode_image(data, target_px=edge)
        row.pixels = fit_image(image, pre)
        row.measures = measures.measure(image, _upright_size(data, image))
        row.signature = measures.signature(image)
        row.small = drawn.small_copy(image) if lacks_drawn else None
    except FashionCLIPError as error:
        row.reason = str(error)
    return row


def _upright_size(data: bytes, image: Image.Image) -> tuple[int, int]:
    """Width and height of the file's picture, of which the image may be a smaller copy."""
    width, height = declared_size(data)
    is_turned = (width > height) != (image.width > image.height)
    return (height, width) if is_turned else (width, height)


def _is_sampled(digest: bytes, share: float) -> bool:
    return int.from_bytes(digest[:4], "big") < share * 2**32


def _drawn_key(digest: bytes, kind: str) -> bytes:
    words = f"{kind} {drawn.VERSION}".encode()
    return blake2b(words + digest, digest_size=DIGEST_BYTES).digest()


def _stacked(keys: Sequence[bytes], cache: EmbeddingCache, width: int) -> np.ndarray:
    dtype = next(iter(cache.rows.values())).dtype if cache.rows else np.float32
    found = np.empty((len(keys), width), dtype)
    for i, key in enumerate(keys):
        found[i] = cache.rows[key]
    return found


def _pictures(
    keys: Sequence[bytes], vectors: EmbeddingCache, found: EmbeddingCache, dim: int
) -> Pictures:
    return Pictures(_stacked(keys, vectors, dim), _stacked(keys, found, len(measures.MEASURES)))
