"""Scoring of captions with one wrong word: does the right caption have the larger cosine?

Source of the question: compositionality tests of CLIP-like models, such as ARO (Yuksekgonul et al.
2023), here with one attribute of a garment at a time.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.evaluate.results import TaskResult
from fashionclip.evaluate.scoring import (
    check_seen,
    empty_result,
    mean_figure,
    mean_figures,
    readable_images,
    seen_among,
    task_result,
)
from fashionclip.evaluate.tasks import Encoder, ImageRef, WrongAttribute

HEADLINE = "win_rate"
_MAX_LOST, _MAX_IMAGES = 8, 4  # in a report
_ARTICLES = frozenset({"a", "an", "the"})


def score_wrong_attribute(
    task: WrongAttribute,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " image"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Compare each image with its right caption and with the wrong ones.

    The right caption wins where its cosine with the image is larger; a tie is lost.

    Args:
        task: images and captions.
        encoder: of the model.
        seen: marks the images that the model was trained on; ``unseen`` holds the figures
            without them.
        seed: of the bootstrap.

    Returns:
        ``win_rate`` (the headline: the share of wrong captions that lose, each image counting the
        same; by chance 0.5) and ``beats_all``. ``details`` holds ``attribute``, ``by_value`` (the
        win rate of each right word) and ``lost_to``, the eight most frequent confusions, each with
        the images of the largest margins.

    Raises:
        ValueError: a task whose parts differ in length, or an image without a wrong caption.
    """
    _check(task, seen)
    found = readable_images(task.images, encoder)
    left_out = len(task.images) - len(found.images)
    if not found.images:
        why = "none of its pictures can be read" if left_out else "it has no pictures"
        return empty_result(task, "wrong-attribute", HEADLINE, left_out, why, found.warnings)
    rows = np.flatnonzero(found.kept).tolist()
    margins = _margins(task, rows, found.vectors, encoder)
    columns = {
        HEADLINE: np.array([(margin > 0).mean() for margin in margins]),
        "beats_all": np.array([float((margin > 0).all()) for margin in margins]),
    }
    by_value: dict[str, list[float]] = defaultdict(list)
    for row, win_rate in zip(rows, columns[HEADLINE].tolist(), strict=True):
        by_value[task.values[row]].append(win_rate)
    lost_to = _lost_to(task, rows, margins, found.images)
    return task_result(
        task,
        "wrong-attribute",
        HEADLINE,
        unit="pictures",
        seen=seen_among(seen, found.kept),
        left_out=left_out,
        figures_of=lambda kept: mean_figures(columns, kept, seed),
        details={
            "attribute": task.attribute,
            "by_value": {
                value: mean_figure(np.array(win_rates), seed)
                for value, win_rates in sorted(by_value.items())
            },
            "lost_to": lost_to,
        },
        warnings=found.warnings,
        shown=[image_id for row in lost_to for image_id in row["pictures"]],
        items={
            "item": [image.image_id for image in found.images],
            **{name: column.tolist() for name, column in columns.items()},
        },
    )


def _check(task: WrongAttribute, seen: np.ndarray | None) -> None:
    n = len(task.images)
    for what in ("values", "right", "wrong"):
        if len(given := getattr(task, what)) != n:
            message = f"{task.name}: {n} images have {len(given)} '{what}'"
            raise ValueError(message)
    for image, wrong in zip(task.images, task.wrong, strict=True):
        if not wrong:
            message = f"{task.name}: image {image.image_id} has no wrong caption"
            raise ValueError(message)
    check_seen(task, n, seen)


def _margins(
    task: WrongAttribute, rows: Sequence[int], images: np.ndarray, encoder: Encoder
) -> list[Float[np.ndarray, " _"]]:
    """The cosine of the right caption minus that of each wrong one, for each image."""
    captions = {caption: None for row in rows for caption in (task.right[row], *task.wrong[row])}
    place = {caption: i for i, caption in enumerate(captions)}
    texts = encoder.encode_text(list(captions))
    margins = []
    for image, row in zip(images, rows, strict=True):
        cosines = texts[[place[c] for c in (task.right[row], *task.wrong[row])]] @ image
        margins.append(cosines[0] - cosines[1:])
    return margins


def _lost_to(
    task: WrongAttribute,
    rows: Sequence[int],
    margins: Sequence[np.ndarray],
    images: Sequence[ImageRef],
) -> list[dict[str, Any]]:
    lost: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for row, margin, image in zip(rows, margins, images, strict=True):
        for wrong, by in zip(task.wrong[row], margin.tolist(), strict=True):
            if by <= 0:
                pair = (task.values[row], _changed_words(wrong, task.right[row]))
                lost[pair].append((by, image.image_id))
    worst = sorted(lost.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_MAX_LOST]
    return [
        {
            "right": right,
            "wrong": wrong,
            "n": len(found),
            "pictures": [image_id for _, image_id in sorted(found)[:_MAX_IMAGES]],
        }
        for (right, wrong), found in worst
    ]


def _changed_words(caption: str, other: str) -> str:
    """The words of one caption that the other has not: ``orange`` of ``an orange cap``."""
    ours, theirs = caption.split(), other.split()
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    while ours and (ours[0] in _ARTICLES or (theirs and ours[0] == theirs[0])):
        ours.pop(0)
        theirs = theirs[1:]
    return " ".join(ours) or caption
