"""Products found by their own titles: which of them, and how that differs between groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.audit.findings import Findings, share_of
from fashionclip.audit.shop import MIN_GROUP, SEED, K, Shop, own_ranks, rows_by_text
from fashionclip.evaluate.results import Figure
from fashionclip.metrics.exposure import stratified_gap
from fashionclip.metrics.intervals import LEVELS, RESAMPLES, share_interval
from fashionclip.metrics.ranking import expected_hit

MAX_QUERIES = 2000
"""Products that are asked for; of a larger catalogue, a random choice."""
FOUND = f"Found by their titles: hit rate@{K}"


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
    if why := why_titles_say_nothing(titles):
        nothing = np.empty(0, np.int64)
        return OwnTitles(nothing, (), nothing, np.empty(0), why)
    rows = np.flatnonzero([bool(title) for title in titles])
    if len(rows) > MAX_QUERIES:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_QUERIES, replace=False))
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


def add_found(
    found: Findings,
    shop: Shop,
    titles: OwnTitles,
    labels: Sequence[str],
    *,
    names: Sequence[str],
    first: str,
    second: str,
) -> None:
    """Add how often products of each group are found, and the gap of two within article types.

    Args:
        found: where to add it.
        shop: the catalogue.
        titles: what its products' titles find.
        labels: the group of each product of the shop; empty for none.
        names: of the groups.
        first: the group from whose share that of ``second`` is taken.
        second: the other one.
    """
    if titles.why_not:
        found.left_out.append(f"Found by titles: {titles.why_not}.")
        return
    asked = np.array(labels)[titles.rows]
    for name in names:
        chosen = asked == name
        if chosen.sum() >= MIN_GROUP:
            found.add_to(FOUND, name, share_of(titles.hits[chosen]))
        elif chosen.any():
            found.left_out.append(
                f"Found by titles, {name}: {int(chosen.sum())} products, fewer than {MIN_GROUP}."
            )
    found.chance[f"hit@{K}"] = float(titles.chance.mean())
    two = np.isin(asked, (first, second))
    strata = shop.values("category")[1][titles.rows]
    gap = _gap(titles.hits[two], asked[two] == first, strata[two])
    if gap is None:
        found.left_out.append(
            f"Gap of {first} and {second}: fewer than {MIN_GROUP} products of either share an "
            "article type with the other."
        )
    else:
        found.add(f"hit_gap@{K}", gap)


def _gap(
    values: Float[np.ndarray, " q"], is_first: Bool[np.ndarray, " q"], strata: Int[np.ndarray, " q"]
) -> Figure | None:
    """A difference of two groups within article types; None where too few can be compared.

    The interval is the bootstrap's; where that has no width, it is made of the intervals of the two
    groups' shares (Newcombe 1998, "Interval estimation for the difference", method 10).
    """
    both = [
        stratum
        for stratum in np.unique(strata).tolist()
        if stratum >= 0 and 0 < is_first[strata == stratum].mean() < 1
    ]
    kept = np.isin(strata, both)
    if min(int((is_first & kept).sum()), int((~is_first & kept).sum())) < MIN_GROUP:
        return None
    value, sampled = stratified_gap(
        values[kept], is_first[kept], strata[kept], resamples=RESAMPLES, seed=SEED
    )
    low, high = np.percentile(sampled, LEVELS)
    if low == high:  # no resample differs, as where all are found; that proves no more than n does
        ends = [share_interval(values[kept & side], seed=SEED) for side in (is_first, ~is_first)]
        means = [float(values[kept & side].mean()) for side in (is_first, ~is_first)]
        low = value - np.hypot(means[0] - ends[0][0], ends[1][1] - means[1])
        high = value + np.hypot(ends[0][1] - means[0], means[1] - ends[1][0])
    return Figure(value, float(low), float(high), int(kept.sum()))
