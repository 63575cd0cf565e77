"""The state of the search page, which its URL holds completely.

A state is parsed from a URL's query and written back to one. So every link of the page is a state
with one change, and a copied URL shows the same products.
"""

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

from fashionclip.product import INT64, Kind
from fashionclip.serve.page.changes import slider_changes

PAGE_SIZE = 24
"""Products per page: fills rows of 2, 3, 4 and 6."""

MODES = frozenset({"vectors", "words"})
"""What a text can be compared with besides both; other words in a URL are ignored."""

MAX_ELEMENT_CHARS = 200
"""A longer value is no element of a list that can be chosen."""

Range = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class State:
    """One search: text, image, products to resemble or not, filters, offset."""

    text: str = ""
    image: str | None = None
    """The token of an uploaded image; see ``images.UploadedImages``."""
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    """How hits should differ: see ``Query.but``."""
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Chosen values of each column; a product passes with any one of them."""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """Lowest and highest accepted value of each numeric column."""
    sort: str = ""
    """A column or role, descending with ``-`` before it; empty for the order of relevance."""
    mode: str = ""
    """What the text is compared with: ``vectors`` or ``words``; empty for both."""
    group: bool = False
    explain: bool = False
    offset: int = 0

    @classmethod
    def read(cls, query: Iterable[tuple[str, str]]) -> "State":
        """Parse a URL's query; blank values and invalid numbers are ignored."""
        several: dict[str, list[str]] = {}
        for name, value in query:
            if value.strip():
                several.setdefault(name, []).append(value.strip())
        once = {name: tuple(dict.fromkeys(values)) for name, values in several.items()}
        last = {name: values[-1] for name, values in once.items()}
        bounds: dict[str, Range] = {}
        for name, value in last.items():
            end, dot, column = name.partition(".")
            number = read_number(value)
            if dot and column and end in {"min", "max"} and number is not None:
                low, high = bounds.get(column, (None, None))
                bounds[column] = (number, high) if end == "min" else (low, number)
        return cls(
            text=last.get("q", ""),
            image=last.get("picture"),
            like=once.get("like", ()),
            unlike=once.get("unlike", ()),
            avoid=once.get("avoid", ()),
            but=tuple(dict.fromkeys((*once.get("but", ()), *slider_changes(last)))),
            chosen={name[2:]: values for name, values in once.items() if name[:2] == "f." != name},
            ranges=bounds,
            sort=last.get("sort", ""),
            mode=last.get("mode", "") if last.get("mode") in MODES else "",
            group="group" in last,
            explain="explain" in last or "scores" in last,  # the name of old links
            offset=_read_offset(last.get("offset", "")),
        )

    @property
    def is_start(self) -> bool:
        """Whether the search is empty."""
        return replace(self, explain=False, mode="", group=False) == State()

    @property
    def is_ranked(self) -> bool:
        """Whether products are ranked, not just listed."""
        return bool(self.text or self.image or self.like or self.unlike or self.avoid)

    @property
    def is_filtered(self) -> bool:
        """Whether there are filters."""
        return bool(self.chosen or self.ranges)

    def pairs(self) -> list[tuple[str, str]]:
        """The URL's query as names and values, in a fixed order."""
        pairs = [("q", self.text)] if self.text else []
        pairs += [("picture", self.image)] if self.image else []
        for name in ("like", "unlike", "avoid", "but"):
            pairs += [(name, value) for value in getattr(self, name)]
        for column, values in self.chosen.items():
            pairs += [(f"f.{column}", value) for value in values]
        for column, ends in self.ranges.items():
            for name, end in zip(("min", "max"), ends, strict=True):
                pairs += [(f"{name}.{column}", plain_number(end))] if end is not None else []
        pairs += [("sort", self.sort)] if self.sort else []
        pairs += [("mode", self.mode)] if self.mode else []
        pairs += [("group", "1")] if self.group else []
        pairs += [("explain", "1")] if self.explain else []
        pairs += [("offset", str(self.offset))] if self.offset else []
        return pairs

    @property
    def query(self) -> str:
        """The URL's query, without a question mark."""
        return urlencode(self.pairs(), quote_via=quote, safe=" ").replace(" ", "+")

    @property
    def url(self) -> str:
        """The URL of this state."""
        return f"/?{self.query}" if self.query else "/"

    @property
    def csv_url(self) -> str:
        """The URL of the same list as CSV."""
        return f"/products.csv?{replace(self, offset=0).query}".rstrip("?")

    def at(self, offset: int) -> "State":
        """The same search at another offset."""
        return replace(self, offset=max(0, offset))

    def preferring(self, product_id: str, *, is_liked: bool) -> "State":
        """With one more product to resemble, or not to resemble."""
        like = tuple(one for one in self.like if one != product_id)
        unlike = tuple(one for one in self.unlike if one != product_id)
        if is_liked:
            return replace(self, like=(*like, product_id), unlike=unlike, offset=0)
        return replace(self, like=like, unlike=(*unlike, product_id), offset=0)

    def liking_only(self, there: Container[str]) -> "State":
        """Without the ``like`` and ``unlike`` products that do not exist."""
        like, unlike = (
            tuple(one for one in names if one in there) for names in (self.like, self.unlike)
        )
        return replace(self, like=like, unlike=unlike)

    def without(self, name: str, value: str) -> "State":
        """Without one value of ``like``, ``unlike``, ``avoid`` or ``but``."""
        left = tuple(one for one in getattr(self, name) if one != value)
        changes = {name: left, "offset": 0}
        return replace(self, **changes)  # type: ignore[arg-type]  # mypy cannot tell which

    def without_choice(self, column: str, value: str) -> "State":
        """Without one chosen value."""
        left = tuple(one for one in self.chosen[column] if one != value)
        chosen = {**self.chosen, column: left}
        return replace(self, chosen={n: v for n, v in chosen.items() if v}, offset=0)

    def without_range(self, column: str) -> "State":
        """Without the range of one column."""
        ranges = {name: ends for name, ends in self.ranges.items() if name != column}
        return replace(self, ranges=ranges, offset=0)

    def unfiltered(self) -> "State":
        """The same search without its filters."""
        return replace(self, chosen={}, ranges={}, offset=0)

    def cleared(self) -> "State":
        """The same search without filters, changes, and what to avoid or to like."""
        return replace(self.unfiltered(), like=(), unlike=(), avoid=(), but=())

    def variants_of(self, column: str, value: str) -> "State":
        """All products of one group, ranked as they are here."""
        chosen = {**self.chosen, column: (value,)}
        return replace(self, chosen=chosen, group=False, offset=0)

    def where(
        self,
        columns: Mapping[str, Kind],
        *,
        lists: Container[str] = (),
        but: str | None = None,
    ) -> str | None:
        """The filters as filter text; None if there are none.

        Args:
            columns: the catalogue's columns; filters of other columns are left out.
            lists: those that hold lists, of which a chosen value is one element.
            but: a column whose own filter is left out, to count its other values.
        """
        parts = []
        for column, values in self.chosen.items():
            if column in columns and column != but:
                literals = [_literal(value, columns[column]) for value in values]
                known = ", ".join(literal for literal in literals if literal is not None)
                name = _quoted(column)
                nothing = f"({name} IS NULL AND {name} IS NOT NULL)"
                ways = [f"{name} IN ({known})" if known else nothing]
                if column in lists:
                    elements = [one for value in values for one in _elements(value)]
                    ways += [f"contains({name}, {element})" for element in elements]
                parts.append(f"({' OR '.join(ways)})" if ways[1:] else ways[0])
        for column, (low, high) in self.ranges.items():
            if columns.get(column) in {"integer", "number"} and column != but:
                parts += [f"{_quoted(column)} >= {plain_number(low)}"] if low is not None else []
                parts += [f"{_quoted(column)} <= {plain_number(high)}"] if high is not None else []
        return " AND ".join(parts) or None

    def unknown_columns(self, columns: Mapping[str, Kind]) -> list[str]:
        """Columns with a filter that the catalogue does not have."""
        return [name for name in {**self.chosen, **self.ranges} if name not in columns]


def product_url(product_id: str) -> str:
    """The URL of a product's page."""
    return f"/p/{quote(product_id, safe='')}"


def image_url(product_id: str, width_px: int) -> str:
    """The URL of a product's image of at most this width."""
    return f"/images/{quote(product_id, safe='')}?width={width_px}"


def view_url(product_id: str, number: int, width_px: int) -> str:
    """The URL of a further view of a product, counted from 1."""
    return f"/views/{number}/{quote(product_id, safe='')}?width={width_px}"


def read_number(text: str) -> float | None:
    """Parse a finite number as people type it; None if it is not one."""
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def plain_number(number: float) -> str:
    """A number without an exponent and without trailing zeros: 50, 49.95."""
    if not math.isfinite(number):
        return str(number)
    if number == int(number):
        return str(int(number))
    return f"{number:.10f}".rstrip("0").rstrip(".")


def _read_offset(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _elements(value: str) -> Iterator[str]:
    """A chosen value as literals of a list's elements: the text, and the number that it may be."""
    if len(value) <= MAX_ELEMENT_CHARS:
        yield "'" + value.replace("'", "''") + "'"
        if re.fullmatch("-?(0|[1-9][0-9]{0,17})", value):
            yield value


def _literal(value: str, kind: Kind) -> str | None:
    """A chosen value as a literal of a filter; None if a column of this kind cannot hold it."""
    if kind == "string":
        return "'" + value.replace("'", "''") + "'"
    if kind == "boolean":
        return {"true": "TRUE", "false": "FALSE"}.get(value.lower())
    number = read_number(value)
    if number is None or (kind == "integer" and int(number) not in INT64):
        return None
    return plain_number(number)
