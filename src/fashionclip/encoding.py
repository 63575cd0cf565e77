"""A stream of images to unit vectors: read, compare with what is stored, decode, encode.

``iter_encoded`` is what every worker does, in this process and on Ray. It takes where an image is
and the content key that is stored already; an image with this key is neither decoded nor encoded.
Memory is bounded by the batch, not by the length of the stream.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from fashionclip.errors import (
    CredentialsError,
    FashionCLIPError,
    ImageFetchError,
    MissingSourceError,
)
from fashionclip.images.decode import (
    DecodedOrBytes,
    ImageSource,
    Preprocess,
    fetch_image,
    preprocess,
)
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy, is_url
from fashionclip.model import BATCHES_AHEAD, FashionCLIP
from fashionclip.object_storage import is_object_storage
from fashionclip.product import Product, Reject, as_reject
from fashionclip.store import content_key

T = TypeVar("T")
R = TypeVar("R")

READ_THREADS = 8
"""Threads that fetch images; they wait for disks and networks, not for cores."""
READ_AHEAD = 64
"""Images held as bytes before they are decoded."""
MAX_DECODE_THREADS = 16
MAX_PLACES = 10_000
"""Folders that are remembered, so that memory stays flat where each product has its own."""
ITEMS_PER_PIXELS = 8
"""Unchanged and broken images that may wait for one image that fills its batch of the model."""


@dataclass(frozen=True, slots=True)
class ImageJob:
    """An image to encode, unless its bytes are those that are stored."""

    sources: tuple[ImageSource, ...]
    """Where it is, or the image itself. The later ones are tried if the first cannot be read."""
    stored_key: bytes | None = None
    """The content key of the image that is stored; None if none is."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What became of an image that could be read."""

    key: bytes
    """Its content key; empty for an image that did not come as encoded bytes."""
    vector: Float32[np.ndarray, " dim"] | None
    """Its unit vector, or None if the key is the stored one."""


Result = EncodedImage | FashionCLIPError
"""An image, or why it cannot be fetched or decoded."""


Encoder = Callable[[Iterable[ImageJob], FetchPolicy], Iterator[Result]]
"""Encodes a stream of images, here or on a cluster: item i of the output belongs to item i of the
input, which is read a bounded number of images ahead."""


def local_encoder(
    model: FashionCLIP, *, batch_size: int = 32, workers: int | None = None
) -> Encoder:
    """The encoder that works in this process.

    Args:
        model: encodes the images.
        batch_size: images per call of the engine.
        workers: threads that decode; None for one per core, 16 at most.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    _check_batch_size(batch_size)
    return partial(iter_encoded, model, batch_size=batch_size, workers=workers)


def iter_encoded(
    model: FashionCLIP,
    jobs: Iterable[ImageJob],
    policy: FetchPolicy = DEFAULT_POLICY,
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[Result]:
    """Read, compare, decode and encode images in this process, in their order.

    Args:
        model: encodes the images.
        jobs: the images; read a few batches ahead.
        policy: how remote images may be fetched.
        batch_size: images per call of the engine.
        workers: threads that decode; None for one per core, 16 at most.

    Yields:
        For each job the image's key and vector, or the error of an image that cannot be used.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    _check_batch_size(batch_size)
    n_threads = workers or min(MAX_DECODE_THREADS, os.cpu_count() or 1)
    readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="fashionclip-read")
    decoders = ThreadPoolExecutor(n_threads, thread_name_prefix="fashionclip-decode")
    try:
        read = map_ahead(readers, partial(_read, policy=policy), jobs, READ_AHEAD)
        decode = partial(_decode, pre=model.checkpoint.preprocess)
        decoded = map_ahead(decoders, decode, read, batch_size * BATCHES_AHEAD)
        batch: list[_Decoded | Result] = []
        n_pixels = 0
        for item in decoded:
            batch.append(item)
            n_pixels += isinstance(item, _Decoded)
            is_full = n_pixels == batch_size or len(batch) >= batch_size * ITEMS_PER_PIXELS
            if is_full or not n_pixels:
                yield from _encode(model, batch)
                batch, n_pixels = [], 0
        yield from _encode(model, batch)
    finally:
        readers.shutdown(wait=False, cancel_futures=True)
        decoders.shutdown(wait=False, cancel_futures=True)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        message = f"batch_size is {batch_size}; it must be at least 1"
        raise ValueError(message)


def map_ahead(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], n_ahead: int
) -> Iterator[R]:
    """Call a function on each item in a pool, a bounded number of items ahead, in their order.

    Args:
        pool: runs the calls.
        function: called with one item; what it raises is raised at the item's place.
        items: read in the thread that asks for results.
        n_ahead: calls that are running or done before their results are asked for.
    """
    source = iter(items)
    running = deque(pool.submit(function, item) for item in islice(source, n_ahead))
    while running:
        result = running.popleft().result()
        running.extend(pool.submit(function, item) for item in islice(source, 1))
        yield result


@dataclass(frozen=True, slots=True)
class _Read:
    """An image that is not the stored one, still encoded if it came as bytes."""

    key: bytes
    image: DecodedOrBytes


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Its pixels, as the engine takes them."""

    key: bytes
    pixels: UInt8[np.ndarray, "size size 3"]


def _read(job: ImageJob, *, policy: FetchPolicy) -> _Read | Result:
    first: FashionCLIPError = ImageFetchError("no image is named")
    for i, source in enumerate(job.sources):
        try:
            image = fetch_image(source, policy=policy)
        except FashionCLIPError as error:
            first = error if i == 0 else first
            continue
        key = content_key(image) if isinstance(image, bytes) else b""
        if key and key == job.stored_key:
            return EncodedImage(key, None)
        return _Read(key, image)
    return first


def _decode(item: _Read | Result, *, pre: Preprocess) -> _Decoded | Result:
    if not isinstance(item, _Read):
        return item
    try:
        return _Decoded(item.key, preprocess(item.image, pre))
    except FashionCLIPError as error:
        return error


def _encode(model: FashionCLIP, batch: Sequence[_Decoded | Result]) -> Iterator[Result]:
    pixels = [item.pixels for item in batch if isinstance(item, _Decoded)]
    vectors = iter(model.engine.encode_pixels(np.stack(pixels)) if pixels else ())
    for item in batch:
        yield EncodedImage(item.key, next(vectors)) if isinstance(item, _Decoded) else item


@dataclass(frozen=True, slots=True)
class EncodedProduct:
    """A product with the vector of its image."""

    product: Product
    key: bytes
    """The image's content key."""
    vector: Float32[np.ndarray, " dim"]
    """Its unit vector."""
    was_stored: bool = False
    """Whether the vector is the stored one, because the image is the same."""


class ImagePlaces:
    """Buckets and folders that images were read from, to notice when one is gone as a whole."""

    def __init__(self) -> None:
        """Begin without any."""
        self._read: set[str] = set()

    def take(self, source: ImageSource | None, result: Result) -> None:
        """Note where an image was read from, or find out why it was not.

        Args:
            source: where it is; only locations are noted.
            result: what became of it.

        Raises:
            CredentialsError: object storage refuses the credentials for all images.
            MissingSourceError: images were read from its bucket or folder before, which is gone.
        """
        if isinstance(result, CredentialsError):
            raise result
        place = _place_of(source) if isinstance(source, str) else None
        if place is None:
            return
        if not isinstance(result, ImageFetchError):
            if len(self._read) < MAX_PLACES:
                self._read.add(place)
            return
        if is_object_storage(place):
            gone = place if isinstance(result, MissingSourceError) else None
        else:
            gone = _gone_folder(place)
        if gone and any(one == gone or one.startswith(gone + os.sep) for one in self._read):
            message = f"{gone} has lost all of its images: bring them back, then run this again"
            raise MissingSourceError(message) from result


def _place_of(location: str) -> str | None:
    """The bucket or folder of a location; None for other URLs, each of which stands for itself."""
    if is_object_storage(location):
        return "/".join(location.split("/", 3)[:3])
    return None if is_url(location) else os.path.dirname(location)  # noqa: PTH120 - once an image


def _gone_folder(folder: str) -> str | None:
    """The topmost of a folder and those above it that are missing or empty; None if none is.

    What is left of a file system that is no longer mounted is an empty folder.
    """
    gone, place = None, Path(folder or ".")
    while not _has_entries(place) and place != place.parent:
        gone, place = place, place.parent
    return None if gone is None else str(gone)


def _has_entries(folder: Path) -> bool:
    try:
        return next(folder.iterdir(), None) is not None
    except PermissionError:
        return True
    except OSError:
        return False


def encode_products(
    rows: Iterable[Product | Reject],
    encoder: Encoder,
    *,
    policy: FetchPolicy = DEFAULT_POLICY,
    sources: Callable[[Product], tuple[ImageSource, ...]] | None = None,
    stored: Callable[[Product], EncodedImage | None] | None = None,
) -> Iterator[EncodedProduct | Reject]:
    """Encode the image of each product of a stream, such as a ``Catalog``, in its order.

    Args:
        rows: products and rejects.
        encoder: encodes the images, such as ``local_encoder(model)``.
        policy: how remote images may be fetched.
        sources: where a product's image is, such as ``Catalog.image_sources``; by default where
            the product itself says.
        stored: what is stored of a product, whose vector is taken if its image is the same.

    Yields:
        For each row the product with its vector, or a reject.

    Raises:
        CredentialsError: object storage refuses the credentials for the images.
        MissingSourceError: a bucket or folder that images were read from is gone.
    """
    find = _own_image if sources is None else sources
    waiting: deque[tuple[Product | Reject, EncodedImage | None, ImageSource | None]] = deque()
    places = ImagePlaces()

    def jobs() -> Iterator[ImageJob]:
        for row in rows:
            # a reject goes through the encoder too, which bounds how many of them wait
            found: tuple[ImageSource, ...] = ()
            item, old = row, None
            if isinstance(row, Product):
                try:
                    found = find(row)
                except ImageFetchError as error:
                    item = as_reject(row, str(error))
                old = None if stored is None else stored(row)
            waiting.append((item, old, found[0] if found else None))
            yield ImageJob(found, None if old is None else old.key)

    for result in encoder(jobs(), policy):
        row, old, source = waiting.popleft()
        if isinstance(row, Reject):
            yield row
            continue
        places.take(source, result)
        if isinstance(result, FashionCLIPError):
            yield as_reject(row, str(result))
        elif result.vector is not None:
            yield EncodedProduct(row, result.key, result.vector)
        else:
            assert old is not None  # its key was found to be the same
            assert old.vector is not None
            yield EncodedProduct(row, old.key, old.vector, was_stored=True)


def _own_image(product: Product) -> tuple[ImageSource, ...]:
    if product.image is None:
        message = "the row names no image"
        raise ImageFetchError(message)
    return (product.image,)
