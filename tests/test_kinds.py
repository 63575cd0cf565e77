"""A column's kind lives: one bad night does not spoil a catalogue's filters for good."""

import csv
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoded_images import image_bytes
from fashionclip import Index
from fashionclip.catalog import Catalog
from fashionclip.indexing import IndexReport, index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.store import Store, StoreMeta, create_store
from fashionclip.store.filters import parse_filter
from small_shop import draw

COUNTER = itertools.count()


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


@pytest.fixture(params=["memory", "lance", "postgres"])
def store(request, tmp_path, model) -> Store:
    uri = {"memory": f"memory://kinds-{next(COUNTER)}", "lance": str(tmp_path / "s.lance")}.get(
        request.param
    )
    if uri is None:
        uri = f"{request.getfixturevalue('postgres_uri')}&store=kinds-{next(COUNTER)}"
    made = create_store(uri, StoreMeta(uri, model.name, model.fingerprint, model.dim))
    yield made
    made.close()


def night(
    store: Store,
    folder: Path,
    model,
    name: str,
    cells: list[str],
    *,
    mapped=None,
    keep=99,
    **options,
) -> IndexReport:
    """Index a catalogue of one product for each cell of a column (or of two, with a tab between).

    Images are drawn up to product ``keep``; others are left as they are.
    """
    with (folder / "shop.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "image", *name.split("\t")])
        for i, cell in enumerate(cells):
            if i < keep:
                image = image_bytes(draw(["red", "blue", "green"][i % 3]))
                (folder / f"{i}.png").write_bytes(image)
            writer.writerow([f"p{i}", f"shirt {i}", f"{i}.png", *cell.split("\t")])
    catalog = Catalog.open(folder / "shop.csv", columns=mapped)
    return index_catalog(catalog, model, store, **options)


def count(store: Store, where: str) -> int:
    return len(Index(store).search(similar_to="p0", where=where)) if where else len(store)


def test_a_blank_night_leaves_the_kind_and_its_filters(store, tmp_path, model):
    night(store, tmp_path, model, "sale", ["9.9", "20", "12.5"])
    assert store.meta.columns["sale"] == "number"
    assert count(store, "sale < 15") == 1  # and p0, which is looked like
    blank = night(store, tmp_path, model, "sale", ["", "", ""])
    assert (store.meta.columns["sale"], count(store, "sale < 15")) == ("number", 0)
    assert blank.kind_changes == ()
    assert blank.updated == 3
    again = night(store, tmp_path, model, "sale", ["9.9", "20", "12.5"])
    assert (store.meta.columns["sale"], count(store, "sale < 15")) == ("number", 1)
    assert again.embedded == 0


def test_a_column_that_was_always_blank_is_not_stored(store, tmp_path, model):
    night(store, tmp_path, model, "stock", ["", " "])
    assert "stock" not in store.meta.columns
    night(store, tmp_path, model, "stock", ["3", ""])
    assert store.meta.columns["stock"] == "integer"


def test_one_word_widens_a_column_for_a_night_and_is_said(store, tmp_path, model):
    night(store, tmp_path, model, "stock", ["1", "2", "3"])
    wide = night(store, tmp_path, model, "stock", ["1", "2", "sold out"])
    assert store.meta.columns["stock"] == "string"
    assert wide.kind_changes == ("column 'stock': integer → string, because row 3 has 'sold out'",)
    narrow = night(store, tmp_path, model, "stock", ["1", "2", "3"])
    assert store.meta.columns["stock"] == "integer"
    assert narrow.kind_changes == ("column 'stock': string → integer",)
    assert count(store, "stock >= 2") == 2
    assert store.verify().damaged == ()


def test_a_word_among_prices_costs_only_itself(store, tmp_path, model):
    night(store, tmp_path, model, "sale", ["9.9", "20"])
    report = night(store, tmp_path, model, "sale", ["9.9", "on request", "12"])
    assert store.meta.columns["sale"] == "number"
    assert report.kind_changes == ()
    assert count(store, "sale < 15") == 1
    assert count(store, "sale is null") == 1


def test_a_product_that_stays_keeps_its_column_wide_and_it_is_said(store, tmp_path, model):
    night(store, tmp_path, model, "stock", ["1", "2", "sold out"])
    report = night(store, tmp_path, model, "stock", ["1", "2"], prune=False)
    assert store.meta.columns["stock"] == "string"
    assert report.kind_changes == (
        "column 'stock' stays string: all of its values in this catalogue fit integer, but those "
        "of products that it does not have do not",
    )


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [("price", "Price", {}), ("price", "Variant Price", {}),
     ("price", "worth", {"price": "worth"}), ("worth", "price", {}), ("PRICE", "price", {})],
)  # fmt: skip
def test_a_role_that_moves_to_another_column_takes_its_filters_along(
    store, tmp_path, model, first, second, options
):
    night(store, tmp_path, model, first, ["9.9", "20", "30"], mapped={"price": first})
    (tmp_path / "2.png").write_bytes(b"no image")  # keeps its row of last night
    moved = night(store, tmp_path, model, second, ["20", "9.5", "1"], mapped=options, keep=2)
    assert store.count(parse_filter("price < 10", store.meta.columns, store.meta.roles)) == 1
    assert store.count(parse_filter("price = 30", store.meta.columns, store.meta.roles)) == 1
    assert first not in store.meta.columns
    assert moved.kind_changes == (
        f"column '{first}' is removed: no product of the catalogue has a value in it",
    )
    assert store.verify().damaged == ()


def test_a_blank_column_does_not_hide_the_role_of_its_name(store, tmp_path, model):
    night(store, tmp_path, model, "price", ["9.9", "20"])
    night(store, tmp_path, model, "price\tworth", ["\t5", "\t20"], mapped={"price": "worth"})
    assert store.count(parse_filter("price < 10", store.meta.columns, store.meta.roles)) == 1


def test_kept_products_take_the_names_of_the_catalogue(store, tmp_path, model):
    night(store, tmp_path, model, "price\tstock", ["9.9\t1", "20\t2", "8\t3"])
    night(store, tmp_path, model, "Variant Price", ["7"], prune=False)
    assert store.count(parse_filter("price < 10", store.meta.columns, store.meta.roles)) == 2
    assert store.meta.columns.keys() == {"id", "title", "image", "stock", "Variant Price"}
    night(store, tmp_path, model, "Variant Price", ["7"])
    assert "stock" not in store.meta.columns


CELLS = st.sampled_from(
    ["", "1", "20", "2.5", "x", "true", "007", "1,5", "31.12.2026", "n/a", "-3"]
)
NIGHTS = st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=2, max_size=4)


@given(NIGHTS)
@settings(max_examples=15)
def test_after_any_nights_an_index_is_what_the_last_one_alone_makes(
    tmp_path_factory, model, nights
):
    folder = tmp_path_factory.getbasetemp()
    kept, fresh = (
        create_store(uri, StoreMeta(uri, model.name, model.fingerprint, model.dim))
        for uri in (f"memory://kinds-{next(COUNTER)}", f"memory://kinds-{next(COUNTER)}")
    )
    for cells in nights:
        night(kept, folder, model, "stock", cells)
    night(fresh, folder, model, "stock", nights[-1])
    left, right = (
        [hit.columns.get("stock") for hit in store.list_hits(k=9)] for store in (kept, fresh)
    )
    assert left == right
    if any(nights[-1]):
        assert kept.meta.columns["stock"] == fresh.meta.columns["stock"]
    kept.close()
    fresh.close()
