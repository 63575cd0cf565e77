"""The program ``fashionclip``: a table of commands, and what happens when one fails.

A command's module is imported when the command is called, so ``--help`` costs a tenth of a
second and loads nothing heavy. Exit status: 0 done, 1 nothing could be done, 2 wrong usage,
130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from fashionclip import __version__

COMMANDS = {
    "demo": "Draw a sample catalogue, index it, search it and tag it.",
    "catalog": "Check a catalogue before time is spent on it.",
    "index": "Embed a catalogue into a folder that can be searched.",
    "search": "Find products by words, by a picture, or by both.",
    "tag": "Label products, with labels that nobody trained for.",
    "embed": "Write the vectors of products, pictures or words to a file.",
    "evaluate": "Measure models on benchmarks, and write a report.",
    "compare": "Say whether one model is better than another, beyond the noise.",
    "train": "Tune a model on a shop's own pictures and texts.",
    "publish": "Write a tuned model for others, with its card.",
    "serve": "Open a search page and an API over an index.",
    "info": "Say what a model or an index is.",
}
"""Every command, in the order of work; ``cli/<name>.py`` holds its ``command``."""

INTERRUPTED = 130  # what shells expect of a program that was stopped with Ctrl-C


class Program(click.Group):
    """The group of all commands, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command that was asked for."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"fashionclip.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one to a slip of the keys.

        Raises:
            UsageError: no such command.
        """
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches  # only a slip of the keys needs it

            near = get_close_matches(args[0], COMMANDS, n=1)
            mend = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(COMMANDS)}"
            message = f"no command '{args[0]}'; {mend}"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"fashionclip {__version__}")
        ctx.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'fashionclip COMMAND --help' shows examples. Start with 'fashionclip demo'.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and leave.",
)
def program(debug: bool) -> None:
    """Search and tag a fashion catalogue by words and pictures.

    A table of products and their pictures goes in; then it can be searched by words, by a
    picture or by both, with filters, and tagged with labels that nobody trained for.
    Everything runs on this machine.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the program.

    Args:
        arguments: the words after the program's name.

    Returns:
        The exit status. Errors end as one line on stderr; ``--debug`` raises them instead.

    Raises:
        Exception: with ``--debug``, whatever went wrong.
    """
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]  # it may stand anywhere
    try:
        status = _finish(words)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say_interrupted(words)
        return INTERRUPTED
    except BrokenPipeError:
        _close_quietly()
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(_one_line(error), err=True)
        return 1
    return status


def main() -> None:
    """Run the program on the words of the command line; the entry point of the script."""
    os.environ.setdefault("LANCEDB_LOG", "error")  # its warnings on stderr are none of a user's
    sys.exit(run(sys.argv[1:]))


def _finish(words: list[str]) -> int:
    """Run a command to its end, which includes getting its output out."""
    status = program.main(words, prog_name="fashionclip", standalone_mode=False)
    sys.stdout.flush()
    return status if isinstance(status, int) else 0


def _say_interrupted(words: Sequence[str]) -> None:
    going_on = ", and it goes on from here" if words[:1] in (["index"], ["train"]) else ""
    click.echo(f"interrupted; give the same command again{going_on}", err=True)


def _close_quietly() -> None:
    """Let the interpreter's last flush go nowhere: whoever read the output has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception) -> str:
    from fashionclip.errors import FashionCLIPError  # the lower floors are loaded by now anyway

    text = " ".join(str(error).split())
    if isinstance(error, FashionCLIPError):
        return f"error: {text}"
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        return f"error: {error.strerror or text}{place}"
    kind = type(error).__name__
    return f"error: unexpected {kind}: {text} (put --debug first to see where it comes from)"
