"""A sketch rules out only what cannot be among the best, whatever the vectors are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.index import Index, snapshot
from fashionclip.index.sketch import sketch
from fashionclip.product import Product

N, DIM = 400, 24


def in_few_directions(rng, n=N, spread=0.1):
    """Unit vectors as a catalogue's are: near a plane of a few dimensions, and not centred."""
    basis = rng.normal(size=(6, DIM))
    vectors = (rng.normal(size=(n, 6)) + 1) @ basis + spread * rng.normal(size=(n, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def best(vectors, query, k, passing):
    scores = np.where(passing, vectors @ query, -np.inf)
    return set(np.argsort(-scores, kind="stable")[:k].tolist())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    spread=st.floats(0, 0.3),
    k=st.integers(1, 50),
    share=st.floats(0.3, 1.0),
)
def test_none_of_the_best_is_missed(seed, spread, k, share):
    rng = np.random.default_rng(seed)
    vectors = in_few_directions(rng, spread=spread)
    found = sketch(vectors)
    assert found is not None
    query = rng.normal(size=DIM).astype(np.float32)  # mostly outside the vectors' plane
    passing = rng.random(N) < share
    (contenders,) = found.contenders(query[None], [k], vectors, [passing])
    assert best(vectors, query, k, passing) <= set(contenders.tolist())
    assert passing[contenders].all()


def test_most_are_ruled_out_where_a_query_is_of_their_kind():
    vectors = in_few_directions(np.random.default_rng(0), n=5_000, spread=0.03)
    found = sketch(vectors)
    contenders = found.contenders(vectors[:20], [10] * 20, vectors, [None] * 20)
    assert np.mean([len(some) for some in contenders]) < 1_000


def test_rows_that_come_and_go_keep_it_true():
    rng = np.random.default_rng(1)
    vectors, fresh = in_few_directions(rng), in_few_directions(rng, n=30)  # another plane
    stays = np.arange(N) % 3 > 0
    now = np.concatenate([vectors[stays], fresh])
    kept = sketch(vectors).kept(stays, fresh)
    asked = fresh[:5]
    left = kept.contenders(asked, [7] * 5, now, [None] * 5)
    for query, found in zip(asked, left, strict=True):
        assert best(now, query, 7, np.ones(len(now), bool)) <= set(found.tolist())


def test_vectors_in_every_direction_have_none():
    vectors = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
    assert sketch(vectors) is None
    assert sketch(np.empty((0, DIM), np.float32)) is None


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """An index whose vectors are few enough to be read whole, and the same with a sketch."""
    vectors = in_few_directions(np.random.default_rng(2), n=1_000)
    index = Index.create(
        tmp_path_factory.mktemp("sketch") / "i", model="m", fingerprint="f" * 16, dim=DIM
    )
    products = [Product(f"p{i}", "", None, i, {}) for i in range(len(vectors))]
    index.upsert(products, vectors, [bytes(16)] * len(vectors))
    whole = snapshot.read(index.queries)
    assert whole.sketch is None
    return whole, replace(whole, sketch=sketch(whole.vectors))


@pytest.mark.parametrize("k", [1, 10, 999, 1_000, 2_000])
@pytest.mark.parametrize("share", [None, 0.9, 0.01, 0.0])
@pytest.mark.parametrize("n_queries", [2, 20])
def test_a_snapshot_answers_the_same_with_it(shop, k, share, n_queries):
    whole = shop[0]
    rng = np.random.default_rng(k)
    queries = in_few_directions(rng, n=n_queries)
    masks = [None if share is None else rng.random(whole.count) < share for _ in queries]
    expected, found = (one.best(queries, [k] * n_queries, masks) for one in shop)
    for query, some, others in zip(queries, found, expected, strict=True):
        scores = [hit.score for hit in some]
        assert scores == pytest.approx([hit.score for hit in others], abs=1e-6)
        if n_queries == 2 or k <= 10:  # in so many rankings there are scores that round alike
            assert [hit.product_id for hit in some] == [hit.product_id for hit in others]
        places = [whole.places[hit.product_id] for hit in some]
        assert len(set(places)) == len(places)
        assert scores == pytest.approx((whole.vectors[places] @ query).tolist(), abs=1e-6)


def test_a_large_catalogue_gets_one_and_keeps_it_through_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "FEWEST_ROWS", 100)
    vectors = in_few_directions(np.random.default_rng(3), n=300)
    index = Index.create(tmp_path / "i", model="m", fingerprint="f" * 16, dim=DIM)
    products = [Product(f"p{i}", "", None, i, {}) for i in range(300)]
    index.upsert(products[:200], vectors[:200], [bytes(16)] * 200)
    seen = snapshot.read(index.queries)
    assert seen.sketch is not None
    index.upsert(products[150:], vectors[150:], [bytes(16)] * 150)
    seen = snapshot.renewed(seen, index.queries, [p.product_id for p in products[150:]])
    assert len(seen.sketch.parts) == len(seen.vectors) == 300
    for i in (0, 150, 299):
        assert seen.best(vectors[i : i + 1], [1], [None])[0][0].product_id == f"p{i}"
