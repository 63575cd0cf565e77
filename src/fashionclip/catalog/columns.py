"""What a table's columns mean and hold: roles by their usual names, kinds by their values."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from fashionclip.errors import CatalogError
from fashionclip.product import Value

Kind = Literal["string", "integer", "number", "boolean"]
"""What a column holds; any value may also be missing (None)."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "productid", "sku", "articleid", "itemid", "styleid", "asin", "uuid", "handle"),
    "image": (
        "image",
        "imagepath",
        "imageurl",
        "imagelink",
        "imagefile",
        "imagefilename",
        "img",
        "imgurl",
        "picture",
        "pictureurl",
        "photo",
        "photourl",
        "productphotourl",
        "filename",
        "filepath",
    ),
    "title": (
        "title",
        "name",
        "productname",
        "producttitle",
        "productdisplayname",
        "displayname",
        "shortdescription",
        "caption",
        "text",
    ),
    "description": ("description", "longdescription", "productdescription", "details", "body"),
    "highlights": (
        "highlights",
        "highlight",
        "tags",
        "attributes",
        "articleattributes",
        "features",
        "keywords",
    ),
}
"""Usual names of each role's column, without case and punctuation; earlier ones win."""

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})  # in columns of numbers only
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_PADDED = re.compile(r"[+-]?0\d")  # an article number such as 00123, not a quantity


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column plays which part; None where the table has none."""

    id: str
    image: str | None
    title: str | None
    description: str | None
    highlights: str | None


def find_roles(
    names: Sequence[str], chosen: Mapping[str, str], *, place: str, has_folder: bool
) -> Roles:
    """Find each role's column by hand or by its usual names.

    Args:
        names: the table's columns.
        chosen: role to column, as the user mapped them.
        place: the table, for messages.
        has_folder: whether pictures can be found by product id in a folder.

    Raises:
        CatalogError: a mapped column or role is not there, or no column is the id, or the table
            has neither pictures nor titles.
    """
    for role, name in chosen.items():
        if role not in ROLES:
            message = f"no role is called '{role}'; the roles are {', '.join(ROLES)}"
            raise CatalogError(message)
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has {_listed(names)}"
            message = f"{place} has no column '{name}'{hint}"
            raise CatalogError(message)
    plain = {re.sub(r"[\W_]", "", name).casefold(): name for name in reversed(names)}
    taken = set(chosen.values())
    found: dict[str, str | None] = {}
    for role, usual in ROLES.items():
        free = (plain[word] for word in usual if word in plain and plain[word] not in taken)
        found[role] = chosen.get(role) or next(free, None)
    if found["id"] is None:
        message = (
            f"{place} has no column that looks like the product's id; it has {_listed(names)}. "
            "Say which one it is: --column id=NAME"
        )
        raise CatalogError(message)
    if found["image"] is None and found["title"] is None and not has_folder:
        message = (
            f"{place} has neither a picture nor a title column; it has {_listed(names)}. "
            "Say which they are: --column image=NAME --column title=NAME, or --images DIR"
        )
        raise CatalogError(message)
    return Roles(
        found["id"], found["image"], found["title"], found["description"], found["highlights"]
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "no columns"


class KindFinder:
    """Decides from all values of a text column what it holds; sees one value at a time."""

    def __init__(self) -> None:
        """Start with every kind possible."""
        self._kinds: list[Kind] = ["boolean", "integer", "number", "string"]
        self._is_empty = True

    def see(self, value: object) -> None:
        """Rule out the kinds that cannot hold this value."""
        if value is None or (isinstance(value, str) and value.strip().casefold() in _MISSING):
            return
        self._is_empty = False
        if len(self._kinds) > 1:
            self._kinds = [kind for kind in self._kinds if _fits(value, kind)]

    @property
    def kind(self) -> Kind:
        """The narrowest kind left; text for a column without values."""
        return "string" if self._is_empty else self._kinds[0]


def _fits(value: object, kind: Kind) -> bool:
    if kind == "string":
        return True
    if not isinstance(value, str):
        if isinstance(value, bool) or kind == "boolean":
            return isinstance(value, bool) and kind == "boolean"
        return isinstance(value, int) or (kind == "number" and isinstance(value, float))
    text = value.strip()
    if kind == "boolean":
        return text.casefold() in {"true", "false"}
    if kind == "integer":
        return _INTEGER.fullmatch(text) is not None
    return _NUMBER.fullmatch(text) is not None and _PADDED.match(text.split(".")[0]) is None


def convert(value: object, kind: Kind) -> Value:
    """Bring a raw value to its column's kind; None where it is missing."""
    if value is None:
        return None
    if kind == "string":
        text = value if isinstance(value, str) else _text(value)
        return text or None
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in _MISSING:
            return None
        if kind == "boolean":
            return text.casefold() == "true"
        return int(text) if kind == "integer" else float(text)
    if kind == "number" and isinstance(value, int | float):
        return float(value)
    return value if isinstance(value, int | float) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def read_highlights(value: object) -> list[str]:
    """Read highlights from a list, an object, JSON text, or text cut at ``|`` or ``;``."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in {"{", "["}:
            try:
                return read_highlights(json.loads(text))
            except ValueError:
                pass  # words that merely begin with a bracket
        return [part.strip() for part in re.split(r"[|;]", text) if part.strip()]
    if isinstance(value, Mapping):
        return read_highlights(list(value.values()))
    if isinstance(value, Iterable):
        return [str(part).strip() for part in value if part is not None and str(part).strip()]
    return [] if value is None else [str(value)]
