"""Cross-origin requests: scripts of named web sites may use the API, with keys in headers.

Browsers keep answers to requests with cookies from these scripts, so that a visitor's sign-in to
the page is of no use to another site.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

MAX_AGE_S = 3_600  # for which a browser need not ask again
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = ("Authorization", "X-API-Key", "Content-Type", "X-Request-ID", "Idempotency-Key")
ANSWER_HEADERS = ("X-Request-ID", "Retry-After", "ETag", "Idempotency-Replayed")


def allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Wrap the whole app, so that errors and preflight requests are answered with the headers too.

    Args:
        app: the app behind its limits.
        origins: sites such as ``https://shop.example``; none leaves the app as it is.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=ANSWER_HEADERS,
        allow_credentials=False,
        max_age=MAX_AGE_S,
    )
