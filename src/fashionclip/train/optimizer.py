"""Gradient caching, Adam and AdamW, the learning-rate schedule, the moving average of weights."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fashionclip.checkpoint import CLIPConfig
from fashionclip.train.distributed import no_gradient_sync
from fashionclip.train.model import Forward, Inputs
from fashionclip.train.recipe import OptimizerConfig


def backward(
    model: nn.Module,
    inputs: Inputs,
    forward: Forward,
    loss_of: Callable[..., Tensor],
    *,
    chunk_size: int,
) -> Tensor:
    """Compute the loss of a batch, and add its gradients to those of all parameters.

    With chunks, all vectors are computed first, without a graph; then the loss and its gradient by
    each vector; then the vectors again, chunk by chunk, each with its part of that gradient. Memory
    is that of a chunk, gradients are those of the batch.

    Args:
        model: the towers, wrapped or not.
        inputs: this process's part of the batch.
        forward: the towers' forward pass.
        loss_of: what ``forward.encode`` returns, for the whole batch, to this process's loss.
        chunk_size: pairs that are computed at once; 0 for all.

    Returns:
        The loss, without its graph.

    Source: Gao et al. 2021, arXiv 2101.06983, section 3 (gradient cache).
    """
    chunk = chunk_size or len(inputs)
    if chunk >= len(inputs):
        loss = loss_of(*forward.encode(model, inputs))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    parts = [inputs[i : i + chunk] for i in range(0, len(inputs), chunk)]
    with torch.no_grad():
        cached = [forward.encode(model, part) for part in parts]
    leaves = [torch.cat(rows).requires_grad_() for rows in zip(*cached, strict=True)]
    loss = loss_of(*leaves)
    loss.backward()  # type: ignore[no-untyped-call]
    split = [leaf.grad.split(chunk) for leaf in leaves if leaf.grad is not None]  # type: ignore[no-untyped-call]
    gradients = zip(*split, strict=True)
    for i_part, (part, wanted) in enumerate(zip(parts, gradients, strict=True)):
        is_last = i_part == len(parts) - 1
        with nullcontext() if is_last else no_gradient_sync(model):
            found = zip(forward.encode(model, part), wanted, strict=True)
            with_graph = [(rows, gradient) for rows, gradient in found if rows.requires_grad]
            tensors, by_tensor = zip(*with_graph, strict=True)
            torch.autograd.backward(tensors, by_tensor)
    return loss.detach()


def make_optimizer(
    named: Iterable[tuple[str, nn.Parameter]],
    temperature: Iterable[nn.Parameter],
    model: CLIPConfig,
    config: OptimizerConfig,
) -> torch.optim.Optimizer:
    """Group parameters by learning rate and decay, and make their optimizer.

    Args:
        named: the towers' trained parameters, by their transformers names.
        temperature: scale and bias.
        model: for the number of layers.
        config: kind, rates, decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in named:
        decays = config.kind == "adam" or weight.ndim > 1
        key = lr_scale(name, model, config), config.weight_decay if decays else 0.0
        groups.setdefault(key, []).append(weight)
    settings: list[dict[str, Any]] = [
        {"params": weights, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), weights in groups.items()
    ]
    settings.append(
        {
            "params": list(temperature),
            "lr_scale": config.temperature_lr_scale,
            "weight_decay": config.weight_decay if config.kind == "adam" else 0.0,
        }
    )
    kind = torch.optim.Adam if config.kind == "adam" else torch.optim.AdamW
    # fused: one pass over memory for each weight instead of one for each operation
    is_fused = all(w.device.type in {"cpu", "cuda"} for one in settings for w in one["params"])
    return kind(settings, lr=config.lr, betas=config.betas, eps=config.eps, fused=is_fused)


def lr_scale(name: str, model: CLIPConfig, config: OptimizerConfig) -> float:
    """A weight's learning rate over the peak.

    ``layer_decay`` to the power of the layers above it, times ``vision_lr_scale`` in the image
    tower. The projections are above all layers, and belong to no tower: a tower that was trained
    before may get a new one.

    Source: Clark et al. 2020, arXiv 2003.10555 (ELECTRA), layer-wise learning rate decay.
    """
    is_vision = name.startswith("vision_model.")
    n_layers = (model.vision if is_vision else model.text).layers
    if ".encoder.layers." in name:
        n_above = n_layers - int(name.split(".encoder.layers.")[1].split(".")[0])
    else:
        is_first = ".embeddings." in name or ".pre_layrnorm." in name
        n_above = n_layers + 1 if is_first else 0
    return float(config.layer_decay**n_above * (config.vision_lr_scale if is_vision else 1.0))


def lr_at(step: int, n_steps: int, config: OptimizerConfig) -> float:
    """The learning rate of a step: linear warm-up, then a cosine to 0 or a constant.

    Args:
        step: from 0.
        n_steps: of the whole run.
        config: peak, warm-up and schedule.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    passed = (step - config.warmup_steps) / max(1, n_steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def update_ema(
    average: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float, step: int
) -> None:
    """Update a moving average of weights.

    The decay starts small and grows with the step, so that the start is soon forgotten.
    """
    rate = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for name, mean in average.items():
            mean.lerp_(weights[name].detach().to(mean), rate)


def round_to_half(weights: Iterable[nn.Parameter], *, gradients: bool) -> None:
    """Round weights, or their gradients, to float16 values, as in OpenAI's training of CLIP.

    Source: ``convert_models_to_fp32`` and ``convert_weights`` in openai/CLIP, issue 83: weights
        and gradients are float16, Adam's step is float32.
    """
    with torch.no_grad():
        for weight in weights:
            value = weight.grad if gradients else weight
            if value is not None:
                value.copy_(value.half().float())
