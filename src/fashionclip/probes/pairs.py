"""Scoring of right captions against wrong ones of the same picture, with a text-only baseline.

Source of the baseline: compositionality tests can often be won without the picture, because wrong
captions sound less likely (Hsieh et al. 2023, SugarCrepe). A model of two towers gives no
likelihood of a text. Here the captions are compared with the mean vector of the probe's other
pictures, which knows the kind of pictures and nothing of this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.engines.io import to_unit
from fashionclip.evaluate.results import Figure, TaskResult
from fashionclip.evaluate.scoring import readable_images
from fashionclip.evaluate.tasks import Encoder, ImageRef
from fashionclip.probes.figures import MIN_ITEMS, figures_of, nothing, result_of, too_few

HEADLINE = "right_first"
_MAX_LOST = 8  # in a report
_TIE = 1e-6  # cosines that differ by less are equal: they are sums of rounded products


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """One picture, captions that are right for it and captions that are wrong."""

    image: ImageRef
    cluster: str
    """Contests that share it count as one item: they are no independent evidence."""
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    group: str = ""
    """What a report breaks the figure down by: the attribute that is changed."""


@dataclass(frozen=True, slots=True, eq=False)
class CaptionProbe:
    """Contests that test one ability; all have as many right captions, and as many wrong ones."""

    name: str
    """``sample/swap``."""
    contests: tuple[Contest, ...]
    notes: tuple[str, ...]
    heading: str = "By attribute"
    """Of the groups."""
    right_names: tuple[str, ...] = ()
    """What each of several right captions is, for a figure of each: ``("original", …)``."""

    @property
    def chance(self) -> float:
        """What a random order of the captions gives."""
        n_right, n_wrong = len(self.contests[0].right), len(self.contests[0].wrong)
        return factorial(n_right) * factorial(n_wrong) / factorial(n_right + n_wrong)

    @property
    def n_items(self) -> int:
        """Products or scenes."""
        return len({contest.cluster for contest in self.contests})


def score_captions(
    probe: CaptionProbe,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " contest"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Compare each picture with its right and wrong captions.

    A contest is won where every right caption has a larger cosine with the picture than every wrong
    one; a tie is lost. Contests of one cluster are averaged first: the items are clusters.

    Args:
        probe: pictures and captions.
        encoder: of the model.
        seen: marks the contests whose pictures the model was trained on; ``unseen`` holds the
            figures without the items that have one.
        seed: of the bootstrap.

    Returns:
        ``right_first`` (the headline); ``text_only``, the same with the mean vector of the other
        items' pictures in the place of the picture; ``over_text_only``, their difference item by
        item; for one right and one wrong caption ``shorter``, which always choosing the shorter one
        would give. ``details`` holds ``chance`` and ``groups``. Without figures, and with a warning
        that says why, where fewer than ``MIN_ITEMS`` items can be scored or all captions have one
        vector.
    """
    pictures = {contest.image.image_id: contest.image for contest in probe.contests}
    found = readable_images(list(pictures.values()), encoder)
    left_out = len(pictures) - len(found.images)
    row_of = {image.image_id: row for row, image in enumerate(found.images)}
    kept = np.array([contest.image.image_id in row_of for contest in probe.contests])
    contests = [c for c, ok in zip(probe.contests, kept, strict=True) if ok]
    clusters = list(dict.fromkeys(contest.cluster for contest in contests))
    if len(clusters) < MIN_ITEMS:
        return nothing(probe.name, HEADLINE, left_out, too_few(len(clusters)), found.warnings)
    place = {name: row for row, name in enumerate(clusters)}
    rows = np.array([place[contest.cluster] for contest in contests])
    captions = list(dict.fromkeys(text for c in contests for text in (*c.right, *c.wrong)))
    images = found.vectors[[row_of[contest.image.image_id] for contest in contests]]
    texts = encoder.encode_text(captions)
    if np.ptp(texts, axis=0).max() == 0:
        why = "the model gives all captions the same vector"
        return nothing(probe.name, HEADLINE, left_out, why, found.warnings)
    vectors = dict(zip(captions, texts, strict=True))
    marks = np.zeros(len(contests)) if seen is None else seen[kept].astype(np.float64)
    is_seen = _per_item(marks, rows) > 0
    cosines = _cosines(contests, images, vectors)
    each = _each(cosines)
    won = each.min(axis=1)
    blind = _each(_cosines(contests, _means_of_others(images, rows), vectors)).min(axis=1)
    columns = {HEADLINE: _per_item(won, rows), "text_only": _per_item(blind, rows)}
    columns["over_text_only"] = columns[HEADLINE] - columns["text_only"]
    if probe.chance == 0.5:
        columns["shorter"] = _per_item(np.array([_is_shorter(c) for c in contests]), rows)
    lost = _lost(contests, cosines)
    return result_of(
        probe.name,
        HEADLINE,
        items=clusters,
        columns=columns,
        seen=is_seen,
        left_out=left_out,
        details={
            "chance": {HEADLINE: probe.chance, "text_only": probe.chance},
            "groups": _groups(probe, contests, rows, won, each),
            "lost": lost,
        },
        notes=(
            _example(contests[0]),
            f"{len(contests):,} comparisons on {len(clusters):,} products or scenes, each of which "
            "counts once.",
            *probe.notes,
        ),
        warnings=found.warnings,
        shown=[row["picture"] for row in lost],
        seed=seed,
    )


def _example(contest: Contest) -> str:
    right, wrong = ("” and “".join(texts) for texts in (contest.right, contest.wrong))
    return f"For example, “{right}” against “{wrong}”."


def _cosines(
    contests: Sequence[Contest],
    images: Float[np.ndarray, "n d"],
    vectors: Mapping[str, np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each contest, the cosines of its right captions and of its wrong ones."""
    return [
        (
            np.stack([vectors[text] for text in contest.right]) @ image,
            np.stack([vectors[text] for text in contest.wrong]) @ image,
        )
        for contest, image in zip(contests, images, strict=True)
    ]


def _each(cosines: Sequence[tuple[np.ndarray, np.ndarray]]) -> Float[np.ndarray, "n right"]:
    """For each right caption by itself, 1 where it is closer than every wrong one, else 0."""
    return np.array([(right > wrong.max() + _TIE).astype(float) for right, wrong in cosines])


def _lost(
    contests: Sequence[Contest], cosines: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, str]]:
    """The contests that are lost by the largest margins: picture, right and preferred caption."""
    found = []
    for contest, (right, wrong) in zip(contests, cosines, strict=True):
        row = {
            "picture": contest.image.image_id,
            "right": contest.right[int(right.argmin())],
            "preferred": contest.wrong[int(wrong.argmax())],
        }
        found.append((float(right.min() - wrong.max()), row))
    found.sort(key=lambda one: one[0])
    return [row for margin, row in found[:_MAX_LOST] if margin < 0]


def _means_of_others(
    images: Float[np.ndarray, "n d"], rows: np.ndarray
) -> Float[np.ndarray, "n d"]:
    """For each picture the unit mean of the pictures of all other items."""
    sums = np.zeros((rows.max() + 1, images.shape[1]))
    np.add.at(sums, rows, images.astype(np.float64))
    return to_unit((sums.sum(axis=0) - sums[rows]).astype(np.float32))


def _per_item(values: Float[np.ndarray, " n"], rows: np.ndarray) -> Float[np.ndarray, " item"]:
    """The mean of each item's contests."""
    return np.asarray(np.bincount(rows, weights=values) / np.bincount(rows))


def _is_shorter(contest: Contest) -> float:
    """1 where the right caption has fewer characters, a half where both have as many."""
    longer = len(contest.wrong[0]) - len(contest.right[0])
    return 0.5 if longer == 0 else float(longer > 0)


def _groups(
    probe: CaptionProbe,
    contests: Sequence[Contest],
    rows: np.ndarray,
    won: np.ndarray,
    each: np.ndarray,
) -> dict[str, dict[str, Figure]]:
    found: dict[str, dict[str, Figure]] = {}
    names = np.array([contest.group for contest in contests])
    of_group = {}
    for name in sorted(set(names.tolist()) - {""}):
        ours = names == name
        if len(set(rows[ours].tolist())) >= MIN_ITEMS:
            of_group[name] = _figure(won[ours], rows[ours])
    if len(of_group) > 1:
        found[probe.heading] = of_group
    if probe.right_names:
        found["Each caption by itself"] = {
            name: _figure(each[:, column], rows) for column, name in enumerate(probe.right_names)
        }
    return found


def _figure(values: np.ndarray, rows: np.ndarray) -> Figure:
    items = np.unique(rows, return_inverse=True)[1]
    return figures_of({HEADLINE: _per_item(values, items)}, seed=0)[HEADLINE]
