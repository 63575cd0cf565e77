"""``fashionclip demo``: index, search and tag a sample catalogue in a few seconds."""

import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.hits import show_hits, write_page
from fashionclip.cli.index import embed, report_fields, say_report
from fashionclip.cli.options import examples, json_option, open_catalog, open_model
from fashionclip.cli.tag import show_tags
from fashionclip.product import hit_fields

if TYPE_CHECKING:
    from fashionclip.index import Hits, Index

N_HITS = 4
N_TAGGED = 6
N_PAGE_HITS = 24
NEXT = """Next:
  open {page} in a browser: a search as a page of images
  fashionclip search {store} "your own words"
  fashionclip index your-products.csv --images your-photos/ --into your-shop.lance
  fashionclip --help
"""
LABELS = Path(__file__).parent / "templates" / "labels.txt"
"""The label sets of the demo, copied beside its catalogue."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search of the demo."""

    text: str | None = None
    avoid: tuple[str, ...] = ()
    where: str | None = None
    similar_to: str | None = None

    def command_line(self, store: Path) -> str:
        """The command that runs this search."""
        parts = [f"fashionclip search {store}"]
        parts += [f'"{self.text}"'] if self.text else []
        parts += [f'--not "{phrase}"' for phrase in self.avoid]
        parts += [f'--where "{self.where}"'] if self.where else []
        parts += [f"--similar-to {self.similar_to}"] if self.similar_to else []
        return " ".join([*parts, f"--k {N_HITS}"])

    def search(self, index: "Index", *, k: int = N_HITS) -> "Hits":
        """Search an index.

        Raises:
            FashionCLIPError: as ``Index.search``.
        """
        return index.search(
            self.text,
            avoid=self.avoid,
            where=self.where,
            similar_to=self.similar_to or (),
            k=k,
        )


QUERIES = (
    Query("black trousers"),
    Query("striped shirt", where="price < 60 and gender = 'Women'"),
    Query("blue jeans", avoid=("skirt",)),
    Query(similar_to="S0002"),
)


@click.command(
    epilog=examples(
        "$ fashionclip demo",
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
@json_option
def command(folder: Path, n_products: int, as_json: bool) -> None:
    """Generate a sample catalogue, index it with the built-in model, search it and tag it.

    Needs no network and no GPU, and takes a few seconds. A second run generates the same
    catalogue and finds it indexed.
    """
    from fashionclip.errors import ModelMismatchError
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.index import Index
    from fashionclip.product import Reject
    from fashionclip.sample import write_sample_catalog
    from fashionclip.store import open_store
    from fashionclip.tagging import read_labels, tag_index

    begun = perf_counter()
    store, labels, page = folder / "shop.lance", folder / "labels.txt", folder / "hits.html"

    def say(text: str) -> None:
        if not as_json:  # the text is the command's output, so it goes to stdout
            click.echo(text)

    def show_command(words: str) -> None:
        if not as_json:
            terminal.show_command(words)

    say(f"Generating {n_products:,} products in {folder}/\n")
    table = write_sample_catalog(folder, n_products=n_products)
    shutil.copyfile(LABELS, labels)

    show_command(f"fashionclip index {table} --into {store}")
    catalog = open_catalog(str(table))
    model = open_model(None)
    try:
        report = embed(catalog, model, str(store))
    except ModelMismatchError:  # the built-in model of an older version made this demo's index
        shutil.rmtree(store)
        report = embed(catalog, model, str(store))
    if not as_json:
        say_report(report)
    say("")
    searches = []
    index = Index(open_store(store), model=model)
    for query in QUERIES:
        hits = query.search(index)
        words = query.command_line(store)
        searches.append({"search": words, "hits": [hit_fields(hit) for hit in hits]})
        show_command(words)
        if not as_json:
            show_hits(hits.results, index.meta.roles)
    write_page(
        page,
        QUERIES[0].search(index, k=N_PAGE_HITS),
        index.store,
        heading=QUERIES[0].text or "",
        facts=[],
        image=None,
        policy=FetchPolicy(),
    )

    show_command(f"fashionclip tag {store} --labels {labels}")
    items = islice(tag_index(index.store, model, read_labels(labels)), N_TAGGED)
    tagged = [item for item in items if not isinstance(item, Reject)]
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
        found = [index.get(product.product_id) for product in tagged]
        titles = {hit.product_id: str(hit.columns["title"]) for hit in found}
        show_tags(tagged, len(tagged), titles=titles)
        say(NEXT.format(store=store, page=page))
    terminal.say_counts(
        f"{report.count:,} products indexed",
        f"{len(searches)} searches",
        f"{len(tagged)} products tagged",
        seconds=perf_counter() - begun,
    )
