"""The client with the real service: answers, errors, retries and broken connections."""

import base64
import io
import json
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from fashionclip.catalog import Catalog
from fashionclip.client import Client, Deletion, NewProduct, Patch
from fashionclip.errors import ImageError, RefusedError, ServiceError
from fashionclip.indexing import index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.sample import write_sample_catalog
from fashionclip.searching import Query, search_many
from fashionclip.serve.middleware.keys import new_key
from fashionclip.store import open_store
from running_service import Running


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sample catalogue, indexed with the built-in model."""
    folder = tmp_path_factory.mktemp("shop")
    write_sample_catalog(folder / "sample", n_products=40)
    catalog = Catalog.open(folder / "sample" / "catalog.csv")
    index_catalog(catalog, FashionCLIP.from_pretrained(), folder / "shop.lance")
    return folder / "shop.lance"


@pytest.fixture(scope="module")
def service(store):
    with Running(store) as running:
        yield running
        running.socket.close()


@pytest.fixture
def client(service):
    with Client(service.url, patience_s=0.0) as client:
        yield client


@pytest.fixture(scope="module")
def image(store):
    return next(iter(sorted((store.parent / "sample" / "images").glob("*.jpg"))))


def test_search_finds_what_the_library_finds(client, store):
    query = {"text": "red dress", "avoid": ["stripes"], "where": "price < 90", "k": 5}
    found = client.search(**query)
    model = FashionCLIP.from_pretrained()
    (results,) = search_many(open_store(store), model, [Query(**query)])
    expected = results.hits
    assert [hit.product_id for hit in found.hits] == [hit.product_id for hit in expected]
    assert [hit.score for hit in found.hits] == pytest.approx([h.score for h in expected], abs=5e-2)
    without_id = [{**hit.columns} for hit in expected]
    assert all(columns.pop("id") for columns in without_id)  # it is a field of the hit already
    assert [dict(hit.columns) for hit in found.hits] == without_id
    assert found.has_more


def test_pages_fit_together_and_end(client):
    first, second = (client.search("shoes", k=20, offset=offset) for offset in (0, 20))
    ids = [hit.product_id for page in (first, second) for hit in page.hits]
    assert (len(ids), len(set(ids))) == (40, 40)
    assert (first.has_more, second.has_more) == (True, False)


def test_all_hits_are_read_page_by_page(client):
    query = {"text": "shoes", "mode": "hybrid"}
    whole = client.search(**query, k=40)
    fitting = [hit.product_id for hit in whole.hits[: whole.n_relevant]]
    assert [hit.product_id for hit in client.search_all(**query, k=3)] == fitting
    listed = [
        hit.columns["price"] for hit in client.search_all(sort="-price", fields="price", k=15)
    ]
    assert len(listed) == 40
    assert listed == sorted(listed, reverse=True)


def test_a_page_has_its_total_facets_and_explanations(client):
    page = client.search("dress", mode="hybrid", total=True, explain=True, facets="*", k=3)
    assert page.total >= page.n_relevant
    assert sum(n for _, n in page.facets["category"].values) <= page.total
    assert page.facets["price"].low <= page.facets["price"].high
    assert page.hits[0].explanation.matched == ("dress",)
    assert "explanation" not in page.hits[0].columns
    plain = client.search("dress", facets=["brand", "colour"], fields=())
    assert list(plain.facets) == ["brand", "colour"]
    assert (plain.hits[0].explanation, plain.hits[0].columns) == (None, {})


def test_the_model_is_listed(client):
    (model,) = client.models()
    assert model.name == client.ready().model
    assert model.dim == client.embed(["dress"]).shape[1]


@pytest.mark.parametrize("form", [str, Path, lambda place: place.read_bytes()])
def test_an_image_is_a_path_or_bytes(client, image, form):
    assert client.search(image=form(image), k=1).hits[0].product_id == image.stem


def test_an_image_may_be_a_data_url(client, image):
    url = f"data:image/jpeg;base64,{base64.b64encode(image.read_bytes()).decode()}"
    assert client.search(image=url, k=1).hits[0].product_id == image.stem


def test_similar_and_unlike_products(client, image):
    name = image.stem
    alike = client.similar(name, k=3)
    assert [hit.product_id for hit in alike.hits] == [
        hit.product_id for hit in client.search(similar_to=[name], k=3).hits
    ]
    unlike = client.search("shirt", unlike=[name], k=40, where="price > 0")
    assert name not in {hit.product_id for hit in (*alike.hits, *unlike.hits)}


def test_a_product_and_its_image(client, image):
    product = client.product(image.stem)
    assert (product.product_id, product.score) == (image.stem, 1.0)
    assert {"title", "price"} <= product.columns.keys()
    with Image.open(io.BytesIO(client.image(image.stem, width_px=100))) as small:
        assert small.format == "JPEG"
        assert small.width <= 160


def test_labels_come_most_probable_first(client, image):
    ranked = client.classify(image, ["dress", "shoe", "bag"], templates=["a image of a {}"])
    assert {one.label for one in ranked} == {"dress", "shoe", "bag"}
    assert sum(one.probability for one in ranked) == pytest.approx(1, abs=1e-4)
    assert [one.probability for one in ranked] == sorted(o.probability for o in ranked)[::-1]


def test_vectors_are_the_models_own_in_their_order(client, image):
    inputs = ["red dress", image, image.read_bytes(), *(f"shirt {i}" for i in range(130))]
    vectors = client.embed(iter(inputs))
    model = FashionCLIP.from_pretrained()
    assert vectors.dtype == np.float32
    assert vectors.shape == (133, model.dim)
    np.testing.assert_allclose(vectors[0], model.encode_text("red dress")[0], atol=5e-3)
    np.testing.assert_allclose(vectors[1], model.encode_images([image])[0], atol=5e-3)
    np.testing.assert_array_equal(vectors[1], vectors[2])
    np.testing.assert_allclose(vectors[-1], model.encode_text("shirt 129")[0], atol=5e-3)
    assert client.embed([]).shape == (0, 0)


def test_a_price_change_is_seen_at_once_and_after_a_restart_and_by_a_replica(store, tmp_path):
    """What a back end does: PATCH a price, and look at what a shopper sees."""
    copy = shutil.copytree(store, tmp_path / "shop.lance")
    service = Running(copy)
    with (
        service,
        Running(copy, read_only=True) as replica,
        Client(service.url) as back_end,
        Client(replica.url) as shopper,
    ):
        changed = back_end.patch("S0007", {"price": 0.5})
        assert changed.columns["price"] == 0.5
        cheapest = back_end.search(sort="price", k=1).hits[0]
        assert (cheapest.product_id, cheapest.columns["price"]) == ("S0007", 0.5)
        text = str(changed.columns["title"])
        found = back_end.search(text, sort="price", k=1, where="price < 1").hits
        assert [hit.product_id for hit in found] == ["S0007"]
        end = time.monotonic() + 10  # a second or so; longer where the machine is busy
        while shopper.search(sort="price", k=1).hits[0].product_id != "S0007":
            assert time.monotonic() < end
            time.sleep(0.05)
    replica.socket.close()
    with service, Client(service.url) as back_end:
        assert back_end.product("S0007").columns["price"] == 0.5
        with pytest.raises(RefusedError, match="1 product passes this filter") as wrong:
            back_end.delete("price < 1", expect=2)
        assert (wrong.value.status, wrong.value.code) == (409, "not_expected")
        for _ in range(2):  # the second is the first one's answer
            assert back_end.delete("price < 1", expect=1, idempotency_key="once") == 1
        prices = (Patch(f"S{i:04d}", {"price": 1 + i}) for i in range(1, 7))
        changes = [*prices, Deletion("S0008"), Patch("nobody", {"price": 1})]
        result = back_end.bulk(iter(changes))
        assert (result.patched, result.deleted) == (6, 1)
        assert [one.product_id for one in result.rejected] == ["nobody"]
    service.socket.close()


def test_products_are_stored_and_removed(client, image):
    names = [f"a/b c?{i}#ü" for i in range(70)]
    image_bytes = image.read_bytes()
    columns = {"title": "Grün", "price": 5.5}
    outcome = client.put(
        [*(NewProduct(n, image_bytes, columns) for n in names), NewProduct("bad", b"no picture")]
    )
    assert outcome.stored == 70
    assert [one.product_id for one in outcome.rejected] == ["bad"]
    assert "image" in outcome.rejected[0].reason
    assert client.product(names[-1]).columns["title"] == "Grün"
    assert client.image(names[-1])
    assert client.similar(names[0], k=1).hits[0].product_id in {*names, image.stem}
    assert client.remove([*names, "nobody"]) == 70
    only_bad = client.put([NewProduct("bad", b"no picture")])
    assert (only_bad.stored, len(only_bad.rejected)) == (0, 1)


def test_health_and_readiness(client):
    assert client.health()
    state = client.ready()
    assert (state.is_ready, state.status, state.model) == (True, "ready", "builtin")
    assert state.n_products == 40


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda client: client.product("nobody"), 404, "not_found"),
        (lambda client: client.image("nobody"), 404, "not_found"),
        (lambda client: client.search("x", where="prize < 3"), 400, "filter"),
        (lambda client: client.search(image=b"no picture"), 400, "image"),
        (lambda client: client.search("x" * 3000), 400, "invalid"),
        (lambda client: client.search("x", k=0), 422, "invalid"),
        (lambda client: client.search(image="http://shop.example/1.jpg"), 400, "image"),
    ],
)
def test_errors_have_the_services_message_and_code(client, ask, status, code):
    with pytest.raises(RefusedError) as refused:
        ask(client)
    error = refused.value
    assert (error.status, error.code, error.retry_after_s) == (status, code, 0)
    assert str(error)
    assert error.request_id


def test_a_missing_image_file_is_an_error(client):
    with pytest.raises(ImageError, match=r"nowhere\.jpg: cannot be read"):
        client.search(image="nowhere.jpg")


def test_keys(store, tmp_path):
    keys = tmp_path / "keys"
    reader = new_key(keys, "read")
    with Running(store, key_file=keys) as service:
        with Client(service.url) as client, pytest.raises(RefusedError, match="a key is needed"):
            client.search("dress")
        with Client(service.url, key=reader) as client:
            assert client.search("dress").hits
            with pytest.raises(RefusedError) as refused:
                client.remove(["S0001"])
            assert (refused.value.status, refused.value.code) == (403, "forbidden")
    service.socket.close()


def test_a_busy_service_is_asked_again_after_retry_after(store):
    """The service accepts two requests at once, then one in three seconds."""
    with Running(store, rate_per_minute=20, burst=2) as service:
        with Client(service.url, patience_s=0.0) as hasty:
            for _ in range(2):
                hasty.models()
            with pytest.raises(RefusedError) as refused:
                hasty.models()
            assert (refused.value.status, refused.value.code) == (429, "too_many")
            assert refused.value.retry_after_s >= 1
        with Client(service.url, patience_s=10.0) as patient:
            started = time.monotonic()
            assert patient.models()
            assert time.monotonic() - started < 9
    service.socket.close()


def test_connections_are_reused(client, service):
    before = service.connections.n_open
    for _ in range(5):
        client.search("dress")
    assert service.connections.n_open == before + 1


def test_a_restart_of_the_service_is_not_noticed(store):
    """The open connection breaks, and the request is sent again."""
    service = Running(store)
    with Client(service.url, patience_s=0.0) as client:
        for _ in range(2):
            with service:
                assert client.search("dress").hits
    service.socket.close()


def test_an_unreachable_service_is_an_error_of_one_line():
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}", timeout_s=0.1)
        with client, pytest.raises(ServiceError, match=r"did not answer within 0\.1 s"):
            client.health()
    client = Client(f"http://127.0.0.1:{port}")
    with client, pytest.raises(ServiceError, match=r"cannot be reached .*; is the service running"):
        client.search("dress")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://"])
def test_an_invalid_address_is_an_error(url):
    with pytest.raises(ValueError, match="is no address of a service"):
        Client(url)


class Stranger(BaseHTTPRequestHandler):
    """A server that is not the service: at ``/down`` a proxy's error, elsewhere a page."""

    def do_GET(self):
        """Answer with a page of its own."""
        self.send_response(502 if self.path.startswith("/down") else 200)
        page = b"<html>nginx</html>"
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *args):
        """Log nothing."""


def test_answers_of_other_servers_are_recognised():
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Client(f"{url}/down/") as client:
            with pytest.raises(RefusedError, match="the answer is 502 Bad Gateway") as refused:
                client.product("1")
            assert (refused.value.status, refused.value.code) == (502, "unknown")
            assert not client.health()
        with Client(url) as client:
            with pytest.raises(ServiceError, match="does not answer as this service does"):
                client.product("1")
            with pytest.raises(RefusedError):
                client.ready()
        server.shutdown()
        thread.join()


class Recorder(BaseHTTPRequestHandler):
    """Encodes every input as the number that it holds, and records the sizes of the requests."""

    sizes: ClassVar[list[tuple[int, int]]] = []

    def do_POST(self):
        """Answer with a vector of one number per input."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        inputs = json.loads(body)["input"]
        self.sizes.append((len(inputs), len(body)))
        numbers = [float(one.get("text") or len(one["image"])) for one in inputs]
        packed = [base64.b64encode(np.float32([n]).tobytes()).decode() for n in numbers]
        answer = json.dumps({"data": [{"embedding": one} for one in packed]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        """Log nothing."""


def test_long_lists_are_sent_in_several_requests_in_order():
    images = [b"x" * (i % 13 * 375_000) for i in range(20)]
    inputs = [*(image for image in images if image), *(str(i) for i in range(200))]
    with HTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            vectors = client.embed(inputs)
        server.shutdown()
        thread.join()
    expected = [4 * len(one) // 3 if isinstance(one, bytes) else int(one) for one in inputs]
    assert vectors[:, 0].tolist() == expected
    assert all(0 < n <= 64 and n_bytes < 13_000_000 for n, n_bytes in Recorder.sizes)
    assert len(Recorder.sizes) > 4
