"""The first pass over a table: what each column holds, decided from all of its cells.

Every cell has a shape (``shapes``): the readings that it allows. The survey counts each column's
shapes and keeps the first row of each; a column's type follows from these few.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from fashionclip.catalog.money import (
    KNOWN_NAMES,
    SHARED_SYMBOLS,
    day_comes_first,
    decimal_sign,
    read_amount,
    why_no_price,
    without_currency,
)
from fashionclip.catalog.roles import USUAL_NAMES, bare_name
from fashionclip.catalog.shapes import (
    PLAIN_WORDS,
    Key,
    Shape,
    shape_of_text,
    shape_of_typed_text,
    shape_of_value,
)
from fashionclip.catalog.tables.table import BrokenRow, Cell, Table
from fashionclip.catalog.values import (
    BOOLEANS,
    ColumnType,
    Form,
    as_text,
    is_number,
    reader_of,
    without_html,
)
from fashionclip.product import Kind, Roles, Value

MAX_WORDS = 1_000
"""A column with more cells of plain words than this is text, whatever else is in it."""
MAX_SHAPED_CHARS = 60  # longer cells are words
MAX_EXAMPLES = 3
ROWS_OF_EXAMPLES = 256
MIN_PRICES = 0.5
"""Share of a column's cells that must be amounts, where its name says that it holds prices."""
MIN_CURRENCIES = 0.9
"""... and where only its cells say so, by their currencies."""
MIN_SAID = 0.5  # share of numbers from which the words among them are worth a remark

_PRICE_PART = re.compile(
    r"(price|preis|prijs)(amount|value)?$|^(preis|prix|precio(?!us)|prezzo|preço|cena|costper)"
    r"|^price(?!range|type|view)"
)

LIST_SIGNS = ("|", ";", ",")
"""What stands between the words of a list, the best evidence first."""


@dataclass(slots=True)
class _Seen:
    """The cells of one shape in a column."""

    row: int
    """Of the first."""
    cell: Cell
    """The first."""
    count: int = 1


class _Column:
    """The cells of one column, counted by their shapes."""

    def __init__(self, name: str, roles: Roles, declared: Kind | None, *, is_typed: bool) -> None:
        bare = bare_name(name)
        self.name, self._declared = name, declared
        self._shape_of = shape_of_typed_text if is_typed else shape_of_text
        words = {roles.title, roles.description, roles.group}
        self._is_id = name in {roles.id, roles.image, *roles.further_images}
        self._is_list = bare in KNOWN_NAMES["list"] and not (self._is_id or name in words)
        self._is_text_by_role = self._is_id or name in {*words, roles.highlights}
        self._is_words = self._is_text_by_role or bare in KNOWN_NAMES["code"]
        self._is_label = name in {roles.brand, roles.category, roles.colour, roles.size}
        self._is_never_money = self._is_words or self._is_list or self._is_label
        parts = {roles.sale_price: "sale_price", roles.price: "price"}
        self._price_role = None if self._is_never_money else parts.get(name)
        self._is_price_name = _is_price_name(name) and not self._is_never_money
        self._currency = without_currency(name)[1]
        self._seen: dict[Key, _Seen] = {}
        self._list_signs: set[str] = set()
        self._examples: dict[str, None] = {}
        self.has_mended = False

    def look(self, cell: Cell, row: int) -> None:
        """Take in a cell that is not empty."""
        if type(cell) is str:
            if not self._is_text_by_role and ("<" in cell or "&" in cell):
                cell = without_html(cell)
            key = self._shape_of(cell) if len(cell) <= MAX_SHAPED_CHARS else PLAIN_WORDS
            if self._is_list:
                self._list_signs.update(sign for sign in LIST_SIGNS if sign in cell)
        else:
            key = shape_of_value(cell)
        if key is None:
            return
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = _Seen(row, cell)
        else:
            seen.count += 1
        if row <= ROWS_OF_EXAMPLES and len(self._examples) < MAX_EXAMPLES:
            self._examples[_shown(cell)] = None

    @property
    def is_settled(self) -> bool:
        """Whether more cells would change nothing."""
        if not self._seen or self._is_list or self._price_role or self._is_price_name:
            return False
        return self._is_never_money or self._declared is not None or self._has_many_words

    @property
    def _has_many_words(self) -> bool:
        words = self._seen.get(PLAIN_WORDS)
        return words is not None and words.count > MAX_WORDS

    def _count(self, flag: Shape) -> int:
        return sum(seen.count for (shape, _), seen in self._seen.items() if shape & flag)

    @property
    def _n_filled(self) -> int:
        """Cells that are not words for "missing"."""
        return sum(
            seen.count for (shape, _), seen in self._seen.items() if not shape & Shape.MISSING
        )

    @property
    def currencies(self) -> Mapping[str, int]:
        """How many prices are in each currency that a cell, or else the column's name, has."""
        found: dict[str, int] = {}
        for (shape, named), seen in self._seen.items():
            if shape & Shape.PRICE and (currency := named or self._currency):
                found[currency] = found.get(currency, 0) + seen.count
        return found

    @property
    def is_money(self) -> bool:
        """Whether it holds prices, by its role, its name or its currencies."""
        price = Shape.PRICE
        n_prices, n_filled = self._count(price), self._n_filled
        if self._is_never_money or not n_prices:
            return False
        if self._price_role:
            return True
        if self._is_price_name and n_prices >= MIN_PRICES * n_filled:
            return True
        n_named = sum(n.count for (shape, name), n in self._seen.items() if shape & price and name)
        return not self._has_many_words and n_named >= MIN_CURRENCIES * n_filled

    def n_signs(self) -> tuple[int, int]:
        """How many amounts can only have a decimal point, and how many only a comma."""
        return self._count(Shape.POINT), self._count(Shape.COMMA)

    def decide(self, price_sign: str | None, locale: str | None) -> ColumnType:
        """The column's type.

        Args:
            price_sign: the decimal sign, if this is a column of prices.
            locale: decides what the cells leave open.
        """
        examples = tuple(self._examples)
        if self.is_money:
            prices = [shape for shape, _ in self._seen if shape & Shape.PRICE]
            is_whole = all(shape & Shape.INTEGER for shape in prices)
            kind: Kind = "integer" if is_whole else "number"
            return ColumnType(kind, "money", price_sign, examples=examples)
        if self._price_role and self._n_filled:
            return ColumnType(None, "money", examples=examples)
        is_blank = not self._seen or (self._price_role and not self._n_filled)
        if is_blank and not (self.has_mended or self._is_text_by_role):
            return ColumnType(None)
        if self._is_id:
            return ColumnType("string", "id", examples=examples)
        if self._declared is not None:
            form: Form = "text" if self._declared == "string" else "plain"
            return ColumnType(self._declared, form, examples=examples)
        if self._is_list and self._list_signs:
            sign = next(sign for sign in LIST_SIGNS if sign in self._list_signs)
            return ColumnType("string", "list", sign, examples=examples)
        if self._is_words or self._is_list or self._has_many_words:
            return ColumnType("string", examples=examples)
        kind_found, form, sign_found = self._fitting(locale)
        return ColumnType(kind_found, form, sign_found, self._because(kind_found), examples)

    def _fitting(self, locale: str | None) -> tuple[Kind, Form, str | None]:
        """The narrowest kind that all cells fit, and how they are read."""
        keys = [key for key in self._seen if not key[0] & Shape.MISSING]
        common = Shape(-1)
        for shape, _ in keys:
            common &= Shape(shape)
        if not keys or any(shape & Shape.TEXT for shape, _ in keys):
            return "string", "text", None
        if common & Shape.INTEGER:
            return "integer", "plain", None
        if common & Shape.NUMBER:
            return "number", "plain", None
        if self._is_label:  # the brand "On", the sizes "38,40"
            return "string", "text", None
        if common & Shape.BOOLEAN:
            return "boolean", "plain", None
        if common & Shape.PAIRED and {word for _, word in keys} in _PAIRS:
            return "boolean", "words", None
        has_currency = any(detail for _, detail in keys)
        n_point, n_comma = self.n_signs()
        if common & Shape.AMOUNT and not has_currency and bool(n_point) != bool(n_comma):
            return "number", "amount", "." if n_point else ","
        return "string", self._form_of_dates(common, locale), None

    def _form_of_dates(self, common: Shape, locale: str | None) -> Form:
        if not any(shape & Shape.REORDERED for shape, _ in self._seen):
            return "text"
        day_first, month_first = bool(common & Shape.DAY_FIRST), bool(common & Shape.MONTH_FIRST)
        if day_first and month_first and self._count(Shape.UNSURE):
            by_locale = day_comes_first(locale) if locale else None
            day_first, month_first = by_locale is True, by_locale is False
        return "day first" if day_first else "month first" if month_first else "text"

    def _because(self, kind: Kind) -> tuple[int, str] | None:
        """The first cell that fits no narrower kind."""
        flag = Shape.INTEGER if kind == "number" else max(_SAID, key=self._count)
        others = self._without(flag)
        return (others[0].row, _shown(others[0].cell)) if others else None

    def _without(self, flag: Shape) -> list[_Seen]:
        """Cells that are not missing and do not allow a reading, by their first rows."""
        wanted = Shape.MISSING | flag
        found = [seen for (shape, _), seen in self._seen.items() if not shape & wanted]
        return sorted(found, key=lambda seen: seen.row)

    def _first(self, flag: Shape) -> str | None:
        """The first cell that allows a reading."""
        found = [seen for (shape, _), seen in self._seen.items() if shape & flag]
        return _shown(min(found, key=lambda seen: seen.row).cell) if found else None

    def notes(self, column: ColumnType, *, locale: str | None) -> Iterator[str]:
        """Sentences on how it was read, where that is not plain."""
        named, read = f"column '{self.name}'", reader_of(column)
        if column.form == "money":
            yield from (f"{named}: {note}" for note in self._money_notes(column, locale))
        elif column.form == "amount":
            example = self._first(Shape.COMMA if column.sign == "," else Shape.POINT)
            sign = "comma" if column.sign == "," else "point"
            number = as_text(read(example))
            yield f"{named} holds numbers with a decimal {sign}: '{example}' is {number}"
        elif column.form in {"day first", "month first"}:
            example = self._first(Shape.REORDERED)
            yield f"{named} holds dates with the {column.form}: '{example}' is {read(example)}"
        elif column.kind == "string" and column.because is not None:
            row, value = column.because
            n_others = self._n_filled - max(map(self._count, _SAID))
            if n_others > (1 - MIN_SAID) * self._n_filled or self._has_many_words:
                return
            yield (
                f"{named} is text, because of {n_others:,} of {self._n_filled:,} values: "
                f"row {row} has '{value}'"
            )
        elif column.form == "text" and self._count(Shape.UNSURE) == self._n_filled > 0:
            example = self._first(Shape.UNSURE)
            if self._count(Shape.REORDERED):
                why = "may have day or month first; --locale en_GB or en_US says which"
                yield f"{named} is text: '{example}' {why}"

    def _money_notes(self, column: ColumnType, locale: str | None) -> Iterator[str]:
        price, read = Shape.PRICE, reader_of(column)
        odd = [self._first(flag) for flag in (Shape.UNSURE, Shape.COMMA, Shape.POINT)]
        example = next((one for one in odd if one and not _is_same(one, read(one))), None)
        if example is not None:
            (currency, *more) = self.currencies or [""]
            unit = f" in {currency}" if currency and not more else ""
            yield f"'{example}' is the price {as_text(read(example))}{unit}"
        unsure, (n_point, n_comma) = self._first(Shape.UNSURE), self.n_signs()
        if n_point and n_comma:
            yield (
                f"{n_point:,} of the prices with a decimal point, {n_comma:,} with a comma; "
                "each is read by its own"
            )
        if unsure and locale is None and (column.sign is None or (n_point and n_comma)):
            other = "en" if "." in unsure and "," not in unsure else "de"
            yield f"'{unsure}' may be another number; --locale {other} reads it so"
        currencies = self.currencies
        if len(currencies) > 1:
            listed = ", ".join(f"{n:,} in {name}" for name, n in sorted(currencies.items()))
            yield f"prices are in {len(currencies)} currencies ({listed}); each row keeps its own"
        yield from self._symbol_notes(locale)
        others = self._without(price)
        if others:
            why = why_no_price(as_text(others[0].cell))
            n_others = sum(seen.count for seen in others)
            yield (
                f"no price in {n_others:,} of {self._n_filled:,} values, which are left empty: "
                f"row {others[0].row} has '{_shown(others[0].cell)}' ({why})"
                + (
                    ""
                    if column.kind
                    else f"; --column {self._price_role}= keeps the column as text"
                )
            )

    def _symbol_notes(self, locale: str | None) -> Iterator[str]:
        """What a symbol that several currencies share was taken for."""
        prices = [seen for (shape, _), seen in self._seen.items() if shape & Shape.PRICE]
        amounts = [read_amount(as_text(seen.cell)) for seen in prices if locale is None]
        found = {one.symbol: one.currency for one in amounts if one and one.symbol}
        for symbol, currency in found.items():
            if symbol in SHARED_SYMBOLS:
                place = next(iter(SHARED_SYMBOLS[symbol]))
                locale = place if place.islower() else f"en_{place}"
                taken = "kept" if symbol == currency else f"taken for {currency}"
                yield f"'{symbol}' is {taken}; --locale tells its currency, such as {locale}"


def _is_price_name(name: str) -> bool:
    """Whether a column of this name usually holds prices."""
    bare = bare_name(without_currency(name)[0])
    is_known = bare in USUAL_NAMES["price"] or bare in KNOWN_NAMES["price"]
    return is_known or _PRICE_PART.search(bare) is not None


_PAIRS = tuple({yes, no} for yes, no in BOOLEANS.values())
_SAID = (Shape.NUMBER, Shape.AMOUNT, Shape.DAY_FIRST, Shape.MONTH_FIRST, Shape.BOOLEAN)
"""The readings that a column of text may nearly have."""


def _is_same(text: str, value: Value) -> bool:
    """Whether text is a value as programs write it, so that nothing needs to be said."""
    return is_number(text) and float(text) == value


def _shown(cell: Cell) -> str:
    text = " ".join(as_text(cell).split())
    return text if len(text) <= MAX_SHAPED_CHARS else text[: MAX_SHAPED_CHARS - 1] + "…"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over a table found."""

    types: Mapping[str, ColumnType]
    """Columns in their order; columns of binary data are left out."""
    n_rows: int
    """Rows, broken ones included."""
    n_mended: int = 0
    currency_columns: tuple[str, ...] = ()
    """The columns of prices whose cells name currencies, best first."""
    notes: tuple[str, ...] = ()
    """Sentences on how columns were read."""


def take_survey(table: Table, roles: Roles, *, locale: str | None = None) -> Survey:
    """Decide the types of all columns in one pass.

    Mended rows do not count: if the mend was wrong, their values are in the wrong columns.

    Args:
        table: what is read.
        roles: which column plays which part.
        locale: such as ``de`` or ``en_GB``; it decides what the cells leave open.

    Raises:
        CatalogError: the table cannot be read to its end, or the locale is not known.
    """
    sign = None if locale is None else decimal_sign(locale)
    declared = table.kinds or {}
    columns = {
        name: _Column(name, roles, declared.get(name), is_typed=table.is_typed)
        for name in table.names
        if declared.get(name, "string") is not None
    }
    n_rows = n_mended = 0
    active = {name: column.look for name, column in columns.items()}
    for row in table.rows(list(columns)):
        n_rows += 1
        if isinstance(row, BrokenRow):
            continue
        cells = row.cells
        if row.is_mended:
            n_mended += 1
            for name, column in columns.items():
                column.has_mended |= bool(cells.get(name))
            continue
        for name, cell in cells.items():
            if name in active and cell is not None and cell != "":
                active[name](cell, row.number)
        if n_rows % ROWS_OF_EXAMPLES == 0:
            active = {name: active[name] for name in active if not columns[name].is_settled}
    signs = _price_signs(columns, sign)
    types = {name: column.decide(signs.get(name), locale) for name, column in columns.items()}
    notes = (column.notes(types[name], locale=locale) for name, column in columns.items())
    currencies = [name for name in signs if columns[name].currencies]
    return Survey(
        types,
        n_rows,
        n_mended,
        tuple(sorted(currencies, key=lambda name: name != roles.price)),
        tuple(chain.from_iterable(notes)),
    )


def _price_signs(columns: Mapping[str, _Column], by_locale: str | None) -> dict[str, str | None]:
    """The decimal sign of each column of prices: of its own cells, else of all prices together."""
    counts = {name: column.n_signs() for name, column in columns.items() if column.is_money}
    together = _majority(tuple(map(sum, zip(*counts.values(), strict=True))))
    return {name: by_locale or _majority(count) or together for name, count in counts.items()}


def _majority(counts: tuple[int, ...]) -> str | None:
    n_point, n_comma = counts or (0, 0)
    return None if n_point == n_comma else "." if n_point > n_comma else ","
