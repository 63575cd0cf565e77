"""Cells of a table as values of their columns' types.

A column of a CSV is a number only if every value in it is, so the type of a value does not depend
on its row. Numbers that are really names stay text: ``007``, ``+4930123``, ``1E5``, and integers
beyond 64 bits.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from fashionclip.catalog.html_text import plain_text
from fashionclip.catalog.money import MAX_PRICE, price_of, read_amount
from fashionclip.catalog.tables.table import Cell, clean_text
from fashionclip.product import INT64, Kind, Value

MISSING = frozenset(
    {"", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "-", "--", "–", "—"}  # noqa: RUF001
)
"""Text in lower case that means a missing value in columns of numbers, booleans and dates."""
BOOLEANS: Mapping[str, tuple[str, str]] = {
    "true": ("true", "false"),
    "yes": ("yes", "no"),
    "y": ("y", "n"),
    "ja": ("ja", "nein"),
    "oui": ("oui", "non"),
    "sí": ("sí", "no"),
    "si": ("si", "no"),
    "sì": ("sì", "no"),
    "sim": ("sim", "não"),
    "on": ("on", "off"),
}
"""Words for true and false, by the word for true."""
MAX_HIGHLIGHTS = 1_000
MAX_DATE_CHARS = 60
MAX_HTML_CHARS = 1_000
"""Longer cells hold no number, whatever tags are around it."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(
    r"(?:(?P<year>\d{4})(?P<sign>[-./])(?P<month>\d{1,2})(?P=sign)(?P<day>\d{1,2})"
    r"|(?P<first>\d{1,2})(?P<mark>[-./])(?P<second>\d{1,2})(?P=mark)(?P<last>\d{4}))"
    r"(?:[T ,]+(?P<time>\d{1,2}:\d{2}(?::\d{2})?))?(?P<rest>(?<=\d)(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)"
)
_SEPARATORS = re.compile(r"[|;\n\r]+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")

Form = Literal[
    "text", "id", "plain", "amount", "money", "words", "day first", "month first", "list"
]
"""How the cells of a column are read. ``plain`` numbers and booleans are written as programs write
them, an ``amount`` has thousands signs or a decimal comma, ``words`` are such as yes and no."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a column holds, decided from all of its cells."""

    kind: Kind | None
    """None for a blank column: nothing is stored for it."""
    form: Form = "text"
    """How its cells are read."""
    sign: str | None = None
    """The decimal sign of amounts and numbers, ``.`` or ``,``; of a list, what stands between its
    elements. None where a lone sign before three digits is the thousands'."""
    because: tuple[int, str] | None = None
    """Row and value of the first cell that fits no narrower kind."""
    examples: tuple[str, ...] = ()
    """Up to three cells, as they were written."""


def reader_of(column: ColumnType) -> Callable[[Cell], Value]:
    """The function that makes values of a column's cells.

    It raises ``ValueError`` for a cell that does not fit, which can only be one of a mended row.
    """
    kind, form, sign = column.kind or "string", column.form, column.sign
    readers: dict[Form, Callable[[Cell], Value]] = {
        "text": _read_text,
        "id": _read_id,
        "plain": lambda cell: (
            _read_plain_text(cell, kind) if type(cell) is str else _read_plain(cell, kind)
        ),
        "amount": lambda cell: _read_amount(cell, sign),
        "money": lambda cell: _read_money(cell, kind, sign),
        "words": _read_words,
        "day first": lambda cell: _read_date(cell, day_first=True),
        "month first": lambda cell: _read_date(cell, day_first=False),
        "list": lambda cell: _read_list(cell, sign),
    }
    read = readers[form]
    return (
        read if form in {"text", "id", "list", "plain"} else lambda cell: read(without_html(cell))
    )


def without_html(cell: Cell) -> Cell:
    """A cell of a number, a price or a date without tags and entities; long text as it is."""
    if type(cell) is not str or len(cell) > MAX_HTML_CHARS or not ("<" in cell or "&" in cell):
        return cell
    return plain_text(cell)


def _read_text(cell: Cell) -> Value:
    text = cell if type(cell) is str else as_text(cell)
    if not text.isprintable() or "<" in text or "&" in text:
        text = _plain_json(text) if text[:1] in {"[", "{"} else plain_text(text)
    return text if text and not text.isspace() else None


def _plain_json(text: str) -> str:
    """JSON whose texts are without HTML: what is unescaped may hold a quotation mark."""
    try:
        return json.dumps(_plain_parts(json.loads(text)), ensure_ascii=False)
    except (ValueError, RecursionError):
        return plain_text(text)


def _plain_parts(value: Cell) -> Cell:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, dict):
        return {name: _plain_parts(part) for name, part in value.items()}
    return [_plain_parts(part) for part in value] if isinstance(value, list) else value


def _read_id(cell: Cell) -> Value:
    text = as_text(cell)
    return clean_text(text) if text.strip() else None


def _read_plain(cell: Cell, kind: Kind) -> Value:
    """A number, an integer or a boolean, written as programs write it.

    Raises:
        ValueError: the cell is something else.
    """
    if cell is None:
        return None
    if isinstance(cell, str):
        return _read_plain_text(cell, kind)
    if kind == "boolean" and isinstance(cell, bool):
        return cell
    if kind == "number" and isinstance(cell, int | float | Decimal):
        return float(cell) if math.isfinite(cell) else None
    if kind == "integer" and isinstance(cell, int) and not isinstance(cell, bool):
        return cell
    raise ValueError(_mismatch(cell, kind))


@lru_cache(16_384)
def _read_plain_text(cell: str, kind: Kind) -> Value:
    text = as_text(without_html(cell)).strip()
    if text.lower() in MISSING:
        return None
    if kind == "boolean" and text.lower() in BOOLEANS["true"]:
        return text.lower() == "true"
    if kind == "integer" and is_integer(text):
        return int(text)
    if kind == "number" and is_number(text):
        return float(text)
    raise ValueError(_mismatch(text, kind))


def _read_money(cell: Cell, kind: Kind, sign: str | None) -> Value:
    """A price; None for what is none."""
    if isinstance(cell, str):
        value = price_of(read_amount(cell), sign)
        return int(value) if kind == "integer" and value is not None else value
    if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal):
        return None
    is_price = 0 <= cell < MAX_PRICE
    return (int(cell) if kind == "integer" else float(cell)) if is_price else None


def _read_amount(cell: Cell, sign: str | None) -> Value:
    """A number with thousands signs, or a decimal comma.

    Raises:
        ValueError: the cell is something else.
    """
    text = as_text(cell).strip()
    if text.lower() in MISSING:
        return None
    amount = read_amount(text)
    if amount is None or amount.currency:
        raise ValueError(_mismatch(cell, "number"))
    return amount.value(sign)


def _read_words(cell: Cell) -> Value:
    """One of a pair of words.

    Raises:
        ValueError: the cell is something else.
    """
    word = as_text(cell).strip().lower()
    if word in MISSING:
        return None
    if word in BOOLEANS:
        return True
    if any(word == no for _, no in BOOLEANS.values()):
        return False
    raise ValueError(_mismatch(cell, "boolean"))


def _read_list(cell: Cell, sign: str | None) -> Value:
    """A list of words as JSON."""
    if not isinstance(cell, str):
        return _read_text(cell)
    text = plain_text(cell).strip()
    if not text:
        return None
    if text[0] + text[-1] == "[]":
        elements = list(_split_text(text, depth=0))
    else:
        elements = text.split(sign) if sign else [text]
    stripped = (element.strip() for element in elements)
    return json.dumps(list(filter(None, stripped)), ensure_ascii=False)


def _read_date(cell: Cell, *, day_first: bool) -> Value:
    text = as_text(cell).strip()
    if text.lower() in MISSING:
        return None
    found = iso_date(text, day_first=day_first) if len(text) <= MAX_DATE_CHARS else None
    return found or clean_text(text)


@lru_cache(4096)
def iso_date(text: str, *, day_first: bool) -> str | None:
    """A date, and its time if it has one, as ISO 8601 writes it; None if it is none.

    Args:
        text: such as ``31.12.2026 14:30`` or ``2026/12/31``.
        day_first: whether ``5/12/2026`` is in December. A date with points has the day first.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    if found["year"]:
        year, month, day = (int(found[part]) for part in ("year", "month", "day"))
    else:
        first, second, year = (int(found[part]) for part in ("first", "second", "last"))
        day, month = (first, second) if day_first or found["mark"] == "." else (second, first)
    try:
        shown = date(year, month, day).isoformat()
    except ValueError:
        return None
    return f"{shown}T{found['time']:0>5}{found['rest']}" if found["time"] else shown


def is_integer(text: str) -> bool:
    """Whether text is a whole number of 64 bits, as programs write it."""
    return _INTEGER.fullmatch(text) is not None and int(text) in INT64


def is_number(text: str) -> bool:
    """Whether text is a finite number, as programs write it."""
    if _NUMBER.fullmatch(text):
        return math.isfinite(float(text))
    return is_integer(text)


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
    """A product's highlights, as phrases, without HTML.

    A cell may hold a list, an object (its values count: ``{"Neck": "Round Neck"}``), JSON text of
    either, or phrases separated by ``|``, ``;`` or line ends. Values without a letter, such as
    counts, and words for "none" are left out.
    """
    phrases = (plain_text(phrase).strip() for phrase in _phrases(cell, depth=0))
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
    return [text] if depth else _SEPARATORS.split(plain_text(text))


def _is_phrase(phrase: str) -> bool:
    return phrase.lower() not in MISSING and any(letter.isalpha() for letter in phrase)
