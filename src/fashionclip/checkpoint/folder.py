"""``Checkpoint``: one CLIP model as it lies in a folder of the transformers format."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from fashionclip.checkpoint.config import (
    CLIPConfig,
    read_config,
    read_preprocess,
    write_preprocess,
)
from fashionclip.checkpoint.hub import fetch
from fashionclip.checkpoint.weights import SHARDED, SINGLE, Weights, open_weights
from fashionclip.errors import CheckpointError
from fashionclip.images import Preprocess
from fashionclip.tokenizer import Tokenizer

BUILTIN = "builtin"
CARD = "README.md"


@dataclass(frozen=True)
class Checkpoint:
    """A CLIP model on disk, checked and ready to be run by an engine."""

    name: str
    """What it was opened by; ``builtin`` for the built-in model."""
    folder: Path
    config: CLIPConfig
    preprocess: Preprocess
    tokenizer: Tokenizer
    tensors: Weights

    def weights(self) -> Weights:
        """The tensors by their transformers names, read when they are asked for."""
        return self.tensors

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over weights, sizes, tokenizer and preprocessing; the name has no part."""
        digest = hashlib.sha256(self.tensors.fingerprint().encode())
        rules = json.loads(self.tokenizer.files()["tokenizer.json"])["model"]
        settings = [repr(self.config), repr(self.preprocess), json.dumps(rules, sort_keys=True)]
        digest.update("\n".join(settings).encode())
        return digest.hexdigest()[:16]

    @property
    def card(self) -> str:
        """The model card, Markdown; empty if the folder has none."""
        path = self.folder / CARD
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def open_checkpoint(
    name: str | Path | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Checkpoint:
    """Open a model by its name, and check that it is whole.

    Args:
        name: None or ``builtin`` for the built-in model, a local folder, or a hub repository.
        revision: branch, tag or commit of a hub repository.
        token: hub token for private repositories.
        cache_dir: where hub downloads are kept; None for the hub's own cache.

    Raises:
        CheckpointError: not found, not reachable, not CLIP, or broken.
    """
    if name is None or str(name) == BUILTIN:
        folder = Path(str(files("fashionclip").joinpath(BUILTIN)))
        return _read(folder, BUILTIN)
    local = Path(name).expanduser()
    if local.is_dir():
        return _read(local, str(name))
    if isinstance(name, Path) or local.exists() or str(name).startswith((".", "/", "~", "\\")):
        what = "is a file, not a folder" if local.exists() else "does not exist"
        message = f"the model folder {local} {what}; pass a folder with config.json in it"
        raise CheckpointError(message)
    return _read(fetch(name, revision=revision, token=token, cache_dir=cache_dir), name)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint as a folder that transformers 4 and 5 load unchanged.

    The folder appears whole or not at all where it did not exist; in an existing folder each
    file is replaced whole.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    raw = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    for tower, part in (("text", checkpoint.config.text), ("vision", checkpoint.config.vision)):
        raw[f"{tower}_config"] = {
            **(raw.get(f"{tower}_config") or {}),
            **(raw.pop(f"{tower}_config_dict", None) or {}),
            "hidden_act": part.activation,  # never left to a reader's default
        }
    texts = {"config.json": json.dumps({"model_type": "clip", **raw}, indent=2)}
    texts |= checkpoint.tokenizer.files()
    texts["preprocessor_config.json"] = json.dumps(
        write_preprocess(checkpoint.preprocess), indent=2
    )
    if checkpoint.card:
        texts[CARD] = checkpoint.card
    weights = [*checkpoint.folder.glob("model*.safetensors"), checkpoint.folder / SHARDED]
    write_folder(folder, texts, [path for path in weights if path.exists()])


def write_folder(
    folder: Path,
    texts: Mapping[str, str],
    copies: list[Path],
    *,
    blobs: Mapping[str, bytes] | None = None,
) -> None:
    """Put files into a folder: complete beside it first, then each moved into its place.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            draft = Path(temporary) / "draft"
            draft.mkdir()
            for name, text in texts.items():
                (draft / name).write_text(text, encoding="utf-8")
            for name, blob in (blobs or {}).items():
                (draft / name).write_bytes(blob)
            for path in copies:
                shutil.copyfile(path, draft / path.name)
            if not folder.exists():
                draft.rename(folder)
                return
            for path in draft.iterdir():
                path.replace(folder / path.name)
    except OSError as exc:
        message = f"the checkpoint cannot be written to {folder} ({exc.strerror}); choose another"
        raise CheckpointError(message) from exc


def _read(folder: Path, name: str) -> Checkpoint:
    raw = _json(folder / "config.json")
    if raw is None:
        message = f"{folder} has no config.json; it is not a checkpoint in the transformers format"
        raise CheckpointError(message)
    config = read_config(raw, place=str(folder / "config.json"))
    place = folder / "preprocessor_config.json"
    settings = _json(place)
    if settings is None:
        place = folder / "processor_config.json"
        settings = (_json(place) or {}).get("image_processor")
    tensors = open_weights(folder, config)
    scale = float(tensors["logit_scale"].reshape(-1)[0])
    return Checkpoint(
        name=name,
        folder=folder,
        config=replace(config, logit_scale=scale),
        preprocess=read_preprocess(settings, config, place=str(place)),
        tokenizer=Tokenizer.from_folder(folder, context_length=config.text.context_length),
        tensors=tensors,
    )


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        message = f"{path} cannot be read ({exc}); fetch the checkpoint again"
        raise CheckpointError(message) from exc
    if not isinstance(content, dict):
        message = f"{path} does not hold a JSON object; fetch the checkpoint again"
        raise CheckpointError(message)
    return content


__all__ = ["BUILTIN", "SINGLE", "Checkpoint", "open_checkpoint", "save_checkpoint", "write_folder"]
