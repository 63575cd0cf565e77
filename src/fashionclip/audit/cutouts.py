"""Products cut out of even grounds, and placed on other grounds, moved and shrunk.

A ground is even where nine tenths of the picture's border are near the border's median colour. The
product is what is not connected to the border by pixels near that colour, so that white trousers
on a white page keep what lies inside them. Edges are softened by a blur of a pixel.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from fashionclip.images.connected import connected_parts
from fashionclip.images.decode import background_color

TOLERANCE = 14
"""Largest difference of a channel, of 255, from the ground's colour."""
MIN_EVEN = 0.9
"""Share of the border that has to be near the ground's colour."""
PRODUCT_SHARES = (0.03, 0.9)
"""Least and greatest share of a picture that is taken for a product."""
BLUR_PX = 0.7
WHITE = "white"
_CELL_PX = 24

Ground = Callable[[int, int], np.ndarray]
"""Width and height in pixels to ``(h, w, 3)`` uint8."""


def _plain(red: int, green: int, blue: int) -> Ground:
    return lambda width, height: np.full((height, width, 3), (red, green, blue), np.uint8)


def _stripes(width: int, height: int) -> np.ndarray:
    is_light = (np.arange(width) // _CELL_PX) % 2 == 0
    row = np.where(is_light[:, None], (236, 226, 208), (168, 140, 112))
    return np.tile(row.astype(np.uint8), (height, 1, 1))


def _checks(width: int, height: int) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    is_light = ((x // _CELL_PX) + (y // _CELL_PX)) % 2 == 0
    return np.asarray(np.where(is_light[..., None], (230, 230, 226), (96, 112, 120)), np.uint8)


def _planks(width: int, height: int) -> np.ndarray:
    """Boards of wood: bands with a grain, and a dark line between them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    board = y // (2 * _CELL_PX)
    tone = rng.uniform(-18, 18, int(board.max()) + 1)[board]
    grain = 9 * np.sin(y * 0.9 + 3 * np.sin(x / 37.0 + board)) + rng.normal(0, 3, (height, width))
    line = np.where(y % (2 * _CELL_PX) < 2, -55, 0)
    wood = np.array([164, 120, 80]) + (tone + grain + line)[..., None]
    return np.asarray(wood.clip(0, 255), np.uint8)


GROUNDS: Mapping[str, Ground] = MappingProxyType(
    {
        WHITE: _plain(255, 255, 255),
        "grey": _plain(128, 128, 128),
        "black": _plain(12, 12, 12),
        "red": _plain(200, 40, 44),
        "blue": _plain(44, 86, 168),
        "green": _plain(70, 130, 76),
        "stripes": _stripes,
        "checks": _checks,
        "wood": _planks,
    }
)
"""Grounds by name; the first is what all others are compared with."""
PLACES: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        f"{where} at {round(100 * scale)} %": (scale, x, y)
        for scale in (0.7, 0.5, 0.3)
        for where, x, y in (
            ("centred", 0.5, 0.5),
            ("top left", 0.0, 0.0),
            ("bottom right", 1.0, 1.0),
        )
    }
)
"""The product's size as a share of its own, and its place in what is left of the picture: 0 is
left or top, 1 right or bottom."""


def cut_out(image: Image.Image) -> Image.Image | None:
    """The product of an upright RGB picture as RGBA of the same size; None on no even ground."""
    ground = np.array(background_color(image), np.int16)
    near = (np.abs(np.asarray(image, np.int16) - ground) <= TOLERANCE).all(axis=2)
    border = np.concatenate([near[0], near[-1], near[:, 0], near[:, -1]])
    if border.mean() < MIN_EVEN:
        return None
    product = ~connected_to_border(near)
    if not PRODUCT_SHARES[0] <= product.mean() <= PRODUCT_SHARES[1]:
        return None
    alpha = Image.fromarray((product * 255).astype(np.uint8))
    cut = image.copy()
    cut.putalpha(alpha.filter(ImageFilter.GaussianBlur(BLUR_PX)))
    return cut


def connected_to_border(near: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The marked pixels that marked pixels connect to the border, by their sides."""
    parts = connected_parts(near)
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return np.asarray(near & np.isin(parts, border))


@lru_cache(64)
def _ground(name: str, width: int, height: int) -> Image.Image:
    return Image.fromarray(GROUNDS[name](width, height))


def on_ground(cut: Image.Image, ground: str) -> UInt8[np.ndarray, "h w 3"]:
    """A cut-out product on one of ``GROUNDS``, where it was in its picture."""
    canvas = _ground(ground, *cut.size).copy()
    canvas.paste(cut, (0, 0), cut)
    return np.asarray(canvas)


def at_place(cut: Image.Image, place: str) -> UInt8[np.ndarray, "h w 3"]:
    """A cut-out product on white, shrunk and moved as one of ``PLACES`` says."""
    scale, x, y = PLACES[place]
    product = cut.crop(cut.getchannel("A").getbbox())
    size = [max(1, round(side * scale)) for side in product.size]
    small = product.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    canvas = _ground(WHITE, *cut.size).copy()
    corner = (round(x * (cut.width - small.width)), round(y * (cut.height - small.height)))
    canvas.paste(small, corner, small)
    return np.asarray(canvas)
