"""A Lance store under a prefix of object storage: its manifest and its images.

Nothing here depends on a list of objects that shows what was written a moment ago: what is there
is asked by name. Lists only find what may be deleted, and what is left over is found next time.
"""

import time
from collections.abc import Iterable, Mapping

from fashionclip.errors import ImageFetchError, StoreError
from fashionclip.object_storage import (
    FileSystem,
    check_options,
    create_object,
    lance_options,
    open_files,
    read_object,
)
from fashionclip.store.blobs import PREFIX, blob_location, is_blob, missing_blob
from fashionclip.store.lance.faults import reaching
from fashionclip.store.lance.leases import TimedLeases
from fashionclip.store.lance.manifest import (
    IMAGES_NAME,
    LOCK_NAME,
    MANIFEST_NAME,
    OWN_NAMES,
    TABLE_NAME,
    Identity,
)
from fashionclip.store.lance.remote_lock import RemoteLock

IDENTITY_TTL_S = 5.0  # a request to an object store takes tens of milliseconds


class RemotePlace:
    """A store under a prefix of an object store, reached through fsspec and by Lance itself."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Name a prefix.

        Args:
            uri: the prefix, such as ``s3://bucket/shop.lance``.
            storage_options: see ``object_storage.OPTIONS``; without them, credentials and
                endpoints come from where the clients look for them.

        Raises:
            MissingExtraError: fsspec needs another package for its scheme.
            StoreError: fsspec does not take the URL.
            ValueError: an option is not known.
        """
        self.uri = uri
        self.table_uri = f"{uri.rstrip('/')}/{TABLE_NAME}"
        self._options = check_options(storage_options)
        self.storage_options = lance_options(uri, self._options)
        with reaching(uri, self._options):
            self._files, root = open_files(uri, self._options)
        self._root = root.rstrip("/")
        self._identity: tuple[float, Identity] = (0.0, None)
        self._manifest = f"{self._root}/{MANIFEST_NAME}"
        self.lock = RemoteLock(self._files, f"{self._root}/{LOCK_NAME}", uri, self._options)
        self.leases = TimedLeases()
        self.blobs = RemoteBlobs(self._files, f"{self._root}/{IMAGES_NAME}", uri, self._options)

    def prepare(self) -> None:
        """Nothing: prefixes need not be made."""

    def exists(self) -> bool:
        """Whether the manifest is there."""
        with reaching(self.uri, self._options):
            return bool(self._files.exists(self._manifest))

    def identity(self) -> Identity:
        """The manifest's bytes, read every few seconds: an object store has no inodes."""
        until, found = self._identity
        if time.monotonic() > until:
            try:
                found = (self.read(),)
            except StoreError:
                found = None
            self._identity = time.monotonic() + IDENTITY_TTL_S, found
        return found

    def read(self) -> bytes:
        """The manifest's bytes.

        Raises:
            StoreError: it is not there, or cannot be read.
        """
        with reaching(self.uri, self._options):
            data = read_object(self._files, self._manifest)
        if data is None:
            message = (
                f"there is no index at {self.uri}; make one with: fashionclip index CATALOG "
                f"--into {self.uri}"
            )
            raise StoreError(message)
        return data

    def create(self, data: bytes) -> None:
        """Write the manifest of a new store.

        Raises:
            StoreError: there is one already, or it cannot be written.
        """
        with reaching(self.uri, self._options):
            version = create_object(self._files, self._manifest, data)
        if version is None:
            message = f"there is an index at {self.uri} already: open it, or delete it"
            raise StoreError(message)

    def write(self, data: bytes) -> None:
        """Replace the manifest."""
        with reaching(self.uri, self._options):
            self._files.pipe_file(self._manifest, data)

    def clear_unfinished(self) -> None:
        """Remove the table of a run that was killed before it wrote the manifest.

        Objects that a list does not show yet are written over.

        Raises:
            StoreError: the prefix holds other objects, or cannot be reached.
        """
        with reaching(self.uri, self._options):
            if not self._files.exists(self._root):
                return
            entries = sorted(path.rsplit("/", 1)[-1] for path in self._files.ls(self._root, False))
            others = [name for name in entries if name and not name.startswith(OWN_NAMES)]
            if others:
                message = f"{self.uri} holds other files ({others[0]}): choose another prefix"
                raise StoreError(message)
            table = f"{self._root}/{TABLE_NAME}"
            if self._files.exists(table):
                self._files.rm(table, recursive=True)

    def upgrade_images(self) -> None:
        """Nothing: format 1 knew no object stores."""

    def size_bytes(self) -> int:
        """Bytes of all objects."""
        with reaching(self.uri, self._options):
            return int(self._files.du(self._root))


class RemoteBlobs:
    """Blobs under a prefix of an object store."""

    def __init__(self, files: FileSystem, root: str, uri: str, options: Mapping[str, str]) -> None:
        """Keep images under a prefix of a file system."""
        self._files, self._root, self._uri, self._options = files, root, uri, options

    def put(self, product_id: str, data: bytes) -> str:
        """Write an image and return its location."""
        location = blob_location(product_id, data)
        with reaching(self._uri, self._options):
            self._files.pipe_file(self._path(location), data)
        return location

    def read(self, location: str) -> bytes:
        """The bytes of an image.

        Raises:
            ImageFetchError: there is none of this location.
        """
        path = self._path(location)
        try:
            with reaching(self._uri, self._options):
                data = read_object(self._files, path)
        except StoreError as exc:
            message = f"{location}: {exc}"
            raise ImageFetchError(message) from exc
        if data is None:
            raise ImageFetchError(missing_blob(location))
        return data

    def delete(self, product_id: str, *, except_location: str | None = None) -> None:
        """Delete the images of a product, all or all but one."""
        folder = self._path(blob_location(product_id, b"")).rpartition("/")[0]
        is_one = except_location is not None and is_blob(except_location)
        kept = self._path(str(except_location)) if is_one else None
        self._remove(path for path in self._list(folder) if path != kept)

    def delete_others(self, product_ids: Iterable[str]) -> None:
        """Delete the images of every product that is not named."""
        stored = self._list(self._root)
        if stored:
            folders = {
                self._path(blob_location(name, b"")).rpartition("/")[0] for name in product_ids
            }
            self._remove(path for path in stored if path.rpartition("/")[0] not in folders)

    def _list(self, folder: str) -> list[str]:
        with reaching(self._uri, self._options):
            return list(self._files.find(folder))

    def _remove(self, paths: Iterable[str]) -> None:
        found = list(paths)
        with reaching(self._uri, self._options):
            if found:
                self._files.rm(found)

    def _path(self, location: str) -> str:
        """The object of a location.

        Raises:
            ImageFetchError: it is not a blob's.
        """
        product, slash, image = location.removeprefix(PREFIX).partition("/")
        is_one = location.startswith(PREFIX) and slash and product.isalnum() and image.isalnum()
        if not is_one:
            raise ImageFetchError(missing_blob(location))
        return f"{self._root}/{product}/{image}"
