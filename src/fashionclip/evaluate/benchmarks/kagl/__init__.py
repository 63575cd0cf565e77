"""KAGL: Kaggle's "Fashion Product Images", products on white with titles and labels.

``products``    the table and its pictures; which brands are for what
``words``       how a person says the labels
``zero_shot``   products sorted by the names of their labels; the probe
``search``      products found by words, as in the paper and as Marqo does
``attributes``  the attribute scorecard; pictures found by a picture

Source: kaggle.com/datasets/paramaggarwal/fashion-product-images-dataset; huggingface.co/datasets/
Marqo/KAGL is the same listing with larger pictures.
"""

from pathlib import Path

from fashionclip.evaluate.benchmarks.base import Loaded
from fashionclip.evaluate.benchmarks.kagl.attributes import scorecard_tasks, similar_task
from fashionclip.evaluate.benchmarks.kagl.products import read_kagl
from fashionclip.evaluate.benchmarks.kagl.search import search_tasks
from fashionclip.evaluate.benchmarks.kagl.zero_shot import probe_task, zero_shot_tasks
from fashionclip.evaluate.tasks import Task


class Kagl:
    """Kaggle's products: labels, search, attributes."""

    name = "kagl"
    title = "KAGL, Kaggle's Fashion Product Images"
    how_to_get = (
        "fetch Marqo's copy with --download, or unpack "
        "kaggle.com/datasets/paramaggarwal/fashion-product-images-dataset so that DIR/kagl holds "
        "styles.csv and images/"
    )
    places: tuple[str, ...] = ("kagl", "KAGL", "fashion-product-images", "fashion-dataset")

    def load(self, folder: Path) -> Loaded:
        """Read the products and ask everything that their table can answer.

        Raises:
            BenchmarkError: the table is missing or is another one, or no picture is there.
        """
        table = read_kagl(folder)
        asked: dict[str, Task | None] = {
            **zero_shot_tasks(table),
            **search_tasks(table),
            "kagl/probe": probe_task(table),
            "kagl/similar": similar_task(table),
            **scorecard_tasks(table),
        }
        warnings = list(table.warnings)
        if lacking := [name for name, task in asked.items() if task is None]:
            warnings.append(f"not asked, because the table knows too little: {', '.join(lacking)}")
        return Loaded(tuple(task for task in asked.values() if task), tuple(warnings))


__all__ = ["Kagl"]
