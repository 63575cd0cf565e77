"""How hits are displayed: a table in the terminal, and a page of images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fashionclip.atomic import whole_file
from fashionclip.cli import terminal
from fashionclip.cli.pages import render_page, thumbnail_uri
from fashionclip.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.product import Explanation, Hit, Roles
    from fashionclip.searching import Results
    from fashionclip.store import Store

SHOWN_ROLES = ("price", "sale_price", "currency", "brand", "colour", "size", "category")
MAX_SHOWN_COLUMNS = 5  # beside the title; --json has them all
MAX_SHOWN_CHARS = 24  # columns with longer values are left out of the table
FETCH_THREADS = 8


@dataclass(frozen=True, slots=True)
class Card:
    """A hit as the page shows it."""

    product_id: str
    title: str
    score: float
    details: Sequence[tuple[str, str]]
    """Column and value, in the order in which they are shown."""
    image: bytes | None
    """The encoded image; None where it could not be read."""


def show_hits(results: "Results", roles: "Roles", *, first_rank: int = 1) -> None:
    """Print hits as a table: rank, score, id, title, and as many short columns as fit.

    Args:
        results: a rule is drawn between those that fit and weaker ones.
        roles: which columns come first.
        first_rank: of the first hit.
    """
    hits = results.hits
    if not hits:
        return
    title = roles.title
    digits = 3 if any(abs(hit.score) > 0.1 for hit in hits) else 4  # fused scores are small
    columns: dict[str, list[str]] = {
        "": [str(rank) for rank in range(first_rank, first_rank + len(hits))],
        "score": [f"{hit.score:.{digits}f}" for hit in hits],
        "id": [terminal.fit(hit.product_id, width=MAX_SHOWN_CHARS) for hit in hits],
    }
    if any(hit.n_variants > 1 for hit in hits):
        columns["variants"] = [str(hit.n_variants) for hit in hits]
    if any(hit.explanation for hit in hits):
        columns["matched"] = [_matched(hit.explanation) for hit in hits]
        columns["better than"] = [_percentile(hit.explanation) for hit in hits]
    width = terminal.width() - sum(map(terminal.column_width, columns, columns.values()))
    for name in [*filter(None, [title]), *_short_columns(hits, roles)]:
        values = [terminal.cell(hit.columns.get(name)) for hit in hits]
        if name in {roles.price, roles.sale_price}:
            values = [_price(hit.columns.get(name)) for hit in hits]
        width -= terminal.column_width(name, values)
        if width < 0 and name != title:
            break
        columns[name] = values
    terminal.show_table(
        list(columns),
        zip(*columns.values(), strict=True),
        numbers=["", "score", "variants", "better than"],
        rule_after=results.n_relevant if results.n_relevant < len(hits) else 0,
    )


def nothing_fits(text: str | None) -> str:
    """The line above hits none of which fit."""
    return "nothing here fits" + (f" {text!r}; these are the closest:" if text else "")


def _matched(explanation: "Explanation | None") -> str:
    return " ".join(explanation.matched) if explanation else ""


def _percentile(explanation: "Explanation | None") -> str:
    if explanation is None or explanation.percentile is None:
        return ""
    return f"{explanation.percentile:.1f} %"


def _price(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else terminal.cell(value)


def _short_columns(hits: Sequence["Hit"], roles: "Roles") -> list[str]:
    """The first columns with short values, those of roles before the others."""
    found: list[str] = []
    first = [getattr(roles, role) for role in SHOWN_ROLES]
    elsewhere = {roles.title, roles.id, roles.image, *roles.further_images}
    for name in dict.fromkeys([*filter(hits[0].columns.__contains__, first), *hits[0].columns]):
        values = [terminal.cell(hit.columns.get(name)) for hit in hits]
        is_id = all(value == hit.product_id for value, hit in zip(values, hits, strict=True))
        is_short = max(map(len, values)) <= MAX_SHOWN_CHARS
        is_plain = not values[0].startswith("{") and not values[0].endswith(IMAGE_SUFFIXES)
        if name not in elsewhere and any(values) and is_short and is_plain and not is_id:
            found.append(name)
    return found[:MAX_SHOWN_COLUMNS]


def write_page(
    path: Path,
    results: "Results",
    store: "Store",
    *,
    heading: str,
    facts: Sequence[str],
    image: str | bytes | None,
    policy: "FetchPolicy",
) -> None:
    """Write hits as an HTML page with their images.

    Args:
        path: the HTML file.
        results: weaker hits come below a line of their own.
        store: where the hits come from.
        heading: the query.
        facts: its filters; empty ones are left out.
        image: the image of the query, or its location, if there was one.
        policy: how remote images may be fetched.

    Raises:
        OSError: the file cannot be written.
    """
    cards = cards_of(results, store, policy)
    page = build_page(
        cards,
        heading=heading,
        n_relevant=results.n_relevant,
        facts=list(filter(None, facts)),
        query_image=_read(image, store, policy),
    )
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")


def cards_of(results: "Results", store: "Store", policy: "FetchPolicy") -> list[Card]:
    """Hits as cards of a page, with their images.

    Args:
        results: the hits.
        store: where they come from.
        policy: how remote images may be fetched.
    """
    roles, hits = store.meta.roles, results.hits
    rows = store.fetch([hit.product_id for hit in hits], vectors=False, columns=False)
    locations = dict(zip(rows.ids, rows.images, strict=True))
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        images = list(
            pool.map(lambda hit: _read(locations.get(hit.product_id), store, policy), hits)
        )
    cards = []
    for hit, data in zip(hits, images, strict=True):
        details = [
            (name, terminal.fit(str(value), width=300))
            for name, value in hit.columns.items()
            if value not in {None, ""}
        ]
        title = str(hit.columns.get(roles.title or "") or hit.product_id)
        cards.append(Card(hit.product_id, title, hit.score, details, data))
    return cards


def build_page(
    cards: Sequence[Card],
    *,
    heading: str,
    n_relevant: int | None = None,
    facts: Sequence[str] = (),
    query_image: bytes | None = None,
) -> str:
    """A whole HTML document that loads nothing from elsewhere.

    The first ``n_relevant`` cards fit the query, all if it is None; the others follow below a line.
    Thumbnails are data URIs, encoded anew. All text is escaped, and the page's security policy
    forbids scripts and foreign content.
    """
    return render_page(
        "hits.html.jinja",
        cards=[(card, thumbnail_uri(card.image)) for card in cards],
        heading=heading,
        n_relevant=len(cards) if n_relevant is None else n_relevant,
        facts=facts,
        query_image=thumbnail_uri(query_image),
    )


def _read(location: str | bytes | None, store: "Store", policy: "FetchPolicy") -> bytes | None:
    """An image's bytes; None where it cannot be read."""
    from fashionclip.errors import ImageFetchError
    from fashionclip.store.blobs import read_stored_image

    if location is None or isinstance(location, bytes):
        return location
    try:
        return read_stored_image(location, store.blobs, policy=policy)
    except ImageFetchError:
        return None
