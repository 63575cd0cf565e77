"""``fashionclip evaluate``: models on benchmarks, with confidence intervals, as a report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
    cache_folder,
    cache_option,
    device_options,
    examples,
    json_option,
    open_catalog,
    open_encoder,
    open_models,
    private_option,
    ray_options,
    read_names,
    report_option,
    stop_for_usage,
    storage_option,
)

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.evaluate.leakage import TrainingData
    from fashionclip.evaluate.results import Figure, Run
    from fashionclip.evaluate.tasks import ImageRef

ALWAYS_SHOWN = 5
"""Columns of the table that are shown even where every cell is empty."""
SHOWN_WARNINGS = 6


@click.command(
    epilog=examples(
        "$ fashionclip evaluate --on sample --out runs/first",
        "$ fashionclip evaluate --on fmnist,kagl --data data --out runs/builtin",
        "$ fashionclip evaluate builtin patrickjohncyh/fashion-clip --on fmnist --out runs/both",
        "$ fashionclip evaluate my-model/ --on my-labels.csv --out runs/mine",
        "$ fashionclip compare runs/builtin runs/mine",
    )
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--on",
    "names",
    required=True,
    multiple=True,
    metavar="NAMES",
    callback=read_names,
    help="Benchmarks, separated by commas or repeated: names, or your own tables with the columns "
    "image,label or query,image,relevant.",
)
@click.option(
    "--data",
    envvar="FASHIONCLIP_DATA",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder that holds the benchmarks' folders.",
)
@click.option(
    "--download",
    is_flag=True,
    help="Download missing benchmarks into --data, where their licences allow it.",
)
@report_option(required=True)
@click.option(
    "--prompts",
    type=click.Choice(
        ["bare", "product", "ensemble", "sentences", "synonyms", "synonym-sentences"]
    ),
    help="Style of the prompts that label names are put into.  [default: for each model the best "
    "one on development pictures]",
)
@click.option(
    "--trained-on",
    "training",
    metavar="CATALOG",
    multiple=True,
    help="Training data of the models, besides the records in their folders; test pictures and "
    "texts are checked against it. Repeatable.",
)
@cache_option
@private_option
@storage_option
@device_options
@ray_options
@json_option
def command(
    models: Sequence[str],
    names: Sequence[str],
    data: Path | None,
    download: bool,
    out: Path,
    prompts: str | None,
    training: Sequence[str],
    cache: Path | None,
    allow_private: bool,
    storage_options: Mapping[str, str],
    device: str,
    precision: str,
    ray_address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Measure models on benchmarks, and write a report.

    MODEL is a folder, a hub repository, or builtin, which is the default. Every figure has its
    95 % confidence interval and the number of pictures or queries it was measured on. Vectors are
    cached: a second run takes seconds, and a killed run continues where it stopped.
    """
    from fashionclip.evaluate.report import write_report
    from fashionclip.evaluate.results import write_run
    from fashionclip.evaluate.run import evaluate_models, load_benchmarks

    reading = CatalogOptions(allow_private=allow_private, storage_options=storage_options)
    begun = perf_counter()
    opened = open_models(models or ["builtin"], device=device, precision=precision)
    if download:
        download_missing(names, data)
    with terminal.progress("Reading the benchmarks", total=None, noun="pictures") as update:
        suite = load_benchmarks(names, data)
        run, thumbnails = evaluate_models(
            opened,
            suite,
            cache=cache or cache_folder() / "evaluation",
            prompts=prompts,
            trained_on=[digests_of(path, reading) for path in training],
            policy=reading.policy,
            open_encoder=partial(
                open_encoder,
                ray_address=ray_address,
                workers=workers,
                device=device,
                precision=precision,
            ),
            progress=lambda what, done, total: update(done, 0, total, what),
        )
    write_run(run, out)
    write_report(run, out, thumbnails)
    if as_json:
        terminal.write_json(run_fields(run, out))
    else:
        show_run(run)
    for name, line in run.missing.items():
        terminal.warn(f"{name} was not measured: {line}")
    show_warnings(run, out)
    n_tasks = sum(len(results) for results in run.results.values())
    terminal.say_counts(
        f"{terminal.counted(n_tasks, 'task')} of {terminal.counted(len(run.models), 'model')}",
        f"open {out / 'report.html'}",
        seconds=perf_counter() - begun,
    )
    refuse_empty_run(run, out)


def download_missing(names: Sequence[str], data: Path | None) -> None:
    """Download the benchmarks that are not in the data folder; warn of those that cannot be."""
    from fashionclip.errors import BenchmarkError
    from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
    from fashionclip.evaluate.benchmarks.hub import download

    if data is None:
        stop_for_usage("--download needs --data DIR, the folder to fetch into")
    benchmarks = [find_benchmark(name) for name in names]  # a typo is refused before any download
    for benchmark in benchmarks:
        try:
            find_folder(benchmark, data)
        except BenchmarkError:
            terminal.talk(f"Downloading {benchmark.title}")
            try:
                download(benchmark, data)
            except BenchmarkError as error:
                terminal.warn(str(error))


def digests_of(path: str, reading: CatalogOptions) -> "TrainingData":
    """Digests of a catalogue that a model was trained on.

    Raises:
        CatalogError: it cannot be read.
    """
    from fashionclip.evaluate.leakage import digest_training_data

    catalog = open_catalog(path, reading)
    with terminal.progress("Digesting", total=catalog.len_hint, noun="products") as update:
        return digest_training_data(
            samples_of(catalog, update), description=Path(path).name, policy=catalog.policy
        )


def samples_of(
    catalog: "Catalog", update: terminal.Update
) -> "Iterator[tuple[ImageRef | None, list[str]]]":
    """Each product's picture, and its texts: the caption, and the title that is a part of it.

    Raises:
        CatalogError: the table cannot be read on.
    """
    from fashionclip.evaluate.tasks import ImageRef
    from fashionclip.product import Product

    for row, product in enumerate(catalog, start=1):
        update(row, 0, None)
        if isinstance(product, Product):
            title = product.columns.get(catalog.roles.title or "")
            image = ImageRef(product.product_id, product.image) if product.image else None
            yield image, [product.caption, str(title or "")]


def run_fields(run: "Run", out: Path | None) -> dict[str, object]:
    """The run as ``--json`` prints it: by model, task and metric."""
    from fashionclip.evaluate.report.wording import chance_of

    return {
        "out": str(out) if out else None,
        "models": {
            name: {
                result.task: {
                    "n": result.n,
                    "left_out": result.left_out,
                    "seen_in_training": result.n_seen,
                    "headline": result.headline,
                    "figures": {m: asdict(f) for m, f in result.figures.items()},
                    "chance": {m: chance_of(result, m) for m in result.figures},
                    "unseen": {m: asdict(f) for m, f in result.unseen.items()},
                    "groups": {
                        heading: {name: asdict(f) for name, f in figures.items()}
                        for heading, figures in result.details.get("groups", {}).items()
                    },
                    "warnings": list(result.warnings),
                }
                for result in results
            }
            for name, results in run.results.items()
        },
        "missing": dict(run.missing),
    }


def show_run(run: "Run") -> None:
    """Print each model's headline figures, and the numbers of items left out."""
    headings = ["model", "task", "figure", "value", "n", "left out", "not trained on", "n "]
    rows = []
    for name, results in run.results.items():
        for result in results:
            cells = [name, result.task, result.headline]
            figure, unseen = (f.get(result.headline) for f in (result.figures, result.unseen))
            cells += [figure_text(figure), f"{figure.n if figure else result.n:,}"]
            cells += [f"{result.left_out:,}" if result.left_out else ""]
            cells += [figure_text(unseen), f"{unseen.n:,}"] if unseen else ["", ""]
            rows.append(cells)
    shown = [p for p in range(len(headings)) if p < ALWAYS_SHOWN or any(row[p] for row in rows)]
    terminal.show_table(
        [headings[p] for p in shown],
        [[row[p] for p in shown] for row in rows],
        numbers=["n", "left out", "n "],
    )


def show_warnings(run: "Run", out: Path | None) -> None:
    """Print the first few warnings of a run, each once, with the tasks that it concerns."""
    places: dict[str, list[str]] = {}
    for name, results in run.results.items():
        for result in results:
            place = result.task if len(run.results) == 1 else f"{name}, {result.task}"
            for text in result.warnings:
                places.setdefault(text, []).append(place)
    for text, (place, *others) in list(places.items())[:SHOWN_WARNINGS]:
        more = f" and {len(others):,} more" if others else ""
        terminal.warn(f"{place}{more}: {terminal.fit(text, width=300)}")
    if (rest := len(places) - SHOWN_WARNINGS) > 0:
        place = f" in {out / 'report.md'}" if out else "; --out DIR writes all of them"
        terminal.talk(f"  … and {terminal.counted(rest, 'more warning')}{place}")


def refuse_empty_run(run: "Run", out: Path | None) -> None:
    """Refuse a run without a single figure, which a script could take for a success.

    Raises:
        EvaluationError: nothing could be measured.
    """
    from fashionclip.errors import EvaluationError

    if not any(result.figures for results in run.results.values() for result in results):
        why = f"{out / 'report.md'} says why" if out else "the notes above say why"
        message = f"not one figure could be measured; {why}"
        raise EvaluationError(message)


def figure_text(figure: "Figure | None") -> str:
    """A figure with its interval; a dash for none."""
    if figure is None:
        return "—"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
