"""A small proxy before a server of S3's protocol that makes the faults that object stores have."""

import http.client
import math
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
ANSWERS = {
    "SlowDown": (503, _ERROR.format("SlowDown", "Please reduce your request rate.")),
    "ExpiredToken": (400, _ERROR.format("ExpiredToken", "The provided token has expired.")),
    "AccessDenied": (403, _ERROR.format("AccessDenied", "Access Denied")),
    "NoSuchBucket": (404, _ERROR.format("NoSuchBucket", "The specified bucket does not exist")),
    "nothing listed": (
        200,
        "<?xml version='1.0'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        "<Name>shop</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>"
        "<IsTruncated>false</IsTruncated></ListBucketResult>",
    ),
}
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "server", "date"}

Plan = Callable[[str, str], str | float | None]
"""From a request's method and path to its fault: one of ``ANSWERS``, ``drop`` (the connection
breaks off in the middle of the answer), or seconds to wait."""


class FaultyS3:
    """The proxy, in threads of its own; ``plan`` may be replaced at any time."""

    def __init__(self, server: str) -> None:
        """Listen before a server."""
        self.plan: Plan = lambda method, path: None
        self.n_faults = 0
        handler = type("Handler", (_Handler,), {"proxy": self, "host": urlsplit(server).netloc})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Close the proxy."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyS3
    host = ""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.plan(self.command, self.path)
        self.proxy.n_faults += fault is not None
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault in ANSWERS:
            status, text = ANSWERS[fault]
            self._send(status, {"Content-Type": "application/xml"}, text.encode())
            return
        upstream = http.client.HTTPConnection(self.host, timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers))
        reply = upstream.getresponse()
        data, length = reply.read(), reply.headers.get("Content-Length")
        upstream.close()
        headers = {k: v for k, v in reply.headers.items() if k.lower() not in _HOP_BY_HOP}
        if self.command == "HEAD":
            self._send(reply.status, headers, b"", length=length)
        elif fault == "drop":
            self._send(reply.status, headers, data[: len(data) // 2], length=len(data) + 1)
            self.close_connection = True
        else:
            self._send(reply.status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def _send(self, status, headers, data, *, length=None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def every(n: int, fault: str | float, *, method: str = "", until: float = math.inf) -> Plan:
    """A fault in each n-th request of a method (any if empty), up to so many requests."""
    count = 0

    def plan(asked: str, path: str) -> str | float | None:
        nonlocal count
        if method not in {"", asked} or count >= until:
            return None
        count += 1
        return fault if count % n == 0 else None

    return plan
