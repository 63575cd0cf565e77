"""The rules of a system, bound to the columns that one table has."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fashionclip.catalog.feeds.feed import Feed, Names, column_key
from fashionclip.catalog.roles import bare_name, is_usual
from fashionclip.catalog.tables.table import Cell
from fashionclip.catalog.values import as_text

ID, IMAGE, GROUP = "id", "image", "group"
"""The columns of these roles, where the table has none."""
OPTIONS = " options"
"""What is added to the name of a column, whose cells are moved."""
MAX_NUMBERED = 50
"""The highest number that stands for ``#`` in a column's name."""


@dataclass(slots=True)
class FeedRow:
    """A row of a feed, with what the rules say of it."""

    seq: int
    """Its place in the file; unlike its number it is unique."""
    up: int | None
    """The place of the row that it refers to."""
    number: int
    id: str
    """Its own identifier; empty if it has none."""
    cells: dict[str, Cell]
    """Those that are not blank."""
    is_mended: bool
    is_parent: bool
    """Whether it says of itself that it only holds what its variants share."""
    is_variant: bool
    """Whether it is a variant, and not just a picture of its product."""


@dataclass(frozen=True)
class Rules:
    """Which columns of a table the rules of its system are about; empty where there is none."""

    feed: Feed
    names: Names
    """The table's columns, as products have them."""
    roles: Mapping[str, Names]
    """The columns of each role that the table has, best first."""
    id: Names
    image: str
    """Where a product's picture is kept."""
    other_images: Names
    """The columns that it is taken from where its own is blank."""
    own_pictures: Names
    """The columns of a variant's own picture, best first."""
    group: str
    """The column of the role, which tells the products of a group from others."""
    parent: str
    named_by: tuple[tuple[str, str], ...]
    """Prefix and column of what ``parent`` and ``children`` name."""
    children: str
    shared_value: str
    """The column whose value the rows of a product share."""
    lists: str
    first_of: Names
    evidence: Names
    of_parent: Names
    inherited: frozenset[str]
    """Columns that a variant inherits."""
    position: str
    gallery: str
    gallery_position: str
    picture_key: str
    pairs: tuple[tuple[str, str], ...]
    """Columns of an option's name and value."""
    packed: Names
    """Columns of several options."""
    variant_names: str
    """The column that names a product, and in its variants holds their options."""
    plain_options: Names
    plain_colours: Names
    """Those of them that are usual for colours."""
    ordering: Names
    """Columns of options, by which variants are ordered."""
    view: str
    prices: Names
    """The columns of price and sale price."""
    title: str
    parent_rows: Mapping[str, frozenset[str]]
    picture_rows: Mapping[str, frozenset[str]]
    only: Mapping[str, frozenset[str]]
    leave_out: Mapping[str, frozenset[str]]
    drafts: Mapping[str, frozenset[str]]
    not_on_sale: Mapping[str, frozenset[str]]
    micros: Names
    escaped: Names
    replaced: frozenset[str]
    """Columns that others replace."""
    option_columns: dict[str, str]
    """Bare names of the options found so far, and their columns."""

    @property
    def id_column(self) -> str:
        """Where a product's identifier is kept."""
        return self.id[0] if self.id else ID

    def option_column(self, name: str) -> str:
        """The column of an option; the first spelling of its name counts."""
        bare = bare_name(name)
        if bare not in self.option_columns:
            is_taken = bare in map(bare_name, set(self.names) - self.replaced)
            self.option_columns[bare] = f"{name} option" if is_taken else name
        return self.option_columns[bare]

    def id_of(self, cells: Mapping[str, Cell]) -> str:
        """A row's own identifier; empty if it has none."""
        for name in self.id:
            if name in cells and (found := as_text(cells[name]).strip()):
                return found
        return ""

    def is_parent(self, cells: Mapping[str, Cell]) -> bool:
        """Whether a row says of itself that it only holds what its variants share."""
        return bool(matching(cells, self.parent_rows))

    def is_variant(self, cells: Mapping[str, Cell]) -> bool:
        """Whether a row is a variant, and not just a picture of its product."""
        if self.picture_rows and matching(cells, self.picture_rows):
            return False
        return not self.evidence or any(name in cells for name in self.evidence)

    def left_out_by(self, cells: Mapping[str, Cell]) -> str:
        """The column that says that a row is no product; empty if none says so."""
        for name, values in self.only.items():
            if as_text(cells.get(name)).strip() and not matching(cells, {name: values}):
                return name
        return matching(cells, self.leave_out)

    @property
    def changes_rows(self) -> bool:
        """Whether the rules group, change, leave out or count rows."""
        grouped = self.shared_value or self.parent or self.children or self.lists
        return bool(
            grouped
            or self.parent_rows
            or self.leave_out
            or self.drafts
            or self.not_on_sale
            or self.only
            or self.feed.missing
            or self.view
            or self.replaced
            or self.first_of
            or len(self.id) > 1
        )


def bind(feed: Feed, names: Names, mapping: Mapping[str, str | Sequence[str]]) -> Rules:
    """Find the columns of a system's rules in a table.

    Args:
        feed: the system.
        names: the table's columns, less what ``feed.drop`` says.
        mapping: roles that the user mapped; they come before those of the system.
    """
    first_of = feed.first_of
    fields = {name for listed in feed.roles.values() for name in listed}
    columns = _Columns(
        (*names, *(n for n in fields if n.startswith(tuple(f"{each}." for each in first_of))))
    )
    if feed.variants.lists:
        listed = columns.first(feed.variants.lists)
        roles = {role: columns.every(wanted, prefix=listed) for role, wanted in feed.roles.items()}
    else:
        listed = ""
        roles = {role: columns.every(wanted) for role, wanted in feed.roles.items()}
    for role, mapped in mapping.items():
        roles[role] = columns.every((mapped,) if isinstance(mapped, str) else tuple(mapped))
    variants, options = feed.variants, feed.options
    pairs = columns.pairs(options.name, options.value, prefix=listed)
    packed = columns.every(options.pairs, prefix=listed)
    if variant_names := columns.first(options.names):
        packed = (*packed, variant_names + OPTIONS)
    plain_options = columns.every(options.columns, prefix=listed)
    image = (roles.get("image") or (IMAGE,))[0]
    own_pictures = (*columns.every(variants.pictures, prefix=listed), image)
    gallery = columns.first(variants.gallery)
    galleries = columns.every(variants.gallery)
    ids = roles.get("id", ())
    own = {
        name
        for name in names
        if any(fnmatchcase(name.lower(), pattern.lower()) for pattern in variants.own)
    }
    own |= {*ids, *own_pictures, gallery, *(value for _, value in pairs)}
    replaced = {name for pair in pairs for name in pair} | set(packed)
    if listed:
        replaced |= {listed, gallery}
    return Rules(
        feed=feed,
        names=names,
        roles=roles,
        id=ids,
        image=image,
        other_images=tuple(n for n in roles.get("image", ())[1:] if n not in galleries),
        own_pictures=tuple(dict.fromkeys(own_pictures)),
        group=(roles.get("group") or (GROUP,))[0],
        parent=columns.first(variants.parent),
        named_by=columns.prefixed(variants.named_by),
        children=columns.first(variants.children),
        shared_value=columns.first(variants.group),
        lists=listed,
        first_of=first_of,
        of_parent=columns.every(variants.of_parent),
        evidence=columns.every(variants.evidence, prefix=listed),
        inherited=frozenset(names) - own,
        position=columns.first(variants.position),
        gallery="" if gallery == image else gallery,
        gallery_position=columns.first(variants.gallery_position),
        picture_key=(columns.every(variants.picture_key, prefix=listed) or ("",))[0],
        pairs=pairs,
        packed=packed,
        variant_names=variant_names,
        plain_options=plain_options,
        plain_colours=tuple(name for name in plain_options if is_usual(name, "colour")),
        ordering=(*plain_options, *(value for _, value in pairs)),
        view=columns.first(feed.store_views.column) if feed.store_views else "",
        prices=(roles.get("price", ())[:1] + roles.get("sale_price", ())[:1]),
        title=(roles.get("title") or ("",))[0],
        parent_rows=columns.values(variants.parent_rows),
        picture_rows=columns.values(variants.picture_rows),
        only=columns.values(feed.only),
        leave_out=columns.values(feed.leave_out),
        drafts=columns.values(feed.drafts),
        not_on_sale=columns.values(feed.not_on_sale),
        micros=columns.every(feed.micros),
        escaped=columns.every(feed.escaped),
        replaced=frozenset(replaced),
        option_columns={},
    )


class _Columns:
    """The columns of a table, found by bare names."""

    def __init__(self, names: Names) -> None:
        """Index the names."""
        self._by_bare = {column_key(name): name for name in reversed(names)}
        self._exact = frozenset(names)

    def every(self, wanted: Sequence[str], *, prefix: str = "") -> Names:
        """All of some columns that the table has; those of a list's objects need no column yet."""
        found: dict[str, None] = {}
        for name in wanted:
            if prefix and name.startswith(f"{LIST}."):
                found[prefix + name.removeprefix(LIST)] = None
                continue
            numbers = range(1, MAX_NUMBERED + 1) if "#" in name else (0,)
            for number in numbers:
                column = self.find(name.replace("#", str(number)))
                if column:
                    found[column] = None
        return tuple(found)

    def find(self, name: str) -> str:
        """A column by its name, or by its bare name; empty if there is none."""
        return name if name in self._exact else self._by_bare.get(column_key(name), "")

    def first(self, wanted: Sequence[str]) -> str:
        """The first of some columns that the table has."""
        return next((found for found in map(self.find, wanted) if found), "")

    def values(self, wanted: Mapping[str, Names]) -> dict[str, frozenset[str]]:
        """Columns to values, in lower case, of the columns that the table has."""
        found = ((self.find(name), values) for name, values in wanted.items())
        return {name: frozenset(v.lower() for v in values) for name, values in found if name}

    def prefixed(self, wanted: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Prefix and column of ``id:ID`` and such."""
        parts = (name.rpartition(":") for name in wanted)
        found = ((before + colon, self.find(name)) for before, colon, name in parts)
        return tuple((before, column) for before, column in found if column)

    def pairs(self, name: Names, value: Names, *, prefix: str) -> tuple[tuple[str, str], ...]:
        """The columns of numbered options; a name without a number holds a list of names."""
        found: list[tuple[str, str]] = []
        for number in range(1, MAX_NUMBERED + 1) if value else ():
            names = self.every([each.replace("#", str(number)) for each in name])
            values = self.every([each.replace("#", str(number)) for each in value], prefix=prefix)
            if names and values and (not prefix or number <= MAX_LISTED_OPTIONS):
                found.append((names[0], values[0]))
        return tuple(found)


LIST = "*"
"""Stands for the column of lists in the columns of its objects: ``*.sku``."""
MAX_LISTED_OPTIONS = 3
"""Options of a variant in Shopify's JSON: option1, option2, option3."""


def filled(cells: Mapping[str, Cell], missing: Names = ()) -> dict[str, Cell]:
    """The cells that are neither blank nor words for "missing"."""
    blank = {"", *missing}
    return {
        name: cell
        for name, cell in cells.items()
        if (cell.strip() not in blank if cell.__class__ is str else cell or cell == 0)
    }


def objects_in(cell: Cell) -> Iterator[Mapping[str, Cell]]:
    """The objects of a list, also as GraphQL wraps them."""
    if isinstance(cell, Mapping):
        inner = next((cell[key] for key in ("edges", "nodes", "node") if key in cell), None)
        if inner is None:
            yield cell
        else:
            yield from objects_in(inner)
    elif isinstance(cell, list | tuple):
        for each in cell:
            yield from objects_in(each)


def matching(cells: Mapping[str, Cell], wanted: Mapping[str, frozenset[str]]) -> str:
    """The first column in which a row has one of some values; empty if it has none."""
    for name, values in wanted.items():
        if name not in cells:
            continue
        cell = cells[name]
        several = cell if isinstance(cell, list | tuple) else (cell,)
        if any(as_text(each).strip().lower() in values for each in several):
            return name
    return ""


_SLUG = re.compile(r"[^\w]+")


def slug(text: str) -> str:
    """Text as a part of an identifier: ``Light Blue`` is ``light-blue``."""
    return _SLUG.sub("-", text.strip().lower()).strip("-")
