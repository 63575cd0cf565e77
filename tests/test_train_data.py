"""Training data: pairs, split, augmentation, batches; and the optimizer."""

import io
import json
import re
import tarfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoded_images import image_bytes
from fashionclip.checkpoint import open_checkpoint
from fashionclip.engines.towers import Towers
from fashionclip.images.decode import Preprocess, preprocess
from fashionclip.sample import generate_images, write_sample_catalog
from fashionclip.text.captions import build_caption
from fashionclip.train.augment import (
    MAX_SHORT_WORDS,
    View,
    augment_image,
    change_value,
    color_pattern,
    decode,
    mix_images,
    sample_caption,
    stored_px,
    view_patches,
    without_colors,
)
from fashionclip.train.data import (
    CatalogPairs,
    Pair,
    color_columns,
    image_digests,
    open_data,
    split_pairs,
)
from fashionclip.train.distributed import ProcessGroup
from fashionclip.train.loader import Loader
from fashionclip.train.optimizer import (
    lr_at,
    lr_scale,
    make_optimizer,
    round_to_half,
    set_lr,
    update_ema,
)
from fashionclip.train.recipe import (
    AugmentConfig,
    DataConfig,
    OptimizerConfig,
    Recipe,
    make_recipe,
    recipe_keys,
)
from fashionclip.train.run import RunFolder
from fashionclip.train.setup import claim, prepare

BUSY = AugmentConfig(
    crop=0.3, flip=0.5, grayscale=0.1, background=0.4, padding=0.4, low_resolution=0.3,
    highlight_order=True, highlight_dropout=0.3, short_captions=0.3, long_captions=0.3,
)  # fmt: skip
SHIRT = Pair(
    pair_id="1",
    title="Striped shirt",
    highlights=("long sleeves", "cotton", "button-down collar"),
    description="A shirt for every day. It is soft. Wash it cold.",
    image="1.jpg",
    brand="Alma",
    product="1",
    attributes=(),
    captions=("soft shirt",),
    row=1,
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_sample_catalog(tmp_path_factory.mktemp("shop"), n_products=80)


@pytest.fixture(scope="module")
def pairs(shop):
    return open_data(DataConfig(catalog=str(shop)))


def test_a_pairs_caption_is_the_catalogues(shop, pairs):
    from fashionclip.catalog import Catalog

    products = list(Catalog.open(shop))
    assert [pair.caption for pair in pairs] == [product.caption for product in products]
    assert [pair.brand for pair in pairs] == [product.columns["brand"] for product in products]


def noise(n):
    """Small images that are all different."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (12, 8, 3), dtype=np.uint8)) for _ in range(n)]


# ---- the split


def split_of(pairs, config):
    return split_pairs(pairs, image_digests(pairs), config)


def parts_of(found):
    parts = {"train": found.train, "development": found.development, "test": found.test}
    return {name: rows.tolist() for name, rows in parts.items()}


def test_no_brand_is_in_two_parts_and_every_part_has_some(pairs):
    found = split_of(pairs, DataConfig(seed=1))
    brands = {name: {pairs[i].brand for i in rows} for name, rows in parts_of(found).items()}
    assert all(brands.values())
    assert found.held_out_by == "brand"
    assert not brands["train"] & brands["development"]
    assert not brands["train"] & brands["test"]
    assert not brands["development"] & brands["test"]
    n_all = sum(map(len, parts_of(found).values())) + found.n_left_out
    assert n_all == len(pairs)


def test_a_brand_keeps_its_part_when_others_come(tmp_path, shop):
    lines = shop.read_text(encoding="utf-8").splitlines(keepends=True)
    few = shop.with_name("few.csv")
    few.write_text("".join(lines[:60]), encoding="utf-8")
    data = DataConfig(seed=3, development=0.3, test=0.3)
    part = {}
    for place in (few, shop):
        pairs = open_data(data.model_copy(update={"catalog": str(place)}))
        found = split_of(pairs, data)
        for name, rows in parts_of(found).items():
            for i in rows:
                assert part.setdefault(pairs[i].brand, name) == name


def test_a_pair_that_repeats_a_held_out_image_or_text_is_not_trained_on(tmp_path):
    """Two brands share an image: if one of them is held out, the other's pair is left out."""
    rows = ["id,title,description,brand,image"]
    for i, image in enumerate(noise(40)):
        image.save(tmp_path / f"{i}.png")
        brand = f"brand {i % 20}"
        image = "0.png" if i % 20 == 1 else f"{i}.png"
        text = "one text" if i % 20 == 2 else f"text {i}"
        rows.append(f"{i},thing,{text},{brand},{image}")
    table = tmp_path / "shop.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    pairs = open_data(DataConfig(catalog=str(table)))
    for seed in range(1, 6):
        found = split_of(pairs, DataConfig(seed=seed, development=0.3, test=0.3))
        seen = {}
        for name, numbers in parts_of(found).items():
            for i in numbers:
                for key in (pairs[i].image, pairs[i].description):
                    assert seen.setdefault(key, name) == name


def test_without_brands_titles_are_held_out(tmp_path):
    rows = ["id,title,image"]
    for i, image in enumerate(noise(30)):
        image.save(tmp_path / f"{i}.png")
        rows.append(f"{i},title {i % 15},{i}.png")
    (tmp_path / "shop.csv").write_text("\n".join(rows), encoding="utf-8")
    pairs = open_data(DataConfig(catalog=str(tmp_path / "shop.csv")))
    found = split_of(pairs, DataConfig(seed=1))
    assert found.held_out_by == "title"
    titles = [{pairs[i].title for i in rows} for rows in parts_of(found).values()]
    assert all(titles)
    assert not titles[0] & titles[1]
    assert not titles[0] & titles[2]


def test_everything_before_the_first_step_reads_each_image_once(pairs, tiny_checkpoint, tmp_path):
    reads = Counter()

    def read(pair):
        reads[pair.pair_id] += 1
        return pairs.read_image(int(pair.row) - 1)

    source = CatalogPairs([pairs[i] for i in range(len(pairs))], read, ())
    recipe = make_recipe({"model": {"start": str(tiny_checkpoint)}}, place="the test")
    run = RunFolder(tmp_path / "run")
    setup = prepare(recipe, run, source=source)
    claim(setup, run, changed_data=False)
    assert reads == {pairs[i].pair_id: 1 for i in range(len(pairs))}
    assert len(setup.split.train) > len(setup.split.test) > 0


# ---- captions


def test_without_augmentation_the_caption_is_the_products():
    rng = np.random.default_rng(0)
    assert sample_caption(SHIRT, AugmentConfig(), rng) == build_caption(
        SHIRT.highlights, SHIRT.title
    )


def test_captions_are_made_of_the_products_words_only():
    rng = np.random.default_rng(0)
    known = set(f"{SHIRT.caption} {SHIRT.description}".replace(",", "").split())
    sampled = {sample_caption(SHIRT, BUSY, rng) for _ in range(300)}
    assert len(sampled) > 20
    assert all(text and set(text.replace(",", "").split()) <= known for text in sampled)


def test_highlights_change_places_and_drop_out():
    rng = np.random.default_rng(0)
    shuffled = {sample_caption(SHIRT, AugmentConfig(highlight_order=True), rng) for _ in range(100)}
    assert len(shuffled) == 6
    assert all(
        text.startswith("Striped shirt, ") and len(text) == len(SHIRT.caption) for text in shuffled
    )
    dropped = {sample_caption(SHIRT, AugmentConfig(highlight_dropout=0.5), rng) for _ in range(200)}
    assert len(dropped) == 8
    assert "Striped shirt" in dropped


def test_short_captions_are_short_and_long_ones_come_from_the_description():
    rng = np.random.default_rng(0)
    long_title = replace(SHIRT, title="very " * 30 + "long")
    for pair in (SHIRT, long_title):
        texts = {sample_caption(pair, AugmentConfig(short_captions=1.0), rng) for _ in range(50)}
        assert max(len(text.split()) for text in texts) <= MAX_SHORT_WORDS + 2
    texts = {sample_caption(SHIRT, AugmentConfig(long_captions=1.0), rng) for _ in range(50)}
    assert all(any(part in text for part in ("every day", "soft", "cold")) for text in texts)
    without_description = replace(SHIRT, description="")
    assert (
        sample_caption(without_description, AugmentConfig(long_captions=1.0), rng) == SHIRT.caption
    )


# ---- images


def png_bytes(image):
    return image_bytes(image, "PNG")


@pytest.fixture(scope="module")
def image_files():
    return [png_bytes(image) for image in generate_images(6)]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_without_augmentation_pixels_are_those_of_evaluation(image_files, fit):
    pre = Preprocess(48, fit)
    rng = np.random.default_rng(0)
    for data in image_files:
        stored = decode(data, pre, stored_px(pre, AugmentConfig()))
        assert np.array_equal(
            augment_image(stored, 48, AugmentConfig(), rng)[0], preprocess(data, pre)
        )


def test_augmented_pixels_have_the_models_size_and_differ(image_files):
    pre, rng = Preprocess(48, "pad"), np.random.default_rng(0)
    stored = decode(image_files[0], pre, stored_px(pre, BUSY))
    before = stored.copy()
    seen = [augment_image(stored, 48, BUSY, rng)[0] for _ in range(20)]
    assert all(pixels.shape == (48, 48, 3) and pixels.dtype == np.uint8 for pixels in seen)
    assert len({pixels.tobytes() for pixels in seen}) == 20
    assert np.array_equal(stored, before)


def test_another_background_leaves_the_garment_alone(image_files):
    pre = Preprocess(64, "pad")
    stored = decode(image_files[0], pre, 64)
    changed, _ = augment_image(stored, 64, AugmentConfig(background=1.0), np.random.default_rng(1))
    is_white = (stored == 255).all(axis=2)
    assert 0.2 < is_white.mean() < 0.95
    assert (changed[is_white] != 255).any(axis=1).mean() > 0.8
    far = (np.abs(stored.astype(int) - 255) > 30).any(axis=2)
    assert np.array_equal(changed[far], stored[far])


def test_a_scene_keeps_its_background():
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(augment_image(scene, 64, AugmentConfig(background=1.0), rng)[0], scene)


COLORED = Pair(
    pair_id="2",
    title="Navy blue striped shirt, white collar",
    highlights=("blue", "Off-White trim", "cotton"),
    description="A teal shirt. It is redder than RED, and soft.",
    image="2.jpg",
    brand="",
    product="2",
    attributes=("navy blue", "shirt"),
    captions=("sea foam shirt", "white"),
    row=1,
)


@given(st.integers(0, 1000))
def test_a_caption_of_an_image_without_colors_names_none(seed):
    pattern = color_pattern(["Navy Blue", "sea foam"])
    pair = without_colors(COLORED, pattern, color_columns(["baseColour", "category"]))
    assert pair.attributes == ("", "shirt")
    options = BUSY.model_copy(update={"further_captions": 0.3})
    caption = sample_caption(pair, options, np.random.default_rng(seed))
    assert caption
    assert not {"navy", "blue", "white", "teal", "red", "foam"} & set(
        re.findall(r"[a-z]+", caption.lower())
    )


def test_without_colors_the_other_words_stay_and_a_color_alone_is_a_product():
    pattern = color_pattern([])
    plain = without_colors(COLORED, pattern, ())
    assert plain.title == "striped shirt, collar"
    assert plain.highlights == ("Off- trim", "cotton")
    assert "redder" in plain.description
    alone = replace(COLORED, title="Red", highlights=(), description="", captions=("red",))
    assert without_colors(alone, pattern, ()).caption == "a product"


@given(st.integers(0, 1000))
def test_a_changed_caption_differs_by_one_value_of_the_product(seed):
    values = [("red", ["blue", "red"]), ("", ["dots"]), ("round neck", ["collar", "round neck"])]
    rng = np.random.default_rng(seed)
    changed = change_value("Red t-shirt, Round Neck, reduced", values, rng)
    assert changed in {"blue t-shirt, Round Neck, reduced", "Red t-shirt, collar, reduced"}
    assert change_value("reddish shirt", values, rng) == ""


def test_grayscale_and_flip(image_files):
    pre, rng = Preprocess(64, "pad"), np.random.default_rng(0)
    stored = decode(image_files[1], pre, 64)
    grey, _ = augment_image(stored, 64, AugmentConfig(grayscale=1.0), rng)
    assert (grey.max(axis=2) == grey.min(axis=2)).all()
    negative, view = augment_image(stored, 64, AugmentConfig(grayscale=1.0, negative=1.0), rng)
    assert (negative == 255 - grey).all()
    assert view.is_gray
    colored, _ = augment_image(stored, 64, AugmentConfig(negative=1.0), rng)
    assert np.array_equal(colored, stored)
    flipped, view = augment_image(stored, 64, AugmentConfig(flip=1.0), rng)
    assert np.array_equal(flipped, stored[:, ::-1])
    assert view == View(0.0, 0.0, 1.0, is_flipped=True)


@given(st.integers(0, 1000))
def test_patch_targets_are_of_what_the_view_shows(seed):
    """Patches whose targets are where they are find them again in the pixels."""
    ramp = np.round(np.linspace(20, 235, 112)).astype(np.uint8)
    stored = np.stack([*np.broadcast_arrays(ramp, ramp[:, None], np.uint8(0))], axis=-1)
    centers = (np.arange(7) + 0.5) / 7
    targets = np.stack(np.meshgrid(centers, centers), axis=-1).reshape(49, 2).astype(np.float32)
    augment = AugmentConfig(crop=0.3, flip=0.5)
    pixels, view = augment_image(stored, 112, augment, np.random.default_rng(seed))
    found = view_patches(targets, view).reshape(7, 7, 2)
    shown = (pixels.reshape(7, 16, 7, 16, 3).mean((1, 3))[..., :2] - 20) / 215
    assert np.abs(found - shown)[1:-1, 1:-1].max() < 0.02


# ---- batches


def loader_of(pairs, checkpoint, group=None, **keys):
    recipe = make_recipe({"augment": {"crop": 0.2, "flip": 0.5, "short_captions": 0.5}, **keys},
                         place="the test")  # fmt: skip
    return Loader(
        pairs,
        np.arange(len(pairs)),
        recipe,
        batch_size=16,
        tokenizer=checkpoint.tokenizer,
        preprocess=checkpoint.preprocess,
        n_patches=16,
        group=group or ProcessGroup(),
    )


def some_batches(loader, first, n):
    batches = loader.iter_batches(first)
    found = [next(batches) for _ in range(n)]
    batches.close()
    return found


def test_an_epoch_shows_every_pair_once_and_the_next_in_another_order(pairs, tiny_checkpoint):
    loader = loader_of(pairs, open_checkpoint(tiny_checkpoint))
    assert loader.steps_per_epoch == 5
    batches = some_batches(loader, 0, 10)
    products = [[b.keys[:, 0] for b in batches[start : start + 5]] for start in (0, 5)]
    first, second = (np.concatenate(one) for one in products)
    assert len(set(first.tolist())) == len(pairs)
    assert set(first.tolist()) == set(second.tolist())
    assert first.tolist() != second.tolist()


def test_a_batch_follows_from_its_step_alone(pairs, tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    straight = some_batches(loader_of(pairs, checkpoint), 0, 8)
    (late,) = some_batches(loader_of(pairs, checkpoint, data={"workers": 1, "cache_gb": 0.0}), 7, 1)
    assert np.array_equal(late.pixels, straight[7].pixels)
    assert np.array_equal(late.keys, straight[7].keys)


def test_processes_share_a_batch_in_order(pairs, tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    (whole,) = some_batches(loader_of(pairs, checkpoint), 3, 1)
    parts = [
        some_batches(loader_of(pairs, checkpoint, ProcessGroup(rank, 4)), 3, 1)[0]
        for rank in range(4)
    ]
    assert np.array_equal(np.concatenate([part.pixels for part in parts]), whole.pixels)
    assert np.array_equal(np.concatenate([part.keys for part in parts]), whole.keys)


def test_changed_captions_are_those_of_rows_that_name_a_value(shop, tiny_checkpoint):
    data = {"attributes": ["colour", "category"]}
    loss = {"hard_negatives": 1.0, "changed": ["colour"]}
    pairs = open_data(DataConfig(catalog=str(shop), **data))
    loader = loader_of(pairs, open_checkpoint(tiny_checkpoint), augment={}, data=data, loss=loss)
    (batch,) = some_batches(loader, 0, 1)
    named = [
        i
        for i, row in enumerate(batch.rows.tolist())
        if pairs[row].attributes[0].lower() in pairs[row].caption.lower()
    ]
    assert batch.changed_rows.tolist() == named
    assert len(batch.changed_tokens) == len(named) > 0


def test_images_without_colors_have_no_color_in_their_labels(shop, tiny_checkpoint):
    options = {"data": {"attributes": ["colour", "category"]}}
    pairs = open_data(DataConfig(catalog=str(shop), **options["data"]))
    gray = {"augment": {"grayscale": 1.0}}
    (before,) = some_batches(loader_of(pairs, open_checkpoint(tiny_checkpoint), **options), 0, 1)
    (batch,) = some_batches(
        loader_of(pairs, open_checkpoint(tiny_checkpoint), **options, **gray), 0, 1
    )
    assert (before.attributes != 0).any(axis=0).all()
    assert (batch.attributes[:, 0] == 0).all()
    assert (batch.attributes[:, 1] == before.attributes[:, 1]).all()


def test_images_without_colors_have_no_patch_targets(shop, tiny_checkpoint, tmp_path):
    pairs = open_data(DataConfig(catalog=str(shop)))
    np.save(tmp_path / "targets.npy", np.ones((pairs[len(pairs) - 1].row, 16, 2), np.float16))
    options = {"data": {"patch_targets": str(tmp_path / "targets.npy")}, "loss": {"patches": 1.0},
               "augment": {"grayscale": 0.5}}  # fmt: skip
    (batch,) = some_batches(loader_of(pairs, open_checkpoint(tiny_checkpoint), **options), 0, 1)
    is_gray = (batch.pixels.max(3) == batch.pixels.min(3)).all((1, 2))
    assert 0 < is_gray.sum() < len(is_gray)
    assert np.isnan(batch.patch_targets[is_gray]).all()
    assert (batch.patch_targets[~is_gray] == 1).all()


def test_kept_patches_are_distinct_patches_of_the_image(pairs, tiny_checkpoint):
    loader = loader_of(pairs, open_checkpoint(tiny_checkpoint), model={"patch_keep_ratio": 0.5})
    (batch,) = some_batches(loader, 0, 1)
    assert batch.patches.shape == (16, 8)
    assert all(len(set(row)) == 8 and min(row) >= 0 and max(row) < 16 for row in batch.patches)


def test_tars_are_read_from_any_file_system(pairs, shop):
    import fsspec

    system = fsspec.filesystem("memory")
    with (
        system.open("/bucket/shop-0.tar", "wb") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        for i, image in enumerate(noise(3)):
            fields = {"title": pairs[i].title, "brand": "Alma"}
            parts = {"png": png_bytes(image), "json": json.dumps(fields).encode()}
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"folder/{i}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        lonely = tarfile.TarInfo("lonely.txt")
        lonely.size = 2
        tar.addfile(lonely, io.BytesIO(b"hi"))
    found = open_data(DataConfig(catalog="memory://bucket/shop-*.tar"))
    assert [pair.title for pair in found] == [pairs[i].title for i in range(3)]
    assert Image.open(io.BytesIO(found.read_image(2))).size == (8, 12)
    assert [reject.product_id for reject in found.rejects] == ["lonely"]


# ---- the optimizer


def test_the_learning_rate_warms_up_then_decays_to_zero():
    recipe = OptimizerConfig(lr=0.1, warmup_steps=10)
    rates = [lr_at(step, 110, recipe) for step in range(110)]
    assert rates[:10] == pytest.approx([0.01 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.05)
    assert rates[-1] < 1e-4
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert lr_at(99, 110, recipe.model_copy(update={"schedule": "constant"})) == 0.1


def test_earlier_layers_have_smaller_learning_rates(tiny_checkpoint):
    config = open_checkpoint(tiny_checkpoint).config  # two layers a tower
    names = (
        "vision_model.embeddings.class_embedding",
        "vision_model.encoder.layers.0.mlp.fc1.weight",
        "text_model.encoder.layers.1.mlp.fc1.bias",
        "text_projection.weight",
    )
    decayed, plain = OptimizerConfig(layer_decay=0.5), OptimizerConfig()
    assert [lr_scale(name, config, decayed) for name in names] == [0.125, 0.25, 0.5, 1.0]
    assert lr_scale(names[0], config, plain) == 1.0


def test_the_image_tower_has_a_learning_rate_of_its_own(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint)
    towers = Towers.from_checkpoint(checkpoint)
    head = torch.nn.Parameter(torch.zeros(2, 2))
    weights = {**dict(towers.named_parameters()), "patch_head.patch.weight": head}
    temperature = torch.nn.Parameter(torch.tensor(2.0))
    recipe = OptimizerConfig(
        lr=0.01, vision_lr_scale=0.1, layer_decay=0.5, temperature_lr_scale=10.0
    )
    optimizer = make_optimizer(weights.items(), [temperature], checkpoint.config, recipe)
    set_lr(optimizer, 0.01)
    rate_of = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    assert len(rate_of) == len(weights) + 1
    rates = {name: rate_of[id(weight)] for name, weight in weights.items()}
    expected = {
        "vision_model.post_layernorm.weight": 0.001,
        "vision_model.encoder.layers.1.mlp.fc1.weight": 0.0005,
        "vision_model.encoder.layers.0.mlp.fc1.weight": 0.00025,
        "vision_model.embeddings.class_embedding": 0.000125,
        "vision_model.pre_layrnorm.weight": 0.000125,
        "visual_projection.weight": 0.01,
        "text_projection.weight": 0.01,
        "text_model.encoder.layers.1.mlp.fc1.weight": 0.005,
        "patch_head.patch.weight": 0.01,
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected)
    assert rate_of[id(temperature)] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_the_optimizers_are_pytorchs_with_the_decay_where_it_belongs(tiny_checkpoint, kind):
    config = open_checkpoint(tiny_checkpoint).config
    torch.manual_seed(0)
    first = [torch.randn(4, 4), torch.randn(4), torch.tensor(2.0)]
    mine, theirs = ([torch.nn.Parameter(w.clone()) for w in first] for _ in range(2))
    names = ("visual_projection.weight", "vision_model.post_layernorm.bias")
    recipe = OptimizerConfig(kind=kind, lr=0.01, weight_decay=0.2)
    own = make_optimizer(zip(names, mine[:2], strict=True), mine[2:], config, recipe)
    settings = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-6}
    if kind == "adam":
        reference = torch.optim.Adam(theirs, weight_decay=0.2, **settings)
    else:
        groups = [{"params": theirs[:1], "weight_decay": 0.2},
                  {"params": theirs[1:], "weight_decay": 0.0}]  # fmt: skip
        reference = torch.optim.AdamW(groups, **settings)
    for step in range(3):
        for weights, optimizer in ((mine, own), (theirs, reference)):
            torch.manual_seed(step)
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            optimizer.step()
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_moving_average_approaches_the_weights():
    average, weights = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
    for step in range(200):
        update_ema(average, weights, 0.9, step)
    assert torch.allclose(average["w"], torch.ones(2), atol=1e-4)
    update_ema(average, {"w": torch.zeros(2)}, 0.9, 10_000)
    assert torch.allclose(average["w"], torch.full((2,), 0.9), atol=1e-3)


def test_rounding_to_half_is_what_float16_holds():
    weight = torch.nn.Parameter(torch.tensor([0.1, 1 / 3, 2049.0]))
    weight.grad = torch.tensor([1e-9, 0.1, 5.0])
    round_to_half([weight], gradients=True)
    assert weight.grad.tolist() == torch.tensor([1e-9, 0.1, 5.0]).half().float().tolist()
    assert weight.tolist() == pytest.approx([0.1, 1 / 3, 2049.0])
    round_to_half([weight], gradients=False)
    assert weight[2] == 2048.0


def test_defaults_are_within_their_own_ranges():
    groups = {}
    for key in recipe_keys():
        groups.setdefault(key.group, {})[key.name] = key.default
    assert make_recipe(groups, place="defaults") == Recipe()


def test_patch_targets_follow_the_crop_and_the_flip_of_an_image():
    targets = np.arange(16, dtype=np.float32).reshape(16, 1)
    whole = View(0.0, 0.0, 1.0, is_flipped=False)
    assert np.array_equal(view_patches(targets, whole), targets)
    flipped = view_patches(targets, View(0.0, 0.0, 1.0, is_flipped=True))
    assert np.array_equal(flipped.reshape(4, 4), targets.reshape(4, 4)[:, ::-1])
    corner = view_patches(targets, View(0.5, 0.5, 0.5, is_flipped=False)).reshape(4, 4)
    assert corner[0, 0] == pytest.approx(1.75 * 4 + 1.75)
    assert corner.max() <= 15


def test_mixed_images_hold_a_rectangle_of_patches_of_another():
    pixels = np.stack([np.full((64, 64, 3), i, np.uint8) for i in range(6)])
    targets = np.repeat(np.arange(6, dtype=np.float32)[:, None, None], 16, axis=1)
    other, ratio = mix_images(pixels, targets, 16, 1.0, np.random.default_rng(0))
    for i in range(6):
        own = (pixels[i, ..., 0] == i).mean()
        assert own == pytest.approx(1.0 if other[i] == i else ratio[i])
        assert set(np.unique(pixels[i])) <= {i, other[i]}
        assert np.array_equal(targets[i].reshape(4, 4), pixels[i, ::16, ::16, 0])
    nothing = pixels.copy()
    mix_images(pixels, None, 16, 0.0, np.random.default_rng(0))
    assert np.array_equal(pixels, nothing)


def test_further_captions_are_sampled_with_the_given_probability():
    augment, rng = AugmentConfig(further_captions=0.25), np.random.default_rng(0)
    captions = [sample_caption(SHIRT, augment, rng) for _ in range(2_000)]
    assert captions.count("soft shirt") == pytest.approx(500, abs=60)
    assert set(captions) == {"soft shirt", SHIRT.caption}
