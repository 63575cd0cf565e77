"""Classification metrics equal scikit-learn's, alone and over a whole bootstrap."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from fashionclip.metrics.classification import (
    accuracy,
    confusion_matrix,
    f1_per_class,
    macro_f1,
    precision_per_class,
    recall_per_class,
    top_k_hits,
    weighted_f1,
)


@st.composite
def labelled(draw):
    n_classes = draw(st.integers(2, 9))  # scikit-learn warns about a single class
    pairs = st.tuples(st.integers(0, n_classes - 1), st.integers(0, n_classes - 1))
    labels = np.array(draw(st.lists(pairs, min_size=1, max_size=60)))
    return labels[:, 0], labels[:, 1], n_classes


@given(labelled())
def test_every_figure_is_scikit_learns(case):
    truth, predicted, n_classes = case
    confusion = confusion_matrix(truth, predicted, n_classes)
    rows = {"labels": range(n_classes), "zero_division": 0}

    def f1(**how):
        return reference.f1_score(truth, predicted, zero_division=0, **how)

    assert confusion.tolist() == (
        reference.confusion_matrix(truth, predicted, labels=range(n_classes)).tolist()
    )
    close = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(weighted_f1(confusion), f1(average="weighted"), **close)
    np.testing.assert_allclose(macro_f1(confusion), f1(average="macro"), **close)
    np.testing.assert_allclose(
        accuracy(confusion), reference.accuracy_score(truth, predicted), **close
    )
    np.testing.assert_allclose(
        f1_per_class(confusion), f1(average=None, labels=range(n_classes)), **close
    )
    np.testing.assert_allclose(
        precision_per_class(confusion),
        reference.precision_score(truth, predicted, average=None, **rows),
        **close,
    )
    np.testing.assert_allclose(
        recall_per_class(confusion),
        reference.recall_score(truth, predicted, average=None, **rows),
        **close,
    )


@given(labelled(), st.integers(0, 2**32))
def test_many_matrices_at_once_are_the_same_as_one_after_the_other(case, seed):
    truth, predicted, n_classes = case
    order = np.random.default_rng(seed).permutation(len(truth))
    stack = np.stack(
        [confusion_matrix(truth, p, n_classes) for p in (predicted, truth, predicted[order])]
    )
    for metric in (weighted_f1, macro_f1, accuracy, f1_per_class):
        together = metric(stack)
        for one, matrix in zip(together, stack, strict=True):
            np.testing.assert_array_equal(one, metric(matrix))


@given(st.integers(1, 7), st.integers(1, 20), st.integers(2, 9), st.integers(0, 2**32))
def test_top_k_is_scikit_learns_where_no_scores_are_equal(k, n, n_classes, seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.normal(size=(n, n_classes)), rng.integers(0, n_classes, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # k beyond the classes is trivial, it says
        expected = reference.top_k_accuracy_score(
            truth,
            scores if n_classes > 2 else scores[:, 1] - scores[:, 0],
            k=k,
            labels=range(n_classes),
        )
    if n_classes > 2 or k > 1:
        assert top_k_hits(scores, truth, k).mean() == pytest.approx(expected, abs=1e-9)


def test_of_equal_scores_the_class_in_the_lower_row_goes_first():
    scores = np.array([[0.5, 0.9, 0.9, 0.9]] * 4)
    truth = np.arange(4)
    assert top_k_hits(scores, truth, 1).tolist() == [False, True, False, False]
    assert top_k_hits(scores, truth, 2).tolist() == [False, True, True, False]
    assert top_k_hits(scores, truth, 4).all()
    assert (top_k_hits(scores, truth, 1) == (scores.argmax(axis=1) == truth)).all()


def test_the_card_weights_a_class_by_its_images():
    # three dresses, all found; one bag, taken for a dress
    confusion = confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]), 3)
    assert confusion.tolist() == [[3, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert weighted_f1(confusion) == pytest.approx(3 / 4 * 6 / 7)
    assert macro_f1(confusion) == pytest.approx(6 / 7 / 2)  # the third class does not occur


@pytest.mark.parametrize("metric", [weighted_f1, macro_f1, accuracy])
def test_a_figure_of_no_images_is_nan(metric):
    nothing = np.empty(0, np.int64)
    assert np.isnan(metric(confusion_matrix(nothing, nothing, 3)))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_without_a_class_is_refused(wrong):
    with pytest.raises(ValueError, match=r"labels lie in 0…2"):
        confusion_matrix(np.array([0, wrong]), np.array([0, 1]), 3)


def test_small_integers_do_not_overflow():
    labels = np.full(5, 61, np.int8)
    assert confusion_matrix(labels, labels, 62)[61, 61] == 5
