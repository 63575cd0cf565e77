"""The recipe of the built-in model, from two small made-up data sets to checkpoints that open."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from transformers import CLIPModel

from fashionclip import FashionCLIP
from fashionclip.metrics import percentile
from fashionclip.sample import generate_image, sample_products

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_builtin.py"
TYPES = {"Tshirts": ("Apparel", "Topwear"), "Jeans": ("Apparel", "Bottomwear")}
PRODUCT_COLUMNS = (
    *("id", "gender", "masterCategory", "subCategory", "articleType", "baseColour", "usage"),
    *("productDisplayName", "brandName", "description", "articleAttributes"),
)


def write_products(folder, n=48):
    (folder / "images").mkdir(parents=True)
    with (folder / "styles.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, PRODUCT_COLUMNS)
        table.writeheader()
        for i, drawn in enumerate(sample_products(n, seed=7)):
            generate_image(drawn.attributes, seed=i).save(folder / "images" / f"{i}.jpg")
            kind, colour = list(TYPES)[i % 2], ("Red", "Blue")[i // 2 % 2]
            told = f"{('Puma', 'Catwalk')[i % 8 == 0]} {colour} {kind} number {i}"
            attributes = json.dumps({"Sleeve Length": "Short Sleeves", "Pattern": "Solid"})
            usage, brand = ("Casual", "Sports")[i // 4 % 2], told.split()[0]
            values = (i, "Women", *TYPES[kind], kind, colour, usage, told, brand, told, attributes)
            table.writerow(dict(zip(PRODUCT_COLUMNS, values, strict=True)))


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


def train(folder, into, *words):
    command = [sys.executable, str(SCRIPT), "--kagl", folder / "kagl", "--clothing"]
    command += [folder / "clothing", "--into", into, "--minutes", "0.03", "--drawn", "24"]
    command += ["--views", "1", "--scenes", "1", "--batch", "16", "--teacher", "0", *words]
    done = subprocess.run(map(str, command), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_recipe_trains_from_nothing_and_goes_on_from_an_export_or_its_words(tmp_path):
    write_products(tmp_path / "kagl")
    write_photographs(tmp_path / "clothing")
    assert percentile("catwalk") < 8 <= percentile("puma")
    n_senders = sum(percentile(f"s{i}") >= 10 for i in range(40))

    told = train(tmp_path, tmp_path / "first")
    n_products = 48 - 6
    n_training = n_products + n_senders + 24 + 2 * n_senders + 2 * n_products
    assert f"{n_training} of {n_training + 6 + 40 - n_senders} items" in told
    assert told.count("done: ") == 1
    model = FashionCLIP.from_pretrained(tmp_path / "first" / "checkpoint")
    assert model.encode_text(["red t-shirt"]).shape == (1, 256)
    assert CLIPModel.from_pretrained(tmp_path / "first" / "checkpoint").config.projection_dim == 256

    start = tmp_path / "first" / "checkpoint"
    old = load_file(start / "model.safetensors")
    # the tower that learns from the first step: in so short a run the other may not get its turn
    for name, words, learns in (("second", (), "vision"), ("third", ("--words-only",), "text")):
        into = tmp_path / name
        into.mkdir()
        for cache in ("kagl", "clothing", "views", "scenes"):  # made once
            (into / f"{cache}.npy").symlink_to(tmp_path / "first" / f"{cache}.npy")
        train(tmp_path, into, "--start", start, *words)
        new = load_file(into / "checkpoint" / "model.safetensors")
        assert old.keys() == new.keys()
        moved = {weight for weight in old if (old[weight] != new[weight]).any()}
        assert any(weight.startswith(learns) for weight in moved)
        assert name == "second" or not any(weight.startswith("vis") for weight in moved)
