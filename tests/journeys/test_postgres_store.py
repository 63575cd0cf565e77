"""A shop keeps its index in PostgreSQL: the same commands, a URI instead of a folder."""

import json
import time
import urllib.request
from contextlib import closing

import pytest


@pytest.fixture(scope="module")
def uri(postgres_server):
    return f"{postgres_server.new_database('journey')}&store=winter"


@pytest.fixture(scope="module")
def indexed(shop, uri, model, shell):
    return shell(
        *("index", shop / "products.csv", "--images", shop / "images"),
        *("--into", uri, "--model", model, "--json"),
    )


def test_a_catalogue_goes_into_the_database_and_again_without_embedding(
    indexed, shop, uri, model, fashionclip
):
    assert indexed.status == 0, indexed.err
    assert (indexed.json["stored"], indexed.json["embedded"]) == (20, 20)
    again = fashionclip(
        *("index", shop / "products.csv", "--images", shop / "images"),
        *("--into", uri, "--model", model, "--json"),
    )
    assert (again.json["unchanged"], again.json["embedded"]) == (20, 0)


@pytest.mark.usefixtures("indexed")
def test_a_search_finds_what_it_finds_in_a_folder(uri, store, fashionclip):
    for words in (
        ["red shirt", "--mode", "vectors"],
        ["red shirt", "--mode", "vectors", "--where", "price < 60 and gender = 'Women'"],
        ["shirt", "--mode", "vectors", "--not", "red"],
        ["--similar-to", "P003"],
        ["blue jeans"],
    ):
        there, here = (fashionclip("search", one, *words, "--json") for one in (uri, store))
        assert there.status == 0, there.err
        found, expected = there.json["hits"], here.json["hits"]
        if words != ["blue jeans"]:  # each engine ranks words in its own way
            assert [hit["id"] for hit in found] == [hit["id"] for hit in expected], words
            scores = [hit["score"] for hit in expected]
            assert [hit["score"] for hit in found] == pytest.approx(scores, abs=1e-5)
        assert {key: found[0][key] for key in ("title", "price")}.keys() <= expected[0].keys()


@pytest.mark.usefixtures("indexed")
def test_a_filter_with_a_tail_is_refused_in_one_line(uri, fashionclip):
    ended = fashionclip("search", uri, "shirt", "--where", "price < 20 garbage")
    assert ended.status != 0
    assert ended.err.startswith("error: filter 'price < 20 garbage' cannot be used at character 12")
    assert ended.err.count("\n") == 1


@pytest.mark.usefixtures("indexed")
def test_products_are_tagged_and_the_store_is_described_and_verified(uri, fashionclip, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("# kind\nshirt\ndress\njeans\n", encoding="utf-8")
    tagged = fashionclip("tag", uri, "--labels", labels, "--out", tmp_path / "tags.jsonl")
    assert tagged.status == 0, tagged.err
    assert len((tmp_path / "tags.jsonl").read_text(encoding="utf-8").splitlines()) == 20
    info = fashionclip("info", uri, "--json")
    assert info.status == 0, info.err
    assert (info.json["products"], info.json["index"]) == (20, uri)
    verified = fashionclip("index", "--verify", uri, "--json")
    assert (verified.status, verified.json["broken"]) == (0, []), verified.err


@pytest.mark.usefixtures("indexed")
def test_the_service_answers_from_the_database_and_follows_it(
    uri, start, shop, model, fashionclip, tmp_path
):
    service = start("serve", uri, "--port", 0)
    with closing(service.stderr), closing(service.stdout):
        try:
            address = service.stderr.readline().split()[-1].rstrip("/")
            found = search(address, {"text": "red shirt", "where": "price < 60", "k": 3})
            assert len(found) == 3
            assert all(hit["price"] < 60 for hit in found)
            table = tmp_path / "products.csv"
            text = (shop / "products.csv").read_text(encoding="utf-8")
            table.write_text(text.replace(",10\n", ",7777\n"), encoding="utf-8")
            ended = fashionclip(
                *("index", table, "--images", shop / "images"),
                *("--into", uri, "--model", model, "--json"),
            )
            assert (ended.json["updated"], ended.json["embedded"]) == (1, 0), ended.err
            give_up = time.monotonic() + 30
            while not search(address, {"where": "price = 7777"}):
                assert time.monotonic() < give_up, "the service does not see the new price"
                time.sleep(0.2)
        finally:
            service.terminate()
            service.wait(30)


def search(address, query):
    request = urllib.request.Request(
        f"{address}/search",
        json.dumps(query).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["hits"]
