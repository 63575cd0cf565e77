"""``fashionclip serve``: an HTTP service with a web page over an index."""

import os
from pathlib import Path
from typing import Any

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import (
    examples,
    json_option,
    model_options,
    private_option,
    require_extra,
    stop_for_usage,
)
from fashionclip.errors import ServiceError
from fashionclip.serve.settings import Settings

DEFAULTS = Settings()

BLAS_SPIN_LOG2_CYCLES = "16"
"""OpenBLAS threads spin for 2 ** 16 cycles before they sleep. The default of 2 ** 26, about 20 ms,
keeps their cores from other threads."""


@click.command(
    epilog=examples(
        "$ fashionclip serve shop.lance",
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
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File of API keys; with it, every request needs a key.",
)
@click.option(
    "--new-key",
    type=click.Choice(["read", "write"]),
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
    model_name: str | None,
    as_json: bool,
    **further: Any,  # noqa: ANN401 - fields of Settings
) -> None:
    """Serve the index in STORE: a search page for people, an API for programs.

    STORE is a folder, s3://… or postgresql://…; the service answers from a copy in memory.

    By default it listens on this machine only. Logs are JSON lines on stderr. Ctrl-C or SIGTERM
    stop it after the accepted requests are answered. SIGHUP restarts the worker.
    """
    require_extra("serve", "fastapi", "prometheus_client", "sqlglot", "uvicorn")
    if new_key is not None:
        _make_key(key_file, new_key, as_json=as_json)
        return
    if store is None:
        stop_for_usage("name the index to serve: fashionclip serve shop.lance")
    from fashionclip.serve.app import serve
    from fashionclip.serve.middleware.keys import Keys
    from fashionclip.serve.middleware.rates import is_loopback
    from fashionclip.store import read_meta, shown_uri

    if key_file is None and not open_to_all and not is_loopback(host):
        stop_for_usage(
            f"{host} can be reached from other machines: make a key with --new-key read "
            "--key-file FILE and pass --key-file FILE, or pass --open-to-all"
        )
    read_meta(store)  # fails early if there is no index; the worker opens it
    if key_file is not None:
        Keys.read(key_file)
    settings = Settings(host=host, key_file=key_file, model=model_name, **further)
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", BLAS_SPIN_LOG2_CYCLES)  # for the worker

    def report_address(address: str) -> None:
        terminal.talk(f"{shown_uri(store)} at {address}")
        if as_json:
            terminal.write_json({"url": address})

    serve(store, settings, on_address=report_address)


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
