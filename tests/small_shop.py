"""A small index to serve: eighteen drawn products under a random model, ids of every sort."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fashionclip.catalog import Catalog
from fashionclip.indexing import IndexReport, index_catalog
from fashionclip.model import FashionCLIP

COLOURS = ("red", "blue", "green", "black", "orange", "purple")
GARMENTS = ("shirt", "dress", "shoe")
ODD_IDS = ("a/b c", "a/b/similar x", "100%", "été-日本", 'it\'s "so"', "?q=1&x#y")
"""Ids as shops have them: with slashes, spaces, percent signs, letters of all sorts."""


def draw(colour: str, garment: str = "shirt", *, size_px: int = 48) -> Image.Image:
    """A shape on white."""
    image = Image.new("RGB", (size_px, size_px), "white")
    shape = ImageDraw.Draw(image)
    inset = 4 + 4 * GARMENTS.index(garment)
    (shape.ellipse if garment == "shoe" else shape.rectangle)(
        (inset, 6, size_px - inset, size_px - 6), fill=colour
    )
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def as_base64(image: Image.Image) -> str:
    """A picture as requests carry it."""
    return base64.b64encode(encoded(image)).decode()


def ids() -> list[str]:
    """The products' ids, in the order of the table."""
    return [*ODD_IDS, *(f"P{i:02d}" for i in range(len(COLOURS) * len(GARMENTS) - len(ODD_IDS)))]


def write_catalog(folder: Path) -> Path:
    """Draw the pictures and write the table, as JSON Lines."""
    import json

    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    pairs = [(colour, garment) for garment in GARMENTS for colour in COLOURS]
    for i, (product_id, (colour, garment)) in enumerate(zip(ids(), pairs, strict=True)):
        name = f"{colour}-{garment}.png"
        (folder / "images" / name).write_bytes(encoded(draw(colour, garment)))
        row = {"id": product_id, "image": f"images/{name}", "title": f"{colour} {garment}"}
        row |= {"colour": colour, "category": garment, "price": 10.5 + i, "year": 2010 + i % 3}
        row |= {"in_stock": i % 2 == 0}
        lines.append(json.dumps(row, ensure_ascii=False))
    table = folder / "catalog.jsonl"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def index_shop(table: Path, checkpoint: Path, store: Path) -> IndexReport:
    """Index the table with a model."""
    return index_catalog(Catalog.open(table), FashionCLIP.from_pretrained(str(checkpoint)), store)


def unit(vector: object) -> np.ndarray:
    """A vector as float32."""
    return np.asarray(vector, dtype=np.float32)
