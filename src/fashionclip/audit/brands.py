"""Brands: does a brand's name in a query drown the garment, and are some brands shown too often?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from fashionclip.audit.exposure import (
    DEPTH,
    NEUTRAL,
    SWAPS,
    Pool,
    divergence,
    mean_over_types,
    ranked_pool,
)
from fashionclip.audit.recall import paired_figure
from fashionclip.audit.results import AuditFigure, AuditResult, AuditTable
from fashionclip.audit.shop import MIN_GROUP, MIN_TYPES, SEED, K, Shop
from fashionclip.metrics.exposure import swapped_labels
from fashionclip.metrics.ranking import rank

QUESTION = (
    "Does a brand's name in a query drown the garment and the colour, and do queries without a "
    "brand show some brands too often?"
)
MIN_BRANDS = 5
MAX_TYPES, MAX_COLOURS = 40, 8
SHOWN_BRANDS = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """A brand asked for with a garment, and a colour where colours are compared."""

    brand: int
    type: int
    is_sold: bool
    """Whether the brand has at least one product of the type, and of the colour."""
    colour: int = -1


def audit_brands(shop: Shop) -> AuditResult:
    """Ask for garments with and without a brand; compare what neutral queries show."""
    brands, brand_of = shop.values("brand")
    types, type_of = shop.values("category")
    large = [b for b in range(len(brands)) if (brand_of == b).sum() >= MIN_GROUP]
    common = [t for t in range(len(types)) if (type_of == t).sum() >= MIN_GROUP][:MAX_TYPES]
    if len(large) < MIN_BRANDS or len(common) < 2:
        why = (
            f"{len(large)} brands and {len(common)} article types have {MIN_GROUP} products; it "
            f"needs {MIN_BRANDS} brands and 2 types"
        )
        return AuditResult("brands", QUESTION, left_out=(f"Not measured: {why}.",))
    words = _Words(shop, brands, types, shop.values("colour")[0])
    left_out: list[str] = []
    figures = list(_garments(words, _pairs(brand_of, type_of, large, common), left_out))
    figures += _colours(words, large, common, left_out)
    exposed, tables = _exposed(shop, brands, brand_of, large, left_out)
    notes = (
        f"{len(large)} brands and {len(common)} article types of at least {MIN_GROUP} products. "
        'Queries are "BRAND TYPE" against "TYPE", over all products; figures are means over '
        "brands, which all count the same.",
        f"Exposure: neutral queries ({len(NEUTRAL)} wordings a type) over the products of their "
        f"type that have a brand. By chance: brands dealt out again within types, {SWAPS} times.",
    )
    return AuditResult("brands", QUESTION, (*figures, *exposed), tables, notes, tuple(left_out))


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """Vectors and first pages of queries of brand, colour and garment."""

    shop: Shop
    brands: Sequence[str]
    types: Sequence[str]
    colours: Sequence[str]

    def first_page(self, pairs: Sequence[Pair], *, with_brand: bool) -> Int[np.ndarray, "q k"]:
        """Rows of the first ``K`` products for each pair."""
        texts = []
        for pair in pairs:
            words = [
                *([self.brands[pair.brand]] if with_brand else []),
                *([self.colours[pair.colour]] if pair.colour >= 0 else []),
                self.types[pair.type],
            ]
            texts.append(" ".join(words))
        distinct = list(dict.fromkeys(texts))
        vectors = self.shop.encoder.encode_text(distinct)
        place = {text: i for i, text in enumerate(distinct)}
        found = rank(vectors, self.shop.vectors, K)
        return found[[place[text] for text in texts]]


def _pairs(
    brand_of: np.ndarray, type_of: np.ndarray, brands: Sequence[int], types: Sequence[int]
) -> list[Pair]:
    sold = set(zip(brand_of.tolist(), type_of.tolist(), strict=True))
    return [Pair(b, t, (b, t) in sold) for b in brands for t in types]


def _garments(
    words: _Words, pairs: Sequence[Pair], left_out: list[str]
) -> Iterator[AuditFigure]:
    """Share of the garment and of the brand on the first page, by whether the brand sells it."""
    type_of, brand_of = (words.shop.values(name)[1] for name in ("category", "brand"))
    for is_sold, name, what in (
        (True, "sold", "that the brand sells"),
        (False, "not_sold", "that it does not sell"),
    ):
        chosen = [pair for pair in pairs if pair.is_sold == is_sold]
        of_brand = [pair.brand for pair in chosen]
        if len(set(of_brand)) < MIN_BRANDS:
            left_out.append(
                f"Garments {what}: {len(set(of_brand))} brands have one; it needs {MIN_BRANDS}."
            )
            continue
        plain, branded = (words.first_page(chosen, with_brand=b) for b in (False, True))
        wanted = np.array([pair.type for pair in chosen])[:, None]
        brands = np.array(of_brand)[:, None]
        without = (type_of[plain] == wanted).mean(axis=1)
        with_brand = (type_of[branded] == wanted).mean(axis=1)
        of_the_brand = (brand_of[branded] == brands).mean(axis=1)
        chance = np.array([(brand_of == brand).mean() for brand in set(of_brand)]).mean()
        yield _over_brands(
            without,
            of_brand,
            name=f"type_{name}@{K}",
            title=f"Right garment without the brand, garments {what}",
            meaning=f"share of the first {K} that are of the article type asked for",
            chance=None,
        )
        yield _over_brands(
            with_brand - without,
            of_brand,
            name=f"type_change_{name}@{K}",
            title=f"Change of the right garment with the brand, garments {what}",
            meaning="paired difference; below 0, the brand's name drowns the garment",
        )
        yield _over_brands(
            of_the_brand,
            of_brand,
            name=f"brand_{name}@{K}",
            title=f"Products of the brand, garments {what}",
            meaning=f"share of the first {K} that are of the brand asked for",
            chance=float(chance),
        )


def _colours(
    words: _Words, brands: Sequence[int], types: Sequence[int], left_out: list[str]
) -> Iterator[AuditFigure]:
    """Share of the colour on the first page of "BRAND COLOUR TYPE" less "COLOUR TYPE"."""
    colour_of, type_of, brand_of = (
        words.shop.values(name)[1] for name in ("colour", "category", "brand")
    )
    triples = {
        (b, t, c)
        for b, t, c in zip(brand_of.tolist(), type_of.tolist(), colour_of.tolist(), strict=True)
        if b in brands and t in types and 0 <= c < MAX_COLOURS
    }
    pairs = [Pair(b, t, True, c) for b, t, c in sorted(triples)]
    of_brand = [pair.brand for pair in pairs]
    if len(set(of_brand)) < MIN_BRANDS or len(pairs) < MIN_GROUP:
        left_out.append(f"Colour beside a brand: {len(pairs)} products have all three.")
        return
    wanted = np.array([pair.colour for pair in pairs])[:, None]
    shares = [
        (colour_of[words.first_page(pairs, with_brand=b)] == wanted).mean(axis=1)
        for b in (False, True)
    ]
    yield _over_brands(
        shares[0],
        of_brand,
        name=f"colour@{K}",
        title='Right colour for "COLOUR TYPE"',
        meaning=f"share of the first {K} that have the colour asked for",
        chance=None,
    )
    yield _over_brands(
        shares[1] - shares[0],
        of_brand,
        name=f"colour_change@{K}",
        title="Change of the right colour with the brand",
        meaning="paired difference; below 0, the brand's name drowns the colour",
    )


def _over_brands(
    values: Float[np.ndarray, " q"],
    brands: Sequence[int],
    *,
    name: str,
    title: str,
    meaning: str,
    chance: float | None = 0.0,
) -> AuditFigure:
    """The mean of the brands' means: queries of one brand are not independent."""
    codes = np.array(brands)
    means = np.array([values[codes == brand].mean() for brand in np.unique(codes)])
    return paired_figure(
        means, name=name, title=title, meaning=meaning, unit="brands", chance=chance
    )


def _exposed(
    shop: Shop,
    brands: Sequence[str],
    brand_of: np.ndarray,
    large: Sequence[int],
    left_out: list[str],
) -> tuple[list[AuditFigure], tuple[AuditTable, ...]]:
    pools = []
    for name, rows in shop.types():
        known = rows[brand_of[rows] >= 0]
        if len(known) >= MIN_GROUP and len(np.unique(brand_of[known])) > 1:
            pools.append(ranked_pool(shop, name, known, [brands[b] for b in brand_of[known]]))
    if len(pools) < MIN_TYPES:
        left_out.append(
            f"Exposure of brands: {len(pools)} article types have {MIN_GROUP} products of several "
            f"brands; it needs {MIN_TYPES}."
        )
        return [], ()
    figure, _ = mean_over_types(
        pools,
        divergence,
        name=f"ndkl@{DEPTH}",
        title=f"NDKL of brands, first {DEPTH}",
        meaning="divergence of the brands' shares of the first places from their shares of the "
        "type (KL of ranking from type, in nats); by chance it is not 0",
    )
    return [figure], (_over_represented(pools, {brands[b] for b in large}),)


def _over_represented(pools: Sequence[Pool], large: set[str]) -> AuditTable:
    """Brands by their places among the first ``K`` over those that their shares would give.

    A brand is marked where its ratio is above what 95 % of shuffles give to the highest of all
    brands, so that the best of many brands is not marked by chance.
    """
    expected = {name: 0.0 for name in sorted(large)}
    counts = np.zeros((SWAPS + 1, len(expected)))
    place = {name: i for i, name in enumerate(expected)}
    for number, pool in enumerate(pools):
        rng = np.random.default_rng([SEED, number])
        labels = np.concatenate([pool.groups[None], swapped_labels(pool.groups, SWAPS, rng)])
        first = labels[:, pool.ranked[:, :K]]
        for group, name in enumerate(pool.names):
            if name in large:
                expected[name] += float(pool.shares[group]) * first[0].size
                counts[:, place[name]] += (first == group).sum(axis=(1, 2))
    ratios = counts / np.maximum(1e-9, np.array(list(expected.values())))
    limit = float(np.percentile(ratios[1:].max(axis=1), 95))
    rows = sorted(_rows(expected, counts[0], ratios[0], limit), key=lambda row: -float(row[3]))
    head = ("brand", "places", "expected", "ratio", "beyond chance")
    return AuditTable(
        f"Brands shown most by neutral queries, first {K}", head, tuple(rows[:SHOWN_BRANDS])
    )


def _rows(
    expected: Mapping[str, float], counts: np.ndarray, ratios: np.ndarray, limit: float
) -> Iterator[tuple[str | int | float, ...]]:
    for i, (name, share) in enumerate(expected.items()):
        beyond = "yes" if ratios[i] > limit else "no"
        yield (name, int(counts[i]), round(share, 1), round(float(ratios[i]), 2), beyond)
