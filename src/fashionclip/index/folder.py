"""What stands in an index folder beside the table: the manifest and the writer's lock.

``index.json`` is written last when an index is made, so that its presence means the rest is
there. ``lock`` is held by the operating system: a writer that dies lets go of it.
``lock.holder`` only says who to ask.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock

from filelock import FileLock, Timeout

from fashionclip.atomic import write_whole
from fashionclip.errors import StoreCorruptError, StoreError, StoreLockedError

FORMAT = 2  # raised when an older fashionclip could not read what a newer one wrote
MANIFEST_NAME = "index.json"
LOCK_NAME = "lock"
HOLDER_NAME = "lock.holder"
REJECTS_NAME = "rejects.jsonl"
TABLE_NAME = "products.lance"
LOCK_TIMEOUT_S = 60.0
"""How long a writer waits for another one unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which model an index belongs to, and in which format it is written."""

    format: int
    """Version of the folder's layout."""
    model: str
    """The model's name, as its user wrote it."""
    fingerprint: str
    """Digest of the model's weights and settings; two models of one name differ in it."""
    dim: int
    """Length of a vector."""
    created: str
    """ISO time (UTC) at which the index was made."""

    @classmethod
    def fresh(cls, *, model: str, fingerprint: str, dim: int) -> "Manifest":
        """The manifest of an index that is made now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(format=FORMAT, model=model, fingerprint=fingerprint, dim=dim, created=now)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read a folder's manifest.

        Raises:
            StoreError: there is no folder or no index in it, or a newer fashionclip wrote it.
            StoreCorruptError: the manifest is damaged.
        """
        try:
            text = (folder / MANIFEST_NAME).read_bytes()
        except OSError as exc:
            error = _no_index(folder, exc)
            raise error from exc
        try:
            fields = json.loads(text)
            version = int(fields["format"])
        except (ValueError, TypeError, KeyError) as exc:
            raise StoreCorruptError(_damaged(folder, "is not readable")) from exc
        if version > FORMAT:
            message = (
                f"the index {folder} has format {version} and this fashionclip reads up to "
                f"{FORMAT}: upgrade fashionclip"
            )
            raise StoreError(message)
        try:
            return cls(
                format=version,
                model=str(fields["model"]),
                fingerprint=str(fields["fingerprint"]),
                dim=int(fields["dim"]),
                created=str(fields["created"]),
            )
        except (ValueError, TypeError, KeyError) as exc:
            raise StoreCorruptError(_damaged(folder, f"lacks a good {exc}")) from exc

    def write(self, folder: Path) -> None:
        """Write the manifest whole or not at all."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        write_whole(folder / MANIFEST_NAME, text.encode())


def clear_unfinished(folder: Path) -> None:
    """Remove what a run left that was killed while making the index.

    Raises:
        StoreError: the folder holds other people's files.
    """
    ours = (MANIFEST_NAME, LOCK_NAME, REJECTS_NAME, TABLE_NAME)
    others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(ours))
    if others:
        message = f"{folder} holds other files ({others[0]}): choose a new folder for the index"
        raise StoreError(message)
    shutil.rmtree(folder / TABLE_NAME, ignore_errors=True)


def _no_index(folder: Path, exc: OSError) -> StoreError:
    if folder.is_file():
        return StoreError(f"{folder} is a file, not an index folder")
    if not folder.exists():
        what = f"there is no index at {folder}"
    elif not (folder / MANIFEST_NAME).exists():
        what = f"{folder} is not an index folder: it has no {MANIFEST_NAME}"
    else:
        return StoreError(f"{folder / MANIFEST_NAME} cannot be read: {exc.strerror}")
    return StoreError(f"{what}; make one with: fashionclip index CATALOG --into {folder}")


def _damaged(folder: Path, how: str) -> str:
    return (
        f"{folder / MANIFEST_NAME} {how}: restore it from a copy, or delete the folder "
        "and index the catalogue again"
    )


class WriterLock:
    """One writer at a time on a folder; the thread that holds it may take it again."""

    def __init__(self, folder: Path) -> None:
        """Prepare the lock of an index folder; nothing is held yet."""
        self._folder = folder
        self._threads = RLock()  # a file lock alone would make a thread wait for itself
        self._is_held = False

    @contextmanager
    def held(
        self,
        *,
        timeout_s: float = LOCK_TIMEOUT_S,
        on_wait: Callable[[str], None] | None = None,
    ) -> Iterator[None]:
        """Be the only writer while the block runs.

        Args:
            timeout_s: how long to wait for another writer; negative waits without end.
            on_wait: called once, with who is holding the lock, if there is a wait.

        Raises:
            StoreLockedError: another run is still writing after the wait.
            StoreError: the folder cannot be written to.
        """
        with self._threads:
            if self._is_held:
                yield
                return
            lock = FileLock(self._folder / LOCK_NAME)
            try:
                _acquire(lock, self._folder, timeout_s, on_wait)
            except OSError as exc:
                lock.release()
                why = exc.strerror or exc
                message = f"the index {self._folder} cannot be written to: {why}"
                raise StoreError(message) from exc
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False
                (self._folder / HOLDER_NAME).unlink(missing_ok=True)
                lock.release()


def _acquire(
    lock: FileLock, folder: Path, timeout_s: float, on_wait: Callable[[str], None] | None
) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait is not None:
            on_wait(_holder(folder))
        try:
            lock.acquire(timeout=timeout_s, poll_interval=0.1)
        except Timeout:
            message = (
                f"the index {folder} is being written to by {_holder(folder)}: "
                "wait for it to end, then run this again"
            )
            raise StoreLockedError(message) from None
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    write_whole(folder / HOLDER_NAME, json.dumps(holder).encode())


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER_NAME).read_bytes())
        return f"process {int(holder['pid'])} on {holder['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
