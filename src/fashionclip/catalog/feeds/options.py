"""Options of a product, such as size and colour: out of the cells that hold them, and in order."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from fashionclip.catalog.feeds.rules import Rules
from fashionclip.catalog.tables.table import Cell
from fashionclip.catalog.values import as_text

_NEXT = ",[^=,|]+="
_PACKED = re.compile(rf'\s*([^=,|]+)=("(?:[^"]|"")*"(?={_NEXT}|$)|[^,]*(?:,(?!{_NEXT[1:]})[^,]*)*)')
_BIGCOMMERCE = re.compile(r"Name=([^|]*)\|Value=(.*?)(?=\|?Type=[^|=]*\|Name=|\|\w+=|$)")
_BIGCOMMERCE_V2 = re.compile(r"\[\w+\]([^=]+)=(.*?)(?=,\s*\[\w+\]|$)")
_LETTERS = re.compile(r"(\d*)(x*)(s|l)|m")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_COLOUR_CODE = re.compile(r"^#[0-9a-fA-F]{6}:|:#[0-9a-fA-F]{6}$|\[#[0-9a-fA-F]{6}\b[^\]]*\]$")
_KEYS = ("name", "attribute", "key"), ("value", "values", "option")


def option_values(cells: Mapping[str, Cell], rules: Rules) -> dict[str, list[str]]:
    """The options of a row and their values, of which a parent may list several."""
    found: dict[str, list[str]] = {}
    for number, (name_column, value_column) in enumerate(rules.pairs):
        if value_column not in cells:
            continue
        name = cells.get(name_column)
        if isinstance(name, list):  # Shopify's JSON: the product's options, in their order
            name = name[number] if number < len(name) else None
        if isinstance(name, Mapping):
            name = name.get("name")
        _add(found, name, cells.get(value_column), rules)
    for column in rules.packed:
        for name, value in unpack(cells.get(column), rules.feed.options.equals):
            _add(found, name, value, rules)
    return found


def _add(found: dict[str, list[str]], name: Cell, value: Cell, rules: Rules) -> None:
    label = as_text(name).strip()
    values = as_values(value, rules.feed.options.separator)
    values = [_COLOUR_CODE.sub("", v).strip() or v if "#" in v else v for v in values]
    if no_option := rules.feed.options.no_option:
        values = [each for each in values if each not in no_option]
    if label and values:
        found.setdefault(label, []).extend(values)


def as_values(cell: Cell, separator: str = "") -> list[str]:
    """The values in a cell: one, or those of a list, or those between separators."""
    if cell.__class__ is str and not separator:
        return [text] if (text := cell.strip()) else []
    if isinstance(cell, list | tuple):
        return [text for each in cell for text in as_values(each)]
    text = as_text(cell).strip()
    if not separator:
        return [text] if text else []
    if "\\" not in text:
        return [part.strip() for part in text.split(separator) if part.strip()]
    parts = re.split(rf"(?<!\\){re.escape(separator)}", text)
    return [part.strip().replace("\\" + separator, separator) for part in parts if part.strip()]


def unpack(cell: Cell, equals: str = "=") -> Iterator[tuple[str, Cell]]:
    """Names and values of several options in one cell.

    ``color=Red,size="S, M"`` of Magento, ``Name=Color|Value=Red`` and ``[S]Color=Red`` of
    BigCommerce, ``Color: Red|Size: S`` of Shopware 5, or a list of objects with names and values.
    """
    if isinstance(cell, Mapping):
        name, value = (next((cell[k] for k in keys if k in cell), None) for keys in _KEYS)
        if name is None:
            yield from cell.items()
        else:
            yield as_text(name), value
    elif isinstance(cell, list | tuple):
        for each in cell:
            yield from unpack(each, equals)
    elif isinstance(cell, str) and equals in cell:
        yield from _unpack_text(cell if equals == "=" else cell.replace(equals, "="))


def _unpack_text(text: str) -> Iterator[tuple[str, str]]:
    pattern = _BIGCOMMERCE_V2 if text.lstrip().startswith("[") else _PACKED
    if _BIGCOMMERCE.search(text):
        pattern = _BIGCOMMERCE
    for name, value in pattern.findall(text):
        value = value.strip()
        if value[:1] == '"' == value[-1:] and len(value) > 1:
            value = value[1:-1].replace('""', '"')
        yield name.strip(), value


@lru_cache(8192)
def order_of(value: str) -> tuple[int, float, str]:
    """Where a value comes in an ordered list: sizes by size, numbers by value, others by name."""
    text = value.strip().lower()
    letters = _LETTERS.fullmatch(text)
    if letters:
        return 1, _rank(letters), text
    number = _NUMBER.match(text)
    if number:
        return 0, float(number[0].replace(",", ".")), text
    return 2, 0.0, text


def _rank(letters: re.Match[str]) -> float:
    times, many, side = letters.groups()
    if side is None:
        return 0.0
    weight = 1 + len(many) + (int(times[:3]) - 1 if times and many else 0)
    return float(-weight if side == "s" else weight)
