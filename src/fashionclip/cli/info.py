"""``fashionclip info``: what a model or an index is."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import examples, json_option

if TYPE_CHECKING:
    from fashionclip.index import IndexInfo


@click.command(
    epilog=examples(
        "$ fashionclip info",
        "$ fashionclip info shop.lance",
        "$ fashionclip info patrickjohncyh/fashion-clip --json",
    )
)
@click.argument("what", metavar="[MODEL|STORE]", required=False)
@json_option
def command(what: str | None, as_json: bool) -> None:
    """Say what a model or an index is; without a name, what the built-in model is."""
    is_store = what is not None and (Path(what) / "index.json").exists()
    facts = index_facts(Path(what or "")) if is_store else model_facts(what)
    if as_json:
        terminal.write_json(facts)
        return
    card = facts.pop("card", None)
    terminal.show_facts(
        {name.removesuffix("_bytes"): _shown(name, value) for name, value in facts.items()}
    )
    if isinstance(card, str):
        click.echo()
        terminal.show_markdown(without_front_matter(card))


def index_facts(store: Path) -> dict[str, object]:
    """Gather what an index knows about itself.

    Raises:
        StoreError: there is no index there, or it is damaged.
    """
    from fashionclip.index import Index

    return facts_of(Index.open(store).info())


def facts_of(info: "IndexInfo") -> dict[str, object]:
    """Name the figures of an index."""
    rejects = info.path / "rejects.jsonl"
    return {
        "index": str(info.path),
        "products": info.count,
        "columns": dict(info.columns),
        "model": info.manifest.model,
        "fingerprint": info.manifest.fingerprint,
        "dim": info.manifest.dim,
        "search": "approximate" if info.is_approximate else "exact",
        "size_bytes": info.size_bytes,
        "created": info.manifest.created,
        "rejects": str(rejects) if rejects.exists() and rejects.stat().st_size else None,
    }


def model_facts(name: str | None) -> dict[str, object]:
    """Gather what a model folder says about itself, and what would run it here.

    Raises:
        CheckpointError: no such model, or not a CLIP checkpoint.
        EngineError: nothing here can run it.
    """
    from fashionclip.checkpoint import open_checkpoint
    from fashionclip.engines import open_engine

    checkpoint = open_checkpoint(name)
    config, engine = checkpoint.config, open_engine(checkpoint)
    return {
        "model": checkpoint.name,
        "folder": str(checkpoint.folder),
        "fingerprint": checkpoint.fingerprint,
        "dim": config.projection_dim,
        "image_px": checkpoint.preprocess.size_px,
        "fit": checkpoint.preprocess.fit,
        "text_tokens": config.text.context_length,
        "parameters": sum(
            math.prod(checkpoint.weights().shape(tensor)) for tensor in checkpoint.weights()
        ),
        "device": engine.device,
        "precision": engine.precision,
        "card": checkpoint.card or None,
    }


def without_front_matter(card: str) -> str:
    """Cut the block of metadata that a model card begins with."""
    return re.sub(r"\A---\n.*?\n---\n+", "", card, count=1, flags=re.DOTALL)


def _shown(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        return "\n".join(f"{name} ({kind})" for name, kind in value.items())
    if isinstance(value, int):
        return f"{value / 1e6:,.1f} MB" if name == "size_bytes" else f"{value:,}"
    return value
