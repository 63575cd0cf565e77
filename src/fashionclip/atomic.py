"""Files that are replaced whole or stay as they were.

A file is written beside its place and moved there once all of it has reached the disk, so that a
run that fails or is killed, or a machine that loses its power, leaves what was there before.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to that becomes ``path`` only if all goes well.

    Raises:
        OSError: the folder cannot be written to.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield part
        descriptor = os.open(part, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace a file in one step.

    Args:
        path: the file.
        data: what it will hold.
        mode: its permissions, less the process's umask.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    with whole_file(path) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
