"""The doctor finds what is wrong in a catalogue, and says where there is too little to go by."""

import random

import pytest
from PIL import Image, ImageDraw

from fashionclip.catalog import Catalog
from fashionclip.doctor import examine_catalog
from fashionclip.model import FashionCLIP

COLOURS = ("red", "blue", "green", "black", "orange", "purple")
SHAPES = ("shirt", "shoe")


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
    """A shop of 84 products, with a few faults, and where it is."""
    shop = Shop(tmp_path_factory.mktemp("faulty"))
    for i in range(84):
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
def report(faulty, model, tmp_path_factory):
    return examine_catalog(Catalog.open(faulty.table()), model, cache=tmp_path_factory.mktemp("c"))


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
    sound = {f"p{i}" for i in range(1, 84)}
    named = {i for one in report.findings for i in one.product_ids}
    assert len(sound & named) <= len(sound) // 10
