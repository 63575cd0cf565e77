"""Vectors of small forms in memory: half the room, and hits that are those of the kept vectors."""

import numpy as np
import pytest

from fashionclip.product import Product
from fashionclip.store import StoreMeta, sign_pruning, snapshot
from fashionclip.store.filters import parse_filter
from fashionclip.store.halves import to_floats
from fashionclip.store.memory import MemoryStore
from fashionclip.store.rows import as_kept
from fashionclip.store.sign_pruning import SignPruning, sign_words

N, DIM = 1_500, 72


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(n, *, seed=0):
    """Unit vectors near a subspace of a few dimensions."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(12, DIM))
    return unit(rng.normal(size=(n, 12)) @ basis + 0.3 * rng.normal(size=(n, DIM)))


@pytest.fixture(params=["half", "int8", "binary"])
def store(request, monkeypatch):
    monkeypatch.setattr(snapshot, "MIN_ROWS", 1_000)
    monkeypatch.setattr(sign_pruning, "MIN_CANDIDATES", 200)
    monkeypatch.setattr(sign_pruning, "CANDIDATES_PER_HIT", 20)
    made = MemoryStore(StoreMeta("memory://x", "m", "f" * 16, DIM, vectors=request.param))
    upsert(made, clustered(N))
    return made


def upsert(store, vectors, *, start=0):
    products = [
        Product(f"p{start + i:04}", "", None, i, {"price": i % 10}) for i in range(len(vectors))
    ]
    with store.writer() as writer:
        writer.upsert(products, vectors, [bytes(16)] * len(vectors))


def share_found(store, vectors, queries, **options):
    """The share of the ten best, and whether scores are those of the kept vectors."""
    n_found = 0
    for query, hits in zip(queries, store.nearest(queries, k=10, **options), strict=True):
        cosines = np.clip(as_kept(vectors, store.meta.vectors) @ query, -1, 1)
        rows = [int(hit.product_id[1:]) for hit in hits]
        assert [hit.score for hit in hits] == pytest.approx(cosines[rows], abs=1e-6)
        n_found += len(set(rows) & set(np.argsort(-cosines)[:10].tolist()))
    return n_found / (10 * len(queries))


def test_halves_are_kept_and_ranked_exactly(store):
    vectors, queries = clustered(N), clustered(20, seed=1)
    is_binary = store.meta.vectors == "binary"
    assert store.snapshot.vectors.dtype == np.float16
    assert store.info().is_approximate == is_binary
    assert share_found(store, vectors, queries) >= (0.9 if is_binary else 1)
    assert share_found(store, vectors, queries, exact=True) == 1
    (rows,) = store.scan()
    np.testing.assert_array_equal(rows.vectors, as_kept(vectors, "half"))
    assert rows.vectors.dtype == np.float32
    cheap = parse_filter("price < 2", store.meta.columns)
    hits = store.nearest(queries, k=10, where=cheap)
    assert all(hit.columns["price"] < 2 for some in hits for hit in some)
    assert [len(some) for some in hits] == [10] * 20


def test_what_is_written_later_is_found_and_what_is_deleted_is_not(store):
    added = clustered(300, seed=2)
    upsert(store, added, start=N)
    vectors = np.concatenate([clustered(N), added])
    assert share_found(store, vectors, added[:20]) >= 0.9
    with store.writer() as writer:
        writer.delete(f"p{i:04}" for i in range(0, N + 300, 2))
    hits = store.nearest(added[:20], k=3)
    assert all(int(hit.product_id[1:]) % 2 for some in hits for hit in some)
    assert hits[1][0].product_id == f"p{N + 1}"
    copy = MemoryStore.copy_of(store)
    for one, other in zip(copy.nearest(added[:20], k=3), hits, strict=True):
        assert [hit.product_id for hit in one] == [hit.product_id for hit in other]
    assert copy.snapshot.vectors.dtype == np.float16


def test_every_finite_half_becomes_its_float():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)][:, None]
    assert to_floats(finite).tobytes() == finite.astype(np.float32).tobytes()


def test_signs_are_counted_over_every_number():
    vectors = np.random.default_rng(3).normal(size=(50, 70)).astype(np.float32)
    words = sign_words(vectors)
    assert words.shape == (2, 50)
    differences = SignPruning(words)._differences(sign_words(vectors[:1])[:, 0])
    assert differences.tolist() == ((vectors > 0) != (vectors[0] > 0)).sum(axis=1).tolist()
