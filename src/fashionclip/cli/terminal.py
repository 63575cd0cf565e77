"""Output of the commands: JSON, tables, messages on stderr, progress only on a terminal.

Rich is imported by the functions that need it: a search that prints JSON never loads it.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import click

from fashionclip.lines import one_line
from fashionclip.product import list_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    from fashionclip.catalog.faults import Fault

MAX_SHOWN_FAULTS = 4
COLUMN_GAP = 3
MIN_COLUMN_WIDTH = 8  # columns are not cut below this
PIPED_WIDTH = 160
"""Characters per line of a table that goes to a file or another program."""


def talk(text: str) -> None:
    """Print a message on stderr."""
    click.echo(text, err=True)


def show_command(words: str) -> None:
    """Print a command line on stdout, as one would type it."""
    click.secho(f"$ {words}", bold=True)


def show_heading(text: str) -> None:
    """Print a heading on stdout."""
    click.secho(text, bold=True)


def warn(text: str) -> None:
    """Print a warning on stderr; the command continues."""
    click.echo(click.style("note: ", fg="yellow") + text, err=True)


def write_json(value: object) -> None:
    """Print one JSON document: indented for people, on one line for programs."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=indent, default=str))


def plain(value: object) -> object:
    """A value as JSON has it: not-a-number becomes None, tuples become lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value


def counted(n: int, noun: str) -> str:
    """A number with its noun: ``1 image``, ``1,200 images``."""
    return f"{n:,} {noun if n == 1 else noun + 's'}"


def say_counts(*counts: str, seconds: float) -> None:
    """Print the last line of a command: counts of results and rejects, and the time it took."""
    talk(f"{', '.join(filter(None, counts))} in {seconds:.1f} s")


def say_faults(faults: "Sequence[Fault]") -> None:
    """Print the most frequent kinds of rejects on stderr, each with an example and its mend."""
    for fault in faults[:MAX_SHOWN_FAULTS]:
        words = f"{fault.what} ({fault.example})" + (f"; {fault.mend}" if fault.mend else "")
        talk(f"  rejected {fault.count:,}: {fit(words, width=200)}")
    if others := sum(fault.count for fault in faults[MAX_SHOWN_FAULTS:]):
        talk(f"  … and {others:,} more")


def fit(text: str, *, width: int = 80) -> str:
    """Make one line of a text that may be anyone's, without control characters, cut to a width."""
    line = "".join(letter for letter in one_line(text) if letter.isprintable())
    return line if len(line) <= width else line[: width - 1] + "…"


def console() -> "Console":
    """Stdout for tables, as wide as the window or the COLUMNS variable; coloured on a terminal."""
    from rich.console import Console

    has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    columns = None if has_width else PIPED_WIDTH
    return Console(file=sys.stdout, width=columns, highlight=False, emoji=False, markup=False)


def width() -> int:
    """Characters per line of stdout."""
    return console().width


def column_width(heading: str, values: Iterable[str]) -> int:
    """Characters that a column of a table takes, with the gap beside it."""
    return max(map(len, [heading, *values])) + COLUMN_GAP


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    numbers: Iterable[str] = (),
    rule_after: int = 0,
) -> None:
    """Print a table on stdout.

    Args:
        columns: the headings.
        rows: the cells, in the order of the headings.
        title: a line above it.
        numbers: headings of the columns that are aligned right.
        rule_after: rows before a rule; 0 for no rule.
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
    widths = _fitting([max(map(len, column)) for column in zip(columns, *cells, strict=True)])
    for i, row in enumerate(cells, start=1):
        table.add_row(*(Text(fit(text, width=n)) for text, n in zip(row, widths, strict=True)))
        if i == rule_after:
            table.add_row(*("─" * n for n in widths), style="dim")
    console().print(table)


def _fitting(widths: list[int]) -> list[int]:
    """Cut the widest columns until the table fits into the window; short ones stay whole."""
    available = width() - COLUMN_GAP * len(widths)
    while sum(widths) > available and max(widths) > MIN_COLUMN_WIDTH:
        widths[widths.index(max(widths))] -= 1
    return widths


def show_facts(facts: Mapping[str, object]) -> None:
    """Print names and values on stdout, one pair per line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value not in (None, ""):
            text = value if isinstance(value, str) else cell(value)
            table.add_row(Text(name.replace("_", " "), style="dim"), Text(text))
    console().print(table)


def show_counted(rows: Iterable[tuple[int, Sequence[str]]]) -> None:
    """Print counts on stdout, each with a few lines of text, the first of them bold."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for count, (first, *lines) in rows:
        text = Text(first, style="bold")
        text.append("".join(f"\n{line}" for line in lines), style="not bold")
        table.add_row(f"{count:,}", text)
    console().print(table)


def show_markdown(text: str) -> None:
    """Print Markdown on stdout: formatted on a terminal, as it is for programs."""
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.markdown import Markdown

    console().print(Markdown(text))


def cell(value: object) -> str:
    """A value as text of a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.2f}"
    return fit(", ".join(members(str(value))))


def members(text: str) -> list[str]:
    """The members of a list that is stored as JSON text; any other text is its only member."""
    found = list_of(text)
    return [text] if found is None else list(map(str, found))


@runtime_checkable
class Update(Protocol):
    """Updates a progress bar."""

    def __call__(self, done: int, rejected: int, of: int | None, what: str | None = None) -> None:
        """Set counts, the number of rejects, a better total, another title."""


@contextmanager
def progress(what: str, *, total: int | None, noun: str = "products") -> Iterator["Update"]:
    """Show the progress of long work on a terminal: count, rate, time left.

    Args:
        what: the work, such as ``Embedding``.
        total: the number of items, if it is known.
        noun: what is counted.

    Yields:
        A function that updates the bar.
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
                parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
            return Text(" · ".join(parts))

    return Pace()
