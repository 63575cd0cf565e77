"""Files that commands write: with the suffix that says their format, whole or not at all.

A file is written beside its place and moved there at the end, so that a run that fails or is
killed leaves what was there before.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to that becomes ``path`` only if all goes well.

    Raises:
        OSError: the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def suffix_checked(suffixes: Sequence[str]) -> "click.ParamType[Path]":
    """A parameter type: a file in a folder that exists, with one of some suffixes."""
    return _FileWithSuffix(suffixes)


class _FileWithSuffix(click.ParamType):  # type: ignore[type-arg]
    name = "file"

    def __init__(self, suffixes: Sequence[str]) -> None:
        self.suffixes = tuple(suffixes)

    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        path = Path(value)
        if path.suffix.lower() not in self.suffixes:
            self.fail(f"'{value}' should end in {' or '.join(self.suffixes)}", param, ctx)
        if not path.absolute().parent.is_dir():
            self.fail(f"there is no folder '{path.parent}' for it", param, ctx)
        return path


def rejects_beside(place: Path) -> Path:
    """The rejects file of an output file: ``tags.rejects.jsonl`` beside ``tags.csv``."""
    return place.with_suffix(".rejects.jsonl")
