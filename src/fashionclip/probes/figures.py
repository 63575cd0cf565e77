"""Figures of probes: shares with intervals, none of too few items, and those of unseen items."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.metrics.intervals import share_interval

MIN_ITEMS = 20
"""Items below which there is no figure: its interval would span half of the scale."""
_SIGNED = frozenset({"over_text_only", "reads"})  # differences of two shares


def figures_of(columns: Mapping[str, Float[np.ndarray, " n"]], *, seed: int) -> dict[str, Figure]:
    """Means of columns of values with 95 % intervals; names in ``_SIGNED`` are differences."""
    return {
        name: Figure(float(values.mean()), *_ends(name, values, seed), len(values))
        for name, values in columns.items()
    }


def _ends(name: str, values: np.ndarray, seed: int) -> tuple[float, float]:
    lowest = -1.0 if name.partition("@")[0] in _SIGNED else 0.0
    return share_interval(values, lowest=lowest, seed=seed)


def _unseen_figures(
    columns: Mapping[str, Float[np.ndarray, " n"]], seen: Bool[np.ndarray, " n"], *, seed: int
) -> tuple[dict[str, Figure], tuple[str, ...]]:
    """Figures of the items that the model was not trained on, and a warning if they are too few."""
    n_unseen = int((~seen).sum())
    if n_unseen == len(seen):
        return {}, ()
    if not n_unseen:
        return {}, (f"The model was trained on all {len(seen):,} items; there are no unseen ones.",)
    if n_unseen < MIN_ITEMS:
        why = f"The model was trained on all but {n_unseen:,} of the items: {too_few(n_unseen)}."
        return {}, (why,)
    return figures_of({name: values[~seen] for name, values in columns.items()}, seed=seed), ()


def too_few(n: int) -> str:
    """Why so few items give no figure."""
    what = "item is" if n == 1 else "items are"
    return f"{n} {what} too few to tell anything; {MIN_ITEMS} are needed"


def result_of(
    name: str,
    headline: str,
    *,
    items: Sequence[str],
    columns: Mapping[str, Float[np.ndarray, " n"]],
    seen: Bool[np.ndarray, " n"],
    left_out: int,
    details: Mapping[str, Any],
    notes: Sequence[str],
    warnings: Sequence[str],
    shown: Sequence[str] = (),
    seed: int,
) -> TaskResult:
    """The result of a probe, with the figures of all items and of the unseen ones.

    Args:
        name: of the probe.
        headline: the column that stands for it.
        items: the name of each item that was scored.
        columns: values of the items, by metric.
        seen: marks the items that the model was trained on.
        left_out: how many could not be scored.
        details: as ``TaskResult`` has them.
        notes: as ``TaskResult`` has them.
        warnings: so far.
        shown: as ``TaskResult`` has it.
        seed: of the bootstrap.
    """
    unseen, unclear = _unseen_figures(columns, seen, seed=seed)
    return TaskResult(
        task=name,
        kind="behavioural-probe",
        headline=headline,
        n=len(items),
        left_out=left_out,
        figures=figures_of(columns, seed=seed),
        n_seen=int(seen.sum()),
        unseen=unseen,
        details=details,
        notes=tuple(notes),
        warnings=(*warnings, *unclear),
        shown=tuple(shown),
        items={
            "item": items,
            "seen": seen.tolist(),
            **{metric: values.tolist() for metric, values in columns.items()},
        },
    )


def nothing(
    name: str, headline: str, left_out: int, why: str, warnings: Sequence[str] = ()
) -> TaskResult:
    """A result without figures, and a warning that says why."""
    return TaskResult(
        task=name,
        kind="behavioural-probe",
        headline=headline,
        n=0,
        left_out=left_out,
        figures={},
        warnings=(*warnings, f"There is nothing to measure: {why}."),
    )
