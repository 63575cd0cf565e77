"""Leases on the versions of a Lance table: which of them a writer may remove.

A reader holds a version only within one call. Most calls take milliseconds and are made again on
the newest version should theirs be removed; a scan takes minutes, and holds a lock meanwhile. A
process that follows a store asks what changed since the version that it knows, and holds another.
The system lets go of both when a process dies. A writer that gets a lock knows that nobody needs
older versions; elsewhere versions stay for a time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no shared locks
    fcntl = None  # type: ignore[assignment]

READERS_NAME, FOLLOWERS_NAME = "lock.readers", "lock.followers"
READ_AGE = timedelta(hours=1)  # no scan takes longer
FOLLOW_AGE = timedelta(seconds=10)  # a follower looks twice a second


class FolderLeases:
    """Leases on a folder, by locks of the operating system."""

    def __init__(self, folder: Path) -> None:
        """Name a folder, which need not exist."""
        self._folder = folder
        self._following: _Lock | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the versions of now while the block runs."""
        file = self._shared(READERS_NAME)
        try:
            yield
        finally:
            if file is not None:
                file.close()

    def follow(self) -> None:
        """Keep each version for a moment, until ``close``."""
        if self._following is None:
            self._following = self._shared(FOLLOWERS_NAME)

    def close(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.close()
            self._following = None

    @contextmanager
    def removing(self) -> Iterator[timedelta]:
        """Yields the age of versions that may be removed; no scan begins while the block runs."""
        readers = self._exclusive(READERS_NAME)
        followers = self._exclusive(FOLLOWERS_NAME)
        try:
            if readers is None:
                yield READ_AGE
            else:
                yield timedelta(0) if followers is not None else FOLLOW_AGE
        finally:
            for file in (readers, followers):
                if file is not None:
                    file.close()

    def _shared(self, name: str) -> "_Lock | None":
        """A file that is locked together with other readers; None if that is not possible.

        A reader waits while a writer removes versions, which takes moments.
        """
        path = self._folder / name
        try:
            if not path.exists():
                path.touch()
            return _Lock(path, os.O_RDONLY, is_exclusive=False)
        except OSError:  # a folder that may only be read, and that no writer has cleaned yet
            return None

    def _exclusive(self, name: str) -> "_Lock | None":
        """A file that nobody else has locked; None if somebody has."""
        try:
            return _Lock(self._folder / name, os.O_RDWR | os.O_CREAT, is_exclusive=True)
        except OSError:
            return None


class _Lock:
    """A lock on a file, held until it is closed or forgotten."""

    def __init__(self, path: Path, flags: int, *, is_exclusive: bool) -> None:
        """Take the lock.

        Raises:
            OSError: the file cannot be opened, or somebody else holds an exclusive lock.
        """
        self._file = -1
        if fcntl is None:
            raise OSError
        self._file = os.open(path, flags, 0o644)
        try:
            fcntl.flock(
                self._file, fcntl.LOCK_EX | fcntl.LOCK_NB if is_exclusive else fcntl.LOCK_SH
            )
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        """Let go of the lock."""
        self.close()


class TimedLeases:
    """Leases on an object store, which has no locks: every version stays for a time."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nothing to do."""
        yield

    def follow(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    @contextmanager
    def removing(self) -> Iterator[timedelta]:
        """Yields the age of versions that may be removed."""
        yield READ_AGE


Leases = FolderLeases | TimedLeases
