"""The rules of a shop system as data, and which system a header is of.

``Feed`` is the whole language of the TOML files. Columns are compared as roles are: without case,
spaces and punctuation. Where a rule lists several columns, the first that the table has counts.
"""

import re
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.errors import CatalogError

PLAIN = "plain"
"""The format that has no rules."""

Names = tuple[str, ...]

_OneOrMore = Annotated[Names, BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Part):
    """How a system is recognised."""

    all: Names
    """Columns that every export has. ``Handle | URL handle`` is either."""
    any: Names = ()
    """Columns of which it has one or more; the more, the surer."""


class Variants(_Part):
    """Which rows are variants of one product.

    At most one of ``group``, ``parent``, ``children`` and ``lists`` finds the rows of a product.
    With ``parent_rows`` alone, they are the rows from one such row to the next.
    """

    group: Names = ()
    """The column whose value the rows of a product share."""
    fill_down: bool = False
    """Whether an empty ``group`` means that of the row above."""
    parent: Names = ()
    """The column in which a variant names its parent."""
    named_by: Names = ()
    """What ``parent`` or ``children`` names: columns, perhaps with a prefix (``id:ID``)."""
    children: Names = ()
    """The column in which a parent names its variants, as ``sku=A,size=S|sku=B,size=M``."""
    lists: Names = ()
    """The column whose cells are lists of objects, each a variant of the row (JSON)."""
    parent_rows: dict[str, Names] = {}
    """Column to values of the rows that only hold what their variants share."""
    picture_rows: dict[str, Names] = {}
    """Column to values of the rows that only add pictures."""
    evidence: Names = ()
    """Columns of which a variant has one or more; other rows only add pictures. None: all are
    variants."""
    own: Names = ()
    """Columns that a variant does not inherit, spelled as in the table in any case, with ``*`` and
    ``?`` as wildcards."""
    of_parent: Names = ()
    """Columns that a variant takes from its parent, whatever its own cells say."""
    position: Names = ()
    """The column that orders variants; otherwise sizes and numbers do."""
    pictures: Names = ()
    """Columns of a variant's own picture, before that of the role ``image``."""
    gallery: Names = ()
    """Pictures of the product as a whole: a column, or a column of lists (JSON)."""
    gallery_position: Names = ()
    """The column that orders ``gallery``."""
    picture_key: Names = ()
    """The column of a variant with the ``id`` of its picture in ``gallery`` (JSON)."""


class Options(_Part):
    """Options such as size and colour, which become columns of their own names."""

    name: _OneOrMore = ()
    """The column of an option's name; ``#`` stands for 1, 2, 3 …"""
    value: _OneOrMore = ()
    """The column of its value, with ``#`` likewise."""
    pairs: Names = ()
    """Columns of several options: ``size=S,color=Red``, or a list of names and values (JSON)."""
    equals: str = "="
    """What stands between name and value in ``pairs``."""
    names: Names = ()
    """Columns that name a product, and in the rows of its variants hold their options."""
    columns: Names = ()
    """Columns that are options already, such as ``size``."""
    separator: str = ""
    """What stands between several values, and after ``\\`` in one; empty if there is one."""
    no_option: Names = ()
    """Values that mean "no options"."""


class StoreViews(_Part):
    """Rows that translate a product for one view of the shop."""

    column: Names
    default: Names
    """Its values in rows of the view that the shop shows, whose words always apply."""


class Feed(_Part):
    """A shop system's export: how it is recognised, and what its rows mean."""

    name: str
    """The name for ``--format``."""
    title: Annotated[str, Field(min_length=1)]
    """What it is called in messages: "Shopify product export"."""
    header: Header
    drop: Names = ()
    """Patterns of what is dropped from the columns' names, such as ``^g:``."""
    roles: dict[str, Names] = {}
    """Role to columns, best first; ``#`` stands for 1, 2, 3 … An empty id is filled from the
    next column."""
    variants: Variants = Variants()
    options: Options = Options()
    store_views: StoreViews | None = None
    only: dict[str, Names] = {}
    """Column to the values that it has, if any, in rows that are products."""
    leave_out: dict[str, Names] = {}
    """Column to values of rows that are no products."""
    drafts: dict[str, Names] = {}
    """Column to values of products that the shop does not show; they are kept and counted."""
    first_of: Names = ()
    """Columns of objects, or of lists of them: the fields of the first become columns (JSON).
    Names must match exactly."""
    micros: Names = ()
    """Columns of amounts in millionths."""
    escaped: Names = ()
    """Columns in which ``\\n`` is written for a line end, and ``\\,`` for a comma."""
    not_on_sale: dict[str, Names] = {}
    """Column to values of rows whose sale price does not apply."""
    media_url: str = ""
    """Where pictures lie that are named without a folder."""
    missing: Names = ()
    """Cells that mean that there is nothing."""

    def column_names(self, names: Sequence[str]) -> dict[str, str]:
        """The table's columns to their names less what ``drop`` says, each name once."""
        renamed: dict[str, str] = {}
        taken: set[str] = set()
        for name in names:
            short = name
            for pattern in self.drop:
                short = re.sub(pattern, "", short) or short
            renamed[name] = name if short in taken or (short != name and short in names) else short
            taken.add(renamed[name])
        return renamed

    def fit(self, names: Sequence[str]) -> int:
        """How many columns of ``header`` a table has; 0 if it is not of this system."""
        has = self._columns_of(names).__contains__
        if not all(
            any(has(column_key(one)) for one in each.split("|")) for each in self.header.all
        ):
            return 0
        n_any = sum(has(column_key(name)) for name in self.header.any)
        return 0 if self.header.any and not n_any else len(self.header.all) + n_any

    def has_any(self, names: Sequence[str]) -> bool:
        """Whether a table has one of the columns of ``header``."""
        wanted = [one for each in self.header.all for one in each.split("|")]
        found = self._columns_of(names)
        return any(column_key(one) in found for one in (*wanted, *self.header.any))

    def _columns_of(self, names: Sequence[str]) -> set[str]:
        return {column_key(name) for name in self.column_names(names).values()}


def column_key(name: str) -> str:
    """What columns are compared by: the bare name, of JSON-LD's keywords with their ``@``."""
    name = name.strip()
    return name if name.startswith("@") else bare_name(name)


def read_toml(path: Path) -> Feed:
    """Read the rules of a system.

    Raises:
        CatalogError: the file cannot be read, or is not such rules.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        feed = Feed.model_validate({"name": path.stem, **data})
        for pattern in feed.drop:
            re.compile(pattern)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{path}: {where}: {first['msg']}; see docs/feeds.md for what a format may say"
        raise CatalogError(message) from exc
    except (OSError, ValueError, re.error) as exc:
        message = f"{path}: cannot be read as a format ({exc}); see docs/feeds.md for an example"
        raise CatalogError(message) from exc
    unknown = [role for role in feed.roles if role not in USUAL_NAMES]
    if unknown:
        message = f"{path}: roles.{unknown[0]}: no such role; there are: {', '.join(USUAL_NAMES)}"
        raise CatalogError(message)
    return feed


@cache
def known_feeds() -> tuple[Feed, ...]:
    """The systems of this folder, by name."""
    return tuple(map(read_toml, sorted(Path(__file__).parent.glob("*.toml"))))


def find_feed(names: Sequence[str], format: str | None, *, where: str) -> Feed | None:
    """The system that a table is an export of.

    Args:
        names: the table's columns.
        format: the name of a system, the path of a TOML file, ``plain`` for none; None to
            recognise the system by its header.
        where: the table, as messages name it.

    Returns:
        The system of which the table has most columns; None if it is of none.

    Raises:
        CatalogError: there is no such format, or the table has none of its columns.
    """
    if format == PLAIN:
        return None
    if format is None:
        best = max(known_feeds(), key=lambda feed: feed.fit(names))
        return best if best.fit(names) else None
    if format.endswith(".toml"):
        feeds = [read_toml(Path(format))]
    else:
        feeds = [feed for feed in known_feeds() if feed.name.split("-")[0] == format]
        feeds = [feed for feed in known_feeds() if feed.name == format] + feeds
    if not feeds:
        known = [PLAIN, *(feed.name for feed in known_feeds())]
        close = get_close_matches(format, known, n=1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        message = f"no format '{format}'{meant}; there are: {', '.join(known)}, or a .toml file"
        raise CatalogError(message)
    best = max(feeds, key=lambda feed: feed.fit(names))
    if not best.has_any(names):
        wanted = ", ".join(f"'{each}'" for each in best.header.all)
        message = f"{where}: not a {best.title}: that has the columns {wanted}; check --format"
        raise CatalogError(message)
    return best
