"""A small catalogue, and functions that run the program in a new process or in this one."""

import csv
import io
import itertools
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

GARMENTS = ("shirt", "dress", "jeans", "sneakers")
COLOURS = ("red", "blue", "green", "black", "orange")
COLUMNS = ("id", "image", "title", "description", "gender", "colour", "price")


@dataclass(frozen=True)
class Ended:
    """Exit status and output of a run of the program."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output as JSON."""
        return json.loads(self.out)


def words_of(*words: object) -> list[str]:
    """The words that start the program with this interpreter."""
    return [sys.executable, "-m", "fashionclip.cli", *map(str, words)]


@pytest.fixture(scope="session")
def shell() -> Callable[..., Ended]:
    """Run the program in a new process, which takes a second or two."""

    def call(*words: object, prefix: Sequence[str] = ()) -> Ended:
        done = subprocess.run(
            [*prefix, *words_of(*words)],
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def fashionclip() -> Callable[..., Ended]:
    """Run the program in this process, which is faster."""
    from fashionclip.cli.main import run

    def call(*words: object) -> Ended:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = run([str(word) for word in words])
        return Ended(status, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def start() -> Callable[..., "subprocess.Popen[str]"]:
    """Start the program and leave it running."""

    def begin(*words: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            words_of(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )

    return begin


@pytest.fixture(scope="session")
def model(tiny_checkpoint: Path) -> Path:
    """A small random model, the same in every run."""
    return tiny_checkpoint


@pytest.fixture(scope="session")
def other_model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape with other weights."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder = tmp_path_factory.mktemp("checkpoints") / "other"
    shutil.copytree(tiny_checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    noisy = {name: np.ascontiguousarray(weight * 1.5) for name, weight in weights.items()}
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def generate_image(path: Path, garment: str, colour: str, *, size_px: int = 64) -> None:
    """Draw a product on white, with a shape for each garment."""
    image = Image.new("RGB", (size_px, size_px), "white")
    draw = ImageDraw.Draw(image)
    inset = 6 + 3 * GARMENTS.index(garment)
    box = (inset, 8, size_px - inset, size_px - 8 - 2 * COLOURS.index(colour))
    (draw.ellipse if garment == "sneakers" else draw.rectangle)(box, fill=colour, outline="grey")
    image.save(path, quality=92)


def shop_rows() -> list[dict[str, str]]:
    """Twenty products, each with a title, a description, a gender, a colour and a price."""
    pairs = [(garment, colour) for garment in GARMENTS for colour in COLOURS]
    return [
        {
            "id": f"P{number:03d}",
            "image": f"{garment}-{colour}.jpg",
            "title": f"{colour} {garment}",
            "description": f"A {colour} {garment}, plain, with “smart” seams",
            "gender": "Women" if number % 2 else "Men",
            "colour": colour,
            "price": f"{10 + 5 * number}",
        }
        for number, (garment, colour) in enumerate(pairs)
    ]


def write_table(path: Path, rows: Sequence[dict[str, str]], *, encoding: str = "utf-8") -> None:
    """Write the rows as a CSV file."""
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def draw_shop(folder: Path) -> None:
    """Draw the images of the twenty products into ``folder/images``."""
    (folder / "images").mkdir(parents=True)
    for row in shop_rows():
        garment, colour = row["image"].removesuffix(".jpg").split("-")
        generate_image(folder / "images" / row["image"], garment, colour)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``products.csv``, without faults, and ``images/``."""
    folder = tmp_path_factory.mktemp("shop")
    draw_shop(folder)
    write_table(folder / "products.csv", shop_rows())
    return folder


@pytest.fixture(scope="session")
def store(shop: Path, model: Path, fashionclip: Callable[..., Ended]) -> Path:
    """The shop's index, made by the program. Only read it."""
    path = shop.parent / f"{shop.name}.lance"
    ended = fashionclip(
        "index",
        shop / "products.csv",
        "--images",
        shop / "images",
        "--into",
        path,
        "--model",
        model,
    )
    assert ended.status == 0, ended.err
    return path


@pytest.fixture(scope="session")
def broken_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with faulty rows added; the good rows are unchanged.

    Rows 21 to 27: an image that is not there, one cut short, one without a byte, a text file
    named .jpg, a row without an id, an id that came before, an address inside the network.
    """
    folder = tmp_path_factory.mktemp("broken-shop")
    draw_shop(folder)
    images = folder / "images"
    whole = (images / "shirt-red.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.jpg").write_text("this is no picture", encoding="utf-8")
    like = shop_rows()[0]
    bad = [
        like | {"id": "B1", "image": "gone.jpg"},
        like | {"id": "B2", "image": "cut.jpg"},
        like | {"id": "B3", "image": "empty.jpg"},
        like | {"id": "B4", "image": "text.jpg"},
        like | {"id": ""},
        like,
        like | {"id": "B7", "image": "http://127.0.0.1:9/shirt.jpg"},
    ]
    write_table(folder / "products.csv", [*shop_rows(), *bad])
    return folder


class WebShop:
    """The same images on a web server that stops answering after some, until it is resumed."""

    def __init__(self, images: Path) -> None:
        """Serve a folder."""
        self.images = images
        self.answers = 900  # of 1,200: enough for a first write, with the read-ahead
        self.requests = itertools.count()
        self.silent, self.goes_on = threading.Event(), threading.Event()

    def image_bytes(self, path: str) -> bytes:
        """The bytes of an image, once the server answers."""
        if next(self.requests) > self.answers:
            self.silent.set()
            self.goes_on.wait(timeout=60)
        return (self.images / path.rsplit("/", 1)[1]).read_bytes()


@pytest.fixture
def web_shop(shop: Path) -> Iterator[WebShop]:
    """The shop's images on a web server that stops answering."""
    shown = WebShop(shop / "images")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            image_bytes = shown.image_bytes(self.path)
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(image_bytes)))
                self.end_headers()
                self.wfile.write(image_bytes)
            except ConnectionError:
                pass  # the client was killed, as the test intends

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        shown.address = f"http://127.0.0.1:{server.server_port}/images"
        yield shown
        shown.goes_on.set()
        server.shutdown()
        thread.join()
