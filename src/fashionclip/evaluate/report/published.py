"""Published figures of other models, shown beside the measured ones and always marked as published.

The figures are in ``published.toml``, each read at its source. They were measured on their authors'
copy of the data with their prompts, so a difference to a measured figure is not one of models
alone.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from fashionclip.evaluate.results import Run, TaskResult

_FIGURES = tomllib.loads(
    files("fashionclip.evaluate.report").joinpath("published.toml").read_text("utf-8")
)
CARD: str = _FIGURES["card"]["source"]
MARQO: str = _FIGURES["marqo"]["source"]
CARD_COLUMNS: Mapping[str, str] = MappingProxyType(_FIGURES["card"]["columns"])
"""Columns of the model card and the tasks that measure them, by weighted F1."""
_METRICS = {
    "to_image": ("recall@1", "recall@10", "mrr@10"),
    "to_product": ("precision@1", "precision@10", "mrr@10"),
}


@dataclass(frozen=True, slots=True)
class Published:
    """One figure that others measured."""

    model: str
    task: str
    """Our name of the same task."""
    metric: str
    value: float
    source: str


def _rows() -> Iterator[Published]:
    for model, *scores in _FIGURES["card"]["rows"]:
        for task, score in zip(CARD_COLUMNS.values(), scores, strict=True):
            yield Published(model, task, "weighted_f1", score, CARD)
    for kind, metrics in _METRICS.items():
        for model, question, *values in _FIGURES["marqo"][kind]:
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
