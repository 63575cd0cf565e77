"""Amounts of money as shops write them: ``1.299,00 €``, ``$1,299.00``, ``CHF 1'299.-``.

One amount alone does not say what its signs mean: ``1.299`` is more than a thousand in Germany and
little more than one elsewhere. So an ``Amount`` keeps both readings, and the column decides.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from fashionclip.errors import CatalogError

MAX_PRICE = 1e12
MAX_AMOUNT_CHARS = 60

_KNOWN = tomllib.loads(Path(__file__).with_name("values.toml").read_text(encoding="utf-8"))
_CODES = frozenset(_KNOWN["currencies"]["codes"].split())
_SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        symbol: currency
        for currency, symbols in _KNOWN["currencies"]["symbols"].items()
        for symbol in symbols.split()
    }
)
SHARED_SYMBOLS: Mapping[str, Mapping[str, str]] = MappingProxyType(_KNOWN["currencies"]["shared"])
"""Symbols of several currencies, and which one a region or a language means."""
_THREE_DECIMALS = frozenset(_KNOWN["currencies"]["three_decimals"])
_NO_DECIMALS = frozenset(_KNOWN["currencies"]["no_decimals"])
_COMMA_LANGUAGES = frozenset(_KNOWN["languages"]["comma"].split())
_LANGUAGES = _COMMA_LANGUAGES | frozenset(_KNOWN["languages"]["point"].split())
KNOWN_NAMES: Mapping[str, frozenset[str]] = MappingProxyType(
    {what: frozenset(names) for what, names in _KNOWN["names"].items()}
)
"""Bare names of columns that hold a ``price``, a ``code``, or a ``list``."""

_CODES_LIKE_WORDS = frozenset({"all", "cup", "pen", "top", "try"})
_SPACES = re.compile(r"\s+")
_BODY = re.compile(r"\d(?:[\d.,' ]*\d)?")
_NO_CENTS = re.compile(r"^(?:[.,]\s?(?:-{1,2}|[–—=])|:-{1,2}|/-|[.,](?=\s|$))")  # noqa: RUF001
_GROUPS = r"[1-9]\d{0,2}(?P<sign>[@' ])\d{3}(?:(?P=sign)\d{3})*"
_INDIAN = r"[1-9]\d?(?:,\d{2})+,\d{3}"
_WHOLE = r"0|[1-9]\d*|\d+(?=[.,])|(?=[.,])"
_POINT = re.compile(
    rf"(?P<whole>{_GROUPS.replace('@', ',')}|{_INDIAN}|{_WHOLE})(?:\.(?P<rest>\d+))?"
)
_COMMA = re.compile(rf"(?P<whole>{_GROUPS.replace('@', '.')}|{_WHOLE})(?:,(?P<rest>\d+))?")
_DIGITS = re.compile(r"\D")


@dataclass(frozen=True, slots=True)
class Amount:
    """A number as it was written, perhaps with a currency."""

    point: float | None
    """Its value if the point is the decimal sign; None if it cannot be."""
    comma: float | None
    """Its value if the comma is."""
    currency: str | None
    """ISO 4217; or ``kr``, which three currencies share."""
    symbol: str | None
    """The currency as it was written, in lower case; None for a code."""

    @property
    def is_ambiguous(self) -> bool:
        """Whether it depends on the decimal sign."""
        return None not in {self.point, self.comma} and self.point != self.comma

    def value(self, decimal: str | None) -> float:
        """The number, given the column's decimal sign.

        Args:
            decimal: ``.``, ``,`` or None, which takes a lone sign before three digits for the
                thousands' (but not in the currencies that have three decimals).
        """
        if self.point is None or self.comma is None:
            found = self.comma if self.point is None else self.point
            assert found is not None
            return found
        if decimal is None:
            choose = min if self.currency in _THREE_DECIMALS else max
            return choose(self.point, self.comma)
        return self.point if decimal == "." else self.comma


def read_amount(text: str) -> Amount | None:
    """Read a number with a currency or without; None for anything else."""
    return _read_amount(text) if len(text) <= MAX_AMOUNT_CHARS else None


@lru_cache(8192)
def _read_amount(text: str) -> Amount | None:
    text = _plain(text)
    found = _BODY.search(text)
    if found is None:
        return None
    before, body, after = text[: found.start()], found[0], text[found.end() :]
    if before[-1:] in {".", ","} and not before[-2:-1].isalpha():  # .99, and not Rs.99
        before, body = before[:-1], before[-1] + body
    after = _NO_CENTS.sub("", after)
    before, after, is_negative = _without_sign(before.strip(), after.strip())
    symbols = [part for part in (before, after) if part]
    currency, symbol = _one_currency(symbols)
    if symbols and currency is None:
        return None
    point, comma = _read(_POINT, body), _read(_COMMA, body)
    if point is None and comma is None:
        return None
    sign = -1 if is_negative else 1
    return Amount(
        None if point is None else sign * point,
        None if comma is None else sign * comma,
        currency,
        symbol,
    )


def why_no_price(text: str) -> str:
    """What a text is that ``price_of`` takes for no price."""
    amount = read_amount(text)
    if amount is None:
        return "a percentage" if "%" in text else "no amount"
    return "negative" if amount.value(None) < 0 else "too large"


def price_of(amount: Amount | None, decimal: str | None) -> float | None:
    """An amount as a price; None if it is none, negative, or ``MAX_PRICE`` or more."""
    if amount is None:
        return None
    value = amount.value(decimal)
    return value + 0.0 if 0 <= value < MAX_PRICE else None


def decimals_of(currency: str) -> int:
    """How many decimals the prices of a currency are written with; 2 if it is not known.

    Args:
        currency: its ISO 4217 code, or a sign that only one currency has.
    """
    code = _SYMBOLS.get(currency.strip().lower(), currency.strip().upper())
    return 0 if code in _NO_DECIMALS else 3 if code in _THREE_DECIMALS else 2


def currency_of(amount: Amount, locale: str | None) -> str | None:
    """The currency of an amount, with a symbol that several share read by the locale."""
    shared = SHARED_SYMBOLS.get(amount.symbol or "")
    if shared and locale:
        language, region = _parts(locale)
        return shared.get(region or "") or shared.get(language or "") or amount.currency
    return amount.currency


def without_currency(name: str) -> tuple[str, str | None]:
    """A column's name without the currency at its end, and the currency; None if it names none.

    ``Price (EUR)`` is ``Price`` and ``EUR``.
    """
    *parts, last = re.split(r"[\s_()\[\]{}/,:-]+", name.strip(" \n)]}"))
    is_word = last.isascii() and last.isalpha() and last.lower() not in {"kr", "tl"}
    is_word_too = last.lower() in _CODES_LIKE_WORDS and not last.isupper()
    is_code = last.upper() in _CODES and not is_word_too
    currency = _currency(last) if parts and (is_code or not is_word) else None
    parts = parts[:-1] if parts[1:] and parts[-1].lower() in {"in", "en", "i"} else parts
    return (" ".join(parts), currency) if currency else (name, None)


def decimal_sign(locale: str) -> str:
    """The decimal sign of a language or region: ``.`` or ``,``.

    Args:
        locale: such as ``de``, ``de_CH``, ``en-GB``, or a region alone: ``ch``.

    Raises:
        CatalogError: it is not known.
    """
    language, region = _parts(locale)
    if language is None:
        message = f"the locale {locale!r} is not known; give a language such as de, en_GB or fr_CH"
        raise CatalogError(message)
    if language in _COMMA_LANGUAGES and region not in _KNOWN["languages"]["point_regions"]:
        return ","
    return "," if (language, region) == ("en", "ZA") else "."


def _parts(locale: str) -> tuple[str | None, str | None]:
    """Language and region of a locale; no language if it is not known."""
    words = re.split(r"[-_.@]", locale.strip())
    language = words[0].lower()
    region = next((word.upper() for word in words[1:] if len(word) == 2), None)
    if region is None and language.upper() == "CH":  # no language, but what the Swiss type
        return "de", "CH"
    return (language if language in _LANGUAGES else None), region


def day_comes_first(locale: str) -> bool | None:
    """Whether 5/12 is in December; None where the locale does not say."""
    language, region = _parts(locale)
    if language == "en":
        return None if region is None else region not in {"US", "PH"}
    return language not in _KNOWN["languages"]["month_first"]


def _plain(text: str) -> str:
    """Text with ASCII digits, plain spaces, and one kind of apostrophe."""
    text = _SPACES.sub(" ", text).strip().removeprefix("'")  # as Excel marks text
    if text.isascii():
        return text
    text = text.translate(_ALIKE)
    return "".join(
        str(unicodedata.decimal(sign)) if sign.isdecimal() and sign > "9" else sign for sign in text
    )


_ALIKE = str.maketrans(
    {"’": "'", "ʼ": "'", "´": "'", "`": "'", "٬": "'", "٫": ".", "−": "-", "‐": "-"}  # noqa: RUF001
    | {"￥": "¥", "￡": "£", "￦": "₩"}
    | {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}  # wide forms
    | dict.fromkeys("\u200e\u200f\u200b\u061c\ufeff", "")
)


def _without_sign(before: str, after: str) -> tuple[str, str, bool]:
    """What stands around a number without its minus, and whether there was one."""
    if before.startswith("(") and after.endswith(")"):
        return before[1:].strip(), after[:-1].strip(), True
    for sign in ("-", "+"):
        if before.startswith(sign) or before.endswith(sign):
            return before.strip(sign + " "), after, sign == "-"
    return (before, after.strip("- "), True) if after.endswith("-") else (before, after, False)


def _one_currency(symbols: list[str]) -> tuple[str | None, str | None]:
    """The currency that stands before or after a number, and its symbol if that alone says it.

    Both may be given if they agree: ``$5 CAD``.
    """
    currencies = {_currency(part) for part in symbols}
    codes: set[str | None] = {part for part in symbols if part in _CODES}
    shared = {part.lower().rstrip(".") for part in symbols} & SHARED_SYMBOLS.keys()
    if codes and shared:
        currencies = codes
    if len(currencies) != 1:
        return None, None
    return currencies.pop(), None if codes or len(symbols) > 1 else symbols[0].lower().rstrip(".")


def _currency(part: str) -> str | None:
    part = part.strip()
    if part.upper() in _CODES:
        return part.upper()
    is_sign = len(part) == 1 and unicodedata.category(part) == "Sc" and part != "¢"
    return _SYMBOLS.get(part.lower().rstrip("."), part if is_sign else None)


def _read(form: re.Pattern[str], body: str) -> float | None:
    found = form.fullmatch(body)
    if found is None:
        return None
    return float(f"{_DIGITS.sub('', found['whole'])}.{found['rest'] or ''}0")
