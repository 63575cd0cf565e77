"""Amounts of money, however they are written, come back as the numbers that they are."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.catalog import Catalog
from fashionclip.catalog.money import decimal_sign, read_amount
from fashionclip.errors import CatalogError


def shop(folder: Path, *columns: tuple[str, list[str]], **options) -> Catalog:
    """A catalogue with some columns beside id and title."""
    rows = [["id", "title", *(name for name, _ in columns)]]
    rows += [
        [str(i), f"tee {i}", *cells]
        for i, cells in enumerate(zip(*(cells for _, cells in columns), strict=True))
    ]
    path = folder / "shop.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return Catalog.open(path, **options)


def values(catalog: Catalog, name: str) -> list:
    return [product.columns[name] for product in catalog]


# every way to write an amount

THOUSANDS = {".": [",", "'", "\u2019", " ", "\u00a0", "\u202f", ""]}
THOUSANDS[","] = [".", *THOUSANDS["."][1:]]
CURRENCIES = [
    ("", "", None), ("€", "", "EUR"), ("", " €", "EUR"), ("EUR ", "", "EUR"), ("", "EUR", "EUR"),
    ("$", "", "USD"), ("US$ ", "", "USD"), ("", " kr", "kr"), ("CHF\u00a0", "", "CHF"),
    ("", " zł", "PLN"), ("R$ ", "", "BRL"), ("₹", "", "INR"), ("A$", "", "AUD"), ("£", "", "GBP"),
    ("Rs. ", "", "INR"), ("", "\u00a0Kč", "CZK"), ("", " SEK", "SEK"), ("¥", "", "JPY"),
]  # fmt: skip


def written(cents: int, sign: str, thousands: str, currency: tuple[str, str, str | None]) -> str:
    whole = f"{cents // 100:,}".replace(",", thousands)
    return f"{currency[0]}{whole}{sign}{cents % 100:02}{currency[1]}"


@given(
    st.lists(st.integers(0, 10**11), min_size=1, max_size=8),
    st.sampled_from(",.").flatmap(
        lambda sign: st.tuples(st.just(sign), st.sampled_from(THOUSANDS[sign]))
    ),
    st.sampled_from(CURRENCIES),
)
@settings(max_examples=120)
def test_amounts_of_any_locale_come_back_exactly(tmp_path_factory, cents, signs, currency):
    folder = tmp_path_factory.getbasetemp()
    catalog = shop(folder, ("price", [written(one, *signs, currency) for one in cents]))
    assert catalog.columns["price"] == "number"
    assert values(catalog, "price") == [one / 100 for one in cents]
    if currency[2]:
        assert values(catalog, "currency") == [currency[2]] * len(cents)
    else:
        assert "currency" not in catalog.columns


@given(st.text(alphabet="0123456789.,' €$-()%x", max_size=12))
def test_no_text_is_an_amount_with_other_digits_than_its_own(text):
    amount = read_amount(text)
    if amount is not None:
        digits = "".join(filter(str.isdigit, text)).strip("0")
        for value in {amount.point, amount.comma} - {None}:
            assert f"{Decimal(repr(value)):f}".replace(".", "").strip("-0") == digits


@pytest.mark.parametrize(
    ("cells", "prices"),
    [
        (["19,90", "9,00", "1.299,00"], [19.9, 9.0, 1299.0]),
        (["1.299", "2.450", "9.990"], [1299.0, 2450.0, 9990.0]),
        (["1,234"], [1234.0]),
        (["1,234", "5.50"], [1234.0, 5.5]),
        (["1.234", "5,50"], [1234.0, 5.5]),
        (["1.234", "5.50"], [1.234, 5.5]),
        (["19.99 ", " 9.00", "1 299.00"], [19.99, 9.0, 1299.0]),
        (["₹1,29,900.00", "₹999"], [129900.0, 999.0]),
        (["CHF 1'299.–", "CHF 5.-"], [1299.0, 5.0]),  # noqa: RUF001
        (["500/-", "Rs.99"], [500.0, 99.0]),
        (["\u0661\u066c\u0662\u0669\u0669\u066b\u0665", "\u0669"], [1299.5, 9.0]),
        (["KWD 1.250", "KWD 2.500"], [1.25, 2.5]),
        (["1299.0000", ".5"], [1299.0, 0.5]),
        (["'19.99", "\uffe51,299", "\uff11\uff12.5"], [19.99, 1299.0, 12.5]),
        (["19,90", "1,299.00", "5"], [19.9, 1299.0, 5.0]),
        (["199:-", "1 299:-", "kr 49:-"], [199.0, 1299.0, 49.0]),
        (["₤1700.", "€ 610,", "12.50"], [1700.0, 610.0, 12.5]),
        (["৳1,29,900", "₠5"], [129900.0, 5.0]),
    ],
)  # fmt: skip
def test_the_column_decides_what_its_signs_mean(tmp_path, cells, prices):
    catalog = shop(tmp_path, ("price", cells))
    assert values(catalog, "price") == prices
    assert catalog.columns["price"] == "number"


@pytest.mark.parametrize(
    ("locale", "prices", "currency"),
    [
        ("de", [1299.0, 2450.0], "USD"),
        ("de_AT", [1299.0, 2450.0], "USD"),
        ("en_AU", [1.299, 2.45], "AUD"),
        ("ch", [1.299, 2.45], "USD"),
        (None, [1299.0, 2450.0], "USD"),
    ],
)
def test_a_locale_decides_what_the_cells_leave_open(tmp_path, locale, prices, currency):
    catalog = shop(tmp_path, ("price", ["$1.299", "$2.450"]), locale=locale)
    assert values(catalog, "price") == prices
    assert set(values(catalog, "currency")) == {currency}
    assert (locale is None) == any("--locale" in note for note in catalog.notes)


def test_an_unknown_locale_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="the locale 'xx' is not known; give a language such"):
        shop(tmp_path, ("price", ["1"]), locale="xx")
    assert (decimal_sign("fr"), decimal_sign("fr-CH"), decimal_sign("en_GB")) == (",", ".", ".")


def test_a_sale_price_is_read_as_the_price_beside_it_is(tmp_path):
    catalog = shop(tmp_path, ("price", ["29,90", "1.499,00"]), ("sale price", ["", "1.299"]))
    assert values(catalog, "sale price") == [None, 1299.0]
    catalog = shop(tmp_path, ("price", ["29.90", "2.00"]), ("sale price", ["", "1.299"]))
    assert values(catalog, "sale price") == [None, 1.299]


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("on request", "no amount"),
        ("ab 19,90", "no amount"),
        ("10–20", "no amount"),  # noqa: RUF001
        ("10-20", "no amount"),
        ("20%", "a percentage"),
        ("-5.00", "negative"),
        ("(5.00)", "negative"),
        ("9" * 20, "too large"),
        ("2 x 9.90", "no amount"),
        ("007", "no amount"),
        ("5 EUR 6", "no amount"),
        ("€5 USD", "no amount"),
        ("SEK 5 NOK", "no amount"),
        ("99¢", "no amount"),
    ],
)
def test_what_is_no_price_is_empty_and_named(tmp_path, cell, why):
    catalog = shop(tmp_path, ("price", ["19.99", cell, "9.00", ""]))
    assert values(catalog, "price") == [19.99, None, 9.0, None]
    assert any(
        "no price in 1 of 3 values, which are left empty: row 2 has" in note and f"({why})" in note
        for note in catalog.notes
    )


@pytest.mark.parametrize("role", ["price", "sale_price"])
def test_a_column_without_any_price_is_empty_and_named(tmp_path, role):
    cells = (role, ["", "from $5", "free"]), ("other", ["9", "8", "7"])
    catalog = shop(tmp_path, *cells, columns={"sale_price" if role == "price" else "price": ""})
    assert role not in catalog.columns
    assert catalog.notes == (
        f"column '{role}': no price in 2 of 2 values, which are left empty: row 2 has 'from $5' "
        f"(no amount); --column {role}= keeps the column as text",
    )
    kept = shop(tmp_path, *cells, columns={"price": "", "sale_price": ""})
    assert values(kept, role) == [None, "from $5", "free"]


@pytest.mark.parametrize(
    ("name", "currency"),
    [("Price incl. VAT (EUR)", "EUR"), ("Preis in EUR", "EUR"),
     ("Price (EUR)", "EUR"), ("price_usd", "USD"), ("Pris [kr]", "kr"), ("Sale Price (GBP)", "GBP"),
     ("PREIS €", "EUR")],
)  # fmt: skip
def test_a_currency_in_a_columns_name_is_that_of_its_prices(tmp_path, name, currency):
    catalog = shop(tmp_path, (name, ["5.50", "on request", "6 CHF"]))
    name = str(catalog.roles.price)
    assert values(catalog, name) == [5.5, None, 6.0]
    assert values(catalog, "currency") == [currency, None, "CHF"]


def test_the_price_without_a_unit_comes_first(tmp_path):
    catalog = shop(tmp_path, ("price_usd", ["6"]), ("Price", ["5"]), ("sale_price", ["4"]))
    assert (catalog.roles.price, catalog.roles.sale_price) == ("Price", "sale_price")
    catalog = shop(tmp_path, ("sale_price", ["4"]), ("Retail price", ["5"]))
    assert (catalog.roles.price, catalog.roles.sale_price) == ("Retail price", "sale_price")


@pytest.mark.parametrize(
    "name", ["price all", "Price All", "price (top)", "Weight (kg)", "EUR", "price_old"]
)
def test_no_other_word_of_a_columns_name_is_a_currency(tmp_path, name):
    assert "currency" not in shop(tmp_path, (name, ["5.50", "6"])).columns


@given(
    st.sampled_from(
        ["{}", "<b>{}</b>", '<span class="amount"><bdi>{}</bdi></span>', "<p>{}<br></p>"]
    ),
    st.sampled_from(["€{}", "&euro;{}", "&#8364; {}", "{}&nbsp;&euro;", "<i>€</i>{}"]),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
)
@settings(max_examples=40)
def test_prices_in_html_are_the_same_prices(tmp_path_factory, html, currency, amounts):
    folder = tmp_path_factory.getbasetemp()
    cells = [html.format(currency.format(f"{amount},50")) for amount in amounts]
    catalog = shop(folder, ("price", cells), ("was", [f"<s>{n}</s>" for n in amounts]))
    assert values(catalog, "price") == [amount + 0.5 for amount in amounts]
    assert values(catalog, "currency") == ["EUR"] * len(amounts)
    assert values(catalog, "was") == amounts


def test_each_row_keeps_its_currency(tmp_path):
    catalog = shop(tmp_path, ("price", ["5 EUR", "$6", "£7", "8", "on request"]))
    assert catalog.roles.currency == "currency"
    assert values(catalog, "currency") == ["EUR", "USD", "GBP", None, None]
    assert any(
        "prices are in 3 currencies (1 in EUR, 1 in GBP, 1 in USD)" in note
        for note in catalog.notes
    )


def test_a_column_of_currencies_comes_before_what_prices_say(tmp_path):
    catalog = shop(tmp_path, ("price", ["5 €", "6 €", "7"]), ("Currency", ["CHF", "", ""]))
    assert catalog.roles.currency == "Currency"
    assert values(catalog, "Currency") == ["CHF", "EUR", None]


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("preis", ["1.299", "2.450"], "number"),
        ("Prix TTC", ["12,50 €", "9,00 €"], "number"),
        ("what", ["$5", "$6.50", "$7"], "number"),
        ("price_range", ["10-20", "20-30"], "string"),
        ("price_type", ["fixed", "dynamic"], "string"),
        ("sale", ["yes", "no"], "boolean"),
        ("Cost per item", ["9,50", "10"], "number"),
        ("price.amount", ["9.50", "1,299.00"], "number"),
        ("Preis brutto", ["1.299"], "number"),
        ("precious", ["1.299"], "number"),
        ("sale", ["summer", "winter"], "string"),
        ("note", ["$5 off", "$6"], "string"),
        ("price", ["20", "30"], "integer"),
        ("gtin", ["4006381333931", "4006381333948"], "string"),
    ],
)
def test_a_column_of_prices_is_known_by_name_or_currency(tmp_path, name, cells, kind):
    assert shop(tmp_path, (name, cells)).columns[name] == kind


@pytest.mark.parametrize(
    ("column", "cells", "roles"),
    [("currency", ["", ""], None), ("currency", ["1", "2"], None), ("currency", ["x", "y"], "")],
)
def test_a_column_named_currency_is_never_spoilt(tmp_path, column, cells, roles):
    options = {} if roles is None else {"columns": {"currency": roles}}
    catalog = shop(tmp_path, ("price", ["5 EUR", "6 EUR"]), (column, cells), **options)
    found = {name: values(catalog, name) for name in catalog.columns}
    assert found["price"] == [5, 6]
    assert found["currency"] in (["EUR", "EUR"], [1, 2], ["x", "y"])


def test_typed_tables_keep_prices_as_text_or_decimals(tmp_path):
    rows = [{"id": i, "title": "x", "price": p} for i, p in enumerate(["19.99", 5, "1,299.00", -1])]
    lines = tmp_path / "shop.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert values(Catalog.open(lines), "price") == [19.99, 5.0, 1299.0, None]
    table = pa.table(
        {
            "id": ["a", "b"],
            "title": ["x", "y"],
            "price": pa.array([Decimal("19.99"), None], pa.decimal128(10, 2)),
        }
    )
    pq.write_table(table, tmp_path / "shop.parquet")
    catalog = Catalog.open(tmp_path / "shop.parquet")
    assert catalog.columns["price"] == "number"
    assert values(catalog, "price") == [19.99, None]
