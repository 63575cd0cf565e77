"""The command ``demo``."""

import re
import shlex
import signal
import urllib.request

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "demo"


@pytest.fixture(scope="module")
def finished(folder, fashionclip):
    """A finished run of the demo."""
    return fashionclip("demo", "--into", folder, "--products", 24)


def test_the_demo_generates_indexes_searches_and_tags(folder, finished):
    assert finished.status == 0, finished.err
    assert finished.out.count("$ fashionclip search") == 7
    assert "nothing here fits 'coffee machine'" in finished.out
    assert "24 stored" in finished.err
    page = (folder / "hits.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 24
    assert page.count("Weaker matches") == 1


def test_the_demo_again_finds_everything_done(folder, finished, fashionclip):
    ended = fashionclip("demo", "--into", folder, "--products", 24, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["index"]["unchanged"] == 24
    assert all(search["hits"] for search in ended.json["searches"])
    assert ended.json["tags"]


@pytest.mark.parametrize("n_products", [24, pytest.param(240, marks=pytest.mark.slow)])
def test_every_search_of_the_demo_but_the_last_finds_what_it_asks_for(
    n_products, tmp_path, fashionclip
):
    ended = fashionclip("demo", "--into", tmp_path, "--products", n_products, "--json")
    *answered, nonsense = ended.json["searches"]
    assert nonsense["n_relevant"] == 0
    assert all(search["n_relevant"] for search in answered), answered
    words, filtered, brand, misspelt, number, _ = (search["hits"][0] for search in answered)
    asked = [shlex.split(search["search"]) for search in answered]
    assert asked[0][3] == f"{words['colour']} {words['category']}"
    assert asked[1][3] == f"{filtered['pattern']} {filtered['category']}"
    assert asked[2][3] == f"{brand['brand']} {brand['category']}"
    assert misspelt["category"] in {"sneakers", "trousers", "backpack"}
    assert asked[4][3] == number["id"]
    assert asked[5][3] in {f"in {hit['colour']}" for hit in answered[5]["hits"]}
    tags = [value for row in ended.json["tags"] for name, value in row.items() if name != "id"]
    assert tags.count("none of these") < len(ended.json["tags"])  # of three sets


def test_the_commands_that_the_demo_shows_can_be_typed(finished, fashionclip):
    commands = [line.removeprefix("$ ") for line in finished.out.splitlines() if line[:2] == "$ "]
    assert len(commands) == 9
    for command in commands[1:]:
        program, *words = shlex.split(command)
        assert program == "fashionclip"
        assert fashionclip(*words).status == 0, command


def test_the_demo_serves_its_catalogue_until_ctrl_c(folder, finished, start):
    process = start("demo", "--into", folder, "--products", 24, "--serve")
    said = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/", said)):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        said += line
    with urllib.request.urlopen(f"{found[0]}?q=sandals", timeout=60) as answer:
        assert answer.status == 200
        assert "Sandals" in answer.read().decode()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.endswith("stopped\n")
    assert "Started" not in err  # the log of the service is in a file
    assert "Started" in (folder / "service.log").read_text("utf-8")


def test_serving_the_demo_prints_no_json(tmp_path, fashionclip):
    ended = fashionclip("demo", "--into", tmp_path, "--serve", "--json")
    assert ended.status == 2
    assert "pass one of them" in ended.err
    assert not any(tmp_path.iterdir())
