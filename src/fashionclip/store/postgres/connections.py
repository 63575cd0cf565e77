"""Connections to one PostgreSQL database: addresses, faults, retries, HNSW's search settings."""

import os
import re
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from fashionclip.errors import StoreCorruptError, StoreError, StoreFullError
from fashionclip.store.base import shown_uri

DEFAULT_STORE = "fashionclip"
MIN_PGVECTOR = (0, 8)  # the first with iterative scans, without which a filter loses hits
EF_SEARCH = 100
"""Candidates of one scan of the graph; see benchmarks/stores.py."""
MAX_SCAN_TUPLES = 40_000
"""Vectors that an iterative scan visits in all, before an exact search takes over."""
MAX_REASON = 250  # characters
OPENING = "opening it"

Connection = psycopg.Connection[Any]
Result = TypeVar("Result")

# SQLSTATE codes: appendix A of PostgreSQL's documentation
_REASONS = {
    "28P01": "the server refuses the password: check user, password, PGPASSWORD and ~/.pgpass",
    "28000": "the server refuses this user: check the user, and pg_hba.conf on the server",
    "3D000": "the server has no database of this name: create it first (createdb)",
    "25006": "the server is read-only, or a standby: use the primary server",
    "53200": "the server is out of memory: give it more, then run this again",
    "53300": "the server has no connection left: raise max_connections, or close some",
    "57P03": "the server is starting up or shutting down: run this again shortly",
    "55P03": "readers held the table for too long while a column was widened: run this again",
    "54000": "an id or value is too long for its index: shorten it",
}
_DISK_FULL = "53100"
_NOT_ALLOWED = "42501"
_LOST = ("57P01", "57P02", "08000", "08003", "08006")
_DAMAGED = ("XX001", "XX002", "58P01", "58030")
_WIDENED = ("42883", "42804", "42703")
_GONE = ("42P01", "3F000", "42703")
_BY_TEXT = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "pg_hba.conf": "28000",
    "too many clients": "53300",
    "remaining connection slots": "53300",
    "starting up": "57P03",
    "shutting down": "57P03",
    "No space left on device": _DISK_FULL,
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is."""

    server: str = field(repr=False)
    """What libpq takes, with the password if there is one."""
    store: str
    """The schema."""
    shown: str
    """For messages: as it was written, without the password."""


def read_address(uri: str) -> Address:
    """The parts of ``postgresql://…?store=NAME``.

    Raises:
        StoreError: it is no such URI.
    """
    shown = shown_uri(uri)
    try:
        parts = urlsplit(uri)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        store = dict(options).get("store", DEFAULT_STORE)
        others = [(name, value) for name, value in options if name != "store"]
        rest = urlencode(others, quote_via=quote)  # libpq takes + for a plus, not for a blank
        server = urlunsplit(("postgresql", parts.netloc, parts.path or "/", rest, ""))
        psycopg.conninfo.conninfo_to_dict(server)
        # of a sign that is not written with %, libpq takes a piece of the password for the host
        is_clear = not (parts.fragment or parts.netloc.count("@") > 1 or "@" in parts.path)
    except (ValueError, psycopg.Error):
        is_clear = False
    if not is_clear:
        message = (
            f"{shown} is no address of PostgreSQL: write "
            "postgresql://USER:PASSWORD@HOST/DATABASE?store=NAME, and in a password %40 for @, "
            "%2F for /, %23 for #, %25 for %"
        )
        raise StoreError(message)  # without libpq's reason, which may quote the password
    if not re.fullmatch(r"(?!pg_)\w[\w-]{0,62}", store, re.ASCII):
        message = f"{shown}: store={store!r} is no name: take letters, digits, _ and -, up to 63"
        raise StoreError(message)
    return Address(server, store, shown)


class VectorDumper(Dumper):
    """Arrays as pgvector's binary vectors."""

    format = Format.BINARY

    def dump(self, obj: np.ndarray) -> bytes:
        """A vector, sent as length, zero and big-endian floats."""
        vector = np.asarray(obj, dtype=">f4")
        return len(vector).to_bytes(2, "big") + b"\0\0" + vector.tobytes()


def read_vector(data: bytes) -> np.ndarray:
    """A vector as pgvector sends it."""
    return np.frombuffer(data, ">f4", offset=4).astype(np.float32)


class Connections:
    """Opens connections to one database, and keeps idle ones for the next caller.

    psycopg's own pool would hide why the server cannot be reached: it only says that a connection
    did not come in time.
    """

    def __init__(self, address: Address) -> None:
        """Open nothing yet."""
        self.address = address
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._at_end = weakref.finalize(self, _close_all, self._idle)  # if nobody closes the store

    def open(self) -> Connection:
        """A new connection.

        Raises:
            StoreError: the server cannot be reached, or has no pgvector.
        """
        with self.reported(OPENING):
            given = psycopg.conninfo.conninfo_to_dict(self.address.server)
            defaults = {
                "application_name": f"fashionclip on {socket.gethostname()}, process {os.getpid()}",
                "connect_timeout": 10,
                "keepalives_idle": 30,  # a network that is lost is noticed within a minute
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
            }
            options = {name: value for name, value in defaults.items() if name not in given}
            connection = psycopg.connect(
                self.address.server,
                autocommit=True,
                prepare_threshold=None,  # a prepared plan does not know which filter is selective
                **options,  # type: ignore[arg-type]
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: Connection) -> None:
        """Learn the vector type, and set how an index is searched.

        Raises:
            StoreError: pgvector is too old.
        """
        row = connection.execute(
            "SELECT e.extversion, t.oid, quote_ident(n.nspname) FROM pg_extension e"
            " JOIN pg_namespace n ON n.oid = e.extnamespace"
            " JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = 'vector'"
            " WHERE e.extname = 'vector'"
        ).fetchone()
        if row is None:
            return  # not there yet; ``create`` installs it
        version, oid, schema = row
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < MIN_PGVECTOR:
            needed = ".".join(map(str, MIN_PGVECTOR))
            message = (
                f"the database of {self.address.shown} has pgvector {version}, and {needed} is "
                "needed: upgrade it, then run ALTER EXTENSION vector UPDATE there"
            )
            raise StoreError(message)
        dumper = type("_Dumper", (VectorDumper,), {"oid": oid})
        connection.adapters.register_dumper(np.ndarray, dumper)
        connection.execute(
            f"SET hnsw.iterative_scan = relaxed_order; SET hnsw.ef_search = {EF_SEARCH};"
            f"SET hnsw.max_scan_tuples = {MAX_SCAN_TUPLES}; SET hnsw.scan_mem_multiplier = 4;"
            f"SET search_path = public, {schema}"
        )

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """The result of some reading.

        It is done again, once, on a new connection where the old one was lost, or where a column
        was widened meanwhile.

        Raises:
            StoreError: it failed.
        """  # noqa: DOC501
        with self.reported("reading it"):
            try:
                return self._use(work)
            except psycopg.Error as exc:
                if isinstance(exc, psycopg.OperationalError) and exc.sqlstate is None:
                    self.close()  # the idle connections were lost with it
                elif exc.sqlstate not in _LOST + _WIDENED:
                    raise
            return self._use(work)

    def _use(self, work: Callable[[Connection], Result]) -> Result:
        connection = self.take()
        try:
            return work(connection)
        finally:
            self.give_back(connection)

    @contextmanager
    def lent(self, doing: str) -> Iterator[Connection]:
        """A connection for a block that is not done again.

        Args:
            doing: what the block does, for messages.

        Raises:
            StoreError: it failed.
        """
        with self.reported(doing):
            connection = self.take()
            try:
                yield connection
            finally:
                self.give_back(connection)

    def take(self) -> Connection:
        """A connection, to be given back.

        Raises:
            StoreError: the server cannot be reached.
        """
        with self._lock:
            if self._process != os.getpid():  # a fork must not share its parent's connections
                self._idle.clear()
                self._process = os.getpid()
            while self._idle:
                connection = self._idle.pop()
                if not connection.closed:
                    return connection
        return self.open()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next caller, unless it is in the middle of something."""
        status = connection.info.transaction_status
        is_idle = status == psycopg.pq.TransactionStatus.IDLE
        if connection.closed or not is_idle or not self._at_end.alive:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            _close_all(self._idle)

    @contextmanager
    def reported(self, doing: str) -> Iterator[None]:
        """Turn a fault of the database into one line.

        Args:
            doing: what was going on, for a connection that is lost meanwhile.

        Raises:
            StoreError: of the kind that fits.
        """
        try:
            yield
        except psycopg.Error as exc:
            raise self._error(exc, doing) from exc

    def _error(self, exc: psycopg.Error, doing: str) -> StoreError:
        where = f"the index {self.address.shown}"
        text = " ".join(str(exc).split())
        state = exc.sqlstate or next((s for sign, s in _BY_TEXT.items() if sign in text), "")
        state = "" if state in _LOST else state
        if 'database "' in text and text.endswith("does not exist"):
            state = "3D000"
        text = text if len(text) <= MAX_REASON else text[:MAX_REASON] + "…"
        if state == _DISK_FULL:
            message = (
                f"{where} cannot be used: the server's disk is full: make room, then run again"
            )
            return StoreFullError(message)
        if state == _NOT_ALLOWED:
            reason = f"this user may not do that ({text}): grant the right, or use another user"
            return StoreError(f"{where} cannot be used: {reason}")
        if state in _REASONS:
            return StoreError(f"{where} cannot be used: {_REASONS[state]}")
        if state in _GONE:
            return StoreError(f"{where} was deleted or changed meanwhile: open it again ({text})")
        if state in _DAMAGED:
            message = f"{where} is damaged ({text}): restore the database from a copy"
            return StoreCorruptError(message)
        if "extension" in text and "vector" in text and "is not available" in text:
            message = (
                f"{where} cannot be used: the server has no pgvector: install it there "
                "(postgresql-NN-pgvector, or github.com/pgvector/pgvector)"
            )
            return StoreError(message)
        if isinstance(exc, psycopg.OperationalError) and not state:
            if doing == OPENING or text.startswith("connection failed"):
                return StoreError(f"{where} cannot be reached: {text}")
            message = f"the connection to {self.address.shown} was lost while {doing}: run it again"
            return StoreError(message)
        return StoreError(f"{where} cannot be used: {text}")


def _close_all(connections: list[Connection]) -> None:
    while connections:
        with suppress(psycopg.Error):
            connections.pop().close()
