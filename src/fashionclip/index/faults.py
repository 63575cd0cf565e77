"""The store's faults in one line each: full disk, no right to write, damaged files, bad filters.

LanceDB raises OSError, RuntimeError or ValueError with the story in the text, and a Rust panic
(a BaseException) where a damaged file surprised it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    "Commit conflict": "another program changed it at the same time: run this again",
}
_FILTER_NOISE = (
    re.compile(r",?\s*/\S*\.rs:\d+:\d+"),
    re.compile(r"^lance error: |^Invalid input, |^Invalid user input: |Query Execution error: "),
    re.compile(r"Schema error: |Error applying filter expression to batch: |Arrow error: "),
    re.compile(r"Error parsing statement: SELECT 1 FROM t WHERE .* \(|sql parser error: ", re.S),
    re.compile(r"Error resolving filter expression .*?: (?=Invalid|Schema|Error)", re.S),
    re.compile(r"\.? Valid fields are .*", re.S),
)
_FAULTS = (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)
LONGEST_REASON = 200


@contextmanager
def reported(folder: Path) -> Iterator[None]:
    """Turn what goes wrong below into a StoreError that says what to do about it.

    Raises:
        StoreFullError: the disk is full.
        StoreError: the folder's permissions, or another program, stand in the way.
        StoreCorruptError: the files are damaged.
    """
    try:
        yield
    except BaseException as exc:
        is_fault = isinstance(exc, _FAULTS) or type(exc).__name__ == "PanicException"
        if not is_fault:  # one of our own errors, or a user's Ctrl-C
            raise
        error = _store_error(folder, exc)
        raise error from exc


def _store_error(folder: Path, exc: BaseException) -> StoreError:
    text = str(exc)
    for signs, kind in ((_FULL, StoreFullError), (_DISK, StoreError)):
        for sign, what in signs.items():
            if sign in text:
                return kind(f"the index {folder} cannot be used: {what}")
    message = (
        f"the index {folder} is damaged ({_one_line(text)}): restore it from a copy, or delete "
        "the folder and index the catalogue again"
    )
    return StoreCorruptError(message)


def filter_fault(exc: BaseException) -> str:
    """What is wrong with a filter, in the store's words without its noise."""
    text = str(exc)
    for noise in _FILTER_NOISE:
        text = noise.sub("", text)
    text = text.replace("No field named", "no column named")
    return _one_line(text).rstrip(" .)") or "it is not valid SQL"


def _one_line(text: str) -> str:
    line = " ".join(re.sub(r",?\s*/\S*\.rs:\d+:\d+", "", text).split())
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"
