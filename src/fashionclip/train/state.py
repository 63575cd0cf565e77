"""Everything that a run needs to go on, in one file that appears whole.

Weights that move, optimizer, averages and the step: position in the data and all randomness
follow from the step. The last two states are kept, so that a broken one costs some steps only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from fashionclip.atomic import whole_file
from fashionclip.train.losses import Temperature

N_KEPT = 2
SUFFIX = ".pt"


@dataclass(slots=True, eq=False)
class Learner:
    """What changes from step to step."""

    weights: Mapping[str, nn.Parameter]
    """Those that move, by name."""
    temperature: Temperature
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None
    """Moving average of ``weights``, if there is one."""
    step: int = 0
    """Steps done."""


def collect(learner: Learner) -> dict[str, Any]:
    """A learner's state with whole tensors on the CPU; every process must call it."""
    state: dict[str, Any] = _whole(
        {
            "step": learner.step,
            "weights": dict(learner.weights),
            "temperature": learner.temperature.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "average": learner.average,
        }
    )
    return state


def restore(learner: Learner, state: Mapping[str, Any]) -> None:
    """Bring a learner to a collected state, whatever number of processes it was collected by.

    Raises:
        KeyError: the state is of other weights.
    """
    with torch.no_grad():
        for name, weight in learner.weights.items():
            weight.copy_(_like(state["weights"][name], weight))
        if learner.average is not None:
            for name, mean in learner.average.items():
                mean.copy_(_like(state["average"][name], mean))
    learner.temperature.load_state_dict(state["temperature"])
    loaded = state["optimizer"]
    ordered = [w for group in learner.optimizer.param_groups for w in group["params"]]
    moments = {
        i: {k: _like(v, ordered[i]) if _is_moment(v, ordered[i]) else v for k, v in one.items()}
        for i, one in loaded["state"].items()
    }
    learner.optimizer.load_state_dict({**loaded, "state": moments})
    learner.step = int(state["step"])


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a collected state, and remove all but the last ``N_KEPT``.

    Raises:
        OSError: it cannot be written; the earlier ones stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state['step']:06d}{SUFFIX}"
    try:
        with whole_file(path) as part:
            torch.save(dict(state), part)
    except RuntimeError as exc:  # how PyTorch tells of a full disk
        raise OSError(str(exc).splitlines()[0]) from exc
    for old in _states(folder)[:-N_KEPT]:
        old.unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the latest state that is whole.

    Returns:
        The state, or None if there is none; and what is wrong with later ones.
    """
    wrong: list[str] = []
    for path in reversed(_states(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return dict(state), wrong
        except Exception as exc:  # a cut file fails in many ways
            detail = (str(exc).splitlines() or [type(exc).__name__])[0][:120]
            wrong.append(f"{path} cannot be read ({detail}); going on from the one before")
    return None, wrong


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"step-*{SUFFIX}"))


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
