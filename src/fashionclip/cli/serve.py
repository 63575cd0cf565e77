"""``fashionclip serve``: an index as an HTTP service with a web page."""

import os
from pathlib import Path

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

SPIN = "16"
"""OpenBLAS' threads wait 2 ** 16 cycles for more work, long enough between the parts of a product,
instead of 2 ** 26, some 20 ms in which nobody else has their cores."""


@click.command(
    epilog=examples(
        "$ fashionclip serve shop.lance",
        "$ fashionclip serve --new-key read --key-file shop.keys",
        "$ fashionclip serve shop.lance --host 0.0.0.0 --key-file shop.keys",
    )
)
@click.argument("store", type=click.Path(path_type=Path), required=False)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 is any."
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File of API keys; with it, every request needs one.",
)
@click.option(
    "--new-key",
    type=click.Choice(["read", "write"]),
    help="Make a key, add its hash to --key-file, print it once, and end.",
)
@click.option(
    "--open-to-all",
    is_flag=True,
    help="Listen on an address of the network without keys: whoever reaches it may write.",
)
@click.option(
    "--allow-image-urls",
    is_flag=True,
    help="Fetch pictures that requests name by URL, from public addresses only.",
)
@private_option
@click.option(
    "--rate",
    "rate_per_minute",
    type=click.IntRange(min=0),
    default=600,
    show_default=True,
    help="Requests a minute of one key, or of one address without keys; 0 is no limit.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Requests that may wait; one more is told to come back (429).",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    help="Requests that are worked on together; 1 is no batching.",
)
@model_options
@json_option
def command(
    store: Path | None,
    host: str,
    port: int,
    key_file: Path | None,
    new_key: str | None,
    open_to_all: bool,
    allow_image_urls: bool,
    allow_private: bool,
    rate_per_minute: int,
    queue: int,
    max_batch: int,
    model_name: str | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Serve the index in STORE: a search page for people, an API for programs.

    It listens on this machine alone unless told otherwise. Logs are JSON lines on stderr. Ctrl-C
    or SIGTERM end it after it has answered what it has accepted; SIGHUP puts a fresh process in
    the place of the one that serves.
    """
    require_extra("serve", "fastapi", "prometheus_client", "sqlglot", "uvicorn")
    if new_key is not None:
        _make_key(key_file, new_key, as_json=as_json)
        return
    if store is None:
        stop_for_usage("say which index to serve: fashionclip serve shop.lance")
    from fashionclip.serve.app import serve
    from fashionclip.serve.callers import is_loopback
    from fashionclip.serve.keys import Keys
    from fashionclip.serve.settings import Settings

    if key_file is None and not open_to_all and not is_loopback(host):
        stop_for_usage(
            f"{host} can be reached from other machines: make a key with --new-key read "
            "--key-file FILE and give --key-file FILE, or say --open-to-all"
        )
    _check_index(store)
    if key_file is not None:
        Keys.read(key_file)
    settings = Settings(
        host=host,
        port=port,
        model=model_name,
        device=device,
        precision=precision,
        key_file=key_file,
        allow_image_urls=allow_image_urls,
        allow_private=allow_private,
        rate_per_minute=rate_per_minute,
        queue=queue,
        max_batch=max_batch,
    )
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", SPIN)  # read by the process that serves

    def tell(address: str) -> None:
        terminal.talk(f"{store} at {address}")
        if as_json:
            terminal.write_json({"url": address})

    serve(store, settings, on_address=tell)


def _check_index(store: Path) -> None:
    """Look whether there is an index at all; opening it is for the process that serves.

    Raises:
        StoreError: there is none.
    """
    from fashionclip.index.folder import Manifest

    Manifest.read(store)


def _make_key(key_file: Path | None, scope: str, *, as_json: bool) -> None:
    """Print a new key.

    Raises:
        ServiceError: no file was named for it, or it cannot be written.
    """
    from fashionclip.serve.keys import new_key

    if key_file is None:
        message = f"name the file that keeps the key's hash: --new-key {scope} --key-file FILE"
        raise ServiceError(message)
    secret = new_key(key_file, scope)
    if as_json:
        terminal.write_json({"key": secret, "scope": scope})
    else:
        click.echo(secret)
    terminal.talk(f"its hash is in {key_file}; the key itself is nowhere: keep it now")
