"""``fashionclip catalog``: what is wrong with a catalogue, before time is spent on it."""

from collections.abc import Iterator, Mapping, Sequence
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
    open_catalog,
    warn_of_no_words,
)
from fashionclip.rejects import RejectsFile, reject_fields

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog, CheckReport
    from fashionclip.product import Reject

SHOWN = 3  # examples of a fault in the table; --json and --rejects have them all


@click.group()
def command() -> None:
    """Check a catalogue before time is spent on it."""


@command.command(
    epilog=examples(
        "$ fashionclip catalog check products.csv --images photos/",
        "$ fashionclip catalog check kaggle-folder/ --rejects rejects.jsonl",
        "$ fashionclip catalog check products.parquet --json",
        "$ fashionclip catalog check shop.tsv --column id=SKU --column image=photo_url",
    )
)
@click.argument("path")
@catalog_options
@click.option(
    "--rejects",
    "rejects_path",
    type=suffix_checked([".jsonl"]),
    metavar="FILE",
    help="List every row that indexing would reject in a file, a JSON line each.",
)
@json_option
def check(
    path: str,
    images: str | None,
    columns: Mapping[str, Sequence[str]],
    allow_private: bool,
    rejects_path: Path | None,
    as_json: bool,
) -> None:
    """Read every row at PATH and decode every picture; say what is wrong with them.

    Reports missing and broken pictures, pictures that are the same or look the same, products
    without words or with the same words, and rows that cannot be read. Finding faults is the
    purpose: status 1 only if the table cannot be read, or not one product of it can be used.
    """
    from fashionclip.catalog import check_catalog

    begun = perf_counter()
    catalog = open_catalog(path, images=images, columns=columns, allow_private=allow_private)
    warn_of_no_words(catalog)
    with terminal.progress("Checking", total=catalog.len_hint, noun="rows") as update:
        report = check_catalog(catalog, progress=lambda rows: update(rows, 0, None))
    if rejects_path is not None:
        with RejectsFile(rejects_path) as file:
            for reject in report.rejects:
                file.add(reject)
    if as_json:
        terminal.write_json(fields_of(report, catalog))
    else:
        terminal.show_table(["taken as", "column"], roles_of(catalog).items())
        terminal.show_table(["found", "count", "for example"], faults_of(report), numbers=["count"])
    listed = f" (see {rejects_path})" if rejects_path and report.rejects else ""
    terminal.say_counts(
        f"{report.products:,} of {terminal.counted(report.rows, 'row')} can be indexed",
        f"{len(report.rejects):,} would be rejected{listed}",
        seconds=perf_counter() - begun,
    )
    if not report.products:
        click.get_current_context().exit(1)


def roles_of(catalog: "Catalog") -> dict[str, object]:
    """Name the column that was taken for each role, for the user to see that it is right."""
    shown = {role: column for role, column in catalog.roles.as_dict().items() if column}
    if catalog.roles.further_images:
        shown["further_images"] = ", ".join(catalog.roles.further_images)
    if catalog.roles.image is None and catalog.images is not None:
        shown["image"] = f"<id>.jpg in {catalog.images}"
    return shown


def faults_of(report: "CheckReport") -> Iterator[tuple[str, int, str]]:
    """List each kind of fault with its count and a few examples."""
    yield "missing pictures", len(report.missing), _rejects(report.missing)
    yield "broken pictures", len(report.broken), _rejects(report.broken)
    yield "unreadable rows", len(report.unreadable), _rejects(report.unreadable)
    copies = report.duplicate_pictures
    yield "same pictures", len(copies), _groups(copies)
    yield "similar pictures", len(report.similar_pictures), _groups(report.similar_pictures)
    yield "empty captions", len(report.empty_captions), ", ".join(report.empty_captions[:SHOWN])
    repeated = report.repeated_captions
    most = sorted(repeated, key=lambda caption: -len(repeated[caption]))[:1]
    shown = "".join(f"“{caption}” on {len(repeated[caption]):,} products" for caption in most)
    yield "repeated captions", len(repeated), shown


def _rejects(rejects: Sequence["Reject"]) -> str:
    return "; ".join(f"row {reject.row}: {reject.reason}" for reject in rejects[:1])


def _groups(groups: Sequence[Sequence[str]]) -> str:
    return "; ".join(" = ".join(group[:SHOWN]) for group in groups[:SHOWN])


def fields_of(report: "CheckReport", catalog: "Catalog") -> dict[str, object]:
    """Set a report as programs read it; rejects as in a rejects file."""
    told = report.as_dict()
    for kind in ("missing", "broken", "unreadable"):
        told[kind] = [reject_fields(reject) for reject in getattr(report, kind)]
    return {"catalog": catalog.location, "roles": catalog.roles.as_dict(), **told}
