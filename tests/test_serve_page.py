"""The web page without a browser: URLs, texts, escaping, keys."""

import csv
import io
import os
import re
import shlex
from contextlib import contextmanager
from html import unescape
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from fashionclip.product import Hit, Product, Roles
from fashionclip.searching import Results
from fashionclip.serve.app import create_app
from fashionclip.serve.facets import Facet, Facets
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware.keys import new_key
from fashionclip.serve.page import filters, sorting, view
from fashionclip.serve.page.csv_export import csv_of
from fashionclip.serve.page.headings import count_label, heading
from fashionclip.serve.page.rendering import STATIC
from fashionclip.serve.page.state import State
from fashionclip.serve.page.texts import column_label, money, parts_of, span
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from fashionclip.serve.uploads import UploadedImages
from fashionclip.serve.views import further_views
from fashionclip.store import StoreMeta, create_store
from fashionclip.store.filters import parse_filter
from small_shop import ODD_IDS, draw, encoded, ids, index_shop, write_catalog

BASE = "http://127.0.0.1:8000"
BROWSER = {"Accept": "text/html,*/*"}


@contextmanager
def serving(store, **asked):
    metrics = Metrics()
    limits = Settings(**{"rate_per_minute": 0, "max_batch": 4, **asked})
    app = create_app(SearchService(store, limits, metrics), limits, metrics)
    with TestClient(app, base_url=BASE, headers=BROWSER, follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def store(tiny_checkpoint, tmp_path_factory):
    """The index, for reading only."""
    table = write_catalog(tmp_path_factory.mktemp("catalog"))
    index_shop(table, tiny_checkpoint, table.parent / "shop.lance")
    return table.parent / "shop.lance"


@pytest.fixture(scope="module")
def client(store):
    with serving(store) as client:
        yield client


def shown(answer):
    """The products of a page."""
    return [unescape(one) for one in re.findall(r'data-product="([^"]*)"', answer.text)]


def links(answer):
    return [unescape(one) for one in re.findall(r'href="([^"#]*)"', answer.text)]


# the address says everything

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
    lambda text: text == text.strip()
)
NAMES = st.lists(WORDS, max_size=2, unique=True).map(tuple)
NUMBERS = st.none() | st.integers(-1000, 1000).map(float) | st.sampled_from([0.5, 49.95])
# not built here: the checks of types draw random numbers, which hypothesis minds
ASKED = st.builds(
    dict,
    text=st.just("") | WORDS,
    image=st.none() | st.just("a1b2"),
    like=NAMES,
    unlike=NAMES,
    avoid=NAMES,
    chosen=st.dictionaries(
        WORDS, st.lists(WORDS, min_size=1, max_size=2, unique=True).map(tuple), max_size=2
    ),
    ranges=st.dictionaries(
        WORDS, st.tuples(NUMBERS, NUMBERS).filter(lambda ends: ends != (None, None)), max_size=2
    ),
    offset=st.integers(0, 9999),
    sort=st.just("") | WORDS,
    mode=st.sampled_from(["", "vectors", "words"]),
    group=st.booleans(),
    explain=st.booleans(),
)


@settings(max_examples=50)
@given(ASKED)
def test_a_url_holds_the_whole_search(asked):
    state = State(**asked)
    assert State.read(parse_qsl(urlsplit(state.url).query)) == state


@settings(max_examples=50)  # the first filter imports the parser
@given(WORDS, WORDS, NUMBERS)
def test_filters_of_the_page_are_always_valid(column, value, low):
    state = State(chosen={column: (value,)}, ranges={"price": (low, 80.0)})
    columns = {column: "string", "price": "number"}
    for lists in ((), {column}):
        where = state.where(columns, lists=lists)
        assert where is not None
        parse_filter(where, columns)


def test_invalid_numbers_are_ignored():
    state = State.read([("min.price", "cheap"), ("max.price", "nan"), ("offset", "-3"), ("q", " ")])
    assert state == State()
    assert State.read([("max.price", "49,95")]).ranges == {"price": (None, 49.95)}


# words


@pytest.mark.parametrize(
    ("name", "label"),
    [("baseColour", "Base colour"), ("in_stock", "In stock"), ("SKU", "SKU"), ("_", "_")],
)
def test_column_names_become_labels(name, label):
    assert column_label(name) == label


def test_prices_ranges_and_lists_become_text():
    assert [money(1234), money(49.9), money(0)] == ["1,234.00", "49.90", "0.00"]
    assert [span(None, 5.0), span(5.0, None), span(5.0, 7.5)] == ["up to 5", "from 5", "5 to 7.5"]
    assert parts_of('["a", "", "b"]') == ["a", "b"]
    assert parts_of("[" * 100_000) == ["[" * 100_000]
    card = view.card(
        Hit("1", 0.5, {"title": "Shirt", "price": float("nan"), "brand": "Shirt"}),
        Roles(title="title", price="price", brand="brand"),
    )
    assert (card.price, card.brand, card.title) == ("", "", "Shirt")


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"p": 29, "c": "EUR"}, ("29.00 EUR", "")),
        ({"p": 5900.0, "c": "JPY"}, ("5,900 JPY", "")),
        ({"p": 12.5, "c": "KWD"}, ("12.500 KWD", "")),
        ({"p": 12.5, "c": "€"}, ("12.50 €", "")),
        ({"p": 29}, ("29.00", "")),
        ({"p": 29, "s": 19.5, "c": "EUR"}, ("19.50 EUR", "29.00 EUR")),
        ({"p": 29, "s": 39, "c": "EUR"}, ("29.00 EUR", "")),
        ({"s": 19, "c": "EUR"}, ("19.00 EUR", "")),
        ({"p": "on request"}, ("on request", "")),
    ],
)
def test_a_price_has_the_decimals_of_its_currency(columns, shown):
    roles = Roles(price="p", sale_price="s", currency="c")
    assert view.prices_of(Hit("1", 1.0, columns), roles) == shown


def test_many_filters_share_a_budget_and_chosen_values_stay():
    values = tuple((f"value {i}", 60 - i) for i in range(60))
    facets = [Facet(f"c{i}", "text", values) for i in range(40)]
    groups = filters.groups(State(chosen={"c3": ("value 59",)}), facets, facets, Roles())
    assert sum(len(group.choices) for group in groups) <= filters.MAX_CHOICES + 1
    (chosen,) = [choice for group in groups for choice in group.choices if choice.is_chosen]
    assert chosen.value == "value 59"


def test_values_stay_in_their_order_when_one_is_chosen():
    catalogue = [Facet("c", "text", (("a", 9), ("b", 5), ("d", 3), ("e", 1)))]
    counted = [Facet("c", "text", (("e", 1), ("b", 1), ("new", 1)))]
    (group,) = filters.groups(State(chosen={"c": ("d", "gone")}), catalogue, counted, Roles())
    assert [(one.value, one.count) for one in group.choices] == [
        *(("b", 1), ("d", 0), ("e", 1), ("new", 1), ("gone", 0))
    ]


def test_orders_are_made_from_numbers_and_dates():
    columns = {"Preis": "number", "updated": "string", "added": "string", "year": "integer"}
    columns |= {"gtin": "integer", "title": "string"}
    hits = [Hit("1", 1.0, {"updated": "2026-01-02", "added": "2026-01-01T10:00:00Z", "title": "x"})]
    dates = sorting.date_columns(hits, columns)
    assert dates == ["added", "updated"]
    numbers = [Facet(name, "number", low=1.0, high=2.0) for name in ("year", "gtin", "Preis")]
    roles = Roles(price="Preis", barcode="gtin")
    found = sorting.orders(State(text="x", sort="-price"), columns, roles, numbers, dates)
    assert [(one.value, one.label) for one in found] == [
        ("", "Best match"),
        ("Preis", "Preis, low to high"),
        ("-Preis", "Preis, high to low"),
        ("-added", "Newest"),
        ("-updated", "Updated, latest first"),
        ("year", "Year, low to high"),
        ("-year", "Year, high to low"),
    ]
    assert [one.value for one in found if one.is_chosen] == ["-Preis"]
    found = sorting.orders(State(sort="title"), columns, roles, numbers, ())
    assert [one.label for one in found if one.is_chosen] == ["Title"]


@pytest.mark.parametrize(
    ("state", "hits", "results", "label"),
    [
        (State(text="x"), 24, {"total": 412}, "412 products fit"),
        (State(text="x"), 24, {"total": 1000, "is_total_exact": False}, "1,000+ products fit"),
        (State(text="x"), 24, {"total": 1}, "1 product fits"),
        (State(text="x"), 24, {"total": 0}, "Nothing here fits"),
        (State(text="x", offset=24), 24, {"total": 30}, "25 to 30 of 30 products that fit"),
        (State(text="x", offset=48), 24, {"total": 30}, "Weaker matches"),
        (State(image="x"), 24, {}, "The 24 best matches"),
        (State(image="x", offset=24), 24, {}, "Best matches, 25 to 48"),
        (State(), 24, {"total": 2000}, "2,000 products"),
        (State(offset=24), 24, {"total": 2000}, "25 to 48 of 2,000 products"),
        (State(text="x"), 0, {"total": 0}, "No products"),
    ],
)
def test_the_count_says_how_many_fit(state, hits, results, label):
    page = Results([Hit(str(i), 1.0, {}) for i in range(hits)], n_relevant=hits, **results)
    assert count_label(state, page) == label


def test_a_long_text_is_clipped_in_the_heading():
    state = State(text="word " * 100 + "end")
    assert len(heading(state)) < 100
    assert heading(state, is_whole=True).endswith("end”")


@pytest.mark.parametrize(
    ("percentile", "shown"),
    [(100.0, "99.9"), (99.96, "99.9"), (99.0, "99"), (98.9, "98"), (0.0, "0")],
)
def test_how_well_a_product_fits_is_never_overstated(percentile, shown):
    assert view.fit_of(percentile) == f"Fits better than {shown} % of the catalogue"


def test_a_csv_of_products_opens_in_spreadsheets_and_starts_no_formula():
    columns = {"sku": "A", "title": "=1+1", "note": 'é, "x"\nnew', "price": -5.5, "stock": None}
    data = csv_of([Hit("A", 1.0, columns)], list(columns), Roles(id="sku"))
    assert data.startswith("\ufeff".encode())
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows == [
        {"sku": "A", "title": "'=1+1", "note": 'é, "x"\nnew', "price": "-5.5", "stock": ""}
    ]
    assert csv_of([], ["@x"], Roles()).decode("utf-8-sig") == "id,'@x\r\n"


def test_a_list_is_a_filter_by_each_of_its_elements():
    cells = ['["S", "M"]', '["M", "L"]', "M", None, '["S", "S", 38]', '[38, "it\'s"]', "it's"]
    store = create_store(f"memory://{uuid4()}", StoreMeta("", "m", "f", 2))
    products = [Product(f"p{i}", "", None, i, {"Size": cell}) for i, cell in enumerate(cells)]
    with store.writer() as writer:
        writer.upsert(products, np.eye(2, dtype=np.float32)[[0] * len(cells)], [b"k" * 16] * 7)
    (facet,) = Facets(store.snapshot).counted(None)
    assert facet == Facet("Size", "list", (("M", 3), ("S", 2), ("38", 2), ("it's", 2), ("L", 1)))
    columns = store.meta.columns
    for value, count in facet.values:
        where = State(chosen={"Size": (str(value),)}).where(columns, lists={"Size"})
        mask = store.snapshot.mask(parse_filter(where, columns))
        assert mask.sum() == count
        (found,) = Facets(store.snapshot).counted(mask)
        assert dict(found.values)[value] == count
    both = State(chosen={"Size": ("S", "it's")}).where(columns, lists={"Size"})
    assert store.count(parse_filter(both, columns)) == 4
    hit = store.list_hits(k=1)[0]
    (fact,) = view.facts(hit, [facet], Roles())
    assert fact.values == (("S", "/?f.Size=S"), ("M", "/?f.Size=M"))
    store.close()


@pytest.mark.parametrize("cells", [['{"a": 1}'] * 4, ['[["a"], "b"]', "b"] * 3, ["[1.5, 2.5]"] * 5])
def test_lists_that_no_filter_finds_elements_of_are_no_facet(cells):
    store = create_store(f"memory://{uuid4()}", StoreMeta("", "m", "f", 2))
    products = [Product(f"p{i}", "", None, i, {"x": cell}) for i, cell in enumerate(cells)]
    with store.writer() as writer:
        vectors = np.eye(2, dtype=np.float32)[[0] * len(cells)]
        writer.upsert(products, vectors, [b"k" * 16] * len(cells))
    assert Facets(store.snapshot).counted(None) == ()
    store.close()


# pages


def test_the_start_lists_everything_and_suggests_searches(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert shown(answer) == sorted(ids())
    assert "18 products" in answer.text
    suggested = [link for link in links(answer) if link.startswith("/?q=")]
    assert len(suggested) == 3
    assert all(shown(client.get(link)) for link in suggested)


def test_filters_narrow_results_and_count_the_other_values(client):
    answer = client.get("/?f.colour=red&f.category=dress&f.category=shoe&min.price=5")
    assert len(shown(answer)) == 2
    assert ">2 products<" in answer.text
    category = answer.text.partition('name="f.category"')[2][:900]
    assert category.count(">1<") == 3  # each counted as if nothing were ticked in its own column
    assert "Remove: Colour: red" in answer.text
    answer = client.get("/?f.in_stock=true")
    assert len(shown(answer)) == 9
    assert "In stock: Yes" in answer.text


@pytest.mark.parametrize("product_id", ODD_IDS)
def test_any_id_has_a_page_an_image_and_similar_products(client, product_id):
    answer = client.get(f"/p/{quote(product_id, safe='')}")
    assert answer.status_code == 200
    assert len(shown(answer)) == 12
    sources = [unescape(one) for one in re.findall(r' src="(/images/[^"]*)"', answer.text)]
    assert all(client.get(one).headers["content-type"] == "image/jpeg" for one in sources[:2])
    more = [link for link in links(answer) if link.startswith("/?like=")]
    found = client.get(more[0])
    assert found.status_code == 200
    assert product_id not in shown(found)


def test_an_uploaded_image_is_searched_by_and_scored(client):
    kept = client.post(
        "/pictures", content=encoded(draw("green", "shoe")), headers={"Content-Type": "image/png"}
    )
    token = kept.json()["picture"]
    assert kept.status_code == 201
    assert client.get(f"/pictures/{token}").headers["content-type"] == "image/jpeg"
    assert client.get("/pictures/none").status_code == 404
    answer = client.get(f"/?picture={token}&scores=1&hybrid=1")  # as old links have it
    assert len(shown(answer)) == 18
    assert "Hide why" in answer.text
    answer = client.get(f"/playground?picture={token}&labels=shoe,dress%0Ashirt")
    shares = re.findall(r'class="share">([\d.]+) %', answer.text)
    assert sum(map(float, shares)) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png"])
def test_an_upload_that_is_not_an_image_is_rejected(client, kind):
    answer = client.post("/pictures", content=b"no picture", headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert "image" in answer.json()["error"]["message"]


def test_a_list_can_be_downloaded_and_sorted(client):
    answer = client.get("/products.csv?f.colour=red&sort=-price")
    assert answer.headers["content-disposition"] == 'attachment; filename="products.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["colour"] for row in rows] == ["red"] * 3
    assert {"id", "title", "price", "image"} <= rows[0].keys()
    assert "could not" not in client.get("/products.csv?q=shirt").text
    assert client.get("/products.csv?offset=24&sort=nothing").status_code in {200, 400}
    page = client.get("/?f.colour=red&sort=-price")
    assert '<option value="-price" selected>Price, high to low</option>' in page.text


def test_a_shortlist_is_its_url(client):
    answer = client.get(f"/shortlist?{urlencode({'ids': ['P01', *ODD_IDS, 'gone']}, doseq=True)}")
    assert shown(answer) == ["P01", *ODD_IDS]
    assert "Product gone no longer exists" in answer.text
    removing = next(link for link in links(answer) if link.startswith("/shortlist?"))
    assert shown(client.get(removing)) == list(ODD_IDS)
    table = next(link for link in links(answer) if link.startswith("/shortlist.csv"))
    rows = csv.DictReader(io.StringIO(client.get(table).content.decode("utf-8-sig")))
    assert [row["id"] for row in rows] == ["P01", *ODD_IDS]
    assert "Nothing here yet" in client.get("/shortlist").text


def test_what_no_longer_exists_is_ignored_with_a_notice(client):
    answer = client.get(
        "/?q=shirt&like=gone&unlike=P01&picture=none&f.nowhere=1&min.price=9&max.price=1"
    )
    assert answer.status_code == 200
    assert "Product gone no longer exists" in answer.text
    assert "drop it again" in answer.text
    assert "no column “nowhere”" in answer.text
    assert "Price: nothing is from 9 to 1" in answer.text
    assert "Less like orange shirt" in answer.text or "Less like" in answer.text
    assert "Search without filters" in answer.text


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([("q", "long " * 500)], "2,499 characters"),
        ([("avoid", "long " * 500), ("q", "kept")], "2,499 characters"),
        ([("offset", "20000"), ("q", "kept")], "no further than 10,000"),
        ([("q", "kept"), *(("avoid", str(i)) for i in range(21))], "21 things"),
    ],
)
def test_a_search_over_the_limits_is_rejected_and_stays_in_the_form(client, asked, told):
    answer = client.get("/?" + urlencode(asked))
    assert answer.status_code == 400
    assert told in unescape(answer.text)
    typed = dict(asked)["q"].strip()
    assert f'name="q" type="search" value="{typed}"' in answer.text


def test_too_many_labels_are_rejected_and_stay_in_the_form(client):
    labels = ",".join(f"label {i}" for i in range(65))
    answer = client.get("/playground?" + urlencode({"labels": labels}))
    assert answer.status_code == 400
    assert "65 labels" in answer.text
    assert "label 64" in answer.text


def test_errors_are_a_page_for_browsers_and_json_for_programs(client):
    for path in ("/nowhere", "/p/nothing"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "All products" in answer.text
    answer = client.get("/nowhere", headers={"Accept": "*/*"})
    assert answer.json()["error"]["code"] == "not_found"


def test_a_rate_limit_is_a_page_with_a_retry_link(store):
    with serving(store, rate_per_minute=1, burst=1) as client:
        assert client.get("/").status_code == 200
        answer = client.get("/?q=shirt")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert "Try again" in answer.text
        assert (
            client.get("/search", headers={"Accept": "*/*"}).json()["error"]["code"] == "too_many"
        )


# safety


PATHS = ("/", "/?q=shirt&like=P00&scores=1", "/p/P00", "/playground", "/docs", "/p/none", "/none")
PATHS += ("/shortlist?ids=P00&ids=100%25&ids=none", "/shortlist")


@pytest.mark.parametrize("path", PATHS)
def test_pages_obey_their_content_security_policy(client, path):
    answer = client.get(path)
    text = answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(r"<[^>]+ (style|on\w+)=", text)
    assert not re.search(r"<style|<script(?! src=\"/static/)", text)
    assert not re.search(r'(src|srcset|href|action)="(https?:)?//', text)


@pytest.mark.parametrize("place", ["/?q=", "/?like=", "/?avoid=", "/?f.colour=", "/p/", "/none/"])
def test_input_is_escaped(client, place):
    answer = client.get(place + quote('"><script>alert(1)</script>', safe=""))
    assert "<script>alert" not in answer.text
    assert "alert(1)" in answer.text


def test_static_files_may_be_cached_for_ever(client):
    sources = re.findall(r'(?:href|src)="(/static/[^"]*)"', client.get("/").text)
    names = {urlsplit(source).path.removeprefix("/static/") for source in sources}
    assert names == {name for name in STATIC if "api_docs" not in name}
    for source in sources:
        answer = client.get(source)
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/page.css?v=old").headers["cache-control"] == "no-cache"
    assert client.get("/static/../app.py").status_code == 404


# API documentation


def test_every_endpoint_is_documented_and_its_command_works(client):
    text = client.get("/docs").text
    described = client.get("/openapi.json").json()["paths"]
    commands = [unescape(one) for one in re.findall(r"<pre><code>(.*?)</code>", text, re.DOTALL)]
    assert len(commands) == sum(len(methods) for methods in described.values())
    tried = 0
    for command in commands:
        words = shlex.split(command.replace("\\\n", ""))
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        if method in {"PUT", "PATCH", "DELETE"} or "/bulk" in command or "/admin/" in command:
            continue  # others read this index
        body = words[words.index("-d") + 1].encode() if "-d" in words else None
        headers = {"Accept": "*/*"} | ({"Content-Type": "application/json"} if body else {})
        (url,) = (word for word in words if word.startswith(BASE))
        answer = client.request(method, url, content=body, headers=headers)
        assert answer.status_code == 200, command
        tried += 1
    assert tried >= 8


# keys


@pytest.fixture(scope="module")
def locked(store, tmp_path_factory):
    """A client of a service with keys, and a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    key = new_key(keys, "read")
    with serving(store, key_file=keys) as client:
        yield client, key


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_signing_in_leads_back_to_the_requested_page(locked):
    client, key = locked
    answer = client.get("/?q=red+shirt&f.colour=red")
    assert answer.status_code == 303
    form = client.get(answer.headers["location"])
    assert 'value="/?q=red+shirt&amp;f.colour=red"' in form.text
    wrong = client.post("/login", content=urlencode({"key": "no"}), headers=FORM)
    assert wrong.status_code == 403
    assert "not valid here" in wrong.text
    body = urlencode({"key": key, "next": "/?q=red+shirt"})
    answer = client.post("/login", content=body, headers=FORM)
    assert answer.headers["location"] == "/?q=red+shirt"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "Sign out" in client.get("/").text
    assert client.delete("/products?id=P00").status_code == 403
    answer = client.post("/login", content="out=1", headers=FORM)
    assert answer.headers["location"] == "/login"
    assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "x"]
)
def test_signing_in_never_leads_to_another_site(locked, place):
    client, key = locked
    body = urlencode({"key": key, "next": place})
    answer = client.post("/login", content=body, headers=FORM)
    client.cookies.clear()
    assert answer.headers["location"] == "/"


# uploaded images and further views


def test_uploaded_images_survive_a_restart_and_are_shared_by_workers(tmp_path):
    folder = tmp_path / "new" / "uploads"
    one, other = UploadedImages(folder), UploadedImages(folder)
    token = one.put(encoded(draw("red")), max_pixels=10**6)
    assert other.get(token) == one.get(token) is not None
    assert other.put(encoded(draw("red")), max_pixels=10**6) == token
    assert UploadedImages(folder).get(token) == one.get(token)
    assert UploadedImages().get(token) is None
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("key", "../uploads/key", token.upper(), ""):
        assert one.get(name) is None


def test_the_images_used_least_recently_make_room(tmp_path):
    uploads = UploadedImages(tmp_path, memory_bytes=1, folder_bytes=2_500)
    tokens = [uploads.put(encoded(draw(c)), max_pixels=10**6) for c in ("red", "blue")]
    for i, token in enumerate(tokens):
        os.utime(tmp_path / f"{token}.jpg", (i, i))
    assert uploads.get(tokens[0]) is not None  # counts as a use
    while len(list(tmp_path.glob("*.jpg"))) == len(tokens):
        image = draw("green", size_px=48 + len(tokens))
        tokens.append(uploads.put(encoded(image), max_pixels=10**6))
    assert uploads.get(tokens[1]) is None
    assert uploads.get(tokens[0]) is not None
    assert uploads.get(tokens[-1]) is not None
    assert (tmp_path / "key").exists()


def test_a_folder_that_cannot_be_written_to_leaves_images_in_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    uploads = UploadedImages(tmp_path / "file" / "uploads")
    token = uploads.put(encoded(draw("red")), max_pixels=10**6)
    assert uploads.get(token) is not None


@pytest.mark.parametrize(
    ("main", "columns", "found"),
    [
        ("/shop/img/a.jpg", {"image": "img/a.jpg", "more": "img/b.jpg"}, ["/shop/img/b.jpg"]),
        ("/shop/img/a.jpg", {"image": "a.jpg", "more": '["b.jpg", "c.jpg", "a.jpg"]'}, ["b", "c"]),
        ("/shop/img/a.jpg", {"image": "/shop/img/a.jpg", "more": "/shop/img/b.jpg"}, ["b"]),
        ("/shop/img/a.jpg", {"image": "a.jpg", "more": "/etc/b.jpg"}, []),
        ("/shop/img/a.jpg", {"image": "a.jpg", "more": "../b.jpg"}, []),
        ("/shop/img/a.jpg", {"image": "a.jpg", "more": "/shop/img/../../etc/b.jpg"}, []),
        ("/shop/img/a.jpg", {"image": "a.jpg", "more": "http://10.0.0.1/b.jpg"}, []),
        ("/a.jpg", {"image": "/a.jpg", "more": "/etc/b.jpg"}, []),
        (
            "https://x.example/a.jpg",
            {"image": "https://x.example/a.jpg", "more": "/c/b.jpg"},
            ["https://x.example/c/b.jpg"],
        ),
        (
            "https://x.example/a.jpg",
            {"image": "https://x.example/a.jpg", "more": "https://cdn.example/b.jpg"},
            ["https://cdn.example/b.jpg"],
        ),
        ("s3://shop/img/a.jpg", {"image": "a.jpg", "more": "b.jpg"}, ["s3://shop/img/b.jpg"]),
        ("s3://shop/img/a.jpg", {"image": "a.jpg", "more": "s3://other/b.jpg"}, []),
        ("blob:12/34", {"image": None, "more": "b.jpg"}, []),
        (None, {"more": "b.jpg"}, []),
    ],
)
def test_further_views_are_images_beside_the_main_one(main, columns, found):
    roles = Roles(image="image", further_images=("more",))
    wanted = [name if "/" in name else f"/shop/img/{name}.jpg" for name in found]
    assert further_views(columns, roles, main) == wanted
