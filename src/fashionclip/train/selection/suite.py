"""The tasks of a selection, and a candidate's scores on them.

Tasks are held-out pairs, and zero-shot sets outside the training data. A selection uses development
images only. The test images of the same benchmarks measure what was selected; a selection that used
them would make that measurement worthless.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from fashionclip.checkpoint import Checkpoint
from fashionclip.engines import open_engine
from fashionclip.errors import BenchmarkError, EvaluationError
from fashionclip.evaluate.benchmarks.base import choose
from fashionclip.evaluate.cache import CachedEncoder, image_digest
from fashionclip.evaluate.leakage import LeakageCheck, read_training_data
from fashionclip.evaluate.prompts import DEFAULT_STYLE
from fashionclip.evaluate.retrieval import score_retrieval
from fashionclip.evaluate.run import load_benchmarks
from fashionclip.evaluate.scoring import readable_images
from fashionclip.evaluate.tasks import Encoder, ImageRef, Retrieval, ZeroShot
from fashionclip.evaluate.zero_shot import score_zero_shot
from fashionclip.lines import one_line
from fashionclip.model import FashionCLIP
from fashionclip.train.loss import Features, Targets, info_nce
from fashionclip.train.recipe import SelectionConfig

RETRIEVAL_METRICS = ("recall@10", "mrr@10", "recall@1")
"""Of the held-out pairs; rules use the first."""
LOSS_BATCH = 256
"""Batch size of the validation loss, the same for every candidate."""
MIN_PAIRS = 2
Part = Literal["development", "test"]
"""The images of a task that select a checkpoint, and those that measure it."""


@dataclass(frozen=True, slots=True, eq=False)
class Suite:
    """The tasks of a run's selection, on development images; or the same tasks on test images."""

    pairs: Retrieval
    """Held-out pairs: captions that retrieve their images."""
    sets: Mapping[str, tuple[ZeroShot, ...]]
    """The tasks of each benchmark; a set's score is the mean over its tasks."""
    notes: tuple[str, ...]
    """Sets that cannot be used, and images that the start was trained on."""

    @property
    def digest(self) -> str:
        """16 hex digits over all tasks; scores of another suite cannot be reused."""
        digest = hashlib.sha256()
        names = [*(p.image_id for p in self.pairs.documents), *self.pairs.queries]
        for task in (task for tasks in self.sets.values() for task in tasks):
            names += [task.name, *(image.image_id for image in task.images)]
            names += [label.name for label in task.classes] + [str(row) for row in task.labels]
        digest.update("\n".join(names).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Scores:
    """A candidate's scores on the images of a suite."""

    validation_loss: float
    """InfoNCE on the held-out pairs, in nats; lower is better."""
    retrieval: Mapping[str, float]
    """On the held-out pairs, by metric, 0…1."""
    sets: Mapping[str, float]
    """Mean over a set's tasks of weighted F1, 0…1."""
    tasks: Mapping[str, float]
    """Weighted F1 of each task."""
    half_widths: Mapping[str, float]
    """Half of the 95 % interval of the retrieval headline (``held-out``) and of each set."""
    seconds: float
    """Duration of the scoring."""

    @property
    def in_domain(self) -> float:
        """The retrieval metric that rules use."""
        return self.retrieval[RETRIEVAL_METRICS[0]]

    @property
    def out_of_domain(self) -> float:
        """The mean over the sets."""
        return sum(self.sets.values()) / len(self.sets)

    def fields(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self) | {"out_of_domain": self.out_of_domain}


def read_scores(fields: Mapping[str, Any]) -> Scores:
    """Read the scores that ``Scores.fields`` returned.

    Raises:
        KeyError: one is missing.
    """
    return Scores(**{name: fields[name] for name in Scores.__dataclass_fields__})


def build_suite(
    pairs: Sequence[ImageRef],
    config: SelectionConfig,
    *,
    start: Checkpoint | None = None,
    part: Part = "development",
) -> Suite:
    """Collect the tasks.

    Args:
        pairs: held-out images with their captions, of brands that are not trained on. Images with
            equal captions are all relevant to that caption.
        config: the sets, and the number of images of each task.
        start: the sets' images are checked against its training data, if its folder has digests of
            them.
        part: the images of the sets; ``test`` only to compare rules, never to select a checkpoint.

    Raises:
        BenchmarkError: a set is unknown, or no set has images of this part.
        EvaluationError: fewer than two pairs have a caption.
    """
    captioned = [image for image in pairs if one_line(image.caption)]
    if len(captioned) < MIN_PAIRS:
        message = (
            f"selection needs {MIN_PAIRS} held-out pairs with a caption or more, and has "
            f"{len(captioned)}; hold out more brands"
        )
        raise EvaluationError(message)
    held_out = [captioned[row] for row in choose(len(captioned), config.max_images)]
    found = load_benchmarks(config.sets, Path(config.folder) if config.folder else None)
    notes = [f"{name} is not part of the selection: {why}" for name, why in found.missing.items()]
    sets: dict[str, list[ZeroShot]] = {}
    known: set[tuple[object, ...]] = set()
    for task in found.tasks:
        if not isinstance(task, ZeroShot):
            continue
        cut = task_part(task, part, config.max_images)
        if cut is None:
            notes.append(f"{task.name} is not part of the selection: it has no {part} images")
            continue
        content = (*cut.images, *(label.name for label in task.classes))
        if content not in known:  # two tasks may differ in the images of the other part alone
            known.add(content)
            sets.setdefault(set_of(task.name), []).append(cut)
    if not sets:
        message = (
            f"none of the sets {', '.join(config.sets)} has {part} images to select by "
            f"({'; '.join(notes)}); name others, such as sample or fmnist"
        )
        raise BenchmarkError(message)
    notes += _trained_on(sets, start, part)
    return Suite(
        pairs=held_out_task(f"held-out/{part}", held_out),
        sets=MappingProxyType({name: tuple(tasks) for name, tasks in sets.items()}),
        notes=tuple(notes),
    )


def set_of(task: str) -> str:
    """The set of a task: its benchmark, ``fmnist`` of ``fmnist/white-on-black``."""
    return task.partition("/")[0]


def held_out_task(name: str, pairs: Sequence[ImageRef]) -> Retrieval:
    """Captions that retrieve their images; each caption is one query."""
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(pairs):
        rows.setdefault(one_line(image.caption), []).append(row)
    return Retrieval(
        name=name,
        queries=tuple(rows),
        documents=tuple(pairs),
        relevant=tuple(np.array(found) for found in rows.values()),
        figures=RETRIEVAL_METRICS,
        notes=("Products with the same caption are all relevant to it.",),
    )


def task_part(task: ZeroShot, part: Part, max_images: int) -> ZeroShot | None:
    """The same task on images of one part; None if it has none of two classes.

    The result does not hold the images of the other part, so that no scorer can use them.
    """
    is_test = part == "test"
    images = task.images if is_test else task.development_images
    labels = task.labels if is_test else task.development_labels
    if len(set(labels.tolist())) < 2:
        return None
    rows = choose(len(images), max_images)
    return replace(
        task,
        images=tuple(images[row] for row in rows),
        labels=labels[rows],
        development="",
        development_images=(),
        development_labels=np.empty(0, np.int64),
    )


def _trained_on(
    sets: Mapping[str, Sequence[ZeroShot]], start: Checkpoint | None, part: Part
) -> Iterator[str]:
    """A note for each set whose images the start was trained on."""
    training = read_training_data(start.folder) if start else None
    if training is None:
        return
    check = LeakageCheck([training], None)
    for name, tasks in sets.items():
        images = list({p.image_id: p for task in tasks for p in task.images}.values())
        digests = [image_digest(image) for image in images]
        is_seen = check.is_same_file(digests) | check.is_near_duplicate(images, digests)
        n_seen = int(is_seen.sum())
        if n_seen:
            yield (
                f"{name}: the start was trained on {n_seen:,} of the {len(images):,} {part} "
                "images, so its score there is partly memory"
            )


def score_checkpoint(
    checkpoint: Checkpoint, suite: Suite, *, device: str = "auto", precision: str = "auto"
) -> Scores:
    """Score a checkpoint on a suite.

    Every candidate gets the same prompts (``ensemble``), so that none profits from its wording.

    Raises:
        EvaluationError: the model returns NaN, or no image of a set can be read.
        EngineError: the device or the precision is not available.
    """
    begun = time.perf_counter()
    engine = open_engine(checkpoint, device=device, precision=precision)
    encoder = CachedEncoder(FashionCLIP(checkpoint, engine=engine), None)
    found = score_retrieval(suite.pairs, encoder)
    if not found.figures:
        message = f"{suite.pairs.name}: no image of the held-out pairs can be read"
        raise EvaluationError(message)
    headline = found.figures[RETRIEVAL_METRICS[0]]
    half_widths = {"held-out": (headline.high - headline.low) / 2}
    tasks: dict[str, float] = {}
    sets: dict[str, float] = {}
    for name, members in suite.sets.items():
        values, widths = zip(*(_zero_shot(task, encoder) for task in members), strict=True)
        tasks |= {task.name: value for task, value in zip(members, values, strict=True)}
        sets[name] = float(np.mean(values))
        # tasks of a set share images, so their errors are not independent
        half_widths[name] = float(np.mean(widths))
    return Scores(
        validation_loss=_pairs_loss(suite.pairs, encoder),
        retrieval={name: figure.value for name, figure in found.figures.items()},
        sets=sets,
        tasks=tasks,
        half_widths=half_widths,
        seconds=time.perf_counter() - begun,
    )


def _zero_shot(task: ZeroShot, encoder: Encoder) -> tuple[float, float]:
    """Weighted F1, and half of its interval.

    Raises:
        EvaluationError: no image can be read.
    """
    result = score_zero_shot(task, encoder, prompts=DEFAULT_STYLE)
    if result.headline not in result.figures:
        message = f"{task.name}: {result.warnings[-1]}"
        raise EvaluationError(message)
    figure = result.figures[result.headline]
    return figure.value, (figure.high - figure.low) / 2


def _pairs_loss(task: Retrieval, encoder: Encoder) -> float:
    """Mean validation loss over batches of pairs, which are the same for every candidate."""
    readable = readable_images(task.documents, encoder)
    captions = [one_line(image.caption) for image in readable.images]
    texts = encoder.encode_text(captions)
    rows = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    groups = np.array([rows[caption] for caption in captions])
    order = np.random.default_rng(0).permutation(len(captions))
    batches = np.array_split(order, max(1, round(len(order) / LOSS_BATCH)))
    losses = [
        validation_loss(readable.vectors[some], texts[some], groups[some], encoder.logit_scale)
        for some in batches
    ]
    return float(np.average(losses, weights=[len(some) for some in batches]))


def validation_loss(
    images: Float[np.ndarray, "n dim"],
    texts: Float[np.ndarray, "n dim"],
    groups: Int[np.ndarray, " n"],
    scale: float,
) -> float:
    """``train.loss.info_nce`` of a batch of pairs, in nats, computed in float64.

    Args:
        images: unit vectors.
        texts: unit vectors; row i belongs to image i.
        groups: pairs with the same number are not negatives of each other.
        scale: factor of the cosines.
    """
    image_rows, text_rows = (torch.from_numpy(side.astype(np.float64)) for side in (images, texts))
    is_same = groups[:, None] == groups[None]
    np.fill_diagonal(is_same, False)
    features = Features(image_rows, text_rows, image_rows, text_rows, torch.tensor(scale).double())
    return float(info_nce(features, Targets(excluded=torch.from_numpy(is_same))))
