"""Writes of several clients at once: written together, by the catalogue's own columns."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fashionclip.errors import ImageFetchError, StoreFullError, StoreLockedError
from fashionclip.model import FashionCLIP
from fashionclip.product import Roles
from fashionclip.serve import writes
from fashionclip.serve.images import ImageDecoder
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.writes import Deletion, NewProduct, Patch, StoreWriter
from fashionclip.store import open_store
from fashionclip.store.blobs import FolderBlobs
from small_shop import draw, encoded

IMAGE = encoded(draw("purple", "shoe"))


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(str(tiny_checkpoint))


@pytest.fixture
def path(indexed_shop, tmp_path):
    return shutil.copytree(indexed_shop, tmp_path / "s")


@pytest.fixture
def index(path):
    index = InMemoryIndex(path, metrics=Metrics())
    yield index
    index.close()


@pytest.fixture
def writer(index, model):
    decoder = ImageDecoder(model.checkpoint.preprocess, max_pixels=10_000)
    writer = StoreWriter(index, model.engine, decoder, Metrics())
    yield writer
    writer.close()


def new(product_id, image=IMAGE, *, add_columns=False, **columns):
    return NewProduct(product_id, image, columns, add_columns=add_columns)


def put(writer, products, deadline):
    """Store products; those that were rejected."""
    return [one for one in writer.write(products, deadline) if one.status == "rejected"]


def remove(writer, product_ids, deadline):
    """Delete products; how many were stored."""
    outcomes = writer.write([Deletion(name) for name in product_ids], deadline)
    return sum(one.status == "deleted" for one in outcomes)


def soon(seconds=20.0):
    return time.monotonic() + seconds


def stored(index, product_id):
    """The columns of a product; None if it is not stored."""
    hit = index.snapshot.hit(product_id)
    return None if hit is None else hit.columns


def test_writes_that_arrive_together_are_written_together(writer, index, path):
    with ThreadPoolExecutor(16) as pool:
        with index.writing(timeout_s=5.0):
            pending = [pool.submit(put, writer, [new(f"x{i}", year=i)], soon()) for i in range(16)]
            end = soon()
            while writer.n_waiting < 8:  # another batch holds the rest
                assert time.monotonic() < end
                time.sleep(0.01)
            before = open_store(path).revision
            assert len(index) == 18
        assert [one.result() for one in pending] == [[]] * 16
    assert len(index) == len(open_store(path)) == 34
    assert open_store(path).revision - before <= 8
    assert stored(index, "x7")["year"] == 7


def test_of_several_changes_to_one_product_the_last_counts(writer, index):
    assert put(writer, [new("x", year=1), new("y", year=1), new("x", year=2)], soon()) == []
    assert stored(index, "x")["year"] == 2
    location = index.snapshot.image("x")
    assert index.blobs.read(location) == IMAGE
    assert remove(writer, ["x", "x", "nobody", "y"], soon()) == 2
    assert stored(index, "x") is None
    with pytest.raises(ImageFetchError):
        index.blobs.read(location)


def test_a_new_image_takes_the_place_of_the_old_one(writer, index):
    other = encoded(draw("green", "shirt"))
    put(writer, [new("x")], soon())
    old = index.snapshot.image("x")
    put(writer, [new("x", other)], soon())
    assert index.blobs.read(index.snapshot.image("x")) == other
    with pytest.raises(ImageFetchError):
        index.blobs.read(old)


# columns


def test_keys_are_column_names_or_roles(writer, index):
    with index.writing(timeout_s=5.0) as store:
        store.set_columns({"Product name": "string", "cost": "number"})
        store.set_roles(Roles(id="id", title="Product name", brand="cost", category="category"))
        index.take_in([])
    assert put(writer, [new("x", title="Linen shirt", brand=9, category="shirt")], soon()) == []
    found = stored(index, "x")
    assert found["title"] == "Linen shirt"  # the catalogue's own column of this name
    assert found["cost"] == 9
    assert found["id"] == "x"
    hat = NewProduct("y", IMAGE, {"Product name": "Hat", "brand": None})
    assert put(writer, [hat], soon()) == []
    assert stored(index, "y")["Product name"] == "Hat"


def test_one_column_under_two_names_is_an_error(writer, index):
    with index.writing(timeout_s=5.0) as store:
        store.set_columns({"cost": "number"})
        store.set_roles(Roles(id="id", title="title", brand="cost"))
        index.take_in([])
    (twice,) = put(writer, [new("z", cost=3, brand=4)], soon())
    assert "the column cost is given twice" in twice.reason


def test_an_unknown_column_is_refused_by_name_unless_it_may_be_added(writer, index):
    roles = index.meta.roles
    (refused,) = put(writer, [new("x", colur="red"), new("y", year=1)], soon())
    assert refused.product_id == "x"
    assert "no column 'colur'; did you mean 'colour'? (add_columns=true" in refused.reason
    assert "colur" not in index.meta.columns
    assert put(writer, [new("x", colur="red", add_columns=True)], soon()) == []
    assert stored(index, "x")["colur"] == "red"
    assert index.meta.roles == roles


def test_the_hint_for_an_unknown_column_is_one_that_can_be_used(writer, index):
    with index.writing(timeout_s=5.0) as store:
        store.set_columns({"cost": "number"})
        store.set_roles(Roles(id="id", title="title", price=None, brand="cost"))
        index.take_in([])
    group, title = put(writer, [new("x", group="g"), new("y", TITLE="t")], soon())
    assert "did you mean" not in group.reason  # the role is not filled in this catalogue
    assert "no column 'TITLE'; did you mean 'title'?" in title.reason


def test_the_column_of_the_id_agrees_with_the_id(writer, index):
    (wrong,) = put(writer, [new("x", id="other")], soon())
    assert "the column id says 'other': leave it out, or give the same id" in wrong.reason
    assert put(writer, [new("x", id="x"), new("y", id=None)], soon()) == []
    assert [stored(index, name)["id"] for name in ("x", "y")] == ["x", "y"]


def test_a_write_never_changes_how_other_products_are_shown(writer, index):
    """A column with the usual name of a role does not take the role over."""
    put(writer, [new("x", name="Shirt", product_title="Shirt", add_columns=True)], soon())
    assert index.meta.roles.title == "title"
    assert put(writer, [new("y", brand="Acme", add_columns=True)], soon()) == []
    assert index.meta.roles.brand == "brand"  # no column had this role
    assert index.meta.roles.title == "title"


def test_the_first_product_with_a_new_column_decides_its_kind(writer, index):
    sizes = [("a", 3), ("b", "M"), ("c", 4)]
    rejected = put(writer, [new(name, size=size, add_columns=True) for name, size in sizes], soon())
    assert [one.product_id for one in rejected] == ["b"]
    assert index.meta.columns["size"] == "integer"
    with ThreadPoolExecutor(2) as pool:
        with index.writing(timeout_s=5.0):  # so that both are checked before either is stored
            one = pool.submit(put, writer, [new("d", width=1, add_columns=True)], soon())
            end = time.monotonic() + 5
            other = pool.submit(put, writer, [new("e", width=True, add_columns=True)], soon())
            while not writer.n_waiting and time.monotonic() < end:
                time.sleep(0.01)  # mostly, one of the two is in a batch and the other waits
        # whichever of the two comes first, the other's kind does not fit
        results = [one.result(), other.result()]
    assert sorted(len(result) for result in results) == [0, 1]
    assert index.meta.columns["width"] in {"integer", "boolean"}


# trouble


def test_a_write_that_fails_stores_nothing_and_the_next_one_succeeds(writer, index, monkeypatch):
    def full(*_):
        raise StoreFullError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(FolderBlobs, "put", full)
        with pytest.raises(StoreFullError):
            put(writer, [new("x")], soon())
    assert stored(index, "x") is None
    assert put(writer, [new("x")], soon()) == []
    assert stored(index, "x") is not None


def test_a_client_waits_for_another_writer_until_its_deadline(writer, path):
    other = open_store(path)
    with other.writer(timeout_s=5.0), ThreadPoolExecutor(6) as pool:
        started = time.monotonic()
        pending = [pool.submit(put, writer, [new(f"x{i}")], soon(1.0)) for i in range(6)]
        for one in pending:
            with pytest.raises(StoreLockedError):
                one.result()
        assert time.monotonic() - started < 10
    assert put(writer, [new("x")], soon()) == []


def test_what_was_written_stays_if_compacting_fails(writer, index, path, monkeypatch):
    def full(*_, **__):
        raise StoreFullError("the disk is full")

    monkeypatch.setattr(writes, "CHANGES_PER_OPTIMIZE", 2)
    with index.writing(timeout_s=5.0) as store:
        writer_type = type(store)
    with monkeypatch.context() as patch:
        patch.setattr(writer_type, "optimize", full)
        assert put(writer, [new("x"), new("y"), new("z"), new("v")], soon()) == []
    assert put(writer, [new("u"), new("w")], soon()) == []
    assert {"x", "y", "z", "u", "v", "w"} <= {
        name for rows in open_store(path).scan(vectors=False) for name in rows.ids
    }
    assert index.revision == open_store(path).revision


def test_a_product_that_another_program_just_deleted_does_not_count(writer, index, path):
    other = open_store(path)
    for i in range(8):  # each before the follower can have seen it
        with other.writer() as writing:
            writing.delete([f"P{i:02d}"])
        assert remove(writer, [f"P{i:02d}"], soon()) == 0
    assert remove(writer, ["P00", "P08"], soon()) == 1
    assert len(index) == 9


# patches


def one(writer, change):
    (outcome,) = writer.write([change], soon())
    return outcome


def test_a_patch_changes_columns_and_nothing_else(writer, index):
    put(writer, [new("x", title="Red shirt", price=9.5)], soon())
    before = index.fetch(["x"])
    assert one(writer, Patch("x", {"price": 7.25, "title": None})).status == "patched"
    after = index.fetch(["x"])
    assert (
        stored(index, "x") | {"price": 9.5, "title": "Red shirt"} == before.columns.to_pylist()[0]
    )
    assert stored(index, "x")["price"] == 7.25
    assert stored(index, "x")["title"] is None
    assert (after.vectors == before.vectors).all()
    assert (after.images, after.content_keys) == (before.images, before.content_keys)
    assert index.blobs.read(after.images[0]) == IMAGE


def test_a_patched_product_is_found_by_its_new_words_only(writer, index):
    put(writer, [new("x", title="Kimono")], soon())
    assert one(writer, Patch("x", {"title": "Sarong"})).status == "patched"
    assert [hit.product_id for hit in index.text_search("sarong", k=3)] == ["x"]
    assert index.text_search("kimono", k=3) == []


def test_a_patch_keeps_a_caption_that_was_given_and_builds_others_anew(writer, index):
    given = NewProduct("given", IMAGE, {"title": "A"}, caption="by hand")
    put(writer, [given, new("built", title="A")], soon())
    writer.write([Patch("given", {"title": "B"}), Patch("built", {"title": "B"})], soon())
    captions = index.fetch(["given", "built"])
    assert dict(zip(captions.ids, captions.captions, strict=True)) == {
        "given": "by hand",
        "built": "B",
    }
    assert one(writer, Patch("given", {}, caption="anew")).status == "patched"
    assert index.fetch(["given"]).captions == ["anew"]


def test_changes_of_one_product_count_in_their_order(writer, index):
    outcomes = writer.write(
        [
            Patch("x", {"price": 1.0}),
            new("x", price=2.0),
            Patch("x", {"price": 3.0}),
            Patch("x", {"title": "Shirt"}),
            Deletion("x"),
            Patch("x", {"price": 4.0}),
            Deletion("x"),
            new("x", price=5.0),
            Patch("x", {"price": "dear"}),
        ],
        soon(),
    )
    assert [one.status for one in outcomes] == [
        *("missing", "stored", "patched", "patched", "deleted", "missing", "missing", "stored"),
        "rejected",
    ]
    assert "the column price holds numbers, not 'dear'" in outcomes[-1].reason
    assert stored(index, "x")["price"] == 5.0
    assert stored(index, "x")["title"] is None


def test_a_patch_of_an_unknown_column_changes_nothing(writer, index):
    put(writer, [new("x", price=1.0)], soon())
    for value in (3, None):
        outcome = one(writer, Patch("x", {"prise": value}))
        assert outcome.status == "rejected"
        assert "did you mean 'price'?" in outcome.reason
    assert one(writer, Patch("x", {"stock": 4}, add_columns=True)).status == "patched"
    assert stored(index, "x")["stock"] == 4
