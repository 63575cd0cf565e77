"""Prices: are cheap and dear products of a type found equally well, and shown equally often?"""

from collections import Counter

import numpy as np

from fashionclip.audit.exposure import (
    DEPTH,
    SKEW,
    add_mean_over_types,
    divergence,
    max_skew,
    ranked_pool,
    skew,
)
from fashionclip.audit.findings import Findings
from fashionclip.audit.recall import OwnTitles, add_found
from fashionclip.audit.shop import MIN_GROUP, MIN_TYPES, K, Shop
from fashionclip.evaluate.results import TaskResult

BANDS = ("low", "middle", "high")


def audit_prices(shop: Shop, titles: OwnTitles, name: str = "prices") -> TaskResult:
    """Audit thirds of the price within each article type.

    Args:
        shop: the catalogue.
        titles: what its products' own titles find.
        name: of the result.

    Returns:
        ``max_skew@10`` (the headline), ``ndkl@50``, and ``hit_gap@10``, dear less cheap.
    """
    prices, left_out = _prices(shop)
    priced = prices[np.isfinite(prices)]
    found = Findings(name, f"max_skew@{K}", left_out=left_out)
    if len(priced) < len(BANDS) * MIN_GROUP:
        found.left_out.append(
            f"Not measured: {len(priced)} products have a price above 0; it needs "
            f"{len(BANDS) * MIN_GROUP}."
        )
        return found.result()
    bands = _bands(shop, prices)
    if len(set(bands) - {""}) < len(BANDS):
        found.left_out.append(
            f"Not measured: no article type has {MIN_GROUP} products of different prices."
        )
        return found.result()
    counts = ", ".join(f"{int((bands == band).sum()):,} {band}" for band in BANDS)
    found.notes.append(
        f"Bands are thirds of the price within an article type of at least {MIN_GROUP} products "
        f"with a price: {counts}."
    )
    _add_exposure(found, shop, bands)
    add_found(found, shop, titles, bands.tolist(), names=BANDS, first="high", second="low")
    return found.result()


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


def _add_exposure(found: Findings, shop: Shop, bands: np.ndarray) -> None:
    pools = []
    for name, rows in shop.types():
        known = rows[bands[rows] != ""]
        if set(bands[known]) == set(BANDS):
            pools.append(ranked_pool(shop, name, known, bands[known].tolist()))
    if len(pools) < MIN_TYPES:
        found.left_out.append(
            f"Exposure by price: {len(pools)} article types have three bands; it needs {MIN_TYPES}."
        )
        return
    add_mean_over_types(found, pools, max_skew, f"max_skew@{K}")
    add_mean_over_types(found, pools, divergence, f"ndkl@{DEPTH}")
    for band in BANDS:
        add_mean_over_types(found, pools, skew(band), f"skew@{K}", heading=SKEW, row=band)
