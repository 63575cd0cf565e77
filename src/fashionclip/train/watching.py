"""What a run tells of itself: ``log.jsonl``, TensorBoard, and whoever watches."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from types import TracebackType
from typing import Any

from fashionclip.train.loader import Share
from fashionclip.train.run import RunFolder, write_log


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    step: int
    n_steps: int
    loss: float
    samples_per_s: float
    n_rejected: int
    """Pictures that turned out broken so far."""
    scores: Mapping[str, float]
    """Of the latest checkpoint that was scored."""
    event: Mapping[str, Any] | None = None
    """Something that happened, rather than a step."""


Watch = Callable[[Progress], None]


class Watcher:
    """Tells of steps and events; the first process only."""

    def __init__(self, run: RunFolder, watch: Watch | None, share: Share) -> None:
        """Hold what is told, and to whom."""
        self._run, self._watch = run, watch
        self._speaks = share.rank == 0
        self._board: Any = None
        self._scores: dict[str, float] = {}
        self._last = (0, 0, math.nan, 0.0)
        self._n_rejected = 0
        self._lock = Lock()

    def __enter__(self) -> "Watcher":
        """Open TensorBoard's log, if the package is there."""
        if self._speaks:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return self
            self._board = SummaryWriter(str(self._run.tensorboard))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        if self._board is not None:
            self._board.close()

    def step(
        self, step: int, n_steps: int, figures: Mapping[str, float], *, is_logged: bool
    ) -> None:
        """Tell of a step."""
        if not self._speaks:
            return
        self._last = (step, n_steps, figures["loss"], figures["samples_per_s"])
        if is_logged:
            write_log(self._run, {"step": step, **figures})
            self._draw(step, figures)
        self._tell(None)

    def event(self, event: str, **details: object) -> None:
        """Tell of something that happened."""
        if self._speaks:
            line = {"event": event, **details}
            write_log(self._run, line)
            self._tell(line)

    def rejected(self) -> None:
        """Count a broken picture; called from the loader's threads."""
        with self._lock:
            self._n_rejected += 1

    def scores(self, step: int) -> None:
        """Tell of what a checkpoint came to, if it was scored."""
        try:
            found = json.loads(self._run.scores(step).read_text(encoding="utf-8"))
            self._scores = _flat(found["scores"])
        except (OSError, ValueError, KeyError):
            return
        self._draw(step, {f"scores/{name}": value for name, value in self._scores.items()})
        self._tell({"event": "scores", "step": step, "scores": self._scores})

    def _draw(self, step: int, figures: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def _tell(self, event: Mapping[str, Any] | None) -> None:
        if self._watch is not None:
            step, n_steps, loss, rate = self._last
            told = Progress(step, n_steps, loss, rate, self._n_rejected, self._scores, event)
            self._watch(told)


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """The numbers of a tree, each by the names that lead to it."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{before}{name}"] = float(value)
    return found
