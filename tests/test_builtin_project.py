"""projects/builtin: from two small data sets to a training table, a start and a trained model."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from fashionclip import FashionCLIP
from fashionclip.checkpoint import VisionConfig
from fashionclip.evaluate.benchmarks.base import label_words
from fashionclip.evaluate.benchmarks.table import OwnTable
from fashionclip.evaluate.leakage import read_training_data
from fashionclip.metrics import percentile
from fashionclip.sample import generate_image, sample_products
from fashionclip.train.loop import train
from fashionclip.train.recipe import read_recipe
from fashionclip.train.run import RunFolder
from random_clip import write_checkpoint

PROJECT = Path(__file__).parents[1] / "projects" / "builtin"
CATEGORIES = {"Tshirts": ("Apparel", "Topwear"), "Jeans": ("Apparel", "Bottomwear")}
COLUMNS = (
    *("id", "gender", "masterCategory", "subCategory", "articleType", "baseColour", "usage"),
    *("productDisplayName", "brandName", "description", "articleAttributes"),
)


def load(name):
    """A module of the project, which is no package."""
    spec = spec_from_file_location(name, PROJECT / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def write_table(file, columns, rows):
    (file.parent / "images").mkdir(parents=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(columns)
        table.writerows(rows)
    for i, row in enumerate(rows):
        pixels = np.full((64, 48, 3), 255, np.uint8)
        pixels[16:48, 12:36] = i * 5 % 250
        Image.fromarray(pixels).save(
            file.parent / next(cell for cell in map(str, row) if ".jpg" in cell)
        )


def write_womens(folder, n=30):
    columns = ("id", "title", "product_type", "category", "tags", "description", "price", "image")
    tags = "casual, Ship from USA, long sleeve, v-neck, striped, light blue"
    rows = [
        (i, f"Cozy Dress {i}", "Midi Dress", "Dresses", tags, "Soft.", "9.99", f"images/{i}.jpg")
        for i in range(n)
    ]
    write_table(folder / "products.csv", columns, rows)


def write_secondhand(folder, n=30):
    columns = ("image", "type", "colours", "pattern", "material", "gender")
    labels = [("", "", "", "", ""), ("Sweater", "red|white", "Striped", "100% cotton", "women"),
              ("Blazer", "grey", "", "34%polyester 66%viscose", "men")]  # fmt: skip
    rows = [(f"images/FN{i:04}.jpg", *labels[i % 3]) for i in range(n)]
    write_table(folder / "labels.csv", columns, rows)


def test_tags_of_a_womens_shop_become_attributes_that_are_sure(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    write_womens(tmp_path)
    sources = load("sources")
    rows = list(sources.read_womens(tmp_path))
    is_held_out = [percentile(f"womens cozy dress {i}") < 20 for i in range(30)]
    assert [row.row_id for row in rows] == [f"womens-{i}" for i in range(30) if not is_held_out[i]]
    assert rows[0].attributes == {
        "category": "Dresses", "garment": "Dress", "sample_category": "dress",
        "colour": "blue", "pattern": "striped", "sleeve": "long sleeves",
        "neckline": "v-neck", "gender": "Women",
    }  # fmt: skip
    assert rows[0].highlights == ("casual", "long sleeve", "v-neck", "striped", "light blue")


@pytest.mark.parametrize(
    ("kind", "title", "category"),
    [
        ("Earrings", "Titanium Steel That Glows Earrings", "Earrings"),
        ("Tote Bag", "Hat Carrier Tote Bag", "Handbags"),
        ("Top", "Graphic Round Neck Short Sleeve T-Shirt", "Tshirts"),
        ("Top", "Cap Sleeve Lace Trim", "Tops"),
        ("Shoes", "Platform Sandals with Heels", "Sandals"),
        ("Men's Pants", "Pleated Wide Leg Dress Pants", "Trousers"),
        ("", "Openwork Visor", None),
    ],
)
def test_a_womens_product_has_the_category_that_whole_words_name(
    tmp_path, monkeypatch, kind, title, category
):
    monkeypatch.syspath_prepend(PROJECT)
    sources = load("sources")
    monkeypatch.setattr(sources, "HELD_OUT_TITLES", 0)
    description = "Light. Why you'll reach for it Soft. Fabric & care Wash cold. Wear with boots."
    columns = ("id", "title", "product_type", "category", "tags", "description", "price", "image")
    row = (1, title, kind, "", "", description, "9.99", "images/1.jpg")
    write_table(tmp_path / "products.csv", columns, [row])
    (found,) = sources.read_womens(tmp_path)
    assert found.attributes.get("category") == category
    assert found.attributes["gender"] == ("Men" if "Men" in kind else "Women")
    assert found.description == "Light. Soft."


def test_names_of_categories_are_words(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    names = load("labels").category_names
    assert [names(label)[0] for label in ("Watches", "Scarves", "Belts", "Jeans", "Dresses")] == [
        *("watch", "scarf", "belt", "jeans", "dress")
    ]
    sources = load("sources")
    made_up = re.compile(r"(?:che|she|rve|orie)$")  # what a cut plural of -es would leave
    categories = [*sources._WOMENS_CATEGORIES, *sources._SECONDHAND_CATEGORIES.values()]
    assert not [name for label in categories for name in names(label) if made_up.search(name)]


def test_the_usual_name_of_a_category_is_the_one_that_evaluation_uses(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    names, evaluated = load("labels").category_names, label_words("kagl")["articleType"]
    assert {label: names(label)[0] for label in evaluated} == {
        label: words[0] for label, words in evaluated.items()
    }


def test_labels_of_second_hand_garments_are_read_where_they_are_sure(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    write_secondhand(tmp_path)
    rows = list(load("sources").read_secondhand(tmp_path))
    names = [f"FN{i:04}" for i in range(30) if i % 3]
    assert [row.row_id for row in rows] == [
        f"secondhand-{name}" for name in names if percentile(f"secondhand {name}") >= 20
    ]
    found = {row.attributes["category"]: row.attributes for row in rows}
    assert found["Sweaters"] == {
        "category": "Sweaters", "garment": "Longsleeve", "sample_category": "sweater",
        "pattern": "striped", "gender": "Women", "material": "cotton",
    }  # fmt: skip
    assert found["Blazers"] == {
        "category": "Blazers", "garment": "Blazer", "colour": "grey", "gender": "Men"
    }  # fmt: skip


def test_what_is_held_out_becomes_tables_that_evaluate_reads(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    write_womens(tmp_path / "womens", 90)
    write_secondhand(tmp_path / "secondhand", 90)
    heldout = load("heldout")
    folders = [part for name in ("womens", "secondhand") for part in (f"--{name}", tmp_path / name)]
    monkeypatch.setattr(sys, "argv", [*map(str, ["", *folders, "--into", tmp_path])])
    heldout.main()
    tables = {
        path.stem: list(csv.DictReader(path.read_text().splitlines()))
        for path in tmp_path.glob("*.csv")
    }
    titles = [f"Cozy Dress {i}" for i in range(90) if percentile(f"womens cozy dress {i}") < 20]
    assert [row["query"] for row in tables["womens-title"]] == titles
    assert {row["label"] for row in tables["womens-garment"]} == {"dress"}
    assert len(tables["womens-colour"]) == len(titles) == len(tables["womens-garment"])
    assert {row["label"] for row in tables["womens-colour"]} == {"blue"}
    images = {Path(row["image"]).stem for row in tables["secondhand-colour"]}
    assert images == {
        f"FN{i:04}" for i in range(2, 90, 3) if percentile(f"secondhand FN{i:04}") < 20
    }
    classes = (tmp_path / "secondhand-colour.classes.txt").read_text().splitlines()
    assert len(classes) == 10
    (task,) = OwnTable(tmp_path / "womens-title.csv").load(tmp_path).tasks
    assert len(task.queries) == len(titles)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What ``prepare.py`` writes for four small data sets."""
    folder = tmp_path_factory.mktemp("builtin")
    write_products(folder / "kagl")
    write_photographs(folder / "clothing")
    write_womens(folder / "womens")
    write_secondhand(folder / "secondhand")
    names = ("kagl", "clothing", "womens", "secondhand")
    sources = [part for name in names for part in (f"--{name}", folder / name)]
    sizes = ["--generated", "24", "--windows", "1", "--scenes", "100", "--sets", "1"]
    command = [
        sys.executable,
        PROJECT / "prepare.py",
        *sources,
        *sizes,
        "--no-teacher",
        "--random-vision",
    ]
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
    parts = [row_id.split("-") for row_id in table["id"]]
    kinds = [part[0] for part in parts if part[2:3] in ([], ["scene"], ["window"])]
    assert 0 < len(parts) - len(kinds) < len(kinds)  # others are in another colour
    assert kinds.count("kagl") == 2 * n_products  # each one once more, in a scene
    assert kinds.count("clothing") == 2 * n_senders  # and once more, as a window
    assert kinds.count("sample") == 24
    n_titles = sum(percentile(f"womens cozy dress {i}") >= 20 for i in range(30))
    assert kinds.count("womens") == 3 * n_titles  # and twice more, as a window
    n_garments = sum(percentile(f"secondhand FN{i:04}") >= 20 for i in range(30) if i % 3)
    assert kinds.count("secondhand") == 2 * n_garments  # and once more, in a scene
    assert not any("catwalk" in title.lower() for title in table["title"])
    assert all(Path(image).exists() for image in table["image"])
    assert len(set(table["id"])) == len(table["id"])
    assert {"", "t-shirt", "jeans", "dress"} <= {*table["category"]}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["recipe", "finish"])
def test_the_recipe_trains_the_start_with_prompts_soft_labels_patches_and_mixing(
    recipe, prepared, tmp_path
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
    outcome = train(read_recipe(PROJECT / f"{recipe}.toml", overrides), run)
    assert (outcome.status, outcome.steps) == ("finished", 3)
    start = FashionCLIP.from_pretrained(prepared / "start")
    trained = FashionCLIP.from_pretrained(run.checkpoint(3))
    before, after = (model.encode_text(["red t-shirt"]) for model in (start, trained))
    assert before.shape == after.shape == (1, 256)
    assert not np.allclose(before, after)


# ---- products in another colour

HUES = {"red": 0, "orange": 28, "yellow": 50, "green": 130, "teal": 180, "blue": 220, "purple": 285}


def product_picture(colour, background=255, label=(250, 250, 250)):
    """A cloth of a colour, with folds and a label, on a page."""
    pixels = np.full((120, 96, 3), background, np.float32)
    folds = 1 + 0.1 * np.sin(np.arange(56) / 3)
    pixels[20:100, 20:76] = (np.array(colour) * folds[:, None]).clip(0, 250)
    pixels[30:38, 40:56] = label
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def recolouring(monkeypatch):
    """The module ``recolour.py``."""
    monkeypatch.syspath_prepend(PROJECT)
    return load("recolour")


@pytest.mark.parametrize("old", [(20, 20, 25), (40, 60, 170), (190, 60, 60), (170, 165, 160)])
def test_a_product_takes_the_named_colour_and_keeps_its_label_and_page(recolouring, old):
    picture = product_picture(old)
    assert recolouring.plain_mask(picture) is not None
    for i, name in enumerate(recolouring.COLOURS):
        new = np.asarray(recolouring.recolour(picture, recolouring.Recolouring(name, i)))
        cloth = new[50:90, 30:66].reshape(-1, 3)
        hue, saturation, value = (
            np.median(np.asarray(Image.fromarray(cloth[None]).convert("HSV"))[0], axis=0) / 255
        )
        if name in HUES:
            assert abs((hue * 360 - HUES[name] + 180) % 360 - 180) < 25, name
        if name in {"black", "white", "grey"}:
            assert saturation < 0.2
        assert (value < 0.3) == (name in {"black", "navy"}) or name in {"maroon", "brown"}
        assert cloth.std(0).max() > 2  # the folds
        if sum(old) < 400:  # else its white is a shade of the cloth's grey
            assert (new[33:36, 44:52] > 225).all()  # the label
        assert (new[:15] == 255).all()  # the page


def test_several_colours_and_white_and_skin_are_not_recoloured(recolouring):
    two = np.asarray(product_picture((200, 30, 30))).copy()
    two[60:100, 20:76] = (30, 30, 200)
    white, blank = product_picture((235, 235, 230)), product_picture((255, 255, 255), label=255)
    worn = np.asarray(product_picture((20, 40, 120))).copy()
    worn[96:100, 20:76] = (222, 170, 140)
    for picture in (Image.fromarray(two), white, blank, Image.fromarray(worn)):
        assert recolouring.plain_mask(picture) is None


def test_a_recoloured_product_is_another_one_whose_phrases_name_its_new_colour(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(PROJECT)
    sources = load("sources")
    product_picture((40, 60, 170)).save(tmp_path / "1.png")
    row = sources.Row(
        "kagl-1", tmp_path / "1.png", {"category": "Handbags", "colour": "blue"},
        title="A blue bag", description="Blue.", product="a blue bag", names=("handbag",),
    )  # fmt: skip
    (other,) = sources.recoloured_rows([row], seed=0)
    colour = other.attributes["colour"]
    assert colour != "blue"
    assert other.is_derived
    assert other.product != row.product
    assert (other.title, other.description) == ("", "")
    rng = np.random.default_rng(0)
    assert all(colour in sources.sample_phrase(other, rng) for _ in range(20))
    assert sources.make_image(other).size == (96, 120)
    assert sources.recoloured_rows([row], seed=0) == [other]


def test_products_of_rare_categories_come_again(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    sources = load("sources")
    categories = ["Heels"] * 2 + ["Shirts"] * 3
    rows = [
        sources.Row(f"kagl-{i}", Path(f"{i}.jpg"), {"category": category})
        for i, category in enumerate(categories)
    ]
    rare = sources.rare_rows(rows, below=3)
    assert rare == rows[:2]
    assert sources.rare_rows(rows, below=2) == []
    again = [*sources.repeated_rows(rare, seed=100), *sources.repeated_rows(rare, seed=101)]
    assert len({row.row_id for row in [*rows, *again]}) == 9
    assert [row.file for row in again] == [row.file for row in rare] * 2


def test_kinds_of_shoes_seen_by_eye_are_known_and_nothing_held_out_has_one(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    sources = load("sources")
    lines = (PROJECT / "shoes.tsv").read_text().splitlines()
    ids, kinds = zip(*(line.split("\t") for line in lines), strict=True)
    assert len({*ids}) == len(ids)
    assert {*kinds} == {*sources._SHOES}
    shoes = sources.Row(ids[kinds.index("boots")], Path("boots.jpg"), {"garment": "Shoes"})
    boots = sources._with_sample_category(sources._with_shoes(shoes))
    assert boots.attributes["category"] == boots.attributes["sample_category"] == "boots"
    assert "ankle boots" in boots.names
    assert sources._with_shoes(replace(shoes, row_id="clothing-other")).names == ()


@pytest.mark.parametrize("seed", range(8))
def test_a_thumbnail_is_small_grey_and_names_no_colour(seed, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(PROJECT)
    sources = load("sources")
    file = tmp_path / "coat.png"
    product_picture((30, 60, 160)).save(file)
    row = sources.Row(
        "secondhand-1", file, {"category": "Jackets", "colour": "blue"}, names=("coat",)
    )
    [small] = sources.thumbnail_rows([row], seed=seed)
    assert small.is_derived
    assert "colour" not in small.attributes
    assert small.product == row.product
    pixels = np.asarray(sources.make_image(small))
    assert pixels.shape == (112, 112, 3)
    assert (pixels == pixels[:, :, :1]).all()
    ground = pixels[0, 0, 0]
    assert ground > 250 or ground < 5
    assert abs(int(ground) - int(pixels[56, 56, 0])) > 60  # the product is in the middle


def test_cielab_has_its_usual_values_and_goes_back(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    lab = load("lab")
    rgb = np.array([(255, 255, 255), (255, 0, 0), (0, 0, 255), (128, 128, 128)])
    expected = [(100, 0, 0), (53.24, 80.09, 67.20), (32.30, 79.19, -107.86), (53.59, 0, 0)]
    assert lab.to_lab(rgb) == pytest.approx(np.array(expected), abs=0.05)
    every = np.random.default_rng(0).integers(0, 256, (500, 3))
    assert lab.to_rgb(lab.to_lab(every)) == pytest.approx(every, abs=0.6)


def test_patches_have_their_mean_colours(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    pytest.importorskip("sklearn")
    teacher = load("teacher")
    pixels = np.full((224, 224, 3), 255, np.uint8)
    pixels[:32, 32:64] = (255, 0, 0)
    colours = teacher.patch_colours(pixels)
    assert colours.shape == (49, 3)
    assert colours[1] == pytest.approx((53.24, 80.09, 67.20), abs=0.05)
    assert colours[8] == pytest.approx((100, 0, 0), abs=0.05)


# ---- the image tower's start

TINY = VisionConfig(
    width=24, layers=2, heads=2, mlp_width=48, activation="gelu", layer_norm_eps=1e-6,
    image_px=56, patch_px=14,
)  # fmt: skip
STILL = (5, 9)
PLACES = {
    **{
        f"attention.{one[0]}_proj": f"attention.attention.{one}"
        for one in ("query", "key", "value")
    },
    "attention.o_proj": "attention.output.dense",
}
"""Names of transformers 5, and the file's, which are those of transformers 4."""


@pytest.fixture(scope="module")
def vision():
    """The module ``vision.py``."""
    return load("vision")


@pytest.fixture(scope="module")
def dino():
    """A small DINOv2 with random weights. Its embeddings have a mean of 0, and two are always 0."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(**sizes, image_size=56, patch_size=14)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.5)
        parts = model.embeddings
        patches = parts.patch_embeddings.projection
        patches.weight.mul_(0.1)
        for weight in (parts.cls_token, parts.position_embeddings, patches.weight, patches.bias):
            channels = weight.movedim(-1 if weight.ndim == 3 else 0, 0)
            channels[list(STILL)] = 0.0
            moving = [i for i in range(24) if i not in STILL]
            channels[moving] -= channels[moving].mean(0)
    return model


def weights_of(dino):
    """A DINOv2's weights by the names that the ONNX file has."""
    found = {}
    for name, weight in dino.state_dict().items():
        for ours, theirs in PLACES.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        found[name] = weight
    return found


def states_of(tower, pixels):
    """The last states of all tokens, for pixels with channels first."""
    return tower.post_layernorm(tower.encode_tokens(pixels.permute(0, 2, 3, 1)))


@pytest.mark.parametrize("image_px", [56, 28])
@torch.inference_mode()
def test_dinov2_computes_the_same_as_a_clip_tower(vision, dino, image_px):
    pixels = torch.randn(3, 3, image_px, image_px)
    expected = dino(pixels).last_hidden_state
    tower = vision.as_clip(weights_of(dino), replace(TINY, image_px=image_px))
    tower.pre_layrnorm = torch.nn.Identity()
    assert torch.allclose(states_of(tower, pixels), expected, atol=1e-4)
    normed = vision.as_clip(weights_of(dino), replace(TINY, image_px=image_px))
    states = states_of(vision.with_identity_norm(normed, STILL), pixels)
    assert torch.allclose(states, expected, atol=0.05)
    similarity = torch.nn.functional.cosine_similarity(states, expected, dim=-1)
    assert similarity.min() > 0.9999


@torch.inference_mode()
def test_larger_patches_have_the_value_of_the_patches_that_they_enlarge(vision, dino):
    small = torch.randn(2, 3, 28, 28)
    patches = small.unfold(2, 14, 14).unfold(3, 14, 14)  # (n, 3, 2, 2, 14, 14)
    large = torch.nn.functional.interpolate(patches.flatten(0, 2), 16, mode="bilinear")
    large = large.reshape(2, 3, 2, 2, 16, 16).permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 32, 32)
    towers = [
        vision.as_clip(weights_of(dino), replace(TINY, image_px=2 * side, patch_px=side, layers=1))
        for side in (14, 16)
    ]
    before, after = map(states_of, towers, (small, large))
    assert before.shape == (2, 5, 24)
    assert torch.allclose(before, after, atol=1e-3)


# ---- what ships


def test_a_shipped_checkpoint_is_the_same_in_half_the_bytes_and_knows_its_data(
    tiny_checkpoint, tmp_path
):
    write_products(tmp_path / "kagl", 8)
    table = tmp_path / "prepared" / "catalog.csv"
    (table.parent / "images").mkdir(parents=True)
    made = shutil.copy(tmp_path / "kagl" / "images" / "1.jpg", table.parent / "images")
    images = [tmp_path / "kagl" / "images" / f"{i}.jpg" for i in range(3)]
    rows = [f"{i},{path},shirt {i}" for i, path in enumerate([*images, made])]
    table.write_text("\n".join(["id,image,title", *rows]) + "\n", encoding="utf-8")
    into = tmp_path / "builtin"
    into.mkdir()
    (into / "README.md").write_text("the card")
    load("ship").ship(tiny_checkpoint, [table, table], into)
    assert (into / "README.md").read_text() == "the card"
    data = read_training_data(into)
    assert data.description == "3 photographs and all texts of catalog.csv"
    assert len(data.images) == 3
    assert len(data.texts) == 4
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tiny_checkpoint, into)]
    assert sizes[1] < 0.6 * sizes[0]
    before, after = (FashionCLIP(folder, precision="float32") for folder in (tiny_checkpoint, into))
    assert after.logit_scale == before.logit_scale
    texts = ["a red dress", "blue jeans"]
    cosines = (before.encode_text(texts) * after.encode_text(texts)).sum(axis=1)
    assert cosines.min() > 0.9999

    table.write_text(f"id,image,title\n9,{images[0].with_stem('5')},trousers\n", encoding="utf-8")
    load("ship").ship(tiny_checkpoint, [table], tmp_path / "next", start=into)
    data = read_training_data(tmp_path / "next")
    assert (len(data.images), len(data.texts)) == (4, 5)
    assert data.description.startswith("4 photographs")


# ---- words that no caption uses


def test_synonyms_are_fifty_words_of_known_types():
    synonyms = load("synonyms")
    words = [word for some in synonyms.SYNONYMS.values() for word in some]
    assert len(words) == len(set(words)) == 50
    assert {*synonyms.SYNONYMS} <= {*synonyms.TYPES}
    assert not {*words} & {*synonyms.TYPES}
    nearest = synonyms.nearest_types(FashionCLIP())
    assert [*nearest] == words
    assert {*nearest.values()} <= {*synonyms.TYPES}


def test_the_teacher_sees_each_picture_once(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(PROJECT)
    teacher = load("teacher")
    n_seen = []

    def features(inputs):
        """The pooled pixels in the first channels, something else in the others."""
        n_seen.append(len(inputs))
        grid = inputs.reshape(len(inputs), 3, 7, 32, 7, 32).mean((3, 5))
        maps = np.zeros((len(inputs), teacher.N_CHANNELS, 7, 7), np.float32)
        maps[:, :3], maps[:, 3:6] = grid, np.sin(9 * grid)
        return maps

    monkeypatch.setattr(teacher, "N_CHANNELS", 12)
    monkeypatch.setattr(teacher, "N_COMPONENTS", 6)
    monkeypatch.setattr(teacher, "_load_teacher", lambda: features)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    rng = np.random.default_rng(0)
    for path in paths:
        Image.fromarray(rng.integers(256, size=(20, 30, 3), dtype=np.uint8)).save(path)
    file = tmp_path / "patch-targets.npy"
    before = np.array(teacher.write_patch_targets(paths[:4], file))
    squares = np.square(before.astype(np.float32)).sum((0, 1)) / (4 * 49)
    assert squares[:6].sum() == pytest.approx(1, abs=0.01)
    assert squares[6:] == pytest.approx(np.full(3, 1 / 27), abs=0.001)  # a tenth, together
    n_seen.clear()
    after = teacher.write_patch_targets([paths[5], *paths[2:4], paths[5]], file)
    assert sum(n_seen) == 1  # the one that is new
    assert np.array_equal(after[1:3], before[2:])
    assert np.array_equal(after[0], after[3])
    assert not np.array_equal(after[0], before[0])


# ---- phrases in other languages


def test_adjectives_of_a_phrase_follow_the_gender_and_number_of_its_noun(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    languages = load("languages")
    rng = np.random.default_rng(0)
    attributes = {"category": "Dresses", "colour": "red", "pattern": "striped"}
    said = {
        name: {languages.translated_phrase(attributes, name, rng) for _ in range(400)}
        for name in languages.LANGUAGES
    }
    assert ("red striped dress", "rotes gestreiftes Kleid") in said["de"]
    assert ("red striped dress", "robe rouge à rayures") in said["fr"]
    assert ("red striped dress", "vestido rojo de rayas") in said["es"]
    assert ("red dress", "abito rosso") in said["it"]
    assert {("red dress", "赤いワンピース"), ("red dress", "赤い ワンピース")} <= said["ja"]
    assert languages.inflect("weiß~", "p", "de") == "weiße"
    assert languages.inflect("azul,azul", "fp", "es") == "azules"
    assert languages.inflect("bianco,bianca,bianchi,bianche", "fp", "it") == "bianche"
    assert languages.translated_phrase({"category": "Ipad"}, "de", rng) is None


def test_the_table_of_words_says_the_gender_of_every_noun_and_has_no_empty_word(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    languages = load("languages")
    for name in languages.LANGUAGES:
        table = languages.words(name)
        said = [word for kind in table.values() for some in kind.values() for word in some]
        assert all(word and word == word.strip() for word in said)
        forms = {word.rpartition(":")[2] for some in table["category"].values() for word in some}
        assert name == "ja" or forms <= {"m", "f", "n", "p", "mp", "fp"}


# ---- words that no caption uses


def write_wordnet(folder):
    """Five meanings of clothing, and one of another kind; the first word has two of them."""
    synsets = [  # identifier, words, the meaning above
        ("00000001", "clothing", ""), ("00000002", "jacket", "00000001"),
        ("00000003", "parka anorak", "00000002"), ("00000004", "cagoule", "00000003"),
        ("00000005", "skirt", "00000001"), ("00000006", "jacket", ""),
    ]  # fmt: skip
    lines, senses = ["  1 the licence"], {}
    for name, words, above in synsets:
        words = words.split()
        for word in words:
            senses.setdefault(word, []).insert(0, name)  # the other meaning is the most usual one
        listed = " ".join(f"{word} 0" for word in words)
        pointer = f"001 @ {above} n 0000" if above else "000"
        kind = "05" if name == "00000006" else "06"
        lines.append(f"{name} {kind} n {len(words):02x} {listed} {pointer} | what it is")
    (folder / "data.noun").write_text("\n".join(lines) + "\n")
    index = [
        f"{word} n {len(some)} 1 @ {len(some)} 0 {' '.join(some)}" for word, some in senses.items()
    ]
    (folder / "index.noun").write_text("\n".join(["  1 the licence", *index]) + "\n")
    return folder


def test_words_of_clothing_have_the_nearest_category_above_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    found = load("wordnet").categories_of_words(write_wordnet(tmp_path), {"jackets", "shirt"})
    assert found == {word: ("jackets",) for word in ("jacket", "parka", "anorak", "cagoule")}


def test_new_words_come_near_their_meaning_and_the_image_tower_stays(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    distill = load("distill_words")
    start = write_checkpoint(tmp_path / "start")
    row = dict.fromkeys(distill.ATTRIBUTES, "") | {
        "title": "a red jacket", "highlights": "[]", "description": "",
        "phrases": '["red jacket", "white dress"]', "category": "jacket", "colour": "red",
    }  # fmt: skip
    rows = [row, row | {"category": "dress", "colour": "white"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "catalog.parquet")
    wordnet = write_wordnet(tmp_path)
    synonyms = distill.unknown_words(wordnet, rows, distill.known_texts(rows))
    assert {"parka", "parkas", "cagoule"} <= synonyms.keys()
    assert "jacket" not in synonyms
    options = ["--wordnet", wordnet, "--out", tmp_path / "out", "--steps", 60, "--batch", 32]
    command = ["", start, tmp_path / "catalog.parquet", *options, "--lr", 0.003]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    distill.main()
    before, after = (FashionCLIP.from_pretrained(tmp_path / name) for name in ("start", "out"))
    meant = before.encode_text(["jacket"])
    first, last = (model.encode_text(["parka", "anoraks"]) @ meant.T for model in (before, after))
    assert (last > first).all()
    weights = [model.checkpoint.weights() for model in (before, after)]
    for name in weights[0]:
        is_text = name.startswith(("text_model.", "text_projection."))
        assert is_text or np.array_equal(weights[0][name], weights[1][name])


def test_accents_are_left_out_and_other_scripts_stay(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT)
    distill = load("distill_words")
    assert distill.without_accents("größe à rayures ガウン") == "grosse a rayures ガウン"
