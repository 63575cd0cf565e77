"""Which column plays which part: found by its usual name, or mapped by hand.

Names are compared without case, spaces and punctuation: ``Product ID``, ``product_id`` and
``productId`` are the same name. Where a table has several usual names of a role, the first in
the list wins. Without a main image, the first of numbered ones is it. A column plays two parts
only if it is mapped to both.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from fashionclip.catalog.money import without_currency
from fashionclip.errors import CatalogError
from fashionclip.product import Roles

USUAL_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        role: tuple(names)
        for role, names in tomllib.loads(
            Path(__file__).with_name("roles.toml").read_text(encoding="utf-8")
        ).items()
    }
)
"""Usual names of each role, bare and best first, from ``roles.toml``. Roles further down take only
columns that those above have left."""

_USUAL_ROLES: dict[str, tuple[str, ...]] = {}
for _role, _names in USUAL_NAMES.items():
    for _name in _names:
        _USUAL_ROLES[_name] = (*_USUAL_ROLES.get(_name, ()), _role)

_VAGUE = frozenset({"id", "name", "title", "text", "label", "type", "code", "path", "file", "body"})
_PRODUCT = frozenset(
    {"product", "item", "node", "data", "attributes", "article", "source", "fields"}
)
_NOT_NAME = re.compile(r"[\W_]+")
_WITH_TAX = re.compile(
    r"(?:inc|incl|including|inkl|inklusive|with|mit|avec|con|ink)(?:vat|tax|mwst|ust|gst|iva|tva|btw|moms)$"
)
_NUMBERED = re.compile(r"(\D+)(\d{1,4})(\D*)")
_MAX_VIEWS = 100
"""A larger number is no view's but a size, as of Odoo's ``image_1920``."""
MAX_NAME_CHARS = 200
"""Longer text is no usual name; to look for one in each of its ends would take minutes."""


@lru_cache(8192)
def bare_name(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    name = unicodedata.normalize("NFKC", name).lower().replace("\u0131", "i")  # Turkish i
    return _NOT_NAME.sub("", name)


def usual_name(name: str) -> str:
    """The bare name that a column's role is found by.

    Of the dotted name of a nested value, the longest end that is usual counts: ``offers.price`` is
    ``price``, ``brand.name`` is ``brandname``. A last part that names anything, such as ``name``,
    counts only below a product: ``product.name``, not ``seller.name``. A price is found without the
    currency or the tax at its name's end: ``Price (EUR)``, ``Price incl. VAT``.
    """
    if name.endswith("@type"):  # of JSON-LD: what kind of object it is, not of product
        return name
    bare = bare_name(name)
    if len(name) > MAX_NAME_CHARS or bare in _USUAL_ROLES:
        return bare
    unit_less = _WITH_TAX.sub("", bare_name(without_currency(name)[0]))
    if {"price", "sale_price"} & set(_USUAL_ROLES.get(unit_less, ())):
        return unit_less
    if "." not in name:
        return bare
    parts = name.split(".")
    for i in range(1, len(parts)):
        end = bare_name("".join(parts[i:]))
        if end in _USUAL_ROLES:
            is_vague = i == len(parts) - 1 and end in _VAGUE
            return bare if is_vague and bare_name(parts[-2]) not in _PRODUCT else end
    return bare


@lru_cache(8192)
def is_usual(name: str, role: str) -> bool:
    """Whether a column of this name usually has this role.

    Further images may be numbered: ``image_2``, ``additional_image_1``, ``image3_url``.
    """
    if usual_name(name) in USUAL_NAMES[role]:
        return True
    unnumbered, number = _unnumbered(name)
    names = (*USUAL_NAMES["image"], *USUAL_NAMES["further_images"])
    return role == "further_images" and 0 <= number < _MAX_VIEWS and unnumbered in names


def _unnumbered(name: str) -> tuple[str, int]:
    """The usual name of a numbered column without its number, and that; -1 if it has none."""
    found = _NUMBERED.fullmatch(usual_name(name))
    return (found[1] + found[3], int(found[2])) if found else ("", -1)


def _numbered_images(names: Sequence[str]) -> list[str]:
    """Columns of numbered images, best first: the first view, or the largest size."""
    ranked = []
    for name in names:
        unnumbered, number = _unnumbered(name)
        if unnumbered in USUAL_NAMES["image"]:
            rank = USUAL_NAMES["image"].index(unnumbered)
            is_size = number >= _MAX_VIEWS
            ranked.append((rank, is_size, -number if is_size else number, name))
    return [name for *_, name in sorted(ranked)]


def usual_role(
    name: str, mapping: Mapping[str, str | Sequence[str]] = MappingProxyType({})
) -> str | None:
    """The role that a column of this name has: the one that it is mapped to, or usually has.

    Args:
        name: the column.
        mapping: role to columns, by hand; such a role has no usual names.
    """
    if len(name) > MAX_NAME_CHARS:
        return None
    bare = bare_name(name)
    for role, columns in mapping.items():
        if bare in map(bare_name, [columns] if isinstance(columns, str) else columns):
            return role if bare else None
    bare = usual_name(name)
    roles = _USUAL_ROLES.get(bare, ("further_images",))
    return next((r for r in roles if r not in mapping and is_usual(name, r)), None)


def guess_roles(
    names: Sequence[str],
    mapped: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    preferred: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Roles:
    """Decide which column plays which part, by the usual names.

    Args:
        names: the table's columns.
        mapped: the columns of roles that are known already; an empty tuple for a role that no
            column plays.
        preferred: columns of roles that come before those of usual names, best first.
    """
    worst_first = sorted(  # nested ones, then those with more than the usual name: price (EUR)
        reversed(names), key=lambda name: (-name.count("."), usual_name(name) == bare_name(name))
    )
    by_bare = {usual_name(name): name for name in worst_first}
    known = {role: [n for n in columns if n in names] for role, columns in preferred.items()}
    found = dict(mapped)
    for role, usual_names in USUAL_NAMES.items():
        if role in mapped:
            continue
        taken = {name for columns in found.values() for name in columns}
        if role == "further_images":
            usual = [*known.get(role, ()), *(name for name in names if is_usual(name, role))]
            found[role] = tuple(dict.fromkeys(name for name in usual if name not in taken))
            continue
        reserved = {n for other, ns in known.items() if other != role for n in ns[:1]}
        unreserved = [by_bare.get(usual) for usual in usual_names]
        if role == "image":
            unreserved += _numbered_images(names)
        candidates = (*known.get(role, ()), *(n for n in unreserved if n not in reserved))
        found[role] = tuple(name for name in candidates if name and name not in taken)[:1]
    further_images = found.pop("further_images")
    return Roles(
        **{role: columns[0] for role, columns in found.items() if columns},
        further_images=further_images,
    )


def find_roles(
    names: Sequence[str],
    mapping: Mapping[str, str | Sequence[str]],
    *,
    where: str,
    has_images_by_id: bool,
    preferred: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Roles:
    """Decide which column plays which part, and check the roles that a catalogue needs.

    Args:
        names: the table's columns.
        mapping: role to column, by hand, or to several for further images; an empty name leaves
            the role without a column.
        where: the table, as messages name it.
        has_images_by_id: images are found by the product's id, without a column.
        preferred: columns of roles that come before those of usual names, best first.

    Raises:
        CatalogError: an unknown role or column in the mapping, or no column for either image or
            title. Without one for the id, products are named by their rows.
    """
    roles = guess_roles(
        names,
        {role: _mapped(role, columns, names, where=where) for role, columns in mapping.items()},
        preferred,
    )
    is_open = not (roles.image or has_images_by_id or {"image", "further_images"} & set(mapping))
    if is_open and roles.further_images:
        first, *others = roles.further_images
        roles = replace(roles, image=first, further_images=tuple(others))
    has_content = roles.image or roles.title or roles.description
    if roles.id is None and not has_content:
        missing = "has no column of a usual name for the product's id; say which: --column id=NAME"
    elif not (has_content or has_images_by_id):
        missing = (
            "has no column of a usual name for images or titles; say which: "
            "--column image=NAME, --column title=NAME, or --images DIR for DIR/<id>.jpg"
        )
    else:
        return roles
    message = f"{where}: {missing} (columns: {_listed(names)})"
    raise CatalogError(message)


def _mapped(
    role: str, columns: str | Sequence[str], names: Sequence[str], *, where: str
) -> tuple[str, ...]:
    if role not in USUAL_NAMES:
        message = f"no role '{role}' for a column; there are: {', '.join(USUAL_NAMES)}"
        raise CatalogError(message)
    columns = [columns] if isinstance(columns, str) else list(columns)
    if len(columns) > 1 and role != "further_images":
        message = f"{len(columns)} columns for the {role}; a product has one, so name one"
        raise CatalogError(message)
    return tuple(_column(role, name, names, where=where) for name in columns if name)


def _column(role: str, name: str, names: Sequence[str], *, where: str) -> str:
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
