"""One run of ``selection_evidence.py``: train, select, and measure every candidate on test images.

    python benchmarks/selection_run.py unseen-medium --into runs/selection --unseen-start DIR

The run's folder is that of ``fashionclip train``, and a killed run is resumed from it. Beside the
scores by which rules select (``scores/``), ``test-scores/`` has those of the same candidates on
test images. ``evidence.json`` appears last, and ends the run: its weights are deleted then, but for
the start and the selected candidate.
"""

import argparse
import csv
import json
import shutil
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selection_sets import read_rows, write_sets

from fashionclip import FashionCLIP
from fashionclip.atomic import write_whole
from fashionclip.checkpoint import open_checkpoint
from fashionclip.evaluate.benchmarks.base import choose
from fashionclip.evaluate.cache import image_digest
from fashionclip.evaluate.compare import compare_runs
from fashionclip.evaluate.leakage import (
    LeakageCheck,
    TrainingData,
    read_training_data,
    write_training_data,
)
from fashionclip.evaluate.prompts import DEFAULT_STYLE
from fashionclip.evaluate.run import TaskSuite, evaluate_models
from fashionclip.evaluate.tasks import ImageRef, Task
from fashionclip.metrics import percentile
from fashionclip.train.loop import train
from fashionclip.train.recipe import Recipe, make_recipe
from fashionclip.train.run import RunFolder
from fashionclip.train.selection.rules import POINTS
from fashionclip.train.selection.select import (
    CandidateScorer,
    Choice,
    select_checkpoint,
    watch_checkpoints,
)
from fashionclip.train.selection.suite import Scores, Suite, build_suite
from fashionclip.train.setup import prepare
from fashionclip.train.tune import held_out_images, held_out_tasks, training_data

PLAN = Path(__file__).with_name("selection_runs.toml")
N_CHECKED = 300  # pairs that a run learns from, of which it is told how many the start has seen
TRIAL: Mapping[tuple[str, str], object] = {
    ("data", "max_rows"): 600,
    ("data", "development"): 0.1,
    ("data", "test"): 0.1,
    ("schedule", "batch_size"): 16,
    ("schedule", "steps"): 4,
    ("schedule", "checkpoint_every"): 2,
    ("selection", "max_images"): 24,
    ("selection", "alphas"): [0.5],
}
"""What ``--trial`` changes: a run of seconds, which proves nothing but that all parts work."""


def read_plan() -> dict[str, Any]:
    return tomllib.loads(PLAN.read_text("utf-8"))


def recipe_of(
    row: Mapping[str, Any], start: str, sets: list[str], options: argparse.Namespace
) -> Recipe:
    """The recipe of a row of the plan.

    Args:
        row: of ``[[runs]]``.
        start: the checkpoint, a name or a folder.
        sets: as ``selection.sets`` takes them.
        options: the folder of the data, and whether this is a trial.
    """
    plan = read_plan()
    groups: dict[str, dict[str, Any]] = {name: dict(of) for name, of in plan["recipe"].items()}
    data = {k: v for k, v in plan["data"][row["data"]].items() if k != "sets"}
    every = max(1, row["steps"] // 4)
    more = {
        "data": {**data, "catalog": str(options.data / data["catalog"])},
        "model": {"start": start},
        "loss": {"anchor": row["anchor"]},
        "optimizer": {"lr": row["lr"]},
        "schedule": {
            "batch_size": row["batch"],
            "steps": row["steps"],
            "checkpoint_every": every,
        },
        "selection": {"sets": sets, "folder": str(options.data)},
    }
    for name, keys in more.items():
        groups.setdefault(name, {}).update(keys)
    for (name, key), value in TRIAL.items() if options.trial else ():
        groups[name][key] = value
    return make_recipe(groups, place=f"{PLAN.name}, {row['name']}")


def open_start(name: str, options: argparse.Namespace) -> Path:
    """The folder of a start, which has a record of its training data.

    ``other-shop`` is made here, from ``unseen``.

    Raises:
        SystemExit: it is not named, or has no such record.
    """
    if name == "shipped":
        return open_checkpoint("builtin").folder
    unseen = options.unseen_start
    if unseen is None:
        raise SystemExit(f"error: the start '{name}' needs --unseen-start, a checkpoint folder")
    if read_training_data(unseen) is None:
        raise SystemExit(
            f"error: {unseen} has no trained-on.safetensors, so nobody can tell which images it "
            "has seen; name the selected/ of a run of fashionclip train"
        )
    return unseen if name == "unseen" else train_other_shop(unseen, options)


def train_other_shop(unseen: Path, options: argparse.Namespace) -> Path:
    """Tune ``unseen`` on the women's products that it has seen; those that it has not are a set.

    Where it has seen none of them, four fifths by their title are learned.
    """
    run = RunFolder(options.into / "starts" / "other-shop")
    done = run.root / "folder.txt"
    if done.exists():
        return Path(done.read_text("utf-8"))
    record = read_training_data(unseen)
    assert record is not None
    source = options.data / "womens"
    rows = read_rows(source / "products.csv")
    images = [ImageRef(row["id"], source / row["image"]) for row in rows]
    seen = LeakageCheck([record], options.into / "hashes").mark(
        images, [image_digest(image) for image in images]
    )
    learned = [
        {**row, "image": str((source / row["image"]).absolute())}
        for row, is_seen in zip(rows, seen.tolist(), strict=True)
        if (is_seen if seen.any() else percentile(row["title"]) >= 20)
    ]
    table = options.into / "starts" / "womens.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(learned)
    row = {"name": "other-shop", "data": "womens", "anchor": 0.0, **read_plan()["other-shop"]}
    recipe = recipe_of(row, str(unseen), ["sample"], options)
    data = recipe.data.model_copy(update={"catalog": str(table)})
    recipe = recipe.model_copy(update={"data": data})
    setup = prepare(recipe, run)
    train(recipe, run, setup=setup)
    *_, last = run.checkpoints().values()
    write_training_data(TrainingData.union([record, training_data(setup)]), last)
    write_whole(done, str(last).encode())
    return last


def measure(row: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Train a row of the plan, select, and measure all candidates.

    Raises:
        SystemExit: a set has no images for the selection or for the test.
    """
    begun = time.perf_counter()
    run = RunFolder(options.into / "runs" / row["name"])
    start = open_start(row["start"], options)
    record = read_training_data(start)
    check = LeakageCheck([record] if record else [], options.into / "hashes")
    names = read_plan()["data"][row["data"]]["sets"]
    place = options.into / "sets" / row["start"]
    sets, notes = write_sets(names, check, data=options.data, into=place)
    recipe = recipe_of(row, str(start), sets, options)
    setup = prepare(recipe, run)
    development, test = (
        build_suite(held_out_images(setup.source, rows), recipe.selection, part=part)
        for rows, part in ((setup.split.development, "development"), (setup.split.test, "test"))
    )
    if lacking := development.sets.keys() ^ test.sets.keys():
        raise SystemExit(f"error: no images for both parts of {', '.join(sorted(lacking))}")
    held_out = [*development.pairs.documents, *test.pairs.documents]
    learned = setup.split.train[choose(len(setup.split.train), N_CHECKED)]
    watch = watch_checkpoints(run, setup.start, development, recipe.selection)
    trained = time.perf_counter()
    outcome = train(recipe, run, setup=setup, on_checkpoint=watch)
    train_s = time.perf_counter() - trained
    # digests of the training pairs would take a minute; the split keeps them apart from the test
    choice = select_checkpoint(run, setup.start, development, recipe.selection)
    score = CandidateScorer(run, test, folder="test-scores")
    measured = [score(one.candidate).scores for one in choice.candidates]
    tasks = (*held_out_tasks(setup.source, setup.split.test), *tasks_of(test))
    return {
        **row,
        "start_fingerprint": setup.start.fingerprint,
        "pairs": {
            "train": len(setup.split.train),
            "development": len(development.pairs.documents),
            "test": len(test.pairs.documents),
            "held_out_seen": n_seen(held_out, check),
            "learned_checked": len(learned),
            "learned_seen": n_seen(held_out_images(setup.source, learned), check),
        },
        "steps_taken": outcome.steps,
        "rule": choice.rule,
        "chosen": choice.chosen.candidate.name,
        "candidates": [
            {
                "name": one.candidate.name,
                "kind": one.candidate.kind,
                "step": one.candidate.step,
                "development": score_fields(one.scores),
                "test": score_fields(found),
            }
            for one, found in zip(choice.candidates, measured, strict=True)
        ],
        "differences": differences(run, choice, tasks, options),
        "notes": [*notes, *choice.notes, *test.notes],
        "is_trial": options.trial,
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "minutes_of_training_and_scoring": round(train_s / 60, 1),
    }


def n_seen(images: Sequence[ImageRef], check: LeakageCheck) -> int:
    """How many images the start was trained on, near duplicates included."""
    return int(check.mark(images, [image_digest(image) for image in images]).sum())


def score_fields(scores: Scores) -> dict[str, Any]:
    """What rules and tables need of a candidate's scores."""
    return {
        "validation_loss": round(scores.validation_loss, 5),
        "retrieval": {name: round(value, 5) for name, value in scores.retrieval.items()},
        "sets": {name.removesuffix(".csv"): round(v, 5) for name, v in scores.sets.items()},
    }


def tasks_of(suite: Suite) -> list[Task]:
    return [task for tasks in suite.sets.values() for task in tasks]


def differences(
    run: RunFolder, choice: Choice, tasks: Sequence[Task], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The selected candidate against the start on every test task, paired, in points."""
    if choice.chosen.candidate.kind == "start":
        return []
    models = (FashionCLIP.from_pretrained(folder) for folder in (run.start, run.selected))
    found, _ = evaluate_models(
        models,
        TaskSuite(tuple(tasks), {}, {}),
        prompts=DEFAULT_STYLE,
        cache=options.into / "vectors" / run.root.name,
    )
    rows = compare_runs(found, found, old_model="start", new_model="selected").rows
    return [
        {
            "task": row.task.replace(".csv", ""),
            "metric": row.metric,
            "n": row.n,
            "start": round(POINTS * row.old, 2),
            **{
                name: round(POINTS * getattr(row.difference, name), 2)
                for name in ("value", "low", "high")
            },
        }
        for row in rows
        if row.is_headline and not row.unseen and row.difference is not None
    ]


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the options that both scripts have, and read the arguments."""
    parser.add_argument("--into", type=Path, help="folder for the runs")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the data sets")
    parser.add_argument("--unseen-start", type=Path, help="checkpoint that has not seen kagl")
    parser.add_argument("--trial", action="store_true", help="a few steps and images, no evidence")
    return parser.parse_args()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help=f"of a run in {PLAN.name}")
    options = parse(parser)
    row = next(row for row in read_plan()["runs"] if row["name"] == options.name)
    found = measure(row, options)
    folder = options.into / "runs" / row["name"]
    write_whole(folder / "evidence.json", json.dumps(found, indent=1).encode())
    shutil.rmtree(folder / "checkpoints")
    shutil.rmtree(folder / "state", ignore_errors=True)


if __name__ == "__main__":
    main()
