"""A store in memory through many small writes: shared blocks, dead rows, blocks made anew."""

import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.product import Product
from fashionclip.serve import facets
from fashionclip.store import StoreMeta, snapshot, vector_room
from fashionclip.store.base import Sort
from fashionclip.store.filters import parse_filter
from fashionclip.store.memory import MemoryStore

DIM = 8
KINDS = {"price": "integer", "colour": "string"}


def vector(seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(1, DIM)).astype(np.float32)
    return found / np.linalg.norm(found)


def product(name: str, price: int) -> Product:
    return Product(name, f"caption {name}", f"{name}.jpg", 0, {"price": price})


NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=6)
WRITES = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers()
        ),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 30), max_size=4), st.just(0)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("min_recent", [0, 4, 1_000])
@given(writes=WRITES)
@settings(max_examples=12)
def test_after_any_writes_all_of_it_agrees_with_a_dictionary(min_recent, writes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "MIN_RECENT", min_recent)
        patch.setattr(vector_room, "MIN_SPARE_ROWS", 5)
        store = MemoryStore(StoreMeta("memory://x", "m", "0" * 16, DIM, columns=KINDS))
        expected: dict[str, tuple[int, int]] = {}
        before = store.snapshot
        with store.writer() as writer:
            for kind, numbers, seed in writes:
                names = [f"p{number}" for number in dict.fromkeys(numbers)]
                if kind == "delete":
                    assert writer.delete(names) == len(set(names) & expected.keys())
                    expected = {name: one for name, one in expected.items() if name not in names}
                    continue
                for i, name in enumerate(names):
                    expected[name] = ((seed + i) % 50, abs(seed) % 1_000 + i)
                writer.upsert(
                    [
                        Product(
                            name, f"caption {name}", f"{name}.jpg", 0, {"price": expected[name][0]}
                        )
                        for name in names
                    ],
                    np.concatenate([vector(expected[name][1]) for name in names]),
                    [bytes(16)] * len(names),
                )
        now = store.snapshot
    assert len(before) == 0
    assert len(store) == len(expected) == len(now.ids)
    cheap = parse_filter("price < 25", KINDS)
    prices = {name: price for name, (price, _) in expected.items()}
    assert store.count(cheap) == sum(price < 25 for price in prices.values())
    for sign in (1, -1):
        listed = store.list_hits(k=99, sort=Sort("price", descending=sign < 0))
        assert [hit.product_id for hit in listed] == sorted(
            expected, key=lambda name: (sign * prices[name], name)
        )
        assert [hit.columns["price"] for hit in listed] == [
            prices[hit.product_id] for hit in listed
        ]
    assert [hit.product_id for hit in store.list_hits(k=99, where=cheap)] == sorted(
        name for name in expected if prices[name] < 25
    )
    for name, (_, seed) in expected.items():
        (best,) = store.nearest(vector(seed), k=1)[0]
        assert best.score == pytest.approx(1, abs=1e-5)
        rows = store.fetch([name])
        assert rows.ids == [name]
        assert rows.images == [f"{name}.jpg"]
        assert np.array_equal(rows.vectors, vector(seed))
    found = {hit.product_id for hit in store.nearest(vector(1), k=99)[0]}
    assert found == set(expected) == {name for rows in store.scan() for name in rows.ids}
    assert {hit.product_id for hit in store.text_search("caption", k=99)} == set(expected)
    assert len(set(store.sample(10).ids)) == min(10, len(expected))


def test_a_snapshot_stays_as_it_was():
    store = MemoryStore(StoreMeta("memory://x", "m", "0" * 16, DIM, columns=KINDS))

    def put(name: str, price: int) -> None:
        with store.writer() as writer:
            writer.upsert(
                [Product(name, "", None, 0, {"price": price})], vector(price), [bytes(16)]
            )

    put("a", 1)
    put("b", 2)
    before = store.snapshot
    put("a", 3)
    with store.writer() as writer:
        writer.delete(["b"])
    assert [hit.columns["price"] for hit in before.list_hits(None, k=9)] == [1, 2]
    assert before.base is store.snapshot.base  # nothing was copied
    assert [hit.columns["price"] for hit in store.list_hits(k=9)] == [3]
    assert before.nearest(vector(2), ks=[1], masks=[None])[0][0].product_id == "b"


def test_facets_of_what_came_later_are_counted_with_the_others(monkeypatch):
    """The encoding of the shared block is used again; values may be new, or gone."""
    monkeypatch.setattr(facets, "MIN_SHARED_ROWS", 10)
    kinds = {"colour": "string", "sizes": "string", "new": "boolean", "price": "number"}
    store = MemoryStore(StoreMeta("memory://x", "m", "0" * 16, DIM, columns=kinds))

    def put(numbers: Iterable[int], shift: int) -> None:
        rows = [
            Product(
                f"p{i}",
                "",
                None,
                0,
                {
                    "colour": (None, "red", "blue", f"new {shift}")[(i + shift) % 4],
                    "sizes": json.dumps([i % 3, (i + shift) % 5]),
                    "new": i % 2 == 0,
                    "price": (i + shift) % 7 + 0.5,
                },
            )
            for i in numbers
        ]
        with store.writer() as writer:
            writer.upsert(
                rows, np.concatenate([vector(i) for i in numbers]), [bytes(16)] * len(rows)
            )

    put(range(40), 0)
    found = facets.Facets(store.snapshot)
    for numbers, shift in (((3, 8, 50), 1), (range(20), 2), ((1, 2, 60), 3)):
        found.counted(None)
        put(numbers, shift)
        found = facets.Facets(store.snapshot, found)
        fresh = MemoryStore.copy_of(store)
        assert not len(fresh.snapshot.recent)
        for where in (None, parse_filter("price < 3", kinds)):
            counted, expected = (
                {
                    one.name: (one.kind, sorted(one.values, key=str), one.low, one.high)
                    for one in some
                }
                for some in (
                    found.counted(store.snapshot.mask(where)),
                    facets.Facets(fresh.snapshot).counted(fresh.snapshot.mask(where)),
                )
            )
            assert counted == expected
    assert found._of_base


def test_large_vectors_lie_in_a_file(monkeypatch):
    monkeypatch.setattr(vector_room, "MAPPED_BYTES", 1_000)
    room = vector_room.VectorRoom(DIM, 100)
    stored = np.concatenate([vector(seed) for seed in range(100)])
    assert room.append(stored)
    room.release()
    assert np.array_equal(room.first(100), stored)
    assert not room.append(np.zeros((2_000, DIM), np.float32))
