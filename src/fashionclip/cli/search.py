"""``fashionclip search``: products by text, by an image, by both, or like another product."""

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from fashionclip.cli import terminal
from fashionclip.cli.garments import search_photo
from fashionclip.cli.hits import nothing_fits, show_hits, write_page
from fashionclip.cli.options import (
    examples,
    json_option,
    model_of,
    model_options,
    open_model,
    private_option,
    stop_for_usage,
    storage_option,
)

if TYPE_CHECKING:
    from fashionclip.model import FashionCLIP
    from fashionclip.searching import Mode, Results
    from fashionclip.store import Store


@click.command(
    epilog=examples(
        '$ fashionclip search shop.lance "blue denim jeans"',
        '$ fashionclip search shop.lance "summer dress" --not stripes --not black --k 20',
        "$ fashionclip search shop.lance shirt --where \"price < 50 and gender = 'Women'\"",
        "$ fashionclip search shop.lance --image photo.jpg",
        '$ fashionclip search shop.lance "in red" --image photo.jpg --weight 0.4',
        "$ fashionclip search shop.lance --garments street.jpg --k 5 --html outfit.html",
        "$ fashionclip search shop.lance --similar-to 15970 --html hits.html",
        '$ fashionclip search shop.lance --like 15970 --but darker --but "longer sleeves"',
        '$ fashionclip search shop.lance "nike running shoes" --json',
        "$ fashionclip search shop.lance --where \"brand = 'Norda'\" --sort price",
    )
)
@click.argument("store")
@click.argument("words", nargs=-1)
@click.option(
    "--image", metavar="FILE", help="Image to search with: a file, an address, or - for stdin."
)
@click.option(
    "--similar-to",
    "--like",
    metavar="ID",
    help="Find products that look like this one of the index.",
)
@click.option(
    "--garments",
    "photo",
    metavar="FILE",
    help="Photo to find garments in, and products like each: a file, an address, or - for stdin.",
)
@click.option(
    "--garment",
    "garment_words",
    multiple=True,
    metavar="NAME",
    help="Garment to look for with --garments, in place of the usual ones. Repeatable.",
)
@click.option(
    "--not", "avoid", multiple=True, metavar="WORDS", help="What hits should not show. Repeatable."
)
@click.option(
    "--but",
    multiple=True,
    metavar="CHANGE",
    help="How hits should differ: 'longer', 'less formal', 'shorter sleeves', or from and to: "
    "'long skirt / short skirt'. Repeatable.",
)
@click.option(
    "--but-strength",
    type=float,
    default=1.4,
    show_default=True,
    metavar="NUMBER",
    help="How far these changes go, above 0 and up to 5.",
)
@click.option(
    "--where", metavar="SQL", help="Filter on the catalogue's columns, applied before the search."
)
@click.option("--k", type=click.IntRange(min=1), default=10, show_default=True, help="Hits wanted.")
@click.option(
    "--weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the words beside a picture: 1 the words alone, 0 the picture alone.",
)
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "vectors", "words"]),
    help="Compare the words with pictures (vectors), with the catalogue's words, or with both "
    "(hybrid). Default: both, and pictures alone beside --image and --similar-to.",
)
@click.option(
    "--sort",
    metavar="COLUMN",
    help="Sort the hits that fit by a column or role; descending with - before it: --sort=-price.",
)
@click.option("--group", is_flag=True, help="Show only the best of each group of variants.")
@click.option(
    "--diversity",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="How much hits that look like earlier ones are put back, 0 to 1.",
)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Hits to leave out at first.")
@click.option("--cursor", metavar="TEXT", help="Go on after a page: the cursor that --json gave.")
@click.option("--total", is_flag=True, help="Count the products that fit.")
@click.option("--explain", is_flag=True, help="Say which words match, and how close hits are.")
@click.option("--fields", metavar="NAMES", help="Columns or roles of the hits, with commas.")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the hits to a page of pictures too: one file that loads nothing from elsewhere.",
)
@private_option
@storage_option
@model_options
@json_option
def command(
    store: str,
    words: Sequence[str],
    image: str | None,
    similar_to: str | None,
    photo: str | None,
    garment_words: Sequence[str],
    avoid: Sequence[str],
    but: Sequence[str],
    but_strength: float,
    where: str | None,
    k: int,
    weight: float,
    mode: "Mode | None",
    sort: str | None,
    group: bool,
    diversity: float,
    offset: int,
    cursor: str | None,
    total: bool,
    explain: bool,
    fields: str | None,
    page: Path | None,
    allow_private: bool,
    storage_options: Mapping[str, str],
    model_name: str | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Search the index in STORE by WORDS, by an image, by both, or for products like another.

    Without any of these, --where or --sort lists products. A rule separates products that fit from
    weaker matches.

    STORE is a folder, s3://… or postgresql://…. Words are compared with the catalogue's words and
    with the pictures; the score counts both. With an image it is a cosine, 1 for the same image.
    """
    text = " ".join(words).strip() or None
    _check_photo(click.get_current_context(), photo, garment_words)
    if not (text or image or similar_to or avoid or but or where or sort or photo):
        stop_for_usage(
            "say what to look for: words, --image FILE or --similar-to ID; --where or --sort lists"
        )
    begun = perf_counter()
    if device == "auto":
        device = "cpu"  # importing PyTorch for a GPU would cost more than one query saves
    needs_model = bool((text and mode != "words") or image or avoid or but or photo or model_name)
    opened, model = open_both(
        store,
        model_name,
        text,
        device=device,
        precision=precision,
        needs_model=needs_model,
        storage_options=storage_options,
    )
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.index import Index
    from fashionclip.searching import Query, results_fields

    policy = FetchPolicy(allow_private=allow_private, storage_options=storage_options)
    names = _names(fields)
    if photo is not None and model is not None:
        search_photo(
            opened,
            model,
            photo,
            garment_words,
            query=Query(where=where, k=k, group=group, fields=names),
            policy=policy,
            page=page,
            as_json=as_json,
        )
        return
    index = Index(opened, model=model, policy=policy)
    try:
        hits = index.search(
            text,
            image=sys.stdin.buffer.read() if image == "-" else image,
            similar_to=similar_to or (),
            weight=weight,
            avoid=avoid,
            but=but,
            but_strength=but_strength,
            where=where,
            k=k,
            offset=offset,
            cursor=cursor,
            mode=mode,
            sort=sort,
            group=group,
            diversity=diversity,
            total=total,
            explain=explain,
            fields=names,
        )
    except ValueError as exc:  # such as a column to sort by that is not there
        stop_for_usage(str(exc))
    results = hits.results
    if as_json:
        terminal.write_json(results_fields(results, has_groups=group))
    else:
        if hits and not results.n_relevant:
            terminal.talk(nothing_fits(text))
        show_hits(results, opened.meta.roles, first_rank=offset + 1)
    if page is not None:
        write_page(
            page,
            results,
            opened,
            heading=_heading(text, similar_to, image),
            facts=[
                *(f"not {phrase}" for phrase in avoid),
                *(f"but {one}" for one in but),
                where or "",
            ],
            image=image or (index.read_images([similar_to])[0] if similar_to else None),
            policy=policy,
        )
        terminal.talk(f"page of images: {page}")
    for said in filter(None, (results.hint, _said_changes(results))):
        terminal.talk(said)
    counts = _counts(results, len(opened), group=group)
    terminal.say_counts(*counts, seconds=perf_counter() - begun)


_WITH_GARMENTS = frozenset(
    [
        "store",
        "photo",
        "garment_words",
        "where",
        "k",
        "group",
        "fields",
        "page",
        "allow_private",
        "storage_options",
        "model_name",
        "device",
        "precision",
        "as_json",
    ]
)


def _counts(results: "Results", n_products: int, *, group: bool) -> list[str]:
    counts = [f"{len(results.hits):,} of {terminal.counted(n_products, 'product')}"]
    if 0 < results.n_relevant < len(results.hits):
        counts.append(f"{len(results.hits) - results.n_relevant:,} of them weaker matches")
    if results.total is not None:
        fitting = f"{results.total:,}{'' if results.is_total_exact else '+'}"
        counts.append(f"{fitting} {'groups' if group else 'products'} fit")
    return counts


def _names(fields: str | None) -> list[str] | None:
    return None if fields is None else [name.strip() for name in fields.split(",")]


def _check_photo(context: click.Context, photo: str | None, words: Sequence[str]) -> None:
    """Refuse what ``--garments`` would ignore, and ``--garment`` without it.

    Raises:
        UsageError: an option has no effect.
    """
    if photo is None:
        if words:
            stop_for_usage("--garment names what --garments FILE looks for; give the photo too")
        return
    for parameter in context.command.params:
        name = parameter.name or ""
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_given and name not in _WITH_GARMENTS:
            stop_for_usage(
                f"{parameter.get_error_hint(context)} has no effect with --garments; leave it out"
            )


def _said_changes(results: "Results") -> str:
    """Which changes were made, and which category was kept; empty where nothing was changed."""
    made = ", ".join(
        f"{one.text} (from {one.before!r} to {one.after!r}, strength {one.strength:g})"
        for one in results.changes
    )
    if not made:
        return ""
    if results.kept is None:
        return f"changed: {made}; the category is not kept"
    return (
        f"changed: {made}; kept: {results.kept.column} {', '.join(map(str, results.kept.values))}"
    )


def _heading(text: str | None, similar_to: str | None, image: str | None) -> str:
    if text or image:
        return text or "like this image"
    return f"like {similar_to}" if similar_to else "products"


def open_both(
    store: str,
    model_name: str | None,
    text: str | None,
    *,
    device: str,
    precision: str,
    needs_model: bool = True,
    storage_options: Mapping[str, str] | None = None,
) -> tuple["Store", "FashionCLIP | None"]:
    """Open a store and the model that made it, at the same time.

    The store's library is imported while the engine compiles the text tower, which the first text
    makes it do, and while the weights are hashed for the fingerprint.

    Raises:
        StoreError: there is no index there, or it is damaged.
        CheckpointError: the model of the index is not to be found.
    """
    name = model_name or model_of(store, storage_options)

    def warm() -> "FashionCLIP | None":
        if not needs_model:
            return None
        model = open_model(name, device=device, precision=precision)
        beside.submit(lambda: model.fingerprint)  # half a second for a large model
        if text is not None:
            model.encode_text([text])
        return model

    with ThreadPoolExecutor(2) as beside:
        opening = beside.submit(warm)
        from fashionclip.store import open_store

        opened = open_store(store, storage_options=storage_options)
        return opened, opening.result()
