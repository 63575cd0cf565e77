"""Object storage (S3, Google Cloud Storage, Azure): file systems, options, and faults in words.

Lance and fsspec name the same options differently. Users write one set of names, mostly Lance's;
``OPTIONS`` has them all, with what fsspec calls them. Without options, credentials come from where
the clients look for them: the environment, the configuration files, and the machine's role.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

EXTRAS = {"aws": "s3", "google": "gs", "azure": "az"}
"""The extra of this package that installs each provider's fsspec client."""
PROVIDERS = {
    "s3": "aws",
    "s3a": "aws",
    "gs": "google",
    "gcs": "google",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
"""The provider of each URL scheme."""
MAX_REASON = 200

FileSystem = Any  # fsspec has no types


@dataclass(frozen=True, slots=True)
class Option:
    """An option, and what fsspec makes of it."""

    provider: str
    """``aws``, ``google`` or ``azure``; empty for all of them."""
    fsspec: str = ""
    """fsspec's argument, with dots where it is nested; empty if it needs none."""
    read: Callable[[str], object] = str
    """Makes fsspec's value of the text."""
    is_secret: bool = False
    """Whether nobody should read its value."""


def _is_true(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on"}


OPTIONS: Mapping[str, Option] = {
    "allow_http": Option(""),
    "aws_access_key_id": Option("aws", "key"),
    "aws_secret_access_key": Option("aws", "secret", is_secret=True),
    "aws_session_token": Option("aws", "token", is_secret=True),
    "aws_region": Option("aws", "client_kwargs.region_name"),
    "aws_endpoint": Option("aws", "endpoint_url"),
    "aws_skip_signature": Option("aws", "anon", _is_true),
    "aws_virtual_hosted_style_request": Option(
        "aws",
        "config_kwargs.s3.addressing_style",
        lambda text: "virtual" if _is_true(text) else "path",
    ),
    "google_service_account": Option("google", "token"),
    "google_application_credentials": Option("google", "token"),
    "google_service_account_key": Option("google", "token", json.loads, is_secret=True),
    "google_base_url": Option("google", "endpoint_url"),
    "google_skip_signature": Option(
        "google", "token", lambda text: "anon" if _is_true(text) else None
    ),
    "azure_storage_account_name": Option("azure", "account_name"),
    "azure_storage_account_key": Option("azure", "account_key", is_secret=True),
    "azure_storage_sas_token": Option("azure", "sas_token", is_secret=True),
    "azure_storage_client_id": Option("azure", "client_id"),
    "azure_storage_client_secret": Option("azure", "client_secret", is_secret=True),
    "azure_storage_tenant_id": Option("azure", "tenant_id"),
    "azure_storage_endpoint": Option("azure", "endpoint"),
    "azure_skip_signature": Option("azure", "anon", _is_true),
}
"""Every option by its name."""
ENDPOINTS = ("aws_endpoint", "google_base_url", "azure_storage_endpoint")
"""The options that are addresses."""


def check_options(options: Mapping[str, str] | None) -> dict[str, str]:
    """Options under their names in small letters, so that those of the environment do as well.

    Raises:
        ValueError: one is not known; the message names the nearest one, and never a value.
    """
    checked = {name.strip().lower(): str(value) for name, value in (options or {}).items()}
    for name in checked:
        if name not in OPTIONS:
            near = get_close_matches(name, OPTIONS, n=1)
            mend = f"did you mean {near[0]}?" if near else f"there are: {', '.join(OPTIONS)}"
            message = f"unknown storage option '{name}'; {mend}"
            raise ValueError(message)
    return checked


def is_object_storage(location: str) -> bool:
    """Whether a location is a URL of object storage."""
    return _provider_of(location) is not None


def lance_options(location: str, options: Mapping[str, str] | None) -> dict[str, str]:
    """The options that concern a location, as Lance takes them.

    An endpoint with ``http://`` implies ``allow_http``.

    Raises:
        ValueError: as ``check_options``.
    """
    provider = _provider_of(location)
    given = {
        name: value
        for name, value in check_options(options).items()
        if provider is not None and OPTIONS[name].provider in {"", provider}
    }
    if any(given.get(name, "").lower().startswith("http://") for name in ENDPOINTS):
        given.setdefault("allow_http", "true")
    return given


def fsspec_options(location: str, options: Mapping[str, str] | None) -> dict[str, Any]:
    """The options that concern a location, as fsspec's file systems take them.

    Raises:
        ValueError: as ``check_options``, or a value is not what its option needs.
    """
    given: dict[str, Any] = {}
    for name, text in lance_options(location, options).items():
        option = OPTIONS[name]
        if not option.fsspec:
            continue
        try:
            value = option.read(text)
        except ValueError:
            message = f"the storage option {name} is not valid JSON"
            raise ValueError(message) from None  # the cause would show the value
        *parents, last = option.fsspec.split(".")
        place = given
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is not None:
            place[last] = value
    if "endpoint" in given:
        given = {"connection_string": _azure_connection(**given)}
    return given


def _azure_connection(
    endpoint: str, account_name: str = "", account_key: str = "", sas_token: str = "", **_: object
) -> str:
    """Azure's connection string, the only way in which its client takes an endpoint."""
    parts = {
        "BlobEndpoint": endpoint,
        "AccountName": account_name,
        "AccountKey": account_key,
        "SharedAccessSignature": sas_token.removeprefix("?"),
    }
    return ";".join(f"{name}={value}" for name, value in parts.items() if value)


def open_files(location: str, options: Mapping[str, str] | None = None) -> tuple[FileSystem, str]:
    """The file system of a URL or path, and the path in it; lists of folders are never cached.

    Raises:
        ImportError: the scheme needs a package that is not installed; see ``install_line``.
        ValueError: an option or the scheme is not known.
    """
    from fsspec.core import url_to_fs  # loads a file system only when it is used

    given = fsspec_options(location, options)
    if is_object_storage(location):
        given["use_listings_cache"] = False
    files, path = url_to_fs(location, **given)
    return files, str(path)


def install_line(location: str) -> str:
    """How to install the package that the scheme of a location needs."""
    from fsspec.registry import known_implementations

    provider = _provider_of(location)
    if provider is not None:
        return f"pip install 'fashionclip[{EXTRAS[provider]}]'"
    scheme = location.partition("://")[0].lower()
    module = known_implementations.get(scheme, {}).get("class", "").partition(".")[0]
    return f"pip install {module}" if module not in {"", "fsspec"} else "see fsspec's documentation"


# faults

_CREDENTIALS = {
    "ExpiredToken|TokenRefreshRequired|token (provided )?(has|is) expired|ExpiredAuthentication": (
        "the credentials have expired: renew them, then run this again"
    ),
    "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed|invalid_grant"
    "|Invalid Credentials|InvalidSecurity": "the credentials are not valid: check them",
    "PartialCredentials|Partial credentials|Missing SecretAccessKey|Missing AccessKeyId": (
        "the credentials are incomplete: give the key id and the secret key"
    ),
    "NoCredentials|Unable to locate credentials|no providers in chain|CredentialsNotLoaded"
    "|credential provider|Must provide either a connection_string|DefaultCredentialsError": (
        "there are no credentials: set them in the environment or with --storage-option"
    ),
}
_NO_BUCKET = "NoSuchBucket|bucket does not exist|ContainerNotFound"
_LASTING = {
    "AccessDenied|Access Denied|Forbidden|AuthorizationPermissionMismatch|PermissionDenied": (
        "these credentials have no right to do this: ask for it, or use others"
    ),
    _NO_BUCKET: ("there is no such bucket: check its name, or make it"),
    "Invalid bucket name": "it names no bucket: write SCHEME://BUCKET/PATH",
    "builder error|scheme is not allowed": (
        "its endpoint is no address that may be used: give http://HOST:PORT or https://HOST; where "
        "the environment has one with http://, add --storage-option allow_http=true"
    ),
    r"\bBad Request\b": (
        "the object store refuses the request: check the credentials and the region"
    ),
}
_PASSING = {
    "SlowDown|ServiceUnavailable|Service Unavailable|reduce your request rate|TooManyRequests"
    "|InternalError|InternalServerError|Bad Gateway|ServerBusy": (
        "the object store is overloaded or down: run this again later"
    ),
    "Could not connect|Cannot connect to host|EndpointConnectionError|ConnectError"
    "|Name or service not known|Connection ?refused|Connection ?reset"
    "|Connect ?timeout|Read ?timeout|timed? ?out|error sending request|ServerDisconnected"
    "|Connection was closed|connection closed|IncompleteRead|ClientPayloadError|ResponseParser"
    "|error decoding response body|request or response body error": (
        "the object store does not answer: check the network and the endpoint, then run this again"
    ),
}
_SIGNED = re.compile(r"(?i)((?:sig|signature|x-amz-[a-z-]+|x-goog-[a-z-]+)=)[^&\s\"']+")


def why_refused(exc: BaseException) -> str | None:
    """What is wrong with the credentials, which fails everything else as well; None if nothing."""
    return _first(_CREDENTIALS, exc)


def is_of_missing_bucket(exc: BaseException) -> bool:
    """Whether a fault says that there is no such bucket, and so none of its objects."""
    return why_refused(exc) is None and re.search(_NO_BUCKET, " ".join(_texts(exc))) is not None


def why_failed(exc: BaseException, options: Mapping[str, str] | None = None) -> str:
    """What went wrong in object storage and how to mend it, in one line without secrets.

    Args:
        exc: an error of fsspec or Lance, which may have another as its cause.
        options: those that were used, whose secrets are taken out of the line.
    """
    known = why_failed_as_known(exc)
    if known is not None:
        return known
    line = " ".join(str(exc).split()) or type(exc).__name__
    return without_secrets(line, options)[:MAX_REASON]


def why_failed_as_known(exc: BaseException) -> str | None:
    """What went wrong in object storage, if it is one of the usual faults."""
    return why_refused(exc) or _first(_LASTING, exc) or _first(_PASSING, exc)


def is_of_empty_object(exc: BaseException) -> bool:
    """Whether a fault says that an object has no bytes, so that no range of them can be read."""
    return re.search(r"InvalidRange|not satisfiable", " ".join(_texts(exc))) is not None


def may_pass(exc: BaseException) -> bool:
    """Whether a fault of object storage is one that may be gone a moment later."""
    return not (why_refused(exc) or _first(_LASTING, exc)) and _first(_PASSING, exc) is not None


def without_secrets(text: str, options: Mapping[str, str] | None) -> str:
    """A text in which no secret of the options, nor the signature of a URL, can be read."""
    for name, value in (options or {}).items():
        option = OPTIONS.get(name.lower())
        if value and (option is None or option.is_secret):
            text = text.replace(value, "***")
    return _SIGNED.sub(r"\1***", text)


def _first(faults: Mapping[str, str], exc: BaseException) -> str | None:
    said = " ".join(_texts(exc))
    found = (what for sign, what in faults.items() if re.search(sign, said, re.IGNORECASE))
    return next(found, None)


def _texts(exc: BaseException | None) -> Iterator[str]:
    while exc is not None:
        yield f"{type(exc).__name__} {exc}"
        exc = exc.__cause__ or exc.__context__


def _provider_of(location: str) -> str | None:
    scheme, colon, _ = location.partition("://")
    return PROVIDERS.get(scheme.lower()) if colon else None


# objects


def read_object(files: FileSystem, path: str) -> bytes | None:
    """The bytes of an object; None if there is none.

    Raises:
        FileNotFoundError: there is not even such a bucket.
    """
    try:
        return bytes(files.cat_file(path))
    except FileNotFoundError as exc:
        if why_failed_as_known(exc) is not None:
            raise
        return None


def create_object(files: FileSystem, path: str, data: bytes) -> str | None:
    """Write an object that is not there yet.

    The object store itself decides (``If-None-Match``), so that of two programs that create the
    same object at once only one does.

    Returns:
        The object's version; None if there is one already, which then stays.
    """
    return _write_if(files, path, data, {"mode": "create"})


def replace_object(files: FileSystem, path: str, data: bytes, *, version: str) -> str | None:
    """Write an object if it still has a version.

    The object store decides (``If-Match``). Google's client has no such condition: there the
    version is looked at just before, so that two programs have milliseconds to meet in.

    Returns:
        The object's new version; None if it has another, and then stays.
    """
    condition: dict[str, object] = {}
    if "s3" in files.protocol:
        condition = {"IfMatch": version}
    elif "az" in files.protocol:
        from azure.core import MatchConditions

        condition = {"etag": version, "match_condition": MatchConditions.IfNotModified}
    elif version_of(files, path) != version:
        return None
    return _write_if(files, path, data, condition)


def _write_if(
    files: FileSystem, path: str, data: bytes, condition: Mapping[str, object]
) -> str | None:
    try:
        answer = files.pipe_file(path, data, **condition)
    except Exception as exc:
        if not _is_refused_condition(exc):
            raise
        # a request whose answer was lost is sent again, and then meets what it wrote itself
        return version_of(files, path) if read_object(files, path) == data else None
    found = answer if isinstance(answer, Mapping) else {}
    return str(found.get("ETag") or found.get("etag") or version_of(files, path))


def version_of(files: FileSystem, path: str) -> str | None:
    """What tells an object from another that is written over it; None if there is none."""
    try:
        found = files.info(path)
    except FileNotFoundError:
        return None
    return str(found.get("ETag") or found.get("etag") or found.get("generation") or "")


def _is_refused_condition(exc: BaseException) -> bool:
    is_gone = isinstance(exc, FileNotFoundError) and why_failed_as_known(exc) is None
    if is_gone or isinstance(exc, FileExistsError):
        return True
    said = " ".join(_texts(exc))
    return (
        re.search(r"PreconditionFailed|ConditionNotMet|ConditionalRequestConflict", said)
        is not None
    )
