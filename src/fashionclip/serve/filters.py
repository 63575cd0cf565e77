"""A filter that came over HTTP, made anew: only what is understood here reaches the store.

sqlglot reads the text into a tree. Comparisons, AND, OR, NOT, IN, LIKE, BETWEEN and IS NULL over
the index's own columns are written out again from that tree; everything else is refused, and none
of the user's own text is passed on but names that are columns and the words between quotes. NOT
is carried down to the comparisons, which changes no answer (De Morgan's laws hold for SQL's three
truth values): the store's parser takes twice as long for every further ``NOT (``.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from sqlglot import Dialect, TokenType, exp, tokens

from fashionclip.errors import FilterError
from fashionclip.index.filters import filter_message
from fashionclip.product import INT64, Kind

LONGEST_FILTER = 2_000  # characters
DEEPEST_FILTER = 16  # brackets in brackets, of those that the answer depends on
SHOWN_FILTER = 200  # characters of a filter in a message
OWN_COLUMNS: Mapping[str, Kind] = {"id": "string", "caption": "string"}
"""What a filter reaches beside the catalogue's columns (unless one is so called)."""

_OPPOSITES = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_COMPARISONS: Mapping[type[exp.Expression], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_PARTS: Mapping[type[exp.Expression], frozenset[str]] = {
    **dict.fromkeys((*_COMPARISONS, exp.And, exp.Or), frozenset({"this", "expression"})),
    **dict.fromkeys((exp.Not, exp.Neg, exp.Paren, exp.Column), frozenset({"this"})),
    **dict.fromkeys((exp.Like, exp.ILike, exp.Is), frozenset({"this", "expression", "negate"})),
    exp.In: frozenset({"this", "expressions", "negate"}),
    exp.Between: frozenset({"this", "low", "high", "negate"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Boolean: frozenset({"this"}),
    exp.Null: frozenset(),
}
"""Every kind of node that is understood, with the parts that it may have."""
_HOLDS = {
    "string": "words: write '…'",
    "integer": "whole numbers",
    "number": "numbers",
    "boolean": "TRUE or FALSE",
}

_Value = str | int | float | bool


class _Shop(Dialect):
    """Plain SQL whose names may also stand in backticks, as the index's own filters have them."""

    class Tokenizer(tokens.Tokenizer):
        IDENTIFIERS = ['"', "`"]  # noqa: RUF012 - sqlglot's own way of telling


class _Fault(Exception):
    """Why a filter cannot be used, in a few words."""


def parse_filter(where: str, columns: Mapping[str, Kind]) -> str:
    """Read a filter and write it anew, as ``Index.nearest(where=...)`` takes it.

    Args:
        where: SQL of at most ``LONGEST_FILTER`` characters, e.g. ``price < 50 and gender =
            'Women'``. Names with spaces stand in double quotes or backticks; a bare name may be
            written in other letter case where only one column answers to it.
        columns: the index's columns and their kinds.

    Raises:
        FilterError: anything but comparisons over known columns; the message says what.
    """
    try:
        return _Writer(columns).condition(_tree(where), is_negated=False, depth=0)
    except _Fault as exc:
        shown = where if len(where) <= SHOWN_FILTER else where[:SHOWN_FILTER] + "…"
        raise FilterError(filter_message(shown, str(exc), columns)) from exc


def _tree(where: str) -> exp.Expression:
    if len(where) > LONGEST_FILTER:
        message = f"it is longer than {LONGEST_FILTER:,} characters"
        raise _Fault(message)
    try:
        where.encode()
        dialect = _Shop()
        words = dialect.tokenize(where)
        if any(word.token_type == TokenType.SEMICOLON for word in words):
            message = "it holds a semicolon"
            raise _Fault(message)
        trees = dialect.parser().parse_into(exp.Condition, words, where)
    except _Fault:
        raise
    except RecursionError as exc:
        message = "its brackets are too deep"
        raise _Fault(message) from exc
    except UnicodeEncodeError as exc:
        message = "it holds half a character (a lone surrogate)"
        raise _Fault(message) from exc
    except Exception as exc:  # a parser meets what its authors never thought of
        message = "it is no condition that can be read; write for example price < 50"
        raise _Fault(message) from exc
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Expression):
        message = "it is empty"
        raise _Fault(message)
    return tree


class _Writer:
    """Writes SQL from a tree, node by node; what it does not know it refuses."""

    def __init__(self, columns: Mapping[str, Kind]) -> None:
        self._columns = {**OWN_COLUMNS, **columns}
        self._folded: dict[str, list[str]] = {}
        for name in self._columns:
            self._folded.setdefault(name.lower(), []).append(name)

    def condition(self, node: exp.Expression, *, is_negated: bool, depth: int) -> str:
        """One condition, or its opposite.

        Raises:
            _Fault: it is not understood.
        """
        node, is_negated = _denied(node, is_negated)
        if depth > DEEPEST_FILTER:
            message = "its brackets are too deep"
            raise _Fault(message)
        if isinstance(node, exp.And | exp.Or):
            word = "AND" if isinstance(node, exp.And) != is_negated else "OR"
            parts = [
                self.condition(part, is_negated=is_negated, depth=depth + 1)
                for part in _chain(node)
            ]
            return "(" + f" {word} ".join(parts) + ")"
        if isinstance(node, exp.Like | exp.ILike):
            return self._like(node, is_negated=is_negated)
        if isinstance(node, exp.In):
            return self._among(node, is_negated=is_negated)
        if isinstance(node, exp.Between):
            return self._between(node, is_negated=is_negated)
        if isinstance(node, exp.Is):
            return self._is(node, is_negated=is_negated)
        if type(node) in _COMPARISONS:
            return self._comparison(node, is_negated=is_negated)
        name, kind = self._column(node)
        if kind != "boolean":
            message = f"{name} alone says nothing; compare it with something"
            raise _Fault(message)
        return f"{name} = {_text(not is_negated)}"

    def _comparison(self, node: exp.Expression, *, is_negated: bool) -> str:
        sign = _COMPARISONS[type(node)]
        left, right = _bare(node.this), _bare(node.expression)
        if not isinstance(left, exp.Column):
            left, right, sign = right, left, _MIRRORED[sign]
        if is_negated:
            sign = _OPPOSITES[sign]
        name, kind = self._column(left)
        if kind == "boolean" and sign not in {"=", "<>"}:
            message = f"{name} is TRUE or FALSE; compare it with = or <>"
            raise _Fault(message)
        if isinstance(right, exp.Column):
            other, other_kind = self._column(right)
            if kind != other_kind and {kind, other_kind} != {"integer", "number"}:
                message = f"{name} and {other} cannot be compared"
                raise _Fault(message)
            return f"{name} {sign} {other}"
        value = _value(right)
        if kind == "integer" and _is_between_integers(value) and sign not in {"=", "<>"}:
            is_upper = sign in {"<", "<="}  # above 2010.5 is from 2011 on
            sign, value = ("<=", math.floor(value)) if is_upper else (">=", math.ceil(value))
        return f"{name} {sign} {_text(_fitting(value, name, kind))}"

    def _like(self, node: exp.Expression, *, is_negated: bool) -> str:
        name, kind = self._column(node.this)
        pattern = _value(node.expression)
        if kind != "string" or not isinstance(pattern, str):
            message = f"LIKE compares a column of words with '…'; {name} holds {_HOLDS[kind]}"
            raise _Fault(message)
        word = "ILIKE" if isinstance(node, exp.ILike) else "LIKE"
        return f"{name} {_not(node, is_negated)}{word} {_text(pattern)}"

    def _among(self, node: exp.In, *, is_negated: bool) -> str:
        name, kind = self._column(node.this)
        values = [_text(_fitting(_value(value), name, kind)) for value in node.expressions]
        if not values:
            message = "IN wants a list, as in season IN ('Summer', 'Spring')"
            raise _Fault(message)
        return f"{name} {_not(node, is_negated)}IN ({', '.join(values)})"

    def _between(self, node: exp.Between, *, is_negated: bool) -> str:
        name, kind = self._column(node.this)
        low, high = _value(node.args["low"]), _value(node.args["high"])
        if kind == "boolean":
            message = f"{name} is TRUE or FALSE; compare it with = or <>"
            raise _Fault(message)
        if kind == "integer":
            low = math.ceil(low) if _is_between_integers(low) else low
            high = math.floor(high) if _is_between_integers(high) else high
        low, high = _fitting(low, name, kind), _fitting(high, name, kind)
        return f"{name} {_not(node, is_negated)}BETWEEN {_text(low)} AND {_text(high)}"

    def _is(self, node: exp.Is, *, is_negated: bool) -> str:
        name, _ = self._column(node.this)
        if not isinstance(node.expression, exp.Null):
            message = "IS goes with NULL and NOT NULL only"
            raise _Fault(message)
        return f"{name} IS {_not(node, is_negated)}NULL"

    def _column(self, node: exp.Expression) -> tuple[str, Kind]:
        """A column as the index's filters take it, in double quotes, and its kind.

        Raises:
            _Fault: it is no column of this index.
        """
        node = _bare(node)
        if not isinstance(node, exp.Column):
            message = f"{_named(node)} stands where a column's name should"
            raise _Fault(message)
        identifier = node.this
        _check(identifier)
        name = str(identifier.this)
        alike = [] if identifier.args.get("quoted") else self._folded.get(name.lower(), [])
        if name not in self._columns:
            if len(alike) != 1:
                message = f'it names "{name}", which is no column'
                raise _Fault(message)
            name = alike[0]
        return '"' + name.replace('"', '""') + '"', self._columns[name]


def _bare(node: exp.Expression) -> exp.Expression:
    """The node inside brackets."""
    _check(node)
    while isinstance(node, exp.Paren):
        node = node.this
        _check(node)
    return node


def _denied(node: exp.Expression, is_negated: bool) -> tuple[exp.Expression, bool]:
    """The node inside brackets and NOTs, and whether its opposite is wanted."""
    node = _bare(node)
    while isinstance(node, exp.Not):
        node, is_negated = _bare(node.this), not is_negated
    return node, is_negated


def _chain(node: exp.Expression) -> Iterator[exp.Expression]:
    """The conditions that stand in one row of ANDs, or of ORs, in their order."""
    waiting = [node]
    while waiting:
        part = _bare(waiting.pop())
        if type(part) is type(node):
            waiting += [part.expression, part.this]
        else:
            yield part


def _check(node: object) -> None:
    """Hold a node against the table of what is understood.

    Raises:
        _Fault: its kind, or a part of it, is not in there.
    """
    if not isinstance(node, exp.Expression) or type(node) not in _PARTS:
        message = f"{_named(node)} is not taken here"
        raise _Fault(message)
    found = {name for name, part in node.args.items() if part}
    if not found <= _PARTS[type(node)]:
        message = f"{_named(node)} is not taken here in this form"
        if isinstance(node, exp.Column):
            message = "a name with a dot in it stands in double quotes"
        raise _Fault(message)


def _named(node: object) -> str:
    """A node as a message names it: its kind as SQL has it, never a piece of the user's text."""
    return "a function" if isinstance(node, exp.Func) else type(node).__name__.upper()


def _not(node: exp.Expression, is_negated: bool) -> str:
    return "NOT " if is_negated != bool(node.args.get("negate")) else ""


def _value(node: exp.Expression) -> _Value:
    """What a literal says.

    Raises:
        _Fault: it is no literal, or a number beyond all bounds.
    """
    node = _bare(node)
    if isinstance(node, exp.Neg):
        value = _value(node.this)
        if isinstance(value, bool | str):
            message = "a minus stands before something that is no number"
            raise _Fault(message)
        return -value
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Null):
        message = "nothing compares with NULL; write IS NULL or IS NOT NULL"
        raise _Fault(message)
    if not isinstance(node, exp.Literal):
        message = f"{_named(node)} stands where a value should"
        raise _Fault(message)
    text = str(node.this)
    return text if node.is_string else _number(text)


def _number(text: str) -> int | float:
    try:
        if text.isdigit():
            return int(text)
        value = float(text)
    except ValueError as exc:
        message = "a number in it cannot be read"
        raise _Fault(message) from exc
    if not math.isfinite(value):
        message = "a number in it is too large"
        raise _Fault(message)
    return value + 0.0


def _is_between_integers(value: _Value) -> TypeGuard[float]:
    return isinstance(value, float) and not value.is_integer()


def _fitting(value: _Value, name: str, kind: Kind) -> _Value:
    """A value as a column of this kind is compared with.

    Raises:
        _Fault: the column holds other things.
    """
    fits: bool
    if kind in {"string", "boolean"}:
        fits = isinstance(value, str if kind == "string" else bool)
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or (kind == "integer" and _is_between_integers(value)):
        message = f"{name} holds {_HOLDS[kind]}"
        raise _Fault(message)
    if isinstance(value, bool | str):
        return value
    if kind == "integer":
        value = int(value)
    if abs(value) < INT64.stop:
        return value
    if kind == "integer" or abs(value) > sys.float_info.max:
        message = "a number in it is too large"
        raise _Fault(message)
    return float(value)


def _text(value: _Value) -> str:
    """A literal as SQL has it."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value or 0)  # -0.0 would be less than 0 to the store
