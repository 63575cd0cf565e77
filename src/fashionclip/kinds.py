"""The four kinds of values that a catalogue column holds, and how two kinds become one.

Catalogues decide by them, stores keep them, and both must decide alike.
"""

from typing import Literal

Kind = Literal["string", "integer", "number", "boolean"]
"""What a catalogue column holds; any value may also be missing (None)."""

INT64 = range(-(2**63), 2**63)
"""Integers that stores and Parquet can keep; larger ones are text."""


def kind_of(value: object) -> Kind | None:
    """The narrowest kind that holds a value; None for a missing one. Lists and such are text."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if value in INT64 else "string"
    return "number" if isinstance(value, float) else "string"


def widen(one: Kind | None, other: Kind | None) -> Kind | None:
    """The narrowest kind that holds the values of both."""
    if one is None or other is None or one == other:
        return one or other
    return "number" if {one, other} == {"integer", "number"} else "string"
