"""Metrics of maps against masks: by hand, by their definition, and what chance gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fashionclip.metrics.maps import auc, box_iou, iou, mask_box, pixel_auc, pointing

HEATS = arrays(np.float32, (4, 5), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
MASKS = arrays(np.bool_, (4, 5))
BOXES = st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(10, 20)] * 2).map(np.array)


@given(heat=HEATS, mask=MASKS)
def test_auc_is_the_share_of_pairs_in_the_right_order(heat, mask):
    inside, outside = heat[mask], heat[~mask]
    found = pixel_auc(heat, mask)
    if not len(inside) or not len(outside):
        assert np.isnan(found)
        return
    gaps = inside[:, None] - outside
    assert found == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    assert auc(-heat.reshape(-1), mask.reshape(-1)) == pytest.approx(1 - found)


@given(mask=MASKS)
def test_a_map_of_one_value_points_by_chance(mask):
    assert pointing(np.full((4, 5), 0.3, np.float32), mask) == pytest.approx(mask.mean())


def test_pointing_is_where_the_highest_pixel_lies():
    heat = np.zeros((3, 3), np.float32)
    heat[1, 2] = 0.7
    mask = np.zeros((3, 3), bool)
    mask[1, 2] = True
    assert pointing(heat, mask) == 1
    assert pointing(heat, ~mask) == 0


@given(a=MASKS, b=MASKS)
def test_iou_is_that_of_sets_of_pixels(a, b):
    of_a, of_b = ({*zip(*np.nonzero(mask), strict=True)} for mask in (a, b))
    assert iou(a, b) == pytest.approx(len(of_a & of_b) / max(1, len(of_a | of_b)))


@given(a=BOXES, b=BOXES)
def test_iou_of_boxes_is_that_of_their_pixels(a, b):
    masks = np.zeros((2, 20, 20), bool)
    for mask, box in zip(masks, (a, b), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = True
    assert box_iou(a, b) == pytest.approx(iou(*masks))
    np.testing.assert_array_equal(mask_box(masks[0]), a)


def test_boxes_apart_have_nothing_in_common():
    assert box_iou(np.array([0, 0, 2, 2]), np.array([2, 0, 4, 2])) == 0.0
    with pytest.raises(ValueError, match="no pixel"):
        mask_box(np.zeros((2, 2), bool))
