"""A Lance store in a folder: its manifest, its lock and its images.

``lock`` is held by the operating system, so a writer that dies lets go of it; ``lock.holder`` only
says which process to look for.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fashionclip.atomic import write_whole
from fashionclip.errors import StoreError, StoreLockedError
from fashionclip.store.base import LOCK_TIMEOUT_S, ThreadLock
from fashionclip.store.blobs import FolderBlobs
from fashionclip.store.lance.leases import FolderLeases
from fashionclip.store.lance.manifest import (
    IMAGES_NAME,
    LOCK_NAME,
    MANIFEST_NAME,
    OWN_NAMES,
    TABLE_NAME,
    Identity,
)

OLD_IMAGES_NAME = "pictures"  # of format 1
HOLDER_NAME = "lock.holder"


class FolderPlace:
    """A store in a folder of this machine."""

    def __init__(self, uri: str) -> None:
        """Name a folder, which need not exist."""
        self.uri = uri
        self._folder = Path(uri)
        self.table_uri = str(self._folder.absolute() / TABLE_NAME)
        self.lock = FolderLock(self._folder)
        self.leases = FolderLeases(self._folder)
        self.storage_options: dict[str, str] = {}
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

    def create(self, data: bytes) -> None:
        """Write the manifest of a new store, whose lock is held.

        Raises:
            StoreError: it cannot be written.
        """
        self.write(data)

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

    def check(self) -> None:
        """Nothing: the operating system keeps the lock as long as this process lives."""

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
