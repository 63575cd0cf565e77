"""Pages of hits: sorted, grouped, counted, explained, and stable while products change."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashionclip import Index
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Roles
from fashionclip.searching import Query, search_many
from fashionclip.store import StoreMeta, create_store

COUNTER = itertools.count()
WORDS = ("red", "blue", "linen", "shirt", "dress", "norda", "velt")
ROLES = Roles(group="parent", title="title", brand="brand", sku="article", price="price")


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def product(i: int, *, version: int = 0) -> Product:
    """A product whose values repeat, and are missing now and then."""
    rng = np.random.default_rng([i, version])
    words = rng.choice(WORDS, 3)
    columns = {
        "title": " ".join(words),
        "brand": str(words[0]) if i % 5 else None,
        "article": f"AB-{i:03}",
        "price": None if i % 7 == 3 else float(rng.integers(0, 5)),
        "parent": None if i % 4 == 0 else f"g{i % 6}",
    }
    return Product(f"p{i:03}", columns["title"], None, i + 1, columns)


def vector_of(i: int, dim: int, *, version: int = 0) -> np.ndarray:
    """Some products have the same picture."""
    vector = np.random.default_rng([i % 17, version, 1]).normal(size=dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def put(store, numbers, *, version: int = 0) -> None:
    numbers = list(numbers)
    if numbers:
        with store.writer() as writer:
            writer.upsert(
                [product(i, version=version) for i in numbers],
                np.stack([vector_of(i, store.meta.dim, version=version) for i in numbers]),
                [i.to_bytes(16, "little") for i in numbers],
            )


def filled(uri: str, model, numbers):
    meta = StoreMeta(uri, model.name, model.fingerprint, model.dim, roles=ROLES)
    store = create_store(uri, meta)
    put(store, numbers)
    return store


@pytest.fixture(scope="module")
def index(model):
    store = filled(f"memory://pages-{next(COUNTER)}", model, range(60))
    yield Index(store, model=model)
    store.close()


def ids(hits) -> list[str]:
    return [hit.product_id for hit in hits]


def one(store, model, **query):
    (results,) = search_many(store, model, [Query(**query)])
    if isinstance(results, Exception):
        raise results
    return results


QUERIES = {
    "list": {},
    "sorted list": {"sort": "-price"},
    "list of groups": {"group": True, "sort": "price"},
    "vectors": {"text": "red shirt"},
    "similar": {"similar_to": "p000"},
    "hybrid": {"text": "red shirt", "mode": "hybrid"},
    "words": {"text": "red shirt", "mode": "words"},
    "sorted": {"text": "red shirt", "sort": "price"},
    "grouped": {"text": "red shirt", "group": True},
    "diverse": {"text": "red shirt", "diversity": 0.4},
    "avoiding": {"text": "red shirt", "avoid": "blue"},
}


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("k", [1, 7, 100])
def test_pages_by_cursor_and_by_offset_are_one_long_page(index, model, kind, k):
    query = QUERIES[kind]
    whole = one(index.store, model, **query, k=100)
    assert not whole.has_more
    assert whole.cursor is None
    found, cursor = [], None
    while True:
        page = one(index.store, model, **query, k=k, cursor=cursor)
        by_offset = one(index.store, model, **query, k=k, offset=len(found))
        assert ids(page.hits) == ids(by_offset.hits)
        found += page.hits
        assert page.has_more == (page.cursor is not None) == by_offset.has_more
        cursor = page.cursor
        if cursor is None:
            break
    assert ids(found) == ids(whole.hits)
    assert [hit.columns for hit in found] == [hit.columns for hit in whole.hits]


WRITES = st.lists(
    st.tuples(st.sampled_from(["insert", "delete", "change"]), st.integers(0, 39)), max_size=6
)


@pytest.mark.parametrize("kind", ["memory", pytest.param("lance", marks=pytest.mark.slow)])
@given(
    st.sampled_from(sorted(QUERIES)), st.integers(2, 9), st.lists(WRITES, min_size=1, max_size=4)
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pages_have_what_stays_once_while_products_come_go_and_change(
    model, tmp_path_factory, kind, name, k, batches
):
    n = next(COUNTER)
    folder = tmp_path_factory.mktemp("pages")
    uri = f"memory://pages-{n}" if kind == "memory" else str(folder / "shop.lance")
    store = filled(uri, model, range(0, 40, 2))
    touched: set[str] = set()
    query = QUERIES[name]
    before = one(store, model, **query, k=100)
    shown: list[str] = []
    cursor, version = None, 0
    for writes in [*batches, *([] for _ in range(100))]:
        page = one(store, model, **query, k=k, cursor=cursor)
        shown += ids(page.hits)
        cursor = page.cursor
        if cursor is None:
            break
        for what, i in writes:
            if f"p{i:03}" == query.get("similar_to"):
                continue
            version += 1
            touched.add(f"p{i:03}")
            if what == "delete":
                with store.writer() as writer:
                    writer.delete([f"p{i:03}"])
            else:
                put(store, [i], version=version if what == "change" else 0)
    stayed = set(ids(before.hits)) - touched
    if "group" in query:  # another variant may stand for a group now
        stayed -= {hit.product_id for hit in before.hits if hit.columns["parent"] is not None}
    assert [name for name in shown if name in stayed and shown.count(name) > 1] == []
    assert stayed - set(shown) == set()
    store.close()
