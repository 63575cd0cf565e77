"""Boxes around what stands out of a map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

MIN_SHARE = 0.002
"""Smaller spots, as a share of the image, are no boxes."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the original image; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int
    score: float
    """The map's highest value in it, in 0…1."""


def boxes_of(cells: Float[np.ndarray, "h w"], size: tuple[int, int], threshold: float) -> list[Box]:
    """Boxes around the connected parts of a map that reach a threshold, strongest first.

    Args:
        cells: a map in 0…1 on a raster over the image.
        size: width and height of the image in pixels.
        threshold: in 0…1.
    """
    height, width = cells.shape
    x_px, y_px = size[0] / width, size[1] / height
    found = []
    for part in _parts(cells >= threshold):
        rows, columns = part
        if len(rows) < MIN_SHARE * cells.size:
            continue
        found.append(
            Box(
                left=int(columns.min() * x_px),
                top=int(rows.min() * y_px),
                right=min(size[0], int(np.ceil((columns.max() + 1) * x_px))),
                bottom=min(size[1], int(np.ceil((rows.max() + 1) * y_px))),
                score=float(cells[rows, columns].max()),
            )
        )
    return sorted(found, key=lambda box: (-box.score, box.top, box.left))


def _parts(mask: Bool[np.ndarray, "h w"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of each connected part (four neighbours)."""
    labels = np.where(mask, np.arange(mask.size).reshape(mask.shape), mask.size)
    while True:  # each cell takes the smallest number among its neighbours, until none changes
        padded = np.pad(labels, 1, constant_values=mask.size)
        near = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        smallest = np.minimum(np.minimum.reduce(near), labels)
        smallest = np.where(mask, smallest, mask.size)
        # a cell's number is itself a cell: follow it, so that long parts take few rounds
        followed = np.append(smallest.reshape(-1), mask.size)[smallest]
        if (followed == labels).all():
            break
        labels = followed
    parts = (np.nonzero(labels == number) for number in np.unique(labels[mask]))
    return [(rows, columns) for rows, columns in parts]
