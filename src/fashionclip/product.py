"""The plain things that travel: a product, a reject, a hit.

Frozen dataclasses without behaviour, so that every room can hand them on without
knowing the room they came from, and the one form in which programs are given a hit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Value = str | int | float | bool | None
"""What a catalogue column may hold once it is read."""


@dataclass(frozen=True, slots=True)
class Product:
    """One row of a catalogue, ready to be embedded."""

    product_id: str
    """The shop's own identifier, unique within a catalogue."""
    caption: str
    """The words that stand for the product; may be empty."""
    image: str | bytes | None
    """Its path or URL, the encoded picture itself, or None if the row names none."""
    row: int
    """Row of the table it was read from; the first product is row 1."""
    columns: Mapping[str, Value]
    """The catalogue's own columns, typed; never the picture's bytes."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row or picture that could not be used, and why."""

    row: int | None
    """Row of the table, the first product being row 1; None where no single row is to blame."""
    product_id: str | None
    """The product's identifier, if the row got as far as having one."""
    image: str | None
    """The picture's location, if the row named one."""
    reason: str
    """One line: what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A product that answers a query."""

    product_id: str
    score: float
    """Higher is closer; a cosine in -1…1 unless the search says otherwise."""
    columns: Mapping[str, Value]
    """The product's catalogue columns, as they were indexed."""


def hit_fields(hit: Hit) -> dict[str, Value]:
    """A hit as programs read it, on the command line and over HTTP.

    Returns:
        ``id`` and ``score``, then the catalogue's columns (less those of these two names).
    """
    columns = {name: value for name, value in hit.columns.items() if name not in {"id", "score"}}
    return {"id": hit.product_id, "score": round(hit.score, 6), **columns}
