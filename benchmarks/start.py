"""The start of a service over made-up products, with its index saved on local disk and without.

    python benchmarks/start.py postgresql://localhost/trial?store=start --products 100000 --dim 512

The store is made where there is none, and stays. Figures are of this process: those of a database
come on top, and are larger without a saved copy.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from fashionclip.product import Product
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.saved_copy import saved_path
from fashionclip.store import Store, StoreMeta, create_store, holds_store, open_store

ROWS_PER_WRITE = 10_000
DIRECTIONS = 40  # that most of the vectors lie in, as CLIP's do
N_CHANGED = (1_000, 10_000)
COLUMNS = {"title": "string", "brand": "string", "price": "number", "description": "string"}
TEXT = "Cotton with a little elastane, machine washable, true to size. " * 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", help="a folder that does not exist, or a database")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    given = parser.parse_args()
    threadpool_limits(1, user_api="blas")  # as the service does: threads that wait would be counted
    if not holds_store(given.store):
        meta = StoreMeta(given.store, "made up", "0" * 16, given.dim, columns=COLUMNS)
        with create_store(given.store, meta).writer() as writer:
            write(writer, given.products, given.dim)
            writer.optimize()
    with tempfile.TemporaryDirectory() as folder:
        saved_in = Path(folder)
        start(given.store, None, "read whole").close()
        index = start(given.store, saved_in, "read whole, and saved")
        saved = saved_path(saved_in, index.meta)
        while not saved.exists():
            time.sleep(0.1)
        index.close()
        print(f"saved file: {saved.stat().st_size / 1e6:.0f} MB")
        start(given.store, saved_in, "from the saved file").close()
        for n in N_CHANGED:
            with open_store(given.store).writer() as writer:
                write(writer, n, given.dim, seed=n)
            start(given.store, saved_in, f"from the saved file, {n:,} products changed").close()


def start(store: Store, saved_in: Path | None, how: str) -> InMemoryIndex:
    """Open an index as a service does, and print how long it took."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    index = InMemoryIndex(store, metrics=Metrics(), saved_in=saved_in)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    print(f"{how}: {cpu_s:.2f} s of CPU time, {wall_s:.2f} s ({len(index):,} products)")
    return index


def write(writer, n_products: int, dim: int, *, seed: int = 0) -> None:  # noqa: ANN001
    """Write the first products with vectors of their own for each seed."""
    rng, basis = np.random.default_rng(seed), np.random.default_rng(1)
    directions = basis.standard_normal((DIRECTIONS, dim)).astype(np.float32)
    for start_at in range(0, n_products, ROWS_PER_WRITE):
        rows = range(start_at, min(start_at + ROWS_PER_WRITE, n_products))
        inside = rng.standard_normal((len(rows), DIRECTIONS)).astype(np.float32) @ directions
        vectors = inside + 0.3 * rng.standard_normal((len(rows), dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        products = [
            Product(
                f"p{i:07d}",
                f"blue jeans number {i}",
                f"/images/{i}.jpg",
                i,
                {
                    "title": f"Blue jeans {i}",
                    "brand": f"brand {i % 300}",
                    "price": i / 7,
                    "description": TEXT,
                },
            )
            for i in rows
        ]
        writer.upsert(products, vectors, [i.to_bytes(16, "big") for i in rows])


if __name__ == "__main__":
    main()
