"""The report holds every metric with its interval and n, and runs no scripts."""

import math
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from evaluation_run import FMNIST, run_thumbnails, two_model_run
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.report import write_report
from fashionclip.evaluate.report.html import html
from fashionclip.evaluate.report.markdown import markdown, plain
from fashionclip.evaluate.report.published import CARD, CARD_COLUMNS, MARQO, PUBLISHED, published_on
from fashionclip.evaluate.report.wording import (
    choice_sentence,
    day_of,
    duration,
    interval,
    number,
)
from fashionclip.evaluate.results import (
    Figure,
    ModelInfo,
    Run,
    TaskResult,
    read_run,
    write_run,
)
from fashionclip.metrics import METRICS, explain, title_of

VOID = {"meta", "img", "br", "input", "hr", "link", "base"}
EVIL = '</style><script>alert("x")</script><img src=x onerror=alert(1)>'


class _Page(HTMLParser):
    """The parts of a page; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@cache
def report_page() -> str:
    return html(two_model_run(), run_thumbnails())


def one_model(**changes: object) -> Run:
    """A run of one model on one task, with changes."""
    run = two_model_run()
    result = replace(run.results["builtin"][0], **changes)
    return replace(run, models=run.models[:1], results={"builtin": (result,)})


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    page = _Page(report_page())
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    policies = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "script-src" not in policies[0]
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/").startswith("data:image/")
    assert "url(" not in report_page()
    assert "@import" not in report_page()


def test_links_lead_to_the_tasks() -> None:
    page = _Page(report_page())
    places = {a["id"] for _, a in page.tags if "id" in a}
    links = {a["href"] for _, a in page.tags if "href" in a}
    assert links == {f"#{place}" for place in places}
    assert len(places) == 6


def test_every_figure_is_there_with_its_interval_and_n() -> None:
    page, text = _Page(report_page()).text, markdown(two_model_run())
    for results in two_model_run().results.values():
        for result in results:
            for figures in (result.figures, result.unseen):
                for metric, figure in figures.items():
                    row = f"{number(figure.value)} {interval(figure)} n = {figure.n:,}"
                    assert row in page, (result.task, metric)
                    assert f"{number(figure.value)} [{interval(figure)}]" in text
                    assert title_of(metric) in text


def test_both_reports_explain_whether_a_figure_is_a_hit_rate_or_a_recall() -> None:
    sentences = (
        "Share of queries with at least one relevant product in the first 10",
        "Share of a query's relevant products that are in the first 10",
    )
    for text in (_Page(report_page()).text, markdown(two_model_run())):
        assert all(sentence in text for sentence in sentences)


@pytest.mark.parametrize("metric", [*METRICS, "hit@5", "few_shot@1"])
def test_every_metric_has_a_name_and_a_meaning(metric: str) -> None:
    assert re.match("[A-Zn]", title_of(metric))
    assert explain(metric)[0].isupper()


def test_published_rows_are_marked_and_have_their_source() -> None:
    page, text = _Page(report_page()).text, markdown(two_model_run())
    for row in published_on("fmnist"):
        assert f"{row.model} published" in page
        assert f"| {row.model} † |" in text
        assert row.source in page
    assert f"† Source: {CARD}" in text
    rows = [line for line in text.splitlines() if re.match(r"\| (builtin|patrick)", line)]
    assert rows
    assert not any("†" in line for line in rows)


def test_the_published_figures_are_those_of_the_model_card() -> None:
    card = {(row.model, row.task): row.value for row in PUBLISHED if row.source == CARD}
    assert len(card) == 12
    values = [card["FashionCLIP 2.0", task] for task in CARD_COLUMNS.values()]
    assert values == [0.83, 0.73, 0.62]
    assert {row.source for row in PUBLISHED} == {CARD, MARQO}
    assert all(0 < row.value < 1 for row in PUBLISHED)
    keys = [(row.model, row.task, row.metric) for row in PUBLISHED]
    assert len(set(keys)) == len(keys)


def test_figures_without_what_was_seen_stand_beside_the_others() -> None:
    result = two_model_run().results["builtin"][1]
    page = _Page(report_page()).text
    assert "420 of the 930 pictures are in its training data" in page
    unseen = result.unseen["weighted_f1"]
    assert f"without them {number(unseen.value)} ({interval(unseen)}, n = 510)" in page
    assert "| builtin, unseen only | 510 |" in markdown(two_model_run())
    assert "The model's training data is not known: it may contain these pictures." in page


def test_the_markdown_has_all_headlines_in_one_table() -> None:
    run = two_model_run()
    lines = markdown(run).splitlines()
    start = lines.index("## All tasks") + 2
    rows = lines[start : lines.index("", start)]
    assert rows[0] == (
        "| Task | Figure | builtin | builtin, unseen only | patrickjohncyh/fashion-clip |"
    )
    tasks = dict.fromkeys(r.task for results in run.results.values() for r in results)
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {task}" for task in tasks]
    result = run.results["builtin"][1]
    (row,) = [row for row in rows if row.startswith(f"| {result.task} |")]
    assert number(result.figures[result.headline].value) in row
    assert number(result.unseen[result.headline].value) in row


def test_warnings_notes_and_missing_benchmarks_are_in_both_reports() -> None:
    page = _Page(report_page()).text
    for text in (page, markdown(two_model_run()).replace("\\", "")):
        assert "2 pictures could not be read and are left out: img-17, img-233" in text
        assert "White on black pictures are inverted" in text
        assert "DeepFashion is not here: ask its owners" in text
    assert page.count("2 pictures could not be read") == 2, "once a task, if it is all models'"
    one = replace(two_model_run().results["builtin"][0], notes=("only here",))
    run = replace(two_model_run(), results={**two_model_run().results, "builtin": (one,)})
    assert "builtin: only here" in _Page(html(run, {})).text
    assert "- builtin: only here" in markdown(run)


def test_both_reports_describe_the_choice_of_prompts() -> None:
    page, text = _Page(report_page()).text, markdown(two_model_run())
    prompts = two_model_run().results["builtin"][0].details["prompts"]
    for document in (page, text):
        assert "The style ensemble was chosen on 600 development pictures (every tenth" in document
        assert "differ by 0.041 on the test pictures" in document
        for style, f1 in prompts["styles"].items():
            assert style in document
            assert interval(f1["test"]) in document
    assert (
        "With a full stop, 3.1 % [2.0 % to 4.2 %] of the labels flip; accuracy changes by " in text
    )
    assert "by -0.061 [-0.074 to -0.047]." in text
    given = {**prompts, "by": "given"}
    assert choice_sentence(given).startswith("The style ensemble was given by the user. The best")
    alone = {**prompts, "by": "default", "styles": {"ensemble": prompts["styles"]["ensemble"]}}
    assert choice_sentence(alone) == (
        "The style ensemble is the default: there are no development pictures to choose on."
    )


def test_every_class_and_right_word_has_its_interval() -> None:
    page = _Page(report_page()).text
    fmnist, *_, colours = two_model_run().results["builtin"]
    for row in fmnist.details["per_class"]:
        assert f"{row['name']} {number(row['f1'].value)} {interval(row['f1'])} · P" in page
    for word, figure in colours.details["by_value"].items():
        assert f"{word} {number(figure.value)} {interval(figure)} · n {figure.n}" in page


def test_published_figures_are_as_precise_as_they_were() -> None:
    lines = markdown(two_model_run()).splitlines()
    assert "| FashionCLIP 2.0 † | — | 0.83 | — | — | — |" in lines


def test_details_of_every_kind_are_shown() -> None:
    page = _Page(report_page()).text
    for words in (
        "was chosen on 600 development pictures (every tenth training picture)",
        "full stop 3.1 %",
        "predicted as",
        "first relevant at rank",
        "by chance 0.0040",
        "Learned from 6,000 training pictures, with C = 0.316",
        "By colour",
        "What the right word loses to",
    ):
        assert words in page


def test_what_a_shop_writes_is_text_and_nothing_else() -> None:
    details = dict(two_model_run().results["builtin"][0].details)
    details["classes"] = [EVIL, *details["classes"][1:]]
    details["per_class"] = [{**details["per_class"][0], "name": EVIL}, *details["per_class"][1:]]
    details["confused"] = [{"truth": EVIL, "predicted": EVIL, "n": 1, "pictures": [EVIL]}]
    run = one_model(task=EVIL, details=details, warnings=(EVIL,), notes=(EVIL,))
    run = replace(
        run,
        models=(ModelInfo(EVIL, EVIL, 4, EVIL, EVIL),),
        results={EVIL: run.results["builtin"]},
        missing={EVIL: EVIL},
        created=EVIL,
        version=EVIL,
    )
    page = _Page(html(run, {f"{EVIL}/{EVIL}": "javascript:alert(1)"}))
    assert not any(tag == "script" for tag, _ in page.tags)
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert not any(tag == "img" for tag, _ in page.tags)
    assert "alert" in page.text
    table = [line for line in markdown(run).splitlines() if line.startswith("|")]
    assert not any(re.search(r"(?<!\\)<", line) for line in table)


def test_an_image_that_is_missing_is_shown_by_its_id() -> None:
    with_one = {"fmnist/p0": run_thumbnails()["fmnist/p0"]}
    page = _Page(html(one_model(), with_one))
    shown = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert set(shown) == {"p0"}
    assert "p1" in page.words


def test_a_run_without_a_task_or_a_figure_is_still_a_page() -> None:
    nothing = replace(two_model_run(), results={}, models=two_model_run().models[:1])
    assert "Not measured" in _Page(html(nothing, {})).text
    assert "## Not measured" in markdown(nothing)
    empty = Figure(math.nan, math.nan, math.nan, 0)
    run = one_model(figures={"weighted_f1": empty}, details={}, n=0)
    assert "nan" not in _Page(html(run, {})).text.lower()
    assert "| builtin | 0 | — |" in markdown(run)


def page_of_matrix(classes: list[str], counts: np.ndarray) -> _Page:
    details = {"classes": list(classes), "confusion": counts.tolist()}
    return _Page(html(one_model(details=details), {}))


def cells_of(page: _Page) -> list[str]:
    """The tooltips of the matrix's cells."""
    titles = (attributes.get("title") for tag, attributes in page.tags if tag == "td")
    return [title for title in titles if title]


def test_every_cell_of_the_matrix_has_its_classes_count_and_share() -> None:
    counts = np.random.default_rng(0).integers(0, 3, (10, 10))
    titles = cells_of(page_of_matrix(FMNIST, counts))
    assert len(titles) == (counts > 0).sum()
    for i, j in np.argwhere(counts > 0):
        n, total = counts[i, j], counts[i].sum()
        assert f"{FMNIST[i]} → {FMNIST[j]}: {n} of {total} ({100 * n / total:.1f} %)" in titles


def test_few_classes_have_their_counts_in_the_matrix_and_many_on_hover() -> None:
    few = page_of_matrix(FMNIST, 777 * np.eye(10, dtype=np.int64))
    assert few.words.count("777") == 10
    names = [f"class {i}" for i in range(62)]
    many = page_of_matrix(names, 777 * np.eye(62, dtype=np.int64))
    assert "class 3 → class 3: 777 of 777 (100.0 %)" in cells_of(many)
    assert "777" not in many.words


def test_a_class_without_an_image_is_an_empty_row() -> None:
    titles = cells_of(page_of_matrix(["a", "b"], np.array([[3, 1], [0, 0]])))
    assert titles == ["a → a: 3 of 4 (75.0 %)", "a → b: 1 of 4 (25.0 %)"]


def test_a_whisker_has_a_label_with_its_numbers() -> None:
    page = _Page(html(one_model(figures={"weighted_f1": Figure(0.5, 0.4, 0.75, 1200)}), {}))
    place = next(i for i, (_, a) in enumerate(page.tags) if a.get("class") == "whisker dot")
    label = "0.500, 95 % interval 0.400 to 0.750, n = 1,200"
    assert page.tags[place][1]["aria-label"] == label
    lines = [a for tag, a in page.tags[place : place + 6] if tag == "line"]
    assert [line["x1"] for line in lines] == ["0", "40.00%", "40.00%", "75.00%"]


def audit_run() -> Run:
    figures = {"skew": Figure(-0.3, -0.42, 0.1, 80), "ndkl": Figure(0.2, 0.1, 0.3, 80)}
    groups = {"By size": {"small": Figure(0.25, 0.125, 0.5, 40)}}
    details = {"chance": {"ndkl": 0.125}, "groups": groups}
    result = TaskResult("shop/gender", "audit", "skew", 80, 0, figures, details=details)
    return replace(two_model_run(), results={"builtin": (result,)}, title="Audit")


def test_a_report_of_an_audit_has_its_title_its_groups_and_chance() -> None:
    text = markdown(audit_run())
    assert text.startswith("# Audit\n")
    assert "builtin, by size:\n\n|  | Value | n |" in text
    assert "| small | 0.250 [0.125 to 0.500] | 40 |" in text
    assert "| by chance | — | — | 0.125 |" in text
    page = _Page(html(audit_run(), {}))
    assert "Audit of builtin" in page.text
    assert {"By size", "small", "0.125 to 0.500"} <= set(page.words)


def test_the_scale_of_figures_below_zero_begins_below_zero() -> None:
    page = _Page(html(audit_run(), {}))
    place = next(i for i, (_, a) in enumerate(page.tags) if a.get("class") == "whisker dot")
    scale, zero, interval, *_ = [a for tag, a in page.tags[place : place + 9] if tag == "line"]
    assert (scale["x1"], zero["x1"]) == ("0", "50.00%")
    assert (interval["x1"], interval["x2"]) == ("8.00%", "60.00%")


def test_the_title_and_the_groups_of_an_audit_are_read_as_they_were_written(tmp_path) -> None:
    write_run(audit_run(), tmp_path)
    found = read_run(tmp_path)
    assert found.title == "Audit"
    details = found.results["builtin"][0].details
    assert details["groups"]["By size"]["small"] == Figure(0.25, 0.125, 0.5, 40)


def test_curves_take_one_number_of_images_and_none() -> None:
    figure = Figure(0.5, 0.4, 0.6, 10)
    run = two_model_run()
    probe = replace(
        run.results["builtin"][4], figures={"weighted_f1": figure, "few_shot@4": figure}
    )
    two = replace(run, results={model.name: (probe,) for model in run.models})
    page = _Page(html(two, {}))
    assert "builtin, 4 per class: 0.500, 95 % interval 0.400 to 0.600" in page.text
    points = [a["points"] for tag, a in page.tags if tag == "polyline"]
    assert len(points) == len(set(points)) == 2, "models stand side by side"
    none = replace(probe, figures={"weighted_f1": figure})
    page = _Page(html(replace(two, results={"builtin": (none,)}), {}))
    assert not any(tag == "polyline" for tag, _ in page.tags)


def test_every_table_of_the_markdown_is_a_table() -> None:
    lines = markdown(two_model_run()).splitlines()
    for above, line in pairwise(lines):
        if line.startswith("|") and above.startswith("|"):
            assert line.count("|") == above.count("|")
    assert plain("a|b *c*\n[d]") == "a\\|b \\*c\\* \\[d\\]"


@pytest.mark.parametrize(("seconds", "words"), [(4.21, "4.2 s"), (191.6, "3 min 12 s")])
def test_a_time_is_written_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words
    run = replace(two_model_run(), models=(replace(two_model_run().models[1], seconds=seconds),))
    assert f"Measured in {words}, 0.0 s of it encoding" in _Page(html(run, {})).text
    assert f"| {words}, 0.0 s of it encoding |" in markdown(run)


def test_a_day_is_written_as_people_do() -> None:
    assert day_of("2026-01-05T09:07:00+00:00") == "5 January 2026, 09:07 UTC"
    assert day_of("lately") == "lately"


def test_both_files_are_written_whole(tmp_path: Path) -> None:
    write_report(two_model_run(), tmp_path / "run", run_thumbnails())
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"report.md", "report.html"}
    assert (tmp_path / "run" / "report.html").read_text("utf-8") == report_page()
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="the report cannot be written to"):
        write_report(two_model_run(), tmp_path / "file", {})
