"""An index keeps what it is given, finds it again, and says in one line what is wrong."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.errors import (
    FilterError,
    ModelMismatchError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from fashionclip.index import Index, Store, row_digest
from fashionclip.index.cells import is_outgrown, vector_index
from fashionclip.index.columns import shown_name, stored_name
from fashionclip.product import Product, widen

DIM = 16
COLOURS = ("Blue", "Red", "Green")


def unit_vectors(n: int, *, seed: int = 0, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def products(n: int, **columns: object) -> list[Product]:
    return [
        Product(
            product_id=f"p{i}",
            caption=f"{COLOURS[i % 3].lower()} dress number {i}",
            image=f"photos/{i}.jpg",
            row=i + 1,
            columns={"price": i, "baseColour": COLOURS[i % 3], **columns},
        )
        for i in range(n)
    ]


def keys(n: int) -> list[bytes]:
    return [i.to_bytes(16, "little") for i in range(1, n + 1)]


def make(path: Path, n: int = 0, **columns: object) -> Index:
    index = Index.create(path, model="tiny", fingerprint="f" * 16, dim=DIM)
    if n:
        index.upsert(products(n, **columns), unit_vectors(n), keys(n))
    return index


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "shop.lance"


def test_an_index_is_a_store(store):
    index: Store = make(store)
    assert index.count == 0


def test_nearest_equals_the_full_sort(store):
    index = make(store, 200)
    vectors, query = unit_vectors(200), unit_vectors(1, seed=1)[0]
    cosines = vectors @ query
    best = np.argsort(-cosines)[:7]
    hits = index.nearest(query * 3.5, k=7)
    assert [hit.product_id for hit in hits] == [f"p{i}" for i in best]
    np.testing.assert_allclose([hit.score for hit in hits], cosines[best], atol=1e-6)
    assert hits[0].columns == {"price": best[0], "baseColour": COLOURS[best[0] % 3]}


def test_a_filter_is_applied_before_the_search_so_k_hits_remain(store):
    index = make(store, 200)
    vectors, query = unit_vectors(200), unit_vectors(1, seed=2)[0]
    hits = index.nearest(query, k=5, where="price < 12 and baseColour = 'Blue'")
    allowed = [0, 3, 6, 9]
    expected = sorted(allowed, key=lambda i: -float(vectors[i] @ query))
    assert [hit.product_id for hit in hits] == [f"p{i}" for i in expected]


def test_equal_scores_come_in_the_order_of_their_ids(store):
    index = make(store)
    same = np.repeat(unit_vectors(1), 60, axis=0)
    index.upsert(products(60), same, keys(60))
    expected = sorted(f"p{i}" for i in range(60))[:5]
    assert [hit.product_id for hit in index.nearest(same[0], k=5)] == expected


def test_a_score_is_a_cosine_between_minus_one_and_one(store):
    index = make(store, 5)
    vector = unit_vectors(5)[3]
    assert index.nearest(vector, k=1)[0].score == pytest.approx(1, abs=1e-6)
    scores = [hit.score for hit in index.nearest(-vector, k=5)]
    assert min(scores) == pytest.approx(-1, abs=1e-6)
    assert all(-1 <= score <= 1 for score in scores)


def test_asking_for_more_than_there_is_gives_all(store):
    index = make(store, 3)
    assert len(index.nearest(unit_vectors(1)[0], k=10)) == 3
    assert len(index.nearest(unit_vectors(1)[0], k=10**9)) == 3
    assert make(store.with_name("empty.lance")).nearest(unit_vectors(1)[0]) == []


def test_asking_for_nothing_is_refused(store):
    index = make(store, 3)
    with pytest.raises(ValueError, match="k is 0: ask for at least 1 hit"):
        index.nearest(unit_vectors(1)[0], k=0)
    with pytest.raises(ValueError, match="at least 1 hit"):
        index.text_search("dress", k=-1)


@pytest.mark.parametrize("bad", [np.zeros(DIM), np.full(DIM, np.nan), np.full(DIM, np.inf)])
def test_a_query_without_a_direction_is_refused(store, bad):
    index = make(store, 3)
    with pytest.raises(ValueError, match="zero or not finite"):
        index.nearest(bad.astype(np.float32))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, 2.0])
def test_only_unit_vectors_are_stored(store, bad):
    index = make(store)
    vectors = unit_vectors(3)
    vectors[1] *= bad
    with pytest.raises(ValueError, match="vector 1 has length"):
        index.upsert(products(3), vectors, keys(3))
    assert index.count == 0


def test_vectors_of_another_length_are_another_models(store):
    index = make(store, 3)
    message = r"holds vectors of 16 numbers, made by 'tiny'; these have 8: use that model"
    with pytest.raises(ModelMismatchError, match=message):
        index.nearest(unit_vectors(1, dim=8)[0])
    with pytest.raises(ModelMismatchError, match=message):
        index.upsert(products(3), unit_vectors(3, dim=8), keys(3))


def test_another_model_is_refused_by_name(store):
    index = make(store, 3)
    index.require_model("renamed", "f" * 16)
    message = r"vectors of the model 'tiny' \(ffffffff\), not of 'other' \(eeeeeeee\): use that"
    with pytest.raises(ModelMismatchError, match=message):
        index.require_model("other", "e" * 16)
    with pytest.raises(ModelMismatchError, match=message):
        Index.open_or_create(store, model="other", fingerprint="e" * 16, dim=DIM)


def test_captions_are_found_by_their_words(store):
    index = make(store, 30)
    assert [hit.product_id for hit in index.text_search("dresses number 7", k=1)] == ["p7"]
    reds = index.text_search("RED", k=20)
    assert {hit.columns["baseColour"] for hit in reds} == {"Red"}
    assert [hit.product_id for hit in reds] == sorted(hit.product_id for hit in reds)
    cheap = index.text_search("red", where="price < 5")
    assert sorted(hit.product_id for hit in cheap) == ["p1", "p4"]
    assert index.text_search("trousers") == []
    assert index.text_search("") == []
    assert index.text_search('"unclosed AND (') == []


def test_captions_written_after_optimizing_are_found_at_once(store):
    index = make(store, 3)
    index.optimize()
    late = Product("late", "purple kimono", None, 4, {})
    index.upsert([late], unit_vectors(1, seed=5), keys(1))
    assert [hit.product_id for hit in index.text_search("kimono")] == ["late"]


def test_a_product_is_got_by_its_id(store):
    index = make(store, 12)
    vector, hit = index.get("p7")
    np.testing.assert_array_equal(vector, unit_vectors(12)[7])
    assert hit.columns == {"price": 7, "baseColour": "Red"}
    assert index.locations(["p7", "nope"]) == {"p7": "photos/7.jpg"}
    with pytest.raises(StoreError, match=r"has no product 'p111'; similar ids: p11, p1"):
        index.get("p111")


def test_a_product_stored_again_replaces_itself(store):
    index = make(store, 3)
    changed = Product("p1", "yellow hat", "hat.jpg", 1, {"price": 99})
    index.upsert([changed], unit_vectors(1, seed=9), [b"n" * 16])
    assert index.count == 3
    vector, hit = index.get("p1")
    np.testing.assert_array_equal(vector, unit_vectors(1, seed=9)[0])
    assert hit.columns == {"price": 99, "baseColour": None}
    assert index.known().find("p1")[0] == b"n" * 16


def test_of_one_id_twice_in_a_batch_the_last_counts(store):
    index = make(store)
    twice = [Product("x", caption, None, 1, {}) for caption in ("first", "second")]
    index.upsert(twice, unit_vectors(2), keys(2))
    assert index.count == 1
    np.testing.assert_array_equal(index.get("x")[0], unit_vectors(2)[1])


def test_removed_products_are_gone(store):
    index = make(store, 10)
    index.remove(["p3", "not there", "it's"])
    assert index.count == 9
    assert "p3" not in set(index.iter_ids())


def test_any_id_and_column_name_comes_back_as_it_went_in(store):
    index = make(store)
    ids = ["it's", 'a"b', "back\\slash", "new\nline", "ß", "%", "", " ", "x" * 5000, "a;b", "`"]
    names = ["Product Name", "a.b", "_id", "_vector", "", "ä", "select", "x`y", 'q"q', "~7e;", "ID"]
    columns = {name: f"value of {name}" for name in names}
    rows = [Product(name, "", None, 1, columns) for name in ids]
    index.upsert(rows, unit_vectors(len(ids)), keys(len(ids)))
    assert sorted(index.iter_ids()) == sorted(ids)
    for name in ids:
        assert index.get(name)[1].columns == columns
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"'
        assert len(index.nearest(unit_vectors(1)[0], where=f"{quoted} like 'value%'")) == 10
    index.remove(ids)
    assert index.count == 0


@given(st.text(max_size=20))
def test_a_column_name_survives_the_store(name):
    stored = stored_name(name)
    assert shown_name(stored) == name
    assert not stored.startswith("_")
    assert "." not in stored


@pytest.mark.parametrize(
    ("where", "n"),
    [
        ("baseColour = 'Blue'", 10),
        ("basecolour = 'Blue'", 10),
        ("\"baseColour\" = 'Blue'", 10),
        ("`baseColour` = 'baseColour'", 0),
        ("baseColour IN ('Blue', 'Red')", 20),
        ("lower(baseColour) like 'b%' AND price between 0 and 9", 4),
        ("not (price > 5) or price is null", 6),
        ("cast(price as double) / 2 >= 14.5", 1),
        ("id = 'p4'", 1),
        ("caption like '%number 4'", 1),
        ("date '2026-01-01' < date '2026-02-01'", 30),
        ("baseColour = 'it''s; -- not'", 0),
    ],
)
def test_filters_are_plain_sql_over_the_catalogues_names(store, where, n):
    index = make(store, 30)
    assert len(index.nearest(unit_vectors(1)[0], k=50, where=where)) == n


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("colour = 'Blue'", "no column named colour"),
        ("price <", "Expected: an expression, found: EOF"),
        ("price < 'cheap'", "could not convert"),
        ("price / 0 > 1", "Divide by zero"),
        ("price", "does not return a boolean"),
        ("price > 1; drop table products", "it holds a semicolon"),
        ("baseColour = 'Blue", "a ' in it does not end"),
        ("shrink(price) = 1", "Invalid function 'shrink'"),
        ("  ", "it is empty"),
    ],
)
def test_a_wrong_filter_is_one_line_with_the_columns(store, where, reason):
    index = make(store, 3, **{"Product Name": "x"})
    with pytest.raises(FilterError) as caught:
        index.nearest(unit_vectors(1)[0], where=where)
    assert reason in str(caught.value)
    assert str(caught.value).endswith('; columns: price, baseColour, "Product Name"')
    assert "\n" not in str(caught.value)
    with pytest.raises(FilterError):
        index.text_search("dress", where=where)


def test_columns_widen_and_lose_nothing(store):
    index = make(store, 3, size=4, sold=True)
    assert index.columns == {
        "price": "integer",
        "baseColour": "string",
        "size": "integer",
        "sold": "boolean",
    }
    more = Product("p9", "", None, 9, {"price": 1.5, "size": "XL", "sold": 2, "new": False})
    index.upsert([more], unit_vectors(1, seed=3), keys(1))
    assert index.columns == {
        "price": "number",
        "baseColour": "string",
        "size": "string",
        "sold": "string",
        "new": "boolean",
    }
    old = {"price": 2.0, "baseColour": "Green", "size": "4", "sold": "true", "new": None}
    assert index.get("p2")[1].columns == old
    new = {"price": 1.5, "baseColour": None, "size": "XL", "sold": "2", "new": False}
    assert index.get("p9")[1].columns == new
    assert index.verify().bad == ()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_widening_that_was_killed_is_finished_by_the_next(store, steps):
    index = make(store, 3)
    table = index._table
    table.add_columns({"_new_price": "cast(price as double)"})
    if steps == 2:
        table.alter_columns(
            {"path": "price", "rename": "_old_price"}, {"path": "_new_price", "rename": "price"}
        )
    assert Index.open(store).columns["price"] == ("integer" if steps == 1 else "number")
    index.ensure_columns({"price": "string"})
    assert index.columns["price"] == "string"
    assert not [name for name in table.schema.names if name.startswith(("_new", "_old"))]


def test_values_that_no_column_holds_are_made_to_fit(store):
    index = make(store)
    odd = {"big": 2**70, "nan": float("nan"), "none": None, "half": "\ud800", "true": True}
    index.upsert([Product("x", "\udfff", None, 1, odd)], unit_vectors(1), keys(1))
    stored = index.get("x")[1].columns
    assert stored == {"big": str(2**70), "nan": None, "half": "?", "true": True}
    assert index.verify().bad == ()


kinds = st.sampled_from(["string", "integer", "number", "boolean", None])


@given(kinds, kinds, kinds)
def test_widening_does_not_depend_on_the_order(a, b, c):
    assert widen(a, b) == widen(b, a)
    assert widen(widen(a, b), c) == widen(a, widen(b, c))


def test_what_is_stored_is_known_compactly(store):
    index = make(store, 50)
    known = index.known()
    assert len(known) == 50
    kinds_now = index.columns
    for product, key in zip(products(50), keys(50), strict=True):
        assert known.find(product.product_id) == (key, row_digest(product, kinds_now))
    assert known.find("p50") is None
    for i in range(49):
        known.meet(f"p{i}")
    assert [name for name in index.iter_ids() if known.is_unmet(name)] == ["p49"]
    assert not known.is_unmet("p50")


def test_a_row_digest_counts_everything_but_missing_values():
    kinds_now = {"a": "integer", "b": "string", "c": "number"}
    base = Product("x", "caption", "i.jpg", 1, {"a": 1, "b": "2", "c": None})
    same = Product("x", "caption", "i.jpg", 7, {"b": "2", "a": 1})
    assert row_digest(base, kinds_now) == row_digest(same, kinds_now)
    for other in (
        Product("x", "Caption", "i.jpg", 1, base.columns),
        Product("x", "caption", "j.jpg", 1, base.columns),
        Product("x", "caption", "i.jpg", 1, {"a": 2, "b": "2"}),
        Product("x", "caption", "i.jpg", 1, {"a": 1, "c": 2.0}),
    ):
        assert row_digest(base, kinds_now) != row_digest(other, kinds_now)


def test_readers_see_what_is_written_meanwhile(store):
    writer = make(store, 5)
    reader = Index.open(store)
    assert reader.count == 5
    writer.upsert([Product("new", "", None, 6, {"fresh": 1})], unit_vectors(1, seed=4), keys(1))
    assert reader.nearest(unit_vectors(1, seed=4)[0], k=1)[0].product_id == "new"
    assert reader.columns["fresh"] == "integer"
    writer.optimize()
    assert reader.count == 6
    assert reader.nearest(unit_vectors(1, seed=4)[0], k=1, where="fresh = 1")


def test_many_small_writes_are_compacted(store):
    index = make(store)
    vectors = unit_vectors(30)
    for i, product in enumerate(products(30)):
        index.upsert([product], vectors[i : i + 1], keys(1))
    before = index.nearest(vectors[3], k=30)
    assert index._table.stats()["fragment_stats"]["num_fragments"] == 30
    index.optimize()
    assert index._table.stats()["fragment_stats"]["num_fragments"] == 1
    assert index.nearest(vectors[3], k=30) == before


@pytest.mark.parametrize("most_segments", [3, 1])
def test_a_large_index_is_searched_approximately_and_takes_in_what_is_new(
    store, monkeypatch, most_segments
):
    monkeypatch.setattr("fashionclip.index.upkeep.APPROXIMATE_FROM", 500)
    monkeypatch.setattr("fashionclip.index.upkeep.WORTH_SORTING", 300)
    monkeypatch.setattr("fashionclip.index.cells.MOST_SEGMENTS", most_segments)
    index = make(store, 600)
    assert not index.info().is_approximate
    index.optimize()
    assert index.info().is_approximate
    query = unit_vectors(1, seed=8)[0]
    exact = index.nearest(query, k=10, exact=True)
    close = index.nearest(query, k=10)
    assert len({hit.product_id for hit in exact} & {hit.product_id for hit in close}) >= 9
    cheap = index.nearest(query, k=10, where="price < 20")
    assert len(cheap) == 10
    extra = [Product(f"q{i}", "", None, i, {"price": f"{i} euro"}) for i in range(300)]
    index.upsert(extra, unit_vectors(300, seed=11), keys(300))
    assert index.nearest(unit_vectors(300, seed=11)[5], k=1)[0].product_id == "q5"
    index.optimize()
    sorted_in = vector_index(index._table)
    assert (sorted_in.num_indexed_rows, sorted_in.num_unindexed_rows) == (900, 0)
    assert len(index.nearest(query, k=10, where="price = '19' or price = '19 euro'")) == 2
    blue = index.nearest(query, k=500, where="baseColour = 'Blue'")
    assert len(blue) == 200
    assert index.verify(mend=True).bad == ()
    every = index.nearest(query, k=500, where="baseColour = 'Blue'", exact=True)
    assert {hit.product_id for hit in every} == {hit.product_id for hit in blue}
    assert [hit.score for hit in every] == pytest.approx([hit.score for hit in blue], abs=1e-6)
    assert index.nearest(unit_vectors(300, seed=11)[5], k=1)[0].product_id == "q5"


def test_a_filter_costs_no_recall_and_few_matches_are_all_found(store, monkeypatch):
    monkeypatch.setattr("fashionclip.index.upkeep.APPROXIMATE_FROM", 500)
    monkeypatch.setattr("fashionclip.index.cells.COMPARED", 150)
    monkeypatch.setattr("fashionclip.index.cells.COMPARED_A_HIT", 5)
    index = make(store, 1000)
    index.optimize()
    queries = unit_vectors(20, seed=8)
    for where, least in ((None, 0.5), ("price < 500", 0.5), ("price < 7", 1.0)):
        found = total = 0
        for query in queries:
            best = {hit.product_id for hit in index.nearest(query, k=10, where=where, exact=True)}
            close = {hit.product_id for hit in index.nearest(query, k=10, where=where)}
            found, total = found + len(best & close), total + len(best)
        assert found >= least * total, where


def test_vectors_are_sorted_anew_when_there_are_many_more(store, monkeypatch):
    monkeypatch.setattr("fashionclip.index.upkeep.APPROXIMATE_FROM", 300)
    monkeypatch.setattr("fashionclip.index.upkeep.WORTH_SORTING", 100)
    monkeypatch.setattr("fashionclip.index.cells.ROWS_A_CELL", 10)
    index = make(store, 300)
    index.optimize()
    assert vector_index(index._table).name == "cells-30"
    extra = [Product(f"q{i}", "", None, i, {}) for i in range(400)]
    index.upsert(extra, unit_vectors(400, seed=11), keys(400))
    index.optimize(finished=False)
    assert vector_index(index._table).name == "cells-30"
    assert vector_index(index._table).num_unindexed_rows == 0
    index.optimize()
    assert vector_index(index._table).name == "cells-70"
    assert vector_index(index._table).num_segments == 1
    assert index.nearest(unit_vectors(400, seed=11)[5], k=1)[0].product_id == "q5"
    monkeypatch.setattr("fashionclip.index.cells.MOST_CELLS", 40)
    index.verify(mend=True)
    assert vector_index(index._table).name == "cells-40"
    monkeypatch.setattr("fashionclip.index.cells.ROWS_A_CELL", 1)
    assert not is_outgrown(index._table, vector_index(index._table))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_sorting_vectors_does_not_hold_them_in_memory(store):
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        from fashionclip.index import Index, cells
        from fashionclip.product import Product

        def peak_mb():
            status = Path("/proc/self/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) / 1024

        index = Index.create(sys.argv[1], model="m", fingerprint="f" * 32, dim=1024)
        rng = np.random.default_rng(0)
        for start in range(0, 60_000, 3_000):
            vectors = rng.standard_normal((3_000, 1024), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            some = [Product(f"p{start + i}", "", None, i, {}) for i in range(3_000)]
            index.upsert(some, vectors, [b"k" * 16] * 3_000)
        before = peak_mb()
        cells.sort_vectors(index._table)
        print(peak_mb() - before)
    """
    with python(code, store) as other:
        out, err = other.communicate(timeout=300)
    assert float(out) < 0.5 * 60_000 * 1024 * 4 / 1e6, err


# opening


@pytest.mark.parametrize("entry", ["nothing", "file", "empty folder", "no table"])
def test_what_is_no_index_is_refused_with_the_way_to_make_one(tmp_path, entry):
    path = tmp_path / "x"
    if entry == "file":
        path.write_text("hello")
    elif entry != "nothing":
        path.mkdir()
    if entry == "no table":
        make(path)
        (path / "index.json").unlink()
    message = {
        "nothing": "there is no index at .*fashionclip index CATALOG --into",
        "file": "is a file, not an index folder",
        "empty folder": "is not an index folder: it has no index.json; make one with",
        "no table": "is not an index folder",
    }[entry]
    with pytest.raises(StoreError, match=message):
        Index.open(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x"}', '{"format": 1, "dim": 3}'])
def test_a_damaged_manifest_is_named(store, text):
    make(store)
    (store / "index.json").write_text(text)
    with pytest.raises(StoreCorruptError, match=r"index\.json .*delete the folder and index"):
        Index.open(store)


def test_a_newer_format_asks_for_an_upgrade(store):
    make(store)
    manifest = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(StoreError, match=r"has format 2 and this .* up to 1: upgrade fashionclip"):
        Index.open(store)


def test_a_manifest_that_does_not_fit_the_table_is_refused(store):
    make(store)
    manifest = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps(manifest | {"dim": 99}))
    with pytest.raises(StoreCorruptError, match=r"not the one that its index.json describes"):
        Index.open(store)


@pytest.mark.parametrize("part", ["_versions", "data", ""])
def test_a_table_with_missing_files_is_refused_in_one_line(store, part):
    import shutil

    make(store, 20)
    shutil.rmtree(store / "products.lance" / part)
    with pytest.raises(StoreCorruptError, match=r"is damaged .*delete the folder") as caught:
        Index.open(store).nearest(unit_vectors(1)[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 0.5, 0.9])
@pytest.mark.parametrize("part", ["_versions", "data"])
def test_cut_files_are_refused_in_one_line(store, part, cut):
    make(store, 20)
    for file in (store / "products.lance" / part).iterdir():
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(StoreCorruptError) as caught:
        Index.open(store).nearest(unit_vectors(1)[0])
    assert "\n" not in str(caught.value)


def flip_inside_vectors(store: Path, vector: np.ndarray) -> None:
    """Flip one bit in the middle of a stored vector, as a failing disk does."""
    for file in (store / "products.lance" / "data").iterdir():
        content = bytearray(file.read_bytes())
        place = bytes(content).find(vector.astype("<f4").tobytes())
        if place >= 0:
            content[place + 5] ^= 0x10
            file.write_bytes(content)
            return
    pytest.fail("the vector is in none of the data files")


def test_flipped_bytes_are_found_by_verify_and_mended_by_storing_again(store):
    index = make(store, 40)
    assert index.verify() == type(index.verify())(checked=40, bad=(), removed=0)
    flip_inside_vectors(store, unit_vectors(40)[17])
    index = Index.open(store)
    assert index.verify().bad == ("p17",)
    assert "p17" not in index.vectors(["p16", "p17"])
    report = index.verify(mend=True)
    assert (report.bad, report.removed, index.count) == (("p17",), 1, 39)
    assert index.known().find("p17") is None
    index.upsert(products(40)[17:18], unit_vectors(40)[17:18], keys(1))
    assert index.verify().bad == ()
    assert index.nearest(unit_vectors(40)[17], k=1)[0].product_id == "p17"


def test_flipped_bytes_in_a_caption_are_found_too(store):
    index = make(store)
    caption = "a caption long enough to be found in the file " * 3
    index.upsert([Product("x", caption, None, 1, {})], unit_vectors(1), keys(1))
    for file in (store / "products.lance" / "data").iterdir():
        content = file.read_bytes()
        assert caption.encode() in content
        file.write_bytes(content.replace(b"long enough", b"lonG enough"))
    assert Index.open(store).verify().bad == ("x",)


# making and writing


def test_an_index_is_not_made_where_something_else_is(tmp_path, store):
    make(store)
    with pytest.raises(StoreError, match=r"there is an index at .* already"):
        make(store)
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match=r"holds other files \(holiday.jpg\): choose a new folder"):
        make(tmp_path)
    with pytest.raises(StoreError, match="is a file: choose a folder"):
        make(tmp_path / "holiday.jpg")
    with pytest.raises(StoreError, match=r"cannot be made: Not a directory"):
        make(tmp_path / "holiday.jpg" / "shop.lance")


def test_a_making_that_was_killed_is_begun_anew(store):
    make(store, 5)
    (store / "index.json").unlink()
    index = Index.open_or_create(store, model="tiny", fingerprint="f" * 16, dim=DIM)
    assert index.count == 0
    assert Index.open_or_create(store, model="t", fingerprint="f" * 16, dim=DIM).count == 0


def python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


HOLD = """
    import sys, time
    from fashionclip.index.folder import WriterLock
    from pathlib import Path
    with WriterLock(Path(sys.argv[1])).held():
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def test_a_second_writer_is_told_who_is_writing_and_gives_up_in_time(store):
    index = make(store, 3)
    with python(HOLD, store, 60) as other:
        assert other.stdout.readline() == "held\n"
        waits: list[str] = []
        message = f"is being written to by process {other.pid} on .*: wait for it to end"
        with (
            pytest.raises(StoreLockedError, match=message),
            index.writing(timeout_s=0.2, on_wait=waits.append),
        ):
            pass
        assert len(waits) == 1
        assert waits[0].startswith(f"process {other.pid} on ")
        assert len(index.nearest(unit_vectors(1)[0])) == 3  # reading waits for no one
        other.kill()
    index.remove(["p1"])  # the system let go of the dead process's lock
    assert index.count == 2


def test_a_second_writer_goes_on_when_the_first_is_done(store):
    index = make(store, 3)
    with python(HOLD, store, 0.5) as other:
        other.stdout.readline()
        index.remove(["p1"])
    assert index.count == 2


def test_writing_takes_the_lock_once_however_deep(store):
    index = make(store)
    with index.writing(), index.writing():
        index.upsert(products(2), unit_vectors(2), keys(2))
        index.optimize()
    with index.writing():
        pass
    assert index.count == 2


def test_a_full_disk_is_one_line_and_loses_nothing(store):
    make(store, 20)
    code = """
        import resource, sys
        import numpy as np
        from fashionclip.errors import StoreError
        from fashionclip.index import Index
        from fashionclip.product import Product
        index = Index.open(sys.argv[1])
        n = 4000
        rows = [Product(f"q{i}", "", None, i, {}) for i in range(n)]
        vectors = np.zeros((n, 16), dtype=np.float32)
        vectors[:, 0] = 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            index.upsert(rows, vectors, [bytes(16)] * n)
        except StoreError as exc:
            print(exc)
    """
    with python(code, store) as writer:
        out, err = writer.communicate(timeout=60)
    assert "a file grew over the size allowed here: raise the limit" in out, (out, err)
    assert out.count("\n") == 1
    index = Index.open(store)
    assert (index.count, index.verify().bad) == (20, ())
    index.upsert(products(21)[20:], unit_vectors(21)[20:], keys(1))
    assert index.count == 21


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_can_still_be_read(store):
    index = make(store, 3)
    store.chmod(0o500)
    try:
        assert Index.open(store).count == 3
        with pytest.raises(StoreError, match="cannot be written to: Permission denied"):
            index.remove(["p1"])
    finally:
        store.chmod(0o700)


def test_importing_the_room_does_not_import_lancedb():
    code = "import sys, fashionclip.index; print('lancedb' in sys.modules)"
    with python(code) as other:
        assert other.communicate(timeout=60)[0] == "False\n"


def test_the_cloud_client_that_was_put_off_is_whole_when_asked_for(store):
    make(store, 3)
    code = """
        import sys
        from fashionclip.index import Index
        assert Index.open(sys.argv[1]).count == 3
        assert "lance_namespace_urllib3_client.api" not in sys.modules
        from lance_namespace_urllib3_client import TableApi
        import lance_namespace_urllib3_client as client
        print(TableApi.__name__, client.models.__name__)
    """
    with python(code, store) as other:
        out, err = other.communicate(timeout=60)
    assert out == "TableApi lance_namespace_urllib3_client.models\n", err


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=6),
            st.dictionaries(
                st.text(max_size=4),
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                max_size=3,
            ),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_any_catalogue_goes_in_and_is_whole(tmp_path_factory, table):
    index = make(tmp_path_factory.mktemp("any") / "shop.lance")
    rows = [Product(name, name, None, i, columns) for i, (name, columns) in enumerate(table)]
    for i, product in enumerate(rows):
        index.upsert([product], unit_vectors(len(rows))[i : i + 1], keys(1))
    assert sorted(index.iter_ids()) == sorted(product.product_id for product in rows)
    assert index.verify().bad == ()
