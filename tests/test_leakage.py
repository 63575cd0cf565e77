"""Training images and texts are found among those of a test set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.checkpoint.folder import TRAINED_ON
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.cache import image_digest
from fashionclip.evaluate.leakage import (
    LeakageCheck,
    digest_training_data,
    read_training_data,
    text_digest,
    write_training_data,
)
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.sample import generate_images


@pytest.fixture(scope="module")
def generated() -> list[Image.Image]:
    return generate_images(40)


@pytest.fixture(scope="module")
def training(generated):
    samples = [
        (ImageRef(str(i), image_bytes(im)), [f"Product {i}"]) for i, im in enumerate(generated[:20])
    ]
    return digest_training_data(samples, description="twenty generated products")


def found_by(check: LeakageCheck, images: list[ImageRef]):
    digests = [image_digest(image) for image in images]
    return check.is_same_file(digests), check.is_near_duplicate(images, digests)


def test_the_same_file_is_found_and_another_is_not(training, generated):
    images = [
        ImageRef("in", image_bytes(generated[3])),
        ImageRef("out", image_bytes(generated[30])),
    ]
    files, _ = found_by(LeakageCheck([training], None), images)
    assert files.tolist() == [True, False]


def test_copies_of_another_size_and_quality_are_near_duplicates(training, generated):
    smaller = [image.resize((image.width * 3 // 4, image.height * 3 // 4)) for image in generated]
    copies = [ImageRef(f"{i}", image_bytes(image, quality=60)) for i, image in enumerate(smaller)]
    files, duplicates = found_by(LeakageCheck([training], None), copies)
    assert not files.any()
    assert duplicates[:20].all()
    assert duplicates[20:].sum() <= 1  # generated products can be twins


def test_the_same_garment_in_another_colour_is_another_image(training, generated):
    swapped = [
        ImageRef(f"{i}", image_bytes(Image.merge("RGB", im.split()[::-1])))
        for i, im in enumerate(generated[:20])
    ]
    coloured = [np.ptp(np.asarray(im, int), axis=2).mean() > 20 for im in generated[:20]]
    _, duplicates = found_by(LeakageCheck([training], None), swapped)
    assert sum(coloured) > 3
    assert not duplicates[np.array(coloured)].any()


@pytest.mark.parametrize("text", ["product 7", "PRODUCT  7.", "Product, 7!", "\uff30roduct 7"])
def test_texts_are_the_same_but_for_case_spaces_and_punctuation(training, text):
    assert LeakageCheck([training], None).is_same_text([text, "product 77", " "]).tolist() == [
        True,
        False,
        False,
    ]


def test_digests_survive_the_folder_and_say_what_they_are(training, tmp_path):
    write_training_data(training, tmp_path)
    again = read_training_data(tmp_path)
    assert again.description == "twenty generated products"
    assert again.images == training.images
    assert again.texts == training.texts == {text_digest(f"Product {i}") for i in range(20)}
    assert np.array_equal(again.hashes, training.hashes)


def test_a_folder_without_a_record_has_none_and_a_damaged_one_is_an_error(tmp_path):
    assert read_training_data(tmp_path) is None
    (tmp_path / TRAINED_ON).write_bytes(b"not a record")
    with pytest.raises(EvaluationError, match=TRAINED_ON):
        read_training_data(tmp_path)


def test_without_training_data_nothing_is_found(generated):
    files, duplicates = found_by(LeakageCheck([], None), [ImageRef("a", image_bytes(generated[0]))])
    assert not files.any()
    assert not duplicates.any()


def test_unreadable_images_are_skipped(training, tmp_path: Path):
    samples = [
        (ImageRef("x", tmp_path / "absent.jpg"), ["words"]),
        (ImageRef("y", b"no"), []),
        (None, ["other words"]),
    ]
    data = digest_training_data(samples, description="nothing to see")
    assert not data.images
    assert len(data.texts) == 2
    absent = [ImageRef("x", tmp_path / "absent.jpg"), ImageRef("y", b"no")]
    duplicates = LeakageCheck([training], None).is_near_duplicate(absent, [None, b"0" * 16])
    assert not duplicates.any()


def test_perceptual_hashes_are_cached(training, generated, tmp_path):
    images = [ImageRef(str(i), image_bytes(image)) for i, image in enumerate(generated[18:22])]
    digests = [image_digest(image) for image in images]
    first = LeakageCheck([training], tmp_path).is_near_duplicate(images, digests)
    blind = [ImageRef(image.image_id, b"gone") for image in images]
    assert (
        LeakageCheck([training], tmp_path).is_near_duplicate(blind, digests).tolist()
        == first.tolist()
    )
