"""What is known of a run, read from its folder; a part that is missing stays empty."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashionclip.errors import EvaluationError, PublishError, TrainingError
from fashionclip.evaluate.compare import Comparison, compare_runs
from fashionclip.evaluate.results import Run, TaskResult, read_run
from fashionclip.train.cost import read_cost
from fashionclip.train.recipe import Recipe, read_recipe
from fashionclip.train.run import EVALUATION, RunFolder, read_facts


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """A run, as far as its folder tells."""

    run: Mapping[str, Any]
    """``run.json``: versions, commit, seed, pairs, start."""
    recipe: Recipe | None
    """As it was resolved, without the folders that are the trainer's own business."""
    selection: Mapping[str, Any]
    """``selection.json``."""
    cost: Mapping[str, Any]
    """``cost.json``."""
    evaluation: Run | None
    """The start and the chosen checkpoint on test pictures."""
    comparison: Comparison | None
    """The two held against each other."""

    @property
    def results(self) -> tuple[TaskResult, ...]:
        """The chosen checkpoint's."""
        return self.evaluation.results["selected"] if self.evaluation else ()


def read_run_facts(run: RunFolder) -> RunFacts:
    """Read what a run folder tells.

    Raises:
        PublishError: no checkpoint was chosen in it, or a file is damaged.
    """
    if not (run.selected / "config.json").exists():
        message = (
            f"{run.root} has no chosen checkpoint (selected/); give 'fashionclip train' the same "
            "recipe and folder again, and it goes on to choose one"
        )
        raise PublishError(message)
    try:
        recipe = _for_others(read_recipe(run.recipe)) if run.recipe.exists() else None
        selection = run.root / "selection.json"
        chosen = json.loads(selection.read_bytes()) if selection.exists() else {}
        evaluation = None
        if (run.root / EVALUATION).is_dir():
            evaluation = read_run(run.root / EVALUATION)
        return RunFacts(
            run=read_facts(run),
            recipe=recipe,
            selection=chosen,
            cost=read_cost(run),
            evaluation=evaluation,
            comparison=_comparison(evaluation),
        )
    except (OSError, ValueError, EvaluationError, TrainingError) as exc:
        message = f"{run.root} cannot be read ({exc}); the run is damaged"
        raise PublishError(message) from exc


def _for_others(recipe: Recipe) -> Recipe:
    """Names in place of paths: where a shop keeps its files is nobody else's business."""
    data, model, plan = recipe.data, recipe.model, recipe.selection
    start = last_part(model.start) if _is_path(model.start) else model.start
    changes = {"catalog": last_part(data.catalog), "images": last_part(data.images)}
    sets = tuple(map(last_part, plan.sets))
    return recipe.model_copy(
        update={
            "data": data.model_copy(update=changes),
            "model": model.model_copy(update={"start": start}),
            "selection": plan.model_copy(update={"folder": "", "sets": sets}),
            "publish": recipe.publish.model_copy(update={"to": ""}),
        }
    )


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).exists()


def last_part(place: str) -> str:
    """A file's or folder's own name; an address stays as it is."""
    return place if "://" in place else Path(place.rstrip("/")).name


def _comparison(evaluation: Run | None) -> Comparison | None:
    if evaluation is None or not {"start", "selected"} <= evaluation.results.keys():
        return None
    return compare_runs(evaluation, evaluation, old_model="start", new_model="selected")
