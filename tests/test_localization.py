"""Maps, strengths and boxes of words: what a user of ``localize`` relies on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fashionclip.errors import ImageError
from fashionclip.images.decode import Preprocess, fit_image
from fashionclip.localization import CONTRASTS, Localization
from fashionclip.localization.boxes import boxes_of
from fashionclip.localization.frames import Frame, cut, spread, whole_frame, windows_of
from fashionclip.localization.locate import differing, log_odds
from fashionclip.model import FashionCLIP

SIZES = st.tuples(st.integers(20, 90), st.integers(20, 90))
FITS = st.sampled_from(["crop", "pad", "stretch"])


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP(tiny_checkpoint, device="cpu", precision="float32")


def photo(width=60, height=90, *, seed=0):
    cells = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height))


def blank(*, noise=0, speck=0):
    """A page of light grey, with noise, and with a dark square of so many pixels a side."""
    pixels = np.full((200, 200, 3), 220)
    pixels += np.random.default_rng(0).integers(-noise, noise + 1, pixels.shape)
    pixels[:speck, :speck] = 40
    return Image.fromarray(pixels.astype(np.uint8))


# frames


@given(size=SIZES, fit=FITS, zoom=st.sampled_from([1, 2, 3]))
@settings(max_examples=40)
def test_windows_cover_every_pixel_whatever_the_fit(size, fit, zoom):
    frames = windows_of(size, Preprocess(32, fit=fit), zoom)
    cells = np.ones((len(frames), 4, 4, 1), np.float32)
    np.testing.assert_allclose(spread(cells, frames, size, size), 1.0, atol=1e-5)


@given(size=SIZES, fit=FITS)
@settings(max_examples=40)
def test_a_place_on_the_map_is_the_same_place_in_the_image(size, fit):
    """The brightness of the frames' pixels, spread over the image, is the image's brightness."""
    pre = Preprocess(64, fit=fit, resample="bilinear")
    ramp = np.add.outer(np.arange(size[1]), np.arange(size[0])).astype(np.float32)
    image = Image.fromarray((ramp * 255 / ramp.max()).astype(np.uint8)).convert("RGB")
    for frames in ([whole_frame(size, pre)], windows_of(size, pre, 2)):
        cells = cut(image, frames, pre)[..., :1].astype(np.float32)
        found = spread(cells, frames, size, size)[..., 0]
        assert np.abs(found - np.asarray(image)[..., 0])[2:-2, 2:-2].max() < 16


def test_outside_of_a_frame_is_the_background():
    image = Image.new("RGB", (20, 10), (10, 20, 30))
    (pixels,) = cut(image, [Frame(0.0, -5.0, 20.0, 20.0)], Preprocess(16, fit="pad"))
    assert (pixels == (10, 20, 30)).all()


# the scale


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_log_odds_are_those_of_a_softmax_over_word_and_contrasts():
    rng = np.random.default_rng(0)
    places, words, others = (unit(rng.normal(size=(n, 16))) for n in (5, 3, 4))
    is_other = rng.random((3, 4)) < 0.7
    found = log_odds(places, words, others, is_other, 20.0)
    for place in range(5):
        for word in range(3):
            texts = np.concatenate([words[word : word + 1], others[is_other[word]]])
            powers = np.exp(20.0 * texts @ places[place])
            probability = powers[0] / powers.sum()
            assert 1 / (1 + np.exp(-found[place, word])) == pytest.approx(probability, rel=1e-4)


def test_a_synonym_among_the_contrasts_does_not_count_against_a_word(model):
    texts = ["red striped t-shirt", "blue denim jeans", "white leather sneakers", "handbag"]
    found = model.localize(photo(), ["jeans"], contrast=texts)
    with_itself = model.localize(photo(), ["jeans"], contrast=[*texts, "jeans"])
    vectors = model.encode_text(["jeans", *texts, "jeans"], templates="product")
    usual = model.encode_text(CONTRASTS, templates="product")
    assert list(differing(vectors[:1], vectors[1:], usual)[0][-1:]) == [False]
    np.testing.assert_allclose(found.cells, with_itself.cells, atol=0.02)
    with pytest.raises(ValueError, match="every contrast text means nearly the same as 'jeans'"):
        model.localize(photo(), ["jeans"], contrast=["jeans"])


def test_one_contrast_text_is_judged_as_one_of_several_is():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=16)  # in all texts of a model, so that any two are alike
    word, *others = unit(rng.normal(size=(9, 16)) + 3 * shared)
    several = differing(word[None], np.array(others), np.array(others))
    for i, other in enumerate(others):
        assert differing(word[None], other[None], np.array(others)) == several[:, [i]]
    assert several.all()


def test_a_map_is_the_geometric_mean_of_what_patches_and_the_whole_image_say(model):
    image, texts = photo(64, 64), ["wall", "handbag"]
    (cells,) = model.localize(image, ["jeans"], contrast=texts).cells
    pixels = np.array(fit_image(image, model.checkpoint.preprocess))[None]
    (vectors,) = model.engine.encode_patches(pixels, model.checkpoint.config.patch_attention)
    words, others = (model.encode_text(some, templates="product") for some in (["jeans"], texts))
    is_other = differing(words, others, model.encode_text(CONTRASTS, templates="product"))
    odds = log_odds(vectors, words, others, is_other, model.logit_scale)[:, 0]
    probabilities = 1 / (1 + np.exp(-odds))
    corners = np.sqrt(probabilities[0] * probabilities[1:]).reshape(4, 4)[
        [0, 0, -1, -1], [0, -1] * 2
    ]
    np.testing.assert_allclose(cells[[0, 0, -1, -1], [0, -1] * 2], corners, rtol=1e-3)


# boxes


@given(
    cells=arrays(np.float32, (9, 7), elements=st.sampled_from([0.0, 0.3, 0.6, 0.9])),
    size=SIZES,
)
@settings(max_examples=80)
def test_boxes_hold_all_that_reaches_the_threshold_and_nothing_of_another_part(cells, size):
    boxes = boxes_of(cells, size, 0.5)
    covered = np.zeros((size[1], size[0]), bool)
    for box in boxes:
        assert 0 <= box.left < box.right <= size[0]
        assert 0 <= box.top < box.bottom <= size[1]
        assert box.score >= 0.5
        covered[box.top : box.bottom, box.left : box.right] = True
    rows, columns = np.nonzero(cells >= 0.5)
    for row, column in zip(rows, columns, strict=True):
        assert covered[int((row + 0.5) / 9 * size[1]), int((column + 0.5) / 7 * size[0])]
    assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)
    assert len(boxes) <= len(rows)


def test_parts_that_wind_are_one_box():
    cells = np.zeros((40, 40), np.float32)
    cells[::4] = 0.8
    cells[:, 0] = cells[2::8, -1] = 0.8
    cells[20, 5:] = 0.0
    cells[20, 10:] = 0.9
    (first, second) = boxes_of(cells, (40, 40), 0.5)
    assert (first.left, first.top, first.right, first.bottom) == (10, 20, 40, 21)
    assert (second.left, second.top, second.right, second.bottom) == (0, 0, 40, 40)


def test_a_dark_map_has_no_box():
    assert boxes_of(np.full((5, 5), 0.4, np.float32), (50, 50), 0.5) == []


# an image and words


@pytest.mark.parametrize("windows", [1, 2])
def test_maps_have_the_pixels_of_the_image(model, windows):
    found = model.localize(photo(), ["red shirt", "jeans"], windows=windows)
    assert found.words == ("red shirt", "jeans")
    assert found.maps.shape == (2, 90, 60)
    assert found.maps.dtype == np.float32
    assert 0 <= found.maps.min() <= found.maps.max() <= 1
    assert all(0 <= score <= 1 for score in found.scores)
    assert len(found.boxes()) == 2


def test_the_map_of_a_word_does_not_depend_on_the_other_words(model):
    together = model.localize(photo(), [f"word {i}" for i in range(120)])
    alone = model.localize(photo(), ["word 77"])
    np.testing.assert_allclose(together.cells[77], alone.cells[0], atol=1e-5)
    assert together.scores[77] == pytest.approx(alone.scores[0], abs=1e-5)


def test_a_contrast_text_takes_from_a_word(model):
    plain = model.localize(photo(), ["jeans"], contrast=["wall"])
    pressed = model.localize(photo(), ["jeans"], contrast=["wall", "striped t-shirt", "sneakers"])
    assert (pressed.cells < plain.cells).all()


def test_an_overlay_has_the_size_of_the_image_and_leaves_a_dark_map_grey(model):
    image = photo()
    cells = np.zeros((2, 9, 6), np.float32)
    cells[1, 2:5, 1:4] = 0.9
    found = Localization(("sleeve", "collar"), image.size, cells, (0.0, 0.9))
    dark, bright = (np.asarray(found.overlay(i, image)).astype(int) for i in range(2))
    assert dark.shape == (90, 60, 3)
    np.testing.assert_array_equal(dark, np.asarray(image.convert("L").convert("RGB")))
    assert (bright[35, 25] - dark[35, 25])[0] > 20


# bad input


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "at least one text"),
        ("sleeve", "a list of at least one text"),
        (["sleeve", "  "], "text 2 of words is empty"),
        ([str(i) for i in range(1001)], "at most 1,000"),
        (["sleeve", "sleeve " * 500], "goes on beyond the .* tokens that the model reads"),
    ],
)
def test_words_that_cannot_be_looked_for_are_named(model, words, says):
    with pytest.raises(ValueError, match=says):
        model.localize(photo(), words)
    if words:
        with pytest.raises(ValueError, match=says.replace("of words", "of contrast")):
            model.localize(photo(), ["sleeve"], contrast=words)


def test_other_windows_are_refused(model):
    with pytest.raises(ValueError, match="windows is 3; it is 1 or 2"):
        model.localize(photo(), ["sleeve"], windows=3)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image.new("RGB", (40, 40), "white"), "has one colour"),
        (Image.new("RGB", (1, 1), "red"), "has one colour"),
        (blank(noise=3), "has one colour"),
        (blank(speck=2), "has one colour"),
        (photo(10_000, 100), "is 10000 x 100, too long"),
    ],
)
def test_an_image_without_places_is_said(model, image, says):
    with pytest.raises(ImageError, match=says):
        model.localize(image, ["sleeve"])


def test_a_small_thing_on_a_plain_ground_is_looked_at(model):
    assert model.localize(blank(speck=20), ["sleeve"]).size == (200, 200)
    assert model.localize(photo(2, 1), ["sleeve"]).size == (2, 1)


def test_500_words_in_a_large_image_take_bounded_memory(model):
    found = model.localize(photo(2600, 1700), [f"word {i}" for i in range(500)])
    assert found.cells.nbytes < 30_000_000
    assert found.map(499).shape == (1700, 2600)
    with pytest.raises(ValueError, match=r"500 maps of 2600 x 1700 pixels take 8\.8 GB"):
        _ = found.maps


def test_a_threshold_outside_its_range_is_refused(model):
    found = model.localize(photo(), ["sleeve"])
    for threshold in (0.0, 1.5):
        with pytest.raises(ValueError, match="above 0 and up to 1"):
            found.boxes(threshold)


def test_the_contrast_texts_are_distinct_short_nouns():
    assert len(set(CONTRASTS)) == len(CONTRASTS) >= 10
    assert all(len(text.split()) <= 2 for text in CONTRASTS)
