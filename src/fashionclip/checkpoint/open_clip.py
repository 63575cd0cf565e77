"""open_clip checkpoints to the transformers folder and back, offline, without a model in memory.

The two hold the same numbers under other names: open_clip stacks query, key and value into
one matrix and keeps its projections transposed. One table of names serves both ways.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from fashionclip.checkpoint.config import (
    Activation,
    CLIPConfig,
    TextConfig,
    VisionConfig,
    write_config,
    write_preprocess,
)
from fashionclip.checkpoint.folder import SINGLE, Checkpoint, open_checkpoint, write_folder
from fashionclip.errors import CheckpointError
from fashionclip.images import CLIP_MEAN, CLIP_STD, Preprocess
from fashionclip.tokenizer import Tokenizer

CONFIG, MODEL = "open_clip_config.json", "open_clip_model.safetensors"
HEAD_WIDTH = 64  # open_clip's default, and that of every ViT released with it

# open_clip's name, transformers' name, whether one is the other's transpose
_TENSORS = (
    ("logit_scale", "logit_scale", False),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight", False),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight", False),
    ("ln_final.weight", "text_model.final_layer_norm.weight", False),
    ("ln_final.bias", "text_model.final_layer_norm.bias", False),
    ("text_projection", "text_projection.weight", True),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding", False),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight", False),
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight", False),
    ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight", False),
    ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias", False),
    ("visual.ln_post.weight", "vision_model.post_layernorm.weight", False),
    ("visual.ln_post.bias", "vision_model.post_layernorm.bias", False),
    ("visual.proj", "visual_projection.weight", True),
)
_LAYER = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_TOWERS = (("transformer", "text_model"), ("visual.transformer", "vision_model"))
_PARTS = ("q_proj", "k_proj", "v_proj")


def from_open_clip(
    source: str | Path,
    folder: str | Path,
    *,
    tokenizer: str | Path | None = None,
    quick_gelu: bool | None = None,
) -> Checkpoint:
    """Convert an open_clip checkpoint into a transformers folder, and open it.

    Args:
        source: a folder with ``open_clip_config.json`` and ``open_clip_model.safetensors``, or a
            ``.safetensors`` or ``.pt`` file of weights (``.pt`` needs the ``torch`` extra).
        folder: where to write.
        tokenizer: a folder with CLIP's tokenizer files; None if they lie beside the weights.
        quick_gelu: the activation, where no configuration tells it: True for OpenAI's weights and
            models whose name ends in ``-quickgelu``, False for LAION's.

    Raises:
        CheckpointError: something is missing or is not a ViT CLIP's, or cannot be written.
        MissingExtraError: a ``.pt`` file without PyTorch.
    """
    source, folder = Path(source), Path(folder)
    home = source if source.is_dir() else source.parent
    cfg = _read_cfg(home)
    state = _read_state(source / MODEL if source.is_dir() else source)
    activation = _activation(cfg, quick_gelu, source)
    try:
        weights = dict(_to_transformers(state))
        rules = Tokenizer.from_folder(
            Path(tokenizer) if tokenizer else home,
            context_length=len(state["positional_embedding"]),
        )
        config = _config_of(state, cfg, activation, rules.end_id)
    except KeyError as exc:
        message = f"{source} lacks {exc}; it is not an open_clip ViT model with CLIP's text tower"
        raise CheckpointError(message) from exc
    preprocess = _preprocess_of(cfg, config.vision.image_px)
    raw = write_config(config)
    raw["text_config"]["bos_token_id"] = rules.start_id
    texts = {
        "config.json": json.dumps(raw, indent=2),
        "preprocessor_config.json": json.dumps(write_preprocess(preprocess), indent=2),
        **rules.files(),
    }
    _write(folder, texts, SINGLE, weights)
    return open_checkpoint(folder)


def to_open_clip(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write a checkpoint as a folder that ``open_clip.create_model('local-dir:…')`` loads.

    Raises:
        CheckpointError: the head width is not the same in all, or the folder cannot be written.
    """
    config, pre = checkpoint.config, checkpoint.preprocess
    cfg = {
        "model_cfg": {
            "embed_dim": config.projection_dim,
            "quick_gelu": config.vision.activation == "quick_gelu",
            "vision_cfg": {
                "image_size": config.vision.image_px,
                "layers": config.vision.layers,
                "width": config.vision.width,
                "head_width": config.vision.width // config.vision.heads,
                "mlp_ratio": config.vision.mlp_width / config.vision.width,
                "patch_size": config.vision.patch_px,
            },
            "text_cfg": {
                "context_length": config.text.context_length,
                "vocab_size": config.text.vocab_size,
                "width": config.text.width,
                "heads": config.text.heads,
                "layers": config.text.layers,
                "mlp_ratio": config.text.mlp_width / config.text.width,
                "hf_tokenizer_name": str(folder),
            },
        },
        "preprocess_cfg": {
            "mean": list(pre.mean),
            "std": list(pre.std),
            "interpolation": pre.resample,
            "resize_mode": {"crop": "shortest", "pad": "longest", "stretch": "squash"}[pre.fit],
        },
    }
    texts = {CONFIG: json.dumps(cfg, indent=2), **checkpoint.tokenizer.files()}
    _write(Path(folder), texts, MODEL, dict(_to_open_clip(checkpoint.weights(), config)))


def _to_transformers(state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for theirs, ours, is_transposed in _TENSORS:
        yield ours, state[theirs].T if is_transposed else state[theirs]
    for theirs, ours in _TOWERS:
        for i_layer in range(_n_layers(state, theirs)):
            block, layer = f"{theirs}.resblocks.{i_layer}", f"{ours}.encoder.layers.{i_layer}"
            for kind in ("weight", "bias"):
                for their_part, our_part in _LAYER:
                    yield f"{layer}.{our_part}.{kind}", state[f"{block}.{their_part}.{kind}"]
                stacked = np.split(state[f"{block}.attn.in_proj_{kind}"], 3)
                for part, array in zip(_PARTS, stacked, strict=True):
                    yield f"{layer}.self_attn.{part}.{kind}", array


def _to_open_clip(
    weights: Mapping[str, np.ndarray], config: CLIPConfig
) -> Iterator[tuple[str, np.ndarray]]:
    for theirs, ours, is_transposed in _TENSORS:
        yield theirs, weights[ours].T if is_transposed else weights[ours]
    for (theirs, ours), tower in zip(_TOWERS, (config.text, config.vision), strict=True):
        for i_layer in range(tower.layers):
            block, layer = f"{theirs}.resblocks.{i_layer}", f"{ours}.encoder.layers.{i_layer}"
            for kind in ("weight", "bias"):
                for their_part, our_part in _LAYER:
                    yield f"{block}.{their_part}.{kind}", weights[f"{layer}.{our_part}.{kind}"]
                stacked = [weights[f"{layer}.self_attn.{part}.{kind}"] for part in _PARTS]
                yield f"{block}.attn.in_proj_{kind}", np.concatenate(stacked)


def _read_cfg(home: Path) -> dict[str, Any]:
    path = home / CONFIG
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {**content["model_cfg"], "preprocess": content.get("preprocess_cfg") or {}}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        message = f"{path} cannot be read ({exc}); fetch it again"
        raise CheckpointError(message) from exc


def _read_state(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        message = f"{path} does not exist; pass an open_clip folder, or a file of weights"
        raise CheckpointError(message)
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except Exception as exc:  # the library raises its own error type for a broken header
            message = f"{path} is truncated or not a safetensors file; fetch it again"
            raise CheckpointError(message) from exc
    else:
        from fashionclip.checkpoint.pickled import read_pickled  # PyTorch, only for .pt files

        state = read_pickled(path)
    names = {name.removeprefix("module."): array for name, array in state.items()}
    return {name.removeprefix("text."): array for name, array in names.items()}


def _activation(cfg: Mapping[str, Any], quick_gelu: bool | None, source: Path) -> Activation:
    told = cfg.get("quick_gelu", False) if cfg else None
    chosen = told if quick_gelu is None else quick_gelu
    if chosen is None:
        message = (
            f"nothing beside {source} tells its activation; pass quick_gelu=True for OpenAI's "
            "weights and '-quickgelu' models, quick_gelu=False for LAION's"
        )
        raise CheckpointError(message)
    return "quick_gelu" if chosen else "gelu"


def _n_layers(state: Mapping[str, np.ndarray], tower: str) -> int:
    prefix = f"{tower}.resblocks."
    numbers = {int(n[len(prefix) :].split(".")[0]) for n in state if n.startswith(prefix)}
    if not numbers:
        raise KeyError(prefix)
    return max(numbers) + 1


def _config_of(
    state: Mapping[str, np.ndarray], cfg: Mapping[str, Any], activation: Activation, end_id: int
) -> CLIPConfig:
    """Read the sizes off the tensors; only the heads need to be told."""
    width, _, patch, _ = state["visual.conv1.weight"].shape
    n_tokens = len(state["visual.positional_embedding"])
    text_width = state["ln_final.weight"].shape[0]
    vision_cfg, text_cfg = cfg.get("vision_cfg") or {}, cfg.get("text_cfg") or {}
    return CLIPConfig(
        vision=VisionConfig(
            width=width,
            layers=_n_layers(state, "visual.transformer"),
            heads=width // int(vision_cfg.get("head_width", HEAD_WIDTH)),
            mlp_width=len(state["visual.transformer.resblocks.0.mlp.c_fc.bias"]),
            activation=activation,
            layer_norm_eps=1e-5,
            image_px=round((n_tokens - 1) ** 0.5) * patch,
            patch_px=patch,
        ),
        text=TextConfig(
            width=text_width,
            layers=_n_layers(state, "transformer"),
            heads=int(text_cfg.get("heads", text_width // HEAD_WIDTH)),
            mlp_width=len(state["transformer.resblocks.0.mlp.c_fc.bias"]),
            activation=activation,
            layer_norm_eps=1e-5,
            vocab_size=len(state["token_embedding.weight"]),
            context_length=len(state["positional_embedding"]),
        ),
        projection_dim=state["text_projection"].shape[1],
        end_of_text="first",
        end_id=end_id,
        logit_scale=float(state["logit_scale"].reshape(-1)[0]),
    )


def _preprocess_of(cfg: Mapping[str, Any], image_px: int) -> Preprocess:
    told = cfg.get("preprocess") or {}
    fits = {"shortest": "crop", "longest": "pad", "squash": "stretch"}
    return Preprocess(
        size_px=image_px,
        fit=fits.get(told.get("resize_mode", "shortest"), "crop"),  # type: ignore[arg-type]
        resample="bilinear" if told.get("interpolation") == "bilinear" else "bicubic",
        mean=tuple(told.get("mean", CLIP_MEAN)),
        std=tuple(told.get("std", CLIP_STD)),
    )


def _write(
    folder: Path, texts: Mapping[str, str], name: str, weights: Mapping[str, np.ndarray]
) -> None:
    solid = {key: np.ascontiguousarray(array) for key, array in weights.items()}
    write_folder(folder, texts, [], blobs={name: save(solid, metadata={"format": "pt"})})
