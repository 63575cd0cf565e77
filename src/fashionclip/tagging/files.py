"""Label sets on disk: plain text that people write, JSON with what was calibrated.

A text file has one label a line. ``#`` begins a comment; ``[colour]`` begins another set, and
``[colour: several, threshold=0.6, templates=bare]`` says how it is used; ``jeans | denim
trousers`` are synonyms; a tree is made by indenting lines or by ``Clothing > Tops > T-shirts``.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fashionclip.errors import LabelError
from fashionclip.tagging.labels import Calibration, Label, LabelSet, Mode, leaves_of, read_line

FORMAT = 1  # of the JSON file; raised when an older fashionclip could not read a newer one
_HEAD = re.compile(r"^\[\s*(?P<name>[^\]:]*?)\s*(?::(?P<options>[^\]]*))?\]$")
_COMMENT = re.compile(r"(^|\s)#.*$")


def read_labels(source: str | Path) -> list[LabelSet]:
    """Read the label sets of a file.

    Args:
        source: a text file, a JSON file of :func:`save_labels`, or ``NAME=FILE``, which names
            the first set of a text file; without that it is called as the file is.

    Raises:
        LabelError: it is not there, is not text, or its labels contradict each other; the
            message names the line.
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
        message = f"the label file {path} has no labels: write one a line"
        raise LabelError(message)
    return unique_sets(sets)


def read_label_files(sources: Iterable[str | Path]) -> list[LabelSet]:
    """Read the label sets of several files, each as :func:`read_labels` takes it.

    Raises:
        LabelError: as :func:`read_labels`, or two sets have one name.
    """
    return unique_sets([labels for source in sources for labels in read_labels(source)])


def save_labels(label_sets: Iterable[LabelSet], path: str | Path) -> None:
    """Write label sets with all that they know, calibration too, as JSON.

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


def unique_sets(label_sets: list[LabelSet]) -> list[LabelSet]:
    """Pass label sets on if each has its own name.

    Raises:
        LabelError: two have one name.
    """
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
            mode: Mode = "one" if word == "one" else "several"
            options["mode"] = mode
        elif word == "threshold" and _is_number(value):
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


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d*\.?\d+", text) is not None


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
    return unique_sets(sets)


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
