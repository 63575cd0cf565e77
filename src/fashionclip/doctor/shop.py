"""A catalogue as arrays: what the doctor knows of each product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from fashionclip.doctor import measures
from fashionclip.doctor.findings import MENDS, Finding, Kind, finding_key
from fashionclip.images.near_duplicates import HASH_BYTES
from fashionclip.product import Product, Reject, image_location

MAX_LABELS = 1_000
"""A column of more distinct values is not one of labels."""
MAX_FLAT = 2
"""Of 255 levels, between the lightest and the darkest part of a picture of one colour."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures as rows of arrays."""

    vectors: Float32[np.ndarray, "n dim"]
    """Unit vectors."""
    measures: Float32[np.ndarray, "n measure"]
    """``measures.MEASURES`` of each."""


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    """A catalogue as arrays; row i of each belongs to product i."""

    ids: Sequence[str]
    captions: Sequence[str]
    images: Sequence[str | None]
    """Where each picture is; None for those that the table holds."""
    groups: Sequence[str]
    """What the variants of one product share; empty where the table does not say."""
    labels: Mapping[str, Sequence[str]]
    """By column of few distinct values; empty where a cell is."""
    digests: Sequence[bytes]
    """16 bytes that identify each picture's content."""
    pictures: Pictures
    signatures: UInt8[np.ndarray, "n signature"]
    drawn: Mapping[str, Pictures]
    """Copies with a fault drawn in, by ``drawn.DRAWINGS``; row i of each is of one picture."""
    drawn_rows: Sequence[int]
    """The product whose picture row i of ``drawn`` shows."""
    rejects: Sequence[Reject]
    """Rows and pictures that cannot be used."""

    def measure(self, name: str) -> Float32[np.ndarray, " n"]:
        """One of ``measures.MEASURES`` of every picture."""
        return self.pictures.measures[:, measures.MEASURES.index(name)]

    @property
    def is_flat(self) -> Bool[np.ndarray, " n"]:
        """Which pictures have one colour, so that they show nothing."""
        grids = self.signatures[:, HASH_BYTES:].reshape(len(self.ids), -1, 3)
        return np.asarray((np.ptp(grids, axis=1) <= MAX_FLAT).all(axis=1))


def tell_apart(captions: Sequence[str]) -> bool:
    """Whether captions tell products apart: at least two differ, and one in a hundred of them."""
    known = [caption.casefold() for caption in captions if caption]
    return len(known) <= 2 or len(set(known)) >= max(2, len(known) // 100)


def picture_finding(shop: Shop, kind: Kind, row: int, evidence: str, confidence: float) -> Finding:
    """A finding about one product's picture, with the suggestion that its kind always has."""
    return Finding(
        kind=kind,
        product_ids=(shop.ids[row],),
        evidence=evidence,
        confidence=round(confidence, 3),
        suggestion=MENDS[kind],
        images=(shop.images[row],),
        key=finding_key(kind, shop.digests[row]),
    )


@dataclass(slots=True)
class Columns:
    """What is kept of the table, column by column."""

    ids: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    images: list[str | None] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)
    distinct: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, product: Product, digest: bytes, group: str | None) -> None:
        """Keep a product; ``group`` is the column of groups."""
        self.ids.append(product.product_id)
        self.captions.append(product.caption)
        self.images.append(image_location(product.image))
        self.groups.append(str(product.columns.get(group or "") or ""))
        self.digests.append(digest)
        for name, values in list(self.labels.items()):
            text = product.columns.get(name)
            value = "" if text is None else str(text).strip()
            known = self.distinct[name]
            if value not in known and len(known) > MAX_LABELS:
                del self.labels[name]
                continue
            values.append(known.setdefault(value, value))
