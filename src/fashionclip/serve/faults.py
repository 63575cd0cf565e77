"""What went wrong, as HTTP has it: a status, a stable code, and when to come back."""

from dataclasses import dataclass
from http import HTTPStatus

from fashionclip.errors import (
    BusyError,
    FilterError,
    ImageError,
    PictureError,
    ProductNotFoundError,
    StoreError,
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


_FAULTS: tuple[tuple[type[Exception], Fault], ...] = (  # the first that fits
    (BusyError, Fault(HTTPStatus.TOO_MANY_REQUESTS, "busy", 1)),
    (FilterError, Fault(HTTPStatus.BAD_REQUEST, "filter")),
    (ProductNotFoundError, Fault(HTTPStatus.NOT_FOUND, "not_found")),
    (StoreLockedError, Fault(HTTPStatus.SERVICE_UNAVAILABLE, "locked", 5)),
    (StoreError, Fault(HTTPStatus.SERVICE_UNAVAILABLE, "index", 5)),
    (ImageError, Fault(HTTPStatus.BAD_REQUEST, "image")),
    (PictureError, Fault(HTTPStatus.BAD_REQUEST, "image")),
)
MISTAKE = Fault(HTTPStatus.BAD_REQUEST, "invalid")


def fault_of(exc: Exception) -> Fault:
    """How an error of this package, or a ``ValueError``, is answered."""
    return next((fault for kind, fault in _FAULTS if isinstance(exc, kind)), MISTAKE)


def one_line(exc: Exception) -> str:
    """What went wrong in one line, without where the index lies on this machine."""
    lines = str(exc).strip().splitlines()
    return lines[0] if lines else "something went wrong"
