"""API keys: read from headers or cookie, checked against a file of salted hashes, created.

A key has 256 random bits, so guessing is hopeless and a fast hash is as safe as a slow one; slow
hashes are for passwords that people choose. The file has one line of JSON per key and never the
key itself.
"""

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.errors import ServiceError

SCOPES = ("read", "write", "admin")
"""What a key allows; each scope includes those before it."""
KEY_BYTES = 32
SALT_BYTES = 16  # the maximum for BLAKE2b
MAX_KEY_CHARS = 200  # of a key in a request
COOKIE = "fashionclip_key"
"""The page's cookie for its key; with the cookie a key can only read, whatever its scope."""

_PREFIX = "fc_"  # lets people and scanners for leaked secrets recognise a key


@dataclass(frozen=True, slots=True)
class _Entry:
    salt: bytes
    digest: bytes
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a service."""

    _entries: tuple[_Entry, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> "Keys":
        """Read a key file.

        Raises:
            ServiceError: it cannot be read, is not a key file, or has no key.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            why = (isinstance(exc, OSError) and exc.strerror) or "it is not text"
            message = f"{path}: the key file cannot be read ({why}); make one with {_how_to(path)}"
            raise ServiceError(message) from exc
        entries = tuple(
            _entry(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line
        )
        if not entries:
            message = f"{path}: holds no key; make one with {_how_to(path)}"
            raise ServiceError(message)
        return cls(entries)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._entries)

    def scopes(self, secret: str) -> frozenset[str]:
        """The scopes of a key; empty for an unknown one.

        Every entry is compared, in time that does not depend on where the hashes differ.

        Args:
            secret: the key from the request.
        """
        found: frozenset[str] = frozenset()
        given = secret.encode("utf-8", "replace") if len(secret) <= MAX_KEY_CHARS else b""
        for entry in self._entries:
            if hmac.compare_digest(_digest(given, entry.salt), entry.digest):
                found |= entry.scopes
        return found


def new_key(path: str | Path, scope: str) -> str:
    """Create a key, add its hash to the file, and return the key, which is stored nowhere.

    The file is replaced as a whole and readable by its owner only.

    Args:
        path: the key file; created if there is none.
        scope: one of ``SCOPES``.

    Raises:
        ServiceError: the file cannot be written, or is not a key file.
        ValueError: there is no such scope.
    """
    if scope not in SCOPES:
        message = f"a key is for {', '.join(SCOPES[:-1])} or {SCOPES[-1]}, not for {scope!r}"
        raise ValueError(message)
    path = Path(path)
    before = ""
    if path.exists():
        Keys.read(path)
        before = path.read_text(encoding="utf-8").rstrip("\n") + "\n"
    secret = _PREFIX + secrets.token_urlsafe(KEY_BYTES)
    salt = secrets.token_bytes(SALT_BYTES)
    line = {"scope": scope, "salt": salt.hex(), "hash": _digest(secret.encode(), salt).hex()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (before + json.dumps(line) + "\n").encode(), mode=0o600)
    except OSError as exc:
        message = f"{path}: the key file cannot be written ({exc.strerror}); name another place"
        raise ServiceError(message) from exc
    return secret


def key_of(headers: Mapping[bytes, bytes]) -> tuple[str, bool]:
    """The key of a request ("" for none), and whether it came in the page's cookie."""
    kind, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and given:
        return given.strip(), False
    if b"x-api-key" in headers:
        return headers[b"x-api-key"].decode("latin-1").strip(), False
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return "", False
    return (cookies[COOKIE].value, True) if COOKIE in cookies else ("", False)


def scope_of(method: str, path: str) -> str:
    """The scope that a request needs."""
    path = path.removeprefix("/v1")
    if path.startswith("/admin/"):
        return "admin"
    # every POST to the products writes; others, such as a search, read
    is_write = method in {"PUT", "DELETE", "PATCH"} or (
        method == "POST" and (path == "/products" or path.startswith("/products/"))
    )
    return "write" if is_write else "read"


def _how_to(path: str | Path) -> str:
    return f"fashionclip serve --new-key read --key-file {path}"


def _digest(secret: bytes, salt: bytes) -> bytes:
    return blake2b(secret, digest_size=32, salt=salt, person=b"fashionclip key").digest()


def _entry(line: str, place: str) -> _Entry:
    try:
        fields = json.loads(line)
        entry = _Entry(
            bytes.fromhex(fields["salt"]),
            bytes.fromhex(fields["hash"]),
            frozenset(SCOPES[: SCOPES.index(fields["scope"]) + 1]),
        )
        if len(entry.salt) == SALT_BYTES and len(entry.digest) == 32:
            return entry
    except (ValueError, KeyError, TypeError):
        pass
    message = f"{place}: not a key; delete the line, and make a new key with {_how_to('FILE')}"
    raise ServiceError(message)
