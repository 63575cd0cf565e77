"""What the service answers, and what it is given, as plain types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fashionclip.product import Explanation, Hit, Value

ImageInput = str | Path | bytes
"""A path; an http(s) or ``data:`` URL, which the service fetches if it may; or encoded bytes."""
Mode = Literal["hybrid", "vectors", "words"]
"""What a text is compared with: the products' vectors, their words, or both."""


@dataclass(frozen=True, slots=True)
class Facet:
    """A column to filter by, counted over the products that fit."""

    kind: Literal["text", "boolean", "number", "list"]
    values: tuple[tuple[Value, int], ...]
    """The most frequent values and their products' numbers; empty for numbers."""
    low: float | None = None
    """The lowest number."""
    high: float | None = None


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change of a search, as the service made it."""

    text: str
    """As it was asked for."""
    before: str
    """The text that it leads away from."""
    after: str
    """The text that it leads to."""
    strength: float
    """How far."""


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of search results: those that fit, best first or sorted, then weaker ones."""

    hits: tuple[Hit, ...]
    has_more: bool
    """Whether the next page has hits."""
    n_relevant: int
    """How many of the hits, from the first on, fit; with 0, nothing in the catalogue does."""
    cursor: str | None = None
    """For ``search(…, cursor=…)``, which gives the next page; None at the end."""
    total: int | None = None
    """How many products (or groups) fit; None if it was not asked for."""
    is_total_exact: bool = True
    """False if at least ``total`` products fit."""
    facets: Mapping[str, Facet] = field(default_factory=dict)
    """By column; those that were asked for."""
    changes: tuple[AppliedChange, ...] = ()
    """How hits differ from the start of the search, as ``but`` asked for."""
    kept_category: tuple[str, tuple[Value, ...]] | None = None
    """Column and values that hits are kept to because of the changes."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that the service encodes with."""

    name: str
    dim: int
    """Numbers of a vector."""


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
class Patch:
    """New values for columns of a stored product; its image stays."""

    product_id: str
    columns: Mapping[str, Value]
    """By column or role; None removes a value."""
    caption: str | None = None
    """None keeps one that was given, and builds others anew."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """A product to delete."""

    product_id: str


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of many changes."""

    stored: int
    patched: int
    deleted: int
    rejected: tuple["Rejection", ...]
    """Changes that were not made, those of products that are not there included."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A change that was not made."""

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
    """Whether requests may be sent to it."""
    status: str
    """``ready``, or ``stale`` while it cannot read the store that it serves; if it is not ready,
    ``loading``, ``stopping``, ``outdated`` or ``other_model``."""
    n_products: int
    model: str


def read_hits(fields: Mapping[str, Any], *, has_variants: bool, is_explained: bool) -> Hits:
    """A page of hits from its JSON.

    Args:
        fields: the JSON.
        has_variants: whether hits are grouped.
        is_explained: whether hits have explanations.
    """
    own = {"n_variants": has_variants, "explanation": is_explained}
    names = {name for name, is_own in own.items() if is_own}
    return Hits(
        hits=tuple(read_hit(one, names) for one in fields["hits"]),
        has_more=fields["has_more"],
        n_relevant=fields["n_relevant"],
        cursor=fields["cursor"],
        total=fields["total"],
        is_total_exact=fields["is_total_exact"],
        facets={name: _facet(one) for name, one in fields.get("facets", {}).items()},
        changes=tuple(
            AppliedChange(one["text"], one["from"], one["to"], one["strength"])
            for one in fields.get("changes", ())
        ),
        kept_category=(kept["column"], tuple(kept["values"]))
        if (kept := fields.get("kept_category"))
        else None,
    )


def read_hit(fields: Mapping[str, Any], own: Sequence[str] | set[str] = ()) -> Hit:
    """A hit from its JSON.

    Args:
        fields: the JSON.
        own: names that are no columns, beside id and score.
    """
    columns = {name: value for name, value in fields.items() if name not in {"id", "score", *own}}
    n_variants = fields["n_variants"] if "n_variants" in own else 1
    why = fields.get("explanation") if "explanation" in own else None
    explanation = None if why is None else Explanation(tuple(why["matched"]), why["percentile"])
    return Hit(fields["id"], fields.get("score", 1.0), columns, n_variants, explanation)


def _facet(fields: Mapping[str, Any]) -> Facet:
    values = tuple((one["value"], one["count"]) for one in fields["values"])
    return Facet(fields["kind"], values, fields.get("low"), fields.get("high"))
