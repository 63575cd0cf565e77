"""An index folder from nothing, and one that is there: manifest and table together.

``import lancedb`` costs half a second. It happens here, when a folder is opened, so that a
program that opens none does not pay for it.
"""

import sys
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from fashionclip.errors import StoreError
from fashionclip.index import rows, upkeep
from fashionclip.index.faults import reported
from fashionclip.index.folder import (
    MANIFEST_NAME,
    TABLE_NAME,
    Manifest,
    WriterLock,
    clear_unfinished,
)
from fashionclip.index.queries import LanceTable
from fashionclip.kinds import Kind

CLOUD_CLIENT = "lance_namespace_urllib3_client"
FRESHNESS = timedelta(0)  # a reader sees each write at once
LanceDatabase = Any  # see queries.LanceTable


def open_folder(folder: Path) -> tuple[Manifest, LanceTable]:
    """Open a folder that holds an index.

    Raises:
        StoreError: it is not there, or a newer fashionclip wrote it.
        StoreCorruptError: it is damaged.
    """
    manifest = Manifest.read(folder)
    with reported(folder):
        table = _connect(folder).open_table(Path(TABLE_NAME).stem)
        schema = table.schema
    rows.check_schema(schema, manifest.dim, folder)
    return manifest, table


def make_folder(folder: Path, manifest: Manifest, columns: Mapping[str, Kind]) -> LanceTable:
    """Make an empty index; its manifest is written last.

    Raises:
        StoreError: there is an index already, other files are in the way, or the folder
            cannot be written.
    """
    if folder.is_file():
        message = f"{folder} is a file: choose a folder for the index"
        raise StoreError(message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        message = f"the folder {folder} cannot be made: {exc.strerror}"
        raise StoreError(message) from exc
    with WriterLock(folder).held(), reported(folder):
        if (folder / MANIFEST_NAME).exists():
            message = f"there is an index at {folder} already: open it, or delete the folder"
            raise StoreError(message)
        clear_unfinished(folder)
        table = _connect(folder).create_table(
            Path(TABLE_NAME).stem, schema=rows.schema(manifest.dim, columns)
        )
        upkeep.index_captions(table)
        manifest.write(folder)
    return table


def _connect(folder: Path) -> LanceDatabase:
    _put_off_cloud_client()
    import lancedb

    return lancedb.connect(folder, read_consistency_interval=FRESHNESS)


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
    if "lancedb" in sys.modules or CLOUD_CLIENT in sys.modules:
        return
    spec = find_spec(CLOUD_CLIENT)
    if spec is not None:
        client = module_from_spec(spec)
        client.__class__ = _Later
        sys.modules[CLOUD_CLIENT] = client
