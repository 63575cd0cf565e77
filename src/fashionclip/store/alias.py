"""Aliases: a small file ``NAME.alias`` that says which store a name stands for at present.

It holds one line, the store's address: a path relative to the alias's folder, an absolute path, or
a URL. It is replaced as a whole, so that a reader finds either the old address or the new one.
"""

from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.errors import StoreError
from fashionclip.store.base import shown_uri

SUFFIX = ".alias"
MAX_BYTES = 8_192


def is_alias(uri: str | Path) -> bool:
    """Whether an address names an alias, which need not exist."""
    return "://" not in str(uri) and Path(uri).suffix == SUFFIX and not Path(uri).is_dir()


def resolve(uri: str | Path) -> str:
    """The address of the store that an alias stands for; any other address as it is.

    Raises:
        StoreError: there is no such alias, or what it holds is no address of a store.
    """
    if not is_alias(uri):
        return str(uri)
    path = Path(uri)
    how = f"fashionclip switch {path} STORE"
    try:
        data = path.read_bytes()[:MAX_BYTES]
        address = data.decode("utf-8").strip()
    except FileNotFoundError as exc:
        message = f"there is no alias {path}: make it with {how}"
        raise StoreError(message) from exc
    except (OSError, UnicodeDecodeError) as exc:
        why = (isinstance(exc, OSError) and exc.strerror) or "it is not text"
        message = f"the alias {path} cannot be read ({why}): write it anew with {how}"
        raise StoreError(message) from exc
    if not address or not address.isprintable() or len(data) == MAX_BYTES:
        message = f"the alias {path} does not hold a store's address: write it anew with {how}"
        raise StoreError(message)
    return _store_of(path, address)


def write_alias(path: str | Path, store: str | Path) -> None:
    """Let an alias stand for a store from now on.

    Args:
        path: the alias; made if there is none.
        store: the store's address; a path is relative to the current folder. One below the alias's
            folder is written relative to it, so that the two can be moved together.

    Raises:
        StoreError: the path does not end in ``.alias``, the store is an alias itself, or the alias
            cannot be written.
    """
    path, address = Path(path), str(store)
    if not is_alias(path):
        message = f"{path} is no name for an alias: let it end in {SUFFIX}"
        raise StoreError(message)
    if is_alias(address):
        message = f"{address} is an alias: name the store itself, {shown_uri(resolve(address))}"
        raise StoreError(message)
    if "://" not in address:
        folder, place = path.parent.absolute(), Path(address).absolute()
        address = str(place.relative_to(folder) if place.is_relative_to(folder) else place)
    is_secret = shown_uri(address) != address
    try:
        write_whole(path, f"{address}\n".encode(), mode=0o600 if is_secret else 0o666)
    except OSError as exc:
        message = f"the alias {path} cannot be written ({exc.strerror}): nothing has changed"
        raise StoreError(message) from exc


def _store_of(path: Path, address: str) -> str:
    """The address that an alias holds, as seen from the current folder.

    Raises:
        StoreError: it is an alias again.
    """
    address = address if "://" in address else str(path.parent / address)
    if is_alias(address):
        message = f"the alias {path} names another alias: name a store with fashionclip switch"
        raise StoreError(message)
    return address
