"""A run folder to a published model: weights, exports, card, training records, upload."""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, errors
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.errors import PublishError
from fashionclip.evaluate.results import Run, TaskResult
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.lines import reason_of
from fashionclip.publish.card import EXAMPLE, RunFacts, model_card, read_run_facts
from fashionclip.publish.exports import EXPORTS
from fashionclip.publish.limitations import results_of
from fashionclip.publish.parity import MAX_IMAGES, Parity, measure_parity
from fashionclip.sample import generate_images, sample_products
from fashionclip.train.recipe import PublishConfig, write_recipe
from fashionclip.train.run import RunFolder

HUB = "hub"
"""Given instead of a folder to publish on the Hugging Face hub."""
CARD = "README.md"
_NO_RIGHT = "the token has no write access there; check the owner's name and the token's rights"
_REFUSALS = {
    401: "the hub requires a token with write access: run 'hf auth login', or set HF_TOKEN",
    403: _NO_RIGHT,
    404: _NO_RIGHT,
}
_TRAINING_RECORDS = ("cost.json", "selection.json", "selection.md", "selection.svg")

OnStep = Callable[[str], None]
"""Called with a description of each step."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was published."""

    place: str
    """The folder, or the address of the commit."""
    parity: tuple[Parity, ...]


def publish_run(
    run: RunFolder,
    config: PublishConfig,
    *,
    pictures: Sequence[ImageRef] = (),
    audits: Sequence[Run] = (),
    token: str | None = None,
    on_step: OnStep | None = None,
) -> Published:
    """Write the chosen checkpoint of a run to a folder or to the hub.

    The folder has transformers' format, with ``openvino/``, ``onnx/`` and ``training/`` in it. It
    appears complete or not at all; an earlier publication in its place is replaced.

    Args:
        run: a run with a chosen checkpoint.
        config: the place (``hub``, a folder, or nothing for ``published/`` in the run), and the
            card's facts.
        pictures: images with captions that the exports are compared on; generated products if there
            are none.
        audits: runs of audits and probes of the chosen checkpoint, for the card's limitations.
        token: of the hub, with write access.
        on_step: called with each step.

    Raises:
        PublishError: nothing was chosen, an audit is of another model, the folder cannot be
            written, or the hub refuses.
        CheckpointError: the chosen checkpoint is damaged.
        MissingExtraError: onnx is not installed.
    """
    on_step = on_step or (lambda step: None)
    to = config.to or str(run.root / "published")
    target = None if to == HUB else Path(to)
    if target is None:
        _check_name(config.name)
    else:
        _check_replaceable(target)
    facts = read_run_facts(run)
    try:
        audited = results_of(audits, open_checkpoint(run.selected).fingerprint)
    except ValueError as exc:
        message = f"{exc}, the chosen checkpoint; audit {run.selected}"
        raise PublishError(message) from exc
    if target is None:  # asked before minutes of measuring
        with _hub_errors(config.name):
            HfApi(token=token).create_repo(config.name, private=config.private, exist_ok=True)
    parent = None if target is None else _parent(target)
    with tempfile.TemporaryDirectory(prefix=".publishing-", dir=parent) as temporary:
        folder = Path(temporary) / "model"
        parity = _write(facts, run, folder, config, pictures, audited, on_step)
        if target is None:
            on_step(f"uploading to {config.name}")
            return Published(_upload(folder, config.name, token), parity)
        _move(folder, target)
    return Published(str(target), parity)


def _write(
    facts: RunFacts,
    run: RunFolder,
    folder: Path,
    config: PublishConfig,
    pictures: Sequence[ImageRef],
    audited: Sequence[TaskResult],
    on_step: OnStep,
) -> tuple[Parity, ...]:
    try:
        on_step("writing the transformers folder")
        save_checkpoint(open_checkpoint(run.selected), folder)
        (folder / CARD).unlink(missing_ok=True)  # it would be the start's
        checkpoint: Checkpoint = open_checkpoint(folder)
        for name, export in EXPORTS.items():
            on_step(f"writing {name}")
            export(checkpoint, folder / name)
        on_step("comparing the exports")
        generated = _generated_products(1 if pictures else MAX_IMAGES)
        parity = measure_parity(folder, pictures or generated)
        images = f"{parity[0].n} {'held-out images' if pictures else 'generated products'}"
        text = model_card(facts, checkpoint, parity, config, parity_images=images, audited=audited)
        (folder / CARD).write_text(text, encoding="utf-8")
        if isinstance(example := generated[0].source, bytes):
            (folder / EXAMPLE).write_bytes(example)
        records = folder / "training"
        records.mkdir()
        if facts.recipe is not None:
            text = write_recipe(facts.recipe)
            (records / "recipe.toml").write_text(text, encoding="utf-8")
        for name in _TRAINING_RECORDS:
            if (run.root / name).exists():
                shutil.copyfile(run.root / name, records / name)
    except OSError as exc:
        message = f"the model cannot be written to {folder.parent} ({exc.strerror}); make room"
        raise PublishError(message) from exc
    return parity


def _generated_products(n_products: int) -> list[ImageRef]:
    """Generated products with their titles, so that no shop's photograph is published."""
    found = []
    for product, image in zip(
        sample_products(n_products), generate_images(n_products), strict=True
    ):
        file = io.BytesIO()
        image.save(file, "jpeg", quality=90)
        found.append(ImageRef(product.product_id, file.getvalue(), product.title))
    return found


def _check_replaceable(target: Path) -> None:
    # only an earlier publication is replaced
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / "config.json").exists()):
        message = f"{target} is not a model folder; choose another folder"
        raise PublishError(message)


def _parent(target: Path) -> Path:
    parent = target.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        message = f"{parent} cannot be created ({exc.strerror}); choose another folder"
        raise PublishError(message) from exc
    return parent


def _move(folder: Path, target: Path) -> None:
    try:
        if target.exists():
            target.rename(folder.parent / "earlier")
        folder.rename(target)
    except OSError as exc:
        message = f"the model cannot be moved to {target} ({exc.strerror}); choose another folder"
        raise PublishError(message) from exc


def _check_name(name: str) -> None:
    if not name:
        message = "a model on the hub needs a name; pass --name OWNER/MODEL"
        raise PublishError(message)
    try:
        validate_repo_id(name)
        is_valid = name.count("/") == 1
    except errors.HFValidationError:
        is_valid = False
    if not is_valid:
        message = f"'{name}' is not a repository's name; pass --name OWNER/MODEL"
        raise PublishError(message)


def _upload(folder: Path, name: str, token: str | None) -> str:
    """Upload a folder as one commit, and return the commit's URL."""
    with _hub_errors(name):
        commit = HfApi(token=token).upload_folder(
            repo_id=name, folder_path=folder, commit_message="Publish with fashionclip"
        )
    return str(commit.commit_url)


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # the client does not wrap its HTTP library's errors
        detail = reason_of(exc)
        reason = (
            f"the upload failed ({type(exc).__name__}: {detail}); check the network and "
            "HF_ENDPOINT, and run it again"
        )
        if isinstance(exc, errors.HfHubHTTPError):
            status = exc.response.status_code if exc.response is not None else 0
            reason = _REFUSALS.get(status, f"the hub refuses it ({detail})")
        elif isinstance(exc, ValueError):  # the client's error for a card that the hub refuses
            reason = f"the hub refuses the card ({detail})"
        message = f"the model cannot be uploaded to '{name}': {reason}"
        raise PublishError(message) from exc
