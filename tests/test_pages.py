"""Pages of hits: sorted, grouped, counted, explained, and stable while products change."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashionclip import Index
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Roles
from fashionclip.searching import Query, search_many
from fashionclip.searching.cursors import Place, read_cursor, write_cursor
from fashionclip.searching.diversity import diverse_order
from fashionclip.store import StoreMeta, create_store
from fashionclip.store.filters import parse_filter

COUNTER = itertools.count()
WORDS = ("red", "blue", "linen", "shirt", "dress", "norda", "velt")
ROLES = Roles(group="parent", title="title", brand="brand", sku="article", price="price")


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def product(i: int, *, version: int = 0) -> Product:
    """A product whose values repeat, and are missing now and then."""
    rng = np.random.default_rng([i, version])
    words = rng.choice(WORDS, 3)
    columns = {
        "title": " ".join(words),
        "brand": str(words[0]) if i % 5 else None,
        "article": f"AB-{i:03}",
        "price": None if i % 7 == 3 else float(rng.integers(0, 5)),
        "parent": None if i % 4 == 0 else f"g{i % 6}",
    }
    return Product(f"p{i:03}", columns["title"], None, i + 1, columns)


def vector_of(i: int, dim: int, *, version: int = 0) -> np.ndarray:
    """Some products have the same picture."""
    vector = np.random.default_rng([i % 17, version, 1]).normal(size=dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def put(store, numbers, *, version: int = 0) -> None:
    numbers = list(numbers)
    if numbers:
        with store.writer() as writer:
            writer.upsert(
                [product(i, version=version) for i in numbers],
                np.stack([vector_of(i, store.meta.dim, version=version) for i in numbers]),
                [i.to_bytes(16, "little") for i in numbers],
            )


def filled(uri: str, model, numbers):
    meta = StoreMeta(uri, model.name, model.fingerprint, model.dim, roles=ROLES)
    store = create_store(uri, meta)
    put(store, numbers)
    return store


@pytest.fixture(scope="module")
def index(model):
    store = filled(f"memory://pages-{next(COUNTER)}", model, range(60))
    yield Index(store, model=model)
    store.close()


def ids(hits) -> list[str]:
    return [hit.product_id for hit in hits]


def one(store, model, **query):
    (results,) = search_many(store, model, [Query(**query)])
    if isinstance(results, Exception):
        raise results
    return results


QUERIES = {
    "list": {},
    "sorted list": {"sort": "-price"},
    "list of groups": {"group": True, "sort": "price"},
    "vectors": {"text": "red shirt", "mode": "vectors"},
    "similar": {"similar_to": "p000"},
    "hybrid": {"text": "red shirt"},
    "words": {"text": "red shirt", "mode": "words"},
    "sorted": {"text": "red shirt", "mode": "vectors", "sort": "price"},
    "grouped": {"text": "red shirt", "group": True},
    "diverse": {"text": "red shirt", "diversity": 0.4},
    "avoiding": {"text": "red shirt", "avoid": "blue"},
}


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("k", [7, 100])
def test_pages_by_cursor_and_by_offset_are_one_long_page(index, model, kind, k):
    query = QUERIES[kind]
    whole = one(index.store, model, **query, k=100)
    assert not whole.has_more
    assert whole.cursor is None
    found, cursor = [], None
    while True:
        page = one(index.store, model, **query, k=k, cursor=cursor)
        by_offset = one(index.store, model, **query, k=k, offset=len(found))
        assert ids(page.hits) == ids(by_offset.hits)
        found += page.hits
        assert page.has_more == (page.cursor is not None) == by_offset.has_more
        cursor = page.cursor
        if cursor is None:
            break
    assert ids(found) == ids(whole.hits)
    assert [hit.columns for hit in found] == [hit.columns for hit in whole.hits]


WRITES = st.lists(
    st.tuples(st.sampled_from(["insert", "delete", "change"]), st.integers(0, 39)), max_size=6
)


@pytest.mark.parametrize("kind", ["memory", pytest.param("lance", marks=pytest.mark.slow)])
@given(
    st.sampled_from(sorted(QUERIES)), st.integers(2, 9), st.lists(WRITES, min_size=1, max_size=4)
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_have_what_stays_once_while_products_come_go_and_change(
    model, tmp_path_factory, kind, name, k, batches
):
    n = next(COUNTER)
    folder = tmp_path_factory.mktemp("pages")
    uri = f"memory://pages-{n}" if kind == "memory" else str(folder / "shop.lance")
    store = filled(uri, model, range(0, 40, 2))
    touched: set[str] = set()
    query = QUERIES[name]
    before = one(store, model, **query, k=100)
    shown: list[str] = []
    cursor, version = None, 0
    for writes in [*batches, *([] for _ in range(100))]:
        page = one(store, model, **query, k=k, cursor=cursor)
        shown += ids(page.hits)
        cursor = page.cursor
        if cursor is None:
            break
        for what, i in writes:
            if f"p{i:03}" == query.get("similar_to"):
                continue
            version += 1
            touched.add(f"p{i:03}")
            if what == "delete":
                with store.writer() as writer:
                    writer.delete([f"p{i:03}"])
            else:
                put(store, [i], version=version if what == "change" else 0)
    stayed = set(ids(before.hits)) - touched
    if "group" in query:  # another variant may stand for a group now
        stayed -= {hit.product_id for hit in before.hits if hit.columns["parent"] is not None}
    assert [name for name in shown if name in stayed and shown.count(name) > 1] == []
    assert stayed - set(shown) == set()
    store.close()


# sorting


@pytest.mark.parametrize("sort", ["price", "-price", "title", "-brand", "PRICE"])
def test_a_list_is_sorted_by_a_column_or_a_role_with_missing_values_last(index, sort):
    hits = index.search(sort=sort, k=100)
    column = sort.removeprefix("-").lower()
    values = [hit.columns[column] for hit in hits]
    filled = [value for value in values if value is not None]
    assert values == [*sorted(filled, reverse=sort[0] == "-"), *[None] * (60 - len(filled))]
    pairs = [(hit.columns[column], hit.product_id) for hit in hits]
    assert all(a[1] < b[1] for a, b in itertools.pairwise(pairs) if a[0] == b[0])


@pytest.fixture
def judged(index):
    """The index with a line that some products are above."""
    scores = [hit.score for hit in index.search("red shirt", mode="vectors", k=60)]
    with index.store.writer() as writer:
        writer.set_relevance_threshold((scores[19] + scores[20]) / 2)
        yield index
        writer.set_relevance_threshold(None)


def test_hits_below_the_threshold_come_after_those_that_fit_and_are_not_counted(judged):
    plain = judged.search("red shirt", mode="vectors", k=60)
    assert plain.results.n_relevant == 20
    page = judged.search("red shirt", mode="vectors", k=15, offset=10, total=True)
    assert [page.results.n_relevant, page.results.total, page.results.is_total_exact] == [
        10, 20, True
    ]  # fmt: skip
    lines = repr(page).splitlines()
    assert [len(lines), lines[10]] == [16, "     weaker matches:"]
    assert repr(page[10:]).startswith("     nothing here fits; the closest products:\n")
    assert "weaker matches:" not in repr(page[:10])
    by_price = judged.search("red shirt", mode="vectors", k=60, sort="price")
    fitting, weaker = by_price[:20], by_price[20:]
    assert sorted(ids(fitting)) == sorted(ids(plain[:20]))
    assert ids(weaker) == ids(plain[20:])
    prices = [hit.columns["price"] for hit in fitting]
    assert prices == sorted(prices, key=lambda price: (price is None, price))


def test_words_that_match_make_a_product_fit_and_images_have_no_line(judged):
    with judged.store.writer() as writer:
        writer.set_relevance_threshold(1.0)
    assert judged.search("red shirt", mode="vectors", k=60).results.n_relevant == 0
    hits = judged.search("norda", k=60, mode="hybrid", total=True)
    named = [hit.product_id for hit in judged.store.text_search("norda", k=60)]
    assert sorted(ids(hits[: hits.results.n_relevant])) == sorted(named)
    assert hits.results.total == len(named) > 3
    assert judged.search(similar_to="p001", k=9).results.n_relevant == 9
    with judged.store.writer() as writer:
        writer.set_relevance_threshold(None)


@pytest.mark.parametrize("mode", ["hybrid", "words"])
@pytest.mark.parametrize("text", ["p007", "P007", "AB-007", " ab-007 "])
def test_an_id_or_article_number_finds_its_product_first(index, mode, text):
    assert index.search(text, mode=mode, k=5)[0].product_id == "p007"


@pytest.mark.parametrize("mode", ["hybrid", "words"])
@pytest.mark.parametrize(
    "text", ["p007 p011", "AB-007, ab-011", "p007; AB-011 p999", "#p007 #p011"]
)
def test_several_article_numbers_find_their_products_first(index, mode, text):
    hits = index.search(text, mode=mode, k=5)
    assert set(ids(hits[:2])) == {"p007", "p011"}
    assert hits.results.n_relevant >= 2


def test_words_alone_need_no_model(index):
    found = Index(index.store).search("red shirt", mode="words", k=100)
    assert sorted(ids(found)) == sorted(
        hit.product_id for hit in index.store.text_search("red shirt", k=100)
    )
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


# groups and totals


@pytest.mark.parametrize(
    "query", [{}, {"sort": "price"}, {"text": "red"}, {"text": "red", "mode": "hybrid"}]
)
@pytest.mark.parametrize("where", [None, "price > 1"])
def test_groups_are_counted_with_their_variants(index, query, where):
    every = index.search(**query, where=where, k=100)
    found = index.search(**query, where=where, k=100, group=True, total=True)
    groups = [hit.columns["parent"] for hit in every]
    expected = len(set(groups) - {None}) + groups.count(None)
    assert [len(found), found.results.total, found.results.is_total_exact] == [
        expected, expected, True
    ]  # fmt: skip
    for hit in found:
        group = hit.columns["parent"]
        assert hit.n_variants == (1 if group is None else groups.count(group))
        if group is not None:  # the best variant stands for its group
            assert hit.product_id == next(
                other.product_id for other in every if other.columns["parent"] == group
            )


def test_a_total_beyond_the_pool_is_a_lower_bound_but_that_of_a_list_is_exact(model):
    store = filled(f"memory://pages-{next(COUNTER)}", model, range(1200))
    index = Index(store, model=model)
    by_text = index.search("red", mode="vectors", total=True).results
    assert [by_text.total, by_text.is_total_exact] == [1000, False]
    listed = index.search(where="price >= 0", total=True).results
    assert [listed.total, listed.is_total_exact] == [store.count(listed and parse(store)), True]
    store.close()


def parse(store):
    return parse_filter("price >= 0", store.meta.columns)


# the rest of a query


def test_fields_choose_the_columns_of_hits(index):
    for query in ({}, {"text": "red"}, {"sort": "brand"}, {"group": True}):
        for hit in index.search(**query, fields=["price", "TITLE"], k=3):
            assert list(hit.columns) == ["price", "title"]
        assert index.search(**query, fields=[], k=3)[0].columns == {}


def test_explanations_name_the_words_that_match_and_how_close_a_hit_is(index):
    hits = index.search("Red, lining & xyzzy", mode="hybrid", explain=True, k=60)
    for hit in hits:
        words = hit.columns["title"].split()
        assert ("Red" in hit.explanation.matched) == ("red" in words)
        assert "xyzzy" not in hit.explanation.matched
    alone = index.search("red", mode="vectors", explain=True, k=60)
    percentiles = [hit.explanation.percentile for hit in alone]
    assert percentiles == sorted(percentiles, reverse=True)
    assert percentiles[0] > 90
    assert percentiles[-1] < 10
    by_words = index.search("red", mode="words", explain=True, k=1)[0].explanation
    assert [by_words.matched, by_words.percentile] == [("red",), None]
    assert index.search(explain=True, k=1)[0].explanation.matched == ()


def test_diversity_puts_products_with_the_same_picture_back(index):
    plain = index.search("red shirt", mode="vectors", k=60)
    pictures = [int(hit.product_id[1:]) % 17 for hit in plain]
    assert len(set(pictures[:6])) < 4  # each picture is that of three or four products
    diverse = index.search("red shirt", mode="vectors", k=60, diversity=0.5)
    first = [int(hit.product_id[1:]) % 17 for hit in diverse]
    assert diverse[0] == plain[0]
    assert len(set(first[:8])) == 8
    assert sorted(ids(diverse)) == sorted(ids(plain))


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 6)), min_size=1, max_size=20),
    st.floats(0.01, 1),
)
def test_a_diverse_order_begins_with_the_best_and_has_every_row_once(rows, diversity):
    scores = np.array([score for score, _ in rows])
    vectors = np.array([(np.cos(angle), np.sin(angle)) for _, angle in rows])
    order = list(diverse_order(scores, vectors, diversity=diversity))
    assert sorted(order) == list(range(len(rows)))
    if diversity < 1:
        assert scores[order[0]] == scores.max()


# cursors


def test_a_cursor_is_short_safe_in_a_url_and_belongs_to_its_query(index):
    hits = index.search("red shirt", k=5, where="price>=0")
    cursor = hits.results.cursor
    assert re.fullmatch(r"[\w-]{40,120}", cursor)
    again = index.search("red shirt", k=20, where="price >= 0", cursor=cursor, total=True)
    assert again.results.has_more
    for other in ({"text": "blue shirt"}, {"where": "price >= 1"}, {"mode": "vectors"}):
        query = {"text": "red shirt", "where": "price >= 0", **other}
        with pytest.raises(ValueError, match="the cursor belongs to another query: ask as before"):
            index.search(**query, cursor=cursor)
    for damaged in (cursor[:-3], "A" + cursor[1:], cursor + "=", "☂", ""):
        with pytest.raises(ValueError, match="the cursor is damaged: pass on the one"):
            index.search("red shirt", where="price >= 0", cursor=damaged)


def test_a_cursor_of_a_picture_belongs_to_that_picture(index, model):
    vectors = [vector_of(i, model.dim) for i in (1, 2)]
    pages = [one(index.store, model, image_vector=vector, k=5) for vector in vectors]
    noisy = vectors[0] + np.float32(1e-5)
    assert one(index.store, model, image_vector=noisy, k=5, cursor=pages[0].cursor).hits
    with pytest.raises(ValueError, match="belongs to another query"):
        one(index.store, model, image_vector=vectors[0], cursor=pages[1].cursor)


@given(
    st.tuples(st.sampled_from([None, "", "é\0\n☂", 5, 2.5, True]), st.text()),
    st.none() | st.tuples(st.integers(0, 2), st.floats(-9, 9), st.text()),
    st.frozensets(st.integers(0, 2**32 - 1), max_size=9),
)
def test_a_cursor_reads_back_what_was_written(sorted_at, ranked_at, seen):
    place = Place(7, sorted_at=sorted_at, ranked_at=ranked_at, seen=seen)
    assert read_cursor(write_cursor(place, "digest", [1, -2]), "digest") == (place, [1, -2])


def test_a_word_of_very_many_products_counts_for_those_closest_to_the_query(model):
    """Full-text search is cut long before it reaches them: all match equally well."""
    meta = StoreMeta("", model.name, model.fingerprint, model.dim, roles=Roles(title="title"))
    store = create_store(f"memory://pages-{next(COUNTER)}", meta)
    vectors = np.random.default_rng(3).normal(size=(1200, model.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[-1] = model.encode_text(["norda"])[0]
    products = [Product(f"p{i:04}", "norda", None, i + 1, {"title": "norda"}) for i in range(1200)]
    with store.writer() as writer:
        writer.upsert(products, vectors, [i.to_bytes(16, "little") for i in range(1200)])
    assert ids(Index(store, model=model).search("norda", mode="hybrid", k=2))[0] == "p1199"
    store.close()
