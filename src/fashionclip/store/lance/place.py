"""Where a Lance store is: in a folder, or under a prefix of object storage."""

from collections.abc import Mapping

from fashionclip.store.lance.folder import FolderPlace
from fashionclip.store.lance.remote import RemotePlace

Place = FolderPlace | RemotePlace


def place_of(uri: str, storage_options: Mapping[str, str] | None = None) -> Place:
    """The place that a folder's path or an object store's URL names.

    Raises:
        MissingExtraError: the URL's scheme needs a package that is not installed.
        StoreError: the URL cannot be used.
        ValueError: a storage option is not known.
    """
    return RemotePlace(uri, storage_options) if "://" in uri else FolderPlace(uri)
