"""Hints for filters that pass nothing: the stored values that are spelled like those asked for."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from rapidfuzz import process
from rapidfuzz.distance import OSA

from fashionclip.product import Value, list_of
from fashionclip.store.filters import (
    RESERVED,
    AllOf,
    AnyOf,
    Column,
    Compare,
    Condition,
    Contains,
    Filter,
    Like,
    OneOf,
    mask,
    shown_name,
)

MAX_VALUES = 10_000  # of a column that are compared, the most frequent ones
MAX_LISTED = 8  # values of a column that are named one by one
MAX_CHARS = 60  # of a value in a hint
MAX_HINTS = 3


def filter_hint(where: Filter, values_of: Callable[[str], Sequence[Value]]) -> str:
    """What to change in a filter that no product passes.

    Args:
        where: the filter.
        values_of: the values of a column, each once, the most frequent first.

    Returns:
        One line, such as ``no product has baseColour = 'blue'; did you mean 'Blue'?``; empty where
        every value that it asks for is stored, or nothing is like it.
    """
    found: dict[str, None] = {}
    for condition in _leaves(where.condition):
        if condition.column.kind == "string" and condition.column.name not in RESERVED:
            for hint in _hints(condition, values_of):
                found.setdefault(hint)
    text = "; ".join(list(found)[:MAX_HINTS])
    return "".join(char if char.isprintable() else " " for char in text)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The values of a column, and the elements of those that are lists."""

    values: tuple[str, ...]
    elements: tuple[str, ...]


def _leaves(condition: Condition) -> Iterator[Compare | OneOf | Like | Contains]:
    """The comparisons that ask for a text."""
    if isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from _leaves(part)
    elif isinstance(condition, Compare):
        if condition.operator == "=" and isinstance(condition.value, str):
            yield condition
    elif isinstance(condition, OneOf | Like | Contains) and not condition.is_negated:
        yield condition


def _hints(
    condition: Compare | OneOf | Like | Contains, values_of: Callable[[str], Sequence[Value]]
) -> Iterator[str]:
    column = condition.column
    texts = [str(value) for value in values_of(column.name)]
    lists = [list_of(text) for text in texts]
    stored = _Stored(
        values=tuple(text for text, items in zip(texts, lists, strict=True) if items is None),
        elements=tuple(dict.fromkeys(str(item) for items in lists for item in items or ())),
    )
    if isinstance(condition, Like):
        ilike = Filter("", replace(condition, ignores_case=True))
        if not condition.ignores_case and mask(ilike, lambda _: pa.array(texts, pa.string())).any():
            yield f"LIKE tells capital letters from small ones: write {_plain(column, ilike.sql)}"
        return
    if isinstance(condition, Contains):
        yield from _of_list(column, str(condition.value), stored)
        return
    asked = condition.values if isinstance(condition, OneOf) else (condition.value,)
    for value in map(str, asked):
        if value in stored.elements:
            yield f"{shown_name(column)} holds lists: write {_contains(column, value)}"
        elif value not in stored.values and stored.values:
            yield from _missing(column, value, stored.values, "{} = {}")
        elif value not in stored.values and stored.elements:
            yield from _missing(column, value, stored.elements, "contains({}, {})")


def _of_list(column: Column, value: str, stored: _Stored) -> Iterator[str]:
    """Hints for an element that no list has."""
    if value in stored.values:
        yield f"{shown_name(column)} holds no lists: write {shown_name(column)} = {_quoted(value)}"
    elif value not in stored.elements:
        pool = stored.elements or stored.values
        form = "contains({}, {})" if stored.elements else "{} = {}"
        yield from _missing(column, value, pool, form)


def _missing(column: Column, value: str, stored: Sequence[str], form: str) -> Iterator[str]:
    """Hints for a value that no product has."""
    name = shown_name(column)
    near = _nearest(value, stored)
    asked = form.format(name, _quoted(value))
    if near is not None:
        yield f"no product has {asked}; did you mean {_quoted(near)}?"
    elif len(stored) <= MAX_LISTED:
        known = ", ".join(map(_quoted, sorted(stored)))
        yield f"no product has {asked}; {name} has the values {known}"


def _nearest(value: str, stored: Sequence[str]) -> str | None:
    """The value that differs least: in case, blanks and accents, else in a letter or two."""
    wanted = _folded(value)
    folded = [_folded(one) for one in stored]
    if wanted in folded:
        return stored[folded.index(wanted)]
    if len(wanted) < 4 or any(map(str.isdigit, wanted)):  # another size or code is another thing
        return None
    most = 1 if len(wanted) <= 5 else 2
    found = process.extractOne(wanted, folded, scorer=OSA.distance, score_cutoff=most)
    return None if found is None else stored[found[2]]


def _folded(text: str) -> str:
    """Text without case, accents, blanks and hyphens."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"[\s_-]+", "", "".join(c for c in apart if not unicodedata.combining(c)))


def _contains(column: Column, value: str) -> str:
    return f"contains({shown_name(column)}, {_quoted(value)})"


def _quoted(value: str) -> str:
    shown = value if len(value) <= MAX_CHARS else value[:MAX_CHARS] + "…"
    return "'" + shown.replace("'", "''") + "'"


def _plain(column: Column, written: str) -> str:
    """A comparison as people write it: quotes around a name only where they are needed."""
    return written.replace('"' + column.name.replace('"', '""') + '"', shown_name(column), 1)
