"""Kaggle's "Fashion Product Images" and Marqo's copy of it, read as products."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fashionclip.catalog import Catalog
from fashionclip.errors import BenchmarkError, CatalogError
from fashionclip.evaluate.benchmarks.base import has_image, left_out
from fashionclip.evaluate.benchmarks.unpacked import read_with_images
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.metrics import percentile
from fashionclip.product import Product

LABELS = (
    *("articleType", "subCategory", "masterCategory"),
    *("baseColour", "gender", "season", "usage"),
)
"""Kaggle's columns of labels."""
_OF_MARQO = {"articleType": "category3", "subCategory": "category2", "masterCategory": "category1"}
_UNKNOWN = frozenset({"", "na", "n/a", "none", "null"})
_FOR_WHOM = re.compile(r"\b(?:men|women|boy|girl|kid|unisex|ladies)(?:'?s)?\b", re.IGNORECASE)

UNSEEN_BELOW = 8
"""Brands with a percentile below this are never trained on by the built-in model."""
DEVELOPMENT_FROM = 80
"""Brands with a percentile from this on are for choosing prompts."""
DEVELOPMENT = (
    "the products of the fifth of all brands whose MD5 (of the name in lower case, modulo 100) is "
    f"{DEVELOPMENT_FROM} or more"
)


@dataclass(frozen=True, slots=True, eq=False)
class KaglProduct:
    """One product: a picture, a title, labels."""

    image: ImageRef
    """Its caption is the title."""
    brand: str
    """In lower case; where the table has no brands, what the title begins with."""
    labels: Mapping[str, str]
    """Each of ``LABELS``; empty where it is not known."""
    attributes: Mapping[str, str]
    """Kaggle's ``articleAttributes``: ``{"Neck": "Round Neck"}``; empty in copies without it."""

    @property
    def title(self) -> str:
        """The product's name."""
        return self.image.caption

    @property
    def brand_percentile(self) -> int:
        """0…99, the same for all products of a brand."""
        return percentile(self.brand)


@dataclass(frozen=True, slots=True, eq=False)
class KaglTable:
    """All products that can be measured, and what is to be said of the others."""

    products: tuple[KaglProduct, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def read_kagl(folder: Path) -> KaglTable:
    """Read Kaggle's layout (``styles.csv`` and ``images/``), else Marqo's Parquet (``data/``).

    Raises:
        BenchmarkError: there is no table, it cannot be read, or not one of its pictures is there.
    """
    shards = sorted(folder.glob("data/*.parquet")) or sorted(folder.glob("*.parquet"))
    if (folder / "styles.csv").is_file() or not shards:
        found, warnings, has_brands = _read_kaggle(folder)
    else:
        found, warnings, has_brands = _read_marqo(shards), [], False
    missing = [p.image.image_id for p in found if not has_image(p.image)]
    if missing:
        gone = set(missing)
        found = [product for product in found if product.image.image_id not in gone]
        why = "their pictures are missing; unpack the whole archive"
        warnings.append(left_out(missing, "product", why))
    if not found:
        what = f"none of the pictures of its {len(missing):,} products is there"
        message = f"kagl: {folder}: {what if missing else 'the table has no product'}"
        raise BenchmarkError(message)
    notes = ["The photographs and texts are the shop's; the licence of the listing is unverified."]
    if not has_brands:
        notes.append("This copy has no column of brands; they are read off the titles.")
    return KaglTable(tuple(found), tuple(warnings), tuple(notes))


def plain_title(title: str) -> str:
    """A title in lower case without punctuation: products that share it answer the same query."""
    return re.sub(r"\W+", " ", title.casefold()).strip()


def _read_kaggle(folder: Path) -> tuple[list[KaglProduct], list[str], bool]:
    try:
        catalog = Catalog.open(folder, caption=lambda highlights, title: title)
        rows = list(catalog)
    except CatalogError as exc:
        message = f"kagl: {exc}"
        raise BenchmarkError(message) from exc
    lacking = [
        name for name in ("articleType", "productDisplayName") if name not in catalog.columns
    ]
    if lacking:
        message = f"kagl: {folder} has no column {lacking[0]}; expected Kaggle's styles.csv"
        raise BenchmarkError(message)
    rejects = [row for row in rows if not isinstance(row, Product)]
    warnings = list(catalog.notes)
    if rejects:
        names = [f"row {reject.row}: {reject.reason}" for reject in rejects]
        warnings.append(left_out(names, "row", "they cannot be read"))
    found = [_kaggle_product(row) for row in rows if isinstance(row, Product)]
    return found, warnings, "brandName" in catalog.columns


def _kaggle_product(row: Product) -> KaglProduct:
    def text(column: str) -> str:
        return _known(row.columns.get(column))

    title = row.caption
    source = Path(row.image) if isinstance(row.image, str) else Path(f"{row.product_id}.jpg")
    return KaglProduct(
        image=ImageRef(row.product_id, source, title),
        brand=(text("brandName") or _brand_in(title)).lower(),
        labels={name: text(name) for name in LABELS},
        attributes=_attributes(text("articleAttributes")),
    )


def _read_marqo(shards: list[Path]) -> list[KaglProduct]:
    found = []
    for number, row in enumerate(read_with_images(shards)):
        product_id, title = str(row.get("item_ID") or number), str(row.get("text") or "")
        found.append(
            KaglProduct(
                image=ImageRef(product_id, row["image"] or Path(product_id), title),
                brand=_brand_in(title).lower(),
                labels={name: _known(row.get(_OF_MARQO.get(name, name))) for name in LABELS},
                attributes={},
            )
        )
    return found


def _known(value: object) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text.casefold() in _UNKNOWN else text


def _brand_in(title: str) -> str:
    """What stands before "Men", "Women", …: Kaggle's titles begin with the brand."""
    found = _FOR_WHOM.search(title)
    if found and found.start():
        return title[: found.start()].strip()
    return title.split(maxsplit=1)[0] if title.strip() else ""


def _attributes(text: str) -> dict[str, str]:
    try:
        found = json.loads(text) if text else {}
    except json.JSONDecodeError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): known for key, value in found.items() if (known := _known(value))}
