"""``config.json`` as frozen values, with its known traps.

What a file leaves out has the default that transformers gives it, which is not always
what the authors trained with: a config without ``hidden_act`` means QuickGELU.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fashionclip.errors import CheckpointError

Activation = Literal["quick_gelu", "gelu"]
Tower = Literal["text", "vision"]
LEGACY_END_ID = 2
"""Written by early conversions in place of the true end token; means "the highest id"."""
SHORTEST_CONTEXT = 3
"""Start, a word, end."""
_VIT_SIZES = {(12, 384): "S", (12, 768): "B", (24, 1024): "L", (32, 1280): "H"}


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """What both towers have."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation
    layer_norm_eps: float


@dataclass(frozen=True, slots=True)
class VisionConfig(TowerConfig):
    """The picture tower."""

    image_px: int
    patch_px: int


@dataclass(frozen=True, slots=True)
class TextConfig(TowerConfig):
    """The text tower."""

    vocab_size: int
    context_length: int


@dataclass(frozen=True, slots=True)
class CLIPConfig:
    """A CLIP model's sizes and conventions."""

    vision: VisionConfig
    text: TextConfig
    projection_dim: int
    """Length of the vectors that both towers end in."""
    end_of_text: Literal["argmax", "first"]
    """Which token's state stands for the text: the highest id's, or the first end token's."""
    end_id: int
    logit_scale: float
    """Natural logarithm of the factor of cosines before the softmax."""

    @property
    def architecture(self) -> str:
        """The image tower, such as ``ViT-B/32``; unusual sizes give layers and width."""
        vision = self.vision
        usual = _VIT_SIZES.get((vision.layers, vision.width))
        return f"ViT-{usual or f'{vision.layers}x{vision.width}'}/{vision.patch_px}"


def read_config(raw: Mapping[str, Any], *, place: str) -> CLIPConfig:
    """Read a transformers ``config.json``.

    Args:
        raw: the file's content.
        place: the file, for the error's message.

    Raises:
        CheckpointError: it is not a CLIP model's, or a value is not usable.

    Source: ``CLIPConfig``, ``CLIPTextConfig`` and ``CLIPVisionConfig`` in transformers, for the
        defaults and for ``*_config_dict``, which early files hold and which wins.
    """
    kind = raw.get("model_type", "clip")
    if kind != "clip":
        message = f"{place} describes a '{kind}' model, not a CLIP; {_PASS_A_CLIP}"
        raise CheckpointError(message)
    text, vision = tower_settings(raw, "text"), tower_settings(raw, "vision")
    if text is None and vision is None:
        message = f"{place} has neither text_config nor vision_config; {_PASS_A_CLIP}"
        raise CheckpointError(message)
    try:
        config = _config_of(raw, text or {}, vision or {}, place)
        _check_sizes(config)
    except (AttributeError, TypeError, ValueError) as exc:
        message = f"{place} holds a value that is not usable ({exc}); fetch the file again"
        raise CheckpointError(message) from exc
    return config


_PASS_A_CLIP = "pass a CLIP model such as 'patrickjohncyh/fashion-clip'"


def tower_settings(raw: Mapping[str, Any], tower: Tower) -> Mapping[str, Any] | None:
    """Pick what counts for one tower; None if the file says nothing about it.

    ``*_config_dict`` replaces the other whole: what it leaves out has the default again.
    """
    settings = raw.get(f"{tower}_config_dict")
    found = raw.get(f"{tower}_config") if settings is None else settings
    return found if isinstance(found, Mapping) else None


def _config_of(
    raw: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any], place: str
) -> CLIPConfig:
    end_id = text.get("eos_token_id", 49407)
    return CLIPConfig(
        vision=VisionConfig(
            width=int(vision.get("hidden_size", 768)),
            layers=int(vision.get("num_hidden_layers", 12)),
            heads=int(vision.get("num_attention_heads", 12)),
            mlp_width=int(vision.get("intermediate_size", 3072)),
            activation=_activation(vision, place),
            layer_norm_eps=float(vision.get("layer_norm_eps", 1e-5)),
            image_px=int(vision.get("image_size", 224)),
            patch_px=int(vision.get("patch_size", 32)),
        ),
        text=TextConfig(
            width=int(text.get("hidden_size", 512)),
            layers=int(text.get("num_hidden_layers", 12)),
            heads=int(text.get("num_attention_heads", 8)),
            mlp_width=int(text.get("intermediate_size", 2048)),
            activation=_activation(text, place),
            layer_norm_eps=float(text.get("layer_norm_eps", 1e-5)),
            vocab_size=int(text.get("vocab_size", 49408)),
            context_length=int(text.get("max_position_embeddings", 77)),
        ),
        projection_dim=int(raw.get("projection_dim", 512)),
        end_of_text="argmax" if end_id == LEGACY_END_ID else "first",
        end_id=int(end_id),
        logit_scale=float(raw.get("logit_scale_init_value", 2.6592)),
    )


def _check_sizes(config: CLIPConfig) -> None:
    """Refuse sizes that no model has, before they end as an error deep in an engine.

    Raises:
        ValueError: one of them is such; the message has its name.
    """
    vision, text = config.vision, config.text
    for tower in (vision, text):
        for name, size in asdict(tower).items():
            if isinstance(size, int) and size < (SHORTEST_CONTEXT if "context" in name else 1):
                message = f"its {name} would be {size}"
                raise ValueError(message)
        if tower.width % tower.heads:
            message = f"{tower.heads} heads cannot share a width of {tower.width}"
            raise ValueError(message)
    if vision.image_px % vision.patch_px:
        message = f"patches of {vision.patch_px} px do not fill {vision.image_px} px"
        raise ValueError(message)


def _activation(tower: Mapping[str, Any], place: str) -> Activation:
    name = tower.get("hidden_act", "quick_gelu")
    if name == "quick_gelu":
        return "quick_gelu"
    if name == "gelu":
        return "gelu"
    message = f"{place} asks for the activation '{name}'; CLIP models use quick_gelu or gelu"
    raise CheckpointError(message)


def write_config(config: CLIPConfig) -> dict[str, Any]:
    """Write a ``config.json`` that says everything, defaults too."""

    def tower(part: TowerConfig) -> dict[str, Any]:
        return {
            "hidden_size": part.width,
            "intermediate_size": part.mlp_width,
            "num_hidden_layers": part.layers,
            "num_attention_heads": part.heads,
            "hidden_act": part.activation,
            "layer_norm_eps": part.layer_norm_eps,
            "projection_dim": config.projection_dim,
        }

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.projection_dim,
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "model_type": "clip_text_model",
            **tower(config.text),
            "vocab_size": config.text.vocab_size,
            "max_position_embeddings": config.text.context_length,
            "eos_token_id": config.end_id,
            "bos_token_id": config.end_id - 1,
            "pad_token_id": config.end_id,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **tower(config.vision),
            "image_size": config.vision.image_px,
            "patch_size": config.vision.patch_px,
        },
    }


def expected_shapes(config: CLIPConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor that a checkpoint of these sizes must hold."""
    text, vision, dim = config.text, config.vision, config.projection_dim
    n_patches = (vision.image_px // vision.patch_px) ** 2
    yield "logit_scale", ()
    yield "text_model.embeddings.token_embedding.weight", (text.vocab_size, text.width)
    yield "text_model.embeddings.position_embedding.weight", (text.context_length, text.width)
    yield "vision_model.embeddings.class_embedding", (vision.width,)
    kernel = (vision.width, 3, vision.patch_px, vision.patch_px)
    yield "vision_model.embeddings.patch_embedding.weight", kernel
    yield "vision_model.embeddings.position_embedding.weight", (n_patches + 1, vision.width)
    yield "text_projection.weight", (dim, text.width)
    yield "visual_projection.weight", (dim, vision.width)
    for norm, width in (
        ("text_model.final_layer_norm", text.width),
        ("vision_model.pre_layrnorm", vision.width),
        ("vision_model.post_layernorm", vision.width),
    ):
        yield from _affine(norm, (width,), width)
    yield from _layer_shapes("text_model", text)
    yield from _layer_shapes("vision_model", vision)


def _layer_shapes(prefix: str, tower: TowerConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, hidden = tower.width, tower.mlp_width
    for i_layer in range(tower.layers):
        layer = f"{prefix}.encoder.layers.{i_layer}"
        for norm in ("layer_norm1", "layer_norm2"):
            yield from _affine(f"{layer}.{norm}", (width,), width)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _affine(f"{layer}.self_attn.{part}", (width, width), width)
        yield from _affine(f"{layer}.mlp.fc1", (hidden, width), hidden)
        yield from _affine(f"{layer}.mlp.fc2", (width, hidden), width)


def _affine(name: str, shape: tuple[int, ...], n_out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", (n_out,)
