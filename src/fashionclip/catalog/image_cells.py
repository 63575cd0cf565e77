"""A cell of an image column to what it names: locations or bytes."""

import ast
import csv
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fashionclip.catalog.tables.table import Cell
from fashionclip.catalog.values import as_text
from fashionclip.images import IMAGE_SUFFIXES
from fashionclip.images.fetch import is_url

MAX_DEPTH = 8
"""Lists within lists beyond it are left out."""
_KEYS = (
    *("bytes", "path"),  # Hugging Face data sets
    *("contentUrl", "content_url", "url", "src", "link", "href"),  # schema.org, shops' APIs
    *("image", "image_url", "file_name", "hi_res", "large", "original"),
)
"""Where an object keeps its image; the first that is filled counts."""
_NEXT_URL = re.compile(r"[,;|\s]+(?=(?:[A-Za-z][A-Za-z0-9+.\-]+:)?//)")
_SEPARATORS = tuple(
    map(re.compile, (r"[,;|\s]+", r"[,;|\n\r\t]+", r"[\n\r]+", r"\t+", r"\|+", ";+", ",+"))
)
_PLAIN = re.compile(r"[^\s&()\[\]{}<>\"']+")
_WRAPPED = (
    re.compile(  # HTML
        r"<img\s[^<]*?(?<![\w-])src\s*=\s*(?:\"([^\"<>]+)\"|'([^'<>]+)'|([^\s\"'<>]+))", re.I
    ),
    re.compile(r"\A<([^\s<>]+)>\Z"),
    re.compile(r"\A=[\w.]+\(\s*\"([^\"]+)\""),  # =IMAGE("…") of spreadsheets
    re.compile(r"\(((?:https?:)?//[^\s()]+)\)\s*(?:,|\Z)"),  # Airtable: name (URL),name (URL)
)
"""Notations that wrap the images' names in something else."""
_ATTRIBUTES = re.compile(r"\s! alt :[^|]*")  # WooCommerce's CSV Import Suite
_AMPERSAND = re.compile(r"&(?:amp|#0*38);")
_QUOTED = re.compile(r"(?<=['\"])[^'\"]*[^'\"\s][^'\"]*(?=['\"])")
_QUOTES_WITHOUT_COMMA = re.compile(r"['\"]\s+['\"]")
_BRACKETS = frozenset({"[]", "{}", "()"})


def image_locations_of(cell: Cell) -> list[str | bytes]:
    """The images that a cell names, each once and in their order; the first is the main one.

    A cell may hold a path or URL, several of them (separated by line ends, white space, ``|``,
    ``;`` or ``,``, quoted or not), a list (of Python or JSON, or as their text), bytes, or objects:
    the ``{"bytes", "path"}`` of Hugging Face data sets, schema.org's ImageObject, and those of
    shops' APIs. Of ``<img src>``, ``=IMAGE("…")`` and Airtable's ``name (URL)`` the images count. A
    separator within a name stays: text is split only where every part names an image.
    """
    if isinstance(cell, str) and _PLAIN.fullmatch(cell):  # most cells, in a fifth of the time
        names = cell.replace(";", ",").replace("|", ",").split(",")
        if len(names) == 1 or _name_images(names):
            return list(dict.fromkeys(names))
    return list(dict.fromkeys(_images(cell, depth=0)))


def unused_images(
    examples: Mapping[str, Sequence[str]], image: str | None, further: Sequence[str]
) -> Iterator[str]:
    """Sentences on columns that name image files, although others have the roles.

    Args:
        examples: of the cells of each column but those of bytes.
        image: the column of the main image, None if there is none.
        further: the columns of other views.
    """
    if image is not None and (image not in examples or any(map(_may_be_image, examples[image]))):
        return
    for name, cells in examples.items():
        if name not in further and cells and all(map(_names_images, cells)):
            other = "" if image is None else f", and '{image}' does not"
            option = shlex.quote(f"image={name}")  # a name may have spaces
            yield f"the column '{name}' names images{other}; use it: --column {option}"


def _names_images(text: str) -> bool:
    images = image_locations_of(text)
    return bool(images) and all(isinstance(one, str) and _has_suffix(one) for one in images)


def _may_be_image(text: str) -> bool:
    return _names_images(text) or is_url(text) or text.startswith(("/", "{", "["))


def _images(cell: Cell, *, depth: int) -> Iterable[str | bytes]:
    if cell is None or isinstance(cell, bool) or depth > MAX_DEPTH:
        return []
    if isinstance(cell, bytes):
        return [cell] if cell else []
    if isinstance(cell, str):
        return _images_of_text(cell.strip(), depth=depth)
    if isinstance(cell, list | tuple):
        return [image for inner in cell for image in _images(inner, depth=depth + 1)]
    if isinstance(cell, Mapping):
        found = (list(_images(cell.get(key), depth=depth + 1)) for key in _KEYS)
        return next((images for images in found if images), [])
    return [as_text(cell)]


def _images_of_text(text: str, *, depth: int) -> Iterable[str | bytes]:
    if text[:1] + text[-1:] in _BRACKETS and (inner := _parse(text)) is not None:
        return _images(inner, depth=depth + 1)
    if text[:5].lower() == "data:":  # it holds ; and , of its own
        return [text]
    if text[:1] in {"<", "="} or text[-1:] == ")":
        for notation in _WRAPPED:
            if names := [found[found.lastindex or 0] for found in notation.finditer(text)]:
                return [_mend(name.strip()) for name in names if name.strip()]
    text = _ATTRIBUTES.sub("", text)
    return [_mend(name) for name in _unquoted(text) or _split(text)]


def _parse(text: str) -> Cell:
    """The value that a bracketed text stands for; None if it is none."""
    is_of_numpy = _QUOTES_WITHOUT_COMMA.search(text) is not None
    for parse in (json.loads, _QUOTED.findall if is_of_numpy else ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return _fields(text[1:-1], quote='"')  # an array of PostgreSQL, or a list without quotes


def _unquoted(text: str) -> list[str] | None:
    """The names in a text where each is quoted, as within a line of CSV; None if it is none."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in {'"', "'"}
    return _fields(text, quote=text[0]) if is_quoted else None


def _fields(text: str, *, quote: str) -> list[str] | None:
    line = " ".join(text.split())
    try:
        (parts,) = csv.reader([line], skipinitialspace=True, escapechar="\\", quotechar=quote)
    except (ValueError, csv.Error):
        return None
    return parts if all(_has_suffix(part) or _is_rooted(part) for part in parts) else None


def _split(text: str) -> list[str]:
    if len(parts := _NEXT_URL.split(text)) > 1:
        return [name for part in parts for name in _split(part)]
    for separator in _SEPARATORS:
        parts = [part.strip() for part in separator.split(text)]
        parts = [part for part in parts if part]
        if _name_images(parts):
            return parts
    return [text] if text else []


def _name_images(parts: Sequence[str]) -> bool:
    return all(map(_has_suffix, parts)) or all(map(_is_rooted, parts))


def _has_suffix(name: str) -> bool:
    path = name.partition("?")[0].partition("#")[0]
    return path.endswith(IMAGE_SUFFIXES) or path.lower().endswith(IMAGE_SUFFIXES)


def _is_rooted(name: str) -> bool:
    return name.startswith("/") or is_url(name)


def _mend(name: str) -> str:
    is_of_web = name.startswith("//") or is_url(name)
    return _AMPERSAND.sub("&", name) if is_of_web else name
