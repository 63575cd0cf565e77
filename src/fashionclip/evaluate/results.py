"""What a run found, and how it lies on disk.

A run folder holds ``results.json`` (everything below but the items),
``items/<model>/<task>.parquet`` (what each picture or query came to: two runs are compared item by
item), ``pictures.json`` (thumbnails that the report shows), ``report.md`` and ``report.html``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Kind = Literal["zero-shot", "retrieval", "picture-to-picture", "probe", "wrong-attribute"]

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "weighted_f1": "F1 of each class, weighted by its share of the pictures (the card's)",
        "macro_f1": "F1 of each class, averaged alike",
        "accuracy": "share of pictures with the right label",
        "top_5": "share of pictures whose label is among the five best",
        "hit": "hit rate: share of queries with at least one relevant product in the first k",
        "recall": "recall: share of a query's relevant products that stand in the first k",
        "precision": "share of the first k products that are relevant",
        "mrr": "one over the rank of the first relevant product within the first k, else 0",
        "map": "average precision within the first k",
        "ndcg": "discounted gain of the first k, of the best that could be had",
        "fine_recall": "hit rate: the same category and all of the query's attributes",
        "coarse_recall": "hit rate: the same category",
        "win_rate": "share of wrong captions that the right one beats; by chance 0.5",
        "beats_all": "share of pictures whose right caption beats every wrong one",
    }
)
"""What each figure means; ``hit@5`` is explained under ``hit``, and so on."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number and how sure it is."""

    value: float
    low: float
    """Lower end of the 95 % bootstrap interval over pictures or queries."""
    high: float
    n: int
    """How many pictures or queries it was measured on."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskResult:
    """One model on one task."""

    task: str
    kind: Kind
    headline: str
    """The figure that stands for the task: ``weighted_f1``."""
    n: int
    """Pictures or queries scored."""
    left_out: int
    """Pictures or queries that could not be scored; ``warnings`` says why."""
    figures: Mapping[str, Figure]
    """Over everything scored, by metric."""
    n_seen: int = 0
    """Of those scored, how many the leakage check found among what the model was trained on."""
    unseen: Mapping[str, Figure] = field(default_factory=dict)
    """The same figures without them; empty where nothing was seen, or nothing is left."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for JSON and figures, by kind of task; the scorers' docstrings list them."""
    notes: tuple[str, ...] = ()
    """The task's own."""
    warnings: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    """Picture ids that ``details`` names and a report may show."""
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Columns, one value an item: ``item`` (a picture's id, or the query), ``seen``, ``truth`` and
    ``predicted`` (class names) where a picture is sorted, and one of numbers for each figure that
    is a mean over items."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model a run measured."""

    name: str
    fingerprint: str
    dim: int
    engine: str
    """Device and precision: ``cpu bfloat16``."""
    trained_on: str = ""
    """In words, what the leakage check compared with; empty if nothing is known."""
    seconds: float = 0.0
    """How long all tasks took."""
    encoding_seconds: float = 0.0
    """How much of it went into decoding and encoding; little where a cache had the vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Models on tasks, as one command measured them."""

    models: tuple[ModelInfo, ...]
    results: Mapping[str, tuple[TaskResult, ...]]
    """By model name, in the tasks' order."""
    missing: Mapping[str, str]
    """Benchmarks that could not be measured, and one line each on how to get them."""
    created: str
    """ISO date and time, UTC."""
    version: str
    """Of this package."""
