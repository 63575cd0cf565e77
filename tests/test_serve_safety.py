"""Keys, limits, logs, metrics and image URLs: the service's protections one by one."""

import asyncio
import contextlib
import io
import itertools
import json
import logging
import socket
import stat
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpcore
import pytest

from fashionclip.errors import ImageFetchError, ServiceError
from fashionclip.images import web
from fashionclip.serve.images import fetch_image
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.middleware import logs, rates
from fashionclip.serve.middleware.keys import Keys, new_key
from fashionclip.serve.middleware.limits import LimitsMiddleware
from fashionclip.serve.settings import Settings


@pytest.fixture
def log():
    """What the service logs meanwhile."""
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("fashionclip.serve", "uvicorn")]
    before = [(log.handlers, log.level, log.propagate) for log in loggers]
    logs.configure(stream)
    yield stream
    for log, (handlers, level, propagate) in zip(loggers, before, strict=True):
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


# keys


def test_a_key_has_its_scope_and_unknown_keys_have_none(tmp_path):
    path = tmp_path / "keys"
    reader, writer = new_key(path, "read"), new_key(path, "write")
    keys = Keys.read(path)
    assert keys.scopes(reader) == {"read"}
    assert keys.scopes(writer) == {"read", "write"}
    for stranger in ("", reader[:-1], reader + "x", reader.upper(), "x" * 10_000, "\ud800", "日本"):
        assert keys.scopes(stranger) == frozenset()
    assert len(keys) == 2
    assert Keys().scopes(reader) == frozenset()


def test_the_key_file_has_no_key_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "deep" / "keys"
    secret = new_key(path, "read")
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    new_key(path, "read")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    salts = [json.loads(line)["salt"] for line in path.read_text().splitlines()]
    assert len(set(salts)) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"secret\n", b"{}\n", b"[]", b"\xff", b'{"scope": "all", "salt": "", "hash": ""}'],
)
def test_a_file_without_keys_is_an_error_and_is_not_changed(tmp_path, content):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ServiceError, match=r"make a new key|make one"):
        Keys.read(path)
    with pytest.raises(ServiceError):
        new_key(path, "read")
    assert path.read_bytes() == content


def test_a_key_file_that_cannot_be_read_or_written_is_an_error_of_one_line(tmp_path):
    with pytest.raises(ServiceError, match="No such file"):
        Keys.read(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="cannot be written"):
        new_key(tmp_path / "file" / "keys", "read")
    with pytest.raises(ValueError, match="read, write or admin"):
        new_key(tmp_path / "keys", "root")


# the middleware before every route


async def echo(scope, receive, send):
    """An app that answers with the number of bytes it got, or fails on demand."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    if scope["path"] == "/broken":
        raise RuntimeError("an internal secret /etc/passwd")
    if scope["path"] == "/breaks-off":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def guarded(keys=None, app=echo, **settings):
    return LimitsMiddleware(app, Settings(**settings), Metrics(), keys)


@dataclass
class Answer:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    read: int
    """Parts of the body that were read."""

    @property
    def code(self):
        """Its error code."""
        return json.loads(self.body)["error"]["code"]


def ask(app, method="GET", path="/search", body=None, *, parts=None, pause_s=0.0, **headers):
    """One request, without a socket; ``parts`` are the pieces of a body without a length."""
    fields = {"host": "127.0.0.1:8000", **{k.replace("_", "-"): v for k, v in headers.items()}}
    if body is not None:
        fields.setdefault("content-type", "application/json")
        fields.setdefault("content-length", str(len(body)))
        parts = [body]
    elif parts is not None:
        fields.setdefault("content-type", "application/json")
        fields["transfer-encoding"] = "chunked"
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": ("203.0.113.5", 5),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in fields.items()],
    }
    sent, read = [], 0
    left = iter(parts or [b""])

    async def receive():
        nonlocal read
        await asyncio.sleep(pause_s)
        try:
            part = next(left)
        except StopIteration:
            return {"type": "http.request", "body": b"", "more_body": False}
        read += 1
        return (
            part
            if isinstance(part, dict)
            else {"type": "http.request", "body": part, "more_body": body is None and bool(parts)}
        )

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start = sent[0] if sent else {"status": 0, "headers": []}
    answered = {k.decode().lower(): v.decode() for k, v in start["headers"]}
    return Answer(start["status"], answered, b"".join(m.get("body", b"") for m in sent[1:]), read)


def test_a_body_reaches_the_app_complete():
    app = guarded(body_bytes=1000)
    assert ask(app, "POST", body=b"x" * 1000).body == b"1000"
    assert ask(app, "POST", parts=[b"x" * 400, b"", b"x" * 600]).body == b"1000"
    assert ask(app, "POST", body=b"x", content_type="image/png").body == b"1"
    assert ask(app).body == b"0"


def test_a_body_over_the_limit_is_rejected_before_its_end():
    app = guarded(body_bytes=1000)
    declared = ask(app, "POST", body=b"x" * 1001)
    assert (declared.status, declared.code, declared.read) == (413, "too_large", 0)
    endless = ask(app, "POST", parts=itertools.repeat(b"x" * 300, 10**6))
    assert (endless.status, endless.code, endless.read) == (413, "too_large", 4)
    assert endless.headers["connection"] == "close"
    assert ask(app, "POST", body=b"x", content_length="9" * 4000).status == 413


def test_a_slow_body_is_rejected():
    app = guarded(body_seconds=0.2)
    began = time.monotonic()
    slow = ask(app, "POST", parts=itertools.repeat(b"x"), pause_s=0.05)
    assert (slow.status, slow.code) == (408, "too_slow")
    assert time.monotonic() - began < 2


def test_the_memory_of_all_bodies_is_limited():
    app = guarded(held_bytes=1000)
    for _ in range(3):  # what was held is let go, whether it was taken or refused
        assert ask(app, "POST", body=b"x" * 1000).status == 200
        full = ask(app, "POST", body=b"x" * 1001)
        assert (full.status, full.code, full.headers["retry-after"]) == (503, "busy", "1")


def test_a_client_that_disconnects_is_no_error():
    gone = ask(guarded(), "POST", parts=[b"x", {"type": "http.disconnect"}])
    assert gone.status == 0


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "image/svg+xml",
        "text/html",
        "\xff",
    ],
)
def test_other_content_types_are_rejected(content_type):
    other = ask(guarded(), "POST", body=b"{}", content_type=content_type)
    assert (other.status, other.code) == (415, "content_type")


def test_known_content_types_are_accepted():
    app = guarded()
    assert (
        ask(app, "POST", body=b"{}", content_type="Application/JSON; charset=utf-8").status == 200
    )
    form = {"content_type": "application/x-www-form-urlencoded"}
    assert ask(app, "POST", "/login", body=b"key=x", **form).status == 200
    assert ask(app, "POST", body=b"x", content_encoding="gzip").status == 415


def test_every_answer_has_its_request_id_and_the_security_headers():
    for path in ("/search", "/broken"):
        answer = ask(guarded(), path=path)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert len(answer.headers["x-request-id"]) == 32
    assert ask(guarded(), x_request_id="shop-7.a_b").headers["x-request-id"] == "shop-7.a_b"
    for forged in ("a b", "x" * 65, "a\r\nset-cookie: x", "<b>", "\xe9"):
        assert len(ask(guarded(), x_request_id=forged).headers["x-request-id"]) == 32


def test_an_internal_error_is_one_line_for_the_client_and_a_traceback_in_the_log(log):
    broken = ask(guarded(), path="/broken", x_request_id="one")
    assert (broken.status, broken.code) == (500, "internal")
    assert b"secret" not in broken.body
    assert b"Traceback" not in broken.body
    failure, request = [json.loads(line) for line in log.getvalue().splitlines()]
    assert "RuntimeError: an internal" in failure["trace"]
    assert failure["request_id"] == request["request_id"] == "one"
    assert request["status"] == 500
    with pytest.raises(RuntimeError, match="too late"):  # the server breaks the connection off
        ask(guarded(), path="/breaks-off")


def test_each_request_is_logged_without_its_content(log):
    headers = {"authorization": "Bearer fc_secret", "x_request_id": "seven"}
    ask(guarded(), "POST", "/search", body=b'{"text": "red dress"}', **headers)
    (line,) = [json.loads(line) for line in log.getvalue().splitlines()]
    assert line.pop("ms") >= 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "request_id": "seven",
        "method": "POST",
        "route": "other",
        "status": 200,
        "client": "203.0.113.5",
    }


def test_requests_over_the_rate_are_rejected_with_retry_after():
    app = guarded(rate_per_minute=6, burst=3)
    assert [ask(app).status for _ in range(5)] == [200, 200, 200, 429, 429]
    late = ask(app)
    assert late.code == "too_many"
    assert 9 <= int(late.headers["retry-after"]) <= 11
    assert ask(app, path="/health").status == 200
    assert ask(guarded(rate_per_minute=0, burst=1)).status == 200


def test_buckets_refill_and_the_oldest_are_dropped(monkeypatch):
    now = 0.0
    monkeypatch.setattr(rates.time, "monotonic", lambda: now)
    limiter = rates.RateLimiter(per_second=2.0, burst=1)
    assert limiter.take("a", 1.0) == 0.0
    assert limiter.take("a", 1.0) == 0.5
    now = 0.5
    assert limiter.take("a", 1.0) == 0.0
    for i in range(4 * rates.MAX_CLIENTS):
        limiter.take(f"stranger {i}", 1.0)
    assert limiter.take("a", 1.0) == 0.0  # dropped, so it starts with a full bucket


def test_an_ipv6_network_is_one_client():
    assert rates.client_of("2001:db8::1") == rates.client_of("2001:db8::ffff:2%eth0")
    assert rates.client_of("2001:db8::1") != rates.client_of("2001:db8:0:1::1")
    assert rates.client_of("203.0.113.5") == "203.0.113.5"
    assert rates.client_of("not:an:address") == "not:an:address"


def test_too_many_requests_at_once_are_rejected_except_probes():
    async def run():
        leave = asyncio.Event()

        async def waits(scope, receive, send):
            if scope["path"] != "/health":
                await leave.wait()
            await echo(scope, receive, send)

        app = guarded(app=waits, connections=2)
        statuses = []

        async def one(path):
            async def receive():
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message):
                if "status" in message:
                    statuses.append((path, message["status"]))

            scope = {"type": "http", "method": "GET", "path": path}
            scope |= {"client": ("203.0.113.5", 5), "headers": [(b"host", b"localhost")]}
            await app(scope, receive, send)

        waiting = [asyncio.create_task(one("/slow")) for _ in range(2)]
        await asyncio.sleep(0)
        await one("/search")
        await one("/health")
        leave.set()
        await asyncio.gather(*waiting)
        await one("/search")
        return statuses

    assert asyncio.run(run()) == [
        ("/search", 503),
        ("/health", 200),
        ("/slow", 200),
        ("/slow", 200),
        ("/search", 200),
    ]


def test_requests_outside_a_keys_scope_are_forbidden(tmp_path):
    path = tmp_path / "keys"
    reader, writer = new_key(path, "read"), new_key(path, "write")
    app = guarded(key_file=path)
    for method, secret, status in [
        ("GET", "", 401),
        ("POST", "", 401),
        ("GET", "fc_wrong", 401),
        ("PUT", "fc_wrong", 401),
        ("GET", reader, 200),
        ("POST", reader, 200),
        ("PUT", reader, 403),
        ("DELETE", reader, 403),
        ("GET", writer, 200),
        ("PUT", writer, 200),
        ("DELETE", writer, 200),
    ]:
        fields = {"authorization": f"Bearer {secret}"} if secret else {}
        answer = ask(app, method, **fields)
        assert answer.status == status
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "fc_wrong" not in answer.body.decode()
    assert ask(app, x_api_key=reader).status == 200
    assert ask(app, authorization=f"Basic {reader}").status == 401
    assert ask(app, path="/health").status == 200
    assert ask(app, path="/metrics").status == 401


def test_the_cookie_allows_reading_only(tmp_path):
    path = tmp_path / "keys"
    writer = new_key(path, "write")
    app = guarded(key_file=path, host="0.0.0.0")
    cookie = f"other=1; fashionclip_key={writer}"
    assert ask(app, cookie=cookie, host="shop.example").status == 200
    assert ask(app, "DELETE", cookie=cookie).status == 403
    assert ask(app, cookie="fashionclip_key=x").status == 401
    assert ask(app, cookie="\x00;;=;fashionclip_key").status == 401
    to_login = ask(app, path="/", accept="text/html,*/*")
    assert (to_login.status, to_login.headers["location"]) == (303, "/login")
    assert ask(app, path="/login", accept="text/html").status == 200
    assert ask(app, path="/static/page.css").status == 200


def test_wrong_keys_count_against_the_rate(tmp_path):
    new_key(tmp_path / "keys", "read")
    app = guarded(key_file=tmp_path / "keys", rate_per_minute=1, burst=5)
    tried = [ask(app, authorization=f"Bearer fc_{i}").status for i in range(7)]
    assert tried == [401] * 5 + [429] * 2


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8000", "", "[::", "10.0.0.1"]
)
def test_without_keys_other_host_names_are_rejected(host):
    assert ask(guarded(), host=host).status == 421
    assert ask(guarded(host="0.0.0.0"), host=host).status == 200  # as was insisted on


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "127.0.0.1", "[::1]:8000", "127.8.8.8"]
)
def test_without_keys_the_names_of_this_machine_are_accepted(host):
    assert ask(guarded(), host=host).status == 200


# metrics


def test_metrics_are_in_prometheus_format(log):
    metrics = Metrics()
    app = LimitsMiddleware(echo, Settings(body_bytes=10), metrics)
    ask(app)
    ask(app, "BREW")
    ask(app, "POST", body=b"x" * 11)
    metrics.batch("texts", 7)
    metrics.pending("searches", 3)
    lines = metrics.render().decode().splitlines()
    assert 'fashionclip_requests_total{method="GET",route="other",status="200"} 1.0' in lines
    assert 'fashionclip_requests_total{method="other",route="other",status="200"} 1.0' in lines
    assert 'fashionclip_rejected_total{reason="too_large"} 1.0' in lines
    assert 'fashionclip_batch_size_bucket{batcher="texts",le="8.0"} 1.0' in lines
    assert 'fashionclip_queue_depth{queue="searches"} 3.0' in lines
    assert "fashionclip_requests_in_flight 0.0" in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)
    Metrics()  # a second one beside it


# image URLs


class Elsewhere(BaseHTTPRequestHandler):
    """A web server on this machine, like a cloud's metadata service."""

    visits: ClassVar[list[str]] = []

    def do_GET(self):
        """Answer as the path says."""
        self.visits.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/picture")
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 65536)
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(600):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a picture")

    def log_message(self, *args):
        """Log nothing."""


@pytest.fixture(scope="module")
def elsewhere():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


FETCHES = Settings(allow_image_urls=True)
INSIDE = Settings(allow_image_urls=True, allow_private=True, body_bytes=100_000, body_seconds=0.5)


def test_image_urls_are_fetched_only_if_allowed(elsewhere):
    Elsewhere.visits.clear()
    with pytest.raises(ImageFetchError, match="--allow-image-urls"):
        fetch_image(f"{elsewhere}/picture", Settings(allow_private=True))
    assert Elsewhere.visits == []
    assert fetch_image(f"{elsewhere}/picture", INSIDE) == b"a picture"
    data = "data:image/png;base64,YSBwaWN0dXJl"
    assert fetch_image(data, Settings()) == b"a picture"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/",
     "http://2130706433:{port}/", "http://0x7f.1:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
     "http://0.0.0.0:{port}/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
     "http://[fe80::1]/", "http://user:pass@127.0.0.1:{port}/", "HTTP://127.1:{port}/"],
)  # fmt: skip
def test_internal_addresses_are_neither_fetched_nor_named(elsewhere, url):
    Elsewhere.visits.clear()
    with pytest.raises(ImageFetchError) as refused:
        fetch_image(url.format(port=elsewhere.rpartition(":")[2]), FETCHES)
    assert "its address is an internal one" in str(refused.value)
    assert Elsewhere.visits == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "/etc/passwd", "s3://bucket/key", "memory://x", "ftp://host/x",
     "gopher://127.0.0.1/", "data:text/html,x", "https://", "http://", "", "//127.0.0.1/",
     "simplecache::http://127.0.0.1/", "http://" + "x" * 3000, "hf://datasets/a/b"],
)  # fmt: skip
def test_only_http_urls_are_fetched(url):
    with pytest.raises(ImageFetchError):
        fetch_image(url, INSIDE)


def test_a_redirect_to_an_internal_address_is_not_followed(elsewhere, monkeypatch):
    """The first address counts as public; the redirect's target does not."""
    answers = iter([True])
    monkeypatch.setattr(web, "is_public", lambda address: next(answers, False))
    web.close_connections()
    Elsewhere.visits.clear()
    with pytest.raises(ImageFetchError, match="internal"):
        fetch_image(f"{elsewhere.replace('127.0.0.1', 'localhost')}/moved", FETCHES)
    assert Elsewhere.visits == ["/moved"]


def test_a_name_that_resolves_differently_the_second_time_is_not_fetched(elsewhere, monkeypatch):
    port = int(elsewhere.rpartition(":")[2])
    addresses = iter(["93.184.215.14", "127.0.0.1", "127.0.0.1"])
    reached = []

    def rebinding(host, port, *args, **options):
        address = (next(addresses), port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

    def connect(self, host, port, **options):
        reached.append(host)
        raise httpcore.ConnectError("nobody there")

    monkeypatch.setattr(web.socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    Elsewhere.visits.clear()
    for _ in range(2):
        with pytest.raises(ImageFetchError):
            fetch_image(f"http://rebound.example:{port}/picture", FETCHES)
    assert reached == ["93.184.215.14"]  # the address that was checked, and never the other
    assert Elsewhere.visits == []


@pytest.mark.parametrize("path", ["/endless", "/drip"])
def test_fetched_images_are_limited_in_bytes_and_seconds(elsewhere, path):
    began = time.monotonic()
    with pytest.raises(ImageFetchError, match=r"larger than|within 0\.5 s"):
        fetch_image(elsewhere + path, INSIDE)
    assert time.monotonic() - began < 5
