"""``fashionclip embed``: write the vectors of products, images or texts to a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from fashionclip.atomic import whole_file
from fashionclip.cli import terminal
from fashionclip.cli.options import (
    CatalogOptions,
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
from fashionclip.rejects import RejectsFile, rejects_beside

if TYPE_CHECKING:
    import numpy as np

    from fashionclip.model import FashionCLIP

VECTORS_PER_ROW_GROUP = 1024  # of a Parquet file


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
    help="Where the vectors go: .npz (ids, vectors, model) or .parquet (one row per vector).",
)
@click.option(
    "--text", "texts", multiple=True, metavar="WORDS", help="Also embed this text. Repeatable."
)
@catalog_options
@model_options
@batch_option
@json_option
def command(
    paths: Sequence[str],
    place: Path,
    texts: Sequence[str],
    reading: CatalogOptions,
    model_name: str | None,
    device: str,
    precision: str,
    batch_size: int,
    as_json: bool,
) -> None:
    """Write the vectors of a catalogue's images, of image files, or of texts to a file.

    Vectors are float32 of unit length, so their dot product is their cosine. A row that cannot be
    embedded is listed in the rejects file instead.
    """
    if not (paths or texts):
        stop_for_usage("name a catalogue, image files, or --text WORDS")
    from fashionclip.catalog.faults import read_faults
    from fashionclip.product import Product, Reject

    begun = perf_counter()
    rows: Iterable[Product | Reject]
    if is_catalog(paths):
        rows = open_catalog(paths[0], reading)
        n_rows = rows.len_hint
    else:
        rows = (Product(path, "", path, row, {}) for row, path in enumerate(paths, start=1))
        n_rows = len(paths)
    model = open_model(model_name, device=device, precision=precision)
    with (
        whole_file(place) as part,
        RejectsFile(rejects_beside(place), keep_empty=False) as rejects,
    ):
        writer = VectorFile(part, model, is_parquet=place.suffix.lower() == ".parquet")
        with terminal.progress("Embedding", total=n_rows, noun="images") as update:
            for item in model.iter_products(rows, batch_size=batch_size, policy=reading.policy):
                if isinstance(item, Reject):
                    rejects.add(item)
                else:
                    writer.write([item[0].product_id], item[1][None])
                update(writer.count + rejects.count, rejects.count, None)
        if texts:
            writer.write(texts, model.encode_text(texts))
        writer.close()
    if rejects.count:
        terminal.say_faults(read_faults(rejects.path))
    if as_json:
        terminal.write_json(
            {
                "vectors": str(place),
                "embedded": writer.count,
                "dim": model.dim,
                "model": model.name,
                "rejected": rejects.count,
                "rejects": str(rejects.path) if rejects.count else None,
                "seconds": round(perf_counter() - begun, 3),
            }
        )
    terminal.say_counts(
        f"{terminal.counted(writer.count, 'vector')} of {model.dim} numbers in {place}",
        f"{rejects.count:,} rejected (see {rejects.path})" if rejects.count else "",
        seconds=perf_counter() - begun,
    )
    if not writer.count:
        click.get_current_context().exit(1)


def is_catalog(paths: Sequence[str]) -> bool:
    """Whether the paths name one catalogue instead of image files."""
    from fashionclip.catalog.tables.formats import names_table

    return len(paths) == 1 and (names_table(paths[0]) or Path(paths[0]).is_dir())


class VectorFile:
    """A file of ids and vectors, with the model's name and fingerprint.

    Parquet is written in row groups; an .npz is kept in memory and written by ``close``.
    """

    def __init__(self, path: Path, model: "FashionCLIP", *, is_parquet: bool) -> None:
        """Open the file; nothing is written yet."""
        self.count = 0
        """Number of vectors."""
        self._path, self._dim = path, model.dim
        self._model = {"model": model.name, "fingerprint": model.fingerprint}
        self._ids: list[str] = []
        self._vectors: list[np.ndarray] = []
        self._parquet = self._open_parquet() if is_parquet else None

    def _open_parquet(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        import pyarrow as pa
        import pyarrow.parquet as pq

        vector = pa.list_(pa.float32(), self._dim)
        fields = [("id", pa.string()), ("vector", vector)]
        return pq.ParquetWriter(self._path, pa.schema(fields, metadata=self._model))

    def write(self, ids: Sequence[str], vectors: "np.ndarray") -> None:
        """Add vectors ``(n, dim)`` with n ids."""
        self._ids.extend(ids)
        self._vectors.append(vectors)
        self.count += len(ids)
        if self._parquet is not None and len(self._ids) >= VECTORS_PER_ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the rest."""
        self._flush()
        if self._parquet is not None:
            self._parquet.close()

    def _flush(self) -> None:
        import numpy as np

        vectors = np.concatenate([np.empty((0, self._dim), np.float32), *self._vectors])
        if self._parquet is None:
            arrays: dict[str, Any] = {name: np.array(text) for name, text in self._model.items()}
            with self._path.open("wb") as file:
                np.savez(file, ids=np.array(self._ids, dtype=np.str_), vectors=vectors, **arrays)
        elif self._ids:
            import pyarrow as pa

            flat = pa.array(vectors.reshape(-1), type=pa.float32())
            columns = [
                pa.array(self._ids, pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, self._dim),
            ]
            self._parquet.write_table(pa.table(columns, schema=self._parquet.schema))
        self._ids, self._vectors = [], []
