"""Parquet with pictures in a column, as Hugging Face has it: rows, and the pictures as files.

Such sets can be larger than memory, so each picture is written beside its table once, and travels
as a path from then on. What a killed run had written is there for the next one.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fashionclip.atomic import whole_file
from fashionclip.errors import BenchmarkError

UNPACKED = "unpacked"
"""Folder beside the tables that the pictures are written to."""
_AT_ONCE = 16  # pictures in memory


def read_with_images(shards: Sequence[Path], *, image: str = "image") -> list[dict[str, Any]]:
    """Read the rows of a table with the column of pictures as paths.

    Args:
        shards: the table's files, in their order, all with the same columns.
        image: the column, whose cells hold encoded pictures: bytes, or a struct with ``bytes``.

    Returns:
        One dict a row; ``image`` holds a path, or None where the row has no picture.

    Raises:
        BenchmarkError: a file is damaged or lacks the column, or the pictures cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for shard in shards:
        try:
            rows.extend(_rows_of(shard, image))
        except (pa.ArrowException, ValueError, OSError) as exc:
            reason = " ".join(str(exc).split())[:160]
            message = f"{shard} cannot be unpacked ({reason}); fetch it again, or free some space"
            raise BenchmarkError(message) from exc
    return rows


def _rows_of(shard: Path, image: str) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(shard) as file:
        names = file.schema_arrow.names
        if image not in names:
            message = f"it has no column '{image}', only {', '.join(names)}"
            raise ValueError(message)
        # the file's size in the name: pictures of another version are not taken for these
        folder = shard.parent / UNPACKED / f"{shard.stem}-{shard.stat().st_size}"
        done = folder / "done"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _unpack(file, image, folder)
            done.touch()
        there = {entry.name for entry in os.scandir(folder)}
        rest = file.read(columns=[name for name in names if name != image]).to_pylist()
    for number, row in enumerate(rest):
        name = f"{number:06d}"
        yield {**row, image: folder / name if name in there else None}


def _unpack(file: pq.ParquetFile, image: str, folder: Path) -> None:
    number = 0
    for batch in file.iter_batches(_AT_ONCE, columns=[image], use_threads=False):
        for cell in batch.column(0).to_pylist():
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            path = folder / f"{number:06d}"
            if isinstance(data, bytes) and data and not path.exists():
                with whole_file(path) as part:
                    part.write_bytes(data)
            number += 1
