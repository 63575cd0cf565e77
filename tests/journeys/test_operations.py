"""Several workers, replicas, and switches between indexes: the service as operators run it."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from itertools import count

import psycopg
import pytest

from fashionclip.store import open_store
from fashionclip.store.alias import write_alias
from service_process import code, new, serve
from small_shop import index_shop, write_catalog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals and file rights of POSIX"),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_catalog(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def whole(table, model):
    """The index, which is only copied."""
    index_shop(table, model, table.parent / "whole.lance")
    return table.parent / "whole.lance"


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "shop.lance")


def ready_workers(service, n):
    """Wait for n workers that answer; their process ids."""
    for sign in ("Application startup complete.", "the index is open"):
        service.wait_until(lambda sign=sign: sum(sign in line for line in service.log) >= n)
    return service.workers()[-n:]


@contextmanager
def asking(service, n=4):
    """Clients that ask without a pause, each request on a connection of its own; the statuses."""
    is_over, statuses, broken = threading.Event(), [], []

    def keep_asking():
        for i in count():
            if is_over.is_set():
                return
            try:
                statuses.append(service.ask("POST", "/search", {"text": f"red {i}", "k": 2}).status)
            except (OSError, http.client.HTTPException) as exc:
                broken.append(exc)

    threads = [threading.Thread(target=keep_asking) for _ in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield statuses, broken
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def metric(service, pattern):
    """The values of a metric."""
    text = service.get("/metrics").content.decode()
    return [float(value) for value in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)]


def test_every_worker_answers_and_the_metrics_are_of_all(store):
    with serve(store, limits={"workers": 2}) as service:
        workers = ready_workers(service, 2)
        with asking(service) as (statuses, broken):
            service.wait_until(lambda: len(statuses) > 300)
        assert not broken
        assert set(statuses) == {200}
        pattern = r'fashionclip_requests_total\{method="POST",route="/search",status="200"\}'
        totals = [metric(service, pattern) for _ in range(8)]  # whichever worker answers
        assert totals == [[len(statuses)]] * 8
        assert metric(service, "fashionclip_products") == [18.0]
        text = service.get("/metrics").content.decode()
        living = set(re.findall(r'process_resident_memory_bytes\{pid="(\d+)"\}', text))
        assert living == set(map(str, workers))

        # a write that one worker answered is found through the others within the time of a poll
        assert service.put(new("late", price=7.25)).status == 200
        time.sleep(1.5)
        found = [service.search(where="price = 7.25") for _ in range(12)]
        assert found == [["late"]] * 12


def test_a_crash_of_one_worker_costs_the_others_nothing(store):
    with serve(store, limits={"workers": 2}) as service:
        first, second = ready_workers(service, 2)
        with closing(http.client.HTTPConnection(service.host, service.port, timeout=30)) as own:
            assert service.ask("GET", "/health", connection=own).status == 200
            with asking(service, n=2) as (statuses, broken):
                os.kill(first, signal.SIGKILL)
                service.wait_until(lambda: len(service.workers()) == 3)
                ready_workers(service, 3)
        assert len(broken) <= 2  # what the dead worker had accepted
        assert set(statuses) == {200}
        assert len(statuses) > 50
        text = service.get("/metrics").content.decode()
        living = set(re.findall(r'process_resident_memory_bytes\{pid="(\d+)"\}', text))
        service.wait_until(lambda: str(first) not in service.get("/metrics").content.decode())
        assert str(second) in living


def test_a_hangup_replaces_the_workers_one_by_one(store):
    with serve(store, limits={"workers": 2}) as service:
        old = ready_workers(service, 2)
        with asking(service, n=2) as (statuses, broken):
            os.kill(service.process.pid, signal.SIGHUP)
            for pid in old:
                gone = f"Finished server process [{pid}]"
                service.wait_until(lambda gone=gone: any(gone in line for line in service.log))
        assert not broken
        assert set(statuses) == {200}
        assert not set(old) & set(service.workers()[-2:])


def test_a_rate_is_counted_over_all_workers(store):
    limits = {"workers": 3, "rate_per_minute": 6, "burst": 20}
    with serve(store, limits=limits) as service:
        ready_workers(service, 3)
        statuses = [service.ask("POST", "/search", {"k": 1}).status for _ in range(30)]
        assert 18 <= statuses.count(200) <= 22
        assert statuses[-5:] == [429] * 5


def test_workers_go_along_with_an_alias_without_losing_a_request(store, table, model, tmp_path):
    other = json.loads(table.read_text("utf-8").splitlines()[0]) | {"id": "only"}
    small = table.with_name("small.jsonl")
    small.write_text(json.dumps(other) + "\n", encoding="utf-8")
    index_shop(small, model, tmp_path / "small.lance")
    alias = tmp_path / "shop.alias"
    write_alias(alias, store)
    with serve(alias, limits={"workers": 2}) as service:
        ready_workers(service, 2)
        with asking(service, n=2) as (statuses, broken):
            for i in range(5):
                write_alias(alias, (store, tmp_path / "small.lance")[(i + 1) % 2])
                n = (18, 1)[(i + 1) % 2]

                def answers(n=n):
                    return {len(service.search(k=100)) for _ in range(8)} == {n}

                service.wait_until(answers)
        assert not broken
        assert set(statuses) == {200}


def test_a_replica_answers_and_never_writes(store, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    with serve(store, limits={"read_only": True}) as service:
        assert json.loads(service.get("/ready").content)["read_only"]
        for refused in (
            service.put(new("X")),
            service.ask("DELETE", "/products?id=P00"),
            service.ask("PATCH", "/products/P00", {}),
        ):
            assert code(refused) == (403, "read_only")
            assert b"send changes to the service that owns the index" in refused.content
        assert len(service.search(text="red", k=100)) == 18
        assert service.get("/images/P00").status == 200
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_a_replica_follows_an_index_that_it_may_not_write_to(store, table, model):
    """As on a read-only file system; root may write everywhere, so it gives up its rights."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    subprocess.run(["chmod", "-R", "a-w,a+rX", store.parent], check=True)
    drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"]
    with serve(store, limits={"read_only": True}, prefix=drop) as service:
        assert len(service.search(k=100)) == 18
        subprocess.run(["chmod", "-R", "u+w", store], check=True)
        lines = table.read_text("utf-8").splitlines()
        grown = table.with_name("grown.jsonl")
        more = json.dumps(json.loads(lines[0]) | {"id": "later"})
        grown.write_text("\n".join([*lines, more]) + "\n", encoding="utf-8")
        index_shop(grown, model, store)
        service.wait_until(lambda: len(service.search(k=100)) == 19, 20)


def test_a_replica_over_postgresql_needs_no_more_than_select(postgres_server, table, model):
    uri = f"{postgres_server.new_database('replica')}&store=shop"
    index_shop(table, model, uri)
    with psycopg.connect(uri.replace("&store=shop", ""), autocommit=True) as owner:
        owner.execute("CREATE ROLE reader LOGIN")
        owner.execute("GRANT USAGE ON SCHEMA shop TO reader")
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA shop TO reader")
    as_reader = uri.replace("postgres@", "reader@")
    with serve(as_reader, limits={"read_only": True, "workers": 2}) as service:
        assert len(service.search(text="red shirt", k=100)) == 18
        assert code(service.put(new("X"))) == (403, "read_only")
        with open_store(uri).writer() as writer:
            writer.delete(["P00"])
        service.wait_until(lambda: len(service.search(k=100)) == 17, 20)


def test_a_worker_that_cannot_start_again_leaves_the_others_at_work(store):
    with serve(store, limits={"workers": 2}) as service:
        first, _ = ready_workers(service, 2)
        manifest = store / "index.json"
        whole = manifest.read_text()
        manifest.write_text("{")
        os.kill(first, signal.SIGKILL)
        service.wait_until(lambda: any("is not readable" in line for line in service.log))
        time.sleep(2)
        for _ in range(5):
            assert len(service.search(text="red", k=100)) == 18
        manifest.write_text(whole)
        service.wait_until(lambda: len(service.workers()) == 3)
