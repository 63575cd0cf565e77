"""Vectors and products: stored, searched, filtered, kept whole, behind one contract.

``base`` has the contract. A URI's scheme names the store behind it, and ``STORES`` is the list of
them: a module each, imported when it is first named, with these functions:

``open_store(uri)``         open a store that exists; with ``read_only``, without writing anything
``create_store(uri, meta)`` make an empty one
``read_meta(uri)``          model and roles, quickly; columns may be missing
``holds_store(uri)``        whether there is a store, or the remains of one, under a URI
``upgrade_store(uri)``      bring one of an older format to the newest; vectors stay

Those of object storage take ``storage_options`` too: see ``object_storage.OPTIONS``.

An alias (``NAME.alias``) stands for the store whose address it holds, in all of them.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from fashionclip.errors import StoreError
from fashionclip.object_storage import check_options, is_object_storage
from fashionclip.store.alias import resolve
from fashionclip.store.base import (
    BlobStore,
    Changes,
    Rows,
    Sort,
    Store,
    StoreInfo,
    StoreMeta,
    VerifyReport,
    Writer,
    check_form,
    require_form,
    require_model,
    shown_uri,
)
from fashionclip.store.digests import StoredDigests, content_key, row_digest

__all__ = [
    "BlobStore",
    "Changes",
    "Rows",
    "Sort",
    "Store",
    "StoreInfo",
    "StoreMeta",
    "StoredDigests",
    "VerifyReport",
    "Writer",
    "check_form",
    "content_key",
    "create_store",
    "holds_store",
    "local_folder",
    "open_or_create",
    "open_store",
    "read_meta",
    "require_form",
    "require_model",
    "row_digest",
    "shown_uri",
    "upgrade_store",
]

STORES = {
    "": "fashionclip.store.lance",
    "s3": "fashionclip.store.lance",
    "gs": "fashionclip.store.lance",
    "az": "fashionclip.store.lance",
    "memory": "fashionclip.store.memory",
    "postgresql": "fashionclip.store.postgres",
    "postgres": "fashionclip.store.postgres",
}
"""The module of each URI scheme; a URI without one is a folder."""


Options = Mapping[str, str] | None


def open_store(
    uri: str | Path, *, read_only: bool = False, storage_options: Options = None
) -> Store:
    """Open a store.

    Args:
        uri: a folder, ``s3://bucket/path``, ``postgresql://…``, ``memory://NAME``, or an alias
            (``NAME.alias``).
        read_only: only read, also where the store is of an older format and would be brought to
            the newest one.
        storage_options: credentials, endpoint and region of object storage, by the names of
            ``object_storage.OPTIONS``; other stores have no use for them. Without them, the
            clients of object storage look in the environment.

    Raises:
        StoreError: there is none, or its scheme is unknown.
        StoreFormatError: another version of this package wrote it.
        StoreCorruptError: it is damaged.
        ValueError: a storage option is not known.
    """
    uri = resolve(uri)
    given = _given(uri, storage_options)
    store: Store = _module(uri).open_store(uri, read_only=read_only, **given)
    return store


def create_store(uri: str | Path, meta: StoreMeta, *, storage_options: Options = None) -> Store:
    """Make an empty store.

    Args:
        uri: where, as for ``open_store``; it takes the place of ``meta.uri``.
        meta: the model, and the roles and columns to begin with.
        storage_options: as for ``open_store``.

    Raises:
        StoreError: there is one already, something else is in its place, or it cannot be made.
        ValueError: ``meta.vectors`` is no form of vectors.
    """
    check_form(meta.vectors)
    uri = resolve(uri)
    store: Store = _module(uri).create_store(uri, meta, **_given(uri, storage_options))
    return store


def open_or_create(uri: str | Path, meta: StoreMeta, *, storage_options: Options = None) -> Store:
    """Open the store of a place, or make it; of several runs that find none, one makes it.

    Args:
        uri: where, as for ``open_store``.
        meta: as for ``create_store``; a store that is there keeps its own.
        storage_options: as for ``open_store``.

    Raises:
        StoreError: as ``open_store`` and ``create_store``.
    """
    if not holds_store(uri, storage_options=storage_options):
        try:
            return create_store(uri, meta, storage_options=storage_options)
        except StoreError:
            # unless somebody else made it meanwhile
            if not holds_store(uri, storage_options=storage_options):
                raise
    return open_store(uri, storage_options=storage_options)


def read_meta(uri: str | Path, *, storage_options: Options = None) -> StoreMeta:
    """Model and roles of a store, without opening all of it; columns may be missing.

    Raises:
        StoreError: as ``open_store``.
    """
    uri = resolve(uri)
    meta: StoreMeta = _module(uri).read_meta(uri, **_given(uri, storage_options))
    return meta


def holds_store(uri: str | Path, *, storage_options: Options = None) -> bool:
    """Whether a URI names a store that is there, in whatever state and format.

    Raises:
        StoreError: its scheme is unknown, or the place cannot be reached.
    """
    uri = resolve(uri)
    return bool(_module(uri).holds_store(uri, **_given(uri, storage_options)))


def upgrade_store(uri: str | Path, *, storage_options: Options = None) -> Store:
    """Open a store of an older format, and bring it to the newest one; its vectors stay.

    Raises:
        StoreError: as ``open_store``, or it cannot be written.
    """
    uri = resolve(uri)
    store: Store = _module(uri).upgrade_store(uri, **_given(uri, storage_options))
    return store


def local_folder(uri: str | Path) -> Path | None:
    """The folder of a store that is one; None for databases, buckets and memory.

    Raises:
        StoreError: an alias that cannot be read.
    """
    uri = resolve(uri)
    return None if _scheme(uri) else Path(uri)


def _given(uri: str, storage_options: Options) -> dict[str, Options]:
    """The options as an argument of the stores that take them.

    Raises:
        ValueError: one is not known.
    """
    options = check_options(storage_options)
    return {"storage_options": options} if is_object_storage(uri) else {}


def _scheme(uri: str) -> str:
    scheme, colon, _ = uri.partition("://")
    return scheme.lower() if colon else ""


def _module(uri: str) -> ModuleType:
    scheme = _scheme(uri)
    if not uri.strip():
        message = "no store is named: give a folder, or an address such as postgresql://…"
        raise StoreError(message)
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES if name)
        message = f"{scheme}:// names no store: give a folder, or an address of {known}"
        raise StoreError(message)
    if is_object_storage(uri) and not uri.partition("://")[2].partition("/")[0]:
        message = f"{uri} names no bucket: write {scheme}://BUCKET/PATH"
        raise StoreError(message)
    return import_module(STORES[scheme])
