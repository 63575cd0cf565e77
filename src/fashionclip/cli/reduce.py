"""``fashionclip reduce``: a model whose vectors have fewer numbers."""

from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
    catalog_options,
    examples,
    json_option,
    model_options,
    open_catalog,
    open_model,
    stop_for_usage,
)


@click.command(
    epilog=examples(
        "$ fashionclip reduce products.csv --dim 128 --to small-model",
        "$ fashionclip reduce --model runs/first/published --dim 64 --to small-model",
        "$ fashionclip index products.csv --model small-model --into small.lance --vectors half",
    )
)
@click.argument("path", required=False, metavar="[CATALOG]")
@click.option(
    "--dim",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Numbers of the new model's vectors.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the new model.",
)
@catalog_options
@model_options
@json_option
def command(
    path: str | None,
    dim: int,
    folder: Path,
    reading: CatalogOptions,
    model_name: str | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Write a model whose vectors have fewer numbers than those of another one.

    The vectors are reduced to the principal components of CATALOG's images. Without a catalogue,
    their first N numbers are kept, which needs a model that was trained so (loss.prefixes).
    """
    from fashionclip.reduction import reduce_model

    begun = perf_counter()
    model = open_model(model_name, device=device, precision=precision)
    if dim >= model.dim:
        stop_for_usage(f"--dim {dim}: the vectors of {model.name} have {model.dim} numbers")
    catalog = None if path is None else open_catalog(path, reading)
    report = reduce_model(model, folder, dim=dim, catalog=catalog)
    if as_json:
        terminal.write_json({"model": str(folder), **asdict(report)})
    if report.n_rejected:
        terminal.talk(
            f"  rows and images that cannot be used: {report.n_rejected:,} "
            "(fashionclip index lists them)"
        )
    how = "the first ones"
    if report.energy is not None:
        images = terminal.counted(report.n_fitted, "image")
        how = f"principal components of {images}, with {report.energy:.1%} of their squared length"
    terminal.say_counts(
        f"{folder}: vectors of {dim} numbers instead of {model.dim}",
        how,
        seconds=perf_counter() - begun,
    )
