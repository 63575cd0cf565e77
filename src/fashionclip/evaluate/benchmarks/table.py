"""A table of one's own: ``image,label`` to sort pictures, ``query,image,relevant`` to find them.

A column ``product`` names what several pictures show: views and colourways of one product. Beside
``shop.csv``, a text file ``shop.classes.txt`` may say which classes there are, one a line as
``fashionclip tag`` reads labels: ``jeans | denim trousers``.

Every format that the catalogue reads will do: CSV, TSV, JSON Lines, Parquet, packed or not.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from fashionclip.catalog.cells import as_text, clean_text, parse_image
from fashionclip.catalog.roles import bare_name
from fashionclip.catalog.rows import BrokenRow, Cell
from fashionclip.catalog.sources import ImageLocations, find_table, open_table
from fashionclip.errors import BenchmarkError, CatalogError
from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    class_labels,
    has_image,
    left_out,
)
from fashionclip.evaluate.tasks import ImageRef, Retrieval, ZeroShot
from fashionclip.images.fetch import DEFAULT_POLICY, is_url
from fashionclip.metrics import percentile

DEVELOPMENT_FROM = 80
"""Pictures whose name has a percentile from this on are for development, if no column says so."""
_SPLITS = {"test": "test", "development": "development", "dev": "development"}
_COMMENT = re.compile(r"(^|\s)#.*$")
_YES = frozenset({"1", "true", "yes", "y", "1.0"})
_NO = frozenset({"0", "false", "no", "n", "0.0", ""})


@dataclass(slots=True)
class _Refused:
    """Rows that are left out, by the reason why, and queries."""

    rows: dict[str, list[str]] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)

    def add(self, number: int, why: str) -> None:
        self.rows.setdefault(why, []).append(f"row {number}")

    def warnings(self) -> tuple[str, ...]:
        return (
            *(left_out(rows, "row", why) for why, rows in self.rows.items()),
            *([left_out(self.queries, "query", "no relevant picture")] if self.queries else []),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    number: int
    image: ImageRef
    cells: Mapping[str, str]


class OwnTable:
    """A user's table, as a benchmark of one task."""

    how_to_get = "write a table with the columns image,label or query,image,relevant"

    def __init__(self, path: Path) -> None:
        """Name the table; it is read by ``load``."""
        self.name = path.name
        self.title = f"the table {path.name}"
        self.places: tuple[str, ...] = (str(path.absolute().parent),)

    def load(self, folder: Path) -> Loaded:
        """Read the table and make its task.

        Raises:
            BenchmarkError: it cannot be read, has other columns, or nothing in it can be used.
        """
        refused = _Refused()
        names, lines = self._read(folder / self.name, refused)
        if "label" in names:
            listed = self._classes(folder)
            task: ZeroShot | Retrieval = self._zero_shot(lines, refused, "split" in names, listed)
        else:
            task = self._retrieval(lines, refused, "relevant" in names)
        return Loaded((task,), refused.warnings())

    def _read(self, path: Path, refused: _Refused) -> tuple[set[str], list[_Line]]:
        try:
            place = find_table(str(path), policy=DEFAULT_POLICY)
            table = open_table(place, is_free_text=lambda name: bare_name(name) == "query")
            names = {bare_name(name): name for name in table.names}
            if "image" not in names or not names.keys() & {"label", "query"}:
                message = f"{path}: has the columns {', '.join(table.names)}; {self.how_to_get}"
                raise BenchmarkError(message)
            images = ImageLocations(place, None)
            lines = []
            for row in table.rows():
                if isinstance(row, BrokenRow):
                    refused.add(row.number, row.reason)
                    continue
                cells = {bare: row.cells.get(name) for bare, name in names.items()}
                image = _picture(cells["image"], row.number, images)
                if image is None:
                    refused.add(row.number, "the image is empty")
                elif not has_image(image):
                    refused.add(row.number, "the picture's file is missing")
                else:
                    texts = {bare: clean_text(as_text(cell)) for bare, cell in cells.items()}
                    lines.append(_Line(row.number, image, texts))
        except CatalogError as exc:
            raise BenchmarkError(str(exc)) from exc
        return set(names), lines

    def _classes(self, folder: Path) -> dict[str, tuple[str, ...]] | None:
        """The classes of the text file beside the table, each with its words; None without one.

        Raises:
            BenchmarkError: it cannot be read, or a class is there twice or has no name.
        """
        path = folder / f"{Path(self.name).stem}.classes.txt"
        if not path.exists():
            return None
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            message = f"{self.name}: {path} cannot be read ({exc}); save it as UTF-8 text"
            raise BenchmarkError(message) from exc
        found: dict[str, tuple[str, ...]] = {}
        for number, line in enumerate(lines, start=1):
            name, *synonyms = (part.strip() for part in _COMMENT.sub("", line).split("|"))
            if name in found or (synonyms and not name):
                why = f"'{name}' is there twice" if name else "a class has no name"
                message = f"{self.name}: {path}, line {number}: {why}; delete the line"
                raise BenchmarkError(message)
            if name:
                found[name] = tuple(dict.fromkeys([_words(name), *filter(None, synonyms)]))
        return found

    def _zero_shot(
        self,
        lines: Sequence[_Line],
        refused: _Refused,
        has_splits: bool,
        listed: Mapping[str, tuple[str, ...]] | None,
    ) -> ZeroShot:
        kept: dict[str, tuple[_Line, str]] = {}
        for line in lines:
            split = _split_of(line, has_splits)
            if not line.cells["label"]:
                refused.add(line.number, "the label is empty")
            elif split is None:
                refused.add(line.number, "the split is neither test nor development")
            elif line.image.image_id in kept:
                refused.add(line.number, "the picture is in an earlier row")
            else:
                kept[line.image.image_id] = (line, split)
        if listed is not None:
            for line, _ in kept.values():
                if line.cells["label"] not in listed:
                    refused.add(line.number, _not_listed(line.cells["label"], listed))
            kept = {id_: one for id_, one in kept.items() if one[0].cells["label"] in listed}
        names = sorted({line.cells["label"] for line, _ in kept.values()})
        if len(names) < 2:
            message = f"{self.name}: needs pictures of two labels or more, and has {len(names)}"
            raise BenchmarkError(_with_reasons(message, refused))
        test = [line for line, split in kept.values() if split == "test"]
        development = [line for line, split in kept.values() if split == "development"]
        if not test:
            message = f"{self.name}: has no test picture; write 'test' into the column split"
            raise BenchmarkError(message)
        words = {name: (_words(name),) for name in names} if listed is None else listed
        row = {name: number for number, name in enumerate(words)}
        by_hash = "the fifth of the pictures whose name's MD5 (modulo 100) is 80 or more"
        where = "the rows whose split is development" if has_splits else by_hash
        return ZeroShot(
            name=self.name,
            classes=class_labels(tuple(words), words),
            images=tuple(line.image for line in test),
            labels=np.array([row[line.cells["label"]] for line in test], dtype=np.int64),
            development=where if development else "",
            development_images=tuple(line.image for line in development),
            development_labels=np.array(
                [row[line.cells["label"]] for line in development], dtype=np.int64
            ),
        )

    def _retrieval(self, lines: Sequence[_Line], refused: _Refused, has_marks: bool) -> Retrieval:
        documents: dict[str, ImageRef] = {}
        row: dict[str, int] = {}
        found: dict[str, list[int]] = {}
        shows: dict[str, set[int]] = {}
        for line in lines:
            image_id = line.image.image_id
            documents.setdefault(image_id, line.image)
            number = row.setdefault(image_id, len(row))
            if product := line.cells.get("product"):
                shows.setdefault(product, set()).add(number)
            mark = line.cells["relevant"].casefold() if has_marks else "1"
            if mark not in _YES | _NO:
                refused.add(line.number, f"relevant is '{mark[:20]}', neither 1 nor 0")
            elif line.cells["query"]:
                rows = found.setdefault(line.cells["query"], [])
                if mark in _YES and number not in rows:
                    rows.append(number)
        refused.queries = [f"'{query[:40]}'" for query, rows in found.items() if not rows]
        asked = {query: rows for query, rows in found.items() if rows}
        if not asked:
            message = f"{self.name}: no query has a relevant picture"
            raise BenchmarkError(_with_reasons(message, refused))
        notes = [
            f"Every one of the {len(documents):,} pictures of the table is a document; what is not "
            "marked as relevant counts as wrong."
        ]
        if shows:
            notes.append("All pictures of a product are relevant where one of them is marked.")
        return Retrieval(
            name=self.name,
            queries=tuple(asked),
            documents=tuple(documents.values()),
            relevant=tuple(_with_variants(rows, shows) for rows in asked.values()),
            notes=tuple(notes),
        )


def _with_variants(rows: Sequence[int], shows: Mapping[str, set[int]]) -> np.ndarray:
    """Rows of documents, and of other pictures of their products: views and colourways."""
    marked = set(rows)
    others = [some for some in shows.values() if some & marked]
    return np.array(sorted(marked.union(*others)), dtype=np.int64)


def _picture(cell: Cell, number: int, images: ImageLocations) -> ImageRef | None:
    found = parse_image(cell)
    if isinstance(found, bytes):
        return ImageRef(f"row {number}", found)
    name = clean_text(found or "")
    if not name:
        return None
    location = images.locate(name)
    return ImageRef(name, location if is_url(location) else Path(location))


def _split_of(line: _Line, has_splits: bool) -> str | None:
    if has_splits:
        return _SPLITS.get(line.cells["split"].casefold())
    is_development = percentile(Path(line.image.image_id).name) >= DEVELOPMENT_FROM
    return "development" if is_development else "test"


def _not_listed(label: str, listed: Collection[str]) -> str:
    close = get_close_matches(label, listed, n=1)
    meant = f" (did you mean '{close[0]}'?)" if close else ""
    return f"the label '{label[:40]}' is not in the list of classes{meant}"


def _words(label: str) -> str:
    return " ".join(label.replace("_", " ").split()).casefold()


def _with_reasons(message: str, refused: _Refused) -> str:
    reasons = "; ".join(refused.warnings())
    return f"{message} ({reasons})" if reasons else message
