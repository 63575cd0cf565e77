"""Garments of photographs: found, cut out, searched by; and what no garment is found in."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fashionclip import FashionCLIP, Index
from fashionclip.cli.main import run
from fashionclip.errors import FilterError, ImageError
from fashionclip.garments import (
    MAX_GARMENTS,
    DetectedGarment,
    Detector,
    WordDetector,
    crop_garments,
    find_garments,
    garment_words,
)
from fashionclip.garments.ground import lone_product
from fashionclip.garments.regions import overlaps, suppressed, windows_of
from fashionclip.localization import Box
from fashionclip.sample import Attributes, generate_image
from outfit import OutfitDetector, outfit
from small_shop import draw

SIDES = st.integers(8, 400)
REGIONS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50), st.integers(1, 50)),
    min_size=1,
    max_size=12,
).map(lambda boxes: np.array([(x, y, x + w, y + h) for x, y, w, h in boxes]))


@pytest.fixture(scope="module")
def model():
    return FashionCLIP.from_pretrained()


@pytest.fixture(scope="module")
def photo():
    return outfit("sweater", "skirt")


class Given:
    """A detector that finds what it is told to."""

    def __init__(self, *found):
        """Hold words with their corners."""
        self.found = [DetectedGarment(word, Box(*corners, score=0.5)) for word, *corners in found]

    def detect(self, image):
        """What it was told, whatever the image."""
        return self.found


# regions


@given(SIDES, SIDES)
def test_windows_lie_in_the_photograph_and_cover_it(width, height):
    regions = windows_of(width, height)
    assert (regions[:, :2] >= 0).all()
    assert (regions[:, 2] <= width).all()
    assert (regions[:, 3] <= height).all()
    assert (regions[:, 2:] > regions[:, :2]).all()
    covered = np.zeros((height, width), bool)
    for left, top, right, bottom in regions[1:]:
        if (left, top, right, bottom) != (0, 0, width, height):
            covered[top:bottom, left:right] = True
    assert covered.all()


@given(REGIONS, REGIONS)
def test_overlaps_are_those_of_the_pixels(a, b):
    iou, inside = overlaps(a, b)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            masks = np.zeros((2, 101, 101), bool)
            for mask, (left, top, right, bottom) in zip(masks, (one, other), strict=True):
                mask[top:bottom, left:right] = True
            shared = (masks[0] & masks[1]).sum()
            assert iou[i, j] == pytest.approx(shared / (masks[0] | masks[1]).sum())
            assert inside[i, j] == pytest.approx(shared / min(masks[0].sum(), masks[1].sum()))


def test_suppression_leaves_one_region_of_a_place_and_one_of_a_word():
    regions = np.array(
        [(0, 0, 10, 10), (1, 0, 10, 10), (3, 3, 6, 6), (20, 0, 30, 9), (40, 0, 49, 9)]
    )
    words = [0, 1, 2, 1, 1]
    scores = np.array([0.9, 0.8, 0.7, 0.5, 0.6])
    assert suppressed(regions, words, scores) == [0, 4]  # place, inside, word: all gone


# find


def test_garments_are_found_where_they_are(model, photo):
    image, truth = photo
    garments = {one.word: one for one in find_garments(model, image)}
    assert set(garments) == {"sweater", "skirt"}
    for word, place in truth.items():
        box = garments[word].box
        corners = np.array([(box.left, box.top, box.right, box.bottom)])
        assert overlaps(corners, np.array([place]))[0].item() > 0.3, (word, box)
        assert 0.35 <= garments[word].score <= 1


@pytest.mark.parametrize("category", ["skirt", "jeans", "dress", "sneakers", "handbag"])
def test_a_product_alone_on_a_plain_ground_is_one_garment_or_none(model, category):
    drawn = generate_image(Attributes(category, "blue"), seed=5)
    page = Image.new("RGB", (400, 500), "white")
    page.paste(drawn, (80, 90))
    found = find_garments(model, page)
    if category in {"sneakers", "handbag"}:  # nobody looks for them
        assert found == []
        return
    (only,) = found
    assert only.word == category
    rows, columns = np.nonzero(np.asarray(page).min(axis=2) < 240)
    box, slack_px = only.box, 6
    assert abs(box.left - columns.min()) <= slack_px
    assert abs(box.right - columns.max() - 1) <= slack_px
    assert abs(box.top - rows.min()) <= slack_px
    assert abs(box.bottom - rows.max() - 1) <= slack_px


@given(st.integers(1, 200), st.integers(1, 200))
def test_any_size_is_told_from_a_lone_product(width, height):
    noise = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    lone_product(Image.fromarray(noise))
    lone_product(Image.new("RGB", (width, height), "white"))


def test_boxes_are_in_pixels_of_the_photograph_itself(model, photo):
    image, _ = photo
    small = find_garments(model, image)
    large = find_garments(model, image.resize((3 * image.width, 3 * image.height)))
    assert small
    assert [one.word for one in small] == [one.word for one in large]
    for one, other in zip(small, large, strict=True):
        assert abs(3 * one.box.left - other.box.left) <= 0.06 * 3 * image.width
        assert other.crop.width == pytest.approx(3 * one.crop.width, rel=0.1)


def test_a_shop_may_look_for_its_own_categories(model, photo):
    (found,) = find_garments(model, photo[0], ["skirt"])[:1]
    assert found.word == "skirt"
    assert set(garment_words()) > {"skirt", "sweater"}


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (300, 400), "teal"),
        Image.new("RGB", (1, 1), "red"),
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 10_000, 3), np.uint8)),
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)),
    ],
    ids=["one colour", "1 x 1", "10,000 x 100", "noise"],
)
def test_nothing_is_found_where_there_is_no_garment(model, image):
    assert find_garments(model, image) == []


def test_what_cannot_be_used_is_said(model, photo):
    image = photo[0]
    with pytest.raises(ImageError, match="cannot be decoded"):
        find_garments(model, b"no picture")
    with pytest.raises(ValueError, match="at least one garment"):
        find_garments(model, image, [])
    with pytest.raises(ValueError, match="word 2 is empty"):
        find_garments(model, image, ["dress", " "])
    with pytest.raises(ValueError, match="at most 100"):
        find_garments(model, image, [f"garment {i}" for i in range(500)])
    with pytest.raises(ValueError, match="words of its own"):
        find_garments(model, image, ["dress"], detector=Given())
    with pytest.raises(ValueError, match="neither model nor detector"):
        find_garments(None, image)
    with pytest.raises(ValueError, match=r"threshold is 2.0; it lies in 0…1"):
        WordDetector(model, threshold=2.0)


# a detector of one's own


def test_a_detector_of_ones_own_takes_the_models_place():
    image = Image.new("RGB", (100, 200))
    detector = Given(("cape", -20, 10, 50, 210), ("cap", 10, 0, 20, 10))
    assert isinstance(detector, Detector)
    cape, cap = find_garments(None, image, detector=detector)
    assert (cape.word, cape.box) == ("cape", Box(0, 10, 50, 200, score=0.5))
    assert cape.crop.size == (53, 200)  # with its margin, within the photograph
    assert (cap.score, cap.crop.size) == (0.5, (12, 11))


def test_a_box_without_pixels_is_refused_and_many_are_cut():
    image = Image.new("RGB", (100, 200))
    with pytest.raises(ImageError, match="'cape' has no pixel in the image of 100 x 200"):
        find_garments(None, image, detector=Given(("cape", 150, 0, 180, 10)))
    many = Given(*(("cape", i, 0, i + 1, 1) for i in range(20)))
    assert len(crop_garments(image, many.detect(image))) == MAX_GARMENTS


# search


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A small shop by the built-in model, and a photograph of an outfit as a file."""
    from fashionclip import Catalog, index_catalog
    from fashionclip.sample import write_sample_catalog

    folder = tmp_path_factory.mktemp("sample")
    table = write_sample_catalog(folder, n_products=24)
    index_catalog(Catalog.open(table), FashionCLIP.from_pretrained(), folder / "shop.lance")
    outfit("sweater", "skirt")[0].save(folder / "street.png")
    return folder


@pytest.fixture(scope="module")
def index(sample, model):
    return Index.open(sample / "shop.lance", model=model)


HALVES = Given(("left", 0, 0, 48, 48), ("right", 48, 0, 96, 48))


@pytest.fixture(scope="module")
def pair():
    """Two of the shop's pictures beside each other."""
    both = Image.new("RGB", (96, 48), "white")
    both.paste(draw("red", "dress"), (0, 0))
    both.paste(draw("blue", "shoe"), (48, 0))
    return both


def test_each_garment_has_hits_of_its_own(index, pair):
    found = index.search_garments(pair, detector=HALVES, k=3)
    assert [garment.word for garment, _ in found] == ["left", "right"]
    for garment, hits in found:
        alone = index.search(image=garment.crop, k=3)
        assert hits == alone
    assert found[0][1] != found[1][1]


def test_a_filter_counts_for_every_garment(index, pair):
    for _, hits in index.search_garments(pair, detector=HALVES, where="gender = 'Men'", k=2):
        assert [hit.columns["gender"] for hit in hits] == ["Men", "Men"]
    with pytest.raises(FilterError):
        index.search_garments(pair, detector=Given(), where="colr = 'green'")
    with pytest.raises(ValueError, match="k"):
        index.search_garments(pair, detector=Given(), k=0)


def test_search_garments_on_the_command_line(sample, monkeypatch, capsys):
    monkeypatch.setattr("fashionclip.garments.find.WordDetector", OutfitDetector)
    words = ["search", str(sample / "shop.lance"), "--garments", str(sample / "street.png")]
    page = sample / "outfit.html"
    assert run([*words, "--k", "2", "--html", str(page)]) == 0
    printed = capsys.readouterr()
    assert "skirt  (0.80, pixels 75,300 to 285,640)" in printed.out
    assert "2 garments, 4 hits of 24 products" in printed.err
    html = page.read_text(encoding="utf-8")
    assert html.count("<section id=") == 2
    assert html.count("<article>") == 4
    assert "http://" not in html.replace("http://www.w3.org", "")

    assert run([*words, "--k", "1", "--where", "category = 'skirt'", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["width"], answer["height"]) == (360, 720)
    assert {one["garment"] for one in answer["garments"]} == {"skirt", "sweater"}
    assert {hit["category"] for one in answer["garments"] for hit in one["hits"]} == {"skirt"}

    assert run([*words, "--garment", "umbrella", "--garment", "gloves"]) == 0
    assert "no garment stands out (2 looked for)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["red"], "has no effect with --garments"),
        (["--weight", "0.2"], "'--weight' has no effect with --garments"),
        (["--garment", " "], "garment word 1 is empty"),
        (["--where", "colr = 'red'"], "colr"),
    ],
)
def test_what_a_photograph_cannot_be_searched_with(sample, more, said, capsys):
    words = ["search", str(sample / "shop.lance"), "--garments", str(sample / "street.png")]
    assert run([*words, *more]) != 0
    assert said in capsys.readouterr().err


def test_garment_without_a_photograph_and_a_broken_photograph(sample, capsys):
    store = str(sample / "shop.lance")
    assert run(["search", store, "--garment", "dress"]) == 2
    assert "give the photo too" in capsys.readouterr().err
    (sample / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    assert run(["search", store, "--garments", str(sample / "broken.jpg")]) == 1
    assert "cannot be decoded" in capsys.readouterr().err
    assert run(["search", store, "--garments", str(sample / "gone.jpg")]) == 1
    assert "gone.jpg" in capsys.readouterr().err


@given(st.integers(1, 16), st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=10)
def test_a_speck_on_a_blank_page_is_no_garment(model, side, left, top):
    page = Image.new("RGB", (400, 400), "white")
    page.paste((0, 0, 0), (left, top, left + side, top + side))
    assert find_garments(model, page) == []


def test_an_empty_index_has_no_hits(model, photo):
    from fashionclip.store import StoreMeta, create_store

    meta = StoreMeta(
        uri="memory://no-products",
        model=model.name,
        fingerprint=model.fingerprint,
        dim=model.dim,
        columns={},
    )
    index = Index(create_store("memory://no-products", meta), model=model)
    assert all(len(hits) == 0 for _, hits in index.search_garments(photo[0]))


def test_a_photograph_may_be_bytes(index, pair):
    file = io.BytesIO()
    pair.save(file, "PNG")
    found = index.search_garments(file.getvalue(), detector=HALVES, k=1)
    assert [hits[0] for _, hits in found] == [
        hits[0] for _, hits in index.search_garments(pair, detector=HALVES, k=1)
    ]
