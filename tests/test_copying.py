"""A store copied into another of any kind is the same store, whatever interrupted the copy."""

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fashionclip.cli.main import run
from fashionclip.errors import ModelMismatchError, StoreError, StoreLockedError
from fashionclip.object_storage import open_files
from fashionclip.product import Product, Roles
from fashionclip.store import Store, create_store, open_or_create, open_store
from fashionclip.store.copying import CopyReport, copy_store
from faulty_s3 import FaultyS3
from test_store_contract import all_ids, meta_of, products, unit_vectors, upsert
from test_store_lance import flip_inside_vectors

COUNTER = itertools.count()
VALUES = {
    "title": "Kleid „été“ \U0001f457",
    "price": 12.5,
    "stock": -(2**62),
    "in_stock": True,
    "empty": None,
}


def fill(store: Store, n: int = 40) -> Store:
    """Products with every kind of value, some with images that the store keeps itself."""
    items = [replace(item, columns=dict(item.columns) | VALUES) for item in products(n)]
    items[0] = Product("ид/0 x", "", None, 1, {"title": "-0.0", "price": 1e300})
    for i in range(1, n, 7):
        location = store.blobs.put(items[i].product_id, f"picture {i}".encode())
        items[i] = replace(items[i], image=location)
    upsert(store, items)
    with store.writer() as writer:
        writer.set_roles(Roles(title="title", price="price"))
        writer.set_relevance_threshold(0.123)
    return store


def content(store: Store) -> dict[str, tuple]:
    """All that a store holds, by id."""
    found = {}
    for rows in store.scan():
        columns = rows.columns.to_pylist()
        for i, name in enumerate(rows.ids):
            image = rows.images[i]
            blob = store.blobs.read(image) if (image or "").startswith("blob:") else None
            values = {key: value for key, value in columns[i].items() if value is not None}
            found[name] = (
                *(rows.captions[i], image, blob, rows.content_keys[i], values),
                rows.vectors[i].tobytes(),
            )
    return found


def facts(store: Store) -> tuple:
    meta = store.meta
    return (
        *(meta.model, meta.fingerprint, meta.dim, meta.roles, dict(meta.columns)),
        *(meta.relevance_threshold, meta.vectors),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], str]:
    return lambda: str(tmp_path / f"shop-{next(COUNTER)}.lance")


def test_a_copy_is_the_same_store_and_a_second_one_writes_nothing(folder):
    source = fill(create_store("memory://copying", meta_of()))
    target = create_store(folder(), meta_of())
    done: list[tuple[int, int]] = []
    report = copy_store(source, target, progress=lambda *counts: done.append(counts))
    assert (report.count, report.copied, report.unchanged, report.removed) == (40, 40, 0, 0)
    assert (report.images, report.lost_images, report.damaged) == (6, (), ())
    assert done[-1] == (40, 40)
    assert content(target) == content(source)
    assert facts(target) == facts(source)
    assert target.verify().damaged == ()
    again = copy_store(source, target)
    assert (again.copied, again.unchanged, again.images) == (0, 40, 0)


@pytest.mark.slow
def test_a_store_goes_through_every_kind_of_store_and_comes_back_the_same(
    folder, s3_bucket, postgres_uri
):
    first = fill(create_store(folder(), meta_of()))
    stores = [first]
    for uri in (
        f"{s3_bucket}/copy-{next(COUNTER)}",
        f"{postgres_uri}&store=copy_{next(COUNTER)}",
        folder(),
    ):
        copied = create_store(uri, meta_of())
        report = copy_store(stores[-1], copied)
        assert (report.copied, report.images) == (40, 6)
        assert content(copied) == content(first)
        assert facts(copied) == facts(first)
        stores.append(copied)
    for store in stores:
        store.close()


def test_a_copy_brings_what_changed_and_removes_what_is_gone(folder):
    source, target = fill(create_store(folder(), meta_of())), create_store(folder(), meta_of())
    copy_store(source, target)
    changed = products(2, start=10, price=99.0)
    upsert(source, changed, unit_vectors(2, seed=5))
    with source.writer() as writer:
        writer.delete(["p20", "p22"])
    upsert(target, [Product("mine", "", None, 1, {"of_mine": "x"})])
    kept = copy_store(source, target, prune=False)
    assert (kept.copied, kept.unchanged, kept.removed, kept.count) == (2, 36, 0, 41)
    report = copy_store(source, target)
    assert (report.copied, report.removed, report.count) == (0, 3, 38)
    assert content(target) == content(source)
    assert facts(target) == facts(source)


@pytest.mark.parametrize(("one", "other"), [("float", "half"), ("half", "float"), ("int8", "half")])
def test_a_copy_may_keep_its_vectors_in_another_form(folder, one, other):
    source = fill(create_store(folder(), meta_of(vectors=one)))
    target = create_store(folder(), meta_of(vectors=other))
    assert copy_store(source, target).copied == 40
    assert target.meta.vectors == other
    before, after = content(source), content(target)
    assert before.keys() == after.keys()
    for name in before:
        vectors = (np.frombuffer(found[name][-1], np.float32) for found in (before, after))
        np.testing.assert_allclose(*vectors, atol=1e-3)
        assert before[name][:-1] == after[name][:-1]


def test_what_the_source_has_lost_is_left_out_and_named(folder):
    source, target = fill(create_store(folder(), meta_of())), create_store(folder(), meta_of())
    source.blobs.delete("p8")
    report = copy_store(source, target)
    assert report.lost_images == ("p8",)
    assert all_ids(target) == all_ids(source)


def test_of_two_copies_into_a_new_place_at_once_the_second_waits(folder):
    source, into = fill(create_store(folder(), meta_of())), folder()
    barrier = threading.Barrier(2)

    def copy(_: int) -> CopyReport:
        barrier.wait()
        return copy_store(source, open_or_create(into, source.meta), wait_s=-1.0)

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(copy, range(2)))
    assert sorted((report.copied, report.unchanged) for report in reports) == [(0, 40), (40, 0)]
    assert content(open_store(into)) == content(source)


@pytest.mark.parametrize("what", ["vector", "caption"])
def test_a_damaged_product_of_the_source_costs_the_copy_nothing(folder, what, capfd):
    source, target = fill(create_store(folder(), meta_of())), create_store(folder(), meta_of())
    caption = "a caption long enough to be found in the file " * 3
    upsert(source, [Product("x", caption, None, 1, {})])
    with source.writer() as writer:
        writer.delete(["p9"])
    copy_store(source, target)
    before = content(target)
    upsert(source, products(1, start=60))
    if what == "vector":
        flip_inside_vectors(Path(source.meta.uri), unit_vectors(1)[0])
    else:
        replace_in_files(Path(source.meta.uri), b"long enough", b"lonG enough")
    source = open_store(source.meta.uri)
    damaged = source.verify().damaged
    assert len(damaged) == 1
    report = copy_store(source, open_store(target.meta.uri))
    assert (report.damaged, report.removed) == (damaged, 0)
    after = content(open_store(target.meta.uri))
    assert {name: after.get(name) for name in before} == before
    capfd.readouterr()
    assert run(["index", "--copy", source.meta.uri, "--into", target.meta.uri]) == 1
    said = capfd.readouterr().err
    assert f"damaged: {damaged[0]}" in said
    assert "1 left out" in said
    assert "the same in both places" not in said


@pytest.mark.parametrize("what", ["other", "vector", "caption"])
def test_a_copy_writes_again_what_differs_or_is_damaged_there(folder, what):
    source, target = fill(create_store(folder(), meta_of())), create_store(folder(), meta_of())
    caption = "a caption long enough to be found in the file " * 3
    upsert(source, [Product("x", caption, None, 1, {})])
    copy_store(source, target)
    if what == "other":  # as another precision makes it of the same image
        rows = target.fetch(["x"])
        upsert(target, [Product("x", caption, None, 1, {})], unit_vectors(1, seed=7))
        assert not np.array_equal(target.fetch(["x"]).vectors, rows.vectors)
    elif what == "vector":
        flip_inside_vectors(Path(target.meta.uri), source.fetch(["x"]).vectors[0])
    else:
        replace_in_files(Path(target.meta.uri), b"long enough", b"lonG enough")
    target = open_store(target.meta.uri)
    report = copy_store(source, target)
    assert (report.copied, report.unchanged) == (1, 40)
    assert content(target) == content(source)
    assert target.verify().damaged == ()


def replace_in_files(folder: Path, old: bytes, new: bytes) -> None:
    for file in (folder / "products.lance" / "data").iterdir():
        file.write_bytes(file.read_bytes().replace(old, new))


def test_a_copy_that_keeps_more_may_have_wider_columns(folder):
    source, target = fill(create_store(folder(), meta_of())), create_store(folder(), meta_of())
    upsert(target, [Product("mine", "", None, 1, {"stock": "some"})])
    for copied in (40, 0):
        report = copy_store(source, target, prune=False)
        assert (report.copied, report.count) == (copied, 41)
    assert target.meta.columns["stock"] == "string"


def test_a_store_is_not_copied_into_itself_under_another_name(folder, tmp_path, monkeypatch):
    source = fill(create_store(folder(), meta_of()))
    monkeypatch.chdir(tmp_path)
    name = Path(source.meta.uri).name
    Path("link.lance").symlink_to(name)
    for other in (name, f"./{name}", "link.lance"):
        with pytest.raises(StoreError, match="cannot be copied into itself"):
            copy_store(source, open_store(other))


def test_a_store_is_not_copied_into_itself_or_over_another_model(folder):
    source = fill(create_store(folder(), meta_of()))
    with pytest.raises(StoreError, match="cannot be copied into itself"):
        copy_store(source, open_store(source.meta.uri))
    empty = create_store(folder(), meta_of())
    assert copy_store(empty, create_store(folder(), meta_of())).count == 0
    with pytest.raises(StoreError, match="holds no product, so that a copy would empty"):
        copy_store(empty, source)
    other = create_store(folder(), replace(meta_of(), fingerprint="e" * 16))
    with pytest.raises(ModelMismatchError):
        copy_store(source, other)
    target = create_store(folder(), meta_of())
    with (
        target.writer(),
        pytest.raises(StoreLockedError),
    ):
        copy_store(source, open_store(target.meta.uri), wait_s=0.0)


def test_a_change_of_the_copy_meanwhile_is_noticed(folder, monkeypatch):
    source, target = fill(create_store(folder(), meta_of())), create_store(folder(), meta_of())
    taken = type(target).scan

    def scan(store: Store, **options: bool) -> Iterator:
        for rows in taken(store, **options):
            yield replace(rows, ids=[*rows.ids[:-1], "other"])

    monkeypatch.setattr(target, "scan", lambda **options: scan(target, **options), raising=False)
    with pytest.raises(StoreError, match=r"differs from .* after it was copied"):
        copy_store(source, target)


def test_the_command_copies_and_says_what_it_did(folder, capfd):
    source, into = fill(create_store(folder(), meta_of())).meta.uri, folder()
    assert run(["index", "--copy", source, "--into", into]) == 0
    assert "40 copied · the same in both places" in capfd.readouterr().err.replace(", ", " · ")
    assert run(["index", "--copy", source, "--into", into, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["count"], report["unchanged"], report["index"]) == (40, 40, into)
    assert run(["index", "--copy", source]) == 2
    assert run(["index", "table.csv", "--copy", source, "--into", into]) == 2
    assert run(["index", "--copy", f"{source}-none", "--into", into]) == 1
    half = folder()
    assert run(["index", "--copy", source, "--into", half, "--vectors", "half"]) == 0
    assert open_store(half).meta.vectors == "half"


def test_what_copying_and_verifying_would_ignore_is_refused(folder, capfd):
    source = create_store(folder(), meta_of()).meta.uri
    copying, verifying = ["--copy", source, "--into", folder()], ["--verify", source]
    for ignored, shown in (
        (["table.csv"], "PATH"),
        (["--model", "x"], "--model"),
        (["--images", "x"], "--images"),
        (["--ray", "local"], "--ray"),
    ):
        for mode in (copying, verifying):
            assert run(["index", *ignored, *mode]) == 2
            assert f"{mode[0]} has no use for {shown}: leave" in capfd.readouterr().err
    assert run(["index", *copying, *verifying]) == 2
    assert run(["index", *copying, "--mend"]) == 2
    assert "--mend needs an index to check" in capfd.readouterr().err
    assert not Path(copying[-1]).exists()
    assert run(["index", *verifying, "--mend"]) == 0


@pytest.mark.slow
def test_a_copy_that_is_killed_goes_on_and_ends_the_same(folder):
    source = create_store(folder(), meta_of())
    n = 10_000
    upsert(source, products(n), unit_vectors(n))
    into = folder()
    command = [sys.executable, "-m", "fashionclip.cli", "index", "--copy", source.meta.uri]
    for n_wanted in (1_000, 5_000):
        process = subprocess.Popen([*command, "--into", into], stderr=subprocess.DEVNULL)
        while process.poll() is None and count(into) < n_wanted:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = count(into)
    done = subprocess.run(
        [*command, "--into", into, "--json"], capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    assert report["unchanged"] >= before
    assert report["copied"] + report["unchanged"] == n
    target = open_store(into)
    assert content(target) == content(source)
    assert target.verify().damaged == ()


def count(uri: str) -> int:
    try:
        return len(open_store(uri))
    except StoreError:  # it is not made yet
        return 0


@pytest.mark.slow
def test_a_bucket_that_fails_in_the_middle_of_a_copy_costs_only_time(folder, s3_server):
    proxy = FaultyS3(s3_server)
    options = {
        "aws_access_key_id": "tests",
        "aws_secret_access_key": "tests",
        "aws_region": "us-east-1",
        "aws_endpoint": proxy.url,
        "allow_http": "true",
    }
    files, _ = open_files("s3://copies", options)
    files.call_s3("create_bucket", Bucket="copies")
    source = create_store(folder(), meta_of())
    n = 5_000
    upsert(source, products(n), unit_vectors(n))
    target = create_store("s3://copies/shop.lance", meta_of(), storage_options=options)
    asked = itertools.count()
    # not HEAD, whose answer has no reason in it
    proxy.plan = lambda method, path: (
        "ExpiredToken" if method != "HEAD" and next(asked) > 45 else None
    )
    with pytest.raises(StoreError, match="the credentials have expired: renew them"):
        copy_store(source, target)
    proxy.plan = lambda method, path: None
    report = copy_store(source, target)
    assert report.copied + report.unchanged == n
    assert 0 < report.unchanged < n
    assert content(target) == content(source)
    proxy.stop()
