"""Scoring what a linear classifier learns from a model's vectors: from all pictures, and from few.

Logistic regression on unit vectors, as in Radford et al. 2021 (CLIP, section 3.2); few-shot probes
learn from k pictures a class, several times, each time from others.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.errors import MissingExtraError
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.evaluate.scoring import (
    check_length,
    nothing_measured,
    readable_pictures,
    seen_entirely,
    some_of,
)
from fashionclip.evaluate.tasks import Probe, Vectors
from fashionclip.metrics.classification import (
    accuracy,
    checked_labels,
    confusion_matrix,
    weighted_f1,
)
from fashionclip.metrics.intervals import confusion_intervals, draws_intervals

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

HEADLINE = "weighted_f1"
FEW_SHOT_C = 10.0
"""Strength of the few-shot probes' fit: too few pictures to choose it on, so it is fixed."""
_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of which cross-validation chooses
_FOLDS = 3
_CHOICE_PICTURES = 2_000  # enough to tell such strengths apart, and quick


def score_probe(
    task: Probe,
    vectors: Vectors,
    *,
    seen: Bool[np.ndarray, " picture"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Learn a task's classes from the training pictures, and sort its pictures.

    Args:
        task: what to learn and to sort.
        vectors: of the model.
        seen: marks the test pictures that the model was trained on; ``unseen`` holds the figures
            without them.
        seed: of the draws and the bootstrap.

    Returns:
        ``weighted_f1`` (the headline) and ``accuracy`` of a classifier that learned from every
        training picture, its C chosen by cross-validation among them alone; and ``few_shot@k``,
        the mean weighted F1 over the draws, its interval over pictures and draws. ``details`` holds
        ``classes``, ``n_training``, ``c`` (None where there are too few pictures to choose it) and
        ``shots``: each draw's weighted F1 by k.

    Raises:
        ValueError: labels without a class, a label too many or too few, or no classes.
        MissingExtraError: scikit-learn is not installed.
    """
    _check(task, seen)
    training = readable_pictures(task.training_pictures, vectors, "training pictures")
    test = readable_pictures(task.pictures, vectors)
    learned, truth = task.training_labels[training.kept], task.labels[test.kept]
    said = [*training.warnings, *test.warnings]
    n, left_out = len(test.pictures), len(task.pictures) - len(test.pictures)
    if not n or len(set(learned.tolist())) < 2:
        why = "it has no pictures to sort"
        if n:
            why = "its training pictures are of fewer than two classes"
        return nothing_measured(task, "probe", HEADLINE, left_out, why, said)
    said += _imbalances(task, learned, truth)
    n_classes = len(task.classes)
    with _quick_fits():
        few = {
            k: _few_shot(training.vectors, learned, test.vectors, k, task.seeds, seed)
            for k in task.shots
        }
        c = _choose(training.vectors, learned, seed)
        classifier = _classifier(FEW_SHOT_C if c is None else c)
        classifier.fit(training.vectors, learned)
        predicted = classifier.predict(test.vectors).astype(np.int64)
    were_seen = np.zeros(n, bool) if seen is None else seen[test.kept]
    new = ~were_seen
    unseen: dict[str, Figure] = {}
    if were_seen.all():
        said.append(seen_entirely(n, "pictures"))
    elif were_seen.any():
        some = {k: labels[:, new] for k, labels in few.items()}
        unseen = _figures(truth[new], predicted[new], some, n_classes, seed)
    names = [label.name for label in task.classes]
    shots = {str(k): _scores(truth, labels, n_classes) for k, labels in few.items()}
    return TaskResult(
        task=task.name,
        kind="probe",
        headline=HEADLINE,
        n=n,
        left_out=left_out,
        figures=_figures(truth, predicted, few, n_classes, seed),
        n_seen=int(were_seen.sum()),
        unseen=unseen,
        details={"classes": names, "n_training": len(learned), "c": c, "shots": shots},
        notes=task.notes,
        warnings=tuple(said),
        items={
            "item": [picture.picture_id for picture in test.pictures],
            "truth": [names[row] for row in truth],
            "predicted": [names[row] for row in predicted],
            "seen": were_seen.tolist(),
        },
    )


def _check(task: Probe, seen: np.ndarray | None) -> None:
    """Refuse a task that contradicts itself.

    Raises:
        ValueError: it does.
    """
    training = (task.training_pictures, task.training_labels, "training ")
    for pictures, labels, what in ((task.pictures, task.labels, ""), training):
        if len(pictures) != len(labels):
            message = f"{task.name}: {len(pictures)} {what}pictures have {len(labels)} labels"
            raise ValueError(message)
        try:
            checked_labels(labels, len(task.classes))
        except ValueError as exc:
            message = f"{task.name}, {what}pictures: {exc}"
            raise ValueError(message) from exc
    check_length(task, "pictures", len(task.pictures), seen)


def _imbalances(task: Probe, learned: np.ndarray, truth: np.ndarray) -> list[str]:
    counts = np.bincount(learned, minlength=len(task.classes))
    unknown = [task.classes[row].name for row in np.unique(truth) if not counts[row]]
    said = []
    if unknown:
        said.append(
            f"{len(unknown)} of {len(counts)} classes have no training picture and cannot be "
            f"learned: {some_of(unknown)}."
        )
    most = max(task.shots, default=0)
    if few := [task.classes[row].name for row in np.flatnonzero((counts > 0) & (counts < most))]:
        said.append(
            f"{len(few)} of {len(counts)} classes have fewer than {most} training pictures, and "
            f"few-shot probes learn from all that they have: {some_of(few)}."
        )
    return said


@contextmanager
def _quick_fits() -> Iterator[None]:
    """Fit on one thread, which is five times as fast as two: the matrices are small.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        import sklearn  # noqa: F401  threadpoolctl comes with it
        from threadpoolctl import threadpool_limits
    except ImportError as exc:
        message = "probes need scikit-learn: pip install 'fashionclip[evaluate]'"
        raise MissingExtraError(message) from exc
    with threadpool_limits(1), warnings.catch_warnings():
        # one picture a class is what a few-shot probe is asked to learn from
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        yield


def _classifier(c: float) -> "LogisticRegression":
    """A logistic regression over all classes."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=1000, tol=1e-3)


def _choose(
    pictures: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], seed: int
) -> float | None:
    """The C with the best weighted F1 on folds of some training pictures; None for too few."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    some = np.random.default_rng(seed).permutation(len(labels))[:_CHOICE_PICTURES]
    counts = np.bincount(labels[some])
    some = some[counts[labels[some]] >= _FOLDS]  # a class has to lie in every fold
    if len(set(labels[some].tolist())) < 2:
        return None
    return max(
        _STRENGTHS,
        key=lambda c: cross_val_score(
            _classifier(c),
            pictures[some],
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
    n_draws: int,
    seed: int,
) -> Int[np.ndarray, "draw m"]:
    """Labels of the test pictures after learning from k pictures a class, one row a draw."""
    members = [np.flatnonzero(labels == row) for row in np.unique(labels)]
    found = []
    for draw in range(n_draws):
        rng = np.random.default_rng([seed, k, draw])
        rows = np.concatenate([rng.permutation(some)[:k] for some in members])
        found.append(_classifier(FEW_SHOT_C).fit(training[rows], labels[rows]).predict(test))
    return np.array(found, np.int64).reshape(n_draws, len(test))


def _scores(truth: np.ndarray, labels: np.ndarray, n_classes: int) -> list[float]:
    return [float(weighted_f1(confusion_matrix(truth, row, n_classes))) for row in labels]


def _figures(
    truth: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    few: Mapping[int, Int[np.ndarray, "draw n"]],
    n_classes: int,
    seed: int,
) -> dict[str, Figure]:
    n = len(truth)
    confusion = confusion_matrix(truth, predicted, n_classes)
    metrics = {HEADLINE: weighted_f1, "accuracy": accuracy}
    intervals = confusion_intervals(confusion, tuple(metrics.values()), seed=seed)
    figures = {
        name: Figure(float(metric(confusion)), low, high, n)
        for (name, metric), (low, high) in zip(metrics.items(), intervals, strict=True)
    }
    ends = draws_intervals(truth, list(few.values()), n_classes, weighted_f1, seed=seed)
    for (k, labels), (low, high) in zip(few.items(), ends, strict=True):
        value = float(np.mean(_scores(truth, labels, n_classes)))
        figures[f"few_shot@{k}"] = Figure(value, low, high, n)
    return figures
