"""An index in memory: the same answers as from its files, and the same after every write."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.index import Index, rows, snapshot
from fashionclip.product import Product

DIM = 8


def products(names, price=1.0):
    return [Product(name, f"caption of {name}", None, 1, {"price": price}) for name in names]


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def of_names(names, seed=0):
    """A vector a name; names of one length share theirs, so that there are ties."""
    return unit(
        np.stack([np.random.default_rng((seed, len(name))).normal(size=DIM) for name in names])
    )


def key(name):
    return name.encode().ljust(16, b"-")[:16]


def write(index, names, *, seed=0, price=1.0):
    index.upsert(products(names, price), of_names(names, seed), [key(name) for name in names])


@pytest.fixture
def index(tmp_path):
    return Index.create(
        tmp_path / "shop.lance",
        model="m",
        fingerprint="f" * 16,
        dim=DIM,
        columns={"price": "number"},
    )


def test_it_answers_as_the_files_do(index):
    names = [f"p{'x' * (i % 7)}{i}" for i in range(300)]
    write(index, names)
    seen = snapshot.read(index.queries)
    assert (seen.count, seen.n_damaged, dict(seen.columns)) == (300, 0, {"price": "number"})
    queries = of_names(["a", "ab", "abcd"], seed=3)
    ks = [1, 10, 300]
    for answer, query, k in zip(seen.best(queries, ks, [None] * 3), queries, ks, strict=True):
        expected = index.nearest(query, k=k, exact=True)
        assert [hit.product_id for hit in answer] == [hit.product_id for hit in expected]
        assert [hit.score for hit in answer] == pytest.approx([h.score for h in expected], abs=1e-6)
        assert [hit.columns for hit in answer] == [hit.columns for hit in expected]


def test_a_filter_hides_the_rest_and_an_empty_one_gives_nothing(index):
    write(index, ["a", "b"], price=5.0)
    write(index, ["cc", "dd"], price=50.0)
    seen = snapshot.read(index.queries)
    mask = seen.mask(index.queries.passing("price < 10"))
    query = of_names(["zzz"])
    assert [h.product_id for h in seen.best(query, [9], [mask])[0]] == ["a", "b"]
    assert seen.best(query, [9], [seen.mask([])]) == [[]]
    assert [h.product_id for h in seen.listed(mask, k=1, offset=1)] == ["b"]
    assert len(seen.listed(None, k=9, offset=0)) == 4
    assert seen.mask(["never seen"]).sum() == 0


def test_a_product_is_found_by_its_id(index):
    write(index, ["a"], price=5.0)
    seen = snapshot.read(index.queries)
    assert seen.get("a").columns == {"price": 5.0}
    assert seen.get("b") is None


def test_an_empty_index_has_nothing_to_say(index):
    seen = snapshot.read(index.queries)
    assert seen.count == 0
    assert seen.best(of_names(["a"]), [3], [None]) == [[]]
    assert seen.listed(None, k=3, offset=0) == []


def test_a_damaged_vector_is_left_out_and_counted(index):
    write(index, ["a", "bb", "ccc"])
    index._table.update(where="_id = 'bb'", values={rows.CRC: 1})
    seen = snapshot.read(index.queries)
    assert (seen.count, seen.n_damaged) == (2, 1)
    assert set(seen.places) == {"a", "ccc"}


def test_a_new_column_is_taken_in(index):
    write(index, ["a"])
    seen = snapshot.read(index.queries)
    index.upsert(
        [Product("b", "", None, 1, {"price": 1.0, "color": "red"})], of_names(["b"]), [key("b")]
    )
    now = snapshot.renewed(seen, index.queries, ["b"])
    assert now.columns["color"] == "string"
    assert now.get("b").columns["color"] == "red"


names = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8, unique=True)
steps = st.lists(
    st.tuples(st.sampled_from(["put", "remove"]), names, st.integers(1, 5)), max_size=5
)


@settings(max_examples=12, deadline=None)
@given(steps=steps)
def test_after_any_writes_it_is_what_reading_everything_gives(tmp_path_factory, steps):
    index = Index.create(
        tmp_path_factory.mktemp("s") / "i", model="m", fingerprint="f" * 16, dim=DIM
    )
    index.ensure_columns({"price": "number"})
    seen = snapshot.read(index.queries)
    for what, touched, number in steps:
        if what == "put":
            write(index, touched, seed=number, price=float(number))
        else:
            index.remove(touched)
        seen = snapshot.renewed(seen, index.queries, touched)
    whole = snapshot.read(index.queries)
    assert seen.version == whole.version
    assert seen.places.keys() == whole.places.keys()
    for name, i in seen.places.items():
        assert seen.vectors[i] == pytest.approx(whole.vectors[whole.places[name]])
        assert seen.get(name) == whole.get(name)
    query = of_names(["q"])
    assert seen.best(query, [100], [None]) == whole.best(query, [100], [None])
