"""Photographs: DeepFashion, people's own clothes, and people in a street.

Sources: Liu, Luo, Qiu, Wang, Tang 2016, "DeepFashion: Powering Robust Clothes Recognition and
Retrieval with Rich Annotations", CVPR (the model card's figure is of 4,000 images, whose selection
was not published); Grigorev 2020, "Clothing dataset (full, high resolution)", github.com/
alexeygrigorev/clothing-dataset, CC0; Yang, Luo, Lin 2014, "Clothing Co-Parsing by Joint Image
Segmentation and Labeling", CVPR.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import (
    MIN_IMAGES,
    Benchmark,
    Loaded,
    choose,
    class_labels,
    label_words,
    left_out,
    refuse,
    split_missing,
    zero_shot_task,
)
from fashionclip.evaluate.tasks import ImageRef, Retrieval, Task
from fashionclip.metrics import percentile

N_TEST, N_DEVELOPMENT = 4_000, 2_000
_SPLITS = frozenset({"train", "val", "test"})
N_LABELS = 10
UNSEEN_BELOW, DEVELOPMENT_FROM = 10, 80
"""Senders with percentiles below the first are held out of the built-in model's training; those
from the second on are for choosing prompts."""
_NO_LABEL = frozenset({"", "not sure", "skip", "other"})
_TABLES = ("labels.csv", "images.csv")
_FOLDERS = ("", "images", "images_original", "images_compressed")


class DeepFashion:
    """DeepFashion's 50 categories on pictures of the test partition."""

    name = "deep"
    title = "DEEP, DeepFashion's categories"
    how_to_get = (
        "ask its owners at mmlab.ie.cuhk.edu.hk/projects/DeepFashion (Category and Attribute "
        "Prediction) and unpack img/, Anno_coarse/ and Eval/ into DIR/deep"
    )
    places: tuple[str, ...] = ("deep", "deepfashion", "DeepFashion")

    def load(self, folder: Path) -> Loaded:
        """Sample the images and read their categories.

        Raises:
            BenchmarkError: a list is missing or damaged, or there are no images.
        """
        names = tuple(name for name, _ in self._read_list(folder, "list_category_cloth.txt"))
        numbers = {str(row + 1): name for row, name in enumerate(names)}
        labels = dict(self._read_list(folder, "list_category_img.txt"))
        label_of = {image: numbers[n] for image, n in labels.items() if n in numbers}
        partition = self._read_list(folder, "list_eval_partition.txt")
        if odd := next((split for _, split in partition if split not in _SPLITS), ""):
            message = f"{self.name}: list_eval_partition.txt has a split '{odd}'; fetch it again"
            raise BenchmarkError(message)
        in_test = [image for image, split in partition if split == "test"]
        in_val = [image for image, split in partition if split == "val"]
        test, warnings = _sample(folder, in_test, N_TEST, label_of)
        if not test:
            refuse(self, f"{folder}: none of the test pictures is there")
        development, more = _sample(folder, in_val, N_DEVELOPMENT, label_of)
        n_tested = len({label for _, label in test})
        task = zero_shot_task(
            "deep/category",
            class_labels(names, label_words("deep")),
            test,
            development,
            development_from="sampled from the val partition",
            notes=(
                f"{len(test):,} of the {len(in_test):,} pictures of the test partition, sampled "
                "here; the card's 4,000 are others. Whole pictures, not cropped to the garment.",
                f"{len(names)} categories, of which {n_tested} have test pictures.",
            ),
        )
        return Loaded((task,), (*warnings, *more))

    def _read_list(self, folder: Path, name: str) -> list[tuple[str, str]]:
        # a list begins with the number of its rows and the names of its two columns
        places = (folder / sub / name for sub in ("Anno_coarse", "Anno", "Eval", "."))
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            refuse(self, f"{folder} has no {name}")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = [tuple(line.rsplit(maxsplit=1)) for line in lines[2:] if line.strip()]
        n_rows = lines[0].strip() if lines else ""
        if str(len(rows)) != n_rows or any(len(row) != 2 for row in rows):
            promised = f"promises {n_rows or 'no'} rows and has {len(rows):,}"
            message = f"{self.name}: {path} {promised}; fetch it again"
            raise BenchmarkError(message)
        return [(row[0], row[1]) for row in rows]


def _sample(
    folder: Path, images: Sequence[str], n_chosen: int, label_of: Mapping[str, str]
) -> tuple[list[tuple[ImageRef, str]], list[str]]:
    """Sample a partition: images with labels, and warnings about those that cannot be used."""
    rows = choose(len(images), n_chosen).tolist()
    sampled = [ImageRef(images[i], folder / images[i]) for i in rows]
    unlabelled = [image.image_id for image in sampled if image.image_id not in label_of]
    warnings = [left_out(unlabelled, "picture", "they have no category")] if unlabelled else []
    missing, more = split_missing(sampled)
    kept = [i for i in sampled if i.image_id in label_of and i.image_id not in missing]
    return [(image, label_of[image.image_id]) for image in kept], [*warnings, *more]


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
        rows = _read_csv(self, path, "image", "label", "sender_id")
        return [
            _Photo(
                ImageRef(row["image"], _find(folder, row["image"])),
                row["label"],
                percentile("s" + row["sender_id"]),
            )
            for row in rows
            if row["label"].casefold() not in _NO_LABEL
        ]


def _read_csv(benchmark: Benchmark, path: Path, *columns: str) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(columns) <= rows[0].keys():
        refuse(benchmark, f"{path} needs rows with {', '.join(columns[:-1])} and {columns[-1]}")
    return rows


def _find(folder: Path, name: str) -> Path:
    """``images.csv`` names images without folder and ending, ``labels.csv`` with them."""
    file = name if Path(name).suffix else f"{name}.jpg"
    places = [folder / sub / file for sub in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])


class Street:
    """Each garment's name as a query; the photographs with its tag are relevant."""

    name = "street"
    title = "people in a street, found by their garments"
    how_to_get = (
        "get the photographs of Clothing Co-Parsing (github.com/bearpaw/clothing-co-parsing) and "
        "write DIR/street/photos.csv with the columns image and garments (bag|boots|coat)"
    )
    places: tuple[str, ...] = ("street", "clothing-co-parsing")

    def load(self, folder: Path) -> Loaded:
        """Read the photographs and their tags.

        Raises:
            BenchmarkError: the table is missing or another one, or no tag can be a query.
        """
        path = folder / "photos.csv"
        if not path.is_file():
            refuse(self, f"{path} is missing")
        rows = _read_csv(self, path, "image", "garments")
        photos = [(ImageRef(r["image"], folder / r["image"]), r["garments"]) for r in rows]
        missing, warnings = split_missing(image for image, _ in photos)
        photos = [(image, tags) for image, tags in photos if image.image_id not in missing]
        tags = [set(tags.split("|")) for _, tags in photos]
        counts = Counter(tag for some in tags for tag in some if tag)
        names = sorted(tag for tag, n in counts.items() if MIN_IMAGES <= n < len(photos))
        if not names:
            refuse(self, f"{path} has no garment on {MIN_IMAGES} or more of its pictures")
        note = (
            f"Queries are the names of the {len(names)} garments that are tagged on at least "
            f"{MIN_IMAGES} of the {len(photos)} photographs, and not on all."
        )
        task = Retrieval(
            name="street/garment-to-image",
            queries=tuple(names),
            documents=tuple(image for image, _ in photos),
            relevant=tuple(
                np.array([i for i, some in enumerate(tags) if name in some]) for name in names
            ),
            figures=(f"map@{len(photos)}", "precision@10"),
            notes=(note,),
        )
        return Loaded((task,), tuple(warnings))
