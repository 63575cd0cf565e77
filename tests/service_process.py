"""The service as a process of its own, for tests of signals, limits and restarts."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from small_shop import as_base64, draw

START = """
import json, sys
from pathlib import Path
from fashionclip.serve.workers import serve
from fashionclip.serve.settings import Settings
settings = json.loads(sys.argv[2])
if "file_bytes" in settings:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (settings["file_bytes"], settings.pop("file_bytes")))
for name in {"key_file", "snapshot_dir"} & settings.keys():
    settings[name] = Path(settings[name])
serve(sys.argv[1], Settings(**settings), on_address=lambda a: print("at", a, file=sys.stderr))
"""
"""What ``fashionclip serve`` calls, with limits that have no option."""
UP_S = 60.0


class Service:
    """A running service, and what it logs."""

    def __init__(self, words, **options):
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, encoding="utf-8", **options)
        said = self.process.stderr.readline()  # the log follows
        self.log = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        address = urlsplit(said.split()[-1])
        self.host, self.port = address.hostname, address.port
        self.wait_until(lambda: self.get("/ready").status == 200)

    def _read(self):
        self.log.extend(iter(self.process.stderr.readline, ""))

    def __enter__(self):
        """Return the service."""
        return self

    def __exit__(self, *_):
        """Stop it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stderr.close()

    def lines(self):
        """The log; every line of it is JSON."""
        return [json.loads(line) for line in list(self.log)]

    def workers(self):
        """The ids of the worker processes so far, the newest last."""
        told = (str(line.get("message")) for line in self.lines())
        found = (re.fullmatch(r"Started server process \[(\d+)\]", text) for text in told)
        return [int(match[1]) for match in found if match]

    def connect(self):
        """A bare connection."""
        return socket.create_connection((self.host, self.port), timeout=30)

    def ask(self, method, path, body=None, headers=(), *, connection=None):
        """One request, by default on a connection of its own."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} if body is not None else {}
        own = connection or http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            own.request(method, path, body, {**fields, **dict(headers)})
            answer = own.getresponse()
            answer.content = answer.read()
        finally:
            if connection is None:
                own.close()
        return answer

    def get(self, path, **options):
        """A GET."""
        return self.ask("GET", path, **options)

    def search(self, **asked):
        """The ids that a search finds."""
        answer = self.ask("POST", "/search", asked)
        assert answer.status == 200, answer.content
        return [hit["id"] for hit in json.loads(answer.content)["hits"]]

    def put(self, *products):
        """A PUT."""
        return self.ask("PUT", "/products", {"products": products})

    def wait_until(self, holds, seconds=UP_S):
        """Wait until a condition holds; network errors are ignored."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if holds():
                    return
            assert self.process.poll() is None, "".join(self.log)
            time.sleep(0.05)
        pytest.fail("it did not come about; the log says: " + "".join(self.log[-20:]))


def serve(store, *, limits=None, prefix=(), **options):
    """The service with other limits (fields of ``Settings``)."""
    limits = {"port": 0, "rate_per_minute": 0, "max_batch": 8, **(limits or {})}
    return Service(
        [*prefix, sys.executable, "-c", START, str(store), json.dumps(limits)], **options
    )


def new(product_id, colour="purple", *, size_px=50, **columns):
    return {
        "id": product_id,
        "image": as_base64(draw(colour, size_px=size_px)),
        "columns": {"title": f"new {colour}", **columns},
    }


def code(answer):
    """Status and error code of an answer, which must not name the index's place."""
    assert b"/tmp" not in answer.content
    assert b".lance" not in answer.content
    return answer.status, json.loads(answer.content)["error"]["code"]
