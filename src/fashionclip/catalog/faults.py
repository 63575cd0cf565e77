"""Faults of one kind as one fault: what is wrong, how often, an example, and how to mend it."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fashionclip.images.fetch import shown
from fashionclip.product import Reject
from fashionclip.rejects import read_rejects

_VARYING = re.compile(r"""'[^']*'|"[^"]*"|\b\w+://\S+|\d[\d,.]*(?<![,.])""")
"""What differs between rejects of one kind: quoted values, addresses, numbers."""
_BRACKETED_OR_MEND = re.compile(r"\([^()]*\)|\0")
"""A part in brackets, or where a reason begins to say how to mend it."""
_ROW = re.compile(r"row [\d,]+: ")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with several rows or images in the same way."""

    what: str
    """What is wrong; ``…`` stands for what differs between them."""
    mend: str
    """How to mend it; empty if that is not known."""
    count: int
    example: str
    """The first row with its product and image, or the first products."""
    is_rejected: bool = True
    """Whether the products are left out of an index."""


def group_rejects(rejects: Iterable[Reject]) -> tuple[Fault, ...]:
    """Bring rejects together whose reasons differ only in values, numbers and addresses.

    Returns:
        The most frequent kind first.
    """
    firsts: dict[tuple[str, ...], Reject] = {}
    values: dict[tuple[str, ...], list[str]] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for reject in rejects:
        reason = _without_place(reject)
        kind, found = tuple(_VARYING.split(reason)), _VARYING.findall(reason)
        firsts.setdefault(kind, reject)
        known = values.setdefault(kind, found)
        values[kind] = [a if a == b else "…" for a, b in zip(known, found, strict=True)]
        counts[kind] += 1
    faults = []
    for kind, count in counts.most_common():
        pairs = zip(kind, [*values[kind], ""], strict=True)
        text = "".join(part.replace("; ", "\0") + value for part, value in pairs)
        parts = _BRACKETED_OR_MEND.finditer(text)
        end = next((one.start() for one in parts if one[0] == "\0"), len(text))
        what, mend = (part.replace("\0", "; ") for part in (text[:end], text[end + 1 :]))
        faults.append(Fault(what, mend, count, _place(firsts[kind])))
    return tuple(faults)


def read_faults(path: Path) -> tuple[Fault, ...]:
    """The faults of a rejects file.

    Raises:
        OSError: the file cannot be read.
    """
    return group_rejects(
        Reject(fields.get("row"), fields.get("id"), fields.get("image"), str(fields.get("reason")))
        for fields in read_rejects(path)
    )


def _place(reject: Reject) -> str:
    row = None if reject.row is None else f"row {reject.row}"
    return ", ".join(filter(None, (row, reject.product_id, relative(reject.image or ""))))


def relative(location: str) -> str:
    """A location for messages, from the working folder if it is in there."""
    return shown(location.removeprefix(f"{Path.cwd()}{os.sep}"))


def _without_place(reject: Reject) -> str:
    """The reason, without the image's location and the row that it may begin with."""
    reason = _ROW.sub("", reject.reason, count=1) if _ROW.match(reject.reason) else reject.reason
    place = shown(reject.image or "")
    return reason.removeprefix(f"{place}: ") if place else reason
