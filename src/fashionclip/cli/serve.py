"""``fashionclip serve``: an HTTP service with a web page over an index."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    cache_folder,
    examples,
    json_option,
    model_options,
    private_option,
    require_extra,
    stop_for_usage,
    storage_option,
)
from fashionclip.errors import ServiceError
from fashionclip.serve.settings import Settings

DEFAULTS = Settings()

MAX_WORKERS = 64

BLAS_SPIN_LOG2_CYCLES = "16"
"""OpenBLAS threads spin for 2 ** 16 cycles before they sleep. The default of 2 ** 26, about 20 ms,
keeps their cores from other threads."""


def _read_origins(
    ctx: click.Context, parameter: click.Parameter, origins: tuple[str, ...]
) -> tuple[str, ...]:
    """Check that each is an origin, as a browser sends it: scheme, host and port alone.

    Raises:
        click.BadParameter: one is not.
    """
    for origin in origins:
        parts = urlsplit(origin)
        is_web = parts.scheme in {"http", "https"} and parts.hostname
        if not is_web or origin != f"{parts.scheme}://{parts.netloc}".lower() or "@" in origin:
            message = f"'{origin}' is not a web site's origin; write it as https://shop.example"
            raise click.BadParameter(message, ctx=ctx, param=parameter)
    return origins


@click.command(
    epilog=examples(
        "$ fashionclip serve shop.lance",
        "$ fashionclip serve shop.alias --workers 4 --read-only",
        "$ fashionclip serve --new-key read --key-file shop.keys",
        "$ fashionclip serve shop.lance --host 0.0.0.0 --key-file shop.keys",
    )
)
@click.argument("store", required=False)
@click.option(
    "--host", default=DEFAULTS.host, show_default=True, help="Address to listen on; 0.0.0.0 is all."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULTS.port,
    show_default=True,
    help="0 is any.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=DEFAULTS.workers,
    show_default=True,
    help="Processes that answer requests; each holds its own copy of the index.",
)
@click.option(
    "--read-only",
    is_flag=True,
    help="A replica: follow the index without ever writing to it; requests that write get 403.",
)
@click.option(
    "--snapshot-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder on local disk that the index is saved in, so that the next start takes only what "
    "has changed since.",
)
@click.option(
    "--max-stale",
    "max_stale_seconds",
    type=click.FloatRange(min=1),
    default=DEFAULTS.max_stale_seconds,
    show_default=True,
    metavar="SECONDS",
    help="How long /ready says yes while the index cannot be read and answers come from memory.",
)
@click.option(
    "--drain",
    "drain_seconds",
    type=click.FloatRange(min=0),
    default=DEFAULTS.drain_seconds,
    show_default=True,
    metavar="SECONDS",
    help="How long a service that is told to stop goes on while /ready says no.",
)
@click.option(
    "--allow-any-store",
    is_flag=True,
    help="POST /v1/admin/switch may name any store, not only those beside the alias.",
)
@click.option(
    "--uploads",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the pictures that visitors search with; in the user's cache if not given.",
)
@click.option(
    "--cors",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    callback=_read_origins,
    help="A web site whose scripts may use the API, such as https://shop.example. Repeatable.",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File of API keys; with it, every request needs a key.",
)
@click.option(
    "--new-key",
    type=click.Choice(["read", "write", "admin"]),
    help="Make a key, add its hash to --key-file, print it, and exit.",
)
@click.option(
    "--open-to-all",
    is_flag=True,
    help="Listen on a network address without keys: anyone who can connect can write.",
)
@click.option(
    "--allow-image-urls",
    is_flag=True,
    help="Fetch images that requests name by URL, from public addresses only.",
)
@private_option
@storage_option
@click.option(
    "--rate",
    "rate_per_minute",
    type=click.IntRange(min=0),
    default=DEFAULTS.rate_per_minute,
    show_default=True,
    help="Requests per minute of a key, or of an address without keys; 0 is no limit.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=DEFAULTS.queue,
    show_default=True,
    help="Length of the queue; requests beyond it are rejected with 429.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 256),
    default=DEFAULTS.max_batch,
    show_default=True,
    help="Requests per batch of the model; 1 is no batching.",
)
@model_options
@json_option
def command(
    store: str | None,
    host: str,
    key_file: Path | None,
    new_key: str | None,
    open_to_all: bool,
    uploads: Path | None,
    snapshot_dir: Path | None,
    model_name: str | None,
    as_json: bool,
    **further: Any,  # noqa: ANN401 - fields of Settings
) -> None:
    """Serve the index in STORE: a search page for people, an API for programs.

    STORE is a folder, s3://… or postgresql://…; the service answers from a copy in memory. It may
    also be an alias, NAME.alias, which 'fashionclip switch' moves from one store to another: the
    service goes with it without losing a request.

    By default it listens on this machine only. Logs are JSON lines on stderr. Ctrl-C or SIGTERM
    stop it after the accepted requests are answered. SIGHUP restarts the workers one by one.
    """
    require_extra("serve", "fastapi", "prometheus_client", "sqlglot", "uvicorn")
    if new_key is not None:
        _make_key(key_file, new_key, as_json=as_json)
        return
    if store is None:
        stop_for_usage("name the index to serve: fashionclip serve shop.lance")
    from fashionclip.serve.middleware.keys import Keys
    from fashionclip.serve.middleware.rates import is_loopback
    from fashionclip.serve.workers import serve
    from fashionclip.store import read_meta, shown_uri

    if key_file is None and not open_to_all and not is_loopback(host):
        stop_for_usage(
            f"{host} can be reached from other machines: make a key with --new-key read "
            "--key-file FILE and pass --key-file FILE, or pass --open-to-all"
        )
    read_meta(
        store, storage_options=further["storage_options"]
    )  # fails early if there is no index; the worker opens it
    if key_file is not None:
        Keys.read(key_file)
    settings = Settings(
        host=host,
        key_file=key_file,
        uploads=_uploads_folder(uploads),
        snapshot_dir=None if snapshot_dir is None else _snapshot_folder(snapshot_dir),
        model=model_name,
        **further,
    )
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", BLAS_SPIN_LOG2_CYCLES)  # for the worker

    def report_address(address: str) -> None:
        terminal.talk(f"{shown_uri(store)} at {address}")
        if as_json:
            terminal.write_json({"url": address})

    serve(store, settings, on_address=report_address)


def _uploads_folder(given: Path | None) -> Path | None:
    """The folder of uploaded pictures; None, which is memory, if there is no place for one.

    Raises:
        ServiceError: the folder that was named cannot be written to.
    """
    folder = given or cache_folder() / "uploads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        is_usable = False
    if given is not None and not is_usable:
        message = f"{given}: pictures cannot be kept here; name a folder that can be written to"
        raise ServiceError(message)
    return folder.absolute() if is_usable else None


def _snapshot_folder(folder: Path) -> Path:
    """The folder that the index is saved in.

    Raises:
        ServiceError: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        is_usable = False
    if not is_usable:
        message = f"{folder}: the index cannot be saved here; name a folder that can be written to"
        raise ServiceError(message)
    return folder.absolute()


def _make_key(key_file: Path | None, scope: str, *, as_json: bool) -> None:
    """Make a key and print it.

    Raises:
        ServiceError: no key file was named, or it cannot be written.
    """
    from fashionclip.serve.middleware.keys import new_key

    if key_file is None:
        message = f"name the file that keeps the key's hash: --new-key {scope} --key-file FILE"
        raise ServiceError(message)
    secret = new_key(key_file, scope)
    if as_json:
        terminal.write_json({"key": secret, "scope": scope})
    else:
        click.echo(secret)
    terminal.talk(f"its hash is in {key_file}; the key itself is stored nowhere, so keep it now")
