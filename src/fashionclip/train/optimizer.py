"""How weights move: AdamW and the authors' Adam, layer by layer, with a schedule and an average."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fashionclip.checkpoint import CLIPConfig
from fashionclip.train.recipe import Optimizer

FINAL_LR_SHARE = 0.0
"""Of the peak, where a cosine ends."""


def make_optimizer(
    named: Iterable[tuple[str, nn.Parameter]],
    temperature: Iterable[nn.Parameter],
    config: CLIPConfig,
    recipe: Optimizer,
) -> torch.optim.Optimizer:
    """Group parameters by their learning rate and decay, and make their optimizer.

    Args:
        named: the towers' trainable parameters, by their transformers names.
        temperature: scale and bias.
        config: for the number of layers.
        recipe: kind, rates, decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in named:
        decays = recipe.kind == "adam" or weight.ndim > 1
        key = (speed_of(name, config, recipe.layer_decay), recipe.weight_decay if decays else 0.0)
        groups.setdefault(key, []).append(weight)
    settings: list[dict[str, Any]] = [
        {"params": weights, "speed": speed, "weight_decay": decay}
        for (speed, decay), weights in groups.items()
    ]
    decay = recipe.weight_decay if recipe.kind == "adam" else 0.0
    settings.append(
        {"params": list(temperature), "speed": recipe.scale_speed, "weight_decay": decay}
    )
    kind = torch.optim.Adam if recipe.kind == "adam" else torch.optim.AdamW
    beta1, beta2 = recipe.betas
    # one pass over memory a weight, instead of one an operation
    is_fused = all(w.device.type in {"cpu", "cuda"} for one in settings for w in one["params"])
    return kind(settings, lr=recipe.lr, betas=(beta1, beta2), eps=recipe.eps, fused=is_fused)


def speed_of(name: str, config: CLIPConfig, layer_decay: float) -> float:
    """A weight's learning rate over the peak: the deeper in its tower, the smaller.

    Source: Clark et al. 2020 (ELECTRA), layer-wise learning rate decay.
    """
    is_vision = name.startswith("vision") or name.startswith("visual")
    n_layers = (config.vision if is_vision else config.text).layers
    if ".encoder.layers." in name:
        depth = 1 + int(name.split(".encoder.layers.")[1].split(".")[0])
    else:
        is_first = ".embeddings." in name or ".pre_layrnorm." in name
        depth = 0 if is_first else n_layers + 1
    return float(layer_decay ** (n_layers + 1 - depth))


def lr_at(step: int, n_steps: int, recipe: Optimizer) -> float:
    """The learning rate of a step: a straight rise, then as the schedule says.

    Args:
        step: from 0.
        n_steps: of the whole run.
        recipe: peak, warm-up and schedule.
    """
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.lr
    passed = (step - recipe.warmup_steps) / max(1, n_steps - recipe.warmup_steps)
    wave = 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))
    return recipe.lr * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * wave)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give each group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["speed"]


def follow(
    average: Mapping[str, Tensor], named: Mapping[str, Tensor], decay: float, step: int
) -> None:
    """Move a moving average of weights a little towards the present ones.

    The first steps count more, so that the average does not remember the start for long.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for name, mean in average.items():
            mean.lerp_(named[name].detach().to(mean), share)


def round_to_half(weights: Iterable[nn.Parameter], *, gradients: bool) -> None:
    """Round weights, or their gradients, to what float16 holds, as OpenAI trained CLIP.

    Source: ``convert_models_to_fp32`` and ``convert_weights`` in openai/CLIP, issue 83: weights
        and gradients are float16, Adam's step is float32.
    """
    with torch.no_grad():
        for weight in weights:
            value = weight.grad if gradients else weight
            if value is not None:
                value.copy_(value.half().float())
