"""An image's location to its encoded bytes: files, http(s), cloud stores.

Locations often come from a table of another party. Nothing is therefore fetched from internal
addresses unless the policy allows it, only regular files are read, and every transfer has a limit
in bytes and, on the web, in seconds.
"""

import base64
import io
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from fashionclip.errors import CredentialsError, ImageFetchError, MissingSourceError
from fashionclip.object_storage import (
    check_options,
    install_line,
    is_object_storage,
    is_of_empty_object,
    is_of_missing_bucket,
    open_files,
    why_failed,
    why_failed_as_known,
    why_refused,
)

MIB = 1 << 20
CHUNK_BYTES = 1 << 18
READ_BYTES = 8 * MIB  # of a file in object storage, in one request
MAX_SHOWN_CHARS = 200  # of a location in a message

CLOUD_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "hf", "memory"}
)
"""fsspec protocols whose hosts come from the user's settings, not from the location."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")  # two letters or more: C:\ is a drive
_DATA_URL = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched, within which limits."""

    allow_private: bool = False
    """Also fetch from internal addresses (this machine, this network), and by protocols whose
    addresses cannot be checked, such as ``ftp`` and ``sftp``."""
    timeout_s: float = 20.0
    """For a whole transfer on the web, with redirects and the retry."""
    max_bytes: int = 64 * MIB
    """Larger files are refused."""
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    """Credentials, endpoint and region of object storage; see ``object_storage.OPTIONS``."""

    def __post_init__(self) -> None:
        """Check the names of the options.

        Raises:
            ValueError: one is not known.
        """
        object.__setattr__(self, "storage_options", check_options(self.storage_options))


DEFAULT_POLICY = FetchPolicy()


def read_image_bytes(
    location: str | bytes, *, base: str | None = None, policy: FetchPolicy = DEFAULT_POLICY
) -> bytes:
    """Fetch an image's encoded bytes.

    A relative location may leave ``base``, and an absolute path may name any file: a catalogue is
    its user's own data, and files other than images are refused when they are decoded.

    Args:
        location: a path, an http(s), ``file:``, ``data:`` or fsspec URL (``s3://``, ``gs://``,
            …); bytes are the image itself and returned unchanged.
        base: folder or URL of relative locations; None for the working folder.
        policy: limits, and whether internal addresses are allowed.

    Raises:
        ImageFetchError: it cannot be fetched; the message names the location and the remedy.
    """
    if isinstance(location, bytes):
        return location
    sink = io.BytesIO()
    copy_bytes(resolve_location(location, base=base), sink, policy=policy)
    return sink.getvalue()


def resolve_location(location: str, *, base: str | None) -> str:
    """Make a location absolute: a full path or a URL.

    Args:
        location: as in a table; ``//host/path`` means https.
        base: folder or URL of relative locations; None for the working folder.
    """
    location = location.strip()
    if is_url(location):
        return location
    if location.startswith("//"):  # as Shopify and others write image URLs
        return f"https:{location}"
    if base is not None and is_url(base):
        name = location.replace("\\", "/").lstrip("/")
        if base[:8].lower().startswith(("http://", "https://")):
            name = quote(name, safe="/%?=&+,;:@!$'()*~")
        return f"{base.rstrip('/')}/{name}"
    if base is not None and os.path.isabs(base):  # noqa: PTH117 - a tenth of Path's cost, once a row
        return os.path.join(base, location)  # noqa: PTH118
    return str(Path(base or "").absolute() / location)


def is_url(location: str) -> bool:
    """Whether a location is a URL rather than a path of this machine."""
    if "://" in location and _URL.match(location) is not None:
        return True
    return location[:5].lower() == "data:" and _DATA_URL.match(location) is not None


def copy_bytes(
    location: str, sink: io.BufferedIOBase, *, policy: FetchPolicy = DEFAULT_POLICY
) -> None:
    """Fetch an absolute location into a seekable file.

    Args:
        location: as ``resolve_location`` returns it.
        sink: an empty file to write to.
        policy: limits, and whether internal addresses are allowed.

    Raises:
        ImageFetchError: it cannot be fetched; the message names the location and the remedy.
    """
    if not is_url(location):
        _copy_file(location, location, sink, policy)
        return
    if _DATA_URL.match(location):
        _decode_data_url(location, sink, policy)
        return
    scheme = location.partition("://")[0].lower()
    if scheme == "file":
        _copy_file(_path_of_file_url(location), location, sink, policy)
    elif scheme in {"http", "https"}:
        from fashionclip.images.web import fetch  # most catalogues never touch the network

        fetch(location, sink, policy=policy)
    else:
        _copy_through_fsspec(location, scheme, sink, policy)


def shown(location: str) -> str:
    """A location for messages: one line, cut if it is very long."""
    line = " ".join(location.split())
    return line if len(line) <= MAX_SHOWN_CHARS else line[:MAX_SHOWN_CHARS] + "…"


def fetch_error(location: str, why: str) -> ImageFetchError:
    """The error for a location: why it cannot be fetched, and the remedy."""
    return ImageFetchError(f"{shown(location)}: {why}")


def why_too_large(location: str, policy: FetchPolicy) -> ImageFetchError:
    """The error for a file beyond the policy's limit."""
    limit = f"{policy.max_bytes / MIB:.4g} MiB"
    return fetch_error(location, f"larger than the limit of {limit}; use a smaller file")


def _path_of_file_url(location: str) -> str:
    try:
        parts = urlsplit(location)
    except ValueError as exc:
        raise fetch_error(location, f"not a valid URL ({exc}); write file:///path") from exc
    if parts.netloc not in {"", "localhost"}:
        raise fetch_error(location, "a file: URL of another host; write file:///path")
    return url2pathname(parts.path)


def _copy_file(path: str, location: str, sink: io.BufferedIOBase, policy: FetchPolicy) -> None:
    try:
        found = _find_file(Path(path))
        with found.open("rb") as file:
            _copy_capped(file.read, location, sink, policy)
    except FileNotFoundError as exc:
        raise fetch_error(
            location, "no such file; check the name and the images folder (--images DIR)"
        ) from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL byte in the name
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise fetch_error(location, f"cannot be read ({why}); check the file") from exc


def _find_file(path: Path) -> Path:
    # Windows' backslashes are replaced if there is no such file
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mended = Path(str(path).replace("\\", "/"))
        if mended == path:
            raise
        return _find_file(mended)
    if not stat.S_ISREG(mode):  # a pipe would wait for ever, a device never end
        message = "it is a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ValueError(message)
    return path


def _decode_data_url(location: str, sink: io.BufferedIOBase, policy: FetchPolicy) -> None:
    head, _, body = location.partition(",")
    if len(body) > policy.max_bytes * 3:
        raise why_too_large(location[:60], policy)
    try:
        data = unquote_to_bytes(body)
        if head.lower().endswith(";base64"):
            data = base64.b64decode(data, validate=False)
    except ValueError as exc:
        raise fetch_error(
            location[:60], "a data: URL that is not valid base64; write it anew"
        ) from exc
    if len(data) > policy.max_bytes:
        raise why_too_large(location[:60], policy)
    sink.write(data)


def _copy_through_fsspec(
    location: str, scheme: str, sink: io.BufferedIOBase, policy: FetchPolicy
) -> None:
    # a chain such as simplecache::http://… or an ftp:// host would bypass the guard
    if "::" in location:
        raise fetch_error(location, "chained URLs (::) are not fetched; name the file itself")
    if not (policy.allow_private or scheme in CLOUD_STORES):
        why = (
            "fetched only from files, http(s) and cloud stores (s3://, gs://, az://, …); for "
            f"{scheme}:// pass --allow-private (allow_private=True) if that is intended"
        )
        raise fetch_error(location, why)
    try:
        system, path = open_files(location, policy.storage_options)
        # one request for most files; opening would ask for their size first, without a reason
        # in the answer where that is refused
        start = system.cat_file(path, start=0, end=READ_BYTES)
        if len(start) < READ_BYTES:
            _copy_capped(io.BytesIO(start).read, location, sink, policy)
            return
        with system.open(path, "rb") as file:
            _copy_capped(file.read, location, sink, policy)
    except ImageFetchError:
        raise
    except ImportError as exc:
        why = f"{scheme}:// needs a package: {install_line(location)}"
        raise fetch_error(location, why) from exc
    except Exception as exc:  # every store has its own error types
        if is_of_empty_object(exc):
            return  # as an empty file is copied
        raise _cloud_error(location, exc, policy) from exc


def _cloud_error(location: str, exc: Exception, policy: FetchPolicy) -> ImageFetchError:
    """The error for what a file system says of a location."""
    known = why_failed_as_known(exc) if is_object_storage(location) else None
    if known is not None:
        message = f"{shown(location)}: {known}"
        if why_refused(exc):
            return CredentialsError(message)
        return (MissingSourceError if is_of_missing_bucket(exc) else ImageFetchError)(message)
    if isinstance(exc, FileNotFoundError):
        why = "no such file; check the name and the images folder (--images DIR)"
    else:
        why = f"cannot be read ({why_failed(exc, policy.storage_options)}); check the file"
    return fetch_error(location, why)


def _copy_capped(
    read: Callable[[int], bytes], location: str, sink: io.BufferedIOBase, policy: FetchPolicy
) -> None:
    left = policy.max_bytes
    while chunk := read(CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise why_too_large(location, policy)
        sink.write(chunk)
