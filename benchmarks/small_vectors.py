"""Small vectors: room, time and recall of each form and length, in each store.

    python benchmarks/small_vectors.py --index shop.lance --grow-to 40000
    python benchmarks/small_vectors.py --index shop.lance --stores Lance --forms half,binary

Vectors are those of an index, and noisy copies of them up to ``--grow-to``. Queries are titles of
its products, which lie far from all images, and noisy images. The reference is an exact product of
the whole float32 vectors in NumPy; recall@10 is the share of its ten best that are found. ``pca-N``
are principal components of the vectors, as ``fashionclip reduce`` fits them; ``first-N`` the first
numbers, which need a model that was trained for them (``loss.prefixes``). ``hot`` is what searches
read: the approximate index, or in memory all vectors. CPU time is that of this process, for
PostgreSQL of its server process.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import psycopg
from numpy.typing import NDArray
from stores import K, Vectors, build, postgres, read_vectors, unit

from fashionclip import Index
from fashionclip.product import VECTOR_FORMS, VectorForm
from fashionclip.reduction import fit_axes
from fashionclip.store import Store
from fashionclip.store.memory import MemoryStore

STORES = ("Lance", "PostgreSQL", "memory")
LENGTHS = ("whole", "pca-128")
N_WARM = 10  # queries that fill caches first


def shortened(length: str, vectors: Vectors) -> NDArray[np.float32]:
    """The axes of a length, as columns."""
    dim = vectors.shape[1]
    kind, _, n = length.partition("-")
    if kind == "pca":
        return fit_axes(vectors, int(n))[0]
    return np.eye(dim, int(n) if n else dim, dtype=np.float32)


def hot_bytes(store: Store, address: str) -> int:
    """What an approximate search reads, but for the rows that it ranks again."""
    if isinstance(store, MemoryStore):
        return store.info().size_bytes
    if "://" not in address:
        folder = Path(address) / "products.lance" / "_indices"
        named = [file for file in folder.rglob("auxiliary.idx") if file.is_file()]
        return sum(file.stat().st_size for file in named)
    server, _, name = address.rpartition("store=")
    with psycopg.connect(server.rstrip("?&")) as connection:
        row = connection.execute(
            "SELECT pg_relation_size(format('%%I.products_graph', %s::text)::regclass)", [name]
        ).fetchone()
    assert row is not None
    return int(row[0])


def server_process(store: Store) -> psutil.Process:
    """The process that answers searches."""
    connections = getattr(store, "_connections", None)
    pid = os.getpid() if connections is None else connections.read(lambda c: c.info.backend_pid)
    return psutil.Process(pid)


def measure(store: Store, queries: Vectors, best: NDArray[np.int64]) -> dict[str, float]:
    for query in queries[:N_WARM]:
        store.nearest(query[None], k=K, columns=())
    process = server_process(store)
    began, times, n_found = sum(process.cpu_times()[:2]), [], 0
    for query, wanted in zip(queries, best.tolist(), strict=True):
        started = time.perf_counter()
        (hits,) = store.nearest(query[None], k=K, columns=())
        times.append(1000 * (time.perf_counter() - started))
        n_found += len({int(hit.product_id) for hit in hits} & set(wanted))
    cpu_ms = 1000 * (sum(process.cpu_times()[:2]) - began) / len(queries)
    return {"p50": float(np.median(times)), "cpu": cpu_ms, "recall": n_found / best.size}


def compare(
    vectors: Vectors, queries: dict[str, Vectors], options: argparse.Namespace, address: str
) -> Iterator[list[str]]:
    scores = {name: some @ vectors.T for name, some in queries.items()}
    best = {name: np.argpartition(-some, K, axis=1)[:, :K] for name, some in scores.items()}
    for kind in options.stores.split(","):
        for length in options.lengths.split(","):
            axes = shortened(length, vectors)
            short = unit(vectors @ axes)
            for form in options.forms.split(","):
                if (kind, form) == ("PostgreSQL", "int8"):
                    continue  # pgvector has none
                yield [
                    kind,
                    form,
                    length,
                    *one_row(kind, form, short, axes, queries, best, address),
                ]


def one_row(
    kind: str,
    form: VectorForm,
    vectors: Vectors,
    axes: NDArray[np.float32],
    queries: dict[str, Vectors],
    best: dict[str, NDArray[np.int64]],
    address: str,
) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        place = {
            "Lance": f"{folder}/shop.lance",
            "PostgreSQL": f"{address}_{form}_{axes.shape[1]}_{time.time_ns()}",
            "memory": f"memory://{form}",
        }[kind]
        store, _ = build(place, vectors, np.zeros(len(vectors)), form)
        size = store.info().size_bytes
        figures = {
            name: measure(store, unit(some @ axes), best[name]) for name, some in queries.items()
        }
        row = [f"{size / 1e6:.1f}", f"{hot_bytes(store, place) / 1e6:.1f}"]
        row += [f"{np.mean([one[key] for one in figures.values()]):.1f}" for key in ("p50", "cpu")]
        row += [f"{one['recall']:.3f}" for one in figures.values()]
        store.close()
        if kind == "PostgreSQL":
            drop(place)
    return row


def drop(address: str) -> None:
    server, _, name = address.rpartition("store=")
    with psycopg.connect(server.rstrip("?&"), autocommit=True) as connection:
        connection.execute(f'DROP SCHEMA "{name}" CASCADE')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", required=True, help="an index whose vectors are used")
    parser.add_argument("--grow-to", type=int, default=0, help="add noisy copies up to this number")
    parser.add_argument("--queries", type=int, default=100, help="texts, and as many images")
    parser.add_argument("--stores", default=",".join(STORES), help="of Lance, PostgreSQL, memory")
    parser.add_argument("--forms", default=",".join(VECTOR_FORMS), help="forms of vectors")
    parser.add_argument("--lengths", default=",".join(LENGTHS), help="whole, pca-N, first-N")
    parser.add_argument("--postgres", help="use this database instead of a new server")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    index = Index.open(options.index)
    vectors = read_vectors(options.index, options.grow_to, rng)
    title = index.meta.roles.title
    assert title is not None
    hits = index.store.list_hits(k=options.queries, columns=[title])
    images = vectors[rng.integers(len(vectors), size=options.queries)]
    noise = rng.normal(size=images.shape) / np.sqrt(images.shape[1])
    queries = {
        "text": index.model.encode_text([str(hit.columns[title]) for hit in hits]),
        "image": unit(images + 0.5 * noise),
    }
    n, dim = vectors.shape
    print(f"{n:,} vectors of {dim} numbers; recall@{K} of {options.queries} texts and images\n")
    heads = ["store", "form", "length", "disk MB", "hot MB", "p50 ms", "CPU ms", "text", "image"]
    print(f"| {' | '.join(heads)} |\n|---|---|---|{'---:|' * 6}")
    with postgres(options.postgres) as address:
        base = (
            address if "store=" in address else f"{address}{'&' if '?' in address else '?'}store=b"
        )
        for row in compare(vectors, queries, options, base):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
