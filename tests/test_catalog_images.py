"""What the rows of a catalogue name as their images, and where those are."""

import json
import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionclip.catalog import Catalog
from fashionclip.catalog.image_cells import image_locations_of
from fashionclip.catalog.roles import guess_roles
from fashionclip.images import IMAGE_SUFFIXES

TWO = ["one.jpg", "two.png"]
SHOP = ["https://a.com/w_200,h_300/1.jpg", "https://a.com/2.jpg?crop=1,2,3,4"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (str(TWO), TWO),  # Python's, as pandas writes it
        (json.dumps(TWO), TWO),
        ("['one.jpg' 'two.png']", TWO),  # NumPy's
        ("['one.jpg'\n 'two.png']", TWO),
        ('{one.jpg,"two.png"}', TWO),
        ("{one.jpg,two.png}", TWO),  # PostgreSQL's
        ("[one.jpg, two.png]", TWO),
        ("('one.jpg', 'two.png')", TWO),
        (str(tuple(SHOP)), SHOP),
        (json.dumps(SHOP), SHOP),
        ("one.jpg;two.png", TWO),
        ("one.jpg, two.png", TWO),
        ("one.jpg|two.png", TWO),
        ("one.jpg\ntwo.png\n", TWO),
        ("one.jpg; two.png;", TWO),
        (", ".join(SHOP), SHOP),
        (" ".join(SHOP), SHOP),
        ("one.jpg\ttwo.png", TWO),
        ("one.jpg two.png", TWO),
        ('"one.jpg","two.png"', TWO),
        ("'one.jpg', 'two.png'", TWO),
        ('"a, b.jpg";c', ['"a, b.jpg";c']),
        (f'"{SHOP[0]}"', SHOP[:1]),
        (f"<{SHOP[0]}>", SHOP[:1]),
        (
            '<p><img alt="a > b" src="my tee.jpg"><img data-src=x.gif SRC = two.png /></p>',
            ["my tee.jpg", "two.png"],
        ),
        ("<img src='https://a.com/1?x=1&amp;y=2'>", ["https://a.com/1?x=1&y=2"]),
        ('=IMAGE("https://a.com/1", 4, 50, 50)', ["https://a.com/1"]),
        ('=BILD("one.jpg";1)', ["one.jpg"]),
        (f"a, b (1).jpg ({SHOP[0]}),c.jpg ({SHOP[1]})", SHOP),
        (
            "https://a.com/1.jpg ! alt : Tee, red ! title : 1.jpg | //a.com/2 ! alt :",
            ["https://a.com/1.jpg", "//a.com/2"],
        ),
        (";".join(SHOP), SHOP),
        ("//a.com/1.jpg,//a.com/2.jpg", ["//a.com/1.jpg", "//a.com/2.jpg"]),
        ("/w/s/1.jpg,/w/s/2.jpg", ["/w/s/1.jpg", "/w/s/2.jpg"]),
        ("s3://b/1.jpg|s3://b/2.jpg", ["s3://b/1.jpg", "s3://b/2.jpg"]),
        ("https://a.com/x?a=1&amp;b=2", ["https://a.com/x?a=1&b=2"]),
        ("https://a.com/x?a=1&#038;copy=2", ["https://a.com/x?a=1&copy=2"]),
        ("https://a.com/x?a=1&copy=2", ["https://a.com/x?a=1&copy=2"]),
        ([{"src": "one.jpg"}, {"src": "two.png", "alt": "back"}], TWO),
        ("[{'src': 'one.jpg'}, {'src': 'two.png'}]", TWO),
        ({"@type": "ImageObject", "contentUrl": "one.jpg", "name": "front"}, ["one.jpg"]),
        ({"bytes": b"\xff\xd8", "path": "one.jpg"}, [b"\xff\xd8"]),
        ({"bytes": None, "path": "one.jpg"}, ["one.jpg"]),
        ([["one.jpg"], [["two.png"], None]], TWO),
        (["one.jpg", "one.jpg", "", None, "two.png"], TWO),
        ([b"1", b"2"], [b"1", b"2"]),
        ({"url": TWO}, TWO),
        (15970, ["15970"]),
        (True, []),
        ({"alt": "no image"}, []),
        ("[]", []),
    ],
)
def test_a_cell_names_its_images_in_order(cell, expected):
    assert image_locations_of(cell) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("a,b.jpg", "blue jeans, slim.jpg", "a;b.jpg", "a|b.png", "red tee (front).webp"),
        *("[set]1.jpg", "data:image/png;base64,iVBO/Rw0,KGgo", "https://a.com/1,2.jpg"),
        *("https://a.com/i?f=jpg,webp", "Tom & Jerry.jpg", "A&amp;B.jpg", "a b.jpg c", "15970"),
        *("women's.jpg", "my red tee.jpg", "tee (1)", "a.jpg (old)", "=5.jpg", "tee #5 (2).jpg"),
    ],
)
def test_a_separator_within_one_name_stays(name):
    assert image_locations_of(name) == [name]


NAMES = st.lists(
    st.builds(
        "{}{}".format,
        st.text("abcXYZ0123456789äß_-. ()", min_size=1, max_size=12).filter(
            lambda stem: stem.strip() == stem
        ),
        st.sampled_from([*IMAGE_SUFFIXES, ".JPG"]),
    ),
    min_size=1,
    max_size=5,
    unique=True,
)


@given(NAMES, st.sampled_from([";", ",", "|", "\n", "\t", ", ", " | "]), st.booleans())
def test_any_names_come_out_of_every_notation(names, separator, as_urls):
    if as_urls:
        names = [f"https://shop.example/{name.replace(' ', '%20')}" for name in names]
    for cell in (names, tuple(names), str(names), json.dumps(names), separator.join(names)):
        assert image_locations_of(cell) == names
    assert image_locations_of(",".join(f'"{name}"' for name in names)) == names
    assert image_locations_of("".join(f'<img src="{name}">' for name in names)) == names
    without_spaces = list(dict.fromkeys(name.replace(" ", "") for name in names))
    assert image_locations_of(" ".join(without_spaces)) == without_spaces


@given(st.recursive(st.none() | st.text() | st.binary() | st.floats(), st.lists))
def test_any_cell_is_read_without_an_error(cell):
    assert all(isinstance(image, str | bytes) and image for image in image_locations_of(cell))


def test_a_nest_without_end_is_no_error():
    assert image_locations_of("[" * 100_000 + "]" * 100_000) in (
        [],
        ["[" * 100_000 + "]" * 100_000],
    )


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "media" / "w" / "s").mkdir(parents=True)
    return tmp_path


def image_of(shop: Path, name: str, **options: object) -> str:
    table = shop / "shop.jsonl"
    table.write_text(json.dumps({"id": "1", "title": "tee", "image": name}), encoding="utf-8")
    (product,) = Catalog.open(table, images=shop / "media", **options)
    return str(product.image)


NFC, NFD = (unicodedata.normalize(form, "grün.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("/w/s/a.jpg", "w/s/a.jpg"),
        ("w\\s\\a.jpg", "w/s/a.jpg"),
        ("\\w\\s\\a.jpg", "w/s/a.jpg"),
        ("w/s/blue%20tee.jpg", "w/s/blue tee.jpg"),
        ("100%25.jpg", "100%.jpg"),
        ("100%25.jpg", "100%25.jpg"),
        (f"w/s/{NFC}", f"w/s/{NFD}"),
        (f"/w/s/{NFD}", f"w/s/{NFC}"),
        ("W/S/a.jpg", "w/s/A.JPG"),
        (" a.jpg ", "a.jpg"),
        ("w/s/a.jpg?v=17", "w/s/a.jpg"),
        ("a.JPG#main", "a.jpg"),
        ("a.jpg?v=17", "a.jpg?v=17"),
        ("tee #5.jpg", "tee #5.jpg"),
        ("a&amp;b.jpg", "a&b.jpg"),
        ("a&amp;b.jpg", "a&amp;b.jpg"),
    ],
)
def test_an_image_is_found_under_the_name_that_a_shop_gives_it(shop, name, file):
    path = shop / "media" / file
    path.write_bytes(b"image")
    assert Path(image_of(shop, name)) == path


def test_an_ampersand_of_html_is_mended_below_a_url(shop):
    (shop / "shop.csv").write_text("id,title,image\n1,tee,a&amp;b.jpg\n")
    (tee,) = Catalog.open(shop / "shop.csv", images="https://a.com/media")
    assert tee.image == "https://a.com/media/a&b.jpg"


def test_a_leading_slash_is_looked_for_below_the_table_too(shop):
    (shop / "w").mkdir()
    (shop / "w" / "a.jpg").write_bytes(b"image")
    assert image_of(shop, "/w/a.jpg") == str(shop / "w" / "a.jpg")


def test_an_absolute_path_that_exists_stays(shop):
    (shop / "a.jpg").write_bytes(b"image")
    assert image_of(shop, str(shop / "a.jpg")) == str(shop / "a.jpg")


def test_an_image_that_is_nowhere_is_named_below_the_images_folder(shop):
    assert image_of(shop, "/w/s/gone.jpg") == str(shop / "media/w/s/gone.jpg")


def test_a_missing_image_costs_one_look_once_its_folder_is_listed(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "B b.JPG").touch()
    rows = [f"{i},pics/{i} a%20b.jpg\n" for i in range(50)]
    (tmp_path / "shop.csv").write_text("id,image\n" + "".join(rows) + "b,pics/b%20b.jpg\n")
    catalog = Catalog.open(tmp_path / "shop.csv")
    looks, stat = [], os.stat
    monkeypatch.setattr(
        os, "stat", lambda *args, **named: looks.append(args) or stat(*args, **named)
    )
    found = list(catalog)
    monkeypatch.undo()
    assert len(looks) < 51 + 10
    assert found[0].image == str(tmp_path / "pics" / "0 a%20b.jpg")
    assert found[-1].image == str(tmp_path / "pics" / "B b.JPG")


def test_two_files_that_differ_in_case_are_not_confused(shop):
    for name in ("A.jpg", "a.JPG"):
        (shop / "media" / name).write_bytes(b"image")
    assert Path(image_of(shop, "A.jpg")).name == "A.jpg"
    assert not Path(image_of(shop, "a.jpg")).exists()  # either could be meant


@pytest.mark.parametrize("file", ["7.JPG", "7.Png", "7.avif", "7.HEIC"])
def test_an_image_by_id_is_found_whatever_its_suffix(shop, file):
    (shop / "media" / file).write_bytes(b"image")
    (shop / "ids.csv").write_text("id,title\n7,tee\n")
    (product,) = Catalog.open(shop / "ids.csv", images=shop / "media")
    assert product.image == str(shop / "media" / file)


def test_ids_that_differ_in_case_do_not_share_an_image(shop):
    (shop / "media" / "ab.JPG").write_bytes(b"image")
    (shop / "ids.csv").write_text("id,title\nAB,tee\nab,shirt\n")
    upper, lower = Catalog.open(shop / "ids.csv", images=shop / "media")
    assert (Path(upper.image).name, Path(lower.image).name) == ("AB.jpg", "ab.JPG")


def test_other_views_are_kept_beside_the_main_image(shop):
    for name in ("front.jpg", "back.jpg", "side.jpg"):
        (shop / "media" / name).write_bytes(b"image")
    (shop / "shop.csv").write_text(
        'id,title,image,image_2\n1,tee,"front.jpg,back.jpg",side.jpg\n2,cap,,side.jpg\n'
    )
    tee, cap = Catalog.open(shop / "shop.csv", images=shop / "media")
    assert Path(tee.image).name == "front.jpg"
    assert [Path(image).name for image in tee.further_images] == ["back.jpg", "side.jpg"]
    assert (Path(cap.image).name, cap.further_images) == ("side.jpg", ())


@given(
    st.sampled_from(["{}{}", "{}_{}", "{} {}", "{} #{}", "{}/{}", "{} - {}", "{}.{}", "{}{}_url"]),
    st.sampled_from(["Image", "PHOTO", "picture", "img", "Bild"]),
    st.lists(st.integers(0, 99), min_size=1, max_size=12, unique=True),
    st.sampled_from([None, "main_image", "image_link"]),
)
def test_the_first_of_numbered_columns_is_the_image_if_no_other_is(form, word, numbers, main):
    columns = {number: form.format(word, number) for number in numbers}
    roles = guess_roles(["sku", "name", *columns.values(), *([main] if main else [])])
    first = main or columns[min(columns)]
    assert (roles.id, roles.title, roles.image) == ("sku", "name", first)
    assert roles.further_images == tuple(name for name in columns.values() if name != first)


def test_numbered_sizes_are_one_image_the_largest():
    roles = guess_roles(["id", "name", "image_128", "image_1920", "image_512", "image_2"])
    assert (roles.image, roles.further_images) == ("image_2", ())
    roles = guess_roles(["id", "name", "image_128", "image_1920", "image_512"])
    assert (roles.image, roles.further_images) == ("image_1920", ())


def test_further_images_without_a_main_one_or_one_by_id_hold_it(shop):
    (shop / "shop.csv").write_text("id,title,gallery\n1,tee,a.jpg|b.jpg\n")
    (tee,) = Catalog.open(shop / "shop.csv")
    assert (Path(tee.image).name, len(tee.further_images)) == ("a.jpg", 1)
    (tee,) = Catalog.open(shop / "shop.csv", images=shop / "media")
    assert (Path(tee.image).name, len(tee.further_images)) == ("1.jpg", 2)


def test_a_column_of_images_that_has_no_role_is_named(shop):
    (shop / "shop.csv").write_text(
        "id,title,zicht,seite\n1,tee,red.jpg,https://a.com/tee\n2,cap,,https://a.com/cap\n"
    )
    notes = Catalog.open(shop / "shop.csv").notes
    assert "the column 'zicht' names images; use it: --column image=zicht" in notes
    assert not any("seite" in note for note in notes)
    for columns in ({"image": "zicht"}, {"image": ""}):
        notes = Catalog.open(shop / "shop.csv", columns=columns).notes
        assert not any("zicht" in note for note in notes)


def test_a_column_that_has_the_role_but_no_images_is_named(shop):
    (shop / "shop.csv").write_text("id,title,image,datei\n1,tee,Front view,red.jpg\n")
    (note,) = Catalog.open(shop / "shop.csv").notes
    assert note == (
        "the column 'datei' names images, and 'image' does not; use it: --column image=datei"
    )


@pytest.mark.parametrize("image", ["https://cdn.example/1", b"\xff\xd8", {"bytes": b"\xff\xd8"}])
def test_an_image_without_a_suffix_is_one_beside_a_file_name(tmp_path, image):
    table = pa.table({"id": ["1"], "title": ["tee"], "image": [image], "datei": ["red.jpg"]})
    pq.write_table(table, tmp_path / "shop.parquet")
    assert not any("datei" in note for note in Catalog.open(tmp_path / "shop.parquet").notes)
