"""Write the built-in model's figures into the pages that show them, from its runs.

    fashionclip evaluate --on fmnist,kagl,clothing,street,sample,TABLES --data DIR --out RUN
    python projects/builtin/write_figures.py RUN
    fashionclip audit --catalog DIR/kagl --out runs/audit-kagl
    python projects/builtin/write_figures.py --audit runs/audit-kagl --audit runs/probes

The tables of tasks are those of ``heldout.py``. ``docs/benchmarks.md`` gets every task by its
headline metric. The model's card gets the same figures of the tasks in ``CARD_TASKS``. Both tables
go between ``START`` and ``END``. The card and README.md get ``GOALS`` beside what was reached.
README.md also shows a table of the run's own report, which ``scripts/write_output.py`` copies.

With ``--audit``, runs of audits and probes become the limitations in the card, and their tables in
``docs/limitations.md``. What selecting the checkpoint costs is read from the runs of
``benchmarks/selection_evidence.py``.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fashionclip.atomic import write_whole
from fashionclip.evaluate.report.markdown import cell, table
from fashionclip.evaluate.report.wording import chance_of, day_of, number
from fashionclip.evaluate.results import ModelInfo, Run, TaskResult, read_run
from fashionclip.metrics import title_of
from fashionclip.metrics.classification import confusion_matrix
from fashionclip.metrics.registry import METRICS
from fashionclip.publish.limitations import (
    AUDITED,
    measured_limitations,
    results_of,
    selection_sentence,
)

ROOT = Path(__file__).parents[2]
README_PAGE = ROOT / "README.md"
CARD_PAGE = ROOT / "src" / "fashionclip" / "builtin" / "README.md"
BENCHMARKS_PAGE = ROOT / "docs" / "benchmarks.md"
LIMITATIONS_PAGE = ROOT / "docs" / "limitations.md"
SELECTION_RUNS = ROOT / "benchmarks" / "selection_runs.json"
LIMITS_START = "<!-- limitations: projects/builtin/write_figures.py -->"
LIMITS_END = "<!-- end of limitations -->"
START = "<!-- figures: projects/builtin/write_figures.py -->"
END = "<!-- end of figures -->"
GOALS_START = "<!-- goals: projects/builtin/write_figures.py -->"
GOALS_END = "<!-- end of goals -->"
HEAD = ("Task", "Figure", "All", "Unseen only", "By chance")
CARD_TASKS: Mapping[str, str] = {
    "fmnist": "Fashion-MNIST, 10 classes",
    "kagl/article-type": "products: article type",
    "kagl/sub-category": "products: sub-category",
    "kagl/master-category": "products: master category",
    "kagl/colour": "products: colour",
    "kagl/pattern": "products: pattern",
    "kagl/sleeve": "products: sleeve",
    "kagl/neckline": "products: neckline",
    "kagl/material": "products: material",
    "kagl/held-out-brands": "held-out brands: a product found by its title",
    "kagl/held-out-colour-queries": 'held-out brands: queries such as "white t-shirt"',
    "kagl/held-out-pattern-queries": 'held-out brands: queries such as "printed t-shirt"',
    "kagl/held-out-sleeve-queries": 'held-out brands: queries such as "short-sleeved t-shirt"',
    "clothing/label": "amateur photographs, 10 classes",
    "clothing/held-out-senders": "amateur photographs of held-out senders, 10 classes",
    "street/garment-to-image": "people in a street, found by the name of a garment",
    "sample/category": "sample catalogue: category",
    "sample/colour": "sample catalogue: colour",
    "sample/pattern": "sample catalogue: pattern",
    "sample/sleeve": "sample catalogue: sleeve",
    "sample/short-queries": 'sample catalogue: queries such as "red dress"',
    "sample/search": 'sample catalogue: queries such as "blue striped trousers"',
}
"""The card's tasks, with descriptions."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach, on images that the model was not trained on."""

    description: str
    task: str
    metric: str
    least: float
    is_of_unseen: bool = False
    """Whether only the task's images count that the model was not trained on."""


GOALS = (
    Goal("Fashion-MNIST, 10 classes", "fmnist", "weighted_f1", 0.7),
    Goal("products: article type", "kagl/article-type", "weighted_f1", 0.8, is_of_unseen=True),
    Goal("amateur photographs, 10 classes", "clothing/held-out-senders", "weighted_f1", 0.75),
    Goal("women's shop: garment of 14", "womens-garment.csv", "weighted_f1", 0.7),
    Goal("women's shop: a title finds its image", "womens-title.csv", "recall@10", 0.4),
    Goal("second-hand garments: colour of ten", "secondhand-colour.csv", "weighted_f1", 0.75),
    Goal(
        'products: queries such as "white t-shirt"',
        *("kagl/held-out-colour-queries", "precision@10", 0.8),
    ),
    Goal("sample catalogue: pattern", "sample/pattern", "weighted_f1", 0.9),
    Goal("sample catalogue: neckline", "sample/neckline", "weighted_f1", 0.75),
    Goal("sample catalogue: right neckline first", "sample/wrong-neckline", "win_rate", 0.75),
    Goal(
        'sample catalogue: queries such as "red dress"',
        *("sample/short-queries", "precision@2", 0.9),
    ),
)
ALIKE_TYPES = ("Heels", "Flats", "Sandals")
"""Article types that Kaggle's labels do not keep apart: flats with heels, heels without."""
SHOE_WORDS = frozenset({"shoes", "heels", "sandals", "flip-flops"})


def main() -> None:
    """Read the arguments, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", help="folder of the evaluation run")
    parser.add_argument("--audit", type=Path, action="append", default=[], help="of an audit")
    given = parser.parse_args()
    if given.run is not None:
        run = read_run(given.run)
        write_block(CARD_PAGE, figures_table(run, CARD_TASKS))
        write_block(BENCHMARKS_PAGE, figures_table(run))
        goals = goals_table(run)
        for page in (CARD_PAGE, README_PAGE):
            write_block(page, goals, start=GOALS_START, end=GOALS_END)
    if audits := [read_run(folder) for folder in given.audit]:
        write_block(CARD_PAGE, limitations(audits), start=LIMITS_START, end=LIMITS_END)
        for name in AUDITED:
            start = f"<!-- audit of {name}: projects/builtin/write_figures.py -->"
            write_block(LIMITATIONS_PAGE, audit_tables(audits, name), start=start, end=LIMITS_END)


def limitations(audits: Sequence[Run]) -> str:
    """The limitations that audits and probes of one model found, as a list in Markdown."""
    model = audits[0].models[0]
    lines = measured_limitations(results_of(audits, model.fingerprint))
    lines.append(selection_cost(SELECTION_RUNS))
    origin = (
        f"Weights {model.fingerprint}, {model.engine}, fashionclip {audits[0].version}, "
        f"{day_of(audits[0].created).partition(',')[0]}."
    )
    return "\n".join([*(f"- {line}" for line in lines), "", origin])


def selection_cost(runs: Path) -> str:
    """What two rules cost on sets left out, over many runs.

    Raises:
        ValueError: the runs are not there, or are trials.
    """
    if not runs.exists():
        message = f"{runs} is missing; make the runs with benchmarks/selection_evidence.py --into"
        raise ValueError(message)
    evidence = json.loads(runs.read_bytes())
    if any(run["is_trial"] for run in evidence["runs"]):
        message = f"{runs} has trials of a few steps; make the runs without --trial"
        raise ValueError(message)
    kinds = {run["start"] for run in evidence["runs"]}
    return (
        f"{selection_sentence(evidence)} The runs begin with {len(kinds)} models; intervals "
        "resample runs and sets. The page on choosing a checkpoint has all rules."
    )


def audit_tables(audits: Sequence[Run], name: str) -> str:
    """The figures of one audit on each catalogue, as Markdown tables."""
    parts: list[str] = []
    for result in results_of(audits, audits[0].models[0].fingerprint):
        if result.kind != "audit" or result.task.rpartition("/")[2] != name or not result.figures:
            continue
        rows = [
            [
                *(title_of(metric), cell(figure)),
                cell(result.unseen.get(metric)) if result.n_seen else "same",
                number(chance_of(result, metric)),
            ]
            for metric, figure in result.figures.items()
        ]
        head = [f"`{result.task}`, {result.n:,} products", "All", "Not trained on", "By chance"]
        parts += [*table(head, rows), ""]
    return "\n".join(parts) or "Not measured: no catalogue has what it needs."


def goals_table(run: Run) -> str:
    """The goals beside what a run of one model reached, and the part of shoes, as Markdown.

    Raises:
        ValueError: the run has several models, or lacks a task.
    """
    _, results = _only_model(run, [goal.task for goal in GOALS])
    rows = []
    for goal in GOALS:
        result = results[goal.task]
        figures = result.unseen if goal.is_of_unseen else result.figures
        figure = figures[goal.metric]
        is_met = round(figure.value, 3) >= goal.least  # as it is shown
        rows.append(
            [
                f"{goal.description} (`{goal.task}`)",
                title_of(goal.metric),
                number(goal.least),
                cell(figure),
                "yes" if is_met else "no",
            ]
        )
    head = ("On images not trained on", "Figure", "Goal", "Reached", "Met")
    types = shoe_types(results["kagl/article-type"])
    queries = shoe_queries(results["kagl/held-out-colour-queries"])
    return "\n".join([*table(head, rows), "", types, queries])


def shoe_types(result: TaskResult) -> str:
    """How many wrong article types exchange ``ALIKE_TYPES``, as a sentence."""
    items = zip(*(result.items[name] for name in ("truth", "predicted", "seen")), strict=True)
    pairs = [(truth, predicted) for truth, predicted, is_seen in items if not is_seen]
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    alike = [pair for pair in wrong if {*pair} <= {*ALIKE_TYPES}]
    merged = [[ALIKE_TYPES[0] if one in ALIKE_TYPES else one for one in pair] for pair in pairs]
    names, numbers = np.unique(np.array(merged), return_inverse=True)
    truth, predicted = numbers.reshape(-1, 2).T
    weighted_f1 = METRICS["weighted_f1"].of_labels
    assert weighted_f1 is not None
    figure = weighted_f1(confusion_matrix(truth, predicted, len(names)))
    return (
        f"Of the {len(wrong)} wrong article types, {len(alike)} exchange heels, flats and sandals; "
        f"with these three as one type, the figure is {figure:.3f}."
    )


def shoe_queries(result: TaskResult) -> str:
    """How many of the wrong hits are those of queries of shoes, as a sentence."""
    both = zip(result.items["item"], result.items["precision@10"], strict=True)
    wrong = {query: round(10 * (1 - precision)) for query, precision in both}
    of_shoes = {query: n for query, n in wrong.items() if {*query.split()} & SHOE_WORDS}
    return (
        f"The {len(of_shoes)} queries of shoes among the {len(wrong)} have "
        f"{sum(of_shoes.values())} of the {sum(wrong.values())} wrong hits."
    )


def figures_table(run: Run, descriptions: Mapping[str, str] | None = None) -> str:
    """The headline figures of a run of one model, the prompts' styles and the origin, as Markdown.

    Args:
        run: the evaluation run.
        descriptions: the tasks to show, with their descriptions; None shows all by name alone.

    Raises:
        ValueError: the run has several models, or lacks a task.
    """
    model, results = _only_model(run, descriptions or ())
    names = descriptions or dict.fromkeys(results, "")
    shown = [results[task] for task in names]
    rows = [_row(result, names[result.task]) for result in shown]
    origin = (
        f"Weights {model.fingerprint}, {model.engine}, fashionclip {run.version}, "
        f"{day_of(run.created).partition(',')[0]}. Styles of the prompts: {_styles(shown)}."
    )
    return "\n".join([*table(HEAD, rows), "", origin])


def write_block(page: Path, text: str, *, start: str = START, end: str = END) -> None:
    """Replace what is between the marks of a page.

    Raises:
        ValueError: the page does not have the first mark once, and the other after it.
    """
    old = page.read_text(encoding="utf-8")
    before, _, rest = old.partition(start)
    if old.count(start) != 1 or end not in rest:
        message = f"{page}: expected the lines '{start}' once and '{end}' after it"
        raise ValueError(message)
    after = rest.partition(end)[2]
    write_whole(page, f"{before}{start}\n{text}\n{end}{after}".encode())


def _only_model(run: Run, tasks: Iterable[str]) -> tuple[ModelInfo, dict[str, TaskResult]]:
    """The model of a run, and its results by task.

    Raises:
        ValueError: it is not alone, or lacks one of the tasks.
    """
    if len(run.models) != 1:
        message = f"the run has {len(run.models)} models; evaluate the built-in model alone"
        raise ValueError(message)
    (model,) = run.models
    results = {result.task: result for result in run.results[model.name]}
    if lacking := [task for task in tasks if task not in results]:
        message = f"the run lacks {', '.join(lacking)}; evaluate on all benchmarks and tables"
        raise ValueError(message)
    return model, results


def _row(result: TaskResult, description: str) -> list[str]:
    task, metric = f"`{result.task}`", result.headline
    unseen = cell(result.unseen.get(metric))
    if not result.unseen:
        unseen = "none left" if result.n_seen else "same"
    return [
        f"{description} ({task})" if description else task,
        title_of(metric),
        cell(result.figures.get(metric)),
        unseen,
        number(chance_of(result, metric)),
    ]


def _styles(results: Sequence[TaskResult]) -> str:
    """The selected styles, each with its tasks."""
    tasks: dict[str, list[str]] = {}
    for result in results:
        if prompts := result.details.get("prompts"):
            tasks.setdefault(prompts["chosen"], []).append(f"`{result.task}`")
    return "; ".join(f"`{style}` for {', '.join(names)}" for style, names in tasks.items())


if __name__ == "__main__":
    main()
