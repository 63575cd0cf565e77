"""What a column holds is decided by all of its cells, and said; HTML in cells is text."""

import html
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.catalog import Catalog
from fashionclip.catalog.html_text import plain_text


def shop(folder: Path, name: str, cells: list[str], **options) -> Catalog:
    rows = "".join(f"{i}\ttee {i}\t{cell}\n" for i, cell in enumerate(cells))
    path = folder / "shop.tsv"
    path.write_text(f"id\ttitle\t{name}\n{rows}", encoding="utf-8")
    return Catalog.open(path, **options)


def values(catalog: Catalog, name: str) -> list:
    return [product.columns.get(name) for product in catalog]


def said(catalog: Catalog, words: str) -> bool:
    return any(words in note for note in catalog.notes)


# numbers, booleans, codes


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["0,35", "1,2", "3"], [0.35, 1.2, 3.0]),
        (["1.234,5", "0,5", "-2,25"], [1234.5, 0.5, -2.25]),
        (["1,234.5", "2", "n/a"], [1234.5, 2.0, None]),
    ],
)
def test_numbers_with_a_decimal_comma_are_numbers_if_all_fit(tmp_path, cells, expected):
    catalog = shop(tmp_path, "weight", cells)
    assert catalog.columns["weight"] == "number"
    assert values(catalog, "weight") == expected
    assert said(catalog, "column 'weight' holds numbers with a decimal ")


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("weight", ["0,35", "1.5", "2"]),  # two signs: one of them may be something else
        ("views", ["1,234", "5,678"]),  # thousands or thousandths
        ("weight", ["0,35", "heavy"]),
        ("size", ["38,40", "39,41"]),
        ("brand", ["On", "Off"]),
        ("brand", ["True", "True"]),
        ("phone", ["49301234567", "49307654321"]),
        ("EAN", ["4006381333931", "4006381333948"]),
        ("ref", ["007", "12"]),
        ("ref", ["1E5", "2E3"]),
        ("ref", ["555 123 456", "555 123 457"]),
    ],
)
def test_what_may_be_something_else_stays_as_it_is(tmp_path, name, cells):
    catalog = shop(tmp_path, name, cells)
    assert catalog.columns[name] == "string"
    assert values(catalog, name) == cells


@pytest.mark.parametrize("pair", ["yes no", "Ja Nein", "OUI NON", "sí no", "y n", "on off"])
def test_a_pair_of_words_is_true_and_false(tmp_path, pair):
    yes, no = pair.split()
    assert values(shop(tmp_path, "gift", [yes, no, "", "-"]), "gift") == [True, False, None, None]
    for cells in ([yes, no, "maybe"], [yes, yes], [yes, "off" if no != "off" else "no"]):
        assert values(shop(tmp_path, "gift", cells), "gift") == cells


def test_words_among_numbers_are_said_with_the_first_row(tmp_path):
    cells = [*map(str, range(50)), "sold out", *map(str, range(50)), "soon"]
    catalog = shop(tmp_path, "stock", cells)
    assert catalog.columns["stock"] == "string"
    assert catalog.types["stock"].because == (51, "sold out")
    assert said(catalog, "is text, because of 2 of 102 values: row 51 has 'sold out'")
    assert not shop(tmp_path, "colour", ["red", "blue", "3"]).notes


def test_a_word_in_the_last_of_many_rows_counts(tmp_path):
    cells = [*map(str, range(3_000)), "x"]
    assert shop(tmp_path, "stock", cells).types["stock"].because == (3_001, "x")


def test_a_column_that_fills_late_keeps_its_values(tmp_path):
    for name, cell in (("ean", "0400638133393"), ("stock", "7"), ("note", "soft"), ("tags", "a,b")):
        found = values(shop(tmp_path, name, [""] * 600 + [cell]), name)
        assert [str(value) for value in found if value is not None] == [
            '["a", "b"]' if name == "tags" else cell
        ]


# dates


@given(
    st.lists(st.dates(date(1990, 1, 1), date(2100, 1, 1)), min_size=1, max_size=6),
    st.sampled_from(["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y-%m-%d"]),
)
@settings(max_examples=80)
def test_dates_become_iso_where_the_column_leaves_no_doubt(tmp_path_factory, dates, form):
    cells = [one.strftime(form) for one in dates]
    catalog = shop(tmp_path_factory.getbasetemp(), "added", cells)
    iso = [one.isoformat() for one in dates]
    other = {"%d/%m/%Y": "%m/%d/%Y", "%m/%d/%Y": "%d/%m/%Y", "%d-%m-%Y": "%m-%d-%Y"}.get(form)
    has_doubt = other and all(one.day <= 12 for one in dates) and dates_differ(dates)
    assert values(catalog, "added") == (cells if has_doubt else iso)
    assert bool(has_doubt) == said(catalog, "may have day or month first")


def dates_differ(dates: list[date]) -> bool:
    return any(one.day != one.month for one in dates)


def test_a_locale_says_whether_the_day_comes_first(tmp_path):
    cells = ["05/06/2026", "07/08/2026 14:30"]
    for locale, first in (("en_GB", "2026-06-05"), ("en_US", "2026-05-06"), ("de", "2026-06-05")):
        assert values(shop(tmp_path, "added", cells, locale=locale), "added")[0] == first
    found = values(shop(tmp_path, "added", ["31.12.2026 9:05", "1.2.2026"]), "added")
    assert found == ["2026-12-31T09:05", "2026-02-01"]
    assert datetime.fromisoformat(found[0]) == datetime(2026, 12, 31, 9, 5)


@pytest.mark.parametrize("cells", [["31.12.2026", "soon"], ["31.02.2026"], ["1.2.3"], ["12/2026"]])
def test_what_is_no_date_leaves_the_column_as_it_is(tmp_path, cells):
    assert values(shop(tmp_path, "added", cells), "added") == cells


# lists


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["red, blue", "green"], ['["red", "blue"]', '["green"]']),
        (["S|M|L", "M"], ['["S", "M", "L"]', '["M"]']),
        (["a; b,c", "d"], ['["a", "b,c"]', '["d"]']),
        (["['a', 'b']", "c, d"], ['["a", "b"]', '["c", "d"]']),
        (['["a"]', "b,"], ['["a"]', '["b"]']),
        (["summer", "winter"], ["summer", "winter"]),
    ],
)
def test_lists_of_words_are_json_in_columns_of_such_names(tmp_path, cells, expected):
    assert values(shop(tmp_path, "Tags", cells), "Tags") == expected
    assert values(shop(tmp_path, "names", cells), "names") == cells


# HTML


@given(st.text(st.characters(exclude_categories=["C"], exclude_characters="<&"), max_size=60))
def test_text_without_html_is_left_alone(text):
    assert plain_text(text) == text


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30))
def test_escaped_text_comes_back(text):
    escaped = html.escape(text)
    if "&" not in text and "</" not in text and "<br" not in text.lower():
        assert plain_text(escaped) == text
        assert plain_text(html.escape(escaped)) == text


@given(
    st.text("<>/&;!-=\"' abpxliscrt#39\n", max_size=60),
)
@settings(max_examples=300)
def test_any_text_ends_as_text_soon(text):
    assert isinstance(plain_text(text * 20), str)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", "a < b"),
        ("I <3 it, <M> or <L>", "I <3 it, <M> or <L>"),
        ("a<b and c>d", "a<b and c>d"),
        ("AT&T, R&D; &foo; &notit;", "AT&T, R&D; &foo; &notit;"),
        ("Women&#8217;s T&eacute;e &amp; more, 90&deg;", "Women’s Tée & more, 90°"),  # noqa: RUF001
        ("<p>Soft <b>linen</b>.</p><ul><li>one</li><li>two</li></ul>", "Soft linen.\none\ntwo"),
        ('<a href="x>y" class=z>link</a><br />next<!-- no -->', "link\nnext"),
        ("<style>p{}</style>a<script>if (a<b) x()</script>b", "ab"),
        ("&lt;p&gt;Red&lt;/p&gt;", "Red"),
        ("It&amp;#8217;s", "It’s"),  # noqa: RUF001
        ("<p>Use &lt;b&gt; here</p>", "Use <b> here"),
        ("one\n  two<br>three", "one two\nthree"),
        ("a&nbsp;b", "a b"),
        ("\ufeffzero\u200bwidth\x00\x1f", "zerowidth"),
        ("half \ud800", "half \ufffd"),
        ("<![CDATA[Red <b>tee</b>]]>", "Red tee"),
        ("<bdi>Red</bdi>", "Red"),
    ],
)
def test_html_is_text(text, expected):
    assert plain_text(text) == expected


def test_lists_stay_lists_without_their_html(tmp_path):
    cells = ['["5&quot; heel", "<b>soft</b>"]', '{"a": ["&amp;"], "b": 1}', "[not <b>JSON</b>]"]
    path = tmp_path / "shop.csv"
    rows = "".join(f"{i}|x|{cell}\n" for i, cell in enumerate(cells))
    path.write_text(f"id|title|more\n{rows}", encoding="utf-8")
    assert values(Catalog.open(path), "more") == [
        '["5\\" heel", "soft"]', '{"a": ["&"], "b": 1}', "[not JSON]"
    ]  # fmt: skip
    lines = tmp_path / "shop.jsonl"
    lines.write_text('{"id": 1, "title": "x", "more": ["5&quot; heel"]}\n', encoding="utf-8")
    assert values(Catalog.open(lines), "more") == ['["5\\" heel"]']


def test_captions_and_columns_are_without_html_and_ids_are_not_touched(tmp_path):
    path = tmp_path / "shop.tsv"
    path.write_text(
        "id\ttitle\tbody\thighlights\timage\n"
        "a&amp;b\tWomen&#8217;s <b>tee</b>\t<p>Soft</p>\t<ul><li>V-neck</li><li>90&deg;C</li></ul>"
        "\tx&amp;y.jpg\n",
        encoding="utf-8",
    )
    (product,) = Catalog.open(path)
    assert product.product_id == "a&amp;b"
    assert product.caption == "Women’s tee, V-neck, 90°C"  # noqa: RUF001
    assert product.columns["body"] == "Soft"
