"""Marqo's seven sets in their own files: Parquet from the hub, ground truth from their repository.

Source: marqo-ai/marqo-FashionCLIP, ``eval.py`` and ``configs/``: a query's text against documents
of the picture, or of 0.9 picture and 0.1 text; ``{query: {item_ID: 1}}`` says what is relevant.
The sets and their columns of queries are in ``words.toml``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    choose,
    group_by,
    label_words,
    left_out,
    refuse,
)
from fashionclip.evaluate.benchmarks.hub import read_with_images
from fashionclip.evaluate.tasks import ImageRef, Retrieval, Task

TEXT_TO_IMAGE_FIGURES = ("mrr@10", "recall@1", "recall@10", "precision@1", "precision@10")
TO_PRODUCT_FIGURES = ("precision@1", "precision@10", "mrr@10", "recall@1", "recall@10")
IMAGE_WEIGHT = 0.9
N_QUERIES = 2_000


class Marqo:
    """Marqo's sets, as far as their files are there."""

    name = "marqo"
    title = "Marqo's benchmark of seven sets"
    how_to_get = (
        "fetch huggingface.co/Marqo data sets into DIR/marqo/<set>, and data/<set>/gt_query_doc of "
        "github.com/marqo-ai/marqo-FashionCLIP beside each one's data/"
    )
    places: tuple[str, ...] = ("marqo", "Marqo")

    def load(self, folder: Path) -> Loaded:
        """Read every set that has a folder here.

        Raises:
            BenchmarkError: there is none, or a file is damaged.
        """
        found = {
            key: (sub, shards)
            for sub in sorted(folder.iterdir())
            if (key := _set_of(sub.name)) and (shards := sorted(sub.glob("**/*.parquet")))
        }
        if not found:
            refuse(self, f"{folder} holds none of {', '.join(label_words('marqo'))}")
        tasks: list[Task] = []
        warnings: list[str] = []
        for key, (sub, shards) in found.items():
            documents, rows = _read_documents(shards)
            if not documents:
                warnings.append(f"{sub.name} has no pictures and is not measured")
                continue
            missing = [str(row.get("item_ID")) for row in rows if row["image"] is None]
            if missing:
                warnings.append(left_out(missing, f"{key} document", "it has no picture"))
            rows = [row for row in rows if row["image"] is not None]
            made, more = _tasks_of(key, sub, documents, rows)
            tasks += made
            warnings += more
        if absent := [key for key in label_words("marqo") if key not in found]:
            warnings.append(f"not measured, because they are not here: {', '.join(absent)}")
        return Loaded(tuple(tasks), tuple(warnings))


def _set_of(folder: str) -> str:
    """``deepfashion-inshop`` to ``inshop``; empty for a folder that is none of the sets."""
    plain = folder.casefold()
    return next((key for key in label_words("marqo") if plain in {key, f"deepfashion-{key}"}), "")


def _read_documents(shards: Sequence[Path]) -> tuple[tuple[ImageRef, ...], list[dict[str, Any]]]:
    rows = read_with_images(shards)
    images = tuple(
        ImageRef(str(row.get("item_ID", number)), row["image"], str(row.get("text") or ""))
        for number, row in enumerate(rows)
        if row["image"] is not None
    )
    return images, rows


def _tasks_of(
    key: str, folder: Path, documents: tuple[ImageRef, ...], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Task], list[str]]:
    tasks: list[Task] = []
    warnings: list[str] = []
    row_of = {document.image_id: number for number, document in enumerate(documents)}
    for column in ("text", *label_words("marqo")[key]):
        is_text = column == "text"
        pictures_only = is_text or key == "imaterialist"
        of_documents = "image" if pictures_only else "image+text"
        path = folder / "gt_query_doc" / f"ground_truth_{column}-{of_documents}.json"
        if path.is_file():
            relevant, n_strange = _read_truth(path, row_of)
            note = "Marqo's queries and what they hold to be relevant, from their repository."
            if n_strange:
                note += f" {n_strange:,} relevant documents that it names are not in the table."
        else:
            relevant = group_by([str(row.get(column) or "") for row in rows])
            n_values = len(relevant)
            if is_text:
                sampled = set(choose(n_values, N_QUERIES).tolist())
                relevant = {q: r for i, (q, r) in enumerate(relevant.items()) if i in sampled}
            note = (
                f"Marqo's ground truth is not here ({path.name}): {len(relevant):,} of the "
                f"{n_values:,} values of {column}, sampled here; documents with the same value are "
                "relevant."
            )
        if not relevant:
            continue
        what = "text" if is_text else label_words("marqo")[key][column]
        tasks.append(
            Retrieval(
                name=f"marqo-{key}/{what}-to-{'image' if pictures_only else 'product'}",
                queries=tuple(relevant),
                documents=documents,
                relevant=tuple(relevant.values()),
                figures=TEXT_TO_IMAGE_FIGURES if is_text else TO_PRODUCT_FIGURES,
                image_weight=1.0 if pictures_only else IMAGE_WEIGHT,
                notes=(note,),
            )
        )
    if not tasks:
        warnings.append(f"{folder.name} has neither texts nor labels and is not measured")
    return tasks, warnings


def _read_truth(path: Path, row_of: Mapping[str, int]) -> tuple[dict[str, np.ndarray], int]:
    # queries and the rows of their documents, and how many documents are not in the table
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
        wanted = {str(query): [str(i) for i, g in ids.items() if g] for query, ids in truth.items()}
    except (OSError, ValueError, AttributeError) as exc:
        message = f"marqo: {path} is not {{query: {{item_ID: 1}}}} ({exc}); fetch it again"
        raise BenchmarkError(message) from exc
    n_strange = sum(document not in row_of for ids in wanted.values() for document in ids)
    rows = {q: sorted({row_of[i] for i in ids if i in row_of}) for q, ids in wanted.items()}
    return {query: np.array(found) for query, found in rows.items() if found}, n_strange
