"""Zero-shot classification: results that are easy to verify, prompts, notes and warnings."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from encoded_images import image_bytes
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.prompts import (
    STYLES,
    changed_vectors,
    choose_style,
    class_prompts,
    class_vectors,
    plural,
)
from fashionclip.evaluate.results import Figure
from fashionclip.evaluate.tasks import ClassLabel, ImageRef, ZeroShot
from fashionclip.evaluate.zero_shot import score_zero_shot
from fashionclip.model import FashionCLIP
from fashionclip.sample import CATEGORIES, generate_image, sample_products
from fixed_encoder import FixedEncoder, refs

DRESS, BOOT, BAG = np.eye(3, dtype=np.float32)
CLASSES = (ClassLabel("Dress", "dress", ("gown",)), ClassLabel("Boot", "boot"))
CLASSES += (ClassLabel("Bag", "bag", ("purse",)),)
WORDS = {"dress": DRESS, "gown": DRESS, "boot": BOOT, "bag": BAG, "purse": BAG}
UNREADABLE = np.full(3, np.nan, np.float32)


def task(vectors, labels, **more):
    return ZeroShot("t", CLASSES, refs(*vectors), np.array(labels, dtype=np.int64), **more)


def like(a, b, share=0.9):
    vector = share * a + (1 - share) * b
    return vector / np.linalg.norm(vector)


SIX = task([DRESS, DRESS, like(BOOT, DRESS), BOOT, BOOT, BAG], [0, 0, 0, 1, 1, 2])


# figures


def test_labels_and_figures_can_be_checked_by_eye():
    found = score_zero_shot(SIX, FixedEncoder(WORDS))
    assert found.items == {
        "item": [f"p{i}" for i in range(6)],
        "truth": ["Dress", "Dress", "Dress", "Boot", "Boot", "Bag"],
        "predicted": ["Dress", "Dress", "Boot", "Boot", "Boot", "Bag"],
        "seen": [False] * 6,
    }
    assert found.details["confusion"] == [[2, 1, 0], [0, 2, 0], [0, 0, 1]]
    figures = found.figures
    assert list(figures) == ["weighted_f1", "macro_f1", "accuracy"]
    assert found.headline == "weighted_f1"
    assert figures["accuracy"].value == pytest.approx(5 / 6)
    assert figures["weighted_f1"].value == pytest.approx((3 * 0.8 + 2 * 0.8 + 1) / 6)
    assert figures["macro_f1"].value == pytest.approx((0.8 + 0.8 + 1) / 3)
    assert all(f.n == 6 and f.low <= f.value <= f.high for f in figures.values())
    assert (found.n, found.left_out, found.n_seen, found.unseen) == (6, 0, 0, {})
    assert found.warnings == ()
    dress = found.details["per_class"][0]
    assert dress["name"] == "Dress"
    assert (dress["precision"].value, dress["precision"].n) == (1.0, 2)
    assert (dress["recall"].value, dress["recall"].n) == (pytest.approx(2 / 3), 3)
    assert (dress["f1"].value, dress["f1"].n) == (pytest.approx(0.8), 3)
    assert dress["f1"].low < dress["f1"].value < dress["f1"].high


def test_figures_are_scikit_learns():
    rng = np.random.default_rng(0)
    found = score_zero_shot(
        task(rng.normal(size=(200, 3)), rng.integers(0, 3, 200)), FixedEncoder(WORDS)
    )
    truth, predicted = found.items["truth"], found.items["predicted"]
    for metric, average in (("weighted_f1", "weighted"), ("macro_f1", "macro")):
        expected = f1_score(truth, predicted, average=average)
        assert found.figures[metric].value == pytest.approx(expected, abs=1e-9)


def test_top_5_is_reported_only_with_more_than_five_classes():
    rng = np.random.default_rng(1)
    words = {f"kind-{i}": vector for i, vector in enumerate(rng.normal(size=(6, 3)))}
    classes = tuple(ClassLabel(word, word) for word in words)
    six = ZeroShot("t", classes, refs(*rng.normal(size=(60, 3))), rng.integers(0, 6, 60))
    found = score_zero_shot(six, FixedEncoder(words))
    assert found.figures["accuracy"].value < found.figures["top_5"].value < 1
    five = replace(six, classes=classes[:5], labels=six.labels % 5)
    assert "top_5" not in score_zero_shot(five, FixedEncoder(words)).figures


def test_the_worst_confusions_show_the_surest_images_first():
    wrong = [like(BOOT, DRESS, share) for share in (0.6, 0.9, 0.7, 0.8, 0.99)]
    found = score_zero_shot(task([*wrong, DRESS, BAG], [0, 0, 0, 0, 0, 2, 1]), FixedEncoder(WORDS))
    assert found.details["confused"] == [
        {"truth": "Dress", "predicted": "Boot", "n": 5, "pictures": ["p4", "p1", "p3", "p2"]},
        {"truth": "Boot", "predicted": "Bag", "n": 1, "pictures": ["p6"]},
        {"truth": "Bag", "predicted": "Dress", "n": 1, "pictures": ["p5"]},
    ]
    assert found.shown == ("p4", "p1", "p3", "p2", "p6", "p5")


# leakage


def test_figures_without_images_seen_in_training_are_reported_too():
    seen = np.array([True, True, False, False, True, False])
    found = score_zero_shot(SIX, FixedEncoder(WORDS), seen=seen)
    assert found.n_seen == 3
    assert found.items["seen"] == seen.tolist()
    assert found.figures["accuracy"].value == pytest.approx(5 / 6)
    assert found.unseen["accuracy"].value == pytest.approx(2 / 3)
    assert {figure.n for figure in found.unseen.values()} == {3}
    alone = task(
        [SIX.images[i].source[0] for i in (2, 3, 5)], SIX.labels[~seen], notes=("as it is",)
    )
    assert score_zero_shot(alone, FixedEncoder(WORDS)).figures == found.unseen


def test_a_model_that_has_seen_every_image_has_no_unseen_figures_and_the_report_says_so():
    found = score_zero_shot(SIX, FixedEncoder(WORDS), seen=np.ones(6, bool))
    assert (found.n_seen, found.unseen) == (6, {})
    assert found.warnings == ("The model was trained on all 6 pictures; there are no unseen ones.",)


# faulty data


def test_unreadable_images_are_left_out_counted_and_named():
    found = score_zero_shot(
        task([DRESS, UNREADABLE, BOOT, BAG, UNREADABLE], [0, 0, 1, 2, 2]),
        FixedEncoder(WORDS),
        seen=np.array([False, True, True, False, False]),
    )
    assert (found.n, found.left_out, found.n_seen) == (3, 2, 1)
    assert found.items["item"] == ["p0", "p2", "p3"]
    assert found.items["seen"] == [False, True, False]
    assert found.figures["accuracy"].n == 3
    assert found.warnings == ("2 of 5 pictures could not be read and are left out: p1, p4.",)


def test_many_unreadable_images_are_named_by_the_first():
    found = score_zero_shot(
        task([UNREADABLE] * 7 + [DRESS, BOOT, BAG], [0] * 8 + [1, 2]), FixedEncoder(WORDS)
    )
    assert "7 of 10 pictures" in found.warnings[0]
    assert "p0, p1, p2, p3, p4 and 2 more" in found.warnings[0]


@pytest.mark.parametrize(
    ("vectors", "why"),
    [([], "it has no pictures"), ([UNREADABLE], "none of its pictures can be read")],
)
def test_nothing_to_measure_gives_a_warning_and_no_figure(vectors, why):
    found = score_zero_shot(task(vectors, [0] * len(vectors)), FixedEncoder(WORDS))
    assert (found.n, found.figures, found.unseen) == (0, {}, {})
    assert found.left_out == len(vectors)
    assert found.warnings[-1] == f"There is nothing to measure: {why}."


def test_a_class_without_an_image_is_named():
    found = score_zero_shot(task([DRESS, BOOT, BAG], [0, 1, 1]), FixedEncoder(WORDS))
    assert found.warnings[0].startswith("1 of 3 classes have no picture: Bag.")
    assert found.details["per_class"][2]["f1"].n == 0


def test_a_set_of_one_class_is_called_that():
    found = score_zero_shot(task([DRESS, BOOT], [0, 0]), FixedEncoder(WORDS))
    assert "All pictures are of one class, Dress" in found.warnings[0]
    alone = ZeroShot("t", CLASSES[:1], refs(DRESS, BOOT), np.array([0, 0]))
    found = score_zero_shot(alone, FixedEncoder(WORDS))
    assert found.figures["accuracy"].value == 1
    assert "There is only one class" in found.warnings[0]


def test_classes_with_equal_words_are_named_in_a_warning():
    alike = replace(SIX, classes=(*CLASSES, ClassLabel("dress", "Dress")))
    found = score_zero_shot(alike, FixedEncoder(WORDS))
    assert found.warnings[0] == (
        "Dress and dress have the same words, 'dress': only the first can be predicted."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 0, 0, 1, 1, 3])}, r"t, images: labels lie in 0…2; .* 0 to 3"),
        ({"labels": np.array([0, 0, 0, 1, 1, -1])}, r"labels lie in 0…2; .* -1 to 1"),
        ({"labels": np.array([0, 1])}, "6 images have 2 labels"),
        ({"classes": ()}, "no classes"),
        ({"classes": (*CLASSES, CLASSES[0])}, "two classes have one name"),
        (
            {"development_images": refs(DRESS, name="d")},
            "1 development images have 0 labels",
        ),
        (
            {"development_images": refs(BAG), "development_labels": np.array([2])},
            "two images with the id p0",
        ),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        score_zero_shot(replace(SIX, **change), FixedEncoder(WORDS))


# selection of the prompts


def biased(development_vector):
    """A model in which the word ``boot`` has a bag's vector, and any sentence a boot's."""
    made = FixedEncoder(WORDS, exact={"boot": BAG, "boot.": BAG, "Boot": BAG, "boots": BAG})
    return made, replace(
        SIX,
        development="generated images",
        development_images=refs(DRESS, development_vector, BAG, name="d"),
        development_labels=np.array([0, 1, 2]),
    )


def test_prompts_are_chosen_on_development_images():
    model, split = biased(BOOT)
    found = score_zero_shot(split, model).details["prompts"]
    assert (found["chosen"], found["by"], found["n_development"]) == ("product", "development", 3)
    assert found["development"] == "generated images"
    f1 = {style: scores["development"].value for style, scores in found["styles"].items()}
    assert f1["bare"] < f1["product"]
    assert f1["product"] == 1  # as good as the ensemble, so the simpler style is taken
    assert list(f1) == list(STYLES)
    assert found["words"]["Boot"] == ["a photo of a boot"]


def test_test_images_do_not_influence_the_choice():
    # on the test images bare is by far the worst style; on the development images it is not
    model, split = biased(BAG)
    chosen = score_zero_shot(replace(split, development_labels=np.array([0, 1, 1])), model)
    prompts = chosen.details["prompts"]
    assert (prompts["chosen"], prompts["by"]) == ("bare", "development")
    assert prompts["styles"]["bare"]["test"].value < prompts["styles"]["ensemble"]["test"].value
    assert chosen.figures["weighted_f1"] == prompts["styles"]["bare"]["test"]


def test_the_prompts_are_chosen_before_a_test_image_is_encoded():
    model, split = biased(BOOT)
    score_zero_shot(split, model)
    assert model.encoded_ids == ["d0", "d1", "d2", *(f"p{i}" for i in range(6))]


def test_without_development_images_the_ensemble_is_taken():
    found = score_zero_shot(SIX, FixedEncoder(WORDS)).details["prompts"]
    assert (found["chosen"], found["by"], found["n_development"]) == ("ensemble", "default", 0)
    assert {style["development"] for style in found["styles"].values()} == {None}
    assert len(found["words"]["Boot"]) == 5


def test_a_given_style_is_taken_whatever_the_development_images_say():
    model, split = biased(BOOT)
    found = score_zero_shot(split, model, prompts="bare").details["prompts"]
    assert (found["chosen"], found["by"], found["n_development"]) == ("bare", "given", 3)
    with pytest.raises(ValueError, match=r"no style of prompts 'long'; the styles are bare, "):
        score_zero_shot(split, model, prompts="long")


def test_development_images_that_say_nothing_choose_nothing():
    model, split = biased(UNREADABLE)
    one = replace(split, development_labels=np.array([0, 1, 0]))
    found = score_zero_shot(one, model)
    assert found.details["prompts"]["by"] == "default"
    assert found.details["prompts"]["n_development"] == 2
    assert "1 of 3 development pictures could not be read" in found.warnings[0]
    assert "All 2 development pictures are of one class" in found.warnings[1]
    assert found.left_out == 0  # no test image is left out


def test_of_equal_styles_the_simpler_is_chosen():
    f1 = {"bare": 0.5, "product": 0.7, "ensemble": 0.7, "synonyms": 0.6}
    scores = {style: Figure(value, value, value, 10) for style, value in f1.items()}
    assert choose_style(scores) == "product"


# words


def test_a_class_is_its_prompts_mean():
    label = ClassLabel("Bag", "bag", ("purse", "tote"))
    assert class_prompts(label, "bare") == ["bag"]
    assert class_prompts(label, "product") == ["a photo of a bag"]
    assert len(class_prompts(label, "ensemble")) == 5
    assert class_prompts(label, "synonyms")[5:10] == class_prompts(
        ClassLabel("Purse", "purse"), "ensemble"
    )
    sentences = class_prompts(label, "sentences")
    assert sentences[:5] == class_prompts(label, "ensemble")
    assert sentences[5:] == [f"{prompt}." for prompt in sentences[:5]]
    assert class_prompts(label, "synonym-sentences")[10:20] == class_prompts(
        ClassLabel("Purse", "purse"), "sentences"
    )
    model = FixedEncoder(WORDS, exact={"tote": BOOT, "a photo of a tote": BOOT})
    found = class_vectors(
        [label], "synonyms", FixedEncoder({"bag": BAG, "purse": BAG, "tote": BOOT})
    )
    np.testing.assert_allclose(found, [np.array([0, 1, 2]) / np.sqrt(5)], atol=1e-6)
    assert class_vectors([label], "bare", model).tolist() == [BAG.tolist()]


def test_a_task_without_synonyms_does_not_try_them():
    plain = replace(SIX, classes=tuple(replace(label, synonyms=()) for label in CLASSES))
    prompts = score_zero_shot(plain, FixedEncoder(WORDS)).details["prompts"]
    assert list(prompts["styles"]) == ["bare", "product", "ensemble", "sentences"]
    assert list(prompts["changes"]) == ["full stop", "plural", "capital"]


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dress", "dresses"),
        ("scarf", "scarves"),
        ("watch", "watches"),
        ("Scarf", "Scarves"),
        ("t-shirt", "t-shirts"),
        ("ankle boot", "ankle boots"),
        ("brush", "brushes"),
        ("box", "boxes"),
        ("accessory", "accessories"),
        ("jersey", "jerseys"),
        ("sari", "saris"),
        ("poncho", "ponchos"),
        ("canvas", "canvases"),
        ("tie", "ties"),
        ("trousers", "trousers"),
        ("sunglasses", "sunglasses"),
        ("high heels", "high heels"),
        ("swimwear", "swimwear"),
        ("jewellery", "jewellery"),
        ("navy blue", "navy blue"),
        ("striped", "striped"),
        ("many-coloured", "many-coloured"),
        ("sleeveless garment", "sleeveless garments"),
        ("sleeveless", "sleeveless"),
        ("pair of shoes", "pairs of shoes"),
        ("garment with a round neck", "garments with a round neck"),
        ("garment without sleeves for women", "garments without sleeves for women"),
        ("clothes for men and women", "clothes for men and women"),
        ("shirt or top", "shirts or tops"),
        ("perfume and body mist", "perfumes and body mists"),
        ("woman", "women"),
        ("", ""),
    ],
)
def test_plurals_of_fashion_words(one, many):
    assert plural(one) == many
    assert plural(many) == many


def test_what_a_full_stop_a_plural_a_capital_and_a_synonym_change():
    encoded_texts = []

    class Listening(FixedEncoder):
        def encode_text(self, texts, *, templates=None):
            encoded_texts.append(list(texts))
            return super().encode_text(texts)

    classes = (*CLASSES[:1], ClassLabel("Jeans", "jeans"))
    model = Listening({"dress": DRESS, "gown": BAG, "jeans": BOOT})
    found = changed_vectors(classes, "product", model)
    assert dict(zip(found, encoded_texts, strict=True)) == {
        "full stop": ["a photo of a dress.", "a photo of a jeans."],
        "plural": ["a photo of dresses", "a photo of a jeans"],
        "capital": ["a photo of a Dress", "a photo of a Jeans"],
        "synonym": ["a photo of a gown", "a photo of a jeans"],
    }
    assert found["synonym"].tolist() == [BAG.tolist(), BOOT.tolist()]


def test_a_change_that_affects_no_word_is_left_out():
    colours = (ClassLabel("Red", "red"), ClassLabel("Navy", "navy blue"))
    model = FixedEncoder({"red": DRESS, "navy": BOOT})
    assert list(changed_vectors(colours, "bare", model)) == ["full stop", "capital"]


def test_labels_that_hang_on_a_full_stop_are_counted():
    # with a full stop, "boot" is a bag to this model: both boots and the boot-like dress flip
    model = FixedEncoder(WORDS, exact={"boot.": like(BAG, DRESS)})
    found = score_zero_shot(SIX, model, prompts="bare").details["prompts"]
    flips, accuracy = (found["changes"]["full stop"][key] for key in ("flips", "accuracy"))
    assert (flips.value, flips.n) == (pytest.approx(3 / 6), 6)
    assert flips.low <= flips.value <= flips.high
    assert accuracy.value == pytest.approx(-1 / 6)  # two boots lost, the dress found
    assert accuracy.low <= accuracy.value <= accuracy.high
    same = found["changes"]["capital"]
    assert [(f.value, f.low, f.high) for f in same.values()] == [(0, 0, 0)] * 2


# the built-in model


def sample_images(n, seed, name):
    images, labels = [], []
    for product in sample_products(n, seed=seed):
        jpeg = image_bytes(generate_image(product.attributes, seed=product.seed))
        images.append(ImageRef(f"{name}{product.product_id}", jpeg))
        labels.append(list(CATEGORIES).index(product.attributes.category))
    return tuple(images), np.array(labels)


def test_the_built_in_model_classifies_the_sample_catalogue():
    images, labels = sample_images(60, 0, "")
    images += (ImageRef("broken", b"no picture"),)
    development, of_development = sample_images(40, 7, "d")
    classes = tuple(ClassLabel(name, name) for name in CATEGORIES)
    model = FashionCLIP.from_pretrained(device="cpu")
    found = score_zero_shot(
        ZeroShot(
            *("sample", classes, images, np.append(labels, 0)),
            development="other generated images",
            development_images=development,
            development_labels=of_development,
        ),
        CachedEncoder(model, None),
    )
    assert (found.n, found.left_out) == (60, 1)
    assert "could not be read and are left out: broken" in found.warnings[0]
    assert found.figures["weighted_f1"].value > 0.5
    assert found.figures["top_5"].value > 0.85
    chosen = found.details["prompts"]
    assert chosen["by"] == "development"
    assert max(style["development"].value for style in chosen["styles"].values()) == (
        chosen["styles"][chosen["chosen"]]["development"].value
    )
    # the same labels as the model gives by itself, with the same prompts
    templates = {"synonyms": "ensemble", "synonym-sentences": "sentences"}.get(
        chosen["chosen"], chosen["chosen"]
    )
    expected = model.encode_text(list(CATEGORIES), templates=templates)
    np.testing.assert_allclose(
        class_vectors(classes, chosen["chosen"], CachedEncoder(model, None)), expected, atol=1e-4
    )
