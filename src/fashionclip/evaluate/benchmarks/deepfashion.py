"""DEEP: DeepFashion's Category and Attribute Prediction, people in clothes, 50 categories.

Source: Liu, Luo, Qiu, Wang, Tang 2016, "DeepFashion: Powering Robust Clothes Recognition and
Retrieval with Rich Annotations", CVPR. The model card's figure is of 4,000 images, whose selection
was not published.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    choose,
    class_labels,
    label_words,
    left_out,
    refuse,
    split_missing,
    zero_shot_task,
)
from fashionclip.evaluate.tasks import ImageRef

N_TEST, N_DEVELOPMENT = 4_000, 2_000
_SPLITS = frozenset({"train", "val", "test"})


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
        """One of DeepFashion's lists: how many rows, the names of two columns, then the rows.

        Raises:
            BenchmarkError: it is missing or cut short.
        """
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
