"""Brands: does a brand's name in a query drown the garment, and are some brands shown too often?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from fashionclip.audit.exposure import (
    DEPTH,
    NEUTRAL,
    SWAPS,
    Pool,
    add_mean_over_types,
    divergence,
    ranked_pool,
)
from fashionclip.audit.findings import Findings, share_of
from fashionclip.audit.shop import MIN_GROUP, MIN_TYPES, SEED, K, Shop
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.metrics.exposure import swapped_labels
from fashionclip.metrics.intervals import LEVELS, RESAMPLES
from fashionclip.metrics.ranking import rank

MIN_BRANDS = 5
MAX_TYPES, MAX_COLOURS = 40, 8
N_BRANDS = 10
"""Brands that the table of exposure shows."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A garment asked for with a brand's name and without."""

    brand: int
    type: int
    colour: int = -1
    """-1 where the query has no colour."""


def audit_brands(shop: Shop, name: str = "brands") -> TaskResult:
    """Ask for garments with and without a brand; compare what neutral queries show.

    Figures on queries with a brand are means over brands, which all count the same.

    Args:
        shop: the catalogue.
        name: of the result.

    Returns:
        ``type_change@10`` (the headline) of garments that the brand sells,
        ``unsold_type_change@10`` of others, ``colour_change@10``, ``brand_share@10`` and
        ``ndkl@50`` of brands.
    """
    brand_of, type_of = (shop.values(field)[1] for field in ("brand", "category"))
    brands, types = _frequent(brand_of), _frequent(type_of)[:MAX_TYPES]
    found = Findings(name, f"type_change@{K}")
    if len(brands) < MIN_BRANDS or len(types) < 2:
        found.left_out.append(
            f"Not measured: {len(brands)} brands and {len(types)} article types have {MIN_GROUP} "
            f"products; it needs {MIN_BRANDS} brands and 2 types."
        )
        return found.result()
    found.notes.append(
        f"{len(brands)} brands and {len(types)} article types of at least {MIN_GROUP} products. "
        'Queries are "BRAND TYPE" against "TYPE", over all products; figures are means over brands.'
    )
    sold = set(zip(brand_of.tolist(), type_of.tolist(), strict=True))
    pairs = [Wanted(brand, kind) for brand in brands for kind in types]
    _add_sold(found, shop, [pair for pair in pairs if (pair.brand, pair.type) in sold])
    _add_unsold(found, shop, [pair for pair in pairs if (pair.brand, pair.type) not in sold])
    _add_colours(found, shop, brands, types)
    _add_exposure(found, shop, brands)
    return found.result()


def _frequent(codes: np.ndarray) -> list[int]:
    """Values of at least ``MIN_GROUP`` products, most frequent first."""
    counts = np.bincount(codes[codes >= 0], minlength=1)
    return [value for value in range(len(counts)) if counts[value] >= MIN_GROUP]


def _add_sold(found: Findings, shop: Shop, wanted: Sequence[Wanted]) -> None:
    """Add the garment's and the brand's share of the first places, of garments the brand sells."""
    if _too_few(found, wanted, "Garments that the brand sells"):
        return
    of_brand, without, beside, of_the_brand = _shares(shop, wanted)
    heading = f"Right article type in the first {K}"
    found.add_to(heading, "without a brand", _mean_of_brands(without, of_brand))
    found.add_to(heading, "with a brand that sells it", _mean_of_brands(beside, of_brand))
    found.add(f"type_change@{K}", _mean_of_brands(beside - without, of_brand, lowest=-1.0))
    brand_of = shop.values("brand")[1]
    chance = np.mean([(brand_of == brand).mean() for brand in set(of_brand)])
    found.add(f"brand_share@{K}", _mean_of_brands(of_the_brand, of_brand), chance=float(chance))


def _add_unsold(found: Findings, shop: Shop, wanted: Sequence[Wanted]) -> None:
    """Add the change of the garment's share where the brand has no product of the type."""
    if _too_few(found, wanted, "Garments that the brand does not sell"):
        return
    of_brand, without, beside, instead = _shares(shop, wanted)
    heading = f"Right article type in the first {K}"
    found.add_to(heading, "with a brand that does not", _mean_of_brands(beside, of_brand))
    found.add(f"unsold_type_change@{K}", _mean_of_brands(beside - without, of_brand, lowest=-1.0))
    found.add_to(
        "Products of a brand that does not sell the garment",
        f"share of the first {K}",
        _mean_of_brands(instead, of_brand),
    )


def _shares(
    shop: Shop, wanted: Sequence[Wanted]
) -> tuple[list[int], Float[np.ndarray, " q"], Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Each query's brand, and shares of its first places.

    Those of the garment without the brand's name and with it, and of the brand with its name.
    """
    of_brand = [one.brand for one in wanted]
    types, brands = (np.array(c)[:, None] for c in ([one.type for one in wanted], of_brand))
    type_of, brand_of = (shop.values(field)[1] for field in ("category", "brand"))
    plain, branded = (_first_page(shop, wanted, with_brand=b) for b in (False, True))
    without, beside = ((type_of[page] == types).mean(axis=1) for page in (plain, branded))
    return of_brand, without, beside, (brand_of[branded] == brands).mean(axis=1)


def _add_colours(found: Findings, shop: Shop, brands: Sequence[int], types: Sequence[int]) -> None:
    """Add the change of the colour's share in "BRAND COLOUR TYPE" against "COLOUR TYPE"."""
    codes = [shop.values(field)[1].tolist() for field in ("brand", "category", "colour")]
    triples = {
        triple
        for triple in zip(*codes, strict=True)
        if triple[0] in brands and triple[1] in types and 0 <= triple[2] < MAX_COLOURS
    }
    wanted = [Wanted(*triple) for triple in sorted(triples)]
    if _too_few(found, wanted, "Colour beside a brand"):
        return
    of_brand = [one.brand for one in wanted]
    colour_of = shop.values("colour")[1]
    colours = np.array([one.colour for one in wanted])[:, None]
    without, beside = (
        (colour_of[_first_page(shop, wanted, with_brand=b)] == colours).mean(axis=1)
        for b in (False, True)
    )
    heading = f"Right colour in the first {K}"
    found.add_to(heading, "without a brand", _mean_of_brands(without, of_brand))
    found.add_to(heading, "with a brand", _mean_of_brands(beside, of_brand))
    found.add(f"colour_change@{K}", _mean_of_brands(beside - without, of_brand, lowest=-1.0))


def _too_few(found: Findings, wanted: Sequence[Wanted], what: str) -> bool:
    n_brands = len({one.brand for one in wanted})
    if n_brands >= MIN_BRANDS and len(wanted) >= MIN_GROUP:
        return False
    found.left_out.append(
        f"{what}: {len(wanted)} queries of {n_brands} brands; it needs {MIN_GROUP} of {MIN_BRANDS}."
    )
    return True


def _first_page(
    shop: Shop, wanted: Sequence[Wanted], *, with_brand: bool
) -> Int[np.ndarray, "q places"]:
    """Rows of the first ``K`` of all products for each query."""
    brands, types, colours = (shop.values(field)[0] for field in ("brand", "category", "colour"))
    texts = [
        " ".join(
            [
                *([brands[one.brand]] if with_brand else []),
                *([colours[one.colour]] if one.colour >= 0 else []),
                types[one.type],
            ]
        )
        for one in wanted
    ]
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    first = rank(shop.encoder.encode_text(list(place)), shop.vectors, K)
    return np.asarray(first[[place[text] for text in texts]])


def _mean_of_brands(
    values: Float[np.ndarray, " q"], brands: Sequence[int], *, lowest: float = 0.0
) -> Figure:
    """The mean of the brands' means: queries of one brand are not independent."""
    codes = np.array(brands)
    return share_of(
        np.array([values[codes == brand].mean() for brand in np.unique(codes)]), lowest=lowest
    )


def _add_exposure(found: Findings, shop: Shop, brands: Sequence[int]) -> None:
    """Add which brands neutral queries show more often than their shares of the types."""
    names, brand_of = shop.values("brand")
    pools = []
    for kind, rows in shop.types():
        known = rows[brand_of[rows] >= 0]
        if len(known) >= MIN_GROUP and len(np.unique(brand_of[known])) > 1:
            pools.append(ranked_pool(shop, kind, known, [names[b] for b in brand_of[known]]))
    if len(pools) < MIN_TYPES:
        found.left_out.append(
            f"Exposure of brands: {len(pools)} article types have {MIN_GROUP} products of several "
            f"brands; it needs {MIN_TYPES}."
        )
        return
    add_mean_over_types(found, pools, divergence, f"ndkl@{DEPTH}")
    ratios, limit, beyond = _ratios(pools, [names[brand] for brand in brands])
    for name, figure in list(ratios.items())[:N_BRANDS]:
        heading = f"Places in the first {K} of neutral queries, over the brand's share of the types"
        found.add_to(heading, name, figure)
    found.notes.append(
        f"Neutral queries ({len(NEUTRAL)} wordings for {len(pools)} article types): {beyond} of "
        f"{len(ratios)} brands have over {limit:.2f} times their share, the highest ratio of any "
        f"brand in 95 % of {SWAPS} rounds with brands dealt out again within types."
    )


def _ratios(pools: Sequence[Pool], large: Sequence[str]) -> tuple[dict[str, Figure], float, int]:
    """Places over expected places of each brand, the limit of chance, and how many exceed it.

    Intervals resample article types; n is how many have the brand.
    """
    place = {name: i for i, name in enumerate(large)}
    expected = np.zeros((len(pools), len(large)))
    counts = np.zeros((len(pools), SWAPS + 1, len(large)))
    for number, pool in enumerate(pools):
        rng = np.random.default_rng([SEED, number])
        labels = np.concatenate([pool.groups[None], swapped_labels(pool.groups, SWAPS, rng)])
        first = labels[:, pool.ranked[:, :K]]
        for group, name in enumerate(pool.names):
            if name in place:
                expected[number, place[name]] = pool.shares[group] * first[0].size
                counts[number, :, place[name]] = (first == group).sum(axis=(1, 2))
    is_there = expected.sum(axis=0) > 0
    ratios = counts.sum(axis=0)[:, is_there] / expected.sum(axis=0)[is_there]
    limit = float(np.percentile(ratios[1:].max(axis=1), 95))
    names = np.array(large)[is_there]
    drawn = np.random.default_rng(SEED).multinomial(
        len(pools), np.full(len(pools), 1 / len(pools)), size=RESAMPLES
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        sampled = (drawn @ counts[:, 0][:, is_there]) / (drawn @ expected[:, is_there])
    lows, highs = np.nanpercentile(sampled, LEVELS, axis=0)
    n = (expected[:, is_there] > 0).sum(axis=0)
    order = np.argsort(-ratios[0])
    figures = {
        str(names[i]): Figure(float(ratios[0, i]), float(lows[i]), float(highs[i]), int(n[i]))
        for i in order
    }
    return figures, limit, int((ratios[0] > limit).sum())
