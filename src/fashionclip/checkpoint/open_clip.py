"""open_clip checkpoints to the transformers folder and back, offline, without building a model.

What the other format cannot express is refused: a converted model computes the same vectors.
Both formats hold the same numbers under other names: open_clip stacks query, key and value into
one matrix and keeps its projections transposed. One table of names serves both directions.
"""

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
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
    rgb_triple,
    write_config,
    write_preprocess,
)
from fashionclip.checkpoint.folder import Checkpoint, open_checkpoint, write_folder
from fashionclip.checkpoint.weights import SINGLE, check_finite, open_files
from fashionclip.errors import CheckpointError, MissingExtraError
from fashionclip.images.decode import CLIP_MEAN, CLIP_STD, Fit, Preprocess
from fashionclip.lines import reason_of
from fashionclip.text.tokenizer import Tokenizer

CONFIG, MODEL = "open_clip_config.json", "open_clip_model.safetensors"
DEFAULT_HEAD_WIDTH = 64  # in open_clip
_HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}  # of open_clip's ViT-H, g, bigG and e

_RESAMPLES = ("bicubic", "bilinear")
_EPS = 1e-5  # of layer norms, open_clip's and transformers' default
_FITS: dict[str, Fit] = {"shortest": "crop", "longest": "pad", "squash": "stretch"}
# settings that change the vectors but not the shapes of weights, with CLIP's own value
_CLIP_VALUES: dict[str, dict[str, object]] = {
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
_VISUAL = "visual.transformer"
_TOWERS = (("transformer", "text_model"), (_VISUAL, "vision_model"))
# OpenAI's files hold their sizes as tensors; early open_clip files the causal mask
_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}


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
            of the open_clip package; None if they are beside the weights.
        quick_gelu: the activation, if there is no configuration: True for OpenAI's weights and
            models whose name ends in ``-quickgelu``, False for LAION's.

    Raises:
        CheckpointError: a part is missing or not a ViT CLIP's, or the folder cannot be written.
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
        weights = dict(_to_transformers(state, source))
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
        CheckpointError: open_clip lacks one of its settings, or the folder cannot be written.
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
                "mlp_ratio": mlp_ratio(config.vision),
                **_norm_kwargs(config.vision),
                "patch_size": config.vision.patch_px,
            },
            "text_cfg": {
                "context_length": config.text.context_length,
                "vocab_size": config.text.vocab_size,
                "width": config.text.width,
                "heads": config.text.heads,
                "layers": config.text.layers,
                "mlp_ratio": mlp_ratio(config.text),
                **_norm_kwargs(config.text),
                "hf_tokenizer_name": folder.name,  # with any name, open_clip reads this folder
            },
        },
        "preprocess_cfg": {
            "mean": list(pre.mean),
            "std": list(pre.std),
            "interpolation": pre.resample,
            "resize_mode": next(mode for mode, fit in _FITS.items() if fit == pre.fit),
            "fill_color": 255 if pre.fit == "pad" else 0,  # closest to a product image's background
        },
    }
    texts = {CONFIG: json.dumps(cfg, indent=2), **checkpoint.tokenizer.files()}
    _write(folder, texts, MODEL, dict(_to_open_clip(checkpoint.weights(), config)))


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
        state = _read_pickled(path)
    for prefix in ("module.", "_orig_mod.", "text."):  # several GPUs, compiled, separate text tower
        state = {name.removeprefix(prefix): array for name, array in state.items()}
    check_finite(state, state, place=path)
    return dict(state)


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    # a ``.pt`` or ``.bin`` file; no code in it is run
    try:
        import torch  # only for .pt files
    except ImportError as exc:
        message = f"only PyTorch can read {path}: pip install 'fashionclip[torch]'"
        raise MissingExtraError(message) from exc
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                message = (
                    f"{path} is a TorchScript program, as OpenAI released its models; take its "
                    "weights from the hub, such as 'openai/clip-vit-base-patch32', or save them as "
                    "safetensors"
                )
                raise CheckpointError(message)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        return {
            name: tensor.numpy() if tensor.dtype == torch.float16 else tensor.float().numpy()
            for name, tensor in state.items()
        }
    except Exception as exc:  # unpickling raises any type
        detail = reason_of(exc, width=150)
        message = f"{path} is damaged or holds more than weights ({detail}); save it as safetensors"
        raise CheckpointError(message) from exc


def _names(n_text_layers: int, n_image_layers: int) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """open_clip's names, each with transformers' one or three, and whether it is transposed."""
    for theirs, ours, is_transposed in _TENSORS:
        yield theirs, (ours,), is_transposed
    for (theirs, ours), n in zip(_TOWERS, (n_text_layers, n_image_layers), strict=True):
        for i_layer in range(n):
            block, layer = f"{theirs}.resblocks.{i_layer}", f"{ours}.encoder.layers.{i_layer}"
            for kind in ("weight", "bias"):
                for their_part, our_part in _LAYER:
                    yield f"{block}.{their_part}.{kind}", (f"{layer}.{our_part}.{kind}",), False
                parts = (f"{layer}.self_attn.{part}_proj.{kind}" for part in "qkv")
                yield f"{block}.attn.in_proj_{kind}", tuple(parts), False


def _to_transformers(
    state: Mapping[str, np.ndarray], source: Path
) -> Iterator[tuple[str, np.ndarray]]:
    names = list(_names(_count_layers(state, "transformer"), _count_layers(state, _VISUAL)))
    unused = sorted(state.keys() - {theirs for theirs, _, _ in names} - _NOT_WEIGHTS)
    for theirs, ours, is_transposed in names:
        array = state[theirs].T if is_transposed else state[theirs]
        yield from zip(ours, np.split(array, 3) if len(ours) == 3 else [array], strict=True)
    if unused:
        others = f" and {len(unused) - 1} more" if unused[1:] else ""
        message = (
            f"{source} holds {unused[0]}{others}; a CLIP in the transformers format has no place "
            "for it, so this model does not convert"
        )
        raise CheckpointError(message)


def _to_open_clip(
    weights: Mapping[str, np.ndarray], config: CLIPConfig
) -> Iterator[tuple[str, np.ndarray]]:
    """A transformers checkpoint's tensors by their names in open_clip."""
    for theirs, ours, is_transposed in _names(config.text.layers, config.vision.layers):
        parts = [weights[name] for name in ours]
        array = np.concatenate(parts) if len(parts) > 1 else parts[0]
        yield theirs, array.T if is_transposed else array


def _count_layers(state: Mapping[str, np.ndarray], tower: str) -> int:
    prefix = f"{tower}.resblocks."
    numbers = {int(n[len(prefix) :].split(".")[0]) for n in state if n.startswith(prefix)}
    if not numbers:
        raise KeyError(prefix)
    return max(numbers) + 1


def _check_cfg(cfg: Mapping[str, Any], place: Path) -> None:
    for tower, own in _CLIP_VALUES.items():
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


def mlp_ratio(tower: TowerConfig) -> float:
    """The ratio of widths from which open_clip, which rounds down, computes the MLP's width."""
    ratio = tower.mlp_width / tower.width
    return ratio if int(tower.width * ratio) == tower.mlp_width else math.nextafter(ratio, math.inf)


def _activation(cfg: Mapping[str, Any], quick_gelu: bool | None, source: Path) -> Activation:
    stated = cfg.get("quick_gelu", False) if cfg else None
    chosen = stated if quick_gelu is None else quick_gelu
    if chosen is None:
        message = (
            f"the activation of {source} is unknown; pass quick_gelu=True for OpenAI's weights and "
            "'-quickgelu' models, quick_gelu=False for LAION's"
        )
        raise CheckpointError(message)
    return "quick_gelu" if chosen else "gelu"


def _config_of(
    state: Mapping[str, np.ndarray], cfg: Mapping[str, Any], activation: Activation, end_id: int
) -> CLIPConfig:
    """Infer the sizes from the tensors; only the number of heads is in the configuration."""
    width, _, patch, _ = state["visual.conv1.weight"].shape
    n_tokens = len(state["visual.positional_embedding"])
    text_width = state["ln_final.weight"].shape[0]
    vision_cfg, text_cfg = cfg.get("vision_cfg") or {}, cfg.get("text_cfg") or {}
    return CLIPConfig(
        vision=VisionConfig(
            width=width,
            layers=_count_layers(state, _VISUAL),
            heads=_heads(vision_cfg, width),
            mlp_width=len(state["visual.transformer.resblocks.0.mlp.c_fc.bias"]),
            activation=activation,
            layer_norm_eps=_eps(vision_cfg),
            image_px=round((n_tokens - 1) ** 0.5) * patch,
            patch_px=patch,
        ),
        text=TextConfig(
            width=text_width,
            layers=_count_layers(state, "transformer"),
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
    # no tensor shows the number of heads
    head_width = int(vision_cfg.get("head_width") or _HEAD_WIDTHS.get(width, DEFAULT_HEAD_WIDTH))
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
    raw = cfg.get("preprocess") or {}
    mean, std = raw.get("mean") or CLIP_MEAN, raw.get("std") or CLIP_STD
    return Preprocess(
        size_px=image_px,
        fit=_FITS.get(raw.get("resize_mode", "shortest"), "crop"),
        resample="bilinear" if raw.get("interpolation") == "bilinear" else "bicubic",
        mean=rgb_triple([mean] * 3 if isinstance(mean, int | float) else mean),
        std=rgb_triple([std] * 3 if isinstance(std, int | float) else std),
    )


def _write(
    folder: Path, texts: Mapping[str, str], name: str, weights: Mapping[str, np.ndarray]
) -> None:
    # ascontiguousarray would make a vector of the scalar logit_scale
    contiguous = {key: np.asarray(array, order="C") for key, array in weights.items()}
    data = save(contiguous, metadata={"format": "pt"})
    write_folder(folder, texts, [], write=lambda draft: (draft / name).write_bytes(data))
