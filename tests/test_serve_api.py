"""The API as a client sees it: every endpoint, in process, over a small index."""

import base64
import json
import shutil
from contextlib import contextmanager
from urllib.parse import quote

import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from fashionclip.model import FashionCLIP
from fashionclip.searching import Query, search_many
from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from fashionclip.store import open_store
from small_shop import ODD_IDS, as_base64, draw, encoded, ids, index_shop, write_catalog

BASE = "http://127.0.0.1:8000"


@contextmanager
def serving(store, **settings):
    """A client of the service over an index."""
    metrics = Metrics()
    limits = Settings(**{"rate_per_minute": 0, "max_batch": 4, **settings})
    app = create_app(SearchService(store, limits, metrics), limits, metrics)
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_catalog(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def store(table, tiny_checkpoint):
    """The index, for reading only."""
    path = table.parent / "shop.lance"
    index_shop(table, tiny_checkpoint, path)
    return path


@pytest.fixture(scope="module")
def client(store):
    with serving(store) as client:
        yield client


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    """A client of a copy that may be written to."""
    copy = tmp_path_factory.mktemp("written") / "shop.lance"
    shutil.copytree(store, copy)
    with serving(copy) as client:
        client.store = copy
        yield client


@pytest.fixture
def writable(written):
    """The same client; products that a test adds are deleted after it."""
    yield written
    there = found(written.post("/search", json={"k": 200}))
    if fresh := set(there) - set(ids()):
        ok(written.delete("/products", params={"id": list(fresh)}))


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(str(tiny_checkpoint))


def ok(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def rejected(answer, status, code):
    """The message of an error answer: one line, with the request's id."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "\n" not in error["message"]
    assert "/tmp" not in answer.text
    assert "Traceback" not in answer.text
    return error["message"]


def found(answer):
    return [hit["id"] for hit in ok(answer)["hits"]]


# search


def library_search(store, model, **query):
    if query.pop("hybrid", False):
        query["mode"] = "hybrid"
    (found,) = search_many(open_store(store), model, [Query(**query)])
    return found.hits


QUESTIONS = [
    {"text": "red shirt"},
    {"text": "red shirt", "k": 3, "offset": 4},
    {"text": "dress", "avoid": ["red", "stripes"]},
    {"text": "dress", "unlike": ["P00"]},
    {"avoid": ["red"]},
    {"similar_to": ["P01", "été-日本"]},
    {"text": "red", "where": "price < 20 and in_stock"},
    {"text": "red", "where": "colour in ('red', 'blue') or id = '100%'"},
    {"text": "red shirt", "hybrid": True},
    {"text": "red shirt", "hybrid": True, "where": "category = 'shirt'"},
]


@pytest.mark.parametrize("question", QUESTIONS, ids=json.dumps)
def test_search_finds_what_the_library_finds(client, store, model, question):
    expected = library_search(store, model, **question)
    hits = ok(client.post("/search", json=question))["hits"]
    assert [hit["id"] for hit in hits] == [hit.product_id for hit in expected]
    np.testing.assert_allclose(
        [hit["score"] for hit in hits], [hit.score for hit in expected], atol=2e-5
    )
    assert hits[0]["title"] == expected[0].columns["title"]


@pytest.mark.parametrize("form", ["base64", "data", "data url"])
def test_search_by_an_image_finds_that_image(client, form):
    image = as_base64(draw("blue", "dress"))
    query = {
        "base64": {"image": image},
        "data": {"image": f"data:image/png;base64,{image}"},
        "data url": {"image_url": f"data:image/png;base64,{image}"},
    }[form]
    (best,) = ok(client.post("/search", json={**query, "k": 1}))["hits"]
    assert best["title"] == "blue dress"
    assert best["score"] == pytest.approx(1.0, abs=1e-4)


def test_text_and_image_are_weighted(client, store, model):
    image = draw("blue", "dress")
    for weight in (0.0, 0.3, 1.0):
        query = {"text": "red", "image": as_base64(image), "weight": weight}
        expected = library_search(store, model, text="red", image=image, weight=weight)
        assert found(client.post("/search", json=query)) == [hit.product_id for hit in expected]


def test_pages_fit_together_and_show_whether_there_are_more(client):
    whole = found(client.post("/search", json={"text": "red", "k": 18}))
    parts = []
    for offset in range(0, 18, 5):
        page = ok(client.post("/search", json={"text": "red", "k": 5, "offset": offset}))
        parts += [hit["id"] for hit in page["hits"]]
        assert page["has_more"] is (offset + 5 < 18)
    assert parts == whole
    assert sorted(whole) == sorted(ids())
    assert ok(client.post("/search", json={"text": "red", "offset": 18}))["hits"] == []


def test_facets_are_counted_under_the_question(client):
    """The whole list, a filter, and what fits a text by its words."""
    ask = {"facets": ["colour", "category"], "fields": ["title"], "k": 3}
    whole = ok(client.post("/v1/search", json=ask))
    assert list(whole["facets"]) == ["colour", "category"]
    assert {one["count"] for one in whole["facets"]["colour"]["values"]} == {3}
    assert [set(hit) for hit in whole["hits"]] == [{"id", "score", "title"}] * 3
    shoes = ok(client.post("/v1/search", json={**ask, "where": "category = 'shoe'"}))
    assert shoes["facets"]["category"]["values"] == [{"value": "shoe", "count": 6}]
    found = ok(client.post("/v1/search", json={**ask, "text": "red", "mode": "words"}))
    assert found["facets"]["colour"]["values"] == [{"value": "red", "count": 3}]
    assert found["total"] == 3
    every = ok(client.post("/v1/search", json={"facets": ["*"]}))["facets"]
    assert set(every) >= {"colour", "category", "price", "year", "in_stock"}
    for facets, says in ((["titel"], "did you mean 'title'"), (["title"], "is no facet")):
        assert says in rejected(client.post("/v1/search", json={"facets": facets}), 400, "invalid")


def test_an_empty_search_lists_products(client):
    everything = ok(client.post("/search", json={"k": 100}))
    assert [hit["id"] for hit in everything["hits"]] == sorted(ids())
    assert not everything["has_more"]
    shoes = ok(client.post("/search", json={"where": "category = 'shoe'", "k": 4}))
    assert [hit["category"] for hit in shoes["hits"]] == ["shoe"] * 4
    assert shoes["has_more"]


@pytest.mark.parametrize(
    ("query", "status", "code", "says"),
    [
        ({"where": "1=1; drop table products"}, 400, "filter", "semicolon"),
        ({"where": "price < (select 1)"}, 400, "filter", "not taken here|stands where"),
        ({"where": "prize < 3"}, 400, "filter", "no column"),
        ({"text": "x", "where": "price < 'cheap'"}, 400, "filter", "holds numbers"),
        ({"text": "x" * 2001}, 400, "invalid", "maximum is 2,000"),
        ({"text": "x", "k": 201}, 400, "invalid", "maximum is 200"),
        ({"text": "x", "offset": 10_001}, 400, "invalid", "maximum is 10,000"),
        ({"text": "x", "k": 0}, 422, "invalid", "^k must be at least 1, not 0$"),
        ({"text": "x", "weight": 1.5}, 422, "invalid", "^weight must be at most 1, not 1.5$"),
        ({"txet": "x"}, 422, "invalid", "^unknown field 'txet'; did you mean 'text'[?]$"),
        ({"zzz": "x"}, 422, "invalid", "^unknown field 'zzz'; choose one of text, image, "),
        ({"text": 7}, 422, "invalid", "^text must be text, not 7$"),
        ({"text": 7, "k": "x"}, 422, "invalid", "^text must be text, not 7; k must be a w"),
        ({"mode": "both"}, 422, "invalid", "^mode must be 'hybrid', 'vectors' or 'words', not "),
        ({"text": "x", "mode": "words", "hybrid": True}, 422, "invalid", "leave out hybrid"),
        ({"similar_to": [1]}, 422, "invalid", r"^similar_to\[0\] must be text, not 1$"),
        ({"similar_to": ["x"] * 51}, 422, "invalid", "^similar_to must have at most 50 items"),
        ([], 422, "invalid", "^the body must be an object, not a list$"),
        ({"image": "not base64!"}, 400, "image", "not base64"),
        ({"image": "aGVsbG8="}, 400, "image", "cannot be decoded: the file is text"),
        ({"image": "JSFQUy1BZG9iZS0zLjAgRVBTRi0zLjAK"}, 400, "image", "EPS or PostScript"),
        ({"image": ""}, 400, "image", "empty"),
        ({"image": "aGVsbG8=", "image_url": "http://x/"}, 400, "image", "both"),
        ({"image_url": "http://shop.example/1.jpg"}, 400, "image", "--allow-image-urls"),
        ({"image_url": "file:///etc/passwd"}, 400, "image", "http"),
        ({"similar_to": ["nobody"]}, 404, "not_found", "no product 'nobody'"),
        ({"text": "x", "unlike": ["nobody"]}, 404, "not_found", "no product 'nobody'"),
    ],
    ids=str,
)
def test_an_invalid_search_is_rejected_in_one_line(client, query, status, code, says):
    import re

    message = rejected(client.post("/search", json=query), status, code)
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"{", "not JSON"), (b"\xff\xfe", "pars|JSON"), (b"", ""), (b"[" * 100_000, "pars|JSON")],
)  # fmt: skip
def test_a_body_that_is_not_json_is_rejected(client, body, says):
    import re

    answer = client.post("/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text
    assert re.search(says, answer.json()["error"]["message"])


# products


@pytest.mark.parametrize("product_id", ODD_IDS)
def test_a_product_is_found_by_any_id(client, product_id):
    address = f"/products/{quote(product_id, safe='')}"
    product = ok(client.get(address))
    assert product["id"] == product_id
    assert product["price"] == 10.5 + ids().index(product_id)
    alike = found(client.get(f"{address}/similar", params={"k": 4, "where": "year = 2010"}))
    assert len(alike) == 4
    assert product_id not in alike
    assert alike == found(
        client.post("/search", json={"similar_to": [product_id], "k": 4, "where": "year = 2010"})
    )
    assert client.get(f"/images/{quote(product_id, safe='')}").status_code == 200


def test_what_does_not_exist_is_a_404(client):
    rejected(client.get("/products/nobody"), 404, "not_found")
    rejected(client.get("/products/nobody/similar"), 404, "not_found")
    rejected(client.get("/images/nobody"), 404, "not_found")
    rejected(client.get("/nowhere"), 404, "not_found")
    says = rejected(client.get("/products/P00/similar?k=x"), 422, "invalid")
    assert says == "k must be a whole number, not 'x'"


def test_a_path_names_its_methods(client):
    wrong = client.put("/v1/search")
    says = rejected(wrong, 405, "method_not_allowed")
    assert says == "/v1/search cannot be asked with PUT; use GET, HEAD, OPTIONS, POST"
    assert wrong.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    asked = client.options("/v1/products")
    assert (asked.status_code, asked.headers["allow"]) == (204, "DELETE, OPTIONS, PATCH, PUT")
    assert client.options("/nowhere").status_code == 404


@pytest.mark.parametrize("path", ["/search?q=red&k=3", "/products/P00", "/health", "/metrics"])
def test_head_has_the_headers_of_get(client, path):
    for address in (path, f"/v1{path}"):
        head, get = client.head(address), client.get(address)
        assert head.status_code == get.status_code == 200
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/search?wher=red", "unknown parameter 'wher'; did you mean 'where'?"),
        ("/v1/search?q=x&limit=3", "unknown parameter 'limit'; choose one of q, mode, "),
        ("/v1/products/P00/similar?K=3", "unknown parameter 'K'; did you mean 'k'?"),
        ("/v1/products/P00?fields=title", "unknown parameter 'fields'; there are none here"),
        ("/images/P00?widht=20", "unknown parameter 'widht'; did you mean 'width'?"),
        ("/v1/search?q=x&k=0", "k must be at least 1, not '0'"),
        ("/v1/search?q=x&group=perhaps", "group must be true or false, not 'perhaps'"),
    ],
)
def test_an_unknown_parameter_is_named_with_the_nearest(client, path, says):
    assert rejected(client.get(path), 422, "invalid").startswith(says)
    assert client.get("/health?time=17").status_code == 200  # a probe's own


# versions, and searches in the URL


def test_every_path_is_answered_with_and_without_a_version(client):
    for path in ("/products/P00", "/images/P00", "/health", "/ready", "/metrics"):
        assert client.get(path).status_code == client.get(f"/v1{path}").status_code == 200
    query = {"text": "red shirt", "k": 4}
    new, old = (ok(client.post(f"{at}/search", json=query)) for at in ("/v1", ""))
    assert new == old
    assert ok(client.get("/v1/search", params={"q": "red shirt", "k": 4})) == new
    listed = ok(client.get("/v1/search?k=4&where=category = 'shoe'&q=&group=&fields=&offset="))
    assert listed == ok(client.post("/v1/search", json={"k": 4, "where": "category = 'shoe'"}))


def test_a_list_is_sorted_counted_and_faceted(client):
    where = "category = 'shoe'"
    listed = ok(client.get(f"/v1/search?sort=-price&facets=*&fields=price,colour&where={where}"))
    prices = [hit["price"] for hit in listed["hits"]]
    assert prices == sorted(prices, reverse=True)
    assert set(listed["hits"][0]) == {"id", "score", "price", "colour"}
    assert (listed["total"], listed["n_relevant"], listed["is_total_exact"]) == (6, 6, True)
    facets = listed["facets"]
    assert facets["year"] == {"kind": "number", "values": [], "low": 2010.0, "high": 2012.0}
    stocked = {one["value"]: one["count"] for one in facets["in_stock"]["values"]}
    assert stocked == {True: 3, False: 3}
    body = {"sort": "-price", "facets": ["*"], "fields": ["price", "colour"], "where": where}
    assert ok(client.post("/v1/search", json=body)) == listed


@pytest.mark.parametrize(
    "query", [{}, {"sort": "price"}, {"q": "red shirt"}, {"q": "red shirt", "mode": "hybrid"},
              {"where": "year = 2010", "sort": "-colour"}],
)  # fmt: skip
def test_cursors_lead_through_all_pages(client, query):
    whole = found(client.get("/v1/search", params={**query, "k": 18}))
    parts, cursor = [], ""
    while cursor is not None:
        page = ok(client.get("/v1/search", params={**query, "k": 4, "cursor": cursor}))
        parts += [hit["id"] for hit in page["hits"]]
        cursor = page["cursor"]
        assert page["has_more"] is (cursor is not None)
    assert parts == whole


def test_similar_products_take_the_options_of_searches(client):
    asked = "facets=colour&fields=title&explain=true&k=3&where=year = 2010"
    answer = ok(client.get(f"/v1/products/P00/similar?{asked}"))
    assert set(answer["hits"][0]) == {"id", "score", "title", "explanation"}
    assert list(answer["facets"]) == ["colour"]
    assert answer["total"] <= 6


def test_hits_are_explained(client):
    answer = ok(client.get("/v1/search?q=red shirt&mode=hybrid&explain=true&k=18"))
    by_title = {hit["title"]: hit["explanation"] for hit in answer["hits"]}
    assert set(by_title["red shirt"]["matched"]) == {"red", "shirt"}
    assert by_title["blue shirt"]["matched"] == ["shirt"]
    assert all(0 <= one["percentile"] <= 100 for one in by_title.values())


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("fields=titel", "no column 'titel'; did you mean 'title'?"),
        ("sort=prize", "no column 'prize'; did you mean 'price'?"),
        ("facets=colr", "no column 'colr'; did you mean 'colour'?"),
        ("facets=title", "'title' is no facet"),
        ("cursor=abc", "cursor"),
        ("group=true", "group"),
        ("q=x&mode=words&explain=1&offset=3&cursor=abc", "not both"),
    ],
)
def test_options_that_do_not_fit_the_catalogue_are_rejected(client, asked, says):
    assert says in rejected(client.get(f"/v1/search?{asked}"), 400, "invalid")


def test_openais_client_lists_the_model(client, model):
    theirs = openai.OpenAI(api_key="none", base_url=f"{BASE}/v1", http_client=client, max_retries=0)
    (listed,) = theirs.models.list().data
    assert listed.id == model.name
    assert theirs.models.retrieve(model.name) == listed
    assert ok(client.get("/v1/models"))["data"][0]["dimensions"] == model.dim
    with pytest.raises(openai.NotFoundError, match="the model here is"):
        theirs.models.retrieve("text-embedding-3-small")


# other origins


SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def open_to_a_shop(store, tmp_path_factory):
    from fashionclip.serve.middleware.keys import new_key

    key_file = tmp_path_factory.mktemp("keys") / "keys"
    secret = new_key(key_file, "read")
    with serving(store, cors_origins=(SHOP,), key_file=key_file) as client:
        client.key = {"authorization": f"Bearer {secret}"}
        yield client


def test_a_named_origin_may_use_the_api_with_a_key(open_to_a_shop):
    client = open_to_a_shop
    asks = {
        "origin": SHOP,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    preflight = client.options("/v1/search", headers=asks)  # browsers send it without the key
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SHOP
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in preflight.headers
    answer = client.post("/v1/search", json={"text": "x"}, headers={"origin": SHOP} | client.key)
    assert ok(answer)["hits"]
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/search", 401), ("/v1/nothing", 404), ("/v1/products/none", 404)]
)
def test_a_named_origin_can_read_errors(open_to_a_shop, path, status):
    key = open_to_a_shop.key if status == 404 else {}
    answer = open_to_a_shop.get(path, headers={"origin": SHOP} | key)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == SHOP


def test_other_origins_are_refused(open_to_a_shop, client):
    asks = {"access-control-request-method": "POST", "origin": "https://evil.example"}
    preflight = open_to_a_shop.options("/v1/search", headers=asks)
    assert preflight.status_code == 400
    for asked in (open_to_a_shop, client):  # the other allows no origin at all
        for answer in (
            asked.get("/health", headers=asks),
            asked.options("/v1/search", headers=asks),
        ):
            assert "access-control-allow-origin" not in answer.headers


# the model


def test_embeddings_are_the_models_own(client, model):
    query = {"input": ["red dress", "blue jeans"], "model": model.name}
    answer = ok(client.post("/v1/embeddings", json=query))
    assert (answer["object"], answer["model"]) == ("list", model.name)
    assert [one["index"] for one in answer["data"]] == [0, 1]
    vectors = [one["embedding"] for one in answer["data"]]
    np.testing.assert_allclose(vectors, model.encode_text(query["input"]), atol=1e-5)
    one = ok(client.post("/v1/embeddings", json={"input": "red dress"}))
    np.testing.assert_allclose(one["data"][0]["embedding"], vectors[0], atol=1e-5)
    packed = ok(client.post("/v1/embeddings", json={**query, "encoding_format": "base64"}))
    unpacked = np.frombuffer(base64.b64decode(packed["data"][1]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(unpacked, vectors[1], atol=1e-6)


def test_texts_and_images_may_be_mixed(client, model):
    image = draw("green", "shoe")
    plain, url = as_base64(image), f"data:image/png;base64,{as_base64(image)}"
    inputs = [
        "green shoe",
        {"text": "green shoe"},
        {"image": plain},
        url,
        {"image_url": url},
        {"image_url": {"url": url}},
    ]
    answer = ok(client.post("/v1/embeddings", json={"input": inputs}))
    vectors = np.array([one["embedding"] for one in answer["data"]], dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    (text,), (seen,) = model.encode_text("green shoe"), model.encode_images([image])
    np.testing.assert_allclose(vectors[:2], [text] * 2, atol=1e-5)
    np.testing.assert_allclose(vectors[2:], [seen] * 4, atol=1e-5)
    query = {"input": [plain], "modality": "image"}
    (one,) = ok(client.post("/v1/embeddings", json=query))["data"]
    np.testing.assert_allclose(one["embedding"], seen, atol=1e-5)


def test_openais_own_client_gets_its_vectors(client, model):
    theirs = openai.OpenAI(api_key="none", base_url=f"{BASE}/v1", http_client=client, max_retries=0)
    answer = theirs.embeddings.create(model=model.name, input=["red dress", "shoe"])  # as base64
    vectors = [one.embedding for one in answer.data]
    np.testing.assert_allclose(vectors, model.encode_text(["red dress", "shoe"]), atol=1e-5)
    assert answer.usage.total_tokens == 0
    with pytest.raises(openai.NotFoundError) as caught:
        theirs.embeddings.create(model="text-embedding-3-small", input="x")
    assert "the model here is" in str(caught.value)


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({"input": []}, 400, "nothing to encode"),
        ({"input": ["x"] * 65}, 400, "maximum is 64"),
        ({"input": ["fine", {"image": "aGVsbG8="}]}, 400, "input 1: .*decoded"),
        ({"input": [{"text": "x", "image": "aGVsbG8="}]}, 400, "text and image"),
        ({"input": [{}]}, 400, "nothing"),
        ({"input": "x", "dimensions": 7}, 400, "leave dimensions out"),
        ({"input": [[1, 2]]}, 422, "input"),
        ({}, 422, "input"),
    ],
)
def test_inputs_that_cannot_be_embedded_are_rejected(client, query, status, says):
    import re

    answer = client.post("/v1/embeddings", json=query)
    assert answer.status_code == status, answer.text
    assert re.search(says, answer.json()["error"]["message"])


def test_labels_are_scored_as_the_library_scores_them(client, model):
    image, labels = draw("red", "dress"), ["shoe", "dress", "shirt"]
    for templates in ("product", "ensemble", ["a {}", "the {}"], None):
        query = {"image": as_base64(image), "labels": labels, "templates": templates}
        answer = ok(client.post("/classify", json=query))["labels"]
        expected = model.classify([image], labels, templates=templates).probabilities[0]
        assert [one["label"] for one in answer] == [labels[i] for i in np.argsort(-expected)]
        given = {one["label"]: one["probability"] for one in answer}
        np.testing.assert_allclose([given[name] for name in labels], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"labels": ["x"]}, 400),
        ({"image": "aGVsbG8=", "labels": []}, 422),
        ({"image": "aGVsbG8=", "labels": ["x"]}, 400),
        ({"image": "aGVsbG8=", "labels": ["x"] * 65}, 400),
        ({"image": as_base64(draw("red")), "labels": ["x"], "templates": "without"}, 400),
        ({"image": as_base64(draw("red")), "labels": ["x"], "templates": ["{}"] * 17}, 400),
    ],
)
def test_an_invalid_classification_is_rejected(client, query, status):
    assert client.post("/classify", json=query).status_code == status


# images


def test_thumbnails_are_jpegs_that_browsers_cache(client):
    first = client.get("/images/P00", params={"width": 20})
    assert first.status_code == 200
    assert first.headers["content-type"] == "image/jpeg"
    assert first.content[:2] == b"\xff\xd8"
    assert first.headers["cache-control"].startswith("private, max-age=")
    tag = first.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/images/P00", params={"width": 20}, headers={"if-none-match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    fresh = client.get("/images/P00", params={"width": 20}, headers={"if-none-match": '"x"'})
    assert fresh.status_code == 200
    assert client.get("/images/P00", params={"width": 900}).headers["etag"] != tag
    assert client.get("/images/P01", params={"width": 20}).headers["etag"] != tag
    rejected(client.get("/images/P00?width=0"), 422, "invalid")
    rejected(client.get("/images/P00?width=10001"), 422, "invalid")
    head = client.head("/images/P00")
    assert (head.status_code, head.content) == (200, b"")


# changes


def put(client, *products, add_columns=False):
    params = {"add_columns": "true"} if add_columns else {}
    return client.put("/products", json={"products": list(products)}, params=params)


def new(product_id, colour="purple", garment="shoe", **columns):
    image = as_base64(draw(colour, garment, size_px=52))
    return {"id": product_id, "image": image, "columns": columns}


@pytest.mark.parametrize("product_id", ["new", *ODD_IDS, "."])
def test_a_product_is_found_as_soon_as_it_is_put_and_gone_when_deleted(writable, product_id):
    product = new(product_id, title="Purple shoe", price=3, year=2031)
    assert ok(put(writable, product)) == {"stored": 1, "rejected": []}
    query = {"image": product["image"], "k": 1}
    (hit,) = ok(writable.post("/search", json=query))["hits"]
    assert (hit["id"], hit["title"], hit["price"], hit["year"]) == (
        product_id, "Purple shoe", 3.0, 2031,
    )  # fmt: skip
    assert found(writable.post("/search", json={"where": "year = 2031"})) == [product_id]
    assert found(writable.post("/search", json={"text": "purple shoe", "hybrid": True}))
    if product_id != ".":  # which clients take for a folder
        assert ok(writable.get(f"/products/{quote(product_id, safe='')}"))["year"] == 2031
        image = writable.get(f"/images/{quote(product_id, safe='')}")
        assert image.content[:2] == b"\xff\xd8"
    on_disk = open_store(writable.store).fetch([product_id])
    assert on_disk.columns.column("year").to_pylist() == [2031]
    assert ok(writable.delete("/products", params={"id": product_id})) == {"removed": 1}
    assert found(writable.post("/search", json={"where": "year = 2031"})) == []
    assert ok(writable.delete("/products", params={"id": [product_id, "none"]})) == {"removed": 0}


def test_putting_again_replaces_the_product_and_its_image(writable):
    for price, colour in [(1, "red"), (2, "green")]:
        ok(put(writable, new("X", colour, price=price)))
    assert ok(writable.get("/products/X"))["price"] == 2
    images = [path for path in (writable.store / "images").rglob("*") if path.is_file()]
    assert len(images) == 1
    ok(writable.delete("/products?id=X"))
    assert list((writable.store / "images").iterdir()) == []


def test_a_caption_is_given_or_built_from_the_columns(writable):
    plain = new("made", title="Zebrine boots", highlights='["quilted"]')
    given = {**new("given"), "caption": "Ocelot boots"}
    ok(put(writable, plain, given, add_columns=True))
    for words, product_id in [("zebrine", "made"), ("quilted", "made"), ("ocelot", "given")]:
        assert found(writable.post("/search", json={"where": f"caption ilike '%{words}%'"})) == [
            product_id
        ]


@pytest.mark.parametrize(
    ("product", "says"),
    [
        (new("X", price="cheap"), "price holds numbers, not 'cheap'"),
        (new("X", year=2010.5), "year holds whole numbers"),
        (new("X", year=2**70), "year holds whole numbers"),
        (new("X", in_stock=1), "in_stock holds true or false"),
        ({"id": "X", "image": "aGVsbG8="}, "decoded"),
        ({"id": "X", "image": "%"}, "not base64"),
        ({"id": "X"}, "no image"),
        ({"id": "X", "image_url": "http://shop.example/x.jpg"}, "--allow-image-urls"),
        ({**new("X"), "caption": "x" * 2001}, "maximum is 2,000"),
        (new("X", title="x" * 2001), "maximum is 2,000"),
        (new("a\x00b"), "control characters"),
        (new("X", **{"": 1}), "not a name for a column"),
        (new("X", **{"\x07": 1}), "not a name for a column"),
        (
            new("X", colr="red"),
            "no column 'colr'; did you mean 'colour'? (add_columns=true adds it)",
        ),
    ],
    ids=str,
)
def test_a_bad_product_is_rejected_with_a_reason_and_the_others_are_stored(writable, product, says):
    before = ok(writable.get("/products/P00"))
    answer = ok(put(writable, new("good", title="fine"), product))
    assert answer["stored"] == 1
    (one,) = answer["rejected"]
    assert one["id"] == product["id"]
    assert says in one["reason"]
    assert ok(writable.get("/products/good"))["title"] == "fine"
    alone = put(writable, product)
    rejected(alone, 422, "invalid")
    assert alone.json()["stored"] == 0
    assert [one["id"] for one in alone.json()["rejected"]] == [product["id"]]
    assert ok(writable.get("/products/P00")).items() >= before.items()


def test_lone_surrogates_are_rejected_and_not_replaced(writable):
    body = json.dumps({"products": [new("a\ud800"), new("b", title="half \udfff of it")]})
    headers = {"content-type": "application/json"}
    answer = writable.put("/products", content=body, headers=headers)
    assert answer.status_code in {200, 422}, answer.text
    ids_there = found(writable.post("/search", json={"k": 100}))
    assert len(ids_there) == len(set(ids_there))
    assert not any("?" in name for name in set(ids_there) - set(ODD_IDS))


@pytest.mark.parametrize("body", [{}, {"products": []}, {"products": [{}]}, {"items": []}])
def test_an_empty_put_is_rejected(writable, body):
    rejected(writable.put("/products", json=body), 422, "invalid")
    rejected(writable.delete("/products"), 422, "invalid")


def test_more_products_than_a_request_may_have_are_rejected(writable):
    rejected(put(writable, *(new(f"x{i}") for i in range(65))), 400, "invalid")
    rejected(writable.delete("/products", params={"id": ["x"] * 201}), 400, "invalid")


def test_columns_are_added_on_demand(writable):
    ok(put(writable, new("X", fabric="silk", sizes=3, vegan=True), add_columns=True))
    assert found(writable.post("/search", json={"where": "fabric = 'silk' and vegan"})) == ["X"]
    assert ok(writable.get("/products/P00"))["fabric"] is None
    answer = ok(put(writable, new("Y", sizes="M"), new("Z", sizes=4)))
    assert [one["id"] for one in answer["rejected"]] == ["Y"]


# the service itself


def test_health_and_readiness(client):
    assert ok(client.get("/health")) == {"status": "ok"}
    ready = ok(client.get("/ready"))
    assert (ready["status"], ready["products"]) == ("ready", 18)
    assert client.head("/health").status_code == 200


def test_metrics_count_requests_batches_and_products(store):
    with serving(store) as client:
        for _ in range(3):
            client.post("/search", json={"text": "red"})
        client.get("/products/P00")
        client.get("/products/nobody")
        lines = client.get("/metrics")
        assert lines.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = lines.text.splitlines()
    counted = "fashionclip_requests_total"
    assert f'{counted}{{method="POST",route="/search",status="200"}} 3.0' in lines
    product = "/products/{product_id:path}"
    assert f'{counted}{{method="GET",route="{product}",status="404"}} 1.0' in lines
    assert 'fashionclip_batch_size_count{batcher="text_searches"} 3.0' in lines
    assert 'fashionclip_queue_depth{queue="text_searches"} 0.0' in lines


def test_a_request_keeps_its_id(client):
    answer = client.get("/health", headers={"x-request-id": "shop-7"})
    assert answer.headers["x-request-id"] == "shop-7"
    answer = client.get("/products/nobody", headers={"x-request-id": "shop-8"})
    assert answer.json()["error"]["request_id"] == "shop-8"


def test_an_internal_error_is_one_line_without_paths(store, monkeypatch):
    with serving(store) as client:

        def breaks(*_, **__):
            raise OSError("/work/secret/place")

        monkeypatch.setattr("fashionclip.store.snapshot.Snapshot.nearest", breaks)
        message = rejected(client.post("/search", json={"text": "x"}), 500, "internal")
        assert "secret" not in message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_images_of_the_usual_formats_are_read(client, kind):
    image = base64.b64encode(encoded(draw("black", "shoe"), kind)).decode()
    (best, *_) = ok(client.post("/search", json={"image": image}))["hits"]
    assert best["title"] == "black shoe"
