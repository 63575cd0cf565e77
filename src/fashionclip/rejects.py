"""Rejects files: rows and images that could not be used, one JSON object per line.

Indexing, tagging, embedding, training and the catalogue check all write this one format.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from fashionclip.product import Reject


def reject_fields(reject: Reject) -> dict[str, object]:
    """A reject as programs read it: ``row``, ``id``, ``image`` and ``reason``."""
    return {
        "row": reject.row,
        "id": reject.product_id,
        "image": reject.image,
        "reason": reject.reason,
    }


def rejects_beside(path: Path) -> Path:
    """The rejects file of an output file: ``tags.rejects.jsonl`` beside ``tags.csv``."""
    return path.with_suffix(".rejects.jsonl")


class RejectsFile:
    """A rejects file that is replaced when a ``with`` block ends without an error.

    Until then lines are added to ``NAME.part``, which a killed run leaves behind.
    """

    def __init__(self, path: Path, *, keep_empty: bool = True) -> None:
        """Begin an empty file.

        Args:
            path: the file.
            keep_empty: whether the file is there if nothing was rejected.

        Raises:
            OSError: it cannot be written.
        """
        self.path = path
        self.count = 0
        self._keep_empty = keep_empty
        self._part = path.with_name(f"{path.name}.part")
        self._file = self._part.open("w", encoding="utf-8", errors="replace", buffering=1)

    def __enter__(self) -> "RejectsFile":
        """Hand out itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, or drop it if the run failed."""
        try:
            self._file.close()
            if kind is None:
                if self.count or self._keep_empty:
                    self._part.replace(self.path)
                else:
                    self.path.unlink(missing_ok=True)
        finally:
            self._part.unlink(missing_ok=True)

    def add(self, reject: Reject) -> None:
        """Add a line.

        Raises:
            OSError: the disk is full.
        """
        self._file.write(_line(reject))
        self.count += 1


def append_reject(path: Path, reject: Reject) -> None:
    """Add a line to a rejects file that grows over several runs.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(_line(reject))


def read_rejects(path: Path) -> Iterator[dict[str, Any]]:
    """Read the fields of each reject; a line that a full disk cut off is left out.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            if isinstance(fields, dict):
                yield fields


def _line(reject: Reject) -> str:
    return json.dumps(reject_fields(reject), ensure_ascii=False) + "\n"
