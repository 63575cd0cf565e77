"""The lock of a store in object storage: an object that its holder renews while it writes.

Object stores have no locks, but conditional writes: of two programs that take the lock at once, one
gets it. The holder writes the object again every few seconds. Where it stops for ``DEAD_AFTER_S``,
as seen by the clock of the one who waits, the holder is taken for dead and the lock is taken over.
A holder that comes back finds that and writes nothing more. What it was committing just then is
still whole, since each commit of Lance is a conditional write as well. Those alone would not do:
two writers that add the same product at once both succeed, and it is there twice.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from uuid import uuid4

from fashionclip.errors import StoreError, StoreLockedError
from fashionclip.object_storage import (
    FileSystem,
    create_object,
    read_object,
    replace_object,
    version_of,
)
from fashionclip.store.base import LOCK_TIMEOUT_S, ThreadLock
from fashionclip.store.lance.faults import reaching

RENEW_S = 4.0  # between renewals by the holder
DEAD_AFTER_S = 20.0  # without a renewal
POLL_S = 0.5  # between looks at a lock that another program holds

_PROCESS = uuid4().hex
_held: set[str] = set()
"""The owners of this process that hold a lock, or are about to take one."""


class RemoteLock:
    """One writer at a time on a prefix; the thread that holds it may take it again."""

    def __init__(self, files: FileSystem, path: str, uri: str, options: Mapping[str, str]) -> None:
        """Prepare the lock of a store; it is not held yet.

        Args:
            files: the store's file system.
            path: the lock's object in it.
            uri: the store, for messages.
            options: the store's options, whose secrets messages leave out.
        """
        self._files, self._path, self._uri, self._options = files, path, uri, options
        self._threads = ThreadLock(uri)
        self._renewing = threading.Lock()
        self._owner = ""  # a new name each time that the lock is taken
        self._version = self._free_version = ""
        self._renewed_at = 0.0
        self._is_lost = False
        self._seen: tuple[str | None, float] = (None, 0.0)

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
            StoreError: the prefix cannot be written to.
        """
        with self._threads.held(timeout_s=timeout_s, on_wait=on_wait):
            if self._owner:
                yield
                return
            self._acquire(timeout_s, on_wait)
            is_done = threading.Event()
            renewer = threading.Thread(
                target=self._keep_renewing, args=[is_done], name="fashionclip-lock", daemon=True
            )
            renewer.start()
            try:
                yield
            finally:
                is_done.set()
                renewer.join()
                self._release()

    def check(self) -> None:
        """See that the lock is still held, as every write does before it begins.

        Raises:
            StoreLockedError: another program has taken it over.
            StoreError: the object store cannot be reached.
        """
        if self._owner and time.monotonic() - self._renewed_at > 2 * RENEW_S:
            self._renew()
        if self._is_lost:
            message = (
                f"the index {self._uri} was taken over by {self._holder()} while this run did not "
                "reach it: run this again"
            )
            raise StoreLockedError(message)

    def _acquire(self, timeout_s: float, on_wait: Callable[[str], None] | None) -> None:
        deadline = time.monotonic() + timeout_s if timeout_s >= 0 else None
        owner = f"{_this_process()}{uuid4().hex}"
        _held.add(owner)  # before another thread can read it in the object
        try:
            while not self._try_acquire(owner):
                if on_wait is not None:
                    on_wait(self._holder())
                    on_wait = None
                if deadline is not None and time.monotonic() >= deadline:
                    message = (
                        f"the index {self._uri} is being written to by {self._holder()}: "
                        "wait for it to end, then run this again"
                    )
                    raise StoreLockedError(message)
                time.sleep(POLL_S)
        except BaseException:
            _held.discard(owner)
            raise
        self._owner, self._is_lost = owner, False

    def _try_acquire(self, owner: str) -> bool:
        data = _lock_of(owner)
        with reaching(self._uri, self._options):
            taken = None
            if self._free_version:  # most likely nobody has written since
                taken = replace_object(self._files, self._path, data, version=self._free_version)
                self._free_version = ""
            if taken is None:
                version = version_of(self._files, self._path)
                if version is None:
                    taken = create_object(self._files, self._path, data)
                elif self._is_free(version):
                    taken = replace_object(self._files, self._path, data, version=version)
        if taken is None:
            return False
        self._version, self._renewed_at = taken, time.monotonic()
        return True

    def _is_free(self, version: str) -> bool:
        """Whether the lock is let go of, or its holder has not renewed it for a long time."""
        if self._seen[0] != version:
            self._seen = version, time.monotonic()
        owner = str(self._read().get("owner", ""))
        if owner.startswith(_this_process()) and owner not in _held:
            return True  # this process could not let go of it, as in an outage
        return not owner or time.monotonic() > self._seen[1] + DEAD_AFTER_S

    def _keep_renewing(self, is_done: threading.Event) -> None:
        while not is_done.wait(RENEW_S) and not self._is_lost:
            with suppress(StoreError):  # the next write reports it, unless a later try succeeds
                self._renew()

    def _renew(self) -> None:
        with self._renewing, reaching(self._uri, self._options):
            data = _lock_of(self._owner)
            renewed = replace_object(self._files, self._path, data, version=self._version)
            if renewed is None:
                self._is_lost = True
            else:
                self._version, self._renewed_at = renewed, time.monotonic()

    def _release(self) -> None:
        with self._renewing:
            with suppress(StoreError), reaching(self._uri, self._options):
                if not self._is_lost:  # without this, others see that it is not renewed any more
                    released = replace_object(self._files, self._path, b"{}", version=self._version)
                    self._free_version = released or ""
            _held.discard(self._owner)
            self._owner = ""

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(read_object(self._files, self._path) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _holder(self) -> str:
        with reaching(self._uri, self._options):
            return str(self._read().get("process") or "another program")


def _this_process() -> str:
    return f"{os.getpid()}-{_PROCESS}-"


def _lock_of(owner: str) -> bytes:
    """The lock's object; each is another one, so that each has another version."""
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"owner": owner, "process": process, "renewal": uuid4().hex}).encode()
