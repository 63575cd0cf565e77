"""Metrics of exposure: values computed by hand, and what always holds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.metrics.exposure import (
    bias_at,
    mean_gap,
    ndkl,
    p_of_swaps,
    skew_at,
    stratified_gap,
    swapped_labels,
)

HALVES = np.array([0.5, 0.5])


@st.composite
def rankings(draw):
    """Groups at places, and shares of at least two groups that sum to 1."""
    n_groups = draw(st.integers(2, 4))
    ranked = draw(st.lists(st.integers(0, n_groups - 1), min_size=1, max_size=30))
    weights = draw(st.lists(st.integers(1, 20), min_size=n_groups, max_size=n_groups))
    return np.array(ranked), np.array(weights) / sum(weights)


def test_skew_of_three_places_is_that_of_smoothed_shares():
    skew = skew_at(np.array([0, 0, 1]), HALVES, 3)
    # (2 + 0.5) / (3 + 1) = 0.625 of the first group, 0.375 of the second
    assert skew == pytest.approx([math.log(0.625 / 0.5), math.log(0.375 / 0.5)])


def test_skew_of_a_group_that_is_not_there_is_finite():
    assert skew_at(np.array([0, 0]), HALVES, 2)[1] == pytest.approx(math.log(0.5 / 3 / 0.5))


def test_skew_counts_only_the_first_places():
    assert skew_at(np.array([0, 1, 1, 1]), HALVES, 2) == pytest.approx([0, 0])


def test_ndkl_of_two_places_by_hand():
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # shares 1.5 / 2 and 0.5 / 2
    second = 5 / 6 * math.log(5 / 3) + 1 / 6 * math.log(1 / 3)  # 2.5 / 3 and 0.5 / 3
    z = 1 + 1 / math.log2(3)
    assert ndkl(np.array([0, 0]), HALVES) == pytest.approx((first + second / math.log2(3)) / z)


def test_ndkl_is_larger_where_a_group_comes_first():
    mixed, sorted_ = np.array([[0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1]])
    assert ndkl(mixed, HALVES) < ndkl(sorted_, HALVES)


@settings(max_examples=40)
@given(rankings())
def test_skew_is_zero_where_the_shares_are_those_of_the_reference(drawn):
    ranked, _ = drawn
    counts = np.bincount(ranked)
    shares = counts[counts > 0] / len(ranked)
    dense = np.searchsorted(np.flatnonzero(counts), ranked)
    assert skew_at(dense, shares, len(ranked)) == pytest.approx(np.zeros(len(shares)), abs=1e-12)


@settings(max_examples=40)
@given(rankings())
def test_ndkl_is_never_negative_and_zero_for_one_group(drawn):
    ranked, shares = drawn
    assert ndkl(ranked, shares) >= -1e-12
    assert ndkl(np.zeros_like(ranked), np.array([1.0])) == pytest.approx(0, abs=1e-12)


@settings(max_examples=40)
@given(rankings(), st.randoms(use_true_random=False))
def test_other_names_of_the_groups_change_nothing_else(drawn, random):
    ranked, shares = drawn
    order = list(range(len(shares)))
    random.shuffle(order)
    renamed, moved = np.argsort(order)[ranked], shares[order]
    assert ndkl(renamed, moved) == pytest.approx(ndkl(ranked, shares))
    assert skew_at(renamed, moved, 5) == pytest.approx(skew_at(ranked, shares, 5)[order])


@settings(max_examples=40)
@given(rankings())
def test_bias_changes_its_sign_with_the_groups(drawn):
    ranked, _ = drawn
    assert bias_at(ranked, 0, 1, 10) == -bias_at(ranked, 1, 0, 10)


def test_bias_by_hand_and_without_either_group():
    assert bias_at(np.array([[0, 0, 0, 1], [2, 2, 2, 2]]), 0, 1, 4) == pytest.approx([0.5, 0])


def test_metrics_of_many_rankings_at_once_are_those_of_each():
    rng = np.random.default_rng(0)
    ranked = rng.integers(3, size=(4, 5, 12))
    shares = np.array([0.2, 0.3, 0.5])
    assert ndkl(ranked, shares)[2, 3] == ndkl(ranked[2, 3], shares)
    assert (skew_at(ranked, shares, 10)[2, 3] == skew_at(ranked[2, 3], shares, 10)).all()


def test_a_group_without_a_share_and_a_place_below_one_are_refused():
    with pytest.raises(ValueError, match="leave out groups without a product"):
        ndkl(np.array([0, 1]), np.array([1.0, 0.0]))
    for metric in (
        lambda: skew_at(np.array([0]), HALVES, 0),
        lambda: bias_at(np.array([0]), 0, 1, 0),
    ):
        with pytest.raises(ValueError, match="at least one place"):
            metric()


def test_association_is_the_difference_of_two_means():
    cosines = np.array([0.5, 0.3, 0.1, 0.3])
    assert mean_gap(cosines, np.array([True, True, False, False])) == pytest.approx(0.2)
    assert math.isnan(mean_gap(cosines, np.ones(4, bool)))


def test_the_label_swap_null_finds_a_planted_difference_and_no_other():
    rng = np.random.default_rng(0)
    is_first = np.arange(200) < 60
    noise = rng.normal(size=200)
    swapped = swapped_labels(is_first.astype(int), 500, rng) == 1
    assert (swapped.sum(axis=1) == 60).all()
    for values, found in ((noise, False), (noise + is_first, True)):
        null = mean_gap(values, swapped)
        assert (p_of_swaps(float(mean_gap(values, is_first)), null) < 0.01) == found
        assert abs(null.mean()) < 0.05


def test_a_gap_within_strata_does_not_see_a_gap_between_them():
    """Simpson's paradox: the first group is found less often in each stratum, more often in all."""
    values = np.array([0.9] * 80 + [1.0] * 20 + [0.1] * 20 + [0.2] * 80)
    is_first = np.array([True] * 80 + [False] * 20 + [True] * 20 + [False] * 80)
    strata = np.repeat([0, 1], 100)
    value, sampled = stratified_gap(values, is_first, strata, resamples=50)
    assert values[is_first].mean() > values[~is_first].mean()
    assert value == pytest.approx(-0.1)
    assert sampled == pytest.approx(np.full(50, -0.1))


def test_a_gap_needs_both_kinds_in_a_stratum():
    with pytest.raises(ValueError, match="both kinds"):
        stratified_gap(
            np.ones(4), np.array([True, True, False, False]), np.array([0, 0, 1, 1]), resamples=5
        )
