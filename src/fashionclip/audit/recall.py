"""Products found by their own words: which of them, and how that differs between groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.audit.results import AuditFigure
from fashionclip.audit.shop import MIN_GROUP, SEED, K, Shop, own_ranks, rows_by_text
from fashionclip.metrics.exposure import stratified_gap
from fashionclip.metrics.intervals import LEVELS, RESAMPLES, mean_interval
from fashionclip.metrics.ranking import expected_hit

MAX_QUERIES = 2000
"""Products that are asked for; of a larger catalogue, a random choice."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnTitles:
    """Products asked for by their own titles."""

    rows: Int[np.ndarray, " q"]
    """Of the products."""
    texts: tuple[str, ...]
    ranks: Int[np.ndarray, " q"]
    """Place of the first product with the title, among all products."""
    chance: Float[np.ndarray, " q"]
    """Of a random order: how often one of them is in the first ``K``."""
    why_not: str = ""
    """Why titles say nothing here; empty where they do."""

    @property
    def hits(self) -> Float[np.ndarray, " q"]:
        """1 where a product with the title is in the first ``K``, else 0."""
        return np.asarray(self.ranks <= K, np.float64)


def ask_for_own_titles(shop: Shop) -> OwnTitles:
    """Ask for up to ``MAX_QUERIES`` products by their titles."""
    titles = [product.title for product in shop.products]
    rows = np.flatnonzero([bool(title) for title in titles])
    if len(rows) > MAX_QUERIES:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_QUERIES, replace=False))
    if why := why_titles_say_nothing(titles):
        nothing = np.empty(0, np.int64)
        return OwnTitles(nothing, (), nothing, np.empty(0), why)
    texts = tuple(titles[row] for row in rows)
    answers = rows_by_text(titles)
    own = [answers[row] for row in rows.tolist()]
    ranks = own_ranks(shop.encoder.encode_text(texts), shop.vectors, own)
    n_relevant = np.array([len(some) for some in own])
    return OwnTitles(rows, texts, ranks, expected_hit(n_relevant, len(titles), K))


def why_titles_say_nothing(titles: Sequence[str]) -> str:
    """Why no product can be found by its title: too few, or nearly all the same; else empty."""
    known = [title.casefold() for title in titles if title]
    n_distinct = len(set(known))
    if len(known) < MIN_GROUP:
        return f"{len(known)} products have a title, fewer than {MIN_GROUP}"
    if n_distinct == 1:
        return "all titles are equal, so that none tells one product from another"
    if n_distinct < MIN_GROUP:
        return f"there are {n_distinct} different titles, fewer than {MIN_GROUP}"
    return ""


def found_figure(
    found: OwnTitles, chosen: Bool[np.ndarray, " q"], *, name: str, title: str
) -> AuditFigure:
    """How often the chosen products are in the first ``K`` places for their own titles."""
    hits = found.hits[chosen]
    return AuditFigure(
        name=name,
        title=title,
        value=float(hits.mean()),
        low=(ends := mean_interval(hits, seed=SEED))[0],
        high=ends[1],
        n=len(hits),
        unit="products",
        meaning=f"share of products that their own title finds in the first {K} places",
        chance=float(found.chance[chosen].mean()),
    )


def gap_figure(
    values: Float[np.ndarray, " q"],
    is_first: Bool[np.ndarray, " q"],
    strata: Int[np.ndarray, " q"],
    *,
    name: str,
    title: str,
    meaning: str,
) -> AuditFigure | None:
    """A difference of two groups within article types; None where too few can be compared."""
    both = [s for s in np.unique(strata).tolist() if _has_both(is_first[strata == s])]
    kept = np.isin(strata, both)
    if min(int((is_first & kept).sum()), int((~is_first & kept).sum())) < MIN_GROUP:
        return None
    value, sampled = stratified_gap(
        values[kept], is_first[kept], strata[kept], resamples=RESAMPLES, seed=SEED
    )
    low, high = np.percentile(sampled, LEVELS)
    return AuditFigure(
        name=name,
        title=title,
        value=value,
        low=float(low),
        high=float(high),
        n=int(kept.sum()),
        unit="products",
        meaning=meaning,
        chance=0.0,
    )


def _has_both(is_first: np.ndarray) -> bool:
    return bool(is_first.any() and not is_first.all())


def paired_figure(
    gaps: Float[np.ndarray, " n"],
    *,
    name: str,
    title: str,
    meaning: str,
    unit: str = "products",
    chance: float | None = 0.0,
) -> AuditFigure:
    """The mean of paired differences, or of other values of the same products, with interval."""
    low, high = mean_interval(gaps, seed=SEED)
    return AuditFigure(
        name=name,
        title=title,
        value=float(gaps.mean()),
        low=low,
        high=high,
        n=len(gaps),
        unit=unit,
        meaning=meaning,
        chance=chance,
    )
