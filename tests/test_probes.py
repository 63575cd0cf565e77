"""Probes: captions that are right and wrong, scenes whose truth is known, scores by hand."""

import csv
import io
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fashionclip.catalog import Catalog
from fashionclip.cli.main import run
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.probes import captions, scenes, sensitivity, typographic
from fashionclip.probes.pairs import CaptionProbe, Contest, score_captions
from fashionclip.probes.products import alike, catalog_set, sample_set
from fashionclip.probes.run import NEEDS, plan_probes
from fixed_encoder import FixedEncoder
from small_shop import draw, encoded

RED, BLUE, GREEN = np.eye(3, dtype=np.float32)
WORDS = {"red": RED, "blue": BLUE, "green": GREEN}
COLOURS = ("red", "blue", "green", "black")


def picture(name, vector):
    return ImageRef(name, np.array([vector], np.float32))


def contest(name, vector, right, wrong, cluster=None, group=""):
    return Contest(picture(name, vector), cluster or name, right, wrong, group)


def caption_probe(contests, **more):
    return CaptionProbe("t/swap", tuple(contests), (), **more)


def twenty(n_won):
    """Twenty red pictures; the right caption is red for some of them and blue for the others."""
    colours = [("red", "blue")] * n_won + [("blue", "red")] * (20 - n_won)
    return [contest(f"p{i}", RED, (a,), (b,)) for i, (a, b) in enumerate(colours)]


# scores


def test_a_contest_is_won_where_every_right_caption_is_closer_than_every_wrong_one():
    found = score_captions(caption_probe(twenty(13)), FixedEncoder(WORDS))
    figure = found.figures["right_first"]
    assert (figure.value, figure.n, found.headline) == (0.65, 20, "right_first")
    assert figure.low < 0.65 < figure.high
    of_all = score_captions(caption_probe(twenty(20)), FixedEncoder(WORDS)).figures["right_first"]
    assert (of_all.value, of_all.low < 0.9) == (1, True), "twenty items prove no certainty"
    assert found.details["chance"]["right_first"] == 0.5
    assert sum(found.items["right_first"]) == 13
    assert found.details["lost"][0] == {"picture": "p13", "right": "blue", "preferred": "red"}


def test_a_tie_is_lost_and_two_right_captions_must_both_win():
    same = [contest(f"p{i}", GREEN, ("red",), ("blue",)) for i in range(20)]
    assert (
        score_captions(caption_probe(same), FixedEncoder(WORDS)).figures["right_first"].value == 0
    )
    both = [contest(f"p{i}", [0.8, 0.6, 0], ("red", "green"), ("blue",)) for i in range(20)]
    probe = caption_probe(both, right_names=("original", "paraphrase"))
    found = score_captions(probe, FixedEncoder(WORDS))
    assert found.figures["right_first"].value == 0
    assert found.details["chance"]["right_first"] == pytest.approx(1 / 3)
    each = found.details["groups"]["Each caption by itself"]
    assert (each["original"].value, each["paraphrase"].value) == (1, 0)


def test_pictures_of_one_product_count_as_one_item():
    variants = [contest(f"v{i}", RED, ("blue",), ("red",), cluster="p0") for i in range(30)]
    found = score_captions(caption_probe([*twenty(20), *variants]), FixedEncoder(WORDS))
    assert found.n == 20
    assert found.figures["right_first"].value == pytest.approx((19 + 1 / 31) / 20)


def test_the_text_only_baseline_asks_the_mean_of_the_other_pictures():
    # fifteen red pictures and five blue ones, each with its own colour as the right caption
    own = [("red", "blue", RED)] * 15 + [("blue", "red", BLUE)] * 5
    contests = [contest(f"p{i}", v, (a,), (b,)) for i, (a, b, v) in enumerate(own)]
    found = score_captions(caption_probe(contests), FixedEncoder(WORDS)).figures
    assert found["right_first"].value == 1
    assert found["text_only"].value == 0.75, "without the picture, red is the likelier colour"
    assert found["over_text_only"].value == 0.25
    assert found["shorter"].value == 0.75


@settings(max_examples=15)
@given(st.lists(st.booleans(), min_size=20, max_size=40))
def test_a_model_that_sees_nothing_is_no_better_than_text_only(rights):
    vector = np.array([0.6, 0.8, 0], np.float32)
    pairs = [("red", "blue") if is_red else ("blue", "red") for is_red in rights]
    contests = [contest(f"p{i}", vector, (a,), (b,)) for i, (a, b) in enumerate(pairs)]
    found = score_captions(caption_probe(contests), FixedEncoder(WORDS)).figures
    assert found["right_first"] == found["text_only"]
    assert found["over_text_only"].low < found["over_text_only"].value == 0
    assert found["over_text_only"].high < 0.2


def test_too_few_items_equal_captions_and_lost_pictures_are_said():
    few = score_captions(caption_probe(twenty(20)[:19]), FixedEncoder(WORDS))
    assert few.figures == {}
    assert "19 items are too few" in few.warnings[0]
    deaf = FixedEncoder(dict.fromkeys(WORDS, RED))
    equal = score_captions(caption_probe(twenty(20)), deaf)
    assert equal.figures == {}
    assert "all captions the same vector" in equal.warnings[0]
    broken = contest("broken", np.full(3, np.nan), ("red",), ("blue",))
    kept = score_captions(caption_probe([broken, *twenty(20)]), FixedEncoder(WORDS))
    assert (kept.n, kept.left_out) == (20, 1)
    assert "broken" in kept.warnings[0]


def test_a_lost_picture_of_several_captions_is_counted_once():
    lost = np.full(3, np.nan)
    broken = [contest("broken", lost, ("red",), (word,)) for word in ("blue", "green")]
    found = score_captions(caption_probe([*broken, *twenty(20)]), FixedEncoder(WORDS))
    assert found.left_out == 1
    assert found.warnings[0].startswith("1 of 21 pictures could not be read")


def test_figures_without_what_was_seen_need_twenty_items_too():
    contests = [contest(f"p{i}", RED, ("red",), ("blue",)) for i in range(20)]
    contests += [contest(f"q{i}", RED, ("blue",), ("red",)) for i in range(20)]
    probe, encoder = caption_probe(contests), FixedEncoder(WORDS)
    half = score_captions(probe, encoder, seen=np.arange(40) < 20)
    assert half.n_seen == 20
    assert (half.figures["right_first"].value, half.unseen["right_first"].value) == (0.5, 0)
    most = score_captions(probe, encoder, seen=np.arange(40) < 21)
    assert most.unseen == {}
    assert "trained on all but 19 of the items: 19 items are too few" in most.warnings[0]


# captions


@pytest.fixture(scope="module")
def drawn():
    return sample_set(120)


def test_a_wrong_detail_is_wrong_for_its_product_and_right_for_others_of_its_kind(drawn):
    short, both = captions.half_truths(drawn)
    products = {product.cluster: product for product in drawn.products}
    assert short.n_items >= 90
    for one, other in zip(short.contests, both.contests, strict=True):
        product = products[one.cluster]
        start, _, wrong = one.wrong[0].rpartition(", ")
        assert one.right == (start,)
        assert other.right == (f"{start}, {product.words[one.group]}",)
        assert not any({product.words[one.group], wrong} <= set(group) for group in alike())
        same_kind = [p for p in drawn.products if p.garment == product.garment]
        assert wrong in {p.words.get(one.group) for p in same_kind} - {product.words[one.group]}


def test_a_paraphrase_keeps_the_word_that_the_wrong_caption_changes(drawn):
    (probe,) = captions.hard_positives(drawn)
    products = {product.cluster: product for product in drawn.products}
    for one in probe.contests:
        word = products[one.cluster].words[one.group.partition(",")[0]]
        original, paraphrase = one.right
        assert word in original
        assert word in paraphrase
        assert original != paraphrase
        assert word not in one.wrong[0].split()


def test_as_many_products_lack_a_thing_as_have_it(drawn):
    without, colour = captions.negation(drawn)
    counts = Counter(one.right for one in without.contests)
    assert len(without.contests) >= 20
    for (caption,), n in counts.items():
        way = ("without", "with") if " without " in caption else ("with", "without")
        assert counts[(caption.replace(f" {way[0]} ", f" {way[1]} "),)] == n
    products = {product.cluster: product for product in drawn.products}
    for one in colour.contests:
        assert one.wrong[0].endswith(f" not {products[one.cluster].words['colour']}")
        assert products[one.cluster].words["pattern"] == "plain", "no accent is called wrong"


# scenes


def test_swapped_colours_have_the_same_words_and_no_garment_twice():
    (probe,) = scenes.swapped_colours(24)
    assert len(probe.contests) >= 8
    for one in probe.contests:
        words = [sorted(text.replace("an ", "a ").split()) for text in (*one.right, *one.wrong)]
        assert words[0] == words[1]
        assert one.right != one.wrong
    used = [part for one in probe.contests for part in one.cluster.split("-")[1:]]
    assert len(used) == len(set(used))


def test_a_scene_shows_as_many_garments_as_its_right_caption_says():
    (probe,) = scenes.counting(12)
    for one in probe.contests:
        pixels = np.asarray(Image.open(io.BytesIO(one.image.source)).convert("L"))
        cells = np.split(pixels, 3, axis=1)
        shown = sum(bool((cell < 200).any()) for cell in cells)
        word = one.right[0].split()[0]
        assert ("one", "two", "three").index(word) + 1 == shown
        assert {text.split()[0] for text in (*one.right, *one.wrong)} == {"one", "two", "three"}
    assert Counter(one.group for one in probe.contests) == {"one": 4, "two": 4, "three": 4}
    assert scenes._counted("two", "dress") == "two dresses"
    assert scenes._counted("one", "boots") == "one pair of boots"


# printed words


class Reader:
    """A model that reads: a picture with a label printed in full on it gets this label."""

    dim, logit_scale = 8, 10.0

    def __init__(self, labels):
        """The labels, at most seven."""
        self.labels = list(labels)

    def encode_images(self, images):
        """The printed label's vector, another one where no label is printed."""
        texts = [" ".join(image.image_id.split(" ")[1:-1]) for image in images]
        places = [1 + self.labels.index(text) if text in self.labels else 0 for text in texts]
        return np.eye(self.dim, dtype=np.float32)[places]

    def encode_text(self, texts, *, templates=None):
        """A vector for each label."""
        return np.eye(self.dim, dtype=np.float32)[1 : len(texts) + 1]


class Blind:
    """The same vector for every picture, and another one for each text."""

    dim, logit_scale = 32, 10.0

    def encode_images(self, images):
        """A unit vector each."""
        return np.eye(1, self.dim, dtype=np.float32).repeat(len(images), axis=0)

    def encode_text(self, texts, *, templates=None):
        """Unit vectors."""
        return np.eye(len(texts), self.dim, dtype=np.float32)


def gray(image):
    return np.asarray(Image.open(io.BytesIO(image.source)).convert("L"), int)


@pytest.fixture(scope="module")
def printed(drawn):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typographic, "N_PICTURES", 60)  # fewer pictures, to save time
        garments, brands = typographic.typographic(drawn)
    assert brands.name == "sample/typographic-brand"
    return garments


def test_a_printed_word_is_never_the_products_own_and_hides_the_same_place(printed):
    for one in printed.pictures:
        assert printed.labels[one.word] != one.product.garment
    one = printed.pictures[0]
    clean = gray(one.clean)
    changed = [np.abs(gray(image) - clean) > 60 for image in (*one.words, *one.shuffled)]
    for marks in (changed[1], changed[4]):
        rows = np.flatnonzero(marks.any(axis=1))
        assert 0.4 * len(clean) < rows.min() < rows.max() < 0.6 * len(clean)
    assert changed[2].sum() > 2 * changed[1].sum() > 4 * changed[0].sum()


def test_a_model_that_reads_flips_to_words_and_not_to_shuffled_letters(printed):
    labels = printed.labels[:7]
    pictures = tuple(p for p in printed.pictures if p.word < len(labels))
    probe = typographic.TypographicProbe("t", labels, labels, pictures, ())
    found = typographic.score_typographic(probe, Reader(labels))
    n = len(pictures)
    assert found.n == n >= 20
    n_first = sum(p.word == 0 for p in pictures)  # of the label that it gives without a word
    assert found.figures["flips@6"].value == pytest.approx((n - n_first) / n)
    assert found.figures["flips_shuffled@6"].value == 0
    assert found.figures["reads@6"].value == found.figures["flips@6"].value
    seen = np.arange(n) < 20
    assert typographic.score_typographic(probe, Reader(labels), seen=seen).n_seen == 20
    assert found.figures["label_kept@6"].value == pytest.approx(n_first / n)


def test_shuffled_letters_are_never_the_word_itself():
    for seed in range(30):
        for word in ("cap", "belt", "Caldera Lane", "ox"):
            found = typographic._shuffled(word, np.random.default_rng(seed))
            assert found != word
            assert sorted(found) == sorted(word)
            assert found.find(" ") == word.find(" ")


def test_a_word_that_the_font_cannot_print_is_no_label(drawn):
    names = dict(zip(COLOURS, ("靴", "сумка", "écharpe", "AA"), strict=True))
    products = tuple(
        replace(product, garment=names[COLOURS[row % 4]])
        for row, product in enumerate(drawn.products)
    )
    garments, _ = typographic.typographic(replace(drawn, products=products))
    assert (garments.labels, garments.pictures) == ((), ())


def test_pictures_that_cannot_be_printed_on_are_counted(drawn, monkeypatch):
    monkeypatch.setattr(typographic, "N_PICTURES", 60)
    products = [*drawn.products]
    products[:10] = [replace(p, image=ImageRef(p.cluster, b"no image")) for p in products[:10]]
    garments, _ = typographic.typographic(replace(drawn, products=tuple(products)))
    found = typographic.score_typographic(garments, Blind())
    assert found.left_out == len(garments.unreadable) > 0
    assert f"{found.left_out} of {found.n + found.left_out} pictures" in found.warnings[0]


# wordings


def test_sensitivity_is_the_spread_of_average_precisions():
    # the query is found on place 1 by all wordings but one, and by that one on place 2
    documents = (picture("a", RED), picture("b", BLUE))
    queries = tuple(
        (f"red {i}", "red photo", "red wish", "blue first" if i < 5 else "red", "red", "red")
        for i in range(20)
    )
    relevant = (np.array([0]),) * 20
    probe = sensitivity.SensitivityProbe("t", queries, documents, relevant, ())
    found = sensitivity.score_sensitivity(probe, FixedEncoder(WORDS))
    assert found.figures["sensitivity"].value == pytest.approx(0.5 * 5 / 20)
    assert found.figures["average_precision"].value == pytest.approx(1 - 0.5 / 6 * 5 / 20)
    assert found.details["chance"]["average_precision"] == pytest.approx(0.75)
    seen = sensitivity.score_sensitivity(probe, FixedEncoder(WORDS), seen=np.array([True, False]))
    assert (seen.n_seen, seen.unseen) == (20, {}), "one of their answers was seen"
    first, *others = found.details["groups"]["Average precision by wording"].values()
    assert (first.value, others[2].value) == (1, pytest.approx(0.875))


def test_a_query_that_lost_too_many_answers_is_left_out():
    documents = tuple(picture(f"p{i}", RED if i < 9 else np.full(3, np.nan)) for i in range(12))
    enough, too_few = np.arange(6), np.arange(8, 12)  # three of these four cannot be read
    queries = (("red",) * 6,) * 25
    relevant = (enough,) * 21 + (too_few,) * 4
    probe = sensitivity.SensitivityProbe("t", queries, documents, relevant, ())
    found = sensitivity.score_sensitivity(probe, FixedEncoder(WORDS))
    assert (found.n, found.left_out) == (21, 3)


# a shop's own catalogue


def write_shop(folder, rows):
    """A table with a drawn picture for each row."""
    (folder / "images").mkdir(parents=True)
    for i, row in enumerate(rows):
        image = draw(row["colour"] if row.get("colour") in COLOURS else "red")
        (folder / "images" / f"{i}.png").write_bytes(encoded(image))
    lines = [{"id": f"P{i}", "image": f"images/{i}.png", **row} for i, row in enumerate(rows)]
    names = list(dict.fromkeys(name for line in lines for name in line))
    with (folder / "shop.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)
    return folder / "shop.csv"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    rows = []
    for i in range(60):
        straps = [{"Strap Material": "Leather", "Dial Material": "Steel"}, {"Neck": "Round Neck"}]
        row = {
            "title": f"Thing {i}",
            "category": ("Dresses", "Tshirts")[i % 2],
            "colour": COLOURS[i % 4],
            "sleeve": ("Long Sleeves", "Sleeveless")[i // 2 % 2],
            "brand": ("Acme", "Boma")[i // 3 % 2],
            "articleAttributes": json.dumps(straps[i % 2]),
        }
        rows.append(row)
    return write_shop(tmp_path_factory.mktemp("shop"), rows)


def test_a_catalogues_columns_become_words_of_captions(shop):
    first, second, *_ = catalog_set(Catalog.open(shop)).products
    assert (first.garment, first.brand) == ("dress", "Acme")
    assert first.words == {"colour": "red", "sleeve": "long-sleeved", "material": "leather"}
    assert first.parts == {"material": {"strap": "leather", "dial": "steel"}}
    assert second.words["neckline"] == "round-necked"
    assert (second.garment, second.synonyms[0]) == ("t-shirt", "tee")


def test_variants_of_a_product_are_one_item_and_unknown_values_are_no_words(tmp_path):
    row = {"title": "Thing", "category": "Dresses", "item_group_id": "G1", "sleeve": "Wizard"}
    path = write_shop(tmp_path, [{**row, "colour": colour} for colour in ("red", "12-B")])
    red, unknown = catalog_set(Catalog.open(path)).products
    assert red.cluster == unknown.cluster == "G1"
    assert (red.words, unknown.words) == ({"colour": "red"}, {})


def test_a_catalogue_makes_the_probes_that_its_attributes_allow(shop):
    plan = plan_probes(catalog_set(Catalog.open(shop)))
    assert {job.name for job in plan.jobs} == {
        *("shop/swap", "shop/half-truth", "shop/wrong-detail", "shop/hard-positives"),
        *("shop/negation-without", "shop/negation-colour"),
        *("shop/typographic-garment", "shop/typographic-brand"),
    }
    assert "drawn scenes" in plan.missing["shop/counting"]
    assert plan.missing["shop/sensitivity"].startswith("needs 20 queries")
    (swap,) = captions.swapped_parts(catalog_set(Catalog.open(shop)))
    assert swap.contests[0].right == ("a dress, steel dial and leather strap",)
    assert swap.contests[0].wrong == ("a dress, leather dial and steel strap",)


@pytest.mark.parametrize(
    "rows",
    [
        [{"title": f"Thing {i}"} for i in range(30)],
        [{"title": "Thing", "category": "Dresses", "colour": "red"}] * 30,
        [{"title": "Thing", "category": "Dresses", "colour": c} for c in ("red", "blue")],
    ],
    ids=["no attributes", "all alike", "two products"],
)
def test_a_catalogue_that_says_too_little_leaves_every_probe_out(tmp_path, rows):
    plan = plan_probes(catalog_set(Catalog.open(write_shop(tmp_path, rows))))
    assert plan.jobs == ()
    assert {name.partition("/")[2].partition("-")[0] for name in plan.missing} >= {
        name.partition("-")[0] for name in NEEDS
    } - {"half-truth"}
    assert all("needs" in why for why in plan.missing.values())


def test_a_catalogue_without_categories_is_told_how_to_name_them(tmp_path):
    bare = write_shop(tmp_path / "bare", [{"title": "Thing", "colour": "red"}] * 3)
    kinds = write_shop(tmp_path / "kinds", [{"title": "Thing", "category": "Dresses"}] * 3)
    (why,) = plan_probes(catalog_set(Catalog.open(bare)), ["hard-positives"]).missing.values()
    assert "name the column with --column category=NAME" in why
    (why,) = plan_probes(catalog_set(Catalog.open(kinds)), ["hard-positives"]).missing.values()
    assert "--column" not in why


def test_an_unknown_probe_is_refused_with_the_name_that_was_meant(drawn):
    with pytest.raises(EvaluationError, match="did you mean 'negation'"):
        plan_probes(drawn, ["negatoin"])


# the command


def test_the_command_compares_two_models_and_resumes_from_its_cache(
    shop, tiny_checkpoint, tmp_path, capsys
):
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    words = ["probe", str(tiny_checkpoint), str(other), "--catalog", str(shop), "--json"]
    words += ["--only", "half-truth,counting", "--cache", str(tmp_path / "cache")]
    assert run([*words, "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    first, second = document["models"].values()
    assert first == second, "the same weights"
    figures = first["shop/half-truth"]["figures"]
    assert 0 <= figures["right_first"]["low"] <= figures["right_first"]["high"] <= 1
    assert first["shop/half-truth"]["chance"]["text_only"] == 0.5
    (comparison,) = document["comparisons"]
    assert {row["difference"]["value"] for row in comparison["rows"]} == {0}
    assert "shop/counting was left out: it needs drawn scenes" in err
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"report.html", "results.json"}
    files = set((tmp_path / "cache").rglob("*.safetensors"))
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["models"] == document["models"]
    assert set((tmp_path / "cache").rglob("*.safetensors")) == files, "nothing is encoded again"


@pytest.mark.parametrize(
    ("other", "reason"),
    [("gone", "gone does not exist"), ("damaged", "config.json"), ("first", "called first")],
)
def test_a_bad_second_model_is_refused_before_the_first_is_measured(
    shop, tiny_checkpoint, tmp_path, capsys, other, reason
):
    first = shutil.copytree(tiny_checkpoint, tmp_path / "first")
    (tmp_path / "damaged").mkdir()
    words = ["probe", str(first), str(tmp_path / other), "--catalog", str(shop)]
    assert run([*words, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert reason in line
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run").exists()


def test_the_command_says_in_one_line_that_no_probe_can_be_made(tmp_path, tiny_checkpoint, capsys):
    path = write_shop(tmp_path, [{"title": "Thing"}] * 3)
    assert run(["probe", str(tiny_checkpoint), "--catalog", str(path), "--only", "counting"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: no probe can be made: shop/counting needs drawn scenes")


@pytest.mark.slow
def test_the_built_in_model_sees_details_of_drawings(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["probe", "--only", "half-truth,negation", "--json"]) == 0
    probes = json.loads(capsys.readouterr().out)["models"]["builtin"]
    seen = probes["sample/wrong-detail"]["figures"]
    assert seen["over_text_only"]["low"] > 0.2
    negation = probes["sample/negation-colour"]["figures"]["right_first"]
    assert 0 <= negation["low"] <= negation["value"] <= negation["high"] <= 1
    assert run(["probe", "--only", "half-truth,negation"]) == 0
    table = capsys.readouterr().out
    assert "sample/negation-without" in table
    assert "baseline" in table
