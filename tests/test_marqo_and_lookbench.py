"""Marqo's sets and LookBench, from tiny copies in the same layout."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks import find_benchmark


def png(i):
    return {"bytes": image_bytes(Image.new("RGB", (2, 3), (i, i, i)), "PNG"), "path": None}


def write_parquet(path: Path, columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def write_polyvore(folder: Path, n=12, **columns) -> Path:
    columns = {
        "image": [png(i) for i in range(n)],
        "category": [("Bags", "Boots")[i % 2] for i in range(n)],
        "text": [f"{('red', 'blue')[i % 2]} thing {i // 3}" for i in range(n)],
        "item_ID": [f"p{i}" for i in range(n)],
        **columns,
    }
    write_parquet(folder / "data" / "data-00000-of-00001.parquet", columns)
    return folder


def write_truth(folder: Path, name: str, truth) -> None:
    path = folder / "gt_query_doc" / f"ground_truth_{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(truth), encoding="utf-8")


def load(name, folder):
    return find_benchmark(name).load(folder)


def test_marqos_own_queries_are_used_where_their_ground_truth_exists(tmp_path):
    folder = write_polyvore(tmp_path / "polyvore")
    write_truth(folder, "text-image", {"a red thing": {"p0": 1, "p2": 1}, "b": {"p5": 1, "p9": 0}})
    write_truth(folder, "category-image+text", {"Boots": {"p1": 1, "p3": 1}})
    loaded = load("marqo", tmp_path)
    text, category = loaded.tasks
    assert text.name == "marqo-polyvore/text-to-image"
    assert text.queries == ("a red thing", "b")
    assert [rows.tolist() for rows in text.relevant] == [[0, 2], [5]]
    assert (text.image_weight, category.image_weight) == (1.0, 0.9)
    assert category.name == "marqo-polyvore/category-to-product"
    assert [rows.tolist() for rows in category.relevant] == [[1, 3]]
    assert [d.image_id for d in text.documents] == [f"p{i}" for i in range(12)]
    assert text.documents[4].source.read_bytes() == png(4)["bytes"]
    assert "their repository" in text.notes[0]
    assert "not here: atlas" in loaded.warnings[-1]


def test_tasks_are_named_by_set_and_question_as_marqo_names_them(tmp_path):
    write_polyvore(tmp_path / "polyvore")
    write_polyvore(
        tmp_path / "deepfashion-inshop",
        category2=["a", "b"] * 6,
        category3=["c", "d"] * 6,
        color=["red", "blue"] * 6,
    )
    names = [task.name for task in load("marqo", tmp_path).tasks]
    assert names == [
        "marqo-inshop/text-to-image",
        "marqo-inshop/category-to-product",
        "marqo-inshop/sub-category-to-product",
        "marqo-inshop/colour-to-product",
        "marqo-polyvore/text-to-image",
        "marqo-polyvore/category-to-product",
    ]


def test_without_ground_truth_the_same_value_is_relevant_and_a_note_says_so(tmp_path):
    write_polyvore(tmp_path / "polyvore")
    text, category = load("marqo", tmp_path).tasks
    assert [rows.tolist() for rows in category.relevant] == [
        [0, 2, 4, 6, 8, 10],
        [1, 3, 5, 7, 9, 11],
    ]
    assert text.queries[0] == "red thing 0"
    assert text.relevant[0].tolist() == [0, 2]
    assert "ground truth is not here" in text.notes[0]


def test_documents_that_the_table_lacks_are_counted(tmp_path):
    folder = write_polyvore(tmp_path / "polyvore")
    write_truth(folder, "text-image", {"a": {"p0": 1, "gone": 1}, "b": {"lost": 1}})
    task = load("marqo", tmp_path).tasks[0]
    assert task.queries == ("a",)
    assert "2 relevant documents that it names are not in the table" in task.notes[0]


def test_images_that_are_missing_in_the_table_are_named(tmp_path):
    images = [png(i) if i != 3 else None for i in range(12)]
    write_polyvore(tmp_path / "polyvore", image=images)
    loaded = load("marqo", tmp_path)
    assert loaded.warnings[0] == "1 polyvore document left out: it has no picture (p3)"
    assert len(loaded.tasks[0].documents) == 11
    rows = dict(zip(loaded.tasks[1].queries, loaded.tasks[1].relevant, strict=True))
    ids = [loaded.tasks[1].documents[row].image_id for row in rows["Boots"]]
    assert ids == ["p1", "p5", "p7", "p9", "p11"]


def test_marqo_folders_that_cannot_be_read_are_errors(tmp_path):
    with pytest.raises(BenchmarkError, match="holds none of atlas, inshop"):
        load("marqo", tmp_path)
    folder = write_polyvore(tmp_path / "polyvore")
    write_truth(folder, "text-image", ["no"])
    with pytest.raises(BenchmarkError, match=r"ground_truth_text-image\.json is not"):
        load("marqo", tmp_path)
    shard = folder / "data" / "data-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(BenchmarkError, match="cannot be unpacked"):
        load("marqo", tmp_path)
    write_parquet(shard, {"text": ["a"]})
    with pytest.raises(BenchmarkError, match="no column 'image'"):
        load("marqo", tmp_path)


def write_lookbench(folder: Path) -> Path:
    for subset in ("real_studio_flat", "aigen_streetlook"):
        for split, n in (("query", 3), ("gallery", 6)):
            columns = {
                "image": [png(i) for i in range(n)],
                "category": [("dress", "coat")[i % 2] for i in range(n)],
                "main_attribute": [("Red, long", "blue")[i % 2] for i in range(n)],
                "other_attributes": [json.dumps({"neck": "round"}) for _ in range(n)],
            }
            write_parquet(folder / subset / f"{split}-00000-of-00001.parquet", columns)
    columns = {"image": [png(9)] * 4, "category": ["shoe"] * 4, "main_attribute": [""] * 4}
    write_parquet(folder / "noise" / "gallery-00000-of-00001.parquet", columns)
    return folder


def test_each_subset_of_lookbench_is_a_task_over_its_gallery_and_the_noise(tmp_path):
    loaded = load("lookbench", write_lookbench(tmp_path))
    assert [task.name for task in loaded.tasks] == [
        "lookbench/real-studio-flat",
        "lookbench/aigen-streetlook",
    ]
    task = loaded.tasks[0]
    assert (len(task.queries), len(task.documents), loaded.warnings) == (3, 10, ())
    assert task.queries[0].category == "dress"
    assert task.queries[0].attributes == {"red", "long", "neck: round"}
    assert task.documents[-1].attributes == frozenset()
    ids = [g.image.image_id for g in (*task.queries, *task.documents)]
    assert len(set(ids)) == 13
    assert "not verified" in task.notes[0]


def test_lookbench_can_be_laid_out_as_tables(tmp_path):
    folder = tmp_path / "real_streetlook"
    folder.mkdir()
    for split in ("query", "gallery"):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "image", "category", "attributes"])
            for i in range(3):
                name = f"{split}{i}.png"
                (folder / name).write_bytes(png(i)["bytes"])
                writer.writerow([i, name, "dress" if i else "", "red;long"])
    (folder / "gallery2.png").unlink()
    loaded = load("lookbench", tmp_path)
    (task,) = loaded.tasks
    assert [g.image.image_id for g in task.queries] == [
        "real_streetlook/query/1",
        "real_streetlook/query/2",
    ]
    assert len(task.documents) == 1
    assert loaded.warnings == (
        "1 pictures of real_streetlook/query left out: no category",
        "1 picture left out: no such file (real_streetlook/gallery/2)",
        "1 pictures of real_streetlook/gallery left out: no category",
    )


def test_lookbench_without_a_gallery_or_a_category_has_a_warning(tmp_path):
    folder = write_lookbench(tmp_path / "a")
    (folder / "real_studio_flat" / "gallery-00000-of-00001.parquet").unlink()
    loaded = load("lookbench", folder)
    assert len(loaded.tasks) == 1
    assert loaded.warnings == ("real_studio_flat is not measured: query or gallery is missing",)
    with pytest.raises(BenchmarkError, match="has no subset with queries"):
        load("lookbench", tmp_path / "nothing")
    other = tmp_path / "b" / "aigen_studio"
    write_parquet(other / "query-0.parquet", {"image": [png(1)], "kind": ["a"]})
    write_parquet(other / "gallery-0.parquet", {"image": [png(1)], "kind": ["a"]})
    with pytest.raises(BenchmarkError, match="needs columns image and category, and has"):
        load("lookbench", tmp_path / "b")
