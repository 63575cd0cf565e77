"""What the built-in model learns from: products with their known attributes, and captions for them.

Three sources: Kaggle's Fashion Product Images (``styles.csv`` + ``images/``), Grigorev's clothing
photographs (``labels.csv`` + ``images/``), and products drawn by ``fashionclip.sample``. Brands
and senders whose hash falls below a share are held out, whole, for ``measure_builtin.py``.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fashionclip.images import Preprocess, open_image, preprocess
from fashionclip.sample import draw_product, sample_products
from fashionclip.texts import build_caption

TEST_BRANDS = 8  # percent of the brands' hashes
TEST_SENDERS = 10  # percent of the senders' hashes
DRAWN_SEED = 1000  # the shipped sample is seed 0, and is never trained on
KINDS = ("type", "garment", "drawn")
"""What an item is, as each of the sources says it."""
FACETS = (*KINDS, "colour", "pattern", "sleeve", "neck", "gender", "fabric", "family")
"""Kinds of attributes; each item has at most one value of each."""

_NAMES: Mapping[str, Sequence[str]] = {
    "Tshirts": ("t-shirt", "tee", "tshirt"),
    "Casual Shoes": ("casual shoes", "sneakers", "sneaker", "shoes"),
    "Sports Shoes": ("sports shoes", "running shoes", "sneakers", "sneaker", "trainers"),
    "Formal Shoes": ("formal shoes", "leather shoes", "shoes"),
    "Flats": ("flats", "flat shoes", "ballerinas"),
    "Heels": ("heels", "high heels", "heeled sandals"),
    "Sandals": ("sandals", "sandal"),
    "Flip Flops": ("flip flops", "flip-flops", "slippers"),
    "Sweaters": ("sweater", "pullover", "jumper"),
    "Sweatshirts": ("sweatshirt", "pullover", "hoodie"),
    "Jackets": ("jacket", "coat"),
    "Trousers": ("trousers", "trouser", "pants"),
    "Track Pants": ("track pants", "trousers", "sweatpants"),
    "Jeans": ("jeans", "denim jeans", "trousers"),
    "Handbags": ("handbag", "bag"),
    "Backpacks": ("backpack", "bag", "rucksack"),
    "Dresses": ("dress",),
    "Caps": ("cap", "hat"),
    "Kurtas": ("kurta", "long tunic"),
    "Sunglasses": ("sunglasses",),
    "T-Shirt": ("t-shirt", "tee"),
    "Pants": ("pants", "trousers"),
    "Longsleeve": ("long-sleeved top", "pullover", "long sleeve t-shirt"),
    "Shoes": ("shoes", "sneakers", "shoe"),
    "Outwear": ("coat", "jacket", "outerwear"),
    "Undershirt": ("undershirt", "tank top"),
    "Polo": ("polo shirt",),
    "Body": ("bodysuit", "baby body"),
    "boots": ("boots", "ankle boots", "ankle boot"),
    "sneakers": ("sneakers", "sneaker", "trainers", "shoes"),
    "sandals": ("sandals", "sandal"),
    "heels": ("heels", "high heels", "pumps"),
    "trousers": ("trousers", "trouser", "pants"),
    "sweater": ("sweater", "pullover", "jumper"),
    "jacket": ("jacket", "coat"),
    "handbag": ("handbag", "bag"),
    "backpack": ("backpack", "bag"),
    "cap": ("cap", "baseball cap", "hat"),
}
_SAYINGS: Mapping[str, Mapping[str, str]] = {
    "sleeve": {"short": "short sleeves", "long": "long sleeves", "no sleeves": "sleeveless"},
    "neck": {"round": "round neck", "hood": "hooded"},
    "fabric": {"pure cotton": "cotton"},
}
_FAMILIES: Mapping[str, Sequence[str]] = {
    "apparel": ("clothes", "clothing", "apparel", "garment"),
    "accessories": ("accessory", "accessories", "fashion accessory"),
    "personal care": ("personal care", "cosmetics", "beauty product"),
}
_TEMPLATES = (
    "{}",
    "{}",
    "a photo of a {}",
    "a photo of a {}",
    "a product photo of a {}",
    "{} on a white background",
    "a picture of the {} from a fashion catalog",
)
_ATTRIBUTE_KEYS = {
    "pattern": ("Pattern", "Print or Pattern Type"),
    "sleeve": ("Sleeve Length",),
    "neck": ("Neck", "Collar"),
    "fabric": ("Fabric", "Material"),
}
_LONGEST_HIGHLIGHT = 30
_VIEW_AREAS = (0.3, 0.95)  # of the picture
_VIEW_SHAPES = (0.7, 1.4)  # width to height


@dataclass(frozen=True)
class Item:
    """One product or photograph."""

    picture: Path | None
    """None for a drawn product."""
    facets: Mapping[str, str]
    """Known attributes: facet to raw value."""
    is_test: bool
    title: str = ""
    highlights: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    twin_key: str = ""
    """Items with the same key are never negatives of each other."""
    names: tuple[str, ...] = field(default=())
    """Words for what it is."""
    window: tuple[float, float, float, float] | None = None
    """The part of the picture that is meant: left, top, right, bottom in 0…1; None is all of it."""


def read_kagl(folder: Path) -> list[Item]:
    """Read Kaggle's table; the pictures are only located."""
    with (folder / "styles.csv").open(encoding="utf-8", newline="") as file:
        return [_kagl_item(row, folder) for row in csv.DictReader(file)]


def read_clothing(folder: Path) -> list[Item]:
    """Read the table of the clothing photographs."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Item(
            picture=folder / row["image"],
            facets={"garment": row["label"]},
            is_test=_percentile("s" + row["sender_id"]) < TEST_SENDERS,
            names=article_words(row["label"]),
        )
        for row in rows
    ]


def drawn_items(n_products: int) -> list[Item]:
    """The drawn products that are trained on, without their pictures."""
    return [
        Item(
            picture=None,
            facets={
                name: value
                for name, value in {
                    "drawn": p.attributes.category,
                    "colour": p.attributes.colour,
                    "pattern": p.attributes.pattern,
                    "sleeve": _said("sleeve", p.attributes.sleeve),
                    "neck": _said("neck", p.attributes.neckline),
                }.items()
                if value
            },
            is_test=False,
            title=p.title,
            highlights=p.highlights,
            sentences=tuple(_sentences(p.description)),
            twin_key=f"drawn {p.title.casefold()}",
            names=article_words(p.attributes.category),
        )
        for p in sample_products(n_products, seed=DRAWN_SEED)
    ]


def views_of(items: Sequence[Item], n_views: int) -> list[Item]:
    """Windows of the training items' pictures, as items of their own; the same ones every time."""
    rng = np.random.default_rng(0)
    return [
        replace(item, window=_window(rng))
        for item in items
        for _ in range(0 if item.is_test else n_views)
    ]


def open_picture(item: Item) -> bytes | Image.Image:
    """The item's file, or the window of its picture.

    Raises:
        ValueError: the item is drawn and has no file.
    """
    if item.picture is None:
        message = f"{item.title!r} is drawn and has no file; draw it"
        raise ValueError(message)
    encoded = item.picture.read_bytes()
    if item.window is None:
        return encoded
    picture = open_image(encoded)
    width, height = picture.size
    left, top, right, bottom = item.window
    box = (left * width, top * height, right * width, bottom * height)
    return picture.crop(tuple(round(edge) for edge in box))


def read_pixels(items: Sequence[Item], cache: Path, pre: Preprocess) -> np.ndarray:
    """Decode and fit all pictures of a source once; uint8 (n, size, size, 3), memory-mapped.

    Raises:
        ValueError: the cache was made from another table.
    """
    if not cache.exists():
        with ThreadPoolExecutor(2) as pool:
            pixels = list(pool.map(lambda i: preprocess(open_picture(i), pre), items))
        np.save(cache, np.stack(pixels))
    found = np.load(cache, mmap_mode="r")
    if len(found) != len(items):
        message = f"{cache} holds {len(found)} pictures, not {len(items)}; remove it"
        raise ValueError(message)
    return found


def draw_pictures(n_products: int) -> list[bytes]:
    """Draw the products of ``drawn_items``, as JPEG like those of the shipped catalogue."""
    pictures = []
    for product in sample_products(n_products, seed=DRAWN_SEED):
        file = io.BytesIO()
        draw_product(product.attributes, seed=product.seed).save(file, "jpeg", quality=90)
        pictures.append(file.getvalue())
    return pictures


class Captions:
    """Makes captions, and says which other pictures a caption is also true of."""

    def __init__(self, items: Sequence[Item], seed: int) -> None:
        """Number the attributes and titles of all items."""
        self._items = items
        self._rng = np.random.default_rng(seed)
        self.values: dict[str, list[str]] = {}
        self.has_caption = np.array([bool(item.title) for item in items])
        """Not photographs: prompts ask for all that is known of them."""
        columns = []
        for facet in FACETS:
            raw = [item.facets.get(facet, "") for item in items]
            self.values[facet] = [v for v, n in _counts(raw) if v and n >= 10]
            number = {value: i for i, value in enumerate(self.values[facet])}
            columns.append([number.get(value, -1) for value in raw])
        keys = {item.twin_key: i for i, item in enumerate(items) if item.twin_key}
        columns.append([keys.get(item.twin_key, -2 - i) for i, item in enumerate(items)])
        self.labels = np.array(columns, dtype=np.int64).T
        """(n items, facets + 1): the number of each attribute's value, -1 unknown; last, twins."""

    def draw(self, i_item: int) -> tuple[str, np.ndarray]:
        """One caption at random, and what it demands of a picture: labels, or -1 for anything."""
        item, rng = self._items[i_item], self._rng
        demands = np.full(self.labels.shape[1], -1, dtype=np.int64)
        kind = rng.random()
        if not item.title or kind >= 0.45:
            text, facets = self._phrase(item)
            for facet in facets:
                demands[FACETS.index(facet)] = self.labels[i_item, FACETS.index(facet)]
            if item.title and (demands < 0).all():
                demands[-1] = self.labels[i_item, -1]
            return text, demands
        demands[-1] = self.labels[i_item, -1]
        if kind < 0.17 or (kind > 0.37 and not item.sentences):
            return item.title, demands
        if kind < 0.37:
            chosen = rng.permutation(len(item.highlights))[: int(rng.integers(1, 6))]
            return build_caption([item.highlights[i] for i in chosen], item.title), demands
        return item.sentences[int(rng.integers(len(item.sentences)))], demands

    def prompts(self, facet: str) -> list[str]:
        """A prompt for each value of a facet, with a name and a template at random."""
        name_of = self._words_of if facet in KINDS else self._saying_of
        template = _TEMPLATES[int(self._rng.integers(len(_TEMPLATES)))]
        return [template.format(name_of(facet, value)) for value in self.values[facet]]

    def all_texts(self) -> Iterator[str]:
        """Texts to learn a vocabulary from."""
        for i, item in enumerate(self._items):
            yield from (self.draw(i)[0] for _ in range(3))
            yield from item.sentences
        for names in _NAMES.values():
            yield from names

    def _phrase(self, item: Item) -> tuple[str, list[str]]:
        rng, facets = self._rng, item.facets
        kind = next(f for f in KINDS if f in facets)
        used, words = [kind], [item.names[int(rng.integers(len(item.names)))]]
        if "pattern" in facets and rng.random() < 0.35:
            words.insert(0, _plain(facets["pattern"]))
            used.append("pattern")
        if "fabric" in facets and rng.random() < 0.1:
            words.insert(0, facets["fabric"])
            used.append("fabric")
        if "sleeve" in facets and rng.random() < 0.15:
            words.insert(0, _sleeved(facets["sleeve"]))
            used.append("sleeve")
        if "colour" in facets and rng.random() < 0.6:
            words.insert(0, _plain(facets["colour"]))
            used.append("colour")
        if "gender" in facets and rng.random() < 0.25:
            gender = _plain(facets["gender"])
            words = [*words, "for", gender] if rng.random() < 0.5 else [gender, *words]
            used.append("gender")
        for facet in ("sleeve", "neck"):
            if facet in facets and facet not in used and rng.random() < 0.2:
                words += ["with", _plain(facets[facet])]
                used.append(facet)
        text = " ".join(words)
        return _TEMPLATES[int(rng.integers(len(_TEMPLATES)))].format(text), used

    def _words_of(self, _facet: str, value: str) -> str:
        names = article_words(value)
        return names[0] if self._rng.random() < 0.6 else names[int(self._rng.integers(len(names)))]

    def _saying_of(self, facet: str, value: str) -> str:
        plain = _plain(value)
        sayings = {
            "colour": (plain, f"{plain} garment", f"{plain} product", f"{plain} clothes"),
            "pattern": (plain, f"{plain} pattern", f"{plain} garment"),
            "gender": (plain, f"product for {plain}", f"{plain} clothes"),
            "sleeve": (
                *(plain, f"garment with {plain}"),
                *(f"{_sleeved(plain)} {noun}" for noun in ("garment", "clothes", "top")),
            ),
            "fabric": (plain, f"{plain} product", f"{plain} goods", f"product made of {plain}"),
            "family": _FAMILIES.get(plain, (plain,)),
        }.get(facet, (plain, f"garment with {plain}"))
        return sayings[int(self._rng.integers(len(sayings)))]


def _window(rng: np.random.Generator) -> tuple[float, float, float, float]:
    area = rng.uniform(*_VIEW_AREAS)
    shape = np.exp(rng.uniform(*np.log(_VIEW_SHAPES)))
    width, height = min(1.0, np.sqrt(area * shape)), min(1.0, np.sqrt(area / shape))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return float(left), float(top), float(left + width), float(top + height)


def _kagl_item(row: Mapping[str, str], folder: Path) -> Item:
    attributes = {k: v for k, v in json.loads(row["articleAttributes"] or "{}").items() if v}
    facets = {"type": row["articleType"], "colour": _colour(row["baseColour"])}
    facets["gender"] = row["gender"]
    for facet, keys in _ATTRIBUTE_KEYS.items():
        value = next((attributes[key] for key in keys if key in attributes), "")
        facets[facet] = _said(facet, _plain(value))
    facets["family"] = _plain(row["masterCategory"])
    title = row["productDisplayName"]
    return Item(
        picture=folder / "images" / f"{row['id']}.jpg",
        facets={k: v for k, v in facets.items() if v and v != "na"},
        is_test=_percentile(row["brandName"].lower()) < TEST_BRANDS,
        title=title,
        highlights=tuple(v for v in attributes.values() if len(v) <= _LONGEST_HIGHLIGHT),
        sentences=tuple(_sentences(row["description"])[:3]),
        twin_key=re.sub(r"\W+", " ", title.casefold()).strip(),
        names=article_words(row["articleType"]),
    )


def _colour(raw: str) -> str:
    plain = _plain(raw)
    return {"navy blue": "navy"}.get(plain, plain)


def article_words(label: str) -> tuple[str, ...]:
    """How people call a label of the sources: the usual word first."""
    if label in _NAMES:
        return tuple(_NAMES[label])
    plain = _plain(label)
    ends_singly = plain.endswith(
        ("ss", "jeans", "trousers", "shorts", "pants", "glasses", "leggings")
    )
    return (plain,) if ends_singly or not plain.endswith("s") else (plain[:-1], plain)


def _plain(value: str) -> str:
    return " ".join(value.casefold().split())


def _sleeved(sleeves: str) -> str:
    """``short sleeves`` as people say it before a noun: ``short-sleeved``."""
    return sleeves.removesuffix(" sleeves") + "-sleeved" if " " in sleeves else sleeves


def _said(facet: str, value: str | None) -> str:
    return _SAYINGS.get(facet, {}).get(value or "", value or "")


def _sentences(text: str) -> list[str]:
    pieces = re.split(r"(?<=[.!?])\s+", text)
    return [p.strip() for p in pieces if 20 <= len(p.strip()) <= 200][:4]


def _counts(values: Sequence[str]) -> list[tuple[str, int]]:
    names, numbers = np.unique(np.array(values, dtype=object).astype(str), return_counts=True)
    return sorted(
        ((str(n), int(c)) for n, c in zip(names, numbers, strict=True)), key=lambda p: -p[1]
    )


def _percentile(name: str) -> int:
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 100
