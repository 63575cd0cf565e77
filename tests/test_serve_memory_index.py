"""An index in memory: the same answers as from the files, and the files followed as they change."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fashionclip.errors import FilterError, ModelMismatchError, ProductNotFoundError, StoreError
from fashionclip.index import Index
from fashionclip.product import Product
from fashionclip.serve.memory_index import MAX_MASKS, InMemoryIndex
from fashionclip.serve.metrics import Metrics

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
    index = Index.create(path, model="m", fingerprint=fingerprint, dim=DIM, columns=COLUMNS)
    index.upsert(products(n, price=price), vectors(n, seed), [bytes(16)] * n)
    return index


@pytest.fixture
def store(tmp_path):
    make(tmp_path / "shop.lance")
    return tmp_path / "shop.lance"


@pytest.fixture
def memory(store):
    memory = InMemoryIndex(store, max_batch=8, metrics=Metrics())
    yield memory
    memory.close()


def wait_for(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("where", [None, '"price" < 40', '("colour" = \'r\' AND "price" >= 7)'])
def test_it_answers_as_the_files_do(memory, store, where):
    index = Index.open(store)
    for query in vectors(5, seed=9):
        held, stored = (one.nearest(query, k=12, where=where) for one in (memory, index))
        assert [hit.product_id for hit in held] == [hit.product_id for hit in stored]
        np.testing.assert_allclose(
            [hit.score for hit in held], [hit.score for hit in stored], atol=1e-6
        )
        assert [hit.columns for hit in held] == [hit.columns for hit in stored]
    vector, hit = memory.get("p007")
    np.testing.assert_array_equal(vector, index.get("p007")[0])
    assert (hit.product_id, hit.score) == ("p007", 1.0)
    with pytest.raises(ProductNotFoundError, match="no product 'nobody' here"):
        memory.get("nobody")
    assert set(memory.vectors(["p001", "nobody"])) == {"p001"}


def test_a_filter_for_other_columns_is_no_fault_of_ours(memory):
    with pytest.raises(FilterError, match="ask again"):
        memory.nearest(vectors(1)[0], where='"size" = 3')


def test_what_another_program_writes_is_seen_soon(memory, store):
    index = Index.open(store)
    index.upsert(products(5, start=N), vectors(5, seed=3), [bytes(16)] * 5)
    index.remove(["p000"])
    wait_for(lambda: memory.now.count == N + 4)
    assert memory.nearest(vectors(5, seed=3)[2], k=1)[0].product_id == "p302"
    index.ensure_columns({"size": "number"})
    wait_for(lambda: "size" in memory.columns)


def test_masks_are_of_the_snapshot_they_are_asked_for(memory):
    before = memory.now
    old = memory.mask('"price" < 10', before)
    assert memory.mask('"price" < 10', before) is old
    with memory.writing(timeout_s=5.0) as index:
        index.upsert(products(1, price=1000), vectors(1), [bytes(16)])  # p000 now costs 1000
        memory.wrote(["p000"])
    after = memory.now
    assert after.count == before.count
    for seen, expected in [(before, range(10)), (after, range(1, 10))]:
        mask = memory.mask('"price" < 10', seen)
        ids = np.array(seen.table.column("_id").to_pylist())
        assert set(ids[mask]) == {f"p{i:03d}" for i in expected}


def test_masks_are_kept_within_bounds_and_not_beyond_their_snapshot(memory):
    for price in range(MAX_MASKS + 50):
        memory.mask(f'"price" < {price}', memory.now)
    assert len(memory._held.masks) <= MAX_MASKS
    with memory.writing(timeout_s=5.0) as index:
        index.remove(["p001"])
        memory.wrote(["p001"])
    assert not memory._held.masks


def test_filters_hold_while_rows_change_places(memory):
    """A mask that belonged to another snapshot would let wrong products through."""
    query = vectors(1, seed=5)[0]
    with ThreadPoolExecutor(4) as pool:

        def ask():
            for _ in range(60):
                hits = memory.nearest(query, k=30, where="\"colour\" = 'g'")
                assert {hit.columns["colour"] for hit in hits} == {"g"}

        asking = [pool.submit(ask) for _ in range(3)]
        for i in range(12):
            with memory.writing(timeout_s=5.0) as index:
                index.upsert(products(1, start=i), vectors(1, seed=i), [bytes(16)])
                memory.wrote([f"p{i:03d}"])
        for one in asking:
            one.result()


def test_a_folder_that_goes_and_comes_back_is_followed(memory, store):
    shutil.rmtree(store)
    wait_for(lambda: memory.fault)
    assert memory.now.count == N
    assert len(memory.nearest(vectors(1)[0], k=3, where='"price" < 40')) == 3
    with pytest.raises(StoreError), memory.writing(timeout_s=1.0):
        pass
    make(store, seed=4, n=20, price=500)
    wait_for(lambda: not memory.fault and memory.now.count == 20)
    assert memory.get("p003")[1].columns["price"] == 503


def test_a_folder_that_was_changed_for_another_is_noticed_before_a_write(store):
    memory = InMemoryIndex(store, max_batch=8, metrics=Metrics())
    memory.close()  # so that nobody follows
    shutil.rmtree(store)
    make(store, seed=4, n=20)
    with memory.writing(timeout_s=5.0) as index:
        assert index.count == 20
        assert memory.now.count == 20
        index.remove(["p003"])
        memory.wrote(["p003"])
    assert memory.now.count == Index.open(store).count == 19


def test_another_models_folder_is_left_alone(memory, store):
    shutil.rmtree(store)
    make(store, fingerprint="1" * 16, n=20)
    wait_for(lambda: "holds vectors of the model" in memory.fault)
    assert memory.now.count == N
    with pytest.raises(ModelMismatchError), memory.writing(timeout_s=1.0):
        pass


def test_what_nobody_thought_of_does_not_end_the_following(memory, store, monkeypatch):
    def breaks(_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("fashionclip.serve.memory_index.snapshot.read", breaks)
        Index.open(store).remove(["p009"])
        wait_for(lambda: memory.fault == "ZeroDivisionError")
    wait_for(lambda: not memory.fault and memory.now.count == N - 1)
