"""Run folders without training: random weights perturbed step by step, and the sample catalogue.

Selection and publishing need a run folder, not a trainer.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fashionclip.evaluate.tasks import ImageRef
from fashionclip.sample import write_sample_catalog
from fashionclip.train.recipe import Recipe, SelectionConfig, write_recipe
from fashionclip.train.run import RunFolder


def perturb(start: Path, folder: Path, *, strength: float, seed: int = 0) -> Path:
    """Copy a checkpoint and move its weights in a direction that the seed decides."""
    shutil.copytree(start, folder)
    tensors = load_file(folder / "model.safetensors")
    rng = np.random.default_rng(seed)
    for name, tensor in tensors.items():
        if tensor.ndim >= 2:
            noise = rng.standard_normal(tensor.shape).astype(np.float32)
            spread = float(tensor.astype(np.float32).std())
            tensors[name] = (tensor + strength * spread * noise).astype(tensor.dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def sample_pairs(folder: Path, n_products: int) -> list[ImageRef]:
    """Images of the sample catalogue with their titles."""
    write_sample_catalog(folder, n_products=n_products)
    with (folder / "catalog.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [ImageRef(row["id"], folder / row["image"], row["title"]) for row in rows]


def sample_selection(folder: Path, n_products: int = 60) -> tuple[list[ImageRef], SelectionConfig]:
    """Held-out pairs of the sample catalogue, and two tables of it as development sets."""
    write_sample_catalog(folder, n_products=n_products)
    with (folder / "catalog.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for column in ("category", "colour"):
        with (folder / f"{column}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label", "split"])
            for i, row in enumerate(rows):
                writer.writerow(
                    [row["image"], row[column], "test" if i % 3 == 0 else "development"]
                )
    pairs = [ImageRef(r["id"], folder / r["image"], r["title"]) for r in rows[::2]]
    sets = (str(folder / "category.csv"), str(folder / "colour.csv"))
    return pairs, SelectionConfig(sets=sets, alphas=(0.5,), average=2)


def write_training_run(
    root: Path, start: Path, *, strengths: tuple[float, ...] = (0.1, 0.3)
) -> RunFolder:
    """A run folder with a checkpoint for each strength, every hundred steps."""
    run = RunFolder(root)
    root.mkdir(parents=True)
    for place, strength in enumerate(strengths, start=1):
        perturb(start, run.checkpoint(100 * place), strength=strength)
    recipe = Recipe()
    run.recipe.write_text(write_recipe(recipe), encoding="utf-8")
    facts = {
        "packages": {"fashionclip": "0.1.0", "torch": "2.13.0"},
        "git_commit": "0" * 40,
        "data": {"name": "sample", "n_pairs": 30, "n_rejected": 1},
        "status": "done",
    }
    run.facts.write_text(json.dumps(facts), encoding="utf-8")
    return run
