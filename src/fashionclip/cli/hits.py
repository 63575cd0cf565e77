"""Hits as people and programs see them: a table, JSON, cards of a page."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from fashionclip.atomic import whole_file
from fashionclip.cli import terminal
from fashionclip.images.formats import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from fashionclip.cli.page import Card
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.index import Index
    from fashionclip.product import Hit

SHOWN_COLUMNS = 5  # beside the title; --json has them all
LONGEST_SHOWN = 24  # longer values are descriptions and addresses, not facts to scan
FETCHES = 8  # pictures of a page that are read at once


def title_column(names: Sequence[str]) -> str | None:
    """The column that calls a product something, if there is one of a usual name."""
    from fashionclip.catalog.roles import USUAL_NAMES

    plain = {re.sub(r"[\W_]", "", name).casefold(): name for name in reversed(names)}
    return next((plain[title] for title in USUAL_NAMES["title"] if title in plain), None)


def show_hits(hits: Sequence["Hit"]) -> None:
    """Print hits as a table: rank, score, id, title, and as many short columns as fit."""
    if not hits:
        return
    called = title_column(list(hits[0].columns))
    digits = 3 if any(abs(hit.score) > 0.1 for hit in hits) else 4  # fused scores are small
    columns: dict[str, list[str]] = {
        "": [str(rank) for rank in range(1, len(hits) + 1)],
        "score": [f"{hit.score:.{digits}f}" for hit in hits],
        "id": [terminal.one_line(hit.product_id, width=LONGEST_SHOWN) for hit in hits],
    }
    room = terminal.width() - sum(map(terminal.column_width, columns, columns.values()))
    names = [called] if called else []
    for name in names + telling_columns(hits, but=called):
        values = [terminal.cell(hit.columns.get(name)) for hit in hits]
        room -= terminal.column_width(name, values)
        if room < 0 and name != called:
            break
        columns[name] = values
    terminal.show_table(list(columns), zip(*columns.values(), strict=True), numbers=["", "score"])


def telling_columns(hits: Sequence["Hit"], *, but: str | None) -> list[str]:
    """The few columns worth a place in a table: filled, short, not the id or the picture again."""
    told: list[str] = []
    for name in hits[0].columns:
        values = [terminal.cell(hit.columns.get(name)) for hit in hits]
        is_id = all(value == hit.product_id for value, hit in zip(values, hits, strict=True))
        is_short = max(map(len, values)) <= LONGEST_SHOWN
        is_plain = not values[0].startswith(("[", "{")) and not values[0].endswith(IMAGE_SUFFIXES)
        if name != but and any(values) and is_short and is_plain and not is_id:
            told.append(name)
    return told[:SHOWN_COLUMNS]


def write_page(
    path: Path,
    hits: Sequence["Hit"],
    index: "Index",
    *,
    heading: str,
    facts: Sequence[str],
    picture: str | bytes | None,
    policy: "FetchPolicy",
) -> None:
    """Write the hits to a page of pictures.

    Args:
        path: the HTML file.
        hits: best first.
        index: knows where the pictures are.
        heading: what was asked for.
        facts: what narrowed it down; empty ones are left out.
        picture: the picture that was searched with, or its location, if there was one.
        policy: how remote pictures may be fetched.

    Raises:
        OSError: the file cannot be written.
    """
    from fashionclip.cli.page import build_page

    page = build_page(
        cards_of(hits, index, policy),
        heading=heading,
        facts=[fact for fact in facts if fact],
        query_picture=read_if_there(picture, policy),
    )
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")


def cards_of(hits: Sequence["Hit"], index: "Index", policy: "FetchPolicy") -> list["Card"]:
    """Gather the pictures of hits; one that cannot be had is left out of its card."""
    from fashionclip.cli.page import Card

    places = index.locations([hit.product_id for hit in hits])
    with ThreadPoolExecutor(FETCHES) as pool:
        pictures = pool.map(lambda hit: read_if_there(places.get(hit.product_id), policy), hits)
        return [
            Card(
                hit.product_id,
                str(hit.columns.get(title_column(list(hit.columns)) or "") or hit.product_id),
                hit.score,
                _details(hit.columns),
                picture,
            )
            for hit, picture in zip(hits, pictures, strict=True)
        ]


def _details(columns: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (name, terminal.one_line(str(value), width=300))
        for name, value in columns.items()
        if value not in {None, ""}
    ]


def read_if_there(place: str | bytes | None, policy: "FetchPolicy") -> bytes | None:
    """Read a picture from where it is, if it is still there."""
    from fashionclip.errors import ImageFetchError
    from fashionclip.images.fetch import read_image_bytes

    if place is None or isinstance(place, bytes):
        return place
    try:
        return read_image_bytes(place, policy=policy)
    except ImageFetchError:
        return None
