"""Products and what is known of them, as the templates show it: cards, facts, predictions."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fashionclip.product import Hit, Roles, Value
from fashionclip.serve.facets import Facet
from fashionclip.serve.page.state import State, image_url, product_url
from fashionclip.serve.page.texts import clipped, column_label, money, parts_of, text_of, url_value

MAX_TITLE_CHARS = 120  # in a grid
MAX_PAGE_TITLE_CHARS = 1_000
MAX_VARIANT_CHARS = 40
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
    full_price: str
    """The price before it was reduced; empty if it is not."""
    url: str
    image: str
    image_set: str
    more_url: str
    less_url: str
    variants: str = ""
    """How many other products of its group the search found: "+3 variants"."""
    variants_url: str = ""
    matched: str = ""
    """The words of the search that are the product's too."""
    fit: str = ""
    """How well it fits, compared with the catalogue."""


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
    price, full_price = prices_of(hit, roles)
    group = _value(hit, roles.group)
    n_others = hit.n_variants - 1 if group is not None else 0
    why = hit.explanation if base.explain else None
    small, large = (image_url(hit.product_id, width) for width in CARD_WIDTHS_PX)
    return Card(
        product_id=hit.product_id,
        title=title,
        brand="" if title.casefold().startswith(brand.casefold()) else brand,
        price=price,
        full_price=full_price,
        url=product_url(hit.product_id),
        image=small,
        image_set=f"{small} {CARD_WIDTHS_PX[0]}w, {large} {CARD_WIDTHS_PX[1]}w",
        more_url=base.preferring(hit.product_id, is_liked=True).url,
        less_url=base.preferring(hit.product_id, is_liked=False).url,
        variants=f"+{n_others:,} {'variant' if n_others == 1 else 'variants'}" if n_others else "",
        variants_url=base.variants_of(str(roles.group), url_value(group)).url if n_others else "",
        matched=", ".join(why.matched) if why else "",
        fit=fit_of(why.percentile) if why and why.percentile is not None else "",
    )


def fit_of(percentile: float) -> str:
    """How well a product fits: "Fits better than 99.2 % of the catalogue".

    Args:
        percentile: products that fit less well, in 0…100.
    """
    shown = math.floor(10 * percentile) / 10 if percentile >= 99 else math.floor(percentile)
    return f"Fits better than {min(shown, 99.9):g} % of the catalogue"


def facts(hit: Hit, facets: Iterable[Facet], roles: Roles) -> list[Fact]:
    """A product's columns, less those that the view shows elsewhere, and less image locations."""
    elsewhere = {roles.id, roles.title, roles.description, roles.price, roles.currency}
    elsewhere |= {roles.image, *roles.further_images, roles.sale_price}
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


def breadcrumbs(hit: Hit, facets: Iterable[Facet], roles: Roles) -> list[tuple[str, str]]:
    """The way to a product: its category, if that can be filtered by."""
    column, value = roles.category, _value(hit, roles.category)
    whole = {facet.name for facet in facets if facet.kind != "list"}
    if column is None or value in {None, ""} or column not in whole:
        return []
    return [(text_of(value), State(chosen={column: (url_value(value),)}).url)]


def questions(hit: Hit, facets: Iterable[Facet], roles: Roles) -> list[Question]:
    """What the model is asked about a product's image: its category, colour, pattern.

    Where the catalogue has no sleeve, say, the product is taken to be one without sleeves.
    """
    category = text_of(_value(hit, roles.category)).lower()
    found = []
    for facet in facets:
        stated = text_of(hit.columns.get(facet.name))
        is_detail = stated and any(word in facet.name.lower() for word in VISIBLE)
        if facet.kind != "text" or not (facet.name in {roles.category, roles.colour} or is_detail):
            continue
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


def title_of(hit: Hit, roles: Roles, *, most: int = MAX_TITLE_CHARS) -> str:
    """A product's title of at most so many characters; its id if it has none."""
    return clipped(text_of(_value(hit, roles.title)) or hit.product_id, most)


def variant_of(hit: Hit, roles: Roles) -> str:
    """What tells a product from the others of its group: colour and size, or its id."""
    own = (text_of(value) for value in (_value(hit, roles.colour), _value(hit, roles.size)))
    return clipped(", ".join(filter(None, own)) or hit.product_id, MAX_VARIANT_CHARS)


def description_of(hit: Hit, roles: Roles) -> str:
    """A product's long description."""
    return text_of(_value(hit, roles.description))


def prices_of(hit: Hit, roles: Roles) -> tuple[str, str]:
    """What a product costs, and what it cost before it was reduced (empty if it was not)."""
    currency = text_of(_value(hit, roles.currency))
    full, reduced = _value(hit, roles.price), _value(hit, roles.sale_price)
    if _amount(reduced) < _amount(full):
        return _price(reduced, currency), _price(full, currency)
    return _price(full, currency), ""


def _amount(value: Value) -> float:
    """A number as it is; infinity for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else math.inf  # type: ignore[arg-type]


def _price(value: Value, currency: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return money(value, currency) if math.isfinite(value) else ""
    return text_of(value)


def _value(hit: Hit, column: str | None) -> Value:
    return None if column is None else hit.columns.get(column)
