"""Vectors to tags: probabilities of labels, sums over a tree, and none of these.

Arithmetic on unit vectors; the model encodes the labels once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.errors import LabelError
from fashionclip.model import FashionCLIP
from fashionclip.tagging.labels import (
    DEFAULT_THRESHOLD,
    NONE_OF_THESE,
    PATH_SEPARATOR,
    SEVERAL_SEPARATOR,
    LabelSet,
    Mode,
    Tree,
)


@dataclass(frozen=True, slots=True)
class Tag:
    """A label set's result for one product."""

    set_name: str
    """The label set."""
    mode: Mode
    """Whether the set assigns ``one`` label (or path) or ``several``."""
    labels: tuple[str, ...]
    """One label; in a tree the path from the top, as far as it is probable enough; for ``several``
    all that fit, most probable first. Empty for none of these."""
    probabilities: tuple[float, ...]
    """Probability of each of ``labels``, in 0…1; along a path they never increase."""
    margin: float
    """How much more probable the label is than the next one (in a tree: than its next sibling);
    for ``several``, the smallest distance of a probability from the threshold."""
    nearest: str
    """The most probable label, assigned or not; a path in a tree."""
    nearest_probability: float
    """Its probability, in 0…1."""

    @property
    def text(self) -> str:
        """The label as in a table: a path in a tree, ``none of these`` if there is none."""
        separator = PATH_SEPARATOR if self.mode == "one" else SEVERAL_SEPARATOR
        return separator.join(self.labels) or NONE_OF_THESE


@dataclass(frozen=True)
class EncodedLabels:
    """A label set with its labels' vectors: similarities to probabilities and tags."""

    label_set: LabelSet
    vectors: Float[np.ndarray, "label dim"]
    neutral: Float[np.ndarray, " dim"] | None
    scale: float
    bias: Float[np.ndarray, " label"]
    threshold: float
    must_beat_neutral: bool
    tree: Tree

    @classmethod
    def of(cls, label_set: LabelSet, model: FashionCLIP) -> "EncodedLabels":
        """Encode the labels; the vectors of a label's synonyms are averaged.

        Raises:
            LabelError: the set was calibrated for another model.
        """
        fitted = label_set.calibration
        if fitted is not None and fitted.fingerprint != model.fingerprint:
            message = (
                f"the label set '{label_set.name}' was calibrated for the model {fitted.model!r} "
                f"({fitted.fingerprint[:8]}), not for {model.name!r} ({model.fingerprint[:8]}): "
                "calibrate it again, or tag with that model"
            )
            raise LabelError(message)
        prompts = label_set.prompts
        words = [phrase for phrases in prompts for phrase in phrases]
        words += [label_set.neutral] if label_set.neutral is not None else []
        encoded = model.encode_text(words, templates=label_set.templates)
        ends = np.cumsum([len(phrases) for phrases in prompts])
        means = np.stack([part.mean(axis=0) for part in np.split(encoded, ends)[: len(prompts)]])
        threshold = DEFAULT_THRESHOLD if fitted is None else fitted.threshold
        return cls(
            label_set=label_set,
            vectors=means / np.linalg.norm(means, axis=1, keepdims=True),
            neutral=encoded[-1] if label_set.neutral is not None else None,
            scale=model.logit_scale if fitted is None else fitted.scale,
            bias=np.array(fitted.bias) if fitted is not None else np.zeros(len(prompts)),
            threshold=threshold if label_set.threshold is None else label_set.threshold,
            must_beat_neutral=True if fitted is None else fitted.must_beat_neutral,
            tree=Tree.of(label_set.labels),
        )

    def evidence(self, vectors: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n label"]:
        """Similarity of images with labels, less that with the neutral text if there is one."""
        similarity = vectors.astype(np.float64) @ self.vectors.T
        if self.neutral is None:
            return np.asarray(similarity)
        return np.asarray(similarity - vectors.astype(np.float64) @ self.neutral[:, None])

    def probabilities(self, evidence: Float[np.ndarray, "n label"]) -> Float[np.ndarray, "n label"]:
        """Probability of each label.

        ``one``: ``softmax(scale * evidence + bias)`` over the labels, so a row sums to 1 and the
        neutral text's part cancels. ``several``: ``sigmoid`` of the same for each label, which
        without calibration is the softmax between the label and the neutral text.

        Source: Radford et al. 2021, figure 3, for the softmax of scaled cosines; Platt 1999 for
            the calibrated logistic.
        """
        logits = self.scale * evidence + self.bias
        if self.label_set.mode == "several":
            return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0))))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def tag(self, vectors: Float[np.ndarray, "n dim"]) -> list[Tag]:
        """Tag products by their unit vectors, row i for product i."""
        evidence = self.evidence(vectors)
        probabilities = self.probabilities(evidence)
        if self.label_set.mode == "several":
            return [self._tag_several(row) for row in probabilities]
        nodes = probabilities @ self.tree.covers.T
        paths = self.best_paths(nodes, self.beats_neutral(evidence))
        return [self._tag_path(*each) for each in zip(paths, nodes, strict=True)]

    def best_paths(
        self, nodes: Float[np.ndarray, "n node"], is_allowed: Bool[np.ndarray, "n node"]
    ) -> list[list[int]]:
        """Paths from the top to the most probable child, as far as nodes are allowed.

        The threshold is applied later: probabilities decrease along a path, so it cuts the end.

        Args:
            nodes: probability of each node.
            is_allowed: True where a node may be part of a path.
        """
        children = {path: np.array(under) for path, under in self.tree.children.items()}
        paths = []
        for row, allowed in zip(nodes, is_allowed, strict=True):
            here: tuple[str, ...] = ()
            path: list[int] = []
            while here in children:
                under = children[here]
                best = int(under[row[under].argmax()])
                if not allowed[best]:
                    break
                path.append(best)
                here = self.tree.nodes[best]
            paths.append(path)
        return paths

    def beats_neutral(self, evidence: Float[np.ndarray, "n label"]) -> Bool[np.ndarray, "n node"]:
        """True where a node has a label that fits the image better than the neutral text."""
        if self.neutral is None or not self.must_beat_neutral:
            return np.ones((len(evidence), len(self.tree.nodes)), dtype=bool)
        return np.asarray((evidence > 0) @ self.tree.covers.T)

    def _tag_path(self, path: Sequence[int], nodes: np.ndarray) -> Tag:
        assigned = [i for i in path if nodes[i] >= self.threshold]
        best = assigned[-1] if assigned else max(self.tree.children[()], key=lambda i: nodes[i])
        node = self.tree.nodes[best]
        rivals = [nodes[i] for i in self.tree.children[node[:-1]] if i != best]
        return Tag(
            set_name=self.label_set.name,
            mode="one",
            labels=node if assigned else (),
            probabilities=tuple(min(1.0, float(nodes[i])) for i in assigned),
            margin=min(1.0, float(nodes[best] - max(rivals, default=0.0))),
            nearest=PATH_SEPARATOR.join(node),
            nearest_probability=min(1.0, float(nodes[best])),
        )

    def _tag_several(self, row: np.ndarray) -> Tag:
        ranked = np.argsort(-row, kind="stable")
        assigned = [int(i) for i in ranked if row[i] >= self.threshold]
        names = self.label_set.label_names
        return Tag(
            set_name=self.label_set.name,
            mode=self.label_set.mode,
            labels=tuple(names[i] for i in assigned),
            probabilities=tuple(float(row[i]) for i in assigned),
            margin=float(np.abs(row - self.threshold).min()),
            nearest=names[int(ranked[0])],
            nearest_probability=float(row[ranked[0]]),
        )


class Tagger:
    """Tags vectors of one model with label sets whose labels are encoded once."""

    def __init__(self, model: FashionCLIP, label_sets: Sequence[LabelSet]) -> None:
        """Encode the labels.

        Raises:
            LabelError: no label sets, or one was calibrated for another model.
        """
        if not label_sets:
            message = "no label sets to tag with: give at least one"
            raise LabelError(message)
        self.sets = tuple(EncodedLabels.of(labels, model) for labels in label_sets)

    def tag(self, vectors: Float[np.ndarray, "n dim"]) -> list[tuple[Tag, ...]]:
        """Tag products.

        Args:
            vectors: unit vectors of their images.

        Returns:
            For each product one tag per label set, in the order of the sets.
        """
        columns = [labels.tag(vectors) for labels in self.sets]
        return list(zip(*columns, strict=True))
