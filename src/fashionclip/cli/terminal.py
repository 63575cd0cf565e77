"""What the commands say: data on stdout, talk on stderr, progress only on a terminal.

Rich is imported by the functions that draw with it: a search that prints JSON never loads it.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import click

from fashionclip.rejects import read_rejects

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

SHOWN_REJECTS = 3
COLUMN_GAP = 3
LEAST_WIDTH = 8  # of a column that is cut
PIPED_WIDTH = 160
"""Characters in a line of a table that goes to a file or another program."""


def talk(text: str) -> None:
    """Say something to the user that is no data."""
    click.echo(text, err=True)


def show_command(words: str) -> None:
    """Print a command line as one would type it, on stdout."""
    click.secho(f"$ {words}", bold=True)


def warn(text: str) -> None:
    """Say something that the user should not miss, though the command goes on."""
    click.echo(click.style("note: ", fg="yellow") + text, err=True)


def write_json(value: object) -> None:
    """Print one JSON document: indented for people, on one line for programs."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=indent, default=str))


def plain(value: object) -> object:
    """Turn a value into what JSON has: not-a-number becomes null, tuples become lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Say how many: ``1 picture``, ``1,200 pictures``."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def say_counts(*counts: str, seconds: float) -> None:
    """End a command: what was done, what was rejected and where that stands, how long it took."""
    talk(f"{', '.join(filter(None, counts))} in {seconds:.1f} s")


def say_rejects(path: Path, n_rejects: int) -> None:
    """Name the first few rejects of a rejects file.

    Raises:
        OSError: the file cannot be read.
    """
    for reject in islice(read_rejects(path), SHOWN_REJECTS):
        row, image = reject.get("row"), reject.get("image")
        place = f"row {row}" if row is not None else image or "the catalogue"
        talk(f"  rejected {place}: {one_line(reject['reason'], width=200)}")
    if n_rejects > SHOWN_REJECTS:
        talk(f"  … and {n_rejects - SHOWN_REJECTS:,} more")


def one_line(text: str, *, width: int = 80) -> str:
    """Collapse white space, drop what would steer the terminal, and cut to a width."""
    line = " ".join(text.split())
    line = "".join(letter for letter in line if letter.isprintable())
    return line if len(line) <= width else line[: width - 1] + "…"


def console() -> "Console":
    """Open stdout for tables: as wide as the window, or as COLUMNS says; colours on a terminal."""
    from rich.console import Console

    is_told = sys.stdout.isatty() or "COLUMNS" in os.environ
    columns = None if is_told else PIPED_WIDTH
    return Console(file=sys.stdout, width=columns, highlight=False, emoji=False, markup=False)


def width() -> int:
    """Characters in a line of stdout."""
    return console().width


def column_width(heading: str, values: Iterable[str]) -> int:
    """Characters that a column of a table takes, the gap beside it included."""
    return max(map(len, [heading, *values])) + COLUMN_GAP


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    numbers: Iterable[str] = (),
) -> None:
    """Print a table on stdout.

    Args:
        columns: the headings.
        rows: the cells, in the order of the headings.
        title: a line above it.
        numbers: headings of the columns that are set flush right.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False
    )
    right = set(numbers)
    for heading in columns:
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            header_style="dim",
        )
    cells = [[cell(value) for value in row] for row in rows]
    widths = _narrowed([max(map(len, column)) for column in zip(columns, *cells, strict=True)])
    for row in cells:
        table.add_row(*(Text(one_line(text, width=n)) for text, n in zip(row, widths, strict=True)))
    console().print(table)


def _narrowed(widths: list[int]) -> list[int]:
    """Cut the widest columns until all of them fit into the window, so that short ones stay."""
    room = width() - COLUMN_GAP * len(widths)
    while sum(widths) > room and max(widths) > LEAST_WIDTH:
        widths[widths.index(max(widths))] -= 1
    return widths


def show_facts(facts: Mapping[str, object]) -> None:
    """Print names and what they stand for on stdout, one fact a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value not in (None, ""):
            text = value if isinstance(value, str) else cell(value)
            table.add_row(Text(name.replace("_", " "), style="dim"), Text(text))
    console().print(table)


def show_markdown(text: str) -> None:
    """Print a Markdown page on stdout: set for people, as it stands for programs."""
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.markdown import Markdown

    console().print(Markdown(text))


def cell(value: object) -> str:
    """Set one value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.2f}"
    return one_line(str(value))


@runtime_checkable
class Update(Protocol):
    """Tells a progress bar how far the work is."""

    def __call__(self, done: int, rejected: int, of: int | None, what: str | None = None) -> None:
        """Show the count so far, how many were rejected, a better total, another name."""


@contextmanager
def progress(what: str, *, total: int | None, noun: str = "products") -> Iterator["Update"]:
    """Show how far a long piece of work is: count, rate, time left. Only on a terminal.

    Args:
        what: the work, such as ``Embedding``.
        total: how many there are, if that is known.
        noun: what is counted.

    Yields:
        A function that tells the bar how far it is.
    """
    if not sys.stderr.isatty():
        yield lambda done, rejected, of, what=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        _pace_column(noun),
        TimeElapsedColumn(),
    )
    stderr = Console(file=sys.stderr, highlight=False, emoji=False)
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(what, total=total, rejected=0)

        def update(done: int, rejected: int, of: int | None, what: str | None = None) -> None:
            known = total if of is None else of
            bar.update(task, completed=done, rejected=rejected, total=known, description=what)

        yield update


def _pace_column(noun: str) -> "ProgressColumn":
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Pace(ProgressColumn):
        """Count, rate, rejects and time left, as one phrase."""

        def render(self, task: "Task") -> "Text":
            of = f" of {int(task.total):,}" if task.total else ""
            parts = [f"{int(task.completed):,}{of} {noun}"]
            if task.speed:
                parts.append(f"{task.speed:,.0f}/s")
            if task.fields["rejected"]:
                parts.append(f"{task.fields['rejected']:,} rejected")
            if task.time_remaining is not None and not task.finished:
                parts.append(f"{_span(task.time_remaining)} left")
            return Text(" · ".join(parts))

    return Pace()


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
