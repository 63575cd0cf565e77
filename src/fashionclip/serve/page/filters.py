"""The filters beside the results, and the chips above them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fashionclip.product import Hit, Kind, Roles
from fashionclip.serve.facets import Facet
from fashionclip.serve.page.changes import own_changes
from fashionclip.serve.page.state import State, image_url, plain_number
from fashionclip.serve.page.texts import column_label, span, url_value, yes_no
from fashionclip.serve.page.view import CARD_WIDTHS_PX, title_of

OPEN_GROUPS = 4  # filters that are open at first
SHOWN_CHOICES = 6  # of one filter; the others fold out
MAX_CHOICES = 400  # of all filters together, to keep the page small


@dataclass(frozen=True, slots=True)
class Chip:
    """A part of the search, with the URL of the search without it."""

    label: str
    url: str
    image: str = ""
    """URL of the image it stands for; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a filter."""

    value: str
    label: str
    count: int
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Group:
    """One filter: values to tick, or a range."""

    column: str
    label: str
    kind: str
    choices: tuple[Choice, ...] = ()
    low: str = ""
    """Lowest and highest value in the catalogue, as hints."""
    high: str = ""
    wanted_low: str = ""
    wanted_high: str = ""
    is_open: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to choose."""
        return not (self.choices or self.low or self.wanted_low or self.wanted_high)

    @property
    def first(self) -> tuple[Choice, ...]:
        """The values that are always shown."""
        return self.choices[:SHOWN_CHOICES]

    @property
    def rest(self) -> tuple[Choice, ...]:
        """The values that fold out."""
        return self.choices[SHOWN_CHOICES:]

    @property
    def is_unfolded(self) -> bool:
        """Whether one of those is chosen."""
        return any(choice.is_chosen for choice in self.rest)


def chips(
    state: State, columns: Mapping[str, Kind], liked: Mapping[str, Hit], roles: Roles
) -> list[Chip]:
    """Everything that narrows a search, each with the URL that removes it.

    Args:
        state: the search.
        columns: the catalogue's columns.
        liked: the products of ``like`` and ``unlike`` by id, as far as they exist.
        roles: the columns' roles.
    """
    found = []
    for name, prefix in (("like", "More like"), ("unlike", "Less like")):
        for product_id in getattr(state, name):
            hit = liked.get(product_id)
            label = f"{prefix} {title_of(hit, roles) if hit else product_id}"
            image = image_url(product_id, CARD_WIDTHS_PX[0]) if hit else ""
            found.append(Chip(label, state.without(name, product_id).url, image))
    found += [
        Chip(f"Without “{phrase}”", state.without("avoid", phrase).url) for phrase in state.avoid
    ]
    found += [Chip(f"But {text}", state.without("but", text).url) for text in state.but]
    for column, values in state.chosen.items():
        label = "Variants of" if column == roles.group else f"{column_label(column)}:"
        is_boolean = columns.get(column) == "boolean"
        found += [
            Chip(
                f"{label} {yes_no(value) if is_boolean else value}",
                state.without_choice(column, value).url,
            )
            for value in values
        ]
    for column, (low, high) in state.ranges.items():
        found.append(
            Chip(f"{column_label(column)}: {span(low, high)}", state.without_range(column).url)
        )
    return found


def groups(
    state: State, facets: Iterable[Facet], counted: Iterable[Facet], roles: Roles
) -> list[Group]:
    """The filters beside the results, in an order that no filter changes.

    Args:
        state: the search.
        facets: of the whole catalogue; their order is that of the values.
        counted: those of the products that the search finds; values that it does not find are
            left out, unless they are chosen.
        roles: the columns' roles.
    """
    ordered, found = in_order(facets, roles), []
    by_name = {facet.name: facet for facet in counted}
    max_choices = max(SHOWN_CHOICES, MAX_CHOICES // max(1, len(ordered)))
    for i, facet in enumerate(ordered):
        here = by_name.get(facet.name, Facet(facet.name, facet.kind))
        if facet.kind == "number":
            group = _range_group(here, state)
        else:
            group = _value_group(facet, here, state, max_choices)
        if not group.is_empty:
            found.append(replace(group, is_open=group.is_open or i < OPEN_GROUPS))
    return found


def _value_group(facet: Facet, counted: Facet, state: State, max_choices: int) -> Group:
    chosen = state.chosen.get(facet.name, ())
    counts = {url_value(value): count for value, count in counted.values}
    known = [url_value(value) for value, _ in facet.values]
    names = [name for name in dict.fromkeys((*known, *counts)) if name in counts][:max_choices]
    if missing := set(chosen).difference(names):
        names = [name for name in dict.fromkeys((*known, *counts)) if name in {*names, *missing}]
        names += [name for name in chosen if name not in names]
    choices = tuple(
        Choice(
            name,
            yes_no(name) if facet.kind == "boolean" else name,
            counts.get(name, 0),
            name in chosen,
        )
        for name in names
    )
    label = column_label(facet.name)
    return Group(facet.name, label, facet.kind, choices=choices, is_open=bool(chosen))


def in_order(facets: Iterable[Facet], roles: Roles) -> list[Facet]:
    """Facets in the usual order of shops: category, price, then the others."""
    first = [roles.category, roles.price]
    return sorted(facets, key=lambda f: first.index(f.name) if f.name in first else len(first))


def hidden_fields(state: State, groups: Iterable[Group]) -> list[tuple[str, str]]:
    """The parts of a search that no visible field of the form holds."""
    shown = {"q", "sort", "mode", "group", "offset"}
    for group in groups:
        shown |= {f"{prefix}.{group.column}" for prefix in ("f", "min", "max")}
    own = set(own_changes(state.but))  # the sliders hold the others
    return [
        (name, value)
        for name, value in state.pairs()
        if name not in shown and (name != "but" or value in own)
    ]


def _range_group(facet: Facet, state: State) -> Group:
    low, high = state.ranges.get(facet.name, (None, None))
    return Group(
        facet.name,
        column_label(facet.name),
        "number",
        low="" if facet.low is None else plain_number(facet.low),
        high="" if facet.high is None else plain_number(facet.high),
        wanted_low="" if low is None else plain_number(low),
        wanted_high="" if high is None else plain_number(high),
        is_open=low is not None or high is not None,
    )
