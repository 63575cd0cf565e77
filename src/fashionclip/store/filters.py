"""Filters: conditions on a catalogue's columns as DataFusion's SQL, PostgreSQL's, or an Arrow mask.

``parse_filter`` reads a filter once and refuses it whole where any part is not understood. A
``Filter`` holds the condition as a tree without NOT: negation is carried down to the comparisons,
which changes no answer (De Morgan's laws hold for SQL's three truth values). ``to_datafusion`` and
``to_postgres`` write it as SQL, ``mask`` computes it over Arrow arrays. A missing value is NULL, as
in SQL: a comparison with it is neither true nor false, and only what is true passes.

sqlglot takes 0.2 s to import, so ``filter_parser`` is imported when the first filter is parsed.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from fashionclip.product import Kind, Roles

RESERVED: Mapping[str, Kind] = {"id": "string", "caption": "string", "image": "string"}
"""What a filter reaches besides the catalogue's columns, unless a column has that name."""

Scalar = str | int | float | bool
Operator = Literal["=", "<>", "<", "<=", ">", ">="]
Parameter = Scalar | list[Scalar]
Array = Any
"""A ``pa.Array`` or ``pa.ChunkedArray``."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a filter reads: the catalogue's own name, or one of ``RESERVED``."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Compare:
    """A column against a value of its kind, or another column."""

    column: Column
    operator: Operator
    value: Scalar | Column


@dataclass(frozen=True, slots=True)
class OneOf:
    """Whether a column has one of some values."""

    column: Column
    values: tuple[Scalar, ...]
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Like:
    """Whether the whole text of a column matches a pattern."""

    column: Column
    pattern: str
    """``%`` is any text, ``_`` one character; a backslash stands before a plain one of the
    three."""
    ignores_case: bool
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Is:
    """Whether a column is NULL, TRUE or FALSE; never NULL itself."""

    column: Column
    value: bool | None
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Contains:
    """Whether a list, stored as JSON text, has an element; false where the text is no list."""

    column: Column
    value: str | int
    is_negated: bool


@dataclass(frozen=True, slots=True)
class AllOf:
    """Conditions joined by AND."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Conditions joined by OR."""

    parts: tuple["Condition", ...]


Condition = Compare | OneOf | Like | Is | Contains | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was understood whole; equal to another one of the same meaning and form."""

    text: str = field(compare=False)
    """As it was written."""
    condition: Condition
    """Its meaning."""

    @property
    def sql(self) -> str:
        """Its canonical form, which ``parse_filter`` takes as well."""
        return _Writer(_quoted).write(self.condition)

    @property
    def columns(self) -> dict[str, Kind]:
        """The columns that it reads, with the kinds it was parsed for."""
        return {column.name: column.kind for column in _columns(self.condition)}

    def __str__(self) -> str:
        """The canonical form."""
        return self.sql


def parse_filter(text: str, columns: Mapping[str, Kind], roles: Roles | None = None) -> Filter:
    """Read a filter such as ``price < 50 and gender = 'Women'``.

    A name stands for the column of exactly this name, else for one of ``RESERVED``, else for the
    only column that differs in letter case alone, else for the column with this role (``color`` is
    the role ``colour``). Names with spaces and signs stand in double quotes or backticks.

    Args:
        text: the filter.
        columns: the catalogue's columns and their kinds.
        roles: which column plays which part.

    Raises:
        FilterError: it is not understood, or does not fit the columns; the message says where.
    """
    from fashionclip.store.filter_parser import parse_condition

    return Filter(text, parse_condition(text, columns, roles or Roles()))


def fit_filter(where: Filter, columns: Mapping[str, Kind], roles: Roles | None = None) -> Filter:
    """The filter for columns that may have changed since it was parsed.

    Raises:
        FilterError: a column is gone, or holds something else now that the filter does not fit.
    """
    known = {**RESERVED, **columns}
    if all(known.get(name) == kind for name, kind in where.columns.items()):
        return where
    return parse_filter(where.text, columns, roles)


def to_datafusion(where: Filter, stored_name: Callable[[str], str]) -> str:
    """The filter as Lance's engine takes it.

    Args:
        where: the filter.
        stored_name: the name in the table of a column or a reserved name.
    """
    return _DataFusion(lambda name: f"`{stored_name(name)}`").write(where.condition)


def to_postgres(
    where: Filter, column: Callable[[str], str], *, collation: str | None = None
) -> tuple[str, list[Parameter]]:
    """The filter as SQL for PostgreSQL, with ``%s`` for each value, and the values.

    Args:
        where: the filter.
        column: the quoted identifier of a column or a reserved name. Text columns must have the
            collation "C", which orders text as the other engines do.
        collation: quoted; the one that folds letter case for ``ilike``.
    """
    writer = _PostgreSQL(lambda name: column(name).replace("%", "%%"), collation)
    return writer.write(where.condition), writer.parameters


def mask(where: Filter, column: Callable[[str], Array]) -> Bool[np.ndarray, " n"]:
    """True for the rows of a table that pass a filter.

    Args:
        where: the filter.
        column: the values of a column or a reserved name, typed by its kind.
    """
    passes = pc.fill_null(_computed(where.condition, column), False)
    return np.asarray(passes.to_numpy(zero_copy_only=False), dtype=bool)


def element_pattern(value: str | int) -> str:
    """A regular expression that matches JSON text of a flat list with this element.

    It means the same to PostgreSQL, RE2 and Rust; characters may be written as JSON escapes.
    """
    wanted = f'"{"".join(map(_json_character, value))}"' if isinstance(value, str) else str(value)
    other = r'(?:"(?:[^"\\]|\\.)*"|[^\[\]"{},]+)'
    space = r"[ \t\r\n]*"
    before = rf"(?:{space}{other}{space},)*"
    after = rf"(?:,{space}{other}{space})*"
    return rf"^{space}\[{before}{space}{wanted}{space}{after}\]{space}$"


def _json_character(character: str) -> str:
    """A regular expression for the ways in which JSON may write a character of a string."""
    plain = json.dumps(character, ensure_ascii=False)[1:-1]
    if character.isascii() and character.isprintable() and character != "/":
        return _literal_pattern(plain)
    units = character.encode("utf-16-be").hex()
    escape = "".join(
        r"\\u" + "".join(f"[{h}{h.upper()}]" if h.isalpha() else h for h in units[i : i + 4])
        for i in range(0, len(units), 4)
    )
    ways = [_literal_pattern(plain), escape, *([r"\\/"] if character == "/" else [])]
    return f"(?:{'|'.join(ways)})"


def _literal_pattern(text: str) -> str:
    return re.sub(r"[\\.+*?()|\[\]{}^$]", lambda match: "\\" + match[0], text)


def _columns(condition: Condition) -> Iterator[Column]:
    if isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from _columns(part)
        return
    yield condition.column
    if isinstance(condition, Compare) and isinstance(condition.value, Column):
        yield condition.value


def shown_name(column: Column) -> str:
    """A column's name as people write it in a filter: in quotes only where it needs them."""
    return column.name if column.name.isidentifier() else _quoted(column.name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _Writer:
    """Writes a condition as SQL: the canonical form, which the engines' writers vary."""

    def __init__(self, column: Callable[[str], str]) -> None:
        self._column = column

    def write(self, condition: Condition) -> str:
        if isinstance(condition, AllOf | AnyOf):
            word = " AND " if isinstance(condition, AllOf) else " OR "
            return "(" + word.join(map(self.write, condition.parts)) + ")"
        return self.leaf(condition, self._column(condition.column.name))

    def leaf(self, condition: Condition, name: str) -> str:
        if isinstance(condition, Compare):
            value = condition.value
            right = self._column(value.name) if isinstance(value, Column) else self.value(value)
            return f"{name} {condition.operator} {right}"
        if isinstance(condition, OneOf):
            return self.one_of(condition, name)
        if isinstance(condition, Like):
            return self.like(condition, name)
        if isinstance(condition, Contains):
            return self.contains(condition, name)
        assert isinstance(condition, Is)
        value_name = {None: "NULL", True: "TRUE", False: "FALSE"}[condition.value]
        return f"{name} IS {_not(condition.is_negated)}{value_name}"

    def one_of(self, condition: OneOf, name: str) -> str:
        values = ", ".join(map(self.value, condition.values))
        return f"{name} {_not(condition.is_negated)}IN ({values})"

    def like(self, condition: Like, name: str) -> str:
        word = "ILIKE" if condition.ignores_case else "LIKE"
        return f"{name} {_not(condition.is_negated)}{word} {self.value(condition.pattern)}"

    def contains(self, condition: Contains, name: str) -> str:
        value = self.value(condition.value)
        return f"{_not(condition.is_negated)}contains({name}, {value})"

    def value(self, value: Scalar) -> str:
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


class _DataFusion(_Writer):
    """SQL for Lance.

    DataFusion takes ``g <> 'a' OR g <> 'b'`` for true where g is NULL, and indexes of Lance take
    what is not in them for NULL or not: so that a negated comparison says that g is not NULL.
    """

    def leaf(self, condition: Condition, name: str) -> str:
        written = super().leaf(condition, name)
        is_negation = not isinstance(condition, Is) and (
            condition.operator == "<>"
            if isinstance(condition, Compare)
            else getattr(condition, "is_negated", False)
        )
        return f"({name} IS NOT NULL AND {written})" if is_negation else written

    def contains(self, condition: Contains, name: str) -> str:
        pattern = self.value(element_pattern(condition.value))
        return f"{_not(condition.is_negated)}regexp_like({name}, {pattern})"


class _PostgreSQL(_Writer):
    """SQL for PostgreSQL; values are parameters."""

    def __init__(self, column: Callable[[str], str], collation: str | None) -> None:
        super().__init__(column)
        self._collate = f" COLLATE {collation}" if collation else ""
        self.parameters: list[Parameter] = []

    def value(self, value: Scalar) -> str:
        self.parameters.append(value)
        return "%s"

    def one_of(self, condition: OneOf, name: str) -> str:
        self.parameters.append(list(condition.values))
        return f"{name} <> ALL(%s)" if condition.is_negated else f"{name} = ANY(%s)"

    def like(self, condition: Like, name: str) -> str:
        folded = f"{name}{self._collate}" if condition.ignores_case else name
        return super().like(condition, folded)

    def contains(self, condition: Contains, name: str) -> str:
        operator = "!~" if condition.is_negated else "~"
        return f"{name} {operator} {self.value(element_pattern(condition.value))}"


def _not(is_negated: bool) -> str:
    return "NOT " if is_negated else ""


_COMPARED: Mapping[Operator, Callable[..., Array]] = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def _computed(condition: Condition, column: Callable[[str], Array]) -> Array:
    """The truth values of a condition: true, false or NULL for each row."""
    if isinstance(condition, AllOf | AnyOf):
        join = pc.and_kleene if isinstance(condition, AllOf) else pc.or_kleene
        found = _computed(condition.parts[0], column)
        for part in condition.parts[1:]:
            found = join(found, _computed(part, column))
        return found
    values = column(condition.column.name)
    if isinstance(condition, Compare):
        return _compared(condition, values, column)
    if isinstance(condition, OneOf):
        wanted = pa.array(list(condition.values), values.type)
        found = pc.if_else(pc.is_valid(values), pc.is_in(values, value_set=wanted), None)
    elif isinstance(condition, Like):
        found = pc.match_substring_regex(
            values, _like_pattern(condition.pattern), ignore_case=condition.ignores_case
        )
    elif isinstance(condition, Contains):
        found = pc.match_substring_regex(values, element_pattern(condition.value))
    elif condition.value is None:
        found = pc.is_null(values)
    else:
        found = pc.fill_null(pc.equal(values, condition.value), False)
    return pc.invert(found) if condition.is_negated else found


def _compared(condition: Compare, values: Array, column: Callable[[str], Array]) -> Array:
    compare = _COMPARED[condition.operator]
    if not isinstance(condition.value, Column):
        return compare(values, pa.scalar(condition.value, values.type))
    other = column(condition.value.name)
    if values.type != other.type:  # an integer against a number
        values, other = (pc.cast(side, pa.float64(), safe=False) for side in (values, other))
    return compare(values, other)


def _like_pattern(pattern: str) -> str:
    """A LIKE pattern as a regular expression for Arrow, whose own LIKE misreads backslashes."""
    wildcards = {"%": ".*", "_": "."}
    parts = re.findall(r"\\?.", pattern, re.DOTALL)
    found = (wildcards.get(part) or _literal_pattern(part[-1]) for part in parts)
    return rf"(?s)\A{''.join(found)}\z"
