"""What a run needs before its first step: pairs, split, start, batch size and number of steps.

``prepare`` reads the catalogue and its images once, in the first process alone for the images.
``claim`` writes the run folder: a folder belongs to one recipe and one state of the data. With the
same recipe a run is resumed; with another recipe, or when the data have changed, it stops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.errors import TrainingError
from fashionclip.train.data import (
    DataSource,
    Split,
    image_digests,
    open_data,
    pair_digests,
    split_pairs,
)
from fashionclip.train.distributed import SINGLE_PROCESS, ProcessGroup, broadcast
from fashionclip.train.recipe import Recipe, read_recipe, write_recipe
from fashionclip.train.run import (
    RunFolder,
    RunRejects,
    describe_run,
    read_facts,
    write_facts,
    write_log,
)

FREE_KEYS = {
    ("data", "workers"),
    ("data", "cache_gb"),
    ("model", "compile"),
    ("model", "device"),
    ("model", "parallel"),
    ("schedule", "state_every"),
    ("schedule", "log_every"),
}
"""Keys that change no result, so that a run can be resumed with other values."""
LEARNING_GROUPS = ("data", "model", "loss", "optimizer", "schedule", "augment")
"""Groups that the weights depend on."""
FINISHED = ("finished", "stopped early")
"""Statuses of a run that is not resumed."""
_DIGESTS = "data-digests.bin"
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class TrainSetup:
    """The data and the start of a run."""

    recipe: Recipe
    source: DataSource
    split: Split
    images: Sequence[bytes]
    """Digests of the images."""
    start: Checkpoint
    """As it was published; the run may compute with another activation."""
    batch_size: int
    """The recipe's, or fewer where there are fewer pairs."""
    group: ProcessGroup = SINGLE_PROCESS

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        schedule = self.recipe.schedule
        steps_per_epoch = len(self.split.train) // self.batch_size
        return schedule.steps or max(1, round(schedule.epochs * steps_per_epoch))


def prepare(
    recipe: Recipe,
    run: RunFolder,
    group: ProcessGroup = SINGLE_PROCESS,
    *,
    source: DataSource | None = None,
) -> TrainSetup:
    """Open the start, and read and split the data; nothing is written.

    Args:
        recipe: the settings.
        run: a new folder, or one of the same recipe.
        group: the processes of the run.
        source: the pairs; those that ``recipe.data`` names if None.

    Raises:
        TrainingError: there are too few pairs, or the folder holds another recipe's run.
        FashionCLIPError: the data or the start cannot be read.
    """
    _check_recipe(recipe, run)
    for term in ("prompts", "patches"):
        if group.size > 1 and getattr(recipe.loss, term):
            message = f"loss.{term} trains in one process; run it without torchrun"
            raise TrainingError(message)
    start = open_checkpoint(recipe.model.start)
    _check_prefixes(recipe, start)
    source = source or open_data(recipe.data)
    images = broadcast(image_digests(source) if group.is_first else [])
    split = split_pairs(source, images, recipe.data)
    batch_size = _batch_size(source, split, recipe, group)
    return TrainSetup(recipe, source, split, images, start, batch_size, group)


def claim(setup: TrainSetup, run: RunFolder, *, changed_data: bool) -> None:
    """Write the run folder for this recipe and these data.

    Args:
        setup: recipe and data.
        run: a new folder, or one of the same recipe.
        changed_data: resume although the data have changed.

    Raises:
        TrainingError: the data have changed, or the folder cannot be written.
    """
    digests = b"".join(pair_digests(setup.source, setup.images))
    if not changed_data:
        _check_data(setup.source, digests, run)
    facts = read_facts(run)
    data_hash = sha256(digests).hexdigest()[:16]
    split = setup.split
    write_facts(
        run,
        **{
            **(facts or describe_run(seed=setup.recipe.schedule.seed)),
            "status": facts.get("status", "running"),
            "data_hash": data_hash,
            "pairs": {
                "read": len(setup.source),
                "rejected": len(setup.source.rejects),
                "train": len(split.train),
                "development": len(split.development),
                "test": len(split.test),
                "left_out": split.n_left_out,
                "held_out_by": split.held_out_by,
            },
            "start": {"name": setup.start.name, "fingerprint": setup.start.fingerprint},
            "batch_size": setup.batch_size,
        },
    )
    run.write(run.recipe, write_recipe(setup.recipe))
    run.write(run.root / _DIGESTS, digests)
    if facts.get("data_hash", data_hash) != data_hash:
        write_log(run, {"event": "data changed", "data_hash": data_hash})
    if not run.start.exists():
        save_checkpoint(setup.start, run.start)
    rejects = RunRejects(run)
    for reject in setup.source.rejects:
        rejects.add(reject)
    wanted = setup.recipe.schedule.batch_size
    if not facts and setup.batch_size < wanted:
        reason = f"{len(split.train)} pairs are fewer than a batch of {wanted}"
        event = {"event": "smaller batch", "reason": reason, "batch_size": setup.batch_size}
        write_log(run, event)


def _check_recipe(recipe: Recipe, run: RunFolder) -> None:
    if not run.recipe.exists():
        return
    earlier = read_recipe(run.recipe)
    for group in LEARNING_GROUPS:
        before, now = getattr(earlier, group).model_dump(), getattr(recipe, group).model_dump()
        for key, value in now.items():
            if before[key] != value and (group, key) not in FREE_KEYS:
                message = (
                    f"{run.root} holds a run with {group}.{key} = {before[key]!r}, now it is "
                    f"{value!r}; resume with the same recipe, or name another folder"
                )
                raise TrainingError(message)


def _check_prefixes(recipe: Recipe, start: Checkpoint) -> None:
    dim = start.config.projection_dim
    if too_long := [length for length in recipe.loss.prefixes if length >= dim]:
        message = (
            f"loss.prefixes has {too_long[0]}, and the vectors of {start.name} have {dim} numbers: "
            "choose shorter ones"
        )
        raise TrainingError(message)


def _batch_size(source: DataSource, split: Split, recipe: Recipe, group: ProcessGroup) -> int:
    wanted, n_pairs = recipe.schedule.batch_size, len(split.train)
    if wanted % group.size:
        message = (
            f"schedule.batch_size is {wanted}, which {group.size} processes cannot share evenly; "
            f"make it {wanted // group.size * group.size or group.size}"
        )
        raise TrainingError(message)
    n_held_out = len(split.development) + len(split.test)
    if n_pairs < 2 * group.size:
        message = (
            f"{recipe.data.catalog}: {n_pairs} pairs to learn from ({len(source.rejects)} rows "
            f"rejected, {n_held_out} pairs held out); there must be at least {2 * group.size}"
        )
        raise TrainingError(message)
    captions = {source[i].caption.casefold() for i in split.train.tolist()}
    if len(captions) < 2:
        message = (
            f"{recipe.data.catalog}: all {n_pairs:,} captions are '{captions.pop()[:60]}'; a model "
            "cannot learn from equal captions. Check data.columns, such as title=NAME"
        )
        raise TrainingError(message)
    return min(wanted, n_pairs // group.size * group.size)


def _check_data(source: DataSource, digests: bytes, run: RunFolder) -> None:
    path = run.root / _DIGESTS
    before = path.read_bytes() if path.exists() else digests
    if before == digests:
        return
    then, now = (np.frombuffer(d, np.uint8).reshape(-1, _DIGEST_BYTES) for d in (before, digests))
    n_common = min(len(then), len(now))
    differ = np.flatnonzero((then[:n_common] != now[:n_common]).any(axis=1))
    first = int(differ[0]) if len(differ) else n_common
    where = f"{source[first].pair_id} (row {source[first].row})" if first < len(now) else "the end"
    message = (
        f"the data have changed since {run.root} began: {len(then):,} pairs then, {len(now):,} "
        f"now, {len(differ):,} of them differ, the first at {where}; start a new run in another "
        "folder, or resume with --changed-data"
    )
    raise TrainingError(message)
