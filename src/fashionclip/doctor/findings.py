"""Findings: what may be wrong with which products, how sure that is, and which are marked as fine.

A finding's key is made of its kind and of the content that it is about: the picture's digest, the
caption, the label. So a finding that was marked as fine stays away, and comes back when what it is
about changes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from fashionclip.errors import CatalogError

Kind = Literal[
    "same_picture",
    "same_product",
    "caption",
    "category",
    "attribute",
    "several_products",
    "no_product",
    "text_overlay",
    "watermark",
    "cut_off",
    "low_resolution",
    "blurred",
    "dark",
    "other_ground",
    "outlier",
]
"""A kind of finding."""
KINDS: tuple[Kind, ...] = get_args(Kind)
TITLES: Mapping[Kind, str] = MappingProxyType(
    {
        "same_picture": "One picture for several products",
        "same_product": "Same product twice",
        "caption": "Caption does not fit the picture",
        "category": "Wrong category",
        "attribute": "Wrong attribute",
        "several_products": "Several products in the picture",
        "no_product": "No product in the picture",
        "text_overlay": "Text over the picture",
        "watermark": "Watermark",
        "cut_off": "Product cut off",
        "low_resolution": "Low resolution",
        "blurred": "Blurred",
        "dark": "Dark",
        "other_ground": "Another background",
        "outlier": "Unlike the rest of the shop",
    }
)
"""Each kind as a heading."""
MENDS: Mapping[Kind, str] = MappingProxyType(
    {
        "same_picture": "give each product its own picture, or remove the repeated product",
        "same_product": "remove one of them, or say in the title how they differ",
        "caption": "correct the caption, or the picture",
        "several_products": "show the product alone",
        "no_product": "show the product",
        "text_overlay": "use the picture without the text",
        "watermark": "use the picture without the watermark",
        "cut_off": "use a picture that shows the whole product",
        "low_resolution": "use a larger picture",
        "blurred": "use a sharp picture",
        "dark": "use a lighter picture",
        "other_ground": "use a picture on the shop's usual background",
        "outlier": "check that the product and its picture belong in this shop",
    }
)
"""What to do, for the kinds whose suggestion is always the same."""
KEY_BYTES = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that may be wrong with one product, or between several."""

    kind: Kind
    product_ids: tuple[str, ...]
    """One product; for the kinds ``same_…`` two or more."""
    evidence: str
    """What speaks for it, in a sentence with figures."""
    confidence: float
    """0…1: the probability of the fault, if 1 picture in 50 or 1 label in 20 had it; for repeats,
    outliers and low resolution a scale without that meaning."""
    suggestion: str
    """What to do; for wrong labels, the label that fits better."""
    images: tuple[str | None, ...]
    """Where the picture of each product is; None for pictures that the table itself holds."""
    key: str
    """Identifies the kind and the content that it is about."""
    column: str | None = None
    """The column of a wrong category or attribute."""
    label: str | None = None
    """For a wrong category or attribute, the label that fits better."""

    def as_dict(self) -> dict[str, object]:
        """The finding as plain values for JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "product_ids": list(self.product_ids), "images": list(self.images)}


def finding_key(kind: Kind, *content: bytes | str) -> str:
    """A key of a kind and of the content that a finding is about, as 24 hexadecimal digits."""
    digest = blake2b(kind.encode(), digest_size=KEY_BYTES)
    for part in content:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def read_fine(path: Path) -> frozenset[str]:
    """Read the keys of findings that were marked as fine, as the page exports them.

    The file is JSON: ``{"fine": [{"key": "…", "kind": "…", "products": […]}, …]}``. Only the keys
    count.

    Raises:
        CatalogError: the file cannot be read, or is another.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["fine"]
        return frozenset(str(entry["key"]) for entry in entries)
    except OSError as exc:
        message = f"{path}: cannot be read ({exc.strerror or exc}); name a file the page exported"
        raise CatalogError(message) from exc
    except (ValueError, KeyError, TypeError) as exc:
        message = (
            f"{path}: is not a file of findings marked as fine; export one from the doctor's page"
        )
        raise CatalogError(message) from exc


def best_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order of the kinds, the most certain of each kind first."""
    order = {kind: i for i, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda one: (order[one.kind], -one.confidence, one.product_ids))


def counts_by_kind(findings: Sequence[Finding]) -> dict[Kind, int]:
    """How many findings there are of each kind that has any, in the order of the kinds."""
    counts = dict.fromkeys(KINDS, 0)
    for finding in findings:
        counts[finding.kind] += 1
    return {kind: n for kind, n in counts.items() if n}
