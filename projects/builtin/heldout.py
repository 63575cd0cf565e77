"""Tables of what the built-in model is never trained on, as ``fashionclip evaluate`` takes them.

    python projects/builtin/heldout.py --womens DIR --secondhand DIR --into TABLES
    fashionclip evaluate --on TABLES/womens-garment.csv,TABLES/womens-title.csv --out runs/held-out

The tables are ``womens-garment``, ``womens-colour``, ``womens-title`` and ``secondhand-colour``.
The images stay where they are. The other sources are benchmarks of the package, which know what is
held out: ``kagl/held-out-colour-queries`` and its like, ``clothing/held-out-senders``.
"""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from labels import category_names
from sources import Row, read_secondhand, read_womens, womens_category

from fashionclip.atomic import write_whole

MIN_IMAGES = 10
"""A garment that fewer images show is no class."""
COLOURS = ("black", "white", "grey", "blue", "red", "green", "yellow", "pink", "brown", "beige")


def main() -> None:
    """Read the arguments; write the tables, and say what they hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--womens", type=Path, help="products.csv and images/")
    parser.add_argument("--secondhand", type=Path, help="labels.csv and images/")
    parser.add_argument("--into", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    args.into.mkdir(parents=True, exist_ok=True)
    if args.womens:
        rows = list(read_womens(args.womens, held_out=True))
        garments = [womens_category(row.title) for row in rows]
        counts = Counter(name for name in garments if name)
        classes = [name for name, n in sorted(counts.items()) if n >= MIN_IMAGES]
        write_labels(rows, garments, classes, args.into / "womens-garment.csv")
        write_colours(rows, args.into / "womens-colour.csv")
        write_titles(rows, args.into / "womens-title.csv")
    if args.secondhand:
        rows = list(read_secondhand(args.secondhand, held_out=True))
        write_colours(rows, args.into / "secondhand-colour.csv")


def write_colours(rows: Sequence[Row], file: Path) -> None:
    """Write a task of one in ten colours, of the rows that have one of them."""
    write_labels(rows, [row.attributes.get("colour", "") for row in rows], COLOURS, file)


def write_labels(
    rows: Sequence[Row], labels: Sequence[str], classes: Sequence[str], file: Path
) -> None:
    """Write a task of classification: a table, and beside it the classes with their synonyms.

    Args:
        rows: the images.
        labels: of the rows; those of another label than the classes are left out.
        classes: the labels.
        file: the CSV file to write.
    """
    names = {label: category_names(label) for label in classes}
    both = zip(rows, labels, strict=True)
    kept = [(row.file, names[label][0]) for row, label in both if label in names]
    listed = "".join(f"{' | '.join(words)}\n" for words in names.values())
    write_whole(file.with_suffix(".classes.txt"), listed.encode())
    _write(file, ("image", "label"), kept)
    print(f"{file}: {len(kept):,} of {len(rows):,} images, {len(names)} labels")


def write_titles(rows: Sequence[Row], file: Path) -> None:
    """Write a task of search: a title finds the images of products that have it."""
    _write(file, ("query", "image", "relevant"), ((row.title, row.file, 1) for row in rows))
    print(f"{file}: {len({row.title for row in rows}):,} titles, {len(rows):,} images")


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(
        [cell.absolute() if isinstance(cell, Path) else cell for cell in row] for row in rows
    )
    write_whole(file, text.getvalue().encode())


if __name__ == "__main__":
    main()
