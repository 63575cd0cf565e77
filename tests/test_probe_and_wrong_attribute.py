"""Linear and few-shot probes against scikit-learn, and captions with one wrong word."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from fashionclip.errors import MissingExtraError
from fashionclip.evaluate.probe import score_probe
from fashionclip.evaluate.tasks import ClassLabel, Probe, WrongAttribute
from fashionclip.evaluate.wrong_attribute import score_wrong_attribute
from fixed_encoder import FixedEncoder, refs

RED, BLUE, GREEN = np.eye(3, dtype=np.float32)
WORDS = {"red": RED, "blue": BLUE, "green": GREEN}
UNREADABLE = np.full(3, np.nan, np.float32)
CLASSES = tuple(ClassLabel(name, name) for name in ("dress", "boot", "bag"))


def clouds(n, seed, spread=0.6):
    """Unit vectors around three centres, with their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    vectors = np.eye(3)[labels] + spread * rng.normal(size=(n, 3))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def probe(n_training=120, n_test=90, **more):
    learned, known = clouds(n_training, 0)
    test_points, truth = clouds(n_test, 1)
    return Probe("t", CLASSES, refs(*learned, name="l"), known, refs(*test_points), truth, **more)


def test_a_probe_is_scikit_learns_logistic_regression():
    found = score_probe(probe(), FixedEncoder(WORDS))
    (learned, known), (test_points, truth) = clouds(120, 0), clouds(90, 1)
    c = found.details["c"]
    fitted = LogisticRegression(C=c, max_iter=1000, tol=1e-3).fit(learned, known)
    predicted = fitted.predict(test_points)
    assert found.items["predicted"] == [CLASSES[row].name for row in predicted]
    assert found.figures["weighted_f1"].value == pytest.approx(
        f1_score(truth, predicted, average="weighted"), abs=1e-9
    )
    assert found.details["n_training"] == 120
    assert found.figures["weighted_f1"].n == 90


def test_few_images_give_lower_figures_and_their_samples_differ():
    found = score_probe(probe(), FixedEncoder(WORDS))
    shots = found.details["shots"]
    assert list(shots) == ["1", "2", "4", "8", "16"]
    assert all(len(values) == 5 and len(set(values)) > 1 for values in shots.values())
    for k, values in shots.items():
        figure = found.figures[f"few_shot@{k}"]
        assert figure.value == pytest.approx(np.mean(values), abs=1e-9)
        assert figure.low < figure.value < figure.high
    assert found.figures["few_shot@1"].value < found.figures["few_shot@16"].value
    assert score_probe(probe(), FixedEncoder(WORDS)).figures == found.figures


def test_a_probe_warns_of_what_it_could_not_use():
    one = probe(shots=(1, 4), seeds=2)
    broken = replace(
        one,
        training_images=(*one.training_images[:7], *refs(*[UNREADABLE] * 113, name="x")),
        images=(*one.images[:89], *refs(UNREADABLE, name="y")),
    )
    found = score_probe(broken, FixedEncoder(WORDS))
    assert (found.n, found.left_out, found.details["n_training"]) == (89, 1, 7)
    assert found.details["c"] is None  # too few images to choose it on
    assert found.warnings == (
        "113 of 120 training pictures could not be read and are left out: x0, x1, x2, x3, x4 and "
        "108 more.",
        "1 of 90 pictures could not be read and are left out: y0.",
        "3 of 3 classes have fewer than 4 training pictures; few-shot probes learn from all "
        "of theirs: dress, boot, bag.",
    )
    two = replace(
        one,
        training_images=tuple(
            p for p, y in zip(one.training_images, one.training_labels, strict=True) if y < 2
        ),
        training_labels=one.training_labels[one.training_labels < 2],
    )
    assert score_probe(two, FixedEncoder(WORDS)).warnings == (
        "1 of 3 classes have no training picture and cannot be learned: bag.",
    )


def test_a_probe_without_seen_images():
    one = probe(shots=(1,), seeds=2)
    seen = np.arange(90) < 30
    found = score_probe(one, FixedEncoder(WORDS), seen=seen)
    rest = replace(one, images=one.images[30:], labels=one.labels[30:])
    assert (found.n_seen, found.unseen) == (30, score_probe(rest, FixedEncoder(WORDS)).figures)
    assert (
        "trained on all 90" in score_probe(one, FixedEncoder(WORDS), seen=seen | True).warnings[-1]
    )


def test_a_probe_with_nothing_to_learn_has_a_warning():
    one = probe(shots=(1,))
    alike = replace(one, training_labels=np.zeros(120, np.int64))
    assert "fewer than two classes" in score_probe(alike, FixedEncoder(WORDS)).warnings[-1]
    empty = replace(one, images=(), labels=np.empty(0, np.int64))
    assert "it has no pictures to classify" in score_probe(empty, FixedEncoder(WORDS)).warnings[-1]
    for change in ({"labels": one.labels + 1}, {"training_labels": one.labels}):
        with pytest.raises(ValueError, match="t"):
            score_probe(replace(one, **change), FixedEncoder(WORDS))


def test_a_probe_without_scikit_learn_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fashionclip\[evaluate\]'"):
        score_probe(probe(), FixedEncoder(WORDS))


# one wrong word

BLUISH_RED = np.array([0.6, 0.8, 0.0], np.float32)
TASK = WrongAttribute(
    name="t",
    attribute="colour",
    images=refs(RED, BLUISH_RED, GREEN, GREEN),
    values=("red", "red", "green", "blue"),
    right=("a red cap", "a red cap", "an extra green cap", "blue shoes"),
    wrong=(
        ("a blue cap", "a green cap"),
        ("a blue cap", "a green cap"),
        ("an extra red cap",),
        ("green shoes", "red shoes"),
    ),
)


def test_the_right_caption_has_to_win():
    found = score_wrong_attribute(TASK, FixedEncoder(WORDS))
    assert found.items["win_rate"] == [1.0, 0.5, 1.0, 0.0]  # a draw, as in the last, is lost
    assert found.items["beats_all"] == [1.0, 0.0, 1.0, 0.0]
    assert found.figures["win_rate"].value == 0.625
    assert found.figures["beats_all"].value == 0.5
    by_value = found.details["by_value"]
    values = {word: (figure.value, figure.n) for word, figure in by_value.items()}
    assert values == {"blue": (0.0, 1), "green": (1.0, 1), "red": (0.75, 2)}
    assert (by_value["red"].low, by_value["red"].high) == (0.5, 1.0)
    assert found.details["lost_to"] == [
        {"right": "blue", "wrong": "green", "n": 1, "pictures": ["p3"]},
        {"right": "blue", "wrong": "red", "n": 1, "pictures": ["p3"]},
        {"right": "red", "wrong": "blue", "n": 1, "pictures": ["p1"]},
    ]
    assert found.shown == ("p3", "p1")


def test_captions_of_unreadable_images_are_left_out_with_a_warning():
    broken = replace(TASK, images=refs(RED, UNREADABLE, GREEN, GREEN))
    found = score_wrong_attribute(
        broken, FixedEncoder(WORDS), seen=np.array([True, True, False, False])
    )
    assert (found.n, found.left_out, found.n_seen) == (3, 1, 1)
    assert found.items["seen"] == [True, False, False]
    assert found.unseen["win_rate"].value == 0.5
    assert found.warnings == ("1 of 4 pictures could not be read and are left out: p1.",)
    every = score_wrong_attribute(TASK, FixedEncoder(WORDS), seen=np.ones(4, bool))
    assert "trained on all 4 pictures" in every.warnings[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": ("red",)}, "4 images have 1 'values'"),
        ({"wrong": (*TASK.wrong[:3], ())}, "image p3 has no wrong caption"),
    ],
)
def test_a_wrong_attribute_task_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        score_wrong_attribute(replace(TASK, **change), FixedEncoder(WORDS))


def test_a_task_without_images_has_a_warning():
    empty = WrongAttribute("t", "colour", (), (), (), ())
    found = score_wrong_attribute(empty, FixedEncoder(WORDS))
    assert found.warnings == ("There is nothing to measure: it has no pictures.",)
