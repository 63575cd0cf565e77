"""The benchmark KAGL on generated copies of Kaggle's data set, complete and incomplete."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks import find_benchmark
from fashionclip.evaluate.benchmarks.kagl import words_of
from fashionclip.metrics import percentile

COLUMNS = (
    *("id", "gender", "masterCategory", "subCategory", "articleType", "baseColour", "season"),
    *("year", "usage", "productDisplayName", "brandName", "articleAttributes"),
)
BRANDS = ("Catwalk", "Puma", "Nike", "Fila")
"""Percentiles below 8, between, and 80 or more; Fila between 8 and 20."""
TYPES = {
    "Tshirts": ("Apparel", "Topwear"),
    "Shirts": ("Apparel", "Topwear"),
    "Casual Shoes": ("Footwear", "Shoes"),
}
COLOURS = ("Red", "Blue", "Navy Blue")


def rows_of(n=120):
    for i in range(n):
        article = list(TYPES)[i % 3]
        colour, brand = COLOURS[i // 3 % 3], BRANDS[i % 4]
        attributes = {}
        if article != "Casual Shoes":
            attributes = {
                "Sleeve Length": "Short Sleeves" if i % 2 else "Long Sleeves",
                "Neck": "Round Neck" if article == "Tshirts" else "V-Neck",
                "Pattern": ("Solid", "Striped")[i % 5 == 0],
            }
        master, sub = TYPES[article]
        yield dict(
            zip(
                COLUMNS,
                (
                    *(1000 + i, ("Men", "Women")[i % 2], master, sub, article, colour),
                    *(("Summer", "Fall")[i % 2], 2012, ("Casual", "Sports")[i % 4 == 0]),
                    f"{brand} Men {colour} {article} {i // 2}",
                    *(brand, json.dumps(attributes)),
                ),
                strict=True,
            )
        )


def jpeg(i):
    return image_bytes(Image.new("RGB", (4, 6), (i % 256, 40, 90)))


def write_kaggle(folder: Path, rows=None, *, columns=COLUMNS) -> Path:
    rows = list(rows_of() if rows is None else rows)
    (folder / "images").mkdir(parents=True)
    with (folder / "styles.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for i, row in enumerate(rows):
        (folder / "images" / f"{row['id']}.jpg").write_bytes(jpeg(i))
    return folder


def load(folder):
    return find_benchmark("kagl").load(folder)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load(write_kaggle(tmp_path_factory.mktemp("kagl") / "kagl"))


@pytest.fixture(scope="module")
def tasks(loaded):
    return {task.name: task for task in loaded.tasks}


def brand_of(image):
    return image.caption.split()[0].lower()


def test_every_task_that_the_table_allows_is_made(loaded, tasks):
    assert list(tasks) == [
        *("kagl/article-type", "kagl/sub-category", "kagl/master-category", "kagl/colour"),
        *("kagl/gender", "kagl/season", "kagl/usage"),
        *("kagl/caption-to-picture", "kagl/held-out-brands", "kagl/held-out-category"),
        *("kagl/marqo-text-to-image", "kagl/marqo-category-to-product"),
        *("kagl/marqo-sub-category-to-product", "kagl/marqo-fine-category", "kagl/marqo-colour"),
        *("kagl/probe", "kagl/similar", "kagl/wrong-colour", "kagl/pattern", "kagl/wrong-pattern"),
        *("kagl/sleeve", "kagl/wrong-sleeve", "kagl/neckline"),
    ]
    assert loaded.warnings == (
        "not measured, because the table knows too little: kagl/held-out-colour-queries, "
        "kagl/held-out-pattern-queries, kagl/held-out-sleeve-queries, kagl/wrong-neckline, "
        "kagl/material, kagl/wrong-material",
    )
    assert all("licence" in task.notes[-1] for task in loaded.tasks)


def test_short_queries_search_the_held_out_brands_alone(tmp_path):
    tasks = {t.name: t for t in load(write_kaggle(tmp_path / "kagl", rows_of(480))).tasks}
    task = tasks["kagl/held-out-colour-queries"]
    assert {brand_of(document) for document in task.documents} == {"catwalk"}
    assert len(task.documents) == 120
    assert "red t-shirt" in task.queries
    for query, rows in zip(task.queries, task.relevant, strict=True):
        assert len(rows) > 10
        colour, kind = query.rsplit(" ", 2 if query.endswith("casual shoes") else 1)[0], query
        titles = [task.documents[row].caption.casefold() for row in rows]
        assert all(colour in title for title in titles), kind
    assert "short-sleeved t-shirt" not in task.queries
    assert all("-sleeved " in query for query in tasks["kagl/held-out-sleeve-queries"].queries)


def test_brands_for_development_are_never_among_the_test_images(tasks):
    task = tasks["kagl/article-type"]
    test = {brand_of(image) for image in task.images}
    development = {brand_of(image) for image in task.development_images}
    assert test == {"catwalk", "puma", "fila"}
    assert development == {"nike"}
    assert {percentile(brand) >= 80 for brand in development} == {True}
    assert "brands" in task.development


def test_labels_name_the_class_that_the_table_gives(tasks):
    for name, column in (("article-type", "articleType"), ("colour", "baseColour")):
        task, rows = tasks[f"kagl/{name}"], {str(row["id"]): row for row in rows_of()}
        for image, label in zip(task.images, task.labels.tolist(), strict=True):
            assert task.classes[label].name == rows[image.image_id][column]
    assert [c.words for c in tasks["kagl/gender"].classes] == [
        "clothes for men",
        "clothes for women",
    ]


def test_rare_article_types_are_cut_and_the_note_counts_them(tmp_path):
    rows = [*rows_of(), *({**row, "id": 5000 + i} for i, row in enumerate(rows_of(9)))]
    for row in rows[120:]:
        row["articleType"] = "Hat"
    task = load(write_kaggle(tmp_path / "kagl", rows)).tasks[0]
    assert {c.name for c in task.classes} == set(TYPES)
    assert task.notes[0] == (
        "The 3 article types with at least 10 of the 129 products (a smaller copy); 1 rarer types "
        "left out; 9 products left out."
    )


def test_the_whole_listing_has_its_own_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("fashionclip.evaluate.benchmarks.kagl.FULL_LISTING", 200)
    folder = write_kaggle(tmp_path / "kagl", rows_of(209))
    task = load(folder).tasks[0]
    assert "the cut of the whole listing" in task.notes[0]
    assert [c.name for c in task.classes] == ["Shirts", "Tshirts"]


def test_products_with_the_same_title_answer_the_same_query(tmp_path):
    rows = list(rows_of(40))
    rows[3]["productDisplayName"] = "Puma Men's Shirt"
    rows[17]["productDisplayName"] = "PUMA  men s shirt!"
    task = {t.name: t for t in load(write_kaggle(tmp_path / "k", rows)).tasks}[
        "kagl/caption-to-picture"
    ]
    row = task.queries.index("Puma Men's Shirt")
    assert task.relevant[row].tolist() == [3, 17]
    assert len(task.queries) == 39
    assert set(np.concatenate(task.relevant).tolist()) == set(range(40))
    assert task.figures == ("mrr@5", "hit@5", "recall@10")


def test_held_out_brands_are_those_that_the_builtin_model_never_saw(tasks):
    task = tasks["kagl/held-out-brands"]
    assert {brand_of(document) for document in task.documents} == {"catwalk"}
    assert percentile("catwalk") < 8


def test_the_held_out_category_is_tops_for_sports(tasks):
    task = tasks["kagl/held-out-category"]
    rows = {str(row["id"]): row for row in rows_of()}
    found = [rows[document.image_id] for document in task.documents]
    assert {(row["subCategory"], row["usage"]) for row in found} == {("Topwear", "Sports")}


def test_marqos_documents_are_nine_parts_image_and_one_part_title(tasks):
    task = tasks["kagl/marqo-sub-category-to-product"]
    assert (task.image_weight, set(task.queries)) == (0.9, {"Topwear", "Shoes"})
    assert all(document.caption for document in task.documents)
    rows = {str(row["id"]): row for row in rows_of()}
    for query, relevant in zip(task.queries, task.relevant, strict=True):
        of_query = [d for d in task.documents if rows[d.image_id]["subCategory"] == query]
        assert [task.documents[i] for i in relevant] == of_query
    assert tasks["kagl/marqo-text-to-image"].image_weight == 1.0


def test_the_probe_learns_from_other_brands_than_it_is_tested_on(tasks):
    task = tasks["kagl/probe"]
    assert {brand_of(p) for p in task.images} == {"catwalk", "fila"}
    assert {brand_of(p) for p in task.training_images} == {"puma", "nike"}
    assert {c.name for c in task.classes} == set(TYPES)
    assert np.bincount(task.training_labels).min() >= 16


def test_garments_carry_their_type_and_what_is_known_of_them(tasks):
    garment = tasks["kagl/similar"].documents[1]
    assert garment.category == "Shirts"
    assert garment.attributes == {
        "colour: red",
        "sleeve: short-sleeved",
        "neckline: v-necked",
        "pattern: plain",
    }


def test_attributes_are_labels_too(tasks):
    task, rows = tasks["kagl/sleeve"], {str(row["id"]): row for row in rows_of()}
    assert [c.words for c in task.classes] == ["long-sleeved garment", "short-sleeved garment"]
    assert [c.synonyms for c in task.classes] == [
        *(("long-sleeved clothes",), ("short-sleeved clothes",))
    ]
    for image, label in zip(task.images, task.labels.tolist(), strict=True):
        sleeve_length = json.loads(rows[image.image_id]["articleAttributes"])["Sleeve Length"]
        assert sleeve_length.startswith(("Long", "Short")[label])
    assert {brand_of(image) for image in task.development_images} == {"nike"}
    assert len(task.images) + len(task.development_images) == 80
    assert "2 words for the sleeve, each of at least 10 products; 0 of 80" in task.notes[0]


def test_wrong_captions_differ_in_one_word_that_others_of_the_type_have(tasks):
    task = tasks["kagl/wrong-sleeve"]
    assert task.right[1] == "a short-sleeved shirt"
    assert task.wrong[1] == ("a long-sleeved shirt",)
    assert len(task.images) == 80
    colour = tasks["kagl/wrong-colour"]
    wrong_of = dict(zip(colour.right, colour.wrong, strict=True))
    assert wrong_of["red casual shoes"] == ("blue casual shoes", "navy blue casual shoes")
    assert wrong_of["a navy blue shirt"] == ("a red shirt",)
    assert (
        "kagl/wrong-neckline" not in tasks
    )  # each type has one neckline, so there is no wrong one


def test_bad_rows_and_missing_images_are_counted_and_named(tmp_path):
    rows = list(rows_of(60))
    rows[5]["id"] = rows[4]["id"]
    folder = write_kaggle(tmp_path / "kagl", rows)
    for i in (10, 11, 12, 13):
        (folder / "images" / f"{1000 + i}.jpg").unlink()
    loaded = load(folder)
    duplicate, missing, _ = loaded.warnings
    assert "1 row left out" in duplicate
    assert "duplicate of row 5" in duplicate
    assert missing.startswith("4 products left out: their pictures are missing")
    assert "(1010, 1011, 1012, …)" in missing
    task = next(t for t in loaded.tasks if t.name == "kagl/caption-to-picture")
    assert len(task.documents) == 55


def test_a_folder_without_images_or_with_another_table_is_an_error(tmp_path):
    folder = write_kaggle(tmp_path / "kagl", rows_of(8))
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(BenchmarkError, match="none of the pictures of its 8 products is there"):
        load(folder)
    other = write_kaggle(tmp_path / "other", rows_of(8), columns=("id", "productDisplayName"))
    with pytest.raises(BenchmarkError, match="no column articleType"):
        load(other)
    with pytest.raises(BenchmarkError, match="no column articleType"):
        load(tmp_path)  # a folder of pictures is a catalogue, but not Kaggle's


def test_kaggles_own_copy_has_no_brands_and_they_are_read_off_the_titles(tmp_path):
    columns = [c for c in COLUMNS if c not in {"brandName", "articleAttributes"}]
    folder = write_kaggle(tmp_path / "kagl", columns=columns)
    tasks = {task.name: task for task in load(folder).tasks}
    assert {brand_of(p) for p in tasks["kagl/article-type"].development_images} == {"nike"}
    assert {brand_of(p) for p in tasks["kagl/held-out-brands"].documents} == {"catwalk"}
    assert "no column of brands" in tasks["kagl/article-type"].notes[-1]
    assert "kagl/wrong-sleeve" not in tasks
    assert "kagl/wrong-colour" in tasks


def test_marqos_copy_gives_the_same_tasks(tmp_path):
    folder = tmp_path / "KAGL"
    (folder / "data").mkdir(parents=True)
    rows = list(rows_of(60))
    for part in range(2):
        some = rows[part * 30 : part * 30 + 30]
        table = {
            "item_ID": [str(row["id"]) for row in some],
            "text": [row["productDisplayName"] for row in some],
            "category1": [row["masterCategory"] for row in some],
            "category2": [row["subCategory"] for row in some],
            "category3": [row["articleType"] for row in some],
            "baseColour": [row["baseColour"] for row in some],
            "season": [row["season"] for row in some],
            "usage": [row["usage"] for row in some],
            "image": [{"bytes": jpeg(i), "path": None} for i in range(30)],
        }
        pq.write_table(pa.table(table), folder / "data" / f"data-0000{part}-of-00002.parquet")
    tasks = {task.name: task for task in load(folder).tasks}
    assert "kagl/gender" not in tasks
    assert [d.image.image_id for d in tasks["kagl/similar"].documents] == [
        str(1000 + i) for i in range(60)
    ]
    assert tasks["kagl/similar"].documents[33].image.source.read_bytes() == jpeg(3)
    again = load(folder)
    assert again.tasks[0].images[0].source == tasks["kagl/article-type"].images[0].source


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("Tshirts", "t-shirt"),
        ("Watches", "watch"),
        ("Dresses", "dress"),
        ("Ties", "tie"),
        ("Accessories", "accessory"),
        ("Jeans", "jeans"),
        ("Sports Shoes", "sports shoes"),
        ("Leggings", "leggings"),
        ("Umbrellas", "umbrella"),
        ("Lip Gloss", "lip gloss"),
    ],
)
def test_labels_have_everyday_words(label, words):
    assert words_of("articleType", [label])[label][0] == words
