"""LanceDB, imported when an index is first opened, and kept modest in time, memory and words.

``import lancedb`` costs half a second: a program that opens no index does not pay for it.
LanceDB's settings are environment variables; one that the user has set stays.
"""

import ctypes
import os
import platform
import sys
from datetime import timedelta
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

LanceDatabase = Any  # see queries.LanceTable

FRESHNESS = timedelta(milliseconds=20)  # a query asks the disk four times which version is newest
CLOUD_CLIENT = "lance_namespace_urllib3_client"
READ_AHEAD_BYTES = 32 << 20  # by default 2 GB: all vectors are in memory while they are sorted
OPEN_FILES = 1024
"""Of so many files that may be open, sorting can have one a cell, instead of all in memory."""
KEPT_BYTES = 1 << 20  # larger buffers go back to the system as soon as they are freed
M_MMAP_THRESHOLD = -3  # in glibc's malloc.h


def connect(folder: Path) -> LanceDatabase:
    """LanceDB's connection to a folder of tables."""
    if "lancedb" not in sys.modules:
        _put_off_cloud_client()
        _settle()
    import lancedb

    return lancedb.connect(folder, read_consistency_interval=FRESHNESS)


def _settle() -> None:
    """Bound what sorting vectors takes; benchmarks/index_memory.py has the figures."""
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns of what is of no concern to a user
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(READ_AHEAD_BYTES))
    if _open_files() >= OPEN_FILES:
        os.environ.setdefault("LANCE_LEGACY_SHUFFLER", "1")
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        # by default glibc comes to keep buffers of up to 32 MB for each thread that used one
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def _open_files() -> int:
    """How many files this process may have open; 0 where nobody says."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if soft == resource.RLIM_INFINITY else soft


class _Later(ModuleType):
    """A package whose own code runs when one of its names is first asked for."""

    def __getattr__(self, name: str) -> object:
        """Run the package's code, once, then answer as it does."""
        self.__class__ = ModuleType  # type: ignore[assignment]
        if self.__spec__ is not None and self.__spec__.loader is not None:
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _put_off_cloud_client() -> None:
    """Keep ``import lancedb`` from building the HTTP client of LanceDB's cloud.

    It takes half of the import's second, and no store on disk ever asks for it; a program that
    does gets it whole, only later. Its data models, which LanceDB names in signatures, load as
    always.
    """
    if CLOUD_CLIENT in sys.modules:
        return
    spec = find_spec(CLOUD_CLIENT)
    if spec is not None:
        client = module_from_spec(spec)
        client.__class__ = _Later
        sys.modules[CLOUD_CLIENT] = client
