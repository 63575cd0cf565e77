"""What every benchmark is and gives, and the few steps that all of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.tasks import ClassLabel, ImageRef, Task

_NAMED = 3  # ids that a warning names


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A benchmark's tasks, and what was wrong with its files."""

    tasks: tuple[Task, ...]
    warnings: tuple[str, ...] = ()
    """One line each: how many rows or pictures were left out, and why."""


@runtime_checkable
class Benchmark(Protocol):
    """A data set with questions."""

    name: str
    """What ``--on`` takes: ``fmnist``."""
    title: str
    """In words: ``Fashion-MNIST, 10,000 test images``."""
    how_to_get: str
    """One line: where its owners publish it, and how to lay it out."""
    places: tuple[str, ...]
    """Folders it may lie in: names under the data folder, or absolute paths, in order. Empty for a
    benchmark that needs no files."""

    def load(self, folder: Path) -> Loaded:
        """Read the files and make the tasks.

        Raises:
            BenchmarkError: files are missing, half unpacked or contradict each other.
        """


def choose(n_all: int, n_chosen: int, *, seed: int = 0) -> Int[np.ndarray, " chosen"]:
    """Rows drawn without repetition, in ascending order; all rows if there are no more."""
    if n_all <= n_chosen:
        return np.arange(n_all)
    return np.sort(np.random.default_rng(seed).choice(n_all, n_chosen, replace=False))


def class_labels(
    names: Sequence[str], words: Mapping[str, tuple[str, ...]]
) -> tuple[ClassLabel, ...]:
    """Make the classes of a task.

    Args:
        names: as the data set writes them.
        words: what a person says for each, and then synonyms. A name that is missing here is said
            as it is written, in lower case. A synonym that another class lays claim to is dropped.
    """
    said = {name: words.get(name) or (name.casefold(),) for name in names}
    claims: dict[str, set[str]] = {}
    for name, phrases in said.items():
        for phrase in phrases:
            claims.setdefault(phrase, set()).add(name)
    return tuple(
        ClassLabel(name, first, tuple(phrase for phrase in others if len(claims[phrase]) == 1))
        for name, (first, *others) in said.items()
    )


def group_by(values: Sequence[str]) -> dict[str, Int[np.ndarray, " _"]]:
    """The rows of each value, in the order in which values first occur; empty values have none."""
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if value:
            rows.setdefault(value, []).append(row)
    return {value: np.array(found) for value, found in rows.items()}


def has_image(image: ImageRef) -> bool:
    """Whether a picture's file is there; what is no local file counts as being there."""
    source = image.source
    if not isinstance(source, Path):
        return True
    return source.is_file()


def left_out(names: Sequence[str], noun: str, why: str) -> str:
    """One line of warning: ``4 images left out: their files are missing (a, b, c, …)``."""
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    if len(names) != 1:
        noun = noun.removesuffix("y") + "ies" if noun.endswith("y") else noun + "s"
    return f"{len(names):,} {noun} left out: {why} ({shown})"


def require(path: Path, benchmark: Benchmark) -> Path:
    """A file that a benchmark cannot do without.

    Raises:
        BenchmarkError: it is not there.
    """
    if not path.is_file():
        message = f"{benchmark.name}: {path} is missing; {benchmark.how_to_get}"
        raise BenchmarkError(message)
    return path
