"""Audits: planted faults are found, what is fair is not called unfair, and too little is said."""

import csv
import json
import zlib
from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from fashionclip.audit.background import OFF_CENTRE, OTHER_GROUNDS, audit_background
from fashionclip.audit.brands import audit_brands
from fashionclip.audit.cutouts import at_place, connected_to_border, cut_out, on_ground
from fashionclip.audit.gender import audit_gender, neutral_words
from fashionclip.audit.prices import audit_prices
from fashionclip.audit.query_length import audit_query_length, queries_of
from fashionclip.audit.recall import ask_for_own_titles
from fashionclip.audit.shop import AuditedProduct, Shop
from fashionclip.catalog.genders import gender_of
from fashionclip.cli.main import run as run_program
from fashionclip.evaluate.results import read_run
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.fetch import DEFAULT_POLICY
from fashionclip.sample import Attributes, generate_image, write_sample_catalog

TYPES = ("shirts", "jeans", "boots", "caps", "coats", "belts")
DIM = 512


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


class WordEncoder:
    """An encoder of words: a text is the sum of its words' directions, times their weights."""

    dim, logit_scale = DIM, 10.0

    def __init__(self, weights=None, image_of=None):
        """Weights of words (1 if not given), and the vector of pixels."""
        self.weights = weights or {}
        self.image_of = image_of

    def word(self, word):
        """The direction of a word, the same in every run."""
        return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM) * self.weights.get(
            word, 1.0
        )

    def encode_text(self, texts, *, templates=None):
        """Sums of words."""
        words = [text.casefold().replace(",", "").split() for text in texts]
        rows = [sum((self.word(w) for w in some), np.zeros(DIM)) for some in words]
        return unit(np.array(rows).reshape(-1, DIM) + 1e-9)

    def encode_images(self, images):
        """What ``image_of`` gives for each image's pixels."""
        return unit(np.array([self.image_of(image.source) for image in images]))


def product(number, kind, *, gender="", brand="", price=float("nan"), title=None, description=""):
    return AuditedProduct(
        image=ImageRef(f"p{number}", b""),
        title=f"{kind} number{number}" if title is None else title,
        highlights=(),
        description=description,
        category=kind,
        colour="",
        brand=brand,
        gender=gender,
        price=price,
    )


def shop_of(products, encoder, vectors=None):
    if vectors is None:
        vectors = encoder.encode_text([p.title for p in products])
    return Shop(tuple(products), vectors, encoder, np.zeros(len(products), bool))


def gendered_shop(pull, *, n=60, share_of_men=0.5):
    """Products near their type, men's moved towards the type's word by ``pull``."""
    rng = np.random.default_rng(1)
    encoder = WordEncoder()
    products, vectors = [], []
    for kind in TYPES:
        for i in range(n):
            gender = "men" if i < n * share_of_men else "women"
            products.append(product(len(products), kind, gender=gender))
            towards = pull if gender == "men" else 0.0
            vectors.append(encoder.word(kind) * (1 + towards) + rng.normal(size=DIM) * 1.5)
    return shop_of(products, encoder, unit(np.array(vectors)))


def test_a_model_that_puts_men_first_is_found():
    shop = gendered_shop(1.0)
    result = audit_gender(shop, ask_for_own_titles(shop))
    association, bias = result.figures["association"], result.figures["bias@10"]
    assert association.low > 0
    assert association.n == len(shop.products)
    assert bias.value > 0.5
    assert result.details["p"]["association"] < 0.01
    assert result.details["p"]["ndkl@50"] < 0.01
    skews = result.details["groups"]["Skew@10"]
    assert skews["men"].low > 0 > skews["women"].high


def test_a_shop_of_mostly_mens_products_is_not_called_biased():
    shop = gendered_shop(0.0, n=120, share_of_men=0.8)
    result = audit_gender(shop, ask_for_own_titles(shop))
    assert result.figures["bias@10"].value > 0.3  # it shows its own shares
    assert result.details["chance"]["bias@10"] == pytest.approx(0.6, abs=0.02)
    assert min(result.details["p"].values()) > 0.02
    by_chance = result.details["groups"][
        "By chance: labels dealt out again within types, 500 times"
    ]
    assert by_chance["ndkl@50"].low < result.figures["ndkl@50"].value < by_chance["ndkl@50"].high


def test_two_products_of_a_gender_give_no_figure():
    products = [product(i, "shirts", gender="men" if i < 2 else "women") for i in range(80)]
    shop = shop_of(products, WordEncoder())
    result = audit_gender(shop, ask_for_own_titles(shop))
    assert result.figures == {}
    assert "78 products are women's and 2 men's" in result.warnings[0]


def test_a_catalogue_without_gender_is_told_how_to_name_its_column():
    shop = shop_of([product(i, "shirts") for i in range(30)], WordEncoder())
    (warning,) = audit_gender(shop, ask_for_own_titles(shop)).warnings
    assert "--column gender=NAME" in warning


def test_equal_titles_give_no_recall():
    products = [
        product(i, TYPES[i % 3], gender=("men", "women")[i % 2], title="Product", price=1.0 + i)
        for i in range(120)
    ]
    shop = shop_of(products, WordEncoder())
    titles = ask_for_own_titles(shop)
    results = [
        audit_gender(shop, titles),
        audit_query_length(shop),
        audit_prices(shop, titles),
    ]
    for result in results:
        assert "all titles are equal" in " ".join(result.warnings)
        assert "hit_gap@10" not in result.figures


def test_without_categories_no_gap_is_said_to_be_within_them():
    products = [
        product(i, "", gender=("men", "women")[i % 2], title=f"item number{i}") for i in range(80)
    ]
    shop = shop_of(products, WordEncoder())
    result = audit_gender(shop, ask_for_own_titles(shop))
    assert "hit_gap@10" not in result.figures
    assert "share an article type" in " ".join(result.warnings)


def test_a_gap_of_groups_that_are_all_found_has_an_interval():
    products = [product(i, TYPES[i % 2], gender=("men", "women")[i // 2 % 2]) for i in range(120)]
    shop = shop_of(products, WordEncoder())
    gap = audit_gender(shop, ask_for_own_titles(shop)).figures["hit_gap@10"]
    assert gap.value == 0
    assert gap.low < -0.03 < 0.03 < gap.high


def test_words_of_gender_leave_a_title():
    assert neutral_words("Nike Men's running shoes for women") == [
        "Nike",
        "running",
        "shoes",
        "for",
    ]
    assert neutral_words("H&M top") == ["H&M", "top"]


@pytest.mark.parametrize(
    ("value", "gender"),
    [
        *(("Women", "women"), ("Adults-Men", "men"), ("female", "women"), ("Girls", "women")),
        *(("Men, Women", "unisex"), ("UNISEX", "unisex"), ("Herren", "men"), ("женский", "women")),
        *(("Kids", None), ("", None), (None, None), (3, None), ("Menswear-ish", None)),
    ],
)
def test_gender_is_read_from_whole_words(value, gender):
    assert gender_of(value) == gender


def test_a_query_has_the_words_of_the_shorter_ones():
    words = " ".join(f"word{i}" for i in range(70))
    queries = queries_of(product(1, "casual shoes", title="Blue Runner", description=words))
    lengths = [len(query.split()) for query in queries]
    assert lengths == [2, 8, 20, 60]
    for short, long in pairwise(queries):
        assert long.startswith(short)
    assert queries_of(product(1, "shoes", title="Blue Runner", description="too short")) is None


def test_a_model_that_reads_only_long_queries_well_is_found():
    encoder = WordEncoder({f"c{i}": 0.0 for i in range(25)})
    rng = np.random.default_rng(0)
    products = []
    for i in range(200):
        words = "a nice product of our own little shop " + " ".join(
            f"w{n}" for n in rng.integers(5000, size=40)
        )
        products.append(product(i, TYPES[i % 6], title=f"{TYPES[i % 6]} item", description=words))
    titles = [f"{p.title} {p.description}" for p in products]
    products = [
        product(i, p.category, title=f"{p.title} c{i % 25}", description=p.description)
        for i, p in enumerate(products)
    ]
    result = audit_query_length(shop_of(products, encoder, encoder.encode_text(titles)))
    assert result.figures["long_gain@10"].low > 0.1
    assert len(result.details["groups"]["The same by chance"]) == 4


def branded_shop(weight):
    """Brands that sell four of six types; the brand's word weighs ``weight``."""
    brands = [f"brand{b}" for b in range(10)]
    encoder = WordEncoder(dict.fromkeys(brands, weight))
    products = [
        product(i, TYPES[(b + t) % 6], brand=brand, title=f"{brand} {TYPES[(b + t) % 6]} x{i}")
        for i, (b, brand, t, _) in enumerate(
            (b, brand, t, n) for b, brand in enumerate(brands) for t in range(4) for n in range(12)
        )
    ]
    return shop_of(products, encoder)


def test_a_brand_that_drowns_the_garment_is_found():
    loud = audit_brands(branded_shop(5.0)).figures
    fair = audit_brands(branded_shop(0.3)).figures
    assert loud["unsold_type_change@10"].high < -0.3
    assert abs(fair["unsold_type_change@10"].value) < 0.1
    assert loud["brand_share@10"].value > 0.9


def test_few_brands_give_no_figure():
    products = [product(i, TYPES[i % 2], brand=f"brand{i % 2}") for i in range(80)]
    result = audit_brands(shop_of(products, WordEncoder()))
    assert result.figures == {}
    assert "2 brands and 2 article types" in result.warnings[0]


def test_dear_products_shown_first_are_found():
    rng = np.random.default_rng(0)
    encoder, products, vectors = WordEncoder(), [], []
    for i in range(360):
        price = float(rng.integers(10, 100))
        products.append(product(i, TYPES[i % 6], price=price))
        towards = 1 + price / 60
        vectors.append(encoder.word(TYPES[i % 6]) * towards + rng.normal(size=DIM))
    shop = shop_of(products, encoder, unit(np.array(vectors)))
    result = audit_prices(shop, ask_for_own_titles(shop))
    skews = result.details["groups"]["Skew@10"]
    assert skews["high"].low > 0.3
    assert skews["low"].high < -0.3
    assert result.details["p"]["max_skew@10"] < 0.01


def test_without_prices_nothing_is_measured():
    shop = shop_of([product(i, "shirts") for i in range(90)], WordEncoder())
    result = audit_prices(shop, ask_for_own_titles(shop))
    assert result.figures == {}
    assert "0 products have a price" in result.warnings[0]


@settings(max_examples=40)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_what_is_connected_to_the_border_is_what_a_search_reaches(near):
    height, width = near.shape
    reached = np.zeros_like(near)
    border = {
        (y, x)
        for y in range(height)
        for x in range(width)
        if y in {0, height - 1} or x in {0, width - 1}
    }
    queue = deque(cell for cell in border if near[cell])
    for cell in queue:
        reached[cell] = True
    while queue:
        y, x = queue.popleft()
        for cell in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            inside = 0 <= cell[0] < height and 0 <= cell[1] < width
            if inside and near[cell] and not reached[cell]:
                reached[cell] = True
                queue.append(cell)
    assert (connected_to_border(near) == reached).all()


def ring(ground=(255, 255, 255)):
    """A red ring whose hole has the ground's colour."""
    image = Image.new("RGB", (80, 100), ground)
    ImageDraw.Draw(image).ellipse((20, 30, 60, 70), outline=(200, 0, 0), width=6)
    return image


def test_a_product_is_cut_out_with_what_lies_inside_it():
    alpha = np.asarray(cut_out(ring()).getchannel("A"))
    assert alpha[50, 40] == 255
    assert alpha[5, 5] == 0


def test_no_product_is_cut_out_of_an_uneven_ground_or_a_blank_page():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (60, 60, 3), dtype=np.uint8))
    for image in (noise, Image.new("RGB", (1, 1)), Image.new("RGB", (50, 50), "white")):
        assert cut_out(image) is None


def test_a_cut_out_product_on_its_own_ground_looks_as_before():
    image = generate_image(Attributes("handbag", "red"), seed=3)
    again = on_ground(cut_out(image), "white").astype(int)
    assert np.abs(again - np.asarray(image)).mean() < 1


def test_a_place_has_the_product_smaller_and_where_it_says():
    cut = cut_out(ring())
    is_red = at_place(cut, "bottom right at 30 %")[:, :, 1] < 128
    rows, columns = np.nonzero(is_red)
    assert rows.min() > 80
    assert columns.min() > 60
    assert len(rows) < (on_ground(cut, "white")[:, :, 1] < 128).sum() / 4


def test_a_model_that_looks_at_the_ground_is_found():
    """Vectors are the mean colour of the picture's corner, and of its middle."""

    def of_corner(pixels):
        return [*pixels[0, 0] / 255.0, 1.0, *np.zeros(DIM - 4)]

    def of_middle(pixels):
        return [*pixels[50, 40] / 255.0, 1.0, *np.zeros(DIM - 4)]

    drops = {}
    for name, image_of in (("corner", of_corner), ("middle", of_middle)):
        encoder = WordEncoder(image_of=image_of)
        products = [product(i, TYPES[i % 2], title=f"{TYPES[i % 2]} n{i}") for i in range(40)]
        products = [
            AuditedProduct(
                **{f: getattr(p, f) for f in p.__dataclass_fields__ if f != "image"},
                image=ImageRef(p.image.image_id, np.asarray(ring())),
            )
            for p in products
        ]
        shop = shop_of(products, encoder, encoder.encode_images([p.image for p in products]))
        result = audit_background(shop, DEFAULT_POLICY)
        drops[name] = result.figures["ground_drop"]
        rows = result.details["groups"]["Drop of the cosine"]
        assert list(rows) == [*OTHER_GROUNDS, *OFF_CENTRE]
        assert result.figures["cut_out_drop"].value == pytest.approx(0, abs=0.01)
    assert drops["corner"].low > 0.005
    assert drops["middle"].value == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def audited(tiny_checkpoint, tmp_path_factory):
    """The folder of a command's audit, of a small sample catalogue by the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("audit")
    write_sample_catalog(folder / "shop", n_products=44)
    words = ("audit", str(tiny_checkpoint), "--catalog", str(folder / "shop"))
    words += ("--cache", str(folder / "cache"), "--out", str(folder / "out"))
    assert run_program(words) == 0
    return folder, words


def test_the_command_writes_a_report_that_can_be_read_again(audited):
    folder, _ = audited
    run = read_run(folder / "out")
    assert run.title == "Audit"
    (results,) = run.results.values()
    assert [r.task for r in results] == [
        f"shop/{name}" for name in ("gender", "background", "query-length", "brands", "prices")
    ]
    page = (folder / "out" / "report.html").read_text("utf-8")
    assert "Drop on other grounds" in page
    said = (folder / "out" / "report.md").read_text("utf-8")
    assert "28 products are women's and 12 men's; each group needs 20" in said


def test_a_second_run_encodes_nothing_and_finds_the_same(audited, capsys):
    folder, words = audited
    before = sorted((folder / "cache").rglob("*"))
    first = read_run(folder / "out")
    capsys.readouterr()
    assert run_program([*words, "--json", "--only", "background,prices"]) == 0
    found = json.loads(capsys.readouterr().out)
    (engine,) = found["engines"].values()
    assert engine["encoding_seconds"] < engine["seconds"]
    (results,) = found["models"].values()
    assert list(results) == ["shop/background", "shop/prices"]
    assert sorted((folder / "cache").rglob("*")) == before
    (earlier,) = first.results.values()
    drop = next(r.figures["ground_drop"] for r in earlier if r.task == "shop/background")
    assert results["shop/background"]["figures"]["ground_drop"]["value"] == pytest.approx(
        drop.value
    )


def test_an_unknown_audit_is_refused_with_the_names_there_are(audited, capsys):
    _, words = audited
    assert run_program([*words, "--only", "sizes"]) == 2
    assert "there is no audit 'sizes'; there are gender, background" in capsys.readouterr().err


def test_a_bare_catalogue_is_audited_as_far_as_it_goes(tiny_checkpoint, tmp_path, capsys):
    write_sample_catalog(tmp_path / "shop", n_products=26)
    text = (tmp_path / "shop" / "catalog.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    (tmp_path / "shop" / rows[3]["image"]).write_bytes(b"no picture")
    with (tmp_path / "shop" / "catalog.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "title", "image"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    words = ("audit", str(tiny_checkpoint), "--catalog", str(tmp_path / "shop"), "--json")
    assert run_program([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    (results,) = json.loads(said.out)["models"].values()
    assert "ground_drop" in results["shop/background"]["figures"]
    assert [name for name, r in results.items() if not r["figures"]] == [
        "shop/gender",
        "shop/query-length",
        "shop/brands",
        "shop/prices",
    ]
    assert "Pictures that could not be read and are left out: 1 (" in said.err
    assert "--column gender=NAME" in said.err
