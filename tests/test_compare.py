"""Comparisons of two runs: paired on the same items, with a test of significance."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from evaluation_run import two_model_run
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.compare import compare_runs, comparison_markdown, gate_failures
from fashionclip.evaluate.results import Figure, ModelInfo, Run, TaskResult

NOISE = "no difference beyond the noise"
OLD, NEW = "builtin", "patrickjohncyh/fashion-clip"


def run_of(*results: TaskResult, name: str = "m", missing: dict[str, str] | None = None) -> Run:
    model = ModelInfo(name, "f", 4, "cpu")
    return Run((model,), {name: results}, missing or {}, "2026-01-02T03:04:05+00:00", "1")


def labelled(
    predicted: Sequence[str],
    truth: Sequence[str],
    *,
    task: str = "shop",
    items: Sequence[str] | None = None,
    seen: Sequence[bool] | None = None,
    classes: Sequence[str] = ("bag", "cap", "tie"),
) -> TaskResult:
    """A zero-shot result with these labels; its figures' intervals do not matter here."""
    n = len(truth)
    values = {
        "weighted_f1": f1_score(truth, predicted, average="weighted", zero_division=0),
        "accuracy": np.mean(np.array(truth) == np.array(predicted)),
    }
    return TaskResult(
        task=task,
        kind="zero-shot",
        headline="weighted_f1",
        n=n,
        left_out=0,
        figures={name: Figure(float(v), float(v), float(v), n) for name, v in values.items()},
        details={"classes": list(classes)},
        items={
            "item": items or [f"p{i}" for i in range(n)],
            "truth": list(truth),
            "predicted": list(predicted),
            "seen": seen or [False] * n,
        },
    )


def ranked(values: Sequence[float], *, n_documents: int = 50, task: str = "find") -> TaskResult:
    n = len(values)
    mean = float(np.nanmean(values))
    return TaskResult(
        task=task,
        kind="retrieval",
        headline="mrr@10",
        n=n,
        left_out=0,
        figures={"mrr@10": Figure(mean, mean, mean, n)},
        details={"n_documents": n_documents},
        items={
            "item": [f"q{i}" for i in range(n)],
            "seen": [False] * n,
            "mrr@10": list(values),
        },
    )


def draws(n: int, right: float, *, seed: int) -> tuple[list[str], list[str]]:
    """True labels, the same for all, and predicted ones with a given accuracy."""
    names = np.array(["bag", "cap", "tie"])
    truth = np.random.default_rng(0).integers(0, 3, n)
    rng = np.random.default_rng(seed)
    wrong = (truth + rng.integers(1, 3, n)) % 3
    predicted = np.where(rng.random(n) < right, truth, wrong)
    return names[truth].tolist(), names[predicted].tolist()


def test_a_run_is_no_better_than_itself() -> None:
    run = two_model_run()
    comparison = compare_runs(run, run, old_model=OLD, new_model=OLD)
    judged = [row for row in comparison.rows if row.difference is not None]
    assert {row.verdict for row in judged} == {NOISE}
    assert comparison.n_compared == len(judged) > 10
    assert gate_failures(comparison) == ()


def test_a_clear_gain_is_better_and_a_clear_loss_shuts_the_gate() -> None:
    truth, weak = draws(300, 0.6, seed=1)
    _, strong = draws(300, 0.8, seed=2)
    before, after = run_of(labelled(weak, truth)), run_of(labelled(strong, truth))
    gain, loss = compare_runs(before, after), compare_runs(after, before)
    assert [row.verdict for row in gain.rows] == ["better", "better"]
    assert [row.verdict for row in loss.rows] == ["worse", "worse"]
    assert gate_failures(gain) == ()
    (line,) = gate_failures(loss, ["shop"])
    assert line.startswith("shop: Weighted F1 is worse: -0.")
    assert line.endswith("n = 300")


def test_a_small_difference_is_noise() -> None:
    truth, one = draws(300, 0.7, seed=1)
    _, other = draws(300, 0.7, seed=2)
    comparison = compare_runs(run_of(labelled(one, truth)), run_of(labelled(other, truth)))
    assert {row.verdict for row in comparison.rows} == {NOISE}


def test_values_are_those_of_the_shared_images_and_both_n_are_given() -> None:
    truth, one = draws(200, 0.6, seed=1)
    _, other = draws(200, 0.8, seed=2)
    names = [f"p{i}" for i in range(200)]
    old = labelled(one[:150], truth[:150], items=names[:150])
    new = labelled(other[30:][::-1], truth[30:][::-1], items=names[30:][::-1])
    f1, accuracy = compare_runs(run_of(old), run_of(new)).rows
    shared = slice(30, 150)
    for value, labels in ((f1.old, one), (f1.new, other)):
        assert value == pytest.approx(
            f1_score(truth[shared], labels[shared], average="weighted"), abs=1e-12
        )
    assert f1.difference is not None
    assert f1.difference.value == pytest.approx(f1.new - f1.old, abs=1e-12)
    assert (f1.n_old, f1.n_new, f1.n, f1.difference.n) == (150, 170, 120, 120)
    text = comparison_markdown(compare_runs(run_of(old), run_of(new)))
    assert "120 shared of 150 and 170" in text

    hit = np.array([np.array(labels)[shared] == np.array(truth)[shared] for labels in (one, other)])
    only_old, only_new = int((hit[0] & ~hit[1]).sum()), int((hit[1] & ~hit[0]).sum())
    assert accuracy.mcnemar == pytest.approx(binomtest(only_old, only_old + only_new).pvalue)
    assert f1.mcnemar is None


def test_rankings_are_paired_query_by_query() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.random(
        80
    )  # the difference between queries is far larger than that between the models
    before, after = run_of(ranked(hardness)), run_of(ranked(hardness * 0.97))
    (row,) = compare_runs(before, after).rows
    assert row.verdict == "worse"
    assert row.mcnemar is None


def test_an_item_that_does_not_count_for_a_figure_is_left_out_of_it() -> None:
    values = [float("nan"), *np.linspace(0, 1, 20)]
    (row,) = compare_runs(run_of(ranked(values)), run_of(ranked(values))).rows
    assert (row.n, row.old) == (20, pytest.approx(0.5))


def test_gains_on_what_was_seen_in_training_do_not_open_the_gate() -> None:
    truth, weak = draws(600, 0.7, seed=1)
    _, weaker = draws(600, 0.5, seed=2)
    learned = [*truth[:400], *weaker[400:]]  # it has memorised these, and is worse on all others
    seen = [True] * 400 + [False] * 200
    old, new = labelled(weak, truth), labelled(learned, truth, seen=seen)
    comparison = compare_runs(run_of(old), run_of(new))
    everything, unseen = (row for row in comparison.rows if row.is_headline)
    assert (everything.unseen, everything.verdict, everything.n) == (False, "better", 600)
    assert (unseen.unseen, unseen.verdict, unseen.n) == (True, "worse", 200)
    (line,) = gate_failures(comparison)
    assert "without what was seen in training is worse" in line


def test_a_row_that_cannot_be_compared_has_a_reason() -> None:
    truth, one = draws(40, 0.6, seed=1)
    moved = ["cap", *truth[1:]] if truth[0] != "cap" else ["bag", *truth[1:]]
    old = labelled(one, truth)
    others = {
        "1 of 40 shared pictures have another true label": labelled(one, moved),
        "the class lists differ": labelled(one, truth, classes=("bag", "cap", "tie", "sock")),
        "the runs share no item": labelled(one, truth, items=[f"x{i}" for i in range(40)]),
        "5 shared items are too few to tell": labelled(one[:5], truth[:5]),
    }
    for why, new in others.items():
        comparison = compare_runs(run_of(old), run_of(new))
        assert {(row.verdict, row.why) for row in comparison.rows} == {("not comparable", why)}
        text = comparison_markdown(comparison)
        assert f"| **not comparable ({why})** |" in text
        assert f"- shop: not comparable ({why}): Accuracy " in text
        assert gate_failures(comparison) == ("the runs have no task that could be compared",)
    values = [0.5] * 30
    smaller = compare_runs(run_of(ranked(values)), run_of(ranked(values, n_documents=9)))
    assert smaller.rows[0].why == "other pictures were searched"


def test_a_figure_without_a_value_an_image_is_shown_but_not_judged() -> None:
    run = two_model_run()
    comparison = compare_runs(run, run, old_model=OLD, new_model=NEW)
    (row,) = (r for r in comparison.rows if (r.task, r.metric) == ("fmnist", "top_5"))
    assert row.verdict == "not comparable"
    assert row.old == run.results[OLD][0].figures["top_5"].value
    line = next(s for s in comparison_markdown(comparison).splitlines() if "Top 5" in s)
    assert line.startswith(
        "- fmnist: not comparable (the runs have no value for each item): Top 5 "
    )


def test_a_task_that_one_run_lacks_is_a_line() -> None:
    truth, one = draws(40, 0.6, seed=1)
    both, extra = labelled(one, truth), labelled(one, truth, task="deep/category")
    less = run_of(both, missing={"deep": "ask its owners for the files"})
    line = "deep/category: only in the old run, the new one lacks it (ask its owners for the files)"
    assert compare_runs(run_of(both, extra), less).lines == (line,)
    (other,) = compare_runs(run_of(both), run_of(both, extra)).lines
    assert other == "deep/category: only in the new run, the old one lacks it"
    figures = {"weighted_f1": both.figures["weighted_f1"]}
    (lost,) = compare_runs(run_of(both), run_of(replace(both, figures=figures))).lines
    assert lost == "shop: only the old run measured Accuracy"


def test_the_gate_checks_the_named_benchmarks() -> None:
    truth, weak = draws(300, 0.5, seed=1)
    _, strong = draws(300, 0.9, seed=2)
    before = run_of(
        labelled(strong, truth, task="kagl/article-type"), labelled(weak, truth, task="fmnist")
    )
    after = run_of(
        labelled(weak, truth, task="kagl/article-type"), labelled(strong, truth, task="fmnist")
    )
    comparison = compare_runs(before, after)
    assert gate_failures(comparison, ["fmnist"]) == ()
    for name in ("kagl", "kagl/article-type"):
        assert len(gate_failures(comparison, [name])) == 1
    assert len(gate_failures(comparison, ["kagl", "kagl/article-type"])) == 1
    assert len(gate_failures(comparison)) == 1
    assert gate_failures(comparison, ["fmnist", "deep"]) == ("deep: nothing could be compared",)
    assert gate_failures(comparison, ["kag"]) == ("kag: nothing could be compared",)


def test_a_task_of_a_named_benchmark_that_was_lost_keeps_the_gate_shut() -> None:
    truth, one = draws(40, 0.6, seed=1)
    kept, lost = (labelled(one, truth, task=f"kagl/{name}") for name in ("colour", "probe"))
    comparison = compare_runs(run_of(kept, lost), run_of(kept))
    assert gate_failures(comparison) == ()
    assert gate_failures(comparison, ["kagl/colour"]) == ()
    assert gate_failures(comparison, ["kagl"]) == ("kagl/probe: the new run lacks it",)
    other = labelled(one, truth, task="kagl/probe", classes=("bag", "cap", "tie", "sock"))
    changed = compare_runs(run_of(kept, lost), run_of(kept, other))
    assert gate_failures(changed, ["kagl"]) == ("kagl/probe: the class lists differ",)


def test_only_what_is_named_is_compared() -> None:
    truth, one = draws(40, 0.6, seed=1)
    tasks = [labelled(one, truth, task=name) for name in ("fmnist", "kagl/colour", "kagl/gender")]
    comparison = compare_runs(run_of(*tasks), run_of(*tasks), on=["kagl", "deep"])
    assert list(dict.fromkeys(row.task for row in comparison.rows)) == [
        "kagl/colour",
        "kagl/gender",
    ]
    assert comparison.lines == ("deep: neither run has it",)
    assert gate_failures(comparison, ["kagl", "deep"]) == ("deep: nothing could be compared",)


def test_too_few_unseen_items_show_the_unseen_figures() -> None:
    truth, one = draws(40, 0.6, seed=1)
    seen = [True] * 37 + [False] * 3
    few = replace(labelled(one, truth, seen=seen), unseen={"weighted_f1": Figure(0.2, 0.0, 1.0, 3)})
    row = next(row for row in compare_runs(run_of(few), run_of(few)).rows if row.unseen)
    assert (row.verdict, row.why) == ("not comparable", "3 shared items are too few to tell")
    assert (row.old, row.new, row.n) == (0.2, 0.2, 3)
    nothing = replace(few, unseen={})
    row = next(row for row in compare_runs(run_of(few), run_of(nothing)).rows if row.unseen)
    assert np.isnan(row.new)


def test_which_model_is_meant_must_be_clear() -> None:
    one, two = run_of(), two_model_run()
    with pytest.raises(EvaluationError, match=r"the new run has 2 models \(builtin, patrick"):
        compare_runs(one, two)
    with pytest.raises(EvaluationError, match="the old run has no model 'x'; it has m"):
        compare_runs(one, two, old_model="x", new_model=OLD)


def test_the_verdicts_as_markdown() -> None:
    run = two_model_run()
    comparison = compare_runs(run, run, old_model=OLD, new_model=NEW)
    text = comparison_markdown(comparison)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + comparison.n_compared
    assert {line.count("|") for line in lines} == {9}
    assert f"{comparison.n_compared} comparisons were made, each tested alone" in text
    headline = next(line for line in lines if "fmnist** |" in line)
    assert headline.startswith("| **fmnist** | **Weighted F1** |")
    assert headline.endswith("**better** |")
    odd = compare_runs(run_of(name="a|b_c"), run_of(name="<i>"))
    assert "Old: a\\|b\\_c (f). New: \\<i\\> (f)." in comparison_markdown(odd)
