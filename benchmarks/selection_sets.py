"""The sets that ``selection_evidence.py`` measures on: tables of images that a start has not seen.

Each table has the columns ``image``, ``label`` and ``split``; half of its images are for
development, half for the test. Images that the start was trained on, or near duplicates of them,
are left out, and then labels with too few images. None of the images belongs to the project: the
tables and the garments cut out of the street photographs stay in the folder of the runs.
"""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fashionclip.evaluate.benchmarks.base import label_words
from fashionclip.evaluate.benchmarks.kagl import UNSEEN_BELOW
from fashionclip.evaluate.cache import image_digest
from fashionclip.evaluate.leakage import LeakageCheck
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.metrics import percentile

MIN_IMAGES = 6  # of a label
MIN_PRODUCTS = 40  # of a product type of ``womens``, in the whole catalogue
MIN_CROPS = 40  # of a garment in the street photographs
MIN_SIDE_PX = 40  # of a garment cut out of a photograph
MARGIN = 0.08  # around it, of its own sides
NO_GARMENTS = frozenset({"null", "skin", "hair", "accessories", "intimate", "top"})
UNCERTAIN = frozenset({"", "not sure", "skip", "other", "outerwear"})  # labels that say too little


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image and its label."""

    image: Path
    words: tuple[str, ...]
    """The label, and synonyms."""
    group: str
    """Images of one group are all for development or all for the test."""


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def senders(data: Path, into: Path) -> list[Labelled]:
    """Amateur photographs of clothes."""
    words = label_words("clothing")
    return [
        Labelled(
            data / "clothing" / row["image"],
            tuple(words.get(row["label"], [row["label"].casefold()])),
            row["sender_id"],
        )
        for row in read_rows(data / "clothing" / "labels.csv")
        if row["label"].casefold() not in UNCERTAIN
    ]


def secondhand(data: Path, into: Path) -> list[Labelled]:
    """Second-hand garments laid flat, by type."""
    return [
        Labelled(data / "secondhand" / row["image"], (row["type"].casefold(),), row["image"])
        for row in read_rows(data / "secondhand" / "labels.csv")
        if row["type"].casefold() not in UNCERTAIN
    ]


def womens(data: Path, into: Path) -> list[Labelled]:
    """Products of a women's shop, by product type."""
    rows = read_rows(data / "womens" / "products.csv")
    same = {"Loungewear Set": "Lounge Set"}
    types = [same.get(row["product_type"], row["product_type"]) for row in rows]
    counts = Counter(types)
    return [
        Labelled(data / "womens" / row["image"], (kind.casefold(),), row["title"])
        for row, kind in zip(rows, types, strict=True)
        if kind and counts[kind] >= MIN_PRODUCTS
    ]


def kagl(data: Path, into: Path) -> list[Labelled]:
    """Products of brands that the built-in model has not seen, by article type."""
    words = label_words("kagl")["articleType"]
    return [
        Labelled(
            data / "kagl" / "images" / f"{row['id']}.jpg",
            tuple(words.get(row["articleType"], [row["articleType"].casefold()])),
            row["productDisplayName"],
        )
        for row in read_rows(data / "kagl" / "styles.csv")
        if percentile(row["brandName"].casefold()) < UNSEEN_BELOW
    ]


def street(data: Path, into: Path) -> list[Labelled]:
    """Garments cut out of photographs of people in a street, by the rectangle of their mask."""
    names = (data / "street" / "labels.txt").read_text(encoding="utf-8").split()
    folder = into / "street"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row in read_rows(data / "street" / "photos.csv"):
        with Image.open(data / "street" / row["mask"]) as file:
            mask = np.asarray(file)
        with Image.open(data / "street" / row["image"]) as file:
            photo = file.convert("RGB")
        for value in np.unique(mask).tolist():
            ys, xs = np.nonzero(mask == value)
            box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            sides = box[2:] - box[:2]
            if names[value] in NO_GARMENTS or sides.min() < MIN_SIDE_PX:
                continue
            margin = np.tile((MARGIN * sides).astype(int), 2) * (-1, -1, 1, 1)
            size = np.array([*photo.size, *photo.size])
            path = folder / f"{Path(row['image']).stem}-{names[value]}.jpg"
            if not path.exists():
                photo.crop(tuple(np.clip(box + margin, 0, size).tolist())).save(path, quality=90)
            found.append(Labelled(path, (names[value],), row["image"]))
    counts = Counter(one.words[0] for one in found)
    return [one for one in found if counts[one.words[0]] >= MIN_CROPS]


SOURCES: Mapping[str, Callable[[Path, Path], list[Labelled]]] = {
    "senders": senders,
    "secondhand": secondhand,
    "womens": womens,
    "street": street,
    "kagl": kagl,
}
"""By name. Further sets, such as ``fmnist``, are benchmarks of the package."""


def write_sets(
    names: Sequence[str], check: LeakageCheck, *, data: Path, into: Path
) -> tuple[list[str], list[str]]:
    """Write the tables of sets, each once.

    Args:
        names: of ``SOURCES`` or of the package's benchmarks.
        check: knows what the start was trained on.
        data: folder with the data.
        into: folder for the tables of this start.

    Returns:
        The sets as ``selection.sets`` takes them, and a note on each table.
    """
    sets, notes = [], []
    for name in names:
        if name not in SOURCES:
            sets.append(name)
            continue
        path, about = into / f"{name}.csv", into / f"{name}.txt"
        if not about.exists():
            about.write_text(write_table(SOURCES[name](data, into.parent), check, path), "utf-8")
        sets.append(str(path))
        notes.append(about.read_text("utf-8"))
    return sets, notes


def write_table(rows: Sequence[Labelled], check: LeakageCheck, path: Path) -> str:
    """Write a table of the rows that the start has not seen; returns a note on what it holds."""
    images = [ImageRef(str(row.image), row.image) for row in rows]
    seen = check.mark(images, [image_digest(image) for image in images]).tolist()
    unseen = [row for row, is_seen in zip(rows, seen, strict=True) if not is_seen]
    counts = Counter(row.words[0] for row in unseen)
    kept = [row for row in unseen if counts[row.words[0]] >= MIN_IMAGES]
    path.parent.mkdir(parents=True, exist_ok=True)
    classes = {row.words[0]: " | ".join(row.words) for row in kept}
    listed = "".join(f"{words}\n" for words in sorted(classes.values()))
    path.with_suffix(".classes.txt").write_text(listed, "utf-8")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split"])
        for row in kept:
            part = "development" if percentile(f"split {row.group}") < 50 else "test"
            writer.writerow([row.image.absolute(), row.words[0], part])
    return (
        f"{path.stem}: {len(kept):,} images of {len(classes)} labels, without {sum(seen):,} that "
        f"the start has seen and {len(unseen) - len(kept):,} of rare labels"
    )
