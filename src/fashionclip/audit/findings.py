"""What an audit has found so far: figures, tables of groups, notes, and what was left out."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from fashionclip.audit.shop import SEED
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.metrics.intervals import LEVELS, mean_interval, share_interval


@dataclass(slots=True, eq=False)
class Findings:
    """The parts of one audit's result, filled while it is measured."""

    name: str
    headline: str
    figures: dict[str, Figure] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    p: dict[str, float] = field(default_factory=dict)
    """Two-sided p of label swaps, by metric."""
    groups: dict[str, dict[str, Figure]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Sentences on what could not be measured, and why."""

    def add(self, metric: str, figure: Figure, *, chance: float | None = None) -> None:
        """Add a figure, and what chance gives in its place."""
        self.figures[metric] = figure
        if chance is not None:
            self.chance[metric] = chance

    def add_to(self, heading: str, name: str, figure: Figure) -> None:
        """Add a row to a table."""
        self.groups.setdefault(heading, {})[name] = figure

    def result(self) -> TaskResult:
        """All of it as the result of a task."""
        notes = list(self.notes)
        if self.p:
            values = ", ".join(f"{name} {p:.3f}" for name, p in self.p.items())
            notes.append(f"Two-sided p of label swaps: {values}.")
        details: dict[str, Any] = {"chance": self.chance, "p": self.p, "groups": self.groups}
        left_out = list(self.left_out)
        headline = self.headline
        if not self.figures:
            left_out = left_out or ["There is nothing to measure."]
        elif headline not in self.figures:
            headline = next(iter(self.figures))
        return TaskResult(
            task=self.name,
            kind="audit",
            headline=headline,
            n=0,
            left_out=0,
            figures=self.figures,
            details=details,
            notes=tuple(notes),
            warnings=tuple(left_out),
        )


def mean_of(values: Float[np.ndarray, " n"]) -> Figure:
    """A mean with its 95 % bootstrap interval; of at least one value."""
    low, high = mean_interval(values, seed=SEED)
    return Figure(float(np.mean(values, dtype=np.float64)), low, high, len(values))


def share_of(values: Float[np.ndarray, " n"], *, lowest: float = 0.0) -> Figure:
    """A mean of values up to 1 with its 95 % interval, which has a width where all are equal.

    Args:
        values: at least one, in ``lowest…1``.
        lowest: 0 for shares, -1 for differences of two.
    """
    low, high = share_interval(values, lowest=lowest, seed=SEED)
    return Figure(float(np.mean(values, dtype=np.float64)), low, high, len(values))


def spread_of(values: Float[np.ndarray, " n"]) -> Figure:
    """The mean of simulated values, and the range that has 95 % of them."""
    low, high = np.percentile(values, LEVELS)
    return Figure(float(values.mean()), float(low), float(high), len(values))
