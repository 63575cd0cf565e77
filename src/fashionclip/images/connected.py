"""Connected parts of masks."""

import numpy as np
from jaxtyping import Bool, Int


def connected_parts(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """The part of each pixel, where parts are pixels connected by their sides (4-connectivity).

    Returns:
        0 outside the mask; parts are numbered from 1, in the order of their first pixels, row by
        row.
    """
    begins = mask.copy()
    begins[:, 1:] &= ~mask[:, :-1]
    runs = np.cumsum(begins).reshape(mask.shape)  # each pixel's run in its row, from 1
    touching = mask[1:] & mask[:-1]
    above, below = runs[:-1][touching], runs[1:][touching]
    first = np.arange(begins.sum() + 1)  # the first run that each run is known to be connected to
    while (differ := first[above] != first[below]).any():
        above, below = above[differ], below[differ]
        low = np.minimum(first[above], first[below])
        np.minimum.at(first, np.maximum(first[above], first[below]), low)
        while (first[first] != first).any():
            first = first[first]
    numbers = np.cumsum(first == np.arange(len(first))) - 1
    return np.where(mask, numbers[first][runs], 0)
