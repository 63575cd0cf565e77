"""What a filter that no product passes may have meant, said where a user sees it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionclip.errors import StoreError
from fashionclip.product import Product, Roles
from fashionclip.searching import Query, search_many
from fashionclip.store import StoreMeta, create_store
from fashionclip.store.filter_hints import filter_hint
from fashionclip.store.filters import parse_filter

COUNTER = itertools.count()
STORED = {
    "baseColour": ["Blue", "Navy Blue", "Red", *(f"Shade {i}" for i in range(20))],
    "gender": ["Women", "Men", "Unisex"],
    "brand": ["Levi's", "Hôtel Été", "Nike", *(f"Brand {i}" for i in range(20))],
    "Size": ['["S","M"]', '["M","XL"]', *(f'["{i}"]' for i in range(30, 60))],
    "code": ["A1234", *(f"B{i}" for i in range(20))],
    "none": [],
}
KINDS = {**dict.fromkeys(STORED, "string"), "price": "number"}


def hint(where):
    return filter_hint(parse_filter(where, KINDS, Roles(colour="baseColour")), STORED.__getitem__)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("baseColour = 'blue'", "no product has baseColour = 'blue'; did you mean 'Blue'?"),
        ("colour = 'NAVY-BLUE '", "no product has baseColour = 'NAVY-BLUE '; did you mean 'Navy B"),
        ("baseColour = 'Bleu' and price < 5", "no product has baseColour = 'Bleu'; did you mean"),
        ("brand = 'levis'", "no product has brand = 'levis'; did you mean"),
        ("brand in ('hotel ete', 'Nike')", "no product has brand = 'hotel ete'; did you mean 'Hô"),
        ("gender = 'Female'", "gender has the values 'Men', 'Unisex', 'Women'"),
        (
            "gender = 'women' and baseColour = 'red'",
            "no product has gender = 'women'; did you mean 'Women'?; no product has baseColour = ",
        ),
        ("Size = 'M'", "Size holds lists: write contains(Size, 'M')"),
        ("Size = 'xl'", "no product has contains(Size, 'xl'); did you mean 'XL'?"),
        ("contains(Size, 'm')", "no product has contains(Size, 'm'); did you mean 'M'?"),
        ("contains(gender, 'Men')", "gender holds no lists: write gender = 'Men'"),
        ("brand like 'nik%'", "LIKE tells capital letters from small ones: write brand ILIKE 'nik"),
        ("code = 'a1234'", "no product has code = 'a1234'; did you mean 'A1234'?"),
        ("code = 'A1235'", ""),
        ("baseColour = 'Blue' and price < 0", ""),
        ("baseColour <> 'blue' and price < 0", ""),
        ("none = 'x'", ""),
        ("brand = 'Something Else'", ""),
        ("id = 'p1'", ""),
    ],
)
def test_a_filter_that_passes_nothing_is_told_what_is_stored_instead(where, expected):
    found = hint(where)
    assert found.startswith(expected) or (bool(expected) and expected in found)
    assert bool(found) == bool(expected)


@given(st.lists(st.text(max_size=30), max_size=12), st.text(max_size=200))
def test_a_hint_is_one_line_whatever_is_stored_and_asked(values, asked):
    for form in ("brand = {}", "brand in ({}, 'x')", "contains(brand, {})", "brand like {}"):
        where = parse_filter(form.format("'" + asked.replace("'", "''") + "'"), KINDS)
        found = filter_hint(where, lambda _: list(dict.fromkeys(values)))
        assert len(found.splitlines()) <= 1
        assert len(found) < 1_500


def test_a_suggested_filter_can_be_written_as_it_stands():
    columns = {"Base Colour": "string"}
    where = parse_filter("\"Base Colour\" like 'BLUE%'", columns)
    found = filter_hint(where, lambda _: ["blue"])
    assert parse_filter(found.partition("write ")[2], columns)


@pytest.fixture(params=["memory", "lance", "postgres"])
def store(request, tmp_path):
    uri = {
        "memory": lambda: f"memory://hints-{next(COUNTER)}",
        "lance": lambda: str(tmp_path / "shop.lance"),
        "postgres": lambda: (
            f"{request.getfixturevalue('postgres_uri')}&store=hints-{next(COUNTER)}"
        ),
    }[request.param]()
    made = create_store(uri, StoreMeta(uri="", model="tiny", fingerprint="f" * 16, dim=4))
    colours = ["Blue", "Red", "Blue", None, "Red", "Blue", "Green"]
    items = [
        Product(f"p{i}", "a shirt", None, i, {"baseColour": colour, "price": i, "tags": '["a"]'})
        for i, colour in enumerate(colours)
    ]
    with made.writer() as writer:
        writer.upsert(
            items, np.eye(4, dtype=np.float32)[[i % 4 for i in range(7)]], [bytes(16)] * 7
        )
    yield made
    made.close()


def test_the_values_of_a_column_come_by_frequency(store):
    assert store.values("baseColour", k=10) == ["Blue", "Red", "Green"]
    assert store.values("baseColour", k=1) == ["Blue"]
    assert store.values("price", k=2) == [0, 1]
    with pytest.raises(StoreError, match="has no column 'basecolour'; did you mean 'baseColour'"):
        store.values("basecolour", k=1)


def test_a_search_that_finds_nothing_for_its_filter_has_a_hint(store):
    blue = "no product has baseColour = 'blue'; did you mean 'Blue'?"
    queries = [
        Query(where="baseColour = 'blue'"),
        Query(similar_to="p0", where="baseColour = 'blue'"),
        Query(text="shirt", mode="words", where="baseColour = 'blue'"),
        Query(text="trousers", mode="words", where="baseColour = 'Blue'"),
        Query(where="baseColour = 'Blue'"),
        Query(where="baseColour = 'Blue'", offset=5),
        Query(where="tags = 'a'"),
    ]
    hints = [results.hint for results in search_many(store, None, queries)]
    assert hints == [blue, blue, blue, "", "", "", "tags holds lists: write contains(tags, 'a')"]
