"""The sample catalogue: reproducible, with images that show what the columns say."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionclip.sample import (
    CATEGORIES,
    COLOURS,
    COLUMNS,
    PATTERNS,
    Attributes,
    generate_image,
    generate_images,
    sample_attributes,
    sample_products,
    write_sample_catalog,
)


def ink(image: Image.Image) -> np.ndarray:
    """The mask of the pixels that show the product."""
    return (np.asarray(image).astype(int) < 235).any(axis=-1)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_is_rendered_on_white_within_its_frame(category: str) -> None:
    attributes = sample_attributes(category, np.random.default_rng(1))
    image = generate_image(replace(attributes, colour="red"), seed=3)
    assert (image.mode, image.size) == ("RGB", (240, 320))
    is_product = ink(image)
    assert 0.05 < is_product.mean() < 0.6
    frame = np.concatenate([is_product[0], is_product[-1], is_product[:, 0], is_product[:, -1]])
    assert not frame.any()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_solid_product_has_the_colour_of_its_column(colour: str) -> None:
    image = generate_image(Attributes("t-shirt", colour, sleeve="short", neckline="round"), seed=0)
    chest = np.asarray(image)[130:220, 90:150].reshape(-1, 3)
    distances = {name: np.abs(chest.mean(0) - rgb).sum() for name, rgb in COLOURS.items()}
    assert min(distances, key=distances.__getitem__) == colour


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p != "solid"])
def test_a_pattern_changes_the_cloth(pattern: str) -> None:
    shirt = Attributes("t-shirt", "blue", accent="white", sleeve="short", neckline="round")
    plain, patterned = (
        np.asarray(generate_image(replace(shirt, pattern=p), seed=5))[120:200, 80:160].std(
            axis=(0, 1)
        )
        for p in ("solid", pattern)
    )
    assert patterned.max() > 2 * plain.max()


def test_long_sleeves_reach_further_down_than_short_ones() -> None:
    shirt = Attributes("t-shirt", "green", neckline="round", gender="Women")
    ends = {}
    for sleeve in ("short", "long"):
        at_the_side = ink(generate_image(replace(shirt, sleeve=sleeve), seed=2))[:, :62]
        ends[sleeve] = np.flatnonzero(at_the_side.any(axis=1)).max()
    assert ends["long"] > ends["short"] + 50


def test_the_same_seed_gives_the_same_catalogue() -> None:
    assert sample_products(30, seed=4) == sample_products(30, seed=4)
    assert sample_products(30, seed=4) != sample_products(30, seed=5)
    first, second = (generate_images(3, seed=4) for _ in range(2))
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(first, second, strict=True))


def test_a_catalogue_of_four_hundred_has_every_category_colour_and_pattern() -> None:
    products = sample_products()
    assert len(products) == len({p.product_id for p in products}) == 400
    seen = [p.attributes for p in products]
    assert {a.category for a in seen} == set(CATEGORIES)
    assert {a.colour for a in seen} == set(COLOURS)
    assert {a.pattern for a in seen} == set(PATTERNS)
    for product in products:
        assert product.attributes.colour.title() in product.title
        assert product.description.endswith(".")
        assert product.price > 0


def test_the_written_catalogue_names_images_that_are_there(tmp_path: Path) -> None:
    path = write_sample_catalog(tmp_path / "sample", n_products=12)
    assert path == tmp_path / "sample" / "catalog.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        with Image.open(path.parent / row["image"]) as image:
            assert image.size == (240, 320)
        assert row["pattern"].split()[0] in json.loads(row["highlights"])[0]
        assert float(row["price"]) > 0


def test_an_unknown_colour_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"colour 'mud' is unknown; choose one of black, "):
        generate_image(Attributes("dress", "mud"), seed=0)
    with pytest.raises(ValueError, match="n_products is -1; it must be 0 or more"):
        sample_products(-1)


def test_no_products_is_an_empty_catalogue(tmp_path: Path) -> None:
    path = write_sample_catalog(tmp_path, n_products=0)
    assert path.read_text(encoding="utf-8") == ",".join(COLUMNS) + "\n"
