"""The drop-in replacement of the ``fashion-clip`` package: its calls, without its known faults."""

import logging
import socket

import numpy as np
import pytest
from PIL import Image

from fashionclip.compat import FashionCLIP, FCLIPDataset
from fashionclip.errors import CatalogError, CheckpointError
from fashionclip.model import FashionCLIP as Model

COLORS = ((200, 20, 30), (20, 160, 60), (20, 40, 200), (120, 120, 120), (240, 200, 20))


def make_image(i):
    pixels = np.full((48, 40, 3), 255, dtype=np.uint8)
    pixels[4 + i : 30 + i, 5 + i : 30] = COLORS[i % len(COLORS)]
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for i in range(5):
        make_image(i).save(path / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def fclip(tiny_checkpoint):
    return FashionCLIP(str(tiny_checkpoint), device="cpu")


def catalog(n=5):
    return [{"id": i, "image": f"{i}.png", "caption": f"thing {i}"} for i in range(n)]


@pytest.fixture(scope="module")
def shop(tiny_checkpoint, folder):
    dataset = FCLIPDataset("mine", str(folder), "local", catalog())
    return FashionCLIP(tiny_checkpoint, dataset, device="cpu")


# the calls of its README


def test_the_readme_of_the_original_runs(fclip, folder):
    images = [str(folder / f"{i}.png") for i in range(5)]
    image_embeddings = fclip.encode_images(images, batch_size=32)
    text_embeddings = fclip.encode_text(["a red thing", "a blue thing"], batch_size=32)
    normalized = image_embeddings / np.linalg.norm(image_embeddings, ord=2, axis=-1, keepdims=True)
    assert normalized == pytest.approx(image_embeddings, abs=1e-6)
    assert (normalized @ text_embeddings.T).shape == (5, 2)
    assert image_embeddings.dtype == text_embeddings.dtype == np.float32


def test_the_notebook_of_the_original_runs(shop, folder):
    dataset = shop.dataset
    found = shop.zero_shot_classification([str(folder / "0.png")], ["shoes", "pizza"])
    assert found[0] in {"shoes", "pizza"}
    candidates = shop.retrieval(["shoes"])
    sheet = dataset.display_products(dataset.ids[candidates], fields=("id",))
    assert sheet.size[0] == 5 * 224
    assert dataset._retrieve_row(dataset.ids[candidates[0]][0])["caption"].startswith("thing")


def test_the_built_in_model_needs_no_name_and_no_network(monkeypatch, folder):
    def refuse(*_):
        message = "no network here"
        raise OSError(message)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    fclip = FashionCLIP(None, device="cpu")
    assert fclip.encode_images([folder / "0.png"], batch_size=1).shape == (1, fclip.model.dim)


def test_a_saved_folder_and_an_unused_token_are_accepted(tiny_checkpoint, tmp_path, folder):
    Model.from_pretrained(tiny_checkpoint, device="cpu").save_pretrained(tmp_path / "saved")
    fclip = FashionCLIP(
        str(tmp_path / "saved"), normalize=False, approx=False, auth_token="secret", device="cpu"
    )
    assert fclip.encode_images([str(folder / "0.png")], 8).shape == (1, 24)


def test_a_model_that_is_not_there_is_an_error_not_an_exit(tmp_path):
    with pytest.raises(CheckpointError):
        FashionCLIP(str(tmp_path / "gone"), device="cpu")


# images of every kind


def test_fewer_images_than_the_batch_more_and_none(fclip, folder):
    images = [str(folder / f"{i}.png") for i in range(5)]
    once = fclip.encode_images(images, batch_size=64)
    assert fclip.encode_images(images, batch_size=2) == pytest.approx(once, abs=1e-5)
    assert fclip.encode_images([], batch_size=8).shape == (0, 24)
    assert fclip.encode_text([], batch_size=8).shape == (0, 24)


def test_paths_images_arrays_and_bytes_may_be_mixed(fclip, folder):
    path = folder / "2.png"
    image = Image.open(path)
    sources = [str(path), path, image, np.asarray(image), path.read_bytes()]
    vectors = fclip.encode_images(sources, batch_size=3)
    assert vectors == pytest.approx(np.repeat(vectors[:1], 5, axis=0), abs=1e-5)
    as_array = np.array([str(path), str(folder / "3.png")])
    assert fclip.encode_images(as_array, 2)[0] == pytest.approx(vectors[0], abs=1e-5)
    assert fclip.encode_images(iter([image]), 2).shape == (1, 24)
    assert fclip.encode_images(np.stack([np.asarray(image)] * 2), 2).shape == (2, 24)


def test_one_image_and_one_text_count_as_lists(fclip, folder):
    assert fclip.encode_images(str(folder / "1.png")).shape == (1, 24)
    assert fclip.encode_text("a dress").shape == (1, 24)


def test_a_transparent_image_lies_on_white(fclip):
    clear = np.zeros((40, 40, 4), dtype=np.uint8)
    clear[10:30, 10:30] = (200, 20, 30, 255)
    white = np.full((40, 40, 3), 255, dtype=np.uint8)
    white[10:30, 10:30] = (200, 20, 30)
    vectors = fclip.encode_images([Image.fromarray(clear), Image.fromarray(white)], 2)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)


def test_a_photo_is_turned_upright(fclip, tmp_path):
    image = make_image(3)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    vectors = fclip.encode_images([str(tmp_path / "turned.png"), image], 2)
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)


def test_a_bad_image_costs_only_itself(fclip, folder, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    sources = [str(folder / "0.png"), str(tmp_path / "text.jpg"), str(folder / "1.png")]
    with pytest.warns(UserWarning, match=r"1 of 3 images could not be used .* image 1: "):
        vectors = fclip.encode_images(sources, 2)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, False]
    with pytest.warns(UserWarning, match="1 of 3"):
        labels = fclip.zero_shot_classification(sources, ["a", "b"])
    assert [label is None for label in labels] == [False, True, False]


# classification and retrieval


def test_classification_takes_the_closest_label_as_it_is_written(fclip, caplog):
    images = [make_image(i) for i in range(4)]
    labels = ["red shirt", "blue jeans", "grey sweater"]
    cosines = fclip.encode_images(images) @ fclip.encode_text(labels).T
    with caplog.at_level(logging.INFO, logger="fashionclip.compat"):
        found = fclip.zero_shot_classification(images, labels, debug=True)
    assert found == [labels[i] for i in cosines.argmax(axis=1)]
    assert "similarities" in caplog.text


def test_similarity_normalises_both_sides(fclip):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 24)) * 7, rng.normal(size=(4, 24)) * 5
    expected = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    assert fclip._cosine_similarity(a, b) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("approx", [True, False])
def test_retrieval_is_exact_for_a_model_of_any_width(tiny_checkpoint, folder, approx):
    dataset = FCLIPDataset("mine", folder, "LOCAL", catalog())
    fclip = FashionCLIP(tiny_checkpoint, dataset, approx=approx, device="cpu")
    queries = ["red shirt", "jeans"]
    expected = np.argsort(-(fclip.encode_text(queries) @ fclip.image_vectors.T), axis=1)
    assert fclip.retrieval(queries, top_k=3).tolist() == expected[:, :3].tolist()
    assert fclip.retrieval(queries).shape == (2, 5)  # no more than there are


def test_retrieval_without_a_data_set_says_what_is_missing(fclip):
    with pytest.raises(ValueError, match="there is no data set to search"):
        fclip.retrieval(["shoes"])


def test_a_broken_product_is_named_and_never_found(tiny_checkpoint, folder):
    products = [*catalog(), {"id": "bad", "image": "gone.png", "caption": "gone"}]
    with pytest.warns(UserWarning, match="1 of 6"):
        fclip = FashionCLIP(tiny_checkpoint, FCLIPDataset("mine", folder, catalog=products))
    assert [(reject.row, reject.product_id) for reject in fclip.rejects] == [(6, "bad")]
    assert 5 not in fclip.retrieval(["gone"], top_k=6)
    assert fclip.textual_vectors.shape == fclip.image_vectors.shape


# data sets


def test_rows_of_one_id_are_all_kept(tiny_checkpoint, folder):
    products = [
        {"id": 7, "image": "0.png", "caption": "first"},
        {"id": 7, "image": "2.png", "caption": "second"},
    ]
    fclip = FashionCLIP(tiny_checkpoint, FCLIPDataset("twice", folder, catalog=products))
    assert sorted(fclip.retrieval(["x"])[0]) == [0, 1]
    assert fclip.dataset._retrieve_row(7)["caption"] == "first"


def test_the_hash_covers_what_the_images_are(tmp_path):
    for name, i in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        make_image(i).save(tmp_path / name / "x.png")
    products = [{"id": 1, "image": "x.png", "caption": "c"}]
    one, other = (FCLIPDataset("d", tmp_path / name, catalog=products).hash() for name in "ab")
    assert one != other
    (tmp_path / "b" / "x.png").write_bytes((tmp_path / "a" / "x.png").read_bytes())
    assert FCLIPDataset("d", tmp_path / "b", catalog=products).hash() == one
    shifted = [{"id": 1, "image": "x.png", "caption": "c2"}]
    assert FCLIPDataset("d", tmp_path / "a", catalog=shifted).hash() != one


def test_a_random_product_is_always_one_of_them():
    dataset = FCLIPDataset("d", catalog=catalog(2))
    assert {dataset.random_product_id() for _ in range(100)} == {"0", "1"}


def test_two_images_of_one_file_name_are_shown_as_two(tmp_path):
    for name, i in (("a", 0), ("b", 2)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (30, 30), COLORS[i]).save(tmp_path / name / "1.png")
    products = [
        {"id": name, "image": f"{name}/1.png", "caption": "", "note": "ü 你"} for name in "ab"
    ]
    dataset = FCLIPDataset("d", tmp_path, "local", products)
    sheet = dataset.display_products(["a", "b"], fields=("id", "note", "price"))
    assert sheet.getpixel((112, 15)) == COLORS[0]
    assert sheet.getpixel((224 + 112, 15)) == COLORS[2]


def test_images_in_the_catalogue_itself_need_no_folder(tiny_checkpoint):
    products = [{"id": i, "image": make_image(i), "caption": f"thing {i}"} for i in range(3)]
    fclip = FashionCLIP(tiny_checkpoint, FCLIPDataset("d", catalog=products), device="cpu")
    assert fclip.image_vectors == pytest.approx(
        fclip.encode_images([make_image(i) for i in range(3)]), abs=1e-5
    )
    assert fclip.vector_hash == f"{fclip.model_hash}_{fclip.dataset.hash()}"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"catalog": None}, CatalogError, "no products for the data set 'd'"),
        ({"catalog": [{"id": 1, "image": "x"}]}, CatalogError, "product 1 .* has no caption"),
        (
            {"catalog": [], "image_source_type": "ftp"},
            ValueError,
            "image_source_type is 'ftp'; it is local, s3 or url",
        ),
    ],
)
def test_a_data_set_that_cannot_be_says_why(arguments, error, message):
    with pytest.raises(error, match=message):
        FCLIPDataset("d", **arguments)


def test_an_empty_data_set_is_searched_in_vain(tiny_checkpoint):
    fclip = FashionCLIP(tiny_checkpoint, FCLIPDataset("d", catalog=[]), device="cpu")
    assert fclip.retrieval(["shoes"]).shape == (1, 0)


# heat maps


def test_a_uniform_image_gives_a_map_of_zeros(fclip):
    heat, image = fclip._get_heatmap(Image.new("RGB", (50, 80), "white"), "nike", 56, 5)
    assert not heat.any()
    assert (heat.shape, image.size) == ((224, 224), (224, 224))


def test_the_heat_lies_on_the_image_and_is_that_of_localize(fclip, folder):
    heat, image = fclip._get_heatmap(str(folder / "1.png"), "nike", iterations=0)
    is_grey = (np.asarray(image) == 128).all(axis=2)
    assert not heat[is_grey].any()
    (word,) = fclip.model.localize(folder / "1.png", ["nike"]).maps
    assert heat.max() == pytest.approx(word.max(), abs=0.01)
    smaller, _ = fclip._get_heatmap(str(folder / "1.png"), "nike", iterations=2)
    assert 0 < (smaller > 0).sum() < (heat > 0).sum()


def test_attention_is_shown_as_one_image(fclip, folder):
    shown = fclip.display_attention(str(folder / "1.png"), "nike", pixel_size=56, iterations=2)
    assert shown.size == (3 * 224, 224)
    with pytest.raises(ValueError, match="is empty"):
        fclip.display_attention(str(folder / "1.png"), " ")
