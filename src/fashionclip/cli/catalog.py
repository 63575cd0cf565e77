"""``fashionclip catalog``: check a catalogue before it is indexed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    OutputFile,
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

MAX_EXAMPLES = 3  # of a fault, in the table; --json and --rejects have all


@click.group()
def command() -> None:
    """Check a catalogue before it is indexed."""


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
    type=OutputFile(".jsonl"),
    metavar="FILE",
    help="Write every row that indexing would reject to a file, one JSON line each.",
)
@json_option
def check(
    path: str,
    images: str | None,
    columns: Mapping[str, Sequence[str]],
    encoding: str | None,
    locale: str | None,
    format: str | None,
    allow_private: bool,
    rejects_path: Path | None,
    as_json: bool,
) -> None:
    """Read every row at PATH, decode every image, and report what is wrong.

    Reports missing and broken images, identical and similar images, empty and repeated captions,
    and rows that cannot be read. The status is 0 if faults are found, and 1 if the table cannot
    be read or has no usable product.
    """
    from fashionclip.catalog import check_catalog

    begun = perf_counter()
    catalog = open_catalog(
        path,
        images=images,
        columns=columns,
        encoding=encoding,
        locale=locale,
        format=format,
        allow_private=allow_private,
    )
    warn_of_no_words(catalog)
    with terminal.progress("Checking", total=catalog.len_hint, noun="rows") as update:
        report = check_catalog(catalog, progress=lambda rows: update(rows, 0, None))
    if rejects_path is not None:
        with RejectsFile(rejects_path) as file:
            for reject in report.rejects:
                file.add(reject)
    if as_json:
        terminal.write_json(_report_fields(report, catalog))
    else:
        terminal.show_table(["role", "column"], _roles(catalog).items())
        terminal.show_table(["found", "count", "for example"], _faults(report), numbers=["count"])
    listed = f" (see {rejects_path})" if rejects_path and report.rejects else ""
    terminal.say_counts(
        f"{report.products:,} of {terminal.counted(report.rows, 'row')} can be indexed",
        f"{len(report.rejects):,} would be rejected{listed}",
        seconds=perf_counter() - begun,
    )
    if not report.products:
        click.get_current_context().exit(1)


def _roles(catalog: "Catalog") -> dict[str, object]:
    """The column of each role, for the user to check."""
    shown = {role: column for role, column in catalog.roles.as_dict().items() if column}
    if catalog.roles.further_images:
        shown["further_images"] = ", ".join(catalog.roles.further_images)
    if catalog.roles.image is None and catalog.images is not None:
        shown["image"] = f"<id>.jpg in {catalog.images}"
    return shown


def _faults(report: "CheckReport") -> Iterator[tuple[str, int, str]]:
    """Each kind of fault, its count, and examples."""
    yield "missing images", len(report.missing), _rejects(report.missing)
    yield "broken images", len(report.broken), _rejects(report.broken)
    yield "unreadable rows", len(report.unreadable), _rejects(report.unreadable)
    copies = report.duplicate_pictures
    yield "identical images", len(copies), _groups(copies)
    yield "similar images", len(report.similar_pictures), _groups(report.similar_pictures)
    empty = report.empty_captions
    yield "empty captions", len(empty), ", ".join(empty[:MAX_EXAMPLES])
    repeated = report.repeated_captions
    most = sorted(repeated, key=lambda caption: -len(repeated[caption]))[:1]
    shown = "".join(f"“{caption}” on {len(repeated[caption]):,} products" for caption in most)
    yield "repeated captions", len(repeated), shown


def _rejects(rejects: Sequence["Reject"]) -> str:
    return "; ".join(f"row {reject.row}: {reject.reason}" for reject in rejects[:1])


def _groups(groups: Sequence[Sequence[str]]) -> str:
    return "; ".join(" = ".join(group[:MAX_EXAMPLES]) for group in groups[:MAX_EXAMPLES])


def _report_fields(report: "CheckReport", catalog: "Catalog") -> dict[str, object]:
    """A report for JSON, with rejects as in a rejects file."""
    fields = report.as_dict()
    for kind in ("missing", "broken", "unreadable"):
        fields[kind] = [reject_fields(reject) for reject in getattr(report, kind)]
    return {"catalog": catalog.location, "roles": catalog.roles.as_dict(), **fields}
