"""Images that a store keeps itself: sent over HTTP, or held by a table instead of named by it.

A location ``blob:PRODUCT/IMAGE`` consists of two digests, of the product's id and of the bytes.
"""

import errno
import threading
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.errors import ImageFetchError, StoreError, StoreFullError
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.store.base import BlobStore

PREFIX = "blob:"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_blob(location: str | None) -> bool:
    """Whether an image location belongs to a store's blobs."""
    return location is not None and location.startswith(PREFIX)


def blob_location(product_id: str, data: bytes) -> str:
    """The location that a product's image has in every store's blobs."""
    return f"{PREFIX}{short_digest(product_id.encode('utf-8', 'replace'))}/{short_digest(data)}"


def short_digest(data: bytes) -> str:
    """A digest that serves as a name: 24 hexadecimal digits."""
    return blake2b(data, digest_size=12).hexdigest()


def read_stored_image(location: str, blobs: BlobStore, *, policy: FetchPolicy) -> bytes:
    """The encoded image of a stored product, wherever it is.

    Args:
        location: a blob's, a path or a URL.
        blobs: of the store that named the location.
        policy: how remote images may be fetched.

    Raises:
        ImageFetchError: the image is not there, or may not be fetched.
    """
    if is_blob(location):
        return blobs.read(location)
    return read_image_bytes(location, policy=policy)


class FolderBlobs:
    """Blobs in a folder: a folder per product, a file per image."""

    def __init__(self, folder: Path) -> None:
        """Keep images in a folder, which is made with the first of them."""
        self._folder = folder

    def put(self, product_id: str, data: bytes) -> str:
        """Write an image, whole or not at all; one that is there already is not written again.

        Raises:
            StoreFullError: no space left.
            StoreError: it cannot be written.
        """
        location = blob_location(product_id, data)
        path = self._path(location)
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
        except OSError as exc:
            reason = exc.strerror or type(exc).__name__
            message = f"the image cannot be written to {path.parent}: {reason}; make room, retry"
            error = StoreFullError if exc.errno in _FULL else StoreError
            raise error(message) from exc
        return location

    def read(self, location: str) -> bytes:
        """The bytes of an image.

        Raises:
            ImageFetchError: there is none of this location.
        """
        try:
            return self._path(location).read_bytes()
        except OSError as exc:
            raise ImageFetchError(missing_blob(location)) from exc

    def delete(self, product_id: str, *, except_location: str | None = None) -> None:
        """Delete the images of a product, all or all but one."""
        folder = self._path(blob_location(product_id, b"")).parent
        is_one = except_location is not None and is_blob(except_location)
        _clear(folder, self._path(str(except_location)) if is_one else None)

    def delete_others(self, product_ids: Iterable[str]) -> None:
        """Delete the images of every product that is not named."""
        folders = {folder.name: folder for folder in self._folder.glob("*")}
        if folders:
            for product_id in product_ids:
                folders.pop(self._path(blob_location(product_id, b"")).parent.name, None)
        for folder in folders.values():
            _clear(folder, None)

    def _path(self, location: str) -> Path:
        """The file of a location.

        Raises:
            ImageFetchError: it is not a blob's.
        """
        product, slash, image = location.removeprefix(PREFIX).partition("/")
        if not (is_blob(location) and slash and product.isalnum() and image.isalnum()):
            raise ImageFetchError(missing_blob(location))
        return self._folder / product / image


class MemoryBlobs:
    """Blobs in memory."""

    def __init__(self) -> None:
        """Start with none."""
        self._images: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, product_id: str, data: bytes) -> str:
        """Keep an image and return its location."""
        location = blob_location(product_id, data)
        with self._lock:
            self._images[location] = data
        return location

    def read(self, location: str) -> bytes:
        """The bytes of an image.

        Raises:
            ImageFetchError: there is none of this location.
        """
        try:
            return self._images[location]
        except KeyError:
            raise ImageFetchError(missing_blob(location)) from None

    def delete(self, product_id: str, *, except_location: str | None = None) -> None:
        """Delete the images of a product, all or all but one."""
        product = blob_location(product_id, b"").partition("/")[0]
        self._keep(lambda location: not location.startswith(f"{product}/"), except_location)

    def delete_others(self, product_ids: Iterable[str]) -> None:
        """Delete the images of every product that is not named."""
        products = {blob_location(name, b"").partition("/")[0] for name in product_ids}
        self._keep(lambda location: location.partition("/")[0] in products, None)

    def _keep(self, is_kept: Callable[[str], bool], except_location: str | None) -> None:
        with self._lock:
            self._images = {
                location: data
                for location, data in self._images.items()
                if is_kept(location) or location == except_location
            }


def missing_blob(location: str) -> str:
    """What to say of a location under which nothing is kept."""
    return f"{location}: the store keeps no such image; index the catalogue again"


def _clear(folder: Path, except_file: Path | None) -> None:
    for file in folder.glob("*"):
        if file != except_file:
            file.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
