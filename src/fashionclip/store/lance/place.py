"""Where a Lance store is, a folder or an object store (S3): its manifest, lock and blobs.

``index.json`` is written last when a store is made, so that its presence means the rest is there.
In a folder, ``lock`` is held by the operating system, so a writer that dies lets go of it;
``lock.holder`` only says which process to look for. An object store has no locks: there, Lance's
commits are conditional, and of two writers that meet, one fails and can run again.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fashionclip.atomic import write_whole
from fashionclip.errors import (
    ImageFetchError,
    MissingExtraError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
)
from fashionclip.product import VECTOR_FORMS, VectorForm
from fashionclip.store.base import LOCK_TIMEOUT_S, StoreMeta, ThreadLock
from fashionclip.store.blobs import PREFIX, FolderBlobs, blob_location, is_blob, missing_blob
from fashionclip.store.lance.leases import FolderLeases, TimedLeases

FORMAT = 4  # raised when an older version of this package could not read what a newer one wrote
FLOAT_FORMAT = 3  # the same without a form of vectors: 32-bit floats, also for older versions
MANIFEST_NAME = "index.json"
TABLE_NAME = "products.lance"
IMAGES_NAME = "images"
OLD_IMAGES_NAME = "pictures"  # of format 1
LOCK_NAME = "lock"
HOLDER_NAME = "lock.holder"
IDENTITY_TTL_S = 5.0  # a request to an object store takes tens of milliseconds
OWN_NAMES = (MANIFEST_NAME, LOCK_NAME, "rejects.jsonl", TABLE_NAME)

Identity = tuple[object, ...] | None
"""What tells a manifest from another one that came into its place; None where there is none."""


def place_of(uri: str) -> "Place":
    """The place that a folder's path or an object store's URL names."""
    return RemotePlace(uri) if "://" in uri else FolderPlace(uri)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which model a store belongs to, and in which format it is written."""

    format: int
    """Version of the layout."""
    model: str
    fingerprint: str
    dim: int
    created: str
    """UTC time (ISO 8601) at which the store was made."""
    vectors: VectorForm = "float"

    @classmethod
    def new(cls, meta: StoreMeta) -> "Manifest":
        """The manifest of a store that is made now."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        version = FLOAT_FORMAT if meta.vectors == "float" else FORMAT
        return cls(version, meta.model, meta.fingerprint, meta.dim, now, meta.vectors)

    @classmethod
    def read(cls, place: "Place") -> "Manifest":
        """Read the manifest of a store.

        Raises:
            StoreError: there is none, or it cannot be read.
            StoreFormatError: a newer version of this package wrote it.
            StoreCorruptError: it is damaged.
        """
        try:
            fields = json.loads(place.read())
            version = int(fields["format"])
        except (ValueError, TypeError, KeyError) as exc:
            raise StoreCorruptError(_damaged(place.uri, "is not readable")) from exc
        if version > FORMAT:
            message = (
                f"the index {place.uri} has format {version} and this fashionclip reads up to "
                f"{FORMAT}: upgrade fashionclip"
            )
            raise StoreFormatError(message)
        try:
            created = str(fields["created"])
            datetime.fromisoformat(created)
            forms = {form: form for form in VECTOR_FORMS}
            return cls(
                format=version,
                model=str(fields["model"]),
                fingerprint=str(fields["fingerprint"]),
                dim=int(fields["dim"]),
                created=created,
                vectors=forms[fields.get("vectors", "float")],
            )
        except (ValueError, TypeError, KeyError) as exc:
            raise StoreCorruptError(_damaged(place.uri, f"lacks a good {exc}")) from exc

    def require_format(self, uri: str) -> None:
        """Refuse an older format.

        Raises:
            StoreFormatError: it is one.
        """
        if self.format < FLOAT_FORMAT:
            message = (
                f"the index {uri} has the format of an older fashionclip: run 'fashionclip index "
                f"CATALOG --into {uri}' once to upgrade it; its vectors are kept"
            )
            raise StoreFormatError(message)

    def write(self, place: "Place") -> None:
        """Write the manifest whole or not at all."""
        place.write((json.dumps(asdict(self), indent=1) + "\n").encode())

    def upgraded(self) -> "Manifest":
        """The same, of the newest format of 32-bit floats."""
        return replace(self, format=FLOAT_FORMAT)

    def meta(self, uri: str) -> StoreMeta:
        """The manifest as part of a store's metadata, without roles and columns."""
        return StoreMeta(
            *(uri, self.model, self.fingerprint, self.dim),
            created=self.created,
            vectors=self.vectors,
        )

    @property
    def created_ms(self) -> int:
        """The time of creation in milliseconds."""
        return round(datetime.fromisoformat(self.created).timestamp() * 1000)


class FolderPlace:
    """A store in a folder of this machine."""

    def __init__(self, uri: str) -> None:
        """Name a folder, which need not exist."""
        self.uri = uri
        self._folder = Path(uri)
        self.table_uri = str(self._folder.absolute() / TABLE_NAME)
        self.lock = FolderLock(self._folder)
        self.leases = FolderLeases(self._folder)
        self.blobs = FolderBlobs(self._folder / IMAGES_NAME)

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            StoreError: it cannot be made.
        """
        if self._folder.is_file():
            message = f"{self.uri} is a file: choose a folder for the index"
            raise StoreError(message)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            message = f"the folder {self.uri} cannot be made: {exc.strerror}"
            raise StoreError(message) from exc

    def exists(self) -> bool:
        """Whether the manifest is there."""
        return (self._folder / MANIFEST_NAME).exists()

    def identity(self) -> Identity:
        """The manifest's inode and time."""
        try:
            found = (self._folder / MANIFEST_NAME).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def read(self) -> bytes:
        """The manifest's bytes.

        Raises:
            StoreError: it is not there, or cannot be read.
        """
        try:
            return (self._folder / MANIFEST_NAME).read_bytes()
        except OSError as exc:
            raise StoreError(self._why_missing(exc)) from exc

    def write(self, data: bytes) -> None:
        """Replace the manifest whole.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            write_whole(self._folder / MANIFEST_NAME, data)
        except OSError as exc:
            message = f"the index {self.uri} cannot be written to: {exc.strerror or exc}"
            raise StoreError(message) from exc

    def clear_unfinished(self) -> None:
        """Remove the table of a run that was killed before it wrote the manifest.

        Raises:
            StoreError: the folder holds other files.
        """
        entries = sorted(entry.name for entry in self._folder.iterdir())
        others = [name for name in entries if not name.startswith(OWN_NAMES)]
        if others:
            message = (
                f"{self.uri} holds other files ({others[0]}): choose a new folder for the index"
            )
            raise StoreError(message)
        shutil.rmtree(self._folder / TABLE_NAME, ignore_errors=True)

    def upgrade_images(self) -> None:
        """Rename the folder of images that format 1 kept."""
        old = self._folder / OLD_IMAGES_NAME
        if old.is_dir() and not (self._folder / IMAGES_NAME).exists():
            old.rename(self._folder / IMAGES_NAME)

    def size_bytes(self) -> int:
        """Bytes of all files."""
        files = (file for file in self._folder.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files)

    def _why_missing(self, exc: OSError) -> str:
        if self._folder.is_file():
            return f"{self.uri} is a file, not an index folder"
        if not self._folder.exists():
            what = f"there is no index at {self.uri}"
        elif not self.exists():
            what = f"{self.uri} is not an index folder: it has no {MANIFEST_NAME}"
        else:
            return f"{self._folder / MANIFEST_NAME} cannot be read: {exc.strerror}"
        return f"{what}; make one with: fashionclip index CATALOG --into {self.uri}"


class RemotePlace:
    """A store under a prefix of an object store, reached through fsspec and by Lance itself.

    Credentials and endpoints come from where both look for them: the environment
    (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …) and the machine's role.
    """

    def __init__(self, uri: str) -> None:
        """Name a prefix.

        Raises:
            MissingExtraError: fsspec needs another package for its scheme.
            StoreError: fsspec does not take the URL.
        """
        import fsspec

        self.uri = uri
        self.table_uri = f"{uri.rstrip('/')}/{TABLE_NAME}"
        try:
            self._files, root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        except ImportError as exc:
            mend = "; pip install 'fashionclip[s3]'" if uri.startswith("s3:") else ""
            message = f"{uri}: {exc}{mend}"
            raise MissingExtraError(message) from exc
        except ValueError as exc:
            message = f"{uri} cannot be reached: {exc}"
            raise StoreError(message) from exc
        self._root = root.rstrip("/")
        self._identity: tuple[float, Identity] = (0.0, None)
        self._manifest = f"{self._root}/{MANIFEST_NAME}"
        self.lock = ThreadLock(uri)
        self.leases = TimedLeases()
        self.blobs = RemoteBlobs(self._files, f"{self._root}/{IMAGES_NAME}", uri)

    def prepare(self) -> None:
        """Nothing: prefixes need not be made."""

    def exists(self) -> bool:
        """Whether the manifest is there."""
        with _reaching(self.uri):
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
        with _reaching(self.uri):
            try:
                return bytes(self._files.cat_file(self._manifest))
            except FileNotFoundError as exc:
                message = (
                    f"there is no index at {self.uri}; make one with: fashionclip index CATALOG "
                    f"--into {self.uri}"
                )
                raise StoreError(message) from exc

    def write(self, data: bytes) -> None:
        """Replace the manifest."""
        with _reaching(self.uri):
            self._files.pipe_file(self._manifest, data)

    def clear_unfinished(self) -> None:
        """Remove the table of a run that was killed before it wrote the manifest.

        Raises:
            StoreError: the prefix holds other objects, or cannot be reached.
        """
        with _reaching(self.uri):
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
        with _reaching(self.uri):
            return int(self._files.du(self._root))


class RemoteBlobs:
    """Blobs under a prefix of an object store."""

    def __init__(self, files: Any, root: str, uri: str) -> None:  # noqa: ANN401  # fsspec has no types
        """Keep images under a prefix of a file system."""
        self._files, self._root, self._uri = files, root, uri

    def put(self, product_id: str, data: bytes) -> str:
        """Write an image and return its location."""
        location = blob_location(product_id, data)
        with _reaching(self._uri):
            self._files.pipe_file(self._path(location), data)
        return location

    def read(self, location: str) -> bytes:
        """The bytes of an image.

        Raises:
            ImageFetchError: there is none of this location.
        """
        try:
            return bytes(self._files.cat_file(self._path(location)))
        except Exception as exc:
            raise ImageFetchError(missing_blob(location)) from exc

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
        with _reaching(self._uri):
            return list(self._files.find(folder))

    def _remove(self, paths: Iterable[str]) -> None:
        found = list(paths)
        with _reaching(self._uri):
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


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turn what goes wrong on the way to an object store into one line.

    Raises:
        StoreError: the object store cannot be reached, or refuses.
    """
    try:
        yield
    except Exception as exc:  # each object store's client has errors of its own
        if isinstance(exc, StoreError):
            raise
        reason = " ".join(str(exc).split()) or type(exc).__name__
        message = f"the index {uri} cannot be reached: {reason:.200}"
        raise StoreError(message) from exc


class FolderLock:
    """One writer at a time on a folder; the thread that holds it may take it again."""

    def __init__(self, folder: Path) -> None:
        """Prepare the lock of a folder; it is not held yet."""
        self._folder = folder
        self._threads = ThreadLock(
            str(folder)
        )  # a file lock alone would make a thread wait for itself
        self._is_held = False

    @contextmanager
    def held(
        self, *, timeout_s: float = LOCK_TIMEOUT_S, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Be the only writer while the block runs.

        Args:
            timeout_s: how long to wait for another writer; negative waits without end.
            on_wait: called once, with the holder of the lock, if there is a wait.

        Raises:
            StoreLockedError: another run was still writing after the wait.
            StoreError: the folder cannot be written to.
        """
        with self._threads.held(timeout_s=timeout_s, on_wait=on_wait):
            if self._is_held:
                yield
                return
            lock = FileLock(self._folder / LOCK_NAME)
            try:
                self._acquire(lock, timeout_s, on_wait)
            except OSError as exc:
                lock.release()
                message = f"the index {self._folder} cannot be written to: {exc.strerror or exc}"
                raise StoreError(message) from exc
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False
                (self._folder / HOLDER_NAME).unlink(missing_ok=True)
                lock.release()

    def _acquire(
        self, lock: FileLock, timeout_s: float, on_wait: Callable[[str], None] | None
    ) -> None:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait(self._holder())
            try:
                lock.acquire(timeout=timeout_s, poll_interval=0.1)
            except Timeout:
                message = (
                    f"the index {self._folder} is being written to by {self._holder()}: "
                    "wait for it to end, then run this again"
                )
                raise StoreLockedError(message) from None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        write_whole(self._folder / HOLDER_NAME, json.dumps(holder).encode())

    def _holder(self) -> str:
        try:
            holder = json.loads((self._folder / HOLDER_NAME).read_bytes())
            return f"process {int(holder['pid'])} on {holder['host']}"
        except (OSError, ValueError, TypeError, KeyError):
            return "another process"


def _damaged(uri: str, how: str) -> str:
    return (
        f"{uri}/{MANIFEST_NAME} {how}: restore it from a copy, or delete the index and index the "
        "catalogue again"
    )


Place = FolderPlace | RemotePlace
