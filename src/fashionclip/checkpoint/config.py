"""``config.json`` and ``preprocessor_config.json`` as frozen values, and back.

What a file leaves out has the default of transformers, which is not always what the authors
trained with: a config without ``hidden_act`` means QuickGELU.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from fashionclip.checkpoint.patch_attention import PatchAttention, read_patch_attention
from fashionclip.errors import CheckpointError
from fashionclip.images.decode import CLIP_MEAN, CLIP_STD, Fit, Preprocess, Resample

Activation = Literal["quick_gelu", "gelu"]
LEGACY_END_ID = 2
"""Early conversions wrote this in place of the true end token; it means "the highest id"."""
DEFAULT_DIM = 512
"""Length of the vectors where a file does not say it."""
MIN_CONTEXT = 3
"""Start, a word, end."""
ROUNDING = 1e-6  # of a scale; a file's 0.00392156862745098 is 1 / 255
_VIT_SIZES = {(12, 384): "S", (12, 768): "B", (24, 1024): "L", (32, 1280): "H"}
_RESAMPLE: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow
_FITS: tuple[Fit, ...] = ("crop", "pad", "stretch")
_PASS_A_CLIP = "pass a CLIP model such as 'patrickjohncyh/fashion-clip'"
# our field: key in config.json, default of the image tower, default of the text tower
_KEYS: Mapping[str, tuple[str, Any, Any]] = {
    "width": ("hidden_size", 768, 512),
    "layers": ("num_hidden_layers", 12, 12),
    "heads": ("num_attention_heads", 12, 8),
    "mlp_width": ("intermediate_size", 3072, 2048),
    "activation": ("hidden_act", "quick_gelu", "quick_gelu"),
    "layer_norm_eps": ("layer_norm_eps", 1e-5, 1e-5),
    "image_px": ("image_size", 224, None),
    "patch_px": ("patch_size", 32, None),
    "vocab_size": ("vocab_size", None, 49408),
    "context_length": ("max_position_embeddings", None, 77),
}


@dataclass(frozen=True, slots=True)
class TowerConfig:
    """The sizes that both towers have."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation
    layer_norm_eps: float


@dataclass(frozen=True, slots=True)
class VisionConfig(TowerConfig):
    """The image tower."""

    image_px: int
    patch_px: int


@dataclass(frozen=True, slots=True)
class TextConfig(TowerConfig):
    """The text tower."""

    vocab_size: int
    context_length: int


_T = TypeVar("_T", VisionConfig, TextConfig)


@dataclass(frozen=True, slots=True)
class CLIPConfig:
    """A CLIP model's sizes and conventions."""

    vision: VisionConfig
    text: TextConfig
    projection_dim: int
    """Length of the vectors of both towers."""
    end_of_text: Literal["argmax", "first"]
    """The token whose state becomes the vector: that of the highest id, or the first end token."""
    end_id: int
    logit_scale: float
    """Natural logarithm of the factor of cosines before the softmax."""
    prefix_dims: tuple[int, ...] = field(default=(), repr=False)
    """Shorter lengths that the vectors are trained for: their first numbers are vectors too. Not
    in the representation, of which fingerprints are made: vectors do not depend on it."""
    patch_attention: PatchAttention = field(default=PatchAttention(), repr=False)
    """What the last layer computes for maps of words; vectors do not depend on it either."""

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
        place: the file, for error messages.

    Raises:
        CheckpointError: it is not a CLIP model's, or a value is not usable.

    Source: ``CLIPConfig``, ``CLIPTextConfig`` and ``CLIPVisionConfig`` in transformers, for the
        defaults and for ``*_config_dict``, which early files have and which takes precedence.
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
        end_id = (text or {}).get("eos_token_id", 49407)
        config = CLIPConfig(
            vision=_tower_of(VisionConfig, vision or {}, place),
            text=_tower_of(TextConfig, text or {}, place),
            projection_dim=int(raw.get("projection_dim", DEFAULT_DIM)),
            end_of_text="argmax" if end_id == LEGACY_END_ID else "first",
            end_id=int(end_id),
            logit_scale=float(raw.get("logit_scale_init_value", 2.6592)),
            prefix_dims=tuple(int(length) for length in raw.get("prefix_dims", ())),
            patch_attention=read_patch_attention(raw, place=place),
        )
        _check_sizes(config)
    except (AttributeError, TypeError, ValueError) as exc:
        message = f"{place} holds a value that is not usable ({exc}); fetch the file again"
        raise CheckpointError(message) from exc
    return config


def tower_settings(raw: Mapping[str, Any], tower: str) -> Mapping[str, Any] | None:
    """The settings of one tower, ``text`` or ``vision``; None if the file has none.

    ``*_config_dict`` replaces ``*_config`` whole: what it leaves out has its default.
    """
    settings = raw.get(f"{tower}_config_dict")
    found = raw.get(f"{tower}_config") if settings is None else settings
    return found if isinstance(found, Mapping) else None


def _tower_of(kind: type[_T], raw: Mapping[str, Any], place: str) -> _T:
    values: dict[str, Any] = {}
    for one in fields(kind):
        key, vision_default, text_default = _KEYS[one.name]
        default = vision_default if kind is VisionConfig else text_default
        values[one.name] = type(default)(raw.get(key, default))
    if values["activation"] not in {"quick_gelu", "gelu"}:
        message = (
            f"{place} asks for the activation '{values['activation']}'; CLIP models use "
            "quick_gelu or gelu"
        )
        raise CheckpointError(message)
    return kind(**values)


def _check_sizes(config: CLIPConfig) -> None:
    # impossible sizes would become an error deep in an engine
    vision, text = config.vision, config.text
    for tower in (vision, text):
        for name, size in asdict(tower).items():
            if isinstance(size, int) and size < (MIN_CONTEXT if "context" in name else 1):
                message = f"its {name} would be {size}"
                raise ValueError(message)
        if tower.width % tower.heads:
            message = f"{tower.heads} heads cannot share a width of {tower.width}"
            raise ValueError(message)
    for length in config.prefix_dims:
        if not 0 < length < config.projection_dim:
            message = f"prefix_dims holds {length}"
            raise ValueError(message)
    if vision.image_px % vision.patch_px:
        message = f"patches of {vision.patch_px} px do not fill {vision.image_px} px"
        raise ValueError(message)


def write_config(config: CLIPConfig) -> dict[str, Any]:
    """The content of a ``config.json`` that states everything, defaults too."""

    def tower(part: TowerConfig) -> dict[str, Any]:
        values = {_KEYS[name][0]: value for name, value in asdict(part).items()}
        return values | {"projection_dim": config.projection_dim}

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.projection_dim,
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "model_type": "clip_text_model",
            **tower(config.text),
            "eos_token_id": config.end_id,
            "bos_token_id": config.end_id - 1,
            "pad_token_id": config.end_id,
        },
        "vision_config": {"model_type": "clip_vision_model", **tower(config.vision)},
    }


def expected_shapes(config: CLIPConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor that a checkpoint of these sizes must contain."""
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
    yield from _affine("text_model.final_layer_norm", (text.width,), text.width)
    yield from _affine("vision_model.pre_layrnorm", (vision.width,), vision.width)
    yield from _affine("vision_model.post_layernorm", (vision.width,), vision.width)
    for prefix, tower in (("text_model", text), ("vision_model", vision)):
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


def read_preprocess(raw: Mapping[str, Any] | None, config: CLIPConfig, *, place: str) -> Preprocess:
    """Read a ``preprocessor_config.json``; None means CLIP's own preprocessing.

    ``fit`` is this package's key: ``crop`` (CLIP's), ``pad`` or ``stretch``.

    Raises:
        CheckpointError: a value is not usable, or the size is not the image tower's.
    """
    raw = raw or {}
    image_px = config.vision.image_px
    if raw.get("fit", "crop") not in _FITS:
        message = f"{place} says fit '{raw['fit']}'; it is one of {', '.join(_FITS)}"
        raise CheckpointError(message)
    try:
        size, crop = raw.get("size") or image_px, raw.get("crop_size") or image_px
        size_px = _side(crop) if raw.get("do_center_crop", True) else _side(size)
        fit = raw.get("fit") or _fit(raw, size, crop)
        mean, std = _normalisation(raw)
        pre = Preprocess(
            size_px=size_px,
            fit=fit,
            resample=_RESAMPLE[int(raw.get("resample", 3))],
            shortest_edge_px=_side(size) if fit == "crop" and _side(size) != size_px else None,
            mean=mean,
            std=std,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as exc:
        message = f"{place} holds a value that is not usable ({exc}); fetch the file again"
        raise CheckpointError(message) from exc
    if pre.size_px != image_px:
        message = f"{place} makes images of {pre.size_px} px, but the model takes {image_px} px"
        raise CheckpointError(message)
    return pre


def _fit(raw: Mapping[str, Any], size: object, crop: object) -> Fit:
    # of a file without our own key; stretching and then cropping is refused
    is_cropped = raw.get("do_center_crop", True)
    if not (isinstance(size, Mapping) and "height" in size):
        return "crop" if is_cropped else "stretch"
    if size["height"] != size["width"] or (is_cropped and _side(size) != _side(crop)):
        message = f"size {dict(size)} with crop_size {crop}"
        raise ValueError(message)
    return "stretch"


def _side(size: object) -> int:
    if isinstance(size, Mapping):
        return int(size["shortest_edge"] if "shortest_edge" in size else size["height"])
    return int(size)  # type: ignore[call-overload, no-any-return]


def _normalisation(
    raw: Mapping[str, Any],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    # mean and standard deviation of pixels in 0…1, whatever the file's scale
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if raw.get("do_normalize", True):
        mean = rgb_triple(raw.get("image_mean", CLIP_MEAN))
        std = rgb_triple(raw.get("image_std", CLIP_STD))
    scale = 255 * float(raw.get("rescale_factor", 1 / 255)) if raw.get("do_rescale", True) else 255
    if abs(scale - 1) > ROUNDING:
        mean, std = rgb_triple([m / scale for m in mean]), rgb_triple([s / scale for s in std])
    if min(std) <= 0:
        message = f"image_std {std}"
        raise ValueError(message)
    return mean, std


def rgb_triple(values: Sequence[float]) -> tuple[float, float, float]:
    """Three numbers, one per channel."""
    red, green, blue = values
    return float(red), float(green), float(blue)


def write_preprocess(pre: Preprocess) -> dict[str, Any]:
    """The content of a ``preprocessor_config.json`` that ``CLIPImageProcessor`` reads.

    By its keys a whole image can only be stretched: it pads with black alone, or at two sides. So
    that is what it does where ``fit`` is ``pad``.
    """
    numbers = {name: number for number, name in _RESAMPLE.items()}
    sides = {"height": pre.size_px, "width": pre.size_px}
    edge = {"shortest_edge": pre.shortest_edge_px or pre.size_px}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "fit": pre.fit,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": edge if pre.fit == "crop" else sides,
        "resample": numbers[pre.resample],
        "do_center_crop": pre.fit == "crop",
        "crop_size": sides,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pre.mean),
        "image_std": list(pre.std),
    }
