"""Training in several processes, as ``torchrun`` starts them, over gloo or NCCL.

Vectors are gathered with their gradients, each process computes the loss of its own rows, and
gradients are averaged. In a single process every function here does nothing.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from fashionclip.engines.towers import Towers
from fashionclip.errors import TrainingError

TIMEOUT = timedelta(minutes=30)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process's rank among the processes of a run."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and selects the checkpoint."""
        return self.rank == 0


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the processes that ``torchrun`` started, if any; leave them at the end.

    Raises:
        TrainingError: another process was lost.
        RuntimeError: whatever else the block raises.
    """
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        yield current_group()
        return
    # what is saved with a state and is no tensor of the device goes over gloo
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield current_group()
    except RuntimeError as exc:
        if not isinstance(exc, dist.DistError) and "gloo" not in str(exc):
            raise
        message = (
            "another process of the run was lost; run the same command again, or let torchrun do "
            "so (--max-restarts): the run goes on from its last state"
        )
        raise TrainingError(message) from exc
    finally:
        # a replicated model is in a cycle and holds the group, whose threads would abort the exit
        gc.collect()
        dist.destroy_process_group()


def current_group() -> ProcessGroup:
    """The group that this process has joined; a single process is a group of its own."""
    if not dist.is_initialized():
        return SINGLE_PROCESS
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, where several processes share a machine."""
    if device.type == "cuda" and device.index is None and dist.is_torchelastic_launched():
        return torch.device("cuda", dist.get_node_local_rank())
    return device


def parallelize(towers: Towers, group: ProcessGroup, *, parallel: str) -> nn.Module:
    """Wrap towers so that gradients are averaged: ``ddp``, or ``fsdp`` in shards.

    Raises:
        TrainingError: ``fsdp`` is set in a single process.
    """
    if group.size == 1:
        if parallel == "fsdp":
            message = "model.parallel = 'fsdp' needs several processes; start it with torchrun"
            raise TrainingError(message)
        return towers
    device = next(towers.parameters()).device
    if parallel == "ddp":
        return DistributedDataParallel(towers)
    mesh = init_device_mesh(device.type, (group.size,))
    for tower in (towers.vision_model, towers.text_model):
        for layer in tower.encoder.layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(towers, mesh=mesh)
    return towers


@contextmanager
def no_gradient_sync(model: nn.Module) -> Iterator[None]:
    """Accumulate gradients locally; the next backward pass outside averages them."""
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


def all_gather(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back."""
    if current_group().size == 1:
        return rows
    gathered: Tensor = _AllGather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def average(*values: Tensor | None) -> None:
    """Replace each value by its mean over the processes."""
    size = current_group().size
    for value in values:
        if size > 1 and value is not None:
            dist.all_reduce(value)
            value /= size


def barrier() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def gather(value: T) -> list[T]:
    """The values of all processes, in the order of their ranks, in all of them."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def broadcast(value: T) -> T:
    """The first process's value, in all processes."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


class _AllGather(torch.autograd.Function):
    """all_gather with gradients; that of ``torch.distributed.nn`` is deprecated."""

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
