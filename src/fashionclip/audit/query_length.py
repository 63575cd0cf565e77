"""Length of queries: the same product asked for in few words and in many, paired."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from fashionclip.audit.findings import Findings, mean_of, share_of
from fashionclip.audit.recall import why_titles_say_nothing
from fashionclip.audit.shop import (
    MIN_GROUP,
    SEED,
    AuditedProduct,
    K,
    Shop,
    own_ranks,
    rows_by_text,
)
from fashionclip.evaluate.results import TaskResult
from fashionclip.metrics.ranking import expected_hit, rank

LENGTHS: Mapping[str, int] = {
    "at most 3 words": 3,
    "4 to 8 words": 8,
    "9 to 20 words": 20,
    "21 to 60 words": 60,
}
"""Name, and most words of a query."""
SHORTEST, SHORT, _, LONG = LENGTHS
LEAST_WORDS = 21
MAX_PRODUCTS = 500

Scores = Mapping[str, Float[np.ndarray, " q"]]


def audit_query_length(shop: Shop, name: str = "query-length") -> TaskResult:
    """Ask for the same products in four lengths, of which each has the words of the shorter ones.

    Args:
        shop: the catalogue.
        name: of the result.

    Returns:
        ``long_gain@10`` (the headline), ``long_mrr_gain@10``, ``middle_gain@10`` and
        ``long_type_gain@10``, paired.
    """
    found = Findings(name, f"long_gain@{K}")
    if why := why_titles_say_nothing([product.title for product in shop.products]):
        found.left_out.append(f"Not measured: {why}.")
        return found.result()
    every = [queries_of(product) for product in shop.products]
    rows = np.flatnonzero([queries is not None for queries in every])
    if len(rows) < MIN_GROUP:
        found.left_out.append(
            f"Not measured: {len(rows)} products have {LEAST_WORDS} words in title, attributes and "
            f"description together; it needs {MIN_GROUP} products."
        )
        return found.result()
    n_all = len(rows)
    if n_all > MAX_PRODUCTS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_PRODUCTS, replace=False))
    found.notes.append(
        f"{len(rows):,} products, of {n_all:,} whose words are enough. A query begins with colour "
        "and article type, goes on with title, attributes and description, and is cut at its "
        "length. A product counts as found where any product with the same query is; short "
        "queries fit more products, so compare each with its chance. A model reads 77 tokens at "
        "most, if it is a usual CLIP."
    )
    scores = {
        length: _score(shop, rows, [queries[place] if queries else "" for queries in every])
        for place, length in enumerate(LENGTHS)
    }
    _add(found, scores)
    return found.result()


def queries_of(product: AuditedProduct) -> tuple[str, ...] | None:
    """A product's queries in the four lengths; None where its words are too few for the longest."""
    first = f"{product.colour} {product.category}".split()[:3] or product.title.split()[:3]
    text = " ".join([product.title, ", ".join(product.highlights), product.description])
    begun = {word.casefold() for word in first}
    rest = [word for word in text.split() if word.casefold() not in begun]
    words = [*first, *rest]
    if not product.title or len(words) < LEAST_WORDS:
        return None
    return (" ".join(first), *(" ".join(words[:most]) for most in list(LENGTHS.values())[1:]))


def _score(shop: Shop, rows: np.ndarray, texts: Sequence[str]) -> Scores:
    """Hits, reciprocal ranks, share of the right type, and chance of a hit for each query.

    Args:
        shop: the catalogue.
        rows: of the products asked for.
        texts: the query of every product of the shop; empty for those without.
    """
    answers = rows_by_text(texts)
    own = [answers[row] for row in rows.tolist()]
    vectors = shop.encoder.encode_text([texts[row] for row in rows.tolist()])
    ranks = own_ranks(vectors, shop.vectors, own)
    types = shop.values("category")[1]
    is_right = types[rank(vectors, shop.vectors, K)] == types[rows][:, None]
    return {
        "hit": np.asarray(ranks <= K, np.float64),
        "mrr": np.where(ranks <= K, 1 / ranks, 0.0),
        "type": np.where(types[rows] >= 0, is_right.mean(axis=1), np.nan),
        "chance": expected_hit(np.array([len(some) for some in own]), len(shop.products), K),
    }


def _add(found: Findings, scores: Mapping[str, Scores]) -> None:
    typed = ~np.isnan(scores[SHORT]["type"])
    for length, columns in scores.items():
        found.add_to(f"Found: hit rate@{K} by words of the query", length, share_of(columns["hit"]))
        found.add_to("The same by chance", length, mean_of(columns["chance"]))
        found.add_to(
            f"Reciprocal rank, MRR@{K}, by words of the query", length, mean_of(columns["mrr"])
        )
        if typed.sum() >= MIN_GROUP:
            heading = f"Right article type in the first {K} by words of the query"
            found.add_to(heading, length, share_of(columns["type"][typed]))
    found.add(f"long_gain@{K}", share_of(scores[LONG]["hit"] - scores[SHORT]["hit"], lowest=-1.0))
    found.add(f"long_mrr_gain@{K}", mean_of(scores[LONG]["mrr"] - scores[SHORT]["mrr"]))
    found.add(
        f"middle_gain@{K}", share_of(scores[SHORT]["hit"] - scores[SHORTEST]["hit"], lowest=-1.0)
    )
    if typed.sum() >= MIN_GROUP:
        gains = (scores[LONG]["type"] - scores[SHORTEST]["type"])[typed]
        found.add(f"long_type_gain@{K}", share_of(gains, lowest=-1.0))
    else:
        found.left_out.append(
            f"Right article type: {int(typed.sum())} of these products have one; it needs "
            f"{MIN_GROUP}."
        )
