"""Kaggle's products sorted by the names of their labels, and the probe on article types."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fashionclip.evaluate.benchmarks.base import class_labels
from fashionclip.evaluate.benchmarks.kagl.products import (
    DEVELOPMENT,
    DEVELOPMENT_FROM,
    KaglProduct,
    KaglTable,
)
from fashionclip.evaluate.benchmarks.kagl.words import words_of
from fashionclip.evaluate.tasks import ClassLabel, Probe, ZeroShot

FULL_LISTING = 40_000
"""A copy with at least as many products is cut as the whole listing is."""
CUT_OF_FULL, CUT_OF_SMALLER = 70, 10
"""Products that an article type must have: 68 to 76 leave 62 types of the 44,434 products."""
_TASKS = {
    "article-type": "articleType",
    "sub-category": "subCategory",
    "master-category": "masterCategory",
    "colour": "baseColour",
    "gender": "gender",
    "season": "season",
    "usage": "usage",
}
_PROBE_BELOW = 20  # percentiles of the brands that the probe is tested on
_PROBE_SHOTS = 16


def zero_shot_tasks(table: KaglTable) -> dict[str, ZeroShot | None]:
    """One task for each column of labels; None for one that has not even two of them."""
    tasks: dict[str, ZeroShot | None] = {}
    for question, column in _TASKS.items():
        kept, note = _labelled(table.products, column, cut=question == "article-type")
        counts = Counter(product.labels[column] for product in kept)
        names = sorted(counts, key=lambda name: (-counts[name], name))
        classes = _classes(column, names)
        labelled = [(product, product.labels[column]) for product in kept]
        name = f"kagl/{question}"
        tasks[name] = sorting_task(name, classes, labelled, (note, *table.notes))
    return tasks


def probe_task(table: KaglTable) -> Probe | None:
    """Article types learned from some brands and tested on others; None of a table too small."""
    kept, note = _labelled(table.products, "articleType", cut=True)
    training = [p for p in kept if p.brand_percentile >= _PROBE_BELOW]
    test = [p for p in kept if p.brand_percentile < _PROBE_BELOW]
    n_training = Counter(p.labels["articleType"] for p in training)
    n_test = Counter(p.labels["articleType"] for p in test)
    names = [name for name, n in n_training.most_common() if n >= _PROBE_SHOTS and n_test[name]]
    if len(names) < 2:
        return None
    training = [p for p in training if p.labels["articleType"] in set(names)]
    test = [p for p in test if p.labels["articleType"] in set(names)]
    return Probe(
        name="kagl/probe",
        classes=_classes("articleType", names),
        training_images=tuple(p.image for p in training),
        training_labels=_rows_in(names, training, "articleType"),
        images=tuple(p.image for p in test),
        labels=_rows_in(names, test, "articleType"),
        notes=(
            f"Split by brand: tested on those whose MD5 (modulo 100) is below {_PROBE_BELOW}, "
            f"trained on the others. {note} Of these, {len(names)} types have {_PROBE_SHOTS} "
            "products to train on and one to test.",
            *table.notes,
        ),
    )


def _labelled(
    products: Sequence[KaglProduct], column: str, *, cut: bool
) -> tuple[list[KaglProduct], str]:
    """Products whose label is known and, with a cut, frequent; and a sentence on the others."""
    counts = Counter(label for p in products if (label := p.labels[column]))
    is_full = len(products) >= FULL_LISTING
    least = (CUT_OF_FULL if is_full else CUT_OF_SMALLER) if cut else 1
    names = {name for name, n in counts.items() if n >= least}
    kept = [p for p in products if p.labels[column] in names]
    parts = [f"{len(names):,} classes"]
    if cut:
        parts = [
            f"The {len(names):,} article types with at least {least} of the {len(products):,} "
            f"products ({'the cut of the whole listing' if is_full else 'a smaller copy'})",
            f"{len(counts) - len(names):,} rarer types left out",
        ]
    parts.append(f"{len(products) - len(kept):,} products left out")
    return kept, "; ".join(parts) + "."


def sorting_task(
    name: str,
    classes: tuple[ClassLabel, ...],
    labelled: Sequence[tuple[KaglProduct, str]],
    notes: tuple[str, ...],
) -> ZeroShot | None:
    """Sort products with labels into classes, four fifths of the brands; None of too few."""
    test = [(p, label) for p, label in labelled if p.brand_percentile < DEVELOPMENT_FROM]
    development = [(p, label) for p, label in labelled if p.brand_percentile >= DEVELOPMENT_FROM]
    if len(classes) < 2 or not test:
        return None
    row = {label.name: number for number, label in enumerate(classes)}
    return ZeroShot(
        name=name,
        classes=classes,
        images=tuple(p.image for p, _ in test),
        labels=np.array([row[label] for _, label in test], dtype=np.int64),
        development=DEVELOPMENT if development else "",
        development_images=tuple(p.image for p, _ in development),
        development_labels=np.array([row[label] for _, label in development], dtype=np.int64),
        notes=notes,
    )


def _classes(column: str, names: Sequence[str]) -> tuple[ClassLabel, ...]:
    return class_labels(names, words_of(column, names))


def _rows_in(names: Sequence[str], products: Sequence[KaglProduct], column: str) -> np.ndarray:
    row = {name: number for number, name in enumerate(names)}
    return np.array([row[p.labels[column]] for p in products], dtype=np.int64)
