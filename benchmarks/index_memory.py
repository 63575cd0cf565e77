"""Peak memory of indexing against the size of the catalogue.

For each size, a catalogue with small random images in a Parquet table is generated, and indexed in
a new process with the built-in model. One line of JSON is printed: the products, the peak memory of
that process, that of the processes that it starts to optimize the store, its time and its rate.
Memory that a process shares with others through files, such as libraries and the model's weights,
does not count. That of the first process should not grow with the catalogue.

    python benchmarks/index_memory.py            # 10,000, 50,000 and 200,000 products
    python benchmarks/index_memory.py 1000 5000
    python benchmarks/index_memory.py --random   # random vectors in place of the model's
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

if TYPE_CHECKING:
    from fashionclip.encoding import ImageJob, Result

ROWS_PER_GROUP = 1_000
DIM = 256
"""Numbers of a vector of the built-in model."""


class Usage(threading.Thread):
    """Peak memory, and time of the processor, of this process and of some others, sampled."""

    def __init__(self, others: Mapping[bytes, str]) -> None:
        """Begin to sample with ``start``.

        Args:
            others: roles of other processes, by what is in their command lines.
        """
        super().__init__(daemon=True)
        self._others = others
        self.peak_mb = {"driver": 0.0, **dict.fromkeys(others.values(), 0.0)}
        self.cpu_s: dict[int, float] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        """Sample until ``ended`` is set."""
        while not self.ended.wait(0.1):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    role = self._role(folder)
                    if role is not None:
                        self._sample(folder, role)
                except OSError:  # it has ended
                    continue

    def _role(self, folder: Path) -> str | None:
        if folder.name == str(os.getpid()):
            return "driver"
        words = (folder / "cmdline").read_bytes()
        return next((role for sign, role in self._others.items() if sign in words), None)

    def _sample(self, folder: Path, role: str) -> None:
        """Add a process; memory that it shares with others through files does not count."""
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        mb = int(status["RssAnon"].split()[0]) / 1024 if "RssAnon" in status else 0.0
        self.peak_mb[role] = max(self.peak_mb[role], mb)
        user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        self.cpu_s[int(folder.name)] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def write_catalog(path: Path, n_products: int) -> None:
    """Write the table row group by row group, so that memory does not grow with it."""
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("title", pa.string()),
            ("price", pa.float64()),
            ("image", pa.binary()),
        ]
    )
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_products, ROWS_PER_GROUP):
            rows = range(start, min(start + ROWS_PER_GROUP, n_products))
            columns = {
                "id": [f"sku-{i:08d}" for i in rows],
                "title": [f"dress number {i} with a pattern" for i in rows],
                "price": rng.uniform(5, 500, len(rows)),
                "image": [random_jpeg(rng) for _ in rows],
            }
            writer.write_table(pa.table(columns, schema=schema))


def random_jpeg(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(file, "JPEG")
    return file.getvalue()


def random_vectors(jobs: Iterable["ImageJob"], policy: object) -> Iterator["Result"]:
    """An ``Encoder`` that looks at no pixel, so that a run takes a tenth of the time."""
    from fashionclip.encoding import EncodedImage
    from fashionclip.store import content_key

    rng = np.random.default_rng(0)
    for job in jobs:
        vector = rng.normal(size=DIM).astype(np.float32)
        key = content_key(str(job.sources).encode())
        yield EncodedImage(key, vector / np.linalg.norm(vector))


def measure(path: Path, store: Path, model_name: str | None, *, is_random: bool) -> None:
    from fashionclip.catalog import Catalog
    from fashionclip.indexing import index_catalog
    from fashionclip.model import FashionCLIP

    usage = Usage({b"upkeep_process": "upkeep"})
    usage.start()
    model = FashionCLIP.from_pretrained(model_name)
    started = time.perf_counter()
    encoder = random_vectors if is_random else None
    report = index_catalog(Catalog.open(path), model, store, batch_size=64, encoder=encoder)
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "products": report.count,
                "rejected": report.rejected,
                "peak_mb": round(usage.peak_mb["driver"]),
                "upkeep_mb": round(usage.peak_mb["upkeep"]),
                "seconds": round(seconds, 1),
                "per_s": round(report.count / seconds),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sizes", nargs="*", type=int, default=[10_000, 50_000, 200_000], help="numbers of products"
    )
    parser.add_argument("--model", help="a checkpoint instead of the built-in one")
    parser.add_argument("--random", action="store_true", help="random vectors: ten times as fast")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        path, store = map(Path, options.measure)
        measure(path, store, options.model, is_random=options.random)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for n in options.sizes:
            path, store = Path(folder) / f"{n}.parquet", Path(folder) / f"{n}.lance"
            write_catalog(path, n)
            command = [sys.executable, __file__, "--measure", str(path), str(store)]
            command += ["--model", options.model] if options.model else []
            command += ["--random"] if options.random else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(done.stdout.strip(), flush=True)
            peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_mb"])
    print(f"peak memory differs by {max(peaks) - min(peaks)} MB")


if __name__ == "__main__":
    main()
