"""``fashionclip catalog``: check a catalogue before it is indexed."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
    OutputFile,
    catalog_options,
    examples,
    json_option,
    open_catalog,
)
from fashionclip.cli.summary import show_faults, show_summary, write_check_page
from fashionclip.rejects import RejectsFile, reject_fields

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog, CheckReport


@click.group()
def command() -> None:
    """Check a catalogue before it is indexed."""


@command.command(
    epilog=examples(
        "$ fashionclip catalog check products.csv --images photos/",
        "$ fashionclip catalog check products.csv --no-images",
        "$ fashionclip catalog check kaggle-folder/ --html check.html --rejects rejects.jsonl",
        "$ fashionclip catalog check products.parquet --json",
        "$ fashionclip catalog check shop.tsv --column id=SKU --column image=photo_url",
    )
)
@click.argument("path")
@catalog_options
@click.option(
    "--no-images", is_flag=True, help="Explain the table only, which takes seconds; read no image."
)
@click.option(
    "--html",
    "html_path",
    type=OutputFile(".html"),
    metavar="FILE",
    help="Write the result as a web page, with samples of the products as an index stores them.",
)
@click.option(
    "--rejects",
    "rejects_path",
    type=OutputFile(".jsonl"),
    metavar="FILE",
    help="Write every row that indexing would reject to a file, one JSON line each.",
)
@json_option
def check(
    path: str,
    reading: CatalogOptions,
    no_images: bool,
    html_path: Path | None,
    rejects_path: Path | None,
    as_json: bool,
) -> None:
    """Read every row at PATH, decode every image, and say what was understood and what is wrong.

    First how the table was read: the columns, their roles and kinds, prices, groups of variants.
    Then each kind of fault with an example and how to mend it: rows that cannot be used, missing
    and broken images, identical and similar images, empty and repeated captions. Nothing is
    indexed. The status is 0 if faults are found, and 1 if the table cannot be read or has no
    usable product.
    """
    from fashionclip.catalog import check_catalog

    begun = perf_counter()
    catalog = open_catalog(path, reading, say_notes=False)
    with terminal.progress("Checking", total=catalog.len_hint, noun="rows") as update:
        report = check_catalog(
            catalog, read_images=not no_images, progress=lambda rows: update(rows, 0, None)
        )
    if rejects_path is not None:
        with RejectsFile(rejects_path) as file:
            for reject in report.rejects:
                file.add(reject)
    if html_path is not None:
        write_check_page(html_path, catalog, report, read_images=not no_images)
    if as_json:
        terminal.write_json(_report_fields(report, catalog))
    else:
        show_summary(report.summary)
        show_faults(report.faults)
    listed = f" (see {rejects_path})" if rejects_path and report.rejects else ""
    usable = terminal.counted(report.products, "product")
    terminal.say_counts(
        f"{usable} of {terminal.counted(report.summary.rows, 'row')} can be indexed",
        f"{len(report.rejects):,} would be rejected{listed}",
        seconds=perf_counter() - begun,
    )
    if not report.products:
        click.get_current_context().exit(1)


def _report_fields(report: "CheckReport", catalog: "Catalog") -> dict[str, object]:
    """A report for JSON, with rejects as in a rejects file."""
    fields = report.as_dict()
    for kind in ("missing", "broken", "unreadable"):
        fields[kind] = [reject_fields(reject) for reject in getattr(report, kind)]
    return {"catalog": catalog.location, "roles": catalog.roles.as_dict(), **fields}
