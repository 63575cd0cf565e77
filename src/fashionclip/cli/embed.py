"""``fashionclip embed``: the vectors of products, pictures or words, in a file."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fashionclip.atomic import whole_file
from fashionclip.cli import terminal
from fashionclip.cli.options import (
    OutputFile,
    batch_option,
    catalog_options,
    examples,
    json_option,
    model_options,
    open_catalog,
    open_model,
    stop_for_usage,
)
from fashionclip.cli.vectors import open_vectors
from fashionclip.rejects import RejectsFile, rejects_beside

if TYPE_CHECKING:
    import numpy as np

    from fashionclip.catalog import Catalog
    from fashionclip.model import FashionCLIP
    from fashionclip.product import Product, Reject

TABLES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet")
"""What a single path ends in, if it is a catalogue and no picture."""


@click.command(
    epilog=examples(
        "$ fashionclip embed products.csv --images photos/ --out vectors.parquet",
        "$ fashionclip embed a.jpg b.jpg https://example.com/c.jpg --out vectors.npz",
        '$ fashionclip embed --text "red dress" --text "blue jeans" --out words.npz --json',
        "$ python -c \"import numpy; print(numpy.load('vectors.npz')['vectors'].shape)\"",
    )
)
@click.argument("paths", nargs=-1, metavar="[CATALOG|FILES...]")
@click.option(
    "--out",
    "place",
    type=OutputFile(".npz", ".parquet"),
    required=True,
    metavar="FILE",
    help="Where the vectors go: .npz (ids, vectors, model) or .parquet (a row a vector).",
)
@click.option("--text", "texts", multiple=True, metavar="WORDS", help="Words too. Repeatable.")
@catalog_options
@model_options
@batch_option
@json_option
def command(
    paths: Sequence[str],
    place: Path,
    texts: Sequence[str],
    images: str | None,
    columns: Mapping[str, Sequence[str]],
    allow_private: bool,
    model_name: str | None,
    device: str,
    precision: str,
    batch_size: int,
    as_json: bool,
) -> None:
    """Write the vectors of a catalogue's pictures, of picture files, or of words to a file.

    Vectors are float32 of unit length, so their product is their cosine. A row that cannot be
    embedded is not in the file; it is listed among the rejects.
    """
    if not (paths or texts):
        stop_for_usage("name a catalogue, pictures, or --text WORDS")
    begun = perf_counter()
    source: Catalog | Sequence[str] = paths
    if is_catalog(paths):
        source = open_catalog(paths[0], images=images, columns=columns, allow_private=allow_private)
    model = open_model(model_name, device=device, precision=precision)
    rejects: list[Reject] = []
    with whole_file(place) as part:
        writer = open_vectors(part, model, suffix=place.suffix.lower())
        with terminal.progress("Embedding", total=length_of(source), noun="pictures") as update:
            pictures = embed_pictures(
                source, model, rejects, batch_size=batch_size, allow_private=allow_private
            )
            for product_id, vector in pictures:
                writer.write([product_id], vector[None])
                update(writer.count + len(rejects), len(rejects), None)
        if texts:
            writer.write(texts, model.encode_text(texts))
        writer.close()
    rejects_path = rejects_beside(place)
    with RejectsFile(rejects_path, keep_empty=False) as file:
        for reject in rejects:
            file.add(reject)
    if rejects:
        terminal.say_rejects(rejects_path, len(rejects))
    if as_json:
        terminal.write_json(
            {
                "vectors": str(place),
                "embedded": writer.count,
                "dim": model.dim,
                "model": model.name,
                "rejected": len(rejects),
                "rejects": str(rejects_path) if rejects else None,
                "seconds": round(perf_counter() - begun, 3),
            }
        )
    terminal.say_counts(
        f"{terminal.counted(writer.count, 'vector')} of {model.dim} numbers in {place}",
        f"{len(rejects):,} rejected (see {rejects_path})" if rejects else "",
        seconds=perf_counter() - begun,
    )
    if not writer.count:
        click.get_current_context().exit(1)


def is_catalog(paths: Sequence[str]) -> bool:
    """Whether the paths name one catalogue, and no pictures."""
    if len(paths) != 1:
        return False
    name = paths[0].lower().removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    return name.endswith(TABLES) or Path(paths[0]).is_dir()


def length_of(source: "Catalog | Sequence[str]") -> int:
    """How many pictures there are to embed, those that will be rejected included."""
    return len(source) if isinstance(source, Sequence) else source.len_hint


def embed_pictures(
    source: "Catalog | Sequence[str]",
    model: "FashionCLIP",
    rejects: list["Reject"],
    *,
    batch_size: int,
    allow_private: bool,
) -> "Iterator[tuple[str, np.ndarray]]":
    """Encode the pictures of a catalogue, or picture files, as a stream.

    Args:
        source: the catalogue, or paths and addresses.
        model: encodes the pictures.
        rejects: takes what cannot be encoded.
        batch_size: pictures the model takes at once.
        allow_private: fetch from addresses inside this network too.

    Yields:
        Id (for a file: its path) and vector of each picture that could be encoded, in order.

    Raises:
        CatalogError: the table cannot be read on.
    """
    from fashionclip.errors import FashionCLIPError
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.product import Product, Reject, as_reject

    asked: deque[Product] = deque()

    def images() -> Iterator[str | bytes]:
        for product in products_of(source):
            if isinstance(product, Reject):
                rejects.append(product)
            elif product.image is None:
                rejects.append(as_reject(product, "the row names no image"))
            else:
                asked.append(product)
                yield product.image

    policy = FetchPolicy(allow_private=allow_private)
    for vector in model.iter_images(images(), batch_size=batch_size, policy=policy):
        product = asked.popleft()
        if isinstance(vector, FashionCLIPError):
            rejects.append(as_reject(product, str(vector)))
        else:
            yield product.product_id, vector


def products_of(source: "Catalog | Sequence[str]") -> "Iterator[Product | Reject]":
    """Read a catalogue, or make a product of each picture file."""
    from fashionclip.product import Product

    if not isinstance(source, Sequence):
        yield from source
        return
    for row, path in enumerate(source, start=1):
        yield Product(product_id=path, caption="", image=path, row=row, columns={})
