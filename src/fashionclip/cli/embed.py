"""``fashionclip embed``: write the vectors of products, images or texts to a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
    OutputFile,
    batch_option,
    catalog_options,
    examples,
    json_option,
    model_options,
    open_catalog,
    open_encoder,
    open_model,
    ray_options,
    stop_for_usage,
)


@click.command(
    epilog=examples(
        "$ fashionclip embed products.csv --images photos/ --out vectors.parquet",
        "$ fashionclip embed products.csv --out shards/shop.tar --shard-rows 100000 --ray auto",
        "$ fashionclip embed a.jpg b.jpg https://example.com/c.jpg --out vectors.npz",
        '$ fashionclip embed --text "red dress" --text "blue jeans" --out words.npz --json',
        "$ python -c \"import numpy; print(numpy.load('vectors.npz')['vectors'].shape)\"",
    )
)
@click.argument("paths", nargs=-1, metavar="[CATALOG|FILES...]")
@click.option(
    "--out",
    "place",
    type=OutputFile(".npz", ".parquet", ".tar"),
    required=True,
    metavar="FILE",
    help="Where the vectors go: .npz (ids, vectors, model), .parquet (one row per vector) or .tar "
    "(WebDataset: a .json and a .npy per vector).",
)
@click.option(
    "--shard-rows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Write NAME-00000.parquet, NAME-00001.parquet, … with the vectors of N rows each. Run it "
    "again and only what changed is embedded.",
)
@click.option(
    "--text", "texts", multiple=True, metavar="WORDS", help="Also embed this text. Repeatable."
)
@catalog_options
@model_options
@batch_option
@ray_options
@json_option
def command(
    paths: Sequence[str],
    place: Path,
    shard_rows: int | None,
    texts: Sequence[str],
    reading: CatalogOptions,
    model_name: str | None,
    device: str,
    precision: str,
    batch_size: int,
    ray_address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Write the vectors of a catalogue's images, of image files, or of texts to a file.

    Vectors are float32 of unit length, so their dot product is their cosine. A row that cannot be
    embedded is listed in the rejects file instead.
    """
    if not (paths or texts):
        stop_for_usage("name a catalogue, image files, or --text WORDS")
    if shard_rows and (texts or place.suffix.lower() == ".npz"):
        stop_for_usage("--shard-rows is for images, and for .parquet and .tar")
    from fashionclip.catalog.faults import read_faults
    from fashionclip.product import Product, Reject
    from fashionclip.vector_files import write_vectors

    begun = perf_counter()
    rows: Iterable[Product | Reject]
    sources = None
    if is_catalog(paths):
        rows = catalog = open_catalog(paths[0], reading)
        n_rows, sources = catalog.len_hint, catalog.image_sources
    else:
        rows = (Product(path, "", path, row, {}) for row, path in enumerate(paths, start=1))
        n_rows = len(paths)
    model = open_model(model_name, device=device, precision=precision)
    with (
        open_encoder(
            model,
            ray_address=ray_address if paths else None,
            workers=workers,
            batch_size=batch_size,
            device=device,
            precision=precision,
        ) as encoder,
        terminal.progress("Embedding", total=n_rows, noun="images") as update,
    ):
        report = write_vectors(
            rows,
            encoder,
            place,
            model=model,
            shard_rows=shard_rows,
            texts=texts,
            policy=reading.policy,
            sources=sources,
            progress=lambda done, rejected: update(done + rejected, rejected, None),
        )
    if report.rejected:
        terminal.say_faults(read_faults(report.rejects_path))
    if as_json:
        terminal.write_json(
            {
                "vectors": str(place),
                "shards": [str(path) for path in report.paths] if shard_rows else None,
                "embedded": report.embedded,
                "reused": report.reused,
                "dim": model.dim,
                "model": model.name,
                "rejected": report.rejected,
                "rejects": str(report.rejects_path) if report.rejected else None,
                "seconds": round(perf_counter() - begun, 3),
            }
        )
    where = terminal.counted(len(report.paths), "shard") if shard_rows else str(place)
    terminal.say_counts(
        f"{terminal.counted(report.embedded, 'vector')} of {model.dim} numbers in {where}",
        f"{report.reused:,} of them from the shards before" if report.reused else "",
        f"{report.rejected:,} rejected (see {report.rejects_path})" if report.rejected else "",
        seconds=perf_counter() - begun,
    )
    if not report.embedded:
        click.get_current_context().exit(1)


def is_catalog(paths: Sequence[str]) -> bool:
    """Whether the paths name one catalogue instead of image files."""
    from fashionclip.catalog.tables.formats import names_table

    return len(paths) == 1 and (names_table(paths[0]) or Path(paths[0]).is_dir())
