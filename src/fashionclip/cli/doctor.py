"""``fashionclip doctor``: what is wrong with a catalogue's pictures, captions and labels."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.atomic import whole_file
from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
    OutputFile,
    cache_folder,
    catalog_options,
    examples,
    json_option,
    model_options,
    open_catalog,
    open_model,
    read_pairs,
)
from fashionclip.rejects import reject_fields

if TYPE_CHECKING:
    from fashionclip.doctor import Finding, Report

FOUND = 3
"""The exit status if there are more findings than ``--fail-on`` allows."""
NOT_JUDGED = 4
"""The exit status if nothing could be said of a kind that ``--fail-on`` names."""
MAX_EXAMPLES = 3
COLUMNS = (
    "kind",
    "confidence",
    "products",
    "evidence",
    "suggestion",
    "column",
    "label",
    "images",
    "key",
)


def _read_limits(
    ctx: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> Mapping[str, int]:
    """Read ``KIND`` or ``KIND=N``: how many findings of a kind are allowed.

    Raises:
        click.BadParameter: an unknown kind, or no number.
    """
    from fashionclip.doctor import KINDS

    pairs = tuple(word if "=" in word else f"{word}=0" for word in words)
    limits: dict[str, int] = {}
    for kind, number in read_pairs(ctx, parameter, pairs).items():
        if kind != "any" and kind not in KINDS:
            message = f"there is no kind '{kind}'; there are: any, {', '.join(KINDS)}"
            raise click.BadParameter(message, ctx=ctx, param=parameter)
        if not number.isdecimal():
            message = f"'{kind}={number}': the number of findings that is allowed is missing"
            raise click.BadParameter(message, ctx=ctx, param=parameter)
        limits[kind] = int(number)
    return limits


@click.command(
    epilog=examples(
        "$ fashionclip doctor products.csv --images photos/ --html doctor.html",
        "$ fashionclip doctor products.csv --fine fine.json --html doctor.html",
        "$ fashionclip doctor kaggle-folder/ --csv findings.csv --confidence 0.8",
        "$ fashionclip doctor products.csv --fail-on no_product --fail-on same_picture=20",
        "$ fashionclip doctor products.csv --json",
    )
)
@click.argument("path", metavar="CATALOG")
@click.option(
    "--html",
    "html_path",
    type=OutputFile(".html"),
    metavar="FILE",
    help="Write a page to work through the findings, which marks those that are fine.",
)
@click.option(
    "--csv",
    "csv_path",
    type=OutputFile(".csv"),
    metavar="FILE",
    help="Write the findings as a table.",
)
@click.option(
    "--fine",
    "fine_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Findings that were marked as fine on the page; they stay away until what they are about "
    "changes. Repeatable.",
)
@click.option(
    "--confidence",
    "least",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least confidence of a finding. A lower one finds more, and is wrong more often.",
)
@click.option(
    "--fail-on",
    "limits",
    multiple=True,
    metavar="KIND[=N]",
    callback=_read_limits,
    help="End with status 3 if there are more than N findings of a kind (0 if not given), and with "
    "4 if the kind cannot be judged in this catalogue; any stands for all kinds together that can "
    "be judged. Repeatable.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of cached vectors and measures.  [default: the user's cache folder]",
)
@catalog_options
@model_options
@json_option
def command(
    path: str,
    html_path: Path | None,
    csv_path: Path | None,
    fine_files: Sequence[Path],
    least: float,
    limits: Mapping[str, int],
    cache: Path | None,
    reading: CatalogOptions,
    model_name: str | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Find what is wrong with the pictures, captions and labels of a catalogue.

    Repeated pictures and products; captions, categories and attributes that do not fit the
    picture; several products in a picture, or none; text and watermarks over it; products that are
    cut off; small, blurred and dark pictures, other backgrounds than the shop's; products unlike
    all others. Each is judged by what is usual in this catalogue. A second run reads only what
    changed. The status is 0 if there are findings, unless --fail-on says otherwise.
    """
    from fashionclip.doctor import examine_catalog, read_fine

    begun = perf_counter()
    fine = frozenset[str]().union(*(read_fine(file) for file in fine_files))
    catalog = open_catalog(path, reading)
    model = open_model(model_name, device=device, precision=precision)
    with terminal.progress("Reading", total=catalog.len_hint) as update:
        report = examine_catalog(
            catalog,
            model,
            cache=cache or cache_folder() / "evaluation",
            least=least,
            fine=fine,
            progress=lambda what, done, rejected: update(done, rejected, None, what),
        )
    if csv_path is not None:
        write_csv(csv_path, report.findings)
    if html_path is not None:
        from fashionclip.cli.doctor_page import write_doctor_page

        write_doctor_page(html_path, catalog, report)
    if as_json:
        rejected = [reject_fields(reject) for reject in report.rejects]
        fields = {"catalog": catalog.location, "least": least, **report.as_dict()}
        terminal.write_json({**fields, "rejected_rows": rejected})
    else:
        show_report(report)
    _say_end(report, seconds=perf_counter() - begun)
    if not report.n_products:
        click.get_current_context().exit(1)
    if _is_beyond(report, limits):
        click.get_current_context().exit(FOUND)
    if _is_unjudged(report, limits):
        click.get_current_context().exit(NOT_JUDGED)


def show_report(report: "Report") -> None:
    """Print each kind with its count and its most certain findings, then what was not judged."""
    from fashionclip.doctor import KINDS, TITLES

    by_kind = {kind: [one for one in report.findings if one.kind == kind] for kind in KINDS}
    terminal.show_counted(
        (
            len(found),
            [
                f"{TITLES[kind]} ({kind})",
                *(
                    f"{one.confidence:.2f}  {' = '.join(one.product_ids[:MAX_EXAMPLES])}: "
                    f"{terminal.fit(one.evidence, width=200)}"
                    for one in found[:MAX_EXAMPLES]
                ),
            ],
        )
        for kind, found in by_kind.items()
        if found
    )
    for picture in report.pictures:
        if picture.reason:
            terminal.talk(f"not judged: {TITLES[picture.kind].lower()}: {picture.reason}")
    for text in report.texts:
        if text.reason:
            terminal.talk(f"not judged: {text.name} of {text.n:,} products: {text.reason}")
    if report.variants:
        n = sum(map(len, report.variants))
        terminal.talk(f"{n:,} products are {len(report.variants):,} products in several colours")


def write_csv(path: Path, findings: "Sequence[Finding]") -> None:
    """Write findings as a table; several products of a finding are joined with ``|``.

    Raises:
        OSError: the file cannot be written.
    """
    with (
        whole_file(path) as part,
        part.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for one in findings:
            ids, images = "|".join(one.product_ids), "|".join(image or "" for image in one.images)
            words = (
                one.evidence,
                one.suggestion,
                one.column or "",
                one.label or "",
                images,
                one.key,
            )
            table.writerow((one.kind, one.confidence, ids, *words))


def _say_end(report: "Report", *, seconds: float) -> None:
    if report.rejects:
        from fashionclip.catalog.faults import group_rejects

        terminal.say_faults(group_rejects(report.rejects))
    terminal.say_counts(
        f"{terminal.counted(len(report.findings), 'finding')} in "
        f"{terminal.counted(report.n_products, 'product')}",
        f"{report.n_fine:,} marked as fine" if report.n_fine else "",
        f"{len(report.rejects):,} rejected" if report.rejects else "",
        seconds=seconds,
    )


def _is_beyond(report: "Report", limits: Mapping[str, int]) -> bool:
    """Whether there are more findings than allowed; says of which kinds."""
    beyond = False
    for kind, allowed in limits.items():
        n = sum(kind in {"any", one.kind} for one in report.findings)
        if n > allowed:
            terminal.talk(
                f"--fail-on {kind}: {terminal.counted(n, 'finding')}, {allowed:,} allowed"
            )
            beyond = True
    return beyond


def _is_unjudged(report: "Report", limits: Mapping[str, int]) -> bool:
    """Whether nothing could be said of a kind that has a limit; says of which kinds, and why."""
    reasons = {kind: why for kind, why in report.unjudged.items() if kind in limits}
    for kind, why in reasons.items():
        terminal.talk(f"--fail-on {kind}: not judged: {why}")
    return bool(reasons)
