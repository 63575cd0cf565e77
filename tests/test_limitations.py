"""Audits and probes in model cards: what a sentence says follows from the interval and chance."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fashionclip.audit.exposure import BY_CHANCE
from fashionclip.evaluate.results import Figure, ModelInfo, Run, TaskResult
from fashionclip.publish.limitations import measured_limitations, results_of, selection_sentence

ROOT = Path(__file__).parents[1]


def audit(name, figures, *, unseen=None, chance=None, kind="audit"):
    return TaskResult(
        *(f"shop/{name}", kind, next(iter(figures), "none"), 100, 0),
        figures=figures,
        unseen=unseen or {},
        n_seen=60 if unseen else 0,
        details={"chance": chance or {}},
    )


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.03, "nearer to men's products than to women's"),
        (-0.03, -0.01, "nearer to women's products than to men's"),
        (-0.01, 0.03, "as near to men's as to women's"),
    ],
)
def test_a_sentence_follows_from_the_side_of_chance(low, high, said):
    figure = Figure((low + high) / 2, low, high, 80)
    line = measured_limitations([audit("gender", {"association": figure})])[0]
    heading, _, sentence = line.partition("\n  - ")
    assert heading == "**Gender** (`shop/gender`):"
    assert said in sentence
    assert sentence.startswith("As far as this can tell") == (low < 0 < high)
    assert f"[{low:.3f} to {high:.3f}], n = 80; by chance 0.000" in line


def test_chance_need_not_be_zero():
    """Seven of ten hits are men's, as seven of ten products are: no bias."""
    figures = {"bias@10": Figure(0.4, 0.3, 0.5, 12)}
    fair = measured_limitations([audit("gender", figures, chance={"bias@10": 0.41})])[0]
    assert "have the shop's own shares" in fair
    assert "As far as this can tell" in fair
    biased = measured_limitations([audit("gender", figures, chance={"bias@10": 0.0})])[0]
    assert "more men's products than the shop has" in biased


def test_no_side_of_chance_is_said_where_chance_is_not_known():
    figures = {"ground_drop": Figure(0.4, 0.3, 0.5, 12)}
    line = measured_limitations([audit("background", figures)])[0]
    assert "0.400 [0.300 to 0.500], n = 12; what chance gives is not known" in line
    assert "another product" not in line


def test_products_that_it_was_not_trained_on_decide_the_sentence():
    result = audit(
        "query-length",
        {"long_gain@10": Figure(-0.2, -0.3, -0.1, 500)},
        unseen={"long_gain@10": Figure(0.1, 0.05, 0.15, 90)},
    )
    line = measured_limitations([result])[0]
    assert "find the same products more often" in line
    assert "; not trained on 0.100 [0.050 to 0.150], n = 90" in line


def test_few_products_that_it_was_not_trained_on_hide_nothing():
    figures = {"type_change@10": Figure(-0.1, -0.13, -0.08, 99)}
    unseen = {"type_change@10": Figure(-0.07, -0.17, 0.01, 11)}
    line = measured_limitations([audit("brands", figures, unseen=unseen)])[0]
    assert "shows less of the garment, of all products; of those not trained on it cannot" in line
    without = replace(audit("brands", figures), n_seen=60)
    assert "not trained on — (too few)" in measured_limitations([without])[0]


def test_label_swaps_decide_where_there_were_some():
    """The interval over types holds chance, but hardly a swap is as far from it."""
    result = audit("gender", {"bias@10": Figure(0.6, 0.39, 0.78, 15)}, chance={"bias@10": 0.41})
    swaps = {BY_CHANCE: {"bias@10": Figure(0.41, 0.3, 0.52, 500)}}
    line = measured_limitations([replace(result, details=result.details | {"groups": swaps})])[0]
    assert "more men's products than the shop has" in line
    assert "by chance 0.410 [0.300 to 0.520]" in line


def test_what_was_not_measured_is_named():
    lines = measured_limitations([audit("gender", {}), audit("prices", {})])
    assert lines == [
        "Not measured: gender, long and short queries, centred pictures on white. "
        "`fashionclip audit` measures it."
    ]


def test_probes_are_quoted_with_their_chance():
    result = audit(
        "negation",
        {"win_rate": Figure(0.4, 0.3, 0.5, 200)},
        chance={"win_rate": 0.5},
        kind="behavioural-probe",
    )
    line = measured_limitations([result])[0]
    assert line.startswith("**Probes**:\n  - `shop/negation`: ")
    assert line.endswith("Win rate 0.400 [0.300 to 0.500], n = 200; by chance 0.500.")


def test_the_cost_of_the_rule_stands_beside_that_of_the_loss():
    rows = [
        {"rule": "guarded", "mean_cost": 0.9, "worst_cost": 2.7, "sets": ["a", "b"]},
        {"rule": "validation-loss", "mean_cost": 12.5, "worst_cost": 18.8, "sets": ["a", "b"]},
    ]
    said = selection_sentence({"rule": "guarded", "left_out": rows})
    assert "`guarded` costs 0.9 points on a set left out, 2.7 at worst" in said
    assert "held-out pairs would have cost 12.5, 18.8 at worst" in said
    assert said.endswith("Sets: 2, of one run.")
    assert selection_sentence({}) == ""
    for row, interval in zip(rows, ([0.4, 1.3], [8.0, 17.1]), strict=True):
        row["interval"] = interval
    said = selection_sentence({"rule": "guarded", "left_out": rows, "n_runs": 10})
    assert "`guarded` costs 0.9 [0.4 to 1.3] points on a set left out, 2.7 at worst" in said
    assert "held-out pairs would have cost 12.5 [8.0 to 17.1], 18.8 at worst" in said
    assert said.endswith("Sets: 2, of 10 runs.")


def test_results_of_other_weights_are_not_taken():
    model = ModelInfo("mine", "abc", 2, "cpu float32")
    result = audit("gender", {})
    run = Run((model,), {"mine": (result,)}, {}, "2026-11-30", "0.1.0", "Audit")
    assert results_of([run], "abc") == [result]
    with pytest.raises(ValueError, match=r"the run of audit measured mine \(abc\), not def"):
        results_of([run], "def")


def test_the_built_in_models_card_has_a_figure_for_each_limit_of_the_original():
    card = (ROOT / "src" / "fashionclip" / "builtin" / "README.md").read_text("utf-8")
    section = card.partition("## Limitations, bias and fairness")[2]
    items = section.split("\n- ")
    for heading in (
        *("**Gender**", "**Long and short queries**", "**Centred pictures on white**"),
        "**Checkpoint selection.**",
    ):
        found = [item for item in items if item.startswith(heading)]
        assert found
        assert all(re.search(r"[\d.]+ to [\d.]+", item) for item in found)
