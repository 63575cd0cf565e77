"""What the sample products are: attributes, invented brands, titles and descriptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fashionclip.sample.canvas import Rgb
from fashionclip.sample.cloths import COLOURS, is_dark

_TOPS = ("t-shirt", "shirt", "sweater", "hoodie", "jacket")
_SHOES = ("sneakers", "boots", "sandals", "heels")
CATEGORIES: Mapping[str, int] = MappingProxyType(
    {
        "t-shirt": 10,
        "shirt": 9,
        "sweater": 7,
        "hoodie": 5,
        "jacket": 6,
        "dress": 9,
        "skirt": 6,
        "trousers": 6,
        "jeans": 6,
        "shorts": 5,
        "sneakers": 7,
        "boots": 5,
        "sandals": 4,
        "heels": 5,
        "handbag": 6,
        "backpack": 5,
        "belt": 3,
        "cap": 4,
    }
)
"""The categories, and how often each occurs next to the others."""

_SLEEVES: Mapping[str, Sequence[str]] = {
    "t-shirt": ("short", "short", "short", "long", "sleeveless"),
    "shirt": ("long", "long", "short"),
    "sweater": ("long",),
    "hoodie": ("long",),
    "jacket": ("long",),
    "dress": ("sleeveless", "short", "long"),
}
_NECKLINES: Mapping[str, Sequence[str]] = {
    "t-shirt": ("round", "round", "v-neck", "collar"),
    "shirt": ("collar",),
    "sweater": ("round", "v-neck", "turtleneck"),
    "hoodie": ("hood",),
    "jacket": ("collar", "collar", "turtleneck"),
    "dress": ("round", "v-neck", "collar"),
}
_WOVEN = ("solid", "striped", "checked", "dotted", "floral")
_PATTERNS: Mapping[str, Sequence[str]] = {
    "t-shirt": ("solid", "solid", "striped", "dotted", "graphic", "graphic"),
    "shirt": ("solid", "striped", "checked", "checked", "dotted", "floral"),
    "sweater": ("solid", "solid", "striped", "checked"),
    "hoodie": ("solid", "solid", "graphic", "striped"),
    "jacket": ("solid", "solid", "solid", "checked"),
    "dress": ("solid", "striped", "checked", "dotted", "floral", "floral"),
    "skirt": _WOVEN,
    "trousers": ("solid", "solid", "solid", "checked", "striped"),
    "shorts": ("solid", "solid", "checked", "floral", "striped"),
    "sneakers": ("solid", "solid", "solid", "checked", "dotted"),
    "handbag": ("solid", "solid", "solid", "checked", "floral", "dotted"),
    "backpack": ("solid", "solid", "checked", "dotted", "floral"),
    "heels": ("solid", "solid", "solid", "dotted"),
    "cap": ("solid", "solid", "checked", "striped"),
}
_GENDERS: Mapping[str, Sequence[str]] = {
    "dress": ("Women",),
    "skirt": ("Women",),
    "heels": ("Women",),
    "handbag": ("Women",),
    "backpack": ("Unisex",),
    "cap": ("Unisex",),
    "sneakers": ("Men", "Women", "Unisex"),
}
_JEANS_COLOURS = ("blue", "blue", "navy", "light blue", "black", "grey")
_LEATHER_COLOURS = ("black", "brown", "beige", "burgundy", "white", "navy", "red", "grey")
_PRICES: Mapping[str, tuple[int, int]] = {
    "t-shirt": (9, 39),
    "shirt": (25, 89),
    "sweater": (29, 119),
    "hoodie": (29, 89),
    "jacket": (59, 249),
    "dress": (29, 179),
    "skirt": (19, 99),
    "trousers": (29, 119),
    "jeans": (39, 129),
    "shorts": (15, 59),
    "sneakers": (39, 149),
    "boots": (59, 219),
    "sandals": (19, 99),
    "heels": (39, 199),
    "handbag": (39, 299),
    "backpack": (29, 139),
    "belt": (12, 59),
    "cap": (9, 39),
}
_BRANDS = (
    *("Alderwick", "Bruma", "Caldera Lane", "Dovetail", "Estuary", "Fjellvik", "Greyfinch"),
    *("Halcyon Row", "Indigo Quay", "Juniper & Ash", "Kestrel", "Lumen", "Marrow", "Nordhaven"),
)
_NOUNS: Mapping[str, tuple[str, ...]] = {
    "t-shirt": ("T-shirt", "T-shirt", "Tee"),
    "sweater": ("Sweater", "Jumper", "Sweater"),
    "trousers": ("Trousers", "Trousers", "Chinos"),
    "sneakers": ("Sneakers", "Sneakers", "Trainers"),
    "heels": ("Heels", "High Heels"),
    "jacket": ("Jacket",),
}
_PATTERN_WORDS: Mapping[str, str] = {
    "striped": "Striped",
    "checked": "Checked",
    "dotted": "Dotted",
    "floral": "Floral",
    "graphic": "Graphic",
}
_DETAILS: Mapping[str, str] = {
    "short": "short sleeves",
    "long": "long sleeves",
    "sleeveless": "bare shoulders",
    "round": "a round neck",
    "v-neck": "a v-neck",
    "collar": "a collar",
    "turtleneck": "a turtleneck",
    "hood": "a hood",
}
_OPENINGS = (
    "{A} {what} in {colour}, cut for everyday wear.",
    "Our {what} in {colour}: simple, well made and easy to combine.",
    "{A} {what} that goes with almost everything, in {colour}.",
    "Easy to wear from morning to night, this {what} comes in {colour}.",
)
_MATERIALS: Mapping[str, tuple[str, ...]] = {
    "garment": ("soft cotton", "a linen blend", "organic cotton", "a light cotton blend"),
    "sweater": ("fine merino wool", "a wool blend", "soft lambswool"),
    "jeans": ("sturdy denim", "stretch denim"),
    "leather": ("smooth leather", "grained leather", "vegan leather"),
    "canvas": ("hard-wearing canvas", "recycled canvas"),
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What can be seen of a sample product."""

    category: str
    """One of ``CATEGORIES``."""
    colour: str
    """The main colour, one of ``cloths.COLOURS``."""
    pattern: str = "solid"
    """One of ``cloths.PATTERNS``."""
    accent: str | None = None
    """The pattern's second colour; None for a solid product."""
    sleeve: str | None = None
    """``short``, ``long`` or ``sleeveless``; None for what has no sleeves."""
    neckline: str | None = None
    """``round``, ``v-neck``, ``collar``, ``turtleneck`` or ``hood``; None as for sleeves."""
    gender: str = "Unisex"
    """``Women``, ``Men`` or ``Unisex``."""

    def rgb(self, rng: np.random.Generator) -> tuple[Rgb, Rgb]:
        """The main and the second colour, each a little off the colour's usual value."""
        second = self.accent or ("white" if is_dark(COLOURS[self.colour]) else "black")
        return _near(COLOURS[self.colour], rng), _near(COLOURS[second], rng)


@dataclass(frozen=True, slots=True)
class SampleProduct:
    """A product of the sample catalogue; its picture is drawn from the attributes and the seed."""

    product_id: str
    attributes: Attributes
    brand: str
    price: float
    title: str
    highlights: tuple[str, ...]
    description: str
    seed: int
    """Seed of the picture."""


def sample_products(n_products: int = 400, *, seed: int = 0) -> list[SampleProduct]:
    """Invent products; the same seed gives the same ones.

    Args:
        n_products: how many.
        seed: of every choice, the pictures' too.

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
    drawn = np.searchsorted(np.cumsum(weights / weights.sum()), places)
    categories = [names[min(int(i), len(names) - 1)] for i in rng.permutation(drawn)]
    return [_product(i, category, rng) for i, category in enumerate(categories)]


def sample_attributes(category: str, rng: np.random.Generator) -> Attributes:
    """Choose the attributes of a product of a category."""
    colours: Sequence[str] = tuple(COLOURS)
    if category == "jeans":
        colours = _JEANS_COLOURS
    elif category in {"boots", "belt", "sandals"}:
        colours = _LEATHER_COLOURS
    colour = _pick(colours, rng)
    pattern = _pick(_PATTERNS.get(category, ("solid",)), rng)
    accent = None if pattern in {"solid", "floral"} else _accent(colour, rng)
    neckline = _pick(_NECKLINES[category], rng) if category in _NECKLINES else None
    sleeve = _pick(_SLEEVES[category], rng) if category in _SLEEVES else None
    if category == "t-shirt" and neckline == "collar":
        sleeve = "short"
    gender = _pick(_GENDERS.get(category, ("Men", "Women")), rng)
    return Attributes(category, colour, pattern, accent, sleeve, neckline, gender)


def _product(number: int, category: str, rng: np.random.Generator) -> SampleProduct:
    attributes = sample_attributes(category, rng)
    low, high = _PRICES[category]
    brand = _pick(_BRANDS, rng)
    noun = _noun(attributes, rng)
    words = [] if attributes.gender == "Unisex" else [f"{attributes.gender}'s"]
    words += [attributes.colour.title()]
    if attributes.pattern in _PATTERN_WORDS:
        words.append(_PATTERN_WORDS[attributes.pattern])
    title = " ".join([brand, *words, noun])
    return SampleProduct(
        product_id=f"S{number + 1:04d}",
        attributes=attributes,
        brand=brand,
        price=float(rng.integers(low, high)) + 0.95,
        title=title,
        highlights=tuple(_highlights(attributes)),
        description=_description(attributes, noun.lower(), rng),
        seed=int(rng.integers(1 << 31)),
    )


def _noun(attributes: Attributes, rng: np.random.Generator) -> str:
    if attributes.category == "t-shirt" and attributes.neckline == "collar":
        return "Polo Shirt"
    return _pick(_NOUNS.get(attributes.category, (attributes.category.title(),)), rng)


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
    category = attributes.category
    kind = "garment"
    if category in {"sweater", "jeans"}:
        kind = category
    elif category in {"sneakers", "backpack", "cap"}:
        kind = "canvas"
    elif category in {"boots", "sandals", "heels", "handbag", "belt"}:
        kind = "leather"
    what = noun if attributes.pattern == "solid" else f"{attributes.pattern} {noun}"
    plural = category in {"trousers", "jeans", "shorts", *_SHOES}
    article = "a pair of" if plural else ("an" if what[0] in "aeiou" else "a")
    opening = _pick(_OPENINGS, rng)
    if plural:
        opening = opening.replace("this {what} comes", "these {what} come")
        opening = opening.replace("that goes", "that go")
    text = opening.format(A=article, what=what, colour=attributes.colour)
    text = text[0].upper() + text[1:]
    material = _pick(_MATERIALS[kind], rng)
    details = [_DETAILS[attributes.sleeve]] if attributes.sleeve else []
    details += [_DETAILS[attributes.neckline]] if attributes.neckline else []
    made = f"Made of {material}"
    return f"{text} {made}, with {' and '.join(details)}." if details else f"{text} {made}."


def _accent(colour: str, rng: np.random.Generator) -> str:
    """A second colour that can be told from the first."""
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
