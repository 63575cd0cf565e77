"""Options that several commands share, so that one word means one thing everywhere."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from fashionclip.cli import terminal
from fashionclip.errors import MissingExtraError

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.model import FashionCLIP

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """Set command lines as the examples that end a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, for programs."
)


def device_options(command: Command) -> Command:
    """Add the choice of where a model runs, and with what numbers."""
    command = click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
        default="auto",
        show_default=True,
        help="Numbers the model computes with.",
    )(command)
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps; auto picks the fastest.",
    )(command)


def model_options(command: Command) -> Command:
    """Add the choice of a model and of where it runs."""
    return model_option(device_options(command))


def model_option(command: Command) -> Command:
    """Add the choice of a model."""
    return click.option(
        "--model",
        "model_name",
        metavar="NAME",
        help="A folder or a hub repository such as patrickjohncyh/fashion-clip; "
        "the built-in model if not given.",
    )(command)


private_option = click.option(
    "--allow-private",
    is_flag=True,
    help="Fetch pictures from addresses inside this network too.",
)


def catalog_options(command: Command) -> Command:
    """Add how a catalogue is read."""
    command = private_option(command)
    command = click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="ROLE=NAME",
        callback=read_roles,
        help="The column of a role, where its name is unusual: --column id=SKU "
        "--column image=photo. Repeatable.",
    )(command)
    return click.option(
        "--images",
        type=click.Path(file_okay=False, path_type=str),
        metavar="DIR",
        help="Folder or URL that the table's picture names are relative to.",
    )(command)


def read_pairs(
    ctx: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> Mapping[str, str]:
    """Read the ``ONE=OTHER`` pairs of an option.

    Raises:
        click.BadParameter: a word without ``=``.
    """
    read: dict[str, str] = {}
    for pair in pairs:
        one, equals, other = pair.partition("=")
        if not (one.strip() and equals and other):
            message = f"'{pair}' is not {parameter.metavar}"
            raise click.BadParameter(message, ctx=ctx, param=parameter)
        read[one.strip()] = other
    return read


def read_roles(
    ctx: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> Mapping[str, list[str]]:
    """Read ``ROLE=NAME`` pairs; only ``further_images`` keeps more than the last of its names.

    Raises:
        click.BadParameter: a word without ``=``.
    """
    columns: dict[str, list[str]] = {}
    for pair in pairs:
        for role, name in read_pairs(ctx, parameter, (pair,)).items():
            before = columns.get(role, []) if role == "further_images" else []
            columns[role] = [*before, name]
    return columns


def require_extra(extra: str, *packages: str) -> None:
    """Say what to install where the packages of an extra are missing.

    Raises:
        MissingExtraError: one of them is.
    """
    missing = next((name for name in packages if find_spec(name) is None), None)
    if missing is not None:
        command = click.get_current_context().info_name
        message = f"'{command}' needs {missing}: pip install 'fashionclip[{extra}]'"
        raise MissingExtraError(message)


def stop_for_usage(message: str) -> NoReturn:
    """Say how the command is meant to be used, and end with status 2.

    Raises:
        UsageError: always.
    """
    raise click.UsageError(message, click.get_current_context(silent=True))


def open_model(name: str | None, *, device: str = "auto", precision: str = "auto") -> "FashionCLIP":
    """Open a model; a folder by its whole path, so that an index can name it from anywhere.

    Raises:
        FashionCLIPError: as ``FashionCLIP.from_pretrained``.
    """
    from fashionclip.model import FashionCLIP  # loads the engine

    if name is not None and Path(name).is_dir():
        name = str(Path(name).resolve())
    return FashionCLIP.from_pretrained(name, device=device, precision=precision)


def cache_folder() -> Path:
    """Where this program keeps what it need not compute twice, as the XDG specification says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fashionclip"


def model_of(store: Path) -> str | None:
    """Peek which model an index was made with; opening it says what is wrong with it, if anything.

    Returns:
        A name that ``open_model`` takes: None for the built-in model.
    """
    try:
        name = json.loads((store / "index.json").read_bytes())["model"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return None if name == "builtin" else str(name)


def open_catalog(
    path: str, *, images: str | None, columns: Mapping[str, Sequence[str]], allow_private: bool
) -> "Catalog":
    """Open a catalogue as the options say.

    Raises:
        CatalogError: it cannot be read at all.
    """
    from fashionclip.catalog import Catalog  # loads the table readers
    from fashionclip.images.fetch import FetchPolicy

    policy = FetchPolicy(allow_private=allow_private)
    catalog = Catalog.open(path, images=images, columns=columns or None, policy=policy)
    for note in catalog.notes:
        terminal.warn(f"{path}: {note}")
    return catalog


def warn_of_no_words(catalog: "Catalog") -> None:
    """Say so where no column holds words."""
    roles = catalog.roles
    if not (roles.title or roles.description or roles.highlights):
        terminal.warn(
            f"{catalog.location}: no column of a usual name for titles, so that products can be "
            "found by their pictures alone; name one with --column title=NAME"
        )
