"""Filters that come over HTTP: read, held against a whitelist, written anew."""

import itertools
import string
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fashionclip.errors import FilterError
from fashionclip.index import Index, snapshot
from fashionclip.product import Product
from fashionclip.serve.filters import parse_filter
from fashionclip.serve.masks import passing

COLUMNS = {
    "price": "number",
    "year": "integer",
    "gender": "string",
    "Base Colour": "string",
    'the "best`': "string",
    "in_stock": "boolean",
    "sale": "boolean",
}
ROWS = [
    dict(zip(COLUMNS, values, strict=True))
    for values in itertools.product(
        (None, -1.5, 0.0, 49.99),
        (None, 2010, 2012),
        (None, "Women", "Men"),
        ("it's",),
        ("a;b", "100%"),
        (None, True, False),
        (True,),
    )
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index of products with every combination of values, missing ones among them."""
    store = tmp_path_factory.mktemp("filters") / "shop.lance"
    index = Index.create(store, model="m", fingerprint="0" * 16, dim=16, columns=COLUMNS)
    vectors = np.zeros((len(ROWS), 16), dtype=np.float32)
    vectors[:, 0] = 1
    products = [Product(f"p{i}", "", None, i, row) for i, row in enumerate(ROWS)]
    index.upsert(products, vectors, [bytes(16)] * len(ROWS))
    return index


@pytest.fixture(scope="module")
def held(index):
    """The same products in memory."""
    return snapshot.read(index.queries)


def found(index, where):
    direction = np.zeros(16, dtype=np.float32)
    direction[0] = 1
    return {hit.product_id for hit in index.nearest(direction, k=len(ROWS), where=where)}


@pytest.mark.parametrize(
    ("where", "written"),
    [
        ("price < 50", '"price" < 50'),
        ("50.5 >= PRICE", '"price" <= 50.5'),
        ("price != -3 -- a remark", '"price" <> -3'),
        ("price between .5 and 1e3", '"price" BETWEEN 0.5 AND 1000.0'),
        ("`Base Colour` == 'it''s'", "\"Base Colour\" = 'it''s'"),
        ('"the ""best`" = \'x\'', '"the ""best`" = \'x\''),
        ("gender in ('Women', 'Men')", "\"gender\" IN ('Women', 'Men')"),
        ("gender not like '%men'", "\"gender\" NOT LIKE '%men'"),
        ("not (gender ilike 'W%')", "\"gender\" NOT ILIKE 'W%'"),
        ("gender is not null", '"gender" IS NOT NULL'),
        ("in_stock", '"in_stock" = TRUE'),
        ("not in_stock and not not sale", '("in_stock" = FALSE AND "sale" = TRUE)'),
        ("not (price < 5 or sale)", '("price" >= 5 AND "sale" = FALSE)'),
        (
            "(sale and (sale and sale)) or in_stock",
            '(("sale" = TRUE AND "sale" = TRUE AND "sale" = TRUE) OR "in_stock" = TRUE)',
        ),
        ("year > 2010.5", '"year" >= 2011'),
        ("not year > 2010.5", '"year" <= 2010'),
        ("year between 2009.5 and 2012.0", '"year" BETWEEN 2010 AND 2012'),
        ("price > year", '"price" > "year"'),
        ("id = 'p1' or caption like 'x%'", "(\"id\" = 'p1' OR \"caption\" LIKE 'x%')"),
        ("price = -0.0", '"price" = 0'),
        ("price < 99999999999999999999", '"price" < 1e+20'),
    ],
)
def test_a_filter_is_written_anew(index, where, written):
    assert parse_filter(where, COLUMNS) == written
    found(index, written)


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("", "it is empty"),
        ("-- nothing", "it is empty"),
        ("price < 50; drop table products", "semicolon"),
        ("1 = 1", "stands where a column's name should"),
        ("true", "stands where a column's name should"),
        ("price < 50 or exists (select 1)", "is not taken here"),
        ("price in (select price from products)", "IN is not taken here"),
        ("price in ()", "IN wants a list"),
        ("price < sleep(9)", "a function is not taken"),
        ("lower(gender) = 'men'", "a function is not taken"),
        ("price + 1 < 5", "ADD"),
        ("cast(price as int) = 5", "a function is not taken"),
        ("price::int = 5", "a function is not taken"),
        ("case when sale then sale end", "a function is not taken"),
        ("cost < 50", 'it names "cost", which is no column; columns: price, year'),
        ('"PRICE" < 50', 'it names "PRICE", which is no column'),
        ("_vector is null", 'it names "_vector"'),
        ("products.price < 50", "a name with a dot in it stands in double quotes"),
        ("price = NULL", "write IS NULL"),
        ("sale is true", "IS goes with NULL"),
        ("price < '50'", '"price" holds numbers'),
        ("year = 2010.5", '"year" holds whole numbers'),
        ("year < 9223372036854775808", "too large"),
        ("price < 1e999", "too large"),
        ("gender = Women", 'it names "Women", which is no column'),
        ("gender < 5", '"gender" holds words'),
        ("gender > price", "cannot be compared"),
        ("sale > false", "compare it with = or <>"),
        ("sale in (1)", "TRUE or FALSE"),
        ("price like '5%'", "LIKE compares a column of words"),
        ("gender like 'a!%' escape '!'", "ESCAPE"),
        ("gender like any ('a', 'b')", "ANY"),
        ("price between symmetric 5 and 1", "BETWEEN is not taken here"),
        ("price", '"price" alone says nothing'),
        ("gender = 'x", "no condition that can be read"),
        ("gender = 'a' 'b'", "a function is not taken"),
        ("price < 5 order by price", "no condition that can be read"),
        ("price < ?", "PLACEHOLDER"),
        ("gender = '\ud800'", "surrogate"),
        ("(" * 900 + "sale" + ")" * 900, "too deep"),
        ("not " * 400 + "sale", "too deep"),
        ("sale or (sale and (" * 20 + "sale" + "))" * 20, "too deep"),
        ("sale and " * 300, "longer than 2,000 characters"),
    ],
)
def test_everything_else_is_refused_with_the_reason(where, why):
    with pytest.raises(FilterError) as refused:
        parse_filter(where, COLUMNS)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_bare_name_that_two_columns_answer_to_must_be_quoted():
    columns = {"Price": "number", "price": "number"}
    assert parse_filter("price < 5 and Price < 6", columns) == '("price" < 5 AND "Price" < 6)'
    with pytest.raises(FilterError, match='it names "PRICE"'):
        parse_filter("PRICE < 5", columns)


def test_a_column_called_id_is_the_catalogues_own():
    assert parse_filter("id < 5", {"id": "integer"}) == '"id" < 5'


def test_as_many_conditions_as_fit_are_taken_and_answered_at_once(index):
    for where in (" AND ".join(["in_stock"] * 150), "not (" * 30 + "sale" + ")" * 30):
        began = time.monotonic()
        found(index, parse_filter(where, COLUMNS))
        assert time.monotonic() - began < 5


# properties

VOCABULARY = (
    'price year gender "Base Colour" `in_stock` sale cost id and or not in like ilike between is '
    "null true false 'Men' 'it''s' 5 -1.5 1e3 ( ) , = <> < >= ; -- /* */ select case when then end "
    "exists cast as escape any all + - * / . :: { } [ ] ? : $1 @x # ! ~ || -> distinct from "
    "interval date current_date x'00' E'\\n' N'a' 0x1F ' \" ` \\ \n \x00 % 😀"
)
WORDS = st.sampled_from(VOCABULARY.split(" "))
TEXTS = st.one_of(
    st.lists(WORDS, max_size=40).map(" ".join),
    st.lists(WORDS, max_size=25).map("".join),
    st.text(max_size=200),
    st.text(alphabet=string.printable, max_size=100),
)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("gender = '''; drop table products; --'")
@example("gender = 'x\\' or 1=1 --'")
@example('`price` < 5 and "gender" = \'`"\'')
def test_any_text_becomes_sql_that_the_index_takes_or_a_filter_error(index, text):
    try:
        written = parse_filter(text, COLUMNS)
    except FilterError:
        return
    found(index, written)
    assert parse_filter(written, COLUMNS) == written


NUMBERS = st.sampled_from([-1.5, 0.0, 5.0, 49.99, 2010.0, 2011.5])
STRINGS = st.sampled_from(["Men", "Women", "it's", "a;b", "100%", "", "x' or 'x' = 'x", "--", "`"])
LEAVES = st.one_of(
    st.tuples(st.sampled_from(["price", "year"]), st.sampled_from(["<", "<=", ">", ">="]), NUMBERS),
    st.tuples(st.just("price"), st.sampled_from(["=", "<>"]), NUMBERS),
    st.tuples(st.sampled_from(["gender", "Base Colour"]), st.sampled_from(["=", "<>"]), STRINGS),
    st.tuples(st.sampled_from(["price", "gender", "in_stock"]), st.just("is null"), st.just(None)),
    st.tuples(st.just("gender"), st.just("in"), st.lists(STRINGS, min_size=1, max_size=3)),
    st.tuples(st.just("in_stock"), st.just("yes"), st.just(None)),
    st.tuples(st.just("year"), st.just("between"), st.tuples(NUMBERS, NUMBERS)),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=8,
)


def sql(condition):
    if condition[0] == "not":
        return f"NOT ({sql(condition[1])})"
    if condition[0] in {"and", "or"}:
        return f"({sql(condition[1])}) {condition[0]} ({sql(condition[2])})"
    column, sign, value = condition
    name = f'"{column}"'
    if sign == "is null":
        return f"{name} is null"
    if sign == "yes":
        return name
    if sign == "in":
        return f"{name} in ({', '.join(map(literal, value))})"
    if sign == "between":
        return f"{name} between {literal(value[0])} and {literal(value[1])}"
    return f"{name} {sign} {literal(value)}"


def literal(value):
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "in": lambda a, b: a in b,
    "between": lambda a, b: b[0] <= a <= b[1],
    "yes": lambda a, b: a,
}


def truth(condition, row):
    """SQL's three truth values: True, False, or None where it cannot be known."""
    if condition[0] == "not":
        inner = truth(condition[1], row)
        return None if inner is None else not inner
    if condition[0] in {"and", "or"}:
        sides = {truth(condition[1], row), truth(condition[2], row)}
        decides = condition[0] == "or"
        return decides if decides in sides else None if None in sides else not decides
    column, sign, value = condition
    if sign == "is null":
        return row[column] is None
    return None if row[column] is None else COMPARE[sign](row[column], value)


def listed_columns(condition):
    """The columns whose values are listed, once for each list or equality."""
    if condition[0] in {"not", "and", "or"}:
        return [column for inner in condition[1:] for column in listed_columns(inner)]
    column, sign, _ = condition
    return [column] if sign in {"in", "=", "<>"} else []


@settings(max_examples=120, deadline=None)
@given(CONDITIONS)
@example(("not", ("and", ("gender", "in", ["Men"]), ("gender", "in", ["Women"]))))
def test_what_is_written_finds_what_was_asked_for(index, held, condition):
    expected = {f"p{i}" for i, row in enumerate(ROWS) if truth(condition, row)}
    written = parse_filter(sql(condition), COLUMNS)
    passed = held.table.column("_id").filter(pa.array(passing(written, held))).to_pylist()
    assert set(passed) == expected
    listed = listed_columns(condition)
    # DataFusion takes two lists without a common value for false even where the value is NULL
    assume(len(set(listed)) == len(listed))
    assert found(index, written) == expected


@pytest.mark.parametrize(
    "where",
    ["gender like 'W_m%'", "gender not like 'w%'", "gender ilike '%MEN'", "id like 'p1_'",
     "gender not ilike 'wo%' or gender is null", "price = year", "price not in (-1.5, 0)",
     "price in (1, 49.99)", "not (year between 2010 and 2011)", "year > -5", "sale <> true",
     '"the ""best`" = \'100%\' and not in_stock', "\"the \"\"best`\" like '100\\%'",
     "gender < 'N'", "id in ('p1', 'p7', 'none')", "caption = ''", "gender is not null"],
)  # fmt: skip
def test_a_filter_in_memory_passes_what_the_store_lets_pass(index, held, where):
    written = parse_filter(where, COLUMNS)
    passed = held.table.column("_id").filter(pa.array(passing(written, held))).to_pylist()
    assert set(passed) == found(index, written)
