"""What a column holds: the kind that all its values share, and each value as that kind.

A column of a CSV is a number only if every value in it is, so that the type of a value never
depends on where in the table it stands. Numbers that are really names stay text: ``007``,
``+4930123``, ``1E5``, and integers beyond 64 bits.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping

from fashionclip.catalog.rows import BrokenRow, Cell, Row, Survey
from fashionclip.product import INT64, Kind, Value, kind_of, widen

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none"})
"""Text, in lower case, that means no value in a column of numbers or booleans."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?")
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


def take_survey(
    rows: Iterable[Row | BrokenRow], kind_of: Callable[[Cell], Kind | None], names: Iterable[str]
) -> Survey:
    """Find the kinds of all columns in one pass.

    Mended rows are not asked: where the mend was wrong, their values stand in wrong columns.

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
        raise ValueError(_misfit(cell, kind))
    if kind == "number":
        return float(cell) if math.isfinite(cell) else None
    if kind == "integer" and isinstance(cell, int):
        return cell
    raise ValueError(_misfit(cell, kind))


def _convert_text(text: str, kind: Kind) -> Value:
    if kind == "string":
        return clean_text(text) if text.strip() else None
    text = text.strip()
    if text.lower() in MISSING:
        return None
    if widen(kind_of_text(text), kind) != kind:
        raise ValueError(_misfit(text, kind))
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
        return str(int(cell))  # 1580.0 is how pandas keeps 1580 in a column with gaps
    if isinstance(cell, list | tuple | Mapping):
        return json.dumps(cell, ensure_ascii=False, default=as_text)
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def clean_text(text: str) -> str:
    """Text without the lone surrogates that UTF-8 cannot hold."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _misfit(cell: Cell, kind: Kind) -> str:
    shown = as_text(cell)[:40]
    return f"{shown!r} in a column of kind {kind}"
