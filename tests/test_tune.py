"""One command trains, selects, evaluates and publishes a model, and can be resumed."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest

from fashionclip.checkpoint import open_checkpoint
from fashionclip.cli.main import run as run_program
from fashionclip.evaluate.leakage import read_training_data
from fashionclip.evaluate.results import read_run
from fashionclip.train.recipe import read_recipe
from fashionclip.train.run import RunFolder
from training_run import sample_selection


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_checkpoint):
    """The command without its folder."""
    sample = tmp_path_factory.mktemp("shop") / "sample"
    _, plan = sample_selection(sample, n_products=40)
    recipe = sample.parent / "recipe.toml"
    recipe.write_text(
        f"""
        [data]
        catalog = "{sample / "catalog.csv"}"
        development = 0.2
        test = 0.2
        [model]
        start = "{tiny_checkpoint}"
        [schedule]
        batch_size = 8
        steps = 6
        checkpoint_every = 2
        [selection]
        sets = {json.dumps(plan.sets[1:])}
        alphas = []
        stop_below = 100.0
        rule = "last"
        [cost]
        country = "FRA"
        price = 1.0
        [publish]
        license = "mit"
        """,
        encoding="utf-8",
    )
    return ["train", str(recipe), "--schedule.steps", "4", "--json"]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run_program([*words, "--out", str(run.root)])
    assert status == 0, err.getvalue()
    assert json.loads(out.getvalue())["steps"] == 4
    assert "finished: 4 steps, 2 checkpoints" in err.getvalue()
    assert read_recipe(run.recipe).schedule.steps == 4
    return run


def test_one_command_trains_selects_measures_and_publishes(whole, tiny_checkpoint):
    chosen = json.loads((whole.root / "selection.json").read_text(encoding="utf-8"))
    assert chosen["chosen"] == "step-000004"
    assert [c["name"] for c in chosen["candidates"]][:3] == ["start", "step-000002", "step-000004"]
    last = open_checkpoint(whole.checkpoint(4)).fingerprint
    assert open_checkpoint(whole.selected).fingerprint == last
    assert open_checkpoint(whole.root / "published").fingerprint == last
    assert last != open_checkpoint(tiny_checkpoint).fingerprint
    assert "catalog.csv, less the held-out" in read_training_data(whole.selected).description
    found = read_run(whole.root / "evaluation")
    tasks = {name: [result.task for result in results] for name, results in found.results.items()}
    assert tasks["start"] == tasks["selected"]
    assert {"held-out/captions", "colour.csv"} <= set(tasks["selected"])
    card = (whole.root / "published" / "README.md").read_text(encoding="utf-8")
    assert "| held-out/captions |" in card
    assert "license: mit" in card
    cost = json.loads((whole.root / "cost.json").read_text(encoding="utf-8"))
    assert cost["money"] > 0
    facts = json.loads(whole.facts.read_text(encoding="utf-8"))
    assert facts["selected"] == "step-000004"
    assert set(facts["held_out_brands"]) == {"development", "test"}


def test_nothing_that_was_held_out_was_trained_on(whole):
    """The leakage check finds no test query of the run among its training data."""
    found = read_run(whole.root / "evaluation")
    held_out = [r for r in found.results["selected"] if r.task.startswith("held-out/")]
    assert held_out
    assert all(result.n_seen == 0 for result in held_out)


def test_the_same_command_resumes_a_killed_selection(whole, words, capsys):
    before = {step: folder.stat().st_mtime_ns for step, folder in whole.checkpoints().items()}
    scores = {path.name: path.stat().st_mtime_ns for path in (whole.root / "scores").iterdir()}
    (whole.root / "selection.json").unlink()
    next((whole.root / "scores").glob("average*")).unlink()
    capsys.readouterr()
    assert run_program([*words, "--out", str(whole.root)]) == 0
    assert json.loads(capsys.readouterr().out)["selected"] == "step-000004"
    assert {s: f.stat().st_mtime_ns for s, f in whole.checkpoints().items()} == before
    after = {path.name: path.stat().st_mtime_ns for path in (whole.root / "scores").iterdir()}
    changed = {name for name in after if after[name] != scores[name]}
    assert len(changed) == 1
    assert len(json.loads((whole.root / "cost.json").read_text("utf-8"))["sessions"]) == 2


def test_a_run_without_held_out_pairs_stops_before_it_trains(words, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--out", str(run), "--data.development", "0"]
    assert run_program([*words, *flags]) == 1
    assert "raise data.development and data.test" in capsys.readouterr().err
    assert not (run / "checkpoints").exists()
