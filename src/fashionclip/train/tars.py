"""Samples of WebDataset tars: the members with the same name are one sample.

``0001.jpg`` is the image, ``0001.txt`` its caption, ``0001.json`` its fields. A tar is read once,
header by header. Images are read later from their offsets, so that every epoch is shuffled over
all shards. Tars can lie on any file system that fsspec supports.
"""

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from fashionclip.errors import ImageFetchError, TrainingError
from fashionclip.images import IMAGE_SUFFIXES
from fashionclip.images.fetch import is_url
from fashionclip.product import Reject

MAX_TEXT_BYTES = 1 << 20
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
    """The fields of its ``.json``; ``caption`` is the text of its ``.txt``."""
    row: int


def is_tar(place: str) -> bool:
    """Whether a recipe's catalogue is a tar or a pattern of tars."""
    return place.endswith(".tar")


def expand_shards(place: str) -> list[str]:
    """The shards of ``shards-{000..009}.tar`` or ``shards-*.tar``.

    Raises:
        TrainingError: there is none.
    """
    found = _RANGE.search(place)
    if found:
        first, last = found.groups()
        numbers = range(int(first), int(last) + 1)
        head, tail = place[: found.start()], place[found.end() :]
        return [one for n in numbers for one in expand_shards(f"{head}{n:0{len(first)}d}{tail}")]
    if "*" not in place:
        return [place]
    from fsspec.core import url_to_fs  # only patterns list a folder

    system, path = url_to_fs(place)
    names = sorted(system.glob(path))
    if not names:
        message = f"{place}: no such tar; check data.catalog"
        raise TrainingError(message)
    return [system.unstrip_protocol(name) if is_url(place) else name for name in names]


def read_tars(place: str) -> Iterator[Sample | Reject]:
    """Read the samples of every shard.

    Raises:
        TrainingError: a shard is missing, or is no tar.
    """
    row = 0
    for shard in expand_shards(place):
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
            from fsspec.core import url_to_fs

            system, path = url_to_fs(piece.place)
            found = system.cat_file(path, start=piece.offset, end=piece.offset + piece.size)
    except Exception as exc:  # every file system has its own errors
        why = " ".join(str(exc).split())[:200] or type(exc).__name__
        message = f"{piece.place}: cannot be read ({why})"
        raise ImageFetchError(message) from exc
    if len(found) != piece.size:
        message = f"{piece.place}: ends before byte {piece.offset + piece.size:,}; fetch it again"
        raise ImageFetchError(message)
    return bytes(found)


def _members(shard: str) -> Iterator[tuple[str, dict[str, Slice | bytes]]]:
    """Neighbouring members with the same name: small texts as bytes, images as slices.

    Raises:
        TrainingError: the shard is missing, or is no tar.
    """
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(shard)
        with system.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            files = filter(tarfile.TarInfo.isfile, tar)
            for name, group in groupby(files, key=lambda member: _split(member.name)[0]):
                members: dict[str, Slice | bytes] = {}
                for member in group:
                    suffix = _split(member.name)[1].lower()
                    if f".{suffix}" in IMAGE_SUFFIXES:
                        members[suffix] = Slice(shard, member.offset_data, member.size)
                    elif suffix in {"txt", "json"} and member.size <= MAX_TEXT_BYTES:
                        text = tar.extractfile(member)
                        members[suffix] = text.read() if text else b""
                if members:
                    yield name, members
    except FileNotFoundError as exc:
        message = f"{shard}: no such tar; check data.catalog"
        raise TrainingError(message) from exc
    except (tarfile.TarError, OSError, EOFError) as exc:
        message = f"{shard}: not a tar, or cut short ({exc}); fetch it again, without compression"
        raise TrainingError(message) from exc


def _split(name: str) -> tuple[str, str]:
    """Split a name at the first dot of its last part, as WebDataset does."""
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix


def _sample(
    shard: str, name: str, members: Mapping[str, Slice | bytes], row: int
) -> Sample | Reject:
    image = next((members[s[1:]] for s in IMAGE_SUFFIXES if s[1:] in members), None)
    if not isinstance(image, Slice):
        return Reject(row, name, shard, "the sample has no image (jpg, png or webp)")
    fields: dict[str, Any] = {}
    try:
        if isinstance(text := members.get("json"), bytes):
            found = json.loads(text)
            fields = dict(found) if isinstance(found, Mapping) else {}
        if isinstance(text := members.get("txt"), bytes):
            fields["caption"] = text.decode()
    except ValueError as exc:
        return Reject(row, name, shard, f"the sample's text cannot be read ({exc})")
    return Sample(name, image, fields, row)
