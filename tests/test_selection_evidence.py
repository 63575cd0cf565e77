"""The comparison of selection rules over many runs: its sums, its tables, and a tiny run."""

import argparse
import csv
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from fashionclip.evaluate.leakage import (
    LeakageCheck,
    TrainingData,
    digest_training_data,
    write_training_data,
)
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.sample import write_sample_catalog

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import selection_evidence  # noqa: E402
import selection_run  # noqa: E402
import selection_sets  # noqa: E402


def scores(loss, inside, **sets):
    return {"validation_loss": loss, "retrieval": {"recall@10": inside}, "sets": sets}


def candidate(name, kind, step, development, test):
    return {"name": name, "kind": kind, "step": step, "development": development, "test": test}


def run(name="one", *, lost=0.0, gained=0.1):
    """A run whose last checkpoint gains in the domain and loses on every set, in the test."""
    return {
        **{"name": name, "start": "shipped", "data": "kagl", "lr": 1e-5, "batch": 64},
        **{"anchor": 0.0, "steps_taken": 8, "rule": "guarded", "chosen": "start"},
        **{"differences": [], "is_trial": False},
        "pairs": {
            **{"train": 90, "development": 20, "test": 20, "held_out_seen": 3},
            **{"learned_checked": 90, "learned_seen": 80},
        },
        "candidates": [
            candidate(
                *("start", "start", 0),
                *(scores(2.0, 0.4, a=0.5, b=0.5, c=0.5), scores(2.0, 0.3, a=0.6, b=0.6, c=0.6)),
            ),
            candidate(
                *("step-000008", "checkpoint", 8),
                scores(1.0, 0.6, a=0.4, b=0.4, c=0.4),
                scores(1.0, 0.3 + gained, a=0.6 - lost, b=0.6 - lost, c=0.6 - lost),
            ),
        ],
    }


def test_costs_are_those_on_test_images_over_all_runs_and_sets():
    found = selection_evidence.summarize([run(lost=0.02), run(lost=0.06), run(lost=0.10)])
    of = {one.rule: one for one in found}
    assert of["last"].cost.value == pytest.approx(100 * (0.02 + 0.06 + 0.10) / 3)
    assert of["last"].worst_cost == pytest.approx(10)
    assert of["last"].against_start.value == pytest.approx(-6)
    assert of["last"].n_lost == 3
    assert of["last"].gain.value == pytest.approx(10)
    assert of["guarded"].cost.value == 0
    assert of["guarded"].n_lost == 0
    assert of["guarded"].gain.value == 0


def test_the_interval_has_no_width_where_runs_and_sets_agree_and_grows_where_runs_differ():
    alike, apart = (
        selection_evidence.summarize([run(lost=lost) for lost in losses])[1].cost
        for losses in ((0.05, 0.05, 0.05), (0.0, 0.05, 0.10))
    )
    assert alike.low == pytest.approx(alike.value) == pytest.approx(alike.high)
    assert apart.value == pytest.approx(alike.value)
    assert apart.low < 3 < 7 < apart.high


def test_the_tables_show_what_each_run_was_and_what_the_rules_chose():
    tuned = {**run("two", lost=0.03), "chosen": "step-000008"}
    tuned["differences"] = [
        {"task": task, "metric": "m", "n": 40, "start": 30.0, "value": v, "low": low, "high": high}
        for task, v, low, high in (
            ("held-out/captions", 10.0, 4.0, 16.0),
            ("a", -3.0, -5.0, -1.0),
            ("b", -3.0, -7.0, 1.0),
        )
    ]
    text = "\n".join(selection_evidence.page(selection_evidence.evidence_of([run(), tuned])))
    assert "| last | 1.5 [0.0 to 3.0] | 3.0 | -1.5 [-3.0 to +0.0] | 1 of 2 |" in text
    assert "| one | shipped | kagl | 1e-05 | 64 | 0 | 8 | step 8 |" in text
    assert "| 30.0 +10.0 [+4.0 to +16.0], n = 40 | -3.0 |  | a -3.0 [-5.0 to -1.0] |" in text
    assert "| one | start | 3 of 40 | 80 of 90 | the start itself |" in text
    assert "no evidence" not in text
    trial = selection_evidence.evidence_of([{**run(), "is_trial": True}])
    assert "no evidence" in next(selection_evidence.page(trial))


def test_the_card_states_the_cost_with_its_interval(tmp_path):
    selection_cost = runpy.run_path(str(ROOT / "projects" / "builtin" / "write_figures.py"))[
        "selection_cost"
    ]
    place = tmp_path / "runs.json"
    with pytest.raises(ValueError, match=r"runs\.json is missing; make the runs"):
        selection_cost(place)
    place.write_text(
        json.dumps(selection_evidence.evidence_of([run(lost=0.0), run(lost=0.1)])), "utf-8"
    )
    said = selection_cost(place)
    assert "The rule `guarded` costs 0.0 [0.0 to 0.0] points on a set left out" in said
    assert "would have cost 5.0 [0.0 to 10.0], 10.0 at worst. Sets: 3, of 2 runs." in said
    trial = selection_evidence.evidence_of([{**run(), "is_trial": True}])
    place.write_text(json.dumps(trial), "utf-8")
    with pytest.raises(ValueError, match="has trials of a few steps"):
        selection_cost(place)


def test_a_run_that_has_finished_is_not_repeated(tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "evidence.json").write_text("{}")
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("made again"))
    options = argparse.Namespace(into=tmp_path, data=tmp_path, unseen_start=None, trial=True)
    assert selection_evidence.make_runs(["one"], options) == []


# a run


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The sample catalogue, which is also the photographs of its senders."""
    data = tmp_path_factory.mktemp("data")
    write_sample_catalog(data / "clothing", n_products=90)
    with (data / "clothing" / "catalog.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (data / "clothing" / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "sender_id"])
        writer.writerows([row["image"], row["colour"], i // 3] for i, row in enumerate(rows))
    return data


def test_a_set_has_no_image_that_the_start_has_seen_and_no_sender_in_both_parts(shop, tmp_path):
    every = selection_sets.senders(shop, tmp_path)
    sender = {str(one.image.absolute()): one.group for one in every}
    seen = digest_training_data(
        [(ImageRef(str(one.image), one.image), []) for one in every[:30]], description="seen"
    )
    check = LeakageCheck([seen], None)
    (path,), (note,) = selection_sets.write_sets(["senders"], check, data=shop, into=tmp_path / "a")
    rows = selection_sets.read_rows(Path(path))
    assert not {row["image"] for row in rows} & set(list(sender)[:30])
    assert note.startswith(f"senders: {len(rows):,} images")
    parts = {
        part: {sender[row["image"]] for row in rows if row["split"] == part}
        for part in ("development", "test")
    }
    assert all(parts.values())
    assert not parts["development"] & parts["test"]


def types(data, into):
    """A second set: the same drawings by category."""
    rows = selection_sets.read_rows(data / "clothing" / "catalog.csv")
    return [
        selection_sets.Labelled(data / "clothing" / row["image"], (row["category"],), row["id"])
        for row in rows
    ]


def test_a_tiny_run_measures_every_candidate_on_both_parts(
    shop, tmp_path, tiny_checkpoint, monkeypatch
):
    start = tmp_path / "start"
    start.mkdir()
    for file in tiny_checkpoint.iterdir():
        (start / file.name).symlink_to(file)
    options = argparse.Namespace(
        into=tmp_path / "into", data=shop, unseen_start=start, trial=True, name="tiny"
    )
    row = {"name": "tiny", "start": "unseen", "data": "kagl", "lr": 1e-3, "batch": 16}
    row |= {"anchor": 1.0, "steps": 4}
    plan = selection_run.read_plan()
    kagl = {"catalog": "clothing/catalog.csv", "development": 0.2, "test": 0.2}
    plan |= {"data": {"kagl": {**kagl, "sets": ["types", "senders"]}}, "runs": [row]}
    plan["recipe"]["selection"]["rule"] = "last"
    monkeypatch.setattr(selection_run, "read_plan", lambda: plan)
    monkeypatch.setitem(selection_sets.SOURCES, "types", types)
    with pytest.raises(SystemExit, match="nobody can tell which images it has seen"):
        selection_run.measure(row, options)
    nothing = TrainingData("nothing", frozenset(), np.empty((0, 44), np.uint8), frozenset())
    write_training_data(nothing, start)
    found = selection_run.measure(row, options)
    names = [one["name"] for one in found["candidates"]]
    assert names[:4] == ["start", "step-000002", "step-000004", "average-of-2"]
    assert found["steps_taken"] == 4
    assert found["pairs"]["learned_seen"] == 0
    for one in found["candidates"]:
        assert one["development"]["sets"].keys() == one["test"]["sets"].keys()
        assert set(one["test"]["sets"]) == {"types", "senders"}
    assert found["chosen"] == "step-000004"
    of = {one["task"]: one for one in found["differences"]}
    assert {"held-out/captions", "types", "senders"} <= set(of)
    assert all(one["low"] <= one["value"] <= one["high"] for one in of.values())
    text = "\n".join(selection_evidence.page(selection_evidence.evidence_of([found])))
    assert "| tiny | unseen | kagl | 0.001 |" in text
    # the scores on both parts are kept, so that a killed run goes on
    monkeypatch.setattr(
        "fashionclip.train.selection.select.score_checkpoint",
        lambda *a, **k: pytest.fail("scored again"),
    )
    assert selection_run.measure(row, options)["candidates"] == found["candidates"]
