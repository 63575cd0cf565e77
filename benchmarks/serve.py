"""The service under load: latency at a steady rate, throughput with and without batches, memory.

    python benchmarks/serve.py --index shop.lance            # grown to 100,000 products
    python benchmarks/serve.py --index shop.lance --memory 100000   # memory over as many requests

Two services run over one index, the second with ``--max-batch 1``; they are asked in turns, so
that whatever else the machine does falls on both. The load comes over loopback from a process of
its own that speaks HTTP by hand and costs a few per cent of a core. Every text is asked once a
service. Latency is taken from the moment a request was due, not from when it could be sent.
Prints one JSON object with ``--json``.
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
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from fashionclip.model import FashionCLIP
from fashionclip.product import Product
from fashionclip.serve.service import BUILTIN
from fashionclip.store import Store, create_store, open_store
from fashionclip.store.memory import MemoryStore

RATE = 20.0  # requests a second of the steady load
CLIENTS = 32
RANKED, HITS = 200, 11  # lone searches, and what the service asks for to give ten
P50_MS, P99_MS, RATIO = 15.0, 60.0, 4.0  # what is aimed at
CURVE = 20  # points of the memory curve
FLAT = 0.02  # growth over the second half that still counts as flat
MOST_REQUESTS, MOST_SECONDS = 1_000_000, 1_800.0  # whatever is asked for
BATCH = 5_000

WORDS = (
    "black white navy red green blue pink beige grey brown yellow purple teal khaki olive",
    "cotton linen denim leather wool silk velvet mesh satin corduroy suede canvas knit",
    "slim loose cropped long short oversized fitted pleated ribbed quilted hooded plain",
    "striped checked floral dotted printed solid embroidered washed faded glossy",
    "dress shirt jeans skirt jacket coat sneakers boots bag belt watch scarf hat tie",
    "women men kids summer winter office sports party travel school beach evening",
)


def texts(rng: np.random.Generator) -> Iterator[str]:
    """Distinct searches of three to six words, without end for any purpose here (4 million)."""
    lists = [words.split() for words in WORDS]
    sizes = [len(words) for words in lists]
    total = int(np.prod(sizes))
    step = 1_000_003  # prime to the total: visits every combination once, in no order
    start = int(rng.integers(total))
    for i in range(total):
        picks = np.unravel_index((start + i * step) % total, sizes)
        chosen = [words[pick] for words, pick in zip(lists, picks, strict=True)]
        yield " ".join(chosen[-3 - i % 4 :] + ([str(i)] if i % 4 < 3 else []))


# the load, in a process of its own


@dataclass(slots=True)
class Wire:
    """A kept connection with at most one request on its way."""

    socket: socket.socket
    due: float = 0.0
    read: bytearray = field(default_factory=bytearray)

    def send(self, body: bytes, due: float) -> None:
        """Send a request; it is short, so the kernel takes it whole."""
        self.due = due
        head = (
            b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        self.socket.sendall(head + body)

    def status(self) -> int:
        """Read on: the answer's status once it is whole, 0 before, -1 when it will not come."""
        part = self.socket.recv(1 << 16)
        if not part:
            return -1
        self.read += part
        head, found, rest = self.read.partition(b"\r\n\r\n")
        if not found:
            return 0
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if length is None or len(rest) < int(length[1]):
            return 0
        self.read.clear()
        return int(head[9:12])


class Load:
    """Requests to one port, and what came of them."""

    def __init__(self, port: int) -> None:
        """Open nothing yet."""
        self._port, self._selector = port, selectors.DefaultSelector()
        self._idle: list[Wire] = []
        self.busy = 0
        self.ms: list[float] = []
        self.statuses: Counter[int] = Counter()

    def ask(self, text: str, due: float) -> None:
        """Send a search over a connection that is free, or over a new one."""
        if self._idle:
            wire = self._idle.pop()
        else:
            wire = Wire(socket.create_connection(("127.0.0.1", self._port)))
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.socket.setblocking(False)
            self._selector.register(wire.socket, selectors.EVENT_READ, wire)
        wire.send(json.dumps({"text": text}).encode(), due)
        self.busy += 1

    def wait(self, timeout: float) -> int:
        """Take in answers for a while; how many there were."""
        before = self.busy
        for key, _ in self._selector.select(max(0.0, timeout)):
            wire: Wire = key.data
            status = wire.status()
            if status == 0:
                continue
            if status < 0:  # closed by the service, mostly because it was silent
                self._selector.unregister(wire.socket)
                wire.socket.close()
                if wire in self._idle:
                    self._idle.remove(wire)
                    continue
            else:
                self.ms.append(1000 * (time.perf_counter() - wire.due))
                self._idle.append(wire)
            self.statuses[status] += 1
            self.busy -= 1
        return before - self.busy


def steady(port: int, asked: list[str], seed: int) -> Load:
    """Requests at random moments, ``RATE`` a second, whether or not others are answered."""
    gaps = np.random.default_rng(seed).exponential(1 / RATE, size=len(asked))
    dues = time.perf_counter() + np.cumsum(gaps)
    load = Load(port)
    for text, due in zip(asked, dues.tolist(), strict=True):
        while (left := due - time.perf_counter()) > 0:
            load.wait(left)
        load.ask(text, due)
    deadline = time.perf_counter() + 30
    while load.busy and time.perf_counter() < deadline:
        load.wait(1.0)
    return load


def closed(port: int, asked: list[str], clients: int, seconds: float) -> tuple[Load, float]:
    """As many clients, each of which asks again as soon as it has its answer."""
    load, waiting = Load(port), iter(asked)
    began = time.perf_counter()
    for text in islice(waiting, clients):
        load.ask(text, time.perf_counter())
    while load.busy and time.perf_counter() < began + MOST_SECONDS:
        free = load.wait(1.0)
        if time.perf_counter() < began + seconds:
            for text in islice(waiting, free):
                load.ask(text, time.perf_counter())
    return load, time.perf_counter() - began


def answer(sending, kind: str, *arguments) -> None:  # noqa: ANN001, ANN002
    """What the load's process does: one of the two above, told through a pipe."""
    load, seconds = closed(*arguments) if kind == "closed" else (steady(*arguments), 0.0)
    sending.send((load.ms, dict(load.statuses), load.busy, seconds))


def loaded(kind: str, *arguments) -> dict:  # noqa: ANN002
    """Put a service under load; latencies in ms, answers that were not 200 or never came."""
    spawning = multiprocessing.get_context("spawn")
    receiving, sending = spawning.Pipe(duplex=False)
    process = spawning.Process(target=answer, args=(sending, kind, *arguments))
    process.start()
    sending.close()
    ms, statuses, lost, seconds = receiving.recv()
    process.join()
    bad = {str(status): n for status, n in statuses.items() if status != 200}
    return {"ms": ms, "seconds": seconds, "bad": bad | ({"lost": lost} if lost else {})}


# the service


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs."""

    port: int

    def figures(self) -> dict[str, float]:
        """Its own count of its memory and its work, from ``/metrics``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as reply:
            lines = [line.rpartition(" ") for line in reply.read().decode().splitlines()]
        return {name: float(value) for name, _, value in lines if name and name[0] != "#"}

    def memory_mb(self) -> float:
        """Resident memory of the process that answers."""
        return self.figures()["process_resident_memory_bytes"] / 1e6

    def cpu_s(self) -> float:
        """Work of all its threads so far."""
        return self.figures()["process_cpu_seconds_total"]


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
    """Wait until the service answers.

    Raises:
        SystemExit: it does not.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
        log.seek(0)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", log.read())
        if found:
            address = f"http://127.0.0.1:{found[1]}/ready"
            with urllib.request.urlopen(address, timeout=110):  # waits for the first process
                return int(found[1])
    log.seek(0)
    raise SystemExit(f"the service did not start:\n{log.read()}")


def grown(source: Store, n: int, folder: Path) -> Path:
    """A copy of a store with more products: its own, again and again, with noise on the vectors."""
    scanned = list(source.scan())
    vectors = np.concatenate([rows.vectors for rows in scanned])
    captions = [caption for rows in scanned for caption in rows.captions]
    images = [image for rows in scanned for image in rows.images]
    columns = [row for rows in scanned for row in rows.columns.to_pylist()]
    rng = np.random.default_rng(0)
    path = folder / "grown.lance"
    store = create_store(path, source.meta)
    with store.writer() as writer:
        for start in range(0, n, BATCH):
            places = range(start, min(start + BATCH, n))
            some = vectors[[i % len(vectors) for i in places]]
            noise = rng.normal(size=some.shape) * [[0.02 * (i >= len(vectors))] for i in places]
            some = some + noise
            some = (some / np.linalg.norm(some, axis=1, keepdims=True)).astype(np.float32)
            products = []
            for i in places:
                row = i % len(vectors)
                products.append(Product(str(i), captions[row], images[row], i, columns[row]))
            writer.upsert(products, some, [bytes(16)] * len(products))
        writer.optimize()
    return path


# the measurements


def percentile(ms: list[float], share: float) -> float:
    return round(float(np.percentile(ms, share)), 1) if ms else float("nan")


def latency(service: Service, asked: Iterator[str], n: int) -> dict:
    cpu = service.cpu_s()
    found = loaded("steady", service.port, list(islice(asked, n)), 1)
    cpu = service.cpu_s() - cpu
    return {
        "requests": n,
        "p50_ms": percentile(found["ms"], 50),
        "p90_ms": percentile(found["ms"], 90),
        "p99_ms": percentile(found["ms"], 99),
        "cpu_ms": round(1000 * cpu / n, 1),
        "bad": found["bad"],
    }


def throughput(
    sides: dict[str, Service], asked: dict[str, Iterator[str]], rounds: int, seconds: float
) -> dict:
    totals: dict[str, dict] = {
        name: {"requests": 0, "seconds": 0.0, "cpu_s": 0.0, "ms": [], "rates": [], "bad": Counter()}
        for name in sides
    }
    for turn in range(rounds):
        for name in sides if turn % 2 == 0 else reversed(sides):
            total, cpu = totals[name], sides[name].cpu_s()
            some = list(islice(asked[name], round(seconds * 2_000)))
            found = loaded("closed", sides[name].port, some, CLIENTS, seconds)
            total["cpu_s"] += sides[name].cpu_s() - cpu
            total["requests"] += len(found["ms"])
            total["seconds"] += found["seconds"]
            total["ms"] += found["ms"]
            total["rates"].append(round(len(found["ms"]) / found["seconds"], 1))
            total["bad"].update(found["bad"])
    report = {}
    for name, total in totals.items():
        n = total["requests"]
        report[name] = {
            "per_s": round(n / total["seconds"], 1),
            "rounds_per_s": total["rates"],
            "p50_ms": percentile(total["ms"], 50),
            "p99_ms": percentile(total["ms"], 99),
            "cpu_ms": round(1000 * total["cpu_s"] / max(1, n), 2),
            "bad": dict(total["bad"]),
        }
    return report


def memory(service: Service, asked: Iterator[str], n: int) -> dict:
    began = time.monotonic()
    curve = [[0, round(service.memory_mb(), 1)]]
    bad: Counter[str] = Counter()
    while curve[-1][0] < n and time.monotonic() - began < MOST_SECONDS:
        some = list(islice(asked, min(-(-n // CURVE), n - curve[-1][0])))
        found = loaded("closed", service.port, some, CLIENTS, MOST_SECONDS)
        bad.update(found["bad"])
        curve.append([curve[-1][0] + len(found["ms"]), round(service.memory_mb(), 1)])
    half = curve[len(curve) // 2 :]
    growth = half[-1][1] / half[0][1] - 1
    return {
        "requests_and_mb": curve,
        "growth_of_second_half": round(growth, 4),
        "is_flat": growth <= FLAT,
        "bad": dict(bad),
    }


def ranking(path: Path, model: str, asked: Iterator[str]) -> dict:
    """A single search without text tower and HTTP: with and without PCA pruning."""
    now = MemoryStore.copy_of(open_store(path)).snapshot
    named = FashionCLIP.from_pretrained(None if model == BUILTIN else model)
    queries = named.encode_text(list(islice(asked, RANKED)))
    ms: dict[str, list[float]] = {"pruned": [], "by_all_vectors": []}
    for query in queries:  # in turns
        for name, one in zip(ms, (now, replace(now, pruning=None)), strict=True):
            began = time.perf_counter()
            one.nearest(query[None], ks=[HITS], masks=[None])
            ms[name].append(1000 * (time.perf_counter() - began))
    found = {f"{name}_ms": percentile(times, 50) for name, times in ms.items()}
    if now.pruning is None:
        return found
    n = len(queries)
    left = now.pruning.candidates(queries, now.vectors, ks=[HITS] * n, masks=[None] * n)
    return found | {"candidates": round(np.median([*map(len, left)]))}


def show(report: dict) -> None:
    print("{products:,} products, {model}; {cores} cores, load {load}".format(**report))
    found = report["latency"]
    print(
        "\n{requests:,} searches at {rate:g} a second: p50 {p50_ms} ms, p90 {p90_ms} ms, "
        "p99 {p99_ms} ms; {cpu_ms} ms of CPU each".format(rate=RATE, **found)
    )
    print(f"  aimed at: p50 under {P50_MS:g} ms, p99 under {P99_MS:g} ms")
    print(f"\n{CLIENTS} clients that ask again as soon as they have an answer")
    for name, side in report["throughput"].items():
        print(
            "  {0:12} {per_s:7.1f}/s  p50 {p50_ms:6.1f} ms  p99 {p99_ms:6.1f} ms  "
            "CPU {cpu_ms:5.2f} ms each  turns {rounds_per_s}".format(name, **side)
        )
    print(f"  with batches: x {report['ratio']:.2f}; aimed at: x {RATIO:g}")
    print(
        "\na single search among the vectors: {pruned_ms} ms, "
        "{by_all_vectors_ms} ms without PCA pruning".format(**report["ranking"])
    )
    if "candidates" in report["ranking"]:
        print("  {candidates:,} products scored exactly".format(**report["ranking"]))
    if "memory" in report:
        print("\nresident memory of the process that answers")
        for requests, mb in report["memory"]["requests_and_mb"]:
            print(f"  after {requests:7,} searches {mb:7.1f} MB")
        flat = "flat" if report["memory"]["is_flat"] else "not flat"
        print("  second half: {growth_of_second_half:+.1%}: {0}".format(flat, **report["memory"]))
    bad = [report["latency"]["bad"], *(side["bad"] for side in report["throughput"].values())]
    if any(bad):
        print(f"\nnot answered with 200: {[some for some in bad if some]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", required=True, type=Path, help="an index folder")
    parser.add_argument("--grow-to", type=int, default=100_000, help="products; 0 leaves it as is")
    parser.add_argument("--requests", type=int, default=1_000, help="of the steady load")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=8.0, help="of one turn")
    parser.add_argument("--memory", type=int, default=0, help="searches to watch the memory over")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in ("requests", "memory"):
        setattr(options, name, min(getattr(options, name), MOST_REQUESTS))
    with tempfile.TemporaryDirectory() as folder:
        index = open_store(options.index)
        n_products = len(index)
        path = options.index
        if n_products < options.grow_to:
            path, n_products = grown(index, options.grow_to, Path(folder)), options.grow_to
        with serving(path) as batching, serving(path, "--max-batch", "1") as single:
            sides = {"batches": batching, "one by one": single}
            asked = {name: texts(np.random.default_rng(0)) for name in sides}
            for name, service in sides.items():  # the first searches warm both up
                loaded("closed", service.port, list(islice(asked[name], 300)), CLIENTS, 20.0)
            report = {
                "products": n_products,
                "model": index.meta.model,
                "cores": os.cpu_count(),
                "load": round(os.getloadavg()[0], 1),
                "latency": latency(batching, asked["batches"], options.requests),
                "throughput": throughput(sides, asked, options.rounds, options.seconds),
            }
            rates = {name: side["per_s"] for name, side in report["throughput"].items()}
            report["ratio"] = round(rates["batches"] / rates["one by one"], 2)
            if options.memory:
                report["memory"] = memory(batching, asked["batches"], options.memory)
        report["ranking"] = ranking(path, index.meta.model, asked["batches"])
    if options.json:
        print(json.dumps(report))
    else:
        show(report)


if __name__ == "__main__":
    main()
