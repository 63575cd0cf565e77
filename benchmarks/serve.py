"""The service under load: latency at a steady rate, throughput with and without batches, memory.

    python benchmarks/serve.py --index shop.lance            # grown to 100,000 products
    python benchmarks/serve.py --index shop.lance --memory 100000   # memory over as many requests

Two services run over one index, the second with ``--max-batch 1``, and take turns, so that other
load of the machine affects both. ``--peers PYTHON`` adds services of other libraries over the same
products and model; PYTHON is the interpreter of an environment that peer_service.py describes. A
separate process sends the requests over loopback, by sockets, which takes a few per cent of a core.
No text is sent to a service twice, so nothing comes from its cache. Latency counts from the time
that a request was due. The last part searches the vectors without HTTP and text tower, with and
without PCA pruning. ``--json`` prints one JSON object.
"""

import argparse
import json
import multiprocessing
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fashionclip.model import FashionCLIP
from fashionclip.product import Product
from fashionclip.serve.service import BUILTIN
from fashionclip.store import Store, open_or_create, open_store
from fashionclip.store.memory import MemoryStore

REQUESTS_PER_S = 20.0  # of the steady load
N_CLIENTS = 32
N_VECTOR_SEARCHES, K = 200, 11  # the service reads 11 hits to return 10
TARGET_P50_MS, TARGET_P99_MS, TARGET_RATIO, TARGET_PEER_RATIO = 20.0, 60.0, 4.0, 1.5
PEERS = (("infinity", "lancedb"), ("transformers", "lancedb"), ("transformers", "qdrant"))
MAX_PEER_START_S = 600.0
N_MEMORY_POINTS = 20
MAX_FLAT_GROWTH = 0.02  # share, over the second half of the memory curve
MAX_REQUESTS, MAX_SECONDS = 1_000_000, 1_800.0
ROWS_PER_WRITE = 5_000
SHARE = "share"  # a column that a grown index has besides

WORDS = (
    "black white navy red green blue pink beige grey brown yellow purple teal khaki olive",
    "cotton linen denim leather wool silk velvet mesh satin corduroy suede canvas knit",
    "slim loose cropped long short oversized fitted pleated ribbed quilted hooded plain",
    "striped checked floral dotted printed solid embroidered washed faded glossy",
    "dress shirt jeans skirt jacket coat sneakers boots bag belt watch scarf hat tie",
    "women men kids summer winter office sports party travel school beach evening",
)


def iter_texts(rng: np.random.Generator) -> Iterator[str]:
    """Yield about four million different texts of three to six words, in random order."""
    lists = [words.split() for words in WORDS]
    sizes = [len(words) for words in lists]
    total = int(np.prod(sizes))
    step = 1_000_003  # coprime to the total, so that every combination comes once
    start = int(rng.integers(total))
    for i in range(total):
        indices = np.unravel_index((start + i * step) % total, sizes)
        chosen = [words[i_word] for words, i_word in zip(lists, indices, strict=True)]
        yield " ".join(chosen[-3 - i % 4 :] + ([str(i)] if i % 4 < 3 else []))


# the load, in a separate process


@dataclass(slots=True)
class Connection:
    """A persistent connection with at most one open request."""

    socket: socket.socket
    due: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def send(self, body: bytes, due: float) -> None:
        """Send a request, which is short enough for one call."""
        self.due = due
        head = (
            b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        self.socket.sendall(head + body)

    def status(self) -> int:
        """Read on: 0 until the response is complete, then its status; -1 if it never comes."""
        part = self.socket.recv(1 << 16)
        if not part:
            return -1
        self.received += part
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return 0
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length is None or len(rest) < int(length[1]):
            return 0
        self.received.clear()
        return int(head[9:12])


class Load:
    """Requests to one port, their latencies and statuses."""

    def __init__(self, port: int) -> None:
        """Start without a connection."""
        self._port, self._selector = port, selectors.DefaultSelector()
        self._idle: list[Connection] = []
        self.n_open = 0
        self.ms: list[float] = []
        self.statuses: Counter[int] = Counter()

    def send(self, body: str, due: float) -> None:
        """Send a search over an idle connection, or over a new one."""
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = Connection(socket.create_connection(("127.0.0.1", self._port)))
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.socket.setblocking(False)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(body.encode(), due)
        self.n_open += 1

    def wait(self, timeout: float) -> int:
        """Receive responses until ``timeout``, in seconds; returns their number."""
        before = self.n_open
        for key, _ in self._selector.select(max(0.0, timeout)):
            connection: Connection = key.data
            status = connection.status()
            if status == 0:
                continue
            if status < 0:  # closed by the service, usually because the connection was idle
                self._selector.unregister(connection.socket)
                connection.socket.close()
                if connection in self._idle:
                    self._idle.remove(connection)
                    continue
            else:
                self.ms.append(1000 * (time.perf_counter() - connection.due))
                self._idle.append(connection)
            self.statuses[status] += 1
            self.n_open -= 1
        return before - self.n_open


def run_steady(port: int, texts: list[str], seed: int) -> Load:
    """Send ``REQUESTS_PER_S`` at random times, without waiting for earlier responses."""
    gaps = np.random.default_rng(seed).exponential(1 / REQUESTS_PER_S, size=len(texts))
    dues = time.perf_counter() + np.cumsum(gaps)
    load = Load(port)
    for text, due in zip(texts, dues.tolist(), strict=True):
        while (left := due - time.perf_counter()) > 0:
            load.wait(left)
        load.send(text, due)
    deadline = time.perf_counter() + 30
    while load.n_open and time.perf_counter() < deadline:
        load.wait(1.0)
    return load


def run_closed(port: int, texts: list[str], n_clients: int, seconds: float) -> tuple[Load, float]:
    """Run clients that each send the next request as soon as they have a response."""
    load, waiting = Load(port), iter(texts)
    started = time.perf_counter()
    for text in islice(waiting, n_clients):
        load.send(text, time.perf_counter())
    while load.n_open and time.perf_counter() < started + MAX_SECONDS:
        free = load.wait(1.0)
        if time.perf_counter() < started + seconds:
            for text in islice(waiting, free):
                load.send(text, time.perf_counter())
    return load, time.perf_counter() - started


def send_results(sending, kind: str, *arguments) -> None:  # noqa: ANN001, ANN002
    """Run a load in its process, and send the results through a pipe."""
    load, seconds = run_closed(*arguments) if kind == "closed" else (run_steady(*arguments), 0.0)
    sending.send((load.ms, dict(load.statuses), load.n_open, seconds))


def bodies(texts: Iterator[str], n: int, mode: str | None) -> list[str]:
    """The bodies of n searches; without a mode, the service chooses."""
    further = {} if mode is None else {"mode": mode}
    return [json.dumps({"text": text, **further}) for text in islice(texts, n)]


def run_load(kind: str, *arguments) -> dict:  # noqa: ANN002
    """Run a load in a new process: latencies in ms, and counts of errors and lost requests."""
    spawning = multiprocessing.get_context("spawn")
    receiving, sending = spawning.Pipe(duplex=False)
    process = spawning.Process(target=send_results, args=(sending, kind, *arguments))
    process.start()
    sending.close()
    ms, statuses, lost, seconds = receiving.recv()
    process.join()
    errors = {str(status): n for status, n in statuses.items() if status != 200}
    return {"ms": ms, "seconds": seconds, "errors": errors | ({"lost": lost} if lost else {})}


# the service


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    port: int

    def metrics(self) -> dict[str, float]:
        """The values of ``/metrics``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as response:
            lines = [line.rpartition(" ") for line in response.read().decode().splitlines()]
        return {name: float(value) for name, _, value in lines if name and name[0] != "#"}

    def memory_mb(self) -> float:
        """Resident memory of the serving process."""
        return self.metrics()["process_resident_memory_bytes"] / 1e6

    def cpu_s(self) -> float:
        """CPU time of the serving process since its start."""
        return self.metrics()["process_cpu_seconds_total"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A running service of other libraries."""

    port: int
    process: int

    def cpu_s(self) -> float:
        """CPU time of its process since its start."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving_peer(
    python: str, table: Path, kind: tuple[str, str], mode: str
) -> Iterator[Peer | None]:
    """Run a service of other libraries until the block ends; None if it does not start."""
    encoder, database = kind
    checkpoint = Path(str(files("fashionclip").joinpath(BUILTIN)))
    command = [python, str(Path(__file__).with_name("peer_service.py")), "--table", str(table)]
    command += ["--checkpoint", str(checkpoint), "--mode", mode]
    command += ["--encoder", encoder, "--database", database]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            port = peer_port(process, log)
            yield None if port is None else Peer(port, process.pid)
        finally:
            process.terminate()
            process.wait(60)


def peer_port(process: subprocess.Popen, log) -> int | None:  # noqa: ANN001
    """Wait until a service of other libraries is ready; None, and why on stderr, if it fails."""
    deadline = time.monotonic() + MAX_PEER_START_S
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
        log.seek(0)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", log.read())
        if found:
            return int(found[1])
    log.seek(0)
    lines = log.read().strip().splitlines() or ["no output"]
    print(f"a peer did not start: {lines[-1]:.300}", file=sys.stderr)
    return None


def write_peer_table(store: Store, path: Path) -> None:
    """Write the products for services of other libraries: id, text, vector."""
    schema = pa.schema(
        {"id": pa.string(), "text": pa.string(), "vector": pa.list_(pa.float32(), store.meta.dim)}
    )
    with pq.ParquetWriter(path, schema) as writer:
        for part in store.scan():
            vectors = pa.FixedSizeListArray.from_arrays(part.vectors.ravel(), store.meta.dim)
            writer.write_table(pa.table([part.ids, part.captions, vectors], schema=schema))


@contextmanager
def serving(index: Path, *options: str) -> Iterator[Service]:
    """Run ``fashionclip serve`` over an index until the block ends."""
    command = [sys.executable, "-m", "fashionclip.cli", "serve", str(index), "--port", "0"]
    command += ["--rate", "0", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, text=True)
        try:
            yield Service(port_of(process, log))
        finally:
            process.terminate()
            process.wait(60)


def port_of(process: subprocess.Popen, log) -> int:  # noqa: ANN001
    """Wait until the service is ready.

    Raises:
        SystemExit: the service did not start within two minutes.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
        log.seek(0)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", log.read())
        if found:
            address = f"http://127.0.0.1:{found[1]}/metrics"
            with urllib.request.urlopen(address, timeout=110):  # waits until the index is open
                return int(found[1])
    log.seek(0)
    raise SystemExit(f"the service did not start:\n{log.read()}")


def grow(source: Store, n_products: int, path: Path) -> Path:
    """Write a larger copy of a store: its products repeatedly, with noise added to the vectors.

    The column ``SHARE`` has evenly spread numbers in 0...1, so that ``share < 0.1`` passes a tenth.
    A copy that was begun is continued, and one that is complete is left alone.
    """
    store = open_or_create(path, source.meta)
    if len(store) >= n_products:
        return path
    parts = list(source.scan())
    vectors = np.concatenate([part.vectors for part in parts])
    captions = [caption for part in parts for caption in part.captions]
    images = [image for part in parts for image in part.images]
    columns = [row for part in parts for row in part.columns.to_pylist()]
    with store.writer() as writer:
        writer.set_roles(source.meta.roles)
        for start in range(len(store), n_products, ROWS_PER_WRITE):
            rng = np.random.default_rng(start)
            rows = range(start, min(start + ROWS_PER_WRITE, n_products))
            batch = vectors[[i % len(vectors) for i in rows]]
            noise = rng.normal(size=batch.shape) * [[0.02 * (i >= len(vectors))] for i in rows]
            batch = batch + noise
            batch = (batch / np.linalg.norm(batch, axis=1, keepdims=True)).astype(np.float32)
            products = []
            for i in rows:
                row = i % len(vectors)
                further = {SHARE: (i * 2_654_435_761 % 2**32) / 2**32}
                values = columns[row] | further
                products.append(Product(str(i), captions[row], images[row], i, values))
            writer.upsert(products, batch, [bytes(16)] * len(products))
        writer.set_relevance_threshold(source.meta.relevance_threshold)
        writer.optimize()
    return path


# the measurements


def percentile(ms: list[float], share: float) -> float:
    return round(float(np.percentile(ms, share)), 1) if ms else float("nan")


def latency(service: Service, texts: Iterator[str], n: int, mode: str | None) -> dict:
    cpu = service.cpu_s()
    load = run_load("steady", service.port, bodies(texts, n, mode), 1)
    cpu = service.cpu_s() - cpu
    return {
        "requests": n,
        "p50_ms": percentile(load["ms"], 50),
        "p90_ms": percentile(load["ms"], 90),
        "p99_ms": percentile(load["ms"], 99),
        "cpu_ms": round(1000 * cpu / n, 1),
        "errors": load["errors"],
    }


def throughput(
    services: dict[str, Service | Peer],
    texts: dict[str, Iterator[str]],
    rounds: int,
    seconds: float,
    mode: str | None,
) -> dict:
    totals: dict[str, dict] = {
        name: {
            "requests": 0,
            "seconds": 0.0,
            "cpu_s": 0.0,
            "ms": [],
            "rates": [],
            "errors": Counter(),
        }
        for name in services
    }
    for i_round in range(rounds):
        for name in services if i_round % 2 == 0 else reversed(services):
            total, cpu = totals[name], services[name].cpu_s()
            batch = bodies(texts[name], round(seconds * 2_000), mode)
            load = run_load("closed", services[name].port, batch, N_CLIENTS, seconds)
            total["cpu_s"] += services[name].cpu_s() - cpu
            total["requests"] += len(load["ms"])
            total["seconds"] += load["seconds"]
            total["ms"] += load["ms"]
            total["rates"].append(round(len(load["ms"]) / load["seconds"], 1))
            total["errors"].update(load["errors"])
    report = {}
    for name, total in totals.items():
        n = total["requests"]
        report[name] = {
            "per_s": round(n / total["seconds"], 1),
            "rounds_per_s": total["rates"],
            "p50_ms": percentile(total["ms"], 50),
            "p99_ms": percentile(total["ms"], 99),
            "cpu_ms": round(1000 * total["cpu_s"] / max(1, n), 2),
            "errors": dict(total["errors"]),
        }
    return report


def memory(service: Service, texts: Iterator[str], n: int) -> dict:
    started = time.monotonic()
    curve = [[0, round(service.memory_mb(), 1)]]
    errors: Counter[str] = Counter()
    while curve[-1][0] < n and time.monotonic() - started < MAX_SECONDS:
        batch = bodies(texts, min(-(-n // N_MEMORY_POINTS), n - curve[-1][0]), None)
        load = run_load("closed", service.port, batch, N_CLIENTS, MAX_SECONDS)
        errors.update(load["errors"])
        curve.append([curve[-1][0] + len(load["ms"]), round(service.memory_mb(), 1)])
    half = curve[len(curve) // 2 :]
    growth = half[-1][1] / half[0][1] - 1
    return {
        "requests_and_mb": curve,
        "growth_of_second_half": round(growth, 4),
        "is_flat": growth <= MAX_FLAT_GROWTH,
        "errors": dict(errors),
    }


def vector_search(path: Path, model: str, texts: Iterator[str]) -> dict:
    """Time of a search without text tower and HTTP, with and without PCA pruning."""
    snapshot = MemoryStore.copy_of(open_store(path)).snapshot
    encoder = FashionCLIP.from_pretrained(None if model == BUILTIN else model)
    queries = encoder.encode_text(list(islice(texts, N_VECTOR_SEARCHES)))
    ms: dict[str, list[float]] = {"pruned": [], "without_pruning": []}
    for query in queries:
        for name, vectors in zip(ms, (snapshot, replace(snapshot, pruning=None)), strict=True):
            started = time.perf_counter()
            vectors.nearest(query[None], ks=[K], masks=[None])
            ms[name].append(1000 * (time.perf_counter() - started))
    report = {f"{name}_ms": percentile(times, 50) for name, times in ms.items()}
    if snapshot.pruning is None:
        return report
    n = len(queries)
    candidates = snapshot.pruning.candidates(
        queries, snapshot.vectors, ks=[K] * n, masks=[None] * n
    )
    return report | {"candidates": round(np.median([*map(len, candidates)]))}


def show(report: dict) -> None:
    print("{products:,} products, {model}; {cores} cores, load {load}".format(**report))
    figures = report["latency"]
    print(
        "\n{requests:,} searches at {rate:g} a second: p50 {p50_ms} ms, p90 {p90_ms} ms, "
        "p99 {p99_ms} ms; {cpu_ms} ms of CPU each".format(rate=REQUESTS_PER_S, **figures)
    )
    print(f"  targets: p50 under {TARGET_P50_MS:g} ms, p99 under {TARGET_P99_MS:g} ms")
    print(f"\n{N_CLIENTS} clients, each with one request at a time")
    for name, figures in report["throughput"].items():
        print(
            "  {0:23} {per_s:7.1f}/s  p50 {p50_ms:6.1f} ms  p99 {p99_ms:6.1f} ms  "
            "CPU {cpu_ms:5.2f} ms each  rounds {rounds_per_s}".format(name, **figures)
        )
    print(f"  with batches: x {report['ratio']:.2f}; target: x {TARGET_RATIO:g}")
    if "ratio_to_best_peer" in report:
        ratio = report["ratio_to_best_peer"]
        print(f"  over the best of the others: x {ratio:.2f}; target: x {TARGET_PEER_RATIO:g}")
    print(
        "\na single search among the vectors: {pruned_ms} ms, "
        "{without_pruning_ms} ms without PCA pruning".format(**report["vector_search"])
    )
    if "candidates" in report["vector_search"]:
        print("  {candidates:,} products scored exactly".format(**report["vector_search"]))
    if "memory" in report:
        print("\nresident memory of the serving process")
        for requests, mb in report["memory"]["requests_and_mb"]:
            print(f"  after {requests:7,} searches {mb:7.1f} MB")
        flat = "flat" if report["memory"]["is_flat"] else "not flat"
        print("  second half: {growth_of_second_half:+.1%}: {0}".format(flat, **report["memory"]))
    errors = [
        report["latency"]["errors"],
        *(figures["errors"] for figures in report["throughput"].values()),
    ]
    if any(errors):
        print(f"\nresponses other than 200: {[counts for counts in errors if counts]}")


def start_peers(
    stack: ExitStack, options: argparse.Namespace, store: Store, folder: Path
) -> dict[str, Peer]:
    """Start those services of other libraries that can be started."""
    if not Path(options.peers).exists():
        print(f"{options.peers} is not there: see peer_service.py", file=sys.stderr)
        return {}
    write_peer_table(store, folder / "products.parquet")
    found = {}
    for kind in PEERS:
        mode = options.mode or "hybrid"
        if kind[1] == "qdrant" and mode == "hybrid":  # its local mode matches no words
            continue
        peer = stack.enter_context(
            serving_peer(options.peers, folder / "products.parquet", kind, mode)
        )
        if peer is not None:
            found[" + ".join(kind)] = peer
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", required=True, type=Path, help="the folder of an index")
    parser.add_argument(
        "--grow-to",
        type=int,
        default=100_000,
        help="grow the index to this number of products; 0: do not grow",
    )
    parser.add_argument("--requests", type=int, default=1_000, help="requests of the steady load")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of each service")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of a round")
    parser.add_argument("--mode", choices=["hybrid", "vectors", "words"], help="of all searches")
    parser.add_argument("--peers", metavar="PYTHON", help="compare with other libraries")
    parser.add_argument("--memory", type=int, default=0, help="searches of the memory curve")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    for name in ("requests", "memory"):
        setattr(options, name, min(getattr(options, name), MAX_REQUESTS))
    with tempfile.TemporaryDirectory() as folder:
        index = open_store(options.index)
        n_products = len(index)
        path = options.index
        if n_products < options.grow_to:
            path, n_products = (
                grow(index, options.grow_to, Path(folder) / "grown.lance"),
                options.grow_to,
            )
        with ExitStack() as stack:
            batching = stack.enter_context(serving(path))
            single = stack.enter_context(serving(path, "--max-batch", "1"))
            services: dict[str, Service | Peer] = {"batches": batching, "one by one": single}
            if options.peers:
                services |= start_peers(stack, options, open_store(path), Path(folder))
            texts = {name: iter_texts(np.random.default_rng(0)) for name in services}
            for name, service in services.items():  # warm up
                warm_up = bodies(texts[name], 300, options.mode)
                run_load("closed", service.port, warm_up, N_CLIENTS, 20.0)
            report = {
                "products": n_products,
                "model": index.meta.model,
                "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
                "latency": latency(batching, texts["batches"], options.requests, options.mode),
                "throughput": throughput(
                    services, texts, options.rounds, options.seconds, options.mode
                ),
            }
            rates = {name: figures["per_s"] for name, figures in report["throughput"].items()}
            report["ratio"] = round(rates["batches"] / rates["one by one"], 2)
            peers = [rate for name, rate in rates.items() if "+" in name]
            if peers:
                report["ratio_to_best_peer"] = round(rates["batches"] / max(peers), 2)
            if options.memory:
                report["memory"] = memory(batching, texts["batches"], options.memory)
        report["vector_search"] = vector_search(path, index.meta.model, texts["batches"])
    if options.json:
        print(json.dumps(report))
    else:
        show(report)


if __name__ == "__main__":
    main()
