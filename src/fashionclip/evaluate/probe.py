"""Scoring of linear probes: classifiers on a model's vectors, from all images and from few.

Logistic regression on unit vectors, as in Radford et al. 2021 (CLIP, section 3.2). A few-shot probe
learns from k images per class, several times, each time from another sample.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.errors import MissingExtraError
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.evaluate.scoring import (
    check_labels,
    check_seen,
    empty_result,
    examples_of,
    label_figures,
    readable_images,
    seen_among,
    task_result,
)
from fashionclip.evaluate.tasks import Encoder, Probe
from fashionclip.metrics.classification import confusion_matrix, weighted_f1
from fashionclip.metrics.intervals import repeated_intervals

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

HEADLINE = "weighted_f1"
FEW_SHOT_C = 10.0
"""Inverse regularisation of the few-shot probes. It is fixed, since they have too few images to
choose it on."""
_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of which cross-validation chooses
_FOLDS = 3
_MAX_CHOICE_IMAGES = 2_000  # enough to tell such strengths apart


def score_probe(
    task: Probe,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " image"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Learn a task's classes from the training images, and classify its images.

    Args:
        task: what to learn and to classify.
        encoder: of the model.
        seen: marks the test images that the model was trained on; ``unseen`` holds the figures
            without them.
        seed: of the samples and the bootstrap.

    Returns:
        ``weighted_f1`` (the headline) and ``accuracy`` of a classifier that learned from every
        training image, its C chosen by cross-validation among them alone; and ``few_shot@k``,
        the mean weighted F1 over the samples, its interval over images and samples. ``details``
        holds ``classes``, ``n_training``, ``c`` (None where there are too few images to choose it)
        and ``shots``: each sample's weighted F1 by k.

    Raises:
        ValueError: labels without a class, a label too many or too few, or no classes.
        MissingExtraError: scikit-learn is not installed.
    """
    n_classes = len(task.classes)
    check_labels(task, task.images, task.labels, n_classes)
    check_labels(task, task.training_images, task.training_labels, n_classes, "training ")
    check_seen(task, len(task.images), seen)
    training = readable_images(task.training_images, encoder, "training pictures")
    test = readable_images(task.images, encoder)
    learned, truth = task.training_labels[training.kept], task.labels[test.kept]
    messages = [*training.warnings, *test.warnings]
    n, left_out = len(test.images), len(task.images) - len(test.images)
    if not n or len(set(learned.tolist())) < 2:
        why = "it has no pictures to classify"
        if n:
            why = "its training pictures are of fewer than two classes"
        return empty_result(task, "probe", HEADLINE, left_out, why, messages)
    messages += _imbalances(task, learned, truth)
    with _quick_fits():
        few = {
            k: _few_shot(training.vectors, learned, test.vectors, k, task.seeds, seed)
            for k in task.shots
        }
        c = _choose(training.vectors, learned, seed)
        classifier = _classifier(FEW_SHOT_C if c is None else c)
        classifier.fit(training.vectors, learned)
        predicted = classifier.predict(test.vectors).astype(np.int64)

    def scores(k: int, kept: Bool[np.ndarray, " n"]) -> list[float]:
        labels = (row[kept] for row in few[k])
        return [float(weighted_f1(confusion_matrix(truth[kept], row, n_classes))) for row in labels]

    def figures_of(kept: Bool[np.ndarray, " n"]) -> dict[str, Figure]:
        metrics = (HEADLINE, "accuracy")
        figures = label_figures(truth[kept], predicted[kept], n_classes, metrics, seed)
        labels = [rows[:, kept] for rows in few.values()]
        intervals = repeated_intervals(truth[kept], labels, n_classes, weighted_f1, seed=seed)
        for k, ends in zip(few, intervals, strict=True):
            value = float(np.mean(scores(k, kept)))
            figures[f"few_shot@{k}"] = Figure(value, *ends, int(kept.sum()))
        return figures

    names = [label.name for label in task.classes]
    return task_result(
        task,
        "probe",
        HEADLINE,
        unit="pictures",
        seen=seen_among(seen, test.kept),
        left_out=left_out,
        figures_of=figures_of,
        details={
            "classes": names,
            "n_training": len(learned),
            "c": c,
            "shots": {str(k): scores(k, np.ones(n, bool)) for k in few},
        },
        warnings=messages,
        items={
            "item": [image.image_id for image in test.images],
            "truth": [names[row] for row in truth],
            "predicted": [names[row] for row in predicted],
        },
    )


def _imbalances(task: Probe, learned: np.ndarray, truth: np.ndarray) -> list[str]:
    counts = np.bincount(learned, minlength=len(task.classes))
    unknown = [task.classes[row].name for row in np.unique(truth) if not counts[row]]
    messages = []
    if unknown:
        messages.append(
            f"{len(unknown)} of {len(counts)} classes have no training picture and cannot be "
            f"learned: {examples_of(unknown)}."
        )
    most = max(task.shots, default=0)
    if few := [task.classes[row].name for row in np.flatnonzero((counts > 0) & (counts < most))]:
        messages.append(
            f"{len(few)} of {len(counts)} classes have fewer than {most} training pictures; "
            f"few-shot probes learn from all of theirs: {examples_of(few)}."
        )
    return messages


@contextmanager
def _quick_fits() -> Iterator[None]:
    # one thread is five times as fast as two, because the matrices are small
    try:
        import sklearn  # noqa: F401  threadpoolctl comes with it
        from threadpoolctl import threadpool_limits
    except ImportError as exc:
        message = "probes need scikit-learn: pip install 'fashionclip[evaluate]'"
        raise MissingExtraError(message) from exc
    with threadpool_limits(1), warnings.catch_warnings():
        # one image per class is what a few-shot probe learns from
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        yield


def _classifier(c: float) -> "LogisticRegression":
    """A logistic regression over all classes."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=1000, tol=1e-3)


def _choose(
    vectors: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], seed: int
) -> float | None:
    """The C with the best weighted F1 in cross-validation on some images; None for too few."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    some = np.random.default_rng(seed).permutation(len(labels))[:_MAX_CHOICE_IMAGES]
    counts = np.bincount(labels[some])
    some = some[counts[labels[some]] >= _FOLDS]  # every fold needs an image of each class
    if len(set(labels[some].tolist())) < 2:
        return None
    return max(
        _STRENGTHS,
        key=lambda c: cross_val_score(
            _classifier(c),
            vectors[some],
            labels[some],
            scoring="f1_weighted",
            cv=StratifiedKFold(_FOLDS),
        ).mean(),
    )


def _few_shot(
    training: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    k: int,
    n_samples: int,
    seed: int,
) -> Int[np.ndarray, "sample m"]:
    """Predictions for the test images after learning from k images per class, a row per sample."""
    members = [np.flatnonzero(labels == row) for row in np.unique(labels)]
    found = []
    for sample in range(n_samples):
        rng = np.random.default_rng([seed, k, sample])
        rows = np.concatenate([rng.permutation(some)[:k] for some in members])
        found.append(_classifier(FEW_SHOT_C).fit(training[rows], labels[rows]).predict(test))
    return np.array(found, np.int64).reshape(n_samples, len(test))
