"""The command ``demo``."""

import shlex

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
    assert finished.out.count("$ fashionclip search") == 4
    assert "24 stored" in finished.err
    assert (folder / "hits.html").read_text("utf-8").count("data:image/jpeg") == 24


def test_the_demo_again_finds_everything_done(folder, finished, fashionclip):
    ended = fashionclip("demo", "--into", folder, "--products", 24, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["index"]["unchanged"] == 24
    assert all(search["hits"] for search in ended.json["searches"])
    assert ended.json["tags"]


def test_the_commands_that_the_demo_shows_can_be_typed(finished, fashionclip):
    commands = [line.removeprefix("$ ") for line in finished.out.splitlines() if line[:2] == "$ "]
    assert len(commands) == 6
    for command in commands[1:]:
        program, *words = shlex.split(command)
        assert program == "fashionclip"
        assert fashionclip(*words).status == 0, command
