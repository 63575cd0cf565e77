"""Photographs that people took of their own clothes, lying or hanging; ten kinds, CC0.

Source: Grigorev 2020, "Clothing dataset (full, high resolution)", github.com/alexeygrigorev/
clothing-dataset.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    class_labels,
    has_image,
    left_out,
)
from fashionclip.evaluate.tasks import ImageRef, Task, ZeroShot
from fashionclip.metrics import percentile

N_LABELS = 10
UNSEEN_BELOW, DEVELOPMENT_FROM = 10, 80
"""Senders with percentiles below are held out of the built-in model, from the other on they are
for choosing prompts."""
_NO_LABEL = frozenset({"", "not sure", "skip", "other"})
_TABLES = ("labels.csv", "images.csv")
_FOLDERS = ("", "images", "images_original", "images_compressed")
_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "T-Shirt": ("t-shirt", "tee"),
        "Pants": ("trousers", "pants"),
        "Longsleeve": ("long-sleeved top", "long-sleeved t-shirt", "pullover"),
        "Shoes": ("shoes", "pair of shoes", "sneakers"),
        "Outwear": ("jacket", "coat", "outerwear"),
        "Hat": ("hat", "cap"),
        "Shirt": ("shirt", "button-up shirt"),
        "Blazer": ("blazer", "suit jacket"),
        "Undershirt": ("undershirt", "tank top"),
        "Polo": ("polo shirt",),
        "Hoodie": ("hoodie", "hooded sweatshirt"),
        "Body": ("bodysuit", "baby bodysuit"),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class _Photograph:
    image: ImageRef
    label: str
    sender: int
    """Percentile of the person who took it."""


class Clothing:
    """The ten commonest kinds of clothes, by all senders and by those held out."""

    name = "clothing"
    title = "clothing photographs of many people"
    how_to_get = (
        "clone github.com/alexeygrigorev/clothing-dataset into DIR/clothing, so that it holds "
        "images/ and images.csv or labels.csv"
    )
    places: tuple[str, ...] = ("clothing", "clothing-dataset")

    def load(self, folder: Path) -> Loaded:
        """Read the photographs of the ten commonest labels.

        Raises:
            BenchmarkError: the table is missing or another one, or no picture is there.
        """
        photographs = self._read(folder)
        missing = [p.image.image_id for p in photographs if not has_image(p.image)]
        gone = set(missing)
        there = [p for p in photographs if p.image.image_id not in gone]
        counts = Counter(p.label for p in there)
        if len(counts) < 2:
            message = f"{self.name}: {folder} has pictures of {len(counts)} labels; "
            raise BenchmarkError(message + self.how_to_get)
        names = [name for name, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:N_LABELS]]
        kept = [p for p in there if p.label in set(names)]
        cut = f"The {len(names)} commonest of {len(counts)} labels: {len(kept):,} photographs."
        test = [p for p in kept if p.sender < DEVELOPMENT_FROM]
        unseen = [p for p in kept if p.sender < UNSEEN_BELOW]
        development = [p for p in kept if p.sender >= DEVELOPMENT_FROM]
        tasks: list[Task] = []
        if test:
            tasks.append(_task("clothing/label", names, test, development, (cut,)))
        if unseen:
            note = (
                "Only senders that the built-in model was not trained on: those whose MD5 (of s "
                f"and the number, modulo 100) is below {UNSEEN_BELOW}."
            )
            task = _task("clothing/held-out-senders", names, unseen, development, (cut, note))
            tasks.append(task)
        warnings = [left_out(missing, "picture", "no such file")] if missing else []
        return Loaded(tuple(tasks), tuple(warnings))

    def _read(self, folder: Path) -> list[_Photograph]:
        path = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
        if path is None:
            message = f"{self.name}: {folder} has neither labels.csv nor images.csv; "
            raise BenchmarkError(message + self.how_to_get)
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"image", "label", "sender_id"} <= rows[0].keys():
            message = f"{self.name}: {path} needs rows with image, label and sender_id; "
            raise BenchmarkError(message + self.how_to_get)
        return [
            _Photograph(
                ImageRef(row["image"], _find(folder, row["image"])),
                row["label"],
                percentile("s" + row["sender_id"]),
            )
            for row in rows
            if row["label"].casefold() not in _NO_LABEL
        ]


def _find(folder: Path, name: str) -> Path:
    """``images.csv`` names pictures without folder and ending, ``labels.csv`` with them."""
    file = name if Path(name).suffix else f"{name}.jpg"
    places = [folder / sub / file for sub in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])


def _task(
    name: str,
    names: Sequence[str],
    test: Sequence[_Photograph],
    development: Sequence[_Photograph],
    notes: tuple[str, ...],
) -> ZeroShot:
    row = {label: number for number, label in enumerate(names)}
    where = f"the senders whose MD5 (of s and the number, modulo 100) is {DEVELOPMENT_FROM} or more"
    return ZeroShot(
        name=name,
        classes=class_labels(names, _WORDS),
        images=tuple(p.image for p in test),
        labels=np.array([row[p.label] for p in test], dtype=np.int64),
        development=where if development else "",
        development_images=tuple(p.image for p in development),
        development_labels=np.array([row[p.label] for p in development], dtype=np.int64),
        notes=notes,
    )
