"""``fashionclip localize``: what is printed and written, what is done again, bad input."""

import json

import numpy as np
import pytest
from PIL import Image

from fashionclip.cli.main import run


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        cells = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((40, 60)).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def localize(tiny_checkpoint, capsys):
    def call(*words):
        status = run(["localize", *map(str, words), "--model", str(tiny_checkpoint)])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_strength_and_boxes_are_printed_for_each_word(localize, photos):
    status, out, err = localize(photos / "a.png", "jeans", "red dress")
    assert status == 0
    assert "a.png" in out
    assert "red dress" in out
    assert "2 words in 1 image in" in err


def test_an_absent_word_is_said(localize, photos, monkeypatch):
    monkeypatch.setattr("fashionclip.localization.result.THRESHOLD", 1.1)
    status, out, _ = localize(photos / "a.png", "jeans")
    assert status == 0
    assert "not in the picture" in out


def test_json_has_what_the_files_have_and_a_second_run_takes_it_from_there(
    localize, photos, tmp_path, monkeypatch
):
    words = (photos, "jeans", "red dress", "--out", tmp_path / "maps", "--json")
    first = json.loads(localize(*words)[1])
    assert [image["width"] for image in first["images"]] == [40, 40]
    assert first["reused"] == 0
    for image, name in zip(first["images"], "ab", strict=True):
        assert image == json.loads((tmp_path / "maps" / f"{name}.json").read_text())
        assert [word["word"] for word in image["words"]] == ["jeans", "red dress"]
        with np.load(tmp_path / "maps" / f"{name}.npz") as arrays:
            cells = arrays["cells"]
        assert cells.shape == (2, 60, 40)
        scores = [word["score"] for word in image["words"]]
        assert cells.max(axis=(1, 2)) == pytest.approx(scores, abs=1e-4)
        for i, stem in enumerate(("jeans", "red-dress"), start=1):
            with Image.open(tmp_path / "maps" / f"{name}.{i}-{stem}.png") as overlay:
                assert overlay.size == (40, 60)
    (tmp_path / "maps" / "b.npz").unlink()  # as after a kill
    again = json.loads(localize(*words)[1])
    assert again["reused"] == 1
    assert again["images"] == first["images"]
    other = json.loads(localize(photos, "jeans", "--out", tmp_path / "maps", "--json")[1])
    assert other["reused"] == 0, "other words were asked for"


def test_a_bad_image_costs_the_others_nothing(localize, photos):
    (photos / "c.png").write_bytes(b"not an image")
    Image.new("RGB", (9, 9), "white").save(photos / "d.png")
    status, out, err = localize(photos, photos / "gone.jpg", "jeans", "--json")
    found = json.loads(out)
    assert status == 0
    assert [image["image"][-5:] for image in found["images"]] == ["a.png", "b.png"]
    reasons = " ".join(reject["reason"] for reject in found["rejected"])
    assert "cannot be decoded" in reasons
    assert "has one colour" in reasons
    assert "gone.jpg" in reasons
    assert "3 rejected" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.png"], "say what to look for"),
        (["a.png", " "], "text 1 of words is empty"),
        (["a.png", "jeans", "--contrast", ""], "text 1 of contrast is empty"),
        (["empty", "jeans"], "has no image"),
        (["a.png", *(f"word{i}" for i in range(1001))], "at most 1,000"),
    ],
)
def test_what_cannot_be_asked_for_is_said(localize, photos, words, says):
    (photos / "empty").mkdir()
    status, _, err = localize(photos / words[0], *words[1:])
    assert status == 2
    assert says in err


def test_images_of_one_name_in_two_folders_keep_apart(localize, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with Image.open(photos / "b.png") as image:
        image.save(other / "a.png")
    out = localize(
        photos / "a.png", other / "a.png", "jeans", "--out", tmp_path / "maps", "--json"
    )[1]
    files = [image["files"] for image in json.loads(out)["images"]]
    assert not set(files[0]) & set(files[1])


def test_a_later_run_spares_the_files_of_another_image_of_that_name(localize, photos, tmp_path):
    other, maps = tmp_path / "other", tmp_path / "maps"
    other.mkdir()
    (other / "a.png").write_bytes((photos / "b.png").read_bytes())
    localize(photos / "a.png", "jeans", "--out", maps)
    localize(other / "a.png", "jeans", "--out", maps)
    images = [json.loads(path.read_text())["image"] for path in maps.glob("*.json")]
    assert sorted(images) == sorted([str(photos / "a.png"), str(other / "a.png")])
    _, out, _ = localize(other / "a.png", "jeans", "--out", maps, "--json")
    assert json.loads(out)["reused"] == 1


def test_an_image_that_was_moved_is_reported_where_it_is_now(localize, photos, tmp_path):
    localize(photos / "a.png", "jeans", "--out", tmp_path / "maps")
    moved = (photos / "a.png").rename(tmp_path / "a.png")
    _, out, _ = localize(moved, "jeans", "--out", tmp_path / "maps", "--json")
    answer = json.loads(out)
    assert answer["reused"] == 1
    assert answer["images"][0]["image"] == str(moved)


def test_names_of_long_words_in_any_script_fit_the_file_system(localize, photos, tmp_path):
    long = (photos / "a.png").rename(photos / f"{'長' * 80}.png")
    status, _, err = localize(long, "靴" * 20, "--out", tmp_path / "maps")
    assert (status, err.count("1 word in 1 image")) == (0, 1)
    assert len(list((tmp_path / "maps").iterdir())) == 3


def test_a_word_that_is_also_a_folder_is_said(localize, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    _, _, err = localize(photos / "a.png", "photos")
    assert "note: 'photos' is read as a word; for the folder write photos/" in err


def test_a_contrast_that_means_the_word_is_refused_in_plain_words(localize, photos):
    status, _, err = localize(photos / "a.png", "jeans", "--contrast", "jeans")
    assert status == 2
    assert "every contrast text means nearly the same as 'jeans'" in err


def test_other_words_replace_an_images_files_and_no_others(localize, photos, tmp_path):
    maps = tmp_path / "maps"
    assert localize(photos, "jeans", "bag", "--out", maps)[0] == 0
    others = {"a.notes.png", "b.1-jeans.png", "b.2-bag.png", "a.b.1-jeans.png"}
    for name in ("a.notes.png", "a.b.1-jeans.png"):
        (maps / name).write_bytes(b"mine")
    assert localize(photos / "a.png", "bag", "--out", maps)[0] == 0
    pictures = {path.name for path in maps.glob("*.png")}
    assert pictures == others | {"a.1-bag.png"}
    assert {"a.1-bag.png", "a.npz"} == set(json.loads((maps / "a.json").read_text())["files"])
