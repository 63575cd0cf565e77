"""Requests to a service and what comes back: open connections, patience, and errors in words."""

import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpcore

from fashionclip.errors import RefusedError, ServiceError

KEEPALIVE_S = 4.0  # the service itself closes a silent connection after 5 s
MOST_CONNECTIONS = 64

_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_BROKEN = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Connection:
    """The way to one service; safe to use from several threads."""

    def __init__(self, url: str, key: str | None, *, timeout_s: float, patience_s: float) -> None:
        """Remember an address; nothing is sent yet.

        Raises:
            ValueError: it is no http(s) URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = f"{url!r} is no address of a service; write it like http://127.0.0.1:8000"
            raise ValueError(message)
        self._url = url.rstrip("/")
        self._headers = [("User-Agent", "fashionclip")]
        if key is not None:
            self._headers.append(("Authorization", f"Bearer {key}"))
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._pool = httpcore.ConnectionPool(
            max_connections=MOST_CONNECTIONS, keepalive_expiry=KEEPALIVE_S
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.close()

    def patiently(
        self, method: str, path: str, asked: Mapping[str, Any] | None = None
    ) -> httpcore.Response:
        """Send a request, again while the service is busy, as long as there is patience.

        Args:
            method: of the request.
            path: with its query.
            asked: what is sent as JSON.

        Returns:
            The last answer, whatever its status.

        Raises:
            ServiceError: the service cannot be reached, or is too slow.
        """
        body = b"" if asked is None else json.dumps(asked).encode()
        left_s = self._patience_s
        while True:
            reply = self.send(method, path, body)
            wait_s = retry_after_s(reply)
            if reply.status not in _BUSY or wait_s > left_s:
                return reply
            left_s -= wait_s
            time.sleep(wait_s)

    def answer(
        self, method: str, path: str, asked: Mapping[str, Any] | None = None
    ) -> httpcore.Response:
        """Have a request answered.

        Raises:
            RefusedError: the answer is not a 2xx.
            ServiceError: the service cannot be reached, or is too slow.
        """
        reply = self.patiently(method, path, asked)
        if not 200 <= reply.status < 300:
            refuse(reply)
        return reply

    def ask(self, method: str, path: str, asked: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """The JSON that answers a request.

        Raises:
            RefusedError: the answer is not a 2xx.
            ServiceError: the service cannot be reached, is too slow, or is another one.
        """
        reply = self.answer(method, path, asked)
        try:
            return json.loads(reply.content)
        except ValueError as exc:
            message = f"{self._url} does not answer as this service does; check the address"
            raise ServiceError(message) from exc

    def send(self, method: str, path: str, body: bytes = b"") -> httpcore.Response:
        """Send a request; once more if the connection breaks, as when the service is renewed.

        A second ``DELETE`` would count wrongly, so that is left to the caller.

        Raises:
            ServiceError: the service cannot be reached, or is too slow.
        """
        try:
            try:
                return self._request(method, path, body)
            except _BROKEN:
                if method == "DELETE":
                    raise
                return self._request(method, path, body)
        except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
            why = " ".join(str(exc).split()) or "the connection broke"
            message = f"{self._url} cannot be reached ({why}); is the service running?"
            raise ServiceError(message) from exc

    def _request(self, method: str, path: str, body: bytes) -> httpcore.Response:
        headers = [*self._headers, *([("Content-Type", "application/json")] if body else [])]
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        try:
            return self._pool.request(
                method,
                self._url + path,
                headers=headers,
                content=body or None,
                extensions={"timeout": timeouts},
            )
        except httpcore.TimeoutException as exc:
            message = (
                f"{self._url} did not answer within {self._timeout_s:g} s; "
                "try later, or give it more time (timeout_s)"
            )
            raise ServiceError(message) from exc


def refuse(reply: httpcore.Response) -> NoReturn:
    """Say what an answer that is not a 2xx comes to.

    Raises:
        RefusedError: always.
    """
    try:
        error = json.loads(reply.content)["error"]
        code, message, request_id = error["code"], error["message"], error["request_id"]
    except (ValueError, KeyError, TypeError):  # the page of a proxy in between
        code, request_id = "unknown", ""
        message = f"the answer is {reply.status} {_PHRASES.get(reply.status, '')}".rstrip()
    raise RefusedError(
        message,
        status=reply.status,
        code=code,
        request_id=request_id,
        retry_after_s=retry_after_s(reply),
    )


def retry_after_s(reply: httpcore.Response) -> float:
    """When the same request may do, in seconds; 0 where nothing is said of it."""
    said = next((value for name, value in reply.headers if name.lower() == b"retry-after"), b"")
    if said.isdigit():
        return max(1.0, float(said))
    return 1.0 if reply.status in _BUSY else 0.0
