"""Prices: are cheap and dear products of a type found equally well, and shown equally often?"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from fashionclip.audit.exposure import (
    DEPTH,
    SWAPS,
    divergence,
    mean_over_types,
    ranked_pool,
    skew,
)
from fashionclip.audit.recall import OwnTitles, found_figure, gap_figure
from fashionclip.audit.results import AuditFigure, AuditResult
from fashionclip.audit.shop import MIN_GROUP, MIN_TYPES, K, Shop

QUESTION = "Are cheap and dear products of a type found equally well, and shown equally often?"
BANDS = ("low", "middle", "high")


def audit_prices(shop: Shop, titles: OwnTitles) -> AuditResult:
    """Audit thirds of the price within each article type.

    Args:
        shop: the catalogue.
        titles: what its products' own titles find.
    """
    prices, left_out = _prices(shop)
    n = int(np.isfinite(prices).sum())
    if n < len(BANDS) * MIN_GROUP or len(np.unique(prices[np.isfinite(prices)])) < len(BANDS):
        why = f"{n} products have a price above 0; it needs {len(BANDS) * MIN_GROUP}, not all equal"
        return AuditResult("prices", QUESTION, left_out=(f"Not measured: {why}.",))
    bands = _bands(shop, prices)
    figures = [*_exposed(shop, bands, left_out), *_found(shop, titles, bands, left_out)]
    counts = ", ".join(f"{int((bands == band).sum()):,} {band}" for band in BANDS)
    notes = (
        f"Bands are thirds of the price within an article type of at least {MIN_GROUP} products "
        f"with a price: {counts}.",
        f"By chance: bands dealt out again within types, {SWAPS} times.",
    )
    return AuditResult("prices", QUESTION, tuple(figures), (), notes, tuple(left_out))


def _prices(shop: Shop) -> tuple[np.ndarray, list[str]]:
    """Prices in the most frequent currency, NaN for others, and how many these are."""
    prices = np.array([product.price for product in shop.products])
    currencies = Counter(p.currency for p in shop.products if np.isfinite(p.price))
    if len(currencies) < 2:
        return prices, []
    usual, n_usual = currencies.most_common(1)[0]
    is_usual = np.array([product.currency == usual for product in shop.products])
    others = currencies.total() - n_usual
    left_out = [
        f"Prices: {others:,} products have another currency than {usual or 'the usual one'}."
    ]
    return np.where(is_usual, prices, np.nan), left_out


def _bands(shop: Shop, prices: np.ndarray) -> np.ndarray:
    """The band of each product; empty for those without a price, or of a rare type."""
    bands = np.full(len(prices), "", dtype="<U6")
    for _, rows in shop.types():
        priced = rows[np.isfinite(prices[rows])]
        if len(priced) < MIN_GROUP:
            continue
        ends = np.quantile(prices[priced], [1 / 3, 2 / 3])
        if ends[0] < ends[1]:
            bands[priced] = np.array(BANDS)[np.searchsorted(ends, prices[priced])]
    return bands


def _exposed(shop: Shop, bands: np.ndarray, left_out: list[str]) -> Iterator[AuditFigure]:
    pools = []
    for name, rows in shop.types():
        known = rows[bands[rows] != ""]
        if set(bands[known]) == set(BANDS):
            pools.append(ranked_pool(shop, name, known, bands[known].tolist()))
    if len(pools) < MIN_TYPES:
        left_out.append(
            f"Exposure by price: {len(pools)} article types have three bands; it needs {MIN_TYPES}."
        )
        return
    for band in BANDS:
        yield mean_over_types(
            pools,
            skew(band),
            name=f"skew_{band}@{K}",
            title=f"Skew of the {band} third of prices, first {K}",
            meaning="ln of the band's share of the first places over its share of the type; above "
            "0 more than its share",
        )[0]
    yield mean_over_types(
        pools,
        divergence,
        name=f"ndkl@{DEPTH}",
        title=f"NDKL of price bands, first {DEPTH}",
        meaning="divergence of the bands' shares of the first places from their shares of the type "
        "(KL of ranking from type, in nats); by chance it is not 0",
    )[0]


def _found(
    shop: Shop, titles: OwnTitles, bands: np.ndarray, left_out: list[str]
) -> Iterator[AuditFigure]:
    if titles.why_not:
        left_out.append(f"Recall by price: {titles.why_not}.")
        return
    asked = bands[titles.rows]
    for band in BANDS:
        if (chosen := asked == band).sum() >= MIN_GROUP:
            yield found_figure(
                titles, chosen, name=f"hit_{band}@{K}", title=f"Found, {band} third of prices"
            )
    two = np.isin(asked, ("low", "high"))
    gap = gap_figure(
        titles.hits[two],
        asked[two] == "high",
        shop.values("category")[1][titles.rows][two],
        name=f"hit_gap@{K}",
        title="Dear found less cheap found, same article type",
        meaning=f"difference of the shares found in the first {K}, within article types",
    )
    if gap is None:
        left_out.append(f"Recall gap: fewer than {MIN_GROUP} cheap or dear products are asked for.")
    else:
        yield gap
