"""A run as one HTML page: no script, nothing from elsewhere, every text escaped.

The words and the layout are in ``page.html.jinja``, the looks in ``page.css``; here the run is
brought into the order that the page has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from fashionclip.evaluate.published import CARD, CARD_COLUMNS, PUBLISHED, Published, published_on
from fashionclip.evaluate.report import drawing, wording
from fashionclip.evaluate.report.markdown import results_on, said_by, tasks_of
from fashionclip.evaluate.results import Figure, Run, TaskResult


@dataclass(frozen=True, slots=True)
class Line:
    """One model's figure in a task's table."""

    model: str
    figure: Figure
    unseen: Figure | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a task: what it is, all models' figures, and what others published."""

    name: str
    lines: tuple[Line, ...]
    published: tuple[Published, ...]

    @property
    def highest(self) -> float:
        """The rightmost point of its whiskers."""
        figures = [f for line in self.lines for f in (line.figure, line.unseen) if f is not None]
        ends = [f.high for f in figures if not math.isnan(f.high)]
        return max([*ends, *(row.value for row in self.published)], default=0.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """One model on one task, with the sentence on what it may have seen."""

    model: str
    result: TaskResult
    seen: str


@dataclass(frozen=True, slots=True)
class Section:
    """One task on the page."""

    anchor: str
    task: str
    panels: tuple[Panel, ...]
    metrics: tuple[Metric, ...]
    notes: Mapping[str, str]
    """Each note, and the models it concerns; empty if it concerns all."""
    warnings: Mapping[str, str]
    curves: Markup

    @property
    def first(self) -> TaskResult:
        """The first model's result, for what is the same in all of them."""
        return self.panels[0].result

    @property
    def limit(self) -> float:
        """The right end of the scale that all its whiskers share: 1, or less if all are small."""
        highest = max((metric.highest for metric in self.metrics), default=1.0)
        return next((limit for limit in (0.05, 0.1, 0.25, 0.5) if highest <= limit), 1.0)

    @property
    def is_seen(self) -> bool:
        """Whether any model was trained on some of it."""
        return any(panel.result.n_seen for panel in self.panels)


def html(run: Run, pictures: Mapping[str, str]) -> str:
    """Write a run as one self-contained page.

    Args:
        run: what was measured.
        pictures: data URIs by ``<task>/<picture_id>``; anything that is no data URI of a picture
            is left out, and a missing picture is shown by its id.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fashionclip.evaluate.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        choice_sentence=wording.choice_sentence,
        count=wording.count,
        day_of=wording.day_of,
        duration=wording.duration,
        interval=wording.interval,
        meaning_of=wording.meaning_of,
        number=wording.number,
        share=wording.share,
        signed=wording.signed,
        title_of=wording.title_of,
    )
    shown = {key: uri for key, uri in pictures.items() if uri.startswith("data:image/")}
    page = environment.get_template("page.html.jinja").render(
        run=run,
        kinds=wording.KINDS,
        sections=[_section(run, task, n) for n, task in enumerate(tasks_of(run), start=1)],
        card=_card(run),
        card_source=CARD,
        pictures=shown,
        whisker=drawing.whisker,
        published_mark=drawing.published_mark,
        marker=drawing.marker,
        matrix=_matrix,
        numbered_classes=drawing.NUMBERED_CLASSES,
        by_f1=_by_f1,
        by_win_rate=_by_win_rate,
    )
    return page.strip() + "\n"


def _section(run: Run, task: str, place: int) -> Section:
    trained_on = {model.name: model.trained_on for model in run.models}
    results = results_on(run, task)
    names = dict.fromkeys(metric for _, result in results for metric in result.figures)
    return Section(
        anchor=f"task-{place}",
        task=task,
        panels=tuple(
            Panel(model, result, wording.seen_sentence(result, trained_on.get(model, "")))
            for model, result in results
        ),
        metrics=tuple(_metric(name, results, published_on(task)) for name in names),
        notes=said_by(results, lambda result: result.notes),
        warnings=said_by(results, lambda result: result.warnings),
        curves=_curves(results),
    )


def _metric(
    name: str, results: Sequence[tuple[str, TaskResult]], published: Sequence[Published]
) -> Metric:
    lines = tuple(
        Line(model, result.figures[name], result.unseen.get(name))
        for model, result in results
        if name in result.figures
    )
    return Metric(name, lines, tuple(row for row in published if row.metric == name))


def _card(run: Run) -> dict[str, Any] | None:
    """The card's table: results by model and column, then published values; None without any."""
    measured = {
        model: {
            column: next(
                (r for r in results if r.task == task and "weighted_f1" in r.figures), None
            )
            for column, task in CARD_COLUMNS.items()
        }
        for model, results in run.results.items()
    }
    if not any(any(row.values()) for row in measured.values()):
        return None
    published: dict[str, dict[str, float]] = {}
    columns = {task: column for column, task in CARD_COLUMNS.items()}
    for row in PUBLISHED:
        if row.source == CARD:
            published.setdefault(row.model, {})[columns[row.task]] = row.value
    return {"columns": list(CARD_COLUMNS), "measured": measured, "published": published}


def _curves(results: Sequence[tuple[str, TaskResult]]) -> Markup:
    curves = {
        model: {
            int(name.partition("@")[2]): figure
            for name, figure in result.figures.items()
            if name.startswith("few_shot@")
        }
        for model, result in results
    }
    ceilings = {
        model: result.figures[result.headline]
        for model, result in results
        if result.kind == "probe" and result.headline in result.figures
    }
    return drawing.few_shot_curves(curves, ceilings)


def _matrix(details: Mapping[str, Any]) -> Markup:
    return drawing.confusion_matrix(details["classes"], np.asarray(details["confusion"], np.int64))


def _by_f1(details: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Classes from the best to the worst; those without a picture last."""
    return sorted(details["per_class"], key=lambda row: (row["f1"].n == 0, -row["f1"].value))


def _by_win_rate(details: Mapping[str, Any]) -> list[tuple[str, Figure]]:
    return sorted(details["by_value"].items(), key=lambda pair: -pair[1].value)
