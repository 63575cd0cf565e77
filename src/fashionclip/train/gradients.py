"""The gradients of a batch, however large: computed whole, or in chunks with cached vectors.

In chunks, all vectors are computed first without keeping anything, then the loss and its
gradient by each vector, then the vectors again, chunk by chunk, each with its part of that
gradient. Memory is a chunk's, gradients are the batch's.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup" (gradient cache).
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from fashionclip.train.distributed import without_averaging
from fashionclip.train.passes import Inputs, Passes


def backward(
    model: nn.Module,
    inputs: Inputs,
    passes: Passes,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    *,
    chunk_size: int,
) -> Tensor:
    """Compute the loss of a batch, and add its gradients to those of all parameters.

    Args:
        model: the towers, wrapped or not.
        inputs: this process's share of the batch.
        passes: how they are run.
        loss_of: unit vectors of pictures and texts ``(n, dim)`` to this process's loss.
        chunk_size: pairs that are computed at once; 0 for all.

    Returns:
        The loss, without its graph.
    """
    chunk = chunk_size or len(inputs)
    if chunk >= len(inputs):
        loss = loss_of(*passes.vectors(model, inputs))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    parts = [inputs.part(slice(i, i + chunk)) for i in range(0, len(inputs), chunk)]
    with torch.no_grad():
        cached = [passes.vectors(model, part) for part in parts]
    pictures, texts = (torch.cat(side).requires_grad_() for side in zip(*cached, strict=True))
    loss = loss_of(pictures, texts)
    loss.backward()  # type: ignore[no-untyped-call]
    cut = (_gradient(side).split(chunk) for side in (pictures, texts))  # type: ignore[no-untyped-call]
    gradients = zip(*cut, strict=True)
    for i_part, (part, (by_picture, by_text)) in enumerate(zip(parts, gradients, strict=True)):
        is_last = i_part == len(parts) - 1
        with nullcontext() if is_last else without_averaging(model):
            found = zip(passes.vectors(model, part), (by_picture, by_text), strict=True)
            moving = [(side, gradient) for side, gradient in found if side.requires_grad]
            sides, by_sides = zip(*moving, strict=True)
            torch.autograd.backward(sides, by_sides)
    return loss.detach()


def _gradient(side: Tensor) -> Tensor:
    assert side.grad is not None  # the loss is one of both sides
    return side.grad
