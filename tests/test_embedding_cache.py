"""Vectors of an evaluation are computed once and cached, also when a run is killed."""

import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from encoded_images import image_bytes
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.model import FashionCLIP
from fashionclip.sample import generate_images


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


class _CountingEngine:
    """An engine, and how many images it was made to encode."""

    def __init__(self, engine):
        self.engine = engine
        self.device, self.precision, self.dim = engine.device, engine.precision, engine.dim
        self.n_images = 0

    def encode_pixels(self, pixels):
        self.n_images += len(pixels)
        return self.engine.encode_pixels(pixels)

    def encode_patches(self, pixels, attention):
        return self.engine.encode_patches(pixels, attention)

    def encode_tokens(self, tokens):
        return self.engine.encode_tokens(tokens)


class _Counting(FashionCLIP):
    """The model, and how many images and texts it was made to encode."""

    def __init__(self, model):
        super().__init__(model.checkpoint, engine=_CountingEngine(model.engine))
        self.n_texts = 0

    @property
    def n_images(self):
        return self.engine.n_images

    def encode_text(self, texts, **options):
        texts = list(texts)
        self.n_texts += len(texts)
        return super().encode_text(texts, **options)


@pytest.fixture
def image_files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    places = []
    for i, image in enumerate(generate_images(6)):
        places.append(folder / f"{i}.jpg")
        places[-1].write_bytes(image_bytes(image))
    return places


def images_of(places) -> list[ImageRef]:
    return [ImageRef(place.name, place) for place in places]


def test_vectors_are_the_models_own_row_by_row(model, image_files):
    images = images_of(image_files)
    found = CachedEncoder(model, None).encode_images(images)
    assert np.allclose(found, model.encode_images(image_files), atol=1e-6)


def test_a_second_run_encodes_nothing_even_when_files_were_renamed(model, image_files, tmp_path):
    first = CachedEncoder(model, tmp_path / "cache").encode_images(images_of(image_files))
    moved = [place.rename(place.with_name(f"new-{place.name}")) for place in image_files]
    counting = _Counting(model)
    again = CachedEncoder(counting, tmp_path / "cache")
    assert np.array_equal(again.encode_images(images_of(moved)), first)
    assert counting.n_images == 0


def test_a_file_that_changed_is_encoded_again(model, image_files, tmp_path):
    CachedEncoder(model, tmp_path / "cache").encode_images(images_of(image_files))
    image_files[2].write_bytes(image_bytes(generate_images(9)[8]))
    counting = _Counting(model)
    CachedEncoder(counting, tmp_path / "cache").encode_images(images_of(image_files))
    assert counting.n_images == 1


def test_one_image_in_many_tasks_is_encoded_once(model, image_files):
    counting = _Counting(model)
    vectors = CachedEncoder(counting, None)
    found = vectors.encode_images([*images_of(image_files), *images_of(image_files[::-1])])
    vectors.encode_images(images_of(image_files))
    assert counting.n_images == len(image_files)
    assert np.array_equal(found[: len(image_files)], found[len(image_files) :][::-1])


def test_pixels_are_images_too_and_their_shape_counts(model):
    rows = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
    vectors = CachedEncoder(model, None)
    flat, turned = vectors.encode_images([ImageRef("a", rows), ImageRef("b", rows.reshape(16, 12))])
    assert not np.allclose(flat, turned)


def test_images_that_cannot_be_read_are_rows_of_nan_and_cost_nothing_else(model, image_files):
    image_files[1].write_bytes(b"no picture")
    missing = image_files[0].with_name("absent.jpg")
    vectors = CachedEncoder(model, None)
    found = vectors.encode_images(
        images_of([image_files[0], image_files[1], missing, image_files[3]])
    )
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True, False]
    assert set(vectors.unreadable) == {"1.jpg", "absent.jpg"}
    assert np.isnan(vectors.encode_images(images_of([image_files[1]]))).all()


def test_texts_are_cached_and_templates_average_to_unit_length(model, tmp_path):
    words = ["a red dress", "blue jeans", "a red dress"]
    found = CachedEncoder(model, tmp_path).encode_text(words, templates="ensemble")
    assert np.allclose(found, model.encode_text(words, templates="ensemble"), atol=1e-5)
    counting = _Counting(model)
    again = CachedEncoder(counting, tmp_path).encode_text(words, templates="ensemble")
    assert counting.n_texts == 0
    assert np.array_equal(again, found)
    assert CachedEncoder(model, None).encode_text([]).shape == (0, model.dim)


def test_a_killed_run_continues_where_it_stopped(model, image_files, tmp_path, monkeypatch):
    monkeypatch.setattr("fashionclip.evaluate.cache.FLUSH_INTERVAL_S", 0.0)

    def stop_after_four(what, n):
        done.append(n)
        if sum(done) >= 4:
            raise KeyboardInterrupt

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(model, tmp_path / "c", progress=stop_after_four).encode_images(
            images_of(image_files)
        )
    counting = _Counting(model)
    found = CachedEncoder(counting, tmp_path / "c").encode_images(images_of(image_files))
    assert counting.n_images == 2
    assert np.allclose(found, model.encode_images(image_files), atol=1e-6)


def test_a_damaged_cache_file_costs_its_vectors_only(model, image_files, tmp_path):
    CachedEncoder(model, tmp_path / "c").encode_images(images_of(image_files))
    (held,) = (tmp_path / "c").rglob("images-*.safetensors")
    held.write_bytes(held.read_bytes()[:100])
    found = CachedEncoder(model, tmp_path / "c").encode_images(images_of(image_files))
    assert np.isfinite(found).all()


def test_vectors_of_another_length_are_refused_by_name(model, image_files, tmp_path):
    CachedEncoder(model, tmp_path / "c").encode_images(images_of(image_files))
    (held,) = (tmp_path / "c").rglob("images-*.safetensors")
    tensors = load_file(held)
    save_file({**tensors, "rows": np.ascontiguousarray(tensors["rows"][:, :3])}, held)
    with pytest.raises(EvaluationError, match=re.escape(str(held.parent))):
        CachedEncoder(model, tmp_path / "c")


def test_a_model_that_gives_nan_is_an_error_that_names_the_image(model, image_files):
    class Broken(_CountingEngine):
        def encode_pixels(self, pixels):
            return np.full_like(super().encode_pixels(pixels), np.nan)

    broken = FashionCLIP(model.checkpoint, engine=Broken(model.engine))
    with pytest.raises(EvaluationError, match=r"NaN for image 0\.jpg"):
        CachedEncoder(broken, None).encode_images(images_of(image_files))


def _fill(checkpoint, places, cache):
    model = FashionCLIP.from_pretrained(checkpoint, device="cpu", precision="float32")
    CachedEncoder(model, cache).encode_images(images_of(places))


@pytest.mark.slow
def test_two_runs_at_once_share_a_cache(tiny_checkpoint, model, image_files, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    arguments = (tiny_checkpoint, image_files, tmp_path / "c")
    runs = [spawn.Process(target=_fill, args=arguments) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
        assert run.exitcode == 0
    counting = _Counting(model)
    found = CachedEncoder(counting, tmp_path / "c").encode_images(images_of(image_files))
    assert counting.n_images == 0
    assert np.allclose(found, model.encode_images(image_files), atol=1e-6)
