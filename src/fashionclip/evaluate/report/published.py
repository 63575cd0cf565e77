"""Published figures of other models, shown beside the measured ones and always marked as published.

Every figure was read at its source. They were measured on their authors' copy of
the data with their prompts, so a difference to a measured figure is not one of models alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fashionclip.evaluate.results import Run, TaskResult

CARD = "model card of patrickjohncyh/fashion-clip"
MARQO = "leaderboard of marqo-ai/marqo-FashionCLIP, 9 August 2024"

CARD_COLUMNS: Mapping[str, str] = MappingProxyType(
    {"FMNIST": "fmnist", "KAGL": "kagl/article-type", "DEEP": "deep/category"}
)
"""Columns of the model card and the tasks that measure them, by weighted F1."""


@dataclass(frozen=True, slots=True)
class Published:
    """One figure that others measured."""

    model: str
    task: str
    """Our name of the same task."""
    metric: str
    value: float
    source: str


_CARD_ROWS = (
    ("OpenAI CLIP B/32", 0.66, 0.63, 0.45),
    ("FashionCLIP 1.0", 0.74, 0.67, 0.48),
    ("LAION CLIP B/32", 0.78, 0.71, 0.58),
    ("FashionCLIP 2.0", 0.83, 0.73, 0.62),
)
_TO_PICTURE = ("recall@1", "recall@10", "mrr@10")
_TO_PRODUCT = ("precision@1", "precision@10", "mrr@10")
_MARQO_ROWS = (
    ("FashionCLIP 2.0", "text-to-image", _TO_PICTURE, (0.122, 0.404, 0.217)),
    ("Marqo-FashionCLIP", "text-to-image", _TO_PICTURE, (0.159, 0.446, 0.265)),
    ("Marqo-FashionSigLIP", "text-to-image", _TO_PICTURE, (0.179, 0.489, 0.293)),
    ("OpenFashionCLIP", "text-to-image", _TO_PICTURE, (0.091, 0.325, 0.170)),
    ("LAION CLIP B/16", "text-to-image", _TO_PICTURE, (0.155, 0.435, 0.259)),
    ("SigLIP B/16 webli", "text-to-image", _TO_PICTURE, (0.169, 0.468, 0.272)),
    ("FashionCLIP 2.0", "category-to-product", _TO_PRODUCT, (0.714, 0.686, 0.714)),
    ("FashionCLIP 2.0", "sub-category-to-product", _TO_PRODUCT, (0.600, 0.571, 0.627)),
    ("Marqo-FashionSigLIP", "sub-category-to-product", _TO_PRODUCT, (0.711, 0.687, 0.756)),
    ("FashionCLIP 2.0", "fine-category", _TO_PRODUCT, (0.634, 0.577, 0.694)),
    ("FashionCLIP 2.0", "colour", _TO_PRODUCT, (0.413, 0.443, 0.518)),
    ("Marqo-FashionSigLIP", "colour", _TO_PRODUCT, (0.587, 0.502, 0.664)),
)


def _rows() -> Iterator[Published]:
    for model, *scores in _CARD_ROWS:
        for task, score in zip(CARD_COLUMNS.values(), scores, strict=True):
            yield Published(model, task, "weighted_f1", score, CARD)
    for model, question, metrics, values in _MARQO_ROWS:
        for metric, value in zip(metrics, values, strict=True):
            yield Published(model, f"kagl/marqo-{question}", metric, value, MARQO)


PUBLISHED: tuple[Published, ...] = tuple(_rows())
"""Every published figure, models in their source's order."""


def published_on(task: str) -> tuple[Published, ...]:
    """The published figures of a task; none for most."""
    return tuple(row for row in PUBLISHED if row.task == task)


def card_published() -> dict[str, dict[str, float]]:
    """The model card's table: weighted F1 by model and column."""
    columns = {task: column for column, task in CARD_COLUMNS.items()}
    table: dict[str, dict[str, float]] = {}
    for row in PUBLISHED:
        if row.source == CARD:
            table.setdefault(row.model, {})[columns[row.task]] = row.value
    return table


def card_measured(run: Run) -> dict[str, dict[str, TaskResult | None]]:
    """A run's results for the same table, by model and column; models without any are left out."""
    table = {}
    for model, results in run.results.items():
        measured = {result.task: result for result in results if "weighted_f1" in result.figures}
        row = {column: measured.get(task) for column, task in CARD_COLUMNS.items()}
        if any(row.values()):
            table[model] = row
    return table
