"""The model card: the hub's metadata block, and a page generated from what was measured.

First what a run folder says, then the limitations that its evaluation found, then the card.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from fashionclip.checkpoint import Checkpoint
from fashionclip.errors import EvaluationError, PublishError, TrainingError
from fashionclip.evaluate.compare import Comparison, compare_runs
from fashionclip.evaluate.report.markdown import cell, plain, table
from fashionclip.evaluate.report.wording import duration, number, share, signed
from fashionclip.evaluate.results import Run, TaskResult, read_run
from fashionclip.metrics import title_of
from fashionclip.publish.limitations import measured_limitations, selection_sentence
from fashionclip.publish.parity import Parity
from fashionclip.train.cost import read_cost
from fashionclip.train.recipe import PublishConfig, Recipe, read_recipe, write_recipe
from fashionclip.train.run import RunFolder, read_facts

MIN_CLASS_IMAGES = 10
"""Images that a class must have to be called weak."""
N_WEAK_CLASSES = 3
EXAMPLE = "example.jpg"
"""A generated product in the published folder, for the hub's widget."""
WIDGET_LABELS = ("dress", "sneakers", "handbag", "t-shirt")
_HUB = "https://huggingface.co"
_RUN_FACTS = ("data_hash", "steps", "batch_size", "precision", "seed", "git_commit")
_TASKS = {
    "zero-shot": ("zero-shot-image-classification", "Zero-shot image classification"),
    "retrieval": ("text-to-image-retrieval", "Text-to-image retrieval"),
    "picture-to-picture": ("image-to-image-retrieval", "Image-to-image retrieval"),
    "probe": ("image-classification", "Linear probe"),
    "wrong-attribute": ("image-text-matching", "Right caption against a wrong one"),
}


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


def model_card(
    facts: RunFacts,
    checkpoint: Checkpoint,
    parity: Sequence[Parity],
    config: PublishConfig,
    *,
    parity_images: str,
    audited: Sequence[TaskResult] = (),
) -> str:
    """The card: the metadata block, then the page.

    Args:
        facts: of the run.
        checkpoint: the published model.
        parity: of its exports.
        config: name, title, licence, language.
        parity_images: a description of the images that the exports were compared on.
        audited: audits and probes of the model, for its limitations.
    """
    environment = Environment(
        loader=PackageLoader("fashionclip", "publish"),
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    text = environment.get_template("card.md.jinja").render(
        **_values(facts, checkpoint, config),
        parity=parity,
        parity_images=parity_images,
        audited=[
            *filter(None, [selection_sentence(facts.selection)]),
            *measured_limitations(audited),
        ],
    )
    return f"---\n{card_metadata(facts, config).to_yaml()}\n---\n\n{text}"


def title_for(config: PublishConfig) -> str:
    """The card's heading."""
    return config.title or config.name.partition("/")[2] or "A tuned fashion CLIP"


def card_metadata(facts: RunFacts, config: PublishConfig) -> ModelCardData:
    """The block of metadata that the hub reads."""
    more: dict[str, Any] = {}
    if config.license == "other":
        more["license_name"] = "training-data-unverified"
    if config.name:
        more["widget"] = [
            {
                "src": f"{_HUB}/{config.name}/resolve/main/{EXAMPLE}",
                "candidate_labels": ", ".join(WIDGET_LABELS),
                "example_title": "A generated product",
            }
        ]
    if emissions := _emissions(facts.cost):
        more["co2_eq_emissions"] = emissions
    start = str(facts.run.get("start", {}).get("name", ""))
    is_hub_name = start.count("/") == 1 and not start.startswith((".", "/", "~"))
    if is_hub_name and not Path(start).exists():
        more["base_model"] = start
    if config.datasets:
        more["datasets"] = list(config.datasets)
    if results := [one for result in facts.results for one in _eval_results(result)]:
        more |= {"eval_results": results, "model_name": config.name or title_for(config)}
    return ModelCardData(
        language=config.language,
        license=config.license,
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        tags=["clip", "fashion", "image-search", "fashionclip", "openvino", "onnx"],
        **more,
    )


def _eval_results(result: TaskResult) -> list[EvalResult]:
    figure = result.figures.get(result.headline)
    if figure is None or math.isnan(figure.value):
        return []
    kind, words = _TASKS[result.kind]
    interval = f"{figure.low:.3f} to {figure.high:.3f}"
    return [
        EvalResult(
            task_type=kind,
            task_name=words,
            dataset_type=result.task.replace("/", "-"),  # results of one type would be merged
            dataset_name=result.task,
            metric_type="f1" if "f1" in result.headline else result.headline,
            metric_name=f"{title_of(result.headline)} (95 % interval {interval}, n = {figure.n})",
            metric_value=round(figure.value, 4),
        )
    ]


def _emissions(cost: Mapping[str, Any]) -> dict[str, Any]:
    """Emissions by the hub's names, in grams."""
    if cost.get("co2_kg") is None:
        return {}
    return {
        "emissions": round(1000 * cost["co2_kg"], 3),
        "source": f"{cost['tracker']}; {cost['power']}",
        "training_type": "fine-tuning",
        "geographical_location": cost["country"],
        "hardware_used": cost["hardware"],
    }


def _values(facts: RunFacts, checkpoint: Checkpoint, config: PublishConfig) -> dict[str, Any]:
    start = facts.run.get("start", {}).get("name", "an unknown start")
    return {
        "title": title_for(config),
        "name": config.name or "path/to/this/folder",
        "start": "the built-in model of fashionclip" if start == "builtin" else f"`{start}`",
        "pairs": facts.run.get("pairs", {}),
        "catalog": plain(facts.recipe.data.catalog) if facts.recipe else "unknown",
        "sizes": _sizes(checkpoint),
        "fit": checkpoint.preprocess.fit,
        "benchmark": "\n".join(_benchmark(facts)),
        "selection": facts.selection,
        "run": {name: facts.run.get(name) for name in _RUN_FACTS},
        "brands": _brands(facts.run.get("held_out_brands", {})),
        "packages": ", ".join(f"{n} {v}" for n, v in facts.run.get("packages", {}).items()),
        "recipe": write_recipe(facts.recipe).strip() if facts.recipe else "",
        "cost": facts.cost,
        "limits": limitations(facts),
        "duration": duration,
        "three_digits": _three_digits,
    }


def _brands(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    return f" ({counts['development']} and {counts['test']} brands, none of them in training)"


def _sizes(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    weights = checkpoint.weights()
    n_weights = sum(math.prod(weights.shape(name)) for name in weights)
    return (
        f"{n_weights / 1e6:.1f} million weights; images of {config.vision.image_px} px in patches "
        f"of {config.vision.patch_px}, texts of up to {config.text.context_length} tokens, vectors "
        f"of {config.projection_dim} numbers.{_prefixes(config.prefix_dims)}"
    )


def _prefixes(lengths: Sequence[int]) -> str:
    """A sentence on the shorter lengths that the vectors were trained for, if there are any."""
    if not lengths:
        return ""
    *others, last = map(str, sorted(lengths))
    shown = f"{', '.join(others)} or {last}" if others else last
    return (
        f" Its vectors were trained to be cut: their first {shown} numbers, scaled to unit length, "
        f"are vectors too (`fashionclip reduce --dim {min(lengths)}`)."
    )


def _benchmark(facts: RunFacts) -> list[str]:
    if facts.evaluation is None or facts.comparison is None:
        return []
    before = {result.task: result for result in facts.evaluation.results["start"]}
    verdicts = {
        (row.task, row.unseen): row.verdict for row in facts.comparison.rows if row.is_headline
    }
    rows = []
    for result in facts.results:
        old = before.get(result.task)
        for unseen in (False, True):
            ours, theirs = (
                (r.unseen if unseen else r.figures).get(result.headline) if r else None
                for r in (result, old)
            )
            if ours is not None:
                what = f"{result.task}, unseen only" if unseen else result.task
                verdict = verdicts.get((result.task, unseen), "not comparable")
                shown = [cell(figure, n=ours.n) for figure in (theirs, ours)]
                cells = [what, title_of(result.headline), *shown, verdict]
                rows.append([*cells, f"{ours.n:,}"])
    head = ["task", "metric", "before tuning", "this model", "verdict", "n"]
    return table(head, rows) if rows else []


def _three_digits(value: float) -> str:
    """A number with three significant digits, without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{digits}f}"
