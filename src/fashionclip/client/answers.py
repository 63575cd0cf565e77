"""What the client takes and gives: plain things, made of the service's JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashionclip.product import Hit, Value

Picture = str | Path | bytes
"""A path; an http(s) or data: URL, which the service fetches if it may; or the encoded picture."""


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of products that answer a search, best first."""

    hits: tuple[Hit, ...]
    has_more: bool
    """Whether there are more beyond these."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label and how well it fits."""

    label: str
    probability: float
    """Among the labels that were given, in 0…1; together they make 1."""


@dataclass(frozen=True, slots=True)
class NewProduct:
    """A product to store."""

    product_id: str
    image: Picture
    columns: Mapping[str, Value] = field(default_factory=dict)
    caption: str = ""
    """Empty: made of the columns, as a catalogue's captions are."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A product that was not stored, and why."""

    product_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of products that were put."""

    stored: int
    rejected: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class State:
    """How the service is."""

    is_ready: bool
    """Whether searches are answered from what is on disk."""
    status: str
    """The same in words."""
    products: int
    model: str


def hits(said: Mapping[str, Any]) -> Hits:
    """A page of hits out of an answer."""
    return Hits(tuple(hit(one) for one in said["hits"]), said["has_more"])


def hit(said: Mapping[str, Any]) -> Hit:
    """A product out of an answer; its score is 1 where none is given."""
    columns = {name: value for name, value in said.items() if name not in {"id", "score"}}
    return Hit(said["id"], said.get("score", 1.0), columns)
