"""``fashionclip migration``: how the top lists move from one index or model to another."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import OutputFile, examples, json_option, storage_option

if TYPE_CHECKING:
    from fashionclip.index import Index
    from fashionclip.migration import Migration, Moved

BELOW = 1  # exit status
SHOWN = 10  # queries in the table
PICTURED = 25  # queries with pictures on the page, 20 to a query
THUMBNAIL_PX = 150


@click.command(
    epilog=examples(
        "$ fashionclip migration shop-v1.lance shop-v2.lance",
        "$ fashionclip migration shop.alias shop-v2.lance --queries queries.txt --html moved.html",
        "$ fashionclip migration old.lance new.lance --min-overlap 0.8 && "
        "fashionclip switch shop.alias new.lance",
    )
)
@click.argument("old")
@click.argument("new")
@click.option(
    "--queries",
    "queries_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="One query a line.  [default: the categories of OLD, alone and with their colours]",
)
@click.option(
    "--limit",
    "k",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="Length of the lists.",
)
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "vectors", "words"]),
    default="vectors",
    show_default=True,
    help="What texts are compared with: the products' vectors, their words, or both.",
)
@click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    default=0.6,
    show_default=True,
    help="Exit with status 1 if the mean overlap is below this; 0 never does.",
)
@click.option(
    "--html",
    "html_path",
    type=OutputFile(".html"),
    metavar="FILE",
    help="Write a page with pictures, the queries that moved most first.",
)
@storage_option
@json_option
def command(
    old: str,
    new: str,
    queries_path: Path | None,
    k: int,
    mode: str,
    min_overlap: float,
    html_path: Path | None,
    storage_options: Mapping[str, str],
    as_json: bool,
) -> None:
    """Show how the answers move from the index in OLD to the one in NEW.

    Both are asked the same queries, each with its own model. The overlap is the share of the top
    list that stays; the rank-biased overlap also weighs where the products stand. The report says
    how much changes, not whether it is better: look at the queries that moved most.
    """
    from fashionclip.index import Index
    from fashionclip.migration import catalogue_queries, compare_indexes

    before, after = (Index.open(uri, storage_options=storage_options) for uri in (old, new))
    queries = catalogue_queries(before) if queries_path is None else _read_queries(queries_path)
    found = compare_indexes(before, after, queries, k=k, mode=mode)  # type: ignore[arg-type]
    is_below = found.overlap.mean < min_overlap
    if html_path is not None:
        html_path.write_text(_page(found, before, after, k=k), encoding="utf-8")
    if as_json:
        terminal.write_json(_fields(found, before, after, is_below=is_below))
    else:
        _show(found, k=k)
    for query, reason in found.failed.items():
        terminal.warn(f"{terminal.fit(query, width=40)}: {reason}")
    if is_below:
        terminal.warn(
            f"the mean overlap of {found.overlap.mean:.2f} is below --min-overlap {min_overlap:g}"
        )
        click.get_current_context().exit(BELOW)


def _read_queries(path: Path) -> list[str]:
    """The queries of a file.

    Raises:
        UsageError: it has none, or is not text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        message = f"{path} is not text in UTF-8; write one query a line"
        raise click.UsageError(message) from exc
    queries = [line.strip() for line in lines if line.strip()]
    if not queries:
        message = f"{path} holds no query; write one a line"
        raise click.UsageError(message)
    return queries


def _show(found: "Migration", *, k: int) -> None:
    rows = [
        (
            terminal.fit(one.query, width=40),
            f"{one.overlap:.2f}",
            f"{one.rbo:.2f}",
            terminal.fit(", ".join(one.went), width=30),
            terminal.fit(", ".join(one.came), width=30),
        )
        for one in found.moved[:SHOWN]
    ]
    terminal.show_table(
        ["query", f"overlap@{k}", "rank-biased", "went", "came"],
        rows,
        numbers=[f"overlap@{k}", "rank-biased"],
    )
    for name, mean in ((f"overlap@{k}", found.overlap), ("rank-biased overlap", found.rbo)):
        click.echo(
            f"{name}: {mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f}), "
            f"95 % interval, {len(found.moved):,} queries"
        )


def _fields(found: "Migration", old: "Index", new: "Index", *, is_below: bool) -> dict[str, object]:
    """A report for JSON."""
    return {
        "old": {"index": old.meta.uri, "model": old.meta.model, "products": len(old)},
        "new": {"index": new.meta.uri, "model": new.meta.model, "products": len(new)},
        "overlap": asdict(found.overlap),
        "rank_biased_overlap": asdict(found.rbo),
        "is_below": is_below,
        "queries": [
            {
                "query": one.query,
                "overlap": one.overlap,
                "rank_biased_overlap": one.rbo,
                "old": [hit.product_id for hit in one.old],
                "new": [hit.product_id for hit in one.new],
                "went": one.went,
                "came": one.came,
            }
            for one in found.moved
        ],
        "failed": dict(found.failed),
    }


def _page(found: "Migration", old: "Index", new: "Index", *, k: int) -> str:
    """The report as an HTML document with pictures."""
    from fashionclip.cli.pages import render_page

    shown = found.moved[:PICTURED]
    return render_page(
        "migration.html.jinja",
        k=k,
        found=found,
        indexes=[(name, one.meta, len(one)) for name, one in (("before", old), ("after", new))],
        pictured=[(one, _cards(one, old, new)) for one in shown],
        others=found.moved[PICTURED:],
    )


def _cards(moved: "Moved", old: "Index", new: "Index") -> list[tuple[str, list[dict[str, object]]]]:
    """The hits of a query before and after: picture, title, and what became of each."""
    places = [
        {hit.product_id: i for i, hit in enumerate(hits, 1)} for hits in (moved.old, moved.new)
    ]
    lists = []
    for name, index, hits, other, gone in (
        ("before", old, moved.old, places[1], "went"),
        ("after", new, moved.new, places[0], "came"),
    ):
        ids = [hit.product_id for hit in hits]
        title = index.meta.roles.title
        cards: list[dict[str, object]] = [
            {
                "id": hit.product_id,
                "title": str(hit.columns.get(title or "") or hit.product_id),
                "image": image,
                "place": place,
                "other": other.get(hit.product_id),
                "mark": "" if hit.product_id in other else gone,
            }
            for place, (hit, image) in enumerate(zip(hits, _thumbnails(index, ids), strict=True), 1)
        ]
        lists.append((name, cards))
    return lists


def _thumbnails(index: "Index", ids: Sequence[str]) -> list[str | None]:
    from fashionclip.cli.pages import thumbnail_uri

    return [thumbnail_uri(image, max_px=THUMBNAIL_PX) for image in index.read_images(ids)]
