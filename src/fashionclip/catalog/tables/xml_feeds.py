"""XML: RSS and Atom feeds, and any document with an element for each product.

Parsed by Python's expat, piece by piece; only one product is in memory. A document that declares
entities is refused, so none is ever expanded or fetched. Prefixes of names are dropped, elements
within a product's become columns such as ``shipping.price``, attributes too, and an element that
is repeated becomes a list. Of one that is repeated in several languages the first counts; the
others are columns such as ``name.de``.
"""

import codecs
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from xml.parsers import expat

from fashionclip.catalog.tables.nested import Flattening
from fashionclip.catalog.tables.table import MAX_ROW_CHARS, BrokenRow, Cell, Row, UsualRole
from fashionclip.catalog.tables.text import UNDECODED, TextFile, open_plain, open_text, reading
from fashionclip.errors import CatalogError

CHUNK_CHARS = 1 << 16
SAMPLE_CHUNKS = 64
"""Pieces of a document by which it is decided which elements are products."""
MAX_OUTER_DEPTH = 6
"""Elements that lie deeper are parts of products."""
PRODUCT_ELEMENTS = frozenset(("item", "entry", "product", "offer", "article", "listing", "row"))
"""Usual names of a product's element."""

_LANGUAGES = ("lang", "language", "locale")
"""Attributes that say in which language a text is."""

_DECLARED = re.compile(rb"<\?xml[^>]*encoding\s*=\s*[\"']([\w.:-]+)")
_BAD = "\U0010fffe"  # in place of bytes that are not of the encoding

Place = tuple[str, ...]


class XmlTable:
    """The elements of an XML document that are products, as rows."""

    kinds = None
    is_typed = False

    def __init__(self, path: Path, *, usual_role: UsualRole, encoding: str | None = None) -> None:
        """Decide the encoding, find the products' elements and gather the columns.

        Args:
            path: the file, perhaps compressed.
            usual_role: the role that a column of a name usually has.
            encoding: its encoding; None for the one that it declares.

        Raises:
            CatalogError: the file cannot be read, or no element has further ones in it.
        """
        self._file: TextFile = open_text(path, encoding or _declared(path))
        counts = _Counts()
        fault = next(_parse(self._file, counts, max_chunks=SAMPLE_CHUNKS), None)
        place = counts.find_products()
        if place is None:
            why = fault.reason if isinstance(fault, BrokenRow) else "no element has others in it"
            message = f"{path}: holds no products: {why}"
            raise CatalogError(message)
        self._place = place
        self.notes = (*self._file.notes, f"the rows are the elements '{'/'.join(place)}'")
        self._flattening = Flattening(self._objects, usual_role=usual_role, where=str(path))
        self.names = self._flattening.names
        if not self.names and isinstance(first := next(self._objects(), None), BrokenRow):
            message = f"{path}: {first.reason}"
            raise CatalogError(message)

    def rows(self, columns: Collection[str] | None = None) -> Iterator[Row | BrokenRow]:
        """Read it from the top; every product is read whole.

        Raises:
            CatalogError: it cannot be read on.
        """
        return self._flattening.rows(self._objects())

    def _objects(self) -> Iterator[Mapping[str, Cell] | BrokenRow]:
        return _parse(self._file, _Products(self._place))


def _declared(path: Path) -> str | None:
    """The encoding that a document declares, unless its bytes tell it anyway."""
    with reading(path), open_plain(path) as file:
        found = _DECLARED.match(file.read(200).lstrip())
    name = found[1].decode().lower() if found else "utf-8"
    with suppress(LookupError):
        return None if codecs.lookup(name).name.startswith("utf") else name
    return None


class _Handler:
    """What is made of a document's events."""

    def __init__(self) -> None:
        self.found: list[Mapping[str, Cell] | str] = []
        """Products, or what is wrong with them."""
        self.path: list[str] = []
        """Names of the elements that are open."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.path.append(_local(name))

    def end(self, name: str) -> None:
        self.path.pop()

    def text(self, text: str) -> None:
        pass


def _parse(
    file: TextFile, handler: _Handler, *, max_chunks: int | None = None
) -> Iterator[Mapping[str, Cell] | BrokenRow]:
    """The products that a handler finds, and a broken row where the document breaks off."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = _refuse_entities
    parser.UseForeignDTD(True)  # so that &nbsp; and other names of HTML are no fault
    parser.SkippedEntityHandler = lambda name, _: handler.text(unescape(f"&{name};"))
    number = n_chunks = 0
    why = ""
    with file.open() as stream:
        is_final = False
        while not (why or is_final or n_chunks == max_chunks):
            chunk = UNDECODED.sub(_BAD, stream.read(CHUNK_CHARS))
            is_final = not chunk
            try:
                parser.Parse(chunk if n_chunks else chunk.lstrip(), is_final)
            except (expat.ExpatError, _Refused) as exc:
                why = str(exc).partition(":")[0]
            n_chunks += 1
            for item in handler.found:
                number += 1
                yield BrokenRow(number, item) if isinstance(item, str) else item
            handler.found.clear()
    if why:
        reason = f"the XML breaks off at line {parser.CurrentLineNumber:,} ({why}); mend it there"
        yield BrokenRow(number + 1, f"{reason}, for the rest is not read")


class _Refused(Exception):
    """A document declares entities."""


def _refuse_entities(name: str, *_: object) -> None:
    message = f"it declares the entity '{name}', and entities are not expanded here"
    raise _Refused(message)


class _Counts(_Handler):
    """Counts the elements that have others in them."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[Place, int] = defaultdict(int)
        self._parents: set[Place] = set()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        super().start(name, attributes)
        if len(self.path) <= MAX_OUTER_DEPTH:
            place = tuple(self.path)
            self._numbers[place] += 1
            self._parents.add(place[:-1])

    def find_products(self) -> Place | None:
        """The products' elements: of a usual name, else repeated, and the least deep of those."""
        places = [place for place in self._numbers if place in self._parents and len(place) > 1]
        usual = [place for place in places if place[-1].lower() in PRODUCT_ELEMENTS]
        repeated = [place for place in places if self._numbers[place] > 1]
        for found in (usual, repeated, places[-1:]):
            if found:
                return min(found, key=lambda place: (len(place), -self._numbers[place]))
        return None


@dataclass(slots=True)
class _Element:
    """An element that is open, within a product."""

    name: str
    attributes: Mapping[str, str]
    children: dict[str, list[tuple[str, object]]] = field(default_factory=dict)
    """By name without prefix: the whole name and the value of each."""
    texts: list[str] = field(default_factory=list)
    has_text: bool = False
    """Whether it has text of its own, so that elements in it are markup."""


class _Products(_Handler):
    """Makes a mapping of each product's element."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = list(place)
        self._open: list[_Element] = []
        self._fault = ""
        self._n_chars = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        super().start(name, attributes)
        if self._open or self.path == self._place:
            self._open.append(_Element(name, attributes))

    def text(self, text: str) -> None:
        if not self._open:
            return
        element = self._open[-1]
        self._n_chars += len(text)
        if self._n_chars > MAX_ROW_CHARS:
            self._fault = f"longer than {MAX_ROW_CHARS:,} characters; shorten it"
            return
        if _BAD in text:
            self._fault = "holds bytes that are not of the document's encoding; mend them"
        element.texts.append(text)
        element.has_text = element.has_text or not text.isspace()

    def end(self, name: str) -> None:
        super().end(name)
        if not self._open:
            return
        element = self._open.pop()
        if self._open:
            parent = self._open[-1]
            if len(self._open) > 1:
                parent.texts += element.texts
            parent.children.setdefault(_local(name), []).append((name, _value(element)))
            return
        cells = _fields(element) | {}
        for key, text in _attributes(element).items():
            cells.setdefault(key if key not in cells else f"{key}_2", text)
        self.found.append(self._fault or cells)
        self._fault, self._n_chars = "", 0


def _value(element: _Element) -> object:
    """An element's text, or its fields; ``value`` is the text of one that has attributes."""
    attributes = _attributes(element)
    if not element.has_text and element.children.keys() == {"language"}:  # PrestaShop's
        found = [value for _, value in element.children["language"] if isinstance(value, dict)]
        return [{"value": one.get("value"), "lang": one.get("id", "")} for one in found]
    if element.has_text or not element.children:
        text = "".join(element.texts).strip()
        return {"value": text, **attributes} if attributes else text
    return {**attributes, **_fields(element)}


def _fields(element: _Element) -> dict[str, Cell]:
    """The elements in an element: one value, or a list where there are several."""
    cells: dict[str, Cell] = {}
    for name, found in element.children.items():
        by_name: dict[str, list[object]] = {}
        for whole, value in sorted(found, key=lambda item: _rank(item[0])):
            by_name.setdefault(whole, []).append(value)
        for i, values in enumerate(by_name.values(), start=1):
            key = name if i == 1 else f"{name}_{i}"
            only = values[0]
            several = only if isinstance(only, list) else values if len(values) > 1 else ()
            if translations := _translations(several):
                (_, cells[key]), *others = translations.items()
                cells |= {f"{key}.{language}": value for language, value in others}
            elif len(values) > 1:
                cells[key] = values
            elif isinstance(only, dict) and "value" in only:
                cells[key] = only["value"]
                cells |= {f"{key}.{k}": v for k, v in only.items() if k != "value"}
            else:
                cells[key] = only
    return cells


def _translations(values: Sequence[object]) -> dict[str, Cell]:
    """Several texts by their languages, if each says its own; a list where one has several."""
    by_language: dict[str, list[object]] = {}
    for value in values:
        language = isinstance(value, dict) and next(filter(None, map(value.get, _LANGUAGES)), None)
        if not (isinstance(value, dict) and "value" in value and language):
            return {}
        by_language.setdefault(str(language), []).append(value["value"])
    return {code: found if len(found) > 1 else found[0] for code, found in by_language.items()}


def _rank(name: str) -> int:
    """Google's names come before those without a prefix, and these before others."""
    prefix, colon, _ = name.rpartition(":")
    return 1 if not colon else 0 if prefix == "g" else 2


def _attributes(element: _Element) -> dict[str, str]:
    found = element.attributes.items()
    return {_local(name): text for name, text in found if not name.startswith("xmlns")}


def _local(name: str) -> str:
    return name.rpartition(":")[2]
