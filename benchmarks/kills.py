"""Random kills of indexing, indexing on Ray, copying and replicas: does each end as if nothing was?

    python benchmarks/kills.py                       # 50 kills, a few minutes
    python benchmarks/kills.py --kills 400 --of index,copy --products 2000

A process that works on the sample catalogue gets ``kill -9`` at a random moment; on Ray it is the
driver or a worker. Then the same work is run to its end, and the store is compared with that of a
run without kills: ids, vectors, captions, columns, images, content keys and row digests. Indexes
are folders, copies are in PostgreSQL. A replica is killed while it reads, follows and saves a store
that changes; the one that is started afterwards from its saved copy has to hold what the store
holds. Writes are of ``ROWS_PER_WRITE`` products, so that most kills fall between two of them.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import psutil
from stores import postgres

from fashionclip.product import Product
from fashionclip.store import Store, holds_store, open_or_create, open_store

PRELOADED = ("fashionclip.indexing", "fashionclip.store.copying", "fashionclip.serve.memory_index")
SHARES = {"index": 0.3, "copy": 0.3, "replica": 0.24, "ray": 0.16}
ROWS_PER_WRITE = 32
VECTOR_ATOL = 1e-4  # batches of other images round otherwise
Content = dict[str, tuple[object, ...]]
Work = Callable[..., None]


def index(began: Event, table: str, store: str, ray: str = "") -> None:
    """Index a catalogue, here or on Ray."""
    from fashionclip import indexing
    from fashionclip.catalog import Catalog
    from fashionclip.encoding import local_encoder
    from fashionclip.model import FashionCLIP
    from fashionclip.ray_encoding import open_ray_encoder

    indexing.ROWS_PER_WRITE = ROWS_PER_WRITE
    model, catalog = FashionCLIP.from_pretrained(), Catalog.open(table)
    if not ray:
        began.set()
        indexing.index_catalog(catalog, model, store, encoder=local_encoder(model, batch_size=8))
        return
    with open_ray_encoder(model, ray, workers=2, batch_size=4) as encoder:
        began.set()
        indexing.index_catalog(catalog, model, store, encoder=encoder)


def copy(began: Event, source: str, store: str) -> None:
    """Copy a store, in batches as small as those of an index."""
    from fashionclip.store.copying import copy_store
    from fashionclip.store.lance import store as lance_store

    lance_store.SCAN_ROWS = ROWS_PER_WRITE
    opened = open_store(source)
    began.set()
    copy_store(opened, open_or_create(store, opened.meta), wait_s=-1)


def replica(began: Event, store: str, saved_in: str) -> None:
    """Hold a store in memory, follow it, and save it without a pause, until killed."""
    from fashionclip.serve import saved_copy
    from fashionclip.serve.memory_index import InMemoryIndex
    from fashionclip.serve.metrics import Metrics

    saved_copy.SAVE_S, saved_copy.MIN_REST = 0.01, 0
    began.set()
    InMemoryIndex(store, metrics=Metrics(), saved_in=Path(saved_in))
    time.sleep(3600)


def content(store: Store) -> Content:
    """Everything that a store holds, by id; the vector comes last."""
    digests, found = store.digests(), {}
    for rows in store.scan():
        for i, (name, values) in enumerate(zip(rows.ids, rows.columns.to_pylist(), strict=True)):
            image, key = rows.images[i], rows.content_keys[i]
            found[name] = (
                *(rows.captions[i], image, key, digests.find(name), sorted(values.items())),
                rows.vectors[i],
            )
    return found


def difference(one: Content, other: Content) -> float:
    """The largest difference of a vector's number; infinite where anything else differs."""
    if one.keys() != other.keys() or any(one[name][:-1] != other[name][:-1] for name in one):
        return float("inf")
    return max((float(np.abs(one[name][-1] - other[name][-1]).max()) for name in one), default=0.0)


@dataclass(slots=True)
class Tally:
    """What became of the kills of one kind of work."""

    halfway: list[bool] = field(default_factory=list)
    """Whether a kill left half a result: a part of the products, or of a replica's saved copy."""
    differences: list[float] = field(default_factory=list)
    """From the uninterrupted store, after the work was run to its end."""

    def __str__(self) -> str:
        """Count them."""
        n_same = sum(one <= VECTOR_ATOL for one in self.differences)
        return (
            f"{len(self.differences)} kills, {sum(self.halfway)} left half a result; {n_same} "
            f"ended the same, vectors differ by at most {max(self.differences):g}"
        )


class Killer:
    """Starts work in processes, kills them and compares."""

    def __init__(self, folder: Path, address: str, n_products: int, seed: int) -> None:
        """Make the catalogue, and its index without kills."""
        from fashionclip.sample import write_sample_catalog

        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))
        self._folder, self._address = folder, address
        self._random = random.Random(seed)
        self._n = 0
        self._table = str(write_sample_catalog(folder / "sample", n_products=n_products))
        self._whole = str(folder / "whole.lance")
        self._seconds = {"index": self._finish(index, self._table, self._whole)}
        self._expected = content(open_store(self._whole))

    def kill_index(self, tally: Tally, ray: str = "") -> None:
        """Kill one run of an index."""
        self._n += 1
        store = str(self._folder / f"{self._n}.lance")
        work = (index, self._table, store, ray)
        name = "ray" if ray else "index"
        if name not in self._seconds:
            self._seconds[name] = self._finish(index, self._table, f"{store}.first", ray)
        self._kill_and_finish(tally, work, store, self._seconds[name], with_workers=bool(ray))
        shutil.rmtree(store)

    def kill_ray(self, tally: Tally) -> None:
        """Kill the driver or a worker of one run on Ray."""
        self.kill_index(tally, "local")

    def kill_copy(self, tally: Tally) -> None:
        """Kill one copy into PostgreSQL."""
        self._n += 1
        store = f"{self._address}_{self._n}"
        if "copy" not in self._seconds:
            self._seconds["copy"] = self._finish(copy, self._whole, f"{store}_first")
        self._kill_and_finish(tally, (copy, self._whole, store), store, self._seconds["copy"])

    def kill_replica(self, tally: Tally) -> None:
        """Kill one replica while the store that it follows changes, and start it again."""
        from fashionclip.serve.memory_index import InMemoryIndex
        from fashionclip.serve.metrics import Metrics

        followed, saved_in = f"{self._address}_followed", self._folder / "saved"
        if not holds_store(followed):
            self._finish(copy, self._whole, followed)
        store = open_store(followed)
        process = self._start(replica, followed, str(saved_in))
        end = time.monotonic() + self._random.uniform(0, 2)
        while time.monotonic() < end:
            self._change(store)
        process.kill()
        process.join()
        tally.halfway.append(any(saved_in.glob("*.part")))
        self._change(store)
        again = InMemoryIndex(followed, metrics=Metrics(), saved_in=saved_in)
        tally.differences.append(difference(content(again), content(store)))
        again.close()

    def _change(self, store: Store) -> None:
        """Change prices, delete a product and bring another one back."""
        names = self._random.sample(sorted(self._expected), 8)
        rows = open_store(self._whole).fetch(names)
        products = [
            Product(name, caption, image, 0, columns | {"price": self._random.random()})
            for name, caption, image, columns in zip(
                rows.ids, rows.captions, rows.images, rows.columns.to_pylist(), strict=True
            )
        ]
        with store.writer() as writer:
            writer.upsert(products[1:], rows.vectors[1:], rows.content_keys[1:])
            writer.delete(rows.ids[:1])

    def _start(self, work: Work, *words: str) -> BaseProcess:
        """Start a process, and wait until its work begins.

        Raises:
            SystemExit: it ended before.
        """
        began = self._context.Event()
        process = self._context.Process(target=work, args=(began, *words))
        process.start()
        while not began.wait(0.1):
            if process.exitcode is not None:
                raise SystemExit(f"{work.__name__} ended before it began")
        return process

    def _finish(self, work: Work, *words: str) -> float:
        """Run a process to its end, and return the seconds of its work.

        Raises:
            SystemExit: it failed.
        """
        process = self._start(work, *words)
        started = time.monotonic()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{work.__name__} failed with status {process.exitcode}")
        return time.monotonic() - started

    def _kill_and_finish(
        self,
        tally: Tally,
        work: tuple[Work, *tuple[str, ...]],
        store: str,
        seconds: float,
        *,
        with_workers: bool = False,
    ) -> None:
        """Kill some work at a random moment, run it to its end, and compare."""
        process = self._start(*work)
        process.join(self._random.uniform(0, seconds))
        if process.exitcode is None:
            victims = [psutil.Process(process.pid)]
            if with_workers and self._random.random() < 0.5:
                victims = _ray_workers(victims[0])[:1] or victims
            victims[0].kill()
        process.join()
        n_stored = len(open_store(store)) if holds_store(store) else 0
        tally.halfway.append(0 < n_stored < len(self._expected))
        self._finish(*work)
        opened = open_store(store)
        found = difference(content(opened), self._expected)
        tally.differences.append(float("inf") if opened.verify().damaged else found)
        opened.close()


def _ray_workers(driver: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in driver.children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::EncodingWorker"):
                found.append(process)
        except psutil.Error:  # it has ended
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of all kinds together")
    parser.add_argument("--of", default=",".join(SHARES), help=f"of {', '.join(SHARES)}")
    parser.add_argument("--products", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", help="use this database instead of a new server")
    options = parser.parse_args()
    names = options.of.split(",")
    total = sum(SHARES[name] for name in names)
    n_kills = {name: round(options.kills * SHARES[name] / total) for name in names}
    n_kills[names[0]] += options.kills - sum(n_kills.values())
    folder = Path(tempfile.mkdtemp(prefix="fashionclip-kills-"))
    is_same = True
    try:
        with postgres(options.postgres) as server:
            address = server if "store=" in server else f"{server}{'&' if '?' in server else '?'}"
            address = address if "store=" in address else f"{address}store=kills"
            killer = Killer(folder, address, options.products, options.seed)
            print(f"{options.products} products, {options.kills} kills, seed {options.seed}")
            for name in names:
                tally = Tally()
                for _ in range(n_kills[name]):
                    getattr(killer, f"kill_{name}")(tally)
                print(f"{name:8} {tally}", flush=True)
                is_same &= max(tally.differences) <= VECTOR_ATOL
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not is_same)


if __name__ == "__main__":
    main()
