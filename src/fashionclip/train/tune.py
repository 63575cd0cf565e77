"""A whole run: train, choose, judge, and count what it cost.

Each part goes on where a killed one stopped: training from its last state, the choice from the
scores that are known, the judgement from the vectors in the cache.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashionclip.checkpoint import open_checkpoint
from fashionclip.errors import TrainingError
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.train import finish
from fashionclip.train.cost import CostMeter
from fashionclip.train.loop import Outcome, train
from fashionclip.train.pairs import read_pairs, split
from fashionclip.train.recipe import Recipe
from fashionclip.train.run import RunFolder, write_facts
from fashionclip.train.selection.select import Choice, OnScores, watch_checkpoints
from fashionclip.train.watching import Watch


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """What a whole run came to."""

    outcome: Outcome
    choice: Choice | None
    """None in processes beside the first, which leave choosing to it."""
    verdict: finish.Verdict | None
    cost: dict[str, Any]
    test_pictures: tuple[ImageRef, ...] = ()
    """Held-out pictures with their captions."""


def tune(
    recipe: Recipe,
    run: RunFolder,
    *,
    is_first: bool = True,
    watch: Watch | None = None,
    on_scores: OnScores | None = None,
    on_measure: finish.Watch | None = None,
    cache: Path | None = None,
    changed_data: bool = False,
) -> Tuned:
    """Run a recipe from its data to a checkpoint that was chosen and measured.

    Under ``torchrun`` every process calls this; the first one chooses and judges.

    Args:
        recipe: what is asked for.
        run: its folder.
        is_first: whether this is the first of the processes, or the only one.
        watch: called after every training step.
        on_scores: called as candidates' scores become known.
        on_measure: called as test pictures get measured.
        cache: folder for the test pictures' vectors; None keeps nothing.
        changed_data: go on though the data are not those that the run began with.

    Raises:
        TrainingError: it cannot begin or go on, or nothing is held out to choose by.
        FashionCLIPError: the data, the start, a set or the device cannot be used.
    """
    if not is_first:
        return Tuned(train(recipe, run, watch=watch, changed_data=changed_data), None, None, {})
    meter = CostMeter(run, recipe.cost)
    start = open_checkpoint(recipe.model.start)
    pairs = read_pairs(recipe.data)
    parts = split(pairs, recipe.data)
    if len(parts.development) < 2 or len(parts.test) < 2:
        message = (
            f"{recipe.data.catalog}: {len(parts.development)} pairs are held out to choose by and "
            f"{len(parts.test)} to judge the choice; raise data.development and data.test"
        )
        raise TrainingError(message)
    suite = finish.open_suite(recipe, pairs, parts, start)
    on_checkpoint = watch_checkpoints(run, start, suite, recipe.selection, on_scores)

    def score_and_save(step: int, folder: Path) -> bool:
        goes_on = on_checkpoint(step, folder)
        meter.save()
        return goes_on

    outcome = train(
        recipe, run, on_checkpoint=score_and_save, watch=watch, changed_data=changed_data
    )
    choice = finish.choose(recipe, run, pairs, parts, start, suite=suite, on_scores=on_scores)
    verdict = finish.judge(recipe, run, pairs, parts, cache=cache, watch=on_measure)
    brands = {
        name: len({pairs[row].brand for row in rows.tolist()})
        for name, rows in (("development", parts.development), ("test", parts.test))
    }
    write_facts(run, selected=choice.chosen.candidate.name, held_out_brands=brands)
    test_pictures = tuple(finish.pictures_of(pairs, parts.test))
    return Tuned(outcome, choice, verdict, meter.stop(), test_pictures)
