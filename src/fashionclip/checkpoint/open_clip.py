"""open_clip checkpoints to the transformers folder and back, offline, no model being built.

What one side has no word for is refused: a converted model computes the same or is not written.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from fashionclip.checkpoint.config import (
    Activation,
    CLIPConfig,
    TextConfig,
    TowerConfig,
    VisionConfig,
    write_config,
)
from fashionclip.checkpoint.folder import Checkpoint, open_checkpoint, write_folder
from fashionclip.checkpoint.open_clip_names import (
    check_all_used,
    n_layers,
    to_open_clip_names,
    to_transformers_names,
)
from fashionclip.checkpoint.preprocessor import write_preprocess
from fashionclip.checkpoint.weights import SINGLE, open_files
from fashionclip.errors import CheckpointError
from fashionclip.images.decode import CLIP_MEAN, CLIP_STD, Fit, Preprocess
from fashionclip.text.tokenizer import Tokenizer

CONFIG, MODEL = "open_clip_config.json", "open_clip_model.safetensors"
HEAD_WIDTH = 64  # open_clip's default
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}  # its ViT-H, g, bigG and e by their width

_RESAMPLES = ("bicubic", "bilinear")
_EPS = 1e-5  # of layer norms, open_clip's and transformers' default
_FITS: dict[str, Fit] = {"shortest": "crop", "longest": "pad", "squash": "stretch"}
# settings that change what is computed and leave no trace in the weights: name to CLIP's own value
_CLIPS_OWN: dict[str, dict[str, object]] = {
    "vision_cfg": {
        "attentional_pool": False,
        "final_ln_after_pool": False,
        "pool_type": "tok",
        "pos_embed_type": "learnable",
        "scaled_cosine_attn": False,
    },
    "text_cfg": {
        "embed_cls": False,
        "final_ln_after_pool": False,
        "no_causal_mask": False,
        "pool_type": "argmax",
        "scaled_cosine_attn": False,
    },
}


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
        tokenizer: a folder with CLIP's tokenizer files, or with ``bpe_simple_vocab_16e6.txt.gz``
            of the open_clip package; None if they lie beside the weights.
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
    _check_cfg(cfg, home / CONFIG)
    try:
        state["logit_scale"] = state["logit_scale"].reshape(())
        weights = dict(to_transformers_names(state))
        check_all_used(state, source)
        rules = Tokenizer.from_folder(
            Path(tokenizer) if tokenizer else home,
            context_length=len(state["positional_embedding"]),
        )
        config = _config_of(state, cfg, activation, rules.end_id)
    except KeyError as exc:
        message = f"{source} lacks {exc}; only ViT models with CLIP's own text tower convert"
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
        CheckpointError: open_clip has no place for one of its settings, or the folder cannot be
            written.
    """
    folder = Path(folder)
    config, pre = checkpoint.config, checkpoint.preprocess
    _check_fits_open_clip(config, pre, checkpoint.name)
    cfg = {
        "model_cfg": {
            "embed_dim": config.projection_dim,
            "quick_gelu": config.vision.activation == "quick_gelu",
            "vision_cfg": {
                "image_size": config.vision.image_px,
                "layers": config.vision.layers,
                "width": config.vision.width,
                "head_width": config.vision.width // config.vision.heads,
                "mlp_ratio": _ratio(config.vision),
                **_norm_kwargs(config.vision),
                "patch_size": config.vision.patch_px,
            },
            "text_cfg": {
                "context_length": config.text.context_length,
                "vocab_size": config.text.vocab_size,
                "width": config.text.width,
                "heads": config.text.heads,
                "layers": config.text.layers,
                "mlp_ratio": _ratio(config.text),
                **_norm_kwargs(config.text),
                "hf_tokenizer_name": folder.name,  # any name: open_clip then reads this folder
            },
        },
        "preprocess_cfg": {
            "mean": list(pre.mean),
            "std": list(pre.std),
            "interpolation": pre.resample,
            "resize_mode": next(mode for mode, fit in _FITS.items() if fit == pre.fit),
            "fill_color": 255 if pre.fit == "pad" else 0,  # nearest to a product picture's ground
        },
    }
    texts = {CONFIG: json.dumps(cfg, indent=2), **checkpoint.tokenizer.files()}
    _write(folder, texts, MODEL, dict(to_open_clip_names(checkpoint.weights(), config)))


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
        state: Mapping[str, np.ndarray] = open_files([path])
    else:
        from fashionclip.checkpoint.pickled import read_pickled  # PyTorch, only for .pt files

        state = read_pickled(path)
    for prefix in ("module.", "_orig_mod.", "text."):  # many GPUs, compiled, two separate towers
        state = {name.removeprefix(prefix): array for name, array in state.items()}
    return dict(state)


def _check_cfg(cfg: Mapping[str, Any], place: Path) -> None:
    for tower, own in _CLIPS_OWN.items():
        for setting, value in (cfg.get(tower) or {}).items():
            if setting in own and value not in (own[setting], None):
                message = (
                    f"{place} says {setting}={value!r} in {tower}; a CLIP in the transformers "
                    f"format has {own[setting]!r} there, so this model does not convert"
                )
                raise CheckpointError(message)
            if setting == "norm_kwargs" and value and set(value) - {"eps"}:
                message = f"{place} says {setting}={value!r} in {tower}; only eps converts"
                raise CheckpointError(message)


def _check_fits_open_clip(config: CLIPConfig, pre: Preprocess, name: str) -> None:
    text, vision = config.text, config.vision
    problem = None
    if text.activation != vision.activation:
        problem = f"one activation for both towers, not {text.activation} and {vision.activation}"
    elif pre.shortest_edge_px not in (None, pre.size_px):
        problem = f"no resizing to {pre.shortest_edge_px} px before a crop to {pre.size_px} px"
    elif pre.resample not in _RESAMPLES:
        problem = f"no {pre.resample} resampling"
    if problem:
        message = f"the model '{name}' does not convert: open_clip knows {problem}"
        raise CheckpointError(message)


def _norm_kwargs(tower: TowerConfig) -> dict[str, Any]:
    eps = tower.layer_norm_eps
    return {} if eps == _EPS else {"norm_kwargs": {"eps": eps}}


def _ratio(tower: TowerConfig) -> float:
    """Ratio of the widths from which open_clip, which rounds down, gets the right one back."""
    ratio = tower.mlp_width / tower.width
    return ratio if int(tower.width * ratio) == tower.mlp_width else math.nextafter(ratio, math.inf)


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
            layers=n_layers(state, "visual.transformer"),
            heads=_heads(vision_cfg, width),
            mlp_width=len(state["visual.transformer.resblocks.0.mlp.c_fc.bias"]),
            activation=activation,
            layer_norm_eps=_eps(vision_cfg),
            image_px=round((n_tokens - 1) ** 0.5) * patch,
            patch_px=patch,
        ),
        text=TextConfig(
            width=text_width,
            layers=n_layers(state, "transformer"),
            heads=int(text_cfg.get("heads") or _heads({}, text_width)),
            mlp_width=len(state["transformer.resblocks.0.mlp.c_fc.bias"]),
            activation=activation,
            layer_norm_eps=_eps(text_cfg),
            vocab_size=len(state["token_embedding.weight"]),
            context_length=len(state["positional_embedding"]),
        ),
        projection_dim=state["text_projection"].shape[1],
        end_of_text="first",
        end_id=end_id,
        logit_scale=float(state["logit_scale"].reshape(-1)[0]),
    )


def _heads(vision_cfg: Mapping[str, Any], width: int) -> int:
    """How many heads; no tensor tells.

    Raises:
        CheckpointError: their width is not told, and this is no size that open_clip released.
    """
    head_width = int(vision_cfg.get("head_width") or _HEAD_WIDTHS.get(width, HEAD_WIDTH))
    if width % head_width:
        message = (
            f"the number of heads of a tower of width {width} is not known; "
            f"put the model's {CONFIG} beside its weights"
        )
        raise CheckpointError(message)
    return width // head_width


def _eps(tower_cfg: Mapping[str, Any]) -> float:
    return float((tower_cfg.get("norm_kwargs") or {}).get("eps", _EPS))


def _preprocess_of(cfg: Mapping[str, Any], image_px: int) -> Preprocess:
    told = cfg.get("preprocess") or {}
    return Preprocess(
        size_px=image_px,
        fit=_FITS.get(told.get("resize_mode", "shortest"), "crop"),
        resample="bilinear" if told.get("interpolation") == "bilinear" else "bicubic",
        mean=_triple(told.get("mean") or CLIP_MEAN),
        std=_triple(told.get("std") or CLIP_STD),
    )


def _triple(values: float | Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = [values] * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)


def _write(
    folder: Path, texts: Mapping[str, str], name: str, weights: Mapping[str, np.ndarray]
) -> None:
    # not ascontiguousarray, which makes a vector of the scalar logit_scale
    solid = {key: np.asarray(array, order="C") for key, array in weights.items()}
    write_folder(folder, texts, [], blobs={name: save(solid, metadata={"format": "pt"})})
