"""Scoring a model that sorts pictures by the names of their classes alone.

The label of a picture is the class whose vector has the largest cosine with the picture's, the
first of equal ones. The words are chosen on development pictures before a test picture is scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from fashionclip.evaluate.prompts import (
    DEFAULT_STYLE,
    changed_vectors,
    choose_style,
    class_prompts,
    class_vectors,
    style_scores,
    usable_styles,
)
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.evaluate.scoring import (
    check_length,
    mean_figure,
    nothing_measured,
    readable_pictures,
    seen_entirely,
    some_of,
)
from fashionclip.evaluate.tasks import ClassLabel, Picture, Vectors, ZeroShot
from fashionclip.metrics.classification import (
    accuracy,
    checked_labels,
    confusion_matrix,
    f1_per_class,
    macro_f1,
    precision_per_class,
    recall_per_class,
    top_k_hits,
    weighted_f1,
)
from fashionclip.metrics.intervals import (
    Metric,
    class_intervals,
    confusion_intervals,
    mean_interval,
)

HEADLINE = "weighted_f1"
_OF_CONFUSION: Mapping[str, Metric] = MappingProxyType(
    {HEADLINE: weighted_f1, "macro_f1": macro_f1, "accuracy": accuracy}
)
_OF_CLASS: Mapping[str, tuple[Metric, int]] = MappingProxyType(
    {
        "precision": (precision_per_class, 0),
        "recall": (recall_per_class, 1),
        "f1": (f1_per_class, 1),
    }
)
"""Figures of a class, and whether they are over its predictions (0) or its pictures (1)."""
_TOP = 5  # only told where there are more classes than that
_N_CONFUSED, _N_PICTURES, _N_WORDS = 8, 4, 6  # as many as a report has room for


@dataclass(frozen=True, slots=True)
class _Choice:
    """The style of the prompts, and how it came to be chosen."""

    style: str
    by: Literal["given", "development", "default"]
    development: Mapping[str, Figure]
    n_development: int


def score_zero_shot(
    task: ZeroShot,
    vectors: Vectors,
    *,
    seen: Bool[np.ndarray, " picture"] | None = None,
    prompts: str | None = None,
    seed: int = 0,
) -> TaskResult:
    """Sort a task's pictures into its classes, and say how right and how sure that is.

    Args:
        task: what to sort.
        vectors: of the model.
        seen: marks the pictures that the model was trained on; ``unseen`` holds the figures
            without them.
        prompts: a style of ``prompts.STYLES``; None chooses on the development pictures, by
            weighted F1, and takes the ensemble where there are none.
        seed: of the bootstrap.

    Returns:
        Weighted F1 (the headline), macro F1, accuracy, and with more than five classes top-5. No
        figure at all if not one picture can be scored; ``warnings`` says so. ``details`` holds
        ``classes``, ``confusion`` (rows are the truth), ``per_class``, ``confused`` (the eight
        fullest cells off the diagonal, each with its surest pictures) and ``prompts``: the style
        that was chosen and how, every style's weighted F1 on development and test pictures, and by
        change of the words the share of pictures whose label ``flips`` and what ``accuracy`` gains
        or loses.

    Raises:
        ValueError: labels without a class, a label too many or too few, an id given twice, a
            picture that is in the test and the development split, no classes, a class given twice,
            or an unknown style.
    """
    _check(task, seen)
    classes = task.classes
    choice, warnings = _choose(task, vectors, prompts)
    test = readable_pictures(task.pictures, vectors)
    truth = task.labels[test.kept]
    warnings = [*test.warnings, *warnings]
    n, left_out = len(test.pictures), len(task.pictures) - len(test.pictures)
    if not n:
        why = "none of its pictures can be read" if left_out else "it has no pictures"
        return nothing_measured(task, "zero-shot", HEADLINE, left_out, why, warnings)
    warnings += [*_same_words(classes), *_imbalances(classes, truth)]
    cosines = test.vectors @ class_vectors(classes, choice.style, vectors).T
    predicted = np.argmax(cosines, axis=1)
    were_seen = np.zeros(n, bool) if seen is None else seen[test.kept]
    new = ~were_seen
    unseen = {}
    if were_seen.all():
        warnings.append(seen_entirely(n, "pictures"))
    elif were_seen.any():
        unseen = _figures(cosines[new], truth[new], seed)
    confused = _confused(task, test.pictures, truth, cosines, predicted, vectors.logit_scale)
    confusion = confusion_matrix(truth, predicted, len(classes))
    names = [label.name for label in classes]
    return TaskResult(
        task=task.name,
        kind="zero-shot",
        headline=HEADLINE,
        n=n,
        left_out=left_out,
        figures=_figures(cosines, truth, seed),
        n_seen=int(were_seen.sum()),
        unseen=unseen,
        details={
            "classes": names,
            "confusion": confusion.tolist(),
            "per_class": _per_class(names, confusion, seed),
            "confused": confused,
            "prompts": _wording(task, choice, test.vectors, truth, predicted, vectors, seed),
        },
        notes=task.notes,
        warnings=tuple(warnings),
        shown=tuple(dict.fromkeys(id_ for cell in confused for id_ in cell["pictures"])),
        items={
            "item": [picture.picture_id for picture in test.pictures],
            "truth": [names[row] for row in truth],
            "predicted": [names[row] for row in predicted],
            "seen": were_seen.tolist(),
            **_top_hits(cosines, truth),
        },
    )


def _check(task: ZeroShot, seen: np.ndarray | None) -> None:
    """Refuse a task that contradicts itself.

    Raises:
        ValueError: it does.
    """
    names = {label.name for label in task.classes}
    if not names or len(names) < len(task.classes):
        why = "two classes have one name" if names else "there are no classes to sort into"
        message = f"{task.name}: {why}"
        raise ValueError(message)
    development = (task.development_pictures, task.development_labels, "development ")
    for pictures, labels, what in ((task.pictures, task.labels, ""), development):
        if len(pictures) != len(labels):
            message = f"{task.name}: {len(pictures)} {what}pictures have {len(labels)} labels"
            raise ValueError(message)
        try:
            checked_labels(labels, len(task.classes))
        except ValueError as exc:
            message = f"{task.name}, {what}pictures: {exc}"
            raise ValueError(message) from exc
    check_length(task, "pictures", len(task.pictures), seen)
    ids: set[str] = set()
    for picture in (*task.pictures, *task.development_pictures):
        if picture.picture_id in ids:
            message = f"{task.name}: there are two pictures with the id {picture.picture_id}"
            raise ValueError(message)
        ids.add(picture.picture_id)


def _choose(task: ZeroShot, vectors: Vectors, given: str | None) -> tuple[_Choice, list[str]]:
    """Choose the style on the development pictures, which are all that is looked at."""
    development = readable_pictures(task.development_pictures, vectors, "development pictures")
    labels = task.development_labels[development.kept]
    n = len(labels)
    warnings = development.warnings
    styles = usable_styles(task.classes)
    if given is not None:
        class_prompts(task.classes[0], given)  # raises on a style that does not exist
        styles = tuple(dict.fromkeys((*styles, given)))
    scores = (
        style_scores(task.classes, development.vectors, labels, vectors, styles=styles) if n else {}
    )
    if given is not None:
        return _Choice(given, "given", scores, n), warnings
    if len(set(labels.tolist())) > 1:
        return _Choice(choose_style(scores), "development", scores, n), warnings
    if n:
        warnings.append(
            f"All {n:,} development pictures are of one class, which is no ground to choose "
            f"prompts on; the default is taken, '{DEFAULT_STYLE}'."
        )
    return _Choice(DEFAULT_STYLE, "default", scores, n), warnings


def _same_words(classes: Sequence[ClassLabel]) -> list[str]:
    names: dict[str, list[str]] = {}
    for label in classes:
        names.setdefault(label.words.casefold(), []).append(label.name)
    return [
        f"{' and '.join(alike)} are all said as '{words}', so that only the first can win."
        for words, alike in names.items()
        if len(alike) > 1
    ]


def _imbalances(classes: Sequence[ClassLabel], labels: np.ndarray) -> list[str]:
    counts = np.bincount(labels, minlength=len(classes))
    without = [label.name for label, count in zip(classes, counts, strict=True) if not count]
    warnings = []
    if len(classes) == 1:
        warnings.append("There is one class only, so that no label can be wrong.")
    elif len(without) == len(classes) - 1:
        only = classes[int(counts.argmax())].name
        warnings.append(f"All pictures are of one class, {only}; F1 says little about the model.")
    elif without:
        warnings.append(
            f"{len(without)} of {len(classes)} classes have no picture: {some_of(without)}. They "
            "have no share in weighted F1, and count in macro F1 only if one is predicted."
        )
    return warnings


def _figures(cosines: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, Figure]:
    n, n_classes = cosines.shape
    confusion = confusion_matrix(truth, np.argmax(cosines, axis=1), n_classes)
    intervals = confusion_intervals(confusion, tuple(_OF_CONFUSION.values()), seed=seed)
    figures = {
        name: Figure(float(metric(confusion)), low, high, n)
        for (name, metric), (low, high) in zip(_OF_CONFUSION.items(), intervals, strict=True)
    }
    for name, hits in _top_hits(cosines, truth).items():
        figures[name] = Figure(float(np.mean(hits)), *mean_interval(np.array(hits), seed=seed), n)
    return figures


def _top_hits(cosines: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    """Whether each picture's class is among the first five, where there are more than five."""
    if cosines.shape[1] <= _TOP:
        return {}
    return {f"top_{_TOP}": top_k_hits(cosines, truth, _TOP).astype(np.float64).tolist()}


def _per_class(names: Sequence[str], confusion: np.ndarray, seed: int) -> list[dict[str, Any]]:
    ends = class_intervals(confusion, [metric for metric, _ in _OF_CLASS.values()], seed=seed)
    found: list[dict[str, Any]] = [{"name": name} for name in names]
    for (key, (metric, axis)), (low, high) in zip(_OF_CLASS.items(), ends, strict=True):
        columns = (metric(confusion), low, high, confusion.sum(axis=axis))
        for row, *values in zip(found, *(column.tolist() for column in columns), strict=True):
            row[key] = Figure(*values)
    return found


def _confused(
    task: ZeroShot,
    pictures: Sequence[Picture],
    truth: np.ndarray,
    cosines: np.ndarray,
    predicted: np.ndarray,
    logit_scale: float,
) -> list[dict[str, Any]]:
    """The fullest cells off the diagonal, each with the pictures that were most surely wrong."""
    logits = logit_scale * (cosines - cosines.max(axis=1, keepdims=True)).astype(np.float64)
    probability = 1 / np.exp(logits).sum(axis=1)  # of the predicted class, whose logit is 0 here
    confusion = confusion_matrix(truth, predicted, len(task.classes))
    np.fill_diagonal(confusion, 0)
    worst = np.argsort(-confusion, axis=None, kind="stable")[:_N_CONFUSED]
    cells = []
    for cell in worst[confusion.flat[worst] > 0]:
        right, wrong = divmod(int(cell), len(task.classes))
        rows = np.flatnonzero((truth == right) & (predicted == wrong))
        surest = rows[np.argsort(-probability[rows], kind="stable")[:_N_PICTURES]]
        cells.append(
            {
                "truth": task.classes[right].name,
                "predicted": task.classes[wrong].name,
                "n": len(rows),
                "pictures": [pictures[row].picture_id for row in surest],
            }
        )
    return cells


def _wording(
    task: ZeroShot,
    choice: _Choice,
    pictures: Float[np.ndarray, "n d"],
    truth: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    vectors: Vectors,
    seed: int,
) -> dict[str, Any]:
    """How much hangs on the words: every style's figures, and what small changes do."""
    classes = task.classes
    styles = tuple(dict.fromkeys((*usable_styles(classes), choice.style)))
    on_test = style_scores(classes, pictures, truth, vectors, styles=styles)
    was_right = (predicted == truth).astype(np.float64)
    changes = {}
    for change, words in changed_vectors(classes, choice.style, vectors).items():
        labels = np.argmax(pictures @ words.T, axis=1)
        changes[change] = {
            "flips": mean_figure((labels != predicted).astype(np.float64), seed),
            "accuracy": mean_figure((labels == truth) - was_right, seed),
        }
    return {
        "chosen": choice.style,
        "by": choice.by,
        "development": task.development,
        "n_development": choice.n_development,
        "styles": {
            style: {"development": choice.development.get(style), "test": on_test[style]}
            for style in styles
        },
        "words": {label.name: class_prompts(label, choice.style)[:_N_WORDS] for label in classes},
        "changes": changes,
    }
