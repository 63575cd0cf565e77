"""Fashion-MNIST: every form of its files gives the same images and labels."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
from fashionclip.evaluate.benchmarks.fmnist import as_product_image

LABELS = {"t10k": np.arange(20) % 10, "train": np.arange(30) * 7 % 10}


def pixels_of(prefix):
    shape = (len(LABELS[prefix]), 28, 28)
    return np.random.default_rng(len(prefix)).integers(0, 256, shape, dtype=np.uint8)


def write_idx(folder: Path, prefixes=("t10k", "train"), *, packed=True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in prefixes:
        pixels, labels = pixels_of(prefix), LABELS[prefix].astype(np.uint8)
        files = {
            f"{prefix}-images-idx3-ubyte": (
                struct.pack(">I3I", 0x803, *pixels.shape) + pixels.tobytes()
            ),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">II", 0x801, len(labels))
            + labels.tobytes(),
        }
        for name, data in files.items():
            path = folder / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(data) if packed else data)
    return folder


def write_parquet(folder: Path) -> Path:
    (folder / "fashion_mnist").mkdir(parents=True)
    for prefix, split in (("t10k", "test"), ("train", "train")):
        cells = []
        for pixels in pixels_of(prefix):
            png = image_bytes(Image.fromarray(pixels), "PNG")
            cells.append({"bytes": png, "path": None})
        table = pa.table({"image": cells, "label": LABELS[prefix]})
        pq.write_table(table, folder / "fashion_mnist" / f"{split}-00000-of-00001.parquet")
    return folder


def load(folder):
    return find_benchmark("fmnist").load(folder)


@pytest.mark.parametrize(
    "write",
    [write_idx, lambda folder: write_idx(folder, packed=False), write_parquet],
    ids=["packed", "unpacked", "parquet"],
)
def test_every_form_of_the_files_gives_the_same_tasks(write, tmp_path):
    inverted, plain = load(write(tmp_path / "fmnist")).tasks
    assert (inverted.name, plain.name) == ("fmnist", "fmnist/white-on-black")
    for task in (inverted, plain):
        assert task.labels.tolist() == LABELS["t10k"].tolist()
        assert len(task.images) == 20
        assert len(task.development_images) == len(task.development_labels) == 30
        assert task.development == "sampled from the training file"
    np.testing.assert_array_equal(plain.images[3].source, pixels_of("t10k")[3])
    np.testing.assert_array_equal(inverted.images[3].source, as_product_image(pixels_of("t10k")[3]))
    np.testing.assert_array_equal(plain.development_images[5].source, pixels_of("train")[5])


def test_a_product_image_is_dark_on_white_with_a_white_margin():
    image = as_product_image(np.full((28, 28), 255, np.uint8))
    assert image.shape == (36, 36)
    assert (image[4:-4, 4:-4] == 0).all()
    image[4:-4, 4:-4] = 255
    assert (image == 255).all()


def test_the_classes_are_the_standard_ten_in_the_order_of_the_labels(tmp_path):
    task = load(write_idx(tmp_path)).tasks[0]
    assert [label.name for label in task.classes] == [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ]
    words_of_labels = [words for label in task.classes for words in (label.words, *label.synonyms)]
    assert len(words_of_labels) == len(set(words_of_labels))


def test_image_ids_are_unique_and_the_same_every_time(tmp_path):
    tasks = [load(write_idx(tmp_path)).tasks[0] for _ in range(2)]
    ids = [[p.image_id for p in (*t.images, *t.development_images)] for t in tasks]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 50


def test_without_the_training_file_there_are_no_development_images_and_a_note_says_so(tmp_path):
    task = load(write_idx(tmp_path, ("t10k",))).tasks[0]
    assert (task.development, task.development_images) == ("", ())
    assert len(task.development_labels) == 0
    assert any("training file is missing" in note for note in task.notes)


def test_damaged_and_missing_files_are_one_line_that_says_how_to_get_them(tmp_path):
    cut = write_idx(tmp_path / "cut", packed=False)
    images = cut / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    half = write_idx(tmp_path / "half")
    (half / "t10k-labels-idx1-ubyte.gz").unlink()
    broken = write_idx(tmp_path / "broken")
    (broken / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08 nothing")
    other = write_idx(tmp_path / "other", packed=False)
    (other / "t10k-labels-idx1-ubyte").write_bytes(b"PK\3\4" + b"0" * 100)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    pq.write_table(pa.table({"words": ["a"]}), foreign / "test-00000-of-00001.parquet")
    empty = tmp_path / "empty"
    empty.mkdir()
    reasons = {
        cut: "cut short",
        half: "one is missing",
        broken: "cannot be read",
        other: "no IDX file",
        foreign: "cannot be read",
        empty: "no test pictures",
    }
    for folder, reason in reasons.items():
        with pytest.raises(BenchmarkError, match=f"{reason}.*apt install") as caught:
            load(folder)
        assert "\n" not in str(caught.value)


def test_labels_and_images_must_match(tmp_path):
    folder = write_idx(tmp_path, packed=False)
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(struct.pack(">II", 0x801, 3) + bytes([0, 1, 2]))
    with pytest.raises(BenchmarkError, match="20 test pictures and 3 labels"):
        load(folder)
    labels.write_bytes(struct.pack(">II", 0x801, 20) + bytes([77] * 20))
    with pytest.raises(BenchmarkError, match="labels beyond"):
        load(folder)


def test_the_folder_is_found_under_the_data_folder_by_any_of_its_names(tmp_path):
    folder = write_idx(tmp_path / "data" / "fashion-mnist")
    assert find_folder(find_benchmark("fmnist"), tmp_path / "data") == folder
