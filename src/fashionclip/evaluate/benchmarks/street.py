"""People in a street: photographs found by the names of the garments that are tagged on them.

Source: Yang, Luo, Lin 2014, "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR;
read as a table ``photos.csv`` with ``image`` and ``garments`` (``bag|boots|coat``).
"""

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from fashionclip.evaluate.benchmarks.base import MIN_IMAGES, Loaded, refuse, split_missing
from fashionclip.evaluate.tasks import ImageRef, Retrieval


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
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"image", "garments"} <= rows[0].keys():
            refuse(self, f"{path} needs rows with image and garments")
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
