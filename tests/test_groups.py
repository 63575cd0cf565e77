"""Variants of a product are rolled up in searches: the best hit of each group."""

import itertools

import numpy as np
import pytest
from starlette.testclient import TestClient

from fashionclip import Index
from fashionclip.model import FashionCLIP
from fashionclip.product import Hit, Product, Roles
from fashionclip.searching import Query, search_many
from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from fashionclip.store import Store, StoreMeta, create_store

COUNTER = itertools.count()
N = 60


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def group_of(i: int) -> str | None:
    """Half of the products are variants of one, some have no group."""
    return None if i % 10 == 9 else "big" if i % 2 else f"g{i // 6}"


def filled(uri: str, model, roles: Roles) -> Store:
    store = create_store(uri, StoreMeta(uri, model.name, model.fingerprint, model.dim, roles=roles))
    vectors = np.random.default_rng(7).normal(size=(N, model.dim)).astype(np.float32)
    vectors[:20] += 5 * vectors[1]  # the variants of "big" come first in many rankings
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    products = [
        Product(f"p{i:02}", f"red shirt {i}", None, i + 1, {"parent": group_of(i), "price": i})
        for i in range(N)
    ]
    with store.writer() as writer:
        writer.upsert(products, vectors, [i.to_bytes(16, "little") for i in range(N)])
    return store


@pytest.fixture(scope="module", params=["memory", "lance", "postgres"])
def store(request, tmp_path_factory, model):
    n, folder = next(COUNTER), tmp_path_factory.mktemp("groups")
    uri = {"memory": f"memory://groups-{n}", "lance": str(folder / "g.lance")}.get(request.param)
    uri = uri or f"{request.getfixturevalue('postgres_uri')}&store=groups-{n}"
    made = filled(uri, model, Roles(group="parent"))
    yield made
    made.close()


def one_per_group(hits, column, seen=frozenset()) -> list[Hit]:
    """The reference: the first hit of each value of a column, and all that have none."""
    groups, found = set(seen), []
    for hit in hits:
        group = hit.columns[column]
        if group is None or group not in groups:
            groups.add(group)
            found.append(hit)
    return found


def ids(hits) -> list[str]:
    return [hit.product_id for hit in hits]


@pytest.mark.parametrize(
    "query",
    [
        {"text": "red"},
        {"text": "red", "where": "price < 40"},
        {"similar_to": "p01"},
        {"text": "red", "mode": "hybrid"},
        {"text": "red", "avoid": "blue"},
        {"text": "red", "offset": 3},
    ],
)
@pytest.mark.parametrize("k", [1, 12, 200])
def test_only_the_best_of_each_group_is_a_hit_and_there_are_k_where_that_can_be(
    store, model, query, k
):
    index = Index(store, model=model)
    every = index.search(**{**query, "offset": 0}, k=N)
    excluded = {group_of(1)} if "similar_to" in query else set()
    expected = one_per_group(every, "parent", excluded)[query.get("offset", 0) :][:k]
    found = index.search(**query, k=k, group=True)
    assert ids(found) == ids(expected)
    assert len(found) == len(expected)


def test_grouped_queries_are_answered_beside_others_as_each_alone(store, model):
    queries = [Query(text="red", group=True, k=9), Query(text="red", k=9), Query(text="x", k=2)]
    together = search_many(store, model, queries)
    assert [ids(found.hits) for found in together] == [
        ids(search_many(store, model, [query])[0].hits) for query in queries
    ]


def test_a_list_of_products_has_the_first_of_each_group(model):
    store = filled(f"memory://groups-{next(COUNTER)}", model, Roles(group="parent"))
    now = store.snapshot
    for passing in (None, np.arange(N) >= 12):
        every = now.list_hits(passing, k=N, offset=0)
        listed = now.list_hits(now.firsts(passing, "parent"), k=N, offset=0)
        assert ids(listed) == ids(one_per_group(every, "parent"))


@pytest.fixture(scope="module")
def client(model, tiny_checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "g.lance"
    filled(str(path), model, Roles(group="parent")).close()
    metrics, limits = Metrics(), Settings(rate_per_minute=0)
    app = create_app(SearchService(path, limits, metrics), limits, metrics)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.mark.parametrize("body", [{"text": "red"}, {}, {"where": "price >= 12"}])
def test_the_service_rolls_variants_up_in_searches_and_lists(client, body):
    answer = client.post("/search", json={**body, "k": 200, "group": True}).json()
    parents = [hit["parent"] for hit in answer["hits"] if hit["parent"]]
    assert len(set(parents)) == len(parents) > 1
    assert not answer["has_more"]
    every = client.post("/search", json={**body, "k": 200}).json()["hits"]
    assert {hit["parent"] for hit in every if hit["parent"]} == set(parents)


def test_the_page_offers_to_roll_variants_up(client):
    page = client.get("/", params={"q": "red", "group": "1"}).text
    assert '<input type="checkbox" form="search" name="group" value="1" id="group" checked>' in page
    assert page.count('class="card') < client.get("/", params={"q": "red"}).text.count(
        'class="card'
    )


def test_a_service_without_groups_refuses_to_roll_up_and_its_page_does_not_offer_it(
    model, tiny_checkpoint, tmp_path
):
    filled(str(tmp_path / "g.lance"), model, Roles()).close()
    metrics, limits = Metrics(), Settings(rate_per_minute=0)
    app = create_app(SearchService(tmp_path / "g.lance", limits, metrics), limits, metrics)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for body in ({"text": "red", "group": True}, {"group": True}):
            answer = client.post("/search", json=body)
            assert answer.status_code in {400, 422}
            assert "has no column of groups" in answer.text
            assert str(tmp_path) not in answer.text
        page = client.get("/", params={"q": "red", "group": "1"})
        assert page.status_code == 200
        assert 'name="group"' not in page.text


def test_an_index_without_groups_says_so(model):
    store = filled(f"memory://groups-{next(COUNTER)}", model, Roles())
    with pytest.raises(ValueError, match="has no column of groups; index with --column group="):
        Index(store, model=model).search("red", group=True)
