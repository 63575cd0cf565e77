"""``fashionclip tag``: labels for products, with their probabilities."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.files import suffix_checked
from fashionclip.cli.options import (
    catalog_options,
    examples,
    json_option,
    model_of,
    model_options,
    open_catalog,
    open_model,
    read_pairs,
)
from fashionclip.rejects import reject_fields

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.model import FashionCLIP
    from fashionclip.product import Reject
    from fashionclip.tagging import LabelSet, Tag, TaggedProduct, TagReport

SHOWN_PRODUCTS = 20  # in the terminal; --out and --json have them all


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
    help="Labels to choose from, one a line; NAME=FILE gives the set a name. Repeatable.",
)
@click.option(
    "--out",
    "place",
    type=suffix_checked([".csv", ".jsonl", ".parquet"]),
    metavar="FILE",
    help="Table to write: .csv, .jsonl or .parquet.",
)
@click.option(
    "--calibrate",
    "labelled",
    metavar="CATALOG",
    help="Learn thresholds first, from a few products whose labels stand in its columns.",
)
@click.option(
    "--truth",
    multiple=True,
    metavar="SET=COLUMN",
    callback=read_pairs,
    help="With --calibrate: the column with a set's labels, if it is not called like it.",
)
@click.option(
    "--save-labels",
    "learned_path",
    type=suffix_checked([".json"]),
    metavar="FILE",
    help="With --calibrate: keep what was learned; give it to --labels the next time.",
)
@catalog_options
@model_options
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Pictures the model takes at once.",
)
@json_option
def command(
    path: str,
    label_files: Sequence[str],
    place: Path | None,
    labelled: str | None,
    truth: Mapping[str, str],
    learned_path: Path | None,
    images: str | None,
    columns: Mapping[str, Sequence[str]],
    allow_private: bool,
    model_name: str | None,
    device: str,
    precision: str,
    batch_size: int,
    as_json: bool,
) -> None:
    """Tag the products of a catalogue, or of an index, with labels that nobody trained for.

    A label file has one label a line. A line [colour] begins another set, [style: several] one
    of which several labels may fit; "jeans | denim trousers" are synonyms; indented lines make
    a tree. Where no label is sure enough, the tag is "none of these".
    """
    from fashionclip.tagging import read_label_files, write_tags

    begun = perf_counter()
    label_sets: Sequence[LabelSet] = read_label_files(label_files)
    model = open_model(model_name or model_of(Path(path)), device=device, precision=precision)
    if labelled is not None:
        label_sets = learn(
            open_catalog(labelled, images=images, columns=columns, allow_private=allow_private),
            model,
            label_sets,
            truth,
            learned_path,
        )
    products, total = tagged_products(
        path,
        model,
        label_sets,
        images=images,
        columns=columns,
        allow_private=allow_private,
        batch_size=batch_size,
    )
    if place is not None:
        with terminal.progress("Tagging", total=total) as update:
            report = write_tags(watched(products, update), place, label_sets=label_sets)
        if report.rejected:
            terminal.say_rejects(report.rejects_path, report.rejected)
        if as_json:
            terminal.write_json(report_fields(report, seconds=perf_counter() - begun))
        rejects_at = f" (see {report.rejects_path})"
        n_tagged, n_rejected = report.tagged, report.rejected
    else:
        with terminal.progress("Tagging", total=total) as update:
            tagged, rejects, n_tagged = gathered(watched(products, update), keeps_all=as_json)
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


def learn(
    catalog: "Catalog",
    model: "FashionCLIP",
    label_sets: Sequence["LabelSet"],
    truth: Mapping[str, str],
    place: Path | None,
) -> Sequence["LabelSet"]:
    """Calibrate label sets on labelled products, say what came of it, and keep it in a file.

    Raises:
        LabelError: the catalogue has no labels for the sets, or the file cannot be written.
        CatalogError: the catalogue cannot be read.
    """
    from fashionclip.tagging import calibrate_on_catalog, save_labels

    learned = calibrate_on_catalog(catalog, model, label_sets, columns=truth or None)
    for labels in learned:
        if labels.calibration is None:
            continue
        told = labels.calibration
        terminal.talk(
            f"{labels.name}: {told.precision:.0%} right on the {told.coverage:.0%} of "
            f"{terminal.counted(told.n_products, 'labelled product')} that get a label "
            f"(threshold {told.threshold:.2f})"
        )
    if place is not None:
        save_labels(learned, place)
        terminal.talk(f"label sets with what was learned: {place}")
    return learned


def tagged_products(
    path: str,
    model: "FashionCLIP",
    label_sets: Sequence["LabelSet"],
    *,
    images: str | None,
    columns: Mapping[str, Sequence[str]],
    allow_private: bool,
    batch_size: int,
) -> "tuple[Iterator[TaggedProduct | Reject], int]":
    """Tag a catalogue, or an index by the vectors it holds.

    Returns:
        The stream, and how many items it has about.

    Raises:
        CatalogError: there is no such catalogue.
        StoreError: the index cannot be read.
        ModelMismatchError: the index holds another model's vectors.
    """
    from fashionclip.tagging import tag_catalog, tag_index

    if (Path(path) / "index.json").exists():
        from fashionclip.index import Index

        index = Index.open(path)
        return tag_index(index, model, label_sets), index.count
    catalog = open_catalog(path, images=images, columns=columns, allow_private=allow_private)
    return tag_catalog(catalog, model, label_sets, batch_size=batch_size), catalog.len_hint


def watched(
    products: "Iterator[TaggedProduct | Reject]", update: Callable[[int, int, int | None], None]
) -> "Iterator[TaggedProduct | Reject]":
    """Pass products on, telling the bar how many there were."""
    from fashionclip.product import Reject

    n_rejected = 0
    for n_items, item in enumerate(products, start=1):
        n_rejected += isinstance(item, Reject)
        yield item
        update(n_items, n_rejected, None)


def gathered(
    products: "Iterator[TaggedProduct | Reject]", *, keeps_all: bool
) -> "tuple[list[TaggedProduct], list[Reject], int]":
    """Keep what will be shown: all of it, or the first few.

    Returns:
        Tagged products, rejects, and how many products were tagged altogether.
    """
    from fashionclip.product import Reject

    tagged: list[TaggedProduct] = []
    rejects: list[Reject] = []
    n_tagged = 0
    for item in products:
        if isinstance(item, Reject):
            rejects.append(item)
            continue
        n_tagged += 1
        if keeps_all or n_tagged <= SHOWN_PRODUCTS:
            tagged.append(item)
    return tagged, rejects, n_tagged


def report_fields(report: "TagReport", *, seconds: float) -> dict[str, object]:
    """Name the numbers of a run as programs read them."""
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
    """Print the first products as a table, each probability beside its label.

    Args:
        tagged: the products to show.
        n_tagged: how many there are altogether.
        titles: what they are called, by id, if that is known.
    """
    if not tagged:
        return
    headings = [part for tag in tagged[0].tags for part in (tag.set_name, "p")]
    called = ["title"] if titles else []
    rows = [
        (
            product.product_id,
            *((titles or {}).get(product.product_id, "") for _ in called),
            *(part for tag in product.tags for part in cells_of(tag)),
        )
        for product in tagged
    ]
    terminal.show_table(["id", *called, *headings], rows)
    if n_tagged > len(rows):
        terminal.talk(f"the first {len(rows)} of {n_tagged:,}; --out FILE writes all of them")


def cells_of(tag: "Tag") -> tuple[str, str]:
    """Set a tag as two cells: a label or a path, or several labels, and how probable they are."""
    if tag.mode == "several":
        shares = ", ".join(f"{share:.2f}" for share in tag.probabilities)
        return ", ".join(tag.labels) or tag.text, shares
    return tag.text, f"{tag.probabilities[-1]:.2f}" if tag.labels else ""
