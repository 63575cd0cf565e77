"""``fashionclip evaluate``: what models can do, with how sure that is, as a report."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    cache_folder,
    device_options,
    examples,
    json_option,
    open_catalog,
    open_model,
    private_option,
    stop_for_usage,
)

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.evaluate.leakage import TrainingData
    from fashionclip.evaluate.results import Figure, Run
    from fashionclip.evaluate.tasks import Picture

ALWAYS_SHOWN = 5
"""Columns of the table that are shown even where every cell is empty."""
SHOWN_WARNINGS = 6


@click.command(
    epilog=examples(
        "$ fashionclip evaluate --on sample --out runs/first",
        "$ fashionclip evaluate --on fmnist,kagl --data benchmarks/ --out runs/builtin",
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
    help="Benchmarks, with commas between them or repeated: names, or tables of your own with "
    "the columns image,label or query,image,relevant.",
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
    help="Fetch into --data what is missing there and can be had without asking its owners.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where report.html, report.md and results.json go.",
)
@click.option(
    "--prompts",
    type=click.Choice(
        ["bare", "product", "ensemble", "sentences", "synonyms", "synonym-sentences"]
    ),
    help="How labels are put into words; if not given, each model chooses for itself, on "
    "development pictures.",
)
@click.option(
    "--trained-on",
    "training",
    metavar="CATALOG",
    multiple=True,
    help="What the models were trained on, besides what their own folders say; it is looked for "
    "among the test pictures and texts. Repeatable.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where vectors are kept for the next run.  [default: the user's cache folder]",
)
@private_option
@device_options
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
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Measure models on benchmarks, and write a report.

    MODEL is a folder, a hub repository, or builtin, which is the default. Every figure comes
    with its 95 % interval and with the number of pictures or queries it stands on. Vectors are
    kept: a second run takes seconds, and a killed one goes on where it stopped.
    """
    from fashionclip.evaluate.report import write_report
    from fashionclip.evaluate.run import evaluate_models, load_benchmarks
    from fashionclip.evaluate.storage import write_run
    from fashionclip.images.fetch import FetchPolicy

    begun = perf_counter()
    benchmarks = [name.strip() for some in names for name in some.split(",") if name.strip()]
    if download:
        fetch(benchmarks, data)
    opened = (
        open_model(None if name == "builtin" else name, device=device, precision=precision)
        for name in models or ["builtin"]
    )
    with terminal.progress("Reading the benchmarks", total=None, noun="pictures") as update:
        questions = load_benchmarks(benchmarks, data)
        run, pictures = evaluate_models(
            opened,
            questions,
            cache=cache or cache_folder() / "evaluation",
            prompts=prompts,
            trained_on=[digests_of(path, allow_private=allow_private) for path in training],
            policy=FetchPolicy(allow_private=allow_private),
            watch=lambda what, done, total: update(done, 0, total, what),
        )
    write_run(run, out, pictures)
    write_report(run, out, pictures)
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
    refuse_nothing(run, out)


def fetch(names: Sequence[str], data: Path | None) -> None:
    """Fetch the benchmarks that are not in the data folder; say so where one cannot be had."""
    from fashionclip.errors import BenchmarkError
    from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
    from fashionclip.evaluate.benchmarks.download import download

    if data is None:
        stop_for_usage("--download needs --data DIR, the folder to fetch into")
    for benchmark in [find_benchmark(name) for name in names]:  # a slip costs no download
        try:
            find_folder(benchmark, data)
        except BenchmarkError:
            terminal.talk(f"Fetching {benchmark.title}")
            try:
                download(benchmark, data)
            except BenchmarkError as error:
                terminal.warn(str(error))


def digests_of(path: str, *, allow_private: bool) -> "TrainingData":
    """Digest a catalogue that a model was trained on.

    Raises:
        CatalogError: it cannot be read.
    """
    from fashionclip.evaluate.leakage import digest_training_data

    catalog = open_catalog(path, images=None, columns={}, allow_private=allow_private)
    with terminal.progress("Digesting", total=catalog.len_hint, noun="products") as update:
        return digest_training_data(
            samples_of(catalog, update), description=Path(path).name, policy=catalog.policy
        )


def samples_of(
    catalog: "Catalog", update: terminal.Update
) -> "Iterator[tuple[Picture | None, list[str]]]":
    """Each product's picture, and its texts: the caption, and the title that is a part of it.

    Raises:
        CatalogError: the table cannot be read on.
    """
    from fashionclip.evaluate.tasks import Picture
    from fashionclip.product import Product

    for row, product in enumerate(catalog, start=1):
        update(row, 0, None)
        if isinstance(product, Product):
            title = product.columns.get(catalog.roles.title or "")
            picture = Picture(product.product_id, product.image) if product.image else None
            yield picture, [product.caption, str(title or "")]


def run_fields(run: "Run", out: Path) -> dict[str, object]:
    """What ``--json`` prints: model, task, metric, and the figure with its interval."""
    return {
        "out": str(out),
        "models": {
            name: {
                result.task: {
                    "n": result.n,
                    "left_out": result.left_out,
                    "seen_in_training": result.n_seen,
                    "figures": {m: figure_fields(f) for m, f in result.figures.items()},
                    "unseen": {m: figure_fields(f) for m, f in result.unseen.items()},
                    "warnings": list(result.warnings),
                }
                for result in results
            }
            for name, results in run.results.items()
        },
        "missing": dict(run.missing),
    }


def figure_fields(figure: "Figure") -> dict[str, float]:
    """A figure as plain values."""
    return {"value": figure.value, "low": figure.low, "high": figure.high, "n": figure.n}


def show_run(run: "Run") -> None:
    """Print each model's headline figures, and how much could not be scored."""
    headings = ["model", "task", "figure", "value", "n", "left out", "not trained on", "n "]
    rows = []
    for name, results in run.results.items():
        for result in results:
            cells = [name, result.task, result.headline]
            figure, unseen = (f.get(result.headline) for f in (result.figures, result.unseen))
            cells += [words_of(figure), f"{result.n:,}" if figure is None else f"{figure.n:,}"]
            cells += [f"{result.left_out:,}" if result.left_out else ""]
            cells += [words_of(unseen), f"{unseen.n:,}"] if unseen else ["", ""]
            rows.append(cells)
    shown = [p for p in range(len(headings)) if p < ALWAYS_SHOWN or any(row[p] for row in rows)]
    terminal.show_table(
        [headings[p] for p in shown],
        [[row[p] for p in shown] for row in rows],
        numbers=["n", "left out", "n "],
    )


def show_warnings(run: "Run", out: Path) -> None:
    """Say the first few warnings of a run, each once with the tasks that it concerns."""
    places: dict[str, list[str]] = {}
    for name, results in run.results.items():
        for result in results:
            place = result.task if len(run.results) == 1 else f"{name}, {result.task}"
            for text in result.warnings:
                places.setdefault(text, []).append(place)
    for text, (place, *others) in list(places.items())[:SHOWN_WARNINGS]:
        more = f" and {len(others):,} more" if others else ""
        terminal.warn(f"{place}{more}: {terminal.one_line(text, width=300)}")
    if (rest := len(places) - SHOWN_WARNINGS) > 0:
        terminal.talk(f"  … and {terminal.counted(rest, 'more warning')} in {out / 'report.md'}")


def refuse_nothing(run: "Run", out: Path) -> None:
    """Keep a script from taking a run without a single figure for one that went well.

    Raises:
        EvaluationError: nothing could be measured.
    """
    from fashionclip.errors import EvaluationError

    if not any(result.figures for results in run.results.values() for result in results):
        message = f"not one figure could be measured; {out / 'report.md'} says why"
        raise EvaluationError(message)


def words_of(figure: "Figure | None") -> str:
    """A figure with its interval, as short as it can be read; a dash for none."""
    if figure is None:
        return "—"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
