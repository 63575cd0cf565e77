"""Searches with changes ("like this, but darker"): what moves, what is kept, what is refused."""

import hashlib
import itertools
import json
import math
import re

import numpy as np
import pytest
from starlette.testclient import TestClient

from fashionclip.cli.main import run
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Roles
from fashionclip.sample import generate_image, sample_products
from fashionclip.searching import Query, Results, search_many
from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from fashionclip.store import StoreMeta, create_store
from small_shop import as_base64, draw

N = 60
COUNTER = itertools.count()
CATEGORIES = ("shirt", "dress", "skirt")
LIGHT, DARK = {"white", "beige", "yellow", "pink", "grey"}, {"black", "navy", "brown"}


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def vectors(model):
    found = np.random.default_rng(0).standard_normal((N, model.dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def stored(uri, model, vectors, categories=CATEGORIES):
    """A store of products whose category is decided by their number."""
    meta = StoreMeta("", model.name, model.fingerprint, model.dim, Roles(category="kind"))
    store = create_store(uri, meta)
    products = [
        Product(
            f"p{i:02}", f"number {i}", None, i, {"kind": categories[i % len(categories)], "n": i}
        )
        for i in range(len(vectors))
    ]
    keys = [hashlib.blake2b(bytes([i]), digest_size=16).digest() for i in range(len(vectors))]
    with store.writer() as writer:
        writer.upsert(products, vectors, keys)
        writer.optimize()
    return store


@pytest.fixture(scope="module")
def memory(model, vectors):
    return stored("memory://like-but", model, vectors)


@pytest.fixture(params=["memory", "lance", pytest.param("postgres", marks=pytest.mark.slow)])
def store(request, model, vectors, memory, tmp_path):
    if request.param == "memory":
        return memory
    if request.param == "lance":
        return stored(tmp_path / "s.lance", model, vectors)
    uri = f"{request.getfixturevalue('postgres_uri')}&store=like-but-{next(COUNTER)}"
    return stored(uri, model, vectors)


def ask(store, model, **options):
    (outcome,) = search_many(store, model, [Query(**options)])
    if isinstance(outcome, Exception):
        raise outcome
    assert isinstance(outcome, Results)
    return outcome


def ids(results):
    return [hit.product_id for hit in results.hits]


def nearest(vectors, query, rows):
    """The reference: all cosines of some rows, sorted."""
    scores = vectors @ (query / np.linalg.norm(query))
    return [f"p{i:02}" for i in sorted(rows, key=lambda i: (-scores[i], i))]


# what moves


def test_a_pair_moves_the_vector_by_the_difference_of_its_texts(store, model, vectors):
    before, after = model.encode_text(["long skirt", "short skirt"])
    query = vectors[4] + 1.4 * (after - before)
    found = ask(store, model, similar_to="p04", but="long skirt / short skirt", k=N)
    assert ids(found) == nearest(vectors, query, [i for i in range(N) if i % 3 == 1 and i != 4])
    (change,) = found.changes
    assert (change.before, change.after, change.strength) == ("long skirt", "short skirt", 1.4)


def test_changes_add_up_by_their_degrees(memory, model, vectors):
    texts = ["a", "b", "casual", "formal"]
    a, b, casual, formal = model.encode_text(texts)
    query = vectors[0] + 0.7 * (b - a + 2 * (formal - casual))
    found = ask(
        memory, model, similar_to="p00", but=["a / b", "much more formal"], but_strength=0.7, k=9
    )
    assert ids(found) == nearest(vectors, query, [i for i in range(N) if i % 3 == 0 and i])[:9]
    assert [round(one.strength, 6) for one in found.changes] == [0.7, 1.4]


def test_the_pair_of_the_kind_that_is_nearest_to_the_start_counts(memory, model):
    for kind, before, after in (
        ("skirt", "mini skirt", "maxi skirt"),
        ("jeans", "shorts", "long trousers"),
    ):
        start = model.encode_text([kind])[0]
        (change,) = ask(memory, model, image_vector=start, but="longer", k=1).changes
        assert (change.before, change.after) == (before, after)


def test_a_kind_without_a_pair_takes_the_general_one_or_is_refused(memory, model):
    watch = model.encode_text(["watch"])[0]
    (change,) = ask(memory, model, image_vector=watch, but="bigger", k=1).changes
    assert (change.before, change.after) == ("small", "large")
    with pytest.raises(ValueError, match="no change 'higher' is known for this product") as refused:
        ask(memory, model, image_vector=watch, but="higher")
    assert "\n" not in str(refused.value)


def test_words_and_an_image_are_moved_from_their_mixture(memory, model, vectors):
    text, a, b = model.encode_text(["blue", "a", "b"])
    start = 0.3 * text + 0.7 * vectors[7]
    query = start / np.linalg.norm(start) + 2.0 * (b - a)
    options = {"text": "blue", "image_vector": vectors[7], "weight": 0.3, "where": "kind = 'dress'"}
    found = ask(memory, model, but="a / b", but_strength=2.0, k=5, **options)
    assert ids(found) == nearest(vectors, query, range(1, N, 3))[:5]


# what is kept


def test_hits_keep_the_category_of_a_product(store, model):
    found = ask(store, model, similar_to="p04", but="darker", k=N)
    assert {hit.columns["kind"] for hit in found.hits} == {"dress"}
    assert len(found.hits) == N // 3 - 1
    assert (found.kept.column, found.kept.values) == ("kind", ("dress",))


@pytest.mark.parametrize(
    ("but", "is_kept"),
    [
        ("dress / skirt", False),
        ("long dresses / short skirts", False),
        ("long dress / short dress", True),
        ("long skirt / short skirt", True),
        ("dress / sari", True),  # no category of this catalogue
        ("longer", True),
    ],
)
def test_a_pair_that_leaves_the_category_does_not_keep_it(memory, model, but, is_kept):
    found = ask(memory, model, similar_to="p04", but=[but], k=N)
    assert (found.kept is not None) == is_kept
    assert ("skirt" in {hit.columns["kind"] for hit in found.hits}) != is_kept


def test_several_products_keep_all_their_categories(memory, model):
    found = ask(memory, model, similar_to=["p00", "p01"], but="darker", k=N)
    assert {hit.columns["kind"] for hit in found.hits} == {"shirt", "dress"}


def test_a_filter_on_the_category_replaces_it(memory, model):
    found = ask(
        memory, model, similar_to="p04", but="darker", where="kind = 'skirt' and n < 40", k=N
    )
    assert found.kept is None
    assert {hit.columns["kind"] for hit in found.hits} == {"skirt"}


def test_another_filter_holds_beside_the_category(store, model):
    found = ask(store, model, similar_to="p04", but="darker", where="n < 40", k=N)
    assert sorted(ids(found)) == [f"p{i:02}" for i in range(1, 40, 3) if i != 4]


def test_an_image_keeps_the_category_that_most_of_the_nearest_have(model, vectors):
    same = np.repeat(vectors[:3], 20, axis=0)
    blocks = stored(
        "memory://blocks", model, same, ["shirt"] * 20 + ["dress"] * 20 + ["skirt"] * 20
    )
    found = ask(blocks, model, image_vector=vectors[1], but="darker", k=N)
    assert {hit.columns["kind"] for hit in found.hits} == {"dress"}


def test_an_image_whose_nearest_disagree_keeps_none(model, vectors):
    mixed = stored("memory://mixed", model, vectors, [f"kind {i % 9}" for i in range(9)])
    assert ask(mixed, model, image_vector=vectors[1], but="darker").kept is None


def test_a_small_category_is_not_kept(memory, model, vectors):
    found = ask(memory, model, similar_to="p04", but="darker", where="n < 20", k=N)
    assert found.kept is None
    assert len(found.hits) == 19


def test_an_index_of_three_products_answers(model, vectors):
    few = stored("memory://three", model, vectors[:3])
    found = ask(few, model, similar_to="p00", but="darker")
    assert (sorted(ids(found)), found.kept) == (["p01", "p02"], None)
    assert ids(ask(few, model, image_vector=vectors[0], but="longer", where="n > 1")) == ["p02"]


# pages


def test_the_second_page_goes_on_from_the_first(store, model):
    options = {"similar_to": "p04", "but": ["darker", "shorter sleeves"]}
    whole = ids(ask(store, model, k=N, **options))
    pages, cursor = [], None
    while True:
        page = ask(store, model, k=4, cursor=cursor, **options)
        pages += ids(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == whole


def test_a_cursor_belongs_to_its_changes_and_their_strength(memory, model):
    cursor = ask(memory, model, similar_to="p04", but="darker", k=4).cursor
    for options in ({"but": "lighter"}, {"but": "darker", "but_strength": 2.0}, {}):
        with pytest.raises(ValueError, match="belongs to another query"):
            ask(memory, model, similar_to="p04", k=4, cursor=cursor, **options)


# what is refused


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"but": ""}, "a change is empty"),
        ({"but": ["darker", " "]}, "a change is empty"),
        ({"but": "quirkier"}, "no change is known"),
        ({"but": ["darker"] * 100}, "100 changes; the maximum is 10"),
        ({"but": "darker", "but_strength": math.nan}, "but_strength is nan"),
        ({"but": "darker", "but_strength": math.inf}, "but_strength is inf"),
        ({"but": "darker", "but_strength": 0.0}, "but_strength is 0"),
        ({"but": "darker", "but_strength": -1.0}, "but_strength is -1"),
        ({"but": ["darker", "lighter"]}, "cancel each other out"),
        ({"but": "darker", "similar_to": ()}, "but changes a search"),
        ({"but": "darker", "text": "shirt", "mode": "words"}, "compares no vectors"),
    ],
)
def test_bad_changes_are_refused(memory, model, options, reason):
    with pytest.raises(ValueError, match=reason):
        ask(memory, model, **{"similar_to": "p04", **options})


def test_texts_that_the_model_does_not_tell_apart_are_refused(memory, model):
    # both are the same words to the tokenizer
    with pytest.raises(ValueError, match=r"does not tell 'a\.skirt' from 'a \.skirt'"):
        ask(memory, model, similar_to="p04", but="a.skirt / a .skirt")


def test_changes_need_the_model_also_beside_a_product(memory):
    with pytest.raises(ValueError, match="need the model"):
        ask(memory, None, similar_to="p04", but="darker")


def test_a_bad_change_costs_no_query_beside_it(memory, model):
    outcomes = search_many(
        memory,
        model,
        [Query(similar_to="p04", but=but) for but in ("darker", "quirkier", "longer")],
    )
    assert [isinstance(one, Results) for one in outcomes] == [True, False, True]


# the drawn sample, under the built-in model


@pytest.fixture(scope="module")
def drawn():
    """Tops and dresses of the sample catalogue, whose attributes are known, and their index."""
    shown = ("t-shirt", "shirt", "sweater", "dress")
    products = [one for one in sample_products(180, seed=3) if one.attributes.category in shown]
    model = FashionCLIP.from_pretrained(None)
    images = [generate_image(one.attributes, seed=one.seed) for one in products]
    meta = StoreMeta("", model.name, model.fingerprint, model.dim)
    store = create_store("memory://drawn-like-but", meta)
    with store.writer() as writer:
        writer.upsert(
            [Product(one.product_id, one.title, None, i, {}) for i, one in enumerate(products)],
            model.encode_images(images),
            [
                hashlib.blake2b(bytes([i % 256, i // 256]), digest_size=16).digest()
                for i in range(len(products))
            ],
        )
    return store, model, {one.product_id: one.attributes for one in products}


def share(drawn, starts, wanted, **options):
    """The share of the first five hits of some starts that have an attribute."""
    store, model, attributes = drawn
    queries = [Query(similar_to=start, k=5, **options) for start in starts]
    hits = [hit for found in search_many(store, model, queries) for hit in found.hits]
    return np.mean([wanted(attributes[hit.product_id]) for hit in hits])


@pytest.mark.parametrize(
    ("but", "is_start", "is_wanted"),
    [
        ("shorter sleeves", lambda a: a.sleeve == "long", lambda a: a.sleeve != "long"),
        ("longer sleeves", lambda a: a.sleeve == "short", lambda a: a.sleeve == "long"),
        ("darker", lambda a: a.colour in LIGHT, lambda a: a.colour in DARK),
        ("lighter", lambda a: a.colour in DARK, lambda a: a.colour in LIGHT),
        ("plainer", lambda a: a.pattern != "solid", lambda a: a.pattern == "solid"),
    ],
)
def test_a_change_shows_in_the_drawn_products(drawn, but, is_start, is_wanted):
    starts = [name for name, one in drawn[2].items() if is_start(one)][:12]
    plain = share(drawn, starts, is_wanted)
    little = share(drawn, starts, is_wanted, but=but, but_strength=0.7)
    much = share(drawn, starts, is_wanted, but=but, but_strength=2.0)
    assert much > plain + 0.1, (plain, little, much)
    assert plain <= little <= much


@pytest.mark.parametrize(
    ("but", "category", "after"),
    [
        ("longer", "dress", "maxi dress"),
        ("longer", "t-shirt", "long tunic"),
        ("looser", "shirt", "loose shirt"),
        ("bigger", "dress", "large"),
        ("higher", "dress", None),
    ],
)
def test_a_drawn_product_is_changed_as_its_kind_is(drawn, but, category, after):
    store, model, attributes = drawn
    starts = [name for name, one in attributes.items() if one.category == category]
    outcomes = search_many(store, model, [Query(similar_to=one, but=but, k=1) for one in starts])
    led_to = [one.changes[0].after if isinstance(one, Results) else None for one in outcomes]
    assert led_to.count(after) > 0.5 * len(starts), led_to  # a model takes some for other kinds


# the service and the command line


@pytest.fixture(scope="module")
def client(indexed_shop):
    metrics, limits = Metrics(), Settings(rate_per_minute=0, max_batch=4)
    app = create_app(SearchService(indexed_shop, limits, metrics), limits, metrics)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def test_the_service_says_what_it_changed(client):
    body = {"similar_to": ["P00"], "but": ["much darker", "a / b"], "but_strength": 0.5, "k": 4}
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["changes"] == [
        {"text": "much darker", "from": "white", "to": "black", "strength": 1.0},
        {"text": "a / b", "from": "a", "to": "b", "strength": 0.5},
    ]
    assert answer.json()["kept_category"] is None
    by_url = client.get("/v1/products/P00/similar?but=much+darker&but=a+/+b&but_strength=0.5&k=4")
    assert by_url.json() == answer.json()


def test_the_service_goes_on_with_the_second_page(client):
    body = {"image": as_base64(draw("red")), "but": ["darker"], "k": 18}
    whole = client.post("/v1/search", json=body).json()["hits"]
    first = client.post("/v1/search", json={**body, "k": 5}).json()
    second = client.post("/v1/search", json={**body, "k": 13, "cursor": first["cursor"]}).json()
    assert first["hits"] + second["hits"] == whole


@pytest.mark.parametrize(
    "change",
    [
        {"but": [""]},
        {"but": ["darker"] * 11},
        {"but": ["quirkier"]},
        {"but": "darker"},
        {"but": ["darker"], "but_strength": 9},
        {"but": ["darker"], "but_strength": "NaN"},
        {"but": ["x" * 5000 + " / y"]},
        {"but": ["darker"], "similar_to": []},
    ],
)
def test_the_service_refuses_bad_changes(client, change):
    answer = client.post("/v1/search", json={"similar_to": ["P00"], **change})
    assert answer.status_code in {400, 413, 422}
    assert answer.json()["error"]["message"]


def test_a_search_without_changes_says_nothing_of_them(client):
    assert "changes" not in client.post("/v1/search", json={"similar_to": ["P00"]}).json()


def test_the_command_says_what_it_changed(indexed_shop, capsys):
    words = ["search", str(indexed_shop), "--like", "P00", "--but", "darker", "--k", "2"]
    assert run([*words, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["changes"][0]["to"] == "black"
    assert "changed: darker (from 'white' to 'black', strength 1.4)" in shown.err
    assert run([*words, "--but", "quirkier"]) != 0
    assert "no change is known as 'quirkier'" in capsys.readouterr().err


# the page


def page(client, path):
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_sliders_show_what_the_url_says(client):
    text = page(client, "/?like=P00&but=much+darker&but=shorter+sleeves")
    assert re.search('value="-2"[^>]*name="but.shade"', text)
    assert re.search('value="0"[^>]*name="but.length"', text)
    hidden = re.findall('<input type="hidden"[^>]*name="but" value="([^"]*)"', text)
    assert hidden == ["shorter sleeves"]
    assert "Like your pick, but much darker, shorter sleeves" in text
    assert "From “white” to “black”; from “long sleeves” to “short sleeves”" in text


def test_the_page_ignores_what_it_does_not_understand_and_says_so(client):
    text = page(client, "/?like=P00&but=quirkier&but=darker&but.length=9&but.shade=x")
    assert "No change is known as &#39;quirkier&#39;" in text
    assert "Like your pick, but darker" in text
    assert "A change needs a start" in page(client, "/?but=darker")
    many = "&".join(f"but=a+/+{i}" for i in range(11))
    assert "11 changes; the maximum is 10" in page_of_any_status(client, f"/?like=P00&{many}")


def page_of_any_status(client, path):
    return client.get(path, headers={"Accept": "text/html"}).text


def test_the_second_page_and_the_csv_keep_the_changes(client):
    text = page(client, "/?like=P00&but=darker")
    assert "/products.csv?like=P00&amp;but=darker" in text
    assert client.get("/products.csv?like=P00&but=darker").text.count("\n") > 5


def test_a_product_page_has_the_sliders(client):
    text = page(client, "/p/P00")
    assert 'name="like" value="P00"' in text
    assert 'form="like-this" name="but.length"' in text
