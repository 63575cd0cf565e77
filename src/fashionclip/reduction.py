"""Models whose vectors have fewer numbers: the first ones, or principal components of a catalogue.

CLIP's vector is a linear map of a tower's last state, scaled to unit length. So a model of shorter
vectors is the same model with smaller maps: a checkpoint as any other, of which stores, searches
and exports need to know nothing.
"""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fashionclip.atomic import write_whole
from fashionclip.catalog import Catalog
from fashionclip.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from fashionclip.checkpoint.config import expected_shapes
from fashionclip.encoding import encode_products, local_encoder
from fashionclip.errors import CheckpointError
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Reject
from fashionclip.store.pca_pruning import principal_axes

MAX_FITTED = 4_096
"""Images that principal components are fitted to."""
RECORD = "reduction.json"
"""File of a reduced model: the fingerprints of its source and of itself."""
PROJECTIONS = ("visual_projection.weight", "text_projection.weight")


@dataclass(frozen=True, slots=True)
class ReductionReport:
    """What a model of shorter vectors keeps."""

    dim: int
    """Numbers of its vectors."""
    n_fitted: int
    """Images that the principal components were fitted to; 0 for the first numbers."""
    energy: float | None
    """Share of these vectors' squared length that is kept, in 0…1; None for the first numbers."""
    n_rejected: int = 0
    """Rows of the catalogue, and images of those that were chosen, that could not be used."""


def reduce_model(
    model: FashionCLIP, folder: Path, *, dim: int, catalog: Catalog | None = None
) -> ReductionReport:
    """Write a checkpoint whose vectors have fewer numbers than a model's.

    Args:
        model: the model; its checkpoint stays as it is.
        folder: the new checkpoint, in the transformers format: a new or empty folder, or one that
            holds what this function made of the same model in the same length.
        dim: numbers of its vectors.
        catalog: products to fit principal components to. Without it, the vectors' first numbers are
            kept, which needs a model that was trained for this length.

    Returns:
        What is kept; the same for the same model and catalogue.

    Raises:
        CheckpointError: the model was not trained for this length and there is no catalogue, the
            catalogue has too few images, or the folder holds something else or cannot be written.
        CatalogError: the catalogue cannot be read.
        CredentialsError: object storage refuses the credentials for the images.
        ValueError: ``dim`` is not between 1 and the model's, less one.
    """
    checkpoint = model.checkpoint
    if folder.resolve() == checkpoint.folder.resolve():
        message = f"{folder} is the model itself: name another folder for the shorter vectors"
        raise CheckpointError(message)
    if not 1 <= dim < model.dim:
        message = f"dim is {dim}: the vectors of {model.name} have {model.dim} numbers, take fewer"
        raise ValueError(message)
    _require_place(folder, checkpoint, dim)
    if catalog is None:
        prefixes = checkpoint.config.prefix_dims
        if dim not in prefixes:
            known = f" (but for {', '.join(map(str, prefixes))})" if prefixes else ""
            message = (
                f"{model.name} was not trained for vectors of {dim} numbers{known}: name a "
                "catalogue, to whose images principal components are fitted"
            )
            raise CheckpointError(message)
        axes = np.eye(model.dim, dim, dtype=np.float32)
        prefixes = tuple(length for length in prefixes if length < dim)
        report = ReductionReport(dim, 0, None)
    else:
        vectors, n_rejected = _sample_vectors(model, catalog)
        if len(vectors) < dim:
            message = (
                f"{len(vectors)} images of the catalogue can be used, and {dim} principal "
                "components need as many: name a larger catalogue, or take fewer numbers"
            )
            raise CheckpointError(message)
        axes, energy = fit_axes(vectors, dim)
        prefixes = ()
        report = ReductionReport(dim, len(vectors), energy, n_rejected)
    _write(checkpoint, folder, axes, prefixes)
    return report


def _require_place(folder: Path, source: Checkpoint, dim: int) -> None:
    """Refuse a folder whose files are not those of the same model in the same length.

    Raises:
        CheckpointError: it has other files, or cannot be read.
    """
    try:
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found = open_checkpoint(folder)
        is_same = record == _record(source, found) and found.config.projection_dim == dim
    except (OSError, ValueError, CheckpointError):
        is_same = False
    if not is_same:
        message = (
            f"{folder} is not empty, and is not this model with vectors of {dim} numbers: name a "
            "new folder, or delete this one"
        )
        raise CheckpointError(message)


def _record(source: Checkpoint, reduced: Checkpoint) -> dict[str, str]:
    return {"source": source.fingerprint, "fingerprint": reduced.fingerprint}


def fit_axes(
    vectors: Float32[np.ndarray, "n dim"], dim: int
) -> tuple[Float32[np.ndarray, "dim component"], float]:
    """Axes that keep most of some vectors, as columns, and the share of squared length they keep.

    They are the principal axes, turned so that each holds about as much as the others. Cosines do
    not depend on that, and the signs of the numbers say as much of a vector as they can.
    """
    shares, axes = principal_axes(vectors)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    return axes[:, :dim] @ turn.astype(np.float32), float(shares[dim - 1])


def _write(
    checkpoint: Checkpoint,
    folder: Path,
    axes: Float32[np.ndarray, "dim component"],
    prefixes: tuple[int, ...],
) -> None:
    config = replace(checkpoint.config, projection_dim=axes.shape[1], prefix_dims=prefixes)
    stored = checkpoint.weights()

    def tensor(name: str) -> np.ndarray:
        weight = np.array(stored[name], np.float32)
        return axes.T @ weight if name in PROJECTIONS else weight

    layout = {name: (shape, "F32") for name, shape in expected_shapes(config)}
    save_checkpoint(replace(checkpoint, config=config), folder, weights=(layout, tensor))
    record = json.dumps(_record(checkpoint, open_checkpoint(folder)))
    try:
        write_whole(folder / RECORD, record.encode())
    except OSError as exc:
        message = f"{folder / RECORD} cannot be written ({exc.strerror}); choose another folder"
        raise CheckpointError(message) from exc


def _sample_vectors(
    model: FashionCLIP, catalog: Catalog
) -> tuple[Float32[np.ndarray, "n dim"], int]:
    """Vectors of images that are spread over a catalogue; how many rows and images are unusable.

    Raises:
        CatalogError: the catalogue cannot be read.
        CredentialsError: object storage refuses the credentials for the images.
    """
    n_rows = 0

    def products() -> Iterator[Product]:
        nonlocal n_rows
        for item in catalog:
            if isinstance(item, Product):
                yield item
            else:
                n_rows += 1

    sample = _sampled(products())
    encoded = encode_products(
        sample, local_encoder(model), policy=catalog.policy, sources=catalog.image_sources
    )
    vectors = [item.vector for item in encoded if not isinstance(item, Reject)]
    n_rejected = n_rows + len(sample) - len(vectors)
    if not vectors:
        return np.empty((0, model.dim), np.float32), n_rejected
    return np.stack(vectors), n_rejected


def _sampled(products: Iterable[Product]) -> list[Product]:
    """Some products, any with the same chance; the same ones every time (reservoir sampling)."""
    rng = random.Random(0)
    kept: list[Product] = []
    for i, product in enumerate(products):
        if i < MAX_FITTED:
            kept.append(product)
        elif (place := rng.randrange(i + 1)) < MAX_FITTED:
            kept[place] = product
    return kept
