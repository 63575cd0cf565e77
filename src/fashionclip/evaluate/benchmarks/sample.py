"""The generated sample catalogue: no files, and every visible attribute is known.

Figures on drawings show what a model cannot see at all, not how it performs on photographs.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    class_labels,
    group_by,
    label_words,
    wrong_attribute_task,
    zero_shot_task,
)
from fashionclip.evaluate.tasks import ImageRef, Retrieval, Task, ZeroShot
from fashionclip.sample import SampleProduct, generate_image, sample_products

N_PRODUCTS, SEED = 400, 0
"""The shipped catalogue; the built-in model learned from other drawings."""
N_DEVELOPMENT, DEVELOPMENT_SEED = 100, 7
N_SHOWN = 2
"""Products that a short query shows, as the demo does."""
_NOTE = "Drawings, not photographs."
_Product = tuple[SampleProduct, ImageRef]


class SampleCatalog:
    """The sample catalogue: classification, search, and captions with one wrong word."""

    name = "sample"
    title = "the generated sample catalogue, 400 products"
    how_to_get = "it is generated and needs no files"
    places: tuple[str, ...] = ()

    def load(self, folder: Path) -> Loaded:
        """Generate the products; ``folder`` is not used."""
        test = drawn_products(N_PRODUCTS, SEED)
        development = drawn_products(N_DEVELOPMENT, DEVELOPMENT_SEED)
        facets = ("category", "colour", "pattern", "sleeve", "neckline")
        tasks: list[Task | None] = [_zero_shot(facet, test, development) for facet in facets]
        in_caption = label_words("sample")["caption"]
        for facet in facets[1:]:
            known = [
                (image, product.attributes.category, in_caption.get(facet, {}).get(value, value))
                for product, image in test
                if (value := _value(product, facet))
            ]
            alike = label_words("sample")["alike"]
            name = f"sample/wrong-{facet}"
            tasks.append(wrong_attribute_task(name, facet, known, alike=alike, notes=(_NOTE,)))
        tasks += [_search(test), _short_queries(test)]
        return Loaded(tuple(task for task in tasks if task))


def drawn_products(n_products: int, seed: int) -> list[tuple[SampleProduct, ImageRef]]:
    """Sample products with their images, encoded as ``write_sample_catalog`` does.

    Args:
        n_products: how many.
        seed: of products and images; ids have it at their end where it is not the catalogue's own.
    """

    def generate(product: SampleProduct) -> _Product:
        file = io.BytesIO()
        image = generate_image(product.attributes, seed=product.seed)
        image.save(file, "jpeg", quality=90)
        image_id = product.product_id if seed == SEED else f"{product.product_id}-{seed}"
        return product, ImageRef(image_id, file.getvalue(), product.title)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(generate, sample_products(n_products, seed=seed)))


def _value(product: SampleProduct, facet: str) -> str:
    return getattr(product.attributes, facet) or ""


def _zero_shot(facet: str, test: list[_Product], development: list[_Product]) -> ZeroShot:
    names = sorted(group_by([_value(product, facet) for product, _ in test]))

    def labelled(products: list[_Product]) -> list[tuple[ImageRef, str]]:
        return [(image, value) for product, image in products if (value := _value(product, facet))]

    kept = labelled(test)
    n_without = len(test) - len(kept)
    without = f"; {n_without} products have no {facet}" if n_without else ""
    return zero_shot_task(
        f"sample/{facet}",
        class_labels(names, label_words("sample")[facet]),
        kept,
        labelled(development),
        development_from=f"other drawings, seed {DEVELOPMENT_SEED}",
        notes=(f"{len(names)} classes{without}.", _NOTE),
    )


def _category_names(products: list[_Product]) -> list[str]:
    words = label_words("sample")["category"]
    categories = [product.attributes.category for product, _ in products]
    return [words.get(category, [category])[0] for category in categories]


def _search(test: list[_Product]) -> Retrieval:
    queries = [
        f"{a.colour} {a.pattern} {name}"
        if (a := product.attributes).pattern not in ("", None, "solid")
        else ""
        for (product, _), name in zip(test, _category_names(test), strict=True)
    ]
    groups = group_by(queries)
    return Retrieval(
        name="sample/search",
        queries=tuple(groups),
        documents=tuple(image for _, image in test),
        relevant=tuple(np.asarray(rows) for rows in groups.values()),
        figures=("hit@10", "precision@10", "mrr@10"),
        notes=(
            "Queries are colour, pattern and category of the products with a pattern; products "
            "with all three are relevant.",
            _NOTE,
        ),
    )


def _short_queries(test: list[_Product]) -> Retrieval:
    names = _category_names(test)

    def queries_of(facet: str) -> list[str]:
        values = [_value(product, facet) for product, _ in test]
        return [
            f"{value} {name}" if value else "" for value, name in zip(values, names, strict=True)
        ]

    groups = {**group_by(queries_of("colour")), **group_by(queries_of("pattern"))}
    common = {query: rows for query, rows in groups.items() if len(rows) >= N_SHOWN}
    return Retrieval(
        name="sample/short-queries",
        queries=tuple(common),
        documents=tuple(image for _, image in test),
        relevant=tuple(np.asarray(rows) for rows in common.values()),
        figures=(f"precision@{N_SHOWN}", "hit@10", "mrr@10"),
        notes=(
            f"Queries are colour and category, or pattern and category, of at least {N_SHOWN} "
            "products.",
            _NOTE,
        ),
    )
