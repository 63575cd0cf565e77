"""What only Lance tables have: damaged files, formats, locks across processes, partitions."""

import json
import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.errors import (
    MissingExtraError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
)
from fashionclip.product import Product, Roles, VectorForm
from fashionclip.store import Store, create_store, open_store, upgrade_store
from fashionclip.store.lance.schema import shown_name, stored_name
from test_store_contract import (
    all_ids,
    columns_of,
    ids,
    meta_of,
    products,
    python,
    unit_vectors,
    upsert,
    where,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shop.lance"


def make(folder: Path, n: int = 0, *, vectors: VectorForm = "float", **columns: object) -> Store:
    store = create_store(folder, meta_of(vectors=vectors))
    if n:
        upsert(store, products(n, **columns))
    return store


def table_of(folder: Path) -> lance.LanceDataset:
    return lance.dataset(str(folder / "products.lance"))


def optimize(store: Store, *, is_finished: bool = True) -> None:
    with store.writer() as writer:
        writer.optimize(is_finished=is_finished)


def nearest(store: Store, vectors: np.ndarray, *, k: int = 10, condition: str = "", **options):
    parsed = where(store, condition) if condition else None
    return store.nearest(vectors, k=k, where=parsed, **options)[0]


@given(st.text(max_size=20))
def test_a_column_name_survives_the_table(name):
    stored = stored_name(name)
    assert shown_name(stored) == name
    assert not stored.startswith("_")
    assert "." not in stored


@pytest.mark.parametrize("steps", [1, 2])
def test_a_widening_that_was_killed_is_finished_by_the_next(folder, steps):
    store = make(folder, 3)
    table = table_of(folder)
    table.add_columns({"_new_price": "cast(price as double)"})
    if steps == 2:
        table.alter_columns(
            {"path": "price", "name": "_old_price"}, {"path": "_new_price", "name": "price"}
        )
    kind = "integer" if steps == 1 else "number"
    assert open_store(folder).meta.columns["price"] == kind
    with store.writer() as writer:
        writer.set_columns({"price": "string"})
    assert store.meta.columns == {"price": "string", "baseColour": "string"}
    assert columns_of(store, "p2")["price"] in {"2", "2.0"}


# large stores


def test_many_small_writes_are_compacted(folder):
    store = make(folder)
    vectors = unit_vectors(30)
    for i, product in enumerate(products(30)):
        upsert(store, [product], vectors[i : i + 1])
    before = nearest(store, vectors[3:4], k=30)
    assert len(table_of(folder).get_fragments()) == 30
    optimize(store)
    assert len(table_of(folder).get_fragments()) == 1
    assert nearest(store, vectors[3:4], k=30) == before


UPKEEP = "fashionclip.store.lance.upkeep."


def vector_index(folder: Path):
    found = [i for i in table_of(folder).describe_indices() if i.field_names == ["_vector"]]
    return found[0]


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["put", "drop", "tidy"])), max_size=9)
)
def test_searches_name_the_right_products_whatever_was_written(tmp_path_factory, steps):
    store = make(tmp_path_factory.mktemp("any") / "shop.lance")
    expected = dict[str, int]()
    for round_number, (number, step) in enumerate([(0, "put"), *steps]):
        if step == "put":
            caption = f"dress of batch{round_number}"
            some = [replace(one, caption=caption) for one in products(8, start=number)]
            upsert(store, some)
            expected |= {one.product_id: round_number for one in some}
        elif step == "drop":
            with store.writer() as writer:
                writer.delete([name := f"p{number}"])
            expected.pop(name, None)
        else:
            optimize(store)
        for asked, wanted in (
            ("dress", set(expected)),
            (f"batch{round_number}", {i for i, n in expected.items() if n == round_number}),
        ):
            assert {hit.product_id for hit in store.text_search(asked, k=99)} == wanted
        assert set(ids(nearest(store, unit_vectors(1), k=99))) == set(expected)


@pytest.mark.parametrize(
    ("form", "max_segments"),
    [
        ("float", 3),
        ("float", 1),
        ("half", 3),
        pytest.param("int8", 1, marks=pytest.mark.slow),
        ("binary", 3),
    ],
)
def test_a_large_store_is_searched_approximately_and_takes_in_what_is_new(
    folder, monkeypatch, form, max_segments
):
    monkeypatch.setattr(UPKEEP + "APPROXIMATE_FROM", 500)
    monkeypatch.setattr(UPKEEP + "MIN_UNINDEXED", 300)
    monkeypatch.setattr(UPKEEP + "MAX_SEGMENTS", max_segments)
    store = make(folder, 600, vectors=form)
    assert not store.info().is_approximate
    optimize(store)
    assert store.info().is_approximate
    query = unit_vectors(1, seed=8)
    exact = nearest(store, query, exact=True)
    close = nearest(store, query)
    assert len(set(ids(exact)) & set(ids(close))) >= 9
    assert len(nearest(store, query, condition="price < 20")) == 10
    extra = [Product(f"q{i}", "", None, i, {"price": f"{i} euro"}) for i in range(300)]
    added = unit_vectors(300, seed=11)
    upsert(store, extra, added)
    assert nearest(store, added[5:6], k=1)[0].product_id == "q5"
    optimize(store)
    assert vector_index(folder).num_rows_indexed == 900
    assert len(nearest(store, query, condition="price = '19' or price = '19 euro'")) == 2
    blue = nearest(store, query, k=500, condition="baseColour = 'Blue'")
    assert len(blue) == 200
    assert store.verify(repair=True).damaged == ()
    every = nearest(store, query, k=500, condition="baseColour = 'Blue'", exact=True)
    assert set(ids(every)) == set(ids(blue))
    assert [hit.score for hit in every] == pytest.approx([hit.score for hit in blue], abs=1e-6)
    many = store.nearest(added[:40], k=1)
    assert [hits[0].product_id for hits in many] == [f"q{i}" for i in range(40)]


def test_a_filter_costs_no_recall_and_few_matches_are_all_found(folder, monkeypatch):
    monkeypatch.setattr(UPKEEP + "APPROXIMATE_FROM", 500)
    monkeypatch.setattr(UPKEEP + "MIN_COMPARED", 150)
    monkeypatch.setattr(UPKEEP + "MIN_COMPARED_PER_HIT", 5)
    store = make(folder, 1000)
    optimize(store)
    queries = unit_vectors(20, seed=8)
    for condition, least in ((None, 0.5), ("price < 500", 0.5), ("price < 7", 1.0)):
        parsed = condition and where(store, condition)
        best = store.nearest(queries, k=10, where=parsed, exact=True)
        close = store.nearest(queries, k=10, where=parsed)
        pairs = list(zip(best, close, strict=True))
        n_found = sum(len(set(ids(one)) & set(ids(other))) for one, other in pairs)
        assert n_found >= least * sum(map(len, best)), condition


def test_the_vector_index_is_built_anew_when_there_are_many_more(folder, monkeypatch):
    monkeypatch.setattr(UPKEEP + "APPROXIMATE_FROM", 300)
    monkeypatch.setattr(UPKEEP + "MIN_UNINDEXED", 100)
    monkeypatch.setattr(UPKEEP + "ROWS_PER_PARTITION", 10)
    store = make(folder, 300)
    optimize(store)
    assert vector_index(folder).name == "cosine-30"
    extra = [Product(f"q{i}", "", None, i, {}) for i in range(400)]
    added = unit_vectors(400, seed=11)
    upsert(store, extra, added)
    optimize(store, is_finished=False)
    assert vector_index(folder).name == "cosine-30"
    assert vector_index(folder).num_rows_indexed == 700
    optimize(store)
    assert vector_index(folder).name == "cosine-70"
    assert nearest(store, added[5:6], k=1)[0].product_id == "q5"
    monkeypatch.setattr(UPKEEP + "MAX_PARTITIONS", 40)
    store.verify(repair=True)
    assert vector_index(folder).name == "cosine-40"
    optimize(store)
    assert vector_index(folder).name == "cosine-40"


APART = "fashionclip.store.lance.upkeep_process."


def test_a_large_table_is_optimized_by_a_process_of_its_own(folder, monkeypatch):
    monkeypatch.setattr(UPKEEP + "APPROXIMATE_FROM", 300)
    monkeypatch.setattr(UPKEEP + "MIN_UNINDEXED", 100)
    monkeypatch.setattr(APART + "APART_FROM", 200)
    store = make(folder, 400)
    vectors = unit_vectors(400)
    monkeypatch.setattr("lance.LanceDataset.create_index", None)  # nobody calls it in this process
    optimize(store)
    assert store.info().is_approximate
    assert nearest(store, vectors[5:6], k=1)[0].product_id == "p5"
    extra = [Product(f"q{i}", "", None, i, {}) for i in range(150)]
    added = unit_vectors(150, seed=11)
    upsert(store, extra, added)
    optimize(store)
    assert vector_index(folder).num_rows_indexed == 550
    assert nearest(store, added[5:6], k=1)[0].product_id == "q5"
    assert store.verify().damaged == ()


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", StoreError, "was killed, .*where memory is short; "),
        (
            "raise SystemExit('no lance here')",
            StoreError,
            r"ended with status 1 \(no lance here\); ",
        ),
        (
            """print('{"error": "No space left on device (os error 28)"}')""",
            StoreFullError,
            "the disk is full: make room, then run this again",
        ),
    ],
)
def test_a_process_that_fails_to_optimize_is_one_line_and_the_next_run_goes_on(
    folder, monkeypatch, code, error, message
):
    monkeypatch.setattr(UPKEEP + "APPROXIMATE_FROM", 300)
    store = make(folder, 400)
    with monkeypatch.context() as patch:
        patch.setattr(APART + "APART_FROM", 200)
        patch.setattr(APART + "_START", code)
        with pytest.raises(error, match=message) as raised:
            optimize(store)
    assert "\n" not in str(raised.value)
    assert len(open_store(folder)) == 400
    optimize(store)
    assert store.info().is_approximate


def test_a_process_that_optimizes_ends_with_the_one_that_waits_for_it():
    code = """
        import time
        from threading import Thread
        from fashionclip.store.lance.upkeep_process import _end_with_input
        Thread(target=_end_with_input, daemon=True).start()
        print("begun", flush=True)
        time.sleep(60)
    """
    with python(code) as other:
        assert other.stdout.readline() == "begun\n"
        other.stdin.close()  # as the system does when a process dies
        assert other.wait(timeout=20) == 1


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
        open_store(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "x"}', '{"format": 2, "dim": 3}'])
def test_a_damaged_manifest_is_named(folder, text):
    make(folder)
    (folder / "index.json").write_text(text)
    with pytest.raises(StoreCorruptError, match=r"index\.json .*delete the index and index"):
        open_store(folder)


@pytest.mark.parametrize(("uri", "package"), [("gs://x/y", "gcsfs"), ("az://x/y", "adlfs")])
def test_a_missing_client_of_an_object_store_is_named(uri, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'fashionclip\[{uri[:2]}\]'"):
        open_store(uri)


def test_a_newer_format_asks_for_an_upgrade_of_the_package(folder):
    make(folder)
    manifest = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(manifest | {"format": 5}))
    with pytest.raises(StoreFormatError, match=r"has format 5 and .* up to 4: upgrade fashionclip"):
        open_store(folder)


def test_only_a_store_of_a_smaller_form_has_the_format_that_older_versions_refuse(tmp_path):
    for form, number in (("float", 3), ("half", 4)):
        make(tmp_path / form, 3, vectors=form)
        manifest = json.loads((tmp_path / form / "index.json").read_text())
        assert (manifest["format"], manifest["vectors"]) == (number, form)
    manifest["vectors"] = "tiny"
    (tmp_path / "half" / "index.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreCorruptError, match=r"lacks a good .tiny.: restore it"):
        open_store(tmp_path / "half")
    manifest = json.loads((tmp_path / "float" / "index.json").read_text())
    del manifest["vectors"]  # as older versions wrote it
    (tmp_path / "float" / "index.json").write_text(json.dumps(manifest))
    assert open_store(tmp_path / "float").meta.vectors == "float"


def make_old(folder: Path) -> None:
    """Take a store back to format 2, which had the words of captions only."""
    table = table_of(folder)
    table.drop_columns(["_words"])
    table.drop_index("_id_idx")
    table.create_scalar_index("_caption", "INVERTED", name="_caption_idx")
    manifest = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(manifest | {"format": 2}))


@pytest.mark.parametrize("killed_after", ["nothing", "the column", "the table"])
def test_an_older_store_gets_the_words_of_its_products_and_keeps_its_vectors(folder, killed_after):
    store = create_store(folder, meta_of(roles=Roles(brand="brand")))
    upsert(store, products(20, brand="Nike"))
    digest, before = store.digests().find("p3"), nearest(store, unit_vectors(1))
    make_old(folder)
    with pytest.raises(StoreFormatError, match=r"format of an older fashionclip: run"):
        open_store(folder)
    if killed_after == "the column":
        table_of(folder).add_columns({"_new__words": "''"})
    elif killed_after == "the table":
        upgrade_store(folder)
        manifest = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps(manifest | {"format": 2}))
    store = upgrade_store(folder)
    assert json.loads((folder / "index.json").read_text())["format"] == 3
    assert sorted(ids(store.text_search("nikee", k=99))) == all_ids(store)
    assert store.digests().find("p3") == digest
    assert nearest(store, unit_vectors(1)) == before
    assert {tuple(i.field_names) for i in table_of(folder).describe_indices()} == {
        ("_words",), ("_id",)
    }  # fmt: skip
    assert not any(name.startswith(("_new", "_old")) for name in table_of(folder).schema.names)
    upsert(store, products(1, start=20, brand="Puma"))
    assert ids(store.text_search("puma", k=9)) == ["p20"]


def test_a_manifest_that_does_not_fit_the_table_is_refused(folder):
    make(folder)
    manifest = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(manifest | {"dim": 99}))
    with pytest.raises(StoreCorruptError, match=r"not the one that its index.json describes"):
        open_store(folder)


@pytest.mark.parametrize("part", ["_versions", "data", ""])
def test_a_table_with_missing_files_is_refused_in_one_line(folder, part):
    make(folder, 20)
    shutil.rmtree(folder / "products.lance" / part)
    with pytest.raises(StoreCorruptError, match=r"is damaged .*delete the folder") as caught:
        nearest(open_store(folder), unit_vectors(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 0.5, 0.9])
@pytest.mark.parametrize("part", ["_versions", "data"])
def test_cut_files_are_refused_in_one_line(folder, part, cut):
    make(folder, 20)
    for file in (folder / "products.lance" / part).iterdir():
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(StoreCorruptError) as caught:
        nearest(open_store(folder), unit_vectors(1))
    assert "\n" not in str(caught.value)


def flip_inside_vectors(folder: Path, vector: np.ndarray) -> None:
    """Flip one bit in the middle of a stored vector."""
    for file in (folder / "products.lance" / "data").iterdir():
        content = bytearray(file.read_bytes())
        place = bytes(content).find(vector.astype("<f4").tobytes())
        if place >= 0:
            content[place + 5] ^= 0x10
            file.write_bytes(content)
            return
    pytest.fail("the vector is in none of the data files")


def test_flipped_bytes_are_found_by_verify_and_mended_by_storing_again(folder):
    make(folder, 40)
    flip_inside_vectors(folder, unit_vectors(40)[17])
    store = open_store(folder)
    assert store.verify().damaged == ("p17",)
    assert store.fetch(["p16", "p17"]).ids == ["p16"]
    assert "p17" in all_ids(store)
    assert sum(len(rows.ids) for rows in store.scan()) == 39
    report = store.verify(repair=True)
    assert (report.damaged, report.removed, len(store)) == (("p17",), 1, 39)
    assert store.digests().find("p17") is None
    upsert(store, products(40)[17:18], unit_vectors(40)[17:18])
    assert store.verify().damaged == ()
    assert nearest(store, unit_vectors(40)[17:18], k=1)[0].product_id == "p17"


def test_flipped_bytes_in_a_caption_are_found_too(folder):
    store = make(folder)
    caption = "a caption long enough to be found in the file " * 3
    upsert(store, [Product("x", caption, None, 1, {})])
    for file in (folder / "products.lance" / "data").iterdir():
        content = file.read_bytes()
        assert caption.encode() in content
        file.write_bytes(content.replace(b"long enough", b"lonG enough"))
    assert open_store(folder).verify().damaged == ("x",)


# making and writing


def test_a_store_is_not_made_where_something_else_is(tmp_path, folder):
    make(folder)
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match=r"holds other files \(holiday.jpg\): choose a new folder"):
        make(tmp_path)
    with pytest.raises(StoreError, match="is a file: choose a folder"):
        make(tmp_path / "holiday.jpg")
    with pytest.raises(StoreError, match=r"cannot be made: Not a directory"):
        make(tmp_path / "holiday.jpg" / "shop.lance")


def test_a_making_that_was_killed_is_begun_anew(folder):
    make(folder, 5)
    (folder / "index.json").unlink()
    assert len(make(folder)) == 0


def test_a_store_that_is_deleted_and_made_anew_is_followed(folder):
    store = make(folder, 5)
    before = store.revision
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="there is no index"):
        len(store)
    make(folder, 3)
    assert len(store) == 3
    assert store.revision > before
    assert store.changes_since(before) is None


def test_changes_are_not_known_once_old_versions_are_cleaned_up(folder):
    store = make(folder, 5)
    before = store.revision
    upsert(store, products(1, start=5))
    table_of(folder).cleanup_old_versions(retain_versions=1, delete_unverified=True)
    assert store.changes_since(before) is None
    assert store.changes_since(store.revision).upserted == frozenset()


SCAN = """
    import sys, time
    from pathlib import Path
    from fashionclip.store import open_store
    parts = open_store(sys.argv[1]).scan()
    ids = list(next(parts).ids)
    print("begun", flush=True)
    while not Path(sys.argv[2]).exists():
        time.sleep(0.01)
    ids += [name for rows in parts for name in rows.ids]
    print(len(set(ids)), flush=True)
"""


def test_old_versions_go_but_not_from_a_process_that_is_reading_them(folder, tmp_path):
    n = 5_000
    store = make(folder, n)
    for start in range(0, n, 1_000):
        upsert(store, products(1_000, start=start), unit_vectors(1_000, seed=start + 1))
    with python(SCAN, folder, tmp_path / "go on") as other:
        assert other.stdout.readline() == "begun\n"
        optimize(store)
        held = store.info().size_bytes
        (tmp_path / "go on").touch()
        assert other.stdout.readline() == f"{n}\n"
    upsert(store, products(1, start=0), unit_vectors(1, seed=9))
    optimize(store)
    assert store.info().size_bytes < held / 1.5


def test_a_follower_learns_what_changed_though_the_table_was_compacted(folder):
    store, follower = make(folder, 50), open_store(folder)
    revision = follower.revision
    assert follower.changes_since(revision) is not None
    upsert(store, products(1, start=50), unit_vectors(1, seed=9))
    optimize(store)
    assert follower.changes_since(revision).upserted == {"p50"}
    follower.close()
    upsert(store, products(1, start=51), unit_vectors(1, seed=9))
    revision = store.revision
    optimize(store)
    assert open_store(folder).changes_since(revision) is None


def test_a_search_goes_on_though_its_version_is_removed(folder):
    store, reader = make(folder, 30), open_store(folder)
    query = unit_vectors(1, seed=4)
    assert len(nearest(reader, query)) == 10
    stale = reader.latest()
    for start in range(30, 33):
        upsert(store, products(1, start=start), unit_vectors(1, seed=start))
    optimize(store)
    latest, calls = reader.latest, []

    def slow():
        calls.append(1)
        return stale if len(calls) == 1 else latest()

    reader.latest = slow
    assert len(nearest(reader, query, k=40)) == 33


HOLD = """
    import sys, time
    from fashionclip.store import open_store
    with open_store(sys.argv[1]).writer():
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def test_the_error_in_a_second_process_names_the_writer(folder):
    store = make(folder, 3)
    with python(HOLD, folder, 60) as other:
        assert other.stdout.readline() == "held\n"
        waits: list[str] = []
        message = f"is being written to by process {other.pid} on .*: wait for it to end"
        with (
            pytest.raises(StoreLockedError, match=message),
            store.writer(timeout_s=0.2, on_wait=waits.append),
        ):
            pass
        assert len(waits) == 1
        assert waits[0].startswith(f"process {other.pid} on ")
        other.kill()


def test_a_full_disk_is_one_line_and_loses_nothing(folder):
    make(folder, 20)
    code = """
        import resource, sys
        import numpy as np
        from fashionclip.errors import StoreError
        from fashionclip.product import Product
        from fashionclip.store import open_store
        store = open_store(sys.argv[1])
        n = 4000
        rows = [Product(f"q{i}", "", None, i, {}) for i in range(n)]
        vectors = np.zeros((n, 8), dtype=np.float32)
        vectors[:, 0] = 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            with store.writer() as writer:
                writer.upsert(rows, vectors, [bytes(16)] * n)
        except StoreError as exc:
            print(exc)
    """
    with python(code, folder) as writer:
        out, err = writer.communicate(timeout=60)
    assert "a file grew over the size allowed here: raise the limit" in out, (out, err)
    assert out.count("\n") == 1
    store = open_store(folder)
    assert (len(store), store.verify().damaged) == (20, ())
    upsert(store, products(1, start=20))
    assert len(store) == 21


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_can_still_be_read(folder):
    store = make(folder, 3)
    folder.chmod(0o500)
    try:
        assert len(open_store(folder)) == 3
        with (
            pytest.raises(StoreError, match="cannot be written to: Permission denied"),
            store.writer(),
        ):
            pass
    finally:
        folder.chmod(0o700)


def test_several_threads_read_while_one_writes(folder):
    store = make(folder, 300)
    errors: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                assert len(nearest(store, unit_vectors(1), k=5)) == 5
                assert sum(len(rows.ids) for rows in store.scan()) >= 300
        except BaseException as exc:  # for the main thread to see
            errors.append(exc)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(6):
        upsert(store, products(1, start=300 + i))
        optimize(store)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def test_threads_that_find_products_of_different_writes_at_once_find_them_all(folder):
    store, vectors = make(folder), unit_vectors(8)
    for i in range(8):
        upsert(store, products(1, start=i), vectors[[i]])  # a fragment each
    for _ in range(20):
        reader = open_store(folder)  # knows no fragment yet
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda i: nearest(reader, vectors[[i]], k=1), range(8)))  # noqa: B023
        assert [ids(hits) for hits in found] == [[f"p{i}"] for i in range(8)]
        reader.close()


def test_importing_the_package_imports_neither_lance_nor_pandas_and_leaves_its_host_alone():
    code = """
        import os, sys
        before = dict(os.environ)
        import fashionclip.store, fashionclip.store.lance
        print(any(name in sys.modules for name in ("lance", "lancedb", "pandas")))
        import fashionclip.store.lance.store
        print(dict(os.environ) == before, None in sys.modules.values())
    """
    with python(code) as other:
        assert other.communicate(timeout=60)[0] == "False\nTrue False\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_optimizing_gives_its_memory_back_and_takes_less_than_four_times_the_vectors(folder):
    code = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from fashionclip.product import Product
        from fashionclip.store import StoreMeta, create_store

        def peak_mb():
            status = Path("/proc/self/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) / 1024

        store = create_store(sys.argv[1], StoreMeta("", "m", "f" * 32, 1024))
        rng = np.random.default_rng(0)
        with store.writer() as writer:
            for start in range(0, 60_000, 3_000):
                vectors = rng.standard_normal((3_000, 1024), dtype=np.float32)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                some = [Product(f"p{start + i}", "", None, i, {}) for i in range(3_000)]
                writer.upsert(some, vectors, [b"k" * 16] * 3_000)
            before = peak_mb()
            writer.optimize()
        print(peak_mb() - before)
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
    """
    with python(code, folder) as other:
        out, err = other.communicate(timeout=300)
    here, there = map(float, out.split())
    assert here < 30, err
    assert there < 4 * 60_000 * 1024 * 4 / 1e6, err
