"""What Kaggle's table knows of a garment beyond its type: the scorecard, and picture to picture."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from fashionclip.evaluate.benchmarks.base import choose
from fashionclip.evaluate.benchmarks.kagl.products import KaglProduct, KaglTable
from fashionclip.evaluate.benchmarks.kagl.words import words_of
from fashionclip.evaluate.benchmarks.kagl.zero_shot import sorting_task
from fashionclip.evaluate.benchmarks.wrong_words import MIN_IMAGES, wrong_attribute_task
from fashionclip.evaluate.tasks import (
    ClassLabel,
    Garment,
    ImageToImage,
    WrongAttribute,
    ZeroShot,
)

N_QUERIES = 1_000
_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "pattern": ("Pattern", "Print or Pattern Type"),
        "sleeve": ("Sleeve Length",),
        "neckline": ("Neck", "Collar"),
        "material": ("Fabric", "Material", "Upper Material", "Strap Material"),
    }
)
_NOUNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "pattern": ("garment", "clothes"),
        "sleeve": ("garment", "clothes"),
        "neckline": ("garment", "clothes"),
        "material": ("product", "goods"),
    }
)
"""What a facet's word is said of, and how else: ``striped garment``, ``striped clothes``."""
_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "colour": {
            "Multi": "multicoloured", "Navy Blue": "navy blue", "Off White": "off-white",
            "Turquoise Blue": "turquoise", "Grey Melange": "grey", "Coffee Brown": "brown",
            "Sea Green": "sea green", "Lime Green": "lime green", "Metallic": "",
            "Skin": "", "Nude": "", "Steel": "", "Mushroom Brown": "brown", "Charcoal": "grey",
        },
        "pattern": {
            "Solid": "plain", "Striped": "striped", "Checked": "checked", "Printed": "printed",
            "Graphic": "printed", "Typography": "printed", "Abstract": "printed",
            "Animal": "printed", "Geometric": "printed", "Superhero": "printed",
            "Floral": "floral", "Horizontal Stripes": "striped", "Vertical Stripes": "striped",
            "Pinstripes": "striped", "Tartan Checks": "checked", "Other Checks": "checked",
            "Polka Dots": "dotted", "Colourblocked": "colour-blocked",
            "Embellished": "embellished",
        },
        "sleeve": {
            "Short Sleeves": "short-sleeved", "Long Sleeves": "long-sleeved",
            "Sleeveless": "sleeveless", "No Sleeves": "sleeveless",
            "Three-Quarter Sleeves": "three-quarter-sleeved",
        },
        "neckline": {
            "Round Neck": "round-necked", "V-Neck": "v-necked", "Scoop Neck": "scoop-necked",
            "Boat Neck": "boat-necked", "Square Neck": "square-necked", "Cowl Neck": "cowl-necked",
            "Polo Collar": "polo-collared", "Mandarin Collar": "mandarin-collared",
            "Shirt Collar": "shirt-collared", "Spread Collar": "shirt-collared",
            "Slim Collar": "shirt-collared", "Cutaway Collar": "shirt-collared",
            "Button-Down Collar": "shirt-collared", "Hooded": "hooded", "Hood": "hooded",
            "Strapless": "strapless", "High Neck": "high-necked",
        },
        "material": {
            "Cotton": "cotton", "Pure Cotton": "cotton", "Polyester": "polyester",
            "Nylon": "nylon", "Silk": "silk", "Dupion Silk": "silk", "Wool": "woollen",
            "Linen": "linen", "Canvas": "canvas", "Leather": "leather", "Suede": "suede",
            "Synthetic Suede": "suede", "Synthetic Leather": "synthetic leather", "Mesh": "mesh",
            "Stainless Steel": "steel", "Metal": "metal", "Satin": "satin", "Denim": "denim",
        },
    }
)  # fmt: skip
"""Raw value to the word in a caption; a value that is missing says nothing that can be seen.
Colours that are missing are said as they are written."""
_ALIKE = tuple(
    frozenset(words.split(", "))
    for words in (
        "blue, navy blue, turquoise, teal",
        "white, off-white, cream",
        "beige, cream, tan, khaki, peach",
        "brown, tan, bronze, copper, rust",
        "red, maroon, burgundy, rust",
        "pink, magenta, rose, peach, mauve",
        "purple, lavender, magenta, mauve",
        "grey, silver",
        "orange, rust, peach",
        "green, olive, khaki, sea green, lime green, fluorescent green, teal",
        "yellow, mustard, gold",
        "gold, bronze, copper, mustard",
        "printed, floral, dotted, embellished",
        "round-necked, scoop-necked",
        "leather, synthetic leather",
        "steel, metal",
        "polyester, nylon, mesh",
    )
)
"""Words that people take for one another."""


def garment_of(product: KaglProduct) -> Garment:
    """A product with its article type and what is known of it: ``{"colour: red", …}``."""
    known = known_words(product)
    attributes = frozenset(f"{facet}: {value}" for facet, value in known.items())
    return Garment(product.image, product.labels["articleType"], attributes)


def known_words(product: KaglProduct) -> dict[str, str]:
    """Facet to the word for its value, for what is known and can be seen."""
    raw = {"colour": product.labels["baseColour"]}
    for facet, keys in _KEYS.items():
        raw[facet] = next((product.attributes[k] for k in keys if k in product.attributes), "")
    words = {facet: _VALUES[facet].get(value, "") for facet, value in raw.items()}
    if raw["colour"] not in _VALUES["colour"]:
        words["colour"] = raw["colour"].casefold()
    return {facet: word for facet, word in words.items() if word}


def similar_task(table: KaglTable) -> ImageToImage | None:
    """Products like a product: the same article type, and the same attributes; None if too few."""
    garments = [garment_of(p) for p in table.products if p.labels["articleType"]]
    if len(garments) < 2:
        return None
    drawn = choose(len(garments), N_QUERIES).tolist()
    note = (
        f"{len(drawn):,} of the {len(garments):,} products as queries, the others as documents; "
        "the category is the article type, the attributes are colour, pattern, sleeve, neckline "
        "and material, as far as the table knows them."
    )
    return ImageToImage(
        name="kagl/similar",
        queries=tuple(garments[i] for i in drawn),
        documents=tuple(garments),
        notes=(note, *table.notes),
    )


def scorecard_tasks(table: KaglTable) -> dict[str, ZeroShot | WrongAttribute | None]:
    """Two tasks for each facet, labels and wrong words; None for one that the table lacks.

    The labels of colours are sorted by as they are written, which ``zero_shot_tasks`` does.
    """
    said = words_of("articleType", {p.labels["articleType"] for p in table.products})
    tasks: dict[str, ZeroShot | WrongAttribute | None] = {}
    for facet in ("colour", *_KEYS):
        if facet in _NOUNS:
            tasks[f"kagl/{facet}"] = _labels_task(facet, table)
        known = [
            (product.image, said[product.labels["articleType"]][0], word)
            for product in table.products
            if product.labels["articleType"] and (word := known_words(product).get(facet))
        ]
        name = f"kagl/wrong-{facet}"
        tasks[name] = wrong_attribute_task(name, facet, known, alike=_ALIKE, notes=table.notes)
    return tasks


def _labels_task(facet: str, table: KaglTable) -> ZeroShot | None:
    """Products sorted by one facet's words, as a caption would say them."""
    known = [(p, word) for p in table.products if (word := known_words(p).get(facet))]
    counts = Counter(word for _, word in known)
    words = sorted(word for word, n in counts.items() if n >= MIN_IMAGES)
    kept = [(product, word) for product, word in known if word in set(words)]
    first, other = _NOUNS[facet]
    classes = tuple(ClassLabel(word, f"{word} {first}", (f"{word} {other}",)) for word in words)
    note = (
        f"{len(words)} words for the {facet}, each of at least {MIN_IMAGES} products; "
        f"{len(known) - len(kept):,} of {len(known):,} products left out. Values that cannot be "
        "told apart by eye are one word (shirt, spread and cutaway collars)."
    )
    return sorting_task(f"kagl/{facet}", classes, kept, (note, *table.notes))
