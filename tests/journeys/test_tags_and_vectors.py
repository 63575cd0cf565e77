"""Tables of tags and files of vectors, for other programs."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

LABELS = """
[kind]
shirt
dress
jeans
sneakers | running shoes
[colour: several]
red
blue
green
"""


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(LABELS, encoding="utf-8")
    return path


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tags_of_a_catalogue_become_a_table_with_rejects_beside_it(
    broken_shop, labels, model, fashionclip, tmp_path
):
    out = tmp_path / "tags.csv"
    ended = fashionclip(
        *("tag", broken_shop / "products.csv", "--images", broken_shop / "images"),
        *("--labels", labels, "--out", out, "--model", model, "--json"),
    )
    assert ended.status == 0, ended.err
    assert (ended.json["tagged"], ended.json["rejected"]) == (20, 7)
    rows = read_csv(out)
    assert len(rows) == 20
    assert list(rows[0])[:4] == ["id", "kind", "kind_probability", "kind_margin"]
    kinds = {row["kind"] for row in rows}
    assert kinds <= {"shirt", "dress", "jeans", "sneakers", "none of these"}
    rejects = (tmp_path / "tags.rejects.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["row"] for line in rejects] == [21, 22, 23, 24, 25, 26, 27]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_tags_of_an_index_need_no_images(suffix, store, labels, model, fashionclip, tmp_path):
    out = tmp_path / f"tags{suffix}"
    ended = fashionclip("tag", store, "--labels", labels, "--out", out, "--model", model)
    assert ended.status == 0, ended.err
    if suffix == ".parquet":
        rows = pq.read_table(out).to_pylist()
    else:
        rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert len(rows) == 20
    assert isinstance(rows[0]["colour"], list)


def test_an_index_is_tagged_with_the_model_that_made_it(store, labels, fashionclip):
    ended = fashionclip("tag", store, "--labels", labels, "--json")
    assert ended.status == 0, ended.err
    assert len(ended.json["tags"]) == 20


def test_without_an_output_file_the_first_tags_are_shown(shop, labels, model, fashionclip):
    words = ("--images", shop / "images", "--labels", labels, "--model", model)
    ended = fashionclip("tag", shop / "products.csv", *words)
    assert ended.status == 0, ended.err
    assert "P000" in ended.out
    assert "20 products tagged" in ended.err


def test_thresholds_are_calibrated_and_saved(shop, model, fashionclip, tmp_path):
    labels, learned = tmp_path / "colours.txt", tmp_path / "learned.json"
    labels.write_text("red\nblue\ngreen\nblack\norange\n", encoding="utf-8")
    table = (shop / "products.csv", "--images", shop / "images", "--model", model)
    ended = fashionclip(
        *("tag", *table, "--labels", f"farbe={labels}", "--out", tmp_path / "tags.csv"),
        *("--calibrate", shop / "products.csv", "--truth", "farbe=colour"),
        *("--save-labels", learned),
    )
    assert ended.status == 0, ended.err
    assert "farbe: " in ended.err
    assert "20 labelled products" in ended.err
    again = fashionclip("tag", *table, "--labels", learned, "--out", tmp_path / "again.csv")
    assert again.status == 0, again.err
    assert read_csv(tmp_path / "again.csv") == read_csv(tmp_path / "tags.csv")


def test_labels_that_contradict_each_other_are_one_line(shop, model, fashionclip, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("red\nRed\n", encoding="utf-8")
    ended = fashionclip("tag", shop / "products.csv", "--labels", labels, "--model", model)
    assert ended.status == 1
    assert ended.err.startswith("error: ")
    assert "twice" in ended.err


def test_vectors_of_a_catalogue_are_those_of_its_images(shop, model, fashionclip, tmp_path):
    whole, files = tmp_path / "whole.npz", tmp_path / "files.npz"
    image_files = [shop / "images" / name for name in ("shirt-red.jpg", "shirt-blue.jpg")]
    ended = fashionclip(
        *("embed", shop / "products.csv", "--images", shop / "images"),
        *("--out", whole, "--model", model, "--json"),
    )
    assert ended.status == 0, ended.err
    assert (ended.json["embedded"], ended.json["dim"]) == (20, 24)
    assert fashionclip("embed", *image_files, "--out", files, "--model", model).status == 0
    one, other = np.load(whole), np.load(files)
    assert list(one["ids"][:2]) == ["P000", "P001"]
    assert list(other["ids"]) == [str(path) for path in image_files]
    assert np.allclose(one["vectors"][:2], other["vectors"], atol=1e-2)
    assert np.allclose(np.linalg.norm(one["vectors"], axis=1), 1, atol=1e-5)


def test_vectors_of_texts_go_to_parquet_with_the_models_name(model, fashionclip, tmp_path):
    out = tmp_path / "words.parquet"
    ended = fashionclip(
        "embed", "--text", "red dress", "--text", "jeans", "--out", out, "--model", model
    )
    assert ended.status == 0, ended.err
    table = pq.read_table(out)
    assert table.column("id").to_pylist() == ["red dress", "jeans"]
    assert len(table.column("vector")[0]) == 24
    assert table.schema.metadata[b"model"].decode() == str(model)


def test_a_bad_image_costs_only_its_row(broken_shop, model, fashionclip, tmp_path):
    out = tmp_path / "vectors.npz"
    ended = fashionclip(
        *("embed", broken_shop / "images" / "cut.jpg", broken_shop / "images" / "shirt-red.jpg"),
        *("--out", out, "--model", model),
    )
    assert ended.status == 0, ended.err
    assert len(np.load(out)["vectors"]) == 1
    assert "1 rejected" in ended.err
    (line,) = (tmp_path / "vectors.rejects.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["image"].endswith("cut.jpg")


def test_a_run_that_fails_leaves_the_old_file(model, fashionclip, tmp_path):
    out = tmp_path / "vectors.npz"
    out.write_bytes(b"old")
    ended = fashionclip("embed", tmp_path / "gone.csv", "--out", out, "--model", model)
    assert ended.status == 1
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]
