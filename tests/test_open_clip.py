"""Checkpoints of open_clip: conversion both ways, and errors for those that cannot be converted.

The judge is an open_clip ViT written out the obvious way below, from the layout of its
state dict (``in_proj_weight``, ``resblocks``, projections on the right-hand side).
"""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional

from fashionclip.checkpoint import (
    Checkpoint,
    TowerConfig,
    from_open_clip,
    open_checkpoint,
    to_open_clip,
)
from fashionclip.checkpoint.open_clip import mlp_ratio
from fashionclip.engines import open_engine
from fashionclip.errors import CheckpointError
from random_clip import write_checkpoint

CONFIG, MODEL = "open_clip_config.json", "open_clip_model.safetensors"
TEXTS = ["red shirt", "", "jeans " * 100, "it's Größe 40"]


class OpenClip:
    """A plain forward pass of open_clip's ``CLIP``, as the reference."""

    def __init__(self, folder: Path) -> None:
        """Read a folder in open_clip's format."""
        self.cfg = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
        state = load_file(folder / MODEL)
        self.state = {k.removeprefix("text."): torch.from_numpy(v) for k, v in state.items()}

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Layer norm."""
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias)

    def linear(self, x: Tensor, name: str, joint: str = ".") -> Tensor:
        """A linear layer."""
        return x @ self.state[f"{name}{joint}weight"].T + self.state[f"{name}{joint}bias"]

    def attend(self, x: Tensor, name: str, heads: int, mask: Tensor | None) -> Tensor:
        """Attention with query, key and value stacked in one matrix."""
        n, length, width = x.shape
        q, k, v = self.linear(x, f"{name}.in_proj", "_").chunk(3, dim=-1)
        q, k, v = (part.view(n, length, heads, -1).transpose(1, 2) for part in (q, k, v))
        scores = q @ k.transpose(-1, -2) / (width // heads) ** 0.5
        scores = scores if mask is None else scores + mask
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, length, width)
        return self.linear(mixed, f"{name}.out_proj")

    def blocks(self, x: Tensor, name: str, cfg: dict, heads: int, mask: Tensor | None) -> Tensor:
        """All layers of a tower."""
        for i_layer in range(cfg["layers"]):
            block = f"{name}.resblocks.{i_layer}"
            x = x + self.attend(self.norm(x, f"{block}.ln_1"), f"{block}.attn", heads, mask)
            hidden = self.linear(self.norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            is_quick = self.cfg.get("quick_gelu", False)
            hidden = hidden * torch.sigmoid(1.702 * hidden) if is_quick else functional.gelu(hidden)
            x = x + self.linear(hidden, f"{block}.mlp.c_proj")
        return x

    def encode_image(self, x: Tensor) -> Tensor:
        """Normalised pixels (n, 3, h, w) to unit vectors."""
        cfg = self.cfg["vision_cfg"]
        x = functional.conv2d(x, self.state["visual.conv1.weight"], stride=cfg["patch_size"])
        x = x.flatten(2).transpose(1, 2)
        first = self.state["visual.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1) + self.state["visual.positional_embedding"]
        heads = cfg["width"] // cfg.get("head_width", 64)
        x = self.blocks(self.norm(x, "visual.ln_pre"), "visual.transformer", cfg, heads, None)
        x = self.norm(x[:, 0], "visual.ln_post") @ self.state["visual.proj"]
        return functional.normalize(x, dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens padded to the context to unit vectors."""
        cfg = self.cfg["text_cfg"]
        x = self.state["token_embedding.weight"][tokens] + self.state["positional_embedding"]
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
        x = self.norm(self.blocks(x, "transformer", cfg, cfg["heads"], mask), "ln_final")
        x = x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ self.state["text_projection"]
        return functional.normalize(x, dim=-1)


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def original(request, tmp_path_factory) -> Path:
    """A random CLIP of each activation, its towers of different sizes."""
    return write_checkpoint(
        tmp_path_factory.mktemp("open_clip") / request.param,
        activation=request.param,
        text={"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 80},
    )


@pytest.fixture
def converted(original: Path, tmp_path: Path) -> Path:
    """The same model in open_clip's format."""
    to_open_clip(open_checkpoint(original), tmp_path / "open_clip")
    return tmp_path / "open_clip"


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def assert_same_weights(found: Checkpoint, expected: Checkpoint) -> None:
    assert set(found.weights()) == set(expected.weights())
    for name, array in expected.weights().items():
        assert found.weights().shape(name) == array.shape
        assert np.array_equal(found.weights()[name], array)


def test_what_goes_out_computes_the_same_in_open_clip(original, converted):
    checkpoint, judge = open_checkpoint(original), OpenClip(converted)
    engine = open_engine(checkpoint, device="cpu", precision="float32")
    mean, std = np.array(checkpoint.preprocess.mean), np.array(checkpoint.preprocess.std)
    batch = torch.from_numpy(((pixels() / 255 - mean) / std).astype(np.float32))
    images = judge.encode_image(batch.permute(0, 3, 1, 2)).numpy()
    tokens = checkpoint.tokenizer.encode(TEXTS, pad_to=77)
    texts = judge.encode_text(torch.from_numpy(tokens).long()).numpy()
    assert np.abs(engine.encode_pixels(pixels()) - images).max() < 1e-5
    assert np.abs(engine.encode_tokens(tokens) - texts).max() < 1e-5


def test_out_and_in_again_is_the_same_model(original, converted, tmp_path):
    first = open_checkpoint(original)
    again = from_open_clip(converted, tmp_path / "again")
    assert again.config == first.config
    assert again.preprocess == first.preprocess
    assert_same_weights(again, first)
    assert again.tokenizer.encode(TEXTS).tolist() == first.tokenizer.encode(TEXTS).tolist()


def test_transformers_reads_what_came_in(converted, tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    folder = tmp_path / "again"
    checkpoint = from_open_clip(converted, folder)
    inputs = CLIPProcessor.from_pretrained(folder)(
        text=TEXTS, return_tensors="pt", padding=True, truncation=True
    )
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        features = model.get_text_features(**inputs)
    features = getattr(features, "pooler_output", features)  # transformers 5 wraps it
    engine = open_engine(checkpoint, device="cpu", precision="float32")
    ours = engine.encode_tokens(checkpoint.tokenizer.encode(TEXTS))
    assert np.abs(ours - functional.normalize(features, dim=-1).numpy()).max() < 1e-5


def test_the_configuration_that_goes_out_is_one_that_open_clip_knows(original, converted):
    content = json.loads((converted / CONFIG).read_text(encoding="utf-8"))
    model, preprocess = content["model_cfg"], content["preprocess_cfg"]
    assert model["quick_gelu"] == (original.name == "quick_gelu")
    assert model["vision_cfg"]["head_width"] * 2 == model["vision_cfg"]["width"] == 32
    assert model["text_cfg"]["heads"] == 3
    assert int(model["text_cfg"]["mlp_ratio"] * model["text_cfg"]["width"]) == 80
    assert preprocess["resize_mode"] == "shortest"
    assert str(converted.parent) not in json.dumps(content)  # no path of this machine


@given(width=st.integers(1, 4096), mlp_width=st.integers(1, 20000))
def test_the_ratio_of_widths_survives_rounding_down(width, mlp_width):
    tower = TowerConfig(width, 1, 1, mlp_width, "gelu", 1e-5)
    assert int(width * mlp_ratio(tower)) == mlp_width


@pytest.mark.parametrize(
    ("mode", "fit"), [("shortest", "crop"), ("longest", "pad"), ("squash", "stretch")]
)
def test_the_fit_of_images_goes_both_ways(converted, tmp_path, mode, fit):
    edit_config(converted, preprocess_cfg={"resize_mode": mode, "interpolation": "bilinear"})
    checkpoint = from_open_clip(converted, tmp_path / "in")
    assert (checkpoint.preprocess.fit, checkpoint.preprocess.resample) == (fit, "bilinear")
    to_open_clip(checkpoint, tmp_path / "out")
    content = json.loads((tmp_path / "out" / CONFIG).read_text(encoding="utf-8"))
    assert content["preprocess_cfg"]["resize_mode"] == mode


def edit_config(folder: Path, **changes: dict) -> None:
    """Merge changes into open_clip's configuration, two levels deep."""
    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for part, values in changes.items():
        for name, value in values.items():
            old = content[part].get(name)
            content[part][name] = old | value if isinstance(old, dict) else value
    (folder / CONFIG).write_text(json.dumps(content), encoding="utf-8")


def edit_weights(folder: Path, changes: dict[str, np.ndarray | None]) -> None:
    tensors = load_file(folder / MODEL) | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / MODEL)


def rename_weights(folder: Path, rename) -> None:
    tensors = load_file(folder / MODEL)
    save_file({rename(name): tensor for name, tensor in tensors.items()}, folder / MODEL)


def of_custom_text_tower(name: str) -> str:
    own = ("transformer.", "token_embedding", "ln_final", "positional_embedding", "text_projection")
    return f"text.{name}" if name.startswith(own) else name


@pytest.mark.parametrize(
    "rename",
    [of_custom_text_tower, lambda name: f"module.{name}", lambda name: f"module._orig_mod.{name}"],
    ids=["two towers", "several GPUs", "compiled"],
)
def test_the_names_of_other_set_ups_are_known(original, converted, tmp_path, rename):
    rename_weights(converted, rename)
    again, first = from_open_clip(converted, tmp_path / "in"), open_checkpoint(original)
    assert_same_weights(again, first)


def test_a_training_checkpoint_converts_with_pytorch(converted, tmp_path):
    expected = from_open_clip(converted, tmp_path / "a").fingerprint
    state = {f"module.{k}": torch.from_numpy(v) for k, v in load_file(converted / MODEL).items()}
    run = {"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}}}
    torch.save(run, converted / "epoch_3.pt")
    assert from_open_clip(converted / "epoch_3.pt", tmp_path / "b").fingerprint == expected


def test_a_checkpoint_that_holds_a_program_is_refused_without_running_it(converted, tmp_path):
    with zipfile.ZipFile(
        converted / "ViT-B-32.pt", "w"
    ) as archive:  # the layout of OpenAI's own files
        archive.writestr("ViT-B-32/code/__torch__.py", "")
    with pytest.raises(CheckpointError, match=r"TorchScript program, .* 'openai/clip-vit-base-pa"):
        from_open_clip(converted / "ViT-B-32.pt", tmp_path / "in")


def test_half_precision_converts(converted, tmp_path):
    from safetensors.torch import save_file as save_torch

    tensors = {k: torch.from_numpy(v).bfloat16() for k, v in load_file(converted / MODEL).items()}
    save_torch(tensors, converted / MODEL)
    weights = from_open_clip(converted, tmp_path / "in").weights()
    expected = tensors["visual.proj"].float().T.numpy()
    assert np.array_equal(weights["visual_projection.weight"], expected)


def test_a_single_file_needs_its_activation_and_tokenizer_as_options(tmp_path):
    wide = {"hidden_size": 128, "num_attention_heads": 2}
    original = write_checkpoint(tmp_path / "model", activation="gelu", vision=wide, text=wide)
    to_open_clip(open_checkpoint(original), tmp_path / "open_clip")
    lone = tmp_path / "lone" / "weights.safetensors"
    lone.parent.mkdir()
    shutil.copy(tmp_path / "open_clip" / MODEL, lone)
    with pytest.raises(CheckpointError, match="pass quick_gelu=True for OpenAI's weights and"):
        from_open_clip(lone, tmp_path / "in")
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        from_open_clip(lone, tmp_path / "in", quick_gelu=False)
    found = from_open_clip(lone, tmp_path / "in", quick_gelu=False, tokenizer=original)
    assert found.config == open_checkpoint(original).config
    assert_same_weights(found, open_checkpoint(original))


def test_an_unknown_number_of_heads_is_an_error_that_names_the_option(
    original, converted, tmp_path
):
    (converted / CONFIG).unlink()
    with pytest.raises(CheckpointError, match=r"of width 32 is not known; put the model's open_c"):
        from_open_clip(converted, tmp_path / "in", quick_gelu=True, tokenizer=original)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text_cfg": {"no_causal_mask": True}}, "says no_causal_mask=True in text_cfg"),
        ({"text_cfg": {"pool_type": "last"}}, "says pool_type='last' in text_cfg"),
        ({"vision_cfg": {"pool_type": "avg"}}, "says pool_type='avg' in vision_cfg"),
        ({"vision_cfg": {"norm_kwargs": {"bias": False}}}, "only eps converts"),
    ],
)
def test_settings_that_compute_something_else_are_refused(converted, tmp_path, change, words):
    edit_config(converted, model_cfg=change)
    with pytest.raises(CheckpointError, match=re.escape(words)):
        from_open_clip(converted, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_weights_that_are_no_numbers_are_refused_before_anything_is_written(converted, tmp_path):
    source = Path(shutil.copytree(converted, tmp_path / "source"))
    state = load_file(source / MODEL)
    state["visual.proj"][0, 0] = np.nan
    save_file(state, source / MODEL)
    with pytest.raises(CheckpointError, match=r"^visual\.proj holds NaN or infinite values in "):
        from_open_clip(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_would_be_left_behind_are_refused(converted, tmp_path):
    gamma = "visual.transformer.resblocks.0.ls_1.gamma"
    edit_weights(converted, {gamma: np.ones(32, np.float32), "logit_bias": np.zeros(1, np.float32)})
    with pytest.raises(
        CheckpointError, match="holds logit_bias and 1 more; a CLIP in the transfor"
    ):
        from_open_clip(converted, tmp_path / "in")


def test_a_model_of_another_build_is_refused(converted, tmp_path):
    rename_weights(converted, lambda name: name.replace("visual.", "visual.trunk."))
    with pytest.raises(CheckpointError, match="only ViT models with CLIP's own text tower convert"):
        from_open_clip(converted, tmp_path / "in")


def test_what_is_missing_or_broken_is_named(converted, tmp_path):
    with pytest.raises(
        CheckpointError, match="does not exist; pass an open_clip folder, or a file"
    ):
        from_open_clip(tmp_path / "gone", tmp_path / "in")
    data = (converted / MODEL).read_bytes()
    (converted / MODEL).write_bytes(data[:999])
    with pytest.raises(CheckpointError, match="is truncated or not a safetensors file"):
        from_open_clip(converted, tmp_path / "in")
    (converted / "broken.pt").write_bytes(data[:999])
    with pytest.raises(CheckpointError, match="is damaged or holds more than weights"):
        from_open_clip(converted / "broken.pt", tmp_path / "in")
    (converted / CONFIG).write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json cannot be read"):
        from_open_clip(converted, tmp_path / "in")


def test_what_open_clip_cannot_say_does_not_go_out(original, tmp_path):
    folder = Path(shutil.copytree(original, tmp_path / "mixed"))
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    raw["text_config"]["hidden_act"] = "gelu"
    raw["vision_config"]["hidden_act"] = "quick_gelu"
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(CheckpointError, match="knows one activation for both towers"):
        to_open_clip(open_checkpoint(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
