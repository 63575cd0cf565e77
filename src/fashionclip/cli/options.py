"""Options that several commands share, so that an option means the same everywhere."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from fashionclip.cli import terminal
from fashionclip.errors import MissingExtraError

if TYPE_CHECKING:
    from fashionclip.catalog import Catalog
    from fashionclip.encoding import Encoder
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.model import FashionCLIP

QUIET_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # Ray prints of dead workers on stdout
}
"""Settings that Ray reads when it is imported."""
JOINED_RAY = {"RAY_gcs_server_port_wait_time_s": "3"}
"""For a cluster at an address: by default Ray tries 20 times, a second apart, to be let in."""
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """The examples at the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class OutputFile(click.ParamType[Path]):
    """A file to write, in a folder that exists, whose suffix is its format."""

    name = "file"

    def __init__(self, *suffixes: str) -> None:
        """Accept some suffixes, such as ``.csv``."""
        self.suffixes = suffixes

    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """Check the path of the file."""
        path = Path(value)
        if path.suffix.lower() not in self.suffixes:
            self.fail(f"'{value}' should end in {' or '.join(self.suffixes)}", param, ctx)
        if not path.absolute().parent.is_dir():
            self.fail(f"there is no folder '{path.parent}' for it", param, ctx)
        return path


def read_names(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> Sequence[str]:
    """Read the names of an option that is repeated, or has several with commas between them."""
    return [name.strip() for some in given for name in some.split(",") if name.strip()]


def read_pairs(
    ctx: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> Mapping[str, str]:
    """Read the ``ONE=OTHER`` pairs of an option.

    Raises:
        click.BadParameter: a word without ``=``.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        one, equals, other = pair.partition("=")
        if not (one.strip() and equals and other):
            message = f"'{pair}' is not {parameter.metavar}"
            raise click.BadParameter(message, ctx=ctx, param=parameter)
        found[one.strip()] = other
    return found


def _read_storage_options(
    ctx: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> Mapping[str, str]:
    """Read ``KEY=VALUE`` pairs, of which the messages never show a value.

    Raises:
        click.BadParameter: a word without ``=``, or a name that is not known.
    """
    from fashionclip.object_storage import check_options

    words = [pair.partition("=") for pair in pairs]
    if not all(name.strip() and equals and value for name, equals, value in words):
        message = f"one of them is not {parameter.metavar}"
        raise click.BadParameter(message, ctx=ctx, param=parameter)
    try:
        given = check_options({name: value for name, _, value in words})
    except ValueError as exc:
        raise click.BadParameter(str(exc), ctx=ctx, param=parameter) from exc
    if any(os.environ.get(name, "").lower().startswith("http://") for name in ENDPOINT_VARIABLES):
        given.setdefault("allow_http", "true")  # which Lance asks for beside such an endpoint
    return given


def _read_roles(
    ctx: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> Mapping[str, list[str]]:
    """Read ``ROLE=NAME`` pairs; only ``further_images`` keeps more than the last of its names."""
    columns: dict[str, list[str]] = {}
    for pair in pairs:
        for role, name in read_pairs(ctx, parameter, (pair,)).items():
            earlier = columns.get(role, []) if role == "further_images" else []
            columns[role] = [*earlier, name]
    return columns


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order in the help."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, for programs."
)
model_option = click.option(
    "--model",
    "model_name",
    metavar="NAME",
    help="A folder or a hub repository such as patrickjohncyh/fashion-clip; "
    "the built-in model if not given.",
)
device_options = _together(
    click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps; auto picks the fastest.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
        default="auto",
        show_default=True,
        help="Numeric type of the model's computations.",
    ),
)
model_options = _together(model_option, device_options)
cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of cached vectors.  [default: the user's cache folder]",
)
report_option = partial(
    click.option,
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for report.html, report.md and results.json.",
)
batch_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Images per batch of the model.",
)
ray_options = _together(
    click.option(
        "--ray",
        "ray_address",
        metavar="auto|local|ADDRESS",
        help="Encode images by workers on a Ray cluster: auto for the one that this machine is "
        "part of, local for workers on this machine, or HOST:PORT.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads that decode images; with --ray, workers.  [default: one a core; with "
        "--ray, one a GPU or one for every 8 cores]",
    ),
)
private_option = click.option(
    "--allow-private",
    is_flag=True,
    help="Also fetch images from addresses inside this network.",
)
storage_option = click.option(
    "--storage-option",
    "storage_options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_read_storage_options,
    help="A setting of object storage (s3://, gs://, az://), such as aws_endpoint=URL; by default "
    "the environment has them. Repeatable.",
)
_catalog_options = _together(
    click.option(
        "--images",
        type=click.Path(file_okay=False, path_type=str),
        metavar="DIR",
        help="Folder or URL that the table's image names are relative to.",
    ),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="ROLE=NAME",
        callback=_read_roles,
        help="The column of a role, where its name is unusual: --column id=SKU "
        "--column image=photo. Repeatable.",
    ),
    click.option(
        "--encoding",
        metavar="NAME",
        help="The text encoding of the table, such as cp1251, where it is not told by its bytes.",
    ),
    click.option(
        "--locale",
        metavar="NAME",
        help="A language or region such as de, en_GB or ch, where a price such as 1.299 or a date "
        "such as 5/12/2026 can be read in two ways.",
    ),
    click.option(
        "--format",
        metavar="NAME",
        help="The shop system whose export the table is, such as shopify, or a .toml file of your "
        "own; plain for none. Recognised by the header if not given.",
    ),
    private_option,
    storage_option,
)


@dataclass(frozen=True, slots=True)
class CatalogOptions:
    """How a command reads a catalogue: the values of ``catalog_options``."""

    images: str | None = None
    columns: Mapping[str, Sequence[str]] | None = None
    encoding: str | None = None
    locale: str | None = None
    format: str | None = None
    allow_private: bool = False
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def policy(self) -> "FetchPolicy":
        """How images and tables are fetched."""
        from fashionclip.images.fetch import FetchPolicy

        return FetchPolicy(allow_private=self.allow_private, storage_options=self.storage_options)


def catalog_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that reads a catalogue, as its argument ``reading``."""

    @wraps(command)
    def call(**given: Any) -> None:  # noqa: ANN401 - the command's other parameters
        names = [one.name for one in fields(CatalogOptions)]
        reading = CatalogOptions(**{name: given.pop(name) for name in names})
        command(reading=reading, **given)

    return _catalog_options(call)


def require_extra(extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed.

    Raises:
        MissingExtraError: one of them is not; the message has the command that installs it.
    """
    missing = next((name for name in packages if find_spec(name) is None), None)
    if missing is not None:
        command = click.get_current_context().info_name
        message = f"'{command}' needs {missing}: pip install 'fashionclip[{extra}]'"
        raise MissingExtraError(message)


def stop_for_usage(message: str) -> NoReturn:
    """End with status 2 and how the command is meant to be used.

    Raises:
        UsageError: always.
    """
    raise click.UsageError(message, click.get_current_context(silent=True))


def open_model(name: str | None, *, device: str = "auto", precision: str = "auto") -> "FashionCLIP":
    """Open a model. A folder gets its absolute path, by which an index can name it anywhere.

    Raises:
        FashionCLIPError: as ``FashionCLIP.from_pretrained``.
    """
    from fashionclip.model import FashionCLIP  # loads the engine

    if name is not None and Path(name).is_dir():
        name = str(Path(name).resolve())
    return FashionCLIP.from_pretrained(name, device=device, precision=precision)


def open_models(
    names: Sequence[str], *, device: str = "auto", precision: str = "auto"
) -> "Iterator[FashionCLIP]":
    """Open models one after the other, once each is known to be there and complete.

    A bad second model is so refused before the first one is measured.

    Args:
        names: as ``FashionCLIP`` takes them, or ``builtin``.
        device: as ``FashionCLIP``.
        precision: as ``FashionCLIP``.

    Raises:
        FashionCLIPError: as ``FashionCLIP.from_pretrained``; what the engines refuse, as each is
            opened.
        EvaluationError: two models have one name.
    """
    from fashionclip.checkpoint import open_checkpoint
    from fashionclip.evaluate.run import refuse_equal_names
    from fashionclip.model import FashionCLIP

    paths = [str(Path(name).resolve()) if Path(name).is_dir() else name for name in names]
    checkpoints = [open_checkpoint(path) for path in paths]
    refuse_equal_names(checkpoint.name for checkpoint in checkpoints)
    return (FashionCLIP(one, device=device, precision=precision) for one in checkpoints)


@contextmanager
def open_encoder(
    model: "FashionCLIP",
    *,
    ray_address: str | None,
    workers: int | None,
    batch_size: int = 32,
    device: str = "auto",
    precision: str = "auto",
) -> "Iterator[Encoder]":
    """Open what encodes images: this process, or with ``--ray`` workers, whose sizes are printed.

    Raises:
        FashionCLIPError: as ``open_ray_encoder``.
    """
    if ray_address is None:
        from fashionclip.encoding import local_encoder

        yield local_encoder(model, batch_size=batch_size, workers=workers)
        return
    require_extra("ray", "ray")
    if ray_address == "auto":
        ray_address = os.environ.get("RAY_ADDRESS") or ray_address
    settings = QUIET_RAY if ray_address in {"auto", "local"} else {**QUIET_RAY, **JOINED_RAY}
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    from fashionclip.ray_encoding import open_ray_encoder

    with open_ray_encoder(
        model,
        ray_address,
        workers=workers,
        batch_size=batch_size,
        device=device,
        precision=precision,
    ) as encoder:
        terminal.talk(f"Ray: {encoder.plan}")
        yield encoder


def cache_folder() -> Path:
    """The cache of this program, where the XDG specification puts it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fashionclip"


def model_of(store: str, storage_options: Mapping[str, str] | None = None) -> str | None:
    """The model of an index, without opening all of it.

    Returns:
        A name that ``open_model`` takes: None for the built-in model, and where the index cannot
        be read, which opening it will report.
    """
    from fashionclip.errors import FashionCLIPError
    from fashionclip.store import read_meta

    try:
        name = read_meta(store, storage_options=storage_options).model
    except FashionCLIPError:
        return None
    return None if name == "builtin" else name


def open_catalog(
    path: str, reading: CatalogOptions = CatalogOptions(), *, say_notes: bool = True
) -> "Catalog":
    """Open a catalogue, and say how it was read.

    Raises:
        CatalogError: it cannot be read at all.
    """
    from fashionclip.catalog import Catalog  # loads the table readers

    catalog = Catalog.open(
        path,
        images=reading.images,
        columns=reading.columns or None,
        encoding=reading.encoding,
        locale=reading.locale,
        format=reading.format,
        policy=reading.policy,
    )
    for note in catalog.notes if say_notes else ():
        terminal.warn(terminal.fit(note, width=400))
    return catalog


def warn_of_no_words(catalog: "Catalog") -> None:
    """Warn if no column holds text that could be searched."""
    roles = catalog.roles
    if not (roles.title or roles.description or roles.highlights):
        terminal.warn(
            f"{catalog.location}: no column of a usual name for titles, so products can be found "
            "by their images alone; name one with --column title=NAME"
        )
