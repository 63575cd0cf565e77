"""A service's copy of its store on local disk: used if whole and of this store, else ignored."""

import subprocess
import sys
import time
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from fashionclip.errors import StoreError
from fashionclip.product import Product
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.saved_copy import read_saved, saved_path
from fashionclip.store import StoreMeta, create_store, open_store
from fashionclip.store.filters import parse_filter
from fashionclip.store.memory import MemoryStore
from fashionclip.store.rows import as_kept
from fashionclip.store.saved_snapshot import load_snapshot, save_snapshot, saved_revision

DIM, N = 16, 300
COLUMNS = {"price": "integer", "colour": "string", "sale": "boolean", "weight": "number"}


def vectors(n, seed=0):
    found = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def products(n, start=0, price=0):
    return [
        Product(
            f"p{i:03d}",
            f"caption {i}",
            f"/{i}.jpg" if i % 3 else None,
            i,
            {"price": price + i, "colour": "rgb"[i % 3], "sale": None, "weight": i / 7},
        )
        for i in range(start, start + n)
    ]


def write(store, new, seed=0):
    with store.writer() as writer:
        writer.upsert(new, vectors(len(new), seed), [bytes(16)] * len(new))


def content(snapshot):
    """All that a snapshot holds, by product."""
    rows = snapshot.take(snapshot.live_rows(), vectors=True, columns=True)
    values = zip(
        rows.captions,
        rows.images,
        rows.content_keys,
        (vector.tobytes() for vector in rows.vectors),
        rows.columns.to_pylist(),
        strict=True,
    )
    return dict(zip(rows.ids, values, strict=True))


@pytest.fixture(params=["float", "half"])
def snapshot(request):
    """With rows that were replaced and deleted."""
    meta = StoreMeta("memory://s", "m", "0" * 16, DIM, columns=COLUMNS, vectors=request.param)
    store = MemoryStore(meta)
    write(store, products(N))
    write(store, products(20, start=10, price=500), seed=1)
    with store.writer() as writer:
        writer.delete(["p003", "p299"])
    return store.snapshot


def test_what_was_saved_is_read_again(snapshot, tmp_path):
    save_snapshot(snapshot, tmp_path / "x")
    found = load_snapshot(tmp_path / "x", snapshot.meta)
    assert (found.revision, len(found)) == (snapshot.revision, N - 2)
    assert content(found) == content(snapshot)
    where = parse_filter("price >= 500 and colour = 'r'", COLUMNS)
    for one in (None, where):
        asked = {"ks": [10] * 3, "masks": [snapshot.mask(one)] * 3}
        assert found.nearest(vectors(3, 5), **asked) == snapshot.nearest(vectors(3, 5), **asked)
    assert found.row_of("p003") is None
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("n", [0, 1])
def test_a_store_without_columns_or_products_is_saved_too(n, tmp_path):
    store = MemoryStore(StoreMeta("memory://shop", "m", "0" * 16, DIM))
    write(store, [Product(f"p{i}", "", None, i, {}) for i in range(n)])
    save_snapshot(store.snapshot, tmp_path / "x")
    assert content(load_snapshot(tmp_path / "x", store.meta)) == content(store.snapshot)


def test_a_snapshot_goes_on_changing_and_its_file_stays_as_it_is(snapshot, tmp_path):
    save_snapshot(snapshot, tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    copy = MemoryStore(snapshot.meta)
    copy._snapshot = load_snapshot(tmp_path / "x", snapshot.meta)
    write(copy, products(5, start=400), seed=3)
    assert copy.snapshot.vectors.shape == (N + 25, DIM)
    kept = as_kept(vectors(5, 3), copy.meta.vectors)
    assert (copy.fetch(["p402"]).vectors == kept[2]).all()
    assert (tmp_path / "x").read_bytes() == before
    save_snapshot(copy.snapshot, tmp_path / "x")  # in the place of what is mapped
    assert content(load_snapshot(tmp_path / "x", copy.meta)) == content(copy.snapshot)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"uri": "memory://other"}, "it is of another index"),
        ({"created": "2020-01-01"}, "it is of another index"),
        ({"fingerprint": "1" * 16}, "it is of another model"),
        ({"dim": 8}, "it is of another model"),
        ({"vectors": "binary"}, "it is of another index"),
        ({"columns": {"price": "number"}}, "the index had other columns then"),
    ],
)
def test_the_snapshot_of_another_store_or_model_is_refused(changed, why, snapshot, tmp_path):
    save_snapshot(snapshot, tmp_path / "x")
    with pytest.raises(StoreError, match=why):
        load_snapshot(tmp_path / "x", replace(snapshot.meta, **changed))
    assert saved_revision(tmp_path / "x", replace(snapshot.meta, **changed)) is None
    assert saved_revision(tmp_path / "x", snapshot.meta) == snapshot.revision


def test_a_damaged_file_is_refused_whatever_is_wrong_with_it(snapshot, tmp_path):
    path = tmp_path / "x"
    save_snapshot(snapshot, path)
    whole, random = path.read_bytes(), Random(0)
    for n_bytes in (0, 1, 100, 5000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(StoreError, match=r"it is damaged|another version"):
            load_snapshot(path, snapshot.meta)
    for place in (0, *(random.randrange(len(whole)) for _ in range(100)), len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(StoreError, match=r"it is|another version|other columns"):
            load_snapshot(path, snapshot.meta)
    for other in (b"{}\n", b"[]\n", b'{"format": 2}\n'):
        path.write_bytes(other)
        with pytest.raises(StoreError, match=r"another version|it is damaged"):
            load_snapshot(path, snapshot.meta)


def start(path, saved_in):
    return InMemoryIndex(path, metrics=Metrics(), saved_in=saved_in)


def wait_for(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["lance", "postgres"])
def test_a_start_reads_what_was_saved_and_then_only_the_changes(kind, tmp_path, request):
    uri = tmp_path / "shop.lance"
    if kind == "postgres":
        uri = f"{request.getfixturevalue('postgres_server').new_database('saved')}&store=shop"
    store = create_store(uri, StoreMeta("", "m", "0" * 16, DIM, columns=COLUMNS))
    write(store, products(N))
    index = start(uri, tmp_path / "saved")
    wait_for(saved_path(tmp_path / "saved", store.meta).exists)
    write(store, products(2, start=N, price=900), seed=1)
    with store.writer() as writer:
        writer.delete(["p001"])
    wait_for(lambda: len(index) == N + 1)
    again = start(uri, tmp_path / "saved")
    assert again.snapshot.recent.ids == [f"p{N}", f"p{N + 1}"]  # the others came from the file
    assert content(again.snapshot) == content(index.snapshot)
    for one in (index, again, store):
        one.close()


def test_a_file_that_cannot_be_used_costs_a_scan_and_no_more(tmp_path, capsys):
    store = create_store(tmp_path / "shop.lance", StoreMeta("", "m", "0" * 16, DIM))
    write(store, [Product("a", "", None, 0, {})])
    saved = tmp_path / "saved"
    saved.mkdir()
    path = saved_path(saved, store.meta)
    path.write_bytes(b"not this")
    path.with_name(f"{path.name}.1.2.part").write_bytes(b"of a killed process")
    index = start(tmp_path / "shop.lance", saved)
    assert len(index) == 1
    wait_for(lambda: saved_revision(path, index.meta) == index.revision)
    index.close()
    assert content(read_saved(saved, index.meta)) == content(index.snapshot)
    assert not list(saved.glob("*.part"))
    index = start(tmp_path / "shop.lance", tmp_path / "shop.lance" / "index.json")  # a file
    assert len(index) == 1
    index.close()


def test_indexes_that_share_a_folder_keep_a_file_each(tmp_path):
    saved = tmp_path / "saved"
    for name in "ab":
        store = create_store(tmp_path / f"{name}.lance", StoreMeta("", "m", "0" * 16, DIM))
        write(store, [Product(name, "", None, 0, {})])
        index = start(tmp_path / f"{name}.lance", saved)
        wait_for(saved_path(saved, store.meta).exists)
        index.close()
    for name in "ab":
        meta = open_store(tmp_path / f"{name}.lance").meta
        assert list(content(read_saved(saved, meta))) == [name]


SAVING = """
import sys
from pathlib import Path
from fashionclip.store import open_store
from fashionclip.store.memory import MemoryStore
from fashionclip.store.saved_snapshot import save_snapshot
copy = MemoryStore.copy_of(open_store(sys.argv[1]))
print("ready", flush=True)
while True:
    save_snapshot(copy.snapshot, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_file_or_none(tmp_path):
    uri, path = tmp_path / "shop.lance", tmp_path / "saved.snapshot"
    store = create_store(uri, StoreMeta("", "m", "0" * 16, DIM, columns=COLUMNS))
    write(store, products(N))
    store, random = open_store(uri), Random(1)
    for _ in range(4):
        command = [sys.executable, "-c", SAVING, str(uri), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.05 * random.random())
            process.kill()
        if path.exists():
            assert len(load_snapshot(path, store.meta)) == N
