"""The connection to a service: kept open, patient with a busy service, with its own messages."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx2

from fashionclip.errors import RefusedError, ServiceError

KEEPALIVE_S = 4.0  # the service closes an idle connection after 5 s
MAX_CONNECTIONS = 64

_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_CONNECTION_BROKE = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)


class Connection:
    """Connections to one service; safe to use from several threads."""

    def __init__(self, url: str, *, key: str | None, timeout_s: float, patience_s: float) -> None:
        """Store the address; nothing is sent yet. The arguments are those of ``Client``.

        Raises:
            ValueError: the URL is not an http(s) URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            message = f"{url!r} is no address of a service; write it like http://127.0.0.1:8000"
            raise ValueError(message)
        self._url = url.rstrip("/")
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._http = httpx2.Client(
            headers={"User-Agent": "fashionclip"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=timeout_s,
            limits=httpx2.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_S,
            ),
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """The JSON that answers a request.

        Raises:
            RefusedError: the status is not 2xx.
            ServiceError: the service cannot be reached, or something else answers.
        """
        reply = self.answer(method, path, body, key=key)
        try:
            return json.loads(reply.content)
        except ValueError as exc:
            message = f"{self._url} does not answer as this service does; check the address"
            raise ServiceError(message) from exc

    def answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> httpx2.Response:
        """The 2xx that answers a request.

        Raises:
            RefusedError: the status is another.
            ServiceError: the service cannot be reached.
        """
        reply = self.send_patiently(method, path, body, key=key)
        if not reply.is_success:
            refuse(reply)
        return reply

    def send_patiently(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> httpx2.Response:
        """Send a request, and repeat it while the service is busy and ``patience_s`` lasts."""
        left_s = self._patience_s
        while True:
            reply = self.send(method, path, body, key=key)
            wait_s = _retry_after_s(reply)
            if reply.status_code not in _BUSY or wait_s > left_s:
                return reply
            left_s -= wait_s
            time.sleep(wait_s)

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> httpx2.Response:
        """Send a request, and a second time if a kept connection breaks.

        A ``DELETE`` without an idempotency key is not repeated: its second answer would count too
        few products.

        Raises:
            ServiceError: the service cannot be reached, or is too slow.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        send = partial(self._http.request, method, self._url + path, json=body, headers=headers)
        with self._errors_in_words():
            try:
                return send()
            except _CONNECTION_BROKE:
                if method == "DELETE" and key is None:
                    raise
                return send()

    def send_lines(self, path: str, lines: Iterable[bytes]) -> httpx2.Response:
        """POST lines of JSON as they come; the request is not repeated.

        Raises:
            RefusedError: it is refused.
            ServiceError: the service cannot be reached, or is too slow.
        """
        headers = {"Content-Type": "application/x-ndjson"}
        with self._errors_in_words():
            reply = self._http.post(self._url + path, content=iter(lines), headers=headers)
        is_report = reply.headers.get("content-type", "").startswith("application/x-ndjson")
        if not is_report:
            refuse(reply)
        return reply

    @contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        """Raise the errors of the connection as the package's own.

        Raises:
            ServiceError: the service cannot be reached, or is too slow.
        """
        try:
            yield
        except httpx2.TimeoutException as exc:
            message = (
                f"{self._url} did not answer within {self._timeout_s:g} s; "
                "try later, or give it more time (timeout_s)"
            )
            raise ServiceError(message) from exc
        except (httpx2.TransportError, httpx2.DecodingError) as exc:
            why = " ".join(str(exc).split()) or "the connection broke"
            message = f"{self._url} cannot be reached ({why}); is the service running?"
            raise ServiceError(message) from exc


def refuse(reply: httpx2.Response) -> NoReturn:
    """Raise the error that an answer describes.

    Raises:
        RefusedError: always.
    """
    try:
        error = json.loads(reply.content)["error"]
        code, message, request_id = error["code"], error["message"], error["request_id"]
    except (ValueError, KeyError, TypeError):  # a proxy's error page
        code, request_id = "unknown", ""
        message = f"the answer is {reply.status_code} {reply.reason_phrase}".rstrip()
    raise RefusedError(
        message,
        status=reply.status_code,
        code=code,
        request_id=request_id,
        retry_after_s=_retry_after_s(reply),
    )


def _retry_after_s(reply: httpx2.Response) -> float:
    """Seconds until the request may be repeated; 0 if the answer names none."""
    value = reply.headers.get("retry-after", "")
    if value.isdigit():
        return max(1.0, float(value))
    return 1.0 if reply.status_code in _BUSY else 0.0


def json_object(reply: httpx2.Response) -> Mapping[str, Any]:
    """The JSON object of an answer; empty if it is something else."""
    try:
        fields = json.loads(reply.content)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
