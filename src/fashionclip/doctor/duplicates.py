"""One picture for several products, one product twice, and colourways, which are neither.

Perceptual hashes propose pictures that may be the same. The pictures at 16 by 16 pixels decide,
by how much they differ for how much they show: pale goods on white differ little from each other
in levels, but much for what there is to see of them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from fashionclip.doctor.findings import MENDS, Finding, finding_key
from fashionclip.doctor.measures import GRID, MAX_GAP
from fashionclip.doctor.shop import Shop, tell_apart
from fashionclip.images.near_duplicates import HASH_BYTES, near_duplicate_groups

MAX_DIFFERENCE = 0.12
"""Root mean square difference of two 16 by 16 pictures, as a share of how far they stand out from
their ground, up to which they are one picture."""
MIN_COSINE = 0.97
"""Of the vectors of one picture encoded twice."""
LOOK_ALIKE = 0.9
"""Cosine from which on two products are compared at all."""
TWICE_COSINE = 0.97
"""Cosine from which on two pictures under one caption are taken to show one product. Of such pairs
half were planted repeats on KAGL, with the built-in model (``benchmarks/doctor.py``); the rest are
alike in every column."""
SAME_COLOUR = 18.0
"""Mean colours of two products that differ by no more of 255 levels are one colour."""
SAME_SHAPE = 0.8
"""Intersection over union of two products' areas from which they have one shape."""


@dataclass(frozen=True, slots=True)
class _Grids:
    """Pictures at 16 by 16 pixels: their grounds, product areas and mean colours."""

    pixels: UInt8[np.ndarray, "n 256 3"]
    ground: Float[np.ndarray, "n 3"]

    @classmethod
    def of(cls, shop: Shop) -> "_Grids":
        grids = shop.signatures[:, HASH_BYTES:].reshape(-1, GRID * GRID, 3)
        grounds = [shop.measure(f"ground_{name}") * 255 for name in ("red", "green", "blue")]
        return cls(grids, np.stack(grounds, axis=1))

    def stands_out(self, i: int) -> np.ndarray:
        return np.asarray(self.pixels[i].astype(np.float32) - self.ground[i])

    def area(self, i: int) -> np.ndarray:
        return np.asarray(np.abs(self.stands_out(i)).max(axis=1) > MAX_GAP)

    def colour(self, i: int) -> np.ndarray:
        area = self.area(i)
        return np.asarray(self.pixels[i][area].mean(axis=0) if area.any() else self.ground[i])

    def are_one(self, i: int, j: int) -> bool:
        """Whether two pictures differ by little for what they show."""
        gap = self.pixels[i].astype(np.float32) - self.pixels[j]
        shown = max(
            float(np.sqrt((self.stands_out(i) ** 2).mean())),
            float(np.sqrt((self.stands_out(j) ** 2).mean())),
        )
        return float(np.sqrt((gap**2).mean())) <= MAX_DIFFERENCE * max(shown, 2.0)

    def colour_gap(self, i: int, j: int) -> float:
        return float(np.abs(self.colour(i) - self.colour(j)).max())

    def shape_overlap(self, i: int, j: int) -> float:
        one, other = self.area(i), self.area(j)
        union = (one | other).sum()
        return float((one & other).sum() / union) if union else 0.0


def find_duplicates(
    shop: Shop,
    near: Int[np.ndarray, "n k"],
    cosines: Float[np.ndarray, "n k"],
    least: float,
    colour: str | None,
) -> tuple[list[Finding], list[tuple[str, ...]]]:
    """Find repeated pictures and products, and the colourways of one product.

    Args:
        shop: the catalogue.
        near: rows of each product's nearest neighbours.
        cosines: of those neighbours.
        least: confidence of a finding, 0…1.
        colour: the column of colours, if the table has one.

    Returns:
        The findings, and groups of ids that are one product in several colours.
    """
    grids = _Grids.of(shop)
    colours = shop.labels.get(colour or "", [""] * len(shop.ids))
    captions = shop.captions if tell_apart(shop.captions) else [""] * len(shop.ids)
    same = _same_pictures(shop, grids)
    in_one = {row: i for i, rows in enumerate(same) for row in rows}
    findings = [found for rows in same if (found := _same_picture(shop, rows, colours)) is not None]
    twice: list[tuple[int, int, float]] = []
    variants: list[tuple[int, int]] = []
    for i in range(len(shop.ids)):
        for j, cosine in zip(near[i].tolist(), cosines[i].tolist(), strict=True):
            if cosine < LOOK_ALIKE:
                break
            if j < i and i in near[j]:
                continue  # seen from the other side
            if in_one.get(i, -1) == in_one.get(j, -2):
                continue
            kind = _relation(shop, grids, i, j, colours, captions)
            if kind == "variant":
                variants.append((i, j))
            elif kind == "twice" and cosine >= TWICE_COSINE:
                twice.append((i, j, float(cosine)))
    findings += [_same_product(shop, i, j, cosine) for i, j, cosine in twice]
    groups = [tuple(shop.ids[row] for row in rows) for rows in _joined(variants)]
    return [one for one in findings if one.confidence >= least], groups


def _relation(
    shop: Shop,
    grids: _Grids,
    i: int,
    j: int,
    colours: Sequence[str],
    captions: Sequence[str],
) -> str:
    """What look-alikes are: variants of one product, one product twice, or two (empty)."""
    if shop.groups[i] and shop.groups[i] == shop.groups[j]:
        return "variant" if colours[i] != colours[j] else ""
    gap, overlap = grids.colour_gap(i, j), grids.shape_overlap(i, j)
    one, other = (_bare(captions[row], colours[row]) for row in (i, j))
    is_other_colour = gap > SAME_COLOUR or colours[i].casefold() != colours[j].casefold()
    if is_other_colour:
        return "variant" if overlap >= SAME_SHAPE and one and one == other else ""
    if captions[i] and captions[i].casefold() == captions[j].casefold():
        is_like = all(shop.labels[name][i] == shop.labels[name][j] for name in shop.labels)
        return "twice" if is_like else ""
    return ""


def _bare(caption: str, colour: str) -> str:
    """A caption without the word of its colour, so that colourways have one."""
    return (
        " ".join(caption.casefold().replace(colour.casefold(), " ").split())
        if colour
        else (caption.casefold())
    )


def _same_pictures(shop: Shop, grids: _Grids) -> list[list[int]]:
    """Groups of rows that have one picture: the same file, or the same picture encoded again."""
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(shop.digests):
        by_content[digest].append(row)
    firsts = [rows[0] for rows in by_content.values()]
    pairs = [(rows[0], row) for rows in by_content.values() for row in rows[1:]]
    vectors = shop.pictures.vectors
    for group in near_duplicate_groups(shop.signatures[firsts, :HASH_BYTES]) if firsts else ():
        rows = [firsts[i] for i in group]
        pairs += [
            (rows[0], row)
            for row in rows[1:]
            if float(vectors[rows[0]] @ vectors[row]) >= MIN_COSINE and grids.are_one(rows[0], row)
        ]
    return _joined(pairs)


def _joined(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of rows that pairs connect, in order."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while parent.setdefault(i, i) != i:
            i = parent[i]
        return i

    for i, j in pairs:
        one, other = root(i), root(j)
        parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = defaultdict(list)
    for row in sorted(parent):
        groups[root(row)].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _same_picture(shop: Shop, rows: Sequence[int], colours: Sequence[str]) -> Finding | None:
    """A finding on products with one picture; None for sizes of one product, which share it."""
    groups = {shop.groups[row] for row in rows}
    names = {colours[row].casefold() for row in rows}
    of_one_group = len(groups) == 1 and "" not in groups
    if of_one_group and len(names) == 1:
        return None
    files = {shop.digests[row] for row in rows}
    what = "the same file" if len(files) == 1 else "one picture, in files that differ"
    captions = {shop.captions[row].casefold() for row in rows}
    words = f"{len(rows)} products have {what}"
    if len(names) > 1:
        words += f"; their colours are {', '.join(sorted(name for name in names if name))[:200]}"
    elif len(captions) == 1:
        words += " and one caption"
    return Finding(
        kind="same_picture",
        product_ids=tuple(shop.ids[row] for row in rows),
        evidence=words,
        confidence=0.99 if len(files) == 1 else 0.9,
        suggestion=MENDS["same_picture"],
        images=tuple(shop.images[row] for row in rows),
        key=finding_key("same_picture", *sorted(shop.digests[row] for row in rows)),
    )


def _same_product(shop: Shop, i: int, j: int, cosine: float) -> Finding:
    caption = shop.captions[i]
    cut = caption if len(caption) <= 80 else caption[:79] + "…"
    return Finding(
        kind="same_product",
        product_ids=(shop.ids[i], shop.ids[j]),
        evidence=f"both are “{cut}”, of one colour; the cosine of their pictures is {cosine:.3f}",
        confidence=round(float(np.clip(0.5 + 15 * (cosine - TWICE_COSINE), 0, 0.95)), 3),
        suggestion=MENDS["same_product"],
        images=(shop.images[i], shop.images[j]),
        key=finding_key("same_product", *sorted((shop.digests[i], shop.digests[j])), caption),
    )
