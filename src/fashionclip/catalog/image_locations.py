"""Where the images of a catalogue's rows are."""

import os
from pathlib import Path

from fashionclip.catalog.tables.formats import IMAGES_FOLDER, TableFiles
from fashionclip.errors import CatalogError
from fashionclip.images import IMAGE_SUFFIXES
from fashionclip.images.fetch import is_url, resolve_location


class ImageLocations:
    """Where a catalogue's images are, given what its rows say of them."""

    def __init__(self, source: TableFiles, images: str | None) -> None:
        """Decide which folders to look in.

        Args:
            source: the table.
            images: folder or URL of the images, if the user named one.

        Raises:
            CatalogError: the folder does not exist.
        """
        beside = None if is_url(source.folder) else Path(source.folder) / IMAGES_FOLDER
        if images is None:
            has_images = beside is not None and beside.is_dir()
            self.by_id_base = str(beside) if has_images else None
            self._bases = [source.folder, str(beside)] if has_images else [source.folder]
            return
        if not is_url(images) and not Path(images).is_dir():
            message = f"{images}: no such folder of images; check --images"
            raise CatalogError(message)
        self.by_id_base = images if is_url(images) else str(Path(images).absolute())
        self._bases = list(dict.fromkeys((self.by_id_base, source.folder)))

    def locate(self, name: str) -> str:
        """The path or URL of an image that a row names.

        A relative name is looked for in the images folder and beside the table. The first place
        that has it counts. Where none has it, or the first is a URL, the first place counts.
        """
        first = resolve_location(name, base=self._bases[0])
        if is_url(first) or len(self._bases) == 1 or _exists(first):
            return first
        others = (resolve_location(name, base=base) for base in self._bases[1:])
        return next((other for other in others if not is_url(other) and _exists(other)), first)

    def locate_by_id(self, product_id: str) -> str | None:
        """The location of ``<id>.jpg``, or of the same name with another suffix."""
        if self.by_id_base is None:
            return None
        first = resolve_location(product_id + IMAGE_SUFFIXES[0], base=self.by_id_base)
        if is_url(first) or _exists(first):
            return first
        stem = first.removesuffix(IMAGE_SUFFIXES[0])
        others = (stem + suffix for suffix in IMAGE_SUFFIXES[1:])
        return next((location for location in others if _exists(location)), first)

    def others_by_id(self, location: str) -> list[str]:
        """Other URLs to try where the URL from ``locate_by_id`` has no image."""
        stem = location.removesuffix(IMAGE_SUFFIXES[0])
        return [stem + suffix for suffix in IMAGE_SUFFIXES[1:]] if is_url(location) else []


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)  # noqa: PTH110 - a third of Path's cost, once a row
    except ValueError:  # a NUL byte
        return False
