"""Data sets of the Hugging Face hub: downloads, and Parquet files with images in a column.

Downloads go through the hub's own client, so ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE``
apply, and an interrupted download continues.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fashionclip.atomic import whole_file
from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import Benchmark, refuse
from fashionclip.lines import reason_of

TIMEOUT_S = 10.0
"""How long the hub may take to answer."""
REPOSITORIES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fmnist": ("zalando-datasets/fashion_mnist", ("fashion_mnist/*.parquet",)),
        "kagl": ("Marqo/KAGL", ("data/*.parquet",)),
    }
)
"""Benchmark to its repository on the hub, and the files of it that are needed."""
UNPACKED = "unpacked"
"""Folder beside the Parquet files that their images are written to."""
_ROWS_PER_BATCH = 16  # images in memory


def download(benchmark: Benchmark, data: Path) -> Path:
    """Download a benchmark's files.

    Args:
        benchmark: which one.
        data: folder that gets a folder for it, of the benchmark's usual name.

    Returns:
        The benchmark's folder.

    Raises:
        BenchmarkError: it cannot be downloaded without its owners, or the download failed.
    """
    if benchmark.name not in REPOSITORIES:
        message = f"{benchmark.name} cannot be downloaded: {benchmark.how_to_get}"
        raise BenchmarkError(message)
    from huggingface_hub import HfApi, snapshot_download

    repository, patterns = REPOSITORIES[benchmark.name]
    folder = data / benchmark.places[0]
    # under another name until it is whole, so that half a set is never measured
    part = folder if folder.exists() else folder.with_name(f"{folder.name}.part")
    try:
        HfApi().dataset_info(repository, timeout=TIMEOUT_S)  # the download itself has no time limit
        snapshot_download(
            repository,
            repo_type="dataset",
            local_dir=part,
            allow_patterns=list(patterns),
            etag_timeout=TIMEOUT_S,
        )
    except Exception as exc:  # the hub's client lets its HTTP library's errors through
        detail = reason_of(exc, width=160)
        message = (
            f"{benchmark.name} could not be downloaded from {repository} "
            f"({type(exc).__name__}: {detail}); check the network and run it again, or "
            f"get it by hand: {benchmark.how_to_get}"
        )
        raise BenchmarkError(message) from exc
    if not any(part.glob("**/*.parquet")):
        problem = f"{repository} holds no {patterns[0]} any more; get it by hand"
        refuse(benchmark, problem)
    return part.rename(folder)


def read_with_images(shards: Sequence[Path], *, image: str = "image") -> list[dict[str, Any]]:
    """Read the rows of Parquet files; the column of images becomes paths.

    Such sets can be larger than memory, so each image is written beside its table once. Images that
    a killed run had written are used by the next one.

    Args:
        shards: the files in their order, all with the same columns.
        image: the column, whose cells hold encoded images: bytes, or a struct with ``bytes``.

    Returns:
        One dict per row; ``image`` holds a path, or None where the row has no image.

    Raises:
        BenchmarkError: a file is damaged or lacks the column, or the images cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for shard in shards:
        try:
            rows.extend(_rows_of(shard, image))
        except (pa.ArrowException, ValueError, OSError) as exc:
            reason = reason_of(exc, width=160)
            message = f"{shard} cannot be unpacked ({reason}); fetch it again, or free some space"
            raise BenchmarkError(message) from exc
    return rows


def _rows_of(shard: Path, image: str) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(shard) as file:
        names = file.schema_arrow.names
        if image not in names:
            message = f"it has no column '{image}', only {', '.join(names)}"
            raise ValueError(message)
        # with the file's size in the name, images of another version are not used
        folder = shard.parent / UNPACKED / f"{shard.stem}-{shard.stat().st_size}"
        done = folder / "done"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _unpack(file, image, folder)
            done.touch()
        existing = {entry.name for entry in os.scandir(folder)}
        rest = file.read(columns=[name for name in names if name != image]).to_pylist()
    for number, row in enumerate(rest):
        name = f"{number:06d}"
        yield {**row, image: folder / name if name in existing else None}


def _unpack(file: pq.ParquetFile, image: str, folder: Path) -> None:
    number = 0
    for batch in file.iter_batches(_ROWS_PER_BATCH, columns=[image], use_threads=False):
        for cell in batch.column(0).to_pylist():
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            path = folder / f"{number:06d}"
            if isinstance(data, bytes) and data and not path.exists():
                with whole_file(path) as part:
                    part.write_bytes(data)
            number += 1
