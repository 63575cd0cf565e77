"""Kaggle's products found by words: the paper's protocol, and Marqo's.

The paper (Chia et al. 2022, Sci Rep 12, 18958): a product's own caption is the query. Marqo
(marqo-ai/marqo-FashionCLIP, ``eval.py`` and ``configs/KAGL.json``): text to image, and names of
labels to documents of 0.9 picture and 0.1 title.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fashionclip.evaluate.benchmarks.base import choose, group_by
from fashionclip.evaluate.benchmarks.kagl.products import (
    UNSEEN_BELOW,
    KaglProduct,
    KaglTable,
    plain_title,
)
from fashionclip.evaluate.benchmarks.marqo import (
    IMAGE_WEIGHT,
    N_QUERIES,
    TEXT_TO_IMAGE_FIGURES,
    TO_PRODUCT_FIGURES,
)
from fashionclip.evaluate.tasks import Retrieval

_PAPER_FIGURES = ("mrr@5", "hit@5", "recall@10")
_MARQO_TASKS = {
    "category-to-product": "masterCategory",
    "sub-category-to-product": "subCategory",
    "fine-category": "articleType",
    "colour": "baseColour",
}


def search_tasks(table: KaglTable) -> dict[str, Retrieval | None]:
    """The paper's three tasks and Marqo's five; None for one that has no query."""
    products = table.products
    subsets: dict[str, tuple[Callable[[KaglProduct], bool], str]] = {
        "caption-to-picture": (lambda p: True, "All products."),
        "held-out-brands": (
            lambda p: p.brand_percentile < UNSEEN_BELOW,
            f"Only products of the brands whose MD5 (modulo 100) is below {UNSEEN_BELOW}, which "
            "the built-in model was not trained on.",
        ),
        "held-out-category": (
            lambda p: (p.labels["subCategory"], p.labels["usage"]) == ("Topwear", "Sports"),
            "Only tops for sports, the nearest to the paper's held-out category Performance Tops. "
            "Whether a model was trained without them is for the leakage check to say.",
        ),
    }
    tasks = []
    for question, (belongs, note) in subsets.items():
        subset = [p for p in products if belongs(p)]
        tasks.append(_captions(f"kagl/{question}", subset, (note, *table.notes)))
    tasks.append(_text_to_image(products, table.notes))
    for question, column in _MARQO_TASKS.items():
        tasks.append(_label_to_product(f"kagl/marqo-{question}", products, column, table.notes))
    return {task.name: task if task.queries else None for task in tasks}


def _captions(name: str, products: Sequence[KaglProduct], notes: tuple[str, ...]) -> Retrieval:
    groups = group_by([plain_title(p.title) for p in products])
    how = (
        "Each title is asked once; every product with the same title, but for case and "
        "punctuation, is relevant to it."
    )
    return Retrieval(
        name=name,
        queries=tuple(products[rows[0]].title for rows in groups.values()),
        documents=tuple(p.image for p in products),
        relevant=tuple(groups.values()),
        figures=_PAPER_FIGURES,
        notes=(how, *notes),
    )


def _text_to_image(products: Sequence[KaglProduct], notes: tuple[str, ...]) -> Retrieval:
    groups = list(group_by([p.title for p in products]).items())
    drawn = [groups[i] for i in choose(len(groups), N_QUERIES).tolist()]
    note = (
        f"Marqo's protocol with {len(drawn):,} of the {len(groups):,} titles, drawn here; Marqo's "
        "own draw is another one. Products with the identical title are relevant."
    )
    return Retrieval(
        name="kagl/marqo-text-to-image",
        queries=tuple(title for title, _ in drawn),
        documents=tuple(p.image for p in products),
        relevant=tuple(rows for _, rows in drawn),
        figures=TEXT_TO_IMAGE_FIGURES,
        notes=(note, *notes),
    )


def _label_to_product(
    name: str, products: Sequence[KaglProduct], column: str, notes: tuple[str, ...]
) -> Retrieval:
    groups = group_by([p.labels[column] for p in products])
    note = (
        f"Marqo's protocol: the {len(groups):,} values of {column} as they are written, documents "
        "of 0.9 picture and 0.1 title."
    )
    return Retrieval(
        name=name,
        queries=tuple(groups),
        documents=tuple(p.image for p in products),
        relevant=tuple(np.asarray(rows) for rows in groups.values()),
        figures=TO_PRODUCT_FIGURES,
        image_weight=IMAGE_WEIGHT,
        notes=(note, *notes),
    )
