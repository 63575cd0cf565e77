"""Ranking metrics equal trec_eval's; those of a random ranking are the mean over all orders."""

import itertools

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.metrics import ranking
from fashionclip.metrics.ranking import (
    average_precision_at,
    first_rank,
    hit_at,
    ndcg_at,
    precision_at,
    rank,
    recall_at,
    reciprocal_rank_at,
)

K = st.integers(1, 12)


@st.composite
def rankings(draw):
    """Gains of documents in the order they are ranked in; some relevant ones are not ranked."""
    gains = [draw(st.lists(st.integers(0, 3), min_size=8, max_size=8)) for _ in range(3)]
    for row in gains:
        row[draw(st.integers(0, 7))] = draw(st.integers(1, 3))
    return np.array(gains), draw(st.integers(1, 8))


def by_trec_eval(gains, n_ranked, measure):
    """One value a query, of documents that are ranked in the order of their columns."""
    qrels = {
        str(q): {f"d{i}": int(gain) for i, gain in enumerate(row)} for q, row in enumerate(gains)
    }
    run = {str(q): {f"d{i}": -float(i) for i in range(n_ranked)} for q in range(len(gains))}
    found = pytrec_eval.RelevanceEvaluator(qrels, {measure}).evaluate(run)
    key = measure.replace(".", "_")
    return [found[str(q)][key] for q in range(len(gains))]


@settings(max_examples=60)
@given(rankings(), K)
def test_figures_are_trec_evals(given_ranking, k):
    gains, n_ranked = given_ranking
    ranked, n_relevant = gains[:, :n_ranked] > 0, (gains > 0).sum(axis=1)
    ours = {
        f"success.{k}": hit_at(ranked, k),
        f"P.{k}": precision_at(ranked, k),
        f"recall.{k}": recall_at(ranked, n_relevant, k),
        f"map_cut.{k}": average_precision_at(ranked, n_relevant, k),
        f"ndcg_cut.{k}": ndcg_at(
            gains[:, :n_ranked].astype(float), -np.sort(-gains.astype(float), axis=1), k
        ),
    }
    for measure, values in ours.items():
        np.testing.assert_allclose(values, by_trec_eval(gains, n_ranked, measure), atol=1e-9)
    cut = by_trec_eval(gains, min(k, n_ranked), "recip_rank")
    np.testing.assert_allclose(reciprocal_rank_at(ranked, k), cut, atol=1e-9)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), K, st.booleans())
def test_the_order_is_that_of_all_cosines(seed, n_documents, k, with_own):
    rng = np.random.default_rng(seed)
    # whole numbers, so that there are ties and no rounding
    queries = rng.integers(-2, 3, (5, 3)).astype(np.float32)
    documents = rng.integers(-2, 3, (n_documents, 3)).astype(np.float32)
    own = rng.integers(-1, n_documents, 5) if with_own else None
    scores = queries @ documents.T
    for q, row in enumerate([] if own is None else own):
        if row >= 0:
            scores[q, row] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    found = rank(queries, documents, k, own=own)
    expected = order[:, :k].copy()
    if own is not None:
        expected[expected == own[:, None]] = -1
    np.testing.assert_array_equal(found, expected)
    relevant = [
        rng.choice(np.flatnonzero(np.isfinite(row)), size=1 + n_documents // 3)
        for row in scores
        if np.isfinite(row).any()
    ]
    if len(relevant) == len(queries):
        places = np.argsort(order, axis=1)
        np.testing.assert_array_equal(
            first_rank(queries, documents, relevant, own=own),
            [1 + places[q, rows].min() for q, rows in enumerate(relevant)],
        )


def test_many_queries_are_ranked_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    queries, documents = (rng.normal(size=(n, 4)).astype(np.float32) for n in (50, 20))
    whole = rank(queries, documents, 5)
    monkeypatch.setattr("fashionclip.metrics.ranking.MAX_SCORES", 70)
    np.testing.assert_array_equal(rank(queries, documents, 5), whole)


def test_no_documents_give_no_places():
    empty = rank(np.ones((2, 3), np.float32), np.empty((0, 3), np.float32), 4)
    assert empty.shape == (2, 0)
    for figure in (hit_at, precision_at, reciprocal_rank_at):
        np.testing.assert_array_equal(figure(empty >= 0, 4), [0, 0])


@pytest.mark.parametrize("k", [0, -1])
def test_a_ranking_has_a_place(k):
    with pytest.raises(ValueError, match="at least one place"):
        hit_at(np.ones((1, 3), bool), k)


@pytest.mark.parametrize("m", range(1, 6))
@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_chance_is_the_mean_over_all_orders(m, k):
    for r in range(1, m + 1):
        orders = np.array(list(itertools.permutations([True] * r + [False] * (m - r))))
        n_relevant = np.full(len(orders), r)
        ideal = np.ones((len(orders), r))
        expected = {
            ranking.expected_hit: hit_at(orders, k),
            ranking.expected_precision: precision_at(orders, k),
            ranking.expected_recall: recall_at(orders, n_relevant, k),
            ranking.expected_reciprocal_rank: reciprocal_rank_at(orders, k),
            ranking.expected_average_precision: average_precision_at(orders, n_relevant, k),
            ranking.expected_ndcg: ndcg_at(orders.astype(float), ideal, k),
        }
        for by_chance, values in expected.items():
            assert by_chance(np.array([r]), m, k) == pytest.approx([values.mean()], abs=1e-12)
