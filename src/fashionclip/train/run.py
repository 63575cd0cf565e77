"""The run folder: where everything of a training run lies, and what is written beside it.

``log.jsonl`` is a line a logged step, or a line with an ``event``; ``run.json`` says what ran:
versions, commit, seed, hash of the data. Both are written by the first process only.
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
from typing import Any

from fashionclip import rejects
from fashionclip.atomic import write_whole
from fashionclip.errors import TrainingError
from fashionclip.product import Reject

OnCheckpoint = Callable[[int, Path], bool]
"""Called with a step and its checkpoint's folder as soon as that is whole; False ends the run."""
PACKAGES = ("fashionclip", "torch", "numpy", "pillow", "tokenizers", "safetensors", "peft")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of a run: what training, selection and publishing hand each other."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.toml"

    @property
    def facts(self) -> Path:
        """``run.json``."""
        return self.root / "run.json"

    @property
    def log(self) -> Path:
        """A JSON object a line: logged steps and events."""
        return self.root / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def rejects(self) -> Path:
        """Rows and pictures that could not be used, a line each."""
        return self.root / "rejects.jsonl"

    @property
    def states(self) -> Path:
        """Folder of the states that a killed run goes on from."""
        return self.root / "state"

    @property
    def start(self) -> Path:
        """The untouched start, as a transformers folder."""
        return self.root / "start"

    @property
    def selected(self) -> Path:
        """The chosen checkpoint, as a transformers folder."""
        return self.root / "selected"

    def checkpoint(self, step: int) -> Path:
        """The folder of one checkpoint."""
        return self.root / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> dict[int, Path]:
        """Step to folder of every checkpoint there is, in order."""
        found = (self.root / "checkpoints").glob("step-*")
        return dict(sorted((int(path.name.removeprefix("step-")), path) for path in found))

    def scores(self, step: int) -> Path:
        """What one checkpoint came to on development sets."""
        return self.root / "scores" / f"step-{step:06d}.json"


def describe_run(**facts: object) -> dict[str, Any]:
    """What ``run.json`` says of any run: versions, machine, commit; and the facts given."""
    return {
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        **facts,
    }


def write_facts(run: RunFolder, **facts: object) -> None:
    """Add facts to ``run.json``, or replace those of the same names; the file appears whole.

    Raises:
        TrainingError: the folder cannot be written.
    """
    try:
        run.root.mkdir(parents=True, exist_ok=True)
        write_whole(run.facts, json.dumps({**read_facts(run), **facts}, indent=2).encode())
    except OSError as exc:
        message = f"the run folder {run.root} cannot be written ({exc.strerror}); choose another"
        raise TrainingError(message) from exc


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
    try:
        with run.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")
    except OSError:
        return


def drop_log_after(run: RunFolder, step: int) -> None:
    """Take from the log the steps that a killed run took beyond its last state.

    Raises:
        OSError: the log cannot be written.
    """
    if run.log.exists():
        lines = run.log.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= step]
        write_whole(run.log, "".join(kept).encode())


def write_reject(run: RunFolder, reject: Reject) -> None:
    """Append a line to ``rejects.jsonl``; a full disk costs the line, not the run."""
    with suppress(OSError):
        rejects.append_reject(run.rejects, reject)


def read_rejects(run: RunFolder) -> set[tuple[int | None, str | None]]:
    """Row and id of every reject that is written down."""
    if not run.rejects.exists():
        return set()
    return {(reject.get("row"), reject.get("id")) for reject in rejects.read_rejects(run.rejects)}


def git_commit() -> str | None:
    """The commit of the working folder, with ``+`` where files differ from it; None outside git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line).get("step", 0))
    except (ValueError, AttributeError):  # a line that was cut
        return math.inf


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
