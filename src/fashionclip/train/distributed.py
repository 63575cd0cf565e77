"""Several processes as one: what ``torchrun`` starts, over gloo or NCCL.

Vectors are gathered with their gradients; each process computes the loss of its own rows, and
gradients are averaged. Alone, every function does nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from fashionclip.engines.towers import Towers
from fashionclip.errors import TrainingError
from fashionclip.train.loader import Share

TIMEOUT = timedelta(minutes=30)


@contextmanager
def processes(device: torch.device) -> Iterator[Share]:
    """Join the other processes, if ``torchrun`` started any; leave them in the end."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        yield share_here()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield share_here()
    finally:
        dist.destroy_process_group()


def share_here() -> Share:
    """This process's number, and how many there are."""
    if not dist.is_initialized():
        return Share()
    return Share(dist.get_rank(), dist.get_world_size())


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process, where several share a machine."""
    if device.type == "cuda" and device.index is None and dist.is_torchelastic_launched():
        return torch.device("cuda", dist.get_node_local_rank())
    return device


def spread(towers: Towers, share: Share, *, parallel: str) -> nn.Module:
    """Wrap towers so that their gradients are averaged: ``ddp``, or ``fsdp`` in shards.

    Raises:
        TrainingError: ``fsdp`` was asked of a single process.
    """
    if share.world == 1:
        if parallel == "fsdp":
            message = "model.parallel = 'fsdp' needs several processes; start it with torchrun"
            raise TrainingError(message)
        return towers
    device = next(towers.parameters()).device
    if parallel == "ddp":
        return DistributedDataParallel(towers)
    mesh = init_device_mesh(device.type, (share.world,))
    for tower in (towers.vision_model, towers.text_model):
        for layer in tower.encoder.layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(towers, mesh=mesh)
    return towers


@contextmanager
def without_averaging(model: nn.Module) -> Iterator[None]:
    """Let gradients add up in this process; the next pass outside averages them all."""
    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(requires_gradient_sync=False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(requires_gradient_sync=True)
    else:
        yield


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in their order; gradients flow back to whom they belong."""
    if share_here().world == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def average(*values: Tensor | None) -> None:
    """Replace values by their means over the processes."""
    world = share_here().world
    for value in values:
        if world > 1 and value is not None:
            dist.all_reduce(value)
            value /= world


def wait_for_all() -> None:
    """Let no process go on before all are here."""
    if dist.is_initialized():
        dist.barrier()


def tell_all(value: object) -> object:
    """The first process's value, in all of them."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


class _Gather(torch.autograd.Function):
    """all_gather whose backward pass adds up the gradients of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ANN401 - PyTorch's own
        ctx.n_rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        first = dist.get_rank() * ctx.n_rows
        own: Tensor = gradient[first : first + ctx.n_rows]
        return own
