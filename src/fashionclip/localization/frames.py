"""Frames: the squares of an image that are encoded, in the image's own pixels.

The whole image is one frame. A checkpoint that stretches its images has the image's rectangle as
its frame. Any other has the square around the image, filled up with its background colour: where a
checkpoint was trained on middle squares (``crop``), the frame still covers what those cut off.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from fashionclip.errors import ImageError
from fashionclip.images.decode import Preprocess, background_color
from fashionclip.localization.boxes import MIN_SHARE

MAX_ASPECT = 6
"""Longer images would be thinner than a patch of their frame."""
LOOKED_AT_PX = 256
MAX_NOISE = 4
"""Of a channel's 256 levels: what a scan or the JPEG of an empty page differs by."""
STRIDE = 0.5
"""Step between windows, at most, as a share of their side."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle in pixels of the image; it may lie partly outside."""

    left: float
    top: float
    width: float
    height: float


def has_one_color(image: Image.Image) -> bool:
    """Whether all pixels of an RGB image are the same, but for noise and specks."""
    scale = min(1.0, LOOKED_AT_PX / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(small, np.int16).reshape(-1, 3)
    is_other = (np.abs(pixels - np.median(pixels, axis=0)) > MAX_NOISE).any(axis=1)
    return bool(is_other.mean() < MIN_SHARE)


def check_image(image: Image.Image) -> None:
    """Refuse an image in which nothing can have a place.

    Raises:
        ImageError: it has one colour, or is too long.
    """
    width, height = image.size
    if has_one_color(image):
        message = (
            f"the image ({width} x {height}) has one colour, so nothing can be located in it; "
            "pass a photograph"
        )
        raise ImageError(message)
    if max(width, height) > MAX_ASPECT * min(width, height):
        message = (
            f"the image is {width} x {height}, too long to locate anything in it; cut it so that "
            f"its long side is at most {MAX_ASPECT} times its short side"
        )
        raise ImageError(message)


def whole_frame(size: tuple[int, int], pre: Preprocess) -> Frame:
    """The frame around a whole image.

    Args:
        size: width and height of the image.
        pre: how the checkpoint's images are prepared.
    """
    width, height = map(float, size)
    if pre.fit == "stretch":
        return Frame(0.0, 0.0, width, height)
    side = max(width, height)
    return Frame((width - side) / 2, (height - side) / 2, side, side)


def windows_of(size: tuple[int, int], pre: Preprocess, zoom: int) -> list[Frame]:
    """Overlapping windows that cover an image, each ``zoom`` times smaller than its whole frame."""
    whole = whole_frame(size, pre)
    width, height = whole.width / zoom, whole.height / zoom
    return [
        Frame(left, top, width, height)
        for top in starts(size[1], height, STRIDE)
        for left in starts(size[0], width, STRIDE)
    ]


def starts(length: int, side: float, stride: float) -> list[float]:
    """Where windows begin that cover an axis evenly; one in the middle if it covers the axis.

    Args:
        length: of the axis.
        side: of a window along it.
        stride: from one window to the next, at most, as a share of the side.
    """
    if length <= side:
        return [(length - side) / 2]
    count = int(np.ceil((length - side) / (stride * side) - 1e-9)) + 1
    return [float(start) for start in np.linspace(0, length - side, count)]


def cut(image: Image.Image, frames: list[Frame], pre: Preprocess) -> UInt8[np.ndarray, "n h w 3"]:
    """The pixels of frames of one size, as the image tower takes them.

    The image is resized once, so frames begin at whole pixels of what the tower sees. What is
    outside the image has its background colour.
    """
    size, resample = pre.size_px, Image.Resampling[pre.resample.upper()]
    x_scale, y_scale = size / frames[0].width, size / frames[0].height
    wide, high = max(1, round(image.width * x_scale)), max(1, round(image.height * y_scale))
    scaled = np.asarray(image.resize((wide, high), resample))
    found = np.empty((len(frames), size, size, 3), np.uint8)
    found[:] = background_color(Image.fromarray(scaled))
    for pixels, frame in zip(found, frames, strict=True):
        left, top = round(frame.left * x_scale), round(frame.top * y_scale)
        part = scaled[max(0, top) : top + size, max(0, left) : left + size]
        down, right = max(0, -top), max(0, -left)
        pixels[down : down + part.shape[0], right : right + part.shape[1]] = part
    return found


def spread(
    cells: Float[np.ndarray, "n row column value"],
    frames: list[Frame],
    size: tuple[int, int],
    raster: tuple[int, int],
) -> Float[np.ndarray, "h w value"]:
    """Values of the cells of frames on a raster over the image, by bilinear interpolation.

    Where frames overlap, it is their mean.

    Args:
        cells: of each frame, a grid of values.
        frames: they cover the image.
        size: width and height of the image in pixels.
        raster: width and height of the raster, which covers the image.
    """
    total = np.zeros((raster[1], raster[0], cells.shape[3]), np.float32)
    count = np.zeros((raster[1], raster[0], 1), np.float32)
    for grid, frame in zip(cells, frames, strict=True):
        rows = _weights(raster[1], size[1], frame.top, frame.height, grid.shape[0])
        columns = _weights(raster[0], size[0], frame.left, frame.width, grid.shape[1])
        down = (rows @ grid.reshape(len(grid), -1)).reshape(len(rows), *grid.shape[1:])
        total += columns @ down
        count += rows.sum(axis=1)[:, None, None] * columns.sum(axis=1)[:, None]
    return np.asarray(total / np.maximum(count, 1e-6))


def _weights(n: int, length: int, start: float, side: float, n_cells: int) -> np.ndarray:
    """Share of each cell in each of n points along an axis; none outside the frame."""
    share = ((np.arange(n) + 0.5) / n * length - start) / side
    place = np.clip(share * n_cells - 0.5, 0, n_cells - 1)
    low = np.minimum(place.astype(int), n_cells - 1)
    high = np.minimum(low + 1, n_cells - 1)
    weights = np.zeros((n, n_cells), np.float32)
    points = np.arange(n)
    np.add.at(weights, (points, low), 1 - (place - low))
    np.add.at(weights, (points, high), place - low)
    weights[(share < 0) | (share >= 1)] = 0
    return weights
