"""The index in memory: it answers as its store does, and follows the store as that changes."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fashionclip.errors import FilterError, ModelMismatchError, StoreError
from fashionclip.product import Product
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.store import StoreMeta, create_store, open_store
from fashionclip.store.filters import parse_filter

DIM, N = 16, 300
COLUMNS = {"price": "integer", "colour": "string"}


def vectors(n, seed=0):
    found = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def products(n, start=0, price=0):
    return [
        Product(f"p{i:03d}", f"caption {i}", None, i, {"price": price + i, "colour": "rgb"[i % 3]})
        for i in range(start, start + n)
    ]


def make(path, *, fingerprint="0" * 16, seed=0, n=N, price=0):
    meta = StoreMeta(str(path), "m", fingerprint, DIM, columns=COLUMNS)
    store = create_store(path, meta)
    if n:
        write(store, products(n, price=price), seed)
    return store


def write(store, new, seed=0):
    with store.writer() as writer:
        writer.upsert(new, vectors(len(new), seed), [bytes(16)] * len(new))


def where(text, columns=COLUMNS):
    return None if text is None else parse_filter(text, columns)


def ids(hits):
    return [hit.product_id for hit in hits]


@pytest.fixture
def path(tmp_path):
    make(tmp_path / "shop.lance")
    return tmp_path / "shop.lance"


@pytest.fixture
def index(path):
    index = InMemoryIndex(path, metrics=Metrics())
    yield index
    index.close()


def wait_for(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("text", [None, "price < 40", "colour = 'r' and price >= 7"])
def test_it_answers_as_its_store_does(index, path, text):
    queries = vectors(5, seed=9)
    store = open_store(path)
    held, stored = (one.nearest(queries, k=12, where=where(text)) for one in (index, store))
    for mine, theirs in zip(held, stored, strict=True):
        assert ids(mine) == ids(theirs)
        np.testing.assert_allclose([h.score for h in mine], [h.score for h in theirs], atol=1e-6)
        assert [hit.columns for hit in mine] == [hit.columns for hit in theirs]
    held, stored = (one.text_search("caption 7", k=3, where=where(text)) for one in (index, store))
    assert ids(held) == ids(stored)
    assert len(index) == len(store)
    assert index.meta == store.meta


def test_what_another_program_writes_is_seen_soon(index, path):
    store = open_store(path)
    write(store, products(5, start=N), seed=3)
    with store.writer() as writer:
        assert writer.delete(["p000"]) == 1
    wait_for(lambda: len(index) == N + 4)
    assert ids(index.nearest(vectors(5, seed=3)[2:3], k=1)[0]) == ["p302"]
    with store.writer() as writer:
        writer.set_columns({"size": "number"})
    wait_for(lambda: "size" in index.meta.columns)


def test_a_write_is_in_memory_before_its_block_ends(index, path):
    with index.writing(timeout_s=5.0) as writer:
        writer.upsert(products(1, price=1000), vectors(1), [bytes(16)])  # p000 now costs 1000
        writer.delete(["p001"])
        index.take_in(["p000", "p001"])
        assert index.count(where("price = 1000")) == 1
        assert len(index) == N - 1
    assert len(open_store(path)) == N - 1


def test_filters_apply_to_the_very_products_that_are_ranked(index):
    """A mask of another snapshot would let wrong products pass."""
    query = vectors(1, seed=5)
    green = where("colour = 'g'")
    with ThreadPoolExecutor(4) as pool:

        def search():
            for _ in range(60):
                (hits,) = index.nearest(query, k=30, where=green)
                assert {hit.columns["colour"] for hit in hits} == {"g"}

        searching = [pool.submit(search) for _ in range(3)]
        for i in range(12):
            with index.writing(timeout_s=5.0) as writer:
                writer.upsert(products(1, start=i), vectors(1, seed=i), [bytes(16)])
                index.take_in([f"p{i:03d}"])
        for one in searching:
            one.result()


def test_a_filter_of_a_column_that_is_gone_is_the_clients_error(index):
    with pytest.raises(FilterError):
        index.nearest(vectors(1), k=3, where=where("size = 3", {"size": "integer"}))


def test_a_store_that_is_deleted_and_made_anew_is_followed(index, path):
    shutil.rmtree(path)
    wait_for(lambda: index.fault)
    assert len(index) == N
    (hits,) = index.nearest(vectors(1), k=3, where=where("price < 40"))
    assert len(hits) == 3
    assert len(index.text_search("caption", k=4)) == 4  # of memory now
    with pytest.raises(StoreError), index.writing(timeout_s=1.0):
        pass
    make(path, seed=4, n=0)
    wait_for(lambda: "still empty" in index.fault)
    assert len(index) == N
    write(open_store(path), products(20, price=500), seed=4)
    wait_for(lambda: not index.fault and len(index) == 20)
    assert index.count(where("price = 503")) == 1


def test_a_store_that_was_replaced_is_noticed_before_a_write(path):
    index = InMemoryIndex(path, metrics=Metrics())
    index.close()  # so that the follower does not notice it
    shutil.rmtree(path)
    make(path, seed=4, n=20)
    with index.writing(timeout_s=5.0) as writer:
        assert len(index) == 20
        writer.delete(["p003"])
        index.take_in(["p003"])
    assert len(index) == len(open_store(path)) == 19


def test_the_store_of_another_model_is_neither_read_nor_written(index, path):
    shutil.rmtree(path)
    make(path, fingerprint="1" * 16, n=20)
    wait_for(lambda: "holds vectors of the model" in index.fault)
    assert len(index) == N
    assert ids(index.text_search("caption 250", k=1)) == ["p250"]  # which the other has not
    with pytest.raises(ModelMismatchError), index.writing(timeout_s=1.0):
        pass


def test_an_unexpected_error_does_not_end_the_following(index, path, monkeypatch):
    def breaks(*_, **__):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(InMemoryIndex, "refresh_from", breaks)
        with open_store(path).writer() as writer:
            writer.delete(["p009"])
        wait_for(lambda: index.fault == "ZeroDivisionError")
    wait_for(lambda: not index.fault and len(index) == N - 1)


def test_any_store_can_be_followed():
    store = make("memory://followed", n=30)
    index = InMemoryIndex("memory://followed", metrics=Metrics())
    try:
        write(store, products(1, start=77))
        wait_for(lambda: len(index) == 31)
    finally:
        index.close()
        store.close()


# large stores


@pytest.fixture
def large(path, monkeypatch):
    """An index so large, by lower limits, that its store proposes candidates."""
    monkeypatch.setattr("fashionclip.store.lance.upkeep.APPROXIMATE_FROM", N)
    for name, value in {
        "APPROXIMATE_FROM": 100,
        "MIN_COMPARED": 20,
        "ROWS_PER_CANDIDATE": 0,
    }.items():
        monkeypatch.setattr(f"fashionclip.serve.memory_index.{name}", value)
    with open_store(path).writer() as writer:
        writer.optimize()
    assert open_store(path).info().is_approximate
    index = InMemoryIndex(path, metrics=Metrics())
    yield index
    index.close()


@pytest.mark.parametrize("k", [1, 10, 120])
@pytest.mark.parametrize("text", [None, "price < 200", "colour = 'r'", "price < 10", "price < 0"])
def test_a_large_index_finds_what_an_exact_search_finds(large, text, k):
    queries = vectors(8, seed=9)
    filters = where(text)
    exact, close = (large.nearest(queries, k=k, where=filters, exact=e) for e in (True, None))
    for best, found in zip(exact, close, strict=True):
        assert len(found) == len(best)
        assert len(set(ids(best)) & set(ids(found))) >= 0.8 * len(best)
        scores = {hit.product_id: hit.score for hit in best}
        for hit in found:
            assert hit.score == pytest.approx(scores.get(hit.product_id, hit.score), abs=1e-6)
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def test_a_filter_against_the_query_still_fills_the_page(large, path):
    """The nearest products of these queries all fail the filter."""
    (near,) = large.nearest(vectors(1, seed=9), k=150, exact=True)
    names = ", ".join(f"'{hit.product_id}'" for hit in near)
    far = parse_filter(f"id not in ({names})", COLUMNS)
    (hits,) = large.nearest(vectors(1, seed=9), k=10, where=far, columns=())
    assert len(hits) == 10
    assert not {hit.product_id for hit in near} & set(ids(hits))
    assert all(hit.columns == {} for hit in hits)


def test_a_large_index_finds_its_own_writes_at_once_and_others_soon(large, path):
    new = vectors(2, seed=21)
    with large.writing(timeout_s=5.0) as writer:
        writer.upsert([Product("new", "", None, 0, {})], new[:1], [bytes(16)])
        large.take_in(["new"])
    assert ids(large.nearest(new[:1], k=1)[0]) == ["new"]
    store = open_store(path)
    with store.writer() as writer:
        writer.upsert([Product("other", "", None, 0, {})], new[1:], [bytes(16)])
        writer.delete(["new"])
    assert "new" not in ids(large.nearest(new[:1], k=1)[0])
    wait_for(lambda: ids(large.nearest(new[1:], k=1)[0]) == ["other"])


def test_a_large_index_goes_on_without_its_store(large, path):
    before = large.nearest(vectors(3, seed=9), k=5, exact=True)
    shutil.rmtree(path)
    assert large.nearest(vectors(3, seed=9), k=5) == before


def test_a_threshold_of_its_own_counts_only_where_the_store_has_none(index, path):
    assert index.meta.relevance_threshold is None
    index.default_threshold = 0.25
    assert index.meta.relevance_threshold == 0.25
    with open_store(path).writer() as writer:
        writer.set_relevance_threshold(0.5)
    wait_for(lambda: index.meta.relevance_threshold == 0.5)
