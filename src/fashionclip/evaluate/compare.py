"""Comparison of two models, paired image by image and query by query.

Overlapping intervals say little about a difference, because both models were measured on the same
images. Here each item is compared with itself, and a verdict is given only where the 95 % interval
of the difference excludes 0.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.errors import EvaluationError
from fashionclip.evaluate.report.markdown import plain, table
from fashionclip.evaluate.report.wording import count, number, signed
from fashionclip.evaluate.results import Figure, ModelInfo, Run, TaskResult
from fashionclip.metrics import METRICS, title_of
from fashionclip.metrics.classification import confusion_matrix
from fashionclip.metrics.intervals import Difference, mcnemar, paired_labels, paired_means

Verdict = Literal["better", "worse", "no difference beyond the noise", "not comparable"]

MIN_SHARED = 6
"""With fewer shared items no difference can be beyond the noise: even if all changed to one side, a
sign test would give p = 2 / 2^5 > 0.05."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one task, old against new."""

    task: str
    metric: str
    is_headline: bool
    unseen: bool
    """Over what neither model was trained on; else over everything that both scored."""
    old: float
    """Over the shared items, so that the difference is between these two; over all of its run's
    where the row is not comparable, NaN if it has none."""
    new: float
    n_old: int
    """Scored in the old run."""
    n_new: int
    n: int
    """Shared by both, and compared."""
    difference: Difference | None
    """New minus old with its 95 % interval and bootstrap p; None where it is not comparable."""
    mcnemar: float | None
    """For labels, p of McNemar's exact test of equal accuracy; on the row of accuracy alone."""
    verdict: Verdict
    why: str = ""
    """Why it is not comparable."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models over all tasks."""

    old: ModelInfo
    new: ModelInfo
    rows: tuple[Row, ...]
    lines: tuple[str, ...]
    """Sentences on what has no row: tasks that one run lacks, and why."""
    lost: tuple[str, ...] = ()
    """Tasks that only the old run has."""

    @property
    def n_compared(self) -> int:
        """How many comparisons were made."""
        return sum(row.difference is not None for row in self.rows)


def compare_runs(
    old: Run,
    new: Run,
    *,
    old_model: str | None = None,
    new_model: str | None = None,
    on: Sequence[str] = (),
) -> Comparison:
    """Compare one model of a run with one of another, or of the same run.

    Args:
        old: the reference run.
        new: the run that is compared with it.
        old_model: its name in the old run; None where the run has one model.
        new_model: its name in the new run; None where the run has one model.
        on: benchmarks or tasks to look at, such as ``kagl`` or ``kagl/article-type``; none named
            means all.

    Raises:
        EvaluationError: a run lacks the model, or has several and none is named.
    """
    before, after = _model_of(old, old_model, "old"), _model_of(new, new_model, "new")
    theirs, ours = (
        {
            result.task: result
            for result in run.results.get(model.name, ())
            if not on or any(_belongs(result.task, name) for name in on)
        }
        for run, model in ((old, before), (new, after))
    )
    shared = [task for task in theirs if task in ours]
    nowhere = [name for name in on if not any(_belongs(task, name) for task in (*theirs, *ours))]
    return Comparison(
        old=before,
        new=after,
        rows=tuple(row for task in shared for row in _rows(theirs[task], ours[task])),
        lost=tuple(task for task in theirs if task not in ours),
        lines=(
            *(f"{name}: neither run has it" for name in nowhere),
            *(_only(task, "old", new.missing) for task in theirs if task not in ours),
            *(_only(task, "new", old.missing) for task in ours if task not in theirs),
            *(line for task in shared for line in _unshared(theirs[task], ours[task])),
        ),
    )


def gate_failures(comparison: Comparison, on: Sequence[str] = ()) -> tuple[str, ...]:
    """Reasons why a new model must not replace the old one; none if it may.

    Each headline is tested alone, without Holm's correction: a gate that stays open by mistake is
    the costly error, and a correction would make it more likely with every benchmark added.

    Args:
        comparison: of the two runs.
        on: benchmarks or tasks that must be no worse, such as ``kagl`` or ``kagl/article-type``;
            a task of theirs that could not be compared keeps the gate shut. None named means every
            task that could.

    Returns:
        One line for each headline that is worse beyond the noise, all pictures or only the unseen
        ones, for each task of a named benchmark that could not be compared, and for each named
        benchmark without any.
    """
    headlines = [row for row in comparison.rows if row.is_headline]
    judged = [row for row in headlines if row.difference is not None]
    unclear = {row.task: row.why for row in headlines if row.difference is None and not row.unseen}
    unclear |= dict.fromkeys(comparison.lost, "the new run lacks it")
    if not on:
        on = tuple(dict.fromkeys(row.task for row in judged))
    failures = [] if on else ["the runs have no task that could be compared"]
    for name in on:
        rows = [row for row in judged if _belongs(row.task, name)]
        failures += [_worse(row) for row in rows if row.verdict == "worse"]
        unknown = [f"{task}: {why}" for task, why in unclear.items() if _belongs(task, name)]
        failures += unknown if rows or unknown else [f"{name}: nothing could be compared"]
    return tuple(dict.fromkeys(failures))


def comparison_markdown(comparison: Comparison) -> str:
    """Write a comparison as Markdown: headlines bold, every row with its n and verdict."""
    tabled = [row for row in comparison.rows if row.is_headline or row.difference is not None]
    head = ["Task", "Figure", "Old", "New", "Difference [95 %]", "p", "n", "Verdict"]
    lines = [
        f"Old: {plain(comparison.old.name)} ({plain(comparison.old.fingerprint)}). "
        f"New: {plain(comparison.new.name)} ({plain(comparison.new.fingerprint)}).",
        "",
        *table(head, [_cells(row) for row in tabled]),
        "",
    ]
    n = comparison.n_compared
    lines += [
        f"{n} comparisons were made, each tested alone: where nothing has changed, about "
        f"{0.05 * n:.1f} of them come out better or worse by chance. p is that of the paired "
        "bootstrap, for accuracy that of McNemar's exact test.",
        "",
    ]
    lines += [f"- {plain(line)}" for line in (*_unpaired(comparison.rows), *comparison.lines)]
    return "\n".join(lines).rstrip() + "\n"


def _unpaired(rows: Sequence[Row]) -> Iterator[str]:
    """One line per task for the other metrics that cannot be compared, with their values."""
    values: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.difference is None and not row.is_headline:
            change = f"{title_of(row.metric)} {number(row.old)} → {number(row.new)}"
            values.setdefault((row.task, row.why), []).append(change)
    for (task, why), changes in values.items():
        yield f"{task}: not comparable ({why}): {', '.join(changes)}"


def _model_of(run: Run, name: str | None, which: str) -> ModelInfo:
    found = [model for model in run.models if name in (None, model.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(model.name for model in run.models)
    if name is None:
        message = f"the {which} run has {len(run.models)} models ({names}): name one of them"
    else:
        message = f"the {which} run has no model '{name}'; it has {names or 'none'}"
    raise EvaluationError(message)


def _only(task: str, where: str, missing: Mapping[str, str]) -> str:
    why = next((f" ({text})" for name, text in missing.items() if _belongs(task, name)), "")
    other = "new" if where == "old" else "old"
    return f"{task}: only in the {where} run, the {other} one lacks it{why}"


def _unshared(old: TaskResult, new: TaskResult) -> Iterator[str]:
    for metric in dict.fromkeys([*old.figures, *new.figures]):
        if (metric in old.figures) != (metric in new.figures):
            where = "old" if metric in old.figures else "new"
            yield f"{new.task}: only the {where} run measured {title_of(metric)}"


def _belongs(task: str, name: str) -> bool:
    return task == name or task.startswith(f"{name}/")


def _rows(old: TaskResult, new: TaskResult) -> Iterator[Row]:
    """One row for each metric that both have; the headline once more without what was seen."""
    pairs = _Pairs(old, new)
    for metric in old.figures:
        if metric in new.figures:
            yield _row(pairs, metric, pairs.everything)
    headline = new.headline
    if headline in old.figures and headline in new.figures and pairs.seen.any():
        yield _row(pairs, headline, ~pairs.seen, unseen=True)


class _Pairs:
    """The items that two results share, side by side."""

    def __init__(self, old: TaskResult, new: TaskResult) -> None:
        self.old, self.new = old, new
        places = {item: row for row, item in enumerate(new.items.get("item", ()))}
        both = [
            (row, places[item])
            for row, item in enumerate(old.items.get("item", ()))
            if item in places
        ]
        self._rows = np.array(both, np.int64).reshape(-1, 2).T
        seen = (self._column(r, "seen", False) for r in (0, 1))
        self.seen: Bool[np.ndarray, " shared"] = np.logical_or(*(s.astype(bool) for s in seen))
        self.everything: Bool[np.ndarray, " shared"] = np.ones(len(both), bool)

    def _column(self, side: int, name: str, default: object = None) -> np.ndarray:
        items = (self.old, self.new)[side].items
        column: Sequence[Any] = items.get(name, [default] * len(items.get("item", ())))
        found: np.ndarray = np.array(column, object)[self._rows[side]]
        return found

    def has(self, name: str) -> bool:
        """Whether both results have this column."""
        return name in self.old.items and name in self.new.items

    def numbers(self, name: str) -> tuple[Float[np.ndarray, " shared"], ...]:
        """Both sides of a column of numbers, NaN where an item does not count for it."""
        return tuple(self._column(side, name).astype(np.float64) for side in (0, 1))

    def labels(self) -> tuple[Int[np.ndarray, " shared"], ...]:
        """Truth in both runs, then both predictions, as rows of one list of classes."""
        columns = [self._column(s, name) for name in ("truth", "predicted") for s in (0, 1)]
        rows = np.unique(np.concatenate(columns), return_inverse=True)[1]
        return tuple(rows.reshape(4, -1).astype(np.int64))


@dataclass(frozen=True, slots=True)
class _Judged:
    """The comparison of one metric: a difference, or why there is none."""

    n: int
    why: str = ""
    old: float = math.nan
    new: float = math.nan
    difference: Difference | None = None
    mcnemar: float | None = None


def _row(
    pairs: _Pairs, metric: str, kept: Bool[np.ndarray, " shared"], *, unseen: bool = False
) -> Row:
    old, new = pairs.old, pairs.new
    is_of_labels = metric in METRICS and METRICS[metric].of_labels and pairs.has("truth")
    judge = _judge_labels if is_of_labels else _judge_numbers
    judged = judge(pairs, metric, kept)
    compared = judged.difference is not None
    ours, theirs = (result.unseen if unseen else result.figures for result in (new, old))
    return Row(
        task=new.task,
        metric=metric,
        is_headline=metric == new.headline,
        unseen=unseen,
        old=judged.old if compared else _value(theirs, metric),
        new=judged.new if compared else _value(ours, metric),
        n_old=old.figures[metric].n,
        n_new=new.figures[metric].n,
        n=judged.n,
        difference=judged.difference,
        mcnemar=judged.mcnemar,
        verdict=_verdict(metric, judged.difference),
        why=judged.why,
    )


def _value(figures: Mapping[str, Figure], metric: str) -> float:
    return figures[metric].value if metric in figures else math.nan


def _judge_labels(pairs: _Pairs, metric: str, kept: Bool[np.ndarray, " shared"]) -> _Judged:
    truth, other, old, new = (column[kept] for column in pairs.labels())
    n = len(truth)
    if why := _obstacle(pairs, "classes", n):
        return _Judged(n, why)
    if n_other := int((truth != other).sum()):
        return _Judged(n, f"{n_other} of {n} shared pictures have another true label")
    n_classes = 1 + int(max(truth.max(), old.max(), new.max()))
    measure = METRICS[metric].of_labels
    assert measure is not None
    return _Judged(
        n,
        old=float(measure(confusion_matrix(truth, old, n_classes))),
        new=float(measure(confusion_matrix(truth, new, n_classes))),
        difference=paired_labels(truth, old, new, n_classes, measure),
        mcnemar=mcnemar(old == truth, new == truth) if metric == "accuracy" else None,
    )


def _judge_numbers(pairs: _Pairs, metric: str, kept: Bool[np.ndarray, " shared"]) -> _Judged:
    if not pairs.has(metric):
        return _Judged(int(kept.sum()), "the runs have no value for each item")
    old, new = pairs.numbers(metric)
    known = kept & np.isfinite(old) & np.isfinite(new)
    n = int(known.sum())
    if why := _obstacle(pairs, "n_documents", n):
        return _Judged(n, why)
    old, new = old[known], new[known]
    return _Judged(
        n, old=float(old.mean()), new=float(new.mean()), difference=paired_means(old, new)
    )


def _obstacle(pairs: _Pairs, detail: str, n: int) -> str:
    """Why there can be no difference: too little in common, or another task; else empty."""
    if pairs.old.details.get(detail) != pairs.new.details.get(detail):
        return "the class lists differ" if detail == "classes" else "other pictures were searched"
    if n < MIN_SHARED:
        if n:
            return f"{n} shared {'item is' if n == 1 else 'items are'} too few to tell"
        return "the runs share no item"
    return ""


def _verdict(metric: str, difference: Difference | None) -> Verdict:
    if difference is None:
        return "not comparable"
    if not (difference.low > 0 or difference.high < 0):
        return "no difference beyond the noise"
    base = metric.partition("@")[0]
    higher_is_better = METRICS[base].higher_is_better if base in METRICS else True
    return "better" if (difference.low > 0) == higher_is_better else "worse"


def _worse(row: Row) -> str:
    where = " without what was seen in training" if row.unseen else ""
    return (
        f"{row.task}: {title_of(row.metric)}{where} is worse: {_change(row.difference)}, "
        f"n = {count(row.n)}"
    )


def _change(difference: Difference | None) -> str:
    if difference is None:
        return "—"
    low, high = signed(difference.low), signed(difference.high)
    return f"{signed(difference.value)} [{low} to {high}]"


def _cells(row: Row) -> list[str]:
    name = title_of(row.metric) + (", unseen only" if row.unseen else "")
    cells = [plain(row.task), name, number(row.old), number(row.new)]
    p = row.difference.p if row.difference and row.mcnemar is None else row.mcnemar
    cells += [_change(row.difference), "< 0.001" if p is not None and p < 0.001 else number(p)]
    n = count(row.n)
    if not row.unseen and {row.n_old, row.n_new} != {row.n}:
        n += f" shared of {count(row.n_old)} and {count(row.n_new)}"
    cells += [n, f"{row.verdict} ({plain(row.why)})" if row.why else row.verdict]
    return [f"**{cell}**" for cell in cells] if row.is_headline else cells
