"""Exports of shop systems: each is recognised, and its rows become products."""

import csv
import io
import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.catalog import Catalog
from fashionclip.catalog.feeds.feed import known_feeds
from fashionclip.catalog.feeds.options import order_of, unpack
from fashionclip.errors import CatalogError
from fashionclip.product import Product, Reject

EXAMPLES = Path(__file__).parents[1] / "docs" / "feeds"


def write(folder, text, name="export.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def write_csv(folder, rows, name="export.csv", delimiter=","):
    """Rows as dicts; a column that a row lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return write(folder, buffer.getvalue(), name)


def write_json(folder, document, name="export.json"):
    return write(folder, json.dumps(document), name)


def write_lines(folder, rows):
    return write(folder, "".join(json.dumps(row) + "\n" for row in rows), "export.jsonl")


def read(path, **options):
    """The products by id, and the catalogue."""
    catalog = Catalog.open(path, **options)
    found = list(catalog)
    assert all(isinstance(item, Product) for item in found), found
    return {item.product_id: item for item in found}, catalog


def image_of(product):
    return product.image.rpartition("/")[2]


def views_of(product):
    return [view.rpartition("/")[2] for view in product.further_images]


def role(catalog, product, name):
    return product.columns[getattr(catalog.roles, name)]


def note(catalog, part):
    found = [each for each in catalog.notes if part in each]
    assert len(found) == 1, catalog.notes
    return found[0]


# Shopify

TEE = {
    "Handle": "linen-tee", "Title": "Linen Tee", "Body (HTML)": "<p>Soft <b>linen</b></p>",
    "Vendor": "Norda", "Type": "Tees", "Tags": "linen, summer", "Status": "active",
    "Option1 Name": "Color", "Option1 Value": "Red", "Variant SKU": "LT-RED",
    "Variant Price": "29.00", "Image Src": "red.jpg", "Image Position": "1",
    "Variant Image": "red.jpg",
}  # fmt: skip
SHOPIFY = [
    TEE,
    {"Handle": "linen-tee", "Option1 Value": "Blue", "Variant SKU": "LT-BLU",
     "Variant Price": "29.00", "Image Src": "blue.jpg", "Image Position": "2",
     "Variant Image": "blue.jpg"},
    {"Handle": "linen-tee", "Option1 Value": "Green", "Variant SKU": "LT-GRN",
     "Variant Price": "31.00", "Image Src": "white.jpg", "Image Position": "3",
     "Variant Image": "green.jpg"},
    {"Handle": "linen-tee", "Image Src": "back.jpg", "Image Position": "4"},
    {"Handle": "basic", "Title": "Basic Tee", "Vendor": "Norda", "Option1 Name": "Size",
     "Option1 Value": "S", "Variant Price": "12.00", "Image Src": "black.jpg",
     "Image Position": "1"},
    {"Handle": "basic", "Option1 Value": "M", "Variant Price": "12.00"},
    {"Handle": "basic", "Option1 Value": "L", "Variant Price": "11.00"},
    {"Handle": "mug", "Title": "Mug", "Option1 Name": "Title", "Option1 Value": "Default Title",
     "Variant SKU": "MUG", "Variant Price": "9.00", "Image Src": "mug.jpg", "Image Position": "1",
     "Status": "draft"},
]  # fmt: skip


def test_shopify(tmp_path):
    found, catalog = read(write_csv(tmp_path, SHOPIFY))
    assert list(found) == ["LT-RED", "LT-BLU", "LT-GRN", "basic", "MUG"]
    for product, colour in zip(found.values(), ("Red", "Blue", "Green"), strict=False):
        assert product.caption == "Linen Tee, linen, summer"
        assert image_of(product) == f"{colour.lower()}.jpg"
        assert views_of(product) == ["white.jpg", "back.jpg"]
        assert role(catalog, product, "colour") == colour
        assert role(catalog, product, "brand") == "Norda"
        assert role(catalog, product, "group") == "linen-tee"
        assert role(catalog, product, "description") == "Soft linen"
    basic = found["basic"]
    assert (basic.row, image_of(basic)) == (5, "black.jpg")
    assert role(catalog, basic, "size") == '["S", "M", "L"]'
    assert role(catalog, basic, "price") == 11.0
    assert "Option1 Value" not in catalog.columns
    assert "Title option" not in catalog.columns
    assert note(catalog, "Shopify").startswith("read as a Shopify product export; --format plain")
    assert "row 7" not in note(catalog, "differ in price; the lowest is kept (row 5)")
    assert "row 4" in note(catalog, "1 row only adds a picture")
    assert "'Status: draft'" in note(catalog, "not shown in the shop")


def test_the_columns_of_shopify_since_2024(tmp_path):
    names = {
        "Handle": "URL handle", "Body (HTML)": "Description", "Option1 Name": "Option1 name",
        "Option1 Value": "Option1 value", "Variant SKU": "SKU", "Variant Price": "Price",
        "Image Src": "Product image URL", "Image Position": "Image position",
        "Variant Image": "Variant image URL",
    }  # fmt: skip
    now = [{names.get(name, name): value for name, value in row.items()} for row in SHOPIFY]
    (tmp_path / "old").mkdir()
    before, _ = read(write_csv(tmp_path / "old", SHOPIFY))
    found, _ = read(write_csv(tmp_path, now))
    assert list(found) == list(before)
    assert [image_of(p) for p in found.values()] == [image_of(p) for p in before.values()]
    assert found["LT-BLU"].caption == "Linen Tee, linen, summer"


def test_sizes_of_each_colour_are_one_product_and_sizes_are_in_order(tmp_path):
    rows = [
        {"Handle": "tee", "Option1 Value": size, "Option2 Value": colour, "Variant Price": "5",
         "Variant SKU": f"T-{colour}-{size}", "Variant Image": f"{colour}.jpg",
         "Image Src": f"view{i}.jpg", "Image Position": str(i + 1)}
        for i, (colour, size) in enumerate(itertools.product(("red", "blue"), ("S", "M", "XL")))
    ]  # fmt: skip
    rows[0] |= {"Title": "Tee", "Option1 Name": "Size", "Option2 Name": "Color"}
    found, catalog = read(write_csv(tmp_path, rows))
    assert list(found) == ["T-red-S", "T-blue-S"]
    assert role(catalog, found["T-blue-S"], "size") == '["S", "M", "XL"]'
    assert views_of(found["T-red-S"]) == [f"view{i}.jpg" for i in range(6)]


def test_colours_without_a_picture_of_their_own_are_products_of_their_own(tmp_path):
    rows = [
        {"Handle": "tee", "Title": "Tee", "Option1 Name": "Farbe", "Option1 Value": colour}
        | {"Option2 Name": "Size", "Option2 Value": size, "Variant SKU": f"{colour}-{size}"}
        | {"Variant Price": "9", "Image Src": "a.jpg" if (colour, size) == ("Rot", "S") else ""}
        for colour, size in itertools.product(("Rot", "Blau"), "SM")
    ]
    products, _ = read(write_csv(tmp_path, rows))
    assert list(products) == ["Rot-S", "Blau-S"]
    assert {image_of(product) for product in products.values()} == {"a.jpg"}
    assert {product.columns["Size"] for product in products.values()} == {'["S", "M"]'}


def test_sizes_of_a_colour_share_the_picture_that_one_of_them_names(tmp_path):
    rows = [
        {"Handle": "tee", "Option1 Value": colour, "Option2 Value": size, "Variant Price": "5",
         "Variant SKU": f"{colour}-{size}",
         "Variant Image": f"{colour}.jpg" if f"{colour} {size}" in {"red S", "blue M"} else ""}
        for colour, size in itertools.product(("red", "blue", "grey"), ("S", "M"))
    ]  # fmt: skip
    rows[0] |= {"Title": "Tee", "Option1 Name": "Color", "Option2 Name": "Size",
                "Image Src": "first.jpg", "Image Position": "1"}  # fmt: skip
    found, catalog = read(write_csv(tmp_path, rows))
    assert {name: image_of(product) for name, product in found.items()} == {
        "red-S": "red.jpg", "blue-S": "blue.jpg", "grey-S": "first.jpg"
    }  # fmt: skip
    assert {role(catalog, product, "size") for product in found.values()} == {'["S", "M"]'}


def test_products_of_a_handle_without_skus_are_named_by_their_options(tmp_path):
    rows = [{**row, "Variant SKU": ""} for row in SHOPIFY[:3]]
    found, _ = read(write_csv(tmp_path, rows))
    assert list(found) == ["linen-tee-red", "linen-tee-blue", "linen-tee-green"]


def test_a_sku_that_several_colours_share_is_told_apart_by_their_options(tmp_path):
    rows = [{**row, "Variant SKU": "LT"} for row in SHOPIFY[:3]]
    found, _ = read(write_csv(tmp_path, rows))
    assert list(found) == ["LT-red", "LT-blue", "LT-green"]


def test_an_option_named_like_a_column_gets_a_column_of_its_own(tmp_path):
    rows = [{**TEE, "Option1 Name": "Type", "Option1 Value": "Slim"}]
    found, _ = read(write_csv(tmp_path, rows))
    assert found["LT-RED"].columns["Type"] == "Tees"
    assert found["LT-RED"].columns["Type option"] == "Slim"


def shopify_json(**more):
    return {
        "id": 1001, "title": "Linen Tee", "handle": "linen-tee", "body_html": "<p>Soft</p>",
        "vendor": "Norda", "product_type": "Tees", "tags": ["linen", "summer"],
        "options": [{"name": "Color", "position": 1}, {"name": "Size", "position": 2}],
        "variants": [
            {"id": 1, "sku": "R-S", "price": "29.00", "option1": "Red", "option2": "S",
             "image_id": 11},
            {"id": 2, "sku": "R-M", "price": "29.00", "option1": "Red", "option2": "M",
             "image_id": 11},
            {"id": 3, "sku": "B-S", "price": "19.00", "option1": "Blue", "option2": "S",
             "featured_image": {"id": 12, "src": "blue.jpg"}},
        ],
        "images": [{"id": 11, "src": "red.jpg"}, {"id": 12, "src": "blue.jpg"},
                   {"id": 13, "src": "back.jpg"}],
        **more,
    }  # fmt: skip


def test_shopify_as_json(tmp_path):
    cap = {"id": 1002, "title": "Cap", "variants": [{"id": 4, "sku": "", "price": "9.00",
           "option1": "Default Title"}], "options": [{"name": "Title"}],
           "images": [{"id": 14, "src": "cap.jpg"}], "handle": "cap"}  # fmt: skip
    found, catalog = read(write_json(tmp_path, {"products": [shopify_json(), cap]}))
    assert list(found) == ["R-S", "B-S", "4"]
    red, blue, cap = found.values()
    assert [image_of(p) for p in (red, blue, cap)] == ["red.jpg", "blue.jpg", "cap.jpg"]
    assert views_of(red) == views_of(blue) == ["back.jpg"]
    assert role(catalog, red, "size") == '["S", "M"]'
    assert [role(catalog, p, "price") for p in found.values()] == [29.0, 19.0, 9.0]
    assert role(catalog, blue, "group") == "linen-tee"
    assert blue.caption == "Linen Tee, linen, summer"


def test_an_answer_of_shopifys_graphql(tmp_path):
    node = {
        "id": "gid://shopify/Product/1", "title": "Tee", "handle": "tee", "vendor": "Norda",
        "featuredImage": {"url": "https://x.example/red.jpg"},
        "images": {"edges": [{"node": {"url": "https://x.example/red.jpg"}},
                             {"node": {"url": "https://x.example/back.jpg"}}]},
        "variants": {"edges": [
            {"node": {"sku": f"T-{size}", "price": "9.00", "image": None,
                      "selectedOptions": [{"name": "Size", "value": size}]}}
            for size in "SM"]},
    }  # fmt: skip
    found, catalog = read(write_json(tmp_path, {"data": {"products": {"edges": [{"node": node}]}}}))
    assert list(found) == ["T-S"]
    assert image_of(found["T-S"]) == "red.jpg"
    assert views_of(found["T-S"]) == ["back.jpg"]
    assert role(catalog, found["T-S"], "size") == '["S", "M"]'


def test_shopifys_bulk_export(tmp_path):
    tee, cap = "gid://shopify/Product/1", "gid://shopify/Product/2"
    rows = [
        {"id": tee, "title": "Tee", "vendor": "Norda", "tags": ["soft"]},
        {"id": "gid://shopify/ProductVariant/11", "sku": "T-RED", "price": "9.00",
         "selectedOptions": [{"name": "Color", "value": "Red"}],
         "image": {"url": "https://x.example/red.jpg"}, "__parentId": tee},
        {"id": "gid://shopify/ProductVariant/12", "sku": "T-BLU", "price": "9.50",
         "selectedOptions": [{"name": "Color", "value": "Blue"}],
         "image": {"url": "https://x.example/blue.jpg"}, "__parentId": tee},
        {"id": "gid://shopify/MediaImage/13", "image": {"url": "https://x.example/back.jpg"},
         "__parentId": tee},
        {"id": cap, "title": "Cap"},
        {"url": "https://x.example/cap.jpg", "__parentId": cap},
    ]  # fmt: skip
    found, catalog = read(write_lines(tmp_path, rows))
    assert list(found) == ["T-RED", "T-BLU", cap]
    assert [image_of(p) for p in found.values()] == ["red.jpg", "blue.jpg", "cap.jpg"]
    assert views_of(found["T-BLU"]) == ["back.jpg"]
    assert found["T-BLU"].caption == "Tee, soft"
    assert role(catalog, found["T-RED"], "group") == tee
    assert role(catalog, found["T-RED"], "colour") == "Red"


def test_a_shopify_variant_has_its_products_title(tmp_path):
    tee = "gid://shopify/Product/1"
    rows = [
        {"id": tee, "title": "Tee", "featuredImage": {"url": "tee.jpg"}},
        {"id": "gid://shopify/ProductVariant/11", "title": "Red / S", "sku": "T-RED", "price": "9",
         "selectedOptions": [{"name": "Color", "value": "Red"}], "__parentId": tee},
    ]  # fmt: skip
    for lines in (rows, rows[::-1]):
        found, _ = read(write_lines(tmp_path, lines))
        assert (found["T-RED"].caption, image_of(found["T-RED"])) == ("Tee", "tee.jpg")
    found, _ = read(write_lines(tmp_path, rows[:1]))
    assert image_of(found[tee]) == "tee.jpg"
    found, catalog = read(write_lines(tmp_path, rows[1:]))
    assert found["T-RED"].caption == ""
    note(catalog, "1 row names a parent that is not in the table")


def test_products_without_the_row_of_their_title_are_said(tmp_path):
    found, catalog = read(write_csv(tmp_path, [row | {"Title": ""} for row in SHOPIFY[1:3]]))
    assert list(found) == ["LT-BLU", "LT-GRN"]
    assert "2 products have no title" in note(catalog, "(first: row 1)")


# WooCommerce and Magento

WOO = [
    {"ID": "101", "Type": "variable", "SKU": "TEE", "Name": "Tee &amp; Top", "Published": "1",
     "Short description": "<p>Soft</p>", "Regular price": "", "Categories": "Clothing",
     "Images": "red.jpg, back.jpg", "Parent": "", "Attribute 1 name": "Color",
     "Attribute 1 value(s)": "Red, Blue", "Attribute 2 name": "Material",
     "Attribute 2 value(s)": "Cotton"},
    {"ID": "102", "Type": "variation", "SKU": "TEE-R", "Name": "Tee &amp; Top - Red",
     "Published": "1", "Regular price": "29,90", "Images": "", "Parent": "TEE", "Position": "1",
     "Attribute 1 name": "Color", "Attribute 1 value(s)": "Red"},
    {"ID": "103", "Type": "variation", "SKU": "", "Name": "Tee &amp; Top - Blue", "Published": "1",
     "Regular price": "29,90", "Sale price": "19,90", "Images": "blue.jpg", "Parent": "id:101",
     "Position": "2", "Attribute 1 name": "Color", "Attribute 1 value(s)": "Blue"},
    {"ID": "104", "Type": "simple", "SKU": "", "Name": "Cap", "Published": "-1",
     "Regular price": "9,90", "Images": "cap.jpg|side.jpg", "Attribute 1 name": "Size",
     "Attribute 1 value(s)": "S, M"},
]  # fmt: skip


@pytest.mark.parametrize("is_reversed", [False, True])
def test_woocommerce(tmp_path, is_reversed):
    rows = WOO[::-1] if is_reversed else WOO
    found, catalog = read(write_csv(tmp_path, rows))
    assert set(found) == {"TEE-R", "103", "104"}
    red, blue, cap = found["TEE-R"], found["103"], found["104"]
    assert [image_of(p) for p in (red, blue, cap)] == ["red.jpg", "blue.jpg", "cap.jpg"]
    assert views_of(red) == views_of(blue) == ["back.jpg"]
    assert views_of(cap) == ["side.jpg"]
    assert red.caption == "Tee & Top - Red"
    assert role(catalog, blue, "price") == 29.9
    assert role(catalog, blue, "sale_price") == 19.9
    assert {role(catalog, p, "group") for p in (red, blue)} == {"TEE"}
    assert role(catalog, cap, "group") is None
    assert role(catalog, red, "category") == "Clothing"
    assert red.columns["Material"] == "Cotton"
    assert cap.columns["Size"] == '["S", "M"]'
    assert "no product of its own" in note(catalog, "only holds what its variants share")
    assert "Published: -1" in note(catalog, "not shown in the shop")


WOO_NAMES = {
    "de": "ID,Typ,Artikelnummer,Name,Beschreibung,Regulärer Preis,Angebotspreis,Bilder,"
          "Übergeordnetes Produkt,Attribut 1 Name,Attribut 1 Wert(e),Kategorien",
    "fr": "ID,Type,UGS,Nom,Description,Tarif régulier,Tarif promo,Images,Parent,"
          "Nom de l\u2019attribut 1,Valeur(s) de l\u2019attribut 1 ,Catégories",
    "es": "ID,Tipo,SKU,Nombre,Descripción,Precio normal,Precio rebajado,Imágenes,Superior,"
          "Nombre del atributo 1,Valor(es) del atributo 1,Categorías",
    "it": "ID,Tipo,SKU,Nome,Descrizione,Prezzo di listino,Prezzo in offerta,Immagine,Genitore,"
          "Nome dell'attributo 1,Valore dell'attributo 1,Categorie",
    "nl": "ID,Type,Artikelnummer,Naam,Beschrijving,Reguliere prijs,Actieprijs,Afbeeldingen,Hoofd,"
          "Naam eigenschap 1,Waarde eigenschap 1,Categorieën",
}  # fmt: skip


@pytest.mark.parametrize("language", WOO_NAMES)
def test_woocommerce_in_other_languages(tmp_path, language):
    rows = [
        ["1", "variable", "TEE", "Tee", r"Soft.\nWarm: \\n.", "", "", "a.jpg", "", "Color",
         r"Red, Brown\, dark", r"Bags\, belts > Bags"],
        ["2", "variation", "TEE-R", "Tee", "", "29,90", "", "", "TEE", "Color",
         r"Brown\, dark", ""],
    ]  # fmt: skip
    names = WOO_NAMES[language].split(",")
    rows = [dict(zip(names, row, strict=True)) for row in rows]
    found, catalog = read(write_csv(tmp_path, rows))
    assert list(found) == ["TEE-R"]
    tee = found["TEE-R"]
    assert (role(catalog, tee, "price"), image_of(tee)) == (29.9, "a.jpg")
    assert role(catalog, tee, "description") == "Soft.\nWarm: \\n."
    assert role(catalog, tee, "group") == "TEE"
    assert tee.columns["Color"] == "Brown, dark"
    assert role(catalog, tee, "category") == "Bags, belts > Bags"
    assert catalog.roles.sale_price == names[6]


def test_a_blank_column_has_no_role_where_another_has_words(tmp_path):
    rows = [row | {"Short description": "", "Description": "Long"} for row in WOO]
    found, catalog = read(write_csv(tmp_path, rows))
    assert role(catalog, found["TEE-R"], "description") == "Long"


MAGENTO = [
    {"sku": "WS01", "store_view_code": "", "product_type": "configurable", "name": "Micro Tee",
     "description": "<p>Long</p>", "categories": "Default/Women", "price": "29.00",
     "base_image": "/m/parent.jpg", "product_online": "1",
     "configurable_variations": "sku=WS01-RED,color=Red,size=S|sku=WS01-BLUE,color=Blue,size=S"},
    {"sku": "WS01-RED", "product_type": "simple", "name": "Micro Tee-Red", "price": "28.00",
     "product_online": "1", "base_image": "/m/red.jpg",
     "additional_images": "/m/red.jpg,/m/back.jpg",
     "additional_attributes": 'color=Red,material="Cotton, linen",size=S'},
    {"sku": "WS01-BLUE", "product_type": "simple", "name": "Micro Tee-Blue", "price": "28.00",
     "base_image": "/m/blue.jpg", "product_online": "1",
     "additional_attributes": "color=Blue,material=Cotton|Linen"},
    {"sku": "WS01-RED", "store_view_code": "de", "name": "Mikro-Shirt-Rot"},
    {"sku": "CAP", "product_type": "simple", "name": "Cap", "base_image": "/c/cap.jpg",
     "product_online": "1", "price": "9.00"},
]  # fmt: skip


def test_magento(tmp_path):
    found, catalog = read(write_csv(tmp_path, MAGENTO))
    assert list(found) == ["WS01-RED", "WS01-BLUE", "CAP"]
    red, blue, _ = found.values()
    assert (red.caption, image_of(red)) == ("Micro Tee-Red", "red.jpg")
    assert views_of(red) == ["back.jpg", "parent.jpg"]
    assert red.columns["material"] == "Cotton, linen"
    assert blue.columns["material"] == '["Cotton", "Linen"]'
    assert role(catalog, blue, "group") == "WS01"
    assert role(catalog, blue, "description") == "Long"
    assert "--locale takes its words" in note(catalog, "another view")
    found, catalog = read(write_csv(tmp_path, MAGENTO[2:]))
    assert found["WS01-RED"].caption == "Mikro-Shirt-Rot"
    note(catalog, "1 row translates a product that is not in the table and is kept as a product")
    german, catalog = read(write_csv(tmp_path, MAGENTO), locale="de_DE")
    assert german["WS01-RED"].caption == "Mikro-Shirt-Rot"
    assert german["WS01-BLUE"].caption == "Micro Tee-Blue"
    assert "replaces the words" in note(catalog, "chosen view")


VIEWS = [
    *MAGENTO,
    {"sku": "WS01-BLUE", "store_view_code": "default", "name": "Micro Shirt"},
    {"sku": "WS01-BLUE", "store_view_code": "de", "name": "Mikro-Shirt"},
    {"sku": "WS01", "store_view_code": "base", "description": "Longer"},
    {"sku": "SOCK", "store_view_code": "fr", "name": "Chaussette"},
    {"sku": "SOCK", "store_view_code": "default", "name": "Sock", "base_image": "/s/sock.jpg"},
]


def test_the_picture_is_in_the_next_column_where_its_own_is_blank(tmp_path):
    rows = [MAGENTO[4] | {"base_image": "", "small_image": "/c/small.jpg"}, MAGENTO[2]]
    found, _ = read(write_csv(tmp_path, rows))
    assert [image_of(product) for product in found.values()] == ["small.jpg", "blue.jpg"]


def test_the_chosen_view_comes_before_others_of_its_language(tmp_path):
    words = {"de_AT": "Haube", "de_DE": "Mütze", "default": "Hat", "de": "Kappe"}
    rows = [{"sku": "CAP", "store_view_code": view, "name": name} for view, name in words.items()]
    for table in ([MAGENTO[4], *rows], [*rows[::-1], MAGENTO[4]]):
        for locale, word in {"de_DE": "Mütze", "de_AT": "Haube", "fr": "Hat"}.items():
            found, _ = read(write_csv(tmp_path, table), locale=locale)
            assert found["CAP"].caption == word


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_rows_of_the_default_view_belong_to_their_product(tmp_path, order):
    rows = [
        {"sku": "CAP", "product_type": "simple", "name": "Cap", "price": "9.00",
         "base_image": "cap.jpg", "small_image": "no_selection", "url_key": "cap"},
        {"sku": "CAP", "store_view_code": "default", "url_key": "hat"},
        {"sku": "CAP", "store_view_code": "fr", "name": "Casquette", "price": "10.00"},
    ]  # fmt: skip
    rows = [rows[i] for i in order]
    found, catalog = read(write_csv(tmp_path, rows))
    cap = found["CAP"]
    assert (cap.caption, image_of(cap), role(catalog, cap, "price")) == ("Cap", "cap.jpg", 9.0)
    assert (cap.columns["url_key"], catalog.columns.get("small_image")) == ("hat", None)
    note(catalog, "default view")
    found, catalog = read(write_csv(tmp_path, rows), locale="fr")
    assert (found["CAP"].caption, found["CAP"].columns["url_key"]) == ("Casquette", "hat")


def test_an_export_of_one_view_alone(tmp_path):
    rows = [
        row | {"store_view_code": "default"} for row in MAGENTO if not row.get("store_view_code")
    ]
    found, _ = read(write_csv(tmp_path, rows))
    assert list(found) == ["WS01-RED", "WS01-BLUE", "CAP"]
    assert found["WS01-RED"].caption == "Micro Tee-Red"


# Feeds


@pytest.mark.parametrize("style", ["g:{}", "{}", "spaces", "api", "v1"])
def test_google_merchant(tmp_path, style):
    rows = [
        {"id": "00123", "title": "Red tee", "image_link": "red.jpg", "price": "19.99 EUR",
         "additional_image_link": "back.jpg,side.jpg", "sale_price": "14.99 EUR", "brand": "Norda",
         "item_group_id": "G1", "color": "Red", "size": "M", "link": "https://x.example/1"},
        {"id": "00124", "title": "Red tee", "image_link": "red.jpg", "price": "19.99 EUR",
         "additional_image_link": "back.jpg,side.jpg", "sale_price": "", "brand": "Norda",
         "item_group_id": "G1", "color": "Red", "size": "S", "link": "https://x.example/1"},
        {"id": "1E5", "title": "Blue tee", "image_link": "blue.jpg", "price": "1,299.00 EUR",
         "additional_image_link": "", "sale_price": "", "brand": "Norda", "item_group_id": "G1",
         "color": "Blue", "size": "M", "link": "https://x.example/2"},
    ]  # fmt: skip
    if style in {"api", "v1"}:
        prefix = {"api": "attributes", "v1": "productAttributes"}[style]
        rows = [
            {"name": f"accounts/1/products/{row['id']}", "offerId": row["id"],
             prefix: {"title": row["title"], "imageLink": row["image_link"],
                      "itemGroupId": row["item_group_id"], "brand": row["brand"],
                      "color": row["color"], "size": row["size"],
                      "additionalImageLinks": row["additional_image_link"].split(","),
                      "price": {"amountMicros": str(round(float(row["price"][:-4].replace(",", ""))
                                                    * 1_000_000)), "currencyCode": "EUR"}}}
            for row in rows
        ]  # fmt: skip
        path = write_json(tmp_path, {"products": rows})
    else:
        names = (lambda n: n.replace("_", " ")) if style == "spaces" else style.format
        path = write_csv(tmp_path, [{names(k): v for k, v in row.items()} for row in rows],
                         "feed.tsv", "\t")  # fmt: skip
    found, catalog = read(path)
    assert list(found) == ["00124", "1E5"]
    red, blue = found.values()
    assert role(catalog, red, "price") == 19.99
    assert role(catalog, blue, "price") == 1299.0
    assert role(catalog, red, "currency") == "EUR"
    assert role(catalog, red, "size") == '["S", "M"]'
    assert role(catalog, red, "group") == "G1"
    assert (image_of(red), views_of(red)) == ("red.jpg", ["back.jpg", "side.jpg"])
    assert catalog.roles.size in {"size"}
    note(catalog, "Google Merchant")


def test_meta_and_its_comment_row(tmp_path):
    text = (
        '"# Required | A unique ID","# Required | A title","# Required | A picture","# Optional"\n'
        "id,title,image_link,fb_product_category\nA1,Red tee,red.jpg,Clothing\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert (found["A1"].caption, image_of(found["A1"])) == ("Red tee", "red.jpg")
    note(catalog, "Meta")


def test_schema_org(tmp_path):
    rows = [
        {"@type": "Product", "sku": "R1", "name": "Red tee", "brand": {"name": "Norda"},
         "image": ["https://x.example/red.jpg", "https://x.example/back.jpg"],
         "offers": {"@type": "Offer", "price": "19.99", "priceCurrency": "EUR"}, "color": "Red"},
        {"@type": "Product", "sku": "C1", "name": "Cap",
         "image": {"@type": "ImageObject", "contentUrl": "https://x.example/cap.jpg"},
         "offers": {"price": 9, "priceCurrency": "EUR"}},
        {"@type": "ProductGroup", "productGroupID": "PANTS", "name": "Pants",
         "hasVariant": [
             {"sku": f"P-{size}", "size": size, "image": "https://x.example/pants.jpg",
              "offers": {"price": 39, "priceCurrency": "EUR"}} for size in ("30", "32")]},
    ]  # fmt: skip
    found, catalog = read(write_json(tmp_path, {"@context": "https://schema.org", "@graph": rows}))
    assert list(found) == ["R1", "C1", "P-30"]
    assert [image_of(p) for p in found.values()] == ["red.jpg", "cap.jpg", "pants.jpg"]
    assert views_of(found["R1"]) == ["back.jpg"]
    assert [p.caption for p in found.values()] == ["Red tee", "Cap", "Pants"]
    assert role(catalog, found["R1"], "brand") == "Norda"
    assert [role(catalog, p, "price") for p in found.values()] == [19.99, 9.0, 39.0]
    assert role(catalog, found["P-30"], "size") == '["30", "32"]'


def test_what_is_no_product_of_schema_org_is_left_out(tmp_path):
    offer = {"priceSpecification": [{"price": "19", "priceCurrency": "EUR"}]}
    rows = [
        {"@type": "WebPage", "@id": "https://x.example/", "name": "Shop"},
        {"@type": ["Product", "Thing"], "sku": "R1", "name": "Red tee", "offers": [offer, offer]},
        {"@type": "http://schema.org/Product", "sku": "C1", "name": "Cap", "offers": offer},
        {"@type": "Organization", "name": "Norda"},
    ]
    found, catalog = read(write_json(tmp_path, {"@graph": rows}))
    assert list(found) == ["R1", "C1"]
    assert [role(catalog, p, "price") for p in found.values()] == [19, 19]
    assert catalog.roles.category is None
    assert "2 rows are no products" in note(catalog, "(first: row 1, '@type: WebPage')")
    note(catalog, "1 row lists several of a kind, of which the first is taken (row 2, 'offers')")
    plain = [{"type": "Tee", "name": "Red tee", "sku": "R1", "image": "a.jpg"}]
    _, catalog = read(write_csv(tmp_path, plain))
    assert (catalog.format, catalog.roles.category) == (None, "type")


def test_offers_as_lists_and_content_api_ids(tmp_path):
    rows = [
        {"@type": "Product", "sku": "T", "name": "Tee", "image": "a.jpg", "brand": "Norda",
         "offers": [{"price": "10", "priceCurrency": "EUR"}]},
        {"@type": "Product", "productID": "C", "name": "Cap", "image": "c.jpg",
         "brand": {"name": "Estuary"}, "offers": {"lowPrice": 5, "priceCurrency": "EUR"}},
    ]  # fmt: skip
    found, catalog = read(write_lines(tmp_path, rows))
    assert [role(catalog, p, "price") for p in found.values()] == [10.0, 5.0]
    assert [role(catalog, p, "brand") for p in found.values()] == ["Norda", "Estuary"]
    rows = [
        {"id": f"online:en:US:{i}", "offerId": str(i), "title": "Tee", "imageLink": "a.jpg",
         "price": {"value": "9.00", "currency": "EUR"}, "itemGroupId": "G", "sizes": [size]}
        for i, size in enumerate("MS")
    ]  # fmt: skip
    found, catalog = read(write_json(tmp_path, {"resources": rows}))
    assert list(found) == ["1"]
    assert role(catalog, found["1"], "size") == '["S", "M"]'


def test_variants_of_any_json(tmp_path):
    tee = {"sku": "A", "name": "Tee", "images": ["a.jpg", "b.jpg"], "price": 10,
           "variants": [{"sku": "A-M", "size": "M"}, {"sku": "A-S", "size": "S"}]}  # fmt: skip
    cap = {"sku": "B", "name": "Cap", "images": ["c.jpg"], "price": 5, "variants": []}
    found, catalog = read(write_json(tmp_path, {"items": [tee, cap]}))
    assert list(found) == ["A-S", "B"]
    assert views_of(found["A-S"]) == ["b.jpg"]
    assert role(catalog, found["A-S"], "size") == '["S", "M"]'
    assert [role(catalog, p, "price") for p in found.values()] == [10, 5]


def test_google_merchant_as_xml(tmp_path):
    items = "".join(
        f"<item><g:id>{size}</g:id><title>Tee</title><g:image_link>a.jpg</g:image_link>"
        "<g:additional_image_link>b.jpg</g:additional_image_link>"
        "<g:additional_image_link>c.jpg</g:additional_image_link>"
        f"<g:price>9.50 EUR</g:price><g:item_group_id>G</g:item_group_id><g:size>{size}</g:size>"
        "</item>"
        for size in ("M", "S")
    )
    feed = (
        '<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel>'
        f"<title>Shop</title>{items}</channel></rss>"
    )
    found, catalog = read(write(tmp_path, feed, "feed.xml"))
    assert list(found) == ["S"]
    assert views_of(found["S"]) == ["b.jpg", "c.jpg"]
    assert role(catalog, found["S"], "size") == '["S", "M"]'


# Shop systems whose rows lie in other ways


def test_prestashop(tmp_path):
    text = (
        "Product ID;Active (0/1);Name *;Categories (x,y,z...);Price tax included;Reference #;"
        "Manufacturer;Image URLs (x,y,z...)\n"
        "1;1;Linen tee;Home,Tees;19,90;LT-1;Norda;https://x.example/1.jpg,https://x.example/2.jpg\n"
        "2;0;Cap;Home,Caps;9,90;;Norda;https://x.example/3.jpg\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert list(found) == ["LT-1", "2"]
    assert (image_of(found["LT-1"]), views_of(found["LT-1"])) == ("1.jpg", ["2.jpg"])
    assert role(catalog, found["LT-1"], "price") == 19.9
    assert "'Active (0/1): 0'" in note(catalog, "not shown in the shop")


def test_bigcommerce(tmp_path):
    text = (
        "Item,ID,Name,Type,SKU,Options,Price,Sale Price,Brand ID,Categories,Description,"
        "Variant Image URL,Internal Image URL (Export),Image Sort Order\n"
        "Product,77,Linen tee,physical,LT,,29.00,,5,Tees,<p>Soft</p>,,,\n"
        "Variant,801,,,LT-RED,Type=Dropdown|Name=Color|Value=Red|Type=Dropdown|Name=Size|Value=S,"
        "29.00,,,,,https://x.example/red.jpg,,\n"
        "Variant,802,,,LT-BLU,Type=Dropdown|Name=Color|Value=Blue|Type=Dropdown|Name=Size|Value=S,"
        "31.00,,,,,,,\n"
        "Image,901,,,,,,,,,,,https://x.example/side.jpg,1\n"
        "Image,900,,,,,,,,,,,https://x.example/front.jpg,0\n"
        "Product,78,Cap,physical,CAP,,9.00,,5,Caps,,,,\n"
        "Image,902,,,,,,,,,,,https://x.example/cap.jpg,0\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert list(found) == ["LT-RED", "LT-BLU", "CAP"]
    assert [image_of(p) for p in found.values()] == ["red.jpg", "front.jpg", "cap.jpg"]
    assert views_of(found["LT-RED"]) == ["side.jpg"]
    assert found["LT-BLU"].caption == "Linen tee"
    assert role(catalog, found["LT-BLU"], "colour") == "Blue"
    assert role(catalog, found["LT-BLU"], "group") == "LT"
    assert role(catalog, found["LT-BLU"], "price") == 31.0


def test_bigcommerce_before_its_new_export(tmp_path):
    text = (
        "Item Type,Product ID,Product Name,Product Code/SKU,Brand Name,Price,Category,"
        "Product Image File - 1,Product Image File - 2,Option Set\n"
        "Product,77,Linen tee,LT,Norda,29.00,Tees,a/red.jpg,a/back.jpg,Sizes\n"
        '  SKU,801,"[S]Size=S,[C]Color=Red",LT-S,,,,,,\n'
        '  SKU,802,"[S]Size=M,[C]Color=Red",LT-M,,,,,,\n'
        "  Rule,803,[S]Size=M,,,,,,,\n"
        "Product,78,Cap,CAP,Norda,9.00,Caps,a/cap.jpg,,\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert list(found) == ["LT-S", "CAP"]
    tee = found["LT-S"]
    assert (tee.caption, image_of(tee), views_of(tee)) == ("Linen tee", "red.jpg", ["back.jpg"])
    assert role(catalog, tee, "size") == '["S", "M"]'
    assert role(catalog, tee, "price") == 29.0
    assert "'Item Type: Rule'" in note(catalog, "is no product and is left out")


def test_shopware(tmp_path):
    text = (
        "id;parent_id;product_number;active;stock;name;price_gross;cover_media_url;"
        "manufacturer_name;categories\n"
        "0a;;SW1;1;0;Leinenshirt;29,95;https://x.example/p.jpg;Norda;Shirts\n"
        "0b;0a;SW1.1;1;5;;;https://x.example/rot.jpg;;\n"
        "0c;0a;SW1.2;1;5;;19,95;;;\n"
        "0d;;SW2;0;5;Mütze;9,95;https://x.example/m.jpg;Norda;\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert list(found) == ["SW1.1", "SW1.2", "SW2"]
    assert [image_of(p) for p in found.values()] == ["rot.jpg", "p.jpg", "m.jpg"]
    assert found["SW1.1"].caption == "Leinenshirt"
    assert [role(catalog, p, "price") for p in found.values()] == [29.95, 19.95, 9.95]
    assert role(catalog, found["SW1.1"], "brand") == "Norda"


@pytest.mark.parametrize("times", [1, 2])
def test_shopware_5(tmp_path, times):
    text = (
        "SW3;SW3;Jeans;Norda;89,95;1;Größe: W30;a.jpg|b.jpg\n"
        "SW3.1;SW3;Jeans;Norda;79,95;1;Größe: W32;a.jpg|b.jpg\n"
        "SW4;SW4;Gürtel;Acme;1029,95;1;;c.jpg\n"
    )
    names = "ordernumber;mainnumber;name;supplier;price_EK;active;configuratorOptions;imageUrl\n"
    found, catalog = read(write(tmp_path, names + text * times))
    assert list(found) == ["SW3", "SW4"]
    jeans = found["SW3"]
    assert (role(catalog, jeans, "price"), role(catalog, jeans, "brand")) == (79.95, "Norda")
    assert (image_of(jeans), views_of(jeans)) == ("a.jpg", ["b.jpg"])
    assert jeans.columns["Größe"] == '["W30", "W32"]'


def test_prestashops_webservice(tmp_path):
    text = '<prestashop xmlns:x="http://www.w3.org/1999/xlink"><products>{}</products></prestashop>'
    product = (
        '<product><id>{0}</id><id_default_image x:href="https://x.example/{0}">{0}'
        "</id_default_image><reference>demo_{0}</reference><price>23.900000</price><active>1"
        '</active><name><language id="1">Tee {0}</language><language id="2">Maillot</language>'
        "</name></product>"
    )
    text = text.format("".join(map(product.format, (1, 2))))
    found, catalog = read(write(tmp_path, text, "products.xml"))
    assert [p.caption for p in found.values()] == ["Tee 1", "Tee 2"]
    assert (image_of(found["demo_2"]), role(catalog, found["demo_2"], "price")) == ("2", 23.9)
    note(catalog, "PrestaShop webservice")


@pytest.mark.parametrize("zero", ["0", "0.00", "0,00 €", 0, 0.0])
def test_a_sale_price_of_0_is_none(tmp_path, zero):
    names = ("id", "title", "image", "price", "sale_price")
    rows = [("A", "Tee", "a.jpg", "10", zero), ("B", "Cap", "b.jpg", "0", "5")]
    rows = [dict(zip(names, row, strict=True)) for row in rows]
    write_table = write_csv if isinstance(zero, str) else write_json
    found, catalog = read(write_table(tmp_path, rows))
    assert [role(catalog, p, "sale_price") for p in found.values()] == [None, 5]
    assert [role(catalog, p, "price") for p in found.values()] == [10, 0]
    note(catalog, "column 'sale_price': 1 value of 0 says that there is no sale price")
    rows = [
        {"Item": "Product", "Name": "Tee", "SKU": "T", "Price": "9", "Sale Price": "0"},
        {"Item": "Variant", "SKU": "T-S", "Options": "Name=Size|Value=S", "Price": "12",
         "Variant Image URL": "a.jpg", "Sale Price": "0"},
        {"Item": "Variant", "SKU": "T-M", "Options": "Name=Size|Value=M", "Price": "10",
         "Variant Image URL": "a.jpg", "Sale Price": "0"},
    ]  # fmt: skip
    found, catalog = read(write_csv(tmp_path, rows))
    assert [role(catalog, p, "price") for p in found.values()] == [10]
    assert set(catalog.columns).isdisjoint({"Sale Price"})


def test_squarespace(tmp_path):
    text = (
        "Product ID [Non Editable],Variant ID [Non Editable],Product Type [Non Editable],"
        "Product Page,Product URL,Title,Description,SKU,Option Name 1,Option Value 1,Price,"
        "Sale Price,On Sale,Stock,Categories,Tags,Visible,Hosted Image URLs\n"
        "p1,v1,PHYSICAL,shop,tee,Linen tee,<p>Soft</p>,SQ1,Size,S,29,19,Yes,5,Tees,linen,Yes,"
        "https://x.example/1.jpg https://x.example/2.jpg\n"
        ",v2,,,,,,SQ2,Size,M,29,19,Yes,5,,,,\n"
        "p2,v3,PHYSICAL,shop,cap,Cap,,SQ3,,,9,8,No,1,Caps,,No,https://x.example/3.jpg\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert list(found) == ["SQ1", "SQ3"]
    tee = found["SQ1"]
    assert (image_of(tee), views_of(tee)) == ("1.jpg", ["2.jpg"])
    assert role(catalog, tee, "size") == '["S", "M"]'
    assert (role(catalog, tee, "price"), role(catalog, tee, "sale_price")) == (29, 19)
    assert role(catalog, found["SQ3"], "sale_price") is None
    assert "1 row is not on sale" in note(catalog, "(row 3, '8')")


def test_wix(tmp_path):
    text = (
        "handleId,fieldType,name,description,productImageUrl,collection,sku,price,visible,"
        "inventory,productOptionName1,productOptionType1,productOptionDescription1\n"
        "p1,Product,Linen tee,<p>Soft</p>,a.jpg;b.jpg,Tees,TEE,20,true,,Size,DROP_DOWN,S;M\n"
        "p1,Variant,,,,,TEE-S,,,4,,,S\n"
        "p1,Variant,,,,,TEE-M,,,2,,,M\n"
        "p2,Product,Cap,,c.jpg,Caps,,9,false,1,,,\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert list(found) == ["TEE-S", "p2"]
    tee = found["TEE-S"]
    assert (tee.caption, image_of(tee), views_of(tee)) == ("Linen tee", "a.jpg", ["b.jpg"])
    assert role(catalog, tee, "size") == '["S", "M"]'
    assert role(catalog, tee, "price") == 20
    assert "2 products name their pictures without a folder" in note(catalog, "wixstatic.com")


@pytest.mark.parametrize("times", [1, 2])
def test_the_pictures_of_wix_since_2025_are_further_views(tmp_path, times):
    text = (
        "bag,PRODUCT,Bag,red.jpg,20,,Size,S;L\nbag,MEDIA,,blue.jpg,,,,\n"
        "bag,VARIANT,,,20,BAG-S,Size,S\nbag,VARIANT,,,24,BAG-L,Size,L\n"
    )
    names = "handle,fieldType,name,media,price,sku,productOptionName1,productOptionChoices1\n"
    found, catalog = read(write(tmp_path, names + text * times))
    assert list(found) == ["BAG-S"]
    bag = found["BAG-S"]
    assert (image_of(bag), views_of(bag)) == ("red.jpg", ["blue.jpg"])
    assert role(catalog, bag, "size") == '["S", "L"]'


def test_etsy(tmp_path):
    text = (
        "TITLE,DESCRIPTION,PRICE,CURRENCY_CODE,QUANTITY,TAGS,MATERIALS,IMAGE1,IMAGE2,IMAGE3,"
        "VARIATION 1 TYPE,VARIATION 1 NAME,VARIATION 1 VALUES,SKU\n"
        'Linen tee,Soft,29.00,EUR,3,"linen,tee",linen,a.jpg,b.jpg,,Size,Size,"S,M",E1\n'
        "Cap,Warm,9.00,EUR,1,,,c.jpg,,,,,,\n"
    )
    found, catalog = read(write(tmp_path, text))
    assert list(found) == ["E1", "Cap"]
    tee = found["E1"]
    assert (image_of(tee), views_of(tee)) == ("a.jpg", ["b.jpg"])
    assert role(catalog, tee, "size") == '["S", "M"]'
    assert role(catalog, tee, "currency") == "EUR"


@pytest.mark.parametrize("is_new", [False, True])
def test_amazons_flat_files(tmp_path, is_new):
    names = (
        "item_sku,item_name,parent_child,parent_sku,variation_theme,color_name,size_name,"
        "standard_price,main_image_url,other_image_url1,brand_name"
    )
    if is_new:
        names = (
            "contribution_sku#1.value,item_name[marketplace_id=A1][language_tag=de]#1.value,"
            "parentage_level[marketplace_id=A1]#1.value,"
            "child_parent_sku_relationship[marketplace_id=A1]#1.parent_sku,"
            "variation_theme#1.name,color[language_tag=de]#1.value,size#1.value,"
            "purchasable_offer[marketplace_id=A1]#1.our_price#1.schedule#1.value_with_tax,"
            "main_product_image_locator[marketplace_id=A1]#1.media_location,"
            "other_product_image_locator_1[marketplace_id=A1]#1.media_location,brand#1.value"
        )
    rows = (
        "TEE,Linen tee,Parent,,SizeColor,,,,https://x.example/p.jpg,,Norda\n"
        "TEE-S,Linen tee Red S,Child,TEE,SizeColor,Red,S,29.00,https://x.example/red.jpg,"
        "https://x.example/back.jpg,Norda\n"
        "TEE-M,Linen tee Red M,Child,TEE,SizeColor,Red,M,29.00,https://x.example/red.jpg,"
        "https://x.example/back.jpg,Norda\n"
        "CAP,Cap,,,,Blue,,9.00,https://x.example/cap.jpg,,Norda\n"
    )
    found, catalog = read(write(tmp_path, f"{names}\n{rows}"))
    assert list(found) == ["TEE-S", "CAP"]
    tee = found["TEE-S"]
    assert (tee.caption, image_of(tee)) == ("Linen tee Red S", "red.jpg")
    assert views_of(tee) == ["back.jpg", "p.jpg"]
    assert role(catalog, tee, "size") == '["S", "M"]'
    assert role(catalog, tee, "colour") == "Red"
    assert role(catalog, tee, "group") == "TEE"
    assert role(catalog, tee, "price") == 29.0


def test_kaggle_and_hugging_face(tmp_path):
    kaggle = (
        "id,gender,masterCategory,articleType,baseColour,productDisplayName\n7,Men,A,Tee,Red,T\n"
    )
    found, catalog = read(write(tmp_path, kaggle), images=tmp_path)
    assert (found["7"].caption, role(catalog, found["7"], "colour")) == ("T", "Red")
    note(catalog, "Kaggle")
    rows = [{"image": {"path": "a.jpg"}, "text": "red tee", "id": "a"}]
    found, catalog = read(write_lines(tmp_path, rows))
    assert (found["a"].caption, image_of(found["a"])) == ("red tee", "a.jpg")


# What is broken


def test_variants_without_a_parent_are_kept_and_said(tmp_path):
    found, catalog = read(write_csv(tmp_path, WOO[1:]))
    assert set(found) == {"TEE-R", "103", "104"}
    assert "2 rows name a parent that is not in the table" in note(catalog, "'TEE'")


def test_two_parents_of_one_id_cost_the_second(tmp_path):
    items = list(Catalog.open(write_csv(tmp_path, [*WOO, WOO[0] | {"ID": "200"}])))
    (reject,) = (item for item in items if isinstance(item, Reject))
    assert (reject.row, reject.product_id) == (5, None)
    assert reject.reason == "the id 'TEE' is a duplicate of row 1; give each product its own"
    assert len(items) == 4


def test_parents_in_a_circle_are_rejected_by_row(tmp_path):
    circle = [WOO[1] | {"SKU": a, "ID": a, "Parent": b} for a, b in ("AB", "BC", "CA")]
    items = list(Catalog.open(write_csv(tmp_path, [*WOO, *circle])))
    rejects = [item for item in items if isinstance(item, Reject)]
    assert [reject.row for reject in rejects] == [5, 6, 7]
    assert "circle; mend the column 'Parent'" in rejects[0].reason
    assert len(items) == 6


def test_half_a_feed(tmp_path):
    found, _ = read(
        write_csv(tmp_path, SHOPIFY[1:4]), columns={"title": "Handle"}, format="shopify"
    )
    assert list(found) == ["LT-BLU", "LT-GRN"]
    assert views_of(found["LT-BLU"]) == ["white.jpg", "back.jpg"]
    found, _ = read(write_csv(tmp_path, WOO[:1]))
    assert list(found) == ["TEE"]


def test_a_broken_row_costs_itself(tmp_path):
    path = write_csv(tmp_path, SHOPIFY)
    path.write_text(path.read_text("utf-8") + "linen-tee,too,short\n", "utf-8")
    items = list(Catalog.open(path))
    assert [item.row for item in items if isinstance(item, Reject)] == [9]
    assert len(items) == 6


def test_a_group_of_ten_thousand_variants(tmp_path):
    rows = [
        {"Handle": "tee", "Option1 Value": str(i), "Variant SKU": f"T{i:05}", "Variant Price": "5",
         "Variant Image": f"{i % 3}.jpg"}
        for i in range(10_000)
    ]  # fmt: skip
    rows[0] |= {"Title": "Tee", "Option1 Name": "Size"}
    found, catalog = read(write_csv(tmp_path, rows))
    assert list(found) == ["T00000", "T00001", "T00002"]
    assert len(json.loads(role(catalog, found["T00001"], "size"))) == 3333


def test_a_group_that_is_too_large_is_not_one(tmp_path, monkeypatch):
    monkeypatch.setattr("fashionclip.catalog.feeds.spool.MAX_GROUP_ROWS", 3)
    found, catalog = read(write_csv(tmp_path, SHOPIFY))
    assert len(found) == 6
    assert note(catalog, "kept as products of their own").startswith("4 rows are of groups")


# Formats


def test_a_format_is_chosen_by_name(tmp_path):
    path = write_csv(tmp_path, SHOPIFY)
    plain = Catalog.open(path, format="plain")
    assert plain.len_hint == 8
    assert "Option1 Value" in plain.columns
    with pytest.raises(
        CatalogError, match=r"no format 'shopfy' \(did you mean 'shopify'\?\); there"
    ):
        Catalog.open(path, format="shopfy")
    with pytest.raises(
        CatalogError, match=r"not a Wix product export: that has the columns 'handl"
    ):
        Catalog.open(write(tmp_path, "a,b\n1,2\n"), format="wix")


def test_a_format_of_ones_own(tmp_path):
    rules = write(
        tmp_path,
        """
        title = "Till export"
        drop = ["^till_"]
        [header]
        all = ["plu", "wording"]
        [roles]
        id = ["plu"]
        title = ["wording"]
        image = ["shot"]
        [variants]
        group = ["model"]
        [options]
        columns = ["cut"]
        """,
        "till.toml",
    )
    table = "till_plu,till_wording,till_shot,till_model,till_cut\n1,Tee,a.jpg,M,S\n2,,a.jpg,M,L\n"
    found, catalog = read(write(tmp_path, table), format=str(rules))
    assert (list(found), found["1"].columns["cut"]) == (["1"], '["S", "L"]')
    note(catalog, "read as a Till export")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 1", "till.toml: title: Input should be a valid string"),
        ('title = "a"\nheader.all = []\nheadr = 1', "headr: Extra inputs are not permitted"),
        ("title = ", "cannot be read as a format"),
        ('title = "a"\nheader.all = []\nroles.colr = ["a"]', "roles.colr: no such role; there are"),
    ],
)
def test_a_wrong_format_says_where(tmp_path, text, message):
    write(tmp_path, text, "till.toml")
    with pytest.raises(CatalogError, match=message) as caught:
        Catalog.open(write(tmp_path, "id,title\n1,a\n"), format=str(tmp_path / "till.toml"))
    assert "\n" not in str(caught.value)


def test_every_system_has_a_name_a_title_and_columns():
    feeds = known_feeds()
    assert len({feed.name for feed in feeds}) == len({feed.title for feed in feeds}) == len(feeds)
    assert all(feed.header.all for feed in feeds)


def test_dotted_names_and_other_languages_have_roles(tmp_path):
    text = "artikelnr;bezeichnung;bild;preis;marke;farbe;größe\n1;Hemd;a.jpg;9,90;Norda;rot;M\n"
    found, catalog = read(write(tmp_path, text))
    assert [role(catalog, found["1"], n) for n in ("brand", "colour", "size")] == [
        "Norda",
        "rot",
        "M",
    ]
    row = {"product": {"id": "1", "name": "Tee", "brand": {"name": "Norda"},
                       "image": {"url": "a.jpg"}},
           "seller": {"name": "Shop", "id": "9"}, "offers": {"price": 9.5}}  # fmt: skip
    other = {"product": {"id": "2", "name": "Cap"}}
    found, catalog = read(write_lines(tmp_path, [row, other]))
    assert (found["1"].caption, image_of(found["1"])) == ("Tee", "a.jpg")
    assert (role(catalog, found["1"], "brand"), role(catalog, found["1"], "price")) == (
        "Norda",
        9.5,
    )


# What holds for every feed


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.csv")), ids=lambda path: path.stem)
def test_the_rows_of_every_system_come_in_any_order(tmp_path, path):
    text = path.read_text(encoding="utf-8-sig")
    delimiter = max(",;", key=text.partition("\n")[0].count)
    rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    before = contents(write_csv(tmp_path, rows))
    if path.stem not in {"bigcommerce", "squarespace", "meta"}:  # whose order has a meaning
        for seed in range(3):
            random.Random(seed).shuffle(rows)
            assert contents(write_csv(tmp_path, rows)) == before


@pytest.mark.parametrize("text", ['color=Red,material="Cotton, linen",size=S'])
def test_packed_options(text):
    assert dict(unpack(text)) == {"color": "Red", "material": "Cotton, linen", "size": "S"}


@pytest.mark.parametrize("text", [
    "Type=Swatch|Name=Color|Value=RedType=Rectangle|Name=Size|Value=S",
    "Type=Swatch|Name=Color|Value=Red[#ff0000|#aa0000]Type=Rectangle|Name=Size|Value=S",
    "Type=Swatch|Name=Color|Value=Red[#ff0000]|Type=Rectangle|Name=Size|Value=S",
])  # fmt: skip
def test_options_of_bigcommerce(tmp_path, text):
    rows = [
        {"Item": "Product", "Name": "Tee", "SKU": "T", "Options": "", "Variant Image URL": ""},
        {"Item": "Variant", "SKU": "T-R", "Options": text, "Variant Image URL": "a.jpg"},
    ]
    found, _ = read(write_csv(tmp_path, rows))
    assert (found["T-R"].columns["Color"], found["T-R"].columns["Size"]) == ("Red", "S")
    rows = [
        {"Item Type": "Product", "Product ID": "1", "Product Name": "Tee", "Product Code/SKU": "T"},
        {"Item Type": "  SKU", "Product Name": "[S]Size=S,[CS]Color=Red:#ff0000",
         "Product Code/SKU": "T-R"},
    ]  # fmt: skip
    found, _ = read(write_csv(tmp_path, rows))
    assert (found["T-R"].columns["Color"], found["T-R"].columns["Size"]) == ("Red", "S")


def test_sizes_come_in_order():
    sizes = ["XXS", "XS", "S", "M", "L", "XL", "2XL", "XXXL"]
    shuffled = random.Random(1).sample(sizes, len(sizes))
    assert sorted(shuffled, key=order_of) == sizes
    assert sorted(["38", "4", "37.5", "One size"], key=order_of) == ["4", "37.5", "38", "One size"]


def contents(path):
    """Products without their rows, which depend on the order of the table."""
    found, _ = read(path)
    return {
        name: (
            product.caption,
            product.image,
            sorted(product.further_images),
            dict(product.columns),
        )
        for name, product in found.items()
    }


@st.composite
def shopify_rows(draw):
    """A Shopify export: handles with options, pictures of variants, gallery rows."""
    rows = []
    for number in range(draw(st.integers(1, 4))):
        sizes = draw(
            st.lists(st.sampled_from(["S", "M", "L", "38", "40"]), unique=True, max_size=3)
        )
        colours = draw(st.lists(st.sampled_from(["red", "blue", "green"]), unique=True, min_size=1))
        has_pictures = draw(st.booleans())
        variants = [
            {"Option1 Value": colour, "Option2 Value": size,
             "Variant SKU": f"{number}-{colour}{size}",
             "Variant Price": draw(st.sampled_from(["9.00", "12.50"])),
             "Variant Image": f"{number}{colour}.jpg" if has_pictures else ""}
            for colour in colours for size in (sizes or [""])
        ]  # fmt: skip
        variants[0] |= {"Title": f"Tee {number}", "Vendor": "Norda", "Option1 Name": "Color",
                        "Option2 Name": "Size"}  # fmt: skip
        views = [{} for _ in range(draw(st.integers(0, 2)))]
        group = [{"Handle": f"tee-{number}"} | row for row in (*variants, *views)]
        for i in range(draw(st.integers(1, len(group)))):
            group[i] |= {"Image Src": f"{number}view{i}.jpg", "Image Position": str(i + 1)}
        rows += group
    return rows


@settings(max_examples=25)
@given(rows=shopify_rows(), seed=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_but_the_order(tmp_path_factory, rows, seed):
    folder = tmp_path_factory.mktemp("feed")
    names = ["Handle", "Title", "Vendor", "Option1 Name", "Option1 Value", "Option2 Name",
             "Option2 Value", "Variant SKU", "Variant Price", "Image Src", "Image Position",
             "Variant Image"]  # fmt: skip
    rows = [{name: row.get(name, "") for name in names} for row in rows]
    before = contents(write_csv(folder, rows))
    seed.shuffle(rows)
    assert contents(write_csv(folder, rows)) == before
    by_sku = sorted(rows, key=lambda row: row["Variant SKU"])
    assert contents(write_csv(folder, by_sku)) == before
    assert contents(write_csv(folder, rows * 2)) == before


@settings(max_examples=15)
@given(seed=st.randoms(use_true_random=False), rows=st.sampled_from([WOO, MAGENTO, VIEWS]))
def test_parents_and_variants_come_in_any_order(tmp_path_factory, seed, rows):
    folder = tmp_path_factory.mktemp("feed")
    before = contents(write_csv(folder, rows))
    assert contents(write_csv(folder, seed.sample(rows, len(rows)))) == before
