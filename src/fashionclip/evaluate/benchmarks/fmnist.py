"""Fashion-MNIST: ten classes in 28 by 28 grey pixels, published white on black.

IDX files as Zalando and Debian ship them, or the Parquet of ``zalando-datasets/fashion_mnist``.
Source: Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747.
"""

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from fashionclip.evaluate.benchmarks.base import Loaded, choose, class_labels, label_words, refuse
from fashionclip.evaluate.tasks import ImageRef, ZeroShot
from fashionclip.images.decode import decode_image
from fashionclip.lines import reason_of

_SIDE_PX = 28
MARGIN_PX = 4
"""White on each side of an inverted image, as product images have."""
N_DEVELOPMENT = 2_000
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""The ten classes in the order of the labels 0…9."""


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    pixels: UInt8[np.ndarray, "picture 28 28"]
    labels: Int[np.ndarray, " picture"]


class FashionMnist:
    """Fashion-MNIST's test pictures, as product pictures and as they are."""

    name = "fmnist"
    title = "Fashion-MNIST, 10,000 test pictures"
    how_to_get = (
        "get it with --download, or put the four IDX files of "
        "github.com/zalandoresearch/fashion-mnist into DIR/fmnist, or on Debian "
        "apt install dataset-fashion-mnist"
    )
    places: tuple[str, ...] = (
        "fmnist",
        "fashion-mnist",
        "fashion_mnist",
        "/usr/share/datasets/fashion-mnist",
    )

    def load(self, folder: Path) -> Loaded:
        """Read the test pictures, and development pictures out of the training file.

        Raises:
            BenchmarkError: a file is missing, damaged, or pictures and labels do not match.
        """
        test = self._read(folder, "test")
        if test is None:
            refuse(self, f"{folder} holds no test pictures")
        training = self._read(folder, "train")
        chosen = choose(len(training.labels) if training else 0, N_DEVELOPMENT)
        return Loaded((_task(test, training, chosen, True), _task(test, training, chosen, False)))

    def _read(self, folder: Path, split: str) -> _Split | None:
        try:
            shards = sorted(folder.glob(f"**/{split}-*.parquet"))
            return _read_parquet(shards, split) if shards else _read_idx_pair(folder, split)
        except (OSError, EOFError, ValueError, zlib.error, struct.error) as exc:
            reason = reason_of(exc, width=160)
            refuse(self, f"{folder} cannot be read ({reason})")


def as_product_image(pixels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h2 w2"]:
    """Turn white on black into dark on white, with a white margin of 4 pixels a side."""
    return np.pad(255 - pixels, MARGIN_PX, constant_values=255)


def _task(
    test: _Split, training: _Split | None, chosen: Int[np.ndarray, " development"], inverted: bool
) -> ZeroShot:
    change: Callable[[np.ndarray], np.ndarray] = as_product_image if inverted else np.asarray
    if inverted:
        notes = [
            "The pictures are published white on black. Here they are inverted, and padded with "
            f"{MARGIN_PX} white pixels a side, as product pictures are; fmnist/white-on-black "
            "takes them as they are."
        ]
    else:
        notes = ["The pictures as they are published: white on black, without a margin."]
    if training is None:
        notes.append("The training file is missing, so there are no development pictures.")
    numbers = chosen.tolist() if training else []
    return ZeroShot(
        name="fmnist" if inverted else "fmnist/white-on-black",
        classes=class_labels(CLASSES, label_words("fmnist")),
        images=tuple(
            ImageRef(f"test/{i:05d}", change(pixels)) for i, pixels in enumerate(test.pixels)
        ),
        labels=test.labels,
        development="sampled from the training file" if training else "",
        development_images=tuple(
            ImageRef(f"train/{i:05d}", change(training.pixels[i])) for i in numbers if training
        ),
        development_labels=training.labels[chosen] if training else np.empty(0, np.int64),
        notes=tuple(notes),
    )


def _split(
    pixels: UInt8[np.ndarray, "picture 28 28"], labels: Int[np.ndarray, " label"], name: str
) -> _Split:
    if len(pixels) != len(labels) or not len(labels):
        message = f"{len(pixels):,} {name} pictures and {len(labels):,} labels"
        raise ValueError(message)
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        message = f"{name} labels beyond 0…9"
        raise ValueError(message)
    return _Split(pixels, labels)


def _read_idx_pair(folder: Path, split: str) -> _Split | None:
    prefix = {"test": "t10k", "train": "train"}[split]
    pixels = _read_idx(folder, f"{prefix}-images-idx3-ubyte", 3)
    labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte", 1)
    if pixels is None and labels is None:
        return None
    if pixels is None or labels is None:
        message = f"of {prefix}-images-idx3-ubyte and {prefix}-labels-idx1-ubyte one is missing"
        raise ValueError(message)
    if pixels.shape[1:] != (_SIDE_PX, _SIDE_PX):
        message = f"its pictures are {pixels.shape[1]} by {pixels.shape[2]} pixels, not 28 by 28"
        raise ValueError(message)
    return _split(pixels, labels.astype(np.int64), split)


def _read_idx(folder: Path, name: str, n_axes: int) -> UInt8[np.ndarray, "..."] | None:
    # bytes, packed or not; format: yann.lecun.com/exdb/mnist, end of the page
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        raw = plain.read_bytes()
    elif packed.is_file():
        raw = gzip.decompress(packed.read_bytes())
    else:
        return None
    header = 4 + 4 * n_axes
    if raw[:4] != bytes([0, 0, 8, n_axes]):
        message = f"{name} is no IDX file of bytes"
        raise ValueError(message)
    shape = struct.unpack(f">{n_axes}I", raw[4:header])
    if len(raw) - header != int(np.prod(shape, dtype=np.int64)):
        message = f"{name} is cut short"
        raise ValueError(message)
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _read_parquet(shards: list[Path], split: str) -> _Split:
    # columns ``image`` (a struct with the encoded picture as ``bytes``) and ``label``
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.concat_tables(pq.read_table(path, columns=["image", "label"]) for path in shards)
    except (pa.ArrowException, KeyError) as exc:
        raise ValueError(str(exc)) from exc
    cells = table.column("image").to_pylist()
    pixels = [np.asarray(decode_image(cell["bytes"]).convert("L")) for cell in cells]
    labels = np.array(table.column("label").to_pylist(), dtype=np.int64)
    if any(p.shape != (_SIDE_PX, _SIDE_PX) for p in pixels):
        message = "its pictures are not 28 by 28 pixels"
        raise ValueError(message)
    return _split(np.array(pixels, np.uint8).reshape(-1, _SIDE_PX, _SIDE_PX), labels, split)
