"""Images from files, URLs and buckets, on real servers; internal addresses are refused."""

import base64
import gzip
import os
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoded_images import image_bytes
from fashionclip.errors import ImageFetchError
from fashionclip.images import web
from fashionclip.images.fetch import FetchPolicy, read_image_bytes, resolve_location

INSIDE = FetchPolicy(allow_private=True, timeout_s=5.0)


JPEG = image_bytes(Image.new("RGB", (8, 8), "red"))
VISITS: Counter[str] = Counter()
CONNECTIONS: set[int] = set()


class _Shop(BaseHTTPRequestHandler):
    """An image server with the faults of real ones."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        VISITS[self.path] += 1
        CONNECTIONS.add(self.client_address[1])
        name = self.path.strip("/").partition("?")[0]
        getattr(self, f"give_{name.partition('/')[0].partition('.')[0]}", self.give_nothing)()

    def log_message(self, format, *args):
        pass

    def give(self, body=JPEG, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def give_nothing(self):
        self.give(b"gone", 404)

    def give_good(self):
        self.give()

    def give_host(self):
        self.give(self.headers["Host"].encode())

    def give_moved(self):
        self.give(b"", 302, Location="/good.jpg")

    def give_round(self):
        self.give(b"", 302, Location="/round")

    def give_outside(self):
        self.give(b"", 302, Location=self.path.partition("?")[2])

    def give_busy(self):
        if VISITS[self.path] == 1:
            self.give(b"", 503, Retry_After=0)
        else:
            self.give()

    def give_always_busy(self):
        self.give(b"", 429, Retry_After=0)

    def give_reset(self):
        if VISITS[self.path] > 1 and "once" in self.path:
            self.give()
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def give_short(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(JPEG)))
        self.end_headers()
        self.wfile.write(JPEG[:50])
        self.close_connection = True

    def give_encoded(self):
        name = self.path.partition("?")[2]
        packed = {
            "gzip": gzip.compress(JPEG),
            "x-gzip": gzip.compress(JPEG[:100]) + gzip.compress(JPEG[100:]),
            "deflate": zlib.compress(JPEG),
            "deflate-raw": zlib.compress(JPEG)[2:-4],
            "gzip-short": gzip.compress(JPEG)[:-20],
            "gzip-damaged": b"\x1f\x8b\x08\0" + b"\xff" * 50,
            "gzip-bomb": gzip.compress(bytes(30_000_000)),
            "br": JPEG,
            "identity": JPEG,
        }[name]
        encoding = name if name == "x-gzip" else name.partition("-")[0]
        self.give(packed, Content_Encoding=encoding)

    def give_accent(self):
        places = {"utf8": "/good/blaue Hose ü.jpg".encode(), "latin1": b"/good/Gr\xfc\xdfe.jpg"}
        place = places[self.path.partition("?")[2]]
        self.wfile.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + place)
        self.wfile.write(b"\r\n\r\n")

    def give_large(self):
        self.give(b"x" * 5000)

    def give_endless(self):
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(1000):
                self.wfile.write(b"x" * 1000)
        except OSError:
            pass
        self.close_connection = True

    def give_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.drip(b"x")

    def give_headdrip(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.drip(b"x")

    def drip(self, byte):
        try:
            for _ in range(60):
                self.wfile.write(byte)
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass
        self.close_connection = True


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Do not log connections that a test breaks on purpose."""


@contextmanager
def serving(handler=_Shop):
    server = _QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def server():
    with serving() as url:
        yield url
        web.close_connections()  # open sockets would be ResourceWarnings


@pytest.fixture(autouse=True)
def new_visits():
    VISITS.clear()
    CONNECTIONS.clear()


# files


def test_a_path_is_read_from_the_base_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    assert read_image_bytes("a.jpg", base=str(tmp_path)) == JPEG
    assert read_image_bytes(str(tmp_path / "a.jpg"), base="/elsewhere") == JPEG


def test_a_file_url_is_a_path(tmp_path):
    (tmp_path / "blue jeans.jpg").write_bytes(JPEG)
    assert read_image_bytes((tmp_path / "blue jeans.jpg").as_uri()) == JPEG
    with pytest.raises(ImageFetchError, match="of another host"):
        read_image_bytes("file://server/share/a.jpg")


def test_windows_backslashes_are_mended(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(JPEG)
    assert read_image_bytes("images\\a.jpg", base=str(tmp_path)) == JPEG


def test_bytes_are_the_image_itself():
    assert read_image_bytes(JPEG) is JPEG


def test_a_data_url_holds_the_image():
    url = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
    assert read_image_bytes(url) == JPEG
    with pytest.raises(ImageFetchError, match="larger than the limit"):
        read_image_bytes(url, policy=FetchPolicy(max_bytes=100))


def test_a_missing_file_is_named():
    with pytest.raises(ImageFetchError, match=r"^/nowhere/a\.jpg: no such file; check the name"):
        read_image_bytes("a.jpg", base="/nowhere")


@pytest.mark.parametrize("name", ["nul\0byte.jpg", "x" * 5000, "."])
def test_an_impossible_path_is_an_image_error(name, tmp_path):
    with pytest.raises(ImageFetchError, match="cannot be read"):
        read_image_bytes(name, base=str(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageFetchError, match="not a regular file"):
        read_image_bytes("pipe.jpg", base=str(tmp_path))


def test_a_file_over_the_limit_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x" * 1001)
    with pytest.raises(ImageFetchError, match="larger than the limit"):
        read_image_bytes("a.jpg", base=str(tmp_path), policy=FetchPolicy(max_bytes=1000))
    assert read_image_bytes("a.jpg", base=str(tmp_path), policy=FetchPolicy(max_bytes=1001))


# locations


@pytest.mark.parametrize(
    ("location", "base", "expected"),
    [
        ("a b.jpg", "https://cdn.shop.com/x/", "https://cdn.shop.com/x/a%20b.jpg"),
        ("/a.jpg", "https://cdn.shop.com", "https://cdn.shop.com/a.jpg"),
        ("a#1.jpg?w=200", "https://cdn.shop.com", "https://cdn.shop.com/a%231.jpg?w=200"),
        ("a b.jpg", "s3://bucket/x", "s3://bucket/x/a b.jpg"),
        ("//cdn.shop.com/a.jpg", "/data", "https://cdn.shop.com/a.jpg"),
        (" http://a/b.jpg ", "/data", "http://a/b.jpg"),
        ("c.jpg", "/data", "/data/c.jpg"),
        ("/abs/c.jpg", "/data", "/abs/c.jpg"),
    ],
)
def test_a_location_is_made_whole(location, base, expected):
    assert resolve_location(location, base=base) == expected


# the web


def test_an_image_is_fetched_from_inside_only_if_that_is_allowed(server):
    assert read_image_bytes(f"{server}/good.jpg", policy=INSIDE) == JPEG
    with pytest.raises(
        ImageFetchError,
        match=r"/good\.jpg: 127\.0\.0\.1 is an internal address; pass --allow-private "
        r"\(allow_private=True\) if that is intended$",
    ):
        read_image_bytes(f"{server}/good.jpg")


@pytest.mark.parametrize(
    "host", ["localhost", "0", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_an_internal_address_gets_through(server, host):
    port = server.rpartition(":")[2]
    with pytest.raises(ImageFetchError, match=r"internal address|no address is known"):
        read_image_bytes(f"http://{host}:{port}/good.jpg")
    assert not VISITS


def test_a_redirect_inside_is_refused_where_it_leads(server, monkeypatch):
    monkeypatch.setattr(web, "is_public", _once(True))  # the first server counts as a public one
    with serving() as other, pytest.raises(ImageFetchError, match="is an internal address"):
        read_image_bytes(f"{server}/outside?{other}/good.jpg")
    web.close_connections()
    assert list(VISITS) == [f"/outside?{other}/good.jpg"]


def _once(answer):
    answers = iter([answer])
    return lambda address: next(answers, not answer)


def test_the_address_that_is_checked_is_the_one_that_is_connected_to(server, monkeypatch):
    """A name that answers with a public address first and an internal one later gains nothing."""
    lookups = []

    def rebinding(host, port, *args, **options):
        if host != "rebind.example":
            return real(host, port, *args, **options)
        lookups.append(host)
        address = "127.0.0.1" if len(lookups) > 1 else "192.0.2.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(web, "is_public", lambda address: address == "192.0.2.1")
    port = server.rpartition(":")[2]
    policy = FetchPolicy(timeout_s=0.3)
    with pytest.raises(ImageFetchError, match=r"cannot be reached|no complete answer"):
        read_image_bytes(f"http://rebind.example:{port}/good.jpg", policy=policy)
    assert lookups == ["rebind.example"]
    assert not VISITS


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "169.254.169.254"),
        *("172.16.0.1", "192.168.1.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1"),
        *("240.0.0.1", "255.255.255.255", "168.63.129.16", "192.88.99.1"),
        *("::", "::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1", "fe80::1"),
        *("fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
        *("64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1"),
        *("2002:a00:1::", "not an address", ""),
    ],
)
def test_internal_addresses_are_known(address):
    assert not web.is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "151.101.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_known(address):
    assert web.is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_no_more_public_in_the_clothes_of_version_6(address):
    mapped = [f"::ffff:{address}", f"64:ff9b::{address}"]
    assert [web.is_public(other) for other in mapped] == [web.is_public(str(address))] * 2


def test_redirects_are_followed_a_few_times(server):
    assert read_image_bytes(f"{server}/moved", policy=INSIDE) == JPEG
    with pytest.raises(ImageFetchError, match="redirected more than 5 times"):
        read_image_bytes(f"{server}/round", policy=INSIDE)


@pytest.mark.parametrize("name", ["utf8", "latin1"])
def test_a_redirect_may_lead_to_letters_beyond_ascii(server, name):
    assert read_image_bytes(f"{server}/accent?{name}", policy=INSIDE) == JPEG
    place = {"utf8": "/good/blaue%20Hose%20%C3%BC.jpg", "latin1": "/good/Gr%C3%BC%C3%9Fe.jpg"}[name]
    assert VISITS[place] == 1


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "deflate-raw", "identity"])
def test_an_encoded_body_is_decoded(server, name):
    assert read_image_bytes(f"{server}/encoded?{name}", policy=INSIDE) == JPEG


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gzip-short", "gzip encoding is damaged .it breaks off"),
        ("gzip-damaged", "gzip encoding is damaged"),
        ("gzip-bomb", "larger than the limit"),
        ("br", "encodes it as 'br', which was not asked for"),
    ],
)
def test_an_encoded_body_that_cannot_be_used_is_named(server, name, why):
    policy = FetchPolicy(allow_private=True, max_bytes=1_000_000)
    with pytest.raises(ImageFetchError, match=why):
        read_image_bytes(f"{server}/encoded?{name}", policy=policy)


def test_a_redirect_to_a_file_is_refused(server):
    with pytest.raises(ImageFetchError, match=r"redirected to file:///etc/passwd: not an http"):
        read_image_bytes(f"{server}/outside?file:///etc/passwd", policy=INSIDE)


def test_an_answer_other_than_200_is_named(server):
    with pytest.raises(
        ImageFetchError, match=r"/gone\.jpg: the server answered 404 Not Found; check the address"
    ):
        read_image_bytes(f"{server}/gone.jpg", policy=INSIDE)


def test_a_busy_server_gets_a_second_request(server):
    assert read_image_bytes(f"{server}/busy", policy=INSIDE) == JPEG
    with pytest.raises(ImageFetchError, match="429 Too Many Requests"):
        read_image_bytes(f"{server}/always_busy", policy=INSIDE)
    assert VISITS == {"/busy": 2, "/always_busy": 2}


def test_a_broken_connection_is_tried_twice(server):
    assert read_image_bytes(f"{server}/reset/once", policy=INSIDE) == JPEG
    with pytest.raises(ImageFetchError, match="cannot be reached"):
        read_image_bytes(f"{server}/reset/always", policy=INSIDE)
    assert VISITS == {"/reset/once": 2, "/reset/always": 2}


def test_an_image_that_breaks_off_is_no_image(server):
    with pytest.raises(ImageFetchError, match="cannot be reached"):
        read_image_bytes(f"{server}/short", policy=INSIDE)


@pytest.mark.parametrize("name", ["large", "endless"])
def test_an_image_over_the_limit_is_refused_while_it_comes(server, name):
    policy = FetchPolicy(allow_private=True, max_bytes=2000)
    with pytest.raises(ImageFetchError, match="larger than the limit"):
        read_image_bytes(f"{server}/{name}", policy=policy)


@pytest.mark.parametrize("name", ["drip", "headdrip"])
def test_a_server_that_drips_cannot_outlast_the_deadline(server, name):
    policy = FetchPolicy(allow_private=True, timeout_s=0.3)
    started = time.monotonic()
    with pytest.raises(ImageFetchError, match=r"no complete answer within 0\.3 s"):
        read_image_bytes(f"{server}/{name}", policy=policy)
    assert time.monotonic() - started < 2


def test_nobody_at_the_address_is_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ImageFetchError, match="cannot be reached") as caught:
        read_image_bytes(f"http://127.0.0.1:{port}/a.jpg", policy=INSIDE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///a.jpg", "http://[::1/a.jpg", "http://a:99999999/", "https://" + "x" * 300],
)
def test_a_url_that_is_none_is_named(url):
    with pytest.raises(ImageFetchError, match=r"not a valid URL|not an http"):
        read_image_bytes(url)


def test_a_server_that_does_not_speak_tls_is_one_line(server):
    with pytest.raises(ImageFetchError, match=r"cannot be reached \(.*SSL"):
        read_image_bytes(server.replace("http:", "https:") + "/good.jpg", policy=INSIDE)


def test_connections_are_kept_for_the_next_image(server):
    for i in range(5):
        read_image_bytes(f"{server}/good.jpg?{i}", policy=INSIDE)
    assert len(CONNECTIONS) == 1


def test_threads_fetch_at_once_without_mixing_images_up(server):
    fetched = {}

    def fetch(host):
        fetched[host] = read_image_bytes(f"http://{host}:{port}/host", policy=INSIDE)

    port = server.rpartition(":")[2]
    hosts = ["127.0.0.1", "localhost", "127.0.0.1"] * 4
    threads = [threading.Thread(target=fetch, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == {host: f"{host}:{port}".encode() for host in hosts}


def test_spaces_and_umlauts_in_a_url_are_sent_as_the_web_wants_them(server):
    assert read_image_bytes(f"{server}/good/grüne Bluse.jpg", policy=INSIDE) == JPEG
    assert set(VISITS) == {"/good/gr%C3%BCne%20Bluse.jpg"}


# other file systems


def test_any_file_system_that_fsspec_knows_is_read():
    fsspec.filesystem("memory").pipe("/shop/a.jpg", JPEG)
    assert read_image_bytes("memory://shop/a.jpg") == JPEG
    assert read_image_bytes("a.jpg", base="memory://shop") == JPEG
    with pytest.raises(ImageFetchError, match=r"^memory://shop/b\.jpg: no such file"):
        read_image_bytes("b.jpg", base="memory://shop")


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    with pytest.raises(ImageFetchError, match="oss:// needs a package: pip install ossfs"):
        read_image_bytes("oss://bucket/a.jpg")


@pytest.mark.parametrize("url", ["ftp://10.0.0.1/a.jpg", "sftp://host/a.jpg", "nonsense://a"])
def test_protocols_that_reach_any_host_must_be_enabled(url):
    with pytest.raises(ImageFetchError, match="pass --allow-private"):
        read_image_bytes(url)


@pytest.mark.parametrize("policy", [FetchPolicy(), INSIDE])
def test_a_chain_of_protocols_does_not_get_around_the_guard(policy):
    with pytest.raises(ImageFetchError, match="chained URLs"):
        read_image_bytes("zip://a.jpg::http://127.0.0.1/a.zip", policy=policy)


def test_an_unknown_protocol_is_an_image_error():
    with pytest.raises(ImageFetchError, match="nonsense://a: cannot be read"):
        read_image_bytes("nonsense://a", policy=INSIDE)
