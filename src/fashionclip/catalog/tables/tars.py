"""WebDataset tars: the members with the same name are one sample, and one row.

``0001.jpg`` is the image, ``0001.txt`` its caption, ``0001.cls`` its class, ``0001.json`` its
fields. A tar is read header by header, and can lie on any file system that fsspec supports.
"""

import json
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath
from typing import Any

from fashionclip.catalog.tables.table import BrokenRow, Cell, Row, clean_text
from fashionclip.errors import CatalogError, ImageFetchError
from fashionclip.images import IMAGE_SUFFIXES
from fashionclip.images.fetch import is_url
from fashionclip.lines import reason_of
from fashionclip.object_storage import open_files
from fashionclip.product import Kind

MAX_TEXT_BYTES = 1 << 20
TEXTS = ("txt", "json", "cls")
"""Endings of a sample's texts."""
KEY = "__key__"
"""The column of a sample's name, as WebDataset calls it."""
VIEWS = "additional_images"
"""The column of a sample's images after the first."""
_REST_BYTES = 1 << 16  # read behind the end of a tar
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, slots=True)
class Slice:
    """A range of bytes in a file or URL."""

    place: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of a tar."""

    name: str
    image: Slice
    fields: Mapping[str, Any]
    """The fields of its ``.json``; ``caption`` is the text of its ``.txt``, ``category`` of its
    ``.cls``."""
    row: int
    views: Sequence[Slice] = ()
    """Images after the first, as ``0001.front.jpg`` and ``0001.back.jpg`` have them."""


@dataclass(frozen=True, slots=True)
class BrokenSample:
    """A sample without an image, or whose texts cannot be read."""

    name: str
    shard: str
    reason: str
    row: int


def is_tar(place: str) -> bool:
    """Whether a path or URL is a tar or a pattern of tars."""
    return place.endswith(".tar")


def expand_shards(place: str) -> list[str]:
    """The shards of ``shards-{000..009}.tar`` or ``shards-*.tar``.

    Raises:
        CatalogError: there is none.
    """
    found = _RANGE.search(place)
    if found:
        first, last = found.groups()
        numbers = range(int(first), int(last) + 1)
        head, tail = place[: found.start()], place[found.end() :]
        return [one for n in numbers for one in expand_shards(f"{head}{n:0{len(first)}d}{tail}")]
    if "*" not in place:
        return [place]
    system, path = open_files(place)
    names = sorted(system.glob(path))
    if not names:
        message = f"{place}: no such tar; check its path"
        raise CatalogError(message)
    return [system.unstrip_protocol(name) if is_url(place) else name for name in names]


def read_samples(shards: Sequence[str]) -> Iterator[Sample | BrokenSample]:
    """Read the samples of some tars; their images are not read.

    Raises:
        CatalogError: a shard is missing, or is no tar.
    """
    row = 0
    for shard in shards:
        for name, members in _members(shard):
            row += 1
            yield _sample(shard, name, members, row)


def read_slice(piece: Slice) -> bytes:
    """Read the bytes of a slice; thread-safe.

    Raises:
        ImageFetchError: the file is gone, or shorter.
    """
    try:
        if not is_url(piece.place):
            with Path(piece.place).open("rb") as file:
                file.seek(piece.offset)
                found = file.read(piece.size)
        else:
            system, path = open_files(piece.place)
            found = system.cat_file(path, start=piece.offset, end=piece.offset + piece.size)
    except Exception as exc:  # every file system has its own errors
        why = reason_of(exc, width=200)
        message = f"{piece.place}: cannot be read ({why})"
        raise ImageFetchError(message) from exc
    if len(found) != piece.size:
        message = f"{piece.place}: ends before byte {piece.offset + piece.size:,}; fetch it again"
        raise ImageFetchError(message)
    return bytes(found)


class TarTable:
    """The samples of tars as rows, with the images in them."""

    is_typed = True

    def __init__(self, shards: Sequence[str]) -> None:
        """Gather the columns; reads the tars' headers and texts.

        Raises:
            CatalogError: a shard is missing, or is no tar.
        """
        self._shards = tuple(shards)
        names = {KEY: None, "image": None}
        for sample in read_samples(self._shards):
            if isinstance(sample, Sample):
                names |= dict.fromkeys((*sample.fields, *([VIEWS] if sample.views else [])))
        self.names = tuple(names)
        n_shards = len(self._shards)
        self.notes: tuple[str, ...] = (f"{n_shards} tars read as one",) if n_shards > 1 else ()

    @property
    def kinds(self) -> Mapping[str, Kind | None]:
        """Only the images are declared: binary data."""
        return {name: None for name in ("image", VIEWS) if name in self.names}

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read them from the first; images are read only where their column is wanted.

        Raises:
            CatalogError: a shard cannot be read on.
        """
        wanted = [name for name in self.kinds if columns is None or name in columns]
        for sample in read_samples(self._shards):
            if isinstance(sample, BrokenSample):
                yield BrokenRow(sample.row, sample.reason, sample.name or None)
                continue
            cells: dict[str, Cell] = {KEY: sample.name, **sample.fields}
            try:
                cells["image"] = read_slice(sample.image) if "image" in wanted else None
                if VIEWS in wanted and sample.views:
                    cells[VIEWS] = [read_slice(view) for view in sample.views]
            except ImageFetchError as exc:
                if isinstance(exc.__cause__, FileNotFoundError):  # the others are gone with it
                    raise CatalogError(str(exc)) from exc
                yield BrokenRow(sample.row, str(exc), sample.name)
                continue
            yield Row(sample.row, cells)


def _members(shard: str) -> Iterator[tuple[str, dict[str, Slice | bytes | None] | str]]:
    """Neighbouring members with the same name: texts as bytes, None if too long, images as slices.

    Where the shard is cut short below its first sample, the last is a sentence that says so.

    Raises:
        CatalogError: the shard is missing, or is no tar.
    """
    n_found = 0
    try:
        system, path = open_files(shard)
        with system.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            files = (m for m in tar if m.isfile() and not m.name.rpartition("/")[2].startswith("."))
            for name, group in groupby(files, key=lambda member: _split(member.name)[0]):
                members: dict[str, Slice | bytes | None] = {}
                for member in group:
                    suffix = _split(member.name)[1].lower()
                    if f".{suffix}".endswith(IMAGE_SUFFIXES):
                        members[suffix] = Slice(shard, member.offset_data, member.size)
                    elif suffix in TEXTS:
                        is_short = member.size <= MAX_TEXT_BYTES
                        text = tar.extractfile(member) if is_short else None
                        members[suffix] = text.read() if text else None
                if members:
                    n_found += 1
                    yield name, members
            file.seek(tar.offset)
            if (rest := file.read(_REST_BYTES)).strip(b"\0") or not rest:
                yield "", _cut(shard, f"no end mark at byte {tar.offset:,}")  # no error of tarfile
    except FileNotFoundError as exc:
        message = f"{shard}: no such tar; check its path"
        raise CatalogError(message) from exc
    except (tarfile.TarError, OSError, EOFError) as exc:
        if n_found:
            yield "", _cut(shard, exc)
            return
        message = (
            f"{shard}: not a tar, or cut short ({exc}); fetch it again, or decompress it (gunzip)"
        )
        raise CatalogError(message) from exc


def _cut(shard: str, why: object) -> str:
    return f"{PurePath(shard).name} breaks off here ({why}); fetch it again"


def _split(name: str) -> tuple[str, str]:
    """Split a name at the first dot of its last part, as WebDataset does."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix


def _sample(
    shard: str, name: str, members: Mapping[str, Slice | bytes | None] | str, row: int
) -> Sample | BrokenSample:
    if isinstance(members, str):
        return BrokenSample(name, shard, members, row)
    if None in members.values():
        why = f"a text of the sample is longer than {MAX_TEXT_BYTES:,} bytes; shorten it"
        return BrokenSample(name, shard, why, row)
    images = [found for found in members.values() if isinstance(found, Slice)]
    named = [found for end in IMAGE_SUFFIXES if isinstance(found := members.get(end[1:]), Slice)]
    images = named[:1] or images  # 0001.mask.png is no view beside 0001.jpg
    if not images:
        return BrokenSample(
            name, shard, "the sample has no image; add one, such as .jpg, or remove its texts", row
        )
    fields: dict[str, Any] = {}
    try:
        if isinstance(text := members.get("json"), bytes):
            found = json.loads(text)
            fields = dict(found) if isinstance(found, Mapping) else {}
        for suffix, key in (("txt", "caption"), ("cls", "category")):
            if isinstance(text := members.get(suffix), bytes):
                fields[key] = text.decode().strip()
    except (ValueError, RecursionError) as exc:
        return BrokenSample(
            name, shard, f"the sample's text cannot be read ({exc}); mend it or remove it", row
        )
    fields = {clean_text(key): cell for key, cell in fields.items()}
    return Sample(name, images[0], fields, row, images[1:])
