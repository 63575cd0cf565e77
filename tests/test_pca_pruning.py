"""PCA bounds exclude only products that cannot be among the best, for any vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.product import Product
from fashionclip.store import StoreMeta, snapshot
from fashionclip.store.memory import MemoryStore
from fashionclip.store.pca_pruning import fit_pruning

N, DIM = 400, 24


def in_few_directions(rng, n=N, spread=0.1):
    """Unit vectors like a catalogue's: near a subspace of a few dimensions, and not centred."""
    basis = rng.normal(size=(6, DIM))
    vectors = (rng.normal(size=(n, 6)) + 1) @ basis + spread * rng.normal(size=(n, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def best(vectors, query, k, passing):
    scores = np.where(passing, vectors @ query, -np.inf)
    return set(np.argsort(-scores, kind="stable")[:k].tolist())


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1_000),
    spread=st.floats(0, 0.3),
    k=st.integers(1, 50),
    share=st.floats(0.3, 1.0),
)
def test_none_of_the_best_is_missed(seed, spread, k, share):
    rng = np.random.default_rng(seed)
    vectors = in_few_directions(rng, spread=spread)
    found = fit_pruning(vectors)
    assert found is not None
    query = rng.normal(size=DIM).astype(np.float32)  # mostly outside the vectors' subspace
    passing = rng.random(N) < share
    (candidates,) = found.candidates(query[None], vectors, ks=[k], masks=[passing])
    assert best(vectors, query, k, passing) <= set(candidates.tolist())
    assert passing[candidates].all()


def test_most_are_excluded_where_a_query_is_of_their_kind():
    vectors = in_few_directions(np.random.default_rng(0), n=5_000, spread=0.03)
    found = fit_pruning(vectors)
    candidates = found.candidates(vectors[:20], vectors, ks=[10] * 20, masks=[None] * 20)
    assert np.mean([len(some) for some in candidates]) < 1_000


def test_a_shortlist_has_nearly_all_of_the_best():
    rng = np.random.default_rng(2)
    vectors = in_few_directions(rng, n=5_000, spread=0.03)
    passing = rng.random(5_000) < 0.7
    queries = vectors[:10] + 0.03 * rng.normal(size=(10, DIM)).astype(np.float32)
    found = fit_pruning(vectors).likely(queries, k=40, masks=[passing] * 10)
    for query, rows in zip(queries, found, strict=True):
        assert passing[rows].all()
        assert len(best(vectors, query, 40, passing) & set(rows.tolist())) >= 38


def test_rows_that_come_and_go_keep_the_bounds_true():
    rng = np.random.default_rng(1)
    vectors, added = in_few_directions(rng), in_few_directions(rng, n=30)  # another subspace
    is_kept = np.arange(N) % 3 > 0
    now = np.concatenate([vectors[is_kept], added])
    updated = fit_pruning(vectors).updated(is_kept, added)
    candidates = updated.candidates(added[:5], now, ks=[7] * 5, masks=[None] * 5)
    for query, found in zip(added[:5], candidates, strict=True):
        assert best(now, query, 7, np.ones(len(now), bool)) <= set(found.tolist())


def test_vectors_in_every_direction_have_none():
    vectors = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
    assert fit_pruning(vectors) is None
    assert fit_pruning(np.empty((0, DIM), np.float32)) is None


def filled(vectors):
    store = MemoryStore(StoreMeta("memory://x", "m", "f" * 16, DIM))
    products = [Product(f"p{i}", "", None, i, {}) for i in range(len(vectors))]
    with store.writer() as writer:
        writer.upsert(products, vectors, [bytes(16)] * len(vectors))
    return store


@pytest.fixture(scope="module")
def snapshots():
    """The same products in a store without and with PCA bounds."""
    vectors = in_few_directions(np.random.default_rng(2), n=1_000)
    whole = filled(vectors).snapshot
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "MIN_ROWS", 100)
        pruned = filled(vectors).snapshot
    assert (whole.pruning is None, pruned.pruning is None) == (True, False)
    return whole, pruned


@pytest.mark.parametrize("k", [1, 10, 999, 1_000, 2_000])
@pytest.mark.parametrize("share", [None, 0.9, 0.01, 0.0])
@pytest.mark.parametrize("n_queries", [2, 20])
def test_answers_are_the_same_with_it(snapshots, k, share, n_queries):
    whole = snapshots[0]
    rng = np.random.default_rng(k)
    queries = in_few_directions(rng, n=n_queries)
    masks = [None if share is None else rng.random(len(whole)) < share for _ in queries]
    expected, found = (one.nearest(queries, ks=[k] * n_queries, masks=masks) for one in snapshots)
    for query, some, others in zip(queries, found, expected, strict=True):
        scores = [hit.score for hit in some]
        assert scores == pytest.approx([hit.score for hit in others], abs=1e-6)
        if n_queries == 2 or k <= 10:  # some of so many scores are equal after rounding
            assert [hit.product_id for hit in some] == [hit.product_id for hit in others]
        rows = whole.rows_of(hit.product_id for hit in some)
        assert len(set(rows)) == len(rows)
        assert scores == pytest.approx((whole.vectors[rows] @ query).tolist(), abs=1e-6)


def test_a_large_store_gets_bounds_and_keeps_them_through_writes(monkeypatch):
    monkeypatch.setattr(snapshot, "MIN_ROWS", 100)
    vectors = in_few_directions(np.random.default_rng(3), n=300)
    store = filled(vectors[:200])
    products = [Product(f"p{i}", "", None, i, {}) for i in range(150, 300)]
    with store.writer() as writer:
        writer.upsert(products, vectors[150:], [bytes(16)] * 150)
        writer.delete(["p7"])
    now = store.snapshot
    assert len(now) == 299
    assert len(now.pruning.coordinates) == len(now.vectors) == now.n_rows
    for i in (0, 150, 299):
        assert store.nearest(vectors[i : i + 1], k=1)[0][0].product_id == f"p{i}"
