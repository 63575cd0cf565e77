"""KAGL: Kaggle's "Fashion Product Images", products on white with titles and labels.

Source: kaggle.com/datasets/paramaggarwal/fashion-product-images-dataset; huggingface.co/datasets/
Marqo/KAGL is the same listing with larger images.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fashionclip.catalog import Catalog
from fashionclip.errors import BenchmarkError, CatalogError
from fashionclip.evaluate.benchmarks.base import (
    MIN_IMAGES,
    Loaded,
    choose,
    class_labels,
    group_by,
    is_plural,
    label_words,
    left_out,
    split_missing,
    wrong_attribute_task,
    zero_shot_task,
)
from fashionclip.evaluate.benchmarks.hub import read_with_images
from fashionclip.evaluate.benchmarks.marqo import (
    IMAGE_WEIGHT,
    N_QUERIES,
    TEXT_TO_IMAGE_FIGURES,
    TO_PRODUCT_FIGURES,
)
from fashionclip.evaluate.tasks import (
    ClassLabel,
    Garment,
    ImageRef,
    ImageToImage,
    Probe,
    Retrieval,
    Task,
    WrongAttribute,
    ZeroShot,
)
from fashionclip.metrics import percentile
from fashionclip.product import Product

LABELS = (
    *("articleType", "subCategory", "masterCategory"),
    *("baseColour", "gender", "season", "usage"),
)
"""Kaggle's columns of labels."""
UNSEEN_BELOW = 8
"""Brands with a percentile below this are never trained on by the built-in model."""
DEVELOPMENT_FROM = 80
"""Brands with a percentile from this on are for choosing prompts."""
PROBE_BELOW = 20
"""Brands with a percentile below this are tested by the probe, which learns from the others."""
FULL_LISTING = 40_000
"""A copy with at least as many products is cut as the whole listing is."""
CUT_OF_FULL, CUT_OF_SMALLER = 70, 10
"""Products that an article type must have: 68 to 76 leave 62 types of the 44,434 products."""
N_SIMILAR_QUERIES = 1_000
_PROBE_SHOTS = 16
_OF_MARQO = {"articleType": "category3", "subCategory": "category2", "masterCategory": "category1"}
_UNKNOWN = frozenset({"", "na", "n/a", "none", "null"})
_FOR_WHOM = re.compile(r"\b(?:men|women|boy|girl|kid|unisex|ladies)(?:'?s)?\b", re.IGNORECASE)
_ZERO_SHOT = {
    "article-type": "articleType",
    "sub-category": "subCategory",
    "master-category": "masterCategory",
    "colour": "baseColour",
    "gender": "gender",
    "season": "season",
    "usage": "usage",
}
_PAPER_FIGURES = ("mrr@5", "hit@5", "recall@10")
_MARQO_TASKS = {
    "category-to-product": "masterCategory",
    "sub-category-to-product": "subCategory",
    "fine-category": "articleType",
    "colour": "baseColour",
}
_ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "pattern": ("Pattern", "Print or Pattern Type"),
        "sleeve": ("Sleeve Length",),
        "neckline": ("Neck", "Collar"),
        "material": ("Fabric", "Material", "Upper Material", "Strap Material"),
    }
)
"""Facet to the keys of ``articleAttributes`` that hold it."""
_NOUNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    dict.fromkeys(("pattern", "sleeve", "neckline"), ("garment", "clothes"))
    | {"material": ("product", "goods")}
)
"""Nouns beside a facet's word in prompts: ``striped garment``, ``striped clothes``."""
_QUERY_FACETS = ("colour", "pattern", "sleeve")


@dataclass(frozen=True, slots=True, eq=False)
class KaglProduct:
    """One product: an image, a title, labels."""

    image: ImageRef
    """Its caption is the title."""
    brand: str
    """In lower case; where the table has no brands, the start of the title."""
    labels: Mapping[str, str]
    """Each of ``LABELS``; empty where it is not known."""
    attributes: Mapping[str, str]
    """Kaggle's ``articleAttributes``: ``{"Neck": "Round Neck"}``; empty in copies without it."""

    @property
    def brand_percentile(self) -> int:
        """0…99, the same for all products of a brand."""
        return percentile(self.brand)

    @property
    def facets(self) -> dict[str, str]:
        """Facet to its word in a caption, for what is known and visible: ``{"colour": "red"}``."""
        raw = {"colour": self.labels["baseColour"]} | {
            facet: next((self.attributes[key] for key in keys if key in self.attributes), "")
            for facet, keys in _ATTRIBUTES.items()
        }
        captions = label_words("kagl")["caption"]
        words = {facet: captions[facet].get(value, "") for facet, value in raw.items()}
        if raw["colour"] not in captions["colour"]:
            words["colour"] = raw["colour"].casefold()
        return {facet: word for facet, word in words.items() if word}


class Kagl:
    """Kaggle's products: classification, search, attributes."""

    name = "kagl"
    title = "KAGL, Kaggle's Fashion Product Images"
    how_to_get = (
        "get Marqo's copy with --download, or unpack "
        "kaggle.com/datasets/paramaggarwal/fashion-product-images-dataset so that DIR/kagl holds "
        "styles.csv and images/"
    )
    places: tuple[str, ...] = ("kagl", "KAGL", "fashion-product-images", "fashion-dataset")

    def load(self, folder: Path) -> Loaded:
        """Read the products and make every task that their table allows.

        Raises:
            BenchmarkError: the table is missing or is another one, or there are no images.
        """
        products, warnings, notes = read_products(folder)
        tasks: dict[str, Task | None] = {
            **_zero_shot_tasks(products, notes),
            **_search_tasks(products, notes),
            **_held_out_queries(products, notes),
            "kagl/probe": _probe(products, notes),
            "kagl/similar": _similar(products, notes),
            **_attribute_tasks(products, notes),
        }
        if lacking := [name for name, task in tasks.items() if task is None]:
            warnings.append(
                f"not measured, because the table knows too little: {', '.join(lacking)}"
            )
        return Loaded(tuple(task for task in tasks.values() if task), tuple(warnings))


def words_of(column: str, labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Words for each label of one of Kaggle's columns, the usual ones first."""
    words = label_words("kagl")
    listed: dict[str, Sequence[str]] = words.get(column) or words["occasion"]
    if column == "subCategory":
        listed = {**words["articleType"], **listed}
    return {label: tuple(listed.get(label) or (_singular(label),)) for label in labels}


# Products


def read_products(folder: Path) -> tuple[list[KaglProduct], list[str], tuple[str, ...]]:
    """Products, warnings and notes of Kaggle's layout (``styles.csv``), else of Marqo's Parquet.

    Raises:
        BenchmarkError: the table is missing or is another one, or there are no images.
    """
    shards = sorted(folder.glob("data/*.parquet")) or sorted(folder.glob("*.parquet"))
    if (folder / "styles.csv").is_file() or not shards:
        found, warnings, has_brands = _read_kaggle(folder)
    else:
        found, warnings, has_brands = _read_marqo(shards), [], False
    why = "their pictures are missing; unpack the whole archive"
    missing, more = split_missing((p.image for p in found), noun="product", why=why)
    kept = [product for product in found if product.image.image_id not in missing]
    if not kept:
        what = f"none of the pictures of its {len(missing):,} products is there"
        message = f"kagl: {folder}: {what if missing else 'the table has no product'}"
        raise BenchmarkError(message)
    notes = ["The photographs and texts are the shop's; the licence of the listing is unverified."]
    if not has_brands:
        notes.append("This copy has no column of brands; they are taken from the titles.")
    return kept, [*warnings, *more], tuple(notes)


def _read_kaggle(folder: Path) -> tuple[list[KaglProduct], list[str], bool]:
    try:
        catalog = Catalog.open(folder, format="plain", caption=lambda highlights, title: title)
        rows = list(catalog)
    except CatalogError as exc:
        message = f"kagl: {exc}"
        raise BenchmarkError(message) from exc
    needed = ("articleType", "productDisplayName")
    if lacking := [name for name in needed if name not in catalog.types]:
        message = f"kagl: {folder} has no column {lacking[0]}; expected Kaggle's styles.csv"
        raise BenchmarkError(message)
    warnings = list(catalog.notes)
    if rejects := [row for row in rows if not isinstance(row, Product)]:
        names = [f"row {reject.row}: {reject.reason}" for reject in rejects]
        warnings.append(left_out(names, "row", "they cannot be read"))
    found = [_kaggle_product(row) for row in rows if isinstance(row, Product)]
    return found, warnings, "brandName" in catalog.columns


def _kaggle_product(row: Product) -> KaglProduct:
    def text(column: str) -> str:
        return _known(row.columns.get(column))

    title = row.caption
    source = Path(row.image) if isinstance(row.image, str) else Path(f"{row.product_id}.jpg")
    return KaglProduct(
        image=ImageRef(row.product_id, source, title),
        brand=(text("brandName") or _brand_in(title)).lower(),
        labels={name: text(name) for name in LABELS},
        attributes=_article_attributes(text("articleAttributes")),
    )


def _read_marqo(shards: list[Path]) -> list[KaglProduct]:
    found = []
    for number, row in enumerate(read_with_images(shards)):
        product_id, title = str(row.get("item_ID") or number), str(row.get("text") or "")
        found.append(
            KaglProduct(
                image=ImageRef(product_id, row["image"] or Path(product_id), title),
                brand=_brand_in(title).lower(),
                labels={name: _known(row.get(_OF_MARQO.get(name, name))) for name in LABELS},
                attributes={},
            )
        )
    return found


def _known(value: object) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text.casefold() in _UNKNOWN else text


def _brand_in(title: str) -> str:
    """The words before "Men", "Women", …: Kaggle's titles begin with the brand."""
    found = _FOR_WHOM.search(title)
    if found and found.start():
        return title[: found.start()].strip()
    return title.split(maxsplit=1)[0] if title.strip() else ""


def _article_attributes(text: str) -> dict[str, str]:
    try:
        found = json.loads(text) if text else {}
    except json.JSONDecodeError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): known for key, value in found.items() if (known := _known(value))}


def _singular(label: str) -> str:
    """``Leather Belts`` to ``leather belt``."""
    plain = " ".join(label.casefold().split())
    if is_plural(plain) or not plain.endswith("s") or plain.endswith("ss"):
        return plain
    for ending, single in (("sses", "ss"), ("ches", "ch"), ("ies", "y"), ("s", "")):
        if plain.endswith(ending):
            return plain.removesuffix(ending) + single
    return plain


# Classification


def _zero_shot_tasks(
    products: Sequence[KaglProduct], notes: tuple[str, ...]
) -> dict[str, ZeroShot | None]:
    """One task for each column of labels; None for one that has fewer than two."""
    tasks: dict[str, ZeroShot | None] = {}
    for question, column in _ZERO_SHOT.items():
        kept, note = _labelled(products, column, has_cut=question == "article-type")
        counts = Counter(product.labels[column] for product in kept)
        names = sorted(counts, key=lambda name: (-counts[name], name))
        classes = class_labels(names, words_of(column, names))
        labelled = [(product, product.labels[column]) for product in kept]
        name = f"kagl/{question}"
        tasks[name] = _classification(name, classes, labelled, (note, *notes))
    return tasks


def _labelled(
    products: Sequence[KaglProduct], column: str, *, has_cut: bool
) -> tuple[list[KaglProduct], str]:
    """Products whose label is known and, with a cut, frequent; and a sentence on the others."""
    counts = Counter(label for p in products if (label := p.labels[column]))
    is_full = len(products) >= FULL_LISTING
    min_products = (CUT_OF_FULL if is_full else CUT_OF_SMALLER) if has_cut else 1
    names = {name for name, n in counts.items() if n >= min_products}
    kept = [p for p in products if p.labels[column] in names]
    parts = [f"{len(names):,} classes"]
    if has_cut:
        parts = [
            f"The {len(names):,} article types with at least {min_products} of the "
            f"{len(products):,} products "
            f"({'the cut of the whole listing' if is_full else 'a smaller copy'})",
            f"{len(counts) - len(names):,} rarer types left out",
        ]
    parts.append(f"{len(products) - len(kept):,} products left out")
    return kept, "; ".join(parts) + "."


def _classification(
    name: str,
    classes: tuple[ClassLabel, ...],
    labelled: Sequence[tuple[KaglProduct, str]],
    notes: tuple[str, ...],
) -> ZeroShot | None:
    """Products of four fifths of the brands, the others for development; None of too few."""
    is_test = [p.brand_percentile < DEVELOPMENT_FROM for p, _ in labelled]
    images = [(p.image, label) for p, label in labelled]
    test = [one for one, ok in zip(images, is_test, strict=True) if ok]
    if len(classes) < 2 or not test:
        return None
    return zero_shot_task(
        name,
        classes,
        test,
        [one for one, ok in zip(images, is_test, strict=True) if not ok],
        development_from="the products of the fifth of all brands whose MD5 (of the name in lower "
        f"case, modulo 100) is {DEVELOPMENT_FROM} or more",
        notes=notes,
    )


def _probe(products: Sequence[KaglProduct], notes: tuple[str, ...]) -> Probe | None:
    """Article types learned from some brands and tested on others; None of a table too small."""
    kept, note = _labelled(products, "articleType", has_cut=True)
    training = [p for p in kept if p.brand_percentile >= PROBE_BELOW]
    test = [p for p in kept if p.brand_percentile < PROBE_BELOW]
    n_training = Counter(p.labels["articleType"] for p in training)
    n_test = Counter(p.labels["articleType"] for p in test)
    names = [name for name, n in n_training.most_common() if n >= _PROBE_SHOTS and n_test[name]]
    if len(names) < 2:
        return None
    row = {name: number for number, name in enumerate(names)}
    training, test = ([p for p in ps if p.labels["articleType"] in row] for ps in (training, test))
    labels = [
        np.array([row[p.labels["articleType"]] for p in ps], np.int64) for ps in (training, test)
    ]
    return Probe(
        name="kagl/probe",
        classes=class_labels(names, words_of("articleType", names)),
        training_images=tuple(p.image for p in training),
        training_labels=labels[0],
        images=tuple(p.image for p in test),
        labels=labels[1],
        notes=(
            f"Split by brand: tested on those whose MD5 (modulo 100) is below {PROBE_BELOW}, "
            f"trained on the others. {note} Of these, {len(names)} types have {_PROBE_SHOTS} "
            "products to train on and one to test.",
            *notes,
        ),
    )


# Search


def _search_tasks(
    products: Sequence[KaglProduct], notes: tuple[str, ...]
) -> dict[str, Retrieval | None]:
    """The paper's three tasks and Marqo's five; None for one that has no query.

    The paper (Chia et al. 2022, Sci Rep 12, 18958): a product's own caption is the query. Marqo
    (marqo-ai/marqo-FashionCLIP, ``eval.py`` and ``configs/KAGL.json``): text to image, and names of
    labels to documents of 0.9 image and 0.1 title.
    """
    subsets: dict[str, tuple[Callable[[KaglProduct], bool], str]] = {
        "caption-to-picture": (lambda p: True, "All products."),
        "held-out-brands": (lambda p: p.brand_percentile < UNSEEN_BELOW, _HELD_OUT),
        "held-out-category": (
            lambda p: (p.labels["subCategory"], p.labels["usage"]) == ("Topwear", "Sports"),
            "Only tops for sports, the nearest to the paper's held-out category Performance Tops. "
            "The leakage check says whether a model was trained without them.",
        ),
    }
    tasks = []
    for question, (belongs, note) in subsets.items():
        subset = [p for p in products if belongs(p)]
        tasks.append(_captions(f"kagl/{question}", subset, (note, *notes)))
    tasks.append(_text_to_image(products, notes))
    for question, column in _MARQO_TASKS.items():
        tasks.append(_label_to_product(f"kagl/marqo-{question}", products, column, notes))
    return {task.name: task if task.queries else None for task in tasks}


_HELD_OUT = (
    f"Only products of the brands whose MD5 (modulo 100) is below {UNSEEN_BELOW}, which the "
    "built-in model was not trained on."
)


def _captions(name: str, products: Sequence[KaglProduct], notes: tuple[str, ...]) -> Retrieval:
    titles = [re.sub(r"\W+", " ", p.image.caption.casefold()).strip() for p in products]
    groups = group_by(titles)
    how = (
        "Each title is a query once; every product with the same title, but for case and "
        "punctuation, is relevant to it."
    )
    return Retrieval(
        name=name,
        queries=tuple(products[rows[0]].image.caption for rows in groups.values()),
        documents=tuple(p.image for p in products),
        relevant=tuple(groups.values()),
        figures=_PAPER_FIGURES,
        notes=(how, *notes),
    )


def _text_to_image(products: Sequence[KaglProduct], notes: tuple[str, ...]) -> Retrieval:
    groups = list(group_by([p.image.caption for p in products]).items())
    sampled = [groups[i] for i in choose(len(groups), N_QUERIES).tolist()]
    note = (
        f"Marqo's protocol with {len(sampled):,} of the {len(groups):,} titles, sampled here; "
        "Marqo's own sample is another one. Products with the identical title are relevant."
    )
    return Retrieval(
        name="kagl/marqo-text-to-image",
        queries=tuple(title for title, _ in sampled),
        documents=tuple(p.image for p in products),
        relevant=tuple(rows for _, rows in sampled),
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


def _held_out_queries(
    products: Sequence[KaglProduct], notes: tuple[str, ...]
) -> dict[str, Retrieval | None]:
    """Short queries of an attribute and an article type among held-out brands; None without any."""
    held_out = [p for p in products if p.brand_percentile < UNSEEN_BELOW]
    types = words_of("articleType", {p.labels["articleType"] for p in held_out})
    tasks: dict[str, Retrieval | None] = {}
    for facet in _QUERY_FACETS:
        queries = [
            f"{word} {types[p.labels['articleType']][0]}"
            if p.labels["articleType"] and (word := p.facets.get(facet))
            else ""
            for p in held_out
        ]
        groups = {q: rows for q, rows in group_by(queries).items() if len(rows) > MIN_IMAGES}
        name = f"kagl/held-out-{facet}-queries"
        note = (
            f"Queries are the {facet} and the article type of more than {MIN_IMAGES} products, "
            "such as "
            f"'{next(iter(groups), '')}'; the products with both are relevant."
        )
        tasks[name] = (
            groups
            and Retrieval(
                name=name,
                queries=tuple(groups),
                documents=tuple(p.image for p in held_out),
                relevant=tuple(groups.values()),
                figures=("precision@10", "hit@10"),
                notes=(note, _HELD_OUT, *notes),
            )
        ) or None
    return tasks


# Attributes


def _similar(products: Sequence[KaglProduct], notes: tuple[str, ...]) -> ImageToImage | None:
    """Products like a product: the same article type, and the same attributes; None if too few."""
    garments = [
        Garment(
            product.image,
            product.labels["articleType"],
            frozenset(f"{facet}: {word}" for facet, word in product.facets.items()),
        )
        for product in products
        if product.labels["articleType"]
    ]
    if len(garments) < 2:
        return None
    sampled = choose(len(garments), N_SIMILAR_QUERIES).tolist()
    note = (
        f"{len(sampled):,} of the {len(garments):,} products as queries, the others as documents; "
        "the category is the article type, the attributes are colour, pattern, sleeve, neckline "
        "and material, as far as the table has them."
    )
    return ImageToImage(
        name="kagl/similar",
        queries=tuple(garments[i] for i in sampled),
        documents=tuple(garments),
        notes=(note, *notes),
    )


def _attribute_tasks(
    products: Sequence[KaglProduct], notes: tuple[str, ...]
) -> dict[str, ZeroShot | WrongAttribute | None]:
    """Classification and wrong words for each facet; None for one that the table lacks.

    Colours are classified as they are written, which ``_zero_shot_tasks`` does.
    """
    types = words_of("articleType", {p.labels["articleType"] for p in products})
    facets = [product.facets for product in products]
    tasks: dict[str, ZeroShot | WrongAttribute | None] = {}
    for facet in ("colour", *_ATTRIBUTES):
        known = [
            (product, of_product[facet])
            for product, of_product in zip(products, facets, strict=True)
            if facet in of_product
        ]
        if facet in _NOUNS:
            tasks[f"kagl/{facet}"] = _facet_task(facet, known, notes)
        captions = [
            (p.image, types[p.labels["articleType"]][0], word)
            for p, word in known
            if p.labels["articleType"]
        ]
        alike = label_words("kagl")["alike"]
        name = f"kagl/wrong-{facet}"
        tasks[name] = wrong_attribute_task(name, facet, captions, alike=alike, notes=notes)
    return tasks


def _facet_task(
    facet: str, known: Sequence[tuple[KaglProduct, str]], notes: tuple[str, ...]
) -> ZeroShot | None:
    """Products classified by one facet's words, as in a caption."""
    counts = Counter(word for _, word in known)
    words = sorted(word for word, n in counts.items() if n >= MIN_IMAGES)
    kept = [(product, word) for product, word in known if word in set(words)]
    first, other = _NOUNS[facet]
    classes = tuple(ClassLabel(word, f"{word} {first}", (f"{word} {other}",)) for word in words)
    note = (
        f"{len(words)} words for the {facet}, each of at least {MIN_IMAGES} products; "
        f"{len(known) - len(kept):,} of {len(known):,} products left out. Values that cannot be "
        "told apart by eye are one word (shirt, spread and cutaway collars)."
    )
    return _classification(f"kagl/{facet}", classes, kept, (note, *notes))
