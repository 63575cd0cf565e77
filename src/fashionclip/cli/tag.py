"""``fashionclip tag``: zero-shot labels for products, with their probabilities."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
    OutputFile,
    batch_option,
    catalog_options,
    examples,
    json_option,
    model_of,
    model_options,
    open_catalog,
    open_encoder,
    open_model,
    ray_options,
    read_pairs,
    stop_for_usage,
)
from fashionclip.rejects import reject_fields

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.encoding import Encoder
    from fashionclip.model import FashionCLIP
    from fashionclip.product import Reject
    from fashionclip.tagging import LabelSet, Tag, TaggedProduct, TagReport

MAX_SHOWN_PRODUCTS = 20  # in the terminal; --out and --json have them all


@click.command(
    epilog=examples(
        "$ fashionclip tag products.csv --images photos/ --labels labels.txt --out tags.csv",
        "$ fashionclip tag kaggle-folder/ --labels colour=colours.txt --labels kinds.txt",
        "$ fashionclip tag shop.lance --labels labels.txt --out tags.parquet",
        "$ fashionclip tag products.csv --labels labels.txt --json",
        "$ fashionclip tag products.csv --labels labels.txt --calibrate labelled.csv \\",
        "    --truth colour=baseColour --save-labels labels.json --out tags.csv",
    )
)
@click.argument("path", metavar="CATALOG|STORE")
@click.option(
    "--labels",
    "label_files",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Labels, one per line; NAME=FILE names the set. Repeatable.",
)
@click.option(
    "--out",
    "place",
    type=OutputFile(".csv", ".jsonl", ".parquet"),
    metavar="FILE",
    help="Table to write: .csv, .jsonl or .parquet.",
)
@click.option(
    "--calibrate",
    "labelled",
    metavar="CATALOG",
    help="Calibrate first, on a few products whose labels are in its columns.",
)
@click.option(
    "--truth",
    multiple=True,
    metavar="SET=COLUMN",
    callback=read_pairs,
    help="With --calibrate: the column of a set's labels, if it has another name.",
)
@click.option(
    "--save-labels",
    "learned_path",
    type=OutputFile(".json"),
    metavar="FILE",
    help="With --calibrate: save the calibrated labels, for --labels.",
)
@catalog_options
@model_options
@batch_option
@ray_options
@json_option
def command(
    path: str,
    label_files: Sequence[str],
    place: Path | None,
    labelled: str | None,
    truth: Mapping[str, str],
    learned_path: Path | None,
    reading: CatalogOptions,
    model_name: str | None,
    device: str,
    precision: str,
    batch_size: int,
    ray_address: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Label the products of a catalogue or an index with zero-shot labels.

    A label file has one label per line. A line [colour] begins another set; [style: several]
    begins a set of which several labels may fit. "jeans | denim trousers" are synonyms, and
    indented lines make a tree. Where no label is probable enough, the tag is "none of these".
    """
    from fashionclip.catalog.faults import read_faults
    from fashionclip.store import holds_store, open_store
    from fashionclip.tagging import read_label_files, write_tags

    begun = perf_counter()
    is_store = holds_store(path, storage_options=reading.storage_options)
    if is_store and ray_address and labelled is None:
        stop_for_usage("--ray encodes images, and those of an index are encoded already")
    label_sets: Sequence[LabelSet] = read_label_files(label_files)
    model = open_model(
        model_name or model_of(path, reading.storage_options), device=device, precision=precision
    )
    encoder = click.get_current_context().with_resource(
        open_encoder(
            model,
            ray_address=ray_address,
            workers=workers,
            batch_size=batch_size,
            device=device,
            precision=precision,
        )
    )
    if labelled is not None:
        catalog = open_catalog(labelled, reading)
        label_sets = _calibrate(catalog, model, label_sets, truth, learned_path, encoder)
    if is_store:
        from fashionclip.tagging import tag_index

        store = open_store(path, storage_options=reading.storage_options)
        products, total = tag_index(store, model, label_sets), len(store)
    else:
        from fashionclip.tagging import tag_catalog

        catalog = open_catalog(path, reading)
        products = tag_catalog(catalog, model, label_sets, encoder=encoder)
        total = catalog.len_hint
    if place is not None:
        with terminal.progress("Tagging", total=total) as update:
            report = write_tags(_watched(products, update), place, label_sets=label_sets)
        if report.rejected:
            terminal.say_faults(read_faults(report.rejects_path))
        if as_json:
            terminal.write_json(_report_fields(report, seconds=perf_counter() - begun))
        rejects_at = f" (see {report.rejects_path})"
        n_tagged, n_rejected = report.tagged, report.rejected
    else:
        max_kept = None if as_json else MAX_SHOWN_PRODUCTS
        with terminal.progress("Tagging", total=total) as update:
            tagged, rejects, n_tagged = _collect(_watched(products, update), max_kept)
        if as_json:
            rejected_rows = [reject_fields(reject) for reject in rejects]
            rows = [product.as_row() for product in tagged]
            terminal.write_json({"tags": rows, "rejected_rows": rejected_rows})
        else:
            show_tags(tagged, n_tagged)
        rejects_at, n_rejected = " (--out FILE lists them)", len(rejects)
    terminal.say_counts(
        f"{terminal.counted(n_tagged, 'product')} tagged",
        f"{n_rejected:,} rejected{rejects_at}" if n_rejected else "",
        seconds=perf_counter() - begun,
    )
    if not n_tagged:
        click.get_current_context().exit(1)


def _calibrate(
    catalog: "Catalog",
    model: "FashionCLIP",
    label_sets: Sequence["LabelSet"],
    truth: Mapping[str, str],
    place: Path | None,
    encoder: "Encoder",
) -> Sequence["LabelSet"]:
    """Calibrate label sets on labelled products, print the results, and save them."""
    from fashionclip.tagging import calibrate_on_catalog, save_labels

    fitted = calibrate_on_catalog(
        catalog, model, label_sets, columns=truth or None, encoder=encoder
    )
    for labels in fitted:
        result = labels.calibration
        if result is not None:
            terminal.talk(
                f"{labels.name}: {result.precision:.0%} right on the {result.coverage:.0%} of "
                f"{terminal.counted(result.n_products, 'labelled product')} that get a label "
                f"(threshold {result.threshold:.2f})"
            )
    if place is not None:
        save_labels(fitted, place)
        terminal.talk(f"calibrated label sets: {place}")
    return fitted


def _watched(
    products: "Iterator[TaggedProduct | Reject]", update: Callable[[int, int, int | None], None]
) -> "Iterator[TaggedProduct | Reject]":
    """Pass products on and update the progress bar."""
    from fashionclip.product import Reject

    n_rejected = 0
    for n_items, item in enumerate(products, start=1):
        n_rejected += isinstance(item, Reject)
        yield item
        update(n_items, n_rejected, None)


def _collect(
    products: "Iterator[TaggedProduct | Reject]", max_kept: int | None
) -> "tuple[list[TaggedProduct], list[Reject], int]":
    """The first tagged products, all rejects, and the number of tagged products."""
    from fashionclip.product import Reject

    tagged: list[TaggedProduct] = []
    rejects: list[Reject] = []
    n_tagged = 0
    for item in products:
        if isinstance(item, Reject):
            rejects.append(item)
            continue
        n_tagged += 1
        if max_kept is None or n_tagged <= max_kept:
            tagged.append(item)
    return tagged, rejects, n_tagged


def _report_fields(report: "TagReport", *, seconds: float) -> dict[str, object]:
    return {
        "out": str(report.path),
        "tagged": report.tagged,
        "rejected": report.rejected,
        "rejects": str(report.rejects_path) if report.rejected else None,
        "seconds": round(seconds, 3),
    }


def show_tags(
    tagged: "Sequence[TaggedProduct]", n_tagged: int, *, titles: Mapping[str, str] | None = None
) -> None:
    """Print products as a table, each label with its probability.

    Args:
        tagged: the products to show.
        n_tagged: the number of tagged products altogether.
        titles: title by product id, if titles are known.
    """
    if not tagged:
        return
    headings = [part for tag in tagged[0].tags for part in (tag.set_name, "p")]
    rows = [
        (
            product.product_id,
            *([titles.get(product.product_id, "")] if titles else []),
            *(part for tag in product.tags for part in _tag_cells(tag)),
        )
        for product in tagged
    ]
    terminal.show_table(["id", *(["title"] if titles else []), *headings], rows)
    if n_tagged > len(rows):
        terminal.talk(f"the first {len(rows)} of {n_tagged:,}; --out FILE writes all of them")


def _tag_cells(tag: "Tag") -> tuple[str, str]:
    """A tag as two cells: its labels, and their probabilities."""
    if tag.mode == "several":
        shares = ", ".join(f"{share:.2f}" for share in tag.probabilities)
        return ", ".join(tag.labels) or tag.text, shares
    return tag.text, f"{tag.probabilities[-1]:.2f}" if tag.labels else ""
