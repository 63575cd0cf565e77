"""The service as a process on a port: bad input, slow clients, restarts, other writers."""

import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count

import pytest

from fashionclip.serve.middleware.keys import new_key
from fashionclip.store import open_store
from service_process import Service, code, new, serve
from small_shop import as_base64, index_shop, write_catalog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX"),
]


def answer_on(connection):
    """The answer on a bare connection."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.content = answer.read()
    return answer


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_catalog(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def whole(table, model):
    """The index, which is only copied."""
    path = table.parent / "whole.lance"
    index_shop(table, model, path)
    return path


@pytest.fixture
def store(whole, tmp_path):
    """A copy to serve."""
    return shutil.copytree(whole, tmp_path / "shop.lance")


@pytest.fixture(scope="module")
def sturdy(whole, tmp_path_factory):
    """The command with --allow-image-urls; its index does not change."""
    store = shutil.copytree(whole, tmp_path_factory.mktemp("sturdy") / "shop.lance")
    words = [sys.executable, "-m", "fashionclip.cli", "serve", str(store), "--rate", "0"]
    with Service([*words, "--port", "0", "--allow-image-urls"]) as service:
        yield service


@pytest.fixture(scope="module")
def impatient(whole, tmp_path_factory):
    """A service that waits two seconds for heads and bodies, and one for other writers."""
    store = shutil.copytree(whole, tmp_path_factory.mktemp("impatient") / "shop.lance")
    limits = {"head_seconds": 2.0, "body_seconds": 2.0, "write_seconds": 1.0}
    with serve(store, limits=limits) as service:
        service.store = store
        yield service


# bad input


def bomb(side):
    """A PNG of a few hundred bytes that declares side x side pixels."""

    def chunk(kind, data):
        sum_ = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_)

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(side // 8 + 1) * 50)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_an_image_bomb_is_rejected_before_it_is_decoded(sturdy):
    import base64

    picture = base64.b64encode(bomb(30_000)).decode()
    assert len(picture) < 2000
    began = time.monotonic()
    for method, path, body in [
        ("POST", "/search", {"image": picture}),
        ("POST", "/classify", {"image": picture, "labels": ["x"]}),
        ("POST", "/v1/embeddings", {"input": [{"image": picture}]}),
    ]:
        refused = sturdy.ask(method, path, body)
        assert code(refused) == (400, "image")
        assert b"too large" in refused.content
    assert time.monotonic() - began < 5
    rejected = json.loads(sturdy.put({"id": "bomb", "image": picture}).content)["rejected"]
    assert "too large" in rejected[0]["reason"]


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_gigabyte_is_rejected_early(sturdy, is_declared):
    size = "Content-Length: 1000000000" if is_declared else "Transfer-Encoding: chunked"
    head = f"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{size}"
    with sturdy.connect() as connection:
        connection.sendall(head.encode() + b"\r\n\r\n")
        sent, part = 0, b"x" * 65_536
        with contextlib.suppress(ConnectionError):
            for _ in range(16_000):
                connection.sendall(part if is_declared else b"10000\r\n" + part + b"\r\n")
                sent += len(part)
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    if connection.recv(1, socket.MSG_PEEK):
                        break
                connection.settimeout(30)
        connection.settimeout(30)
        assert code(answer_on(connection)) == (413, "too_large")
    assert sent < 60_000_000
    assert sturdy.search(text="red", k=1)


@pytest.mark.parametrize("where", ["'; drop table products --", "1=1 union select * from x"])
def test_sql_in_a_filter_is_not_run(sturdy, where):
    assert code(sturdy.ask("POST", "/search", {"where": where})) == (400, "filter")
    assert len(sturdy.search(where="price > 0", k=100)) == 18


def test_an_image_url_reaches_no_internal_server(sturdy):
    visits = []

    class Inside(BaseHTTPRequestHandler):
        def do_GET(self):
            visits.append(self.path)

        def log_message(self, *_):
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Inside) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for host in ("127.0.0.1", "localhost", "[::1]", "0x7f.1", "[::ffff:127.0.0.1]"):
            url = f"http://{host}:{server.server_port}/secret"
            refused = sturdy.ask("POST", "/search", {"image_url": url})
            assert code(refused) == (400, "image")
            assert b"internal" in refused.content
        server.shutdown()
        thread.join()
    assert visits == []


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 100_000,
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=range(6),
)
def test_bytes_that_are_not_http_do_no_harm(sturdy, noise):
    with sturdy.connect() as connection:
        connection.sendall(noise)
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            assert b" 500 " not in connection.recv(4096)
    assert sturdy.get("/health").status == 200


# slow and silent clients


def test_slow_heads_and_bodies_are_disconnected(impatient):
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    drips = [
        (b"", b"G"),
        (b"GET /health HTTP/1.1\r\nX: ", b"x"),
        (head + b"Content-Length: 1000\r\n\r\n", b"x"),
        (head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ]

    def drip(start, drop):
        began = time.monotonic()
        with impatient.connect() as connection:
            connection.sendall(start)
            with contextlib.suppress(OSError):
                while time.monotonic() - began < 20:
                    connection.sendall(drop)
                    time.sleep(0.2)
        return time.monotonic() - began

    with ThreadPoolExecutor(40) as pool:
        ended = list(pool.map(lambda i: drip(*drips[i % 4]), range(40)))
    assert max(ended) < 10
    assert impatient.search(text="red", k=1)


def test_a_body_that_continues_after_its_answer_is_disconnected(impatient):
    head = b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with impatient.connect() as connection:
        connection.sendall(head + b"Content-Length: 1000000\r\n\r\n")
        assert answer_on(connection).status == 405
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 20:
                connection.sendall(b"x")
                time.sleep(0.1)
    assert time.monotonic() - began < 5


def test_a_client_that_does_not_read_its_answers_is_disconnected(impatient):
    asked = json.dumps({"input": ["red"] * 64}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(asked)}\r\n"
    one = head.encode() + b"Content-Type: application/json\r\n\r\n" + asked
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((impatient.host, impatient.port))
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 20:  # pipelined
                connection.sendall(one)
                time.sleep(0.02)
    assert time.monotonic() - began < 15


def test_ten_thousand_silent_connections_do_not_block_others(sturdy):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000
    if hard != resource.RLIM_INFINITY and hard < wanted + 500:
        wanted = hard - 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 400), hard))
    silent = []
    try:
        for _ in range(wanted):
            silent.append(sturdy.connect())
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert sturdy.search(text="red", k=1)
            took.append(time.monotonic() - began)
        assert sorted(took)[2] < 2.0
    finally:
        for connection in silent:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(silent) == wanted


# keys and rates


def test_keys_and_rates_are_enforced(store, tmp_path):
    keys = tmp_path / "keys"
    reader, writer = new_key(keys, "read"), new_key(keys, "write")
    limits = {"key_file": str(keys), "rate_per_minute": 6, "burst": 12}
    with serve(store, limits=limits) as service:

        def status(method, path, key, body=None):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            return service.ask(method, path, body, headers).status

        product = {"products": [new("X")]}
        assert status("PUT", "/products", "", product) == 401
        assert status("PUT", "/products", "fc_wrong", product) == 401
        assert status("PUT", "/products", reader, product) == 403
        assert status("DELETE", "/products?id=P00", reader) == 403
        assert status("PUT", "/products", writer, product) == 200
        assert status("GET", "/products/X", reader) == 200
        assert status("GET", "/metrics", "") == 401
        told = [status("GET", "/products/X", reader) for _ in range(30)]
        assert told[:5] == [200] * 5
        assert set(told) == {200, 429}
        late = service.get("/products/X", headers={"Authorization": f"Bearer {reader}"})
        assert code(late) == (429, "too_many")
        assert int(late.getheader("Retry-After")) >= 1
        assert status("GET", "/health", "") == 200
        log = "".join(service.log)
        assert not any(secret in log for secret in (reader, writer, "fc_wrong"))


def test_a_full_queue_rejects_requests_and_does_not_grow(store):
    with serve(store, limits={"queue": 3, "max_batch": 1}) as service:
        body = {"input": ["a red dress with long sleeves"] * 64}
        deepest = []

        def ask(_):
            answer = service.ask("POST", "/v1/embeddings", body)
            return answer.status, answer.getheader("Retry-After"), answer.content

        def watch():
            while not is_over.wait(0.02):
                figures = service.get("/metrics").content.decode()
                deepest.append(float(re.search(r'queue_depth\{queue="calls"\} (\S+)', figures)[1]))

        is_over = threading.Event()
        watching = threading.Thread(target=watch)
        watching.start()
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(ask, range(120)))
        is_over.set()
        watching.join()
        told = {status for status, _, _ in answers}
        assert told == {200, 429}
        assert all(wait == "1" for status, wait, _ in answers if status == 429)
        assert all(b'"busy"' in body for status, _, body in answers if status == 429)
        assert max(deepest) <= 3
        assert service.search(text="red", k=1)


# processes that come and go


def test_a_killed_worker_is_replaced_and_answered_writes_are_kept(store):
    with serve(store) as service:
        for i in range(3):
            assert service.put(new(f"kept-{i}", price=1.5 + i)).status == 200
            os.kill(service.workers()[-1], signal.SIGKILL)
            service.wait_until(lambda i=i: len(service.workers()) > i + 1)
            service.wait_until(lambda: service.get("/ready").status == 200)
            kept = json.loads(service.get(f"/products/kept-{i}").content)
            assert kept["price"] == 1.5 + i
        assert len(service.search(k=100)) == 21


def test_a_stop_answers_accepted_requests(store):
    with serve(store, limits={"max_batch": 1}) as service:
        body = json.dumps({"input": ["a red dress"] * 64}).encode()
        waiting = []
        for _ in range(12):
            connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
            connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
            waiting.append(connection)
        connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
        put = json.dumps({"products": [new("last")]})
        connection.request("PUT", "/products", put, {"Content-Type": "application/json"})
        time.sleep(0.5)  # until they are taken from the socket
        os.kill(service.process.pid, signal.SIGTERM)
        statuses = []
        for one in [*waiting, connection]:
            answer = one.getresponse()
            answer.read()
            one.close()
            statuses.append(answer.status)
        assert statuses == [200] * 13
        assert service.process.wait(30) == 0
        with pytest.raises(OSError):  # noqa: PT011 - refused, or reset
            service.get("/health")
    service.lines()  # are all JSON, to the last
    assert open_store(store).fetch(["last"]).ids == ["last"]


def test_a_restart_loses_no_request(store):
    with serve(store) as service:
        is_over = threading.Event()
        statuses = []

        def keep_asking(is_kept):
            own = http.client.HTTPConnection(service.host, service.port, timeout=60)
            with contextlib.closing(own):
                for i in count():
                    if is_over.is_set():
                        return
                    body = {"text": f"red {i}", "k": 2}
                    was_open = is_kept and own.sock is not None
                    try:
                        kept = own if is_kept else None
                        answer = service.ask("POST", "/search", body, connection=kept)
                    except (ConnectionError, http.client.RemoteDisconnected):
                        if not was_open:
                            raise
                        own.close()  # idle for longer than it was kept: every client asks again
                        answer = service.ask("POST", "/search", body)
                    statuses.append(answer.status)

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(keep_asking, i % 2 == 0) for i in range(4)]
            try:
                for n in range(2):
                    os.kill(service.process.pid, signal.SIGHUP)
                    service.wait_until(lambda n=n: len(service.workers()) == n + 2)
                    gone = f"[{service.workers()[n]}]"
                    service.wait_until(
                        lambda gone=gone: any(
                            f"Finished server process {gone}" in line for line in service.log
                        )
                    )
                time.sleep(0.3)
            finally:
                is_over.set()
            for one in asking:
                one.result()  # none met a connection that broke
        assert set(statuses) == {200}
        assert len(statuses) > 20


def test_a_service_that_cannot_start_ends_with_a_message(store, other_model):
    (store / "index.json").write_text(
        json.dumps({**json.loads((store / "index.json").read_text()), "model": str(other_model)})
    )
    words = [sys.executable, "-m", "fashionclip.cli", "serve", str(store), "--port", "0"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=90, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: the index ")
    assert "holds vectors of the model" in last
    assert "Traceback" not in done.stderr


# an index that changes under it


def test_a_changing_index_is_followed(store, table, model, other_model, tmp_path):
    with serve(store) as service:
        lines = table.read_text("utf-8").splitlines()
        more = json.loads(lines[0]) | {"id": "later", "price": 500.0, "title": "later on"}
        grown = table.with_name("grown.jsonl")
        grown.write_text("\n".join([*lines[1:], json.dumps(more)]) + "\n", encoding="utf-8")
        is_over = threading.Event()

        def keep_asking():
            while not is_over.is_set():
                assert service.search(text="red shirt", where="price > 0", k=3)

        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(keep_asking) for _ in range(2)]
            try:
                index_shop(grown, model, store)
                service.wait_until(lambda: service.search(where="price = 500") == ["later"], 15)
                service.wait_until(lambda: len(service.search(k=100)) == 18, 15)  # one was removed

                shutil.rmtree(store)  # the folder is gone: answers come from memory
                service.wait_until(lambda: state(service) == "stale", 15)
                assert service.search(where="price = 500") == ["later"]
                assert service.get("/products/later").status == 200
                assert code(service.put(new("X"))) == (503, "index")

                index_shop(table, model, store)  # and here it is again
                service.wait_until(lambda: state(service) == "ready", 15)
                service.wait_until(lambda: service.search(where="price = 500") == [], 15)
                assert service.put(new("X")).status == 200
                assert "X" in service.search(k=100)

                shutil.rmtree(store)  # another model's is none of its business
                index_shop(table, other_model, store)
                service.wait_until(lambda: state(service) == "other_model", 15)
                assert "X" in service.search(k=100)
                assert code(service.put(new("Y"))) == (503, "index")
                assert len(open_store(store)) == 18
            finally:
                is_over.set()
            for one in asking:
                one.result()
        assert any("holds vectors of the model" in line for line in service.log)


def state(service):
    answer = service.get("/ready")
    assert (answer.status == 200) == (json.loads(answer.content)["status"] in {"ready", "stale"})
    return json.loads(answer.content)["status"]


def test_a_write_waits_for_another_writer_up_to_its_limit(impatient):
    other = open_store(impatient.store)
    with other.writer(timeout_s=5.0), ThreadPoolExecutor(10) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda i: impatient.put(new(f"w{i}")), range(10)))
        took = time.monotonic() - began
        assert {code(answer) for answer in answers} == {(503, "locked")}
        assert {answer.getheader("Retry-After") for answer in answers} == {"5"}
        assert 0.5 < took < 8
        assert impatient.search(text="red", k=1)  # meanwhile
    assert impatient.put(new("w0")).status == 200
    assert impatient.ask("DELETE", "/products?id=w0").status == 200


def test_concurrent_writers_lose_nothing(impatient, table, model):
    """Writers of this service beside another program that indexes into the same folder."""
    other = open_store(impatient.store)

    def put(i):
        for _ in range(20):
            answer = impatient.put(new(f"at-once-{i}", year=3000 + i))
            if answer.status != 503:
                return answer.status
            time.sleep(0.2)
        return answer.status

    with ThreadPoolExecutor(9) as pool:
        beside = pool.submit(index_shop, table, model, impatient.store)
        assert list(pool.map(put, range(24))) == [200] * 24
        beside.result()
    names = [f"at-once-{i}" for i in range(24)]
    stored = set(other.fetch(names, vectors=False).ids)  # less those that it removed
    impatient.wait_until(lambda: set(impatient.search(where="year >= 3000", k=100)) == stored, 15)
    gone = "&".join(f"id=at-once-{i}" for i in range(24))
    removed = json.loads(impatient.ask("DELETE", f"/products?{gone}").content)
    assert removed == {"removed": len(stored)}


def test_the_next_index_run_embeds_nothing_that_was_put(store, table, model):
    with serve(store) as service:
        line = json.loads(table.read_text("utf-8").splitlines()[0])
        picture = (table.parent / line.pop("image")).read_bytes()
        import base64

        put = {"id": line.pop("id"), "image": base64.b64encode(picture).decode(), "columns": line}
        assert service.put(put).status == 200
        report = index_shop(table, model, store)
        assert (report.embedded, report.updated, report.removed) == (0, 1, 0)


def test_a_full_disk_rejects_writes_and_searches_continue(store):
    with serve(store, limits={"file_bytes": 60_000}) as service:
        assert service.put(new("fits", price=7.5)).status == 200
        import numpy as np
        from PIL import Image

        noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
        large = {"id": "large", "image": as_base64(Image.fromarray(noise))}
        refused = service.put(large)
        assert code(refused) == (507, "full")
        assert refused.getheader("Retry-After")
        wide = [new(f"wide-{i}", title=f"{i} " + os.urandom(900).hex()) for i in range(60)]
        assert code(service.put(*wide)) == (507, "full")
        assert service.search(where="price = 7.5") == ["fits"]
        assert len(service.search(k=100)) == 19
        assert service.put(new("fits too")).status == 200
        os.kill(service.workers()[-1], signal.SIGKILL)
        service.wait_until(lambda: len(service.workers()) == 2)
        service.wait_until(lambda: service.get("/ready").status == 200)
        assert len(service.search(k=100)) == 20
        assert {"fits", "fits too"} <= set(service.search(k=100))


def test_every_line_of_the_log_is_json_without_queries(sturdy):
    number = f"check-{os.getpid()}"
    sturdy.ask("POST", "/search", {"text": "unmistakable words"}, {"X-Request-ID": number})
    sturdy.wait_until(lambda: any(number in line for line in sturdy.log), 10)
    lines = sturdy.lines()
    (own,) = [line for line in lines if line.get("request_id") == number]
    assert own["route"] == "/search"
    assert own["status"] == 200
    assert own["ms"] > 0
    assert not any("unmistakable" in json.dumps(line) for line in lines)
