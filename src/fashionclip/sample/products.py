"""The sample products: attributes, invented brands, titles and descriptions.

Their vocabulary is in ``products.toml``.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fashionclip.sample.canvas import Rgb, is_dark

_WORDS: Mapping[str, Any] = tomllib.loads(
    Path(__file__).with_name("products.toml").read_text(encoding="utf-8")
)
COLOURS: Mapping[str, Rgb] = MappingProxyType(
    {name: tuple(rgb) for name, rgb in _WORDS["colours"].items()}
)
"""Red, green and blue of each colour, 0…255."""
_CATEGORIES: Mapping[str, Mapping[str, Any]] = {
    name: {**_WORDS["defaults"], "nouns": [name.title()], **entry}
    for name, entry in _WORDS["categories"].items()
}
CATEGORIES: Mapping[str, int] = MappingProxyType(
    {name: entry["weight"] for name, entry in _CATEGORIES.items()}
)
"""The categories, and their relative frequencies."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """The visible attributes of a sample product."""

    category: str
    """One of ``CATEGORIES``."""
    colour: str
    """The main colour, one of ``COLOURS``."""
    pattern: str = "solid"
    """One of ``PATTERNS``."""
    accent: str | None = None
    """The pattern's second colour; None for a solid product."""
    sleeve: str | None = None
    """``short``, ``long`` or ``sleeveless``; None for categories without sleeves."""
    neckline: str | None = None
    """``round``, ``v-neck``, ``collar``, ``turtleneck`` or ``hood``; None as for sleeves."""
    gender: str = "Unisex"
    """``Women``, ``Men`` or ``Unisex``."""

    def rgb(self, rng: np.random.Generator) -> tuple[Rgb, Rgb]:
        """The main and the second colour, each a random variation of its usual value."""
        second = self.accent or ("white" if is_dark(COLOURS[self.colour]) else "black")
        return _near(COLOURS[self.colour], rng), _near(COLOURS[second], rng)


@dataclass(frozen=True, slots=True)
class SampleProduct:
    """A product of the sample catalogue. Attributes and seed determine its image."""

    product_id: str
    attributes: Attributes
    brand: str
    price: float
    title: str
    highlights: tuple[str, ...]
    description: str
    seed: int
    """Seed of the image."""


def sample_products(n_products: int = 400, *, seed: int = 0) -> list[SampleProduct]:
    """Generate products; the same seed gives the same products.

    Args:
        n_products: the number of products.
        seed: of all random choices, those of the images too.

    Raises:
        ValueError: ``n_products`` is negative.
    """
    if n_products < 0:
        message = f"n_products is {n_products}; it must be 0 or more"
        raise ValueError(message)
    rng = np.random.default_rng(seed)
    weights = np.array(list(CATEGORIES.values()), dtype=np.float64)
    names = list(CATEGORIES)
    # every category gets its share, then the order is shuffled
    places = (np.arange(n_products) + 0.5) / max(n_products, 1)
    sampled = np.searchsorted(np.cumsum(weights / weights.sum()), places)
    categories = [names[min(int(i), len(names) - 1)] for i in rng.permutation(sampled)]
    return [_product(i, category, rng) for i, category in enumerate(categories)]


def sample_attributes(category: str, rng: np.random.Generator) -> Attributes:
    """Sample the attributes of a product of a category."""
    entry = _CATEGORIES[category]
    colour = _pick(entry["colours"] or tuple(COLOURS), rng)
    pattern = _pick(entry["patterns"], rng)
    accent = None if pattern in {"solid", "floral"} else _accent(colour, rng)
    neckline = _pick(entry["necklines"], rng) if entry["necklines"] else None
    sleeve = _pick(entry["sleeves"], rng) if entry["sleeves"] else None
    if category == "t-shirt" and neckline == "collar":
        sleeve = "short"
    gender = _pick(entry["genders"], rng)
    return Attributes(category, colour, pattern, accent, sleeve, neckline, gender)


def _product(number: int, category: str, rng: np.random.Generator) -> SampleProduct:
    attributes = sample_attributes(category, rng)
    entry = _CATEGORIES[category]
    brand = _pick(_WORDS["brands"], rng)
    is_polo = category == "t-shirt" and attributes.neckline == "collar"
    noun = "Polo Shirt" if is_polo else _pick(entry["nouns"], rng)
    words = [brand, f"{attributes.gender}'s", attributes.colour.title(), attributes.pattern.title()]
    title = " ".join(word for word in [*words, noun] if word not in {"Unisex's", "Solid"})
    return SampleProduct(
        product_id=f"S{number + 1:04d}",
        attributes=attributes,
        brand=brand,
        price=float(rng.integers(*entry["prices"])) + 0.95,
        title=title,
        highlights=tuple(_highlights(attributes)),
        description=_description(attributes, noun.lower(), rng),
        seed=int(rng.integers(1 << 31)),
    )


def _highlights(attributes: Attributes) -> list[str]:
    found = [attributes.pattern if attributes.pattern != "graphic" else "graphic print"]
    if attributes.accent:
        found.append(f"{attributes.colour} and {attributes.accent}")
    if attributes.sleeve:
        is_bare = attributes.sleeve == "sleeveless"
        found.append("sleeveless" if is_bare else f"{attributes.sleeve} sleeves")
    if attributes.neckline:
        words = {"round": "round neck", "v-neck": "v-neck", "hood": "hooded"}
        found.append(words.get(attributes.neckline, attributes.neckline))
    return found


def _description(attributes: Attributes, noun: str, rng: np.random.Generator) -> str:
    entry = _CATEGORIES[attributes.category]
    what = noun if attributes.pattern == "solid" else f"{attributes.pattern} {noun}"
    article = "a pair of" if entry["is_pair"] else ("an" if what[0] in "aeiou" else "a")
    opening = _pick(_WORDS["openings"], rng)
    if entry["is_pair"]:
        opening = opening.replace("this {what} comes", "these {what} come")
        opening = opening.replace("that goes", "that go")
    text = opening.format(A=article, what=what, colour=attributes.colour)
    text = text[0].upper() + text[1:]
    material = _pick(_WORDS["materials"][entry["material"]], rng)
    parts = filter(None, (attributes.sleeve, attributes.neckline))
    details = [_WORDS["details"][part] for part in parts]
    made = f"Made of {material}"
    return f"{text} {made}, with {' and '.join(details)}." if details else f"{text} {made}."


def _accent(colour: str, rng: np.random.Generator) -> str:
    """A second colour that differs clearly from the first."""
    base = np.array(COLOURS[colour])
    far = [name for name, rgb in COLOURS.items() if np.abs(base - np.array(rgb)).sum() > 200]
    usual = [name for name in ("white", "white", "navy", "black", "red") if name in far]
    return _pick(usual if usual and rng.random() < 0.7 else far, rng)


def _near(colour: Rgb, rng: np.random.Generator) -> Rgb:
    light = rng.uniform(-9, 9)
    red, green, blue = (float(np.clip(c + light + rng.uniform(-6, 6), 18, 250)) for c in colour)
    return red, green, blue


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
