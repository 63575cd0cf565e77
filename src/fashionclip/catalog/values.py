"""Cells of a table as values of their columns' kinds.

A column of a CSV is a number only if every value in it is, so the type of a value does not depend
on its row. Numbers that are really names stay text: ``007``, ``+4930123``, ``1E5``, and integers
beyond 64 bits.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping

from fashionclip.catalog.tables.table import Cell, clean_text
from fashionclip.product import INT64, Kind, Value, kind_of, widen

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none"})
"""Text in lower case that means a missing value in columns of numbers and booleans."""

MAX_HIGHLIGHTS = 1_000

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?")
_SEPARATORS = re.compile(r"[|;\n\r]+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


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


def _mismatch(cell: Cell, kind: Kind) -> str:
    shown = as_text(cell)[:40]
    return f"{shown!r} in a column of kind {kind}"


def parse_id(cell: Cell) -> str:
    """A product's identifier; empty if there is none."""
    return "" if isinstance(cell, bytes) else as_text(cell).strip()


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
