"""A snapshot in a file of local disk, from which a process that starts again maps it into memory.

The file is a line of JSON that says what it is of, an Arrow stream of everything but the vectors,
the vectors with room for more after them, and a checksum of it all. It is written beside its place
and moved there whole.
"""

import json
import mmap
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from fashionclip.atomic import whole_file
from fashionclip.errors import StoreError
from fashionclip.store.base import StoreMeta
from fashionclip.store.blocks import Block, joined
from fashionclip.store.rows import kept_type, table_of
from fashionclip.store.snapshot import Snapshot, snapshot_of
from fashionclip.store.vector_room import VectorRoom, rows_with_spare

FORMAT = 1
OWN = ("id", "caption", "image", "content_key", "is_live")
"""The first columns, in this order; those of the catalogue come after them."""
CHECKSUM_BYTES = 4
MAX_LINE_BYTES = 10_000_000
DAMAGED = "it is damaged"


def save_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot; what was at its place before stays until all of it is on disk.

    Raises:
        OSError: it cannot be written.
    """
    vectors, table = np.ascontiguousarray(snapshot.vectors), _table(snapshot)
    capacity = rows_with_spare(len(vectors))
    facts = _facts(snapshot.meta) | {"revision": snapshot.revision, "capacity": capacity}
    with whole_file(path) as part, part.open("w+b") as file:
        file.write(json.dumps(facts).encode() + b"\n")
        _to_aligned_place(file)
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
        start = _to_aligned_place(file)
        file.write(vectors.data)
        end = start + capacity * vectors.itemsize * snapshot.meta.dim
        file.truncate(end)
        with mmap.mmap(file.fileno(), end, access=mmap.ACCESS_READ) as content:
            checksum = _checksum(content, end)
        file.seek(end)
        file.write(checksum)


def load_snapshot(path: Path, meta: StoreMeta) -> Snapshot:
    """The snapshot in a file, which is mapped into memory and may be replaced meanwhile.

    Args:
        path: the file.
        meta: that of the store as it is now.

    Raises:
        StoreError: there is none, it is damaged, or it is of another store or model; in words that
            follow the file's name.
    """
    try:
        facts = _read_facts(path)
        _require_same(facts, meta)
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        end = len(content) - CHECKSUM_BYTES
        if content[end:] != _checksum(content, end):
            raise StoreError(DAMAGED)
        source = pa.BufferReader(pa.py_buffer(content))
        source.seek(_aligned(content.find(b"\n") + 1))
        table = pa.ipc.open_stream(source).read_all().combine_chunks()
        start, n_numbers = _aligned(source.tell()), facts["capacity"] * meta.dim
        number = kept_type(meta.vectors)
        vectors = np.frombuffer(content, number, n_numbers, start).reshape(-1, meta.dim)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as exc:
        is_there = path.exists()
        raise StoreError(DAMAGED if is_there else "it is not there yet") from exc
    return _snapshot(table, VectorRoom.over(vectors, table.num_rows), meta, facts["revision"])


def saved_revision(path: Path, meta: StoreMeta) -> int | None:
    """The revision of the snapshot in a file; None if there is none of this store and model."""
    try:
        facts = _read_facts(path)
        _require_same(facts, meta)
        return int(facts["revision"])
    except (OSError, ValueError, KeyError, TypeError, StoreError):
        return None


def _table(snapshot: Snapshot) -> pa.Table:
    """All rows, dead ones too, without their vectors."""
    block = joined([snapshot.base, snapshot.recent], snapshot.meta)
    is_live = np.ones(len(block), bool) if snapshot.is_live is None else snapshot.is_live
    arrays = [pa.array(block.ids, pa.string()), block.captions, block.images, block.content_keys]
    columns = [*arrays, pa.array(is_live), *block.columns.columns]
    return pa.Table.from_arrays(columns, [*OWN, *block.columns.column_names])


def _snapshot(table: pa.Table, room: VectorRoom, meta: StoreMeta, revision: int) -> Snapshot:
    """The snapshot of a table and its vectors."""
    ids, captions, images, keys, is_live = table.columns[: len(OWN)]
    rest = table.select(list(range(len(OWN), table.num_columns)))
    columns = rest.select(list(meta.columns)) if meta.columns else table_of([], {}, len(table))
    block = Block(ids.to_pylist(), captions, images, keys, columns)
    alive = is_live.to_numpy()
    snapshot = snapshot_of(block, room, meta, revision)
    return snapshot if alive.all() else replace(snapshot, is_live=alive)


def address_of(meta: StoreMeta) -> str:
    """The address of a store, the same from every working directory."""
    return meta.uri if "://" in meta.uri else str(Path(meta.uri).absolute())


def _facts(meta: StoreMeta) -> dict[str, Any]:
    """What says which store and model a snapshot is of."""
    return {
        "format": FORMAT,
        "uri": address_of(meta),
        "created": meta.created,
        "fingerprint": meta.fingerprint,
        "dim": meta.dim,
        "vectors": meta.vectors,
        "columns": dict(meta.columns),
    }


def _read_facts(path: Path) -> dict[str, Any]:
    """What a file says of itself.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
    """
    with path.open("rb") as file:
        facts = json.loads(file.readline(MAX_LINE_BYTES))
    if not isinstance(facts, dict):
        raise ValueError(DAMAGED)
    return facts


def _require_same(facts: dict[str, Any], meta: StoreMeta) -> None:
    """Check that a snapshot is of a store and its model.

    Raises:
        StoreError: it is of another one.
    """
    wanted = _facts(meta)
    others = [name for name, value in wanted.items() if facts.get(name) != value]
    if "format" in others:
        message = "another version of fashionclip wrote it"
    elif "fingerprint" in others or "dim" in others:
        message = "it is of another model"
    elif others == ["columns"]:
        message = "the index had other columns then"
    elif others:
        message = "it is of another index"
    else:
        return
    raise StoreError(message)


def _aligned(place: int) -> int:
    """The next place where arrays may begin."""
    return -(-place // mmap.PAGESIZE) * mmap.PAGESIZE


def _to_aligned_place(file: BinaryIO) -> int:
    """Go there, in a file; all before it is written."""
    place = _aligned(file.tell())
    file.truncate(place)
    file.seek(place)
    return place


def _checksum(content: mmap.mmap, end: int) -> bytes:
    with memoryview(content) as view:
        return zlib.crc32(view[:end]).to_bytes(CHECKSUM_BYTES, "little")
