"""Tables of every kind, whole and broken, as a stream of products and rejects."""

import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.catalog import Catalog
from fashionclip.catalog.html_text import plain_text
from fashionclip.catalog.roles import USUAL_NAMES, is_usual
from fashionclip.errors import CatalogError, ImageFetchError
from fashionclip.product import Product, Reject, Roles

ROWS = [
    {"id": "a1", "title": "blue jeans", "image": "a1.jpg", "price": 49},
    {"id": "a2", "title": "red shirt, striped", "image": "a2.jpg", "price": 19.5},
    {"id": "a3", "title": 'grüne "Bluse"', "image": "a3.jpg", "price": None},
]


def csv_text(rows=ROWS, *, delimiter=",", newline="\n") -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, rows[0], delimiter=delimiter, lineterminator=newline)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def json_text(rows=ROWS) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(folder: Path, name: str, content: "str | bytes") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path, **options) -> "list[Product | Reject]":
    return list(Catalog.open(path, **options))


def products(path, **options) -> list[Product]:
    found = read(path, **options)
    assert all(isinstance(item, Product) for item in found), found
    return found


def reasons(items) -> "dict[int, str]":
    return {item.row: item.reason for item in items if isinstance(item, Reject)}


def ids(items) -> "list[str]":
    return [item.product_id for item in items if isinstance(item, Product)]


# formats


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shop.csv", csv_text()),
        ("shop.tsv", csv_text(delimiter="\t")),
        ("semicolons.csv", csv_text(delimiter=";")),
        ("bars.txt", csv_text(delimiter="|")),
        ("windows.csv", csv_text(newline="\r\n")),
        ("mac.csv", csv_text(newline="\r")),
        ("mark.csv", csv_text().encode("utf-8-sig")),
        ("utf16.csv", csv_text().encode("utf-16")),
        ("cp1252.csv", csv_text().encode("cp1252")),
        ("excel.csv", "sep=;\n" + csv_text(delimiter=";")),
        ("shop.csv.gz", gzip.compress(csv_text().encode(), mtime=0)),
        ("shop.csv.bz2", bz2.compress(csv_text().encode())),
        ("shop.csv.xz", lzma.compress(csv_text().encode())),
        ("shop.jsonl", json_text()),
        ("shop.ndjson", json_text().encode("utf-8-sig")),
        ("shop.json", json_text()),
        ("shop.jsonl.gz", gzip.compress(json_text().encode(), mtime=0)),
    ],
)
def test_every_format_gives_the_same_products(tmp_path, name, content):
    found = products(write(tmp_path, name, content))
    assert [(p.product_id, p.row, p.columns["title"]) for p in found] == [
        (row["id"], i, row["title"]) for i, row in enumerate(ROWS, start=1)
    ]
    assert [p.columns["price"] for p in found] == [49.0, 19.5, None]
    assert [p.image for p in found] == [str(tmp_path / row["image"]) for row in ROWS]


def test_parquet_gives_its_own_types(tmp_path):
    table = pa.table(
        {
            "id": ["a", "b"],
            "title": ["x", None],
            "stock": pa.array([1, None], pa.int32()),
            "price": [1.5, float("nan")],
            "is_new": [True, None],
            "brand": pa.array(["p", "q"]).dictionary_encode(),
            "sizes": [["S", "M"], []],
            "added": pa.array([0, 1], pa.date32()),
        }
    )
    pq.write_table(table, tmp_path / "shop.parquet")
    catalog = Catalog.open(tmp_path / "shop.parquet")
    assert catalog.len_hint == 2
    assert dict(catalog.columns) == {
        **{"id": "string", "title": "string", "stock": "integer", "price": "number"},
        **{"is_new": "boolean", "brand": "string", "sizes": "string", "added": "string"},
    }
    first, second = catalog
    assert dict(first.columns) == {
        **{"id": "a", "title": "x", "stock": 1, "price": 1.5, "is_new": True, "brand": "p"},
        **{"sizes": '["S", "M"]', "added": "1970-01-01"},
    }
    assert [second.columns[name] for name in ("title", "stock", "price", "is_new")] == [None] * 4


@pytest.mark.parametrize("is_struct", [True, False])
def test_images_in_a_parquet_column_come_as_bytes(tmp_path, is_struct):
    cells = [b"\xff\xd8one", None, b"\xff\xd8three"]
    if is_struct:  # the struct that Hugging Face's data sets use
        cells = [{"bytes": cell, "path": f"{i}.jpg"} for i, cell in enumerate(cells)]
    pq.write_table(pa.table({"id": [1, 2, 3], "image": cells}), tmp_path / "shop.parquet")
    catalog = Catalog.open(tmp_path / "shop.parquet")
    first, second, third = catalog
    assert (first.image, third.image) == (b"\xff\xd8one", b"\xff\xd8three")
    assert second.image == (str(tmp_path / "1.jpg") if is_struct else None)
    assert catalog.read_image(first) == b"\xff\xd8one"
    assert dict(catalog.columns) == {"id": "string"}
    assert dict(first.columns) == {"id": "1"}


def test_shards_of_parquet_are_one_table(tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(3):
        table = pa.table({"id": [f"{i}-0", f"{i}-1"], "title": ["a", "b"]})
        pq.write_table(table, tmp_path / "data" / f"train-0000{i}-of-00003.parquet")
    catalog = Catalog.open(tmp_path)
    assert [(p.row, p.product_id) for p in catalog] == [
        (i + 1, f"{i // 2}-{i % 2}") for i in range(6)
    ]
    assert catalog.len_hint == 6


def test_a_table_at_a_url_is_read_with_its_images_beside_it():
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/shop.csv", csv_text().encode())
    files.pipe("/bucket/a1.jpg", b"jeans")
    catalog = Catalog.open("memory://bucket/shop.csv")
    first = next(iter(catalog))
    assert first.image == "memory://bucket/a1.jpg"
    assert catalog.read_image(first) == b"jeans"
    assert ids(catalog) == ids(catalog) == ["a1", "a2", "a3"]
    with pytest.raises(CatalogError, match=r"^memory://bucket/gone\.csv: no such file"):
        Catalog.open("memory://bucket/gone.csv")


# folders


def test_kaggles_folder_is_read_as_it_is(tmp_path):
    write(
        tmp_path,
        "styles.csv",
        "id,gender,year,productDisplayName\n"
        "15970,Men,2011,Turtle Check Men Navy Blue Shirt\n"
        "39386,Men,2012,Peter England Men Party Blue Jeans, slim, dark\n"
        "59263,Women,NA,Titan Women Silver Watch\n",
    )
    write(tmp_path, "images.csv", "filename,link\n15970.jpg,http://a/b.jpg\n")
    (tmp_path / "images").mkdir()
    write(tmp_path / "images", "59263.png", b"png")
    catalog = Catalog.open(tmp_path)
    found = list(catalog)
    assert [p.caption for p in found] == [
        "Turtle Check Men Navy Blue Shirt",
        "Peter England Men Party Blue Jeans, slim, dark",
        "Titan Women Silver Watch",
    ]
    assert [p.columns["year"] for p in found] == [2011, 2012, None]
    assert [Path(p.image).name for p in found] == ["15970.jpg", "39386.jpg", "59263.png"]
    assert catalog.notes == ("1 row has surplus fields, joined to their 'productDisplayName'",)


def test_surplus_fields_that_shift_the_types_of_others_are_rejected(tmp_path):
    rows = "a,1,2011,x\nb,2,2012,y\nc,Men, Boys,2013,z\n"
    found = read(write(tmp_path, "styles.csv", "id,stock,year,productDisplayName\n" + rows))
    assert ids(found) == ["a", "b"]
    assert reasons(found) == {
        3: "has more fields than the header; quote the fields that hold the delimiter"
    }


def test_a_folder_with_one_table_is_that_table(tmp_path):
    write(tmp_path, "whatever.csv", csv_text())
    write(tmp_path, "read.me", "not a table")
    assert ids(read(tmp_path)) == ["a1", "a2", "a3"]


def test_a_folder_with_several_tables_names_them(tmp_path):
    write(tmp_path, "a.csv", csv_text())
    write(tmp_path, "b.jsonl", json_text())
    with pytest.raises(CatalogError, match=r"several tables in this folder \(a\.csv, b\.jsonl\)"):
        Catalog.open(tmp_path)


def test_a_folder_without_a_table_says_what_was_expected(tmp_path):
    with pytest.raises(CatalogError, match=r"no table in this folder; expected one of \.csv"):
        Catalog.open(tmp_path)


# images


def test_relative_images_start_from_the_images_folder_or_the_table(tmp_path):
    (tmp_path / "photos").mkdir()
    write(tmp_path / "photos", "a1.jpg", b"in photos")
    write(tmp_path, "a2.jpg", b"beside")
    catalog = Catalog.open(write(tmp_path, "shop.csv", csv_text()), images=tmp_path / "photos")
    first, second, third = catalog
    assert catalog.read_image(first) == b"in photos"
    assert catalog.read_image(second) == b"beside"
    with pytest.raises(ImageFetchError, match=r"photos/a3\.jpg: no such file"):
        catalog.read_image(third)


def test_names_of_files_in_images_beside_the_table_are_found(tmp_path):
    (tmp_path / "images").mkdir()
    write(tmp_path / "images", "a1.jpg", b"picture")
    catalog = Catalog.open(write(tmp_path, "shop.csv", csv_text()))
    assert catalog.read_image(next(iter(catalog))) == b"picture"


def test_images_are_found_by_id_at_a_url_too():
    files = fsspec.filesystem("memory")
    files.pipe("/by-id/shop.csv", b"id,title\n1,a\n2,b\n3,c\n")
    files.pipe("/by-id/photos/1.jpg", b"one")
    files.pipe("/by-id/photos/2.webp", b"two")
    catalog = Catalog.open("memory://by-id/shop.csv", images="memory://by-id/photos")
    first, second, third = catalog
    assert (catalog.read_image(first), catalog.read_image(second)) == (b"one", b"two")
    with pytest.raises(ImageFetchError, match=r"photos/3\.jpg: no such file"):
        catalog.read_image(third)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("https://a/1.jpg, https://a/2.jpg", "https://a/1.jpg"),
        ("https://a/1.jpg|https://a/2.jpg", "https://a/1.jpg"),
        ("https://a/1,2.jpg", "https://a/1,2.jpg"),
        (["https://a/1.jpg", "https://a/2.jpg"], "https://a/1.jpg"),
        ({"url": "https://a/1.jpg"}, "https://a/1.jpg"),
        ("//cdn/1.jpg", "https://cdn/1.jpg"),
        ("https://a/1.jpg?w=1&amp;h=2", "https://a/1.jpg?w=1&h=2"),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_a_cell_of_images_means_the_first(tmp_path, cell, expected):
    path = write(tmp_path, "shop.jsonl", json_text([{"id": 1, "image": cell, "title": "x"}]))
    (product,) = products(path)
    assert product.image == expected


def test_a_product_without_an_image_is_still_a_product(tmp_path):
    catalog = Catalog.open(write(tmp_path, "shop.csv", "id,title,image\n1,jeans,\n"))
    (product,) = catalog
    assert product.image is None
    with pytest.raises(ImageFetchError, match="row 1: names no image"):
        catalog.read_image(product)


def test_an_images_folder_that_is_not_there_is_an_error_at_once(tmp_path):
    with pytest.raises(CatalogError, match="no such folder of images; check --images"):
        Catalog.open(write(tmp_path, "shop.csv", csv_text()), images=tmp_path / "gone")


# columns


@pytest.mark.parametrize(
    ("header", "roles"),
    [
        (
            "id,gender,masterCategory,articleType,productDisplayName,articleAttributes",
            {
                **{"id": "id", "title": "productDisplayName", "gender": "gender"},
                **{"highlights": "articleAttributes", "category": "articleType"},
            },
        ),
        (
            "Handle,Title,Body (HTML),Vendor,Type,Tags,Variant SKU,Variant Price,Image Src",
            {
                **{"id": "Variant SKU", "title": "Title", "description": "Body (HTML)"},
                **{"highlights": "Tags", "price": "Variant Price", "image": "Image Src"},
                **{"brand": "Vendor", "category": "Type", "group": "Handle"},
            },
        ),
        (
            "product_id,short_description,product_photo_url,category_level_2,brand",
            {
                **{"id": "product_id", "title": "short_description", "brand": "brand"},
                **{"image": "product_photo_url"},
            },
        ),
        (
            "article_id,prod_name,product_type_name,detail_desc",
            {
                **{"id": "article_id", "title": "prod_name", "description": "detail_desc"},
                **{"category": "product_type_name"},
            },
        ),
        (
            "item_ID,text,image,category",
            {"id": "item_ID", "title": "text", "image": "image", "category": "category"},
        ),
        (
            "id,item_group_id,title,image_link,additional_image_link,price,currency,color,image2",
            {
                **{"id": "id", "group": "item_group_id", "title": "title", "image": "image_link"},
                **{"further_images": ("additional_image_link", "image2"), "price": "price"},
                **{"currency": "currency", "colour": "color"},
            },
        ),
        (
            "Ürün Kodu,Ürün Ad\u0131,GÖRSEL 1,FİYAT,Marka",
            {
                **{"id": "Ürün Kodu", "title": "Ürün Ad\u0131", "image": "GÖRSEL 1"},
                **{"price": "FİYAT", "brand": "Marka"},
            },
        ),
        (
            "商品コード,商品名,画像1,画像2,価格",
            {
                **{"id": "商品コード", "title": "商品名", "image": "画像1"},
                **{"further_images": ("画像2",), "price": "価格"},
            },
        ),
        (
            "ID;SKU;NAME;Images;Regular price",
            {
                **{
                    "id": "ID",
                    "sku": "SKU",
                    "title": "NAME",
                    "image": "Images",
                    "price": "Regular price",
                },
            },
        ),
    ],
)
def test_columns_of_shop_systems_and_data_sets_are_found(tmp_path, header, roles):
    delimiter = ";" if ";" in header else ","
    row = delimiter.join("x" for _ in header.split(delimiter))
    catalog = Catalog.open(write(tmp_path, "shop.csv", f"{header}\n{row}\n"))
    found = catalog.roles.as_dict()
    assert {role: column for role, column in found.items() if column} == roles
    assert Roles.from_dict({**json.loads(json.dumps(found)), "a newer role": 1}) == catalog.roles


@pytest.mark.parametrize(
    "header",
    [
        "Artikelnummer;Bild;Bezeichnung;Preis;Marke;Farbe;Größe",
        "Référence;Image;Nom;Prix;Marque;Couleur;Taille",
        "Artikelnummer;Bild;Namn;Pris;Varumärke;Färg;Storlek",
        "Varenummer;Billede;Varenavn;Pris;Mærke;Farve;Størrelse",
        "Varenr;Bilde;Navn;Pris;Merke;Farge;Størrelse",
        "Tuotekoodi;Kuva;Tuotenimi;Hinta;Merkki;Väri;Koko",
        "Código;Imagem;Nome;Preço (BRL);Marca;Cor;Tamanho",
        "Kód;Obrázek;Název;Cena;Výrobce;Barva;Velikost",
        "Артикул;Изображение;Наименование;Цена;Бренд;Цвет;Размер",
        "ÜRÜN KODU;RESİM;ÜRÜN ADI;FİYAT;MARKA;RENK;BEDEN",
        "商品コード;画像;商品名;価格;ブランド;カラー;サイズ",
        "Κωδικός;Εικόνα;Όνομα;Τιμή;Μάρκα;Χρώμα;Μέγεθος",
        "Cod;Imagine;Denumire;Preț;Producător;Culoare;Mărime",
        "商品编号;图片;商品名称;价格;品牌;颜色;尺码",
        "상품코드;이미지;상품명;판매가;브랜드;색상;사이즈",
        "\uff29\uff24;bild;title;price;brand;color;Gro\u0308ße",
    ],
)
def test_headers_of_many_languages_are_found(tmp_path, header):
    catalog = Catalog.open(write(tmp_path, "shop.csv", f"{header}\n1;1.jpg;Tee;9,90;Norda;x;M\n"))
    found = catalog.roles.as_dict()
    roles = ("id", "image", "title", "price", "brand", "colour", "size")
    assert [found[role] for role in roles] == list(catalog.types)[:7]


@pytest.mark.parametrize("role", Roles().as_dict())
def test_every_role_can_be_mapped_and_left_without_a_column(tmp_path, role):
    path = write(tmp_path, "shop.csv", "id,title,brand,meins\n0,x,y,z\n")
    roles = Catalog.open(path, columns={role: "Meins"}).roles.as_dict()
    assert roles[role] == (("meins",) if role == "further_images" else "meins")
    if role not in {"id", "title"}:
        assert not Catalog.open(path, columns={role: ""}).roles.as_dict()[role]


@pytest.mark.parametrize("role", USUAL_NAMES)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_usual_names_are_known_however_they_are_written(role, form):
    for name in USUAL_NAMES[role]:
        spaced = unicodedata.normalize(form, f" {name[:2]}_{name[2:]}\n".title())
        wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in name)
        assert all(is_usual(written, role) for written in (name, spaced, wide))


def test_stored_roles_of_another_type_are_refused():
    with pytest.raises(ValueError, match="columns are named by text"):
        Roles.from_dict({"id": 7})
    assert Roles.from_dict({}) == Roles()


def test_color_is_the_role_colour(tmp_path):
    table = write(tmp_path, "shop.csv", "id,title,shade\n1,Tee,red\n")
    assert Catalog.open(table, columns={"color": "shade"}).roles.colour == "shade"


def test_further_images_may_be_several_columns_and_other_roles_may_not(tmp_path):
    path = write(tmp_path, "shop.csv", "id,title,back,side\n0,x,b.jpg,s.jpg\n")
    catalog = Catalog.open(path, columns={"further_images": ["back", "side"]})
    assert catalog.roles.further_images == ("back", "side")
    with pytest.raises(CatalogError, match="2 columns for the image; a product has one"):
        Catalog.open(path, columns={"image": ["back", "side"]})


def test_columns_are_mapped_by_hand(tmp_path):
    path = write(tmp_path, "shop.csv", "id,artikel,bild,worte\n0,1,1.jpg,rotes Hemd\n")
    mapping = {"id": "artikel", "image": "bild", "title": "worte"}
    (product,) = products(path, columns=mapping)
    assert (product.product_id, product.caption) == ("1", "rotes Hemd")
    assert product.image == str(tmp_path / "1.jpg")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, r"no column of a usual name for the product's id; say which: --column id=NAME "),
        ({"id": "ansichtt"}, r"no column 'ansichtt' for the id; did you mean 'ansicht'\?"),
        ({"id": "artikel"}, r"for images or titles; say which: --column image=NAME, --column"),
        ({"number": "artikel"}, r"no role 'number' for a column; there are: id, image, title"),
    ],
)
def test_a_column_that_cannot_be_found_is_asked_for(tmp_path, columns, message):
    path = write(tmp_path, "shop.csv", "artikel,ansicht\n1,2\n")
    with pytest.raises(CatalogError, match=message) as caught:
        Catalog.open(path, columns=columns)
    assert "\n" not in str(caught.value)
    assert "role" in str(caught.value) or "(columns: artikel, ansicht)" in str(caught.value)


def test_nameless_and_repeated_columns_get_names_of_their_own(tmp_path):
    (product,) = products(write(tmp_path, "shop.csv", ",id,title,title\n0,1,a,b\n"))
    assert dict(product.columns) == {"column_1": 0, "id": "1", "title": "a", "title_2": "b"}


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-20", ""], "integer", [1, -20, None]),
        (["1", "2.5", "NA"], "number", [1.0, 2.5, None]),
        (["1.5e3", ".5", "n/a"], "number", [1500.0, 0.5, None]),
        (["true", "FALSE", "null"], "boolean", [True, False, None]),
        (["007", "1", ""], "string", ["007", "1", None]),
        (["1E5", "2", "3"], "string", ["1E5", "2", "3"]),
        (["12345678901234567890", "1", "2"], "string", ["12345678901234567890", "1", "2"]),
        (["NA", "EU", "nan"], "string", ["NA", "EU", "nan"]),
        (["1", "true", "2"], "string", ["1", "true", "2"]),
        (["1,50", "2", "3"], "number", [1.5, 2.0, 3.0]),
        (["yes", "no", ""], "boolean", [True, False, None]),
    ],
)
def test_a_column_has_one_kind_for_all_its_values(tmp_path, cells, kind, values):
    rows = [{"id": i, "title": "x", "what": cell} for i, cell in enumerate(cells)]
    catalog = Catalog.open(write(tmp_path, "shop.csv", csv_text(rows)))
    assert catalog.columns["what"] == kind
    assert [product.columns["what"] for product in catalog] == values


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        ([1, None, -2], "integer", [1, None, -2]),
        ([1, 2.5, None], "number", [1.0, 2.5, None]),
        ([True, False, None], "boolean", [True, False, None]),
        ([1, True, "x"], "string", ["1", "true", "x"]),
        (["7", 7, None], "string", ["7", "7", None]),
        ([[1], {"a": "ü"}, ""], "string", ["[1]", '{"a": "ü"}', None]),
        ([10**30, 1, 1], "string", [str(10**30), "1", "1"]),
    ],
)
def test_json_has_types_of_its_own(tmp_path, cells, kind, values):
    rows = [{"id": i, "title": "x", "what": cell} for i, cell in enumerate(cells)]
    catalog = Catalog.open(write(tmp_path, "shop.jsonl", json_text(rows)))
    assert catalog.columns["what"] == kind
    assert [product.columns["what"] for product in catalog] == values


def test_ids_and_titles_stay_text(tmp_path):
    catalog = Catalog.open(write(tmp_path, "shop.csv", "id,title\n1,501\n2,502\n"))
    assert catalog.columns == {"id": "string", "title": "string"}
    assert [product.caption for product in catalog] == ["501", "502"]


def test_an_integer_that_a_table_keeps_as_a_float_is_an_integer_as_an_id(tmp_path):
    pq.write_table(pa.table({"id": [1580.0, 2.0], "title": ["a", "b"]}), tmp_path / "s.parquet")
    assert ids(read(tmp_path / "s.parquet")) == ["1580", "2"]


# captions


@pytest.mark.parametrize(
    "highlights",
    [
        "stripes|long sleeves|Armani",
        "stripes; long sleeves; Armani",
        '["stripes", "long sleeves", "Armani"]',
        "['stripes', 'long sleeves', \"Armani\"]",
        '{"Pattern": "stripes", "Sleeve": ["long sleeves"], "By": "Armani", "Pieces": "1"}',
        ["stripes", "long sleeves", None, "Armani"],
        {"a": "stripes", "b": {"c": "long sleeves"}, "d": "Armani", "e": "NA", "f": 3},
    ],
)
def test_a_caption_is_the_short_description_and_the_highlights(tmp_path, highlights):
    row = {"id": 1, "title": "80s styled t-shirt", "highlights": highlights}
    (product,) = products(write(tmp_path, "shop.jsonl", json_text([row])))
    assert product.caption == "80s styled t-shirt, stripes, long sleeves, Armani"


def test_the_description_stands_in_for_a_title(tmp_path):
    (product,) = products(write(tmp_path, "shop.csv", "id,description\n1,a long coat\n"))
    assert product.caption == "a long coat"


def test_the_caption_recipe_can_be_replaced(tmp_path):
    path = write(tmp_path, "shop.csv", "id,title,tags\n1,jeans,blue|slim\n")
    (product,) = products(path, caption=lambda highlights, title: f"{title}: {highlights}")
    assert product.caption == "jeans: ['blue', 'slim']"


# rows that break the rules


def test_ragged_rows_are_rejected_with_their_numbers(tmp_path):
    rows = "1,a,9\n2,b\n3,c,9,surplus\n4,d,9\n5,e,9,,\n"
    found = read(write(tmp_path, "shop.csv", "id,title,price\n" + rows))
    assert ids(found) == ["1", "4", "5"]
    assert reasons(found) == {
        2: "has 2 fields where the header has 3; fill it up",
        3: "has 4 fields where the header has 3; quote the fields that hold the delimiter",
    }
    assert [item.product_id for item in found] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("width", [3, 6])
@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_quote_left_open_costs_only_its_row(tmp_path, width, end, at):
    extra = ",x" * (width - 3)
    rows = [f"{i},title {i},9{extra}" for i in range(10)]
    rows[at] = f'{at},"title {at},9{extra}'
    header = ",".join(["id", "title", "price", "c", "d", "e"][:width])
    found = read(write(tmp_path, "shop.csv", header + "\n" + "\n".join(rows) + end))
    assert [item.row for item in found] == list(range(1, 11))
    assert ids(found) == [str(i) for i in range(10) if i != at]
    assert "never closed" in reasons(found)[at + 1]


def test_a_quote_left_open_before_quoted_rows_costs_only_its_row(tmp_path):
    rows = [
        '1,"open,9',
        '2,"closed, quoted",9',
        '3,"also ""quoted""",9',
        '4,"open again,9',
        "5,x,9",
    ]
    found = read(write(tmp_path, "shop.csv", "id,title,price\n" + "\n".join(rows)))
    assert ids(found) == ["2", "3", "5"]
    assert list(reasons(found)) == [1, 4]


def test_inches_and_sloppy_quotes_are_no_fault(tmp_path):
    rows = ['1,5" heel,9', '2,"15.6" laptop bag",9', '3,"two\nlines",9', '4,"a ""b""",9']
    found = products(write(tmp_path, "shop.csv", "id,title,price\n" + "\n".join(rows)))
    assert [p.columns["title"] for p in found] == [
        '5" heel',
        '15.6 laptop bag"',
        "two\nlines",
        'a "b"',
    ]


def test_nul_bytes_are_rejected(tmp_path):
    found = read(write(tmp_path, "shop.csv", b"id,title\n1,a\n2,b\0b\n3,c\n"))
    assert ids(found) == ["1", "3"]
    assert "NUL bytes" in reasons(found)[2]


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_field_of_50_mb_is_rejected_and_no_other(tmp_path, quote):
    huge = quote + "x, y" * 12_500_000 + quote if quote else "x" * 50_000_000
    path = tmp_path / "shop.csv"
    path.write_text(f"id,title\n1,a\n2,{huge}\n3,c\n", encoding="utf-8")
    found = read(path)
    assert ids(found) == ["1", "3"]
    assert reasons(found) == {2: "longer than 4,000,000 characters; shorten its fields"}
    assert found[1].product_id == "2"


def test_long_texts_of_many_sentences_are_quick_to_look_at(tmp_path):
    text = "1.title." * 60_000
    rows = "".join(f"{i},tee,{i}.jpg,{text}\n" for i in range(4))
    path = write(tmp_path, "shop.csv", f"id,title,image,note\n{rows}")
    began = time.perf_counter()
    assert len(Catalog.open(path).columns) == 4
    assert time.perf_counter() - began < 5


def test_a_field_of_many_lines_is_rejected_and_no_other(tmp_path):
    path = tmp_path / "shop.csv"
    lines = "a line, with words\n" * 12_000
    path.write_text(f'id,title,c\n1,a,x\n2,"{lines}",x\n3,c,x\n', encoding="utf-8")
    found = read(path)
    assert ids(found) == ["1", "3"]
    assert reasons(found) == {2: "longer than 4,000,000 characters or 5,000 lines; shorten it"}


def test_a_caption_over_the_limit_is_rejected_not_cut(tmp_path):
    words = "very " * 25_000
    found = read(write(tmp_path, "shop.csv", f"id,title\n1,{words}long\n2,short\n"))
    assert ids(found) == ["2"]
    assert "the caption has 125,004 characters; shorten it to 100,000" in reasons(found)[1]


def test_broken_lines_of_json_are_rejected(tmp_path):
    lines = ['{"id": 1, "title": "a"}', '{"id": 2, "title', "[3]", "", '{"id": 4}', "[" * 100_000]
    found = read(write(tmp_path, "shop.jsonl", "\n".join(lines)))
    assert ids(found) == ["1", "4"]
    assert {row: why.partition(" (")[0] for row, why in reasons(found).items()} == {
        2: "not valid JSON",
        3: "not a JSON object but '[3]'; write one {…} per line",
        5: "nested too deep; flatten it",
    }


def test_empty_and_repeated_ids_are_rejected(tmp_path):
    found = read(write(tmp_path, "shop.csv", "title,id\na,1\nb,\nc, \nd,1\ne,2\n"))
    assert ids(found) == ["1", "2"]
    assert reasons(found) == {
        2: "the id is empty; fill the column 'id'",
        3: "the id is empty; fill the column 'id'",
        4: "the id is a duplicate of row 1; give each product its own",
    }


def test_thousands_of_ids_are_distinguished(tmp_path):
    rows = [{"id": i % 3_000, "title": "x"} for i in range(3_500)]
    found = read(write(tmp_path, "shop.csv", csv_text(rows)))
    assert len(ids(found)) == 3_000
    assert reasons(found)[3_001] == "the id is a duplicate of row 1; give each product its own"


def test_a_damaged_part_of_parquet_costs_its_own_rows(tmp_path):
    path = tmp_path / "shop.parquet"
    rows = [{"id": f"{i:04}", "title": f"title {i * 7919 % 1000}"} for i in range(400)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100, compression="gzip")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 5 : start + 60] = b"\xff" * 55
    path.write_bytes(data)
    found = read(path)
    assert [item.row for item in found] == list(range(1, 401))
    assert sorted(reasons(found)) == list(range(101, 201))
    assert "damaged part of the Parquet file" in reasons(found)[101]


# encodings


def test_windows_letters_are_read_and_reported(tmp_path):
    catalog = Catalog.open(
        write(tmp_path, "shop.csv", "id,title\n1,Größe “M” €5\n".encode("cp1252"))
    )
    assert [p.caption for p in catalog] == ["Größe “M” €5"]
    (note,) = catalog.notes
    assert note.startswith("read as Windows-1252, for it is not UTF-8; ")
    assert note.endswith("(--encoding NAME)")


def test_one_broken_byte_does_not_turn_a_table_of_utf8_into_another(tmp_path):
    rows = [f"{i},Größe {i}\n".encode() for i in range(5)]
    rows[2] = b"2,Gr\xff\xdfe\n"
    catalog = Catalog.open(write(tmp_path, "shop.csv", b"id,title\n" + b"".join(rows)))
    found = list(catalog)
    assert ids(found) == ["0", "1", "3", "4"]
    assert found[0].caption == "Größe 0"
    assert "bytes that are not UTF-8" in reasons(found)[3]
    assert catalog.notes == ("2 bytes are not UTF-8; the rows that hold them are rejected",)


def test_lone_surrogates_in_json_become_question_marks(tmp_path):
    path = write(tmp_path, "shop.jsonl", '{"id": "a\\ud800", "title": "b\\udfff"}\n')
    (product,) = products(path)
    assert (product.product_id, product.caption) == ("a\ufffd", "b\ufffd")


# tables that cannot be read at all


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("shop.csv", b"", "has no header with the columns' names"),
        ("shop.csv", b"\n\n", "has no header with the columns' names"),
        ("shop.xlsx", b"PK\x03\x04rest", "not a workbook, or damaged"),
        ("shop.csv", b"PK\x03\x04rest", "not a workbook, or damaged"),
        ("shop.parquet", b"PAR1 no more", "not a Parquet file, or damaged"),
        ("shop.parquet", b"id,title\n", "not a Parquet file, or damaged"),
        (
            "shop.csv.gz",
            gzip.compress(csv_text().encode(), mtime=0)[:-20],
            "breaks off or is damaged",
        ),
        ("shop.csv.xz", lzma.compress(csv_text().encode())[:-20], "breaks off or is damaged"),
        ("shop.csv", ",".join(map(str, range(3_000))), "at most 2,000"),
        ("shop.jsonl", b"", "no column of a usual name"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(CatalogError, match=message) as caught:
        Catalog.open(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CatalogError, match=r"gone\.csv: no such file; check the path"):
        Catalog.open(tmp_path / "gone.csv")


def test_a_table_that_changes_while_it_is_read_costs_only_the_rows_that_no_longer_fit(tmp_path):
    path = write(tmp_path, "shop.csv", "id,title,stock\n1,a,1\n2,b,2\n")
    catalog = Catalog.open(path)
    write(tmp_path, "shop.csv", "id,title,stock\n1,a,none left\n2,b,2\n")
    found = list(catalog)
    assert ids(found) == ["2"]
    assert "'none left' in a column of kind integer" in reasons(found)[1]


# arbitrary input


@given(st.binary(max_size=400), st.sampled_from(["csv", "jsonl", "parquet", "csv.gz"]))
@settings(max_examples=100)
def test_any_bytes_give_products_and_rejects_or_one_error(tmp_path_factory, data, suffix):
    path = write(tmp_path_factory.getbasetemp(), f"any.{suffix}", b"id,title\n" + data)
    try:
        catalog = Catalog.open(path)
    except CatalogError:
        return
    found = list(catalog)
    assert [item.row for item in found] == list(range(1, catalog.len_hint + 1))
    assert all("\n" not in item.reason for item in found if isinstance(item, Reject))


pieces = st.sampled_from(['"', ",", "\n", "\r", ";", "\t", "a", "1", "ü", '""', '",', '\n"', "\0"])


@given(st.lists(pieces, max_size=60).map("".join), st.integers(1, 5))
@settings(max_examples=120)
def test_no_confusion_of_quotes_and_delimiters_ends_a_run(tmp_path_factory, text, width):
    header = ",".join(["id", "title", "c", "d", "e"][:width])
    path = write(tmp_path_factory.getbasetemp(), "quotes.csv", f"{header}\n{text}\n")
    (path.parent / "images").mkdir(exist_ok=True)
    catalog = Catalog.open(path)
    assert [item.row for item in catalog] == list(range(1, catalog.len_hint + 1))


fields = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=12
)  # quotes, delimiters and line ends included


@given(st.lists(st.tuples(fields, fields), max_size=12), st.sampled_from(",;\t|"))
@settings(max_examples=60)
def test_every_row_that_is_written_comes_back_once_with_its_number(tmp_path_factory, rows, sign):
    dicts = [
        {"id": f"p{i}", "title": title, "more": more, "last": "x"}
        for i, (title, more) in enumerate(rows)
    ]
    header = [{"id": "id", "title": "title", "more": "more", "last": "last"}]
    whole = csv_text(header + dicts, delimiter=sign, newline="\r\n")
    text = whole[whole.index("\n") + 1 :]  # the header stands twice
    found = read(write(tmp_path_factory.getbasetemp(), "written.csv", text))
    assert [(item.row, item.product_id) for item in found] == [
        (i, f"p{i - 1}") for i in range(1, len(rows) + 1)
    ]
    for product, (title, more) in zip(found, rows, strict=True):
        words = plain_text(title) if title.strip() else ""
        assert product.columns.get("title") == (words or None)
        found_more = product.columns.get("more")
        assert found_more == plain_text(more) or not isinstance(found_more, str)


# memory


PEAK = """
import re, sys
from fashionclip.catalog import Catalog
n = sum(1 for _ in Catalog.open(sys.argv[1]))
status = open("/proc/self/status").read()
print(n, int(re.search("VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="where Linux counts memory")
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path, suffix):
    peaks = []
    for n_rows in (2_000, 40_000):
        path = tmp_path / f"shop-{n_rows}.{suffix}"
        rows = [
            {"id": f"product-{i}", "title": f"title {i} " + "word " * 60, "price": i / 7}
            for i in range(n_rows)
        ]
        if suffix == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1_000)
        else:
            path.write_text(csv_text(rows) if suffix == "csv" else json_text(rows), "utf-8")
        del rows
        words = [sys.executable, "-c", PEAK, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        counted, peak_mib = map(int, done.stdout.split())
        assert counted == n_rows
        peaks.append(peak_mib)
    assert peaks[1] - peaks[0] < 12, peaks
