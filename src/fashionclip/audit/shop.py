"""A catalogue's products with their vectors, as every audit takes them."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.catalog import Catalog
from fashionclip.catalog.genders import gender_of
from fashionclip.catalog.values import parse_highlights
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.tasks import Encoder, ImageRef
from fashionclip.metrics.ranking import MAX_SCORES
from fashionclip.product import Product, Value, list_of

MIN_GROUP = 20
"""Products, queries or pairs below which no figure is given."""
MIN_TYPES = 5
"""Article types below which a mean over types is not given."""
K = 10
"""Places of the first page, on which most figures are measured."""
SEED = 0
_UNKNOWN = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown", "other", "-"})


@dataclass(frozen=True, slots=True, eq=False)
class AuditedProduct:
    """What audits take of one product; empty text where a catalogue does not have it."""

    image: ImageRef
    title: str
    highlights: tuple[str, ...]
    description: str
    category: str
    """As in a sentence, in lower case: ``casual shoes``; of a path, the last part."""
    colour: str
    brand: str
    gender: str
    """``women``, ``men`` or ``unisex``."""
    price: float
    """NaN where there is none."""
    currency: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    """The products whose pictures can be read, with their vectors."""

    products: tuple[AuditedProduct, ...]
    vectors: Float[np.ndarray, "n d"]
    """Unit vectors of the pictures, float32."""
    encoder: Encoder
    """Of the model; encodes further pictures, and texts."""
    seen: Bool[np.ndarray, " n"]
    """Marks pictures of the model's training data, and near duplicates of one."""
    n_lost: int = 0
    """Pictures that could not be read."""
    notes: tuple[str, ...] = ()
    """What could not be used of the catalogue."""
    _codes: dict[str, tuple[list[str], np.ndarray]] = field(default_factory=dict)

    def of(self, rows: Int[np.ndarray, " m"]) -> "Shop":
        """The shop that has some of the products alone."""
        products = tuple(self.products[row] for row in rows.tolist())
        return Shop(products, self.vectors[rows], self.encoder, self.seen[rows])

    def values(self, name: str) -> tuple[list[str], Int[np.ndarray, " n"]]:
        """The distinct values of a field, most frequent first, and each product's; -1 for none."""
        if name not in self._codes:
            found = [str(getattr(product, name)) for product in self.products]
            counts = Counter(value for value in found if value)
            names = [value for value, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
            place = {value: i for i, value in enumerate(names)}
            rows = np.array([place.get(value, -1) for value in found], np.int64)
            self._codes[name] = (names, rows)
        return self._codes[name]

    def types(self) -> Iterator[tuple[str, Int[np.ndarray, " m"]]]:
        """Each article type of at least ``MIN_GROUP`` products, and their rows."""
        names, codes = self.values("category")
        for place, name in enumerate(names):
            rows = np.flatnonzero(codes == place)
            if len(rows) >= MIN_GROUP:
                yield name, rows


def read_products(catalog: Catalog) -> tuple[list[AuditedProduct], int, list[str]]:
    """Read a catalogue's products, the number of rows that cannot be used, and notes on columns.

    Raises:
        CatalogError: the table cannot be read on.
        EvaluationError: it has no product with a picture.
    """
    found: list[AuditedProduct] = []
    n_rejected, unread = 0, Counter[str]()
    for row in catalog:
        if not isinstance(row, Product) or row.image is None:
            n_rejected += 1
            continue
        product = _product(row, catalog)
        raw = text_of(row.columns.get(catalog.roles.gender or ""))
        if raw and not product.gender:
            unread[raw] += 1
        found.append(product)
    if not found:
        message = f"{catalog.location} has no product with a picture, so nothing can be audited"
        raise EvaluationError(message)
    notes = []
    if unread:
        some = ", ".join(f"'{value[:40]}'" for value, _ in unread.most_common(3))
        notes.append(
            f"{unread.total():,} products have a value of gender that is not understood ({some}) "
            "and are in no group."
        )
    return found, n_rejected, notes


def _product(row: Product, catalog: Catalog) -> AuditedProduct:
    roles = catalog.roles

    def cell(role: str | None) -> Value:
        return row.columns.get(role) if role else None

    price = cell(roles.price)
    is_number = isinstance(price, int | float) and not isinstance(price, bool) and price > 0
    title = text_of(cell(roles.title)) or row.caption
    assert row.image is not None
    return AuditedProduct(
        image=ImageRef(row.product_id, row.image, title),
        title=title,
        highlights=tuple(parse_highlights(_plain_cell(cell(roles.highlights)))),
        description=text_of(cell(roles.description)),
        category=_category(cell(roles.category)),
        colour=text_of(cell(roles.colour)).casefold(),
        brand=text_of(cell(roles.brand)),
        gender=gender_of(_plain_cell(cell(roles.gender))) or "",
        price=float(price) if is_number and isinstance(price, int | float) else float("nan"),
        currency=text_of(cell(roles.currency)),
    )


def text_of(value: Value) -> str:
    """A cell as one line of text; empty for a missing value or a word for one."""
    text = " ".join(str(_plain_cell(value)).split())
    return "" if text.casefold() in _UNKNOWN else text


def _plain_cell(value: Value) -> str:
    """A cell's text; of a list, its parts with commas."""
    if value is None:
        return ""
    parts = list_of(value)
    return ", ".join(map(str, parts)) if parts is not None else str(value)


def _category(value: Value) -> str:
    """``Apparel > Shoes > Casual Shoes`` to ``casual shoes``."""
    last = re.split(r"\s*(?:>|\||»|::)\s*", text_of(value))[-1]
    return last.strip().casefold()


def own_ranks(
    queries: Float[np.ndarray, "q d"], vectors: Float[np.ndarray, "n d"], own: Sequence[np.ndarray]
) -> Int[np.ndarray, " q"]:
    """Place, from 1, of the first of each query's own products among all; ties count against it.

    Args:
        queries: unit vectors.
        vectors: unit vectors of all products.
        own: rows of the products that answer each query, at least one.
    """
    ranks = np.empty(len(queries), np.int64)
    some = max(1, MAX_SCORES // max(1, len(vectors)))
    for start in range(0, len(queries), some):
        for query, cosines in enumerate(queries[start : start + some] @ vectors.T, start=start):
            best = cosines[own[query]].max()
            others = int((cosines >= best).sum()) - int((cosines[own[query]] >= best).sum())
            ranks[query] = 1 + others
    return ranks


def rows_by_text(texts: Sequence[str]) -> list[Int[np.ndarray, " _"]]:
    """For each text the rows with the same text, whatever its case."""
    places: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        places.setdefault(text.casefold(), []).append(row)
    arrays = {text: np.array(rows, np.int64) for text, rows in places.items()}
    return [arrays[text.casefold()] for text in texts]
