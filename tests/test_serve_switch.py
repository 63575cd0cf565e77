"""A service goes from one store to another while clients ask it."""

import asyncio
import gc
import http.client
import json
import re
import shutil
import threading
import time
import weakref
from contextlib import closing, contextmanager
from functools import partial

import numpy as np
import pytest
import uvicorn
from safetensors.numpy import load_file, save_file

from fashionclip.errors import ServiceError
from fashionclip.searching import Query
from fashionclip.serve.app import create_app
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware.keys import new_key
from fashionclip.serve.service import SearchService
from fashionclip.serve.services import Services
from fashionclip.serve.settings import Settings
from fashionclip.serve.switch import Switch
from fashionclip.serve.workers import listen
from fashionclip.store.alias import resolve, write_alias
from small_shop import index_shop, write_catalog

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def stores(tmp_path_factory, tiny_checkpoint):
    """A folder with two stores of other models, whose titles begin with their names."""
    folder = tmp_path_factory.mktemp("stores")
    other = shutil.copytree(tiny_checkpoint, folder / "other-model")
    weights = load_file(other / "model.safetensors")
    noisy = {name: np.ascontiguousarray(weight * 1.5) for name, weight in weights.items()}
    save_file(noisy, other / "model.safetensors", metadata={"format": "pt"})
    for name, model in (("one", tiny_checkpoint), ("two", other)):
        table = write_catalog(folder / name)
        table.write_text(table.read_text("utf-8").replace('"title": "', f'"title": "{name} '))
        index_shop(table, model, folder / f"{name}.lance")
    return folder


class Shop:
    """A service over an alias, in this process, on a port."""

    def __init__(self, folder, **limits):
        """Serve ``one.lance``."""
        self.alias, self.metrics = folder / "shop.alias", Metrics()
        self.admin, self.reader = (new_key(folder / "keys", one) for one in ("admin", "write"))
        write_alias(self.alias, folder / "one.lance")
        settings = Settings(rate_per_minute=0, key_file=folder / "keys", **limits)
        self.opened = weakref.WeakSet()
        store = resolve(self.alias)
        self.services = Services(self.open(store, settings))
        self.switch = Switch(
            self.alias, store, self.services, partial(self.open, settings=settings), self.metrics
        )
        app = create_app(self.services, settings, self.metrics, switch=self.switch)
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))

    def open(self, store, settings):
        """A service, of which only a weak reference is kept."""
        service = SearchService(store, settings, self.metrics)
        self.opened.add(service)
        return service

    @contextmanager
    def running(self):
        """Answer on a port while the block runs."""
        with listen("127.0.0.1", 0) as listening:
            self.port = listening.getsockname()[1]
            sockets = {"sockets": [listening]}
            thread = threading.Thread(target=self.server.run, kwargs=sockets)
            thread.start()
            try:
                self.wait_until(lambda: self.server.started)
                yield self
            finally:
                self.server.should_exit = True
                thread.join()

    def ask(self, path, body=None, *, key=None, connection=None):
        """Status and body of a request with a key."""
        own = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        fields = {"Content-Type": "application/json", "X-API-Key": key or self.reader}
        data = None if body is None else json.dumps(body)
        own.request("GET" if body is None else "POST", path, data, fields)
        answer = own.getresponse()
        text = answer.read().decode()
        if connection is None:
            own.close()
        return answer.status, text

    def ready(self):
        """What the probe says."""
        return json.loads(self.ask("/ready")[1])

    def go_to(self, name, **options):
        """Switch over HTTP."""
        status, text = self.ask(
            "/v1/admin/switch", {"store": name}, **{"key": self.admin, **options}
        )
        return status, json.loads(text)

    def title(self):
        """The title of a product."""
        return json.loads(self.ask("/products/P00")[1])["title"]

    def wait_until(self, holds):
        """Wait until a condition holds."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.02)


@pytest.fixture
def shop(stores, tmp_path):
    """A service over copies of the stores."""
    for name in ("one.lance", "two.lance"):
        shutil.copytree(stores / name, tmp_path / name)
    with Shop(tmp_path).running() as running:
        yield running


def stores_in(text):
    """The stores whose products an answer names."""
    return set(re.findall(r"\b(one|two) (?:red|blue|green|black|orange|purple) ", text))


def test_clients_that_ask_without_a_pause_see_one_store_an_answer_and_no_error(shop):
    is_over, faults, seen = threading.Event(), [], set()
    questions = (
        ("/search", {"text": "red shirt", "k": 9}),
        ("/search", {"where": "price > 0", "k": 18}),
        ("/p/P00", None),
        ("/?q=blue+dress", None),
        ("/v1/embeddings", {"input": ["red", "blue"]}),
        ("/images/P00", None),
    )

    def keep_asking(path, body):
        with closing(http.client.HTTPConnection("127.0.0.1", shop.port, timeout=30)) as own:
            while not is_over.is_set():
                if path.startswith("/images"):
                    own.request("GET", path, headers={"X-API-Key": shop.reader})
                    answer = own.getresponse()
                    status, text = answer.status, str(len(answer.read()))
                else:
                    status, text = shop.ask(path, body, connection=own)
                found = stores_in(text)
                seen.update(found)
                if status != 200 or len(found) > 1:
                    faults.append((status, path, text[:300]))

    asking = [threading.Thread(target=keep_asking, args=one) for one in questions]
    for thread in asking:
        thread.start()
    try:
        for i in range(5):
            new, old = ("two.lance", "one.lance")[:: -1 if i % 2 else 1]
            status, answer = shop.go_to(new)
            assert status == 200, answer
            assert (answer["old"], answer["new"], answer["products"]) == (old, new, 18)
            assert shop.title().startswith(new.removesuffix(".lance"))
    finally:
        is_over.set()
        for thread in asking:
            thread.join()
    assert not faults, faults[:3]
    assert seen == {"one", "two"}
    shop.wait_until(lambda: gc.collect() >= 0 and len(shop.opened) == 1)  # the others are gone
    assert 'fashionclip_switches_total{outcome="done"} 5.0' in shop.ask("/metrics")[1]


def test_the_service_follows_the_alias_and_goes_back(shop):
    for name in ("two", "one"):
        write_alias(shop.alias, shop.alias.with_name(f"{name}.lance"))
        shop.wait_until(lambda name=name: shop.title().startswith(name))


def test_a_request_keeps_its_service_until_it_is_answered(stores):
    first, second = (
        SearchService(stores / f"{name}.lance", Settings(), Metrics()) for name in ("one", "two")
    )
    services = Services(first)

    async def ask_while_it_is_replaced():
        is_asked, may_answer = asyncio.Event(), asyncio.Event()

        async def app(scope, receive, send):
            is_asked.set()
            await may_answer.wait()
            found = await services.current.search(Query(text="red shirt", k=3))
            assert all(hit.columns["title"].startswith("one ") for hit in found.hits)

        asked = asyncio.create_task(services.of_requests(app)({"type": "http"}, None, None))
        await is_asked.wait()
        services.replace(second)
        assert services.current is second  # for whoever comes now
        may_answer.set()
        await asked

    asyncio.run(ask_while_it_is_replaced())
    services.close()
    with pytest.raises(ServiceError, match="stopping"):
        asyncio.run(first.search(Query(text="red")))


def test_a_store_that_cannot_be_opened_changes_nothing(shop):
    status, answer = shop.go_to("none.lance")
    assert status == 400
    assert "there is no index at" in answer["error"]["message"]
    assert resolve(shop.alias).endswith("one.lance")
    assert shop.ready() == {
        "status": "ready",
        "products": 18,
        "model": shop.ready()["model"],
        "read_only": False,
        "switch_failed": False,
    }

    write_alias(shop.alias, shop.alias.with_name("none.lance"))
    shop.wait_until(lambda: shop.ready()["switch_failed"])
    assert shop.title().startswith("one ")
    metrics = shop.ask("/metrics")[1]
    assert "fashionclip_switch_failed 1.0" in metrics
    assert 'fashionclip_switches_total{outcome="failed"} 1.0' in metrics

    shop.alias.unlink()
    time.sleep(0.6)
    assert shop.ready()["switch_failed"]
    write_alias(shop.alias, shop.alias.with_name("two.lance"))
    shop.wait_until(lambda: shop.title().startswith("two ") and not shop.ready()["switch_failed"])


def test_http_reaches_only_stores_beside_the_alias(shop):
    for name in ("../one.lance", "/etc", "s3://bucket/x", "sub/two", "..", "shop.alias", "a\0b"):
        status, answer = shop.go_to(name)
        assert status == 400, name
        assert "alias" in answer["error"]["message"]
    assert shop.title().startswith("one ")


def test_only_a_key_for_administration_switches(shop):
    assert shop.go_to("two.lance", key=shop.reader)[1]["error"]["message"] == (
        "this key may not switch stores; use one made with --new-key admin"
    )
    assert shop.go_to("two.lance", key="fc_unknown")[0] == 401
    assert shop.go_to("two.lance")[0] == 200
