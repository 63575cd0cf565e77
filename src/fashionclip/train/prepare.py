"""What a run stands on before its first step: data, split, start, and whether it may go on.

A run folder belongs to one recipe and one state of the data. A second call with the same recipe
goes on; with another one, or when the data have changed, it stops and says so.
"""

from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

import numpy as np

from fashionclip.atomic import write_whole
from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.errors import TrainingError
from fashionclip.product import Reject
from fashionclip.train import distributed
from fashionclip.train.loader import Share
from fashionclip.train.pairs import Pairs, Split, read_pairs, split
from fashionclip.train.recipe import Recipe, read_recipe, write_recipe
from fashionclip.train.run import (
    RunFolder,
    describe_run,
    read_facts,
    read_rejects,
    write_facts,
    write_log,
    write_reject,
)

FREE_KEYS = {
    ("data", "workers"),
    ("data", "cache_gb"),
    ("model", "device"),
    ("model", "parallel"),
    ("schedule", "state_every"),
    ("schedule", "log_every"),
}
"""Keys that change no number, so that a run may go on with others."""
LEARNING = ("data", "model", "loss", "optimizer", "schedule", "augment")
"""Groups that the weights depend on."""
DIGESTS = "data-digests.bin"
DIGEST_BYTES = 16
FINISHED = ("finished", "stopped early")
"""Statuses of a run that does not go on."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What a run stands on."""

    pairs: Pairs
    split: Split
    start: Checkpoint
    """As it was published; the run may compute with another activation."""
    batch_size: int


def prepare(recipe: Recipe, run: RunFolder, share: Share, *, changed_data: bool) -> Ground:
    """Read the data, open the start, and claim the run folder for this recipe.

    Args:
        recipe: what is asked for.
        run: a new folder, or one of the same recipe.
        share: this process among the others; the first one writes.
        changed_data: go on though the data are not those that the run began with.

    Raises:
        TrainingError: there is too little to learn from, the folder is another recipe's, or the
            data have changed.
        FashionCLIPError: the data or the start cannot be read.
    """
    _check_recipe(recipe, run)
    start = open_checkpoint(recipe.model.start)
    pairs = read_pairs(recipe.data)
    parts = split(pairs, recipe.data)
    batch_size = _batch_size(pairs, parts, recipe, share)
    digests = b"".join(pairs.digests()) if share.rank == 0 else b""
    if share.rank == 0:
        _check_data(pairs, digests, run, changed_data=changed_data)
        _write_down(recipe, run, Ground(pairs, parts, start, batch_size), digests)
    distributed.wait_for_all()
    return Ground(pairs, parts, start, batch_size)


def steps_of(recipe: Recipe, ground: Ground) -> int:
    """How many steps the whole run has."""
    an_epoch = len(ground.split.train) // ground.batch_size
    return recipe.schedule.steps or max(1, round(recipe.schedule.epochs * an_epoch))


def _check_recipe(recipe: Recipe, run: RunFolder) -> None:
    if not run.recipe.exists():
        return
    there = read_recipe(run.recipe)
    for group in LEARNING:
        mine, theirs = getattr(recipe, group), getattr(there, group)
        for key in fields(mine):
            before, now = getattr(theirs, key.name), getattr(mine, key.name)
            if before != now and (group, key.name) not in FREE_KEYS:
                message = (
                    f"{run.root} holds a run with {group}.{key.name} = {before!r}, now it is "
                    f"{now!r}; go on with the same recipe, or name another folder"
                )
                raise TrainingError(message)


def _batch_size(pairs: Pairs, parts: Split, recipe: Recipe, share: Share) -> int:
    wanted, n_pairs = recipe.schedule.batch_size, len(parts.train)
    if wanted % share.world:
        message = (
            f"schedule.batch_size is {wanted}, which {share.world} processes cannot share evenly; "
            f"make it {wanted // share.world * share.world or share.world}"
        )
        raise TrainingError(message)
    n_held = len(parts.development) + len(parts.test)
    if n_pairs < 2 * share.world:
        message = (
            f"{recipe.data.catalog}: {n_pairs} pairs to learn from ({len(pairs.rejects)} rows "
            f"rejected, {n_held} pairs held out); there must be at least {2 * share.world}"
        )
        raise TrainingError(message)
    captions = {pairs[i].caption.casefold() for i in parts.train.tolist()}
    if len(captions) < 2:
        message = (
            f"{recipe.data.catalog}: all {n_pairs:,} captions are '{captions.pop()[:60]}'; there "
            "is nothing to tell apart. Check data.columns, such as title=NAME"
        )
        raise TrainingError(message)
    return min(wanted, n_pairs // share.world * share.world)


def _check_data(pairs: Pairs, digests: bytes, run: RunFolder, *, changed_data: bool) -> None:
    path = run.root / DIGESTS
    before = path.read_bytes() if path.exists() else digests
    if before == digests or changed_data:
        return
    then, now = (np.frombuffer(d, np.uint8).reshape(-1, DIGEST_BYTES) for d in (before, digests))
    n_common = min(len(then), len(now))
    differ = np.flatnonzero((then[:n_common] != now[:n_common]).any(axis=1))
    first = int(differ[0]) if len(differ) else n_common
    what = f"{pairs[first].pair_id} (row {pairs[first].row})" if first < len(now) else "the end"
    message = (
        f"the data have changed since {run.root} began: {len(then):,} pairs then, {len(now):,} "
        f"now, {len(differ):,} of them differ, the first at {what}; start a new run in another "
        "folder, or go on all the same with --changed-data"
    )
    raise TrainingError(message)


def _write_down(recipe: Recipe, run: RunFolder, ground: Ground, digests: bytes) -> None:
    pairs, parts = ground.pairs, ground.split
    facts = read_facts(run)
    data_hash = sha256(digests).hexdigest()[:16]
    write_facts(
        run,
        **{
            **(facts or describe_run(seed=recipe.schedule.seed)),
            "status": facts.get("status", "running"),
            "data_hash": data_hash,
            "pairs": {
                "read": len(pairs),
                "rejected": len(pairs.rejects),
                "train": len(parts.train),
                "development": len(parts.development),
                "test": len(parts.test),
                "left_out": parts.n_left_out,
                "held_out_by": parts.held_out_by,
            },
            "start": {"name": ground.start.name, "fingerprint": ground.start.fingerprint},
            "batch_size": ground.batch_size,
        },
    )
    try:
        write_whole(run.recipe, write_recipe(recipe).encode())
        write_whole(run.root / DIGESTS, digests)
    except OSError as exc:
        message = f"the run folder {run.root} cannot be written ({exc.strerror}); choose another"
        raise TrainingError(message) from exc
    if facts.get("data_hash", data_hash) != data_hash:
        write_log(run, {"event": "data changed", "data_hash": data_hash})
    if not run.start.exists():
        save_checkpoint(ground.start, run.start)
    known = read_rejects(run)
    for reject in pairs.rejects:
        if _key_of(reject) not in known:
            write_reject(run, reject)
    if not facts and ground.batch_size < recipe.schedule.batch_size:
        event = {
            "event": "smaller batch",
            "reason": f"{len(parts.train)} pairs are fewer than a batch of "
            f"{recipe.schedule.batch_size}",
            "batch_size": ground.batch_size,
        }
        write_log(run, event)


def _key_of(reject: Reject) -> tuple[Any, Any]:
    return reject.row, reject.product_id
