"""A large shop through the service: time to build, disk, ready, memory, latency and recall.

    python benchmarks/large_shop.py --index shop.lance                   # grown to a million
    python benchmarks/large_shop.py --index shop.lance --grow-to 300000 --folder data/grown.lance

The products of an index are repeated with noise on their vectors, see ``grow`` in serve.py. The
grown index is kept in ``--folder`` and used again; a build that was ended goes on where it was.
Texts that nobody asked before are sent to the service one by one: by meaning alone ("vectors") and
by meaning and words ("hybrid"), without a filter and with filters that pass 50, 10 and 1 % of the
products. Recall@10 is the share of the ten products with the highest cosine that a search by
meaning finds. ``--json`` prints one JSON object.
"""

import argparse
import http.client
import json
import os
import time
from itertools import islice
from pathlib import Path

import numpy as np
from serve import SHARE, Service, grow, iter_texts, serving

from fashionclip.model import FashionCLIP
from fashionclip.serve.service import BUILTIN
from fashionclip.store import open_store

K = 10
PASSING_SHARES = {"none": 1.0, "50 %": 0.5, "10 %": 0.1, "1 %": 0.01}
MODES = ("vectors", "hybrid")
WARM_UP = 30
TARGETS = "p50 under 25 ms, recall@10 at least .95, memory under 3 GB, ready in under 60 s"


def truth_of(path: Path, queries: np.ndarray) -> dict[str, list[set[str]]]:
    """For each filter, the ids of the products closest to each query, by comparing all."""
    best: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in PASSING_SHARES}
    for part in open_store(path).scan():
        scores = queries @ part.vectors.T
        shares = part.columns.column(SHARE).to_numpy()
        ids = np.array(part.ids)
        for name, share in PASSING_SHARES.items():
            passing = np.flatnonzero(shares < share)
            some = scores[:, passing]
            top = np.argsort(-some, axis=1)[:, :K]
            best[name].append((ids[passing][top], np.take_along_axis(some, top, axis=1)))
    found = {}
    for name, parts in best.items():
        ids = np.concatenate([part[0] for part in parts], axis=1)
        scores = np.concatenate([part[1] for part in parts], axis=1)
        top = np.argsort(-scores, axis=1)[:, :K]
        found[name] = [set(row) for row in np.take_along_axis(ids, top, axis=1).tolist()]
    return found


class Client:
    """One persistent connection to the service."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def search(self, **body: object) -> tuple[list[str], float]:
        """The ids of the hits, and the time in ms.

        Raises:
            SystemExit: the service did not answer with hits.
        """
        started = time.perf_counter()
        self._connection.request(
            "POST", "/v1/search", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = self._connection.getresponse()
        content = answer.read()
        ms = 1000 * (time.perf_counter() - started)
        if answer.status != 200:
            raise SystemExit(f"the service answered {answer.status}: {content[:300]!r}")
        return [hit["id"] for hit in json.loads(content)["hits"]], ms


def measure(service: Service, texts: list[str], truth: dict[str, list[set[str]]]) -> list[dict]:
    client, rows = Client(service.port), []
    for mode in MODES:
        for name, share in PASSING_SHARES.items():
            where = {} if share == 1 else {"where": f"{SHARE} < {share}"}
            ms, recalls = [], []
            for text in texts[:WARM_UP]:  # fills the caches of index and filter
                client.search(text=f"{text} {mode} {name}", mode=mode, k=K, **where)
            for text, best in zip(texts, truth[name], strict=True):
                found, one = client.search(text=text, mode=mode, k=K, **where)
                ms.append(one)
                recalls.append(len(best & set(found)) / max(1, len(best)))
            row = {
                "mode": mode,
                "filter": name,
                "p50_ms": round(float(np.percentile(ms, 50)), 1),
                "p99_ms": round(float(np.percentile(ms, 99)), 1),
            }
            if mode == "vectors":
                row["recall@10"] = round(float(np.mean(recalls)), 3)
            rows.append(row)
    return rows


def folder_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", required=True, type=Path, help="the folder of an index")
    parser.add_argument("--grow-to", type=int, default=1_000_000, help="number of products")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("data/grown.lance"),
        help="where the grown index is kept",
    )
    parser.add_argument("--queries", type=int, default=200, help="number of texts")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    started = time.monotonic()
    source = open_store(options.index)
    grow(source, options.grow_to, options.folder)
    build_s = time.monotonic() - started
    store = open_store(options.folder)
    n_products, dim, model_name = len(store), store.meta.dim, store.meta.model
    store.close()
    texts = list(islice(iter_texts(np.random.default_rng(7)), options.queries))
    model = FashionCLIP.from_pretrained(None if model_name == BUILTIN else model_name)
    truth = truth_of(options.folder, model.encode_text(texts))
    started = time.monotonic()
    with serving(options.folder) as service:
        report = {
            "products": n_products,
            "dim": dim,
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "build_s": round(build_s, 1),
            "ready_s": round(time.monotonic() - started, 1),
            "ready_memory_mb": round(service.memory_mb()),
            "queries": measure(service, texts, truth),
            "memory_mb": round(service.memory_mb()),
        }
    report["disk_mb"] = round(folder_bytes(options.folder) / 1e6)
    report["vectors_mb"] = round(n_products * dim * 4 / 1e6)
    print(json.dumps(report)) if options.json else show(report)


def show(report: dict) -> None:
    print("{products:,} products x {dim}; {cores} cores, load {load}".format(**report))
    print("built (or found) in {build_s} s, ready after {ready_s} s".format(**report))
    print(
        "memory of the service {ready_memory_mb:,} MB when ready, {memory_mb:,} MB after the "
        "searches".format(**report)
    )
    ratio = report["disk_mb"] / report["vectors_mb"]
    print("disk {disk_mb:,} MB, {0:.2f} x the vectors".format(ratio, **report))
    for row in report["queries"]:
        recall = f"  recall@10 {row['recall@10']:.3f}" if "recall@10" in row else ""
        print(
            "{mode:8} filter {filter:5} p50 {p50_ms:6.1f} ms  p99 {p99_ms:6.1f} ms".format(**row)
            + recall
        )
    print(f"targets: {TARGETS}")


if __name__ == "__main__":
    main()
