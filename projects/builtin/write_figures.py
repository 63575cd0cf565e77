"""Write the built-in model's figures into the pages that show them, from its runs.

    fashionclip evaluate --on fmnist,kagl,clothing,street,sample --data DIR --out runs/builtin
    python projects/builtin/write_figures.py runs/builtin
    fashionclip audit --catalog DIR/kagl --out runs/audit-kagl
    python projects/builtin/write_figures.py --audit runs/audit-kagl --audit runs/probes

``docs/benchmarks.md`` gets every task by its headline metric. The model's card gets the same
figures of the tasks in ``CARD_TASKS``. Both tables go between ``START`` and ``END``. README.md
shows a table of the run's own report, which ``scripts/write_output.py`` copies.

With ``--audit``, runs of audits and probes become the limitations in the card, and their tables in
``docs/limitations.md``. What selecting the checkpoint costs is read from the runs of
``benchmarks/selection_evidence.py``.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.evaluate.report.markdown import cell, table
from fashionclip.evaluate.report.wording import chance_of, day_of, number
from fashionclip.evaluate.results import Run, TaskResult, read_run
from fashionclip.metrics import title_of
from fashionclip.publish.limitations import (
    AUDITED,
    measured_limitations,
    results_of,
    selection_sentence,
)

ROOT = Path(__file__).parents[2]
CARD_PAGE = ROOT / "src" / "fashionclip" / "builtin" / "README.md"
BENCHMARKS_PAGE = ROOT / "docs" / "benchmarks.md"
LIMITATIONS_PAGE = ROOT / "docs" / "limitations.md"
SELECTION_RUNS = ROOT / "benchmarks" / "selection_runs.json"
LIMITS_START = "<!-- limitations: projects/builtin/write_figures.py -->"
LIMITS_END = "<!-- end of limitations -->"
START = "<!-- figures: projects/builtin/write_figures.py -->"
END = "<!-- end of figures -->"
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


def main() -> None:
    """Read the arguments, write both pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", help="folder of the evaluation run")
    parser.add_argument("--audit", type=Path, action="append", default=[], help="of an audit")
    given = parser.parse_args()
    if given.run is not None:
        run = read_run(given.run)
        write_block(CARD_PAGE, figures_table(run, CARD_TASKS))
        write_block(BENCHMARKS_PAGE, figures_table(run))
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


def figures_table(run: Run, descriptions: Mapping[str, str] | None = None) -> str:
    """The headline figures of a run of one model, the prompts' styles and the origin, as Markdown.

    Args:
        run: the evaluation run.
        descriptions: the tasks to show, with their descriptions; None shows all by name alone.

    Raises:
        ValueError: the run has several models, or lacks a task.
    """
    if len(run.models) != 1:
        message = f"the run has {len(run.models)} models; evaluate the built-in model alone"
        raise ValueError(message)
    (model,) = run.models
    results = {result.task: result for result in run.results[model.name]}
    names = descriptions or dict.fromkeys(results, "")
    if lacking := [task for task in names if task not in results]:
        message = f"the run lacks {', '.join(lacking)}; evaluate on all benchmarks"
        raise ValueError(message)
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
