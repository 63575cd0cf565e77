"""Gender: what neutral queries are nearer to, whom they show, and who is found less well."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.audit.exposure import (
    BY_CHANCE,
    DEPTH,
    NEUTRAL,
    SKEW,
    SWAPS,
    Pool,
    add_mean_over_types,
    divergence,
    max_skew,
    neutral_vectors,
    ranked_pool,
    skew,
)
from fashionclip.audit.findings import Findings, mean_of, share_of, spread_of
from fashionclip.audit.recall import OwnTitles, add_found
from fashionclip.audit.shop import MIN_GROUP, MIN_TYPES, SEED, K, Shop, own_ranks
from fashionclip.catalog.genders import GENDERS, Gender, gender_of
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.metrics.exposure import bias_at, mean_gap, p_of_swaps, swapped_labels
from fashionclip.metrics.intervals import LEVELS, RESAMPLES

OVERLAP = 20
"""Places of "shirts" that are compared with those of "shirts for women"."""
N_TYPES = 10
"""Article types that the table of associations shows."""
_WORD = re.compile(r"[^\W\d_]{2,}(?:['\u2019]s)?")


def audit_gender(shop: Shop, titles: OwnTitles, name: str = "gender") -> TaskResult:
    """Audit gender within article types; unisex is a third group.

    Args:
        shop: the catalogue.
        titles: what its products' own titles find.
        name: of the result.

    Returns:
        ``association`` (the headline), ``max_skew@10``, ``ndkl@50``, ``bias@10``,
        ``overlap_gap@20``, ``hit_gap@10`` and ``neutral_title@10``, men's less women's.
    """
    genders = [product.gender for product in shop.products]
    counts = {gender: genders.count(gender) for gender in GENDERS}
    found = Findings(name, "association")
    if min(counts["women"], counts["men"]) < MIN_GROUP:
        found.left_out.append(_why_not(counts))
        return found.result()
    found.notes.append(
        f"Products: {', '.join(f'{counts[g]:,} {g}' for g in GENDERS)}. Girls' products count as "
        "women's and boys' as men's."
    )
    _add_neutral(found, shop, genders)
    add_found(found, shop, titles, genders, names=GENDERS, first="men", second="women")
    if not titles.why_not:
        _add_neutral_titles(found, shop, titles)
    return found.result()


def _why_not(counts: Mapping[Gender, int]) -> str:
    if not any(counts.values()):
        return (
            "Not measured: no product has a gender that is understood; name its column with "
            "--column gender=NAME."
        )
    return (
        f"Not measured: {counts['women']} products are women's and {counts['men']} men's; each "
        f"group needs {MIN_GROUP}."
    )


def _add_neutral(found: Findings, shop: Shop, genders: Sequence[str]) -> None:
    """Add what neutral queries are nearer to, and whom they show."""
    pools = list(_pools(shop, np.array(genders)))
    if len(pools) < MIN_TYPES:
        found.left_out.append(
            f"Neutral queries: {len(pools)} article types have {MIN_GROUP} women's and "
            f"{MIN_GROUP} men's products; a mean over types needs {MIN_TYPES}."
        )
        return
    found.notes.append(
        f"Neutral queries: {', '.join(wording.format('TYPE') for wording in NEUTRAL)}, for "
        f"{len(pools)} article types, each ranked over the products of its type. NDKL is the "
        "divergence of the ranking from the type's shares, in nats, smoothed by one place."
    )
    _add_association(found, shop, pools)
    add_mean_over_types(found, pools, max_skew, f"max_skew@{K}")
    add_mean_over_types(found, pools, divergence, f"ndkl@{DEPTH}")
    add_mean_over_types(found, pools, _bias, f"bias@{K}")
    for gender in GENDERS:
        having = [pool for pool in pools if pool.count(gender) >= MIN_GROUP]
        if len(having) >= MIN_TYPES:
            add_mean_over_types(found, having, skew(gender), f"skew@{K}", heading=SKEW, row=gender)
        else:
            found.left_out.append(
                f"Skew, {gender}: it needs {MIN_TYPES} article types with {MIN_GROUP} products of "
                f"it; there are {len(having)}."
            )
    _add_overlap(found, shop, pools)


def _pools(shop: Shop, genders: np.ndarray) -> Iterator[Pool]:
    """Types with enough women's and men's products, without those of no gender."""
    for name, rows in shop.types():
        known = rows[genders[rows] != ""]
        if min(int((genders[known] == g).sum()) for g in ("women", "men")) >= MIN_GROUP:
            yield ranked_pool(shop, name, known, genders[known].tolist())


def _bias(pool: Pool, ranked: np.ndarray) -> np.ndarray:
    return bias_at(ranked, pool.names.index("men"), pool.names.index("women"), K)


def _add_association(found: Findings, shop: Shop, pools: Sequence[Pool]) -> None:
    """Add the mean over types of mean cos(neutral, men's) less mean cos(neutral, women's).

    Intervals resample products within each type and gender.
    """
    values, nulls, samples = [], [], []
    n, of_type = 0, {}
    for number, pool in enumerate(pools):
        is_men, cosines = _of_two(shop, pool)
        rng = np.random.default_rng([SEED, number])
        values.append(float(mean_gap(cosines, is_men)))
        swapped = swapped_labels(is_men.astype(np.int64), SWAPS, rng) == 1
        nulls.append(mean_gap(cosines, swapped))
        samples.append(_resampled(cosines[is_men], rng) - _resampled(cosines[~is_men], rng))
        low, high = np.percentile(samples[-1], LEVELS)
        of_type[pool.name] = Figure(values[-1], float(low), float(high), len(is_men))
        n += len(is_men)
    null, value = np.mean(nulls, axis=0), float(np.mean(values))
    low, high = np.percentile(np.mean(samples, axis=0), LEVELS)
    found.add("association", Figure(value, float(low), float(high), n), chance=float(null.mean()))
    found.p["association"] = p_of_swaps(value, null)
    found.add_to(BY_CHANCE, "association", spread_of(null))
    strongest = sorted(of_type.items(), key=lambda one: -abs(one[1].value))[:N_TYPES]
    for name, figure in strongest:
        found.add_to("Association by article type, the strongest", name, figure)


def _of_two(shop: Shop, pool: Pool) -> tuple[Bool[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Which of a pool's women's and men's products are men's, and their mean cosines."""
    names = np.array(pool.names)[pool.groups]
    rows = pool.rows[names != "unisex"]
    cosines = (shop.vectors[rows] @ neutral_vectors(shop, pool.name).T).mean(axis=1)
    return names[names != "unisex"] == "men", cosines


def _resampled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    return np.asarray(values[drawn].mean(axis=1))


def _add_overlap(found: Findings, shop: Shop, pools: Sequence[Pool]) -> None:
    """Add how many first places a neutral query shares with those for women and for men."""
    shared: dict[str, list[float]] = {"women": [], "men": []}
    chance = []
    for pool in pools:
        texts = [pool.name, *(f"{pool.name} for {gender}" for gender in shared)]
        cosines = shop.encoder.encode_text(texts) @ shop.vectors[pool.rows].T
        k = min(OVERLAP, len(pool.rows) // 2)
        neutral, *others = (set(np.argsort(-row, kind="stable")[:k].tolist()) for row in cosines)
        for values, other in zip(shared.values(), others, strict=True):
            values.append(len(neutral & other) / k)
        chance.append(k / len(pool.rows))
    heading = f'Shared by "shirts" and "shirts for …": overlap@{OVERLAP}'
    for gender, values in shared.items():
        found.add_to(heading, gender, mean_of(np.array(values)))
    found.add_to(heading, "by chance", mean_of(np.array(chance)))
    gaps = np.array(shared["men"]) - np.array(shared["women"])
    found.add(f"overlap_gap@{OVERLAP}", mean_of(gaps))


def _add_neutral_titles(found: Findings, shop: Shop, titles: OwnTitles) -> None:
    """Add how many fewer products are found where titles lack their words of gender, paired."""
    plain = [" ".join(neutral_words(text)) for text in titles.texts]
    places = [
        place
        for place, (new, text) in enumerate(zip(plain, titles.texts, strict=True))
        if new and new != " ".join(text.split())
    ]
    if len(places) < MIN_GROUP:
        found.left_out.append(
            f"Titles without their word of gender: {len(places)} titles have one; it needs "
            f"{MIN_GROUP}."
        )
        return
    own = [titles.rows[place : place + 1] for place in places]
    hits = [
        own_ranks(shop.encoder.encode_text([texts[p] for p in places]), shop.vectors, own) <= K
        for texts in (titles.texts, plain)
    ]
    gaps = hits[1].astype(np.float64) - hits[0]
    found.add(f"neutral_title@{K}", share_of(gaps, lowest=-1.0))
    genders = np.array([shop.products[titles.rows[place]].gender for place in places])
    for gender in ("women", "men"):
        if (chosen := genders == gender).sum() >= MIN_GROUP:
            heading = "Change of the hit rate without the title's word of gender"
            found.add_to(heading, gender, share_of(gaps[chosen], lowest=-1.0))


def neutral_words(text: str) -> list[str]:
    """The words of a text without those that name a gender."""
    return [word for word in text.split() if not (_WORD.fullmatch(word) and gender_of(word))]
