"""Products put in and taken out by several at once: written together, and never one for another."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fashionclip.errors import StoreFullError, StoreLockedError
from fashionclip.index import Index, pictures
from fashionclip.model import FashionCLIP
from fashionclip.serve import writes
from fashionclip.serve.images import ImageDecoder
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.writes import NewProduct, StoreWriter
from small_shop import draw, encoded, index_shop, write_catalog

PICTURE = encoded(draw("purple", "shoe"))


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def whole(tiny_checkpoint, tmp_path_factory):
    table = write_catalog(tmp_path_factory.mktemp("catalog"))
    index_shop(table, tiny_checkpoint, table.parent / "shop.lance")
    return table.parent / "shop.lance"


@pytest.fixture
def index(whole, tmp_path):
    index = InMemoryIndex(shutil.copytree(whole, tmp_path / "s"), max_batch=8, metrics=Metrics())
    yield index
    index.close()


@pytest.fixture
def writer(index, model):
    decoder = ImageDecoder(model.checkpoint.preprocess, max_pixels=10_000)
    writer = StoreWriter(index, model.engine, decoder, Metrics())
    yield writer
    writer.close()


def new(product_id, picture=PICTURE, **columns):
    return NewProduct(product_id, picture, columns)


def soon(seconds=20.0):
    return time.monotonic() + seconds


def test_writes_that_arrive_together_become_one_version(writer, index):
    with ThreadPoolExecutor(16) as pool:
        with index.writing(timeout_s=5.0):
            writing = [pool.submit(writer.put, [new(f"x{i}", year=i)], soon()) for i in range(16)]
            end = soon()
            while writer.n_waiting < 8:  # of which one batch has its hands full
                assert time.monotonic() < end
                time.sleep(0.01)
            before = index.index.queries.version
            assert index.now.count == 18
        assert [one.result() for one in writing] == [[]] * 16
    assert index.now.count == Index.open(index.index.path).count == 34
    assert index.index.queries.version - before <= 4
    assert index.now.get("x7").columns["year"] == 7


def test_of_several_changes_to_one_product_the_last_counts(writer, index):
    assert writer.put([new("x", year=1), new("y", year=1), new("x", year=2)], soon()) == []
    assert index.now.get("x").columns["year"] == 2
    assert writer.remove(["x", "x", "nobody", "y"], soon()) == 2
    assert index.now.get("x") is None
    assert not list((index.index.path / pictures.FOLDER).iterdir())


def test_of_two_that_make_one_column_the_first_decides_what_it_holds(writer, index):
    refusals = writer.put([new("a", size=3), new("b", size="M"), new("c", size=4)], soon())
    assert [one.product_id for one in refusals] == ["b"]
    assert index.columns["size"] == "integer"
    with ThreadPoolExecutor(2) as pool:
        with index.writing(timeout_s=5.0):  # so that both are looked at before either is stored
            one = pool.submit(writer.put, [new("d", width=1)], soon())
            taken_up_together = time.monotonic() + 5
            other = pool.submit(writer.put, [new("e", width="wide")], soon())
            while not writer.n_waiting and time.monotonic() < taken_up_together:
                time.sleep(0.01)  # of the two, mostly, one is in hand and the other waits
        outcomes = [one.result(), other.result()]
    assert sorted(len(outcome) for outcome in outcomes) == [0, 1]
    assert index.columns["width"] in {"integer", "string"}


def test_a_write_that_fails_stores_nothing_and_the_next_one_does(writer, index, monkeypatch):
    def full(*_):
        raise StoreFullError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "keep", full)
        with pytest.raises(StoreFullError):
            writer.put([new("x")], soon())
    assert index.now.get("x") is None
    assert writer.put([new("x")], soon()) == []
    assert index.now.get("x") is not None


def test_who_has_waited_its_time_waits_no_longer(writer, index):
    other = Index.open(index.index.path)
    with other.writing(timeout_s=5.0), ThreadPoolExecutor(6) as pool:
        began = time.monotonic()
        writing = [pool.submit(writer.put, [new(f"x{i}")], soon(1.0)) for i in range(6)]
        for one in writing:
            with pytest.raises(StoreLockedError):
                one.result()
        assert time.monotonic() - began < 10
    assert writer.put([new("x")], soon()) == []


def test_tidying_that_fails_takes_nothing_back(writer, index, monkeypatch):
    def full(*_, **__):
        raise StoreFullError("the disk is full")

    monkeypatch.setattr(writes, "CHANGES_PER_OPTIMIZE", 2)
    monkeypatch.setattr(Index, "optimize", full)
    assert writer.put([new("x"), new("y"), new("z")], soon()) == []
    monkeypatch.undo()
    monkeypatch.setattr(writes, "CHANGES_PER_OPTIMIZE", 2)
    assert writer.put([new("u"), new("v")], soon()) == []
    assert {"x", "y", "z", "u", "v"} <= set(Index.open(index.index.path).iter_ids())
    assert index.now.version == index.index.queries.version


def test_a_product_that_another_program_just_wrote_is_taken_out(writer, index, model):
    other = Index.open(index.index.path)
    for i in range(8):  # each within the milliseconds that a query's view may be old
        assert index.index.queries.version
        other.remove([f"P{i:02d}"])
        assert writer.remove([f"P{i:02d}"], soon()) == 0
    assert writer.remove(["P00", "P08"], soon()) == 1
    assert index.now.count == 9
