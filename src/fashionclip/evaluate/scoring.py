"""What all scorers do alike: leave out what cannot be scored, and say so; how sure a mean is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.evaluate.results import Figure, Kind, TaskResult
from fashionclip.evaluate.tasks import Picture, Task, Vectors
from fashionclip.metrics.intervals import mean_interval

_N_NAMED = 5  # ids or names that a warning gives as examples


@dataclass(frozen=True, slots=True, eq=False)
class Readable:
    """The pictures that could be read, with what is to be said of the others."""

    pictures: list[Picture]
    vectors: Float[np.ndarray, "n d"]
    kept: Bool[np.ndarray, " all"]
    """Marks them among all that were asked for."""
    warnings: list[str]


def readable_pictures(
    pictures: Sequence[Picture], vectors: Vectors, what: str = "pictures"
) -> Readable:
    """Vectors of the pictures that can be read; a warning names how many cannot, and some ids."""
    found = vectors.pictures(pictures)
    kept = np.isfinite(found).all(axis=1)
    lost = [picture.picture_id for picture, good in zip(pictures, kept, strict=True) if not good]
    good = [picture for picture, ok in zip(pictures, kept, strict=True) if ok]
    warnings = []
    if lost:
        warnings.append(
            f"{len(lost):,} of {len(pictures):,} {what} could not be read and are left out: "
            f"{some_of(lost)}."
        )
    return Readable(good, found[kept], kept, warnings)


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _N_NAMED:,} more" if len(names) > _N_NAMED else ""
    return ", ".join(names[:_N_NAMED]) + more


def check_length(task: Task, what: str, n: int, seen: Bool[np.ndarray, " n"] | None) -> None:
    """Refuse marks that are not one for each question.

    Raises:
        ValueError: there are more or fewer.
    """
    if seen is not None and len(seen) != n:
        message = f"{task.name}: {n} {what}, and 'seen' marks {len(seen)}"
        raise ValueError(message)


def seen_entirely(n: int, what: str) -> str:
    """The warning where nothing is left that the model was not trained on."""
    return f"The model was trained on all {n:,} {what}; there are no unseen ones."


def mean_figures(
    columns: Mapping[str, Float[np.ndarray, " n"]], kept: Bool[np.ndarray, " n"], seed: int
) -> dict[str, Figure]:
    """Means of columns of values with 95 % bootstrap intervals.

    Args:
        columns: one value an item, NaN where an item does not count for a metric.
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


def nothing_measured(
    task: Task, kind: Kind, headline: str, left_out: int, why: str, warnings: Sequence[str]
) -> TaskResult:
    """A result without a figure, which says why there is none."""
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
