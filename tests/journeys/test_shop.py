"""A catalogue with faults is indexed, searched, and shown as a page of results."""

import json
import subprocess
import sys
from html import unescape

import pytest

COLUMNS = {"title", "description", "gender", "colour", "price"}


@pytest.fixture(scope="module")
def indexed(broken_shop, model, shell):
    """The broken shop indexed: the store, and how the run ended."""
    path = broken_shop.parent / f"{broken_shop.name}.lance"
    ended = shell(
        *("index", broken_shop / "products.csv", "--images", broken_shop / "images"),
        *("--into", path, "--model", model, "--json"),
    )
    return path, ended


def test_good_products_are_stored_though_others_are_rejected(indexed):
    _, ended = indexed
    assert ended.status == 0, ended.err
    assert ended.json["stored"] == 20
    assert ended.json["rejected"] == 7


def test_every_rejected_row_is_named_with_its_image_and_reason(indexed):
    store, ended = indexed
    lines = (store / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    rejects = {reject["row"]: reject for reject in map(json.loads, lines)}
    assert sorted(rejects) == [21, 22, 23, 24, 25, 26, 27]
    assert rejects[21]["image"].endswith("gone.jpg")
    assert rejects[22]["image"].endswith("cut.jpg")
    assert all(reject["reason"] for reject in rejects.values())
    assert ended.json["rejects"] == str(store / "rejects.jsonl")


def test_the_counts_end_the_talk_and_name_the_rejects_file(
    broken_shop, indexed, model, fashionclip
):
    store, _ = indexed
    ended = fashionclip(
        *("index", broken_shop / "products.csv", "--images", broken_shop / "images"),
        *("--into", store, "--model", model),
    )
    assert ended.status == 0
    assert ended.out == ""
    last = ended.err.splitlines()[-1]
    assert "20 unchanged" in last
    assert f"7 rejected (see {store / 'rejects.jsonl'})" in last


def test_an_address_inside_the_network_is_refused_and_the_mend_is_named(indexed):
    store, _ = indexed
    rejects = map(json.loads, (store / "rejects.jsonl").read_text(encoding="utf-8").splitlines())
    (reason,) = (reject["reason"] for reject in rejects if reject["row"] == 27)
    assert "127.0.0.1" in reason
    assert "allow" in reason


def test_hits_have_an_id_a_score_and_the_catalogues_columns(store, shell):
    ended = shell("search", store, "red shirt", "--k", 3, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["has_more"]
    assert ended.json["cursor"]
    assert len(ended.json["hits"]) == 3
    for hit in ended.json["hits"]:
        assert list(hit)[:2] == ["id", "score"]
        assert set(hit) >= COLUMNS
        assert isinstance(hit["price"], int)
    scores = [hit["score"] for hit in ended.json["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_a_search_loads_no_more_than_it_needs(store):
    code = (
        f"import sys; from fashionclip.cli.main import run; run(['search', {str(store)!r}, 'red', "
        "'--json']); heavy = {'torch', 'transformers', 'openvino_telemetry', "
        "'lancedb', 'rich', 'urllib3.util'}; "
        "print([name for name in heavy if sys.modules.get(name)], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]"


def test_words_need_no_quotes(store, fashionclip):
    quoted = fashionclip("search", store, "red shirt", "--json")
    assert quoted.json == fashionclip("search", store, "red", "shirt", "--json").json


def test_a_filter_holds_for_every_hit(store, fashionclip):
    ended = fashionclip(
        "search", store, "shirt", "--where", "price < 50 and gender = 'Women'", "--json"
    )
    assert ended.json["hits"]
    assert all(hit["price"] < 50 and hit["gender"] == "Women" for hit in ended.json["hits"])


def test_a_filter_on_an_unknown_column_names_the_columns_there_are(store, fashionclip):
    ended = fashionclip("search", store, "shirt", "--where", "prize < 50", "--json")
    assert ended.status == 1
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert "price" in ended.err


def test_an_image_finds_the_product_that_it_shows(shop, store, fashionclip):
    image_file = shop / "images" / "dress-green.jpg"
    ended = fashionclip("search", store, "--image", image_file, "--k", 1, "--json")
    assert ended.json["hits"][0]["title"] == "green dress"
    assert ended.json["hits"][0]["score"] == pytest.approx(1.0, abs=0.02)


def test_an_image_can_come_from_a_pipe(shop, store, shell):
    piped = ("sh", "-c", f'"$0" "$@" < {shop / "images" / "dress-green.jpg"}')
    ended = shell("search", store, "--image", "-", "--k", 1, "--json", prefix=piped)
    assert ended.json["hits"][0]["title"] == "green dress"


def test_words_and_an_image_go_together_by_weight(shop, store, fashionclip):
    image_file = shop / "images" / "dress-green.jpg"

    def best(weight):
        ended = fashionclip(
            "search", store, "jeans", "--image", image_file, "--weight", weight, "--json"
        )
        assert ended.status == 0, ended.err
        return ended.json["hits"][0]["id"]

    words_alone = fashionclip("search", store, "jeans", "--k", 1, "--json").json["hits"][0]["id"]
    assert best(1) == words_alone
    assert best(0) == "P007"


def test_similar_products_do_not_count_the_product_itself(store, fashionclip):
    ended = fashionclip("search", store, "--similar-to", "P003", "--k", 5, "--json")
    assert len(ended.json["hits"]) == 5
    assert "P003" not in {hit["id"] for hit in ended.json["hits"]}


def test_similar_to_a_product_that_is_not_there_is_an_error(store, fashionclip):
    ended = fashionclip("search", store, "--similar-to", "P999")
    assert ended.status == 1
    assert "P999" in ended.err


def test_what_is_to_be_avoided_sinks(shop, store, fashionclip):
    image_file = shop / "images" / "dress-green.jpg"
    plain = fashionclip("search", store, "--image", image_file, "--k", 20, "--json").json["hits"]
    ended = fashionclip(
        *("search", store, "--image", image_file, "--not", "jeans", "--not", "red"),
        *("--k", 20, "--json"),
    )
    assert ended.status == 0, ended.err
    assert {hit["id"] for hit in ended.json["hits"]} == {hit["id"] for hit in plain}
    assert [hit["score"] for hit in ended.json["hits"]] != [hit["score"] for hit in plain]


def test_full_text_helps_where_words_stand_in_the_catalogue(store, fashionclip):
    ended = fashionclip("search", store, "orange sneakers", "--mode", "hybrid", "--k", 3, "--json")
    assert ended.status == 0, ended.err
    assert "orange sneakers" in {hit["title"] for hit in ended.json["hits"]}


def test_a_column_that_is_not_there_is_named_with_the_nearest_one(store, fashionclip):
    for option, name in (("--sort", "prcie"), ("--fields", "pirce")):
        ended = fashionclip("search", store, "shirt", option, name)
        assert ended.status == 2
        assert f"there is no column '{name}'; did you mean 'price'?" in ended.err


def test_a_table_is_what_people_see(store, fashionclip):
    ended = fashionclip("search", store, "red shirt", "--k", 3)
    assert "score" in ended.out
    assert "title" in ended.out
    assert ended.out.count("P0") == 3
    assert "3 of 20 products" in ended.err


def test_a_page_shows_the_hits_as_images(store, shell, tmp_path):
    page = tmp_path / "hits.html"
    ended = shell("search", store, "red shirt", "--k", 4, "--html", page)
    assert ended.status == 0, ended.err
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 4
    assert "red shirt" in unescape(text)
    assert str(page) in ended.err


def test_an_index_says_what_it_holds(store, model, fashionclip):
    ended = fashionclip("info", store, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["products"] == 20
    assert ended.json["model"] == str(model)
    assert "20" in fashionclip("info", store).out


def test_a_model_says_what_it_is(model, fashionclip):
    ended = fashionclip("info", model, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["dim"] == 24
    assert ended.json["image_px"] == 32
    assert "24" in fashionclip("info", model).out


def test_a_whole_index_passes_its_check(store, fashionclip):
    ended = fashionclip("index", "--verify", store, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["checked"] == 20
    assert ended.json["broken"] == []


def test_the_check_of_a_catalogue_finds_its_faults_before_time_is_spent(
    broken_shop, fashionclip, tmp_path
):
    rejects = tmp_path / "rejects.jsonl"
    words = ("catalog", "check", broken_shop / "products.csv", "--images", broken_shop / "images")
    ended = fashionclip(*words, "--json", "--rejects", rejects)
    assert ended.status == 0, ended.err
    assert ended.json["rows"] == 27
    rows = [json.loads(line)["row"] for line in rejects.read_text("utf-8").splitlines()]
    assert {21, 22, 23, 24, 25, 26, 27} <= set(rows)
    assert "→ check the name and the images folder" in fashionclip(*words).out
