"""A generated sample catalogue: rendered images of garments, shoes and bags on white.

All visible attributes are known (category, colour, pattern, sleeve, neckline), so the catalogue
serves the demo, the tests, and probes of a model's perception. The same seed gives the same images.
"""

import csv
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from fashionclip.sample import accessories, garments
from fashionclip.sample.canvas import PATTERNS, Board
from fashionclip.sample.products import (
    CATEGORIES,
    COLOURS,
    Attributes,
    SampleProduct,
    sample_attributes,
    sample_products,
)

COLUMNS = (
    *("id", "title", "description", "highlights", "category", "colour", "pattern", "sleeve"),
    *("neckline", "gender", "brand", "price", "image"),
)
_JPEG_QUALITY = 90

_Renderer = Callable[[Board, Attributes, np.random.Generator], None]
_RENDERERS: Mapping[str, _Renderer] = MappingProxyType(
    {
        **dict.fromkeys(("t-shirt", "shirt", "sweater", "hoodie", "jacket"), garments.draw_top),
        **dict.fromkeys(("trousers", "jeans", "shorts"), garments.draw_trousers),
        "dress": garments.draw_dress,
        "skirt": garments.draw_skirt,
        "sneakers": accessories.draw_sneakers,
        "boots": accessories.draw_boots,
        "sandals": accessories.draw_sandals,
        "heels": accessories.draw_heels,
        "handbag": accessories.draw_handbag,
        "backpack": accessories.draw_backpack,
        "belt": accessories.draw_belt,
        "cap": accessories.draw_cap,
    }
)


def generate_image(attributes: Attributes, *, seed: int) -> Image.Image:
    """Render the image of a product, upright on white.

    Args:
        attributes: of the product.
        seed: of the cut, the folds and the shade of the colours.

    Returns:
        An RGB image, 240 wide and 320 high.

    Raises:
        ValueError: the category, colour or pattern is unknown.
    """
    known = {"category": CATEGORIES, "colour": COLOURS, "pattern": PATTERNS}
    for name, values in known.items():
        value = getattr(attributes, name)
        if value not in values:
            message = f"{name} {value!r} is unknown; choose one of {', '.join(values)}"
            raise ValueError(message)
    rng = np.random.default_rng(seed)
    board = Board(rng)
    _RENDERERS[attributes.category](board, attributes, rng)
    return board.image()


def generate_images(n_products: int, *, seed: int = 0) -> list[Image.Image]:
    """Generate the images of ``sample_products``, in their order."""
    products = sample_products(n_products, seed=seed)
    return [generate_image(p.attributes, seed=p.seed) for p in products]


def write_sample_catalog(folder: str | Path, *, n_products: int = 400, seed: int = 0) -> Path:
    """Write the sample catalogue: ``catalog.csv``, and its images in ``images/``.

    Args:
        folder: created if needed; files of the same names are replaced.
        n_products: the number of products.
        seed: of products and images.

    Returns:
        The path of ``catalog.csv``.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    products = sample_products(n_products, seed=seed)

    def write_image(product: SampleProduct) -> None:
        image = generate_image(product.attributes, seed=product.seed)
        image.save(folder / _image_name(product), quality=_JPEG_QUALITY)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write_image, products))
    path = folder / "catalog.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(product) for product in products)
    return path


def _image_name(product: SampleProduct) -> str:
    return f"images/{product.product_id}.jpg"


def _row(product: SampleProduct) -> dict[str, str | None]:
    return {
        "id": product.product_id,
        "title": product.title,
        "description": product.description,
        "highlights": json.dumps(product.highlights),
        **asdict(product.attributes),
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
    "generate_image",
    "generate_images",
    "sample_attributes",
    "sample_products",
    "write_sample_catalog",
]
