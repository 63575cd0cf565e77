"""Training runs: killed and resumed, unreadable images, full disks, wrong recipes."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import tomllib
import zlib
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save, torch_save_to_dcp

import two_processes
from fashionclip.checkpoint import open_checkpoint
from fashionclip.cli.main import run as run_program
from fashionclip.engines.io import to_unit
from fashionclip.errors import CatalogError, TrainingError
from fashionclip.model import FashionCLIP
from fashionclip.sample import write_sample_catalog
from fashionclip.train.distributed import ProcessGroup
from fashionclip.train.loop import train
from fashionclip.train.loss import Temperature
from fashionclip.train.recipe import make_recipe, read_recipe, write_recipe
from fashionclip.train.run import RunFolder, read_facts
from fashionclip.train.setup import prepare
from fashionclip.train.state import TrainState, load_state, save_state
from random_clip import write_checkpoint

N_PRODUCTS, BATCH, STEPS = 60, 8, 6


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A generated catalogue."""
    return write_sample_catalog(tmp_path_factory.mktemp("shop"), n_products=N_PRODUCTS)


@pytest.fixture
def own_shop(shop, tmp_path):
    """A copy that a test may break."""
    return Path(shutil.copytree(shop.parent, tmp_path / "shop")) / "catalog.csv"


def recipe_of(catalog, start, **keys):
    groups = {
        "data": {"catalog": str(catalog), "workers": 2},
        "model": {"start": str(start), "precision": "float32"},
        "optimizer": {"lr": 1e-3, "warmup_steps": 2, "ema": 0.9},
        "schedule": {"batch_size": BATCH, "steps": STEPS, "log_every": 1, "state_every": 2,
                     "checkpoint_every": 3},
        "augment": {"crop": 0.2, "flip": 0.5, "background": 0.5, "padding": 0.5, "grayscale": 0.1,
                    "low_resolution": 0.3, "highlight_order": True, "highlight_dropout": 0.3,
                    "short_captions": 0.3, "long_captions": 0.3},
    }  # fmt: skip
    for name, value in keys.items():
        group, _, key = name.partition("__")
        groups.setdefault(group, {})[key] = value
    return make_recipe(groups, place="the test")


def lines_of(run, kind="step"):
    lines = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if ("event" in line) == (kind == "event")]


def losses_of(run):
    return [(line["step"], line["loss"], line["gradient_norm"]) for line in lines_of(run)]


def weights_of(run, step=STEPS):
    return load_file(run.checkpoint(step) / "model.safetensors")


def same_weights(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(shop, tiny_checkpoint, tmp_path_factory):
    """An uninterrupted run."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    outcome = train(recipe_of(shop, tiny_checkpoint), run)
    assert (outcome.steps, outcome.status) == (STEPS, "finished")
    return run


def test_a_run_leaves_everything_in_its_folder(whole, shop, tiny_checkpoint):
    assert read_recipe(whole.recipe) == recipe_of(shop, tiny_checkpoint)
    facts = read_facts(whole)
    assert facts["status"] == "finished"
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["seed"] == 0
    assert len(facts["data_hash"]) == 16
    pairs = facts["pairs"]
    assert pairs["read"] == N_PRODUCTS
    assert pairs["train"] + pairs["development"] + pairs["test"] + pairs["left_out"] == N_PRODUCTS
    assert min(pairs["development"], pairs["test"]) > 0
    assert list(whole.checkpoints()) == [3, 6]
    assert [line["step"] for line in lines_of(whole)] == [1, 2, 3, 4, 5, 6]
    assert {"epoch", "loss", "logit_scale", "lr", "samples_per_s", "data_share"} <= set(
        lines_of(whole)[0]
    )
    assert list(whole.tensorboard.iterdir())
    start = open_checkpoint(whole.start)
    assert start.fingerprint == open_checkpoint(tiny_checkpoint).fingerprint
    tuned = open_checkpoint(whole.checkpoint(STEPS))
    assert not same_weights(tuned.weights(), start.weights())


def test_transformers_loads_a_checkpoint(whole):
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(whole.checkpoint(STEPS))
    assert model.config.text_config.hidden_act == "quick_gelu"


def test_the_same_recipe_gives_the_same_numbers(whole, shop, tiny_checkpoint, tmp_path):
    again = RunFolder(tmp_path / "again")
    recipe = recipe_of(shop, tiny_checkpoint, data__workers=1, data__cache_gb=0.0)
    train(recipe, again)
    assert losses_of(again) == losses_of(whole)
    assert same_weights(weights_of(again), weights_of(whole))


def test_another_seed_gives_other_numbers(whole, shop, tiny_checkpoint, tmp_path):
    other = RunFolder(tmp_path / "other")
    train(recipe_of(shop, tiny_checkpoint, schedule__seed=1), other)
    assert losses_of(other) != losses_of(whole)


class Killed(BaseException):
    """Stands for a kill: no handler of ``Exception`` runs."""


def kill_at(step):
    """An ``on_progress`` that raises ``Killed`` at a step."""

    def on_progress(progress):
        if progress.step == step:
            raise Killed

    return on_progress


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=[pytest.mark.slow] * (step in {1, 4})) for step in range(1, STEPS)],
)
def test_a_run_killed_at_any_step_ends_as_if_it_had_not_been(
    whole, shop, tiny_checkpoint, tmp_path, step
):
    run, recipe = RunFolder(tmp_path / "run"), recipe_of(shop, tiny_checkpoint)

    def kill(progress):
        if progress.step == step and progress.event is None:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, run, on_progress=kill)
    train(recipe, run)
    assert losses_of(run) == losses_of(whole)
    assert same_weights(weights_of(run), weights_of(whole))
    resumed = [line for line in lines_of(run, "event") if line["event"] == "resumed"]
    # steps 2 and 4 wrote a state, step 3 a checkpoint with one; step N is killed before its write
    assert [line["step"] for line in resumed] == {1: [], 2: [], 3: [2], 4: [3], 5: [4]}[step]


def change_state(folder, name, value):
    """Fill a weight of a saved state, as if the run had saved it so."""
    whole = folder.with_suffix(".pt")
    dcp_to_torch_save(folder, whole)
    tree = torch.load(whole, weights_only=True)
    tree["weights"][name].fill_(value)
    torch.save(tree, whole)
    shutil.rmtree(folder)
    torch_save_to_dcp(whole, folder)
    whole.unlink()
    checksums = {file.name: zlib.crc32(file.read_bytes()) for file in folder.iterdir()}
    (folder / "checksums.json").write_text(json.dumps(checksums), encoding="utf-8")


@pytest.mark.parametrize(
    "fault",
    [
        "cut short",
        "older",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("changed", "gone")),
    ],
)
def test_a_broken_state_costs_steps_not_the_run(whole, shop, tiny_checkpoint, tmp_path, fault):
    run, recipe = RunFolder(tmp_path / "run"), recipe_of(shop, tiny_checkpoint)
    with pytest.raises(Killed):
        train(recipe, run, on_progress=kill_at(5))
    assert sorted(path.name for path in run.states.iterdir()) == ["step-000003", "step-000004"]
    (part,) = (run.states / "step-000004").glob("*.distcp")
    data = part.read_bytes()
    if fault == "cut short":
        part.write_bytes(data[: len(data) // 2])
    elif fault == "changed":
        part.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    elif fault == "gone":
        part.unlink()
    else:
        shutil.rmtree(run.states / "step-000004")
        (run.states / "step-000004.pt").write_bytes(b"of a version before")
    (run.states / "step-000005.part").mkdir()  # half a state
    train(recipe, run)
    events = {line["event"]: line for line in lines_of(run, "event")}
    assert events["resumed"]["step"] == 3
    assert re.search(r"step-000004(\.pt)? cannot be read", events["state broken"]["reason"])
    assert losses_of(run) == losses_of(whole)
    assert same_weights(weights_of(run), weights_of(whole))


def test_the_latest_states_are_known_by_their_numbers(tmp_path):
    weights = {"weight": nn.Parameter(torch.zeros(2))}
    temperature = Temperature(1.0, has_bias=False)
    optimizer = torch.optim.AdamW([*weights.values(), *temperature.parameters()])
    state = TrainState(weights, temperature, optimizer, None)
    for state.step in (999_999, 1_000_000, 1_000_001):
        save_state(tmp_path, state)
    assert {path.name for path in tmp_path.iterdir()} == {"step-1000000", "step-1000001"}
    state.step = 0
    assert load_state(tmp_path, state) == []
    assert state.step == 1_000_001


def test_a_finished_run_is_not_run_again(whole, shop, tiny_checkpoint):
    before = whole.log.read_text(encoding="utf-8")
    outcome = train(recipe_of(shop, tiny_checkpoint), whole)
    assert (outcome.steps, outcome.status) == (STEPS, "finished")
    assert whole.log.read_text(encoding="utf-8") == before


def test_the_checkpoint_callback_can_end_the_run(shop, tiny_checkpoint, tmp_path):
    run, seen = RunFolder(tmp_path / "run"), []

    def on_checkpoint(step, folder):
        seen.append((step, open_checkpoint(folder).config.projection_dim))
        run.scores(step).parent.mkdir()
        run.scores(step).write_text(json.dumps({"scores": {"sets": {"sample": 0.5}}}))
        return False

    progress = []
    recipe = recipe_of(shop, tiny_checkpoint)
    outcome = train(recipe, run, on_checkpoint=on_checkpoint, on_progress=progress.append)
    assert seen == [(3, 24)]
    assert (outcome.steps, outcome.status) == (3, "stopped early")
    assert progress[-1].scores == {"sets/sample": 0.5}
    assert train(recipe, run).status == "stopped early"


@pytest.mark.parametrize(
    "keys",
    [
        {"loss__kind": "siglip"},
        {"loss__distill": 1.0, "loss__anchor": 1.0},
        pytest.param(
            {"loss__soft_targets": 0.2, "data__attributes": ["category", "colour"]},
            marks=pytest.mark.slow,
        ),
        {"model__freeze": "vision"},
        {"model__lora_rank": 2},
        {"optimizer__vision_lr_scale": 0.1, "optimizer__layer_decay": 0.7},
        pytest.param(
            {"model__checkpoint_activations": True, "model__patch_keep_ratio": 0.5},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"optimizer__kind": "adam", "optimizer__clip_norm": 1.0},
            marks=pytest.mark.slow,
        ),
        pytest.param({"model__precision": "bfloat16"}, marks=pytest.mark.slow),
        {"model__precision": "float16"},
        pytest.param({"schedule__chunk_size": 3}, marks=pytest.mark.slow),
        pytest.param({"loss__negatives": "all", "optimizer__ema": 0.0}, marks=pytest.mark.slow),
    ],
    ids=lambda keys: " ".join(keys),
)
def test_every_option_trains_and_resumes(shop, tiny_checkpoint, tmp_path, keys):
    if "model__lora_rank" in keys:
        pytest.importorskip("peft")
    recipe = recipe_of(shop, tiny_checkpoint, schedule__steps=2, schedule__state_every=1, **keys)
    straight, resumed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "resumed")
    train(recipe, straight)
    with pytest.raises(Killed):
        train(recipe, resumed, on_progress=kill_at(2))
    train(recipe, resumed)
    assert losses_of(resumed) == losses_of(straight)
    assert all(math.isfinite(loss) for _, loss, _ in losses_of(straight))
    tuned = weights_of(straight, 2)
    assert same_weights(weights_of(resumed, 2), tuned)
    start = {name: np.asarray(w) for name, w in open_checkpoint(straight.start).weights().items()}
    is_moved = {name: not np.array_equal(tuned[name], start[name]) for name in tuned}
    assert any(is_moved.values())
    if "model__freeze" in keys:
        assert not any(m for name, m in is_moved.items() if name.startswith("vis"))
    if "model__lora_rank" in keys:
        assert {name.split(".")[-2] for name, m in is_moved.items() if m and "." in name} <= {
            *("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
        }


def test_a_teacher_can_have_another_size_but_no_other_vocabulary(shop, tiny_checkpoint, tmp_path):
    larger = write_checkpoint(tmp_path / "larger", vision={"image_size": 48}, projection_dim=20)
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):  # ties are broken at random
        (larger / name).unlink(missing_ok=True)
        if (tiny_checkpoint / name).exists():
            shutil.copy(tiny_checkpoint / name, larger / name)
    recipe = recipe_of(
        shop, tiny_checkpoint, loss__teacher=str(larger), loss__distill=1.0, schedule__steps=1
    )
    assert math.isfinite(train(recipe, RunFolder(tmp_path / "run")).loss)
    recipe = recipe_of(shop, tiny_checkpoint, loss__teacher="builtin", loss__distill=1.0)
    with pytest.raises(TrainingError, match=r"loss\.teacher: builtin has another vocabulary"):
        train(recipe, RunFolder(tmp_path / "other"))


@pytest.mark.slow
def test_cached_gradients_train_as_the_whole_batch_does(whole, shop, tiny_checkpoint, tmp_path):
    run = RunFolder(tmp_path / "run")
    train(recipe_of(shop, tiny_checkpoint, schedule__chunk_size=3), run)
    for found, expected in zip(losses_of(run), losses_of(whole), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


def test_sixteen_pairs_can_be_memorized(shop, tiny_checkpoint, tmp_path):
    run = RunFolder(tmp_path / "run")
    recipe = make_recipe(
        {
            "data": {"catalog": str(shop), "max_rows": 16, "development": 0.0, "test": 0.0},
            "model": {"start": str(tiny_checkpoint)},
            "optimizer": {"lr": 2e-3, "schedule": "constant", "clip_norm": 1.0},
            "schedule": {"batch_size": 16, "steps": 50, "checkpoint_every": 50, "log_every": 1},
        },
        place="the test",
    )
    train(recipe, run)
    losses = [loss for _, loss, _ in losses_of(run)]
    assert losses[0] > 2.0  # chance is ln 16 = 2.77
    assert losses[-1] < 1.0


@pytest.mark.slow
def test_a_prefix_finds_more_if_it_was_trained_and_the_checkpoint_says_so(
    shop, tiny_checkpoint, tmp_path
):
    n_found = {}
    for prefixes in ((), (4,)):
        run = RunFolder(tmp_path / f"run-{len(prefixes)}")
        raw = {
            "data": {"catalog": str(shop), "max_rows": 32, "development": 0.0, "test": 0.0},
            "model": {"start": str(tiny_checkpoint), "precision": "float32"},
            "loss": {"prefixes": prefixes},
            "optimizer": {"lr": 2e-3, "schedule": "constant", "clip_norm": 1.0},
            "schedule": {"batch_size": 32, "steps": 40, "checkpoint_every": 40, "log_every": 40},
        }
        train(make_recipe(raw, place="the test"), run)
        source = prepare(read_recipe(run.recipe), run).source
        model = FashionCLIP.from_pretrained(run.checkpoint(40), device="cpu", precision="float32")
        assert model.checkpoint.config.prefix_dims == prefixes
        images = model.encode_images([source[i].image for i in range(len(source))])[:, :4]
        texts = model.encode_text([source[i].caption for i in range(len(source))])[:, :4]
        cosines = to_unit(images) @ to_unit(texts).T
        n_found[prefixes] = int((cosines.argmax(1) == np.arange(len(cosines))).sum())
    assert n_found[4,] >= n_found[()] + 8
    assert open_checkpoint(RunFolder(tmp_path / "run-0").start).fingerprint == (
        open_checkpoint(tiny_checkpoint).fingerprint
    )


def test_prefixes_must_be_shorter_than_the_vectors(shop, tiny_checkpoint, tmp_path):
    recipe = recipe_of(shop, tiny_checkpoint, loss__prefixes=[8, 24])
    message = r"loss.prefixes has 24, and the vectors of .* have 24 numbers: choose shorter ones"
    with pytest.raises(TrainingError, match=message):
        train(recipe, RunFolder(tmp_path / "run"))


# ---- bad input


def test_unreadable_images_are_skipped_and_listed_once(own_shop, tiny_checkpoint, tmp_path):
    for name in sorted((own_shop.parent / "images").iterdir())[::4]:
        name.write_bytes(f"{name} is no picture any more".encode())
    run = RunFolder(tmp_path / "run")
    recipe = recipe_of(own_shop, tiny_checkpoint, schedule__steps=12)
    assert train(recipe, run).status == "finished"
    rejects = [json.loads(line) for line in run.rejects.read_text("utf-8").splitlines()]
    assert 5 < len(rejects) <= N_PRODUCTS / 4
    assert len({reject["id"] for reject in rejects}) == len(rejects)
    assert all("cannot be decoded" in reject["reason"] for reject in rejects)
    assert all(math.isfinite(loss) for _, loss, _ in losses_of(run))


def test_too_many_unreadable_images_stop_the_run(own_shop, tiny_checkpoint, tmp_path):
    shutil.rmtree(own_shop.parent / "images")
    (own_shop.parent / "images").mkdir()
    with pytest.raises(TrainingError, match=r"images in a row cannot be read; see rejects\.jsonl"):
        train(recipe_of(own_shop, tiny_checkpoint), RunFolder(tmp_path / "run"))
    assert (tmp_path / "run" / "rejects.jsonl").exists()


def rewritten(catalog, column, value_of):
    import csv

    with catalog.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        row[column] = value_of(i, row)
    with catalog.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return catalog


def test_captions_of_one_letter_and_of_ten_thousand(own_shop, tiny_checkpoint, tmp_path):
    rewritten(own_shop, "highlights", lambda i, row: "")
    rewritten(own_shop, "title", lambda i, row: "x" if i % 2 else "long words " * 1000 + str(i))
    run = RunFolder(tmp_path / "run")
    assert train(recipe_of(own_shop, tiny_checkpoint), run).status == "finished"
    assert all(math.isfinite(loss) for _, loss, _ in losses_of(run))


def test_rows_without_words_or_image_are_rejects(own_shop, tiny_checkpoint, tmp_path):
    for column in ("title", "description", "highlights"):
        rewritten(own_shop, column, lambda i, row, column=column: "" if i == 0 else row[column])
    rewritten(own_shop, "image", lambda i, row: "" if i == 1 else row["image"])
    run = RunFolder(tmp_path / "run")
    train(recipe_of(own_shop, tiny_checkpoint), run)
    reasons = [json.loads(line)["reason"] for line in run.rejects.read_text("utf-8").splitlines()]
    assert sorted(reasons) == [
        "the row has no words",
        "the row names no image",
    ]
    assert read_facts(run)["pairs"]["rejected"] == 2


def test_equal_captions_are_refused(own_shop, tiny_checkpoint, tmp_path):
    rewritten(own_shop, "highlights", lambda i, row: "")
    rewritten(own_shop, "title", lambda i, row: "Product")
    keys = {"data__development": 0.0, "data__test": 0.0}
    with pytest.raises(
        TrainingError, match="all 60 captions are 'product'; a model cannot learn from"
    ):
        train(recipe_of(own_shop, tiny_checkpoint, **keys), RunFolder(tmp_path / "run"))


def test_fewer_pairs_than_a_batch_make_the_batch_smaller(shop, tiny_checkpoint, tmp_path):
    run = RunFolder(tmp_path / "run")
    recipe = recipe_of(shop, tiny_checkpoint, schedule__batch_size=4096, schedule__steps=2)
    assert train(recipe, run).status == "finished"
    (event,) = [line for line in lines_of(run, "event") if line["event"] == "smaller batch"]
    n_train = read_facts(run)["pairs"]["train"]
    assert event["batch_size"] == n_train == read_facts(run)["batch_size"]
    assert f"{n_train} pairs are fewer than a batch of 4096" in event["reason"]


def test_too_little_to_learn_from_is_refused(shop, tiny_checkpoint, tmp_path):
    with pytest.raises(TrainingError, match="1 pairs to learn from"):
        train(recipe_of(shop, tiny_checkpoint, data__max_rows=1), RunFolder(tmp_path / "run"))


def test_no_data_and_no_column_are_refused(shop, tiny_checkpoint, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(TrainingError, match=r"the recipe names no data; set data\.catalog"):
        train(recipe_of("", tiny_checkpoint), run)
    with pytest.raises(TrainingError, match=r"data\.attributes: .* has no column 'shade'"):
        train(recipe_of(shop, tiny_checkpoint, data__attributes=["shade"]), run)
    with pytest.raises(CatalogError):
        train(recipe_of(tmp_path / "none.csv", tiny_checkpoint), run)
    assert not run.facts.exists()


def test_a_run_whose_data_changed_stops_and_resumes_with_an_option(
    own_shop, tiny_checkpoint, tmp_path
):
    run, recipe = RunFolder(tmp_path / "run"), recipe_of(own_shop, tiny_checkpoint)
    with pytest.raises(Killed):
        train(recipe, run, on_progress=kill_at(4))
    images = sorted((own_shop.parent / "images").iterdir())
    images[0].write_bytes(images[1].read_bytes())  # the same name, another image
    with pytest.raises(TrainingError, match=r"60 pairs then, 60 now, 1 of them differ.*row 1\)"):
        train(recipe, run)
    assert train(recipe, run, changed_data=True).status == "finished"
    assert "data changed" in [line["event"] for line in lines_of(run, "event")]


def test_a_folder_belongs_to_one_recipe(whole, shop, tiny_checkpoint):
    with pytest.raises(TrainingError, match=r"run with optimizer.lr = 0\.001, now it is 0\.002"):
        train(recipe_of(shop, tiny_checkpoint, optimizer__lr=2e-3), whole)


def test_a_loss_that_is_no_number_stops_before_it_spoils_weights(shop, tiny_checkpoint, tmp_path):
    run, recipe = RunFolder(tmp_path / "run"), recipe_of(shop, tiny_checkpoint)
    with pytest.raises(Killed):
        train(recipe, run, on_progress=kill_at(5))
    latest = run.states / "step-000004"
    change_state(latest, "visual_projection.weight", 3e38)  # about to overflow
    before = {path: path.read_bytes() for path in latest.iterdir()}
    with pytest.raises(TrainingError, match=r"of step 5 is not a number; the last good") as error:
        train(recipe, run)
    assert str(run.checkpoint(3)) in str(error.value)
    assert "Lower optimizer.lr" in str(error.value)
    assert read_facts(run)["status"] == "failed"
    assert list(run.checkpoints()) == [3]
    assert {path: path.read_bytes() for path in latest.iterdir()} == before


# ---- other data sources


def test_tars_and_parquet_train_as_the_folder_does(whole, shop, tiny_checkpoint, tmp_path):
    import csv

    with shop.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = [(shop.parent / row["image"]).read_bytes() for row in rows]
    for name, part in (("0", slice(0, 25)), ("1", slice(25, None))):
        with tarfile.open(tmp_path / f"shop-{name}.tar", "w") as tar:
            for row, image in zip(rows[part], images[part], strict=True):
                for ending, content in (("jpg", image), ("json", json.dumps(row).encode())):
                    member = tarfile.TarInfo(f"{row['id']}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, __import__("io").BytesIO(content))
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "image"}
    pq.write_table(pa.table({**columns, "image": images}), tmp_path / "shop.parquet")
    for place in ("shop-{0..1}.tar", "shop-*.tar", "shop.parquet"):
        run = RunFolder(tmp_path / "runs" / place.replace("*", "all"))
        train(recipe_of(tmp_path / place, tiny_checkpoint), run)
        assert losses_of(run) == losses_of(whole), place


def test_tars_that_lack_something(tiny_checkpoint, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(TrainingError, match=r"shop-9\.tar: no such tar"):
        train(recipe_of(tmp_path / "shop-{9..9}.tar", tiny_checkpoint), run)
    (tmp_path / "broken.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(TrainingError, match="not a tar, or cut short"):
        train(recipe_of(tmp_path / "broken.tar", tiny_checkpoint), run)


# ---- recipes


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"optimiser": {}}, r"no group \[optimiser\]; did you mean 'optimizer'"),
        ({"optimizer": {"learning_rate": 1e-5}}, r"\[optimizer\] has no key 'learning_rate'"),
        ({"schedule": {"lr": 1e-5}}, r"has no key 'lr'; it is \[optimizer\] lr"),
        ({"lr": 1e-5}, r"no group \[lr\]; it is \[optimizer\] lr"),
        ({"optimizer": {"lr": 5}}, "optimizer.lr is 5; input should be less than or equal to 0.1"),
        ({"augment": {"flip": 50}}, "less than or equal to 1; for 50 % write 0.5"),
        (
            {"schedule": {"epochs": "4 epochs"}},
            "epochs is '4 epochs'; input should be a valid",
        ),
        (
            {"optimizer": {"warmup_steps": 0.1}},
            "warmup_steps is 0.1; input should be a valid",
        ),
        ({"model": {"freeze": True}}, "freeze is True; input should be 'none', 'vision' or 'text'"),
        ({"loss": {"kind": "sigmoid"}}, "kind is 'sigmoid'; input should be 'infonce' or 'siglip'"),
        (
            {"data": {"development": 0.5, "test": 0.5}},
            "must be below 1, to leave pairs",
        ),
        ({"schedule": {"chunk_size": 512}}, "larger than schedule.batch_size"),
        ({"loss": {"soft_targets": 0.2}}, "needs data.attributes"),
        ({"optimizer": {"betas": [0.9]}}, r"write a list, such as \[0.9, 0.98\]"),
        ({"selection": {"sets": 5}}, "sets is 5; write a list, such as"),
        ({"data": 3}, r"data is a group; write \[data\] and its keys below"),
        *(
            ({group: {old: 0.5}}, rf"\[{group}\] has no key '{old}'; did you mean '{new}'")
            for group, old, new in (
                ("model", "kept_patches", "patch_keep_ratio"),
                ("loss", "scale_max", "max_scale"),
                ("optimizer", "scale_speed", "temperature_lr_scale"),
                ("augment", "grey", "grayscale"),
                ("data", "rows", "max_rows"),
                ("selection", "pictures", "max_images"),
            )
        ),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_line(raw, message):
    with pytest.raises(TrainingError, match=message) as error:
        make_recipe(raw, place="my.toml")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("my.toml")


@pytest.mark.parametrize("name", ["recommended", "fashionclip-1", "fashionclip-2", "builtin"])
def test_shipped_recipes_can_be_read_and_written_back(name):
    recipe = read_recipe(name)
    assert make_recipe(tomllib.loads(write_recipe(recipe)), place="again") == recipe


def test_the_authors_recipes_say_what_their_trainer_did():
    one, two = read_recipe("fashionclip-1"), read_recipe("fashionclip-2.toml")
    for recipe in (one, two):
        optimizer = recipe.optimizer
        assert (optimizer.kind, optimizer.betas, optimizer.eps) == ("adam", (0.9, 0.98), 1e-6)
        assert (optimizer.weight_decay, optimizer.schedule) == (0.2, "constant")
        assert (optimizer.warmup_steps, optimizer.clip_norm) == (0, math.inf)
        assert (recipe.loss.negatives, recipe.loss.max_scale) == ("all", math.inf)
        assert set(recipe.augment.model_dump().values()) <= {0.0}
        assert (recipe.schedule.batch_size, recipe.schedule.epochs) == (1024, 4.0)
        assert recipe.model.freeze == "none"
    assert one.model.start == "openai/clip-vit-base-patch32"
    assert two.model.start == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert (one.model.activation, two.model.activation) == ("checkpoint", "quick_gelu")


# ---- the command, whole processes


def run_python(words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def test_a_wrong_option_is_an_error_of_one_line(tmp_path, capsys):
    words = ["train", "builtin", "--out", str(tmp_path / "run"), "--optimizer.lr", "fast"]
    assert run_program(words) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: builtin: optimizer.lr is 'fast'; input should be a")
    assert printed.count("\n") == 1


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
SCRIPT = str(Path(__file__).with_name("run_recipe.py"))


def train_apart(recipe, run, *options, launcher=()):
    """Train in a new process, or in several."""
    path = run.root.with_suffix(".toml")
    path.write_text(write_recipe(recipe), encoding="utf-8")
    return run_python([*launcher, SCRIPT, str(path), str(run.root), *options])


@pytest.mark.slow
def test_a_full_disk_costs_states_and_checkpoints_not_the_steps(shop, tiny_checkpoint, tmp_path):
    """From the first step on, files are limited to 60 kB: enough for the log, not for a state."""
    run, recipe = RunFolder(tmp_path / "run"), recipe_of(shop, tiny_checkpoint)
    done = train_apart(recipe, run, "--largest-file", "60000")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert len(losses_of(run)) == STEPS
    events = [line["event"] for line in lines_of(run, "event")]
    assert events.count("checkpoint not saved") == 2
    assert events.count("state not saved") >= 2
    assert not list(run.states.glob("*.part"))
    assert not run.checkpoints()
    train(recipe, run)  # with enough disk space again
    assert list(run.checkpoints()) == [3, 6]


def assert_near(run, whole):
    """Several processes round otherwise than one does; the run is the same."""
    assert [line["step"] for line in lines_of(run)] == list(range(1, STEPS + 1))
    for found, expected in zip(losses_of(run), losses_of(whole), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    near = weights_of(run)
    for name, expected in weights_of(whole).items():
        assert np.allclose(near[name], expected, atol=5e-4), name


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_killed_run_resumes_with_another_number_of_processes(
    whole, shop, tiny_checkpoint, tmp_path, before, after
):
    """Two processes hold a shard each; a state has a part of each, and one reads both."""
    run = RunFolder(tmp_path / "run")
    launchers = {1: (), 2: TORCHRUN}
    recipes = {1: recipe_of(shop, tiny_checkpoint)}
    recipes[2] = recipe_of(shop, tiny_checkpoint, model__parallel="fsdp")
    killed = train_apart(recipes[before], run, "--kill-at", "5", launcher=launchers[before])
    assert killed.returncode != 0
    assert not run.checkpoint(STEPS).exists()
    parts = [path.stat().st_size for path in (run.states / "step-000004").glob("*.distcp")]
    assert len(parts) == before
    assert max(parts) < 1.2 * sum(parts) / before
    done = train_apart(recipes[after], run, launcher=launchers[after])
    assert done.returncode == 0, done.stderr
    assert_near(run, whole)


@contextmanager
def node(recipe, run, *options, port):
    """One machine of a run that goes on with one machine or two."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1"]
    command += ["--nnodes", "1:2", "--max-restarts", "3", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    command += ["--rdzv-conf", "last_call_timeout=1,keep_alive_interval=1"]
    path = run.root.with_suffix(".toml")
    path.write_text(write_recipe(recipe), encoding="utf-8")
    shared_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # see docs/learning.md
    with (
        run.root.with_suffix(f".{len(list(run.root.parent.glob('*.log')))}.log").open("w") as log,
        subprocess.Popen(
            [*command, SCRIPT, str(path), str(run.root), *map(str, options)],
            stdout=log,
            stderr=log,
            env=os.environ | shared_store,
        ) as agent,
    ):
        try:
            yield agent
        finally:
            if agent.poll() is None:
                vanish(agent)


def vanish(agent):
    """Kill all processes of a machine."""
    processes = [psutil.Process(agent.pid), *psutil.Process(agent.pid).children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)


@pytest.mark.slow
def test_a_machine_that_vanishes_and_returns_costs_steps_not_the_run(
    whole, shop, tiny_checkpoint, tmp_path
):
    run, recipe = RunFolder(tmp_path / "run"), recipe_of(shop, tiny_checkpoint)
    gone, back = tmp_path / "gone", tmp_path / "back"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def wait_until(holds):
        end = time.monotonic() + 120
        while not holds():
            logs = [path.read_text()[-1000:] for path in tmp_path.glob("*.log")]
            assert time.monotonic() < end, logs
            time.sleep(0.1)

    def has(step):
        return lambda: run.log.exists() and step in [line["step"] for line in lines_of(run)]

    def resumed():
        events = lines_of(run, "event") if run.log.exists() else []
        return [line["processes"] for line in events if line["event"] == "resumed"]

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    holds = ("--hold", 3, gone, "--hold", 5, back)
    with node(recipe, run, *holds, port=port) as first:
        wait_until(listens)  # the machines meet at the first one
        with node(recipe, run, *holds, port=port) as second:
            wait_until(has(3))
            vanish(second)
        gone.touch()
        wait_until(has(5))
        assert resumed() == [1]
        log = run.root.with_suffix(".0.log").read_text(encoding="utf-8")
        assert "error: another process of the run was lost; run the same command again" in log
        with node(recipe, run, *holds, port=port) as second:
            wait_until(lambda: resumed() == [1, 2])
            back.touch()
            assert (first.wait(120), second.wait(120)) == (0, 0)
    assert_near(run, whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # PyTorch's compiler asks
def test_compiled_layers_train_as_others_do(whole, shop, tiny_checkpoint, tmp_path, monkeypatch):
    """Without PyTorch's last step, which calls a C++ compiler for a minute."""
    compile_layer = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", compile_layer)
    run = RunFolder(tmp_path / "run")
    train(recipe_of(shop, tiny_checkpoint, model__compile=True), run)
    assert_near(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_are_one(whole, shop, tiny_checkpoint, tmp_path, parallel):
    recipe = recipe_of(shop, tiny_checkpoint, model__parallel=parallel, schedule__chunk_size=2)
    run = RunFolder(tmp_path / "run")
    done = train_apart(recipe, run, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr
    assert_near(run, whole)


def test_three_processes_cannot_share_eight_pairs(shop, tiny_checkpoint, tmp_path):
    recipe, run = recipe_of(shop, tiny_checkpoint), RunFolder(tmp_path / "run")
    with pytest.raises(TrainingError, match="is 8, which 3 processes cannot share evenly; make it"):
        prepare(recipe, run, ProcessGroup(rank=0, size=3))


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(tiny_checkpoint, tmp_path):
    done = run_python([*TORCHRUN, two_processes.__file__, str(tiny_checkpoint), str(tmp_path)])
    assert done.returncode == 0, done.stderr
    two_processes.main(tiny_checkpoint, tmp_path)  # alone
    for kind in ("infonce", "siglip"):
        one, two = (load_file(tmp_path / f"{kind}-{world}.safetensors") for world in (1, 2))
        assert set(one) == set(two)
        assert abs(one["loss"] - two["loss"]) < 1e-5
        for name, gradient in one.items():
            assert np.allclose(two[name], gradient, rtol=1e-5, atol=1e-5), name
