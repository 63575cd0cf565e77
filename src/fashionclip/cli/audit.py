"""``fashionclip audit``: for whom, on which pictures and by which words a model works worse."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.evaluate import (
    figure_text,
    refuse_empty_run,
    run_fields,
    show_warnings,
)
from fashionclip.cli.options import (
    CatalogOptions,
    cache_folder,
    cache_option,
    catalog_options,
    device_options,
    examples,
    json_option,
    open_catalog,
    open_encoder,
    open_models,
    ray_options,
    read_names,
    report_option,
    stop_for_usage,
)

if TYPE_CHECKING:
    from fashionclip.evaluate.results import Run


@click.command(
    epilog=examples(
        "$ fashionclip audit --catalog shop.csv",
        "$ fashionclip audit patrickjohncyh/fashion-clip --catalog shop.csv --out audits/larger",
        "$ fashionclip audit my-model/ --catalog shop.csv --only gender,brands --out audits/mine",
        "$ fashionclip audit runs/first/selected --catalog shop.csv --out runs/audit",
        "$ fashionclip publish runs/first --to my-model --audit runs/audit",
    )
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--catalog",
    "path",
    required=True,
    metavar="PATH",
    help="Table or folder of the products, as 'index' reads it.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAMES",
    callback=read_names,
    help="Audits, separated by commas or repeated: gender, background, query-length, brands, "
    "prices.  [default: all]",
)
@report_option()
@cache_option
@catalog_options
@device_options
@ray_options
@json_option
def command(
    models: Sequence[str],
    path: str,
    only: Sequence[str],
    out: Path | None,
    cache: Path | None,
    reading: CatalogOptions,
    device: str,
    precision: str,
    ray_address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Audit a model on a catalogue, and write a report.

    MODEL is a folder, a hub repository, or builtin, which is the default. The audits ask whether
    neutral queries lean towards a gender, whether another background or place changes a product,
    whether long queries find more than short ones, whether a brand's name drowns the garment, and
    whether prices are found and shown alike. Every figure has its 95 % confidence interval, its
    number of products or queries, and what chance gives. What the catalogue does not have (gender,
    price, categories) is said, and the rest is measured. Vectors are cached: a killed run goes on.
    """
    from fashionclip.audit.run import AUDITS, audit_models
    from fashionclip.evaluate.report import write_report
    from fashionclip.evaluate.results import write_run

    begun = perf_counter()
    if unknown := [name for name in only if name not in AUDITS]:
        stop_for_usage(f"there is no audit '{unknown[0]}'; there are {', '.join(AUDITS)}")
    catalog = open_catalog(path, reading)
    opened = open_models(models or ["builtin"], device=device, precision=precision)
    with terminal.progress("Reading the catalogue", total=None, noun="pictures") as update:
        run, thumbnails = audit_models(
            opened,
            catalog,
            only=only or AUDITS,
            cache=cache or cache_folder() / "evaluation",
            open_encoder=partial(
                open_encoder,
                ray_address=ray_address,
                workers=workers,
                device=device,
                precision=precision,
            ),
            progress=lambda what, done, total: update(done, 0, total, what),
        )
    if out is not None:
        write_run(run, out)
        write_report(run, out, thumbnails)
    if as_json:
        terminal.write_json(audit_fields(run, out))
    else:
        show_figures(run)
    show_warnings(run, out)
    for model in run.models:
        terminal.talk(
            f"{model.name}: {model.seconds:.1f} s, {model.encoding_seconds:.1f} s of it encoding"
        )
    n_audits = sum(bool(result.figures) for some in run.results.values() for result in some)
    terminal.say_counts(
        f"{terminal.counted(n_audits, 'audit')} of {terminal.counted(len(run.models), 'model')}",
        f"open {out / 'report.html'}" if out else "",
        seconds=perf_counter() - begun,
    )
    refuse_empty_run(run, out)


def audit_fields(run: "Run", out: Path | None) -> dict[str, object]:
    """The run as ``--json`` prints it: figures, p of label swaps, notes, and seconds."""
    results = {
        name: {r.task: {"p": dict(r.details.get("p", {})), "notes": list(r.notes)} for r in some}
        for name, some in run.results.items()
    }
    engines = {model.name: asdict(model) for model in run.models}
    return {**run_fields(run, out), "label_swaps": results, "engines": engines}


def show_figures(run: "Run") -> None:
    """Print every figure of each audit, with what chance gives."""
    from fashionclip.evaluate.report.wording import chance_of, number
    from fashionclip.metrics import title_of

    rows = []
    for name, results in run.results.items():
        for result in results:
            for metric, figure in result.figures.items():
                unseen = result.unseen.get(metric)
                rows.append(
                    [
                        *([name] if len(run.results) > 1 else []),
                        *(result.task, title_of(metric), figure_text(figure)),
                        *(number(chance_of(result, metric)), f"{figure.n:,}"),
                        *([figure_text(unseen), f"{unseen.n:,}"] if unseen else ["", ""]),
                    ]
                )
    head = ["audit", "figure", "value", "chance", "n", "not trained on", "n "]
    if not rows:
        return
    if not any(row[-1] for row in rows):
        head, rows = head[:-2], [row[:-2] for row in rows]
    terminal.show_table(
        [*(["model"] if len(run.results) > 1 else []), *head],
        rows,
        numbers=["chance", "n", "n "],
    )
