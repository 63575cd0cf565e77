"""What went wrong, as HTTP has it: a status, a stable code, when to come back, and in which words.

Clients are told of their own mistakes in full. Of what is wrong with the index they learn that it
is, and the log learns the rest: where it lies is nobody's business.
"""

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
class Fault:
    """How a mistake or a misfortune is answered."""

    status: HTTPStatus
    code: str
    """For programs; never changes."""
    retry_after_s: int = 0
    """When the same request may do; 0 where it will not."""
    message: str = ""
    """What a client is told; empty where it is the error's own words."""


INTERNAL = Fault(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal",
    message="something went wrong here; the log says what",
)
MISTAKE = Fault(HTTPStatus.BAD_REQUEST, "invalid")
_LOCKED = "another program is writing to the index; try again shortly"
_FULL = "there is no room on the service's disk for this; nothing of it is stored"
_INDEX = "the index on disk cannot be used just now; the service's log says why"
_FAULTS: tuple[tuple[type[Exception], Fault], ...] = (  # the first that fits
    (BusyError, Fault(HTTPStatus.TOO_MANY_REQUESTS, "busy", 1)),
    (ServiceError, Fault(HTTPStatus.SERVICE_UNAVAILABLE, "busy", 1)),
    (FilterError, Fault(HTTPStatus.BAD_REQUEST, "filter")),
    (ProductNotFoundError, Fault(HTTPStatus.NOT_FOUND, "not_found")),
    (StoreLockedError, Fault(HTTPStatus.SERVICE_UNAVAILABLE, "locked", 5, _LOCKED)),
    (StoreFullError, Fault(HTTPStatus.INSUFFICIENT_STORAGE, "full", 60, _FULL)),
    (StoreError, Fault(HTTPStatus.SERVICE_UNAVAILABLE, "index", 5, _INDEX)),
    (ImageError, Fault(HTTPStatus.BAD_REQUEST, "image")),
    (ImageFetchError, Fault(HTTPStatus.BAD_REQUEST, "image")),
    (LabelError, MISTAKE),
    (FashionCLIPError, INTERNAL),
)


def fault_of(exc: Exception) -> Fault:
    """How an error of this package, or a ``ValueError``, is answered."""
    return next((fault for kind, fault in _FAULTS if isinstance(exc, kind)), MISTAKE)


def one_line(exc: Exception) -> str:
    """What a client is told of an error, in one line."""
    own = fault_of(exc).message
    lines = own.splitlines() or str(exc).strip().splitlines()
    return lines[0] if lines else "something went wrong"
