"""``fashionclip demo``: the whole of it in a few seconds, on a catalogue that is drawn."""

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
    from fashionclip.index import Index
    from fashionclip.model import FashionCLIP
    from fashionclip.product import Hit

SHOWN_HITS = 4
SHOWN_TAGS = 6
PAGE_HITS = 24
NEXT = """Next:
  open {page} in a browser: a search as a page of pictures
  fashionclip search {store} "your own words"
  fashionclip index your-products.csv --images your-photos/ --into your-shop.lance
  fashionclip --help
"""
LABELS = """\
# One label a line; [name] begins a set. Give it to: fashionclip tag --labels labels.txt
[kind]
t-shirt
shirt
sweater
dress
skirt
trousers
jeans
shoes
bag
cap

[pattern]
plain
striped
checked
dotted
floral
"""
"""The label sets of the demo, written beside its catalogue."""


@dataclass(frozen=True, slots=True)
class Question:
    """A search of the demo, as one would type it."""

    text: str | None = None
    avoid: tuple[str, ...] = ()
    where: str | None = None
    similar_to: str | None = None

    def words(self, store: Path) -> str:
        """The command line that asks it."""
        parts = [f"fashionclip search {store}"]
        parts += [f'"{self.text}"'] if self.text else []
        parts += [f'--not "{phrase}"' for phrase in self.avoid]
        parts += [f'--where "{self.where}"'] if self.where else []
        parts += [f"--similar-to {self.similar_to}"] if self.similar_to else []
        return " ".join([*parts, f"--k {SHOWN_HITS}"])

    def ask(self, index: "Index", model: "FashionCLIP", *, k: int = SHOWN_HITS) -> "list[Hit]":
        """Ask an index.

        Raises:
            FashionCLIPError: as ``search``.
        """
        from fashionclip.search import search

        return search(
            index,
            model,
            text=self.text,
            avoid=self.avoid,
            where=self.where,
            similar_to=self.similar_to or (),
            k=k,
        )


QUESTIONS = (
    Question("red dress"),
    Question("striped shirt", where="price < 60 and gender = 'Women'"),
    Question("blue jeans", avoid=("skirt",)),
    Question(similar_to="S0002"),
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
    help="Folder for the catalogue and its index; made if it is not there.",
)
@click.option(
    "--products",
    "n_products",
    type=click.IntRange(min=20, max=20_000),
    default=240,
    show_default=True,
    metavar="N",
    help="How many products are drawn.",
)
@json_option
def command(folder: Path, n_products: int, as_json: bool) -> None:
    """Draw a sample catalogue, index it with the built-in model, search it and tag it.

    Needs no network and no GPU, and takes a few seconds. Run it again and it draws the same
    catalogue and finds it indexed.
    """
    from fashionclip.errors import ModelMismatchError
    from fashionclip.index import Index
    from fashionclip.product import Reject
    from fashionclip.tagging import read_labels, tag_index

    begun = perf_counter()
    store, labels, page = folder / "shop.lance", folder / "labels.txt", folder / "hits.html"
    say = no_talk if as_json else click.echo  # all of it is for people, so all of it is data
    type_in = no_talk if as_json else terminal.show_command
    say(f"Drawing {n_products:,} products into {folder}/\n")
    table = draw(folder, n_products)
    labels.write_text(LABELS, encoding="utf-8")

    type_in(f"fashionclip index {table} --into {store}")
    catalog = open_catalog(str(table), images=None, columns={}, allow_private=False)
    model = open_model(None)
    try:
        report = embed(catalog, model, store)
    except ModelMismatchError:  # the built-in model of an older fashionclip; the store is ours
        shutil.rmtree(store)
        report = embed(catalog, model, store)
    if not as_json:
        say_report(report, store)
    say("")
    searches = []
    index = Index.open(store)
    for question in QUESTIONS:
        hits = question.ask(index, model)
        searches.append({"search": question.words(store), "hits": [hit_fields(h) for h in hits]})
        if not as_json:
            type_in(question.words(store))
            show_hits(hits)
        if question is QUESTIONS[0]:
            picture_page(page, question, index, model)

    type_in(f"fashionclip tag {store} --labels {labels}")
    label_sets = read_labels(labels)
    items = islice(tag_index(index, model, label_sets), SHOWN_TAGS)
    tagged = [item for item in items if not isinstance(item, Reject)]
    if as_json:
        terminal.write_json(
            {
                "folder": str(folder),
                "index": report_fields(report, store),
                "searches": searches,
                "tags": [product.as_row() for product in tagged],
                "page": str(page),
            }
        )
    else:
        found = {product.product_id: index.get(product.product_id)[1] for product in tagged}
        titles = {product_id: str(hit.columns["title"]) for product_id, hit in found.items()}
        show_tags(tagged, len(tagged), titles=titles)
        say(NEXT.format(store=store, page=page))
    terminal.say_counts(
        f"{report.count:,} products indexed",
        f"{len(searches)} searches",
        f"{len(tagged)} products tagged",
        seconds=perf_counter() - begun,
    )


def draw(folder: Path, n_products: int) -> Path:
    """Draw the sample catalogue.

    Returns:
        Its table.

    Raises:
        OSError: the folder cannot be written.
    """
    from fashionclip.sample import write_sample_catalog

    return write_sample_catalog(folder, n_products=n_products)


def picture_page(page: Path, question: "Question", index: "Index", model: "FashionCLIP") -> None:
    """Write a page of pictures for a question.

    Raises:
        OSError: the file cannot be written.
    """
    from fashionclip.images.fetch import FetchPolicy

    write_page(
        page,
        question.ask(index, model, k=PAGE_HITS),
        index,
        heading=question.text or "",
        facts=[],
        picture=None,
        policy=FetchPolicy(),
    )


def no_talk(text: str) -> None:
    """Say nothing: the output is for a program."""
