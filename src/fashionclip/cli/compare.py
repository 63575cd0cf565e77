"""``fashionclip compare``: is one model better than another, beyond the noise?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import examples, json_option, read_names, stop_for_usage

if TYPE_CHECKING:
    from fashionclip.evaluate.compare import Comparison
    from fashionclip.evaluate.results import Run

GATE_CLOSED = 1


@click.command(
    epilog=examples(
        "$ fashionclip compare runs/old runs/new",
        "$ fashionclip compare runs/both",
        "$ fashionclip compare runs/both@builtin runs/new --json",
        "$ fashionclip compare runs/old runs/new --gate --on fmnist,kagl/article-type",
    )
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN[@MODEL]...")
@click.option(
    "--gate",
    is_flag=True,
    help="Exit with status 1 if the second model is worse than the first beyond the noise.",
)
@click.option(
    "--on",
    "names",
    multiple=True,
    metavar="NAMES",
    callback=read_names,
    help="Benchmarks or tasks to compare, separated by commas or repeated. With --gate, those that "
    "must be no worse.  [default: all that both runs have]",
)
@json_option
def command(runs: Sequence[str], gate: bool, names: Sequence[str], as_json: bool) -> None:
    """Compare models, and mark the differences that are beyond the noise.

    RUN is a folder that 'fashionclip evaluate --out' wrote. The other models are compared with the
    first one, picture by picture and query by query.
    """
    from fashionclip.evaluate.compare import compare_runs, comparison_markdown, gate_failures

    models = [model for place in runs for model in models_in(place)]
    if len(models) < 2:
        stop_for_usage(f"{runs[0]} holds one model; name another run to compare it with")
    if gate and len(models) > 2:
        held = ", ".join(f"{place}@{model}" for place, _, model in models)
        stop_for_usage(f"--gate takes two models, and these are {len(models)}: {held}; name two")
    (_, old, old_model), *others = models
    comparisons = [
        compare_runs(old, new, old_model=old_model, new_model=new_model, on=names)
        for _, new, new_model in others
    ]
    failures = gate_failures(comparisons[0], names) if gate else ()
    if as_json:
        fields = [comparison_fields(comparison) for comparison in comparisons]
        terminal.write_json({"comparisons": fields, "failures": list(failures)})
    else:
        for comparison in comparisons:
            terminal.show_markdown(comparison_markdown(comparison))
    for line in failures:
        terminal.warn(line)
    if gate:
        verdict = "closed: do not replace the old model" if failures else "open"
        terminal.talk(f"The gate is {verdict}.")
    if failures:
        click.get_current_context().exit(GATE_CLOSED)


def models_in(place: str) -> "list[tuple[str, Run, str]]":
    """Read a run and list its models: all of them, or the one after ``@``.

    Raises:
        EvaluationError: the folder holds no run.
        UsageError: the run has no such model.
    """
    from fashionclip.evaluate.results import read_run

    folder, at, model = place.rpartition("@")
    if not at or Path(place).is_dir():
        folder, model = place, ""
    run = read_run(folder)
    names = [info.name for info in run.models]
    if model and model not in names:
        stop_for_usage(f"{folder} has no model '{model}'; it has {', '.join(names)}")
    return [(folder, run, name) for name in names if not model or name == model]


def comparison_fields(comparison: "Comparison") -> dict[str, object]:
    """A comparison as plain values."""
    return {
        "old": comparison.old.name,
        "new": comparison.new.name,
        "rows": [asdict(row) for row in comparison.rows],
        "lines": list(comparison.lines),
    }
