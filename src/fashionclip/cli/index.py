"""``fashionclip index``: a catalogue into a store that can be searched."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
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
    warn_of_no_words,
)
from fashionclip.cli.summary import say_summary
from fashionclip.product import VECTOR_FORMS, VectorForm

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.catalog.faults import Fault
    from fashionclip.encoding import Encoder
    from fashionclip.indexing import IndexReport
    from fashionclip.model import FashionCLIP

MAX_SHOWN_DAMAGED = 10
OF_VERIFY = {"verified", "mend", "storage_options", "as_json"}
OF_COPY = {"copied", "store", "keep_missing", "vectors", "storage_options", "as_json"}
"""The parameters that ``--verify`` and ``--copy`` look at."""


@click.command(
    epilog=examples(
        "$ fashionclip index products.csv --images photos/ --into shop.lance",
        "$ fashionclip index kaggle-folder/ --into shop.lance",
        "$ fashionclip index products.parquet --into shop.lance --json",
        "$ fashionclip index shop.tsv --into shop.lance --column id=SKU --column image=photo_url",
        "$ fashionclip index products.parquet --into shop.lance --ray auto",
        "$ fashionclip index --verify shop.lance",
        "$ fashionclip index --copy shop.lance --into s3://shops/shop.lance",
    )
)
@click.argument("path", required=False)
@click.option(
    "--into",
    "store",
    metavar="STORE",
    help="The index: a folder, s3://… or postgresql://…; made if it is not there.",
)
@click.option(
    "--verify",
    "verified",
    metavar="STORE",
    help="Check every stored product against its checksum instead; status 1 if any is damaged.",
)
@click.option(
    "--copy",
    "copied",
    metavar="STORE",
    help="Copy another index into --into instead, without encoding anything. A copy that was "
    "interrupted goes on when it is run again; at the end both are compared.",
)
@click.option("--mend", is_flag=True, help="With --verify: delete damaged products.")
@catalog_options
@click.option(
    "--keep-missing",
    is_flag=True,
    help="Keep products in the index that the catalogue no longer has.",
)
@model_options
@click.option(
    "--vectors",
    type=click.Choice(VECTOR_FORMS),
    help="How a new index keeps vectors: float (32 bits), half (16 bits, the same hits in half the"
    " room), or half with candidates by int8 or binary.  [default: half; of a copy, that of STORE]",
)
@batch_option
@ray_options
@json_option
def command(
    path: str | None,
    store: str | None,
    verified: str | None,
    copied: str | None,
    mend: bool,
    reading: CatalogOptions,
    keep_missing: bool,
    model_name: str | None,
    device: str,
    precision: str,
    vectors: VectorForm | None,
    batch_size: int,
    ray_address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Embed the catalogue at PATH into STORE, which can then be searched.

    PATH is a table (CSV, JSON, XML, Excel, Parquet, WebDataset tars), a folder with a table
    in it, such as Kaggle's styles.csv and images/, or a folder of pictures. Images come from
    a folder, from the table itself, or from http(s), S3 and other addresses.

    Run it again and only what changed is embedded; stop it at any moment and the next run
    goes on from there. Rows and images that cannot be used are listed with the reason in
    STORE/rejects.jsonl, or in rejects.jsonl here where STORE is not a folder.
    """
    if verified is not None:
        _refuse_others("--verify", OF_VERIFY)
        verify(verified, reading.storage_options, as_json=as_json, mend=mend)
        return
    if mend:
        stop_for_usage("--mend needs an index to check: fashionclip index --verify STORE --mend")
    if copied is not None:
        _refuse_others("--copy", OF_COPY)
        if store is None:
            stop_for_usage("name where the copy goes: fashionclip index --copy STORE --into STORE")
        copy(
            copied,
            store,
            reading.storage_options,
            prune=not keep_missing,
            vectors=vectors,
            as_json=as_json,
        )
        return
    from fashionclip.store import shown_uri

    if path is None or store is None:
        stop_for_usage("name a catalogue and where it goes: fashionclip index PATH --into STORE")
    catalog = open_catalog(path, reading)
    warn_of_no_words(catalog)
    model = open_model(model_name, device=device, precision=precision)
    with open_encoder(
        model,
        ray_address=ray_address,
        workers=workers,
        batch_size=batch_size,
        device=device,
        precision=precision,
    ) as encoder:
        report = embed(
            catalog,
            model,
            store,
            encoder=encoder,
            prune=not keep_missing,
            vectors=vectors,
            storage_options=reading.storage_options,
        )
    if as_json:
        terminal.write_json(report_fields(report, store))
    if report.was_upgraded:
        terminal.talk(f"{shown_uri(store)} had an older format: upgraded, its vectors are kept")
    say_summary(report.summary)
    for change in report.kind_changes:
        terminal.talk(change)
    terminal.say_faults(_faults(report))
    say_report(report)
    if not (report.stored or report.updated or report.unchanged):
        click.get_current_context().exit(1)  # not one product of this catalogue is in the index


def _refuse_others(option: str, looked_at: Collection[str]) -> None:
    """End with status 2 if there is anything on the command line that an option would ignore."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = str(parameter.name)
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and name not in looked_at:
            is_option = isinstance(parameter, click.Option)
            shown = parameter.opts[-1] if is_option else parameter.human_readable_name
            stop_for_usage(f"{option} has no use for {shown}: leave one of them out")


def embed(
    catalog: "Catalog",
    model: "FashionCLIP",
    store: str,
    *,
    encoder: "Encoder | None" = None,
    prune: bool = True,
    vectors: VectorForm | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> "IndexReport":
    """Index a catalogue, with a bar on the terminal.

    Raises:
        FashionCLIPError: as ``index_catalog``.
    """
    from fashionclip.indexing import IndexProgress, index_catalog
    from fashionclip.store import local_folder, shown_uri

    with terminal.progress("Embedding", total=catalog.len_hint) as update:

        def show(so_far: IndexProgress) -> None:
            update(so_far.rows, so_far.rejected, so_far.total)

        return index_catalog(
            catalog,
            model,
            store,
            encoder=encoder,
            prune=prune,
            vectors=vectors,
            storage_options=storage_options,
            rejects=None if local_folder(store) else Path("rejects.jsonl"),
            progress=show,
            on_wait=lambda holder: terminal.warn(
                f"waiting for {holder}, which writes {shown_uri(store)}"
            ),
        )


def report_fields(report: "IndexReport", store: str) -> dict[str, object]:
    """Name the numbers of a run as programs read them."""
    from fashionclip.store import shown_uri

    return {
        "index": shown_uri(store),
        "products": report.count,
        "stored": report.stored,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "rejected": report.rejected,
        "embedded": report.embedded,
        "rejects": str(report.rejects_path),
        "kind_changes": list(report.kind_changes),
        "seconds": round(report.seconds, 3),
        "summary": report.summary.as_dict(),
        "faults": [asdict(fault) for fault in _faults(report)],
    }


def _faults(report: "IndexReport") -> "Sequence[Fault]":
    from fashionclip.catalog.faults import read_faults

    if report.rejects_path is None or not report.rejected:
        return ()
    return read_faults(report.rejects_path)


def say_report(report: "IndexReport") -> None:
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


def verify(store: str, storage_options: Mapping[str, str], *, mend: bool, as_json: bool) -> None:
    """Compare an index with its checksums; end with status 1 if they differ.

    Raises:
        StoreError: there is no index there, or it cannot be read at all.
    """
    from fashionclip.store import open_store, shown_uri

    begun = perf_counter()
    report = open_store(store, storage_options=storage_options).verify(repair=mend)
    if as_json:
        terminal.write_json(
            {
                "index": shown_uri(store),
                "checked": report.checked,
                "broken": report.damaged,
                "removed": report.removed,
            }
        )
    say_damaged(report.damaged)
    checked = terminal.counted(report.checked, "product")
    terminal.say_counts(
        f"{checked} checked", f"{len(report.damaged):,} damaged", seconds=perf_counter() - begun
    )
    if report.damaged and not mend:
        shown = shown_uri(store)
        terminal.talk(f"mend it: fashionclip index --verify {shown} --mend, then index again")
        click.get_current_context().exit(1)
    if report.removed:
        terminal.talk("damaged products are deleted from the index; index the catalogue again")


def say_damaged(product_ids: Sequence[str]) -> None:
    """Name damaged products, up to ten of them."""
    for product_id in product_ids[:MAX_SHOWN_DAMAGED]:
        terminal.talk(f"  damaged: {product_id}")
    if len(product_ids) > MAX_SHOWN_DAMAGED:
        terminal.talk(f"  … and {len(product_ids) - MAX_SHOWN_DAMAGED:,} more")


def copy(
    source: str,
    store: str,
    storage_options: Mapping[str, str],
    *,
    prune: bool,
    vectors: VectorForm | None,
    as_json: bool,
) -> None:
    """Copy an index into another place, which is made if it is not there.

    Raises:
        StoreError: one of the two cannot be used, or they differ in the end.
    """
    from fashionclip.store import open_or_create, open_store, require_form, shown_uri
    from fashionclip.store.copying import copy_store

    opened = open_store(source, read_only=True, storage_options=storage_options)
    meta = opened.meta if vectors is None else replace(opened.meta, vectors=vectors)
    target = open_or_create(store, meta, storage_options=storage_options)
    require_form(target, vectors)
    with terminal.progress("Copying", total=len(opened), noun="products") as update:
        report = copy_store(
            opened,
            target,
            prune=prune,
            wait_s=-1.0,
            progress=lambda done, total: update(done, 0, total),
            on_wait=lambda holder: terminal.warn(
                f"waiting for {holder}, which writes {shown_uri(store)}"
            ),
        )
    if as_json:
        terminal.write_json(
            {"copied_from": shown_uri(source), "index": shown_uri(store), **asdict(report)}
        )
    say_damaged(report.damaged)
    if report.damaged:
        terminal.warn(
            f"left out, and nothing removed; mend it: fashionclip index --verify "
            f"{shown_uri(source)} --mend, then index again and copy again"
        )
    if report.lost_images:
        images = terminal.counted(len(report.lost_images), "image")
        terminal.warn(f"{images} missing in {shown_uri(source)}, such as {report.lost_images[0]}'s")
    counts = {"copied": report.copied, "unchanged": report.unchanged, "removed": report.removed}
    parts = [f"{n:,} {what}" for what, n in counts.items() if n] or ["nothing to copy"]
    if report.damaged:
        parts.append(f"{len(report.damaged):,} left out")
    elif not report.lost_images:
        parts.append("the same in both places")
    terminal.say_counts(*parts, seconds=report.seconds)
    if report.damaged:
        click.get_current_context().exit(1)
