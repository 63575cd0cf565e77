"""LookBench: garments in the street or the studio, found by a picture.

Source: arXiv 2601.14706, and SerendipityOneInc/look-bench for the names of subsets and splits and
the columns ``image``, ``category`` and ``main_attribute``. The owners' layout on disk was not
available; ``docs/benchmarks.md`` describes the layouts that are read.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashionclip.catalog.tables.table import Cell
from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import Loaded, has_file, left_out, refuse
from fashionclip.evaluate.benchmarks.hub import read_with_images
from fashionclip.evaluate.tasks import Garment, ImageRef, ImageToImage

SUBSETS = ("real_studio_flat", "aigen_studio", "real_streetlook", "aigen_streetlook")
NOISE = "noise"
"""A subset of documents that answer no query and are added to every gallery."""
_IDS = ("item_ID", "item_id", "id")


class LookBench:
    """LookBench's subsets, as far as their files are there, each a task."""

    name = "lookbench"
    title = "LookBench, picture to picture"
    how_to_get = (
        "fetch huggingface.co/datasets/srpone/look-bench into DIR/lookbench, so that it holds "
        "<subset>/query*.parquet and <subset>/gallery*.parquet"
    )
    places: tuple[str, ...] = ("lookbench", "look-bench")

    def load(self, folder: Path) -> Loaded:
        """Read the queries and galleries.

        Raises:
            BenchmarkError: there are none, or they lack a column.
        """
        warnings: list[str] = []
        noise = [
            garment
            for split in ("gallery", "noise", "train", "test")
            for garment in self._read(folder, NOISE, split, warnings)
        ]
        tasks = []
        for subset in SUBSETS:
            queries = self._read(folder, subset, "query", warnings)
            gallery = self._read(folder, subset, "gallery", warnings)
            if not queries or not gallery:
                if queries or gallery:
                    warnings.append(f"{subset} is not measured: query or gallery is missing")
                continue
            note = (
                f"{len(gallery):,} documents of its gallery and {len(noise):,} of the noise set. "
                "Attributes are all values of the columns whose name contains 'attribute'. It was "
                "not verified that this is exactly the owners' protocol."
            )
            name = f"lookbench/{subset.replace('_', '-')}"
            documents = (*gallery, *noise)
            tasks.append(ImageToImage(name, tuple(queries), documents, (note,)))
        if not tasks:
            refuse(self, f"{folder} has no subset with queries and a gallery")
        return Loaded(tuple(tasks), tuple(warnings))

    def _read(self, folder: Path, subset: str, split: str, warnings: list[str]) -> list[Garment]:
        rows = _rows_of(folder, subset, split)
        if not rows:
            return []
        if not {"image", "category"} <= rows[0].keys():
            message = f"{self.name}: {subset}/{split} needs columns image and category, and has "
            raise BenchmarkError(message + ", ".join(rows[0]))
        found, missing = [], []
        for number, row in enumerate(rows):
            image_id = f"{subset}/{split}/{_id_of(row, number)}"
            image = ImageRef(image_id, row["image"] or Path(image_id))
            if row["image"] is None or not has_file(image):
                missing.append(image_id)
            elif row["category"]:
                found.append(Garment(image, str(row["category"]), _attributes_of(row)))
        if missing:
            warnings.append(left_out(missing, "picture", "no such file"))
        if n_others := len(rows) - len(found) - len(missing):
            warnings.append(f"{n_others:,} pictures of {subset}/{split} left out: no category")
        return found


def _rows_of(folder: Path, subset: str, split: str) -> Sequence[Mapping[str, Any]]:
    """Parquet of the hub (``<subset>/query-*.parquet``), or a table ``<subset>/query.csv``."""
    shards = sorted(folder.glob(f"**/{subset}/**/{split}*.parquet"))
    if shards:
        return read_with_images(shards)
    path = folder / subset / f"{split}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    return [
        {**row, "image": path.parent / row["image"]} if row.get("image") else row for row in rows
    ]


def _id_of(row: Mapping[str, Any], number: int) -> str:
    return next((str(row[name]) for name in _IDS if row.get(name) is not None), f"{number:06d}")


def _attributes_of(row: Mapping[str, Any]) -> frozenset[str]:
    """Values of ``main_attribute`` and its like: words, lists or objects, as text or not."""
    found: set[str] = set()
    for name, cell in row.items():
        if "attribute" in name.casefold():
            found.update(_words(cell))
    return frozenset(found)


def _words(cell: Cell) -> list[str]:
    if isinstance(cell, str):
        try:
            return _words(json.loads(cell)) if cell.startswith(("[", "{")) else _split(cell)
        except json.JSONDecodeError:
            return _split(cell)
    if isinstance(cell, Mapping):
        named = ((key, word) for key, value in cell.items() for word in _words(value))
        return [f"{key}: {word}" for key, word in named]
    if isinstance(cell, list | tuple):
        return [word for part in cell for word in _words(part)]
    return [] if cell is None else [str(cell)]


def _split(text: str) -> list[str]:
    return [word.strip().casefold() for word in re.split(r"[,;|]", text) if word.strip()]
