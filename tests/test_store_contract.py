"""Every store keeps the contract: what goes in is found, filtered, changed and counted alike.

The memory store is the reference. A store is added to ``STORES`` with a function that makes an
empty one; ``durable`` stores are also opened by other processes.
"""

import itertools
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashionclip.errors import (
    FilterError,
    ImageFetchError,
    ModelMismatchError,
    StoreError,
    StoreLockedError,
)
from fashionclip.product import Product, Roles
from fashionclip.store import (
    Sort,
    Store,
    StoreMeta,
    create_store,
    holds_store,
    open_store,
    read_meta,
    require_model,
    row_digest,
    upgrade_store,
)
from fashionclip.store.filters import parse_filter
from fashionclip.store.memory import MemoryStore
from fashionclip.store.rows import as_kept

DIM = 8
COLOURS = ("Blue", "Red", "Green")
COUNTER = itertools.count()

STORES = ["memory", "lance", "s3", "postgres"]
FORMS = {"s3": "half"}
"""Stores that are tested with another form of vectors than the usual one."""
DURABLE = ["lance", "postgres"]
"""Stores that other processes can open."""


@pytest.fixture
def uri_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes an address, for a kind of store, at which there is no store yet."""

    def new(kind: str) -> str:
        if kind == "memory":
            return f"memory://test-{next(COUNTER)}"
        if kind == "postgres":
            return f"{request.getfixturevalue('postgres_uri')}&store=shop-{next(COUNTER)}"
        if kind == "s3":
            return f"{request.getfixturevalue('s3_bucket')}/shop-{next(COUNTER)}"
        return str(tmp_path / f"shop-{next(COUNTER)}.lance")

    return new


def meta_of(**fields: object) -> StoreMeta:
    return StoreMeta(uri="", model="tiny", fingerprint="f" * 16, dim=DIM, **fields)


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def uri(kind: str, uri_of: Callable[[str], str]) -> str:
    return uri_of(kind)


@pytest.fixture
def store(kind: str, uri: str) -> Iterator[Store]:
    made = create_store(uri, meta_of(vectors=FORMS.get(kind, "float")))
    yield made
    made.close()


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest, uri_of: Callable[[str], str]) -> Iterator[Store]:
    made = create_store(uri_of(request.param), meta_of())
    yield made
    made.close()


def unit_vectors(n: int, *, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def products(n: int, *, start: int = 0, **columns: object) -> list[Product]:
    return [
        Product(
            product_id=f"p{i}",
            caption=f"{COLOURS[i % 3].lower()} dress number {i}",
            image=f"photos/{i}.jpg",
            row=i + 1,
            columns={"price": i, "baseColour": COLOURS[i % 3], **columns},
        )
        for i in range(start, start + n)
    ]


def keys(n: int) -> list[bytes]:
    return [i.to_bytes(16, "little") for i in range(1, n + 1)]


def upsert(store: Store, items: list[Product], vectors: np.ndarray | None = None) -> None:
    with store.writer() as writer:
        given_vectors = unit_vectors(len(items)) if vectors is None else vectors
        writer.upsert(items, given_vectors, keys(len(items)))


def delete(store: Store, *product_ids: str) -> int:
    with store.writer() as writer:
        return writer.delete(product_ids)


def where(store: Store, text: str):
    return parse_filter(text, store.meta.columns, store.meta.roles)


def ids(hits) -> list[str]:
    return [hit.product_id for hit in hits]


def all_ids(store: Store) -> list[str]:
    return sorted(name for rows in store.scan(vectors=False, columns=False) for name in rows.ids)


def columns_of(store: Store, product_id: str) -> dict:
    (row,) = store.fetch([product_id], vectors=False).columns.to_pylist()
    return row


# opening


def test_a_store_is_there_once_it_is_made(uri):
    assert not holds_store(uri)
    with pytest.raises(StoreError, match="there is no index at"):
        open_store(uri)
    made = create_store(uri, meta_of(roles=Roles(id="sku"), columns={"sku": "string"}))
    assert holds_store(uri)
    assert len(made) == 0
    for meta in (made.meta, open_store(uri).meta, upgrade_store(uri).meta):
        assert (meta.uri, meta.model, meta.fingerprint, meta.dim) == (uri, "tiny", "f" * 16, DIM)
        assert (meta.roles, dict(meta.columns)) == (Roles(id="sku"), {"sku": "string"})
        assert meta.created
    assert read_meta(uri).model == "tiny"
    assert uri.rstrip("?&") in repr(made)
    with pytest.raises(StoreError, match=r"there is an index at .* already"):
        create_store(uri, meta_of())
    made.close()


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_form_of_vectors_is_refused_before_anything_is_made(uri):
    with pytest.raises(ValueError, match="'quarter'; a store keeps them as float, half, int8, bin"):
        create_store(uri, meta_of(vectors="quarter"))
    assert not holds_store(uri)


def test_an_unknown_scheme_is_refused_with_those_there_are(tmp_path):
    for nothing in ("", "  "):
        with pytest.raises(StoreError, match="no store is named: give a folder, or an address"):
            open_store(nothing)
    with pytest.raises(StoreError, match=r"mysql:// names no store.*postgresql://"):
        open_store("mysql://shop")


def test_another_model_is_refused_by_name(store):
    require_model(store, model="renamed", fingerprint="f" * 16)
    message = r"vectors of the model 'tiny' \(ffffffff\), not of 'other' \(eeeeeeee\): use that"
    with pytest.raises(ModelMismatchError, match=message):
        require_model(store, model="other", fingerprint="e" * 16)


# searching


def test_nearest_equals_the_full_sort(store):
    upsert(store, products(200))
    vectors, queries = unit_vectors(200), unit_vectors(3, seed=1)
    for query, hits in zip(queries, store.nearest(queries * 3.5, k=7), strict=True):
        cosines = as_kept(vectors, store.meta.vectors) @ query
        best = np.argsort(-cosines)[:7]
        assert ids(hits) == [f"p{i}" for i in best]
        assert [hit.score for hit in hits] == pytest.approx(cosines[best], abs=1e-5)
        assert hits[0].columns == {"price": best[0], "baseColour": COLOURS[best[0] % 3]}


def test_each_query_may_have_a_filter_of_its_own_and_still_gets_k_hits(store):
    upsert(store, products(200))
    vectors, queries = unit_vectors(200), unit_vectors(3, seed=2)
    cheap_blue = where(store, "price < 12 and baseColour = 'Blue'")
    found = store.nearest(queries, k=4, where=[cheap_blue, None, where(store, "price < 3")])
    expected = sorted([0, 3, 6, 9], key=lambda i: -float(vectors[i] @ queries[0]))
    assert ids(found[0]) == [f"p{i}" for i in expected]
    assert ids(found[1]) == ids(store.nearest(queries[1:2], k=4)[0])
    assert sorted(ids(found[2])) == ["p0", "p1", "p2"]
    one_for_all = store.nearest(queries, k=4, where=cheap_blue)
    assert ids(one_for_all[0]) == ids(found[0])


def test_equal_scores_come_in_the_order_of_their_ids(store):
    same = np.repeat(unit_vectors(1), 60, axis=0)
    upsert(store, products(60), same)
    expected = sorted(f"p{i}" for i in range(60))[:5]
    assert ids(store.nearest(same[:1], k=5)[0]) == expected


def test_a_score_is_a_cosine_between_minus_one_and_one(store):
    upsert(store, products(5))
    vector = unit_vectors(5)[3:4]
    assert store.nearest(vector, k=1)[0][0].score == pytest.approx(1, abs=1e-5)
    scores = [hit.score for hit in store.nearest(-vector, k=5)[0]]
    assert min(scores) == pytest.approx(-1, abs=1e-5)
    assert all(-1 <= score <= 1 for score in scores)


def test_asking_for_more_than_there_is_gives_all(store):
    assert store.nearest(unit_vectors(2), k=3) == [[], []]
    assert store.text_search("dress", k=3) == []
    upsert(store, products(3))
    assert [len(hits) for hits in store.nearest(unit_vectors(1), k=10)] == [3]
    assert [len(hits) for hits in store.nearest(unit_vectors(1), k=10**9)] == [3]
    assert store.nearest(np.empty((0, DIM), np.float32), k=3) == []


def test_queries_that_make_no_sense_are_refused(store):
    upsert(store, products(3))
    for call in (lambda: store.nearest(unit_vectors(1), k=0), lambda: store.text_search("x", k=-1)):
        with pytest.raises(ValueError, match="ask for at least 1 hit"):
            call()
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="zero or not finite"):
            store.nearest(np.full((1, DIM), bad, np.float32), k=1)
    message = rf"holds vectors of {DIM} numbers, made by 'tiny'; these have 4: use that model"
    with pytest.raises(ModelMismatchError, match=message):
        store.nearest(np.ones((1, 4), np.float32), k=1)


def test_captions_are_found_by_their_words(store):
    upsert(store, products(30))
    assert ids(store.text_search("dresses number 7", k=1)) == ["p7"]
    reds = store.text_search("RED", k=20)
    assert {hit.columns["baseColour"] for hit in reds} == {"Red"}
    assert len(reds) == 10
    assert [hit.score for hit in reds] == sorted((hit.score for hit in reds), reverse=True)
    cheap = store.text_search("red", k=10, where=where(store, "price < 5"))
    assert sorted(ids(cheap)) == ["p1", "p4"]
    for text in ("trousers", "", '"unclosed AND (', "' ; --"):
        assert store.text_search(text, k=5) == [], text


SHOP_ROLES = Roles(
    id="id", sku="ref", barcode="ean", brand="brand", title="name", category="type", colour="hue"
)
SHOP = {
    "20351": {"brand": "Nike", "name": "Striped T-Shirt", "ref": "NK-20-X", "ean": 4006381333931},
    "20352": {"brand": "Nike", "name": "Running Shoes", "ref": "NK-21-X", "ean": 12345678905},
    "p3": {"brand": "Levi's", "name": "Café Racer Jacket", "hue": "red", "type": "Jackets"},
    "p4": {"brand": "Adidas", "name": "Schöne weiße Straßenkleider", "hue": "white"},
    "p5": {"brand": "Шляпа", "name": "Красное платье", "hue": None},
    "p6": {"brand": "無印良品", "name": "红色连衣裙", "type": '["Women > Dresses", "Party"]'},
    "p7": {"brand": "Acme", "name": "red hooded sandals for women", "type": "Sandals"},
    "p8": {"brand": "Acme", "name": "plain jacket AND or NOT", "hue": "blue"},
}
FOUND_BY = [
    ("nike", "20351 20352"), ("NIKE striped tshirts", "20351 20352"), ("20351", "20351"),
    ("nk-20-x", "20351"), ("NK20X", "20351"), ("4006381333931", "20351"),
    ("0012345678905", "20352"), ("20359", ""), ("nk-99-x 4006381333932", "20351 20352"),
    ("levis", "p3"), ("Levi\u2019s", "p3"), ("cafe jackets", "p3 p8"), ("jaket", "p3 p8"),
    ("schone", "p4"), ("STRASSENKLEIDER", "p4"), ("addidas", "p4"), ("nkie", "20351 20352"),
    ("ПЛАТЬЕ", "p5"), ("шляпы", "p5"), ("连衣裙", "p6"), ("裙", "p6"), ("无", ""), ("良品", "p6"),
    ("dress party", "p6"), ("sandles", "p7"), ("hood", "p7"), ("zzzzqqqq", ""),
    ('"red" AND (hue:blue) OR NOT *', "p3 p7 p8"), ("?!… — ''", ""), ("\ud800 \0", ""),
]  # fmt: skip


def upsert_shop(store: Store) -> None:
    rows = enumerate(SHOP.items(), start=1)
    items = [Product(name, str(row["name"]), None, i, row) for i, (name, row) in rows]
    with store.writer() as writer:
        writer.set_roles(SHOP_ROLES)
        writer.upsert(items, unit_vectors(len(items)), keys(len(items)))


def test_words_of_every_kind_find_their_products(store):
    upsert_shop(store)
    for _ in range(2):
        for text, expected in FOUND_BY:
            assert sorted(ids(store.text_search(text, k=99))) == expected.split(), text
        with store.writer() as writer:
            writer.optimize()
    long = "red nike sandals and many other words of a long text " * 40
    assert {"20351", "20352", "p3", "p7"} <= set(ids(store.text_search(long, k=99)))


def test_products_with_all_words_come_first_and_only_unknown_words_are_corrected(store):
    titles = ["red shirt " + "of a long title " * 9, *["red"] * 3, *["shirts"] * 3, "rad shirt"]
    upsert(store, [Product(f"p{i}", title, None, i, {}) for i, title in enumerate(titles)])
    for text in ("red shirt", "shrit red", "reds shirts zzzzqqqq"):
        hits = store.text_search(text, k=99)
        assert hits[0].product_id == "p0", text
        assert len(hits) == 8, text
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > scores[1] > 0
    assert ids(store.text_search("rad", k=99)) == ["p7"]
    assert ids(store.text_search("red shirt", k=1, columns=())) == ["p0"]


def test_words_follow_every_write(store):
    upsert_shop(store)
    copy = MemoryStore.copy_of(store)

    def found(text: str) -> str:
        copy.refresh_from(store)
        names = sorted(ids(store.text_search(text, k=99)))
        assert sorted(ids(copy.text_search(text, k=99))) == names
        return " ".join(names)

    with store.writer() as writer:
        before = store.revision
        writer.set_roles(Roles(title="name"))
        assert store.revision > before
        assert (found("acme"), found("sandals"), found("nk-20-x")) == ("", "p7", "")
        writer.set_roles(Roles(title="name", brand="brand", sku="ref", barcode="ean"))
        assert (found("acme"), found("nk-20-x"), found("4006381333931")) == (
            "p7 p8",
            "20351",
            "20351",
        )
        writer.set_columns({"ean": "string", "new": "string"})
        assert (found("4006381333931"), found("acme")) == ("20351", "p7 p8")
        upsert(store, [Product("p7", "grey boot", None, 1, {"brand": "Zeta"})])
        assert (found("acme"), found("sandals"), found("boots"), found("zetta")) == (
            "p8", "", "p7", "p7"
        )  # fmt: skip
        writer.delete(["p8", "20352"])
        writer.drop_blank(["new", "hue"])
        assert (found("acme"), found("nike"), found("boots")) == ("", "20351", "p7")
        writer.optimize()
    assert (found("acme"), found("nikee"), found("boot")) == ("", "20351", "p7")
    assert store.verify(repair=True).damaged == ()
    assert (found("acme"), found("nike"), found("striped zeta")) == ("", "20351", "20351 p7")


def test_captions_written_after_optimizing_are_found_at_once(store):
    upsert(store, products(3))
    with store.writer() as writer:
        writer.optimize()
    upsert(store, [Product("late", "purple kimono", None, 4, {})])
    assert ids(store.text_search("kimono", k=10)) == ["late"]


def test_a_page_lists_products_in_the_order_of_their_ids(store):
    upsert(store, products(25))
    expected = sorted(f"p{i}" for i in range(25))
    assert ids(store.list_hits(k=25)) == expected
    assert [ids(store.list_hits(k=10, offset=o)) for o in (0, 10, 20, 30)] == [
        expected[:10], expected[10:20], expected[20:], []
    ]  # fmt: skip
    page = store.list_hits(k=2, offset=1, where=where(store, "price < 3"))
    assert [(hit.product_id, hit.score, hit.columns["price"]) for hit in page] == [
        ("p1", 1.0, 1), ("p2", 1.0, 2)
    ]  # fmt: skip


# sorting


SORTED = {
    "number": st.none() | st.floats(-3, 3, width=16) | st.sampled_from([float("nan"), 1e300]),
    "integer": st.none() | st.integers(-3, 3),
    "string": st.none() | st.text("aBä日'\"", max_size=2),
    "boolean": st.none() | st.booleans(),
}


def plain_sort(rows: dict[str, dict], column: str, *, descending: bool) -> list[str]:
    """The ids of products in an order, as Python sorts them."""
    has_value = [name for name in sorted(rows) if rows[name][column] == rows[name][column]]
    has_value = [name for name in has_value if rows[name][column] is not None]
    values = sorted({rows[name][column] for name in has_value}, reverse=descending)
    found = [name for value in values for name in has_value if rows[name][column] == value]
    return [*found, *(name for name in sorted(rows) if name not in has_value)]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.fixed_dictionaries(SORTED), min_size=1, max_size=12), data=st.data())
def test_pages_of_a_sorted_list_equal_a_plain_sort(kind, uri_of, rows, data):
    store = create_store(uri_of(kind), meta_of(columns={name: name for name in SORTED}))
    named = {f"é{i % 3}-{i}": row for i, row in enumerate(rows)}
    upsert(store, [Product(name, "", None, 1, row) for name, row in named.items()])
    if data.draw(st.booleans()):
        with store.writer() as writer:
            writer.optimize()
    condition = where(store, "boolean or integer is null")
    column, descending = data.draw(st.sampled_from(list(SORTED))), data.draw(st.booleans())
    expected = plain_sort(named, column, descending=descending)
    order = Sort(column, descending=descending)
    assert ids(store.list_hits(k=99, sort=order)) == expected
    found, after = [], None
    while page := store.list_hits(k=5, sort=order, after=after, columns=[column]):
        found += ids(page)
        after = page[-1].columns[column], page[-1].product_id
    assert found == expected
    passing = [one for one in expected if named[one]["boolean"] or named[one]["integer"] is None]
    assert ids(store.list_hits(k=99, sort=order, where=condition)) == passing
    i = data.draw(st.integers(0, len(rows) - 1))
    place = named[expected[i]][column], expected[i]
    rest = [one for one in expected[i + 1 :] if one in passing]
    assert ids(store.list_hits(k=99, sort=order, where=condition, after=place)) == rest
    store.close()


def test_a_list_goes_on_after_a_product_that_is_gone(store):
    upsert(store, products(9))
    order = Sort("price", descending=True)
    page = store.list_hits(k=3, sort=order)
    delete(store, page[-1].product_id, "p4")
    upsert(store, products(1, start=9))
    after = page[-1].columns["price"], page[-1].product_id
    assert ids(store.list_hits(k=3, sort=order, after=after, columns=())) == ["p5", "p3", "p2"]
    assert ids(store.list_hits(k=2, after=(None, "p5"))) == ["p7", "p8"]


def test_a_column_that_is_not_there_is_named_with_the_nearest(store):
    upsert(store, products(3))
    for call in (
        lambda: store.list_hits(k=1, sort=Sort("prize")),
        lambda: store.list_hits(k=1, columns=["prize"]),
        lambda: store.nearest(unit_vectors(1), k=1, columns=["prize"]),
        lambda: store.text_search("dress", k=1, columns=["prize"]),
    ):
        with pytest.raises(StoreError, match=r"has no column 'prize'; did you mean 'price'\?$"):
            call()


# filtering


ODD_ROWS = [
    {"name": "it's; -- not", "size": 1, "sale": True, "day": "2026-01-31", "tags": '["a", "b c"]'},
    {"name": "ÄRMEL 日本", "size": -2, "sale": False, "day": "2026-02-01", "tags": '["ab"]'},
    {"name": 'a"b%_\\', "size": None, "sale": None, "day": None, "tags": None},
    {"name": None, "size": 7, "sale": True, "day": "2025-12-24", "tags": "[]"},
    {"name": "", "size": 0, "sale": False, "day": "2026-02-01", "tags": '["b c"]'},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size > 0", "03"),
        ("not (size > 0)", "14"),
        ("size is null", "2"),
        ("size is not null and sale", "03"),
        ("not sale", "14"),
        ("sale is null or size = 7", "23"),
        ("size in (0, 7)", "34"),
        ("size not in (0, 7)", "01"),
        ("size between -2 and 0", "14"),
        ("name = 'it''s; -- not'", "0"),
        ("name <> ''", "012"),
        ("name like '%ÄRM%'", "1"),
        ("name ilike '%ärmel%'", "1"),
        ("name like 'a\"b\\%\\_%'", "2"),
        ("day >= '2026-01-31' and day < '2026-02-01'", "0"),
        ("contains(tags, 'b c')", "04"),
        ("contains(tags, 'a')", "0"),
        ("not contains(tags, 'a')", "134"),
        ("not (name in ('') and size in (0))", "0123"),
        ("id = 'r3' or caption like '%4'", "34"),
        ("image is null", "01234"),
    ],
)
def test_a_filter_means_the_same_in_every_store(store, text, expected):
    rows = [Product(f"r{i}", f"row {i}", None, i, row) for i, row in enumerate(ODD_ROWS)]
    upsert(store, rows)
    condition = where(store, text)
    assert sorted(ids(store.nearest(unit_vectors(1), k=9, where=condition)[0])) == [
        f"r{i}" for i in expected
    ]
    assert store.count(condition) == len(expected)
    assert ids(store.list_hits(k=9, where=condition)) == [f"r{i}" for i in expected]
    with store.writer() as writer:
        writer.optimize()
    assert store.count(condition) == len(expected)


def test_a_filter_over_a_role_reads_the_shops_own_column(uri):
    store = create_store(uri, meta_of(roles=Roles(price="Variant Price")))
    upsert(store, [Product(f"p{i}", "", None, i, {"Variant Price": i}) for i in range(5)])
    assert store.count(where(store, "price < 2")) == 2
    assert store.count(where(store, '"Variant Price" < 2')) == 2
    store.close()


def test_a_filter_for_columns_that_are_not_there_is_refused(store):
    upsert(store, products(3))
    other = parse_filter("size = 3", {"size": "integer"}, Roles())
    for call in (
        lambda: store.nearest(unit_vectors(1), k=1, where=other),
        lambda: store.text_search("dress", k=1, where=other),
        lambda: store.count(other),
        lambda: store.list_hits(k=1, where=other),
    ):
        with pytest.raises(FilterError, match="size"):
            call()


# writing


def test_a_product_stored_again_replaces_itself(store):
    upsert(store, products(3))
    changed = Product("p1", "yellow hat", "hat.jpg", 1, {"price": 99})
    upsert(store, [changed], unit_vectors(1, seed=9))
    assert len(store) == 3
    rows = store.fetch(["p1"])
    np.testing.assert_allclose(rows.vectors, unit_vectors(1, seed=9), atol=1e-3)
    assert (rows.captions, rows.images) == (["yellow hat"], ["hat.jpg"])
    assert columns_of(store, "p1") == {"price": 99, "baseColour": None}
    assert ids(store.text_search("hat", k=5)) == ["p1"]
    assert "p1" not in ids(store.text_search("dress", k=5))


def test_of_one_id_twice_in_a_batch_the_last_counts(store):
    twice = [Product("x", caption, None, 1, {}) for caption in ("first", "second")]
    upsert(store, twice)
    assert store.fetch(["x"]).captions == ["second"]
    np.testing.assert_allclose(store.fetch(["x"]).vectors[0], unit_vectors(2)[1], atol=1e-3)


def test_deleted_products_are_gone_and_counted(store):
    upsert(store, products(10))
    assert delete(store, "p3", "not there", "it's") == 1
    assert delete(store) == 0
    assert (len(store), "p3" in all_ids(store)) == (9, False)
    assert "p3" not in ids(store.nearest(unit_vectors(1), k=10)[0])


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, 2.0])
def test_only_unit_vectors_are_stored(store, bad):
    vectors = unit_vectors(3)
    vectors[1] *= bad
    with pytest.raises(ValueError, match="vector 1 has length"):
        upsert(store, products(3), vectors)
    assert len(store) == 0


def test_a_batch_that_does_not_fit_together_is_refused_whole(store):
    with store.writer() as writer:
        with pytest.raises(ValueError, match="3 products, 2 vectors, 3 keys"):
            writer.upsert(products(3), unit_vectors(2), keys(3))
        with pytest.raises(ValueError, match="must have 16 bytes"):
            writer.upsert(products(1), unit_vectors(1), [b"short"])
        with pytest.raises(ModelMismatchError, match="these have 4"):
            writer.upsert(products(1), np.array([[1, 0, 0, 0]], np.float32), keys(1))
        writer.upsert([], np.empty((0, DIM), np.float32), [])
    assert len(store) == 0


def test_any_id_and_column_name_comes_back_as_it_went_in(store):
    names = ["Product Name", "a.b", "_id", "_vector", "", "ä", "select", "x`y", 'q"q', "~7e;", "ID",
             "id", "100%", "a\nb", "x" * 80, "it's"]  # fmt: skip
    odd_ids = ["it's", 'a"b', "back\\slash", "new\nline", "ß", "%", "", " ", "x" * 2000, "a;b", "`"]
    columns = {name: f"value of {name}" for name in names}
    upsert(store, [Product(name, "", None, 1, columns) for name in odd_ids])
    assert set(store.meta.columns) == set(names)
    assert all_ids(store) == sorted(odd_ids)
    for name in odd_ids:
        assert columns_of(store, name) == columns
    for name in set(names) - {""}:
        quoted = '"' + name.replace('"', '""') + '"'
        assert store.count(where(store, f"{quoted} like 'value%'")) == len(odd_ids), name
    assert delete(store, *odd_ids) == len(odd_ids)
    assert len(store) == 0


def test_columns_widen_and_lose_nothing(store):
    upsert(store, products(3, size=4, sold=True))
    before = store.meta.columns
    assert before == {
        "price": "integer", "baseColour": "string", "size": "integer", "sold": "boolean"
    }  # fmt: skip
    more = Product("p9", "", None, 9, {"price": 1.5, "size": "XL", "sold": 2, "new": False})
    upsert(store, [more])
    assert store.meta.columns == {
        "price": "number", "baseColour": "string", "size": "string", "sold": "string",
        "new": "boolean",
    }  # fmt: skip
    old = {"price": 2.0, "baseColour": "Green", "size": "4", "sold": "true", "new": None}
    assert columns_of(store, "p2") == old
    new = {"price": 1.5, "baseColour": None, "size": "XL", "sold": "2", "new": False}
    assert columns_of(store, "p9") == new
    assert store.verify().damaged == ()
    assert store.count(where(store, "size = 'XL' or price < 1")) == 2


def test_a_kind_becomes_narrower_only_if_every_stored_value_allows_it(store):
    many = products(3, size=4, sold=True, sale=9.5, code="7", late="x", gone=None)
    upsert(store, many)
    wide = {"price": "string", "size": "string", "sold": "string", "sale": "string"}
    with store.writer() as writer:
        writer.set_columns({**wide, "late": "string", "gone": "string", "whole": "number"})
        before = store.revision
        narrower = {"price": "integer", "size": "number", "sold": "boolean", "sale": "number"}
        writer.set_columns({**narrower, "whole": "integer"})
        assert store.meta.columns["sold"] == "string"
        writer.set_columns(
            {
                **narrower,
                "whole": "integer",
                "code": "integer",
                "late": "number",
                "gone": "boolean",
            },
            narrow=True,
        )
    assert store.revision > before
    assert store.meta.columns == {
        **narrower, "baseColour": "string", "code": "integer", "late": "string",
        "gone": "boolean", "whole": "integer",
    }  # fmt: skip
    assert columns_of(store, "p2") == {
        "price": 2, "baseColour": "Green", "size": 4.0, "sold": True, "sale": 9.5, "code": 7,
        "late": "x", "gone": None, "whole": None,
    }  # fmt: skip
    assert store.count(where(store, "sale < 10 and sold and price <= 1")) == 2
    assert store.verify().damaged == ()
    upsert(store, products(4, sale=1.5))
    assert store.count(where(store, "sale < 2")) == 4


@pytest.mark.parametrize(
    ("value", "kind"),
    [("007", "integer"), ("1e400", "number"), ("yes", "boolean"), ("9" * 19, "integer"),
     (" 1", "number"), ("nan", "number"), ("1\n", "integer"), (0.5, "integer"), (1e300, "integer")],
)  # fmt: skip
def test_a_value_that_would_change_keeps_its_column_wide(store, value, kind):
    upsert(store, [Product("x", "", None, 1, {"what": value})])
    wide = store.meta.columns["what"]
    with store.writer() as writer:
        writer.set_columns({"what": kind}, narrow=True)
    assert store.meta.columns["what"] == wide
    assert columns_of(store, "x") == {"what": value}


def test_columns_without_a_value_are_dropped_and_come_back_as_another_kind(store):
    many = products(3, sale=9.5, stock=None, late="x", **{"_odd": None, "_other": 1})
    upsert(store, many)
    with store.writer() as writer:
        writer.set_columns({"sale": "number", "stock": "integer", "_odd": "string"})
        writer.optimize()
        upsert(store, products(3, stock=None, late="x", **{"_other": 1}))
        before = store.revision
        writer.drop_blank(["sale", "late", "unknown"])
        assert store.revision > before
        writer.drop_blank(["stock", "_odd"])
        before = store.revision
        writer.drop_blank(["sale", "late"])
        assert store.revision == before
    kept = {"price": "integer", "baseColour": "string", "late": "string", "_other": "integer"}
    assert store.meta.columns == kept
    assert columns_of(store, "p2") == {"price": 2, "baseColour": "Green", "late": "x", "_other": 1}
    assert store.verify().damaged == ()
    upsert(store, products(4, sale="reduced", **{"_third": 3}))
    assert store.count(where(store, "sale = 'reduced' and price > 1")) == 2
    found = columns_of(store, "p3")
    assert (found["sale"], found["_third"], found["_other"]) == ("reduced", 3, None)


def test_values_that_no_column_holds_are_made_to_fit(store):
    odd = {"big": 2**70, "nan": float("nan"), "none": None, "half": "\ud800", "true": True}
    odd |= {"nul": "a\0b"}
    upsert(store, [Product("x", "\udfff\0", None, 1, odd)])
    expected = {"big": str(2**70), "nan": None, "half": "?", "true": True, "nul": "a\ufffdb"}
    assert columns_of(store, "x") == expected
    assert store.count(where(store, "nul = 'a\0b'")) == 1
    assert store.verify().damaged == ()


def test_roles_and_columns_are_set_and_change_the_revision(store):
    before = store.revision
    with store.writer() as writer:
        writer.set_columns({"price": "integer"})
        writer.set_roles(Roles(title="name", further_images=("back", "side")))
    assert store.revision > before
    assert store.meta.roles == Roles(title="name", further_images=("back", "side"))
    assert store.meta.columns == {"price": "integer"}
    upsert(store, products(1))
    assert store.meta.roles.title == "name"


# reading


def test_products_are_fetched_by_their_ids(store):
    upsert(store, products(12))
    rows = store.fetch(["p7", "nope", "p2", "p7"])
    order = [rows.ids.index(name) for name in ("p2", "p7")]
    assert sorted(rows.ids) == ["p2", "p7"]
    np.testing.assert_allclose(rows.vectors[order], unit_vectors(12)[[2, 7]], atol=1e-3)
    assert [rows.images[i] for i in order] == ["photos/2.jpg", "photos/7.jpg"]
    assert [rows.captions[i] for i in order] == ["green dress number 2", "red dress number 7"]
    assert [bytes(rows.content_keys[i]) for i in order] == [keys(12)[2], keys(12)[7]]
    assert rows.columns.take(order).to_pylist() == [
        {"price": 2, "baseColour": "Green"}, {"price": 7, "baseColour": "Red"}
    ]  # fmt: skip
    bare = store.fetch(["p7"], vectors=False, columns=False)
    assert (bare.ids, bare.vectors, bare.columns.column_names) == (["p7"], None, [])
    assert len(store.fetch([]).ids) == 0
    many = store.fetch([f"p{i}" for i in range(3000)])
    assert len(many.ids) == 12


def test_a_scan_reads_every_product_once_as_of_one_revision(store):
    upsert(store, products(3000))
    scan = store.scan()
    first = next(scan)
    delete(store, *(f"p{i}" for i in range(3000) if f"p{i}" not in first.ids))
    rest = [name for rows in scan for name in rows.ids]
    assert sorted([*first.ids, *rest]) == sorted(f"p{i}" for i in range(3000))
    assert all_ids(store) == sorted(first.ids)
    assert first.vectors.shape == (len(first.ids), DIM)
    assert first.columns.num_rows == len(first.ids)


def test_ids_that_are_spelled_alike_are_named(store):
    upsert(store, products(20))
    similar = store.similar_ids("p111")
    assert 0 < len(similar) <= 3
    assert similar[0] == "p11"
    assert store.similar_ids("completely different") == []


def test_digests_tell_what_changed(store):
    upsert(store, products(50))
    digests, kinds = store.digests(), store.meta.columns
    assert len(digests) == 50
    for product, key in zip(products(50), keys(50), strict=True):
        assert digests.find(product.product_id) == (key, row_digest(product, kinds))
    assert digests.find("p50") is None
    for i in range(49):
        digests.mark_seen(f"p{i}")
    assert [name for name in all_ids(store) if digests.is_unseen(name)] == ["p49"]
    assert not digests.is_unseen("p50")


def test_changes_since_a_revision_name_the_products(store):
    upsert(store, products(10))
    before = store.revision
    changes = store.changes_since(before)
    assert (changes.revision, changes.upserted, changes.deleted) == (before, set(), set())
    upsert(store, products(2, start=9))  # p9 with another vector, and p10
    delete(store, "p1")
    upsert(store, [products(3)[2]], unit_vectors(1, seed=3))
    changes = store.changes_since(before)
    assert (changes.revision, changes.deleted) == (store.revision, {"p1"})
    assert {"p10", "p2"} <= changes.upserted <= {"p9", "p10", "p2"}
    upsert(store, [products(2)[1]])
    assert store.changes_since(before).deleted == set()
    assert "p1" in store.changes_since(before).upserted
    assert store.changes_since(store.revision + 10**6) is None


def test_a_copy_in_memory_follows_its_source(store):
    upsert(store, products(40))
    copy = MemoryStore.copy_of(store)
    assert copy.refresh_from(store) is False
    assert (len(copy), copy.revision, copy.meta.columns) == (40, store.revision, store.meta.columns)
    upsert(store, products(5, start=38), unit_vectors(5, seed=7))
    delete(store, "p0", "p1")
    assert copy.refresh_from(store) is True
    upsert(store, products(1, start=70, fresh="new column"))
    assert copy.refresh_from(store, changed=["p70"]) is True
    with store.writer() as writer:
        writer.set_roles(Roles(price="price"))
    copy.refresh_from(store)
    assert (copy.meta.roles, copy.revision) == (Roles(price="price"), store.revision)
    assert all_ids(copy) == all_ids(store)
    queries = unit_vectors(4, seed=5)
    assert_same_hits(copy.nearest(queries, k=9), store.nearest(queries, k=9, exact=True))


def assert_same_hits(some, others) -> None:
    for left, right in zip(some, others, strict=True):
        assert [hit.score for hit in left] == pytest.approx([h.score for h in right], abs=2e-3)
        assert [hit.columns for hit in left] == [hit.columns for hit in right]
        assert ids(left) == ids(right)


# images


def test_an_image_is_kept_under_one_location_and_goes_with_its_product(store):
    blobs = store.blobs
    first, other = blobs.put("p/1 ü", b"image one"), blobs.put("p/1 ü", b"image two")
    assert blobs.put("p/1 ü", b"image one") == first != other
    assert first.startswith("blob:")
    assert (blobs.read(first), blobs.read(other)) == (b"image one", b"image two")
    elsewhere = blobs.put("p2", b"image one")
    assert elsewhere != first
    blobs.delete("p/1 ü", except_location=other)
    with pytest.raises(ImageFetchError, match="keeps no such image"):
        blobs.read(first)
    assert blobs.read(other) == b"image two"
    blobs.delete_others(["p2"])
    assert blobs.read(elsewhere) == b"image one"
    for gone in (other, "blob:../../etc/passwd", "blob:x", "photo.jpg"):
        with pytest.raises(ImageFetchError):
            blobs.read(gone)
    blobs.delete("p2", except_location="photos/p2.jpg")
    blobs.delete("never there")
    with pytest.raises(ImageFetchError):
        blobs.read(elsewhere)


# several at once


def test_a_second_writer_is_told_of_the_first_and_gives_up_in_time(store):
    upsert(store, products(3))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.writer():
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    waits: list[str] = []
    with (
        pytest.raises(StoreLockedError, match="is being written to by"),
        store.writer(timeout_s=0.2, on_wait=waits.append),
    ):
        pass
    assert len(waits) == 1
    assert len(store.nearest(unit_vectors(1), k=9)[0]) == 3  # a reader waits for nobody
    done.set()
    thread.join()
    assert delete(store, "p1") == 1


def test_a_writer_may_be_opened_again_within_its_own_block(store):
    with store.writer() as writer, store.writer() as inner:
        writer.upsert(products(2), unit_vectors(2), keys(2))
        inner.optimize()
    assert len(store) == 2


def test_a_reader_sees_whole_writes_while_they_happen(store):
    upsert(store, products(20))
    stop = threading.Event()

    def write() -> None:
        for price in range(12):
            upsert(store, [Product(f"p{i}", "", None, 1, {"price": price}) for i in range(20)])
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not stop.is_set():
        prices = {hit.columns["price"] for hit in store.list_hits(k=20)}
        assert len(prices) == 1 or prices == set(range(20))
    thread.join()


def test_verify_finds_nothing_wrong_with_what_was_written(store):
    upsert(store, products(40))
    report = store.verify()
    assert (report.checked, report.damaged, report.removed) == (40, (), 0)
    report = store.verify(repair=True)
    assert (report.damaged, len(store)) == ((), 40)
    assert ids(store.text_search("number 7", k=1)) == ["p7"]
    info = store.info()
    assert (info.n_products, info.meta.model) == (40, "tiny")
    assert info.size_bytes > 40 * DIM * 2


# other processes


def python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_write_one_after_the_other(durable):
    code = """
        import sys, time
        import numpy as np
        from fashionclip.product import Product
        from fashionclip.store import open_store
        store = open_store(sys.argv[1])
        vector = np.eye(1, 8, dtype=np.float32)
        with store.writer() as writer:
            print("held", flush=True)
            time.sleep(0.5)
            writer.upsert([Product("theirs", "", None, 1, {})], vector, [bytes(16)])
    """
    with python(code, durable.meta.uri) as other:
        assert other.stdout.readline() == "held\n", other.stderr.read()
        upsert(durable, products(1))
        assert sorted(all_ids(durable)) == ["p0", "theirs"]


def test_a_killed_writer_lets_go_and_leaves_whole_batches(durable):
    upsert(durable, products(3))
    code = """
        import sys
        import numpy as np
        from fashionclip.product import Product
        from fashionclip.store import open_store
        store = open_store(sys.argv[1])
        vectors = np.zeros((100, 8), np.float32)
        vectors[:, 0] = 1
        with store.writer() as writer:
            for n in range(10**6):
                batch = [Product(f"b{n}-{i}", "", None, 1, {}) for i in range(100)]
                writer.upsert(batch, vectors, [bytes(16)] * 100)
                print(n, flush=True)
    """
    with python(code, durable.meta.uri) as other:
        for line in other.stdout:
            if int(line) == 3:
                break
        other.send_signal(signal.SIGKILL)
    n_stored = len(durable)
    assert n_stored >= 403
    assert n_stored % 100 == 3
    assert durable.verify().damaged == ()
    assert delete(durable, "p0") == 1  # the lock died with its holder
    reopened = open_store(durable.meta.uri)
    assert len(reopened) == n_stored - 1


# any operations


names = st.lists(st.text("aäB'\"%\\ ", max_size=3), min_size=1, max_size=5, unique=True)
values = st.dictionaries(
    st.sampled_from(["price", "Größe", "on sale", "x"]),
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab'", max_size=3),
    max_size=3,
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), names, values, st.integers(0, 9)),
        st.tuples(st.just("delete"), names),
        st.tuples(st.just("optimize")),
    ),
    max_size=6,
)
FILTERS = (
    "price > 0", "not (price > 0)", "price is null", "\"Größe\" = 'a'", "\"Größe\" <> 'a'",
    '"on sale"', "x is not null", "x in (1, 2)", "price <= 2.5 or x is null", "x like '%a%'",
)  # fmt: skip


def perform(store: Store, operation: tuple) -> None:
    with store.writer() as writer:
        if operation[0] == "upsert":
            _, touched, columns, seed = operation
            items = [Product(name, f"caption {name}", None, 1, columns) for name in touched]
            writer.upsert(items, unit_vectors(len(items), seed=seed), keys(len(items)))
        elif operation[0] == "delete":
            writer.delete(operation[1])
        else:
            writer.optimize()


@pytest.mark.parametrize("kind", ["lance", "postgres"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=operations)
def test_after_any_operations_a_store_equals_the_one_in_memory(uri_of, kind, steps):
    store = create_store(uri_of(kind), meta_of())
    oracle = create_store(uri_of("memory"), meta_of())
    copy = MemoryStore.copy_of(store)
    for step in steps:
        perform(store, step)
        perform(oracle, step)
        copy.refresh_from(store)
    assert store.meta.columns == oracle.meta.columns
    assert all_ids(store) == all_ids(oracle) == all_ids(copy)
    kinds_held = store.meta.columns
    for one in (store, copy):
        assert_same_hits([one.list_hits(k=99)], [oracle.list_hits(k=99)])
        queries = unit_vectors(2, seed=99)
        assert_same_hits(one.nearest(queries, k=50), oracle.nearest(queries, k=50))
        for text in FILTERS:
            try:
                condition = parse_filter(text, kinds_held, Roles())
            except FilterError:
                continue  # a column that this run has not, or of another kind
            assert one.count(condition) == oracle.count(condition), text
            assert ids(one.list_hits(k=99, where=condition)) == ids(
                oracle.list_hits(k=99, where=condition)
            )
    digests = store.digests()
    assert len(digests) == len(oracle)
    assert store.verify().damaged == ()
    store.close()
    oracle.close()
