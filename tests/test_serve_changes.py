"""Changes over HTTP: patches, deletions by a filter, bulk, and requests that are sent twice."""

import json
import shutil
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from fashionclip.serve.app import create_app
from fashionclip.serve.idempotency import IdempotencyKeys, KeptAnswer
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from small_shop import ODD_IDS, as_base64, draw, ids

SETTINGS = Settings(rate_per_minute=0, max_batch=4)


@pytest.fixture
def client(indexed_shop, tmp_path):
    service = SearchService(shutil.copytree(indexed_shop, tmp_path / "s"), SETTINGS, Metrics())
    with TestClient(
        create_app(service, SETTINGS, Metrics()),
        base_url="http://127.0.0.1:8000",
        raise_server_exceptions=False,
    ) as client:
        yield client


def ok(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, status, code="invalid"):
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    return answer.json()["error"]["message"]


def found(client, query):
    return [hit["id"] for hit in ok(client.get(f"/v1/search?k=50&{query}"))["hits"]]


def new(product_id, **columns):
    return {"id": product_id, "image": as_base64(draw("purple", "shoe")), "columns": columns}


# patches


@pytest.mark.parametrize("product_id", ["P00", *ODD_IDS])
def test_a_price_changes_without_a_picture(client, product_id):
    path = f"/v1/products/{quote(product_id, safe='')}"
    before = ok(client.get(path))
    after = ok(client.patch(path, json={"columns": {"price": 1.5}}))
    assert after == {**before, "price": 1.5} == ok(client.get(path))
    assert found(client, "q=shoe&sort=price&where=price%20<%202") == [product_id]
    assert found(client, "sort=price")[0] == product_id


def test_null_removes_a_value(client):
    after = ok(client.patch("/v1/products/P00", json={"columns": {"title": None, "year": None}}))
    assert (after["title"], after["year"]) == (None, None)
    assert "P00" not in found(client, "where=year%20>%200")


def test_an_unknown_product_is_named_with_ids_that_look_like_it(client):
    says = refused(client.patch("/v1/products/p00", json={"columns": {}}), 404, "not_found")
    assert says == "there is no product 'p00' here; did you mean 'P00'?"
    says = refused(client.get("/v1/products/P0O"), 404, "not_found")
    assert "did you mean 'P00' or 'P01' or 'P02'?" in says
    says = refused(client.patch("/v1/products/nothing", json={"columns": {}}), 404, "not_found")
    assert says == "there is no product 'nothing' here"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"columns": {"price": "cheap"}}, 400, "the column price holds numbers, not 'cheap'"),
        ({"columns": {"prise": 3}}, 400, "no column 'prise'; did you mean 'price'?"),
        ({"columns": {"title": "x" * 2001}}, 400, "the maximum is 2,000"),
        ({"columns": {"id": "other"}}, 400, "the column id says 'other'"),
        ({"price": 3}, 422, "unknown field 'price'"),
        ({"columns": {"price": [3]}}, 422, "columns.price must be text, a number"),
    ],
)
def test_a_wrong_patch_changes_nothing(client, body, status, says):
    before = ok(client.get("/v1/products/P00"))
    assert says in refused(client.patch("/v1/products/P00", json=body), status)
    assert ok(client.get("/v1/products/P00")) == before


def test_many_products_change_at_once_each_with_its_own_report(client):
    changes = [
        {"id": "P00", "columns": {"price": 3}},
        {"id": "p01", "columns": {"price": 4}},
        {"id": "P02", "columns": {"price": "cheap"}},
        {"id": "P03", "columns": {"stock": 5}},
    ]
    answer = ok(client.patch("/v1/products", json={"products": changes}))
    assert answer["patched"] == 1
    reasons = {one["id"]: one["reason"] for one in answer["rejected"]}
    assert "did you mean 'P01'?" in reasons["p01"]
    assert "holds numbers" in reasons["P02"]
    assert "no column 'stock'" in reasons["P03"]
    answer = client.patch("/v1/products", json={"products": changes[1:]})
    refused(answer, 422)
    assert (answer.json()["patched"], len(answer.json()["rejected"])) == (0, 3)
    added = client.patch("/v1/products?add_columns=true", json={"products": changes[3:]})
    assert ok(added) == {"patched": 1, "rejected": []}
    assert found(client, "where=stock%20=%205") == ["P03"]


# deletions by a filter


def test_a_filter_deletes_as_many_as_expected_or_nothing(client):
    path = "/v1/products?where=category%20=%20'shoe'"
    for asked in (path, f"{path}&expect=5", f"{path}&expect=0"):
        answer = client.delete(asked)
        says = refused(answer, 409, "not_expected")
        assert says == "6 products pass this filter; send expect=6 to delete them"
        assert answer.json()["count"] == 6
    assert len(found(client, "")) == 18
    assert ok(client.delete(f"{path}&expect=6")) == {"removed": 6}
    assert len(found(client, "")) == 12
    assert ok(client.delete(f"{path}&expect=0")) == {"removed": 0}


@pytest.mark.parametrize("query", ["", "?expect=1", "?id=P00&where=price>1", "?id=P00&expect=1"])
def test_a_deletion_has_ids_or_a_filter(client, query):
    assert "give ids of products (id), or a" in refused(client.delete(f"/v1/products{query}"), 422)
    assert len(found(client, "")) == 18


def test_a_deletion_by_a_wrong_filter_is_refused(client):
    refused(client.delete("/v1/products?where=prize<3&expect=1"), 400, "filter")
    assert set(found(client, "")) == set(ids())


# bulk


def bulk(client, *lines):
    """The report of a bulk request; lines that are no bytes are written as JSON."""
    body = b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)
    headers = {"content-type": "application/x-ndjson"}
    answer = client.post("/v1/products/bulk", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_bulk_stores_changes_and_deletes_and_a_wrong_line_costs_only_itself(client):
    *report, summary = bulk(
        client,
        new("X", title="Shoe", price=3),
        {"id": "X", "columns": {"price": 4}},
        b"",
        b"{not json",
        b'{"id": "\xff"}',
        {"id": "P00", "delete": True},
        {"id": "p01", "columns": {"price": 4}},
        {"id": "P02", "columns": {"price": "cheap"}},
        {"id": "P03", "columns": {}, "prize": 3},
        {"id": "P04", "delete": True, "columns": {"price": 3}},
        {"id": "Y", "image": "aGVsbG8="},
        {"id": "P05", "columns": {"price": 5}},
    )
    assert [(one["line"], one["id"], one["status"]) for one in report] == [
        (1, "X", "stored"),
        (2, "X", "patched"),
        (4, None, "rejected"),
        (5, None, "rejected"),
        (6, "P00", "deleted"),
        (7, "p01", "missing"),
        (8, "P02", "rejected"),
        (9, "P03", "rejected"),
        (10, "P04", "rejected"),
        (11, "Y", "rejected"),
        (12, "P05", "patched"),
    ]
    reasons = [one.get("reason", "") for one in report]
    assert reasons[2:4] == ["the line is not JSON", "the line is not UTF-8 (at byte 9)"]
    assert "did you mean 'P01'?" in reasons[5]
    assert "holds numbers, not 'cheap'" in reasons[6]
    assert "unknown field 'prize'" in reasons[7]
    assert "delete stands alone" in reasons[8]
    assert "decoded" in reasons[9]
    assert summary == {
        "lines": 11, "stored": 1, "patched": 2, "deleted": 1, "missing": 1, "rejected": 6,
    }  # fmt: skip
    assert found(client, "where=price%20<=%205&sort=price") == ["X", "P05"]


def test_a_line_that_is_too_long_costs_only_itself(client):
    long = b'{"id": "' + b"x" * 20_000_001 + b'"}'
    first, second, summary = bulk(client, long, {"id": "P01", "columns": {"price": 1}})
    assert first["reason"] == "the line is longer than 20,000,000 bytes"
    assert (second["line"], second["status"]) == (2, "patched")
    assert summary["lines"] == 2
    assert bulk(client)[-1]["lines"] == 0


def test_a_bulk_has_its_own_content_type(client):
    answer = client.post("/v1/products/bulk", json={"id": "P00", "delete": True})
    assert "application/x-ndjson" in refused(answer, 415, "content_type")
    assert len(found(client, "")) == 18


# requests that are sent twice


def test_a_request_that_is_sent_twice_with_one_key_changes_once(client):
    path, key = "/v1/products?where=category='shoe'&expect=6", {"Idempotency-Key": "k1"}
    first, again = client.delete(path, headers=key), client.delete(path, headers=key)
    assert ok(first) == ok(again) == {"removed": 6}
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    patch = {"json": {"columns": {"price": 3}}, "headers": key}
    says = refused(client.patch("/v1/products/P00", **patch), 422)
    assert "belongs to another request" in says
    assert ok(client.get("/v1/products/P00"))["price"] != 3


def test_an_error_may_be_mended_and_sent_with_the_same_key(client):
    key = {"Idempotency-Key": "k2"}
    for price, status in (("cheap", 400), (3, 200), (3, 200)):
        body = {"columns": {"price": price}}
        answer = client.patch("/v1/products/P00", json=body, headers=key)
        assert answer.status_code == status, answer.text
    assert answer.headers["idempotency-replayed"] == "true"
    refused(client.patch("/v1/products/P00", json=body, headers={"Idempotency-Key": ""}), 422)


def test_keys_are_shared_by_workers_and_survive_a_restart(tmp_path):
    one, other = IdempotencyKeys(tmp_path), IdempotencyKeys(tmp_path)
    assert one.begin(b"key", b"request") is None
    assert other.begin(b"key", b"request") == "running"
    assert other.begin(b"key", b"another") == "other"
    answer = KeptAnswer(200, "application/json", b"{}")
    one.end(b"key", answer)
    assert other.begin(b"key", b"request") == IdempotencyKeys(tmp_path).begin(b"key", b"request")
    assert other.begin(b"key", b"request") == answer
    one.end(b"key", None)
    assert other.begin(b"key", b"another") is None


def test_a_bulk_takes_no_key(client):
    headers = {"content-type": "application/x-ndjson", "Idempotency-Key": "k3"}
    answer = client.post("/v1/products/bulk", content=b"{}", headers=headers)
    assert "takes no Idempotency-Key" in refused(answer, 400)
