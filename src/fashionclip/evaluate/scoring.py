"""Steps that all scorers share: leaving out unreadable images, means with intervals, the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.evaluate.results import Figure, Kind, TaskResult
from fashionclip.evaluate.tasks import Encoder, ImageRef, Task
from fashionclip.metrics.classification import checked_labels, confusion_matrix
from fashionclip.metrics.intervals import confusion_intervals, mean_interval
from fashionclip.metrics.registry import METRICS

_N_EXAMPLES = 5  # ids or names that a warning gives


@dataclass(frozen=True, slots=True, eq=False)
class Readable:
    """The images that can be read, with a warning about the others."""

    images: list[ImageRef]
    vectors: Float[np.ndarray, "n d"]
    kept: Bool[np.ndarray, " all"]
    """Marks them among all images."""
    warnings: list[str]


def readable_images(
    images: Sequence[ImageRef], encoder: Encoder, noun: str = "pictures"
) -> Readable:
    """Vectors of the images that can be read; a warning counts the others and names some."""
    found = encoder.encode_images(images)
    kept = np.isfinite(found).all(axis=1)
    lost = [image.image_id for image, ok in zip(images, kept, strict=True) if not ok]
    warnings = []
    if lost:
        warnings.append(
            f"{len(lost):,} of {len(images):,} {noun} could not be read and are left out: "
            f"{examples_of(lost)}."
        )
    good = [image for image, ok in zip(images, kept, strict=True) if ok]
    return Readable(good, found[kept], kept, warnings)


def examples_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _N_EXAMPLES:,} more" if len(names) > _N_EXAMPLES else ""
    return ", ".join(names[:_N_EXAMPLES]) + more


def check_seen(task: Task, n: int, seen: Bool[np.ndarray, " n"] | None) -> None:
    """Refuse marks that are not one for each image or query.

    Raises:
        ValueError: there are more or fewer.
    """
    if seen is not None and len(seen) != n:
        message = f"{task.name}: 'seen' marks {len(seen)} of {n} images or queries"
        raise ValueError(message)


def check_labels(
    task: Task,
    images: Sequence[ImageRef],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    split: str = "",
) -> None:
    """Refuse labels that are not one for each image, or are none of the classes.

    Raises:
        ValueError: they are not.
    """
    if len(images) != len(labels):
        message = f"{task.name}: {len(images)} {split}images have {len(labels)} labels"
        raise ValueError(message)
    try:
        checked_labels(labels, n_classes)
    except ValueError as exc:
        message = f"{task.name}, {split}images: {exc}"
        raise ValueError(message) from exc


def label_figures(
    truth: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    n_classes: int,
    metrics: Sequence[str],
    seed: int,
) -> dict[str, Figure]:
    """Metrics of predicted labels, by name, with 95 % bootstrap intervals."""
    confusion = confusion_matrix(truth, predicted, n_classes)
    functions = {name: METRICS[name].of_labels for name in metrics}
    known = {name: function for name, function in functions.items() if function is not None}
    intervals = confusion_intervals(confusion, tuple(known.values()), seed=seed)
    return {
        name: Figure(float(metric(confusion)), float(low), float(high), len(truth))
        for (name, metric), (low, high) in zip(known.items(), intervals, strict=True)
    }


def mean_figures(
    columns: Mapping[str, Float[np.ndarray, " n"]], kept: Bool[np.ndarray, " n"], seed: int
) -> dict[str, Figure]:
    """Means of columns of values with 95 % bootstrap intervals.

    Args:
        columns: one value per item, NaN where an item does not count for a metric.
        kept: marks the items to take.
        seed: of the bootstrap.

    Returns:
        By metric; one for which no item counts is left out.
    """
    figures = {}
    for name, column in columns.items():
        values = column[kept & ~np.isnan(column)]
        if len(values):
            figures[name] = mean_figure(values, seed)
    return figures


def mean_figure(values: Float[np.ndarray, " n"], seed: int) -> Figure:
    """The mean of at least one value with its 95 % bootstrap interval."""
    return Figure(float(values.mean()), *mean_interval(values, seed=seed), len(values))


def task_result(
    task: Task,
    kind: Kind,
    headline: str,
    *,
    unit: str,
    seen: Bool[np.ndarray, " n"],
    left_out: int,
    figures_of: Callable[[Bool[np.ndarray, " n"]], Mapping[str, Figure]],
    details: Mapping[str, Any],
    warnings: Sequence[str],
    items: Mapping[str, Sequence[Any]],
    shown: Sequence[str] = (),
) -> TaskResult:
    """The result of a task, with the figures of all items and of the unseen ones.

    Args:
        task: what was measured.
        kind: of the task.
        headline: the metric that stands for it.
        unit: what was scored, in the plural: ``pictures``, ``queries``.
        seen: marks the scored items that the model was trained on.
        left_out: how many could not be scored.
        figures_of: figures by metric, of the items that a mask marks.
        details: as ``TaskResult`` has them.
        warnings: so far.
        items: columns beside ``seen``.
        shown: as ``TaskResult`` has it.
    """
    n, n_seen = len(seen), int(seen.sum())
    if n_seen == n:
        message = f"The model was trained on all {n:,} {unit}; there are no unseen ones."
        warnings = [*warnings, message]
    return TaskResult(
        task=task.name,
        kind=kind,
        headline=headline,
        n=n,
        left_out=left_out,
        figures=figures_of(np.ones(n, bool)),
        n_seen=n_seen,
        unseen=figures_of(~seen) if 0 < n_seen < n else {},
        details=details,
        notes=task.notes,
        warnings=tuple(warnings),
        shown=tuple(dict.fromkeys(shown)),
        items={**items, "seen": seen.tolist()},
    )


def empty_result(
    task: Task, kind: Kind, headline: str, left_out: int, why: str, warnings: Sequence[str]
) -> TaskResult:
    """A result without figures, and a warning that says why there are none."""
    return TaskResult(
        task=task.name,
        kind=kind,
        headline=headline,
        n=0,
        left_out=left_out,
        figures={},
        notes=task.notes,
        warnings=(*warnings, f"There is nothing to measure: {why}."),
    )


def seen_among(
    seen: Bool[np.ndarray, " all"] | None, kept: Bool[np.ndarray, " all"]
) -> Bool[np.ndarray, " n"]:
    """The marks of the kept items; none where nothing is known of the training data."""
    return np.zeros(int(kept.sum()), bool) if seen is None else seen[kept]
