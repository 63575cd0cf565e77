"""The training pictures in memory, and what is done to them before the model sees them.

Pictures are moved, relit, greyed; some products are cut out and shrunk to a few grey pixels, as
benchmarks and thumbnails show them.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fashionclip.images.decode import CLIP_MEAN, CLIP_STD

SIZE_PX, PATCH_PX = 112, 16
GRID = SIZE_PX // PATCH_PX  # patches of a side
STORED_PX = 128  # pictures are kept a little larger than the model takes, for crops
TINY_PX, TINY_SHARE = 32, 0.12
TINY_MARGINS = (1.0, 1.3)  # the picture's side to the product's
TINY_NEGATIVES = 0.25  # of the tiny ones
PALE = 24  # a pixel that differs by less from the ground belongs to it
MIX_SHARE = 0.5  # of the photographs
UNEVEN_SHARE = 0.1  # of the border's pixels that may differ, for a ground to be even


class Pixels:
    """The stored pictures of all sources behind one row of numbers."""

    def __init__(self, sources: Sequence[np.ndarray]) -> None:
        """Keep the sources; nothing is copied."""
        self._sources = sources
        self._starts = np.cumsum([0, *(len(s) for s in sources)])

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """The pictures of some rows: uint8 (n, 3, h, w)."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        found = [
            self._sources[s][row - self._starts[s]] for s, row in zip(which, rows, strict=True)
        ]
        return torch.as_tensor(np.stack(found)).permute(0, 3, 1, 2)

    def products(self) -> Tensor:
        """The smallest square around each product that lies on an even ground.

        Returns:
            float32 (n, 3): the middle's x and y in -1...1, half of the side; NaN for the others.
        """
        found = [_product(one) for source in self._sources for one in source]
        return torch.tensor(found, dtype=torch.float32)


def augment(pixels: Tensor, products: Tensor, *, clean: bool) -> tuple[Tensor, Tensor]:
    """Crop, turn, flip, relight; sometimes grey, coarse or negative; some products tiny and grey.

    Returns:
        Normalised float, and how each was moved: (n, 2, 3).
    """
    n = len(pixels)
    x = pixels.float() / 255
    low = 0.93 if clean else 0.75
    scale = torch.empty(n).uniform_(low, 1.05)
    shift = (torch.rand(n, 2) * 2 - 1) * (1.05 - scale)[:, None]
    tiny = (torch.rand(n) < TINY_SHARE) & ~products[:, 0].isnan()
    scale[tiny] = products[tiny, 2] * torch.empty(int(tiny.sum())).uniform_(*TINY_MARGINS)
    shift[tiny] = products[tiny, :2]
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = scale * flip * torch.empty(n).uniform_(0.95, 1.05)
    affine[:, 1, 1] = scale
    affine[:, :, 2] = shift
    turn = torch.randn(n) * (0.01 if clean else 0.05)
    affine[:, 0, 1], affine[:, 1, 0] = turn, -turn
    grid = F.affine_grid(affine, [n, 3, SIZE_PX, SIZE_PX], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    light = 0.06 if clean else 0.2
    x = x * torch.empty(n, 1, 1, 1).uniform_(1 - light, 1 + light)
    rare = 0.03 if clean else 0.1
    grey = tiny | (torch.rand(n) < rare)
    x[grey] = x[grey].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    coarse = tiny | (torch.rand(n) < rare)
    if coarse.any():
        # shops and benchmarks shrink pictures both with and without smoothing
        smooth = bool(torch.rand(()) < 0.5)
        small = F.interpolate(x[coarse], TINY_PX, mode="bilinear", antialias=smooth)
        x[coarse] = F.interpolate(small, SIZE_PX, mode="bicubic")
    negative = torch.rand(n) < torch.where(tiny, TINY_NEGATIVES, rare / 2)
    x[negative] = 1 - x[negative]
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return (x.clamp(0, 1) - mean) / std, affine


def mix(x: Tensor, may: Tensor) -> tuple[Tensor, Tensor]:
    """Replace a rectangle of patches by another picture's (Yun et al. 2019), in some pictures.

    Args:
        x: (n, 3, 112, 112).
        may: (n,) bool, the pictures that may be mixed; each with another of them.

    Returns:
        The pictures, and whose each of their patches is: rows of ``x``, (n, 49).
    """
    n = len(x)
    source = torch.arange(n)[:, None, None].repeat(1, GRID, GRID)
    rows = torch.nonzero(may)[:, 0]
    for row, other in zip(rows.tolist(), rows[torch.randperm(len(rows))].tolist(), strict=True):
        if torch.rand(()) < MIX_SHARE:
            height, width = torch.randint(2, 6, (2,)).tolist()
            top, left = (int(torch.randint(0, GRID - side + 1, ())) for side in (height, width))
            source[row, top : top + height, left : left + width] = other
    down, across = torch.arange(GRID)[:, None], torch.arange(GRID)[None]
    patches = x.view(n, 3, GRID, PATCH_PX, GRID, PATCH_PX).permute(0, 2, 4, 1, 3, 5)
    mixed = patches[source, down, across].permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
    return mixed, source.flatten(1)


def _product(pixels: np.ndarray) -> tuple[float, float, float]:
    pixels = pixels[::2, ::2]
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)
    ground = np.median(edge, axis=0)
    is_product = np.abs(pixels - ground).max(2) > PALE
    is_even = (np.abs(edge - ground).max(1) > PALE).mean() <= UNEVEN_SHARE
    if not is_even or not is_product.any():
        return np.nan, np.nan, np.nan
    spans = [np.flatnonzero(is_product.any(axis))[[0, -1]] + (0, 1) for axis in (0, 1)]
    (left, right), (top, bottom) = (2 * span / len(pixels) - 1 for span in spans)
    return (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
