"""The parser of filters: text to condition; what is not understood is refused, with the place.

sqlglot reads the text into a tree. Only the nodes in ``_PARTS`` are taken, with only these parts,
and a condition of ours is made of them: nothing of the text is passed on but columns' names and
values.
"""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import NoReturn, TypeGuard

from sqlglot import Dialect, ParseError, Token, TokenError, TokenType, exp, tokens

from fashionclip.errors import FilterError
from fashionclip.product import INT64, ROLE_SPELLINGS, Kind, Roles
from fashionclip.store.filters import (
    RESERVED,
    AllOf,
    AnyOf,
    Column,
    Compare,
    Condition,
    Contains,
    Is,
    Like,
    OneOf,
    Operator,
    Scalar,
    shown_name,
)

MAX_CHARACTERS = 20_000
MAX_PATTERN_CHARACTERS = 1_000
MAX_DEPTH = 16  # alternations of AND and OR, one inside the other
MAX_BRACKETS = 100  # open at one place
SHOWN_CHARACTERS = 200  # of a filter in a message
SHOWN_COLUMNS = 40

_OPERATORS: Mapping[type[exp.Expression], Operator] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="
}  # fmt: skip
_OPPOSITE: Mapping[Operator, Operator] = {
    "=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"
}  # fmt: skip
_MIRRORED: Mapping[Operator, Operator] = {
    "=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="
}  # fmt: skip
_PARTS: Mapping[type[exp.Expression], frozenset[str]] = {
    **dict.fromkeys(
        (*_OPERATORS, exp.And, exp.Or, exp.Is, exp.Contains, exp.Escape),
        frozenset({"this", "expression"}),
    ),
    **dict.fromkeys((exp.Not, exp.Neg, exp.Paren, exp.Column, exp.Boolean), frozenset({"this"})),
    **dict.fromkeys((exp.Like, exp.ILike), frozenset({"this", "expression", "negate"})),
    exp.In: frozenset({"this", "expressions"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.Null: frozenset(),
}
"""Every kind of node that is understood, with the parts that it may have."""
_HOLDS: Mapping[Kind, str] = {
    "string": "text",
    "integer": "whole numbers",
    "number": "numbers",
    "boolean": "TRUE or FALSE",
}
_EXAMPLES: Mapping[Kind, str] = {
    "string": "= 'a value'",
    "integer": ">= 2",
    "number": "< 49.90",
    "boolean": "= TRUE",
}
_QUOTES = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|(?P<open>['"`])""")


class _Shop(Dialect):
    """Plain SQL whose names may stand in backticks too."""

    class Tokenizer(tokens.Tokenizer):
        IDENTIFIERS = ['"', "`"]  # noqa: RUF012 - sqlglot's way of configuration


class _Fault(Exception):
    """Why a filter cannot be used, and the place in its text (None for the whole)."""

    def __init__(self, why: str, place: int | None = None) -> None:
        super().__init__(why)
        self.place = place


def _refuse(why: str, place: exp.Expression | int | None = None) -> NoReturn:
    """Raise the fault of a node, or of a place in the text."""  # noqa: DOC501
    raise _Fault(why, _place(place) if isinstance(place, exp.Expression) else place)


def parse_condition(text: str, columns: Mapping[str, Kind], roles: Roles) -> Condition:
    """Read a filter; see ``parse_filter``.

    Raises:
        FilterError: it is not understood, or does not fit the columns.
    """
    try:
        return _Parser(columns, roles).condition(_tree(text), is_negated=False, depth=0)
    except _Fault as exc:
        raise FilterError(_message(text, exc, columns, roles)) from exc


def _message(text: str, fault: _Fault, columns: Mapping[str, Kind], roles: Roles) -> str:
    """The one line that a user sees: the filter, what is wrong, where, columns and their roles."""
    shown = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    where = ""
    if fault.place is not None:
        start = " ".join(text[fault.place :].split())
        excerpt = start if len(start) <= 30 else start[:30] + "…"
        where = f" at character {fault.place + 1}, {excerpt!r}"
    role_of = {name: role for role, name in roles.as_dict().items() if isinstance(name, str)}
    names = [
        (f'"{name}"' if re.search(r"\W", name) else name)
        + (f" ({role_of[name]})" if role_of.get(name, name) != name else "")
        for name in columns
    ]
    more = len(names) - SHOWN_COLUMNS
    known = ", ".join(names[:SHOWN_COLUMNS]) + (f" and {more} more" if more > 0 else "")
    return f"filter {shown!r} cannot be used{where}: {fault}; columns: {known or '(none)'}"


def _tree(text: str) -> exp.Expression:
    """The syntax tree of a filter."""  # noqa: DOC501
    if len(text) > MAX_CHARACTERS:
        _refuse(f"it is longer than {MAX_CHARACTERS:,} characters")
    try:
        text.encode()
        dialect = _Shop()
        words = dialect.tokenize(text)
        _check_words(words)
        trees = dialect.parser().parse_into(exp.Condition, words, text)
    except _Fault:
        raise
    except RecursionError as exc:
        message = "its brackets are too deep"
        raise _Fault(message) from exc
    except UnicodeEncodeError as exc:
        message = "it holds half a character (a lone surrogate)"
        raise _Fault(message, exc.start) from exc
    except TokenError as exc:
        raise _open_quote(text) from exc
    except ParseError as exc:
        raise _syntax_fault(text, exc) from exc
    except Exception as exc:  # a parser of SQL at large meets what its authors never thought of
        message = "it is no condition that can be read; write for example price < 50"
        raise _Fault(message) from exc
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Expression):
        _refuse("it is empty")
    return tree


def _check_words(words: Sequence[Token]) -> None:
    depth = 0
    for word in words:
        if word.token_type == TokenType.SEMICOLON:
            _refuse("it holds a semicolon", word.start)
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(word.token_type, 0)
        if depth > MAX_BRACKETS:
            _refuse("its brackets are too deep", word.start)


def _open_quote(text: str) -> _Fault:
    for match in _QUOTES.finditer(text):
        if match["open"]:
            return _Fault(f"the {match['open']} does not end", match.start())
    return _Fault("it is no condition that can be read; write for example price < 50")


def _syntax_fault(text: str, exc: ParseError) -> _Fault:
    first = exc.errors[0] if exc.errors else {}
    lines = text.splitlines(keepends=True)
    word, line, column = first.get("highlight"), first.get("line"), first.get("col")
    example = "it is no condition that can be read; write for example price < 50"
    if not (isinstance(word, str) and isinstance(line, int) and isinstance(column, int)):
        return _Fault(example)
    place = sum(map(len, lines[: line - 1])) + column - len(word)
    is_found = place >= 0 and text.startswith(word, place)
    return _Fault("this is not understood" if is_found else example, place if is_found else None)


class _Parser:
    """Makes conditions of nodes; refuses what it does not know."""

    def __init__(self, columns: Mapping[str, Kind], roles: Roles) -> None:
        self._columns = columns
        self._all_roles = roles.as_dict()
        self._roles = {
            role: name
            for role, name in roles.as_dict().items()
            if isinstance(name, str) and name in columns
        }
        for spelling, role in ROLE_SPELLINGS.items():
            if role in self._roles:
                self._roles[spelling] = self._roles[role]
        self._folded: dict[str, list[str]] = {}
        for name in columns:
            self._folded.setdefault(name.lower(), []).append(name)

    def condition(self, node: exp.Expression, *, is_negated: bool, depth: int) -> Condition:
        """One condition, or its opposite."""
        node, is_negated = _without_not(node, is_negated)
        if depth > MAX_DEPTH:
            _refuse("its brackets are too deep", node)
        if isinstance(node, exp.And | exp.Or):
            kind = AllOf if isinstance(node, exp.And) != is_negated else AnyOf
            parts: list[Condition] = []
            for part in _chain(node):
                found = self.condition(part, is_negated=is_negated, depth=depth + 1)
                parts += found.parts if isinstance(found, kind) else [found]
            return kind(tuple(parts))
        return self._leaf(node, is_negated=is_negated)

    def _leaf(self, node: exp.Expression, *, is_negated: bool) -> Condition:
        if isinstance(node, exp.Like | exp.ILike | exp.Escape):
            return self._like(node, is_negated=is_negated)
        if isinstance(node, exp.In):
            return self._one_of(node, is_negated=is_negated)
        if isinstance(node, exp.Between):
            return self._between(node, is_negated=is_negated)
        if isinstance(node, exp.Is):
            return self._is(node, is_negated=is_negated)
        if isinstance(node, exp.Contains):
            return self._contains(node, is_negated=is_negated)
        if type(node) in _OPERATORS:
            return self._compare(node, is_negated=is_negated)
        column = self._column(node)
        if column.kind != "boolean":
            _refuse(f"{column.name} alone is no condition; compare it: {_example(column)}", node)
        return Compare(column, "=", not is_negated)

    def _compare(self, node: exp.Expression, *, is_negated: bool) -> Compare:
        operator = _OPERATORS[type(node)]
        left, right = _bare(node.this), _bare(node.expression)
        if isinstance(right, exp.Column) and not isinstance(left, exp.Column):
            left, right, operator = right, left, _MIRRORED[operator]
        if is_negated:
            operator = _OPPOSITE[operator]
        column = self._column(left)
        if column.kind == "boolean" and operator not in {"=", "<>"}:
            _refuse(f"{column.name} is TRUE or FALSE; compare it with = or <>", node)
        if isinstance(right, exp.Column):
            other = self._column(right, is_value=True)
            if column.kind != other.kind and {column.kind, other.kind} != {"integer", "number"}:
                _refuse(
                    f"{column.name} ({_HOLDS[column.kind]}) and {other.name} "
                    f"({_HOLDS[other.kind]}) cannot be compared",
                    node,
                )
            return Compare(column, operator, other)
        value = _value(right)
        if column.kind == "integer" and _is_fraction(value) and operator not in {"=", "<>"}:
            is_upper = operator in {"<", "<="}  # above 2010.5 is from 2011 on
            operator, value = ("<=", math.floor(value)) if is_upper else (">=", math.ceil(value))
        return Compare(column, operator, _fitting(value, column, right))

    def _like(self, node: exp.Expression, *, is_negated: bool) -> Like:
        escape = "\\"
        if isinstance(node, exp.Escape):
            written = _value(node.expression)
            if not isinstance(written, str) or len(written) != 1:
                _refuse("ESCAPE takes one character, as in like '50!%' escape '!'", node.expression)
            escape, node = written, _bare(node.this)
        column, pattern = self._column(node.this), _value(node.expression)
        if column.kind != "string" or not isinstance(pattern, str):
            _refuse(f"LIKE compares text with '…'; {column.name} holds {_HOLDS[column.kind]}", node)
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            _refuse(
                f"the pattern is longer than {MAX_PATTERN_CHARACTERS:,} characters", node.expression
            )
        is_negated = is_negated != bool(node.args.get("negate"))
        ignores_case = isinstance(node, exp.ILike)
        return Like(column, _with_backslashes(pattern, escape), ignores_case, is_negated)

    def _one_of(self, node: exp.In, *, is_negated: bool) -> OneOf:
        column = self._column(node.this)
        values = tuple(_fitting(_value(value), column, value) for value in node.expressions)
        if not values:
            _refuse("IN takes a list, as in season IN ('Summer', 'Spring')", node)
        return OneOf(column, values, is_negated)

    def _between(self, node: exp.Between, *, is_negated: bool) -> Condition:
        column = self._column(node.this)
        if column.kind == "boolean":
            _refuse(f"{column.name} is TRUE or FALSE; compare it with = or <>", node)
        ends = []
        for end, rounded in (("low", math.ceil), ("high", math.floor)):
            value = _value(node.args[end])
            if column.kind == "integer" and _is_fraction(value):
                value = rounded(value)
            ends.append(_fitting(value, column, node.args[end]))
        low, high = ends
        if is_negated:
            return AnyOf((Compare(column, "<", low), Compare(column, ">", high)))
        return AllOf((Compare(column, ">=", low), Compare(column, "<=", high)))

    def _is(self, node: exp.Is, *, is_negated: bool) -> Is:
        column, wanted = self._column(node.this), _bare(node.expression)
        if isinstance(wanted, exp.Null):
            return Is(column, None, is_negated)
        if not isinstance(wanted, exp.Boolean) or column.kind != "boolean":
            _refuse("IS goes with NULL, and with TRUE and FALSE after a column of these", node)
        return Is(column, bool(wanted.this), is_negated)

    def _contains(self, node: exp.Contains, *, is_negated: bool) -> Contains:
        column, value = self._column(node.this), _value(node.expression)
        if column.kind != "string" or isinstance(value, bool | float):
            _refuse(
                "contains looks for one element of a list, as in contains(materials, 'wool'); "
                f"{column.name} holds {_HOLDS[column.kind]}",
                node,
            )
        if len(str(value)) > MAX_PATTERN_CHARACTERS:
            _refuse(
                f"the value is longer than {MAX_PATTERN_CHARACTERS:,} characters", node.expression
            )
        return Contains(column, value, is_negated)

    def _column(self, node: exp.Expression, *, is_value: bool = False) -> Column:
        """The column that a node names."""
        node = _bare(node)
        if not isinstance(node, exp.Column):
            _refuse(f"{_described(node)} stands where a column's name should", node)
        identifier = node.this
        _check(identifier)
        name, is_quoted = str(identifier.this), bool(identifier.args.get("quoted"))
        found = self._named(name, is_quoted=is_quoted)
        if found is not None:
            return found
        known = {known.lower(): known for known in (*self._roles, *RESERVED, *self._columns)}
        near = get_close_matches(name.lower(), list(known), n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(known[one] for one in near)}?" if near else ""
        if is_value:
            hint += "; a value stands in single quotes: '" + name.replace("'", "''") + "'"
        elif blank := self._all_roles.get(name.lower()):
            hint = f"; the {name.lower()} is {blank!r}, a column without any value"
        elif not near and ROLE_SPELLINGS.get(name.lower(), name.lower()) in self._all_roles:
            hint = f"; no column of this catalogue is its {name.lower()}"
        _refuse(f"there is no column {name!r}{hint}", node)

    def _named(self, name: str, *, is_quoted: bool) -> Column | None:
        if name in self._columns:
            return Column(name, self._columns[name])
        if name in RESERVED:
            return Column(name, RESERVED[name])
        alike = [] if is_quoted else self._folded.get(name.lower(), [])
        if len(alike) == 1:
            return Column(alike[0], self._columns[alike[0]])
        folded = name if is_quoted else name.lower()
        if not alike and folded in RESERVED:
            return Column(folded, RESERVED[folded])
        if not alike and folded in self._roles:
            return Column(self._roles[folded], self._columns[self._roles[folded]])
        return None


def _bare(node: exp.Expression) -> exp.Expression:
    """The node inside brackets."""
    _check(node)
    while isinstance(node, exp.Paren):
        node = node.this
        _check(node)
    return node


def _without_not(node: exp.Expression, is_negated: bool) -> tuple[exp.Expression, bool]:
    """The node inside brackets and NOTs, and whether its opposite is wanted."""
    node = _bare(node)
    while isinstance(node, exp.Not):
        node, is_negated = _bare(node.this), not is_negated
    return node, is_negated


def _chain(node: exp.Expression) -> Iterator[exp.Expression]:
    """The conditions that one row of ANDs, or of ORs, joins, in their order."""
    waiting = [node]
    while waiting:
        part = _bare(waiting.pop())
        if type(part) is type(node):
            waiting += [part.expression, part.this]
        else:
            yield part


def _check(node: object) -> None:
    """Hold a node against the table of what is understood."""
    if not isinstance(node, exp.Expression):
        _refuse("something is missing")
    if type(node) not in _PARTS:
        hint = "; ilike ignores letter case" if isinstance(node, exp.Lower | exp.Upper) else ""
        _refuse(f"{_described(node)} is not taken here{hint}", node)
    found = {name for name, part in node.args.items() if part}
    if not found <= _PARTS[type(node)]:
        if isinstance(node, exp.Column):
            _refuse("a name with a dot in it stands in double quotes", node)
        _refuse(f"{_described(node)} is not taken here in this form", node)


def _described(node: exp.Expression) -> str:
    """A node as a message names it: its kind as SQL has it, never a piece of the user's text."""
    if isinstance(node, exp.Literal | exp.Boolean):
        return "a value"
    is_function = isinstance(node, exp.Func) and not isinstance(node, exp.And | exp.Or)
    return "a function" if is_function else type(node).__name__.upper()


def _place(node: exp.Expression) -> int | None:
    """Where a node begins in the text; None where sqlglot does not say."""
    starts = [part.meta["start"] for part in node.walk() if "start" in part.meta]
    return min(starts, default=None)


def _value(node: exp.Expression) -> Scalar:
    """What a literal says; a date is the text of it, as ISO 8601 writes it."""
    node = _bare(node)
    if isinstance(node, exp.Neg):
        value = _value(node.this)
        if isinstance(value, bool | str):
            _refuse("a minus stands before something that is no number", node)
        return -value
    if isinstance(node, exp.Cast):
        return _date(node)
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Null):
        _refuse("nothing compares with NULL; write IS NULL or IS NOT NULL")
    if not isinstance(node, exp.Literal):
        _refuse(f"{_described(node)} stands where a value should", node)
    text = str(node.this)
    return text.replace("\0", "\ufffd") if node.is_string else _number(text, node)


def _date(node: exp.Cast) -> str:
    kind, literal = node.args["to"], node.this
    is_date = isinstance(kind, exp.DataType) and kind.this in {
        exp.DataType.Type.DATE,
        exp.DataType.Type.TIMESTAMP,
    }
    if not is_date or not isinstance(literal, exp.Literal) or not literal.is_string:
        _refuse("CAST is not taken here", node)
    text = str(literal.this)
    try:
        datetime.fromisoformat(text)
    except ValueError as exc:
        message = "a date is written as in date '2024-12-31'"
        raise _Fault(message, _place(node)) from exc
    return text


def _number(text: str, node: exp.Expression) -> int | float:
    try:
        if text.isascii() and text.isdigit():
            return int(text)
        value = float(text)
    except ValueError as exc:
        message = "a number in it cannot be read"
        raise _Fault(message, _place(node)) from exc
    if not math.isfinite(value):
        _refuse("a number in it is too large", node)
    return value


def _is_fraction(value: Scalar) -> TypeGuard[float]:
    return isinstance(value, float) and not value.is_integer()


def _fitting(value: Scalar, column: Column, node: exp.Expression) -> Scalar:
    """A value as the column's kind has it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {"string": isinstance(value, str), "boolean": isinstance(value, bool)}
    if not fits.get(column.kind, is_number) or (column.kind == "integer" and _is_fraction(value)):
        _refuse(f"{column.name} holds {_HOLDS[column.kind]}; {_mend(value, column)}", node)
    if isinstance(value, bool | str):
        return value
    limit = INT64.stop - 1 if column.kind == "integer" else sys.float_info.max
    if abs(value) > limit:
        _refuse("a number in it is too large", node)
    return int(value) if column.kind == "integer" else float(value) + 0.0  # -0.0 is 0.0


def _mend(value: Scalar, column: Column) -> str:
    """How to write a value that does not fit a column."""
    if column.kind == "string":
        return f"text stands in single quotes: '{str(value).lower()}'"
    if isinstance(value, str) and column.kind != "boolean":
        number = value.strip().replace(",", ".")
        if re.fullmatch(
            r"-?\d{1,15}" + (r"(\.\d{1,15})?" if column.kind == "number" else ""), number
        ):
            return f"a number stands without quotes: {number}"
    return f"write for example {_example(column)}"


def _example(column: Column) -> str:
    return f"{shown_name(column)} {_EXAMPLES[column.kind]}"


def _with_backslashes(pattern: str, escape: str) -> str:
    """A LIKE pattern whose escape character is the backslash; one at the end is a plain one."""
    found, is_escaped = [], False
    for character in pattern:
        if not is_escaped and character == escape:
            is_escaped = True
            continue
        is_plain = is_escaped and character in "%_"
        found.append("\\" + character if is_plain or character == "\\" else character)
        is_escaped = False
    if is_escaped:
        found.append("\\\\" if escape == "\\" else escape)
    return "".join(found)
