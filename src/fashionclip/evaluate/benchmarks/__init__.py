"""Benchmarks by name: each finds its files in a folder and makes tasks of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fashionclip.evaluate.tasks import Task


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A benchmark's tasks, and what was wrong with its files."""

    tasks: tuple[Task, ...]
    warnings: tuple[str, ...] = ()
    """One line each: how many rows or pictures were left out, and why."""


class Benchmark(Protocol):
    """A data set with questions."""

    name: str
    """What ``--on`` takes: ``fmnist``."""
    title: str
    """In words: ``Fashion-MNIST, 10,000 test pictures``."""
    how_to_get: str
    """One line: where its owners publish it, and how to lay it out."""
    places: tuple[str, ...]
    """Folders it may lie in: names under the data folder, or absolute paths, in order."""

    def load(self, folder: Path) -> Loaded:
        """Read the files and make the tasks.

        Raises:
            BenchmarkError: files are missing, half unpacked or contradict each other.
        """
