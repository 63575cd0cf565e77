"""``fashionclip switch``: let an alias stand for another index."""

from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import examples, json_option, storage_option


@click.command(
    epilog=examples(
        "$ fashionclip switch shop.alias shop-v1.lance",
        "$ fashionclip serve shop.alias &",
        "$ fashionclip index catalog.csv --into shop-v2.lance --model ./tuned",
        "$ fashionclip migration shop-v1.lance shop-v2.lance --html moved.html",
        "$ fashionclip switch shop.alias shop-v2.lance",
    )
)
@click.argument("alias", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("store")
@storage_option
@json_option
def command(alias: Path, store: str, storage_options: Mapping[str, str], as_json: bool) -> None:
    """Let ALIAS, a small file NAME.alias, stand for the index in STORE.

    An alias may be named wherever an index is: 'fashionclip search shop.alias dress'. Services over
    it go with it to the new index within a second and the time that opening takes, and lose no
    request. The index and its model are opened first; if that fails, nothing changes. To go back,
    switch to the old index.
    """
    from fashionclip.errors import StoreError
    from fashionclip.store import shown_uri
    from fashionclip.store.alias import resolve, write_alias

    old = None
    with suppress(StoreError):  # there is none yet, or it is damaged
        old = shown_uri(resolve(alias))
    n_products, model = _open(store, storage_options)
    write_alias(alias, store)
    new = shown_uri(resolve(alias))
    if as_json:
        terminal.write_json({"old": old, "new": new, "products": n_products, "model": model})
    was = "" if old in {None, new} else f" instead of {old}"
    terminal.talk(f"{alias} stands for {new}{was}: {n_products:,} products, model {model}")


def _open(store: str, storage_options: Mapping[str, str]) -> tuple[int, str]:
    """How many products an index has, and its model's name, after both were opened.

    Raises:
        FashionCLIPError: one of them cannot be opened.
        StoreError: the index is empty.
    """
    from fashionclip.errors import StoreError
    from fashionclip.index import Index
    from fashionclip.store import open_store, shown_uri

    with closing(open_store(store, storage_options=storage_options)) as opened:
        index = Index(opened)
        if len(index):
            return len(index), index.model.name
    message = f"the index {shown_uri(store)} holds no product: index a catalogue into it first"
    raise StoreError(message)
