"""JSON: one object per line, objects one after the other, or a document with a list in it.

A document is read piece by piece by Python's decoder: of its outer objects one key after the
other, of its lists one item after the other. Its rows are its longest list of objects. Only that
much is in memory.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Set
from io import TextIOBase
from itertools import islice
from pathlib import Path
from typing import Any

from fashionclip.catalog.tables.nested import Flattening
from fashionclip.catalog.tables.table import MAX_ROW_CHARS, BrokenRow, Cell, Row, UsualRole
from fashionclip.catalog.tables.text import UNDECODED, BadLine, TextFile, open_text
from fashionclip.errors import CatalogError

SAMPLE_LINES = 20
CHUNK_CHARS = 1 << 16
MAX_OUTER_DEPTH = 6
"""Lists that lie deeper within objects are values of a row."""

LISTS = frozenset(
    (
        "products",
        "items",
        "data",
        "@graph",
        "entries",
        "resources",
        "hits",
        "results",
        "records",
        "rows",
        "nodes",
        "edges",
        "itemListElement",
        "articles",
    )
)
"""Usual names of a list of products, also in an object with an id and a title of its own."""

KEY = "key"
"""The column of the keys of an object whose values are the rows."""

Place = tuple[str, ...]
"""The keys that lead to a list or a value."""

_SPACE = re.compile(r"[\s\ufeff]*")
_DECODER = json.JSONDecoder()


class JsonTable:
    """The objects of a JSON file as rows, flattened."""

    kinds = None
    is_typed = True

    def __init__(self, path: Path, *, usual_role: UsualRole, encoding: str | None = None) -> None:
        """Decide the encoding, find the rows and gather the columns; reads the file through.

        Args:
            path: the file, perhaps compressed.
            usual_role: the role that a column of a name usually has, by which an object that is
                a product itself is told from one that holds a list of them.
            encoding: its encoding; None to decide.

        Raises:
            CatalogError: the file cannot be read, or is no JSON.
        """
        self._file: TextFile = open_text(path, encoding)
        self.notes = self._file.notes
        self._is_lines = _holds_lines(self._file)
        self._place: Place | None = None
        """The list, or the object, whose items are the rows; None for the uppermost objects."""
        if not self._is_lines:
            n_rows, self._place = _find_rows(self._file, usual_role)
            if n_rows:
                rows = "1 object" if n_rows == 1 else f"{n_rows:,} objects"
                self.notes += (f"the rows are the list '{'.'.join(self._place or ())}' of {rows}",)
        self._flattening = Flattening(self._objects, usual_role=usual_role, where=str(path))
        self.names = self._flattening.names
        first = None if self.names else next(self._objects(), None)
        if isinstance(first, BrokenRow) and not self._is_lines:
            message = f"{path}: {first.reason}"
            raise CatalogError(message)

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top; every object is read whole.

        Raises:
            CatalogError: it cannot be read on.
        """
        return self._flattening.rows(self._objects())

    def _objects(self) -> Iterator[Mapping[str, Cell] | BrokenRow]:
        found = self._lines() if self._is_lines else self._items()
        for number, item in enumerate(found, start=1):
            if isinstance(item, str):
                yield BrokenRow(number, item)
            elif isinstance(item[0], dict):
                yield item[0]
            else:
                where = "per line" if self._is_lines else "for each row"
                why = f"not a JSON object but {str(item[0])[:40]!r}; write one {{…}} {where}"
                yield BrokenRow(number, why)

    def _lines(self) -> "Iterator[str | tuple[Any]]":
        """The values of lines, or what is wrong with a line."""
        for line in self._file.lines():
            if line.isspace():
                continue
            if isinstance(line, BadLine):
                yield line.reason
                continue
            try:
                yield (json.loads(line),)
            except RecursionError:
                yield "nested too deep; flatten it"
            except ValueError as exc:
                yield f"not valid JSON ({exc}); write one object per line"

    def _items(self) -> "Iterator[str | tuple[Any]]":
        """The items of the rows' list, or what is wrong with the rest of the document."""
        with self._file.open() as stream:
            text = _Text(stream)
            try:
                while text.peek():
                    if self._place is None:
                        yield _inner(text.item())
                        continue
                    for place, item in _walk(text, (), rows_at=self._place):
                        if place == (*self._place, "[]"):
                            yield item
            except _Broken as exc:
                yield str(exc)


class _Broken(Exception):
    """JSON that cannot be read on from some line."""


class _Text:
    """The text of a stream from some point on."""

    def __init__(self, stream: TextIOBase) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._n_lines = 1  # the line that the text begins in

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on(CHUNK_CHARS):
                return ""

    def skip(self) -> None:
        self._at += 1

    def item(self) -> "str | tuple[Any]":
        """The next value, in a tuple; or what is wrong with it.

        Raises:
            _Broken: it does not end, or is not JSON.
        """
        self.peek()
        n_chars = CHUNK_CHARS
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                why = "is nested too deep"
                raise self.broken(why) from None
            except ValueError as exc:
                if len(self._text) - self._at > MAX_ROW_CHARS or not self._read_on(n_chars):
                    why = f"is no valid JSON ({_without_place(exc)})"
                    raise self.broken(why) from None
            else:
                is_whole = end < len(self._text) or isinstance(value, dict | list | str)
                if is_whole or not self._read_on(n_chars):
                    start, self._at = self._at, end
                    if UNDECODED.search(self._text, start, end):
                        return "holds bytes that are not of the table's encoding; mend them"
                    return (value,)
            n_chars *= 2

    def broken(self, why: str) -> _Broken:
        line = self._n_lines + self._text.count("\n", 0, self._at)
        return _Broken(f"the JSON {why} at line {line:,}; the rest is not read, so mend it there")

    def _read_on(self, n_chars: int) -> bool:
        more = self._stream.read(n_chars)
        self._n_lines += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)


def _without_place(exc: ValueError) -> str:
    return exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc)


def _inner(item: "str | tuple[Any]") -> "str | tuple[Any]":
    """The object in an object that holds nothing else: ``{"product": {…}}``."""
    if isinstance(item, tuple) and isinstance(item[0], dict) and len(item[0]) == 1:
        (inner,) = item[0].values()
        return (inner,) if isinstance(inner, dict) else item
    return item


def _walk(
    text: _Text, place: Place, *, rows_at: Place | None = None
) -> "Iterator[tuple[Place, str | tuple[Any]]]":
    """The values of a document's outer objects, and the items of the lists in them.

    Of an object whose values are the rows, each value is an item, with its key.

    Raises:
        _Broken: the document ends too early, or is not JSON.
    """
    opening = text.peek()
    if opening not in {"{", "["} or len(place) > MAX_OUTER_DEPTH:
        yield place, text.item()
        return
    text.skip()
    closing = "}" if opening == "{" else "]"
    while (found := text.peek()) != closing:
        if not found:
            why = "breaks off"
            raise text.broken(why)
        if found == ",":
            text.skip()
        elif opening == "[":
            yield (*place, "[]"), text.item()
        else:
            key = text.item()
            if text.peek() != ":" or not isinstance(key[0], str):
                why = "has no ':' after a key"
                raise text.broken(why)
            text.skip()
            if place != rows_at:
                yield from _walk(text, (*place, key[0]), rows_at=rows_at)
                continue
            item = text.item()
            if isinstance(item, tuple) and isinstance(item[0], dict):
                item = ({KEY: key[0], **item[0]},)
            yield (*place, "[]"), item
    text.skip()


def _find_rows(file: TextFile, usual_role: UsualRole) -> tuple[int, Place | None]:
    """The longest list of objects that is not part of a product, and its length.

    An object of objects that look like products, by their keys, is such a list too. None: none.
    """
    n_objects: dict[Place, int] = defaultdict(int)
    roles: dict[Place, set[str | None]] = defaultdict(set)  # of the values in each outer object
    with file.open() as stream:
        text = _Text(stream)
        if text.peek() == "[":
            return 0, ()
        try:
            for place, item in _walk(text, ()):
                value = item[0]
                if place[-1:] == ("[]",):
                    n_objects[place[:-1]] += isinstance(value, dict)
                elif place:
                    is_product = place[-1] == "@type" and str(value).startswith("Product")
                    roles[place[:-1]] |= {"id", "title"} if is_product else {usual_role(place[-1])}
            if text.peek() == "{":  # another object follows: each is a row
                return 0, None
        except _Broken:
            pass  # the rows before it are read
    by_key = Counter(p[:-1] for p, found in roles.items() if p and found & {"title", "image"})
    maps = {place: n for place, n in by_key.items() if n > 1 and place not in roles}
    lists = {
        place: n
        for place, n in n_objects.items()
        if n
        and (place[-1] in LISTS or not _is_product(roles.get(place[:-1], set())))
        and not any(place[: len(outer)] == outer for outer in maps)
    }
    found = maps | lists
    if not found:
        return 0, None
    place = max(found, key=lambda place: found[place])
    return found[place], place


def _is_product(roles: Set[str | None]) -> bool:
    return "id" in roles and bool(roles & {"title", "image"})


def _holds_lines(file: TextFile) -> bool:
    """Whether a file is JSON Lines: most of its first lines are objects by themselves."""
    lines = islice((line for line in file.lines() if not line.isspace()), SAMPLE_LINES)
    sample = [line.strip() for line in lines]
    if not sample:
        return True
    is_whole = [_is_object(line) for line in sample]
    if sample[0].lstrip("\ufeff").startswith("["):  # a list, unless the line is one by itself
        return sample[0].endswith("]") and any(is_whole[1:2])
    if not any(is_whole):
        return not sample[0].lstrip("\ufeff").startswith("{")
    return len(sample) > 1 and (is_whole[0] or sum(is_whole) * 2 >= len(sample))


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
