"""The copy in memory, saved on local disk while the service runs: it starts from it the next time.

A service that starts maps the file into memory and takes from its store only what has changed
since. Several workers and services may share a folder: each index has its own file there, which
one of them saves.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fashionclip.errors import StoreError
from fashionclip.serve.middleware import logs
from fashionclip.store import StoreMeta
from fashionclip.store.saved_snapshot import (
    address_of,
    load_snapshot,
    save_snapshot,
    saved_revision,
)
from fashionclip.store.snapshot import Snapshot

SAVE_S = 60.0  # between savings of what has changed
MIN_REST = 20  # pause after saving, in times of its duration


def saved_path(folder: Path, meta: StoreMeta) -> Path:
    """The file of an index in a folder: its name has a hash of the index's address."""
    return folder / f"index-{hashlib.sha256(address_of(meta).encode()).hexdigest()[:12]}.snapshot"


def read_saved(folder: Path, meta: StoreMeta) -> Snapshot | None:
    """The snapshot that was saved last; None, and a line in the log, if it cannot be used.

    Args:
        folder: where it is.
        meta: that of the store as it is now.
    """
    path = saved_path(folder, meta)
    try:
        return load_snapshot(path, meta)
    except StoreError as exc:
        logs.note(f"{path}: {exc}; the index is read whole")
        return None


def keep_saved(folder: Path, current: Callable[[], Snapshot], is_closed: threading.Event) -> None:
    """Save a copy of a store now, and again whenever it has changed; for a thread.

    Args:
        folder: for the file; other indexes may have theirs there too.
        current: gives what is to be saved.
        is_closed: set when no more is to be saved.
    """
    path, last_fault, wait_s = saved_path(folder, current().meta), "", 0.0
    while not is_closed.wait(wait_s):
        started, fault = time.monotonic(), ""
        try:
            _save(path, current())
        except OSError as exc:
            fault = f"{path} cannot be written ({exc.strerror or exc})"
        except Exception as exc:  # an unexpected error must not end the thread
            logs.failure("", exc)
        if fault and fault != last_fault:
            logs.warn(f"{fault}; the next start may read the index whole")
        last_fault = fault
        wait_s = max(SAVE_S, MIN_REST * (time.monotonic() - started))


def _save(path: Path, now: Snapshot) -> None:
    """Save what is newer than the file, unless another process does that now.

    Raises:
        OSError: the file cannot be written.
    """
    if saved_revision(path, now.meta) == now.revision:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(Timeout), FileLock(f"{path}.lock", timeout=0):
        for part in path.parent.glob(f"{path.name}.*.part"):  # of a process that was killed
            part.unlink(missing_ok=True)
        save_snapshot(now, path)
