"""Boxes around what stands out of a map."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fashionclip.images.connected import connected_parts

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
    labels = connected_parts(cells >= threshold)
    areas = np.bincount(labels.reshape(-1))[1:]
    for part in np.flatnonzero(areas >= MIN_SHARE * cells.size) + 1:
        rows, columns = np.nonzero(labels == part)
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
