"""Prepare the training data of the built-in model: one table, its images, a start, a teacher.

    python projects/builtin/prepare.py --kagl DIR --clothing DIR --into OUT

writes ``OUT/catalog.parquet`` and, beside it, ``images/`` (the images that are derived),
``start/`` (the checkpoint to train from) and, with a teacher, ``patch-targets.npy`` and
``soft-labels.parquet``. ``fashionclip train projects/builtin/recipe.toml`` trains on them.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from labels import category_names
from languages import LANGUAGES, translated_phrase
from sources import (
    ATTRIBUTES,
    CATEGORY_ATTRIBUTES,
    Row,
    encode_image,
    generated_rows,
    has_shoe_kind,
    make_image,
    rare_rows,
    read_clothing,
    read_kagl,
    read_secondhand,
    read_womens,
    recoloured_rows,
    repeated_rows,
    sample_phrase,
    scene_rows,
    thumbnail_rows,
    window_rows,
)
from start import write_start

from fashionclip.atomic import write_whole
from fashionclip.metrics import percentile
from fashionclip.text.captions import build_caption

N_PHRASES = 8
"""Short captions made of each row's attributes."""
MIN_LABELS = 10
"""A value that fewer rows have is left out of the attribute columns."""
RARE_BELOW = 150
"""Products of a category that has fewer of them are rare."""
N_THUMBNAILS = 2
"""Of each second-hand garment."""
RARE_SEED = 100
"""The first seed of what is derived from rare products; no other rows have it."""


def main() -> None:
    """Read the arguments; write everything that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kagl", type=Path, help="styles.csv and images/")
    parser.add_argument("--clothing", type=Path, required=True, help="labels.csv and images/")
    parser.add_argument("--womens", type=Path, help="products.csv and images/")
    parser.add_argument("--secondhand", type=Path, help="labels.csv and images/")
    parser.add_argument("--into", type=Path, required=True, help="folder to write")
    parser.add_argument("--generated", type=int, default=8000, help="generated products")
    parser.add_argument("--recoloured", type=int, default=33, help="percent of KAGL's products")
    parser.add_argument("--scenes", type=int, default=100, help="percent of products on white")
    parser.add_argument(
        "--windows",
        type=int,
        default=3,
        help="of each photograph; twice as many of each women's product",
    )
    parser.add_argument(
        "--rare",
        type=int,
        default=0,
        help="times products of rare categories come again",
    )
    parser.add_argument(
        "--thumbnails",
        type=int,
        default=0,
        help="percent of KAGL's products that come as small grey pictures too, each time that "
        "second-hand garments do",
    )
    parser.add_argument("--sets", type=int, default=1, help="times windows and scenes are sampled")
    parser.add_argument("--no-teacher", action="store_true", help="write no teacher's targets")
    parser.add_argument("--random-vision", action="store_true", help="start from random weights")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = collect_rows(args)
    args.into.mkdir(parents=True, exist_ok=True)
    paths = write_images(rows, args.into / "images")
    rng = np.random.default_rng(args.seed)
    phrases = [[sample_phrase(row, rng) for _ in range(N_PHRASES)] for row in rows]
    write_table(rows, paths, phrases, args.into / "catalog.parquet")
    texts = [build_caption(row.highlights, row.title) for row in rows if row.title]
    texts += [phrase for some in phrases for phrase in some]
    texts += [row.description for row in rows if row.description and not row.is_derived]
    texts += translations(rows, rng)
    write_start(args.into / "start", texts, seed=args.seed, is_pretrained=not args.random_vision)
    if not args.no_teacher:
        write_teacher(rows, paths, args.into)
    print(f"{len(rows):,} rows in {args.into / 'catalog.parquet'}")


def collect_rows(args: argparse.Namespace) -> list[Row]:
    """The rows of all sources and those derived from them."""
    clothing = list(read_clothing(args.clothing))
    kagl = list(read_kagl(args.kagl)) if args.kagl else []
    womens = list(read_womens(args.womens)) if args.womens else []
    secondhand = list(read_secondhand(args.secondhand)) if args.secondhand else []
    whole = [*kagl, *clothing, *womens, *secondhand, *generated_rows(args.generated)]
    some = [row for row in kagl if percentile(f"recoloured {row.row_id}") < args.recoloured]
    on_white = [*kagl, *secondhand]
    derived = recoloured_rows([*some, *secondhand], seed=args.seed) if args.recoloured else []
    for seed in range(args.sets):
        derived += window_rows(clothing, args.windows, seed=seed)
        derived += window_rows(womens, 2 * args.windows, seed=seed)
        pasted = [row for row in on_white if percentile(f"{seed} {row.row_id}") < args.scenes]
        derived += scene_rows(pasted, clothing, seed=seed)
    rare = rare_rows(kagl, RARE_BELOW)
    others = [*rare_rows(womens, RARE_BELOW), *rare_rows(clothing, RARE_BELOW)]
    for seed in range(RARE_SEED, RARE_SEED + args.rare):
        derived += repeated_rows([*rare, *others], seed=seed)
        derived += recoloured_rows(rare, seed=seed)
        derived += scene_rows(rare, clothing, seed=seed)
    for seed in range(N_THUMBNAILS if args.thumbnails else 0):
        shown = [
            row
            for row in kagl
            if percentile(f"thumbnail {seed} {row.row_id}") < args.thumbnails or has_shoe_kind(row)
        ]
        derived += thumbnail_rows([*shown, *secondhand], seed=seed)
    return [*whole, *derived]


def translations(rows: Iterable[Row], rng: np.random.Generator) -> list[str]:
    """A phrase for each product in each other language, so that the vocabulary has their words."""
    found = (
        translated_phrase(row.attributes, language, rng)
        for row in rows
        if not row.is_derived
        for language in LANGUAGES
    )
    return [pair[1] for pair in found if pair]


def write_images(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Make the images of derived rows, unless they are there; the files of all rows."""
    folder.mkdir(parents=True, exist_ok=True)

    def path_of(row: Row) -> Path:
        if not row.is_derived:
            assert row.file is not None
            return row.file.absolute()
        path = folder / f"{row.row_id}.jpg"
        if not path.exists():
            write_whole(path, encode_image(make_image(row)))
        return path.absolute()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(path_of, rows))


def write_table(
    rows: Sequence[Row], paths: Sequence[Path], phrases: Iterable[Sequence[str]], file: Path
) -> None:
    """Write the training table."""
    columns: dict[str, list[str]] = {
        "id": [row.row_id for row in rows],
        "image": [str(path) for path in paths],
        "title": [row.title or phrase[0] for row, phrase in zip(rows, phrases, strict=True)],
        "highlights": [json.dumps(row.highlights) for row in rows],
        "description": [row.description for row in rows],
        "phrases": [json.dumps(some) for some in phrases],
        "product": [row.product or row.row_id for row in rows],
    }
    columns |= {name: attribute_values(rows, name) for name in ATTRIBUTES}
    pq.write_table(pa.table(columns), file)


def attribute_values(rows: Sequence[Row], attribute: str) -> list[str]:
    """The values of an attribute by the names that prompts use; empty where unknown or rare.

    A value is rare that fewer than ``MIN_LABELS`` rows have.
    """
    values = [row.attributes.get(attribute, "") for row in rows]
    if attribute in CATEGORY_ATTRIBUTES:
        values = [category_names(value)[0] if value else "" for value in values]
    names, counts = np.unique(np.array(values, dtype=object).astype(str), return_counts=True)
    common = {str(name) for name, n in zip(names, counts, strict=True) if n >= MIN_LABELS}
    return [value if value in common else "" for value in values]


def write_teacher(rows: Sequence[Row], paths: Sequence[Path], folder: Path) -> None:
    """Write the teacher's targets: of patches, and of the two category attributes."""
    from teacher import soft_labels, write_patch_targets

    targets = write_patch_targets(paths, folder / "patch-targets.npy")
    groups = [str(row.file or row.row_id) for row in rows]
    columns: dict[str, object] = {"id": [row.row_id for row in rows]}
    for name in ("category", "garment"):
        labels = attribute_values(rows, name)
        for label, probabilities in soft_labels(targets, labels, groups).items():
            columns[f"{name}={label}"] = probabilities
    pq.write_table(pa.table(columns), folder / "soft-labels.parquet")


if __name__ == "__main__":
    main()
