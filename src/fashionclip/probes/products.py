"""Products whose garment and visible attributes are known: drawn ones, or those of a catalogue."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fashionclip.catalog import Catalog
from fashionclip.catalog.roles import bare_name
from fashionclip.errors import ImageFetchError
from fashionclip.evaluate.benchmarks.base import choose, label_words
from fashionclip.evaluate.benchmarks.kagl import words_of
from fashionclip.evaluate.benchmarks.sample import N_PRODUCTS, SEED, drawn_products
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.product import Product, Value

MAX_PRODUCTS = 20_000
"""Of a larger catalogue so many are sampled."""
FACETS = ("colour", "pattern", "sleeve", "neckline", "material")
"""Attributes that probes change."""
_WHOLE = frozenset({"base", "main", "primary", "product"})  # no parts: "Base Colour"
_PLAIN_WORDS = re.compile(r"[^\W\d_]+(?:[ -][^\W\d_]+)?")


@dataclass(frozen=True, slots=True, eq=False)
class KnownProduct:
    """One product: its picture, and what is known of it, in words of a caption."""

    image: ImageRef
    cluster: str
    """What shares a value is no independent evidence: variants of one product."""
    garment: str
    """``t-shirt``; empty if it is not known."""
    synonyms: tuple[str, ...]
    """Other words for it: ``("tee",)``."""
    words: Mapping[str, str]
    """Facet to its word: ``{"colour": "red", "sleeve": "short-sleeved"}``."""
    parts: Mapping[str, Mapping[str, str]]
    """Property to its value by part: ``{"material": {"sole": "rubber", "upper": "leather"}}``."""
    brand: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ProductSet:
    """The products that probes are made of."""

    name: str
    """First part of the probes' names: ``sample``."""
    products: tuple[KnownProduct, ...]
    is_drawn: bool
    """Whether scenes may be drawn besides."""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What was left out, and why."""


def alike() -> list[list[str]]:
    """Groups of words that people use for each other, so that neither is wrong for the other."""
    return [group for name in ("sample", "kagl") for group in label_words(name)["alike"]]


def sample_set(n_products: int = N_PRODUCTS) -> ProductSet:
    """The drawn products of the sample catalogue; their truth is known.

    Args:
        n_products: how many.
    """
    found = []
    for product, image in drawn_products(n_products, SEED):
        attributes = product.attributes
        raw = {facet: getattr(attributes, facet, None) for facet in FACETS}
        garment, *synonyms = _garment(attributes.category)
        found.append(
            KnownProduct(
                image=image,
                cluster=product.product_id,
                garment=garment,
                synonyms=tuple(synonyms),
                words=_words(raw),
                parts={},
                brand=product.brand,
            )
        )
    return ProductSet("sample", tuple(found), True, ("Drawings, not photographs.",))


def catalog_set(catalog: Catalog) -> ProductSet:
    """The products of a catalogue, with the attributes of its columns.

    The garment is the value of its category, the colour that of its colour; pattern, sleeve,
    neckline and material are columns of usual names, or keys of a column of JSON objects such as
    Kaggle's ``articleAttributes``. What is not known of a product is left out of its words.

    Args:
        catalog: of any size; at most ``MAX_PRODUCTS`` are sampled.

    Raises:
        CatalogError: the table cannot be read on.
    """
    rows = [row for row in catalog if isinstance(row, Product)]
    found = [
        known for row in choose(len(rows), MAX_PRODUCTS) if (known := _known(catalog, rows[row]))
    ]
    warnings = []
    if n_rejected := catalog.len_hint - len(rows):
        warnings.append(f"{n_rejected:,} rows of the catalogue cannot be read and are left out.")
    if n_without := min(len(rows), MAX_PRODUCTS) - len(found):
        warnings.append(f"{n_without:,} products name no picture and are left out.")
    notes = []
    if len(rows) > MAX_PRODUCTS:
        notes.append(f"{MAX_PRODUCTS:,} of the {len(rows):,} products, sampled.")
    name = Path(catalog.location).stem or "catalogue"
    return ProductSet(name, tuple(found), False, tuple(notes), tuple(warnings))


def _known(catalog: Catalog, product: Product) -> KnownProduct | None:
    try:
        source, *_ = catalog.image_sources(product)
    except ImageFetchError:
        return None
    if isinstance(source, str) and "://" not in source and not source.startswith("data:"):
        image = ImageRef(product.product_id, Path(source), product.caption)
    else:
        image = ImageRef(product.product_id, source, product.caption)
    roles, columns = catalog.roles, product.columns

    def text(role: str | None) -> str:
        return str(columns.get(role or "") or "").strip()

    attributes = _attributes(columns)
    bare = {bare_name(name): value for name, value in reversed(attributes.items())}
    raw: dict[str, object] = {
        facet: next((bare[name] for name in names if bare.get(name)), None)
        for facet, names in _known_words()["names"].items()
    }
    raw["colour"] = text(roles.colour)
    category = text(roles.category).rpartition(">")[2].strip()
    garment, *synonyms = _garment(category) if category else ("",)
    return KnownProduct(
        image=image,
        cluster=text(roles.group) or product.product_id,
        garment=garment,
        synonyms=tuple(synonyms),
        words=_words(raw),
        parts=_parts(attributes),
        brand=text(roles.brand),
    )


@cache
def _known_words() -> Mapping[str, Any]:
    text = files("fashionclip.probes").joinpath("words.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def _value_words(facet: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name in ("kagl", "sample"):
        found |= label_words(name)["caption"].get(facet, {})
    found |= _known_words()["values"].get(facet, {})
    return {value.casefold(): word for value, word in found.items()}


def _words(raw: Mapping[str, object]) -> dict[str, str]:
    """Facet to its word in a caption, for each value that is understood."""
    found = {}
    for facet in FACETS:
        value = " ".join(str(raw.get(facet) or "").split()).casefold()
        word = _value_words(facet).get(value)
        if word is None:
            is_colour = facet == "colour" and _PLAIN_WORDS.fullmatch(value)
            word = value if is_colour else ""
        if word:
            found[facet] = word
    return found


@cache
def _garment(category: str) -> tuple[str, ...]:
    """The usual word for a category, then its synonyms."""
    own: Mapping[str, list[str]] = label_words("sample")["category"]
    if category.casefold() in own:
        return tuple(own[category.casefold()])
    return words_of("articleType", [category])[category]


def _attributes(columns: Mapping[str, Value]) -> dict[str, str]:
    """A product's columns of text, and the keys of those that hold a JSON object."""
    found: dict[str, str] = {}
    for name, value in columns.items():
        if not isinstance(value, str):
            continue
        if value.startswith("{"):
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                continue
            found |= {str(key): str(one) for key, one in inner.items() if one}
        else:
            found[name] = value
    return found


def _parts(attributes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Values of "Sole Material", "Strap Colour" and the like, by property and part."""
    found: dict[str, dict[str, str]] = {}
    for name, value in attributes.items():
        *part, last = name.replace("_", " ").casefold().split() or [""]
        what = _known_words()["properties"].get(last)
        word = " ".join(value.split()).casefold()
        if what and len(part) == 1 and part[0] not in _WHOLE and _PLAIN_WORDS.fullmatch(word):
            found.setdefault(what, {})[part[0]] = word
    return found


def frequent(values: list[str], least: int, most: int) -> list[str]:
    """The most frequent values, those that occur ``least`` times, at most ``most`` of them."""
    counts = Counter(value for value in values if value)
    return [value for value, n in counts.most_common(most) if n >= least]
