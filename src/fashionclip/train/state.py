"""The state that a killed run resumes from, in one file that appears whole or not at all.

It holds the trained weights, their moving average, the optimizer and the step. The position in the
data and all random numbers follow from the step. The last two states are kept, so that a damaged
one costs some steps only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from fashionclip.atomic import whole_file
from fashionclip.checkpoint.weights import check_finite
from fashionclip.train.loss import Temperature

N_KEPT = 2
_SUFFIX = ".pt"


@dataclass(slots=True, eq=False)
class TrainState:
    """What changes from step to step."""

    weights: Mapping[str, nn.Parameter]
    """The trained weights, by name."""
    temperature: Temperature
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    """Moving average of ``weights``, if the recipe has one."""
    step: int = 0
    """Steps done."""


def collect(state: TrainState) -> dict[str, Any]:
    """A state as whole tensors on the CPU; every process must call it."""
    collected: dict[str, Any] = _whole(
        {
            "step": state.step,
            "weights": dict(state.weights),
            "temperature": state.temperature.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "average": state.average,
        }
    )
    return collected


def restore(state: TrainState, collected: Mapping[str, Any]) -> None:
    """Set a state to a collected one, whatever number of processes that was collected by.

    Raises:
        KeyError: the collected state is of other weights.
    """
    with torch.no_grad():
        for name, weight in state.weights.items():
            weight.copy_(_like(collected["weights"][name], weight))
        if state.average is not None:
            for name, mean in state.average.items():
                mean.copy_(_like(collected["average"][name], mean))
    state.temperature.load_state_dict(collected["temperature"])
    loaded = collected["optimizer"]
    ordered = [w for group in state.optimizer.param_groups for w in group["params"]]
    moments = {
        i: {k: _like(v, ordered[i]) if _is_moment(v, ordered[i]) else v for k, v in one.items()}
        for i, one in loaded["state"].items()
    }
    state.optimizer.load_state_dict({**loaded, "state": moments})
    state.step = int(collected["step"])


def save_state(folder: Path, collected: Mapping[str, Any]) -> None:
    """Write a collected state, and remove all but the last ``N_KEPT``.

    Raises:
        OSError: it cannot be written; the earlier states stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{collected['step']:06d}{_SUFFIX}"
    try:
        with whole_file(path) as part:
            torch.save(dict(collected), part)
    except RuntimeError as exc:  # PyTorch's error when the disk is full
        raise OSError(str(exc).splitlines()[0]) from exc
    for old in _states(folder)[:-N_KEPT]:
        old.unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the latest state that is whole.

    Returns:
        The collected state, or None if there is none; and what is wrong with later files.
    """
    problems: list[str] = []
    for path in reversed(_states(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            weights = {name: weight.float().numpy() for name, weight in state["weights"].items()}
            check_finite(weights, weights, place=path)
            return dict(state), problems
        except Exception as exc:  # a truncated file fails in many ways
            detail = (str(exc).splitlines() or [type(exc).__name__])[0][:120]
            problems.append(f"{path} cannot be read ({detail}); resuming from the one before")
    return None, problems


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"step-*{_SUFFIX}"))


def _whole(value: Any) -> Any:  # noqa: ANN401 - a tree of anything
    if isinstance(value, DTensor):
        value = value.full_tensor()
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return value


def _is_moment(value: object, weight: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == weight.shape and value.ndim > 0


def _like(whole: Tensor, weight: Tensor) -> Tensor:
    if isinstance(weight, DTensor):
        moved = whole.to(weight.device)
        return distribute_tensor(moved, weight.device_mesh, weight.placements)
    return whole.to(weight.device)
