"""Captions and labels that do not fit the picture, by models that never saw the product itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from jaxtyping import Float, Float32, Int

from fashionclip.doctor.certainty import LABEL_PRIOR, LABEL_TAIL, MIN_PRODUCTS, confidences
from fashionclip.doctor.findings import MENDS, Finding, Kind, finding_key
from fashionclip.doctor.linear import FOLDS, class_log_probabilities
from fashionclip.doctor.shop import Shop, tell_apart

MIN_PER_CLASS = 10
"""Products with a label, below which its products are not judged."""
MAX_CLASSES = 200
MIN_KAPPA = 0.5
"""Agreement beyond chance (Cohen's κ) of predicted and given labels, below which a column is not
judged: pictures do not show it."""
MIN_FOUND = 0.05
"""Captions, or a column, are not judged where fewer wrong ones would be found."""
WEAK = "the model tells this shop's products apart too little by their words"
CLEAR_KAPPA, DOUBT = 0.68, 0.25
"""Below this agreement, a column's labels are taken to be wrong only this many times as often:
what looks wrong there is mostly hard to see."""
MIN_OF_TYPE = 30
"""Products of a type, below which a caption is judged among all products."""
MIN_RECOGNISED = 0.5
"""A label is suggested if at least this share of the products that carry it are recognised."""
MIN_LIKELY = 0.5
"""A label is suggested if it is at least this probable."""
ROBUST = 1.4826  # median absolute deviations to standard deviations of a normal distribution


@dataclass(frozen=True, slots=True)
class JudgedText:
    """How the captions or a column were judged."""

    name: str
    """``caption``, or a column."""
    kind: Kind
    """``caption``, ``category`` or ``attribute``."""
    n: int
    """Products that were judged."""
    found: float
    """The share of wrong ones, put in at random, that the least confidence finds."""
    agreement: float
    """Cohen's κ of predicted and given labels, out of fold; NaN for captions."""
    reason: str = ""
    """Why it was not judged; empty if it was."""


def judge_captions(
    shop: Shop, texts: Float32[np.ndarray, "n dim"], category: str | None, least: float
) -> tuple[list[Finding], JudgedText]:
    """Find captions that fit their pictures less than is usual among products of their type.

    The cosine of picture and caption is taken less the picture's mean cosine with all captions and
    the caption's with all pictures, and scaled by the median and the median absolute deviation of
    the product's own type. Wrong captions put in for comparison are those of other products.

    Args:
        shop: the catalogue.
        texts: unit vectors of its captions.
        category: the column of types, if the table has one.
        least: confidence of a finding, 0…1.
    """
    rows = np.flatnonzero([bool(caption) for caption in shop.captions])
    nan = float("nan")
    if len(rows) < MIN_PRODUCTS:
        return [], JudgedText(
            "caption", "caption", len(rows), nan, nan, f"{len(rows):,} captions are too few"
        )
    if not tell_apart(shop.captions):
        distinct = {shop.captions[row].casefold() for row in rows.tolist()}
        reason = f"{len(rows):,} products share {len(distinct):,} captions, which say too little"
        return [], JudgedText("caption", "caption", len(rows), nan, nan, reason)
    vectors, words = shop.pictures.vectors[rows], texts[rows]
    other = np.random.default_rng(0).permutation(len(rows))
    base_image, base_text = vectors @ words.mean(axis=0), words @ vectors.mean(axis=0)
    cosine = (vectors * words).sum(axis=1)
    own = cosine - base_image - base_text
    swapped = (vectors * words[other]).sum(axis=1) - base_image - base_text[other]
    is_other = np.array(
        [
            shop.captions[rows[i]].casefold() != shop.captions[rows[j]].casefold()
            for i, j in enumerate(other)
        ]
    )
    types = _codes(shop.labels.get(category or "", [""] * len(shop.ids)), MIN_OF_TYPE)[1][rows]
    middle, spread = _by_type(own, types)
    scores, faulty = -(own - middle) / spread, (-(swapped - middle) / spread)[is_other]
    confidence, of_swapped = confidences(scores, faulty, prior=LABEL_PRIOR)
    found = float((of_swapped >= least).mean())
    if found < MIN_FOUND:
        reason = f"only {found:.0%} of captions of other products would be found: {WEAK}"
        return [], JudgedText("caption", "caption", len(rows), found, nan, reason)
    judged = JudgedText("caption", "caption", len(rows), found, nan)
    return list(
        _wrong_captions(shop, rows, cosine, scores, types, confidence, least, category)
    ), judged


def _wrong_captions(
    shop: Shop,
    rows: Int[np.ndarray, " m"],
    cosine: Float[np.ndarray, " m"],
    scores: Float[np.ndarray, " m"],
    types: Int[np.ndarray, " m"],
    confidence: Float[np.ndarray, " m"],
    least: float,
    category: str | None,
) -> Iterator[Finding]:
    for i in np.flatnonzero(confidence >= least):
        row = int(rows[i])
        among = types == types[i]
        name = shop.labels[category][row] if category and types[i] >= 0 else ""
        of = f"{int(among.sum()):,} products" + (f" of {name}" if name else "")
        worse = float((scores[among] < scores[i]).mean())
        caption = shop.captions[row]
        yield Finding(
            kind="caption",
            product_ids=(shop.ids[row],),
            evidence=(
                f"“{caption[:120]}” fits its picture less than {worse:.1%} of the {of} fit theirs "
                f"(cosine {cosine[i]:.2f}; their median {np.median(cosine[among]):.2f})"
            ),
            confidence=round(float(confidence[i]), 3),
            suggestion=MENDS["caption"],
            images=(shop.images[row],),
            key=finding_key("caption", shop.digests[row], caption),
        )


def _by_type(values: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and robust deviation of each value's type, as arrays of the values' length."""
    middle, spread = np.empty(len(values)), np.empty(len(values))
    overall = np.median(np.abs(values - np.median(values))) * ROBUST + 1e-6
    for kind in np.unique(types):
        among = types == kind
        centre = np.median(values[among])
        middle[among] = centre
        deviation = np.median(np.abs(values[among] - centre)) * ROBUST
        spread[among] = max(deviation, 0.5 * overall)
    return middle, spread


def judge_labels(
    shop: Shop, category: str | None, least: float
) -> tuple[list[Finding], list[JudgedText]]:
    """Find labels that another one fits better, in every column whose labels pictures show.

    Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating
    Uncertainty in Dataset Labels"): a label is in doubt if another's out-of-fold probability
    reaches the mean that it has among the products that carry it. How far the given label is behind
    decides the confidence, against labels put in at random. A picture of one colour shows no label.

    Args:
        shop: the catalogue.
        category: the column of categories, if the table has one.
        least: confidence of a finding, 0…1.
    """
    findings: list[Finding] = []
    judged: list[JudgedText] = []
    fold, is_flat = _folds(shop), shop.is_flat.tolist()
    for column, values in shop.labels.items():
        kind: Kind = "category" if column == category else "attribute"
        shown = ["" if flat else value for value, flat in zip(values, is_flat, strict=True)]
        names, codes = _codes(shown, MIN_PER_CLASS)
        n = int((codes >= 0).sum())
        nan = float("nan")
        if not 2 <= len(names) <= MAX_CLASSES or n < MIN_PRODUCTS:
            reason = (
                f"{len(names):,} labels of at least {MIN_PER_CLASS} products; 2 to {MAX_CLASSES} "
                f"labels and {MIN_PRODUCTS} products are needed"
            )
            judged.append(JudgedText(column, kind, n, nan, nan, reason))
            continue
        log_p = class_log_probabilities(shop.pictures.vectors, codes, len(names), fold)
        agreement = _kappa(codes, log_p.argmax(axis=1), len(names))
        if agreement < MIN_KAPPA:
            reason = (
                f"pictures do not show it (agreement beyond chance {agreement:.2f}, at least "
                f"{MIN_KAPPA})"
            )
            judged.append(JudgedText(column, kind, n, nan, agreement, reason))
            continue
        kind_findings, found = _doubted(
            shop,
            column,
            names,
            codes,
            log_p,
            least,
            prior=LABEL_PRIOR * (DOUBT if agreement < CLEAR_KAPPA else 1),
            kind=kind,
        )
        if found < MIN_FOUND:
            reason = f"only {found:.0%} of wrong labels would be found: too many are alike"
            judged.append(JudgedText(column, kind, n, found, agreement, reason))
            continue
        findings += kind_findings
        judged.append(JudgedText(column, kind, n, found, agreement))
    return findings, judged


def _doubted(
    shop: Shop,
    column: str,
    names: Sequence[str],
    codes: Int[np.ndarray, " n"],
    log_p: Float[np.ndarray, "n c"],
    least: float,
    *,
    prior: float,
    kind: Kind,
) -> tuple[list[Finding], float]:
    known = np.flatnonzero(codes >= 0)
    p, given = np.exp(log_p[known]), codes[known]
    own = np.arange(len(known))
    counts = np.bincount(given, minlength=len(names))
    mean_own = np.bincount(given, weights=p[own, given], minlength=len(names)) / np.maximum(
        counts, 1
    )
    known_as = np.bincount(given, weights=p.argmax(axis=1) == given, minlength=len(names))
    is_clear = known_as / np.maximum(counts, 1) >= MIN_RECOGNISED
    reaches = (p >= mean_own) & is_clear
    wrong = (given + np.random.default_rng(0).integers(1, len(names), len(known))) % len(names)

    def doubt(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far each label is behind the best of the others, and which that is."""
        others = log_p[known].copy()
        others[own, labels] = -np.inf
        best = others.argmax(axis=1)
        return np.clip(others[own, best] - log_p[known][own, labels], -30, 30), best

    scores, best = doubt(given)
    faulty, _ = doubt(wrong)
    confidence, of_wrong = confidences(scores, faulty, prior=prior, tail=LABEL_TAIL)
    found = float((of_wrong >= least).mean())
    findings = []
    is_likely = reaches[own, best] & (p[own, best] >= MIN_LIKELY)
    for i in np.flatnonzero((confidence >= least) & (scores > 0) & is_likely):
        row, label = int(known[i]), names[best[i]]
        findings.append(
            Finding(
                kind=kind,
                product_ids=(shop.ids[row],),
                evidence=(
                    f"{column} is “{names[given[i]]}”; its picture looks like “{label}” "
                    f"({p[i, best[i]]:.0%} against {p[i, given[i]]:.0%}, by products like it)"
                ),
                confidence=round(float(confidence[i]), 3),
                suggestion=f"set {column} to “{label}”",
                images=(shop.images[row],),
                key=finding_key(
                    kind,
                    *(shop.digests[row], column, names[given[i]], label),
                ),
                column=column,
                label=label,
            )
        )
    return findings, found


def _folds(shop: Shop) -> Int[np.ndarray, " n"]:
    """A fold for each product: that of its group, else of its caption, else of its picture."""
    keys = [
        group or caption or digest.hex()
        for group, caption, digest in zip(shop.groups, shop.captions, shop.digests, strict=True)
    ]
    return np.array([crc32(key.encode("utf-8", "surrogatepass")) % FOLDS for key in keys])


def _codes(values: Sequence[str], least: int) -> tuple[list[str], Int[np.ndarray, " n"]]:
    """Names of the labels with at least so many products, and each product's; -1 for others."""
    names, inverse, counts = np.unique(np.array(values), return_inverse=True, return_counts=True)
    kept = [i for i, name in enumerate(names) if counts[i] >= least and name]
    codes = np.full(len(names), -1)
    codes[kept] = np.arange(len(kept))
    return [str(names[i]) for i in kept], codes[inverse.reshape(-1)]


def _kappa(codes: np.ndarray, predicted: np.ndarray, n_classes: int) -> float:
    """Cohen's κ (1960): agreement beyond what the shares of the labels alone would give."""
    known = codes >= 0
    one = np.bincount(codes[known], minlength=n_classes) / known.sum()
    other = np.bincount(predicted[known], minlength=n_classes) / known.sum()
    chance = float(one @ other)
    observed = float((codes[known] == predicted[known]).mean())
    return (observed - chance) / (1 - chance) if chance < 1 else 0.0
