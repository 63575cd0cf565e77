"""The faults of a Lance table in one line each: full disk, no permission, damaged files.

Lance raises OSError, RuntimeError or ValueError with the cause in the text, and a Rust panic
(a BaseException) where a damaged file surprised it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fashionclip.errors import StoreCorruptError, StoreError, StoreFullError

_FULL = {
    "No space left on device": "the disk is full: make room, then run this again",
    "Disk quota exceeded": "the disk quota is used up: make room, then run this again",
    "File too large": "a file grew over the size allowed here: raise the limit, then run again",
}
_DISK = {
    "Permission denied": "it may not be written to or read: change its permissions",
    "Read-only file system": "it is on a read-only file system: choose another folder",
    "Too many open files": "too many files are open: raise the limit (ulimit -n), then run again",
    "ommit conflict": "another program changed it at the same time: run this again",
}
_FAULTS = (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)
MAX_REASON = 200


@contextmanager
def reported(uri: str) -> Iterator[None]:
    """Turn what goes wrong below into a StoreError that says what to do about it.

    Raises:
        StoreFullError: the disk is full.
        StoreError: permissions, or another program, stand in the way.
        StoreCorruptError: the files are damaged.
    """
    try:
        yield
    except BaseException as exc:
        is_fault = isinstance(exc, _FAULTS) or type(exc).__name__ == "PanicException"
        if not is_fault:  # one of our own errors, or a user's Ctrl-C
            raise
        error = _store_error(uri, exc)
        raise error from exc


def _store_error(uri: str, exc: BaseException) -> StoreError:
    text = str(exc)
    for signs, kind in ((_FULL, StoreFullError), (_DISK, StoreError)):
        for sign, what in signs.items():
            if sign in text:
                return kind(f"the index {uri} cannot be used: {what}")
    line = " ".join(re.sub(r",?\s*/\S*\.rs:\d+:\d+", "", text).split())
    reason = line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…"
    message = (
        f"the index {uri} is damaged ({reason}): restore it from a copy, or delete "
        "the folder and index the catalogue again"
    )
    return StoreCorruptError(message)
