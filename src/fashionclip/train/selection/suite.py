"""What every candidate is asked: held-out pairs, and zero-shot sets outside the training data.

Development pictures only. The test pictures of the same benchmarks are for the report on the
checkpoint that was chosen; a choice that had looked at them would make that report worthless.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fashionclip.checkpoint import Checkpoint
from fashionclip.errors import BenchmarkError, EvaluationError
from fashionclip.evaluate.benchmarks.base import choose
from fashionclip.evaluate.cache import image_digest
from fashionclip.evaluate.leakage import LeakageCheck, read_training_data
from fashionclip.evaluate.run import load_benchmarks
from fashionclip.evaluate.tasks import ImageRef, Retrieval, ZeroShot
from fashionclip.text.captions import one_line
from fashionclip.train.recipe import Selection

RETRIEVAL_FIGURES = ("recall@10", "mrr@10", "recall@1")
"""Of the held-out pairs; the first is what rules go by."""
FEWEST_PAIRS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Suite:
    """The questions of one run's selection."""

    pairs: Retrieval
    """Held-out pairs of the training data's own kind: captions that find their pictures."""
    sets: Mapping[str, tuple[ZeroShot, ...]]
    """By benchmark, its tasks on development pictures; a set's score is the mean over them."""
    notes: tuple[str, ...]
    """What could not be asked, and which pictures the start was trained on."""

    @property
    def digest(self) -> str:
        """16 hex digits over all questions: scores of another suite are not these."""
        digest = hashlib.sha256()
        names = [*(p.image_id for p in self.pairs.documents), *self.pairs.queries]
        for task in (task for tasks in self.sets.values() for task in tasks):
            names += [task.name, *(picture.image_id for picture in task.images)]
            names += [label.name for label in task.classes] + [str(row) for row in task.labels]
        digest.update("\n".join(names).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def build_suite(
    pairs: Sequence[ImageRef], plan: Selection, *, start: Checkpoint | None = None
) -> Suite:
    """Gather the development questions.

    Args:
        pairs: held-out development pictures with their captions, of brands that are not trained
            on. Equal captions are each other's right answers.
        plan: the sets, and how many pictures of each.
        start: whose training data, where its folder tells of it, is looked for among the pictures.

    Raises:
        BenchmarkError: an unknown set, or not one set with development pictures.
        EvaluationError: fewer than two pairs have a caption.
    """
    captioned = [picture for picture in pairs if one_line(picture.caption)]
    if len(captioned) < FEWEST_PAIRS:
        message = (
            f"selection needs {FEWEST_PAIRS} held-out pairs with a caption or more, and has "
            f"{len(captioned)}; hold out more brands"
        )
        raise EvaluationError(message)
    held_out = [captioned[row] for row in choose(len(captioned), plan.pictures)]
    questions = load_benchmarks(plan.sets, Path(plan.folder) if plan.folder else None)
    notes = [
        f"{name} is not a part of the choice: {why}" for name, why in questions.missing.items()
    ]
    sets: dict[str, list[ZeroShot]] = {}
    asked: set[tuple[object, ...]] = set()
    for task in questions.tasks:
        if not isinstance(task, ZeroShot):
            continue
        development = development_task(task, plan.pictures)
        if development is None:
            notes.append(f"{task.name} is not a part of the choice: it has no development pictures")
            continue
        question = (*development.images, *(label.name for label in task.classes))
        if question not in asked:  # two tasks may differ in their test pictures alone
            asked.add(question)
            sets.setdefault(set_of(task.name), []).append(development)
    if not sets:
        message = (
            f"none of the sets {', '.join(plan.sets)} has development pictures to choose by "
            f"({'; '.join(notes)}); name others, such as sample or fmnist"
        )
        raise BenchmarkError(message)
    notes += _seen_by_the_start(sets, start)
    return Suite(
        pairs=held_out_task("held-out/development", held_out),
        sets=MappingProxyType({name: tuple(tasks) for name, tasks in sets.items()}),
        notes=tuple(notes),
    )


def set_of(task: str) -> str:
    """The set that a task belongs to: its benchmark, ``fmnist`` of ``fmnist/white-on-black``."""
    return task.partition("/")[0]


def held_out_task(name: str, pairs: Sequence[ImageRef]) -> Retrieval:
    """Captions that find their pictures; each caption is asked once."""
    rows: dict[str, list[int]] = {}
    for row, picture in enumerate(pairs):
        rows.setdefault(one_line(picture.caption), []).append(row)
    return Retrieval(
        name=name,
        queries=tuple(rows),
        documents=tuple(pairs),
        relevant=tuple(np.array(found) for found in rows.values()),
        figures=RETRIEVAL_FIGURES,
        notes=("Products with the same caption are all relevant to it.",),
    )


def development_task(task: ZeroShot, most_pictures: int) -> ZeroShot | None:
    """The same question about development pictures alone; None if there are none.

    The test pictures are not in the result, so nothing that scores it can see them.
    """
    n = len(task.development_images)
    if len(set(task.development_labels.tolist())) < 2:
        return None
    rows = choose(n, most_pictures)
    return replace(
        task,
        images=tuple(task.development_images[row] for row in rows),
        labels=task.development_labels[rows],
        development="",
        development_images=(),
        development_labels=np.empty(0, np.int64),
    )


def _seen_by_the_start(
    sets: Mapping[str, Sequence[ZeroShot]], start: Checkpoint | None
) -> Iterator[str]:
    """Say where the start's score on a set is memory as well as skill."""
    training = read_training_data(start.folder) if start else None
    if training is None:
        return
    check = LeakageCheck([training], None)
    for name, tasks in sets.items():
        pictures = list({p.image_id: p for task in tasks for p in task.images}.values())
        digests = [image_digest(picture) for picture in pictures]
        n_seen = int(
            (check.is_same_file(digests) | check.is_near_duplicate(pictures, digests)).sum()
        )
        if n_seen:
            yield (
                f"{name}: the start was trained on {n_seen:,} of the {len(pictures):,} development "
                "pictures, so that its score there is memory as well as skill"
            )
