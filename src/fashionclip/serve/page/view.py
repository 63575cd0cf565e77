"""What the templates show: cards, chips, filters, facts, in words that a person reads."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.product import Hit, Kind
from fashionclip.serve.facets import Facet
from fashionclip.serve.page.state import (
    PAGE_SIZE,
    State,
    picture_url,
    plain_number,
    product_url,
)
from fashionclip.serve.page.words import (
    column_label,
    is_number,
    money,
    parts_of,
    plain,
    role_column,
    span,
    words_of,
    yes_no,
)

OPEN_GROUPS = 4  # filters that are unfolded from the start
SHOWN_CHOICES = 6  # of one filter; the others fold out
MOST_CHOICES = 400  # of all filters together; the page must stay small
SHOWN_TITLE = 120
LABELS_AT_FIRST = 8
MOST_LOOKS = 4
VISIBLE = ("colour", "color", "pattern", "print", "sleeve", "neck")
"""In the name of a column, these say that a picture shows what it holds."""
CARD_WIDTHS_PX = (320, 640)
VIEW_WIDTHS_PX = (640, 1200)


@dataclass(frozen=True, slots=True)
class Card:
    """A product in a grid."""

    product_id: str
    title: str
    brand: str
    price: str
    url: str
    picture: str
    picture_set: str
    score: str
    more_url: str
    less_url: str


@dataclass(frozen=True, slots=True)
class Chip:
    """Something that narrows the search, with the address of the search without it."""

    label: str
    url: str
    picture: str = ""
    """The picture it stands for, if there is one."""


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
    """The catalogue's own ends, as hints."""
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


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a product's details; some lead to products that share them."""

    label: str
    values: tuple[tuple[str, str], ...]
    """Each value in words, and the address of what shares it, or nothing."""


@dataclass(frozen=True, slots=True)
class Look:
    """A question to the model about a product's picture: which of a column's values is it?"""

    column: str
    labels: tuple[str, ...]
    templates: str | None
    """The prompt to put each value in; None for the value alone."""
    stated: str
    """What the catalogue says."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the model sees in a picture, next to what the catalogue says."""

    label: str
    seen: str
    share: float
    """How sure, in 0…1, among the catalogue's own values."""
    stated: str
    url: str

    @property
    def agrees(self) -> bool:
        """Whether the catalogue says the same."""
        return self.seen.casefold() == self.stated.casefold()


def card(hit: Hit, state: State | None = None) -> Card:
    """A product as a card; its links go on from a search, or begin one."""
    asked = state or State()
    price = hit.columns.get(role_column("price", hit.columns) or "")
    title = title_of(hit)
    brand = words_of(hit.columns.get(role_column("brand", hit.columns) or ""))
    is_scored = asked.scores and asked.is_question
    small, large = (picture_url(hit.product_id, width) for width in CARD_WIDTHS_PX)
    return Card(
        product_id=hit.product_id,
        title=title,
        brand="" if title.casefold().startswith(brand.casefold()) else brand,
        price=money(price) if is_number(price) else words_of(price),
        url=product_url(hit.product_id),
        picture=small,
        picture_set=f"{small} {CARD_WIDTHS_PX[0]}w, {large} {CARD_WIDTHS_PX[1]}w",
        score=f"{hit.score:.3f}" if is_scored else "",
        more_url=asked.preferring(hit.product_id, is_liked=True).url,
        less_url=asked.preferring(hit.product_id, is_liked=False).url,
    )


def chips(state: State, columns: Mapping[str, Kind], liked: Mapping[str, Hit]) -> list[Chip]:
    """Everything that narrows a search, each with the way back.

    Args:
        state: the search.
        columns: the index's columns.
        liked: the products that are liked or not, by id; those that are gone are missing.
    """
    found = []
    for name, prefix in (("like", "More like"), ("unlike", "Less like")):
        for product_id in getattr(state, name):
            hit = liked.get(product_id)
            label = f"{prefix} {title_of(hit) if hit else product_id}"
            picture = picture_url(product_id, CARD_WIDTHS_PX[0]) if hit else ""
            found.append(Chip(label, state.without(name, product_id).url, picture))
    found += [
        Chip(f"Without “{phrase}”", state.without("avoid", phrase).url) for phrase in state.avoid
    ]
    for column, values in state.chosen.items():
        label = column_label(column)
        is_yes_no = columns.get(column) == "boolean"
        found += [
            Chip(
                f"{label}: {yes_no(value) if is_yes_no else value}",
                state.without_choice(column, value).url,
            )
            for value in values
        ]
    for column, (low, high) in state.ranges.items():
        found.append(
            Chip(f"{column_label(column)}: {span(low, high)}", state.without_range(column).url)
        )
    return found


def groups(state: State, facets: Iterable[Facet]) -> list[Group]:
    """The filters beside the results: what is chosen is always among the values."""
    found: list[Group] = []
    listed = in_order(facets)
    most = max(SHOWN_CHOICES, MOST_CHOICES // max(1, len(listed)))
    for facet in listed:
        if facet.kind == "number":
            group = _range_group(facet, state)
        else:
            chosen = state.chosen.get(facet.name, ())
            counts = {plain(value): count for value, count in facet.values[:most]}
            names = [*counts, *(value for value in chosen if value not in counts)]
            names.sort(key=lambda name: name not in chosen)  # ticked ones first
            group = Group(
                facet.name,
                column_label(facet.name),
                facet.kind,
                choices=tuple(
                    Choice(
                        name,
                        yes_no(name) if facet.kind == "yes-no" else name,
                        counts.get(name, 0),
                        name in chosen,
                    )
                    for name in names
                ),
                is_open=bool(chosen),
            )
        if not group.is_empty:
            found.append(replace(group, is_open=group.is_open or len(found) < OPEN_GROUPS))
    return found


def in_order(facets: Iterable[Facet]) -> list[Facet]:
    """Facets as a shop has them: the kind of product first, then price, then the rest."""
    listed = list(facets)
    names = [facet.name for facet in listed]
    first = [role_column("category", names), role_column("price", names)]
    return sorted(listed, key=lambda f: first.index(f.name) if f.name in first else len(first))


def facts(hit: Hit, facets: Iterable[Facet]) -> list[Fact]:
    """A product's columns, less those that the view shows elsewhere or that are nobody's business.

    Where a picture lies on the server is such a thing.
    """
    elsewhere = {
        role_column(role, hit.columns) for role in ("id", "title", "description", "price", "image")
    }
    telling = {facet.name for facet in facets if facet.kind != "number"}
    found = []
    for name, value in hit.columns.items():
        if name in elsewhere or bare_name(name) in USUAL_NAMES["image"] or words_of(value) == "":
            continue
        parts = parts_of(value)
        if isinstance(parts, Mapping):
            found += [Fact(column_label(key), ((text, ""),)) for key, text in parts.items()]
            continue
        url = State(chosen={name: (plain(value),)}).url if name in telling else ""
        found.append(Fact(column_label(name), tuple((part, url) for part in parts)))
    return found


def kept(state: State, groups: Iterable[Group]) -> list[tuple[str, str]]:
    """What a form must hand on because none of its fields shows it."""
    shown = {"q", "hybrid", "offset"}
    for group in groups:
        shown |= {f"{prefix}.{group.column}" for prefix in ("f", "min", "max")}
    return [(name, value) for name, value in state.pairs() if name not in shown]


def trail(hit: Hit, facets: Iterable[Facet]) -> list[tuple[str, str]]:
    """The way to a product: its category, if products can be found by it."""
    column = role_column("category", [facet.name for facet in facets])
    value = None if column is None else hit.columns.get(column)
    if column is None or value in {None, ""}:
        return []
    return [(words_of(value), State(chosen={column: (plain(value),)}).url)]


def looks(hit: Hit, facets: Iterable[Facet]) -> list[Look]:
    """What a picture of this product can be asked: what it is, its colour, its pattern."""
    facets = [facet for facet in facets if facet.kind == "words"]
    category = role_column("category", [facet.name for facet in facets])
    kind = words_of(hit.columns.get(category or "")).lower()
    found = []
    for facet in facets:
        bare = bare_name(facet.name)
        if facet.name != category and not any(word in bare for word in VISIBLE):
            continue
        stated = words_of(hit.columns.get(facet.name))
        labels = [words_of(value) for value, _ in facet.values]
        labels += [stated] if stated and stated not in labels else []
        is_detail = facet.name != category and kind and not set(kind) & set("{}")
        if len(labels) > 1:
            template = f"{{}} {kind}" if is_detail else None
            found.append(Look(facet.name, tuple(labels), template, stated))
    return found[:MOST_LOOKS]


def sight(look: Look, outcome: Iterable[tuple[str, float]]) -> Sight:
    """The model's answer to a question."""
    seen, share = max(outcome, key=lambda pair: pair[1])
    url = State(chosen={look.column: (seen,)}).url
    return Sight(column_label(look.column), seen, share, look.stated, url)


def labels_in(text: str) -> list[str]:
    """Labels as they are typed: on lines, or with commas between them; each once."""
    labels = (" ".join(label.split()) for label in re.split(r"[,;\n]", text))
    return list(dict.fromkeys(filter(None, labels)))


def category_labels(facets: Iterable[Facet]) -> list[str]:
    """The most frequent kinds of product, to begin the playground with."""
    found = {facet.name: facet for facet in facets if facet.kind == "words"}
    column = role_column("category", found) or next(iter(found), None)
    values = found[column].values if column is not None else ()
    return [words_of(value) for value, _ in values[:LABELS_AT_FIRST]]


def description_of(hit: Hit) -> str:
    """What the catalogue says about a product at length."""
    return words_of(hit.columns.get(role_column("description", hit.columns) or ""))


def title_of(hit: Hit) -> str:
    """What the catalogue calls a product; its id if it does not."""
    title = words_of(hit.columns.get(role_column("title", hit.columns) or "")) or hit.product_id
    return title if len(title) <= SHOWN_TITLE else title[: SHOWN_TITLE - 1].rstrip() + "…"


def heading(state: State) -> str:
    """What the results are, in a few words."""
    pick = "your picture" if state.picture else "your pick" if state.like else ""
    if state.text:
        return f"“{state.text}”, like {pick}" if pick else f"“{state.text}”"
    if pick:
        return f"Like {pick}"
    if state.avoid:
        return f"Without “{state.avoid[0]}”"
    if state.unlike:
        return "Something else"
    return "Products" if state.is_filtered else "All products"


def said_count(state: State, count: int, total: int | None) -> str:
    """How many products are shown, and which.

    Args:
        state: the search.
        count: how many are shown.
        total: how many there are in all; None where they are ranked and every product has a place.
    """
    if not count:
        return "No products"
    if state.offset == 0 and (count < PAGE_SIZE or total == count):
        return "1 product" if count == 1 else f"{count} products"
    first, last = state.offset + 1, state.offset + count
    if total is not None:
        return f"{first:,} to {last:,} of {total:,} products"
    return f"The {last} that fit best" if state.offset == 0 else f"Best fits, {first:,} to {last:,}"


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
