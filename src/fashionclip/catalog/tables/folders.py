"""Folders: which files in one are a table, and folders of pictures, which are tables themselves.

A folder's table is a file in it, the shards of one, a data set that Hugging Face's ``datasets``
saved, or the tars of a WebDataset. Without any of those, every picture below the folder is a row:
its path is the id, the words of its name the title, and the folder it is in the category.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePath

from fashionclip.catalog.tables.table import BrokenRow, Row, clean_text
from fashionclip.errors import CatalogError
from fashionclip.images import IMAGE_SUFFIXES

_DATASET_FILES = frozenset(
    ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
)
"""What ``datasets`` writes beside its tables."""
_CLUTTER = frozenset(("__MACOSX", "Thumbs.db", "desktop.ini"))
_NO_CATEGORY = frozenset(
    ["images", "image", "img", "photos", "photo", "pictures", "pics", "data", "media"]
).union(["train", "test", "validation", "val", "dev"])
"""Names of folders that say nothing of the pictures in them."""
_NOT_LETTERS = re.compile(r"[\W_]+")
_NUMBERED = re.compile(r"(img|dsc[nf]?|image|photo|pic|p)?[\s\d]*", re.IGNORECASE)
_CODE = re.compile(r"[\da-f-]{12,}", re.IGNORECASE)


def is_clutter(name: str) -> bool:
    """Whether a file or folder is one that systems leave behind: hidden, or an index."""
    return name.startswith(".") or name in _CLUTTER


def is_of_dataset(name: str) -> bool:
    """Whether a file describes a data set that ``datasets`` saved, and is no table."""
    return name.lower() in _DATASET_FILES


def dataset_files(folder: Path) -> list[Path]:
    """The files of a data set below a folder: Arrow of ``save_to_disk``, Parquet, or its metadata.

    Raises:
        OSError: the folder cannot be read.
    """
    for pattern in ("*.arrow", "*/*.arrow", "data/*.parquet", "*/*.parquet", "*/*/*.parquet"):
        if files := sorted(folder.glob(pattern)):
            return files
    return sorted(folder.glob("*/metadata.*"))


class PictureFolder:
    """The pictures below a folder as rows."""

    kinds = None
    is_typed = True
    names: tuple[str, ...] = ("id", "title", "category", "image")

    def __init__(self, folder: Path) -> None:
        """Count its files.

        Raises:
            CatalogError: a folder cannot be read.
        """
        self._folder = folder
        others: Counter[str] = Counter()
        n_pictures = 0
        denied: list[OSError] = []
        for _, pictures, rest in _walk(folder, on_denied=denied.append):
            n_pictures += len(pictures)
            others.update(PurePath(name).suffix.lower() or name for name in rest)
        shown = "1 picture" if n_pictures == 1 else f"{n_pictures:,} pictures"
        notes = [f"read as a folder of {shown}: ids are paths, titles are names of files"]
        if others:
            kinds = ", ".join(f"{n:,} {name}" for name, n in others.most_common(5))
            n = others.total()
            shown = (
                f"{n:,} files that are no pictures are" if n > 1 else "1 file that is no picture is"
            )
            notes.append(f"{shown} left out ({kinds})")
        if denied:
            shown = "1 folder" if len(denied) == 1 else f"{len(denied):,} folders"
            notes.append(f"{shown} left out, which may not be read, such as {denied[0].filename}")
        self.notes = tuple(notes)

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Its pictures, sorted by folder and name.

        Raises:
            CatalogError: a folder cannot be read, such as one that is gone.
        """
        number = 0
        for folder, pictures, _ in _walk(self._folder):
            stems = Counter(PurePath(name).stem for name in pictures)
            within = "" if folder == Path() else f"{folder.as_posix()}/"
            category = None if folder.name.lower() in _NO_CATEGORY else folder.name
            for name in pictures:
                number += 1
                stem = PurePath(name).stem
                cells = {
                    "id": within + (stem if stems[stem] == 1 else name),
                    "title": _title_of(stem),
                    "category": category,
                    "image": within + name,
                }
                yield Row(number, {key: cell and clean_text(cell) for key, cell in cells.items()})


def has_pictures(folder: Path) -> bool:
    """Whether there is a picture below a folder."""
    return any(pictures for _, pictures, _ in _walk(folder))


def _walk(
    top: Path, *, on_denied: Callable[[OSError], object] = lambda error: None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folders below one, itself first, with the names of their pictures and of other files.

    Raises:
        CatalogError: one is gone, or cannot be read for another reason than its permissions.
    """

    def report(error: OSError) -> None:
        if isinstance(error, PermissionError):
            on_denied(error)
            return
        message = f"{error.filename}: cannot be read ({error.strerror}); is the folder still there?"
        raise CatalogError(message) from error

    for folder, folders, files in os.walk(top, onerror=report):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        names = sorted(name for name in files if not is_clutter(name))
        pictures = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        yield Path(folder).relative_to(top), pictures, sorted(set(names) - set(pictures))


def _title_of(stem: str) -> str | None:
    """The words of a file's name; None for a number, a camera's or a code."""
    words = _words_of(stem)
    return None if _NUMBERED.fullmatch(words) or _CODE.fullmatch(stem) else words


def _words_of(name: str) -> str:
    return _NOT_LETTERS.sub(" ", name).strip()
