"""Encoding on Ray ends as in this process, whoever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.catalog import Catalog
from fashionclip.encoding import ImageJob, local_encoder
from fashionclip.errors import ClusterError, ImageError
from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.images.fetch import FetchPolicy
from fashionclip.indexing import index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.product import Product
from fashionclip.ray_encoding import EncodingWorker, RayEncoder, open_ray_encoder
from fashionclip.ray_encoding.workers import BATCHES_PER_WORKER, MODEL_BATCHES
from fashionclip.store import open_store
from fashionclip.tagging import LabelSet, TaggedProduct, tag_catalog
from fashionclip.vector_files import write_vectors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="workers are found in /proc"),
]
N_PRODUCTS = 300
BATCH_SIZE = 4
INSIDE = FetchPolicy(allow_private=True)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def png_bytes(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return image_bytes(Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST), "PNG")


class ImageServer(ThreadingHTTPServer):
    """Serves ``/SEED.png``, counts requests, and calls a function for ``/killer.png``."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a port of this machine."""
        self.counts: Counter[str] = Counter()
        self.on_killer: Callable[[], None] = lambda: None
        super().__init__(("127.0.0.1", 0), Handler)

    def address(self, name: object) -> str:
        """Where an image is."""
        return f"http://127.0.0.1:{self.server_port}/{name}.png"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ImageServer

    def do_GET(self) -> None:
        """Send an image, or nothing for ``none``."""
        name = self.path[1:].removesuffix(".png")
        self.server.counts[name] += 1
        if name == "killer":
            self.server.on_killer()
        data = png_bytes(int(name)) if name.isdecimal() else b"no image"
        self.send_response(404 if name == "none" else 200)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def encoder(model: FashionCLIP) -> Iterator[RayEncoder]:
    with open_ray_encoder(
        model, "local", workers=2, batch_size=BATCH_SIZE, precision="float32"
    ) as opened:
        yield opened


def write_table(folder: Path, server: ImageServer, n: int = N_PRODUCTS) -> Path:
    """A table of images that the server sends, with some that are broken or not there."""
    names = {5: "broken", 6: "none", n - 1: "none"}
    rows = [f"p{i},dress {i},{server.address(names.get(i, i))},{i}" for i in range(n)]
    table = folder / "products.csv"
    table.write_text("\n".join(["id,title,image,price", *rows, "p0,twice,x,1"]), "utf-8")
    return table


def open_catalog(table: Path) -> Catalog:
    return Catalog.open(table, policy=INSIDE)


def content(store: Path) -> dict[str, np.ndarray]:
    """The vectors of an index, by id."""
    found = {}
    for rows in open_store(store).scan():
        found |= dict(zip(rows.ids, rows.vectors, strict=True))
    return found


def assert_same_content(one: Path, other: Path) -> None:
    left, right = content(one), content(other)
    assert left.keys() == right.keys()
    for name, vector in left.items():
        np.testing.assert_allclose(vector, right[name], atol=1e-5)


def rejects(store: Path) -> list[tuple[int, str]]:
    lines = (store / "rejects.jsonl").read_text("utf-8").splitlines()
    return sorted((json.loads(line)["row"], json.loads(line)["id"]) for line in lines)


def worker_pids() -> list[int]:
    """The workers of the Ray that this process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            grandparent = Path("/proc", parent, "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended
            continue
        if words.startswith(b"ray::EncodingWorker") and int(grandparent) == os.getpid():
            found.append(int(folder.name))
    return found


def kill_a_worker() -> None:
    pids = worker_pids()
    if pids:
        os.kill(pids[0], signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(model: FashionCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of a local run, with the table beside it."""
    folder = tmp_path_factory.mktemp("whole")
    with ImageServer() as server:
        threading.Thread(target=server.serve_forever).start()
        table = write_table(folder, server)
        index_catalog(open_catalog(table), model, folder / "shop.lance")
        server.shutdown()
    return folder / "shop.lance"


def test_an_index_made_on_ray_equals_one_made_here(whole, server, encoder, model, tmp_path):
    store = tmp_path / "shop.lance"
    catalog = open_catalog(write_table(tmp_path, server))
    report = index_catalog(catalog, model, store, encoder=encoder)
    assert (report.stored, report.rejected) == (N_PRODUCTS - 3, 4)
    assert_same_content(store, whole)
    assert rejects(store) == rejects(whole)
    again = index_catalog(catalog, model, store, encoder=encoder)
    assert (again.unchanged, again.embedded, again.rejected) == (N_PRODUCTS - 3, 0, 4)


def test_a_killed_worker_is_replaced_and_only_its_batches_are_encoded_again(
    whole, server, encoder, model, tmp_path, capfd
):
    store = tmp_path / "shop.lance"
    n_killed = 0

    def kill(progress) -> None:
        nonlocal n_killed
        if n_killed == 0 and progress.rows >= N_PRODUCTS // 4:
            n_killed += 1
            kill_a_worker()

    report = index_catalog(
        open_catalog(write_table(tmp_path, server)), model, store, encoder=encoder, progress=kill
    )
    assert (n_killed, report.stored, report.rejected) == (1, N_PRODUCTS - 3, 4)
    assert capfd.readouterr().out == ""
    assert_same_content(store, whole)
    in_flight = BATCHES_PER_WORKER * MODEL_BATCHES * BATCH_SIZE
    n_twice = sum(n - 1 for name, n in server.counts.items() if name.isdecimal())
    assert 0 <= n_twice <= in_flight
    assert max(n for name, n in server.counts.items() if name.isdecimal()) <= 2


def test_tags_and_vectors_made_on_ray_equal_those_made_here(encoder, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{i}.png" for i in range(40)]
    for i, name in enumerate(names):
        Path(name).write_bytes(png_bytes(i) if i % 9 else b"no image")
    Path("table.csv").write_text("\n".join(["id,image", *(f"{n},{n}" for n in names)]), "utf-8")
    files = [Product(name, "", name, i, {}) for i, name in enumerate(names)]  # of relative names
    labels = [LabelSet.of("kind", ["dress", "shoe"])]
    found = []
    for used in (encoder, local_encoder(model)):
        write_vectors(files, used, tmp_path / "v.npz", model=model)
        with np.load("v.npz") as arrays:
            vectors = CachedEncoder(model, None, encoder=used).encode_images(
                [ImageRef(name, Path(name)) for name in names]
            )
            catalog = Catalog.open("table.csv")
            tags = [
                item.tags[0].text if isinstance(item, TaggedProduct) else item.row
                for item in tag_catalog(catalog, model, labels, encoder=used)
            ]
            found.append((arrays["ids"].tolist(), arrays["vectors"], vectors, tags))
    (ids, written, cached, tags), (ids_here, written_here, cached_here, tags_here) = found
    assert (ids, tags) == (ids_here, tags_here)
    np.testing.assert_allclose(written, written_here, atol=1e-5)
    np.testing.assert_allclose(cached, cached_here, atol=1e-5)
    assert np.isnan(cached[::9]).all()


def test_an_image_that_kills_its_worker_costs_only_itself(server, encoder, model):
    others = set(worker_pids())
    server.on_killer = lambda: [os.kill(pid, signal.SIGKILL) for pid in {*worker_pids()} - others]
    names = [1, "killer", 3, "broken"]
    jobs = [ImageJob((server.address(name),)) for name in names]
    with open_ray_encoder(model, workers=1, threads=1, precision="float32") as alone:
        first, killer, third, broken = alone(jobs, INSIDE)
    assert isinstance(killer, ImageError)
    assert str(killer).startswith("the worker ended each of the 3 times")
    assert isinstance(broken, ImageError)
    assert first.vector is not None
    assert third.vector is not None


def test_workers_without_the_package_are_one_line(encoder, model, tmp_path):
    import ray

    (tmp_path / "fashionclip").mkdir()
    (tmp_path / "fashionclip" / "__init__.py").write_text("", encoding="utf-8")
    elsewhere = {"env_vars": {"PYTHONPATH": str(tmp_path)}}
    with open_ray_encoder(model, workers=1, threads=1, precision="float32") as bare:
        bare.close()
        bare._actor_class = ray.remote(num_cpus=1, runtime_env=elsewhere)(EncodingWorker)
        bare._workers = [bare._start()]
        line = (
            r"the Ray workers have no fashionclip\.ray_encoding; run pip install 'fashionclip\[ray"
        )
        with pytest.raises(ClusterError, match=line):
            list(bare([ImageJob((png_bytes(1),))], INSIDE))


def test_a_killed_driver_goes_on_where_it_stopped_and_leaves_no_workers(
    whole, server, tiny_checkpoint, tmp_path
):
    store = tmp_path / "shop.lance"
    n = 1100  # more than two writes
    table = write_table(tmp_path, server, n)
    words = [sys.executable, "-m", "fashionclip.cli", "index", table, "--into", store]
    words += ["--model", tiny_checkpoint, "--allow-private", "--ray", "local", "--workers", "2"]
    words = [*map(str, words), "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 100
    while time.monotonic() < end and process.poll() is None and server.counts.total() < 700:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = len(open_store(store))
    assert before < n - 3
    server.counts.clear()
    again = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    counts = json.loads(again.stdout)
    assert (counts["unchanged"], counts["stored"]) == (before, n - 3 - before)
    assert again.stderr.splitlines()[0] == "Ray: 2 workers with 1 core each"
    assert open_store(store).verify().damaged == ()
