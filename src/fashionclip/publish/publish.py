"""From a run folder to what others can use: weights, exports, card, and how it came about."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.errors import PublishError
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.publish.card import EXAMPLE, model_card
from fashionclip.publish.exports import EXPORTS
from fashionclip.publish.facts import RunFacts, read_run_facts
from fashionclip.publish.hub import check_name, open_repository, upload
from fashionclip.publish.parity import MOST, Parity, measure_parity
from fashionclip.sample import generate_images, sample_products
from fashionclip.train.recipe import PublishConfig, write_recipe
from fashionclip.train.run import RunFolder

HUB = "hub"
"""What is written in place of a folder to publish on the hub."""
CARD = "README.md"
_HISTORY = ("cost.json", "selection.json", "selection.md", "selection.svg")

Tell = Callable[[str], None]
"""Called with what is being done."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was published."""

    place: str
    """The folder, or the address of the commit."""
    parity: tuple[Parity, ...]


def publish_run(
    run: RunFolder,
    wishes: PublishConfig,
    *,
    pictures: Sequence[ImageRef] = (),
    token: str | None = None,
    tell: Tell | None = None,
) -> Published:
    """Write the chosen checkpoint of a run for others, into a folder or onto the hub.

    The folder is in transformers' format, with ``openvino/``, ``onnx/`` and ``training/`` in it.
    It appears whole or not at all; an earlier publication in its place is replaced.

    Args:
        run: a run with a chosen checkpoint.
        wishes: the place (``hub``, a folder, or nothing for ``published/`` in the run), and what
            the card says.
        pictures: with captions, to compare the exports on; drawn products if there are none.
        token: of the hub, with the right to write.
        tell: called with each step.

    Raises:
        PublishError: nothing was chosen, the place cannot be written, or the hub refuses.
        CheckpointError: the chosen checkpoint is damaged.
        MissingExtraError: onnx is not installed.
    """
    tell = tell or (lambda what: None)
    to = wishes.to or str(run.root / "published")
    if to == HUB:
        if not wishes.name:
            message = "a model on the hub needs a name; pass --name OWNER/MODEL"
            raise PublishError(message)
        check_name(wishes.name)
    target = None if to == HUB else Path(to)
    if target is not None:
        _check_free(target)
    facts = read_run_facts(run)
    if target is None:
        open_repository(wishes.name, private=wishes.private, token=token)
    home = None if target is None else _parent(target)
    with tempfile.TemporaryDirectory(prefix=".publishing-", dir=home) as draft:
        folder = Path(draft) / "model"
        parity = _write(facts, run, folder, wishes, pictures, tell)
        if target is None:
            tell(f"uploading to {wishes.name}")
            return Published(upload(folder, wishes.name, token=token), parity)
        _move(folder, target)
    return Published(str(target), parity)


def _write(
    facts: RunFacts,
    run: RunFolder,
    folder: Path,
    wishes: PublishConfig,
    pictures: Sequence[ImageRef],
    tell: Tell,
) -> tuple[Parity, ...]:
    try:
        tell("writing the transformers folder")
        save_checkpoint(open_checkpoint(run.selected), folder)
        (folder / CARD).unlink(missing_ok=True)  # it would be the start's
        checkpoint: Checkpoint = open_checkpoint(folder)
        for name, export in EXPORTS.items():
            tell(f"writing {name}")
            export(checkpoint, folder / name)
        tell("comparing the exports")
        drawn = _drawn()
        parity = measure_parity(folder, pictures or drawn)
        what = "held-out pictures" if pictures else "drawn products"
        text = model_card(
            facts, checkpoint, parity, wishes, parity_pictures=f"{parity[0].n} {what}"
        )
        (folder / CARD).write_text(text, encoding="utf-8")
        source = drawn[0].source
        if isinstance(source, bytes):
            (folder / EXAMPLE).write_bytes(source)
        history = folder / "training"
        history.mkdir()
        if facts.recipe is not None:
            text = write_recipe(facts.recipe)
            (history / "recipe.toml").write_text(text, encoding="utf-8")
        for name in _HISTORY:
            if (run.root / name).exists():
                shutil.copyfile(run.root / name, history / name)
    except OSError as exc:
        message = f"the model cannot be written to {folder.parent} ({exc.strerror}); make room"
        raise PublishError(message) from exc
    return parity


def _drawn() -> list[ImageRef]:
    """Drawn products with their titles; nobody's photographs go into a published folder."""
    import io

    found = []
    for product, drawing in zip(sample_products(MOST), generate_images(MOST), strict=True):
        file = io.BytesIO()
        drawing.save(file, "jpeg", quality=90)
        found.append(ImageRef(product.product_id, file.getvalue(), product.title))
    return found


def _check_free(target: Path) -> None:
    """Refuse to write over what is no earlier publication.

    Raises:
        PublishError: there is something else in its place.
    """
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / "config.json").exists()):
        message = f"{target} holds something that is no model; name another folder"
        raise PublishError(message)


def _parent(target: Path) -> Path:
    parent = target.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        message = f"{parent} cannot be made ({exc.strerror}); name another folder"
        raise PublishError(message) from exc
    return parent


def _move(folder: Path, target: Path) -> None:
    try:
        if target.exists():
            target.rename(folder.parent / "earlier")
        folder.rename(target)
    except OSError as exc:
        message = f"the model cannot be moved to {target} ({exc.strerror}); name another folder"
        raise PublishError(message) from exc
