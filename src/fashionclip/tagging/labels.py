"""Label sets: what to choose from, as flat lists and as trees. No model, no files.

A set's labels are the leaves of a tree; a flat list is a tree of depth one. Every node's
probability is the sum over the leaves below it, so levels cannot contradict each other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool

from fashionclip.errors import LabelError
from fashionclip.text.captions import read_templates

Mode = Literal["one", "several"]
PATH_SIGN = " > "
"""What stands between the nodes of a path, as in ``Clothing > Tops > T-shirts``."""
SEVERAL_SIGN = "|"
"""What stands between several labels in one cell of a table."""
NONE_OF_THESE = "none of these"
"""What stands in a table where no label was sure enough."""
DEFAULT_THRESHOLD = 0.5
"""A label is given where it is more probable than not, unless calibration says otherwise."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a few labelled products taught about a label set and a model."""

    model: str
    """The model's name, for messages."""
    fingerprint: str
    """The model's fingerprint; the figures hold for no other model."""
    scale: float
    """What similarities are multiplied by: one over the temperature."""
    bias: tuple[float, ...]
    """What is added to each label's logit, in the order of the labels."""
    threshold: float
    """A label is given from this probability on, in 0…1."""
    must_beat_neutral: bool
    """Whether a label must also be closer to the picture than a text that says nothing."""
    n_products: int
    """Labelled products it was learned from."""
    precision: float
    """Share of the given labels that were right, on those products."""
    coverage: float
    """Share of those products that were given a label."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label: where it stands in the tree, and the phrases that mean it."""

    path: tuple[str, ...]
    """Names from the top of the tree down to its own."""
    phrases: tuple[str, ...] = ()
    """What the model is asked; empty for the name itself."""

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path[-1]


@dataclass(frozen=True)
class LabelSet:
    """Labels to choose from, and how.

    Raises:
        LabelError: the labels contradict each other, or there are too few.
        ValueError: a template without ``{}``.
    """

    name: str
    """What the set is about, such as ``colour``; names its columns in a table."""
    labels: tuple[Label, ...]
    """The leaves, in the order of the file."""
    mode: Mode = "one"
    """``one`` label a product (or a path of a tree), or ``several``."""
    threshold: float | None = None
    """A label is given from this probability on; None for the calibrated one, or 0.5."""
    templates: str | tuple[str, ...] = "product"
    """Prompt templates, as ``FashionCLIP.encode_text`` takes them."""
    neutral: str | None = "product"
    """A word that says nothing: a label must fit a picture better than it does, or none of the
    labels is given. None switches that off (``several`` needs it)."""
    calibration: Calibration | None = field(default=None, repr=False)
    """What labelled products taught, if :func:`fashionclip.tagging.calibrate` was asked."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            LabelError: see the class.
        """
        read_templates(self.templates)
        for message in _faults(self):
            raise LabelError(message)

    @classmethod
    def of(
        cls,
        name: str,
        labels: Iterable[str | Sequence[str]],
        *,
        mode: Mode = "one",
        threshold: float | None = None,
        templates: str | tuple[str, ...] = "product",
        neutral: str | None = "product",
    ) -> "LabelSet":
        """A label set from plain words.

        Args:
            name: what the set is about.
            labels: each a label with its synonyms (``"jeans | denim trousers"``), or a path in a
                tree (``"Clothing > Tops > T-shirts"``).
            mode: ``one`` or ``several``.
            threshold: see the class.
            templates: see the class.
            neutral: see the class.

        Raises:
            LabelError: the labels contradict each other, or there are too few.
            ValueError: a template without ``{}``.
        """
        lines = [line if isinstance(line, str) else " | ".join(line) for line in labels]
        return cls(
            name,
            leaves_of([read_line(line) for line in lines], where=f"the label set '{name}'"),
            mode=mode,
            threshold=threshold,
            templates=templates,
            neutral=neutral,
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Each label as tables show it: its name, or its path in a tree."""
        return tuple(PATH_SIGN.join(label.path) for label in self.labels)

    @property
    def depth(self) -> int:
        """Levels of the tree; 1 for a flat list."""
        return max(len(label.path) for label in self.labels)

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """The phrases of each label; two leaves of one name are told apart by their parents."""
        names = Counter(label.name.casefold() for label in self.labels)
        return tuple(
            label.phrases
            or ((" ".join(label.path[-2:]),) if names[label.name.casefold()] > 1 else (label.name,))
            for label in self.labels
        )


@dataclass(frozen=True)
class Tree:
    """The nodes over a label set's leaves: parents before children, the leaves' order kept."""

    nodes: tuple[tuple[str, ...], ...]
    """The path of each node."""
    children: Mapping[tuple[str, ...], tuple[int, ...]]
    """The nodes under each path; ``()`` has those of the top level."""
    covers: Bool[np.ndarray, "node label"]
    """True where a label is the node itself or below it."""

    @classmethod
    def of(cls, labels: Sequence[Label]) -> "Tree":
        """The tree over some leaves."""
        paths = (label.path[:level] for label in labels for level in range(1, len(label.path) + 1))
        nodes = tuple(dict.fromkeys(paths))
        children: dict[tuple[str, ...], tuple[int, ...]] = {}
        for i, node in enumerate(nodes):
            children[node[:-1]] = (*children.get(node[:-1], ()), i)
        covers = np.array([[label.path[: len(n)] == n for label in labels] for n in nodes])
        return cls(nodes, children, covers)


def read_line(line: str) -> Label:
    """Read ``Clothing > Tops > T-shirts | tees``: a path, then synonyms of its last name."""
    first, *synonyms = (part.strip() for part in line.split("|"))
    path = tuple(part.strip() for part in first.split(">"))
    name = path[-1] if path else ""
    phrases = tuple(dict.fromkeys([name, *filter(None, synonyms)])) if any(synonyms) else ()
    return Label(path, phrases)


def leaves_of(labels: Sequence[Label], *, where: str) -> tuple[Label, ...]:
    """Keep the leaves; a line that is a path's beginning only names a node on the way.

    Raises:
        LabelError: a name is empty, a label comes twice, or a node that has others below it has
            synonyms, which nothing would be asked with.
    """
    seen: dict[tuple[str, ...], Label] = {}
    inner = {label.path[:level] for label in labels for level in range(1, len(label.path))}
    for label in labels:
        shown = PATH_SIGN.join(label.path)
        message = None
        if not all(label.path):
            message = f"{where} has a label without a name ('{shown}'): write the name or delete it"
        elif label.path in seen:
            message = f"{where} has '{shown}' twice: delete one"
        elif label.path in inner and label.phrases:
            message = f"{where}: '{shown}' has labels below it; give the synonyms to those"
        if message is not None:
            raise LabelError(message)
        seen[label.path] = label
    return tuple(label for path, label in seen.items() if path not in inner)


def _faults(labels: LabelSet) -> Iterable[str]:
    name = labels.name
    if not name.strip():
        yield "a label set has no name: write [colour] over it, or COLOUR=FILE"
    if not labels.labels:
        yield f"the label set '{name}' has no labels: write one a line"
    elif len(labels.labels) == 1 and labels.mode == "one":
        yield (
            f"the label set '{name}' has one label and nothing to choose from: "
            f"add another, or write [{name}: several]"
        )
    if labels.mode == "several" and any(len(label.path) > 1 for label in labels.labels):
        yield f"the label set '{name}' is a tree, which gives one path: take 'several' off it"
    if labels.mode == "several" and labels.neutral is None:
        yield f"the label set '{name}' gives several labels: name a neutral word"
    if labels.threshold is not None and not 0 <= labels.threshold <= 1:
        yield f"the label set '{name}' has the threshold {labels.threshold}: choose 0 to 1"
    folded = Counter(tuple(part.casefold() for part in label.path) for label in labels.labels)
    for path, count in folded.items():
        if count > 1:
            yield f"the label set '{name}' has '{PATH_SIGN.join(path)}' twice: delete one"
