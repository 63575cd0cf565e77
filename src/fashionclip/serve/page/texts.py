"""Values, prices, ranges and names of columns as text for people."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from fashionclip.catalog.money import decimals_of
from fashionclip.product import Value, list_of
from fashionclip.serve.page.state import plain_number


def column_label(name: str) -> str:
    """A column's name as people write it: ``baseColour`` is "Base colour"."""
    spaced = re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", name)
    words = " ".join(re.split(r"[\s_\-.]+", spaced)).strip() or name
    parts = [word if word.isupper() and len(word) > 1 else word.lower() for word in words.split()]
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def money(number: int | float, currency: str = "") -> str:
    """A price with the decimals of its currency, and the currency: "1,249.00 EUR", "5,900 JPY"."""
    return f"{number:,.{decimals_of(currency)}f} {currency}".rstrip()


def clipped(text: str, most: int) -> str:
    """A text of at most so many characters, with an ellipsis where its end is left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def span(low: float | None, high: float | None) -> str:
    """A range as text: "20 to 50", "up to 50"."""
    if low is None:
        return f"up to {plain_number(high or 0.0)}"
    if high is None:
        return f"from {plain_number(low)}"
    return f"{plain_number(low)} to {plain_number(high)}"


def url_value(value: Value) -> str:
    """A value as URLs have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def yes_no(value: str) -> str:
    """A boolean of a URL as text."""
    return {"true": "Yes", "false": "No"}.get(value.lower(), value)


def text_of(value: Value) -> str:
    """A value as text; empty for a missing one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, float):
        return plain_number(value) if math.isfinite(value) else ""
    return str(value).strip()


def parts_of(value: Value) -> Sequence[str] | Mapping[str, str]:
    """The members of a JSON list or object, or the value itself."""
    if (members := list_of(value)) is not None:
        return [str(part) for part in members if str(part).strip()]
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        with suppress(ValueError, RecursionError):
            parsed = json.loads(value)
            return {str(key): str(part) for key, part in parsed.items() if str(part).strip()}
        return [value]
    return [text_of(value)]
