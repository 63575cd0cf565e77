"""One value of a recipe: held against its key's type and range, and written as TOML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import Field
from difflib import get_close_matches
from typing import Any

from fashionclip.errors import TrainingError


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of an error: the name that was meant, or all there are."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"


def checked(value: object, entry: Field[Any], kind: Any, where: str) -> object:  # noqa: ANN401
    """Hold a value against its key's type and range.

    Raises:
        TrainingError: it does not fit.
    """
    limits = entry.metadata
    if kind in {tuple[str, ...], tuple[float, ...]}:
        wanted: type = str if kind == tuple[str, ...] else float
        if not isinstance(value, list | tuple):
            message = f"{where} is {value!r}; write a list, such as {toml(entry.default)}"
            raise TrainingError(message)
        if entry.name == "betas" and len(value) != 2:
            message = f"{where} has {len(value)} numbers; Adam has two, such as [0.9, 0.98]"
            raise TrainingError(message)
        return tuple(_checked_one(one, wanted, limits, where) for one in value)
    return _checked_one(value, kind, limits, where)


def _checked_one(value: object, kind: type, limits: Mapping[str, Any], where: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {
            str: "text in quotes",
            int: "a whole number",
            float: "a number",
            bool: "true or false",
        }
        message = f"{where} is {value!r}; it is {words[kind]}{_unquoted(value, kind)}"
        raise TrainingError(message)
    if limits["one_of"] and value not in limits["one_of"]:
        message = f"{where} is '{value}'; {nearest(str(value), limits['one_of'])}"
        raise TrainingError(message)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = limits["low"], limits["high"]
        if not low <= value <= high:
            message = f"{where} is {value:g}; {_range(low, high)}{_as_share(value, low, high)}"
            raise TrainingError(message)
    return value


def _unquoted(value: object, kind: type) -> str:
    """A hint where only the quotes are wrong."""
    if not isinstance(value, str) or kind is str:
        return ""
    try:
        kind(value)
    except ValueError:
        return " without a unit" if value[:1].isdigit() and not _is_number(value) else ""
    return f", without quotes: {value}"


def _is_number(text: str) -> bool:
    """Whether a text is a number and nothing else."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _range(low: float, high: float) -> str:
    if (low, high) == (0.0, 1.0):
        return "it is a share from 0 to 1"
    if high == math.inf:
        return f"it is at least {low:g}"
    return f"it lies between {low:g} and {high:g}"


def _as_share(value: float, low: float, high: float) -> str:
    is_percent = (low, high) == (0.0, 1.0) and 1 < value <= 100
    return f"; for {value:g} % write {value / 100:g}" if is_percent else ""


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(one) for one in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
    return repr(value)
