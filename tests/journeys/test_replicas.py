"""Several services over one index: what one writes the others find, whoever is killed meanwhile."""

import copy
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.store import open_store
from service_process import new, serve
from small_shop import index_shop, write_catalog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
]
HAPROXY = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
SEEN_S = 2.0
"""Within this time a change is found everywhere, as docs/service.md says."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_catalog(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def uri(postgres_server, table, model):
    uri = f"{postgres_server.new_database('replicas')}&store=shop"
    index_shop(table, model, uri)
    return uri


@pytest.fixture(scope="module")
def owner(uri):
    """The service that writes; the last test stops it."""
    with serve(uri, limits={"drain_seconds": 3.0}) as service:
        yield service


@contextmanager
def asking(service):
    """A client that asks without a pause; the statuses."""
    is_over, statuses = threading.Event(), []

    def keep_asking():
        while not is_over.is_set():
            answer = service.ask("POST", "/search", {"text": "red shirt", "where": "price > 0"})
            statuses.append(answer.status)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        thread.join()


def everything(service):
    """All products with their columns, and the order in which a search finds them."""
    listed = json.loads(service.ask("POST", "/search", {"k": 100}).content)["hits"]
    return listed, service.search(text="red shirt", k=100, mode="vectors")


def kill(service):
    """End a service and its workers at once, as a machine that fails does."""
    parent = psutil.Process(service.process.pid)
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=20)


def test_a_replica_finds_what_another_service_writes_and_answers_meanwhile(uri, owner):
    with serve(uri, limits={"read_only": True}) as replica:
        took = []
        with asking(replica) as statuses:
            for i in range(5):
                assert owner.put(new("moved", price=1000.0 + i)).status == 200
                written = time.monotonic()
                replica.wait_until(lambda i=i: replica.search(where=f"price = {1000 + i}"), 20)
                took.append(time.monotonic() - written)
        assert statistics.median(took) < SEEN_S, took
        assert set(statuses) == {200}
        assert everything(replica) == everything(owner)


def test_an_index_in_a_bucket_is_followed_as_quickly(s3_bucket, table, model):
    uri = f"{s3_bucket}/replicated"
    index_shop(table, model, uri)
    replica, store, took = InMemoryIndex(uri, metrics=Metrics()), open_store(uri), []
    for name in replica.snapshot.ids[:4]:
        with store.writer() as writer:
            writer.delete([name])
        written = time.monotonic()
        while replica.snapshot.hit(name) is not None:
            assert time.monotonic() < written + 20
            time.sleep(0.02)
        took.append(time.monotonic() - written)
    assert statistics.median(took) < SEEN_S, took
    replica.close()


def test_a_replica_that_is_killed_while_it_reloads_starts_again_as_if_nothing_was(
    uri, owner, tmp_path
):
    limits = {"read_only": True, "snapshot_dir": str(tmp_path / "saved")}
    with serve(uri, limits=limits) as replica:
        replica.wait_until(lambda: any((tmp_path / "saved").glob("*.snapshot")))
        for i, colour in enumerate(("olive", "teal", "pink")):
            assert owner.put(new(f"n{i}", colour)).status == 200
        kill(replica)
        assert owner.ask("DELETE", "/products?id=n0").status == 200
        with serve(uri, limits=limits) as again:
            assert not any("is read whole" in line for line in again.log)
            assert everything(again) == everything(owner)
            kill(again)


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
def test_behind_haproxy_no_request_is_lost_while_a_replica_stops(uri, owner, tmp_path):
    """The configuration is that of deploy/, but for the addresses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shop = copy.copy(owner)
    shop.port = port  # behind the proxy
    with serve(uri, limits={"read_only": True, "drain_seconds": 4.0}) as replica:
        servers = [f"    server s{one.port} 127.0.0.1:{one.port}\n" for one in (owner, replica)]
        text = HAPROXY.read_text().replace("bind :8000", f"bind 127.0.0.1:{port}")
        text = re.sub(r"resolvers docker\n.*\n", "", text)
        (tmp_path / "cfg").write_text(re.sub(r" *server-template .*\n", "".join(servers), text))
        command = ["haproxy", "-db", "-f", str(tmp_path / "cfg")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as proxy:
            try:
                shop.wait_until(lambda: shop.get("/ready").status == 200, 20)
                time.sleep(2)  # until both have been checked
                with asking(shop) as statuses:
                    replica.process.send_signal(signal.SIGTERM)
                    assert replica.process.wait(30) == 0
                    n_before = len(statuses)
                    shop.wait_until(lambda: len(statuses) > n_before + 10, 20)
            finally:
                proxy.terminate()
    assert set(statuses) == {200}


def test_a_service_that_stops_tells_the_load_balancer_before_it_refuses(owner):
    owner.process.send_signal(signal.SIGTERM)
    owner.wait_until(lambda: owner.get("/ready").status == 503, 3)
    assert json.loads(owner.get("/ready").content)["status"] == "stopping"
    assert owner.search(text="red shirt", k=3)
    assert owner.process.wait(20) == 0
