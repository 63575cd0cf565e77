"""The store that is a folder or a prefix of an object store: a Lance table beside a manifest.

Lance is the table format below LanceDB. Its own library is used because ``import lance`` takes a
third of the time of ``import lancedb``; even so it is imported when a store is first opened.

``index.json`` (the manifest) names the model, ``products.lance/`` is the table, ``images/`` holds
blobs, and ``rejects.jsonl`` is written by indexing runs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fashionclip.errors import StoreError
from fashionclip.store.base import StoreMeta
from fashionclip.store.lance.manifest import FLOAT_FORMAT, Manifest
from fashionclip.store.lance.place import place_of

if TYPE_CHECKING:
    from fashionclip.store.lance.store import LanceStore

Options = Mapping[str, str] | None


def open_store(
    uri: str, *, read_only: bool = False, storage_options: Options = None
) -> "LanceStore":
    """Open a store, which writes nothing.

    Raises:
        StoreError: it is not there.
        StoreFormatError: it is of an older or newer format.
        StoreCorruptError: it is damaged.
    """
    from fashionclip.store.lance.store import LanceStore

    return LanceStore(place_of(uri, storage_options))


def create_store(uri: str, meta: StoreMeta, *, storage_options: Options = None) -> "LanceStore":
    """Make an empty store; its manifest is written last, so that its presence means all is there.

    Raises:
        StoreError: there is a store already, other files are in the way, or the place cannot be
            written to.
    """
    from fashionclip.store.lance.store import LanceStore
    from fashionclip.store.lance.table import create_table

    place = place_of(uri, storage_options)
    place.prepare()
    with place.lock.held():
        if place.exists():
            message = f"there is an index at {uri} already: open it, or delete it"
            raise StoreError(message)
        place.clear_unfinished()
        create_table(place, meta)
        Manifest.new(meta).create(place)
    return LanceStore(place)


def read_meta(uri: str, *, storage_options: Options = None) -> StoreMeta:
    """What the manifest says: the model. The table, which knows roles and columns, stays closed.

    Raises:
        StoreError: there is no store, or it is damaged.
        StoreFormatError: it is of an older or newer format.
    """
    manifest = Manifest.read(place_of(uri, storage_options))
    manifest.require_format(uri)
    return manifest.meta(uri)


def holds_store(uri: str, *, storage_options: Options = None) -> bool:
    """Whether a folder or prefix holds a manifest."""
    return place_of(uri, storage_options).exists()


def upgrade_store(uri: str, *, storage_options: Options = None) -> "LanceStore":
    """Open a store of any format, after bringing it to the newest one; vectors stay.

    Raises:
        StoreError: it is not there, or cannot be written to.
        StoreFormatError: it is of a newer format.
    """
    from fashionclip.store.lance.store import LanceStore
    from fashionclip.store.lance.table import upgrade_table

    place = place_of(uri, storage_options)
    Manifest.read(place)
    with place.lock.held():
        manifest = Manifest.read(place)
        if manifest.format < FLOAT_FORMAT:
            place.upgrade_images()
            upgrade_table(place)
            manifest.upgraded().write(place)
    return LanceStore(place)
