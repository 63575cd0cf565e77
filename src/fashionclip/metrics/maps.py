"""Metrics of maps and boxes against masks: pointing, AUC over pixels, IoU."""

import numpy as np
from jaxtyping import Bool, Float, Num


def pointing(heat: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    """Share of a map's highest pixels that lie in the mask: 1 or 0 unless several are equal.

    A map of one value gives the mask's share of the image, which is chance. No tolerance is added
    around the mask, other than in Zhang et al. 2016 (15 pixels).
    """
    return float(mask[heat == heat.max()].mean())


def pixel_auc(heat: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    """Probability that a pixel in the mask is higher than one outside, ties counting half.

    NaN where the mask has no pixel, or all of them. Chance is 0.5.

    Source: Mann & Whitney 1947, whose U over all pairs it is.
    """
    return auc(heat.reshape(-1), mask.reshape(-1))


def auc(scores: Float[np.ndarray, " n"], is_positive: Bool[np.ndarray, " n"]) -> float:
    """Probability that a positive scores higher than a negative; NaN where one kind is missing."""
    n_positive = int(is_positive.sum())
    n_negative = len(scores) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, groups, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks_of_groups = np.cumsum(counts) - (counts - 1) / 2  # equal scores share their mean rank
    ranks = ranks_of_groups[groups.reshape(-1)][is_positive].sum()
    return float((ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """Common pixels over all pixels of two masks, in 0…1; 0 where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def box_iou(a: Num[np.ndarray, "4"], b: Num[np.ndarray, "4"]) -> float:
    """IoU of two rectangles ``(left, top, right, bottom)``, right and bottom exclusive."""
    left, top = np.maximum(a[:2], b[:2])
    right, bottom = np.minimum(a[2:], b[2:])
    common = float(max(0, right - left) * max(0, bottom - top))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return common / (sum(areas) - common) if common else 0.0


def mask_box(mask: Bool[np.ndarray, "h w"]) -> Num[np.ndarray, "4"]:
    """The rectangle around a mask.

    Raises:
        ValueError: the mask has no pixel.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        message = "the mask has no pixel, so there is no rectangle around it"
        raise ValueError(message)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
