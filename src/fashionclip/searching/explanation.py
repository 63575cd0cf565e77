"""Explanations of hits: which words of the query match, and how a cosine compares."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from fashionclip.product import Explanation, Hit, Product, Roles
from fashionclip.relevance import Scale
from fashionclip.store import Store
from fashionclip.store.fulltext import closest, product_text, search_words, words_of


def stored_products(store: Store, ids: Sequence[str]) -> dict[str, Product]:
    """Those of some products that are stored, by id, without their images' other views."""
    if not ids:
        return {}
    rows = store.fetch(ids, vectors=False)
    columns = rows.columns.to_pylist() if store.meta.columns else [{}] * len(rows.ids)
    return {
        name: Product(name, caption, image, 0, values)
        for name, caption, image, values in zip(
            rows.ids, rows.captions, rows.images, columns, strict=True
        )
    }


def explained(
    hits: Sequence[Hit],
    products: Mapping[str, Product],
    cosines: Mapping[str, float],
    *,
    text: str,
    vector: Float32[np.ndarray, " dim"] | None,
    scale: Scale,
    roles: Roles,
) -> list[Hit]:
    """Hits with their explanations.

    Args:
        hits: of one query.
        products: what they are, by id.
        cosines: of query and product, by id; a hit without one has no percentile.
        text: the query's words; empty if there are none.
        vector: the query's; None where no vectors were compared.
        scale: of the catalogue.
        roles: which column plays which part.
    """
    known = [
        hit.product_id for hit in hits if not math.isnan(cosines.get(hit.product_id, math.nan))
    ]
    percentiles: dict[str, float] = {}
    if vector is not None and known:
        found = scale.percentiles(vector, np.array([cosines[name] for name in known]))
        percentiles = dict(zip(known, found.tolist(), strict=True))
    return [
        replace(
            hit,
            explanation=Explanation(
                matched_words(text, product_text(products[hit.product_id], roles), scale),
                percentiles.get(hit.product_id),
            ),
        )
        for hit in hits
    ]


def matched_words(text: str, product: str, scale: Scale) -> tuple[str, ...]:
    """The words of a query that a product has, as the query has them, each once.

    Args:
        text: the query.
        product: what the product is found by.
        scale: knows which words the catalogue has; others may be misspelt.
    """
    there = set(words_of(product))
    joined = {
        term
        for word in search_words(text)
        if there.intersection(word.joined)
        for term in word.terms
    }

    def is_there(text: str) -> bool:
        for word in search_words(text):
            if any(term in there or term in joined for term in word.terms):
                return True
            is_known = any(map(scale.frequencies.get, word.terms))
            if word.is_spelled_otherwise(there) or (
                not is_known and closest(word.typed, there, count=lambda _: 1)
            ):
                return True
        return False

    return tuple(word for word in dict.fromkeys(re.findall(r"[^\s,;()]+", text)) if is_there(word))
