"""The run folder of a training run: its paths, its facts, its log and its rejects.

``run.json`` states what ran: versions, commit, seed, a hash of the data. ``log.jsonl`` has a line
for each logged step and for each event. The first process alone writes them. This module does not
load PyTorch.
"""

import json
import math
import platform
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

from fashionclip import rejects
from fashionclip.atomic import write_whole
from fashionclip.errors import TrainingError
from fashionclip.product import Reject

OnCheckpoint = Callable[[int, Path], bool]
"""Called with the step and the folder of each checkpoint; returning False ends the run."""
PACKAGES = ("fashionclip", "torch", "numpy", "pillow", "tokenizers", "safetensors", "peft")


class RunFolder:
    """The paths of a run, which training, selection and publishing share."""

    def __init__(self, root: Path) -> None:
        """Name the paths below ``root``; nothing is read or written."""
        self.root = root
        self.recipe = root / "recipe.toml"  # with every key
        self.facts = root / "run.json"
        self.log = root / "log.jsonl"
        self.tensorboard = root / "tensorboard"
        self.rejects = root / "rejects.jsonl"
        self.states = root / "state"
        self.start = root / "start"  # the untouched start, a transformers folder
        self.selected = root / "selected"  # the selected checkpoint, a transformers folder
        self.evaluation = root / "evaluation"  # start and selected checkpoint on test pairs

    def checkpoint(self, step: int) -> Path:
        """The folder of one checkpoint."""
        return self.root / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> dict[int, Path]:
        """The folder of every checkpoint, by step, in order."""
        found = (self.root / "checkpoints").glob("step-*")
        return dict(sorted((int(path.name.removeprefix("step-")), path) for path in found))

    def scores(self, step: int) -> Path:
        """The scores of one checkpoint on development sets."""
        return self.root / "scores" / f"step-{step:06d}.json"

    def write(self, path: Path, content: str | bytes) -> None:
        """Replace one of the run's files in one step, and create its folder if needed.

        Raises:
            TrainingError: it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content.encode() if isinstance(content, str) else content)
        except OSError as exc:
            message = (
                f"{path} cannot be written ({exc.strerror}); make room, or choose another folder"
            )
            raise TrainingError(message) from exc


def describe_run(**facts: object) -> dict[str, Any]:
    """The facts of every run (versions, machine, commit), and those given."""
    return {
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        **facts,
    }


def write_facts(run: RunFolder, **facts: object) -> None:
    """Add facts to ``run.json``, or replace those with the same names.

    Raises:
        TrainingError: the folder cannot be written.
    """
    run.write(run.facts, json.dumps({**read_facts(run), **facts}, indent=2))


def read_facts(run: RunFolder) -> dict[str, Any]:
    """Read ``run.json``; empty where there is none.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        facts = json.loads(run.facts.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        message = f"{run.facts} cannot be read ({exc}); start a new run in another folder"
        raise TrainingError(message) from exc
    return dict(facts)


def write_log(run: RunFolder, line: Mapping[str, object]) -> None:
    """Append a line to ``log.jsonl``; a full disk costs the line, not the run."""
    with suppress(OSError), run.log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(line)) + "\n")


def drop_log_after(run: RunFolder, step: int) -> None:
    """Remove the steps from the log that a killed run took after its last state.

    Raises:
        OSError: the log cannot be written.
    """
    if run.log.exists():
        lines = run.log.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= step]
        write_whole(run.log, "".join(kept).encode())


class RunRejects:
    """``rejects.jsonl`` of a run, in which each row stands once, also after the run is resumed."""

    def __init__(self, run: RunFolder) -> None:
        """Read the rejects that are already written."""
        self._path = run.rejects
        known = rejects.read_rejects(run.rejects) if run.rejects.exists() else ()
        self._known = {(reject.get("row"), reject.get("id")) for reject in known}

    def add(self, reject: Reject) -> None:
        """Append a line, if it is new; a full disk costs the line, not the run."""
        if (reject.row, reject.product_id) not in self._known:
            self._known.add((reject.row, reject.product_id))
            with suppress(OSError):
                rejects.append_reject(self._path, reject)


def git_commit() -> str | None:
    """The commit of the working folder, with ``+`` if files differ from it; None outside git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run, after a step or at an event."""

    step: int
    n_steps: int
    loss: float
    samples_per_s: float
    n_rejected: int
    """Images that could not be read so far."""
    scores: Mapping[str, float]
    """Scores of the latest checkpoint."""
    event: Mapping[str, Any] | None = None
    """The event; None after a step."""


OnProgress = Callable[[Progress], None]


class RunLog:
    """Writes steps and events to ``log.jsonl`` and TensorBoard, in the first process only."""

    def __init__(self, run: RunFolder, on_progress: OnProgress | None, *, is_first: bool) -> None:
        """Open TensorBoard's log, if the package is installed."""
        self._run, self._on_progress = run, on_progress
        self._is_first = is_first
        self._scores: dict[str, float] = {}
        self._last = (0, 0, math.nan, 0.0)
        self._n_rejected = 0
        self._lock = Lock()
        self._board: Any = None
        if is_first:
            with suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(run.tensorboard))

    def close(self) -> None:
        """Close TensorBoard's log."""
        if self._board is not None:
            self._board.close()

    def step(
        self, step: int, n_steps: int, figures: Mapping[str, float], *, is_logged: bool
    ) -> None:
        """Report a step."""
        if not self._is_first:
            return
        self._last = (step, n_steps, figures["loss"], figures["samples_per_s"])
        if is_logged:
            write_log(self._run, {"step": step, **figures})
            self._plot(step, figures)
        self._report(None)

    def event(self, event: str, **details: object) -> None:
        """Report an event."""
        if self._is_first:
            line = {"event": event, **details}
            write_log(self._run, line)
            self._report(line)

    def reject(self) -> None:
        """Count an unreadable image; called from the loader's threads."""
        with self._lock:
            self._n_rejected += 1

    def scores(self, step: int) -> None:
        """Report the scores of a checkpoint, if it has any."""
        try:
            found = json.loads(self._run.scores(step).read_text(encoding="utf-8"))
            self._scores = _flat(found["scores"])
        except (OSError, ValueError, KeyError):
            return
        self._plot(step, {f"scores/{name}": value for name, value in self._scores.items()})
        self._report({"event": "scores", "step": step, "scores": self._scores})

    def _plot(self, step: int, figures: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def _report(self, event: Mapping[str, Any] | None) -> None:
        if self._on_progress is not None:
            step, n_steps, loss, rate = self._last
            scores, n_rejected = self._scores, self._n_rejected
            self._on_progress(Progress(step, n_steps, loss, rate, n_rejected, scores, event))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line).get("step", 0))
    except (ValueError, AttributeError):  # a truncated line
        return math.inf


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested mappings, by their path."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found
