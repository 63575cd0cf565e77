"""What is known of a run, read from its folder; a part that is missing stays empty."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fashionclip.errors import EvaluationError, PublishError
from fashionclip.evaluate.compare import Comparison, compare_runs
from fashionclip.evaluate.results import Run, TaskResult
from fashionclip.evaluate.storage import read_run
from fashionclip.train.cost import read_cost
from fashionclip.train.finish import EVALUATION
from fashionclip.train.run import RunFolder, read_facts


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """A run, as far as its folder tells."""

    run: Mapping[str, Any]
    """``run.json``: versions, commit, seed, pairs, start."""
    recipe: Mapping[str, Mapping[str, Any]]
    recipe_text: str
    """``recipe.toml`` as it was resolved."""
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
        recipe_text = run.recipe.read_text(encoding="utf-8") if run.recipe.exists() else ""
        selection = run.root / "selection.json"
        chosen = json.loads(selection.read_bytes()) if selection.exists() else {}
        evaluation = None
        if (run.root / EVALUATION).is_dir():
            evaluation = read_run(run.root / EVALUATION)
        return RunFacts(
            run=read_facts(run),
            recipe=tomllib.loads(recipe_text),
            recipe_text=recipe_text,
            selection=chosen,
            cost=read_cost(run),
            evaluation=evaluation,
            comparison=_comparison(evaluation),
        )
    except (OSError, ValueError, EvaluationError) as exc:
        message = f"{run.root} cannot be read ({exc}); the run is damaged"
        raise PublishError(message) from exc


def _comparison(evaluation: Run | None) -> Comparison | None:
    if evaluation is None or not {"start", "selected"} <= evaluation.results.keys():
        return None
    return compare_runs(evaluation, evaluation, old_model="start", new_model="selected")
