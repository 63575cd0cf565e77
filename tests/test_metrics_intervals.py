"""Intervals cover the true value as often as they state, and tests hold their level."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import bootstrap as scipy_bootstrap

from fashionclip.metrics.classification import (
    accuracy,
    confusion_matrix,
    f1_per_class,
    macro_f1,
    margins,
    recall_per_class,
    weighted_f1,
)
from fashionclip.metrics.intervals import (
    confusion_intervals,
    mcnemar,
    mean_interval,
    paired_labels,
    paired_means,
    repeated_intervals,
    share_interval,
    two_level_interval,
)


@pytest.mark.parametrize("n", [1, 20, 300])
def test_the_interval_of_equal_values_is_the_exact_binomial_one(n):
    none = binomtest(0, n).proportion_ci(0.95, method="exact")
    assert share_interval(np.zeros(n)) == pytest.approx((none.low, none.high))
    every = binomtest(n, n).proportion_ci(0.95, method="exact")
    assert share_interval(np.ones(n)) == pytest.approx((every.low, every.high))
    low, high = share_interval(np.zeros(n), lowest=-1.0)
    assert (low, high) == pytest.approx((-none.high, none.high))


def test_the_interval_of_unequal_values_is_the_bootstrap_and_of_none_nan():
    values = np.array([0.0, 1, 1, 0.5, 0, 1, 1, 1])
    assert share_interval(values) == mean_interval(values)
    assert np.isnan(share_interval(np.empty(0))).all()


def test_groups_of_one_value_have_the_interval_of_their_mean():
    values = np.random.default_rng(3).normal(size=40)
    found = two_level_interval([np.array([value]) for value in values], resamples=20_000)
    assert found == pytest.approx(mean_interval(values, resamples=20_000), abs=0.02)


def test_one_group_has_the_interval_of_its_values():
    values = np.random.default_rng(4).normal(size=30)
    found = two_level_interval([values], resamples=20_000)
    assert found == pytest.approx(mean_interval(values, resamples=20_000), abs=0.02)


def test_groups_without_variation_between_them_have_that_of_their_values_alone():
    """The standard error is that of all values, sd / sqrt(groups * values)."""
    values = np.tile([-1.0, 1.0], 8)
    low, high = two_level_interval([values] * 9, resamples=20_000)
    assert (high - low) / 2 == pytest.approx(1.96 / np.sqrt(9 * 16), rel=0.05)


def test_values_that_are_equal_within_a_group_leave_the_variation_between_groups():
    """Twenty values of each run prove no more than one of each."""
    runs = np.array([0.0, 1.0, 4.0, 2.0, 3.0, 9.0])
    many, one = (
        two_level_interval([np.full(n, run) for run in runs], resamples=20_000) for n in (20, 1)
    )
    assert many == pytest.approx(one, abs=0.15)
    assert many == pytest.approx(mean_interval(runs, resamples=20_000), abs=0.15)


def test_a_large_group_weighs_as_much_as_a_small_one():
    low, high = two_level_interval([np.zeros(1000), np.full(2, 2.0)])
    assert (low, high) == (0.0, 2.0)


def test_two_levels_need_values_in_every_group():
    assert np.isnan(two_level_interval([])).all()
    for bad in (np.empty(0), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="a group has no values or holds NaN"):
            two_level_interval([np.ones(3), bad])


def confusion_interval(confusion, metric, **settings):
    low, high = confusion_intervals(confusion, [metric], **settings)[0]
    return float(low), float(high)


def labels(rng, n, n_classes, right):
    truth = rng.integers(0, n_classes, n)
    return truth, np.where(rng.random(n) < right, truth, rng.integers(0, n_classes, n))


# intervals


@pytest.mark.parametrize("draw", ["normal", "hits"])
def test_an_interval_covers_the_true_mean_95_times_in_100(draw):
    rng = np.random.default_rng(0)
    n_trials, covered = 400, 0
    for trial in range(n_trials):
        values = rng.normal(0.7, 1, 150) if draw == "normal" else 1.0 * (rng.random(150) < 0.7)
        low, high = mean_interval(values, resamples=600, seed=trial)
        covered += low <= 0.7 <= high
    assert 0.92 <= covered / n_trials <= 0.975  # three standard errors about 0.95


def test_an_interval_of_weighted_f1_covers_95_times_in_100():
    shares = np.array([[0.40, 0.05, 0.05], [0.06, 0.20, 0.04], [0.02, 0.03, 0.15]])
    truth = float(weighted_f1(shares))
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(400):
        confusion = rng.multinomial(300, shares.reshape(-1)).reshape(3, 3)
        low, high = confusion_interval(confusion, weighted_f1, resamples=600, seed=trial)
        covered += low <= truth <= high
    assert 0.91 <= covered / 400 <= 0.98


def test_an_interval_over_trainings_equals_resampling_items_and_trainings_one_by_one():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 120)
    draws = np.array([labels(rng, 120, 3, right)[1] for right in (0.1, 0.5, 0.9)])
    draws[2] = truth  # so that the interval depends on the repetitions that are resampled
    ((low, high),) = repeated_intervals(truth, [draws], 3, weighted_f1)
    values = []
    for _ in range(2000):
        items = rng.integers(0, 120, 120)
        values.append(
            np.mean(
                [
                    weighted_f1(confusion_matrix(truth[items], draws[draw][items], 3))
                    for draw in rng.integers(0, 3, 3)
                ]
            )
        )
    assert (low, high) == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=0.02)


def test_an_interval_over_equal_trainings_is_that_of_the_items():
    rng = np.random.default_rng(4)
    truth, predicted = labels(rng, 500, 4, 0.6)
    alone, thrice, none = repeated_intervals(
        truth,
        [predicted[None], np.stack([predicted] * 3), predicted[:0].reshape(0, 500)],
        4,
        accuracy,
    )
    expected = confusion_interval(confusion_matrix(truth, predicted, 4), accuracy)
    assert alone == pytest.approx(thrice)
    assert alone == pytest.approx(expected, abs=0.01)
    assert np.isnan(none).all()
    assert np.isnan(repeated_intervals(truth[:0], [predicted[None, :0]], 4, accuracy)).all()


@pytest.mark.parametrize("few", [True, False])
def test_an_interval_is_scipys_percentile_bootstrap(few):
    rng = np.random.default_rng(2)
    values = rng.integers(0, 2, 400).astype(float) if few else rng.random(400)
    expected = scipy_bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    low, high = mean_interval(values, resamples=4000)
    assert [low, high] == pytest.approx([expected.low, expected.high], abs=0.004)


def test_resampling_cells_equals_resampling_images():
    rng = np.random.default_rng(3)
    truth, predicted = labels(rng, 200, 4, 0.6)
    resampled = [
        weighted_f1(confusion_matrix(truth[rows], predicted[rows], 4))
        for rows in rng.integers(0, 200, (3000, 200))
    ]
    found = confusion_interval(confusion_matrix(truth, predicted, 4), weighted_f1, resamples=3000)
    assert found == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.008)


def test_an_interval_of_accuracy_is_that_of_the_hits():
    truth, predicted = labels(np.random.default_rng(4), 500, 3, 0.7)
    of_cells = confusion_interval(confusion_matrix(truth, predicted, 3), accuracy)
    assert of_cells == pytest.approx(mean_interval(1.0 * (truth == predicted)), abs=0.006)


def test_a_class_has_the_interval_of_its_own_images():
    confusion = np.array([[80, 20, 0], [5, 5, 0], [0, 0, 0]])
    recall, f1 = confusion_intervals(confusion, [recall_per_class, f1_per_class])
    assert recall.shape == (2, 3)
    hits = mean_interval(np.repeat([1.0, 0.0], [80, 20]))
    assert recall[:, 0] == pytest.approx(hits, abs=0.01)
    assert np.diff(recall[:, 1]) > 2 * np.diff(recall[:, 0])  # ten images say less than a hundred
    assert f1[0, 0] < 2 * 80 / (100 + 85) < f1[1, 0]
    assert (recall[:, 2] == 0).all()
    assert np.isnan(confusion_intervals(np.zeros((2, 2), int), [f1_per_class])).all()


def test_margins_give_the_figures_of_their_matrices():
    confusion = np.random.default_rng(9).integers(0, 9, (4, 5, 5))
    for metric in (weighted_f1, macro_f1, accuracy, f1_per_class, recall_per_class):
        np.testing.assert_array_equal(metric(margins(confusion)), metric(confusion))


def test_the_seed_decides_and_nothing_else():
    values = np.random.default_rng(5).random(50)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_nothing_measured_has_no_interval_and_one_item_no_width():
    assert np.isnan(mean_interval(np.empty(0))).all()
    assert np.isnan(confusion_interval(np.zeros((2, 2), int), weighted_f1)).all()
    assert mean_interval(np.array([0.3])) == (0.3, 0.3)
    assert confusion_interval(np.array([[0, 0], [0, 1]]), accuracy) == (1.0, 1.0)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        mean_interval(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="NaN"):
        paired_means(np.array([1.0, 2.0]), np.array([1.0, np.nan]))


def test_intervals_of_62_classes_and_10_000_images_take_seconds():
    rng = np.random.default_rng(6)
    truth, a = labels(rng, 10_000, 62, 0.7)
    b = np.where(rng.random(10_000) < 0.1, truth, a)
    begin = time.process_time()
    confusion_interval(confusion_matrix(truth, a, 62), weighted_f1)
    mean_interval(rng.random(10_000))
    paired_labels(truth, a, b, 62, weighted_f1)
    assert time.process_time() - begin < 8  # about 2 s; the machine may be busy


# McNemar


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 20))
def test_mcnemar_is_scipys_binomial_test_of_the_pairs_that_differ(only_a, only_b, both):
    a = np.repeat([True, False, True], [only_a, only_b, both])
    b = np.repeat([False, True, True], [only_a, only_b, both])
    n = only_a + only_b
    expected = binomtest(only_a, n).pvalue if n else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, abs=1e-9)
    assert mcnemar(a, b) == mcnemar(b, a)


def test_mcnemar_stands_ten_thousand_differences():
    a = np.repeat([True, False], [5200, 4800])
    assert mcnemar(a, ~a) == pytest.approx(binomtest(4800, 10_000).pvalue, rel=1e-6)


# two models


def test_a_difference_is_second_less_first():
    found = paired_means(np.zeros(40), np.full(40, 0.25))
    assert (found.value, found.low, found.high, found.n) == (0.25, 0.25, 0.25, 40)
    assert found.p == pytest.approx(2 / 2001)


def test_equal_predictions_differ_by_exactly_nothing():
    truth, a = labels(np.random.default_rng(7), 100, 3, 0.5)
    found = paired_labels(truth, a, a, 3, macro_f1)
    assert (found.value, found.low, found.high, found.p, found.n) == (0, 0, 0, 1, 100)
    assert paired_means(a / 3, a / 3).p == 1


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 80))
@settings(max_examples=40)
def test_a_difference_of_labels_is_the_difference_of_the_figures(seed, n_classes, n):
    rng = np.random.default_rng(seed)
    truth, a = labels(rng, n, n_classes, 0.5)
    _, b = labels(rng, n, n_classes, 0.5)
    found = paired_labels(truth, a, b, n_classes, weighted_f1, resamples=50)
    of_a, of_b = (weighted_f1(confusion_matrix(truth, one, n_classes)) for one in (a, b))
    assert found.value == pytest.approx(of_b - of_a, abs=1e-12)
    other = paired_labels(truth, b, a, n_classes, weighted_f1, resamples=50)
    assert other.value == pytest.approx(-found.value, abs=1e-12)


def test_resampling_triples_equals_resampling_images():
    rng = np.random.default_rng(8)
    truth, a = labels(rng, 250, 4, 0.6)
    b = np.where(rng.random(250) < 0.3, truth, a)
    resampled = [
        weighted_f1(confusion_matrix(truth[rows], b[rows], 4))
        - weighted_f1(confusion_matrix(truth[rows], a[rows], 4))
        for rows in rng.integers(0, 250, (3000, 250))
    ]
    found = paired_labels(truth, a, b, 4, weighted_f1, resamples=3000)
    assert [found.low, found.high] == pytest.approx(
        np.percentile(resampled, [2.5, 97.5]), abs=0.008
    )


def test_equal_models_differ_one_time_in_twenty():
    rng = np.random.default_rng(9)
    n_trials, apart = 400, 0
    for trial in range(n_trials):
        a, b = rng.random((2, 120)) < 0.6
        apart += paired_means(1.0 * a, 1.0 * b, resamples=600, seed=trial).p < 0.05
    assert 0.02 <= apart / n_trials <= 0.085


def test_one_item_proves_nothing_and_none_is_nan():
    one = paired_means(np.array([0.0]), np.array([1.0]))
    assert (one.value, one.low, one.high, one.p, one.n) == (1, 1, 1, 1, 1)
    none = paired_labels(*[np.empty(0, int)] * 3, 2, weighted_f1)
    assert np.isnan([none.value, none.low, none.high, none.p]).all()
    assert none.n == 0


def test_a_label_without_a_class_is_refused():
    two = np.array([0, 1])
    with pytest.raises(ValueError, match=r"labels lie in 0…1"):
        paired_labels(two, two, two + 1, 2, weighted_f1)
