"""Columns and values in words that a person reads: labels, prices, ranges, lists."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.product import Value
from fashionclip.serve.page.state import plain_number


def role_column(role: str, names: Iterable[str]) -> str | None:
    """The column that plays a part by its usual name: title, brand, price, category."""
    by_bare: dict[str, str] = {}
    for name in names:
        by_bare.setdefault(bare_name(name), name)
    return next((by_bare[usual] for usual in USUAL_NAMES[role] if usual in by_bare), None)


def column_label(name: str) -> str:
    """A column's name as a person writes it: ``baseColour`` is "Base colour"."""
    spaced = re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", name)
    words = " ".join(re.split(r"[\s_\-.]+", spaced)).strip() or name
    parts = [word if word.isupper() and len(word) > 1 else word.lower() for word in words.split()]
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def money(number: object) -> str:
    """A price: two decimals unless it is round, thousands apart. The currency is not known."""
    value = float(number)  # type: ignore[arg-type]  # callers have looked
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def span(low: float | None, high: float | None) -> str:
    """A range in words: "20 to 50", "up to 50"."""
    if low is None:
        return f"up to {plain_number(high or 0.0)}"
    if high is None:
        return f"from {plain_number(low)}"
    return f"{plain_number(low)} to {plain_number(high)}"


def plain(value: Value) -> str:
    """A value as a URL has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def yes_no(value: str) -> str:
    """A yes-or-no value in words."""
    return {"true": "Yes", "false": "No"}.get(value.lower(), value)


def words_of(value: Value) -> str:
    """A value in words; nothing for one that is missing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, float):
        return plain_number(value) if math.isfinite(value) else ""
    return str(value).strip()


def is_number(value: Value) -> bool:
    """Whether a value is a number that can be counted with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parts_of(value: Value) -> Sequence[str] | Mapping[str, str]:
    """What a cell holds: the members of a JSON list or table, or the value itself."""
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        try:
            held = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
        if isinstance(held, list):
            return [str(part) for part in held if str(part).strip()]
        return {str(key): str(part) for key, part in held.items() if str(part).strip()}
    return [words_of(value)]
