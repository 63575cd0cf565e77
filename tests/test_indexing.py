"""A catalogue is indexed once, whatever interrupts it, and later only what changed."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip import encoding, indexing
from fashionclip.catalog import Catalog
from fashionclip.errors import (
    CatalogError,
    MissingSourceError,
    ModelMismatchError,
    StoreError,
    StoreFormatError,
)
from fashionclip.indexing import IndexProgress, IndexReport, index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.product import Hit, Roles
from fashionclip.store import Store, StoreMeta, create_store, open_store, read_meta
from fashionclip.store.filters import parse_filter

Row = dict[str, str]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def png_bytes(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST)
    return image_bytes(image, "PNG")


def shop(folder: Path, n: int) -> list[Row]:
    """Write the images of n products, and return the rows of their table."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        (folder / "photos" / f"{i}.png").write_bytes(png_bytes(i))
        title = f"dress number {i}"
        rows.append(
            {
                "id": f"p{i}",
                "title": title,
                "image": f"photos/{i}.png",
                "price": str(i),
                "tone": "x",
            }
        )
    return rows


def table(folder: Path, rows: list[Row]) -> Path:
    path = folder / "products.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def index_rows(folder: Path, rows: list[Row], model: FashionCLIP, **options) -> IndexReport:
    return index_catalog(Catalog.open(table(folder, rows)), model, folder / "shop.lance", **options)


@pytest.mark.parametrize("options", [{"vectors": "quarter"}, {"batch_size": 0}])
@pytest.mark.usefixtures("unchecked_types")
def test_an_argument_that_is_wrong_leaves_no_store(tmp_path, model, options):
    rows = shop(tmp_path, 2)
    with pytest.raises(ValueError, match=r"is 'quarter'; a store keeps them as float, half|is 0"):
        index_rows(tmp_path, rows, model, **options)
    assert not (tmp_path / "shop.lance").exists()


def test_a_store_keeps_the_form_of_vectors_that_it_was_made_with(tmp_path, model):
    rows = shop(tmp_path, 4)
    index_rows(tmp_path, rows, model, vectors="half")
    store = open_store(tmp_path / "shop.lance")
    (found,) = store.scan()
    assert store.meta.vectors == "half"
    assert (found.vectors.astype(np.float16) == found.vectors).all()
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1, abs=1e-3)
    assert index_rows(tmp_path, [*rows[:3], {**rows[3], "tone": "y"}], model).updated == 1
    assert store.meta.vectors == "half"
    assert store.verify().damaged == ()
    message = r"keeps its vectors as half, not binary: index the catalogue into another place, or"
    with pytest.raises(StoreError, match=message):
        index_rows(tmp_path, rows, model, vectors="binary")


def rejects(folder: Path) -> list[dict]:
    lines = (folder / "shop.lance" / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def content(store: Path) -> dict[str, tuple[np.ndarray, dict]]:
    """The content of an index, by id."""
    found: dict[str, tuple[np.ndarray, dict]] = {}
    for rows in open_store(store).scan():
        columns = rows.columns.to_pylist()
        found |= dict(zip(rows.ids, zip(rows.vectors, columns, strict=True), strict=True))
    return found


def columns_of(store: Store, product_id: str) -> dict:
    (row,) = store.fetch([product_id]).columns.to_pylist()
    return row


def nearest(store: Store, vector: np.ndarray, *, k: int, where: str | None = None) -> list[Hit]:
    condition = where and parse_filter(where, store.meta.columns, store.meta.roles)
    return store.nearest(vector[None], k=k, where=condition or None)[0]


def assert_same_content(one: Path, other: Path) -> None:
    assert_same_content_of(content(one), content(other))


def assert_same_content_of(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name, (vector, columns) in left.items():
        np.testing.assert_allclose(vector, right[name][0], atol=1e-5)
        assert columns == right[name][1]


def test_a_catalogue_goes_in_and_each_image_finds_its_product(tmp_path, model):
    rows = shop(tmp_path, 20)
    report = index_rows(tmp_path, rows, model)
    assert (report.stored, report.embedded, report.count, report.rejected) == (20, 20, 20, 0)
    index = open_store(tmp_path / "shop.lance")
    vectors = model.encode_images([png_bytes(i) for i in range(20)])
    for i, vector in enumerate(vectors):
        hit = nearest(index, vector, k=1)[0]
        assert (hit.product_id, hit.columns["price"]) == (f"p{i}", i)
    assert index.text_search("number 7", k=1)[0].product_id == "p7"
    assert index.verify().damaged == ()
    assert rejects(tmp_path) == []
    roles = Roles(id="id", title="title", image="image", price="price")
    assert index.meta.roles == roles


def test_a_second_run_encodes_nothing(tmp_path, model):
    rows = shop(tmp_path, 20)
    index_rows(tmp_path, rows, model)
    before = content(tmp_path / "shop.lance")
    report = index_rows(tmp_path, rows, model)
    assert (report.unchanged, report.embedded, report.stored, report.updated) == (20, 0, 0, 0)
    assert content(tmp_path / "shop.lance").keys() == before.keys()


def test_only_what_changed_is_encoded_or_written(tmp_path, model):
    rows = shop(tmp_path, 20)
    index_rows(tmp_path, rows, model)
    rows[3]["price"] = "99.5"
    rows[4]["title"] = "a purple kimono"
    (tmp_path / rows[5]["image"]).write_bytes(png_bytes(500))
    (tmp_path / "photos" / "moved.png").write_bytes(png_bytes(6))
    rows[6]["image"] = "photos/moved.png"
    rows.append(rows[0] | {"id": "new", "image": rows[1]["image"]})
    report = index_rows(tmp_path, rows, model)
    assert (report.stored, report.embedded, report.count) == (1, 2, 21)
    index = open_store(tmp_path / "shop.lance")
    assert index.meta.columns["price"] == "number"
    assert columns_of(index, "p3")["price"] == 99.5
    assert index.text_search("kimono", k=1)[0].product_id == "p4"
    assert "moved.png" in index.fetch(["p6"]).images[0]
    expected = model.encode_images([png_bytes(500)])
    np.testing.assert_allclose(index.fetch(["p5"]).vectors, expected, atol=1e-3)
    fresh = tmp_path / "fresh.lance"
    index_catalog(Catalog.open(tmp_path / "products.csv"), model, fresh)
    assert_same_content(tmp_path / "shop.lance", fresh)
    again = index_rows(tmp_path, rows, model)
    assert (again.unchanged, again.embedded, again.updated) == (21, 0, 0)


def test_a_new_price_is_written_without_the_model(tmp_path, model):
    rows = shop(tmp_path, 10)
    index_rows(tmp_path, rows, model)
    for row in rows:
        row["price"] = str(int(row["price"]) + 1)
    report = index_rows(tmp_path, rows, model)
    assert (report.updated, report.embedded) == (10, 0)


def test_products_that_left_the_catalogue_leave_the_index(tmp_path, model):
    rows = shop(tmp_path, 10)
    index_rows(tmp_path, rows, model)
    kept = index_rows(tmp_path, rows[:6], model, prune=False)
    assert (kept.removed, kept.count) == (0, 10)
    report = index_rows(tmp_path, rows[:6], model)
    assert (report.removed, report.count) == (4, 6)


def test_a_new_column_comes_in_later(tmp_path, model):
    rows = shop(tmp_path, 5)
    index_rows(tmp_path, rows, model)
    report = index_rows(tmp_path, [row | {"baseColour": "Blue"} for row in rows], model)
    assert (report.updated, report.embedded) == (5, 0)
    index = open_store(tmp_path / "shop.lance")
    (vector,) = index.fetch(["p0"]).vectors
    assert len(nearest(index, vector, k=10, where="baseColour = 'Blue'")) == 5


@pytest.fixture
def broken_rows(tmp_path: Path) -> list[Row]:
    rows = shop(tmp_path, 12)
    photos = tmp_path / "photos"
    (photos / "1.png").unlink()
    (photos / "2.png").write_bytes(b"")
    (photos / "3.png").write_bytes(png_bytes(3)[:60])
    (photos / "4.png").write_text("this is not a picture")
    rows[5]["image"] = ""
    rows[7]["id"] = "p6"
    return rows


def test_what_cannot_be_used_is_a_line_with_row_image_and_reason(tmp_path, model, broken_rows):
    report = index_rows(tmp_path, broken_rows, model)
    assert (report.stored, report.rejected, report.count) == (6, 6, 6)
    lines = sorted(rejects(tmp_path), key=lambda line: line["row"])
    assert [line["row"] for line in lines] == [2, 3, 4, 5, 6, 8]
    assert [line["id"] for line in lines] == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert all(set(line) == {"row", "id", "image", "reason"} for line in lines)
    assert all(line["reason"] and "\n" not in line["reason"] for line in lines)
    assert lines[0]["image"].endswith("1.png")
    assert set(content(tmp_path / "shop.lance")) == {"p0", "p6"} | {f"p{i}" for i in range(8, 12)}


@pytest.mark.parametrize("what_is_left", ["nothing", "an empty folder"])
def test_a_folder_of_images_that_vanishes_ends_the_run_and_the_next_one_goes_on(
    tmp_path, model, monkeypatch, what_is_left
):
    monkeypatch.setattr(encoding, "READ_AHEAD", 1)
    rows = shop(tmp_path, 30)
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"

    def unmount(progress: IndexProgress) -> None:
        if progress.rows == 5 and not elsewhere.exists():
            photos.rename(elsewhere)
            if what_is_left == "an empty folder":
                photos.mkdir()

    message = f"{photos} has lost all of its images: bring them back, then run this again"
    with pytest.raises(MissingSourceError, match=message):
        index_rows(tmp_path, rows, model, batch_size=1, progress=unmount)
    n_kept = len(open_store(tmp_path / "shop.lance"))
    assert 5 <= n_kept < 30
    if photos.exists():
        photos.rmdir()
    elsewhere.rename(photos)
    report = index_rows(tmp_path, rows, model)
    assert (report.count, report.embedded, report.rejected) == (30, 30 - n_kept, 0)


def test_a_catalogue_of_pictures_whose_folder_vanishes_removes_nothing(tmp_path, model):
    for name in "abc":
        (tmp_path / "shop" / name).mkdir(parents=True)
        (tmp_path / "shop" / name / "1.png").write_bytes(png_bytes(ord(name)))
    store = tmp_path / "shop.lance"
    catalog = Catalog.open(tmp_path / "shop")
    assert index_catalog(catalog, model, store).count == 3
    rows = iter(catalog)
    next(rows)
    (tmp_path / "shop").rename(tmp_path / "elsewhere")
    with pytest.raises(CatalogError, match="is the folder still there"):
        list(rows)
    with pytest.raises(CatalogError, match="is the folder still there"):
        index_catalog(catalog, model, store)
    assert len(open_store(store)) == 3


def test_rejects_are_mended_by_the_next_run(tmp_path, model, broken_rows):
    index_rows(tmp_path, broken_rows, model)
    report = index_rows(tmp_path, shop(tmp_path, 12), model)
    assert (report.stored, report.unchanged, report.rejected) == (6, 6, 0)
    assert rejects(tmp_path) == []


def test_an_image_that_went_bad_does_not_cost_the_stored_product(tmp_path, model):
    rows = shop(tmp_path, 6)
    index_rows(tmp_path, rows, model)
    (tmp_path / "photos" / "2.png").write_bytes(b"")
    (tmp_path / "photos" / "3.png").unlink()
    report = index_rows(tmp_path, rows, model)
    assert (report.rejected, report.removed, report.count) == (2, 0, 6)


def test_a_catalogue_of_rejects_removes_nothing(tmp_path, model):
    index_rows(tmp_path, shop(tmp_path, 6), model)
    others = [
        row | {"id": f"q{i}", "image": "nowhere.png"} for i, row in enumerate(shop(tmp_path, 3))
    ]
    report = index_rows(tmp_path, others, model)
    assert (report.rejected, report.removed, report.count) == (3, 0, 6)


def test_another_models_index_is_left_alone(tmp_path, model, tiny_checkpoint):
    rows = shop(tmp_path, 3)
    meta = StoreMeta("", "theirs", "0" * 16, model.dim)
    create_store(tmp_path / "shop.lance", meta)
    with pytest.raises(ModelMismatchError, match=r"the model 'theirs' .*, not of .*tiny"):
        index_rows(tmp_path, rows, model)
    assert len(open_store(tmp_path / "shop.lance")) == 0


def test_progress_counts_the_rows_up_to_the_last(tmp_path, model, broken_rows):
    seen: list[IndexProgress] = []
    index_rows(tmp_path, broken_rows, model, progress=seen.append, batch_size=2)
    rows = [state.rows for state in seen]
    assert rows == sorted(rows)
    assert (rows[-1], seen[-1].embedded, seen[-1].rejected) == (12, 6, 6)


def index_parquet(folder: Path, cells: dict[str, bytes], model: FashionCLIP) -> IndexReport:
    names, images = list(cells), list(cells.values())
    pq.write_table(pa.table({"id": names, "image": images}), folder / "products.parquet")
    return index_catalog(
        Catalog.open(folder / "products.parquet"), model, folder / "shop.lance", wait_s=0.0
    )


def kept(folder: Path) -> list[bytes]:
    places = (folder / "shop.lance" / "images").rglob("*")
    return sorted(place.read_bytes() for place in places if place.is_file())


def test_images_that_lie_in_the_table_are_kept_with_their_product_and_go_with_it(tmp_path, model):
    cells = {f"p{i}": png_bytes(i) for i in range(4)}
    report = index_parquet(tmp_path, cells | {"broken": b"no picture"}, model)
    assert (report.stored, report.rejected) == (4, 1)
    assert rejects(tmp_path)[0]["image"] is None
    assert kept(tmp_path) == sorted(cells.values())
    index = open_store(tmp_path / "shop.lance")
    rows = index.fetch(list(cells))
    for name, location in zip(rows.ids, rows.images, strict=True):
        assert index.blobs.read(location) == cells[name]

    again = index_parquet(tmp_path, cells, model)
    assert (again.unchanged, again.embedded, again.updated) == (4, 0, 0)

    del cells["p0"]
    cells["p1"] = png_bytes(11)
    report = index_parquet(tmp_path, cells, model)
    assert (report.removed, report.updated, report.embedded, report.unchanged) == (1, 1, 1, 2)
    assert kept(tmp_path) == sorted(cells.values())


def test_a_kept_image_that_is_gone_comes_back(tmp_path, model):
    cells = {"a": png_bytes(1), "b": png_bytes(2)}
    index_parquet(tmp_path, cells, model)
    shutil.rmtree(tmp_path / "shop.lance" / "images")
    assert index_parquet(tmp_path, cells, model).unchanged == 2
    assert kept(tmp_path) == sorted(cells.values())


def test_a_damaged_vector_is_embedded_again_by_the_run_after_it_was_met(tmp_path, model):
    rows = shop(tmp_path, 6)
    index_rows(tmp_path, rows, model)
    index = open_store(tmp_path / "shop.lance")
    table = lance.dataset(str(tmp_path / "shop.lance" / "products.lance"))
    table.update({"_crc": "1"}, where="_id = 'p2'")
    assert index.verify().damaged == ("p2",)
    rows[2]["price"] = "77"
    report = index_rows(tmp_path, rows, model)
    assert report.rejected == 1
    assert rejects(tmp_path)[0]["reason"] == (
        "its stored vector was damaged and is removed: index again"
    )
    report = index_rows(tmp_path, rows, model)
    assert (report.stored, report.rejected, index.verify().damaged) == (1, 0, ())


def test_a_store_of_any_kind_can_be_indexed_into(tmp_path, model):
    path = table(tmp_path, shop(tmp_path, 6))
    report = index_catalog(
        Catalog.open(path), model, "memory://any-kind", rejects=tmp_path / "rejects.jsonl"
    )
    store = open_store("memory://any-kind")
    assert (report.stored, report.rejects_path, len(store)) == (6, tmp_path / "rejects.jsonl", 6)
    again = index_catalog(Catalog.open(path), model, store)
    assert (again.unchanged, again.embedded, again.rejects_path) == (6, 0, None)
    store.close()


def test_an_index_of_the_older_format_is_upgraded_and_keeps_its_vectors(tmp_path, model):
    rows = shop(tmp_path, 8)
    index_rows(tmp_path, rows, model)
    folder = tmp_path / "shop.lance"
    before = content(folder)
    manifest = json.loads((folder / "index.json").read_text())
    manifest |= {"format": 1, "created": "2026-01-31T12:00:00+00:00"}
    (folder / "index.json").write_text(json.dumps(manifest))
    (folder / "pictures" / "0123").mkdir(parents=True)
    (folder / "pictures" / "0123" / "4567").write_bytes(b"of an older product")
    message = r"older fashionclip: run 'fashionclip index CATALOG --into .*vectors are kept"
    with pytest.raises(StoreFormatError, match=message):
        open_store(folder)
    with pytest.raises(StoreFormatError, match=message):
        read_meta(folder)  # what "fashionclip serve" asks before it starts a worker
    report = index_rows(tmp_path, rows, model)
    assert (report.was_upgraded, report.embedded, report.count) == (True, 0, 8)
    assert open_store(folder).meta.roles.title == "title"
    assert not list(folder.glob("pictures"))
    assert not kept(tmp_path)
    assert_same_content_of(before, content(folder))
    assert not index_rows(tmp_path, rows, model).was_upgraded


def test_many_batches_are_as_good_as_one(tmp_path, model, monkeypatch):
    rows = shop(tmp_path, 30)
    index_rows(tmp_path, rows, model)
    monkeypatch.setattr(indexing, "ROWS_PER_WRITE", 4)
    monkeypatch.setattr(indexing, "READ_AHEAD", 3)
    monkeypatch.setattr(indexing, "ROWS_PER_OPTIMIZE", 8)
    monkeypatch.setattr("fashionclip.store.lance.upkeep.APPROXIMATE_FROM", 10)
    monkeypatch.setattr("fashionclip.store.lance.upkeep.MIN_UNINDEXED", 5)
    other = tmp_path / "other.lance"
    report = index_catalog(
        Catalog.open(tmp_path / "products.csv"), model, other, batch_size=3, workers=2
    )
    assert report.stored == 30
    assert open_store(other).info().is_approximate
    assert_same_content(tmp_path / "shop.lance", other)


def test_what_was_encoded_is_stored_when_the_user_breaks_off(tmp_path, model):
    rows = shop(tmp_path, 40)

    def interrupt(state: IndexProgress) -> None:
        if state.embedded == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_rows(tmp_path, rows, model, progress=interrupt, batch_size=2)
    assert len(open_store(tmp_path / "shop.lance")) == 10
    report = index_rows(tmp_path, rows, model)
    assert (report.stored, report.unchanged) == (30, 10)


RUN = """
    import sys, time
    from fashionclip import indexing
    from fashionclip.catalog import Catalog
    from fashionclip.errors import FashionCLIPError
    from fashionclip.model import FashionCLIP
    catalog, checkpoint, store, pause = sys.argv[1:5]
    indexing.ROWS_PER_WRITE = 8
    if len(sys.argv) > 5:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]),) * 2)
    def tell(state):
        print(state.embedded, flush=True)
        time.sleep(float(pause))
    try:
        model = FashionCLIP.from_pretrained(checkpoint, device="cpu", precision="float32")
        report = indexing.index_catalog(
            Catalog.open(catalog), model, store, batch_size=4, progress=tell
        )
        print("stored", report.stored)
    except FashionCLIPError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
"""


def start(folder: Path, checkpoint: Path, *more: object, pause: float = 0) -> subprocess.Popen[str]:
    arguments = [folder / "products.csv", checkpoint, folder / "shop.lance", pause, *more]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_after(run: subprocess.Popen[str], embedded: int, wait_s: float) -> Iterator[str]:
    for line in run.stdout:
        yield line
        if line.startswith("stored"):
            return
        if int(line) >= embedded:
            break
    time.sleep(wait_s)
    run.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(tmp_path, model, tiny_checkpoint):
    rows = shop(tmp_path, 120)
    index_rows(tmp_path, rows, model)
    (tmp_path / "shop.lance").rename(tmp_path / "whole.lance")
    rng = np.random.default_rng(0)
    for _ in range(4):
        with start(tmp_path, tiny_checkpoint, pause=0.002) as run:
            list(killed_after(run, int(rng.integers(0, 40)), float(rng.uniform(0, 0.1))))
    with start(tmp_path, tiny_checkpoint) as run:
        out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert int(out.split()[-1]) < 120, "the killed runs stored nothing"
    assert_same_content(tmp_path / "shop.lance", tmp_path / "whole.lance")
    index = open_store(tmp_path / "shop.lance")
    assert (len(index), index.verify().damaged) == (120, ())


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_the_next_goes_on(
    tmp_path, model, tiny_checkpoint
):
    rows = shop(tmp_path, 60)
    index_rows(tmp_path, rows, model)
    (tmp_path / "shop.lance").rename(tmp_path / "whole.lance")
    with start(tmp_path, tiny_checkpoint, 3_000) as run:
        _, err = run.communicate(timeout=120)
    assert run.returncode == 1
    assert len(err.splitlines()) == 1, err
    assert "a file grew over the size allowed here: raise the limit, then run again" in err
    with start(tmp_path, tiny_checkpoint) as run:
        _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert_same_content(tmp_path / "shop.lance", tmp_path / "whole.lance")
