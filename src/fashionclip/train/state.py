"""The state that a killed run resumes from: a folder that appears whole or not at all.

It holds the trained weights, their moving average, the optimizer's moments and the step. The
position in the data and all random numbers follow from the step. Each process writes its own part,
and reads what it needs, whatever number of processes wrote it; none holds the whole state. The last
two states are kept, so that a damaged one costs some steps only.
"""

import json
import re
import shutil
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from fashionclip.atomic import write_whole
from fashionclip.errors import TrainingError
from fashionclip.train import distributed
from fashionclip.train.loss import Temperature

N_KEPT = 2
CHECKSUMS = "checksums.json"
READ_BYTES = 1 << 20


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


def whole_weights(weights: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Weights as whole tensors on the CPU; every process must call it.

    Args:
        weights: by name, perhaps in shards.
        keep: whether this process needs them; the others hold one of them at a time.
    """
    found = {}
    for name, weight in weights.items():
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        if keep:
            found[name] = whole.detach().cpu().clone()
    return found


def save_state(folder: Path, state: TrainState) -> None:
    """Write a state, and remove all but the last ``N_KEPT``; every process must call it.

    Raises:
        OSError: it cannot be written, or a weight is not finite; the earlier states stay.
    """
    group, tree = distributed.current_group(), _tree(state)
    is_finite = all(bool(_own(weight).isfinite().all()) for weight in tree["weights"].values())
    _raise_any("" if is_finite else "a weight is not finite")
    path = folder / f"step-{state.step:06d}"
    part = path.with_suffix(".part")
    if group.is_first:
        _remove(folder.glob("*.part"))  # of runs that were killed
    distributed.barrier()
    try:
        with _quiet():
            save(tree, checkpoint_id=part)
        _finish(part, path)
    except CheckpointException as exc:  # in all processes, if one of them failed
        reason = str(next(iter(exc.failures.values()))[0]).splitlines()
        raise OSError(reason[0] if reason else "no reason is known") from exc
    finally:
        if group.is_first:
            _remove([part])


def _finish(part: Path, path: Path) -> None:
    """Add the checksums of what all processes have written, and move it to its place.

    Raises:
        OSError: it cannot be written.
    """
    group, problem = distributed.current_group(), ""
    own = [*part.glob(f"__{group.rank}_*"), *([part / ".metadata"] if group.is_first else [])]
    parts = distributed.gather({file.name: _checksum(file) for file in own})
    if group.is_first:
        checksums = {name: value for one in parts for name, value in one.items()}
        try:
            write_whole(part / CHECKSUMS, json.dumps(checksums).encode())
            _remove([path])
            part.rename(path)
            _remove(_states(path.parent)[:-N_KEPT])
        except OSError as exc:
            problem = exc.strerror or str(exc)
    _raise_any(problem)


def load_state(folder: Path, state: TrainState) -> list[str]:
    """Set a state to the latest one in a folder that is whole; every process must call it.

    Args:
        folder: where states are saved.
        state: of the same run, in this number of processes; its step stays 0 if there is none.

    Returns:
        What is wrong with later ones.

    Raises:
        TrainingError: the state is of other weights.
    """
    problems = [
        f"{path} cannot be read (an older version of fashionclip wrote it)"
        for path in sorted(folder.glob("step-*.pt"))
    ]
    for path in reversed(_states(folder)):
        reason = next(filter(None, distributed.gather(_damage(path))), "")
        if reason:
            problems.append(f"{path} cannot be read ({reason}); resuming from the one before")
            continue
        tree = _tree(state)
        try:
            with _quiet():
                load(tree, checkpoint_id=path)
        except CheckpointException as exc:
            message = f"{path} is of other weights than this recipe's; start a new run"
            raise TrainingError(message) from exc
        state.step = int(tree["step"])
        named = _named(state)
        for name, moments in tree["moments"].items():
            state.optimizer.state[named[name]] = moments
        break
    return problems


def _tree(state: TrainState) -> dict[str, Any]:
    """A state by names; its tensors are those of the state, and are written and read in place."""
    named = _named(state)
    tree: dict[str, Any] = {
        "step": torch.tensor(state.step),
        "weights": named,
        "moments": {name: _moments(state.optimizer, weight) for name, weight in named.items()},
    }
    return tree if state.average is None else {**tree, "average": state.average}


def _named(state: TrainState) -> dict[str, nn.Parameter]:
    """All weights that the optimizer changes."""
    own = {f"temperature.{name}": weight for name, weight in state.temperature.named_parameters()}
    return {**state.weights, **own}


def _moments(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> dict[str, Tensor]:
    """Adam's moments of a weight, as they are before its first step if there are none yet."""
    found: dict[str, Tensor] = optimizer.state.get(weight, {})
    if found:
        return found
    # as in ``Adam._init_group`` of a fused optimizer
    step = torch.zeros((), device=weight.device)
    return {
        "step": step,
        "exp_avg": torch.zeros_like(weight, requires_grad=False),
        "exp_avg_sq": torch.zeros_like(weight, requires_grad=False),
    }


def _states(folder: Path) -> list[Path]:
    """The folders of whole states, the latest last."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def _damage(path: Path) -> str:
    """What is wrong with this process's share of a state's files; empty if nothing is."""
    group = distributed.current_group()
    try:
        checksums = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        for name, checksum in sorted(checksums.items())[group.rank :: group.size]:
            if _checksum(path / name) != checksum:
                return f"{name} is damaged"
    except (OSError, ValueError, AttributeError) as exc:
        return str(exc).splitlines()[0][:120]
    return ""


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            found = zlib.crc32(block, found)
    return found


def _own(weight: Tensor) -> Tensor:
    """The part of a weight that this process has."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def _raise_any(problem: str) -> None:
    """Fail in all processes if one has a problem.

    Raises:
        OSError: one has.
    """
    for one in distributed.gather(problem):
        if one:
            raise OSError(one)


@contextmanager
def _quiet() -> Iterator[None]:
    """A single process needs no warning that it is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield
