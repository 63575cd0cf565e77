"""Large stores beside engines of vectors alone: time to build, size, latency and recall by filter.

    python benchmarks/large_stores.py --n 1000000 --folder /data/large     # an hour or two
    python benchmarks/large_stores.py --n 20000 --folder /tmp/small --engines faiss,qdrant

PostgreSQL and Lance are this package's stores, with vectors as half; ``faiss`` is its HNSW over
half floats (``pip install faiss-cpu``), ``qdrant`` is Qdrant's engine in this process
(``pip install qdrant-edge-py``). All graphs have 16 links and are built with 64 candidates and
searched with 100. The two engines hold vectors and a price, the stores whole products with words.

Vectors are random clusters, written to FOLDER in chunks, so that memory is bounded by a chunk.
Queries are noisy vectors, one after the other; the reference is an exact product. The filters pass
50, 10 and 1 % of the vectors, chosen at random. Each engine runs in a process of its own and leaves
its figures in FOLDER; a run that was killed goes on with the first engine that has none.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stores import PASSING_SHARES, K, Vectors, build, measure, postgres, unit

from fashionclip.store import Store
from fashionclip.store.filters import parse_filter

DIM = 512
CLUSTERS, SPREAD = 2_000, 0.7
CHUNK = 10_000  # vectors
LINKS, BUILD_CANDIDATES, SEARCH_CANDIDATES = 16, 64, 100
Answer = Callable[[Vectors, float], list[int]]
"""A query and the share of the vectors that its filter passes, to the numbers of its best ones."""


def write_vectors(folder: Path, n: int) -> None:
    """Write vectors and prices, unless they are there."""
    if (folder / "prices.npy").exists():
        return
    centres = np.random.default_rng(0).normal(size=(CLUSTERS, DIM)).astype(np.float32)
    array = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (n, DIM))
    for start in range(0, n, CHUNK):
        rng = np.random.default_rng((1, start))
        size = min(CHUNK, n - start)
        noise = rng.normal(size=(size, DIM)).astype(np.float32)
        array[start : start + size] = unit(
            centres[rng.integers(CLUSTERS, size=size)] + SPREAD * noise
        )
    array.flush()
    np.save(folder / "prices.npy", np.random.default_rng(2).uniform(size=n))


def write_truth(folder: Path, n_queries: int) -> None:
    """Write queries, and the numbers of their best vectors by filter, unless they are there."""
    if (folder / "truth.npz").exists():
        return
    vectors, prices = read_vectors(folder)
    rng = np.random.default_rng(3)
    picked = np.sort(rng.choice(len(vectors), size=n_queries, replace=False))
    noise = rng.normal(size=(n_queries, DIM)) / np.sqrt(DIM)
    queries = unit(vectors[picked] + 0.5 * noise)
    best = {
        name: _best_of(queries, vectors, prices < share) for name, share in PASSING_SHARES.items()
    }
    np.savez(folder / "truth.npz", queries=queries, **best)


def _best_of(queries: Vectors, vectors: Vectors, passes: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), CHUNK):
        allowed = start + np.flatnonzero(passes[start : start + CHUNK])
        scores = np.concatenate([scores, queries @ vectors[allowed].T], axis=1)
        rows = np.concatenate(
            [rows, np.broadcast_to(allowed, (len(queries), len(allowed)))], axis=1
        )
        best = np.argsort(-scores, axis=1)[:, :K]
        scores, rows = (np.take_along_axis(part, best, axis=1) for part in (scores, rows))
    return rows


def read_vectors(folder: Path) -> tuple[Vectors, NDArray[np.float64]]:
    return np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "prices.npy")


def run_lance(folder: Path, place: Path, _: str | None) -> dict:
    return run_store(folder, str(place / "shop.lance"))


def run_postgres(folder: Path, place: Path, address: str | None) -> dict:
    with postgres(address) as uri:
        return run_store(folder, uri)


def run_store(folder: Path, uri: str) -> dict:
    store, seconds = build(uri, *read_vectors(folder), "half")
    figures = {
        "build_s": sum(seconds.values()),
        "size_mb": store.info().size_bytes / 1e6,
        "filters": ask(folder, answer_of(store)),
    }
    store.close()
    return figures


def answer_of(store: Store) -> Answer:
    def answer(query: Vectors, share: float) -> list[int]:
        where = None if share == 1 else parse_filter(f"price < {share}", {"price": "number"})
        (hits,) = store.nearest(query[None], k=K, where=where, columns=())
        return [int(hit.product_id) for hit in hits]

    return answer


def run_faiss(folder: Path, place: Path, _: str | None) -> dict:
    import faiss

    vectors, prices = read_vectors(folder)
    half, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexHNSWSQ(DIM, half, LINKS, metric)
    index.hnsw.efConstruction = BUILD_CANDIDATES
    started = time.perf_counter()
    index.train(np.array(vectors[:CHUNK]))
    for start in range(0, len(vectors), CHUNK):
        index.add(np.array(vectors[start : start + CHUNK]))
    seconds = time.perf_counter() - started
    faiss.write_index(index, str(place / "index.faiss"))
    bitmaps = {share: np.packbits(prices < share, bitorder="little") for share in _shares()}

    def answer(query: Vectors, share: float) -> list[int]:
        how = faiss.SearchParametersHNSW(efSearch=SEARCH_CANDIDATES)
        if share < 1:
            how.sel = faiss.IDSelectorBitmap(bitmaps[share])
        return index.search(query[None], K, params=how)[1][0].tolist()

    return {
        "build_s": seconds,
        "size_mb": size_bytes(place) / 1e6,
        "filters": ask(folder, answer),
    }


def run_qdrant(folder: Path, place: Path, _: str | None) -> dict:
    import qdrant_edge as edge

    vectors, prices = read_vectors(folder)
    params = edge.EdgeVectorParams(
        DIM, edge.Distance.Dot, datatype=edge.VectorStorageDatatype.Float16
    )
    graph = edge.HnswIndexConfig(LINKS, BUILD_CANDIDATES, full_scan_threshold=10_000)
    shard = edge.EdgeShard.create(str(place), edge.EdgeConfig(params, hnsw_config=graph))
    started = time.perf_counter()
    price_index = edge.UpdateOperation.create_field_index("price", edge.PayloadSchemaType.Float)
    shard.update(price_index)
    for start in range(0, len(vectors), CHUNK):
        chunk = vectors[start : start + CHUNK].tolist()
        points = [
            edge.Point(start + i, vector, {"price": float(prices[start + i])})
            for i, vector in enumerate(chunk)
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    while shard.optimize():
        pass
    shard.flush()
    seconds = time.perf_counter() - started
    how = edge.SearchParams(hnsw_ef=SEARCH_CANDIDATES)

    def answer(query: Vectors, share: float) -> list[int]:
        condition = edge.FieldCondition("price", range=edge.RangeFloat(lt=share))
        where = None if share == 1 else edge.Filter(must=[condition])
        nearest = edge.Query.Nearest(query.tolist())
        return [
            hit.id for hit in shard.search(edge.SearchRequest(nearest, K, filter=where, params=how))
        ]

    figures = ask(folder, answer)
    shard.close()
    return {"build_s": seconds, "size_mb": size_bytes(place) / 1e6, "filters": figures}


ENGINES = {
    "postgres": run_postgres,
    "lance": run_lance,
    "faiss": run_faiss,
    "qdrant": run_qdrant,
}


def ask(folder: Path, answer: Answer) -> dict[str, dict[str, float]]:
    """Latency and recall with each filter."""
    truth = np.load(folder / "truth.npz")
    found = {}
    for name, share in PASSING_SHARES.items():
        best = [set(row) for row in truth[name].tolist()]
        found[name] = measure(
            lambda query, share=share: answer(query, share), truth["queries"], best
        )
    return found


def _shares() -> list[float]:
    return [share for share in PASSING_SHARES.values() if share < 1]


def size_bytes(folder: Path) -> int:
    """Bytes on disk; files with holes count what they hold."""
    return sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


def run_engine(name: str, folder: Path, address: str | None) -> None:
    place = folder / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    figures = ENGINES[name](folder, place, address)
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    figures["load"] = os.getloadavg()[0]
    shutil.rmtree(place)
    (folder / f"{name}.json").write_text(json.dumps(figures))


def show(folder: Path, n: int) -> None:
    print(f"{n:,} vectors of {DIM} numbers, {os.cpu_count()} cores; p50/p99 in ms, recall@{K}\n")
    heads = ["engine", "build s", "disk MB", "peak MB", "load", *PASSING_SHARES]
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    for name in ENGINES:
        if not (folder / f"{name}.json").exists():
            continue
        figures = json.loads((folder / f"{name}.json").read_text())
        keys = ("build_s", "size_mb", "peak_mb", "load")
        cells = [name, *(f"{figures[key]:,.0f}" for key in keys)]
        cells += [
            f"{one['p50_ms']:.1f}/{one['p99_ms']:.1f}, {one['recall@10']:.3f}"
            for one in figures["filters"].values()
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20_000, help="number of vectors")
    parser.add_argument("--folder", type=Path, required=True, help="a folder with room: 10 KB each")
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--queries", type=int, default=200, help="number of queries")
    parser.add_argument("--postgres", help="use this database instead of a new server")
    options = parser.parse_args()
    folder = options.folder / str(options.n)
    folder.mkdir(parents=True, exist_ok=True)
    write_vectors(folder, options.n)
    write_truth(folder, options.queries)
    for name in options.engines.split(","):
        if not (folder / f"{name}.json").exists():
            process = multiprocessing.get_context("spawn").Process(
                target=run_engine, args=(name, folder, options.postgres)
            )
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{name} failed with status {process.exitcode}")
    show(folder, options.n)


if __name__ == "__main__":
    main()
