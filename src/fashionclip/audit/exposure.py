"""Which groups the first places of neutral queries go to, within each article type.

A neutral query names an article type alone: "casual shoes", in a few wordings. It is ranked over
the products of that type, so that the shares of reference are the type's own: a shop that sells
men's shirts only is not called biased for showing them. The null deals the groups' labels out
again within each type, 500 times, while the rankings stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from fashionclip.audit.findings import Findings, mean_of, spread_of
from fashionclip.audit.shop import SEED, K, Shop
from fashionclip.metrics.exposure import ndkl, p_of_swaps, skew_at, swapped_labels

NEUTRAL = ("{}", "a photo of {}", "new {}", "{} for every day", "{} on sale")
"""Wordings of a neutral query."""
SWAPS = 500
DEPTH = 50
"""Places that count for the divergence."""
BY_CHANCE = f"By chance: labels dealt out again within types, {SWAPS} times"
SKEW = f"Skew@{K}"
_MAX_CELLS = 4_000_000  # of shuffled labels held at a time


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The products of one article type, ranked for its neutral queries."""

    name: str
    rows: Int[np.ndarray, " m"]
    """Of its products in the shop."""
    groups: Int[np.ndarray, " m"]
    """The group of each product, from 0 without a gap."""
    names: tuple[str, ...]
    """Of the groups."""
    ranked: Int[np.ndarray, "wording places"]
    """Places of ``groups``, best first."""

    @property
    def shares(self) -> Float[np.ndarray, " g"]:
        """The groups' shares of the type's products."""
        counts = np.bincount(self.groups, minlength=len(self.names))
        return np.asarray(counts / len(self.groups))

    def count(self, name: str) -> int:
        """Products of one group."""
        return int((np.array(self.names)[self.groups] == name).sum())


Statistic = Callable[[Pool, np.ndarray], np.ndarray]
"""A pool and ``(..., wording, place)`` groups of its ranked products, to a value a wording."""


def ranked_pool(shop: Shop, name: str, rows: Int[np.ndarray, " m"], labels: Sequence[str]) -> Pool:
    """Rank the products of one type for its neutral queries.

    Args:
        shop: the catalogue.
        name: the type, in the words of the queries.
        rows: its products.
        labels: the group of each.
    """
    names = tuple(sorted(set(labels)))
    place = {label: i for i, label in enumerate(names)}
    cosines = neutral_vectors(shop, name) @ shop.vectors[rows].T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :DEPTH]
    return Pool(name, rows, np.array([place[label] for label in labels], np.int64), names, order)


def neutral_vectors(shop: Shop, name: str) -> Float[np.ndarray, "wording d"]:
    """The vectors of a type's neutral queries."""
    return shop.encoder.encode_text([wording.format(name) for wording in NEUTRAL])


def add_mean_over_types(
    found: Findings,
    pools: Sequence[Pool],
    statistic: Statistic,
    metric: str,
    *,
    heading: str = "",
    row: str = "",
) -> list[float]:
    """Add the mean of a statistic over types, its interval over them, and its null.

    Args:
        found: where to add it.
        pools: at least one.
        statistic: of a pool.
        metric: its name.
        heading: of the table to add it to, in place of the figures.
        row: its name there.

    Returns:
        The statistic of each type.
    """
    values, nulls = [], []
    for number, pool in enumerate(pools):
        values.append(float(statistic(pool, pool.groups[pool.ranked]).mean()))
        nulls.append(_null(pool, statistic, np.random.default_rng([SEED, number])))
    null = np.mean(nulls, axis=0)
    figure = mean_of(np.array(values))
    if heading:
        found.add_to(heading, row, figure)
    else:
        found.add(metric, figure, chance=float(null.mean()))
    name = f"{metric}, {row}" if row else metric
    found.p[name] = p_of_swaps(figure.value, null)
    found.add_to(BY_CHANCE, name, spread_of(null))
    return values


def _null(
    pool: Pool, statistic: Statistic, rng: np.random.Generator
) -> Float[np.ndarray, " swaps"]:
    some = max(1, _MAX_CELLS // max(len(pool.groups), pool.ranked.size))
    found = []
    for start in range(0, SWAPS, some):
        labels = swapped_labels(pool.groups, min(some, SWAPS - start), rng)
        found.append(statistic(pool, labels[:, pool.ranked]).mean(axis=-1))
    return np.concatenate(found)


def divergence(pool: Pool, ranked: np.ndarray) -> np.ndarray:
    """``ndkl`` of the groups of a pool."""
    return ndkl(ranked, pool.shares)


def skew(group: str) -> Statistic:
    """``skew_at`` of one group in the first ``K`` places; every pool has to have it."""
    return lambda pool, ranked: skew_at(ranked, pool.shares, K)[..., pool.names.index(group)]


def max_skew(pool: Pool, ranked: np.ndarray) -> np.ndarray:
    """The largest skew of any group in the first ``K`` places."""
    return np.asarray(skew_at(ranked, pool.shares, K).max(axis=-1))
