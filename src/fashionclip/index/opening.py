"""An index folder from nothing, and one that is there: manifest and table together."""

from collections.abc import Mapping
from pathlib import Path

from fashionclip.errors import StoreError
from fashionclip.index import engine, rows, upkeep
from fashionclip.index.faults import reported
from fashionclip.index.folder import (
    MANIFEST_NAME,
    TABLE_NAME,
    Manifest,
    WriterLock,
    clear_unfinished,
)
from fashionclip.index.queries import LanceTable
from fashionclip.product import Kind


def open_folder(folder: Path) -> tuple[Manifest, LanceTable]:
    """Open a folder that holds an index.

    Raises:
        StoreError: it is not there, or a newer fashionclip wrote it.
        StoreCorruptError: it is damaged.
    """
    manifest = Manifest.read(folder)
    with reported(folder):
        table = engine.connect(folder).open_table(Path(TABLE_NAME).stem)
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
        table = engine.connect(folder).create_table(
            Path(TABLE_NAME).stem, schema=rows.schema(manifest.dim, columns)
        )
        upkeep.index_captions(table)
        manifest.write(folder)
    return table
