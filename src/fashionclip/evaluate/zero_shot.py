"""Scoring of zero-shot classification.

The label of an image is the class whose vector has the largest cosine with the image's, the first
of equal ones. The prompts are chosen on development images before a test image is scored.
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
    check_style,
    choose_style,
    class_prompts,
    class_vectors,
    style_scores,
    usable_styles,
)
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.evaluate.scoring import (
    check_labels,
    check_seen,
    empty_result,
    examples_of,
    label_figures,
    mean_figure,
    mean_figures,
    readable_images,
    seen_among,
    task_result,
)
from fashionclip.evaluate.tasks import ClassLabel, Encoder, ImageRef, ZeroShot
from fashionclip.metrics.classification import (
    LabelMetric,
    confusion_matrix,
    f1_per_class,
    majority_baseline,
    precision_per_class,
    recall_per_class,
    top_k_hits,
)
from fashionclip.metrics.intervals import confusion_intervals
from fashionclip.metrics.registry import METRICS

HEADLINE = "weighted_f1"
_LABEL_METRICS = (HEADLINE, "macro_f1", "accuracy")
_CLASS_METRICS: Mapping[str, tuple[LabelMetric, int]] = MappingProxyType(
    {
        "precision": (precision_per_class, 0),
        "recall": (recall_per_class, 1),
        "f1": (f1_per_class, 1),
    }
)
"""Metrics of a class, and whether they are over its predictions (0) or its images (1)."""
_TOP = 5  # reported only where there are more classes
_MAX_CONFUSED, _MAX_IMAGES, _MAX_PROMPTS = 8, 4, 6  # in a report


@dataclass(frozen=True, slots=True)
class _Choice:
    """The style of the prompts, and how it was chosen."""

    style: str
    by: Literal["given", "development", "default"]
    development: Mapping[str, Figure]
    n_development: int


def score_zero_shot(
    task: ZeroShot,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " image"] | None = None,
    prompts: str | None = None,
    seed: int = 0,
) -> TaskResult:
    """Classify a task's images and compare the labels with the true ones.

    Args:
        task: the images and the classes.
        encoder: of the model.
        seen: marks the images that the model was trained on; ``unseen`` holds the figures
            without them.
        prompts: a style of ``prompts.STYLES``; None chooses on the development images, by
            weighted F1, and takes the ensemble where there are none.
        seed: of the bootstrap.

    Returns:
        Weighted F1 (the headline), macro F1, accuracy, and with more than five classes top-5. No
        figure at all if not one image can be scored; ``warnings`` says so. ``details`` holds
        ``classes``, ``confusion`` (rows are the truth), ``chance`` (what the commonest label comes
        to), ``per_class``, ``confused`` (the eight largest cells off the diagonal, each with its
        most confident images) and ``prompts``: the style that was chosen and how, every style's
        weighted F1 on development and test images, and for each change of the words the share of
        images whose label ``flips`` and the change of ``accuracy``.

    Raises:
        ValueError: labels without a class, a label too many or too few, an id given twice, an
            image that is in the test and the development split, no classes, a class given twice,
            or an unknown style.
    """
    _check(task, seen)
    classes = task.classes
    choice, warnings = _choose(task, encoder, prompts)
    test = readable_images(task.images, encoder)
    truth = task.labels[test.kept]
    warnings = [*test.warnings, *warnings]
    n, left_out = len(test.images), len(task.images) - len(test.images)
    if not n:
        why = "none of its pictures can be read" if left_out else "it has no pictures"
        return empty_result(task, "zero-shot", HEADLINE, left_out, why, warnings)
    warnings += [*_same_words(classes), *_imbalances(classes, truth)]
    cosines = test.vectors @ class_vectors(classes, choice.style, encoder).T
    predicted = np.argmax(cosines, axis=1)
    top = {}
    if len(classes) > _TOP:
        top = {f"top_{_TOP}": top_k_hits(cosines, truth, _TOP).astype(np.float64)}

    def figures_of(kept: Bool[np.ndarray, " n"]) -> dict[str, Figure]:
        labels = label_figures(truth[kept], predicted[kept], len(classes), _LABEL_METRICS, seed)
        return labels | mean_figures(top, kept, seed)

    confusion = confusion_matrix(truth, predicted, len(classes))
    chance = majority_baseline(truth, len(classes))
    metrics = {name: METRICS[name].of_labels for name in _LABEL_METRICS}
    names = [label.name for label in classes]
    confused = _confused(names, test.images, truth, cosines, confusion, encoder.logit_scale)
    return task_result(
        task,
        "zero-shot",
        HEADLINE,
        unit="pictures",
        seen=seen_among(seen, test.kept),
        left_out=left_out,
        figures_of=figures_of,
        details={
            "classes": names,
            "confusion": confusion.tolist(),
            "chance": {name: float(metric(chance)) for name, metric in metrics.items() if metric},
            "per_class": _per_class(names, confusion, seed),
            "confused": confused,
            "prompts": _prompt_details(task, choice, test.vectors, truth, predicted, encoder, seed),
        },
        warnings=warnings,
        shown=[image_id for cell in confused for image_id in cell["pictures"]],
        items={
            "item": [image.image_id for image in test.images],
            "truth": [names[row] for row in truth],
            "predicted": [names[row] for row in predicted],
            **{name: hits.tolist() for name, hits in top.items()},
        },
    )


def _check(task: ZeroShot, seen: np.ndarray | None) -> None:
    names = {label.name for label in task.classes}
    if not names or len(names) < len(task.classes):
        why = "two classes have one name" if names else "there are no classes"
        message = f"{task.name}: {why}"
        raise ValueError(message)
    n_classes = len(task.classes)
    check_labels(task, task.images, task.labels, n_classes)
    check_labels(task, task.development_images, task.development_labels, n_classes, "development ")
    check_seen(task, len(task.images), seen)
    ids: set[str] = set()
    for image in (*task.images, *task.development_images):
        if image.image_id in ids:
            message = f"{task.name}: there are two images with the id {image.image_id}"
            raise ValueError(message)
        ids.add(image.image_id)


def _choose(task: ZeroShot, encoder: Encoder, given: str | None) -> tuple[_Choice, list[str]]:
    """Choose the style on the development images alone."""
    if given is not None:
        check_style(given)
    development = readable_images(task.development_images, encoder, "development pictures")
    labels = task.development_labels[development.kept]
    n = len(labels)
    warnings = development.warnings
    styles = tuple(dict.fromkeys((*usable_styles(task.classes), *([given] if given else []))))
    scores = (
        style_scores(task.classes, development.vectors, labels, encoder, styles=styles) if n else {}
    )
    if given is not None:
        return _Choice(given, "given", scores, n), warnings
    if len(set(labels.tolist())) > 1:
        return _Choice(choose_style(scores), "development", scores, n), warnings
    if n:
        warnings.append(
            f"All {n:,} development pictures are of one class, so prompts cannot be chosen on "
            f"them; the default '{DEFAULT_STYLE}' is used."
        )
    return _Choice(DEFAULT_STYLE, "default", scores, n), warnings


def _same_words(classes: Sequence[ClassLabel]) -> list[str]:
    names: dict[str, list[str]] = {}
    for label in classes:
        names.setdefault(label.words.casefold(), []).append(label.name)
    return [
        f"{' and '.join(same)} have the same words, '{words}': only the first can be predicted."
        for words, same in names.items()
        if len(same) > 1
    ]


def _imbalances(classes: Sequence[ClassLabel], labels: np.ndarray) -> list[str]:
    counts = np.bincount(labels, minlength=len(classes))
    without = [label.name for label, count in zip(classes, counts, strict=True) if not count]
    if len(classes) == 1:
        return ["There is only one class, so every label is right."]
    if len(without) == len(classes) - 1:
        only = classes[int(counts.argmax())].name
        return [f"All pictures are of one class, {only}; F1 says little about the model."]
    if without:
        return [
            f"{len(without)} of {len(classes)} classes have no picture: {examples_of(without)}. "
            "They do not count in weighted F1, and in macro F1 only if one is predicted."
        ]
    return []


def _per_class(names: Sequence[str], confusion: np.ndarray, seed: int) -> list[dict[str, Any]]:
    metrics = [metric for metric, _ in _CLASS_METRICS.values()]
    intervals = confusion_intervals(confusion, metrics, seed=seed)
    found: list[dict[str, Any]] = [{"name": name} for name in names]
    for (key, (metric, axis)), (low, high) in zip(_CLASS_METRICS.items(), intervals, strict=True):
        columns = (metric(confusion), low, high, confusion.sum(axis=axis))
        for row, *values in zip(found, *(column.tolist() for column in columns), strict=True):
            row[key] = Figure(*values)
    return found


def _confused(
    names: Sequence[str],
    images: Sequence[ImageRef],
    truth: np.ndarray,
    cosines: np.ndarray,
    confusion: np.ndarray,
    logit_scale: float,
) -> list[dict[str, Any]]:
    """The largest cells off the diagonal, each with the images of the highest probability."""
    logits = logit_scale * (cosines - cosines.max(axis=1, keepdims=True)).astype(np.float64)
    probability = 1 / np.exp(logits).sum(axis=1)  # of the predicted class, whose logit is 0 here
    predicted = np.argmax(cosines, axis=1)
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    worst = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSED]
    found = []
    for cell in worst[wrong.flat[worst] > 0]:
        i_truth, i_predicted = divmod(int(cell), len(names))
        rows = np.flatnonzero((truth == i_truth) & (predicted == i_predicted))
        surest = rows[np.argsort(-probability[rows], kind="stable")[:_MAX_IMAGES]]
        found.append(
            {
                "truth": names[i_truth],
                "predicted": names[i_predicted],
                "n": len(rows),
                "pictures": [images[row].image_id for row in surest],
            }
        )
    return found


def _prompt_details(
    task: ZeroShot,
    choice: _Choice,
    vectors: Float[np.ndarray, "n d"],
    truth: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    encoder: Encoder,
    seed: int,
) -> dict[str, Any]:
    """How much depends on the prompts: the figures of every style, and of small changes."""
    classes = task.classes
    styles = tuple(dict.fromkeys((*usable_styles(classes), choice.style)))
    on_test = style_scores(classes, vectors, truth, encoder, styles=styles)
    was_right = (predicted == truth).astype(np.float64)
    changes = {}
    for change, changed in changed_vectors(classes, choice.style, encoder).items():
        labels = np.argmax(vectors @ changed.T, axis=1)
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
        "words": {c.name: class_prompts(c, choice.style)[:_MAX_PROMPTS] for c in classes},
        "changes": changes,
    }
