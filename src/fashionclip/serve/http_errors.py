"""Exceptions as HTTP answers: status, a stable code, when to retry, and the message for the client.

Clients see the full message of their own mistakes. Of a fault of the store they learn only that it
exists; the log has the details, which would tell where the store is.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus

from fashionclip.errors import (
    BusyError,
    FashionCLIPError,
    FilterError,
    ImageError,
    ImageFetchError,
    LabelError,
    ProductNotFoundError,
    ServiceError,
    StoreError,
    StoreFullError,
    StoreLockedError,
)


@dataclass(frozen=True, slots=True)
class HttpError:
    """How a kind of error is answered."""

    status: HTTPStatus
    code: str
    """For programs; never changes."""
    retry_after_s: int = 0
    """When the same request may succeed; 0 if it will not."""
    message: str = ""
    """Sent to the client; empty if that is the error's own message."""


INTERNAL = HttpError(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal",
    message="something went wrong here; the log says what",
)
INVALID = HttpError(HTTPStatus.BAD_REQUEST, "invalid")
_LOCKED = "another program is writing to the index; try again shortly"
_FULL = "there is no room on the service's disk for this; nothing of it is stored"
_STORE = "the index cannot be used just now; the service's log says why"
_HTTP_ERRORS: tuple[tuple[type[Exception], HttpError], ...] = (  # the first match counts
    (BusyError, HttpError(HTTPStatus.TOO_MANY_REQUESTS, "busy", 1)),
    (ServiceError, HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "busy", 1)),
    (FilterError, HttpError(HTTPStatus.BAD_REQUEST, "filter")),
    (ProductNotFoundError, HttpError(HTTPStatus.NOT_FOUND, "not_found")),
    (StoreLockedError, HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "locked", 5, _LOCKED)),
    (StoreFullError, HttpError(HTTPStatus.INSUFFICIENT_STORAGE, "full", 60, _FULL)),
    (StoreError, HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "index", 5, _STORE)),
    (ImageError, HttpError(HTTPStatus.BAD_REQUEST, "image")),
    (ImageFetchError, HttpError(HTTPStatus.BAD_REQUEST, "image")),
    (LabelError, INVALID),
    (FashionCLIPError, INTERNAL),
)


def http_error_of(error: Exception) -> HttpError:
    """How an error of this package, or a ``ValueError``, is answered."""
    return next((found for kind, found in _HTTP_ERRORS if isinstance(error, kind)), INVALID)


def client_message(error: Exception) -> str:
    """The message that a client gets, in one line."""
    message = http_error_of(error).message or str(error).strip()
    return message.splitlines()[0] if message else "something went wrong"


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The JSON body of an answer that is not a 2xx."""
    error = {"code": code, "message": message, "request_id": request_id}
    return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "replace")
