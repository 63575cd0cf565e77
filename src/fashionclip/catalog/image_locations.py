"""Where the images of a catalogue's rows are."""

import functools
import html
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from fashionclip.catalog.tables.formats import IMAGES_FOLDER, TableFiles
from fashionclip.errors import CatalogError
from fashionclip.images import IMAGE_SUFFIXES
from fashionclip.images.fetch import is_url, resolve_location

MAX_LISTED = 200_000
"""Of a larger folder, so many names are compared where a row's exact name is missing."""
MAX_FOLDERS = 1_024
"""So many answers on folders are kept, and listings of ``MAX_LISTED`` names together."""
_QUERY = re.compile(rf"(?<=\.)({'|'.join(s[1:] for s in IMAGE_SUFFIXES)})[?#].*", re.I | re.S)


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
        self._is_at_root = functools.lru_cache(MAX_FOLDERS)(lambda name: _exists(f"/{name}"))
        self._listed: dict[str, Mapping[str, list[str]]] = {}
        self._n_listed = 0
        self._folders_like = functools.lru_cache(MAX_FOLDERS)(self._alike)
        if images is None:
            self.by_id_base = source.images or _images_beside(source.folder)
            self._bases = [source.folder, *filter(None, [self.by_id_base])]
            return
        if not is_url(images) and not Path(images).is_dir():
            message = f"{images}: no such folder of images; check --images"
            raise CatalogError(message)
        self.by_id_base = images if is_url(images) else str(Path(images).absolute())
        self._bases = list(dict.fromkeys((self.by_id_base, source.folder)))

    def locate(self, name: str) -> str:
        """The path or URL of an image that a row names.

        A name is looked for in the images folder and beside the table, also one that begins with a
        slash, as shops write the names below their media folder. The first place that has it
        counts. Then backslashes, percent-encoding, HTML's ``&amp;`` and a URL's query are mended,
        and then a file counts whose name alone differs in case or in the composition of its letters
        (NFC, NFD). Where there is none, or the first place is a URL, the first place counts.
        """
        if is_url(name := name.strip()):
            return name
        base = self._bases[0]
        if is_url(base):
            name = name.replace("&amp;", "&")
        is_of_shop = name[:1] == "/" != name[1:2] and not self._is_at_root(name.split("/")[1])
        first = resolve_location(name.lstrip("/") if is_of_shop else name, base=base)
        if is_url(first) or _exists(first):
            return first
        below = name.replace("\\", "/").lstrip("/")
        folders = [base for base in self._bases if not is_url(base)]
        spelled = [below, unquote(below), html.unescape(below)]
        spelled += [_QUERY.sub(r"\1", spelling) for spelling in spelled]
        spellings = dict.fromkeys(spelled)
        places = [f"{folder}/{spelling}" for folder in folders for spelling in spellings]
        if (found := next(filter(self._has, places), None)) is not None:
            return found
        alike = (self._alike(place) for place in places)
        return next((one[0] for one in alike if len(one) == 1), f"{self._bases[0]}/{below}")

    def locate_by_id(self, product_id: str) -> str | None:
        """The location of ``<id>.jpg``, or of the same name with another suffix, in any case."""
        if self.by_id_base is None:
            return None
        first = resolve_location(product_id + IMAGE_SUFFIXES[0], base=self.by_id_base)
        if is_url(first) or _exists(first):
            return first
        stem = first.removesuffix(IMAGE_SUFFIXES[0])
        folder, name = os.path.split(stem)
        names, start, key = self._listing(folder), _composed(name), _key(name)
        for suffix in IMAGE_SUFFIXES:
            for found in names.get(key + suffix, ()):
                if _composed(found).startswith(start):  # ids that differ in case are two products
                    return f"{folder}/{found}"
        others = (stem + suffix for suffix in IMAGE_SUFFIXES[1:])
        return next(filter(self._has, others), first)

    def others_by_id(self, location: str) -> list[str]:
        """Other URLs to try where the URL from ``locate_by_id`` has no image."""
        stem = location.removesuffix(IMAGE_SUFFIXES[0])
        return [stem + suffix for suffix in IMAGE_SUFFIXES[1:]] if is_url(location) else []

    def _has(self, path: str) -> bool:
        """Whether there is such a file: by the listing of its folder, if there is one already."""
        folder, name = os.path.split(path)
        names = self._listed.get(folder)
        if names is None or len(names) == MAX_LISTED:
            return _exists(path)
        return name in names.get(_key(name), ())

    def _alike(self, path: str) -> list[str]:
        """Files whose path is the same but for case and composition."""
        folder, name = os.path.split(path)
        if folder == path:
            return []
        folders = [folder] if self._listing(folder) else self._folders_like(folder)
        names = ((one, self._listing(one).get(_key(name), ())) for one in folders)
        return [f"{one}/{found}" for one, same in names for found in same]

    def _listing(self, folder: str) -> Mapping[str, list[str]]:
        """The names in a folder, by what they are without regard to case and composition."""
        if (names := self._listed.get(folder)) is not None:
            return names
        names = _list_folder(folder)
        if names is None:
            return {}
        if self._n_listed > MAX_LISTED or len(self._listed) > MAX_FOLDERS:
            self._listed.clear()
            self._n_listed = 0
        self._listed[folder] = names
        self._n_listed += len(names)
        return names


def _images_beside(folder: str) -> str | None:
    beside = Path(folder) / IMAGES_FOLDER
    return str(beside) if not is_url(folder) and beside.is_dir() else None


def _list_folder(folder: str) -> Mapping[str, list[str]] | None:
    """The names in a folder, empty if there is none such; None if it cannot be read."""
    names: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.setdefault(_key(entry.name), []).append(entry.name)
                if len(names) == MAX_LISTED:
                    break
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL byte
        return {}
    except OSError:
        return None
    return names


def _key(name: str) -> str:
    return _composed(name).casefold()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)  # noqa: PTH110 - a third of Path's cost, once a row
    except ValueError:  # a NUL byte
        return False
