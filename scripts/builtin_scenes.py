"""Products of white pages, laid onto the floors, beds and carpets of the photographs.

Photographs are few, and a small model learns them by heart. A product that is cut out, laid on the
corner of a photograph, turned, lit and a little blurred is one more that nobody had to take
(Dwibedi et al. 2017, "Cut, Paste and Learn").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from fashionclip.images.decode import open_image

SIDES_PX = ((192, 256), (256, 192), (224, 224))
CORNERS = (0.12, 0.26)  # of the photograph's sides
LARGER = (1.5, 3.0)  # than it was, the corner is shown
WHITE = 244  # a pixel all of whose channels are above may be page
TURN_DEGREES = 14.0
SPANS = (0.7, 1.05)  # the product's size to the largest that fits
SHADOWS = (0.1, 0.45)  # of the light, at the darkest
SHADOW_PX, SHADOW_BLURS_PX = 5, (2.0, 8.0)
DIMMED = (0.65, 1.0)  # a page's product is brighter than a room's
LIGHTS, WARMTH = (0.8, 1.1), 0.06
SLOPE = 0.25  # lamps and windows light one side more
BLURS_PX = (0.0, 0.8)


@dataclass(frozen=True)
class Scene:
    """What a product is laid on, and the chance that decides the rest."""

    ground: Path
    """The photograph that lends a corner."""
    seed: int


def draw_scenes(photographs: Sequence[Path], n: int, *, seed: int) -> list[Scene]:
    """Scenes at random, each on the ground of one photograph."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(photographs), size=n)
    return [Scene(photographs[i], int(rng.integers(2**31))) for i in chosen]


def lay(product: Image.Image, scene: Scene) -> Image.Image:
    """Cut the product out of its white page and lay it into the scene; the same one every time."""
    rng = np.random.default_rng(scene.seed)
    size = SIDES_PX[int(rng.integers(len(SIDES_PX)))]
    ground = _ground(open_image(scene.ground.read_bytes()), size, rng)
    product, mask = _placed(_cut_out(product), size, rng)
    shadow = Image.new("L", size)
    shadow.paste(mask, tuple(int(d) for d in rng.integers(-SHADOW_PX, SHADOW_PX + 1, 2)))
    shadow = shadow.filter(ImageFilter.GaussianBlur(rng.uniform(*SHADOW_BLURS_PX)))
    lit = _numbers(ground) * (1 - rng.uniform(*SHADOWS) * _numbers(shadow)[:, :, None] / 255)
    opaque = _numbers(mask)[:, :, None] / 255
    pixels = lit * (1 - opaque) + _numbers(product) * rng.uniform(*DIMMED) * opaque
    pixels = (pixels * _light(size, rng)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(*BLURS_PX)))


def _ground(
    photograph: Image.Image, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A corner of the photograph, mirrored until it fills the scene."""
    share = rng.uniform(*CORNERS)
    width, height = (max(8, round(side * share)) for side in photograph.size)
    left = int(rng.integers(2)) * (photograph.width - width)
    top = int(rng.integers(2)) * (photograph.height - height)
    corner = photograph.crop((left, top, left + width, top + height))
    larger = rng.uniform(*LARGER)
    corner = corner.resize([round(s * larger) for s in corner.size], Image.Resampling.BICUBIC)
    tile = np.asarray(corner)
    missing = [max(0, side - have) for side, have in zip(size[::-1], tile.shape[:2], strict=True)]
    filled = np.pad(tile, [*((0, n) for n in missing), (0, 0)], mode="symmetric")
    return Image.fromarray(filled[: size[1], : size[0]])


def _cut_out(product: Image.Image) -> Image.Image:
    """The product without the white that reaches the page's edge."""
    pale = np.asarray(product).min(2) > WHITE
    regions, _ = ndimage.label(np.pad(pale, 1, constant_values=True))
    solid = (regions != regions[0, 0])[1:-1, 1:-1]
    solid = ndimage.binary_erosion(ndimage.binary_opening(solid), border_value=1)
    alpha = Image.fromarray((solid * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    cut = product.copy()
    cut.putalpha(alpha)
    return cut


def _placed(
    cut: Image.Image, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """The product turned, scaled and moved in an empty scene, and where it is."""
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    cut = cut.rotate(rng.normal(0, TURN_DEGREES), Image.Resampling.BICUBIC, expand=True)
    cut = cut.crop(cut.getbbox())
    scale = rng.uniform(*SPANS) * min(size[0] / cut.width, size[1] / cut.height)
    cut = cut.resize([max(1, round(side * scale)) for side in cut.size], Image.Resampling.BILINEAR)
    free = [have - side for have, side in zip(size, cut.size, strict=True)]
    at = tuple(int(rng.integers(min(0, room), max(0, room) + 1)) for room in free)
    placed, mask = Image.new("RGB", size), Image.new("L", size)
    placed.paste(cut.convert("RGB"), at)
    mask.paste(cut.getchannel("A"), at)
    return placed, mask


def _light(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """How bright each pixel is lit: (height, width, 3)."""
    warmth = rng.normal(0, WARMTH)
    light = rng.uniform(*LIGHTS) * np.array([1 + warmth, 1, 1 - warmth])
    slope = rng.uniform(-SLOPE, SLOPE, 2)
    across = np.linspace(-1, 1, size[0])[None, :, None]
    down = np.linspace(-1, 1, size[1])[:, None, None]
    return light * (1 + slope[0] * across + slope[1] * down)


def _numbers(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float32)
