"""Encoding on Ray against this process: rates in one run, and peak memory at some sizes.

Each run indexes a catalogue into a new store in a process of its own. Runs of different kinds take
turns, so that a change of the machine's load meets all of them; the first images, which compile the
model, are not counted. ``per_cpu_s`` is the rate per second of the processor, driver and workers
together, which the load of other programs changes little. One line of JSON is printed per run, and
the ratios at the end.

    python benchmarks/ray_index.py shop.csv --images photos/    # rates
    python benchmarks/ray_index.py --memory 10000 200000         # peak memory, small random images
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from index_memory import Usage, write_catalog

KINDS = {
    "local": {},
    "two workers": {"workers": 2},
    "two workers, one thread each": {"workers": 2, "threads": 1},
    "one worker, one thread": {"workers": 1, "threads": 1},
}
N_WARM = 256
"""Images that each run encodes before its time is taken."""


def measure(table: str, images: str | None, store: str, kind: str, options: dict) -> None:
    from fashionclip.catalog import Catalog
    from fashionclip.encoding import Encoder, ImageJob, Result, local_encoder
    from fashionclip.images.fetch import FetchPolicy
    from fashionclip.indexing import index_catalog
    from fashionclip.model import FashionCLIP
    from fashionclip.ray_encoding import open_ray_encoder

    model = FashionCLIP.from_pretrained(options["model"], precision=options["precision"])
    catalog = Catalog.open(table, images=images)
    usage = Usage({b"ray::EncodingWorker": "worker", b"upkeep_process": "upkeep"})
    usage.start()
    began: list[tuple[float, float]] = []

    def timed(encoder: Encoder) -> Encoder:
        def encode(jobs: Iterable[ImageJob], policy: FetchPolicy) -> Iterator[Result]:
            jobs = iter(jobs)
            warm = list(encoder(list(islice(jobs, N_WARM)), policy))
            time.sleep(0.2)  # let the sampler see all of it
            began.append((time.perf_counter(), sum(usage.cpu_s.values())))
            yield from warm
            yield from encoder(jobs, policy)
            began.append((time.perf_counter(), 0.0))
            time.sleep(0.2)
            began.append((0.0, sum(usage.cpu_s.values())))

        return encode

    sizes = {name: options[name] for name in ("batch_size",)}
    if kind == "local":
        report = index_catalog(catalog, model, store, encoder=timed(local_encoder(model, **sizes)))
    else:
        sizes |= {"precision": options["precision"], **KINDS[kind]}
        with open_ray_encoder(model, "local", **sizes) as encoder:
            report = index_catalog(catalog, model, store, encoder=timed(encoder))
    usage.ended.set()
    (start, cpu_before), (end, _), (_, cpu_after) = began
    n = report.embedded - N_WARM
    print(
        json.dumps(
            {
                "kind": kind,
                "products": report.count,
                "rejected": report.rejected,
                "per_s": round(n / (end - start), 1),
                "per_cpu_s": round(n / (cpu_after - cpu_before), 1),
                "driver_mb": round(usage.peak_mb["driver"]),
                "worker_mb": round(usage.peak_mb["worker"]),
                "upkeep_mb": round(usage.peak_mb["upkeep"]),
            }
        )
    )


def run(table: Path, images: str | None, kind: str, options: argparse.Namespace) -> dict:
    chosen = {name: getattr(options, name) for name in ("model", "precision", "batch_size")}
    with tempfile.TemporaryDirectory() as folder:
        words = [str(table), images, f"{folder}/shop.lance", kind, chosen]
        command = [sys.executable, __file__, "--measure", json.dumps(words)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = done.stdout.splitlines()[-1]
    print(line, flush=True)
    return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, help="a catalogue")
    parser.add_argument("--images", help="the folder of its images")
    parser.add_argument("--model", help="a checkpoint instead of the built-in one")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--memory", nargs="*", type=int, default=[], help="numbers of products")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*json.loads(options.measure))
        return
    if options.table:
        runs: dict[str, list[dict]] = {kind: [] for kind in KINDS}
        for _ in range(options.rounds):
            for kind, done in runs.items():
                done.append(run(options.table, options.images, kind, options))
        for unit in ("per_s", "per_cpu_s"):
            rates = (statistics.median(one[unit] for one in done) for done in runs.values())
            local, two, two_single, one = rates
            print(f"{unit}: two workers {two / local:.2f} of local; ", end="")
            print(f"two workers with one thread each {two_single / one:.2f} of one")
    for n in options.memory:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "catalog.parquet"
            write_catalog(table, n)
            local, two = (run(table, None, kind, options) for kind in ("local", "two workers"))
        more = two["driver_mb"] - local["driver_mb"]
        print(f"{n:,} products: driver {more:+} MB beside local, worker {two['worker_mb']} MB")


if __name__ == "__main__":
    main()
