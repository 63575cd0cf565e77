"""Pictures that a request names by URL: fetched only where the service was told so.

``pictures/web.py`` holds the guard: the address that was checked is the one connected to, after
every redirect too. Here lie the service's own rules: http, https and ``data:`` only, never a file
or a cloud store that this machine can reach and the client cannot.
"""

import io
import re

from fashionclip.errors import ImageFetchError
from fashionclip.images.fetch import FetchPolicy, copy_bytes, shown
from fashionclip.images.web import InternalAddress, fetch
from fashionclip.serve.settings import Settings

_DATA = re.compile(r"data:image/[\w.+-]{1,40}(;[\w=.-]{1,60})*;base64,", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)


def fetch_image(url: str, settings: Settings) -> bytes:
    """The encoded picture behind a URL; blocks, so call it in a thread.

    Args:
        url: ``http://``, ``https://``, or ``data:image/…;base64,``, which needs no leave.
        settings: whether URLs are fetched, and within which limits.

    Raises:
        ImageFetchError: refused, unreachable, too slow or too large.
    """
    sink = io.BytesIO()
    policy = FetchPolicy(
        allow_private=settings.allow_private,
        timeout_s=settings.body_seconds,
        max_bytes=settings.body_bytes,
    )
    if _DATA.match(url):
        copy_bytes(url, sink, policy=policy)
        return sink.getvalue()
    if not _WEB.match(url) or len(url) > settings.text_chars:
        message = f"{shown(url)}: an image URL starts with http:// or https:// and is short"
        raise ImageFetchError(message)
    if not settings.allow_image_urls:
        message = (
            "image URLs are not fetched here: send the picture itself in base64, or start the "
            "service with --allow-image-urls"
        )
        raise ImageFetchError(message)
    try:
        fetch(url, sink, policy=policy)
    except ImageFetchError as exc:
        if isinstance(exc.__cause__, InternalAddress):  # which address is nobody's business
            message = f"{shown(url)}: its address is an internal one; such are not fetched"
            raise ImageFetchError(message) from exc.__cause__
        raise
    return sink.getvalue()
