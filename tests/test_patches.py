"""Vectors of patches: both engines agree with a plain reference in every variant."""

import itertools
import json
import shutil

import numpy as np
import pytest

from fashionclip.checkpoint import PatchAttention, open_checkpoint, save_checkpoint
from fashionclip.engines import open_engine
from fashionclip.errors import CheckpointError
from random_clip import write_checkpoint

DEVICES = ("cpu", "torch-cpu")
VARIANTS = [
    PatchAttention(kind, residual=residual, mlp=mlp)
    for kind, residual, mlp in itertools.product(
        ("plain", "values", "sclip", "naclip"), (True, False), (True, False)
    )
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture(scope="module")
def checkpoint(folder):
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def engines(checkpoint):
    return engines_of(checkpoint)


def engines_of(checkpoint):
    return [open_engine(checkpoint, device=name, precision="float32") for name in DEVICES]


def pixels_of(count, side=32):
    cells = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(cells, side // 4, axis=1), side // 4, axis=2)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def norm(x, weight, bias):
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normal * weight + bias


def reference(checkpoint, pixels, variant):
    """The definitions of the field, written out for one image after the other, in NumPy."""
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
    pre, vision = checkpoint.preprocess, checkpoint.config.vision
    values = (pixels / 255.0 - np.array(pre.mean)) / np.array(pre.std)
    with torch.inference_mode():
        states = model.vision_model(
            torch.tensor(values.transpose(0, 3, 1, 2), dtype=torch.float32),
            output_hidden_states=True,
        ).hidden_states[-2]
    w = {name: np.array(array, np.float64) for name, array in checkpoint.weights().items()}
    layer = f"vision_model.encoder.layers.{vision.layers - 1}"

    def linear(x, name):
        return x @ w[f"{layer}.{name}.weight"].T + w[f"{layer}.{name}.bias"]

    def attention(one):
        normal = norm(one, w[f"{layer}.layer_norm1.weight"], w[f"{layer}.layer_norm1.bias"])
        q, k, v = (
            linear(normal, f"self_attn.{part}_proj")
            .reshape(len(one), vision.heads, -1)
            .swapaxes(0, 1)
            for part in "qkv"
        )
        root = np.sqrt(q.shape[-1])
        if variant.kind == "values":
            return v
        if variant.kind == "plain":
            return softmax(q @ k.swapaxes(1, 2) / root) @ v
        own = softmax(k @ k.swapaxes(1, 2) / root) @ v
        if variant.kind == "sclip":
            return softmax(q @ q.swapaxes(1, 2) / root) @ v + own
        side = vision.image_px // vision.patch_px
        sigma, bias = 5 * side / 14, np.zeros((len(one), len(one)))
        for i, j in itertools.product(range(side**2), repeat=2):
            distance = np.hypot(i // side - j // side, i % side - j % side)
            bias[1 + i, 1 + j] = np.exp(-(distance**2) / (2 * sigma**2))
        return softmax(k @ k.swapaxes(1, 2) / root + bias) @ v

    found = []
    for one in states.numpy().astype(np.float64):
        x = linear(attention(one).swapaxes(0, 1).reshape(len(one), -1), "self_attn.out_proj")
        x = x + one if variant.residual else x
        if variant.mlp:
            hidden = norm(x, w[f"{layer}.layer_norm2.weight"], w[f"{layer}.layer_norm2.bias"])
            hidden = torch.tensor(linear(hidden, "mlp.fc1"))
            gated = hidden * torch.sigmoid(1.702 * hidden)
            is_quick = vision.activation == "quick_gelu"
            active = gated if is_quick else torch.nn.functional.gelu(hidden)
            hidden = linear(active.numpy(), "mlp.fc2")
            x = x + hidden if variant.residual else hidden
        x = norm(x, w["vision_model.post_layernorm.weight"], w["vision_model.post_layernorm.bias"])
        vectors = x[1:] @ w["visual_projection.weight"].T
        found.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return np.array(found)


def check(checkpoint, engines, variant):
    pixels = pixels_of(3)
    wanted = reference(checkpoint, pixels, variant)
    for engine in engines:
        found = engine.encode_patches(pixels, variant)
        assert found.shape == (3, 17, engine.dim)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[:, 1:], wanted, atol=2e-5)
        np.testing.assert_allclose(found[:, 0], engine.encode_pixels(pixels), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_both_engines_agree_with_the_definition(checkpoint, engines, variant):
    check(checkpoint, engines, variant)


def test_they_agree_with_the_other_activation(tmp_path):
    checkpoint = open_checkpoint(write_checkpoint(tmp_path / "model", activation="gelu"))
    check(checkpoint, engines_of(checkpoint), PatchAttention("naclip", residual=True, mlp=True))


def test_the_variant_is_read_from_the_checkpoint(folder, tmp_path):
    assert open_checkpoint(folder).config.patch_attention == PatchAttention()
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    choice = {"kind": "sclip", "residual": True}
    (copy / "config.json").write_text(json.dumps({**config, "patch_attention": choice}))
    opened = open_checkpoint(copy)
    assert opened.config.patch_attention == PatchAttention("sclip", residual=True)
    assert opened.fingerprint == open_checkpoint(folder).fingerprint
    save_checkpoint(opened, tmp_path / "saved")
    assert open_checkpoint(tmp_path / "saved").config.patch_attention.kind == "sclip"
    for wrong in ({"kind": "magic"}, {"mlp": 1}, {"sigma": 3}, "naclip"):
        (copy / "config.json").write_text(json.dumps({**config, "patch_attention": wrong}))
        with pytest.raises(CheckpointError, match="patch_attention is"):
            open_checkpoint(copy)


def test_the_variants_differ(engines):
    pixels = pixels_of(1)
    found = [engines[0].encode_patches(pixels, variant)[0, 1:] for variant in VARIANTS]
    for a, b in itertools.combinations(found, 2):
        assert np.abs(a - b).max() > 1e-3


def test_an_image_of_another_size_is_refused(engines):
    for engine in engines:
        with pytest.raises(ValueError, match="this model takes uint8"):
            engine.encode_patches(pixels_of(1, 40), VARIANTS[0])
        assert engine.encode_patches(pixels_of(0), VARIANTS[0]).shape == (0, 17, engine.dim)
