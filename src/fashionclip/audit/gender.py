"""Gender: what neutral queries are nearer to, whom they show, and who is found less well."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from fashionclip.audit.exposure import (
    DEPTH,
    NEUTRAL,
    SWAPS,
    Pool,
    divergence,
    mean_over_types,
    ranked_pool,
    skew,
)
from fashionclip.audit.recall import OwnTitles, found_figure, gap_figure, paired_figure
from fashionclip.audit.results import AuditFigure, AuditResult, AuditTable
from fashionclip.audit.shop import MIN_GROUP, MIN_TYPES, SEED, K, Shop, own_ranks
from fashionclip.catalog.genders import GENDERS, gender_of
from fashionclip.metrics.exposure import bias_at, mean_gap, p_of_swaps, swapped_labels
from fashionclip.metrics.intervals import LEVELS, RESAMPLES

QUESTION = (
    "Do queries that name no gender lean towards women's or men's products, and are both found "
    "equally well?"
)
OVERLAP = 20
"""Places of "shirts" that are compared with those of "shirts for women"."""
WHOSE = {"women": "women's", "men": "men's", "unisex": "unisex"}
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019]s)?")


def audit_gender(shop: Shop, titles: OwnTitles) -> AuditResult:
    """Audit gender, within article types; unisex is a third group.

    Args:
        shop: the catalogue.
        titles: what its products' own titles find.
    """
    names, codes = shop.values("gender")
    genders = np.array([product.gender for product in shop.products])
    counts = {gender: int((genders == gender).sum()) for gender in GENDERS}
    if min(counts["women"], counts["men"]) < MIN_GROUP:
        why = (
            f"{counts['women']} products are women's and {counts['men']} men's; each group needs "
            f"{MIN_GROUP}"
            if names
            else "no product has a gender that is understood (name its column with --column "
            "gender=NAME)"
        )
        return AuditResult("gender", QUESTION, left_out=(f"Not measured: {why}.",))
    left_out = []
    if counts["unisex"] < MIN_GROUP:
        left_out.append(f"Unisex products: {counts['unisex']}, fewer than {MIN_GROUP}.")
    notes = (
        f"Products: {', '.join(f'{counts[g]:,} {WHOSE[g]}' for g in GENDERS)}. Girls' count as "
        "women's and boys' as men's.",
        f"Neutral queries: {', '.join(wording.format('TYPE') for wording in NEUTRAL)}. Each is "
        f"ranked over the products of its article type. By chance: the mean and 95 % of {SWAPS} "
        "rounds in which the labels of gender were dealt out again within each type.",
    )
    figures: list[AuditFigure] = []
    tables: tuple[AuditTable, ...] = ()
    pools = list(_pools(shop, genders))
    if len(pools) < MIN_TYPES:
        left_out.append(
            f"Neutral queries: {len(pools)} article types have {MIN_GROUP} women's and "
            f"{MIN_GROUP} men's products; a mean over types needs {MIN_TYPES}."
        )
    else:
        association, of_type = _association(shop, pools)
        exposed, biases = _exposed(pools, left_out)
        figures += [association, *exposed, *_overlap(shop, pools)]
        tables = (_by_type(pools, genders, of_type, biases),)
    figures += _recall(shop, titles, genders, left_out)
    return AuditResult("gender", QUESTION, tuple(figures), tables, notes, tuple(left_out))


def _pools(shop: Shop, genders: np.ndarray) -> Iterator[Pool]:
    """Types with enough women's and men's products, without those of no gender."""
    for name, rows in shop.types():
        known = rows[genders[rows] != ""]
        if min(int((genders[known] == g).sum()) for g in ("women", "men")) >= MIN_GROUP:
            yield ranked_pool(shop, name, known, genders[known].tolist())


def _association(shop: Shop, pools: Sequence[Pool]) -> tuple[AuditFigure, list[float]]:
    """The mean over types of mean cos(neutral, men's) - mean cos(neutral, women's).

    The interval resamples products within each type and gender.
    """
    values, nulls, samples = [], [], []
    for number, pool in enumerate(pools):
        is_men, cosines = _of_two(shop, pool)
        rng = np.random.default_rng([SEED, number])
        values.append(float(mean_gap(cosines, is_men)))
        swapped = swapped_labels(is_men.astype(np.int64), SWAPS, rng) == 1
        nulls.append(mean_gap(cosines, swapped))
        men, women = cosines[is_men], cosines[~is_men]
        samples.append(_resampled_means(men, rng) - _resampled_means(women, rng))
    null = np.mean(nulls, axis=0)
    low, high = np.percentile(np.mean(samples, axis=0), LEVELS)
    ends = np.percentile(null, LEVELS)
    value = float(np.mean(values))
    n = sum(len(_of_two(shop, pool)[0]) for pool in pools)
    meaning = (
        "mean cosine of neutral queries with men's products less that with women's of the same "
        "type; above 0 they are nearer to men's"
    )
    figure = AuditFigure(
        *("association", "Association of neutral queries with men's products"),
        *(value, float(low), float(high), n, "products", meaning),
        chance=float(null.mean()),
        chance_low=float(ends[0]),
        chance_high=float(ends[1]),
        p=p_of_swaps(value, null),
    )
    return figure, values


def _of_two(shop: Shop, pool: Pool) -> tuple[np.ndarray, Float[np.ndarray, " m"]]:
    """Which of a pool's women's and men's products are men's, and their cosines."""
    names = np.array(pool.names)[pool.groups]
    rows = pool.rows[names != "unisex"]
    texts = shop.encoder.encode_text([wording.format(pool.name) for wording in NEUTRAL])
    return names[names != "unisex"] == "men", (shop.vectors[rows] @ texts.T).mean(axis=1)


def _resampled_means(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    return np.asarray(values[drawn].mean(axis=1))


def _exposed(pools: Sequence[Pool], left_out: list[str]) -> tuple[list[AuditFigure], list[float]]:
    """Skew of each gender, NDKL and bias, and the bias of each type."""
    figures = []
    for gender in GENDERS:
        having = [pool for pool in pools if _count(pool, gender) >= MIN_GROUP]
        if len(having) < MIN_TYPES:
            left_out.append(
                f"Skew of {WHOSE[gender]} products: {len(having)} article types have {MIN_GROUP} "
                f"of them; it needs {MIN_TYPES}."
            )
            continue
        figures.append(
            mean_over_types(
                having,
                skew(gender),
                name=f"skew_{gender}@{K}",
                title=f"Skew of {WHOSE[gender]} products, first {K}",
                meaning="ln of their share of the first places over their share of the type; "
                "above 0 more than their share",
            )[0]
        )
    figures.append(
        mean_over_types(
            pools,
            divergence,
            name=f"ndkl@{DEPTH}",
            title=f"NDKL of gender, first {DEPTH}",
            meaning="divergence of the genders' shares of the first places from their shares of "
            "the type (KL of ranking from type, in nats); by chance it is not 0",
        )[0]
    )
    bias, of_type = mean_over_types(
        pools,
        lambda pool, ranked: bias_at(
            ranked, pool.names.index("men"), pool.names.index("women"), K
        ),
        name=f"bias@{K}",
        title=f"Bias, first {K}",
        meaning="(men's - women's) / (men's + women's) in the first places; compare it with "
        "chance, which has the shop's own shares",
    )
    return [*figures, bias], of_type


def _count(pool: Pool, gender: str) -> int:
    return int((np.array(pool.names)[pool.groups] == gender).sum())


def _overlap(shop: Shop, pools: Sequence[Pool]) -> Iterator[AuditFigure]:
    """How much the first places of a neutral query share with those for women and for men."""
    shared: dict[str, list[float]] = {"women": [], "men": []}
    chance: list[float] = []
    lean: list[float] = []
    for pool in pools:
        texts = [pool.name, f"{pool.name} for women", f"{pool.name} for men"]
        cosines = shop.encoder.encode_text(texts) @ shop.vectors[pool.rows].T
        k = min(OVERLAP, len(pool.rows) // 2)
        neutral, women, men = (set(np.argsort(-row, kind="stable")[:k].tolist()) for row in cosines)
        shared["women"].append(len(neutral & women) / k)
        shared["men"].append(len(neutral & men) / k)
        chance.append(k / len(pool.rows))
        lean.append(shared["men"][-1] - shared["women"][-1])
    for gender, values in shared.items():
        figure = paired_figure(
            np.array(values),
            name=f"overlap_{gender}@{OVERLAP}",
            title=f'"shirts" and "shirts for {gender}", first {OVERLAP}',
            meaning="share of the first places that a type has in common with and without the words",
            unit="article types",
        )
        yield replace(figure, chance=float(np.mean(chance)))
    yield paired_figure(
        np.array(lean),
        name=f"overlap_gap@{OVERLAP}",
        title="Overlap with men's less overlap with women's",
        meaning="above 0, a type without a gender is read as men's",
        unit="article types",
    )


def _by_type(
    pools: Sequence[Pool], genders: np.ndarray, association: Sequence[float], bias: Sequence[float]
) -> AuditTable:
    rows = [
        (
            *(pool.name, _count(pool, "women"), _count(pool, "men"), _count(pool, "unisex")),
            *(round(value, 4), round(shown, 3), round(_own_bias(pool), 3)),
        )
        for pool, value, shown in zip(pools, association, bias, strict=True)
    ]
    rows.sort(key=lambda row: -abs(float(row[4])))
    head = ("article type", "women's", "men's", "unisex", "association", f"bias@{K}", "of the type")
    return AuditTable("By article type, strongest association first", head, tuple(rows))


def _own_bias(pool: Pool) -> float:
    women, men = _count(pool, "women"), _count(pool, "men")
    return (men - women) / (men + women)


def _recall(
    shop: Shop, titles: OwnTitles, genders: np.ndarray, left_out: list[str]
) -> Iterator[AuditFigure]:
    if titles.why_not:
        left_out.append(f"Recall by gender: {titles.why_not}.")
        return
    asked = genders[titles.rows]
    for gender in GENDERS:
        if (chosen := asked == gender).sum() >= MIN_GROUP:
            yield found_figure(
                titles, chosen, name=f"hit_{gender}@{K}", title=f"{WHOSE[gender].capitalize()} found"
            )
    two = np.isin(asked, ("women", "men"))
    types = shop.values("category")[1][titles.rows]
    gap = gap_figure(
        titles.hits[two],
        asked[two] == "men",
        types[two],
        name=f"hit_gap@{K}",
        title="Men's found less women's found, same article type",
        meaning=f"difference of the shares found in the first {K}, within article types",
    )
    if gap is None:
        left_out.append(
            f"Recall gap: fewer than {MIN_GROUP} women's or men's products share an article type "
            "with the other."
        )
    else:
        yield gap
    yield from _without_gender_words(shop, titles, left_out)


def _without_gender_words(
    shop: Shop, titles: OwnTitles, left_out: list[str]
) -> Iterator[AuditFigure]:
    """Products whose titles name a gender, asked with and without that word, paired."""
    plain = [" ".join(neutral_words(text)) for text in titles.texts]
    changed = np.array(
        [bool(new) and new != " ".join(text.split()) for new, text in zip(plain, titles.texts, strict=True)]
    )
    if changed.sum() < MIN_GROUP:
        left_out.append(f"Titles without their word of gender: {int(changed.sum())} titles have one.")
        return
    places = np.flatnonzero(changed)
    own = [titles.rows[place : place + 1] for place in places.tolist()]
    with_word = shop.encoder.encode_text([titles.texts[place] for place in places])
    without = shop.encoder.encode_text([plain[place] for place in places])
    hits = [own_ranks(texts, shop.vectors, own) <= K for texts in (with_word, without)]
    yield paired_figure(
        hits[1].astype(np.float64) - hits[0],
        name=f"word_of_gender@{K}",
        title="Change without the title's word of gender",
        meaning=f"share found in the first {K} without words such as Men less with them, paired",
    )


def neutral_words(text: str) -> list[str]:
    """The words of a text without those that name a gender."""
    return [
        word
        for word in text.split()
        if not (len(word) > 1 and _WORD.fullmatch(word) and gender_of(word))
    ]
