"""Pictures that lie nowhere else: sent over HTTP, or held by a table instead of named by it.

They are kept in the index folder, in a folder a product, under a name that their bytes give them,
so that results can show them whatever becomes of where they came from.
"""

import errno
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.errors import StoreError, StoreFullError

FOLDER = "pictures"  # in the index folder
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def place_of(index: Path, product_id: str, picture: bytes) -> Path:
    """Where a product's picture is kept, or would be.

    Args:
        index: the index folder.
        product_id: whose picture.
        picture: encoded.
    """
    return _folder_of(index, product_id).absolute() / _short(picture)


def keep(place: Path, picture: bytes) -> None:
    """Write a picture to its place, whole or not at all; nothing is done where it is there.

    Raises:
        StoreFullError: there is no room for it.
        StoreError: it cannot be written.
    """
    try:
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, picture)
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
        message = f"the picture cannot be kept in {place.parent}: {why}; make room, then retry"
        kind = StoreFullError if exc.errno in _NO_ROOM else StoreError
        raise kind(message) from exc


def is_kept(index: Path, location: str) -> bool:
    """Whether a picture's location is one of those here."""
    return Path(location).is_relative_to((index / FOLDER).absolute())


def forget(index: Path, product_id: str, *, but: Path | None = None) -> None:
    """Delete a product's pictures that nothing refers to any more."""
    _clear(_folder_of(index, product_id), but)


def forget_others(index: Path, product_ids: Iterable[str]) -> None:
    """Delete the pictures of all products but these."""
    folders = {folder.name: folder for folder in (index / FOLDER).glob("*")}
    if folders:
        for product_id in product_ids:
            folders.pop(_short(product_id.encode()), None)
    for folder in folders.values():
        _clear(folder, None)


def _folder_of(index: Path, product_id: str) -> Path:
    return index / FOLDER / _short(product_id.encode())


def _clear(folder: Path, but: Path | None) -> None:
    for file in folder.glob("*"):
        if but is None or file.name != but.name:
            file.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _short(data: bytes) -> str:
    """A name for a file or folder that any bytes may be called."""
    return blake2b(data, digest_size=12).hexdigest()
