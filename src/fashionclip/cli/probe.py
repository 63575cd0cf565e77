"""``fashionclip probe``: what a model sees and what it does not, one ability at a time."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.compare import comparison_fields
from fashionclip.cli.evaluate import figure_text, refuse_empty_run, run_fields, show_warnings
from fashionclip.cli.options import (
    CatalogOptions,
    cache_folder,
    cache_option,
    catalog_options,
    device_options,
    examples,
    json_option,
    open_catalog,
    open_models,
    read_names,
    report_option,
)

if TYPE_CHECKING:
    from fashionclip.evaluate.compare import Comparison
    from fashionclip.evaluate.results import Run
    from fashionclip.probes.products import ProductSet

UNSEEN = "not trained on"
"""The second row of a probe of whose pictures the model was trained on some."""


@click.command(
    epilog=examples(
        "$ fashionclip probe",
        "$ fashionclip probe my-model/ --only swap,counting",
        "$ fashionclip probe builtin my-model/ --catalog shop.csv --out runs/probes",
        "$ fashionclip probe --catalog shop.csv --json",
    )
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--catalog",
    "path",
    metavar="PATH",
    help="Make the probes from the attributes of this catalogue.  [default: drawn products]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAMES",
    callback=read_names,
    help="Probes, separated by commas or repeated: swap, half-truth, hard-positives, negation, "
    "counting, typographic, sensitivity.  [default: all]",
)
@report_option()
@cache_option
@catalog_options
@device_options
@json_option
def command(
    models: Sequence[str],
    path: str | None,
    only: Sequence[str],
    out: Path | None,
    cache: Path | None,
    reading: CatalogOptions,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Test what a model sees: swapped colours, wrong details, negation, numbers, printed words.

    MODEL is a folder, a hub repository, or builtin, which is the default. Each figure stands beside
    chance and beside a baseline that does not see the picture. Of several models, each is compared
    with the first one, item by item. Vectors are cached: a second run takes seconds.
    """
    from fashionclip.evaluate.compare import comparison_markdown
    from fashionclip.evaluate.report import write_report
    from fashionclip.evaluate.results import write_run
    from fashionclip.probes.run import check_names, plan_probes, probe_models

    begun = perf_counter()
    check_names(only)  # before anything is drawn or read
    opened = open_models(models or ["builtin"], device=device, precision=precision)
    with terminal.progress("Making the probes", total=None, noun="pictures") as update:
        plan = plan_probes(products_of(path, reading), only, policy=reading.policy)
        run, thumbnails = probe_models(
            opened,
            plan,
            cache=cache or cache_folder() / "evaluation",
            policy=reading.policy,
            progress=lambda what, done, total: update(done, 0, total, what),
        )
    if out is not None:
        write_run(run, out)
        write_report(run, out, thumbnails)
    comparisons = comparisons_in(run)
    if as_json:
        fields = [comparison_fields(comparison) for comparison in comparisons]
        terminal.write_json({**run_fields(run, out), "comparisons": fields})
    else:
        show_probes(run)
        for comparison in comparisons:
            terminal.show_markdown(comparison_markdown(comparison))
    for name, line in run.missing.items():
        terminal.warn(f"{name} was left out: it {line}")
    show_warnings(run, out)
    n_probes = sum(len(results) for results in run.results.values())
    terminal.say_counts(
        f"{terminal.counted(n_probes, 'probe')} of {terminal.counted(len(run.models), 'model')}",
        f"open {out / 'report.html'}" if out else "",
        seconds=perf_counter() - begun,
    )
    refuse_empty_run(run, out)


def products_of(path: str | None, reading: CatalogOptions) -> "ProductSet":
    """The products that probes are made of: drawn ones, or those of a catalogue.

    Raises:
        CatalogError: the catalogue cannot be read.
    """
    from fashionclip.probes.products import catalog_set, sample_set

    return sample_set() if path is None else catalog_set(open_catalog(path, reading))


def comparisons_in(run: "Run") -> "list[Comparison]":
    """Each further model of a run against the first one."""
    from fashionclip.evaluate.compare import compare_runs

    first, *others = (model.name for model in run.models)
    return [compare_runs(run, run, old_model=first, new_model=other) for other in others]


def show_probes(run: "Run") -> None:
    """Print each probe's figure beside chance and its baseline, once more without what was seen."""
    from fashionclip.evaluate.report.wording import chance_of, number
    from fashionclip.probes.run import baseline_of

    headings = ["probe", "figure", "value", "chance", "baseline", "n", "model"]
    rows = []
    for name, results in run.results.items():
        model = name if len(run.models) > 1 else ""
        for result in results:
            headline = result.headline
            chance = number(chance_of(result, headline))
            for label, figures in ((result.task, result.figures), (UNSEEN, result.unseen)):
                if headline not in figures and label == UNSEEN:
                    continue
                figure, baseline = figures.get(headline), figures.get(baseline_of(headline))
                cells = [label, headline, figure_text(figure), chance]
                cells.append(number(baseline.value if baseline else None))
                rows.append([*cells, f"{figure.n:,}" if figure else "0", model])
    shown = len(headings) if len(run.models) > 1 else -1
    terminal.show_table(
        headings[:shown], [row[:shown] for row in rows], numbers=["chance", "baseline", "n"]
    )
