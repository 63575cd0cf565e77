"""The check explains a catalogue, and reports every fault once, with how to mend it."""

import json
import random
import shutil
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fashionclip.catalog import Catalog, check_catalog, summarize
from fashionclip.catalog.faults import group_rejects
from fashionclip.cli.main import run
from fashionclip.cli.summary import say_summary
from fashionclip.product import Product, Reject

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
    assert report.faults == ()
    found = {name for name, value in report.as_dict().items() if value}
    assert found == {"summary", "rows", "products"}


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
    assert report["missing"][0]["reason"].endswith(
        "check the name and the images folder (--images DIR)"
    )
    assert report["faults"][0]["example"].startswith("row 1, a, ")
    assert report["summary"]["columns"][0]["roles"] == ["id"]


def test_the_sample_catalogue_is_whole(tmp_path):
    from fashionclip.sample import write_sample_catalog

    path = write_sample_catalog(tmp_path / "sample", n_products=24)
    catalog = Catalog.open(path.parent)
    items = Counter(type(item) for item in catalog)
    report = check_catalog(catalog)
    assert items == {Product: 24}
    assert (report.products, report.rejects, report.empty_captions) == (24, (), ())


def numbered(reason, n=3, image=None):
    return [
        Reject(row, f"p{row}", image, reason.replace("{}", str(row))) for row in range(1, n + 1)
    ]


def test_rejects_that_differ_in_values_are_one_fault():
    rejects = [
        *numbered("row {}: names no image; fill the column 'photo'", n=2),
        *numbered("the id is a duplicate of row {}; give each product its own"),
        *numbered("/shop/a b.jpg: no such file; check it", image="/shop/a b.jpg"),
        *numbered("https://shop.example/{}.jpg: led to https://other.example/{}.jpg", n=1),
    ]
    faults = group_rejects(rejects)
    assert [(fault.count, fault.what, fault.mend) for fault in faults] == [
        (3, "the id is a duplicate of row …", "give each product its own"),
        (3, "no such file", "check it"),
        (2, "names no image", "fill the column 'photo'"),
        (1, "https://shop.example/1.jpg: led to https://other.example/1.jpg", ""),
    ]
    assert faults[1].example == "row 1, p1, /shop/a b.jpg"


@given(st.lists(st.builds(Reject, st.integers(1, 9), st.none(), st.text(), st.text())))
def test_every_reject_is_in_one_fault(rejects):
    faults = group_rejects(rejects)
    assert sum(fault.count for fault in faults) == len(rejects)
    assert [fault.count for fault in faults] == sorted((f.count for f in faults), reverse=True)


def test_how_to_mend_a_fault_begins_behind_its_brackets():
    reason = "the image is too large (9 x 9; the limit is 80 pixels); shrink it first; or crop it"
    (fault,) = group_rejects([Reject(1, "a", None, reason)])
    assert fault.what == "the image is too large (9 x 9; the limit is 80 pixels)"
    assert fault.mend == "shrink it first; or crop it"


@pytest.mark.parametrize("unit", ["'\\", "'\"", "1.", "a:/", "x", "; ", "(; "])
def test_a_long_reason_takes_no_time(unit):
    began = time.monotonic()
    assert group_rejects([Reject(1, None, None, unit * 100_000)])[0].count == 1
    assert time.monotonic() - began < 5


FAULTY = """\
sku;name;photo;price;vendor;parent;stock;empty
a;Schöne Jacke 🧥;1.jpg;1.299,00 €;Müller;P1;7;
b;Schöne Jacke 🧥;2.jpg;29,90 €;Müller;P2;0;
c;;3.jpg;auf Anfrage;Müller;P2;1;
d;Hemd;3.jpg;19,90 €;;P2;1;
e;Hose;gone.jpg;19,90 €;;;1;
f;Rock;gone too.jpg;19,90 €;;;1;
g;Schal;text.jpg;19,90 €;;;1;
h;Hut;;19,90 €;;;1;
a;Mantel;1.jpg;19,90 €;;;1;
;Kleid;1.jpg;19,90 €;;;1;
i;zu;viele;felder;1;2;3;4;5
"""


@pytest.fixture
def faulty(tmp_path):
    """A table with faults of every kind."""
    for i, colour in enumerate(COLOURS[:3], start=1):
        make_image(colour, seed=i).save(tmp_path / f"{i}.jpg")
    (tmp_path / "text.jpg").write_text("no picture at all", encoding="utf-8")
    (tmp_path / "shop.csv").write_text(FAULTY, encoding="utf-8")
    return tmp_path / "shop.csv"


def test_the_check_explains_a_table_and_how_to_mend_it(faulty, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["catalog", "check", str(faulty)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "rows 11 rows make 8 products; 3 rows cannot be used",
        "prices 19.90 to 1,299.00, EUR, written with a decimal comma; 1 without a price",
        "groups 8 products in 2 groups of variants, by the column 'parent'",
        "images 7 files, 1 without one",
        "blank empty",
        "price price number 88% 1299.0, 29.9, 19.9",
        "currency currency string 88% EUR",
        "stock integer all 7, 0, 1",
        "roles those of the columns below; none for further_images, sku, barcode, sale_price, "
        "category, colour, size, highlights, description, gender",
        "To give a role another column: --column ROLE=NAME",
        "2 no such file",
        "1 names no image",
        "→ fill the column 'photo'",
        "row 8, h",
        "1 the id is empty",
        "1 the id is a duplicate of row 1",
        "→ give each product its own",
        "1 has no words",
        "→ fill the title",
        "2 has the caption of another product",
        "“Schöne Jacke 🧥” of 2",
        "2 has the image of another product",
        "c = d",
    ):
        assert line in lines, line


def test_a_program_reads_the_same(faulty, capsys):
    assert run(["catalog", "check", str(faulty), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    faults = {fault["what"]: fault for fault in found["faults"]}
    assert faults["no such file"]["count"] == 2
    assert faults["no such file"]["is_rejected"]
    assert not faults["has the image of another product"]["is_rejected"]
    summary = found["summary"]
    assert (summary["rows"], summary["products"], summary["rejects"]) == (11, 8, 3)
    assert (summary["price_range"], summary["currencies"]) == ([19.9, 1299.0], {"EUR": 7})
    assert (summary["groups"], summary["blank_columns"]) == (2, ["empty"])
    price = next(column for column in summary["columns"] if column["name"] == "price")
    assert (price["kind"], price["n_filled"], price["roles"]) == ("number", 7, ["price"])


def test_a_check_without_images_reads_none(faulty, capsys):
    assert run(["catalog", "check", str(faulty), "--no-images", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["products"] == 7
    assert [reject["id"] for reject in found["missing"]] == ["h"]
    assert (found["broken"], found["duplicate_pictures"]) == ([], [])


def test_a_run_ends_with_what_was_understood_and_what_was_rejected(
    faulty, capsys, tmp_path, tiny_checkpoint
):
    words = ["index", str(faulty), "--into", str(tmp_path / "s.lance"), "--json"]
    assert run([*words, "--model", str(tiny_checkpoint)]) == 0
    out, err = capsys.readouterr()
    lines = [line.strip() for line in err.splitlines()]
    assert "rows: 11 rows make 8 products; 3 rows cannot be used" in lines
    gone = next(line for line in lines if line.startswith("rejected 2: no such file (row 5, e"))
    assert gone.endswith("check the name and the images folder (--images DIR)")
    found = json.loads(out)
    assert found["summary"]["products"] == 8
    assert sum(fault["count"] for fault in found["faults"]) == found["rejected"] == 7


def test_a_table_that_makes_no_product_is_explained(tmp_path, capsys):
    table = tmp_path / "shop.csv"
    for rows in ("", ",shirt,1.jpg\n,skirt,1.jpg\n"):
        table.write_text(f"id,title,image\n{rows}", encoding="utf-8")
        page = tmp_path / "check.html"
        assert run(["catalog", "check", str(table), "--html", str(page)]) == 1
        assert "0 products" in capsys.readouterr().out
        assert "There is no product." in page.read_text("utf-8")


def test_a_table_of_two_thousand_columns_is_shown_in_part(tmp_path, capsys):
    table = tmp_path / "wide.csv"
    names = ["id", "title", *(f"größe {i}" for i in range(1998))]
    table.write_text(f"{','.join(names)}\n{','.join(['x'] * 2000)}\n", encoding="utf-8")
    run(["catalog", "check", str(table), "--no-images"])
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 100
    assert "… and 1,940 more columns; --json lists all" in out


def test_a_summary_is_readable_in_a_notebook(faulty):
    lines = repr(summarize(Catalog.open(faulty))).splitlines()
    assert lines[0] == "    rows  11 rows make 8 products; 3 rows cannot be used"
    assert max(map(len, lines)) < 120


def test_a_catalogue_cannot_steer_the_terminal(faulty, capsys):
    table = "id,title,price \x1b[2J,blank\x1b[1m\n1,\x1b[31mred,3 \x1b[31m,\na\x1b[2J,,19 EUR,\n"
    faulty.write_text(table, encoding="utf-8")
    run(["catalog", "check", str(faulty)])
    say_summary(summarize(Catalog.open(faulty)))
    assert "\x1b" not in "".join(capsys.readouterr())


SHOPIFY = """\
Handle,Title,Body (HTML),Vendor,Tags,Option1 Name,Option1 Value,Variant SKU,Variant Price,\
Image Src,Image Position,Variant Image,Status
tee,Linen Tee,<p>Soft &amp; light</p>,Norda,summer,Size,S,T-S,29.00,1.jpg,1,,active
tee,,,,,,M,T-M,29.00,2.jpg,2,,
tee,,,,,,L,T-L,31.00,,,,
cap,Cap,,Norda,,Title,Default Title,C-1,9.00,3.jpg,1,,active
"""


def test_a_feed_is_named_and_its_variants_are_counted(faulty, capsys):
    faulty.write_text(SHOPIFY, encoding="utf-8")
    assert run(["catalog", "check", str(faulty), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = found["summary"]
    assert summary["format"] == "Shopify product export"
    assert (summary["rows"], summary["products"], summary["groups"]) == (4, 2, 2)
    assert summary["images"] == {"file": 2}
    columns = {column["name"]: column for column in summary["columns"]}
    assert columns["Size"]["examples"] == ['["S", "M", "L"]']
    assert columns["Body (HTML)"]["examples"] == ["Soft & light"]
    assert found["faults"] == []


def test_variants_may_share_their_title(shop):
    shop.rows = "id,title,image,item_group_id\n"
    for product_id, group in (("a", "g"), ("b", "g"), ("c", "h"), ("d", "i")):
        make_image("red", seed=ord(product_id)).save(shop.path(f"{product_id}.jpg"))
        title = "Tee" if group == "g" else "Cap"
        shop.rows += f"{product_id},{title},{product_id}.jpg,{group}\n"
    assert shop.check().repeated_captions == {"Cap": ("c", "d")}


@pytest.mark.slow
def test_the_page_shows_samples_and_is_accessible(faulty, tmp_path, capsys):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    page = tmp_path / "check.html"
    assert run(["catalog", "check", str(faulty), "--html", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "http" not in text.replace("http-equiv", "")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for scheme in ("light", "dark"):
            shown = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
            shown.goto(page.as_uri())
            first = shown.locator("article").first
            assert first.locator("h3").inner_text() == "Schöne Jacke 🧥"
            assert first.locator(".price").inner_text() == "1,299.00 EUR"
            image = first.locator("img")
            image.scroll_into_view_if_needed()
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
            assert shown.locator("article").count() == 8
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert Axe().run(shown).response["violations"] == []
        browser.close()
