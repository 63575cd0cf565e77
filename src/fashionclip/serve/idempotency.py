"""Requests that are sent twice with one ``Idempotency-Key`` change products once.

The second gets the first one's answer. Keys are kept in a file, so that all workers know them and
they survive a restart, or in memory where there is no folder.
"""

import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fashionclip.errors import ServiceError
from fashionclip.serve.middleware import logs

KEPT_S = 24 * 3_600.0  # from the first request
ABANDONED_S = 60.0  # after which a request whose worker has died may be sent again
MAX_KEYS = 100_000
MAX_KEY_CHARS = 255
FILE_NAME = "keys.sqlite3"
LOCK_S = 5.0

_SCHEMA = """
create table if not exists request (
    key blob primary key, content blob not null, started real not null,
    status integer, type text, body blob
) without rowid
"""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer to an earlier request."""

    status: int
    media_type: str
    body: bytes


class IdempotencyKeys:
    """The keys of one day; safe from any thread, and from several processes over one folder."""

    def __init__(self, folder: Path | None) -> None:
        """Open the file of keys, which is made if it is not there.

        Args:
            folder: where it is; None keeps the keys in memory.
        """
        self._lock = threading.Lock()
        try:
            self._keys = _opened(folder)
        except (OSError, sqlite3.Error) as exc:
            logs.warn(f"idempotency keys cannot be kept in {folder} ({exc}); they are in memory")
            self._keys = _opened(None)

    def begin(self, key: bytes, content: bytes) -> KeptAnswer | Literal["other", "running"] | None:
        """Note that a request begins.

        Args:
            key: a digest of the key and of whose it is.
            content: a digest of the request.

        Returns:
            None if it is the first with this key. Otherwise the first one's answer; ``running``
            if there is none yet; ``other`` if that was another request.

        Raises:
            ServiceError: keys cannot be kept at present.
        """
        now = time.time()
        try:
            with self._lock, self._keys:
                self._keys.execute("begin immediate")
                self._keys.execute(
                    "delete from request where started < ? or (status is null and started < ?)",
                    (now - KEPT_S, now - ABANDONED_S),
                )
                found = self._keys.execute(
                    "select content, status, type, body from request where key = ?", (key,)
                ).fetchone()
                if found is None:
                    self._make_room()
                    self._keys.execute(
                        "insert into request (key, content, started) values (?, ?, ?)",
                        (key, content, now),
                    )
                    return None
        except sqlite3.Error as exc:
            logs.warn(f"idempotency keys cannot be kept: {exc}")
            message = "idempotency keys cannot be kept just now; try again shortly"
            raise ServiceError(message) from exc
        if found[0] != content:
            return "other"
        return "running" if found[1] is None else KeptAnswer(*found[1:])

    def end(self, key: bytes, answer: KeptAnswer | None) -> None:
        """Keep an answer; None forgets the key, so that the request may be sent again."""
        with suppress(sqlite3.Error), self._lock, self._keys:
            if answer is None:
                self._keys.execute("delete from request where key = ?", (key,))
            else:
                values = (answer.status, answer.media_type, answer.body, key)
                self._keys.execute(
                    "update request set status = ?, type = ?, body = ? where key = ?", values
                )

    def _make_room(self) -> None:
        (n_keys,) = self._keys.execute("select count(*) from request").fetchone()
        if n_keys >= MAX_KEYS:
            self._keys.execute(
                "delete from request where key in (select key from request "
                "where status is not null order by started limit ?)",
                (MAX_KEYS // 10,),
            )


def refusal(found: Literal["other", "running"]) -> tuple[int, str, str]:
    """Status, code and message for a request whose key is in use."""
    if found == "running":
        message = "the first request with this Idempotency-Key is still running; wait for it"
        return 409, "in_progress", message
    message = "this Idempotency-Key belongs to another request; use a new key for each change"
    return 422, "invalid", message


def _opened(folder: Path | None) -> sqlite3.Connection:
    """The table of keys.

    Raises:
        OSError, sqlite3.Error: it cannot be opened.
    """
    name = ":memory:"
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = str(folder / FILE_NAME)
    keys = sqlite3.connect(name, timeout=LOCK_S, isolation_level=None, check_same_thread=False)
    keys.execute("pragma journal_mode = wal")
    keys.execute("pragma synchronous = normal")
    keys.execute(_SCHEMA)
    return keys
