"""``fashionclip demo``: index, search, tag and serve a sample catalogue."""

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.hits import nothing_fits, show_hits, write_page
from fashionclip.cli.index import embed, report_fields, say_report
from fashionclip.cli.options import (
    examples,
    json_option,
    open_catalog,
    open_model,
    require_extra,
    stop_for_usage,
)
from fashionclip.cli.tag import show_tags
from fashionclip.product import hit_fields

if TYPE_CHECKING:
    from fashionclip.index import Hits, Index
    from fashionclip.indexing import IndexReport
    from fashionclip.model import FashionCLIP
    from fashionclip.sample import SampleProduct
    from fashionclip.tagging import TaggedProduct

N_HITS = 3
N_TAGGED = 6
N_PAGE_HITS = 24
STDERR = 2  # its file descriptor
NEXT = """Next:
  fashionclip demo --into {folder} --serve    a search page over this catalogue, in the browser
  fashionclip search {store} "your own words"
  open {page} in a browser: a search as a page of images
  fashionclip index your-products.csv --images your-photos/ --into your-shop.lance
"""
LABELS = Path(__file__).parent / "templates" / "labels.txt"
"""The label sets of the demo, copied beside its catalogue."""

MISSPELT = {"backpack": "backpakc", "sneakers": "sneekers", "trousers": "trowsers"}
"""Misspelt words by category."""
WEIGHT = 0.6  # of the words beside a picture; they name a colour, which is little of a picture
NONSENSE = "coffee machine"


@dataclass(frozen=True, slots=True)
class Query:
    """A search of the demo."""

    remark: str
    """What it shows, in a few words."""
    text: str
    where: str | None = None
    image: Path | None = None

    def command_line(self, store: Path) -> str:
        """The command that runs this search."""
        parts = ["fashionclip search", shlex.quote(str(store)), f'"{self.text}"']
        if self.image:
            parts.append(f"--image {shlex.quote(str(self.image))} --weight {WEIGHT}")
        parts += [f'--where "{self.where}"'] if self.where else []
        return " ".join([*parts, f"--k {N_HITS}"])

    def search(self, index: "Index", *, k: int = N_HITS) -> "Hits":
        """Search an index.

        Raises:
            FashionCLIPError: as ``Index.search``.
        """
        weight = WEIGHT if self.image else 0.5
        return index.search(self.text, image=self.image, weight=weight, where=self.where, k=k)


def queries_for(products: Sequence["SampleProduct"], folder: Path) -> list[Query]:
    """Searches that the sample catalogue can answer, and a last one that it cannot.

    Args:
        products: of the sample catalogue, at least 20.
        folder: where the catalogue is.
    """
    solid = [product for product in products if product.attributes.pattern == "solid"]
    colour, kind = _most_common((p.attributes.colour, p.attributes.category) for p in solid)
    patterned = [
        (p.attributes.pattern, p.attributes.category, p.price) for p in products if p not in solid
    ]
    pattern, shape = _most_common((pattern, shape) for pattern, shape, _ in patterned)
    prices = sorted(price for *words, price in patterned if words == [pattern, shape])
    dearest = math.ceil(prices[:N_HITS][-1] / 10) * 10
    brand, branded = _most_common((p.brand, p.attributes.category) for p in products)
    categories = Counter(product.attributes.category for product in products)
    misspelt = max(MISSPELT, key=lambda category: categories[category])
    seen, wanted = _two_colours(products)
    return [
        Query("words", f"{colour} {kind}"),
        Query("words and a filter", f"{pattern} {shape}", where=f"price < {dearest}"),
        Query("a brand", f"{brand} {branded}"),
        Query("a misspelt word", MISSPELT[misspelt]),
        Query("an article number; weaker matches are below the line", products[-1].product_id),
        Query(
            "a picture, and words for what should differ",
            f"in {wanted.attributes.colour}",
            image=folder / "images" / f"{seen.product_id}.jpg",
        ),
        Query("something that the shop does not have", NONSENSE),
    ]


def _two_colours(products: Sequence["SampleProduct"]) -> "tuple[SampleProduct, SampleProduct]":
    """Two products of a category, handbags if possible, in different colours."""
    bags = [product for product in products if product.attributes.category == "handbag"]
    return next(
        (first, second)
        for first, second in combinations([*bags, *products], 2)
        if first.attributes.category == second.attributes.category
        and first.attributes.colour != second.attributes.colour
    )


def _most_common(pairs: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The first of the pairs that occur most often."""
    return Counter(pairs).most_common(1)[0][0]


@click.command(
    epilog=examples(
        "$ fashionclip demo",
        "$ fashionclip demo --serve",
        "$ fashionclip demo --into /tmp/demo --products 1000",
        "$ fashionclip demo --json",
    )
)
@click.option(
    "--into",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fashionclip-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder for the catalogue and its index; created if needed.",
)
@click.option(
    "--products",
    "n_products",
    type=click.IntRange(min=20, max=20_000),
    default=240,
    show_default=True,
    metavar="N",
    help="Number of products.",
)
@click.option(
    "--serve",
    "is_served",
    is_flag=True,
    help="Serve the search page over the catalogue, on a free port, and open it in a browser.",
)
@json_option
def command(folder: Path, n_products: int, is_served: bool, as_json: bool) -> None:
    """Generate a sample catalogue, index it with the built-in model, search it and tag it.

    Needs no network and no GPU, and takes a few seconds. A second run generates the same
    catalogue and finds it indexed.

    With --serve, the searches are yours: a page in the browser, until Ctrl-C.
    """
    if is_served:
        require_extra("serve", "fastapi", "prometheus_client", "sqlglot", "uvicorn")
        if as_json:
            stop_for_usage("--serve shows a page and --json prints the tour: pass one of them")
    from fashionclip.index import Index
    from fashionclip.sample import sample_products, write_sample_catalog
    from fashionclip.store import open_store

    begun = perf_counter()
    store = folder / "shop.lance"

    def say(text: str) -> None:
        if not as_json:  # the text is the command's output, so it goes to stdout
            click.echo(text)

    say(f"Generating {n_products:,} products in {folder}/\n")
    table = write_sample_catalog(folder, n_products=n_products)
    shutil.copyfile(LABELS, folder / "labels.txt")
    if not as_json:
        terminal.show_command(f"fashionclip index {table} --into {store}")
    model = open_model(None)
    report = _index(table, model, store)
    if not as_json:
        say_report(report)
    if is_served:
        _serve(store, folder / "service.log")
        return
    say("")
    index = Index(open_store(store), model=model)
    queries = queries_for(sample_products(n_products), folder)
    searches = [_search(query, index, store, as_json=as_json) for query in queries]
    page = _write_page(queries[1], index, folder / "hits.html")
    tagged = _tag(index, model, store, folder / "labels.txt", as_json=as_json)
    if as_json:
        terminal.write_json(
            {
                "folder": str(folder),
                "index": report_fields(report, str(store)),
                "searches": searches,
                "tags": [product.as_row() for product in tagged],
                "page": str(page),
            }
        )
    else:
        say(NEXT.format(folder=folder, store=store, page=page))
    terminal.say_counts(
        f"{report.count:,} products indexed",
        f"{len(searches)} searches",
        f"{len(tagged)} products tagged",
        seconds=perf_counter() - begun,
    )


def _index(table: Path, model: "FashionCLIP", store: Path) -> "IndexReport":
    """Index the catalogue; anew if the built-in model of an older version made its index."""
    from fashionclip.errors import ModelMismatchError

    catalog = open_catalog(str(table))
    try:
        return embed(catalog, model, str(store))
    except ModelMismatchError:
        shutil.rmtree(store)
        return embed(catalog, model, str(store))


def _search(query: Query, index: "Index", store: Path, *, as_json: bool) -> dict[str, object]:
    """Run one search and show it."""
    results = query.search(index).results
    words = query.command_line(store)
    if not as_json:
        click.secho(f"# {query.remark}", dim=True)
        terminal.show_command(words)
        if not results.n_relevant:
            click.echo(nothing_fits(query.text))
        show_hits(results, index.meta.roles)
    hits = [hit_fields(hit) for hit in results.hits]
    return {"search": words, "n_relevant": results.n_relevant, "hits": hits}


def _write_page(query: Query, index: "Index", path: Path) -> Path:
    """Write the hits of a text, without its filter, as a page of images."""
    from fashionclip.images.fetch import FetchPolicy

    hits = index.search(query.text, k=N_PAGE_HITS)
    policy = FetchPolicy()
    write_page(
        path, hits.results, index.store, heading=query.text, facts=[], image=None, policy=policy
    )
    return path


def _tag(
    index: "Index", model: "FashionCLIP", store: Path, labels: Path, *, as_json: bool
) -> "list[TaggedProduct]":
    """Tag the first products and show them."""
    from fashionclip.product import Reject
    from fashionclip.tagging import read_labels, tag_index

    items = islice(tag_index(index.store, model, read_labels(labels)), N_TAGGED)
    tagged = [item for item in items if not isinstance(item, Reject)]
    if not as_json:
        found = [index.get(product.product_id) for product in tagged]
        titles = {hit.product_id: str(hit.columns["title"]) for hit in found}
        click.secho("# your own labels, without training", dim=True)
        terminal.show_command(f"fashionclip tag {store} --labels {labels}")
        show_tags(tagged, len(tagged), titles=titles)
    return tagged


def _serve(store: Path, log: Path) -> None:
    """Serve the search page until Ctrl-C, and open it where there is a browser."""
    from fashionclip.serve.settings import Settings
    from fashionclip.serve.workers import serve

    def show(address: str) -> None:
        click.echo(f"\nThe search page is at {address}\nCtrl-C stops it. Its log is {log}")
        subprocess.Popen(  # a browser for terminals would take this one
            [sys.executable, "-m", "webbrowser", "-t", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the service
        )

    with _stderr_in(log):
        serve(store, Settings(port=0), on_address=show)
    click.echo("stopped")


@contextmanager
def _stderr_in(path: Path) -> Iterator[None]:
    """Let this process and those that it starts write their stderr into a file."""
    sys.stderr.flush()
    before = os.dup(STDERR)
    with path.open("ab") as log:
        os.dup2(log.fileno(), STDERR)
    try:
        yield
    finally:
        os.dup2(before, STDERR)
        os.close(before)
