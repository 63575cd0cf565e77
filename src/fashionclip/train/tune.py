"""A whole run: train, select a checkpoint, measure it on test pairs, and count the cost.

Each part of a killed run is resumed: training from its last state, the selection from the scores
that are known, the measurement from the cached vectors. The catalogue is read once for all parts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fashionclip.errors import BenchmarkError, TrainingError
from fashionclip.evaluate.compare import Comparison, compare_runs, comparison_markdown
from fashionclip.evaluate.leakage import TrainingData, digest_training_data
from fashionclip.evaluate.report import write_report
from fashionclip.evaluate.results import Run, write_run
from fashionclip.evaluate.run import TaskSuite, evaluate_models, load_benchmarks
from fashionclip.evaluate.tasks import ImageRef, Retrieval
from fashionclip.model import FashionCLIP
from fashionclip.train.cost import CostMeter
from fashionclip.train.data import DataSource, image_digests, open_data, split_pairs
from fashionclip.train.distributed import process_group
from fashionclip.train.loop import Outcome, device_of, train
from fashionclip.train.recipe import Recipe, read_recipe
from fashionclip.train.run import OnProgress, RunFolder, write_facts
from fashionclip.train.selection.report import write_choice
from fashionclip.train.selection.select import (
    Choice,
    OnScores,
    select_checkpoint,
    watch_checkpoints,
)
from fashionclip.train.selection.suite import build_suite, held_out_task
from fashionclip.train.setup import TrainSetup, prepare

_COMPARISON = "comparison.md"
OnMeasure = Callable[[str, int, int], None]
"""Called with a task's name, the images done and their number."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The selected checkpoint against the start, on test pairs."""

    run: Run
    comparison: Comparison


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """The results of a whole run."""

    outcome: Outcome
    choice: Choice | None
    """None in processes other than the first."""
    verdict: Verdict | None
    cost: dict[str, Any]
    test_images: tuple[ImageRef, ...] = ()
    """Held-out test images with their captions."""


def tune(
    recipe: Recipe,
    run: RunFolder,
    *,
    source: DataSource | None = None,
    on_progress: OnProgress | None = None,
    on_scores: OnScores | None = None,
    on_measure: OnMeasure | None = None,
    cache: Path | None = None,
    changed_data: bool = False,
) -> Tuned:
    """Train by a recipe, select a checkpoint and measure it.

    Under ``torchrun`` every process calls this; the first one selects and measures.

    Args:
        recipe: the settings.
        run: its folder.
        source: the pairs; those that ``recipe.data`` names if None.
        on_progress: called after every training step and event.
        on_scores: called with the scores of each candidate.
        on_measure: called while test images are encoded.
        cache: folder for the vectors of test images; None stores nothing.
        changed_data: resume although the data have changed.

    Raises:
        TrainingError: the run cannot begin or resume, or too few pairs are held out.
        FashionCLIPError: the data, the start, a set or the device cannot be used.
    """
    with process_group(device_of(recipe)) as group:
        if not group.is_first:
            setup = prepare(recipe, run, group, source=source)
            outcome = train(
                recipe, run, setup=setup, on_progress=on_progress, changed_data=changed_data
            )
            return Tuned(outcome, None, None, {})
        meter = CostMeter(run, recipe.cost)
        setup = prepare(recipe, run, group, source=source)
        development, test = setup.split.development, setup.split.test
        if len(development) < 2 or len(test) < 2:
            message = (
                f"{recipe.data.catalog}: {len(development)} pairs are held out for selection and "
                f"{len(test)} for the test; raise data.development and data.test"
            )
            raise TrainingError(message)
        held_out = held_out_images(setup.source, development)
        suite = build_suite(held_out, recipe.selection, start=setup.start)
        score = watch_checkpoints(run, setup.start, suite, recipe.selection, on_scores)

        def on_checkpoint(step: int, folder: Path) -> bool:
            continues = score(step, folder)
            meter.save()
            return continues

        outcome = train(
            recipe,
            run,
            setup=setup,
            on_checkpoint=on_checkpoint,
            on_progress=on_progress,
            changed_data=changed_data,
        )
    choice = select_checkpoint(
        run,
        setup.start,
        suite,
        recipe.selection,
        training=training_data(setup),
        on_scores=on_scores,
    )
    write_choice(choice, run)
    verdict = measure(setup, run, cache=cache, on_measure=on_measure)
    brands = {
        name: len({setup.source[row].brand for row in rows.tolist()})
        for name, rows in (("development", development), ("test", test))
    }
    write_facts(run, selected=choice.chosen.candidate.name, held_out_brands=brands)
    test_images = tuple(held_out_images(setup.source, test))
    return Tuned(outcome, choice, verdict, meter.stop(), test_images)


def measure(
    setup: TrainSetup,
    run: RunFolder,
    *,
    cache: Path | None = None,
    on_measure: OnMeasure | None = None,
) -> Verdict:
    """Measure the start and the selected checkpoint on test pairs; write ``evaluation/``.

    Test pairs are of brands that neither training nor selection has used. The sets of the recipe
    are measured on all their tasks.

    Raises:
        EvaluationError: a model cannot be measured, or the folder cannot be written.
        CheckpointError: one of the two cannot be opened.
    """
    config = setup.recipe.selection
    try:
        sets = load_benchmarks(config.sets, Path(config.folder) if config.folder else None)
    except BenchmarkError as error:  # a set was removed meanwhile; the held-out pairs are here
        sets = TaskSuite((), dict.fromkeys(config.sets, str(error)), {})
    tasks = (*held_out_tasks(setup.source, setup.split.test), *sets.tasks)
    models = (FashionCLIP.from_pretrained(folder) for folder in (run.start, run.selected))
    found, shown = evaluate_models(
        models, replace(sets, tasks=tasks), cache=cache, progress=on_measure
    )
    write_run(found, run.evaluation)
    write_report(found, run.evaluation, shown)
    comparison = compare_runs(found, found, old_model=run.start.name, new_model=run.selected.name)
    run.write(run.evaluation / _COMPARISON, comparison_markdown(comparison))
    return Verdict(found, comparison)


def held_out_tasks(source: DataSource, rows: np.ndarray) -> Iterator[Retrieval]:
    """Images of held-out pairs retrieved by their captions, and by their titles alone."""
    images = held_out_images(source, rows)
    if len(images) < 2:
        return
    yield held_out_task("held-out/captions", images)
    pairs = [source[row] for row in rows.tolist()]
    titled = [
        replace(image, caption=pair.title)
        for image, pair in zip(images, pairs, strict=True)
        if pair.title
    ]
    if len(titled) > 1 and any(pair.highlights for pair in pairs):
        yield held_out_task("held-out/titles", titled)


def training_data(setup: TrainSetup) -> TrainingData:
    """Digests of the training pairs, for the leakage checks of later evaluations."""
    name = Path(setup.recipe.data.catalog.rstrip("/")).name

    def samples() -> Iterator[tuple[ImageRef, list[str]]]:
        for row in setup.split.train.tolist():
            pair = setup.source[row]
            yield _image_ref(setup.source, row), [pair.caption, pair.title]

    description = f"{name}, less the held-out {setup.split.held_out_by}s"
    return digest_training_data(samples(), description=description)


def read_test_images(run: RunFolder) -> list[ImageRef]:
    """Read the held-out test images of a finished run again.

    Raises:
        FashionCLIPError: the recipe or the data are no longer there.
    """
    recipe = read_recipe(run.recipe)
    source = open_data(recipe.data)
    split = split_pairs(source, image_digests(source), recipe.data)
    return held_out_images(source, split.test)


def held_out_images(source: DataSource, rows: np.ndarray) -> list[ImageRef]:
    """Pairs as evaluation takes them, with their captions."""
    return [_image_ref(source, row) for row in rows.tolist()]


def _image_ref(source: DataSource, row: int) -> ImageRef:
    pair = source[row]
    image: str | Path | bytes
    if isinstance(pair.image, str) and pair.image:
        image = Path(pair.image) if Path(pair.image).is_file() else pair.image
    else:
        image = source.read_image(row)
    return ImageRef(pair.pair_id, image, pair.caption)
