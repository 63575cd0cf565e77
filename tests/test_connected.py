"""Connected parts of a mask: which pixels are in one part, and how parts are numbered."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fashionclip.images.connected import connected_parts


def flooded(mask):
    """The parts by a search from each pixel, row by row."""
    parts, n = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if parts[start]:
            continue
        n += 1
        waiting = [start]
        while waiting:
            y, x = waiting.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and not parts[y, x]:
                parts[y, x] = n
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return parts


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_parts_are_those_of_a_search(mask):
    assert (connected_parts(mask) == flooded(mask)).all()


def test_a_part_that_winds_through_the_whole_mask_is_one():
    mask = np.zeros((63, 40), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    assert (connected_parts(mask) == mask).all()
    assert (connected_parts(mask.T) == mask.T).all()
    mask[30, 20] = False
    assert connected_parts(mask).max() == 2


def test_corners_do_not_connect():
    assert connected_parts(np.eye(3, dtype=bool)).tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 3]]
