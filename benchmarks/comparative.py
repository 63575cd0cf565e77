"""Searches with a change ("like this, but darker"): do hits follow it, and what do they keep?

    python benchmarks/comparative.py strengths  # every method and strength, on brands to choose by
    python benchmarks/comparative.py held-out   # the chosen strengths, on brands nobody saw
    python benchmarks/comparative.py sample     # the same on drawings, whose truth is known
    python benchmarks/comparative.py pairs      # one pair for every start, or its kind's
    python benchmarks/comparative.py categories # the category of an image, by its neighbours

Starts are products whose place on an ordered column is known and whose type has 10 others or more,
``MAX_STARTS`` of them by chance. A method ranks the others for five steps: the full change one way,
half of it, none, half of it the other way, all of it. Figures are means over starts, with 95 %
bootstrap intervals:

rho       Spearman's correlation of a hit's value with its step, over the 10 first hits of each
          step; 0 where all values are the same
followed  share of the 10 first hits after the full change that lie on the wanted side of the start;
          of starts that have such products among those of their kind
same type share of those hits that are of the start's own type
likeness  their mean cosine with the start

Methods: ``no change``; ``words added``, the start mixed with the text the change leads to;
``GradREC``, a walk over the catalogue (ECNLP 2022), mended; ``text difference``, the package's own.
Prints Markdown. Vectors are cached in ``--cache``, so that a second run encodes nothing.
"""

import argparse
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashionclip.evaluate.benchmarks.kagl import DEVELOPMENT_FROM, UNSEEN_BELOW, read_products
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.metrics.intervals import mean_interval, paired_means
from fashionclip.model import FashionCLIP
from fashionclip.sample import COLOURS, generate_image, sample_products
from fashionclip.searching.comparatives import Change, read_change
from fashionclip.searching.directions import MIN_AGREEING, N_VOTERS, change_texts, moved

MAX_STARTS, K = 100, 10
STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)
GRADREC_NEAR, GRADREC_POPULATION, GRADREC_STEP, GRADREC_KEEP = 100, 1_000, 3.0, 0.9
RGB = {  # the usual shade of each of Kaggle's names
    **{"Black": "000000", "Charcoal": "36454f", "Grey": "808080", "Grey Melange": "a0a0a0"},
    **{"White": "ffffff", "Off White": "f8f6ee", "Cream": "fffdd0", "Beige": "f0e6cf"},
    **{"Nude": "e3c8b0", "Tan": "d2b48c", "Khaki": "c3b091", "Taupe": "8b7e74", "Rust": "b7410e"},
    **{"Brown": "8b4513", "Coffee Brown": "4b3621", "Mushroom Brown": "9c8f85", "Red": "dd1111"},
    **{"Maroon": "800000", "Burgundy": "800020", "Rose": "e8618c", "Pink": "ff9fbf"},
    **{"Peach": "ffcba4", "Magenta": "d0107a", "Purple": "7d1f9e", "Lavender": "c9b8ec"},
    **{"Navy Blue": "000060", "Blue": "2050d0", "Turquoise Blue": "40d0d8", "Teal": "008080"},
    **{"Sea Green": "2e8b57", "Green": "1e8a2f", "Olive": "808000", "Lime Green": "a8e020"},
    **{"Fluorescent Green": "60ff20", "Yellow": "ffe020", "Mustard": "d8a818", "Orange": "ff8010"},
}
SLEEVES = {"No Sleeves": 0, "Sleeveless": 0, "Short Sleeves": 1, "Three-Quarter Sleeves": 2}
SLEEVES |= {"Long Sleeves": 3}
LEGS = {"Shorts": 0, "Capris": 1, "Trousers": 2, "Jeans": 2, "Track Pants": 2, "Leggings": 2}
PATTERNS = {"Solid": 0, "Printed": 1, "Striped": 1, "Checked": 1}
FORMAL_TYPES = {"Shirts", "Trousers", "Belts", "Wallets"}
COLOURED = {"Apparel", "Footwear", "Accessories"}

Vector = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Column:
    """An ordered column, and the changes that should lead along it."""

    name: str
    up: str
    down: str
    values: Vector
    """NaN where the place of a product is not known."""
    kinds: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Shop:
    """Products' vectors, their ordered columns, and the vectors of texts."""

    vectors: Vector
    columns: Sequence[Column]
    texts: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Figures:
    """Of one method at one strength; one value a start."""

    rho: Vector
    followed: Vector
    same: Vector
    likeness: Vector


Method = Callable[[Shop, NDArray[np.intp], int, str, float], Vector]
"""Shop, rows that are searched, start, change, strength → query."""


# methods


def no_change(shop: Shop, rows: NDArray[np.intp], start: int, but: str, strength: float) -> Vector:
    return shop.vectors[start]


def words_added(
    shop: Shop, rows: NDArray[np.intp], start: int, but: str, strength: float
) -> Vector:
    image = shop.vectors[start]
    _, (change,) = moved(image, [read_change(but)], shop.texts, 1.0)
    return strength * shop.texts[change.after] + (1 - strength) * image


def text_difference(
    shop: Shop, rows: NDArray[np.intp], start: int, but: str, strength: float
) -> Vector:
    return moved(shop.vectors[start], [read_change(but)], shop.texts, strength)[0].astype(float)


def gradrec(shop: Shop, rows: NDArray[np.intp], start: int, but: str, strength: float) -> Vector:
    """``strength`` steps; the population is that of the rows which are searched."""
    image, vectors = shop.vectors[start], shop.vectors[rows]
    _, (change,) = moved(image, [read_change(but)], shop.texts, 1.0)
    examples = vectors[nearest(vectors, shop.texts[change.after], GRADREC_NEAR)]
    population = vectors[nearest(vectors, shop.texts[change.before], GRADREC_POPULATION)]
    delta = (examples - population.mean(axis=0)) / (population.std(axis=0) + 1e-6)
    direction = unit(delta.mean(axis=0) / (delta.std(axis=0) + 1e-6))
    query = image
    for _ in range(round(strength)):
        around = vectors[nearest(vectors, query, GRADREC_NEAR)].mean(axis=0)
        query = unit(query + (1 - GRADREC_KEEP) * GRADREC_STEP * direction + GRADREC_KEEP * around)
    return query


METHODS: Mapping[str, tuple[Method, Sequence[float]]] = {
    "no change": (no_change, (0.0,)),
    "words added": (words_added, (0.3, 0.5, 0.6, 0.7)),
    "GradREC": (gradrec, (2, 4, 8)),
    "text difference": (text_difference, (0.7, 1.0, 1.4, 2.0)),
}
CHOSEN = {"no change": 0.0, "words added": 0.7, "GradREC": 4, "text difference": 1.4}
"""The strength of each method at which hits on the brands to choose by are about as like the start
as at the package's default; see ``strengths``."""


def nearest(vectors: Vector, query: NDArray[np.floating], k: int) -> NDArray[np.intp]:
    """The rows of the k vectors that are closest to a query, closest first."""
    scores = vectors @ query.astype(vectors.dtype)
    some = np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))
    return some[np.argsort(-scores[some], kind="stable")]


def unit(vector: Vector) -> Vector:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


# measuring


@cache
def measure(shop: Shop, column: Column, method: Method, strength: float, *, keeps: bool) -> Figures:
    _, kinds, counts = np.unique(column.kinds, return_inverse=True, return_counts=True)
    known = np.flatnonzero(np.isfinite(column.values) & (counts[kinds] > K))
    starts = np.sort(np.random.default_rng(0).permutation(known)[:MAX_STARTS])
    found = [one_start(shop, column, method, strength, start, keeps) for start in starts]
    rho, followed, same, likeness = (np.array(part, float) for part in zip(*found, strict=True))
    return Figures(rho, followed, same, likeness)


def one_start(
    shop: Shop, column: Column, method: Method, strength: float, start: int, keeps: bool
) -> tuple[float, float, float, float]:
    is_kind = column.kinds == column.kinds[start]
    rows = np.flatnonzero(is_kind) if keeps else np.arange(len(is_kind))
    others = rows[rows != start]
    ranked = []
    for step in STEPS:
        query = shop.vectors[start]
        if step and method is not no_change:
            # half of GradREC's steps, half of the weight of words
            but = column.up if step > 0 else column.down
            with suppress(ValueError):  # refused for this start, which so stays as it is
                query = method(shop, others, start, but, strength * abs(step))
        ranked.append(others[nearest(shop.vectors[others], query, K)])
    values = column.values[np.concatenate(ranked)]
    steps = np.repeat(STEPS, [len(rows) for rows in ranked])
    is_known = np.isfinite(values)
    own, of_kind = column.values[start], column.values[is_kind]
    sides = []
    for rows, sign in ((ranked[-1], 1), (ranked[0], -1)):
        if np.nanmax(sign * of_kind) > sign * own:
            with np.errstate(invalid="ignore"):
                sides.append(float(np.mean(sign * column.values[rows] > sign * own)))
    ends = np.concatenate([ranked[0], ranked[-1]])
    return (
        spearman(steps[is_known], values[is_known]),
        float(np.mean(sides)) if sides else np.nan,
        float(is_kind[ends].mean()),
        float((shop.vectors[ends] @ shop.vectors[start]).mean()),
    )


def spearman(a: Vector, b: Vector) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(mean_ranks(a), mean_ranks(b))[0, 1])


def mean_ranks(values: Vector) -> Vector:
    """Ranks from 1; equal values have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


# shops


def kagl_shop(encoder: CachedEncoder, data: Path, *, is_held_out: bool) -> Shop:
    products, _, _ = read_products(data / "kagl")
    if is_held_out:
        products = [one for one in products if one.brand_percentile < UNSEEN_BELOW]
    else:
        products = [one for one in products if one.brand_percentile >= DEVELOPMENT_FROM]
    types = np.array([one.labels["articleType"] for one in products])
    legs = np.array([one.labels["subCategory"] for one in products])

    def column(value: Callable[..., float | None]) -> Vector:
        return np.array([np.nan if (v := value(one)) is None else v for one in products])

    sleeve = column(lambda one: SLEEVES.get(one.attributes.get("Sleeve Length")))
    shades = {name: lightness_and_chroma([*bytes.fromhex(code)]) for name, code in RGB.items()}
    of_colour = [
        shades.get(one.labels["baseColour"], (np.nan, np.nan))
        if one.labels["masterCategory"] in COLOURED
        else (np.nan, np.nan)
        for one in products
    ]
    light, chroma = np.array(of_colour).T
    pattern = column(lambda one: PATTERNS.get(one.attributes.get("Pattern")))
    formal = column(
        lambda one: (
            {"Casual": 0, "Sports": 0, "Formal": 1}.get(one.labels["usage"])
            if one.labels["articleType"] in FORMAL_TYPES
            else None
        )
    )
    length = column(lambda one: LEGS.get(one.labels["articleType"]))
    columns = (
        Column("sleeve length", "longer sleeves", "shorter sleeves", sleeve, types),
        Column("lightness of the colour", "lighter", "darker", light, types),
        Column("chroma of the colour", "brighter", "duller", chroma, types),
        Column("pattern", "more patterned", "plainer", pattern, types),
        Column("length of bottomwear", "longer", "shorter", length, legs),
        Column("formality", "more formal", "less formal", formal, types),
    )
    return shop_of(encoder, [one.image for one in products], columns)


def sample_shop(encoder: CachedEncoder) -> Shop:
    products = sample_products(400)
    types = np.array([one.attributes.category for one in products])
    lengths = {"sleeveless": 0, "short": 1, "long": 2}
    values = {
        "sleeve": [lengths.get(one.attributes.sleeve or "", np.nan) for one in products],
        "light": [lightness_and_chroma(COLOURS[one.attributes.colour])[0] for one in products],
        "pattern": [float(one.attributes.pattern != "solid") for one in products],
    }
    columns = (
        Column(
            "sleeve length", "longer sleeves", "shorter sleeves", np.array(values["sleeve"]), types
        ),
        Column("lightness of the colour", "lighter", "darker", np.array(values["light"]), types),
        Column("pattern", "more patterned", "plainer", np.array(values["pattern"]), types),
    )
    images = []
    for one in products:
        file = io.BytesIO()
        generate_image(one.attributes, seed=one.seed).save(file, "jpeg", quality=90)
        images.append(ImageRef(one.product_id, file.getvalue(), one.title))
    return shop_of(encoder, images, columns)


def lightness_and_chroma(rgb: Sequence[float]) -> tuple[float, float]:
    """CIELAB's L*, in 0…100, and chroma (0 is grey) of an sRGB colour in 0…255."""
    part = np.array(rgb) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return float(116 * y - 16), float(np.hypot(500 * (x - y), 200 * (y - z)))


def shop_of(encoder: CachedEncoder, images: Sequence[ImageRef], columns: Sequence[Column]) -> Shop:
    vectors = encoder.encode_images(images)
    is_read = np.isfinite(vectors).all(axis=1)
    columns = [
        replace(one, values=one.values[is_read], kinds=one.kinds[is_read]) for one in columns
    ]
    changes = [read_change(text) for one in columns for text in (one.up, one.down)]
    words = list(dict.fromkeys(change_texts(changes)))
    texts = dict(zip(words, encoder.encode_text(words), strict=True))
    return Shop(vectors[is_read], columns, texts)


# tables


def strengths_table(shop: Shop) -> Iterator[str]:
    yield "| method | strength | rho | followed | likeness | same type if not kept |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, (method, strengths) in METHODS.items():
        for strength in strengths:
            kept, free = (
                [measure(shop, one, method, strength, keeps=keeps) for one in shop.columns]
                for keeps in (True, False)
            )
            rho, followed, likeness = (
                np.mean([np.nanmean(getattr(one, part)) for one in kept])
                for part in ("rho", "followed", "likeness")
            )
            same = np.mean([one.same.mean() for one in free])
            shown = "" if name == "no change" else f"{strength:g}"
            yield (
                f"| {name} | {shown} | {rho:.2f} | {100 * followed:.0f} % | {likeness:.2f} | "
                f"{100 * same:.0f} % |"
            )


def chosen_table(shop: Shop) -> Iterator[str]:
    yield "| column | n | method | rho | followed | likeness | same type if not kept |"
    yield "|---|--:|---|--:|--:|--:|--:|"
    for column in shop.columns:
        for name, strength in CHOSEN.items():
            method = METHODS[name][0]
            kept = measure(shop, column, method, strength, keeps=True)
            free = measure(shop, column, method, strength, keeps=False)
            yield (
                f"| {column.name} | {len(kept.rho)} | {name} | {with_interval(kept.rho)} | "
                f"{percent(kept.followed)} | {kept.likeness.mean():.2f} | {percent(free.same)} |"
            )


def differences_table(shop: Shop) -> Iterator[str]:
    yield "| column | text difference, less | rho | followed |"
    yield "|---|---|--:|--:|"
    for column in shop.columns:
        measured = {
            name: measure(shop, column, METHODS[name][0], strength, keeps=True)
            for name, strength in CHOSEN.items()
        }
        own = measured.pop("text difference")
        for name, other in measured.items():
            has_sides = np.isfinite(own.followed)
            rho = paired_means(other.rho, own.rho)
            followed = paired_means(other.followed[has_sides], own.followed[has_sides])
            by = f"{rho.value:+.2f} ({rho.low:+.2f} to {rho.high:+.2f})"
            yield (
                f"| {column.name} | {name} | {by} | "
                f"{100 * followed.value:+.0f} ({100 * followed.low:+.0f} to "
                f"{100 * followed.high:+.0f}) points |"
            )


def pairs_table(shop: Shop) -> Iterator[str]:
    """One difference for every start, the mean over the pairs, against the pair of its kind."""
    yield "| column | n | texts of the change | rho | followed | likeness |"
    yield "|---|--:|---|--:|--:|--:|"
    column = next(one for one in shop.columns if one.up == "longer")
    methods = {
        "'short' and 'long'": partial(one_pair, ("short", "long")),
        "mean over all pairs": mean_of_pairs,
        "the pair of its kind": text_difference,
    }
    for name, method in methods.items():
        found = measure(shop, column, method, CHOSEN["text difference"], keeps=True)
        yield (
            f"| {column.name} | {len(found.rho)} | {name} | {with_interval(found.rho)} | "
            f"{percent(found.followed)} | {found.likeness.mean():.2f} |"
        )


def one_pair(
    ends: tuple[str, str],
    shop: Shop,
    rows: NDArray[np.intp],
    start: int,
    but: str,
    strength: float,
) -> Vector:
    pair = ends if but == "longer" else (ends[1], ends[0])
    return moved(shop.vectors[start], [Change(but, (pair,))], shop.texts, strength)[0].astype(float)


def mean_of_pairs(
    shop: Shop, rows: NDArray[np.intp], start: int, but: str, strength: float
) -> Vector:
    pairs = dict.fromkeys(pair for _, pair in read_change(but).kinds)
    difference = np.mean(
        [shop.texts[after] - shop.texts[before] for before, after in pairs], axis=0
    )
    return shop.vectors[start] + strength * difference


def categories_table(shop: Shop) -> Iterator[str]:
    """What the neighbours of every product say that it is, as if it were an image."""
    kinds = shop.columns[0].kinds
    right, wrong = [], []
    for start in range(len(kinds)):
        scores = shop.vectors @ shop.vectors[start]
        scores[start] = -np.inf
        names, votes = np.unique(kinds[np.argsort(-scores)[:N_VOTERS]], return_counts=True)
        is_kept = votes.max() >= MIN_AGREEING
        right.append(float(is_kept and names[votes.argmax()] == kinds[start]))
        wrong.append(float(is_kept and names[votes.argmax()] != kinds[start]))
    none = 1 - np.array(right) - np.array(wrong)
    vote = f"{MIN_AGREEING} of {N_VOTERS} neighbours"
    yield f"| the category that an image gets by {vote} (n = {len(kinds):,}) | share |"
    yield "|---|--:|"
    for name, values in (("its own", right), ("another one", wrong), ("none: not kept", none)):
        yield f"| {name} | {percent(np.array(values))} |"


def with_interval(values: Vector) -> str:
    low, high = mean_interval(values)
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def percent(values: Vector) -> str:
    known = values[np.isfinite(values)]
    low, high = mean_interval(known)
    return f"{100 * known.mean():.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["strengths", "held-out", "sample", "pairs", "categories"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--cache", type=Path, default=None)
    options = parser.parse_args()
    encoder = CachedEncoder(FashionCLIP(), options.cache)
    if options.part == "sample":
        shop = sample_shop(encoder)
    else:
        shop = kagl_shop(encoder, options.data, is_held_out=options.part != "strengths")
    if options.part == "pairs":
        words = ["short", "long"]
        texts = {**shop.texts, **dict(zip(words, encoder.encode_text(words), strict=True))}
        shop = replace(shop, texts=texts)
    tables = {
        "strengths": [strengths_table],
        "held-out": [chosen_table, differences_table],
        "sample": [chosen_table],
        "pairs": [pairs_table],
        "categories": [categories_table],
    }
    print("\n\n".join("\n".join(table(shop)) for table in tables[options.part]))


if __name__ == "__main__":
    main()
