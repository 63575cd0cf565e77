"""A checkpoint → towers with weights that move, and back to a checkpoint's folder.

Which weights move is the recipe's choice: all, one tower's, or LoRA's small updates beside them.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fashionclip.checkpoint import Checkpoint, save_checkpoint
from fashionclip.checkpoint.config import Activation, expected_shapes
from fashionclip.checkpoint.weights import SINGLE, write_weights
from fashionclip.engines.towers import Towers
from fashionclip.errors import CheckpointError, MissingExtraError
from fashionclip.train.recipe import Model

_TOWER = {"vision": ("vision_model.", "visual_projection."), "text": ("text_model.", "text_proj")}
_LORA_TARGETS = r".*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"


def with_activation(checkpoint: Checkpoint, activation: str) -> Checkpoint:
    """The same weights behind another activation, if the recipe names one.

    FashionCLIP 2.0 is such a model: LAION's weights, trained with GELU, were loaded into OpenAI's
    classes, which compute QuickGELU, and tuned there.
    """
    if activation == "checkpoint":
        return checkpoint
    config = checkpoint.config
    chosen: Activation = "gelu" if activation == "gelu" else "quick_gelu"
    vision = replace(config.vision, activation=chosen)
    text = replace(config.text, activation=chosen)
    return replace(checkpoint, config=replace(config, vision=vision, text=text))


def open_towers(checkpoint: Checkpoint, device: torch.device) -> Towers:
    """Read a checkpoint's weights into towers, float32."""
    towers = Towers(checkpoint.config)
    weights = checkpoint.weights()
    state = {
        name: torch.from_numpy(np.array(weights[name], np.float32)) for name in towers.state_dict()
    }
    towers.load_state_dict(state)
    return towers.to(device)


def choose_weights(towers: Towers, recipe: Model, *, seed: int) -> None:
    """Let those weights move that the recipe says.

    Args:
        towers: whose.
        recipe: which tower is frozen, LoRA's rank, what is kept for the backward pass.
        seed: of LoRA's first weights.

    Raises:
        MissingExtraError: LoRA is asked for, and PEFT is not installed.
    """
    frozen = _TOWER.get(recipe.freeze, ())
    if recipe.lora_rank:
        _add_lora(towers, recipe, frozen, seed)
    else:
        for name, weight in towers.named_parameters():
            weight.requires_grad_(not (frozen and name.startswith(frozen)))
    towers.keep_inputs_only(keep=recipe.checkpoint_activations)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that move, by name, whatever wraps their towers."""
    return {
        name.removeprefix("module."): weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def save_weights(
    checkpoint: Checkpoint,
    moved: Mapping[str, Tensor],
    logit_scale: Tensor,
    folder: Path,
    *,
    lora_share: float,
) -> None:
    """Write a transformers folder, float32: a checkpoint with weights that have moved.

    Args:
        checkpoint: what they were opened from; weights that are not in ``moved`` are its own.
        moved: whole tensors by name; LoRA's are added to the weights that they update.
        logit_scale: of the temperature; a bias has no place in the format.
        folder: appears whole.
        lora_share: what LoRA's updates are multiplied by: alpha over rank.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    stored = checkpoint.weights()

    def tensor(name: str) -> np.ndarray:
        if name == "logit_scale":
            weight = logit_scale.detach()
        elif name in moved:
            weight = moved[name]
        else:
            weight = torch.from_numpy(np.array(stored[name], np.float32))
            stem = name.removesuffix(".weight")
            up = moved.get(f"{stem}.lora_B.default.weight")
            if up is not None:
                weight = weight + lora_share * (up @ moved[f"{stem}.lora_A.default.weight"])
        found: np.ndarray = weight.detach().float().cpu().numpy()
        return found

    plan = {name: (shape, "F32") for name, shape in expected_shapes(checkpoint.config)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".weights-", dir=folder.parent) as temporary:
            path = Path(temporary) / SINGLE
            write_weights(path, plan, tensor)
            save_checkpoint(checkpoint, folder, weights=path)
    except OSError as exc:
        message = f"the checkpoint {folder} cannot be written ({exc.strerror})"
        raise CheckpointError(message) from exc


def _add_lora(towers: Towers, recipe: Model, frozen: tuple[str, ...], seed: int) -> None:
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
    config = LoraConfig(r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, target_modules=names)
    inject_adapter_in_model(config, towers)
    for name, weight in towers.named_parameters():
        weight.requires_grad_(".lora_" in name)
