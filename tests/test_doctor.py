"""The doctor finds what is wrong in a catalogue, and says where there is too little to go by."""

import json
import random
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fashionclip.catalog import Catalog
from fashionclip.cli.main import run
from fashionclip.doctor import KINDS, TITLES, examine_catalog, read_fine
from fashionclip.doctor.certainty import MIN_PRODUCTS, confidences
from fashionclip.doctor.drawn import DRAWINGS, small_copy
from fashionclip.doctor.findings import MENDS, finding_key
from fashionclip.doctor.labels import judge_labels
from fashionclip.doctor.linear import FOLDS, class_log_probabilities
from fashionclip.doctor.measures import MEASURES, SIGNATURE_BYTES, measure, signature
from fashionclip.doctor.neighbours import nearest
from fashionclip.doctor.shop import Pictures
from fashionclip.doctor.shop import Shop as ShopOfArrays
from fashionclip.errors import CatalogError
from fashionclip.images.near_duplicates import HASH_BYTES
from fashionclip.model import FashionCLIP

COLOURS = ("red", "blue", "green", "black", "orange", "purple")
SHAPES = ("shirt", "shoe")
SOME = ("same_picture", "dark", "no_product", "low_resolution", "category", "caption", "outlier")


def draw(colour: str, shape: str, seed: int, *, size_px: int = 64) -> Image.Image:
    """A garment of one colour on white, at a place and size that the seed decides."""
    image = Image.new("RGB", (size_px, size_px), "white")
    canvas, chance = ImageDraw.Draw(image), random.Random(seed)
    left, top = chance.randrange(8, 16), chance.randrange(8, 16)
    box = (left, top, size_px - chance.randrange(8, 16), size_px - chance.randrange(8, 16))
    (canvas.ellipse if shape == "shoe" else canvas.rectangle)(box, fill=colour, outline="grey")
    canvas.line((left, top, box[2], box[3]), fill="white", width=1 + seed % 3)
    return image


class Shop:
    """A folder in which products are added one by one."""

    def __init__(self, folder):
        """Use an empty folder."""
        self.folder, self.rows = folder, [("id", "title", "category", "colour", "image")]

    def add(self, product_id, image, title="", category="", colour=""):
        """Save a picture and add its row."""
        image.save(self.folder / f"{product_id}.png")
        self.rows.append((product_id, title, category, colour, f"{product_id}.png"))

    def table(self):
        """Write the table; gives its path."""
        lines = [",".join(row) for row in self.rows]
        (self.folder / "shop.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self.folder / "shop.csv"


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, model):
    """A shop of 64 products, with a few faults, and where it is."""
    shop = Shop(tmp_path_factory.mktemp("faulty"))
    for i in range(64):
        colour, shape = COLOURS[i % 6], SHAPES[i % 2]
        title = f"{colour} {shape} number {i}"
        shop.add(f"p{i}", draw(colour, shape, i), title, shape, colour)
    shop.add("copy", draw("red", "shirt", 0), "another shirt", "shirt", "red")
    night = draw("blue", "shoe", 1).point([level // 4 for level in range(256)] * 3)
    shop.add("night", night, "blue shoe at night", "shoe", "blue")
    shop.add("blank", Image.new("RGB", (64, 64), "white"), "green shirt blank", "shirt", "green")
    shop.add("tiny", draw("black", "shoe", 5).resize((16, 16)), "tiny shoe", "shoe", "black")
    return shop


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache that the run over the faulty shop writes."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def report(faulty, model, cache):
    return examine_catalog(Catalog.open(faulty.table()), model, cache=cache, kinds=SOME)


def of_kind(report, kind):
    return [one for one in report.findings if one.kind == kind]


def test_planted_faults_are_found_with_evidence_and_a_suggestion(report):
    assert ("p0", "copy") in [one.product_ids for one in of_kind(report, "same_picture")]
    assert "night" in {i for one in of_kind(report, "dark") for i in one.product_ids}
    assert "blank" in {i for one in of_kind(report, "no_product") for i in one.product_ids}
    assert [one.product_ids for one in of_kind(report, "low_resolution")] == [("tiny",)]
    for one in report.findings:
        assert one.evidence
        assert one.suggestion
        assert "\n" not in one.evidence
        assert 0.5 <= one.confidence <= 1


def test_most_products_of_a_sound_shop_have_no_finding(report):
    sound = {f"p{i}" for i in range(1, 64)}
    named = {i for one in report.findings for i in one.product_ids}
    assert len(sound & named) <= len(sound) // 10


def test_a_second_run_decodes_nothing_and_finds_the_same(faulty, model, report, cache, monkeypatch):
    def decode(*_, **__):
        pytest.fail("a picture was decoded again")

    monkeypatch.setattr("fashionclip.doctor.reading.decode_image", decode)
    again = examine_catalog(Catalog.open(faulty.table()), model, cache=cache, kinds=SOME)
    assert again.findings == report.findings


def test_findings_marked_as_fine_stay_away_until_the_picture_changes(model, tmp_path):
    shop = Shop(tmp_path)
    for i in range(8):
        shop.add(f"p{i}", draw(COLOURS[i % 6], "shirt", i))
    shop.add("copy", draw("red", "shirt", 0))
    catalog, kinds = Catalog.open(shop.table()), ["same_picture"]
    (found,) = examine_catalog(catalog, model, kinds=kinds).findings
    report = examine_catalog(catalog, model, kinds=kinds, fine=[found.key])
    assert (of_kind(report, "same_picture"), report.n_fine) == ([], 1)
    shop.rows[-1] = ("renamed", *shop.rows[-1][1:])
    (renamed,) = examine_catalog(Catalog.open(shop.table()), model, kinds=kinds).findings
    assert (renamed.product_ids, renamed.key) == (("p0", "renamed"), found.key)
    shop.rows[-1] = ("copy", *shop.rows[-1][1:])
    shop.table()
    for name in ("p0", "copy"):
        draw("purple", "shoe", 3).save(tmp_path / f"{name}.png")
    report = examine_catalog(catalog, model, kinds=kinds, fine=[found.key])
    assert [one.product_ids for one in of_kind(report, "same_picture")] == [("p0", "copy")]


def test_a_file_of_marks_is_read_and_another_refused(tmp_path):
    path = tmp_path / "fine.json"
    path.write_text('{"fine": [{"key": "ab", "kind": "dark"}, {"key": "cd"}]}', encoding="utf-8")
    assert read_fine(path) == {"ab", "cd"}
    for text in ("", "[]", '{"fine": [1]}', '{"good": []}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(CatalogError, match="marked as fine"):
            read_fine(path)
    with pytest.raises(CatalogError, match="cannot be read"):
        read_fine(tmp_path / "none.json")


def test_colourways_are_variants_and_not_one_product_twice(model, tmp_path):
    shop = Shop(tmp_path)
    for colour in ("red", "blue"):
        shop.add(colour, draw(colour, "shirt", 7), f"{colour} linen shirt", "shirt", colour)
    report = examine_catalog(Catalog.open(shop.table()), model)
    assert not of_kind(report, "same_product")
    assert not of_kind(report, "same_picture")


def test_pale_products_on_white_are_not_one_picture(model, tmp_path):
    shop = Shop(tmp_path)
    for name, box in (("a", (20, 20, 40, 40)), ("b", (14, 26, 46, 36))):
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).rectangle(box, fill=(249, 248, 246))
        shop.add(name, image, name)
    assert not examine_catalog(Catalog.open(shop.table()), model).findings


def test_odd_pictures_and_sparse_tables_cost_nothing_else(model, tmp_path):
    shop = Shop(tmp_path)
    shop.add("one_pixel", Image.new("RGB", (1, 1), "red"))
    shop.add("strip", Image.new("RGB", (10_000, 100), "blue"))
    shop.add("plain", Image.new("RGB", (50, 60), "white"))
    shop.add("good", draw("green", "shoe", 1))
    shop.add("broken", draw("green", "shoe", 2))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    report = examine_catalog(Catalog.open(shop.table()), model)
    assert report.n_products == 4
    assert [reject.product_id for reject in report.rejects] == ["broken"]
    assert all(judged.reason for judged in report.pictures)
    assert "outlier" in {judged.kind for judged in report.pictures}
    assert all(judged.reason for judged in report.texts)


def test_equal_captions_are_not_judged_and_make_no_products_one(model, tmp_path):
    shop = Shop(tmp_path)
    for i in range(MIN_PRODUCTS):
        shop.add(f"p{i}", draw(COLOURS[i % 6], SHAPES[i % 2], i // 2, size_px=32), "a nice thing")
    catalog, kinds = Catalog.open(shop.table()), ["caption", "same_product"]
    report = examine_catalog(catalog, model, kinds=kinds, least=0.0)
    (captions,) = [judged for judged in report.texts if judged.name == "caption"]
    assert "say too little" in captions.reason
    (products,) = [judged for judged in report.pictures if judged.kind == "same_product"]
    assert "captions are equal" in products.reason
    assert not report.findings
    assert not report.variants


def test_the_command_writes_page_and_table_and_fails_on_request(model, tmp_path, capsys):
    shop = Shop(tmp_path)
    for i in range(6):
        shop.add(f"p{i}", draw(COLOURS[i % 6], "shirt", i), "<b>shirt</b>")
    shop.add("copy", draw("red", "shirt", 0), "another")
    page, table = tmp_path / "doctor.html", tmp_path / "findings.csv"
    words = ["doctor", str(shop.table()), "--model", str(model.name), "--html", str(page)]
    assert run([*words, "--csv", str(table), "--fail-on", "same_picture", "--json"]) == 3
    fields = json.loads(capsys.readouterr().out)
    (finding,) = fields["findings"]
    assert (finding["kind"], finding["product_ids"]) == ("same_picture", ["p0", "copy"])
    html = page.read_text(encoding="utf-8")
    assert finding["key"] in html
    assert "<b>shirt" not in html
    assert "p0|copy" in table.read_text(encoding="utf-8")
    assert run([*words, "--fail-on", "same_picture=1"]) == 0
    assert run([*words, "--fail-on", "nonsense"]) == 2
    fine = tmp_path / "fine.json"
    fine.write_text(json.dumps({"fine": [{"key": finding["key"]}]}), encoding="utf-8")
    assert run([*words, "--fine", str(fine), "--fail-on", "any"]) == 0
    assert finding["key"] in page.read_text(encoding="utf-8")  # so that the next export has it too


def test_a_kind_that_cannot_be_judged_does_not_pass_for_one_without_findings(
    model, tmp_path, capsys
):
    shop = Shop(tmp_path)
    for i in range(3):
        shop.add(f"p{i}", draw(COLOURS[i], "shirt", i))
    shop.add("copy", draw(COLOURS[0], "shirt", 0))
    words = ["doctor", str(shop.table()), "--model", str(model.name)]
    limits = ["--fail-on", "same_picture=1", "--fail-on", "dark", "--fail-on", "attribute=9"]
    assert run([*words, *limits]) == 4
    said = capsys.readouterr().err
    assert "--fail-on dark: not judged: 4 pictures are too few" in said
    assert "--fail-on attribute: not judged: " in said
    assert "--fail-on same_picture" not in said
    assert run([*words, *limits, "--fail-on", "same_picture"]) == 3
    assert run([*words, "--fail-on", "any=1"]) == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 10), (64, 48)])
def test_every_picture_has_finite_measures_and_can_be_drawn_on(size):
    image = Image.new("RGB", size, "white")
    assert np.isfinite(measure(image, size)).all()
    assert len(measure(image, size)) == len(MEASURES)
    for draw_fault in DRAWINGS.values():
        drawn = draw_fault(small_copy(image), [], random.Random(1))
        assert np.isfinite(measure(drawn, drawn.size)).all()
        signature(drawn)


def test_measures_say_where_the_product_is():
    image = Image.new("RGB", (192, 192), "white")
    ImageDraw.Draw(image).rectangle((0, 96, 95, 191), fill="black")
    found = dict(zip(MEASURES, measure(image, image.size), strict=True))
    assert found["product_share"] == pytest.approx(0.25, abs=0.01)
    assert found["left_edge"] == pytest.approx(0.5, abs=0.02)
    assert found["bottom_edge"] == pytest.approx(0.5, abs=0.02)
    assert found["right_edge"] == found["top_edge"] == 0
    assert np.expm1(found["parts"]) == pytest.approx(1)
    ImageDraw.Draw(image).rectangle((120, 10, 180, 70), fill="black")
    two = dict(zip(MEASURES, measure(image, image.size), strict=True))
    assert np.expm1(two["parts"]) == pytest.approx(2)


@given(st.integers(0, 1000), st.floats(0.1, 5))
def test_confidence_never_falls_with_the_score_and_is_high_only_beyond_the_shop(seed, gap):
    rng = np.random.default_rng(seed)
    scores, faulty = rng.normal(size=400), rng.normal(loc=gap * 3, size=200)
    confidence, _ = confidences(scores, faulty)
    order = np.argsort(scores)
    assert (np.diff(confidence[order]) >= -1e-12).all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert (confidence[scores < np.median(scores)] < 0.5).all()


@pytest.mark.parametrize("draws", ["normal", "uniform"])
def test_faults_that_score_like_the_shop_are_not_found(draws):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        scores, faulty = getattr(rng, draws)(size=80), getattr(rng, draws)(size=80)
        assert (confidences(scores, faulty)[0] > 0.5).mean() < 0.05


def test_pictures_of_one_colour_show_no_label():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(2), 60)
    vectors = np.eye(2, 8)[classes] + 0.1 * rng.normal(size=(120, 8))
    vectors[0] = np.eye(2, 8)[1]
    signatures = rng.integers(0, 256, (120, SIGNATURE_BYTES), np.uint8)
    for is_flat in (False, True):
        if is_flat:
            signatures[0, HASH_BYTES:] = 200
        shop = ShopOfArrays(
            ids=[str(i) for i in range(120)],
            captions=[""] * 120,
            images=[None] * 120,
            groups=[""] * 120,
            labels={"kind": [("shirt", "shoe")[k] for k in classes]},
            digests=[bytes([i] * 16) for i in range(120)],
            pictures=Pictures(
                vectors.astype(np.float32), np.zeros((120, len(MEASURES)), np.float32)
            ),
            signatures=signatures,
            drawn={},
            drawn_rows=[],
            rejects=[],
        )
        findings, _ = judge_labels(shop, "kind", 0.5)
        assert [one.product_ids for one in findings] == ([] if is_flat else [("0",)])


def test_confidence_finds_the_shops_own_faults_and_needs_enough_products():
    rng = np.random.default_rng(0)
    sound, faulty = rng.normal(size=500), rng.normal(loc=12, size=200)
    confidence, of_faulty = confidences(np.append(sound, 12.0), faulty)
    assert confidence[-1] > 0.9
    assert (confidence[:-1] > 0.5).sum() <= 2
    assert (of_faulty > 0.5).mean() > 0.9
    few, _ = confidences(sound[: MIN_PRODUCTS - 1], faulty)
    assert not few.any()


@given(st.integers(2, 40), st.integers(1, 12))
def test_nearest_neighbours_are_those_of_all_pairs(n, k):
    rng = np.random.default_rng(n * 100 + k)
    vectors = rng.normal(size=(n, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows, cosines = nearest(vectors, k=k)
    every = vectors @ vectors.T
    np.fill_diagonal(every, -2)
    assert rows.shape == (n, min(k, n - 1))
    expected = -np.sort(-every, axis=1)[:, : rows.shape[1]]
    np.testing.assert_allclose(cosines, expected, atol=1e-6)
    assert (rows != np.arange(n)[:, None]).all()


def test_out_of_fold_classes_know_a_wrong_label_that_they_were_given():
    rng = np.random.default_rng(1)
    truth = np.arange(300) % 3
    rows = (np.eye(3)[truth] * 4 + rng.normal(size=(300, 3))).astype(np.float32)
    given_labels = truth.copy()
    given_labels[:9] = (truth[:9] + 1) % 3
    fold = np.arange(300) // 3 % FOLDS
    log_p = class_log_probabilities(rows, given_labels, 3, fold)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, atol=1e-6)
    assert (log_p.argmax(axis=1)[:9] == truth[:9]).mean() > 0.8


def test_every_kind_has_words_and_a_key_of_its_own():
    assert set(TITLES) == set(KINDS)
    assert set(KINDS) - set(MENDS) == {"category", "attribute"}
    keys = {finding_key(kind, b"one") for kind in KINDS} | {finding_key("dark", b"on", "e")}
    assert len(keys) == len(KINDS) + 1


@pytest.mark.slow
def test_the_page_marks_by_keyboard_and_saves_what_the_next_run_takes(model, tmp_path):
    from playwright.sync_api import sync_playwright

    shop = Shop(tmp_path)
    for i in range(4):
        shop.add(f"p{i}", draw(COLOURS[i], "shirt", i))
        shop.add(f"copy{i}", draw(COLOURS[i], "shirt", i))
    page_path, fine = tmp_path / "doctor.html", tmp_path / "fine.json"
    words = ["doctor", str(shop.table()), "--model", str(model.name), "--html", str(page_path)]
    assert run([*words, "--fail-on", "same_picture=3"]) == 3
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        errors, requests = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_path.as_uri())
        for key in "jffuj":
            page.keyboard.press(key)
        assert page.locator(".is-fine").count() == 1
        page.keyboard.press("f")
        assert "2 marked as fine" in page.inner_text("#count")
        page.evaluate('localStorage.setItem(place, JSON.stringify(["ab"]))')  # of another run
        page.reload()
        page.keyboard.press("j")
        for key in "ff":
            page.keyboard.press(key)
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(fine)
        browser.close()
    assert errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    assert len(read_fine(fine)) == 3
    assert "ab" in read_fine(fine)
    assert run([*words, "--fine", str(fine), "--fail-on", "same_picture=2"]) == 0
