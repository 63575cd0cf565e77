"""Explanations of hits: which words of the query match, and how a cosine compares."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
from jaxtyping import Float32

from fashionclip.product import Explanation, Hit, Product, Roles
from fashionclip.relevance import Scale
from fashionclip.store import Store
from fashionclip.store.fulltext import words_of


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


def text_of(product: Product, roles: Roles) -> str:
    """The words that a product is found by."""
    names = (roles.sku, roles.barcode, roles.group, roles.brand, roles.title, roles.category)
    values = [
        product.columns.get(name) for name in (*names, roles.colour, roles.highlights) if name
    ]
    return " ".join(str(one) for one in (product.product_id, *values, product.caption) if one)


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
                matched_words(text, text_of(products[hit.product_id], roles), scale),
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
    found = []
    for word in dict.fromkeys(re.findall(r"\w+", text)):
        for term in words_of(word):
            near = [] if scale.frequencies.get(term) else get_close_matches(term, there, n=1)
            if term in there or near:
                found.append(word)
                break
    return tuple(found)
