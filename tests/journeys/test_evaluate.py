"""Evaluating and comparing models by commands, on real files."""

import csv
import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fashionclip.errors import EvaluationError
from fashionclip.evaluate.benchmarks import sample
from fashionclip.evaluate.results import read_run


@pytest.fixture(scope="module")
def labels(shop):
    """A table of labels: the shop's twenty images and their garments."""
    path = shop / "garments.csv"
    names = sorted(image.name for image in (shop / "images").iterdir())
    write(path, ("image", "label"), [(f"images/{name}", name.partition("-")[0]) for name in names])
    return path


@pytest.fixture(scope="module")
def queries(shop):
    """A table of queries with their relevant images."""
    path = shop / "queries.csv"
    names = sorted(image.name for image in (shop / "images").iterdir())
    rows = [
        (colour, f"images/{name}", int(colour in name))
        for colour in ("red", "blue")
        for name in names
    ]
    write(path, ("query", "image", "relevant"), rows)
    return path


@pytest.fixture(scope="module")
def both(fashionclip, model, tmp_path_factory):
    """The run of the built-in model and a random one on the generated sample."""
    out = tmp_path_factory.mktemp("runs") / "both"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "N_PRODUCTS", 120)  # fewer images, to save time
        patch.setattr(sample, "N_DEVELOPMENT", 20)
        ended = fashionclip("evaluate", "builtin", model, "--on", "sample", "--out", out)
    assert ended.status == 0, ended.err
    return out


def write(path, columns, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def one_line(ended):
    """The error of a failed run, which is one line without a traceback."""
    assert ended.status == 1
    (line,) = ended.err.strip().splitlines()
    return line


def cached_rows(cache, since=()):
    """The number of vectors in a cache, without some of its files."""
    files = set(cache.glob("*/images-*.safetensors")) - set(since)
    return sum(len(load_file(path)["keys"]) for path in files), files


# a run


def test_a_run_is_a_page_a_card_and_results(both):
    page = (both / "report.html").read_text(encoding="utf-8")
    card = (both / "report.md").read_text(encoding="utf-8")
    results = json.loads((both / "results.json").read_text(encoding="utf-8"))
    by_task = {result["task"]: result for result in results["results"]["builtin"]}
    figure = by_task["sample/category"]["figures"]["weighted_f1"]
    assert figure["n"] == 120
    assert figure["low"] < figure["value"] < figure["high"]
    for text in (page, card):
        assert f"{figure['value']:.3f}" in text
    assert "<script" not in page.lower()
    assert "data:image/jpeg" in page


def test_several_models_and_tables_stand_side_by_side(
    fashionclip, model, other_model, labels, queries, tmp_path
):
    words = ("--on", f"{labels},{queries}", "--out", tmp_path / "run", "--json")
    ended = fashionclip("evaluate", model, other_model, *words)
    assert ended.status == 0, ended.err
    assert list(ended.json["models"]) == [model.name, other_model.name]
    for tasks in ended.json["models"].values():
        assert list(tasks) == ["garments.csv", "queries.csv"]
        assert tasks["queries.csv"]["n"] == 2
    card = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert model.name in card
    assert other_model.name in card


def test_a_second_run_encodes_nothing_and_has_equal_results(fashionclip, model, labels, tmp_path):
    def measure(out):
        words = ("--on", labels, "--cache", tmp_path / "cache", "--out", tmp_path / out, "--json")
        return fashionclip("evaluate", model, *words).json["models"]

    first = measure("first")
    n, files = cached_rows(tmp_path / "cache")
    assert n == 20
    assert measure("second") == first
    assert cached_rows(tmp_path / "cache", files) == (0, set())


def test_the_terminal_shows_a_line_a_task(fashionclip, model, labels, queries, tmp_path):
    ended = fashionclip(
        "evaluate", model, "--on", labels, "--on", queries, "--out", tmp_path / "run"
    )
    assert ended.status == 0, ended.err
    for task in ("garments.csv", "queries.csv"):
        assert sum(task in line for line in ended.out.splitlines()) == 1
    assert str(tmp_path / "run" / "report.html") in ended.err


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_run_continues_where_it_stopped(
    start, fashionclip, model, labels, web_shop, tmp_path
):
    """The server of the second table's images stops answering, and the run is killed there."""
    rows = read(labels)[1:]
    second = tmp_path / "second.csv"
    address = web_shop.address.removesuffix("images")
    write(second, ("image", "label"), [(address + image, label) for image, label in rows[:10]])
    for image in web_shop.images.iterdir():  # other bytes than the first table's
        (tmp_path / image.name).write_bytes(image.read_bytes() + b"0")
    web_shop.images, web_shop.answers = tmp_path, 0
    words = ("evaluate", model, "--on", f"{labels},{second}", "--allow-private", "--json")
    out, cache = ("--out", tmp_path / "run"), tmp_path / "cache"
    process = start(*words, *out, "--cache", cache)
    assert web_shop.silent.wait(timeout=100), process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    n, files = cached_rows(cache)
    assert n == 20  # all of the first table
    with pytest.raises(EvaluationError, match="there is no run at"):
        read_run(tmp_path / "run")

    web_shop.goes_on.set()
    again = fashionclip(*words, *out, "--cache", cache)
    assert again.status == 0, again.err
    assert cached_rows(cache, files)[0] == 10  # the second table's, and no other
    fresh = fashionclip(*words, "--out", tmp_path / "fresh", "--cache", tmp_path / "empty")
    assert again.json["models"] == fresh.json["models"]


# missing and broken data


def test_a_missing_benchmark_is_one_line_and_the_rest_is_measured(
    fashionclip, model, labels, tmp_path
):
    words = ("--data", tmp_path, "--out", tmp_path / "run", "--json")
    ended = fashionclip("evaluate", model, "--on", f"deep,{labels}", *words)
    assert ended.status == 0, ended.err
    (line,) = [line for line in ended.err.splitlines() if "deep" in line]
    assert "ask its owners at" in line
    assert list(ended.json["missing"]) == ["deep"]
    assert ended.json["models"][model.name]["garments.csv"]["n"] > 0
    assert "deep" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


def test_a_data_set_that_is_half_unpacked_is_measured_on_what_is_there(
    fashionclip, model, shop, tmp_path
):
    folder = tmp_path / "kagl"
    (folder / "images").mkdir(parents=True)
    columns = ("id", "gender", "articleType", "baseColour", "productDisplayName")
    rows = []
    for number, path in enumerate(sorted((shop / "images").iterdir())):
        garment, colour = path.stem.split("-")
        rows.append(
            (number, "Women", garment, colour, f"Brand{number % 7} Women {colour} {garment}")
        )
        if number % 4:
            shutil.copy(path, folder / "images" / f"{number}.jpg")
    write(folder / "styles.csv", columns, rows)
    words = ("--data", tmp_path, "--out", tmp_path / "run", "--json")
    ended = fashionclip("evaluate", model, "--on", "kagl", *words)
    assert ended.status == 0, ended.err
    colour = ended.json["models"][model.name]["kagl/colour"]
    assert any("pictures are missing" in line for line in colour["warnings"])
    assert 0 < colour["n"] <= 15


def test_a_broken_image_has_a_warning_and_every_figure_its_n(
    fashionclip, model, shop, labels, tmp_path
):
    shutil.copytree(shop / "images", tmp_path / "images")
    (tmp_path / "images" / "dress-blue.jpg").write_bytes(b"no picture")
    rows = read(labels)
    write(tmp_path / "garments.csv", (*rows[0], "split"), [(*row, "test") for row in rows[1:]])
    words = ("--on", tmp_path / "garments.csv", "--out", tmp_path / "run", "--json")
    ended = fashionclip("evaluate", model, *words)
    result = ended.json["models"][model.name]["garments.csv"]
    assert (result["n"], result["left_out"]) == (19, 1)
    assert {figure["n"] for figure in result["figures"].values()} == {19}
    assert any("dress-blue" in line for line in result["warnings"])


def test_items_left_out_are_reported_in_the_terminal(fashionclip, model, shop, queries, tmp_path):
    (shop / "images" / "torn.jpg").write_bytes(b"no picture")
    rows = read(queries)
    table = shop / "torn.csv"
    write(table, rows[0], [*rows[1:], ("torn", "images/torn.jpg", 1)])
    ended = fashionclip("evaluate", model, "--on", table, "--out", tmp_path / "run")
    assert ended.status == 0, ended.err
    head, row = (
        line.split() for line in ended.out.splitlines() if "torn" in line or "task" in line
    )
    assert head[-3:] == ["n", "left", "out"]
    assert row[-2:] == ["2", "1"]
    assert "torn.csv: 1 of 21 pictures could not be read and are left out: images/torn" in ended.err
    assert "1 of 3 queries have no relevant picture and are left out: 'torn'" in ended.err
    (shop / "images" / "torn.jpg").unlink()


def test_a_run_without_a_figure_is_reported_and_ends_with_status_1(fashionclip, model, tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
    rows = [(f"{number}.jpg", "ab"[number % 2]) for number in range(12)]
    write(tmp_path / "torn.csv", ("image", "label"), rows)
    ended = fashionclip("evaluate", model, "--on", tmp_path / "torn.csv", "--out", tmp_path / "run")
    assert ended.status == 1
    assert "There is nothing to measure: none of its pictures can be read." in ended.err
    message = ended.err.strip().splitlines()[-1]
    assert (
        message
        == f"error: not one figure could be measured; {tmp_path / 'run' / 'report.md'} says why"
    )
    assert "There is nothing to measure" in (tmp_path / "run" / "report.md").read_text("utf-8")


def test_a_typo_in_a_name_is_refused_before_any_download(fashionclip, model, tmp_path):
    words = ("--on", "kagl,fminst", "--data", tmp_path, "--download", "--out", tmp_path / "run")
    line = one_line(fashionclip("evaluate", model, *words))
    assert "no benchmark and no file is called 'fminst' (did you mean 'fmnist'?)" in line
    assert list(tmp_path.iterdir()) == []


def test_two_tables_of_one_name_are_refused(fashionclip, model, labels, tmp_path):
    head, *rows = read(labels)
    other = tmp_path / labels.name
    write(other, head, [(labels.parent / image, label) for image, label in rows])
    words = ("--on", f"{labels},{other}", "--out", tmp_path / "run")
    line = one_line(fashionclip("evaluate", model, *words))
    assert line == "error: two of the benchmarks are called garments.csv; rename one of the tables"


def test_without_scikit_learn_only_the_probe_is_not_measured(
    fashionclip, model, shop, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    folder = tmp_path / "kagl"
    (folder / "images").mkdir(parents=True)
    rows = []
    for copy in range(6):  # enough products a class for a probe
        for number, path in enumerate(sorted((shop / "images").iterdir())):
            garment, colour = path.stem.split("-")
            product = 100 * copy + number
            shutil.copy(path, folder / "images" / f"{product}.jpg")
            rows.append((product, garment, colour, f"Brand{product % 37} Women {colour} {garment}"))
    write(folder / "styles.csv", ("id", "articleType", "baseColour", "productDisplayName"), rows)
    words = ("--data", tmp_path, "--out", tmp_path / "run", "--json")
    ended = fashionclip("evaluate", model, "--on", "kagl", *words)
    assert ended.status == 0, ended.err
    assert "fashionclip[evaluate]" in ended.json["missing"]["kagl/probe"]
    assert "kagl/article-type" in ended.json["models"][model.name]


def test_a_model_that_gives_nan_is_named_with_the_image(fashionclip, model, labels, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.startswith("visual_projection"))
    weights[name] = np.full_like(weights[name], np.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    line = one_line(fashionclip("evaluate", folder, "--on", labels, "--out", tmp_path / "run"))
    assert "NaN" in line
    assert "damaged" in line


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("nosuch", "no benchmark and no file is called 'nosuch'; there are fmnist, kagl"),
        ("deep", "nothing to measure: deep: no data folder is given"),
    ],
)
def test_nothing_to_measure_is_one_line(on, expected, fashionclip, tmp_path):
    ended = fashionclip("evaluate", "--on", on, "--out", tmp_path / "run")
    assert expected in one_line(ended)
    assert not (tmp_path / "run").exists()


def test_two_models_of_one_name_are_refused(fashionclip, model, labels, tmp_path):
    shutil.copytree(model, tmp_path / model.name)
    words = ("--on", labels, "--out", tmp_path / "run")
    line = one_line(fashionclip("evaluate", model, tmp_path / model.name, *words))
    assert f"two of the models are called {model.name}" in line


# leakage


def test_training_images_are_reported_apart(fashionclip, model, shop, labels, tmp_path):
    rows = read(shop / "products.csv")[1:]
    seen = [(id_, f"images/{image}", title) for id_, image, title, *_ in rows if "red" in image]
    write(shop / "trained.csv", ("id", "image", "title"), seen)
    words = (
        "--on",
        labels,
        "--trained-on",
        shop / "trained.csv",
        "--out",
        tmp_path / "run",
        "--json",
    )
    ended = fashionclip("evaluate", model, *words)
    assert ended.status == 0, ended.err
    result = ended.json["models"][model.name]["garments.csv"]
    n_red = result["seen_in_training"]
    assert 0 < n_red <= 4
    assert result["unseen"]["weighted_f1"]["n"] == result["n"] - n_red


# comparing


def test_the_gate_passes_a_better_model_and_fails_a_worse_one(shell, model, both):
    poor, good = f"{both}@{model.name}", f"{both}@builtin"
    words = ("--gate", "--on", "sample/category,sample/colour")
    opened = shell("compare", poor, good, *words)
    closed = shell("compare", good, poor, *words)
    assert (opened.status, closed.status) == (0, 1)
    assert "The gate is open." in opened.err
    worse = [line for line in closed.err.splitlines() if "is worse" in line]
    assert [line.split(": ")[1] for line in worse] == ["sample/category", "sample/colour"]
    assert "better" in opened.out


def test_a_model_is_no_better_than_itself(fashionclip, both):
    good = f"{both}@builtin"
    ended = fashionclip("compare", good, good, "--gate", "--json")
    assert ended.status == 0
    (comparison,) = ended.json["comparisons"]
    verdicts = {row["verdict"] for row in comparison["rows"] if row["difference"]}
    assert verdicts == {"no difference beyond the noise"}
    metrics = {row["metric"] for row in comparison["rows"]}
    assert {"weighted_f1", "macro_f1", "accuracy", "top_5", "win_rate"} <= metrics


def test_a_gate_on_an_unmeasured_metric_fails(fashionclip, both):
    good = f"{both}@builtin"
    ended = fashionclip("compare", good, good, "--gate", "--on", "fmnist")
    assert ended.status == 1
    assert "fmnist: nothing could be compared" in ended.err


def test_what_is_no_run_is_one_line(fashionclip, both, tmp_path):
    assert "there is no run at" in one_line(fashionclip("compare", both, tmp_path / "no"))
