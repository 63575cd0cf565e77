"""Broken input gives one clear line and the right exit status, and nothing is lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fashionclip.store import open_store


def only_line(ended):
    """The only error line of a run that did nothing."""
    assert ended.status == 1, ended
    assert ended.out == ""
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in ended.err
    return line


@pytest.fixture
def own_store(store, tmp_path):
    """A copy of the shop's index that a test may break."""
    return shutil.copytree(store, tmp_path / "own.lance")


def test_an_index_refuses_another_models_vectors_by_name(
    shop, own_store, model, other_model, fashionclip
):
    words = ("index", shop / "products.csv", "--images", shop / "images", "--into", own_store)
    line = only_line(fashionclip(*words, "--model", other_model))
    assert str(model) in line
    assert str(other_model) in line
    assert str(model) in only_line(fashionclip("search", own_store, "x", "--model", other_model))
    assert fashionclip("info", own_store, "--json").json["products"] == 20


def test_a_search_uses_the_model_that_the_index_was_made_with(store, fashionclip):
    assert fashionclip("search", store, "red shirt", "--json").status == 0


def test_flipped_bytes_are_found_named_and_mended(
    shop, own_store, model, store, fashionclip, tmp_path
):
    (rows,) = open_store(own_store).scan(columns=False)
    vector = rows.vectors[0].astype(np.float16).tobytes()
    (file,) = (
        one
        for one in (own_store / "products.lance" / "data").iterdir()
        if vector in one.read_bytes()
    )
    data = bytearray(file.read_bytes())
    start = data.index(vector)
    for place in range(start, start + 4):
        data[place] ^= 0x55
    file.write_bytes(data)
    ended = fashionclip("index", "--verify", own_store, "--json")
    assert ended.status == 1
    assert ended.json["broken"] == [rows.ids[0]]


@pytest.mark.parametrize("what", ["index.json", "products.lance"])
def test_a_corrupt_index_is_an_error_that_says_how_to_mend_it(what, own_store, fashionclip):
    place = own_store / what
    if place.is_dir():
        for file in place.rglob("*"):
            if file.is_file():
                file.write_bytes(b"\x00" * 100)
    else:
        place.write_bytes(b"\x00 no index")
    line = only_line(fashionclip("search", own_store, "red shirt"))
    assert own_store.name in line


def test_a_folder_without_an_index_is_named_with_the_command_that_makes_one(fashionclip, tmp_path):
    line = only_line(fashionclip("search", tmp_path, "red shirt"))
    assert "fashionclip index" in line


def test_a_table_that_is_not_there_is_one_line(fashionclip, tmp_path, model):
    line = only_line(
        fashionclip("index", tmp_path / "gone.csv", "--into", tmp_path / "s", "--model", model)
    )
    assert "gone.csv" in line
    assert not (tmp_path / "s").exists()


def test_a_table_without_an_id_column_names_the_columns_and_the_option(
    fashionclip, tmp_path, model
):
    table = tmp_path / "odd.csv"
    table.write_text("foo,bar\n1,2\n", encoding="utf-8")
    line = only_line(fashionclip("index", table, "--into", tmp_path / "s", "--model", model))
    assert "foo" in line
    assert "column" in line


def test_nothing_but_rejects_is_status_1_and_the_file_says_why(fashionclip, tmp_path, model):
    table = tmp_path / "products.csv"
    table.write_text("id,image,title\n1,gone.jpg,a\n2,gone.jpg,b\n", encoding="utf-8")
    ended = fashionclip("index", table, "--into", tmp_path / "s.lance", "--model", model, "--json")
    assert ended.status == 1
    rejects = (tmp_path / "s.lance" / "rejects.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["row"] for line in rejects] == [1, 2]


def test_a_model_that_is_not_there_is_named_without_a_network(shop, fashionclip, tmp_path):
    line = only_line(
        fashionclip(
            *("index", shop / "products.csv", "--into", tmp_path / "s.lance"),
            *("--model", "nobody/no-such-model"),
        )
    )
    assert "nobody/no-such-model" in line


def test_a_table_from_windows_keeps_its_letters(shop, model, fashionclip, tmp_path):
    table = tmp_path / "products.csv"
    table.write_bytes(
        "id;image;title;price\n1;shirt-red.jpg;Röhrenjeans für Größe “M”;19\n".encode("cp1252")
    )
    store = tmp_path / "s.lance"
    ended = fashionclip(
        "index", table, "--images", shop / "images", "--into", store, "--model", model
    )
    assert ended.status == 0, ended.err
    (hit,) = fashionclip("search", store, "jeans", "--json").json["hits"]
    assert hit["title"] == "Röhrenjeans für Größe “M”"


def test_an_image_address_without_an_answer_costs_only_its_row(shop, model, fashionclip, tmp_path):
    table = tmp_path / "products.csv"
    table.write_text(
        "id,image,title\n1,http://127.0.0.1:9/a.jpg,unreachable\n"
        f"2,{shop / 'images' / 'shirt-red.jpg'},good\n",
        encoding="utf-8",
    )
    store = tmp_path / "s.lance"
    ended = fashionclip(
        "index", table, "--into", store, "--model", model, "--allow-private", "--json"
    )
    assert ended.status == 0, ended.err
    assert (ended.json["stored"], ended.json["rejected"]) == (1, 1)


def test_columns_with_unusual_names_are_mapped_by_hand(shop, model, fashionclip, tmp_path):
    table = tmp_path / "products.csv"
    table.write_text("artikel,bild,worte\n1,shirt-red.jpg,rotes Hemd\n", encoding="utf-8")
    mapped = ("--column", "id=artikel", "--column", "image=bild", "--column", "title=worte")
    store = tmp_path / "s.lance"
    ended = fashionclip(
        *("index", table, "--images", shop / "images", "--into", store, "--model", model), *mapped
    )
    assert ended.status == 0, ended.err
    assert fashionclip("search", store, "x", "--json").json["hits"][0]["worte"] == "rotes Hemd"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_under_the_output_is_one_line(store, shell):
    redirected = ("sh", "-c", '"$0" "$@" >/dev/full')
    ended = shell("search", store, "red", "--json", prefix=redirected)
    assert "error: No space left on device" in only_line(ended)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs ulimit")
def test_a_disk_that_takes_no_more_stops_the_run_and_loses_nothing(
    shop, own_store, model, fashionclip, shell, tmp_path
):
    table = tmp_path / "more.csv"
    rows = "".join(f"N{i},shirt-red.jpg,{'words ' * 400}{i}\n" for i in range(200))
    table.write_text("id,image,title\n" + rows, encoding="utf-8")
    limited = ("bash", "-c", 'ulimit -f 40; exec "$0" "$@"')
    words = ("index", table, "--images", shop / "images", "--model", model, "--keep-missing")
    ended = shell(*words, "--into", own_store, prefix=limited)
    assert ended.status == 1, ended
    assert "error: " in ended.err
    assert "Traceback" not in ended.err
    hits = fashionclip("search", own_store, "red shirt", "--k", 500, "--json").json["hits"]
    assert {f"P{i:03d}" for i in range(20)} <= {hit["id"] for hit in hits}
