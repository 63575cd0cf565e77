"""Tables as programs write them: dialects, encodings, what stands above the header."""

# ruff: noqa: RUF001 - letters of other alphabets

import contextlib
import csv
import datetime
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from decimal import Decimal
from encodings.aliases import aliases
from functools import cache

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fashionclip.catalog import Catalog
from fashionclip.errors import CatalogError
from test_catalog import ids, products, read, reasons, write

HEADER = ["id", "title", "image", "price"]
TITLES = {
    "cp1252": [
        "Röhrenjeans für Damen, weiß",
        "Robe d'été à manches",
        "Camiseta de niño",
        "Grå jakke",
    ],
    "iso8859_15": ["Größe Übergang 20 €", "Manteau de cœur 15 €"],
    "mac_roman": ["Röhrenjeans für Damen", "Größe Übergang weiß"],
    "cp1250": ["Sukienka biała z długim rękawem", "Pánské tričko červené", "Női kabát gyűrött"],
    "iso8859_2": ["Kurtka męska żółta, świetna", "Dámské šaty květinové, žluté"],
    "cp850": ["Camiseta de niño", "Calça de algodão", "Vestido de verão"],
    "cp852": ["Żółta koszulka", "Sukienka biała z długim rękawem", "Pánské tričko červené"],
    "cp866": ["Красная футболка", "Синее платье из хлопка", "Мужские брюки"],
    "cp1254": ["Kadın elbise kırmızı çiçekli", "Gri pantolon geniş paça, düğmeli"],
    "cp1251": ["Платье женское летнее", "Мужская куртка чёрная", "Футболка хлопковая"],
    "koi8_r": ["Платье женское летнее", "Мужская куртка чёрная", "Футболка хлопковая"],
    "cp1253": ["Γυναικείο φόρεμα μακρύ", "Ανδρικό μπουφάν μαύρο", "Μπλούζα κόκκινη"],
    "shift_jis": ["レディース 長袖 シャツ 白", "メンズ ジャケット 黒", "赤いワンピース 花柄"],
    "cp932": ["ウールコート", "プリーツスカート", "㈱ノルダ ①"],
    "euc_jp": ["ウールコート", "プリーツスカート"],
    "gbk": ["女士连衣裙红色", "男士夹克黑色", "长袖衬衫白色"],
    "big5": ["女士連衣裙紅色", "男士夾克黑色", "長袖襯衫白色"],
    "euc_kr": ["여성 원피스 빨간색", "남성 재킷 검정", "긴팔 셔츠 흰색"],
    "cp949": ["빨간 티셔츠 똠", "남성 바지 뷁", "울 코트"],
}


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    return file.getvalue()


def titles(path, **options):
    return [product.columns["title"] for product in products(path, **options)]


# encodings


@pytest.mark.parametrize("encoding", TITLES)
def test_an_encoding_is_told_by_its_letters_and_said(tmp_path, encoding):
    lines = [f"{i};{title};{i}.jpg" for i, title in enumerate(TITLES[encoding])]
    path = write(tmp_path, "shop.csv", "\n".join(["id;title;image", *lines]).encode(encoding))
    catalog = Catalog.open(path)
    assert [product.columns["title"] for product in catalog] == TITLES[encoding]
    assert any("read as" in note and "--encoding" in note for note in catalog.notes)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_wide_encodings_are_read_with_and_without_a_mark(tmp_path, encoding):
    text = "id\ttitle\timage\n" + "".join(f"{i}\t{t}\t\n" for i, t in enumerate(TITLES["cp1251"]))
    path = write(tmp_path, "feed.txt", text.encode(encoding))
    assert titles(path) == TITLES["cp1251"]


def test_a_named_encoding_decides(tmp_path):
    path = write(tmp_path, "shop.csv", "id,title\n1,Größe\n2,Платье\n".encode("cp1251", "replace"))
    assert titles(path, encoding="windows-1251") == ["Gr??e", "Платье"]
    assert titles(path, encoding="latin-1")[1] == "Ïëàòüå"
    with pytest.raises(CatalogError, match=r"^no encoding 'klingon'; names are utf-8, utf-16, cp1"):
        Catalog.open(path, encoding="klingon")


@pytest.mark.parametrize(
    ("named", "written"),
    [("euc-kr", "cp949"), ("Shift_JIS", "cp932"), ("gb2312", "gb18030"), ("big5", "cp950")],
)
def test_a_named_encoding_is_read_with_what_programs_add_to_it(tmp_path, named, written):
    added = {"cp949": "똠", "cp932": "①髙", "gb18030": "㐀", "cp950": "恒碁"}[written]
    path = write(tmp_path, "shop.csv", f"id,title,image\n1,{added},a.jpg\n".encode(written))
    assert titles(path, encoding=named) == [added]


@settings(max_examples=60)
@given(
    encoding=st.sampled_from([*sorted(set(aliases.values())), "idna", "punycode", "undefined"]),
    end=st.binary(max_size=8) | st.sampled_from([b"\x1b$B", b"\\u12", b"~{x"]),
)
def test_any_codec_that_is_named_gives_products_or_one_error(tmp_path_factory, encoding, end):
    path = write(tmp_path_factory.getbasetemp(), "codec.csv", b"id,title,image\n1,a,a.jpg\n" + end)
    with contextlib.suppress(CatalogError):
        assert all("\n" not in getattr(one, "reason", "") for one in read(path, encoding=encoding))


def test_bytes_that_a_named_encoding_does_not_have_cost_their_rows(tmp_path):
    path = write(tmp_path, "shop.csv", b"id,title\n1,a\x81\n2,b\n")
    found = read(path, encoding="cp1252")
    assert ids(found) == ["2"]
    assert "bytes that are not cp1252" in reasons(found)[1]


def test_the_command_line_takes_an_encoding(tmp_path):
    path = write(tmp_path, "shop.csv", "id,title,image\n1,Платье,a.jpg\n".encode("koi8-r"))
    for encoding, status, said in (
        ("koi8-r", 0, "Платье"),
        ("klingon", 1, "no encoding 'klingon'"),
    ):
        program = [sys.executable, "-m", "fashionclip.cli", "catalog", "check", str(path)]
        touch(tmp_path, "a.jpg", content=jpeg())
        done = subprocess.run([*program, "--encoding", encoding], capture_output=True, text=True)
        assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done


# dialects

Cell = st.text(
    st.characters(codec="utf-8", exclude_characters="<&", exclude_categories=["Cs", "Cc", "Cf"])
)
Cell = Cell.map(lambda text: " ".join(text.split()))
Cells = st.lists(
    st.tuples(
        Cell | st.sampled_from(["", '"', "a\\", "\\N x", 'He said "wow"', "x, y", "O'Neill"])
    ),
    min_size=1,
    max_size=8,
)


def shop(cells):
    """Rows of a table, each with an id, a title, and a price after it."""
    return [[f"s{i}", cell, f"{i}.jpg", "9.5"] for i, (cell,) in enumerate(cells)]


def found_titles(folder, content):
    items = products(write(folder, "shop.csv", content))
    assert [item.columns["price"] for item in items] == [9.5] * len(items)
    return [item.columns["title"] or "" for item in items]


@settings(max_examples=40)
@given(
    cells=Cells,
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_what_pythons_csv_writes_is_read_back(
    tmp_path_factory, cells, delimiter, quoting, end, encoding
):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([HEADER, *shop(cells)])
    folder = tmp_path_factory.mktemp("csv")
    assert found_titles(folder, buffer.getvalue().encode(encoding)) == [c for (c,) in cells]


def php_field(text):
    """A field as ``fputcsv`` writes it."""
    if not any(c in text for c in '," \\\n\r\t'):
        return text
    return '"' + text.replace('"', '""') + '"'


def mysql_field(text):
    """A field as ``SELECT … INTO OUTFILE`` writes it, enclosed by quotation marks."""
    for sign in '\\",\n':
        text = text.replace(sign, "\\" + sign) if sign != "," else text
    return f'"{text}"'


@settings(max_examples=40)
@given(cells=Cells.filter(lambda cells: not any(c.endswith("\\") or '\\"' in c for (c,) in cells)))
def test_what_php_writes_is_read_back(tmp_path_factory, cells):
    told = [["t", 'Red \\"XL\\" tee', "t.jpg", "9.5"], ["u", 'C:\\x "y"', "u.jpg", "9.5"]]
    lines = [",".join(map(php_field, row)) for row in [HEADER, *shop(cells)]]
    lines += ['t,"Red \\"XL\\" tee",t.jpg,9.5', ",".join(map(php_field, told[1]))]
    found = found_titles(tmp_path_factory.mktemp("php"), "\n".join(lines) + "\n")
    assert found == [*("" if c == "\\N" else c for (c,) in cells), 'Red "XL" tee', 'C:\\x "y"']


@settings(max_examples=40)
@given(cells=Cells)
def test_what_mysql_writes_is_read_back(tmp_path_factory, cells):
    rows = [HEADER, ["t", 'Red "XL"\ntee', "t.jpg", "9.5"], *shop(cells)]
    lines = [",".join(map(mysql_field, row)) for row in rows]
    lines.append('"n",\\N,"n.jpg","9.5"')
    found = found_titles(tmp_path_factory.mktemp("mysql"), "\n".join(lines) + "\n")
    assert found == ['Red "XL"\ntee', *(c for (c,) in cells), ""]


LEGACY = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp850"),
    *("cp866", "cp874", "iso8859_2", "iso8859_15", "koi8_r", "mac_roman", "mac_cyrillic"),
    *("cp932", "euc_jis_2004", "gb18030", "cp950", "cp949", "utf-16-le", "utf-16-be"),
)


@cache
def letters_of(encoding):
    """The letters and signs that an encoding gives back, without those that mean something."""
    every = "".join(filter(str.isprintable, map(chr, range(32, 0xD800))))
    given_back = every.encode(encoding, "ignore").decode(encoding)
    return sorted(set(given_back) - set('<&\\\\"'))


def python_field(text):
    """A field as Python's ``csv`` writes it with ``QUOTE_ALL``."""
    return '"' + text.replace('"', '""') + '"'


@settings(max_examples=80)
@given(
    data=st.data(),
    encoding=st.sampled_from(LEGACY),
    field=st.sampled_from([python_field, php_field, mysql_field]),
)
def test_what_is_written_in_an_encoding_that_is_named_is_read_back(
    tmp_path_factory, data, encoding, field
):
    letters = st.sampled_from(letters_of(encoding))
    words = st.text(letters).map(lambda text: " ".join(text.split()))
    cells = data.draw(st.lists(st.tuples(words), min_size=1, max_size=6))
    lines = [",".join(map(field, row)) for row in [HEADER, *shop(cells)]]
    path = write(tmp_path_factory.mktemp("legacy"), "shop.csv", "\n".join(lines).encode(encoding))
    found = products(path, encoding=encoding)
    assert [item.columns["title"] or "" for item in found] == [c for (c,) in cells]


def test_a_dump_without_quotes_is_read_by_its_backslashes(tmp_path):
    rows = "id\ttitle\tprice\n1\tRed\\\ttee\t9\n2\tBlue \\\\ tee\t\\N\n3\tTwo\\\nlines\t7\n"
    found = products(write(tmp_path, "dump.txt", rows))
    assert [p.columns["title"] for p in found] == ["Red\ttee", "Blue \\ tee", "Two\nlines"]
    assert [p.columns["price"] for p in found] == [9, None, 7]


def test_a_backslash_that_ends_a_field_escapes_nothing(tmp_path):
    found = titles(write(tmp_path, "shop.csv", 'id,title,n\n1,"C:\\dir\\",x\n2,"D:\\",y\n'))
    assert found == ["C:\\dir\\", "D:\\"]


def test_the_way_of_backslashes_is_said(tmp_path):
    path = write(tmp_path, "shop.csv", 'id,title\n1,"Red \\"XL\\" tee"\n2,x\n')
    assert titles(path) == ['Red "XL" tee', "x"]
    (note,) = Catalog.open(path).notes
    assert "a backslash escapes" in note


def test_a_space_may_stand_before_a_quote_and_single_quotes_may_enclose(tmp_path):
    spaced = 'id, title, price\n1, "Red, tee", 5\n2, "Blue ""XL"" tee", 6\n'
    assert titles(write(tmp_path, "spaced.csv", spaced)) == ["Red, tee", 'Blue "XL" tee']
    single = "'id','title','price'\n'1','Red, tee','5'\n'2','O''Neill','6'\n"
    assert titles(write(tmp_path, "single.csv", single)) == ["Red, tee", "O'Neill"]


# above and below the rows


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("Product export 2024-01-05\n\n", 3),
        ("# made by Shop\n# Required | An id,# the title\n", 3),
        ('"# Required | A unique, short id.","# Required | A title.","# Price","# Link"\n', 2),
        ("Export, Berlin\n;\n", 3),
        ("sep=,\nReport\n", 3),
    ],
)
def test_lines_above_the_header_are_stepped_over_and_said(tmp_path, above, line):
    path = write(tmp_path, "shop.csv", above + "id,title,image,price\n1,Red,1.jpg,5\n2,Blue,,6\n")
    catalog = Catalog.open(path)
    assert [(p.row, p.product_id, p.columns["price"]) for p in catalog] == [
        (1, "1", 5),
        (2, "2", 6),
    ]
    assert f"the header is line {line}; stepped over above it: '" in catalog.notes[0]


TEMPLATE = [
    ["Seller SKU", "Title", "Brand Name", "Main Image URL", "Price", "Currency", "Color"],
    ["item_sku", "item_name", "brand_name", "main_image_url", "price", "currency", "color"],
    ["A1", "Red tee", "Norda", "a.jpg", "9.5", "EUR", "red"],
]
CODED = ["sku#1.value", *(f"{name}[at=EU_1]#1.value" for name in ("a", "b", "c", "d", "e", "f"))]


@pytest.mark.parametrize("kind", ["txt", "xlsx"])
@pytest.mark.parametrize(
    ("above", "names"),
    [
        ([["TemplateType=fptcustom", "Version=2024.1", "", "Images", "", "", ""]], TEMPLATE[1]),
        ([["settings=attributeRow=4", *[""] * 6], ["Identity", *[""] * 6]], CODED),
        ([["Listing", "Images", "Offer", "Sizes", "More", "Rest", "End"]], TEMPLATE[1]),
    ],
)
def test_a_template_has_settings_and_labels_above_its_names(tmp_path, kind, above, names):
    rows = [*above, TEMPLATE[0], names, TEMPLATE[2]]
    if kind == "txt":
        path = write(tmp_path, "flat.txt", "".join("\t".join(row) + "\n" for row in rows))
    else:
        path = workbook(tmp_path / "flat.xlsx", Template=rows)
    catalog = Catalog.open(path, columns={"id": names[0], "title": names[1]}, format="plain")
    assert list(catalog.columns) == names
    assert ids(catalog) == ["A1"]


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.lists(
            st.sampled_from(["", "id", "title", "image", "# x", "color", "7", "a b", "Name"]),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_no_row_is_taken_for_a_header(tmp_path_factory, rows):
    rows = [[f"s{i}", *row] for i, row in enumerate(rows)]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["artikel", "name", "bild", "farbe"], *rows])
    path = write(tmp_path_factory.mktemp("rows"), "shop.csv", buffer.getvalue())
    assert ids(read(path, columns={"id": "artikel"})) == [row[0] for row in rows]


def test_a_footer_is_a_reject_and_a_missing_header_an_error(tmp_path):
    found = read(write(tmp_path, "shop.csv", "id,title,image\n1,Red,1.jpg\nTotal: 1 row\n"))
    assert (ids(found), "has 1 field" in reasons(found)[2]) == (["1"], True)
    path = write(tmp_path, "bare.csv", "1,Red,1.jpg,9.5\n2,Blue,2.jpg,8\n")
    with pytest.raises(CatalogError, match=r"has no header: its first line holds values \(1, Red"):
        Catalog.open(path)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_between_the_rows_and_a_row_of_dashes_are_no_products(tmp_path, mark):
    table = "id,title,image\n--,-----,-----\n{},Red,a.jpg\n"
    text = table.format(1) + mark + table.replace("--,-----,-----\n", "").format(2) + "--,-,x\n"
    catalog = Catalog.open(write(tmp_path, "shop.csv", text))
    found = list(catalog)
    assert (ids(found), [one.row for one in found]) == (["1", "2", "--"], [1, 2, 3, 4])
    assert "the header again" in reasons(found)[2]
    assert "the row of dashes below the header is left out" in catalog.notes


def test_formulas_that_keep_zeros_in_excel_are_their_text(tmp_path):
    text = 'id,title,ean\n"=""001""","a =""b""","=""04"""\n="002",=SUM(A1),="05"\n'
    catalog = Catalog.open(write(tmp_path, "shop.csv", text))
    found = [(p.product_id, p.columns["title"], p.columns["ean"]) for p in catalog]
    assert found == [("001", 'a ="b"', "04"), ("002", "=SUM(A1)", "05")]
    assert any("as Excel shows it" in note for note in catalog.notes)


def test_a_cell_of_a_million_characters_is_a_cell(tmp_path):
    path = write(tmp_path, "shop.csv", f"id,image,text\n1,a.jpg,{'x' * 1_000_000}\n")
    (product,) = products(path, caption=lambda highlights, title: "")
    assert len(product.columns["text"]) == 1_000_000


# JSON documents

SHIRTS = [
    {"id": "a", "title": "Red", "image": {"url": "a.jpg", "alt": "x"}, "tags": ["s", "m"]},
    {"id": "b", "title": "Blue", "image": None, "offers": {"price": 9.5, "shop": {"name": "N"}}},
    {"id": "c", "title": "Grün", "variants": [{"sku": "c1"}, {"sku": "c2"}]},
]
FLAT = [
    "id",
    "title",
    "image.url",
    "image.alt",
    "tags",
    "offers.price",
    "offers.shop.name",
    "variants",
]


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (SHIRTS, ""),
        ({"products": SHIRTS, "count": 3}, "products"),
        ({"version": "1.1", "title": "Feed", "items": SHIRTS, "authors": [{"name": "x"}]}, "items"),
        ({"@context": "https://schema.org", "@graph": SHIRTS}, "@graph"),
        (
            {"hits": {"total": 3, "hits": [{"_id": "x", "_source": shirt} for shirt in SHIRTS]}},
            "hits.hits",
        ),
        ({"data": {"shop": {"edges": [{"node": shirt} for shirt in SHIRTS]}}}, "data.shop.edges"),
        ({"itemListElement": [{"item": shirt} for shirt in SHIRTS]}, "itemListElement"),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_with_a_list_of_objects_is_a_table(tmp_path, document, place, indent):
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    catalog = Catalog.open(write(tmp_path, "shop.json", text.encode("utf-8-sig")))
    first, second, third = catalog
    assert [first.product_id, second.product_id, third.caption] == ["a", "b", "Grün"]
    assert set(FLAT) <= set(catalog.columns)
    assert first.image == str(tmp_path / "a.jpg")
    assert second.columns["offers.shop.name"] == "N"
    assert first.columns["tags"] == '["s", "m"]'
    assert catalog.notes == ((f"the rows are the list '{place}' of 3 objects",) if place else ())


def test_objects_one_after_the_other_are_rows_and_one_product_is_one_row(tmp_path):
    text = "\n".join(json.dumps(shirt, indent=1) for shirt in SHIRTS)
    assert ids(products(write(tmp_path, "shop.json", text))) == ["a", "b", "c"]
    one = {"@type": "Product", "sku": "a", "name": "Red", "offers": [{"price": 1}, {"price": 2}]}
    path = write(tmp_path, "product.json", json.dumps(one, indent=1))
    (product,) = products(path, format="plain")
    assert (product.product_id, product.columns["offers"]) == ("a", '[{"price": 1}, {"price": 2}]')


def test_an_object_of_products_by_their_keys_is_a_table(tmp_path):
    by_key = {"shop": {"a1": {"title": "Red", "images": [{"src": "x"}]}, "b2": {"title": "Blue"}}}
    found = products(write(tmp_path, "shop.json", json.dumps(by_key)))
    assert [(p.product_id, p.caption) for p in found] == [("a1", "Red"), ("b2", "Blue")]
    one = {"product": {"id": 7, "title": "Red", "variants": [{"sku": "x"}]}}
    assert ids(products(write(tmp_path, "one.json", json.dumps(one, indent=1)))) == ["7"]


@pytest.mark.parametrize("layout", ["document", "lines", "sequence"])
@settings(max_examples=15)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["title", "size", "b.c"]),
            Cell | st.integers(-9, 9) | st.dictionaries(st.sampled_from(["b", "c"]), Cell),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_layout_of_json_gives_the_same_rows(tmp_path_factory, rows, layout):
    rows = [{"id": f"s{i}", "name": "x", **row} for i, row in enumerate(rows)]
    folder = tmp_path_factory.mktemp("json")
    text = {
        "document": json.dumps({"data": rows}),
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
        "sequence": "\n".join(json.dumps(row, indent=1) for row in rows),
    }[layout]
    found = products(write(folder, "shop.json", text))
    expected = products(write(folder, "array.json", json.dumps(rows)))
    assert found == expected
    assert ids(found) == [row["id"] for row in rows]
    for product, row in zip(found, rows, strict=True):
        values = [v for c in row.values() for v in (c.values() if isinstance(c, dict) else [c])]
        kept = " ".join(str(value) for value in product.columns.values())
        assert all(str(value) in kept for value in values if not isinstance(value, str))


def test_a_document_that_breaks_off_gives_the_rows_before_it(tmp_path):
    text = json.dumps({"products": SHIRTS}, indent=1, ensure_ascii=False)
    found = read(write(tmp_path, "half.json", text[: text.index("Grün")]))
    assert ids(found) == ["a", "b"]
    assert "at line 2" in reasons(found)[3]
    found = read(write(tmp_path, "bad.json", text.replace('"Grün"', "Grün")))
    assert (ids(found), "no valid JSON" in reasons(found)[3]) == (["a", "b"], True)
    with pytest.raises(CatalogError, match=r"the JSON is no valid JSON|no column"):
        Catalog.open(write(tmp_path, "page.json", "<html>"))


def test_an_object_beside_values_in_the_same_place_stays_a_cell(tmp_path):
    rows = [{"id": 1, "image": "a.jpg"}, {"id": 2, "image": {"url": "b.jpg"}}]
    found = products(write(tmp_path, "shop.json", json.dumps(rows)))
    assert [product.image for product in found] == [
        str(tmp_path / "a.jpg"),
        str(tmp_path / "b.jpg"),
    ]


# XML

RSS = """<?xml version="1.0" encoding="{encoding}"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title>
<item><id>https://x/1</id><g:id>00123</g:id><g:title><![CDATA[Größe & Co]]></g:title>
<g:image_link>a.jpg</g:image_link><g:price>19.99</g:price>
<g:additional_image_link>b.jpg</g:additional_image_link>
<g:additional_image_link>c.jpg</g:additional_image_link>
<g:shipping><g:country>DE</g:country><g:price>4.90 EUR</g:price></g:shipping>
<description>Soft <b>cotton</b> tee</description></item>
<item><g:id>1E5</g:id><g:title>R&#233;d &amp; Blue</g:title><g:image_link>d.jpg</g:image_link>
<g:price>5</g:price></item>
</channel></rss>
"""


@pytest.mark.parametrize("encoding", ["UTF-8", "utf-16", "windows-1252", "ISO-8859-15"])
def test_an_rss_feed_is_a_table(tmp_path, encoding):
    path = write(tmp_path, "feed", RSS.format(encoding=encoding).encode(encoding))
    catalog = Catalog.open(path)
    first, second = catalog
    assert (first.product_id, second.product_id) == ("00123", "1E5")
    assert (first.caption, second.caption) == ("Größe & Co", "Réd & Blue")
    assert first.image == str(tmp_path / "a.jpg")
    cells = first.columns
    assert (cells["id_2"], cells["price"], cells["shipping.country"]) == (
        "https://x/1",
        19.99,
        "DE",
    )
    assert cells["additional_image_link"] == '["b.jpg", "c.jpg"]'
    assert cells["description"] == "Soft cotton tee"
    assert "the rows are the elements 'rss/channel/item'" in catalog.notes


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (
            "<feed xmlns='http://www.w3.org/2005/Atom'><author><name>x</name></author>"
            "<entry><id>1</id><title>Red</title><link rel='a' href='u'/></entry></feed>",
            "feed/entry",
        ),
        (
            "<shop><categories><category id='7'>Tees</category><category id='8'>X</category>"
            "</categories><offers><offer id='1' x='y'><name>Red</name><param name='Size'>M</param>"
            "<param name='Fit'>slim</param></offer></offers></shop>",
            "shop/offers/offer",
        ),
        (
            "<waren><ware><id>1</id><name>Red</name><bilder><bild><src>a</src></bild>"
            "<bild><src>b</src></bild></bilder></ware><ware><id>2</id></ware></waren>",
            "waren/ware",
        ),
    ],
)
def test_the_elements_of_products_are_found(tmp_path, document, place):
    catalog = Catalog.open(write(tmp_path, "feed.xml", "\n " + document))
    assert catalog.notes == (f"the rows are the elements '{place}'",)
    first = next(iter(catalog))
    assert (first.product_id, first.caption) == ("1", "Red")
    listed = {"shop/offers/offer": "param", "waren/ware": "bilder.bild"}.get(place)
    if listed == "param":
        fields = [{"value": "M", "name": "Size"}, {"value": "slim", "name": "Fit"}]
        assert json.loads(first.columns["param"]) == fields
    elif listed:
        assert json.loads(first.columns[listed]) == [{"src": "a"}, {"src": "b"}]
    else:
        assert (first.columns["link.href"], first.columns["link.rel"]) == ("u", "a")


def test_of_translated_elements_the_first_language_counts(tmp_path):
    names = '<name lang="de">Rot</name><name lang="en">Red</name>'
    of_prestashop = (
        '<name><language id="1"><![CDATA[Rot]]></language><language id="2">Red</language></name>'
    )
    tags = '<keyword lang="de">a</keyword><keyword lang="de">b</keyword>'
    product = "<product><id>1</id>{}<image>a.jpg</image></product>"
    for title, other in ((names, "name.en"), (of_prestashop, "name.2")):
        path = write(tmp_path, "shop.xml", f"<shop>{product.format(title + tags)}</shop>")
        (found,) = products(path)
        columns = {"name": "Rot", other: "Red", "keyword": '["a", "b"]'}
        assert columns.items() <= found.columns.items()


def test_broken_xml_gives_the_rows_before_it(tmp_path):
    whole = RSS.format(encoding="UTF-8")
    found = read(write(tmp_path, "half.xml", whole[: whole.index("1E5")]))
    assert ids(found) == ["00123"]
    assert "the XML breaks off at line 9 (no element found)" in reasons(found)[2]
    found = read(write(tmp_path, "bad.xml", whole.replace("R&#233;d &amp;", "Red & ")))
    assert "not well-formed (invalid token)" in reasons(found)[2]
    bad = (
        whole.encode().replace("Größe".encode(), b"Gr\xf6\xdfe").replace(b"R&#233;d", "Ré".encode())
    )
    found = read(write(tmp_path, "bytes.xml", bad + "<!-- größer als größe -->".encode()))
    assert (ids(found), list(reasons(found))) == (["1E5"], [1])
    with pytest.raises(CatalogError, match=r"holds no products: the XML breaks off at line 1 "):
        Catalog.open(write(tmp_path, "page.xml", "<html><br></html>"))


def test_names_of_html_in_xml_are_characters(tmp_path):
    text = "<a><item><id>1</id><title>Red&nbsp;&eacute; tee</title></item></a>"
    (product,) = products(write(tmp_path, "feed.xml", text))
    assert product.columns["title"] == "Red\xa0é tee"


def test_entities_are_never_expanded(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>'
    outside = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    for doctype in (bomb, outside):
        text = f"{doctype}<a><item><id>1</id><title>&b;</title></item></a>"
        with pytest.raises(CatalogError, match="it declares the entity"):
            Catalog.open(write(tmp_path, "bomb.xml", text))


# workbooks


def workbook(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_has_types_of_its_own(tmp_path):
    day, moment = datetime.date(2024, 1, 5), datetime.datetime(2024, 1, 5, 12, 3)
    rows = [
        ["id", "title", "price", "stock", "added", "seen", "is_new"],
        ["00123", "Röhrenjeans", 9.5, 3, day, moment, True],
        [],
        [1580, "Red", None, None, None, None, False],
    ]
    catalog = Catalog.open(workbook(tmp_path / "shop.xlsx", Sheet=[*rows, rows[0]]))
    first, second, again = catalog
    assert (again.row, again.reason[:16]) == (3, "the header again")
    assert dict(first.columns) == {
        **{"id": "00123", "title": "Röhrenjeans", "price": 9.5, "stock": 3, "added": "2024-01-05"},
        **{"seen": "2024-01-05T12:03:00", "is_new": True},
    }
    assert (second.row, second.product_id, second.columns["price"]) == (2, "1580", None)


def test_the_sheet_with_a_header_is_read_and_another_can_be_named(tmp_path):
    products_sheet = [["Export"], [], ["id", "title", "image"], ["1", "Red", "a.jpg"]]
    old = [["id", "title", "image"], ["9", "Old", "b.jpg"]]
    notes = [["Title"], ["Hello"]]
    path = workbook(tmp_path / "shop.xlsx", Notes=notes, Products=products_sheet, Old=old)
    catalog = Catalog.open(path)
    assert ids(catalog) == ["1"]
    assert catalog.notes == (
        "read the sheet 'Products', not Notes, Old; name another one as shop.xlsx#SHEET",
        "the header is row 3; stepped over what is above it",
    )
    assert ids(Catalog.open(f"{path}#Old")) == ["9"]
    with pytest.raises(CatalogError, match=r"no sheet 'New'; there are: Notes, Products, Old"):
        Catalog.open(f"{path}#New")
    with pytest.raises(CatalogError, match="it is empty"):
        Catalog.open(workbook(tmp_path / "empty.xlsx", Sheet=[]))


def test_a_zip_archive_should_be_unzipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        archive.writestr("shop.csv", "id,title")
    with pytest.raises(CatalogError, match="a zip archive; unzip it"):
        Catalog.open(tmp_path / "shop.zip")


# Parquet and Arrow


def test_binary_columns_of_utf8_are_text_and_unsigned_and_decimal_ones_numbers(tmp_path):
    table = pa.table(
        {
            "id": [b"a", b"b"],
            "title": pa.array(["Grün".encode(), None], pa.large_binary()),
            "image": [b"\xff\xd8one", b"\x89PNG"],
            "stock": pa.array([1, 2**63 - 1], pa.uint64()),
            "serial": pa.array([1, 2**63], pa.uint64()),
            "price": pa.array([Decimal("19.99"), None], pa.decimal128(9, 2)),
            "seen": pa.array([0, None], pa.timestamp("ns")),
        }
    )
    pq.write_table(table, tmp_path / "shop.parquet")
    catalog = Catalog.open(tmp_path / "shop.parquet")
    first, second = catalog
    assert dict(first.columns) == {
        **{"id": "a", "title": "Grün", "stock": 1, "serial": "1", "price": 19.99},
        "seen": "1970-01-01T00:00:00",
    }
    assert (first.image, second.columns["stock"]) == (b"\xff\xd8one", 2**63 - 1)
    assert "binary columns that hold UTF-8 are text: id, title" in catalog.notes


def test_bytes_that_are_no_text_after_all_cost_their_row(tmp_path):
    titles = [b"x"] * 300 + [b"\xff"]
    table = pa.table({"id": [str(i) for i in range(301)], "title": titles})
    pq.write_table(table, tmp_path / "shop.parquet")
    found = read(tmp_path / "shop.parquet")
    assert (len(ids(found)), list(reasons(found))) == (300, [301])


def test_numbers_of_classes_are_their_names(tmp_path):
    classes = {"names": ["dress", "bag"], "_type": "ClassLabel"}
    features = {"kind": classes, "tags": {"feature": classes, "_type": "Sequence"}, "n": None}
    table = pa.table({"id": [1, 2], "title": ["a", "b"], "kind": [1, -1], "tags": [[0, 1], []]})
    for features_, kind in (({"info": {"features": features}}, "bag"), ([1], 1)):
        found = table.replace_schema_metadata({"huggingface": json.dumps(features_)})
        pq.write_table(found, tmp_path / "shop.parquet")
        first, second = Catalog.open(tmp_path / "shop.parquet")
        assert first.columns["kind"] == kind
        assert second.columns["kind"] == (None if kind == "bag" else -1)
        assert first.columns["tags"] == ('["dress", "bag"]' if kind == "bag" else "[0, 1]")


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_files_are_read_and_half_a_one_up_to_its_end(tmp_path, kind):
    table = pa.table({"id": list("abcdef"), "title": ["x"] * 6})
    path = tmp_path / "shop.arrow"
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert ids(products(path)) == list("abcdef")
    if kind == "stream":
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 3 // 4])
        found = read(path)
        assert ids(found)[:2] == ["a", "b"]
        assert "damaged part" in list(reasons(found).values())[-1]


def test_without_ids_products_are_named_by_their_rows(tmp_path):
    catalog = Catalog.open(write(tmp_path, "shop.csv", "title,image\nRed,a.jpg\nBlue,b.jpg\n"))
    assert ids(catalog) == ["1", "2"]
    assert dict(catalog.columns) == {"title": "string", "image": "string"}
    assert any("each product's id is its row's number" in note for note in catalog.notes)
    with pytest.raises(CatalogError, match="no column of a usual name for the product's id"):
        Catalog.open(write(tmp_path, "bare.csv", "size,weight\n1,2\n"))


# folders


def touch(folder, *names, content=b""):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_a_folder_of_pictures_is_a_table(tmp_path):
    touch(tmp_path, "red-summer_dress.JPG", "Women/Long Dresses/12.png", "train/tee/IMG_0001.jpeg")
    touch(tmp_path, "tees & co/a.jpg", "tees & co/a.png", "tees & co/read me.txt")
    touch(tmp_path, ".hidden.jpg", "__MACOSX/x.jpg", "Thumbs.db", ".DS_Store")
    catalog = Catalog.open(tmp_path)
    found = [(p.product_id, p.caption, p.columns["category"]) for p in catalog]
    assert found == [
        ("red-summer_dress", "red summer dress", None),
        ("Women/Long Dresses/12", "", "Long Dresses"),
        ("tees & co/a.jpg", "a", "tees & co"),
        ("tees & co/a.png", "a", "tees & co"),
        ("train/tee/IMG_0001", "", "tee"),
    ]
    assert next(iter(catalog)).image == str(tmp_path / "red-summer_dress.JPG")
    assert catalog.notes[:2] == (
        "read as a folder of 5 pictures: ids are paths, titles are names of files",
        "1 file that is no picture is left out (1 .txt)",
    )


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "train/metadata.csv"])
def test_an_image_folder_with_metadata_is_its_table(tmp_path, name):
    folder = (tmp_path / name).parent
    touch(folder, "0001.png", "0002.png")
    rows = [{"file_name": "0001.png", "text": "Red tee"}, {"file_name": "0002.png", "text": "Blue"}]
    write(folder, "metadata.jsonl", json.dumps(rows[0]) + "\n" + json.dumps(rows[1]) + "\n")
    if name.endswith("csv"):
        (folder / "metadata.jsonl").unlink()
        write(folder, "metadata.csv", "file_name,text\n0001.png,Red tee\n0002.png,Blue\n")
    first, second = Catalog.open(tmp_path)
    assert (first.product_id, first.caption, second.caption) == ("1", "Red tee", "Blue")
    assert first.image == str(folder / "0001.png")


def test_a_saved_data_set_is_its_arrow_files(tmp_path):
    for split, keys in (("test", "a"), ("train", "bc")):
        touch(tmp_path, f"{split}/state.json", f"{split}/dataset_info.json", content=b"{}")
        table = pa.table({"id": list(keys), "title": ["x"] * len(keys)})
        with pa.ipc.new_stream(str(tmp_path / split / "data-00000.arrow"), table.schema) as writer:
            writer.write_table(table)
    touch(tmp_path, "dataset_dict.json", content=b"{}")
    assert ids(Catalog.open(tmp_path)) == ["a", "b", "c"]
    assert ids(Catalog.open(tmp_path / "train")) == ["b", "c"]


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_the_samples_of_tars_are_rows_with_their_images(tmp_path):
    write_tar(tmp_path / "shop-000.tar", {"a.jpg": b"one", "a.txt": b"Red tee", "a.cls": b"7"})
    samples = {"b.png": b"two", "b.json": b'{"title": "Blue", "price": 5}', "c.txt": b"no picture"}
    write_tar(tmp_path / "shop-001.tar", samples)
    for place in (tmp_path / "shop-{000..001}.tar", tmp_path / "shop-*.tar", tmp_path):
        catalog = Catalog.open(place)
        first, second, third = catalog
        assert (first.product_id, first.caption, first.image) == ("a", "Red tee", b"one")
        assert (second.product_id, second.image, second.columns["price"]) == ("b", b"two", 5)
        assert (third.product_id, third.reason) == (
            "c",
            "the sample has no image; add one, such as .jpg, or remove its texts",
        )
    with pytest.raises(CatalogError, match="not a tar, or cut short"):
        Catalog.open(write(tmp_path, "broken.tar", b"no tar at all" * 100))


def test_a_text_that_is_too_long_costs_its_sample_and_is_said(tmp_path):
    long = b"x" * ((1 << 20) + 1)
    write_tar(tmp_path / "shop.tar", {"a.jpg": b"one", "a.txt": long, "b.txt": long, "c.jpg": b"2"})
    first, second, third = Catalog.open(tmp_path / "shop.tar")
    assert first.reason == second.reason
    assert first.reason.startswith("a text of the sample is longer than 1,048,576 bytes; shorten")
    assert third.product_id == "c"


def test_the_views_of_a_sample_are_one_product(tmp_path):
    names = ["a.front.jpg", "a.back.jpg", "b.mask.png", "b.jpg"]
    write_tar(tmp_path / "shop.tar", {"a.txt": b"Tee\n"} | {name: name.encode() for name in names})
    catalog = Catalog.open(tmp_path / "shop.tar")
    first, second = catalog
    assert (first.image, first.further_images) == (b"a.front.jpg", (b"a.back.jpg",))
    assert (second.image, second.further_images) == (b"b.jpg", ())
    assert first.columns["caption"] == "Tee"
    assert not any("Hugging Face" in note for note in catalog.notes)


@pytest.mark.parametrize("size", [512 * 5 + 100, 512 * 5, 512 * 4 + 300, 512 * 4, 512 * 2 + 30])
def test_a_tar_that_is_cut_gives_the_samples_before(tmp_path, size):
    samples = {"a.jpg": b"one", "b.jpg": b"two" * 300, "c.jpg": b"three"}
    write_tar(tmp_path / "shop.tar", samples)
    content = (tmp_path / "shop.tar").read_bytes()
    found = read(write(tmp_path, "cut.tar", content[:size]))
    assert next(iter(found)).image == b"one"
    assert "cut.tar breaks off here" in found[-1].reason
    whole = read(write(tmp_path, "two.tar", content + content))
    assert "two.tar breaks off" in whole[-1].reason


# arbitrary input

STARTS = {
    "json": ['{"products": [{"id": 1, "title": "a"}', '[{"id": 1, "title": "a"},', '{"id": 1}'],
    "xml": [
        "<a><item><id>1</id><title>b</title></item>",
        "<?xml version='1.0'?><a><b><c>1</c></b>",
    ],
    "csv": ['id,title\n"1\\"",', "# x\n\nid;title\n", "sep=\n", "id\ttitle\n\\N\t"],
    "xlsx": ["PK\x03\x04"],
    "tar": ["a.jpg"],
    "arrow": ["ARROW1"],
}
WORDS = r""""" \ , [ ] { } : <item> </item> <id> </a> &b; 1 é \N ' # null <![CDATA[ ]]> "id" """
pieces = st.sampled_from(WORDS.split()) | st.sampled_from("\0\ufeff\n\r ")


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(STARTS)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.sampled_from(STARTS[kind]))
    ),
    st.lists(pieces, max_size=30).map(lambda found: "".join(found).encode()) | st.binary(),
)
def test_any_content_gives_products_and_rejects_or_one_error(tmp_path_factory, start, content):
    kind, text = start
    path = write(tmp_path_factory.getbasetemp(), f"any.{kind}", text.encode() + content)
    try:
        catalog = Catalog.open(path)
    except CatalogError:
        return
    found = list(catalog)
    assert [item.row for item in found] == list(range(1, catalog.len_hint + 1))
    assert all("\n" not in getattr(item, "reason", "") for item in found)
