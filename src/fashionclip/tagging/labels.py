"""Label sets: labels to choose from, as flat lists or trees, and their files.

A set's labels are the leaves of a tree; a flat list is a tree of depth one. The probability of a
node is the sum over the leaves below it, so the levels of a tree never contradict each other.

A text file has one label per line. ``#`` begins a comment. ``[colour]`` begins another set, and
``[colour: several, threshold=0.6, templates=bare]`` sets its options. ``jeans | denim trousers``
are synonyms. Indented lines, or ``Clothing > Tops > T-shirts``, make a tree. A JSON file holds
calibrations too.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from fashionclip.errors import LabelError
from fashionclip.text.captions import read_templates

Mode = Literal["one", "several"]
PATH_SEPARATOR = " > "
"""Between the nodes of a path: ``Clothing > Tops > T-shirts``."""
SEVERAL_SEPARATOR = "|"
"""Between several labels in one cell of a table."""
NONE_OF_THESE = "none of these"
"""The tag where no label is probable enough."""
DEFAULT_THRESHOLD = 0.5
"""Minimum probability of a label, unless calibration sets another."""


FORMAT = 1  # of the JSON file; raised when older versions cannot read newer files
_HEAD = re.compile(r"^\[\s*(?P<name>[^\]:]*?)\s*(?::(?P<options>[^\]]*))?\]$")
_COMMENT = re.compile(r"(^|\s)#.*$")
_NUMBER = re.compile(r"\d*\.?\d+")


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted for a label set and a model to labelled products."""

    model: str
    """The model's name, for messages."""
    fingerprint: str
    """The model's fingerprint; the calibration is valid for this model only."""
    scale: float
    """Factor of similarities: one over the temperature."""
    bias: tuple[float, ...]
    """Added to each label's logit, in the order of the labels."""
    threshold: float
    """Minimum probability of a label, in 0…1."""
    must_beat_neutral: bool
    """Whether a label must also fit the image better than the neutral text."""
    n_products: int
    """Labelled products that it was fitted to."""
    precision: float
    """Share of the assigned labels that are right, on those products."""
    coverage: float
    """Share of those products that got a label."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label: its path in the tree, and its phrases."""

    path: tuple[str, ...]
    """Names from the top of the tree down to its own."""
    phrases: tuple[str, ...] = ()
    """Synonyms that the model encodes; empty for the name itself."""

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path[-1]


@dataclass(frozen=True)
class LabelSet:
    """Labels to choose from, and the options of the choice.

    Raises:
        LabelError: the labels contradict each other, or there are too few.
        ValueError: a template without ``{}``.
    """

    name: str
    """The attribute, such as ``colour``; names its columns in a table."""
    labels: tuple[Label, ...]
    """The leaves, in the order of the file."""
    mode: Mode = "one"
    """``one`` label per product (or one path of a tree), or ``several``."""
    threshold: float | None = None
    """Minimum probability of a label; None for the calibrated one, or 0.5."""
    templates: str | tuple[str, ...] = "product"
    """Prompt templates, as ``FashionCLIP.encode_text`` takes them."""
    neutral: str | None = "product"
    """A word without information. A label must fit an image better than this word does. None
    switches the comparison off; ``several`` needs it."""
    calibration: Calibration | None = field(default=None, repr=False)
    """The result of ``calibrate``, if there is one."""

    def __post_init__(self) -> None:
        """Refuse contradictions.

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
            name: the attribute, such as ``colour``.
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
        """Each label's name, or its path in a tree."""
        return tuple(PATH_SEPARATOR.join(label.path) for label in self.labels)

    @property
    def depth(self) -> int:
        """Levels of the tree; 1 for a flat list."""
        return max(len(label.path) for label in self.labels)

    @property
    def prompts(self) -> tuple[tuple[str, ...], ...]:
        """The phrases of each label. Leaves of the same name get their parents' names too."""
        names = Counter(label.name.casefold() for label in self.labels)
        return tuple(
            label.phrases
            or ((" ".join(label.path[-2:]),) if names[label.name.casefold()] > 1 else (label.name,))
            for label in self.labels
        )


@dataclass(frozen=True)
class Tree:
    """The nodes of a label set's tree: parents before children, leaves in their order."""

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
    """Keep the leaves; a line that is the beginning of another path is an inner node.

    Raises:
        LabelError: a name is empty, a label is repeated, or an inner node has synonyms, which
            would not be used.
    """
    seen: dict[tuple[str, ...], Label] = {}
    inner = {label.path[:level] for label in labels for level in range(1, len(label.path))}
    for label in labels:
        shown = PATH_SEPARATOR.join(label.path)
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
        yield f"the label set '{name}' has no labels: write one per line"
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
            yield f"the label set '{name}' has '{PATH_SEPARATOR.join(path)}' twice: delete one"


# files


def read_labels(source: str | Path) -> list[LabelSet]:
    """Read the label sets of a file.

    Args:
        source: a text file, a JSON file of ``save_labels``, or ``NAME=FILE``, which names
            the first set of a text file; the default is the file's name.

    Raises:
        LabelError: the file does not exist, is not text, or its labels contradict each other;
            the message names the line.
    """
    name, path = _split_name(source)
    try:
        data = path.read_bytes()
    except OSError as exc:
        message = f"the label file {path} cannot be read ({exc.strerror}): check the name"
        raise LabelError(message) from exc
    if path.suffix.lower() == ".json":
        return _read_json(data, path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        message = f"{path}, line {line}: this is not UTF-8 text; save the file as UTF-8"
        raise LabelError(message) from exc
    sets = [section.labels(path) for section in _sections(text, name or path.stem, path)]
    if not sets:
        message = f"the label file {path} has no labels: write one per line"
        raise LabelError(message)
    return _checked_names(sets)


def read_label_files(sources: Iterable[str | Path]) -> list[LabelSet]:
    """Read the label sets of several files, each named as in ``read_labels``.

    Raises:
        LabelError: as ``read_labels``, or two sets have the same name.
    """
    return _checked_names([labels for source in sources for labels in read_labels(source)])


def save_labels(label_sets: Iterable[LabelSet], path: str | Path) -> None:
    """Write label sets as JSON, with their calibrations.

    Raises:
        LabelError: the file cannot be written.
    """
    document = {"format": FORMAT, "label_sets": [asdict(labels) for labels in label_sets]}
    try:
        Path(path).write_text(
            json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    except OSError as exc:
        message = f"the label file {path} cannot be written ({exc.strerror}): choose another place"
        raise LabelError(message) from exc


def _checked_names(label_sets: list[LabelSet]) -> list[LabelSet]:
    seen: set[str] = set()
    for labels in label_sets:
        if labels.name in seen:
            message = f"two label sets are called '{labels.name}': give one another name"
            raise LabelError(message)
        seen.add(labels.name)
    return label_sets


def _split_name(source: str | Path) -> tuple[str | None, Path]:
    if isinstance(source, str) and "=" in source and not Path(source).exists():
        name, _, rest = source.partition("=")
        return name.strip(), Path(rest)
    return None, Path(source)


@dataclass
class _Section:
    """The lines of one set of a text file."""

    name: str
    line: int
    options: dict[str, Any] = field(default_factory=dict)
    lines: list[Label] = field(default_factory=list)

    def labels(self, path: Path) -> LabelSet:
        where = f"{path}, set '{self.name}' (line {self.line})"
        try:
            return LabelSet(self.name, leaves_of(self.lines, where=where), **self.options)
        except ValueError as exc:
            message = f"{where}: {exc}"
            raise LabelError(message) from exc


def _sections(text: str, first_name: str, path: Path) -> Iterator[_Section]:
    section = _Section(first_name, 1)
    above: list[tuple[int, tuple[str, ...]]] = []  # indentation and path of the lines above
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _COMMENT.sub("", raw.expandtabs(4)).rstrip()
        if not line.strip():
            continue
        head = _HEAD.match(line.strip())
        if head is not None:
            if section.lines:
                yield section
            name = head["name"] or first_name
            section = _Section(name, number, _options(head["options"] or "", path, number))
            above = []
            continue
        indent = len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        label = read_line(line.strip())
        if above:
            label = Label((*above[-1][1], *label.path), label.phrases)
        above.append((indent, label.path))
        section.lines.append(label)
    if section.lines:
        yield section


def _options(text: str, path: Path, line: int) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        word, _, value = (piece.strip() for piece in part.partition("="))
        if word in {"one", "several"} and not value:
            options["mode"] = word
        elif word == "threshold" and _NUMBER.fullmatch(value):
            options["threshold"] = float(value)
        elif word == "templates" and value:
            options["templates"] = value
        elif word == "neutral" and value:
            options["neutral"] = None if value == "off" else value
        else:
            message = (
                f"{path}, line {line}: '{part}' is not understood; there are one, several, "
                "threshold=0.6, templates=bare, neutral=garment and neutral=off"
            )
            raise LabelError(message)
    return options


def _read_json(data: bytes, path: Path) -> list[LabelSet]:
    try:
        document = json.loads(data)
        version = document["format"]
        entries = document["label_sets"] if version == FORMAT else []
        sets = [_set_of(entry) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        message = f"the label file {path} is not one that save_labels wrote ({exc})"
        raise LabelError(message) from exc
    if version != FORMAT:
        message = f"the label file {path} has format {version}; this fashionclip reads {FORMAT}"
        raise LabelError(message)
    return _checked_names(sets)


def _set_of(entry: dict[str, Any]) -> LabelSet:
    fields = dict(entry)
    fields["labels"] = tuple(
        Label(tuple(label["path"]), tuple(label["phrases"])) for label in entry["labels"]
    )
    if isinstance(fields["templates"], list):
        fields["templates"] = tuple(fields["templates"])
    if fields["calibration"] is not None:
        learned = dict(fields["calibration"])
        fields["calibration"] = Calibration(**{**learned, "bias": tuple(learned["bias"])})
    return LabelSet(**fields)
