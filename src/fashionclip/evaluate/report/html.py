"""A run as one HTML page: no script, nothing from elsewhere, every text escaped.

The layout is in ``page.html.jinja``, the charts in ``charts.html.jinja`` and the styles in
``page.css``. Here the run is brought into the order of the page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fashionclip.evaluate.report import wording
from fashionclip.evaluate.report.published import (
    CARD,
    CARD_COLUMNS,
    Published,
    card_measured,
    card_published,
    published_on,
)
from fashionclip.evaluate.results import Figure, Run, TaskResult
from fashionclip.metrics import explain, title_of

NUMBERED_CLASSES = 20
"""A matrix of at most so many classes has its counts written into the cells."""
_LIMITS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)  # ends of the scale of whiskers


@dataclass(frozen=True, slots=True)
class Line:
    """One model's figure in a task's table."""

    model: str
    figure: Figure
    unseen: Figure | None


@dataclass(frozen=True, slots=True)
class MetricRows:
    """One metric of a task: all models' figures, chance, and what others published."""

    name: str
    lines: tuple[Line, ...]
    chance: float | None
    published: tuple[Published, ...]

    @property
    def highest(self) -> float:
        """The rightmost point of its whiskers."""
        figures = [f for line in self.lines for f in (line.figure, line.unseen) if f is not None]
        ends = [f.high for f in figures if not math.isnan(f.high)]
        return max([*ends, *(row.value for row in self.published)], default=0.0)

    @property
    def lowest(self) -> float:
        """The leftmost point of its whiskers."""
        figures = [f for line in self.lines for f in (line.figure, line.unseen) if f is not None]
        return min((f.low for f in figures if not math.isnan(f.low)), default=0.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """One model on one task, with the sentence on what it may have seen."""

    model: str
    result: TaskResult
    seen: str


@dataclass(frozen=True, slots=True)
class Curves:
    """Few-shot curves: the number of pictures per class doubles from tick to tick, F1 is 0 to 1."""

    points: Mapping[str, Mapping[int, Figure]]
    """By model, the figure at each number of pictures."""
    ceilings: Mapping[str, Figure]
    """By model, the figure with all training pictures."""
    left: float = 40.0
    right: float = 624.0
    top: float = 10.0
    bottom: float = 250.0

    @property
    def shots(self) -> list[int]:
        """The numbers of pictures that any model has a figure for."""
        return sorted({k for points in self.points.values() for k in points})

    def x(self, k: int, place: int = 0) -> float:
        """Models are drawn side by side, so that no whisker hides another."""
        first, last = self.shots[0], self.shots[-1]
        span = math.log2(last / first) or 1.0
        width = self.right - self.left - 72
        return round(self.left + 24 + width * math.log2(k / first) / span + 7 * place, 1)

    def y(self, value: float) -> float:
        """From the bottom at 0 to the top at 1."""
        return round(self.bottom - (self.bottom - self.top) * min(max(value, 0.0), 1.0), 1)


@dataclass(frozen=True, slots=True)
class Section:
    """One task on the page."""

    anchor: str
    task: str
    panels: tuple[Panel, ...]
    metrics: tuple[MetricRows, ...]
    notes: Mapping[str, str]
    """Each note, and the models it concerns; empty if it concerns all."""
    warnings: Mapping[str, str]
    curves: Curves

    @property
    def first(self) -> TaskResult:
        """The first model's result, for what is the same in all of them."""
        return self.panels[0].result

    @property
    def limit(self) -> float:
        """The right end of the scale that all its whiskers share."""
        highest = max((metric.highest for metric in self.metrics), default=1.0)
        return next((limit for limit in _LIMITS if highest <= limit), _LIMITS[-1])

    @property
    def low(self) -> float:
        """The left end of that scale: 0, unless a whisker goes below."""
        lowest = min((metric.lowest for metric in self.metrics), default=0.0)
        limits = (limit for limit in _LIMITS if -lowest <= limit)
        return -next(limits, _LIMITS[-1]) if lowest < 0 else 0.0

    @property
    def is_seen(self) -> bool:
        """Whether any model was trained on some of it."""
        return any(panel.result.n_seen for panel in self.panels)


def html(run: Run, thumbnails: Mapping[str, str]) -> str:
    """Write a run as one self-contained page.

    Args:
        run: what was measured.
        thumbnails: data URIs by ``<task>/<image_id>``; what is no data URI of an image is left
            out, and a missing image is shown by its id.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fashionclip.evaluate.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters = (
        *(wording.choice_sentence, wording.count, wording.day_of, wording.duration),
        *(wording.interval, wording.number, wording.share, wording.signed, explain, title_of),
    )
    environment.filters.update({function.__name__: function for function in filters})
    page = environment.get_template("page.html.jinja").render(
        run=run,
        kinds=wording.KINDS,
        sections=[_section(run, task, n) for n, task in enumerate(wording.tasks_of(run), start=1)],
        card_columns=list(CARD_COLUMNS),
        card_measured=card_measured(run),
        card_published=card_published(),
        card_source=CARD,
        thumbnails={key: uri for key, uri in thumbnails.items() if uri.startswith("data:image/")},
        numbered_classes=NUMBERED_CLASSES,
        by_f1=_by_f1,
    )
    return page.strip() + "\n"


def _section(run: Run, task: str, place: int) -> Section:
    trained_on = {model.name: model.trained_on for model in run.models}
    results = wording.results_on(run, task)
    names = dict.fromkeys(metric for _, result in results for metric in result.figures)
    return Section(
        anchor=f"task-{place}",
        task=task,
        panels=tuple(
            Panel(model, result, wording.seen_sentence(result, trained_on.get(model, "")))
            for model, result in results
        ),
        metrics=tuple(_metric(name, results, published_on(task)) for name in names),
        notes=wording.by_text(results, lambda result: result.notes),
        warnings=wording.by_text(results, lambda result: result.warnings),
        curves=_curves(results),
    )


def _metric(
    name: str, results: Sequence[tuple[str, TaskResult]], published: Sequence[Published]
) -> MetricRows:
    lines = tuple(
        Line(model, result.figures[name], result.unseen.get(name))
        for model, result in results
        if name in result.figures
    )
    chance = wording.chance_of(results[0][1], name)
    return MetricRows(name, lines, chance, tuple(row for row in published if row.metric == name))


def _curves(results: Sequence[tuple[str, TaskResult]]) -> Curves:
    points = {
        model: {
            int(name.partition("@")[2]): figure
            for name, figure in result.figures.items()
            if name.startswith("few_shot@") and not math.isnan(figure.value)
        }
        for model, result in results
    }
    ceilings = {
        model: result.figures[result.headline]
        for model, result in results
        if result.kind == "probe" and result.headline in result.figures
    }
    return Curves(points, ceilings)


def _by_f1(details: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Classes from the best to the worst; those without a picture last."""
    return sorted(details["per_class"], key=lambda row: (row["f1"].n == 0, -row["f1"].value))
