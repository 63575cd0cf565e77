"""What the built-in model learns from: products and photographs with their known attributes.

Three sources: Kaggle's Fashion Product Images (``styles.csv`` + ``images/``), Grigorev's clothing
photographs (``labels.csv`` + ``images/``), and products drawn by ``fashionclip.sample``; and what
is made of the first two: windows of photographs, and products laid onto their grounds. Brands and
senders whose hash falls below a share are held out, whole, for ``measure_builtin.py``.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from builtin_scenes import Scene, draw_scenes, lay
from builtin_words import article_words, lowered, said
from PIL import Image

from fashionclip.images.decode import Preprocess, open_image, preprocess
from fashionclip.metrics import percentile
from fashionclip.sample import generate_image, sample_products

TEST_BRANDS = 8  # percent of the brands' hashes
TEST_SENDERS = 10  # percent of the senders' hashes
DRAWN_SEED = 1000  # the shipped sample is seed 0, and is never trained on
KINDS = ("type", "garment", "drawn")
"""What an item is, as each of the sources says it."""
FACETS = (
    *KINDS,
    *("colour", "pattern", "sleeve", "neck", "gender", "fabric", "family", "subfamily", "usage"),
)
"""Kinds of attributes; each item has at most one value of each."""

_ATTRIBUTE_KEYS = {
    "pattern": ("Pattern", "Print or Pattern Type"),
    "sleeve": ("Sleeve Length",),
    "neck": ("Neck", "Collar"),
    "fabric": ("Fabric", "Material"),
}
_GARMENTS: Mapping[str, Sequence[str]] = {
    "T-Shirt": ("Tshirts",),
    "Pants": ("Trousers", "Jeans", "Track Pants", "Leggings", "Jeggings", "Capris", "Lounge Pants"),
    "Shoes": (
        *("Casual Shoes", "Sports Shoes", "Formal Shoes", "Flats", "Heels", "Sandals"),
        *("Flip Flops", "Sports Sandals"),
    ),
    "Outwear": ("Jackets", "Rain Jacket", "Nehru Jackets"),
    "Longsleeve": ("Sweaters", "Sweatshirts"),
    "Shorts": ("Shorts", "Lounge Shorts"),
    "Dress": ("Dresses", "Nightdress"),
    "Shirt": ("Shirts",),
    "Hat": ("Caps", "Hat"),
    "Skirt": ("Skirts",),
    "Blazer": ("Blazers",),
    "Undershirt": ("Innerwear Vests", "Camisoles"),
}
"""Labels of the photographs, and the shop's types that these are."""
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
    scene: Scene | None = None
    """What the product is laid into, cut out of its page."""


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
            is_test=percentile("s" + row["sender_id"]) < TEST_SENDERS,
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
                    "sleeve": said("sleeve", p.attributes.sleeve),
                    "neck": said("neck", p.attributes.neckline),
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


def views_of(items: Sequence[Item], n_views: int, *, seed: int) -> list[Item]:
    """Windows of the training items' pictures, as items of their own; the same ones every time."""
    rng = np.random.default_rng(seed)
    return [
        replace(item, window=_window(rng))
        for item in items
        for _ in range(0 if item.is_test else n_views)
    ]


def scenes_of(
    items: Sequence[Item], photographs: Sequence[Item], n_scenes: int, *, seed: int
) -> list[Item]:
    """The training products laid onto the photographs' grounds, as items of their own.

    Those that the photographs have a word for come ``n_scenes`` times and have that label too.
    """
    grounds = [item.picture for item in photographs if item.picture and not item.is_test]
    wanted = []
    for item in items:
        if not item.is_test and n_scenes:
            garment = _garment(item)
            facets = {**item.facets, **({"garment": garment} if garment else {})}
            wanted += [replace(item, facets=facets)] * (n_scenes if garment else 1)
    places = draw_scenes(grounds, len(wanted), seed=seed)
    return [replace(item, scene=place) for item, place in zip(wanted, places, strict=True)]


def open_picture(item: Item) -> bytes | Image.Image:
    """The item's file, the window of its picture, or the scene that its product is laid into.

    Raises:
        ValueError: the item is drawn and has no file.
    """
    if item.picture is None:
        message = f"{item.title!r} is drawn and has no file; draw it"
        raise ValueError(message)
    encoded = item.picture.read_bytes()
    if item.scene is not None:
        return lay(open_image(encoded), item.scene)
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
        generate_image(product.attributes, seed=product.seed).save(file, "jpeg", quality=90)
        pictures.append(file.getvalue())
    return pictures


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
        facets[facet] = said(facet, lowered(value))
    facets["family"] = lowered(row["masterCategory"])
    facets["subfamily"] = lowered(row["subCategory"])
    facets["usage"] = lowered(row["usage"])
    title = row["productDisplayName"]
    return Item(
        picture=folder / "images" / f"{row['id']}.jpg",
        facets={k: v for k, v in facets.items() if v and v != "na"},
        is_test=percentile(row["brandName"].lower()) < TEST_BRANDS,
        title=title,
        highlights=tuple(v for v in attributes.values() if len(v) <= _LONGEST_HIGHLIGHT),
        sentences=tuple(_sentences(row["description"])[:3]),
        twin_key=re.sub(r"\W+", " ", title.casefold()).strip(),
        names=article_words(row["articleType"]),
    )


def _garment(item: Item) -> str:
    """The photographs' word for a product of the shop; empty where there is none."""
    name = next((g for g, types in _GARMENTS.items() if item.facets.get("type") in types), "")
    is_long = item.facets.get("sleeve") == "long sleeves"
    return "Longsleeve" if name == "T-Shirt" and is_long else name


def _colour(raw: str) -> str:
    plain = lowered(raw)
    return {"navy blue": "navy"}.get(plain, plain)


def _sentences(text: str) -> list[str]:
    pieces = re.split(r"(?<=[.!?])\s+", text)
    return [p.strip() for p in pieces if 20 <= len(p.strip()) <= 200][:4]
