"""Write docs/cli.md from the program's help.

Run ``python scripts/write_cli_docs.py`` after changing a command; ``tests/test_cli.py`` fails
while the page is out of date.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from fashionclip.cli.main import program

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
WIDTH = 88
HEAD = """# The command line

The help of every command, written by `python scripts/write_cli_docs.py`.

Results go to stdout; messages and progress go to stderr, and progress appears only on a terminal.
`--json` prints one JSON document instead. Errors are one line; `--debug` adds the traceback.

| exit status | meaning |
|---|---|
| 0 | done, even if some products were rejected |
| 1 | nothing could be done |
| 2 | wrong usage |
| 130 | interrupted |
"""


def cli_docs() -> str:
    """Build the page, with a section for each command in the order of ``fashionclip --help``."""
    sections = [f"## `{name}`\n\n```\n{help_text}\n```\n" for name, help_text in _helps()]
    return "\n".join([HEAD, *sections])


def _helps() -> Iterator[tuple[str, str]]:
    settings = program.context_settings | {"terminal_width": WIDTH}
    root = click.Context(program, info_name="fashionclip", **settings)
    yield "fashionclip", program.get_help(root)
    yield from _inside(program, root, "fashionclip")


def _inside(group: click.Group, above: click.Context, path: str) -> Iterator[tuple[str, str]]:
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        if command is None:
            continue
        context = click.Context(command, info_name=name, parent=above, terminal_width=WIDTH)
        yield f"{path} {name}", command.get_help(context)
        if isinstance(command, click.Group):
            yield from _inside(command, context, f"{path} {name}")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(cli_docs(), encoding="utf-8")
