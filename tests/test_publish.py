"""A published run: folders that other libraries load, exports that agree, a model card."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from evaluation_run import FMNIST, retrieval, wrong_attribute, zero_shot
from fashionclip.checkpoint import open_checkpoint, save_checkpoint
from fashionclip.cli.main import run as run_program
from fashionclip.errors import PublishError
from fashionclip.evaluate.results import Figure, ModelInfo, Run, TaskResult, write_run
from fashionclip.publish.exports import (
    open_onnx,
    open_openvino,
    write_onnx,
    write_openvino,
)
from fashionclip.publish.parity import measure_parity
from fashionclip.publish.publish import publish_run
from fashionclip.train.recipe import DataConfig, PublishConfig, Recipe, write_recipe
from fashionclip.train.run import RunFolder
from hub_server import running_hub
from random_clip import write_checkpoint
from training_run import sample_pairs, write_training_run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return sample_pairs(tmp_path_factory.mktemp("sample") / "sample", 24)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_checkpoint) -> RunFolder:
    """The folder of a run after training, selection and evaluation."""
    run = write_training_run(
        tmp_path_factory.mktemp("runs") / "run", tiny_checkpoint, strengths=(0.2,)
    )
    shutil.copytree(tiny_checkpoint, run.start)
    save_checkpoint(open_checkpoint(run.checkpoint(100)), run.selected)
    facts = {
        "packages": {"fashionclip": "0.1.0", "torch": "2.13.0"},
        "git_commit": "c0ffee" * 6 + "c0ff",
        "seed": 7,
        "data_hash": "01d92b4ee54f45b0",
        "pairs": {
            "read": 1200,
            "rejected": 3,
            "train": 1000,
            "development": 110,
            "test": 90,
            "left_out": 0,
            "held_out_by": "brand",
        },
        "held_out_brands": {"development": 5, "test": 4},
        "start": {"name": "shop/base-clip", "fingerprint": "975fde41d1031feb"},
        "steps": 100,
        "batch_size": 64,
        "precision": "bfloat16",
    }
    run.facts.write_text(json.dumps(facts), encoding="utf-8")
    recipe = Recipe(data=DataConfig(catalog="/home/ann/shop/spring.csv"))
    run.recipe.write_text(write_recipe(recipe), encoding="utf-8")
    cost = {
        "seconds": 3723.0,
        "energy_kwh": 0.1234,
        "co2_kg": 0.04567,
        "country": "DEU",
        "money": 0.4137,
        "price_per_hour": 0.4,
        "currency": "EUR",
        "hardware": "2 cores of AMD EPYC",
        "power": "processor: an estimate from its load; memory: an estimate from its size",
        "tracker": "codecarbon 3.3.2",
        "sessions": [{}],
    }
    (run.root / "cost.json").write_text(json.dumps(cost), encoding="utf-8")
    row = {
        "rule_in_words": "the last checkpoint",
        "chosen": "step-000100",
        "mean_cost": 1.25,
        "worst_cost": 2.0,
        "worst_against_start": -0.5,
        "in_domain_cost": 0.0,
        "in_domain_gain": 4.0,
        "sets": {"fmnist": {}, "clothing": {}},
    }
    selection = {
        "rule": "guarded",
        "rule_in_words": "the best of all",
        "chosen": "step-000100",
        "left_out": [row | {"rule": "last"}, row | {"rule": "guarded"}],
        "candidates": [],
        "notes": [],
    }
    (run.root / "selection.json").write_text(json.dumps(selection), encoding="utf-8")
    models = tuple(ModelInfo(name, name, 24, "cpu float32") for name in ("start", "selected"))
    results = {
        name: (
            retrieval("held-out/captions", right=0.2 + 0.4 * place, n=300, seed=1),
            zero_shot("fmnist", FMNIST, right=0.8 - 0.4 * place, n=400, seed=2, n_seen=12),
            wrong_attribute(right=0.6, n=60, seed=3),
        )
        for place, name in enumerate(("start", "selected"))
    }
    write_run(
        Run(models, results, {}, "2026-11-26T04:00:00+00:00", "0.1.0"), run.root / "evaluation"
    )
    return run


@pytest.fixture(scope="module")
def published(finished, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "model"
    config = PublishConfig(to=str(folder), name="shop/tuned-clip", license="mit")
    return folder, publish_run(finished, config, pictures=images)


@pytest.fixture
def without_exports(monkeypatch):
    """Publish the transformers folder alone, which is fast."""
    monkeypatch.setattr("fashionclip.publish.publish.EXPORTS", {})


# exports


@pytest.mark.parametrize(
    "kind", [{}, {"activation": "gelu"}, {"legacy_end_of_text": True}], ids=str
)
def test_exports_compute_what_transformers_computes(kind, tmp_path):
    import torch
    from transformers import CLIPModel

    folder = write_checkpoint(tmp_path / "clip", **kind)
    checkpoint = open_checkpoint(folder)
    write_openvino(checkpoint, tmp_path / "openvino")
    write_onnx(checkpoint, tmp_path / "onnx")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    texts = ["red shirt", "a very long blue denim trouser for men and women", "x"]
    tokens = checkpoint.tokenizer.encode(texts)
    model = CLIPModel.from_pretrained(folder).eval()
    scaled = (pixels / 255 - checkpoint.preprocess.mean) / checkpoint.preprocess.std
    values = torch.tensor(scaled.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        found = model(input_ids=torch.tensor(tokens.astype(np.int64)), pixel_values=values)
    expected = found.image_embeds.numpy(), found.text_embeds.numpy()
    for pair, exact in (
        (open_openvino(tmp_path / "openvino"), 2e-3),  # its weights are float16
        (open_onnx(checkpoint, tmp_path / "onnx"), 2e-5),
    ):
        for encode, rows, vectors in zip(pair, (pixels, tokens), expected, strict=True):
            np.testing.assert_allclose(encode(rows), vectors, atol=exact)


def test_an_exported_text_does_not_depend_on_its_padding(tiny_checkpoint, tmp_path):
    checkpoint = open_checkpoint(tiny_checkpoint)
    write_openvino(checkpoint, tmp_path / "openvino")
    write_onnx(checkpoint, tmp_path / "onnx")
    short = checkpoint.tokenizer.encode(["red shirt"])
    padded = checkpoint.tokenizer.encode(["red shirt", "a green checked shirt with a collar"])
    for _, encode in (
        open_openvino(tmp_path / "openvino"),
        open_onnx(checkpoint, tmp_path / "onnx"),
    ):
        np.testing.assert_allclose(encode(short)[0], encode(padded)[0], atol=1e-5)


@pytest.mark.parametrize(("fit", "least", "most"), [("stretch", 0.98, 1.1), ("pad", 0.0, 0.99)])
def test_the_cost_of_anothers_preprocessing_is_measured(tmp_path, images, fit, least, most):
    """The processor of transformers stretches images, as the built-in model has them."""
    builtin = open_checkpoint()
    save_checkpoint(
        replace(builtin, preprocess=replace(builtin.preprocess, fit=fit)), tmp_path / "model"
    )
    rows = {row.name: row for row in measure_parity(tmp_path / "model", images)}
    assert rows["transformers"].images > 0.9999
    assert rows["transformers"].same_best == 1.0
    own = rows["transformers, its own preprocessing"]
    assert least <= own.images <= most
    assert own.texts is None


def test_broken_images_are_skipped_and_none_at_all_is_an_error(tiny_checkpoint, images):
    broken = [replace(images[0], source=b"not a picture", caption="something else")]
    (row, *_) = measure_parity(tiny_checkpoint, [*broken, *images])
    assert row.n == len({p.caption for p in images})
    with pytest.raises(PublishError, match="none of the 1 images"):
        measure_parity(tiny_checkpoint, broken)


# the folder


def test_the_published_folder_opens_everywhere_and_holds_its_history(published, finished):
    from transformers import CLIPModel, CLIPProcessor

    folder, report = published
    assert report.place == str(folder)
    assert open_checkpoint(folder).fingerprint == open_checkpoint(finished.selected).fingerprint
    _, loading = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    CLIPProcessor.from_pretrained(folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {
        "openvino/image_tower.xml",
        "openvino/text_tower.bin",
        "onnx/vision_model.onnx",
        "onnx/text_model.onnx",
        "onnx/how-to-use.json",
        "training/recipe.toml",
        "training/selection.json",
        "example.jpg",
        "README.md",
    } <= names
    assert {row.name for row in report.parity} >= {"transformers", "openvino", "onnx"}
    assert all(row.images > 0.999 for row in report.parity if "own" not in row.name)


def test_the_cards_block_is_what_the_hub_reads(published):
    data = ModelCard.load(published[0] / "README.md").data.to_dict()
    assert data["license"] == "mit"
    assert data["library_name"] == "transformers"
    assert data["base_model"] == "shop/base-clip"
    assert {"clip", "fashion", "openvino", "onnx"} <= set(data["tags"])
    (widget,) = data["widget"]
    assert widget["src"].endswith("shop/tuned-clip/resolve/main/example.jpg")
    assert data["co2_eq_emissions"]["emissions"] == 45.67  # grams
    assert "an estimate" in data["co2_eq_emissions"]["source"]
    (index,) = data["model-index"]
    metrics = {r["dataset"]["name"]: r["metrics"][0] for r in index["results"]}
    assert set(metrics) == {"held-out/captions", "fmnist", "scorecard/colour"}
    assert all(len(result["metrics"]) == 1 for result in index["results"])
    assert metrics["fmnist"]["type"] == "f1"


def test_the_card_tells_what_was_measured_and_nothing_else(published, finished):
    text = (published[0] / "README.md").read_text(encoding="utf-8")
    assert "| held-out/captions | MRR@10 |" in text
    assert "| better | 300 |" in text
    assert "fmnist, unseen only" in text
    assert "On `fmnist` it is significantly worse than the model it was tuned from" in text
    assert "prefers the right one" in text
    assert "changing the labels by 'synonym' flips 14.8 % of the labels" in text
    assert "1,000 pairs of images and texts\n(spring.csv)" in text
    assert "110 pairs to choose by, 90 to test on (5 and 4 brands" in text
    assert "| CO2 | 45.7 g, at the grid of DEU (codecarbon 3.3.2) |" in text
    assert "| money | 0.41 EUR, at 0.4 EUR an hour |" in text
    assert "62 min 3 s" in text
    assert "trained to be cut" not in text
    assert "| **guarded** | step-000100 | 1.2 | 2.0 | -0.5 | +4.0 |" in text
    assert "held-out images: the least cosine" in text
    recipe = (published[0] / "training" / "recipe.toml").read_text(encoding="utf-8")
    assert 'catalog = "spring.csv"' in recipe
    assert "/home/ann" not in text + recipe  # a published model names no folders of its owner


def test_a_run_that_knows_little_is_published_with_a_card_that_says_so(
    tiny_checkpoint, images, tmp_path, without_exports
):
    run = write_training_run(tmp_path / "run", tiny_checkpoint, strengths=())
    save_checkpoint(open_checkpoint(tiny_checkpoint), run.selected)
    run.facts.unlink()
    publish_run(run, PublishConfig(), pictures=images[:6])
    text = (run.root / "published" / "README.md").read_text(encoding="utf-8")
    assert "Nothing was measured on test images." in text
    assert "Not measured." in text
    data = ModelCard.load(run.root / "published" / "README.md").data.to_dict()
    assert data["license"] == "other"
    assert "widget" not in data


def test_the_card_names_the_lengths_that_vectors_may_be_cut_to(
    finished, images, tmp_path, without_exports
):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(finished.root, run.root)
    config = run.selected / "config.json"
    fields = json.loads(config.read_bytes()) | {"prefix_dims": [16, 8]}
    config.write_text(json.dumps(fields), encoding="utf-8")
    publish_run(run, PublishConfig(), pictures=images[:6])
    text = (run.root / "published" / "README.md").read_text(encoding="utf-8")
    assert "their first 8 or 16 numbers, scaled to unit length" in text


def test_an_earlier_publication_is_replaced_and_nothing_else_is(
    finished, images, tmp_path, without_exports
):
    folder = tmp_path / "published" / "model"
    config = PublishConfig(to=str(folder), name="shop/tuned-clip", license="mit")
    publish_run(finished, config, pictures=images[:6])
    (folder / "left-over").write_text("of before", encoding="utf-8")
    publish_run(finished, config, pictures=images[:6])
    assert not (folder / "left-over").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["model"]
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "a.jpg").write_bytes(b"mine")
    with pytest.raises(PublishError, match=r"photos is not a model folder; choose another folder"):
        publish_run(finished, PublishConfig(to=str(precious)))
    assert (precious / "a.jpg").read_bytes() == b"mine"


def test_audits_of_the_chosen_checkpoint_are_in_its_card_and_others_are_refused(
    finished, images, tmp_path, without_exports
):
    fingerprint = open_checkpoint(finished.selected).fingerprint
    gap = Figure(-0.2, -0.3, -0.1, 80)
    result = TaskResult("shop/query-length", "audit", "long_gain@10", 80, 0, {"long_gain@10": gap})

    def audit(model):
        info = ModelInfo("selected", model, 24, "cpu float32")
        return Run((info,), {"selected": (result,)}, {}, "2026-11-30", "0.1.0", "Audit")

    config = PublishConfig(to=str(tmp_path / "model"))
    with pytest.raises(PublishError, match=r"not .*, the chosen checkpoint; audit .*selected"):
        publish_run(finished, config, audits=[audit("other")])
    assert not (tmp_path / "model").exists()
    publish_run(finished, config, pictures=images[:6], audits=[audit(fingerprint)])
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Limitations, bias and fairness")[2]
    assert "find the same products less often than those of 4 to 8" in section
    assert "-0.200 [-0.300 to -0.100], n = 80" in section
    assert "**Checkpoint selection.** The rule `guarded` costs 1.2 points" in section
    assert "Not measured: gender, centred pictures on white." in section


def test_a_run_without_a_choice_is_not_published(tiny_checkpoint, tmp_path):
    run = write_training_run(tmp_path / "run", tiny_checkpoint, strengths=())
    with pytest.raises(PublishError, match=r"no chosen checkpoint.*and folder to choose one"):
        publish_run(run, PublishConfig(to=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


# the hub

PUBLISH = """
import sys
from fashionclip.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def publish_to(finished, tmp_path):
    """Publish to a hub in another process, as its client reads the environment when imported."""

    def publish_to(endpoint, *words, token=None):
        environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",  # the hub's older, documented protocol for large files
            **({"HF_TOKEN": token} if token else {}),
        }
        command = [
            sys.executable,
            "-c",
            PUBLISH,
            "publish",
            str(finished.root),
            "--to",
            "hub",
            *words,
        ]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=600
        )

    return publish_to


@pytest.mark.slow
def test_a_model_goes_to_the_hub_and_comes_back_the_same(publish_to, finished, tmp_path):
    with running_hub({}, writer="hf_writer", root=tmp_path / "hub") as hub:
        words = ("--name", "shop/tuned-clip", "--license", "mit", "--private")
        done = publish_to(hub.endpoint, *words, token="hf_writer")
        assert done.returncode == 0, done.stderr
        assert f"{hub.endpoint}/shop/tuned-clip/commit/" in done.stderr
        assert "shop/tuned-clip" in hub.private
        assert any(request.startswith("PUT /storage/") for request in hub.requests)
        folder = tmp_path / "hub" / "shop" / "tuned-clip"
        assert open_checkpoint(folder).fingerprint == open_checkpoint(finished.selected).fingerprint
        assert (folder / "openvino" / "text_tower.xml").exists()
        code = "import sys; from fashionclip.checkpoint import open_checkpoint as o; "
        code += "print(o(sys.argv[1]).fingerprint)"
        back = subprocess.run(
            [sys.executable, "-c", code, "shop/tuned-clip"],
            env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert back.stdout.strip() == open_checkpoint(finished.selected).fingerprint


@pytest.mark.parametrize(
    ("words", "token", "message"),
    [
        ((), "hf_writer", "a model on the hub needs a name; pass --name OWNER/MODEL"),
        (("--name", "no name"), "hf_writer", "'no name' is not a repository's name"),
        (("--name", "shop/clip"), None, "requires a token with write access: run 'hf auth login'"),
        (("--name", "else/clip"), "hf_reader", "the token has no write access there"),
        (
            ("--name", "shop/clip", "--license", "mine"),
            "hf_writer",
            "the hub refuses the card",
        ),
    ],
    ids=["no name", "bad name", "no token", "no right", "bad card"],
)
def test_a_refusal_is_one_line_that_says_how_to_mend_it(
    finished, without_exports, tmp_path, monkeypatch, capsys, words, token, message
):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with running_hub({}, writer="hf_writer", root=tmp_path / "hub") as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        assert run_program(["publish", str(finished.root), "--to", "hub", *words]) == 1
    printed = capsys.readouterr().err.splitlines()
    (line,) = [line for line in printed if line.startswith("error:")]
    assert message in line


def test_the_command_prints_what_was_compared(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fashionclip.publish.publish.MAX_IMAGES", 8)
    status = run_program(["publish", str(finished.root), "--to", str(tmp_path / "model"), "--json"])
    out, err = capsys.readouterr()
    assert status == 0
    found = json.loads(out)
    assert found["place"] == str(tmp_path / "model")
    assert {row["export"] for row in found["parity"]} >= {"transformers", "openvino", "onnx"}
    assert "compared on generated products instead" in err  # the run's catalogue is not here
    assert "generated products: the least cosine" in (tmp_path / "model" / "README.md").read_text(
        "utf-8"
    )
    assert Path(found["place"], "README.md").exists()
