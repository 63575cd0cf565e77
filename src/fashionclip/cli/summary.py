"""How the summary of a catalogue and its faults are displayed: in the terminal, and as a page."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fashionclip.atomic import whole_file
from fashionclip.cli import terminal
from fashionclip.cli.pages import render_page, thumbnail_uri

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog, CatalogSummary, CheckReport
    from fashionclip.catalog.faults import Fault
    from fashionclip.catalog.summary import ColumnSummary
    from fashionclip.product import Product, Value

MAX_SHOWN_COLUMNS = 60  # --json has them all
MAX_LINE_CHARS = 300
N_SAMPLES = 24
MAX_PAGE_REJECTS = 200
FETCH_THREADS = 8
NOT_DETAILS = frozenset(
    {"id", "title", "image", "further_images", "price", "currency", "highlights", "description"}
)
"""Roles that a sample shows elsewhere, or in its caption."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A product as the page shows it."""

    product: "Product"
    title: str
    price: str
    details: Mapping[str, str]
    """The other roles, and their values."""
    image_uri: str | None
    reason: str | None
    """Why it would be rejected, if it would be."""


def say_summary(summary: "CatalogSummary") -> None:
    """Print a summary in a few lines on stderr, for the end of a run."""
    for name, fact in summary.facts().items():
        terminal.talk(f"  {name}: {_line(fact)}")


def show_summary(summary: "CatalogSummary") -> None:
    """Print a summary on stdout: facts, remarks on how the table was read, and the columns."""
    columns = summary.roles.as_dict() | ({"image": "<id>"} if summary.images_by_id else {})
    missing = ", ".join(role for role, column in columns.items() if not column)
    roles = f"those of the columns below; none for {missing}" if missing else "each has a column"
    facts = {name: _line(fact) for name, fact in summary.facts().items()}
    notes = "\n".join(f"• {_line(note)}" for note in summary.notes)
    blank = _line(", ".join(summary.blank_columns))
    terminal.show_facts({**facts, "roles": roles, "blank": blank, "notes": notes})
    shown = summary.columns[:MAX_SHOWN_COLUMNS]
    terminal.show_table(
        ["column", "role", "kind", "filled", "for example"],
        [
            (c.name, ", ".join(c.roles), c.kind, _share(c, summary), _examples(c.examples))
            for c in shown
        ],
        numbers=["filled"],
    )
    if more := len(summary.columns) - len(shown):
        click.echo(f"… and {terminal.counted(more, 'more column')}; --json lists all")
    click.echo("To give a role another column: --column ROLE=NAME\n")


def show_faults(faults: Sequence["Fault"]) -> None:
    """Print faults on stdout, each with its count, how to mend it, and an example."""
    terminal.show_counted(
        (
            fault.count,
            [
                _line(line)
                for line in (fault.what, fault.mend and f"→ {fault.mend}", fault.example)
                if line
            ],
        )
        for fault in faults
    )


def write_check_page(
    path: Path, catalog: "Catalog", report: "CheckReport", *, read_images: bool
) -> None:
    """Write a check as an HTML page that loads nothing from elsewhere.

    Args:
        path: the HTML file.
        catalog: what was checked; samples are read from it anew.
        report: what was found.
        read_images: whether the samples show their images.

    Raises:
        CatalogError: the table cannot be read on.
        OSError: the file cannot be written.
    """
    summary = report.summary
    rejected = {reject.product_id: reject.reason for reject in report.missing + report.broken}

    def sample(product: "Product") -> Sample:
        reason = rejected.get(product.product_id)
        return _sample(product, catalog, reason, read_image=read_images and reason is None)

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        samples = list(pool.map(sample, _spread(catalog, summary)))
    page = render_page(
        "check.html.jinja",
        name=Path(catalog.location).name or catalog.location,
        summary=summary,
        columns=[(c, _share(c, summary), _examples(c.examples)) for c in summary.columns],
        report=report,
        rejects=report.rejects[:MAX_PAGE_REJECTS],
        samples=samples,
        has_images=read_images,
    )
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8", errors="replace")


def _spread(catalog: "Catalog", summary: "CatalogSummary") -> list["Product"]:
    """Products from the whole catalogue, at even distances."""
    from fashionclip.product import Product

    step = max(1, summary.products // N_SAMPLES)
    products = (item for item in catalog if isinstance(item, Product))
    return list(islice(products, 0, step * N_SAMPLES, step))


def _sample(
    product: "Product", catalog: "Catalog", reason: str | None, *, read_image: bool
) -> Sample:
    from fashionclip.errors import ImageFetchError

    try:
        image = catalog.read_image(product) if read_image else None
    except ImageFetchError:
        image = None
    roles, columns = catalog.roles, product.columns
    named = {role: columns.get(str(name)) for role, name in roles.as_dict().items() if name}
    amount, currency = named.get("price"), _shown(named.get("currency"))
    amount = f"{amount:,.2f}" if isinstance(amount, int | float) else _shown(amount)
    details = {
        role: ", ".join(terminal.members(_shown(value)))
        for role, value in named.items()
        if value is not None and role not in NOT_DETAILS
    }
    title = _shown(named.get("title")) or product.product_id
    price = f"{amount} {currency}".strip()
    return Sample(product, title, price, details, thumbnail_uri(image), reason)


def _share(column: "ColumnSummary", summary: "CatalogSummary") -> str:
    share = column.n_filled / summary.products if summary.products else 0.0
    return "all" if share == 1 else "none" if not share else f"{min(max(share, 0.01), 0.99):.0%}"


def _examples(values: Sequence["Value"]) -> str:
    return ", ".join(map(_shown, values))


def _shown(value: "Value") -> str:
    """A value as it is stored, on one line."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else _line(str(value))


def _line(text: str) -> str:
    return terminal.fit(text, width=MAX_LINE_CHARS)
