"""The sample benchmark: everything is known because it is drawn."""

import io

import pytest

from fashionclip.evaluate.benchmarks import drawn, find_benchmark, find_folder
from fashionclip.sample import CATEGORIES, COLOURS, generate_image, sample_products


@pytest.fixture(scope="module")
def tasks():
    benchmark = find_benchmark("sample")
    assert (drawn.N_PRODUCTS, drawn.N_DEVELOPMENT) == (400, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "N_PRODUCTS", 150)  # drawing takes time
        patch.setattr(drawn, "N_DEVELOPMENT", 20)
        loaded = benchmark.load(find_folder(benchmark, None))
    assert loaded.warnings == ()
    return {task.name: task for task in loaded.tasks}


def test_it_asks_what_can_be_seen(tasks):
    assert list(tasks) == [
        *("sample/category", "sample/colour", "sample/pattern", "sample/sleeve"),
        *("sample/neckline", "sample/wrong-colour", "sample/wrong-pattern"),
        *("sample/wrong-sleeve", "sample/wrong-neckline"),
    ]


def test_the_labels_are_the_attributes_of_the_products(tasks):
    products = {p.product_id: p.attributes for p in sample_products(150)}
    for facet in ("category", "colour", "pattern", "sleeve", "neckline"):
        task = tasks[f"sample/{facet}"]
        for picture, label in zip(task.pictures, task.labels.tolist(), strict=True):
            value = getattr(products[picture.picture_id], facet)
            assert task.classes[label].name == value
    assert {c.name for c in tasks["sample/category"].classes} == set(CATEGORIES)
    assert {c.name for c in tasks["sample/colour"].classes} == set(COLOURS)
    assert len(tasks["sample/category"].pictures) == 150
    assert "have no sleeve" in tasks["sample/sleeve"].notes[0]


def test_development_pictures_are_other_drawings(tasks):
    task = tasks["sample/category"]
    test = {picture.source for picture in task.pictures}
    assert len(task.development_pictures) == 20
    assert not test & {picture.source for picture in task.development_pictures}
    assert "other drawings" in task.development


def test_pictures_are_the_shipped_catalogues(tasks):
    product = sample_products(150)[17]
    file = io.BytesIO()
    generate_image(product.attributes, seed=product.seed).save(file, quality=90, format="jpeg")
    picture = tasks["sample/category"].pictures[17]
    assert (picture.picture_id, picture.source) == (product.product_id, file.getvalue())


def test_captions_keep_the_garment_and_change_the_attribute(tasks):
    task = tasks["sample/wrong-sleeve"]
    assert set(task.values) == {"short-sleeved", "long-sleeved"}  # few are sleeveless
    for right, wrong, value in zip(task.right, task.wrong, task.values, strict=True):
        assert right.startswith(f"a {value} ")
        assert right not in wrong
        assert {caption.rpartition(" ")[2] for caption in wrong} == {right.rpartition(" ")[2]}
