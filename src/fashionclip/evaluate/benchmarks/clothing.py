"""Photographs that people took of their own clothes, lying or hanging; ten classes, CC0.

Source: Grigorev 2020, "Clothing dataset (full, high resolution)", github.com/alexeygrigorev/
clothing-dataset.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    class_labels,
    label_words,
    refuse,
    split_missing,
    zero_shot_task,
)
from fashionclip.evaluate.tasks import ImageRef, Task
from fashionclip.metrics import percentile

N_LABELS = 10
UNSEEN_BELOW, DEVELOPMENT_FROM = 10, 80
"""Senders with percentiles below the first are held out of the built-in model's training; those
from the second on are for choosing prompts."""
_NO_LABEL = frozenset({"", "not sure", "skip", "other"})
_TABLES = ("labels.csv", "images.csv")
_FOLDERS = ("", "images", "images_original", "images_compressed")


@dataclass(frozen=True, slots=True, eq=False)
class _Photo:
    image: ImageRef
    label: str
    sender: int
    """Percentile of the person who took it."""


class Clothing:
    """The ten commonest classes, of all senders and of the held-out ones."""

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
            BenchmarkError: the table is missing or another one, or there are no images.
        """
        photos = self._read(folder)
        missing, warnings = split_missing(photo.image for photo in photos)
        photos = [photo for photo in photos if photo.image.image_id not in missing]
        counts = Counter(photo.label for photo in photos)
        if len(counts) < 2:
            refuse(self, f"{folder} has pictures of {len(counts)} labels")
        names = [name for name, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:N_LABELS]]
        kept = [photo for photo in photos if photo.label in set(names)]
        cut = f"The {len(names)} commonest of {len(counts)} labels: {len(kept):,} photographs."
        held_out = (
            "Only senders that the built-in model was not trained on: those whose MD5 (of s and "
            f"the number, modulo 100) is below {UNSEEN_BELOW}."
        )
        tasks: list[Task] = []
        for name, below, notes in (
            ("clothing/label", DEVELOPMENT_FROM, (cut,)),
            ("clothing/held-out-senders", UNSEEN_BELOW, (cut, held_out)),
        ):
            test = [(p.image, p.label) for p in kept if p.sender < below]
            if test:
                task = zero_shot_task(
                    name,
                    class_labels(names, label_words("clothing")),
                    test,
                    [(p.image, p.label) for p in kept if p.sender >= DEVELOPMENT_FROM],
                    development_from="the senders whose MD5 (of s and the number, modulo 100) is "
                    f"{DEVELOPMENT_FROM} or more",
                    notes=notes,
                )
                tasks.append(task)
        return Loaded(tuple(tasks), tuple(warnings))

    def _read(self, folder: Path) -> Sequence[_Photo]:
        path = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
        if path is None:
            refuse(self, f"{folder} has neither labels.csv nor images.csv")
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"image", "label", "sender_id"} <= rows[0].keys():
            refuse(self, f"{path} needs rows with image, label and sender_id")
        return [
            _Photo(
                ImageRef(row["image"], _find(folder, row["image"])),
                row["label"],
                percentile("s" + row["sender_id"]),
            )
            for row in rows
            if row["label"].casefold() not in _NO_LABEL
        ]


def _find(folder: Path, name: str) -> Path:
    """``images.csv`` names images without folder and ending, ``labels.csv`` with them."""
    file = name if Path(name).suffix else f"{name}.jpg"
    places = [folder / sub / file for sub in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])
