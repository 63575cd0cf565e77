"""Faults of pictures: each learned from copies of the shop's pictures into which it was drawn."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from fashionclip.doctor.certainty import MIN_PRODUCTS, confidences
from fashionclip.doctor.evidence import evidence_for
from fashionclip.doctor.findings import Finding, Kind
from fashionclip.doctor.linear import FOLDS, fit_logistic, score_logistic
from fashionclip.doctor.shop import Pictures, Shop, picture_finding

LEARNED: tuple[Kind, ...] = (
    *("several_products", "no_product", "text_overlay", "watermark"),
    *("cut_off", "blurred", "dark", "other_ground"),
)
"""The kinds that are drawn into copies."""
MIN_FOUND = 0.3
"""A kind is not judged where fewer of the drawn faults are found: the pictures do not show it."""
MAX_SHARE_SMALL = 0.05
"""Sizes that more of a shop's pictures have are usual there."""
SMALL = 0.5
"""A picture is small if its short side is below this share of the shop's median."""
MAX_COMPONENTS = 128
MAX_SOUND = 1_600
"""Pictures as they are that a fit uses; more change little."""
_CLIP = 6.0


@dataclass(frozen=True, slots=True)
class Judged:
    """How a kind was judged in one shop."""

    kind: Kind
    found: float
    """The share of drawn faults that the least confidence finds, scored out of fold."""
    n_drawn: int
    reason: str = ""
    """Why it was not judged; empty if it was."""


def judge_pictures(
    shop: Shop, least: float, kinds: Collection[Kind] = LEARNED
) -> tuple[list[Finding], list[Judged]]:
    """Find pictures with faults, and say how well each kind can be found in this shop.

    Args:
        shop: the catalogue.
        least: confidence of a finding, 0…1.
        kinds: the kinds to judge.
    """
    wanted = [kind for kind in LEARNED if kind in kinds]
    findings, judged = _learned(shop, least, wanted) if wanted else ([], [])
    small, of_small = _low_resolution(shop, least)
    return [*findings, *small], [*judged, of_small]


def _learned(shop: Shop, least: float, kinds: Sequence[Kind]) -> tuple[list[Finding], list[Judged]]:
    """Faults of the kinds that are learned from drawn ones."""
    n_drawn = len(shop.drawn_rows)
    if min(len(shop.ids), n_drawn) < MIN_PRODUCTS:
        reason = (
            f"{len(shop.ids):,} pictures are too few to learn what is usual (at least "
            f"{MIN_PRODUCTS})"
        )
        return [], [Judged(kind, float("nan"), n_drawn, reason) for kind in kinds]
    findings: list[Finding] = []
    judged: list[Judged] = []
    features = _Features(shop)
    for kind in kinds:
        scores, faulty = features.out_of_fold(kind)
        confidence, of_drawn = confidences(scores, faulty)
        found = float((of_drawn >= least).mean())
        if found < MIN_FOUND:
            reason = f"only {found:.0%} of those drawn into this shop's pictures would be found"
            judged.append(Judged(kind, found, n_drawn, reason))
            continue
        judged.append(Judged(kind, found, n_drawn))
        findings += [
            picture_finding(shop, kind, row, evidence_for(shop, kind, row), float(confidence[row]))
            for row in np.flatnonzero(confidence >= least).tolist()
        ]
    return findings, judged


class _Features:
    """Vectors and measures of the shop's pictures and of the drawn ones, on one scale."""

    def __init__(self, shop: Shop) -> None:
        self._drawn_rows = np.array(shop.drawn_rows)
        self.fold = np.array([digest[0] % FOLDS for digest in shop.digests])
        copies = [shop.drawn[kind] for kind in shop.drawn]
        everything = np.concatenate(
            [shop.pictures.vectors[:: _step(shop)], *(c.vectors for c in copies)]
        )
        self._centre = everything.mean(axis=0)
        centred = everything - self._centre
        _, _, axes = np.linalg.svd(centred.T @ centred, hermitian=True)
        self._axes = axes[:MAX_COMPONENTS].T
        own = shop.pictures.measures
        low, self._middle, high = np.quantile(own, (0.25, 0.5, 0.75), axis=0)
        self._spread = np.maximum((high - low) / 1.35, 0.5 * own.std(axis=0)) + 0.02
        self._scale = (centred @ self._axes).std(axis=0) + 1e-6
        self._own = self._of(shop.pictures)
        self._copies = {kind: self._of(pictures) for kind, pictures in shop.drawn.items()}

    def _of(self, pictures: Pictures) -> np.ndarray:
        z = np.clip((pictures.measures - self._middle) / self._spread, -_CLIP, _CLIP)
        components = ((pictures.vectors - self._centre) @ self._axes) / self._scale
        return np.concatenate([components, z, np.abs(z)], axis=1).astype(np.float32)

    def out_of_fold(self, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
        """Log odds of the shop's pictures and of the drawn ones, by models of other folds."""
        copies, as_they_are = self._copies[kind], self._copies["as_it_is"]
        of_copies = self.fold[self._drawn_rows]
        scores, faulty = np.zeros(len(self._own)), np.zeros(len(copies))
        some = np.arange(0, len(self._own), max(1, len(self._own) // MAX_SOUND))
        for k in range(FOLDS):
            sound = some[self.fold[some] != k]
            fit = of_copies != k
            rows = np.concatenate([self._own[sound], as_they_are[fit], copies[fit]])
            is_faulty = np.zeros(len(rows), bool)
            is_faulty[len(rows) - int(fit.sum()) :] = True
            w = fit_logistic(rows, is_faulty)
            held = self.fold == k
            scores[held] = score_logistic(self._own[held], w)
            faulty[~fit] = score_logistic(copies[~fit], w)
        return scores, faulty


def _step(shop: Shop) -> int:
    return max(1, len(shop.ids) // (2 * MAX_SOUND))


def _low_resolution(shop: Shop, least: float) -> tuple[list[Finding], Judged]:
    """Small pictures, by the pixels of their files."""
    n, nan = len(shop.ids), float("nan")
    if n < MIN_PRODUCTS:
        return [], Judged("low_resolution", nan, 0, f"{n:,} pictures are too few")
    short, long = (2.0 ** shop.measure(name) for name in ("short_side", "long_side"))
    usual = float(np.median(short))
    rows: Sequence[int] = np.flatnonzero(short / usual < SMALL).tolist()
    if len(rows) > MAX_SHARE_SMALL * n:
        reason = f"{len(rows) / n:.0%} of the pictures are small"
        return [], Judged("low_resolution", nan, 0, reason)
    findings = []
    for row in rows:
        confidence = float(np.clip(1.2 - short[row] / usual, 0, 0.99))
        if confidence >= least:
            words = (
                f"its sides have {short[row]:.0f} and {long[row]:.0f} pixels; half of this shop's "
                f"pictures have a short side of {usual:.0f} or more"
            )
            findings.append(picture_finding(shop, "low_resolution", row, words, confidence))
    return findings, Judged("low_resolution", nan, 0)
