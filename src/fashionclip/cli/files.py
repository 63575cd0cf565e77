"""Files that commands write: with the suffix that says their format."""

from collections.abc import Sequence
from pathlib import Path

import click


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
