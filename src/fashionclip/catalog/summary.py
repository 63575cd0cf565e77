"""What was understood of a catalogue: format, columns, prices, groups and images, for people."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import compress

from fashionclip.catalog.catalog import Catalog, SeenIds
from fashionclip.catalog.faults import relative
from fashionclip.images.fetch import is_url
from fashionclip.product import Kind, Product, Reject, Roles, Value

MAX_EXAMPLES = 3
PRODUCTS_OF_EXAMPLES = 1_000  # after so many, one example will do: looking for more takes time
MAX_EXAMPLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """A column of the products, as it will be stored."""

    name: str
    roles: tuple[str, ...]
    """The parts that it plays; usually none or one."""
    kind: Kind
    n_filled: int
    """Products that have a value."""
    examples: tuple[Value, ...]
    """Up to three different values; long text is cut."""
    because: tuple[int, str] | None
    """The first row, and its value, that is why its kind is not narrower; None for no such row."""


@dataclass(frozen=True, slots=True, repr=False)
class CatalogSummary:
    """What was understood of a catalogue, and what its products have."""

    location: str
    format: str | None
    """The kind of export that it is read as; None for a plain table."""
    notes: tuple[str, ...]
    """Every decision that reading the table took, in a sentence each."""
    rows: int
    """Rows of the table."""
    products: int
    """Products that the rows make, before their images are read."""
    rejects: int
    """Rows that make none."""
    roles: Roles
    columns: tuple[ColumnSummary, ...]
    """Those of the roles first."""
    blank_columns: tuple[str, ...]
    """Columns without a value in any row; nothing is stored for them."""
    price_range: tuple[float, float] | None
    """The lowest and the highest price; None if no product has one."""
    price_sign: str | None
    """The decimal sign that the price's column is written with, if it is known."""
    currencies: Mapping[str, int]
    """Products by the currency of their price."""
    groups: int
    """Different values of the group's column."""
    images: Mapping[str, int]
    """Products by where their image is: ``file``, ``url``, ``embedded`` in the table, ``none``."""
    images_by_id: str | None
    """The folder or URL where images are found by the products' ids; None if a column names them.
    """
    further_images: int
    """Further views of all products together."""

    def __repr__(self) -> str:
        """One fact per line."""
        return "\n".join(f"{name:>8}  {fact}" for name, fact in self.facts().items())

    def as_dict(self) -> dict[str, object]:
        """The summary as plain values for JSON."""
        return asdict(self)

    def facts(self) -> dict[str, str]:
        """The summary as a few named sentences."""
        facts = {
            "format": self.format or "",
            "rows": _rows(self),
            "roles": _roles(self.roles),
            "prices": _prices(self),
            "groups": _groups(self),
            "images": _images(self),
        }
        return {name: fact for name, fact in facts.items() if fact}


class SummaryBuilder:
    """Counts what the products of one pass have."""

    def __init__(self, catalog: Catalog) -> None:
        """Start with nothing counted."""
        self._catalog = catalog
        self._products = self._rejects = self._groups = self._further_images = 0
        self._seen_groups = SeenIds()
        self._images: Counter[str] = Counter()
        self._currencies: Counter[str] = Counter()
        self._lowest, self._highest = math.inf, -math.inf
        self._n_filled: Counter[str] = Counter()
        self._examples: dict[str, dict[Value, None]] = {name: {} for name in catalog.columns}
        self._without_examples = list(catalog.columns)

    def add(self, item: Product | Reject) -> None:
        """Count the next item of the pass."""
        if isinstance(item, Reject):
            self._rejects += 1
            return
        self._products += 1
        self._images[_place(item.image)] += 1
        self._further_images += len(item.further_images)
        roles, columns = self._catalog.roles, item.columns
        group = columns.get(roles.group or "")
        if group is not None:
            self._groups += (
                self._seen_groups.first_row(str(group), self._products) == self._products
            )
        price = columns.get(roles.price or "")
        if isinstance(price, int | float):
            self._lowest = min(self._lowest, float(price))
            self._highest = max(self._highest, float(price))
            currency = columns.get(roles.currency or "")
            self._currencies.update([currency] if isinstance(currency, str) else [])
        self._n_filled.update(compress(columns, [value is not None for value in columns.values()]))
        n_wanted = MAX_EXAMPLES if self._products <= PRODUCTS_OF_EXAMPLES else 1
        for name in [name for name in self._without_examples if columns.get(name) is not None]:
            self._examples[name][_cut(columns[name])] = None
            if len(self._examples[name]) >= n_wanted:
                self._without_examples.remove(name)

    def build(self) -> CatalogSummary:
        """The summary of what was counted."""
        roles, types = _columns_of(self._catalog.roles), self._catalog.types
        columns = [
            ColumnSummary(
                name,
                tuple(role for role, names in roles.items() if name in names),
                kind,
                self._n_filled[name],
                tuple(self._examples[name]),
                types[name].because if name in types else None,
            )
            for name, kind in self._catalog.columns.items()
        ]
        places = [name for names in roles.values() for name in names]
        columns.sort(key=lambda c: places.index(c.name) if c.roles else len(places))
        return CatalogSummary(
            location=self._catalog.location,
            format=self._catalog.format,
            notes=self._catalog.notes,
            rows=self._catalog.n_rows,
            products=self._products,
            rejects=self._rejects,
            roles=self._catalog.roles,
            columns=tuple(columns),
            blank_columns=tuple(name for name, found in types.items() if found.kind is None),
            price_range=(self._lowest, self._highest) if self._lowest <= self._highest else None,
            price_sign=next((types[name].sign for name in roles.get("price", ())), None),
            currencies=dict(self._currencies.most_common()),
            groups=self._groups,
            images=dict(self._images),
            images_by_id=None if self._catalog.roles.image else self._catalog.images,
            further_images=self._further_images,
        )


def summarize(catalog: Catalog) -> CatalogSummary:
    """Read a catalogue's table once and sum up what its products have; no image is read.

    Raises:
        CatalogError: the table cannot be read on.
    """
    builder = SummaryBuilder(catalog)
    for item in catalog:
        builder.add(item)
    return builder.build()


def _cut(value: Value) -> Value:
    if not isinstance(value, str) or len(value) <= MAX_EXAMPLE_CHARS:
        return value
    return f"{value[: MAX_EXAMPLE_CHARS - 1]}…"


def _place(image: str | bytes | None) -> str:
    if image is None:
        return "none"
    if isinstance(image, bytes) or image.startswith("data:"):
        return "embedded"
    return "url" if is_url(image) and not image.startswith("file:") else "file"


def _columns_of(roles: Roles) -> dict[str, tuple[str, ...]]:
    """The columns of each role that has one."""
    found = {role: name for role, name in roles.as_dict().items() if isinstance(name, str)}
    columns = {role: (name,) for role, name in found.items()}
    return columns | ({"further_images": roles.further_images} if roles.further_images else {})


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun if n == 1 else noun + 's'}"


def _rows(summary: CatalogSummary) -> str:
    rows, products = _counted(summary.rows, "row"), _counted(summary.products, "product")
    rejects = f"; {_counted(summary.rejects, 'row')} cannot be used" if summary.rejects else ""
    return f"{rows} {'makes' if summary.rows == 1 else 'make'} {products}{rejects}"


def _roles(roles: Roles) -> str:
    found = _columns_of(roles)
    return ", ".join(
        f"{role} = {', '.join(names)}" if names != (role,) else role
        for role, names in found.items()
    )


def _prices(summary: CatalogSummary) -> str:
    if summary.price_range is None:
        return ""
    lowest, highest = (f"{price:,.2f}" for price in summary.price_range)
    span = lowest if lowest == highest else f"{lowest} to {highest}"
    filled = next(c.n_filled for c in summary.columns if c.name == summary.roles.price)
    currency = ", ".join(list(summary.currencies)[:MAX_EXAMPLES]) or "no currency is named"
    without = summary.products - filled
    comma = ", written with a decimal comma" if summary.price_sign == "," else ""
    return f"{span}, {currency}{comma}" + (f"; {without:,} without a price" if without else "")


def _groups(summary: CatalogSummary) -> str:
    if not summary.groups:
        return ""
    products, groups = _counted(summary.products, "product"), _counted(summary.groups, "group")
    return f"{products} in {groups} of variants, by the column '{summary.roles.group}'"


def _images(summary: CatalogSummary) -> str:
    found = summary.images
    parts = [
        _counted(found[p], word) for p, word in (("file", "file"), ("url", "URL")) if p in found
    ]
    words = {"embedded": "in the table", "none": "without one"}
    parts += [f"{found[place]:,} {word}" for place, word in words.items() if place in found]
    if summary.further_images:
        parts.append(_counted(summary.further_images, "further view"))
    by_id = f"; {relative(summary.images_by_id)}/<id>.jpg" if summary.images_by_id else ""
    return ", ".join(parts) + by_id
