"""A user's SQL filter, made safe for the store: known columns quoted, others named in the error.

DataFusion folds an unquoted ``baseColour`` to lower case and then does not find it; shop tables
are full of such names. So each bare word that names a column is quoted here, outside string
literals, and everything else is passed on as it stands.
"""

import re
from collections.abc import Mapping

from fashionclip.errors import FilterError
from fashionclip.index.columns import stored_name

_TOKEN = re.compile(
    r"""
    (?P<text>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`)
  | (?P<word>[^\W\d]\w*)
  | (?P<space>\s+)
  | (?P<number>\d[\w.]*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_SQL_WORDS = frozenset(
    "and or not in is null like ilike escape between true false case when then else end as".split()  # noqa: SIM905  # a line, not nineteen
)
RESERVED = {"id": "_id", "caption": "_caption", "image": "_image"}
"""Names under which a filter reaches what is not a catalogue column (unless one is so called)."""


def stored_filter(where: str, columns: Mapping[str, object]) -> str:
    """The filter as the store takes it.

    Args:
        where: SQL in DataFusion's dialect, e.g. ``price < 50 and gender = 'Women'``.
        columns: the index's columns by name.

    Raises:
        FilterError: the filter is empty, holds more than one expression, or a quote in it
            does not end.
    """
    if not where.strip():
        raise FilterError(filter_message(where, "it is empty", columns))
    names = {**RESERVED, **{name: stored_name(name) for name in columns}}
    folded: dict[str, set[str]] = {}
    for name, stored in names.items():
        folded.setdefault(name.lower(), set()).add(stored)
    parts: list[str] = []
    previous = ""
    for match in _TOKEN.finditer(where):
        kind, text = match.lastgroup, match[0]
        if kind == "word":
            is_type = previous == "as"  # cast(price as double)
            previous = text.lower()
            following = where[match.end() :].lstrip()[:1]
            text = text if is_type else _column(text, following, names, folded)
        elif kind == "quoted":
            text = _quoted(text, names)
        elif text in {"'", '"', "`"}:
            raise FilterError(filter_message(where, f"a {text} in it does not end", columns))
        elif text == ";":
            raise FilterError(filter_message(where, "it holds a semicolon", columns))
        parts.append(text)
    return "".join(parts)


def _column(
    word: str, following: str, names: Mapping[str, str], folded: Mapping[str, set[str]]
) -> str:
    if following in {"(", "'"} or word.lower() in _SQL_WORDS:  # a function, a typed literal
        return word
    if word in names:
        return f"`{names[word]}`"
    alike = folded.get(word.lower(), set())
    return f"`{next(iter(alike))}`" if len(alike) == 1 else word


def _quoted(text: str, names: Mapping[str, str]) -> str:
    name = text[1:-1].replace('""', '"')
    return f"`{names.get(name, stored_name(name))}`"


def filter_message(where: str, reason: str, columns: Mapping[str, object]) -> str:
    """The one line that a user sees: what, why, and the columns to choose from."""
    known = ", ".join(f'"{name}"' if re.search(r"\W", name) else name for name in columns)
    return f"filter {where!r} cannot be used: {reason}; columns: {known or '(none)'}"
