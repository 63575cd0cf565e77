"""Streams of images are encoded in order, here or by workers whose sizes follow the cluster."""

import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.cli.main import run
from fashionclip.encoding import ImageJob, iter_encoded
from fashionclip.errors import ClusterError, ImageFetchError
from fashionclip.model import FashionCLIP
from fashionclip.ray_encoding import EncodingWorker, WorkerPlan, open_ray_encoder, plan_workers
from fashionclip.store import StoreMeta, create_store


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def png_bytes(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return image_bytes(Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST), "PNG")


@pytest.fixture
def empty_store(model: FashionCLIP, tmp_path: Path) -> Path:
    path = tmp_path / "shop.lance"
    create_store(path, StoreMeta(str(path), model.name, model.fingerprint, model.dim))
    return path


def test_workers_and_their_sizes_follow_the_cluster():
    one = [{"CPU": 9.0}]
    assert plan_workers(one) == WorkerPlan(1, 8)
    assert plan_workers(one, workers=3) == WorkerPlan(3, 2)
    assert plan_workers(one, workers=20) == WorkerPlan(8, 1, asked=20)
    assert plan_workers(one, threads=1) == WorkerPlan(8, 1)
    assert plan_workers([{"CPU": 33.0}, {"CPU": 17.0}]) == WorkerPlan(6, 8)
    with_gpus = [{"CPU": 17.0, "GPU": 4.0}, {"CPU": 4.0}]
    assert plan_workers(with_gpus, on_gpu=True) == WorkerPlan(4, 4, 1)
    assert plan_workers(with_gpus, on_gpu=True, workers=2) == WorkerPlan(2, 4, 1)
    assert str(WorkerPlan(4, 4, 1)) == "4 workers with 4 cores and 1 GPU each"
    assert plan_workers(with_gpus, on_gpu=True, workers=5) == WorkerPlan(4, 4, 1, asked=5)
    assert str(WorkerPlan(1, 1)) == "1 worker with 1 core"
    assert str(plan_workers([{"CPU": 3.0}], workers=50)) == (
        "2 workers with 1 core each; there is room for 2 only, not for 50"
    )
    for options in ({"workers": 0}, {"threads": -1}):
        with pytest.raises(ValueError, match=r"is (0|-1); it must be at least 1"):
            plan_workers(one, **options)
    with pytest.raises(ClusterError, match="the Ray cluster has no GPU"):
        plan_workers(one, on_gpu=True)
    with pytest.raises(ClusterError, match="no machine of the Ray cluster has 9 free cores"):
        plan_workers(one, threads=9)


def test_a_worker_of_another_version_or_model_says_so(model, tiny_checkpoint):
    options = {"device": "cpu", "precision": "float32", "threads": 1}
    worker = EncodingWorker()
    problem = worker.open("0.0.1", model.name, model.fingerprint, options)
    assert "this machine 0.0.1; install the same version on both" in problem
    problem = worker.open(
        version("fashionclip"), str(tiny_checkpoint / "none"), model.fingerprint, options
    )
    assert "cannot open the model: the model folder" in problem
    problem = worker.open(version("fashionclip"), model.name, "0" * 16, options)
    assert "has other weights than on this machine" in problem
    assert worker.open(version("fashionclip"), model.name, model.fingerprint, options) is None


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 .*; check the address and the port"),
        ("ray://127.0.0.1:1", "no Ray cluster answers at ray://127.0.0.1:1"),
        ("somewhere", "'somewhere' is no Ray address; give auto, local, HOST:PORT or ray://"),
    ],
)
def test_an_address_without_a_cluster_is_one_line_at_once(model, address, line):
    began = time.monotonic()
    with pytest.raises(ClusterError, match=line), open_ray_encoder(model, address):
        pass
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_listener_that_is_not_ray_is_one_line_at_once(model, scheme):
    class Other(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    with TCPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"{scheme}127.0.0.1:{server.server_address[1]}"
        line = f"what answers at {address} is no Ray cluster .*RAY_AUTH_MODE=token.*; check the"
        with pytest.raises(ClusterError, match=line), open_ray_encoder(model, address):
            pass
        server.shutdown()


def test_without_ray_the_line_says_what_to_install(monkeypatch, tiny_checkpoint, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    table = tmp_path / "products.csv"
    table.write_text("id,title,image\np0,dress,x.png\n", encoding="utf-8")
    words = ["index", table, "--into", tmp_path / "shop.lance", "--model", tiny_checkpoint]
    status = run([*map(str, words), "--ray", "local"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert (status, last) == (1, "error: 'index' needs ray: pip install 'fashionclip[ray]'")


def test_a_stream_without_changed_images_flows_and_keeps_its_order(model, tmp_path):
    key = next(iter_encoded(model, [ImageJob((png_bytes(1),))])).key
    stored = ImageJob((png_bytes(1),), key)
    missing = ImageJob((str(tmp_path / "none.png"), png_bytes(2)))
    nothing = ImageJob((str(tmp_path / "none.png"), str(tmp_path / "other.png")))

    def endless() -> Iterator[ImageJob]:
        yield from (missing, nothing, ImageJob((png_bytes(3),), key), ImageJob(()))
        while True:
            yield stored

    stream = iter_encoded(model, endless(), batch_size=4)
    second, broken, third, empty, *same = [next(stream) for _ in range(200)]
    vectors = model.encode_images([png_bytes(2), png_bytes(3)])
    np.testing.assert_allclose(second.vector, vectors[0], atol=1e-5)
    np.testing.assert_allclose(third.vector, vectors[1], atol=1e-5)
    assert isinstance(broken, ImageFetchError)
    assert "none.png" in str(broken)
    assert isinstance(empty, ImageFetchError)
    assert all(item.vector is None and item.key == key for item in same)
    stream.close()


def test_the_products_of_an_index_are_not_encoded_again(empty_store, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("dress\nshoe\n", encoding="utf-8")
    status = run(["tag", str(empty_store), "--labels", str(labels), "--ray", "local"])
    assert status == 2
    assert "--ray encodes images, and those of an index are" in capsys.readouterr().err
