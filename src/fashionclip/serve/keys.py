"""API keys: a file of salted hashes with what each key may do, and the making of new ones.

A key is 256 random bits, so nobody can try them all and a quick hash guards it as well as a slow
one would; slow hashes are for passwords that people think up. The file holds one line of JSON a
key and never the key itself; whoever reads the file learns no key.
"""

import hmac
import json
import secrets
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.errors import ServiceError

SCOPES = ("read", "write")
"""``write`` may read too."""
KEY_BYTES = 32
SALT_BYTES = 16  # the most that BLAKE2b takes as its salt
LONGEST_KEY = 200  # characters; a longer one is nobody's

_PREFIX = "fc_"  # so that scanners for leaked secrets, and people, know a key by its look


@dataclass(frozen=True, slots=True)
class _Entry:
    salt: bytes
    digest: bytes
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that a service knows."""

    _known: tuple[_Entry, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> "Keys":
        """Read a file of keys.

        Raises:
            ServiceError: it cannot be read, holds something else, or no key at all.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            why = (isinstance(exc, OSError) and exc.strerror) or "it is no text"
            message = f"{path}: the key file cannot be read ({why}); make one with {how_to(path)}"
            raise ServiceError(message) from exc
        known = tuple(_entry(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line)
        if not known:
            message = f"{path}: holds no key; make one with {how_to(path)}"
            raise ServiceError(message)
        return cls(known)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._known)

    def scopes(self, secret: str) -> frozenset[str]:
        """What the bearer of a secret may do: some of ``SCOPES``; empty for a stranger.

        Every key is compared, in time that does not depend on where they differ.

        Args:
            secret: the key as it came with the request.
        """
        found: frozenset[str] = frozenset()
        given = secret.encode("utf-8", "replace") if len(secret) <= LONGEST_KEY else b""
        for entry in self._known:
            if hmac.compare_digest(_digest(given, entry.salt), entry.digest):
                found |= entry.scopes
        return found


def new_key(path: str | Path, scope: str) -> str:
    """Make a key, write its hash to the file, and hand the key out: nobody can do so again.

    The file is written beside and put in place whole, readable by its owner only.

    Args:
        path: the key file; made where there is none.
        scope: one of ``SCOPES``.

    Raises:
        ServiceError: the file cannot be written, or holds something else.
        ValueError: there is no such scope.
    """
    if scope not in SCOPES:
        message = f"a key is for {' or '.join(SCOPES)}, not for {scope!r}"
        raise ValueError(message)
    path = Path(path)
    before = ""
    if path.exists():
        Keys.read(path)
        before = path.read_text(encoding="utf-8").rstrip("\n") + "\n"
    secret = _PREFIX + secrets.token_urlsafe(KEY_BYTES)
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _digest(secret.encode(), salt)
    line = {"scope": scope, "salt": salt.hex(), "hash": digest.hex()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (before + json.dumps(line) + "\n").encode(), mode=0o600)
    except OSError as exc:
        message = f"{path}: the key file cannot be written ({exc.strerror}); name another place"
        raise ServiceError(message) from exc
    return secret


def how_to(path: str | Path) -> str:
    """The command that makes a key."""
    return f"fashionclip serve --new-key read --key-file {path}"


def _digest(secret: bytes, salt: bytes) -> bytes:
    return blake2b(secret, digest_size=32, salt=salt, person=b"fashionclip key").digest()


def _entry(line: str, place: str) -> _Entry:
    try:
        found = json.loads(line)
        entry = _Entry(
            bytes.fromhex(found["salt"]),
            bytes.fromhex(found["hash"]),
            frozenset(SCOPES if found["scope"] == "write" else ("read",)),
        )
        is_whole = found["scope"] in SCOPES and len(entry.salt) == SALT_BYTES
        if is_whole and len(entry.digest) == 32:
            return entry
    except (ValueError, KeyError, TypeError):
        pass
    message = f"{place}: is no key; take the line out, and make a new key with {how_to('FILE')}"
    raise ServiceError(message)
