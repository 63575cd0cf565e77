"""``fashionclip index``: a catalogue into a folder that can be searched."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    batch_option,
    catalog_options,
    examples,
    json_option,
    model_options,
    open_catalog,
    open_model,
    stop_for_usage,
    warn_of_no_words,
)

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.indexing import IndexReport
    from fashionclip.model import FashionCLIP

SHOWN_BROKEN = 10


@click.command(
    epilog=examples(
        "$ fashionclip index products.csv --images photos/ --into shop.lance",
        "$ fashionclip index kaggle-folder/ --into shop.lance",
        "$ fashionclip index products.parquet --into shop.lance --json",
        "$ fashionclip index shop.tsv --into shop.lance --column id=SKU --column image=photo_url",
        "$ fashionclip index --verify shop.lance",
    )
)
@click.argument("path", required=False)
@click.option(
    "--into",
    "store",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="STORE",
    help="Folder of the index; made if it is not there.",
)
@click.option(
    "--verify",
    "verified",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="STORE",
    help="Check every stored product against its checksum instead; status 1 if any is broken.",
)
@click.option("--mend", is_flag=True, help="With --verify: take broken products out.")
@catalog_options
@click.option(
    "--keep-missing",
    is_flag=True,
    help="Keep products in the index that the catalogue no longer has.",
)
@model_options
@batch_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Threads that fetch and decode pictures.  [default: one a core]",
)
@json_option
def command(
    path: str | None,
    store: Path | None,
    verified: Path | None,
    mend: bool,
    images: str | None,
    columns: dict[str, list[str]],
    allow_private: bool,
    keep_missing: bool,
    model_name: str | None,
    device: str,
    precision: str,
    batch_size: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Embed the catalogue at PATH into STORE, a folder that can be searched.

    PATH is a table (CSV, TSV, JSON Lines, Parquet) or a folder with a table in it, such as
    Kaggle's styles.csv and images/. Pictures come from a folder, from the table itself, or
    from http(s), S3 and other addresses.

    Run it again and only what changed is embedded; stop it at any moment and the next run
    goes on from there. Rows and pictures that cannot be used are listed in
    STORE/rejects.jsonl, with their row and the reason.
    """
    if verified is not None:
        verify(verified, as_json=as_json, mend=mend)
        return
    if path is None or store is None:
        stop_for_usage("name a catalogue and where it goes: fashionclip index PATH --into STORE")
    catalog = open_catalog(path, images=images, columns=columns, allow_private=allow_private)
    warn_of_no_words(catalog)
    model = open_model(model_name, device=device, precision=precision)
    report = embed(
        catalog, model, store, batch_size=batch_size, workers=workers, prune=not keep_missing
    )
    if as_json:
        terminal.write_json(report_fields(report, store))
    if report.rejected:
        terminal.say_rejects(report.rejects_path, report.rejected)
    say_report(report, store)
    if not (report.stored or report.updated or report.unchanged):
        click.get_current_context().exit(1)  # not one product of this catalogue is in the index


def embed(
    catalog: "Catalog",
    model: "FashionCLIP",
    store: Path,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    prune: bool = True,
) -> "IndexReport":
    """Index a catalogue, with a bar on the terminal.

    Raises:
        FashionCLIPError: as ``index_catalog``.
    """
    from fashionclip.indexing import IndexProgress, index_catalog

    with terminal.progress("Embedding", total=catalog.len_hint) as update:

        def show(so_far: IndexProgress) -> None:
            update(so_far.rows, so_far.rejected, so_far.total)

        return index_catalog(
            catalog,
            model,
            store,
            batch_size=batch_size,
            workers=workers,
            prune=prune,
            progress=show,
            on_wait=lambda holder: terminal.warn(f"waiting for {holder}, which writes {store}"),
        )


def report_fields(report: "IndexReport", store: Path) -> dict[str, object]:
    """Name the numbers of a run as programs read them."""
    return {
        "index": str(store),
        "products": report.count,
        "stored": report.stored,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "rejected": report.rejected,
        "embedded": report.embedded,
        "rejects": str(report.rejects_path),
        "seconds": round(report.seconds, 3),
    }


def say_report(report: "IndexReport", store: Path) -> None:
    """End with the counts of a run, the good ones first."""
    changes = {
        "stored": report.stored,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "removed": report.removed,
    }
    parts = [f"{n:,} {what}" for what, n in changes.items() if n] or ["nothing stored"]
    if report.rejected:
        parts.append(f"{report.rejected:,} rejected (see {report.rejects_path})")
    terminal.say_counts(*parts, seconds=report.seconds)


def verify(store: Path, *, mend: bool, as_json: bool) -> None:
    """Compare an index with its checksums; end with status 1 if they differ.

    Raises:
        StoreError: there is no index there, or it cannot be read at all.
    """
    from fashionclip.index import Index

    begun = perf_counter()
    report = Index.open(store).verify(mend=mend)
    if as_json:
        terminal.write_json(
            {
                "index": str(store),
                "checked": report.checked,
                "broken": report.bad,
                "removed": report.removed,
            }
        )
    for product_id in report.bad[:SHOWN_BROKEN]:
        terminal.talk(f"  broken: {product_id}")
    if len(report.bad) > SHOWN_BROKEN:
        terminal.talk(f"  … and {len(report.bad) - SHOWN_BROKEN:,} more")
    checked = terminal.counted(report.checked, "product")
    terminal.say_counts(
        f"{checked} checked", f"{len(report.bad):,} broken", seconds=perf_counter() - begun
    )
    if report.bad and not mend:
        terminal.talk(f"mend it: fashionclip index --verify {store} --mend, then index again")
        click.get_current_context().exit(1)
    if report.removed:
        terminal.talk("broken products are out of the index; index the catalogue again")
