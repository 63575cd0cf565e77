"""Which column plays which part: found by its usual name, or mapped by hand.

Names are compared without case, spaces and punctuation: ``Product ID``, ``product_id`` and
``productId`` are one name. Where a table has several usual names of a role, the one further to
the front of the list is taken; no column plays two parts unless it is mapped so.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from fashionclip.catalog.rows import Cell
from fashionclip.catalog.values import MISSING, as_text
from fashionclip.errors import CatalogError

ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "id": (
            "productid", "id", "sku", "articleid", "itemid", "productcode", "productsku",
            "variantsku", "styleid", "articlenumber", "asin", "gtin", "ean", "code", "uid",
            "imageid", "handle",
        ),
        "image": (
            "image", "imagepath", "imageurl", "imagelink", "imagesrc", "imagefile",
            "imagename", "imagefilename", "mainimage", "mainimageurl", "images",
            "imageurls", "img", "imgurl", "imgpath", "productimage", "productimageurl",
            "productphotourl", "photo", "photourl", "picture", "pictureurl", "filename",
            "file", "filepath", "path", "media", "thumbnail", "thumbnailurl",
        ),
        "title": (
            "title", "productdisplayname", "producttitle", "productname", "prodname",
            "name", "itemname", "shortdescription", "displayname", "caption", "text",
        ),
        "description": (
            "description", "productdescription", "longdescription", "detaildesc", "desc",
            "bodyhtml", "body", "details", "productdetails",
        ),
        "highlights": (
            "highlights", "highlight", "articleattributes", "attributes", "productattributes",
            "tags", "keywords", "features", "bulletpoints",
        ),
        "price": (
            "price", "saleprice", "regularprice", "variantprice", "unitprice",
            "currentprice", "discountedprice", "amount",
        ),
        "brand": ("brand", "brandname", "vendor", "manufacturer", "designer", "label"),
        "category": (
            "category", "producttype", "articletype", "categoryname", "productcategory",
            "producttypename", "googleproductcategory", "categories", "subcategory",
            "mastercategory", "type",
        ),
    }
)  # fmt: skip
"""Usual names of each role, bare and best first, from shop systems, feeds and public data sets."""

MAX_HIGHLIGHTS = 1_000


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column plays which part; None where the table has none."""

    id: str
    image: str | None = None
    title: str | None = None
    """The short description of FashionCLIP's captions."""
    description: str | None = None
    """The long one; stands in for the title where there is none."""
    highlights: str | None = None
    price: str | None = None
    brand: str | None = None
    category: str | None = None


_NOT_NAME = re.compile(r"[\W_]+")
_SEPARATORS = re.compile(r"[|;\n\r]+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_NEXT_URL = re.compile(r"[,|;\s]+(?=https?://)")


def bare_name(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return _NOT_NAME.sub("", name).lower()


def is_usual(name: str, role: str) -> bool:
    """Whether a column of this name usually has this role."""
    return bare_name(name) in ROLES[role]


def find_roles(
    names: Sequence[str], mapping: Mapping[str, str], *, where: str, has_pictures_by_id: bool
) -> Roles:
    """Say which column plays which part.

    Args:
        names: the table's columns.
        mapping: role to column, by hand; an empty name leaves the role without a column.
        where: the table, as messages name it.
        has_pictures_by_id: pictures are found without a column, by the product's id.

    Raises:
        CatalogError: an unknown role or column in the mapping, or no column for the id, or none
            for either picture or title.
    """
    roles: dict[str, str] = {
        role: _mapped(role, name, names, where=where) for role, name in mapping.items() if name
    }
    by_bare = {bare_name(name): name for name in reversed(names)}
    for role, usual_names in ROLES.items():
        if role in mapping:
            continue
        taken = set(roles.values())
        found = (by_bare.get(usual) for usual in usual_names)
        name = next((name for name in found if name and name not in taken), None)
        if name is not None:
            roles[role] = name
    if "id" not in roles:
        missing = "has no column of a usual name for the product's id; say which: --column id=NAME"
    elif not ({"image", "title", "description"} & roles.keys() or has_pictures_by_id):
        missing = (
            "has no column of a usual name for pictures or titles; say which: "
            "--column image=NAME, --column title=NAME, or --images DIR for DIR/<id>.jpg"
        )
    else:
        return Roles(**roles)
    message = f"{where}: {missing} (columns: {_listed(names)})"
    raise CatalogError(message)


def _mapped(role: str, name: str, names: Sequence[str], *, where: str) -> str:
    if role not in ROLES:
        message = f"no role '{role}' for a column; there are: {', '.join(ROLES)}"
        raise CatalogError(message)
    if name in names:
        return name
    alike = [other for other in names if bare_name(other) == bare_name(name)]
    if len(alike) == 1:
        return alike[0]
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    message = f"{where}: no column '{name}' for the {role}{hint} (columns: {_listed(names)})"
    raise CatalogError(message)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(" ".join(name.split())[:40] for name in names[:40])
    return shown + (f" and {len(names) - 40} more" if len(names) > 40 else "")


def id_of(cell: Cell) -> str:
    """A product's identifier; empty if there is none."""
    return "" if isinstance(cell, bytes) else as_text(cell).strip()


def picture_of(cell: Cell) -> str | bytes | None:
    """What a cell says of a picture: its location, its bytes, or nothing.

    Takes what catalogues have in such columns: a path or URL, several URLs in a row (the first
    counts), a list, bytes, and the ``{"bytes", "path"}`` of Hugging Face data sets.
    """
    if isinstance(cell, bytes):
        return cell or None
    if isinstance(cell, str):
        first, *_ = _NEXT_URL.split(cell.strip(), maxsplit=1)
        return first or None
    if isinstance(cell, list | tuple):
        return next((found for found in map(picture_of, cell[:10]) if found), None)
    if isinstance(cell, Mapping):
        parts = (cell.get(key) for key in ("bytes", "path", "url", "src"))
        return next((found for found in map(picture_of, parts) if found), None)
    return None if cell is None or isinstance(cell, bool) else as_text(cell)


def highlights_of(cell: Cell) -> list[str]:
    """A product's highlights, as phrases.

    Takes a list, an object (its values count: ``{"Neck": "Round Neck"}``), JSON text of either,
    or phrases with ``|``, ``;`` or line ends between them. Values without a letter, such as
    counts, and words for "none" say nothing and are left out.
    """
    phrases = (phrase.strip() for phrase in _phrases(cell, depth=0))
    return [phrase for phrase in phrases if _says_something(phrase)][:MAX_HIGHLIGHTS]


def _phrases(cell: Cell, *, depth: int) -> Iterable[str]:
    if isinstance(cell, str):
        return _split_text(cell, depth=depth)
    if isinstance(cell, Mapping):
        cell = list(cell.values())
    if isinstance(cell, list | tuple) and depth < 4:
        return [phrase for inner in cell for phrase in _phrases(inner, depth=depth + 1)]
    return []


def _split_text(text: str, *, depth: int) -> Iterable[str]:
    text = text.strip()
    if depth == 0 and text[:1] + text[-1:] in {"[]", "{}"}:
        try:
            return _phrases(json.loads(text), depth=1)
        except (ValueError, RecursionError):
            if text[0] == "[":  # how pandas writes a list into a CSV
                return [single or double for single, double in _QUOTED.findall(text)]
    return [text] if depth else _SEPARATORS.split(text)


def _says_something(phrase: str) -> bool:
    return phrase.lower() not in MISSING and any(letter.isalpha() for letter in phrase)
