"""Nearest neighbours: an exact product in NumPy, LanceDB's flat scan, and this package's two ways.

    python benchmarks/index.py                         # 100,000 x 512, a mixture of Gaussians
    python benchmarks/index.py --index shop.lance      # the vectors of a real index
    python benchmarks/index.py --index shop.lance --grow-to 100000   # with jittered copies

All answer the same queries one by one, with and without a filter, in one run: this package from
the files, as the command and the library do, and from memory, as the service does (each filter is
worked out anew for each query; the service remembers them). Recall is the share of the exact ten
that are found. CPU is the mean over all threads, which other work on the machine does not change
as it changes the times. Prints one JSON object with ``--json``.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashionclip.index import Index, snapshot, upkeep
from fashionclip.index.columns import stored_name
from fashionclip.product import Product
from fashionclip.store.filters import mask, parse_filter

K = 10
CLUSTERS = 500
SPREAD = 1.0  # noise against the distance between cluster centres: neighbours are hard to rank
BATCH = 5_000
TIDYING = 20_000  # as an indexing run does it
SHARES = {"none": 1.0, "50 %": 0.5, "10 %": 0.1, "1 %": 0.01}

Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(n: int, dim: int, rng: np.random.Generator) -> Vectors:
    centres = rng.normal(size=(CLUSTERS, dim)).astype(np.float32)
    noise = rng.normal(size=(n, dim)).astype(np.float32)
    return unit(centres[rng.integers(CLUSTERS, size=n)] + SPREAD * noise)


def of_index(folder: str, grow_to: int, rng: np.random.Generator) -> Vectors:
    index = Index.open(folder)
    ids = sorted(index.iter_ids())
    found = index.vectors(ids)
    vectors = np.stack([found[name] for name in ids])
    if grow_to <= len(vectors):
        return vectors
    some = vectors[rng.choice(len(vectors), size=min(200, len(vectors)), replace=False)]
    cosines = np.sort(some @ vectors.T, axis=1)[:, -2]  # with the nearest other product
    step = float(np.sqrt(2 - 2 * np.median(cosines)) / np.sqrt(vectors.shape[1]))
    picks = rng.integers(len(vectors), size=grow_to - len(vectors))
    jitter = step * rng.normal(size=(len(picks), vectors.shape[1]))
    return np.concatenate([vectors, unit(vectors[picks] + jitter)])


def build(path: Path, vectors: Vectors, prices: NDArray[np.float64]) -> tuple[Index, dict]:
    index = Index.create(
        path,
        model="benchmark",
        fingerprint="0" * 16,
        dim=vectors.shape[1],
        columns={"price": "number"},
    )
    storing = tidying = 0.0
    for start in range(0, len(vectors), BATCH):
        rows = range(start, min(start + BATCH, len(vectors)))
        products = [Product(str(i), "", None, i, {"price": float(prices[i])}) for i in rows]
        began = time.perf_counter()
        index.upsert(products, vectors[start : start + BATCH], [bytes(16)] * len(products))
        stored = time.perf_counter()
        if rows.stop % TIDYING == 0 or rows.stop == len(vectors):
            index.optimize(finished=rows.stop == len(vectors))
        storing += stored - began
        tidying += time.perf_counter() - stored
    return index, {"store_s": round(storing, 1), "optimize_s": round(tidying, 1)}


def timed(
    answer: Callable[[Vectors], list[int]], queries: Vectors, truth: list[set[int]]
) -> dict[str, float]:
    answer(queries[0])  # the first query also reads the index into memory
    times, recalls = [], []
    work = time.process_time()
    for query, best in zip(queries, truth, strict=True):
        began = time.perf_counter()
        found = answer(query)
        times.append(1000 * (time.perf_counter() - began))
        recalls.append(len(best & set(found)) / max(1, len(best)))
    return {
        "cpu_ms": round(1000 * (time.process_time() - work) / len(queries), 1),
        "p50_ms": round(float(np.percentile(times, 50)), 1),
        "p99_ms": round(float(np.percentile(times, 99)), 1),
        "recall@10": round(float(np.mean(recalls)), 3),
    }


def passing(where: str, resident: snapshot.Snapshot) -> NDArray[np.bool_]:
    parsed = parse_filter(where, {"price": "number"})
    return mask(parsed, lambda name: resident.table.column(stored_name(name)))


def compare(index: Index, vectors: Vectors, prices: NDArray, queries: Vectors) -> list[dict]:
    rows = []
    resident = snapshot.read(index.queries)
    for name, share in SHARES.items():
        where = None if share == 1 else f"price < {share}"
        allowed = np.flatnonzero(prices < share)
        kept = vectors if share == 1 else vectors[allowed]

        def exact(query: Vectors, kept: Vectors = kept, allowed: NDArray = allowed) -> list[int]:
            scores = kept @ query
            best = np.argpartition(-scores, min(K, len(scores) - 1))[:K]
            return list(allowed[best])

        def flat(query: Vectors, where: str | None = where) -> list[int]:
            return [int(h.product_id) for h in index.nearest(query, k=K, where=where, exact=True)]

        def from_files(query: Vectors, where: str | None = where) -> list[int]:
            return [int(hit.product_id) for hit in index.nearest(query, k=K, where=where)]

        def from_memory(query: Vectors, where: str | None = where) -> list[int]:
            mask = None if where is None else passing(where, resident)
            return [int(hit.product_id) for hit in resident.best(query[None], [K], [mask])[0]]

        truth = [set(map(int, exact(query))) for query in queries]
        few = slice(0, max(5, len(queries) // 5))  # the flat scan is slow
        rows += [
            {"filter": name, "by": "NumPy exact", **timed(exact, queries, truth)},
            {"filter": name, "by": "LanceDB flat", **timed(flat, queries[few], truth[few])},
            {"filter": name, "by": "from files", **timed(from_files, queries, truth)},
            {"filter": name, "by": "from memory", **timed(from_memory, queries, truth)},
        ]
    return rows


def main() -> None:
    os.environ.setdefault("LANCEDB_LOG", "error")  # read when LanceDB is first imported
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--index", help="take the vectors of this index instead")
    parser.add_argument("--grow-to", type=int, default=0, help="add jittered copies up to here")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--approximate-from", type=int, default=upkeep.APPROXIMATE_FROM)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    upkeep.APPROXIMATE_FROM = options.approximate_from
    rng = np.random.default_rng(0)
    if options.index:
        vectors = of_index(options.index, options.grow_to, rng)
    else:
        vectors = clustered(options.vectors, options.dim, rng)
    prices = rng.uniform(size=len(vectors))
    near = vectors[rng.integers(len(vectors), size=options.queries)]
    noise = rng.normal(size=near.shape) / np.sqrt(near.shape[1])
    queries = unit(near + 0.5 * noise)
    with tempfile.TemporaryDirectory() as folder:
        index, building = build(Path(folder) / "bench.lance", vectors, prices)
        info = index.info()
        rows = compare(index, vectors, prices, queries)
    report = {
        "vectors": list(vectors.shape),
        "approximate": info.is_approximate,
        "megabytes": round(info.size_bytes / 1e6),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": round(os.getloadavg()[0], 1),
        **building,
        "queries": rows,
    }
    if options.json:
        print(json.dumps(report))
        return
    print({name: value for name, value in report.items() if name != "queries"})
    for row in rows:
        print(
            "{filter:>6}  {by:14} p50 {p50_ms:7.1f} ms  p99 {p99_ms:7.1f} ms".format(**row), end=""
        )
        print("  CPU {:6.1f} ms  recall@10 {:.3f}".format(row["cpu_ms"], row["recall@10"]))


if __name__ == "__main__":
    main()
