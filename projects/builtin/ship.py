"""Make a checkpoint the built-in model: its files in the package, its weights in float16.

    python projects/builtin/ship.py runs/builtin-training/selected --table prepared/catalog.parquet

The tables are those of all runs that led to the checkpoint. The card stays as it is, since what it
says about training and limits is written by hand.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fashionclip.checkpoint import open_checkpoint, save_checkpoint
from fashionclip.evaluate.leakage import (
    TrainingData,
    digest_training_data,
    read_training_data,
    write_training_data,
)
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.train.data import open_data
from fashionclip.train.recipe import DataConfig

BUILTIN = Path(__file__).parents[2] / "src" / "fashionclip" / "builtin"
SCALE = "logit_scale"
"""The one weight that stays float32: a rounded temperature would change every probability."""


def main() -> None:
    """Read the arguments, copy the checkpoint, and say what ships now."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="folder of the selected checkpoint")
    parser.add_argument(
        "--table", type=Path, action="append", required=True, help="a training table; repeatable"
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="a checkpoint whose training data count too, if one was the start",
    )
    given = parser.parse_args()
    ship(given.checkpoint, given.table, BUILTIN, start=given.start)
    n_bytes = sum(path.stat().st_size for path in BUILTIN.iterdir())
    print(f"{open_checkpoint(BUILTIN).fingerprint}, {n_bytes / 1e6:.1f} MB")


def ship(source: Path, tables: Sequence[Path], into: Path, *, start: Path | None = None) -> None:
    """Write a checkpoint with weights in float16, and the digests of its training data.

    Args:
        source: the checkpoint's folder.
        tables: what it was trained on.
        into: the folder to write; a card in it is kept.
        start: a checkpoint that it was trained from, and whose training data it has seen.

    Raises:
        CheckpointError: the checkpoint cannot be read, or not written.
        CatalogError, EvaluationError: the tables cannot be read, or the digests not written.
    """
    checkpoint = open_checkpoint(source)
    weights = checkpoint.weights()
    layout = {name: (weights.shape(name), "F32" if name == SCALE else "F16") for name in weights}
    digests = digests_of(tables, start)
    save_checkpoint(checkpoint, into, weights=(layout, lambda name: np.asarray(weights[name])))
    write_training_data(digests, into)


def digests_of(tables: Sequence[Path], start: Path | None) -> TrainingData:
    """Digests of the photographs and the texts of tables, and those that a start knows.

    All rows count, also those that a run held out: another run may have seen them. Images in a
    table's own folder were drawn, or made of photographs that count themselves.

    Raises:
        CatalogError: a table cannot be read.
    """
    photographs: set[Path] = set()

    def samples() -> Iterator[tuple[ImageRef | None, list[str]]]:
        for table in tables:
            pairs = open_data(DataConfig(catalog=str(table)))
            for i in range(len(pairs)):
                pair, path = pairs[i], Path(pairs[i].location).resolve()
                is_new = path not in photographs and table.resolve().parent not in path.parents
                if is_new:
                    photographs.add(path)
                yield ImageRef(pair.pair_id, path) if is_new else None, [pair.caption, pair.title]

    found = digest_training_data(samples(), description="")
    if start and (earlier := read_training_data(start)):
        found = TrainingData.union([found, earlier])
    names = ", ".join(dict.fromkeys(table.name for table in tables))
    return replace(found, description=f"{len(found.images):,} photographs and all texts of {names}")


if __name__ == "__main__":
    main()
