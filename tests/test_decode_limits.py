"""Decoding under a memory limit: damaged files of every format, and images of any shape."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.images import IMAGE_FORMATS

DAMAGED_PER_FORMAT = 40
MAX_S = 5.0
"""For one file with all that is done to it; most take milliseconds, but machines are shared."""

DECODER = """
import json, resource, sys, time, warnings
from pathlib import Path
import pillow_heif, pillow_heif.heif
from fashionclip.errors import ImageError
from fashionclip.images.decode import Preprocess, decode_image, fit_image, open_image, preprocess
from fashionclip.images.decode import declared_pixels, thumbnail
from fashionclip.images.near_duplicates import perceptual_hash
from PIL import Image, ImageCms

warnings.simplefilter("ignore")
Image.init()
folder, headroom, max_pixels = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
size = next(int(l.split()[1]) << 10 for l in open("/proc/self/status") if l.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (size + headroom, size + headroom))
fits = [Preprocess(224, fit) for fit in ("crop", "pad", "stretch")]
for path in sorted(folder.iterdir()):
    data, started, said = path.read_bytes(), time.perf_counter(), "decoded"
    try:
        declared_pixels(data)
        image = decode_image(data, max_pixels=max_pixels)
        assert image.mode == "RGB"
        perceptual_hash(image)
        for pre in fits:
            assert fit_image(image, pre).shape == (224, 224, 3)
            decode_image(data, target_px=224, max_pixels=max_pixels)
        assert max(Image.open(__import__("io").BytesIO(
            thumbnail(data, max_px=300, max_pixels=max_pixels))).size) <= 300
    except ImageError as error:
        said = str(error)
    print(json.dumps([path.name, said, time.perf_counter() - started]), flush=True)
"""


def decode_all(
    folder: Path, *, headroom: int, max_pixels: int, max_s: float = MAX_S
) -> dict[str, str]:
    """What decoding each file of a folder gives, in a process that may take little memory.

    Returns:
        "decoded" or the error, by the name of the file.
    """
    done = subprocess.run(
        [sys.executable, "-c", DECODER, str(folder), str(headroom), str(max_pixels)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(list(folder.iterdir()))
    assert [row for row in rows if row[2] > max_s] == []
    assert [row for row in rows if "MemoryError" in row[1] or "\n" in row[1]] == []
    return {name: said for name, said, _ in rows}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file that broke off, changed, or lost or repeated a part."""
    at, end = np.sort(rng.integers(0, len(data), 2))
    kind = rng.integers(6)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:end] + data[at:end] + data[end:]
    if kind == 3:
        return data[:at] + bytes(int(end - at)) + data[end:]
    changed = np.frombuffer(data, np.uint8).copy()
    near = len(data) if kind == 4 else min(len(data), 200)  # headers decide about sizes
    places = rng.integers(0, near, rng.integers(1, 9))
    changed[places] = rng.choice([0, 1, 0x7F, 0xFF, rng.integers(256)], len(places))
    return changed.tobytes()


def test_damaged_files_are_images_or_errors_in_little_memory_and_time(tmp_path):
    rng = np.random.default_rng(17)
    small = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((70, 90), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in IMAGE_FORMATS:
        options = {"exif": exif.tobytes()} if kind.name in {"JPEG", "PNG", "WEBP", "AVIF"} else {}
        data = image_bytes(image, kind.name, **options)
        (tmp_path / f"{kind.name}-whole").write_bytes(data)
        for i in range(DAMAGED_PER_FORMAT):
            (tmp_path / f"{kind.name}-{i:03}").write_bytes(damaged(data, rng))
    said = decode_all(tmp_path, headroom=400 << 20, max_pixels=4_000_000)
    assert {said[f"{kind.name}-whole"] for kind in IMAGE_FORMATS} == {"decoded"}
    assert 50 < sum(one == "decoded" for one in said.values()) < len(said) - 50


SHAPES = [(60_000, 1), (1, 60_000), (1_000_000, 1), (1, 1_000_000), (9_000, 30), (30, 9_000)]


def test_no_shape_takes_more_memory_or_time_than_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    for width, height in SHAPES:
        for mode in ("L", "RGBA"):
            name = f"{width}x{height}-{mode}.png"
            image = Image.new(mode, (width, height), 99 if mode == "L" else (9, 99, 199, 50))
            (tmp_path / name).write_bytes(image_bytes(image, "PNG", exif=exif.tobytes()))
    said = decode_all(tmp_path, headroom=128 << 20, max_pixels=4_000_000)
    assert set(said.values()) == {"decoded"}


@pytest.mark.slow
def test_copies_of_a_large_image_are_small(tmp_path):
    """40 million pixels take 160 MB as they are decoded and as much as RGB; no third copy."""
    clear = Image.new("RGBA", (8_000, 5_000), (9, 99, 199, 50))
    (tmp_path / "clear.png").write_bytes(image_bytes(clear, "PNG", compress_level=1))
    deep = Image.new("I;16", (8_000, 5_000), 40_000)
    (tmp_path / "deep.png").write_bytes(image_bytes(deep, "PNG", compress_level=1))
    said = decode_all(tmp_path, headroom=700 << 20, max_pixels=80_000_000, max_s=60.0)
    assert set(said.values()) == {"decoded"}


@pytest.mark.parametrize("size", [(1, 1_000_001), (1_000_001, 1)])
def test_a_side_beyond_a_million_pixels_is_refused(tmp_path, size):
    (tmp_path / "long.png").write_bytes(image_bytes(Image.new("1", size), "PNG"))
    started = time.perf_counter()
    said = decode_all(tmp_path, headroom=150 << 20, max_pixels=80_000_000)
    assert "cut it to at most 1,000,000 a side" in said["long.png"]
    assert time.perf_counter() - started < MAX_S * 4
