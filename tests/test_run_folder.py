"""A run folder is read as it was written; an incomplete one is an error."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from evaluation_run import two_model_run
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.results import (
    Figure,
    ModelInfo,
    Run,
    TaskResult,
    read_run,
    write_run,
)


def small_run(**changes: object) -> Run:
    result = TaskResult(
        task="my/question",
        kind="retrieval",
        headline="mrr@10",
        n=2,
        left_out=0,
        figures={"mrr@10": Figure(0.5, 0.25, 1.0, 2)},
        items={"item": ["red", "blue"], "seen": [False, True], "mrr@10": [0.0, 1.0]},
    )
    run = Run(
        models=(ModelInfo("m", "f", 4, "cpu"),),
        results={"m": (replace(result, **changes),)},
        missing={},
        created="2026-01-02T03:04:05+00:00",
        version="1",
    )
    return run


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run = two_model_run()
    write_run(run, tmp_path / "run")
    back = read_run(tmp_path / "run")
    assert back.models == run.models
    assert (back.created, back.version, back.missing) == (run.created, run.version, run.missing)
    assert list(back.results) == list(run.results)
    for model, results in run.results.items():
        for ours, theirs in zip(results, back.results[model], strict=True):
            for field in fields(TaskResult):
                assert getattr(theirs, field.name) == getattr(ours, field.name), field.name


def test_items_are_parquet_files_by_model_and_task(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_run(two_model_run(), tmp_path)
    table = pq.read_table(
        tmp_path / "items" / "patrickjohncyh%2Ffashion-clip" / "kagl%2Farticle-type.parquet"
    )
    assert table.column_names == ["item", "truth", "predicted", "seen"]
    assert table.num_rows == 930


@pytest.mark.parametrize("task", ["..", "../../up", "a" * 400, "C:\\my\0data", "Hemden & Röcke"])
def test_any_name_of_a_task_stays_in_the_folder(tmp_path: Path, task: str) -> None:
    run = small_run(task=task)
    write_run(run, tmp_path / "run")
    assert list(read_run(tmp_path / "run").results["m"][0].items) == ["item", "seen", "mrr@10"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert len(list((tmp_path / "run" / "items" / "m").iterdir())) == 1


def test_the_machine_reads_json_without_nan_and_a_figure_gets_its_nan_back(tmp_path: Path) -> None:
    empty = {"mrr@10": Figure(math.nan, math.nan, math.nan, 0)}
    run = small_run(figures=empty, n=0, details={"share": math.nan, "rows": np.arange(2)}, items={})
    write_run(run, tmp_path)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = (tmp_path / "results.json").read_text("utf-8")
    document = json.loads(text, parse_constant=refuse)
    assert document["results"]["m"][0]["details"] == {"share": None, "rows": [0, 1]}
    figure = read_run(tmp_path).results["m"][0].figures["mrr@10"]
    assert math.isnan(figure.value)
    assert math.isnan(figure.low)
    assert figure.n == 0


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    write_run(two_model_run(), tmp_path)
    write_run(small_run(), tmp_path)
    assert list(read_run(tmp_path).results) == ["m"]
    files = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["my%2Fquestion.parquet", "results.json"]


def test_a_run_killed_while_it_replaced_another_is_neither(tmp_path: Path) -> None:
    write_run(small_run(), tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    other = {"item": ["red", "blue"], "seen": [False, True], "mrr@10": [1.0, 1.0]}
    write_run(small_run(items=other), tmp_path)
    (tmp_path / "results.json").write_bytes(before)  # the last file that a run writes
    with pytest.raises(
        EvaluationError, match=r"question.parquet does not belong to the run beside it"
    ):
        read_run(tmp_path)


def test_a_text_that_is_no_unicode_does_not_cost_the_run(tmp_path: Path) -> None:
    items = {"item": ["caf\udce9.jpg", "b"], "seen": [False, False], "mrr@10": [0.0, 1.0]}
    write_run(small_run(items=items, warnings=("caf\udce9.jpg",)), tmp_path)
    result = read_run(tmp_path).results["m"][0]
    assert result.items["item"][0] == result.warnings[0] == "caf?.jpg"


def test_columns_of_different_lengths_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="my/question have columns of different lengths"):
        write_run(small_run(items={"item": ["a"], "mrr@10": [1.0, 0.0]}), tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (None, "", "is not a run folder: it has no results.json; evaluate again with"),
        ("items/x", "", "is half written"),
        ("results.json", "{", "is damaged: restore it from a copy"),
        ("results.json", '{"format": 1}', "is damaged"),
        ("results.json", '{"format": 99}', "has format 99 and this fashionclip reads up to 1"),
        ("results.json", "[]", "is damaged"),
    ],
)
def test_a_folder_that_is_no_run_says_so(
    tmp_path: Path, name: str | None, text: str, message: str
) -> None:
    if name is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_run(tmp_path)


def test_a_place_that_is_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="there is no run at"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="is a file, not a run folder"):
        read_run(tmp_path / "file")
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_run(small_run(), tmp_path / "file" / "run")


def test_lost_items_say_so(tmp_path: Path) -> None:
    write_run(small_run(), tmp_path)
    (tmp_path / "items" / "m" / "my%2Fquestion.parquet").unlink()
    with pytest.raises(EvaluationError, match=r"question.parquet cannot be read"):
        read_run(tmp_path)
