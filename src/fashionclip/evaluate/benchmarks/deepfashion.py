"""DEEP: DeepFashion's Category and Attribute Prediction, people in clothes, 50 categories.

Source: Liu, Luo, Qiu, Wang, Tang 2016, "DeepFashion: Powering Robust Clothes Recognition and
Retrieval with Rich Annotations", CVPR. The card's figure stands on 4,000 pictures whose draw was
not published.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Int

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    choose,
    class_labels,
    has_image,
    left_out,
)
from fashionclip.evaluate.tasks import ImageRef, ZeroShot

N_TEST, N_DEVELOPMENT = 4_000, 2_000
_SPLITS = frozenset({"train", "val", "test"})
_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Anorak": ("anorak", "hooded windbreaker"),
        "Blazer": ("blazer", "suit jacket"),
        "Bomber": ("bomber jacket", "bomber"),
        "Button-Down": ("button-down shirt", "buttoned shirt"),
        "Flannel": ("flannel shirt", "plaid flannel"),
        "Halter": ("halter top", "halter-neck top"),
        "Henley": ("henley shirt", "henley"),
        "Hoodie": ("hoodie", "hooded sweatshirt"),
        "Jersey": ("jersey", "sports jersey"),
        "Parka": ("parka", "long hooded winter coat"),
        "Peacoat": ("pea coat", "peacoat"),
        "Sweater": ("sweater", "jumper", "pullover"),
        "Tank": ("tank top", "sleeveless top"),
        "Tee": ("t-shirt", "tee"),
        "Turtleneck": ("turtleneck sweater", "turtleneck"),
        "Capris": ("capri pants", "capris"),
        "Chinos": ("chinos", "chino trousers"),
        "Culottes": ("culottes", "wide cropped trousers"),
        "Cutoffs": ("cut-off denim shorts", "cutoffs"),
        "Gauchos": ("gaucho pants", "gauchos"),
        "Jeans": ("jeans", "denim trousers"),
        "Jeggings": ("jeggings", "denim leggings"),
        "Jodhpurs": ("jodhpurs", "riding breeches"),
        "Joggers": ("joggers", "cuffed jogging trousers"),
        "Sarong": ("sarong", "wrap skirt"),
        "Sweatpants": ("sweatpants", "tracksuit bottoms"),
        "Sweatshorts": ("sweat shorts", "jersey shorts"),
        "Trunks": ("swimming trunks", "trunks"),
        "Coverup": ("beach cover-up", "coverup"),
        "Nightdress": ("nightdress", "nightgown"),
        "Onesie": ("onesie", "one-piece pyjamas"),
        "Robe": ("robe", "dressing gown"),
        "Romper": ("romper", "playsuit"),
        "Shirtdress": ("shirt dress", "shirtdress"),
        "Sundress": ("sundress", "summer dress"),
    }
)


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
        """Draw the pictures and read their categories.

        Raises:
            BenchmarkError: a list is missing or damaged, or no picture is there.
        """
        kinds = self._read_list(folder, "list_category_cloth.txt")
        names = tuple(name for name, _ in kinds)
        labels = dict(self._read_list(folder, "list_category_img.txt"))
        partition = self._read_list(folder, "list_eval_partition.txt")
        if odd := next((split for _, split in partition if split not in _SPLITS), ""):
            message = f"{self.name}: list_eval_partition.txt has a split '{odd}'; fetch it again"
            raise BenchmarkError(message)
        numbers = {str(row + 1): row for row in range(len(names))}
        row_of = {image: numbers[label] for image, label in labels.items() if label in numbers}
        in_test = [image for image, split in partition if split == "test"]
        in_val = [image for image, split in partition if split == "val"]
        test, test_labels, warnings = _draw(folder, in_test, N_TEST, row_of)
        if not test:
            message = f"{self.name}: {folder}: none of the test pictures is there; "
            raise BenchmarkError(message + self.how_to_get)
        development, development_labels, more = _draw(folder, in_val, N_DEVELOPMENT, row_of)
        n_there = len(set(test_labels.tolist()))
        task = ZeroShot(
            name="deep/category",
            classes=class_labels(names, _WORDS),
            images=test,
            labels=test_labels,
            development="drawn from the val partition" if development else "",
            development_images=development,
            development_labels=development_labels,
            notes=(
                f"{len(test):,} of the {len(in_test):,} pictures of the test partition, drawn "
                "here; the card's 4,000 were drawn otherwise. Whole pictures, not cut to the "
                "garment.",
                f"{len(names)} categories, of which {n_there} have test pictures.",
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
            message = f"{self.name}: {folder} has no {name}; {self.how_to_get}"
            raise BenchmarkError(message)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = [tuple(line.rsplit(maxsplit=1)) for line in lines[2:] if line.strip()]
        n_rows = lines[0].strip() if lines else ""
        if str(len(rows)) != n_rows or any(len(row) != 2 for row in rows):
            promised = f"promises {n_rows or 'no'} rows and has {len(rows):,}"
            message = f"{self.name}: {path} {promised}; fetch it again"
            raise BenchmarkError(message)
        return [(row[0], row[1]) for row in rows]


def _draw(
    folder: Path, images: Sequence[str], n_chosen: int, row_of: Mapping[str, int]
) -> tuple[tuple[ImageRef, ...], Int[np.ndarray, " picture"], tuple[str, ...]]:
    """Draw from a partition: pictures, labels, and what the draw hit that cannot be used."""
    drawn = [
        ImageRef(images[i], folder / images[i]) for i in choose(len(images), n_chosen).tolist()
    ]
    unlabelled = [p.image_id for p in drawn if p.image_id not in row_of]
    missing = [p.image_id for p in drawn if not has_image(p)]
    gone = {*unlabelled, *missing}
    kept = tuple(image for image in drawn if image.image_id not in gone)
    warnings = tuple(
        left_out(ids, "picture", why)
        for ids, why in ((unlabelled, "they have no category"), (missing, "no such file"))
        if ids
    )
    return kept, np.array([row_of[p.image_id] for p in kept], dtype=np.int64), warnings
