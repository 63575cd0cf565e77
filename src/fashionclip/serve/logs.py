"""Structured logs: one line of JSON a request, and one for whatever goes wrong inside.

No line holds a picture, a query's words or a key. uvicorn's own messages come in the same shape.
"""

import json
import logging
import time
import traceback
from typing import Protocol, runtime_checkable

_LOG = logging.getLogger("fashionclip.serve")
_THEIRS = "uvicorn"
_FIELDS = "fields"  # of a log record: what our own lines hold
_DEEPEST = 30  # frames of a traceback in the log


@runtime_checkable
class Stream(Protocol):
    """Where lines can be written to."""

    def write(self, text: str, /) -> object:
        """Take some text."""

    def flush(self) -> object:
        """See to it that it arrives."""


class _Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}"
            f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        fields = getattr(record, _FIELDS, None)
        line.update(fields if fields is not None else {"message": record.getMessage()})
        if record.exc_info and record.exc_info[0] is not None:
            line["trace"] = "".join(traceback.format_exception(*record.exc_info, limit=-_DEEPEST))
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(stream: Stream) -> None:
    """Write the logs of this service and of uvicorn to a stream, instead of where they went."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines())
    for name in (_LOG.name, _THEIRS):
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
    """Write the line of one request.

    Args:
        request_id: as the answer's ``X-Request-ID`` has it.
        method: the HTTP method.
        route: the route's template, such as ``/products/{id}``.
        status: the HTTP status; 499 where the client left before the answer.
        ms: the time it took, in milliseconds.
        client: the client's address.
        n: how many inputs the request held, or products it touched.
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
    """Write down something that whoever runs the service should know."""
    _LOG.warning(message)


def failure(request_id: str, error: BaseException) -> None:
    """Write down a fault of ours, with its traceback, which no client sees."""
    fields = {"request_id": request_id, "message": f"{type(error).__name__}: {error}"}
    _LOG.error("failure", exc_info=error, extra={_FIELDS: fields})
