"""What a run folder says, and the limitations that its evaluation found."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashionclip.errors import EvaluationError, PublishError, TrainingError
from fashionclip.evaluate.compare import Comparison, compare_runs
from fashionclip.evaluate.report.wording import number, share, signed
from fashionclip.evaluate.results import Run, TaskResult, read_run
from fashionclip.metrics import title_of
from fashionclip.train.cost import read_cost
from fashionclip.train.recipe import Recipe, read_recipe
from fashionclip.train.run import RunFolder, read_facts

MIN_CLASS_IMAGES = 10
"""Images that a class must have to be called weak."""
N_WEAK_CLASSES = 3


@dataclass(frozen=True, slots=True, eq=False)
class RunFacts:
    """What a run folder says."""

    run: Mapping[str, Any]
    """``run.json``: versions, commit, seed, pairs, start."""
    recipe: Recipe | None
    """The resolved recipe, without the paths of the trainer's folders."""
    selection: Mapping[str, Any]
    """``selection.json``."""
    cost: Mapping[str, Any]
    """``cost.json``."""
    evaluation: Run | None
    """The start and the chosen checkpoint on test images."""
    comparison: Comparison | None
    """The comparison of the two."""

    @property
    def results(self) -> tuple[TaskResult, ...]:
        """Those of the chosen checkpoint."""
        return self.evaluation.results["selected"] if self.evaluation else ()


def read_run_facts(run: RunFolder) -> RunFacts:
    """Read a run folder.

    Raises:
        PublishError: it has no chosen checkpoint, or a file is damaged.
    """
    if not (run.selected / "config.json").exists():
        message = (
            f"{run.root} has no chosen checkpoint (selected/); run 'fashionclip train' again with "
            "the same recipe and folder to choose one"
        )
        raise PublishError(message)
    try:
        recipe = _for_others(read_recipe(run.recipe)) if run.recipe.exists() else None
        selection = run.root / "selection.json"
        chosen = json.loads(selection.read_bytes()) if selection.exists() else {}
        evaluation = None
        if (run.evaluation).is_dir():
            evaluation = read_run(run.evaluation)
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
    """The recipe with names instead of paths, which may be private."""
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
    """The last part of a path; a URL stays unchanged."""
    return place if "://" in place else Path(place.rstrip("/")).name


def _comparison(evaluation: Run | None) -> Comparison | None:
    if evaluation is None or not {"start", "selected"} <= evaluation.results.keys():
        return None
    return compare_runs(evaluation, evaluation, old_model="start", new_model="selected")


def limitations(facts: RunFacts) -> list[str]:
    """The measured limitations, the most serious first: one Markdown sentence each."""
    found = list(_worse_than_the_start(facts))
    for result in facts.results:
        found += _weak_classes(result)
        found += _wording(result)
        found += _wrong_words(result)
    found += _seen(facts.results)
    return found


def _worse_than_the_start(facts: RunFacts) -> Iterator[str]:
    if facts.comparison is None:
        return
    for row in facts.comparison.rows:
        if row.is_headline and not row.unseen and row.verdict == "worse" and row.difference:
            yield (
                f"On `{row.task}` it is significantly worse than the model it was tuned from: "
                f"{title_of(row.metric)} {number(row.old)} became {number(row.new)} "
                f"({signed(row.difference.value)}, n = {row.n:,})."
            )


def _weak_classes(result: TaskResult) -> Iterator[str]:
    rows: Sequence[Mapping[str, Any]] = result.details.get("per_class", ())
    usual = [row for row in rows if row["f1"].n >= MIN_CLASS_IMAGES]
    weak = sorted(usual, key=lambda row: row["f1"].value)[:N_WEAK_CLASSES]
    if len(usual) > N_WEAK_CLASSES and weak:
        words = ", ".join(f"{row['name']} ({number(row['f1'].value)})" for row in weak)
        yield f"Weakest on `{result.task}`, by F1: {words}."


def _wording(result: TaskResult) -> Iterator[str]:
    changes: Mapping[str, Any] = result.details.get("prompts", {}).get("changes", {})
    if changes:
        flips = {change: float(made["flips"].value) for change, made in changes.items()}
        worst = max(flips, key=lambda change: flips[change])
        yield (
            f"Predictions on `{result.task}` depend on wording: changing the labels by '{worst}' "
            f"flips {share(flips[worst])} of the labels."
        )


def _wrong_words(result: TaskResult) -> Iterator[str]:
    if result.kind == "wrong-attribute" and (figure := result.figures.get("win_rate")):
        attribute = result.details.get("attribute", "word")
        yield (
            f"Given a caption with the wrong {attribute} (`{result.task}`), it prefers the right "
            f"one {share(figure.value)} of the time; chance is 50 %."
        )


def _seen(results: Sequence[TaskResult]) -> Iterator[str]:
    seen = [result for result in results if result.n_seen]
    if seen:
        words = ", ".join(f"`{r.task}` ({r.n_seen:,} of {r.n:,})" for r in seen)
        yield f"Some test images or queries were also training data: {words}."
