"""Garments of photographs and words on pictures, through the API, the client and the page."""

import io
import re

import pytest
from PIL import Image
from starlette.testclient import TestClient

from fashionclip import Catalog, FashionCLIP, index_catalog
from fashionclip.client import Client
from fashionclip.errors import RefusedError
from fashionclip.sample import write_sample_catalog
from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from outfit import SIZE, OutfitDetector, outfit
from running_service import Running
from small_shop import as_base64, encoded

PHOTO = outfit("sweater", "skirt")[0]
HTML = {"accept": "text/html"}


@pytest.fixture(scope="module", autouse=True)
def _known_garments():
    """What the service does with garments does not depend on how many the model finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fashionclip.serve.localizing.WordDetector", OutfitDetector)
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A small shop by the built-in model; the picture of S0002 is gone, that of S0003 is plain."""
    folder = tmp_path_factory.mktemp("sample")
    table = write_sample_catalog(folder, n_products=24)
    Image.new("RGB", (80, 80), "teal").save(folder / "images" / "S0003.jpg")
    index_catalog(Catalog.open(table), FashionCLIP.from_pretrained(), folder / "shop.lance")
    (folder / "images" / "S0002.jpg").unlink()
    return folder / "shop.lance"


@pytest.fixture(scope="module")
def client(store):
    metrics = Metrics()
    limits = Settings(rate_per_minute=0, k=50)
    app = create_app(SearchService(store, limits, metrics), limits, metrics)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


def ok(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


# the API


def test_a_photograph_is_answered_garment_by_garment(client):
    answer = ok(client.post("/v1/garments", json={"image": as_base64(PHOTO), "k": 3}))
    assert (answer["width"], answer["height"]) == SIZE
    assert {one["garment"] for one in answer["garments"]} == {"sweater", "skirt"}
    for one in answer["garments"]:
        box = one["box"]
        assert 0 <= box["left"] < box["right"] <= SIZE[0]
        assert 0 <= box["top"] < box["bottom"] <= SIZE[1]
        assert len(one["hits"]) == 3
        assert one["has_more"]


def test_a_photograph_is_searched_with_a_filter_and_words(client):
    query = {"image": as_base64(PHOTO), "where": "gender = 'Men'", "garments": ["skirt"]}
    answer = ok(client.post("/v1/garments", json=query | {"fields": ["gender"]}))
    assert [one["garment"] for one in answer["garments"]] == ["skirt"]
    assert {hit["gender"] for hit in answer["garments"][0]["hits"]} == {"Men"}
    assert set(answer["garments"][0]["hits"][0]) == {"id", "score", "gender"}


@pytest.mark.parametrize("size", [(1, 1), (300, 400), (10_000, 100)])
def test_a_photograph_of_one_colour_has_no_garment(client, size):
    picture = as_base64(Image.new("RGB", size, "teal"))
    answer = ok(client.post("/v1/garments", json={"image": picture}))
    assert answer == {"width": size[0], "height": size[1], "garments": []}


def test_what_is_wrong_with_a_photograph_is_said(client):
    photo = as_base64(PHOTO)
    plain = as_base64(Image.new("RGB", (9, 9)))

    def post(**body):
        return client.post("/v1/garments", json=body)

    assert "give image" in refused(post(), 400)
    assert "cannot be decoded" in refused(post(image="bm8gcGljdHVyZQ=="), 400)
    assert "garment word 1 is empty" in refused(post(image=photo, garments=[" "]), 400)
    assert "did you mean 'garments'" in refused(post(image=photo, garment=["dress"]), 422)
    assert "colr" in refused(post(image=plain, where="colr = 'red'"), 400)
    assert "maximum is 50" in refused(post(image=plain, k=51), 400)
    assert refused(post(image_url="http://example.com/a.jpg"), 400)


def test_words_have_places_on_a_picture(client):
    words = ["dress", "lawn mower"]
    answer = ok(client.get("/v1/localize/S0001", params={"word": words}))
    image = Image.open(io.BytesIO(client.get("/v1/images/S0001?width=640").content))
    assert (answer["width"], answer["height"]) == image.size
    dress, mower = answer["words"]
    assert (dress["word"], mower["word"]) == tuple(words)
    assert dress["is_found"] == bool(dress["boxes"])
    assert (mower["is_found"], mower["boxes"]) == (False, [])
    assert mower["score"] < 0.5
    for box in dress["boxes"]:
        assert 0 <= box["left"] < box["right"] <= image.width


def test_a_map_is_a_picture_of_the_same_size(client):
    answer = client.get("/v1/maps/S0001", params={"word": "dress"})
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as image:
        picture = Image.open(io.BytesIO(client.get("/v1/images/S0001?width=640").content))
        assert image.size == picture.size
    assert client.get("/v1/maps/S0001", params={"word": "dress"}).content == answer.content


def test_what_is_wrong_with_a_word_or_a_product_is_said(client):
    for path in ("/v1/localize/", "/v1/maps/"):
        assert "no image here" in refused(client.get(path + "none?word=dress"), 404)
        assert "no image here" in refused(client.get(path + "S0002?word=dress"), 404)
        assert "one colour" in refused(client.get(path + "S0003?word=dress"), 400)
        assert refused(client.get(path + "S0001"), 422)
        assert "empty" in refused(client.get(path + "S0001?word=%20"), 400)
        assert "2,000" in refused(client.get(path + "S0001?word=" + "x" * 2_001), 400)
    many = {"word": [f"word {i}" for i in range(500)]}
    assert "16" in refused(client.get("/v1/localize/S0001", params=many), 422)


def test_a_photograph_counts_as_several_requests(store):
    metrics = Metrics()
    limits = Settings(rate_per_minute=1, burst=8)
    app = create_app(SearchService(store, limits, metrics), limits, metrics)
    plain = as_base64(Image.new("RGB", (9, 9)))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for _ in range(2):
            ok(client.post("/v1/garments", json={"image": plain}))
        assert client.post("/v1/garments", json={"image": plain}).status_code == 429


def test_the_client_finds_the_same(store, client):
    with Running(store) as running, Client(running.url, patience_s=0.0, timeout_s=120.0) as own:
        found = own.garments(encoded(PHOTO), ["skirt"], where="gender = 'Women'", k=2)
        assert [(one.garment, len(one.hits)) for one in found] == [("skirt", 2)]
        assert found[0].box.score == pytest.approx(0.8)
        (dress,) = own.localize("S0001", ["dress"])
        answer = ok(client.get("/v1/localize/S0001?word=dress"))["words"][0]
        assert (dress.score, len(dress.boxes)) == (answer["score"], len(answer["boxes"]))
        assert own.map_image("S0001", "dress")[:4] == b"\x89PNG"
        with pytest.raises(RefusedError, match="no image here"):
            own.map_image("none", "dress")
        running.socket.close()


# the page


@pytest.fixture(scope="module")
def token(client):
    sent = client.post("/pictures", content=encoded(PHOTO), headers={"content-type": "image/png"})
    return sent.json()["picture"]


def test_the_page_of_a_photograph_shows_boxes_and_hits_of_one(client, token):
    page = client.get(f"/garments?picture={token}", headers=HTML).text
    assert page.count("data-garment=") == page.count("data-choice=") >= 2
    assert page.count('aria-current="true"') == 1
    other = client.get(f"/garments?picture={token}&garment=1", headers=HTML).text
    assert re.findall('data-product="([^"]+)"', page)
    titles = [re.search("Like the ([a-z]+)", one)[1] for one in (page, other)]
    assert len(set(titles)) == 2
    onward = re.search(r'href="(/\?picture=[0-9a-f]+)"[^>]*>Filter and sort', page)[1]
    assert "data-product" in client.get(onward, headers=HTML).text


@pytest.mark.parametrize("garment", ["7", "-1", "x", "9" * 50, "²"])
def test_any_choice_has_a_page(client, token, garment):
    page = client.get("/garments", params={"picture": token, "garment": garment}, headers=HTML)
    assert page.status_code == 200
    assert page.text.count("data-choice=") >= 2
    assert page.text.count('aria-current="true"') == (garment != "7")


def test_a_page_without_garments_says_so(client):
    plain = encoded(Image.new("RGB", (90, 90), "teal"))
    sent = client.post("/pictures", content=plain, headers={"content-type": "image/png"}).json()
    page = client.get(f"/garments?picture={sent['picture']}", headers=HTML).text
    assert "No garment stands out" in page
    assert f'href="/?picture={sent["picture"]}"' in page
    assert "drop it again" in client.get("/garments?picture=gone", headers=HTML).text
    assert "Drop a photo" in client.get("/garments", headers=HTML).text


def test_a_search_by_a_picture_leads_to_its_garments(client, token):
    page = client.get(f"/?picture={token}", headers=HTML).text
    assert f'href="/garments?picture={token}"' in page
    assert "/garments" not in client.get("/?q=dress", headers=HTML).text


def test_a_products_page_shows_where_a_word_is(client):
    plain = client.get("/p/S0001", headers=HTML).text
    assert "/v1/maps/" not in plain
    page = client.get("/p/S0001?find=lawn+mower", headers=HTML).text
    assert 'src="/v1/maps/S0001?word=lawn+mower"' in page
    assert "“lawn mower” was not found in this picture" in page
    assert "one colour" in client.get("/p/S0003?find=dress", headers=HTML).text
    assert "no picture to look at" in client.get("/p/S0002?find=dress", headers=HTML).text
    assert "<script>alert" not in client.get("/p/S0001?find=<script>alert(1)", headers=HTML).text
