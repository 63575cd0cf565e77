"""Write the built-in model's figures into the pages that show them, from one evaluation run.

    fashionclip evaluate --on fmnist,kagl,clothing,street,sample --data DIR --out runs/builtin
    python projects/builtin/write_figures.py runs/builtin

``docs/benchmarks.md`` gets every task by its headline metric. The model's card gets the same
figures of the tasks in ``CARD_TASKS``. Both tables go between ``START`` and ``END``. README.md
shows a table of the run's own report, which ``scripts/write_output.py`` copies.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.evaluate.report.markdown import cell, table
from fashionclip.evaluate.report.wording import chance_of, day_of, number
from fashionclip.evaluate.results import Run, TaskResult, read_run
from fashionclip.metrics import title_of

ROOT = Path(__file__).parents[2]
CARD_PAGE = ROOT / "src" / "fashionclip" / "builtin" / "README.md"
BENCHMARKS_PAGE = ROOT / "docs" / "benchmarks.md"
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
    "sample/search": 'sample catalogue: queries such as "blue striped trousers"',
}
"""The card's tasks, with descriptions."""


def main() -> None:
    """Read the arguments, write both pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of the evaluation run")
    run = read_run(parser.parse_args().run)
    write_block(CARD_PAGE, figures_table(run, CARD_TASKS))
    write_block(BENCHMARKS_PAGE, figures_table(run))


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


def write_block(page: Path, text: str) -> None:
    """Replace what is between the marks of a page.

    Raises:
        ValueError: the page does not have each mark once.
    """
    old = page.read_text(encoding="utf-8")
    if old.count(START) != 1 or old.count(END) != 1:
        message = f"{page}: expected the lines '{START}' and '{END}' once each"
        raise ValueError(message)
    before, _, rest = old.partition(START)
    after = rest.partition(END)[2]
    write_whole(page, f"{before}{START}\n{text}\n{END}{after}".encode())


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
