"""Vectors in files and shards, which a later run goes on with."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from encoded_images import image_bytes
from fashionclip.encoding import local_encoder
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Reject
from fashionclip.vector_files import VectorReport, write_vectors


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return image_bytes(Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST), "PNG")


def shop(n: int, **images: bytes) -> list[Product | Reject]:
    """Products p0, p1, … of which p3 is a reject, p5 has a broken image and p6 none."""
    found: dict[str, bytes | None] = {f"p{i}": picture(i) for i in range(n)}
    found |= {"p5": b"broken", "p6": None} | images
    rows = [Product(name, "", image, i, {}) for i, (name, image) in enumerate(found.items())]
    return [*rows[:3], Reject(3, "p3", None, "twice"), *rows[4:]]


def write(rows: list[Product | Reject], path: Path, model: FashionCLIP, **options) -> VectorReport:
    return write_vectors(rows, local_encoder(model, batch_size=2), path, model=model, **options)


def read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".parquet":
        return {row["id"]: np.array(row["vector"]) for row in pq.read_table(path).to_pylist()}
    found, fields = {}, {}
    with tarfile.open(path) as tar:
        for member in tar:
            data = tar.extractfile(member).read()
            if member.name.endswith(".json"):
                fields = json.loads(data)
            else:
                found[fields["id"]] = np.load(io.BytesIO(data))
    return found


@pytest.mark.parametrize("suffix", [".parquet", ".tar"])
def test_shards_hold_a_number_of_rows_each_and_a_later_run_takes_what_is_the_same(
    suffix, model, tmp_path
):
    path = tmp_path / f"shop{suffix}"
    report = write(shop(12), path, model, shard_rows=5)
    assert (report.embedded, report.reused, report.rejected) == (9, 0, 3)
    assert [place.name for place in report.paths] == [f"shop-0000{i}{suffix}" for i in range(3)]
    ids = [list(read(place)) for place in report.paths]
    assert ids == [["p0", "p1", "p2", "p4"], ["p7", "p8", "p9"], ["p10", "p11"]]
    vectors = model.encode_images([picture(7), picture(8), picture(9)])
    np.testing.assert_allclose(list(read(report.paths[1]).values()), vectors, atol=1e-5)
    lines = (tmp_path / "shop.rejects.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["p3", "p5", "p6"]

    report.paths[2].unlink()  # as if the run had been killed while it wrote this one
    again = write(shop(12, p1=picture(100)), path, model, shard_rows=5)
    assert (again.embedded, again.reused) == (9, 6)
    np.testing.assert_allclose(
        read(again.paths[0])["p1"], model.encode_images(picture(100))[0], atol=1e-5
    )

    again.paths[1].write_bytes(again.paths[1].read_bytes()[:50])
    shorter = write(shop(10), path, model, shard_rows=5)
    assert (shorter.embedded, shorter.reused) == (7, 3)
    assert sorted(place.name for place in tmp_path.glob(f"*{suffix}")) == [
        f"shop-00000{suffix}",
        f"shop-00001{suffix}",
    ]


def test_shards_of_another_model_are_written_anew(model, tmp_path, tiny_checkpoint):
    path = tmp_path / "shop.parquet"
    (shard,) = write(shop(7), path, model, shard_rows=10).paths
    table = pq.read_table(shard)
    pq.write_table(table.replace_schema_metadata({"fingerprint": "another"}), shard)
    assert write(shop(7), path, model, shard_rows=10).reused == 0


@pytest.mark.parametrize("suffix", [".parquet", ".tar"])
def test_shards_of_another_number_of_rows_are_refused_before_anything_is_written(
    suffix, model, tmp_path
):
    path = tmp_path / f"shop{suffix}"
    shards = write(shop(12), path, model, shard_rows=5).paths
    before = {shard: shard.read_bytes() for shard in shards}
    with pytest.raises(OSError, match=r"shop-00000\S+ is of shards of 5 rows; pass --shard-rows 5"):
        write(shop(12), path, model, shard_rows=4)
    assert {shard: shard.read_bytes() for shard in tmp_path.glob(f"*{suffix}")} == before


def test_shards_need_a_format_that_can_be_read_back(model, tmp_path):
    with pytest.raises(ValueError, match=r"should end in \.parquet, \.tar"):
        write(shop(7), tmp_path / "shop.npz", model, shard_rows=10)
    with pytest.raises(ValueError, match=r"should end in \.npz, \.parquet, \.tar"):
        write(shop(7), tmp_path / "shop.csv", model)
    with pytest.raises(ValueError, match="shard_rows is 0; it must be at least 1"):
        write(shop(7), tmp_path / "shop.tar", model, shard_rows=0)
    with pytest.raises(ValueError, match="texts go into one file: leave out shard_rows"):
        write(shop(7), tmp_path / "shop.tar", model, shard_rows=5, texts=["a red dress"])
    assert not list(tmp_path.iterdir())


def test_texts_have_samples_of_their_own_also_after_rejects(model, tmp_path):
    texts = ["a red dress", "blue jeans"]
    report = write(shop(8), tmp_path / "shop.tar", model, texts=texts)
    assert (report.embedded, report.rejected) == (7, 3)
    with tarfile.open(tmp_path / "shop.tar") as tar:
        names = [name.removesuffix(".json") for name in tar.getnames() if name.endswith(".json")]
    assert [int(name) for name in names] == [0, 1, 2, 4, 7, 8, 9]
    assert list(read(tmp_path / "shop.tar"))[-2:] == texts


def foreign(kind: str) -> bytes:
    """A file that this package did not write."""
    file = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("0000.jpg"))
        return file.getvalue()
    if kind == "no parquet":
        return b"id,vector"
    vectors = {
        "other columns": None,
        "strings": pa.array(["[1, 2]"]),
        "null": pa.array([None], pa.list_(pa.float32(), 24)),
    }[kind]
    columns = {"id": pa.array(["p0"]), "key": pa.array([b"k"])}
    table = pa.table(columns if vectors is None else columns | {"vector": vectors})
    pq.write_table(table.replace_schema_metadata({"fingerprint": "another"}), file)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["other columns", "strings", "null", "no parquet", "tar"])
def test_files_of_others_at_the_names_of_shards_are_refused(kind, model, tmp_path):
    suffix = ".tar" if kind == "tar" else ".parquet"
    theirs = tmp_path / f"shop-00001{suffix}"
    theirs.write_bytes(foreign(kind))
    before = theirs.read_bytes()
    with pytest.raises(OSError, match=rf"shop-00001{suffix} is no shard of fashionclip; move it"):
        write(shop(7), tmp_path / f"shop{suffix}", model, shard_rows=10)
    assert list(tmp_path.iterdir()) == [theirs]
    assert theirs.read_bytes() == before
