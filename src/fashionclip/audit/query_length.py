"""Length of queries: the same product asked for in few words and in many, paired."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from fashionclip.audit.recall import paired_figure, why_titles_say_nothing
from fashionclip.audit.results import AuditFigure, AuditResult
from fashionclip.audit.shop import (
    MIN_GROUP,
    SEED,
    AuditedProduct,
    K,
    Shop,
    own_ranks,
    rows_by_text,
    words_of,
)
from fashionclip.metrics.ranking import expected_hit, rank

QUESTION = "Is the same product found better by a long query than by a short one?"
LENGTHS = (("3", 1, 3), ("4-8", 4, 8), ("9-20", 9, 20), ("21", 21, 60))
"""Name, least and most words of a query."""
SHOWN = {"3": "at most 3 words", "4-8": "4 to 8 words", "9-20": "9 to 20 words", "21": "21 and more"}
MAX_PRODUCTS = 500


def audit_query_length(shop: Shop) -> AuditResult:
    """Ask for the same products in four lengths, each of which has the words of the shorter ones."""
    if why := why_titles_say_nothing([product.title for product in shop.products]):
        return AuditResult("query-length", QUESTION, left_out=(f"Not measured: {why}.",))
    every = [queries_of(product) for product in shop.products]
    rows = np.flatnonzero([queries is not None for queries in every])
    if len(rows) < MIN_GROUP:
        why = (
            f"{len(rows)} products have title, attributes and description of 21 words together; "
            f"it needs {MIN_GROUP}"
        )
        return AuditResult("query-length", QUESTION, left_out=(f"Not measured: {why}.",))
    n_all = len(rows)
    if n_all > MAX_PRODUCTS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_PRODUCTS, replace=False))
    columns: dict[str, dict[str, Float[np.ndarray, " q"]]] = {}
    for place, (name, _, _) in enumerate(LENGTHS):
        texts = [q[place] if (q := every[row]) is not None else "" for row in rows.tolist()]
        columns[name] = _score(shop, rows, texts, [q[place] if q else "" for q in every])
    figures = tuple(_figures(columns))
    notes = (
        f"{len(rows):,} products, of {n_all:,} whose words are enough. A query begins with colour "
        "and article type, goes on with the title, the attributes and the description, and is cut "
        "at the length: each has the words of the shorter ones. A product counts as found where "
        "any product with the same query is. The chance level is that of a random order.",
        "A model reads a limited number of tokens (77 in CLIP); of a longer query it reads the "
        "beginning.",
    )
    return AuditResult("query-length", QUESTION, figures, notes=notes)


def queries_of(product: AuditedProduct) -> tuple[str, ...] | None:
    """A product's queries in the four lengths; None where its words are too few for the longest."""
    first = words_of(f"{product.colour} {product.category}")[:3]
    title = words_of(product.title)
    if not first:
        first = title[:3]
    rest = [*title, *words_of(", ".join(product.highlights)), *words_of(product.description)]
    words = [*first, *(word for word in rest if word.casefold() not in first)]
    if len(words) < LENGTHS[-1][1] or len(words) == len(first):
        return None
    return tuple(
        " ".join(first if most == LENGTHS[0][2] else words[:most]) for _, _, most in LENGTHS
    )


def _score(
    shop: Shop, rows: np.ndarray, texts: Sequence[str], every: Sequence[str]
) -> dict[str, Float[np.ndarray, " q"]]:
    """Hits, reciprocal ranks, share of the right type, and chance of a hit for each query."""
    answers = rows_by_text(every)
    own = [answers[row] for row in rows.tolist()]
    vectors = shop.encoder.encode_text(texts)
    ranks = own_ranks(vectors, shop.vectors, own)
    types = shop.values("category")[1]
    first = types[rank(vectors, shop.vectors, K)]
    n_relevant = np.array([len(some) for some in own])
    return {
        "hit": (ranks <= K).astype(np.float64),
        "mrr": np.where(ranks <= K, 1 / ranks, 0.0),
        "type": np.where(
            types[rows] >= 0, (first == types[rows][:, None]).mean(axis=1), np.nan
        ),
        "chance": expected_hit(n_relevant, len(shop.products), K),
    }


def _figures(
    columns: dict[str, dict[str, Float[np.ndarray, " q"]]],
) -> Iterator[AuditFigure]:
    for name, column in columns.items():
        shown = SHOWN[name]
        yield paired_figure(
            column["hit"],
            name=f"hit_{name}@{K}",
            title=f"Found by {shown}",
            meaning=f"share of products in the first {K} places",
            chance=float(column["chance"].mean()),
        )
    for name, column in columns.items():
        yield paired_figure(
            column["mrr"],
            name=f"mrr_{name}@{K}",
            title=f"MRR, {SHOWN[name]}",
            meaning=f"one over the product's place within the first {K}, else 0",
            chance=None,
        )
    known = ~np.isnan(columns["3"]["type"])
    if known.sum() >= MIN_GROUP:
        for name, column in columns.items():
            yield paired_figure(
                column["type"][known],
                name=f"type_{name}@{K}",
                title=f"Right article type, {SHOWN[name]}",
                meaning=f"share of the first {K} products that have the article type asked for",
                chance=None,
            )
    short, long = columns["4-8"], columns["21"]
    yield paired_figure(
        long["hit"] - short["hit"],
        name=f"long_less_short@{K}",
        title="21 and more words less 4 to 8",
        meaning="paired difference of the share found; above 0, long queries find more",
    )
    yield paired_figure(
        columns["4-8"]["hit"] - columns["3"]["hit"],
        name=f"middle_less_short@{K}",
        title="4 to 8 words less at most 3",
        meaning="paired difference of the share found; short queries fit more products too",
    )
    if known.sum() >= MIN_GROUP:
        yield paired_figure(
            (long["type"] - columns["3"]["type"])[known],
            name=f"type_long_less_short@{K}",
            title="Right article type: 21 and more words less at most 3",
            meaning="paired difference; below 0, long queries lose sight of the garment",
        )
