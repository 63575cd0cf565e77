"""After the last step: the checkpoint is chosen, and measured once on what no choice has seen."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fashionclip.atomic import write_whole
from fashionclip.checkpoint import Checkpoint
from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.compare import Comparison, compare_runs, comparison_markdown
from fashionclip.evaluate.leakage import TrainingData, digest_training_data
from fashionclip.evaluate.report import write_report
from fashionclip.evaluate.results import Run, write_run
from fashionclip.evaluate.run import TaskSuite, evaluate_models, load_benchmarks
from fashionclip.evaluate.tasks import ImageRef, Retrieval
from fashionclip.model import FashionCLIP
from fashionclip.train.pairs import Pair, Pairs, Split, read_pairs, split
from fashionclip.train.recipe import Recipe, read_recipe
from fashionclip.train.run import RunFolder
from fashionclip.train.selection.report import write_choice
from fashionclip.train.selection.select import Choice, OnScores, select_checkpoint
from fashionclip.train.selection.suite import Suite, build_suite, held_out_task

EVALUATION = "evaluation"
COMPARISON = "comparison.md"
Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The chosen checkpoint against the start, on test pictures."""

    run: Run
    comparison: Comparison


def open_suite(recipe: Recipe, pairs: Pairs, parts: Split, start: Checkpoint) -> Suite:
    """The development questions of a run.

    Raises:
        BenchmarkError: a set is unknown or cannot be had.
        EvaluationError: too few pairs are held out.
    """
    held_out = pictures_of(pairs, parts.development)
    return build_suite(held_out, recipe.selection, start=start)


def choose(
    recipe: Recipe,
    run: RunFolder,
    pairs: Pairs,
    parts: Split,
    start: Checkpoint,
    *,
    suite: Suite,
    on_scores: OnScores | None = None,
) -> Choice:
    """Choose a checkpoint, write ``selected/`` and the pages that say why.

    Raises:
        FashionCLIPError: as ``select_checkpoint`` and ``write_choice``.
    """
    training = trained_on(recipe, pairs, parts)
    choice = select_checkpoint(
        run, start, suite, recipe.selection, training=training, on_scores=on_scores
    )
    write_choice(choice, run)
    return choice


def judge(
    recipe: Recipe,
    run: RunFolder,
    pairs: Pairs,
    parts: Split,
    *,
    cache: Path | None = None,
    watch: Watch | None = None,
) -> Verdict:
    """Measure the start and the chosen checkpoint on test pictures; write ``evaluation/``.

    Test pairs are of brands that neither training nor the choice has looked at; the sets are the
    recipe's, with all their tasks.

    Raises:
        EvaluationError: a model cannot be measured, or the folder cannot be written.
        CheckpointError: one of the two cannot be opened.
    """
    held_out = pictures_of(pairs, parts.test)
    tasks = tuple(held_out_tasks(held_out, [pairs[row] for row in parts.test.tolist()]))
    plan = recipe.selection
    try:
        sets = load_benchmarks(plan.sets, Path(plan.folder) if plan.folder else None)
    except BenchmarkError as error:  # the sets went away since; the held-out pairs are still here
        sets = TaskSuite((), dict.fromkeys(plan.sets, str(error)), {})
    questions = replace(sets, tasks=(*tasks, *sets.tasks))
    models = (FashionCLIP.from_pretrained(folder) for folder in (run.start, run.selected))
    found, shown = evaluate_models(models, questions, cache=cache, progress=watch)
    folder = run.root / EVALUATION
    write_run(found, folder, shown)
    write_report(found, folder, shown)
    comparison = compare_runs(found, found, old_model=run.start.name, new_model=run.selected.name)
    write_whole(folder / COMPARISON, comparison_markdown(comparison).encode())
    return Verdict(found, comparison)


def held_out_tasks(pictures: Sequence[ImageRef], pairs: Sequence[Pair]) -> Iterator[Retrieval]:
    """Pictures of held-out brands found by their captions, and by their titles alone."""
    if len(pictures) > 1:
        yield held_out_task("held-out/captions", pictures)
        titled = [
            replace(picture, caption=pair.title)
            for picture, pair in zip(pictures, pairs, strict=True)
            if pair.title
        ]
        if len(titled) > 1 and any(pair.highlights for pair in pairs):
            yield held_out_task("held-out/titles", titled)


def trained_on(recipe: Recipe, pairs: Pairs, parts: Split) -> TrainingData:
    """Digests of what the run learns from, for the leakage checks of later evaluations."""
    name = Path(recipe.data.catalog.rstrip("/")).name

    def samples() -> Iterator[tuple[ImageRef, list[str]]]:
        for row in parts.train.tolist():
            pair = pairs[row]
            yield _picture_of(pairs, row), [pair.caption, pair.title]

    held_out = f"less the held-out {parts.held_out_by}s"
    return digest_training_data(samples(), description=f"{name}, {held_out}")


def read_test_pictures(run: RunFolder) -> list[ImageRef]:
    """The held-out test pictures of a run that is done, from its data.

    Raises:
        FashionCLIPError: the recipe or the data are not there any more.
    """
    recipe = read_recipe(run.recipe)
    pairs = read_pairs(recipe.data)
    return pictures_of(pairs, split(pairs, recipe.data).test)


def pictures_of(pairs: Pairs, rows: np.ndarray) -> list[ImageRef]:
    """Pairs as the evaluation takes them, captions included."""
    return [_picture_of(pairs, row) for row in rows.tolist()]


def _picture_of(pairs: Pairs, row: int) -> ImageRef:
    pair: Pair = pairs[row]
    place = pair.picture
    source: str | Path | bytes
    if isinstance(place, str):
        source = Path(place) if Path(place).is_file() else place
    else:
        source = pairs.read_image_bytes(row)
    return ImageRef(pair.pair_id, source, pair.caption)
