"""Rows of a table, the kinds of their columns, and their cells as values.

A column of a CSV is a number only if every value in it is, so the type of a value does not depend
on its row. Numbers that are really names stay text: ``007``, ``+4930123``, ``1E5``, and integers
beyond 64 bits.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fashionclip.product import INT64, Kind, Value, kind_of, widen

Cell = Any
"""A value as its format has it: text, number, bool, bytes, list, dict or None."""

MAX_ROW_CHARS = 4_000_000
"""Longer rows are rejected, which bounds the memory that one row takes."""
MAX_COLUMNS = 2_000
"""Wider tables are refused."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table, as its format has it."""

    number: int
    """The first row below the header is 1."""
    cells: Mapping[str, Cell]
    is_mended: bool = False
    """Whether surplus fields were joined to its last column."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read."""

    number: int
    reason: str
    first_cell: str | None = None
    """The text of its first column, if that much could be read."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over a table found."""

    kinds: Mapping[str, Kind]
    """Columns that can be passed on, in their order; columns of binary data are left out."""
    n_rows: int
    """Rows, broken ones included."""
    n_mended: int = 0


@runtime_checkable
class Table(Protocol):
    """A catalogue table of one format; reading streams and can be repeated."""

    names: tuple[str, ...]
    """Its columns, each name once."""
    notes: tuple[str, ...]
    """Remarks on how it was read, such as its encoding."""

    def survey(self) -> Survey:
        """Read it through once, or read its own description, for the columns' kinds.

        Raises:
            CatalogError: it cannot be read to its end.
        """

    def rows(self) -> Iterator[Row | BrokenRow]:
        """Read it from the top.

        Raises:
            CatalogError: it cannot be read on.
        """


def take_survey(
    rows: Iterable[Row | BrokenRow], kind_of: Callable[[Cell], Kind | None], names: Iterable[str]
) -> Survey:
    """Find the kinds of all columns in one pass.

    Mended rows do not count: if the mend was wrong, their values are in the wrong columns.

    Args:
        rows: the whole table.
        kind_of: the kind of one value, None if it is missing.
        names: the columns known beforehand; others follow in the order in which they turn up.
    """
    kinds: dict[str, Kind | None] = dict.fromkeys(names)
    n_rows = n_mended = 0
    for row in rows:
        n_rows += 1
        if isinstance(row, BrokenRow):
            continue
        if row.is_mended:
            n_mended += 1
            continue
        for name, cell in row.cells.items():
            known = kinds.setdefault(name, None)
            if known != "string":
                kinds[name] = widen(known, kind_of(cell))
    return Survey({name: kind or "string" for name, kind in kinds.items()}, n_rows, n_mended)


MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none"})
"""Text in lower case that means a missing value in columns of numbers and booleans."""

MAX_HIGHLIGHTS = 1_000

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?")
_SEPARATORS = re.compile(r"[|;\n\r]+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_NEXT_URL = re.compile(r"[,|;\s]+(?=https?://)")
_SURROGATE = re.compile("[\ud800-\udfff]")


def kind_of_text(text: str) -> Kind | None:
    """The narrowest kind that a field of a CSV fits; None if it is missing."""
    text = text.strip()
    if _INTEGER.fullmatch(text):
        return "integer" if int(text) in INT64 else "string"
    if _NUMBER.fullmatch(text):
        return "number" if math.isfinite(float(text)) else "string"
    word = text.lower()
    if word in {"true", "false"}:
        return "boolean"
    return None if word in MISSING else "string"


def kind_of_value(cell: Cell) -> Kind | None:
    """The narrowest kind of a cell that already has a type, as in JSON; None if missing."""
    return None if cell == "" else kind_of(cell)


def convert(cell: Cell, kind: Kind) -> Value:
    """A cell as its column's kind.

    Raises:
        ValueError: it does not fit.
    """
    if cell is None:
        return None
    if isinstance(cell, str):
        return _convert_text(cell, kind)
    if kind == "string":
        return clean_text(as_text(cell)) or None
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        if kind == "boolean" and isinstance(cell, bool):
            return cell
        raise ValueError(_mismatch(cell, kind))
    if kind == "number":
        return float(cell) if math.isfinite(cell) else None
    if kind == "integer" and isinstance(cell, int):
        return cell
    raise ValueError(_mismatch(cell, kind))


def _convert_text(text: str, kind: Kind) -> Value:
    if kind == "string":
        return clean_text(text) if text.strip() else None
    text = text.strip()
    if text.lower() in MISSING:
        return None
    if widen(kind_of_text(text), kind) != kind:
        raise ValueError(_mismatch(text, kind))
    if kind == "integer":
        return int(text)
    return float(text) if kind == "number" else text.lower() == "true"


def as_text(cell: Cell) -> str:
    """A value of any type as text; lists and objects as JSON."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # pandas keeps 1580 as 1580.0 in a column with gaps
    if isinstance(cell, list | tuple | Mapping):
        return json.dumps(cell, ensure_ascii=False, default=as_text)
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def clean_text(text: str) -> str:
    """Text without the lone surrogates that UTF-8 cannot hold."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _mismatch(cell: Cell, kind: Kind) -> str:
    shown = as_text(cell)[:40]
    return f"{shown!r} in a column of kind {kind}"


def parse_id(cell: Cell) -> str:
    """A product's identifier; empty if there is none."""
    return "" if isinstance(cell, bytes) else as_text(cell).strip()


def parse_image(cell: Cell) -> str | bytes | None:
    """The image that a cell names: its location, its bytes, or None.

    A cell may hold a path or URL, several URLs or a list (the first counts), bytes, or the
    ``{"bytes", "path"}`` of Hugging Face data sets.
    """
    if isinstance(cell, bytes):
        return cell or None
    if isinstance(cell, str):
        first, *_ = _NEXT_URL.split(cell.strip(), maxsplit=1)
        return first or None
    if isinstance(cell, list | tuple):
        return next((found for found in map(parse_image, cell[:10]) if found), None)
    if isinstance(cell, Mapping):
        parts = (cell.get(key) for key in ("bytes", "path", "url", "src"))
        return next((found for found in map(parse_image, parts) if found), None)
    return None if cell is None or isinstance(cell, bool) else as_text(cell)


def parse_highlights(cell: Cell) -> list[str]:
    """A product's highlights, as phrases.

    A cell may hold a list, an object (its values count: ``{"Neck": "Round Neck"}``), JSON text of
    either, or phrases separated by ``|``, ``;`` or line ends. Values without a letter, such as
    counts, and words for "none" are left out.
    """
    phrases = (phrase.strip() for phrase in _phrases(cell, depth=0))
    return [phrase for phrase in phrases if _is_phrase(phrase)][:MAX_HIGHLIGHTS]


def _phrases(cell: Cell, *, depth: int) -> Iterable[str]:
    if isinstance(cell, str):
        return _split_text(cell, depth=depth)
    if isinstance(cell, Mapping):
        cell = list(cell.values())
    if isinstance(cell, list | tuple) and depth < 4:
        return [phrase for inner in cell for phrase in _phrases(inner, depth=depth + 1)]
    return []


def _split_text(text: str, *, depth: int) -> Iterable[str]:
    text = text.strip()
    if depth == 0 and text[:1] + text[-1:] in {"[]", "{}"}:
        try:
            return _phrases(json.loads(text), depth=1)
        except (ValueError, RecursionError):
            if text[0] == "[":  # a Python list, as pandas writes it into a CSV
                return [single or double for single, double in _QUOTED.findall(text)]
    return [text] if depth else _SEPARATORS.split(text)


def _is_phrase(phrase: str) -> bool:
    return phrase.lower() not in MISSING and any(letter.isalpha() for letter in phrase)
