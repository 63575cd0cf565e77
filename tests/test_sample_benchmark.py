"""The sample benchmark: its labels are known because its images are generated."""

import pytest

from encoded_images import image_bytes
from fashionclip.evaluate.benchmarks import find_benchmark, find_folder, sample
from fashionclip.evaluate.benchmarks.base import label_words
from fashionclip.sample import CATEGORIES, COLOURS, generate_image, sample_products


@pytest.fixture(scope="module")
def tasks():
    benchmark = find_benchmark("sample")
    assert (sample.N_PRODUCTS, sample.N_DEVELOPMENT) == (400, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "N_PRODUCTS", 150)  # fewer images, to save time
        patch.setattr(sample, "N_DEVELOPMENT", 20)
        loaded = benchmark.load(find_folder(benchmark, None))
    assert loaded.warnings == ()
    return {task.name: task for task in loaded.tasks}


def test_there_is_a_task_for_every_visible_attribute(tasks):
    assert list(tasks) == [
        *("sample/category", "sample/colour", "sample/pattern", "sample/sleeve"),
        *("sample/neckline", "sample/wrong-colour", "sample/wrong-pattern"),
        *("sample/wrong-sleeve", "sample/wrong-neckline", "sample/search"),
        "sample/short-queries",
    ]


def test_the_labels_are_the_attributes_of_the_products(tasks):
    products = {p.product_id: p.attributes for p in sample_products(150)}
    for facet in ("category", "colour", "pattern", "sleeve", "neckline"):
        task = tasks[f"sample/{facet}"]
        for image, label in zip(task.images, task.labels.tolist(), strict=True):
            value = getattr(products[image.image_id], facet)
            assert task.classes[label].name == value
    assert {c.name for c in tasks["sample/category"].classes} == set(CATEGORIES)
    assert {c.name for c in tasks["sample/colour"].classes} == set(COLOURS)
    assert len(tasks["sample/category"].images) == 150
    assert "have no sleeve" in tasks["sample/sleeve"].notes[0]


def test_development_images_are_other_images(tasks):
    task = tasks["sample/category"]
    test = {image.source for image in task.images}
    assert len(task.development_images) == 20
    assert not test & {image.source for image in task.development_images}
    assert "other drawings" in task.development


def test_images_are_the_shipped_catalogues(tasks):
    product = sample_products(150)[17]
    expected = image_bytes(generate_image(product.attributes, seed=product.seed))
    image = tasks["sample/category"].images[17]
    assert (image.image_id, image.source) == (product.product_id, expected)


def test_captions_keep_the_garment_and_change_the_attribute(tasks):
    task = tasks["sample/wrong-sleeve"]
    assert set(task.values) == {"short-sleeved", "long-sleeved"}  # few are sleeveless
    for right, wrong, value in zip(task.right, task.wrong, task.values, strict=True):
        assert right.startswith(f"a {value} ")
        assert right not in wrong
        assert {caption.rpartition(" ")[2] for caption in wrong} == {right.rpartition(" ")[2]}


def test_a_query_asks_for_the_products_of_its_colour_pattern_and_category(tasks):
    task = tasks["sample/search"]
    attributes = {p.product_id: p.attributes for p in sample_products(150)}
    assert not any(" solid " in query for query in task.queries)
    for query, rows in zip(task.queries, task.relevant, strict=True):
        some = [attributes[task.documents[row].image_id] for row in rows]
        assert all(query.startswith(f"{a.colour} {a.pattern} ") for a in some)
        assert len({(a.colour, a.pattern, a.category) for a in some}) == 1


def test_a_short_query_is_true_of_all_its_products_and_of_no_other(tasks):
    task = tasks["sample/short-queries"]
    names = label_words("sample")["category"]
    said = [
        {f"{value} {names.get(a.category, [a.category])[0]}" for value in (a.colour, a.pattern)}
        for a in (product.attributes for product in sample_products(150))
    ]
    for query, rows in zip(task.queries, task.relevant, strict=True):
        assert rows.tolist() == [i for i, some in enumerate(said) if query in some]
        assert len(rows) >= 2
