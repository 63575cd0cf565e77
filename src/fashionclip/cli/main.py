"""The program ``fashionclip``: a table of commands, how errors are reported, the exit status.

A command's module is imported when the command is called, so ``--help`` takes a tenth of a second
and loads nothing heavy. Exit status: 0 done, 1 nothing could be done, 2 wrong usage, 3 more
findings than `doctor --fail-on` allows, 130 interrupted.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

import click

from fashionclip import __version__

COMMANDS = {
    "demo": "Generate a sample catalogue, index it, search it and tag it.",
    "catalog": "Check a catalogue before it is indexed.",
    "doctor": "Find wrong pictures, captions and labels in a catalogue.",
    "index": "Embed a catalogue into a searchable index.",
    "search": "Find products by text, by an image, or by both.",
    "localize": "Find where in images words are.",
    "tag": "Label products with zero-shot labels.",
    "embed": "Write the vectors of products, images or texts to a file.",
    "evaluate": "Measure models on benchmarks, and write a report.",
    "probe": "Test what a model sees: colours of two garments, negation, numbers, printed words.",
    "compare": "Test whether one model is significantly better than another.",
    "audit": "Audit a model on a catalogue: gender, background, brands, prices.",
    "train": "Fine-tune a model on a shop's own images and texts.",
    "publish": "Export a fine-tuned model with its model card.",
    "reduce": "Write a model whose vectors have fewer numbers.",
    "serve": "Serve a search page and an API over an index.",
    "migration": "Show how the answers move from one index or model to another.",
    "switch": "Let an alias, and the services over it, go to another index.",
    "info": "Describe a model or an index.",
}
"""Every command, in the order of work; its ``command`` is in ``cli/<name>.py``."""

INTERRUPTED = 130  # the status that shells expect after Ctrl-C


class Program(click.Group):
    """The group of all commands, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"fashionclip.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest one of a similar name.

        Raises:
            UsageError: no such command.
        """
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            mend = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(COMMANDS)}"
            message = f"no command '{args[0]}'; {mend}"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'fashionclip COMMAND --help' shows examples. Start with 'fashionclip demo'.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(
    __version__, message="fashionclip %(version)s", help="Print the version and exit."
)
def program(debug: bool) -> None:
    """Search and tag a fashion catalogue by text and images.

    Index a table of products and their images, then search it by text, by an image or by both,
    with filters, and tag it with zero-shot labels. Everything runs on this machine.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the program.

    Args:
        arguments: the arguments after the program's name.

    Returns:
        The exit status. Errors become one line on stderr.

    Raises:
        Exception: any error, with ``--debug``.
    """
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]  # it may be anywhere
    try:
        status = program.main(words, prog_name="fashionclip", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        resumes = ", and it resumes from here" if words[:1] in (["index"], ["train"]) else ""
        click.echo(f"interrupted; give the same command again{resumes}", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of stdout is gone: send the interpreter's last flush to nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(_error_line(error), err=True)
        return 1
    return status if isinstance(status, int) else 0


def main() -> None:
    """The entry point of the script."""
    os.environ.setdefault("LANCEDB_LOG", "error")  # no internal warnings on stderr
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata, which is not used
    sys.exit(run(sys.argv[1:]))


def _error_line(error: Exception) -> str:
    from fashionclip.errors import FashionCLIPError
    from fashionclip.lines import one_line

    text = one_line(str(error))
    if isinstance(error, FashionCLIPError):
        return f"error: {text}"
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        return f"error: {error.strerror or text}{place}"
    kind = type(error).__name__
    return f"error: unexpected {kind}: {text} (put --debug first to see where it comes from)"
