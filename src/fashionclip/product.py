"""The plain types that travel between modules: products, rejects, hits; roles, kinds and forms.

Frozen dataclasses without behaviour, so that any module can pass them on without importing the
module that made them.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Literal, get_args

Value = str | int | float | bool | None
"""A value of a catalogue column."""

Kind = Literal["string", "integer", "number", "boolean"]
"""The kind of a catalogue column; any value may also be missing (None)."""

VectorForm = Literal["float", "half", "int8", "binary"]
"""How a store keeps vectors: as 32-bit floats in the form ``float``, as 16-bit ones in the others.
``int8`` and ``binary`` also say what an approximate search compares first, to find candidates that
it ranks by the vectors that are kept."""
VECTOR_FORMS: tuple[VectorForm, ...] = get_args(VectorForm)

INT64 = range(-(2**63), 2**63)
"""The integers of stores and Parquet; larger ones are text."""


@dataclass(frozen=True, slots=True)
class Product:
    """One row of a catalogue, ready to be embedded."""

    product_id: str
    """The shop's own identifier, unique within a catalogue."""
    caption: str
    """Its short description and highlights; may be empty."""
    image: str | bytes | None
    """A path or URL, the encoded image itself, or None if the row names none."""
    row: int
    """Row of its table, counted from 1."""
    columns: Mapping[str, Value]
    """The catalogue's own columns, typed; never the bytes of an image."""
    further_images: tuple[str | bytes, ...] = ()
    """Other views of the product, which are not embedded."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row or image that could not be used, with the reason."""

    row: int | None
    """Row of the table, counted from 1; None where no single row is at fault."""
    product_id: str | None
    """The product's identifier, if the row has one."""
    image: str | None
    """The image's location, if the row named one."""
    reason: str
    """One line: what is wrong and how to mend it."""


def image_location(image: str | bytes | None) -> str | None:
    """Where an image is, as a reject names it; None for bytes. ``data:`` URIs are cut."""
    if not isinstance(image, str):
        return None
    return image[:60] + "…" if image.startswith("data:") else image


def as_reject(product: Product, reason: str) -> Reject:
    """The reject of a product whose image cannot be used."""
    return Reject(product.row, product.product_id, image_location(product.image), reason)


ROLE_SPELLINGS: Mapping[str, str] = MappingProxyType({"color": "colour"})
"""Other spellings of roles to the names of ``Roles``."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Which catalogue column plays which part; None where no column does."""

    id: str | None = None
    group: str | None = None
    """Products that are variants of one another share its value."""
    title: str | None = None
    """The short description; with the highlights it makes the caption."""
    image: str | None = None
    """The main image: a path, a URL, or the encoded image itself."""
    further_images: tuple[str, ...] = ()
    """Columns of other views of the product."""
    sku: str | None = None
    """The shop's own article number, where it is not the id."""
    barcode: str | None = None
    """A GTIN: EAN, UPC or ISBN."""
    price: str | None = None
    sale_price: str | None = None
    """The reduced price, beside the price."""
    currency: str | None = None
    brand: str | None = None
    category: str | None = None
    colour: str | None = None
    size: str | None = None
    highlights: str | None = None
    description: str | None = None
    """The long description; it stands in for the title where there is none."""
    gender: str | None = None
    """For whom the product is made; ``catalog.genders`` reads its values."""

    def as_dict(self) -> dict[str, object]:
        """All roles by name, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Roles":
        """Read what ``as_dict`` gave; roles that only a newer version knows are ignored.

        Raises:
            ValueError: a column's name is not text.
        """
        known = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        further = known.pop("further_images", ())
        names = [*known.values(), *(further if isinstance(further, list | tuple) else [further])]
        if not all(name is None or isinstance(name, str) for name in names):
            message = f"columns are named by text, unlike in {dict(data)}"
            raise ValueError(message)
        return cls(**known, further_images=tuple(further))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a product is a hit."""

    matched: tuple[str, ...]
    """The words of the query that match the product's, as the query has them."""
    percentile: float | None
    """How many products of the catalogue fit the query less well by their vectors, in 0…100."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A product that answers a query."""

    product_id: str
    score: float
    """Higher is closer; a cosine in -1…1, except in searches by words."""
    columns: Mapping[str, Value]
    """The product's catalogue columns, as they were indexed."""
    n_variants: int = 1
    """How many products of its group were found, where hits are grouped."""
    explanation: Explanation | None = None
    """If it was asked for."""


def hit_fields(hit: Hit) -> dict[str, Value]:
    """A hit for JSON, on the command line and over HTTP.

    Returns:
        ``id`` and ``score``, then the catalogue's columns (less those of these two names).
    """
    columns = {name: value for name, value in hit.columns.items() if name not in {"id", "score"}}
    return {"id": hit.product_id, "score": round(hit.score, 6), **columns}


def list_of(value: Value) -> list[object] | None:
    """The list that a value holds as JSON text, the way lists are stored; None if it holds none."""
    if isinstance(value, str) and value[:1] == "[":
        with suppress(ValueError, RecursionError):
            return list(json.loads(value))
    return None


def kind_of(value: object) -> Kind | None:
    """The narrowest kind that holds a value; None for a missing one. Lists and such are text."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if value in INT64 else "string"
    return "number" if isinstance(value, float) else "string"


def widen(one: Kind | None, other: Kind | None) -> Kind | None:
    """The narrowest kind that holds the values of both."""
    if one is None or other is None or one == other:
        return one or other
    return "number" if {one, other} == {"integer", "number"} else "string"
