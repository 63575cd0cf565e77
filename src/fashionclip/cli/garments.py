"""``fashionclip search --garments``: a photograph searched garment by garment."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fashionclip.atomic import whole_file
from fashionclip.cli import terminal
from fashionclip.cli.hits import cards_of, show_hits
from fashionclip.cli.options import stop_for_usage
from fashionclip.cli.pages import render_page, thumbnail_uri

if TYPE_CHECKING:
    from PIL import Image

    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.model import FashionCLIP
    from fashionclip.searching import GarmentResults, Query
    from fashionclip.store import Store

PHOTO_PX = 640
"""Longest side of the photograph on the page."""
CROP_PX = 320


def search_photo(
    store: "Store",
    model: "FashionCLIP",
    photo: str,
    words: Sequence[str],
    *,
    query: "Query",
    policy: "FetchPolicy",
    page: Path | None,
    as_json: bool,
) -> None:
    """Search a photograph garment by garment; print the hits of each.

    Args:
        store: what is searched.
        model: the model that made it.
        photo: a file, an address, or - for stdin.
        words: garments to look for; none for the usual ones.
        query: filter and number of hits of each garment.
        policy: how remote images may be fetched.
        page: the HTML file to write too.
        as_json: print one JSON document in place of tables.

    Raises:
        FashionCLIPError: as ``search_garments``.
        UsageError: words or query make no sense.
        OSError: the page cannot be written.
    """
    from fashionclip.garments import garment_words
    from fashionclip.images.decode import fetch_image, open_image
    from fashionclip.searching import search_garments

    begun = perf_counter()
    data = sys.stdin.buffer.read() if photo == "-" else fetch_image(photo, policy=policy)
    image = open_image(data)
    try:
        found = search_garments(store, model, image, words or None, query=query)
    except ValueError as exc:  # such as an empty garment word
        stop_for_usage(str(exc))
    if as_json:
        terminal.write_json(_fields(image, found, has_groups=query.group))
    else:
        for one in found:
            terminal.show_heading(_heading(one))
            show_hits(one.results, store.meta.roles)
    if page is not None:
        _write_page(page, image, found, store, policy)
        terminal.talk(f"page of images: {page}")
    n_words = len(words or garment_words())
    if not found:
        terminal.talk(
            f"no garment stands out ({n_words} looked for); cut the photo to the person, name "
            "garments with --garment, or search by the whole picture with --image"
        )
    n_hits = sum(len(one.results.hits) for one in found)
    terminal.say_counts(
        terminal.counted(len(found), "garment"),
        f"{n_hits:,} hits of {terminal.counted(len(store), 'product')}",
        seconds=perf_counter() - begun,
    )


def _heading(one: "GarmentResults") -> str:
    box = one.garment.box
    corners = f"{box.left},{box.top} to {box.right},{box.bottom}"
    return f"{one.garment.word}  ({one.garment.score:.2f}, pixels {corners})"


def _fields(
    image: "Image.Image", found: Sequence["GarmentResults"], *, has_groups: bool
) -> Mapping[str, Any]:
    from fashionclip.searching import garment_fields

    return {
        "width": image.width,
        "height": image.height,
        "garments": [garment_fields(one, has_groups=has_groups) for one in found],
    }


def _write_page(
    path: Path,
    image: "Image.Image",
    found: Sequence["GarmentResults"],
    store: "Store",
    policy: "FetchPolicy",
) -> None:
    """Write the photograph with its boxes, and a row of hits for each garment.

    Raises:
        OSError: the file cannot be written.
    """
    from fashionclip.images import decode

    rows = []
    for one in found:
        cards = cards_of(one.results, store, policy)
        crop = decode.thumbnail_uri(one.garment.crop, max_px=CROP_PX)
        rows.append((one.garment, crop, [(card, thumbnail_uri(card.image)) for card in cards]))
    text = render_page(
        "garments.html.jinja",
        photo=decode.thumbnail_uri(image, max_px=PHOTO_PX),
        width=image.width,
        height=image.height,
        rows=rows,
    )
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
