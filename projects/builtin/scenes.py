"""Products cut out of white pages and pasted onto the backgrounds of photographs.

The method is that of Dwibedi et al. 2017, "Cut, Paste and Learn": few photographs become many
training images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from fashionclip.images.decode import open_image

SIZES_PX = ((192, 256), (256, 192), (224, 224))
CORNER_RATIOS = (0.12, 0.26)
"""Range of a corner's sides over the photograph's."""
CORNER_ZOOMS = (1.5, 3.0)
MIN_WHITE = 244
"""A pixel belongs to the page if all its channels are above this."""
ROTATION_DEGREES = 14.0
"""Standard deviation."""
PRODUCT_RATIOS = (0.7, 1.05)
"""Range of the product's size over the largest that fits."""
SHADOW_STRENGTHS = (0.1, 0.45)
SHADOW_OFFSET_PX, SHADOW_BLURS_PX = 5, (2.0, 8.0)
PRODUCT_BRIGHTNESS = (0.65, 1.0)
"""A product on a page is brighter than one in a room."""
BRIGHTNESS, WARMTH = (0.8, 1.1), 0.06
MAX_GRADIENT = 0.25
"""Of the brightness, from one side of the scene to the other."""
BLURS_PX = (0.0, 0.8)


@dataclass(frozen=True)
class Scene:
    """A background, and the seed of everything else in the scene."""

    background: Path
    """The photograph whose corner is used."""
    seed: int


def sample_scenes(photographs: Sequence[Path], n: int, *, seed: int) -> list[Scene]:
    """Random scenes, each with the background of one photograph."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(photographs), size=n)
    return [Scene(photographs[i], int(rng.integers(2**31))) for i in chosen]


def paste(product: Image.Image, scene: Scene) -> Image.Image:
    """Cut a product out of its white page and paste it into a scene; the same for a seed."""
    rng = np.random.default_rng(scene.seed)
    size = SIZES_PX[int(rng.integers(len(SIZES_PX)))]
    background = _background(open_image(scene.background.read_bytes()), size, rng)
    product, mask = _place(_cut_out(product), size, rng)
    shadow = Image.new("L", size)
    offset = rng.integers(-SHADOW_OFFSET_PX, SHADOW_OFFSET_PX + 1, 2)
    shadow.paste(mask, tuple(int(d) for d in offset))
    shadow = shadow.filter(ImageFilter.GaussianBlur(rng.uniform(*SHADOW_BLURS_PX)))
    strength = rng.uniform(*SHADOW_STRENGTHS)
    shaded = _floats(background) * (1 - strength * _floats(shadow)[:, :, None] / 255)
    alpha = _floats(mask)[:, :, None] / 255
    pixels = shaded * (1 - alpha) + _floats(product) * rng.uniform(*PRODUCT_BRIGHTNESS) * alpha
    pixels = (pixels * _light(size, rng)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(*BLURS_PX)))


def _background(
    photograph: Image.Image, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A corner of a photograph, mirrored until it fills the scene."""
    ratio = rng.uniform(*CORNER_RATIOS)
    width, height = (max(8, round(side * ratio)) for side in photograph.size)
    left = int(rng.integers(2)) * (photograph.width - width)
    top = int(rng.integers(2)) * (photograph.height - height)
    corner = photograph.crop((left, top, left + width, top + height))
    zoom = rng.uniform(*CORNER_ZOOMS)
    corner = corner.resize([round(s * zoom) for s in corner.size], Image.Resampling.BICUBIC)
    tile = np.asarray(corner)
    missing = [max(0, side - have) for side, have in zip(size[::-1], tile.shape[:2], strict=True)]
    filled = np.pad(tile, [*((0, n) for n in missing), (0, 0)], mode="symmetric")
    return Image.fromarray(filled[: size[1], : size[0]])


def solid_mask(product: Image.Image) -> np.ndarray:
    """The pixels that are not of the white page: ``(height, width)`` bool.

    White that is not connected to the page's edge belongs to the product.
    """
    is_white = np.asarray(product).min(2) > MIN_WHITE
    regions, _ = ndimage.label(np.pad(is_white, 1, constant_values=True))
    solid = (regions != regions[0, 0])[1:-1, 1:-1]
    return np.asarray(ndimage.binary_erosion(ndimage.binary_opening(solid), border_value=1))


def _cut_out(product: Image.Image) -> Image.Image:
    """The product on a transparent page."""
    solid = solid_mask(product)
    if not solid.any():  # a blank page
        solid[:] = True
    alpha = Image.fromarray((solid * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    cut = product.copy()
    cut.putalpha(alpha)
    return cut


def _place(
    cut: Image.Image, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """The product rotated, scaled and moved in an empty scene, and its mask."""
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    cut = cut.rotate(rng.normal(0, ROTATION_DEGREES), Image.Resampling.BICUBIC, expand=True)
    cut = cut.crop(cut.getbbox())
    scale = rng.uniform(*PRODUCT_RATIOS) * min(size[0] / cut.width, size[1] / cut.height)
    cut = cut.resize([max(1, round(side * scale)) for side in cut.size], Image.Resampling.BILINEAR)
    free = [have - side for have, side in zip(size, cut.size, strict=True)]
    corner = tuple(int(rng.integers(min(0, room), max(0, room) + 1)) for room in free)
    placed, mask = Image.new("RGB", size), Image.new("L", size)
    placed.paste(cut.convert("RGB"), corner)
    mask.paste(cut.getchannel("A"), corner)
    return placed, mask


def _light(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Brightness of each pixel and channel: (height, width, 3)."""
    warmth = rng.normal(0, WARMTH)
    light = rng.uniform(*BRIGHTNESS) * np.array([1 + warmth, 1, 1 - warmth])
    gradient = rng.uniform(-MAX_GRADIENT, MAX_GRADIENT, 2)
    across = np.linspace(-1, 1, size[0])[None, :, None]
    down = np.linspace(-1, 1, size[1])[:, None, None]
    return light * (1 + gradient[0] * across + gradient[1] * down)


def _floats(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32)
