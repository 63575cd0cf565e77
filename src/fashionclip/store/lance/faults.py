"""The faults of a Lance table in one line each: full disk, no permission, damaged files.

Lance raises OSError, RuntimeError or ValueError with the cause in the text, and a Rust panic
(a BaseException) where a damaged file surprised it.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from fashionclip.errors import MissingExtraError, StoreCorruptError, StoreError, StoreFullError
from fashionclip.object_storage import (
    install_line,
    is_object_storage,
    may_pass,
    why_failed,
    why_failed_as_known,
    without_secrets,
)

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
PAUSES_S = (0.5, 1.0, 2.0)
"""Between tries where object storage did not answer; its clients have tried before."""

P = ParamSpec("P")
Result = TypeVar("Result")


class PassingError(StoreError):
    """Object storage did not answer; a moment later it may."""


def tried_again(function: Callable[P, Result]) -> Callable[P, Result]:
    """A function that is called again where object storage did not answer.

    Lance itself tries single requests again, but not those whose answers break off. The function
    must have the same outcome if it is called twice.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        for pause_s in PAUSES_S:
            try:
                return function(*args, **kwargs)
            except PassingError:
                time.sleep(pause_s)
        return function(*args, **kwargs)

    return call


@contextmanager
def reported(uri: str) -> Iterator[None]:
    """Turn what goes wrong below into a StoreError that says what to do about it.

    Raises:
        StoreFullError: the disk is full.
        StoreError: permissions, or another program, stand in the way, or object storage fails.
        StoreCorruptError: the files of a folder are damaged.
    """
    try:
        yield
    except BaseException as exc:
        is_fault = isinstance(exc, _FAULTS) or type(exc).__name__ == "PanicException"
        if not is_fault:  # one of our own errors, or a user's Ctrl-C
            raise
        error = _store_error(uri, exc)
        raise error from exc


@contextmanager
def reaching(uri: str, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn what goes wrong on the way to object storage into one line.

    Raises:
        StoreError: the object storage cannot be reached, or refuses.
        MissingExtraError: a package is not installed.
    """
    try:
        yield
    except ImportError as exc:
        message = f"{uri} needs a package: {install_line(uri)}"
        raise MissingExtraError(message) from exc
    except Exception as exc:  # the client of each provider has errors of its own
        if isinstance(exc, StoreError):
            raise
        message = f"the index {uri} cannot be reached: {why_failed(exc, options)}"
        raise (PassingError if may_pass(exc) else StoreError)(message) from exc


def _store_error(uri: str, exc: BaseException) -> StoreError:
    text = str(exc)
    if is_object_storage(uri) and (reason := why_failed_as_known(exc)) is not None:
        kind = PassingError if may_pass(exc) else StoreError
        return kind(f"the index {uri} cannot be used: {reason}")
    if is_object_storage(uri) and "_versions" in text and "ot found" in text:
        message = (
            f"the index {uri} lists no version of its table: if it was made a moment ago, run this "
            "again; else restore it from a copy"
        )
        return PassingError(message)
    for signs, error in ((_FULL, StoreFullError), (_DISK, StoreError)):
        for sign, what in signs.items():
            if sign in text:
                return error(f"the index {uri} cannot be used: {what}")
    line = " ".join(re.sub(r",?\s*/\S*\.rs:\d+:\d+", "", text).split())
    line = without_secrets(line, None)  # signed URLs
    reason = line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…"
    if is_object_storage(uri):  # it may as well be the network or a setting
        message = (
            f"the index {uri} cannot be used ({reason}): check the endpoint and the other "
            "settings, and run this again; if it stays so, restore the index from a copy"
        )
        return StoreError(message)
    message = (
        f"the index {uri} is damaged ({reason}): restore it from a copy, or delete "
        "the folder and index the catalogue again"
    )
    return StoreCorruptError(message)
