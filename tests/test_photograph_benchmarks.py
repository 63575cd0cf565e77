"""DeepFashion and the benchmarks of clothing and street photographs, in their original layouts."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks import find_benchmark, photographs
from fashionclip.metrics import percentile

CATEGORIES = ("Anorak", "Blazer", "Tee", "Cape")


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 4), (7, 7, 7)).save(path)


def write_deepfashion(folder: Path, *, anno="Anno_coarse", evaluation="Eval") -> Path:
    images = [f"img/Some_Thing_{i % 3}/img_{i:08d}.jpg" for i in range(60)]
    splits = [("train", "val", "test")[i % 3] for i in range(60)]

    def write_list(path, header, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [str(len(rows)), header, *(f"{a}   {b}" for a, b in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    for image in images:
        draw(folder / image)
    kinds = [(name, i % 2 + 1) for i, name in enumerate(CATEGORIES)]
    write_list(folder / anno / "list_category_cloth.txt", "category_name  category_type", kinds)
    labels = [(image, i // 3 % 3 + 1) for i, image in enumerate(images)]
    write_list(folder / anno / "list_category_img.txt", "image_name  category_label", labels)
    status = list(zip(images, splits, strict=True))
    name = "list_eval_partition.txt"
    write_list(folder / evaluation / name, "image_name  evaluation_status", status)
    return folder


def load(name, folder):
    return find_benchmark(name).load(folder)


@pytest.mark.parametrize(
    ("anno", "evaluation"), [("Anno_coarse", "Eval"), ("Anno", "Eval"), ("Anno", "Anno")]
)
def test_deepfashions_test_partition_is_measured(anno, evaluation, tmp_path):
    loaded = load("deep", write_deepfashion(tmp_path, anno=anno, evaluation=evaluation))
    (task,) = loaded.tasks
    assert (task.name, loaded.warnings) == ("deep/category", ())
    assert [c.name for c in task.classes] == list(CATEGORIES)
    assert [c.words for c in task.classes] == ["anorak", "blazer", "t-shirt", "cape"]
    numbers = [int(p.image_id[-12:-4]) for p in task.images]
    assert numbers == [i for i in range(60) if i % 3 == 2]
    assert task.labels.tolist() == [i // 3 % 3 for i in numbers]
    assert {int(p.image_id[-12:-4]) % 3 for p in task.development_images} == {1}
    assert task.notes[1] == "4 categories, of which 3 have test pictures."


def test_a_seeded_part_of_the_test_partition_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "N_TEST", 7)
    folder = write_deepfashion(tmp_path)
    samples = [[p.image_id for p in load("deep", folder).tasks[0].images] for _ in range(2)]
    assert samples[0] == samples[1]
    assert len(samples[0]) == 7


def test_a_half_unpacked_folder_has_a_warning_with_number_and_names(tmp_path):
    folder = write_deepfashion(tmp_path)
    for i in (2, 5, 8, 11):
        (folder / f"img/Some_Thing_{i % 3}/img_{i:08d}.jpg").unlink()
    loaded = load("deep", folder)
    assert len(loaded.tasks[0].images) == 16
    assert loaded.warnings == (
        "4 pictures left out: no such file (img/Some_Thing_2/img_00000002.jpg, "
        "img/Some_Thing_2/img_00000005.jpg, img/Some_Thing_2/img_00000008.jpg, …)",
    )
    for path in folder.glob("img/*/*.jpg"):
        path.unlink()
    with pytest.raises(BenchmarkError, match=r"none of the test pictures is there; ask its owners"):
        load("deep", folder)


def test_damaged_lists_of_deepfashion_are_errors(tmp_path):
    folder = write_deepfashion(tmp_path)
    path = folder / "Anno_coarse" / "list_category_img.txt"
    path.write_text(path.read_text("utf-8")[:-200], encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"promises 60 rows and has 5\d; fetch it again"):
        load("deep", folder)
    path.unlink()
    with pytest.raises(BenchmarkError, match=r"has no list_category_img\.txt; ask its owners"):
        load("deep", folder)


def write_clothing(folder: Path, *, original=False) -> Path:
    labels = ["T-Shirt"] * 6 + ["Outwear"] * 4 + ["Skip"]
    rows = []
    for sender in range(1, 41):
        label = labels[sender % len(labels)]
        name = f"{sender:03d}-abc"
        draw(folder / "images" / f"{name}.jpg")
        rows.append((name if original else f"images/{name}.jpg", label, "False", sender))
    table = folder / ("images.csv" if original else "labels.csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label", "kids", "sender_id"), *rows])
    return folder


@pytest.mark.parametrize("original", [False, True])
def test_clothing_is_split_by_sender(original, tmp_path):
    loaded = load("clothing", write_clothing(tmp_path, original=original))
    everyone, unseen = loaded.tasks
    assert [task.name for task in loaded.tasks] == ["clothing/label", "clothing/held-out-senders"]

    def senders(images):
        return {percentile(f"s{int(Path(p.image_id).name[:3])}") for p in images}

    assert max(senders(everyone.images)) < 80 <= min(senders(everyone.development_images))
    assert max(senders(unseen.images)) < 10
    assert [c.words for c in everyone.classes] == ["t-shirt", "jacket"]
    assert everyone.notes[0].startswith("The 2 commonest of 2 labels: ")
    assert all(image.source.is_file() for image in everyone.images)
    assert np.bincount(everyone.labels).min() > 0


def test_clothing_keeps_the_ten_commonest_labels(tmp_path):
    rows = [(f"images/{i}.jpg", f"Kind {i % 12 if i < 48 else i % 10}", i) for i in range(120)]
    for name, _, _ in rows:
        draw(tmp_path / name)
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label", "sender_id"), *rows])
    task = load("clothing", tmp_path).tasks[0]
    assert {c.name for c in task.classes} == {f"Kind {i}" for i in range(10)}
    assert task.notes[0] == "The 10 commonest of 12 labels: 112 photographs."


def test_clothing_that_is_half_unpacked_or_another_table(tmp_path):
    folder = write_clothing(tmp_path / "a")
    (folder / "images" / "001-abc.jpg").unlink()
    assert load("clothing", folder).warnings == (
        "1 picture left out: no such file (images/001-abc.jpg)",
    )
    with pytest.raises(BenchmarkError, match=r"neither labels\.csv nor images\.csv; clone"):
        load("clothing", tmp_path)
    (tmp_path / "labels.csv").write_text("name,kind\n1,2\n", encoding="utf-8")
    with pytest.raises(BenchmarkError, match="needs rows with image, label and sender_id"):
        load("clothing", tmp_path)


# people in a street


def write_street(folder: Path, tags: list[str]) -> Path:
    for i in range(len(tags)):
        draw(folder / "photos" / f"{i}.jpg")
    rows = [f"photos/{i}.jpg,{some}\n" for i, some in enumerate(tags)]
    (folder / "photos.csv").write_text("image,garments\n" + "".join(rows), encoding="utf-8")
    return folder


def test_a_garment_on_enough_photographs_but_not_all_is_a_query(tmp_path):
    tags = ["skin|bag" if i % 2 else "skin|coat" for i in range(24)]
    tags[0] = "skin|coat|rare"
    folder = write_street(tmp_path, tags)
    (folder / "photos" / "3.jpg").unlink()
    loaded = load("street", folder)
    (task,) = loaded.tasks
    assert task.queries == ("bag", "coat")
    assert [len(rows) for rows in task.relevant] == [11, 12]
    assert {task.documents[row].image_id for row in task.relevant[0]} == {
        f"photos/{i}.jpg" for i in range(1, 24, 2) if i != 3
    }
    assert task.figures[0] == "map@23"
    assert loaded.warnings == ("1 picture left out: no such file (photos/3.jpg)",)


def test_a_street_without_its_table_or_enough_tags_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match=r"street: .*photos\.csv is missing"):
        load("street", tmp_path)
    write_street(tmp_path, ["bag", "coat"])
    with pytest.raises(BenchmarkError, match="no garment on 10 or more of its pictures"):
        load("street", tmp_path)
