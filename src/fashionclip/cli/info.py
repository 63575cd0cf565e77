"""``fashionclip info``: describe a model or an index."""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from fashionclip.cli import terminal
from fashionclip.cli.options import examples, json_option, storage_option

if TYPE_CHECKING:
    from fashionclip.store import StoreInfo


@click.command(
    epilog=examples(
        "$ fashionclip info",
        "$ fashionclip info shop.lance",
        "$ fashionclip info patrickjohncyh/fashion-clip --json",
    )
)
@click.argument("what", metavar="[MODEL|STORE]", required=False)
@storage_option
@json_option
def command(what: str | None, storage_options: Mapping[str, str], as_json: bool) -> None:
    """Describe a model or an index; without a name, the built-in model."""
    from fashionclip.store import holds_store, open_store

    if what is not None and ("://" in what or holds_store(what, storage_options=storage_options)):
        facts = facts_of(open_store(what, storage_options=storage_options).info())
    else:
        facts = model_facts(what)
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


def facts_of(info: "StoreInfo") -> dict[str, object]:
    """The facts about an index."""
    from fashionclip.store import local_folder

    meta, folder = info.meta, local_folder(info.meta.uri)
    rejects = None if folder is None else folder / "rejects.jsonl"
    has_rejects = rejects is not None and rejects.exists() and rejects.stat().st_size
    roles = {role: column for role, column in meta.roles.as_dict().items() if column}
    return {
        "index": meta.uri,
        "products": info.n_products,
        "columns": dict(meta.columns),
        "roles": roles,
        "model": meta.model,
        "fingerprint": meta.fingerprint,
        "dim": meta.dim,
        "vectors": meta.vectors,
        "search": "approximate" if info.is_approximate else "exact",
        "size_bytes": info.size_bytes,
        "created": meta.created,
        "rejects": str(rejects) if has_rejects else None,
    }


def model_facts(name: str | None) -> dict[str, object]:
    """The facts about a model, and about the engine that would run it here.

    Raises:
        CheckpointError: no such model, or not a CLIP checkpoint.
        EngineError: no engine here can run it.
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
        "architecture": config.architecture,
        "fit": checkpoint.preprocess.fit,
        "text_tokens": config.text.context_length,
        "parameters": sum(
            math.prod(checkpoint.weights().shape(tensor)) for tensor in checkpoint.weights()
        ),
        "device": engine.device,
        "precision": engine.precision,
        "provenance": provenance(checkpoint.card),
        "card": checkpoint.card or None,
    }


def provenance(card: str) -> str | None:
    """What the metadata of a model card say the weights were made of.

    Args:
        card: Markdown; its ``provenance`` is taken, or else the hub's ``base_model``.
    """
    from huggingface_hub import ModelCard

    if not card.startswith("---"):
        return None
    try:
        metadata = ModelCard(card, ignore_metadata_errors=True).data
    except Exception:  # whatever the parser of somebody's metadata raises; the card is shown anyway
        return None
    found = metadata.get("provenance") or metadata.get("base_model")
    return ", ".join(map(str, found)) if isinstance(found, list) else found and str(found)


def without_front_matter(card: str) -> str:
    """Remove the metadata block at the start of a model card."""
    return re.sub(r"\A---\n.*?\n---\n+", "", card, count=1, flags=re.DOTALL)


def _shown(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        return "\n".join(f"{name} ({what})" for name, what in value.items())
    if isinstance(value, int):
        return f"{value / 1e6:,.1f} MB" if name == "size_bytes" else f"{value:,}"
    return value
