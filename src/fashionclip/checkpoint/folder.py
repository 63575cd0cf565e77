"""``Checkpoint``: one CLIP model in a folder of the transformers format, local or from the hub."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from fashionclip.checkpoint.config import (
    DEFAULT_DIM,
    CLIPConfig,
    read_config,
    read_preprocess,
    tower_settings,
    write_preprocess,
)
from fashionclip.checkpoint.weights import (
    SHARDED,
    SINGLE,
    Layout,
    Weights,
    open_weights,
    write_weights,
)
from fashionclip.errors import CheckpointError
from fashionclip.images.decode import Preprocess
from fashionclip.lines import reason_of
from fashionclip.text.tokenizer import Tokenizer

BUILTIN = "builtin"
CARD = "README.md"
TRAINED_ON = "trained-on.safetensors"
"""Digests of the training data, where the trainer wrote them; see ``evaluate/leakage.py``."""
_EXCLUSIVE = (SINGLE, SHARDED, "model-*-of-*.safetensors", "processor_config.json", TRAINED_ON)
"""Files of an earlier checkpoint that would be mistaken for part of one saved over it."""
HUB_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "README.md",
    "trained-on.safetensors",
)
"""The files that are downloaded; a repository may also hold weights for other frameworks."""

HUB_TIMEOUT_S = 10.0
"""A hub that does not answer within this time counts as unreachable."""
PROGRESS_DELAY_S = 1.0
"""Downloads that take less show no progress bar."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A CLIP model on disk, checked and ready for an engine."""

    name: str
    """The name that it was opened by; ``builtin`` for the built-in model."""
    folder: Path
    config: CLIPConfig
    preprocess: Preprocess
    tokenizer: Tokenizer
    tensors: Weights

    def weights(self) -> Weights:
        """The tensors by their names in transformers, read on access."""
        return self.tensors

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over weights, sizes, tokenizer and preprocessing, not the name."""
        digest = hashlib.sha256(self.tensors.fingerprint().encode())
        for part in (repr(self.config), repr(self.preprocess), self.tokenizer.rules.to_str()):
            digest.update(part.encode())
        return digest.hexdigest()[:16]

    @property
    def card(self) -> str:
        """The model card as Markdown; empty if the folder has none."""
        path = self.folder / CARD
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def open_checkpoint(
    name: str | Path | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Checkpoint:
    """Open a model by its name, and check that it is complete.

    Args:
        name: None or ``builtin`` for the built-in model, a local folder, or a hub repository.
        revision: branch, tag or commit of a hub repository.
        token: hub token for private repositories.
        cache_dir: where hub downloads are cached; None for the hub's own cache.

    Raises:
        CheckpointError: not found, not reachable, not a CLIP, or damaged.
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
    return _read(_fetch(name, revision=revision, token=token, cache_dir=cache_dir), name)


def save_checkpoint(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    weights: tuple[Layout, Callable[[str], np.ndarray]] | None = None,
) -> None:
    """Write a checkpoint as a folder that transformers 4 and 5 load unchanged.

    A new folder appears complete or not at all. In an existing folder each file is replaced
    atomically, and another checkpoint's weights and processor are removed.

    Args:
        checkpoint: the model.
        folder: where it is written.
        weights: other weights than the checkpoint's own, as ``write_weights`` takes them; the card
            and the digests of the training data, which belong to its own, are then left out.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    raw = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    config = checkpoint.config
    for tower, part in (("text", config.text), ("vision", config.vision)):
        settings = {**(tower_settings(raw, tower) or {}), "hidden_act": part.activation}
        if config.projection_dim != settings.get("projection_dim", config.projection_dim):
            settings["projection_dim"] = config.projection_dim
        raw[f"{tower}_config"] = settings  # the activation never depends on a reader's default
        raw.pop(f"{tower}_config_dict", None)
    if config.projection_dim != raw.get("projection_dim", DEFAULT_DIM):
        raw["projection_dim"] = config.projection_dim
    raw.pop("prefix_dims", None)
    if config.prefix_dims:
        raw["prefix_dims"] = list(config.prefix_dims)
    texts = {"config.json": json.dumps({"model_type": "clip", **raw}, indent=2)}
    texts |= checkpoint.tokenizer.files()
    texts["preprocessor_config.json"] = json.dumps(
        write_preprocess(checkpoint.preprocess), indent=2
    )
    if weights is not None:
        layout, tensor = weights
        write_folder(
            folder, texts, [], write=lambda draft: write_weights(draft / SINGLE, layout, tensor)
        )
        return
    if checkpoint.card:
        texts[CARD] = checkpoint.card
    copies = [*checkpoint.tensors.paths]
    if checkpoint.folder / SINGLE not in copies:
        copies.append(checkpoint.folder / SHARDED)
    if (checkpoint.folder / TRAINED_ON).exists():
        copies.append(checkpoint.folder / TRAINED_ON)
    write_folder(folder, texts, copies)


def write_folder(
    folder: Path,
    texts: Mapping[str, str],
    copies: list[Path],
    *,
    write: Callable[[Path], object] | None = None,
) -> None:
    """Write files into a folder: first all of them beside it, then each is moved into place.

    Args:
        folder: where the files go.
        texts: text by file name.
        copies: files to copy.
        write: called with a folder to write further files into.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            draft = Path(temporary) / "draft"
            draft.mkdir()
            for name, text in texts.items():
                (draft / name).write_bytes(text.encode())  # the same line ends on every system
            if write is not None:
                write(draft)
            for path in copies:
                shutil.copyfile(path, draft / path.name)
            if not folder.exists():
                draft.rename(folder)
                return
            names = {path.name for path in draft.iterdir()}
            for name in names:
                (draft / name).replace(folder / name)
            for pattern in _EXCLUSIVE:
                for path in folder.glob(pattern):
                    if path.name not in names:
                        path.unlink()
    except OSError as exc:
        message = f"the checkpoint cannot be written to {folder} ({exc.strerror}); choose another"
        raise CheckpointError(message) from exc


def _read(folder: Path, name: str) -> Checkpoint:
    raw = _json(folder / "config.json")
    if raw is None:
        message = f"{folder} has no config.json; it is not a checkpoint in the transformers format"
        raise CheckpointError(message)
    config = read_config(raw, place=str(folder / "config.json"))
    settings, place = _image_settings(folder)
    tensors = open_weights(folder, config, name=name)
    scale = float(tensors["logit_scale"].reshape(-1)[0])
    tokenizer = Tokenizer.from_folder(folder, context_length=config.text.context_length)
    if config.end_of_text == "first" and config.end_id != tokenizer.end_id:
        message = (
            f"{folder}: config.json ends texts with token {config.end_id}, but the tokenizer with "
            f"{tokenizer.end_id}; set text_config.eos_token_id, or fetch both from one checkpoint"
        )
        raise CheckpointError(message)
    return Checkpoint(
        name=name,
        folder=folder,
        config=replace(config, logit_scale=scale),
        preprocess=read_preprocess(settings, config, place=str(place)),
        tokenizer=tokenizer,
        tensors=tensors,
    )


def _image_settings(folder: Path) -> tuple[dict[str, Any] | None, Path]:
    """The settings that transformers reads: its version 5 prefers processor_config.json."""
    flat_place, nested_place = folder / "preprocessor_config.json", folder / "processor_config.json"
    flat, nested = _json(flat_place), (_json(nested_place) or {}).get("image_processor")
    if not isinstance(nested, dict):
        return flat, flat_place
    # our own key may have been added to the older file by hand
    return ({"fit": flat["fit"]} if flat and "fit" in flat else {}) | nested, nested_place


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


def _fetch(
    repository: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Download a repository's CLIP files into the hub's cache, unless they are there.

    ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` work as in the hub's own
    client. Without a network, the cache is used.

    Raises:
        CheckpointError: no such repository or revision, no access, or no network and no copy.
    """
    from huggingface_hub import errors, snapshot_download

    answers = True
    try:
        answers = _hub_answers(repository, revision, token)
        folder = snapshot_download(
            repository,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=list(HUB_FILES),
            etag_timeout=HUB_TIMEOUT_S,
            tqdm_class=_progress_bar(),
            local_files_only=not answers,
        )
    except errors.GatedRepoError as exc:
        reason = "access is granted on its page first; then pass token= or run 'hf auth login'"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.RepositoryNotFoundError as exc:
        reason = (
            "no folder here has this name, and the hub has no such repository, or a private one: "
            "check the name, or pass token="
        )
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.RevisionNotFoundError as exc:
        reason = f"it has no revision '{revision}'; check the branch, tag or commit"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.HFValidationError as exc:
        reason = "this is neither a local folder nor a hub name such as 'owner/model'"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except Exception as exc:  # the hub's client does not wrap its HTTP library's errors
        detail = reason_of(exc, width=200)
        reason = f"the download failed ({type(exc).__name__}: {detail}); run it again to go on"
        if not answers:
            reason = (
                "the hub cannot be reached and the cache holds no whole copy; check the network, "
                "HF_ENDPOINT and HF_HUB_OFFLINE, or pass a local folder"
            )
        raise CheckpointError(_sentence(repository, reason)) from exc
    return Path(folder)


def _hub_answers(repository: str, revision: str | None, token: str | None) -> bool:
    """Whether the hub answers in time; its client sets no limit for this request."""
    from huggingface_hub import HfApi, errors

    try:
        HfApi(token=token).model_info(repository, revision=revision, timeout=HUB_TIMEOUT_S)
    except errors.HfHubHTTPError:
        return True  # a refusal is an answer, and gets its message above
    except Exception:  # its HTTP library's errors, which differ between versions
        return False
    return True


def _progress_bar() -> type:
    """The client's progress bar, on terminals only and after a delay."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: object, **settings: object) -> None:
            quiet = {"disable": None, "delay": PROGRESS_DELAY_S, **settings}
            super().__init__(*args, **quiet)  # type: ignore[no-untyped-call, unused-ignore]

    return Bar


def _sentence(repository: str, reason: str) -> str:
    return f"the model '{repository}' cannot be opened: {reason}"
