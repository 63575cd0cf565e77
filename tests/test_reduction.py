"""Models of shorter vectors are checkpoints as any other, and keep what a catalogue needs."""

import json
from pathlib import Path

import numpy as np
import pytest

from fashionclip.catalog import Catalog
from fashionclip.checkpoint import open_checkpoint
from fashionclip.cli.main import run
from fashionclip.engines.io import to_unit
from fashionclip.errors import CheckpointError
from fashionclip.model import FashionCLIP
from fashionclip.reduction import reduce_model
from fashionclip.sample import write_sample_catalog

TEXTS = ["a red dress", "blue jeans", "leather shoes"]


def opened(folder: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(folder, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    return write_sample_catalog(tmp_path_factory.mktemp("shop"), n_products=40)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path, tmp_path_factory) -> FashionCLIP:
    """A model that says that it was trained for 6 and 12 numbers of its 24."""
    folder = tmp_path_factory.mktemp("models") / "trained"
    folder.mkdir()
    for file in tiny_checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"prefix_dims": [6, 12]}))
    return opened(folder)


def test_the_first_numbers_of_a_model_that_was_trained_so(model, tiny_checkpoint, tmp_path):
    assert model.fingerprint == opened(tiny_checkpoint).fingerprint
    report = reduce_model(model, tmp_path / "small", dim=12)
    assert (report.dim, report.n_fitted, report.energy) == (12, 0, None)
    small = opened(tmp_path / "small")
    assert (small.dim, small.checkpoint.config.prefix_dims) == (12, (6,))
    expected = to_unit(model.encode_text(TEXTS)[:, :12])
    np.testing.assert_allclose(small.encode_text(TEXTS), expected, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"not trained for vectors of 8 .* 6, 12\): name a"):
        reduce_model(model, tmp_path / "other", dim=8)
    with pytest.raises(ValueError, match="have 24 numbers, take fewer"):
        reduce_model(model, tmp_path / "other", dim=24)
    with pytest.raises(CheckpointError, match="is the model itself: name another folder"):
        reduce_model(model, model.checkpoint.folder, dim=12)


def test_principal_components_of_a_catalogue(model, shop, tmp_path):
    catalog = Catalog.open(shop)
    report = reduce_model(model, tmp_path / "small", dim=10, catalog=catalog)
    assert report.n_fitted == 40
    assert 0.9 < report.energy <= 1
    small = opened(tmp_path / "small")
    images = [product.image for product in catalog]
    whole, short = model.encode_images(images), small.encode_images(images)
    assert short.shape == (40, 10)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-3)
    assert np.abs(short @ short.T - whole @ whole.T).max() < 1.5 * (1 - report.energy) + 0.02
    reduce_model(model, tmp_path / "again", dim=10, catalog=Catalog.open(shop))
    assert open_checkpoint(tmp_path / "again").fingerprint == small.fingerprint
    (tmp_path / "one.csv").write_text(f"id,image\n1,{images[0]}\n")
    with pytest.raises(CheckpointError, match="1 images of the catalogue can be used"):
        reduce_model(model, tmp_path / "x", dim=5, catalog=Catalog.open(tmp_path / "one.csv"))


def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(model, shop, tmp_path):
    files = {path: path.read_bytes() for path in shop.parent.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match=r"is not empty, and .* 12 numbers: name a new"):
        reduce_model(model, shop.parent, dim=12)
    assert {path: path.read_bytes() for path in shop.parent.iterdir() if path.is_file()} == files
    small = tmp_path / "small"
    small.mkdir()
    for _ in range(2):  # into an empty folder, and over what is there then
        reduce_model(model, small, dim=12)
    with pytest.raises(CheckpointError, match="is not empty"):
        reduce_model(model, small, dim=6)
    other = opened(small)
    with pytest.raises(CheckpointError, match="is not empty"):  # of another model
        reduce_model(other, model.checkpoint.folder, dim=6)
    reduce_model(model, tmp_path / "other", dim=6)
    (small / "model.safetensors").write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="is not empty"):  # damaged, or somebody's work
        reduce_model(model, small, dim=12)


def test_rows_and_images_that_cannot_be_used_are_counted(shop, tiny_checkpoint, tmp_path, capsys):
    images = [product.image for product in Catalog.open(shop)][:6]
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    rows = [*enumerate(images), ("", images[0]), ("a", "broken.jpg"), ("b", "missing.jpg")]
    table = "id,image\n" + "".join(f"{name},{image}\n" for name, image in rows)
    (tmp_path / "products.csv").write_text(table)
    words = ["reduce", str(tmp_path / "products.csv"), "--model", str(tiny_checkpoint)]
    assert run([*words, "--dim", "4", "--to", str(tmp_path / "small"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["n_fitted"], json.loads(out)["n_rejected"]) == (6, 3)
    assert "rows and images that cannot be used: 3 (fashionclip index" in err


def test_transformers_loads_what_the_command_writes(tiny_checkpoint, shop, tmp_path, capsys):
    from transformers import CLIPModel

    small = tmp_path / "small"
    words = [
        "reduce",
        str(shop),
        "--model",
        str(tiny_checkpoint),
        "--dim",
        "10",
        "--to",
        str(small),
    ]
    assert run([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["dim"] == 10
    assert "vectors of 10 numbers instead of 24" in err
    assert CLIPModel.from_pretrained(small).visual_projection.weight.shape[0] == 10
    assert run(["reduce", "--model", str(tiny_checkpoint), "--dim", "24", "--to", str(small)]) == 2
    assert (
        run(["reduce", "--model", str(tiny_checkpoint), "--dim", "9", "--to", str(tmp_path / "x")])
        == 1
    )
    assert "was not trained for vectors of 9 numbers: name a catalogue" in capsys.readouterr().err
