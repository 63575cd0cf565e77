"""What the client's methods take and return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fashionclip.product import Hit, Value

ImageInput = str | Path | bytes
"""A path; an http(s) or ``data:`` URL, which the service fetches if it may; or encoded bytes."""


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of search results, best first."""

    hits: tuple[Hit, ...]
    has_more: bool
    """Whether the next page has hits."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label and its probability."""

    label: str
    probability: float
    """In 0…1; the labels of one call sum to 1."""


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to store."""

    product_id: str
    image: ImageInput
    columns: Mapping[str, Value] = field(default_factory=dict)
    """By the catalogue's own column names, or by role: ``title``, ``price``, ``brand``, …"""
    caption: str = ""
    """If empty, the service builds it from the columns."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A product that was not stored."""

    product_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """The result of storing products."""

    stored: int
    rejected: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Whether the service is ready, and what it serves."""

    is_ready: bool
    """Whether it answers searches."""
    status: str
    """``ready``, or ``stale`` while it cannot read the store that it serves."""
    n_products: int
    model: str
