"""Scoring whether a model tells the right caption from one with a single word changed.

Source of the question: compositionality tests of CLIP-like models, such as ARO (Yuksekgonul et al.
2023), here with one attribute of a garment at a time.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.evaluate.scoring import (
    check_length,
    mean_figure,
    mean_figures,
    nothing_measured,
    readable_pictures,
    seen_entirely,
)
from fashionclip.evaluate.tasks import Picture, Vectors, WrongAttribute

HEADLINE = "win_rate"
_N_LOST, _N_PICTURES = 8, 4  # as many as a report has room for
_ARTICLES = frozenset({"a", "an", "the"})


def score_wrong_attribute(
    task: WrongAttribute,
    vectors: Vectors,
    *,
    seen: Bool[np.ndarray, " picture"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Compare each picture with its right caption and with the wrong ones.

    The right caption wins where its cosine with the picture is larger; a draw is lost.

    Args:
        task: pictures and captions.
        vectors: of the model.
        seen: marks the pictures that the model was trained on; ``unseen`` holds the figures
            without them.
        seed: of the bootstrap.

    Returns:
        ``win_rate`` (the headline: the share of wrong captions that lose, each picture counting
        alike; by chance 0.5) and ``beats_all``. ``details`` holds ``attribute``, ``by_value`` (the
        win rate of each right word) and ``lost_to``, the eight most frequent confusions, each with
        the pictures that were lost by most.

    Raises:
        ValueError: a task whose parts differ in length, or a picture without a wrong caption.
    """
    _check(task, seen)
    found = readable_pictures(task.pictures, vectors)
    n, left_out = len(found.pictures), len(task.pictures) - len(found.pictures)
    if not n:
        why = "none of its pictures can be read" if left_out else "it has no pictures"
        return nothing_measured(task, "wrong-attribute", HEADLINE, left_out, why, found.warnings)
    places = np.flatnonzero(found.kept)
    margins = _margins(task, places.tolist(), found.vectors, vectors)
    columns = {
        HEADLINE: np.array([(margin > 0).mean() for margin in margins]),
        "beats_all": np.array([float((margin > 0).all()) for margin in margins]),
    }
    were_seen = np.zeros(n, bool) if seen is None else seen[found.kept]
    warnings = list(found.warnings)
    if were_seen.all():
        warnings.append(seen_entirely(n, "pictures"))
    lost_to = _lost_to(task, places.tolist(), margins, found.pictures)
    return TaskResult(
        task=task.name,
        kind="wrong-attribute",
        headline=HEADLINE,
        n=n,
        left_out=left_out,
        figures=mean_figures(columns, np.ones(n, bool), seed),
        n_seen=int(were_seen.sum()),
        unseen=mean_figures(columns, ~were_seen, seed) if were_seen.any() else {},
        details={
            "attribute": task.attribute,
            "by_value": _by_value([task.values[row] for row in places], columns[HEADLINE], seed),
            "lost_to": lost_to,
        },
        notes=task.notes,
        warnings=tuple(warnings),
        shown=tuple(dict.fromkeys(id_ for row in lost_to for id_ in row["pictures"])),
        items={
            "item": [picture.picture_id for picture in found.pictures],
            "seen": were_seen.tolist(),
            **{name: column.tolist() for name, column in columns.items()},
        },
    )


def _check(task: WrongAttribute, seen: np.ndarray | None) -> None:
    """Refuse a task that contradicts itself.

    Raises:
        ValueError: it does.
    """
    n = len(task.pictures)
    for what in ("values", "right", "wrong"):
        if len(given := getattr(task, what)) != n:
            message = f"{task.name}: {n} pictures have {len(given)} '{what}'"
            raise ValueError(message)
    for picture, wrong in zip(task.pictures, task.wrong, strict=True):
        if not wrong:
            message = f"{task.name}: picture {picture.picture_id} has no wrong caption"
            raise ValueError(message)
    check_length(task, "pictures", n, seen)


def _margins(
    task: WrongAttribute, places: Sequence[int], pictures: np.ndarray, vectors: Vectors
) -> list[Float[np.ndarray, " _"]]:
    """How much nearer the right caption is than each wrong one, for each picture."""
    captions = {caption: None for row in places for caption in (task.right[row], *task.wrong[row])}
    line = {caption: i for i, caption in enumerate(captions)}
    words = vectors.texts(list(captions))
    margins = []
    for picture, row in zip(pictures, places, strict=True):
        cosines = words[[line[c] for c in (task.right[row], *task.wrong[row])]] @ picture
        margins.append(cosines[0] - cosines[1:])
    return margins


def _by_value(values: Sequence[str], win_rates: np.ndarray, seed: int) -> dict[str, Figure]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        rows[value].append(row)
    return {value: mean_figure(win_rates[found], seed) for value, found in sorted(rows.items())}


def _lost_to(
    task: WrongAttribute,
    places: Sequence[int],
    margins: Sequence[np.ndarray],
    pictures: Sequence[Picture],
) -> list[dict[str, Any]]:
    lost: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for row, margin, picture in zip(places, margins, pictures, strict=True):
        for wrong, by in zip(task.wrong[row], margin.tolist(), strict=True):
            if by <= 0:
                pair = (task.values[row], _changed_words(wrong, task.right[row]))
                lost[pair].append((by, picture.picture_id))
    worst = sorted(lost.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_N_LOST]
    return [
        {
            "right": right,
            "wrong": wrong,
            "n": len(found),
            "pictures": [id_ for _, id_ in sorted(found)[:_N_PICTURES]],
        }
        for (right, wrong), found in worst
    ]


def _changed_words(caption: str, other: str) -> str:
    """What one caption says in place of the other's words: ``orange`` of ``an orange cap``."""
    ours, theirs = caption.split(), other.split()
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    while ours and (ours[0] in _ARTICLES or (theirs and ours[0] == theirs[0])):
        ours.pop(0)
        theirs = theirs[1:]
    return " ".join(ours) or caption
