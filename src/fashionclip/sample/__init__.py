"""A sample catalogue that is drawn, not photographed: garments, shoes and bags on white.

Everything seen is known (category, colour, pattern, sleeve, neckline), so the catalogue serves
the demo, the tests, and probes of what a model can see. The same seed draws the same pictures.
"""

import csv
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from fashionclip.sample.accessories import (
    draw_backpack,
    draw_belt,
    draw_boots,
    draw_cap,
    draw_handbag,
    draw_heels,
    draw_sandals,
    draw_sneakers,
)
from fashionclip.sample.bottoms import draw_skirt, draw_trousers
from fashionclip.sample.canvas import Board
from fashionclip.sample.cloths import COLOURS, PATTERNS
from fashionclip.sample.products import (
    CATEGORIES,
    Attributes,
    SampleProduct,
    sample_attributes,
    sample_products,
)
from fashionclip.sample.tops import draw_dress, draw_top

COLUMNS = (
    *("id", "title", "description", "highlights", "category", "colour", "pattern", "sleeve"),
    *("neckline", "gender", "brand", "price", "image"),
)
_JPEG_QUALITY = 90

_Draw = Callable[[Board, Attributes, np.random.Generator], None]
_PENCILS: Mapping[str, _Draw] = MappingProxyType(
    {
        "t-shirt": draw_top,
        "shirt": draw_top,
        "sweater": draw_top,
        "hoodie": draw_top,
        "jacket": draw_top,
        "dress": draw_dress,
        "skirt": draw_skirt,
        "trousers": draw_trousers,
        "jeans": draw_trousers,
        "shorts": draw_trousers,
        "sneakers": draw_sneakers,
        "boots": draw_boots,
        "sandals": draw_sandals,
        "heels": draw_heels,
        "handbag": draw_handbag,
        "backpack": draw_backpack,
        "belt": draw_belt,
        "cap": draw_cap,
    }
)


def draw_product(attributes: Attributes, *, seed: int) -> Image.Image:
    """Draw a product, upright on white.

    Args:
        attributes: what is to be seen.
        seed: of the cut, the folds and the shade of the colours.

    Returns:
        An RGB picture, 240 wide and 320 high.

    Raises:
        ValueError: the category, colour or pattern is unknown.
    """
    known = {"category": CATEGORIES, "colour": COLOURS, "pattern": PATTERNS}
    for name, values in known.items():
        value = getattr(attributes, name)
        if value not in values:
            message = f"{name} {value!r} cannot be drawn; it is one of {', '.join(values)}"
            raise ValueError(message)
    rng = np.random.default_rng(seed)
    board = Board(rng)
    _PENCILS[attributes.category](board, attributes, rng)
    return board.image()


def draw_products(n_products: int, *, seed: int = 0) -> list[Image.Image]:
    """Draw the pictures of ``sample_products``, in their order."""
    products = sample_products(n_products, seed=seed)
    return [draw_product(p.attributes, seed=p.seed) for p in products]


def write_sample_catalog(folder: str | Path, *, n_products: int = 400, seed: int = 0) -> Path:
    """Write the sample catalogue: ``catalog.csv``, and the pictures in ``images/``.

    Args:
        folder: made if it is missing; files of the same names are replaced.
        n_products: how many products.
        seed: of products and pictures.

    Returns:
        The path of ``catalog.csv``.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    products = sample_products(n_products, seed=seed)

    def draw(product: SampleProduct) -> None:
        picture = draw_product(product.attributes, seed=product.seed)
        picture.save(folder / _image_name(product), quality=_JPEG_QUALITY)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, products))
    path = folder / "catalog.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(product) for product in products)
    return path


def _image_name(product: SampleProduct) -> str:
    return f"images/{product.product_id}.jpg"


def _row(product: SampleProduct) -> dict[str, str]:
    attributes = product.attributes
    return {
        "id": product.product_id,
        "title": product.title,
        "description": product.description,
        "highlights": json.dumps(product.highlights),
        "category": attributes.category,
        "colour": attributes.colour,
        "pattern": attributes.pattern,
        "sleeve": attributes.sleeve or "",
        "neckline": attributes.neckline or "",
        "gender": attributes.gender,
        "brand": product.brand,
        "price": f"{product.price:.2f}",
        "image": _image_name(product),
    }


__all__ = [
    "CATEGORIES",
    "COLOURS",
    "COLUMNS",
    "PATTERNS",
    "Attributes",
    "SampleProduct",
    "draw_product",
    "draw_products",
    "sample_attributes",
    "sample_products",
    "write_sample_catalog",
]
