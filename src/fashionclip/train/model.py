"""The models in training: which weights are trained (or LoRA), checkpoints, frozen teachers.

The recipe chooses which weights are trained: all, those of one tower, or LoRA's updates. The loss
compares the student's vectors with those of the teachers.
"""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor, nn
from torch.nn import functional

from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.checkpoint.config import Activation, expected_shapes
from fashionclip.engines import has_bfloat16
from fashionclip.engines.io import end_positions
from fashionclip.engines.towers import Towers
from fashionclip.errors import MissingExtraError, TrainingError
from fashionclip.train.distributed import ProcessGroup
from fashionclip.train.loader import Batch
from fashionclip.train.loss import Features, Temperature, gather_features
from fashionclip.train.recipe import LossConfig, ModelConfig

LORA_ALPHA = 16
"""LoRA's updates are multiplied by this over their rank."""
AUTOCAST_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_TOWER = {"vision": ("vision_model.", "visual_projection."), "text": ("text_model.", "text_proj")}
_LORA_TARGETS = r".*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """One process's part of a batch on the device, as the towers take it."""

    pixels: Tensor
    """uint8 ``(n, h, w, 3)``."""
    tokens: Tensor
    """int64 ``(n, token)``."""
    ends: Tensor
    """int64 ``(n,)``: position of each text's end token."""
    patches: Tensor | None
    """int64 ``(n, patch)``: patches to encode; None for all."""

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pixels)

    def __getitem__(self, rows: slice) -> "Inputs":
        """Some of the pairs."""
        patches = None if self.patches is None else self.patches[rows]
        return Inputs(self.pixels[rows], self.tokens[rows], self.ends[rows], patches)


@dataclass(frozen=True, slots=True)
class Forward:
    """The forward pass: normalizes pixels, runs both towers under autocast, normalizes vectors."""

    mean: Tensor
    """``(3,)``: mean of each channel, of pixels in 0…255."""
    std: Tensor
    autocast: torch.dtype | None = None

    def encode(self, model: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Unit vectors of images and texts, float32 ``(n, dim)`` each."""
        with self._autocast(inputs.pixels.device):
            pixels = (inputs.pixels.float() - self.mean) / self.std
            found = model(pixels, inputs.tokens, inputs.ends, inputs.patches)
        images, texts = (functional.normalize(side.float(), dim=-1) for side in found)
        return images, texts

    def encode_with_patches(
        self, towers: Towers, inputs: Inputs
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """As ``encode``, and the last states of all tokens, ``(n, 1 + patch, width)``."""
        with self._autocast(inputs.pixels.device):
            pixels = (inputs.pixels.float() - self.mean) / self.std
            states = towers.vision_model.encode_tokens(pixels, inputs.patches)
            images = towers.visual_projection(towers.vision_model.post_layernorm(states[:, 0]))
            texts = towers.encode_text(inputs.tokens, inputs.ends)
        both = (functional.normalize(side.float(), dim=-1) for side in (images, texts))
        return (next(both), next(both)), states.float()

    def encode_texts(self, towers: Towers, tokens: Tensor, ends: Tensor) -> Tensor:
        """Unit vectors of texts, float32 ``(n, dim)``."""
        with self._autocast(tokens.device):
            found = towers.encode_text(tokens, ends)
        return functional.normalize(found.float(), dim=-1)

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        return nullcontext() if not self.autocast else torch.autocast(device.type, self.autocast)


class PatchHead(nn.Module):
    """Predicts the patches' targets from the image tower's states; it is not part of the model."""

    def __init__(self, width: int, n_channels: int) -> None:
        """Predict 0 at first: a loss of 2, with targets whose mean is 0."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.patch = nn.Linear(width, n_channels)
        self.image = nn.Linear(width, n_channels)
        for linear in (self.patch, self.image):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, states: Tensor, targets: Tensor) -> Tensor:
        """The part of the targets' variance that is not predicted: of patches, and of their mean.

        Args:
            states: ``(n, 1 + patch, width)``, class token first.
            targets: ``(n, patch, channel)``; a patch without a target has NaN, and its image has no
                mean.
        """
        normal = self.norm(states)
        by_patch = _unexplained(self.patch(normal[:, 1:]), targets)
        loss: Tensor = by_patch + _unexplained(self.image(normal[:, 0]), targets.mean(1))
        return loss


def _unexplained(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared errors over squared targets, without NaN among them; 0 where none is left."""
    is_known = ~wanted.isnan()
    wanted = wanted.nan_to_num()
    errors = torch.where(is_known, found - wanted, 0.0)
    return errors.square().sum() / wanted.square().sum().clamp(min=1e-12)


def make_forward(checkpoint: Checkpoint, device: torch.device, precision: str) -> Forward:
    """The forward pass of a checkpoint's towers on a device."""
    pre = checkpoint.preprocess
    mean, std = (torch.tensor(three, device=device) * 255 for three in (pre.mean, pre.std))
    return Forward(mean, std, AUTOCAST_TYPES.get(precision))


def make_inputs(batch: Batch, checkpoint: Checkpoint, device: torch.device) -> Inputs:
    """Move a batch to the device."""
    pixels = torch.from_numpy(batch.pixels).to(device, non_blocking=True)
    tokens, ends = text_inputs(batch.tokens, checkpoint, device)
    patches = None if batch.patches is None else torch.from_numpy(batch.patches).to(device)
    return Inputs(pixels, tokens, ends, patches)


def text_inputs(
    tokens: Int32[np.ndarray, "n token"], checkpoint: Checkpoint, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tokens and the positions of their end tokens, int64 on the device."""
    arrays = (tokens, end_positions(tokens, checkpoint.config))
    found, ends = (
        torch.from_numpy(a.astype("int64")).to(device, non_blocking=True) for a in arrays
    )
    return found, ends


def choose_device(name: str) -> torch.device:
    """The device with a name; ``auto`` is a GPU where there is one."""
    if name != "auto":
        return torch.device("cpu" if name == "torch-cpu" else name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> str:
    """The precision of matrix products; ``auto`` is bfloat16 where the hardware has it."""
    if name != "auto":
        return name
    is_native = False
    if device.type == "cuda":
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        is_native = has_bfloat16() is True
    return "bfloat16" if is_native else "float32"


def with_activation(checkpoint: Checkpoint, activation: str) -> Checkpoint:
    """The same weights with the activation that a recipe names.

    FashionCLIP 2.0 needs this: its start was trained with GELU, and tuned in OpenAI's classes,
    which compute QuickGELU.
    """
    if activation == "checkpoint":
        return checkpoint
    config = checkpoint.config
    chosen: Activation = "gelu" if activation == "gelu" else "quick_gelu"
    vision = replace(config.vision, activation=chosen)
    text = replace(config.text, activation=chosen)
    return replace(checkpoint, config=replace(config, vision=vision, text=text))


def with_prefixes(checkpoint: Checkpoint, prefixes: tuple[int, ...]) -> Checkpoint:
    """The same weights, with the lengths of vectors that they are trained for beside the whole."""
    return replace(checkpoint, config=replace(checkpoint.config, prefix_dims=prefixes))


def load_towers(checkpoint: Checkpoint, device: torch.device) -> Towers:
    """Load a checkpoint's weights into towers, as float32."""
    return Towers.from_checkpoint(checkpoint).to(device)


def set_trainable(towers: Towers, config: ModelConfig, *, seed: int) -> None:
    """Mark the weights that a recipe trains.

    Args:
        towers: their weights.
        config: the frozen tower, LoRA's rank, whether activations are recomputed.
        seed: of LoRA's initial weights.

    Raises:
        MissingExtraError: LoRA is set, and PEFT is not installed.
    """
    frozen = _TOWER.get(config.freeze, ())
    if config.lora_rank:
        _add_lora(towers, config.lora_rank, frozen, seed)
    else:
        for name, weight in towers.named_parameters():
            weight.requires_grad_(not (frozen and name.startswith(frozen)))
    towers.keep_inputs_only(keep=config.checkpoint_activations)
    if config.compile:  # layer by layer: they share their code, and can still be sharded
        for tower in (towers.vision_model, towers.text_model):
            for layer in tower.encoder.layers[:-1]:  # the last one takes another function each step
                layer.compile()


def trainable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained weights by name, whether the model is wrapped or not."""
    return {
        name.removeprefix("module."): weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def save_weights(
    checkpoint: Checkpoint,
    trained: Mapping[str, Tensor],
    logit_scale: Tensor,
    folder: Path,
    *,
    lora_rank: int = 0,
) -> None:
    """Write a transformers folder, as float32: a checkpoint with trained weights.

    Args:
        checkpoint: the start; weights that are not in ``trained`` are its own.
        trained: whole tensors by name; LoRA's updates are added to the weights they belong to.
        logit_scale: the temperature's logarithm; the format has no place for a bias.
        folder: appears whole or not at all.
        lora_rank: rank of the updates, if there are any.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    stored = checkpoint.weights()

    def tensor(name: str) -> np.ndarray:
        if name == "logit_scale":
            weight = logit_scale.detach()
        elif name in trained:
            weight = trained[name]
        else:
            weight = torch.from_numpy(np.array(stored[name], np.float32))
            stem = name.removesuffix(".weight")
            up = trained.get(f"{stem}.lora_B.default.weight")
            if up is not None:
                down = trained[f"{stem}.lora_A.default.weight"]
                weight = weight + LORA_ALPHA / lora_rank * (up @ down)
        found: np.ndarray = weight.detach().float().cpu().numpy()
        return found

    layout = {name: (shape, "F32") for name, shape in expected_shapes(checkpoint.config)}
    save_checkpoint(checkpoint, folder, weights=(layout, tensor))


def _add_lora(towers: Towers, rank: int, frozen: tuple[str, ...], seed: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as exc:
        message = (
            "LoRA needs PEFT; run `pip install 'fashionclip[train]'`, or set model.lora_rank = 0"
        )
        raise MissingExtraError(message) from exc
    names = [
        name
        for name, module in towers.named_modules()
        if isinstance(module, nn.Linear)
        and re.fullmatch(_LORA_TARGETS, name)
        and not (frozen and name.startswith(frozen))
    ]
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=LORA_ALPHA, target_modules=names)
    inject_adapter_in_model(config, towers)
    for name, weight in towers.named_parameters():
        weight.requires_grad_(".lora_" in name)


PAIRS_PER_PASS = 128
"""A teacher needs no backward pass, so its chunks can be larger than the student's."""
START = "start"


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A frozen model."""

    towers: Towers
    forward: Forward
    temperature: Temperature

    def features(self, inputs: Inputs, group: ProcessGroup) -> Features:
        """Its vectors of a batch, of this process and of all."""
        size = self.towers.config.vision.image_px
        with torch.no_grad():
            parts = [
                self.forward.encode(self.towers, _resized(inputs[i : i + PAIRS_PER_PASS], size))
                for i in range(0, len(inputs), PAIRS_PER_PASS)
            ]
            images, texts = (torch.cat(side) for side in zip(*parts, strict=True))
            return gather_features(images, texts, self.temperature, group)


def open_teachers(
    config: LossConfig, start: Checkpoint, device: torch.device, precision: str
) -> dict[str, Teacher]:
    """Open the frozen models that a recipe's loss needs, by the term that uses them.

    Raises:
        TrainingError: a teacher has another vocabulary than the start.
        CheckpointError: it cannot be opened.
    """
    names = {}
    if config.distill:
        names["distill"] = config.teacher
    if config.anchor:
        names["anchor"] = START
    opened: dict[str, Teacher] = {}
    for name in set(names.values()):
        checkpoint = start if name == START else open_checkpoint(name)
        if checkpoint.tokenizer.rules.get_vocab() != start.tokenizer.rules.get_vocab():
            message = (
                f"loss.teacher: {name} has another vocabulary than {start.name}; choose one with "
                "the same tokenizer"
            )
            raise TrainingError(message)
        towers = load_towers(checkpoint, device).requires_grad_(requires_grad=False)
        temperature = Temperature(checkpoint.config.logit_scale, has_bias=False).to(device)
        opened[name] = Teacher(towers, make_forward(checkpoint, device, precision), temperature)
    return {term: opened[name] for term, name in names.items()}


def teacher_features(
    teachers: Mapping[str, Teacher], inputs: Inputs, group: ProcessGroup
) -> dict[str, Features]:
    """The vectors of every teacher; a teacher of two terms encodes the batch once."""
    found = {teacher: teacher.features(inputs, group) for teacher in set(teachers.values())}
    return {term: found[teacher] for term, teacher in teachers.items()}


def _resized(inputs: Inputs, size: int) -> Inputs:
    """The same images at the teacher's size, with all their patches."""
    pixels = inputs.pixels
    if pixels.shape[1] != size:
        floats = pixels.permute(0, 3, 1, 2).float()
        resized = functional.interpolate(floats, size, mode="bicubic", antialias=True)
        pixels = resized.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return Inputs(pixels, inputs.tokens, inputs.ends, None)
