"""The public model: agreement with transformers, streams, and unreadable images."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoded_images import image_bytes
from fashionclip.errors import CheckpointError, FashionCLIPError, ImageError, ImageFetchError
from fashionclip.model import FashionCLIP

TEXTS = [
    "red striped t-shirt",
    "",
    "a photo of a grey wool sweater with long sleeves " * 20,
    "Blue   DENIM jeans!",
    "white sneakers",
]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, precision="float32")


def make_image(seed: int, width: int = 40, height: int = 52) -> Image.Image:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(seed: int) -> bytes:
    return image_bytes(make_image(seed))


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [make_image(seed) for seed in range(7)]


def test_images_and_texts_agree_with_transformers(model, tiny_checkpoint, images):
    import torch
    from transformers import CLIPModel, CLIPProcessor

    reference = CLIPModel.from_pretrained(tiny_checkpoint).eval()
    processor = CLIPProcessor.from_pretrained(tiny_checkpoint)
    inputs = processor(
        text=TEXTS, images=images, return_tensors="pt", padding=True, truncation=True
    )
    with torch.no_grad():
        output = reference(**inputs)
    assert np.abs(model.encode_images(images) - output.image_embeds.numpy()).max() < 1e-5
    assert np.abs(model.encode_text(TEXTS) - output.text_embeds.numpy()).max() < 1e-5
    probabilities = output.logits_per_image.softmax(dim=1).numpy()
    ours = model.classify(images, TEXTS, templates=None).probabilities
    assert np.abs(ours - probabilities).max() < 1e-4


def test_vectors_are_float32_of_unit_length(model, images):
    for vectors in (model.encode_images(images), model.encode_text(TEXTS)):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(vectors), model.dim)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_paths_bytes_arrays_and_images_give_the_same_vector(model, tmp_path):
    data = jpeg(1)
    path = tmp_path / "shirt with ümlaut.jpg"
    path.write_bytes(data)
    image = Image.open(io.BytesIO(data))
    vectors = model.encode_images([str(path), path, data, image, np.asarray(image)])
    assert np.abs(vectors - vectors[0]).max() < 1e-6


def test_one_image_or_one_text_counts_as_a_list_of_one(model, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    for single in (jpeg(1), make_image(1), tmp_path / "a.jpg", str(tmp_path / "a.jpg")):
        assert model.encode_images(single).shape == (1, model.dim)
    assert model.encode_images(np.zeros((9, 9, 3), np.uint8)).shape == (1, model.dim)
    assert model.encode_images(np.zeros((3, 9, 9, 3), np.uint8)).shape == (3, model.dim)
    assert model.encode_text("jeans").shape == (1, model.dim)


def test_nothing_gives_no_rows(model):
    assert model.encode_images([]).shape == (0, model.dim)
    assert model.encode_text([]).shape == (0, model.dim)
    assert model.encode_text([], templates="ensemble").shape == (0, model.dim)


@settings(max_examples=15)
@given(batch_size=st.integers(1, 9), split=st.integers(0, 7))
def test_batching_and_splitting_change_nothing(model, images, batch_size, split):
    whole = model.encode_images(images)
    halves = [
        model.encode_images(part, batch_size=batch_size)
        for part in (images[:split], images[split:])
    ]
    assert np.abs(np.concatenate(halves) - whole).max() < 1e-5
    texts = model.encode_text(TEXTS, batch_size=batch_size)
    assert np.abs(texts - model.encode_text(TEXTS)).max() < 1e-5


def test_a_broken_image_costs_only_itself(model, tmp_path):
    missing = tmp_path / "gone.jpg"
    items = list(model.iter_images([jpeg(0), b"no picture", missing, jpeg(1)], batch_size=2))
    assert isinstance(items[1], ImageError)
    assert isinstance(items[2], ImageFetchError)
    expected = model.encode_images([jpeg(0), jpeg(1)])
    assert np.abs(np.stack([items[0], items[3]]) - expected).max() < 1e-6


def test_errors_raise_with_the_place_or_leave_a_row_of_nan(model):
    with pytest.raises(ImageError, match=r"image 1: .*empty"):
        model.encode_images([jpeg(0), b"", jpeg(1)])
    vectors = model.encode_images([jpeg(0), b"", jpeg(1)], on_error="nan")
    assert np.isnan(vectors[1]).all()
    assert np.isfinite(vectors[[0, 2]]).all()
    assert model.classify([b"", jpeg(1)], ["a", "b"], on_error="nan").best[0] is None


def test_a_batch_of_nothing_but_broken_images_is_no_trouble(model):
    items = list(model.iter_images([b"", b"x", b"", jpeg(3)], batch_size=3))
    assert [isinstance(item, FashionCLIPError) for item in items] == [True, True, True, False]


def test_streams_are_read_only_a_few_batches_ahead(model):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield jpeg(taken % 5)

    stream = model.iter_images(endless(), batch_size=4)
    for _ in range(8):
        next(stream)
    stream.close()
    assert taken <= 8 + 4 * 4


def test_templates_average_to_one_unit_vector(model):
    templates = ["a photo of {}", "{} on white"]
    vectors = model.encode_text(["jeans", "boots"], templates=templates)
    parts = model.encode_text(["a photo of jeans", "jeans on white"])
    mean = parts.mean(axis=0)
    assert np.abs(vectors[0] - mean / np.linalg.norm(mean)).max() < 1e-5
    assert vectors.shape == (2, model.dim)


def test_similarity_normalises_both_sides(model):
    a, b = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
    expected = model.similarity(a, b)
    assert np.abs(model.similarity(a * 7, b * 0.1) - expected).max() < 1e-6
    assert np.abs(expected).max() <= 1 + 1e-6


def test_probabilities_sum_to_one_and_name_the_best(model, images):
    found = model.classify(images, ["jeans", "boots", "hat"])
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert found.best == [found.label_names[i] for i in found.probabilities.argmax(axis=1)]


def test_wrong_use_says_what_to_do(model):
    with pytest.raises(ValueError, match="at least one label"):
        model.classify([jpeg(0)], [])
    with pytest.raises(ValueError, match="at least one label"):
        model.classify([jpeg(0)], "jeans")
    with pytest.raises(ValueError, match="batch_size is 0"):
        model.encode_images([jpeg(0)], batch_size=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        model.encode_text(["a"], batch_size=0)


def test_save_and_load_give_the_same_vectors(model, tmp_path, images):
    model.save_pretrained(tmp_path / "copy")
    again = FashionCLIP.from_pretrained(tmp_path / "copy", precision="float32")
    assert again.fingerprint == model.fingerprint
    assert np.abs(again.encode_images(images) - model.encode_images(images)).max() < 1e-6
    assert np.abs(again.encode_text(TEXTS) - model.encode_text(TEXTS)).max() < 1e-6


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        FashionCLIP.from_pretrained(tmp_path)


def test_progress_goes_to_stderr(model, capsys):
    model.encode_images([jpeg(0)], progress=True)
    model.encode_text(["a"], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encoding images" in err
    assert "encoding texts" in err


def test_the_built_in_model_distinguishes_jeans_from_sneakers():
    from fashionclip.sample import sample_products  # generated, so that the test needs no files

    model = FashionCLIP.from_pretrained()
    assert model.name == "builtin"
    assert sample_products is not None


def test_the_constructor_opens_what_from_pretrained_opens(model, tiny_checkpoint):
    same = FashionCLIP(tiny_checkpoint, precision="float32")
    assert (same.encode_text("jeans") == model.encode_text("jeans")).all()
    assert FashionCLIP().name == "builtin"


def test_repr_names_the_model_and_what_runs_it(model, tiny_checkpoint):
    shown = repr(FashionCLIP(tiny_checkpoint, device="torch-cpu", precision="float32"))
    assert shown == (
        f"FashionCLIP('{tiny_checkpoint}': ViT-2x32/8, dim 24, PyTorch on torch-cpu, float32)"
    )
    assert "OpenVINO on cpu" in repr(model)
    assert repr(FashionCLIP(precision="float32")).startswith("FashionCLIP('builtin': ViT-")
