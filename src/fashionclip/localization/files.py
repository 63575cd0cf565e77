"""Localisations as files: for each image a JSON, an .npz of arrays, and a PNG for each word.

The JSON is written last. It holds a key of all that the result depends on, so a run that is given
again leaves out what is there, and does again what a kill left unfinished.
"""

import glob
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fashionclip.atomic import write_whole
from fashionclip.localization.result import Localization

MAX_STEM_BYTES = 90
"""UTF-8 bytes of a text that a file's name keeps: file systems allow 255 for a whole name."""
VERSION = 2
"""Raised when the same inputs give other results."""


def key_of(image: bytes, model: str, words: Sequence[str], contrast: Sequence[str], n: int) -> str:
    """32 hex digits of all that a result depends on.

    Args:
        image: the file's bytes.
        model: the model's fingerprint.
        words: what is looked for.
        contrast: what they are compared with.
        n: the windows.
    """
    settings = json.dumps([VERSION, model, list(words), list(contrast), n])
    return hashlib.sha256(settings.encode() + hashlib.sha256(image).digest()).hexdigest()[:32]


def read_facts(folder: Path, name: str, key: str) -> dict[str, Any] | None:
    """What an earlier run wrote of an image; None if it has not, or of something else."""
    try:
        facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_same = isinstance(facts, dict) and facts.get("key") == key
    if not is_same or not all((folder / file).exists() for file in facts["files"]):
        return None
    found: dict[str, Any] = facts
    return found


def write_files(
    folder: Path, name: str, facts: Mapping[str, Any], found: Localization, image: Image.Image
) -> dict[str, Any]:
    """Write an image's files; pictures of an earlier run for other words are removed.

    Args:
        folder: where they go; it is made if need be.
        name: the beginning of their names.
        facts: the image's location, its ``key``, and what ``facts_of`` gives.
        found: the localisation.
        image: the upright RGB image.

    Returns:
        The facts, with the names of the files.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        words=np.array(found.words),
        cells=found.cells,
        size=np.array(found.size),
        scores=np.array(found.scores, np.float32),
    )
    files = {f"{name}.npz": arrays.getvalue()}
    for i, word in enumerate(found.words):
        picture = io.BytesIO()
        found.overlay(i, image).save(picture, "PNG")
        files[f"{name}.{i + 1}-{file_stem(word)}.png"] = picture.getvalue()
    for file, data in files.items():
        write_whole(folder / file, data)
    written = {**facts, "files": sorted(files)}
    for earlier in folder.glob(f"{glob.escape(name)}.*.png"):
        is_ours = re.fullmatch(r"\d+-.+\.png", earlier.name.removeprefix(f"{name}."))
        if is_ours and earlier.name not in files:
            earlier.unlink(missing_ok=True)
    text = json.dumps(written, ensure_ascii=False, indent=2)
    write_whole(folder / f"{name}.json", text.encode())
    return written


def file_stem(text: str) -> str:
    """A text as part of a file's name: letters and digits of any script, joined by hyphens."""
    name = re.sub(r"[\W_]+", "-", text.lower()).strip("-").encode()[:MAX_STEM_BYTES]
    return name.decode(errors="ignore") or "word"


def names_of(locations: Sequence[str]) -> list[str]:
    """A name for the files of each image; those of equal names get a digest of their location."""
    stems = [file_stem(Path(location).stem) for location in locations]
    return [
        stem if stems.count(stem) == 1 else _told_apart(stem, location)
        for stem, location in zip(stems, locations, strict=True)
    ]


def free_name(folder: Path, name: str, location: str, key: str) -> str:
    """The name, or one with a digest where an earlier run gave it to another image."""
    try:
        earlier = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        is_ours = earlier["key"] == key or earlier["image"] == location
    except (OSError, ValueError, KeyError, TypeError):
        return name
    return name if is_ours else _told_apart(name, location)


def _told_apart(stem: str, location: str) -> str:
    return f"{stem}-{hashlib.sha256(location.encode()).hexdigest()[:8]}"
