"""The readings that one cell allows: a whole number, an amount with a decimal comma, a date.

Cells of a table repeat, so the shapes of short texts are remembered.
"""

from decimal import Decimal
from enum import IntFlag
from functools import lru_cache
from itertools import chain

from fashionclip.catalog.money import MAX_PRICE, price_of, read_amount
from fashionclip.catalog.tables.table import Cell
from fashionclip.catalog.values import BOOLEANS, MISSING, is_integer, is_number, iso_date
from fashionclip.product import INT64


class Shape(IntFlag):
    """The readings that a cell allows; plain words allow none."""

    MISSING = 1
    INTEGER = 2
    NUMBER = 4
    BOOLEAN = 8
    PAIRED = 16
    """A word of a pair such as yes and no; the key has the word."""
    AMOUNT = 32
    """A number as people write it, perhaps with a currency, which the key has."""
    POINT = 64
    """An amount whose decimal sign can only be a point."""
    COMMA = 128
    """... only a comma."""
    UNSURE = 256
    """... that is another number with a point than with a comma."""
    PRICE = 512
    """An amount that is neither negative nor huge."""
    DAY_FIRST = 1024
    """A date, if the day comes before the month, or the year before both."""
    MONTH_FIRST = 2048
    REORDERED = 4096
    """A date that is not written as ISO 8601 has it."""
    TEXT = 8192
    """Text in a table whose cells have types, where text is no number."""


Key = tuple[int, str | None]
"""A shape, and the currency, or the word in lower case."""
_WORDS = frozenset(chain.from_iterable(BOOLEANS.values()))
PLAIN_WORDS: Key = (0, None)
_OF_AMOUNTS = Shape.AMOUNT | Shape.POINT | Shape.COMMA | Shape.UNSURE | Shape.PRICE


@lru_cache(16_384)
def shape_of_text(text: str) -> Key | None:
    """What a cell of text can be read as; None for a blank."""
    text = text.strip()
    if not text:
        return None
    word = text.lower()
    if word in MISSING:
        return int(Shape.MISSING), None
    if word in _WORDS:
        return int(Shape.BOOLEAN if word in BOOLEANS["true"] else Shape.PAIRED), word
    shape = Shape(0)
    if is_number(text):
        shape |= Shape.NUMBER | (Shape.INTEGER if is_integer(text) else Shape(0))
    amount = read_amount(text)
    if amount is not None:
        has = {
            Shape.AMOUNT: True,
            Shape.POINT: amount.comma is None,
            Shape.COMMA: amount.point is None,
            Shape.UNSURE: amount.is_ambiguous,
            Shape.PRICE: price_of(amount, None) is not None,
        }
        shape |= sum(flag for flag, is_there in has.items() if is_there)
        return int(shape), amount.currency
    days, months = (iso_date(text, day_first=first) for first in (True, False))
    shape |= Shape.DAY_FIRST if days else Shape(0)
    shape |= Shape.MONTH_FIRST if months else Shape(0)
    shape |= Shape.REORDERED if (days or months) and text[4:5] != "-" else Shape(0)
    shape |= Shape.UNSURE if days and months and days != months else Shape(0)
    return int(shape), None


@lru_cache(16_384)
def shape_of_typed_text(text: str) -> Key | None:
    """What text can be read as where a number would not be text; None for a blank."""
    found = shape_of_text(text)
    if found is None:
        return None
    return found[0] & (_OF_AMOUNTS | Shape.MISSING) | Shape.TEXT, found[1]


def shape_of_value(cell: Cell) -> Key | None:
    """What a cell is that has a type of its own; None for a number that is none (NaN)."""
    if cell != cell:
        return None
    shape = Shape(0)
    if isinstance(cell, bool):
        shape = Shape.BOOLEAN
    elif isinstance(cell, int):
        shape = Shape.INTEGER | Shape.NUMBER if cell in INT64 else Shape(0)
    elif isinstance(cell, float | Decimal):
        shape = Shape.NUMBER
    if shape & Shape.NUMBER:
        shape |= Shape.AMOUNT | (Shape.PRICE if 0 <= cell < MAX_PRICE else Shape(0))
    return int(shape), None
