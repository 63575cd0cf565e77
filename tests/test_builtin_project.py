"""projects/builtin: from two small data sets to a training table, a start and a trained model."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fashionclip import FashionCLIP
from fashionclip.metrics import percentile
from fashionclip.sample import generate_image, sample_products
from fashionclip.train.loop import train
from fashionclip.train.recipe import read_recipe
from fashionclip.train.run import RunFolder

PROJECT = Path(__file__).parents[1] / "projects" / "builtin"
CATEGORIES = {"Tshirts": ("Apparel", "Topwear"), "Jeans": ("Apparel", "Bottomwear")}
COLUMNS = (
    *("id", "gender", "masterCategory", "subCategory", "articleType", "baseColour", "usage"),
    *("productDisplayName", "brandName", "description", "articleAttributes"),
)


def write_products(folder, n=48):
    (folder / "images").mkdir(parents=True)
    with (folder / "styles.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for i, product in enumerate(sample_products(n, seed=7)):
            image = generate_image(product.attributes, seed=i)
            image.save(folder / "images" / f"{i}.jpg")
            category, colour = list(CATEGORIES)[i % 2], ("Red", "Blue")[i // 2 % 2]
            title = f"{('Puma', 'Catwalk')[i % 8 == 0]} {colour} {category} number {i}"
            attributes = json.dumps({"Sleeve Length": "Short Sleeves", "Pattern": "Solid"})
            usage, brand = ("Casual", "Sports")[i // 4 % 2], title.split()[0]
            values = (i, "Women", *CATEGORIES[category], category, colour, usage)
            values = (*values, title, brand, title, attributes)
            table.writerow(dict(zip(COLUMNS, values, strict=True)))


def write_photographs(folder, n=40):
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "kids", "sender_id"])
        for i in range(n):
            pixels = rng.integers(256, size=(256, 192, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.jpg")
            table.writerow([f"images/{i}.jpg", ("T-Shirt", "Pants")[i % 2], False, i])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What ``prepare.py`` writes for two small data sets."""
    folder = tmp_path_factory.mktemp("builtin")
    write_products(folder / "kagl")
    write_photographs(folder / "clothing")
    sources = ["--kagl", folder / "kagl", "--clothing", folder / "clothing"]
    sizes = ["--generated", "24", "--windows", "1", "--scenes", "1", "--sets", "1"]
    command = [sys.executable, PROJECT / "prepare.py", *sources, *sizes, "--no-teacher"]
    done = subprocess.run(
        [*map(str, command), "--into", str(folder / "prepared")],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "prepared"


@pytest.mark.slow
def test_the_table_holds_every_source_and_nothing_that_is_held_out(prepared):
    table = pq.read_table(prepared / "catalog.parquet").to_pydict()
    assert percentile("catwalk") < 8 <= percentile("puma")
    n_products, n_senders = 48 - 6, sum(percentile(f"s{i}") >= 10 for i in range(40))
    kinds = [row_id.split("-")[0] for row_id in table["id"]]
    assert kinds.count("kagl") == 2 * n_products  # each one once more, in a scene
    assert kinds.count("clothing") == 2 * n_senders  # and once more, as a window
    assert kinds.count("sample") == 24
    assert not any("catwalk" in title.lower() for title in table["title"])
    assert all(Path(image).exists() for image in table["image"])
    assert len(set(table["id"])) == len(table["id"])
    assert {*table["category"]} == {"", "t-shirt", "jeans"}


@pytest.mark.slow
def test_the_recipe_trains_the_start_with_prompts_soft_labels_patches_and_mixing(
    prepared, tmp_path
):
    table = pq.read_table(prepared / "catalog.parquet", columns=["id", "category"])
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(len(table), 49, 4)).astype(np.float16)
    np.save(tmp_path / "patch-targets.npy", targets)
    soft = rng.dirichlet(np.ones(2), len(table)).astype(np.float32)
    for i, value in enumerate(("t-shirt", "jeans")):
        table = table.append_column(f"category={value}", [soft[:, i]])
    pq.write_table(table, tmp_path / "soft-labels.parquet")
    overrides = {
        ("data", "catalog"): str(prepared / "catalog.parquet"),
        ("data", "patch_targets"): str(tmp_path / "patch-targets.npy"),
        ("data", "soft_labels"): str(tmp_path / "soft-labels.parquet"),
        ("model", "start"): str(prepared / "start"),
        ("schedule", "batch_size"): 16,
        ("schedule", "steps"): 3,
        ("schedule", "checkpoint_every"): 3,
        ("optimizer", "warmup_steps"): 0,
    }
    run = RunFolder(tmp_path / "run")
    outcome = train(read_recipe(PROJECT / "recipe.toml", overrides), run)
    assert (outcome.status, outcome.steps) == ("finished", 3)
    start = FashionCLIP.from_pretrained(prepared / "start")
    trained = FashionCLIP.from_pretrained(run.checkpoint(3))
    before, after = (model.encode_text(["red t-shirt"]) for model in (start, trained))
    assert before.shape == after.shape == (1, 256)
    assert not np.allclose(before, after)
