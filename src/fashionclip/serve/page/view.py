"""What the templates show: cards, chips, filters and facts, as text for people."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from fashionclip.product import Hit, Kind, Roles, Value, list_of
from fashionclip.serve.facets import Facet
from fashionclip.serve.page.state import (
    PAGE_SIZE,
    State,
    image_url,
    plain_number,
    product_url,
)

OPEN_GROUPS = 4  # filters that are open at first
SHOWN_CHOICES = 6  # of one filter; the others fold out
MAX_CHOICES = 400  # of all filters together, to keep the page small
MAX_TITLE_CHARS = 120
DEFAULT_LABELS = 8
MAX_QUESTIONS = 4  # that the model answers about a product's image
VISIBLE = ("colour", "color", "pattern", "print", "sleeve", "neck")
"""Column names with one of these words hold what an image shows."""
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
    image: str
    image_set: str
    score: str
    more_url: str
    less_url: str


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


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a product's details."""

    label: str
    values: tuple[tuple[str, str], ...]
    """Each value as text, and the URL of the products that share it (empty if none)."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the model about an image: which of a column's values does it show?"""

    column: str
    labels: tuple[str, ...]
    template: str | None
    """The prompt for a value; None for the value alone."""
    stated: str
    """The value in the catalogue."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer, beside the value in the catalogue."""

    label: str
    predicted: str
    probability: float
    """In 0…1, among the column's values."""
    stated: str
    url: str

    @property
    def agrees(self) -> bool:
        """Whether the catalogue has the same value."""
        return self.predicted.casefold() == self.stated.casefold()


def card(hit: Hit, roles: Roles, state: State | None = None) -> Card:
    """A product as a card, whose links continue a search, or start one."""
    base = state or State()
    title = title_of(hit, roles)
    brand = text_of(_value(hit, roles.brand))
    is_scored = base.scores and base.is_ranked
    small, large = (image_url(hit.product_id, width) for width in CARD_WIDTHS_PX)
    return Card(
        product_id=hit.product_id,
        title=title,
        brand="" if title.casefold().startswith(brand.casefold()) else brand,
        price=price_of(hit, roles),
        url=product_url(hit.product_id),
        image=small,
        image_set=f"{small} {CARD_WIDTHS_PX[0]}w, {large} {CARD_WIDTHS_PX[1]}w",
        score=f"{hit.score:.3f}" if is_scored else "",
        more_url=base.preferring(hit.product_id, is_liked=True).url,
        less_url=base.preferring(hit.product_id, is_liked=False).url,
    )


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
    for column, values in state.chosen.items():
        label = column_label(column)
        is_boolean = columns.get(column) == "boolean"
        found += [
            Chip(
                f"{label}: {yes_no(value) if is_boolean else value}",
                state.without_choice(column, value).url,
            )
            for value in values
        ]
    for column, (low, high) in state.ranges.items():
        found.append(
            Chip(f"{column_label(column)}: {span(low, high)}", state.without_range(column).url)
        )
    return found


def groups(state: State, facets: Iterable[Facet], roles: Roles) -> list[Group]:
    """The filters beside the results; chosen values are always among the choices."""
    found: list[Group] = []
    ordered = in_order(facets, roles)
    max_choices = max(SHOWN_CHOICES, MAX_CHOICES // max(1, len(ordered)))
    for facet in ordered:
        if facet.kind == "number":
            group = _range_group(facet, state)
        else:
            chosen = state.chosen.get(facet.name, ())
            counts = {url_value(value): count for value, count in facet.values[:max_choices]}
            names = [*counts, *(value for value in chosen if value not in counts)]
            names.sort(key=lambda name: name not in chosen)  # chosen ones first
            group = Group(
                facet.name,
                column_label(facet.name),
                facet.kind,
                choices=tuple(
                    Choice(
                        name,
                        yes_no(name) if facet.kind == "boolean" else name,
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


def in_order(facets: Iterable[Facet], roles: Roles) -> list[Facet]:
    """Facets in the usual order of shops: category, price, then the others."""
    first = [roles.category, roles.price]
    return sorted(facets, key=lambda f: first.index(f.name) if f.name in first else len(first))


def facts(hit: Hit, facets: Iterable[Facet], roles: Roles) -> list[Fact]:
    """A product's columns, less those that the view shows elsewhere, and less image locations."""
    elsewhere = {roles.id, roles.title, roles.description, roles.price, roles.currency}
    elsewhere |= {roles.image, *roles.further_images}
    searchable = {facet.name: facet.kind for facet in facets if facet.kind != "number"}
    found = []
    for name, value in hit.columns.items():
        if name in elsewhere or text_of(value) == "":
            continue
        parts = parts_of(value)
        if isinstance(parts, Mapping):
            found += [Fact(column_label(key), ((text, ""),)) for key, text in parts.items()]
            continue
        chosen = parts if searchable.get(name) == "list" else [url_value(value)] * len(parts)
        urls = [State(chosen={name: (one,)}).url if name in searchable else "" for one in chosen]
        found.append(Fact(column_label(name), tuple(zip(parts, urls, strict=True))))
    return found


def hidden_fields(state: State, groups: Iterable[Group]) -> list[tuple[str, str]]:
    """The parts of a search that no visible field of the form holds."""
    shown = {"q", "hybrid", "group", "offset"}
    for group in groups:
        shown |= {f"{prefix}.{group.column}" for prefix in ("f", "min", "max")}
    return [(name, value) for name, value in state.pairs() if name not in shown]


def breadcrumbs(hit: Hit, facets: Iterable[Facet], roles: Roles) -> list[tuple[str, str]]:
    """The way to a product: its category, if that can be filtered by."""
    column, value = roles.category, _value(hit, roles.category)
    whole = {facet.name for facet in facets if facet.kind != "list"}
    if column is None or value in {None, ""} or column not in whole:
        return []
    return [(text_of(value), State(chosen={column: (url_value(value),)}).url)]


def questions(hit: Hit, facets: Iterable[Facet], roles: Roles) -> list[Question]:
    """What the model is asked about a product's image: its category, colour, pattern."""
    category = text_of(_value(hit, roles.category)).lower()
    found = []
    for facet in facets:
        name = facet.name.lower()
        is_detail = facet.name == roles.colour or any(word in name for word in VISIBLE)
        if facet.kind != "text" or not (facet.name == roles.category or is_detail):
            continue
        stated = text_of(hit.columns.get(facet.name))
        labels = [text_of(value) for value, _ in facet.values]
        labels += [stated] if stated and stated not in labels else []
        has_prompt = facet.name != roles.category and category and not set(category) & set("{}")
        if len(labels) > 1:
            template = f"{{}} {category}" if has_prompt else None
            found.append(Question(facet.name, tuple(labels), template, stated))
    return found[:MAX_QUESTIONS]


def prediction(question: Question, outcome: Iterable[tuple[str, float]]) -> Prediction:
    """The model's answer to a question."""
    predicted, probability = max(outcome, key=lambda pair: pair[1])
    url = State(chosen={question.column: (predicted,)}).url
    label = column_label(question.column)
    return Prediction(label, predicted, probability, question.stated, url)


def parse_labels(text: str) -> list[str]:
    """Labels from text, separated by commas, semicolons or line breaks; each once."""
    labels = (" ".join(label.split()) for label in re.split(r"[,;\n]", text))
    return list(dict.fromkeys(filter(None, labels)))


def category_labels(facets: Iterable[Facet], roles: Roles) -> list[str]:
    """The most frequent categories: the first labels of the playground."""
    found = {facet.name: facet for facet in facets if facet.kind == "text"}
    facet = found.get(roles.category or "") or next(iter(found.values()), None)
    return [] if facet is None else [text_of(value) for value, _ in facet.values[:DEFAULT_LABELS]]


def title_of(hit: Hit, roles: Roles) -> str:
    """A product's title; its id if it has none."""
    title = text_of(_value(hit, roles.title)) or hit.product_id
    return title if len(title) <= MAX_TITLE_CHARS else title[: MAX_TITLE_CHARS - 1].rstrip() + "…"


def description_of(hit: Hit, roles: Roles) -> str:
    """A product's long description."""
    return text_of(_value(hit, roles.description))


def price_of(hit: Hit, roles: Roles) -> str:
    """A product's price with its currency, if the catalogue has one: "49.90 EUR"."""
    value = _value(hit, roles.price)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return text_of(value)
    if not math.isfinite(value):
        return ""
    return f"{money(value)} {text_of(_value(hit, roles.currency))}".rstrip()


def heading(state: State) -> str:
    """What the results are, in a few words."""
    pick = "your picture" if state.image else "your pick" if state.like else ""
    if state.text:
        return f"“{state.text}”, like {pick}" if pick else f"“{state.text}”"
    if pick:
        return f"Like {pick}"
    if state.avoid:
        return f"Without “{state.avoid[0]}”"
    if state.unlike:
        return "Something else"
    return "Products" if state.is_filtered else "All products"


def count_label(state: State, count: int, total: int | None) -> str:
    """How many products are shown, and which.

    Args:
        state: the search.
        count: how many are shown.
        total: how many there are; None if all products are ranked.
    """
    if not count:
        return "No products"
    if state.offset == 0 and (count < PAGE_SIZE or total == count):
        return "1 product" if count == 1 else f"{count} products"
    first, last = state.offset + 1, state.offset + count
    if total is not None:
        return f"{first:,} to {last:,} of {total:,} products"
    return (
        f"The {last} best matches" if state.offset == 0 else f"Best matches, {first:,} to {last:,}"
    )


def column_label(name: str) -> str:
    """A column's name as people write it: ``baseColour`` is "Base colour"."""
    spaced = re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", name)
    words = " ".join(re.split(r"[\s_\-.]+", spaced)).strip() or name
    parts = [word if word.isupper() and len(word) > 1 else word.lower() for word in words.split()]
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def money(number: int | float) -> str:
    """A price: two decimals unless it is round, with a thousands separator."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.2f}"


def span(low: float | None, high: float | None) -> str:
    """A range as text: "20 to 50", "up to 50"."""
    if low is None:
        return f"up to {plain_number(high or 0.0)}"
    if high is None:
        return f"from {plain_number(low)}"
    return f"{plain_number(low)} to {plain_number(high)}"


def url_value(value: Value) -> str:
    """A value as URLs have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def yes_no(value: str) -> str:
    """A boolean of a URL as text."""
    return {"true": "Yes", "false": "No"}.get(value.lower(), value)


def text_of(value: Value) -> str:
    """A value as text; empty for a missing one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, float):
        return plain_number(value) if math.isfinite(value) else ""
    return str(value).strip()


def parts_of(value: Value) -> Sequence[str] | Mapping[str, str]:
    """The members of a JSON list or object, or the value itself."""
    if (members := list_of(value)) is not None:
        return [str(part) for part in members if str(part).strip()]
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        with suppress(ValueError, RecursionError):
            parsed = json.loads(value)
            return {str(key): str(part) for key, part in parsed.items() if str(part).strip()}
        return [value]
    return [text_of(value)]


def _value(hit: Hit, column: str | None) -> Value:
    return None if column is None else hit.columns.get(column)


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
