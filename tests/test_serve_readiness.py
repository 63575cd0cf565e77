"""What ``/ready`` tells a load balancer while a service loads, stops, or cannot read its store."""

import asyncio
import json
import shutil
import threading
import time

import pytest
from starlette.testclient import TestClient

from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.readiness import Flag, LoadingApp
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.store import StoreMeta, create_store


@pytest.fixture
def store(indexed_shop, tmp_path):
    return shutil.copytree(indexed_shop, tmp_path / "shop.lance")


class Shop:
    """A service in this process."""

    def __init__(self, store, **settings):
        """Open it."""
        self.settings = Settings(rate_per_minute=0, **settings)
        self.services = Services(SearchService(store, self.settings, Metrics()))
        app = create_app(self.services, self.settings, Metrics())
        self.client = TestClient(app, base_url="http://127.0.0.1:8000")

    def __enter__(self):
        """Begin to answer."""
        self.client.__enter__()
        return self

    def __exit__(self, *how):
        """Close it."""
        self.client.__exit__(*how)

    def ready(self):
        """Status and body of what it says of itself."""
        answer = self.client.get("/v1/ready")
        return answer.status_code, answer.json()

    def wait_for(self, state):
        """Wait until it is in a state."""
        end = time.monotonic() + 20
        while self.ready()[1]["status"] != state:
            assert time.monotonic() < end, self.ready()
            time.sleep(0.05)


def test_a_service_without_its_store_is_ready_for_a_time(store):
    with Shop(store, max_stale_seconds=2.0) as shop:
        assert shop.ready()[0] == 200
        shutil.rmtree(store)
        shop.wait_for("stale")
        assert shop.ready()[0] == 200
        shop.wait_for("outdated")
        status, body = shop.ready()
        assert (status, body["products"]) == (503, 18)
        assert body["error"]["code"] == "not_ready"
        assert "could not be read for too long" in body["error"]["message"]
        assert shop.client.get("/v1/search?q=red").json()["hits"]  # it answers all the same
        assert shop.client.get("/health").status_code == 200


def test_a_service_whose_store_another_model_has_made_anew_is_not_ready(store):
    with Shop(store) as shop:
        shutil.rmtree(store)
        create_store(store, StoreMeta("", "other", "1" * 16, 8))
        shop.wait_for("other_model")
        assert shop.ready()[0] == 503
        assert "start the service again" in shop.ready()[1]["error"]["message"]


def test_a_service_that_stops_says_so_and_goes_on_answering(store):
    is_stopping = Flag()
    with Shop(store) as shop:
        shop.services.is_stopping = is_stopping.__bool__
        assert shop.ready()[0] == 200
        is_stopping.set()
        status, body = shop.ready()
        assert (status, body["status"], body["products"]) == (503, "stopping", 18)
        assert shop.client.get("/v1/search?q=red").status_code == 200


def test_a_flag_is_set_once_and_cleared():
    flag = Flag()
    assert not flag
    for _ in range(3):
        flag.set()
        assert flag
    flag.clear()
    assert not flag


async def answer(scope, receive, send):
    """An app that answers 204, and notes how it was begun and ended."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            LIFE.append(message["type"])
        return
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body", "body": b""})


LIFE = []


def test_while_it_loads_probes_are_answered_and_other_requests_wait():
    may_open = threading.Event()

    def open_app():
        assert may_open.wait(20)
        return answer

    async def ask(app, path, method="GET"):
        sent = []

        async def send(message):
            sent.append(message)

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        await app({"type": "http", "path": path, "method": method}, receive, send)
        return sent[0]["status"], sent[1]["body"]

    async def live():
        app, messages, sent = LoadingApp(open_app, read_only=True), asyncio.Queue(), []

        async def send(message):
            sent.append(message["type"])

        living = asyncio.create_task(app({"type": "lifespan"}, messages.get, send))
        await messages.put({"type": "lifespan.startup"})
        assert await ask(app, "/health") == (200, b'{"status": "ok"}')
        status, body = await ask(app, "/v1/ready")
        assert (status, json.loads(body)["status"]) == (503, "loading")
        assert json.loads(body)["error"]["code"] == "not_ready"
        assert await ask(app, "/ready", "HEAD") == (503, b"")
        waiting = asyncio.create_task(ask(app, "/v1/search"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        may_open.set()
        assert await waiting == (204, b"")
        assert await ask(app, "/ready") == (204, b"")
        await messages.put({"type": "lifespan.shutdown"})
        await living
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    LIFE.clear()
    asyncio.run(live())
    assert LIFE == ["lifespan.startup", "lifespan.shutdown"]
