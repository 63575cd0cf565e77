"""A table of labels or of queries is a benchmark."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
from fashionclip.evaluate.tasks import Retrieval, ZeroShot
from fashionclip.metrics import percentile


def draw(folder: Path, n: int) -> list[str]:
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    names = [f"photos/{i:02d}.png" for i in range(n)]
    for name in names:
        Image.new("RGB", (3, 3), (9, 9, len(name))).save(folder / name)
    return names


def write(path: Path, columns, rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([columns, *rows])
    return path


def load(path):
    benchmark = find_benchmark(str(path))
    return benchmark.load(find_folder(benchmark, None))


def labelled(names):
    return [(name, ("T-shirt", "long_dress", "Coat")[i % 3]) for i, name in enumerate(names)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_images_and_labels_make_a_classification_in_every_format(suffix, tmp_path):
    rows = labelled(draw(tmp_path, 30))
    path = tmp_path / f"mine{suffix}"
    if suffix == ".jsonl":
        lines = [json.dumps({"image": image, "label": label}) for image, label in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif suffix == ".parquet":
        columns = {"image": [image for image, _ in rows], "label": [label for _, label in rows]}
        pq.write_table(pa.table(columns), path)
    else:
        write(path, ("image", "label"), rows)
    loaded = load(path)
    (task,) = loaded.tasks
    assert isinstance(task, ZeroShot)
    assert (task.name, loaded.warnings) == (path.name, ())
    assert [c.name for c in task.classes] == ["Coat", "T-shirt", "long_dress"]
    assert [c.words for c in task.classes] == ["coat", "t-shirt", "long dress"]
    label_of = dict(rows)
    for image, label in zip(task.images, task.labels.tolist(), strict=True):
        assert task.classes[label].name == label_of[image.image_id]
        assert image.source == tmp_path / image.image_id
    assert len(task.images) + len(task.development_images) == 30


def test_a_fifth_of_the_names_is_for_development_wherever_the_images_lie(tmp_path):
    task = load(write(tmp_path / "a.csv", ("image", "label"), labelled(draw(tmp_path, 60)))).tasks[
        0
    ]
    names = {Path(p.image_id).name for p in task.development_images}
    assert names == {f"{i:02d}.png" for i in range(60) if percentile(f"{i:02d}.png") >= 80}
    assert 5 < len(names) < 20
    assert "fifth of the pictures" in task.development


def test_a_column_names_the_development_rows(tmp_path):
    rows = [
        (*row, "Test" if i < 4 else "development")
        for i, row in enumerate(labelled(draw(tmp_path, 6)))
    ]
    task = load(write(tmp_path / "a.csv", ("Image", "Label", "Split"), rows)).tasks[0]
    assert [p.image_id for p in task.images] == [f"photos/{i:02d}.png" for i in range(4)]
    assert len(task.development_labels) == 2
    assert task.development == "the rows whose split is development"


def test_rows_that_cannot_be_used_are_counted_and_named(tmp_path):
    rows = [(*row, "test") for row in labelled(draw(tmp_path, 8))]
    rows += [
        ("photos/gone.png", "Coat", "test"),
        ("photos/also-gone.png", "Coat", "test"),
        ("", "Coat", "test"),
        ("photos/00.png", "Coat", "test"),
    ]
    rows[3] = ("photos/03.png", "", "test")
    rows[4] = ("photos/04.png", "Coat", "later")
    loaded = load(write(tmp_path / "a.csv", ("image", "label", "split"), rows))
    assert loaded.warnings == (
        "2 rows left out: the picture's file is missing (row 9, row 10)",
        "1 row left out: the image is empty (row 11)",
        "1 row left out: the label is empty (row 4)",
        "1 row left out: the split is neither test nor development (row 5)",
        "1 row left out: the picture is in an earlier row (row 12)",
    )
    assert len(loaded.tasks[0].images) == 6


def test_queries_and_their_relevant_images_make_a_search(tmp_path):
    a, b, c, d = draw(tmp_path, 4)
    rows = [
        ("red, long dress", a, 1),
        ("red, long dress", b, 0),
        ("blue coat", b, "true"),
        ("blue coat", a, "no"),
        ("blue coat", c, "yes"),
        ("nothing like it", c, 0),
        ("", d, ""),
    ]
    loaded = load(write(tmp_path / "q.csv", ("query", "image", "relevant"), rows))
    (task,) = loaded.tasks
    assert isinstance(task, Retrieval)
    assert task.queries == ("red, long dress", "blue coat")
    assert [document.image_id for document in task.documents] == [a, b, c, d]
    assert [rows.tolist() for rows in task.relevant] == [[0], [1, 2]]
    assert loaded.warnings == ("1 query left out: no relevant picture ('nothing like it')",)


def test_without_marks_every_named_image_is_relevant(tmp_path):
    a, b = draw(tmp_path, 2)
    task = load(
        write(tmp_path / "q.csv", ("query", "image"), [("x", a), ("y", b), ("x", b)])
    ).tasks[0]
    assert [rows.tolist() for rows in task.relevant] == [[0, 1], [1]]


def test_images_inside_a_parquet_file_are_used(tmp_path):
    names = draw(tmp_path, 12)
    cells = [{"bytes": (tmp_path / name).read_bytes(), "path": None} for name in names]
    labels = ["a" if i % 2 else "b" for i in range(12)]
    pq.write_table(pa.table({"image": cells, "label": labels}), tmp_path / "x.parquet")
    task = load(tmp_path / "x.parquet").tasks[0]
    assert all(isinstance(image.source, bytes) for image in task.images)
    assert task.images[0].image_id.startswith("row ")


def test_tables_that_cannot_be_a_benchmark_say_why(tmp_path):
    a, b = draw(tmp_path, 2)
    write(tmp_path / "other.csv", ("picture", "kind"), [(a, "x")])
    write(tmp_path / "one.csv", ("image", "label"), [(a, "x"), (b, "x")])
    write(tmp_path / "gone.csv", ("image", "label"), [("1.png", "x"), ("2.png", "y")])
    write(tmp_path / "no.csv", ("query", "image", "relevant"), [("x", a, 0), ("y", b, "perhaps")])
    write(tmp_path / "dev.csv", ("image", "label", "split"), [(a, "x", "dev"), (b, "y", "dev")])
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    reasons = {
        "other.csv": "has the columns picture, kind; write a table with the columns image,label",
        "one.csv": "needs pictures of two labels or more, and has 1",
        "gone.csv": r"has 0 \(2 rows left out: the picture's file is missing \(row 1, row 2\)\)",
        "no.csv": "no query has a relevant picture.*'perhaps', neither 1 nor 0",
        "dev.csv": "has no test picture",
        "empty.csv": "empty.csv",
    }
    for name, reason in reasons.items():
        with pytest.raises(BenchmarkError, match=reason) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_views_and_colourways_of_a_relevant_product_are_relevant_too(tmp_path):
    names = draw(tmp_path, 5)
    products = ("dress", "dress", "", "shirt", "shirt")
    marks = ((0, 1), (1, 0), (2, 0), (3, 0), (4, 0))
    rows = [("red dress", names[i], products[i], mark) for i, mark in marks]
    rows += [("anything", names[2], "", 1), ("shirt", names[4], "shirt", 1)]
    path = write(tmp_path / "mine.csv", ("query", "image", "product", "relevant"), rows)
    (task,) = load(path).tasks
    assert dict(zip(task.queries, map(list, task.relevant), strict=True)) == {
        "red dress": [0, 1],
        "anything": [2],
        "shirt": [3, 4],
    }
    assert any("All pictures of a product are relevant" in note for note in task.notes)


CLASSES = """# the shop's own
T-shirt | tee | short-sleeved top
long_dress
Coat | overcoat  # for winter

Anorak
"""


def test_a_list_of_classes_gives_their_order_and_words_and_refuses_other_labels(tmp_path):
    rows = [(*row, "test") for row in labelled(draw(tmp_path, 9))]
    rows[1], rows[4] = ("photos/01.png", "Coats", "test"), ("photos/04.png", "Hat", "test")
    (tmp_path / "mine.classes.txt").write_text(CLASSES, encoding="utf-8")
    loaded = load(write(tmp_path / "mine.csv", ("image", "label", "split"), rows))
    (task,) = loaded.tasks
    assert [c.name for c in task.classes] == ["T-shirt", "long_dress", "Coat", "Anorak"]
    assert [c.words for c in task.classes] == ["t-shirt", "long dress", "coat", "anorak"]
    assert [c.synonyms for c in task.classes] == [
        *(("tee", "short-sleeved top"), (), ("overcoat",), ())
    ]
    assert loaded.warnings == (
        "1 row left out: the label 'Coats' is not in the list of classes (did you mean 'Coat'?) "
        "(row 2)",
        "1 row left out: the label 'Hat' is not in the list of classes (row 5)",
    )
    names = {
        image.image_id: task.classes[label].name
        for image, label in zip(task.images, task.labels.tolist(), strict=True)
    }
    assert names == {image: label for i, (image, label, _) in enumerate(rows) if i not in {1, 4}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"Coat\nCoat | parka\n", "line 2: 'Coat' is there twice; delete the line"),
        (b"Coat\n| parka\n", "line 2: a class has no name"),
        (b"Coat\n\xff\xfe\n", "cannot be read .* save it as UTF-8 text"),
        (b"Hat\nCap\n", "needs pictures of two labels or more, and has 0 .*'Coat' is not in"),
    ],
)
def test_a_list_of_classes_that_cannot_be_used_says_why(text, why, tmp_path):
    (tmp_path / "mine.classes.txt").write_bytes(text)
    path = write(tmp_path / "mine.csv", ("image", "label"), labelled(draw(tmp_path, 3)))
    with pytest.raises(BenchmarkError, match=why) as caught:
        load(path)
    assert "\n" not in str(caught.value)
