"""Vectors for evaluation: computed once, found again, whatever happens in between."""

import io
import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from fashionclip.errors import EvaluationError
from fashionclip.evaluate.embeddings import CachedVectors
from fashionclip.evaluate.tasks import Picture
from fashionclip.model import FashionCLIP
from fashionclip.sample import generate_images


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


class _Counting(FashionCLIP):
    """The model, and how many pictures and texts it was made to encode."""

    def __init__(self, model):
        super().__init__(model.checkpoint, model.engine)
        self.n_pictures = self.n_texts = 0

    def iter_images(self, images, **options):
        images = list(images)
        self.n_pictures += len(images)
        return super().iter_images(images, **options)

    def encode_text(self, texts, **options):
        texts = list(texts)
        self.n_texts += len(texts)
        return super().encode_text(texts, **options)


def jpeg(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=90)
    return held.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    places = []
    for i, image in enumerate(generate_images(6)):
        places.append(folder / f"{i}.jpg")
        places[-1].write_bytes(jpeg(image))
    return places


def pictures_of(places) -> list[Picture]:
    return [Picture(place.name, place) for place in places]


def test_vectors_are_the_models_own_row_by_row(model, photos):
    pictures = pictures_of(photos)
    found = CachedVectors(model, None).pictures(pictures)
    assert np.allclose(found, model.encode_images(photos), atol=1e-6)


def test_a_second_run_encodes_nothing_even_when_files_were_renamed(model, photos, tmp_path):
    first = CachedVectors(model, tmp_path / "cache").pictures(pictures_of(photos))
    moved = [place.rename(place.with_name(f"new-{place.name}")) for place in photos]
    counting = _Counting(model)
    again = CachedVectors(counting, tmp_path / "cache")
    assert np.array_equal(again.pictures(pictures_of(moved)), first)
    assert counting.n_pictures == 0


def test_a_file_that_changed_is_encoded_again(model, photos, tmp_path):
    CachedVectors(model, tmp_path / "cache").pictures(pictures_of(photos))
    photos[2].write_bytes(jpeg(generate_images(9)[8]))
    counting = _Counting(model)
    CachedVectors(counting, tmp_path / "cache").pictures(pictures_of(photos))
    assert counting.n_pictures == 1


def test_one_picture_in_many_tasks_is_encoded_once(model, photos):
    counting = _Counting(model)
    vectors = CachedVectors(counting, None)
    found = vectors.pictures([*pictures_of(photos), *pictures_of(photos[::-1])])
    vectors.pictures(pictures_of(photos))
    assert counting.n_pictures == len(photos)
    assert np.array_equal(found[: len(photos)], found[len(photos) :][::-1])


def test_pixels_are_pictures_too_and_their_shape_counts(model):
    rows = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
    vectors = CachedVectors(model, None)
    flat, turned = vectors.pictures([Picture("a", rows), Picture("b", rows.reshape(16, 12))])
    assert not np.allclose(flat, turned)


def test_pictures_that_cannot_be_read_are_rows_of_nan_and_cost_nothing_else(model, photos):
    photos[1].write_bytes(b"no picture")
    missing = photos[0].with_name("absent.jpg")
    vectors = CachedVectors(model, None)
    found = vectors.pictures(pictures_of([photos[0], photos[1], missing, photos[3]]))
    assert np.isnan(found).any(axis=1).tolist() == [False, True, True, False]
    assert set(vectors.unreadable) == {"1.jpg", "absent.jpg"}
    assert np.isnan(vectors.pictures(pictures_of([photos[1]]))).all()


def test_texts_are_kept_too_and_templates_average_to_unit_length(model, tmp_path):
    words = ["a red dress", "blue jeans", "a red dress"]
    found = CachedVectors(model, tmp_path).texts(words, templates="ensemble")
    assert np.allclose(found, model.encode_text(words, templates="ensemble"), atol=1e-5)
    counting = _Counting(model)
    again = CachedVectors(counting, tmp_path).texts(words, templates="ensemble")
    assert counting.n_texts == 0
    assert np.array_equal(again, found)
    assert CachedVectors(model, None).texts([]).shape == (0, model.dim)


def test_a_killed_run_goes_on_where_it_stopped(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("fashionclip.evaluate.shelf.FLUSH_SECONDS", 0.0)

    def stop_after_four(what, n):
        done.append(n)
        if sum(done) >= 4:
            raise KeyboardInterrupt

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        CachedVectors(model, tmp_path / "c", progress=stop_after_four).pictures(pictures_of(photos))
    counting = _Counting(model)
    found = CachedVectors(counting, tmp_path / "c").pictures(pictures_of(photos))
    assert counting.n_pictures == 2
    assert np.allclose(found, model.encode_images(photos), atol=1e-6)


def test_a_damaged_cache_file_costs_its_vectors_only(model, photos, tmp_path):
    CachedVectors(model, tmp_path / "c").pictures(pictures_of(photos))
    (held,) = (tmp_path / "c").rglob("pictures-*.safetensors")
    held.write_bytes(held.read_bytes()[:100])
    found = CachedVectors(model, tmp_path / "c").pictures(pictures_of(photos))
    assert np.isfinite(found).all()


def test_vectors_of_another_length_are_refused_by_name(model, photos, tmp_path):
    CachedVectors(model, tmp_path / "c").pictures(pictures_of(photos))
    (held,) = (tmp_path / "c").rglob("pictures-*.safetensors")
    tensors = load_file(held)
    save_file({**tensors, "rows": np.ascontiguousarray(tensors["rows"][:, :3])}, held)
    with pytest.raises(EvaluationError, match=re.escape(str(held.parent))):
        CachedVectors(model, tmp_path / "c")


def test_a_model_that_gives_nan_is_an_error_that_names_the_picture(model, photos):
    class Broken(_Counting):
        def iter_images(self, images, **options):
            for vector in super().iter_images(images, **options):
                yield np.full_like(vector, np.nan)

    with pytest.raises(EvaluationError, match=r"NaN for picture 0\.jpg"):
        CachedVectors(Broken(model), None).pictures(pictures_of(photos))


def _fill(checkpoint, places, cache):
    model = FashionCLIP.from_pretrained(checkpoint, device="cpu", precision="float32")
    CachedVectors(model, cache).pictures(pictures_of(places))


@pytest.mark.slow
def test_two_runs_at_once_share_a_cache(tiny_checkpoint, model, photos, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    arguments = (tiny_checkpoint, photos, tmp_path / "c")
    runs = [spawn.Process(target=_fill, args=arguments) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
        assert run.exitcode == 0
    counting = _Counting(model)
    found = CachedVectors(counting, tmp_path / "c").pictures(pictures_of(photos))
    assert counting.n_pictures == 0
    assert np.allclose(found, model.encode_images(photos), atol=1e-6)
