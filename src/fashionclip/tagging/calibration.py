"""Calibration of a label set on a few labelled products: its scale, biases and threshold.

The model's own temperature was learned on other images and texts. Here one scale (``one``), or
one scale and a bias per label (``several``), is fitted to products whose labels are known. A
prior keeps it near the model's own, so that a dozen products do no harm. Then the threshold is
set for a wanted precision. NumPy only; a few hundred products take a second.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.errors import LabelError
from fashionclip.model import FashionCLIP
from fashionclip.tagging.labels import NONE_OF_THESE, PATH_SEPARATOR, Calibration, LabelSet
from fashionclip.tagging.scoring import EncodedLabels

Truth = Sequence[str | None] | Sequence[Collection[str]]
"""The right label of each product, None for none of these; or its labels, for ``several``."""

LOG_SCALE_SPREAD = np.log(4.0)  # prior: one standard deviation is a factor of 4
SHARED_BIAS_SPREAD = 10.0
LABEL_BIAS_SPREAD = 2.0  # labels differ less from each other than together from zero
MAX_THRESHOLDS = 200  # candidates of the search; more do not change the result
MAX_SCALE_FACTOR = 50.0  # bounds the fit to this factor of the model's scale, up and down
MAX_NEWTON_STEPS = 50  # about ten are needed
TOLERANCE = 1e-8


def calibrate(
    label_set: LabelSet,
    model: FashionCLIP,
    vectors: Float[np.ndarray, "n dim"],
    truth: Truth,
    *,
    precision: float = 0.9,
) -> LabelSet:
    """Fit a label set to labelled products.

    ``one``: the scale minimises the negative log likelihood of the right labels (temperature
    scaling), plus ``(log(scale / model's) / log 4)^2 / 2``. ``several``: a logistic regression
    of each label on its evidence, with one slope, a bias per label, and Gaussian priors.
    The threshold is the one with most right labels whose precision is at least the wanted one.
    Precision is ``(right + 1) / (assigned + 2)`` here, so that a few right labels do not count as
    certainty. If no threshold reaches it, the most precise one is taken: see
    ``calibration.precision``.

    Args:
        label_set: what to fit; its calibration and threshold are replaced.
        model: the model whose vectors these are.
        vectors: unit vectors of labelled products.
        truth: their labels, each by its name, its path in a tree or a synonym. In a tree a
            product may be labelled with an inner node. None where none of the labels fits.
        precision: wanted share of right labels among the assigned ones, in 0…1.

    Returns:
        The same label set with its ``calibration``.

    Raises:
        LabelError: no products, or a label that the set does not have.
        ValueError: vectors and truth differ in number; precision is not in 0…1.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2, for
        temperature scaling; Platt 1999 for the logistic.
    """
    if len(vectors) != len(truth):
        message = f"{len(vectors)} vectors and {len(truth)} labels: give one for each product"
        raise ValueError(message)
    if not 0 <= precision <= 1:
        message = f"precision is {precision}; it is a share, 0 to 1"
        raise ValueError(message)
    if not len(vectors):
        message = f"no labelled products to calibrate the label set '{label_set.name}' with"
        raise LabelError(message)
    plain = replace(label_set, calibration=None, threshold=None)
    encoded = EncodedLabels.of(plain, model)
    evidence = encoded.evidence(vectors)
    fit = _calibrate_several if label_set.mode == "several" else _calibrate_one
    fitted, chosen = fit(encoded, evidence, truth, precision)
    calibration = Calibration(
        model=model.name,
        fingerprint=model.fingerprint,
        scale=fitted.scale,
        bias=tuple(fitted.bias.tolist()),
        threshold=chosen.threshold,
        must_beat_neutral=fitted.must_beat_neutral,
        n_products=len(vectors),
        precision=chosen.precision,
        coverage=chosen.coverage,
    )
    return replace(plain, calibration=calibration)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A threshold and its result on the labelled products."""

    threshold: float
    assigned: int
    right: int
    coverage: float

    @property
    def precision(self) -> float:
        return self.right / self.assigned if self.assigned else 1.0

    @property
    def careful_precision(self) -> float:
        return (self.right + 1) / (self.assigned + 2)


def _best(choices: Sequence[_Choice], precision: float) -> _Choice:
    good = [choice for choice in choices if choice.careful_precision >= precision]
    if good:
        return max(good, key=lambda choice: (choice.right, choice.careful_precision))
    return max(choices, key=lambda choice: (choice.careful_precision, choice.right))


# one label, or a path


def _calibrate_one(
    encoded: EncodedLabels, evidence: np.ndarray, truth: Truth, precision: float
) -> tuple[EncodedLabels, _Choice]:
    paths = [_path_of(label, encoded.label_set) for label in truth]
    rows = [i for i, path in enumerate(paths) if path is not None]
    tree = encoded.tree
    covers = np.array([tree.covers[tree.nodes.index(path)] for path in paths if path is not None])
    scale = encoded.scale
    if rows:
        scale = fit_scale(evidence[rows], covers, start=encoded.scale)
    options: list[tuple[EncodedLabels, _Choice]] = []
    for must_beat_neutral in (True, False) if encoded.neutral is not None else (False,):
        fitted = replace(encoded, scale=scale, must_beat_neutral=must_beat_neutral)
        options.append((fitted, _best(_outcomes_of_paths(fitted, evidence, paths), precision)))
    chosen = _best([choice for _, choice in options], precision)
    return next(option for option in options if option[1] is chosen)


def fit_scale(
    evidence: Float[np.ndarray, "n label"], covers: Bool[np.ndarray, "n label"], *, start: float
) -> float:
    """The scale of greatest posterior probability, by golden section search on its logarithm.

    Args:
        evidence: of each label, as ``EncodedLabels.evidence``.
        covers: True where a label is right, or below the right node of a tree.
        start: the model's scale, the mean of the prior.
    """

    def loss(log_scale: float) -> float:
        logits = np.exp(log_scale) * evidence
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        likelihood = (powers * covers).sum(axis=1) / powers.sum(axis=1)
        prior = ((log_scale - np.log(start)) / LOG_SCALE_SPREAD) ** 2 / 2
        return float(prior - np.log(np.maximum(likelihood, 1e-300)).sum())

    low = np.log(start) - np.log(MAX_SCALE_FACTOR)
    high = np.log(start) + np.log(MAX_SCALE_FACTOR)
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-4:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2.0))


def _outcomes_of_paths(
    encoded: EncodedLabels, evidence: np.ndarray, truths: Sequence[tuple[str, ...] | None]
) -> list[_Choice]:
    """The result of each threshold.

    A path is right if it equals the true one as far as both go: a shorter answer is not an error,
    and neither is a shorter label.
    """
    tree = encoded.tree
    nodes = encoded.probabilities(evidence) @ tree.covers.T
    paths = encoded.best_paths(nodes, encoded.beats_neutral(evidence))
    shape = (len(paths), encoded.label_set.depth)
    probabilities, is_right = np.full(shape, -1.0), np.zeros(shape, dtype=bool)
    for row, (path, truth) in enumerate(zip(paths, truths, strict=True)):
        for level, node in enumerate(path):
            probabilities[row, level] = nodes[row, node]
            agreed = min(level + 1, len(truth or ()))
            is_right[row, level] = truth is not None and tree.nodes[node][:agreed] == truth[:agreed]
    choices = []
    for threshold in _thresholds(probabilities[probabilities >= 0.0]):
        depth = (probabilities >= threshold).sum(axis=1)
        has_label = depth > 0
        right = int(is_right[has_label, depth[has_label] - 1].sum())
        assigned = int(has_label.sum())
        choices.append(_Choice(threshold, assigned, right, assigned / len(paths)))
    return choices


# several labels


def _calibrate_several(
    encoded: EncodedLabels, evidence: np.ndarray, truth: Truth, precision: float
) -> tuple[EncodedLabels, _Choice]:
    labels = encoded.label_set
    is_right = np.zeros(evidence.shape, dtype=bool)
    for row, names in zip(is_right, truth, strict=True):
        for name in [names] if isinstance(names, str) else names or ():
            path = _path_of(name, labels)
            if path is not None:
                row[labels.label_names.index(PATH_SEPARATOR.join(path))] = True
    scale, bias = _fit_logistic(evidence, is_right, start=encoded.scale)
    fitted = replace(encoded, scale=scale, bias=bias)
    probabilities = fitted.probabilities(evidence)
    choices = []
    for threshold in _thresholds(probabilities):
        assigned = probabilities >= threshold
        right = int((assigned & is_right).sum())
        coverage = float(assigned.any(axis=1).mean())
        choices.append(_Choice(threshold, int(assigned.sum()), right, coverage))
    return fitted, _best(choices, precision)


def _fit_logistic(
    evidence: np.ndarray, is_right: np.ndarray, *, start: float
) -> tuple[float, np.ndarray]:
    """Slope and biases of ``sigmoid(scale * evidence + shared + bias[label])``, by Newton."""
    n_labels = evidence.shape[1]
    which_label = np.repeat(np.eye(n_labels), len(evidence), axis=0)  # label by label, as targets
    inputs = np.column_stack([evidence.T.reshape(-1), np.ones(evidence.size), which_label])
    targets = is_right.T.reshape(-1).astype(np.float64)
    mean = np.array([start, 0.0] + [0.0] * n_labels)
    spread = np.array([start, SHARED_BIAS_SPREAD] + [LABEL_BIAS_SPREAD] * n_labels)

    def loss(weights: np.ndarray) -> float:
        logits = inputs @ weights
        prior = (((weights - mean) / spread) ** 2).sum() / 2
        return float(np.logaddexp(0.0, logits).sum() - targets @ logits + prior)

    weights = mean.copy()
    for _ in range(MAX_NEWTON_STEPS):
        probabilities = 1.0 / (1.0 + np.exp(-np.clip(inputs @ weights, -60.0, 60.0)))
        slope = inputs.T @ (probabilities - targets) + (weights - mean) / spread**2
        curve = (inputs * (probabilities * (1.0 - probabilities))[:, None]).T @ inputs
        step = np.linalg.solve(curve + np.diag(1.0 / spread**2), slope)
        while loss(weights - step) > loss(weights) and np.abs(step / spread).max() > TOLERANCE:
            step /= 2.0  # far from the minimum a full step may overshoot
        weights = weights - step
        if np.abs(step / spread).max() < TOLERANCE:
            break
    scale = float(max(weights[0], start / MAX_SCALE_FACTOR))  # evidence never counts against
    return scale, weights[1] + weights[2:]


# both


def _thresholds(probabilities: np.ndarray) -> list[float]:
    """Candidate thresholds: the probabilities that occur, or their quantiles."""
    levels = np.unique(np.append(probabilities, 1.0))
    if len(levels) > MAX_THRESHOLDS:
        levels = np.quantile(levels, np.linspace(0.0, 1.0, MAX_THRESHOLDS))
    return [float(level) for level in np.minimum(levels, 1.0)]


def _path_of(label: str | Collection[str] | None, label_set: LabelSet) -> tuple[str, ...] | None:
    """The path of a label that is written as its name, its path, or a synonym.

    Raises:
        LabelError: the set has no such label, or several; the message names near ones.
    """
    if label is None or label == NONE_OF_THESE:
        return None
    if not isinstance(label, str):
        message = f"the label set '{label_set.name}' gives one label per product, not {label!r}"
        raise LabelError(message)
    wanted = tuple(part.strip().casefold() for part in label.split(">"))
    found: dict[tuple[str, ...], None] = {}
    for leaf in label_set.labels:
        for level in range(1, len(leaf.path) + 1):
            path = leaf.path[:level]
            folded = tuple(part.casefold() for part in path)
            if folded == wanted:
                return path
            if folded[-len(wanted) :] == wanted:
                found[path] = None
        if wanted[-1] in (phrase.casefold() for phrase in leaf.phrases):
            found[leaf.path] = None
    if len(found) == 1:
        return next(iter(found))
    near = [PATH_SEPARATOR.join(path) for path in found] or get_close_matches(
        label, [*label_set.label_names, *(leaf.name for leaf in label_set.labels)], n=3
    )
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    message = (
        f"the label set '{label_set.name}' has no label '{label}'{hint} "
        f"Write '{NONE_OF_THESE}' for products that no label fits"
    )
    raise LabelError(message)
