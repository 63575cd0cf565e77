"""A user's own table: ``image,label`` for classification, ``query,image,relevant`` for retrieval.

A column ``product`` names the product that several images show: views and colourways. Beside
``shop.csv``, a text file ``shop.classes.txt`` may list the classes, one per line as
``fashionclip tag`` reads labels: ``jeans | denim trousers``.

The table may have any format of the catalogue: CSV, TSV, JSON Lines, Parquet, compressed or not.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from fashionclip.catalog.image_cells import image_locations_of
from fashionclip.catalog.image_locations import ImageLocations
from fashionclip.catalog.roles import bare_name
from fashionclip.catalog.tables.formats import find_table, open_table
from fashionclip.catalog.tables.table import BrokenRow, Cell, clean_text
from fashionclip.catalog.values import as_text
from fashionclip.errors import BenchmarkError, CatalogError
from fashionclip.evaluate.benchmarks.base import (
    Loaded,
    class_labels,
    has_file,
    left_out,
    zero_shot_task,
)
from fashionclip.evaluate.tasks import ImageRef, Retrieval, ZeroShot
from fashionclip.images.fetch import DEFAULT_POLICY, is_url
from fashionclip.metrics import percentile

DEVELOPMENT_FROM = 80
"""Images whose name has a percentile from this on are for development, if there is no column."""
_SPLITS = {"test": "test", "development": "development", "dev": "development"}
_COMMENT = re.compile(r"(^|\s)#.*$")
_YES = frozenset({"1", "true", "yes", "y", "1.0"})
_NO = frozenset({"0", "false", "no", "n", "0.0", ""})


@dataclass(slots=True)
class _Rejected:
    """Rows that are left out, by reason, and queries."""

    rows: dict[str, list[str]] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)

    def add(self, number: int, why: str) -> None:
        self.rows.setdefault(why, []).append(f"row {number}")

    def warnings(self) -> tuple[str, ...]:
        return (
            *(left_out(rows, "row", why) for why, rows in self.rows.items()),
            *([left_out(self.queries, "query", "no relevant picture")] if self.queries else []),
        )


_ROLES = {"image": "image", "label": "category", "query": "title"}
"""What the columns are, so that the header is found, and a comma in a query needs no quotes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    number: int
    image: ImageRef
    cells: Mapping[str, str]


class OwnTable:
    """A user's own table, as a benchmark of one task."""

    how_to_get = "write a table with the columns image,label or query,image,relevant"

    def __init__(self, path: Path) -> None:
        """Name the table; ``load`` reads it."""
        self.name = path.name
        self.title = f"the table {path.name}"
        self.places: tuple[str, ...] = (str(path.absolute().parent),)

    def load(self, folder: Path) -> Loaded:
        """Read the table and make its task.

        Raises:
            BenchmarkError: it cannot be read, has other columns, or nothing in it can be used.
        """
        rejected = _Rejected()
        names, lines = self._read(folder / self.name, rejected)
        if "label" in names:
            listed = self._classes(folder)
            task: ZeroShot | Retrieval = self._zero_shot(lines, rejected, "split" in names, listed)
        else:
            task = self._retrieval(lines, rejected, "relevant" in names)
        return Loaded((task,), rejected.warnings())

    def _read(self, path: Path, rejected: _Rejected) -> tuple[set[str], list[_Row]]:
        try:
            place = find_table(str(path), policy=DEFAULT_POLICY)
            table = open_table(place, usual_role=_ROLES.get)
            names = {bare_name(name): name for name in table.names}
            if "image" not in names or not names.keys() & {"label", "query"}:
                message = f"{path}: has the columns {', '.join(table.names)}; {self.how_to_get}"
                raise BenchmarkError(message)
            images = ImageLocations(place, None)
            lines = []
            for row in table.rows():
                if isinstance(row, BrokenRow):
                    rejected.add(row.number, row.reason)
                    continue
                cells = {bare: row.cells.get(name) for bare, name in names.items()}
                image = _image(cells["image"], row.number, images)
                if image is None:
                    rejected.add(row.number, "the image is empty")
                elif not has_file(image):
                    rejected.add(row.number, "the picture's file is missing")
                else:
                    texts = {bare: clean_text(as_text(cell)) for bare, cell in cells.items()}
                    lines.append(_Row(row.number, image, texts))
        except CatalogError as exc:
            raise BenchmarkError(str(exc)) from exc
        return set(names), lines

    def _classes(self, folder: Path) -> dict[str, tuple[str, ...]] | None:
        # of the text file beside the table, each with its words; None without one
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
        lines: Sequence[_Row],
        rejected: _Rejected,
        has_splits: bool,
        listed: Mapping[str, tuple[str, ...]] | None,
    ) -> ZeroShot:
        kept: dict[str, tuple[_Row, str]] = {}
        for line in lines:
            split = _split_of(line, has_splits)
            if not line.cells["label"]:
                rejected.add(line.number, "the label is empty")
            elif split is None:
                rejected.add(line.number, "the split is neither test nor development")
            elif line.image.image_id in kept:
                rejected.add(line.number, "the picture is in an earlier row")
            elif listed is not None and line.cells["label"] not in listed:
                rejected.add(line.number, _not_listed(line.cells["label"], listed))
            else:
                kept[line.image.image_id] = (line, split)
        names = sorted({line.cells["label"] for line, _ in kept.values()})
        if len(names) < 2:
            message = f"{self.name}: needs pictures of two labels or more, and has {len(names)}"
            raise BenchmarkError(_with_reasons(message, rejected))
        by_split: dict[str, list[tuple[ImageRef, str]]] = {"test": [], "development": []}
        for line, split in kept.values():
            by_split[split].append((line.image, line.cells["label"]))
        if not by_split["test"]:
            message = f"{self.name}: has no test picture; write 'test' into the column split"
            raise BenchmarkError(message)
        words = {name: (_words(name),) for name in names} if listed is None else listed
        by_hash = "the fifth of the pictures whose name's MD5 (modulo 100) is 80 or more"
        return zero_shot_task(
            self.name,
            class_labels(tuple(words), words),
            by_split["test"],
            by_split["development"],
            development_from="the rows whose split is development" if has_splits else by_hash,
            notes=(),
        )

    def _retrieval(self, lines: Sequence[_Row], rejected: _Rejected, has_marks: bool) -> Retrieval:
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
                rejected.add(line.number, f"relevant is '{mark[:20]}', neither 1 nor 0")
            elif line.cells["query"]:
                rows = found.setdefault(line.cells["query"], [])
                if mark in _YES and number not in rows:
                    rows.append(number)
        rejected.queries = [f"'{query[:40]}'" for query, rows in found.items() if not rows]
        asked = {query: rows for query, rows in found.items() if rows}
        if not asked:
            message = f"{self.name}: no query has a relevant picture"
            raise BenchmarkError(_with_reasons(message, rejected))
        notes = [
            f"All {len(documents):,} pictures of the table are documents; those that are not "
            "marked as relevant count as wrong."
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
    """Rows of documents, and of other images of their products: views and colourways."""
    marked = set(rows)
    others = [some for some in shows.values() if some & marked]
    return np.array(sorted(marked.union(*others)), dtype=np.int64)


def _image(cell: Cell, number: int, images: ImageLocations) -> ImageRef | None:
    found = next(iter(image_locations_of(cell)), None)
    if isinstance(found, bytes):
        return ImageRef(f"row {number}", found)
    name = clean_text(found or "")
    if not name:
        return None
    location = images.locate(name)
    return ImageRef(name, location if is_url(location) else Path(location))


def _split_of(line: _Row, has_splits: bool) -> str | None:
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


def _with_reasons(message: str, rejected: _Rejected) -> str:
    reasons = "; ".join(rejected.warnings())
    return f"{message} ({reasons})" if reasons else message
