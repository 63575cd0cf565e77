"""Selection of a checkpoint: candidates, scores, rules, the table, the files."""

import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fashionclip.checkpoint import open_checkpoint
from fashionclip.checkpoint.weights import write_weights
from fashionclip.errors import CheckpointError, EvaluationError, TrainingError
from fashionclip.evaluate.leakage import TrainingData, read_training_data, write_training_data
from fashionclip.evaluate.run import load_benchmarks
from fashionclip.evaluate.tasks import ZeroShot
from fashionclip.train.recipe import make_recipe
from fashionclip.train.run import RunFolder
from fashionclip.train.selection.candidates import (
    Candidate,
    average_of,
    checkpoint_at,
    interpolation,
    start_of,
    write_candidate,
)
from fashionclip.train.selection.report import choice_markdown, write_choice
from fashionclip.train.selection.rules import RULES, Scored, SelectionContext, leave_one_set_out
from fashionclip.train.selection.select import select_checkpoint, watch_checkpoints
from fashionclip.train.selection.suite import (
    Scores,
    build_suite,
    read_scores,
    score_checkpoint,
    task_part,
    validation_loss,
)
from random_clip import write_checkpoint
from training_run import perturb, sample_selection, write_training_run


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return sample_selection(tmp_path_factory.mktemp("sample") / "sample")


@pytest.fixture(scope="module")
def suite(questions):
    return build_suite(*questions)


def of(loss, inside, **sets):
    """Scores of one candidate."""
    return Scores(loss, {"recall@10": inside}, sets, sets, {}, 0.0)


def made(name, kind, step, scores):
    return Scored(Candidate(name, kind, step, ()), scores)


# candidates


def test_an_interpolation_is_the_weighted_mean_of_both_weight_by_weight(tiny_checkpoint, tmp_path):
    tuned = perturb(tiny_checkpoint, tmp_path / "tuned", strength=0.5)
    start = start_of(open_checkpoint(tiny_checkpoint))
    end = checkpoint_at(7, open_checkpoint(tuned))
    write_candidate(interpolation(start, end, 0.3), tmp_path / "mixed")
    a, b, mixed = (
        load_file(folder / "model.safetensors")
        for folder in (tiny_checkpoint, tuned, tmp_path / "mixed")
    )
    assert mixed.keys() == a.keys()
    for name in a:
        np.testing.assert_allclose(mixed[name], 0.7 * a[name] + 0.3 * b[name], atol=1e-6)
    assert not (tmp_path / "mixed" / "README.md").exists()


def test_transformers_loads_an_average_unchanged(tiny_checkpoint, tmp_path):
    from transformers import CLIPModel, CLIPProcessor

    parts = [
        checkpoint_at(
            i, open_checkpoint(perturb(tiny_checkpoint, tmp_path / str(i), strength=0.2, seed=i))
        )
        for i in range(3)
    ]
    write_candidate(average_of(parts), tmp_path / "average")
    _, report = CLIPModel.from_pretrained(tmp_path / "average", output_loading_info=True)
    assert not any(report[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    CLIPProcessor.from_pretrained(tmp_path / "average")


def test_float16_stays_float16_and_the_built_in_model_can_be_mixed(tmp_path):
    builtin = open_checkpoint()
    tuned = perturb(builtin.folder, tmp_path / "tuned", strength=0.1)
    write_candidate(
        interpolation(start_of(builtin), checkpoint_at(1, open_checkpoint(tuned)), 0.5),
        tmp_path / "mixed",
    )
    mixed = open_checkpoint(tmp_path / "mixed")
    kinds = {name: mixed.weights().dtype(name) for name in mixed.weights()}
    assert kinds == {name: builtin.weights().dtype(name) for name in builtin.weights()}
    assert mixed.fingerprint not in {builtin.fingerprint, open_checkpoint(tuned).fingerprint}


def test_checkpoints_of_different_models_are_not_mixed(tiny_checkpoint, tmp_path):
    other = write_checkpoint(tmp_path / "other", vision={"num_hidden_layers": 1})
    mixed = interpolation(
        start_of(open_checkpoint(tiny_checkpoint)), checkpoint_at(1, open_checkpoint(other)), 0.5
    )
    with pytest.raises(CheckpointError, match=r"differ in sizes.*one run"):
        write_candidate(mixed, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


def test_a_full_disk_leaves_nothing_half_written(tiny_checkpoint, tmp_path, monkeypatch):
    tuned = perturb(tiny_checkpoint, tmp_path / "tuned", strength=0.5)
    mixed = interpolation(
        start_of(open_checkpoint(tiny_checkpoint)), checkpoint_at(1, open_checkpoint(tuned)), 0.5
    )
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(
        "fashionclip.checkpoint.folder.write_weights",
        lambda path, *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_candidate(mixed, room / "mixed")
    assert list(room.iterdir()) == []


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=8),
        st.lists(st.integers(0, 4), max_size=3).map(tuple),
        max_size=5,
    ),
    st.sampled_from(["float32", "float16"]),
)
def test_weights_that_are_streamed_are_what_the_library_reads(tmp_path_factory, shapes, dtype):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    rng = np.random.default_rng(0)
    tensors = {
        name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()
    }
    kind = {"float32": "F32", "float16": "F16"}[dtype]
    layout = {name: (shape, kind) for name, shape in shapes.items()}
    write_weights(path, layout, tensors.__getitem__)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


# tasks


def test_test_images_are_never_used_for_selection(questions):
    pairs, plan = questions
    suite = build_suite(pairs, plan)
    tasks = [t for t in load_benchmarks(plan.sets, None).tasks if isinstance(t, ZeroShot)]
    test = {image.image_id for task in tasks for image in task.images}
    used = {p.image_id for some in suite.sets.values() for task in some for p in task.images}
    assert test
    assert used
    assert not test & used
    for task in tasks:
        cut = task_part(task, "development", 1000)
        assert cut.development_images == ()
        assert set(cut.images) == set(task.development_images)


def test_the_same_tasks_on_test_images_measure_and_share_no_image_with_the_selection(questions):
    pairs, plan = questions
    development, test = (build_suite(pairs, plan, part=part) for part in ("development", "test"))
    assert development.sets.keys() == test.sets.keys()
    assert development.digest != test.digest
    for name, tasks in test.sets.items():
        (one,), (other,) = tasks, development.sets[name]
        assert one.classes == other.classes
        assert not {i.image_id for i in one.images} & {i.image_id for i in other.images}


def test_a_set_without_development_images_is_noted_and_left_out(questions, tmp_path):
    pairs, plan = questions
    source = Path(plan.sets[0])
    table = tmp_path / "only-test.csv"
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    lines = [line for line in lines if not line.endswith("development\n")]
    folder = source.parent
    table.write_text(
        "".join([lines[0], *(f"{folder}/{line}" for line in lines[1:])]), encoding="utf-8"
    )
    suite = build_suite(pairs, plan.model_copy(update={"sets": (*plan.sets, str(table))}))
    assert list(suite.sets) == ["category.csv", "colour.csv"]
    assert "only-test.csv is not part of the selection: it has no development" in suite.notes[0]


def test_pairs_without_captions_are_not_used(questions):
    pairs, plan = questions
    with pytest.raises(EvaluationError, match=r"2 held-out pairs.*has 0; hold out more brands"):
        build_suite([replace(pair, caption=" ") for pair in pairs], plan)


def test_sets_that_the_start_was_trained_on_are_noted(questions, tiny_checkpoint, tmp_path):
    from fashionclip.evaluate.leakage import digest_training_data

    pairs, plan = questions
    start = tmp_path / "start"
    shutil.copytree(tiny_checkpoint, start)
    suite = build_suite(pairs, plan)
    seen = next(iter(suite.sets.values()))[0].images[:3]
    write_training_data(digest_training_data([(p, []) for p in seen], description="it"), start)
    notes = build_suite(pairs, plan, start=open_checkpoint(start)).notes
    assert len(notes) == 2  # both sets have the same images
    assert "trained on" in notes[0]


# scores


def test_the_validation_loss_is_pytorchs_and_excludes_equal_captions():
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((2, 6, 8)) / 3).astype(np.float32)
    logits = 20 * torch.tensor(a) @ torch.tensor(b).T
    right = torch.arange(6)
    expected = (
        functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
    ) / 2
    assert validation_loss(a, b, np.arange(6), 20.0) == pytest.approx(float(expected), abs=1e-5)
    twins = np.array([0, 0, 2, 3, 4, 5])
    logits[0, 1] = logits[1, 0] = -torch.inf
    expected = (
        functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
    ) / 2
    assert validation_loss(a, b, twins, 20.0) == pytest.approx(float(expected), abs=1e-5)
    assert validation_loss(a, b, np.zeros(6, int), 20.0) == pytest.approx(0.0)


def test_scores_come_back_from_their_file_as_they_were(suite, tiny_checkpoint):
    scores = score_checkpoint(open_checkpoint(tiny_checkpoint), suite)
    again = read_scores(json.loads(json.dumps(scores.fields())))
    assert again == scores
    assert scores.out_of_domain == pytest.approx(np.mean(list(scores.sets.values())))
    assert set(scores.sets) == {"category.csv", "colour.csv"}
    assert scores.validation_loss > 0


def test_the_same_weights_get_the_same_scores(suite, tiny_checkpoint):
    first, second = (score_checkpoint(open_checkpoint(tiny_checkpoint), suite) for _ in range(2))
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)


# rules


START = made("start", "start", 0, of(2.0, 0.40, a=0.50, b=0.50, c=0.50))
EARLY = made("step-1", "checkpoint", 1, of(1.5, 0.50, a=0.55, b=0.48, c=0.49))
LATE = made("step-2", "checkpoint", 2, of(1.2, 0.60, a=0.40, b=0.40, c=0.30))
LAST = made("step-3", "checkpoint", 3, of(1.3, 0.58, a=0.30, b=0.45, c=0.35))
MIXED = made("0.4 of step-2", "interpolation", 2, of(1.6, 0.55, a=0.52, b=0.50, c=0.51))
ALL = (START, EARLY, LATE, LAST, MIXED)


def test_a_recipe_can_name_each_rule_and_no_other():
    for name in RULES:
        assert make_recipe({"selection": {"rule": name}}, place="x").selection.rule == name
    with pytest.raises(TrainingError, match=r"selection.rule is 'best'; .*'both' or 'guarded'"):
        make_recipe({"selection": {"rule": "best"}}, place="x")


def test_each_rule_selects_what_its_description_says():
    context = SelectionContext(START.scores, ("a", "b", "c"))
    chosen = {name: rule.choose(ALL, context).candidate.name for name, rule in RULES.items()}
    assert chosen == {
        "start": "start",
        "last": "step-3",
        "validation-loss": "step-2",
        "retrieval": "step-2",
        "average": "start",  # there is no average
        "out-of-domain": "0.4 of step-2",
        "both": "0.4 of step-2",
        "guarded": "0.4 of step-2",
    }


def test_the_guarded_rule_keeps_the_start_where_all_others_are_worse():
    context = SelectionContext(START.scores, ("a", "b", "c"))
    assert RULES["guarded"].choose((START, LATE, LAST), context) is START


def test_the_table_is_what_counting_by_hand_gives():
    rows = {row.rule: row for row in leave_one_set_out(ALL)}
    last = rows["last"].sets
    assert last["a"].cost == pytest.approx(100 * (0.55 - 0.30))
    assert last["c"].cost == pytest.approx(100 * (0.51 - 0.35))
    assert last["b"].against_start == pytest.approx(100 * (0.45 - 0.50))
    assert rows["last"].mean_cost == pytest.approx((25 + 5 + 16) / 3)
    assert rows["last"].worst_cost == pytest.approx(25)
    assert rows["last"].in_domain_gain == pytest.approx(18)
    assert rows["last"].in_domain_cost == pytest.approx(2)
    assert rows["start"].worst_against_start == 0
    # without a, the first step's mean of b and c is below the start's; with a it would not be
    assert rows["guarded"].sets["a"].chosen == "0.4 of step-2"


def test_what_a_rule_costs_can_be_measured_on_images_that_it_does_not_see():
    measured = [
        replace(one.scores, sets={"a": 0.4, "b": 0.4, "c": c}, retrieval={"recall@10": inside})
        for one, c, inside in zip(
            ALL, (0.5, 0.6, 0.7, 0.2, 0.3), (0.3, 0.3, 0.3, 0.5, 0.2), strict=True
        )
    ]
    seen = {row.rule: row for row in leave_one_set_out(ALL)}
    rows = {row.rule: row for row in leave_one_set_out(ALL, measured)}
    for name, row in rows.items():
        assert row.chosen == seen[name].chosen
        assert [s.chosen for s in row.sets.values()] == [s.chosen for s in seen[name].sets.values()]
    assert rows["last"].sets["c"].cost == pytest.approx(100 * (0.7 - 0.2))
    assert rows["last"].sets["c"].against_start == pytest.approx(100 * (0.2 - 0.5))
    assert rows["last"].sets["a"].cost == 0
    assert rows["last"].in_domain_gain == pytest.approx(100 * (0.5 - 0.3))
    assert rows["guarded"].in_domain_cost == pytest.approx(100 * (0.5 - 0.2))
    with pytest.raises(ValueError, match="shorter"):
        leave_one_set_out(ALL, measured[:-1])


scores_of_a_set = st.floats(0, 1, allow_nan=False)


@given(
    st.lists(st.tuples(scores_of_a_set, scores_of_a_set, scores_of_a_set), min_size=1, max_size=6)
)
def test_costs_are_never_negative_and_the_choice_ignores_the_set_left_out(triples):
    candidates = [START] + [
        made(f"step-{i}", "checkpoint", i, of(1.0, c, a=a, b=b, c=c))
        for i, (a, b, c) in enumerate(triples, start=1)
    ]
    for row in leave_one_set_out(candidates):
        assert all(left.cost >= 0 for left in row.sets.values())
        assert row.worst_cost >= row.mean_cost - 1e-9
    changed = [
        replace(s, scores=replace(s.scores, sets={**s.scores.sets, "a": 1 - s.scores.sets["a"]}))
        for s in candidates
    ]
    before, after = (
        [row.sets["a"].chosen for row in leave_one_set_out(some)] for some in (candidates, changed)
    )
    assert before == after


# the run


@pytest.fixture(scope="module")
def chosen_run(tmp_path_factory, questions, suite, tiny_checkpoint):
    run = write_training_run(tmp_path_factory.mktemp("runs") / "run", tiny_checkpoint)
    start = open_checkpoint(tiny_checkpoint)
    training = TrainingData(
        "this run", frozenset({b"p" * 16}), np.zeros((1, 44), np.uint8), frozenset()
    )
    choice = select_checkpoint(run, start, suite, questions[1], training=training)
    write_choice(choice, run)
    return run, choice


def test_every_kind_of_candidate_is_scored_and_one_is_selected(chosen_run):
    run, choice = chosen_run
    names = [scored.candidate.name for scored in choice.candidates]
    assert names[:4] == ["start", "step-000100", "step-000200", "average-of-2"]
    assert "0.5 of average-of-2" in names
    assert "0.5 of step-000200" in names
    written = json.loads((run.root / "selection.json").read_text(encoding="utf-8"))
    assert written["chosen"] == choice.chosen.candidate.name
    assert [row["rule"] for row in written["left_out"]] == list(RULES)
    open_checkpoint(run.selected)
    assert sorted(p.name for p in run.root.iterdir() if p.name.startswith(".")) == []


def test_the_selected_weights_carry_digests_of_their_training_data(chosen_run):
    run, choice = chosen_run
    data = read_training_data(run.selected)
    if choice.chosen.candidate.kind == "start":
        assert data is None
    else:
        assert data.description == "this run"


def test_the_page_and_the_plot_agree(chosen_run):
    run, choice = chosen_run
    page = (run.root / "selection.md").read_text(encoding="utf-8")
    assert f"**{choice.chosen.candidate.name}**, by the rule `guarded`" in page
    assert "| **guarded** |" in page
    svg = (run.root / "selection.svg").read_bytes()
    texts = " ".join(ET.fromstring(svg).itertext())
    assert f"chosen: {choice.chosen.candidate.name}" in texts
    write_choice(choice, run)
    assert (run.root / "selection.svg").read_bytes() == svg
    assert choice_markdown(choice) == page


def test_a_second_selection_reuses_all_scores(
    chosen_run, questions, suite, tiny_checkpoint, monkeypatch
):
    run, choice = chosen_run
    monkeypatch.setattr(
        "fashionclip.train.selection.select.score_checkpoint",
        lambda *a, **k: pytest.fail("scored again"),
    )
    again = select_checkpoint(run, open_checkpoint(tiny_checkpoint), suite, questions[1])
    assert [s.scores for s in again.candidates] == [s.scores for s in choice.candidates]


def test_a_checkpoint_cut_short_costs_only_itself(questions, suite, tiny_checkpoint, tmp_path):
    run = write_training_run(tmp_path / "run", tiny_checkpoint)
    weights = run.checkpoint(200) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    choice = select_checkpoint(
        run, open_checkpoint(tiny_checkpoint), suite, questions[1].model_copy(update={"average": 0})
    )
    assert [s.candidate.name for s in choice.candidates][:2] == ["start", "step-000100"]
    assert any(
        "step 200 is not a candidate" in note and "truncated" in note for note in choice.notes
    )


def test_a_run_without_a_whole_checkpoint_is_an_error(suite, questions, tiny_checkpoint, tmp_path):
    start = open_checkpoint(tiny_checkpoint)
    with pytest.raises(TrainingError, match="no whole checkpoint"):
        select_checkpoint(RunFolder(tmp_path), start, suite, questions[1])


def test_a_run_stops_early_when_the_sets_mean_falls(suite, questions, tiny_checkpoint, tmp_path):
    run = write_training_run(tmp_path / "run", tiny_checkpoint, strengths=(0.0, 3.0))
    start = open_checkpoint(tiny_checkpoint)
    reported = []
    plan = questions[1].model_copy(update={"stop_below": 0.0})
    watch = watch_checkpoints(
        run, start, suite, plan, lambda name, step, scores: reported.append(name)
    )
    assert watch(100, run.checkpoint(100))  # the same weights, so nothing is forgotten
    of_start = json.loads((run.root / "scores" / "start.json").read_text(encoding="utf-8"))
    goes_on = watch(200, run.checkpoint(200))
    of_last = json.loads((run.root / "scores" / "step-000200.json").read_text(encoding="utf-8"))
    fallen = of_last["scores"]["out_of_domain"] < of_start["scores"]["out_of_domain"]
    assert goes_on is not fallen
    assert reported == ["start", "step-000100", "step-000200"]
    lines = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines][:2] == ["scores", "scores"]
    assert (lines[-1]["event"] == "stopped early") is fallen
