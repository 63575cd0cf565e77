"""Structured logs: one line of JSON per request, and one per internal error.

No line holds an image, a query text or a key. uvicorn's own messages have the same format.
"""

import json
import logging
import time
import traceback
from typing import Protocol, runtime_checkable

_LOG = logging.getLogger("fashionclip.serve")
_UVICORN = "uvicorn"
_FIELDS = "fields"  # attribute of a log record that holds the fields of a line
_MAX_FRAMES = 30  # of a traceback


@runtime_checkable
class Stream(Protocol):
    """A text stream."""

    def write(self, text: str, /) -> object:
        """Write text."""

    def flush(self) -> object:
        """Flush buffers."""


class _JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}"
            f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        fields = getattr(record, _FIELDS, None)
        line.update(fields if fields is not None else {"message": record.getMessage()})
        if record.exc_info and record.exc_info[0] is not None:
            line["trace"] = "".join(
                traceback.format_exception(*record.exc_info, limit=-_MAX_FRAMES)
            )
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(stream: Stream) -> None:
    """Write the logs of this service and of uvicorn to a stream, and to no other place."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter())
    for name in (_LOG.name, _UVICORN):
        log = logging.getLogger(name)
        log.handlers = [handler]
        log.setLevel(logging.INFO)
        log.propagate = False


def record(
    *,
    request_id: str,
    method: str,
    route: str,
    status: int,
    ms: float,
    client: str,
    n: int | None = None,
) -> None:
    """Log one request.

    Args:
        request_id: the ``X-Request-ID`` of the answer.
        method: the HTTP method.
        route: the route's template, such as ``/products/{id}``.
        status: the HTTP status; 499 if the client disconnected before the answer.
        ms: duration in milliseconds.
        client: the client's address.
        n: number of inputs or products of the request.
    """
    if not _LOG.isEnabledFor(logging.INFO):
        return
    fields: dict[str, object] = {
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status,
        "ms": round(ms, 1),
        "client": client,
    }
    if n is not None:
        fields["n"] = n
    _LOG.info("request", extra={_FIELDS: fields})


def note(message: str) -> None:
    """Log something that went as it should."""
    _LOG.info(message)


def warn(message: str) -> None:
    """Log something that the operator of the service should know."""
    _LOG.warning(message)


def failure(request_id: str, error: BaseException) -> None:
    """Log an internal error with its traceback, which no client sees."""
    fields = {"request_id": request_id, "message": f"{type(error).__name__}: {error}"}
    _LOG.error("failure", exc_info=error, extra={_FIELDS: fields})
