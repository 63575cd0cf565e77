"""The catalogue check reports every fault, with its name, once."""

import json
import random
from collections import Counter

import pytest
from PIL import Image, ImageDraw

from fashionclip.catalog import Catalog, check_catalog
from fashionclip.product import Product

COLOURS = ("red", "blue", "green", "black", "orange", "purple")


def make_image(colour: str, *, seed: int = 0, size_px: int = 120) -> Image.Image:
    """Rectangles on white, at places that the seed decides."""
    image = Image.new("RGB", (size_px, size_px), "white")
    canvas = ImageDraw.Draw(image)
    cut = random.Random(seed)
    for _ in range(6):
        left, top = (cut.randrange(size_px * 2 // 3) for _ in range(2))
        right, bottom = left + cut.randrange(20, 50), top + cut.randrange(20, 50)
        canvas.rectangle((left, top, right, bottom), fill=colour, outline="grey")
    return image


@pytest.fixture
def shop(tmp_path):
    """A folder in which products are added one by one."""

    class Shop:
        rows = "id,title,image\n"

        def add(self, product_id, title, image):
            self.rows += f"{product_id},{title},{image}\n"

        def check(self, **options):
            (tmp_path / "shop.csv").write_text(self.rows, encoding="utf-8")
            return check_catalog(Catalog.open(tmp_path / "shop.csv"), **options)

        def path(self, name):
            return tmp_path / name

    return Shop()


def test_a_catalogue_without_faults_has_none(shop):
    for i, colour in enumerate(COLOURS):
        make_image(colour, seed=i).save(shop.path(f"{i}.jpg"))
        shop.add(i, f"title {i}", f"{i}.jpg")
    report = shop.check()
    assert (report.rows, report.products, report.rejects) == (6, 6, ())
    faults = {name: found for name, found in report.as_dict().items() if found}
    assert faults == {"rows": 6, "products": 6}


def test_each_fault_is_named_with_its_row(shop):
    make_image("red").save(shop.path("good.jpg"))
    whole = shop.path("good.jpg").read_bytes()
    shop.path("cut.jpg").write_bytes(whole[: len(whole) // 2])
    shop.path("empty.jpg").write_bytes(b"")
    shop.path("text.jpg").write_text("no picture at all", encoding="utf-8")
    shop.add("a", "good", "good.jpg")
    shop.add("b", "gone", "gone.jpg")
    shop.add("c", "none named", "")
    shop.add("d", "cut", "cut.jpg")
    shop.add("e", "empty", "empty.jpg")
    shop.add("f", "text", "text.jpg")
    shop.add("a", "repeated id", "good.jpg")
    shop.add("", "no id", "good.jpg")
    shop.add("g", "surplus, comma", "good.jpg")
    report = shop.check()
    assert (report.rows, report.products) == (9, 1)
    assert [reject.product_id for reject in report.missing] == ["b", "c"]
    assert [reject.product_id for reject in report.broken] == ["d", "e", "f"]
    assert [reject.row for reject in report.unreadable] == [7, 8, 9]
    assert [reject.row for reject in report.rejects] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert all(reject.reason and "\n" not in reject.reason for reject in report.rejects)
    assert report.duplicate_pictures == ()


def test_identical_files_and_near_duplicates_are_distinguished(shop):
    image = make_image("blue", seed=1)
    image.save(shop.path("first.jpg"), quality=90)
    shop.path("copy.jpg").write_bytes(shop.path("first.jpg").read_bytes())
    image.save(shop.path("again.jpg"), quality=70)
    image.save(shop.path("lossless.png"))
    image.resize((240, 240), Image.Resampling.BICUBIC).save(shop.path("large.jpg"), quality=90)
    make_image("red", seed=1).save(shop.path("red.jpg"), quality=90)
    make_image("blue", seed=2).save(shop.path("other.jpg"), quality=90)
    for name in ("first", "copy", "again", "large", "red", "other"):
        shop.add(name, name, f"{name}.jpg")
    shop.add("lossless", "lossless", "lossless.png")
    report = shop.check()
    assert report.duplicate_pictures == (("first", "copy"),)
    assert report.similar_pictures == (("first", "again", "large", "lossless"),)


def test_plain_white_images_are_near_duplicates(shop):
    for name in ("a", "b"):
        size = (50, 60) if name == "a" else (60, 50)
        Image.new("RGB", size, "white").save(shop.path(f"{name}.png"))
        shop.add(name, name, f"{name}.png")
    assert shop.check().similar_pictures == (("a", "b"),)


def test_empty_and_repeated_captions_are_listed(shop):
    make_image("red").save(shop.path("a.jpg"))
    for name, title in (("a", "jeans"), ("b", ""), ("c", "jeans"), ("d", "shirt"), ("e", "")):
        shop.add(name, title, "a.jpg")
    report = shop.check()
    assert report.empty_captions == ("b", "e")
    assert report.repeated_captions == {"jeans": ("a", "c")}


@pytest.mark.parametrize("workers", [1, 8])
def test_the_report_does_not_depend_on_the_number_of_threads(shop, workers):
    for i in range(30):
        if i % 7:
            make_image(COLOURS[i % 6], seed=i % 10).save(shop.path(f"{i}.png"))
        shop.add(i, f"title {i % 5}", f"{i}.png")
    rows = []
    report = shop.check(workers=workers, progress=rows.append)
    assert rows == list(range(1, 31))
    assert [reject.row for reject in report.missing] == [1, 8, 15, 22, 29]
    assert report == shop.check(workers=3)


def test_a_report_is_plain_json(shop):
    shop.add("a", "gone", "gone.jpg")
    report = json.loads(json.dumps(shop.check().as_dict()))
    assert report["rows"] == 1
    assert report["missing"][0]["reason"].endswith("check the name and the images folder")


def test_the_sample_catalogue_is_whole(tmp_path):
    from fashionclip.sample import write_sample_catalog

    path = write_sample_catalog(tmp_path / "sample", n_products=24)
    catalog = Catalog.open(path.parent)
    items = Counter(type(item) for item in catalog)
    report = check_catalog(catalog)
    assert items == {Product: 24}
    assert (report.products, report.rejects, report.empty_captions) == (24, (), ())
