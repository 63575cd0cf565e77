"""The filter language: what it takes and refuses, and that three engines mean the same by it."""

import json
import string
import subprocess
import sys
import time

import lance
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fashionclip.errors import FilterError
from fashionclip.product import Roles
from fashionclip.store.filters import fit_filter, mask, parse_filter, to_datafusion, to_postgres
from fashionclip.store.rows import ARROW_TYPES, fit

COLUMNS = {
    "price": "number",
    "was": "number",
    "year": "integer",
    "gender": "string",
    "Base Colour": "string",
    'the "best`': "string",
    "materials": "string",
    "in_stock": "boolean",
    "sale": "boolean",
}
ROLES = Roles(title="Base Colour", brand="gender", price="was")

# accepted filters


@pytest.mark.parametrize(
    ("where", "canonical"),
    [
        ("price < 50", '"price" < 50.0'),
        ("50.5 >= PRICE", '"price" <= 50.5'),
        ("price != -3 -- a remark", '"price" <> -3.0'),
        ("price between .5 and 1e3", '("price" >= 0.5 AND "price" <= 1000.0)'),
        ("price not between 1 and 2", '("price" < 1.0 OR "price" > 2.0)'),
        ("`Base Colour` == 'it''s'", "\"Base Colour\" = 'it''s'"),
        ('"the ""best`" = \'x\'', '"the ""best`" = \'x\''),
        ("gender in ('Women', 'Men')", "\"gender\" IN ('Women', 'Men')"),
        ("gender not like '%men'", "\"gender\" NOT LIKE '%men'"),
        ("not (gender ilike 'W%')", "\"gender\" NOT ILIKE 'W%'"),
        ("gender like 'a!%!!%' escape '!'", "\"gender\" LIKE 'a\\%!%'"),
        ("gender is not null", '"gender" IS NOT NULL'),
        ("in_stock", '"in_stock" = TRUE'),
        ("in_stock is not true", '"in_stock" IS NOT TRUE'),
        ("not in_stock and not not sale", '("in_stock" = FALSE AND "sale" = TRUE)'),
        ("not (price < 5 or sale)", '("price" >= 5.0 AND "sale" = FALSE)'),
        (
            "(sale and (sale and sale)) or in_stock",
            '(("sale" = TRUE AND "sale" = TRUE AND "sale" = TRUE) OR "in_stock" = TRUE)',
        ),
        ("year > 2010.5", '"year" >= 2011'),
        ("not year > 2010.5", '"year" <= 2010'),
        ("year between 2009.5 and 2012.0", '("year" >= 2010 AND "year" <= 2012)'),
        ("price > year", '"price" > "year"'),
        ("id = 'p1' or caption like 'x%'", "(\"id\" = 'p1' OR \"caption\" LIKE 'x%')"),
        ("price = -0.0", '"price" = 0.0'),
        ("price < 99999999999999999999", '"price" < 1e+20'),
        ("gender >= date '2024-02-29'", "\"gender\" >= '2024-02-29'"),
        ("contains(materials, 'wool')", "contains(\"materials\", 'wool')"),
        ("not contains(materials, 38)", 'NOT contains("materials", 38)'),
        ("brand = 'x' and Title is null", "(\"gender\" = 'x' AND \"Base Colour\" IS NULL)"),
    ],
)  # fmt: skip
def test_a_filter_has_one_canonical_form(where, canonical):
    parsed = parse_filter(where, COLUMNS, ROLES)
    assert (parsed.sql, parsed.text) == (canonical, where)
    again = parse_filter(canonical, COLUMNS, ROLES)
    assert again == parsed
    assert hash(again) == hash(parsed)


def test_a_refused_filter_tells_the_roles_of_columns_and_which_are_blank():
    roles = Roles(price="preis", brand="Marke", title="title")
    with pytest.raises(FilterError, match=r"; columns: preis \(price\), title$") as refused:
        parse_filter("brand = 'Norda'", {"preis": "number", "title": "string"}, roles)
    assert "no column 'brand'; the brand is 'Marke', a column without any value" in str(
        refused.value
    )


def test_the_catalogues_own_names_come_before_reserved_names_and_roles():
    assert parse_filter("id < 5", {"id": "integer"}).columns == {"id": "integer"}
    assert parse_filter("price < 5", COLUMNS, ROLES).columns == {"price": "number"}
    assert parse_filter("ID = 'x'", COLUMNS, Roles(id="year")).columns == {"id": "string"}
    roles = Roles(colour="Farbe")
    for text in ("color = 'rot'", "COLOUR = 'rot'"):
        assert parse_filter(text, {"Farbe": "string"}, roles).columns == {"Farbe": "string"}
    own = {"Farbe": "string", "Color": "integer"}
    assert parse_filter("color = 1", own, roles).columns == {"Color": "integer"}


def test_a_bare_name_that_two_columns_answer_to_must_be_exact():
    columns = {"Price": "number", "price": "number"}
    both = parse_filter("price < 5 and Price < 6", columns)
    assert both.sql == '("price" < 5.0 AND "Price" < 6.0)'
    with pytest.raises(FilterError, match="there is no column 'PRICE'; did you mean"):
        parse_filter("PRICE < 5", columns)


def test_a_filter_is_parsed_again_where_a_column_holds_something_else_now():
    where = parse_filter("size = 38", {"size": "integer"})
    assert fit_filter(where, {"size": "integer", "new": "string"}) is where
    assert fit_filter(where, {"size": "number"}).sql == '"size" = 38.0'
    with pytest.raises(FilterError, match=r"size holds text; text stands in single quotes: '38'"):
        fit_filter(where, {"size": "string"})
    with pytest.raises(FilterError, match="there is no column 'size'"):
        fit_filter(where, {"price": "number"})


# refused filters


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("", "cannot be used: it is empty"),
        ("-- nothing", "cannot be used: it is empty"),
        ("price < 20 garbage", "at character 12, 'garbage': this is not understood"),
        ("price < 20\nand gender ~ 'x'", "at character 23, \"~ 'x'\": this is not understood"),
        ("price < 50; drop table products", "at character 11, '; drop table products': it holds a"),
        ("1 = 1", "a value stands where a column's name should"),
        ("true", "a value stands where a column's name should"),
        ("price < 50 or exists (select 1)", "is not taken here"),
        ("price in (select price from products)", "IN is not taken here"),
        ("price in ()", "IN takes a list"),
        ("price < sleep(9)", "at character 9, 'sleep(9)': a function is not taken"),
        ("lower(gender) = 'men'", "a function is not taken here; ilike ignores letter case"),
        ("price + 1 < 5", "ADD is not taken here"),
        ("cast(price as int) = 5", "a function stands where a column's name should"),
        ("price::int = 5", "a function stands where a column's name should"),
        ("case when sale then sale end", "a function is not taken"),
        ("prise < 50", "'prise < 50': there is no column 'prise'; did you mean price?"),
        ('"PRICE" < 50', "there is no column 'PRICE'"),
        ("_vector is null", "there is no column '_vector'"),
        ("products.price < 50", "a name with a dot in it stands in double quotes"),
        ("price = NULL", "write IS NULL"),
        ("price is true", "IS goes with NULL"),
        ("price < 'cheap'", "price holds numbers; write for example price < 49.90"),
        ("price < ' 49,90'", "price holds numbers; a number stands without quotes: 49.90"),
        ("year = '2010'", "year holds whole numbers; a number stands without quotes: 2010"),
        ("year = '2010.5'", "year holds whole numbers; write for example year >= 2"),
        ("`Base Colour` = 5", "Base Colour holds text; text stands in single quotes: '5'"),
        ("gender in ('Men', true)", "gender holds text; text stands in single quotes: 'true'"),
        ("in_stock = 'yes'", "in_stock holds TRUE or FALSE; write for example in_stock = TRUE"),
        ("currency = 'EUR'", "no column 'currency'; no column of this catalogue is its currency"),
        ("year = 2010.5", "year holds whole numbers"),
        ("year < 9223372036854775808", "too large"),
        ("price < 1e999", "too large"),
        ("gender = Women", "no column 'Women'; a value stands in single quotes: 'Women'"),
        ("gender = \"it's\"", "no column \"it's\"; a value stands in single quotes: 'it''s'"),
        ("gender > price", "gender (text) and price (numbers) cannot be compared"),
        ("sale > false", "compare it with = or <>"),
        ("sale in (1)", "sale holds TRUE or FALSE"),
        ("price like '5%'", "LIKE compares text with '…'; price holds numbers"),
        ("gender like 'a%' escape 'xy'", "ESCAPE takes one character"),
        ("gender like any ('a', 'b')", "ANY"),
        ("contains(price, 'a')", "contains looks for one element of a list"),
        ("contains(materials)", "cannot be used"),
        ("price between symmetric 5 and 1", "BETWEEN is not taken here"),
        ("price", "price alone is no condition; compare it: price < 49.90"),
        ("gender = 'x", "at character 10, \"'x\": the ' does not end"),
        ("gender = 'a' 'b'", "a function is not taken"),
        ("gender > date 'yesterday'", "a date is written as in date '2024-12-31'"),
        ("price > date '2024-01-01'", "price holds numbers"),
        ("price < 5 order by price", "'order by price': this is not understood"),
        ("price < ?", "PLACEHOLDER"),
        ("gender = '\ud800'", "surrogate"),
        ("(" * 900 + "sale" + ")" * 900, "too deep"),
        ("not " * 400 + "sale", "too deep"),
        ("sale or (sale and (" * 20 + "sale" + "))" * 20, "too deep"),
        ("sale and " * 3000, "longer than 20,000 characters"),
        (f"gender like '{'%x' * 600}'", "the pattern is longer than 1,000 characters"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_whole_with_the_place_and_the_mend(where, why):
    with pytest.raises(FilterError) as refused:
        parse_filter(where, COLUMNS)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert '; columns: price, was, year, gender, "Base Colour", ' in str(refused.value)


def test_filters_cost_no_import_before_the_first_one():
    code = "import sys, fashionclip.store.filters; sys.exit('sqlglot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


VOCABULARY = (
    'price year gender "Base Colour" `in_stock` sale cost id and or not in like ilike between is '
    "null true false 'Men' 'it''s' 5 -1.5 1e3 ( ) , = <> < >= ; -- /* */ select case when then end "
    "exists cast as escape any all + - * / . :: { } [ ] ? : $1 @x # ! ~ || -> distinct from "
    "interval date current_date x'00' E'\\n' N'a' 0x1F ' \" ` \\ \n \x00 % 😀 contains materials "
    "contains(materials,'a') title"
)
WORDS = st.sampled_from(VOCABULARY.split(" "))
TEXTS = st.one_of(
    st.lists(WORDS, max_size=40).map(" ".join),
    st.lists(WORDS, max_size=25).map("".join),
    st.text(max_size=200),
    st.text(alphabet=string.printable, max_size=100),
)

# three engines

STRINGS = (
    None, "", "Men", "men", "MÄNNER", "männer", "it's", "a;b", "100%", "100", "a_b", "axb", "%",
    "back\\slash", "x\ny", "синий", "СИНИЙ", "😀", "x' or 'x' = 'x", "2024-01-31", "\\%",
)  # fmt: skip
LISTS = (
    None, "", "wool", '["wool"]', '["wool", "silk"]', '["a,b", "wo\\"ol"]', "[38, 40.5]",
         '["woolen"]', '[["wool"]]', '{"wool": 1}', '["38"]', '["w\\u00f6ol"]', '["wöol"]', "[]",
         ' [ "silk" ,\n"wool" ] ', '["a/b"]', '["a\\/b"]', '["back\\\\slash"]', '["😀", null]',
)  # fmt: skip
FLOATS = (None, -1.5, 0.0, -0.0, 5.0, 49.99, 2010.0, 2.0**53, 1e300, float("nan"), float("inf"))
INTEGERS = (None, 0, -3, 2010, 2011, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))
BOOLEANS = (None, True, False)
POOLS = {"string": STRINGS, "integer": INTEGERS, "number": FLOATS, "boolean": BOOLEANS}


def rows():
    """Products with every value, and many pairs of values."""
    generator = np.random.default_rng(7)
    pools = {
        name: LISTS if name == "materials" else POOLS[kind]
        for name, kind in {**COLUMNS, "caption": "string"}.items()
    }
    kinds = {**COLUMNS, "caption": "string"}
    found = []
    for i in range(160):
        row = {
            name: pool[i if i < len(pool) else int(generator.integers(len(pool)))]
            for name, pool in pools.items()
        }
        found.append(
            {name: fit(value, kinds[name]) for name, value in row.items()} | {"id": f"p{i}"}
        )
    return found


ROWS = rows()
KINDS = {**COLUMNS, "id": "string", "caption": "string"}
STORED = {name: f"c{i}" for i, name in enumerate(KINDS)}
TABLE = pa.table(
    {
        STORED[name]: pa.array([row[name] for row in ROWS], ARROW_TYPES[kind])
        for name, kind in KINDS.items()
    }
)


@pytest.fixture(scope="module")
def lance_table(tmp_path_factory):
    return lance.write_dataset(TABLE, tmp_path_factory.mktemp("filters") / "rows.lance")


@pytest.fixture(scope="module")
def postgres(postgres_uri):
    types = {
        "string": 'text COLLATE "C"',
        "integer": "bigint",
        "number": "float8",
        "boolean": "bool",
    }
    columns = ", ".join(f"{STORED[name]} {types[kind]}" for name, kind in KINDS.items())
    with psycopg.connect(postgres_uri, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE filtered ({columns})")
        with connection.cursor().copy("COPY filtered FROM STDIN") as copy:
            for row in ROWS:
                copy.write_row([row[name] for name in KINDS])
        yield connection
        connection.execute("DROP TABLE filtered")


class Engines:
    """The same rows in Lance, in PostgreSQL and, as ``TABLE``, in Arrow."""

    def __init__(self, lance_table, postgres):
        """Keep the stores."""
        self.lance, self.postgres = lance_table, postgres

    def passing(self, where):
        """The ids that pass a filter, by engine."""
        passed = mask(where, lambda name: TABLE.column(STORED[name]))
        sql, parameters = to_postgres(where, lambda name: STORED[name], collation='"pg_c_utf8"')
        found = self.postgres.execute(
            f"SELECT {STORED['id']} FROM filtered WHERE {sql}", parameters
        )
        condition = to_datafusion(where, lambda name: STORED[name])
        found_by_lance = self.lance.to_table(filter=condition)
        return {
            "arrow": {row["id"] for row, passes in zip(ROWS, passed, strict=True) if passes},
            "datafusion": set(found_by_lance.column(STORED["id"]).to_pylist()),
            "postgres": {name for (name,) in found},
        }


@pytest.fixture(scope="module")
def engines(lance_table, postgres):
    return Engines(lance_table, postgres)


def column_of(kind):
    return st.sampled_from([name for name in KINDS if KINDS[name] == kind])


def some(pool):
    """Values that a filter can name."""
    left_out = (None, "nan", "inf", str(-(2**63)))
    return st.sampled_from([v for v in pool if v is not None and str(v) not in left_out])


SIGNS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
TEXT = some(STRINGS)
PATTERNS = st.one_of(
    TEXT,
    st.lists(
        st.sampled_from([*"%_amMäÄn0\\иИ'\n😀", "\\%", "\\_"]),
        max_size=5,
    ).map("".join),
)
LEAVES = st.one_of(
    st.tuples(st.just("compare"), column_of("string"), SIGNS, TEXT),
    st.tuples(st.just("compare"), column_of("number"), SIGNS, some(FLOATS)),
    st.tuples(st.just("compare"), column_of("integer"), SIGNS, some(INTEGERS)),
    st.tuples(
        st.just("compare"),
        column_of("integer"),
        st.sampled_from(["<", ">=", ">"]),
        st.just(2010.5),
    ),
    st.tuples(st.just("columns"), st.sampled_from(["price", "was", "year"]), SIGNS,
              st.sampled_from(["price", "was", "year"])),
    st.tuples(st.just("in"), st.just("gender"), st.lists(TEXT, min_size=1, max_size=3)),
    st.tuples(st.just("in"), st.just("year"), st.lists(some(INTEGERS), min_size=1, max_size=3)),
    st.tuples(st.just("in"), st.just("price"), st.lists(some(FLOATS), min_size=1, max_size=3)),
    st.tuples(st.just("between"), st.just("year"), st.tuples(some(INTEGERS), some(INTEGERS))),
    st.tuples(st.just("between"), st.just("gender"), st.tuples(TEXT, TEXT)),
    st.tuples(st.sampled_from(["like", "ilike"]), column_of("string"), PATTERNS),
    st.tuples(st.just("is"), st.sampled_from([*COLUMNS]), st.just(None)),
    st.tuples(st.just("is"), column_of("boolean"), st.sampled_from([None, True, False])),
    st.tuples(st.just("alone"), column_of("boolean")),
    st.tuples(st.just("contains"), st.just("materials"), st.sampled_from(
        ["wool", 'wo"ol', "a,b", "wöol", "a/b", "back\\slash", "😀", "38", 38, 5])),
)  # fmt: skip
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
    ),
    max_leaves=8,
)


def sql(condition):
    """A condition in the filter language."""
    kind, *parts = condition
    if kind == "not":
        return f"not ({sql(parts[0])})"
    if kind in {"and", "or"}:
        return f"({sql(parts[0])}) {kind} ({sql(parts[1])})"
    name = '"' + parts[0].replace('"', '""') + '"'
    if kind == "alone":
        return name
    if kind == "compare":
        return f"{name} {parts[1]} {literal(parts[2])}"
    if kind == "columns":
        return f"{name} {parts[1]} {parts[2]}"
    if kind == "in":
        return f"{name} in ({', '.join(map(literal, parts[1]))})"
    if kind == "between":
        return f"{name} between {literal(parts[1][0])} and {literal(parts[1][1])}"
    if kind == "contains":
        return f"contains({name}, {literal(parts[1])})"
    if kind == "is":
        return f"{name} is {'null' if parts[1] is None else parts[1]}"
    return f"{name} {kind} {literal(parts[1])}"


def literal(value):
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
}


def truth(condition, row):
    """The reference: SQL's three truth values, as True, False and None."""
    kind, *parts = condition
    if kind == "not":
        inner = truth(parts[0], row)
        return None if inner is None else not inner
    if kind in {"and", "or"}:
        sides = {truth(part, row) for part in parts}
        decides = kind == "or"
        return decides if decides in sides else None if None in sides else not decides
    value = row[parts[0]]
    if kind == "is":
        return value is parts[1]
    if kind == "columns":
        other = row[parts[2]]
        if value is None or other is None:
            return None
        if KINDS[parts[0]] != KINDS[parts[2]]:
            value, other = float(value), float(other)
        return COMPARE[parts[1]](value, other)
    return None if value is None else known_truth(kind, parts[1:], value)


def known_truth(kind, parts, value):
    if kind == "compare":
        return COMPARE[parts[0]](value, parts[1])
    if kind == "in":
        return value in parts[0]
    if kind == "between":
        return parts[0][0] <= value <= parts[0][1]
    if kind == "contains":
        try:
            elements = json.loads(value)
        except ValueError:
            return False
        is_list = isinstance(elements, list)
        return is_list and any(type(e) is type(parts[0]) and e == parts[0] for e in elements)
    return value if kind == "alone" else matches(parts[0], value, ignores_case=kind == "ilike")


def matches(pattern, text, *, ignores_case):
    """LIKE, letter by letter."""
    if ignores_case:
        pattern, text = pattern.lower(), text.lower()
    if not pattern:
        return not text
    if pattern[0] == "%":
        rest = pattern[1:]
        return any(matches(rest, text[i:], ignores_case=False) for i in range(len(text) + 1))
    if pattern[0] == "\\" and len(pattern) > 1:
        pattern = pattern[1:]
    elif pattern[0] == "_":
        return bool(text) and matches(pattern[1:], text[1:], ignores_case=False)
    return text[:1] == pattern[0] and matches(pattern[1:], text[1:], ignores_case=False)


@settings(max_examples=300)
@given(CONDITIONS)
@example(("not", ("and", ("in", "gender", ["Men"]), ("in", "gender", ["100"]))))
@example(("or", ("compare", "gender", "<>", "Men"), ("compare", "gender", "<>", "100")))
@example(("not", ("contains", "materials", "wool")))
@example(("not", ("is", "sale", True)))
@example(("compare", "year", "=", 2**53 + 1))
@example(("like", "gender", "back\\\\slash"))
@example(("ilike", "gender", "%Ä_n%"))
def test_three_engines_pass_exactly_what_sql_passes(engines, condition):
    expected = {row["id"] for row in ROWS if truth(condition, row)}
    where = parse_filter(sql(condition), COLUMNS)
    assert engines.passing(where) == dict.fromkeys(("arrow", "datafusion", "postgres"), expected)
    assert parse_filter(where.sql, COLUMNS) == where


@settings(max_examples=250)
@given(TEXTS)
@example("gender = '''; drop table products; --'")
@example("gender = 'x\\' or 1=1 --'")
@example('`price` < 5 and "gender" = \'`"\'')
@example("gender = 'a%sb' and gender like '%(x)s'")
def test_any_text_is_a_filter_that_every_engine_takes_or_an_error(engines, text):
    try:
        where = parse_filter(text, COLUMNS, ROLES)
    except FilterError:
        return
    passed = engines.passing(where)
    assert passed["arrow"] == passed["datafusion"] == passed["postgres"]
    assert parse_filter(where.sql, COLUMNS, ROLES) == where


@pytest.mark.parametrize(
    "where",
    [" and ".join(["in_stock"] * 1000), "not (" * 30 + "sale" + ")" * 30,
     f"id in ({', '.join(map(repr, map(str, range(2000))))})"],
)  # fmt: skip
def test_as_many_conditions_as_fit_are_answered_at_once(engines, where):
    started = time.monotonic()
    assert len(set(map(len, engines.passing(parse_filter(where, COLUMNS)).values()))) == 1
    assert time.monotonic() - started < 5
