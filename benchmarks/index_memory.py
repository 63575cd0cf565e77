"""Peak memory of indexing against the size of the catalogue.

For each size, a catalogue with small random images in a Parquet table is generated, and indexed in
a new process with the built-in model. One line of JSON is printed: the products, the peak resident
memory of that process, its time and its rate. Memory should hardly grow with the catalogue.

    python benchmarks/index_memory.py            # 10,000 and 100,000 products
    python benchmarks/index_memory.py 1000 5000
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROWS_PER_GROUP = 1_000


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


def measure(path: Path, store: Path, model_name: str | None) -> None:
    from fashionclip.catalog import Catalog
    from fashionclip.indexing import index_catalog
    from fashionclip.model import FashionCLIP

    model = FashionCLIP.from_pretrained(model_name)
    started = time.perf_counter()
    report = index_catalog(Catalog.open(path), model, store, batch_size=64)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "products": report.count,
                "rejected": report.rejected,
                "peak_mb": round(peak),
                "seconds": round(seconds, 1),
                "per_s": round(report.count / seconds),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sizes", nargs="*", type=int, default=[10_000, 100_000], help="numbers of products"
    )
    parser.add_argument("--model", help="a checkpoint instead of the built-in one")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), Path(options.measure[1]), options.model)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for n in options.sizes:
            path, store = Path(folder) / f"{n}.parquet", Path(folder) / f"{n}.lance"
            write_catalog(path, n)
            command = [sys.executable, __file__, "--measure", str(path), str(store)]
            command += ["--model", options.model] if options.model else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(done.stdout.strip(), flush=True)
            peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_mb"])
    print(f"peak memory differs by {max(peaks) - min(peaks)} MB")


if __name__ == "__main__":
    main()
